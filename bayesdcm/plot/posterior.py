"""Posterior densities of chosen parameters, several fits on one another, with the prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bayesdcm.compare.posteriors import compare_posteriors
from bayesdcm.plot import style
from bayesdcm.plot.quantities import CONSTANT, Marginals, entries, flat_draws, named_fits
from bayesdcm.plot.style import Canvas

N_DEFAULT = 8
N_POINTS = 300
# Labels of more characters are written in two lines.
LONGEST = 26


def plot_posterior(
    fits: Any,
    parameters: Sequence[str] | None = None,
    *,
    prior: bool = True,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw posterior densities of parameters, one fit over the other, and the prior.

    Parameters
    ----------
    fits : bayesdcm.Fit or mapping of str to Fit
        One fit, or several of the same model by name.
    parameters : sequence of str, optional
        Labels such as ``"A[V5, V1]"`` or ``"effective_connectivity[V5, V1]"``. None: of several
        fits the eight parameters that differ most, of one the first eight that are free,
        those that most people look at first (``B`` and ``A`` of evoked responses).
    prior : bool
        Whether to draw the prior, as a grey area.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        One panel for each parameter.

    Raises
    ------
    TypeError
        If `fits` holds something else.
    ValueError
        If a label is not known or names a constant; the message lists the free parameters. If a
        fit is by a method that finds the best point and no more.
    """
    named = named_fits(fits)
    for fit in named.values():
        fit.posterior.require_spread("plot_posterior")
    first = next(iter(named.values()))
    if isinstance(parameters, str):
        parameters = [parameters]
    labels = list(parameters) if parameters is not None else _default(named)
    _check(labels, named)
    n_columns = min(len(labels), 4 if len(labels) > 6 or len(labels) == 4 else 3)
    n_rows = -(-len(labels) // n_columns)
    figure = figure or style.new_figure(max(2.5 * n_columns + 0.3, 4.5), 1.9 * n_rows + 0.7)
    axes = style.first_panels(figure.subplots(n_rows, n_columns, squeeze=False), len(labels))
    marginals = {name: Marginals(fit) for name, fit in named.items()}
    for ax, label in zip(axes, labels, strict=True):
        _draw(ax, named, marginals, label, prior)
        # Long labels would run into the next panel.
        title = label.replace("[", "\n[", 1) if len(label) > LONGEST else label
        style.panel_title(ax, title, fontweight="bold")
        name, index = entries(first)[label]
        ax.set_xlabel(first.facts.unit(name, index), fontsize="small")
    style.legend(figure, style.labelled(axes[:1]), loc="outside upper right")
    n_free = len(first.summary())
    some = parameters is None and len(labels) < n_free
    chosen = f" of {len(labels)} of {n_free} parameters" if some else ""
    style.heading(figure, f"Posterior densities{chosen}")
    return figure


def _default(named: Mapping[str, Any]) -> list[str]:
    if len(named) == 1:
        fit = next(iter(named.values()))
        labels = list(fit.summary().index)
        order = {site: i for i, site in enumerate(fit.facts.headline)}
        labels.sort(key=lambda label: order.get(label.partition("[")[0], len(order)))
        return labels[:N_DEFAULT]
    return list(compare_posteriors(named)["parameter"].unique()[:N_DEFAULT])


def _check(labels: Sequence[str], named: Mapping[str, Any]) -> None:
    if not labels:
        raise ValueError("parameters must name at least one parameter, got an empty list")
    for name, fit in named.items():
        known = entries(fit)
        for label in labels:
            if label in known and np.ptp(_draws(fit, "posterior", label)) > CONSTANT:
                continue
            wrong = "is constant in" if label in known else "is not a parameter of"
            raise ValueError(
                f"parameters: {label!r} {wrong} the fit {name!r}; its free parameters are "
                f"{', '.join(fit.summary().index)}"
            )


def _draws(fit: Any, group: str, label: str) -> NDArray:
    name, index = entries(fit)[label]
    return flat_draws(getattr(fit.idata, group)[name])[(slice(None), *index)]


def _draw(
    ax: Axes, named: Mapping[str, Any], marginals: Mapping[str, Marginals], label: str, prior: bool
) -> None:
    from scipy.stats import gaussian_kde, norm

    draws = {name: _draws(fit, "posterior", label) for name, fit in named.items()}
    before = _draws(next(iter(named.values())), "prior", label) if prior else None
    x = _range(list(draws.values()), before)
    if before is not None:
        ax.fill_between(
            x, gaussian_kde(before)(x), color=style.PRIOR, alpha=0.45, linewidth=0, label="prior"
        )
    for i, (name, values) in enumerate(draws.items()):
        mean, sd = marginals[name].normal(values)
        density = gaussian_kde(values)(x) if np.isnan(sd) else norm(mean, sd).pdf(x)
        ax.plot(x, density, color=style.colour(i), linestyle=style.dashes(i),
                linewidth=1.8, label=name)  # fmt: skip
    ax.set(yticks=[], ylim=(0, None), xlim=(x[0], x[-1]))
    ax.tick_params(labelsize="small")
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    style.tidy(ax)
    ax.spines["left"].set_visible(False)


def _range(samples: list[NDArray], prior: NDArray | None) -> NDArray:
    """Where the posteriors have their mass, and towards the prior's, at most as much again."""
    low = min(np.quantile(values, 0.002) for values in samples)
    high = max(np.quantile(values, 0.998) for values in samples)
    width = high - low
    start, end = low - 0.3 * width, high + 0.3 * width
    if prior is not None:
        start = min(start, max(np.quantile(prior, 0.02), low - width))
        end = max(end, min(np.quantile(prior, 0.98), high + width))
    return np.linspace(start, end, N_POINTS)
