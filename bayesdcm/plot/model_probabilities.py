"""Which model: tables of `select_models` and `compare` as figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import beta

from bayesdcm.plot import style
from bayesdcm.plot.labels import check_limit
from bayesdcm.plot.style import Canvas


def plot_model_probabilities(
    table: pd.DataFrame, *, limit: int = 20, figure: Canvas | None = None
) -> Canvas:
    """Draw which of several models the data speak for.

    Random effects over subjects: expected frequencies of the models in the population with their
    90 % credible intervals, beside the probabilities that each is the most frequent (exceedance)
    and the same protected against frequencies that differ by chance. Fixed effects, and models of
    one data set: differences to the best model, with one standard error either way where it is
    known, beside model probabilities or weights.

    Parameters
    ----------
    table : pandas.DataFrame
        What `bayesdcm.select_models` or `bayesdcm.compare` returned.
    limit : int
        Most models to draw, the best ones; 20 by default.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Two panels with one row a model, the best on top.

    Raises
    ------
    TypeError, ValueError
        If `table` is not such a table, or `limit` is below 1.

    Examples
    --------
    >>> import bayesdcm
    >>> table = bayesdcm.select_models({"forward": [-310.0, -295.5], "backward": [-313.5, -301.0]})
    >>> len(plot_model_probabilities(table).axes)
    2
    """
    _check(table, limit)
    random = "frequency" in table
    shown = table.sort_values(
        "frequency" if random else "difference", ascending=False, kind="stable"
    ).iloc[:limit]
    longest = max(len(str(name)) for name in shown.index)
    figure = figure or style.new_figure(7.2 + 0.085 * longest, 0.34 * len(shown) + 1.9, wspace=0.06)
    left, right = figure.subplots(1, 2, sharey=True)
    for ax in (left, right):
        style.bare_rows(ax, range(len(shown)))
    title = (_draw_random if random else _draw_differences)(left, right, shown, table)
    right.set(xlim=(0, 1.15), xticks=[0, 0.25, 0.5, 0.75, 1])
    style.name_rows(left, list(map(str, shown.index)), fontsize="medium")
    if len(shown) < len(table):
        title += f"; {len(shown)} of {len(table)} models"
    style.heading(figure, title)
    style.legend(figure, style.labelled((left, right)), ncols=3)
    return figure


def _check(table: Any, limit: int) -> None:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            "table must be what bayesdcm.select_models or bayesdcm.compare returned, got "
            f"{type(table).__name__}"
        )
    known = {"frequency", "exceedance"} <= set(table) or "difference" in table
    if not known or table.empty:
        raise ValueError(
            "table must be what bayesdcm.select_models or bayesdcm.compare returned, but it "
            f"{'is empty' if table.empty else f'has the columns {list(table)}'}"
        )
    check_limit(limit)


def _bars(ax: Axes, values: NDArray, tint: str, label: str, shift: float, width: float) -> None:
    heights = np.arange(len(values)) + shift
    ax.barh(heights, values, width, color=tint, label=label, zorder=2)
    for height, value in zip(heights, values, strict=True):
        ax.text(
            value + 0.015,
            height,
            style.share_text(value),
            va="center",
            fontsize="small",
            color=style.INK,
        )


def _draw_random(left: Axes, right: Axes, shown: pd.DataFrame, table: pd.DataFrame) -> str:
    frequency = shown["frequency"].to_numpy()
    heights, interval = np.arange(len(shown)), ""
    if "dirichlet" in shown:
        alpha, total = shown["dirichlet"].to_numpy(), table["dirichlet"].sum()
        low, high = (beta.ppf(q, alpha, total - alpha) for q in (0.05, 0.95))
        left.hlines(heights, low, high, color=style.colour(0), linewidth=1.6, zorder=2)
        interval = " and 90 % interval"
    left.plot(frequency, heights, "o", color=style.colour(0), ms=7, zorder=3,
              label=f"expected frequency{interval}")  # fmt: skip
    left.axvline(1 / len(table), color=style.MUTED, linewidth=1, linestyle="--", zorder=1,
                 label=f"equal frequencies (1/{len(table)})")  # fmt: skip
    left.set_xlim(0, 1)
    left.set_xlabel("frequency of the model in the population")
    if "protected" in shown:
        _bars(right, shown["exceedance"].to_numpy(), style.colour(5), "exceedance", -0.2, 0.36)
        _bars(
            right, shown["protected"].to_numpy(), style.colour(1), "protected exceedance", 0.2, 0.36
        )
    else:
        _bars(right, shown["exceedance"].to_numpy(), style.colour(5), "_", 0.0, 0.5)
    right.set_xlabel("probability of being the most frequent")
    title = "Models in the population (random effects)"
    if "omnibus_risk" in table.attrs:
        title += f"; P(all equally frequent) = {table.attrs['omnibus_risk']:.2f}"
    return title


def _draw_differences(left: Axes, right: Axes, shown: pd.DataFrame, table: pd.DataFrame) -> str:
    predictive = "elpd" in table
    difference, heights = shown["difference"].to_numpy(), np.arange(len(shown))
    doubtful = shown["warning"].to_numpy() if "warning" in shown else np.zeros(len(shown), bool)
    error = shown["dse"].to_numpy() if "dse" in shown else np.full(len(shown), np.nan)
    known = np.isfinite(error) & (error > 0)
    if known.any():
        left.hlines(heights[known], (difference - error)[known], (difference + error)[known],
                    color=style.colour(0), linewidth=1.6, zorder=2)  # fmt: skip
    named = "difference" + (" ± standard error" if known.any() else "")
    looks = ((~doubtful, style.colour(0), named), (doubtful, "white", "doubtful"))
    for chosen, face, label in looks:
        if chosen.any():
            left.plot(difference[chosen], heights[chosen], "o", color=style.colour(0), ms=7,
                      zorder=3, markerfacecolor=face, label=label)  # fmt: skip
    for height, value in zip(heights, difference, strict=True):
        if value != 0:
            text = f"{value:.1f}".replace("-", "\N{MINUS SIGN}")
            left.annotate(text, (value, height), (0, 5), textcoords="offset points", ha="center",
                          va="bottom", fontsize="small", color=style.INK)  # fmt: skip
    left.axvline(0, color=style.MUTED, linewidth=1, zorder=1)
    left.margins(x=0.12)
    what = "expected log predictive density" if predictive else "log evidence"
    left.set_xlabel(f"{what} minus that\nof the best model (nats)")
    column = "probability" if "probability" in shown else "weight"
    _bars(right, shown[column].to_numpy(), style.colour(1), "_", 0.0, 0.5)
    right.set_xlabel(f"{column} of the model")
    if predictive:
        return "Models compared by their predictions of left-out data"
    return "Models compared by their evidence" + (
        "" if "rank" in table else ", summed over subjects (fixed effects)"
    )
