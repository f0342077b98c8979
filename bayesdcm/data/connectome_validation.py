"""Checks that only connectomes need; each says what came, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.named_axes import axis_names, in_order
from bayesdcm.data.validation import check_real_array, describe, some_names, warn_caller

__all__ = [
    "check_bold",
    "check_centres",
    "check_functional_connectivity",
    "check_lengths",
    "check_square",
    "check_weights",
    "warn_of_self_connections",
]

_AXES = ("targets", "sources")
# The longest tract of a brain, in mm, is longer than the first (of a mouse) and shorter than the
# second; others are in m, or in micrometres.
_LONGEST = (1.0, 1000.0)
# Coordinates of a human brain do not all lie within the first and not beyond the second, in mm.
_FARTHEST = (2.0, 200.0)
_ROUNDING = 1e-6


def check_square(name: str, value: ArrayLike, axes: Sequence[str] = _AXES) -> NDArray[np.float64]:
    """Return a matrix over pairs of regions as a read-only array."""
    matrix = check_real_array(name, value, axes)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"{name} has shape {matrix.shape}; expected a square matrix, one row and one column "
            "for each region. If a row or column holds names or numbers of the regions, leave it "
            "out."
        )
    return matrix


def check_weights(
    value: Any, names: Sequence[str] | None
) -> tuple[NDArray[np.float64], Sequence[str] | None]:
    """Return the weights, targets x sources, and the names that they bring or that were given."""
    rows, columns = axis_names(value, 0), axis_names(value, 1)
    if names is None:
        names = columns if rows is None else rows
    if names is not None and not isinstance(names, str):
        names = list(names)
        source = ("region_names", names)
        value = in_order("weights", value, {0: source, 1: source})
    weights = check_square("weights", value)
    _refuse_negative("weights", weights, "strengths of at least 0; inhibition is a matter of nodes")
    if not weights.any():
        raise ValueError("weights are all 0; expected at least one connection above 0")
    return weights, names


def check_lengths(
    value: Any, weights: NDArray[np.float64], names: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return the lengths in mm, present wherever there are weights; None where they are None."""
    if value is None:
        return None
    source = ("region_names", names)
    lengths = check_square("lengths", in_order("lengths", value, {0: source, 1: source}))
    if lengths.shape != weights.shape:
        raise ValueError(
            f"lengths has shape {lengths.shape}, weights {weights.shape}; expected the same "
            "regions in both. Leave the same regions out of both."
        )
    _refuse_negative("lengths", lengths, "lengths in mm of at least 0")
    missing = (weights > 0) & (lengths == 0) & ~np.eye(len(weights), dtype=bool)
    if missing.any():
        target, source_index = (int(i) for i in np.argwhere(missing)[0])
        raise ValueError(
            f"lengths is 0 for {int(missing.sum())} connection(s) whose weight is not, the first "
            f"to {names[target]!r} from {names[source_index]!r}; expected a length in mm for every "
            "connection. Give the missing lengths, set these weights to 0, or leave lengths out."
        )
    _warn_of_scale("lengths", float(lengths.max()), _LONGEST, "the longest is")
    return lengths


def check_centres(value: Any, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the centres, (regions, 3) in mm; None where they are None."""
    if value is None:
        return None
    value = in_order("centres", value, {0: ("region_names", names)})
    centres = check_real_array("centres", value, ("regions", "3"))
    if centres.shape != (len(names), 3):
        raise ValueError(
            f"centres has shape {centres.shape}; expected ({len(names)}, 3): x, y and z in mm for "
            "each region. Transpose it if it is (3, regions)."
        )
    _warn_of_scale("centres", float(np.abs(centres).max()), _FARTHEST, "the largest coordinate is")
    return centres


def check_functional_connectivity(value: Any, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Return correlations between regions, symmetric; None where they are None."""
    if value is None:
        return None
    argument, source = "functional_connectivity", ("region_names", names)
    value = in_order(argument, value, {0: source, 1: source})
    matrix = check_square(argument, value, ("regions", "regions"))
    if len(matrix) != len(names):
        raise ValueError(
            f"{argument} has shape {matrix.shape}, but there are {len(names)} regions; expected "
            "one row and one column for each"
        )
    if np.abs(matrix).max() > 1 + _ROUNDING or np.abs(matrix - matrix.T).max() > _ROUNDING:
        raise ValueError(
            f"{argument} must be a symmetric matrix of correlations between -1 and 1; got values "
            f"from {matrix.min():.3g} to {matrix.max():.3g}. Fisher's z is undone by np.tanh"
        )
    return matrix


def check_bold(value: Any, names: Sequence[str]) -> tuple[BoldData, ...]:
    """Return the runs with their regions in the order of names."""
    runs = (value,) if isinstance(value, BoldData) else tuple(value or ())
    wrong = [run for run in runs if not isinstance(run, BoldData)]
    if wrong:
        raise TypeError(
            f"bold must hold objects of BoldData, got {describe(wrong[0])}. Construct "
            "BoldData(signal, repetition_time, region_names=...) first."
        )
    for run in runs:
        if sorted(run.region_names or ()) != sorted(names):
            raise ValueError(
                f"bold has the regions {some_names(run.region_names or ())}; expected those of "
                f"the connectome, {some_names(names)}, in any order. Name the same regions alike."
            )
    return tuple(
        run if run.region_names == tuple(names) else run.reordered(region_names=names)
        for run in runs
    )


def warn_of_self_connections(weights: NDArray[np.float64], names: Sequence[str]) -> None:
    """Warn where regions are connected to themselves."""
    own = np.flatnonzero(np.diag(weights))
    if own.size:
        warn_caller(
            f"weights connect {own.size} region(s) to themselves, the first {names[own[0]]!r}; "
            "networks treat that like any other connection. If it is a by-product of tractography, "
            "use connectome.without_self_connections()"
        )


def _refuse_negative(name: str, matrix: NDArray[np.float64], expected: str) -> None:
    if (matrix < 0).any():
        place = tuple(int(i) for i in np.argwhere(matrix < 0)[0])
        raise ValueError(
            f"{name} has {int((matrix < 0).sum())} entries below 0, the first ({matrix[place]:g}) "
            f"at index {place} of (target, source); expected {expected}"
        )


def _warn_of_scale(name: str, largest: float, usual: tuple[float, float], words: str) -> None:
    if not usual[0] <= largest <= usual[1]:
        warn_caller(f"{name} must be in mm, and {words} {largest:.3g}; convert them to mm")
