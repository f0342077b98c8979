"""The full hierarchy on simulated task fMRI: convergence and cost, or coverage of group effects.

    python ci/benchmarks/hierarchy.py
    python ci/benchmarks/hierarchy.py --subjects 64 --regions 3
    python ci/benchmarks/hierarchy.py --coverage 50 --out folder

Without ``--coverage``: 16 people with two regions each, NUTS with four chains, beside PEB; with
``--no-surrogate`` it follows the density itself.

With it: many small studies of 8 people and a covariate. Group effects, spread between people and
everybody's parameters are drawn from the program's own prior, data from its own likelihood; so
intervals of any probability contain the true effects just as often, and counts are binomial. To
keep studies informative, and noisy as recordings are, some priors differ from SPM's in simulation
and inference alike: the driving input N(0.8, 0.2**2), so that everybody responds; the modulation
N(0, 0.3**2), since effects as strong as SPM's prior allows saturate the response; log-precisions
of the noise N(2, 1/16), a third of the signal. Studies in which a person's trajectory diverges are
drawn again. Each finished study is a file in the folder; a run that was stopped goes on where it
was.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import bayesdcm  # isort: skip  (before JAX: it sets double precision)

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from measure import machine, table, timed
from scipy import stats

from bayesdcm.group import Hierarchy, compare_with_peb
from bayesdcm.infer import nuts
from bayesdcm.infer.density import evaluate, layout
from bayesdcm.infer.evaluation import prior_sample, site_values
from bayesdcm.infer.problem import make_problem

REPETITION_TIME, INPUT_DT = 2.0, 0.25
REGIONS = ("first", "second", "third")
LEVELS = (0.5, 0.8, 0.9)
# Of the program that simulates studies.
STUDY_SUBJECTS, STUDY_SCANS = 8, 64
PRIORS = {"C_free": (0.8, 0.2), "B_free": (0.0, 0.3), "log_precision": (2.0, 0.25)}


def template(n_scans: int, n_regions: int = 2) -> bayesdcm.BoldData:
    """Timing and inputs of one person; the signal does not matter."""
    seconds = np.arange(0, n_scans * REPETITION_TIME, INPUT_DT)
    inputs = np.stack([seconds % 20 < 12, seconds % 40 >= 20], axis=1).astype(float)
    return bayesdcm.BoldData(
        signal=np.random.default_rng(0).normal(size=(n_scans, n_regions)),
        repetition_time=REPETITION_TIME,
        inputs=inputs,
        input_dt=INPUT_DT,
        region_names=REGIONS[:n_regions],
        input_names=("drive", "context"),
    )


def model(n_regions: int = 2) -> bayesdcm.TaskDCM:
    """Regions connected in all ways; the first is driven, its connection forward modulated."""
    modulated, driven = np.zeros((2, n_regions, n_regions)), np.zeros((n_regions, 2))
    modulated[1, 1, 0] = driven[0, 0] = 1
    return bayesdcm.TaskDCM(A=np.ones((n_regions, n_regions)), B=modulated, C=driven)


# Convergence


def people(
    n_subjects: int, n_scans: int, snr: float, seed: int, n_regions: int = 2
) -> tuple[dict[str, np.ndarray], dict[str, bayesdcm.BoldData]]:
    """A design and a data set of each person; the covariate acts on the forward connection."""
    rng = np.random.default_rng(seed)
    design, dcm = template(n_scans, n_regions), model(n_regions)
    covariate = np.linspace(-1, 1, n_subjects)
    data = {}
    for i in range(n_subjects):
        # Each region is connected with the next one.
        A = 0.1 * np.tri(n_regions, k=1) * np.tri(n_regions, k=1).T
        A[0, 0], A[1, 0], A[2:, 1:-1] = -0.1, 0.4 + 0.1 * covariate[i], 0.2
        parameters = {
            "A": A + rng.normal(0, 0.03, A.shape),
            "B": dcm.B * rng.normal(0.5, 0.25),
            "C": dcm.C * rng.normal(0.8, 0.1),
            "transit": rng.normal(0, 0.06, n_regions),
            "decay": rng.normal(0, 0.06),
            "epsilon": rng.normal(0, 0.06),
        }
        name = f"person {i + 1}"
        data[name] = dcm.simulate(parameters, design, seed=1000 * seed + i, snr=snr)
    return {"mean": np.ones(n_subjects), "covariate": covariate}, data


def convergence(options: argparse.Namespace) -> None:
    """Fit one study and print how well the chains mix, what it cost, and PEB beside it."""
    n_regions = options.regions
    design, data = people(options.subjects, options.scans, 3.0, options.seed, n_regions)
    hierarchy = Hierarchy(model(n_regions), design)
    rows = []
    fit, cost = timed(
        lambda: bayesdcm.fit(
            hierarchy, data, "nuts", seed=options.seed, progress=options.verbose,
            chains=options.chains, warmup=options.warmup, draws=options.draws,
            surrogate=options.surrogate,
        )
    )  # fmt: skip
    summary, statistics = fit.summary(), fit.posterior.statistics
    group = summary.iloc[: len(summary) - summary.index.str.startswith("person ").sum()]
    for name, part in (("group parameters", group), ("all parameters", summary)):
        rows.append(
            {
                "of": name,
                "number": len(part),
                "largest R-hat": f"{part['r_hat'].max():.4f}",
                "smallest bulk ESS": float(part["ess_bulk"].min()),
                "smallest tail ESS": float(part["ess_tail"].min()),
                "divergences": int(statistics["diverging"].sum()),
                "steps a draw": float(statistics["n_steps"].mean()),
                "surrogate accepted": fit.status["surrogate"].get("acceptance", "-"),
                "CPU s": cost.cpu,
                "wall s": cost.wall,
            }
        )
    print(f"{options.subjects} people, {n_regions} regions, {options.scans} scans, SNR 3; ", end="")
    print(f"{options.chains} chains, {options.warmup} warm-up, {options.draws} draws each\n")
    print(table(rows))
    try:
        from bayesdcm.group import peb
    except ImportError:
        print(f"\n{group.round(3).to_string()}")
    else:
        fits = [bayesdcm.fit(model(n_regions), each) for each in data.values()]
        print(f"\n{compare_with_peb(fit, peb(fits, design)).round(3).to_string()}")
    print(f"\n{machine()}")


# Coverage


class _informed(numpyro.primitives.Messenger):
    """Handler that gives some sites of the model the priors of `PRIORS`."""

    def process_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "sample" and message["name"] in PRIORS:
            mean, sd = PRIORS[message["name"]]
            shape = message["fn"].event_shape
            message["fn"] = dist.Normal(np.full(shape, mean), sd).to_event(len(shape))


def person(prepared: Any) -> None:
    """The program of one person, on data in the units of the model."""
    with _informed():
        model().sample(prepared)


class Studies:
    """Simulated studies, and their inference."""

    def __init__(self) -> None:
        design = np.column_stack(
            [np.ones(STUDY_SUBJECTS), np.linspace(-1, 1, STUDY_SUBJECTS)]
        )  # fmt: skip
        self.hierarchy = Hierarchy(person, design, parameters=["A", "B_free"])
        self.prepared = model().prepare(template(STUDY_SCANS))
        self.problem = make_problem(self.hierarchy, [self.prepared] * STUDY_SUBJECTS)
        self.sites = layout(lambda: person(self.prepared))
        self.group = [i for i, s in enumerate(self.problem.flat_labels) if "subject " not in s]
        self.labels = [self.problem.flat_labels[i] for i in self.group]

        @jax.jit
        @jax.vmap
        def signals(vectors: jax.Array, key: jax.Array) -> jax.Array:
            found = evaluate(lambda: person(self.prepared), self.sites, vectors)
            return found.observations["signal"][0].sample(key)

        self.signals = signals

    def simulate(self, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
        """True group parameters, signals of all people, and how many draws had diverged."""
        draws = np.asarray(prior_sample(self.problem, 20, seed))
        vectors = site_values(self.problem, draws)["subject_parameters"]
        for i, people in enumerate(vectors):
            keys = jax.random.split(jax.random.key(1000 * seed + i), STUDY_SUBJECTS)
            signals = np.asarray(self.signals(people, keys))
            if np.isfinite(signals).all():
                return draws[i, self.group], signals, i
        raise RuntimeError("every draw of the prior diverged")

    def infer(self, seed: int, warmup: int, draws: int) -> dict[str, Any]:
        """Where the truth lies in its posterior, and what that cost."""
        truth, signals, diverged = self.simulate(seed)
        begin = time.process_time()
        data = [self.prepared._replace(signal=signal) for signal in signals]
        problem = make_problem(self.hierarchy, data)
        centre, covariance = self.hierarchy.gaussian_start(problem.prepared)
        found = nuts.sample(
            problem, centre, covariance, seed=seed, progress=False,
            chains=1, warmup=warmup, draws=draws, target_accept=0.8, max_tree_depth=6,
        )  # fmt: skip
        position = found.position[0][:, self.group]
        return {
            "truth": truth.tolist(),
            "quantile": (((position < truth).sum(0) + 0.5) / (len(position) + 1)).tolist(),
            "mean": position.mean(0).tolist(),
            "sd": position.std(0, ddof=1).tolist(),
            "divergences": int(found.statistics["diverging"].sum()),
            "steps": float(found.statistics["n_steps"].mean()),
            "drawn_again": diverged,
            "cpu": time.process_time() - begin,
        }


def band(n: int, probability: float, level: float = 0.95) -> tuple[int, int]:
    """Counts between which a binomial variable lies with at least this probability."""
    tail = (1 - level) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], n, probability)
    return int(low), int(high)


def report(results: list[dict[str, Any]], labels: list[str]) -> str:
    """Counts of studies whose intervals hold the truth, with the binomial band."""
    quantiles = np.array([result["quantile"] for result in results])
    n = len(quantiles)
    rows = []
    for label, values in zip(labels, quantiles.T, strict=True):
        row: dict[str, Any] = {"parameter": label}
        for level in LEVELS:
            low, high = band(n, level)
            covered = int((np.abs(values - 0.5) < level / 2).sum())
            mark = "" if low <= covered <= high else " *"
            row[f"{100 * level:.0f} % ({low} to {high})"] = f"{covered}{mark}"
        rows.append(row)
    lines = [table(rows), ""]
    effects = [i for i, label in enumerate(labels) if "log_precision" not in label]
    for level in LEVELS:
        share = (np.abs(quantiles[:, effects] - 0.5) < level / 2).mean()
        lines.append(f"{100 * level:.0f} % intervals hold {100 * share:.1f} % of all true effects")
    divergences = sum(result["divergences"] for result in results)
    cpu = np.array([result["cpu"] for result in results])
    lines.append(
        f"{n} studies, {divergences} divergences, median CPU {np.median(cpu):.0f} s a study "
        "(* outside the 95 % binomial band)"
    )
    return "\n".join(lines)


def coverage(options: argparse.Namespace) -> None:
    """Infer studies that are not on disk yet, then print the counts."""
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"study_{i:03d}.json" for i in range(options.coverage)]
    missing = [path for path in paths if not path.exists()]
    labels_path = folder / "labels.json"
    if missing or not labels_path.exists():
        studies = Studies()
        write(labels_path, studies.labels)
        for path in missing:
            seed = options.seed + int(path.stem[-3:])
            write(path, studies.infer(seed, options.warmup, options.draws))
            done = [json.loads(p.read_text()) for p in paths if p.exists()]
            if options.verbose:
                last = json.loads(path.read_text())
                print(path.stem, *(f"{k} {last[k]:.3g}" for k in ("cpu", "steps", "divergences")))
            write(folder / "report.md", report(done, studies.labels))
    results = [json.loads(path.read_text()) for path in paths]
    print(report(results, json.loads(labels_path.read_text())))
    print(machine())


def write(path: Path, value: Any) -> None:
    """Write a file, whole or not at all: text as it is, other values as JSON."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(value if isinstance(value, str) else json.dumps(value))
    os.replace(part, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=16)
    parser.add_argument("--regions", type=int, default=2, help="2 or 3; not of coverage")
    parser.add_argument(
        "--surrogate", action=argparse.BooleanOptionalAction, default=True, help="not of coverage"
    )
    parser.add_argument("--scans", type=int, default=120)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--warmup", type=int, help="default 200, of coverage 100")
    parser.add_argument("--draws", type=int, help="default 750, of coverage 150")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", type=int, help="number of studies; none: convergence")
    parser.add_argument("--out", type=Path, help="folder of the studies, with --coverage")
    parser.add_argument(
        "--verbose", action="store_true", help="progress; of coverage, a line for each study"
    )
    options = parser.parse_args()
    if options.coverage and options.out is None:
        parser.error("--coverage needs --out, the folder that keeps finished studies")
    of_coverage = bool(options.coverage)
    options.warmup = options.warmup or (100 if of_coverage else 200)
    options.draws = options.draws or (150 if of_coverage else 750)
    (coverage if of_coverage else convergence)(options)


if __name__ == "__main__":
    main()
