"""Runs of a network from the host: stretch by stretch, many simulations in chunks that fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from bayesdcm.data.by_value import ByValue
from bayesdcm.models.network_run import Plan, Wiring, begin, even_stretch, stretch

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
    """
    static = (plan, ByValue(tuple(observers)), varied)
    many = varied is not None
    total = len(wiring.key) if many else 1
    shape = ((total,) if many else ()) + (steps[1], wiring.network.n_nodes)
    recorded = {name: np.empty(shape) for name in plan.recorded}
    results, finite = [], []
    amount = sum(steps) * total
    with tqdm(total=amount, disable=not progress, unit="step", unit_scale=True) as bar:
        for first in range(0, total, chunk):
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
            ends, stayed = _finish(static[1], varied, carry)
            results.append([np.asarray(end)[:kept] if many else np.asarray(end) for end in ends])
            finite.append(np.atleast_1d(stayed)[:kept])
    if not many:
        return recorded, results[0], finite[0]
    joined = [np.concatenate(parts) for parts in zip(*results, strict=True)]
    return recorded, joined, np.concatenate(finite)


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


def _over_simulations(function: Any, varied: frozenset[str] | None, wiring: Wiring) -> Any:
    """A function of wiring, and more that has a leading axis, for all simulations at once."""
    if varied is None:
        return function
    axes = {name: 0 if name in varied else None for name in wiring.parameters}
    return jax.vmap(function, in_axes=(Wiring(None, axes, None, 0), 0))


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
    def one(wiring: Wiring, _: Any) -> Any:
        return begin(plan, observers.value, wiring, start, history, steps)

    return _over_simulations(one, varied, wiring)(wiring, wiring.key)


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

    return _over_simulations(one, varied, wiring)(wiring, carry)


@partial(jax.jit, static_argnames=("observers", "varied"))
def _finish(
    observers: ByValue[tuple[Any, ...]], varied: frozenset[str] | None, carry: Any
) -> tuple[list[Any], jax.Array]:
    def one(carry: Any) -> tuple[list[Any], jax.Array]:
        pairs = zip(observers.value, carry.observed, strict=True)
        return [each.finish(seen) for each, seen in pairs], jnp.all(jnp.isfinite(carry.states))

    return (one if varied is None else jax.vmap(one))(carry)
