"""Roots of functions of one variable, with their derivative: rest states of nodes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

POINTS = 257
HALVINGS = 60


def lowest_root(
    function: Callable[[jax.Array], jax.Array], low: ArrayLike, high: ArrayLike
) -> jax.Array:
    """The lowest root of a function between two bounds, for each node.

    The function is looked at in 257 points, and the first change of its sign is halved. Roots that
    lie closer together than these points may be missed. The root has derivatives of any order by
    what the function depends on.

    Parameters
    ----------
    function : callable
        From shape () or (nodes,) to shape () or (nodes,), node by node; continuous.
    low, high : array_like
        Bounds, at which the function has different signs, shape () or (nodes,).

    Returns
    -------
    jax.Array
        Shape of what the function gives.

    Examples
    --------
    >>> round(float(lowest_root(lambda z: z**3 - 4 * z, -5.0, 5.0)), 9)
    -2.0
    """
    low, high = jnp.asarray(low, float), jnp.asarray(high, float)
    shape = jnp.broadcast_shapes(jax.eval_shape(function, low).shape, low.shape, high.shape)
    low, high = jnp.broadcast_to(low, shape), jnp.broadcast_to(high, shape)

    def solve(function: Callable, _: jax.Array) -> jax.Array:
        points = jnp.linspace(low, high, POINTS)
        sign = jnp.sign(jax.vmap(function)(points))
        first = jnp.argmax(sign[1:] * sign[:1] <= 0, axis=0)[None]
        left, right = (jnp.take_along_axis(points, first + shift, axis=0)[0] for shift in (0, 1))

        def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            left, right = bounds
            middle = (left + right) / 2
            before = jnp.sign(function(middle)) == sign[0]
            return jnp.where(before, middle, left), jnp.where(before, right, middle)

        left, right = jax.lax.fori_loop(0, HALVINGS, halve, (left, right))
        return (left + right) / 2

    def divide(slope: Callable, value: jax.Array) -> jax.Array:
        return value / slope(jnp.ones_like(value))

    return jax.lax.custom_root(lambda z: function(z) + jnp.zeros(shape), low, solve, divide)
