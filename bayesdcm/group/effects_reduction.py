"""Group models without some effects: their evidence in closed form, and a search among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.compare.gaussian_fit import Moments, in_units
from bayesdcm.compare.reduction import with_moments
from bayesdcm.compare.search import fate, search_labelled
from bayesdcm.group.gaussian_effects import ReducedEffects, tidy
from bayesdcm.group.other_priors import under_priors

if TYPE_CHECKING:
    from bayesdcm.group.group_effects import GroupEffects


def scaled_moments(effects: GroupEffects) -> Moments:
    """Moments of effects over their unit, covariate by covariate."""
    posterior = effects.centre.T.ravel(), effects.spread
    prior = effects.prior_centre.T.ravel(), effects.prior_spread
    return in_units(effects.effect_units, *posterior, *prior)


def off_values(effects: GroupEffects, off: Any, argument: str = "off") -> dict[int, float]:
    """Values of effects that are switched off, by position; errors call `off` the `argument`."""
    values: dict[int, float] = {}
    for covariate, name, value in _wanted(effects, off, argument):
        for i in _positions(effects, covariate, name, argument):
            if i in values:
                c, p = effects.pairs[i]
                raise ValueError(
                    f"the effect of {c!r} on {p!r} is named twice in {argument}; name it once"
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
            for name in [names] if isinstance(names, str) else names:
                value = names[name] if isinstance(names, Mapping) else None
                number = np.isscalar(value) and np.isreal(value) and np.isfinite(value)
                if isinstance(names, Mapping) and not number:
                    raise ValueError(
                        f"{argument}[{covariate!r}][{name!r}] must be a finite number, got "
                        f"{value!r}"
                    )
                entries.append((covariate, name, value))
        return entries
    for entry in off:
        if entry in effects.covariates and entry in effects.names:
            raise ValueError(
                f"{argument} names {entry!r}, a covariate and a parameter; name pairs of a "
                "covariate and a parameter"
            )
        pair = (entry, None) if entry in effects.covariates else (None, entry)
        pair = entry if isinstance(entry, tuple) and len(entry) == 2 else pair
        entries.append((*pair, None))
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
    size = len(effects.parameters)
    within = range(size) if name is None else names[name]
    chosen = covariates if covariate is None else [covariate]
    return [covariates.index(c) * size + p for c in chosen for p in within]


def reduce_effects(effects: GroupEffects, off: Any) -> ReducedEffects:
    """See `GroupEffects.reduce`."""
    return _reduced(effects, off_values(effects, off))


def _reduced(effects: GroupEffects, values: Mapping[int, float]) -> ReducedEffects:
    """Without the effects at some positions, which are at these values."""
    moments, unit = scaled_moments(effects), effects.effect_units
    fixed = {i: (values[i] / unit[i], 0.0) for i in sorted(values)}
    reduced = under_priors(moments, *with_moments(*moments[2:], fixed), 0.0)
    centre, spread = with_moments(reduced.mean, reduced.covariance, fixed)
    change = float(reduced.change)
    return ReducedEffects(
        effects.covariates,
        effects.parameters,
        effects.log_evidence + change,
        (centre * unit).reshape(len(effects.covariates), -1).T,
        spread * np.outer(unit, unit),
        change,
        tuple(effects.pairs[i] for i in fixed),
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
        Average over models of the posterior of all effects. As in SPM, models are averaged without
        what the best one lacks: such an effect has the value at which it is off, 0 by default, and
        an sd of next to 0, even where ``present`` is not near 0.
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
            Columns ``covariate``, ``parameter``, ``mean`` and ``sd`` (of effects that the best
            model lacks, value when off and about 0), ``present``, and ``search``, what the search
            did with the effect: ``"searched"`` (in the last set of models), ``"kept"`` or
            ``"pruned"`` (before it; ``present`` of those pruned is not known), ``"not searched"``.
        """
        table = tidy({"mean": self.mean, "sd": self.sd, "present": self.present})
        table["search"] = [
            fate(f"{c}: {p}" in self.models.columns, (c, p) in self.best.off, value)
            for c, p, value in table[["covariate", "parameter", "present"]].itertuples(index=False)
        ]
        return table


def search_effects(effects: GroupEffects, among: Any, exhaustive: int) -> EffectsSearch:
    """See `GroupEffects.search`."""
    values = _all_values(effects) if among is None else off_values(effects, among, "among")
    unit = effects.effect_units
    labels = np.array([f"{c}: {p}" for c, p in effects.pairs], dtype=object)
    search, models, gone = search_labelled(
        scaled_moments(effects), unit, values, labels, exhaustive
    )

    def table(values: NDArray) -> pd.DataFrame:
        return effects._table(values.reshape(len(effects.covariates), -1).T)

    return EffectsSearch(
        models,
        table(search.supported),
        table(search.mean * unit),
        table(np.sqrt(search.variance) * unit),
        _reduced(effects, gone),
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
