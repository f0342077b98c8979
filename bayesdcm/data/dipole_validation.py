"""Checks that only current dipoles need: their unit, size, times, layers and noise.

Each raises an error that names the argument, what came, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.evoked_validation import check_times
from bayesdcm.data.validation import check_positive, check_real_array, describe, warn_caller

__all__ = [
    "LAYERS",
    "MOMENT_UNITS",
    "TIME_UNITS",
    "check_count",
    "check_dipole",
    "check_dipole_times",
    "check_layers",
    "check_noise_sd",
    "check_size",
    "check_smoothing",
    "check_text",
    "factor_of",
]

LAYERS = ("L2", "L5")
"""Layers of the column: pyramidal cells of layers 2/3 and of layer 5."""

MOMENT_UNITS = {"Am": 1.0, "A m": 1.0, "nAm": 1e-9, "nA m": 1e-9}
"""Units of dipole moments, and what one of each is in A m."""

TIME_UNITS = {"s": 1.0, "ms": 1e-3}
"""Units of time, and what one of each is in s."""

# Strong epileptic spikes have some 1e-6 A m.
_STRONGEST = 1e-5
# A single pyramidal cell has some 1e-13 A m.
_WEAKEST = 1e-14
# Responses to a stimulus, in s: longer ones are times in ms, shorter ones were divided twice.
_LONGEST, _SHORTEST = 20.0, 2e-3
# Slower sampling cannot show the response of a column.
_LONGEST_STEP = 0.02
# Text files round layers and their sum to 1e-4 nAm each.
_LAYER_ROUNDING = 2e-13


def factor_of(name: str, unit: object, units: Mapping[str, float]) -> float:
    """What one of a unit is in the SI's."""
    if not isinstance(unit, str) or unit not in units:
        raise ValueError(f"{name} must be one of {list(units)}, got {describe(unit)}")
    return units[unit]


def check_dipole(dipole: ArrayLike) -> NDArray[np.float64]:
    """Return the moment, (times,) in A m, as a read-only array that varies and is of a size."""
    checked = check_real_array("dipole", dipole, ("times",))
    largest = float(np.abs(checked).max())
    if np.ptp(checked) <= 8 * np.finfo(float).eps * largest:
        raise ValueError(
            f"dipole is constant over time ({checked[0]:g} throughout); expected a response that "
            "varies. Check the label, the drives, or how it was averaged."
        )
    check_size(
        "dipole",
        largest,
        "If the numbers are nAm, use DipoleData.from_arrays(..., unit='nAm'); if a simulation was "
        "multiplied by a number of columns (hnn-core's scale(3000)) twice, or a measured dipole "
        "once, divide by it.",
    )
    if largest < _WEAKEST:
        warn_caller(
            f"dipole has values up to {largest:.3g} A m only, less than a single pyramidal cell; "
            "expected A m (a region has some 1e-8). If the numbers were converted from nAm twice, "
            "convert them once."
        )
    return checked


def check_size(name: str, largest: float, advice: str) -> None:
    """Raise `ValueError` where moments are larger than any that a region of cortex has."""
    if largest > _STRONGEST:
        raise ValueError(
            f"{name} has values up to {largest:.3g} A m ({largest * 1e9:.3g} nAm); expected A m of "
            f"ordinary size, at most {_STRONGEST:g} (evoked responses of a region have some 1e-8, "
            f"that is 10 nAm). {advice}"
        )


def check_dipole_times(times: ArrayLike, n_times: int) -> NDArray[np.float64]:
    """Return times, (times,) in s, that increase in equal steps and look like seconds."""
    checked = check_real_array("times", times, ("times",))
    if checked.size != n_times:
        raise ValueError(
            f"times has {checked.size} entries, but dipole has {n_times}; expected one time for "
            "each sample. Crop both alike."
        )
    if checked.size >= 2:
        step = float(checked[-1] - checked[0]) / (checked.size - 1)
        if step > _LONGEST_STEP or checked[-1] - checked[0] > _LONGEST:
            raise ValueError(
                f"times run from {checked[0]:g} to {checked[-1]:g} in steps of {step:g}; expected "
                f"seconds from the stimulus, {_LONGEST_STEP:g} apart at most, {_LONGEST:g} in all. "
                "If they are in ms, use DipoleData.from_arrays(..., time_unit='ms')."
            )
    checked = check_times(checked, n_times)
    if checked[-1] - checked[0] < _SHORTEST:
        raise ValueError(
            f"times run from {checked[0]:g} to {checked[-1]:g} s, {checked[-1] - checked[0]:.3g} s "
            f"in all; expected a response of {_SHORTEST:g} s or more. If they were seconds "
            "already, give time_unit='s'."
        )
    return checked


def check_layers(
    layers: object, dipole: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]] | None:
    """Return the moments of the layers, which add up to the dipole, or None."""
    if layers is None:
        return None
    if not isinstance(layers, Mapping):
        raise TypeError(
            f"layers must be a mapping of {LAYERS} to arrays, got {describe(layers)}. Give "
            "{'L2': ..., 'L5': ...}, or leave it out."
        )
    if sorted(map(str, layers)) != sorted(LAYERS):
        raise ValueError(f"layers has the names {list(layers)}; expected {list(LAYERS)}")
    checked = {
        name: check_real_array(f"layers[{name!r}]", layers[name], ("times",)) for name in LAYERS
    }
    for name, values in checked.items():
        if values.shape != dipole.shape:
            raise ValueError(
                f"layers[{name!r}] has {values.size} entries, but dipole has {dipole.size}; "
                "expected the same times"
            )
    distance = float(np.abs(sum(checked.values()) - dipole).max())
    if distance > 0.05 * np.abs(dipole).max() + _LAYER_ROUNDING:
        raise ValueError(
            f"layers add up to another moment than dipole, by up to {distance:.3g} A m; expected "
            "L2 + L5 = dipole. Scale, smooth and average all three alike."
        )
    return checked


def check_noise_sd(value: Any, dipole: NDArray[np.float64]) -> float | None:
    """Return the standard deviation of a sample's noise, in A m, or None."""
    if value is None:
        return None
    checked = check_positive("noise_sd", value, "A m")
    if checked > 1e4 * np.abs(dipole).max():
        raise ValueError(
            f"noise_sd is {checked:.3g} A m, but dipole has values up to "
            f"{np.abs(dipole).max():.3g} A m; expected the noise of one sample of this average, "
            "in the same unit. If it is in nAm, multiply it by 1e-9."
        )
    return checked


def check_count(value: Any) -> int:
    """Return the number of averages, a whole number from 1 on."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"n_averages must be a whole number of at least 1, got {value!r}. Give the number of "
            "trials that were averaged, 1 for a single one."
        )
    return int(value)


def check_smoothing(value: Any, times: NDArray[np.float64], name: str = "smoothing") -> float:
    """Return the width of a window in s, from 0 to the length of the response."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be one number in s, got {describe(value)}. Give e.g. 0.02.")
    width = float(value)
    length = float(times[-1] - times[0])
    if not 0 <= width <= length:
        raise ValueError(
            f"{name} is {width:g} s, but the response is {length:g} s long; expected the width of "
            "a window in s, from 0 to that. If it is in ms, divide it by 1000."
        )
    return width


def check_text(name: str, value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name} must be a text that is not empty, got {describe(value)}")
    return value
