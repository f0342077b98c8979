"""NUTS on a task-fMRI DCM: effective draws for the CPU time of the whole call.

    python ci/benchmarks/nuts.py                    the bundled example
    python ci/benchmarks/nuts.py DCM_example.mat    a DCM that SPM saved

The first call is that of a fresh process: finding the starting point by variational Laplace,
compilation, warm-up and sampling are all in it (imports of JAX and NumPyro are not). The second
call differs in its seed only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from measure import Cost, in_fresh_process, machine, table, timed

import bayesdcm

INTEGRATORS = ("bilinear", "nonlinear")


def measure(
    path: str | None, integrator: str, chains: int, warmup: int, draws: int
) -> list[dict[str, Any]]:
    import numpyro  # noqa: F401

    source = bayesdcm.read_spm_dcm(path) if path else bayesdcm.load_example("attention")
    model = dataclasses.replace(source.model, integrator=integrator)

    def call(seed: int) -> tuple[bayesdcm.Fit, Cost]:
        return timed(
            lambda: bayesdcm.fit(
                model, source.data, "nuts", seed=seed, progress=False,
                chains=chains, warmup=warmup, draws=draws,
            )
        )  # fmt: skip

    rows = []
    for name, seed in (("first", 1), ("second", 2)):
        fit, cost = call(seed)
        summary, statistics = fit.summary(), fit.idata.sample_stats
        ess = float(summary["ess_bulk"].min())
        rows.append(
            {
                "integrator": integrator,
                "call": name,
                "CPU s": cost.cpu,
                "wall s": cost.wall,
                "steps a draw": float(statistics.n_steps.mean()),
                "smallest bulk ESS": ess,
                "largest R-hat": f"{summary['r_hat'].max():.4f}",
                "divergences": int(statistics.diverging.sum()),
                "ESS per CPU s": ess / cost.cpu,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", help="a DCM_*.mat file; the bundled example if none")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--draws", type=int, default=750)
    parser.add_argument("--quick", action="store_true", help="100 warm-up and 100 draws")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.warmup = options.draws = 100
    lengths = (options.chains, options.warmup, options.draws)
    if options.child:
        print(json.dumps(measure(options.path, options.child, *lengths)))
        return
    arguments = [
        f"--{name}={value}"
        for name, value in zip(("chains", "warmup", "draws"), lengths, strict=True)
    ]
    arguments += [options.path] if options.path else []
    rows = []
    for integrator in INTEGRATORS:
        rows += in_fresh_process(__file__, [integrator, *arguments])
    print(f"{options.path and options.path.rpartition('/')[2] or 'Bundled example'}: ", end="")
    print(f"{options.chains} chains, {options.warmup} warm-up, {options.draws} draws each\n")
    print(table(rows))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
