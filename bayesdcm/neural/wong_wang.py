"""The reduced Wong-Wang model with one population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from bayesdcm.neural.base import Parameters
from bayesdcm.neural.node import NetworkNode, by_state, constant
from bayesdcm.neural.roots import lowest_root

PER_MS = 1e3
# Nearer to 0 than this, the firing rate is worked out by its power series.
SERIES = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class WongWang(NetworkNode):
    """Proportion of open NMDA channels in a population (reduced Wong-Wang, dynamic mean field).

    ``S' = -S / tau_S + (1 - S) gamma H(w J_N S + J_N S_in + I_0 + I)`` with the firing rate
    ``H(I) = (a I - b) / (1 - exp(-d (a I - b)))``, in Hz. A node sends S, which arrives as the sum
    S_in, so that the strength of additive coupling is the published G. I is an input in nA.

    References
    ----------
    .. [1] Deco, Ponce-Alvarez, Mantini, Romani, Hagmann and Corbetta (2013), J Neurosci 33:11239.
           https://doi.org/10.1523/JNEUROSCI.1091-13.2013
    .. [2] Wong and Wang (2006), J Neurosci 26:1314.
           https://doi.org/10.1523/JNEUROSCI.3733-05.2006

    Examples
    --------
    >>> WongWang().rest().round(4).tolist()
    [[0.0344]]
    """

    a: ArrayLike = constant(270.0, "1/nC", "slope of the firing rate")
    b: ArrayLike = constant(108.0, "Hz", "threshold of the firing rate")
    d: ArrayLike = constant(0.154, "s", "curvature of the firing rate")
    gamma: ArrayLike = constant(0.641, "1", "channels that a spike opens, as a factor")
    tau_S: ArrayLike = constant(100.0, "ms", "time constant of NMDA channels")
    w: ArrayLike = constant(0.9, "1", "from the population to itself")
    J_N: ArrayLike = constant(0.2609, "nA", "current through all channels")
    I_0: ArrayLike = constant(0.3, "nA", "input from elsewhere")

    states: ClassVar[tuple[str, ...]] = ("S",)
    signals: ClassVar[tuple[str, ...]] = ("S",)
    afferents: ClassVar[tuple[str, ...]] = ("S_in", "I")
    state_units: ClassVar[Mapping[str, str]] = {"S": "1"}
    title: ClassVar[str] = "reduced Wong-Wang"
    citation: ClassVar[tuple[str, str]] = (
        "Deco G, Ponce-Alvarez A, Mantini D, Romani GL, Hagmann P, Corbetta M (2013). "
        "Resting-state functional connectivity emerges from structurally and dynamically shaped "
        "slow linear fluctuations. Journal of Neuroscience 33:11239-11252.",
        "https://doi.org/10.1523/JNEUROSCI.1091-13.2013",
    )

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.NodeModel.local`."""
        return self._rate(x[:, 0], *received, parameters)[:, None]

    def rest(self, parameters: Parameters | None = None) -> jax.Array:
        """The fixed point with the lowest S, see `NetworkNode.rest`."""
        c = self.constants(parameters)
        return by_state(lowest_root(lambda S: self._rate(S, 0.0, 0.0, c), 0.0, 1.0))

    @staticmethod
    def _rate(S: jax.Array, S_in: ArrayLike, current: ArrayLike, c: Parameters) -> jax.Array:
        total = c["J_N"] * (c["w"] * S + S_in) + c["I_0"] + current
        rate = firing_rate(total, c["a"], c["b"], c["d"])
        return (1 - S) * c["gamma"] * rate - S * (PER_MS / c["tau_S"])


def firing_rate(current: jax.Array, a: ArrayLike, b: ArrayLike, d: ArrayLike) -> jax.Array:
    """Firing rate ``H = (a I - b) / (1 - exp(-d (a I - b)))`` of a population, Hz.

    Parameters
    ----------
    current : jax.Array
        I, nA.
    a, b, d : array_like
        Slope (1/nC), threshold (Hz) and curvature (s).

    Returns
    -------
    jax.Array
        In the shape of `current`.

    Examples
    --------
    >>> round(float(firing_rate(jnp.array(0.4), 270.0, 108.0, 0.154)), 4)
    6.4935
    """
    z = d * (a * current - b)
    near = jnp.abs(z) < SERIES
    safe = jnp.where(near, 1.0, z)
    series = 1 + z * (1 / 2 + z * (1 / 12 - z * z / 720))
    return jnp.where(near, series, safe / (1 - jnp.exp(-safe))) / d
