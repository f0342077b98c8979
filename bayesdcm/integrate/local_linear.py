"""Local linearisation: the scheme of SPM for evoked responses, with its delay operator.

Delays enter through the first-order expansion of the delayed states, which turns the delay
equation into ``dx/dt = D f(x, u)`` with an operator D that depends on the delays and on the
Jacobian J at the start. One operator then advances the states over every sample::

    x <- x + P f(x, u),   P = (exp(dt D J) - 1) / J = dt phi(dt D J) D,   phi(z) = (exp(z) - 1) / z

The last form needs no inverse: J has no full rank in several models.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# SPM shifts the Jacobian by this much so that it can be inverted.
SHIFT = float(np.exp(-16))
# Taylor terms of phi: with arguments of norm 1, the first one left out is 1 / 14!, or 1e-11.
ORDER = 12


def _balance(matrix: jax.Array) -> jax.Array:
    """Scales d, powers of two, for which diag(1/d) matrix diag(d) has rows and columns alike.

    Currents are hundreds of times larger than voltages in these models; without balancing, the
    norm says nothing about the time constants.
    """
    size = jnp.abs(jax.lax.stop_gradient(matrix))
    size = size - jnp.diag(jnp.diagonal(size))
    log_scale = jnp.zeros(len(matrix))
    for _ in range(4):
        scaled = size * 2.0 ** (log_scale[None, :] - log_scale[:, None])
        columns, rows = scaled.sum(0), scaled.sum(1)
        usable = (columns > 0) & (rows > 0)
        ratio = jnp.where(usable, rows, 1.0) / jnp.where(usable, columns, 1.0)
        log_scale = log_scale + jnp.round(jnp.log2(ratio) / 4)
    return 2.0**log_scale


def balanced_norm(matrix: jax.Array) -> jax.Array:
    """Largest row sum of a matrix after balancing, ()."""
    scale = _balance(matrix)
    return jnp.abs(matrix * (scale[None, :] / scale[:, None])).sum(1).max()


def phi(matrix: jax.Array, halvings: int) -> jax.Array:
    """``(exp(Z) - 1) / Z`` of a square matrix, differentiable in both modes.

    Parameters
    ----------
    matrix : jax.Array
        Shape (n, n); real.
    halvings : int
        How often the argument is halved before the Taylor series, and the result doubled. The
        error is about 1e-11 where the balanced norm of ``matrix / 2**halvings`` is below 1; from
        4 the result is NaN, which a likelihood takes for -inf.

    Returns
    -------
    jax.Array
        Shape (n, n).

    References
    ----------
    .. [1] Higham (2008), Functions of Matrices, chapter 10.
           https://doi.org/10.1137/1.9780898717778

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(phi(jnp.ones((1, 1)), 1)[0, 0]), 10)
    1.7182818285
    """
    scale = _balance(matrix)
    similarity = scale[None, :] / scale[:, None]
    X = matrix * similarity / 2**halvings
    norm = jnp.abs(jax.lax.stop_gradient(X)).sum(1).max()
    identity = jnp.eye(len(X))
    powers = [identity, X, X @ X]
    powers += [powers[2] @ X, powers[2] @ powers[2]]
    weight = 1 / np.cumprod(np.arange(1.0, ORDER + 2))
    total = weight[ORDER] * powers[4]
    for first in range(ORDER - 4, -1, -4):
        total = total + sum(weight[first + k] * powers[k] for k in range(4))
        if first:
            total = powers[4] @ total
    if halvings:
        exponential = identity + X @ total
        for k in range(halvings):
            total = (total + exponential @ total) / 2
            if k < halvings - 1:
                exponential = exponential @ exponential
    return jnp.where(norm < 4.0, total, jnp.nan) / similarity


def step_operator(
    jacobian: jax.Array, delay_operator: jax.Array, dt: float, halvings: int
) -> jax.Array:
    """The operator P that advances the states by ``P f(x, u)``.

    Parameters
    ----------
    jacobian : jax.Array
        Of the flow, 1/s, shape (n, n).
    delay_operator : jax.Array
        D, shape (n, n); the identity without delays.
    dt : float
        Step, s.
    halvings : int
        As in `phi`; see `halvings_for`.

    Returns
    -------
    jax.Array
        Shape (n, n), s.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> P = step_operator(-jnp.eye(1), jnp.eye(1), 1.0, 1)
    >>> round(float(P[0, 0]), 6)
    0.632121
    """
    shifted = jacobian - SHIFT * jnp.eye(len(jacobian))
    return dt * phi(dt * delay_operator @ shifted, halvings) @ delay_operator


def halvings_for(norm: float) -> int:
    """Halvings that `phi` needs, with room for rates four times as large.

    Parameters
    ----------
    norm : float
        `balanced_norm` of the argument at a typical point, such as the prior mean.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> halvings_for(3.0)
    3
    """
    return max(1, int(np.ceil(np.log2(max(norm, 1e-300)))) + 1)


def local_linear(
    flow: Callable[[jax.Array, jax.Array], jax.Array],
    x0: jax.Array,
    inputs: jax.Array,
    operator: jax.Array,
    substeps: int = 1,
) -> jax.Array:
    """States after every step of local linearisation.

    Parameters
    ----------
    flow : callable
        ``flow(x, u)``: rate of change, 1/s, of the vector of states x (n,) under inputs u
        (inputs,).
    x0 : jax.Array
        Initial states, shape (n,).
    inputs : jax.Array
        Shape (steps, inputs).
    operator : jax.Array
        From `step_operator`, for a step of ``dt / substeps``, shape (n, n).
    substeps : int
        How often the operator is applied under each input.

    Returns
    -------
    jax.Array
        Shape (steps, n); the first row is the state after the first input.

    References
    ----------
    .. [1] David et al. (2006), NeuroImage 30:1255.
           https://doi.org/10.1016/j.neuroimage.2005.10.045

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> P = step_operator(-jnp.eye(1), jnp.eye(1), 1.0, 1)
    >>> x = local_linear(lambda x, u: u - x, jnp.zeros(1), jnp.ones((3, 1)), P)
    >>> x[:, 0].round(4).tolist()
    [0.6321, 0.8647, 0.9502]
    """

    def advance(x: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        for _ in range(substeps):
            x = x + operator @ flow(x, u)
        return x, x

    return jax.lax.scan(advance, x0, inputs)[1]
