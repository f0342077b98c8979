"""The posterior of a program, as a method has found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.block_covariance import BlockCovariance
from bayesdcm.infer.method import Method


@dataclass(frozen=True, eq=False)
class Posterior:
    """A posterior over the flat, unconstrained vector of a program, and how it was found.

    Parameters
    ----------
    method : Method
        Which has found it.
    draws : ndarray or None
        Shape (chains, draws, size); None where they are still to be drawn from `gaussian`.
    gaussian : tuple of ndarray or None
        Mean (size,) and covariance (size, size), where the posterior is Gaussian; the covariance
        of many parameters may be a `bayesdcm.infer.block_covariance.BlockCovariance`.
    point : ndarray or None
        Where the method finds the best point and no more, that, (size,).
    log_q : ndarray or None
        Log-density of the approximation at the draws, (chains, draws).
    statistics : mapping
        Statistics of the sampler, each (chains, draws).
    n_draws : int
        How many draws to take from `gaussian`.
    seed : int
        Seed of everything drawn later.
    metric : ndarray or None
        Covariance of the Gaussian approximation that a sampler was preconditioned with,
        (size, size).
    log_evidence : float or None
        Of the kind that ``method.evidence`` names, in nats.
    trace : mapping of ndarray
        What the method did, per iteration.
    status : mapping
        ``converged`` and other facts about the run, as JSON has them.
    optima : LaplaceResult, PointOptima or None
        What variational Laplace, or a search for a point, found, one row a start.
    components : tuple of Posterior
        Of a mixture, what was mixed.
    """

    method: Method
    draws: NDArray | None = None
    gaussian: tuple[NDArray, NDArray | BlockCovariance] | None = None
    point: NDArray | None = None
    log_q: NDArray | None = None
    statistics: Mapping[str, NDArray] = field(default_factory=dict)
    n_draws: int = 1000
    seed: int = 0
    metric: NDArray | None = None
    log_evidence: float | None = None
    trace: Mapping[str, NDArray] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    optima: Any = None
    components: tuple[Posterior, ...] = ()

    @cached_property
    def sample(self) -> NDArray:
        """Draws, shape (chains, draws, size)."""
        if self.draws is not None:
            return self.draws
        if self.point is not None:
            return self.point[None, None]
        mean, covariance = self.gaussian
        noise = np.random.default_rng(self.seed).normal(size=(self.n_draws, len(mean)))
        if isinstance(covariance, BlockCovariance):
            return (mean + covariance.correlated(noise))[None]
        return (mean + noise @ np.linalg.cholesky(covariance).T)[None]

    @property
    def flat_sample(self) -> NDArray:
        """Draws of all chains, shape (chains x draws, size)."""
        return self.sample.reshape(-1, self.sample.shape[-1])

    @cached_property
    def density(self) -> NDArray | None:
        """Log-density of the approximation at the draws, (chains, draws); None for NUTS."""
        if self.gaussian is None:
            return self.log_q
        mean, covariance = self.gaussian
        away = self.flat_sample - mean
        if isinstance(covariance, BlockCovariance):
            white, log_scale = covariance.white(away).T, covariance.half_log_determinant
        else:
            factor = np.linalg.cholesky(covariance)
            white = np.linalg.solve(factor, away.T)
            log_scale = np.log(np.diagonal(factor)).sum()
        log_scale += len(mean) * np.log(2 * np.pi) / 2
        return (-0.5 * (white**2).sum(0) - log_scale).reshape(self.sample.shape[:2])

    def require_spread(self, what: str) -> None:
        """Raise an error where there is no more than a point.

        Parameters
        ----------
        what : str
            What needs a posterior, such as ``"covariance"``.

        Raises
        ------
        ValueError
            With what to do about it.
        """
        if self.point is not None:
            raise ValueError(
                f"{what} needs a posterior, but method {self.method.name!r} finds the best point "
                "and no more. Models with a likelihood can be fitted with method='laplace' or "
                "'nuts'; fit.posterior.optima holds what the starts found"
            )

    def again(self, number: int) -> Posterior:
        """The same Gaussian with other draws.

        Parameters
        ----------
        number : int
            Of the sample; 0 is this one.
        """
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return replace(self, seed=seed) if number else self
