"""Variational Laplace on a task-fMRI DCM: first call and warm call, CPU and wall seconds.

    python ci/benchmarks/laplace.py                    the bundled example
    python ci/benchmarks/laplace.py DCM_example.mat    a DCM that SPM saved
    python ci/benchmarks/laplace.py DCM_example.mat --reference-seconds 82

The first call is that of a fresh process (imports of JAX and NumPyro apart) and includes
compilation. A warm call fits the same model to data of the same shape again. The last column
counts a warm call together with the summary table and the diagnosis, which a fit works out only
when asked. With ``--reference-seconds`` (what SPM takes for the same file, say) ratios are added.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from measure import in_fresh_process, machine, median_cost, table, timed

import bayesdcm

INTEGRATORS = ("bilinear", "nonlinear")


def problem(path: str | None, integrator: str) -> tuple[bayesdcm.TaskDCM, bayesdcm.BoldData]:
    source = bayesdcm.read_spm_dcm(path) if path else bayesdcm.load_example("attention")
    return dataclasses.replace(source.model, integrator=integrator), source.data


def measure(path: str | None, integrator: str, repeats: int) -> dict[str, Any]:
    import numpyro  # noqa: F401

    model, data = problem(path, integrator)

    def call() -> bayesdcm.Fit:
        return bayesdcm.fit(model, data, "laplace")

    def judged() -> None:
        found = call()
        found.summary()
        found.diagnose()

    fit, first = timed(call)
    warm = median_cost(call, repeats)
    judged()
    with_judgement = median_cost(judged, repeats)
    return {
        "integrator": integrator,
        "free energy": f"{fit.log_evidence:.2f}",
        "iterations": fit.status["n_iterations"],
        "first CPU s": first.cpu,
        "first wall s": first.wall,
        "warm CPU s": warm.cpu,
        "warm wall s": warm.wall,
        "warm, with diagnosis, CPU s": with_judgement.cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", help="a DCM_*.mat file; the bundled example if none")
    parser.add_argument("--reference-seconds", type=float, help="CPU s of another program")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="3 repeats")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    repeats = 3 if options.quick else options.repeats
    if options.child:
        print(json.dumps(measure(options.path, options.child, repeats)))
        return
    path = [options.path] if options.path else []
    rows = [
        in_fresh_process(__file__, [integrator, "--repeats", str(repeats), *path])
        for integrator in INTEGRATORS
    ]
    for row in rows:
        if options.reference_seconds:
            row["reference / warm"] = options.reference_seconds / row["warm CPU s"]
    print(f"{options.path and options.path.rpartition('/')[2] or 'Bundled example'}\n")
    print(table(rows))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
