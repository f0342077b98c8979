"""Matrices of the probabilities that connections are there, or that a covariate acts on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch, Rectangle

from bayesdcm.plot import style
from bayesdcm.plot.group_effects import covariate_title
from bayesdcm.plot.labels import INPUTS, chosen, in_order, parsed
from bayesdcm.plot.style import Canvas

EDGE = "#c4c4c4"
# Cells without a probability.
LOOKS: dict[str, dict[str, Any]] = {
    "absent": style.HATCHED,
    "pruned": {"facecolor": "#f5efe6", "edgecolor": EDGE},
    "not searched": {"facecolor": "#ffffff", "edgecolor": EDGE, "linestyle": ":"},
}


class _Panel(NamedTuple):
    """A matrix: heading, names of rows and columns, what columns are, what is known of entries."""

    title: str
    rows: list[str]
    columns: list[str]
    column_word: str
    entries: dict[tuple[str, str], tuple[float, bool]]  # probability, whether it was pruned


def plot_connection_evidence(
    search: Any, covariate: str | Sequence[str] | None = None, *, figure: Canvas | None = None
) -> Canvas:
    """Draw the posterior probability that each connection is there, as matrices.

    A column of panels for each kind of parameter: A, and B for each input or condition effect. Of
    a group, a row of panels for each covariate: the probability that the group mean differs from
    0, and that the covariate acts on the connection. Rows of a matrix receive, columns send.

    Parameters
    ----------
    search : ReducedSearch, EffectsSearch, EffectsComparison or GroupEffects
        From `bayesdcm.search_reduced`, or from the methods `search` and `compare` of effects on a
        group. Of effects themselves, which no model has been taken from, the probability of the
        sign is drawn, from 0.5.
    covariate : str or sequence of str, optional
        Which to draw, of a group; all by default.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One panel for each site and covariate.

    Raises
    ------
    TypeError, ValueError
        If `search` is something else, a covariate is unknown, or there is nothing to draw.
    """
    table, sign = _probabilities(search)
    covariates = list(table.columns)
    table = table[chosen(covariate, covariates, "covariate")]
    pruned = _pruned(search)
    rows = {name: _panels(table[name], {label for other, label in pruned if other == name})
            for name in table.columns}  # fmt: skip
    n_columns = max(map(len, rows.values()))
    if not n_columns:
        raise ValueError("search has no parameters with places, such as 'A[V5, V1]', to draw")
    figure = figure or style.new_figure(*_size(list(rows.values())))
    axes = figure.subplots(len(rows), n_columns, squeeze=False)
    least = 0.5 if sign else 0.0
    shades = LinearSegmentedColormap.from_list("evidence", ["#fbfbfb", "#7fb3d5", "#08457e"])
    marks: set[str] = set()
    for line, (name, panels) in zip(axes, rows.items(), strict=True):
        for ax, panel in zip(style.first_panels(line, len(panels)), panels, strict=True):
            marks |= _draw(ax, panel, shades, least)
            covered = f"{covariate_title(name, covariates)}\n" if name else ""
            style.panel_title(ax, covered + panel.title)
    bar = style.colour_bar(axes.ravel(), least, 1, shades, shrink=0.8 if len(rows) == 1 else 0.5,
                     aspect=25)  # fmt: skip
    words = "posterior probability of the sign" if sign else "posterior probability"
    bar.set_label(words, fontsize="small")
    bar.ax.tick_params(labelsize="small")
    _explain(figure, search, sign, marks)
    return figure


def _probabilities(search: Any) -> tuple[pd.DataFrame, bool]:
    """Probabilities, parameters in rows and covariates in columns; whether they are of signs."""
    if hasattr(search, "commonalities"):
        table = search.summary().set_index(["parameter", "covariate"])["present"]
        table = table.unstack("covariate")[list(search.mean.columns)].loc[search.mean.index]
        unknown = [c for c in table.columns[1:]
                   if search.differences is None or c != search.differences.name]  # fmt: skip
        # Effects of other covariates are on in all models, and have no probability.
        return table.drop(columns=unknown), False
    present = getattr(search, "present", None)
    if isinstance(present, pd.DataFrame):
        return present, False
    if isinstance(present, pd.Series):
        return present.reindex(search.mean.index).to_frame(""), False
    if hasattr(search, "covariates") and hasattr(search, "summary"):
        table = search.summary().pivot(index="parameter", columns="covariate", values="probability")
        return table.loc[list(search.parameters), list(search.covariates)], True
    raise TypeError(
        "search must be what bayesdcm.search_reduced, effects.search() or effects.compare() "
        f"returned, or effects on a group, got {type(search).__name__}"
    )


def _pruned(search: Any) -> set[tuple[str, str]]:
    """Covariates ("" of a single fit) and labels pruned before the last set of a search."""
    if not hasattr(search, "present"):
        return set()
    table = search.summary().reset_index()
    table = table[table["search"] == "pruned"]
    covariates = table["covariate"] if "covariate" in table else [""] * len(table)
    return set(zip(covariates, table["parameter"], strict=True))


def _panels(probability: pd.Series, pruned: set[str]) -> list[_Panel]:
    """Matrices of all sites of which at least one entry was searched."""
    groups: dict[tuple[str, str], dict[tuple[str, str], tuple[float, bool]]] = {}
    for label, value in probability.items():
        site, places = parsed(str(label))
        if len(places) in (1, 2, 3):
            group = groups.setdefault((site, places[0] if len(places) == 3 else ""), {})
            group[(*places[-2:], "")[:2]] = float(value), str(label) in pruned
    squares: list[list[str]] = []
    for (site, _), entries in groups.items():
        by_row: dict[str, list[str]] = {}
        for row, column in entries:
            by_row.setdefault(row, []).append(column)
        if site not in INPUTS and [""] not in by_row.values():
            squares += [list(by_row), *by_row.values()]
    regions = in_order(squares)
    panels = []
    for (site, kind), entries in groups.items():
        if not any(np.isfinite(value) or is_off for value, is_off in entries.values()):
            continue
        rows, columns = (list(dict.fromkeys(names)) for names in zip(*entries, strict=True))
        column_word = ""
        if columns != [""]:
            rows = regions if set(rows) <= set(regions) else in_order([regions, rows])
            column_word = "input" if site in INPUTS else "from"
            columns = columns if site in INPUTS else regions
        title = f"{site} ({kind})" if kind else site
        panels.append(_Panel(title, rows, columns, column_word, entries))
    return panels


def _size(rows: list[list[_Panel]]) -> tuple[float, float]:
    """Width and height of a figure."""
    panels = [panel for line in rows for panel in line]
    across, down = (max(len(p.columns) for p in panels), max(len(p.rows) for p in panels))
    longest = max(len(name) for p in panels for name in p.rows)
    width = max(map(len, rows)) * max(0.5 * across + 0.6 + 0.075 * longest, 2.2) + 1.3
    below = 0.055 * max(len(name) for p in panels for name in p.columns)
    height = len(rows) * max(0.5 * down + 0.95 + below, 1.6) + 1.0
    return width, height


def _draw(ax: Axes, panel: _Panel, shades: Any, least: float) -> set[str]:
    """Draw a matrix; whether some entries were pruned or not searched."""
    marks = set()
    for i, j in np.ndindex(len(panel.rows), len(panel.columns)):
        value, pruned = panel.entries.get((panel.rows[i], panel.columns[j]), (None, False))
        mark, look, text, ink, linewidth = "", {"edgecolor": EDGE}, "", style.MUTED, 0.6
        if value is None:
            mark, linewidth = "absent", 0.0
        elif pruned:
            mark, text = "pruned", "off"
        elif not np.isfinite(value):
            mark, linewidth = "not searched", 0.8
        else:
            tint = shades((value - least) / (1 - least))
            look["facecolor"], text, ink = tint, style.share_text(value), style.ink_on(tint)
        marks.add(mark)
        corner = (j - 0.47, i - 0.47)
        ax.add_patch(Rectangle(corner, 0.94, 0.94, linewidth=linewidth, **LOOKS.get(mark, look)))
        if text:
            ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=8)
    ax.set_xlim(-0.5, len(panel.columns) - 0.5)
    ax.set_ylim(len(panel.rows) - 0.5, -0.5)
    ax.set_aspect("equal")
    style.name_cells(ax, panel.rows, panel.columns, 6, 45, fontsize="small")
    if panel.column_word:
        ax.set_ylabel("to", fontsize="small")
        ax.set_xlabel(panel.column_word, fontsize="small")
    else:
        ax.set_xticks([])
    return marks


def _explain(figure: Canvas, search: Any, sign: bool, marks: set[str]) -> None:
    group = not isinstance(getattr(search, "present", None), pd.Series)
    if sign:
        title = "Effects on the group: probability of their sign"
    elif group:
        title = "Probability that effects on the group are there"
        if hasattr(search, "commonalities"):
            title += "\n(> 0.99 as well where all compared models have them)"
    else:
        title = "Probability that connections are there"
    style.heading(figure, title)
    labels = {"absent": "no such parameter", "pruned": "pruned before the last set",
              "not searched": "not searched"}  # fmt: skip
    shown = [mark for mark in labels if mark in marks | {"absent"}]
    style.legend(figure, [Patch(label=labels[mark], **LOOKS[mark]) for mark in shown])
