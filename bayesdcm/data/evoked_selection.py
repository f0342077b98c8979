"""Selection of samples and channels of evoked responses, and their description in words."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from html import escape
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.validation import describe

if TYPE_CHECKING:
    from bayesdcm.data.responses import Responses

__all__ = ["html_table", "info_at_rate", "nearest_samples", "one_line", "selected_channels"]


def nearest_samples(times: NDArray[np.float64], tmin: float | None, tmax: float | None) -> slice:
    """Return the slice from the sample nearest to `tmin` to that nearest to `tmax`, in s."""
    step = (times[-1] - times[0]) / (len(times) - 1)
    ends = []
    for name, value, default in (("tmin", tmin, times[0]), ("tmax", tmax, times[-1])):
        given = default if value is None else value
        if not isinstance(given, Real) or isinstance(given, bool):
            raise TypeError(
                f"{name} must be one number in s, got {describe(given)}. Give a float, e.g. 0.25."
            )
        # Half a sample beyond the ends still has its nearest sample inside.
        if not times[0] - step / 2 <= given <= times[-1] + step / 2:
            raise ValueError(
                f"{name} is {given:g} s, but responses run from {times[0]:g} to {times[-1]:g} s; "
                "expected a time within. If it is in milliseconds, divide it by 1000."
            )
        ends.append(int(np.abs(times - given).argmin()))
    if ends[1] <= ends[0]:
        raise ValueError(
            f"tmin and tmax, {tmin} and {tmax} s, leave {max(ends[1] - ends[0] + 1, 0)} sample(s) "
            f"of those every {step:g} s; expected two or more. Choose a longer window."
        )
    return slice(ends[0], ends[1] + 1)


def selected_channels(
    channels: str | Sequence[str], names: tuple[str, ...], types: tuple[str, ...]
) -> list[int]:
    """Return indices of the channels of a type, or of those named, in the order named."""
    if isinstance(channels, str):
        indices = [i for i, kind in enumerate(types) if kind == channels]
        if not indices and channels not in names:
            raise ValueError(
                f"channels is {channels!r}, but there are the types {sorted(set(types))}; "
                "expected one of these, or a list of names. Check the spelling."
            )
        return indices or [names.index(channels)]
    if not isinstance(channels, Iterable):
        raise TypeError(
            f"channels must be a type of channel or a list of names, got {describe(channels)}. "
            "Give strings."
        )
    wanted = list(channels)
    absent = [name for name in wanted if name not in names]
    if absent or not wanted:
        raise ValueError(
            f"channels holds {len(wanted)} name(s), of which {absent[:5]} are not among the data's "
            f"{list(names[:5])}...; expected names of channels. Check the spelling."
        )
    return [names.index(name) for name in wanted]


def info_at_rate(info: Any, rate: float) -> Any:
    """Return measurement info with another sampling rate, in Hz; None for None."""
    if info is None:
        return None
    import mne

    # Decimation is MNE-Python's public way to a lower rate.
    step = round(info["sfreq"] / rate)
    empty = mne.EvokedArray(np.zeros((len(info["ch_names"]), 2 * step)), info, verbose=False)
    with warnings.catch_warnings():
        # The user has been told to filter first.
        warnings.simplefilter("ignore")
        return empty.decimate(step, verbose=False).info


def _rows(data: Responses) -> list[tuple[str, str]]:
    names = data.channel_names or ()
    kinds = ", ".join(dict.fromkeys(data.channel_types or ()))
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    effects = "none" if not data.n_effects else ", ".join(data.effect_names or ())
    return [
        ("Conditions", ", ".join(data.condition_names or ())),
        ("Effects", effects),
        (
            "Times",
            f"{data.n_times}, {data.times[0]:g} to {data.times[-1]:g} s, "
            f"{data.sampling_rate:.6g} Hz",
        ),
        ("Channels", f"{data.n_channels} ({kinds}): {shown}"),
        ("Noise covariance", "given" if data.noise_cov is not None else "none"),
        ("Head", "none" if data.head is None else repr(data.head)),
    ]


def one_line(data: Responses) -> str:
    """Return sizes, names and times in one line."""
    n = data.n_conditions
    kinds = ", ".join(dict.fromkeys(data.channel_types or ()))
    parts = [
        f"{n} condition{'s' * (n > 1)} ({', '.join(data.condition_names or ())}) x "
        f"{data.n_times} times ({data.times[0]:g} to {data.times[-1]:g} s, "
        f"{data.sampling_rate:.6g} Hz) x {data.n_channels} channel{'s' * (data.n_channels > 1)} "
        f"({kinds})"
    ]
    if data.n_effects:
        plural = "s" * (data.n_effects > 1)
        parts.append(f"effect{plural} {', '.join(data.effect_names or ())}")
    if data.head is not None:
        parts.append(type(data.head).__name__)
    return f"EvokedData({', '.join(parts)})"


def html_table(data: Responses) -> str:
    """Return a table for notebooks."""
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in _rows(data)
    )
    return f"<table><caption>EvokedData</caption>{rows}</table>"
