"""Functional connectivity, of a simulation beside that of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from bayesdcm.observe import matrix_correlation
from bayesdcm.plot.region_matrix import as_matrix, draw_matrix, names_of
from bayesdcm.plot.style import DIVERGING, INK, MUTED, colour, new_figure, panel_title, tidy


def plot_functional_connectivity(
    simulated: Any,
    recorded: Any = None,
    *,
    region_names: Sequence[str] | None = None,
    titles: tuple[str, str] = ("Simulated", "Recorded"),
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw functional connectivity, beside that of a recording and against it pair by pair.

    Colours are centred on 0 and the same in both matrices; the diagonal is left out. The number is
    Pearson's r over all pairs of regions (`bayesdcm.observe.matrix_correlation`). A linear network
    often reaches as much, so compare with one before you read anything into it.

    Parameters
    ----------
    simulated : array_like, shape (regions, regions), or Connectome
        Functional connectivity, from `bayesdcm.functional_connectivity`.
    recorded : array_like, shape (regions, regions), or Connectome, optional
        That of a recording of the same regions in the same order, or a connectome that has it.
    region_names : sequence of str, optional
        By default those of a labelled matrix or a connectome.
    titles : pair of str
        What the two are called.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One matrix; or two, and one against the other.

    Raises
    ------
    ValueError
        If the matrices are not square or not of the same regions.
    """
    given = {"simulated": simulated, "recorded": recorded}
    given = {name: value for name, value in given.items() if value is not None}
    matrices = {name: as_matrix(value, name) for name, value in given.items()}
    known = [names_of(value) for value in given.values()]
    names = region_names or next((names for names in known if names), None)
    if recorded is not None:
        _check_alike(known, matrices)
    figure = figure or new_figure(5.0 if recorded is None else 13.0, 4.4)
    axes = figure.subplots(1, 1 if recorded is None else 3, squeeze=False)[0]
    pairs = {name: matrix[np.triu_indices(len(matrix), 1)] for name, matrix in matrices.items()}
    bound = max(np.abs(values).max() for values in pairs.values())
    shown_titles = ["Functional connectivity"] if recorded is None else titles
    for ax, title, matrix in zip(axes, shown_titles, matrices.values(), strict=False):
        shown = np.where(np.eye(len(matrix)) > 0, np.nan, matrix)
        image = draw_matrix(ax, shown, title=title, colours=DIVERGING, limits=(-bound, bound),
                            names=names)  # fmt: skip
    figure.colorbar(image, ax=list(axes[: len(matrices)]), shrink=0.8, label="correlation")
    if recorded is not None:
        axes[1].set_ylabel("")
        _draw_pairs(axes[2], pairs, float(matrix_correlation(*matrices.values())), titles)
    return figure


def _check_alike(names: list[list[str] | None], matrices: dict[str, NDArray]) -> None:
    first, second = matrices.values()
    if first.shape != second.shape or (None not in names and names[0] != names[1]):
        raise ValueError(
            f"simulated and recorded must be of the same regions in the same order; got "
            f"{len(first)} and {len(second)} regions"
            + ("" if first.shape != second.shape else " with other names")
        )


def _draw_pairs(ax: Axes, pairs: dict[str, NDArray], r: float, titles: tuple[str, str]) -> None:
    many = len(pairs["recorded"]) > 200
    ax.scatter(pairs["recorded"], pairs["simulated"], s=6 if many else 18, color=colour(0),
               alpha=0.35 if many else 0.8, linewidth=0)  # fmt: skip
    ax.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle="--")
    ax.set_xlabel(f"correlation, {titles[1].lower()}")
    ax.set_ylabel(f"correlation, {titles[0].lower()}")
    panel_title(ax, "Pairs of regions")
    ax.set_title(f"r = {r:.2f}", loc="right", fontsize="small", color=INK)
    tidy(ax)
