"""Checks of arguments that several data classes and readers share.

Each function returns the argument in the one form the package works with (float64, C-contiguous,
read-only arrays; plain floats; tuples of strings) or raises an error that names the argument, what
came, what was expected and what to do. Nothing is clipped, reshaped or dropped.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "check_finite",
    "check_names",
    "check_order",
    "check_positive",
    "check_real_array",
    "check_whole",
    "describe",
    "read_only",
    "some_names",
    "warn_caller",
]

# Names beyond these are counted in messages.
SHOWN = 5


def warn_caller(text: str) -> None:
    """Warn where code outside the package called it, however deep the fault was found."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def some_names(names: Sequence[Any]) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _is_ours(module: str) -> bool:
    # These stand between the package's functions and their callers.
    return module.partition(".")[0] in ("bayesdcm", "contextlib", "dataclasses")


def describe(value: object) -> str:
    """A value in a few words, for messages: its type with shape and dtype, or a short `repr`."""
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__} of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def check_real_array(
    name: str, value: ArrayLike, axes: Sequence[str], *, allow_bool: bool = False
) -> NDArray[np.float64]:
    """Read-only, C-contiguous float64 copy of an array of finite real numbers.

    `axes` says what each axis counts, such as ``("scans", "regions")``; none may be empty. Raises
    `TypeError` for other kinds of values, and `ValueError` for missing, infinite or masked entries
    and another number of dimensions.
    """
    raw = _to_numeric(name, value, "biuf" if allow_bool else "iuf")
    expected = f"expected an array of shape ({', '.join(axes)}{',' * (len(axes) == 1)})"
    if raw.ndim != len(axes):
        raise ValueError(
            f"{name} has {raw.ndim} dimension(s), shape {raw.shape}; {expected}. "
            f"{_dimension_advice(name, raw.ndim, len(axes))}"
        )
    if 0 in raw.shape:
        raise ValueError(
            f"{name} is empty, shape {raw.shape}; {expected} with at least one entry along each "
            "axis. Check how it was loaded."
        )
    array = np.array(raw, dtype=np.float64, order="C", copy=True)
    check_finite(name, array, axes)
    return read_only(array)


def read_only(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A contiguous array of the same shape that cannot be written to; copied only if it must be."""
    array = np.ascontiguousarray(values).reshape(values.shape)
    array.setflags(write=False)
    return array


def _to_numeric(name: str, value: ArrayLike, kinds: str) -> NDArray[Any]:
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} is a masked array with {np.ma.count_masked(value)} masked entries; expected "
            "complete data. Fill or remove them first."
        )
    try:
        raw = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name} cannot be read as an array ({error}); expected rows of equal length. "
            "Give a NumPy array."
        ) from error
    if raw.dtype.kind not in kinds:
        raise TypeError(
            f"{name} must hold real numbers, got {describe(value)} (dtype {raw.dtype}). "
            f"Convert it to a float array first, e.g. np.asarray({name}, dtype=float)."
        )
    return raw


def _dimension_advice(name: str, got: int, expected: int) -> str:
    if (got, expected) == (1, 2):
        return f"For a single column give {name}[:, np.newaxis]."
    if got == 0:
        return "Give one value per entry, even where they are equal."
    return "Select or reshape the axes before."


def check_finite(name: str, array: NDArray[np.float64], axes: Sequence[str]) -> None:
    """Raise `ValueError` where an array has entries that are NaN or infinite."""
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} has {int(bad.sum())} entries that are NaN or infinite, the first "
            f"({array[first]}) at index {first} of ({', '.join(axes)}); expected finite numbers "
            "throughout. Repair, interpolate or leave out the affected data first."
        )


def check_positive(name: str, value: float, unit: str) -> float:
    """Plain float of a finite number above zero, in a unit that messages name."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{name} must be one number in {unit}, got {describe(value)}. Give a float, e.g. 2.0."
        )
    number = float(value)
    if not np.isfinite(number) or number <= 0:
        raise ValueError(
            f"{name} must be a finite number of {unit} above 0, got {number}. "
            f"Give {name} in {unit}."
        )
    return number


def check_whole(name: str, value: Any, most: int | None = None) -> None:
    """Raise an error unless an option is a whole number of at least 1, and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1 or (most is not None and value > most):
        range_ = "at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name} must be {range_}, got {value}")


def check_names(
    name: str, value: Iterable[str] | None, count: int, noun: str, column_of: str
) -> tuple[str, ...]:
    """Tuple of as many different, non-empty names as there are columns of another argument.

    None gives ``"<noun> 1"``, ``"<noun> 2"``, ...
    """
    if value is None:
        return tuple(f"{noun} {i + 1}" for i in range(count))
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(
            f"{name} must be a list of {count} strings, got {describe(value)}. "
            f"Give one name for each column of {column_of}."
        )
    names = list(value)
    for entry in names:
        if not isinstance(entry, str):
            raise TypeError(
                f"{name} must hold strings only, got {describe(entry)} among {names}. "
                "Convert each name with str()."
            )
    if len(names) != count:
        raise ValueError(
            f"{name} has {len(names)} name(s), {names}, but {column_of} has {count} column(s). "
            "Give one name for each column, in the columns' order."
        )
    repeated = sorted({entry for entry in names if names.count(entry) > 1})
    if repeated or any(not entry.strip() for entry in names):
        fault = f"repeats {repeated}" if repeated else "has an empty name"
        raise ValueError(
            f"{name} {fault}, got {names}; expected different, non-empty names, because results "
            "are labelled by them. Rename them."
        )
    return tuple(str(entry) for entry in names)


def check_order(name: str, names: Iterable[str], known: Sequence[str]) -> list[int]:
    """Places in `known` of names, which must be the same in the order that is wanted."""
    wanted = [names] if isinstance(names, str) else list(names)
    if sorted(map(str, wanted)) != sorted(known):
        raise ValueError(
            f"{name} must name {', '.join(map(repr, known))} in the order that is wanted, each "
            f"once, got {wanted}"
        )
    places = list(known)
    return [places.index(entry) for entry in wanted]
