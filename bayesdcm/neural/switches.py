"""Switches of connections: binary and read-only arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.named_axes import check_unnamed


def switches(
    name: str, value: ArrayLike, shape: tuple[int | None, ...], axes: str
) -> NDArray[np.float64]:
    """A read-only float array of 0/1 switches; TypeError or ValueError if it is none.

    A length of None in `shape` allows any; `axes` says in messages what they are.

    Examples
    --------
    >>> switches("A", [[1, 0], [1, 1]], (2, 2), "to, from").tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    check_unnamed(name, value, advice(name, axes))
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array of 0 and 1 with axes ({axes}), got {value!r}"
        ) from error
    if array.ndim != len(shape) or any(
        want is not None and got != want for got, want in zip(array.shape, shape, strict=True)
    ):
        expected = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(
            f"{name} must have shape ({expected}) with axes ({axes}), got {array.shape}"
        )
    wrong = ~np.isin(array, (0.0, 1.0))
    if wrong.any():
        raise ValueError(
            f"{name} must hold only 0 (off) and 1 (on), got {array[wrong][0]:g}; "
            "priors belong to the model, not to its switches"
        )
    array.flags.writeable = False
    return array


def set_switches(model: Any, expected: Mapping[str, tuple[tuple[int | None, ...], str]]) -> None:
    """Check fields of a frozen dataclass as `switches`, by name their shape and axes."""
    for name, (shape, axes) in expected.items():
        object.__setattr__(model, name, switches(name, getattr(model, name), shape, axes))


def advice(name: str, axes: str) -> str:
    """What to do about a table with names."""
    return (
        f"a model holds no names of what its axes ({axes}) are: put {name} in the order of the "
        f"names in the data, such as {name}.loc[names, names], and give {name}.to_numpy()"
    )


def square(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """A square matrix of switches with axes (to, from), checked as by `switches`."""
    array = switches(name, value, (None, None), "to, from")
    if array.shape[0] != array.shape[1]:
        raise ValueError(
            f"{name} must be square, one row and one column a region, got shape {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    return array
