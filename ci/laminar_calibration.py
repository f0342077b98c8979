"""Calibrate the laminar column on dipoles of hnn-core's network at random settings of its drives.

    python ci/laminar_calibration.py simulate RUNS --number 400   # 20 CPU s a run, can be stopped
    python ci/laminar_calibration.py fit RUNS                     # writes the package's constants

``simulate`` needs the extra ``hnn``; it goes on where it was stopped.
A run is one trial with exact event times (no spread) of `jones_2009_model` with the parameters
N20 that hnn-core ships. Three quarters of the runs have the four drives of hnn-core's
somatosensory example, moved by up to 12 ms and more, their weights times 1/2 to 2, each present
or not; the others have one to four drives anywhere from 8 to 150 ms.

``fit`` finds the constants by Levenberg-Marquardt on dipoles of both layers smoothed by 20 ms and
on firing rates, with a ridge on the logarithm of each constant. The covariance of the error is of
dipoles that the fit did not see (`FOLDS`-fold cross-validation).
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm import DipoleData, Drive
from bayesdcm.data.drive import CELLS
from bayesdcm.data.hamming import hamming_weights, smoothed
from bayesdcm.neural import laminar_equations as equations
from bayesdcm.neural.laminar import LaminarColumn

SEED, FOLDS = 2026, 5
STEP, DURATION = 0.5, 170.0
TIMES = np.arange(STEP, DURATION + STEP / 2, STEP)
# Smoothed responses are compared every 2 ms; of dipoles this large, nAm, and rates, cells per ms.
EVERY, SIZE, RATE = 4, 0.003, 2.0
WEIGHTS = {"dipole": 1.0, "layers": 0.5, "rates": 0.2}
RANK = 40
# Least slope of firing, mV: with steeper ones responses depend on where in a step events come.
LEAST_SLOPE = 2.0
# Starts of the fit, and how far most are from the guess, in standard deviations of `GROUPS`.
STARTS, START_SD = 4, 0.3
# The drives of hnn-core's somatosensory example: location, ms, weights in uS by cell.
EXAMPLE = {
    "evprox1": ("proximal", 21.0, [0.0036, 0.0039, 0.0019, 0.002], [0.0029, 0.0005, 0.003, 0.0019]),
    "evdist1": ("distal", 32.0, [0.0043, 0.0032, 0.0, 0.0009], [0.0029, 0.0051, 0.0, 0.001]),
    "evdist2": ("distal", 84.0, [0.0041, 0.0019, 0.0, 0.0018], [0.0032, 0.0018, 0.0, 0.0017]),
    "evprox2": ("proximal", 134.0, [0.003, 0.0039, 0.004, 0.002], [0.001, 0.0005, 0.002, 0.002]),
}


def setting(number: int) -> list[Drive]:
    """Drives of a run, the same for a number whatever other runs there are."""
    rng = np.random.default_rng([SEED, number])
    example = list(EXAMPLE.values())
    means = np.array([entry[1] for entry in example])
    if rng.random() < 0.75:
        if rng.random() < 0.2:
            chosen = [rng.integers(4)]
        else:
            chosen = [k for k in range(4) if rng.random() < 0.75] or [rng.integers(4)]
        chosen = np.array(chosen)
        events = means[chosen] + rng.uniform(-12, 12, len(chosen))
        events = events + rng.normal(size=len(chosen)) * rng.uniform(0, 6)
    else:
        count = rng.integers(1, 5)
        chosen, events = rng.integers(0, 4, count), rng.uniform(8, 150, count)
    events = np.clip(events, 3, 160)
    order = np.argsort(events)
    chosen, events = chosen[order], events[order]
    factors = 2.0 ** rng.uniform(-1, 1, (len(chosen), 1, 2))
    # In half the runs the weights of single cells differ, too.
    factors = factors * np.exp(rng.choice([0, 0.25]) * rng.normal(size=(len(chosen), 4, 1)))
    drives = []
    for k, (event, factor) in enumerate(zip(events, factors, strict=True)):
        location, _, *weights = example[chosen[k]]
        ampa, nmda = (
            {
                cell: float(weight * scale)
                for cell, weight, scale in zip(CELLS, kind, factor[:, i], strict=True)
                if location == "proximal" or cell != "L5_basket"
            }
            for i, kind in enumerate(weights)
        )
        drives.append(Drive(f"drive{k + 1}", location, float(event), 0.0, ampa, nmda))
    return drives


def simulate(folder: Path, number: int) -> None:
    """Simulate the runs that a folder lacks, as many side by side as there are cores."""
    from bayesdcm import HnnSimulator

    folder.mkdir(parents=True, exist_ok=True)
    simulator = HnnSimulator(n_trials=1, duration=DURATION, progress=False)
    missing = [k for k in range(number) if not (folder / f"{k:04d}.npz").exists()]
    side = os.cpu_count() or 1
    for start in range(0, len(missing), side):
        some = missing[start : start + side]
        for k, response in zip(some, simulator.run_many([setting(k) for k in some]), strict=True):
            spikes = {f"spikes_{cell}": response.spikes[cell][0] for cell in CELLS}
            half_written = folder / f"{k:04d}.partial.npz"
            np.savez(half_written, **_by_steps(response.dipole), **spikes)
            os.replace(half_written, folder / f"{k:04d}.npz")
        print(f"{start + len(some)} of {len(missing)} runs", flush=True)


def _by_steps(dipole: DipoleData) -> dict[str, np.ndarray]:
    """Means of the layers over steps, nAm."""
    inside = round(STEP * 1e-3 * dipole.sampling_rate)
    return {
        name: 1e9 * values[: inside * len(TIMES)].reshape(-1, inside).mean(1)
        for name, values in dipole.layers.items()
    }


# Rows take samples to smoothed ones.
SMOOTHER = np.stack(
    [smoothed(row, hamming_weights(20.0, STEP)) for row in np.eye(len(TIMES))], axis=1
)[::EVERY]


class Runs:
    """Inputs of the column in each run, and what the network did.

    Attributes
    ----------
    inputs : (runs, times, 12), uS/ms
    layers : (runs, times, 2), nAm
    rates : (runs, times, 4), spikes of L2 pyramidal, L5 pyramidal, L2 and L5 basket cells per ms
    """

    def __init__(self, settings: list[list[Drive]], files: list[dict]) -> None:
        middles = jnp.asarray(1e-3 * (TIMES - STEP / 2))
        columns = [LaminarColumn(tuple(drives)) for drives in settings]
        self.inputs = jnp.stack([_inputs(column, middles) for column in columns])
        self.layers = jnp.asarray([[run["L2"], run["L5"]] for run in files]).transpose(0, 2, 1)
        cells = ("L2_pyramidal", "L5_pyramidal", "L2_basket", "L5_basket")
        spikes = np.array([[run[f"spikes_{cell}"] for cell in cells] for run in files])
        self.rates = jnp.asarray(np.repeat(spikes, round(1 / STEP), axis=2)).transpose(0, 2, 1)

    def __len__(self) -> int:
        return len(self.inputs)

    def taken(self, which: np.ndarray) -> Runs:
        """Some of the runs."""
        part = object.__new__(Runs)
        for name in ("inputs", "layers", "rates"):
            setattr(part, name, getattr(self, name)[which])
        return part

    @property
    def arrays(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Inputs, layers, rates."""
        return self.inputs, self.layers, self.rates


def _inputs(column: LaminarColumn, middles: jax.Array) -> jax.Array:
    means = {prior.name: prior.mean for prior in column.priors()}
    return column.input_series(middles, means, jnp.zeros(len(column.jittered)))


DEFAULTS = np.array([g.value for g in equations.GROUPS.values() for _ in g.entries])
SDS = np.array([g.sd for g in equations.GROUPS.values() for _ in g.entries])
LEAST = np.where(
    ["slope:" in name for name in equations.NAMES], np.log(LEAST_SLOPE / DEFAULTS) / SDS, -np.inf
)
CELLS_OF_RATES = np.array([100, 100, 35, 35])


def column_response(z: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Dipoles of the layers (times, 2), nAm, and rates (times, 4), of standardised constants."""
    constants = equations.constants_of(DEFAULTS * jnp.exp(SDS * z))
    start = equations.Parts.of(jnp.asarray(equations.rest()))

    def advance(x: equations.Parts, u: jax.Array) -> tuple[equations.Parts, jax.Array]:
        rate, target = equations.relaxation(x, u, constants)
        x = jax.tree.map(lambda at, to, r: to + (at - to) * jnp.exp(-STEP * r), x, target, rate)
        return x, x.voltage

    voltages = jax.lax.scan(advance, start, inputs)[1]
    # The network's dipoles are means over the half millisecond that ends at each time.
    voltages = (voltages + jnp.concatenate([start.voltage[None], voltages[:-1]])) / 2
    above = voltages - equations.LEAK
    return equations.layer_dipoles(above, constants), CELLS_OF_RATES * equations.firing(
        above, constants
    )


def _residual(z: jax.Array, inputs: jax.Array, layers: jax.Array, rates: jax.Array) -> jax.Array:
    predicted, firing = column_response(z, inputs)
    error = SMOOTHER @ (predicted - layers) / SIZE
    parts = (
        WEIGHTS["dipole"] * error.sum(1),
        WEIGHTS["layers"] * error.ravel(),
        WEIGHTS["rates"] * (SMOOTHER @ (firing - rates) / RATE).ravel(),
    )
    return jnp.concatenate(parts)


_residuals = jax.jit(jax.vmap(_residual, (None, 0, 0, 0)))


@jax.jit
def _normal_equations(z: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(*run: jax.Array) -> tuple[jax.Array, jax.Array]:
        residual = partial(_residual, inputs=run[0], layers=run[1], rates=run[2])
        jacobian = jax.jacfwd(residual)(z)
        return jacobian.T @ jacobian, jacobian.T @ residual(z)

    squares, products = jax.lax.map(lambda run: one(*run), arrays, batch_size=16)
    return squares.sum(0), products.sum(0)


def fitted(
    runs: Runs,
    z: np.ndarray,
    iterations: int = 60,
    ridge: float = 1.0,
    free: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Standardised constants that fit runs best, and the sum of squares there."""
    free = np.ones(len(z), bool) if free is None else free
    z = np.maximum(z, LEAST)

    def cost(z: np.ndarray) -> float:
        return float((_residuals(z, *runs.arrays) ** 2).sum() + ridge * z[free] @ z[free])

    damping, best = 1.0, cost(z)
    for _ in range(iterations):
        squares, products = (np.asarray(each) for each in _normal_equations(z, *runs.arrays))
        gradient = products + ridge * z
        before = best
        for _ in range(8):
            damped = np.diag(ridge + damping * np.maximum(np.diag(squares), 1e-3))
            step = np.zeros_like(z)
            step[free] = -np.linalg.solve((squares + damped)[np.ix_(free, free)], gradient[free])
            step *= min(1.0, 1.5 / np.abs(step).max())
            moved = np.maximum(z + step, LEAST)
            value = cost(moved)
            if np.isfinite(value) and value < best:
                z, best, damping = moved, value, max(damping / 5, 1e-6)
                break
            damping *= 4
        if before - best < 2e-4 * before:
            break
    return z, best


def explained(z: np.ndarray, runs: Runs) -> np.ndarray:
    """R2 of the smoothed dipole of each run."""
    predicted = jax.vmap(column_response, (None, 0))(z, runs.inputs)[0].sum(-1) @ SMOOTHER.T
    seen = np.asarray(runs.layers.sum(-1) @ SMOOTHER.T)
    error = ((seen - np.asarray(predicted)) ** 2).sum(1)
    return 1 - error / ((seen - seen.mean(1, keepdims=True)) ** 2).sum(1)


def calibrate(runs: Runs) -> np.ndarray:
    """Standardised constants: the best of `STARTS` fits.

    The first starts at the package's present constants, the second at the guess; from guesses
    M-currents are left out at first.
    """
    kinds = np.array([name.split(":")[0] for name in equations.NAMES])
    of_m = np.isin(kinds, ("M-current", "opening", "apical threshold", "apical slope"))
    rng, best, least = np.random.default_rng(SEED), None, np.inf
    for k in range(STARTS):
        if k == 0:
            z = np.log(equations.calibration().values / DEFAULTS) / SDS
        else:
            z = START_SD * rng.normal(size=len(kinds)) * (k > 1)
            z = np.where(kinds == "M-current", -4.0, z)
            z = np.where(of_m, 0.0, fitted(runs, z, iterations=30, free=~of_m)[0])
        z, cost = fitted(runs, z, iterations=100)
        print(f"start {k + 1}: sum of squares {cost:.0f}", flush=True)
        if cost < least:
            best, least = z, cost
    return best


def cross_validated(runs: Runs, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of dipoles that fits of the other folds did not see, nAm, (runs, times), and R2."""
    fold = np.random.default_rng(SEED).permutation(len(runs)) % FOLDS
    errors, shares = np.zeros((len(runs), len(TIMES))), np.zeros(len(runs))
    for k in range(FOLDS):
        others, left_out = runs.taken(fold != k), runs.taken(fold == k)
        other, _ = fitted(others, z, iterations=15)
        predicted = jax.vmap(column_response, (None, 0))(other, left_out.inputs)[0]
        errors[fold == k] = np.asarray((left_out.layers - predicted).sum(-1))
        shares[fold == k] = explained(other, left_out)
        print(f"fold {k + 1}: median R2 {np.median(shares[fold == k]):.3f}", flush=True)
    return errors, shares


def box_of(settings: list[list[Drive]]) -> dict:
    """Ranges of the drives' numbers."""
    drives = [drive for each in settings for drive in each]
    box: dict = {
        "drives": max(map(len, settings)),
        "time": [min(d.time for d in drives), max(d.time for d in drives)],
    }
    for location in ("proximal", "distal"):
        box[location] = {}
        for name in ("weights_ampa", "weights_nmda"):
            values = np.array([d.centre(name) for d in drives if d.location == location])
            box[location][name] = {
                cell: [float(f"{column.min():.2g}"), float(f"{column.max():.2g}")]
                for cell, column in zip(CELLS, values.T, strict=True)
                if column.any()
            }
    return box


def covariance_factor(errors: np.ndarray) -> np.ndarray:
    """Leading part of a factor of the covariance of errors every 2 ms, (times / 4, `RANK`)."""
    means = errors.reshape(len(errors), -1, EVERY).mean(-1)
    _, scale, rows = np.linalg.svd(means / np.sqrt(len(means)), full_matrices=False)
    return (scale[:RANK, None] * rows[:RANK]).T


def fit(folder: Path, target: Path) -> None:
    """Fit the constants to all runs of a folder, and write them."""
    paths = sorted(folder.glob("[0-9]*[0-9].npz"))
    settings = [setting(int(path.stem)) for path in paths]
    runs = Runs(settings, [dict(np.load(path)) for path in paths])
    print(f"{len(runs)} runs", flush=True)
    z = calibrate(runs)
    errors, shares = cross_validated(runs, z)
    print(f"R2 of single runs that were left out: median {np.median(shares):.3f}")
    smooth = np.asarray(runs.layers.sum(-1)) @ SMOOTHER.T
    values = DEFAULTS * np.exp(SDS * z)
    table = {
        "runs": len(runs),
        "constants": {
            name: float(f"{value:.6g}") for name, value in zip(equations.NAMES, values, strict=True)
        },
        "size": float(f"{np.sqrt((smooth**2).mean()):.4g}"),
        "box": box_of(settings),
        "error_times": TIMES.reshape(-1, EVERY).mean(1).tolist(),
        "error": [[float(f"{x:.3g}") for x in row] for row in covariance_factor(errors)],
    }
    target.write_text(json.dumps(table, indent=None, separators=(",", ":")) + "\n")
    print(f"wrote {target.name}")


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("simulate", "fit"):
        command = commands.add_parser(name)
        command.add_argument("runs", type=Path, help="folder of the runs")
    commands.choices["simulate"].add_argument("--number", type=int, default=400)
    target = Path(equations.__file__).with_name("laminar_constants.json")
    commands.choices["fit"].add_argument("--target", type=Path, default=target)
    options = parser.parse_args()
    if options.command == "simulate":
        simulate(options.runs, options.number)
    else:
        fit(options.runs, options.target)


if __name__ == "__main__":
    main()
