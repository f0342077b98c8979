"""Schemes of one step of fixed length, for what is held during the step: inputs, noise, delays."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Rate = Callable[[jax.Array], jax.Array]


def euler(rate: Rate, x: jax.Array, step: float) -> jax.Array:
    """Euler's scheme, of first order.

    Parameters
    ----------
    rate : callable
        Rate of change per second of states (nodes, states).
    x : jax.Array
        States before the step, shape (nodes, states).
    step : float
        Length of the step, s.

    Returns
    -------
    jax.Array
        States after the step.

    Examples
    --------
    >>> float(euler(lambda x: -x, jnp.ones((1, 1)), 0.1)[0, 0])
    0.9
    """
    return x + step * rate(x)


def heun(rate: Rate, x: jax.Array, step: float) -> jax.Array:
    """Heun's scheme, of second order: the mean of the rates before and after an Euler step.

    Parameters
    ----------
    rate, x, step
        As in `euler`.

    Returns
    -------
    jax.Array
        States after the step.

    Examples
    --------
    >>> round(float(heun(lambda x: -x, jnp.ones((1, 1)), 0.1)[0, 0]), 6)
    0.905
    """
    first = rate(x)
    return x + step / 2 * (first + rate(x + step * first))


def rk4(rate: Rate, x: jax.Array, step: float) -> jax.Array:
    """The classical Runge-Kutta scheme, of fourth order.

    Parameters
    ----------
    rate, x, step
        As in `euler`.

    Returns
    -------
    jax.Array
        States after the step.

    Examples
    --------
    >>> round(float(rk4(lambda x: -x, jnp.ones((1, 1)), 0.1)[0, 0]), 7)
    0.9048375
    """
    k1 = rate(x)
    k2 = rate(x + step / 2 * k1)
    k3 = rate(x + step / 2 * k2)
    k4 = rate(x + step * k3)
    return x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def exponential_euler(rate: Rate, x: jax.Array, step: float) -> jax.Array:
    """Exponential Euler by state: each decays by its own slope, the others held; first order.

    Parameters
    ----------
    rate : callable
        Rate of change per second; what it does is by node, without sums over nodes.
    x, step
        As in `euler`.

    Returns
    -------
    jax.Array
        States after the step.

    Examples
    --------
    >>> round(float(exponential_euler(lambda x: -x, jnp.ones((1, 1)), 0.1)[0, 0]), 7)
    0.9048374
    """
    change, pushforward = jax.linearize(rate, x)
    directions = jnp.eye(x.shape[1])
    slopes = [
        pushforward(jnp.broadcast_to(direction, x.shape))[:, state]
        for state, direction in enumerate(directions)
    ]
    exponent = step * jnp.stack(slopes, axis=1)
    flat = jnp.abs(exponent) < 1e-10
    safe = jnp.where(flat, 1.0, exponent)
    return x + step * change * jnp.where(flat, 1 + exponent / 2, jnp.expm1(safe) / safe)


SCHEMES = {"euler": euler, "heun": heun, "rk4": rk4, "exponential_euler": exponential_euler}
