"""Directed graph of regions, connections, modulations and driving inputs."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bayesdcm.plot.graph import CHANGE, Link, Sketch, between_circles
from bayesdcm.plot.quantities import (
    Quantity,
    axis_names,
    flat_draws,
    is_evoked,
    quantity,
    sign_probability,
)
from bayesdcm.plot.source_network import draw_source_network
from bayesdcm.plot.style import MUTED, NEGATIVE, POSITIVE, probability_text, signed

INPUT_RADIUS = 1.62
# Below this probability of the sign a change is written with it.
UNCERTAIN = 0.95
# More connections than this are too many to draw and to label all.
MANY = 24


def plot_network(
    fit: Any, *, minimum_probability: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the model as a graph with the strengths that were found.

    Arrows run from the influencing to the influenced region; their width is the strength in Hz
    without input, their colour its sign, their opacity the posterior probability of that sign.
    Under the strength stands what each input (or gating region) adds to it. Self-connections stand
    inside the regions. Of more than 24 arrows only those are labelled whose labels have room;
    `plot_connectivity` shows all.

    Of evoked responses, forward, backward and lateral connections differ in colour and line; their
    width is the strength without condition effects in percent of its prior mean, and under it
    stands by what factor each effect changes it (all connections are drawn).

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a model with regions or sources, by any method.
    minimum_probability : float, optional
        Connections between regions whose sign is less probable than this, and that nothing
        modulates, are left out. None: 0, or 0.95 where there are more than 24 connections.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ValueError
        If the fit is not of a model with regions or sources.
    """
    if is_evoked(fit):
        return draw_source_network(fit, ax)
    found = quantity(fit, "effective_connectivity")
    regions = found.names["to"]
    n = len(regions)
    if ax is None:
        side = 6.0 if n <= 4 else 8.0
        _, ax = plt.subplots(figsize=(side, side), layout="constrained")
    reach = INPUT_RADIUS + 0.1
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set_axis_off()
    sketch = Sketch(ax, size=9.5 if n <= 4 else 8.0)
    angles = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    places = np.column_stack([np.cos(angles), np.sin(angles)]) if n > 1 else np.zeros((1, 2))
    radius = 0.25 if n <= 4 else max(0.25 - 0.03 * (n - 4), 0.15)
    changes = _changes(fit)
    for row, region in enumerate(regions):
        sketch.draw_node(places[row], radius, region, found.mean[row, row])
        sketch.write_under(places[row] - [0, radius], changes.get((row, row), ()))
    links, n_hidden = _connections(found, places, radius, changes, minimum_probability)
    drives = _drives(fit, sketch, places, angles, radius)
    for group in (links, drives):
        strongest = max((abs(link.value) for link in group), default=1.0) or 1.0
        for link in group:
            sketch.draw_arrow(link, strongest)
    sketch.write_labels([*drives, *links], optional=len(links) > MANY)
    sketch.crop()
    _explain(ax, fit, bool(changes), n_hidden)
    return ax


def _changes(fit: Any) -> dict[tuple[int, int], tuple[str, ...]]:
    """Write what inputs and gating regions add to each connection, by (to, from)."""
    posterior = fit.idata.posterior
    found: dict[tuple[int, int], list[str]] = {}
    if "modulated_connectivity" in posterior:
        base = flat_draws(posterior["effective_connectivity"])
        draws = flat_draws(posterior["modulated_connectivity"]) - base[:, None]
        inputs = axis_names(posterior["modulated_connectivity"], "input")
        for k, i, j in np.argwhere(quantity(fit, "B").free):
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
    minimum: float | None,
) -> tuple[list[Link], int]:
    """Arrows between regions, and how many connections are left out."""
    pairs = [(int(i), int(j)) for i, j in np.argwhere(found.free) if i != j]
    if minimum is None:
        minimum = 0.0 if len(pairs) <= MANY else UNCERTAIN
    links = []
    for i, j in pairs:
        notes, probability = changes.get((i, j), ()), float(found.probability[i, j])
        if probability >= minimum or notes:
            start, end = between_circles(places[j], places[i], radius)
            links.append(Link(start, end, float(found.mean[i, j]), probability, notes))
    # Those with notes, then the strongest, choose the places of their labels first.
    links.sort(key=lambda link: (-len(link.notes), -abs(link.value)))
    return links, len(pairs) - len(links)


def _drives(
    fit: Any, sketch: Sketch, places: NDArray, angles: NDArray, radius: float
) -> list[Link]:
    """Arrows of the driving inputs, after drawing the inputs outside the circle."""
    if "input_effect" not in fit.idata.posterior:
        return []
    found = quantity(fit, "input_effect")
    links = []
    for row, place in enumerate(places):
        inputs = np.flatnonzero(found.free[row])
        fan = 0.45 * (np.arange(len(inputs)) - (len(inputs) - 1) / 2)
        for k, shift in zip(inputs, fan, strict=True):
            angle = angles[row] + shift
            centre = INPUT_RADIUS * np.array([np.cos(angle), np.sin(angle)])
            sketch.draw_source(centre, found.names["input"][k])
            toward = (place - centre) / np.linalg.norm(place - centre)
            start, end = centre + 0.17 * toward, place - radius * toward
            value, probability = float(found.mean[row, k]), float(found.probability[row, k])
            side = 1 if shift >= 0 else -1
            links.append(Link(start, end, value, probability, bend=0.0, side=side))
    return links


def _explain(ax: Axes, fit: Any, changed: bool, n_hidden: int) -> None:
    ax.set_title(f"Effective connectivity in Hz ({fit.method})", loc="left", fontsize="medium")
    handles = [
        Line2D([], [], color=POSITIVE, lw=3, label="excites"),
        Line2D([], [], color=NEGATIVE, lw=3, label="inhibits"),
        Line2D([], [], color=MUTED, lw=3, alpha=0.3, label="faint: sign uncertain"),
    ]
    if changed:
        handles.append(Line2D([], [], lw=0, marker="s", color=CHANGE, label="change by an input"))
    if n_hidden:
        label = f"{n_hidden} uncertain connections not drawn"
        handles.append(Line2D([], [], lw=0, label=label))
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 0), fontsize="small", frameon=False,
        ncols=2,
    )  # fmt: skip
