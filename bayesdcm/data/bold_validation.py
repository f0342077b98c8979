"""Checks that only BOLD data need: variation, coverage of the run, confounds and slice timing.

Each raises an error that names the argument, what came, what was expected and what to do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.validation import (
    check_positive,
    check_real_array,
    read_only,
    some_names,
    warn_caller,
)

__all__ = [
    "LARGEST_RANGE",
    "check_confounds",
    "check_coverage",
    "check_delays",
    "check_repetition_time",
    "check_signal",
    "check_unit",
    "check_variation",
]

# SPM's slice delay, in s, where none is given (spm_dcm_estimate).
_DEFAULT_DELAY = 1.0
# No BOLD run is sampled more slowly; a larger number is a time in milliseconds.
_LONGEST_REPETITION_TIME = 60.0
UNITS = ("percent", "fraction", "arbitrary", "z-scored")
# Ranges over a run, in percent, between which signals of the brain lie: single regions vary by some
# tenths at least, and the Balloon model itself cannot reach 20.
_LEAST_RANGE, LARGEST_RANGE = 0.2, 30.0
# Regions in the same unit differ less than this in their standard deviations.
_LARGEST_RATIO = 10.0


def check_signal(signal: ArrayLike) -> NDArray[np.float64]:
    """Return the signal, (scans, regions), as a read-only array of at least two scans."""
    checked = check_real_array("signal", signal, ("scans", "regions"))
    if checked.shape[0] < 2:
        raise ValueError(
            f"signal has one scan, shape {checked.shape}; expected a time series of shape "
            "(scans, regions). If it is (regions, scans), transpose it."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.ptp(checked - checked.mean(axis=0))
    if not np.isfinite(spread):
        raise ValueError(
            f"signal has values up to {np.abs(checked).max():g}, whose range overflows; expected "
            "percent or arbitrary units of ordinary size. Rescale it."
        )
    return checked


def check_variation(signal: NDArray[np.float64], names: tuple[str, ...]) -> None:
    """Raise `ValueError` where a region's signal, (scans, regions), is constant."""
    spread = np.ptp(signal, axis=0)
    constant = spread <= 8 * np.finfo(float).eps * np.abs(signal).max(axis=0)
    if constant.any():
        column = int(np.flatnonzero(constant)[0])
        raise ValueError(
            f"signal is constant in {int(constant.sum())} region(s), the first in column {column} "
            f"({names[column]}), value {signal[0, column]:g}; expected signals that vary over "
            "scans. Leave the region out, or check its mask."
        )


def check_unit(unit: object, signal: NDArray[np.float64], names: tuple[str, ...]) -> str:
    """Return the unit of a signal, (scans, regions); where none is given, warn of doubtful ones."""
    if unit is None:
        _warn_of_unit(signal, names)
        return "percent"
    if not isinstance(unit, str) and np.ndim(unit) == 1 and len(set(unit)) > 1:  # type: ignore[arg-type, call-overload]
        raise ValueError(
            f"unit is {list(unit)}; expected the same unit in all regions, as connections would "  # type: ignore[call-overload]
            "take up the ratio of units. Convert the regions to percent first."
        )
    if not isinstance(unit, str) or unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(map(repr, UNITS))}, got {unit!r}")
    if unit == "z-scored" and len(names) > 1:
        warn_caller(
            "signals are z-scored: each region was divided by its own standard deviation, and "
            "connections between regions take up the ratio of those. For connections in Hz, give "
            "signals in percent, or convert them by to_percent(baseline)."
        )
    return unit


def _warn_of_unit(signal: NDArray[np.float64], names: tuple[str, ...]) -> None:
    deviation, largest = signal.std(axis=0), float(np.ptp(signal, axis=0).max())
    standard = (np.abs(signal.mean(axis=0)) < 1e-6) & (
        (np.abs(deviation - 1) < 1e-6) | (np.abs(signal.std(axis=0, ddof=1) - 1) < 1e-6)
    )
    if standard.any():
        scored = some_names([name for name, z in zip(names, standard, strict=True) if z])
        warn_caller(
            f"signal has mean 0 and standard deviation 1 in {scored}, so it seems to be "
            "z-scored; expected percent, as connections take up the ratio of units. Give it in "
            "percent, or say unit='z-scored'."
        )
    elif deviation.max() > _LARGEST_RATIO * deviation.min():
        low, high = int(deviation.argmin()), int(deviation.argmax())
        warn_caller(
            f"signal varies {deviation[high] / deviation[low]:.3g} times more in {names[high]!r} "
            f"than in {names[low]!r} (standard deviations {deviation[high]:.3g} and "
            f"{deviation[low]:.3g}), so regions seem to be in different units, whose ratio "
            "connections would take up; expected percent in every region. Convert them, or say "
            "unit='percent' if that is what they are."
        )
    elif largest < _LEAST_RANGE:
        warn_caller(
            f"signal varies by {largest:.2g} at most, which is little for percent, in which "
            "models predict. If these are fractions of 1, say unit='fraction'; if they are "
            "percent, unit='percent'."
        )
    elif largest > LARGEST_RANGE:
        warn_caller(
            f"signal varies by {largest:.3g}, more than a BOLD response in percent, in which "
            "models predict. If these are raw values, say unit='arbitrary' and convert them by "
            "to_percent(); if they are percent, unit='percent'."
        )


def check_repetition_time(value: float) -> float:
    """Return the repetition time in s; refuse what must be milliseconds."""
    repetition_time = check_positive("repetition_time", value, "seconds")
    if repetition_time > _LONGEST_REPETITION_TIME:
        raise ValueError(
            f"repetition_time is {repetition_time:g}; expected seconds, at most "
            f"{_LONGEST_REPETITION_TIME:g}. If it is in milliseconds, divide it by 1000."
        )
    return repetition_time


def check_coverage(
    inputs: NDArray[np.float64], dt: float, n_scans: int, n_regions: int, repetition_time: float
) -> None:
    """Raise `ValueError` where inputs, (bins, inputs), differ from the run by over a bin."""
    run = n_scans * repetition_time
    if dt > repetition_time * (1 + 1e-9):
        raise ValueError(
            f"input_dt is {dt:g} s, longer than the repetition time of {repetition_time:g} s; "
            "expected at least one microtime bin per scan. Give input_dt in seconds."
        )
    excess = inputs.shape[0] * dt - run
    if abs(excess) <= dt * (1 + 1e-6):
        return
    hint = ""
    if abs(inputs.shape[0] * dt - n_regions * repetition_time) <= dt:
        hint = f" The signal, shape {(n_scans, n_regions)}, seems to be transposed."
    raise ValueError(
        f"inputs are too {'long' if excess > 0 else 'short'} by {abs(excess):g} s: "
        f"{inputs.shape[0]} bins of input_dt = {dt:g} s last {inputs.shape[0] * dt:g} s, but "
        f"{n_scans} scans every {repetition_time:g} s last {run:g} s; expected them to "
        f"agree within one bin. Cut or extend inputs, or correct input_dt.{hint}"
    )


def check_confounds(confounds: ArrayLike | None, n_scans: int) -> NDArray[np.float64]:
    """Return confounds, (scans, confounds), of full rank, which can model a constant.

    As in SPM, a column of ones is added where none of their combinations is constant: models
    predict changes from a baseline that is never known.
    """
    ones = np.ones((n_scans, 1))
    given = ones if confounds is None else confounds
    checked = check_real_array("confounds", given, ("scans", "confounds"), allow_bool=True)
    if checked.shape[0] != n_scans:
        raise ValueError(
            f"confounds has {checked.shape[0]} rows, shape {checked.shape}, but the run has "
            f"{n_scans} scans; expected one row per scan. Cut confounds to the scans that are "
            "modelled."
        )
    # Columns of very different units (mm, degrees, spikes) must not look dependent.
    largest = np.abs(checked).max(axis=0)
    scaled = checked / np.where(largest > 0, largest, 1.0)
    rank, columns = np.linalg.matrix_rank(scaled), checked.shape[1]
    if rank == columns and np.linalg.matrix_rank(np.hstack([scaled, ones])) > rank:
        checked = read_only(np.hstack([checked, ones]))
        rank, columns = rank + 1, columns + 1
    if rank < columns or columns >= n_scans:
        raise ValueError(
            f"confounds has {columns} columns of rank {rank} for {n_scans} scans, the constant "
            "counted; expected linearly independent columns, fewer than scans. Drop columns that "
            "repeat or combine others (a constant beside one indicator per session, say)."
        )
    return checked


def check_delays(
    delays: ArrayLike | None, n_regions: int, repetition_time: float
) -> NDArray[np.float64]:
    """Return slice delays, (regions,), in s; SPM's 1 s, at most the repetition time, for None."""
    default = np.full(n_regions, min(_DEFAULT_DELAY, repetition_time))
    checked = check_real_array("slice_delays", default if delays is None else delays, ("regions",))
    if checked.size != n_regions:
        raise ValueError(
            f"slice_delays has {checked.size} entries, but there are {n_regions} region(s); "
            "expected one delay in seconds per region. Give them in the regions' order."
        )
    # A delay of one repetition time, as SPM files have it, may be off by rounding.
    outside = (checked < 0) | (checked > repetition_time * (1 + 1e-9))
    if outside.any():
        raise ValueError(
            f"slice_delays must lie between 0 and the repetition time of {repetition_time:g} s, "
            f"got {checked.tolist()}. Give them in seconds from the onset of the scan."
        )
    return checked
