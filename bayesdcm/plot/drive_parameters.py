"""Posterior of the numbers of drives, in ms and uS, beside their priors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from bayesdcm.data.drive import CELLS
from bayesdcm.plot import style
from bayesdcm.plot.column import column_of
from bayesdcm.plot.quantities import CONSTANT, flat_draws
from bayesdcm.plot.style import Canvas

PANELS = {
    "time": "time",
    "drive_spread": "spread",
    "drive_weights_ampa": "AMPA weights",
    "drive_weights_nmda": "NMDA weights",
}


class _Row(NamedTuple):
    """One number of one drive: its name, draws of posterior and prior, mean of the latter."""

    name: str
    draws: NDArray
    before: NDArray
    centre: float


def plot_drive_parameters(
    fit: Any, *, interval: float = 0.9, figure: Canvas | None = None
) -> Canvas:
    """Draw times, spreads and weights of drives with their intervals, in physical units.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a `bayesdcm.LaminarDCM` by any method.
    interval : float
        Probability inside the intervals.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        A panel for times, which are drawn relative to their prior means, in ms, and where some
        are free for spreads, in ms, AMPA and NMDA weights, in uS. Grey bars: intervals of the
        prior; lines and dots: intervals and medians of the posterior, which are written beside;
        open dots: numbers that are fixed.

    Raises
    ------
    TypeError
        If the fit is of another model.

    Examples
    --------
    >>> from bayesdcm import DipoleData, Drive, LaminarDCM, fit
    >>> drive = Drive("first", "proximal", 25.0, 2.0, {"L5_pyramidal": 0.002, "L2_basket": 0.003})
    >>> model, times = LaminarDCM([drive.free(time=5.0)], model_error=0.0), 0.002 * np.arange(60)
    >>> design = DipoleData(1e-12 * np.sin(40 * times), times, noise_sd=1e-13)
    >>> data = model.simulate({"time": [28.0], "scale": 0.0}, design, seed=1, snr=5.0)
    >>> figure = plot_drive_parameters(fit(model, data, draws=50, progress=False))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['time']
    """
    model, _ = column_of(fit)
    tables = {name: _rows(fit, model, name) for name in PANELS}
    shown = [
        name
        for name, rows in tables.items()
        if name == "time" or any(np.ptp(row.before) > CONSTANT for row in rows)
    ]
    columns = [[n for n in shown if n in pair] for pair in (list(PANELS)[:2], list(PANELS)[2:])]
    columns = [column for column in columns if column]
    # Times and spreads above, weights below.
    heights = [max(len(tables[name]) for name in column) for column in columns]
    width = max(map(len, columns))
    if figure is None:
        figure = style.new_figure(6.0 * width, 0.24 * sum(heights) + 0.9 * len(columns) + 0.7)
    grid = figure.add_gridspec(len(columns), width, height_ratios=[h + 1.0 for h in heights])
    for place, column in enumerate(columns):
        for i, name in enumerate(column):
            ax = figure.add_subplot(grid[place, i])
            _draw(ax, tables[name], name, fit.facts.unit(name), interval)
            style.panel_title(ax, PANELS[name], fontweight="bold")
    _explain(figure, fit, interval)
    return figure


def _rows(fit: Any, model: Any, name: str) -> list[_Row]:
    """Numbers that a drive has; synapses without a weight are left out."""
    draws, before = (flat_draws(group[name]) for group in (fit.idata.posterior, fit.idata.prior))
    centres = next(prior.mean for prior in model.priors if prior.name == "time")
    rows = []
    for i, drive in enumerate(model.drives):
        if draws.ndim == 2:
            rows.append(_Row(drive.name, draws[:, i], before[:, i], float(centres[i])))
            continue
        for k, cell in enumerate(CELLS):
            if draws[:, i, k].max() > 0:
                label = f"{drive.name}: {cell.replace('L2_', 'L2/3 ').replace('_', ' ')}"
                rows.append(_Row(label, draws[:, i, k], before[:, i, k], 0.0))
    return rows


def _draw(ax: Axes, rows: list[_Row], name: str, unit: str, interval: float) -> None:
    tail = (1 - interval) / 2
    quantiles = [tail, 0.5, 1 - tail]
    relative, digits = name == "time", ".1f" if unit == "ms" else ".2g"
    style.bare_rows(ax, range(len(rows)))
    for place, row in enumerate(rows):
        centre = row.centre if relative else 0.0
        low, middle, high = np.quantile(row.draws, quantiles)
        start, _, end = np.quantile(row.before, quantiles)
        free = np.ptp(row.before) > CONSTANT
        if free:
            ax.plot([start - centre, end - centre], [place, place], color=style.PRIOR, alpha=0.5,
                    linewidth=7, solid_capstyle="butt", zorder=1)  # fmt: skip
            ax.plot([low - centre, high - centre], [place, place], color=style.COLOURS[0],
                    linewidth=1.8, solid_capstyle="butt", zorder=2)  # fmt: skip
        ax.plot([middle - centre], [place], "o", color=style.COLOURS[0], ms=4.5, zorder=3,
                markerfacecolor=style.COLOURS[0] if free else "white")  # fmt: skip
        text = f"{middle:{digits}}"
        text += f" [{low:{digits}}, {high:{digits}}]" if free else " (fixed)"
        ax.text(1.02, place, text, fontsize="small", va="center", color=style.INK,
                transform=ax.get_yaxis_transform())  # fmt: skip
    style.name_rows(ax, [row.name for row in rows])
    ax.tick_params(axis="x", labelsize="small")
    if relative:
        ax.axvline(0, color=style.MUTED, linewidth=1, zorder=0)
        ax.set_xlabel(f"later than the prior mean ({unit})", fontsize="small")
        return
    if name != "drive_spread":
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(_factors(ax))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(f"{PANELS[name]} ({unit})", fontsize="small")


def _factors(ax: Axes) -> Any:
    """Ticks at 1, 2 and 5 times powers of ten; of wide axes at powers alone."""
    from matplotlib.ticker import LogLocator

    low, high = ax.get_xlim()
    return LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,))


def _explain(figure: Canvas, fit: Any, interval: float) -> None:
    style.heading(
        figure,
        f"Numbers of the drives ({fit.method})\nmedian [{100 * interval:g} % interval], beside",
    )
    handles = [
        Line2D([], [], color=style.PRIOR, alpha=0.5, linewidth=7, label="prior"),
        Line2D([], [], color=style.COLOURS[0], marker="o", ms=4.5, label="posterior"),
        Line2D([], [], color=style.COLOURS[0], marker="o", ms=4.5, markerfacecolor="white",
               linestyle="", label="fixed"),
    ]  # fmt: skip
    style.legend(figure, handles, loc="outside upper right")
