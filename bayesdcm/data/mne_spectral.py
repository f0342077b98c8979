"""Series of MNE-Python's epochs and recordings by condition, and its cross-spectra, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.evoked_validation import CHANNEL_UNITS
from bayesdcm.data.mne_evoked import evoked_fields, picked_channels, projection_and_reference
from bayesdcm.data.validation import check_order, check_positive, describe, some_names

__all__ = ["csd_fields", "epochs_by_condition", "recording_fields", "windows_of"]


def epochs_by_condition(
    epochs: Any, conditions: Sequence[str] | None, tmin: float | None, tmax: float | None
) -> dict[str, mne.BaseEpochs]:
    """Epochs of each condition, cropped; one object has the conditions of its events."""
    if isinstance(epochs, mne.BaseEpochs):
        names = list(epochs.event_id)
        by_name = {"rest": epochs} if len(names) <= 1 else {name: epochs[name] for name in names}
        if conditions is not None and len(names) == 1:
            by_name = {names[0]: epochs}
    elif isinstance(epochs, Mapping):
        by_name = {str(name): value for name, value in epochs.items()}
    elif isinstance(epochs, (list, tuple)):
        by_name = {f"condition {i + 1}": value for i, value in enumerate(epochs)}
    else:
        by_name = {"": epochs}
    for name, value in by_name.items():
        if not isinstance(value, mne.BaseEpochs):
            advice = (
                "Use SpectralData.from_raw."
                if isinstance(value, mne.io.BaseRaw)
                else ("Averages have lost what fluctuates; give the epochs themselves.")
            )
            raise TypeError(
                f"epochs must hold mne.Epochs, got {describe(value)}{name and f' for {name!r}'}. "
                f"{advice}"
            )
    if not by_name:
        raise ValueError("epochs is empty; expected one mne.Epochs for each condition")
    if conditions is not None:
        absent = [name for name in conditions if name not in by_name]
        if absent:
            raise ValueError(
                f"conditions has {some_names(absent)}; expected names among "
                f"{some_names(list(by_name))}. Check the spelling."
            )
        by_name = {str(name): by_name[name] for name in conditions}
    return {name: _cropped(value, tmin, tmax) for name, value in by_name.items()}


def _cropped(epochs: mne.BaseEpochs, tmin: float | None, tmax: float | None) -> mne.BaseEpochs:
    loaded = epochs.copy().load_data()
    for name, time in (("tmin", tmin), ("tmax", tmax)):
        if time is not None and not loaded.tmin - 1e-6 <= time <= loaded.tmax + 1e-6:
            raise ValueError(
                f"{name} is {time:g} s, but epochs run from {loaded.tmin:g} to {loaded.tmax:g} s. "
                "If it is in milliseconds, divide it by 1000."
            )
    return loaded if tmin is None and tmax is None else loaded.crop(tmin, tmax, verbose=False)


def recording_fields(
    epochs: Mapping[str, mne.BaseEpochs], picks: Any, **head: Any
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]], float]:
    """Fields of `SpectralData` by name; series (epochs, times, channels) by condition; rate, Hz.

    `head`: what `EvokedData.from_mne` takes for a head model.
    """
    for name, each in epochs.items():
        if not len(each):
            raise ValueError(f"epochs has no good epochs of {name!r}. Check their rejection.")
    first = next(iter(epochs.values()))
    _check_alike(epochs)
    bads = {bad for each in epochs.values() for bad in each.info["bads"]}
    kinds = dict(zip(first.ch_names, first.get_channel_types(), strict=True))
    keep = [name for name, kind in kinds.items() if kind in CHANNEL_UNITS and name not in bads]
    if not keep:
        raise ValueError(
            f"epochs has no good channels of the types {list(CHANNEL_UNITS)[:6]}, but "
            f"{sorted(set(kinds.values()))} ({len(bads)} bad). Check info['bads'] and the types."
        )
    seen = {
        name: each.copy().apply_proj(verbose=False).pick(keep, verbose=False)
        for name, each in epochs.items()
    }
    info = next(iter(seen.values())).info
    picked = picked_channels(info, picks)
    names = [info["ch_names"][i] for i in picked]
    types = [info.get_channel_types()[i] for i in picked]
    units = {CHANNEL_UNITS[kind] for kind in types}
    if len(units) > 1:
        raise ValueError(
            f"epochs has channels of different units, {sorted(set(types))}; expected one. Pick one "
            "type, e.g. picks='grad'."
        )
    rows = np.eye(len(info["ch_names"]))[picked]
    fields: dict[str, Any] = {"names": names, "unit": units.pop(), "kind": _kind(types)}
    if head["forward"] is not None or head["sphere"] is not None:
        averages = {name: each.average(picks="all") for name, each in seen.items()}
        evoked = evoked_fields(averages, noise_cov=None, picks=names, **head)
        fields["head"] = evoked["head"]
        rows = projection_and_reference(info)[picked]
    elif head["orientation"] is not None:
        raise ValueError("orientation came without forward; expected both or neither")
    series = {
        name: np.einsum("pc,ect->etp", rows, each.get_data(copy=False))
        for name, each in seen.items()
    }
    return fields, series, float(info["sfreq"])


def _kind(types: Sequence[str]) -> str:
    if set(types) <= {"mag", "grad"}:
        return "meg"
    return "eeg" if set(types) == {"eeg"} else "lfp"


def _check_alike(epochs: Mapping[str, mne.BaseEpochs]) -> None:
    (name, first), *others = epochs.items()
    for other, each in others:
        if each.info["sfreq"] != first.info["sfreq"] or len(each.times) != len(first.times):
            raise ValueError(
                f"epochs differ in their times: {len(each.times)} at {each.info['sfreq']:g} Hz of "
                f"{other!r}, {len(first.times)} at {first.info['sfreq']:g} Hz of {name!r}; "
                "expected the same. Crop or resample them alike."
            )
        check_order(f"channels of {other!r}", each.ch_names, first.ch_names)
        if each.ch_names != first.ch_names:
            each.reorder_channels(first.ch_names)


def windows_of(raw: Any, window: float) -> dict[str, mne.BaseEpochs]:
    """Windows of a length, s, that follow one another, by condition; without bad stretches."""
    by_name = (
        {str(name): value for name, value in raw.items()}
        if isinstance(raw, Mapping)
        else {"rest": raw}
    )
    length = check_positive("window", window, "s")
    windows = {}
    for name, value in by_name.items():
        if not isinstance(value, mne.io.BaseRaw):
            raise TypeError(f"raw must be mne.io.Raw, or a dict of them, got {describe(value)}")
        if value.times[-1] + 1 / value.info["sfreq"] < length:
            raise ValueError(
                f"window is {length:g} s, but the recording {name!r} lasts {value.times[-1]:g} s. "
                "Choose a shorter one."
            )
        # One sample less, so that windows do not share their ends.
        windows[name] = mne.make_fixed_length_epochs(
            value, length, preload=True, reject_by_annotation=True, proj=False, verbose=False
        )
    return windows


def csd_fields(csd: Any) -> dict[str, Any]:
    """Fields of `SpectralData` of MNE-Python's cross-spectral densities, by name."""
    by_name = dict(csd) if isinstance(csd, Mapping) else {"rest": csd}
    for value in by_name.values():
        if not isinstance(value, mne.time_frequency.CrossSpectralDensity):
            raise TypeError(
                f"csd must be mne.time_frequency.CrossSpectralDensity, got {describe(value)}. "
                "Arrays have a door of their own, SpectralData.from_arrays."
            )
        if any(np.ndim(frequency) > 0 for frequency in value.frequencies):
            raise ValueError(
                "csd holds means or sums over frequencies, which are no densities; expected single "
                "frequencies. Give it before csd.mean() or csd.sum()."
            )
    first = next(iter(by_name.values()))
    for name, value in by_name.items():
        if list(value.ch_names) != list(first.ch_names) or not np.allclose(
            value.frequencies, first.frequencies
        ):
            raise ValueError(
                f"csd has other channels or frequencies for {name!r} than for the first condition; "
                "expected the same. Estimate them alike."
            )
    frequencies = np.asarray(first.frequencies, float)
    positive = np.flatnonzero(frequencies > 0)
    spectra = [[value.get_data(index=int(k)) for k in positive] for value in by_name.values()]
    return {
        "spectra": np.array(spectra),
        "frequencies": frequencies[positive],
        "names": list(first.ch_names),
        "conditions": list(by_name),
        "estimator": "MNE-Python's",
    }
