"""Fields of SPM's parameter structures for evoked responses: their order and their shapes.

SPM stacks a structure's fields into one vector, cell by cell and column by column; posterior
covariances are in this order. Readers of MATLAB files drop dimensions of length one; here they come
back. Symbols are SPM's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_fields import dense, is_empty
from bayesdcm.data.validation import read_only

__all__ = ["Shapes", "cells", "entries", "neural_fields", "read_fields", "spatial_fields"]

Shape = tuple[int | None, ...]
"""Lengths of axes; None stands for any."""
Shapes = Mapping[str, Shape]
"""Shapes of fields by symbol, in SPM's order."""

CELLS = ("A", "B", "N")
"""Fields that are cell arrays of matrices."""


def neural_fields(neural: str, n: int, n_inputs: int, n_effects: int) -> Shapes:
    """Shapes of a neural model's fields by symbol, in the order of SPM's parameter vector.

    Cell arrays have their cells along the first axis, and rows are vectors.
    """
    A, B, C = (3, n, n), (n_effects, n, n), (n, n_inputs)
    D, R, T = (n, n), (n_inputs, 2), (n, 2)
    shapes: dict[str, dict[str, Shape]] = {
        "erp": {"T": T, "G": (n, 2), "S": (2,), "A": A, "B": B, "C": C, "H": (4,), "D": D, "R": R},
        "cmc": {"M": (n, n), "A": (4, n, n), "B": B, "N": B, "C": C, "T": (None,), "G": (n, None),
                "D": D, "S": (), "R": R},
        "lfp": {"R": (2,), "T": T, "G": (n,), "H": (n, 5), "A": A, "B": B, "C": C, "D": D, "I": ()},
        "nmda": {"S": (), "T": (n,), "G": (n,), "A": A, "B": B, "C": C, "SA": (3, 3), "GE": (3, 3),
                 "GI": (3, 3), "R": R, "D": (2,), "U": (), "CV": ()},
    }  # fmt: skip
    return shapes[neural]


def spatial_fields(observation: str, n: int) -> Shapes:
    """Shapes of the observation's fields by symbol, in the order of SPM's parameter vector.

    Positions ``Lpos`` (3, sources), gains ``L`` (axes or modes, sources) or (channels,), and
    contributions of states ``J`` (states,).
    """
    positions = (3, n if observation == "ecd" else 0)
    gains: dict[str, Shape] = {"ecd": (3, n), "img": (None, n), "lfp": (None,)}
    return {"Lpos": positions, "L": gains[observation], "J": (None,)}


def cells(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Matrices of a cell array, stacked along a new first axis; none for an empty field.

    The field as read is a list, or the one matrix of a cell array that had one.
    """
    if is_empty(value):
        return np.zeros((0, *shape))
    # Cells that hold one number each may come as a vector of them.
    split = isinstance(value, list) or (np.prod(shape) == 1 and np.ndim(value) == 1)
    entries = list(value) if split else [value]
    return np.stack([dense(f"{name}{{{i + 1}}}", entry, shape) for i, entry in enumerate(entries)])


def read_fields(
    name: str,
    structure: Any,
    shapes: Shapes,
    *,
    ordered: bool,
    of_cells: tuple[str, ...] = CELLS,
) -> dict[str, NDArray[np.float64]]:
    """Fields of a parameter structure, read-only, in the order of SPM's parameter vector.

    That is the structure's own order if `ordered`, else that of `shapes`. Raises `ValueError` where
    fields are missing or unknown, or have another shape.
    """
    if not isinstance(structure, Mapping):
        raise ValueError(f"{name} is not a structure")
    if set(structure) != set(shapes):
        raise ValueError(f"{name} has the fields {sorted(structure)}, not {sorted(shapes)}")
    fields = {}
    for symbol in structure if ordered else shapes:
        full = f"{name}.{symbol}"
        value, shape = structure[symbol], shapes[symbol]
        if symbol in of_cells:
            array = cells(full, value, shape[1:])  # type: ignore[arg-type]
            if len(array) != shape[0]:
                raise ValueError(f"{full} has {len(array)} cells, not {shape[0]}")
        elif is_empty(value) and (0 in shape or None in shape):
            array = np.zeros([length or 0 for length in shape])
        else:
            array = dense(full, value, shape)
        fields[symbol] = read_only(array)
    return fields


def entries(
    fields: Mapping[str, NDArray[np.float64]], of_cells: tuple[str, ...] = CELLS
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Symbol and index of every entry, in the order of SPM's parameter vector.

    >>> entries({"T": np.zeros((2, 2)), "S": np.zeros(())})
    (('T', (0, 0)), ('T', (1, 0)), ('T', (0, 1)), ('T', (1, 1)), ('S', ()))
    """
    places = []
    for symbol, array in fields.items():
        cells = int(symbol in of_cells)
        # Cell by cell, and column by column in each.
        order = sorted(np.ndindex(array.shape), key=lambda i, n=cells: (i[:n], i[n:][::-1]))
        places += [(symbol, index) for index in order]
    return tuple(places)
