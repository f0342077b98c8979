"""The neural mass model of local field potentials (LFP), with slow adaptation."""

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
INTRINSIC = 128 * np.array([1.0, 1.0, 1 / 2, 1 / 2, 1 / 32])
GAIN_EXCITATORY, GAIN_INHIBITORY = 8.0, 32.0
TIME_EXCITATORY, TIME_INHIBITORY, TIME_ADAPTATION = 0.004, 0.016, 0.512
ADAPTATION = 4.0
ACTIVATION = np.array([1.0, 2.0])
DELAY_WITHIN, DELAY_BETWEEN = 0.002, 0.004
# SPM takes the logarithm of the switches, plus this.
SMALLEST = 2.0**-52


@dataclass(frozen=True, eq=False)
class LFP(SourceModel):
    """Stellate cells, pyramidal cells and interneurons that inhibit themselves; thirteen states.

    As `bayesdcm.neural.ERP`, with recurrent inhibition of the interneurons and a slow potassium
    current that moves the threshold of stellate cells. Absent connections are absent. SPM
    multiplies flow and Jacobian by the delay operator at every state (`delay_in_flow`); its
    Jacobian is exact, so that `jacobian` takes no account of ``one_sided``.

    Parameters
    ----------
    forward, backward, lateral, modulation, inputs : ndarray
        Switches, see `bayesdcm.neural.SourceModel`.

    References
    ----------
    .. [1] Moran et al. (2007), NeuroImage 37:706.
           https://doi.org/10.1016/j.neuroimage.2007.05.032

    Examples
    --------
    >>> import numpy as np
    >>> off = np.zeros((1, 1))
    >>> LFP(off, off, off, np.zeros((0, 1, 1)), np.ones((1, 1))).rest().shape
    (1, 13)
    """

    states: ClassVar[tuple[str, ...]] = (
        "stellate voltage",
        "pyramidal excitatory voltage",
        "pyramidal inhibitory voltage",
        "stellate current",
        "pyramidal excitatory current",
        "pyramidal inhibitory current",
        "interneuron excitatory voltage",
        "interneuron excitatory current",
        "pyramidal voltage",
        "interneuron inhibitory voltage",
        "interneuron inhibitory current",
        "interneuron voltage",
        "slow potassium",
    )
    populations: ClassVar[Mapping[str, int]] = {"stellate": 0, "interneuron": 11, "pyramidal": 8}
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": SourceModel.kinds,
        "synapse": ("excitatory", "inhibitory"),
        "shape": ("slope", "threshold"),
        "intrinsic connection": (
            "pyramidal to stellate",
            "stellate to pyramidal",
            "pyramidal to interneuron",
            "interneuron to pyramidal",
            "interneuron to interneuron",
        ),
        "state": states,
    }
    delay_in_flow: ClassVar[bool] = True
    input_gain: ClassVar[float] = 1.0
    fluctuation_gain: ClassVar[float] = 32.0
    gain: ClassVar[tuple[str, str]] = ("synaptic_gain", "excitatory synaptic gain")
    output: ClassVar[int] = 8
    also_seen: ClassVar[tuple[int, ...]] = (0, 6)
    signals: ClassVar[tuple[str, ...]] = ("firing",)
    afferents: ClassVar[tuple[str, ...]] = ("bottom_up", "top_down")
    title: ClassVar[str] = "LFP"
    citation: ClassVar[tuple[str, str]] = (
        "Moran RJ, Kiebel SJ, Stephan KE, Reilly RB, Daunizeau J, Friston KJ (2007). A neural "
        "mass model of spectral responses in electrophysiology. NeuroImage 37:706-720.",
        "https://doi.org/10.1016/j.neuroimage.2007.05.032",
    )

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Firing rates of pyramidal cells, shape (1, sources)."""
        return firing_rate(x[None, :, 8], ACTIVATION * jnp.exp(parameters["activation"]))

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """What reaches stellate cells, and what reaches the two others, shape (2, sources)."""
        off_diagonal = 1 - np.eye(sent.shape[1])
        A = EXTRINSIC[:, None, None] * off_diagonal * jnp.exp(parameters["A"])
        return jnp.stack([(A[0] + A[2]) @ sent[0], (A[1] + A[2]) @ sent[0]])

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.base.NodeModel.local`."""
        scale_e, scale_i = jnp.exp(parameters["time_constant"]).T
        tau_e, tau_i = TIME_EXCITATORY * scale_e, TIME_EXCITATORY + TIME_INHIBITORY * scale_i
        gain_e = GAIN_EXCITATORY * jnp.exp(parameters["synaptic_gain"])
        gain_i = jnp.full((), GAIN_INHIBITORY)
        g1, g2, g3, g4, g5 = (INTRINSIC * jnp.exp(parameters["intrinsic"])).T
        bottom_up, top_down = received
        v1, v2, v3, i1, i2, i3, v4, i4, v5, v6, i6, v7, slow = x.T
        stellate, pyramidal, interneuron = firing_rate(
            jnp.stack([v1 - slow, v5, v7]), ACTIVATION * jnp.exp(parameters["activation"])
        )
        # SPM scales what other sources send to the interneurons as it scales inhibition.
        to_stellate = bottom_up + g1 * pyramidal + self.drive(u, parameters)
        from_elsewhere = gain_i / tau_i * top_down
        rates = [
            i1,
            i2,
            i3,
            synapse(v1, i1, to_stellate, gain_e, tau_e),
            synapse(v2, i2, top_down + g2 * stellate, gain_e, tau_e),
            synapse(v3, i3, g4 * interneuron, gain_i, tau_i),
            i4,
            synapse(v4, i4, g3 * pyramidal, gain_e, tau_e) + from_elsewhere,
            i2 - i3,
            i6,
            synapse(v6, i6, g5 * interneuron, gain_i, tau_i),
            i4 - i6,
            (ADAPTATION * stellate - slow) / TIME_ADAPTATION,
        ]
        return jnp.stack(rates, axis=-1)

    def jacobian(
        self, x: jax.Array, u: jax.Array, parameters: Parameters, one_sided: bool = False
    ) -> jax.Array:
        """Exact Jacobian, without delays, also where `one_sided`; see `SourceModel.jacobian`."""
        return super().jacobian(x, u, parameters)

    def delays(self, parameters: Parameters) -> jax.Array:
        """``2 exp(intrinsic_delay)`` ms within and ``4 exp(D)`` ms between sources."""
        within = DELAY_WITHIN * jnp.exp(parameters["intrinsic_delay"])
        within = within * (1 - np.eye(len(self.states)))
        return delay_matrix(DELAY_BETWEEN * jnp.exp(parameters["delay"]), within)

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors, in SPM's order."""
        n, mask = self.n_nodes, np.stack([self.forward, self.backward, self.lateral])
        return (
            scaling("activation", ("shape",), np.full(2, 1 / 8), "R"),
            scaling("time_constant", ("source", "synapse"), np.full((n, 2), 1 / 8), "T"),
            scaling("synaptic_gain", ("source",), np.full(n, 1 / 16), "G"),
            scaling("intrinsic", ("source", "intrinsic connection"), np.full((n, 5), 1 / 16), "H"),
            scaling("A", ("kind", "to", "from"), mask / 2, "A", np.log(mask + SMALLEST)),
            self._effects("B", self.modulation / 2, "B"),
            self._driving(-32.0),
            scaling("delay", ("to", "from"), self._union() / 16, "D"),
            scaling("intrinsic_delay", (), 1 / 32, "I"),
        )
