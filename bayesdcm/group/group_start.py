"""Where samplers of a hierarchy start: subjects by variational Laplace, then the group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.distributions import biject_to, constraints
from scipy.cluster.vq import kmeans2

from bayesdcm.infer.conditional import conditional_laplace
from bayesdcm.infer.density import Layout, log_joint, prior_centre
from bayesdcm.infer.laplace import LaplaceResult, variational_laplace
from bayesdcm.infer.threads import single_threaded_linear_algebra
from bayesdcm.integrate.step_derivative import many_directions

ITERATIONS = 128
NEWTON_STEPS = 50
NEWTON_TOLERANCE = 1e-8
DIFFERENCE = 1e-4
# Labellings that a mixture is started from; the best counts.
LABELLINGS = 10


@partial(jax.jit, static_argnums=(0, 1))
def _invert(source: Any, sites: Layout, batch: Any) -> LaplaceResult:
    staged = 0 < sites.n_observer < sites.n_parameters
    invert = conditional_laplace if staged else variational_laplace

    def one(subject: Any) -> LaplaceResult:
        program = source.bind(subject)
        with many_directions():
            return invert(program, sites, prior_centre(program, sites), ITERATIONS, "exact")

    return jax.vmap(one)(batch)


@single_threaded_linear_algebra()
def invert_subjects(
    source: Any,
    sites: Layout,
    batches: Sequence[Any],
    members: Sequence[NDArray[np.intp]],
    names: Sequence[str],
) -> list[tuple[NDArray, NDArray]]:
    """Gaussian posteriors of all subjects by variational Laplace, batch by batch.

    Parameters
    ----------
    source : ModelSource
        The subjects' model.
    sites : Layout
        Of its program.
    batches : sequence of pytree
        Stacked data.
    members : sequence of ndarray
        Which subjects each batch holds.
    names : sequence of str
        Names of all subjects.

    Returns
    -------
    list of tuple of ndarray
        Mean (size,) and covariance (size, size) over the flat vector, by subject.

    Raises
    ------
    ValueError
        If observations are not Gaussian, or a subject's prediction is not finite.
    """
    if sites.foreign:
        raise ValueError(
            f"a hierarchy needs Gaussian observations, but {sites.foreign[0]!r} is observed with "
            "another distribution; use bayesdcm.observe.gaussian"
        )
    found: dict[int, tuple[NDArray, NDArray]] = {}
    for batch, who in zip(batches, members, strict=True):
        result = jax.tree.map(np.asarray, _invert(source, sites, batch))
        for i, subject in enumerate(who):
            if result.failed[i] or not np.isfinite(result.free_energy[i]):
                raise ValueError(
                    f"the prediction for {names[subject]} is not finite at the prior mean; check "
                    "the data, and that the prior mean gives a stable model"
                )
            n = result.mean.shape[1]
            covariance = np.zeros((sites.size,) * 2)
            covariance[:n, :n] = result.covariance[i]
            covariance[n:, n:] = result.log_precision_covariance[i]
            mean = np.concatenate([result.mean[i], result.log_precision[i]])
            found[int(subject)] = mean, (covariance + covariance.T) / 2
    return [found[i] for i in range(len(names))]


@partial(jax.jit, static_argnums=(0, 1))
def _slope(model: Any, sites: Layout, prepared: Any, vector: jax.Array) -> tuple:
    """Log-density of the collapsed program and its gradient."""
    return jax.value_and_grad(lambda v: log_joint(partial(model.collapsed, prepared), sites, v))(
        vector
    )


def _ascend(model: Any, sites: Layout, prepared: Any, vector: NDArray) -> tuple:
    """Newton's method with steps that raise the density: value, place, precision."""

    def at(v: NDArray) -> tuple[float, NDArray]:
        value, slope = _slope(model, sites, prepared, jnp.asarray(v))
        return float(value), np.asarray(slope)

    def precision() -> NDArray:
        # Differences of exact slopes: compiling second derivatives takes longer than all of this.
        steps = DIFFERENCE * np.eye(len(vector))
        rows = [(at(vector + h)[1] - at(vector - h)[1]) / (2 * DIFFERENCE) for h in steps]
        return _definite(-np.array(rows))

    value, slope = at(vector)
    for _ in range(NEWTON_STEPS):
        step = np.linalg.solve(precision(), slope)
        if slope @ step < NEWTON_TOLERANCE:
            break
        for _ in range(20):
            found = at(vector + step)
            if found[0] >= value:
                vector, (value, slope) = vector + step, found
                break
            step = step / 2
        else:
            break
    return value, vector, precision()


def _definite(matrix: NDArray) -> NDArray:
    """The matrix with negative curvature turned positive."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
    return (vectors * values) @ vectors.T


@single_threaded_linear_algebra()
def find_start(model: Any, sites: Layout, prepared: Any) -> tuple[NDArray, NDArray]:
    """Gaussian approximation of the group parameters' posterior, subjects integrated out.

    Parameters
    ----------
    model : Hierarchy
        The hierarchy.
    sites : Layout
        Sites of its collapsed program.
    prepared : PreparedGroup
        Its data.

    Returns
    -------
    tuple of ndarray
        Mean (size,) and covariance (size, size), unconstrained.
    """
    centre = np.asarray(prior_centre(partial(model.collapsed, prepared), sites))
    starts = [centre]
    if model.clusters is not None:
        starts = [
            _labelled(model.clusters, sites, prepared, centre, seed) for seed in range(LABELLINGS)
        ]
    found = [_ascend(model, sites, prepared, start) for start in starts]
    _, mean, precision = max(found, key=lambda result: result[0])
    covariance = np.linalg.inv(precision)
    return mean, (covariance + covariance.T) / 2


def _labelled(n_clusters: int, sites: Layout, prepared: Any, centre: NDArray, seed: int) -> NDArray:
    """The centre with means and weights of clusters of the subjects, the largest first."""
    gaussian, prior = prepared.gaussian, np.asarray(prepared.prior_variance)
    precision = np.asarray(gaussian.information) + np.diag(1 / prior)
    weighted = np.asarray(gaussian.weighted) + np.asarray(prepared.prior_mean) / prior
    estimates = np.linalg.solve(precision, weighted[..., None])[..., 0]
    means, labels = kmeans2(estimates / np.sqrt(prior), n_clusters, minit="++", rng=seed)
    counts = np.bincount(labels, minlength=n_clusters)
    order = np.argsort(-counts, kind="stable")
    weights = (counts[order] + 1) / (counts + 1).sum()
    parts = sites.unflatten(jnp.asarray(centre))
    parts["cluster_means"] = jnp.asarray((means * np.sqrt(prior))[order])
    parts["weights"] = biject_to(constraints.simplex).inv(jnp.asarray(weights))
    return np.concatenate([np.ravel(parts[site.name]) for site in sites.sites])
