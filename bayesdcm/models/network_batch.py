"""Runs of a network from the host: stretch by stretch, many simulations in chunks that fit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray
from tqdm.auto import tqdm

from bayesdcm.data.by_value import ByValue
from bayesdcm.models.network_run import Plan, Wiring, begin, even_stretch, stretch

# The chunk that compiles runs alone; the more chunks there are, the less that matters.
CHUNKS_A_CORE = 4

Results = tuple[dict[str, NDArray], list[NDArray], NDArray]


def in_chunks(
    plan: Plan,
    observers: Sequence[Any],
    wiring: Wiring,
    varied: frozenset[str] | None,
    begin_with: tuple[Any, Any],
    stimulus: Mapping[str, Any],
    steps: tuple[int, int],
    chunk: int,
    progress: bool,
) -> Results:
    """Simulate, and bring to the host what is recorded and what observers make of it.

    Parameters
    ----------
    plan : Plan
        Constants.
    observers : sequence of SeriesObserver
        What sees the steps after the transient.
    wiring : Wiring
        The network; with several simulations, keys and varied parameters have a leading axis.
    varied : frozenset of str or None
        Parameters that differ between simulations; None: one simulation, without leading axis.
    begin_with : tuple
        States and history to begin with, or None.
    stimulus : mapping of str to array
        What is added to afferents after the transient, shape (steps, nodes), or at all times,
        shape (nodes,).
    steps : (int, int)
        Of the transient, and after it.
    chunk : int
        Simulations that run at once.
    progress : bool
        Whether to show progress.

    Returns
    -------
    dict of str to ndarray
        Recorded series, shape ([simulations,] steps, nodes).
    list of ndarray
        Results of the observers.
    ndarray
        Whether each simulation stayed finite.

    Raises
    ------
    ValueError
        If the recorded series alone are larger than the memory of the machine.
    """
    static = (plan, ByValue(tuple(observers)), varied)
    many = varied is not None
    total = len(wiring.key) if many else 1
    shape = ((total,) if many else ()) + (steps[1], wiring.network.n_nodes)
    _check_size(shape, plan.recorded)
    recorded = {name: np.empty(shape) for name in plan.recorded}

    def run(first: int, bar: tqdm) -> tuple[list[NDArray], NDArray]:
        # The last chunk is filled up with its last simulation: one shape, one compilation.
        places = np.minimum(np.arange(first, first + chunk), total - 1)
        kept = min(chunk, total - first)
        part = _selected(wiring, varied, places) if many else wiring
        carry = _begin(*static, part, *begin_with, steps[1])
        for constants, at, seen in _stretches(static, steps):
            now = at.stop - at.start
            given = {name: stimulus_rows(value, at, seen) for name, value in stimulus.items()}
            carry, series = _stretch(*constants, part, carry, given, now)
            for name, values in series.items():
                if many:
                    recorded[name][first : first + kept, at] = values[:kept]
                else:
                    recorded[name][at] = values
            bar.update(now * kept)
        ends, finite = _finish(static[1], varied, part, carry)
        if not many:
            return [np.asarray(end) for end in ends], np.atleast_1d(finite)
        return [np.asarray(end)[:kept] for end in ends], np.asarray(finite)[:kept]

    amount = sum(steps) * total
    with tqdm(
        total=amount, leave=False, disable=not progress, unit="step", unit_scale=True, delay=2
    ) as bar:
        # The first one compiles; a program runs in one thread, so others share the cores.
        done = [run(0, bar)]
        with ThreadPoolExecutor(cores()) as pool:
            done += pool.map(lambda first: run(first, bar), range(chunk, total, chunk))
    results, finite = zip(*done, strict=True)
    if not many:
        return recorded, results[0], finite[0]
    joined = [np.concatenate(parts) for parts in zip(*results, strict=True)]
    return recorded, joined, np.concatenate(finite)


def chunk_size(simulations: int, fitting: int) -> int:
    """How many simulations a chunk has, so that chunks are even and every core has some.

    Parameters
    ----------
    simulations : int
        In all.
    fitting : int
        How many fit into memory at once.
    """
    largest = max(1, min(simulations, fitting // cores()))
    if cores() > 1:
        largest = min(largest, -(-simulations // (CHUNKS_A_CORE * cores())))
    return -(-simulations // -(-simulations // largest))


def cores() -> int:
    """How many programs run at once: on a CPU, one for each core."""
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


def physical_memory() -> float:
    """Bytes of memory that the machine has; infinite where it does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return np.inf


def _check_size(shape: tuple[int, ...], names: Sequence[str]) -> None:
    """Raise before long work, at the end of which the system would end the process."""
    size, memory = 8.0 * math.prod(shape) * len(names), physical_memory()
    if size > memory:
        *many, steps, regions = shape
        raise ValueError(
            f"the result has {steps} steps of {', '.join(names)} in {regions} regions"
            f"{f', of {many[0]} simulations' if many else ''}: {size / 1e9:.3g} GB, but the memory "
            f"is {memory / 1e9:.3g} GB. duration and step are in s; to keep less, give "
            "sampling_interval, observers or record"
        )


def _stretches(
    static: tuple[Any, ...], steps: tuple[int, int]
) -> Iterator[tuple[tuple[Any, ...], slice, bool]]:
    """Of each stretch: constants of the program, steps, and whether the transient is over."""
    made, _, varied = static
    unseen = (made._replace(recorded=()), ByValue(()), varied)
    for length, constants, seen in ((steps[0], unseen, False), (steps[1], static, True)):
        longest = even_stretch(made, length) if length else 1
        for done in range(0, length, longest):
            yield constants, slice(done, min(done + longest, length)), seen


def stimulus_rows(value: NDArray, at: slice, seen: bool) -> NDArray:
    """A stimulus at some steps, none of it before the duration where it is given in time.

    Parameters
    ----------
    value : ndarray
        Shape (nodes,) at all times, or (steps, nodes).
    at : slice
        Which steps.
    seen : bool
        Whether they are steps of the duration.

    Returns
    -------
    ndarray
        Shape (steps, nodes).
    """
    if value.ndim == 1:
        return np.broadcast_to(value, (at.stop - at.start, len(value)))
    return value[at] if seen else np.zeros((at.stop - at.start, value.shape[1]))


def _selected(wiring: Wiring, varied: frozenset[str], places: NDArray) -> Wiring:
    parameters = {
        name: value[places] if name in varied else value
        for name, value in wiring.parameters.items()
    }
    return wiring._replace(parameters=parameters, key=wiring.key[places])


def _for_each(
    function: Callable[..., Any], varied: frozenset[str] | None, wiring: Wiring, *carried: Any
) -> Any:
    """A function of wiring, and of what has a leading axis, for every simulation.

    On a CPU, one simulation follows the other: its samples stay in the cache, which is faster than
    all of them side by side.
    """
    if varied is None:
        return function(wiring, *carried)

    def one(parts: tuple[Any, ...]) -> Any:
        own, key, *carried = parts
        parameters = {**wiring.parameters, **own}
        return function(wiring._replace(parameters=parameters, key=key), *carried)

    parts = ({name: wiring.parameters[name] for name in varied}, wiring.key, *carried)
    return lax.map(one, parts) if jax.default_backend() == "cpu" else jax.vmap(one)(parts)


@partial(jax.jit, static_argnames=("plan", "observers", "varied", "steps"))
def _begin(
    plan: Plan,
    observers: ByValue[tuple[Any, ...]],
    varied: frozenset[str] | None,
    wiring: Wiring,
    start: Any,
    history: Any,
    steps: int,
) -> Any:
    def one(wiring: Wiring) -> Any:
        return begin(plan, observers.value, wiring, start, history, steps)

    return _for_each(one, varied, wiring)


@partial(jax.jit, static_argnames=("plan", "observers", "varied", "steps"), donate_argnames="carry")
def _stretch(
    plan: Plan,
    observers: ByValue[tuple[Any, ...]],
    varied: frozenset[str] | None,
    wiring: Wiring,
    carry: Any,
    stimulus: Mapping[str, Any],
    steps: int,
) -> Any:
    def one(wiring: Wiring, carry: Any) -> Any:
        return stretch(plan, observers.value, wiring, carry, stimulus, steps)

    return _for_each(one, varied, wiring, carry)


@partial(jax.jit, static_argnames=("observers", "varied"))
def _finish(
    observers: ByValue[tuple[Any, ...]], varied: frozenset[str] | None, wiring: Wiring, carry: Any
) -> tuple[list[Any], jax.Array]:
    def one(wiring: Wiring, carry: Any) -> tuple[list[Any], jax.Array]:
        pairs = zip(observers.value, carry.observed, strict=True)
        return [each.finish(seen) for each, seen in pairs], jnp.all(jnp.isfinite(carry.states))

    return _for_each(one, varied, wiring, carry)
