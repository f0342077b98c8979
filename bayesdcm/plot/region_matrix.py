"""Matrices over pairs of many regions: images with as many names as have room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from bayesdcm.plot.style import PALE, panel_title

__all__ = ["as_matrix", "draw_matrix", "name_some", "names_of"]

# More names than this along an axis are thinned out.
MOST_NAMES = 20


def as_matrix(value: Any, name: str) -> NDArray[np.float64]:
    """A square matrix of numbers, or an error that names the argument."""
    matrix = np.asarray(getattr(value, "functional_connectivity", value), dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(
            f"{name} must be a square matrix, got shape {matrix.shape}; of a series it is made by "
            "functional_connectivity or functional_connectivity_dynamics"
        )
    return matrix


def names_of(value: Any) -> list[str] | None:
    """Names of the regions of a labelled matrix or a connectome; None where it has none."""
    names = getattr(value, "region_names", None)
    if names is None and "region" in getattr(value, "coords", ()):
        names = np.asarray(value["region"])
    return None if names is None else [str(name) for name in names]


def name_some(axis: Axis, names: Sequence[str], **style: Any) -> None:
    """Write as many names along an axis, evenly chosen, as have room."""
    places = range(0, len(names), -(-len(names) // MOST_NAMES))
    axis.set_ticks(places, [names[place] for place in places], fontsize="x-small", **style)


def draw_matrix(
    ax: Axes,
    values: NDArray,
    *,
    title: str,
    colours: str,
    limits: tuple[float, float],
    names: Sequence[str] | None = None,
    axes: tuple[str, str] = ("region", "region"),
    norm: Any = None,
) -> AxesImage:
    """Draw a matrix; entries that are NaN stay pale.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    values : ndarray, shape (rows, columns)
        The matrix.
    title, colours : str
        Title of the panel, name of a colour map.
    limits : (float, float)
        Values of the first and the last colour.
    names : sequence of str, optional
        Names of the regions; numbers where there are none.
    axes : (str, str)
        What rows and columns are.
    norm : matplotlib.colors.Normalize, optional
        How values become colours, instead of the limits.

    Returns
    -------
    AxesImage
        For a colour bar.
    """
    cmap = colormaps[colours].with_extremes(bad=PALE)
    scale = {"norm": norm} if norm is not None else {"vmin": limits[0], "vmax": limits[1]}
    image = ax.imshow(values, cmap=cmap, interpolation="nearest", **scale)
    if names is not None:
        name_some(ax.yaxis, names)
        name_some(ax.xaxis, names, rotation=90)
    ax.set_ylabel(axes[0])
    ax.set_xlabel(axes[1])
    ax.tick_params(length=2)
    ax.spines[:].set_visible(False)
    panel_title(ax, title)
    return image
