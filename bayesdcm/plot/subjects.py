"""Subjects of a group: how well each one's data are explained, and what the fits look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bayesdcm.plot import style
from bayesdcm.plot.labels import check_limit, chosen
from bayesdcm.plot.quantities import finite
from bayesdcm.plot.series import arranged, fitted_series
from bayesdcm.plot.style import Canvas

# Below this the model has hardly anything to do with the data.
POOR = 10.0


class Subject(NamedTuple):
    """What is drawn of one subject."""

    name: str
    columns: list[str]  # regions, or channel modes
    explained: NDArray  # variance explained by the model without confounds, in percent, (columns,)
    conditions: list[str]  # one empty name where there are none
    time: NDArray  # as the label says
    time_label: str  # what the data run along, with its unit
    observed: NDArray  # (conditions, times, columns)
    fitted: NDArray  # posterior median, confounds included, of the same shape


def plot_subjects(
    group: Any, region: str | None = None, *, limit: int = 24, figure: Canvas | None = None
) -> Canvas:
    """Draw how much of each subject's data the model explains, beside data and fit of a region.

    A row for each subject: on the left the explained variance of every region (or channel mode),
    on the right the data of one of them and the fit to it, each scaled to its own range.

    Parameters
    ----------
    group : GroupFit, mapping of str to Fit, or sequence of Fit
        Fits of one model, one a subject, with their data.
    region : str, optional
        Whose data to draw: a region, or a channel mode; the first by default.
    limit : int
        Most subjects to draw: where there are more, those whose data are explained least. 24 by
        default.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One row for each subject.

    Raises
    ------
    TypeError, ValueError
        If `group` does not hold fits of one model with their data, or has no such region.
    """
    subjects = [read_subject(name, fit) for name, fit in _named(group)]
    return draw_subjects(subjects, region, limit, figure)


def check_group(group: Any) -> None:
    """Raise where a group is empty, or holds fits of several models."""
    if len(getattr(group, "models", ())) > 1:
        raise ValueError(
            f"group holds several models, {', '.join(map(repr, group.models))}; choose one, "
            f"such as group[{group.models[0]!r}]"
        )
    if not len(group):
        raise ValueError("group must hold at least one fit, got none")


def _named(group: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(group, Mapping):
        items = [(str(name), fit) for name, fit in group.items()]
    elif isinstance(group, Sequence) and not isinstance(group, str):
        names = getattr(group, "subjects", [str(i + 1) for i in range(len(group))])
        # Fits of a group are read when asked for, and forgotten when nobody holds them.
        items = ((str(name), fit) for name, fit in zip(names, group, strict=True))
    else:
        raise TypeError(f"group must hold fits, one a subject, got {type(group).__name__}")
    check_group(group)
    return items


def read_subject(name: str, fit: Any) -> Subject:
    """What is drawn of a subject, without the draws of its fit: some kilobytes."""
    series = fitted_series(fit)
    group, data = fit.idata.posterior_predictive, fit.idata.observed_data[series.site]
    # The median: draws at which the model nearly diverges would spoil a mean.
    fitted, prediction = (
        np.median(draws, axis=0)
        for draws in (series.draws, finite(arranged(group[f"{series.site}_prediction"], data)))
    )
    signal, noise = (values.var((0, 1)) for values in (prediction, series.observed - fitted))
    whole = np.where(signal + noise > 0, signal + noise, 1.0)
    return Subject(name, series.columns, 100 * signal / whole, series.conditions, series.points,
                   series.label(), series.observed, fitted)  # fmt: skip


def draw_subjects(
    subjects: Sequence[Subject],
    region: str | None = None,
    limit: int = 24,
    figure: Canvas | None = None,
) -> Canvas:
    """The figure of `plot_subjects`, from what `read_subject` kept of each subject."""
    first = subjects[0]
    subjects = [_in_order_of(first, subject) for subject in subjects]
    region = chosen(region, first.columns, "region")[0]
    check_limit(limit)
    shown = list(subjects)
    if len(shown) > limit:
        order = np.argsort([subject.explained.mean() for subject in subjects], kind="stable")
        shown = [subjects[i] for i in sorted(order[:limit])]
    n, n_conditions = len(shown), len(first.conditions)
    width = 0.08 * max(len(subject.name) for subject in shown) + 3.4 + max(3.2 * n_conditions, 6.0)
    figure = figure or style.new_figure(width, 0.46 * n + 1.6, wspace=0.04, hspace=0.0)
    grid = figure.add_gridspec(n, 1 + n_conditions, width_ratios=[1.5] + [6 / n_conditions]
                               * n_conditions if n_conditions < 3 else None)  # fmt: skip
    _draw_explained(figure.add_subplot(grid[:, 0]), shown)
    for i, subject in enumerate(shown):
        _draw_series(figure, grid, i, subject, subject.columns.index(region), i == n - 1)
    _explain(figure, subjects, shown, region)
    return figure


def _in_order_of(first: Subject, other: Subject) -> Subject:
    """A subject with regions and conditions in the order of the first, by name."""
    orders = []
    for what, names, wanted in (
        ("regions", other.columns, first.columns),
        ("conditions", other.conditions, first.conditions),
    ):
        if sorted(names) != sorted(wanted):
            raise ValueError(
                f"group must hold fits of one model, but {other.name!r} has the {what} {names} "
                f"and {first.name!r} has {wanted}"
            )
        orders.append([names.index(name) for name in wanted])
    columns, conditions = orders
    return other._replace(
        columns=first.columns,
        explained=other.explained[columns],
        conditions=first.conditions,
        observed=other.observed[conditions][..., columns],
        fitted=other.fitted[conditions][..., columns],
    )


def _draw_explained(ax: Axes, shown: Sequence[Subject]) -> None:
    for height, subject in enumerate(shown):
        for k, share in enumerate(subject.explained):
            ax.plot([share], [height], ms=5, alpha=0.9, zorder=2, clip_on=False, linestyle="",
                    **style.points(k))  # fmt: skip
    ax.axvline(POOR, color=style.MUTED, linewidth=1, linestyle=":", zorder=1)
    largest = max(subject.explained.max() for subject in shown)
    ax.set_xlim(0, min(100, max(20, 10 * np.ceil(largest / 10))))
    style.name_rows(ax, [subject.name for subject in shown], 0.0)
    ax.set_xlabel("explained variance (%)", fontsize="small")
    ax.tick_params(axis="x", labelsize="small")
    style.bare_rows(ax, range(len(shown)))


def _draw_series(
    figure: Canvas, grid: Any, row: int, subject: Subject, column: int, last: bool
) -> None:
    values = np.stack([subject.observed[..., column], subject.fitted[..., column]])
    low, high = values.min(), values.max()
    for k, condition in enumerate(subject.conditions):
        ax = figure.add_subplot(grid[row, 1 + k])
        ax.plot(subject.time, values[0, k], color=style.MUTED, linewidth=0.7)
        ax.plot(subject.time, values[1, k], color=style.colour(1), linewidth=1.2)
        ax.set_xlim(subject.time[0], subject.time[-1])
        margin = 0.05 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)
        ax.set_yticks([])
        style.tidy(ax)
        ax.spines["left"].set_visible(False)
        ax.spines["bottom"].set_visible(last)
        ax.tick_params(axis="x", labelsize="small", labelbottom=last, bottom=last)
        if last:
            ax.set_xlabel(subject.time_label, fontsize="small")
        if row == 0 and condition:
            ax.set_title(condition, loc="left", fontsize="small", fontweight="bold")


def _explain(
    figure: Canvas, subjects: Sequence[Subject], shown: Sequence[Subject], region: str
) -> None:
    title = f"Subjects: explained variance, and data and fit of {region}"
    if len(shown) < len(subjects):
        title += f"; the {len(shown)} of {len(subjects)} that are explained least"
    style.heading(figure, title)
    columns = enumerate(shown[0].columns)
    handles = [Line2D([], [], linestyle="", label=name, **style.points(k)) for k, name in columns]
    handles += [
        Line2D([], [], color=style.MUTED, linestyle=":", label=f"{POOR:g} %"),
        Line2D([], [], color=style.MUTED, linewidth=1, label=f"data of {region}"),
        Line2D([], [], color=style.colour(1), linewidth=1.6, label="fit (posterior median)"),
    ]
    style.legend(figure, handles, ncols=min(len(handles), 7))
