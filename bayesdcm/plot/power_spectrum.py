"""Power spectra of regions or channels, of a simulation and of a recording."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesdcm.plot.style import colour, panel_title, tidy

# Fewer curves than this have names.
FEW = 6


def plot_power_spectrum(
    spectrum: Any, recorded: Any = None, *, unit: str = "a.u.", ax: Axes | None = None
) -> Axes:
    """Draw power spectra: thin lines for regions or channels, a thick one for their median.

    Parameters
    ----------
    spectrum : PowerSpectrum or xarray.DataArray
        From `bayesdcm.power_spectrum`.
    recorded : PowerSpectrum or xarray.DataArray, optional
        That of a recording. Where there is one, medians are drawn, with the range that holds half
        of the regions or channels.
    unit : str
        Unit of the signals.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, both logarithmic; frequency 0 is left out.

    Raises
    ------
    ValueError
        If there is more than one axis beside frequency.
    """
    given = {"simulated": spectrum, "recorded": recorded}
    curves = {name: _curves(value, name) for name, value in given.items() if value is not None}
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for i, (name, (frequencies, density, names)) in enumerate(curves.items()):
        if recorded is not None:
            low, high = np.quantile(density, [0.25, 0.75], axis=1)
            ax.fill_between(frequencies, low, high, color=colour(i), alpha=0.25, linewidth=0)
            ax.plot(frequencies, np.median(density, axis=1), color=colour(i), label=name)
        elif density.shape[1] < FEW:
            for k, (curve, label) in enumerate(zip(density.T, names, strict=True)):
                ax.plot(frequencies, curve, color=colour(k), linewidth=1.2, label=label)
        else:
            ax.plot(frequencies, density, color=colour(0), linewidth=0.5, alpha=0.35)
            ax.plot(frequencies, np.median(density, axis=1), color="black", linewidth=1.8,
                    label=f"median of {density.shape[1]}")  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("frequency (Hz)")
    squared = unit if unit == "a.u." else f"{unit}²"
    ax.set_ylabel(f"power spectral density ({squared}/Hz)")
    panel_title(ax, "Power spectra")
    ax.legend(frameon=False, fontsize="small")
    tidy(ax)
    return ax


def _curves(spectrum: Any, name: str) -> tuple[NDArray, NDArray, list[str]]:
    """Frequencies above 0, density (frequencies, columns) and names of the columns."""
    names = None
    if hasattr(spectrum, "dims"):
        others = [dim for dim in spectrum.dims if dim != "frequency"]
        density = spectrum.transpose("frequency", *others).to_numpy()
        frequencies = np.asarray(spectrum["frequency"], dtype=float)
        if len(others) == 1 and others[0] in spectrum.coords:
            names = [str(entry) for entry in np.asarray(spectrum[others[0]])]
    else:
        frequencies, density = np.asarray(spectrum.frequencies), np.asarray(spectrum.density)
    if density.ndim != 2:
        raise ValueError(
            f"{'spectrum' if name == 'simulated' else name} has the shape {density.shape}; "
            "expected (frequencies, regions). Take one simulation, or a mean"
        )
    kept = frequencies > 0
    names = names or [f"region {i + 1}" for i in range(density.shape[1])]
    return frequencies[kept], density[kept], names
