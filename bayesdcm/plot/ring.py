"""Graph of many regions: on a ring by network, or where they lie; the strongest connections."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Wedge
from matplotlib.path import Path
from numpy.typing import NDArray

from bayesdcm.plot import style
from bayesdcm.plot.blocks import Blocks, read_blocks
from bayesdcm.plot.quantities import quantity

# Most connections that are drawn, and most regions that are named.
MOST_ARROWS, MOST_NAMES = 150, 60
CERTAIN = 0.95
# Angle that is left free between two blocks, in regions.
GAP = 1.5


def draw_many(
    ax: Axes, fit: Any, site: str, title: str, groups: Any, minimum: float | None, centres: Any
) -> None:
    """Draw the strongest of the connections whose sign is certain, between many regions."""
    minimum = CERTAIN if minimum is None else minimum
    matrix = quantity(fit, site)
    names = matrix.names["to"]
    n = len(names)
    between = matrix.free & ~np.eye(n, dtype=bool)
    sure = between & (~matrix.sign_open | (matrix.probability >= minimum))
    blocks = read_blocks(groups, names, np.where(sure, matrix.mean, 0.0))
    tints = _tints(blocks, n)
    if centres is None:
        places = _ring(ax, blocks, names, tints)
    else:
        places = _lying(ax, centres, names)
    to, source = np.nonzero(sure)
    kept = np.argsort(np.abs(matrix.mean[to, source]))[-MOST_ARROWS:]
    strongest = max((abs(matrix.mean[to[k], source[k]]) for k in kept), default=1.0)
    for k in kept:
        share = matrix.mean[to[k], source[k]] / strongest
        _arrow(ax, places[source[k]], places[to[k]], share, centres is None)
    total = np.where(sure, np.abs(matrix.mean), 0.0).sum(1)
    sizes = 14 + 60 * total / max(total.max(), np.finfo(float).tiny)
    ax.scatter(*places.T, s=sizes, c=tints, edgecolor="white", linewidth=0.6, zorder=3)
    unit = fit.facts.unit(site)
    style.panel_title(ax, f"{title}{f' in {unit}' if unit else ''} ({fit.method})")
    shown = f"the {len(kept)} strongest" if len(kept) < len(to) else "all"
    handles = [
        Line2D([], [], color=style.POSITIVE, lw=3, label="excites"),
        Line2D([], [], color=style.NEGATIVE, lw=3, label="inhibits"),
        Line2D([], [], lw=0, label=f"{shown} of {len(to)} connections with P ≥ {minimum:g}, of "
               f"{int(between.sum())}; widest {style.signed(strongest)[1:]} {unit}".rstrip()),
        Line2D([], [], color=style.MUTED, marker="o", lw=0,
               label="size: sum of the strengths into a region"),
    ]  # fmt: skip
    if blocks is not None and centres is not None:
        handles += [
            Line2D([], [], color=tints[members[0]], marker="o", lw=0, label=name)
            for name, members in zip(blocks.names, blocks.members, strict=True)
        ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 0), fontsize="small",
              frameon=False, ncols=2)  # fmt: skip


def _tints(blocks: Blocks | None, n: int) -> list[str]:
    tints = [style.MUTED] * n
    for k, members in enumerate(blocks.members if blocks is not None else ()):
        for region in members:
            tints[region] = style.colour(k)
    return tints


def _ring(ax: Axes, blocks: Blocks | None, names: list[str], tints: list[str]) -> NDArray:
    """Places of regions around a ring, block by block from the top, which is drawn with names."""
    n = len(names)
    order = np.arange(n) if blocks is None else blocks.order
    sizes = [n] if blocks is None else blocks.sizes
    gap = GAP if len(sizes) > 1 else 0.0
    block = np.repeat(np.arange(len(sizes)), sizes)
    step = 2 * np.pi / (n + gap * len(sizes))
    angles = np.empty(n)
    angles[order] = np.pi / 2 - step * (np.arange(n) + 0.5 + gap * (block + 0.5))
    outer = 1.05
    if n <= MOST_NAMES:
        for region, name in enumerate(names):
            _write(ax, 1.06, angles[region], name, "x-small", turned=True)
        outer = 1.1 + 0.028 * max(map(len, names))
    if blocks is not None:
        for name, members in zip(blocks.names, blocks.members, strict=True):
            first, last = angles[members[0]] + step / 2, angles[members[-1]] - step / 2
            ax.add_patch(Wedge((0, 0), outer + 0.04, np.degrees(last), np.degrees(first),
                               width=0.04, color=tints[members[0]], linewidth=0))  # fmt: skip
            _write(ax, outer + 0.09, (first + last) / 2, name, "small", turned=False)
        outer += 0.25
    ax.set(xlim=(-outer - 0.15, outer + 0.15), ylim=(-outer, outer), aspect="equal")
    return np.column_stack([np.cos(angles), np.sin(angles)])


def _write(ax: Axes, radius: float, angle: float, text: str, size: str, *, turned: bool) -> None:
    """Write outside of a ring: along the radius, or upright."""
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    left = np.cos(angle) < 0
    turn = (np.degrees(angle) + 180 * left) if turned else 0.0
    side = "right" if left else "left"
    if not turned and abs(np.cos(angle)) < 0.2:
        side = "center"
    height = "center" if turned or abs(np.sin(angle)) < 0.9 else "bottom" if y > 0 else "top"
    ax.text(x, y, text, rotation=turn, rotation_mode="anchor", ha=side, va=height, fontsize=size,
            color=style.INK)  # fmt: skip


def _lying(ax: Axes, centres: Any, names: list[str]) -> NDArray:
    """Places of regions seen from above."""
    places = np.asarray(centres, float)
    if places.shape != (len(names), 3) or not np.isfinite(places).all():
        raise ValueError(
            f"centres must be coordinates of {len(names)} regions in mm, shape ({len(names)}, 3), "
            f"got shape {places.shape}"
        )
    for x, side in ((0.02, "left"), (0.98, "right")):
        ax.text(x, 0.98, side, transform=ax.transAxes, ha=side, va="top", color=style.MUTED,
                fontsize="small")  # fmt: skip
    ax.set_aspect("equal")
    ax.margins(0.06)
    ax.update_datalim(places[:, :2])
    return places[:, :2]


def _arrow(ax: Axes, start: NDArray, end: NDArray, share: float, inwards: bool) -> None:
    """An arrow, which bends towards the middle of a ring, or to its right."""
    along = end - start
    middle = (start + end) / 2
    bend = 0.25 * middle if inwards else middle + 0.12 * np.array([along[1], -along[0]])
    curve = Path([start, bend, end], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    width = 0.3 + 2.2 * abs(share)
    ax.add_patch(FancyArrowPatch(
        path=curve, arrowstyle=f"-|>,head_length={0.25 + 0.1 * width:.2f},head_width="
        f"{0.1 + 0.05 * width:.2f}", mutation_scale=10, linewidth=width, shrinkA=3, shrinkB=4,
        color=style.POSITIVE if share > 0 else style.NEGATIVE, alpha=0.25 + 0.6 * abs(share),
        zorder=2,
    ))  # fmt: skip
