"""Noise that drives the nodes of a network, independent between regions."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class OrnsteinUhlenbeck:
    """Coloured noise that is added to what nodes receive.

    The process starts in its stationary distribution and is advanced exactly, so that its
    standard deviation and its time constant are the same in any step: ``x(t + h) = exp(-h / tau)
    x(t) + sd sqrt(1 - exp(-2 h / tau)) N(0, 1)``. Programs that write ``dx = -x / tau dt + sigma
    / sqrt(tau) dW`` have ``sd = sigma / sqrt(2)``.

    Parameters
    ----------
    sd : array_like
        Stationary standard deviation, a number or by region, in the unit of what is received.
    tau : array_like
        Time constant, s, a number or by region.
    into : str or tuple of str, optional
        The afferent that it is added to; several have independent noise of the same size.
        Default: where the coupling arrives (the first of them).

    References
    ----------
    .. [1] Gillespie (1996), Physical Review E 54:2084. https://doi.org/10.1103/PhysRevE.54.2084

    Examples
    --------
    >>> OrnsteinUhlenbeck(sd=0.1, tau=0.02).tau
    0.02
    """

    sd: ArrayLike
    tau: ArrayLike
    into: str | tuple[str, ...] = ""


@dataclass(frozen=True, eq=False)
class White:
    """White noise that is added to the rate of change of a state, ``dx = f dt + intensity dW``.

    Parameters
    ----------
    intensity : array_like
        A number or by region, unit of the state / sqrt(s).
    into : str or tuple of str, optional
        The state; several have independent noise of the same size. Default: the node's first.

    Examples
    --------
    >>> White(0.01).into
    ''
    """

    intensity: ArrayLike
    into: str | tuple[str, ...] = ""


Noise = OrnsteinUhlenbeck | White


def standard_normals(key: jax.Array, first: jax.Array, steps: int, nodes: int) -> jax.Array:
    """Independent normal numbers that depend on the key and the number of the step alone.

    Parameters
    ----------
    key : jax.Array
        Key of one process of one simulation.
    first : jax.Array
        Number of the first step.
    steps, nodes : int
        How many.

    Returns
    -------
    jax.Array
        Shape (steps, nodes).
    """
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(first + jnp.arange(steps))
    return jax.vmap(lambda each: jax.random.normal(each, (nodes,)))(keys)


def coloured(
    start: jax.Array, normals: jax.Array, sd: jax.Array, tau: jax.Array, step: float
) -> jax.Array:
    """An Ornstein-Uhlenbeck process after each step.

    Parameters
    ----------
    start : jax.Array
        Value before the first step, shape (nodes,).
    normals : jax.Array
        From `standard_normals`, shape (steps, nodes).
    sd, tau : jax.Array
        Stationary standard deviation, and time constant, s; numbers or shape (nodes,).
    step : float
        Length of a step, s.

    Returns
    -------
    jax.Array
        Shape (steps, nodes).
    """
    kept = jnp.exp(-step / tau)
    fresh = sd * jnp.sqrt(-jnp.expm1(-2 * step / tau))

    def advance(value: jax.Array, normal: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = kept * value + fresh * normal
        return value, value

    return lax.scan(advance, start, normals)[1]
