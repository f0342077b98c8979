"""Matrices of the probabilities that connections are there, or that a covariate acts on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle

from bayesdcm.plot.group_effects import covariate_title
from bayesdcm.plot.labels import INPUTS, chosen, in_order, parsed
from bayesdcm.plot.style import INK, MUTED, PALE, heading, legend, share_text

HATCH, UNASKED, PRUNED = "#dedede", "#ffffff", "#f5efe6"


class _Panel(NamedTuple):
    """A matrix: heading, names of rows and columns, what columns are, what is known of entries."""

    title: str
    rows: list[str]
    columns: list[str]
    column_word: str
    probability: dict[tuple[str, str], float]
    pruned: set[tuple[str, str]]


def plot_connection_evidence(
    search: Any,
    covariate: str | Sequence[str] | None = None,
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
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
    gone = _pruned(search)
    rows = {
        name: _panels(table[name], {label for each, label in gone if each == name})
        for name in table.columns
    }
    n_columns = max(map(len, rows.values()))
    if not n_columns:
        raise ValueError("search has no parameters with places, such as 'A[V5, V1]', to draw")
    if figure is None:
        figure = _new_figure(list(rows.values()))
    axes = figure.subplots(len(rows), n_columns, squeeze=False)
    least = 0.5 if sign else 0.0
    shades = LinearSegmentedColormap.from_list("evidence", ["#fbfbfb", "#7fb3d5", "#08457e"])
    marks: set[str] = set()
    for line, (name, panels) in zip(axes, rows.items(), strict=True):
        for ax, panel in zip(line, panels, strict=False):
            marks |= _draw(ax, panel, shades, least)
            ax.set_title(_heading(name, panel.title, covariates), loc="left",
                         fontsize="medium")  # fmt: skip
        for ax in line[len(panels) :]:
            ax.set_axis_off()
    bar = figure.colorbar(ScalarMappable(Normalize(least, 1), shades), ax=axes.ravel().tolist(),
                          shrink=0.8 if len(rows) == 1 else 0.5, aspect=25)  # fmt: skip
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
    labels = [parsed(str(label)) for label in probability.index]
    groups: dict[tuple[str, str], list[int]] = {}
    squares: list[list[str]] = []
    for i, label in enumerate(labels):
        if len(label.places) in (1, 2, 3):
            kind = label.places[0] if len(label.places) == 3 else ""
            groups.setdefault((label.site, kind), []).append(i)
    for (site, _), members in groups.items():
        if site in INPUTS or len(labels[members[0]].places) == 1:
            continue
        by_row: dict[str, list[str]] = {}
        for i in members:
            by_row.setdefault(labels[i].places[-2], []).append(labels[i].places[-1])
        squares += [list(by_row), *by_row.values()]
    regions = in_order(squares)
    found = []
    for (site, kind), members in groups.items():
        values = probability.iloc[members]
        gone = [str(label) in pruned for label in values.index]
        if not (np.isfinite(values.to_numpy(float)) | gone).any():
            continue
        places = [labels[i].places for i in members]
        title = f"{site} ({kind})" if kind else site
        if len(places[0]) == 1:
            names = list(dict.fromkeys(place[0] for place in places))
            entries = {(p[0], ""): float(v) for p, v in zip(places, values, strict=True)}
            off = {(p[0], "") for p, out in zip(places, gone, strict=True) if out}
            found.append(_Panel(title, names, [""], "", entries, off))
            continue
        entries = {(p[-2], p[-1]): float(v) for p, v in zip(places, values, strict=True)}
        columns = list(dict.fromkeys(p[-1] for p in places)) if site in INPUTS else regions
        rows = regions or list(dict.fromkeys(p[-2] for p in places))
        rows = rows if {p[-2] for p in places} <= set(rows) else in_order(
            [rows, [p[-2] for p in places]]
        )  # fmt: skip
        off = {(p[-2], p[-1]) for p, out in zip(places, gone, strict=True) if out}
        found.append(
            _Panel(title, rows, columns, "input" if site in INPUTS else "from", entries, off)
        )
    return found


def _new_figure(rows: list[list[_Panel]]) -> Figure:
    panels = [panel for line in rows for panel in line]
    across, down = (max(len(p.columns) for p in panels), max(len(p.rows) for p in panels))
    longest = max(len(name) for p in panels for name in p.rows)
    width = max(map(len, rows)) * max(0.5 * across + 0.6 + 0.075 * longest, 2.2) + 1.3
    below = 0.055 * max(len(name) for p in panels for name in p.columns)
    height = len(rows) * max(0.5 * down + 0.95 + below, 1.6) + 1.0
    return plt.figure(figsize=(width, height), layout="constrained")


def _draw(ax: Axes, panel: _Panel, shades: Any, least: float) -> set[str]:
    """Draw a matrix; whether some entries were pruned or not searched."""
    marks: set[str] = set()
    for i, row in enumerate(panel.rows):
        for j, column in enumerate(panel.columns):
            value = panel.probability.get((row, column))
            corner = (j - 0.47, i - 0.47)
            if value is None:
                ax.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=PALE, edgecolor=HATCH,
                                       hatch="////", linewidth=0))  # fmt: skip
                continue
            if (row, column) in panel.pruned:
                marks.add("pruned")
                ax.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=PRUNED, edgecolor="#c4c4c4",
                                       linewidth=0.6))  # fmt: skip
                ax.text(j, i, "off", ha="center", va="center", color=MUTED, fontsize=8)
                continue
            if not np.isfinite(value):
                marks.add("not searched")
                ax.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=UNASKED, edgecolor="#c4c4c4",
                                       linewidth=0.8, linestyle=":"))  # fmt: skip
                continue
            tint = shades((value - least) / (1 - least))
            ax.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=tint, edgecolor="#c4c4c4",
                                   linewidth=0.6))  # fmt: skip
            ink = "white" if np.dot(tint[:3], [0.299, 0.587, 0.114]) < 0.5 else INK
            ax.text(j, i, share_text(value), ha="center", va="center", color=ink, fontsize=8)
    ax.set_xlim(-0.5, len(panel.columns) - 0.5)
    ax.set_ylim(len(panel.rows) - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.set_xticks(range(len(panel.columns)), panel.columns, fontsize="small")
    ax.set_yticks(range(len(panel.rows)), panel.rows, fontsize="small")
    if max(map(len, panel.columns)) > 6:
        plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    if panel.column_word:
        ax.set_ylabel("to", fontsize="small")
        ax.set_xlabel(panel.column_word, fontsize="small")
    else:
        ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return marks


def _heading(covariate: str, title: str, covariates: list[str]) -> str:
    return f"{covariate_title(covariate, covariates)}\n{title}" if covariate else title


def _explain(figure: Figure | SubFigure, search: Any, sign: bool, marks: set[str]) -> None:
    group = not isinstance(getattr(search, "present", None), pd.Series)
    if sign:
        title = "Effects on the group: probability of their sign"
    elif group:
        title = "Probability that effects on the group are there"
        if hasattr(search, "commonalities"):
            title += "\n(> 0.99 as well where all compared models have them)"
    else:
        title = "Probability that connections are there"
    heading(figure, title)
    handles = [Patch(facecolor=PALE, edgecolor=HATCH, hatch="////", label="no such parameter")]
    if "pruned" in marks:
        handles.append(
            Patch(facecolor=PRUNED, edgecolor="#c4c4c4", label="pruned before the last set")
        )
    if "not searched" in marks:
        handles.append(
            Patch(facecolor=UNASKED, edgecolor="#c4c4c4", linestyle=":", label="not searched")
        )
    legend(figure, handles)
