"""What the fit leaves of the data, against the noise that the model assumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesdcm.infer.evoked_fit_quality import autocorrelations, evenly
from bayesdcm.plot import style
from bayesdcm.plot.data_fit import MOST_ROWS, mark_origin
from bayesdcm.plot.quantities import finite
from bayesdcm.plot.series import arranged, fitted_series, power_of_thousand
from bayesdcm.plot.spectra import has_spectra
from bayesdcm.plot.style import Canvas

# Quantiles of a 95 % band.
BAND = (0.025, 0.975)


def plot_residuals(
    fit: Any,
    *,
    n_lags: int | None = None,
    names: Sequence[str] | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw the residuals and their autocorrelation.

    Autocorrelations outside the grey band (95 % of those of noise that the model would generate)
    say that the noise is not as the model takes it to be: its posterior is then too narrow.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit by any method with a Gaussian observation of this package.
    n_lags : int, optional
        Longest lag of the autocorrelation, in data points (scans, samples). None: 20, or half the
        data points where these are fewer than 40.
    names : sequence of str, optional
        Regions, channel modes or pairs to draw. None: up to 12, as for `plot_fit`.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Two panels for each region or channel mode, with a line for each condition. Residuals of
        cross-spectra, whose noise grows with power, are in its standard deviations.

    Raises
    ------
    ValueError
        If the fit has no such observation, or `n_lags` is not between 1 and half the data points,
        or data have no such name.
    """
    series = fitted_series(fit)
    n_lags = _longest_lag(n_lags, len(series.points))
    shown = series.shown(names, MOST_ROWS)
    residuals = (series.observed - series.mean)[..., shown]
    group, data = fit.idata.posterior_predictive, fit.idata.observed_data[series.site]
    replicated, fitted = (arranged(group[f"{series.site}{end}"], data) for end in ("", "_fitted"))
    noise = evenly(finite(replicated - fitted)[..., shown])
    scaled = has_spectra(fit)
    if scaled:
        sizes = noise.std(0)
        residuals, noise = residuals / (series.scale * sizes), noise / sizes
    correlations, exponent = autocorrelations(residuals, n_lags), power_of_thousand(residuals)
    band = np.quantile(autocorrelations(noise, n_lags), BAND, axis=0)
    lags = (np.arange(n_lags) + 1) * (series.points[1] - series.points[0])
    n = len(shown)
    figure = figure or style.new_figure(9.5, max(1.3 * n, 1.8) + 1.3)
    axes = figure.subplots(n, 2, sharex="col", squeeze=False, width_ratios=[2.2, 1])
    for row, (left, right) in enumerate(axes):
        values = 10.0**-exponent * residuals[..., row]
        mark_origin(left, series.points, values)
        for i, name in enumerate(series.conditions):
            left.plot(series.points, values[i], color=style.colour(i), linewidth=0.8, label=name)
        style.panel_title(left, series.columns[shown[row]], fontweight="bold", pad=3)
        left.set_title(f"standard deviation {values.std():.3g}", loc="right", fontsize="small",
                       color=style.INK, pad=3)  # fmt: skip
        style.tidy(left)
        _draw_autocorrelation(right, lags, correlations[:, row], band[..., row])
    axes[-1, 0].set(xlabel=series.label(), xlim=(series.points[0], series.points[-1]))
    axes[-1, 1].set(xlabel=series.label("lag"))
    style.panel_title(axes[0, 1], "autocorrelation", pad=3)
    label = series.value_label("residual", exponent)
    label = "residual (standard deviations of the model's noise)" if scaled else label
    figure.supylabel(label, fontsize="medium")
    style.heading(figure, f"Residuals ({series.method}{series.some(n)})")
    style.legend(figure, style.labelled(axes[0]), loc="outside upper right")
    return figure


def _longest_lag(n_lags: int | None, n_points: int) -> int:
    """Longest lag to draw, checked: by default 20, or half the data points."""
    most = n_points // 2
    n_lags = min(20, most) if n_lags is None else n_lags
    if not 1 <= n_lags <= most:
        raise ValueError(f"n_lags must be from 1 to {most}, got {n_lags}")
    return n_lags


def _draw_autocorrelation(ax: Axes, lags: NDArray, values: NDArray, band: NDArray) -> None:
    ax.fill_between(lags, *band, color="#dddddd", linewidth=0, label="95 % of the model's noise")
    ax.axhline(0, color=style.MUTED, linewidth=0.8)
    outside = (values < band[0]) | (values > band[1])
    tints = np.where(outside, style.INK, style.MUTED)
    ax.vlines(lags, 0, values, colors=tints, linewidth=np.where(outside, 2.0, 1.0))
    ax.scatter(lags, values, c=tints, s=np.where(outside, 14, 8), zorder=3)
    reach = max(0.3, 1.15 * np.abs([*values, *band.ravel()]).max())
    ax.set_ylim(-reach, reach)
    style.tidy(ax)
