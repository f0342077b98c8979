"""Strengths of connections by condition, with what each condition changes in percent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from bayesdcm.plot import style
from bayesdcm.plot.connections import Connection, Connections, percent_interval, read_connections
from bayesdcm.plot.style import Canvas

TICKS = np.array([1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200, 300, 500, 700, 1000, 2000,
                  5000])  # fmt: skip
# Most ticks on an axis.
N_TICKS = 7
# Height of a condition in units of a row.
STEP = 0.9


def plot_connection_strengths(
    fit: Any, *, interval: float = 0.9, figure: Canvas | None = None
) -> Canvas:
    """Draw the strength of every connection, and what each condition makes of it in percent.

    On the left the strength in each condition in percent of its prior mean; on the right, for
    connections that conditions may change, the strength in percent of that in the condition
    without effects. Gains within sources are drawn where conditions may change them. Medians and
    credible intervals; P is the posterior probability of the direction of the change. Of the
    canonical microcircuit's lateral connections, which modulate, nothing is drawn.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit by any method of a model whose connections are log scalings, as those of evoked
        responses are.
    interval : float
        Probability inside the intervals.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Two panels; one where no connection is modulated.

    Raises
    ------
    TypeError, ValueError
        If the fit has no connections, or they are not relative to their prior means.
    """
    connections = read_connections(fit)
    if not connections.relative:
        raise ValueError(
            f"connections must be log scalings, to be drawn relative to their prior means; those "
            f"of {connections.site} are in {connections.unit or 'a unit that is not known'}; "
            "plot_network and plot_connectivity show them"
        )
    if not connections.entries:
        raise ValueError("the fit has no connections to draw: none of them is free")
    changing = any(entry.varies for entry in connections.entries)
    places, headings, height = _layout(connections.entries)
    figure = figure or style.new_figure(10.5 if changing else 6.0, 0.3 * height + 1.5)
    axes = figure.subplots(1, 1 + changing, sharey=True, squeeze=False)[0]
    for ax in axes:
        ax.axvline(100, color=style.MUTED, linewidth=1, zorder=1)
        for place, _ in headings:
            ax.axhspan(place - 0.45, place + 0.45, color=style.PALE, linewidth=0, zorder=0)
        ax.set_ylim(height + 0.1, -0.1)
        style.bare_rows(ax, places)
    for entry, place in zip(connections.entries, places, strict=True):
        _draw_strength(axes[0], entry, place, interval)
        if changing:
            _draw_change(axes[1], connections, entry, place, interval)
    for place, name in headings:
        axes[0].annotate(name, (0, place), (-6, 0), ("axes fraction", "data"), "offset points",
                         ha="right", va="center", fontsize="small", fontweight="bold")  # fmt: skip
    axes[0].set_yticks(places, list(map(connections.name, connections.entries)), fontsize="small")
    axes[0].set_xlabel("strength (% of its prior mean)")
    if changing:
        reference = f"in {connections.baseline}" if connections.baseline else "without effects"
        axes[1].set_xlabel(f"strength (% of that {reference})")
        axes[1].text(1.02, 0.5, "median, interval, probability of the direction", fontsize="small",
                     va="center", color=style.MUTED,
                     transform=axes[1].get_yaxis_transform())  # fmt: skip
    for ax in axes:
        _percent_axis(ax)
    _explain(figure, fit, connections, interval)
    return figure


def _layout(entries: list[Connection]) -> tuple[list[float], list[tuple[float, str]], float]:
    """Heights of the entries, headings of the kinds with theirs, and the height of all."""
    places, headings, top, kind = [], [], 0.0, ""
    for entry in entries:
        if entry.kind != kind:
            kind = entry.kind
            headings.append((top + 0.5, f"{kind} in" if entry.within else kind))
            top += 1.0
        height = max(1.0, STEP * entry.by_condition.shape[1]) if entry.varies else 1.0
        places.append(top + height / 2)
        top += height
    return places, headings, top


def _draw_strength(ax: Axes, entry: Connection, place: float, interval: float) -> None:
    if not entry.varies:
        _draw_interval(ax, place, entry.draws, interval, color=style.INK, marker=".")
        return
    for i, (height, factors) in enumerate(_conditions(entry, place)):
        _draw_interval(ax, height, entry.draws * factors, interval, **style.points(i))


def _draw_change(
    ax: Axes, connections: Connections, entry: Connection, place: float, interval: float
) -> None:
    side = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": "small"}
    if not entry.varies:
        ax.text(1.02, place, "the same in all conditions", color=style.MUTED, **side)
        return
    for i, (height, factors) in enumerate(_conditions(entry, place)):
        # The condition without effects is what others are compared with.
        if np.ptp(factors) > 0:
            numbers = _draw_interval(ax, height, factors, interval, **style.points(i))
            probability = style.probability_text(connections.certainty(factors))
            ax.text(1.02, height, f"{numbers}  {probability}", color=style.colour(i), **side)


def _conditions(entry: Connection, place: float) -> Iterator[tuple[float, NDArray]]:
    """Height and factors of each condition."""
    n = entry.by_condition.shape[1]
    return zip(place + STEP * (np.arange(n) - (n - 1) / 2), entry.by_condition.T, strict=True)


def _draw_interval(
    ax: Axes, height: float, draws: NDArray, interval: float, color: str, marker: str
) -> str:
    """Draw median and interval; what is written of them."""
    middle, low, high = percent_interval(draws, interval)
    ax.plot([low, high], [height, height], color=color, linewidth=1.6, solid_capstyle="butt")
    ax.plot([middle], [height], marker=marker, color=color, ms=6, linestyle="")
    return f"{middle:.0f}{style.NBSP}% [{low:.0f}, {high:.0f}]"


def _percent_axis(ax: Axes) -> None:
    """Logarithmic, so that doubling and halving are equally far from 100 %."""
    ax.set_xscale("log")
    low, high = min(ax.get_xlim()[0], 70), max(ax.get_xlim()[1], 140)
    ax.set_xlim(low, high)
    visible = TICKS[(low <= TICKS) & (high >= TICKS)]
    every = -(-len(visible) // N_TICKS)
    # 100 stays, whichever are left out.
    start = int(np.flatnonzero(visible == 100)[0]) % every
    ax.set_xticks(visible[start::every])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="minor", length=0)


def _explain(figure: Canvas, fit: Any, connections: Connections, interval: float) -> None:
    text = f"median and {100 * interval:g} % interval"
    style.heading(figure, f"Connection strengths ({fit.method}): {text}")
    varies = [entry.varies for entry in connections.entries]
    if not any(varies):
        return
    names = enumerate(connections.conditions)
    handles = [Line2D([], [], label=name, **style.points(i)) for i, name in names]
    if not all(varies):
        handles.append(Line2D([], [], color=style.INK, marker=".", label="all conditions"))
    style.legend(figure, handles, loc="outside upper right")
