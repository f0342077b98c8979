"""Variational Laplace of many subjects side by side on each core of a CPU.

Each core takes iterations of sixteen fits at once, in programs that compute them together
(`bayesdcm.observe.side_by_side`). A fit that has converged makes room for the next one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.infer.density import Layout
from bayesdcm.infer.inversion import has_stages
from bayesdcm.infer.laplace import (
    LaplaceResult,
    advance,
    begin,
    derivatives_at,
    finished,
    result_of,
)
from bayesdcm.infer.threads import n_cores
from bayesdcm.integrate.step_derivative import many_directions
from bayesdcm.models import TaskDCM
from bayesdcm.observe.side_by_side import subjects_side_by_side

# Fits in one program: with fewer, the steps of its loops cost more than the arithmetic in them;
# with more, cores wait longer for the last fits of a group.
LANES = 16
# Each core runs a program of its own.
ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}


class Job(NamedTuple):
    """A fit from one starting point.

    Attributes
    ----------
    key : tuple
        What it is.
    prepared : pytree
        Data.
    start : array
        Flat starting point, shape (size,).
    """

    key: tuple
    prepared: Any
    start: Any


class _Lanes(NamedTuple):
    """Fits under way, each array with a first axis of lanes."""

    prepared: Any
    start: jax.Array
    attempt: Any


def suited(source: Any, sites: Layout, settings: tuple[int, str]) -> bool:
    """Whether the response of a model is written for subjects side by side.

    Parameters
    ----------
    source, sites, settings
        As `bayesdcm.infer.inversion.run_laplace` takes them.

    Returns
    -------
    bool
        True for task DCMs with the nonlinear integrator, of which no region gates connections and
        each has one state, and exact derivatives.
    """
    model = getattr(source, "model", None)
    # Of a subclass, the response may be another.
    known = type(model) is TaskDCM and model.integrator == "nonlinear" and model.neural.affine
    return known and settings[1] == "exact" and not has_stages(sites)


def enough() -> int:
    """How many fits fill the lanes of all cores; for fewer, compiling is not worth it."""
    return LANES * n_cores()


def run_side_by_side(
    source: Any,
    sites: Layout,
    settings: tuple[int, str],
    jobs: Sequence[Job],
    own: tuple[bool, ...],
) -> Iterator[tuple[tuple, LaplaceResult | Exception]]:
    """Compute fits side by side.

    Parameters
    ----------
    source, sites, settings
        As `bayesdcm.infer.inversion.run_laplace` takes them.
    jobs : sequence of Job
        The fits.
    own : tuple of bool
        Of each array of the prepared data, whether fits have one of their own; they share the
        others.

    Yields
    ------
    tuple
        Key of a job, and its result as NumPy arrays or the exception.
    """
    static = (source, sites, settings[0])
    try:
        first = _Lanes(jobs[0].prepared, jnp.asarray(jobs[0].start), None)
        first = first._replace(attempt=_begin(*static, first.prepared, first.start))
        # Lanes without a job repeat the first: there is one program for any number.
        lanes = _mapped(own, lambda array: np.stack([array] * LANES), first)
        program = _advance.lower(*static, own, lanes).compile(ONE_THREAD)
    except Exception as error:
        yield from ((job.key, error) for job in jobs)
        return
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    crew = _Crew(static, own, program, waiting, queue.SimpleQueue(), threading.Event())
    with ThreadPoolExecutor(n_cores()) as pool:
        working = [pool.submit(crew.work, lanes) for _ in range(n_cores())]
        try:
            for _ in jobs:
                yield crew.done.get()
        finally:
            crew.stop.set()
            wait(working)


class _Crew(NamedTuple):
    """What the threads share.

    Attributes
    ----------
    static : tuple
        Source, sites and iterations at most.
    own : tuple of bool
        As in `run_side_by_side`.
    program : callable
        An iteration of all lanes.
    waiting : queue of Job
        Fits that nobody has begun.
    done : queue of (key, result or exception)
        What is finished.
    stop : threading.Event
        Set when no more is wanted.
    """

    static: tuple
    own: tuple[bool, ...]
    program: Any
    waiting: queue.SimpleQueue
    done: queue.SimpleQueue
    stop: threading.Event

    def work(self, lanes: _Lanes) -> None:
        """Fit what is waiting."""
        jobs: dict[int, Job] = {}
        try:
            while not self.stop.is_set():
                lanes = self._filled(lanes, jobs)
                if not jobs and self.waiting.empty():
                    return
                lanes, finished_lanes = self.program(lanes)
                for lane in np.flatnonzero(np.asarray(finished_lanes)):
                    if lane in jobs:
                        state = jax.tree.map(
                            lambda a, i=lane: np.asarray(a)[i], lanes.attempt.state
                        )
                        self.done.put((jobs.pop(lane).key, result_of(self.static[1], state)))
        except Exception as error:
            for job in [*jobs.values(), *_rest(self.waiting)]:
                self.done.put((job.key, error))

    def _filled(self, lanes: _Lanes, jobs: dict[int, Job]) -> _Lanes:
        """Lanes in which waiting jobs have taken the free ones."""
        for lane in range(LANES):
            if lane in jobs:
                continue
            try:
                job = self.waiting.get_nowait()
            except queue.Empty:
                break
            try:
                start = jnp.asarray(job.start)
                attempt = _begin(*self.static, job.prepared, start)
                lanes = _put(self.own, lanes, lane, _Lanes(job.prepared, start, attempt))
            except Exception as error:
                self.done.put((job.key, error))
            else:
                jobs[lane] = job
        return lanes


def _rest(waiting: queue.SimpleQueue) -> Iterator[Job]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def _mapped(own: tuple[bool, ...], function: Callable, lanes: _Lanes, *others: _Lanes) -> _Lanes:
    """A function on all arrays but those of prepared data that are shared."""
    leaves, tree = jax.tree.flatten(lanes.prepared)
    columns = zip(leaves, *(jax.tree.leaves(other.prepared) for other in others), strict=True)
    prepared = [
        function(*column) if mine else column[0] for mine, column in zip(own, columns, strict=True)
    ]
    rest = jax.tree.map(
        function, lanes._replace(prepared=None), *(o._replace(prepared=None) for o in others)
    )
    return rest._replace(prepared=jax.tree.unflatten(tree, prepared))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(source: Any, sites: Layout, max_iterations: int, prepared: Any, start: jax.Array) -> Any:
    return begin(source.bind(prepared), sites, start, max_iterations)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _advance(
    source: Any, sites: Layout, max_iterations: int, own: tuple[bool, ...], lanes: _Lanes
) -> tuple[_Lanes, jax.Array]:
    """An iteration of all lanes, and which of them are then finished."""

    def differentiate(lane: _Lanes) -> tuple:
        with many_directions(), subjects_side_by_side():
            return derivatives_at(
                source.bind(lane.prepared), sites, lane.start, lane.attempt.position
            )

    tree = jax.tree.structure(lanes.prepared)
    axes = jax.tree.unflatten(tree, [0 if mine else None for mine in own])
    found = jax.vmap(differentiate, in_axes=(_Lanes(axes, 0, 0),))(lanes)

    # One after the other: linear algebra of many small matrices at once gains nothing, and two
    # programs that do it side by side can wait for each other forever (XLA on the CPU).
    leaves = jax.tree.leaves(lanes.prepared)
    shared = [None if mine else leaf for mine, leaf in zip(own, leaves, strict=True)]

    def finish(given: tuple) -> tuple:
        mine, start, attempt, jacobian, residual = given
        mine = iter(mine)
        prepared = [next(mine) if leaf is None else leaf for leaf in shared]
        program = source.bind(jax.tree.unflatten(tree, prepared))
        attempt = advance(program, sites, start, attempt, jacobian, residual)
        return attempt, finished(attempt.state, max_iterations)

    mine = [leaf for each, leaf in zip(own, leaves, strict=True) if each]
    attempt, done = jax.lax.map(finish, (mine, lanes.start, lanes.attempt, *found))
    return lanes._replace(attempt=attempt), done


@partial(jax.jit, static_argnums=0)
def _put(own: tuple[bool, ...], lanes: _Lanes, lane: jax.Array, job: _Lanes) -> _Lanes:
    return _mapped(own, lambda array, new: array.at[lane].set(new), lanes, job)
