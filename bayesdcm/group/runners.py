"""Who computes batches of fits: this process, or the workers of a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.group.batches import alike
from bayesdcm.infer.fitting import fit
from bayesdcm.infer.inversion import run_laplace, run_starts
from bayesdcm.infer.laplace import LaplaceResult
from bayesdcm.infer.method import Method
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.search import Found, search
from bayesdcm.infer.threads import n_cores, single_threaded_linear_algebra

Key = tuple[str, str]
Outcome = tuple[Key, Any]

# Subjects in one array program; more take memory and bring little.
LANES = 64
# Parts into which a batch is cut for each worker, so that a lost worker loses little.
PARTS_A_WORKER = 4

# NumPyro's tracing is not thread-safe: a worker with several threads compiles one at a time.
_tracing = threading.Lock()


@dataclass(frozen=True, eq=False)
class Batch:
    """Fits that are computed alike.

    Parameters
    ----------
    keys : list of (str, str)
        Model and subject of each.
    static : tuple
        Source, layout and settings of variational Laplace, which compiled code depends on.
    prepared, starts : list
        Data and starting points of each.
    call : tuple
        Arguments of `bayesdcm.fit` where the method is another; of a single fit.
    own : tuple of bool
        Of each array of the prepared data, whether fits have one of their own, or share it.
    whole : int
        Number of fits with those that are done: how a fit is computed must not depend on them.
    seeds : list of int
        Seed of each, where poor optima call for other starts; empty where they do not.
    """

    keys: list[Key]
    static: tuple = ()
    prepared: list[Any] = field(default_factory=list)
    starts: list[Any] = field(default_factory=list)
    call: tuple = ()
    own: tuple[bool, ...] = ()
    whole: int = 0
    seeds: list[int] = field(default_factory=list)

    def part(self, indices: Sequence[int]) -> Batch:
        """Some of the fits."""
        return Batch(
            [self.keys[i] for i in indices],
            self.static,
            [self.prepared[i] for i in indices],
            [self.starts[i] for i in indices],
            own=self.own,
            whole=self.whole,
            seeds=[self.seeds[i] for i in indices] if self.seeds else [],
        )


def batches_locally(batches: Sequence[Batch], side_by_side: str) -> Iterator[Outcome]:
    """Compute batches in this process.

    Parameters
    ----------
    batches : sequence of Batch
        What to compute.
    side_by_side : {"auto", "threads", "vectorized"}
        Whether fits are lanes of one array program, or run on one core each.

    Yields
    ------
    tuple
        Key, and what was found: `Found`, parts of a fit, or the exception.
    """
    for batch in batches:
        if batch.call:
            yield batch.keys[0], _attempt(_other_method, batch.call)
        else:
            for key, found in _runner(batch, side_by_side)(batch):
                yield key, _attempt(_searched, (batch, key, found))


def _searched(batch: Batch, key: Key, found: Any) -> Found:
    """What `bayesdcm.fit` does with the optimum of the first start."""
    if isinstance(found, Exception):
        raise found
    if not batch.seeds:
        return Found(found, None)
    i = batch.keys.index(key)
    return search(batch.static, batch.prepared[i], found, batch.starts[i][0], batch.seeds[i])


def _runner(batch: Batch, side_by_side: str) -> Callable[[Batch], Iterator[Outcome]]:
    """What computes a batch."""
    if jax.default_backend() != "cpu":
        return _threaded if side_by_side == "threads" else _vectorized
    return _vectorized if side_by_side == "vectorized" else _threaded


def batches_on(client: Any, batches: Sequence[Batch], side_by_side: str) -> Iterator[Outcome]:
    """Compute batches on the workers of a cluster.

    Parameters
    ----------
    client : dask.distributed.Client
        The cluster. Work of a worker that is lost is given to another.
    batches : sequence of Batch
        What to compute.
    side_by_side : str
        As in `batches_locally`, on each worker.

    Yields
    ------
    tuple
        As `batches_locally`, in the order in which they are done.
    """
    from distributed import as_completed as completed

    n_workers = max(len(client.scheduler_info()["workers"]), 1)
    parts = [part for batch in batches for part in _parts(batch, n_workers * PARTS_A_WORKER)]
    sent = [jax.tree.map(_plain, part, is_leaf=lambda x: isinstance(x, Batch)) for part in parts]
    futures = [
        client.submit(_on_worker, part, side_by_side, pure=False, retries=1) for part in sent
    ]
    keys = {future.key: part.keys for future, part in zip(futures, parts, strict=True)}
    try:
        for future in completed(futures):
            error = future.exception()
            if error is None:
                yield from future.result()
            else:
                yield from ((key, error) for key in keys[future.key])
            # The scheduler may forget results that are on disk.
            future.release()
    finally:
        client.cancel(futures)


def _parts(batch: Batch, number: int) -> list[Batch]:
    if batch.call:
        return [batch]
    n = len(batch.keys)
    return [batch.part(indices) for indices in np.array_split(np.arange(n), min(number, n))]


def _plain(batch: Batch) -> Batch:
    """Without arrays that live on a device."""
    return Batch(
        batch.keys,
        batch.static,
        jax.tree.map(np.asarray, batch.prepared),
        [np.asarray(start) for start in batch.starts],
        batch.call,
        batch.own,
        batch.whole,
        batch.seeds,
    )


def _on_worker(batch: Batch, side_by_side: str) -> list[Outcome]:
    import bayesdcm  # noqa: F401  a worker must know its settings before it computes

    with _tracing, single_threaded_linear_algebra():
        return list(batches_locally([batch], side_by_side))


def _attempt(function: Any, arguments: tuple) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _other_method(model: Any, data: Any, method: Method, seed: int) -> Posterior:
    return fit(model, data, method, seed=seed, progress=False).posterior


def _one(batch: Batch, i: int) -> LaplaceResult:
    return run_starts(*batch.static, batch.prepared[i], jnp.asarray(batch.starts[i]), workers=1)


def _threaded(batch: Batch) -> Iterator[Outcome]:
    # The first compiles; the threads then only run.
    yield batch.keys[0], _attempt(_one, (batch, 0))
    with ThreadPoolExecutor(n_cores()) as pool:
        futures = {
            pool.submit(_attempt, _one, (batch, i)): batch.keys[i]
            for i in range(1, len(batch.keys))
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            # On Ctrl-C, what has not begun is left.
            pool.shutdown(cancel_futures=True)


def _vectorized(batch: Batch) -> Iterator[Outcome]:
    n = len(batch.keys)
    for first in range(0, n, LANES):
        chosen = list(range(first, min(first + LANES, n)))
        # Lanes that are left over repeat a subject, so that there is one program for all.
        width = LANES if n > LANES else n
        lanes = chosen + chosen[-1:] * (width - len(chosen))
        part = batch.part(lanes)
        found = _attempt(_run_lanes, (part,))
        for lane, i in enumerate(chosen):
            if isinstance(found, Exception):
                yield batch.keys[i], found
            else:
                yield batch.keys[i], jax.tree.map(lambda leaf, lane=lane: leaf[lane], found)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _lanes(source: Any, sites: Any, settings: tuple, prepared: Any, starts: jax.Array) -> Any:
    return jax.vmap(lambda p, s: run_laplace(source, sites, settings, p, s))(prepared, starts)


def _run_lanes(batch: Batch) -> LaplaceResult:
    prepared = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike(batch.prepared))
    starts = jnp.stack([jnp.asarray(start) for start in batch.starts])
    return jax.tree.map(np.asarray, _lanes(*batch.static, prepared, starts))
