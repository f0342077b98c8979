"""Effects of covariates on the parameters of a group, with their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bayesdcm.plot import style
from bayesdcm.plot.labels import check_effects, chosen, described, parsed, units_text
from bayesdcm.plot.style import Canvas

THRESHOLD = 0.95
# Half the width of a 90 % interval, in standard deviations.
QUANTILE = 1.6448536269514722
# Colour of what is drawn over the effects.
OVER = "#8c4799"


def plot_group_effects(
    effects: Any,
    covariate: str | Sequence[str] | None = None,
    threshold: float = THRESHOLD,
    *,
    overlay: Any = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw the effects of covariates on a group's parameters, and how probable they are.

    A panel for each covariate, a row for each parameter: posterior means with 90 % intervals, and
    the probability of the sign. Warm colours are for effects above 0, cold ones for effects below;
    what is less probable than the threshold is grey.

    Parameters
    ----------
    effects : GroupEffects or ReducedEffects
        From `bayesdcm.group.peb`.
    covariate : str or sequence of str, optional
        Which to draw; all by default. The first is the group mean.
    threshold : float
        Probability from which effects are emphasised; 0.95 by default.
    overlay : EffectsSearch, EffectsComparison, ReducedEffects or DataFrame, optional
        Drawn beside the effects: the average of a search, or of compared models, whose
        probabilities that an effect is there are written then, and decide what is emphasised (as
        in SPM, a search averages over models without the effects that the best one lacks); a
        reduced model; or a hierarchy, as the table of `bayesdcm.group.compare_with_peb`.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One panel for each covariate.

    Raises
    ------
    TypeError, ValueError
        If `effects` or `overlay` is something else, a covariate is unknown, or the threshold is no
        probability.
    """
    shown = _checked(effects, covariate, threshold)
    over, over_name, present, pruned = _overlay(overlay)
    table = effects.summary().set_index(["covariate", "parameter"])
    labels = list(effects.parameters)
    if figure is None:
        longest = max(map(len, labels))
        row = 0.27 if over is None else 0.33
        width = max(0.075 * longest + 0.9 + 3.1 * len(shown), 6.4)
        figure = style.new_figure(width, row * len(labels) + 1.9, wspace=0.03)
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    unit = units_text(described(effects), labels)
    for ax, name in zip(axes, shown, strict=True):
        _draw_frame(ax, labels)
        rows = table.loc[name].loc[labels]
        rows = rows.assign(
            likely=rows["probability"] if present is None else present[name],
            pruned=[(name, label) in pruned for label in labels],
        )
        _draw(ax, rows, threshold, 0.0 if over is None else -0.17)
        if over is not None:
            _draw_overlay(ax, over, name, labels)
        head = "P(there)" if present is not None else "P(sign)"
        ax.annotate(head, (1.02, 1.0), (0, 4), "axes fraction", textcoords="offset points",
                    fontsize="small", color=style.MUTED, va="bottom")  # fmt: skip
        style.panel_title(ax, covariate_title(name, effects.covariates), fontweight="bold")
        what = "group mean" if name == effects.covariates[0] else f"effect per unit of {name}"
        ax.set_xlabel(_broken(f"{what} ({unit})" if unit else what), fontsize="small")
    style.name_rows(axes[0], labels)
    _explain(figure, effects, over_name, present is not None, threshold)
    return figure


def _checked(effects: Any, covariate: Any, threshold: Any) -> list[str]:
    check_effects(effects, "summary", "covariates", "parameters")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a probability, from 0 to 1, got {threshold!r}")
    return chosen(covariate, effects.covariates, "covariate")


def _overlay(overlay: Any) -> tuple[pd.DataFrame | None, str, pd.DataFrame | None, set]:
    """Means and standard deviations, their name, probabilities of being there, what was pruned."""
    if overlay is None:
        return None, "", None, set()
    if isinstance(overlay, pd.DataFrame):
        if not {"peb_mean", "mean", "sd"} <= set(overlay):
            raise ValueError(
                "overlay must have the columns of bayesdcm.group.compare_with_peb, got "
                f"{list(overlay)}"
            )
        return overlay[["mean", "sd"]], "hierarchy", None, set()
    if not hasattr(overlay, "summary"):
        raise TypeError(
            "overlay must be a search, a comparison or a reduced model of the effects, or a table "
            f"of compare_with_peb, got {type(overlay).__name__}"
        )
    table = overlay.summary().set_index(["covariate", "parameter"])
    if "present" not in table:
        return table[["mean", "sd"]], "reduced model", None, set()
    name = "average over models"
    if not hasattr(overlay, "commonalities"):
        # As in SPM, a search averages over models without what the best one lacks.
        name += " (0: off in the best)"
    pruned = set(table.index[table["search"] == "pruned"]) if "search" in table else set()
    return table[["mean", "sd"]], name, table["present"].unstack("covariate"), pruned


def covariate_title(covariate: str, covariates: Sequence[str]) -> str:
    """Name the effect of a covariate; the first of all is the group mean."""
    if covariate == covariates[0]:
        return "Group mean" if covariate == "mean" else f"Group mean ({covariate})"
    return f"Effect of {covariate}"


def _broken(text: str) -> str:
    """Two lines where one would be wider than a panel."""
    return text if len(text) < 38 else text.replace(" (", "\n(", 1)


def _draw_frame(ax: Axes, labels: list[str]) -> None:
    ax.axvline(0, color=style.MUTED, linewidth=1, zorder=1)
    for height, label in enumerate(labels):
        if height and parsed(label).site != parsed(labels[height - 1]).site:
            ax.axhline(height - 0.5, color="#b0b0b0", linewidth=0.8, zorder=0)
    style.bare_rows(ax, range(len(labels)))
    ax.tick_params(axis="x", labelsize="small")
    ax.locator_params(axis="x", nbins=5)


def _draw(ax: Axes, rows: pd.DataFrame, threshold: float, shift: float) -> None:
    for height, row in enumerate(rows.to_dict("records")):
        mean, sd, likely = row["mean"], row["sd"], row["likely"]
        # An effect that all models share is there by assumption: its sign must be sure, too.
        sure = min(likely, row["probability"]) >= threshold
        tint = (style.POSITIVE if mean > 0 else style.NEGATIVE) if sure else style.MUTED
        at = height + shift
        if sd > 0:
            _draw_interval(ax, mean, sd, at, color=tint, linewidth=1.8 if sure else 1.3, zorder=3)
        ax.plot([mean], [at], "o" if sd > 0 else "x", color=tint, ms=5.5 if sure else 4.5,
                zorder=4)  # fmt: skip
        text = style.share_text(likely) if np.isfinite(likely) else ("on" if sd > 0 else "off")
        text = "pruned" if row["pruned"] else text
        ax.text(1.02, height, text, transform=ax.get_yaxis_transform(), va="center", color=tint,
                fontsize="small", fontweight="bold" if sure else "normal")  # fmt: skip


def _draw_overlay(ax: Axes, over: pd.DataFrame, covariate: str, labels: list[str]) -> None:
    for height, label in enumerate(labels):
        if (covariate, label) not in over.index:
            continue
        mean, sd = over.loc[(covariate, label), ["mean", "sd"]]
        _draw_interval(ax, mean, sd, height + 0.2, color=OVER, linewidth=1.1, zorder=2)
        ax.plot([mean], [height + 0.2], "D", color=OVER, markerfacecolor="white", ms=3.8, zorder=3)


def _draw_interval(ax: Axes, mean: float, sd: float, height: float, **look: Any) -> None:
    ends = [mean - QUANTILE * sd, mean + QUANTILE * sd]
    ax.plot(ends, [height, height], solid_capstyle="butt", **look)


def _explain(figure: Canvas, effects: Any, over: str, searched: bool, threshold: float) -> None:
    n_subjects = len(getattr(effects, "first", ()))
    subjects = f" ({n_subjects} subjects)" if n_subjects else ""
    text = f"posterior mean and 90{style.NBSP}% interval"
    style.heading(figure, f"Effects on the group{subjects}: {text}")
    probability = "P(there)" if searched else "P(sign)"
    likely = f"{probability}{' and P(sign)' if searched else ''} ≥ {threshold:g}"
    handles = [
        Line2D([], [], color=style.POSITIVE, marker="o", ms=5.5, label=f"above 0, {likely}"),
        Line2D([], [], color=style.NEGATIVE, marker="o", ms=5.5, label=f"below 0, {likely}"),
        Line2D([], [], color=style.MUTED, marker="o", ms=4.5, label="less probable"),
    ]
    if over:
        handles.append(Line2D([], [], color=OVER, marker="D", ms=3.8, markerfacecolor="white",
                              label=over))  # fmt: skip
    style.legend(figure, handles, ncols=2)
