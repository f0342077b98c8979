"""Models nested in one: their probabilities, and which connections each of them has."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from bayesdcm.plot import style
from bayesdcm.plot.labels import check_limit
from bayesdcm.plot.style import Canvas

# Rows beyond which parameters that all models agree on are counted, not drawn.
MOST_ROWS = 40
ON, OFF, ALWAYS, NEVER, EDGE = style.colour(0), "#ffffff", "#a9c6da", "#e4e4e4", "#b8b8b8"


class _Row(NamedTuple):
    """A parameter: name, states in the models shown, and whether the models differ in it."""

    name: str
    on: NDArray[np.bool_]
    differs: bool
    present: float

    @property
    def pruned(self) -> bool:
        """Whether no model has it."""
        return not self.differs and not self.on.all()

    @property
    def tint(self) -> str:
        """Colour where models have it; where none does, of being left out."""
        return ON if self.differs else NEVER if self.pruned else ALWAYS


def plot_model_search(search: Any, *, limit: int = 16, figure: Canvas | None = None) -> Canvas:
    """Draw the models of a search, best first, and the probability of each connection.

    Above the posterior probabilities of the models; below which connections (or effects on a
    group) each of them has, and right of it the posterior probability that each is there, over
    all models of the last set searched. A greedy search decides on some connections before that
    set, and the models agree on those: the probability of those kept is against the model without
    them alone, that of those pruned is not known.

    Parameters
    ----------
    search : ReducedSearch or EffectsSearch
        From `bayesdcm.search_reduced`, or from the method `search` of effects on a group.
    limit : int
        Most models to draw; 16 by default.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Three panels.

    Raises
    ------
    TypeError, ValueError
        If `search` is not such a search, or `limit` is below 1.
    """
    if not all(hasattr(search, name) for name in ("models", "present", "best")):
        raise TypeError(
            "search must be what bayesdcm.search_reduced or effects.search() returned, got "
            f"{type(search).__name__}"
        )
    check_limit(limit)
    models = search.models.iloc[:limit]
    rows, left_out = _rows(search, models)
    longest, width = max((len(row.name) for row in rows), default=0), 0.33 * max(len(models), 5)
    figure = figure or style.new_figure(width + 0.08 * longest + 3.6, 0.24 * len(rows) + 3.2)
    heights = [1.3, max(0.24 * len(rows), 0.5)]
    axes = figure.subplots(2, 2, height_ratios=heights, width_ratios=[width, 2.1], squeeze=False,
                           sharex="col", sharey="row")  # fmt: skip
    axes[0, 1].set_axis_off()
    _draw_probabilities(axes[0, 0], models["probability"].to_numpy())
    _draw_switches(axes[1, 0], rows, len(models))
    _draw_presence(axes[1, 1], rows)
    _explain(figure, search, models, rows, left_out)
    return figure


def _rows(search: Any, models: Any) -> tuple[list[_Row], tuple[int, int]]:
    """Parameters to draw, and how many are left out that all models have and that none has."""
    differing = [name for name in models.columns if name not in ("change", "probability")]
    if search.present.ndim == 2:
        present = {
            f"{covariate}: {parameter}": float(search.present.loc[parameter, covariate])
            for covariate in search.present.columns
            for parameter in search.present.index
        }
        pruned = {f"{covariate}: {parameter}" for covariate, parameter in search.best.off}
        # The others that have no probability were not searched.
        present = {n: p for n, p in present.items() if np.isfinite(p) or n in pruned}
    else:
        present = {str(name): float(value) for name, value in search.present.items()}
        pruned = set(search.best.off)
    rows = []
    for name, value in present.items():
        differs = name in differing
        on = models[name].to_numpy(bool) if differs else np.full(len(models), name not in pruned)
        rows.append(_Row(name, on, differs, value))
    if len(rows) <= MOST_ROWS:
        return rows, (0, 0)
    agreed = [row for row in rows if not row.differs]
    never = sum(row.pruned for row in agreed)
    return [row for row in rows if row.differs], (len(agreed) - never, never)


def _draw_probabilities(ax: Axes, probability: NDArray) -> None:
    places = np.arange(len(probability))
    ax.bar(places, probability, 0.72, color=style.MUTED)
    for place, value in zip(places[:3], probability, strict=False):
        ax.text(place, value, style.share_text(value), ha="center", va="bottom", fontsize="small")
    ax.set_ylabel("model probability")
    ax.set_ylim(0, 1.18 * max(float(probability.max()), 1e-3))
    ax.tick_params(axis="x", labelbottom=False, length=0)
    style.tidy(ax)


def _draw_switches(ax: Axes, rows: list[_Row], n_models: int) -> None:
    for height, row in enumerate(rows):
        for place in range(n_models):
            shade = OFF if row.differs and not row.on[place] else row.tint
            ax.add_patch(plt.Rectangle((place - 0.42, height - 0.42), 0.84, 0.84, facecolor=shade,
                                       edgecolor=EDGE, linewidth=0.5))  # fmt: skip
    ax.set_xlim(-0.6, max(n_models, 5) - 0.4)
    style.name_rows(ax, [row.name for row in rows])
    ax.set_xticks(range(n_models), [str(i + 1) for i in range(n_models)], fontsize="small")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("model, the best first")


def _draw_presence(ax: Axes, rows: list[_Row]) -> None:
    for height, row in enumerate(rows):
        length = 0.0 if row.pruned else row.present
        ax.barh(height, length, 0.7, color=row.tint)
        text = "pruned" if row.pruned else style.share_text(row.present)
        ax.text(length + 0.03, height, text, va="center", fontsize="small", color=style.INK)
    ax.axvline(0.5, color=style.MUTED, linewidth=0.8, linestyle=":", zorder=0)
    ax.set_xlim(0, 1.28)
    ax.set_xticks([0, 0.5, 1])
    ax.set_xlabel("probability\nthat it is there")
    ax.tick_params(axis="y", length=0, labelleft=False)
    style.tidy(ax)


def _explain(figure: Canvas, search: Any, models: Any, rows: list[_Row], left_out: tuple) -> None:
    total, probability = len(search.models), float(models["probability"].sum())
    shown = "all" if len(models) == total else f"the best {len(models)} of"
    title = f"Search among nested models: {shown} {total} models of the last set"
    if len(models) < total:
        title += f"\n(together they have probability {style.share_text(probability)})"
    if any(left_out):
        always, never = left_out
        title += f"\nNot drawn: {always} that all these models have, {never} that none has"
    style.heading(figure, title)
    tints = {ON, OFF, *(row.tint for row in rows)}
    words = {ON: "on", OFF: "off", ALWAYS: "on, kept before", NEVER: "off, pruned before"}
    style.legend(figure, [Patch(facecolor=tint, edgecolor=EDGE, label=text)
                    for tint, text in words.items() if tint in tints])  # fmt: skip
