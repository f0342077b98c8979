"""All subjects in one program: group effects, spread between subjects, subjects' parameters.

The program of one subject is that of a model as it stands. The hierarchy replaces the prior of
selected parameters by a normal distribution about the group's mean (or a mixture of them), with
priors on group parameters that are those of parametric empirical Bayes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpy.typing import NDArray

from bayesdcm.group.empirical_bayes import BETWEEN
from bayesdcm.group.group_start import find_start
from bayesdcm.group.hierarchy_inputs import ProgramModel, data_model, data_sets, design_table
from bayesdcm.group.hierarchy_names import GroupNames
from bayesdcm.group.hierarchy_preparation import PreparedGroup, prepare_group, subject_layout
from bayesdcm.group.hierarchy_surrogate import (
    SubjectSurrogates,
    find_subject_surrogates,
    subjects_by_surrogates,
)
from bayesdcm.group.members import aligned_datasets
from bayesdcm.group.subject_coordinates import (
    Conditional,
    GroupPrior,
    SubjectGaussian,
    SubjectParameters,
    SubjectReals,
    conditional,
)
from bayesdcm.infer.density import Layout, evaluate, layout, log_joint
from bayesdcm.infer.evaluation import _prior_draw
from bayesdcm.infer.method import one_of
from bayesdcm.infer.problem import FREE, ModelSource, Problem, make_problem

# Standard deviation of log-precisions between subjects, as in SPM.
LOG_PRECISION_SD = 0.25


@dataclass(frozen=True, eq=False)
class Hierarchy(GroupNames):
    """Model of a group: subjects' parameters vary about group effects; all are inferred at once.

    For subject i with covariates x_i, the selected parameters are normal,
    ``theta_i ~ N(x_i effects, diag(between_sd**2))``; all others keep the model's own prior. Data
    are a sequence (or mapping by name) of what the model takes for one subject, or of fits of it
    by variational Laplace: ``bayesdcm.fit(Hierarchy(model, design), datasets, method="nuts")``.

    Parameters
    ----------
    model : model or callable
        Model of one subject, such as `bayesdcm.TaskDCM`, or a NumPyro program that is called with
        one subject's data (arrays).
    design : DataFrame, mapping, array_like, optional
        Covariates, shape (subjects, covariates), the first a constant 1. None: a mean only.
    parameters : sequence of str
        What varies about the group: names such as ``"A"``, or labels such as ``"A[V5, V1]"``.
        Their prior in the model must be normal and independent.
    between : {"single", "fields", "all"}
        One between-subject precision for all parameters, one for each name, or one each.
    clusters : int, optional
        Number of clusters, each with a mean and a between-subject precision of its own, that
        subjects belong to with unknown ``weights``; covariates beside the constant act in all
        alike. Memberships are summed out of the likelihood. None: no clusters.
    between_prior : {"peb", "half_normal"}
        ``"peb"``: log-precisions ``g ~ N(0, 1/16)`` about the variance ``prior variance / beta``,
        as SPM has it. ``"half_normal"``: the standard deviation, relative to that of the model's
        prior, is half-normal with scale ``2 / sqrt(beta)``, which lets data decide.
    beta : float
        Prior variance of a parameter over its variance between subjects; 16 as in SPM.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, or the design is not finite or lacks a constant.

    Warns
    -----
    UserWarning
        When fitted, if subjects' regions, inputs, channels or conditions come in different orders:
        they are joined by name, in the order of the first subject.

    Notes
    -----
    Group effects have the prior of parametric empirical Bayes: mean that of the model's prior for
    the constant and 0 for other covariates; variance the model's, times the number of subjects
    over the covariate's sum of squares. With clusters, labels are exchangeable: chains start from
    one labelling; `relabel` undoes switches.

    References
    ----------
    .. [1] Friston et al. (2016), NeuroImage 128:413.
           https://doi.org/10.1016/j.neuroimage.2015.11.015
    .. [2] Raman, Deserno, Schlagenhauf and Stephan (2016), J Neurosci Methods 269:6.
           https://doi.org/10.1016/j.jneumeth.2016.04.022

    Examples
    --------
    >>> import bayesdcm
    >>> Hierarchy(bayesdcm.TaskDCM(A=[[1, 0], [1, 1]], C=[[1], [0]]), parameters=["A"])
    Hierarchy(TaskDCM(2 regions, ...); effects of mean on A; between='single')
    """

    model: Any
    design: Any = None
    parameters: Sequence[str] = ("A", "B")
    between: str = "single"
    clusters: int | None = None
    between_prior: str = "peb"
    beta: float = 16.0
    covariates: tuple[str, ...] = field(default=("mean",), init=False)

    def __post_init__(self) -> None:
        model = self.model
        if not (hasattr(model, "sample") and hasattr(model, "prepare")):
            model = ProgramModel(model)
        parameters = (self.parameters,) if isinstance(self.parameters, str) else self.parameters
        parameters = tuple(parameters)
        if not parameters or not all(isinstance(name, str) for name in parameters):
            raise TypeError(f"parameters must be names, got {self.parameters!r}")
        one_of(*BETWEEN)("between", self.between)
        one_of("peb", "half_normal")("between_prior", self.between_prior)
        whole = isinstance(self.clusters, int | np.integer) and not isinstance(self.clusters, bool)
        if self.clusters is not None and not (whole and self.clusters >= 2):
            raise ValueError(
                f"clusters must be an integer of at least 2, or None, got {self.clusters!r}"
            )
        if not (np.isscalar(self.beta) and np.isfinite(self.beta) and self.beta > 0):
            raise ValueError(f"beta must be a positive number, got {self.beta!r}")
        design = design_table(self.design)
        covariates = ("mean",) if design is None else tuple(design.columns)
        derived = {"model": model, "parameters": parameters, "design": design}
        for name, value in (derived | {"covariates": covariates}).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        clusters = "" if self.clusters is None else f"; {self.clusters} clusters"
        return (
            f"Hierarchy({self.model!r}; effects of {', '.join(self.covariates)} on "
            f"{', '.join(self.parameters)}; between={self.between!r}{clusters})"
        )

    def _key(self) -> tuple:
        design = self.design
        if design is not None:
            design = (tuple(design.index), design.to_numpy().tobytes())
        options = (self.between, self.clusters, self.between_prior, float(self.beta))
        return (self.model, design, self.parameters, self.covariates, *options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hierarchy) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @cached_property
    def _source(self) -> ModelSource:
        return ModelSource(self.model)

    def for_data(self, data: Any) -> Hierarchy:
        """The hierarchy, with priors of labelled entries where the subjects' names put them.

        Parameters
        ----------
        data : sequence or mapping
            The subjects' data sets, or their fits.
        """
        model = data_model(self.model, data)
        return self if model is self.model else replace(self, model=model)

    # The program

    def prepare(self, data: Any, coordinates: SubjectGaussian | None = None) -> PreparedGroup:
        """Arrays that the program needs of a group.

        Subjects that have not been fitted are fitted by variational Laplace, all at once, for the
        coordinates of the program; its density does not depend on the result.

        Parameters
        ----------
        data : sequence or mapping
            The subjects' data sets, or their fits by variational Laplace.
        coordinates : SubjectGaussian, optional
            Of a group that was prepared before; then no subject is fitted.

        Returns
        -------
        PreparedGroup
            Stacked data, design, priors and Gaussian approximations.

        Raises
        ------
        ValueError
            If the design has another number of rows, no parameter is selected, there are more
            clusters than subjects, or a subject's prediction is not finite.
        """
        if self.clusters is not None and len(data_sets(data)) < self.clusters:
            raise ValueError(
                f"clusters is {self.clusters}, but there are {len(data_sets(data))} subjects; "
                "expected no more clusters than subjects"
            )
        return prepare_group(self, data, coordinates)

    def essentials(
        self, data: Any, prepared: PreparedGroup
    ) -> tuple[dict[str, Any], SubjectGaussian]:
        """What a file needs for `prepare` to give the same again: data sets, and coordinates.

        Parameters
        ----------
        data : sequence or mapping
            As for `prepare`.
        prepared : PreparedGroup
            From `prepare`.
        """
        return data_sets(data), prepared.gaussian

    def member_problems(self, data: Any) -> dict[str, Problem]:
        """The model of each subject bound to the subject's data, by name.

        Parameters
        ----------
        data : sequence or mapping
            As for `prepare`.
        """
        model = self.model.program if isinstance(self.model, ProgramModel) else self.model
        aligned = aligned_datasets([self.model], data_sets(data), warn=False)
        return {name: make_problem(model, item, shared=True) for name, item in aligned.items()}

    def program(self, data: Any) -> Callable[[], None]:
        """The generative model of a group as a NumPyro program without arguments.

        For ``numpyro.infer``, `Predictive` and handlers.

        Parameters
        ----------
        data : sequence or mapping
            As for `prepare`.
        """
        model = self.for_data(data)
        return partial(model.sample, model.prepare(data))

    def sample(self, prepared: PreparedGroup, surrogates: Any = None) -> None:
        """The program itself.

        Parameters
        ----------
        prepared : PreparedGroup
            From `prepare`; may be traced.
        surrogates : tuple, optional
            Polynomials that take the place of predictions, see `SubjectSurrogates`.
        """
        group = self._group(prepared)
        given = conditional(prepared.gaussian, group)
        sites = subject_layout(self.model, prepared.batches[0])
        support = SubjectReals(prepared.gaussian, given, prepared.places)
        chosen = prepared.places[: prepared.prior_mean.shape[0]]
        ungrouped_prior = dist.Normal(prepared.prior_mean, jnp.sqrt(prepared.prior_variance))

        def rest(vectors: jax.Array) -> jax.Array:
            prior = self._subjects(prepared, sites, vectors, surrogates)[0]
            return prior - ungrouped_prior.log_prob(vectors[:, chosen]).sum(-1)

        vectors = numpyro.sample(
            "subject_parameters",
            SubjectParameters(group, support, rest, partial(self._draw, prepared, sites)),
        )
        _, likelihood, values = self._subjects(prepared, sites, vectors, surrogates)
        for name, value in values.items():
            numpyro.deterministic(name, value)
        if self.clusters is not None:
            densities = group.log_densities(vectors[:, chosen])
            numpyro.deterministic("membership", jax.nn.softmax(densities, axis=-1))
        numpyro.factor("subject_likelihood", likelihood)

    def _group(self, prepared: PreparedGroup) -> GroupPrior:
        """Sample the group parameters."""
        design = prepared.design
        n_clusters, n_components = self.clusters or 1, prepared.component.shape[1]
        balance = len(design) / (design**2).sum(0)
        sd = jnp.sqrt(balance[:, None] * prepared.prior_variance)
        centre = jnp.zeros_like(sd).at[0].set(prepared.prior_mean)
        if self.clusters is None:
            effects = numpyro.sample("effects", dist.Normal(centre, sd).to_event(2))
            mean = (design @ effects)[:, None]
            log_weight = jnp.zeros(1)
        else:
            means = dist.Normal(*(jnp.tile(row, (n_clusters, 1)) for row in (centre[0], sd[0])))
            mean = design[:, :1, None] * numpyro.sample("cluster_means", means.to_event(2))
            if design.shape[1] > 1:
                effects = numpyro.sample("effects", dist.Normal(centre[1:], sd[1:]).to_event(2))
                mean = mean + (design[:, 1:] @ effects)[:, None]
            weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(n_clusters)))
            log_weight = jnp.log(weights)
        shape = (n_components,) if self.clusters is None else (n_clusters, n_components)
        if self.between_prior == "peb":
            precision = dist.Normal(jnp.zeros(shape), LOG_PRECISION_SD).to_event(len(shape))
            g = numpyro.sample("between_log_precision", precision)
            ratio = jnp.exp(-g / 2) / np.sqrt(self.beta)
        else:
            width = jnp.full(shape, 2 / np.sqrt(self.beta))
            ratio = numpyro.sample("between_ratio", dist.HalfNormal(width).to_event(len(shape)))
        spread = (ratio @ prepared.component.T) * jnp.sqrt(prepared.prior_variance)
        numpyro.deterministic("between_sd", spread)
        return GroupPrior(mean, jnp.atleast_2d(spread) ** -2, log_weight)

    def _subjects(
        self, prepared: PreparedGroup, sites: Layout, vectors: jax.Array, surrogates: Any
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """Log prior of the model itself, log likelihood, values of sites; subjects first."""
        if surrogates is not None:
            return subjects_by_surrogates(self._source, sites, prepared, vectors, surrogates)

        def one(given: tuple[Any, jax.Array]) -> tuple:
            subject, vector = given
            density = evaluate(self._source.bind(subject), sites, vector)
            values = {n: v for n, v in density.values.items() if not n.endswith(FREE)}
            log_prior = density.log_prior + density.log_hyperprior
            return log_prior, density.log_likelihood, values

        return prepared.map(one, vectors)

    def _draw(self, prepared: PreparedGroup, sites: Layout, key: jax.Array) -> jax.Array:
        """A draw of all subjects' flat vectors from the model's own prior."""

        def one(given: tuple[Any, jax.Array]) -> jax.Array:
            subject, key = given
            keys = jax.random.split(key, len(sites.sites))
            return _prior_draw(self._source.bind(subject), sites, keys)

        return prepared.map(one, jax.random.split(key, len(prepared.design)))

    # Where samplers start

    def collapsed(self, prepared: PreparedGroup) -> Conditional:
        """The program of the group parameters only, subjects integrated out approximately.

        Parameters
        ----------
        prepared : PreparedGroup
            From `prepare`.
        """
        group = self._group(prepared)
        given = conditional(prepared.gaussian, group)
        numpyro.factor("subjects", given.log_evidence)
        member = given.membership[..., None]
        mean = (member * group.mean).sum(1)
        variance = 1 / group.precision + (group.mean - mean[:, None]) ** 2
        numpyro.deterministic("conditional_mean", given.centre)
        numpyro.deterministic("expected_mean", mean)
        numpyro.deterministic("expected_variance", (member * variance).sum(1))
        return given

    def find_surrogate(
        self, problem: Problem, centre: NDArray, covariance: NDArray, seed: int
    ) -> SubjectSurrogates | None:
        """Polynomials for the predictions for every subject, if all have them.

        Parameters
        ----------
        problem : Problem
            The hierarchy bound to data.
        centre, covariance : NDArray
            As from `gaussian_start`.
        seed : int
            Of the points that predictions are regressed on.
        """
        return find_subject_surrogates(problem, self._source, centre, covariance, seed)

    def surrogate_log_joint(
        self, sites: Layout, prepared: PreparedGroup, weights: tuple
    ) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The log joint density with polynomials for predictions, of a flat vector.

        Parameters
        ----------
        sites : Layout
            Of the hierarchy.
        prepared : PreparedGroup
            From `prepare`.
        weights : tuple
            Of `find_surrogate`.
        """
        program = partial(self.sample, prepared, weights)
        return lambda vector, _: log_joint(program, sites, vector)

    def gaussian_start(self, prepared: PreparedGroup) -> tuple[NDArray, NDArray]:
        """Gaussian approximation of the posterior of the flat vector, to start samplers from.

        Mean (size,) and covariance (size, size): those of the group parameters by Laplace's method
        with subjects integrated out, and a standard normal for subjects.

        Parameters
        ----------
        prepared : PreparedGroup
            From `prepare`.
        """
        sites = layout(partial(self.collapsed, prepared))
        mean, covariance = find_start(self, sites, prepared)
        n, n_subjects = len(mean), prepared.design.shape[0] * prepared.places.shape[0]
        whole = np.eye(n + n_subjects)
        whole[:n, :n] = covariance
        return np.concatenate([mean, np.zeros(n_subjects)]), whole
