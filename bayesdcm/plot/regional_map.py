"""Values of regions where they lie: parameters that differ between regions, means, scores."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data import Connectome
from bayesdcm.plot.style import (
    COLOURS,
    DIVERGING,
    INK,
    bare_rows,
    colour_bar,
    heading,
    name_rows,
    new_figure,
    panel_title,
    tidy,
)

SEQUENTIAL = "viridis"
# Most regions that have names and rows of their own.
MOST_NAMES = 40
VIEWS = ((0, 1, "Seen from above", "x (mm, right is right)", "y (mm)"),
         (1, 2, "Seen from the right", "y (mm)", "z (mm)"))  # fmt: skip


def plot_regional_map(
    connectome: Connectome,
    values: ArrayLike,
    *,
    label: str = "value",
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw a value of each region: where the region lies, and in rows or sorted.

    Colours are centred on 0 where values have both signs.

    Parameters
    ----------
    connectome : Connectome
        Names of the regions, and their centres where it has them.
    values : array_like, shape (regions,)
        What is drawn, such as a parameter that differs between regions.
    label : str
        What the values are, with their unit.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Two views of the brain where there are centres, and the values by region; of more than 40
        regions, sorted.

    Raises
    ------
    TypeError
        If it is not a connectome.
    ValueError
        If there is not one finite value a region.
    """
    if not isinstance(connectome, Connectome):
        raise TypeError(
            f"connectome must be a Connectome, got {type(connectome).__name__}; "
            "Connectome(weights, lengths) makes one"
        )
    numbers = np.asarray(values, dtype=float)
    if numbers.shape != (connectome.n_regions,) or not np.isfinite(numbers).all():
        raise ValueError(
            f"values must be finite, one a region, shape ({connectome.n_regions},); got shape "
            f"{numbers.shape}"
            + ("" if np.isfinite(numbers).all() else " with values that are not finite")
        )
    has_centres = connectome.centres is not None
    named = connectome.n_regions <= MOST_NAMES
    height = max(3.8, 0.26 * connectome.n_regions) if named else 3.8
    figure = figure or new_figure(4.2 + 7.4 * has_centres, height)
    axes = figure.subplots(1, 3 if has_centres else 1, squeeze=False)[0]
    low, high, colours = _scale(numbers)
    for ax, view in zip(axes[:-1], VIEWS, strict=False):
        _draw_view(ax, connectome.centres, numbers, view, Normalize(low, high), colours)
    if has_centres:
        colour_bar(axes[:-1], low, high, colours, label=label, shrink=0.8)
    _draw_rows(axes[-1], numbers, connectome.region_names if named else None, label)
    heading(figure, f"{label}: {numbers.min():.3g} to {numbers.max():.3g}")
    return figure


def _scale(values: NDArray) -> tuple[float, float, str]:
    low, high = float(values.min()), float(values.max())
    if low < 0 < high:
        bound = max(-low, high)
        return -bound, bound, DIVERGING
    if low == high:
        return low - 0.5, high + 0.5, SEQUENTIAL
    return low, high, SEQUENTIAL


def _draw_view(
    ax: Axes,
    centres: NDArray,
    values: NDArray,
    view: tuple[int, int, str, str, str],
    norm: Normalize,
    colours: str,
) -> None:
    across, up, title, *labels = view
    # What lies nearer to the viewer covers the rest.
    order = np.argsort(centres[:, 3 - across - up])
    ax.scatter(*centres[order][:, [across, up]].T, c=values[order], norm=norm, cmap=colours,
               s=170 if len(values) <= 16 else 60, edgecolor=INK, linewidth=0.6)  # fmt: skip
    ax.set_aspect("equal")
    ax.margins(0.12)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    panel_title(ax, title)
    tidy(ax)


def _draw_rows(ax: Axes, values: NDArray, names: tuple[str, ...] | None, label: str) -> None:
    style = {"color": COLOURS[0], "marker": "o", "markersize": 5, "linestyle": ""}
    if names is None:
        ax.plot(np.sort(values), np.arange(len(values)), **style | {"markersize": 3})
        ax.set_ylabel("regions, sorted")
        tidy(ax)
    else:
        bare_rows(ax, range(len(values)))
        ax.plot(values, np.arange(len(values)), **style)
        name_rows(ax, names)
    ax.set_xlabel(label)
    panel_title(ax, "By region")
