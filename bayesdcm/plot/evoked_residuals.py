"""What a fit leaves of evoked responses, against the noise that the model assumes."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from bayesdcm.plot.evoked_fit import mark_stimulus
from bayesdcm.plot.evoked_series import SITE, evoked_series, power_of_thousand, power_text
from bayesdcm.plot.quantities import finite, flat_draws
from bayesdcm.plot.style import INK, MUTED, colour, tidy

# Quantiles of a 95 % band.
BAND = (0.025, 0.975)


def draw_evoked_residuals(
    fit: Any, n_lags: int | None, figure: Figure | SubFigure | None
) -> Figure | SubFigure:
    """Draw residuals and autocorrelations; `plot_residuals` of a fit of evoked responses.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of `EvokedDCM`.
    n_lags : int or None
        Longest lag of the autocorrelation, in samples, as for `plot_residuals`.
    figure : matplotlib.figure.Figure or SubFigure or None
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Two panels for each mode.

    Raises
    ------
    ValueError
        If `n_lags` is not between 1 and half the samples.
    """
    series = evoked_series(fit)
    n_lags = longest_lag(n_lags, len(series.time))
    residuals = series.observed - series.mean
    expected = np.quantile(autocorrelations(_replicated(fit), n_lags), BAND, axis=0)
    found, exponent = autocorrelations(residuals, n_lags), power_of_thousand(residuals)
    lags = (np.arange(n_lags) + 1) * (series.time[1] - series.time[0])
    n = len(series.modes)
    if figure is None:
        figure = plt.figure(figsize=(9.5, 1.3 * n + 1.3), layout="constrained")
    axes = figure.subplots(n, 2, sharex="col", squeeze=False, width_ratios=[2.2, 1])
    for row, (left, right) in enumerate(axes):
        _draw_residuals(left, series.time, 10.0**-exponent * residuals[..., row], series.conditions)
        left.set_title(series.modes[row], loc="left", fontsize="medium", fontweight="bold", pad=3)
        _draw_autocorrelation(right, lags, found[:, row], expected[..., row])
    axes[-1, 0].set(xlabel="time after the stimulus (ms)", xlim=(series.time[0], series.time[-1]))
    axes[-1, 1].set(xlabel="lag (ms)")
    axes[0, 1].set_title("autocorrelation", loc="left", fontsize="medium", pad=3)
    figure.supylabel(f"residual ({power_text(exponent)}units of the data)", fontsize="medium")
    figure.suptitle(f"Residuals ({series.method})", x=0.01, ha="left", fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    more, words = axes[0, 1].get_legend_handles_labels()
    figure.legend([*handles, *more], [*labels, *words], loc="outside upper right", frameon=False,
                  ncols=len(labels) + len(words), fontsize="small")  # fmt: skip
    return figure


def longest_lag(n_lags: int | None, n_points: int) -> int:
    """Longest lag to draw, checked: by default 20, or half the data points.

    Examples
    --------
    >>> longest_lag(None, 100), longest_lag(None, 24)
    (20, 12)
    """
    most = n_points // 2
    n_lags = min(20, most) if n_lags is None else n_lags
    if not 1 <= n_lags <= most:
        raise ValueError(f"n_lags must be from 1 to {most}, got {n_lags}")
    return n_lags


def autocorrelations(values: NDArray, n_lags: int) -> NDArray:
    """Autocorrelation over time at lags 1 to `n_lags`, all conditions together.

    Parameters
    ----------
    values : ndarray
        Shape (..., conditions, times, modes).
    n_lags : int
        Longest lag.

    Returns
    -------
    ndarray
        Shape (..., lags, modes).

    Examples
    --------
    >>> autocorrelations(np.array([[[1.0], [-1.0], [1.0], [-1.0]]]), 2).tolist()
    [[-0.75], [0.5]]
    """
    centred = values - values.mean(-2, keepdims=True)
    whole = (centred**2).sum((-3, -2))
    products = [
        (centred[..., lag:, :] * centred[..., :-lag, :]).sum((-3, -2))
        for lag in range(1, n_lags + 1)
    ]
    return np.stack(products, axis=-2) / whole[..., None, :]


def _replicated(fit: Any) -> NDArray:
    """Noise of data that the posterior would generate, (draws, conditions, times, modes)."""
    group = fit.idata.posterior_predictive
    return finite(flat_draws(group[SITE]) - flat_draws(group[f"{SITE}_fitted"]))


def _draw_residuals(ax: Axes, time: NDArray, residuals: NDArray, conditions: list[str]) -> None:
    mark_stimulus(ax, time)
    for i, name in enumerate(conditions):
        ax.plot(time, residuals[i], color=colour(i), linewidth=0.8, label=name)
    ax.set_title(f"standard deviation {residuals.std():.3g}", loc="right", fontsize="small",
                 color=INK, pad=3)  # fmt: skip
    tidy(ax)


def _draw_autocorrelation(ax: Axes, lags: NDArray, values: NDArray, band: NDArray) -> None:
    ax.fill_between(lags, *band, color="#dddddd", linewidth=0, label="95 % of the model's noise")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    outside = (values < band[0]) | (values > band[1])
    tints = np.where(outside, INK, MUTED)
    ax.vlines(lags, 0, values, colors=tints, linewidth=np.where(outside, 2.0, 1.0))
    ax.scatter(lags, values, c=tints, s=np.where(outside, 14, 8), zorder=3)
    reach = max(0.3, 1.15 * np.abs([*values, *band.ravel()]).max())
    ax.set_ylim(-reach, reach)
    tidy(ax)
