"""The Laplace approximation about any point: Gauss-Newton curvature of a whole run, and prior's."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout, evaluate
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.quadratic import without_prediction
from bayesdcm.infer.traced_programs import traced_once
from bayesdcm.observe.gaussian import GaussianObservation

# Directions that are followed at once.
AT_ONCE = 16


class Curvature(NamedTuple):
    """What a Laplace approximation about a point says.

    Attributes
    ----------
    covariance : (size, size)
        Of parameters and log-precisions, between which there is none.
    gain : float
        Nats that a Gauss-Newton step from the point promises: near 0 at the maximum.
    sensitivity : (size,)
        Root of the curvature of the likelihood, in prior standard deviations.
    """

    covariance: NDArray
    gain: float
    sensitivity: NDArray

    @property
    def log_volume(self) -> float:
        """By what the log-evidence exceeds the log joint density of the point, nats."""
        size = len(self.covariance)
        return float(np.linalg.slogdet(self.covariance)[1] + size * np.log(2 * np.pi)) / 2


@traced_once(2)
def _derivatives(source: Any, sites: Layout, prepared: Any, point: jax.Array) -> tuple:
    program, n = source.bind(prepared), sites.n_parameters
    parameters, h = point[:n], point[n:]

    def residual(p: jax.Array) -> jax.Array:
        result = evaluate(program, sites, jnp.concatenate([p, h]))
        parts = [fn.whitened_residual(value) for fn, value in result.observations.values()]
        return jnp.concatenate([jnp.ravel(part) for part in parts])

    def along(direction: jax.Array) -> jax.Array:
        return jax.jvp(residual, (parameters,), (direction,))[1]

    jacobian = jax.lax.map(along, jnp.eye(n), batch_size=min(n, AT_ONCE))

    def prior(p: jax.Array) -> jax.Array:
        return evaluate(program, sites, jnp.concatenate([p, h])).log_prior

    def joint_of_precisions(h: jax.Array) -> jax.Array:
        at = jnp.concatenate([parameters, h])
        result = evaluate(program, sites, at)
        total = result.log_hyperprior
        for (fn, value), prediction in zip(result.observations.values(), predictions, strict=True):
            bare = without_prediction(fn)
            held = GaussianObservation(
                prediction, bare.log_precision, bare.components, bare.confounds,
                bare.confound_precision,
            )  # fmt: skip
            total += held.log_prob(value)
        return total

    predictions = [fn.prediction for fn, _ in evaluate(program, sites, point).observations.values()]
    slope = jax.grad(prior)(parameters) - jacobian @ residual(parameters)
    curvature = -jax.jacfwd(jax.grad(prior))(parameters)
    of_precisions = -jax.jacfwd(jax.grad(joint_of_precisions))(h)
    return jacobian @ jacobian.T, slope, curvature, of_precisions


def curvature_about(problem: Problem, point: NDArray, prior_sd: NDArray) -> Curvature:
    """The Laplace approximation about a flat point.

    The likelihood's curvature is Gauss-Newton's, of derivatives through the whole run. The prior's
    is exact where it is normal; a prior of another family counts as a normal one of its variance
    (`prior_sd`, (size,)), since a kink has no curvature.
    """
    sites, n = problem.sites, problem.sites.n_parameters
    data, slope, prior, of_precisions = map(
        np.asarray, _derivatives(problem.source, sites, problem.prepared, np.asarray(point))
    )
    prior = np.array(prior)
    for site in sites.sites:
        places = sites.places[site.name]
        if not (site.gaussian or site.precision):
            prior[places], prior[:, places] = 0.0, 0.0
            prior[places, places] = prior_sd[places] ** -2.0
    covariance = np.zeros((sites.size, sites.size))
    covariance[:n, :n] = _inverse(data + prior)
    covariance[n:, n:] = _inverse(of_precisions)
    sensitivity = np.full(sites.size, np.nan)
    sensitivity[:n] = np.sqrt(np.maximum(np.diagonal(data), 0)) * prior_sd[:n]
    return Curvature(covariance, float(slope @ covariance[:n, :n] @ slope / 2), sensitivity)


def _inverse(matrix: NDArray) -> NDArray:
    if not matrix.size:
        return matrix
    # In units in which the diagonal is 1: parameters differ in size by orders of magnitude.
    unit = 1 / np.sqrt(np.diagonal(matrix))
    inverse = np.linalg.inv(matrix * unit * unit[:, None]) * unit * unit[:, None]
    return (inverse + inverse.T) / 2
