"""Mean-field posteriors of one linear regression: coefficients, noise, and which are there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import digamma, expit, gammaln, logit, polygamma

# Inclusions that the published scheme takes as 0, and coefficients.
NO_INCLUSION, NO_COEFFICIENT = 1e-10, 1e-5
LOG_2_PI = float(np.log(2 * np.pi))
# Of the quadrature over log-precisions, in standard deviations.
NODES = np.linspace(-12.0, 12.0, 241)
NEWTON_STEPS = 50
# Where rounding would leave no misfit.
SMALLEST = 1e-300


class NoisePosterior(NamedTuple):
    """Posterior of the precision of noise.

    Attributes
    ----------
    precision : float
        Its mean.
    log_mean, log_variance : float
        Moments of its logarithm.
    log_evidence : float
        What the likelihood of the misfit is over the prior, in nats.
    """

    precision: float
    log_mean: float
    log_variance: float
    log_evidence: float


class GammaNoise(NamedTuple):
    """Gamma prior of the precision of noise, by shape and rate."""

    shape: float
    rate: float

    @property
    def mean(self) -> float:
        """Mean of the precision."""
        return self.shape / self.rate

    def posterior(self, n_rows: int, misfit: float) -> NoisePosterior:
        """Posterior under so many data points of a misfit, half the expected sum of squares."""
        shape, rate = self.shape + n_rows / 2, self.rate + misfit
        evidence = self.shape * np.log(self.rate) - gammaln(self.shape)
        evidence += gammaln(shape) - shape * np.log(rate)
        log_mean = digamma(shape) - np.log(rate)
        variance = float(polygamma(1, shape))
        return NoisePosterior(shape / rate, float(log_mean), variance, float(evidence))


class NormalNoise(NamedTuple):
    """Normal prior of the log-precision of noise, by mean and variance of the logarithm."""

    log_mean: float
    log_variance: float

    @property
    def mean(self) -> float:
        """A precision to begin with."""
        return float(np.exp(self.log_mean))

    def posterior(self, n_rows: int, misfit: float) -> NoisePosterior:
        """As `GammaNoise.posterior`, by quadrature."""

        def log_density(x: Any) -> Any:
            away = (x - self.log_mean) ** 2 / self.log_variance
            return n_rows * x / 2 - misfit * np.exp(x) - away / 2

        # The density is log-concave: Newton steps from above its mode end there.
        mode = max(np.log(max(n_rows, 1) / (2 * misfit)), self.log_mean)
        for _ in range(NEWTON_STEPS):
            slope = n_rows / 2 - misfit * np.exp(mode) - (mode - self.log_mean) / self.log_variance
            mode += slope / (misfit * np.exp(mode) + 1 / self.log_variance)
        width = (misfit * np.exp(mode) + 1 / self.log_variance) ** -0.5
        x = mode + width * NODES
        log_weights = log_density(x)
        most = log_weights.max()
        weights = np.exp(log_weights - most)
        total = weights.sum()
        weights /= total
        log_mean = weights @ x
        evidence = most + np.log(total * width * (NODES[1] - NODES[0]))
        evidence -= (LOG_2_PI + np.log(self.log_variance)) / 2
        spread = weights @ (x - log_mean) ** 2
        return NoisePosterior(*map(float, (weights @ np.exp(x), log_mean, spread, evidence)))


class Regression(NamedTuple):
    """What a linear regression needs of data, ``y = X theta + noise``, and its priors.

    Attributes
    ----------
    gram, cross, square : (size, size), (size,), ()
        ``X' X``, ``X' y`` and ``y' y``.
    n_rows : int
        Number of data points.
    mean, precision : (size,)
        Normal priors of the coefficients.
    noise : GammaNoise or NormalNoise
        Prior of the precision of the noise.
    """

    gram: NDArray
    cross: NDArray
    square: float
    n_rows: int
    mean: NDArray
    precision: NDArray
    noise: GammaNoise | NormalNoise


class RegressionPosterior(NamedTuple):
    """Posterior ``q(theta) q(noise)``, or ``q(theta) q(inclusion) q(noise)``.

    Attributes
    ----------
    mean, covariance : (size,), (size, size)
        Of the coefficients, also of those that are not included.
    noise : NoisePosterior
        Of the precision of the noise.
    inclusion : (size,)
        Probabilities that coefficients are there; 1 of regressions that are not sparse.
    free_energy : (iterations,)
        In nats.
    converged : bool
        Whether the free energy came to rest.
    """

    mean: NDArray
    covariance: NDArray
    noise: NoisePosterior
    inclusion: NDArray
    free_energy: NDArray
    converged: bool


def _root(precision: float, gram: NDArray, prior: NDArray) -> tuple[NDArray, float]:
    """R, lower triangular, whose R' R is the covariance of coefficients, and its log-determinant.

    The determinant is that of the covariance.
    """
    information = np.multiply(gram, precision, order="F")
    information[np.diag_indices(len(prior))] += prior
    factor, failed = lapack.dpotrf(information, lower=1, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError("the precision of coefficients is not positive definite")
    log_determinant = -2 * np.log(np.diagonal(factor)).sum()
    root, _ = lapack.dtrtri(factor, lower=1, overwrite_c=1)
    return root, float(log_determinant)


def _coefficient_terms(
    given: Regression, mean: NDArray, variance: NDArray, log_determinant: float
) -> float:
    """Part of the free energy that is of the coefficients."""
    away = mean - given.mean
    quadratic = given.precision @ (away**2 + variance)
    volume = np.log(given.precision).sum() + log_determinant
    return float((volume - quadratic + len(mean)) / 2)


def rigid_posterior(
    given: Regression, max_iterations: int = 500, tolerance: float = 1e-5
) -> RegressionPosterior:
    """Posterior of a regression whose coefficients are all there.

    Parameters
    ----------
    given : Regression
        Data and priors.
    max_iterations : int
        Iterations at most.
    tolerance : float
        Change of the free energy, in nats, below which it has come to rest.

    Returns
    -------
    RegressionPosterior

    References
    ----------
    .. [1] Fraessle et al. (2017), NeuroImage 155:406.
           https://doi.org/10.1016/j.neuroimage.2017.02.090

    Examples
    --------
    >>> x, y = np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 2.0])
    >>> prior = np.zeros(1), np.full(1, 1e-6), GammaNoise(2.0, 1.0)
    >>> given = Regression(x.T @ x, x.T @ y, y @ y, 4, *prior)
    >>> rigid_posterior(given).mean.round(3).tolist()
    [2.0]
    """
    precision = given.noise.mean
    energies: list[float] = []
    converged = False
    while not converged and len(energies) < max_iterations:
        root, volume = _root(precision, given.gram, given.precision)
        weighted = precision * given.cross + given.precision * given.mean
        mean = root.T @ (root @ weighted)
        variance = np.einsum("ij,ij->j", root, root)
        error = given.square - 2 * given.cross @ mean + mean @ given.gram @ mean
        # The trace of the Gram matrix times the covariance, whose inverse holds both priors.
        spread = (len(mean) - given.precision @ variance) / precision
        misfit = max((error + spread) / 2, SMALLEST)
        noise = given.noise.posterior(given.n_rows, misfit)
        precision = noise.precision
        energies.append(
            noise.log_evidence
            - given.n_rows * LOG_2_PI / 2
            + _coefficient_terms(given, mean, variance, volume)
        )
        converged = len(energies) > 1 and abs(energies[-1] - energies[-2]) < tolerance
    covariance, ones = root.T @ root, np.ones(len(mean))
    return RegressionPosterior(mean, covariance, noise, ones, np.array(energies), converged)


def sparse_posterior(
    given: Regression,
    inclusion: NDArray,
    order: NDArray | None = None,
    published: bool = False,
    max_iterations: int = 500,
    tolerance: float = 1e-5,
) -> RegressionPosterior:
    """Posterior of a regression whose coefficients may be absent.

    Each coefficient is multiplied by a switch, 0 or 1, which is 1 with probability `inclusion` a
    priori. Switches are updated one after the other, in `order`.

    Parameters
    ----------
    given : Regression
        Data and priors.
    inclusion : ndarray, shape (size,)
        Prior probabilities; those of 0 and 1 are settled.
    order : ndarray of int, shape (size,), optional
        In which switches are updated; one after the other by default.
    published : bool
        Whether to do as the published implementation: coefficients below 1e-5 and their switches
        are set to 0 in each iteration, and switches of which the posterior is certain do not cost
        their prior probability, as they do in the bound.
    max_iterations, tolerance
        As in `rigid_posterior`.

    Returns
    -------
    RegressionPosterior

    References
    ----------
    .. [1] Fraessle et al. (2018), NeuroImage 179:505.
           https://doi.org/10.1016/j.neuroimage.2018.05.058

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> y = 2 * x[:, 0] + 0.1
    >>> prior = np.zeros(2), np.ones(2), GammaNoise(2.0, 1.0)
    >>> given = Regression(x.T @ x, x.T @ y, y @ y, 100, *prior)
    >>> sparse_posterior(given, np.full(2, 0.5)).inclusion.round(2).tolist()
    [1.0, 0.0]
    """
    gram, spread = given.gram, np.diagonal(given.gram)
    precision, z = given.noise.mean, np.array(inclusion, float)
    with np.errstate(divide="ignore"):
        odds = logit(inclusion)
    switches = [i for i in (range(len(z)) if order is None else order) if inclusion[i] > 0]
    energies: list[float] = []
    converged = False
    expected = _expected_gram(gram, spread, z)
    while not converged and len(energies) < max_iterations:
        root, volume = _root(precision, expected, given.precision)
        covariance = root.T @ root
        mean = covariance @ (precision * z * given.cross + given.precision * given.mean)
        products = gram * (np.outer(mean, mean) + covariance)
        gain = odds + precision * (mean * given.cross + np.diagonal(products) / 2)
        z = _sweep(z, gain, precision * products, switches)
        expected = _expected_gram(gram, spread, z)
        error = given.square - 2 * mean @ (z * given.cross) + mean @ expected @ mean
        misfit = max((error + np.vdot(expected, covariance)) / 2, SMALLEST)
        noise = given.noise.posterior(given.n_rows, misfit)
        precision = noise.precision
        if published:
            absent = np.abs(mean) < NO_COEFFICIENT
            mean, z = np.where(absent, 0.0, mean), np.where(absent, 0.0, z)
        energies.append(
            noise.log_evidence
            - given.n_rows * LOG_2_PI / 2
            + _coefficient_terms(given, mean, np.diagonal(covariance), volume)
            + _inclusion_terms(z, inclusion, published)
        )
        converged = len(energies) > 1 and abs(energies[-1] - energies[-2]) < tolerance
    return RegressionPosterior(mean, covariance, noise, z, np.array(energies), converged)


def _expected_gram(gram: NDArray, spread: NDArray, z: NDArray) -> NDArray:
    """Mean of the Gram matrix of regressors times their switches."""
    expected = gram * z * z[:, None]
    expected[np.diag_indices(len(z))] = z * spread
    return expected


def _sweep(z: NDArray, gain: NDArray, products: NDArray, switches: list[int]) -> NDArray:
    """Switches after each has been updated, given all others."""
    z = z.copy()
    for i in switches:
        z[i] = 1.0
        z[i] = expit(gain[i] - z @ products[i])
    return z


def _inclusion_terms(z: NDArray, inclusion: NDArray, published: bool) -> float:
    """Part of the free energy that is of the switches."""
    open_ = (inclusion > 0) & (inclusion < 1)
    if published:
        open_ &= (z > NO_INCLUSION) & (z < 1)
    z, prior = z[open_], inclusion[open_]
    # At 0 and 1 the entropy is 0.
    inside = np.clip(z, 1e-300, 1 - 1e-16)
    entropy = -(inside * np.log(inside) + (1 - inside) * np.log1p(-inside))
    cost = z * np.log(prior) + (1 - z) * np.log1p(-prior)
    return float((entropy + cost).sum())
