"""Haemodynamic response functions: BOLD after an instant of activity, in time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar


class Kernel(ABC):
    """A haemodynamic response function, best a frozen dataclass of its constants.

    Attributes
    ----------
    duration : float
        Time after which it counts as 0, s.
    """

    duration: float

    @abstractmethod
    def __call__(self, t: ArrayLike) -> NDArray:
        """The response.

        Parameters
        ----------
        t : array_like
            Times after the activity, s, not negative.

        Returns
        -------
        ndarray
            Of the shape of `t`.
        """


@dataclass(frozen=True)
class FirstOrderVolterra(Kernel):
    r"""The first Volterra kernel of the Balloon model: a damped oscillation.

    .. math:: h(t) = a\, e^{-t / 2 \tau_s} \sin(\omega t) / \omega, \quad
              \omega = \sqrt{1 / \tau_f - 1 / 4 \tau_s^2}

    Parameters
    ----------
    tau_s, tau_f : float
        Of the vasodilatory signal, and of its regulation by flow, s.
    scaling : float
        The factor a.
    duration : float
        Time after which it counts as 0, s.

    Raises
    ------
    ValueError
        If it does not oscillate, ``tau_f >= 4 tau_s^2``.

    References
    ----------
    .. [1] Friston, Mechelli, Turner and Price (2000), NeuroImage 12:466.
           https://doi.org/10.1006/nimg.2000.0630

    Examples
    --------
    >>> float(FirstOrderVolterra()(0.0))
    0.0
    """

    tau_s: float = 0.8
    tau_f: float = 0.4
    scaling: float = 1 / 3
    duration: float = 20.0

    def __post_init__(self) -> None:
        """Check that it oscillates."""
        if not 0 < self.tau_f < 4 * self.tau_s**2:
            raise ValueError(
                f"tau_f is {self.tau_f} and tau_s {self.tau_s}; expected 0 < tau_f < 4 tau_s^2"
            )

    def __call__(self, t: ArrayLike) -> NDArray:
        """The response; see `Kernel`."""
        t = np.asarray(t, float)
        omega = math.sqrt(1 / self.tau_f - 1 / (4 * self.tau_s**2))
        return self.scaling * np.exp(-t / (2 * self.tau_s)) * np.sin(omega * t) / omega


@dataclass(frozen=True)
class Gamma(Kernel):
    r"""A gamma function, which peaks after :math:`(n - 1) \tau`.

    .. math:: h(t) \propto (t / \tau)^{n - 1} e^{-t / \tau}

    Parameters
    ----------
    tau : float
        Time constant, s.
    n : float
        Phases of delay, above 1.
    peak : float
        Height of the peak.
    duration : float
        Time after which it counts as 0, s.

    References
    ----------
    .. [1] Boynton, Engel, Glover and Heeger (1996), J Neurosci 16:4207.
           https://doi.org/10.1523/JNEUROSCI.16-13-04207.1996

    Examples
    --------
    >>> round(float(Gamma()(2.16)), 6)
    0.1
    """

    tau: float = 1.08
    n: float = 3.0
    peak: float = 0.1
    duration: float = 20.0

    def __call__(self, t: ArrayLike) -> NDArray:
        """The response; see `Kernel`."""
        # In units of the time to the peak, where the function is 1.
        power, time = self.n - 1, np.asarray(t, float) / ((self.n - 1) * self.tau)
        return self.peak * (time * np.exp(1 - time)) ** power


@dataclass(frozen=True)
class DoubleExponential(Kernel):
    r"""The difference of two damped oscillations.

    .. math:: h(t) \propto a_1 e^{-t / \tau_1} \sin(2 \pi f_1 t) -
              a_2 e^{-t / \tau_2} \sin(2 \pi f_2 t)

    Parameters
    ----------
    tau_1, tau_2 : float
        Time constants of decay, s.
    f_1, f_2 : float
        Frequencies, Hz.
    amp_1, amp_2 : float
        Amplitudes.
    peak : float
        Height of the peak.
    duration : float
        Time after which it counts as 0, s.

    References
    ----------
    .. [1] Polonsky, Blake, Braun and Heeger (2000), Nat Neurosci 3:1153.
           https://doi.org/10.1038/80676

    Examples
    --------
    >>> round(float(DoubleExponential()(np.arange(0, 40, 0.01)).max()), 5)
    0.1
    """

    tau_1: float = 7.22
    tau_2: float = 7.4
    f_1: float = 0.03
    f_2: float = 0.12
    amp_1: float = 0.1
    amp_2: float = 0.1
    peak: float = 0.1
    duration: float = 40.0

    def __call__(self, t: ArrayLike) -> NDArray:
        """The response; see `Kernel`."""
        grid = np.linspace(0, self.duration, 4001)
        highest, space = grid[self._unscaled(grid).argmax()], grid[1]
        bounds = (max(highest - space, 0.0), highest + space)
        top = minimize_scalar(
            lambda time: -self._unscaled(time), bounds, bounds, options={"xatol": 1e-10}
        )
        return self.peak * self._unscaled(np.asarray(t, float)) / -top.fun

    def _unscaled(self, t: NDArray) -> NDArray:
        first = self.amp_1 * np.exp(-t / self.tau_1) * np.sin(2 * np.pi * self.f_1 * t)
        return first - self.amp_2 * np.exp(-t / self.tau_2) * np.sin(2 * np.pi * self.f_2 * t)


@dataclass(frozen=True)
class MixtureOfGammas(Kernel):
    r"""A gamma density less a second one, for the undershoot.

    .. math:: h(t) = \frac{(\lambda t)^{a_1 - 1} e^{-\lambda t}}{\Gamma(a_1)} -
              c\, \frac{(\lambda t)^{a_2 - 1} e^{-\lambda t}}{\Gamma(a_2)}

    Parameters
    ----------
    a_1, a_2 : float
        Shapes.
    rate : float
        The rate lambda, 1/s.
    c : float
        Weight of the undershoot.
    duration : float
        Time after which it counts as 0, s.

    References
    ----------
    .. [1] Glover (1999), NeuroImage 9:416. https://doi.org/10.1006/nimg.1998.0419

    Examples
    --------
    >>> round(float(MixtureOfGammas()(5.0)), 4)
    0.1741
    """

    a_1: float = 6.0
    a_2: float = 13.0
    rate: float = 1.0
    c: float = 0.4
    duration: float = 20.0

    def __call__(self, t: ArrayLike) -> NDArray:
        """The response; see `Kernel`."""
        x = self.rate * np.asarray(t, float)
        first, second = (x ** (a - 1) * np.exp(-x) / math.gamma(a) for a in (self.a_1, self.a_2))
        return first - self.c * second


KERNELS: dict[str, type[Kernel]] = {
    "first_order_volterra": FirstOrderVolterra,
    "gamma": Gamma,
    "double_exponential": DoubleExponential,
    "mixture_of_gammas": MixtureOfGammas,
}
