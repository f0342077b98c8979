"""What all figures share: colours that colour-blind readers tell apart, numbers, axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

# What figures are drawn on.
Canvas = Figure | SubFigure

# Okabe and Ito's palette, https://jfly.uni-koeln.de/color/; its yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Warm for excitation and cold for inhibition, as in the diverging map.
POSITIVE, NEGATIVE = "#C1440E", "#0072B2"
DIVERGING = "RdBu_r"
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<")
# Lines are told apart without colour, too.
DASHES = ("-", "--", "-.", ":")
INK, MUTED, PALE = "#222222", "#767676", "#f2f2f2"
PRIOR = "#9a9a9a"
# Cells of matrices that hold nothing.
HATCHED = {"facecolor": PALE, "edgecolor": "#dedede", "hatch": "////"}
NBSP = "\N{NO-BREAK SPACE}"


def colour(index: int) -> str:
    """Colour of the line number `index`, starting over after the last."""
    return COLOURS[index % len(COLOURS)]


def points(index: int) -> dict[str, str]:
    """Colour and marker of the points number `index`."""
    return {"color": colour(index), "marker": MARKERS[index % len(MARKERS)]}


def dashes(index: int) -> str:
    """Dashes of the line number `index`, starting over after the last."""
    return DASHES[index % len(DASHES)]


def ink_on(background: Any, ink: str = INK) -> str:
    """Colour of text on a background (red, green, blue, ...): white where that is dark."""
    return "white" if np.dot([0.299, 0.587, 0.114], background[:3]) < 0.5 else ink


def signed(value: float, digits: int = 2) -> str:
    """Typeset a number with its sign, zero without one.

    Examples
    --------
    >>> signed(0.254), signed(-0.001)
    ('+0.25', '0.00')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def probability_text(probability: float) -> str:
    r"""Typeset a posterior probability in two digits, never claiming certainty.

    Examples
    --------
    >>> probability_text(0.934), probability_text(1.0)
    ('P\xa0=\xa00.93', 'P\xa0>\xa00.99')
    """
    sign, number = (">", 0.99) if probability > 0.99 else ("=", probability)
    return f"P{NBSP}{sign}{NBSP}{number:.2f}"


def share_text(probability: float) -> str:
    r"""Typeset a probability in two digits, claiming neither certainty nor impossibility.

    Examples
    --------
    >>> share_text(0.934), share_text(1.0), share_text(0.0)
    ('0.93', '>\xa00.99', '<\xa00.01')
    """
    if probability < 0.01:
        return f"<{NBSP}0.01"
    return f">{NBSP}0.99" if probability > 0.99 else f"{probability:.2f}"


def tidy(ax: Any) -> None:
    """Take away the upper and right border of a panel, which carry nothing."""
    ax.spines[["top", "right"]].set_visible(False)


def new_figure(width: float, height: float, **spaces: float) -> Figure:
    """An empty figure (inches), with spaces between panels where the usual ones do not serve."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(**spaces)
    return figure


def heading(figure: Any, text: str) -> None:
    """Write what a figure shows above it."""
    figure.suptitle(text, x=0.01, ha="left", fontsize="medium")


def panel_title(ax: Axes, text: str, **style: Any) -> None:
    """Write what a panel shows above its left end."""
    ax.set_title(text, loc="left", fontsize="medium", **style)


def legend(figure: Any, handles: Any, labels: Any = None, loc: str = "outside lower left",
           ncols: int | None = None) -> None:  # fmt: skip
    """Put a legend outside the panels of a figure, by default in one row, in the artists' words."""
    labels = [handle.get_label() for handle in handles] if labels is None else labels
    if handles:
        figure.legend(handles, labels, loc=loc, ncols=ncols or len(handles), frameon=False,
                      fontsize="small", labelcolor=INK)  # fmt: skip


def labelled(axes: Iterable[Axes]) -> list[Any]:
    """What the legend of some panels holds."""
    return [handle for ax in axes for handle in ax.get_legend_handles_labels()[0]]


def first_panels(axes: NDArray, count: int) -> list[Axes]:
    """The first of a grid of panels; the others are left empty."""
    for ax in axes.ravel()[count:]:
        ax.set_axis_off()
    return list(axes.ravel()[:count])


def bare_rows(ax: Axes, heights: Iterable[float]) -> None:
    """Prepare a panel whose rows stand for things with names: a faint line for each, no axis."""
    for height in heights:
        ax.axhline(height, color="#e6e6e6", linewidth=0.6, zorder=0)
    tidy(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def name_rows(ax: Axes, names: Sequence[str], margin: float = 0.1, **style: Any) -> None:
    """Write the names of rows at 0, 1, ... from the top, on the left of a panel."""
    ax.set_yticks(range(len(names)), names, **{"fontsize": "small"} | style)
    ax.set_ylim(len(names) - 0.5 + margin, -0.5 - margin)


def name_cells(ax: Axes, rows: Sequence[str], columns: Sequence[str], most: int, turn: float,
               **style: Any) -> None:  # fmt: skip
    """Write names beside a matrix; of columns longer than `most`, turned by so many degrees."""
    ax.set_yticks(range(len(rows)), rows, **style)
    ax.set_xticks(range(len(columns)), columns, **style)
    if max(map(len, columns)) > most:
        plt.setp(ax.get_xticklabels(), rotation=turn, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def colour_bar(axes: Sequence[Axes], low: float, high: float, colours: Any, **style: Any) -> Any:
    """Scale of the colours of panels, beside them."""
    mappable = ScalarMappable(Normalize(low, high), colours)
    return axes[0].figure.colorbar(mappable, ax=list(axes), **style)
