"""Regression DCM of a table of time series, or of the run in a file of SPM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bayesdcm.commands.files import read_table, separator

TABLES = (".csv", ".tsv", ".txt")


def regression_of_table(
    path: Path, repetition_time: float | None, events: Path | None, sparse: bool
) -> tuple[Any, Any]:
    """Model with all connections, and the data.

    The table has scans in rows and regions in columns, with their names in the first line. With
    events, a table as BIDS has it, every input may drive every region.
    """
    from bayesdcm.data import BoldData

    if repetition_time is None:
        raise ValueError(f"--repetition-time is needed with '{path}', in s: the table has no times")
    table = _read("FILE", path)
    if events is None:
        return _all_connected(BoldData(table, repetition_time), sparse)
    data = BoldData.from_events(table, repetition_time, _read("--events", events))
    return _all_connected(data, sparse)


def regression_of_spm(spm: Any, sparse: bool) -> tuple[Any, Any]:
    """Model with the connections of SPM's, and its run."""
    from bayesdcm.data import BoldData
    from bayesdcm.models.regression import RegressionDCM

    if not isinstance(spm.data, BoldData):
        raise ValueError(
            f"--model regression is for BOLD signals, but the file holds {type(spm.data).__name__}"
        )
    model = spm.model
    inputs = {"C": model.C, "B": model.B} if spm.data.input_names else {}
    return RegressionDCM(model.A, sparse=sparse, **inputs), spm.data


def _read(name: str, path: Path) -> Any:
    kind = "values separated by commas, semicolons or tabs"
    return read_table(name, path, kind, sep=separator(path))


def _all_connected(data: Any, sparse: bool) -> tuple[Any, Any]:
    import numpy as np

    from bayesdcm.models.regression import RegressionDCM

    n, inputs = data.n_regions, len(data.input_names)
    C = np.ones((n, inputs)) if inputs else None
    return RegressionDCM(np.ones((n, n)), C, sparse=sparse), data
