"""Coordinates of subjects' parameters that data and group have been taken out of.

In a hierarchy, the posterior of a subject's parameters moves and widens with the group's mean and
spread: neither the parameters themselves (which tie the spread to its own value) nor deviations
from the group in units of its spread (which bend where a subject's data are informative) suit a
sampler. Here each subject's data are summed up by a Gaussian; a subject is then described by how
far it is from the mean that this Gaussian has *together with the group's prior*, in units of the
standard deviation that they leave. These coordinates are nearly standard normal whatever the group
parameters are. The Gaussian serves the coordinates only: densities are corrected by the Jacobian,
and are exact.

References
----------
.. [1] Papaspiliopoulos, Roberts and Sköld (2007), Statistical Science 22:59.
       https://doi.org/10.1214/088342307000000014
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp
from numpy.typing import NDArray
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import Transform

from bayesdcm.infer.threads import map_rows


class SubjectGaussian(NamedTuple):
    """What each subject's data say, as a Gaussian over its flat vector.

    `information` (subjects, selected, selected): precision of the parameters that the group
    shares, all others integrated out, their own prior left out; `weighted` (subjects, selected):
    information times mean. Of the others given the selected: `slope` (subjects, others, selected)
    and `offset` (subjects, others) of the mean, and `spread` (subjects, others, others), the upper
    triangular root of the covariance.
    """

    information: jax.Array
    weighted: jax.Array
    slope: jax.Array
    offset: jax.Array
    spread: jax.Array


def subject_gaussian(
    mean: NDArray,
    covariance: NDArray,
    selected: NDArray,
    prior_mean: NDArray,
    prior_variance: NDArray,
) -> SubjectGaussian:
    """Take the prior of the selected parameters out of Gaussian posteriors of subjects.

    Posteriors over the flat vector, (subjects, size) and (subjects, size, size); places of the
    selected (selected,), and their independent normal prior, (selected,) or (subjects, selected).
    """
    others = np.setdiff1d(np.arange(mean.shape[1]), selected)
    precision = np.linalg.inv(covariance)
    weighted = np.einsum("sij,sj->si", precision, mean)
    precision[:, selected, selected] -= 1 / prior_variance
    weighted[:, selected] -= prior_mean / prior_variance
    within = precision[:, others][:, :, others]
    across = precision[:, others][:, :, selected]
    slope = -np.linalg.solve(within, across)
    offset = np.linalg.solve(within, weighted[:, others, None])[..., 0]
    information = precision[:, selected][:, :, selected] + across.mT @ slope
    # Rounding, or a curvature that data lower, must not leave a negative precision.
    values, vectors = np.linalg.eigh((information + information.mT) / 2)
    information = (vectors * np.maximum(values, 0.0)[:, None]) @ vectors.mT
    return SubjectGaussian(
        information,
        weighted[:, selected] - np.einsum("sop,so->sp", across, offset),
        slope,
        offset,
        np.linalg.inv(np.linalg.cholesky(within)).mT,
    )


class GroupPrior(NamedTuple):
    """Prior of subjects' selected parameters: normal, or a mixture of normals.

    Means (subjects, clusters, selected), precisions between subjects (clusters, selected) and
    logarithms of the clusters' weights (clusters,).
    """

    mean: jax.Array
    precision: jax.Array
    log_weight: jax.Array

    def log_densities(self, selected: jax.Array) -> jax.Array:
        """Log of weight times density, (subjects, clusters), of (subjects, selected)."""
        deviation = selected[:, None] - self.mean
        density = jnp.log(self.precision / (2 * np.pi)) - self.precision * deviation**2
        return self.log_weight + density.sum(-1) / 2

    def sample(self, key: jax.Array) -> jax.Array:
        """One draw of the selected parameters of all subjects, (subjects, selected)."""
        n_subjects, n_clusters, n_selected = self.mean.shape
        which, noise = jax.random.split(key)
        member = jax.random.categorical(which, self.log_weight, shape=(n_subjects,))
        chosen = jax.nn.one_hot(member, n_clusters)
        deviation = jax.random.normal(noise, (n_subjects, n_selected))
        sd = chosen @ (self.precision**-0.5)
        return jnp.einsum("sk,skp->sp", chosen, self.mean) + sd * deviation


class Conditional(NamedTuple):
    """Selected parameters of subjects given the group and the Gaussian of their data.

    Log-density (subjects,) of each subject's data under the group, up to a constant; means
    (subjects, selected), triangular roots of covariances (subjects, selected, selected) and
    probabilities of clusters (subjects, clusters).
    """

    log_evidence: jax.Array
    centre: jax.Array
    root: jax.Array
    membership: jax.Array


def conditional(gaussian: SubjectGaussian, group: GroupPrior) -> Conditional:
    """Combine what data say with the group's prior; of a mixture, the moments of all clusters."""
    n_clusters = len(group.precision)

    def one(given: tuple) -> tuple:
        return _of_subject(*given, group.precision)

    rows = (gaussian.information, gaussian.weighted, group.mean)
    evidence, centre, root = map_rows(one, rows)
    evidence = evidence + group.log_weight
    membership = jax.nn.softmax(evidence, axis=-1)
    if n_clusters == 1:
        return Conditional(evidence[:, 0], centre[:, 0], root[:, 0], membership)
    mean = jnp.einsum("sk,skp->sp", membership, centre)
    apart = centre - mean[:, None]
    square = root @ root.mT + apart[..., :, None] * apart[..., None, :]
    covariance = jnp.einsum("sk,skpq->spq", membership, square)
    factor = map_rows(jnp.linalg.cholesky, covariance)
    return Conditional(logsumexp(evidence, axis=-1), mean, factor, membership)


def _of_subject(
    information: jax.Array, weighted: jax.Array, mean: jax.Array, precision: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log-evidence, mean and root of the covariance of one subject, in each of the clusters."""
    unit = jnp.eye(len(information))
    factor = jnp.linalg.cholesky(information + precision[:, None] * unit)
    known = (weighted + precision * mean)[..., None]
    # One call for the inverse and the mean.
    right = jnp.concatenate([jnp.broadcast_to(unit, factor.shape), known], axis=-1)
    solved = solve_triangular(factor, right, lower=True)
    root, white = solved[..., :-1].mT, solved[..., -1:]
    volume = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    quadratic = (white**2).sum((-2, -1)) - (precision * mean**2).sum(-1)
    evidence = (quadratic + jnp.log(precision).sum(-1)) / 2 - volume
    return evidence, (root @ white)[..., 0], root


class SubjectReals(constraints.Constraint):
    """Real vectors that samplers see in coordinates of their own: a support.

    The selected, then the others, go to `places` (size,) of the flat vector.
    """

    event_dim = 1

    def __init__(self, gaussian: SubjectGaussian, given: Conditional, places: jax.Array) -> None:
        self.gaussian = gaussian
        self.given = given
        self.places = places

    def __call__(self, x: jax.Array) -> jax.Array:
        """Whether vectors are finite, by subject."""
        return jnp.isfinite(x).all(-1)

    def feasible_like(self, prototype: jax.Array) -> jax.Array:
        """A point of the support."""
        return jnp.zeros_like(prototype)

    def eq(self, other: object, static: bool = False) -> bool:
        """Whether it is this very support."""
        del static
        return self is other

    def tree_flatten(self) -> tuple:
        """Arrays, their names, and what is no array."""
        arrays = (self.gaussian, self.given, self.places)
        return arrays, (("gaussian", "given", "places"), {})


class SubjectTransform(Transform):
    """From nearly standard normal coordinates to subjects' flat vectors."""

    domain = constraints.real_vector

    def __init__(self, support: SubjectReals) -> None:
        self.support = support

    @property
    def codomain(self) -> constraints.Constraint:
        """The support."""
        return self.support

    def __call__(self, x: jax.Array) -> jax.Array:
        """Flat vectors, (subjects, size), of coordinates of that shape."""
        gaussian, given = self.support.gaussian, self.support.given
        n = given.centre.shape[-1]
        selected = given.centre + _times(given.root, x[..., :n])
        others = gaussian.offset + _times(gaussian.slope, selected)
        others = others + _times(gaussian.spread, x[..., n:])
        return jnp.concatenate([selected, others], -1)[..., jnp.argsort(self.support.places)]

    def _inverse(self, y: jax.Array) -> jax.Array:
        gaussian, given = self.support.gaussian, self.support.given
        n = given.centre.shape[-1]
        selected, others = jnp.split(y[..., self.support.places], [n], -1)
        # Of one cluster it is an inverse, upper triangular, of several a Cholesky factor.
        lower = given.membership.shape[-1] > 1
        z = solve_triangular(given.root, (selected - given.centre)[..., None], lower=lower)[..., 0]
        if not others.shape[-1]:
            return z
        rest = others - gaussian.offset - _times(gaussian.slope, selected)
        rest = solve_triangular(gaussian.spread, rest[..., None])[..., 0]
        return jnp.concatenate([z, rest], -1)

    def log_abs_det_jacobian(
        self, x: jax.Array, y: jax.Array, intermediates: Any = None
    ) -> jax.Array:
        """Log-determinants, (subjects,)."""
        del x, y, intermediates
        roots = (self.support.given.root, self.support.gaussian.spread)
        return sum(jnp.log(jnp.diagonal(r, axis1=-2, axis2=-1)).sum(-1) for r in roots)

    def tree_flatten(self) -> tuple:
        """The support."""
        return (self.support,), (("support",), {})


def _times(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    return jnp.einsum("sij,sj->si", matrices, vectors)


biject_to.register(SubjectReals)(SubjectTransform)


class SubjectParameters(dist.Distribution):
    """Flat vectors of all subjects: the group's prior on some entries, the model's on the rest.

    `rest` is the log prior density (subjects,) of the other entries of flat vectors (subjects,
    size); `draw` gives flat vectors from the model's own prior, of a key.
    """

    pytree_data_fields = ("group", "support_")
    pytree_aux_fields = ("rest", "draw")

    def __init__(
        self,
        group: GroupPrior,
        support: SubjectReals,
        rest: Callable[[jax.Array], jax.Array],
        draw: Callable[[jax.Array], jax.Array],
    ) -> None:
        self.group = group
        self.support_ = support
        self.rest = rest
        self.draw = draw
        shape = (group.mean.shape[0],), (len(support.places),)
        super().__init__(*shape, validate_args=False)

    @property
    def support(self) -> SubjectReals:
        """The coordinates that samplers use."""
        return self.support_

    def _selected(self) -> jax.Array:
        return self.support_.places[: self.group.mean.shape[-1]]

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-densities, (subjects,)."""
        densities = self.group.log_densities(value[..., self._selected()])
        return logsumexp(densities, axis=-1) + self.rest(value)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws, (..., subjects, size)."""
        if sample_shape:
            keys = jax.random.split(key, sample_shape[0])
            return jax.vmap(lambda k: self.sample(k, sample_shape[1:]))(keys)
        first, second = jax.random.split(key)
        return self.draw(first).at[:, self._selected()].set(self.group.sample(second))
