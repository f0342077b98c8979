"""A step of local linearisation with a derivative that is cheap along many directions.

A step is ``P f`` with ``P = dt phi(dt D J) D`` and ``D = (1 + K)^-1``, where J is the Jacobian and
K its elementwise product with the delays. Along each of fifty parameters, the derivative of the
Pade approximant takes fourteen products of matrices. But few entries of J and the delays depend on
parameters, and the derivative by one entry is a sum of thirteen outer products, whose factors the
directions share: all of them are then one product with the derivatives of the entries.

In reverse mode, the approximant is better differentiated as it is.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import hankel

from bayesdcm.integrate.local_linear import PADE, SHIFT, balance, step_operator
from bayesdcm.neural.delays import first_order


def phi_derivative(matrix: jax.Array, halvings: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`phi` of Z (n, n), and factors of ``d phi(Z) = sum_m left_m dZ right_m``, (terms, n, n) each.

    There are 13 terms, and one more than twice as many with every halving.

    Examples
    --------
    >>> value, left, right = phi_derivative(jnp.zeros((1, 1)))
    >>> round(float((left * right).sum()), 12)
    0.5
    """
    scale = balance(matrix)
    similarity = scale[None, :] / scale[:, None]
    X, identity = matrix * similarity / 2**halvings, jnp.eye(len(matrix))
    powers = [identity, X]
    for k in range(2, len(PADE)):
        powers.append(powers[k // 2] @ powers[k - k // 2])
    powers = jnp.stack(powers)

    # The approximant is q(X)^-1 p(X). With c(X) = c_0 + c_1 X + ..., dc = sum_i X^i dX c_i(X),
    # where c_i(X) = c_(i+1) + c_(i+2) X + ...
    q = PADE * (-1.0) ** np.arange(len(PADE))
    p = np.append(PADE[1:] - q[1:], 0.0)
    inverse_q = jnp.linalg.inv(jnp.tensordot(q, powers, 1))
    value = inverse_q @ jnp.tensordot(p, powers, 1)
    powers = powers[:-1]
    left = inverse_q @ powers / 2**halvings
    p_tails, q_tails = (jnp.tensordot(hankel(c[1:]), powers, 1) for c in (p, q))
    right = p_tails - q_tails @ value

    for k in range(halvings):
        # The doubled value is (1 + 2^k X value / 2) value.
        doubled, shared = 2**k * X, 2**k * X @ value / 2
        term = 2.0 ** (k - halvings) * identity / 2
        left = jnp.concatenate([left + shared @ left, doubled @ left / 2, term[None]])
        right = jnp.concatenate([right, right @ value, (value @ value)[None]])
        value = value + shared @ value
    return value / similarity, left / similarity, right / similarity


class Entries(NamedTuple):
    """Groups of entries, flat, of Jacobian and delays; each group is one function of parameters.

    Entries of a group of the Jacobian are multiples of its first, by `factors`, those of a group of
    delays are in one column. Entries in no group do not depend on parameters.
    """

    jacobian: tuple[tuple[int, ...], ...]
    factors: tuple[tuple[float, ...], ...]
    delays: tuple[tuple[int, ...], ...]


class Given(NamedTuple):
    """What a step is taken with: rates f (steps, n), dt in s, P and D (n, n)."""

    rates: jax.Array
    dt: jax.Array
    operator: jax.Array
    delay_operator: jax.Array


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def step_by_entries(
    jacobian: jax.Array, delays: jax.Array, given: Given, halvings: int, entries: Entries
) -> jax.Array:
    """Steps ``P f`` (steps, n), s, with P a function of some `entries` of Jacobian and delays.

    The latter, 1/s and s, are (n, n). `given` has no derivatives.

    Examples
    --------
    >>> def step(J):
    ...     given = Given(jnp.ones((1, 1)), 1.0, -jnp.expm1(J), jnp.eye(1))
    ...     return step_by_entries(J, jnp.zeros((1, 1)), given, 0, Entries(((0,),), ((1.0,),), ()))
    >>> value, slope = jax.jvp(step, (-jnp.eye(1),), (jnp.ones((1, 1)),))
    >>> round(float(value[0, 0]), 6), round(float(slope[0, 0]), 6)
    (0.632121, 0.264241)
    """
    return given.rates @ given.operator.T


@step_by_entries.defjvp
def _step_jvp(
    halvings: int, entries: Entries, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    jacobian, delays, given = primals

    def step(jacobian: jax.Array, delays: jax.Array) -> jax.Array:
        delay_operator = first_order(jacobian, delays)
        return given.rates @ step_operator(jacobian, delay_operator, given.dt, halvings).T

    # With d(P f) = L (dJ, dT), the system ((1, 0), (-L, 1)) (x, y) = ((dJ, dT), 0) has y = d(P f),
    # and is a form of L that JAX lets be applied and transposed by rules of our own.
    def system(xy: tuple) -> tuple:
        x, y = xy
        return x, y - jax.jvp(step, (jacobian, delays), x)[1]

    def solve(_: object, right: tuple) -> tuple:
        x, y = right
        groups = entries.jacobian, entries.delays
        first = [np.array([group[0] for group in of_matrix], int) for of_matrix in groups]
        moved = jnp.concatenate([d.reshape(-1)[at] for d, at in zip(x, first, strict=True)])
        return x, y + jnp.tensordot(
            moved, _by_entries(jacobian, delays, given, halvings, entries), 1
        )

    def solve_transposed(_: object, right: tuple) -> tuple:
        x, y = right
        return jax.tree.map(jnp.add, x, jax.vjp(step, jacobian, delays)[1](y)), y

    # JAX transposes what is linear in tangents as a whole, all of them, held delays as well.
    zero = 0 * (tangents[0][0, 0] + tangents[1][0, 0])
    right = tuple(each + zero for each in tangents[:2]), jnp.full(given.rates.shape, zero)
    change = jax.lax.custom_linear_solve(system, right, solve, solve_transposed)[1]
    return step_by_entries(*primals, halvings, entries), change


def _by_entries(
    jacobian: jax.Array, delays: jax.Array, given: Given, halvings: int, entries: Entries
) -> jax.Array:
    """Derivatives of steps by groups of the Jacobian, then of the delays, (groups, steps, n)."""
    n, (rates, dt, operator, D) = len(jacobian), given
    rows, place = np.zeros(n, bool), np.zeros(n, int)
    rows[np.concatenate(entries.jacobian + entries.delays) // n] = True
    place[rows] = np.arange(rows.sum())
    flow_jacobian = D @ (jacobian - SHIFT * jnp.eye(n))
    _, left, right = phi_derivative(dt * flow_jacobian, halvings)

    # With K the product of delays T and J: d(D J) = D (dJ - dK D J), dD = -D dK D, and
    # dK = T dJ + J dT entry by entry.
    delayed = D @ rates.T
    right = right @ delayed
    left = jnp.concatenate([dt**2 * left @ D[:, rows], operator[None, :, rows]])
    of_jacobian = jnp.concatenate([right, jnp.zeros((1, *delayed.shape))])
    of_product = jnp.concatenate([flow_jacobian @ right, delayed[None]])
    parts = []
    with_factors = zip(entries.jacobian, entries.factors, strict=True)
    for _, alike in groupby(with_factors, lambda group: len(group[0])):
        group, factor = map(np.array, zip(*alike, strict=True))
        row, column = np.divmod(group, n)
        received = of_jacobian[:, column] - of_product[:, column] * delays[row, column][..., None]
        received = factor[..., None] * received
        parts.append(jnp.einsum("mgkt,mngk->gtn", received, left[:, :, place[row]]))
    for _, alike in groupby(entries.delays, len):
        row, column = np.divmod(np.array(list(alike)), n)
        sent = (left[:, :, place[row]] * jacobian[row, column]).sum(-1)
        parts.append(-jnp.einsum("mgt,mng->gtn", of_product[:, column[:, 0]], sent))
    return jnp.concatenate(parts)
