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
from bayesdcm.infer.problem import Problem, normal_prior

# How far the slope at a point may be from where it is if it is affine, relative to its terms.
SAME = 1e-9
# Squares of means, relative to standard deviations, up to which slopes about zero have all digits.
NEAR = 1e3
# Parameters up to which the precision is worked out as a matrix.
MOST_DENSE = 2000


def prior_moments(problem: Problem) -> tuple[NDArray, NDArray | BlockCovariance]:
    """Prior mean (size,) and covariance (size, size) over the flat vector of a program.

    They are read off the slopes of the log prior, so that it does not matter how
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


def _moments(problem: Problem) -> tuple[NDArray, NDArray | BlockCovariance]:
    """Of a Gaussian prior the slope is affine: its differences are the precision."""
    size = problem.sites.size
    dense = size <= MOST_DENSE
    normal = normal_prior(problem.source, problem.sites, problem.prepared)
    if normal is not None:
        mean, variance = normal[0], normal[1] ** 2
        return mean, np.diag(variance) if dense else diagonal_covariance(variance)
    steps = np.zeros((2 + (size if dense else 1), size))
    steps[1:-1] = np.eye(size) if dense else 1.0
    steps[-1] = np.random.default_rng(0).uniform(0.5, 2.0, size)
    mean, covariance = np.zeros(size), None
    # Differences of slopes lose the digits in which slopes are alike: few where slopes are small.
    for about_mean in (False, True):
        points = mean + steps
        slopes = np.asarray(_slopes(problem.source, problem.sites, problem.prepared, points))
        differences = slopes[0] - slopes[1:-1]
        if not (about_mean or _affine(slopes, differences, steps[-1], dense)):
            raise ValueError(
                "the prior is not Gaussian: a site's standard deviation depends on another site; "
                "reduction of models needs priors that are normal together"
                if dense
                else f"the prior of {size} parameters is not one of independent normal parameters, "
                "of which alone there are closed forms for so many"
            )
        covariance = np.linalg.inv(differences) if dense else 1 / differences[0]
        mean = mean + (covariance @ slopes[0] if dense else covariance * slopes[0])
        variance = np.diagonal(covariance) if dense else covariance
        if (mean**2).max(initial=0) <= NEAR * np.sqrt(np.abs(variance).min(initial=1)):
            break
    return mean, (covariance + covariance.T) / 2 if dense else diagonal_covariance(covariance)


def _affine(slopes: NDArray, differences: NDArray, step: NDArray, dense: bool) -> bool:
    """Whether differences (steps, size) explain the last of the slopes (points, size)."""
    change = differences.T @ step if dense else differences[0] * step
    size = np.abs(differences).T @ step if dense else np.abs(change)
    within = SAME * (np.abs(slopes[0]) + size)
    return bool((np.abs(slopes[0] - change - slopes[-1]) <= within).all())


@compiled_once
def _slopes(source: Any, sites: Layout, prepared: Any, points: jax.Array) -> jax.Array:
    """Slopes of the log prior at flat points; the likelihood is left out."""
    program = _AsNormal(source.bind(prepared))

    def log_prior(vector: jax.Array) -> tuple[jax.Array]:
        result = evaluate(program, sites, vector)
        return (result.log_prior + result.log_hyperprior,)

    return jax.vmap(jax.grad(Outputs(log_prior, points[0]).select(0)))(points)


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
