"""What the fit leaves of the data, and whether it looks like white noise."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from bayesdcm.plot.evoked_residuals import draw_evoked_residuals, longest_lag
from bayesdcm.plot.quantities import is_evoked
from bayesdcm.plot.series import fitted_series
from bayesdcm.plot.style import INK, MUTED, colour, tidy

# Normal quantile of a 95 % band about zero.
BAND = 1.96


def plot_residuals(
    fit: Any, *, n_lags: int | None = None, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw the residuals over time and their autocorrelation, a row for each region.

    Autocorrelations outside the grey band (95 % of those of white noise) say that the model, which
    takes the noise as white, misses structure in time: its posterior is then too narrow.
    Evoked responses have a row for each channel mode and a line for each condition; there the
    noise may be serially correlated, and the band is that of data which the model would generate.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit by any method with a Gaussian observation of this package.
    n_lags : int, optional
        Longest lag of the autocorrelation, in scans or samples. None: 20, or half the data points
        where these are fewer than 40.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Two panels for each region or channel mode.

    Raises
    ------
    ValueError
        If the fit has no such observation, or `n_lags` is not between 1 and half the data points.
    """
    if is_evoked(fit):
        return draw_evoked_residuals(fit, n_lags, figure)
    series = fitted_series(fit)
    residuals = series.observed - series.mean
    n_lags = longest_lag(n_lags, len(residuals))
    n = len(series.names)
    if figure is None:
        figure = plt.figure(figsize=(9.5, 1.3 * n + 1.1), layout="constrained")
    axes = figure.subplots(n, 2, sharex="col", squeeze=False, width_ratios=[2.2, 1])
    for row, (left, right) in enumerate(axes):
        left.axhline(0, color=MUTED, linewidth=0.8)
        left.plot(series.time, residuals[:, row], color=colour(0), linewidth=0.7)
        left.set_title(series.names[row], loc="left", fontsize="medium", fontweight="bold", pad=3)
        left.set_title(
            f"standard deviation {residuals[:, row].std():.3g}", loc="right", fontsize="small",
            color=INK, pad=3,
        )  # fmt: skip
        tidy(left)
        _draw_autocorrelation(right, autocorrelation(residuals[:, row], n_lags), len(residuals))
    axes[-1, 0].set(xlabel=series.time_label, xlim=(series.time[0], series.time[-1]))
    axes[-1, 1].set(xlabel="lag (scans)" if "time" in series.time_label else "lag")
    axes[0, 1].set_title("autocorrelation", loc="left", fontsize="medium", pad=3)
    axes[0, 1].legend(loc="upper right", fontsize="x-small", frameon=False)
    figure.supylabel("residual (units of the data)", fontsize="medium")
    figure.suptitle(f"Residuals ({series.method})", x=0.01, ha="left", fontsize="medium")
    return figure


def autocorrelation(values: NDArray, n_lags: int) -> NDArray:
    """Autocorrelation at lags 1 to `n_lags`, shape (n_lags,).

    Examples
    --------
    >>> autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]), 2).tolist()
    [-0.75, 0.5]
    """
    centred = values - values.mean()
    products = [centred[lag:] @ centred[:-lag] for lag in range(1, n_lags + 1)]
    return np.array(products) / (centred @ centred)


def _draw_autocorrelation(ax: Axes, values: NDArray, n_points: int) -> None:
    limit = BAND / np.sqrt(n_points)
    ax.axhspan(-limit, limit, color="#dddddd", linewidth=0, label="95 % of white noise")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    lags = np.arange(1, len(values) + 1)
    outside = np.abs(values) > limit
    tints = np.where(outside, colour(1), colour(0))
    ax.vlines(lags, 0, values, colors=tints, linewidth=1.5)
    ax.scatter(lags, values, c=tints, s=9, zorder=3)
    reach = max(0.3, 1.15 * np.abs(values).max())
    ax.set_ylim(-reach, reach)
    tidy(ax)
