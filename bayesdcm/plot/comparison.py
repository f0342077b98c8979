"""Table of `compare_posteriors` as a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayesdcm.plot import style
from bayesdcm.plot.labels import check_limit
from bayesdcm.plot.style import Canvas

COLUMNS = ("parameter", "fit", "shift", "sd_ratio", "distance")


def plot_comparison(
    table: pd.DataFrame, *, limit: int = 20, figure: Canvas | None = None
) -> Canvas:
    """Draw how far posteriors lie from a reference, the worst parameter on top.

    Parameters
    ----------
    table : pandas.DataFrame
        What `bayesdcm.compare_posteriors` returned.
    limit : int
        Most parameters to draw.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Left the shift of the means, in standard deviations of the reference; right the ratio of
        the standard deviations.

    Raises
    ------
    TypeError, ValueError
        If `table` is not such a table, or `limit` is below 1.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"parameter": "decay", "fit": "laplace", "shift": 0.1, "sd_ratio": 0.9, "distance": 0.1}
    >>> len(plot_comparison(pd.DataFrame([row])).axes)
    2
    """  # noqa: E501
    _check(table, limit)
    labels = list(table["parameter"].unique()[:limit])
    shown = table[table["parameter"].isin(labels)]
    reference = table.attrs.get("reference", "the reference")
    figure = figure or style.new_figure(8.5, 0.26 * len(labels) + 1.6, wspace=0.06)
    left, right = figure.subplots(1, 2, sharey=True)
    for i, name in enumerate(table["fit"].unique()):
        rows = shown[shown["fit"] == name]
        heights = [labels.index(label) for label in rows["parameter"]]
        for ax, column in ((left, "shift"), (right, "sd_ratio")):
            ax.scatter(rows[column], heights, s=32, label=name, zorder=3, **style.points(i))
    _label_axes(left, right, labels, reference)
    style.heading(figure, f"Compared with {reference}, the worst agreement on top")
    style.legend(figure, style.labelled([left]), loc="outside upper right")
    return figure


def _check(table: Any, limit: int) -> None:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"table must be what compare_posteriors returned, got {type(table).__name__}"
        )
    missing = [name for name in COLUMNS if name not in table]
    if missing or table.empty:
        fault = f"lacks {', '.join(map(repr, missing))}" if missing else "is empty"
        raise ValueError(f"table must be what compare_posteriors returned, but it {fault}")
    check_limit(limit)


def _label_axes(left: Axes, right: Axes, labels: list[str], reference: str) -> None:
    for ax, centre in ((left, 0.0), (right, 1.0)):
        ax.axvline(centre, color=style.MUTED, linewidth=1)
        style.bare_rows(ax, range(len(labels)))
    style.name_rows(left, labels)
    left.set_xlabel(f"difference of means\n(standard deviations of {reference})")
    right.set_xlabel(f"standard deviation\n(relative to that of {reference})")
    reach = max(np.abs(left.get_xlim()).max(), 0.2)
    left.set_xlim(-reach, reach)
    low, high = right.get_xlim()
    right.set_xlim(min(low, 0.8), max(high, 1.2))
