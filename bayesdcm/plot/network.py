"""Directed graph of nodes, connections, what changes them, and driving inputs."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from bayesdcm.plot import style
from bayesdcm.plot.blocks import MANY as MANY_NODES
from bayesdcm.plot.connections import (
    Connection,
    Connections,
    connection_site,
    read_connections,
    site_title,
)
from bayesdcm.plot.graph import BEND, CHANGE, Link, Sketch, between_circles
from bayesdcm.plot.quantities import quantity
from bayesdcm.plot.ring import draw_many

INPUT_RADIUS = 1.7
# Below this probability of its direction a change is written with it.
UNCERTAIN = 0.95
# More connections than this are too many to draw and to label all.
MANY = 24
# First word of a kind of connection: colour and line of its arrows.
FAMILIES = {
    "forward": (style.colour(0), "-"),
    "backward": (style.colour(1), (0, (4, 1.5))),
    "lateral": (style.colour(2), (0, (1, 1))),
}


def plot_network(
    fit: Any,
    *,
    minimum_probability: float | None = None,
    groups: Any = None,
    centres: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the model as a graph with the strengths that were found.

    Arrows run from the influencing to the influenced node, a region or a source; under the strength
    stands what each input, condition effect or gating region makes of it. Of more than 24 arrows
    only those are labelled whose labels have room; `plot_connectivity` shows all.

    Where connections are rates, an arrow's width is the strength without input, its colour the
    sign, its opacity the posterior probability of that sign; changes are added, and
    self-connections stand inside the nodes.

    Where they are relative to their prior means, as in models of evoked responses, width is the
    strength without condition effects in percent of its prior mean; forward, backward and lateral
    connections differ in colour and line, and changes are factors (all connections are drawn).

    Of more than 20 regions, or with `groups` or `centres`, the 150 strongest connections are drawn,
    without what changes them: on a ring, ordered by network, or between the regions' `centres`.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a model with connections (an array over ``to`` and ``from``), by any method.
    minimum_probability : float, optional
        Connections between nodes whose sign is less probable than this, and that nothing
        changes, are left out. None: 0, or 0.95 where there are more than 24 connections.
    groups : mapping, sequence of str, or int, optional
        The network of each region, as for `plot_connectivity`.
    centres : array_like, optional
        Where regions lie, in mm, shape (region, 3): they are drawn as seen from above.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ValueError
        If the fit has no array of connections, or networks or centres are not those of its
        regions.
    """
    site = connection_site(fit)
    array, given = fit.idata.posterior[site], groups is not None or centres is not None
    plain = "kind" not in array.dims and not fit.facts.relative(site)
    if given and not plain:
        raise ValueError(
            f"groups and centres are for connections of one kind that are rates; those of {site} "
            "are relative to their prior means or of several kinds"
        )
    if given or (plain and array.sizes["to"] > MANY_NODES):
        if ax is None:
            _, ax = plt.subplots(figsize=(8.5, 8.8), layout="constrained")
        ax.set_axis_off()
        draw_many(ax, fit, site, site_title(fit, site), groups, minimum_probability, centres)
        return ax
    connections = read_connections(fit)
    n = len(connections.nodes)
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
    within = {entry.to: entry for entry in connections.entries if entry.within}
    for row, node in enumerate(connections.nodes):
        entry = within.get(row)
        shown = entry is not None and not connections.relative
        sketch.draw_node(
            places[row], radius, node, connections.mean(entry.draws) if shown else None
        )
        lines = [] if entry is None else _change_lines(connections, entry)
        if lines:
            sketch.write_under(_beside(sketch, places[row], radius, lines), lines)
    arrows = _arrows(connections)
    if minimum_probability is None:
        minimum_probability = 0.0 if len(arrows) <= MANY else UNCERTAIN
    links = [_link(connections, members, bend, places, radius) for members, bend in arrows]
    links = [link for link in links if link.probability >= minimum_probability or link.notes]
    # Those with notes, then the strongest, choose the places of their labels first.
    links.sort(key=lambda link: (-len(link.notes), -abs(link.value)))
    drives = _drives(fit, connections.relative, sketch, places, angles, radius)
    for group in (links, drives):
        strongest = max((abs(link.value) for link in group), default=1.0) or 1.0
        for link in group:
            sketch.draw_arrow(link, strongest)
    sketch.write_labels([*drives, *links], optional=len(links) > MANY)
    sketch.crop()
    _explain(ax, fit, connections, bool(drives), len(arrows) - len(links))
    return ax


def _arrows(connections: Connections) -> list[tuple[list[Connection], float]]:
    """Connections of one family that join two nodes, and how far their arrow bends.

    There is one connection for most models, and two for the canonical microcircuit.
    """
    grouped: dict[tuple[str, int, int], list[Connection]] = {}
    for entry in connections.entries:
        if not entry.within:
            key = (entry.family, entry.to, entry.source)
            grouped.setdefault(key, []).append(entry)
    pairs = [key[1:] for key in grouped]
    # Arrows of several families between the same nodes part.
    bends = [BEND + 0.22 * pairs[:i].count(pair) for i, pair in enumerate(pairs)]
    return list(zip(grouped.values(), bends, strict=True))


def _link(
    connections: Connections, members: list[Connection], bend: float, places: NDArray, radius: float
) -> Link:
    first = members[0]
    start, end = between_circles(places[first.source], places[first.to], radius, bend)
    notes = _change_lines(connections, first)
    if not connections.relative:
        strength, probability = map(float, connections.marginals.of(first.draws))
        return Link(start, end, strength, probability, notes, bend)
    tint, line = FAMILIES.get(first.family, (style.INK, "-"))
    medians = [100 * np.median(member.draws) for member in members]
    text = " / ".join(f"{median:.0f}" for median in medians) + f"{style.NBSP}%"
    return Link(start, end, float(np.mean(medians)), 1.0, notes, bend, text=text, tint=tint,
                line=line)  # fmt: skip


def _change_lines(connections: Connections, entry: Connection) -> tuple[str, ...]:
    """Write what each input or condition effect makes of a connection."""
    lines = []
    for name, draws, gates in entry.changes:
        probability = connections.certainty(draws)
        doubt = "" if probability >= UNCERTAIN else f", {style.probability_text(probability)}"
        amount = (
            f"×{style.NBSP}{np.median(draws):.2f}"
            if connections.relative
            else style.signed(connections.mean(draws))
        )
        where = f"{_within_word(entry)}: " if connections.relative and entry.within else ""
        lines.append(f"{where}{name} {amount}{' per unit' if gates else ''}{doubt}")
    return tuple(lines)


def _within_word(entry: Connection) -> str:
    return "self-inhibition" if entry.kind.startswith("self") else "gain"


def _beside(sketch: Sketch, place: NDArray, radius: float, lines: tuple[str, ...]) -> NDArray:
    """Where to write on the outer side of a node, out of the way of arrows between nodes."""
    side = -1 if place[0] < -0.01 else 1
    reach = 0.8 * radius + 0.55 * max(map(sketch.width_of, lines), default=0.0)
    # Inputs come straight from outside: beside that of the topmost, below those of others in the
    # upper half, above those in the lower.
    below = place[1] >= 0 and abs(place[0]) > 0.01
    return place + [side * reach, (-0.5 if below else 1.0) * radius]


def _drives(
    fit: Any, relative: bool, sketch: Sketch, places: NDArray, angles: NDArray, radius: float
) -> list[Link]:
    """Arrows of the driving inputs, after drawing the inputs outside the circle."""
    arrays = fit.idata.posterior.data_vars
    site = next((name for name in ("input_effect", "C") if name in arrays), None)
    if site is None or arrays[site].dims[3:] != ("input",):
        return []
    drive = quantity(fit, site)
    names = drive.names["input"]
    if names == ["input 1"]:
        # Nobody has named the only one.
        names = ["stimulus"]
    links = []
    for row, place in enumerate(places):
        inputs = np.flatnonzero(drive.free[row])
        fan = 0.45 * (np.arange(len(inputs)) - (len(inputs) - 1) / 2)
        for k, shift in zip(inputs, fan, strict=True):
            angle = angles[row] + shift
            centre = INPUT_RADIUS * np.array([np.cos(angle), np.sin(angle)])
            sketch.draw_source(centre, names[k])
            toward = (place - centre) / np.linalg.norm(place - centre)
            start, end = centre + 0.17 * toward, place - radius * toward
            value, probability = float(drive.mean[row, k]), float(drive.probability[row, k])
            text = tint = ""
            if relative:
                # The mean of a log scaling that is normal is its median, too.
                value, probability = 100 * np.exp(value), 1.0
                text, tint = f"{value:.0f}{style.NBSP}%", style.MUTED
            side = 1 if shift >= 0 else -1
            links.append(Link(start, end, value, probability, bend=0.0, side=side, text=text,
                              tint=tint))  # fmt: skip
    return links


def _families(connections: Connections) -> dict[str, str]:
    """What stands in the legend for each family; two numbers on an arrow are of two kinds."""
    targets: dict[str, dict[str, None]] = {}
    for entry in connections.entries:
        if not entry.within:
            target = entry.kind.partition(" ")[2]
            targets.setdefault(entry.family, {})[target] = None
    return {
        family: family if list(words) == [""] else f"{family} ({' / '.join(words)})"
        for family, words in targets.items()
    }


def _explain(ax: Axes, fit: Any, connections: Connections, driven: bool, n_hidden: int) -> None:
    changed = {_within_word(e) if e.within else "" for e in connections.entries if e.changes}
    if connections.relative:
        title = f"Strength of connections in % of their prior mean ({fit.method}, medians)"
        handles = []
        for family, text in _families(connections).items():
            tint, line = FAMILIES.get(family, (style.INK, "-"))
            handles.append(Line2D([], [], color=tint, linestyle=line, lw=2.5, label=text))
        if driven:
            handles.append(Line2D([], [], color=style.MUTED, lw=2.5, label="input"))
        word = "factor of a condition effect"
        word += "".join(f" ({what}: in the {fit.facts.node})" for what in sorted(changed - {""}))
    else:
        unit = f" in {connections.unit}" if connections.unit else ""
        title = f"{connections.title}{unit} ({fit.method})"
        handles = [
            Line2D([], [], color=style.POSITIVE, lw=3, label="excites"),
            Line2D([], [], color=style.NEGATIVE, lw=3, label="inhibits"),
            Line2D([], [], color=style.MUTED, lw=3, alpha=0.3, label="faint: sign uncertain"),
        ]
        word = "change by an input"
    if changed:
        handles.append(Line2D([], [], lw=0, marker="s", color=CHANGE, label=word))
    if n_hidden:
        handles.append(Line2D([], [], lw=0, label=f"{n_hidden} uncertain connections not drawn"))
    style.panel_title(ax, title)
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 0), fontsize="small",
              frameon=False, ncols=2)  # fmt: skip
