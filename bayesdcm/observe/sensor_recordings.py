"""Simulated signals of sensors as objects of MNE-Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.validation import describe

if TYPE_CHECKING:
    import mne

__all__ = ["to_evoked", "to_raw"]

_TYPES = {"V": "eeg", "T": "mag", "T/m": "grad"}
# Types of channels by unit, where an info says more.
_ALLOWED = {"V": ("eeg", "seeg", "ecog", "dbs"), "T": ("mag",), "T/m": ("grad",)}


def to_raw(series: Any, info: mne.Info | None = None) -> mne.io.RawArray:
    """Signals of sensors as a recording of MNE-Python.

    Parameters
    ----------
    series : xarray.DataArray or sequence of them
        With dims ``time`` (s) and ``channel`` and units V, T or T/m, as `LeadField` gives them;
        several (such as EEG, magnetometers, gradiometers) become one recording.
    info : mne.Info, optional
        Of the sensors, such as ``forward["info"]``: their positions and kinds are taken, by name.

    Returns
    -------
    mne.io.RawArray
        Electrodes in V, magnetometers in T, gradiometers in T/m. The signals of electrodes have
        the reference of the lead field.

    Raises
    ------
    TypeError
        If it is no labelled series.
    ValueError
        If dims, units, times or channels do not fit.

    Examples
    --------
    >>> from bayesdcm.observe import LeadField
    >>> import xarray as xr
    >>> x = xr.DataArray(np.ones((5, 1)), {"time": np.arange(1, 6) / 100}, ("time", "region"))
    >>> raw = to_raw(LeadField([[1e-6], [2e-6]], "V").series(x))
    >>> raw.info["sfreq"], raw.get_channel_types(), float(raw.get_data().max())
    (100.0, ['eeg', 'eeg'], 2e-06)
    """
    import mne

    signal, times, made = _joined(series, info)
    first = round(times[0] * made["sfreq"])
    return mne.io.RawArray(signal, made, first_samp=first, verbose=False)


def to_evoked(series: Any, info: mne.Info | None = None, comment: str = "") -> mne.EvokedArray:
    """Signals of sensors as a response of MNE-Python.

    Parameters
    ----------
    series, info
        As `to_raw` takes them.
    comment : str
        Name of the condition.

    Returns
    -------
    mne.EvokedArray
        As of `to_raw`, at the times of the series.

    Raises
    ------
    TypeError, ValueError
        As `to_raw` does.

    Examples
    --------
    >>> from bayesdcm.observe import LeadField
    >>> import xarray as xr
    >>> x = xr.DataArray(np.ones((5, 1)), {"time": np.arange(-2, 3) / 100}, ("time", "region"))
    >>> evoked = to_evoked(LeadField([[1e-14], [2e-14]], "T").series(x), comment="tone")
    >>> evoked.times.tolist(), evoked.get_channel_types()
    ([-0.02, -0.01, 0.0, 0.01, 0.02], ['mag', 'mag'])
    """
    import mne

    signal, times, made = _joined(series, info)
    return mne.EvokedArray(signal, made, tmin=times[0], comment=comment, verbose=False)


def _joined(series: Any, info: mne.Info | None) -> tuple[NDArray, NDArray, mne.Info]:
    """Signal (channels, times), times in s, and measurement info."""
    import mne

    parts = [series] if hasattr(series, "dims") else series
    if not isinstance(parts, Sequence) or not all(hasattr(part, "dims") for part in parts):
        raise TypeError(
            f"series is {describe(series)}; expected labelled series of sensors, such as "
            "LeadField(...).series(...) of a labelled series, or simulated['sensors']"
        )
    if not parts:
        raise ValueError("series is empty; expected one labelled series, or several")
    # In the results of a simulation, times of other sampling have a name of their own.
    parts = [
        part.rename({dim: "time" for dim in part.dims if str(dim).startswith("time of ")})
        for part in parts
    ]
    names, types, signals = [], [], []
    times = _times(parts[0])
    for part in parts:
        clock, unit = _times(part), part.attrs.get("units", "")
        if len(clock) != len(times) or not np.allclose(clock, times, rtol=0, atol=1e-9):
            raise ValueError("series differ in their times; expected the same for all")
        if unit not in _TYPES:
            raise ValueError(
                f"series is in the unit {unit!r}; expected V, T or T/m, as a LeadField with a unit "
                "such as 'V/(A m)' gives it"
            )
        channels = [str(name) for name in part.channel.values]
        names += channels
        types += [_type(name, unit, info) for name in channels]
        signals.append(part.transpose("channel", "time").values)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"series has channel {twice[0]!r} twice; give LeadField channel_names")
    made = mne.create_info(names, round(1 / float(np.diff(times).mean()), 6), types)
    if info is not None:
        _place(made, info)
    return np.concatenate(signals), times, made


def _times(series: Any) -> NDArray:
    if set(series.dims) != {"time", "channel"} or series.sizes["time"] < 2:
        raise ValueError(
            f"series has the axes {tuple(series.dims)}; expected time and channel, with at least "
            "two samples. Take one of several simulations by .isel(simulation=0)."
        )
    if not {"time", "channel"} <= set(series.coords):
        raise ValueError("series has no coordinates time (s) and channel (names); give both")
    return np.asarray(series["time"], float)


def _type(name: str, unit: str, info: mne.Info | None) -> str:
    """Type of a channel, by its unit or as the info says."""
    if info is None:
        return _TYPES[unit]
    if name not in info["ch_names"]:
        raise ValueError(f"info lacks the channel {name!r}; give that of the lead field's sensors")
    kind = info.get_channel_types([info["ch_names"].index(name)])[0]
    if kind not in _ALLOWED[unit]:
        raise ValueError(
            f"channel {name!r} is of type {kind!r} in info, but its signal is in {unit}; expected "
            f"one of {', '.join(_ALLOWED[unit])}"
        )
    return kind


def _place(made: mne.Info, info: mne.Info) -> None:
    """Take positions and kinds of sensors."""
    for channel in made["chs"]:
        known = info["chs"][info["ch_names"].index(channel["ch_name"])]
        for key in ("loc", "coil_type", "coord_frame"):
            channel[key] = np.copy(known[key]) if key == "loc" else known[key]
    made["dev_head_t"] = info["dev_head_t"]
