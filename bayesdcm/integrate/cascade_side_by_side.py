"""Cascades of many subjects side by side: the last axis of every array is the subjects.

The matrices of a subject are too small for the vector instructions of a core; the same entry of the
matrices of many subjects is not.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from bayesdcm.integrate.cascade import Cascade, combine
from bayesdcm.integrate.grid import TimeGrid


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Products of matrices (..., i, k, subjects) and (..., k, j, subjects)."""
    columns, rows = jnp.unstack(a, axis=-2), jnp.unstack(b, axis=-3)
    return sum(c[..., None, :] * jnp.expand_dims(r, -3) for c, r in zip(columns, rows, strict=True))


def apply(a: jax.Array, x: jax.Array) -> jax.Array:
    """Products of matrices (..., i, k, subjects) and vectors (..., k, subjects)."""
    columns, entries = jnp.unstack(a, axis=-2), jnp.unstack(x, axis=-2)
    return sum(c * jnp.expand_dims(e, -2) for c, e in zip(columns, entries, strict=True))


def _compose(second: Cascade, first: Cascade) -> Cascade:
    return Cascade(
        product(second.neuronal, first.neuronal),
        product(second.coupling, first.neuronal[..., None, :, :, :])
        + product(second.filter, first.coupling),
        product(second.filter, first.filter),
    )


def _identity(like: Cascade) -> Cascade:
    def diagonal(block: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.eye(block.shape[-2])[:, :, None], block.shape)

    return Cascade(diagonal(like.neuronal), jnp.zeros_like(like.coupling), diagonal(like.filter))


def pick(blocks: Any, index: jax.Array) -> Any:
    """Blocks (blocks, ..., subjects) by one index (1,) for all subjects, or one for each."""

    def pick(array: jax.Array) -> jax.Array:
        if len(index) == 1:
            return array[index[0]]
        rows = index.reshape(1, *(1,) * (array.ndim - 2), len(index))
        return jnp.take_along_axis(array, rows, axis=0)[0]

    return jax.tree.map(pick, blocks)


def pick_many(blocks: Any, index: jax.Array) -> Any:
    """`pick` for each row of indices, (rows, 1) or (rows, subjects)."""
    return jax.vmap(lambda one: pick(blocks, one))(index)


def propagators(generator: Cascade, grid: TimeGrid) -> Cascade:
    """Propagators of a grid, as `bayesdcm.integrate.cascade.propagators` gives them.

    Parameters
    ----------
    generator : Cascade
        ``neuronal`` (distinct inputs, m, m, subjects), ``coupling`` (regions, k, m, subjects),
        ``filter`` (regions, k, k, subjects), 1/s.
    grid : TimeGrid
        Each array with a last axis of subjects, or of one where all share the grid.

    Returns
    -------
    Cascade
        ``neuronal`` (propagators, m, m, subjects), ``coupling`` (propagators, regions, k, m,
        subjects), ``filter`` (propagators, regions, k, k, subjects).
    """
    n = len(generator.neuronal)
    coupling = jnp.broadcast_to(generator.coupling, (n, *generator.coupling.shape))
    stacked = Cascade(generator.neuronal, coupling, generator.filter[None])
    squarings = len(grid.halvings)
    m1 = jax.tree.map(lambda block: block * (grid.bin_width / 2**squarings), stacked)
    m2 = _compose(m1, m1)
    m3 = _compose(m2, m1)
    c, identity = [1 / math.factorial(i) for i in range(7)], _identity(m1)
    high = combine(c[3:7], [identity, m1, m2, m3])
    power = combine([*c[:3], 1.0], [identity, m1, m2, _compose(m3, high)])
    power = jax.lax.fori_loop(0, squarings, lambda _, each: _compose(each, each), power)
    power = power._replace(filter=jnp.broadcast_to(power.filter, (n, *generator.filter.shape)))

    def double(state: tuple[Cascade, Cascade], bit: jax.Array) -> tuple:
        power, result = state
        used = ((grid.propagator_bins >> bit) & 1).astype(bool)

        def choose(yes: jax.Array, no: jax.Array) -> jax.Array:
            wanted = used.reshape(len(used), *(1,) * (yes.ndim - 2), used.shape[-1])
            return jnp.where(wanted, yes, no)

        longer = jax.tree.map(
            choose, _compose(pick_many(power, grid.propagator_input), result), result
        )
        return (_compose(power, power), longer), None

    start = (power, _identity(pick_many(power, grid.propagator_input)))
    return jax.lax.scan(double, start, jnp.arange(len(grid.bits)))[0][1]
