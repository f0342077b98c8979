"""A connectome: its weights, its lengths, and where its regions lie."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure

from bayesdcm.data import Connectome
from bayesdcm.plot.region_matrix import draw_matrix
from bayesdcm.plot.style import INK, MUTED, heading, new_figure, panel_title, tidy

WEIGHTS, LENGTHS = "viridis", "cividis"
# Weights that span more than this are coloured by their logarithm.
WIDE = 30.0
# Most connections that are drawn between regions, and most regions that are named.
MOST_LINES, MOST_NAMES = 250, 16
# Views: horizontal and vertical coordinate, title, what lies to the left and to the right.
VIEWS = (
    (0, 1, "from above", "x (mm, right is right)", "y (mm)"),
    (1, 2, "from the right", "y (mm)", "z (mm)"),
)


def plot_connectome(
    connectome: Connectome, *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw weights and lengths as matrices, and the regions where they lie.

    Rows are targets, columns sources. Pairs without a connection are pale. Regions are drawn as
    large as the sum of the weights into them, with the strongest connections, at most 250 and with
    the mean weight of both directions, seen from above and from the right.

    Parameters
    ----------
    connectome : Connectome
        What to draw.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Weights; lengths and centres, where the connectome has them.

    Raises
    ------
    TypeError
        If it is not a connectome.
    """
    if not isinstance(connectome, Connectome):
        raise TypeError(
            f"connectome must be a Connectome, got {type(connectome).__name__}; "
            "Connectome(weights, lengths) makes one"
        )
    has_lengths, has_centres = connectome.lengths is not None, connectome.centres is not None
    columns = 1 + has_lengths
    figure = figure or new_figure(4.8 * columns + 0.4, 4.4 + 3.7 * has_centres)
    grid = figure.add_gridspec(1 + has_centres, 2, height_ratios=[1.15, 1][: 1 + has_centres])
    slots = [grid[0, 0], grid[0, 1]] if has_lengths else [grid[0, :]]
    _draw_weights(figure.add_subplot(slots[0]), connectome)
    if has_lengths:
        _draw_lengths(figure.add_subplot(slots[1]), connectome)
    if has_centres:
        for i, view in enumerate(VIEWS):
            _draw_view(figure.add_subplot(grid[1, i]), connectome, view, named=i == 0)
    count, regions = int(connectome.connected.sum()), connectome.n_regions
    share = 100 * count / (regions * max(regions - 1, 1))
    heading(figure, f"{regions} regions, {count} connections ({share:.0f} % of all)")
    return figure


def _draw_weights(ax: Axes, connectome: Connectome) -> None:
    present = connectome.weights[connectome.connected]
    low, high = float(present.min()), float(present.max())
    wide = high / low > WIDE
    norm = LogNorm(low, high) if wide else Normalize(0, high)
    values = np.where(connectome.connected, connectome.weights, np.nan)
    image = draw_matrix(ax, values, title="Weights", colours=WEIGHTS, limits=(low, high),
                        names=connectome.region_names, axes=("target", "source"),
                        norm=norm)  # fmt: skip
    label = "weight (a.u., logarithmic)" if wide else "weight (a.u.)"
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label=label)


def _draw_lengths(ax: Axes, connectome: Connectome) -> None:
    lengths = np.where(connectome.connected, connectome.lengths, np.nan)
    image = draw_matrix(ax, lengths, title="Lengths of tracts", colours=LENGTHS,
                        limits=(0, float(np.nanmax(lengths))), names=connectome.region_names,
                        axes=("target", "source"))  # fmt: skip
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label="length (mm)")


def _draw_view(
    ax: Axes, connectome: Connectome, view: tuple[int, int, str, str, str], *, named: bool
) -> None:
    across, up, title, *labels = view
    places = connectome.centres[:, [across, up]]  # type: ignore[index]
    weights = (connectome.weights + connectome.weights.T) / 2
    rows, columns = np.triu_indices(len(weights), 1)
    strengths = weights[rows, columns]
    order = np.argsort(strengths)[-MOST_LINES:]
    order = order[strengths[order] > 0]
    # By rank: a few weights are far larger than all others.
    shares = (1 + np.arange(len(order))) / len(order)
    lines = [(places[rows[i]], places[columns[i]]) for i in order]
    tints = colormaps[WEIGHTS](shares)
    tints[:, 3] = 0.15 + 0.75 * shares**2
    ax.add_collection(LineCollection(lines, colors=tints, linewidths=0.4 + 1.8 * shares**2))
    incoming = connectome.weights.sum(1)
    sizes = 12 + 90 * incoming / incoming.max()
    ax.scatter(*places.T, s=sizes, color="white", edgecolor=INK, linewidth=0.9, zorder=3)
    if named and connectome.n_regions <= MOST_NAMES:
        for name, place in zip(connectome.region_names or (), places, strict=True):
            ax.annotate(name, place, (0, 8), textcoords="offset points", ha="center",
                        fontsize="x-small", color=INK, zorder=4)  # fmt: skip
    elif named:
        for x, side in ((0.02, "left"), (0.98, "right")):
            ax.text(x, 0.98, side, transform=ax.transAxes, ha=side, va="top", color=MUTED,
                    fontsize="small")  # fmt: skip
    ax.set_aspect("equal")
    ax.margins(0.08)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    panel_title(ax, f"Seen {title}")
    tidy(ax)
