"""The conductance-based neural mass model with NMDA receptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior, differentiate, from_vector, to_vector
from bayesdcm.neural.delays import delay_matrix
from bayesdcm.neural.source import SourceModel, scaling

EXTRINSIC = np.array([1 / 2, 1 / 4, 1 / 4])
CAPACITANCE = 8e-3
RATE_EXCITATORY, RATE_INHIBITORY, RATE_NMDA = 250.0, 62.5, 10.0
# Reversal potentials and threshold, mV.
LEAK, EXCITATORY, INHIBITORY, NMDA_REVERSAL = -70.0, 60.0, -90.0, 10.0
THRESHOLD = -40.0
# Variance of the voltage, and its covariances with the two conductances.
VARIANCE, COVARIANCES = 75.0, (0.2, 0.8)
BACKGROUND = 1 / 8
START_CONDUCTANCE = 1 / 8
DELAY_WITHIN, DELAY_BETWEEN = 0.002, 0.016
ABSENT = -32.0
# Targets (rows: stellate, interneuron, pyramidal) of forward, backward and lateral connections by
# AMPA and by NMDA receptors; then intrinsic excitation and inhibition, (to, from).
SA = np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]])
SN = np.array([[0.0, 0, 0], [0, 1, 0], [0, 1, 0]])
GE = np.array([[0.0, 0, 1 / 2], [0, 0, 1], [1 / 2, 0, 0]])
GI = np.array([[0.0, 1 / 4, 0], [0, 0, 0], [0, 1, 0]])


def firing_probability(z: jax.Array) -> jax.Array:
    """Approximate normal distribution function, ``1/2 + sign(z) sqrt(1 - exp(-2 z^2/pi)) / 2``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> firing_probability(jnp.array([0.0, 100.0])).tolist()
    [0.5, 1.0]
    """
    # Written as z sqrt((1 - exp(-2 z^2/pi)) / z^2), which has derivatives at the threshold.
    square = z**2
    small = square < 1e-8
    safe = jnp.where(small, 1.0, square)
    ratio = jnp.where(small, 2 / np.pi * (1 - square / np.pi), -jnp.expm1(-2 / np.pi * safe) / safe)
    return (1 + z * jnp.sqrt(ratio)) / 2


def share_firing(voltage: jax.Array, variance: jax.Array) -> jax.Array:
    """Share of cells beyond the threshold, of mean voltages, mV, with a variance over cells, mV^2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(share_firing(jnp.array(THRESHOLD), jnp.array(75.0)))
    0.5
    """
    return firing_probability((voltage - THRESHOLD) / jnp.sqrt(variance))


@dataclass(frozen=True, eq=False)
class NMDA(SourceModel):
    """Stellate cells, interneurons and pyramidal cells with conductances; twelve states.

    Each population has a voltage and three conductances g, which follow the firing that reaches
    it, ``g' = k (firing - g)``::

        C V' = (V_L - V) + g_E (V_E - V) + g_I (V_I - V) + g_N (V_N - V) b(V) + input - s

    with ``b(V)`` the share of NMDA receptors that magnesium does not block, and ``s`` the effect
    of the fluctuations that the model keeps fixed. The input drives stellate cells. The Jacobian
    leaves out the NMDA current and has the identity in its rows and columns: that is what SPM
    integrates with.

    Parameters
    ----------
    forward, backward, lateral, modulation, inputs : ndarray
        Switches, see `bayesdcm.neural.SourceModel`.

    References
    ----------
    .. [1] Moran et al. (2011), NeuroImage 55:1694.
           https://doi.org/10.1016/j.neuroimage.2010.12.046

    Examples
    --------
    >>> import numpy as np
    >>> off = np.zeros((1, 1))
    >>> NMDA(off, off, off, np.zeros((0, 1, 1)), np.ones((1, 1))).rest()[0, :4].tolist()
    [-70.0, -70.0, -70.0, 0.125]
    """

    states: ClassVar[tuple[str, ...]] = tuple(
        f"{population} {kind}"
        for kind in ("voltage", "AMPA conductance", "GABA conductance", "NMDA conductance")
        for population in ("stellate", "interneuron", "pyramidal")
    )
    populations: ClassVar[Mapping[str, int]] = {"stellate": 0, "interneuron": 1, "pyramidal": 2}
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": SourceModel.kinds,
        "delay": ("intrinsic", "extrinsic"),
        "timing": ("onset", "dispersion"),
        "state": states,
    }
    input_gain: ClassVar[float] = 1.0
    fluctuation_gain: ClassVar[float] = 1.0
    gain: ClassVar[tuple[str, str]] = ("intrinsic", "intrinsic excitatory strength")
    output: ClassVar[int] = 2
    also_seen: ClassVar[tuple[int, ...]] = (0, 1)
    signals: ClassVar[tuple[str, ...]] = ("firing",)
    afferents: ClassVar[tuple[str, ...]] = SourceModel.kinds
    title: ClassVar[str] = "NMDA"
    citation: ClassVar[tuple[str, str]] = (
        "Moran RJ, Stephan KE, Dolan RJ, Friston KJ (2011). Consistent spectral predictors for "
        "dynamic causal models of steady-state responses. NeuroImage 55:1694-1708.",
        "https://doi.org/10.1016/j.neuroimage.2010.12.046",
    )

    @staticmethod
    def _firing(V: jax.Array, p: Parameters) -> jax.Array:
        return share_firing(V, VARIANCE * jnp.exp(p["activation"]))

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Share of pyramidal cells that fire, shape (1, sources)."""
        return self._firing(x[None, :, 2], parameters)

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """What reaches sources by connections of each kind, shape (kinds, sources)."""
        return jnp.exp(parameters["A"]) @ sent[0]

    def _rates(
        self, x: jax.Array, received: jax.Array, u: jax.Array, p: Parameters, nmda_current: Any
    ) -> tuple[jax.Array, jax.Array]:
        """Rates of voltages, AMPA and GABA conductances, and what NMDA conductances approach."""
        V, g_E, g_I = jnp.split(x[:, :9], 3, axis=-1)
        m, afferent = self._firing(V, p), EXTRINSIC * received.T
        background = BACKGROUND * jnp.exp(p["background"])
        excitation = jnp.exp(p["intrinsic"])[:, None] * (m @ GE.T) + afferent @ SA.T + background
        spread = sum(COVARIANCES) * jnp.exp(p["activation"])
        current = (LEAK - V) + g_E * (EXCITATORY - V) + g_I * (INHIBITORY - V) - spread
        current = current.at[:, 0].add(self.drive(u, p)) + nmda_current
        rates = [
            current / (CAPACITANCE * jnp.exp(p["capacitance"])),
            (excitation - g_E) * (RATE_EXCITATORY * jnp.exp(-p["time_constant"])[:, None]),
            (m @ GI.T - g_I) * RATE_INHIBITORY,
        ]
        return jnp.concatenate(rates, axis=-1), excitation + background + afferent @ SN.T

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.base.NodeModel.local`."""
        V, g_N = x[:, :3], x[:, 9:]
        unblocked = 1.50265 / (1 + 0.33 * jnp.exp(-0.06 * V))
        nmda_current = g_N * (NMDA_REVERSAL - V) * unblocked
        rates, nmda = self._rates(x, received, u, parameters, nmda_current)
        return jnp.concatenate([rates, (nmda - g_N) * RATE_NMDA], axis=-1)

    def rest(self, parameters: Parameters | None = None) -> np.ndarray:
        """Voltages of -70 mV and conductances of 1/8, shape (sources, 12)."""
        start = np.repeat([LEAK, *[START_CONDUCTANCE] * 3], 3)
        return np.tile(start, (self.n_nodes, 1))

    def jacobian(
        self, x: jax.Array, u: jax.Array, parameters: Parameters, one_sided: bool = False
    ) -> jax.Array:
        """Jacobian without the NMDA current, the identity in its place; `SourceModel.jacobian`."""
        n = len(x)

        def flow(vector: jax.Array) -> jax.Array:
            states = from_vector(vector, n)
            received = self.received(self.sent(states, parameters), parameters)
            return to_vector(self._rates(states, received, u, parameters, 0.0)[0])

        k = 9 * n
        block = differentiate(flow, to_vector(x[:, :9]), one_sided)
        return jnp.eye(12 * n).at[:k, :k].set(block)

    def delays(self, parameters: Parameters) -> jax.Array:
        """2 ms between populations of a source and 16 ms between sources, scaled."""
        within, between = jnp.exp(parameters["delay"])
        other_population = np.kron(np.ones((4, 4)), 1 - np.eye(3))
        n = len(parameters["time_constant"])
        return delay_matrix(
            DELAY_BETWEEN * between * jnp.ones((n, n)), DELAY_WITHIN * within * other_population
        )

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors, in SPM's order; SA, GE and GI, which SPM fixes, are constants here."""
        n = self.n_nodes
        return (
            scaling("activation", (), 1 / 16, "S"),
            scaling("time_constant", ("source",), np.full(n, 1 / 16), "T"),
            scaling("intrinsic", ("source",), np.full(n, 1 / 16), "G"),
            self._connections(ABSENT, [self.forward, self.backward, self.lateral], 8),
            self._effects("B", self.modulation / 8, "B"),
            self._driving(ABSENT),
            self._timing(),
            scaling("delay", ("delay",), np.full(2, 1 / 64), "D"),
            scaling("background", (), 1 / 16, "U"),
            scaling("capacitance", (), 1 / 16, "CV"),
        )
