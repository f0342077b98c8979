"""Subjects' parameters against what the group predicts of them, alone and under the group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesdcm.plot import style
from bayesdcm.plot.group_effects import QUANTILE
from bayesdcm.plot.labels import check_effects, check_limit, chosen, described, units_text
from bayesdcm.plot.style import Canvas

# Covariates of at most as many values have their subjects drawn beside one another.
FEW = 4


class _Estimates(NamedTuple):
    """Of all subjects: means and standard deviations, alone and under the group."""

    alone: NDArray
    alone_sd: NDArray
    under: NDArray
    under_sd: NDArray


def plot_subject_parameters(
    effects: Any,
    covariate: str | None = None,
    parameters: str | Sequence[str] | None = None,
    *,
    limit: int = 6,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw subjects' parameters, each one's own estimate and that under the group's model.

    A panel for each parameter. Open circles with 90 % intervals: estimates from each subject's
    data alone; dots: the same data with the group's model as the prior, which moves what data
    leave uncertain towards what the group predicts. Line: the group's prediction; band: where it
    expects 90 % of subjects.

    Parameters
    ----------
    effects : GroupEffects
        From `bayesdcm.group.peb`.
    covariate : str, optional
        Covariate along the horizontal axis, all others at their mean for the line; by default the
        second of the design. Subjects beside one another where there is the group mean alone.
    parameters : str or sequence of str, optional
        Labels of parameters. The default is those on which the covariate has the most probable
        effects.
    limit : int
        Most parameters to choose by default; 6.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One panel for each parameter.

    Raises
    ------
    TypeError, ValueError
        If `effects` are not of subjects, or a name is unknown.
    """
    covariate, labels = _checked(effects, covariate, parameters, limit)
    estimates = _estimates(effects, labels)
    n_columns = min(len(labels), 3)
    n_rows = -(-len(labels) // n_columns)
    alone = covariate == effects.covariates[0]
    if figure is None:
        names = 0.06 * max(len(str(subject.name)) for subject in effects.first) if alone else 0.0
        width = max(3.1, 0.16 * len(effects.first)) if alone else 3.1
        figure = style.new_figure(max(width * n_columns + 0.4, 5.6), (2.4 + names) * n_rows + 1.0)
    axes = style.first_panels(figure.subplots(n_rows, n_columns, squeeze=False), len(labels))
    fit = described(effects)
    probability = effects.summary().set_index(["covariate", "parameter"])["probability"]
    for k, (ax, label) in enumerate(zip(axes, labels, strict=True)):
        _draw(ax, effects, covariate, label, _Estimates(*(part[:, k] for part in estimates)))
        unit = units_text(fit, [label]) or "estimate"
        unit = unit.replace(" of ", "\nof ", 1) if len(unit) > 24 else unit
        ax.set_ylabel(unit, fontsize="small")
        style.panel_title(ax, label, fontweight="bold")
        share = style.share_text(probability[(covariate, label)])
        text = f"P(sign) {share if share[0] in '<>' else f'= {share}'}"
        ax.set_xlabel(f"{'subject' if alone else covariate} ({text})", fontsize="small")
    title = "Subjects against the group's prediction"
    if not alone:
        title += f" by {covariate} (P(sign): of the effect of {covariate})"
    style.heading(figure, title)
    style.legend(figure, style.labelled(axes[:1]), ncols=2)
    return figure


def _checked(effects: Any, covariate: Any, parameters: Any, limit: int) -> tuple[str, list[str]]:
    check_effects(effects, "under_group", "first", "design")
    if covariate is None:
        covariate = effects.covariates[min(1, len(effects.covariates) - 1)]
    chosen(covariate, effects.covariates, "covariate")
    if parameters is None:
        check_limit(limit)
        strength = (effects.mean[covariate].abs() / effects.sd[covariate]).to_numpy()
        best = np.sort(np.argsort(-strength, kind="stable")[:limit])
        return covariate, [effects.parameters[i] for i in best]
    return covariate, chosen(parameters, effects.parameters, "parameters")


def _estimates(effects: Any, labels: list[str]) -> _Estimates:
    """Each part of the shape (subjects, parameters)."""
    rows = []
    for i, alone in enumerate(effects.first):
        index, row = alone.places(labels), []
        for estimate in (alone, effects.under_group(i)[0]):
            row.append(np.asarray(estimate.mean)[index])
            row.append(np.sqrt(np.diagonal(np.asarray(estimate.covariance))[index]))
        rows.append(row)
    return _Estimates(*(np.stack(part) for part in zip(*rows, strict=True)))


def _draw(ax: Axes, effects: Any, covariate: str, label: str, estimates: _Estimates) -> None:
    places, ticks, reach = _places(effects, covariate)
    ax.axhline(0, color="#d0d0d0", linewidth=0.8, zorder=0)
    _draw_prediction(ax, effects, covariate, label, places, reach)
    width = QUANTILE * estimates.alone_sd
    ax.vlines(places, estimates.alone - width, estimates.alone + width, color="#b4b4b4",
              linewidth=0.9, zorder=2)  # fmt: skip
    for place, before, after in zip(places, estimates.alone, estimates.under, strict=True):
        ax.plot([place, place], [before, after], color=style.colour(0), linewidth=1.1, zorder=3)
    ax.plot(places, estimates.alone, "o", color=style.MUTED, markerfacecolor="white", ms=4.5,
            zorder=4, label="subject alone, 90 % interval")  # fmt: skip
    ax.plot(places, estimates.under, "o", color=style.colour(0), ms=4, zorder=5,
            label="subject under the group's model")  # fmt: skip
    if ticks is not None:
        ax.set_xticks(*ticks)
        if len(str(ticks[1][0])) > 2 and covariate == effects.covariates[0]:
            plt.setp(ax.get_xticklabels(), rotation=90)
    ax.tick_params(labelsize="small")
    style.tidy(ax)


def _places(effects: Any, covariate: str) -> tuple[NDArray, tuple | None, float]:
    """Where subjects stand on the horizontal axis, its ticks, and half the width of a level."""
    n = len(effects.first)
    if covariate == effects.covariates[0]:
        ticks = range(n), [str(subject.name) for subject in effects.first]
        return np.arange(n, dtype=float), ticks, 0.0
    values = effects.design[covariate].to_numpy()
    levels, which = np.unique(values, return_inverse=True)
    if len(levels) > FEW:
        return values, None, 0.0
    # Beside one another, within a third of the least distance of values.
    reach = np.diff(levels).min() / 3 if len(levels) > 1 else 0.3
    places = values.astype(float)
    for k in range(len(levels)):
        members = np.flatnonzero(which == k)
        places[members] += np.linspace(-reach, reach, len(members)) if len(members) > 1 else 0.0
    return places, (levels, [f"{level:.3g}" for level in levels]), 1.1 * reach


def _draw_prediction(
    ax: Axes, effects: Any, covariate: str, label: str, places: NDArray, reach: float
) -> None:
    """The group's prediction along the axis; level by level where subjects stand side by side."""
    margin = 0.05 * np.ptp(places) if np.ptp(places) else 0.5
    start, end = places.min() - margin, places.max() + margin
    if reach:
        pieces = [
            (np.array([level - reach, level + reach]), np.full(2, level))
            for level in np.unique(effects.design[covariate].to_numpy())
        ]
    else:
        x = np.linspace(start, end, 60)
        pieces = [(x, x)]
    for k, (x, values) in enumerate(pieces):
        centre, width = _predicted(effects, covariate, label, values)
        band, line = "where 90 % of subjects are expected", "group's prediction"
        ax.fill_between(x, centre - width, centre + width, color=style.PRIOR, alpha=0.25,
                        linewidth=0, zorder=0, label="_" if k else band)  # fmt: skip
        ax.plot(x, centre, color=style.colour(1), linewidth=1.6, zorder=1, label="_" if k else line)
    ax.set_xlim(start, end)


def _predicted(
    effects: Any, covariate: str, label: str, values: NDArray
) -> tuple[NDArray, NDArray]:
    """Mean of a parameter at values of a covariate, and half the width that holds 90 %."""
    row, size = effects.parameters.index(label), len(effects.parameters)
    points = np.tile(effects.design.mean().to_numpy(), (len(values), 1))
    if covariate != effects.covariates[0]:
        points[:, effects.covariates.index(covariate)] = values
    of_label = np.arange(len(effects.covariates)) * size + row
    covariance = effects.spread[np.ix_(of_label, of_label)]
    uncertain = np.einsum("xi,ij,xj->x", points, covariance, points)
    between = effects.between_covariance.to_numpy()[row, row]
    return points @ effects.centre[row], QUANTILE * np.sqrt(uncertain + between)
