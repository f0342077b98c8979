"""Current dipoles of labels, from MNE-Python's source estimates and inverse operators.

MNE-Python takes the time course of a label; here it is checked, given a sign, and its noise worked
out.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import mne
import numpy as np
from mne.io.constants import FIFF
from mne.minimum_norm import InverseOperator, apply_inverse, prepare_inverse_operator
from numpy.typing import NDArray

from bayesdcm.data.dipole_validation import check_size
from bayesdcm.data.validation import check_finite, describe, warn_caller

__all__ = ["evoked_fields", "source_estimate_fields"]

MODES = ("mean", "mean_flip", "pca_flip", "max", "auto")
# Of those, what turns vertices round whose normals are against the label's main direction.
_FLIPS = ("mean_flip", "pca_flip", "auto")
# Inverse solutions in A m; the others are statistics.
_CURRENTS = ("MNE", "eLORETA")
# A label whose normals balance as well as this has no main direction.
_NO_DIRECTION = 0.1
# A component that is smaller than this share of the largest is none.
_NO_COMPONENT = 0.05


class Course(NamedTuple):
    """Time course of a label.

    Attributes
    ----------
    values : (times,)
        In A m, with its sign.
    times : (times,)
        In s.
    orientation : str
        How the sign was fixed.
    mode : str
        MNE-Python's, "auto" resolved.
    sign : 1 or -1
        By what MNE-Python's course was multiplied.
    """

    values: NDArray
    times: NDArray
    orientation: str
    mode: str
    sign: int


def source_estimate_fields(
    stc: Any, label: Any, src: Any, mode: Any, positive: Any
) -> dict[str, Any]:
    """Dipole, times, name and orientation; see `bayesdcm.DipoleData.from_source_estimate`."""
    _check_estimate(stc)
    course = _course(stc, label, _source_spaces(src), mode, positive)
    if course.mode == "max":
        _warn_of_magnitude()
    return _fields(course) | {"name": label.name or "label"}


def evoked_fields(
    evoked: Any,
    inverse_operator: Any,
    label: Any,
    mode: Any,
    positive: Any,
    *,
    lambda2: Any,
    method: Any,
    pick_ori: Any,
    noise_cov: Any,
) -> dict[str, Any]:
    """The same with the noise and the number of averages; see `bayesdcm.DipoleData.from_evoked`."""
    _check_evoked(evoked)
    _check_method(method)
    _check_regularisation(lambda2)
    pick_ori = _checked_orientation(pick_ori, inverse_operator)
    if noise_cov is not None and not isinstance(noise_cov, mne.Covariance):
        raise TypeError(
            f"noise_cov must be an mne.Covariance of single trials, got {describe(noise_cov)}. "
            "Leave it out to take that of the inverse operator."
        )
    src = _source_spaces(inverse_operator)
    _rows(label, [space["vertno"] for space in src])
    prepared = prepare_inverse_operator(
        inverse_operator, evoked.nave, lambda2, method, verbose="error"
    )

    def inverted(response: mne.Evoked) -> mne.SourceEstimate:
        return apply_inverse(
            response,
            prepared,
            lambda2,
            method,
            pick_ori=pick_ori,
            prepared=True,
            label=label,
            verbose="error",
        )

    stc = inverted(evoked)
    course = _course(stc, label, src, mode, positive)
    noise_sd = None
    if course.mode == "max":
        _warn_of_magnitude()
    else:
        # One unit in one channel at a time: the columns of the kernel.
        units = mne.EvokedArray(
            np.eye(len(evoked.ch_names)), evoked.info, nave=evoked.nave, verbose="error"
        )
        weights = _channel_weights(stc, inverted(units), label, src, course)
        noise_sd = _noise_sd(weights, evoked, inverse_operator, noise_cov)
    return _fields(course) | {
        "name": ", ".join(filter(None, (evoked.comment, label.name))) or "label",
        "noise_sd": noise_sd,
        "n_averages": max(int(round(evoked.nave)), 1),
    }


def _fields(course: Course) -> dict[str, Any]:
    return {
        "dipole": course.values,
        "times": course.times,
        "orientation": course.orientation,
    }


# Checks of what comes from MNE-Python ------------------------------------------------------------


def _check_estimate(stc: Any) -> None:
    if not isinstance(stc, mne.SourceEstimate):
        kind = type(stc).__name__
        advice = "Use mne.minimum_norm.apply_inverse(..., method='MNE', pick_ori='normal')."
        if "Vector" in kind:
            advice = "Take the component along the normals first: stc.project('normal', src)[0]."
        elif "Vol" in kind or "Mixed" in kind:
            advice = "A volume has no normals, by which current out of cortex has a sign."
        elif isinstance(stc, list | tuple):
            advice = "Give one response at a time."
        raise TypeError(
            "stc must be one mne.SourceEstimate on the surface of cortex, of fixed orientation or "
            f"along its normals, got {describe(stc) if 'Estimate' not in kind else kind}. {advice}"
        )
    data = stc.data
    if np.iscomplexobj(data):
        raise TypeError("stc holds complex numbers; expected currents in A m")
    if data.size and (data > 0).all():
        raise ValueError(
            "stc is positive at all vertices and times, so it holds magnitudes, as estimates "
            "of free orientation do; expected signed currents along the normals. Use "
            "apply_inverse(..., pick_ori='normal')."
        )


def _source_spaces(src: Any) -> Any:
    """Source spaces of the two hemispheres, which forward solutions and inverse operators hold."""
    if isinstance(src, mne.Forward | InverseOperator):
        src = src["src"]
    if not isinstance(src, mne.SourceSpaces):
        raise TypeError(
            f"src must be mne.SourceSpaces, got {describe(src)}. Give inverse_operator['src'] or "
            "forward['src']."
        )
    kinds = [space["type"] for space in src]
    if kinds != ["surf", "surf"]:
        raise ValueError(
            f"src has source spaces of the types {kinds}; expected the surfaces of the two "
            "hemispheres, whose normals say what is outward. Use mne.setup_source_space."
        )
    return src


def _check_evoked(evoked: Any) -> None:
    if not isinstance(evoked, mne.Evoked):
        raise TypeError(
            f"evoked must be one mne.Evoked, got {describe(evoked)}. Average epochs first: "
            "epochs['left'].average()."
        )
    if evoked.kind not in ("average", "partial_average", "single_epoch"):
        raise ValueError(
            f"evoked is of kind {evoked.kind!r}; expected an average. Use epochs.average()."
        )


def _check_method(method: Any) -> None:
    if method not in _CURRENTS:
        raise ValueError(
            f"method is {method!r}; expected 'MNE' (or 'eLORETA'), whose result is current in A m. "
            "dSPM and sLORETA divide it by its noise and give a statistic without a unit, which "
            "is no dipole."
        )


def _check_regularisation(lambda2: Any) -> None:
    if isinstance(lambda2, bool) or not isinstance(lambda2, Real) or not 0 < lambda2 < np.inf:
        raise ValueError(
            f"lambda2 must be one number above 0, got {lambda2!r}. Give 1 / SNR ** 2, e.g. 1 / 9."
        )


def _checked_orientation(pick_ori: Any, inverse_operator: Any) -> str | None:
    """What MNE-Python needs to give currents along the normals."""
    if not isinstance(inverse_operator, InverseOperator):
        raise TypeError(
            "inverse_operator must be an mne.minimum_norm.InverseOperator, got "
            f"{describe(inverse_operator)}. Use mne.minimum_norm.make_inverse_operator."
        )
    fixed = inverse_operator["source_ori"] == FIFF.FIFFV_MNE_FIXED_ORI
    if pick_ori == "normal" or (pick_ori is None and fixed):
        return None if fixed else "normal"
    raise ValueError(
        f"pick_ori is {pick_ori!r} with an inverse operator of "
        f"{'fixed' if fixed else 'free or loose'} orientation; expected 'normal', since magnitudes "
        "and vectors have no sign along the normals. Leave it out."
    )


def _rows(label: Any, vertices: list[NDArray]) -> NDArray[np.bool_]:
    """Which vertices of an estimate are in a label."""
    if not isinstance(label, mne.Label | mne.BiHemiLabel):
        raise TypeError(
            f"label must be one mne.Label, got {describe(label)}. Use mne.read_labels_from_annot, "
            "and pick one by its name."
        )
    parts = [label.lh, label.rh] if label.hemi == "both" else [label]
    rows = [np.zeros(len(each), bool) for each in vertices]
    for part in parts:
        side = ("lh", "rh").index(part.hemi)
        rows[side] = np.isin(vertices[side], part.vertices)
    inside = np.concatenate(rows)
    if not inside.any():
        raise ValueError(
            f"label {label.name!r} has {len(label)} vertices, none of them among the "
            f"{inside.size} of the source space; expected some. Use a larger label, a denser "
            "source space, or check that both are of one subject."
        )
    return inside


# The course and its sign -------------------------------------------------------------------------


def _course(stc: Any, label: Any, src: Any, mode: Any, positive: Any) -> Course:
    if mode is None or mode not in MODES:
        reason = "None gives a course for each vertex, not one" if mode is None else "it is none"
        raise ValueError(f"mode is {mode!r} ({reason}); expected one of {list(MODES)}")
    mode = "mean_flip" if mode == "auto" else mode
    inside = _rows(label, stc.vertices)
    currents = stc.data[inside]
    check_finite("stc", currents, ("vertices of the label", "times"))
    check_size(
        "stc",
        float(np.abs(currents).max()),
        "dSPM and sLORETA are statistics without a unit: use method='MNE'.",
    )
    values = np.array(
        mne.extract_label_time_course(stc, label, src, mode=mode, verbose="error")[0], float
    )
    if not values.any():
        raise ValueError(
            f"stc is zero in label {label.name!r} (mode={mode!r}); expected a response there"
        )
    sign, orientation = _sign(values, stc.times, positive)
    if positive == "normals":
        orientation = _normals(currents, values, inside, stc, label, src, mode)
    return Course(sign * values, np.array(stc.times), orientation, mode, sign)


def _sign(values: NDArray, times: NDArray, positive: Any) -> tuple[int, str]:
    """By what to multiply the course so that a component has the sign that the user says."""
    if isinstance(positive, str) and positive == "normals":
        return 1, ""
    pair = isinstance(positive, list | tuple) and len(positive) == 2
    if not pair or not all(isinstance(x, Real) and not isinstance(x, bool) for x in positive):
        raise ValueError(
            f"positive is {positive!r}; expected 'normals' (positive is along the label's outward "
            "normals), or the time in s and the sign of a component that is known, such as "
            "(0.020, -1)"
        )
    time, wanted = float(positive[0]), positive[1]
    if wanted not in (1, -1):
        raise ValueError(f"positive has the sign {wanted!r} in {positive!r}; expected 1 or -1")
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)
    if not times[0] - step / 2 <= time <= times[-1] + step / 2:
        raise ValueError(
            f"positive has the time {time:g} s, but the response runs from {times[0]:g} to "
            f"{times[-1]:g} s; expected a time within. If it is in ms, divide it by 1000."
        )
    there = values[int(np.abs(times - time).argmin())]
    if abs(there) < _NO_COMPONENT * np.abs(values).max():
        raise ValueError(
            f"positive names a component at {time:g} s, but the moment is {there * 1e9:.3g} nAm "
            f"there, against {np.abs(values).max() * 1e9:.3g} nAm at the peak: too little to say "
            "what its sign is. Name the time of a peak."
        )
    sign = int(wanted * np.sign(there))
    named = "positive" if wanted == 1 else "negative"
    return sign, f"the component at {time:g} s is {named}, as named by the user"


def _normals(
    currents: NDArray,
    values: NDArray,
    inside: NDArray[np.bool_],
    stc: Any,
    label: Any,
    src: Any,
    mode: str,
) -> str:
    """How outward normals fix the sign, in words, with a warning where they hardly do."""
    n = len(currents)
    if mode == "max":
        return f"none: the largest magnitude over the {n} vertices of {label.name!r}"
    words = "positive is along outward normals, from deep to superficial"
    if mode in _FLIPS:
        normals = np.concatenate(
            [space["nn"][vertices] for space, vertices in zip(src, stc.vertices, strict=True)]
        )[inside]
        along = normals @ np.linalg.svd(normals, full_matrices=False)[2][0]
        if abs(along.mean()) < _NO_DIRECTION * np.abs(along).mean():
            warn_caller(
                f"label {label.name!r} has normals that point as much one way as the other, so "
                f"that mode={mode!r} with positive='normals' hangs on a few vertices. Use a label "
                "on one wall of the sulcus, or name a component, positive=(0.020, -1)."
            )
        turned = int((along * (np.sign(along.mean()) or 1) < 0).sum())
        words += f" where they point the label's main way ({turned} of {n} vertices turned round)"
    # How each vertex takes part in the course, by its sign and its strength.
    part = currents @ values
    if (part * np.abs(part)).sum() < 0:
        warn_caller(
            f"the course of label {label.name!r} (mode={mode!r}) is carried mostly by vertices at "
            "which current along the outward normal makes it negative, so that positive is not "
            "from deep to superficial there. Use a label on the wall that is active, or name a "
            "component whose sign is known, positive=(0.020, -1)."
        )
    return words


def _warn_of_magnitude() -> None:
    warn_caller(
        "mode is 'max', the largest magnitude over vertices: it has no sign, is not linear in the "
        "recording, and noise makes it larger, so that noise_sd stays unknown. Use 'pca_flip', "
        "'mean_flip' or 'mean'."
    )


# Noise -------------------------------------------------------------------------------------------


def _channel_weights(
    stc: Any, kernel: Any, label: Any, src: Any, course: Course
) -> NDArray[np.float64]:
    """What of each channel is in the course, (channels,): A m by its unit."""
    if course.mode != "pca_flip":
        found = mne.extract_label_time_course(kernel, label, src, mode=course.mode, verbose="error")
        return course.sign * found[0]
    # The course is a multiple of the first right singular vector v of the label's currents x. Its
    # weights of vertices are then x v, scaled so that they give it from x.
    currents = stc.data[_rows(label, stc.vertices)]
    part = currents @ course.values
    vertices = part * (course.values @ course.values) / (part @ part)
    return vertices @ kernel.data[_rows(label, kernel.vertices)]


def _noise_sd(
    weights: NDArray[np.float64], evoked: mne.Evoked, inverse_operator: Any, noise_cov: Any
) -> float:
    """Standard deviation of the noise of one sample of the average, in A m."""
    covariance, n_of_covariance = noise_cov, 1
    if noise_cov is None:
        covariance = inverse_operator["noise_cov"]
        n_of_covariance = inverse_operator["nave"]
    used = np.flatnonzero(weights)
    names = [evoked.ch_names[i] for i in used]
    absent = [name for name in names if name not in covariance["names"]]
    if absent:
        raise ValueError(
            f"noise_cov lacks {len(absent)} channel(s) of the inverse operator, {absent[:5]}; "
            "expected all of them. Estimate it from the same channels."
        )
    where = [covariance["names"].index(name) for name in names]
    data = covariance["data"]
    matrix = np.diag(data[where]) if data.ndim == 1 else data[np.ix_(where, where)]
    variance = weights[used] @ matrix @ weights[used]
    return float(np.sqrt(variance * n_of_covariance / evoked.nave))
