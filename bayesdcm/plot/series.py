"""Observed and fitted series, region by region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.divergence import left_out_text
from bayesdcm.plot.quantities import axis_names, finite, flat_draws

SUFFIX = "_fitted"


@dataclass(frozen=True, eq=False)
class Series:
    """Data and fit.

    Attributes
    ----------
    time : ndarray
        Shape (times,): in s where the model has times, else counted.
    time_label : str
        What `time` is, with its unit.
    names : list of str
        Names of the columns.
    observed, mean, low, high : ndarray
        Shape (times, columns): the data, the posterior mean of the fit and its credible band.
    method : str
        Method of the fit, and how many draws that diverge are left out.
    """

    time: NDArray
    time_label: str
    names: list[str]
    observed: NDArray
    mean: NDArray
    low: NDArray
    high: NDArray
    method: str


def fitted_series(fit: Any, interval: float = 0.9) -> Series:
    """Observed data of a fit and what the posterior makes of them, confounds included.

    Parameters
    ----------
    fit : bayesdcm.Fit
        Any fit with a Gaussian observation of this package; the first, where there are several.
    interval : float
        Probability inside the band.

    Returns
    -------
    Series
        In the units of the data.

    Raises
    ------
    ValueError
        If the fit has no such observation, it has more than two axes, or the model diverges at
        every draw.
    """
    group, observed = fit.idata.posterior_predictive, fit.idata.observed_data
    sites = [name for name in observed.data_vars if f"{name}{SUFFIX}" in group]
    if not sites:
        raise ValueError(
            "the fit has no Gaussian observation (bayesdcm.observe.gaussian), so there is no "
            "fitted series to draw"
        )
    array = observed[sites[0]]
    if array.ndim not in (1, 2):
        raise ValueError(f"{sites[0]!r} must have one or two axes to be drawn, got {array.ndim}")
    fitted = flat_draws(group[f"{sites[0]}{SUFFIX}"])
    draws = finite(fitted.reshape(*fitted.shape[:2], -1))
    tail = (1 - interval) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    first = array.dims[0]
    timed = first == "time" and "time" in array.coords
    names = axis_names(array, array.dims[1]) if array.ndim == 2 else [str(sites[0])]
    return Series(
        time=np.asarray(array["time"]) if timed else np.arange(array.sizes[first]),
        time_label="time (s)" if timed else "data point",
        names=names,
        observed=array.to_numpy().reshape(len(array), -1),
        mean=draws.mean(0),
        low=low,
        high=high,
        method=fit.method + left_out_text(len(fitted) - len(draws), len(fitted)),
    )
