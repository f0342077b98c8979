"""The laminar column as a source of evoked responses, driven by a stimulus and by other sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior
from bayesdcm.neural.delays import delay_matrix
from bayesdcm.neural.laminar import LaminarColumn
from bayesdcm.neural.laminar_equations import (
    COMPARTMENTS,
    STATES,
    Parts,
    calibration,
    constants_of,
    firing,
    relaxation,
    rest,
)
from bayesdcm.neural.source import SourceModel, scaling

# Weights, uS, of one event at each compartment, AMPA then NMDA: means of the proximal and the
# distal drives of hnn-core's somatosensory example.
PROXIMAL = np.array(
    [[0.0039, 0, 0.002, 0, 0.0033, 0.00295], [0.0005, 0, 0.00195, 0, 0.00195, 0.0025]]
).ravel()
DISTAL = np.array(
    [[0, 0.00255, 0, 0.00135, 0.0042, 0], [0, 0.00345, 0, 0.00135, 0.00305, 0]]
).ravel()
# Events per spike of a cell elsewhere: a volley of 0.3 spikes a cell is about one event.
EVENTS_PER_SPIKE = 3.0
DELAY_BETWEEN = 0.008
# The stimulus is one event where its input has its prior shape (32 at the peak, sd 16 ms).
EVENTS_PER_INPUT = 1 / (32 * 16 * np.sqrt(2 * np.pi))
ABSENT = -32.0


@cache
def column() -> dict[str, np.ndarray]:
    """Constants of the column as calibrated, see `constants_of`."""
    with jax.ensure_compile_time_eval():
        return jax.tree.map(np.asarray, constants_of(jnp.asarray(calibration().values)))


@dataclass(frozen=True, eq=False)
class LaminarSource(SourceModel):
    """Superficial and deep pyramidal and basket cells; fifty states per source.

    The column of `LaminarColumn`, whose constants are calibrated on the network of the Human
    Neocortical Neurosolver. The stimulus and forward connections, from superficial pyramidal cells
    elsewhere, act as proximal drives; backward connections, from deep pyramidal cells, as distal
    ones; lateral connections as both. Channels see the current along the apical dendrites of both
    layers.

    Parameters
    ----------
    forward, backward, lateral, modulation, inputs : ndarray
        Switches, see `bayesdcm.neural.SourceModel`.

    References
    ----------
    .. [1] Neymotin et al. (2020), eLife 9:e51214. https://doi.org/10.7554/eLife.51214

    Examples
    --------
    >>> import numpy as np
    >>> off = np.zeros((1, 1))
    >>> LaminarSource(off, off, off, np.zeros((0, 1, 1)), np.ones((1, 1))).rest().shape
    (1, 50)
    """

    states: ClassVar[tuple[str, ...]] = STATES
    populations: ClassVar[Mapping[str, int]] = {name: i for i, name in enumerate(COMPARTMENTS)}
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": SourceModel.kinds,
        "synapse": ("excitatory", "inhibitory"),
        "timing": ("onset", "dispersion"),
        "state": STATES,
    }
    input_gain: ClassVar[float] = EVENTS_PER_INPUT
    gain: ClassVar[tuple[str, str]] = ("synaptic_gain", "gain of local excitatory synapses")
    output: ClassVar[int] = 2
    stiff: ClassVar[bool] = True
    signals: ClassVar[tuple[str, ...]] = ("superficial_firing", "deep_firing")
    afferents: ClassVar[tuple[str, ...]] = ("proximal", "distal")
    title: ClassVar[str] = "laminar column"
    citation: ClassVar[tuple[str, str]] = LaminarColumn.citation

    def rest(self, parameters: Parameters | None = None) -> np.ndarray:
        """States without input, shape (sources, 50)."""
        return np.tile(rest(), (self.n_nodes, 1))

    @property
    def contribution(self) -> Prior:
        """Weights of the voltages of somata and apical dendrites in the dipole; fixed."""
        superficial, deep = column()["dipole"]
        mean = np.zeros(len(STATES))
        mean[:4] = np.array([superficial, -superficial, deep, -deep]) / deep
        return Prior("contribution", ("state",), mean, 0 * mean, "relative weight", "J")

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Spikes per cell and ms of superficial and deep pyramidal cells, shape (2, sources)."""
        above = (x - rest())[:, : len(COMPARTMENTS)]
        return firing(above, column())[:, :2].T

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """Proximal and distal events per ms, shape (2, sources)."""
        superficial, deep = EVENTS_PER_SPIKE * sent
        forward, backward, lateral = jnp.exp(parameters["A"])
        both = lateral @ superficial
        return jnp.stack([forward @ superficial + both, backward @ deep + both])

    def relaxation(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> tuple[jax.Array, jax.Array]:
        """Rate, 1/s, at which each state relaxes, and to which value, (sources, states) each.

        Parameters
        ----------
        x : jax.Array
            States, shape (sources, states).
        received : jax.Array
            From `received`, shape (2, sources).
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            Full arrays by name.
        """
        proximal, distal = received
        proximal = proximal + self.drive(u, parameters)
        events = proximal[:, None] * PROXIMAL + distal[:, None] * DISTAL
        excitatory, inhibitory = jnp.exp(parameters["synaptic_gain"]).T[..., None, None]
        scaled = {
            "excitation": excitatory * column()["excitation"],
            "inhibition": inhibitory * column()["inhibition"],
        }
        rate, target = relaxation(Parts.of(x), events, {**column(), **scaled})
        return 1e3 * rate.joined(), target.joined()

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.base.NodeModel.local`."""
        rate, target = self.relaxation(x, received, u, parameters)
        return rate * (target - x)

    def delays(self, parameters: Parameters) -> jax.Array:
        """``8 exp(D)`` ms between sources; none within, where synapses have their own dynamics."""
        within = np.zeros((len(STATES), len(STATES)))
        return delay_matrix(DELAY_BETWEEN * jnp.exp(parameters["delay"]), within)

    def priors(self) -> tuple[Prior, ...]:
        """Variances as those of the model `ERP`."""
        n = self.n_nodes
        masks = [self.forward, self.backward, self.lateral]
        return (
            scaling("synaptic_gain", ("source", "synapse"), np.full((n, 2), 1 / 16), "G"),
            self._connections(ABSENT, masks, 16),
            self._effects("B", self.modulation / 8, "B"),
            self._driving(ABSENT),
            scaling("delay", ("to", "from"), self._union() * (1 - np.eye(n)) / 16, "D"),
            self._timing(),
        )
