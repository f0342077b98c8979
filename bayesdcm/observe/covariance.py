"""Observer of covariances between regions: functional connectivity, and its likelihoods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.special import multigammaln

from bayesdcm.data.covariance import CovarianceData
from bayesdcm.integrate.hermitian import to_columns
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.observe.base import Observer, noise_prior
from bayesdcm.observe.gaussian import GaussianObservation
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
        degrees of freedom of the data. ``"normal"``: each pair's entry has a normal distribution
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
            return WishartObservation(prediction, *noise)
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
