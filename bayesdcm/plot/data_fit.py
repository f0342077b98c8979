"""Data against the fit, region by region, above the inputs."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from bayesdcm.plot.evoked_fit import draw_evoked_fit
from bayesdcm.plot.quantities import axis_names, is_evoked
from bayesdcm.plot.series import Series, fitted_series
from bayesdcm.plot.style import INK, MUTED, colour, tidy


def plot_fit(
    fit: Any, *, interval: float = 0.9, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw the data and the posterior of the noise-free signal, a panel for each region.

    Of evoked responses there is a row for each channel mode and a column for each condition.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit by any method with a Gaussian observation of this package.
    interval : float
        Probability inside the credible band of the fitted signal, confounds included.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One panel for each region, and below them the inputs, where there are some; for evoked
        responses a panel for each mode and condition.

    Raises
    ------
    ValueError
        If the fit has no such observation.
    """
    if is_evoked(fit):
        return draw_evoked_fit(fit, interval, figure)
    series = fitted_series(fit, interval)
    inputs = _inputs(fit)
    n = len(series.names)
    heights = [1.0] * n + ([0.16 + 0.13 * len(inputs[1])] if inputs else [])
    if figure is None:
        size = (9.5, 1.25 * sum(heights) + 1.1)
        figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for column, ax in enumerate(axes[:n]):
        _draw_region(ax, series, column)
    if inputs:
        _draw_inputs(axes[-1], *inputs)
    axes[-1].set_xlabel(series.time_label)
    axes[0].set_xlim(series.time[0], series.time[-1])
    figure.supylabel("signal (units of the data)", fontsize="medium")
    handles, _ = axes[0].get_legend_handles_labels()
    labels = ["data", f"fit, {100 * interval:g} % credible band", "fit, posterior mean"]
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False,
                  fontsize="small")  # fmt: skip
    figure.suptitle(f"Data and fit ({series.method})", x=0.01, ha="left", fontsize="medium")
    return figure


def _draw_region(ax: Axes, series: Series, column: int) -> None:
    time, observed = series.time, series.observed[:, column]
    ax.plot(time, observed, color=MUTED, linewidth=0.7, label="data")
    ax.fill_between(
        time, series.low[:, column], series.high[:, column], color=colour(1), alpha=0.35,
        linewidth=0, label="band",
    )  # fmt: skip
    ax.plot(time, series.mean[:, column], color=colour(1), linewidth=1.2, label="mean")
    residual = observed - series.mean[:, column]
    share = 1 - residual.var() / observed.var()
    ax.set_title(series.names[column], loc="left", fontsize="medium", fontweight="bold", pad=3)
    ax.set_title(
        f"{100 * share:.0f} % of the variance fitted", loc="right", fontsize="small", color=INK,
        pad=3,
    )  # fmt: skip
    tidy(ax)


def _inputs(fit: Any) -> tuple[NDArray, list[str], NDArray] | None:
    """Onsets of microtime bins (s), names and time courses of the inputs."""
    groups = fit.idata
    if "inputs" not in getattr(groups, "constant_data", {}):
        return None
    array = groups.constant_data["inputs"]
    return np.asarray(array["microtime"]), axis_names(array, "input"), array.to_numpy()


def _draw_inputs(ax: Axes, time: NDArray, names: list[str], inputs: NDArray) -> None:
    """One lane for each input, scaled to its largest value."""
    for lane, name in enumerate(names):
        values = inputs[:, lane]
        # Steps need a point only where the input changes.
        kept = np.unique(np.r_[0, np.flatnonzero(np.diff(values)) + 1, len(values) - 1])
        height = 0.7 / max(np.abs(values).max(), 1e-12)
        base = -float(lane)
        ax.fill_between(
            time[kept], base, base + height * values[kept], step="post", color=colour(2 + lane),
            linewidth=0.5, label=name,
        )  # fmt: skip
    ax.set_yticks([0.3 - lane for lane in range(len(names))], names, fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.set_title("inputs", loc="left", fontsize="medium", fontweight="bold", pad=3)
    tidy(ax)
    ax.spines["left"].set_visible(False)
