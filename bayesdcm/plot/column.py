"""What figures of a driven column share: its model, its draws, and the network's response."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesdcm.observe.column_dipole import NETWORK_CELLS
from bayesdcm.plot import style
from bayesdcm.plot.quantities import check_fit, finite, flat_draws

if TYPE_CHECKING:
    from bayesdcm.data.dipole import DipoleData
    from bayesdcm.models.hnn_simulator import HnnResponse
    from bayesdcm.models.laminar import LaminarDCM

MILLISECONDS, NANOAMPERE_METRES = 1e3, 1e9
NETWORK, TRIAL = style.COLOURS[3], "#e6bcd3"


class Network(NamedTuple):
    """Response of the network as data show it: scaled to the cells of a fit, smoothed alike."""

    times: NDArray  # ms
    trials: NDArray  # dipoles in nAm, (trials, times)
    layers: dict[str, NDArray]  # mean dipoles of layers in nAm, (times,) each
    label: str


def has_drives(fit: Any) -> bool:
    """Whether a fit is one of a driven column, with its model at hand."""
    return "drive" in fit.idata.posterior.dims and fit.is_bound


def column_of(fit: Any) -> tuple[LaminarDCM, DipoleData]:
    """Model and data of a fit of a driven column; TypeError where it is another."""
    check_fit(fit)
    if "drive" not in fit.idata.posterior.dims:
        raise TypeError(
            "fit must be one of a driven column (bayesdcm.LaminarDCM), got one of "
            f"{fit.description}; plot_fit shows what others predict"
        )
    return fit.problem.model, fit.problem.data


def evaluated(fit: Any, function: Callable[..., Any], n_draws: int) -> NDArray:
    """What a function of parameters and data gives at draws, evenly chosen; finite ones only."""
    import jax

    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")
    model, data = column_of(fit)
    posterior = fit.idata.posterior
    draws = {prior.name: flat_draws(posterior[prior.name]) for prior in model.priors}
    total = len(next(iter(draws.values())))
    kept = np.linspace(0, total - 1, min(n_draws, total)).round().astype(int)
    draws = {name: values[kept] for name, values in draws.items()}
    run = jax.jit(lambda many: jax.lax.map(lambda one: function(one, data), many))
    return finite(np.asarray(run(draws)))


def network_of(response: HnnResponse, fit: Any) -> Network:
    """Dipoles of the network's response; its networks are as many as the fit says on average."""
    if not all(hasattr(response, name) for name in ("trials", "spikes", "event_times")):
        raise TypeError(
            "response must be what HnnSimulator.run returns (HnnResponse), got "
            f"{type(response).__name__}"
        )
    data = column_of(fit)[1]
    number = float(flat_draws(fit.idata.posterior["pyramidal_cells"]).mean()) / NETWORK_CELLS
    scale = NANOAMPERE_METRES * number
    shown = [trial.smooth(data.smoothing) if data.smoothing else trial for trial in response.trials]
    count = len(shown)
    mean = f"mean of {count} trials" if count > 1 else "1 trial"
    return Network(
        MILLISECONDS * shown[0].times,
        scale * np.stack([trial.dipole for trial in shown]),
        {
            layer: scale * np.mean([trial.layers[layer] for trial in shown], axis=0)
            for layer in shown[0].layers or {}
        },
        f"hnn-core's network × {number:.3g}, {mean}",
    )


def draw_band(
    ax: Axes, times: NDArray, draws: NDArray, interval: float, shade: str, label: str
) -> None:
    """Draw mean and credible band of draws (draws, times)."""
    tail = (1 - interval) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    ax.fill_between(times, low, high, color=shade, alpha=0.35, linewidth=0,
                    label=f"{label}, {100 * interval:g} % credible band")  # fmt: skip
    ax.plot(times, draws.mean(0), color=shade, linewidth=1.4, label=f"{label}, posterior mean")
