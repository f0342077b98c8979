"""Montbrio, Pazo and Roxin's equations: the exact mean field of spiking neurons."""

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


@dataclass(frozen=True, eq=False, kw_only=True)
class MontbrioPazoRoxin(NetworkNode):
    """Mean field of quadratic integrate-and-fire neurons (Montbrio-Pazo-Roxin).

    ``tau r' = Delta / pi + 2 r v`` and ``tau v' = v^2 + eta + J r + I - (pi r)^2``. The firing
    rate r is in spikes per tau, so that ``r / tau`` is in spikes per ms; the mean potential v has
    no unit. The defaults have two stable states, of which `rest` is the one that fires less.

    References
    ----------
    .. [1] Montbrio, Pazo and Roxin (2015), Phys Rev X 5:021028.
           https://doi.org/10.1103/PhysRevX.5.021028

    Examples
    --------
    >>> MontbrioPazoRoxin().rest().round(4).tolist()
    [[0.0811, -1.9616]]
    """

    tau: ArrayLike = constant(10.0, "ms", "membrane time constant")
    Delta: ArrayLike = constant(1.0, "1", "half width of the distribution of excitability")
    eta: ArrayLike = constant(
        -5.0, "1", "centre of the distribution of excitability", positive=False, variance=1.0
    )
    J: ArrayLike = constant(15.0, "1", "strength of synapses within the population")

    states: ClassVar[tuple[str, ...]] = ("r", "v")
    signals: ClassVar[tuple[str, ...]] = ("r", "v")
    afferents: ClassVar[tuple[str, ...]] = ("I",)
    state_units: ClassVar[Mapping[str, str]] = {"r": "1/tau", "v": "1"}
    title: ClassVar[str] = "Montbrio-Pazo-Roxin"
    citation: ClassVar[tuple[str, str]] = (
        "Montbrio E, Pazo D, Roxin A (2015). Macroscopic description for networks of spiking "
        "neurons. Physical Review X 5:021028.",
        "https://doi.org/10.1103/PhysRevX.5.021028",
    )

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.NodeModel.local`."""
        c, (r, v), current = parameters, x.T, received[0]
        rates = [
            c["Delta"] / jnp.pi + 2 * r * v,
            v**2 + c["eta"] + c["J"] * r + current - (jnp.pi * r) ** 2,
        ]
        return jnp.stack(rates, axis=1) * (PER_MS / c["tau"] * jnp.ones(len(x)))[:, None]

    def rest(self, parameters: Parameters | None = None) -> jax.Array:
        """The fixed point with the lowest firing rate, see `NetworkNode.rest`."""
        c = self.constants(parameters)

        def v_of(r: jax.Array) -> jax.Array:
            return -c["Delta"] / (2 * jnp.pi * r)

        def flow(log_r: jax.Array) -> jax.Array:
            r = jnp.exp(log_r)
            return v_of(r) ** 2 + c["eta"] + c["J"] * r - (jnp.pi * r) ** 2

        # Positive where v^2 exceeds eta, negative where r^2 exceeds all else.
        scale = 1 + jnp.abs(c["eta"]) + c["Delta"] + c["J"]
        low, high = jnp.log(c["Delta"] / (2 * jnp.pi * scale)), jnp.log(scale)
        r = jnp.exp(lowest_root(flow, low, high))
        return by_state(r, v_of(r))
