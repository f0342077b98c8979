"""The three panels of HNN: when drives come, the dipole they make, and who fires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from bayesdcm.plot import style
from bayesdcm.plot.column import (
    MILLISECONDS,
    NETWORK,
    TRIAL,
    Network,
    column_of,
    draw_band,
    evaluated,
    network_of,
)
from bayesdcm.plot.data_fit import mark_origin
from bayesdcm.plot.quantities import CONSTANT, flat_draws
from bayesdcm.plot.series import Series, fitted_series, power_of_thousand
from bayesdcm.plot.style import Canvas

if TYPE_CHECKING:
    from bayesdcm.models.hnn_simulator import HnnResponse

# As HNN has them: proximal drives point upwards and are red, distal ones downwards and green.
SIDES = {"proximal": (1, style.COLOURS[1]), "distal": (-1, style.COLOURS[2])}
# Names of drives closer than this share of the axis are written on two lines.
CLOSE = 0.22
# Populations from the surface downwards: cells of hnn-core, and their number among those that fire.
POPULATIONS = {
    "L2/3 basket": ("L2_basket", 2),
    "L2/3 pyramidal": ("L2_pyramidal", 0),
    "L5 basket": ("L5_basket", 3),
    "L5 pyramidal": ("L5_pyramidal", 1),
}
# Width of the bins of spikes, ms.
BIN = 2


class _Lane(NamedTuple):
    """What one population does: times, ms, rates and their words."""

    times: NDArray
    rates: NDArray
    text: str


def plot_drives(
    fit: Any,
    response: HnnResponse | None = None,
    *,
    interval: float = 0.9,
    n_draws: int = 50,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw drives of a column, the dipole they make, and the firing of its populations.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a `bayesdcm.LaminarDCM` by any method.
    response : HnnResponse, optional
        What hnn-core's network does with the drives, from `bayesdcm.HnnSimulator`; smoothed as the
        data are, and multiplied by the number of networks that the fit estimates.
    interval : float
        Probability inside the credible bands and intervals.
    n_draws : int
        Posterior draws, evenly chosen, from which firing is averaged where there is no response.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Above, posterior densities of the mean times of drives in ms, proximal ones upwards and
        distal ones downwards, the prior in grey, and the times of single events dotted: they have
        the spread of the drive besides. In the middle, the dipole in nAm: data, fit, and response.
        Below, spikes of all cells a ms of the response, or firing of one cell of the column
        relative to rest, in spikes a second.

    Raises
    ------
    TypeError
        If the fit is of another model, or `response` is no response.
    ValueError
        If the fit was read from a file without its model, or `n_draws` is below 2.

    Examples
    --------
    >>> import numpy as np
    >>> from bayesdcm import DipoleData, Drive, LaminarDCM, fit
    >>> drive = Drive("first", "proximal", 25.0, 2.0, {"L5_pyramidal": 0.002, "L2_basket": 0.003})
    >>> model, times = LaminarDCM([drive.free(time=5.0)], model_error=0.0), 0.002 * np.arange(60)
    >>> design = DipoleData(1e-12 * np.sin(40 * times), times, noise_sd=1e-13)
    >>> data = model.simulate({"time": [28.0], "scale": 0.0}, design, seed=1, snr=5.0)
    >>> figure = plot_drives(fit(model, data, draws=50, progress=False))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['drives', 'dipole', 'firing of the column']
    """
    model, _ = column_of(fit)
    network = None if response is None else network_of(response, fit)
    figure = figure or style.new_figure(9.5, 7.4)
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=[1.1, 1.5, 1.2])
    _draw_times(above, fit, model, response, interval)
    series = fitted_series(fit)
    _draw_dipole(middle, fit, series, network, interval)
    if response is None:
        style.panel_title(below, "firing of the column")
        lanes = _column_lanes(fit, model, n_draws)
    else:
        style.panel_title(below, "spikes of hnn-core's network")
        lanes = _network_lanes(response)
    _draw_lanes(below, lanes)
    below.set_xlabel(series.label())
    below.set_xlim(series.points[0], series.points[-1])
    style.heading(figure, f"Drives, dipole and firing ({series.method})")
    return figure


# Drives


def _draw_times(ax: Axes, fit: Any, model: Any, response: Any, interval: float) -> None:
    """Densities of each drive's time, upwards or downwards, on one scale."""
    posterior, prior = fit.idata.posterior, fit.idata.prior
    draws = {name: flat_draws(posterior[name]) for name in ("time", "drive_spread")}
    before = flat_draws(prior["time"])
    low, high = MILLISECONDS * np.asarray(fit.problem.data.times)[[0, -1]]
    x = np.linspace(low, high, 1500)
    tops = []
    for i in range(len(model.drives)):
        times = draws["time"][:, i]
        tops.append(0.0 if np.ptp(times) < CONSTANT else _density(times, x).max())
    top = max(tops) or 1.0
    placed: list[tuple[float, str]] = []
    crowded = False
    for i, drive in enumerate(model.drives):
        side, shade = SIDES[drive.location]
        times, spread = draws["time"][:, i], draws["drive_spread"][:, i]
        free = np.ptp(before[:, i]) > CONSTANT
        if free:
            ax.fill_between(x, side * _density(before[:, i], x) / top, color=style.PRIOR,
                            alpha=0.5, linewidth=0)  # fmt: skip
        if np.ptp(times) < CONSTANT:
            ax.vlines(times[0], 0, side, color=shade, linewidth=2.0)
            text = f"{drive.name}\n{times[0]:.3g} ms{'' if free else ' (fixed)'}"
        else:
            curve = side * _density(times, x) / top
            ax.fill_between(x, curve, color=shade, alpha=0.35, linewidth=0)
            ax.plot(x, np.where(np.abs(curve) > 1e-3, curve, np.nan), color=shade, linewidth=1.4)
            tail = (1 - interval) / 2
            ends = np.quantile(times, [tail, 1 - tail])
            text = f"{drive.name}\n{times.mean():.1f} [{ends[0]:.1f}, {ends[1]:.1f}] ms"
        if spread.max() > CONSTANT:
            events = side * _spread(times, spread, x) / top
            ax.plot(x, np.where(np.abs(events) > 1e-3, events, np.nan), color=shade, linestyle=":",
                    linewidth=1.2)  # fmt: skip
        if response is not None and drive.name in response.event_times:
            happened = np.ravel(response.event_times[drive.name])
            ax.plot(happened, np.full(happened.size, 0.06 * side), "|", color=style.INK, ms=6)
        centre = float(times.mean())
        level = sum(
            at == drive.location and abs(centre - other) < CLOSE * (high - low)
            for other, at in placed
        )
        crowded |= level % 2 == 1
        placed.append((centre, drive.location))
        ax.text(np.clip(centre, low + 0.06 * (high - low), high - 0.06 * (high - low)),
                side * (1.1 + 0.55 * (level % 2)), text, ha="center", color=shade, fontsize="small",
                va="bottom" if side > 0 else "top", linespacing=1.1)  # fmt: skip
    ax.axhline(0, color=style.INK, linewidth=0.8)
    here = {drive.location for drive in model.drives}
    reach = 2.3 if crowded else 1.8
    ax.set_ylim(-reach if "distal" in here else -0.1, reach if "proximal" in here else 0.1)
    ax.set(yticks=[])
    ax.spines["left"].set_visible(False)
    ax.tick_params(labelsize="small")
    style.tidy(ax)
    style.panel_title(ax, "drives")
    _explain_times(ax, here, response, interval)


def _explain_times(ax: Axes, here: set[str], response: Any, interval: float) -> None:
    handles = [
        Patch(color=shade, alpha=0.5, label=f"{name}, {'up' if side > 0 else 'down'}wards")
        for name, (side, shade) in SIDES.items()
        if name in here
    ]
    handles.append(Patch(color=style.PRIOR, alpha=0.5, label="prior"))
    handles += ax.plot([], [], ":", color=style.INK, label="events, with their spread")
    if response is not None:
        handles += ax.plot([], [], "|", color=style.INK, label="events of the network")
    handles.append(Patch(alpha=0, label=f"mean time [{100 * interval:g} % interval]"))
    _legend(ax, handles)


def _legend(ax: Axes, handles: list[Any]) -> None:
    """Words beside a panel, on the right."""
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False,
              fontsize="x-small", labelcolor=style.INK)  # fmt: skip


def _density(draws: NDArray, x: NDArray) -> NDArray:
    from scipy.stats import gaussian_kde

    return gaussian_kde(draws)(x)


def _spread(times: NDArray, spread: NDArray, x: NDArray) -> NDArray:
    """Density of single events: normal about the time of each draw."""
    width = np.maximum(spread, 0.2)[:, None]
    deviates = (x - times[:, None]) / width
    return (np.exp(-(deviates**2) / 2) / (width * np.sqrt(2 * np.pi))).mean(0)


# The dipole


def _draw_dipole(
    ax: Axes, fit: Any, series: Series, network: Network | None, interval: float
) -> None:
    """Data, fit and what data the fit expects, and the network's response."""
    exponent = power_of_thousand(series.observed)
    scale = 10.0**-exponent
    mark_origin(ax, series.points, series.observed)
    expected = scale * series.scale * flat_draws(fit.idata.posterior_predictive[series.site])
    tail = (1 - interval) / 2
    low, high = np.quantile(expected, [tail, 1 - tail], axis=0)
    ax.fill_between(series.points, low, high, color="#ececec", linewidth=0, zorder=0,
                    label="data expected, with noise\nand error of the column")  # fmt: skip
    if network is not None:
        for i, trial in enumerate(scale * network.trials):
            ax.plot(network.times, trial, color=TRIAL, linewidth=0.6, zorder=1,
                    label="its trials" if not i else None)  # fmt: skip
        ax.plot(network.times, scale * network.trials.mean(0), color=NETWORK, linewidth=1.6,
                linestyle="--", label=network.label.replace(", ", ",\n"))  # fmt: skip
    draw_band(ax, series.points, scale * series.draws[:, 0, :, 0], interval, style.COLOURS[0],
              "fit")  # fmt: skip
    ax.plot(series.points, scale * series.observed[0, :, 0], color=style.INK, linewidth=1.0,
            label="data")  # fmt: skip
    ax.set_ylabel(series.value_label("dipole", exponent))
    ax.tick_params(labelsize="small")
    style.tidy(ax)
    style.panel_title(ax, "dipole")
    _legend(ax, style.labelled([ax])[::-1])


# Firing


def _column_lanes(fit: Any, model: Any, n_draws: int) -> dict[str, _Lane]:
    rates = evaluated(fit, model.firing, n_draws).mean(0)
    times = MILLISECONDS * np.asarray(fit.problem.data.times)
    return {
        name: _Lane(times, rates[:, i], f"peak {rates[:, i].max():.3g} spikes/s a cell")
        for name, (_, i) in POPULATIONS.items()
    }


def _network_lanes(response: HnnResponse) -> dict[str, _Lane]:
    lanes = {}
    for name, (cell, _) in POPULATIONS.items():
        counts = response.spikes[cell].mean(0)
        whole = len(counts) // BIN * BIN
        rates = counts[:whole].reshape(-1, BIN).mean(1).repeat(2)
        edges = BIN * np.arange(len(rates) // 2 + 1)
        times = np.stack([edges[:-1], edges[1:]], 1).ravel().astype(float)
        text = f"{counts.sum():.3g} spikes a trial,\npeak {rates.max():.3g} a ms"
        lanes[name] = _Lane(times, rates, text)
    return lanes


def _draw_lanes(ax: Axes, lanes: dict[str, _Lane]) -> None:
    """One lane for each population, scaled to its peak."""
    for row, (name, lane) in enumerate(lanes.items()):
        shade = style.colour(row)
        height = 0.8 / max(lane.rates.max(), CONSTANT)
        ax.fill_between(lane.times, -row, height * lane.rates - row, color=shade, linewidth=0.4,
                        alpha=0.8, label=name)  # fmt: skip
        ax.annotate(lane.text, (1, 0.3 - row), (8, 0), ("axes fraction", "data"), "offset points",
                    fontsize="x-small", va="center", color=style.INK)  # fmt: skip
    ax.axvline(0, color=style.MUTED, linewidth=0.5, zorder=0)
    ax.set_yticks([0.3 - row for row in range(len(lanes))], list(lanes), fontsize="small")
    ax.tick_params(labelsize="small")
    ax.tick_params(axis="y", length=0)
    style.tidy(ax)
    ax.spines["left"].set_visible(False)
