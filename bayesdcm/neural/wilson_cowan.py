"""Wilson and Cowan's equations: an excitatory and an inhibitory population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from bayesdcm.neural.base import Parameters
from bayesdcm.neural.node import NetworkNode, constant

PER_MS = 1e3


@dataclass(frozen=True, eq=False, kw_only=True)
class WilsonCowan(NetworkNode):
    """Proportions of excitatory and inhibitory cells that fire (Wilson-Cowan).

    ``tau_E E' = -E + (1 - r E) F(w_EE E - w_IE I + I_E; a_E, theta_E)`` and
    ``tau_I I' = -I + (1 - r I) F(w_EI E - w_II I + I_I; a_I, theta_I)`` with
    ``F(x; a, theta) = s(a (x - theta)) - s(-a theta)``, ``s`` the logistic function. At rest both
    are 0. Connections end on the excitatory population (``I_E``), the inhibitory one (``I_I``),
    or both. Defaults are constants of [1]_ for which two levels of activity are stable over a range
    of inputs, with time constants of 1 ms.

    References
    ----------
    .. [1] Wilson and Cowan (1972), Biophys J 12:1. https://doi.org/10.1016/S0006-3495(72)86068-5

    Examples
    --------
    >>> node = WilsonCowan()
    >>> rate = node.local(jnp.zeros((1, 2)), jnp.ones((2, 1)), jnp.zeros(0), node.constants(None))
    >>> rate.round(2).tolist()
    [[69.83, 29.44]]
    """

    tau_E: ArrayLike = constant(1.0, "ms", "time constant of the excitatory population")
    tau_I: ArrayLike = constant(1.0, "ms", "time constant of the inhibitory population")
    a_E: ArrayLike = constant(1.2, "1", "slope of the excitatory response")
    theta_E: ArrayLike = constant(2.8, "1", "threshold of the excitatory response")
    a_I: ArrayLike = constant(1.0, "1", "slope of the inhibitory response")
    theta_I: ArrayLike = constant(4.0, "1", "threshold of the inhibitory response")
    w_EE: ArrayLike = constant(12.0, "1", "from the excitatory population to itself")
    w_IE: ArrayLike = constant(4.0, "1", "from the inhibitory population to the excitatory one")
    w_EI: ArrayLike = constant(13.0, "1", "from the excitatory population to the inhibitory one")
    w_II: ArrayLike = constant(11.0, "1", "from the inhibitory population to itself")
    r: ArrayLike = constant(1.0, "1", "refractory period, relative to the time constant")

    states: ClassVar[tuple[str, ...]] = ("E", "I")
    signals: ClassVar[tuple[str, ...]] = ("E", "I")
    afferents: ClassVar[tuple[str, ...]] = ("I_E", "I_I")
    state_units: ClassVar[Mapping[str, str]] = {"E": "1", "I": "1"}
    title: ClassVar[str] = "Wilson-Cowan"
    citation: ClassVar[tuple[str, str]] = (
        "Wilson HR, Cowan JD (1972). Excitatory and inhibitory interactions in localized "
        "populations of model neurons. Biophysical Journal 12:1-24.",
        "https://doi.org/10.1016/S0006-3495(72)86068-5",
    )

    def constants(self, parameters: Parameters | None) -> dict[str, jax.Array]:
        """Values of the constants, and of both responses where nothing arrives."""
        c = super().constants(parameters)
        silent = {n: jax.nn.sigmoid(-c[f"a_{n}"] * c[f"theta_{n}"]) for n in self.states}
        return {**c, "silent_E": silent["E"], "silent_I": silent["I"]}

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.NodeModel.local`."""
        c, (e, i), (I_E, I_I) = parameters, x.T, received
        to_E = c["w_EE"] * e - c["w_IE"] * i + I_E
        to_I = c["w_EI"] * e - c["w_II"] * i + I_I
        F_E = jax.nn.sigmoid(c["a_E"] * (to_E - c["theta_E"])) - c["silent_E"]
        F_I = jax.nn.sigmoid(c["a_I"] * (to_I - c["theta_I"])) - c["silent_I"]
        rates = [
            ((1 - c["r"] * e) * F_E - e) / c["tau_E"],
            ((1 - c["r"] * i) * F_I - i) / c["tau_I"],
        ]
        return PER_MS * jnp.stack(rates, axis=1)
