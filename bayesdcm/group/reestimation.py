"""Subjects fitted again with the group's model as their prior, and the group after that."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.data.validation import check_whole
from bayesdcm.group.effects import effects_of
from bayesdcm.group.first_level import FirstLevel, of_fit
from bayesdcm.group.group_effects import GroupEffects
from bayesdcm.group.members import of_subjects
from bayesdcm.infer.batches import Task
from bayesdcm.infer.empirical_prior import with_prior
from bayesdcm.infer.fitting import DEFAULT, check_call, fit_of
from bayesdcm.infer.many import run_many
from bayesdcm.infer.method import as_method
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.results import Fit

logger = logging.getLogger("bayesdcm")

# Correlation below which parameters have independent priors.
INDEPENDENT = 1e-9


@dataclass(frozen=True, eq=False)
class Reestimation:
    """Subjects fitted under their group's model; made by `bayesdcm.group.reestimate`.

    Parameters
    ----------
    fits : tuple of Fit
        Fits of the subjects under the model of the group that was found last but one; where
        subjects have names, ``fits.subjects``.
    effects : GroupEffects
        Effects that these fits give.
    history : pandas.DataFrame
        One row an iteration, the first before any: ``log_evidence`` of the group's model, and
        ``largest_change`` of an effect in its posterior standard deviations.
    """

    fits: tuple[Fit, ...] = field(repr=False)
    effects: GroupEffects
    history: pd.DataFrame = field(repr=False)

    def __repr__(self) -> str:
        change = self.history["largest_change"].iloc[-1]
        return (
            f"Reestimation({len(self.fits)} subjects, {len(self.history) - 1} iteration(s), "
            f"effects last changed by {change:.3f} sd; {self.effects!r})"
        )


def reestimate(
    effects: GroupEffects,
    iterations: int = 1,
    *,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Reestimation:
    """Fit all subjects again with the group's model as their prior, then find its effects again.

    The closed form (`GroupEffects.subjects`) takes a subject's posterior from its own fit. Where
    that ended in a poor optimum, a prior that the other subjects inform can lead to a better one.
    Models that are linear in their parameters gain nothing.

    Parameters
    ----------
    effects : GroupEffects
        From `bayesdcm.group.peb`.
    iterations : int
        How often to fit the subjects and find the effects; 1 by default.
    seed : int
        Seed of everything random.
    progress : bool
        Whether to show progress of long work.
    **options
        Of variational Laplace, as `bayesdcm.fit` takes them. ``starts`` is the subject's
        posterior under the group's model, unless it is given.

    Returns
    -------
    Reestimation
        With ``fits``, ``effects`` and ``history``.

    Raises
    ------
    TypeError
        If `effects` are not effects of a group.
    ValueError
        If they are of groups and not of subjects, or an option is not known.

    References
    ----------
    .. [1] Friston, Zeidman and Litvak (2015), Front Syst Neurosci 9:164.
           https://doi.org/10.3389/fnsys.2015.00164
    """
    if not isinstance(effects, GroupEffects):
        raise TypeError(
            f"effects must be effects of a group, from bayesdcm.group.peb, got "
            f"{type(effects).__name__}"
        )
    check_whole("iterations", iterations)
    check_call(seed, progress)
    for one in effects.first:
        if not isinstance(one.source, Fit):
            raise ValueError("effects must be of subjects; those of groups have no data to fit")
    history = [(effects.log_evidence, np.nan)]
    fits: tuple[Fit, ...] = ()
    for iteration in range(int(iterations)):
        tasks = [_task(effects, i, int(seed), options) for i in range(len(effects.first))]
        posteriors = dict(run_many(dict(enumerate(tasks)), progress=progress, title="reestimate"))
        for outcome in posteriors.values():
            if isinstance(outcome, Exception):
                raise outcome
        refitted = (fit_of(task, posteriors[i]) for i, task in enumerate(tasks))
        fits = of_subjects(refitted, [one.name for one in effects.first])
        first = [
            replace(of_fit(one.name, fit), absent=one.absent)
            for one, fit in zip(effects.first, fits, strict=True)
        ]
        updated = effects_of(
            first, effects.design, effects.parameters, effects.fields, effects.settings, effects
        )
        change = np.abs((updated.centre - effects.centre) / effects.sd.to_numpy()).max()
        history.append((updated.log_evidence, float(change)))
        logger.info(
            "group re-estimation %d: log evidence %.2f, effects changed by %.3f sd at most",
            iteration + 1,
            updated.log_evidence,
            change,
        )
        effects = updated
    table = pd.DataFrame(history, columns=["log_evidence", "largest_change"])
    table.index.name = "iteration"
    return Reestimation(fits, effects, table)


def _task(effects: GroupEffects, i: int, seed: int, options: dict[str, Any]) -> Task:
    one = effects.first[i]
    problem: Problem = one.source.problem
    closed, mean, covariance = effects.under_group(i)
    sites = _changed_sites(problem, one, effects.parameters, covariance)
    method = as_method(DEFAULT, {"starts": closed.mean[None], **options})
    return Task(with_prior(problem, mean, covariance, sites), method, seed)


def _changed_sites(
    problem: Problem, one: FirstLevel, labels: tuple[str, ...], covariance: NDArray
) -> list[str]:
    """Sites of the parameters that the group's model is about, and all that they correlate with."""
    sd = np.sqrt(np.diagonal(covariance))
    linked = np.abs(covariance) > INDEPENDENT * np.outer(sd, sd)
    sites, inside = problem.sites.places, np.isin(np.arange(len(sd)), one.places(labels))
    while True:
        reached = [name for name, places in sites.items() if inside[places].any()]
        inside[np.concatenate([sites[name] for name in reached])] = True
        more = linked[inside].any(0) & ~inside
        if not more.any():
            return reached
        inside |= more
