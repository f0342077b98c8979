"""Priors of connections that are not normal: sparse ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpyro.distributions as dist
from numpy.typing import NDArray

from bayesdcm.neural.base import Prior


@dataclass(frozen=True)
class LaplacePrior:
    """Laplace (double exponential) priors, whose mode is sparse as that of an L1 penalty.

    Parameters
    ----------
    scale : float
        Mean absolute difference from the prior mean, in the unit of the parameter; 1 / scale is
        the weight of the absolute value in the negative log-density.

    Raises
    ------
    ValueError
        If the scale is not positive.

    Examples
    --------
    >>> prior = Prior("A", ("to", "from"), np.zeros((2, 2)), 1 - np.eye(2), "Hz")
    >>> LaplacePrior(0.5).in_place_of(prior).variance.tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """

    scale: float

    def __post_init__(self) -> None:
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be a positive number, got {self.scale!r}")

    def in_place_of(self, prior: Prior) -> Prior:
        """A prior of the same mean, whose free entries are of this family.

        Parameters
        ----------
        prior : Prior
            Of any family.
        """
        return replace(prior, variance=2 * self.scale**2 * prior.free, family=self)

    def distribution(self, mean: NDArray, variance: NDArray) -> dist.Distribution:
        """Distribution of entries of these moments.

        Parameters
        ----------
        mean, variance : ndarray
            Of the same shape.
        """
        return dist.Laplace(mean, np.sqrt(variance / 2))
