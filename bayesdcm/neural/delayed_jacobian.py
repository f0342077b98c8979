"""The Jacobian of delayed dynamics, from which the full delay operator of SPM follows.

A system with delays, ``dx_i/dt = sum_j J_ij x_j(t - d_ij)``, whose solutions obey
``dx/dt = Q x`` has ``x(t - d) = exp(-d Q) x(t)``, hence::

    Q_i: = sum_j J_ij exp(-d_ij Q)_j:

which is solved by damped iteration, with the exponential as a power series.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# SPM: limits of the iteration and of the series, and the share of the new estimate.
ITERATIONS = 256
TERMS = 256
SHARE = 1 / 4
# Terms of the series in derivatives, where none is dropped. They are (d |Q|)^m / m! in size: at
# SPM's prior means, with d |Q| near 5, 32 are enough for 1e-13; these are enough up to 25.
DERIVATIVE_TERMS = 96
# Unit of time within derivatives, s: powers of rates in Hz would overflow.
UNIT = 0.01


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def delayed_jacobian(
    jacobian: jax.Array,
    delays: jax.Array,
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    tolerance: float = 1e-6,
) -> jax.Array:
    """Jacobian of the dynamics with delays, ``Q_i: = sum_j J_ij exp(-d_ij Q)_j:``, (n, n), 1/s.

    Of the Jacobian J without delays (1/s) and the delays d (s), both (n, n). `rows` are the states
    that receive something delayed, `columns` those from which it comes: other entries of d are not
    used, and other rows of J are taken for constants. The iteration and its series stop where SPM's
    do (at `tolerance` of the first-order solution), and the result is SPM's. Derivatives, in both
    modes, are those of the exact solution, from the implicit function theorem.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> Q = delayed_jacobian(jnp.full((1, 1), -1.0), jnp.full((1, 1), 0.1), (0,), (0,), 1e-12)
    >>> round(float(Q[0, 0]), 6)
    -1.118326
    """
    rows, columns = np.array(rows), np.array(columns)
    J, step = jacobian[np.ix_(rows, columns)], -delays[np.ix_(rows, columns)]
    delayed = jnp.zeros_like(jacobian).at[np.ix_(rows, columns)].set(-step * J)
    first = jnp.linalg.solve(jnp.eye(len(jacobian)) + delayed, jacobian)
    first = jacobian.at[rows].set(first[rows])
    limit = tolerance * _norm(first)

    def series(Q: jax.Array) -> jax.Array:
        """Right-hand side of the equation, in the rows with delays."""

        def add_term(state: tuple) -> tuple:
            m, weight, power, total, _ = state
            weight, power = weight * step, power @ Q / m
            term = weight @ power
            term = jnp.where(jnp.isfinite(term), term, 0.0)
            return m + 1, weight, power, total + term, _norm(term)

        def unfinished(state: tuple) -> jax.Array:
            return (state[0] <= TERMS) & (state[-1] >= limit)

        start = (1, J, jnp.eye(len(Q))[columns], jacobian[rows], jnp.inf)
        return jax.lax.while_loop(unfinished, add_term, start)[3]

    def iterate(state: tuple) -> tuple:
        count, Q, _, _ = state
        new = series(Q)
        damped = (1 - SHARE) * Q[rows] + SHARE * new
        return count + 1, Q.at[rows].set(damped), new, _norm(damped - new)

    def unfinished(state: tuple) -> jax.Array:
        # False for an error that is not a number: nothing would mend it.
        return (state[0] < ITERATIONS) & (state[-1] >= limit)

    start = (0, first, first[rows], jnp.inf)
    return jacobian.at[rows].set(jax.lax.while_loop(unfinished, iterate, start)[2])


@delayed_jacobian.defjvp
def _derivative(
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    tolerance: float,
    primals: tuple[jax.Array, jax.Array],
    tangents: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Solution and its derivative: one linear system for all directions.

    With ``s = -d``, ``R(Q, J, s) = sum_m (s^m o J) Q^m / m!`` and G_p as below, the change X of
    the solution's rows obeys ``X - sum_p G_p X Q^p / p! = dR`` at fixed Q.
    """
    jacobian, delays = primals
    d_jacobian, d_delays = tangents
    Q = delayed_jacobian(jacobian, delays, rows, columns, tolerance)
    block = np.ix_(np.array(rows), np.array(columns))
    J, dJ = jacobian[block], d_jacobian[block]
    s, ds = -delays[block] / UNIT, -d_delays[block] / UNIT
    q, (r, n) = Q * UNIT, (len(rows), len(Q))

    def forward(state: tuple, m: jax.Array) -> tuple[tuple, tuple]:
        weight, power = state
        new = weight * s, power @ q / m
        return new, (weight, *new)

    start = jnp.ones_like(s), jnp.eye(n)
    count = jnp.arange(1.0, DERIVATIVE_TERMS + 1)
    _, (lower, weights, powers) = jax.lax.scan(forward, start, count)
    sources = powers[:, np.array(columns)]
    by_J = jnp.einsum("mij,mjk->ijk", weights, sources)
    by_s = jnp.einsum("m,mij,ij,mjk->ijk", count, lower, J, sources)
    change = d_jacobian[np.array(rows)]
    change = change + jnp.einsum("ij,ijk->ik", dJ, by_J) + jnp.einsum("ij,ijk->ik", ds, by_s)

    def backward(G: jax.Array, term: tuple) -> tuple[jax.Array, jax.Array]:
        m, weight = term
        G = (G @ q).at[:, np.array(columns)].add(weight * J) / m
        return G, G[:, np.array(rows)]

    # G_p = p! sum_{m > p} (s^m o J) / m! Q^(m - 1 - p), from the highest p to p = 0.
    _, G = jax.lax.scan(backward, jnp.zeros((r, n)), (count, weights), reverse=True)
    powers = jnp.concatenate([jnp.eye(n)[None], powers[:-1]])
    operator = jnp.einsum("pia,pjb->ibaj", UNIT * G, powers).reshape(r * n, r * n)
    change = jnp.linalg.solve(jnp.eye(r * n) - operator, change.reshape(-1))
    change = change.reshape(r, n)
    return Q, d_jacobian.at[np.array(rows)].set(change, unique_indices=True)


def _norm(matrix: jax.Array) -> jax.Array:
    """Largest absolute row sum."""
    return jnp.abs(matrix).sum(1).max()
