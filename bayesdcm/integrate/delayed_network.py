"""A network with delays over a stretch of steps, with a derivative that is another such network.

The derivative backward in time of a sum over delayed signals is a sum over signals from the
future, along connections that are turned around. So the backward pass is worked out in blocks of
steps by the same sums as the forward pass (`bayesdcm.integrate.delayed_sums`), which takes a
fraction of the time of the scatter that automatic differentiation would make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesdcm.integrate.delayed_sums import Routes, Taps, inner_products, read
from bayesdcm.neural.base import Parameters
from bayesdcm.neural.network import Network

# Connections as long as a block and, if there are any, shorter ones; of each group, what has no
# derivative (connections and the whole steps of their delays), and weights (newer, older sample).
Connections = tuple[tuple[Routes, jax.Array], ...]
Weights = tuple[tuple[jax.Array, jax.Array], ...]
Scheme = Callable[[Callable[[jax.Array], jax.Array], jax.Array, float], jax.Array]


@dataclass(frozen=True)
class Stepping:
    """How a network is solved; a constant of compiled programs.

    Parameters
    ----------
    scheme : callable
        ``scheme(rate, x, step)``, the states after a step.
    step : float
        Length of a step, s.
    block, inner : int
        Steps whose delayed sums are worked out together: of connections whose delay is as long as
        a block, and of shorter ones; `inner` divides `block`.
    reach : int
        Samples of the past that are kept; a multiple of `block`.
    steps : int
        How many steps; a multiple of `block`.
    """

    scheme: Scheme
    step: float
    block: int
    inner: int
    reach: int
    steps: int


class Driven(NamedTuple):
    """A network with the values of its parameters.

    Parameters
    ----------
    network : Network
        The network.
    parameters : mapping
        From `Network.constants`.
    totals : jax.Array
        Sums of weights of incoming connections, shape (nodes,).
    """

    network: Network
    parameters: Parameters
    totals: jax.Array


class Drive(NamedTuple):
    """What is added at each step: to what nodes receive, and to states; by name, (steps, nodes)."""

    afferents: Mapping[str, jax.Array]
    states: Mapping[str, jax.Array]


class Solved(NamedTuple):
    """Solution of a network with delays.

    Parameters
    ----------
    states : jax.Array
        After each step, shape (steps, nodes, states).
    sent : jax.Array
        What was sent, the past included, shape (channels, nodes, reach + steps).
    """

    states: jax.Array
    sent: jax.Array


def instantaneous(
    stepping: Stepping, driven: Driven, weights: jax.Array, x: jax.Array, drive: Drive
) -> jax.Array:
    """States after each step of a network without delays, shape (steps, nodes, states).

    Parameters
    ----------
    stepping : Stepping
        Scheme and length of steps.
    driven : Driven
        The network.
    weights : jax.Array
        Shape (to, from).
    x : jax.Array
        States before the first step, shape (nodes, states).
    drive : Drive
        What is added at each step.
    """

    def advance(x: jax.Array, further: Drive) -> tuple[jax.Array, jax.Array]:
        sums = driven.network.send(x, driven.parameters) @ weights.T
        x = _one_step(stepping, driven, x, sums, further)
        return x, x

    return lax.scan(advance, x, drive, length=stepping.steps)[1]


def delayed(
    stepping: Stepping,
    driven: Driven,
    groups: Sequence[tuple[Routes, Taps]],
    x: jax.Array,
    past: jax.Array,
    drive: Drive,
    reverse: bool,
) -> Solved:
    """States of a network with delays after each step, and what it sent.

    Parameters
    ----------
    stepping : Stepping
        How it is solved.
    driven : Driven
        The network.
    groups : sequence of (Routes, Taps)
        Its connections, and the samples that they read: first those whose delay is as long as a
        block, then shorter ones, if there are any.
    x : jax.Array
        States before the first step, shape (nodes, states).
    past : jax.Array
        What was sent until then, the last sample being that before the first step, shape
        (channels, nodes, reach).
    drive : Drive
        What is added at each step.
    reverse : bool
        Whether derivatives are taken backward; otherwise forward.

    Returns
    -------
    Solved
        States and what was sent.
    """
    solve = _solve_with_adjoint if reverse else _solve
    connections = tuple((routes, taps.whole) for routes, taps in groups)
    weights = tuple((taps.newer, taps.older) for _, taps in groups)
    return solve(stepping, connections, driven, weights, x, past, drive)


def _one_step(
    stepping: Stepping, driven: Driven, x: jax.Array, sums: jax.Array, drive: Drive
) -> jax.Array:
    network, parameters, totals = driven
    received = network.received(x, sums, parameters, totals, drive.afferents)

    # Held during the step like all else, so that the scheme sees it: added after the step, white
    # noise would have too large a variance.
    nothing = jnp.zeros(len(x))
    added = jnp.stack([drive.states.get(name, nothing) for name in network.states], axis=1)
    added = added / stepping.step if drive.states else 0.0

    def rate(x: jax.Array) -> jax.Array:
        return network.node.local(x, received, jnp.zeros(0), parameters) + added

    return stepping.scheme(rate, x, stepping.step)


def _advance(
    stepping: Stepping, driven: Driven, x: jax.Array, sums: jax.Array, drive: Drive
) -> tuple[jax.Array, jax.Array]:
    """States after each step of a block and what is sent then, given sums (channels, nodes, k)."""

    def advance(x: jax.Array, row: tuple[jax.Array, Drive]) -> tuple[jax.Array, jax.Array]:
        x = _one_step(stepping, driven, x, *row)
        return x, x

    _, states = lax.scan(advance, x, (jnp.moveaxis(sums, 2, 0), drive))
    send = jax.vmap(lambda x: driven.network.send(x, driven.parameters), out_axes=2)
    return states, send(states)


def _in_blocks(stepping: Stepping, rows: Any) -> Any:
    """Arrays (steps, ...) as (blocks, inner blocks, steps of an inner block, ...)."""
    shape = (-1, stepping.block // stepping.inner, stepping.inner)
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), rows)


def _parts(stepping: Stepping, sums: jax.Array) -> jax.Array:
    """Sums of a block (channels, nodes, steps) as (inner blocks, channels, nodes, steps)."""
    return jnp.moveaxis(sums.reshape(*sums.shape[:2], -1, stepping.inner), 2, 0)


def _solve(
    stepping: Stepping,
    connections: Connections,
    driven: Driven,
    weights: Weights,
    x: jax.Array,
    past: jax.Array,
    drive: Drive,
) -> Solved:
    return _solve_with_sums(stepping, connections, driven, weights, x, past, drive)[0]


def _solve_with_sums(
    stepping: Stepping,
    connections: Connections,
    driven: Driven,
    weights: Weights,
    x: jax.Array,
    past: jax.Array,
    drive: Drive,
) -> tuple[Solved, jax.Array]:
    """The solution, and sums, shape (blocks, inner blocks, channels, nodes, steps)."""
    block, inner, reach = stepping.block, stepping.inner, stepping.reach
    # The sample before the first step stands in column reach - 1.
    columns = reach + stepping.steps
    starts = [routes.sources * columns + (reach - 2) - whole for routes, whole in connections]

    def summed(sent: jax.Array, group: int, first: jax.Array, length: int) -> jax.Array:
        newer, older = weights[group]
        taps = (starts[group] + first, older, newer, length)
        return jnp.stack([read(each, *taps) for each in sent])

    def advance(carry: tuple[jax.Array, jax.Array], row: Any) -> Any:
        x, sent = carry
        first, sums, drive = row
        if len(connections) > 1:
            sums = sums + summed(sent, 1, first, inner)
        states, signals = _advance(stepping, driven, x, sums, drive)
        sent = lax.dynamic_update_slice_in_dim(sent, signals, reach + first, axis=2)
        return (states[-1], sent), (states, sums)

    def advance_block(carry: tuple[jax.Array, jax.Array], row: Any) -> Any:
        first, drive = row
        sums = _parts(stepping, summed(carry[1], 0, first, block))
        return lax.scan(advance, carry, (first + _firsts(block, inner), sums, drive))

    sent = jnp.pad(past, ((0, 0), (0, 0), (0, stepping.steps)))
    rows = (_firsts(stepping.steps, block), _in_blocks(stepping, drive))
    (_, sent), (states, sums) = lax.scan(advance_block, (x, sent), rows)
    return Solved(states.reshape(-1, *x.shape), sent), sums


def _firsts(steps: int, block: int) -> jax.Array:
    return jnp.arange(0, steps, block, dtype=jnp.int32)


_solve_with_adjoint = jax.custom_vjp(_solve, nondiff_argnums=(0,))


def _forward(
    stepping: Stepping,
    connections: Connections,
    driven: Driven,
    weights: Weights,
    x: jax.Array,
    past: jax.Array,
    drive: Drive,
) -> tuple[Solved, Any]:
    arguments = (connections, driven, weights, x, past, drive)
    solved, sums = _solve_with_sums(stepping, *arguments)
    return solved, (connections, driven, weights, x, drive, solved, sums)


def _backward(stepping: Stepping, kept: Any, wanted: Solved) -> tuple[Any, ...]:
    connections, driven, weights, x, drive, solved, sums = kept
    block, inner, reach, steps = stepping.block, stepping.inner, stepping.reach, stepping.steps
    channels, nodes = sums.shape[2:4]
    # Derivatives by the sums stand in time between two stretches of zeros, as long as the reach,
    # because nothing is received before the first step or after the last.
    columns = reach + steps + reach
    outgoing = []
    for (routes, whole), (newer, older) in zip(connections, weights, strict=True):
        ordered = [
            jnp.append(each.reshape(-1), jnp.zeros(1, each.dtype))[routes.positions]
            for each in (whole, newer, older)
        ]
        outgoing.append((routes.targets * columns + reach + ordered[0], *ordered[1:]))

    def onward(by_sums: jax.Array, group: int, first: jax.Array, length: int) -> jax.Array:
        """Derivatives by what was sent after step `first - 1` and later, through later sums."""
        starts, newer, older = outgoing[group]
        taps = (starts + first, newer, older, length)
        return jnp.stack([read(each, *taps) for each in by_sums])

    def retreat(carry: tuple[jax.Array, jax.Array, Any], row: Any) -> Any:
        by_x, by_sums, by_driven = carry
        first, by_signals, before, sums, drive, by_states = row
        if len(connections) > 1:
            by_signals = by_signals + onward(by_sums, 1, first + 1, inner)
        _, pull = jax.vjp(partial(_advance, stepping), driven, before, sums, drive)
        by_states = by_states.at[-1].add(by_x)
        here, by_x, now, by_drive = pull((by_states, by_signals))
        by_sums = lax.dynamic_update_slice_in_dim(by_sums, now, reach + first, axis=2)
        return (by_x, by_sums, jax.tree.map(jnp.add, by_driven, here)), by_drive

    def retreat_block(carry: tuple[jax.Array, jax.Array, Any], row: Any) -> Any:
        first, *parts = row
        by_signals = lax.dynamic_slice_in_dim(wanted.sent, reach + first, block, axis=2)
        by_signals = _parts(stepping, by_signals + onward(carry[1], 0, first + 1, block))
        rows = (first + _firsts(block, inner), by_signals, *parts)
        return lax.scan(retreat, carry, rows, reverse=True)

    by_blocks = _in_blocks(stepping, (drive, wanted.states))
    earlier_rows = jnp.concatenate([x[None], solved.states[inner - 1 : -1 : inner]])
    earlier_rows = earlier_rows.reshape(-1, block // inner, *x.shape)
    nothing = jax.tree.map(jnp.zeros_like, driven)
    carry = (jnp.zeros_like(x), jnp.zeros((channels, nodes, columns)), nothing)
    rows = (_firsts(steps, block), earlier_rows, sums, *by_blocks)
    (by_x, by_sums, by_driven), by_drive = lax.scan(retreat_block, carry, rows, reverse=True)

    def of_past(first: jax.Array) -> jax.Array:
        return sum(onward(by_sums, group, first, block) for group in range(len(connections)))

    by_past = lax.map(of_past, _firsts(reach, block) - (reach - 1))
    by_past = jnp.moveaxis(by_past, 0, 2).reshape(channels, nodes, reach)
    received = by_sums[:, :, reach : reach + steps]
    by_weights = []
    for routes, whole in connections:
        starts = routes.sources * (reach + steps) + (reach - 2) - whole
        shifted = (starts + 1, starts)
        by_weights.append(tuple(inner_products(solved.sent, at, received) for at in shifted))
    return (
        None,
        by_driven,
        tuple(by_weights),
        by_x,
        by_past + wanted.sent[:, :, :reach],
        jax.tree.map(lambda a: a.reshape(steps, *a.shape[3:]), by_drive),
    )


_solve_with_adjoint.defvjp(_forward, _backward)
