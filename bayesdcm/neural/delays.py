"""Delays between states, and the operator that accounts for them to first order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike


def delay_matrix(between: jax.Array, within: ArrayLike) -> jax.Array:
    """Delays (n, n), s, between all pairs of states, in the order of `to_vector`.

    Of delays `between` sources (to, from), the diagonal of which is not used, and those `within`,
    (states, states) or, where sources differ, (states, states, sources), s.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> delay_matrix(jnp.array([[9.0, 1.0], [2.0, 9.0]]), jnp.zeros((1, 1))).tolist()
    [[0.0, 1.0], [2.0, 0.0]]
    """
    n, k = len(between), len(within)
    same = jnp.eye(n)
    within = jnp.broadcast_to(jnp.reshape(jnp.asarray(within), (k, k, -1)), (k, k, n))
    delays = jnp.broadcast_to(between * (1 - same), (k, k, n, n)) + within[..., None] * same
    return delays.transpose(0, 2, 1, 3).reshape(k * n, k * n)


def first_order(jacobian: jax.Array, delays: jax.Array) -> jax.Array:
    """Delay operator ``(1 + delays o jacobian)^-1``, elementwise product, of a Jacobian in 1/s.

    David et al. (2006), https://doi.org/10.1016/j.neuroimage.2005.10.045
    """
    return inverse(jnp.eye(len(jacobian)) + delays * jacobian)


@jax.custom_jvp
def inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of a matrix whose derivative is two products instead of triangular solves."""
    return jnp.linalg.inv(matrix)


@inverse.defjvp
def _inverse_jvp(primals: tuple, tangents: tuple) -> tuple:
    result = inverse(*primals)
    return result, -result @ tangents[0] @ result
