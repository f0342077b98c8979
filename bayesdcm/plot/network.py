"""Directed graph of regions, connections, modulations and driving inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from bayesdcm.plot.quantities import Quantity, axis_names, flat_draws, quantity, sign_probability
from bayesdcm.plot.style import INK, MUTED, NEGATIVE, POSITIVE, probability_text, signed

# Sideways bend of an arrow, as a share of its length: the two directions of a pair part.
BEND = 0.2
INPUT_RADIUS = 1.62
WIDEST, NARROWEST = 4.5, 0.8
FAINTEST = 0.2
# Below this probability of the sign a change is written with it.
UNCERTAIN = 0.95
# Where a label may stand: how far along the arrow, in order of preference.
PLACES = (0.5, 0.43, 0.57, 0.36, 0.64, 0.29, 0.71, 0.22, 0.78)
CHANGE = "#5e3c99"


@dataclass(frozen=True)
class _Link:
    """One arrow: between regions, or from an input."""

    start: NDArray
    end: NDArray
    value: float
    probability: float
    notes: tuple[str, ...] = ()
    bend: float = BEND


def plot_network(fit: Any, *, minimum_probability: float = 0.0, ax: Axes | None = None) -> Axes:
    """Draw the model as a graph with the strengths that were found, in Hz.

    Arrows run from the influencing to the influenced region; their width is the strength without
    input, their colour its sign, their opacity the posterior probability of that sign. Under the
    strength stands what each input (or gating region) adds to it. Self-connections stand inside
    the regions.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a model with regions, by any method.
    minimum_probability : float
        Connections between regions whose sign is less probable than this, and that nothing
        modulates, are left out.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ValueError
        If the fit is not of a model with regions.
    """
    found = quantity(fit, "effective_connectivity")
    regions = found.names["to"]
    n = len(regions)
    if ax is None:
        side = 6.0 if n <= 4 else 8.0
        _, ax = plt.subplots(figsize=(side, side), layout="constrained")
    angles = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    places = np.column_stack([np.cos(angles), np.sin(angles)]) if n > 1 else np.zeros((1, 2))
    radius = 0.25 if n <= 4 else max(0.25 - 0.03 * (n - 4), 0.15)
    size = 9.5 if n <= 4 else 8.0
    changes = _changes(fit)
    links = _connections(found, places, radius, changes, minimum_probability)
    reach = INPUT_RADIUS + 0.1
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set_axis_off()
    # A point of the printer's, in units of the axes.
    unit = _inch(ax) / 72
    taken: list[NDArray] = []
    drives = _drives(fit, places, angles, radius, ax, size, unit, taken)
    strongest = max((abs(link.value) for link in links), default=1.0) or 1.0
    for link in links:
        _arrow(ax, link, strongest)
    for link in drives:
        _arrow(ax, link, max(abs(drive.value) for drive in drives) or 1.0)
    for place, region, row in zip(places, regions, range(n), strict=True):
        own = changes.get((row, row), ())
        _region(ax, place, radius, region, found.mean[row, row], own, size)
        taken.append(_box(place, 2.1 * radius, 2.1 * radius))
    arrows = [*drives, *links]
    points = [np.array([_on_curve(link, t) for t in np.linspace(0, 1, 40)]) for link in arrows]
    for i, link in enumerate(arrows):
        others = np.concatenate([*points[:i], *points[i + 1 :], np.empty((0, 2))])
        _label(ax, link, others, taken, size, unit)
    _finish(ax, fit, taken)
    return ax


def _changes(fit: Any) -> dict[tuple[int, int], tuple[str, ...]]:
    """Write what inputs and gating regions add to each connection, by (to, from)."""
    posterior = fit.idata.posterior
    found: dict[tuple[int, int], list[str]] = {}
    if "modulated_connectivity" in posterior:
        free = quantity(fit, "B").free
        base = flat_draws(posterior["effective_connectivity"])
        draws = flat_draws(posterior["modulated_connectivity"]) - base[:, None]
        inputs = axis_names(posterior["modulated_connectivity"], "input")
        for k, i, j in np.argwhere(free):
            text = _change_text(inputs[k], draws[:, k, i, j])
            found.setdefault((int(i), int(j)), []).append(text)
    if "D" in posterior:
        gating = quantity(fit, "D")
        draws = flat_draws(posterior["D"])
        for k, i, j in np.argwhere(gating.free):
            text = _change_text(gating.names["gating"][k], draws[:, k, i, j], " per unit")
            found.setdefault((int(i), int(j)), []).append(text)
    return {key: tuple(notes) for key, notes in found.items()}


def _change_text(name: str, draws: NDArray, unit: str = "") -> str:
    probability = float(sign_probability(draws))
    doubt = "" if probability >= UNCERTAIN else f", {probability_text(probability)}"
    return f"{name} {signed(draws.mean())}{unit}{doubt}"


def _connections(
    found: Quantity,
    places: NDArray,
    radius: float,
    changes: dict[tuple[int, int], tuple[str, ...]],
    minimum: float,
) -> list[_Link]:
    links = []
    for i, j in np.argwhere(found.free):
        if i == j:
            continue
        notes = changes.get((int(i), int(j)), ())
        probability = float(found.probability[i, j])
        if probability < minimum and not notes:
            continue
        start, end = _trim(places[j], places[i], radius, BEND)
        links.append(_Link(start, end, float(found.mean[i, j]), probability, notes))
    # The strongest are labelled first, where labels fit best.
    return sorted(links, key=lambda link: -abs(link.value) - 10 * len(link.notes))


def _drives(
    fit: Any,
    places: NDArray,
    angles: NDArray,
    radius: float,
    ax: Axes,
    size: float,
    unit: float,
    taken: list[NDArray],
) -> list[_Link]:
    """Arrows of the driving inputs, after writing the inputs' names outside the circle."""
    if "input_effect" not in fit.idata.posterior:
        return []
    found = quantity(fit, "input_effect")
    links = []
    for row in range(len(places)):
        inputs = np.flatnonzero(found.free[row])
        fan = 0.32 * (np.arange(len(inputs)) - (len(inputs) - 1) / 2)
        for k, shift in zip(inputs, fan, strict=True):
            angle = angles[row] + shift
            centre = INPUT_RADIUS * np.array([np.cos(angle), np.sin(angle)])
            ax.text(
                *centre, found.names["input"][k], ha="center", va="center", fontsize=size,
                color=INK, zorder=5,
                bbox={"boxstyle": "square,pad=0.4", "fc": "white", "ec": MUTED},
            )  # fmt: skip
            taken.append(_box(centre, 0.6 * (len(found.names["input"][k]) + 2) * size * unit, 0.2))
            toward = (places[row] - centre) / np.linalg.norm(places[row] - centre)
            start, end = centre + 0.17 * toward, places[row] - radius * toward
            value, probability = found.mean[row, k], found.probability[row, k]
            links.append(_Link(start, end, float(value), float(probability), bend=0.0))
    return links


def _trim(start: NDArray, end: NDArray, radius: float, bend: float) -> tuple[NDArray, NDArray]:
    """Find the ends of a bent arrow on the borders of two circles."""
    middle = _middle(start, end, bend)
    first, last = middle - start, middle - end
    gap = radius + 0.02
    return start + gap * first / np.linalg.norm(first), end + gap * last / np.linalg.norm(last)


def _middle(start: NDArray, end: NDArray, bend: float) -> NDArray:
    """Control point of a bent arrow, to the right of its direction."""
    along = end - start
    return (start + end) / 2 + bend * np.array([along[1], -along[0]])


def _on_curve(link: _Link, t: float) -> NDArray:
    middle = _middle(link.start, link.end, link.bend)
    return (1 - t) ** 2 * link.start + 2 * t * (1 - t) * middle + t**2 * link.end


def _arrow(ax: Axes, link: _Link, strongest: float) -> None:
    width = NARROWEST + (WIDEST - NARROWEST) * abs(link.value) / strongest
    sure = np.clip((link.probability - 0.5) / 0.5, 0.0, 1.0)
    path = Path(
        [link.start, _middle(link.start, link.end, link.bend), link.end],
        [Path.MOVETO, Path.CURVE3, Path.CURVE3],
    )
    head = 7 + 1.3 * width
    ax.add_patch(
        FancyArrowPatch(
            path=path,
            arrowstyle=f"-|>,head_length={head / 10:.2f},head_width={head / 26:.2f}",
            mutation_scale=10,
            linewidth=width,
            color=POSITIVE if link.value >= 0 else NEGATIVE,
            alpha=FAINTEST + (1 - FAINTEST) * sure**2,
            capstyle="butt",
            joinstyle="miter",
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )


def _region(
    ax: Axes,
    place: NDArray,
    radius: float,
    name: str,
    own: float,
    changes: tuple[str, ...],
    size: float,
) -> None:
    ax.add_patch(Circle(place, radius, facecolor="white", edgecolor=INK, linewidth=1.5, zorder=3))
    x, y = place
    common = {"ha": "center", "va": "center", "zorder": 6}
    ax.text(x, y + 0.22 * radius, name, fontsize=size + 2, fontweight="bold", color=INK, **common)
    ax.text(x, y - 0.32 * radius, signed(own), fontsize=size - 1, color=INK, **common)
    for line, text in enumerate(changes):
        low = y - radius - 0.09 - 0.1 * line
        ax.text(x, low, text, fontsize=size - 1, color=CHANGE, bbox=_paper(), **common)


def _paper() -> dict[str, Any]:
    return {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.85}


def _box(centre: NDArray, width: float, height: float) -> NDArray:
    return np.array([centre[0] - width / 2, centre[1] - height / 2,
                     centre[0] + width / 2, centre[1] + height / 2])  # fmt: skip


def _overlap(first: NDArray, second: NDArray) -> float:
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(np.prod(np.maximum(sides, 0)))


def _label(
    ax: Axes, link: _Link, others: NDArray, taken: list[NDArray], size: float, unit: float
) -> None:
    """Write strength and changes where they hide least; `others` are points of other arrows."""
    lines = [signed(link.value), *link.notes]
    # A character is about 0.6 of its size wide.
    width = max(map(len, lines)) * 0.6 * size * unit
    line_height = 1.35 * size * unit
    height = line_height * len(lines)
    boxes = [_box(_on_curve(link, t), width, height) for t in PLACES]
    peak = _on_curve(link, 0.5)
    outward = peak / max(np.linalg.norm(peak), 1e-9)
    if (_middle(link.start, link.end, link.bend) - (link.start + link.end) / 2) @ outward > 0.01:
        # An arrow that bulges out of the circle has room beside it, if its label is wide.
        reach = (np.abs(outward) * [width, height]).sum() / 2 + 4 * unit
        boxes.insert(0 if link.notes else 1, _box(peak + reach * outward, width, height))
    if link.bend == 0:
        along = (link.end - link.start) / np.linalg.norm(link.end - link.start)
        side = np.array([along[1], -along[0]])
        reach = (np.abs(side) * [width, height]).sum() / 2 + 11 * unit
        boxes = [_box(peak + sign * reach * side, width, height) for sign in (1, -1)] + boxes
    best = min(range(len(boxes)), key=lambda rank: _cost(boxes[rank], others, taken, rank))
    taken.append(boxes[best])
    x, y = (boxes[best][:2] + boxes[best][2:]) / 2
    for row, text in enumerate(lines):
        ax.text(
            x, y + line_height * ((len(lines) - 1) / 2 - row), text, ha="center", va="center",
            fontsize=size - 0.5 * (row > 0), color=CHANGE if row else INK,
            fontweight="normal" if row else "bold", bbox=_paper(), zorder=5,
        )  # fmt: skip


def _cost(box: NDArray, others: NDArray, taken: list[NDArray], rank: int) -> float:
    """How bad a place is: labels it covers, then other arrows, then its rank."""
    hidden = ((others > box[:2]) & (others < box[2:])).all(1).sum()
    return 1e3 * sum(_overlap(box, other) for other in taken) + 0.01 * hidden + 1e-3 * rank


def _inch(ax: Axes) -> float:
    """Measure an inch on paper in units of the axes."""
    # Lays the axes out, so that their size is the one that they will have.
    ax.figure.canvas.figure.draw_without_rendering()
    extent = ax.get_window_extent()
    inches = min(extent.width, extent.height) / ax.figure.dpi
    return (ax.get_ylim()[1] - ax.get_ylim()[0]) / inches


def _finish(ax: Axes, fit: Any, boxes: list[NDArray]) -> None:
    """Crop to what was drawn, and explain it."""
    edges = np.array(boxes)
    low, high = edges[:, :2].min(0) - 0.08, edges[:, 2:].max(0) + 0.08
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_title(f"Effective connectivity in Hz ({fit.method})", loc="left", fontsize="medium")
    handles = [
        Line2D([], [], color=POSITIVE, lw=3, label="excites"),
        Line2D([], [], color=NEGATIVE, lw=3, label="inhibits"),
        Line2D([], [], color=MUTED, lw=3, alpha=0.3, label="faint: sign uncertain"),
    ]
    if any(text.get_color() == CHANGE for text in ax.texts):
        handles.append(Line2D([], [], lw=0, marker="s", color=CHANGE, label="change by an input"))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 0), fontsize="small",
              frameon=False, ncols=2)  # fmt: skip
