"""Kuramoto's oscillators: a phase in every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from bayesdcm.neural.base import Parameters
from bayesdcm.neural.node import NetworkNode, constant


@dataclass(frozen=True, eq=False, kw_only=True)
class Kuramoto(NetworkNode):
    """A phase that advances at its own frequency, and by what others send (Kuramoto).

    ``theta' = 2 pi f + I``, with I in rad/s, of `bayesdcm.neural.KuramotoCoupling` if a network is
    not told otherwise. The phase (rad) grows without end; haemodynamics and
    sensors see its sine. Every phase is a state of rest; `rest` is phase 0.

    References
    ----------
    .. [1] Cabral, Hugues, Sporns and Deco (2011), NeuroImage 57:130.
           https://doi.org/10.1016/j.neuroimage.2011.04.010
    .. [2] Kuramoto (1984), Chemical Oscillations, Waves, and Turbulence.
           https://doi.org/10.1007/978-3-642-69689-3

    Examples
    --------
    >>> node = Kuramoto(frequency=10.0)
    >>> rate = node.flow(jnp.zeros((1, 1)), jnp.zeros(0), {"frequency": jnp.zeros(())})
    >>> round(float(rate[0, 0]), 4)
    62.8319
    """

    frequency: ArrayLike = constant(60.0, "Hz", "of the oscillations, f", variance=1 / 32)

    states: ClassVar[tuple[str, ...]] = ("theta",)
    signals: ClassVar[tuple[str, ...]] = ("theta", "sine")
    afferents: ClassVar[tuple[str, ...]] = ("I",)
    activity: ClassVar[str] = "sine"
    usual_coupling: ClassVar[str] = "kuramoto"
    state_units: ClassVar[Mapping[str, str]] = {"theta": "rad", "sine": "1"}
    title: ClassVar[str] = "Kuramoto"
    citation: ClassVar[tuple[str, str]] = (
        "Cabral J, Hugues E, Sporns O, Deco G (2011). Role of local network oscillations in "
        "resting-state functional connectivity. NeuroImage 57:130-139.",
        "https://doi.org/10.1016/j.neuroimage.2011.04.010",
    )

    def constants(self, parameters: Parameters | None) -> dict[str, jax.Array]:
        """The frequency, and the angular frequency (rad/s)."""
        c = super().constants(parameters)
        return {**c, "omega": 2 * jnp.pi * c["frequency"]}

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Phase (rad) and its sine, shape (2, nodes)."""
        return jnp.stack([x[:, 0], jnp.sin(x[:, 0])])

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the phase, see `bayesdcm.neural.NodeModel.local`."""
        return (parameters["omega"] + received[0])[:, None]
