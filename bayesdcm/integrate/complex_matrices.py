"""Algebra of many complex matrices: small ones side by side, larger ones one after the other.

Decompositions of many matrices are handed to threads that may wait for each other for ever on CPUs
(`bayesdcm.infer.threads`), and what passes through memory between two operations on all of them
takes as long as the operations. A matrix by itself stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

# Rows and columns of matrices of which many are worked on at once.
FEW = 24
# What is left of the identity where an inverse was found without exchanging rows, at most.
NEGLIGIBLE = 1e-11


def row_by_row(function: Callable, *rows: jax.Array) -> Any:
    """A function of the matrices of each row, of all rows at once where they are small.

    Parameters
    ----------
    function : callable
        Of matrices.
    *rows : jax.Array
        Shapes (rows, n, m); the last tells whether they are small.

    Examples
    --------
    >>> row_by_row(jnp.trace, jnp.ones((2, 3, 3))).tolist()
    [3.0, 3.0]
    """
    if rows[-1].shape[-1] <= FEW:
        return jax.vmap(function)(*rows)
    return jax.lax.map(lambda row: function(*row), rows)


def product(first: jax.Array, second: jax.Array) -> jax.Array:
    """Products of complex matrices, (rows, n, m) and (rows, m, l).

    Examples
    --------
    >>> product(jnp.full((1, 1, 1), 1j), jnp.full((1, 1, 1), 2 + 1j)).item()
    (-1+2j)
    """
    return row_by_row(matrix_product, first, second)


def matrix_product(first: jax.Array, second: jax.Array) -> jax.Array:
    """Product of two complex matrices, (n, m) and (m, l); see `product`."""
    if first.shape[-1] <= FEW:
        return first @ second
    # On CPUs, four products of real matrices take half of the time of a complex one.
    real = first.real @ second.real - first.imag @ second.imag
    return jax.lax.complex(real, first.real @ second.imag + first.imag @ second.real)


@jax.custom_jvp
def squares(matrices: jax.Array) -> jax.Array:
    """``K K^H`` of complex matrices (rows, n, m).

    Examples
    --------
    >>> squares(jnp.array([[[1.0, 1j]]])).item()
    (2+0j)
    """
    return row_by_row(_square, matrices)


def _square(matrix: jax.Array) -> jax.Array:
    if matrix.shape[-1] <= FEW:
        return matrix @ matrix.conj().T
    # Three products of real matrices.
    real, imaginary = matrix.real, matrix.imag
    across = imaginary @ real.T
    return jax.lax.complex(real @ real.T + imaginary @ imaginary.T, across - across.T)


@squares.defjvp
def _squares_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (matrices,), result = primals, squares(*primals)

    # One product instead of two, backwards as well.
    def change(matrix: jax.Array, change: jax.Array) -> jax.Array:
        half = matrix_product(change, matrix.conj().T)
        return half + half.conj().T

    def back(matrix: jax.Array, value: jax.Array) -> jax.Array:
        return matrix_product(value + value.conj().T, matrix.conj())

    along = _linear(
        lambda tangent: row_by_row(change, matrices, tangent),
        lambda value: row_by_row(back, matrices, value),
        tangents[0],
        result,
    )
    return result, along


def _linear(forward: Callable, backward: Callable, value: jax.Array, like: jax.Array) -> jax.Array:
    """``forward(value)``, a linear function with a transpose that is given, shaped like a result.

    XLA would transpose what is multiplied, which takes twice the time on CPUs.
    """
    # Zeros that are linear in the value, as far as JAX knows.
    padding = [(0, size - 1, 0) for size in like.shape]
    nothing = jax.lax.pad(0 * value[:1, :1, :1], jnp.zeros((), like.dtype), padding)
    return jax.lax.custom_linear_solve(
        lambda x: (x[0], x[1] - forward(x[0])),
        (value, nothing),
        lambda _, b: (b[0], b[1] + forward(b[0])),
        lambda _, b: (b[0] + backward(b[1]), b[1]),
    )[1]


@jax.custom_jvp
def inverses(matrices: jax.Array) -> jax.Array:
    """Inverses of matrices (rows, n, n), the real ones with few rows and columns.

    By elimination, with the largest pivots; of large matrices by blocks, and where that does not
    succeed by LAPACK.

    Examples
    --------
    >>> inverses(jnp.array([[[0.0, 2.0], [4.0, 0.0]]])).tolist()
    [[[0.0, 0.25], [0.5, 0.0]]]
    """
    n = matrices.shape[-1]
    if n > FEW:
        return jax.lax.map(_inverse, matrices)
    places = jnp.arange(n)
    identity = jnp.broadcast_to(jnp.eye(n, dtype=matrices.dtype), matrices.shape)

    def eliminate(k: jax.Array, joined: jax.Array) -> jax.Array:
        column = jnp.abs(joined[:, :, k])
        largest = jnp.where(places >= k, column, -1.0).argmax(1)
        chosen = (places == largest[:, None])[..., None]
        here = (places == k)[:, None]
        upper = joined[:, k]
        lower = jnp.where(chosen, joined, 0.0).sum(1)
        # Where they are the same row, the second holds.
        joined = jnp.where(chosen, upper[:, None], joined)
        row = lower / jnp.take(lower, k, axis=1)[:, None]
        factor = jnp.take(joined, k, axis=2)[..., None]
        return jnp.where(here, row[:, None], joined - factor * row[:, None])

    joined = jnp.concatenate([matrices, identity], axis=2)
    return jax.lax.fori_loop(0, n, eliminate, joined)[:, :, n:]


@inverses.defjvp
def _inverses_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    result = inverses(*primals)

    def around(inverse: jax.Array, inner: jax.Array) -> jax.Array:
        return -matrix_product(matrix_product(inverse, inner), inverse)

    change = _linear(
        lambda change: row_by_row(around, result, change),
        lambda value: row_by_row(lambda r, v: around(r, v.T).T, result, value),
        tangents[0],
        result,
    )
    return result, change


def _inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of a complex matrix (n, n), in most of the cases by products of its quarters."""
    fast = _by_blocks(matrix, 2)
    probe = jnp.cos(jnp.arange(len(matrix)))
    error = jnp.abs(matrix @ (fast @ probe) - probe).max()
    # A loop, since of two branches all rows of a batch would take both.
    return jax.lax.while_loop(
        lambda state: ~(state[1] <= NEGLIGIBLE),
        lambda _: (jnp.linalg.inv(matrix), jnp.zeros(())),
        (fast, error),
    )[0]


def _by_blocks(matrix: jax.Array, depth: int) -> jax.Array:
    if not depth:
        return jnp.linalg.inv(matrix)
    half = len(matrix) // 2
    across, down = matrix[:half, half:], matrix[half:, :half]
    first = _by_blocks(matrix[:half, :half], depth - 1)
    right, left = matrix_product(first, across), matrix_product(down, first)
    last = _by_blocks(matrix[half:, half:] - matrix_product(down, right), depth - 1)
    below = matrix_product(last, left)
    return jnp.block(
        [[first + matrix_product(right, below), -matrix_product(right, last)], [-below, last]]
    )


def positive_inverses(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logarithms of determinants, (rows,), and inverses of positive definite matrices.

    Parameters
    ----------
    matrices : jax.Array
        Hermitian, shape (rows, n, n); results are not finite where one is not positive definite.

    Examples
    --------
    >>> logarithm, inverse = positive_inverses(jnp.full((1, 1, 1), 2 + 0j))
    >>> logarithm.round(4).tolist(), inverse.round(4).tolist()
    ([0.6931], [[[(0.5+0j)]]])
    """
    return row_by_row(positive_inverse, matrices)


def positive_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logarithm of the determinant and inverse of one matrix, see `positive_inverses`."""
    return _positive_by_blocks(matrix, 2 if len(matrix) > FEW else 0)


def _positive_by_blocks(matrix: jax.Array, depth: int) -> tuple[jax.Array, jax.Array]:
    if not depth:
        root = jnp.linalg.cholesky(matrix)
        inverse = solve_triangular(root, jnp.eye(len(root)), lower=True)
        return 2 * jnp.log(jnp.diagonal(root).real).sum(), _square(inverse.conj().T)
    half = len(matrix) // 2
    across = matrix[:half, half:]
    size, first = _positive_by_blocks(matrix[:half, :half], depth - 1)
    right = matrix_product(first, across)
    left = matrix_product(across.conj().T, right)
    last_size, last = _positive_by_blocks(matrix[half:, half:] - left, depth - 1)
    below = -matrix_product(right, last)
    first = first - matrix_product(below, right.conj().T)
    return size + last_size, jnp.block([[first, below], [below.conj().T, last]])
