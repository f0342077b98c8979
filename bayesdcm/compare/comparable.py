"""Whether evidences or predictive densities of several fits may be put side by side.

They are densities of the data. Those of other data, of the same data times a factor or in another
form, such as rates of change, or with other confounds, whose coefficients have a flat prior, differ
by amounts that say nothing of the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.infer.modelled_data import ModelledData
from bayesdcm.infer.results import Fit

# Data come back from the units of a model with its rounding.
RELATIVE, ABSOLUTE = 1e-6, 1e-9


def check_named(fits: Any, example: str) -> None:
    """Raise where fits are not a mapping of two or more, such as the example."""
    if not isinstance(fits, Mapping):
        raise TypeError(
            f"fits must be a dict of named fits, such as {example}, got {type(fits).__name__}"
        )
    if len(fits) < 2:
        raise ValueError(f"fits must name at least two fits, got {len(fits)}")


def check_comparable(fits: Mapping[Any, Any], what: str = "evidence") -> None:
    """Raise where fits are not of the same data, as they enter the likelihood.

    Fits or results of `log_evidence` by name; what else has no data, such as numbers, is taken to
    be what the caller says. Observed data, the factor by which they were multiplied, channel modes
    and confounds must agree; for a ``"prediction"``, not the units of confounds, on which
    predictive densities do not depend.
    """
    if len(fits) < 2:
        return
    modelled = {
        name: item._modelled_data if isinstance(item, Fit) else getattr(item, "modelled_data", None)
        for name, item in fits.items()
    }
    known = {name: data for name, data in modelled.items() if data is not None and data.observed}
    first, *others = list(known) or [None]
    for other in others:
        difference = _difference(known[first], known[other], what)
        if difference:
            raise ValueError(
                f"fits must be of the same data, but {other!r} and {first!r} differ: {difference}"
            )


def check_subject(subject: Any, fits: Mapping[Any, Any]) -> None:
    """`check_comparable` for the models of one subject of a group, who is named in the error."""
    try:
        check_comparable(fits)
    except ValueError as error:
        raise ValueError(f"subject {subject!r}: {error}") from error


def _difference(one: ModelledData, two: ModelledData, what: str) -> str:
    """How data differ, in words; nothing where they do not."""
    unequal = _other_values(one.observed, two.observed)
    if unequal and all("modes_to_channels" in data.constants for data in (one, two)):
        return _other_channels(one.constants, two.constants)
    if unequal:
        return f"{unequal}; evidences and predictive densities of different data cannot be compared"
    return _other_form(one, two) or _other_scale(one, two) or _other_confounds(one, two, what)


def _other_values(one: Mapping[str, NDArray], two: Mapping[str, NDArray]) -> str:
    if set(one) != set(two):
        # Programs may name the same data otherwise.
        one, two = ({"data": np.concatenate([v.ravel() for v in d.values()])} for d in (one, two))
    for name, values in one.items():
        if values.shape != two[name].shape:
            return f"{name} has shapes {two[name].shape} and {values.shape}"
        close = _close(values, two[name])
        if close.all():
            continue
        if _close(*(np.sort(part, axis=None) for part in (values, two[name]))).all():
            return (
                f"{name} has the same values in another order; put regions, or conditions and "
                "channels, in one order by name (data.reordered) and fit again"
            )
        return f"{name} has other values in {int((~close).sum())} of {close.size} entries"
    return ""


def _close(one: ArrayLike, two: ArrayLike) -> NDArray[np.bool_]:
    size = np.abs(one).max(initial=0)
    return np.isclose(one, two, rtol=RELATIVE, atol=ABSOLUTE * size, equal_nan=True)


def _other_channels(one: Mapping[str, NDArray], two: Mapping[str, NDArray]) -> str:
    """Evoked data are modelled in channel modes, which depend on sources and noise."""
    for name in ("modes_to_channels", "channels"):
        parts = [constants.get(name) for constants in (one, two)]
        if any(part is None for part in parts):
            continue
        if parts[0].shape == parts[1].shape and _close(*parts).all():
            continue
        if name == "modes_to_channels":
            return (
                "they model other channel modes, which follow from the sources and the noise "
                "covariance; give all models those of one of them, "
                "EvokedDCM(..., modes=one.channel_space(data).modes)"
            )
    return (
        "the channels have other values once drifts are removed and the window is applied; give "
        "all models the same data, n_confounds and hanning"
    )


def _other_form(one: ModelledData, two: ModelledData) -> str:
    """Rates of change, spectra and signals have other densities, whose units alone matter."""
    forms = [
        [values / np.max(data.constants.get("scale", 1.0)) for values in data.entered.values()]
        for data in (one, two)
    ]
    if not all(forms):
        return ""
    first, second = (np.concatenate([values.ravel() for values in form]) for form in forms)
    if first.shape == second.shape and _close(first, second).all():
        return ""
    return (
        "they enter the likelihood in other forms, such as signals, their rates of change or "
        "spectra, covariances or entries of them, whose densities are of different quantities; "
        "compare models of one class with one likelihood"
    )


def _other_scale(one: ModelledData, two: ModelledData) -> str:
    # Programs model data as they are.
    scales = [data.constants.get("scale", None if data.constants else 1.0) for data in (two, one)]
    if None in scales or _close(*scales).all():
        return ""
    n = sum(values.size for values in one.observed.values())
    return (
        f"the data were multiplied by {scales[0]:.6g} and by {scales[1]:.6g} to be modelled, which "
        f"alone changes the log-density of {n} points by "
        f"{n * abs(np.log(scales[1] / scales[0])):.1f} nats; fit both with models that scale alike "
        "(of TaskDCM, integrator='bilinear' has SPM's scaling, others have none)"
    )


def _other_confounds(one: ModelledData, two: ModelledData, what: str) -> str:
    first, second = _confounds(two, one) or (np.zeros(0),) * 2
    if np.array_equal(first, second):
        return ""
    # NumPy 2.1 has no rank of matrices without columns.
    numbers = [
        np.linalg.matrix_rank(part / _sizes(part)) if part.size else 0 for part in (first, second)
    ]
    reason = "confounds have a flat prior, so that evidence depends on their number and unit"
    if numbers[0] != numbers[1]:
        return (
            f"they have {numbers[0]} and {numbers[1]} confounds; {reason}: fit all models with "
            "the same confounds"
        )
    same_length = len(first) == len(second)
    within, outside = _seen_from(first, second) if same_length else (np.eye(0), True)
    if outside:
        return (
            f"their {numbers[0]} confounds are not the same; {reason}: fit all models with the "
            "same confounds"
        )
    if what == "evidence" and not _close(within, np.eye(len(within))).all():
        return (
            f"their confounds are the same but for units or scaling; {reason}: give all models "
            "confounds in the same units and fit them with one integrator. TaskDCM makes confounds "
            "orthonormal, so that their unit does not matter, except with "
            "integrator='bilinear', which has them as SPM has"
        )
    return ""


def _confounds(one: ModelledData, two: ModelledData) -> tuple[NDArray, NDArray] | None:
    """Confounds of both, as the likelihood has them if that is known; else None."""
    # What programs do not give to `gaussian`, they do not have.
    none = {"modelled_confounds": np.zeros((0, 0))}
    both = [data.constants or none for data in (one, two)]
    for name in ("modelled_confounds", "confounds"):
        if all(name in constants for constants in both):
            return tuple(np.asarray(constants[name], float) for constants in both)
    return None


def _sizes(confounds: NDArray) -> NDArray:
    size = np.abs(confounds).max(0, initial=0)
    return np.where(size > 0, size, 1.0)


def _seen_from(one: NDArray, two: NDArray) -> tuple[NDArray, bool]:
    """The covariance that `two` gives a signal, in units of that of `one`, and what is beyond it.

    Directions are compared each in its own size: that of a small confound counts as much, since
    the prior is wide in all of them.
    """
    one, two = one / _sizes(one).max(initial=0), two / _sizes(one).max(initial=0)
    vectors, values, _ = np.linalg.svd(one, full_matrices=False)
    kept = values > values[:1] * len(one) * np.finfo(float).eps
    inside = vectors[:, kept].T @ two
    beyond = two - vectors[:, kept] @ inside
    size = np.linalg.norm(two, axis=0)
    outside = (np.linalg.norm(beyond, axis=0) > RELATIVE * size).any()
    seen = inside / values[kept, None]
    return seen @ seen.T, bool(outside)
