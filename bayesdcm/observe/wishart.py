"""The likelihood of estimated cross-spectra: complex Wishart, with their degrees of freedom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from bayesdcm.integrate.complex_matrices import (
    hermitian_product,
    matrix_product,
    positive_inverse,
    row_by_row,
)
from bayesdcm.integrate.hermitian import from_columns, to_columns
from bayesdcm.observe.gaussian import GaussianObservation, Linearised
from bayesdcm.observe.temporal_precision import ConfoundBasis


class WishartObservation(GaussianObservation):
    """Cross-spectra as means of so many independent products of complex normal samples.

    With S predicted, s estimated from v samples, and n channels, the log-density is ``-v (log |S| +
    tr S^-1 s)`` and what does not depend on S: Whittle's likelihood, and the complex Wishart
    distribution where v is n or more.

    It is no Gaussian, but what variational Laplace takes of one it has: residuals and
    derivatives that are made white by the prediction give its gradient, and its curvature in the
    mean over data.

    Parameters
    ----------
    prediction : jax.Array
        Predicted cross-spectra as real columns (`bayesdcm.integrate.hermitian`), shape
        (rows, n n).
    degrees_of_freedom : jax.Array
        Independent complex samples behind each row, shape (rows,).
    constant : jax.Array
        What data and degrees of freedom add to the log-density of each row, shape (rows,); see
        `wishart_constant`.
    samples : jax.Array, optional
        Samples behind the estimate of each row, by which draws scatter, shape (rows,); more than
        the degrees of freedom where rows share some. None: these.

    References
    ----------
    .. [1] Goodman (1963), Ann Math Statist 34:152. https://doi.org/10.1214/aoms/1177704250
    .. [2] Whittle (1953), J R Stat Soc B 15:125.
           https://doi.org/10.1111/j.2517-6161.1953.tb00131.x

    Examples
    --------
    >>> fn = WishartObservation(jnp.ones((1, 1)), jnp.ones(1), jnp.zeros(1))
    >>> float(fn.log_prob(jnp.ones((1, 1))))
    -1.0
    """

    fixed_precision = False
    pytree_data_fields = (
        *GaussianObservation.pytree_data_fields,
        "degrees_of_freedom",
        "constant",
        "samples",
    )

    def __init__(
        self,
        prediction: jax.Array,
        degrees_of_freedom: jax.Array,
        constant: jax.Array,
        samples: jax.Array | None = None,
    ) -> None:
        self.degrees_of_freedom, self.constant = degrees_of_freedom, constant
        self.samples = degrees_of_freedom if samples is None else samples
        nothing = ConfoundBasis(jnp.zeros((prediction.shape[0], 0)), jnp.zeros(0))
        super().__init__(prediction, jnp.zeros(1), None, nothing)

    def _mean(self, value: jax.Array) -> jax.Array:
        """Mean of the distribution that observed values are held against, (rows, columns)."""
        return self.prediction

    def _by_row(self, value: jax.Array, mean: jax.Array) -> jax.Array:
        return self.constant - self.degrees_of_freedom * _misfit(mean, value)

    def _log_density(self, value: jax.Array, mean: jax.Array) -> jax.Array:
        log_density = self._by_row(value, mean).sum()
        return jnp.where(jnp.isfinite(log_density), log_density, -jnp.inf)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density, (); -inf where the prediction is not finite or not positive definite."""
        return self._log_density(value, self._mean(value))

    def pointwise(self, value: jax.Array, fitted: jax.Array) -> jax.Array:
        """Log-density of each row, (rows,): entries of a row have none of their own.

        Parameters
        ----------
        value, fitted : see `GaussianObservation.pointwise`
        """
        return self._by_row(value, self._mean(value))

    def _whiten(self, root: jax.Array, columns: jax.Array) -> jax.Array:
        white = to_columns(_within(root, from_columns(columns)))
        return jnp.sqrt(self.degrees_of_freedom)[:, None] * white

    def whitened_residual(self, value: jax.Array) -> jax.Array:
        """Residual with unit precision in the mean over data, (rows, columns).

        Parameters
        ----------
        value : jax.Array, as observed
        """
        mean = self._mean(value)
        return self._whiten(_roots(mean), value - mean)

    def linearised(self, value: jax.Array) -> Linearised:
        """White columns about this prediction; see `GaussianObservation.linearised`.

        Parameters
        ----------
        value : jax.Array, as observed
        """
        return self._linearised(value, self._mean(value))

    def _linearised(self, value: jax.Array, mean: jax.Array) -> Linearised:
        root = jax.lax.stop_gradient(_roots(mean))
        residual = self._whiten(root, value - mean)
        as_normal = -((residual**2).sum() + residual.size * jnp.log(2 * jnp.pi)) / 2
        columns = self._whiten(root, mean)
        return Linearised(columns, residual, self._log_density(value, mean) - as_normal)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Estimates, shape (..., rows, columns): each scatters as it should, rows by themselves.

        Parameters
        ----------
        key : jax.Array
        sample_shape : tuple of int
        """
        return _estimates(self.prediction, self.samples, key, sample_shape)


def _roots(prediction: jax.Array) -> jax.Array:
    return row_by_row(jnp.linalg.cholesky, from_columns(prediction))


# Compiled as one: simulations draw outside of programs.
@partial(jax.jit, static_argnames="sample_shape")
def _estimates(
    prediction: jax.Array,
    samples: jax.Array,
    key: jax.Array,
    sample_shape: tuple[int, ...],
) -> jax.Array:
    """Draws of `WishartObservation`."""
    root = _roots(prediction)
    rows, n = root.shape[:2]
    first, second = jax.random.split(key)
    # Bartlett's decomposition; with fewer samples than channels, of what there is.
    shapes = jnp.maximum(samples[:, None] - jnp.arange(n), 0.0)
    present = shapes > 0
    squares = jax.random.gamma(first, jnp.where(present, shapes, 1.0), (*sample_shape, rows, n))
    noise = jax.random.normal(second, (2, *sample_shape, rows, n, n)) / jnp.sqrt(2)
    below = jnp.tril(noise[0] + 1j * noise[1], -1)
    factor = below + jnp.sqrt(squares)[..., None, :] * jnp.eye(n)
    factor = root @ (factor * present[:, None, :])
    product = factor @ factor.conj().mT / samples[:, None, None]
    return to_columns(product)


def _within(root: jax.Array, matrix: jax.Array) -> jax.Array:
    """``L^-1 M L^-H`` of Hermitian matrices M and lower triangular L, (rows, n, n)."""

    def row(root: jax.Array, matrix: jax.Array) -> jax.Array:
        half = solve_triangular(root, matrix, lower=True)
        return solve_triangular(root, half.conj().mT, lower=True)

    return row_by_row(row, root, matrix)


@jax.custom_jvp
def _misfit(predicted: jax.Array, estimated: jax.Array) -> jax.Array:
    """``log |S| + tr S^-1 s`` of matrices as columns (rows, n n), (rows,)."""
    return _by_matrix(lambda *row: _misfit_and_slopes(*row)[0], predicted, estimated)


@_misfit.defjvp
def _misfit_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    misfit, *slopes = _by_matrix(_misfit_and_slopes, *primals)
    changes = zip(slopes, tangents, strict=True)
    return misfit, sum((slope * change).sum(1) for slope, change in changes)


def _by_matrix(function: Callable, *columns: jax.Array) -> Any:
    """A function of the columns of matrices, of one after the other where they are large."""
    n = round(columns[0].shape[-1] ** 0.5)

    def row(*matrices: jax.Array) -> Any:
        return function(*(matrix.reshape(n * n) for matrix in matrices))

    return row_by_row(row, *(each.reshape(-1, n, n) for each in columns))


def _misfit_and_slopes(predicted: jax.Array, estimated: jax.Array) -> tuple[jax.Array, ...]:
    """Of one row, and derivatives by its columns, (n n,)."""
    s = from_columns(estimated)
    logarithm, inverse = positive_inverse(from_columns(predicted))
    by_estimated = to_columns(inverse)
    data = to_columns(hermitian_product(matrix_product(inverse, s), inverse))
    misfit = logarithm + (by_estimated * estimated).sum()
    return misfit, by_estimated - data, by_estimated


def wishart_constant(spectra: NDArray, degrees_of_freedom: ArrayLike) -> NDArray[np.float64]:
    """What of the log-density of estimates does not depend on the prediction, (rows,).

    Parameters
    ----------
    spectra : ndarray
        Estimated cross-spectra, shape (rows, n, n).
    degrees_of_freedom : array_like
        Independent complex samples behind each row, shape (rows,).

    Returns
    -------
    ndarray
        0 where samples are fewer than channels, so that there is no density.

    Examples
    --------
    >>> wishart_constant(np.ones((1, 1, 1)), [1.0]).tolist()
    [0.0]
    """
    n = spectra.shape[-1]
    v = np.broadcast_to(np.asarray(degrees_of_freedom, float), len(spectra))
    enough = v >= n
    v = np.where(enough, v, n)
    logarithm = np.linalg.slogdet(np.where(enough[:, None, None], spectra, np.eye(n)))[1]
    gamma = n * (n - 1) / 2 * np.log(np.pi) + gammaln(v[:, None] - np.arange(n)).sum(1)
    return np.where(enough, n * v * np.log(v) + (v - n) * logarithm - gamma, 0.0)
