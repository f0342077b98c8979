"""Fields of parcels of cortex, from forward solutions of MNE-Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.evoked_validation import CHANNEL_UNITS
from bayesdcm.data.mne_head import check_forward, oriented_forward
from bayesdcm.data.validation import describe

__all__ = ["ParcelGain", "parcel_gain"]

_HEMISPHERES = {FIFF.FIFFV_MNE_SURF_LEFT_HEMI: "lh", FIFF.FIFFV_MNE_SURF_RIGHT_HEMI: "rh"}


class ParcelGain(NamedTuple):
    """Signal of channels of one type for unit dipole moments of parcels.

    Attributes
    ----------
    matrix : (channels, parcels)
        In `unit` by A m.
    unit : str
        V, T or T/m.
    channel_names : tuple of str
        Of the channels.
    parcel_names : tuple of str or None
        Of labels.
    """

    matrix: NDArray
    unit: str
    channel_names: tuple[str, ...]
    parcel_names: tuple[str, ...] | None


def parcel_gain(
    forward: Any,
    parcels: Any,
    channels: str | Sequence[str] | None = None,
    areas: ArrayLike | None = None,
) -> ParcelGain:
    """Field of parcels along the normals; see `bayesdcm.observe.LeadField.from_forward`."""
    check_forward(forward, None)
    if any(space["type"] != "surf" for space in forward["src"]):
        raise ValueError(
            "forward has a volume or discrete source space, which has no normals; expected a "
            "source space on the surface of cortex"
        )
    names, unit = _chosen(forward["info"], channels)
    solution = oriented_forward(forward, "fixed")["sol"]
    absent = [name for name in names if name not in solution["row_names"]]
    if absent:
        raise ValueError(f"forward lacks {len(absent)} of the channels, {absent[:5]}")
    rows = [solution["row_names"].index(name) for name in names]
    weights, labels = _weights(forward["src"], parcels)
    if areas is not None:
        areas = np.asarray(areas, float)
        if areas.shape != weights.shape[:1] or not (areas > 0).all():
            raise ValueError(
                f"areas has shape {areas.shape}; expected positive numbers, one a vertex of the "
                f"forward solution, ({len(weights)},)"
            )
        weights = weights * areas[:, None]
    total = weights.sum(0)
    if not (total > 0).all():
        empty = int(np.flatnonzero(~(total > 0))[0])
        name = labels[empty] if labels else f"at position {empty}"
        raise ValueError(
            f"parcels: {name} has no vertex of the forward solution; use a denser source space, or "
            "leave the region out"
        )
    matrix = solution["data"][rows] @ (weights / total)
    return ParcelGain(matrix, unit, tuple(names), labels)


def _chosen(info: mne.Info, channels: str | Sequence[str] | None) -> tuple[list[str], str]:
    """Names of the channels, and the unit of their signals."""
    types = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    if channels is None:
        names = list(types)
    elif isinstance(channels, str):
        names = [name for name, kind in types.items() if kind == channels]
    else:
        names = list(channels)
    absent = [name for name in names if name not in types]
    kinds = sorted({types[name] for name in names if name in types})
    if absent or len(kinds) != 1 or kinds[0] not in CHANNEL_UNITS:
        raise ValueError(
            f"channels is {channels!r}, which are {len(names)} of the types {kinds}, {len(absent)} "
            f"of them absent; expected channels of one type, among {sorted(set(types.values()))}"
        )
    return names, CHANNEL_UNITS[kinds[0]]


def _weights(spaces: Any, parcels: Any) -> tuple[NDArray, tuple[str, ...] | None]:
    """Weight of each vertex in each parcel, (vertices, parcels), and names of labels."""
    vertices = sum(len(space["vertno"]) for space in spaces)
    if not hasattr(parcels, "shape"):
        parcels = list(parcels)
        if parcels and all(isinstance(label, mne.Label) for label in parcels):
            columns = [
                np.concatenate(
                    [
                        np.isin(space["vertno"], label.vertices)
                        & (_HEMISPHERES.get(space["id"]) == label.hemi)
                        for space in spaces
                    ]
                )
                for label in parcels
            ]
            return np.stack(columns, axis=1).astype(float), tuple(str(p.name) for p in parcels)
    try:
        weights = np.asarray(parcels, float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"parcels must be mne.Label objects, or weights of vertices, got {describe(parcels)}"
        ) from error
    if weights.ndim != 2 or len(weights) != vertices or not (weights >= 0).all():
        raise ValueError(
            f"parcels has shape {weights.shape}; expected mne.Label objects, or numbers from 0 of "
            f"shape ({vertices}, regions), one row a vertex of the forward solution"
        )
    return weights, None
