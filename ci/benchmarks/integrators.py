"""Integrators on an attention-sized model: what a prediction and its derivatives cost, and err.

The bundled example (3 regions, 360 scans, 16 microtime bins a scan) is predicted by

- ``"bilinear"``: SPM's expansion of the whole system about rest;
- ``"nonlinear"``: the default, an exact cascade and Taylor steps;
- ``monolithic RK4``: all 15 states together, one Runge-Kutta step a bin, what one would write
  first. Same equations as ``"nonlinear"``.

Value, value and gradient (of a fixed random projection of the prediction), and the Jacobian with
respect to all free parameters, with and without the XLA flag that the package sets, all in one
run. Errors are largest differences from an adaptive solver (SciPy's DOP853, relative tolerance
1e-10, stopped wherever an input changes or a scan is read), as fractions of the peak; that
solver's own error is its difference from a run at 1e-12.

    python ci/benchmarks/integrators.py
    python ci/benchmarks/integrators.py --quick
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import in_fresh_process, machine, median_cost, table, timed
from scipy.integrate import solve_ivp

import bayesdcm
from bayesdcm.integrate.grid import TimeGrid, time_grid
from bayesdcm.integrate.runge_kutta import runge_kutta
from bayesdcm.observe import bold_signal, haemodynamic_flow

Parameters = dict[str, jax.Array]
Prediction = Callable[[Parameters], jax.Array]
WITHOUT_FLAG = {"BAYESDCM_KEEP_XLA_FLAGS": "1", "XLA_FLAGS": ""}
PEAKS = (1.0, 2.5, 5.0)


def micro_grid(model: bayesdcm.TaskDCM, data: bayesdcm.BoldData) -> TimeGrid:
    """One step for every microtime bin."""
    grid = time_grid(
        data.inputs, data.input_dt, data.n_scans, data.slice_delays, max_step=data.input_dt
    )
    return jax.tree.map(jnp.asarray, grid)


def full_flow(model: bayesdcm.TaskDCM, p: Parameters) -> Callable:
    """Flow of all states of a region: activity, s, ln f, ln v, ln q."""

    def flow(state: jax.Array, u: jax.Array) -> jax.Array:
        activity = model.neural.flow(state[:, :1], u, p)
        return jnp.concatenate([activity, haemodynamic_flow(state[:, 0], state[:, 1:], p)], axis=1)

    return flow


def predictions(model: bayesdcm.TaskDCM, data: bayesdcm.BoldData) -> dict[str, Prediction]:
    grid = micro_grid(model, data)
    regions = np.arange(data.n_regions)

    def monolithic(p: Parameters) -> jax.Array:
        states = runge_kutta(full_flow(model, p), jnp.zeros((data.n_regions, 5)), grid)
        read = jnp.exp(states[grid.sample, regions, 3:])
        return bold_signal(read[..., 0], read[..., 1], p["epsilon"])

    def packaged(integrator: str) -> Prediction:
        chosen = dataclasses.replace(model, integrator=integrator)
        return lambda p: chosen.predict(p, data)

    return {
        "bilinear": packaged("bilinear"),
        "nonlinear": packaged("nonlinear"),
        "monolithic RK4": monolithic,
    }


def flat(model: bayesdcm.TaskDCM, parameters: Parameters) -> tuple[jax.Array, Callable]:
    """Free parameters as a vector, and the way back to full arrays."""
    free = {prior.name: np.flatnonzero(prior.free) for prior in model.priors}
    start = {prior.name: np.array(parameters[prior.name], float) for prior in model.priors}

    def full(vector: jax.Array) -> Parameters:
        parts = jnp.split(vector, np.cumsum([len(index) for index in free.values()])[:-1])
        return {
            name: jnp.asarray(start[name]).ravel().at[index].set(part).reshape(start[name].shape)
            for (name, index), part in zip(free.items(), parts, strict=True)
        }

    return jnp.concatenate([start[name].ravel()[index] for name, index in free.items()]), full


def measure_costs(repeats: int) -> list[dict[str, Any]]:
    example = bayesdcm.load_example("attention")
    vector, full = flat(example.model, example.parameters)
    shape = (example.data.n_scans, example.data.n_regions)
    weights = np.random.default_rng(0).normal(size=shape)
    rows = []
    for name, predict in predictions(example.model, example.data).items():

        def value(v: jax.Array, predict: Prediction = predict) -> jax.Array:
            return predict(full(v))

        def projected(v: jax.Array, value: Prediction = value) -> jax.Array:
            return (weights * value(v)).sum()

        row: dict[str, Any] = {"integrator": name}
        for what, function in (
            ("value", value),
            ("gradient", jax.value_and_grad(projected)),
            ("Jacobian", jax.jacfwd(value)),
        ):
            compiled = jax.jit(function)
            _, first = timed(lambda compiled=compiled: compiled(vector))
            calls = 3 if what == "Jacobian" else 10
            warm = median_cost(lambda compiled=compiled: compiled(vector), repeats, calls)
            row[f"{what} ms"] = 1e3 * warm.cpu
            row[f"{what} first s"] = first.cpu
        rows.append(row)
    return rows


def adaptive(
    model: bayesdcm.TaskDCM, data: bayesdcm.BoldData, p: Parameters, tolerance: float
) -> np.ndarray:
    """The prediction by an adaptive solver that stops wherever inputs change or a scan is read."""
    grid = micro_grid(model, data)
    bins = np.cumsum(np.concatenate([[0], np.asarray(grid.propagator_bins)[grid.step]]))
    read = bins[np.asarray(grid.sample)]
    inputs = np.asarray(data.inputs)
    changes = 1 + np.flatnonzero((inputs[1:] != inputs[:-1]).any(axis=1))
    stops = np.unique(np.concatenate([[0], changes[changes < read.max()], read.ravel()]))
    flow = full_flow(model, p)
    field = jax.jit(lambda x, u: flow(x.reshape(data.n_regions, 5), u).ravel())
    states = [np.zeros(data.n_regions * 5)]
    for start, stop in zip(stops[:-1], stops[1:], strict=True):
        found = solve_ivp(
            lambda _, x, u: np.asarray(field(x, u)),
            (start * data.input_dt, stop * data.input_dt), states[-1],
            method="DOP853", rtol=tolerance, atol=tolerance / 100, args=(inputs[start],),
        )  # fmt: skip
        states.append(found.y[:, -1])
    logarithms = np.stack(states).reshape(-1, data.n_regions, 5)
    at = logarithms[np.searchsorted(stops, read), np.arange(data.n_regions)]
    return np.asarray(bold_signal(np.exp(at[..., 3]), np.exp(at[..., 4]), p["epsilon"]))


def scaled_to(peak: float, predict: Prediction, parameters: Parameters) -> Parameters:
    """The parameters with C scaled so that the largest response is `peak` percent."""
    low, high = 0.0, 20.0
    for _ in range(30):
        factor = (low + high) / 2
        p = {**parameters, "C": factor * jnp.asarray(parameters["C"])}
        reached = float(jnp.abs(predict(p)).max())
        # Where the trajectory diverges the factor was too large, too.
        low, high = (factor, high) if reached < peak else (low, factor)
    return {**parameters, "C": low * jnp.asarray(parameters["C"])}


def measure_errors(peaks: tuple[float, ...]) -> list[dict[str, Any]]:
    example = bayesdcm.load_example("attention")
    names = [prior.name for prior in example.model.priors]
    parameters = {name: jnp.asarray(example.parameters[name], float) for name in names}
    predict = {k: jax.jit(f) for k, f in predictions(example.model, example.data).items()}
    rows = []
    for peak in peaks:
        p = scaled_to(peak, predict["monolithic RK4"], parameters)
        reference = adaptive(example.model, example.data, p, 1e-10)
        other = adaptive(example.model, example.data, p, 1e-12)
        largest = np.abs(reference).max()
        row = {"peak response %": float(largest)}
        for name, function in predict.items():
            row[name] = float(np.abs(np.asarray(function(p)) - reference).max() / largest)
        row["reference itself"] = float(np.abs(other - reference).max() / largest)
        rows.append(row)
    return rows


def child(what: str, repeats: int, quick: bool) -> list[dict[str, Any]]:
    return measure_errors(PEAKS[-1:] if quick else PEAKS) if what == "errors" else (
        measure_costs(repeats)
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="3 repeats, one strength of response")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.repeats, options.quick)))
        return
    arguments = ["--repeats", "3" if options.quick else str(options.repeats)]
    arguments += ["--quick"] if options.quick else []
    for title, environment in (("With the XLA flag", {}), ("Without it", WITHOUT_FLAG)):
        rows = in_fresh_process(__file__, ["costs", *arguments], environment)
        monolithic = rows[-1]
        for row in rows:
            row["gradient / RK4's"] = row["gradient ms"] / monolithic["gradient ms"]
            row["Jacobian / RK4's"] = row["Jacobian ms"] / monolithic["Jacobian ms"]
        print(f"{title}; CPU time\n\n{table(rows)}\n")
    rows = in_fresh_process(__file__, ["errors", *arguments])
    print(f"Largest error as a fraction of the peak\n\n{table(rows)}\n")
    print(machine())


if __name__ == "__main__":
    main()
