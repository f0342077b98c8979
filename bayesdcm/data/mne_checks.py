"""What MNE-Python's responses, channels and forward solutions must be for a model of sources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import mne
import numpy as np
from mne.io.constants import FIFF

from bayesdcm.data.evoked_validation import CHANNEL_UNITS
from bayesdcm.data.validation import describe, warn_caller

__all__ = [
    "advice_for",
    "check_agreement",
    "check_channels",
    "check_forward_channels",
    "check_responses",
    "check_same_recording",
    "used_channels",
]

# Averages over trials; others are their standard error, alternating sums, spectra, or settings.
_AVERAGES = ("average", "partial_average", "single_epoch")
# Digitising a head twice moves electrodes by some millimetres.
_FARTHEST = 5e-3
# Beyond these, in SI units, nothing that a brain does is recorded: noise-normalised signals are.
_LARGEST = {"eeg": 1e-2, "mag": 1e-9, "grad": 1e-7, "ecog": 0.1, "seeg": 0.1, "dbs": 0.1}
# As MNE-Python names weighted differences, "a - b" or "-a + b".
_DIFFERENCE = re.compile(r"^-|\s-\s")
# As recorders name derivations: "EEG Fp1-F7".
_DERIVATION = re.compile(r"^(?:EEG\s)?[A-Za-z]+\d*[zZ]?-([A-Za-z]+\d*[zZ]?)$")


def check_responses(evokeds: Sequence[Any]) -> None:
    """Raise where these are no averaged responses, and warn where they are differences."""
    for position, evoked in enumerate(evokeds):
        if not isinstance(evoked, mne.Evoked):
            raise TypeError(
                f"evokeds must hold mne.Evoked, got {describe(evoked)} at position {position}. "
                f"{advice_for(evoked)}"
            )
        if evoked.kind not in _AVERAGES:
            raise ValueError(
                f"evokeds holds no average at position {position} ({evoked.comment!r}), but is of "
                f"kind {evoked.kind!r}; expected averaged responses. Use epochs.average(), or "
                "mne.read_evokeds with kind='average'."
            )
    differences = [e.comment for e in evokeds if _DIFFERENCE.search(e.comment or "")]
    if differences:
        warn_caller(
            f"evokeds has {differences} by their comments: differences of conditions, to which no "
            "stimulus leads, so that a model of responses does not describe them. Give the "
            "conditions themselves; design and modulation say what differs between them."
        )


def advice_for(value: object) -> str:
    """How to come from another object of MNE-Python to averaged responses."""
    if "SourceEstimate" in type(value).__name__:
        return (
            "Time courses of labels have a door of their own: EvokedData.from_label_time_courses("
            "mne.extract_label_time_course(stcs, labels, src), stcs[0].times)."
        )
    if "TFR" in type(value).__name__ or "Spectrum" in type(value).__name__:
        return "Power has no phase, and is no response in time; average epochs themselves."
    return "Average epochs first: epochs['standard'].average()."


def check_agreement(evokeds: Sequence[mne.Evoked]) -> None:
    """Raise `ValueError` where responses are not of the same channels and times."""
    first = evokeds[0]
    for position, evoked in enumerate(evokeds[1:], start=1):
        if evoked.ch_names != first.ch_names:
            differ = sorted(set(evoked.ch_names) ^ set(first.ch_names))
            raise ValueError(
                f"evokeds differ in their channels at position {position} ({differ[:5]} in one "
                "only, or another order); expected the same. Use mne.equalize_channels."
            )
        if evoked.times.shape != first.times.shape or not np.allclose(
            evoked.times, first.times, rtol=0, atol=1e-3 / first.info["sfreq"]
        ):
            raise ValueError(
                f"evokeds differ in their times at position {position}: {evoked.times.size} from "
                f"{evoked.times[0]:g} to {evoked.times[-1]:g} s, and {first.times.size} from "
                f"{first.times[0]:g} to {first.times[-1]:g} s; expected the same. Crop or resample "
                "them alike."
            )


def used_channels(info: mne.Info, picks: Any) -> list[str]:
    """Names of the good channels that picks ask for, with all electrodes where one is asked for.

    The average reference is over all good electrodes, among which those of current source density
    count. Picks that are none are judged elsewhere: then all good channels are named.
    """
    kinds = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    measured = (*CHANNEL_UNITS, "csd")
    good = [n for n, kind in kinds.items() if kind in measured and n not in info["bads"]]
    wanted = [picks] if isinstance(picks, str) else picks
    if not isinstance(wanted, (list, tuple, np.ndarray)):
        return good
    types = {pick for pick in wanted if isinstance(pick, str)}
    if "data" in types:
        return good
    types |= {"mag", "grad"} if "meg" in types else set()
    if "eeg" in types | {kinds.get(name) for name in types}:
        types |= {"eeg", "csd"}
    return [name for name in good if kinds[name] in types or name in types]


def check_same_recording(evokeds: Sequence[mne.Evoked], names: Sequence[str]) -> None:
    """Raise where one lead field cannot serve all responses; warn where filters differ.

    It cannot where types, coils, compensation or positions of channels, the position of the head
    in the MEG, or signal-space separation differ.
    """
    first, *others = (_info_of(evoked.info, names) for evoked in evokeds)
    for position, info in enumerate(others, start=1):
        _check_same_recording(first, info, f"at position {position}")


def _info_of(info: mne.Info, names: Sequence[str]) -> mne.Info:
    return mne.pick_info(info, mne.pick_channels(info["ch_names"], names, ordered=True))


def _check_same_recording(first: mne.Info, info: mne.Info, where: str) -> None:
    kinds = first.get_channel_types()
    pairs = zip(first["ch_names"], kinds, info.get_channel_types(), strict=True)
    differ = [f"{name} ({a}, {b})" for name, a, b in pairs if a != b]
    # Types of sensor, and grades of gradient compensation.
    differ = differ or [
        f"{a['ch_name']} (coil types {int(a['coil_type'])}, {int(b['coil_type'])})"
        for a, b in zip(first["chs"], info["chs"], strict=True)
        if a["coil_type"] != b["coil_type"]
    ]
    if differ:
        raise ValueError(
            f"evokeds differ in the types of channels {where}: {differ[:5]}; expected the same. "
            "Set them alike (set_channel_types), and process conditions alike."
        )
    if {"mag", "grad"} & set(kinds):
        moved = _head_movement(first["dev_head_t"], info["dev_head_t"])
        if moved:
            raise ValueError(
                f"evokeds differ in the position of the head in the MEG {where} ({moved}); "
                "expected one, since there is one lead field. Take all to one position, with "
                "mne.preprocessing.maxwell_filter(destination=...), before averaging."
            )
        if _separated(first) != _separated(info):
            raise ValueError(
                f"evokeds differ in signal-space separation {where}: it was applied to one only; "
                "expected the same. Apply mne.preprocessing.maxwell_filter to all or none."
            )
    farthest, name = _farthest(first, info)
    if farthest > _FARTHEST:
        raise ValueError(
            f"evokeds differ in the positions of electrodes {where}, {name} by "
            f"{1e3 * farthest:.0f} mm; expected the same, since there is one lead field. Set one "
            "montage (set_montage), or fit the recordings apart."
        )
    filters = [(one["highpass"], one["lowpass"]) for one in (first, info)]
    if not np.allclose(*filters, rtol=1e-3, atol=1e-3):
        warn_caller(
            f"evokeds were filtered differently {where}: {filters[1][0]:g} to {filters[1][1]:g} "
            f"Hz, and {filters[0][0]:g} to {filters[0][1]:g} Hz before; what differs between "
            "conditions may be due to it. Filter them alike."
        )


def _head_movement(first: Any, second: Any) -> str:
    """How far one transform from device to head is from another, in words; empty where equal."""
    if first is None or second is None:
        return "" if first is second else "one has no info['dev_head_t']"
    a, b = (np.array(each["trans"], dtype=float) for each in (first, second))
    if np.allclose(a, b, rtol=0, atol=1e-5):
        return ""
    turn = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
    degrees = np.degrees(np.arccos(np.clip(turn, -1, 1)))
    return f"{1e3 * np.linalg.norm(a[:3, 3] - b[:3, 3]):.1f} mm and {degrees:.1f} degrees apart"


def _separated(info: mne.Info) -> bool:
    records = info["proc_history"] or []
    return any(record.get("max_info", {}).get("sss_info") for record in records)


def _farthest(first: mne.Info, second: mne.Info) -> tuple[float, str]:
    """Largest distance between the two places of an electrode, in m, and its name."""
    farthest, where = 0.0, ""
    for a, b in zip(first["chs"], second["chs"], strict=True):
        places = np.array([a["loc"][:3], b["loc"][:3]], dtype=float)
        # Without positions, electrodes have nothing that could differ; MEG moves as a whole.
        if a["kind"] != FIFF.FIFFV_EEG_CH or not np.isfinite(places).all():
            continue
        distance = float(np.linalg.norm(places[0] - places[1]))
        if places.any(axis=1).all() and distance > farthest:
            farthest, where = distance, a["ch_name"]
    return farthest, where


def check_channels(evokeds: Sequence[mne.Evoked], names: Sequence[str]) -> None:
    """Raise where channels are no measurements at single sensors.

    Warns of signals larger than any that brains make, and of names of bipolar derivations.
    """
    info = _info_of(evokeds[0].info, names)
    by_kind: dict[str, list[str]] = {}
    for name, kind in zip(info["ch_names"], info.get_channel_types(), strict=True):
        by_kind.setdefault(kind, []).append(name)
    if density := by_kind.get("csd"):
        raise ValueError(
            f"evokeds has {len(density)} channel(s) of current source density, {density[:5]}; "
            "expected potentials, since lead fields predict these. Give the responses before "
            "mne.preprocessing.compute_current_source_density, or pick other types."
        )
    electrodes = by_kind.get("eeg", [])
    references = {int(evoked.info["custom_ref_applied"]) for evoked in evokeds}
    if electrodes and FIFF.FIFFV_MNE_CUSTOM_REF_CSD in references:
        raise ValueError(
            f"evokeds has {len(electrodes)} electrode(s), {electrodes[:5]}, whose reference is "
            "marked as current source density; expected potentials. Give the responses before "
            "mne.preprocessing.compute_current_source_density."
        )
    _check_single_electrodes(info["chs"], electrodes)
    grades = {int(c["coil_type"]) >> 16 for c in info["chs"] if c["kind"] == FIFF.FIFFV_MEG_CH}
    if len(grades) > 1:
        raise ValueError(
            f"evokeds has MEG channels of different gradient compensation, grades "
            f"{sorted(grades)}; expected one. Use evoked.apply_gradient_compensation."
        )
    for kind in [kind for kind in by_kind if kind in _LARGEST]:
        rows = mne.pick_channels(evokeds[0].ch_names, by_kind[kind])
        size = max(float(np.abs(evoked.data[rows]).max()) for evoked in evokeds)
        largest, unit = _LARGEST[kind], CHANNEL_UNITS[kind]
        if size > largest:
            warn_caller(
                f"evokeds has signals up to {size:.3g} {unit} in channels of type {kind!r}, which "
                f"is more than brains make ({largest:g} {unit}); lead fields are in {unit}. "
                "Rescale data in other units, and give responses before mne.whiten_evoked."
            )


def _check_single_electrodes(channels: Sequence[Any], electrodes: Sequence[str]) -> None:
    bipolar = [
        channel["ch_name"]
        for channel in channels
        if int(channel["coil_type"]) == FIFF.FIFFV_COIL_EEG_BIPOLAR
        and channel["ch_name"] in electrodes
    ]
    if bipolar:
        raise ValueError(
            f"evokeds has {len(bipolar)} bipolar derivation(s), {bipolar[:5]}; expected electrodes "
            "against one reference, since a derivation has the lead field of its anode minus that "
            "of its cathode, and no part in the average reference. Leave it out "
            f"(evoked.drop_channels({bipolar[:5]})), and give the single electrodes."
        )
    # Files of recorders have derivations that only their names tell of.
    cathodes = {name: match[1] for name in electrodes if (match := _DERIVATION.match(name))}
    if len({cathode.lower() for cathode in cathodes.values()}) > 1:
        warn_caller(
            f"evokeds has electrodes with names of bipolar derivations, {list(cathodes)[:5]}, "
            "against different electrodes; each is taken for a single electrode against one "
            "reference, and all are referenced to their mean. Give data of one reference."
        )


def check_forward_channels(forward: Any, info: mne.Info, names: Sequence[str]) -> None:
    """Raise where a forward solution is of other sensors than the data; warn of other positions."""
    solved, data = _info_of(forward["info"], names), _info_of(info, names)
    channels, measured = solved["chs"], data["chs"]
    bipolar = [c["ch_name"] for c in channels if c["coil_type"] == FIFF.FIFFV_COIL_EEG_BIPOLAR]
    if bipolar:
        raise ValueError(
            f"forward has {len(bipolar)} bipolar derivation(s), {bipolar[:5]}, with the lead field "
            "of a single electrode; expected electrodes. Compute it for them."
        )
    pairs = [
        (int(a["coil_type"]) >> 16, int(b["coil_type"]) >> 16)
        for a, b in zip(channels, measured, strict=True)
        if b["kind"] == FIFF.FIFFV_MEG_CH
    ]
    differ = sorted({pair for pair in pairs if pair[0] != pair[1]})
    if differ:
        raise ValueError(
            f"forward has gradient compensation of grade {differ[0][0]}, but evokeds of grade "
            f"{differ[0][1]}; expected the same. Compute it with the info of these data."
        )
    apart = []
    if pairs and (moved := _head_movement(solved["dev_head_t"], info["dev_head_t"])):
        apart.append(f"the head in the MEG ({moved})")
    farthest, name = _farthest(solved, data)
    if farthest > _FARTHEST:
        apart.append(f"electrodes ({name} by {1e3 * farthest:.0f} mm)")
    if apart:
        warn_caller(
            f"forward was computed for other positions of {' and '.join(apart)} than evokeds has, "
            "so its lead field may be wrong. Compute it with the info of these data."
        )
