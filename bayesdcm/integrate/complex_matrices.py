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

# Real and imaginary part of a matrix.
Parts = tuple[jax.Array, jax.Array]


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
    return jax.lax.complex(*_times(_parts(first), _parts(second)))


def hermitian_product(first: jax.Array, second: jax.Array) -> jax.Array:
    """Product of two complex matrices, (n, m) and (m, n), that is known to be Hermitian.

    Examples
    --------
    >>> hermitian_product(jnp.array([[1.0, 1j]]), jnp.array([[1.0], [-1j]])).item()
    (2+0j)
    """
    if first.shape[-1] <= FEW:
        return first @ second
    return jax.lax.complex(*_hermitian(_parts(first), _parts(second)))


def _parts(matrix: jax.Array) -> Parts:
    return matrix.real, matrix.imag


def _times(first: Parts, second: Parts) -> Parts:
    # On CPUs, three products of real matrices take less than half of the time of a complex one.
    (a, b), (c, d) = first, second
    shared = (a + b) @ c
    return shared - b @ (c + d), shared + a @ (d - c)


def _hermitian(first: Parts, second: Parts) -> Parts:
    # The real part is symmetric and the imaginary one is not at all, so that their difference
    # tells both.
    (a, b), (c, d) = first, second
    # Transposed before, not in the product, which would take twice as long.
    less, more = jax.lax.optimization_barrier((d - c, c + d))
    difference = a @ less + b @ more
    return -(difference + difference.T) / 2, (difference - difference.T) / 2


def _adjoint(matrix: Parts) -> Parts:
    return matrix[0].T, -matrix[1].T


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
    return hermitian_product(matrix, matrix.conj().T)


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


def _linear(forward: Callable, backward: Callable, value: Any, like: jax.Array) -> jax.Array:
    """``forward(value)``, a linear function with a transpose that is given, shaped like a result.

    XLA would transpose what is multiplied, which takes twice the time on CPUs.
    """
    # Zeros that are linear in all of the value, as far as JAX knows: it takes no transpose of a
    # function of which some arguments do not change, a power that is fixed for instance.
    leaves = jax.tree.leaves(value)
    zero = sum(0 * jax.lax.slice(leaf, (0,) * leaf.ndim, (1,) * leaf.ndim).sum() for leaf in leaves)

    def zeros(of: jax.Array) -> jax.Array:
        same = zero if jnp.iscomplexobj(of) else zero.real
        return jnp.broadcast_to(same.astype(of.dtype), of.shape)

    nothing = zeros(like)
    if len(leaves) > 1:
        value = jax.tree.map(lambda leaf: leaf + zeros(leaf), value)
    return jax.lax.custom_linear_solve(
        lambda x: (x[0], x[1] - forward(x[0])),
        (value, nothing),
        lambda _, b: (b[0], b[1] + forward(b[0])),
        lambda _, b: (jax.tree.map(jnp.add, b[0], backward(b[1])), b[1]),
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
    real, imaginary = _parts(matrix)
    fast = _by_blocks((real, imaginary))
    probe = jnp.cos(jnp.arange(len(matrix)))
    a, b = (part @ probe for part in fast)
    left = real @ a - imaginary @ b - probe, real @ b + imaginary @ a
    error = jnp.maximum(*(jnp.abs(each).max() for each in left))

    def again(state: tuple) -> tuple:
        # Only put together for LAPACK where it is called.
        given, _ = jax.lax.optimization_barrier(((real, imaginary), state[1]))
        return _parts(jnp.linalg.inv(jax.lax.complex(*given))), jnp.zeros(())

    # A loop, since of two branches all rows of a batch would take both.
    found, _ = jax.lax.while_loop(lambda state: ~(state[1] <= NEGLIGIBLE), again, (fast, error))
    return jax.lax.complex(*found)


def _by_blocks(matrix: Parts) -> Parts:
    n = len(matrix[0])
    if n <= FEW:
        return _eliminated(matrix)[0]
    (a, b), (c, d) = _quarters(matrix)
    first = _by_blocks(a)
    right, left = _times(first, b), _times(c, first)
    last = _by_blocks(_add(d, _times(c, right), -1))
    below = _times(last, left)
    return _joined(
        (_add(first, _times(right, below)), _negative(_times(right, last))),
        (_negative(below), last),
    )


def _quarters(matrix: Parts) -> tuple[tuple[Parts, Parts], tuple[Parts, Parts]]:
    half = len(matrix[0]) // 2
    first, last = slice(None, half), slice(half, None)

    def part(rows: slice, columns: slice) -> Parts:
        return matrix[0][rows, columns], matrix[1][rows, columns]

    return (part(first, first), part(first, last)), (part(last, first), part(last, last))


def _joined(above: tuple[Parts, Parts], below: tuple[Parts, Parts]) -> Parts:
    real, imaginary = (
        jnp.block([[each[which] for each in row] for row in (above, below)]) for which in (0, 1)
    )
    return real, imaginary


def _add(first: Parts, second: Parts, times: float = 1) -> Parts:
    return first[0] + times * second[0], first[1] + times * second[1]


def _negative(matrix: Parts) -> Parts:
    return -matrix[0], -matrix[1]


def _eliminated(matrix: Parts) -> tuple[Parts, jax.Array]:
    """Inverse by elimination with the pivots as they come, and the sum of logarithms of these.

    The logarithms are those of real parts. Both parts are one array, since XLA hands what can be
    done at the same time to other threads, which takes longer than to do it.
    """
    n = len(matrix[0])
    places = jnp.arange(n)

    def eliminate(k: jax.Array, state: tuple) -> tuple:
        parts, logarithm = state
        here = places == k
        unit = jnp.stack([here, jnp.zeros(n, bool)]).astype(float)
        a, b = parts[:, k, k]
        real, imaginary = jnp.where(here, unit, parts[:, k])
        size = a * a + b * b
        real, imaginary = (a * real + b * imaginary) / size, (a * imaginary - b * real) / size
        row, turned = jnp.stack([real, imaginary]), jnp.stack([-imaginary, real])
        # The column of the pivot makes way for that of the inverse.
        column = (parts[:, :, k] - unit)[..., None]
        parts = jnp.where(here, unit[..., None], parts)
        parts = parts - column[0] * row[:, None] - column[1] * turned[:, None]
        return parts, logarithm + jnp.log(a)

    parts, logarithm = jax.lax.fori_loop(0, n, eliminate, (jnp.stack(matrix), jnp.zeros(())))
    return (parts[0], parts[1]), logarithm


@jax.custom_jvp
def spectrum(matrix: jax.Array, power: jax.Array) -> jax.Array:
    """``A^-1 P A^-H``: the cross-spectrum of x, where A x is independent noise.

    Parameters
    ----------
    matrix : jax.Array
        A, complex, shape (n, n).
    power : jax.Array
        Diagonal of P, of the noise, shape (n,).

    Examples
    --------
    >>> spectrum(jnp.array([[2j]]), jnp.array([1.0])).item()
    (0.25+0j)
    """
    return _spectrum(inverses(matrix[None])[0], power)


def _spectrum(inverse: jax.Array, power: jax.Array) -> jax.Array:
    return hermitian_product(inverse * power, inverse.conj().T)


@spectrum.defjvp
def _spectrum_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    matrix, power = primals
    inverse = inverses(matrix[None])[0]
    result = _spectrum(inverse, power)

    # Two products of matrices backwards, where those of an inverse and of a square have three.
    def forward(change: tuple) -> jax.Array:
        half = matrix_product(inverse, matrix_product(change[0], result))
        return _spectrum(inverse, change[1]) - half - half.conj().T

    def backward(value: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = value.conj() + value.T
        half = matrix_product(value, inverse)
        by_power = (half.real * inverse.real + half.imag * inverse.imag).sum(0) / 2
        return -matrix_product(result, half).T, by_power

    return result, _linear(forward, backward, tangents, result)


def positive_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logarithm of the determinant, (), and inverse of a positive definite matrix.

    Parameters
    ----------
    matrix : jax.Array
        Hermitian, shape (n, n); results are not finite where it is not positive definite.

    Examples
    --------
    >>> logarithm, inverse = positive_inverse(jnp.full((1, 1), 2 + 0j))
    >>> logarithm.round(4).item(), inverse.round(4).tolist()
    (0.6931, [[(0.5+0j)]])
    """
    if len(matrix) <= FEW:
        root = jnp.linalg.cholesky(matrix)
        inverse = solve_triangular(root, jnp.eye(len(root)), lower=True)
        return 2 * jnp.log(jnp.diagonal(root).real).sum(), _square(inverse.conj().T)
    logarithm, inverse = _positive_by_blocks(_parts(matrix))
    return logarithm, jax.lax.complex(*inverse)


def _positive_by_blocks(matrix: Parts) -> tuple[jax.Array, Parts]:
    if len(matrix[0]) <= FEW:
        inverse, logarithm = _eliminated(matrix)
        # Not a number where a pivot is not positive.
        return logarithm, _add(inverse, (0 * logarithm,) * 2)
    (a, b), (c, d) = _quarters(matrix)
    size, first = _positive_by_blocks(a)
    right = _times(first, b)
    last_size, last = _positive_by_blocks(_add(d, _hermitian(c, right), -1))
    below = _negative(_times(right, last))
    first = _add(first, _hermitian(below, _adjoint(right)), -1)
    return size + last_size, _joined((first, below), (_adjoint(below), last))
