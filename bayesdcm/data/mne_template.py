"""Way from MNI coordinates to a person's head, as MNE-Python's files and digitisation tell it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.io import read_fiducials
from mne.io.constants import FIFF
from numpy.typing import NDArray

from bayesdcm.data.validation import describe, warn_caller

__all__ = ["mni_to_head", "similarity"]

_MILLIMETRE = np.diag([1e-3, 1e-3, 1e-3, 1.0])
_TEMPLATE = "fsaverage"


def mni_to_head(
    info: mne.Info,
    forward: Any = None,
    trans: Any = None,
    subject: str | None = None,
    subjects_dir: Any = None,
) -> NDArray[np.float64]:
    """Affine matrix from MNI coordinates in mm to head coordinates in m, (4, 4).

    With a transform between head and MRI (`trans`, or that in `forward`) and a subject, the MRI is
    taken to MNI space by FreeSurfer's linear registration; the template fsaverage lies in MNI space
    already. Otherwise the template's fiducials are taken to the digitised ones by the rigid
    transform with one scale that fits best: typically within a centimetre, since three points say
    nothing of a head's shape. A change of units only, with a warning, where nothing is known.
    FreeSurfer's MNI space (MNI305) and SPM's (MNI152) differ by up to 2 mm, which is neglected.
    """
    if trans is not None:
        if subject is None:
            raise ValueError(
                "trans came without subject; expected both, since a transform to a person's MRI "
                "does not tell where MNI coordinates lie in it. Give subject (and subjects_dir)."
            )
        return _mri_to_head(trans) @ _mni_to_mri(subject, subjects_dir) @ _MILLIMETRE
    if forward is not None:
        subject = forward["src"][0].get("subject_his_id") if subject is None else subject
        registration = None
        # Where the subject's registration cannot be read, fiducials will do.
        with suppress(ValueError):
            registration = _mni_to_mri(subject, subjects_dir) if subject else None
        if registration is not None:
            return _mri_to_head(forward["mri_head_t"]) @ registration @ _MILLIMETRE
    digitised = _fiducials(info["dig"] or [], FIFF.FIFFV_COORD_HEAD)
    if digitised is None:
        warn_caller(
            "Neither trans nor digitised fiducials tell where MNI coordinates lie in the head, so "
            "they are taken for head coordinates, which is wrong by centimetres. Give trans and "
            "subject, or set a montage with fiducials, where positions in MNI space matter."
        )
        return _MILLIMETRE
    path = Path(mne.__file__).parent / "data" / _TEMPLATE / f"{_TEMPLATE}-fiducials.fif"
    points, frame = read_fiducials(path)
    return similarity(_fiducials(points, frame), digitised) @ _MILLIMETRE


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation, scale and translation, (4, 4), that take points to others with least squared error.

    Points, (points, 3), are three or more, not on one line. Umeyama (1991), IEEE Transactions on
    Pattern Analysis and Machine Intelligence 13:376, https://doi.org/10.1109/34.88573.
    """
    centres = source.mean(axis=0), target.mean(axis=0)
    a, b = source - centres[0], target - centres[1]
    left, values, right = np.linalg.svd(b.T @ a)
    # No reflection, which points in one plane would leave open.
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    linear = (left * signs) @ right * (values @ signs) / (a**2).sum()
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centres[1] - linear @ centres[0]
    return matrix


def _fiducials(points: Any, frame: int) -> NDArray[np.float64] | None:
    """Left, nasion and right, (3, 3), in m; None where one is missing."""
    cardinal = {
        int(point["ident"]): point["r"]
        for point in points
        if point["kind"] == FIFF.FIFFV_POINT_CARDINAL and point["coord_frame"] == frame
    }
    wanted = (FIFF.FIFFV_POINT_LPA, FIFF.FIFFV_POINT_NASION, FIFF.FIFFV_POINT_RPA)
    if any(ident not in cardinal for ident in wanted):
        return None
    return np.array([cardinal[ident] for ident in wanted], dtype=float)


def _mri_to_head(trans: Any) -> NDArray[np.float64]:
    if isinstance(trans, (str, Path)):
        trans = mne.read_trans(trans, verbose=False)
    if not isinstance(trans, mne.Transform):
        raise TypeError(
            f"trans must be an mne.Transform or a path, got {describe(trans)}. Use mne.read_trans."
        )
    ends = {int(trans["from"]), int(trans["to"])}
    if ends != {int(FIFF.FIFFV_COORD_HEAD), int(FIFF.FIFFV_COORD_MRI)}:
        raise ValueError(
            f"trans goes from {trans.from_str} to {trans.to_str}; expected one between head and "
            "MRI (surface RAS). Give the file ending in -trans.fif."
        )
    matrix = np.array(trans["trans"], dtype=float)
    return matrix if trans["to"] == FIFF.FIFFV_COORD_HEAD else np.linalg.inv(matrix)


def _mni_to_mri(subject: str, subjects_dir: Any) -> NDArray[np.float64]:
    if subject == _TEMPLATE:
        return np.eye(4)
    try:
        registration = mne.read_talxfm(subject, subjects_dir, verbose=False)
    except Exception as error:
        raise ValueError(
            f"subject is {subject!r}, but its registration mri/transforms/talairach.xfm cannot be "
            f"read ({error}); expected FreeSurfer's folder of the subject. Give subjects_dir."
        ) from error
    return np.linalg.inv(np.array(registration["trans"], dtype=float))
