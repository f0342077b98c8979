"""Synapses and firing rates of the neural mass models."""

from __future__ import annotations

import jax


def synapse(
    voltage: jax.Array, current: jax.Array, afferent: jax.Array, gain: jax.Array, tau: jax.Array
) -> jax.Array:
    """Rate of change of a synaptic current, ``(gain afferent - 2 current - voltage / tau) / tau``.

    Parameters
    ----------
    voltage, current : jax.Array
        Postsynaptic potential (mV) and its derivative (mV/s), shape (sources,).
    afferent : jax.Array
        What drives the synapse, shape (sources,).
    gain, tau : jax.Array
        Gain, and time constant in s, broadcast against the others.

    Returns
    -------
    jax.Array
        Shape (sources,), mV/s^2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(synapse(jnp.ones(()), jnp.zeros(()), jnp.ones(()), jnp.ones(()), jnp.full((), 0.5)))
    -2.0
    """
    return (gain * afferent - 2 * current - voltage / tau) / tau


def firing_rate(voltage: jax.Array, activation: jax.Array) -> jax.Array:
    """Sigmoid of the voltage that is zero at zero, ``s(a (v - b)) - s(-a b)``, ``s`` logistic.

    Parameters
    ----------
    voltage : jax.Array
        Any shape, mV.
    activation : jax.Array
        Slope ``a`` (1/mV) and threshold ``b`` (mV), shape (2,).

    Returns
    -------
    jax.Array
        In the shape of `voltage`, relative to the largest rate.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(firing_rate(jnp.zeros(()), jnp.array([1.0, 2.0])))
    0.0
    """
    slope, threshold = activation[0], activation[1]
    return jax.nn.sigmoid(slope * (voltage - threshold)) - jax.nn.sigmoid(-slope * threshold)
