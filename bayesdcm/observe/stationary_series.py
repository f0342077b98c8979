"""The exact density of stationary normal series, without their covariance matrix.

Each sample is predicted from all before it, as a Kalman filter does it, but from covariances at all
lags: spectra need not be those of finitely many states, and power laws are not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular


def stationary_log_density(
    covariances: jax.Array, series: jax.Array, confounds: jax.Array
) -> jax.Array:
    """Log-density of what confounds leave of series, by the recursion of Whittle over the lags.

    It takes the square of samples in time, and samples in memory.

    Parameters
    ----------
    covariances : jax.Array
        ``E[x(t + lag) x(t)^T]`` at lags 0, 1, ..., samples - 1, shape (samples, n, n).
    series : jax.Array
        Shape (samples, n).
    confounds : jax.Array
        Orthonormal columns, shape (samples, k), of which any multiple may be in any series.

    Returns
    -------
    jax.Array
        Nats, (), of ``n (samples - k)`` numbers; -inf where covariances are those of no series.

    References
    ----------
    .. [1] Whittle (1963), Biometrika 50:129. https://doi.org/10.1093/biomet/50.1-2.129

    Examples
    --------
    >>> white = jnp.zeros((3, 1, 1)).at[0].set(1.0)
    >>> density = stationary_log_density(white, jnp.ones((3, 1)), jnp.zeros((3, 0)))
    >>> round(float(density + 1.5 * jnp.log(2 * jnp.pi)), 12)
    -1.5
    """
    samples, n = series.shape
    # What prediction leaves of the covariances at the next lags gives the next weights.
    later = jnp.concatenate([covariances[1:], jnp.zeros((1, n, n))])
    in_each = jnp.einsum("tk,ij->tijk", confounds, jnp.eye(n)).reshape(samples, n, -1)
    rows = jnp.concatenate([series[..., None], in_each, later], axis=2)
    n_white = rows.shape[2] - n
    none = jnp.zeros((samples, n, n))

    def behind(first: jax.Array, others: jax.Array) -> jax.Array:
        return jnp.concatenate([first[None], others[:-1]])

    def advance(state: tuple, given: tuple) -> tuple:
        # Weights of the samples before, nearest first, and of those after, nearest last.
        forward, backward, error, error_back, past, products, logarithm = state
        k, row = given
        new = row - jnp.einsum("lij,ljk->ik", forward, past)
        root = jnp.linalg.cholesky(error)
        white = solve_triangular(root, new[:, :n_white], lower=True)
        partial = new[:, n_white:]
        last = cho_solve((jnp.linalg.cholesky(error_back), True), partial.T).T
        last_back = cho_solve((root, True), partial).T
        return (
            (forward - last @ backward).at[k].set(last),
            behind(last_back, backward - last_back @ forward),
            error - last @ partial.T,
            error_back - last_back @ partial,
            behind(row, past),
            products + white.T @ white,
            logarithm + 2 * jnp.log(jnp.diagonal(root)).sum(),
        ), None

    start = none, none, covariances[0], covariances[0], jnp.zeros_like(rows)
    start = *start, jnp.zeros((n_white, n_white)), jnp.zeros(())
    *_, products, logarithm = jax.lax.scan(advance, start, (jnp.arange(samples), rows))[0]
    # The first column is data; confounds are projected out of it.
    root = jnp.linalg.cholesky(products[1:, 1:])
    inside = solve_triangular(root, products[1:, 0], lower=True)
    logarithm += 2 * jnp.log(jnp.diagonal(root)).sum()
    size = n * (samples - confounds.shape[1])
    quadratic = products[0, 0] - inside @ inside
    density = -(size * jnp.log(2 * jnp.pi) + logarithm + quadratic) / 2
    return jnp.where(jnp.isfinite(density), density, -jnp.inf)
