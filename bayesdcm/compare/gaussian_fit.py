"""Posterior and prior of a fit by variational Laplace, as closed forms take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.problem import Problem
from bayesdcm.infer.results import Fit

# Prior variances for which the jitter is small enough, and so are the jittered precisions.
USUAL_VARIANCE = (1e-3, 1e3)


class GaussianFit(NamedTuple):
    """What reduction needs of a fit by variational Laplace.

    Attributes
    ----------
    problem : Problem or None
        What was fitted; None for a fit of a group that was read without its data.
    labels : list of str
        Labels of the free parameters.
    unit : (size,)
        Parameters over this are of order one, for which SPM's regularisation is meant.
    mean, covariance, prior_mean, prior_covariance : (size,) or (size, size)
        Posterior and prior of the free parameters.
    """

    problem: Problem | None
    labels: list[str]
    unit: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    prior_mean: NDArray[np.float64]
    prior_covariance: NDArray[np.float64]


def gaussian_of(fit: Fit) -> GaussianFit:
    """Posterior and prior of a fit by variational Laplace; raises where there are none.

    Parameters
    ----------
    fit : Fit
        See `reduce`.

    Returns
    -------
    GaussianFit
        Moments in the order of ``fit.covariance``.
    """
    _check_gaussian(fit)
    prior_mean, prior_covariance = fit._prior_moments
    variance = np.diagonal(prior_covariance)
    least, most = USUAL_VARIANCE
    unit = np.where((variance >= least) & (variance <= most), 1.0, np.sqrt(variance))
    labels = list(fit.covariance.index)
    moments = (*fit.posterior.gaussian, prior_mean, prior_covariance)
    return GaussianFit(fit.problem, labels, unit, *moments)


def _check_gaussian(fit: Fit) -> None:
    if not isinstance(fit, Fit):
        raise TypeError(f"fit must be a Fit, as bayesdcm.fit returns it, got {type(fit).__name__}")
    if fit.problem is None and "_prior_moments" not in fit.__dict__:
        raise ValueError(
            "fit was read from disk, and a saved fit does not hold its priors; fit the model "
            "again, which takes as long as variational Laplace takes"
        )
    if fit.posterior.gaussian is None:
        raise ValueError(
            f"fit must have a Gaussian posterior, made with method='laplace'; this one was made "
            f"with method={fit.method!r}"
        )


def bound_problem(gaussian: GaussianFit) -> Problem:
    """What was fitted; raises where a fit was read without it.

    Parameters
    ----------
    gaussian : GaussianFit
        From `gaussian_of`.

    Returns
    -------
    Problem
        The program bound to data.

    Raises
    ------
    ValueError
        If there is none.
    """
    if gaussian.problem is None:
        raise ValueError(
            "fit was read without its model and data; give them to load_group(folder, models, "
            "datasets)"
        )
    return gaussian.problem
