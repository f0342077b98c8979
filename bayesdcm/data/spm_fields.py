"""Fields of MATLAB structures as plain arrays, flags and names.

Readers of MATLAB files drop dimensions of length one and keep sparse arrays sparse. The functions
here restore shapes, which are known from the numbers of regions and inputs, and refuse all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.validation import describe

__all__ = ["completed", "dense", "flag", "is_empty", "n_columns", "names_of", "nested", "optional"]


def nested(structure: Any, *names: str) -> Any:
    """Field of structures within structures; None where one is absent."""
    for name in names:
        structure = structure.get(name) if isinstance(structure, Mapping) else None
    return structure


def is_empty(value: object) -> bool:
    """Whether a field is absent or an empty array, which MATLAB users take for the same."""
    if hasattr(value, "toarray"):
        return 0 in value.shape
    if isinstance(value, (str, list)):
        return not value
    return value is None or (not isinstance(value, Mapping) and np.size(value) == 0)


def dense(name: str, value: Any, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """A number, array or sparse array as float64 with the dimensions it had in MATLAB.

    None in `shape`, once, stands for any length. Raises `ValueError` for other shapes and what is
    not real numbers.
    """
    # Cell arrays come as lists.
    raw = value if hasattr(value, "toarray") or isinstance(value, list) else np.asarray(value)
    if isinstance(raw, list) or raw.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold real numbers, got {describe(value)}. Save it as a numeric array."
        )
    full = completed(raw, shape)
    if [length for length in raw.shape if length != 1] != [each for each in full if each != 1]:
        expected = " x ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(
            f"{name} has shape {raw.shape}; expected {expected or 'one number'} (dimensions of "
            "length 1 aside). Check the numbers of regions and inputs in the file."
        )
    # Column-major, as MATLAB stores arrays: lost dimensions of length one come back in place.
    return np.reshape(_filled(name, raw).astype(np.float64), full, order="F")


def _filled(name: str, array: Any) -> NDArray[Any]:
    if not hasattr(array, "toarray"):
        return array
    try:
        # SciPy trusts the indices and would write outside the array where a file is damaged.
        array.check_format(full_check=True)
        return array.toarray()
    except (ValueError, MemoryError) as error:
        raise ValueError(
            f"{name} is a damaged sparse array ({error}); expected valid indices. Save it again."
        ) from error


def completed(value: Any, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Shape with its one unknown length worked out from the number of entries."""
    known = int(np.prod([length for length in shape if length is not None], dtype=int))
    size = int(np.prod(getattr(value, "shape", ()), dtype=int))
    return tuple(size // max(known, 1) if length is None else length for length in shape)


def optional(name: str, value: Any, shape: tuple[int | None, ...], default: Any = None) -> Any:
    """A field as `dense`, or a default where it is empty."""
    return default if is_empty(value) else dense(name, value, shape)


def n_columns(value: Any) -> int:
    """Number of columns of a matrix of more than one row, 1 where the dimension was dropped."""
    shape = getattr(value, "shape", ())
    return shape[1] if len(shape) == 2 else 1


def flag(options: Mapping[str, Any], name: str) -> bool:
    """Whether an option is present, not empty and not zero, as MATLAB's ``if`` takes a number."""
    value = options.get(name)
    if is_empty(value) or isinstance(value, (str, list, Mapping)):
        return False
    return bool(np.any(_filled(name, value)))


def names_of(value: object) -> list[str] | None:
    """Names in a cell array of strings, a character matrix or one string; None for an empty one.

    Blanks around names are left out, and cells within cells taken in order.
    """
    if is_empty(value):
        return None
    if isinstance(value, str):
        return [value.strip()]
    if not isinstance(value, list) and getattr(value, "ndim", 0) == 0:
        raise ValueError(
            f"A list of names holds {describe(value)}; expected strings. Save names as a cell "
            "array of character vectors."
        )
    return [name for entry in value for name in names_of(entry) or [""]]
