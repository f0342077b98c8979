"""Checks that only cross-spectra need: frequencies, Hermitian matrices, samples behind them, units.

Each raises an error that names the argument, what came, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold_validation import UNITS as BOLD_UNITS
from bayesdcm.data.validation import check_real_array, describe, read_only, some_names

__all__ = [
    "KINDS",
    "check_conditions",
    "check_degrees_of_freedom",
    "check_frequencies",
    "check_independent",
    "check_kind",
    "check_spectra",
    "check_unit",
    "factor_to_si",
]

KINDS = {"bold": "percent", "eeg": "V", "meg": "T", "lfp": "V"}
"""Kinds of series and the unit of each where none is given."""

# Units of series, and how many SI units one is.
_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
_SI = ("V", "T", "T/m", "A m")
# Rounding of estimates, relative to the roots of the products of powers.
_TOLERANCE = 1e-6
# Eigenvalues of coherencies that count as zero, relative to the largest.
_SINGULAR = 1e-13


def check_kind(kind: object) -> str:
    """Return the kind of series, one of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    return str(kind)


def check_unit(unit: object, kind: str) -> str:
    """Return the unit of the series; that of the kind for None."""
    if unit is None:
        return KINDS[kind]
    known = BOLD_UNITS if kind == "bold" else (*_SI, "arbitrary")
    if unit not in known:
        raise ValueError(
            f"unit is {unit!r}; expected that of the series, for kind {kind!r} one of "
            f"{', '.join(map(repr, known))}. SpectralData.from_arrays converts others."
        )
    return str(unit)


def factor_to_si(unit: str) -> tuple[float, str]:
    """How many of a unit of SI one unit of the series is, and that unit.

    >>> factor_to_si("uV")
    (1e-06, 'V')
    """
    if unit in (*BOLD_UNITS, "arbitrary"):
        return 1.0, unit
    for prefix, factor in _PREFIXES.items():
        if isinstance(unit, str) and unit.startswith(prefix) and unit[len(prefix) :] in _SI:
            return factor, unit[len(prefix) :]
    raise ValueError(
        f"unit is {unit!r}; expected that of the series (not its square), such as 'V', 'uV', 'fT', "
        "'percent' or 'arbitrary'"
    )


def check_frequencies(frequencies: ArrayLike) -> NDArray[np.float64]:
    """Return frequencies, (frequencies,), Hz, above 0 and increasing."""
    checked = check_real_array("frequencies", frequencies, ("frequencies",))
    if checked[0] <= 0:
        raise ValueError(
            f"frequencies start at {checked[0]:g} Hz; expected frequencies above 0, since means "
            "are not modelled. Leave them and their spectra out."
        )
    if not (np.diff(checked) > 0).all():
        first = int(np.flatnonzero(np.diff(checked) <= 0)[0])
        raise ValueError(
            f"frequencies must increase, but {checked[first + 1]:g} comes after "
            f"{checked[first]:g} Hz at index {first + 1}. Sort them with their spectra, once each."
        )
    return checked


def complex_spectra(name: str, value: ArrayLike) -> NDArray[np.complex128]:
    """Complex copy, (conditions, frequencies, channels, channels); the first axis may lack."""
    try:
        raw = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name} cannot be read as an array ({error}). Give a NumPy array."
        ) from error
    expected = "expected a complex array (conditions, frequencies, channels, channels)"
    if raw.dtype.kind not in "iufc":
        raise TypeError(f"{name} must hold numbers, got {describe(value)}; {expected}.")
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked entries; {expected} that is complete.")
    array = np.array(raw, np.complex128)
    array = array[np.newaxis] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[2] != array.shape[3] or 0 in array.shape:
        raise ValueError(
            f"{name} has shape {raw.shape}; {expected}, without the first axis for one condition. "
            "Put axes in this order."
        )
    if not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} has {int((~np.isfinite(array)).sum())} entries that are NaN or infinite, the "
            f"first at index {first} of (condition, frequency, channel, channel). Leave out those "
            "frequencies or channels, or estimate them anew."
        )
    return array


def check_spectra(
    spectra: ArrayLike, frequencies: NDArray[np.float64], names: tuple[str, ...] | None = None
) -> NDArray[np.complex128]:
    """Return cross-spectra, Hermitian with powers above 0 and coherence up to 1, read-only."""
    array = complex_spectra("spectra", spectra)
    if array.shape[1] != len(frequencies):
        raise ValueError(
            f"spectra has {array.shape[1]} frequencies, shape {array.shape}, but frequencies has "
            f"{len(frequencies)}; expected one matrix for each. Check the order of the axes, "
            "(conditions, frequencies, channels, channels)."
        )
    power = np.diagonal(array, axis1=2, axis2=3).real
    if not (power > 0).all():
        c, f, i = (int(k) for k in np.argwhere(~(power > 0))[0])
        raise ValueError(
            f"spectra has the power {power[c, f, i]:g} in channel {i} at {frequencies[f]:g} Hz "
            f"(condition {c}); expected powers above 0 on the diagonal. Leave out channels that "
            "are flat, and frequencies that filters removed."
        )
    size = np.sqrt(power[..., :, None] * power[..., None, :])
    gap = np.abs(array - array.conj().swapaxes(2, 3)) / size
    if gap.max() > _TOLERANCE:
        c, f, i, j = (int(k) for k in np.unravel_index(gap.argmax(), gap.shape))
        half = (
            " Only one half is filled: use SpectralData.from_csd for MNE-Python's."
            if (np.abs(np.tril(array, -1)).max() == 0 or np.abs(np.triu(array, 1)).max() == 0)
            else " Give S[i, j] = E[X_i conj(X_j)] for all pairs."
        )
        raise ValueError(
            f"spectra are not Hermitian: entry ({i}, {j}) at {frequencies[f]:g} Hz differs from "
            f"the conjugate of ({j}, {i}) by {gap.max():.3g} of the powers.{half}"
        )
    array = (array + array.conj().swapaxes(2, 3)) / 2
    smallest = np.linalg.eigvalsh(array / size)[..., 0]
    if smallest.min() < -_TOLERANCE * array.shape[2]:
        c, f = (int(k) for k in np.unravel_index(smallest.argmin(), smallest.shape))
        raise ValueError(
            f"spectra are no cross-spectra at {frequencies[f]:g} Hz (condition {c}): the matrix of "
            f"coherencies has the eigenvalue {smallest.min():.3g}; expected none below 0. Estimate "
            "all entries from the same samples."
        )
    return read_only(array)  # type: ignore[return-value, arg-type]


def check_conditions(conditions: Iterable[str] | None, count: int) -> Iterable[str] | None:
    """Return names of conditions as they came; "rest" for one condition without a name."""
    return ("rest",) if conditions is None and count == 1 else conditions


def check_degrees_of_freedom(value: Any, n_conditions: int, n_frequencies: int) -> Any:
    """Return degrees of freedom, (conditions,) or (conditions, frequencies), read-only, or None."""
    if value is None:
        return None
    given = np.asarray(value)
    if given.ndim == 0 and given.dtype.kind in "iuf":
        value = np.full(n_conditions, float(given))
    axes = ("conditions", "frequencies")[: max(1, min(given.ndim, 2))]
    checked = check_real_array("degrees_of_freedom", value, axes)
    if checked.shape not in ((n_conditions,), (n_conditions, n_frequencies)):
        raise ValueError(
            f"degrees_of_freedom has shape {checked.shape}; expected one number, "
            f"({n_conditions},) for the conditions, or ({n_conditions}, {n_frequencies}) for "
            "frequencies, too"
        )
    if (checked < 1).any():
        raise ValueError(
            f"degrees_of_freedom is {checked.min():g} at its smallest; expected 1 or more: the "
            "number of tapers times epochs or windows that were averaged"
        )
    return checked


def check_independent(
    spectra: NDArray[np.complex128], freedom: ArrayLike, names: Sequence[str]
) -> None:
    """Raise ValueError where channels are linear combinations of each other at all frequencies.

    Only where degrees of freedom are enough for spectra that are not singular, of which the
    Wishart distribution has a density.
    """
    if np.min(freedom) < len(names):
        return
    size = np.sqrt(np.diagonal(spectra, axis1=-2, axis2=-1).real)
    coherency = (spectra / (size[..., :, None] * size[..., None, :])).mean((0, 1))
    values, vectors = np.linalg.eigh(coherency)
    null = vectors[:, values <= _SINGULAR * len(names) * values[-1]]
    involved = np.flatnonzero((np.abs(null) > _TOLERANCE).any(1))
    if len(involved):
        raise ValueError(
            "data has spectra of signals that are linear combinations of each other, of "
            f"{some_names([names[i] for i in involved])}; expected signals of which none follows "
            "from others. Leave one of them out (data.pick)."
        )
