"""Given models of a group: which parameters its mean has, and which a covariate acts on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from bayesdcm.compare.search import OCCAM_WINDOW
from bayesdcm.group.effects_reduction import scaled_moments
from bayesdcm.group.gaussian_effects import tidy
from bayesdcm.group.other_priors import under_priors

if TYPE_CHECKING:
    from bayesdcm.group.group_effects import GroupEffects

# Models scored at once.
BATCH = 1024


@dataclass(frozen=True, eq=False)
class EffectsComparison:
    """Models of a group, compared; made by `GroupEffects.compare`.

    Parameters
    ----------
    change : pandas.DataFrame
        Log-evidence minus that of the full model, nats: model of the group mean in rows, model of
        the effects of the covariate in columns (one column where there is no covariate).
    probability : pandas.DataFrame
        Posterior probability of the combinations, same shape.
    commonalities : pandas.Series
        Posterior probability that each parameter is there in the group mean.
    differences : pandas.Series or None
        That the covariate acts on each parameter; None where there is none.
    mean, sd : pandas.DataFrame
        Average over models of the posterior of all effects.
    """

    change: pd.DataFrame
    probability: pd.DataFrame
    commonalities: pd.Series
    differences: pd.Series | None
    mean: pd.DataFrame = field(repr=False)
    sd: pd.DataFrame = field(repr=False)

    def __repr__(self) -> str:
        row, column = np.unravel_index(self.probability.to_numpy().argmax(), self.probability.shape)
        best = str(self.probability.index[row])
        if self.differences is not None:
            best += f" and {self.probability.columns[column]}"
        return (
            f"EffectsComparison({len(self.probability)} models, best {best} with probability "
            f"{self.probability.to_numpy().max():.2f})"
        )

    def summary(self) -> pd.DataFrame:
        """Averaged posterior of every effect, one row each.

        Returns
        -------
        pandas.DataFrame
            Columns ``covariate``, ``parameter``, ``mean``, ``sd`` and ``present``, the posterior
            probability that the effect is there.
        """
        present = self.mean * 0 + 1.0
        present[present.columns[0]] = self.commonalities
        if self.differences is not None:
            present[self.differences.name] = self.differences
        return tidy({"mean": self.mean, "sd": self.sd, "present": present})


def compare_effects(effects: GroupEffects, models: Any, covariate: str | None) -> EffectsComparison:
    """See `GroupEffects.compare`."""
    names, on = _patterns(effects, models)
    covariates = effects.covariates
    if covariate is not None and covariate not in covariates[1:]:
        raise ValueError(
            f"covariate must be one of {', '.join(map(repr, covariates[1:])) or 'none'} (besides "
            f"the group mean), got {covariate!r}"
        )
    if covariate is None and len(covariates) > 1:
        covariate = covariates[1]
    n, size = len(on), len(effects.parameters)
    columns = ["all"] if covariate is None else pd.Index(names, name=covariate)
    whole = np.ones((n, len(columns), len(covariates), size), bool)
    whole[:, :, 0] = on[:, None]
    if covariate is not None:
        whole[:, :, covariates.index(covariate)] = on
    change, means, variances = _score(effects, whole.reshape(-1, len(covariates) * size))
    probability = softmax(change).reshape(n, -1)

    worth = change > change.max() - OCCAM_WINDOW
    weight = softmax(change[worth])
    average = weight @ means[worth]
    variance = weight @ (variances[worth] + means[worth] ** 2) - average**2
    unit = effects.effect_units

    def table(values: NDArray) -> pd.DataFrame:
        return effects._table((values * unit).reshape(len(covariates), size).T)

    def square(values: NDArray) -> pd.DataFrame:
        return pd.DataFrame(values.reshape(n, -1), pd.Index(names, name=covariates[0]), columns)

    def presence(marginal: NDArray, name: str) -> pd.Series:
        index = pd.Index(effects.parameters, name="parameter")
        return pd.Series([_present(marginal, column) for column in on.T], index, name=name)

    return EffectsComparison(
        square(change),
        square(probability),
        presence(probability.sum(1), covariates[0]),
        None if covariate is None else presence(probability.sum(0), covariate),
        table(average),
        table(np.sqrt(np.maximum(variance, 0.0))),
    )


def _present(marginal: NDArray, on: NDArray) -> float:
    """SPM's rule: mean probability of the models with a parameter against that of those without."""
    if on.all() or not on.any():
        return float(on.all())
    with_it, without = marginal[on].mean(), marginal[~on].mean()
    return float(with_it / (with_it + without))


def _score(effects: GroupEffects, on: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    full = scaled_moments(effects)
    absent = np.zeros(on.shape[1])
    for i in np.flatnonzero(~on.all(0)):
        absent[i] = effects.absent(int(i)) / effects.effect_units[i]
    parts = []
    for batch in np.split(on, range(BATCH, len(on), BATCH)):
        means = np.where(batch, full[2], absent)
        covariances = full[3] * (batch[:, :, None] & batch[:, None])
        reduced = under_priors(full, means, covariances, 0.0)
        variances = np.diagonal(reduced.covariance, axis1=1, axis2=2)
        parts.append((reduced.change, reduced.mean, variances))
    change, mean, variance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return change, np.where(on, mean, absent), np.where(on, variance, 0.0)


def _patterns(effects: GroupEffects, models: Any) -> tuple[list[str], NDArray]:
    """Names of models, and which parameters each has; repeated ones are left out."""
    size = len(effects.parameters)
    if isinstance(models, Mapping):
        names, rows = [str(name) for name in models], []
        for name, off in models.items():
            row = np.ones(size, bool)
            for label in [off] if isinstance(off, str) else off:
                if label not in effects.names:
                    raise ValueError(
                        f"models[{name!r}] names {label!r}, which is no parameter of the group; "
                        f"expected some of {', '.join(map(repr, effects.names))}"
                    )
                row[effects.names[label]] = False
            rows.append(row)
        on = np.array(rows, bool).reshape(len(rows), size)
    else:
        names, on = _table_patterns(effects, models)
    if len(on) < 2 or len(np.unique(on, axis=0)) < len(on):
        raise ValueError(
            f"models must be two or more that differ from each other, got {len(on)}, of which "
            f"{len(np.unique(on, axis=0))} differ"
        )
    return names, on


def _table_patterns(effects: GroupEffects, models: Any) -> tuple[list[str], NDArray]:
    size = len(effects.parameters)
    if not isinstance(models, pd.DataFrame):
        if np.ndim(models) != 2 or np.shape(models)[1] != size:
            raise ValueError(
                f"models must have the shape (models, {size}), one column a parameter, or be a "
                f"mapping; got shape {np.shape(models)}"
            )
        models = pd.DataFrame(np.asarray(models), columns=effects.parameters)
    unknown = [name for name in models.columns if name not in effects.parameters]
    if unknown:
        raise ValueError(
            f"models has a column {unknown[0]!r}, which is no parameter of the group; expected "
            f"some of {', '.join(map(repr, effects.parameters))}"
        )
    values = models.reindex(columns=effects.parameters, fill_value=1).to_numpy()
    if not np.isin(values, [0, 1]).all():
        raise ValueError("models must be 1 where parameters are on and 0 where they are off")
    return [str(name) for name in models.index], values.astype(bool)
