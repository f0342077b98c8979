"""Trials of networks of hnn-core, simulated by processes side by side and kept in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from bayesdcm.data.drive import CELLS

WORKER = Path(__file__).with_name("hnn_worker.py")
# Shown of what a process that failed had said.
LAST_WORDS = 2000


class Trial(NamedTuple):
    """What came of one trial.

    The dipole is that of the column, of layer 2/3 and of layer 5, (3, times) in nAm; spikes are
    counted in each ms by kind of cell; events are the times, in ms, at which the cells of each
    drive fired.
    """

    dipole: NDArray[np.float64]
    spikes: dict[str, NDArray[np.int64]]
    events: dict[str, list[list[float]]]


def simulate_trials(
    networks: Sequence[Mapping[str, Any]],
    duration: float,
    step: float,
    *,
    n_jobs: int,
    folder: Path | None,
    progress: bool,
) -> list[Trial]:
    """One trial of each network, of so many ms; those that the folder has are not simulated anew.

    A trial is found by all that it depends on. Where the run is stopped, trials that are done stay
    in the folder.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept = scratch if folder is None else folder
        kept.mkdir(parents=True, exist_ok=True)
        files = [kept / f"trial-{_key(each, duration, step)}.npz" for each in networks]
        missing = {f: each for f, each in zip(files, networks, strict=True) if not f.exists()}
        shown = progress and bool(missing)
        bar = stack.enter_context(
            tqdm(total=len(missing), desc="hnn-core", unit="trial", leave=False, disable=not shown)
        )
        workers = stack.enter_context(_Workers(scratch))
        # Left before the workers are ended, which frees threads that wait for them.
        pool = ThreadPoolExecutor(max(1, min(n_jobs, len(missing))))
        tasks = [
            pool.submit(workers.run, each, file, duration, step) for file, each in missing.items()
        ]
        try:
            for task in as_completed(tasks):
                task.result()
                bar.update(1)
        except BaseException:
            workers.end()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [_read(file, duration) for file in files]


class _Workers:
    """One process for each thread that asks, each with hnn-core loaded once."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._local = threading.local()
        self._processes: list[subprocess.Popen] = []
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: Any) -> None:
        self.end()

    def run(self, network: Mapping[str, Any], result: Path, duration: float, step: float) -> None:
        """Have a network simulated; RuntimeError with what hnn-core said where it failed."""
        if not hasattr(self._local, "process"):
            self._local.process, self._local.said = self._start()
        process = self._local.process
        file = self._scratch / f"network-{result.stem}.json"
        file.write_text(json.dumps(network), encoding="utf-8")
        task = {"network": str(file), "result": str(result), "duration": duration, "step": step}
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        file.unlink()
        if not answer:
            process.wait()
            words = self._local.said.read_text(errors="replace")[-LAST_WORDS:]
            raise RuntimeError(
                f"the process that ran hnn-core ended with code {process.returncode}; trials that "
                f"were done are kept where cache= is given. It said last: {words}"
            )
        fault = json.loads(answer)["fault"]
        if fault:
            raise RuntimeError(f"hnn-core failed to simulate a trial:\n{fault}")

    def end(self) -> None:
        """End all processes."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.kill()
                process.wait()
                process.stdin.close()
                process.stdout.close()
            self._processes.clear()

    def _start(self) -> tuple[subprocess.Popen, Path]:
        with self._lock:
            if self._ended:
                raise RuntimeError("the run was stopped")
            said = self._scratch / f"said-{len(self._processes)}.txt"
            with said.open("wb") as errors:
                process = subprocess.Popen(
                    # Unbuffered, so that the last words of a process that ends are not lost.
                    [sys.executable, "-u", str(WORKER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    # One thread each, and no search for a display.
                    env=os.environ | {"OMP_NUM_THREADS": "1", "NEURON_MODULE_OPTIONS": "-nogui"},
                )
            self._processes.append(process)
            return process, said


def installed_version(package: str) -> str:
    """Version of an installed package, or "unknown"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _key(network: Mapping[str, Any], duration: float, step: float) -> str:
    versions = [installed_version(package) for package in ("hnn-core", "neuron")]
    whole = json.dumps([network, float(duration), float(step), versions])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def _read(file: Path, duration: float) -> Trial:
    with np.load(file) as stored:
        about = json.loads(str(stored["about"]))
        edges = np.arange(int(np.ceil(duration)) + 1)
        times, kinds = stored["spike_times"], stored["spike_cells"]
        spikes = {
            cell: np.histogram(times[kinds == about["cells"].index(cell)], edges)[0]
            for cell in CELLS
            if cell in about["cells"]
        }
        return Trial(stored["dipole"], spikes, about["events"])
