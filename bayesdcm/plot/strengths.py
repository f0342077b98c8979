"""Connections of connections by condition, with what each condition changes in percent."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from bayesdcm.plot.connections import Connection, Connections, connections, percent_interval
from bayesdcm.plot.style import (
    INK,
    MARKERS,
    MUTED,
    NBSP,
    PALE,
    bare_rows,
    colour,
    heading,
    legend,
    probability_text,
)

TICKS = np.array([1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200, 300, 500, 700, 1000, 2000,
                  5000])  # fmt: skip
# Most ticks on an axis.
N_TICKS = 7
# Height of a condition in units of a row.
STEP = 0.9


def plot_connection_strengths(
    fit: Any, *, interval: float = 0.9, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
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
    found = connections(fit)
    if not found.relative:
        raise ValueError(
            f"connections must be log scalings, to be drawn relative to their prior means; those "
            f"of {found.site} are in {found.unit or 'a unit that is not known'}; plot_network and "
            "plot_connectivity show them"
        )
    if not found.entries:
        raise ValueError("the fit has no connections to draw: none of them is free")
    changing = any(_drawn_by_condition(found, entry) for entry in found.entries)
    places, headings, height = _layout(found)
    if figure is None:
        size = (10.5 if changing else 6.0, 0.3 * height + 1.5)
        figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, 1 + changing, sharey=True, squeeze=False)[0]
    for ax in axes:
        _draw_rows(ax, places, headings, height)
    for entry, place in zip(found.entries, places, strict=True):
        _draw_strength(axes[0], found, entry, place, interval)
        if changing:
            _draw_change(axes[1], found, entry, place, interval)
    for place, name in headings:
        axes[0].annotate(name, (0, place), (-6, 0), ("axes fraction", "data"), "offset points",
                         ha="right", va="center", fontsize="small", fontweight="bold")  # fmt: skip
    axes[0].set_yticks(places, [found.name(entry) for entry in found.entries], fontsize="small")
    axes[0].set_xlabel("strength (% of its prior mean)")
    if changing:
        reference = f"that in {found.baseline}" if found.baseline else "that without effects"
        axes[1].set_xlabel(f"strength (% of {reference})")
        axes[1].text(
            1.02,
            0.5,
            "median, interval, probability of the direction",
            fontsize="small",
            va="center",
            color=MUTED,
            transform=axes[1].get_yaxis_transform(),
        )
    for ax in axes:
        _percent_axis(ax)
    _explain(figure, fit, found, interval)
    return figure


def _drawn_by_condition(found: Connections, entry: Connection) -> bool:
    return bool(entry.changes and found.conditions)


def _layout(found: Connections) -> tuple[list[float], list[tuple[float, str]], float]:
    """Heights of the entries, headings of the kinds with theirs, and the height of all."""
    places, headings, at, kind = [], [], 0.0, ""
    for entry in found.entries:
        if entry.kind != kind:
            kind = entry.kind
            headings.append((at + 0.5, f"{kind} in" if entry.within else kind))
            at += 1.0
        height = _height(found, entry)
        places.append(at + height / 2)
        at += height
    return places, headings, at


def _height(found: Connections, entry: Connection) -> float:
    return max(1.0, STEP * len(found.conditions)) if _drawn_by_condition(found, entry) else 1.0


def _draw_rows(
    ax: Axes, places: list[float], headings: list[tuple[float, str]], height: float
) -> None:
    ax.axvline(100, color=MUTED, linewidth=1, zorder=1)
    for place, _ in headings:
        ax.axhspan(place - 0.45, place + 0.45, color=PALE, linewidth=0, zorder=0)
    ax.set_ylim(height + 0.1, -0.1)
    bare_rows(ax, places)


def _draw_strength(
    ax: Axes, found: Connections, entry: Connection, place: float, interval: float
) -> None:
    if not _drawn_by_condition(found, entry):
        _draw_interval(ax, place, entry.draws, interval, INK, ".")
        return
    for i, height in enumerate(_heights(found, place)):
        draws = entry.draws * entry.by_condition[:, i]
        _draw_interval(ax, height, draws, interval, colour(i), MARKERS[i % len(MARKERS)])


def _draw_change(
    ax: Axes, found: Connections, entry: Connection, place: float, interval: float
) -> None:
    side = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": "small"}
    if not _drawn_by_condition(found, entry):
        ax.text(1.02, place, "the same in all conditions", color=MUTED, **side)
        return
    for i, height in enumerate(_heights(found, place)):
        draws = entry.by_condition[:, i]
        if np.ptp(draws) == 0:
            # The condition without effects is what others are compared with.
            continue
        shown = _draw_interval(ax, height, draws, interval, colour(i), MARKERS[i % len(MARKERS)])
        middle, low, high = shown
        probability = probability_text(found.certainty(draws))
        text = f"{middle:.0f}{NBSP}% [{low:.0f}, {high:.0f}]  {probability}"
        ax.text(1.02, height, text, color=colour(i), **side)


def _heights(found: Connections, place: float) -> NDArray:
    n = len(found.conditions)
    return place + STEP * (np.arange(n) - (n - 1) / 2)


def _draw_interval(
    ax: Axes, height: float, draws: NDArray, interval: float, tint: str, marker: str
) -> tuple[float, float, float]:
    middle, low, high = percent_interval(draws, interval)
    ax.plot([low, high], [height, height], color=tint, linewidth=1.6, solid_capstyle="butt")
    ax.plot([middle], [height], marker=marker, color=tint, ms=6, linestyle="")
    return middle, low, high


def _percent_axis(ax: Axes) -> None:
    """Logarithmic, so that doubling and halving are equally far from 100 %."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    low, high = min(low, 80), max(high, 125)
    ax.set_xlim(low, high)
    visible = TICKS[(low <= TICKS) & (high >= TICKS)]
    every = -(-len(visible) // N_TICKS)
    # 100 stays, whichever are left out.
    start = int(np.flatnonzero(visible == 100)[0]) % every
    ax.set_xticks(visible[start::every])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="minor", length=0)


def _explain(figure: Figure | SubFigure, fit: Any, found: Connections, interval: float) -> None:
    heading(
        figure, f"Connection strengths ({fit.method}): median and {100 * interval:g} % interval"
    )
    handles = [
        Line2D([], [], color=colour(i), marker=MARKERS[i % len(MARKERS)], label=name)
        for i, name in enumerate(found.conditions)
    ]
    if not any(_drawn_by_condition(found, entry) for entry in found.entries):
        return
    if not all(_drawn_by_condition(found, entry) for entry in found.entries):
        handles.append(Line2D([], [], color=INK, marker=".", label="all conditions"))
    legend(figure, handles, loc="outside upper right")
