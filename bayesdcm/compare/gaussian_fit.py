"""Posterior and prior of a fit by variational Laplace, as closed forms take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.block_covariance import BlockCovariance, variances
from bayesdcm.infer.results import Fit

# Prior variances for which the jitter is small enough, and so are the jittered precisions.
USUAL_VARIANCE = (1e-3, 1e3)


# Mean and covariance of a posterior, and of its prior.
Moments = tuple[NDArray, NDArray, NDArray, NDArray]


class GaussianFit(NamedTuple):
    """What reduction needs of a fit by variational Laplace, in the order of ``fit.covariance``.

    Means (size,) and covariances (size, size) of posterior and prior; covariances of many
    parameters are in blocks. Parameters over `unit` (size,) are of order one, for which SPM's
    regularisation is meant.
    """

    labels: list[str]
    unit: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64] | BlockCovariance
    prior_mean: NDArray[np.float64]
    prior_covariance: NDArray[np.float64] | BlockCovariance

    @property
    def scaled(self) -> Moments:
        """The moments of parameters over their unit."""
        return in_units(self.unit, *self[2:])


def in_units(
    unit: NDArray,
    mean: NDArray,
    covariance: NDArray,
    prior_mean: NDArray,
    prior_covariance: NDArray,
) -> Moments:
    """Moments of posterior and prior of parameters over their unit."""
    square = np.outer(unit, unit)
    posterior, prior = (
        each.dense() if isinstance(each, BlockCovariance) else each
        for each in (covariance, prior_covariance)
    )
    return mean / unit, posterior / square, prior_mean / unit, prior / square


def gaussian_of(fit: Fit) -> GaussianFit:
    """Posterior and prior of a fit by variational Laplace; raises where there are none."""
    if not isinstance(fit, Fit):
        raise TypeError(f"fit must be a Fit, as bayesdcm.fit returns it, got {type(fit).__name__}")
    if fit.posterior.gaussian is None:
        raise ValueError(
            f"fit must have a Gaussian posterior, made with method='laplace'; this one was made "
            f"with method={fit.method!r}"
        )
    prior_mean, prior_covariance = fit._prior_moments
    variance = variances(prior_covariance)
    least, most = USUAL_VARIANCE
    unit = np.where((variance >= least) & (variance <= most), 1.0, np.sqrt(variance))
    moments = (*fit.posterior.gaussian, prior_mean, prior_covariance)
    return GaussianFit(fit.labels, unit, *moments)
