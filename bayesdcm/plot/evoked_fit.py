"""Evoked responses against the fit: a row for each channel mode, a column for each condition."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from bayesdcm.plot.evoked_series import EvokedSeries, evoked_series, power_of_thousand, power_text
from bayesdcm.plot.style import INK, MUTED, colour, tidy


def draw_evoked_fit(
    fit: Any, interval: float, figure: Figure | SubFigure | None
) -> Figure | SubFigure:
    """Draw observed and predicted responses; `plot_fit` of a fit of evoked responses.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of `EvokedDCM`.
    interval : float
        Probability inside the credible band.
    figure : matplotlib.figure.Figure or SubFigure or None
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        A panel for each mode and condition; modes share their scale over conditions.
    """
    series = evoked_series(fit)
    axes, figure = panels(figure, len(series.modes), len(series.conditions))
    bounds = series.band(interval)
    exponent = power_of_thousand(series.observed)
    for row, column in np.ndindex(*axes.shape):
        _draw(axes[row, column], series, bounds, (column, row), 10.0**-exponent)
    label_panels(axes, series.conditions, series.modes)
    axes[0, 0].set_xlim(series.time[0], series.time[-1])
    figure.supxlabel("time after the stimulus (ms)", fontsize="medium")
    figure.supylabel(f"signal ({power_text(exponent)}units of the data)", fontsize="medium")
    handles, _ = axes[0, 0].get_legend_handles_labels()
    labels = ["data", f"fit, {100 * interval:g} % credible band", "fit, posterior mean"]
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False,
                  fontsize="small")  # fmt: skip
    figure.suptitle(f"Responses and fit ({series.method})", x=0.01, ha="left", fontsize="medium")
    return figure


def panels(
    figure: Figure | SubFigure | None, n_rows: int, n_columns: int, sharey: str = "row"
) -> tuple[NDArray, Figure | SubFigure]:
    """Axes in rows and columns, which share time.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or SubFigure or None
        Where to draw. None: a new figure.
    n_rows, n_columns : int
        How many panels.
    sharey : str
        Which panels have the same scale.

    Returns
    -------
    tuple of ndarray and figure
        Axes, shape (rows, columns), and the figure.
    """
    if figure is None:
        size = (max(2.4 * n_columns, 3.6) + 2.2, 1.15 * n_rows + 1.5)
        figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=sharey, squeeze=False)
    return axes, figure


def label_panels(axes: NDArray, columns: list[str], rows: list[str]) -> None:
    """Write the names of columns above, and of rows beside, the panels.

    Parameters
    ----------
    axes : ndarray
        Shape (rows, columns).
    columns, rows : list of str
        Their names.
    """
    for ax, name in zip(axes[0], columns, strict=True):
        ax.annotate(
            name, (0, 1), (0, 15), "axes fraction", "offset points", fontweight="bold", color=INK
        )
    for ax, name in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(name, fontweight="bold", fontsize="medium")


def mark_stimulus(ax: Axes, time: NDArray) -> None:
    """Draw the axes at no signal and at the time of the stimulus."""
    ax.axhline(0, color=MUTED, linewidth=0.5, zorder=0)
    if time[0] < 0 < time[-1]:
        ax.axvline(0, color=MUTED, linewidth=0.5, zorder=0)


def _draw(
    ax: Axes,
    series: EvokedSeries,
    bounds: tuple[NDArray, NDArray],
    place: tuple[int, int],
    scale: float,
) -> None:
    condition, mode = place
    at = (condition, slice(None), mode)
    observed, mean = series.observed[at], series.mean[at]
    mark_stimulus(ax, series.time)
    ax.plot(series.time, scale * observed, color=INK, linewidth=0.9, label="data")
    low, high = (scale * bound[at] for bound in bounds)
    ax.fill_between(series.time, low, high, color=colour(1), alpha=0.35, linewidth=0, label="band")
    ax.plot(series.time, scale * mean, color=colour(1), linewidth=1.3, label="mean")
    share = 1 - (observed - mean).var() / max(observed.var(), np.finfo(float).tiny)
    # A mode may hold hardly any signal: then the residual varies more than the data.
    ax.set_title(f"{100 * max(share, 0.0):.0f} % of variance fitted", loc="right", pad=2,
                 fontsize="x-small", color=INK)  # fmt: skip
    ax.tick_params(labelsize="small")
    tidy(ax)
