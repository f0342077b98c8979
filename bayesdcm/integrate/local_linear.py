"""Local linearisation: the scheme of SPM for evoked responses, with its delay operator.

Delays enter through the first-order expansion of the delayed states, which turns the delay
equation into ``dx/dt = D f(x, u)`` with an operator D that depends on the delays and on the
Jacobian J at the start. One operator then advances the states over every sample::

    x <- x + P f(x, u),   P = (exp(dt D J) - 1) / J = dt phi(dt D J) D,   phi(z) = (exp(z) - 1) / z

The last form needs no inverse: J has no full rank in several models. See David et al. (2006),
https://doi.org/10.1016/j.neuroimage.2005.10.045.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.delays import inverse

# SPM shifts the Jacobian by this much so that it can be inverted.
SHIFT = float(np.exp(-16))
# Coefficients of the Pade approximant of order 13 to the exponential (reference of `phi`).
PADE = np.array([factorial(26 - j) // factorial(13 - j) // factorial(j) for j in range(14)], float)
# Norms up to which `phi` is accurate to 1e-19, 1e-11, and not at all.
USUAL_NORM, LARGEST_NORM = 4.0, 16.0


def balance(matrix: jax.Array) -> jax.Array:
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
    scale = balance(matrix)
    return jnp.abs(matrix * (scale[None, :] / scale[:, None])).sum(1).max()


def phi(matrix: jax.Array, halvings: int = 0) -> jax.Array:
    """``(exp(Z) - 1) / Z`` of a real square matrix, differentiable in both modes.

    With the Pade approximant ``exp(Z) = (V + Z W) / (V - Z W)``, where V and W are even, this is
    ``2 W / (V - Z W)``: no inverse of Z is needed. The argument is halved `halvings` times before,
    and the result doubled as often after. The error is below 1e-11 where the balanced norm of ``Z /
    2**halvings`` is below 8; from 16 the result is NaN, which a likelihood takes for -inf. Higham
    (2005), https://doi.org/10.1137/04061101X

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(phi(jnp.ones((1, 1)))[0, 0]), 10)
    1.7182818285
    """
    scale = balance(matrix)
    similarity = scale[None, :] / scale[:, None]
    X = matrix * similarity / 2**halvings
    norm = jnp.abs(jax.lax.stop_gradient(X)).sum(1).max()
    b, identity = PADE, jnp.eye(len(X))
    X2 = X @ X
    X4 = X2 @ X2
    X6 = X4 @ X2
    odd = X6 @ (b[13] * X6 + b[11] * X4 + b[9] * X2)
    odd = odd + b[7] * X6 + b[5] * X4 + b[3] * X2 + b[1] * identity
    even = X6 @ (b[12] * X6 + b[10] * X4 + b[8] * X2)
    even = even + b[6] * X6 + b[4] * X4 + b[2] * X2 + b[0] * identity
    total = inverse(even - X @ odd) @ (2 * odd)
    for k in range(halvings):
        exponential = identity + X * 2**k @ total
        total = (total + exponential @ total) / 2
    return jnp.where(norm < LARGEST_NORM, total, jnp.nan) / similarity


def step_operator(
    jacobian: jax.Array, delay_operator: jax.Array, dt: float, halvings: int
) -> jax.Array:
    """The operator P (n, n), s, that advances the states by ``P f(x, u)`` over a step dt, s.

    Of the Jacobian (n, n), 1/s, and the delay operator (n, n), the identity without delays; with
    `halvings` as in `phi`, see `halvings_for`.
    """
    shifted = jacobian - SHIFT * jnp.eye(len(jacobian))
    return dt * phi(dt * delay_operator @ shifted, halvings) @ delay_operator


def halvings_for(norm: float) -> int:
    """Halvings that `phi` needs where its argument has this `balanced_norm` at a typical point.

    With room for arguments twice to four times as large.

    Examples
    --------
    >>> halvings_for(3.0), halvings_for(9.0)
    (0, 2)
    """
    return max(0, int(np.ceil(np.log2(max(norm, 1e-300) / USUAL_NORM))))


def local_linear(
    flow: Callable[[jax.Array, jax.Array], jax.Array],
    x0: jax.Array,
    inputs: jax.Array,
    operator: jax.Array,
    steps: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """States (steps, n) after every step of local linearisation; the first, after the first input.

    Of the rate of change ``flow(x, u)``, 1/s, the initial states (n,), inputs (steps, inputs), and
    the operator (n, n) from `step_operator`. Where its derivatives are easier found of what it does
    to rates (steps, n), `steps` gives that. Derivatives of any order are those of the scheme.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> P = step_operator(-jnp.eye(1), jnp.eye(1), 1.0, 0)
    >>> x = local_linear(lambda x, u: u - x, jnp.zeros(1), jnp.ones((3, 1)), P)
    >>> x[:, 0].round(4).tolist()
    [0.6321, 0.8647, 0.9502]
    """
    rate, of_flow = jax.closure_convert(flow, x0, inputs[0])
    moved, of_steps = jax.closure_convert(
        steps or (lambda rates: rates @ operator.T), jnp.zeros((len(inputs), len(x0)))
    )
    return _states(rate, moved, x0, inputs, operator, of_flow, of_steps)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _states(
    rate: Callable,
    moved: Callable,
    x0: jax.Array,
    inputs: jax.Array,
    operator: jax.Array,
    of_flow: list[jax.Array],
    of_steps: list[jax.Array],
) -> jax.Array:
    """States of `local_linear`: `rate` is its flow, and `moved` its `steps`, with what they use."""

    def step(x: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = x + operator @ rate(x, u, *of_flow)
        return x, x

    return jax.lax.scan(step, x0, inputs)[1]


@_states.defjvp
def _states_jvp(
    rate: Callable, moved: Callable, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    x0, inputs, operator, of_flow, of_steps = primals
    dx0, du, _, d_flow, d_steps = tangents
    states = _states(rate, moved, *primals)
    before = jnp.concatenate([x0[None], states[:-1]])
    rates = jax.vmap(lambda x, u: rate(x, u, *of_flow))(before, inputs)
    # What changes with the operator is found for all steps at once.
    changes = jax.jvp(lambda *of_steps: moved(rates, *of_steps), of_steps, d_steps)[1]

    def advance(dx: jax.Array, given: tuple) -> tuple[jax.Array, jax.Array]:
        x, u, du, change = given
        along = jax.jvp(rate, (x, u, *of_flow), (dx, du, *d_flow))[1]
        dx = dx + operator @ along + change
        return dx, dx

    return states, jax.lax.scan(advance, dx0, (before, inputs, du, changes))[1]
