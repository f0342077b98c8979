"""Functional connectivity dynamics, of a simulation beside those of a recording."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from bayesdcm.observe import functional_connectivity_dynamics_distance
from bayesdcm.plot.region_matrix import as_matrix, draw_matrix
from bayesdcm.plot.style import INK, colour, new_figure, panel_title, tidy

COLOURS = "magma"
BINS = 60


def plot_functional_connectivity_dynamics(
    simulated: Any, recorded: Any = None, *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw functional connectivity dynamics, and how their values are distributed.

    The number is Kolmogorov and Smirnov's distance between the distributions
    (`bayesdcm.observe.functional_connectivity_dynamics_distance`).

    Parameters
    ----------
    simulated : array_like, shape (windows, windows)
        From `bayesdcm.functional_connectivity_dynamics`; the times of a labelled one are drawn.
    recorded : array_like, shape (windows, windows), optional
        Those of a recording, perhaps of another length, with windows as long.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One matrix, or two, and the distributions of their values.

    Raises
    ------
    ValueError
        If a matrix is not square.
    """
    given = {"simulated": simulated, "recorded": recorded}
    given = {name: value for name, value in given.items() if value is not None}
    matrices = {name: as_matrix(value, name) for name, value in given.items()}
    figure = figure or new_figure(4.6 * len(given) + 4.2, 4.2)
    axes = figure.subplots(1, len(given) + 1)
    pairs = {name: matrix[np.triu_indices(len(matrix), 1)] for name, matrix in matrices.items()}
    low = min(0.0, *(float(values.min()) for values in pairs.values()))
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=False):
        title = name.capitalize() if recorded is not None else "Dynamics"
        image = draw_matrix(ax, matrix, title=title, colours=COLOURS, limits=(low, 1.0),
                            axes=("window", "other window"))  # fmt: skip
        _label_times(ax, image, given[name])
    figure.colorbar(image, ax=list(axes[:-1]), shrink=0.8, label="correlation of windows")
    _draw_distributions(axes[-1], pairs)
    if recorded is not None:
        distance = float(functional_connectivity_dynamics_distance(*matrices.values()))
        axes[-1].set_title(f"KS distance = {distance:.2f}", loc="right", fontsize="small",
                           color=INK)  # fmt: skip
        axes[-1].legend(frameon=False, fontsize="small")
    return figure


def _label_times(ax: Axes, image: Any, matrix: Any) -> None:
    """Axes in seconds, where the matrix knows them."""
    if "window" not in getattr(matrix, "coords", ()):
        return
    times = np.asarray(matrix["window"], dtype=float)
    half = (times[1] - times[0]) / 2
    first, last = times[0] - half, times[-1] + half
    image.set_extent((first, last, last, first))
    ax.set_ylabel("middle of the window (s)")
    ax.set_xlabel("middle of the other window (s)")


def _draw_distributions(ax: Axes, pairs: dict[str, NDArray]) -> None:
    values = np.concatenate(list(pairs.values()))
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    for i, (name, each) in enumerate(pairs.items()):
        ax.hist(each, edges, density=True, histtype="stepfilled", color=colour(i), alpha=0.35)
        ax.hist(each, edges, density=True, histtype="step", color=colour(i), label=name)
    ax.set_xlabel("correlation of windows")
    ax.set_ylabel("density")
    panel_title(ax, "Values above the diagonal")
    tidy(ax)
