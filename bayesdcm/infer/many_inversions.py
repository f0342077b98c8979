"""Many inversions of one shape, from several starts and of several data sets, as suits the device.

On a GPU inversions are computed side by side by one array program. On a CPU each core takes one at
a time, with the program of a single inversion: arrays of many do not fit the caches of a core, and
linear algebra of several matrices at once is slower there (`bayesdcm.infer.threads`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.infer.batches import attempt
from bayesdcm.infer.inversion import run_laplace
from bayesdcm.infer.laplace import LaplaceResult
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.threads import map_rows, n_cores

# Inversions in one array program; more take memory and bring little.
LANES = 64


class _Job(NamedTuple):
    """An inversion of a data set from one start, known by the places of both."""

    key: tuple[int, int]
    prepared: Any
    start: NDArray


Outcome = tuple[tuple[int, int], LaplaceResult | Exception]


def run_starts(
    source: Any,
    sites: Any,
    settings: tuple[int, str],
    prepared: Any,
    starts: ArrayLike,
    progress: bool = False,
) -> LaplaceResult:
    """Variational Laplace of one data set from flat starts (starts, size), one row a start.

    `progress` says whether to show how many are done.
    """
    points = np.asarray(starts)
    rows: list[Any] = [None] * len(points)
    each = invert_all((source, sites, settings), [prepared] * len(points), points[:, None])
    with Progress("variational Laplace", len(points), "start", progress) as shown:
        for place, row in each:
            if isinstance(row, Exception):
                raise row
            rows[place] = row
            if progress:
                shown.advance(1)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows)


def invert_all(
    static: tuple, prepared: Sequence[Any], starts: Sequence[ArrayLike], side_by_side: str = "auto"
) -> Iterator[tuple[int, LaplaceResult | Exception]]:
    """Variational Laplace of data sets of one shape, each from flat starts (starts, size).

    `static` is source, layout and settings, as `bayesdcm.infer.inversion.run_laplace` takes them;
    `side_by_side` says whether inversions run on one core each (``"threads"``), or are lanes of one
    array program (``"vectorized"``, ``"auto"`` on a GPU). Yields the place of a data set, and its
    results as NumPy arrays, one row a start, or the exception, in the order in which they are done.
    """
    jobs = [
        _Job((i, k), prepared[i], start)
        for i, points in enumerate(starts)
        for k, start in enumerate(points)
    ]
    results: list[dict[int, Any]] = [{} for _ in starts]
    if side_by_side == "auto":
        side_by_side = "threads" if jax.default_backend() == "cpu" else "vectorized"
    run = _on_threads if side_by_side == "threads" or len(jobs) == 1 else _vectorized
    for (i, k), result in run(static, jobs):
        results[i][k] = result
        if len(results[i]) == len(starts[i]):
            rows = [results[i].pop(k) for k in range(len(starts[i]))]
            errors = [row for row in rows if isinstance(row, Exception)]
            yield i, errors[0] if errors else jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _inverted(static: tuple, job: _Job) -> LaplaceResult:
    return jax.tree.map(np.asarray, run_laplace(*static, job.prepared, np.asarray(job.start)))


def _on_threads(static: tuple, jobs: Sequence[_Job]) -> Iterator[Outcome]:
    # The first compiles; the threads then only run.
    for job in jobs[:1]:
        yield job.key, attempt(_inverted, static, job)
    if len(jobs) < 2:
        return
    with ThreadPoolExecutor(n_cores()) as pool:
        keys = {pool.submit(attempt, _inverted, static, job): job.key for job in jobs[1:]}
        try:
            for future in as_completed(keys):
                yield keys[future], future.result()
        finally:
            # On Ctrl-C, what has not begun is left.
            pool.shutdown(cancel_futures=True)


def _vectorized(static: tuple, jobs: Sequence[_Job]) -> Iterator[Outcome]:
    width = min(len(jobs), LANES)
    for first in range(0, len(jobs), width):
        part = jobs[first : first + width]
        # Lanes that are left over repeat the last, so that there is one program for all.
        lanes = [*part, *part[-1:] * (width - len(part))]
        results = attempt(_run_lanes, static, lanes)
        for lane, job in enumerate(part):
            failed = isinstance(results, Exception)
            yield job.key, results if failed else jax.tree.map(lambda a, k=lane: a[k], results)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _lanes(source: Any, sites: Any, settings: tuple, prepared: Any, starts: jax.Array) -> Any:
    return map_rows(lambda row: run_laplace(source, sites, settings, *row), (prepared, starts))


def _run_lanes(static: tuple, jobs: Sequence[_Job]) -> LaplaceResult:
    prepared = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(job.prepared for job in jobs))
    starts = jnp.stack([jnp.asarray(job.start) for job in jobs])
    return jax.tree.map(np.asarray, _lanes(*static, prepared, starts))
