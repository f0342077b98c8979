"""Where samplers of a hierarchy start: subjects by variational Laplace, then the group."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.distributions import biject_to, constraints
from scipy.cluster.vq import kmeans2

from bayesdcm.group.design import covariate_sizes
from bayesdcm.infer.density import Layout, evaluate, log_joint, prior_centre
from bayesdcm.infer.empirical_prior import PriorSource, program_order
from bayesdcm.infer.inversion import best_optimum, laplace_settings
from bayesdcm.infer.many_inversions import invert_all
from bayesdcm.infer.threads import single_threaded_linear_algebra

ITERATIONS = 128
NEWTON_STEPS = 50
NEWTON_TOLERANCE = 1e-8
DIFFERENCE = 1e-4
# Labellings that a mixture is started from; the best counts.
LABELLINGS = 10


class SubjectPriors(NamedTuple):
    """Normal priors (subjects, size) that subjects are inverted under, and where to start.

    Of the flat vector; only sites with selected parameters take them.
    """

    mean: NDArray
    sd: NDArray
    start: NDArray


class SubjectPosteriors(NamedTuple):
    """Gaussian posteriors of subjects, (subjects, size) and (subjects, size, size).

    Over the flat vector; free energies (subjects,) in nats, -inf where no prediction is finite.
    """

    mean: NDArray
    covariance: NDArray
    free_energy: NDArray

    def best(self, other: SubjectPosteriors) -> SubjectPosteriors:
        """Of each subject the one with more free energy, under the same priors."""
        return where(other.free_energy > self.free_energy, other, self)


def where(which: NDArray[np.bool_], taken: Any, otherwise: Any) -> Any:
    """Arrays with subjects first, taken for those to whom `which` applies."""

    def chosen(one: NDArray, two: NDArray) -> NDArray:
        return np.where(which.reshape(-1, *(1,) * (one.ndim - 1)), one, two)

    return jax.tree.map(chosen, taken, otherwise)


@partial(jax.jit, static_argnums=(0, 1))
def _centres(source: Any, sites: Layout, batch: Any) -> jax.Array:
    return jax.vmap(lambda subject: prior_centre(source.bind(subject), sites))(batch)


def prior_centres(
    source: Any, sites: Layout, batches: Sequence[Any], members: Sequence[NDArray[np.intp]]
) -> NDArray:
    """Prior means (subjects, size) of all subjects; arguments as those of `invert_subjects`."""
    centres = [np.asarray(_centres(source, sites, batch)) for batch in batches]
    return np.concatenate(centres)[np.argsort(np.concatenate(members))]


@single_threaded_linear_algebra()
def invert_subjects(
    source: Any,
    sites: Layout,
    names: tuple[str, ...],
    batches: Sequence[Any],
    members: Sequence[NDArray[np.intp]],
    priors: SubjectPriors,
) -> SubjectPosteriors:
    """Gaussian posteriors of all subjects by variational Laplace, batch by batch.

    Batches are stacked data, `members` the subjects that each holds; `names` the sites whose prior
    is replaced.
    """
    order = program_order(source, jax.tree.map(lambda leaf: leaf[0], batches[0]))
    order = [name for name in order if name in names]
    replaced = np.concatenate([sites.places[name] for name in order])
    prior_source = PriorSource(source, tuple((name, len(sites.places[name])) for name in order))
    static = prior_source, sites, laplace_settings(sites, ITERATIONS, "exact")
    shape = np.shape(priors.start)
    mean, covariance = np.zeros(shape), np.zeros((*shape, shape[1]))
    free_energy = np.full(shape[0], -np.inf)
    for batch, subjects in zip(batches, members, strict=True):
        prepared = [
            (
                jax.tree.map(lambda leaf, i=i: leaf[i], batch),
                priors.mean[subject, replaced],
                np.diag(priors.sd[subject, replaced]),
            )
            for i, subject in enumerate(subjects)
        ]
        starts = np.asarray(priors.start)[subjects, None]
        for i, optima in invert_all(static, prepared, starts):
            if isinstance(optima, Exception):
                raise optima
            if optima.failed[0] or not np.isfinite(optima.free_energy[0]):
                continue
            best = best_optimum(optima)
            mean[subjects[i]], covariance[subjects[i]] = best["mean"], best["covariance"]
            free_energy[subjects[i]] = best["result"].free_energy
    return SubjectPosteriors(mean, covariance, free_energy)


@partial(jax.jit, static_argnums=(0, 1))
def _slope(model: Any, sites: Layout, prepared: Any, vector: jax.Array) -> tuple:
    """Log-density of the collapsed program and its gradient."""
    return jax.value_and_grad(lambda v: log_joint(partial(model.collapsed, prepared), sites, v))(
        vector
    )


def _ascend(model: Any, sites: Layout, prepared: Any, start: NDArray, size: NDArray) -> tuple:
    """Newton's method with steps that raise the density: value, place, precision.

    In units of `size`, since differences and the least curvature are of entries of order one.
    """
    vector = start / size

    def at(v: NDArray) -> tuple[float, NDArray]:
        value, slope = _slope(model, sites, prepared, jnp.asarray(v * size))
        return float(value), np.asarray(slope) * size

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
            there = at(vector + step)
            if there[0] >= value:
                vector, (value, slope) = vector + step, there
                break
            step = step / 2
        else:
            break
    return value, vector * size, precision() / np.outer(size, size)


def _sizes(sites: Layout, prepared: Any) -> NDArray:
    """Size of the entries of the flat vector: effects are as small as their covariate is large."""
    sizes, places = np.ones(sites.size), sites.places.get("effects", [])
    n_selected = len(prepared.prior_mean)
    # With clusters, effects are those of covariates beside the constant.
    first = prepared.design.shape[1] - len(places) // n_selected
    units = covariate_sizes(np.asarray(prepared.design))[first:]
    sizes[places] = 1 / np.repeat(units, n_selected)
    return sizes


def _definite(matrix: NDArray) -> NDArray:
    """The matrix with negative curvature turned positive."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
    return (vectors * values) @ vectors.T


@single_threaded_linear_algebra()
def find_start(model: Any, sites: Layout, prepared: Any) -> tuple[NDArray, NDArray]:
    """Mean (size,) and covariance (size, size) of the group parameters, subjects integrated out.

    Unconstrained, over `sites` of the collapsed program of the hierarchy.
    """
    centre = np.asarray(prior_centre(partial(model.collapsed, prepared), sites))
    starts = [centre]
    if model.clusters is not None:
        starts = [
            _labelled(model.clusters, sites, prepared, centre, seed) for seed in range(LABELLINGS)
        ]
    size = _sizes(sites, prepared)
    optima = [_ascend(model, sites, prepared, start, size) for start in starts]
    _, mean, precision = max(optima, key=lambda result: result[0])
    covariance = np.linalg.inv(precision)
    return mean, (covariance + covariance.T) / 2


@partial(jax.jit, static_argnums=(0, 1))
def under_group(
    model: Any, sites: Layout, prepared: Any, vector: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance of subjects' selected parameters given the group; mean given data as well.

    Each (subjects, selected), the last approximately. The vector holds group parameters,
    unconstrained, over `sites` of the collapsed program.
    """
    values = evaluate(partial(model.collapsed, prepared), sites, vector).values
    return values["expected_mean"], values["expected_variance"], values["conditional_mean"]


def _labelled(n_clusters: int, sites: Layout, prepared: Any, centre: NDArray, seed: int) -> NDArray:
    """The centre with means and weights of clusters of the subjects, the largest first."""
    gaussian, prior = prepared.gaussian, np.asarray(prepared.prior_variance)
    precision = np.asarray(gaussian.information) + np.diag(1 / prior)
    weighted = np.asarray(gaussian.weighted) + np.asarray(prepared.prior_mean) / prior
    estimates = np.linalg.solve(precision, weighted[..., None])[..., 0]
    # Where subjects are alike, clusters stay empty.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        means, labels = kmeans2(estimates / np.sqrt(prior), n_clusters, minit="++", rng=seed)
    counts = np.bincount(labels, minlength=n_clusters)
    order = np.argsort(-counts, kind="stable")
    weights = (counts[order] + 1) / (counts + 1).sum()
    start, places = centre.copy(), sites.places
    start[places["cluster_means"]] = (means * np.sqrt(prior))[order].ravel()
    start[places["weights"]] = biject_to(constraints.simplex).inv(jnp.asarray(weights))
    return start
