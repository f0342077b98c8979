"""Surrogates of a hierarchy: polynomials for the predictions for each subject.

Given their own parameters, subjects' data do not depend on the group: each subject has polynomials
of its own, about where the group leaves it. Whatever samplers see of a hierarchy is then without
integrators; what the density itself says where they have gone corrects it (`infer.surrogate`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from bayesdcm.group.hierarchy_preparation import PreparedGroup, subject_layout
from bayesdcm.infer.density import Layout
from bayesdcm.infer.evaluation import site_values
from bayesdcm.infer.problem import ModelSource, Problem
from bayesdcm.infer.surrogate import Surrogate, has_surrogate, surrogate_densities

# Draws of the Gaussian approximation, of which subjects have their moments.
DRAWS = 1000


class SubjectSurrogates:
    """A `Surrogate` for each subject.

    Parameters
    ----------
    problem : Problem
        Of a hierarchy.
    source : ModelSource
        Of one subject.
    centre, factor : NDArray, shapes (size,) and (size, size)
        Of the Gaussian approximation, and a lower factor of its covariance.
    seed : int
        Of points.

    Attributes
    ----------
    weights : tuple or None
        For each batch of subjects, `Weights`, centres (subjects, size) and maps (subjects, size,
        size) to coordinates, stacked; None where too many predictions are not finite.
    """

    def __init__(
        self, problem: Problem, source: Any, centre: NDArray, factor: NDArray, seed: int
    ) -> None:
        self._problem = problem
        prepared = problem.prepared
        noise = np.random.default_rng(seed).normal(size=(DRAWS, len(centre)))
        vectors = self._vectors(centre + noise @ factor.T)
        self._centres = vectors.mean(1)
        covariances = np.stack([np.atleast_2d(np.cov(each.T)) for each in vectors])
        self._factors = np.linalg.cholesky(covariances)
        self._subjects: list[Surrogate] = [None] * len(vectors)
        for batch, members in zip(prepared.batches, prepared.members, strict=True):
            sites = subject_layout(source.model, batch)
            for row, i in enumerate(np.asarray(members)):
                subject = jax.tree.map(lambda leaf, row=row: leaf[row], batch)
                about = self._centres[i], self._factors[i]
                self._subjects[i] = Surrogate(source, sites, subject, *about, seed + i)

    def _vectors(self, points: NDArray) -> NDArray:
        """Flat vectors of all subjects, (subjects, points, size)."""
        return site_values(self._problem, points)["subject_parameters"].swapaxes(0, 1)

    def learn(self, points: NDArray) -> None:
        """Regress on predictions at some of these flat points, too, (points, size)."""
        for subject, vectors in zip(self._subjects, self._vectors(points), strict=True):
            subject.learn(vectors)

    @property
    def weights(self) -> tuple | None:
        """What the polynomials need, batch by batch."""
        if any(subject.weights is None for subject in self._subjects):
            return None
        unit = np.eye(self._centres.shape[1])
        maps = np.stack([solve_triangular(each, unit, lower=True) for each in self._factors])
        return tuple(
            (
                jax.tree.map(
                    lambda *leaves: jnp.asarray(np.stack(leaves)),
                    *(self._subjects[i].weights for i in members),
                ),
                jnp.asarray(self._centres[members]),
                jnp.asarray(maps[members]),
            )
            for members in map(np.asarray, self._problem.prepared.members)
        )


def find_subject_surrogates(
    problem: Problem, source: ModelSource, centre: NDArray, covariance: NDArray, seed: int
) -> SubjectSurrogates | None:
    """Surrogates about a Gaussian approximation, (size,) and (size, size), if all subjects have."""
    for batch in problem.prepared.batches:
        first = jax.tree.map(lambda leaf: leaf[0], batch)
        sites = subject_layout(source.model, batch)
        if not has_surrogate(source.bind(first), sites, jnp.zeros(sites.size)):
            return None
    factor = np.linalg.cholesky(covariance)
    surrogates = SubjectSurrogates(problem, source, np.asarray(centre), factor, seed)
    return surrogates if surrogates.weights is not None else None


def subjects_by_surrogates(
    source: ModelSource,
    sites: Layout,
    prepared: PreparedGroup,
    vectors: jax.Array,
    surrogates: tuple,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Log prior and log likelihood (subjects,) at flat vectors (subjects, size), and no values."""

    def one(given: tuple[Any, jax.Array]) -> tuple:
        (subject, (weights, centre, to_coordinates)), vector = given
        densities = surrogate_densities(source.bind(subject), sites, vector, weights)
        return *densities(vector, to_coordinates @ (vector - centre)), {}

    batches = tuple(zip(prepared.batches, surrogates, strict=True))
    return prepared._replace(batches=batches).map(one, vectors)
