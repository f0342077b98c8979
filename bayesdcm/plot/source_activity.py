"""Activity of the populations of every source, in each condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesdcm.infer.divergence import left_out_text
from bayesdcm.infer.threads import single_threaded_linear_algebra
from bayesdcm.plot import style
from bayesdcm.plot.data_fit import label_panels, mark_origin, panels
from bayesdcm.plot.labels import chosen
from bayesdcm.plot.quantities import check_fit, finite, flat_draws
from bayesdcm.plot.style import Canvas

if TYPE_CHECKING:
    from bayesdcm.data.evoked import EvokedData


def plot_source_activity(
    fit: Any,
    model: Any,
    data: EvokedData,
    populations: Sequence[str] | None = None,
    *,
    n_draws: int = 100,
    interval: float = 0.9,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw the voltage of each population in each source, relative to rest, by condition.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit by any method; one read from disk serves.
    model : EvokedDCM
        The model that was fitted, whose sources have populations.
    data : EvokedData
        The data it was fitted to; only times and design matter.
    populations : sequence of str, optional
        Populations to draw, such as ``["pyramidal"]``. None: all of the neural model.
    n_draws : int
        Posterior draws, evenly chosen, that are taken through the model.
    interval : float
        Probability inside the credible bands.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        A row of panels for each source and a column for each population, with one scale a
        column.

    Raises
    ------
    TypeError, ValueError
        If the fit is of another model, a population is not known, `n_draws` is below 2, or the
        model diverges at every draw.
    """
    check_fit(fit)
    _check_model(fit, model, data, n_draws)
    known = dict(model.facts().populations)
    shown = chosen(populations, list(known), "populations")
    activity = _activity(fit, model, data, n_draws)
    draws = finite(activity)
    method = fit.method + left_out_text(len(activity) - len(draws), len(activity))
    tail = (1 - interval) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    names = list(model.source_names)
    axes, figure = panels(figure, [1.0] * len(names), len(shown), sharey="col")
    words, unit, factor = fit.facts.axis("time")
    time = factor * np.asarray(data.times)
    for row, column in np.ndindex(*axes.shape):
        at = (slice(None), slice(None), row, known[shown[column]])
        bands = (low[at], draws.mean(0)[at], high[at])
        _draw(axes[row, column], time, bands, data.condition_names)
    label_panels(axes, shown, names)
    axes[0, 0].set_xlim(time[0], time[-1])
    figure.supxlabel(f"{words} ({unit})", fontsize="medium")
    figure.supylabel("voltage relative to rest (mV)", fontsize="medium")
    style.legend(figure, style.labelled([axes[0, 0]]), loc="outside upper right")
    # In two lines, to stay clear of the legend where there is one population.
    style.heading(
        figure, f"Source activity ({method})\nmean and {100 * interval:g} % credible band"
    )
    return figure


def _check_model(fit: Any, model: Any, data: Any, n_draws: int) -> None:
    if not hasattr(model, "source_activity"):
        raise TypeError(
            "model must be the one that was fitted, of sources with populations, such as an "
            f"EvokedDCM; got {type(model).__name__}"
        )
    model.check(data)
    labels = [label for names in model.labels(data).values() for label in names]
    known = list(fit.summary().index)
    if model.facts() != fit.facts or labels != known:
        other = next(
            (x for x in known if x not in labels), next(iter(set(labels) - set(known)), "")
        )
        raise ValueError(
            "model must be the one that was fitted; its neural model, units or free parameters "
            f"differ{f', in {other}' if other else ''}; got {model!r}"
        )
    if fit.problem is not None and fit.problem.model != model.for_data(data):
        raise ValueError(
            f"model must be the one that was fitted, {fit.problem.model!r}; got {model!r}, "
            "of which other arguments, solver or priors differ"
        )
    observed = fit.idata.observed_data["signal"]
    conditions = [str(name) for name in observed["condition"].values]
    if list(data.condition_names) != conditions or data.n_times != observed.sizes["time"]:
        raise ValueError(
            f"data must be those that were fitted: conditions {', '.join(conditions)} and "
            f"{observed.sizes['time']} times; got {data!r}"
        )
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")


def _activity(fit: Any, model: Any, data: EvokedData, n_draws: int) -> NDArray:
    """Shape (draws, conditions, times, sources, states)."""
    import jax

    names = [prior.name for prior in model.source_model.priors()]
    draws = {name: flat_draws(fit.idata.posterior[name]) for name in names}
    total = len(draws[names[0]])
    kept = np.linspace(0, total - 1, min(n_draws, total)).round().astype(int)
    draws = {name: values[kept] for name, values in draws.items()}
    # Lead fields are worked out once for a data set, outside compiled code.
    model.prepare(data)
    # One draw after the other is compiled once, and needs little memory.
    run = jax.jit(lambda many: jax.lax.map(lambda one: model.source_activity(one, data), many))
    with single_threaded_linear_algebra():
        return np.asarray(run(draws))


def _draw(
    ax: Axes, time: NDArray, bands: tuple[NDArray, NDArray, NDArray], conditions: Sequence[str]
) -> None:
    mark_origin(ax, time, bands[1])
    for i, (name, low, mean, high) in enumerate(zip(conditions, *bands, strict=True)):
        ax.fill_between(time, low, high, color=style.colour(i), alpha=0.25, linewidth=0)
        ax.plot(time, mean, color=style.colour(i), linestyle=style.dashes(i), linewidth=1.3,
                label=name)  # fmt: skip
    ax.tick_params(labelsize="small")
    style.tidy(ax)
