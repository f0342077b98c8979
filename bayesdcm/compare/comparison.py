"""Several models of the same data in one table: by evidence, or by what they predict."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from bayesdcm.compare.comparable import check_comparable, check_named
from bayesdcm.compare.estimate import Evidence
from bayesdcm.compare.evidence import log_evidence
from bayesdcm.compare.stacking import (
    Pointwise,
    leave_one_out,
    pointwise_likelihood,
    pointwise_weights,
    stacking_weights,
    widely_applicable,
)
from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.method import one_of
from bayesdcm.infer.results import Fit
from bayesdcm.infer.tail_shape import PARETO_LIMIT

WAYS = ("evidence", "loo", "waic", "stacking")
# Variance of a point's log-likelihood beyond which WAIC is doubtful, as ArviZ has it.
VARIANCE_LIMIT = 0.4
# Samples of the Bayesian bootstrap, and the concentration of its weights.
BOOTSTRAP, CONCENTRATION = 1000, 1.0


def compare(
    fits: Mapping[str, Fit | Evidence], by: str = "evidence", *, seed: int = 0
) -> pd.DataFrame:
    """Compare models of the same data, the best first.

    Parameters
    ----------
    fits : mapping of str to Fit
        At least two fits to the same data, by name; of any models and methods. For comparison by
        evidence, results of `log_evidence` as well.
    by : {"evidence", "loo", "waic", "stacking"}
        What to compare them by. ``"evidence"``: the free energy of variational Laplace, the
        evidence lower bound of SVI, bridge sampling for NUTS. ``"loo"``: expected log predictive
        density of each data point left out, by Pareto-smoothed importance sampling. ``"waic"``:
        its approximation by the widely applicable information criterion. ``"stacking"``: as
        ``"loo"``, with weights such that the mixture of all models predicts best.
    seed : int
        Of bridge sampling and of the Bayesian bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a model, the best first: ``rank`` (from 0); ``log_evidence`` or ``elpd``, nats;
        ``p`` (effective number of parameters; not by evidence); ``difference`` to the best (at
        most 0); ``weight``; ``probability`` of the model where all are equally likely beforehand
        (by evidence only, and equal to the weight then); ``se`` and ``dse``, standard errors of
        the value and of the difference (NaN for free energies, whose error is not a random one);
        ``warning`` (whether the number is doubtful); ``kind`` of evidence, or ``lost`` draws at
        which a model diverges. Weights by ``"loo"`` and ``"waic"`` are pseudo Bayesian model
        averages with Bayesian bootstrap.

    Warns
    -----
    RuntimeWarning
        If kinds of evidence are mixed, or numbers are doubtful.

    Raises
    ------
    TypeError
        If `fits` is not a mapping of fits.
    ValueError
        If there are fewer than two, `by` is unknown, or fits are not of the same data as they
        enter the likelihood: observed values, factors that they were multiplied by, channel
        modes, confounds (whose coefficients have a flat prior, so that evidence depends on their
        number and unit). If an evidence is not a number; or, by prediction, if the likelihood
        judges the data as a whole, as it does a covariance (Wishart).

    Notes
    -----
    Left-out points are single entries of the data (a scan of a region), given the coefficients of
    confounds; points that noise correlates are predicted given all the others. Of cross-spectra
    with a Wishart likelihood, they are frequencies with all their entries. In time series,
    that asks how well gaps are filled, and models differ less than by evidence. Draws of an
    approximation, variational Laplace or SVI, are weighed by the posterior's density over its
    own; where they are far apart (`Fit.diagnose`), so is what follows from it, and a warning says
    so.

    For many subjects, see `select_models`.

    References
    ----------
    .. [1] Vehtari, Gelman and Gabry (2017), Stat Comput 27:1413.
           https://doi.org/10.1007/s11222-016-9696-4
    .. [2] Yao et al. (2018), Bayesian Analysis 13:917. https://doi.org/10.1214/17-BA1091

    Examples
    --------
    >>> fits = {"a": Evidence(-10.0, 0.1, "bridge"), "b": Evidence(-8.0, 0.1, "bridge")}
    >>> compare(fits)["probability"].round(2).to_dict()
    {'b': 0.88, 'a': 0.12}
    """
    one_of(*WAYS)("by", by)
    check_named(fits, '{"forward": f1, "both": f2}')
    _check_fits(fits, by)
    check_comparable(fits, "evidence" if by == "evidence" else "prediction")
    table = _by_evidence(fits, seed) if by == "evidence" else _by_prediction(fits, by, seed)
    if table["warning"].any():
        doubtful = ", ".join(table.index[table["warning"]])
        warnings.warn(
            f"numbers of {doubtful} are doubtful: see diagnose() of the fit, and, by evidence, "
            "log_evidence(fit).problems",
            RuntimeWarning,
            stacklevel=2,
        )
    return table


def _check_fits(fits: Mapping[str, Any], by: str) -> None:
    for name, fit in fits.items():
        if isinstance(fit, Sequence) and not isinstance(fit, str):
            raise TypeError(
                f"fits[{name!r}] holds several fits; to compare models over subjects, use "
                "bayesdcm.select_models"
            )
        if isinstance(fit, Evidence) and by != "evidence":
            raise TypeError(f"fits[{name!r}] must be a Fit to compare by {by!r}, got an Evidence")
        if not isinstance(fit, Fit | Evidence):
            raise TypeError(f"fits[{name!r}] must be a Fit, got {type(fit).__name__}")
        if isinstance(fit, Fit):
            fit.posterior.require_spread(f"compare, fits[{name!r}],")


# The tables


def _by_evidence(fits: Mapping[str, Any], seed: int) -> pd.DataFrame:
    evidences = {}
    with warnings.catch_warnings():
        # Said once, of the table.
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, fit in fits.items():
            evidences[name] = fit if isinstance(fit, Evidence) else log_evidence(fit, seed=seed)
            if np.isnan(float(evidences[name])):
                raise ValueError(
                    f"the log-evidence of fits[{name!r}] is not a number; see diagnose() of the "
                    "fit, and leave it out"
                )
    kinds = {name: evidence.method for name, evidence in evidences.items()}
    # All but bounds estimate the evidence itself.
    if len({kind if kind in ("free_energy", "elbo") else "" for kind in kinds.values()}) > 1:
        warnings.warn(
            f"fits have evidences of several kinds ({', '.join(sorted(set(kinds.values())))}): "
            "their differences hold differences of approximations; use one method for all",
            RuntimeWarning,
            stacklevel=3,
        )
    value = np.array([float(evidence) for evidence in evidences.values()])
    error = np.array([evidence.standard_error for evidence in evidences.values()])
    best = int(np.argmax(value))
    # Estimates are independent of each other; the best differs from itself by nothing.
    of_difference = np.where(np.arange(len(error)) == best, 0.0, np.hypot(error, error[best]))
    probability = softmax(value)
    table = pd.DataFrame(
        {
            "log_evidence": value,
            "difference": value - value[best],
            "weight": probability,
            "probability": probability,
            "se": error,
            "dse": of_difference,
            "warning": [not evidence.ok for evidence in evidences.values()],
            "kind": list(kinds.values()),
        },
        index=pd.Index(list(evidences), name="model"),
    )
    return _ranked(table, "log_evidence")


def _by_prediction(fits: Mapping[str, Any], by: str, seed: int) -> pd.DataFrame:
    assess = widely_applicable if by == "waic" else leave_one_out
    limit = VARIANCE_LIMIT if by == "waic" else PARETO_LIMIT
    pointwise: dict[str, Pointwise] = {}
    doubtful = {}
    for name, fit in fits.items():
        weights = pointwise_weights(fit)
        try:
            pointwise[name] = assess(pointwise_likelihood(fit), weights)
        except ValueError as error:
            raise ValueError(f"fits[{name!r}]: {error}") from error
        doubtful[name] = bool((pointwise[name].doubt > limit).any() or pointwise[name].lost)
        if weights is not None:
            doubtful[name] |= arviz_adapter.pareto_k(weights.ravel()) > PARETO_LIMIT
    sizes = {name: len(part.elpd) for name, part in pointwise.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"fits must have as many modelled data points each, got {sizes}; compare by "
            "'evidence', or fit all to the same channels and times"
        )
    elpd = np.stack([part.elpd for part in pointwise.values()], axis=1)
    density = np.stack([part.log_density for part in pointwise.values()], axis=1)
    total = elpd.sum(0)
    best = int(np.argmax(total))
    change = elpd - elpd[:, [best]]
    weight = stacking_weights(elpd) if by == "stacking" else _pseudo_averages(elpd, seed)
    table = pd.DataFrame(
        {
            "elpd": total,
            "p": (density - elpd).sum(0),
            "difference": change.sum(0),
            "weight": weight,
            "se": _error_of_sum(elpd),
            "dse": _error_of_sum(change),
            "warning": list(doubtful.values()),
            "lost": [part.lost for part in pointwise.values()],
        },
        index=pd.Index(list(pointwise), name="model"),
    )
    return _ranked(table, "elpd")


def _error_of_sum(values: NDArray) -> NDArray[np.float64]:
    """Standard error of the sum of data points, shape (points, models); NaN for a single one."""
    if len(values) == 1:
        return np.full(values.shape[1], np.nan)
    return np.sqrt(len(values) * values.var(axis=0, ddof=1))


def _pseudo_averages(elpd: NDArray, seed: int) -> NDArray[np.float64]:
    """Pseudo Bayesian model averages, over the Bayesian bootstrap of data points."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(len(elpd), CONCENTRATION), size=BOOTSTRAP)
    return softmax(len(elpd) * shares @ elpd, axis=1).mean(0)


def _ranked(table: pd.DataFrame, column: str) -> pd.DataFrame:
    table = table.sort_values(column, ascending=False, kind="stable")
    table.insert(0, "rank", np.arange(len(table)))
    return table
