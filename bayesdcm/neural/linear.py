"""A linear node: activity that decays, and follows what it receives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
from numpy.typing import ArrayLike

from bayesdcm.neural.base import Parameters
from bayesdcm.neural.node import NetworkNode, constant

PER_MS = 1e3


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(NetworkNode):
    """Activity that follows what it receives, the baseline of every other node.

    ``tau x' = -x + I``. Coupled additively, a network is stable while its strength is below 1 by
    the spectral radius of the weights.

    References
    ----------
    .. [1] Galan (2008), PLoS ONE 3:e2148. https://doi.org/10.1371/journal.pone.0002148

    Examples
    --------
    >>> Linear().rest().tolist()
    [[0.0]]
    """

    tau: ArrayLike = constant(100.0, "ms", "time constant; the default is that of NMDA synapses")

    states: ClassVar[tuple[str, ...]] = ("x",)
    signals: ClassVar[tuple[str, ...]] = ("x",)
    afferents: ClassVar[tuple[str, ...]] = ("I",)
    state_units: ClassVar[Mapping[str, str]] = {"x": "1"}
    title: ClassVar[str] = "linear"
    citation: ClassVar[tuple[str, str]] = (
        "Galan RF (2008). On how network architecture determines the dominant patterns of "
        "spontaneous neural activity. PLoS ONE 3:e2148.",
        "https://doi.org/10.1371/journal.pone.0002148",
    )

    @property
    def affine(self) -> bool:
        """The flow is affine in the state."""
        return True

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the activity, see `bayesdcm.neural.NodeModel.local`."""
        return (PER_MS / parameters["tau"] * (received[0] - x[:, 0]))[:, None]
