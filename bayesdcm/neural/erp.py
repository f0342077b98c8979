"""The neural mass model of evoked responses with three populations (ERP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior
from bayesdcm.neural.delays import delay_matrix
from bayesdcm.neural.source import SourceModel, scaling
from bayesdcm.neural.synapse import firing_rate, synapse

EXTRINSIC = np.array([32.0, 16.0, 4.0])
INTRINSIC = 128 * np.array([1.0, 4 / 5, 1 / 4, 1 / 4])
TIME_CONSTANTS = np.array([0.008, 0.016])
GAINS = np.array([4.0, 32.0])
ACTIVATION = np.array([2 / 3, 1 / 3])
DELAY_WITHIN, DELAY_BETWEEN = 0.002, 0.016
ABSENT = -4.0


@dataclass(frozen=True, eq=False)
class ERP(SourceModel):
    """Stellate cells, pyramidal cells and inhibitory interneurons; nine states per source.

    Voltages follow their synaptic currents, and these ``tau i' = h d - 2 i - v / tau``, where the
    drive ``d`` of a population is the sum of firing rates that reach it, times coupling. Forward
    connections end on stellate cells, backward ones on the two others, lateral ones on all
    three. A connection that is absent has a strength of exp(-4) of the prior mean, not zero, as
    in SPM; a single source has none.

    Parameters
    ----------
    forward, backward, lateral, modulation, inputs : ndarray
        Switches, see `bayesdcm.neural.SourceModel`.

    References
    ----------
    .. [1] David et al. (2006), NeuroImage 30:1255.
           https://doi.org/10.1016/j.neuroimage.2005.10.045

    Examples
    --------
    >>> import numpy as np
    >>> off = np.zeros((1, 1))
    >>> ERP(off, off, off, np.zeros((0, 1, 1)), np.ones((1, 1))).rest().shape
    (1, 9)
    """

    states: ClassVar[tuple[str, ...]] = (
        "stellate voltage",
        "pyramidal excitatory voltage",
        "pyramidal inhibitory voltage",
        "stellate current",
        "pyramidal excitatory current",
        "pyramidal inhibitory current",
        "interneuron voltage",
        "interneuron current",
        "pyramidal voltage",
    )
    populations: ClassVar[Mapping[str, int]] = {"stellate": 0, "interneuron": 6, "pyramidal": 8}
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": SourceModel.kinds,
        "synapse": ("excitatory", "inhibitory"),
        "shape": ("slope", "threshold"),
        "intrinsic connection": (
            "pyramidal to stellate",
            "stellate to pyramidal",
            "pyramidal to interneuron",
            "interneuron to pyramidal",
        ),
        "timing": ("onset", "dispersion"),
        "state": states,
    }
    input_gain: ClassVar[float] = 2.0
    fluctuation_gain: ClassVar[float] = 64.0
    gain: ClassVar[tuple[str, str]] = ("synaptic_gain", "excitatory synaptic gain")
    output: ClassVar[int] = 8
    also_seen: ClassVar[tuple[int, ...]] = (0, 6)
    signals: ClassVar[tuple[str, ...]] = ("firing",)
    afferents: ClassVar[tuple[str, ...]] = ("bottom_up", "top_down")
    title: ClassVar[str] = "ERP"
    citation: ClassVar[tuple[str, str]] = (
        "David O, Kiebel SJ, Harrison LM, Mattout J, Kilner JM, Friston KJ (2006). Dynamic causal "
        "modeling of evoked responses in EEG and MEG. NeuroImage 30:1255-1272.",
        "https://doi.org/10.1016/j.neuroimage.2005.10.045",
    )

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Firing rates of pyramidal cells, shape (1, sources)."""
        return firing_rate(x[None, :, 8], ACTIVATION * jnp.exp(parameters["activation"]))

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """What reaches stellate cells, and what reaches the two others, shape (2, sources)."""
        present = 0.0 if sent.shape[1] == 1 else 1.0
        A = present * EXTRINSIC[:, None, None] * jnp.exp(parameters["A"])
        return jnp.stack([(A[0] + A[2]) @ sent[0], (A[1] + A[2]) @ sent[0]])

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.base.NodeModel.local`."""
        tau_e, tau_i = (TIME_CONSTANTS * jnp.exp(parameters["time_constant"])).T
        gain_e, gain_i = (GAINS * jnp.exp(parameters["synaptic_gain"])).T
        g1, g2, g3, g4 = INTRINSIC * jnp.exp(parameters["intrinsic"])
        bottom_up, top_down = received
        v1, v2, v3, i1, i2, i3, v4, i4, v = x.T
        stellate, pyramidal, interneuron = firing_rate(
            jnp.stack([v1, v, v4]), ACTIVATION * jnp.exp(parameters["activation"])
        )
        to_stellate = bottom_up + g1 * pyramidal + self.drive(u, parameters)
        to_pyramidal = top_down + g2 * stellate
        to_interneuron = top_down + g3 * pyramidal
        rates = [
            i1,
            i2,
            i3,
            synapse(v1, i1, to_stellate, gain_e, tau_e),
            synapse(v2, i2, to_pyramidal, gain_e, tau_e),
            synapse(v3, i3, g4 * interneuron, gain_i, tau_i),
            i4,
            synapse(v4, i4, to_interneuron, gain_e, tau_e),
            i2 - i3,
        ]
        return jnp.stack(rates, axis=-1)

    def delays(self, parameters: Parameters) -> jax.Array:
        """2 ms between states of a source, ``16 exp(D)`` ms between sources."""
        k = len(self.states)
        within = DELAY_WITHIN * (1 - np.eye(k))
        return delay_matrix(DELAY_BETWEEN * jnp.exp(parameters["delay"]), within)

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors, in SPM's order."""
        n = self.n_nodes
        return (
            scaling("time_constant", ("source", "synapse"), np.full((n, 2), 1 / 16), "T"),
            scaling("synaptic_gain", ("source", "synapse"), np.full((n, 2), 1 / 16), "G"),
            scaling("activation", ("shape",), np.full(2, 1 / 16), "S"),
            self._connections(ABSENT, [self.forward, self.backward, self.lateral], 16),
            self._effects("B", self.modulation / 8, "B"),
            self._driving(ABSENT),
            scaling("intrinsic", ("intrinsic connection",), np.full(4, 1 / 16), "H"),
            scaling("delay", ("to", "from"), self._union() * (1 - np.eye(n)) / 16, "D"),
            self._timing(),
        )
