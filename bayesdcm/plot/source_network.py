"""Directed graph of the sources of evoked responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bayesdcm.plot.changes import Strength, Strengths, percent_interval, strengths
from bayesdcm.plot.graph import BEND, CHANGE, Link, Sketch, between_circles
from bayesdcm.plot.quantities import quantity, sign_probability
from bayesdcm.plot.style import INK, MUTED, NBSP, colour, probability_text

INPUT_RADIUS = 1.7
# Below this probability of its direction a change is written with it.
UNCERTAIN = 0.95
# First word of a kind of connection: colour and line of its arrows.
FAMILIES = {
    "forward": (colour(0), "-"),
    "backward": (colour(1), (0, (4, 1.5))),
    "lateral": (colour(2), (0, (1, 1))),
}


@dataclass(frozen=True)
class _Arrow:
    """Connections of one family that join two sources: one for most models, two for the CMC."""

    family: str
    to: int
    source: int
    members: tuple[Strength, ...]


def draw_source_network(fit: Any, ax: Axes | None) -> Axes:
    """Draw a model of evoked responses as a graph; `plot_network` of such a fit.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of `EvokedDCM`.
    ax : matplotlib.axes.Axes or None
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.
    """
    found = strengths(fit)
    n = len(found.sources)
    if ax is None:
        side = 6.5 if n <= 4 else 8.5
        _, ax = plt.subplots(figsize=(side, side), layout="constrained")
    reach = INPUT_RADIUS + 0.1
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set_axis_off()
    sketch = Sketch(ax, size=9.5 if n <= 4 else 8.0)
    angles = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    places = np.column_stack([np.cos(angles), np.sin(angles)]) if n > 1 else np.zeros((1, 2))
    radius = 0.25 if n <= 4 else max(0.25 - 0.02 * (n - 4), 0.17)
    gains = {entry.to: entry for entry in found.entries if entry.within}
    for row, source in enumerate(found.sources):
        sketch.draw_node(places[row], radius, source, None)
        if row in gains:
            lines = [f"{_within_word(gains[row])}: {x}" for x in _change_lines(found, gains[row])]
            sketch.write_under(_beside(sketch, places[row], radius, lines), tuple(lines))
    arrows = _arrows(found)
    links = _links(found, arrows, places, radius)
    drives = _drives(fit, sketch, places, angles, radius)
    for group in (links, drives):
        strongest = max((link.value for link in group), default=1.0) or 1.0
        for link in group:
            sketch.draw_arrow(link, strongest)
    sketch.write_labels([*drives, *sorted(links, key=lambda link: -len(link.notes))])
    sketch.crop()
    _explain(ax, fit, found, bool(drives))
    return ax


def _arrows(found: Strengths) -> list[_Arrow]:
    grouped: dict[tuple[str, int, int], list[Strength]] = {}
    for entry in found.entries:
        if not entry.within:
            key = (entry.kind.partition(" ")[0], entry.to, entry.source)
            grouped.setdefault(key, []).append(entry)
    return [_Arrow(*key, tuple(members)) for key, members in grouped.items()]


def _links(found: Strengths, arrows: list[_Arrow], places: NDArray, radius: float) -> list[Link]:
    links, used = [], {}
    for arrow in arrows:
        pair = (arrow.to, arrow.source)
        # Arrows of several families between the same sources part.
        bend = BEND + 0.22 * used.get(pair, 0)
        used[pair] = used.get(pair, 0) + 1
        start, end = between_circles(places[arrow.source], places[arrow.to], radius, bend)
        tint, style = FAMILIES.get(arrow.family, (INK, "-"))
        medians = [percent_interval(member.baseline)[0] for member in arrow.members]
        text = " / ".join(f"{median:.0f}" for median in medians) + f"{NBSP}%"
        notes = _change_lines(found, arrow.members[0])
        links.append(
            Link(start, end, float(np.mean(medians)), 1.0, notes, bend, text=text, tint=tint,
                 line=style)
        )  # fmt: skip
    return links


def _beside(sketch: Sketch, place: NDArray, radius: float, lines: list[str]) -> NDArray:
    """Where to write on the outer side of a source, out of the way of arrows between sources."""
    side = -1 if place[0] < -0.01 else 1
    reach = 0.8 * radius + 0.55 * max(map(sketch.width_of, lines), default=0.0)
    # Inputs come straight from outside: beside that of the topmost, below those of others in the
    # upper half, above those in the lower.
    below = place[1] >= 0 and abs(place[0]) > 0.01
    return place + [side * reach, (-0.5 if below else 1.0) * radius]


def _within_word(entry: Strength) -> str:
    return "self-inhibition" if entry.kind.startswith("self") else "gain"


def _change_lines(found: Strengths, entry: Strength) -> tuple[str, ...]:
    """Write what each condition effect makes of a connection, in percent."""
    lines = []
    for k, effect in enumerate(found.effects):
        draws = entry.unit_change[:, k]
        if np.ptp(draws) == 0:
            continue
        probability = float(sign_probability(np.log(draws)))
        doubt = "" if probability >= UNCERTAIN else f", {probability_text(probability)}"
        lines.append(f"{effect} ×{NBSP}{np.median(draws):.2f}{doubt}")
    return tuple(lines)


def _drives(
    fit: Any, sketch: Sketch, places: NDArray, angles: NDArray, radius: float
) -> list[Link]:
    """Arrows of the stimulus inputs, after drawing the inputs outside the circle."""
    found = quantity(fit, "C")
    names = found.names["input"]
    links = []
    for row, place in enumerate(places):
        inputs = np.flatnonzero(found.free[row])
        fan = 0.45 * (np.arange(len(inputs)) - (len(inputs) - 1) / 2)
        for k, shift in zip(inputs, fan, strict=True):
            angle = angles[row] + shift
            centre = INPUT_RADIUS * np.array([np.cos(angle), np.sin(angle)])
            sketch.draw_source(centre, "stimulus" if len(names) == 1 else names[k])
            toward = (place - centre) / np.linalg.norm(place - centre)
            start, end = centre + 0.17 * toward, place - radius * toward
            # The mean of the log scaling is its median, too.
            value = 100 * float(np.exp(found.mean[row, k]))
            links.append(
                Link(start, end, value, 1.0, bend=0.0, side=1 if shift >= 0 else -1,
                     text=f"{value:.0f}{NBSP}%", tint=MUTED)
            )  # fmt: skip
    return links


def _family_labels(found: Strengths) -> dict[str, str]:
    """What stands in the legend for each family; two numbers on an arrow are of two kinds."""
    targets: dict[str, dict[str, None]] = {}
    for entry in found.entries:
        if not entry.within:
            family, _, target = entry.kind.partition(" ")
            targets.setdefault(family, {})[target] = None
    return {
        family: family if list(words) == [""] else f"{family} ({' / '.join(words)})"
        for family, words in targets.items()
    }


def _explain(ax: Axes, fit: Any, found: Strengths, driven: bool) -> None:
    ax.set_title(
        f"Strength of connections in % of their prior mean ({fit.method}, medians)", loc="left",
        fontsize="medium",
    )  # fmt: skip
    handles = []
    for family, label in _family_labels(found).items():
        tint, style = FAMILIES.get(family, (INK, "-"))
        handles.append(Line2D([], [], color=tint, linestyle=style, lw=2.5, label=label))
    if driven:
        handles.append(Line2D([], [], color=MUTED, lw=2.5, label="input"))
    if any(entry.modulated for entry in found.entries):
        within = {_within_word(entry) for entry in found.entries if entry.within}
        label = "factor of a condition effect"
        label += f" ({within.pop()}: in the source)" if within else ""
        handles.append(Line2D([], [], lw=0, marker="s", color=CHANGE, label=label))
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 0), fontsize="small", frameon=False,
        ncols=2,
    )  # fmt: skip
