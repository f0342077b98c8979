"""Experimental inputs in microtime from a table of events in seconds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.validation import check_names, check_positive, describe, warn_caller

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["inputs_from_events"]

_COLUMNS = ("onset", "duration", "trial_type", "modulation")
# Columns that BIDS defines besides, none of which says when or how strongly there is an input.
_BIDS_COLUMNS = (
    "sample", "value", "response_time", "HED", "stim_file", "identifier", "channel",
    "event_type", "stim_id",
)  # fmt: skip
# Names of columns as BIDS wants them.
_COLUMN_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{2,}")


def inputs_from_events(
    events: pd.DataFrame | Mapping[str, Sequence[Any]],
    n_scans: int,
    repetition_time: float,
    *,
    input_names: Sequence[str] | None = None,
    input_dt: float | None = None,
) -> tuple[NDArray[np.float64], tuple[str, ...], float]:
    """Inputs sampled in microtime, (bins, inputs), their names, and their bin width in s.

    An event of duration :math:`d > 0` adds its modulation to the bins from ``round(onset / dt)`` up
    to, not including, ``round((onset + d) / dt)``, and to at least one bin. One of duration 0 is a
    stick of unit area times its modulation: it adds ``modulation / dt`` to one bin, which is how
    SPM codes events without duration. (SPM itself makes every block one bin longer than its
    duration.) The default bin is SPM's, ``repetition_time / 16``.

    Of an ``events.tsv`` of BIDS, other columns that BIDS defines do not matter, and may hold n/a;
    those it does not define are left out with a warning, or refused where there is no
    ``trial_type`` or one looks like a misspelt column.
    """
    given_dt = repetition_time / 16 if input_dt is None else input_dt
    dt = check_positive("input_dt", given_dt, "seconds")
    columns = _read_columns(events)
    onset, duration = columns["onset"], columns["duration"]
    run = n_scans * repetition_time
    _check_times(onset, duration, run, dt)
    types = columns.get("trial_type")
    names = _order_inputs(types, input_names)
    column = (
        np.zeros(onset.size, int) if types is None else np.array([names.index(t) for t in types])
    )
    n_bins = max(int(np.floor(run / dt + 0.5)), 1)
    # The nearest bin that lies in the run: an onset in the last half bin belongs to the last bin.
    first = np.minimum(np.floor(onset / dt + 0.5).astype(int), n_bins - 1)
    last = np.minimum(np.floor((onset + duration) / dt + 0.5).astype(int), n_bins)
    last = np.maximum(last, first + 1)
    height = np.where(duration > 0, columns["modulation"], columns["modulation"] / dt)
    inputs = np.zeros((n_bins, len(names)))
    # Adding interval by interval, not a cumulative sum of ups and downs, whose rounding errors
    # would leave dust between events and so make the input change in every bin.
    for start, stop, where, value in zip(first, last, column, height, strict=True):
        inputs[start:stop, where] += value
    return inputs, names, dt


def _read_columns(events: object) -> dict[str, Any]:
    if hasattr(events, "columns"):
        present = [str(column) for column in events.columns]
    elif isinstance(events, Mapping):
        present = [str(column) for column in events]
    else:
        raise TypeError(
            f"events must be a pandas DataFrame or a mapping of columns, got {describe(events)}. "
            "Give the columns onset and duration (s), and optionally trial_type and modulation."
        )
    missing = [column for column in _COLUMNS[:2] if column not in present]
    others = [column for column in present if column not in (*_COLUMNS, *_BIDS_COLUMNS)]
    # Without these a table cannot be understood: times alone, or misspelt names.
    unknown = [
        column
        for column in others
        if "trial_type" not in present
        or not _COLUMN_NAME.fullmatch(column)
        or difflib.get_close_matches(column.lower(), _COLUMNS, 1, 0.8)
    ]
    if missing or unknown:
        fault = f"lacks the column(s) {missing}" if missing else f"has unknown column(s) {unknown}"
        if len(present) == 1 and re.search("[,;\t]", present[0]):
            fault = "was read with another separator than it has (see sep= of pandas.read_csv)"
        raise ValueError(
            f"events {fault}; it has {present}, and expected are onset, duration and optionally "
            "trial_type and modulation. Rename columns or select them, e.g. "
            "events[['onset', 'duration', 'trial_type']]."
        )
    if others:
        warn_caller(
            f"events has the column(s) {others}, which are not used; inputs follow from onset, "
            "duration, trial_type and modulation. Put heights of events into modulation"
        )
    columns: dict[str, Any] = {
        column: (_read_types if column == "trial_type" else _read_numbers)(column, events[column])  # type: ignore[index]
        for column in present
        if column in _COLUMNS
    }
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"events has columns of different lengths, {lengths}; expected one entry per event "
            "in each. Complete or shorten the columns."
        )
    if not lengths["onset"]:
        raise ValueError(
            "events has no rows; expected at least one event. For a run without an experiment "
            "leave inputs and events out: BoldData(signal, repetition_time)."
        )
    columns.setdefault("modulation", np.ones(lengths["onset"]))
    return columns


def _read_numbers(column: str, values: object) -> NDArray[np.float64]:
    raw = _one_dimensional(column, values)
    texts = [str(value).strip() for value in raw] if raw.dtype.kind in "OUS" else []
    if "n/a" in texts:
        raise TypeError(
            f"events['{column}'] must hold real numbers, got 'n/a' in {texts.count('n/a')} row(s), "
            f"the first in row {texts.index('n/a')} (counted from 0). Complete or drop the rows, "
            "and read the table with pandas.read_csv(..., na_values='n/a')."
        )
    if raw.size and raw.dtype.kind not in "iuf":
        raise TypeError(
            f"events['{column}'] must hold real numbers, got dtype {raw.dtype}, e.g. "
            f"{raw[0]!r}. Convert it first, e.g. with pandas.to_numeric."
        )
    numbers = raw.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise ValueError(
            f"events['{column}'] has {bad.size} entries that are NaN or infinite, the first in "
            f"row {bad[0]} (counted from 0); expected finite numbers. Complete or drop the rows."
        )
    return numbers


def _read_types(column: str, values: object) -> list[str]:
    # As objects: NumPy would turn a NaN or a number among strings into a string in silence.
    entries = _one_dimensional(column, values, object).tolist()
    for row, entry in enumerate(entries):
        text = isinstance(entry, str)
        if text and entry.strip().lower() != "n/a":
            continue
        # BIDS' n/a, None, NaN, and pandas' NA, whose comparisons have no truth value.
        if text or entry is None or type(entry).__name__ == "NAType" or entry != entry:
            raise ValueError(
                f"events['{column}'] is missing in row {row} (counted from 0); expected a name "
                "for each event. Complete or drop the row."
            )
        raise TypeError(
            f"events['{column}'] must hold strings, got {describe(entry)} in row {row} "
            "(counted from 0). Convert it, e.g. events['trial_type'].astype(str)."
        )
    return entries


def _one_dimensional(column: str, values: object, dtype: type | None = None) -> NDArray[Any]:
    try:
        raw = np.asarray(values, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"events['{column}'] cannot be read as a column ({error}); expected one entry per "
            "event. Give a flat list."
        ) from error
    if raw.ndim != 1:
        raise ValueError(
            f"events['{column}'] has shape {raw.shape}; expected one column with one entry per "
            "event. Give a flat list, and each column name once."
        )
    return raw


def _check_times(
    onset: NDArray[np.float64], duration: NDArray[np.float64], run: float, dt: float
) -> None:
    negative = np.flatnonzero(duration < 0)
    if negative.size:
        row = negative[0]
        raise ValueError(
            f"events['duration'] is negative in row {row} (counted from 0): {duration[row]} s; "
            "expected 0 (a stick) or more. Correct the table."
        )
    outside = np.flatnonzero((onset < 0) | (onset >= run))
    if outside.size:
        row = outside[0]
        raise ValueError(
            f"events['onset'] of {outside.size} event(s) lies outside the run, the first in row "
            f"{row} (counted from 0): {onset[row]:g} s; expected 0 <= onset < {run:g} s, counted "
            "from the first scan. Check the unit (seconds) and scans that were discarded."
        )
    # Half a bin of grace for times that were rounded when they were written down.
    late = np.flatnonzero(onset + duration > run + dt / 2)
    if late.size:
        row = late[0]
        raise ValueError(
            f"events['duration'] makes {late.size} event(s) end after the run, the first in row "
            f"{row} (counted from 0): {onset[row]:g} + {duration[row]:g} s; expected an end by "
            f"{run:g} s. Shorten the duration to what was scanned."
        )


def _order_inputs(types: list[str] | None, input_names: Sequence[str] | None) -> tuple[str, ...]:
    occurring = ["event"] if types is None else list(dict.fromkeys(types))
    if input_names is None:
        return check_names("events['trial_type']", occurring, len(occurring), "input", "events")
    if isinstance(input_names, (str, bytes)) or not isinstance(input_names, Sequence):
        raise TypeError(
            f"input_names must be a list of strings, got {describe(input_names)}. "
            f"Give the types of event in the order you want, e.g. {occurring}."
        )
    names = check_names("input_names", input_names, len(input_names), "input", "events")
    if types is None and len(names) == 1:
        return names
    absent = [name for name in names if name not in occurring]
    extra = [name for name in occurring if name not in names]
    if absent or extra:
        raise ValueError(
            f"input_names {list(names)} and the types of event in events, {occurring}, differ: "
            f"{absent} are not in the table and {extra} are not in input_names. Name exactly the "
            "types that occur, and filter the table first where some should be left out."
        )
    return names
