"""The canonical microcircuit (CMC): four populations per source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior
from bayesdcm.neural.delayed_jacobian import delayed_jacobian
from bayesdcm.neural.delays import delay_matrix
from bayesdcm.neural.source import SourceModel, scaling
from bayesdcm.neural.synapse import synapse

POPULATIONS = ("stellate", "superficial", "inhibitory", "deep")
EXTRINSIC = np.array([200.0, 100.0, 200.0, 100.0])
INTRINSIC = 200 * np.array([4.0, 4.0, 8.0, 4.0, 4.0, 2.0, 4.0, 4.0, 2.0, 1.0])
TIME_CONSTANTS = np.array([0.002, 0.002, 0.016, 0.028])
SLOPE = 2 / 3
MODULATION = -32.0
DELAY_WITHIN, DELAY_BETWEEN = 0.001, 0.008
# A pair of connections in both directions, each stronger than this, is divided by five.
PRESENT, RECIPROCAL = float(np.exp(-8)), 1 / 5
SHIFT = float(np.exp(-16))
ABSENT = -32.0


@dataclass(frozen=True, eq=False)
class CMC(SourceModel):
    """Spiny stellate, superficial pyramidal, inhibitory and deep pyramidal cells; eight states.

    Voltages follow their synaptic currents, and these ``tau i' = d - 2 i - v / tau``, where the
    drive ``d`` of a population is the sum of firing rates that reach it, times coupling. Forward
    connections run from superficial to stellate and deep cells and excite; backward ones from
    deep to superficial and inhibitory cells and inhibit. `lateral` connections are modulatory:
    they scale the self-inhibition of superficial cells by the activity of deep cells elsewhere.
    The Jacobian is that at rest, as in SPM, and delays are accounted for to all orders.

    Parameters
    ----------
    forward, backward, lateral, modulation, inputs : ndarray
        Switches, see `bayesdcm.neural.SourceModel`; `lateral` switches modulatory connections,
        which may be diagonal.

    References
    ----------
    .. [1] Bastos et al. (2012), Neuron 76:695. https://doi.org/10.1016/j.neuron.2012.10.038

    Examples
    --------
    >>> import numpy as np
    >>> off = np.zeros((1, 1))
    >>> CMC(off, off, off, np.zeros((0, 1, 1)), np.ones((1, 1))).rest().shape
    (1, 8)
    """

    states: ClassVar[tuple[str, ...]] = tuple(
        f"{population} {kind}" for population in POPULATIONS for kind in ("voltage", "current")
    )
    populations: ClassVar[Mapping[str, int]] = dict(zip(POPULATIONS, (0, 2, 4, 6), strict=True))
    kinds: ClassVar[tuple[str, ...]] = (
        "forward to stellate",
        "forward to deep",
        "backward to superficial",
        "backward to inhibitory",
    )
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": kinds,
        "population": POPULATIONS,
        "intrinsic connection": (
            "superficial to superficial",
            "superficial to stellate",
            "inhibitory to stellate",
            "inhibitory to inhibitory",
        ),
        "timing": ("onset", "dispersion"),
        "state": states,
    }
    units: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        **SourceModel.units,
        "modulatory": "−32 per unit activity",
        "modulatory_effect": "change, −32 per unit activity",
    }
    input_gain: ClassVar[float] = 32.0
    fluctuation_gain: ClassVar[float] = 512.0
    gain: ClassVar[tuple[str, str]] = ("intrinsic", "self-inhibition of superficial cells")
    output: ClassVar[int] = 2
    also_seen: ClassVar[tuple[int, ...]] = (0, 6)
    signals: ClassVar[tuple[str, ...]] = ("superficial_firing", "deep_firing")
    afferents: ClassVar[tuple[str, ...]] = (
        "to_stellate",
        "to_superficial",
        "to_inhibitory",
        "to_deep",
        "modulation",
    )
    title: ClassVar[str] = "CMC"
    citation: ClassVar[tuple[str, str]] = (
        "Bastos AM, Usrey WM, Adams RA, Mangun GR, Fries P, Friston KJ (2012). Canonical "
        "microcircuits for predictive coding. Neuron 76:695-711.",
        "https://doi.org/10.1016/j.neuron.2012.10.038",
    )

    @staticmethod
    def _firing(voltage: jax.Array, parameters: Parameters) -> jax.Array:
        """The logistic function less 1/2, exactly zero at rest."""
        return jax.nn.sigmoid(SLOPE * jnp.exp(parameters["activation"]) * voltage) - 1 / 2

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Firing rates of superficial and deep pyramidal cells, shape (2, sources)."""
        return self._firing(jnp.stack([x[:, 2], x[:, 6]]), parameters)

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """What reaches the four populations, and modulates the superficial, (5, sources)."""
        A, (sp, dp) = self._strengths(parameters["A"]), sent
        modulation = MODULATION * parameters["modulatory"] @ dp
        return jnp.stack([A[0] @ sp, A[2] @ dp, A[3] @ dp, A[1] @ sp, modulation])

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.base.NodeModel.local`."""
        tau = TIME_CONSTANTS * jnp.exp(parameters["time_constant"])
        g1, g2, g3, g4, g5, g6, g7, g8, g9, g10 = INTRINSIC
        scale = jnp.exp(parameters["intrinsic"])
        g7, g2, g3, g4 = (np.array([g7, g2, g3, g4]) * scale).T
        to_stellate, to_superficial, to_inhibitory, to_deep, modulation = received

        voltage, current = x[:, 0::2], x[:, 1::2]
        ss, sp, ii, dp = self._firing(voltage, parameters).T
        g7 = g7 * jnp.exp(modulation)
        drive = self.drive(u, parameters)
        afferent = jnp.stack(
            [
                to_stellate + drive - g1 * ss - g3 * ii - g2 * sp,
                g8 * ss - g7 * sp - to_superficial,
                g5 * ss + g6 * dp - g4 * ii - to_inhibitory,
                to_deep - g10 * dp - g9 * ii,
            ],
            axis=-1,
        )
        acceleration = synapse(voltage, current, afferent, jnp.ones(()), tau)
        return jnp.stack([current, acceleration], axis=-1).reshape(x.shape)

    @staticmethod
    def _strengths(A: jax.Array) -> jax.Array:
        """Extrinsic coupling of each kind; none for a single source."""
        if A.shape[-1] == 1:
            return jnp.zeros_like(A)
        strengths = EXTRINSIC[:, None, None] * jnp.exp(A)
        present = strengths > PRESENT
        reciprocal = present & present.swapaxes(-1, -2)
        return strengths * jnp.where(reciprocal, RECIPROCAL, 1.0)

    def jacobian(
        self, x: jax.Array, u: jax.Array, parameters: Parameters, one_sided: bool = False
    ) -> jax.Array:
        """Jacobian at rest without input, wherever `x` and `u` are; see `SourceModel.jacobian`."""
        return super().jacobian(jnp.zeros_like(x), jnp.zeros_like(u), parameters, one_sided)

    def delays(self, parameters: Parameters) -> jax.Array:
        """``exp(D)`` ms, of the diagonal, within a source; ``8 exp(D)`` ms between sources.

        A voltage follows its own current without delay.
        """
        scale = jnp.exp(parameters["delay"])
        k = len(self.states)
        delayed = 1 - np.eye(k)
        delayed[np.arange(0, k, 2), np.arange(1, k, 2)] = 0
        within = DELAY_WITHIN * delayed[:, :, None] * jnp.diagonal(scale)
        return delay_matrix(DELAY_BETWEEN * scale, within)

    def delay_operator(self, jacobian: jax.Array, parameters: Parameters) -> jax.Array:
        """Operator ``Q J^-1`` with the Jacobian Q of the delayed dynamics, `delayed_jacobian`."""
        sources = len(parameters["delay"])
        state = np.repeat(np.arange(len(self.states)), sources)
        voltages, currents = np.flatnonzero(state % 2 == 0), np.flatnonzero(state % 2)
        jacobian = jnp.asarray(jacobian)
        Q = delayed_jacobian(
            jacobian, self.delays(parameters), tuple(currents.tolist()), tuple(voltages.tolist())
        )
        return jnp.linalg.solve((jacobian + SHIFT * jnp.eye(len(jacobian))).T, Q.T).T

    def condition(self, parameters: Parameters, effects: jax.Array) -> dict[str, jax.Array]:
        """Parameters of one condition, the modulatory connections too."""
        change = (effects[:, None, None] * parameters["modulatory_effect"]).sum(0)
        changed = super().condition(parameters, effects)
        return {**changed, "modulatory": parameters["modulatory"] + change}

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors, in SPM's order."""
        n, pair, unit = self.n_nodes, ("to", "from"), "-32 per unit activity"
        extrinsic = ((self.forward + self.backward + np.eye(n)) > 0).astype(float)
        effects = self.modulation * extrinsic / 8
        masks = [self.forward, self.forward, self.backward, self.backward]
        return (
            scaling("modulatory", pair, self.lateral / 32, "M", unit=unit),
            self._connections(ABSENT, masks, 16),
            self._effects("B", effects * (1 - self.lateral), "B"),
            self._effects("modulatory_effect", effects * self.lateral, "N", f"change, {unit}"),
            self._driving(ABSENT),
            scaling("time_constant", ("population",), np.full(4, 1 / 32), "T"),
            scaling("intrinsic", ("source", "intrinsic connection"), np.full((n, 4), 1 / 32), "G"),
            scaling("delay", pair, extrinsic / 64, "D"),
            scaling("activation", (), 1 / 64, "S"),
            self._timing(),
        )
