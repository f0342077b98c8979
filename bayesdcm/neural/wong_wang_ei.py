"""The reduced Wong-Wang model with an excitatory and an inhibitory population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.neural.base import Parameters
from bayesdcm.neural.node import NetworkNode, by_state, constant
from bayesdcm.neural.roots import lowest_root
from bayesdcm.neural.wong_wang import firing_rate

PER_MS, MS = 1e3, 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class WongWangEI(NetworkNode):
    """Open channels in an excitatory and an inhibitory population (reduced Wong-Wang).

    ``S_E' = -S_E / tau_E + (1 - S_E) gamma H_E(W_E I_0 + w_p J_NMDA S_E + J_NMDA S_in - J_i S_I +
    I_E)`` and ``S_I' = -S_I / tau_I + H_I(W_I I_0 + J_NMDA S_E - S_I + lambda_I J_NMDA S_in +
    I_I)`` with ``H(I) = (a I - b) / (1 - exp(-d (a I - b)))``, in Hz. A node sends S_E, which
    arrives as the sum S_in, so that the strength of additive coupling is the published G. I_E and
    I_I are inputs in nA.

    The feedback inhibition J_i of each region holds its excitatory firing rate near 3 Hz in the
    published networks: `with_feedback_inhibition` finds it.

    References
    ----------
    .. [1] Deco, Ponce-Alvarez, Hagmann, Romani, Mantini and Corbetta (2014), J Neurosci 34:7886.
           https://doi.org/10.1523/JNEUROSCI.5068-13.2014

    Examples
    --------
    >>> WongWangEI().rest().round(4).tolist()
    [[0.1648, 0.0392]]
    """

    a_E: ArrayLike = constant(310.0, "1/nC", "slope of the excitatory firing rate")
    b_E: ArrayLike = constant(125.0, "Hz", "threshold of the excitatory firing rate")
    d_E: ArrayLike = constant(0.16, "s", "curvature of the excitatory firing rate")
    a_I: ArrayLike = constant(615.0, "1/nC", "slope of the inhibitory firing rate")
    b_I: ArrayLike = constant(177.0, "Hz", "threshold of the inhibitory firing rate")
    d_I: ArrayLike = constant(0.087, "s", "curvature of the inhibitory firing rate")
    gamma: ArrayLike = constant(0.641, "1", "channels that a spike opens, as a factor")
    tau_E: ArrayLike = constant(100.0, "ms", "time constant of NMDA channels")
    tau_I: ArrayLike = constant(10.0, "ms", "time constant of GABA channels")
    w_p: ArrayLike = constant(1.4, "1", "from the excitatory population to itself")
    J_NMDA: ArrayLike = constant(0.15, "nA", "current through all NMDA channels")
    J_i: ArrayLike = constant(1.0, "nA", "current through GABA channels, feedback inhibition")
    I_0: ArrayLike = constant(0.382, "nA", "input from elsewhere")
    W_E: ArrayLike = constant(1.0, "1", "proportion of it to the excitatory population")
    W_I: ArrayLike = constant(0.7, "1", "proportion of it to the inhibitory population")
    lambda_I: ArrayLike = constant(
        *(0.0, "1", "from what is received to the inhibitory population, feedforward inhibition"),
        positive=False,
        variance=0.0,
    )

    states: ClassVar[tuple[str, ...]] = ("S_E", "S_I")
    signals: ClassVar[tuple[str, ...]] = ("S_E", "S_I")
    afferents: ClassVar[tuple[str, ...]] = ("S_in", "I_E", "I_I")
    state_units: ClassVar[Mapping[str, str]] = {"S_E": "1", "S_I": "1"}
    title: ClassVar[str] = "reduced Wong-Wang, excitatory and inhibitory"
    citation: ClassVar[tuple[str, str]] = (
        "Deco G, Ponce-Alvarez A, Hagmann P, Romani GL, Mantini D, Corbetta M (2014). How local "
        "excitation-inhibition ratio impacts the whole brain dynamics. Journal of Neuroscience "
        "34:7886-7898.",
        "https://doi.org/10.1523/JNEUROSCI.5068-13.2014",
    )

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.NodeModel.local`."""
        c, (S_E, S_I), (S_in, I_E, I_I) = parameters, x.T, received
        to_E, to_I = self._without_inhibition(S_E, S_in, c)
        rate_E = self._excitatory(to_E - c["J_i"] * S_I + I_E, c)
        rate_I = self._inhibitory(to_I - S_I + I_I, c)
        rates = [
            (1 - S_E) * c["gamma"] * rate_E - S_E * (PER_MS / c["tau_E"]),
            rate_I - S_I * (PER_MS / c["tau_I"]),
        ]
        return jnp.stack(rates, axis=1)

    def rest(self, parameters: Parameters | None = None) -> jax.Array:
        """The fixed point with the lowest activity, see `NetworkNode.rest`."""
        c = self.constants(parameters)
        background = c["W_I"] * c["I_0"]

        def open_channels(current: jax.Array) -> tuple[jax.Array, jax.Array]:
            """S_E and S_I where the inhibitory population receives this current."""
            S_I = MS * c["tau_I"] * self._inhibitory(current, c)
            return (current + S_I - background) / c["J_NMDA"], S_I

        def flow(current: jax.Array) -> jax.Array:
            S_E, S_I = open_channels(current)
            to_E, _ = self._without_inhibition(S_E, 0.0, c)
            rate = self._excitatory(to_E - c["J_i"] * S_I, c)
            return (1 - S_E) * c["gamma"] * rate - S_E * (PER_MS / c["tau_E"])

        # S_E is below 0 at the one, above 1 at the other.
        low = background - MS * c["tau_I"] * self._inhibitory(background, c)
        return by_state(*open_channels(lowest_root(flow, low, background + c["J_NMDA"])))

    def feedback_inhibition(
        self,
        weights: ArrayLike,
        strength: ArrayLike,
        rate: ArrayLike = 3.0,
        parameters: Parameters | None = None,
    ) -> jax.Array:
        """Feedback inhibition that gives the excitatory populations of a network a firing rate.

        In closed form, where the published networks are tuned by repeated simulation: at the
        fixed point of the network without noise, all regions fire at this rate.

        Parameters
        ----------
        weights : array_like
            Weights of connections, shape (to, from).
        strength : array_like
            Strength of additive coupling, a number or by receiving region.
        rate : array_like
            Firing rate, Hz, a number or by region.
        parameters : mapping, optional
            Full arrays by name; by default all are 0. ``J_i`` has no effect.

        Returns
        -------
        jax.Array
            J_i, shape (regions,); negative where a region cannot fire at that rate.

        Examples
        --------
        >>> WongWangEI().feedback_inhibition(np.zeros((1, 1)), 1.0, 3.0773).round(3).tolist()
        [1.0]
        """
        c, weights = self.constants(parameters), jnp.asarray(weights, float)
        rate = jnp.broadcast_to(jnp.asarray(rate, float), weights.shape[:1])
        opening = c["gamma"] * MS * c["tau_E"] * rate
        S_E = opening / (1 + opening)
        to_E, to_I = self._without_inhibition(S_E, strength * (weights @ S_E), c)

        def too_fast(current: jax.Array) -> jax.Array:
            return self._excitatory(current, c) - rate

        # H is above its argument, and next to 0 at 40 widths of its curve below the threshold.
        threshold, width = c["b_E"] / c["a_E"], 1 / (c["a_E"] * c["d_E"])
        wanted = lowest_root(too_fast, threshold - 40 * width, threshold + rate / c["a_E"])

        def surplus(current: jax.Array) -> jax.Array:
            return current + MS * c["tau_I"] * self._inhibitory(current, c) - to_I

        low = to_I - MS * c["tau_I"] * self._inhibitory(to_I, c)
        inhibitory_current = lowest_root(surplus, low, to_I)
        return (to_E - wanted) / (to_I - inhibitory_current)

    def with_feedback_inhibition(
        self, weights: ArrayLike, strength: ArrayLike, rate: ArrayLike = 3.0
    ) -> WongWangEI:
        """A copy of the node with the inhibition of every region by `feedback_inhibition`.

        Parameters
        ----------
        weights : array_like
            Weights of connections, shape (to, from).
        strength : array_like
            Strength of additive coupling, a number or by receiving region.
        rate : array_like
            Firing rate, Hz, a number or by region.

        Returns
        -------
        WongWangEI
            For a network of these regions.

        Raises
        ------
        ValueError
            If no inhibition gives that rate.

        Examples
        --------
        >>> node = WongWangEI().with_feedback_inhibition(np.ones((2, 2)) - np.eye(2), 0.5)
        >>> node.J_i.round(2).tolist()
        [1.32, 1.32]
        """
        tuned = np.asarray(jax.jit(self.feedback_inhibition)(weights, strength, rate))
        if not (tuned > 0).all():
            raise ValueError(
                f"no feedback inhibition makes regions {np.flatnonzero(~(tuned > 0)).tolist()} "
                f"fire at {rate} Hz; lower rate, or raise strength"
            )
        return replace(self, J_i=tuned)

    @staticmethod
    def _without_inhibition(
        S_E: jax.Array, S_in: ArrayLike, c: Parameters
    ) -> tuple[jax.Array, jax.Array]:
        """Currents (nA) to both populations, less those of inhibition and further inputs."""
        to_E = c["W_E"] * c["I_0"] + c["J_NMDA"] * (c["w_p"] * S_E + S_in)
        return to_E, c["W_I"] * c["I_0"] + c["J_NMDA"] * (S_E + c["lambda_I"] * S_in)

    @staticmethod
    def _excitatory(current: jax.Array, c: Parameters) -> jax.Array:
        return firing_rate(current, c["a_E"], c["b_E"], c["d_E"])

    @staticmethod
    def _inhibitory(current: jax.Array, c: Parameters) -> jax.Array:
        return firing_rate(current, c["a_I"], c["b_I"], c["d_I"])
