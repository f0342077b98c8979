"""Matrix of connections with posterior probabilities."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from bayesdcm.infer.findings import listed
from bayesdcm.plot import style
from bayesdcm.plot.blocks import MANY, Blocks, mark_blocks, read_blocks
from bayesdcm.plot.quantities import Marginals, Quantity, flat_draws, quantity
from bayesdcm.plot.region_matrix import name_some

# Axes of nodes that connections or inputs act on.
ROWS = ("to", "node")
# What hatched cells lack, by the axis that the array has beside those of connections.
ABSENT = {"input": "not modulated", "effect": "not modulated", "gating": "not gated"}
# Most panels beside one another.
BESIDE = 3
# Share of white mixed into cells whose sign is uncertain.
FADE = 0.7


def plot_connectivity(
    fit: Any,
    parameter: str = "A",
    *,
    probability: float = 0.95,
    groups: Any = None,
    ax: Any = None,
) -> Axes | Figure:
    """Draw a matrix of connections: posterior means, with the probability of their sign.

    Cells whose sign has a lower posterior probability than `probability` are faded; connections
    that the model does not have are hatched. No probability is written where the prior allows
    one sign only. Of more than 20 regions, cells are drawn without numbers, and colours are those
    of connections between regions, of which one in a hundred may go beyond.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a model with connections, by any method.
    parameter : str
        Any matrix of the posterior whose rows are nodes ("to", "node"): ``"A"``, ``"C"``,
        ``"effective_connectivity"``, ``"input_effect"``, ``"delay"``; or one with a panel for each
        kind of connection, or each input, condition effect or gating region that has an effect:
        ``"B"``, ``"modulated_connectivity"``, ``"D"``, and ``"A"`` of evoked responses, for whose
        strengths there is `plot_connection_strengths`.
    probability : float
        Posterior probability from which a cell is drawn in full colour.
    groups : mapping of str to str, sequence of str, or int, optional
        The network, or block, of each region, by its name or in the order of regions; or a number
        of clusters of regions that are alike in the strengths of their connections in both
        directions, those whose sign is certain (Ward's method). Regions are ordered by network,
        and a second panel has the mean over the connections from one network to another,
        self-connections apart, with the probability of its sign.
    ax : matplotlib.axes.Axes or sequence of them, optional
        Where to draw, one for each panel. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes or matplotlib.figure.Figure
        The axes of a matrix; the figure where there is a panel for each input, or for networks.

    Raises
    ------
    ValueError
        If the fit has no such matrix, the number of axes is not that of the panels, or `groups`
        are not those of its regions.
    """
    matrix = quantity(fit, parameter)
    if not _is_matrix(matrix.dims):
        _refuse(fit, matrix)
    panels = _panels(fit, matrix)
    if groups is not None:
        return _draw_networks(fit, matrix, probability, groups, ax)
    axes, created = _axes(ax, len(panels), matrix)
    bound, many = _bound(matrix), max(matrix.mean.shape[-2:]) > MANY
    for panel_axes, (title, index) in zip(axes, panels, strict=True):
        if many:
            _draw_image(panel_axes, fit, matrix, index, bound, probability, None)
        else:
            _draw(panel_axes, fit, matrix, index, bound, probability)
        style.panel_title(panel_axes, title)
    figure = axes[0].figure
    extend = "both" if many else "neither"
    bar = style.colour_bar(axes, -bound, bound, style.DIVERGING, shrink=0.85, extend=extend)
    bar.set_label(_colour_label(fit, matrix))
    _legend(axes, matrix, probability, created)
    if len(matrix.dims) == 2:
        return axes[0]
    if created:
        figure.suptitle(_title(fit, parameter), fontsize="large")
    return figure


def _draw_networks(fit: Any, matrix: Quantity, probability: float, groups: Any, ax: Any) -> Figure:
    """Draw connections in the order of networks, and means over those between networks."""
    if matrix.dims != ("to", "from"):
        raise ValueError(
            f"groups are for a matrix with the axes (to, from); {matrix.name!r} has "
            f"({', '.join(matrix.dims)})"
        )
    certain = matrix.free & (~matrix.sign_open | (matrix.probability >= probability))
    strengths = np.where(certain, matrix.mean, 0.0)
    blocks = read_blocks(groups, matrix.names["to"], strengths)
    means = _between_networks(fit, matrix, blocks)
    count = len(blocks.names)
    if ax is None:
        width = 0.75 * count + 2.2
        figure = style.new_figure(7.2 + width, 6.4)
        ax = figure.subplots(1, 2, width_ratios=[6.6, width])
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != 2:
        raise ValueError(f"ax must hold 2 axes, for regions and networks, got {len(axes)}")
    for panel, shown, title in zip(
        axes, (matrix, means), ("regions", "means over networks"), strict=True
    ):
        bound = _bound(shown)
        if shown is matrix:
            _draw_image(panel, fit, matrix, (), bound, probability, blocks)
        else:
            _draw(panel, fit, means, (), bound, probability, noun="network")
        style.panel_title(panel, f"{_title(fit, matrix.name)}: {title}")
        bar = style.colour_bar([panel], -bound, bound, style.DIVERGING, shrink=0.7,
                               extend="both" if shown is matrix else "neither")  # fmt: skip
        unit = fit.facts.unit(matrix.name)
        bar.set_label(f"posterior mean ({unit})" if unit else "posterior mean")
    figure = axes[0].figure
    _legend(axes, matrix, probability, True)
    return figure


def _between_networks(fit: Any, matrix: Quantity, blocks: Blocks) -> Quantity:
    """Posterior of the mean over connections between networks, as an array over networks."""
    present = matrix.free & ~np.eye(len(matrix.mean), dtype=bool)
    member = np.zeros((len(blocks.names), len(matrix.mean)))
    for row, regions in zip(member, blocks.members, strict=True):
        row[regions] = 1
    counts = member @ present @ member.T
    draws = flat_draws(fit.idata.posterior[matrix.name]) * present
    draws = member @ draws @ member.T / np.maximum(counts, 1)
    some = counts > 0
    names = {"to": blocks.names, "from": blocks.names}
    mean, probability = Marginals(fit).of(draws)
    return Quantity(matrix.name, mean, probability, some, np.zeros_like(some), some, matrix.dims,
                    names)  # fmt: skip


def _draw_image(
    ax: Axes, fit: Any, matrix: Quantity, index: tuple, bound: float, threshold: float,
    blocks: Blocks | None,
) -> None:  # fmt: skip
    """Draw a matrix of many regions: colours without numbers, in the order of networks."""
    colours = _cell_colours(matrix, index, bound, threshold)
    if blocks is not None:
        colours = colours[np.ix_(blocks.order, blocks.order)]
    ax.set_facecolor(style.PALE)
    ax.imshow(colours, interpolation="nearest", aspect="equal" if blocks is not None else "auto")
    rows, columns = (matrix.names[dim] for dim in matrix.dims[-2:])
    if blocks is not None:
        mark_blocks(ax, blocks)
    else:
        name_some(ax.yaxis, rows)
        name_some(ax.xaxis, columns, rotation=90)
        ax.tick_params(length=2)
    ax.spines[:].set_visible(False)
    words = _axis_words(matrix, fit.facts.node)
    ax.set(ylabel=words[0], xlabel=words[1])


def _is_matrix(dims: tuple[str, ...]) -> bool:
    return len(dims) in (2, 3) and dims[-2] in ROWS


def _refuse(fit: Any, matrix: Quantity) -> None:
    arrays = {str(name): array.dims[2:] for name, array in fit.idata.posterior.data_vars.items()}
    known = [repr(name) for name, dims in arrays.items() if _is_matrix(dims)]
    better = "plot_posterior shows any parameter"
    if {"condition", "to", "from"} <= set(matrix.dims):
        better = "plot_connection_strengths shows it"
    raise ValueError(
        f"parameter must be a matrix whose rows are nodes, the axis 'to'"
        f"{f', such as {listed(known)}' if known else ''}; got {matrix.name!r}, which has the axes "
        f"({', '.join(matrix.dims)}); {better}"
    )


def _title(fit: Any, name: str) -> str:
    return f"{fit.facts.titles.get(name, name)} ({fit.method})"


def _panels(fit: Any, matrix: Quantity) -> list[tuple[str, tuple]]:
    """Title and index of each matrix to draw."""
    if len(matrix.dims) == 2:
        return [(_title(fit, matrix.name), ())]
    names = matrix.names[matrix.dims[0]]
    if matrix.name == "modulated_connectivity":
        kept, words = quantity(fit, "B").free.any((1, 2)), "with "
    else:
        kept = matrix.free.any((1, 2))
        words = "" if matrix.dims[0] == "kind" else "by "
    if not kept.any():
        raise ValueError(f"parameter {matrix.name!r} has no free entry in this model; try 'A'")
    return [(f"{words}{names[i]}", (int(i),)) for i in np.flatnonzero(kept)]


def _axes(ax: Any, n_panels: int, matrix: Quantity) -> tuple[list[Axes], bool]:
    if ax is not None:
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n_panels:
            raise ValueError(f"ax must hold {n_panels} axes, one a panel, got {len(axes)}")
        return axes, False
    n_rows, n_columns = matrix.mean.shape[-2:]
    beside = n_panels if n_panels <= BESIDE else -(-n_panels // -(-n_panels // BESIDE))
    below = -(-n_panels // beside)
    width = beside * max(0.82 * n_columns + 1.2, 2.6) + 1.6
    size = (width, below * max(0.82 * n_rows + 0.9, 2.5) + 1.1)
    if max(n_rows, n_columns) > MANY:
        size = (6.2 * beside + 1.0, 5.8 * below + 0.6)
    _, axes = plt.subplots(below, beside, figsize=size, layout="constrained", squeeze=False)
    return style.first_panels(axes, n_panels), True


def _bound(matrix: Quantity) -> float:
    shown = np.abs(matrix.mean[matrix.free | matrix.fixed])
    if matrix.dims[-2:] == ("to", "from") and matrix.mean.shape[-1] > MANY:
        # Self-connections are much larger than all others.
        between = matrix.free & ~np.eye(matrix.mean.shape[-1], dtype=bool)
        shown = np.quantile(np.abs(matrix.mean[between]), [0.99]) if between.any() else shown
    return float(shown.max()) if shown.size and shown.max() > 0 else 1.0


def _certain(matrix: Quantity, index: tuple, threshold: float) -> NDArray:
    return ~matrix.sign_open[index] | (matrix.probability[index] >= threshold)


def _cell_colours(matrix: Quantity, index: tuple, bound: float, threshold: float) -> NDArray:
    """Colours of cells (rows, columns, 4): those without a connection are transparent."""
    colours = mpl.colormaps[style.DIVERGING](Normalize(-bound, bound)(matrix.mean[index]))
    fade = np.where(_certain(matrix, index, threshold), 0.0, FADE)[..., None]
    colours[..., :3] = (1 - fade) * colours[..., :3] + fade
    colours[~(matrix.free | matrix.fixed)[index], 3] = 0
    return colours


def _draw(
    ax: Axes, fit: Any, matrix: Quantity, index: tuple, bound: float, threshold: float,
    noun: str = "",
) -> None:  # fmt: skip
    mean, free, fixed = (part[index] for part in (matrix.mean, matrix.free, matrix.fixed))
    n_rows, n_columns = mean.shape
    certain = _certain(matrix, index, threshold)
    # Hatched below: the image leaves absent connections out.
    colours = _cell_colours(matrix, index, bound, threshold)
    ax.imshow(colours, extent=(-0.5, n_columns - 0.5, n_rows - 0.5, -0.5))
    size = 10 if max(mean.shape) <= 4 else 8.5
    # Means over many connections are small.
    digits = max(2, 1 - int(np.floor(np.log10(bound))))
    for i, j in np.ndindex(n_rows, n_columns):
        if free[i, j] or fixed[i, j]:
            note = "fixed" if fixed[i, j] else ""
            if free[i, j] and matrix.sign_open[(*index, i, j)]:
                note = style.probability_text(matrix.probability[(*index, i, j)])
            ink = style.ink_on(colours[i, j], style.INK if certain[i, j] else style.MUTED)
            place = {"ha": "center", "va": "center", "color": ink}
            weight = "bold" if certain[i, j] else "normal"
            height = i - 0.13 if note else i
            ax.text(
                j,
                height,
                style.signed(mean[i, j], digits),
                fontsize=size,
                fontweight=weight,
                **place,
            )
            if note:
                ax.text(j, i + 0.23, note, fontsize=0.78 * size, **place)
        else:
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, linewidth=0, **style.HATCHED))
    _label_axes(ax, matrix, noun or fit.facts.node)


def _axis_words(matrix: Quantity, node: str) -> list[str]:
    """What rows and columns are."""
    words = {axis: f"{axis} {node}".rstrip() for axis in ("to", "from", "gating")}
    words["node"] = node or "node"
    return [words.get(axis, axis) for axis in matrix.dims[-2:]]


def _label_axes(ax: Axes, matrix: Quantity, node: str) -> None:
    rows, columns = matrix.dims[-2:]
    words = _axis_words(matrix, node)
    style.name_cells(ax, matrix.names[rows], matrix.names[columns], 9, 40)
    ax.set(ylabel=words[0], xlabel=words[1])
    n_rows, n_columns = matrix.mean.shape[-2:]
    ax.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=2)
    ax.tick_params(which="minor", length=0)


def _colour_label(fit: Any, matrix: Quantity) -> str:
    unit, unit_within = fit.facts.unit(matrix.name), fit.facts.unit(matrix.name, (0, 0))
    squares = matrix.dims[-2:] == ("to", "from")
    if squares and unit != unit_within and np.diagonal(matrix.free, axis1=-2, axis2=-1).any():
        return f"posterior mean ({unit};\ndiagonal: {unit_within})"
    return f"posterior mean ({unit})" if unit else "posterior mean"


def _legend(axes: list[Axes], matrix: Quantity, threshold: float, outside: bool) -> None:
    handles = []
    if (matrix.free & matrix.sign_open & (matrix.probability < threshold)).any():
        label = f"sign uncertain (P < {threshold:g})"
        handles.append(Patch(facecolor="#f3dcd2", edgecolor="none", label=label))
    if (~matrix.free & ~matrix.fixed).any():
        axis = matrix.dims[0] if len(matrix.dims) == 3 else ""
        absent = ABSENT.get(axis, "no connection" if matrix.dims[-1] == "from" else "no input")
        if matrix.name == "modulated_connectivity":
            absent = "no connection"
        handles.append(Patch(label=absent, **style.HATCHED))
    if not handles:
        return
    spot = {"loc": "upper left", "bbox_to_anchor": (0, -0.25)}
    if outside:
        spot = {"loc": "outside lower left"}
    owner = axes[0].figure if outside else axes[0]
    owner.legend(handles=handles, fontsize="small", frameon=False, ncols=2, **spot)
