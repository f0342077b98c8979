"""From the subjects of a group to what the program of a hierarchy takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.group.group_start import (
    SubjectPosteriors,
    SubjectPriors,
    find_start,
    invert_subjects,
    prior_centres,
    under_group,
    where,
)
from bayesdcm.group.hierarchy_inputs import components_of, in_batches, selected_prior, subjects_of
from bayesdcm.group.subject_coordinates import SubjectGaussian, subject_gaussian
from bayesdcm.infer.density import Layout, layout
from bayesdcm.infer.problem import ModelSource, _cached_layout
from bayesdcm.infer.ridges import scaled_by_node
from bayesdcm.infer.search import sign_rounds
from bayesdcm.infer.threads import map_rows

# Sites of the hierarchy itself.
GROUP_SITES = (
    *("effects", "cluster_means", "weights", "membership"),
    *("between_log_precision", "between_ratio", "between_sd"),
    *("subject_parameters", "subject_likelihood"),
)
# Passes at most over subjects that find a better optimum once the group is known, and by how much
# (nats).
PASSES = 4
GAIN = 1.0


class PreparedGroup(NamedTuple):
    """What the program needs of a group, as arrays.

    Prepared data of subjects that have arrays of the same shape, stacked in `batches`, which hold
    the `members` (n,) each; `order` (subjects,) has the place of each subject in them, one after
    the other. The `design` is (subjects, covariates). `places` (size,) tell where the selected,
    then all other parameters stand in a subject's flat vector; of the selected, the model's own
    prior (selected,), and the `component` of the precision between subjects, (selected,
    components), 0 or 1. `gaussian` is what each subject's data say, approximately; it serves the
    coordinates.
    """

    batches: tuple
    members: tuple
    order: jax.Array
    design: jax.Array
    places: jax.Array
    prior_mean: jax.Array
    prior_variance: jax.Array
    component: jax.Array
    gaussian: SubjectGaussian

    def map(self, function: Callable[[tuple], Any], rows: jax.Array) -> Any:
        """`function` of the data and the row of every subject; results have subjects first."""
        parts = [
            map_rows(function, (batch, rows[members]))
            for batch, members in zip(self.batches, self.members, strict=True)
        ]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[self.order], *parts)


def subject_layout(model: Any, batch: Any) -> Layout:
    """Sites of one subject's program, from the shapes of a batch of subjects."""
    leaves, tree = jax.tree.flatten(batch)
    shapes = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
    return _cached_layout(ModelSource(model), shapes, tree)


def prepare_group(
    hierarchy: Any, data: Any, coordinates: SubjectGaussian | None = None
) -> PreparedGroup:
    """What the program needs of a group: see `Hierarchy.prepare`."""
    model = hierarchy.model
    subjects = subjects_of(model, data)
    design = hierarchy.design_of(subjects)
    batches, members = in_batches([subject.prepared for subject in subjects])
    sites = subject_layout(model, batches[0])
    _check_sites(sites)
    source = ModelSource(model)
    labels = [label for site in sites.sites for label in subjects[0].labels[site.name]]
    selected, mean, variance = selected_prior(
        model, hierarchy.parameters, source.bind(subjects[0].prepared), sites, labels
    )
    prepared = PreparedGroup(
        tuple(batches),
        tuple(members),
        np.argsort(np.concatenate(members)),
        design,
        np.concatenate([selected, np.setdiff1d(np.arange(sites.size), selected)]),
        mean[selected],
        variance[selected],
        components_of(hierarchy.between, [labels[i] for i in selected]),
        coordinates,
    )
    if coordinates is not None:
        return jax.tree.map(jnp.asarray, prepared)
    count = (len(subjects), 1)
    priors = SubjectPriors(
        np.tile(mean, count),
        np.tile(np.sqrt(variance), count),
        prior_centres(source, sites, batches, members),
    )
    names = tuple(name for name, at in sites.places.items() if np.isin(at, selected).any())
    invert = partial(invert_subjects, source, sites, names, batches, members)
    starts = priors
    if all(subject.posterior is not None for subject in subjects):
        starts = priors._replace(start=np.stack([s.posterior[0] for s in subjects]))
    posterior = invert(starts)
    for subject, energy in zip(subjects, posterior.free_energy, strict=True):
        if not np.isfinite(energy):
            raise ValueError(
                f"the prediction for {subject.name} is not finite at the prior mean; check the "
                "data, and that the prior mean gives a stable model"
            )
    if getattr(model, "mirrored", False):
        posterior = _with_signs(scaled_by_node(model, sites), priors, posterior, invert)
    posterior = _searched(priors, posterior, design, invert)
    moments = posterior.mean, posterior.covariance
    gaussian = subject_gaussian(*moments, selected, mean[selected], variance[selected])
    prepared = jax.tree.map(jnp.asarray, prepared._replace(gaussian=gaussian))
    for _ in range(PASSES):
        prepared, posterior, moved = _refined(hierarchy, prepared, priors, posterior, invert)
        if not moved:
            break
    return prepared


def _check_sites(sites: Layout) -> None:
    taken = [site.name for site in sites.sites if site.name in GROUP_SITES]
    if taken:
        raise ValueError(
            f"the program's site {taken[0]!r} has a name that the hierarchy needs; rename it"
        )
    if sites.foreign:
        raise ValueError(
            f"a hierarchy needs Gaussian observations, but {sites.foreign[0]!r} is observed with "
            "another distribution; use bayesdcm.observe.gaussian"
        )


def _with_signs(
    nodes: list[NDArray],
    priors: SubjectPriors,
    posterior: SubjectPosteriors,
    invert: Callable[[SubjectPriors], SubjectPosteriors],
) -> SubjectPosteriors:
    """The same, where other signs of nodes relative to each other are better, see `search`."""
    nodes, rounds = sign_rounds(nodes)
    for flips in rounds:
        here = priors.start.copy()
        for places in nodes:
            here[:, places] = posterior.mean[:, places]
        best = posterior
        for signs in flips:
            for start in (posterior.mean.copy(), here.copy()):
                for places, sign in zip(nodes, signs, strict=True):
                    start[:, places] *= sign
                best = best.best(invert(priors._replace(start=start)))
        posterior = best
    return posterior


def _searched(
    priors: SubjectPriors,
    posterior: SubjectPosteriors,
    design: NDArray,
    invert: Callable[[SubjectPriors], SubjectPosteriors],
) -> SubjectPosteriors:
    """The same, where subjects that others lead to a better optimum have taken it.

    They start again from their neighbours in the list, and from the trend over the design of the
    half of the subjects that are fitted best: poor optima must not draw it to themselves.
    """
    half = max(len(design) // 2, design.shape[1] + 1)
    for _ in range(PASSES):
        good = np.argsort(-posterior.free_energy)[:half]
        effects = np.linalg.lstsq(design[good], posterior.mean[good])[0]
        starts = [design @ effects, *(np.roll(posterior.mean, by, axis=0) for by in (1, -1))]
        best = posterior
        for start in starts:
            best = best.best(invert(priors._replace(start=start)))
        moved = best.free_energy > posterior.free_energy + GAIN
        posterior = best
        if not moved.any():
            break
    return posterior


def _refined(
    hierarchy: Any,
    prepared: PreparedGroup,
    priors: SubjectPriors,
    posterior: SubjectPosteriors,
    invert: Callable[[SubjectPriors], SubjectPosteriors],
) -> tuple[PreparedGroup, SubjectPosteriors, bool]:
    """The same with what data say near where the group, not the model's prior, puts subjects.

    Whoever is stuck in a poor optimum gets a second chance, from where the others are. The last
    value tells whether anybody took it.
    """
    sites = layout(partial(hierarchy.collapsed, prepared))
    vector, _ = find_start(hierarchy, sites, prepared)
    given_group = under_group(hierarchy, sites, prepared, jnp.asarray(vector))
    expected, variance, centre = map(np.asarray, given_group)
    selected, others = np.split(np.asarray(prepared.places), [expected.shape[1]])
    mean, sd = priors.mean.copy(), priors.sd.copy()
    mean[:, selected], sd[:, selected] = expected, np.sqrt(variance)
    typical = np.tile(np.median(posterior.mean, axis=0), (len(mean), 1))
    typical[:, selected] = expected
    # Variational Laplace begins with short steps and may stop among them: from where a Gaussian
    # likelihood would have its optimum, there is little left to do.
    start = posterior.mean.copy()
    start[:, selected] = centre
    start[:, others] = prepared.gaussian.offset + np.einsum(
        "sop,sp->so", prepared.gaussian.slope, centre
    )
    near = invert(SubjectPriors(mean, sd, start))
    best = near.best(invert(SubjectPriors(mean, sd, typical)))
    # Where both fail, the first approximation serves.
    usable = np.isfinite(best.free_energy)
    covariance = np.where(usable[:, None, None], best.covariance, np.eye(best.mean.shape[1]))
    second = subject_gaussian(best.mean, covariance, selected, expected, variance)
    gaussian = jax.tree.map(jnp.asarray, where(usable, second, prepared.gaussian))
    moved = bool((best.free_energy > near.free_energy + GAIN).any())
    return prepared._replace(gaussian=gaussian), best, moved
