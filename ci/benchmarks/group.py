"""Fits of a group: time of a subject beside that of a single fit, and runs that are killed.

    python ci/benchmarks/group.py
    python ci/benchmarks/group.py --kills 20

Without ``--kills``: 64 simulated subjects of three regions, variational Laplace, in one call of
`fit_group`, beside warm calls of `fit` for the first 16 of them, several times in turns; and
whether the free energies are the same. With it: the same kind of run in a process of its own,
killed (SIGKILL) at random moments that many times and started again each time, until it is done;
then every fit is compared with those of an undisturbed run, and every file must have been written
once.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bayesdcm  # isort: skip  (before JAX: it sets double precision)

import numpy as np
from measure import Cost, machine, table, timed

from bayesdcm.group import fit_group, load_group


def subjects(number: int, n_scans: int, integrator: str) -> tuple[bayesdcm.TaskDCM, dict]:
    """A model and simulated data of the bundled example's structure."""
    example = bayesdcm.load_example("attention")
    full = example.data
    bins = len(full.inputs) // full.n_scans
    design = bayesdcm.BoldData(
        full.signal[:n_scans],
        full.repetition_time,
        full.inputs[: n_scans * bins],
        full.input_dt,
    )
    own = example.model
    model = bayesdcm.TaskDCM(A=own.A, B=own.B, C=own.C, integrator=integrator)
    data = {
        f"sub-{i + 1:03d}": model.simulate(example.parameters, design, seed=i, snr=3.0)
        for i in range(number)
    }
    return model, data


def speed(options: argparse.Namespace) -> None:
    """Time of a subject in a group over that of a single warm fit."""
    model, data = subjects(options.subjects, options.scans, options.integrator)
    some = list(data.values())[:16]
    _, first = timed(lambda: bayesdcm.fit(model, some[0]))
    _, first_group = timed(lambda: fit_group(model, data, progress=False))
    # In turns: the speed of a machine changes within minutes.
    alone, together, ratios, apart = [], [], [], 0.0
    for _ in range(options.rounds):
        apiece, took = timed(lambda: [bayesdcm.fit(model, each).log_evidence for each in some])
        alone.append(took)
        group, took = timed(lambda: fit_group(model, data, progress=False))
        together.append(took)
        shared = [fit.log_evidence for fit in group[:16]]
        apart = max(apart, np.abs(np.subtract(shared, apiece)).max())
        ratios.append(took.wall / len(data) / (alone[-1].wall / len(some)))
    written = []
    for _ in range(2):  # what is written is compiled by the first
        with tempfile.TemporaryDirectory() as folder:
            group, took = timed(lambda out=folder: fit_group(model, data, out=out, progress=False))
            written.append(took)
            shared = [fit.log_evidence for fit in group[:16]]
            apart = max(apart, np.abs(np.subtract(shared, apiece)).max())
    single = _median(alone).wall / len(some)
    rows = [
        _row("first call of fit", first, 1, single),
        _row("warm fit", _median(alone), len(some), single),
        _row("a subject of fit_group, first call", first_group, len(data), single),
        _row("a subject of fit_group, in memory", _median(together), len(data), single),
        _row("a subject of fit_group, first with out=", written[0], len(data), single),
        _row("a subject of fit_group, with out=", written[1], len(data), single),
    ]
    print(f"{len(data)} subjects, {options.scans} scans, integrator {options.integrator!r}")
    print(table(rows))
    print(
        f"Subject in memory over warm fit, {options.rounds} rounds in turns: median "
        f"{np.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
    )
    print(f"Largest difference of free energies from single fits: {apart:.1e} nat")


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(float(np.median(values)) for values in zip(*costs, strict=True)))


def _row(name: str, took: Cost, calls: int, single: float) -> dict:
    wall = took.wall / calls
    return {
        "": name,
        "wall, ms": 1e3 * wall,
        "CPU, ms": 1e3 * took.cpu / calls,
        "of a warm fit": wall / single,
    }


def kills(options: argparse.Namespace) -> None:
    """Kill a run at random moments, and see what is left of it."""
    random = np.random.default_rng(options.seed)
    command = [sys.executable, __file__, "--scans", str(options.scans)]
    command += ["--subjects", str(options.subjects), "--integrator", options.integrator]
    with tempfile.TemporaryDirectory() as folder:
        # Programs compiled once serve all runs, so that kills fall on fits and writing, too.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder, "compiled"))
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        first, calm, harried = (Path(folder, name) for name in ("first", "calm", "harried"))
        subprocess.run([*command, "--run", str(first)], check=True)
        started = time.perf_counter()
        subprocess.run([*command, "--run", str(calm)], check=True)
        whole = time.perf_counter() - started
        moments = _written(calm).values()
        writing = 1e-9 * (max(moments) - min(moments))
        seen: dict[str, int] = {}
        done = 0
        while done < options.kills:
            process = subprocess.Popen([*command, "--run", str(harried)])
            # Half of them at any moment of a run, most of which is tracing and loading programs;
            # the others while fits are done and written.
            try:
                if done % 2:
                    process.wait(random.uniform(0.0, 1.0) * whole)
                else:
                    while _written(harried).keys() <= seen.keys() and process.poll() is None:
                        time.sleep(0.002)
                    process.wait(random.uniform(0.0, 1.0) * writing)
                assert process.returncode == 0, "a run that goes on after a kill failed"
                _check(seen, _written(harried))
                # It finished: some fits are taken away, so that there is something to kill.
                for path in list(harried.glob("*.nc"))[::2]:
                    path.unlink()
                seen = _written(harried)
                continue
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                done += 1
            written = _written(harried)
            _check(seen, written)
            print(f"kill {done}: {len(written) - len(seen)} more, {len(written)} fits", flush=True)
            seen = written
        subprocess.run([*command, "--run", str(harried)], check=True)
        _check(seen, _written(harried))
        same = 0
        for mine, theirs in zip(load_group(harried), load_group(calm), strict=True):
            equal = mine.log_evidence == theirs.log_evidence
            same += equal and bool((mine.covariance == theirs.covariance).all(axis=None))
        print(f"{same} of {options.subjects} fits are identical to those of a run left alone")


def _check(seen: dict[str, int], written: dict[str, int]) -> None:
    repeated = [name for name, at in seen.items() if written.get(name) != at]
    assert not repeated, f"lost or repeated: {repeated}"


def _written(folder: Path) -> dict[str, int]:
    """When each fit was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nc")}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--scans", type=int, default=160)
    parser.add_argument("--integrator", choices=("nonlinear", "bilinear"), default="nonlinear")
    parser.add_argument("--rounds", type=int, default=7, help="of both, in turns")
    parser.add_argument("--kills", type=int, default=0, help="kill a run this many times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        fit_group(*subjects(options.subjects, options.scans, options.integrator), out=options.run,
                  progress=False)  # fmt: skip
        return
    print(machine())
    kills(options) if options.kills else speed(options)


if __name__ == "__main__":
    main()
