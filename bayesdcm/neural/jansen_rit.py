"""Jansen and Rit's model of a cortical column: pyramidal cells, excitatory, inhibitory ones."""

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


@dataclass(frozen=True, eq=False, kw_only=True)
class JansenRit(NetworkNode):
    """Three populations of a column, whose pyramidal cells have an alpha rhythm (Jansen-Rit).

    ``M'' = A_e b_e S(E - I + u_M) - 2 b_e M' - b_e^2 M``,
    ``E'' = A_e b_e (p + u_E + C a_2 S(C a_1 M)) - 2 b_e E' - b_e^2 E`` and
    ``I'' = A_i b_i C a_4 S(C a_3 M + u_I) - 2 b_i I' - b_i^2 I`` with
    ``S(v) = s_max / (1 + exp(r (v_0 - v)))``. M is the potential of both kinds of interneurons by
    pyramidal cells; E and I are the excitatory and inhibitory potentials of pyramidal cells, whose
    difference ``v = E - I`` is what sensors see. Connections add to the potential (mV) of
    pyramidal cells (``u_M``) or of inhibitory interneurons (``u_I``), or to the firing rates (1/s)
    that reach pyramidal cells (``u_E``), as the published ones do. A node sends ``v`` (mV) or its
    firing rate ``S(v)`` (1/s).

    With the published input p the state of rest is not stable: after any disturbance, the column
    oscillates at 11 Hz. ``JansenRit(p=0)`` is silent.

    References
    ----------
    .. [1] Jansen and Rit (1995), Biol Cybern 73:357. https://doi.org/10.1007/BF00199471

    Examples
    --------
    >>> JansenRit().rest().shape
    (1, 6)
    """

    A_e: ArrayLike = constant(3.25, "mV", "gain of excitatory synapses")
    A_i: ArrayLike = constant(22.0, "mV", "gain of inhibitory synapses")
    b_e: ArrayLike = constant(100.0, "1/s", "rate constant of excitatory synapses")
    b_i: ArrayLike = constant(50.0, "1/s", "rate constant of inhibitory synapses")
    C: ArrayLike = constant(135.0, "1", "number of synapses within the column")
    a_1: ArrayLike = constant(1.0, "1", "proportion of them, pyramidal to excitatory cells")
    a_2: ArrayLike = constant(0.8, "1", "proportion of them, excitatory to pyramidal cells")
    a_3: ArrayLike = constant(0.25, "1", "proportion of them, pyramidal to inhibitory cells")
    a_4: ArrayLike = constant(0.25, "1", "proportion of them, inhibitory to pyramidal cells")
    s_max: ArrayLike = constant(5.0, "1/s", "largest firing rate")
    v_0: ArrayLike = constant(6.0, "mV", "potential at half the largest firing rate")
    r: ArrayLike = constant(0.56, "1/mV", "slope of the firing rate")
    p: ArrayLike = constant(
        *(220.0, "1/s", "input from elsewhere, the mean of the published 120 to 320"),
        positive=False,
        variance=50.0**2,
    )

    states: ClassVar[tuple[str, ...]] = ("M", "E", "I", "M_rate", "E_rate", "I_rate")
    signals: ClassVar[tuple[str, ...]] = ("v", "firing")
    afferents: ClassVar[tuple[str, ...]] = ("u_M", "u_E", "u_I")
    activity: ClassVar[str] = "v"
    output: ClassVar[int] = 1
    state_units: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("M", "E", "I", "v"), "mV"),
        **dict.fromkeys(("M_rate", "E_rate", "I_rate"), "mV/s"),
        "firing": "1/s",
    }
    title: ClassVar[str] = "Jansen-Rit"
    citation: ClassVar[tuple[str, str]] = (
        "Jansen BH, Rit VG (1995). Electroencephalogram and visual evoked potential generation in "
        "a mathematical model of coupled cortical columns. Biological Cybernetics 73:357-366.",
        "https://doi.org/10.1007/BF00199471",
    )

    def constants(self, parameters: Parameters | None) -> dict[str, jax.Array]:
        """Values of the constants, of the four numbers of synapses, and gains times rates."""
        c = super().constants(parameters)
        synapses = {f"C_{k}": c["C"] * c[f"a_{k}"] for k in (1, 2, 3, 4)}
        return {**c, **synapses, "h_e": c["A_e"] * c["b_e"], "h_i": c["A_i"] * c["b_i"]}

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Potential of pyramidal cells (mV) and their firing rate (1/s), shape (2, nodes)."""
        v = x[:, 1] - x[:, 2]
        return jnp.stack([v, _firing_rate(v, parameters)])

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.NodeModel.local`."""
        c, (m, e, i, M_rate, E_rate, I_rate), (u_M, u_E, u_I) = parameters, x.T, received
        to_M = _firing_rate(e - i + u_M, c)
        to_E = c["C_2"] * _firing_rate(c["C_1"] * m, c) + c["p"] + u_E
        to_I = c["C_4"] * _firing_rate(c["C_3"] * m + u_I, c)
        b_e, b_i = c["b_e"], c["b_i"]
        rates = [
            M_rate,
            E_rate,
            I_rate,
            c["h_e"] * to_M - b_e * (2 * M_rate + b_e * m),
            c["h_e"] * to_E - b_e * (2 * E_rate + b_e * e),
            c["h_i"] * to_I - b_i * (2 * I_rate + b_i * i),
        ]
        return jnp.stack(rates, axis=1)

    def rest(self, parameters: Parameters | None = None) -> jax.Array:
        """The fixed point with the lowest M without connections, see `NetworkNode.rest`."""
        c = self.constants(parameters)
        excitatory, inhibitory = c["A_e"] / c["b_e"], c["A_i"] / c["b_i"]

        def potentials(m: jax.Array) -> tuple[jax.Array, jax.Array]:
            e = excitatory * (c["C_2"] * _firing_rate(c["C_1"] * m, c) + c["p"])
            return e, inhibitory * c["C_4"] * _firing_rate(c["C_3"] * m, c)

        def surplus(m: jax.Array) -> jax.Array:
            e, i = potentials(m)
            return m - excitatory * _firing_rate(e - i, c)

        m = lowest_root(surplus, 0.0, excitatory * c["s_max"])
        return by_state(m, *potentials(m), 0.0, 0.0, 0.0)


def _firing_rate(v: jax.Array, c: Parameters) -> jax.Array:
    return c["s_max"] * jax.nn.sigmoid(c["r"] * (v - c["v_0"]))
