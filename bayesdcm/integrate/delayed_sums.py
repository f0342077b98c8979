"""Weighted sums of delayed signals, many steps at once.

What a region receives is a sum over its connections of what was sent a while ago. Where no delay
is shorter than a block of steps, all that arrives during the block has been sent before it, and
the sums of all its steps are worked out together: of each connection, a stretch of consecutive
samples is read, times a weight. That takes a tenth of the time of a sum at each step. A few
connections with shorter delays are summed apart, in shorter blocks within the block.

Delays are not whole numbers of steps; signals are interpolated linearly between samples, so the
derivative by a delay, and so by the speed of conduction, is that of the interpolation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

# From 12 steps on, compilers make vector instructions of a stretch: twice as fast as 8.
BLOCKS = (24, 16, 12, 8, 6, 4, 2, 1)
# What a step of a connection costs in blocks of that many, measured, relative to the longest.
COSTS = {24: 1.0, 16: 1.05, 12: 1.05, 8: 2.0, 6: 2.3, 4: 2.4, 2: 2.8, 1: 3.6}
# Connections that are read in one pass over the regions.
AT_ONCE = 4

_SLICE = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,))


class Routes(NamedTuple):
    """Connections by receiving region, padded to the same number, and by sending region.

    Parameters
    ----------
    sources : ndarray
        Sending region of each incoming connection, shape (slots, regions).
    weights, lengths : ndarray
        Of each incoming connection, mm; 0 where there is none, shape (slots, regions).
    targets : ndarray
        Receiving region of each outgoing connection, shape (outgoing slots, regions).
    positions : ndarray
        Where outgoing connections stand among the incoming ones, an index into their flat arrays
        followed by one zero, shape (outgoing slots, regions).
    """

    sources: NDArray[np.int32]
    weights: NDArray[np.float64]
    lengths: NDArray[np.float64]
    targets: NDArray[np.int32]
    positions: NDArray[np.int32]


def routes(weights: NDArray, lengths: NDArray) -> Routes:
    """List the connections of a matrix.

    Parameters
    ----------
    weights, lengths : ndarray
        Shape (to, from); connections are where the weight is not 0.

    Returns
    -------
    Routes
        Of the connections.
    """
    n = len(weights)
    to, of = np.nonzero(weights)
    incoming = _slots(to, n)
    slots = _padded(incoming)
    sources = np.zeros((slots, n), np.int32)
    kept = np.zeros((2, slots, n))
    sources[incoming, to] = of
    kept[:, incoming, to] = weights[to, of], lengths[to, of]
    order = np.lexsort((to, of))
    outgoing = _slots(of[order], n)
    shape = (_padded(outgoing), n)
    targets, positions = np.zeros(shape, np.int32), np.full(shape, slots * n, np.int32)
    targets[outgoing, of[order]] = to[order]
    positions[outgoing, of[order]] = incoming[order] * n + to[order]
    return Routes(sources, *kept, targets, positions)


def _slots(sorted_regions: NDArray, n: int) -> NDArray:
    """Numbers 0, 1, ... within each run of the same region."""
    counts = np.bincount(sorted_regions, minlength=n)
    return np.arange(len(sorted_regions)) - np.repeat(np.cumsum(counts) - counts, counts)


def _padded(slots: NDArray) -> int:
    longest = int(slots.max(initial=0)) + 1
    return longest if longest <= 2 * AT_ONCE else -(-longest // AT_ONCE) * AT_ONCE


def longest_block(shortest_delay: float) -> int:
    """How many steps can be worked out together, given the shortest delay in steps.

    Parameters
    ----------
    shortest_delay : float
        In steps.
    """
    return next(block for block in BLOCKS if block - 1 <= shortest_delay or block == 1)


def blocks(delays: NDArray, to: NDArray) -> tuple[int, int]:
    """Steps worked out together, of connections that are as long, and of shorter ones.

    A few short connections need not hold up all others.

    Parameters
    ----------
    delays : ndarray
        Of connections, in steps.
    to : ndarray
        Their receiving regions.

    Returns
    -------
    (int, int)
        Block and inner block, which divides it; equal where all connections are long enough.
    """
    shortest = longest_block(float(delays.min()))
    choices = []
    for block in (each for each in BLOCKS if each >= shortest):
        inner = next(each for each in BLOCKS if each <= shortest and block % each == 0)
        far = delays >= block - 1
        slots = [np.bincount(to[group]).max(initial=0) for group in (far, ~far)]
        if slots[0]:
            cost = COSTS[block] * slots[0] + COSTS[inner] * slots[1]
            choices.append((cost, block, block if far.all() else inner))
    return min(choices)[1:]


class Taps(NamedTuple):
    """Which samples each incoming connection reads, and with which weights.

    Parameters
    ----------
    whole : jax.Array
        Whole steps of the delay, shape (slots, regions).
    newer, older : jax.Array
        Weights of the sample that many steps ago, and of the one before, shape (slots, regions).
    """

    whole: jax.Array
    newer: jax.Array
    older: jax.Array


def interpolation(weights: jax.Array, delays: jax.Array, block: int, reach: int) -> Taps:
    """Samples and weights of linear interpolation.

    Parameters
    ----------
    weights : jax.Array
        Of connections, 0 where there is none, shape (slots, regions).
    delays : jax.Array
        In steps, shape (slots, regions).
    block : int
        Steps that are worked out together.
    reach : int
        Samples of the past that are kept.

    Returns
    -------
    Taps
        With weights that are not a number, and so results that are none, where any delay is too
        short for the block or too long for the samples.
    """
    present = weights != 0
    whole = jnp.floor(lax.stop_gradient(delays))
    fits = jnp.all(~present | ((whole >= block - 1) & (whole <= reach - 2)))
    weights = jnp.where(fits, weights, jnp.nan)
    part = jnp.where(present, delays - whole, 0)
    whole = jnp.where(present, jnp.clip(whole, block - 1, reach - 2), block - 1)
    return Taps(whole.astype(jnp.int32), weights * (1 - part), weights * part)


def read(
    series: jax.Array, starts: jax.Array, first: jax.Array, second: jax.Array, length: int
) -> jax.Array:
    """Sums over slots of two weighted stretches of a series, one sample apart.

    Parameters
    ----------
    series : jax.Array
        Shape (regions, samples).
    starts : jax.Array
        Where each stretch starts, an index into the flat series, shape (slots, regions).
    first, second : jax.Array
        Weights of the stretch from there, and of the one a sample later, shape (slots, regions).
    length : int
        Of the stretches.

    Returns
    -------
    jax.Array
        Shape (regions, length).
    """
    flat = series.reshape(-1)

    def add(total: jax.Array, slots: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        for start, one, other in zip(*slots, strict=True):
            total = total + one[:, None] * stretch(flat, start, length)
            total = total + other[:, None] * stretch(flat, start + 1, length)
        return total, None

    total, slots = jnp.zeros((starts.shape[1], length)), (starts, first, second)
    if len(starts) <= 2 * AT_ONCE:
        return add(total, slots)[0]
    groups = jax.tree.map(lambda a: a.reshape(-1, AT_ONCE, *a.shape[1:]), slots)
    return lax.scan(add, total, groups)[0]


def stretch(flat: jax.Array, starts: jax.Array, length: int) -> jax.Array:
    """Consecutive samples from each start, shape (starts, length).

    Parameters
    ----------
    flat : jax.Array
        One-dimensional.
    starts : jax.Array
        Indices, within bounds.
    length : int
        How many samples.
    """
    return lax.gather(flat, starts[:, None], _SLICE, (length,), mode="promise_in_bounds")


def inner_products(series: jax.Array, starts: jax.Array, other: jax.Array) -> jax.Array:
    """Inner products of stretches of a series with another, the derivatives of `read` by weights.

    Parameters
    ----------
    series : jax.Array
        Shape (channels, regions, samples).
    starts : jax.Array
        Where each stretch starts in a channel's flat series, shape (slots, regions).
    other : jax.Array
        Shape (channels, regions, length).

    Returns
    -------
    jax.Array
        Shape (slots, regions).
    """
    length = other.shape[-1]

    def products(slot: jax.Array) -> jax.Array:
        return sum(
            jnp.sum(stretch(each.reshape(-1), slot, length) * wanted, axis=1)
            for each, wanted in zip(series, other, strict=True)
        )

    return lax.map(products, starts)
