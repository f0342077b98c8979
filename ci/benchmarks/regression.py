"""Speed, memory and coverage of regression DCM.

python ci/benchmarks/regression.py speed [N] [sparse]     one subject of N regions, 1,000 scans
python ci/benchmarks/regression.py cohort [N] [S] FOLDER  S subjects through fit_group
python ci/benchmarks/regression.py coverage [R]           intervals of A over R simulated runs
"""

from __future__ import annotations

import resource
import sys
import time
import warnings

import numpy as np

import bayesdcm
from bayesdcm import BoldData, RegressionDCM
from bayesdcm.data import BoldDesign


def network(n: int, rng: np.random.Generator, density: float = 0.1) -> np.ndarray:
    """Connections of n regions, stable, in Hz."""
    between = ~np.eye(n, dtype=bool)
    A = np.where(between & (rng.random((n, n)) < density), rng.normal(size=(n, n)), 0.0)
    A *= 0.35 / max(np.abs(np.linalg.eigvals(A)).max(), 0.7)
    return A - 0.5 * np.eye(n)


def recording(n: int, n_scans: int, seed: int, repetition_time: float = 0.72) -> BoldData:
    """A run at rest, of the model's own dynamics."""
    rng = np.random.default_rng(seed)
    model = RegressionDCM(np.ones((n, n)))
    design = BoldDesign(n_scans, repetition_time, None, None, [f"R{i + 1}" for i in range(n)])
    parameters = {"A": network(n, rng), "log_precision": np.full(n, 2.0)}
    return model.simulate(parameters, design, seed=seed)


def speed(n: int, sparse: bool) -> None:
    """CPU and wall seconds of a first and a second fit, and the largest memory."""
    data = recording(n, 1000, 0)
    model = RegressionDCM(np.ones((n, n)), sparse=sparse)
    for name in ("first", "second"):
        wall, cpu = time.perf_counter(), time.process_time()
        fit = bayesdcm.fit(model, data.replace(), progress=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{name}: {cpu:.2f} CPU s, {wall:.2f} s, peak {peak:.2f} GB; {fit.status}")


def cohort(n: int, subjects: int, folder: str) -> None:
    """A cohort through `fit_group`, and effects on some of its connections."""
    data = {f"sub-{k:02d}": recording(n, 300, k) for k in range(subjects)}
    wall, cpu = time.perf_counter(), time.process_time()
    group = bayesdcm.fit_group(RegressionDCM(np.ones((n, n))), data, out=folder, progress=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{group}: {cpu:.1f} CPU s, {wall:.1f} s, peak {peak:.2f} GB")
    wanted = [f"A[R{i}, R{j}]" for i in range(1, 7) for j in range(1, 7)]
    wall = time.perf_counter()
    effects = bayesdcm.peb(group, parameters=wanted)
    print(f"{effects!r}: {time.perf_counter() - wall:.1f} s")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    what, *rest = sys.argv[1:] or ["speed"]
    if what == "speed":
        speed(int(rest[0]) if rest else 200, "sparse" in rest)
    elif what == "cohort":
        cohort(int(rest[0]), int(rest[1]), rest[2])
