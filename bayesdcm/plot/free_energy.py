"""What an optimisation gained: free energy, bound of SVI, density of searches and of training."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from bayesdcm.plot.style import INK, colour, panel_title, tidy


def plot_free_energy(fit: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the free energy by iteration, or the evidence lower bound by step of SVI.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit by ``"laplace"`` (steps that lowered the free energy, and were taken back, are
        marked), by ``"variational_bayes"``, by ``"svi"`` (noisy estimates and their running mean),
        by ``"gradient"`` or ``"evolution"`` (the log joint density, a line for each start), or by
        ``"amortised"`` (the log density of parameters of simulations, a line for each flow).
    ax : matplotlib.axes.Axes, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ValueError
        If the fit was made by NUTS, which has no free energy.
    """
    known = {
        "free_energy": (_draw_iterations, "free energy"),
        "elbo": (_draw_bound, "evidence lower bound"),
        "log_joint": (_draw_search, "log joint density"),
        "held_out_log_density": (_draw_training, "log density of parameters"),
    }
    name = next((name for name in known if name in fit.trace), None)
    if name is None:
        raise ValueError(
            f"a fit by {fit.method!r} has no free energy; plot_posterior shows its draws, "
            "fit.diagnose() judges its chains, and fit.trace['lp'] holds the log joint density"
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    draw, quantity = known[name]
    draw(ax, fit)
    ax.set_ylabel(f"{quantity} (nats)")
    title = fit.posterior.method.title
    panel_title(ax, title[:1].upper() + title[1:])
    state = "converged" if fit.status.get("converged", True) else "not converged"
    reached = {"log_joint": "log_joint", "held_out_log_density": "held_out"}.get(name)
    reached = fit.log_evidence if reached is None else fit.status[reached]
    ax.set_title(f"{state} at {reached:.1f} nats", loc="right", fontsize="small",
                 color=INK)  # fmt: skip
    # Held-out densities fall at the end; all else rises.
    place = "lower left" if name == "held_out_log_density" else "lower right"
    ax.legend(frameon=False, fontsize="small", loc=place)
    tidy(ax)
    return ax


def _draw_iterations(ax: Axes, fit: Any) -> None:
    values = np.asarray(fit.trace["free_energy"], float)
    # Closed-form updates take no step back.
    accepted = np.asarray(fit.trace.get("accepted", np.ones(len(values)))) > 0.5
    steps = np.arange(1, len(values) + 1)
    best = np.fmax.accumulate(np.where(accepted, values, np.nan))
    ax.step(steps, best, where="post", color=colour(0), linewidth=1.5, label="best so far")
    ax.plot(steps[accepted], values[accepted], "o", color=colour(0), ms=5, label="step taken")
    # Far below the first step, or where the model diverged, a cross would squeeze the rest.
    lowest = values[accepted].min() - 0.15 * np.ptp(values[accepted])
    visible, hidden = ~accepted & (values >= lowest), ~accepted & ~(values >= lowest)
    if visible.any():
        ax.plot(steps[visible], values[visible], "x", color=colour(1), ms=7, mew=2,
                label="step taken back")  # fmt: skip
    if hidden.any():
        ax.set_ylim(bottom=lowest)
        ax.plot(steps[hidden], np.full(hidden.sum(), lowest), "v", color=colour(1), ms=7,
                clip_on=False, label="step taken back, below the axis")  # fmt: skip
    ax.set_xlabel("iteration")
    ax.xaxis.get_major_locator().set_params(integer=True)


def _draw_search(ax: Axes, fit: Any) -> None:
    values, reached = np.asarray(fit.trace["log_joint"], float), fit.posterior.optima.reached
    steps = np.arange(1, len(values) + 1)
    for start in np.argsort(fit.posterior.optima.log_joint):
        kind, shade = ("reached the best", 0) if reached[start] else ("stuck", 5)
        seen = kind in ax.get_legend_handles_labels()[1]
        ax.plot(steps, values[:, start], color=colour(shade), linewidth=1.2,
                label=None if seen else kind)  # fmt: skip
    # The first steps may be orders of magnitude off.
    settled = values[len(values) // 4 :]
    if np.isfinite(settled).any():
        low, high = np.nanquantile(settled, 0.02), np.nanmax(values)
        ax.set_ylim(low - 0.1 * (high - low) - 1, high + 0.05 * (high - low) + 1)
    ax.set_xlabel("step")


def _draw_training(ax: Axes, fit: Any) -> None:
    kinds = {"held_out_log_density": "held out", "log_density": "seen"}
    for shade, (name, kind) in zip((0, 5), kinds.items(), strict=True):
        values = np.asarray(fit.trace[name], float)
        steps = np.arange(1, len(values) + 1)
        lines = ax.plot(steps, values, color=colour(shade), linewidth=1.2)
        lines[0].set_label(f"{kind} simulations")
    ax.set_xlabel("pass over the simulations")


def _draw_bound(ax: Axes, fit: Any) -> None:
    values = np.asarray(fit.trace["elbo"], float)
    steps = np.arange(1, len(values) + 1)
    window = max(len(values) // 40, 1)
    ax.plot(steps, values, color=colour(5), linewidth=0.6, label="estimate")
    if len(values) > window:
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        ax.plot(steps[window - 1 :], mean, color=colour(0), linewidth=1.6,
                label=f"mean of {window} steps")  # fmt: skip
    # The first steps may be orders of magnitude off.
    settled = values[(steps > len(values) // 4) & np.isfinite(values)]
    if settled.size:
        low, high = np.quantile(settled, [0.01, 1.0])
        margin = max(high - low, 1.0)
        ax.set_ylim(low - margin, high + 0.2 * margin)
    ax.set_xlabel("step")
