"""Head models from MNE-Python's forward solutions and sphere models."""

from __future__ import annotations

from typing import Any

import mne
import numpy as np
from mne.bem import ConductorModel
from mne.io.constants import FIFF
from numpy.typing import NDArray

from bayesdcm.data.head import GridHead, SphereHead, SurfaceHead
from bayesdcm.data.mne_checks import check_forward_channels
from bayesdcm.data.validation import describe

__all__ = ["check_forward", "head_from_forward", "head_from_sphere", "oriented_forward"]


def check_forward(forward: object, orientation: object) -> None:
    """Raise where these are no forward solution and orientation ("free", "fixed" or None)."""
    if not isinstance(forward, mne.Forward):
        raise TypeError(
            f"forward must be an mne.Forward, got {describe(forward)}. Use "
            "mne.make_forward_solution or mne.read_forward_solution."
        )
    if orientation not in ("free", "fixed", None):
        raise ValueError(
            f"orientation is {orientation!r}; expected 'free' or 'fixed'. Leave it out for that "
            "of the source space."
        )


def head_from_forward(
    forward: Any,
    info: mne.Info,
    rows: NDArray[np.float64],
    orientation: str | None,
    average_reference: bool,
    transform: NDArray[np.float64],
) -> GridHead | SurfaceHead:
    """Head model that holds the lead field of a forward solution.

    `rows`, (channels, good channels), are projection, reference and selection, by which the data
    went from the good channels to theirs; `transform` is from MNI coordinates in mm to head
    coordinates in m. Orientation None is "fixed" on surfaces and "free" elsewhere.
    """
    on_surface = all(space["type"] == "surf" for space in forward["src"])
    orientation = orientation or ("fixed" if on_surface else "free")
    if orientation == "fixed" and not on_surface:
        raise ValueError(
            "orientation is 'fixed', but forward has a volume or discrete source space, which has "
            "no surface to stand on. Use orientation='free', or a surface source space."
        )
    oriented = oriented_forward(forward, orientation)
    needed = np.flatnonzero(np.abs(rows).max(axis=0) > 0)
    names = [info["ch_names"][i] for i in needed]
    known = oriented["sol"]["row_names"]
    absent = [name for name in names if name not in known]
    if absent:
        raise ValueError(
            f"forward lacks {len(absent)} channel(s), {absent[:5]}; expected all that are picked "
            "and, for the average reference, all good electrodes. Compute it for this recording, "
            "or pick the channels it has."
        )
    check_forward_channels(forward, info, names)
    field = oriented["sol"]["data"][[known.index(name) for name in names]]
    gain = rows[:, needed] @ field
    positions = np.array(oriented["source_rr"], dtype=float)
    if oriented["coord_frame"] != FIFF.FIFFV_COORD_HEAD:
        matrix = np.array(oriented["mri_head_t"]["trans"], dtype=float)
        positions = positions @ matrix[:3, :3].T + matrix[:3, 3]
    if orientation == "fixed":
        normals = np.array(oriented["source_nn"], dtype=float)
        return SurfaceHead(positions, normals, gain, average_reference, transform)
    gain = gain.reshape(len(gain), -1, 3)
    return GridHead(positions, gain, average_reference, transform)


def oriented_forward(forward: Any, orientation: str) -> Any:
    """A forward solution with "free" dipoles along x, y and z, or "fixed" ones along normals."""
    fixed = orientation == "fixed"
    try:
        # Free dipoles along x, y and z, not along the surface's own directions.
        return mne.convert_forward_solution(
            forward, surf_ori=fixed, force_fixed=fixed, copy=True, verbose=False
        )
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"forward cannot be converted to orientation {orientation!r} ({error}). Compute it "
            "with free orientation."
        ) from error


def head_from_sphere(
    sphere: Any,
    info: mne.Info,
    rows: NDArray[np.float64],
    average_reference: bool,
    transform: NDArray[np.float64],
) -> SphereHead:
    """Sphere model with the sensors of a recording; arguments as of `head_from_forward`."""
    needed = np.flatnonzero(np.abs(rows).max(axis=0) > 0)
    types = np.array(info.get_channel_types())[needed].tolist()
    wrong = sorted(set(types) - {"eeg", "mag", "grad"})
    if wrong:
        raise ValueError(
            f"sphere came with channels of type {wrong}; expected EEG and MEG, whose fields a "
            "sphere model predicts. Pick these, or leave sphere out."
        )
    model = _sphere_model(sphere, info)
    layers = model["layers"]
    if not layers and "eeg" in types:
        raise ValueError(
            "sphere has no shells, but there are electrodes; expected shells with radii and "
            "conductivities. Use mne.make_sphere_model with head_radius."
        )
    rows = rows[:, needed]
    channels = [info["chs"][i] for i in needed]
    sensors = _sensors(channels, types, info)
    _check_outside(model, channels, types, sensors["sensors"])
    is_identity = rows.shape[0] == rows.shape[1] and np.array_equal(rows, np.eye(len(rows)))
    return SphereHead(
        **sensors,
        centre=model["r0"],
        radii=[layer["rad"] for layer in layers] or None,  # type: ignore[arg-type]
        conductivities=[layer["sigma"] for layer in layers] or None,  # type: ignore[arg-type]
        sensor_types=tuple(types),
        average_reference=average_reference,
        projection=None if is_identity else rows,
        mni_to_head=transform,
    )


def _sphere_model(sphere: Any, info: mne.Info) -> Any:
    if isinstance(sphere, str) and sphere == "auto":
        try:
            return mne.make_sphere_model("auto", "auto", info, verbose=False)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"sphere is 'auto', but no sphere can be fitted to the digitised points ({error}). "
                "Set a montage, or give mne.make_sphere_model(r0, head_radius)."
            ) from error
    if not isinstance(sphere, ConductorModel):
        raise TypeError(
            f"sphere must be 'auto' or the result of mne.make_sphere_model, got "
            f"{describe(sphere)}. Use one of these."
        )
    if not sphere["is_sphere"]:
        raise ValueError(
            "sphere is a boundary-element model; expected a sphere model. Give forward, computed "
            "with mne.make_forward_solution, for others."
        )
    if sphere["coord_frame"] != FIFF.FIFFV_COORD_HEAD:
        raise ValueError(
            "sphere is not in head coordinates; expected the result of mne.make_sphere_model with "
            "its centre in the head. Make it anew."
        )
    return sphere


def _check_outside(
    model: Any, channels: list[Any], types: list[str], sensors: NDArray[np.float64]
) -> None:
    """Raise an error where MEG sensors lie in the head, as MNE-Python's forward solutions do."""
    largest = max((layer["rad"] for layer in model["layers"]), default=0.0)
    distance = np.linalg.norm(sensors - model["r0"], axis=1)
    inside = [
        channel["ch_name"]
        for channel, kind, far in zip(channels, types, distance, strict=True)
        if kind != "eeg" and far < largest
    ]
    if inside:
        raise ValueError(
            f"evokeds has {len(inside)} MEG sensor(s) inside the sphere of {1e3 * largest:.0f} mm, "
            f"{inside[:5]}; expected them around the head. Check info['dev_head_t'] and the sphere."
        )


def _sensors(channels: list[Any], types: list[str], info: mne.Info) -> dict[str, Any]:
    """Positions of sensors and integration points of coils, in head coordinates."""
    sensors = np.array([channel["loc"][:3] for channel in channels], dtype=float)
    for place, channel, kind in zip(sensors, channels, types, strict=True):
        if not np.isfinite(place).all() or not place.any():
            noun = "electrode" if kind == "eeg" else "MEG sensor"
            raise ValueError(
                f"evokeds has no position for the {noun} {channel['ch_name']}; expected one. Use "
                "evoked.set_montage, or drop the channel."
            )
    magnetic = [i for i, kind in enumerate(types) if kind != "eeg"]
    if not magnetic:
        return {"sensors": sensors}
    coils = _coils([channels[i] for i in magnetic], info)
    width = max(len(coil["w"]) for coil in coils)
    points = np.repeat(sensors[:, None], width, axis=1)
    normals = np.zeros((len(channels), width, 3))
    weights = np.zeros((len(channels), width))
    for row, coil in zip(magnetic, coils, strict=True):
        n = len(coil["w"])
        # Points of weight 0 lie where the coil is, so that fields there are finite.
        points[row] = coil["r0"]
        points[row, :n] = coil["rmag"]
        normals[row, :n] = coil["cosmag"]
        weights[row, :n] = coil["w"]
        sensors[row] = coil["r0"]
    return {
        "sensors": sensors,
        "coil_points": points,
        "coil_normals": normals,
        "coil_weights": weights,
    }


def _coils(channels: list[Any], info: mne.Info) -> list[Any]:
    """MNE-Python's coils in head coordinates, as its forward solutions integrate them."""
    # Coil types above this have software gradient compensation, which needs reference coils.
    if any(int(channel["coil_type"]) >> 16 for channel in channels):
        raise ValueError(
            "evokeds has compensated MEG channels (CTF's software gradients), which a sphere model "
            "here does not cover. Give forward, computed with mne.make_forward_solution."
        )
    if info["dev_head_t"] is None:
        raise ValueError(
            "evokeds has no transform from the MEG device to the head (info['dev_head_t']); "
            "expected one. Read it with the recording's head position."
        )
    from mne.forward import _create_meg_coils

    return _create_meg_coils(channels, "accurate", info["dev_head_t"])
