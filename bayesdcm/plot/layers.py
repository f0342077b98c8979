"""What the layers of a column add to its dipole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesdcm.plot import style
from bayesdcm.plot.column import (
    MILLISECONDS,
    NANOAMPERE_METRES,
    NETWORK,
    column_of,
    draw_band,
    evaluated,
    network_of,
)
from bayesdcm.plot.data_fit import label_panels, mark_origin, panels
from bayesdcm.plot.series import power_of_thousand, power_text
from bayesdcm.plot.style import Canvas

if TYPE_CHECKING:
    from bayesdcm.models.hnn_simulator import HnnResponse

LAYERS = {"L2": "L2/3", "L5": "L5"}


def plot_layers(
    fit: Any,
    response: HnnResponse | None = None,
    *,
    interval: float = 0.9,
    n_draws: int = 100,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw the dipoles of layers 2/3 and 5, which add up to that of the column.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a `bayesdcm.LaminarDCM` by any method.
    response : HnnResponse, optional
        Response of hnn-core's network, as for `plot_drives`. Where there is none and the data have
        layers (data that were simulated), these are drawn.
    interval : float
        Probability inside the credible bands.
    n_draws : int
        Posterior draws, evenly chosen, that are taken through the model.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        A panel for each layer, in nAm; both have the same scale.

    Raises
    ------
    TypeError
        If the fit is of another model, or `response` is no response.
    ValueError
        If the fit was read from a file without its model, or `n_draws` is below 2.

    Examples
    --------
    >>> from bayesdcm import DipoleData, Drive, LaminarDCM, fit
    >>> drive = Drive("first", "proximal", 25.0, 2.0, {"L5_pyramidal": 0.002, "L2_basket": 0.003})
    >>> model, times = LaminarDCM([drive.free(time=5.0)], model_error=0.0), 0.002 * np.arange(60)
    >>> design = DipoleData(1e-12 * np.sin(40 * times), times, noise_sd=1e-13)
    >>> data = model.simulate({"time": [28.0], "scale": 0.0}, design, seed=1, snr=5.0)
    >>> figure = plot_layers(fit(model, data, draws=50, progress=False))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['L2/3', 'L5']
    """
    model, data = column_of(fit)
    draws = NANOAMPERE_METRES * evaluated(fit, model.layers, n_draws)
    known, times, label = {}, MILLISECONDS * np.asarray(data.times), ""
    if response is not None:
        network = network_of(response, fit)
        known, times, label = network.layers, network.times, network.label
    elif data.layers is not None:
        known = {name: NANOAMPERE_METRES * values for name, values in data.layers.items()}
        label = "layers of the data"
    words, unit, factor = fit.facts.axis("time")
    points = factor * np.asarray(data.times)
    axes, figure = panels(figure, [1.4] * len(LAYERS), 1, sharey="all")
    exponent = power_of_thousand(draws.mean(0))
    scale = 10.0**-exponent
    for i, (ax, layer) in enumerate(zip(axes[:, 0], LAYERS, strict=True)):
        mark_origin(ax, points, draws[..., i])
        draw_band(ax, points, scale * draws[..., i], interval, style.COLOURS[0], "column")
        if layer in known:
            ax.plot(times, scale * known[layer], color=NETWORK, linewidth=1.5, linestyle="--",
                    label=label)  # fmt: skip
        ax.tick_params(labelsize="small")
        style.tidy(ax)
    label_panels(axes, [""], list(LAYERS.values()))
    axes[0, 0].set_xlim(points[0], points[-1])
    figure.supxlabel(f"{words} ({unit})", fontsize="medium")
    figure.supylabel(f"dipole ({power_text(exponent)}nAm)", fontsize="medium")
    style.legend(figure, style.labelled([axes[0, 0]]), loc="outside upper right")
    style.heading(figure, f"Dipoles of the layers\n({fit.method})")
    return figure
