"""Observed and fitted series: along time or another axis, by condition, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.infer.divergence import left_out_text
from bayesdcm.infer.findings import listed
from bayesdcm.plot.quantities import check_fit, finite, flat_draws

# Axes that series run along, where data have one of them; otherwise it is their first.
RUNNING = ("time", "frequency")
# Units of data that figures show others for, and how many of these make one of the former.
SHOWN_UNITS = {"A m": ("nAm", 1e9)}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, eq=False)
class Series:
    """Data, and what the posterior makes of them, in the units that are shown."""

    site: str
    points: NDArray  # where data lie along their axis; counted where it has no values
    words: str  # what the axis is
    unit: str  # empty where data points are counted
    columns: list[str]  # regions, channel modes, ...
    conditions: list[str]  # one empty name where the data have no such axis
    observed: NDArray  # (conditions, points, columns)
    draws: NDArray  # of the fit, confounds included, (draws, conditions, points, columns)
    value_unit: str  # of the values; empty where it is not known
    scale: float  # from the unit of the fit's arrays to it
    method: str  # and how many draws that diverge are left out

    @property
    def mean(self) -> NDArray:
        """Posterior mean, shape (conditions, points, columns)."""
        return self.draws.mean(0)

    def shown(self, names: Sequence[str] | None, most: int) -> list[int]:
        """Columns to draw: those of these names; or all, or of many some.

        These are evenly chosen by how much of their variance is explained, the least one first.
        """
        n = len(self.columns)
        if names is not None:
            return named_places(names, self.columns)
        if n <= most:
            return list(range(n))
        left, whole = (x.var((0, 1)) for x in (self.observed - self.mean, self.observed))
        order = np.argsort(-left / np.maximum(whole, np.finfo(float).tiny))
        return order[np.linspace(0, n - 1, most).astype(int)].tolist()

    def some(self, count: int) -> str:
        """Words for a heading that say which columns are drawn; empty where all are."""
        n = len(self.columns)
        return "" if count == n else f", {count} of {n}"

    def band(self, interval: float) -> NDArray:
        """Bounds of the band that holds a probability, (2, conditions, points, columns)."""
        tail = (1 - interval) / 2
        return np.quantile(self.draws, [tail, 1 - tail], axis=0)

    def label(self, words: str = "") -> str:
        """What the axis is, or these words, with its unit."""
        return f"{words or self.words} ({self.unit})" if self.unit else words or self.words

    def value_label(self, words: str, exponent: int) -> str:
        """What values are, in these words, with a power of ten and their unit."""
        return f"{words} ({power_text(exponent)}{self.value_unit or 'units of the data'})"


def fitted_series(fit: Any) -> Series:
    """Observed data of a fit and what the posterior makes of them, confounds included.

    Of the first Gaussian observation of this package, where there are several; finite draws only.
    """
    check_fit(fit)
    group, observed = fit.idata.posterior_predictive, fit.idata.observed_data
    site = next((str(name) for name in observed.data_vars if f"{name}_fitted" in group), None)
    if site is None:
        raise ValueError(
            "the fit has no Gaussian observation (bayesdcm.observe.gaussian), so there is no "
            "fitted series to draw"
        )
    array = observed[site]
    running, others = data_axes(array)
    points, words, unit = np.arange(array.sizes[running]), "data point", ""
    if running in array.coords:
        words, unit, factor = fit.facts.axis(running)
        # Names, such as those of pairs of regions, count.
        if np.issubdtype(array[running].dtype, np.number):
            points = factor * np.asarray(array[running])
    names = [axis_names(array, axis) for axis in others]
    fitted = arranged(group[f"{site}_fitted"], array)
    draws = finite(fitted)
    value_unit, scale = shown_unit(fit.facts.unit(site))
    alone = site if fit.facts.kind == "program" else fit.facts.kind
    return Series(
        site=site,
        points=points,
        words=words,
        unit=unit,
        columns=[", ".join(column) for column in product(*names)] if names else [alone],
        conditions=axis_names(array, "condition") if "condition" in array.dims else [""],
        observed=scale * arranged(array, array),
        draws=scale * draws,
        value_unit=value_unit,
        scale=scale,
        method=fit.method + left_out_text(len(fitted) - len(draws), len(fitted)),
    )


def named_places(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Places of names among those that data have; ValueError for others."""
    missing = [name for name in names if name not in known]
    if missing or isinstance(names, str) or not len(names):
        raise ValueError(
            f"names must be some of those of the data, such as {listed(list(known))}; got "
            f"{list(names) if not isinstance(names, str) else names!r}"
        )
    return [list(known).index(name) for name in names]


def shown_unit(unit: str) -> tuple[str, float]:
    """The unit that figures show values in, and the factor to it.

    Examples
    --------
    >>> shown_unit("A m"), shown_unit("Hz")
    (('nAm', 1000000000.0), ('Hz', 1.0))
    """
    return SHOWN_UNITS.get(unit, (unit, 1.0))


def data_axes(array: Any) -> tuple[str, list[str]]:
    """The axis that data run along, and those whose entries are columns."""
    axes = [str(axis) for axis in array.dims if axis != "condition"]
    running = next((axis for axis in RUNNING if axis in axes), axes[0])
    return running, [axis for axis in axes if axis != running]


def arranged(array: Any, like: Any) -> NDArray:
    """Values with the axes (draws,) conditions, points and columns.

    The array has the axes of the data that it is like, and perhaps ``chain`` and ``draw``.
    """
    running, others = data_axes(like)
    axes = [*(["condition"] if "condition" in like.dims else []), running, *others]
    # By place: programs whose axes have no names get another one for each array.
    order = [like.dims.index(axis) for axis in axes]
    shape = (like.sizes.get("condition", 1), like.sizes[running], -1)
    if "draw" not in array.dims:
        return array.to_numpy().transpose(order).reshape(shape)
    values = flat_draws(array)
    return values.transpose(0, *(place + 1 for place in order)).reshape(len(values), *shape)


def power_of_thousand(values: NDArray) -> int:
    """Exponent of ten, a multiple of three, that leaves numbers of one to three digits."""
    largest = float(np.abs(values).max())
    if largest == 0 or 0.1 <= largest < 1000:
        return 0
    return int(3 * np.floor(np.log10(largest) / 3))


def superscript(number: int) -> str:
    """Typeset a whole number as an exponent."""
    return str(number).translate(SUPERSCRIPTS)


def power_text(exponent: int) -> str:
    """Typeset a power of ten with a product sign, nothing for the zeroth."""
    return f"10{superscript(exponent)} ×\N{NO-BREAK SPACE}" if exponent else ""
