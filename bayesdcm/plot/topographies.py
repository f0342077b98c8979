"""Maps of observed and predicted responses over the sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.plot.series import fitted_series
from bayesdcm.plot.style import DIVERGING, Canvas, colour_bar, heading, new_figure

if TYPE_CHECKING:
    import mne

# Unit and its size in SI units, by type of channel.
UNITS = {"eeg": ("µV", 1e-6), "mag": ("fT", 1e-15)}
N_TIMES = 4
# Peaks closer than this, s, are one.
SEPARATION = 0.03


def plot_topographies(
    fit: Any,
    info: mne.Info,
    times: ArrayLike | None = None,
    *,
    channel_type: str | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Draw maps over the scalp or the helmet, observed above predicted, at chosen times.

    Observed are all channels, without the drifts that the fit removed. Predicted is the posterior
    mean in channel modes, taken back to the channels; what the modes do not span is missing from
    it.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit to electrodes or magnetometers, by any method: one that holds the channels and what
        the modes of the channels are.
    info : mne.Info
        Where the sensors are, such as ``data.info``; channels that were not fitted are left out.
    times : array_like, optional
        Times to draw, in s after the stimulus, shape (n,); the nearest samples are taken. None:
        up to four peaks of the observed field power.
    channel_type : {"eeg", "mag"}, optional
        Which channels to draw. None: the type that was fitted.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Two rows of maps for each condition, with one colour scale.

    Raises
    ------
    TypeError, ValueError
        If the fit has no channels, `info` lacks the channels or their positions, the type of
        channel is not one of these, or a time lies outside the response.
    """
    series = fitted_series(fit)
    constants = getattr(fit.idata, "constant_data", {})
    missing = [name for name in ("channels", "modes_to_channels") if name not in constants]
    if missing:
        raise ValueError(
            f"fit must hold data at the channels of a sensor array, but its constant_data lack "
            f"{' and '.join(missing)}; plot_fit shows the data of any fit"
        )
    names = axis_names(constants["channels"], "channel")
    kind, rows, picked = _pick(info, names, channel_type)
    unit, size = UNITS[kind]
    observed = constants["channels"].transpose("condition", "time", "channel").to_numpy()
    back = constants["modes_to_channels"].transpose("mode", "channel").to_numpy()
    maps = np.stack([observed, series.mean @ back])[..., rows] / size
    time = np.asarray(constants["channels"]["time"], float)
    chosen = _chosen(times, time, maps[0])
    shown = maps[:, :, chosen]
    n_conditions, n_times = len(series.conditions), len(chosen)
    figure = figure or new_figure(1.55 * n_times + 2.1, 3.1 * n_conditions + 0.6)
    axes = figure.subplots(2 * n_conditions, n_times, squeeze=False)
    bound = float(np.abs(shown).max())
    for row, column in np.ndindex(*axes.shape):
        _draw(axes[row, column], shown[row % 2, row // 2, column], picked, bound)
    for ax, index in zip(axes[0], chosen, strict=True):
        ax.set_title(f"{1e3 * time[index]:.0f} ms", fontsize="medium")
    for row, ax in enumerate(axes[:, 0]):
        condition, what = series.conditions[row // 2], ("observed", "predicted")[row % 2]
        ax.set_ylabel(f"{condition}\n{what}", fontsize="medium")
    bar = colour_bar(axes.ravel(), -bound, bound, DIVERGING, shrink=0.5, pad=0.03)
    bar.set_label(f"signal ({unit})")
    heading(figure, f"Topographies ({series.method})")
    return figure


def _pick(
    info: mne.Info, names: list[str], channel_type: str | None
) -> tuple[str, NDArray[np.intp], mne.Info]:
    """Type of the channels to draw, their places in the fit, and the info of them only."""
    import mne

    if not isinstance(info, mne.Info):
        raise TypeError(
            f"info must be an mne.Info, such as data.info of data from EvokedData.from_mne, got "
            f"{type(info).__name__}"
        )
    missing = [name for name in names if name not in info["ch_names"]]
    if missing:
        raise ValueError(
            f"info lacks {len(missing)} of the {len(names)} channels of the fit, the first "
            f"{missing[0]!r}; expected the info of the recording that was fitted"
        )
    types = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    mapped = list(dict.fromkeys(types[name] for name in names if types[name] in UNITS))
    if channel_type is None and len(mapped) != 1:
        given = ", ".join(sorted({types[name] for name in names}))
        how = "choose one by channel_type" if mapped else "maps need electrodes or magnetometers"
        raise ValueError(f"the fit has channels of type {given}; {how}")
    kind = mapped[0] if channel_type is None else channel_type
    if kind not in mapped:
        raise ValueError(
            f"channel_type must be one of {', '.join(map(repr, mapped)) or 'eeg, mag'} that the "
            f"fit has, got {kind!r}"
        )
    rows = np.flatnonzero([types[name] == kind for name in names])
    order = [info["ch_names"].index(names[row]) for row in rows]
    picked = mne.pick_info(info, order, verbose="error")
    if not np.isfinite([channel["loc"][:3] for channel in picked["chs"]]).all():
        raise ValueError(
            "info has channels without a position; set a montage (info.set_montage) first"
        )
    return kind, rows, picked


def _chosen(times: ArrayLike | None, time: NDArray, observed: NDArray) -> NDArray[np.intp]:
    """Samples to draw."""
    if times is None:
        return _peaks(time, np.sqrt((observed**2).mean((0, 2))))
    wanted = np.atleast_1d(np.asarray(times, float))
    step = time[1] - time[0]
    outside = (wanted < time[0] - step) | (wanted > time[-1] + step)
    if wanted.ndim != 1 or not wanted.size or outside.any():
        raise ValueError(
            f"times must be seconds from {time[0]:g} to {time[-1]:g}, one or more, got {times}"
        )
    return np.abs(time[:, None] - wanted).argmin(0)


def _peaks(time: NDArray, power: NDArray) -> NDArray[np.intp]:
    """The highest peaks of the field power in their order; at least its maximum."""
    from scipy.signal import find_peaks

    distance = max(int(SEPARATION / (time[1] - time[0])), 1)
    peaks, _ = find_peaks(power, distance=distance)
    if not peaks.size:
        return np.array([power.argmax()])
    return np.sort(peaks[np.argsort(-power[peaks])[:N_TIMES]])


def _draw(ax: Any, values: NDArray, info: mne.Info, bound: float) -> None:
    import mne

    # None at zero, where it would follow the noise.
    levels = bound * np.array([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75])
    mne.viz.plot_topomap(values, info, axes=ax, show=False, cmap=DIVERGING, vlim=(-bound, bound),
                         contours=levels, sensors="k,")  # fmt: skip
