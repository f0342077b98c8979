"""Simulation-based calibration of variational Laplace and NUTS on a small task-fMRI DCM.

Parameters are drawn from the model's own prior and data from its own likelihood; each data set is
fitted, and one asks where the true value of every parameter lies in its posterior. If posteriors
are right, that rank is uniform over data sets, and intervals of any probability contain the truth
just as often (Talts et al. 2018, https://arxiv.org/abs/1804.06788).

    python ci/benchmarks/calibration.py --out folder
    python ci/benchmarks/calibration.py --quick

Draws of the prior at which the model diverges are drawn again: the likelihood is zero there, so
this is the prior restricted to where the model makes sense, for simulation and inference alike.
Data are simulated without confounds: their prior is flat, so posteriors do not depend on them.
Laplace starts at the prior mean. At this signal-to-noise ratio some posteriors have poor local
optima far from the truth, where the noise found is much stronger than the prior expects; NUTS then
starts from the best of many runs of Laplace. (The rule sees data only, never the truth.)
The rank of the truth in a Gaussian posterior is its exact quantile. NUTS runs one chain, thinned to
39 draws, so that ranks take 40 values and intervals of 50, 80 and 95 % hold whole numbers of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from measure import machine, table
from scipy import stats

import bayesdcm
from bayesdcm.infer import nuts
from bayesdcm.infer.density import evaluate
from bayesdcm.infer.evaluation import prior_sample
from bayesdcm.infer.problem import Problem, make_problem
from bayesdcm.infer.variational_laplace import find_optimum, laplace_starts
from bayesdcm.observe.base import SPM_NOISE

N_SCANS, REPETITION_TIME, INPUT_DT = 100, 2.0, 0.25
RANKS = 40
BINS = 10
LEVELS = (0.5, 0.8, 0.95)
WARMUP, THIN = 150, 5
# Draws of the prior include data that say little; their trajectories are cut at this depth.
MAX_TREE_DEPTH = 7
# A log-precision so many prior standard deviations below its prior mean calls for more starts.
SURPRISE, STARTS, ROUNDS = 10, 32, 3


def problem() -> Problem:
    """Two regions connected both ways; the first is driven, the forward connection modulated."""
    time = np.arange(0, N_SCANS * REPETITION_TIME, INPUT_DT)
    drive = time % 20 < 12
    modulation = time % 40 >= 20
    data = bayesdcm.BoldData(
        # Only the shape of this signal matters: every simulated data set takes its place.
        signal=np.random.default_rng(0).normal(size=(N_SCANS, 2)),
        repetition_time=REPETITION_TIME,
        inputs=np.stack([drive, modulation], axis=1).astype(float),
        input_dt=INPUT_DT,
        region_names=("first", "second"),
        input_names=("drive", "context"),
    )
    modulated = np.zeros((2, 2, 2))
    modulated[1, 1, 0] = 1
    # Data are drawn from the prior: from SPM's of the noise, as a wide one gives data of any size.
    model = bayesdcm.TaskDCM(
        A=np.ones((2, 2)), B=modulated, C=[[1, 0], [0, 0]], priors={"log_precision": SPM_NOISE}
    )
    return make_problem(model, data)


def simulate(whole: Problem, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Parameters (n, size), data (n, scans, regions), and how many draws had diverged."""

    @jax.jit
    @jax.vmap
    def signal(vector: jax.Array, key: jax.Array) -> jax.Array:
        program = whole.source.bind(whole.prepared)
        observation, _ = evaluate(program, whole.sites, vector).observations["signal"]
        return observation.sample(key)

    candidates = prior_sample(whole, 2 * n, seed)
    signals = np.asarray(signal(candidates, jax.random.split(jax.random.key(seed + 1), 2 * n)))
    finite = np.isfinite(signals).all(axis=(1, 2))
    kept = np.flatnonzero(finite)[:n]
    return np.asarray(candidates)[kept], signals[kept], int((~finite[: kept[-1] + 1]).sum())


def surprising(mean: np.ndarray) -> bool:
    """Whether the noise found is much stronger than the prior expects."""
    expected, variance = SPM_NOISE
    lowest = expected - SURPRISE * np.sqrt(variance)
    return bool((mean[-2:] < lowest).any())


def infer(bound: Problem, truth: np.ndarray, seed: int, with_nuts: bool) -> dict[str, Any]:
    """Quantiles of the truth under both posteriors, and what they cost."""
    begin = time.process_time()
    found = find_optimum(bound, 1, seed, 128)
    mean, covariance = found["mean"], found["covariance"]
    result = {
        "laplace": stats.norm.cdf((truth - mean) / np.sqrt(np.diagonal(covariance))),
        "laplace_cpu": time.process_time() - begin,
        "converged": bool(found["result"].converged),
    }
    if with_nuts:
        begin = time.process_time()
        rounds = 0
        while surprising(found["mean"]) and rounds < ROUNDS:
            points = laplace_starts(bound, STARTS, seed + 10_000 * rounds)
            again = find_optimum(bound, points, seed, 128)
            found = max(found, again, key=lambda f: f["result"].free_energy)
            rounds += 1
        mean, covariance = found["mean"], found["covariance"]
        result |= {"rounds": rounds, "surprising": surprising(mean)}
        draws = nuts.sample(
            bound, mean, covariance, seed=seed, progress=False,
            chains=1, warmup=WARMUP, draws=THIN * (RANKS - 1), max_tree_depth=MAX_TREE_DEPTH,
        )  # fmt: skip
        thinned = draws.position[0, THIN - 1 :: THIN]
        result |= {
            "nuts": ((thinned < truth).sum(axis=0) + 0.5) / RANKS,
            "nuts_cpu": time.process_time() - begin,
            "diverging": int(draws.statistics["diverging"].sum()),
            "steps": float(draws.statistics["n_steps"].mean()),
        }
    return result


def counts(quantiles: np.ndarray) -> np.ndarray:
    """Data sets in each of the equal bins of rank, (bins,)."""
    return np.histogram(quantiles, bins=BINS, range=(0, 1))[0]


def band(n: int, probability: float, level: float = 0.95) -> tuple[int, int]:
    """Counts between which a binomial variable lies with at least this probability."""
    tail = (1 - level) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], n, probability)
    return int(low), int(high)


def report(quantiles: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """A row for each parameter: uniformity of the ranks, coverage of intervals."""
    n = len(quantiles)
    low, high = band(n, 1 / BINS)
    rows = []
    for label, values in zip(labels, quantiles.T, strict=True):
        found = counts(values)
        row: dict[str, Any] = {
            "parameter": label,
            "p (chi-square)": float(stats.chisquare(found).pvalue),
            f"bins outside {low}-{high}": int(((found < low) | (found > high)).sum()),
        }
        for level in LEVELS:
            covered = int((np.abs(values - 0.5) < level / 2).sum())
            least, most = band(n, level)
            mark = "" if least <= covered <= most else " *"
            row[f"{100 * level:.0f} % interval"] = f"{100 * covered / n:.1f} %{mark}"
        rows.append(row)
    return rows


def overall(name: str, quantiles: np.ndarray) -> str:
    """One sentence on all parameters together."""
    n, n_parameters = quantiles.shape
    found = np.stack([counts(values) for values in quantiles.T])
    low, high = band(n, 1 / BINS)
    outside = int(((found < low) | (found > high)).sum())
    inside_probability = np.diff(stats.binom.cdf([low - 1, high], n, 1 / BINS))[0]
    smallest = min(float(stats.chisquare(row).pvalue) for row in found)
    return (
        f"{name}: {outside} of {found.size} counts outside the band of {low} to {high} "
        f"(expected {found.size * (1 - inside_probability):.1f}); smallest p of {n_parameters} "
        f"parameters {smallest:.2g}, Bonferroni {min(1.0, smallest * n_parameters):.2g}"
    )


def draw(quantiles: dict[str, np.ndarray], labels: list[str], path: Path) -> None:
    """Rank histograms of every parameter, with the 95 % binomial band."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(quantiles) * 2, -(-len(labels) // 2), sharex=True, sharey=True,
        figsize=(10, 1.35 * 2 * len(quantiles)), layout="constrained", squeeze=False,
    )  # fmt: skip
    edges = np.linspace(0, 1, BINS + 1)
    for block, (name, values) in enumerate(quantiles.items()):
        colour = ("#0072B2", "#D55E00")[block]
        panels = axes[2 * block : 2 * block + 2].ravel()
        for panel, label, column in zip(panels, labels, values.T, strict=False):
            panel.axhspan(*band(len(column), 1 / BINS), color="#d9d9d9", linewidth=0)
            panel.axhline(len(column) / BINS, color="#767676", linewidth=0.8)
            panel.stairs(counts(column), edges, color=colour, fill=True, alpha=0.7)
            panel.set_title(f"{label} ({name})", fontsize="x-small", loc="left", pad=2)
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize="x-small")
        for panel in panels[len(labels) :]:
            panel.set_axis_off()
    figure.supxlabel("rank of the true value in its posterior", fontsize="small")
    figure.supylabel("data sets", fontsize="small")
    mpl.rcParams["svg.hashsalt"] = "calibration"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=200)
    parser.add_argument("--nuts", type=int, help="how many of them NUTS fits; default all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="20 data sets")
    parser.add_argument("--verbose", action="store_true", help="a line for each data set")
    parser.add_argument("--out", type=Path, help="folder for calibration.svg and calibration.npz")
    options = parser.parse_args()
    n = 20 if options.quick else options.data_sets
    n_nuts = n if options.nuts is None else options.nuts

    whole = problem()
    truths, signals, n_diverged = simulate(whole, n, options.seed)
    results = []
    for i, (truth, signal) in enumerate(zip(truths, signals, strict=True)):
        prepared = whole.prepared._replace(signal=jnp.asarray(signal))
        bound = dataclasses.replace(whole, prepared=prepared)
        results.append(infer(bound, truth, options.seed + 1000 + i, i < n_nuts))
        if options.verbose:
            shown = ("laplace_cpu", "converged", "nuts_cpu", "diverging", "steps")
            print(i, *(f"{k} {results[-1].get(k, 0):.3g}" for k in shown), file=sys.stderr)
    collect = partial(lambda name: np.array([r[name] for r in results if name in r]))
    quantiles = {name: collect(name) for name in ("laplace", "nuts") if len(collect(name))}
    labels = whole.flat_labels

    print(f"{n} data sets; {n_diverged} draws of the prior had diverged and were drawn again")
    print(f"variational Laplace converged in {collect('converged').sum()} of {n}")
    if n_nuts:
        print(f"NUTS: {(collect('diverging') > 0).sum()} of {n_nuts} with divergent trajectories")
        print(
            f"{(collect('rounds') > 0).sum()} of them started from the best of {STARTS} runs of "
            f"Laplace or more, {collect('surprising').sum()} without finding a better optimum"
        )
    costs = [
        {
            "method": name,
            "data sets": len(cpu),
            "first CPU s": float(cpu[0]),
            "warm CPU s (median)": float(np.median(cpu[1:])),
            "total CPU s": float(cpu.sum()),
        }
        for name in quantiles
        for cpu in [collect(f"{name}_cpu")]
    ]
    print(f"\n{table(costs)}")
    judged = dict(quantiles)
    if n_nuts and collect("surprising").any():
        judged["nuts, where a good optimum was found"] = quantiles["nuts"][~collect("surprising")]
    for name, values in judged.items():
        print(f"\n{overall(name, values)}\n\n{table(report(values, labels))}")
    print(f"\n(* outside the 95 % binomial band)\n{machine()}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        draw(quantiles, labels, options.out / "calibration.svg")
        np.savez_compressed(
            options.out / "calibration.npz",
            truth=truths, labels=labels, **{k: collect(k) for k in results[0]},
        )  # fmt: skip


if __name__ == "__main__":
    main()
