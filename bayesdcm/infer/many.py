"""The runner of many problems: subjects, models, starts, re-estimation; here or on a cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

import jax
import numpy as np

from bayesdcm.infer.batches import Batch, Task, batches_of
from bayesdcm.infer.fitting import fit_of
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.results import Fit
from bayesdcm.infer.threads import single_threaded_linear_algebra

logger = logging.getLogger("bayesdcm")

SIDE_BY_SIDE = ("auto", "threads", "vectorized")
# Parts into which a batch is cut for each worker, so that a lost worker loses little.
PARTS_A_WORKER = 4

# NumPyro's tracing is not thread-safe: a worker with several threads compiles one at a time.
_tracing = threading.Lock()

Key = Hashable
Outcome = tuple[Key, Posterior | Exception]


class FitStore(Protocol):
    """Where `fit_many` puts what is finished: memory, or files."""

    def __contains__(self, key: Key) -> bool:
        """Whether a fit is there."""

    def write(self, key: Key, fit: Fit) -> None:
        """Keep a fit."""

    def write_failure(self, key: Key, reason: str) -> None:
        """Keep why there is no fit."""


def fit_many(
    tasks: Mapping[Key, Task | Exception],
    store: FitStore,
    *,
    client: Any = None,
    side_by_side: str = "auto",
    progress: bool = True,
    title: str = "fit",
) -> dict[Key, str]:
    """Fit all tasks of which a store has no fit; one that fails stops no other.

    An exception in the place of a task is why it could not be set up. Returns reasons of those that
    failed, by key. When it is stopped by Ctrl-C, what is done is kept; KeyboardInterrupt is raised
    if nothing is. Other arguments are those of `run_many`.
    """
    reasons: dict[Key, str] = {}

    def fail(key: Key, error: Exception) -> None:
        reasons[key] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        name = key[-1] if isinstance(key, tuple) else key
        logger.warning("%s: %s could not be fitted: %s", title, name, reasons[key])
        logger.debug("traceback of the failure", exc_info=error)
        store.write_failure(key, reasons[key])

    for key, task in tasks.items():
        if isinstance(task, Exception):
            fail(key, task)
    ready = {key: task for key, task in tasks.items() if isinstance(task, Task)}
    missing = {key for key in ready if key not in store}
    n_done = len(tasks) - len(missing)
    outcomes = run_many(
        ready, missing, client=client, side_by_side=side_by_side, progress=progress, title=title
    )
    try:
        with closing(outcomes):
            for key, outcome in outcomes:
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    store.write(key, fit_of(ready[key], outcome))
                except Exception as error:
                    fail(key, error)
                n_done += 1
    except KeyboardInterrupt:
        if not n_done:
            raise
        logger.warning("%s was stopped: %d of %d fits are done", title, n_done, len(tasks))
    return reasons


def run_many(
    tasks: Mapping[Key, Task],
    missing: Collection[Key] | None = None,
    *,
    client: Any = None,
    side_by_side: str = "auto",
    progress: bool = True,
    title: str = "fit",
) -> Iterator[Outcome]:
    """Infer the posteriors of many problems, those that share a compiled program together.

    All tasks are given, and the keys of those that are still to do (default: all): what one gives
    does not depend on how many others are left. With `client`, a dask.distributed.Client, workers
    of a cluster do them, and work of a worker that is lost is given to another. `side_by_side`
    ("auto", "threads" or "vectorized") is as in `bayesdcm.fit_group`. Yields key and posterior, or
    the exception, in the order in which they are done.
    """
    batches = list(batches_of(tasks, missing))
    n_missing = sum(len(batch.keys) for batch in batches)
    outcomes = (
        _run_here(batches, side_by_side)
        if client is None
        else _run_on(client, batches, side_by_side)
    )
    shown = Progress(title, len(tasks), "fit", progress, done=len(tasks) - n_missing)
    with shown, closing(outcomes), single_threaded_linear_algebra():
        for outcome in outcomes:
            yield outcome
            shown.advance(1)


def _run_here(batches: Sequence[Batch], side_by_side: str) -> Iterator[Outcome]:
    for batch in batches:
        yield from batch.tasks[0].method.run_many(batch, side_by_side)


def _run_on(client: Any, batches: Sequence[Batch], side_by_side: str) -> Iterator[Outcome]:
    from distributed import as_completed

    n_workers = max(len(client.scheduler_info()["workers"]), 1)
    parts = [part for batch in batches for part in batch.parts(n_workers * PARTS_A_WORKER)]
    futures = [
        client.submit(_on_worker, _to_send(part), side_by_side, pure=False, retries=1)
        for part in parts
    ]
    keys = {future.key: part.keys for future, part in zip(futures, parts, strict=True)}
    try:
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                yield from future.result()
            else:
                yield from ((key, error) for key in keys[future.key])
            # The scheduler may forget results that are on disk.
            future.release()
    finally:
        client.cancel(futures)


def _to_send(batch: Batch) -> Batch:
    """The same without arrays that live on a device, and what only results need."""

    def bare(problem: Problem) -> Problem:
        prepared = jax.tree.map(np.asarray, problem.prepared)
        needed = problem.source, prepared, problem.sites, problem.labels
        return Problem(*needed, {}, {}, {}, np.asarray, np.asarray, None, problem.description)

    return replace(batch, tasks=[task._replace(problem=bare(task.problem)) for task in batch.tasks])


def _on_worker(batch: Batch, side_by_side: str) -> list[Outcome]:
    import bayesdcm  # noqa: F401  a worker must know its settings before it computes

    with _tracing, single_threaded_linear_algebra():
        return list(_run_here([batch], side_by_side))
