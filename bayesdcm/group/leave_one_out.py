"""Covariates of subjects who were left out, predicted from their parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from scipy.stats import pearsonr

from bayesdcm.compare.reduction import QUANTILE, TOLERANCE
from bayesdcm.compare.search import SCORE_JITTER
from bayesdcm.group.design import checked_design, dependent, warn_of_origin
from bayesdcm.group.effects import first_levels, stacked_levels
from bayesdcm.group.empirical_bayes import (
    MAX_ITERATIONS,
    covariate_units,
    empirical_bayes,
    likelihoods,
)
from bayesdcm.group.first_level import CONNECTIONS, named_items, select
from bayesdcm.group.other_priors import inverse
from bayesdcm.group.second_level import SecondLevel, ascend
from bayesdcm.infer.method import one_of
from bayesdcm.infer.results import Fit
from bayesdcm.infer.threads import single_threaded_linear_algebra

# Times that a subject's covariate is estimated, about the last estimate, as in SPM.
RUNS = 4
# Prior variance of a covariate over that of the other subjects, as in SPM.
WIDTH = 4.0


class LeftOut(NamedTuple):
    """Estimates of a covariate of subjects who were left out.

    Posterior mean and variance (subjects,), given the subject's data and all others' data and
    covariates; and the probability (levels, subjects) of the values that the covariate has in the
    group, increasing.
    """

    mean: NDArray
    variance: NDArray
    probability: NDArray


def estimate_covariate(
    mean: NDArray,
    covariance: NDArray,
    prior_mean: NDArray,
    prior_covariance: NDArray,
    effects: NDArray,
    between: NDArray,
    known: NDArray,
    column: int,
    variance: float,
    tolerance: float = TOLERANCE,
    stop: str = "optimum",
) -> tuple[float, float, float, float]:
    """Mean and variance of a covariate of one subject, and those of the prior of the last run.

    From the subject's posterior and prior, (parameters,) and (parameters, parameters), the effects
    on the group (parameters, covariates), the covariance between subjects, and the subject's
    covariates (covariates,), of order one, of which that at `column` is estimated with this prior
    variance.
    """
    subjects = likelihoods(
        mean[None],
        covariance[None],
        prior_mean[None],
        prior_covariance[None],
        effects[None],
        tolerance,
    )
    floor, none = inverse(between), np.zeros((0, *between.shape))
    centre, spread = known.astype(float).copy(), np.eye(len(known))
    centre[column] = 0.0
    spread[column, column] += variance
    for run in range(1, RUNS + 1):
        origin = np.zeros_like(centre) if stop == "spm" else centre
        model = SecondLevel(centre, inverse(spread), floor, none, origin)
        ascent = ascend(model, subjects, MAX_ITERATIONS, stop)
        estimate = float(ascent.point[0][column])
        posterior = inverse(-ascent.last.curvature[0])[column, column]
        prior = float(centre[column]), float(spread[column, column])
        centre[column] = estimate
        spread = np.exp(-run) * np.eye(len(known))
        spread[column, column] += variance
    return estimate, float(posterior), *prior


def _levels(estimate: tuple[float, float, float, float], levels: NDArray) -> NDArray:
    """Probability of values of the covariate: evidence of each as a prior without variance."""
    q, C, p, Cp = estimate
    precise, before, fixed = (1 / (v + SCORE_JITTER) for v in (C, Cp, 0.0))
    total = precise + fixed - before
    information = precise * q + fixed * levels - before * p
    quadratic = fixed * levels**2 - information**2 / (total + SCORE_JITTER)
    return softmax(-quadratic / 2)


@single_threaded_linear_algebra()
def left_out(
    mean: ArrayLike,
    covariance: ArrayLike,
    prior_mean: ArrayLike,
    prior_covariance: ArrayLike,
    log_evidence: ArrayLike,
    design: ArrayLike,
    column: int = 1,
    *,
    tolerance: float = TOLERANCE,
    stop: str = "optimum",
) -> LeftOut:
    """Estimate a covariate of every subject from all others, as SPM does.

    Arguments are those of `bayesdcm.group.empirical_bayes`; the covariate is at `column` of the
    design. With ``stop="optimum"``, SPM's prior variances of covariates are in units of their root
    mean square, and where the first covariate is a constant, others are taken about the mean of the
    subjects who are not left out, so that their origin does not matter. Friston et al. (2016), https://doi.org/10.1016/j.neuroimage.2015.11.015.
    """
    posterior = [np.asarray(a, float) for a in (mean, covariance, prior_mean, prior_covariance)]
    log_evidence, given = np.asarray(log_evidence, float), np.asarray(design, float)
    constant = given[0, 0] != 0 and np.ptp(given[:, 0]) == 0
    estimates = []
    for i in range(len(given)):
        rest = np.arange(len(given)) != i
        origin = np.zeros(given.shape[1])
        if stop == "optimum" and constant:
            origin[1:] = given[rest, 1:].mean(0)
        units = covariate_units(given - origin, stop)
        design = (given - origin) / units
        group = empirical_bayes(
            *(part[rest] for part in posterior),
            log_evidence[rest],
            design[rest],
            tolerance=tolerance,
            stop=stop,
        )
        variance = WIDTH * design[rest, column].var(ddof=1)
        estimate = estimate_covariate(
            *(part[i] for part in posterior),
            group.mean,
            group.between_covariance,
            design[i],
            column,
            variance,
            tolerance,
            stop,
        )
        unit, levels = units[column], np.unique(design[:, column])
        mean_of_one = origin[column] + estimate[0] * unit
        estimates.append((mean_of_one, estimate[1] * unit**2, _levels(estimate, levels)))
    means, variances, probabilities = zip(*estimates, strict=True)
    return LeftOut(np.array(means), np.array(variances), np.stack(probabilities, axis=1))


def leave_one_out(
    fits: Sequence[Fit] | Mapping[Any, Fit],
    design: pd.DataFrame | Mapping[str, ArrayLike] | ArrayLike,
    parameters: str | Iterable[str] | Mapping[str, Any] = CONNECTIONS,
    *,
    covariate: str | None = None,
    stop: str = "optimum",
) -> pd.DataFrame:
    """Predict a covariate of every subject from the parameters, leaving the subject out.

    Whether effects are large enough to tell one subject from another: effects of covariates are
    found from all subjects but one, and the covariate of that one is estimated from the subject's
    parameters. The scheme is that of SPM (``spm_dcm_loo``).

    Parameters
    ----------
    fits : sequence or mapping of Fit
        One fit a subject, as `bayesdcm.group.peb` takes them; four or more.
    design : DataFrame, mapping or array_like
        Covariates, as there; two or more.
    parameters : str, sequence of str, or mapping
        As there; fewer parameters predict better than all.
    covariate : str, optional
        Name of the covariate to predict; by default the second.
    stop : {"optimum", "spm"}
        As there. With ``"spm"``, predictions depend on the units of covariates, and on whether they
        are centred.

    Returns
    -------
    pandas.DataFrame
        One row a subject: ``actual``, ``predicted``, ``sd``, ``eti_5%``, ``eti_95%``, and the
        posterior probability of every value that the covariate has in the group, in columns
        ``probability[VALUE]``. Its ``attrs`` hold the ``covariate``, the ``correlation`` of
        predicted and actual values, and its ``p_value`` (one-sided).

    Raises
    ------
    TypeError
        As `bayesdcm.group.peb`.
    ValueError
        If there is no such covariate, there are fewer than four subjects, a subject cannot be
        left out since covariates of the others depend on each other, or as
        `bayesdcm.group.peb`.

    Notes
    -----
    Effects count as known, as in SPM, although few subjects tell them only roughly: intervals are
    too narrow, the more so the weaker effects are and the more parameters take part. In simulated
    groups of 20, those of 90 % held 85 % with one parameter and a clear effect, and 70 % with four
    parameters and none. Judge by the correlation of predicted and actual values.

    References
    ----------
    .. [1] Friston et al. (2016), NeuroImage 128:413.
           https://doi.org/10.1016/j.neuroimage.2015.11.015
    """
    names, items = named_items(fits)
    table = warn_of_origin(checked_design(design, names))
    column = _column(table, covariate)
    first = first_levels(names, items)
    labels, _ = select(first, parameters)
    arrays, _ = stacked_levels(first, labels)
    predictions = left_out(*arrays, table.to_numpy(), column, tolerance=0.0, stop=stop)
    return _as_table(predictions, table, column)


def _column(table: pd.DataFrame, covariate: str | None) -> int:
    names = list(table.columns)
    if len(names) < 2:
        raise ValueError(
            "design must have a covariate to predict besides the group mean, such as "
            "{'mean': 1, 'age': [...]}"
        )
    if covariate is None:
        covariate = names[1]
    one_of(*names[1:])("covariate", covariate)
    values = table.to_numpy()
    if len(values) < 4:
        raise ValueError(f"fits must hold four subjects or more, got {len(values)}")
    for i, subject in enumerate(table.index):
        rest = np.delete(values, i, axis=0)
        if dependent(rest):
            raise ValueError(
                f"subject {subject!r} cannot be left out: without it, covariates {names} are "
                "linear combinations of each other"
            )
    return names.index(covariate)


def _as_table(predictions: LeftOut, design: pd.DataFrame, column: int) -> pd.DataFrame:
    actual, sd = design.iloc[:, column].to_numpy(), np.sqrt(predictions.variance)
    table = pd.DataFrame({"actual": actual, "predicted": predictions.mean, "sd": sd}, design.index)
    table["eti_5%"] = predictions.mean - QUANTILE * sd
    table["eti_95%"] = predictions.mean + QUANTILE * sd
    columns = [f"probability[{float(level)!r}]" for level in np.unique(actual)]
    levels = pd.DataFrame(predictions.probability.T, design.index, columns)
    table = pd.concat([table, levels], axis=1)
    correlation = pearsonr(actual, predictions.mean, alternative="greater")
    table.attrs = {
        "covariate": str(design.columns[column]),
        "correlation": float(correlation.statistic),
        "p_value": float(correlation.pvalue),
    }
    return table
