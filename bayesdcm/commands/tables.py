"""Models of a table of time series: regression DCM, also of SPM's runs, and whole brains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bayesdcm.commands.files import read_table, separator

TABLES = (".csv", ".tsv", ".txt")
KIND = "values separated by commas, semicolons or tabs"


def regression_of_table(
    path: Path, repetition_time: float | None, events: Path | None, sparse: bool
) -> tuple[Any, Any]:
    """Model with all connections, and the data.

    The table has scans in rows and regions in columns, with their names in the first line. With
    events, a table as BIDS has it, every input may drive every region.
    """
    from bayesdcm.data import BoldData

    repetition_time = _known(path, repetition_time)
    table = _signals(path)
    if events is None:
        return _all_connected(BoldData(table, repetition_time), sparse)
    data = BoldData.from_events(table, repetition_time, _read("--events", events))
    return _all_connected(data, sparse)


def whole_brain_of_table(
    path: Path, repetition_time: float | None, connectome: Path
) -> tuple[Any, Any]:
    """Whole-brain model of a connectome, and the functional connectivity of the table."""
    from bayesdcm.data import Connectome, CovarianceData
    from bayesdcm.models.whole_brain import WholeBrainDCM

    model = WholeBrainDCM(Connectome.from_csv(connectome))
    data = CovarianceData.from_bold(bold_of_table(path, repetition_time))
    model.check(data)
    return model, data


def bold_of_table(path: Path, repetition_time: float | None) -> Any:
    """The signals of a table, `bayesdcm.BoldData` at rest."""
    from bayesdcm.data import BoldData

    return BoldData(_signals(path), _known(path, repetition_time))


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


def _known(path: Path, repetition_time: float | None) -> float:
    if repetition_time is None:
        raise ValueError(f"--repetition-time is needed with '{path}', in s: the table has no times")
    return repetition_time


def _read(name: str, path: Path, **options: Any) -> Any:
    return read_table(name, path, KIND, sep=separator(path), **options)


def _signals(path: Path) -> Any:
    """Table of signals, or a ValueError that names the file and the column at fault."""
    import pandas as pd

    # The reader of tables makes up names that lack, and changes those that repeat.
    first = _read("FILE", path, header=None, nrows=1, dtype=str).iloc[0]
    table = _read("FILE", path)
    _check_names(path, first)
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(
            f"FILE: {str(path)!r} has more values in a line than the first line has names, "
            f"{len(first)}: write the table without its index, and numbers with decimal points"
        )
    for name, column in table.items():
        numbers = pd.to_numeric(column, errors="coerce")
        text = column[numbers.isna() & column.notna()]
        if len(text):
            raise ValueError(
                f"FILE: column {name!r} of {str(path)!r} holds text, {text.iloc[0]!r} in scan "
                f"{text.index[0] + 1}; expected numbers with decimal points, {KIND}: leave out "
                "columns that are no signals"
            )
    return table


def _check_names(path: Path, first: Any) -> None:
    """Raise ValueError where the first line of a table does not name every region."""
    import pandas as pd

    names = [None if pd.isna(name) else str(name) for name in first]
    for place, name in enumerate(names):
        if name is None:
            which = "the first column" if place == 0 else f"column {place + 1}"
            raise ValueError(
                f"FILE: {which} of {str(path)!r} has no name: write the table without its index "
                "(to_csv(..., index=False)), and name every region in the first line"
            )
    numbers = pd.to_numeric(first.str.replace(",", "."), errors="coerce")
    # Regions of an atlas may be numbered.
    numbered = all(name.isdigit() for name in names) and numbers.is_monotonic_increasing
    if numbers.notna().all() and not numbered:
        raise ValueError(
            f"FILE: the first line of {str(path)!r} must hold names of regions, got numbers, "
            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: put names above the scans"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"FILE: {twice.count(twice[0])} columns of {str(path)!r} have the name {twice[0]!r}; "
            "regions must have different names: rename them, or leave one out"
        )


def _all_connected(data: Any, sparse: bool) -> tuple[Any, Any]:
    import numpy as np

    from bayesdcm.models.regression import RegressionDCM

    n, inputs = data.n_regions, len(data.input_names)
    C = np.ones((n, inputs)) if inputs else None
    return RegressionDCM(np.ones((n, n)), C, sparse=sparse), data
