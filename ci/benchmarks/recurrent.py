"""Recurrent DCM: training, variational Laplace and NUTS on the published experiment.

    python ci/benchmarks/recurrent.py clean          errors without noise, from the published start
    python ci/benchmarks/recurrent.py noise [N]      errors at SNR 2 over N seeds, three methods
    python ci/benchmarks/recurrent.py coverage [N]   intervals of NUTS for truths from the prior
    python ci/benchmarks/recurrent.py speed          a gradient against a forward pass, 100 regions
    python ci/benchmarks/recurrent.py recorded FILE  a DCM_*.mat of SPM, three methods

Errors are relative: the Frobenius norm of the difference over that of the truth. The authors'
figures are those of their notebook, for data without noise and C = 0.4. CPU seconds are those of
the process, of all threads.
"""

import resource
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from measure import timed

import bayesdcm

AUTHORS = {"A": 0.123, "B": 0.081, "C": 0.107}
START = {
    "A": [[-0.8, 0.2, 0.0], [0.9, -0.8, 0.5], [0.0, 0.7, -0.8]],
    "B_free": [-0.55],
    "C": [[0.6], [0.0], [0.0]],
}
PRIORS = {"Laplace priors": 3.0, "normal priors": None}
EXAMPLE = bayesdcm.load_example("recurrent")


def model_of(sparsity: float | None) -> bayesdcm.RecurrentDCM:
    """The example's model with other priors of the connections."""
    return bayesdcm.RecurrentDCM(
        EXAMPLE.model.A,
        EXAMPLE.model.B,
        EXAMPLE.model.C,
        sparsity=sparsity,
        haemodynamic_penalty=np.inf,
    )


def simulated(model: Any, parameters: Mapping[str, Any], seed: int | None) -> bayesdcm.BoldData:
    """Data of the example's design; with a seed, with noise of half the sd of all responses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clean = model.simulate(parameters, EXAMPLE.data, seed=0)
        if seed is None:
            return clean
        precision = np.full(3, -2 * np.log(clean.signal.std() / 2))
        noisy = dict(parameters) | {"log_precision": precision}
        return model.simulate(noisy, EXAMPLE.data, seed=seed)


def published_start(model: Any, data: Any) -> pd.DataFrame:
    """Where the authors began, with the noise of all that is to be explained."""
    values = START | {"log_precision": -2 * np.log(data.signal.std(axis=0))}
    labels = model.labels(data)
    row = np.concatenate([np.ravel(values[site]) for site in labels])
    return pd.DataFrame([row], columns=[label for site in labels.values() for label in site])


def errors(fit: Any, truth: Mapping[str, Any]) -> dict[str, float]:
    """Relative errors of A, B and C."""
    means = fit.idata.posterior.mean(("chain", "draw"))
    return {
        k: float(np.linalg.norm(means[k].values - truth[k]) / np.linalg.norm(truth[k]))
        for k in "ABC"
    }


def inside(fit: Any, truth: Mapping[str, Any], model: Any) -> list[bool]:
    """Whether 90 % intervals hold the true connections."""
    hits: list[bool] = []
    for prior in model.priors:
        if prior.name in "ABC":
            draws = fit.idata.posterior[prior.name].values
            low, high = np.quantile(draws.reshape(-1, *draws.shape[2:]), [0.05, 0.95], axis=0)
            value = truth[prior.name]
            hits += ((low <= value) & (value <= high))[prior.free].tolist()
    return hits


def clean() -> None:
    """Training on data without noise, from the published start."""
    rows = [{"C": 0.4, "sparsity": "authors", **AUTHORS}]
    for drive in (0.8, 0.4):
        truth = dict(EXAMPLE.parameters) | {"C": np.array([[drive], [0.0], [0.0]])}
        for sparsity in PRIORS.values():
            model = model_of(sparsity)
            data = simulated(model, truth, None)
            start = published_start(model, data)
            fit = None
            for call in ("first", "again"):
                fit, cost = timed(
                    lambda m=model, d=data, s=start: bayesdcm.fit(
                        m, d, "tbptt", starts=s, progress=False
                    )
                )
                seconds = {"call": call, "cpu_s": cost.cpu}
            A = fit.idata.posterior["A"].mean(("chain", "draw")).values
            rows.append(
                {"C": drive, "sparsity": sparsity, **errors(fit, truth), "A12": A[0, 1]}
                | {"A31": A[2, 0], **seconds, "epochs": fit.status["n_epochs"]}
            )
    print(pd.DataFrame(rows).round(4).to_string(index=False))


def noise(n_seeds: int) -> None:
    """Errors at SNR 2, for three methods and two kinds of priors."""
    options = {"tbptt": {}, "laplace": {}, "nuts": {"chains": 2, "draws": 300, "warmup": 150}}
    rows = []
    for seed in range(1, n_seeds + 1):
        for name, sparsity in PRIORS.items():
            model = model_of(sparsity)
            data = simulated(model, EXAMPLE.parameters, seed)
            for method, given in options.items():
                begun = time.process_time()
                if method == "tbptt":
                    given = {"starts": published_start(model, data)}
                fit = bayesdcm.fit(model, data, method, seed=seed, progress=False, **given)
                hits = inside(fit, EXAMPLE.parameters, model)
                row = {"seed": seed, "priors": name, "method": method}
                row |= errors(fit, EXAMPLE.parameters) | {"inside": np.mean(hits)}
                rows.append(row | {"cpu_s": time.process_time() - begun})
                print(pd.Series(rows[-1]).to_frame().T.to_string(index=False, header=False))
    table = pd.DataFrame(rows).drop(columns="seed").groupby(["priors", "method"], sort=False)
    print(
        pd.concat([table[list("ABC")].median(), table[["inside", "cpu_s"]].mean()], axis=1).round(3)
    )


def coverage(n_sets: int) -> None:
    """Intervals of NUTS over data sets whose truths are drawn from the prior of the model."""
    for name, sparsity in PRIORS.items():
        model, rng = model_of(sparsity), np.random.default_rng(5)
        hits: list[bool] = []
        told: list[bool] = []
        diverged = 0
        while len(hits) < 13 * n_sets:
            truth = {}
            for prior in model.priors:
                spread = np.sqrt(prior.variance)
                kinds = rng.laplace(size=spread.shape) / np.sqrt(2), rng.normal(size=spread.shape)
                truth[prior.name] = prior.mean + spread * kinds[prior.family is None]
            if not np.isfinite(model.predict(truth, EXAMPLE.data)).all():
                diverged += 1
                continue
            data = simulated(model, truth, int(rng.integers(1 << 30)))
            fit = bayesdcm.fit(model, data, "nuts", chains=2, draws=300, warmup=150, progress=False)
            told.append(bool(fit.status["r_hat"] > 1.05 or fit.status["search"]["left"]))
            hits += inside(fit, truth, model)
            # Entries of one set miss together.
            of_sets = np.reshape(hits, (-1, 13)).mean(1)
            sd = of_sets.std() / np.sqrt(len(of_sets))
            print(
                f"{name}: {len(of_sets)} sets, {of_sets.mean():.3f} +- {sd:.3f} inside; "
                f"{of_sets[~np.array(told)].mean():.3f} without the {sum(told)} that are said to "
                "be doubtful (an R-hat above 1.05, or a poor optimum); "
                f"{diverged} draws diverged and were left out",
                flush=True,
            )


def speed() -> None:
    """A window's gradient against its forward pass; an epoch of 100 regions, and its memory."""
    cell_of, start = EXAMPLE.model.cell, EXAMPLE.model.start(EXAMPLE.parameters)
    for seconds in (3, 16, 64):
        inputs = jnp.asarray(EXAMPLE.data.inputs[: 4 * seconds])
        signal = jnp.asarray(EXAMPLE.data.signal[: 4 * seconds])

        def loss(parameters: Any, inputs: Any = inputs, signal: Any = signal) -> jax.Array:
            _, bold = jax.lax.scan(cell_of(parameters), start, inputs)
            return ((bold - signal) ** 2).sum()

        parameters = jax.tree.map(jnp.asarray, dict(EXAMPLE.parameters))
        forward, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
        cost = {}
        for name, function in (("forward", forward), ("gradient", gradient)):
            jax.block_until_ready(function(parameters))
            repeats = [
                timed(lambda f=function, p=parameters: [f(p) for _ in range(200)])[1].cpu / 200
                for _ in range(7)
            ]
            cost[name] = np.median(repeats)
        print(
            f"window of {seconds} s: forward {cost['forward'] * 1e6:.0f} us, gradient "
            f"{cost['gradient'] * 1e6:.0f} us, {cost['gradient'] / cost['forward']:.2f} times"
        )
    rng, n = np.random.default_rng(0), 100
    inputs = np.repeat(rng.random((1200 // 20, 4)) < 0.5, 60, axis=0).astype(float)
    A = (rng.random((n, n)) < 0.1) | np.eye(n, dtype=bool)
    C = np.zeros((n, 4))
    C[:40] = np.kron(np.eye(4), np.ones((10, 1)))
    model = bayesdcm.RecurrentDCM(A, C=C, step=0.24, haemodynamic_penalty=np.inf)
    truth = {prior.name: np.asarray(prior.mean) for prior in model.priors}
    truth |= {"A": -np.eye(n) + 0.1 * A * (1 - np.eye(n)) * rng.random((n, n)), "C": 0.5 * C}
    names = [f"R{i + 1}" for i in range(n)]
    design = bayesdcm.BoldDesign(1200, 0.72, inputs, 0.24, names)
    data = model.simulate(truth, design, seed=1, snr=2.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for epochs in (1, 1, 11):
        _, cost = timed(
            lambda e=epochs: bayesdcm.fit(model, data, "tbptt", epochs=e, progress=False)
        )
        seconds.append(cost.cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"100 regions, 1,200 scans of 0.72 s in 3,600 steps, {int(A.sum() + C.sum())} connections: "
        f"an epoch {(seconds[2] - seconds[1]) / 10:.2f} CPU s; first call {seconds[0]:.1f}; "
        f"peak memory {peak / 1024:.0f} MB, {before / 1024:.0f} before"
    )


def recorded(path: str) -> None:
    """The structure and data of a file of SPM as a recurrent DCM."""
    file = bayesdcm.read_spm_dcm(path)
    model = bayesdcm.RecurrentDCM(
        *(file.model.A, file.model.B, file.model.C), step=file.data.input_dt
    )
    print(model)
    fits = {}
    for method, given in (("tbptt", {}), ("laplace", {}), ("nuts", {"draws": 500})):
        begun = time.process_time()
        fits[method] = bayesdcm.fit(model, file.data, method, progress=False, **given)
        print(f"{method}: {time.process_time() - begun:.0f} CPU s\n{fits[method].diagnose()}")
    table = pd.concat({k: fit.summary()[["mean", "sd"]] for k, fit in fits.items()}, axis=1)
    print(table.round(3).to_string())


PARTS = {"clean": clean, "noise": noise, "coverage": coverage, "speed": speed, "recorded": recorded}

if __name__ == "__main__":
    part, *rest = sys.argv[1:] or [""]
    if part not in PARTS:
        sys.exit(__doc__)
    defaults: dict[str, tuple[Any, ...]] = {"noise": (20,), "coverage": (40,)}
    given = tuple(int(text) if text.isdigit() else text for text in rest)
    PARTS[part](*(given or defaults.get(part, ())))
