"""Parametric empirical Bayes: effects on the parameters of all subjects, from their posteriors.

Parameters of subject i have a normal prior about a linear model of covariates, with a covariance
between subjects that is scaled by unknown log-precisions. Reduction of the subjects' models gives
the evidence of any such prior in closed form, so that effects and log-precisions are found by
variational Laplace without the data. The model is that of SPM (``spm_dcm_peb``): Friston et al.
(2016), NeuroImage 128:413, https://doi.org/10.1016/j.neuroimage.2015.11.015; Zeidman et al.
(2019), NeuroImage 200:12, https://doi.org/10.1016/j.neuroimage.2019.06.032.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.compare.reduction import JITTER, TOLERANCE, Reduced
from bayesdcm.group.design import covariate_sizes
from bayesdcm.group.other_priors import inverse, prior_basis, under_priors
from bayesdcm.group.second_level import SecondLevel, Subjects, ascend
from bayesdcm.infer.method import one_of
from bayesdcm.infer.threads import single_threaded_linear_algebra

# Prior variance of effects over that of subjects' parameters, and the latter over the expected
# variance between subjects; both as in SPM.
ALPHA = 1.0
BETA = 16.0
MAX_ITERATIONS = 64
# What has a log-precision between subjects of its own, and where iterations end.
BETWEEN, STOPS = ("single", "fields", "all"), ("optimum", "spm")
# What posteriors of subjects gain of the precision of their prior, as in SPM.
SHRINKAGE = 1 / 16
# Least precision between subjects, relative to the expected one.
FLOOR = float(np.exp(-8))


class EmpiricalBayes(NamedTuple):
    """Effects on the parameters of a group; (covariate, parameter) runs covariate by covariate.

    Attributes
    ----------
    mean, covariance, prior_mean, prior_covariance : ndarray
        Posterior and prior of the effects; means are (parameters, covariates), covariances
        (covariates x parameters, covariates x parameters).
    log_precision, log_precision_covariance : (components,), (components, components)
        Of the precision between subjects, relative to the expected one.
    between_covariance : (parameters, parameters)
        Covariance of parameters between subjects that covariates do not explain.
    log_evidence, complexity : ()
        Free energy of the group's model, and its part that effects and log-precisions cost, nats.
    subject_mean, subject_precision : (subjects, parameters), (parameters, parameters)
        Prior mean of subjects' parameters under the group's model, and precision of that prior; 0
        in directions without prior variance.
    n_iterations, converged : ()
        Iterations run, and whether there was nothing left to gain.
    trace : (iterations,)
        Free energy evaluated in each iteration.
    """

    mean: NDArray
    covariance: NDArray
    prior_mean: NDArray
    prior_covariance: NDArray
    log_precision: NDArray
    log_precision_covariance: NDArray
    between_covariance: NDArray
    log_evidence: float
    complexity: float
    subject_mean: NDArray
    subject_precision: NDArray
    n_iterations: int
    converged: bool
    trace: NDArray


def likelihoods(
    mean: NDArray,
    covariance: NDArray,
    prior_mean: NDArray,
    prior_covariance: NDArray,
    design: NDArray,
    tolerance: float = TOLERANCE,
) -> Subjects:
    """What the scheme needs of subjects, with as many directions for all of them.

    From means (subjects, parameters) and covariances (subjects, parameters, parameters) of their
    posteriors and priors, and what effects add up to prior means, (subjects, parameters, effects).
    """
    bases = [prior_basis(c, tolerance) for c in prior_covariance]
    rank = max(basis.shape[1] for basis in bases)
    parts_of_subjects = []
    moments = zip(mean, covariance, prior_mean, prior_covariance, bases, strict=True)
    for q, C, p, Cp, basis in moments:
        n = basis.shape[1]
        directions, counts = np.zeros((len(q), rank)), np.arange(rank) < n
        precision, information = np.zeros((rank, rank)), np.zeros(rank)
        directions[:, :n] = basis
        q, p = q @ basis, p @ basis
        Q, P = inverse(basis.T @ np.stack([C, Cp]) @ basis, JITTER)
        precision[:n, :n], information[:n] = Q - P, Q @ q - P @ p
        determinants = np.linalg.slogdet(np.stack([Q, inverse(P, JITTER)]))[1].sum()
        constant = (determinants - q @ Q @ q + p @ P @ p) / 2
        parts_of_subjects.append((directions, counts, precision, information, constant))
    return Subjects(*(np.stack(parts) for parts in zip(*parts_of_subjects, strict=True)), design)


@single_threaded_linear_algebra()
def empirical_bayes(
    mean: ArrayLike,
    covariance: ArrayLike,
    prior_mean: ArrayLike,
    prior_covariance: ArrayLike,
    log_evidence: ArrayLike,
    design: ArrayLike,
    components: Sequence[ArrayLike] | None = None,
    *,
    group_prior: tuple[ArrayLike, ArrayLike] | None = None,
    alpha: float = ALPHA,
    beta: float = BETA,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    stop: str = "optimum",
) -> EmpiricalBayes:
    """Effects of covariates on parameters of a group, from Gaussian posteriors of its subjects.

    Parameters
    ----------
    mean, covariance : array_like
        Posteriors of subjects over the parameters of interest, shapes (subjects, parameters) and
        (subjects, parameters, parameters).
    prior_mean, prior_covariance : array_like
        The priors that they were inferred with, same shapes.
    log_evidence : array_like
        Log-evidences of the subjects' models, nats, shape (subjects,).
    design : array_like
        Covariates, shape (subjects, covariates); the first a constant.
    components : sequence of array_like, optional
        Sets of parameters, as indices, each of which has a log-precision of its own between
        subjects. None: one for all.
    group_prior : tuple of array_like, optional
        Mean (parameters,) and covariance (parameters, parameters) of the parameters from which
        the priors of the second level are made, where the subjects' own are narrower since they
        were inferred under a group's model. By default the average of the subjects' priors.
    alpha : float
        Prior variance of the parameters over that of the effects; 1 as in SPM.
    beta : float
        Prior variance of the parameters over the variance expected between subjects; 16 as in SPM.
    tolerance : float
        As in `bayesdcm.compare.reduce_gaussian`.
    max_iterations : int
        Iterations at most; 64 as in SPM.
    stop : {"optimum", "spm"}
        ``"optimum"``: end at the most probable effects and log-precisions, whatever the units of
        covariates. ``"spm"``: SPM's steps, which depend on the units, end where the free energy
        falls or stops to change, and count the cost of effects from 0 and not from their prior
        mean.

    Returns
    -------
    EmpiricalBayes
        Effects, variability between subjects, and free energy.

    Raises
    ------
    ValueError
        If `stop` is unknown.

    References
    ----------
    .. [1] Friston et al. (2016), NeuroImage 128:413.
           https://doi.org/10.1016/j.neuroimage.2015.11.015

    Examples
    --------
    >>> one = np.ones((3, 1, 1))
    >>> effects = empirical_bayes(
    ...     [[0.4], [0.5], [0.6]], 0.01 * one, np.zeros((3, 1)), one, np.zeros(3), np.ones((3, 1))
    ... )
    >>> round(float(effects.mean[0, 0]), 1)
    0.5
    """
    mean, covariance, prior_mean, prior_covariance, log_evidence, design = (
        np.asarray(a, float)
        for a in (mean, covariance, prior_mean, prior_covariance, log_evidence, design)
    )
    units = covariate_units(design, stop)
    design = design / units
    if group_prior is None:
        centre, spread = prior_mean.mean(0), prior_covariance.mean(0)
    else:
        centre, spread = (np.asarray(a, float) for a in group_prior)
    basis = prior_basis(spread, tolerance)
    (n_subjects, n_covariates), rank = design.shape, basis.shape[1]

    def project(matrices: NDArray) -> NDArray:
        return basis.T @ matrices @ basis

    C, Cp = project(covariance), project(prior_covariance)
    shrinking = Cp if group_prior is None else project(spread)
    of_subjects = np.einsum("sc,ij->sicj", design, np.eye(rank))
    subjects = likelihoods(
        mean @ basis,
        inverse(inverse(C) + SHRINKAGE * inverse(shrinking)),
        prior_mean @ basis,
        Cp,
        of_subjects.reshape(n_subjects, rank, n_covariates * rank),
        tolerance,
    )
    subjects = subjects._replace(constant=subjects.constant + log_evidence)
    expected = inverse(project(spread / beta))
    scale = np.diag(n_subjects / (design**2).sum(0))
    first = np.eye(n_covariates)[0]
    mean_effects = np.kron(first * units, centre @ basis)
    model = SecondLevel(
        mean_effects,
        inverse(np.kron(scale, project(spread / alpha))),
        FLOOR * expected,
        _components(components, spread / beta, expected, basis),
        np.zeros_like(mean_effects) if stop == "spm" else mean_effects,
    )
    ascent = ascend(model, subjects, max_iterations, stop)
    last = ascent.last
    back = np.kron(np.diag(1 / units), basis)
    effects, precisions = last.curvature
    b, g = ascent.point
    return EmpiricalBayes(
        basis @ b.reshape(n_covariates, rank).T / units,
        back @ inverse(-effects) @ back.T,
        np.outer(centre, first),
        np.kron(scale / units**2, spread / alpha),
        g,
        inverse(-precisions),
        basis @ last.between @ basis.T,
        float(last.free_energy),
        float(last.complexity),
        last.subject_mean @ basis.T,
        basis @ last.precision @ basis.T,
        int(ascent.iteration),
        bool(ascent.done),
        ascent.trace[: int(ascent.iteration)],
    )


def covariate_units(design: NDArray, stop: str) -> NDArray:
    """Root mean square of each covariate, for results not to depend on its unit; 1 in SPM."""
    one_of(*STOPS)("stop", stop)
    return np.ones(design.shape[1]) if stop == "spm" else covariate_sizes(design)


def _components(
    chosen: Sequence[ArrayLike] | None, expected: NDArray, precision: NDArray, basis: NDArray
) -> NDArray:
    """Precision components between subjects: one, or one for each set of parameters."""
    if chosen is None:
        return precision[None]
    masks = np.zeros((len(chosen), len(expected)))
    for mask, indices in zip(masks, chosen, strict=True):
        mask[np.asarray(indices, int)] = 1.0
    return basis.T @ (masks[:, :, None] * inverse(expected) * masks[:, None]) @ basis


@single_threaded_linear_algebra()
def subject_under_group(
    mean: ArrayLike,
    covariance: ArrayLike,
    prior_mean: ArrayLike,
    prior_covariance: ArrayLike,
    index: ArrayLike,
    expected: ArrayLike,
    precision: ArrayLike,
    tolerance: float = TOLERANCE,
) -> tuple[Reduced, NDArray, NDArray]:
    """Posterior of a subject, all parameters (size,), where the group's model is the prior of some.

    Those at `index` have the prior mean and precision that `EmpiricalBayes` has as `subject_mean`
    and `subject_precision`. Returned with mean and covariance of the prior of all.
    """
    full = tuple(np.asarray(a, float) for a in (mean, covariance, prior_mean, prior_covariance))
    index = np.asarray(index, int)
    whole, centre = inverse(full[3]), full[2].copy()
    whole[np.ix_(index, index)] = precision
    centre[index] = expected
    prior = inverse(whole)
    return under_priors(full, centre, prior, tolerance), centre, prior
