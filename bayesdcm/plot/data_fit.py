"""Data against the fit: a row for each region or channel mode, a column for each condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.plot import style
from bayesdcm.plot.functional_connectivity import plot_functional_connectivity
from bayesdcm.plot.quantities import check_fit
from bayesdcm.plot.series import Series, fitted_series, power_of_thousand
from bayesdcm.plot.spectra import draw_amplitudes, has_spectra
from bayesdcm.plot.style import Canvas

# More rows than this are too many for a page.
MOST_ROWS = 12


def plot_fit(
    fit: Any,
    *,
    interval: float = 0.9,
    names: Sequence[str] | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw the data and the posterior of the noise-free signal.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit by any method with a Gaussian observation of this package.
    interval : float
        Probability inside the credible band of the fitted signal, confounds included.
    names : sequence of str, optional
        Regions, channel modes or channels to draw. None: all of up to 12; of more, 12 that are
        evenly chosen from the one whose data are explained least to that explained best.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        A row of panels for each region, channel mode, or whatever else the data have beside time
        and conditions, and a column for each condition; below them the inputs that belong to these
        times, where the fit has some. Panels of a row share their scale. Of cross-spectra
        (`bayesdcm.SpectralData`): the power of each channel and, of up to 5 channels, the amplitude
        of the cross-spectrum of each pair; pale bands hold estimates that the model would give.
        Of functional connectivity: both matrices, and one against the other.

    Raises
    ------
    ValueError
        If the fit has no such observation, or data have no such name.

    See Also
    --------
    plot_coherence : Coherence and phase of cross-spectra.
    """
    check_fit(fit)
    if has_spectra(fit):
        return draw_amplitudes(fit, interval, names, figure)
    if has_pairs(fit):
        return _draw_matrices(fit, figure)
    series = fitted_series(fit)
    shown, inputs = series.shown(names, MOST_ROWS), None
    if series.conditions == [""]:
        inputs = _inputs(fit)
    n = len(shown)
    # A panel alone is high enough for the words beside it.
    heights = [1.0 if n > 1 or inputs else 2.0] * n + (
        [0.16 + 0.13 * len(inputs[1])] if inputs else []
    )
    axes, figure = panels(figure, heights, len(series.conditions))
    bounds = series.band(interval)
    exponent = power_of_thousand(series.observed)
    for row, column in np.ndindex(n, len(series.conditions)):
        _draw(axes[row, column], series, bounds, (column, shown[row]), 10.0**-exponent)
    label_panels(axes[:n], series.conditions, [series.columns[i] for i in shown])
    if inputs:
        _draw_inputs(axes[-1, 0], *inputs)
    axes[0, 0].set_xlim(series.points[0], series.points[-1])
    figure.supxlabel(series.label(), fontsize="medium")
    figure.supylabel(series.value_label("signal", exponent), fontsize="medium")
    labels = ["data", f"fit, {100 * interval:g} % credible band", "fit, posterior mean"]
    style.legend(figure, style.labelled([axes[0, 0]]), labels, "outside upper right")
    style.heading(figure, f"Data and fit ({series.method}{series.some(n)})")
    return figure


def has_pairs(fit: Any) -> bool:
    """Whether data are one number for each pair of regions."""
    return [array.dims for array in fit.idata.observed_data.values()] == [("pair",)]


def _draw_matrices(fit: Any, figure: Canvas | None) -> Canvas:
    series, observed = fitted_series(fit), next(iter(fit.idata.observed_data.values()))
    pairs = axis_names(observed, "pair")
    # So many pairs have n regions; the first of them are in all pairs of the first region.
    n = (1 + round((1 + 8 * len(pairs)) ** 0.5)) // 2
    first = pairs[0].split(", ")[0]
    names = [first, *(pair.removeprefix(f"{first}, ") for pair in pairs[: n - 1])]
    both = (series.draws.mean(0), series.observed)
    matrices = [np.eye(n) for _ in both]
    for matrix, values in zip(matrices, both, strict=True):
        matrix[np.triu_indices(n, 1)] = values.ravel()
        matrix += np.triu(matrix, 1).T
    titles = ("Fit", "Data")
    return plot_functional_connectivity(*matrices, region_names=names, titles=titles, figure=figure)


def panels(
    figure: Canvas | None, heights: Sequence[float], n_columns: int, sharey: str = "row"
) -> tuple[NDArray, Canvas]:
    """Axes (rows, columns), which share the axis that data run along, and their figure.

    Heights of the rows are relative to a usual one; `sharey` says which panels share their scale.
    """
    width = 9.5 if n_columns == 1 else 2.4 * n_columns + 2.2
    figure = figure or style.new_figure(width, 1.2 * sum(heights) + 1.3)
    axes = figure.subplots(len(heights), n_columns, sharex=True, sharey=sharey, squeeze=False,
                           height_ratios=heights)  # fmt: skip
    return axes, figure


def label_panels(axes: NDArray, columns: list[str], rows: list[str]) -> None:
    """Write the names of columns above, and of rows beside, the panels (rows, columns)."""
    for ax, name in zip(axes[0], columns, strict=True):
        ax.annotate(name, (0, 1), (0, 15), "axes fraction", "offset points", fontweight="bold",
                    color=style.INK)  # fmt: skip
    for ax, name in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(name, fontweight="bold", fontsize="medium")


def mark_origin(ax: Axes, points: NDArray, values: NDArray) -> None:
    """Draw the axes at no signal and at the time of the stimulus, where they are in sight."""
    if values.min() < 0 < values.max():
        ax.axhline(0, color=style.MUTED, linewidth=0.5, zorder=0)
    if points[0] < 0 < points[-1]:
        ax.axvline(0, color=style.MUTED, linewidth=0.5, zorder=0)


def _draw(ax: Axes, series: Series, bounds: NDArray, place: tuple[int, int], scale: float) -> None:
    at = (place[0], slice(None), place[1])
    observed, mean = series.observed[at], series.mean[at]
    mark_origin(ax, series.points, observed)
    ax.plot(series.points, scale * observed, color=style.INK, linewidth=0.8, label="data")
    low, high = (scale * bound[at] for bound in bounds)
    ax.fill_between(series.points, low, high, color=style.colour(1), alpha=0.35, linewidth=0,
                    label="band")  # fmt: skip
    ax.plot(series.points, scale * mean, color=style.colour(1), linewidth=1.3, label="mean")
    share = 1 - (observed - mean).var() / max(observed.var(), np.finfo(float).tiny)
    # A mode may hold hardly any signal: then the residual varies more than the data.
    ax.set_title(f"{100 * max(share, 0.0):.0f} % of variance fitted", loc="right", pad=2,
                 fontsize="x-small", color=style.INK)  # fmt: skip
    ax.tick_params(labelsize="small")
    style.tidy(ax)


def _inputs(fit: Any) -> tuple[NDArray, list[str], NDArray] | None:
    """Onsets of microtime bins (s), names and time courses of the inputs."""
    constants = getattr(fit.idata, "constant_data", {})
    if "inputs" not in constants:
        return None
    array = constants["inputs"]
    if array.dims != ("microtime", "input") or not array.size:
        return None
    return np.asarray(array["microtime"]), axis_names(array, "input"), array.to_numpy()


def _draw_inputs(ax: Axes, time: NDArray, names: list[str], inputs: NDArray) -> None:
    """One lane for each input, scaled to its largest value."""
    for lane, name in enumerate(names):
        values = inputs[:, lane]
        # Steps need a point only where the input changes.
        kept = np.unique(np.r_[0, np.flatnonzero(np.diff(values)) + 1, len(values) - 1])
        height = 0.7 / max(np.abs(values).max(), 1e-12)
        ax.fill_between(time[kept], -lane, height * values[kept] - lane, step="post", label=name,
                        color=style.colour(2 + lane), linewidth=0.5)  # fmt: skip
    ax.set_yticks([0.3 - lane for lane in range(len(names))], names, fontsize="small")
    ax.tick_params(axis="both", length=0, labelsize="small")
    ax.set_ylabel("inputs", fontweight="bold", fontsize="medium")
    style.tidy(ax)
    ax.spines["left"].set_visible(False)
