"""Search over all models nested in a fitted one, and their average.

Every reduced model is scored in closed form from the full posterior (`reduce_gaussian`), hundreds
at once. Up to a number of candidates all patterns of switching them off are scored; with more, the
least missed ones are tried together, switched off for good, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

from bayesdcm._configuration import COMPILED_ONCE
from bayesdcm.compare.gaussian_fit import Moments, gaussian_of
from bayesdcm.compare.reduction import (
    TOLERANCE,
    ReducedFit,
    prior_changes,
    reduce,
    reduce_gaussian,
    reduce_within,
    reduced_directions,
)
from bayesdcm.data.validation import check_whole
from bayesdcm.infer.problem import FREE
from bayesdcm.infer.results import Fit

# Candidates of which all patterns are scored, as in SPM.
EXHAUSTIVE = 8
MOST_EXHAUSTIVE = 16
# Models that are this much worse than the best are left out of the average, nats.
OCCAM_WINDOW = 8.0
# Regularisation of scores, and the variance from which a direction counts, as in SPM.
SCORE_JITTER = float(np.exp(-16))
# A parameter is free if its prior variance exceeds the mean of the usual ones over this.
VARIANCE_RANGE = 1024.0
# Models scored by one call of compiled code.
BATCH = 256


_directions = jax.jit(reduced_directions, compiler_options=COMPILED_ONCE)


class GaussianSearch(NamedTuple):
    """Models nested in one with a Gaussian posterior, and their average.

    Attributes
    ----------
    searched : (candidates,)
        Indices of the parameters that the last set of models differs in.
    off : (models, candidates)
        Which of them each model switches off.
    change, probability : (models,)
        Log-evidence of each model minus that of the full one, nats, and posterior probability.
    kept : (size,)
        Whether the search left a parameter on.
    present : (size,)
        Posterior probability that a parameter is there, as SPM gives it: 1 and 0 for those that
        the search decided on before the last set of models.
    supported : (size,)
        The same as far as it was worked out: of parameters kept before the last set, against the
        model without them alone; missing for those pruned before it, whose patterns were not
        scored with the others, and for those that are no candidates.
    mean, variance : (size,)
        Average over models of the last set, of each without what the best one lacks, as in SPM:
        what the best model lacks is at its value when off, with next to no variance.
    """

    searched: NDArray[np.int64]
    off: NDArray[np.bool_]
    change: NDArray[np.float64]
    probability: NDArray[np.float64]
    kept: NDArray[np.bool_]
    present: NDArray[np.float64]
    supported: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


class _Full(NamedTuple):
    """Posterior and prior of the full model, and where parameters are when they are off."""

    mean: jax.Array
    covariance: jax.Array
    prior_mean: jax.Array
    prior_covariance: jax.Array
    absent: jax.Array


def _prior(full: _Full, on: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = jnp.where(on, full.prior_mean, full.absent)
    return mean, full.prior_covariance * jnp.outer(on, on)


@jax.jit
def _scores(full: _Full, basis: jax.Array, counts: jax.Array, on: jax.Array) -> jax.Array:
    """Changes of log-evidence, from the directions of the prior that change alone."""

    def score(pattern: jax.Array) -> jax.Array:
        reduced_mean, reduced_covariance = _prior(full, pattern)
        means = jnp.stack([full.mean, full.prior_mean, reduced_mean]) @ basis
        covariances = jnp.stack([full.covariance, full.prior_covariance, reduced_covariance])
        covariances = basis.T @ covariances @ basis
        changed = (means[1] != means[2]) | (covariances[1] != covariances[2]).any(1)
        used = counts & changed & (jnp.diagonal(covariances[1]) > SCORE_JITTER)
        return reduce_within(means, covariances, used, SCORE_JITTER).change

    return jax.vmap(score)(on)


@jax.jit
def _posteriors(full: _Full, on: jax.Array, tolerance: jax.Array) -> tuple:
    """Change of log-evidence, mean and variance of each model."""

    def posterior(pattern: jax.Array) -> tuple:
        reduced = reduce_gaussian(*full[:4], *_prior(full, pattern), tolerance)
        return reduced.change, reduced.mean, jnp.diagonal(reduced.covariance)

    return jax.vmap(posterior)(on)


def _in_batches(function: Callable[..., Any], on: NDArray) -> tuple[NDArray, ...]:
    """Apply a function of many models in calls of one shape."""
    padded = np.concatenate([on, np.ones((-len(on) % BATCH, on.shape[1]), bool)])
    parts = [function(batch) for batch in padded.reshape(-1, BATCH, on.shape[1])]
    parts = [part if isinstance(part, tuple) else (part,) for part in parts]
    return tuple(np.concatenate(batches)[: len(on)] for batches in zip(*parts, strict=True))


def search_gaussian(
    mean: ArrayLike,
    covariance: ArrayLike,
    prior_mean: ArrayLike,
    prior_covariance: ArrayLike,
    candidates: ArrayLike | None = None,
    *,
    absent: ArrayLike = 0.0,
    exhaustive: int = EXHAUSTIVE,
    tolerance: float = TOLERANCE,
) -> GaussianSearch:
    """Search the models nested in one with a Gaussian posterior, as SPM does.

    Parameters
    ----------
    mean, covariance : array_like
        Posterior of the full model, shapes (size,) and (size, size).
    prior_mean, prior_covariance : array_like
        Its prior, same shapes.
    candidates : array_like of int, optional
        Indices of the parameters that may be switched off. Those that the prior fixes are left
        out. The default is SPM's: all whose prior variance is not a thousand times smaller than
        is usual among them.
    absent : array_like
        Values of parameters that are off, shape (size,) or (); 0 by default.
    exhaustive : int
        Number of parameters of which all patterns are scored; 8 as in SPM.
    tolerance : float
        As in `reduce_gaussian`.

    Returns
    -------
    GaussianSearch
        The last set of models with their probabilities, and the average over it, in which what
        the best model lacks is off.

    References
    ----------
    .. [1] Friston and Penny (2011), NeuroImage 56:2089.
           https://doi.org/10.1016/j.neuroimage.2011.03.062

    Examples
    --------
    >>> result = search_gaussian([0.0, 2.0], 0.01 * np.eye(2), np.zeros(2), np.eye(2))
    >>> result.present.round(2).tolist()
    [0.09, 1.0]
    """
    size = len(np.asarray(mean))
    moments = (mean, covariance, prior_mean, prior_covariance, np.broadcast_to(absent, (size,)))
    full = _Full(*(jnp.asarray(array, float) for array in moments))
    basis, counts = _directions(full.prior_covariance, tolerance)
    variance = np.diagonal(np.asarray(full.prior_covariance))
    if candidates is None:
        usual = variance[variance < VARIANCE_RANGE]
        eligible = free = variance > (usual.mean() / VARIANCE_RANGE if len(usual) else 0.0)
    else:
        free, eligible = variance > 0, np.isin(np.arange(size), candidates)
    kept = free.copy()

    def patterns(searched: NDArray, off: NDArray) -> NDArray:
        """What is on where some of `searched` are off, besides what is off already."""
        on = np.repeat(kept[None], len(off), axis=0)
        on[:, searched] &= ~off
        # What the prior fixes is neither on nor off.
        return on | ~free

    def score(searched: NDArray, off: NDArray) -> NDArray:
        models = patterns(searched, off)
        return _in_batches(lambda batch: _scores(full, basis, counts, batch), models)[0]

    # Of each parameter on, the score without it alone.
    without_it = np.full(size, np.nan)
    greedy = True
    while greedy:
        searched = np.flatnonzero(kept & eligible)
        if not len(searched):
            off, change = np.zeros((1, 0), bool), np.zeros(1)
            break
        most = max(len(searched) // 4, exhaustive)
        greedy = len(searched) > most
        if greedy:
            single = score(searched, np.eye(len(searched), dtype=bool))
            without_it[searched] = single
            searched = searched[np.argsort(-single, kind="stable")[:most]]
        off = np.array([[True] * len(searched), [False] * len(searched)])
        change = score(searched, off)
        if not (greedy and change[0] - change[1] > most):
            searched = searched[:exhaustive]
            off = np.array(list(product([True, False], repeat=len(searched))))
            change = score(searched, off)
        removed = searched[off[change.argmax()]]
        kept[removed] = False
        greedy = greedy and len(removed) > 0

    probability = softmax(change)
    present = kept * 1.0
    # The last model of the last set has all on.
    supported = np.where(kept & eligible, expit(change[-1] - without_it), np.nan)
    for column, j in enumerate(searched):
        on, without = (probability[off[:, column] == state].mean() for state in (False, True))
        present[j] = supported[j] = on / (on + without)
    models = patterns(searched, off[change > change.max() - OCCAM_WINDOW])
    limit = jnp.asarray(tolerance)
    evidence, means, variances = _in_batches(lambda b: _posteriors(full, b, limit), models)
    weight = softmax(evidence)
    average = weight @ means
    spread = weight @ (variances + means**2) - average**2
    return GaussianSearch(
        searched,
        off,
        change,
        probability,
        kept,
        present,
        supported,
        average,
        np.maximum(spread, 0.0),
    )


def search_labelled(
    moments: Moments,
    unit: NDArray,
    values: Mapping[int, float],
    labels: NDArray,
    exhaustive: int,
) -> tuple[GaussianSearch, pd.DataFrame, dict[int, float]]:
    """Search among parameters that are off at values given by position.

    From posterior and prior moments of parameters over their `unit` (size,): the result, a table
    of its models, best first, and the values of what the best one switches off.
    """
    check_whole("exhaustive", exhaustive, MOST_EXHAUSTIVE)
    absent = np.array([values.get(i, 0.0) for i in range(len(unit))]) / unit
    options = {"absent": absent, "exhaustive": int(exhaustive), "tolerance": 0.0}
    result = search_gaussian(*moments, sorted(values), **options)
    models = pd.DataFrame(~result.off, columns=labels[result.searched])
    models["change"], models["probability"] = result.change, result.probability
    models = models.sort_values("change", ascending=False, ignore_index=True, kind="stable")
    return result, models, {i: values[i] for i in sorted(values) if not result.kept[i]}


def fate(searched: bool, off: bool, present: float) -> str:
    """What a search did with a parameter: in the last set, kept or pruned before it, or left."""
    if searched:
        return "searched"
    if off:
        return "pruned"
    return "kept" if np.isfinite(present) else "not searched"


@dataclass(frozen=True, eq=False)
class ReducedSearch:
    """Models nested in a fitted one; made by `search_reduced`.

    Parameters
    ----------
    models : pandas.DataFrame
        One row a model of the last set searched, best first: a column for each parameter that
        they differ in (True where it is on), ``change`` (of log-evidence against the full
        model, nats) and ``probability``.
    present : pandas.Series
        Posterior probability that each candidate is there, over the last set of models. Of those
        that a greedy search kept before it, against the model without them alone; missing for
        those that it pruned before.
    mean, sd : pandas.Series
        Average over models of the posterior of every free parameter. As in SPM, models are
        averaged without what the best one lacks: such a parameter has the value at which it is
        off, 0 by default, and an sd of next to 0, even where ``present`` is not near 0.
    best : ReducedFit
        The best model found.
    description : str
        The full model in one line.
    """

    models: pd.DataFrame
    present: pd.Series
    mean: pd.Series = field(repr=False)
    sd: pd.Series = field(repr=False)
    best: ReducedFit
    description: str

    def __repr__(self) -> str:
        return (
            f"ReducedSearch({len(self.present)} parameters, {len(self.best.off)} of them off in "
            f"the best model, log evidence {self.best.change:+.2f}; {self.description})"
        )

    def summary(self) -> pd.DataFrame:
        """Averaged posterior of every free parameter, one row each.

        Returns
        -------
        pandas.DataFrame
            Columns ``mean`` and ``sd`` of the average over models (for what the best model lacks,
            value when off and about 0), ``present``, the posterior probability that the parameter
            is there, and ``search``, what the search did with it: ``"searched"`` (in the last set
            of models), ``"kept"`` or ``"pruned"`` (before it; ``present`` of those pruned is not
            known), ``"not searched"``.
        """
        table = pd.DataFrame({"mean": self.mean, "sd": self.sd, "present": self.present})
        table = table.reindex(self.mean.index)
        table["search"] = [
            fate(name in self.models.columns, name in self.best.off, value)
            for name, value in table["present"].items()
        ]
        table.index.name = "parameter"
        return table


def search_reduced(
    fit: Fit,
    among: str | Iterable[str] | Mapping[str, float] | None = None,
    *,
    exhaustive: int = EXHAUSTIVE,
) -> ReducedSearch:
    """Find which connections a fitted model needs, among all models nested in it.

    Parameters
    ----------
    fit : Fit
        Made by ``fit(..., method="laplace")``, with normal priors.
    among : str, sequence of str, or mapping of str to float, optional
        Parameters that may be switched off, by label or by site, with the value at which they are
        off where it is not the obvious one; as `off` of `bayesdcm.compare.reduce`. The default
        is the connections and their modulations, sites ``"A"`` and ``"B"``, as in SPM.
    exhaustive : int
        Number of parameters, 1 to 16, of which all patterns are scored. The default of 8 is
        SPM's; with more candidates than that, a greedy search comes first.

    Returns
    -------
    ReducedSearch
        With ``models``, ``present``, ``best`` and ``summary()``. Means and standard deviations in
        the summary are an average over models in which what the best one lacks is off, as in SPM.

    Raises
    ------
    TypeError
        If `fit` is not a fit, or `among` does not hold labels.
    ValueError
        If a label is unknown or named twice, the model has no sites A and B and `among` is not
        given, `exhaustive` is out of range, or for the reasons of `reduce`.

    References
    ----------
    .. [1] Friston and Penny (2011), NeuroImage 56:2089.
           https://doi.org/10.1016/j.neuroimage.2011.03.062
    .. [2] Rosa, Friston and Penny (2012), J Neurosci Methods 208:66.
           https://doi.org/10.1016/j.jneumeth.2012.04.013

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     slope = numpyro.sample("slope", dist.Normal(0, 1))
    ...     level = numpyro.sample("level", dist.Normal(0, 1))
    ...     line = level + slope * np.arange(3.0)
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(line, 4.0), obs=data)
    >>> full = bayesdcm.fit(program, np.array([1.1, 0.9, 1.0]), progress=False)
    >>> result = search_reduced(full, among=["slope", "level"])
    >>> sorted(result.best.off)
    ['slope']
    """
    gaussian = gaussian_of(fit)
    problem, unit = fit.problem, gaussian.unit
    if among is None:
        names = {site.name.removesuffix(FREE) for site in problem.sites.sites}
        among = [name for name in ("A", "B") if name in names]
        if not among:
            raise ValueError(
                "among must be given: the model has no sites A or B, but "
                f"{', '.join(map(repr, sorted(names)))}"
            )
    elif not isinstance(among, Iterable):
        raise TypeError(f"among must hold labels such as 'A[V5, V1]', got {among!r}")
    values = {i: value for i, (value, _) in prior_changes(problem, among, {}).items()}
    labels = np.array(problem.flat_labels, dtype=object)
    result, models, gone = search_labelled(gaussian.scaled, unit, values, labels, exhaustive)
    candidates, parameters = sorted(values), labels[: len(unit)]
    return ReducedSearch(
        models,
        pd.Series(result.supported[candidates], index=labels[candidates], name="present"),
        pd.Series(result.mean * unit, index=parameters, name="mean"),
        pd.Series(np.sqrt(result.variance) * unit, index=parameters, name="sd"),
        reduce(fit, off={labels[i]: value for i, value in gone.items()}),
        fit.description,
    )
