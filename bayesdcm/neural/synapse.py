"""Synapses and firing rates of the neural mass models."""

from __future__ import annotations

import jax


def synapse(
    voltage: jax.Array, current: jax.Array, afferent: jax.Array, gain: jax.Array, tau: jax.Array
) -> jax.Array:
    """Rate of change (mV/s^2) of a current, ``(gain afferent - 2 current - voltage / tau) / tau``.

    Of postsynaptic potential (mV), its derivative (mV/s), what drives the synapse, its gain, and
    its time constant in s, each (sources,) or broadcast.
    """
    return (gain * afferent - 2 * current - voltage / tau) / tau


def firing_rate(voltage: jax.Array, activation: jax.Array) -> jax.Array:
    """Sigmoid that is zero at zero, ``s(a (v - b)) - s(-a b)``, ``s`` logistic, of a voltage in mV.

    `activation` holds the slope a (1/mV) and the threshold b (mV); relative to the largest rate.
    """
    slope, threshold = activation[0], activation[1]
    return jax.nn.sigmoid(slope * (voltage - threshold)) - jax.nn.sigmoid(-slope * threshold)
