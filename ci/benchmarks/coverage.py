"""Do 90 % intervals of the default model hold the truth? Data in percent, noise set by SNR.

    python ci/benchmarks/coverage.py --out folder
    python ci/benchmarks/coverage.py --out folder --prior spm --methods laplace

Two or three regions, by turns, each with its own design of the first; all connections, modulations,
inputs and haemodynamic parameters are drawn from the model's prior, again where the connections are
unstable in some condition. Noise is white; its standard deviation is that of the noise-free signal
of each region over the signal-to-noise ratio, whatever the prior of the precision says. So it is
the prior of the noise that is judged, and whether variational Laplace and NUTS find their way.

Every finished data set is a file in the folder; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import bayesdcm  # isort: skip  (before JAX: it sets double precision)

import numpy as np
from measure import machine, table
from scipy import stats

N_SCANS, REPETITION_TIME, INPUT_DT = 150, 2.0, 0.25
RATIOS = (0.5, 1.0, 3.0, 5.0)
LEVEL = 0.9
# Slowest decay in any condition, Hz.
STABLE = -0.05
# Smaller responses are not seen in any region by which one would choose it, percent.
LEAST_RANGE = 0.2
PRIORS = {"default": None, "spm": {"log_precision": (6.0, 1 / 128)}}
# Posteriors of data that say little have long trajectories, which are cut at this depth.
NUTS = {"chains": 2, "warmup": 150, "draws": 400, "max_tree_depth": 7, "progress": False}
KINDS = {
    "A, between regions": lambda name, index: name == "A" and index[0] != index[1],
    "A, self-connections": lambda name, index: name == "A" and index[0] == index[1],
    "B": lambda name, index: name == "B",
    "C": lambda name, index: name == "C",
    "haemodynamic": lambda name, index: name in ("transit", "decay", "epsilon"),
    "log-precision of the noise": lambda name, index: name == "log_precision",
}


def model(n_regions: int, prior: str) -> bayesdcm.TaskDCM:
    """Regions in a chain, both ways; the forward connections change with the context."""
    near = np.abs(np.subtract.outer(np.arange(n_regions), np.arange(n_regions))) <= 1
    B = np.zeros((2, n_regions, n_regions))
    B[1] = np.eye(n_regions, k=-1)
    C = np.zeros((n_regions, 2))
    C[0, 0] = C[-1, 1] = 1
    return bayesdcm.TaskDCM(A=near, B=B, C=C, priors=PRIORS[prior])


def design(n_regions: int) -> bayesdcm.BoldDesign:
    """A drive in blocks, and a context that is there in every other block."""
    seconds = np.arange(0, N_SCANS * REPETITION_TIME, INPUT_DT)
    inputs = np.stack([seconds % 24 < 12, seconds % 48 >= 24], axis=1).astype(float)
    names = [f"region {i + 1}" for i in range(n_regions)]
    return bayesdcm.BoldDesign(
        N_SCANS, REPETITION_TIME, inputs, INPUT_DT, names, ["drive", "context"]
    )


def draw(n_regions: int, random: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    """Parameters from the prior, and the noise-free signal."""
    chosen, run = model(n_regions, "default"), design(n_regions)
    while True:
        parameters = {
            prior.name: prior.mean + np.sqrt(prior.variance) * random.normal(size=prior.mean.shape)
            for prior in chosen.priors
        }
        rates = parameters["A"] * (1 - np.eye(n_regions))
        rates -= 0.5 * np.diag(np.exp(np.diagonal(parameters["A"])))
        slowest = max(np.linalg.eigvals(rates + B).real.max() for B in (0, parameters["B"][1]))
        if slowest > STABLE:
            continue
        signal = np.asarray(chosen.predict(parameters, run))
        if np.isfinite(signal).all() and np.ptp(signal, axis=0).min() > LEAST_RANGE:
            return parameters, signal


def simulate(index: int, seed: int) -> tuple[int, float, dict[str, Any], bayesdcm.BoldData]:
    """Regions, signal-to-noise ratio, true parameters and data of a data set."""
    n_regions, snr = 2 + index % 2, RATIOS[index // 2 % len(RATIOS)]
    random = np.random.default_rng([seed, index])
    parameters, signal = draw(n_regions, random)
    sd = signal.std(axis=0) / snr
    run = design(n_regions)
    data = bayesdcm.BoldData(
        signal + sd * random.normal(size=signal.shape),
        REPETITION_TIME,
        inputs=run.inputs,
        input_dt=INPUT_DT,
        region_names=run.region_names,
        input_names=run.input_names,
        unit="percent",
    )
    return n_regions, snr, parameters | {"log_precision": -2 * np.log(sd)}, data


def judge(fit: bayesdcm.Fit, truth: dict[str, Any]) -> dict[str, list[list[float]]]:
    """By kind: true value, interval, mean and standard deviation of every free parameter."""
    from bayesdcm.plot.quantities import entries

    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    places = entries(fit)
    for label, row in fit.summary().iterrows():
        name, index = places[str(label)]
        value = float(np.asarray(truth[name])[index])
        kind = next(kind for kind, holds in KINDS.items() if holds(name, index))
        found[kind].append([value, *(float(row[c]) for c in ("eti_5%", "eti_95%", "mean", "sd"))])
    return found


def report(results: list[dict[str, Any]], method: str) -> str:
    """Share of true values in their 90 % interval, by kind and signal-to-noise ratio."""
    rows = []
    for kind in KINDS:
        row: dict[str, Any] = {"parameters": kind}
        for snr in (*RATIOS, None):
            these = [r for r in results if snr in (None, r["snr"])]
            values = np.concatenate(
                [np.zeros((0, 5)), *(np.reshape(r[method][kind], (-1, 5)) for r in these)]
            )
            if not len(values):
                row[f"SNR {snr:g}"] = "-"
                continue
            inside = (values[:, 1] <= values[:, 0]) & (values[:, 0] <= values[:, 2])
            row["all" if snr is None else f"SNR {snr:g}"] = f"{100 * inside.mean():.0f}"
            if snr is None:
                low, high = stats.binom.interval(0.95, len(inside), LEVEL)
                row["all, band"] = f"{100 * low / len(inside):.0f}-{100 * high / len(inside):.0f}"
                shift = (values[:, 3] - values[:, 0]) / values[:, 4]
                row["mean shift, sd"] = f"{shift.mean():.2f}"
        rows.append(row)
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for finished data sets")
    parser.add_argument("--datasets", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first data set")
    parser.add_argument("--prior", choices=list(PRIORS), default="default", help="of the noise")
    parser.add_argument("--methods", nargs="+", default=["laplace", "nuts"])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for index in range(options.first, options.first + options.datasets):
        path = options.out / f"{options.prior}-{options.seed}-{index}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        wanted = [method for method in options.methods if method not in found]
        if wanted:
            n_regions, snr, truth, data = simulate(index, options.seed)
            found |= {"n_regions": n_regions, "snr": snr}
            found["range"] = np.ptp(data.signal, axis=0).tolist()
        for method in wanted:
            begin = time.process_time()
            extra = NUTS if method == "nuts" else {"draws": 1000}
            fit = bayesdcm.fit(model(n_regions, options.prior), data, method, seed=index, **extra)
            found[method] = judge(fit, truth)
            cpu = time.process_time() - begin
            found[f"{method} facts"] = {
                "cpu": cpu,
                "converged": bool(fit.status["converged"]),
                "r_hat": fit.status.get("r_hat"),
                "divergences": fit.status.get("divergences"),
                "evidence": fit.log_evidence,
                "problems": fit.diagnose().problems if method == "laplace" else [],
            }
            print(f"{index} {method}: {cpu:.1f} CPU s, {fit!r}", flush=True)
        if wanted:
            part = path.with_suffix(".part")
            part.write_text(json.dumps(found))
            os.replace(part, path)
        results.append(found)
    print(machine())
    for method in options.methods:
        print(f"\n{method}, prior of the noise: {options.prior}, {len(results)} data sets\n")
        print(report(results, method))


if __name__ == "__main__":
    main()
