"""Pieces of a directed graph on a circle: arrows, nodes, and labels that keep out of each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.bezier import BezierSegment, split_de_casteljau
from matplotlib.patches import Circle, FancyArrowPatch, PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from bayesdcm.plot.style import INK, MUTED, NEGATIVE, POSITIVE, signed

# Sideways bend of an arrow, as a share of its length: the two directions of a pair part.
BEND = 0.2
WIDEST, NARROWEST = 4.5, 0.8
FAINTEST = 0.2
# Where on an arrow a label may stand: how far along it, in order of preference.
PLACES = (0.5, 0.43, 0.57, 0.36, 0.64, 0.29, 0.71, 0.22, 0.78)
CHANGE = "#5e3c99"
# Behind labels.
PAPER = {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.85}
# Width of a character, as a share of the size of its font.
CHARACTER = 0.6


@dataclass(frozen=True)
class Link:
    """One arrow."""

    start: NDArray  # (2,)
    end: NDArray
    value: float
    probability: float  # of the sign of the value
    notes: tuple[str, ...] = ()  # lines under the strength
    bend: float = BEND  # sideways to the right, as a share of the length; 0 for straight arrows
    side: int = 1  # of a straight arrow, 1 right, -1 left, where its label stands if there is room
    text: str = ""  # label of the strength; empty for its number with a sign
    tint: str = ""  # colour; empty for that of the sign
    line: Any = "-"  # style of the line, as Matplotlib takes it

    @property
    def label(self) -> str:
        """The strength as it is written beside the arrow."""
        return self.text or signed(self.value)

    @property
    def sideways(self) -> NDArray:
        """Unit vector to the right of the direction."""
        along = (self.end - self.start) / np.linalg.norm(self.end - self.start)
        return np.array([along[1], -along[0]])

    @property
    def curve(self) -> NDArray:
        """Control points of the quadratic curve, (3, 2)."""
        return np.array([self.start, control_point(self.start, self.end, self.bend), self.end])

    def at(self, share: Any) -> NDArray:
        """Points at shares of the way, (..., 2)."""
        return BezierSegment(self.curve)(share)

    def parts(self, share: float) -> list[Path]:
        """The curve up to a share of the way, and from there."""
        codes = [Path.MOVETO, Path.CURVE3, Path.CURVE3]
        return [Path(points, codes) for points in split_de_casteljau(self.curve, share)]


def control_point(start: NDArray, end: NDArray, bend: float) -> NDArray:
    """Control point of a quadratic curve that bends to the right."""
    along = end - start
    return (start + end) / 2 + bend * np.array([along[1], -along[0]])


def between_circles(
    start: NDArray, end: NDArray, radius: float, bend: float = BEND
) -> tuple[NDArray, NDArray]:
    """Find the ends of a bent arrow on the borders of two circles."""
    middle = control_point(start, end, bend)
    first, last = middle - start, middle - end
    gap = radius + 0.02
    return start + gap * first / np.linalg.norm(first), end + gap * last / np.linalg.norm(last)


def box_around(centre: NDArray, width: float, height: float) -> NDArray:
    """Left, lower, right and upper edge of a box."""
    half = np.array([width, height]) / 2
    return np.concatenate([centre - half, centre + half])


def overlap(first: NDArray, second: NDArray) -> float:
    """Area that two boxes share."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(np.prod(np.maximum(sides, 0)))


@dataclass
class Sketch:
    """Axes, their limits set, on which a graph is drawn, and the places that are taken."""

    ax: Axes
    size: float  # of the font, in points
    taken: list[NDArray] = field(default_factory=list)  # boxes that labels must keep out of

    def __post_init__(self) -> None:
        # Lays the axes out, so that their size is the one that they will have.
        self.ax.figure.canvas.figure.draw_without_rendering()
        extent = self.ax.get_window_extent()
        inches = min(extent.width, extent.height) / self.ax.figure.dpi
        # A printer's point, in units of the axes.
        self.point = np.ptp(self.ax.get_ylim()) / inches / 72

    def width_of(self, text: str) -> float:
        """Width of a line of text, in units of the axes."""
        return len(text) * CHARACTER * self.size * self.point

    def draw_node(self, place: NDArray, radius: float, name: str, strength: float | None) -> None:
        """Draw a region with its self-connection, or a source without one."""
        frame = {"facecolor": "white", "edgecolor": INK, "linewidth": 1.5, "zorder": 3}
        self.ax.add_patch(Circle(place, radius, **frame))
        self.taken.append(box_around(place, 2.1 * radius, 2.1 * radius))
        if strength is None:
            # A long name in lines of a word each.
            wide = self.width_of(name) > 1.5 * radius
            text = name.replace(" ", "\n") if wide else name
            self._text(place, text, INK, self.size + (0 if wide else 2), zorder=6,
                       fontweight="bold", linespacing=1.0)  # fmt: skip
            return
        upper, lower = place + [0, 0.22 * radius], place - [0, 0.32 * radius]
        self._text(upper, name, INK, self.size + 2, zorder=6, fontweight="bold")
        self._text(lower, signed(strength), INK, self.size - 1, zorder=6)

    def write_under(self, place: NDArray, lines: tuple[str, ...]) -> None:
        """Write what changes a self-connection under its region, whose border is at `place`."""
        height = 1.35 * self.size * self.point
        for row, text in enumerate(lines):
            centre = place - [0, (row + 0.9) * height]
            self.taken.append(box_around(centre, self.width_of(text), height))
            self._text(centre, text, CHANGE, self.size - 0.5, bbox=PAPER, zorder=6)

    def draw_source(self, place: NDArray, name: str) -> None:
        """Draw an input."""
        frame = {"boxstyle": "square,pad=0.4", "fc": "white", "ec": MUTED}
        height = 2.4 * self.size * self.point
        self.taken.append(box_around(place, self.width_of(name + "  "), height))
        self._text(place, name, INK, self.size, bbox=frame)

    def draw_arrow(self, link: Link, strongest: float) -> None:
        """Draw an arrow: width by strength, colour by sign, opacity by probability."""
        width = NARROWEST + (WIDEST - NARROWEST) * abs(link.value) / strongest
        sure = np.clip((link.probability - 0.5) / 0.5, 0.0, 1.0)
        head = 7 + 1.3 * width
        share = 0.0
        if link.line != "-":
            # A dashed line ends in a solid head.
            share = max(1 - head * self.point / np.linalg.norm(link.end - link.start), 0.5)
        line, solid = link.parts(share)
        if share:
            self.ax.add_patch(PathPatch(line, facecolor="none", linewidth=width, zorder=2,
                                        linestyle=link.line, edgecolor=link.tint))  # fmt: skip
        tint = link.tint or (POSITIVE if link.value >= 0 else NEGATIVE)
        shape = f"-|>,head_length={head / 10:.2f},head_width={head / 26:.2f}"
        self.ax.add_patch(FancyArrowPatch(
            path=solid, arrowstyle=shape, mutation_scale=10, linewidth=width, edgecolor=tint,
            facecolor=tint, alpha=FAINTEST + (1 - FAINTEST) * sure**2, capstyle="butt",
            joinstyle="miter", shrinkA=0, shrinkB=0, zorder=2,
        ))  # fmt: skip

    def write_labels(self, links: list[Link], *, optional: bool = False) -> None:
        """Write the strengths of arrows, and their notes, where they hide least.

        Arrows choose their places in their order; optional labels without notes are left out
        where they would cover another.
        """
        points = [link.at(np.linspace(0, 1, 40)) for link in links]
        for i, link in enumerate(links):
            others = np.concatenate([*points[:i], *points[i + 1 :], np.empty((0, 2))])
            lines = (link.label, *link.notes)
            height = 1.35 * self.size * self.point
            boxes = self._candidates(link, max(map(self.width_of, lines)), height * len(lines))
            costs = [self._cost(box, others, rank) for rank, box in enumerate(boxes)]
            best = boxes[int(np.argmin(costs))]
            if optional and not link.notes and any(overlap(best, box) for box in self.taken):
                continue
            self.taken.append(best)
            top = (best[:2] + best[2:]) / 2 + [0, height * (len(lines) - 1) / 2]
            self._text(top, lines[0], INK, self.size, bbox=PAPER, fontweight="bold")
            for row, text in enumerate(lines[1:], start=1):
                self._text(top - [0, row * height], text, CHANGE, self.size - 0.5, bbox=PAPER)

    def _candidates(self, link: Link, width: float, height: float) -> list[NDArray]:
        """Boxes in which a label may stand, the preferred first."""
        boxes = [box_around(link.at(share), width, height) for share in PLACES]
        peak = link.at(0.5)
        if link.bend == 0:
            reach = (np.abs(link.sideways) * [width, height]).sum() / 2 + 11 * self.point
            beside = [link.side * link.sideways, -link.side * link.sideways]
            return [box_around(peak + reach * way, width, height) for way in beside] + boxes
        outward = peak / max(np.linalg.norm(peak), 1e-9)
        if link.sideways @ outward > 0.01:
            # An arrow that bulges out of the circle has room beside it.
            reach = (np.abs(outward) * [width, height]).sum() / 2 + 4 * self.point
            beside = box_around(peak + reach * outward, width, height)
            boxes.insert(0 if link.notes else 1, beside)
        return boxes

    def _cost(self, box: NDArray, others: NDArray, rank: int) -> float:
        """How bad a place is: labels it covers, then other arrows, then its rank."""
        hidden = ((others > box[:2]) & (others < box[2:])).all(1).sum()
        covered = sum(overlap(box, other) for other in self.taken)
        return 1e3 * covered + 0.01 * hidden + 1e-3 * rank

    def _text(self, place: NDArray, text: str, colour: str, size: float, **look: Any) -> None:
        look = {"ha": "center", "va": "center", "zorder": 5} | look
        self.ax.text(*place, text, color=colour, fontsize=size, **look)

    def crop(self) -> None:
        """Show what was drawn and no more."""
        edges = np.array(self.taken)
        low, high = edges[:, :2].min(0) - 0.08, edges[:, 2:].max(0) + 0.08
        self.ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
