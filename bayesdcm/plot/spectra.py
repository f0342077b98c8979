"""Cross-spectra of data against the fit: power and amplitude, coherence and phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from bayesdcm.integrate.hermitian import column_sizes, from_columns
from bayesdcm.plot import style
from bayesdcm.plot.quantities import finite
from bayesdcm.plot.series import Series, arranged, data_axes, fitted_series, named_places
from bayesdcm.plot.style import Canvas

# More channels than this have no room for a panel for each pair, or for each channel.
MOST_PAIRED, MOST_PANELS = 5, 24
# Panels of power beside one another where pairs are not drawn.
BESIDE = 4
# Draws of new estimates that bands of them are made of.
MOST_DRAWS = 500


@dataclass(frozen=True, eq=False)
class Spectra:
    """Cross-spectra of some channels, complex, (..., conditions, frequencies, n, n)."""

    series: Series
    names: list[str]  # of the channels
    total: int  # number of channels in the data
    observed: NDArray
    draws: NDArray  # posterior of what is predicted, draws first
    replicated: NDArray  # estimates that the model would give


Measure = Callable[[NDArray, int, int], NDArray]


def has_spectra(fit: Any) -> bool:
    """Whether data of a fit are cross-spectra: powers, and real and imaginary parts of pairs."""
    arrays = getattr(fit.idata, "observed_data", {})
    return any(data_axes(array)[1] == ["pair"] for array in arrays.values())


def read_spectra(fit: Any, names: Sequence[str] | None, most: int) -> Spectra:
    """Cross-spectra of the channels of these names, or of the first so many."""
    series = fitted_series(fit)
    n = round(len(series.columns) ** 0.5)
    known = [series.columns[place] for place in range(0, n * n, n + 1)]
    places = named_places(names, known) if names is not None else list(range(min(n, most)))
    group, data = fit.idata.posterior_predictive, fit.idata.observed_data[series.site]
    again = finite(arranged(group[series.site], data))
    kept = np.linspace(0, len(again) - 1, min(MOST_DRAWS, len(again))).astype(int)

    def matrices(parts: NDArray) -> NDArray:
        whole = from_columns(column_sizes(n) * parts)
        return whole[..., places, :][..., places]

    return Spectra(series, [known[place] for place in places], n, matrices(series.observed),
                   matrices(series.draws), matrices(series.scale * again[kept]))  # fmt: skip


def draw_amplitudes(
    fit: Any, interval: float, names: Sequence[str] | None, figure: Canvas | None
) -> Canvas:
    """Draw power of channels and, of few of them, amplitudes of the cross-spectra of pairs."""
    spectra = read_spectra(fit, names, MOST_PANELS)
    n = len(spectra.names)
    paired = n <= MOST_PAIRED
    beside = n if paired else BESIDE
    below = n if paired else -(-n // beside)
    figure = figure or style.new_figure(max(2.4 * beside + 1.6, 8.0), 1.75 * below + 1.3)
    axes = figure.subplots(below, beside, sharex=True, squeeze=False)
    shown = []
    for row, column in np.ndindex(below, beside):
        ax = axes[row, column]
        i, j = (row, column) if paired else (row * beside + column,) * 2
        if i > j or max(i, j) >= n:
            ax.set_axis_off()
            continue
        _draw(ax, spectra, _amplitude, (i, j), interval)
        style.panel_title(ax, spectra.names[i] if i == j else _pair(spectra, i, j), pad=3,
                          fontweight="bold" if i == j else "normal")  # fmt: skip
        _log_scale(ax, spectra, i, j)
        shown.append((row, column))
    _label_lowest(axes, shown, spectra)
    figure.supylabel(f"density ({_unit(spectra)})", fontsize="medium")
    what = "Power, and amplitude of cross-spectra" if paired and n > 1 else "Power"
    _explain(figure, spectra, what, interval)
    return figure


def plot_coherence(
    fit: Any,
    *,
    interval: float = 0.9,
    names: Sequence[str] | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw coherence and phase of pairs of channels or regions, data against the fit.

    Coherence is squared and above the diagonal. Below it is the phase, above 0 where the second of
    a pair lags behind the first, as titles say. Coherences that are estimated from few samples are
    too large, so compare those of data with the pale band, where estimates by the model lie.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit to cross-spectra (`bayesdcm.SpectralData`) of at least two channels, by any method.
    interval : float
        Probability inside the bands.
    names : sequence of str, optional
        Channels or regions to draw. None: all, or the first 5.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        A panel for each ordered pair.

    Raises
    ------
    ValueError
        If data are no cross-spectra of several channels, or have no channel of a name.
    """
    if not has_spectra(fit):
        raise ValueError("fit must be to cross-spectra (SpectralData); its data are others")
    spectra = read_spectra(fit, names, MOST_PAIRED)
    n = len(spectra.names)
    if n < 2:
        raise ValueError("coherence is of pairs, but there is one channel only; plot_fit shows it")
    figure = figure or style.new_figure(max(2.3 * n + 1.4, 8.0), 1.7 * n + 1.3)
    axes = figure.subplots(n, n, sharex=True, squeeze=False)
    for row, column in np.ndindex(n, n):
        ax = axes[row, column]
        if row == column:
            ax.set_axis_off()
            ax.text(0.5, 0.5, spectra.names[row], transform=ax.transAxes, ha="center", va="center",
                    fontweight="bold", color=style.INK)  # fmt: skip
        elif row < column:
            _draw(ax, spectra, _coherence, (row, column), interval)
            ax.set_ylim(0, 1)
            style.panel_title(ax, _pair(spectra, row, column), pad=3)
        else:
            # The pair in the same order as above the diagonal.
            _draw_phase(ax, spectra, (column, row), interval)
            style.panel_title(ax, f"{spectra.names[column]} before {spectra.names[row]}", pad=3)
    below = [(row, column) for row, column in np.ndindex(n, n) if row != column]
    _label_lowest(axes, below, spectra)
    for ax in (axes[0, 1], axes[1, 0]):
        ax.set_ylabel("phase (degrees)" if ax is axes[1, 0] else "coherence", fontsize="small")
    _explain(figure, spectra, "Squared coherence (above) and phase (below the diagonal)", interval)
    return figure


def _amplitude(spectra: NDArray, i: int, j: int) -> NDArray:
    return spectra[..., i, j].real if i == j else np.abs(spectra[..., i, j])


def _coherence(spectra: NDArray, i: int, j: int) -> NDArray:
    power = spectra[..., i, i].real * spectra[..., j, j].real
    # Estimates of a Gaussian likelihood may have a power below 0.
    return np.abs(spectra[..., i, j]) ** 2 / np.where(power > 0, power, np.nan)


def _colours(spectra: Spectra, condition: int) -> tuple[str, str]:
    """Of data, and of the fit: one colour for each condition where there are several."""
    if len(spectra.series.conditions) == 1:
        return style.INK, style.colour(1)
    return (style.colour(condition),) * 2


def _draw(ax: Axes, spectra: Spectra, measure: Measure, at: tuple[int, int], interval: float
          ) -> None:  # fmt: skip
    points, tail = spectra.series.points, (1 - interval) / 2
    middle = np.median(measure(spectra.draws, *at), axis=0)
    bounds = [
        np.nanquantile(measure(each, *at), [tail, 1 - tail], axis=0)
        for each in (spectra.replicated, spectra.draws)
    ]
    observed = measure(spectra.observed, *at)
    for condition in range(len(observed)):
        ink, tint = _colours(spectra, condition)
        for (low, high), alpha in zip(bounds, (0.13, 0.35), strict=True):
            ax.fill_between(points, low[condition], high[condition], color=tint, alpha=alpha,
                            linewidth=0)  # fmt: skip
        ax.plot(points, middle[condition], color=tint, linewidth=1.3)
        ax.plot(points, observed[condition], ".", color=ink, markersize=3)
    _limit(ax, points)
    ax.tick_params(labelsize="small")
    style.tidy(ax)


def _draw_phase(ax: Axes, spectra: Spectra, at: tuple[int, int], interval: float) -> None:
    """Phases go on beyond half a turn, so that bands are drawn once more, a turn away."""
    points, tail = spectra.series.points, (1 - interval) / 2
    entries = [each[..., *at] for each in (spectra.replicated, spectra.draws)]
    middle = np.angle((entries[1] / np.abs(entries[1])).mean(0))
    for condition in range(len(middle)):
        ink, tint = _colours(spectra, condition)
        centre = np.unwrap(middle[condition])
        away = [np.angle(each[:, condition] * np.exp(-1j * centre)) for each in entries]
        turns = np.round(np.array([centre.min(), centre.max()]) / (2 * np.pi)).astype(int)
        for turn in range(-turns[1] - 1, -turns[0] + 2):
            shifted = np.degrees(centre + 2 * np.pi * turn)
            for each, alpha in zip(away, (0.13, 0.35), strict=True):
                low, high = np.degrees(np.quantile(each, [tail, 1 - tail], axis=0))
                ax.fill_between(points, shifted + low, shifted + high, color=tint, alpha=alpha,
                                linewidth=0)  # fmt: skip
            ax.plot(points, shifted, color=tint, linewidth=1.3)
        observed = np.degrees(np.angle(spectra.observed[condition][..., *at]))
        ax.plot(points, observed, ".", color=ink, markersize=3)
    ax.axhline(0, color=style.MUTED, linewidth=0.5, zorder=0)
    _limit(ax, points)
    ax.set(ylim=(-180, 180), yticks=(-180, -90, 0, 90, 180))
    ax.tick_params(labelsize="small")
    style.tidy(ax)


def _limit(ax: Axes, points: NDArray) -> None:
    """Leave room for points at the ends."""
    margin = 0.03 * (points[-1] - points[0])
    ax.set_xlim(points[0] - margin, points[-1] + margin)


def _log_scale(ax: Axes, spectra: Spectra, i: int, j: int) -> None:
    """Powers of ten, from a little below data and fit: bands may reach down to 0."""
    drawn = [_amplitude(spectra.observed, i, j), np.median(_amplitude(spectra.draws, i, j), 0)]
    values = np.concatenate([each[each > 0] for each in drawn])
    ax.set_yscale("log")
    ax.set_ylim(values.min() / 2, values.max() * 2)


def _label_lowest(axes: NDArray, shown: list[tuple[int, int]], spectra: Spectra) -> None:
    """Write frequencies under the lowest panel of each column that is drawn."""
    lowest = {column: max(row for row, at in shown if at == column) for _, column in shown}
    for row, column in shown:
        axes[row, column].tick_params(labelbottom=lowest[column] == row)
        if lowest[column] == row:
            axes[row, column].set_xlabel(spectra.series.label(), fontsize="small")


def _pair(spectra: Spectra, i: int, j: int) -> str:
    return f"{spectra.names[i]}, {spectra.names[j]}"


def _unit(spectra: Spectra) -> str:
    return f"{spectra.series.value_unit or 'squared units of the data'} per Hz"


def _explain(figure: Canvas, spectra: Spectra, what: str, interval: float) -> None:
    n, percent = len(spectra.names), f"{100 * interval:g} %"
    ink, tint = _colours(spectra, 0)
    handles: list[Any] = []
    if len(spectra.series.conditions) > 1:
        ink = tint = style.INK
        handles = [
            Line2D([], [], color=style.colour(k), lw=2.5, label=name)
            for k, name in enumerate(spectra.series.conditions)
        ]
    handles += [
        Line2D([], [], color=ink, marker=".", lw=0, label="data"),
        Line2D([], [], color=tint, lw=1.3, label="fit"),
        Patch(color=tint, alpha=0.4, lw=0, label=f"{percent} band of the fit"),
        Patch(color=tint, alpha=0.13, lw=0, label=f"{percent} of estimates by the model"),
    ]
    some = f"; {n} of {spectra.total}, names= chooses others" if n < spectra.total else ""
    style.heading(figure, f"{what} ({spectra.series.method}{some})")
    style.legend(figure, handles, ncols=min(len(handles), 4 if n > 2 else 2))
