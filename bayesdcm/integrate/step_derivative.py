"""Derivative of a step of local linearisation, along many directions at once.

A step is ``P f`` with ``P = dt phi(dt D J) D`` and ``D = (1 + K)^-1``, where J is the Jacobian and
K its elementwise product with the delays. Along each of fifty parameters, the derivative of the
Pade approximant takes fourteen products of matrices. But few entries of J and K depend on
parameters, and the derivative by one entry is a sum of thirteen outer products, whose factors the
directions share: all of them are then one product with the derivatives of the entries.

Along a single direction, and in reverse mode, the approximant is better differentiated as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.integrate.local_linear import PADE, SHIFT, balance

_many_directions = ContextVar("many_directions", default=False)


@contextmanager
def many_directions() -> Iterator[None]:
    """Programs traced in this context are differentiated along all their parameters.

    Examples
    --------
    >>> with many_directions():
    ...     expects_many_directions()
    True
    >>> expects_many_directions()
    False
    """
    token = _many_directions.set(True)
    try:
        yield
    finally:
        _many_directions.reset(token)


def expects_many_directions() -> bool:
    """Whether this is called in the context `many_directions`."""
    return _many_directions.get()


def phi_derivative(matrix: jax.Array, halvings: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`phi`, and its derivative as a sum of products, ``d phi(Z) = sum_m left_m dZ right_m``.

    Parameters
    ----------
    matrix : jax.Array
        Z, shape (n, n).
    halvings : int
        As in `phi`. The number of terms is 13, and doubles with every halving.

    Returns
    -------
    value : jax.Array
        Shape (n, n).
    left, right : jax.Array
        Shape (terms, n, n).

    Examples
    --------
    >>> value, left, right = phi_derivative(jnp.zeros((1, 1)))
    >>> round(float((left * right).sum()), 12)
    0.5
    """
    scale = balance(matrix)
    similarity = scale[None, :] / scale[:, None]
    X = matrix * similarity / 2**halvings
    square, identity, n = X @ X, jnp.eye(len(X)), len(X)

    # With S = X^2 and a polynomial p(S) = p_0 + p_1 S + ..., dp = sum_i S^i dS p_i(S), where
    # p_i(S) = p_(i+1) + p_(i+2) S + ...; here for both polynomials of the approximant.
    tails = [jnp.zeros((2, n, n))]
    for odd, even in zip(PADE[::-2], PADE[-2::-2], strict=True):
        tails.append(jnp.stack([odd * identity, even * identity]) + square @ tails[-1])
    odd, even = tails[-1]
    inverse = jnp.linalg.inv(even - X @ odd)
    value = inverse @ (2 * odd)
    tails = jnp.stack(tails[:0:-1])
    applied = tails @ value
    first = 2 * tails[1:, 0] - applied[1:, 1]
    second = applied[:, 0]
    pairs = jnp.stack([X @ first + second[:-1], first + X @ second[1:]], axis=1)
    right = jnp.concatenate([pairs.reshape(-1, n, n), second[-1:]])

    powers = [jnp.stack([inverse, inverse @ X])]
    for _ in pairs[1:]:
        powers.append(powers[-1] @ square)
    left = jnp.concatenate([*powers, powers[-1][:1] @ square]) / 2**halvings

    for k in range(halvings):
        # The doubled value is (1 + 2^k X value / 2) value.
        doubled, shared = 2**k * X, 2**k * X @ value / 2
        term = 2.0 ** (k - halvings) * identity / 2
        left = jnp.concatenate([left + shared @ left, doubled @ left / 2, term[None]])
        right = jnp.concatenate([right, right @ value, (value @ value)[None]])
        value = value + shared @ value
    return value / similarity, left / similarity, right / similarity


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def change_by_entries(
    jacobian: jax.Array,
    delayed: jax.Array,
    rates: jax.Array,
    dt: jax.Array,
    halvings: int,
    entries: tuple[tuple[int, ...], tuple[int, ...]],
) -> jax.Array:
    """Zeros, whose derivative is that of ``rates @ P.T`` by `jacobian` and `delayed`.

    Parameters
    ----------
    jacobian : jax.Array
        J, shape (n, n), 1/s.
    delayed : jax.Array
        K, the elementwise product of J and the delays, shape (n, n).
    rates : jax.Array
        Values of the flow, shape (steps, n), taken as given.
    dt : jax.Array
        Step, s, taken as given.
    halvings : int
        As in `phi`.
    entries : pair of tuples of int
        Entries of J and of K, flat, that may depend on parameters.

    Returns
    -------
    jax.Array
        Shape (steps, n).

    Examples
    --------
    >>> J, K, rates = -jnp.eye(1), jnp.zeros((1, 1)), jnp.ones((2, 1))
    >>> def change(J):
    ...     return change_by_entries(J, K, rates, 1.0, 0, ((0,), (0,)))
    >>> value, slope = jax.jvp(change, (J,), (jnp.ones((1, 1)),))
    >>> value.tolist(), slope.round(6).tolist()
    ([[0.0], [0.0]], [[0.264241], [0.264241]])
    """
    return 0 * rates


@change_by_entries.defjvp
def _change_jvp(
    halvings: int, entries: tuple[tuple[int, ...], tuple[int, ...]], primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    jacobian, delayed, rates, dt = primals
    n = len(jacobian)
    flat = [np.array(positions, int) for positions in entries]
    (rows, columns), (delayed_rows, delayed_columns) = (np.divmod(at, n) for at in flat)
    identity = jnp.eye(n)
    D = jnp.linalg.inv(identity + delayed)
    flow_jacobian = D @ (jacobian - SHIFT * identity)
    value, left, right = phi_derivative(dt * flow_jacobian, halvings)
    # d(D J) = D (dJ - dK D J), dD = -D dK D; terms first, then states, then entries or steps.
    left, right = dt**2 * left @ D, right @ (D @ rates.T)
    by_jacobian = _outer(left[:, :, rows], right[:, columns])
    left = jnp.concatenate([left, (dt * value @ D)[None]])
    right = jnp.concatenate([flow_jacobian @ right, (D @ rates.T)[None]])
    by_delayed = -_outer(left[:, :, delayed_rows], right[:, delayed_columns])
    by_entry = jnp.concatenate([by_jacobian, by_delayed])

    moved = [t.reshape(-1)[at] for t, at in zip(tangents[:2], flat, strict=True)]
    change = jnp.concatenate(moved) @ by_entry.reshape(len(by_entry), -1)
    return 0 * rates, change.reshape(n, -1).T


def _outer(left: jax.Array, right: jax.Array) -> jax.Array:
    """Sum over terms of (terms, states, entries) and (terms, entries, steps), entries first."""
    return left.transpose(2, 1, 0) @ right.transpose(1, 0, 2)
