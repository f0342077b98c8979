"""Fields of `EvokedData` from MNE-Python's evoked responses: channels, projections, reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mne
import numpy as np
from mne.io.constants import FIFF
from mne.proj import make_projector
from numpy.typing import NDArray

from bayesdcm.data.evoked_validation import CHANNEL_UNITS
from bayesdcm.data.mne_checks import (
    advice_for,
    check_agreement,
    check_channels,
    check_responses,
    check_same_recording,
    used_channels,
)
from bayesdcm.data.mne_head import check_forward, head_from_forward, head_from_sphere
from bayesdcm.data.mne_template import mni_to_head
from bayesdcm.data.validation import describe, warn_caller

__all__ = ["evoked_fields", "picked_channels", "projection_and_reference"]


def evoked_fields(
    evokeds: mne.Evoked | Sequence[mne.Evoked] | Mapping[str, mne.Evoked],
    *,
    forward: mne.Forward | None,
    noise_cov: mne.Covariance | None,
    picks: str | Sequence[str] | None,
    sphere: Any,
    orientation: str | None,
    trans: Any,
    subject: str | None,
    subjects_dir: Any,
) -> dict[str, Any]:
    """Fields of `EvokedData`, by name, for the whole epoch; arguments as for its `from_mne`."""
    if forward is not None and sphere is not None:
        raise ValueError(
            "forward and sphere both came; expected one head model. Leave one of them out."
        )
    if forward is not None:
        check_forward(forward, orientation)
    elif orientation is not None:
        raise ValueError(
            f"orientation is {orientation!r}, but there is no forward; expected both. Give "
            "forward, or leave orientation out."
        )
    responses, names = _responses(evokeds)
    used = used_channels(responses[0].info, picks)
    if used:
        check_same_recording(responses, used)
        check_channels(responses, used)
    responses = _good_channels(responses)
    picked = picked_channels(responses[0].info, picks)
    info = responses[0].info
    types = info.get_channel_types()
    # Signals may have been projected; this does nothing to them, but where a channel that is bad
    # now had a part in the reference or a projection, or conditions were projected differently.
    operator = projection_and_reference(info)
    signal = np.stack([response.data.T for response in responses]) @ operator.T
    picked_types = [types[i] for i in picked]
    rows, head = operator[picked], None
    if forward is not None or sphere is not None:
        # "mean over electrodes" is part of the operator; the flag keeps it on record.
        referenced = "eeg" in picked_types
        if referenced and types.count("eeg") == 1:
            raise ValueError(
                "evokeds has one good electrode only, whose reference is not known; expected two "
                "or more, which are referenced to their mean. Give more electrodes, or leave the "
                "head model out."
            )
        transform = mni_to_head(info, forward, trans, subject, subjects_dir)
        if forward is not None:
            head = head_from_forward(forward, info, rows, orientation, referenced, transform)
        else:
            head = head_from_sphere(sphere, info, rows, referenced, transform)
    return {
        "signal": signal[:, :, picked],
        "times": responses[0].times,
        "channel_names": [info["ch_names"][i] for i in picked],
        "channel_types": picked_types,
        "condition_names": names,
        "noise_cov": None if noise_cov is None else _covariance(noise_cov, info, rows),
        "head": head,
        "info": mne.pick_info(info, picked),
    }


def _responses(evokeds: Any) -> tuple[list[mne.Evoked], list[str] | None]:
    """Copies of the responses, with the bad channels and projections of all, and their names."""
    keys = None
    if isinstance(evokeds, mne.Evoked):
        evokeds = [evokeds]
    elif isinstance(evokeds, Mapping):
        keys, evokeds = [str(key) for key in evokeds], list(evokeds.values())
    if not isinstance(evokeds, (list, tuple)):
        raise TypeError(
            f"evokeds must be an mne.Evoked, or a list or dict of them, got {describe(evokeds)}. "
            f"{advice_for(evokeds)}"
        )
    if not evokeds:
        raise ValueError("evokeds is empty; expected one response a condition. Give at least one.")
    check_responses(evokeds)
    check_agreement(evokeds)
    comments = [evoked.comment or "" for evoked in evokeds]
    names = keys if keys is not None else comments if all(c.strip() for c in comments) else None
    responses = [evoked.copy() for evoked in evokeds]
    bads = sorted({bad for response in responses for bad in response.info["bads"]})
    for response in responses:
        response.info["bads"] = bads
    _unite_projections(responses)
    return responses, names


def _unite_projections(responses: list[mne.Evoked]) -> None:
    """Give every response the projections of all, since there is one lead field."""
    whole = [projection for response in responses for projection in response.info["projs"]]
    projections = [_noise_projections(response.info) for response in responses]
    for response in responses:
        # MNE-Python keeps those that are the same once.
        response.add_proj(whole, verbose=False)
    added = [
        name
        for names, response in zip(projections, responses, strict=True)
        for name in _noise_projections(response.info)[len(names) :]
    ]
    if added:
        warn_caller(
            f"evokeds differ in their signal-space projections: {sorted(set(added))} are of some "
            "only, but are applied to all, and to the lead field. Add the same to all, or remove "
            "them (del_proj)."
        )


def _noise_projections(info: mne.Info) -> list[str]:
    """Names of the projections, without those to the average reference."""
    return [p["desc"] for p in info["projs"] if p["kind"] != FIFF.FIFFV_PROJ_ITEM_EEG_AVREF]


def _good_channels(responses: list[mne.Evoked]) -> list[mne.Evoked]:
    """Projected responses, average-referenced on record, without bad and auxiliary channels."""
    bads = responses[0].info["bads"]
    types = responses[0].info.get_channel_types()
    kinds = dict(zip(responses[0].ch_names, types, strict=True))
    keep = [name for name, kind in kinds.items() if kind in CHANNEL_UNITS and name not in bads]
    if not keep:
        measured = [kind for kind in CHANNEL_UNITS if kind not in ("source", "other", "lfp")]
        raise ValueError(
            f"evokeds has no good channels of the types {measured}, but "
            f"{sorted(set(types))} ({len(bads)} bad); expected EEG, MEG or intracranial channels. "
            "Check info['bads'] and the types of channels."
        )
    for response in responses:
        response.apply_proj(verbose=False)
        response.pick(keep, verbose=False)
        referenced = len(_noise_projections(response.info)) < len(response.info["projs"])
        if response.get_channel_types().count("eeg") > 1 and not referenced:
            response.set_eeg_reference("average", projection=False, ch_type="eeg", verbose=False)
    return responses


def picked_channels(info: mne.Info, picks: str | Sequence[str] | None) -> list[int]:
    """Indices of the channels wanted, in the order of the data for types, as named for names."""
    if picks is None:
        return list(range(len(info["ch_names"])))
    types = info.get_channel_types()
    wanted = [picks] if isinstance(picks, str) else picks
    if not isinstance(wanted, (list, tuple, np.ndarray)) or not all(
        isinstance(pick, str) for pick in wanted
    ):
        raise TypeError(
            f"picks must be a type of channel or a list of types or of names, got "
            f"{describe(picks)}. Give strings, e.g. picks='eeg'."
        )
    indices: list[int] = []
    for pick in wanted:
        kinds = {"meg": ("mag", "grad"), "data": tuple(CHANNEL_UNITS)}.get(pick, (pick,))
        chosen = [i for i, kind in enumerate(types) if kind in kinds]
        chosen = chosen or [i for i, name in enumerate(info["ch_names"]) if name == pick]
        if not chosen:
            raise ValueError(
                f"picks has {pick!r}; expected types among {sorted(set(types))}, or names of good "
                "channels. Check the spelling and info['bads']."
            )
        indices += [i for i in chosen if i not in indices]
    if not indices:
        raise ValueError("picks is empty; expected one channel or more. Leave it out for all.")
    return indices


def projection_and_reference(info: mne.Info) -> NDArray[np.float64]:
    """Signal-space projection and average reference of the good channels, (channels, channels).

    The reference is one more direction that is projected out: whatever the electrodes' reference
    was, nothing is left of it, also where a projection is not orthogonal to it.
    """
    projector, _, _ = make_projector(info["projs"], info["ch_names"])
    electrodes = (np.array(info.get_channel_types()) == "eeg").astype(float)
    if electrodes.sum() > 1:
        left = projector @ electrodes
        size = np.linalg.norm(left)
        # Nothing is left where the average reference is among the projections.
        if size > 1e-8 * np.sqrt(electrodes.sum()):
            projector = projector - np.outer(left, left) / size**2
    # Rounding must not couple sensors that no projection couples.
    return np.where(np.abs(projector) < 1e-12, 0.0, projector)


def _covariance(noise_cov: Any, info: mne.Info, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if not isinstance(noise_cov, mne.Covariance):
        raise TypeError(
            f"noise_cov must be an mne.Covariance, got {describe(noise_cov)}. Use "
            "mne.compute_covariance, or construct EvokedData with an array."
        )
    names = info["ch_names"]
    # Channels that have no part in those picked need no noise covariance.
    needed = np.flatnonzero(np.abs(rows).max(axis=0) > 0)
    absent = [names[i] for i in needed if names[i] not in noise_cov["names"]]
    if absent:
        raise ValueError(
            f"noise_cov lacks {len(absent)} channel(s), {absent[:5]}; expected all that are "
            "picked and, for the average reference, all good electrodes. Estimate it from the same "
            "recording, or pick other channels."
        )
    bad = [names[i] for i in needed if names[i] in noise_cov["bads"]]
    if bad:
        raise ValueError(
            f"noise_cov has {len(bad)} bad channel(s) that are good in evokeds, {bad[:5]}; "
            "expected good ones, since their noise is not known. Mark them as bad in evokeds too, "
            "or estimate the covariance anew."
        )
    where = [noise_cov["names"].index(names[i]) for i in needed]
    data = noise_cov.data
    whole = np.diag(data[where]) if data.ndim == 1 else data[np.ix_(where, where)]
    projected = rows[:, needed] @ whole @ rows[:, needed].T
    return (projected + projected.T) / 2
