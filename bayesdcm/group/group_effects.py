"""The result of parametric empirical Bayes: effects on a group, and its subjects under them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.compare.gaussian_fit import in_units
from bayesdcm.compare.reduction import Reduced, ReducedFit
from bayesdcm.compare.search import EXHAUSTIVE
from bayesdcm.group.effects_comparison import EffectsComparison, compare_effects
from bayesdcm.group.effects_reduction import EffectsSearch, reduce_effects, search_effects
from bayesdcm.group.empirical_bayes import (
    ALPHA,
    BETA,
    MAX_ITERATIONS,
    EmpiricalBayes,
    covariate_units,
    subject_under_group,
)
from bayesdcm.group.first_level import FirstLevel, names_of
from bayesdcm.group.gaussian_effects import GaussianEffects, ReducedEffects
from bayesdcm.group.members import of_subjects
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.results import Fit
from bayesdcm.models.facts import Citation

# What to cite for parametric empirical Bayes.
CITATIONS: tuple[Citation, ...] = (
    (
        "Friston KJ, Litvak V, Oswal A, Razi A, Stephan KE, van Wijk BCM, Ziegler G, Zeidman P "
        "(2016). Bayesian model reduction and empirical Bayes for group (DCM) studies. NeuroImage "
        "128:413-431.",
        "https://doi.org/10.1016/j.neuroimage.2015.11.015",
    ),
    (
        "Zeidman P et al. (2019). A guide to group effective connectivity analysis, part 2: second "
        "level analysis with PEB. NeuroImage 200:12-25.",
        "https://doi.org/10.1016/j.neuroimage.2019.06.032",
    ),
)


class Settings(NamedTuple):
    """How `peb` was called."""

    between: str = "single"
    alpha: float = ALPHA
    beta: float = BETA
    max_iterations: int = MAX_ITERATIONS
    stop: str = "optimum"


@dataclass(frozen=True, eq=False)
class GroupEffects(GaussianEffects):
    """Effects of covariates on the parameters of a group; made by `bayesdcm.group.peb`.

    Parameters
    ----------
    covariates, parameters, log_evidence, centre, spread
        As those of `GaussianEffects`.
    prior_centre, prior_spread : ndarray
        Prior of the effects, as `centre` and `spread`.
    fields : tuple of str
        Site of each parameter, or the field that it was given to.
    unit : ndarray
        Parameters over this are of order one, shape (parameters,).
    design : pandas.DataFrame
        Covariates of the subjects.
    first : tuple of FirstLevel
        Posteriors of the subjects that the effects were found from.
    found : EmpiricalBayes
        The same as arrays, in units of `unit`.
    group_prior : tuple of ndarray
        Mean and covariance of the parameters from which the prior of the effects was made.
    settings : Settings
        How `peb` was called.
    """

    prior_centre: NDArray = field(repr=False)
    prior_spread: NDArray = field(repr=False)
    fields: tuple[str, ...] = field(repr=False)
    unit: NDArray = field(repr=False)
    design: pd.DataFrame = field(repr=False)
    first: tuple[FirstLevel, ...] = field(repr=False)
    found: EmpiricalBayes = field(repr=False)
    group_prior: tuple[NDArray, NDArray] = field(repr=False)
    settings: Settings = field(repr=False)

    citations: ClassVar[tuple[Citation, ...]] = CITATIONS

    def __repr__(self) -> str:
        state = "converged" if self.found.converged else "not converged"
        return (
            f"GroupEffects({len(self.first)} subjects, {len(self.parameters)} parameters, "
            f"covariates {', '.join(self.covariates)}; {state}, log evidence "
            f"{self.log_evidence:.2f})"
        )

    # Variability between subjects

    @property
    def between_covariance(self) -> pd.DataFrame:
        """Covariance of parameters between subjects that no covariate explains, labelled."""
        index = pd.Index(self.parameters, name="parameter")
        matrix = self.found.between_covariance * np.outer(self.unit, self.unit)
        return pd.DataFrame(matrix, index, index)

    @property
    def log_precision(self) -> pd.DataFrame:
        """Log-precisions between subjects, relative to the expected one: ``mean`` and ``sd``."""
        names = {
            "single": ("all parameters",),
            "fields": tuple(dict.fromkeys(self.fields)),
            "all": self.parameters,
        }[self.settings.between]
        sd = np.sqrt(np.diagonal(self.found.log_precision_covariance))
        table = {"mean": self.found.log_precision, "sd": sd}
        return pd.DataFrame(table, pd.Index(names, name="component"))

    @property
    def status(self) -> dict[str, Any]:
        """``converged`` and ``n_iterations``."""
        return {"converged": self.found.converged, "n_iterations": self.found.n_iterations}

    @property
    def trace(self) -> dict[str, NDArray]:
        """``free_energy`` of every iteration, nats."""
        return {"free_energy": self.found.trace}

    # Subjects

    @cached_property
    def subjects(self) -> tuple[ReducedFit | ReducedEffects, ...]:
        """Posteriors of all subjects with the group's model as their prior, in closed form.

        The cost of the group's model is shared among their log-evidences. Where subjects have
        names, these are the tuple's attribute ``subjects``.
        """
        posteriors = (self._subject(i) for i in range(len(self.first)))
        return of_subjects(posteriors, [one.name for one in self.first])

    def under_group(self, i: int) -> tuple[Reduced, NDArray, NDArray]:
        """A subject with the group's model as its prior, over the subject's flat vector (size,).

        Change of log-evidence, mean and covariance; then mean and covariance of that prior.

        Parameters
        ----------
        i : int
            Number of the subject.
        """
        one = self.first[i]
        index = one.places(self.parameters)
        scale = one.unit[index] / self.unit
        reduced, mean, covariance = subject_under_group(
            *in_units(one.unit, one.mean, one.covariance, one.prior_mean, one.prior_covariance),
            index,
            self.found.subject_mean[i] / scale,
            self.found.subject_precision * np.outer(scale, scale),
            0.0,
        )
        moments = in_units(1 / one.unit, reduced.mean, reduced.covariance, mean, covariance)
        return Reduced(reduced.change, *moments[:2]), *moments[2:]

    def _subject(self, i: int) -> ReducedFit | ReducedEffects:
        one, (reduced, _, _) = self.first[i], self.under_group(i)
        change = float(reduced.change) - self.found.complexity / len(self.first)
        centre, covariance = reduced.mean, reduced.covariance
        if isinstance(one.source, GroupEffects):
            group = one.source
            return ReducedEffects(
                group.covariates,
                group.parameters,
                one.log_evidence + change,
                centre.reshape(len(group.covariates), -1).T,
                covariance,
                change,
                (),
            )
        mean, sd = _by_site(one, centre, covariance)
        return ReducedFit(
            one.log_evidence + change,
            change,
            {},
            mean,
            sd,
            pd.DataFrame(covariance, one.labels, one.labels),
            pd.Series(centre, one.labels),
            one.source.description,
            "empirical Bayes",
        )

    # Which effects there are

    @property
    def effect_units(self) -> NDArray:
        """Effects over this are of order one, covariate by covariate."""
        units = covariate_units(self.design.to_numpy(), self.settings.stop)
        return np.kron(1 / units, self.unit)

    @property
    def names(self) -> dict[str, list[int]]:
        """Positions of parameters by site (or field) and by label."""
        return names_of(self.parameters, self.fields)

    def absent(self, i: int) -> float:
        """Value at which an effect is off: 0, but for means of connections in logarithms.

        Parameters
        ----------
        i : int
            Its position, covariate by covariate.
        """
        if i >= len(self.parameters):
            return 0.0
        one = self.first[0]
        return one.absent(int(one.places([self.parameters[i]])[0]))

    def reduce(self, off: Any) -> ReducedEffects:
        """Evidence and posterior of the group's model without some effects, in closed form.

        Parameters
        ----------
        off : str, sequence or mapping
            What to switch off: names of covariates (all their effects), labels or sites of
            parameters (effects of all covariates), or pairs of a covariate and a label or site.
            A mapping has labels or sites by covariate, or there again a mapping of labels to the
            values at which they are fixed; otherwise 0, and means of connections whose strength
            is a logarithm where the model has absent ones.

        Returns
        -------
        ReducedEffects
            With ``log_evidence``, ``change``, ``mean``, ``sd``, ``covariance``, ``summary()``.

        Raises
        ------
        ValueError
            If a name is unknown, ambiguous or repeated, or a value is missing.
        """
        return reduce_effects(self, off)

    def search(self, among: Any = None, *, exhaustive: int = EXHAUSTIVE) -> EffectsSearch:
        """Find which effects the group's model needs, among all models nested in it.

        Parameters
        ----------
        among : str, sequence or mapping, optional
            Effects that may be switched off, as `off` of `reduce`; by default all, but for means
            of logarithms that are at no value absent.
        exhaustive : int
            Number of effects of which all patterns are scored; 8 as in SPM. With more, a greedy
            search comes first.

        Returns
        -------
        EffectsSearch
            With ``models``, ``present``, ``best``, ``mean`` and ``sd`` of the average, in which
            effects that the best model lacks are absent, as in SPM.

        Raises
        ------
        ValueError
            As `reduce`.
        """
        return search_effects(self, among, exhaustive)

    def compare(self, models: Any, covariate: str | None = None) -> EffectsComparison:
        """Compare given models of which parameters a group has, and of where a covariate acts.

        Every model is taken for the group mean, and every model for the effects of a covariate,
        in all combinations. Effects of other covariates are on.

        Parameters
        ----------
        models : mapping, DataFrame or array_like
            By name of the model, the parameters that it switches off, by label or by site. Or a
            table of models (rows) and parameters (columns; those that it lacks are on) that is 1
            where they are on.
        covariate : str, optional
            Name of the covariate; by default the second.

        Returns
        -------
        EffectsComparison
            With ``probability`` of the combinations, and of every parameter in the group mean
            (``commonalities``) and in the effects of the covariate (``differences``).

        Raises
        ------
        ValueError
            If a name is unknown, or models are not different.
        """
        return compare_effects(self, models, covariate)


def _by_site(
    one: FirstLevel, centre: NDArray, covariance: NDArray
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    if one.source.is_bound:
        posterior = Posterior(one.source.posterior.method, gaussian=(centre, covariance))
        moments = Fit(one.source.problem, posterior)
        return moments.mean, moments.sd
    sd = np.sqrt(np.diagonal(covariance))
    sites = {site: one.names[site] for site in dict.fromkeys(one.fields)}
    return {s: centre[i] for s, i in sites.items()}, {s: sd[i] for s, i in sites.items()}


def of_group(name: Any, effects: GroupEffects) -> FirstLevel:
    """Effects of one group, as the first level of a model of several groups.

    Entries run covariate by covariate and are labelled ``"covariate: parameter"``.
    """
    pairs = [(c, p) for c in effects.covariates for p in range(len(effects.parameters))]
    labels = tuple(f"{c}: {effects.parameters[p]}" for c, p in pairs)
    fields = tuple(f"{c}: {effects.fields[p]}" for c, p in pairs)
    names = names_of(labels, fields)
    for i, (covariate, p) in enumerate(pairs):
        for shorter in (covariate, effects.fields[p], effects.parameters[p]):
            if i not in names.setdefault(shorter, []):
                names[shorter].append(i)
    return FirstLevel(
        name,
        labels,
        names,
        fields,
        effects.effect_units,
        effects.centre.T.ravel(),
        effects.spread,
        effects.prior_centre.T.ravel(),
        effects.prior_spread,
        effects.log_evidence,
        effects.absent,
        effects,
    )
