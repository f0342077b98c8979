"""Mean-field posteriors of one linear regression: coefficients, noise, and which are there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import digamma, expit, gammaln, logit

# Inclusions that the published scheme takes as 0, and coefficients.
NO_INCLUSION, NO_COEFFICIENT = 1e-10, 1e-5
LOG_2_PI = float(np.log(2 * np.pi))


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
    shape, rate : float
        Gamma prior of the precision of the noise.
    """

    gram: NDArray
    cross: NDArray
    square: float
    n_rows: int
    mean: NDArray
    precision: NDArray
    shape: float
    rate: float


class RegressionPosterior(NamedTuple):
    """Posterior ``q(theta) q(noise)``, or ``q(theta) q(inclusion) q(noise)``.

    Attributes
    ----------
    mean, covariance : (size,), (size, size)
        Of the coefficients, also of those that are not included.
    shape, rate : float
        Gamma posterior of the precision of the noise.
    inclusion : (size,)
        Probabilities that coefficients are there; 1 of regressions that are not sparse.
    free_energy : (iterations,)
        In nats.
    converged : bool
        Whether the free energy came to rest.
    """

    mean: NDArray
    covariance: NDArray
    shape: float
    rate: float
    inclusion: NDArray
    free_energy: NDArray
    converged: bool


def _spread(information: NDArray) -> tuple[NDArray, float]:
    """Inverse of a precision matrix, and the logarithm of the inverse's determinant."""
    factor, failed = lapack.dpotrf(information, lower=1)
    if failed:
        raise np.linalg.LinAlgError("the precision of coefficients is not positive definite")
    log_determinant = -2 * np.log(np.diagonal(factor)).sum()
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    lower = np.tril_indices(len(inverse), -1)
    inverse.T[lower] = inverse[lower]
    return inverse, log_determinant


def _noise_terms(given: Regression, shape: float, rate: float, misfit: float) -> float:
    """Part of the free energy that is of the likelihood and of the noise."""
    precision, log_precision = shape / rate, digamma(shape) - np.log(rate)
    likelihood = given.n_rows * (log_precision - LOG_2_PI) / 2 - precision * misfit
    prior = given.shape * np.log(given.rate) - gammaln(given.shape)
    prior += (given.shape - 1) * log_precision - given.rate * precision
    entropy = shape - np.log(rate) + gammaln(shape) + (1 - shape) * digamma(shape)
    return float(likelihood + prior + entropy)


def _coefficient_terms(
    given: Regression, mean: NDArray, covariance: NDArray, log_determinant: float
) -> float:
    """Part of the free energy that is of the coefficients."""
    away = mean - given.mean
    quadratic = given.precision @ (away**2 + np.diagonal(covariance))
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
    >>> given = Regression(x.T @ x, x.T @ y, y @ y, 4, np.zeros(1), np.full(1, 1e-6), 2.0, 1.0)
    >>> rigid_posterior(given).mean.round(3).tolist()
    [2.0]
    """
    shape, rate = given.shape + given.n_rows / 2, given.rate
    precision, diagonal = given.shape / given.rate, np.diag(given.precision)
    energies: list[float] = []
    converged = False
    while not converged and len(energies) < max_iterations:
        covariance, volume = _spread(precision * given.gram + diagonal)
        mean = covariance @ (precision * given.cross + given.precision * given.mean)
        error = given.square - 2 * given.cross @ mean + mean @ given.gram @ mean
        misfit = (error + np.vdot(given.gram, covariance)) / 2
        rate = given.rate + misfit
        precision = shape / rate
        energies.append(
            _noise_terms(given, shape, rate, misfit)
            + _coefficient_terms(given, mean, covariance, volume)
        )
        converged = len(energies) > 1 and abs(energies[-1] - energies[-2]) < tolerance
    ones = np.ones(len(mean))
    return RegressionPosterior(mean, covariance, shape, rate, ones, np.array(energies), converged)


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
    >>> given = Regression(x.T @ x, x.T @ y, y @ y, 100, np.zeros(2), np.ones(2), 2.0, 1.0)
    >>> sparse_posterior(given, np.full(2, 0.5)).inclusion.round(2).tolist()
    [1.0, 0.09]
    """
    gram, spread = given.gram, np.diagonal(given.gram)
    shape, rate = given.shape + given.n_rows / 2, given.rate
    precision, z = given.shape / given.rate, np.array(inclusion, float)
    with np.errstate(divide="ignore"):
        odds = logit(inclusion)
    switches = [i for i in (range(len(z)) if order is None else order) if inclusion[i] > 0]
    energies: list[float] = []
    converged = False
    expected = _expected_gram(gram, spread, z)
    while not converged and len(energies) < max_iterations:
        covariance, volume = _spread(precision * expected + np.diag(given.precision))
        mean = covariance @ (precision * z * given.cross + given.precision * given.mean)
        products = gram * (np.outer(mean, mean) + covariance)
        gain = odds + precision * (mean * given.cross + np.diagonal(products) / 2)
        z = _sweep(z, gain, precision * products, switches)
        expected = _expected_gram(gram, spread, z)
        error = given.square - 2 * mean @ (z * given.cross) + mean @ expected @ mean
        misfit = (error + np.vdot(expected, covariance)) / 2
        rate = given.rate + misfit
        precision = shape / rate
        if published:
            absent = np.abs(mean) < NO_COEFFICIENT
            mean, z = np.where(absent, 0.0, mean), np.where(absent, 0.0, z)
        energies.append(
            _noise_terms(given, shape, rate, misfit)
            + _coefficient_terms(given, mean, covariance, volume)
            + _inclusion_terms(z, inclusion, published)
        )
        converged = len(energies) > 1 and abs(energies[-1] - energies[-2]) < tolerance
    return RegressionPosterior(mean, covariance, shape, rate, z, np.array(energies), converged)


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
