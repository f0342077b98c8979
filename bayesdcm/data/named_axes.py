"""Tables where arrays are expected: the names along their axes count, not the places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from bayesdcm.data.validation import some_names, warn_caller

__all__ = ["axis_names", "check_unnamed", "columns_and_names", "in_order"]

# What pandas calls the first two axes; Series have the first alone.
_AXES = ("index", "columns")


def axis_names(value: Any, axis: int) -> list[str] | None:
    """Names along an axis of a table; None where it has none, or numbers that increase.

    Tables are DataFrames, Series and DataArrays of xarray; other values have no names.
    """
    dims, coords = getattr(value, "dims", None), getattr(value, "coords", None)
    if isinstance(dims, tuple) and hasattr(coords, "keys"):
        known = axis < len(dims) and dims[axis] in coords
        labels = np.asarray(coords[dims[axis]]) if known else None
    else:
        labels = getattr(value, _AXES[axis], None) if axis < len(_AXES) else None
    # Lists and tuples have a method `index`.
    if labels is None or callable(labels):
        return None
    entries = list(labels)
    numbers = all(isinstance(entry, Real) for entry in entries)
    if numbers and all(a < b for a, b in zip(entries, entries[1:], strict=False)):
        return None
    return [str(entry) for entry in entries]


def in_order(argument: str, value: Any, wanted: Mapping[int, tuple[str, Sequence[str]]]) -> Any:
    """A table as an array whose axes are in the order of names; other values as they are.

    `wanted` holds by axis where names come from, for the messages, and the names. Raises
    `ValueError` for other names, and warns once if axes are put in another order.
    """
    result, moved = value, []
    for axis, (names_of, names) in wanted.items():
        labels = axis_names(value, axis)
        if labels is None:
            continue
        result, names = np.asarray(result), list(names)
        if labels == names:
            continue
        dims = getattr(value, "dims", None)
        word = repr(dims[axis]) if isinstance(dims, tuple) else _AXES[axis]
        if sorted(labels) != sorted(names):
            raise ValueError(
                f"the {word} of {argument} has {some_names(labels)}; expected {names_of}, "
                f"{some_names(names)}, in any order. Name the same things alike, or give "
                f"{argument}.to_numpy() if it is in their order"
            )
        moved.append(f"{word} in that of {names_of}, {some_names(names)}")
        result = np.take(result, [labels.index(name) for name in names], axis=axis)
    if moved:
        warn_caller(f"{argument} was put in another order, by name: {'; '.join(moved)}")
    return result


def columns_and_names(
    argument: str, value: Any, names_of: str, names: Sequence[str] | None
) -> tuple[Any, Any]:
    """An array and the names of its columns, which a table brings if none are given.

    A table with names comes back as an array in the order of `names`; other things as they are.
    """
    labels = axis_names(value, 1)
    if labels is None:
        return value, names
    if names is None:
        return np.asarray(value), labels
    if isinstance(names, str) or not isinstance(names, Iterable):
        # Refused where names are checked.
        return value, names
    names = list(names)
    return in_order(argument, value, {1: (names_of, names)}), names


def check_unnamed(argument: str, value: Any, what: str) -> None:
    """Raise `ValueError` where a table with names comes for an array that counts places."""
    if isinstance(value, list | tuple):
        for entry in value:
            check_unnamed(argument, entry, what)
    for axis in range(len(getattr(value, "shape", ()))):
        names = axis_names(value, axis)
        if names is not None:
            raise ValueError(
                f"{argument} is a table with the names {some_names(names)}, but counts by "
                f"position; {what}"
            )
