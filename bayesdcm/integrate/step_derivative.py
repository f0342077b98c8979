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
    """Which entries, flat, of the Jacobian and of the delays depend on parameters."""

    jacobian: tuple[int, ...]
    delays: tuple[int, ...]


def delayed_step(jacobian: jax.Array, delays: jax.Array, dt: jax.Array, halvings: int) -> jax.Array:
    """P (n, n), s, of a Jacobian, 1/s, and delays, s, both (n, n)."""
    return step_operator(jacobian, first_order(jacobian, delays), dt, halvings)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def step_by_entries(
    jacobian: jax.Array,
    delays: jax.Array,
    dt: jax.Array,
    halvings: int,
    entries: Entries,
) -> jax.Array:
    """`delayed_step`, of which only some `entries` depend on parameters.

    The step dt, s, is taken as given.

    Examples
    --------
    >>> def step(J):
    ...     return step_by_entries(J, jnp.zeros((1, 1)), 1.0, 0, Entries((0,), ()))
    >>> value, slope = jax.jvp(step, (-jnp.eye(1),), (jnp.ones((1, 1)),))
    >>> round(float(value[0, 0]), 6), round(float(slope[0, 0]), 6)
    (0.632121, 0.264241)
    """
    return delayed_step(jacobian, delays, dt, halvings)


@step_by_entries.defjvp
def _step_jvp(
    halvings: int, entries: Entries, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    jacobian, delays, dt = primals

    def step(jacobian: jax.Array, delays: jax.Array) -> jax.Array:
        return delayed_step(jacobian, delays, dt, halvings)

    # With dP = L (dJ, dT), the system ((1, 0), (-L, 1)) (x, y) = ((dJ, dT), 0) has y = dP, and is
    # a form of L that JAX lets be applied and transposed by rules of our own.
    def system(xy: tuple) -> tuple:
        x, y = xy
        return x, y - jax.jvp(step, (jacobian, delays), x)[1]

    def solve(_: object, right: tuple) -> tuple:
        x, y = right
        pairs = zip(x, entries, strict=True)
        moved = jnp.concatenate([d.reshape(-1)[np.array(some, int)] for d, some in pairs])
        by_entry = _by_entries(jacobian, delays, dt, halvings, entries)
        return x, y + jnp.tensordot(moved, by_entry, 1)

    def solve_transposed(_: object, right: tuple) -> tuple:
        x, y = right
        return jax.tree.map(jnp.add, x, jax.vjp(step, jacobian, delays)[1](y)), y

    right = tangents[:2], 0 * tangents[0]
    change = jax.lax.custom_linear_solve(system, right, solve, solve_transposed)[1]
    return step(jacobian, delays), change


def _by_entries(
    jacobian: jax.Array, delays: jax.Array, dt: jax.Array, halvings: int, entries: Entries
) -> jax.Array:
    """Derivatives of P by entries of the Jacobian, then of the delays, (entries, n, n)."""
    n, n_first = len(jacobian), len(entries.jacobian)
    rows, columns = np.divmod(np.array([*entries.jacobian, *entries.delays], int), n)
    D = first_order(jacobian, delays)
    flow_jacobian = D @ (jacobian - SHIFT * jnp.eye(n))
    value, left, right = phi_derivative(dt * flow_jacobian, halvings)

    # With K the product of delays T and J: d(D J) = D (dJ - dK D J), dD = -D dK D, and
    # dK = T dJ + J dT entry by entry.
    right = right @ D
    left = jnp.concatenate([dt**2 * left @ D, (dt * value @ D)[None]])
    of_jacobian = jnp.concatenate([right, jnp.zeros((1, n, n))])
    of_product = jnp.concatenate([flow_jacobian @ right, D[None]])
    weight = jnp.concatenate(
        [delays[rows[:n_first], columns[:n_first]], jacobian[rows[n_first:], columns[n_first:]]]
    )
    direct = (np.arange(len(rows)) < n_first)[:, None]
    right = of_jacobian[:, columns] * direct - of_product[:, columns] * weight[:, None]
    return left[:, :, rows].transpose(2, 1, 0) @ right.transpose(1, 0, 2)
