"""Recovery of the right one of four task-fMRI models, by evidence, leave-one-out, and reduction.

    python ci/benchmarks/recovery.py --out folder
    python ci/benchmarks/recovery.py --out folder --figure docs/figures/model_recovery.svg

Two regions are connected both ways, and the first is driven. A context modulates the forward
connection, the backward one, both, or none: four models, nested in the one with both. Each is the
true one of every fourth data set. Its parameters are drawn about values that give a typical
response; a modulation has a random sign and a size from 0.05 to 0.35 Hz, from hardly to clearly
visible. Draws at which the connections are unstable in any condition are drawn again. Noise is
white, and its standard deviation is that of each region's signal over the signal-to-noise ratio.

All four models are fitted to each data set by variational Laplace, from the prior mean, and one is
chosen by (a) the free energy of each fit, (b) the expected log predictive density of scans left
out, from draws of each fit, (c) Bayesian model reduction of the fit with both modulations alone.
All that is done twice: with SPM's prior of the noise, which is narrow and expects a standard
deviation of 0.05 where the signal spans 4, and with a wide one.

Every finished data set is a file in the folder; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import bayesdcm  # isort: skip  (before JAX: it sets double precision)

import matplotlib as mpl
import numpy as np
from measure import machine, table

from bayesdcm.group import fit_group

N_SCANS, REPETITION_TIME, INPUT_DT = 160, 2.0, 0.25
# Which of the modulations (backward, forward) are there.
MODELS = {"none": (0, 0), "forward": (0, 1), "backward": (1, 0), "both": (1, 1)}
LABELS = ("B[context, first, second]", "B[context, second, first]")
WAYS = {"evidence": "free energy", "loo": "leave-one-out", "reduced": "reduction"}
SMALLEST, LARGEST = 0.05, 0.35
# Slowest decay in any condition, Hz.
STABLE = -0.05
# Data sets that are fitted together.
CHUNK = 4
# Models that reduction and fits are compared on: their log-evidence is so near to the best one.
NEAR = 10


# Mean and variance of the log-precision of the noise.
PRIORS = {"spm": (6.0, 1 / 128), "wide": (2.0, 4.0)}


def modulation(forward: float, backward: float) -> np.ndarray:
    """``B`` (input, to, from)."""
    B = np.zeros((2, 2, 2))
    B[1, 0, 1], B[1, 1, 0] = backward, forward
    return B


def models(prior: str) -> dict[str, bayesdcm.TaskDCM]:
    """The four models by name."""
    return {
        name: bayesdcm.TaskDCM(
            A=np.ones((2, 2)),
            B=modulation(forward, backward),
            C=[[1, 0], [0, 0]],
            priors={"log_precision": PRIORS[prior]},
        )
        for name, (backward, forward) in MODELS.items()
    }


def design() -> bayesdcm.BoldData:
    """Timing and inputs; the signal does not matter."""
    seconds = np.arange(0, N_SCANS * REPETITION_TIME, INPUT_DT)
    inputs = np.stack([seconds % 20 < 12, seconds % 40 >= 20], axis=1).astype(float)
    return bayesdcm.BoldData(
        signal=np.random.default_rng(0).normal(size=(N_SCANS, 2)),
        repetition_time=REPETITION_TIME,
        inputs=inputs,
        input_dt=INPUT_DT,
        region_names=("first", "second"),
        input_names=("drive", "context"),
    )


def draw(name: str, random: np.random.Generator) -> dict[str, Any]:
    """Parameters of one data set, under which the connections are stable."""
    backward, forward = MODELS[name]
    while True:
        size = random.uniform(SMALLEST, LARGEST, 2) * random.choice([-1, 1], 2)
        A = np.array([[0.0, 0.2], [0.4, 0.0]]) + random.normal(0, 0.1, (2, 2))
        B = modulation(forward * size[0], backward * size[1])
        off = A * (1 - np.eye(2)) - 0.5 * np.diag(np.exp(np.diagonal(A)))
        slowest = max(np.linalg.eigvals(off + change).real.max() for change in (0, B[1]))
        parameters = {
            "A": A,
            "B": B,
            "C": np.array([[random.normal(0.8, 0.1), 0.0], [0.0, 0.0]]),
            "transit": random.normal(0, 0.06, 2),
            "decay": random.normal(0, 0.06),
            "epsilon": random.normal(0, 0.06),
        }
        if slowest < STABLE:
            return parameters


def simulate(index: int, snr: float, seed: int) -> tuple[str, dict[str, Any], bayesdcm.BoldData]:
    """True model, true parameters and data of a data set; the same parameters at every ratio."""
    name = list(MODELS)[index % len(MODELS)]
    parameters = draw(name, np.random.default_rng([seed, index]))
    model = models("spm")[name]
    return name, parameters, model.simulate(parameters, design(), 1000 * seed + index, snr)


def score(fits: dict[str, bayesdcm.Fit]) -> dict[str, Any]:
    """What the three ways say of the four models, in nats, and what speaks against it."""
    names = list(MODELS)
    with warnings.catch_warnings():
        # Counted instead.
        warnings.simplefilter("ignore", RuntimeWarning)
        loo = bayesdcm.compare(fits, by="loo").loc[names]
    off = {
        name: [label for label, on in zip(LABELS, MODELS[name], strict=True) if not on]
        for name in names
    }
    reduced = {name: bayesdcm.reduce(fits["both"], off=off[name]) for name in names}
    return {
        "evidence": [fits[name].log_evidence for name in names],
        "loo": loo["elpd"].tolist(),
        "reduced": [reduced[name].log_evidence for name in names],
        "dse": loo["dse"].tolist(),
        "doubtful": loo["warning"].tolist(),
        "converged": [bool(fits[name].status["converged"]) for name in names],
        "log_precision": fits["both"].mean["log_precision"].tolist(),
    }


def run(options: argparse.Namespace) -> None:
    """Fit and score the data sets that are not on disk yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    for prior in PRIORS:
        wanted = [
            (snr, index)
            for snr in options.snr
            for index in range(options.datasets)
            if not path_of(options.out, prior, snr, index).exists()
        ]
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            begin = time.process_time(), time.perf_counter()
            made = {f"{snr:g} {i}": simulate(i, snr, options.seed) for snr, i in chunk}
            group = fit_group(
                models(prior), {key: data for key, (_, _, data) in made.items()}, progress=False
            )
            for (snr, index), (key, (truth, parameters, data)) in zip(
                chunk, made.items(), strict=True
            ):
                found = score({name: group[name][key] for name in MODELS})
                noise_sd = (data.signal - clean(truth, parameters)).std(0)
                found |= {
                    "truth": truth,
                    "modulation": parameters["B"][1][[0, 1], [1, 0]].tolist(),
                    "true_log_precision": (-2 * np.log(noise_sd)).tolist(),
                    "cpu": (time.process_time() - begin[0]),
                    "wall": (time.perf_counter() - begin[1]),
                }
                begin = time.process_time(), time.perf_counter()
                write(path_of(options.out, prior, snr, index), found)
                if options.verbose:
                    chosen = {way: list(MODELS)[int(np.argmax(found[way]))] for way in WAYS}
                    print(prior, key, truth, chosen, f"{found['cpu']:.1f} CPU s", flush=True)


def clean(truth: str, parameters: dict[str, Any]) -> np.ndarray:
    """Signal without noise, shape (scans, regions)."""
    return np.asarray(models("spm")[truth].predict(parameters, design()))


def path_of(folder: Path, prior: str, snr: float, index: int) -> Path:
    """File of a data set."""
    return folder / f"{prior}_snr{snr:g}_{index:03d}.json"


def write(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value))
    os.replace(part, path)


# The report


def confusion(results: list[dict[str, Any]], way: str) -> np.ndarray:
    """Counts of data sets, shape (true model, chosen model)."""
    names = list(MODELS)
    counts = np.zeros((len(names), len(names)), int)
    for result in results:
        counts[names.index(result["truth"]), int(np.argmax(result[way]))] += 1
    return counts


def read(options: argparse.Namespace) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Finished data sets, by prior of the noise and signal-to-noise ratio."""
    found = {}
    for prior in PRIORS:
        for snr in options.snr:
            paths = (path_of(options.out, prior, snr, i) for i in range(options.datasets))
            done = [json.loads(path.read_text()) for path in paths if path.exists()]
            if done:
                found[prior, snr] = done
    return found


def overview(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What the matrices come to, and what goes with them."""
    present = np.array(list(MODELS.values()), bool)
    truth = np.array([list(MODELS).index(result["truth"]) for result in results])
    chosen = {way: np.array([np.argmax(r[way]) for r in results]) for way in WAYS}
    there = present[truth]
    row: dict[str, Any] = {"data sets": len(results)}
    for way, name in WAYS.items():
        row[f"right by {name}"] = int((chosen[way] == truth).sum())
    for way, name in WAYS.items():
        wrong = int((present[chosen[way]] & ~there).sum())
        row[f"absent modulations chosen by {name}"] = f"{wrong} of {(~there).sum()}"
    for way, name in WAYS.items():
        missed = int((~present[chosen[way]] & there).sum())
        row[f"present modulations missed by {name}"] = f"{missed} of {there.sum()}"

    evidence = np.array([r["evidence"] for r in results])
    change = np.abs(np.array([r["reduced"] for r in results]) - evidence)[:, :-1]
    near = (evidence > evidence.max(1, keepdims=True) - NEAR)[:, :-1]
    row["reduction chooses as free energy"] = int((chosen["reduced"] == chosen["evidence"]).sum())
    for name, values in ((f"within {NEAR} nats of the best", change[near]), ("all", change)):
        row[f"reduction off the free energy, {name}: median, largest (nats)"] = (
            f"{np.median(values):.2f}, {values.max():.1f}"
        )

    loo = np.sort([r["loo"] for r in results], axis=1)
    # Of the second best, the error of its difference to the best.
    error = np.array([r["dse"][int(np.argsort(r["loo"])[-2])] for r in results])
    decided = loo[:, -1] - loo[:, -2] > 2 * error
    row["leave-one-out leads by two standard errors"] = (
        f"{decided.sum()}, {(chosen['loo'] == truth)[decided].sum()} of them right"
    )
    doubtful = np.mean([r["doubtful"] for r in results])
    precision = [np.subtract(r["log_precision"], r["true_log_precision"]) for r in results]
    return row | {
        "fits with a doubtful leave-one-out": f"{100 * doubtful:.0f} %",
        "fits not converged": int(np.sum([~np.array(r["converged"]) for r in results])),
        "log-precision minus the true one, median": f"{np.median(precision):.2f}",
        "CPU s a data set, median": float(np.median([r["cpu"] for r in results])),
        "CPU s in all": float(np.sum([r["cpu"] for r in results])),
        "wall s in all": float(np.sum([r["wall"] for r in results])),
    }


def report(found: dict[tuple[str, float], list[dict[str, Any]]]) -> str:
    """Tables in Markdown."""
    lines = []
    rows = {key: overview(results) for key, results in found.items()}
    first = next(iter(rows.values()))
    titles = {key: f"{key[0]}, SNR {key[1]:g}" for key in rows}
    turned = [
        {"": quantity} | {titles[key]: row[quantity] for key, row in rows.items()}
        for quantity in first
    ]
    lines += [table(turned), ""]
    for key, results in found.items():
        lines += [f"{titles[key]}: true model (rows) against chosen model", ""]
        counts = {way: confusion(results, way) for way in WAYS}
        cells = []
        for i, truth in enumerate(MODELS):
            cell: dict[str, Any] = {"true": truth}
            for way, name in WAYS.items():
                cell |= {
                    f"{name}: {chosen}": int(counts[way][i, j]) for j, chosen in enumerate(MODELS)
                }
            cells.append(cell)
        lines += [table(cells), ""]
    return "\n".join([*lines, machine()])


def draw_figure(found: dict[tuple[str, float], list[dict[str, Any]]], path: Path) -> None:
    """Confusion matrices, a row for each prior and ratio, a column for each way to choose."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(MODELS)
    figure, axes = plt.subplots(
        len(found), len(WAYS), sharex=True, sharey=True, squeeze=False,
        figsize=(7.5, 2.1 * len(found) + 0.6), layout="constrained",
    )  # fmt: skip
    prior_names = {"spm": "SPM's prior of the noise", "wide": "wide prior of the noise"}
    for row, ((prior, snr), results) in zip(axes, found.items(), strict=True):
        for ax, (way, title) in zip(row, WAYS.items(), strict=True):
            counts = confusion(results, way)
            share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            ax.imshow(share, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
            for (i, j), count in np.ndenumerate(counts):
                ink = "white" if share[i, j] > 0.6 else "#222222"
                ax.text(j, i, str(count) if count else "·", ha="center", va="center", color=ink,
                        fontsize="small")  # fmt: skip
            right = f"{title}: {np.trace(counts)} of {counts.sum()} right"
            ax.set_title(right, fontsize="small", loc="left")
            ax.set_xticks(range(len(names)), names, fontsize="x-small")
            ax.set_yticks(range(len(names)), names, fontsize="x-small")
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        label = f"{prior_names[prior]}\nSNR {snr:g}"
        row[0].set_ylabel(label, fontsize="small")
    figure.supxlabel("chosen model", fontsize="small")
    figure.supylabel("true model", fontsize="small")
    mpl.rcParams["svg.hashsalt"] = "recovery"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=50, help="of each ratio")
    parser.add_argument("--snr", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder of finished data sets")
    parser.add_argument("--figure", type=Path, help="file of the matrices as a figure")
    parser.add_argument("--verbose", action="store_true", help="a line for each data set")
    options = parser.parse_args()
    run(options)
    found = read(options)
    print(report(found))
    if options.figure:
        draw_figure(found, options.figure)


if __name__ == "__main__":
    main()
