"""The canonical microcircuit with conductances (CMM): four populations per source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior
from bayesdcm.neural.delays import delay_matrix
from bayesdcm.neural.nmda import (
    DELAY_BETWEEN,
    DELAY_WITHIN,
    EXCITATORY,
    INHIBITORY,
    LEAK,
    share_firing,
)
from bayesdcm.neural.source import SourceModel, scaling

POPULATIONS = ("stellate", "superficial", "inhibitory", "deep")
# Strengths of connections within a source, (to, from), and where connections between sources end.
GE = np.array([[0.0, 0, 0, 0], [4, 0, 0, 0], [4, 0, 0, 2], [0, 4, 0, 0]])
GI = np.array([[8.0, 2, 2, 0], [0, 8, 2, 0], [0, 0, 32, 0], [0, 0, 8, 128]])
SA = np.array([[1.0, 0], [0, 1], [0, 2], [0, 0]]) / 8
RATE_EXCITATORY = 250.0
RATE_INHIBITORY = 1000 * np.array([1 / 64, 1 / 32, 1 / 16, 1 / 16])
CAPACITANCE = np.array([16.0, 16, 32, 16]) / 1000
VARIANCE, BACKGROUND = 32.0, 1 / 2
# A pair of connections in both directions, each stronger than this, is divided by nine.
PRESENT, RECIPROCAL = float(np.exp(-8)), 1 / 9
ABSENT = -32.0
# Which strengths within a source vary; that of superficial cells among themselves does not count.
VARIES = np.array([[1.0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 1], [0, 1, 1, 1]])
FIXED = (1, 1)
START_VOLTAGE, START_CONDUCTANCE = -50.0, 1 / 8


@dataclass(frozen=True, eq=False)
class CMM(SourceModel):
    """Conductance-based stellate, superficial, inhibitory and deep cells; twelve states.

    Voltages obey ``C V' = (V_L - V) + g_E (V_E - V) + g_I (V_I - V)``; conductances approach the
    firing of the cells that excite and inhibit them. Forward connections run from superficial to
    stellate cells, backward ones from deep to superficial and inhibitory cells, and lateral ones
    are of both kinds; all excite. Rest depends on the parameters, so that this is a model for
    cross-spectra, whose solver finds it.

    Parameters
    ----------
    forward, backward, lateral, modulation, inputs : ndarray
        Switches, see `bayesdcm.neural.SourceModel`.

    References
    ----------
    .. [1] Friston et al. (2019), NeuroImage 199:730.
           https://doi.org/10.1016/j.neuroimage.2017.02.045

    Examples
    --------
    >>> off = np.zeros((1, 1))
    >>> CMM(off, off, off, np.zeros((0, 1, 1)), np.ones((1, 1))).rest()[0, :5].tolist()
    [-50.0, -50.0, -50.0, -50.0, 0.125]
    """

    states: ClassVar[tuple[str, ...]] = tuple(
        f"{population} {kind}"
        for kind in ("voltage", "AMPA conductance", "GABA conductance")
        for population in POPULATIONS
    )
    populations: ClassVar[Mapping[str, int]] = dict(zip(POPULATIONS, range(4), strict=True))
    kinds: ClassVar[tuple[str, ...]] = ("forward", "backward")
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": kinds,
        "population": POPULATIONS,
        "to population": POPULATIONS,
        "from population": POPULATIONS,
        "delay": ("intrinsic", "extrinsic"),
        "timing": ("onset", "dispersion"),
        "state": states,
    }
    input_gain: ClassVar[float] = 1e-3
    fluctuation_gain: ClassVar[float] = 8e-3
    gain: ClassVar[tuple[str, str]] = ("self_gain", "gain without effect, as in SPM")
    output: ClassVar[int] = 1
    also_seen: ClassVar[tuple[int, ...]] = (2, 3)
    signals: ClassVar[tuple[str, ...]] = ("superficial_firing", "deep_firing")
    afferents: ClassVar[tuple[str, ...]] = kinds
    title: ClassVar[str] = "CMM"
    citation: ClassVar[tuple[str, str]] = (
        "Friston KJ, Preller KH, Mathys C, Cagnan H, Heinzle J, Razi A, Zeidman P (2019). Dynamic "
        "causal modelling revisited. NeuroImage 199:730-744.",
        "https://doi.org/10.1016/j.neuroimage.2017.02.045",
    )

    @staticmethod
    def _firing(V: jax.Array, p: Parameters) -> jax.Array:
        return share_firing(V, VARIANCE * jnp.exp(p["activation"]))

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Share of superficial and of deep pyramidal cells that fire, shape (2, sources)."""
        return self._firing(jnp.stack([x[:, 1], x[:, 3]]), parameters)

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """What reaches sources by connections of each kind, shape (kinds, sources)."""
        strengths = jnp.exp(parameters["A"])
        present = strengths > PRESENT
        reciprocal = present & present.swapaxes(-1, -2)
        strengths = strengths * jnp.where(reciprocal, RECIPROCAL, 1.0)
        return (strengths * sent[:, None, :]).sum(-1)

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.base.NodeModel.local`."""
        V, g_E, g_I = jnp.split(x, 3, axis=-1)
        firing = self._firing(V, parameters)
        within = jnp.exp(parameters["intrinsic"]).at[:, FIXED[0], FIXED[1]].set(1.0)
        excitation = jnp.einsum("ipq,iq->ip", within * GE, firing) + received.T @ SA.T
        excitation = excitation + BACKGROUND * jnp.exp(parameters["background"])
        excitation = excitation.at[:, 0].add(self.drive(u, parameters))
        inhibition = jnp.einsum("ipq,iq->ip", within * GI, firing)
        current = (LEAK - V) + g_E * (EXCITATORY - V) + g_I * (INHIBITORY - V)
        rate = RATE_INHIBITORY * jnp.exp(-parameters["time_constant"])[:, None]
        rates = [
            current / (CAPACITANCE * jnp.exp(parameters["capacitance"])),
            (excitation - g_E) * RATE_EXCITATORY,
            (inhibition - g_I) * rate,
        ]
        return jnp.concatenate(rates, axis=-1)

    def rest(self, parameters: Parameters | None = None) -> np.ndarray:
        """Where the search for rest starts: voltages of -50 mV and conductances of 1/8."""
        start = np.repeat([START_VOLTAGE, START_CONDUCTANCE, START_CONDUCTANCE], 4)
        return np.tile(start, (self.n_nodes, 1))

    def delays(self, parameters: Parameters) -> jax.Array:
        """2 ms between populations of a source and 16 ms between sources, scaled."""
        within, between = jnp.exp(parameters["delay"])
        other_population = np.kron(np.ones((3, 3)), 1 - np.eye(4))
        n = len(parameters["time_constant"])
        return delay_matrix(
            DELAY_BETWEEN * between * jnp.ones((n, n)), DELAY_WITHIN * within * other_population
        )

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors, in SPM's order."""
        n = self.n_nodes
        masks = [np.maximum(self.forward, self.lateral), np.maximum(self.backward, self.lateral)]
        mean = ABSENT * (1 - self.inputs)
        populations = ("source", "to population", "from population")
        return (
            scaling("activation", (), 1 / 64, "S"),
            scaling("time_constant", ("source",), np.full(n, 1 / 64), "T"),
            scaling("self_gain", ("source",), np.zeros(n), "G"),
            scaling("capacitance", ("population",), np.full(4, 1 / 16), "CV"),
            scaling("background", (), 1 / 64, "E"),
            self._connections(ABSENT, masks, 8),
            self._effects("B", self.modulation / 8, "B"),
            scaling("C", ("to", "input"), self.inputs / 8, "C", mean),
            scaling("intrinsic", populations, np.tile(VARIES / 32, (n, 1, 1)), "H"),
            self._timing(),
            scaling("delay", ("delay",), np.full(2, 1 / 64), "D"),
        )
