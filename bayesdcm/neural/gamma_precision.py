"""Gamma priors of the precision of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpyro.distributions as dist
from numpy.typing import NDArray
from numpyro.distributions.transforms import ExpTransform
from scipy.special import digamma, polygamma

from bayesdcm.neural.prior_families import PriorFamily


@dataclass(frozen=True)
class GammaPrecision(PriorFamily):
    """Gamma priors of precisions, as priors of their logarithms.

    Parameters
    ----------
    shape, rate : float
        Of the gamma distribution of a precision.

    Examples
    --------
    >>> round(GammaPrecision(2.0, 1.0).mean, 4)
    0.4228
    """

    shape: float = 2.0
    rate: float = 1.0

    title: ClassVar[str] = "log gamma"
    of_precisions: ClassVar[bool] = True
    self_connections: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("shape", "rate"):
            self._check_positive(name)

    @property
    def mean(self) -> float:
        """Mean of the log-precision."""
        return float(digamma(self.shape) - np.log(self.rate))

    def variance_of(self, entries: int) -> float:
        """Variance of the log-precision."""
        del entries
        return float(polygamma(1, self.shape))

    def distribution(
        self, name: str, mean: NDArray, variance: NDArray, chosen: NDArray[np.bool_]
    ) -> dist.Distribution:
        """Of the logarithm, see `PriorFamily.distribution`."""
        del name, variance, chosen
        gamma = dist.Gamma(np.full(np.shape(mean), self.shape), self.rate)
        return dist.TransformedDistribution(gamma, ExpTransform().inv)
