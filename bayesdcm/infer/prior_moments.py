"""Mean and covariance of a program's prior, where it is Gaussian, or Laplace."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.distributions import Normal
from numpyro.primitives import Messenger

from bayesdcm.infer.block_covariance import BlockCovariance, diagonal_covariance
from bayesdcm.infer.density import Layout, Outputs, evaluate
from bayesdcm.infer.evaluation import compiled_once
from bayesdcm.infer.expected_prior import kinked
from bayesdcm.infer.problem import Problem

# How far precisions at two points may differ, relative to the prior standard deviations.
SAME = 1e-9
# Parameters up to which the curvature is worked out as a matrix.
MOST_DENSE = 2000


def prior_moments(problem: Problem) -> tuple[NDArray, NDArray | BlockCovariance]:
    """Prior mean (size,) and covariance (size, size) over the flat vector of a program.

    They are read off the slope and the curvature of the log prior, so that it does not matter how
    the program writes its prior down: as independent sites, a multivariate normal, or normals about
    each other. A prior that is not Gaussian is a ValueError.
    """
    others = [site.name for site in problem.sites.sites if not site.gaussian]
    if others:
        raise ValueError(
            f"the prior of {others[0]!r} is not normal; reduction of models, and empirical Bayes, "
            "need normal priors. Fit with priors such as (mean, variance), or fit every model with "
            "the priors that it has and use bayesdcm.compare"
        )
    return _moments(problem)


def moments_of_prior(problem: Problem) -> tuple[NDArray, NDArray]:
    """`prior_moments` where priors may be Laplace, too; they need not tell the whole prior then."""
    others = [site.name for site in problem.sites.sites if not site.plain]
    if others:
        raise ValueError(f"the prior of {others[0]!r} is neither normal nor Laplace")
    return _moments(problem)


def _moments(problem: Problem) -> tuple[NDArray, NDArray]:
    if problem.sites.size > MOST_DENSE:
        return _independent_moments(problem)
    points = np.zeros((2, problem.sites.size))
    points[1] = 1 + np.arange(problem.sites.size) % 3
    slopes, curvatures = (
        np.asarray(v) for v in _derivatives(problem.source, problem.sites, problem.prepared, points)
    )
    precision = -curvatures[0]
    scale = np.sqrt(np.abs(np.outer(np.diagonal(precision), np.diagonal(precision))))
    if not (np.abs(curvatures[1] - curvatures[0]) <= SAME * scale).all():
        raise ValueError(
            "the prior is not Gaussian: a site's standard deviation depends on another site; "
            "reduction of models needs priors that are normal together"
        )
    covariance = np.linalg.inv(precision)
    return covariance @ slopes[0], (covariance + covariance.T) / 2


def _independent_moments(problem: Problem) -> tuple[NDArray, BlockCovariance]:
    """`_moments` of many parameters, which must be independent of each other a priori."""
    size = problem.sites.size
    points = np.zeros((3, size))
    points[1] = 1.0
    points[2] = np.random.default_rng(0).uniform(0.5, 2.0, size)
    slopes = np.asarray(_slopes(problem.source, problem.sites, problem.prepared, points))
    precision = slopes[0] - slopes[1]
    if not np.allclose(slopes[2], slopes[0] - precision * points[2], rtol=1e-9, atol=0):
        raise ValueError(
            f"the prior of {size} parameters is not one of independent normal parameters, of "
            "which alone there are closed forms for so many"
        )
    return slopes[0] / precision, diagonal_covariance(1 / precision)


@compiled_once
def _slopes(source: Any, sites: Layout, prepared: Any, points: jax.Array) -> jax.Array:
    """Slopes of the log prior at flat points; the likelihood is left out."""
    return jax.vmap(_prior_slope(source, sites, prepared, points[0]))(points)


def _prior_slope(source: Any, sites: Layout, prepared: Any, point: jax.Array) -> Any:
    program = _AsNormal(source.bind(prepared))

    def log_prior(vector: jax.Array) -> tuple[jax.Array]:
        result = evaluate(program, sites, vector)
        return (result.log_prior + result.log_hyperprior,)

    return jax.grad(Outputs(log_prior, jnp.asarray(point)).select(0))


@compiled_once
def _derivatives(source: Any, sites: Layout, prepared: Any, points: jax.Array) -> tuple:
    """Slopes and curvatures of the log prior at flat points; the likelihood is left out."""
    slope = _prior_slope(source, sites, prepared, points[0])
    return jax.vmap(slope)(points), jax.vmap(jax.jacfwd(slope))(points)


class _AsNormal(Messenger):
    """A program with normal priors of the same moments in place of Laplace priors."""

    def process_message(self, message: dict[str, Any]) -> None:
        """Replace the distribution of a site."""
        if message["type"] != "sample" or message["is_observed"]:
            return
        fn = message["fn"]
        if kinked(fn) is not None:
            normal = Normal(fn.mean, jnp.sqrt(fn.variance))
            message["fn"] = normal.to_event(len(fn.event_shape))
