"""Couplings: what a region makes of the delayed signals of others that reach it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp


class Coupling(ABC):
    """A coupling function that comes apart at the sum over connections.

    A sender turns its signal into `channels` quantities, each connection delays and weights them,
    and the receiver makes its input of the weighted sums. All that is costly in a network is
    between the two, and is the same for every coupling.

    Attributes
    ----------
    channels : int
        How many quantities travel.
    linear : bool
        Whether what reaches a region is linear in the signals.

    Examples
    --------
    >>> Additive().receive(jnp.array([[0.5]]), jnp.zeros(1), jnp.ones(1), 2.0).tolist()
    [1.0]
    """

    channels: ClassVar[int] = 1
    linear: ClassVar[bool] = False

    def send(self, signal: jax.Array) -> jax.Array:
        """What travels along connections, by default the signal itself.

        Parameters
        ----------
        signal : jax.Array
            Signal of each region, shape (regions,).

        Returns
        -------
        jax.Array
            Shape (channels, regions).
        """
        return signal[None]

    @abstractmethod
    def receive(
        self, sums: jax.Array, signal: jax.Array, totals: jax.Array, strength: jax.Array
    ) -> jax.Array:
        """What reaches each region.

        Parameters
        ----------
        sums : jax.Array
            Sums of what was sent, delayed, over connections times weights, (channels, regions).
        signal : jax.Array
            The region's own signal at present, shape (regions,).
        totals : jax.Array
            Sum of the weights of the connections that reach each region, shape (regions,).
        strength : jax.Array
            Global coupling strength, a number or shape (regions,).

        Returns
        -------
        jax.Array
            Shape (regions,).
        """


@dataclass(frozen=True)
class Additive(Coupling):
    """The weighted sum of delayed signals, ``k sum_j W_ij x_j(t - d_ij)``.

    Examples
    --------
    >>> Additive().channels
    1
    """

    linear: ClassVar[bool] = True

    def receive(
        self, sums: jax.Array, signal: jax.Array, totals: jax.Array, strength: jax.Array
    ) -> jax.Array:
        """Strength times the sum; see `Coupling.receive`."""
        return strength * sums[0]


@dataclass(frozen=True)
class Diffusive(Coupling):
    """Differences from the region's own signal, ``k sum_j W_ij (x_j(t - d_ij) - x_i(t))``.

    Examples
    --------
    >>> Diffusive().receive(jnp.array([[0.5]]), jnp.array([0.1]), jnp.ones(1), 2.0).tolist()
    [0.8]
    """

    linear: ClassVar[bool] = True

    def receive(
        self, sums: jax.Array, signal: jax.Array, totals: jax.Array, strength: jax.Array
    ) -> jax.Array:
        """Strength times the sum of differences; see `Coupling.receive`."""
        return strength * (sums[0] - totals * signal)


@dataclass(frozen=True)
class Tanh(Coupling):
    """A hyperbolic tangent of the sum, ``k tanh(scale sum_j W_ij x_j(t - d_ij))``.

    Parameters
    ----------
    scale : float
        Factor of the sum.

    Examples
    --------
    >>> Tanh().scale
    2.0
    """

    scale: float = 2.0

    def receive(
        self, sums: jax.Array, signal: jax.Array, totals: jax.Array, strength: jax.Array
    ) -> jax.Array:
        """Strength times the tangent of the sum; see `Coupling.receive`."""
        return strength * jnp.tanh(self.scale * sums[0])


@dataclass(frozen=True)
class Sigmoidal(Coupling):
    """A logistic function of the sum, ``k s(slope (scale sum_j W_ij x_j + shift - midpoint))``.

    Parameters
    ----------
    scale, shift : float
        Factor of the sum, and what is added to it.
    slope, midpoint : float
        Of the logistic function.

    Examples
    --------
    >>> Sigmoidal().receive(jnp.zeros((1, 1)), jnp.zeros(1), jnp.ones(1), 1.0).tolist()
    [0.5]
    """

    scale: float = 1.0
    shift: float = 0.0
    slope: float = 1.0
    midpoint: float = 0.0

    def receive(
        self, sums: jax.Array, signal: jax.Array, totals: jax.Array, strength: jax.Array
    ) -> jax.Array:
        """Strength times the logistic function of the sum; see `Coupling.receive`."""
        argument = self.slope * (self.scale * sums[0] + self.shift - self.midpoint)
        return strength * jax.nn.sigmoid(argument)


@dataclass(frozen=True)
class SigmoidalJansenRit(Coupling):
    """Sums of the senders' firing rates, a logistic function of their potential.

    ``k sum_j W_ij (minimum + (maximum - minimum) s(slope (x_j(t - d_ij) - midpoint)))``

    Nodes take potentials (mV) or rates in 1/s, so the strength has a factor of 1000 where these
    rates arrive at ``u_E`` of `bayesdcm.JansenRit`; or send its own ``"firing"`` additively.

    Parameters
    ----------
    minimum, maximum : float
        Lowest and highest rate, 1/ms.
    midpoint : float
        Potential of half the highest rate, mV.
    slope : float
        Steepness, 1/mV.

    References
    ----------
    .. [1] Jansen and Rit (1995), Biological Cybernetics 73:357. https://doi.org/10.1007/BF00199471

    Examples
    --------
    >>> SigmoidalJansenRit().send(jnp.array([6.0])).tolist()
    [[0.0025]]
    """

    minimum: float = 0.0
    maximum: float = 0.005
    midpoint: float = 6.0
    slope: float = 0.56

    def send(self, signal: jax.Array) -> jax.Array:
        """Firing rates; see `Coupling.send`."""
        height = self.maximum - self.minimum
        rate = self.minimum + height * jax.nn.sigmoid(self.slope * (signal - self.midpoint))
        return rate[None]

    def receive(
        self, sums: jax.Array, signal: jax.Array, totals: jax.Array, strength: jax.Array
    ) -> jax.Array:
        """Strength times the sum; see `Coupling.receive`."""
        return strength * sums[0]


@dataclass(frozen=True)
class KuramotoCoupling(Coupling):
    """Sines of the differences of phases, ``k sum_j W_ij sin(x_j(t - d_ij) - x_i(t))``.

    Sine and cosine of the phase travel, so that interpolation between two samples does not see
    where the phase is wrapped.

    References
    ----------
    .. [1] Kuramoto (1975), Lecture Notes in Physics 39:420. https://doi.org/10.1007/BFb0013365

    Examples
    --------
    >>> KuramotoCoupling().channels
    2
    """

    channels: ClassVar[int] = 2

    def send(self, signal: jax.Array) -> jax.Array:
        """Sine and cosine of the phase; see `Coupling.send`."""
        return jnp.stack([jnp.sin(signal), jnp.cos(signal)])

    def receive(
        self, sums: jax.Array, signal: jax.Array, totals: jax.Array, strength: jax.Array
    ) -> jax.Array:
        """Strength times the sum of sines; see `Coupling.receive`."""
        return strength * (sums[0] * jnp.cos(signal) - sums[1] * jnp.sin(signal))


COUPLINGS: dict[str, type[Coupling]] = {
    "additive": Additive,
    "diffusive": Diffusive,
    "kuramoto": KuramotoCoupling,
    "sigmoidal": Sigmoidal,
    "sigmoidal_jansen_rit": SigmoidalJansenRit,
    "tanh": Tanh,
}
