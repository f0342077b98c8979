"""Observer of covariances between regions: functional connectivity, and its likelihoods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from numpy.typing import NDArray
from scipy.special import multigammaln

from bayesdcm.data.covariance import CovarianceData
from bayesdcm.integrate.complex_matrices import row_by_row
from bayesdcm.integrate.hermitian import from_columns, to_columns
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.observe.base import Observer, noise_prior
from bayesdcm.observe.gaussian import GaussianObservation, Linearised
from bayesdcm.observe.temporal_precision import ConfoundBasis
from bayesdcm.observe.wishart import WishartObservation

# Of the log-precision of correlations about those predicted: sd from .02 to 1 within two sd.
NORMAL_NOISE = (4.0, 4.0)
# Power of noise of measurement, relative to the mean variance of activity, at the prior mean.
MEASUREMENT_NOISE = 0.1


class WishartCount(NamedTuple):
    """Of the Wishart likelihood of one covariance: degrees of freedom and constant, shape (1,)."""

    degrees_of_freedom: jax.Array
    constant: jax.Array


class CorrelationObservation(WishartObservation):
    """Correlations of real signals, whose covariance has a Wishart distribution.

    The standard deviation of the samples of each region says nothing about correlations, and is
    not known from them: it is integrated out, by Laplace's method. With P predicted, R observed
    from v samples of n regions, and ``M = P^-1 * R`` entry by entry, the density of R is that of
    a covariance times

        integral of prod_i s_i^(v-1) exp(-v/2 sum_ij s_i M_ij s_j) 2^n ds,

    whose integrand is largest where ``s_i sum_j M_ij s_j = 1``.

    Parameters
    ----------
    prediction : jax.Array
        Predicted correlations as columns (`bayesdcm.integrate.hermitian`), shape (1, n n).
    degrees_of_freedom, constant : jax.Array
        See `WishartCount`.

    References
    ----------
    .. [1] Wishart (1928), Biometrika 20A:32. https://doi.org/10.1093/biomet/20A.1-2.32

    Examples
    --------
    >>> equal = to_columns(jnp.eye(2, dtype=complex))[None]
    >>> fn = CorrelationObservation(equal, jnp.array([2.0]), jnp.zeros(1))
    >>> found = fn.sample(jax.random.key(0)).reshape(2, 2)
    >>> jnp.diagonal(found).round(6).tolist()
    [1.0, 1.0]
    """

    def _mean(self, value: jax.Array) -> jax.Array:
        def row(predicted: jax.Array, observed: jax.Array) -> jax.Array:
            return _most_likely_scales(jnp.linalg.inv(predicted) * observed)

        matrices = (from_columns(columns).real for columns in (self.prediction, value))
        return self.prediction / _products(row_by_row(row, *matrices))

    def _integral(self, value: jax.Array, mean: jax.Array) -> jax.Array:
        """Logarithm of the integral over scales, without the part of the most likely, (rows,)."""

        def row(mean: jax.Array, observed: jax.Array) -> jax.Array:
            # The curvature in logarithms of the scales, over v.
            root = jnp.linalg.cholesky(jnp.eye(len(mean)) + jnp.linalg.inv(mean) * observed)
            return jnp.log(jnp.diagonal(root)).sum()

        n = round(value.shape[-1] ** 0.5)
        volume = row_by_row(row, *(from_columns(columns).real for columns in (mean, value)))
        freedom = 2 * self.degrees_of_freedom
        return n * jnp.log(2.0) + n / 2 * jnp.log(2 * jnp.pi / freedom) - volume

    def _by_row(self, value: jax.Array, mean: jax.Array) -> jax.Array:
        return super()._by_row(value, mean) + self._integral(value, mean)

    def _linearised(self, value: jax.Array, mean: jax.Array) -> Linearised:
        columns, residual, remainder = super()._linearised(value, mean)
        # The gradient of the integral is that of a column with a residual of 1: the imaginary part
        # of the first pair, which is 0 otherwise.
        place = round(value.shape[-1] ** 0.5)
        columns = columns.at[:, place].set(self._integral(value, mean))
        return Linearised(columns, residual.at[:, place].set(1.0), remainder + 0.5)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Correlations of as many samples, shape (..., rows, columns).

        Parameters
        ----------
        key : jax.Array
        sample_shape : tuple of int
        """
        drawn = super().sample(key, sample_shape)
        n = round(drawn.shape[-1] ** 0.5)
        return drawn / _products(jnp.sqrt(drawn[..., :: n + 1]))


def _products(scales: jax.Array) -> jax.Array:
    """Of scales (..., n) by columns of matrices, (..., n n)."""
    return (scales[..., :, None] * scales[..., None, :]).reshape(*scales.shape[:-1], -1)


def _most_likely_scales(matrix: jax.Array) -> jax.Array:
    """Positive s (n,) with ``s_i sum_j M_ij s_j = 1``, of M positive definite.

    The minimum of ``s M s / 2 - sum log s``, which is self-concordant: Newton's method with steps
    of ``1 / (1 + decrement)`` finds it from anywhere (Boyd and Vandenberghe 2004, Convex
    Optimization, section 9.6).
    """
    identity = jnp.eye(len(matrix))

    def curvature(s: jax.Array, matrix: jax.Array) -> jax.Array:
        return identity + s[:, None] * matrix * s

    def step(state: tuple) -> tuple:
        s, _, count = state
        slope = s * (constant @ s) - 1
        change = -cho_solve(cho_factor(curvature(s, constant)), slope)
        decrement = jnp.sqrt(jnp.maximum(-slope @ change, 0.0))
        size = jnp.where(decrement > 0.25, 1 / (1 + decrement), 1.0)
        return s * (1 + size * change), decrement, count + 1

    constant = jax.lax.stop_gradient(matrix)
    start = 1 / jnp.sqrt(jnp.diagonal(constant)), jnp.array(jnp.inf), 0
    s, *_ = jax.lax.while_loop(lambda state: (state[1] > 1e-7) & (state[2] < 100), step, start)
    # Each further step with the same curvature is right by one more derivative.
    factor = cho_factor(curvature(s, constant))
    for _ in range(2):
        s = s * (1 - cho_solve(factor, s * (matrix @ s) - 1))
    return s


@dataclass(frozen=True)
class RegionalCovariance(Observer):
    """Covariance of the signals of regions: that of their activity, and noise of measurement.

    Noise of measurement is the same in all regions; its power is a tenth of the mean variance of
    activity times ``exp(measurement_noise)``, N(0, 1). Unless `absolute`, data and predictions are
    made correlations.

    Parameters
    ----------
    likelihood_name : {"wishart", "normal"}
        ``"wishart"``: the covariance has a Wishart distribution about that predicted, with the
        degrees of freedom of the data; of correlations, the scale of each region is integrated
        out. ``"normal"``: each pair's entry has a normal distribution
        about that predicted, with one variance that is estimated, so that the posterior mean is
        near what has the least squared error; it makes allowance for models that explain part of
        functional connectivity.
    absolute : bool
        Whether covariances are in squared units of the activity.

    References
    ----------
    .. [1] Wishart (1928), Biometrika 20A:32. https://doi.org/10.1093/biomet/20A.1-2.32

    Examples
    --------
    >>> RegionalCovariance().node
    'region'
    """

    likelihood_name: str = "wishart"
    absolute: bool = False

    data_class = CovarianceData
    kind: ClassVar[str] = "functional connectivity"
    node: ClassVar[str] = "region"
    headline: ClassVar[tuple[str, ...]] = ("strength",)
    sample: ClassVar[str] = "pair"

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """``measurement_noise``."""
        nothing, unit = np.zeros(()), "log scaling"
        return (Prior("measurement_noise", (), nothing, np.ones(()), unit),)

    @property
    def staged(self) -> bool:
        """Whether its parameters may move while states stay; only of Gaussian likelihoods."""
        return self.likelihood_name == "normal"

    # The forward model

    def matrix(self, solution: jax.Array, parameters: Parameters) -> jax.Array:
        """What is predicted, (regions, regions).

        Parameters
        ----------
        solution : jax.Array, from the solver
        parameters : mapping of full arrays by name
        """
        share = MEASUREMENT_NOISE * jnp.exp(parameters["measurement_noise"])
        mean = jnp.diagonal(solution).mean()
        whole = solution + share * mean * jnp.eye(len(solution))
        sd = jnp.sqrt(jnp.diagonal(whole))
        return whole if self.absolute else whole / (sd[:, None] * sd)

    def predict(self, solution: jax.Array, parameters: Parameters, arrays: None) -> jax.Array:
        """One row of columns (Wishart), or a row for each pair (normal)."""
        matrix = self.matrix(solution, parameters)
        if self.likelihood_name == "wishart":
            return to_columns(matrix.astype(complex))[None]
        return matrix[np.triu_indices(len(matrix), 1)][:, None]

    # Data

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where data are of something else, or of another number of regions."""
        if not isinstance(data, CovarianceData):
            raise TypeError(
                f"data must be CovarianceData, got {type(data).__name__}; "
                "CovarianceData.from_bold(bold) makes it, and "
                "CovarianceData(correlations, degrees_of_freedom, region_names)"
            )
        if data.n_regions != neural.n_nodes:
            raise ValueError(
                f"data has {data.n_regions} regions, but the connectome has {neural.n_nodes}; "
                "leave the same regions out of both"
            )
        if self.absolute and data.is_correlation:
            raise ValueError(
                "data are correlations, which have no size, but absolute is True; give covariances "
                "in squared units of the activity, or leave absolute out"
            )
        if data.n_regions < 2:
            raise ValueError("data has 1 region; expected at least 2, since pairs are modelled")

    def observed(self, data: CovarianceData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """Columns or pairs, and degrees of freedom; see `Observer.observed`."""
        matrix, freedom = self._as_modelled(data), data.degrees_of_freedom
        if self.likelihood_name == "normal":
            return matrix[np.triu_indices(len(matrix), 1)][:, None], None
        # The density of complex estimates with half of the degrees of freedom is that of real ones.
        constant = _wishart_constant(matrix, freedom)
        count = WishartCount(np.array([freedom / 2]), np.array([constant]))
        return to_columns(matrix.astype(complex))[None], count

    def _as_modelled(self, data: CovarianceData) -> NDArray[np.float64]:
        matrix = np.asarray(data.covariance)
        sd = np.ones(len(matrix)) if self.absolute else np.sqrt(np.diagonal(matrix))
        return matrix / np.outer(sd, sd)

    def noise_prior(self, neural: NeuralModel) -> Prior:
        """One log-precision, which is fixed for the Wishart likelihood."""
        normal = self.likelihood_name == "normal"
        return noise_prior(*(NORMAL_NOISE if normal else (0.0, 0.0)))

    def likelihood(
        self, prediction: jax.Array, log_precision: jax.Array, noise: WishartCount | None
    ) -> GaussianObservation:
        """Wishart, or normal."""
        if noise is not None:
            kind = WishartObservation if self.absolute else CorrelationObservation
            return kind(prediction, *noise)
        nothing = ConfoundBasis(jnp.zeros((len(prediction), 0)), jnp.zeros(0))
        return GaussianObservation(prediction, jnp.atleast_1d(log_precision), None, nothing)

    def at_data(
        self, prediction: jax.Array, data: CovarianceData, priors: Mapping[str, Prior]
    ) -> jax.Array:
        """The matrix that is predicted, (regions, regions), with the data's diagonal if normal."""
        n = data.n_regions
        upper = np.triu_indices(n, 1)
        if self.likelihood_name == "wishart":
            real = jnp.triu(prediction.reshape(n, n))
            off = jnp.triu(real, 1) / jnp.sqrt(2.0)
            return jnp.diag(jnp.diagonal(real)) + off + off.T
        off = jnp.zeros((n, n)).at[upper].set(prediction[:, 0])
        return off + off.T + jnp.diag(jnp.asarray(np.diagonal(self._as_modelled(data))))

    def simulated(
        self,
        clean: NDArray,
        design: CovarianceData,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> CovarianceData:
        """An estimate of the predicted covariance, with the design's degrees of freedom."""
        if snr is not None:
            raise ValueError(
                f"snr is {snr!r}, but errors of covariances follow from degrees of freedom; leave "
                "it out"
            )
        samples = max(round(design.degrees_of_freedom), 2)
        series = rng.multivariate_normal(np.zeros(len(clean)), clean, samples)
        drawn = series.T @ series / samples
        if not self.absolute:
            sd = np.sqrt(np.diagonal(drawn))
            drawn = drawn / np.outer(sd, sd)
        return design.replace(covariance=drawn)

    # Names

    def names(self, data: CovarianceData | None, neural: NeuralModel) -> dict[str, list[str]]:
        """Names of the regions."""
        nodes = [f"region {i + 1}" for i in range(neural.n_nodes)]
        if data is not None:
            nodes = list(data.region_names or nodes)
        return dict.fromkeys(("region", "to", "from"), nodes)

    def dims(self) -> dict[str, tuple[str, ...]]:
        """See `Observer.dims`."""
        return {"log_precision": (), "signal": ("pair",), "degrees_of_freedom": ()}

    def coords(self, data: CovarianceData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Names of pairs, of the regions above the diagonal, row by row."""
        names = data.region_names or ()
        upper = zip(*np.triu_indices(len(names), 1), strict=True)
        return {"pair": np.asarray([f"{names[i]}, {names[j]}" for i, j in upper])}

    def constants(self, data: CovarianceData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """``degrees_of_freedom``."""
        return {"degrees_of_freedom": np.asarray(data.degrees_of_freedom)}

    def restore(
        self, scaled: NDArray, data: CovarianceData, priors: Mapping[str, Prior]
    ) -> NDArray:
        """Entries of pairs, (..., pairs)."""
        wishart = self.likelihood_name == "wishart"
        return self.arrange(scaled / np.sqrt(2) if wishart else scaled, data)

    def arrange(self, values: NDArray, data: CovarianceData) -> NDArray:
        """From (..., rows, columns) to (..., pairs); of what the row has as a whole, (..., 1)."""
        if self.likelihood_name == "normal" or values.shape[-1] == 1:
            return values[..., 0]
        n = data.n_regions
        return values[..., 0, np.ravel_multi_index(np.triu_indices(n, 1), (n, n))]


def _wishart_constant(matrix: NDArray, freedom: float) -> float:
    """What of the log-density of a real estimate does not depend on the prediction; 0 if none."""
    n = len(matrix)
    sign, logarithm = np.linalg.slogdet(matrix)
    if freedom < n or sign <= 0:
        return 0.0
    half = freedom / 2
    return float(
        n * half * np.log(half) + (freedom - n - 1) / 2 * logarithm - multigammaln(half, n)
    )
