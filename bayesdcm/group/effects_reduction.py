"""Group models without some effects: their evidence in closed form, and a search among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.compare.search import MOST_EXHAUSTIVE, fate, search_gaussian
from bayesdcm.group.gaussian_effects import ReducedEffects, tidy
from bayesdcm.group.other_priors import under_priors

if TYPE_CHECKING:
    from bayesdcm.group.group_effects import GroupEffects


def scaled_moments(effects: GroupEffects) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Posterior and prior of effects in units in which they are of order one.

    Parameters
    ----------
    effects : GroupEffects
        From `bayesdcm.group.peb`.

    Returns
    -------
    tuple of ndarray
        Posterior mean and covariance, prior mean and covariance, covariate by covariate.
    """
    unit = effects.effect_units
    square = np.outer(unit, unit)
    return (
        effects.centre.T.ravel() / unit,
        effects.spread / square,
        effects.prior_centre.T.ravel() / unit,
        effects.prior_spread / square,
    )


def off_values(effects: GroupEffects, off: Any, argument: str = "off") -> dict[int, float]:
    """Values of effects that are switched off, by position.

    Parameters
    ----------
    effects : GroupEffects
        From `bayesdcm.group.peb`.
    off : str, sequence or mapping
        As in `GroupEffects.reduce`.
    argument : str
        What to call it in errors.

    Returns
    -------
    dict of int to float
        Positions run covariate by covariate.
    """
    values: dict[int, float] = {}
    for covariate, name, value in _wanted(effects, off, argument):
        for i in _positions(effects, covariate, name, argument):
            if i in values:
                c, p = divmod(i, len(effects.parameters))
                raise ValueError(
                    f"the effect of {effects.covariates[c]!r} on {effects.parameters[p]!r} is "
                    f"named twice in {argument}; name it once"
                )
            values[i] = effects.absent(i) if value is None else value
    return values


def _wanted(
    effects: GroupEffects, off: Any, argument: str
) -> list[tuple[str | None, str | None, float | None]]:
    """Covariate (None: all), name of parameters (None: all), and value (None: the usual)."""
    if isinstance(off, str):
        off = [off]
    if not isinstance(off, Iterable):
        raise TypeError(
            f"{argument} must hold names of covariates or labels such as 'B[photic, V5, V1]', "
            f"got {off!r}"
        )
    entries: list[tuple[str | None, str | None, float | None]] = []
    if isinstance(off, Mapping):
        for covariate, names in off.items():
            if isinstance(names, str):
                names = [names]
            for name in names:
                value = None
                if isinstance(names, Mapping):
                    value = names[name]
                    if not np.isscalar(value) or not np.isreal(value) or not np.isfinite(value):
                        raise ValueError(
                            f"{argument}[{covariate!r}][{name!r}] must be a finite number, got "
                            f"{value!r}"
                        )
                entries.append((covariate, name, value))
        return entries
    for entry in off:
        if isinstance(entry, tuple) and len(entry) == 2:
            entries.append((*entry, None))
        elif entry in effects.covariates and entry in effects.names:
            raise ValueError(
                f"{argument} names {entry!r}, a covariate and a parameter; name pairs of a "
                "covariate and a parameter"
            )
        elif entry in effects.covariates:
            entries.append((entry, None, None))
        else:
            entries.append((None, entry, None))
    return entries


def _positions(
    effects: GroupEffects, covariate: str | None, name: str | None, argument: str
) -> list[int]:
    covariates, names = effects.covariates, effects.names
    if covariate is not None and covariate not in covariates:
        raise ValueError(
            f"{argument} names the covariate {covariate!r}; expected one of "
            f"{', '.join(map(repr, covariates))}"
        )
    if name is not None and name not in names:
        raise ValueError(
            f"{argument} names {name!r}, which is neither a covariate nor a parameter of the "
            f"group; expected one of {', '.join(map(repr, [*covariates, *names]))}"
        )
    within = range(len(effects.parameters)) if name is None else names[name]
    chosen = covariates if covariate is None else [covariate]
    size = len(effects.parameters)
    return [covariates.index(c) * size + p for c in chosen for p in within]


def reduce_effects(effects: GroupEffects, off: Any) -> ReducedEffects:
    """See `GroupEffects.reduce`.

    Parameters
    ----------
    effects : GroupEffects
        From `bayesdcm.group.peb`.
    off : str, sequence or mapping
        As there.

    Returns
    -------
    ReducedEffects
        The reduced model.
    """
    values = off_values(effects, off)
    moments = scaled_moments(effects)
    unit = effects.effect_units
    index = np.array(sorted(values), int)
    mean, covariance = moments[2].copy(), moments[3].copy()
    mean[index] = [values[i] / unit[i] for i in index]
    covariance[index] = 0.0
    covariance[:, index] = 0.0
    reduced = under_priors(moments, mean, covariance, 0.0)
    centre, spread = reduced.mean, reduced.covariance
    centre[index] = mean[index]
    spread[index] = 0.0
    spread[:, index] = 0.0
    change, size = float(reduced.change), len(effects.parameters)
    pairs = [divmod(int(i), size) for i in index]
    return ReducedEffects(
        effects.covariates,
        effects.parameters,
        effects.log_evidence + change,
        (centre * unit).reshape(-1, size).T,
        spread * np.outer(unit, unit),
        change,
        tuple((effects.covariates[c], effects.parameters[p]) for c, p in pairs),
    )


@dataclass(frozen=True, eq=False)
class EffectsSearch:
    """Models of a group with fewer effects; made by `GroupEffects.search`.

    Parameters
    ----------
    models : pandas.DataFrame
        One row a model of the last set searched, best first: a column for each effect that they
        differ in, named ``"covariate: parameter"`` (True where it is on), ``change`` (of
        log-evidence against the full model, nats) and ``probability``.
    present : pandas.DataFrame
        Posterior probability that effects are there, over the last set of models; parameters in
        rows, covariates in columns. Of those that a greedy search kept before that set, against
        the model without them alone; missing for those that it pruned before, and for those that
        were not searched.
    mean, sd : pandas.DataFrame
        Average over models of the posterior of all effects.
    best : ReducedEffects
        The best model found.
    """

    models: pd.DataFrame
    present: pd.DataFrame
    mean: pd.DataFrame = field(repr=False)
    sd: pd.DataFrame = field(repr=False)
    best: ReducedEffects

    def __repr__(self) -> str:
        searched = int((self.summary()["search"] != "not searched").sum())
        return (
            f"EffectsSearch({searched} effects, "
            f"{len(self.best.off)} of them off in the best model, log evidence "
            f"{self.best.change:+.2f})"
        )

    def summary(self) -> pd.DataFrame:
        """Averaged posterior of every effect, one row each.

        Returns
        -------
        pandas.DataFrame
            Columns ``covariate``, ``parameter``, ``mean``, ``sd``, ``present``, and ``search``,
            what the search did with the effect: ``"searched"`` (in the last set of models),
            ``"kept"`` or ``"pruned"`` (before it; ``present`` of those pruned is not known),
            ``"not searched"``.
        """
        table = tidy({"mean": self.mean, "sd": self.sd, "present": self.present})
        table["search"] = [
            fate(f"{c}: {p}" in self.models.columns, (c, p) in self.best.off, value)
            for c, p, value in table[["covariate", "parameter", "present"]].itertuples(index=False)
        ]
        return table


def search_effects(effects: GroupEffects, among: Any, exhaustive: int) -> EffectsSearch:
    """See `GroupEffects.search`.

    Parameters
    ----------
    effects : GroupEffects
        From `bayesdcm.group.peb`.
    among : str, sequence or mapping, optional
        As there.
    exhaustive : int
        As there.

    Returns
    -------
    EffectsSearch
        What was found.
    """
    if isinstance(exhaustive, bool) or not isinstance(exhaustive, int | np.integer):
        raise TypeError(f"exhaustive must be a whole number, got {exhaustive!r}")
    if not 1 <= exhaustive <= MOST_EXHAUSTIVE:
        raise ValueError(f"exhaustive must be from 1 to {MOST_EXHAUSTIVE}, got {exhaustive}")
    values = _all_values(effects) if among is None else off_values(effects, among, "among")
    size, n_covariates = len(effects.parameters), len(effects.covariates)
    unit = effects.effect_units
    candidates = np.array(sorted(values), int)
    absent = np.zeros(len(unit))
    absent[candidates] = [values[i] for i in candidates]
    search = search_gaussian(
        *scaled_moments(effects),
        candidates,
        absent=absent / unit,
        exhaustive=int(exhaustive),
        tolerance=0.0,
    )

    def table(values: NDArray) -> pd.DataFrame:
        return effects._table(values.reshape(n_covariates, size).T)

    labels = [f"{c}: {p}" for c in effects.covariates for p in effects.parameters]
    models = pd.DataFrame(~search.off, columns=[labels[i] for i in search.searched])
    models["change"], models["probability"] = search.change, search.probability
    models = models.sort_values("change", ascending=False, ignore_index=True, kind="stable")
    present = np.full(len(unit), np.nan)
    present[candidates] = search.supported[candidates]
    gone: dict[str, dict[str, float]] = {}
    for i in candidates:
        if not search.kept[i]:
            c, p = divmod(int(i), size)
            gone.setdefault(effects.covariates[c], {})[effects.parameters[p]] = absent[i]
    return EffectsSearch(
        models,
        table(present),
        table(search.mean * unit),
        table(np.sqrt(search.variance) * unit),
        reduce_effects(effects, gone),
    )


def _all_values(effects: GroupEffects) -> dict[int, float]:
    """All effects, but for means of logarithms that are at no value absent."""
    values = {}
    for i in range(effects.centre.size):
        try:
            values[i] = effects.absent(i)
        except ValueError:
            continue
    if not values:
        raise ValueError(
            "among must be given with values: all effects are means of logarithms, which are at no "
            "value absent; such as among={'mean': {label: 0.0, ...}}"
        )
    return values
