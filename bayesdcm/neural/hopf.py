"""The normal form of a Hopf bifurcation, Stuart and Landau's oscillator."""

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
class Hopf(NetworkNode):
    """An oscillator near the onset of oscillations (Hopf, Stuart-Landau).

    ``x' = (a - x^2 - y^2) x - 2 pi f y + I_x`` and ``y' = (a - x^2 - y^2) y + 2 pi f x + I_y``.
    With a < 0 it is at rest at 0 and rings at its frequency where noise drives it; with a > 0 it
    oscillates with amplitude ``sqrt(a)``. The defaults are for BOLD signals, whose model x is. In a
    network one signal travels, x if not told otherwise; the published one couples x and y alike.

    References
    ----------
    .. [1] Deco, Kringelbach, Jirsa and Ritter (2017), Sci Rep 7:3095.
           https://doi.org/10.1038/s41598-017-03073-5

    Examples
    --------
    >>> node = Hopf(a=1.0, frequency=0.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: frequency of Hopf must be a positive number, Hz, or one for every region, got 0.0
    """

    a: ArrayLike = constant(
        *(-0.02, "1/s", "distance from the onset of oscillations"),
        positive=False,
        variance=0.02**2,
    )
    frequency: ArrayLike = constant(
        *(0.05, "Hz", "of the oscillations, f; the published regions have 0.04 to 0.07"),
        variance=1 / 32,
    )

    states: ClassVar[tuple[str, ...]] = ("x", "y")
    signals: ClassVar[tuple[str, ...]] = ("x", "y")
    afferents: ClassVar[tuple[str, ...]] = ("I_x", "I_y")
    state_units: ClassVar[Mapping[str, str]] = {"x": "1", "y": "1"}
    title: ClassVar[str] = "Hopf"
    citation: ClassVar[tuple[str, str]] = (
        "Deco G, Kringelbach ML, Jirsa VK, Ritter P (2017). The dynamics of resting fluctuations "
        "in the brain: metastability and its dynamical cortical core. Scientific Reports 7:3095.",
        "https://doi.org/10.1038/s41598-017-03073-5",
    )

    def constants(self, parameters: Parameters | None) -> dict[str, jax.Array]:
        """Values of the constants, and the angular frequency (rad/s)."""
        c = super().constants(parameters)
        return {**c, "omega": 2 * jnp.pi * c["frequency"]}

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.NodeModel.local`."""
        c, (real, imaginary), (I_x, I_y) = parameters, x.T, received
        growth = c["a"] - real**2 - imaginary**2
        rates = [
            growth * real - c["omega"] * imaginary + I_x,
            growth * imaginary + c["omega"] * real + I_y,
        ]
        return jnp.stack(rates, axis=1)
