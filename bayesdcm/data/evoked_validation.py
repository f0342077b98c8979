"""Checks that only evoked responses need: times, channels, design and noise covariance.

Each raises an error that names the argument, what came, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, ValuesView
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.head import HeadModel
from bayesdcm.data.named_axes import axis_names, in_order
from bayesdcm.data.validation import (
    check_names,
    check_real_array,
    describe,
    read_only,
    warn_caller,
)

__all__ = [
    "CHANNEL_UNITS",
    "check_channel_types",
    "check_design",
    "check_head",
    "check_info",
    "check_noise_covariance",
    "check_signal",
    "check_time_courses",
    "check_times",
    "check_variation",
    "warn_of_magnitudes",
]

CHANNEL_UNITS = {
    "eeg": "V",
    "mag": "T",
    "grad": "T/m",
    "ecog": "V",
    "seeg": "V",
    "dbs": "V",
    "lfp": "V",
    "source": "A m",
    "other": "arbitrary",
}
"""Kinds of channel and the unit of their signals."""

# Slower sampling cannot show an evoked response; a larger number is a time in milliseconds.
_LONGEST_INTERVAL = 0.25
# Times that were stored in single precision, or worked out as n / rate, are off by less.
_TIMING_TOLERANCE = 1e-3


def check_signal(signal: ArrayLike) -> NDArray[np.float64]:
    """Return the signal, (conditions, times, channels), as a read-only array."""
    checked = check_real_array("signal", signal, ("conditions", "times", "channels"))
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.ptp(checked)
    # Squares of the signal must be finite too.
    if not spread < 1e150:
        raise ValueError(
            f"signal has values up to {np.abs(checked).max():g}; expected V, T, T/m or A m of "
            "ordinary size. Rescale it."
        )
    return checked


def check_time_courses(value: object) -> None:
    """Raise `TypeError` for objects of MNE-Python from which time courses are still to be taken."""
    value = value.values() if isinstance(value, Mapping) else value
    for part in value if isinstance(value, (list, tuple, ValuesView)) else [value]:
        kind = type(part).__name__
        if kind.endswith(("SourceEstimate", "Label")) or kind in ("Evoked", "EvokedArray"):
            raise TypeError(
                f"time_courses must be arrays, (labels, times), got {kind}. Source estimates of "
                "one subject, on the vertices of one source space, give them all at once: "
                "mne.extract_label_time_course(stcs, labels, src, mode='mean_flip'); sensors have "
                "a door of their own, EvokedData.from_mne."
            )


def warn_of_magnitudes(courses: NDArray) -> None:
    """Warn where time courses, (conditions, labels, times), are all of the same, positive sign."""
    if courses.size and courses.dtype.kind == "f" and (courses >= 0).all():
        warn_caller(
            "time_courses are never negative, so they are magnitudes, as source estimates of free "
            "orientation are; expected signed currents, since a model of potentials predicts "
            "these. Use pick_ori='normal' and mode='mean_flip' or 'pca_flip'."
        )


def check_times(times: ArrayLike, n_times: int) -> NDArray[np.float64]:
    """Return times, (times,), in s, that increase in equal steps."""
    checked = check_real_array("times", times, ("times",))
    if checked.size != n_times:
        raise ValueError(
            f"times has {checked.size} entries, but signal has {n_times} along its second axis, of "
            "(conditions, times, channels); expected one time in seconds for each. Check the "
            "order of the signal's axes: MNE-Python's arrays are (channels, times)."
        )
    if checked.size < 2:
        raise ValueError(
            "times has one entry; expected a time series of two samples or more. Choose a longer "
            "window."
        )
    steps = np.diff(checked)
    mean = (checked[-1] - checked[0]) / (checked.size - 1)
    if not (steps > 0).all():
        first = int(np.flatnonzero(~(steps > 0))[0])
        raise ValueError(
            f"times must increase, but {checked[first + 1]:g} comes after {checked[first]:g} at "
            f"index {first + 1}. Sort the samples, and give each once."
        )
    if np.abs(steps - mean).max() > _TIMING_TOLERANCE * mean:
        raise ValueError(
            f"times must be equally spaced, but steps run from {steps.min():g} to "
            f"{steps.max():g} s. Resample the signal to one rate, or keep every sample."
        )
    if mean > _LONGEST_INTERVAL:
        raise ValueError(
            f"times lie {mean:g} apart; expected seconds from the stimulus, at most "
            f"{_LONGEST_INTERVAL:g} apart. If they are in milliseconds, divide them by 1000."
        )
    return checked


def check_variation(
    signal: NDArray[np.float64], channels: tuple[str, ...], conditions: tuple[str, ...]
) -> None:
    """Raise `ValueError` where a channel, or all channels of a condition, are constant in time."""
    largest = np.abs(signal).max(axis=1)
    constant = np.ptp(signal, axis=1) <= 8 * np.finfo(float).eps * largest
    for axis, noun, names in ((0, "channel", channels), (1, "condition", conditions)):
        flat = constant.all(axis=axis)
        if flat.any():
            first = int(np.flatnonzero(flat)[0])
            raise ValueError(
                f"signal is constant over time in {int(flat.sum())} {noun}(s), the first at index "
                f"{first} ({names[first]}); expected responses that vary. Leave the {noun} out "
                "(a reference electrode, a bad channel), or check how it was averaged."
            )


def check_channel_types(
    value: Iterable[str] | None, count: int, head: HeadModel | None
) -> tuple[str, ...]:
    """Return the kind of each channel; "other", or "eeg" with a head model, for None."""
    if value is None:
        return ("other" if head is None else "eeg",) * count
    if isinstance(value, str) and value in CHANNEL_UNITS:
        return (value,) * count
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(
            f"channel_types must be a list of {count} strings, or one for all channels, got "
            f"{describe(value)}. Choose from {list(CHANNEL_UNITS)}."
        )
    types = list(value)
    unknown = [kind for kind in types if not isinstance(kind, str) or kind not in CHANNEL_UNITS]
    if unknown:
        raise ValueError(
            f"channel_types has {unknown[:3]}; expected each to be one of {list(CHANNEL_UNITS)}. "
            "Leave out channels of another kind."
        )
    if len(types) != count:
        raise ValueError(
            f"channel_types has {len(types)} entries, but signal has {count} channel(s). Give one "
            "for each channel, in the channels' order, or one string for all."
        )
    return tuple(str(kind) for kind in types)


def check_design(
    design: ArrayLike | None,
    effect_names: Iterable[str] | None,
    conditions: tuple[str, ...],
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the design, (conditions, effects), and the effects' names.

    By default each condition after the first has an effect of its own, of its name.
    """
    n = len(conditions)
    if effect_names is None:
        effect_names = axis_names(design, 1)
    wanted = {0: ("condition_names", conditions)}
    if isinstance(effect_names, Iterable) and not isinstance(effect_names, str | bytes):
        effect_names = list(effect_names)
        wanted[1] = ("effect_names", effect_names)
    design = in_order("design", design, wanted)
    if design is None:
        names = conditions[1:] if effect_names is None else effect_names
        names = check_names("effect_names", names, n - 1, "effect", "the default design")
        return read_only(np.eye(n)[:, 1:]), names
    if np.shape(design) == (n, 0):
        checked = read_only(np.zeros((n, 0)))
    else:
        checked = check_real_array("design", design, ("conditions", "effects"), allow_bool=True)
    if checked.shape[0] != n:
        raise ValueError(
            f"design has {checked.shape[0]} rows, shape {checked.shape}, but there are {n} "
            "condition(s); expected one row for each. Transpose it if it is (effects, conditions)."
        )
    rank = np.linalg.matrix_rank(checked) if checked.size else 0
    if rank < checked.shape[1]:
        raise ValueError(
            f"design has {checked.shape[1]} columns of rank {rank}; expected linearly independent "
            "columns that are not zero, since effects could not be told apart. Drop columns that "
            "repeat or combine others."
        )
    return checked, check_names("effect_names", effect_names, checked.shape[1], "effect", "design")


def check_noise_covariance(
    value: ArrayLike | None, types: tuple[str, ...], channels: tuple[str, ...] = ()
) -> Any:
    """Return the noise covariance, (channels, channels), symmetric and positive semidefinite."""
    if value is None:
        return None
    value = in_order("noise_cov", value, dict.fromkeys((0, 1), ("channel_names", channels)))
    n = len(types)
    checked = check_real_array("noise_cov", value, ("channels", "channels"))
    if checked.shape != (n, n):
        raise ValueError(
            f"noise_cov has shape {checked.shape}, but signal has {n} channel(s); expected "
            f"({n}, {n}), in the channels' order. Select the same channels."
        )
    variance = np.diag(checked)
    if (variance <= 0).any():
        first = int(np.flatnonzero(variance <= 0)[0])
        raise ValueError(
            f"noise_cov has the variance {variance[first]:g} for channel {first}; expected "
            "variances above 0. Estimate it from data of these channels."
        )
    # Channels of different units must not hide one another's faults.
    sd = np.sqrt(variance)
    correlation = checked / sd / sd[:, None]
    if np.abs(correlation - correlation.T).max() > 1e-8:
        raise ValueError(
            "noise_cov is not symmetric: entries differ from those across the diagonal by up to "
            f"{np.abs(correlation - correlation.T).max():.3g} (as correlations). Give a covariance."
        )
    smallest = np.linalg.eigvalsh((correlation + correlation.T) / 2)[0]
    if smallest < -1e-8 * n:
        raise ValueError(
            f"noise_cov is not positive semidefinite: its correlations have the eigenvalue "
            f"{smallest:.3g}. Give a covariance, not its inverse or a difference of two."
        )
    return checked


def check_head(head: object, n_channels: int) -> None:
    """Raise an error where a head model is of another class or has other channels."""
    if head is None:
        return
    if not isinstance(head, HeadModel):
        raise TypeError(
            f"head must be a SphereHead, GridHead or SurfaceHead, got {describe(head)}. "
            "EvokedData.from_mne makes one from an mne.Forward or a sphere model."
        )
    if head.n_channels != n_channels:
        raise ValueError(
            f"head predicts {head.n_channels} channels, but signal has {n_channels}; expected the "
            "same channels in the same order. Pick the same ones."
        )


def check_info(info: object, channels: tuple[str, ...]) -> Any:
    """Return a copy of measurement info that has the same channels, or None."""
    if info is None:
        return None
    # Slow to import, and needed by those only who come from MNE-Python.
    import mne

    if not isinstance(info, mne.Info):
        raise TypeError(
            f"info must be an mne.Info, got {describe(info)}. Leave it out where there is none."
        )
    if tuple(info["ch_names"]) != channels:
        raise ValueError(
            f"info has the channels {info['ch_names'][:4]}... ({len(info['ch_names'])}), but "
            f"channel_names is {list(channels[:4])}... ({len(channels)}); expected the same. Use "
            "mne.pick_info."
        )
    return info.copy()
