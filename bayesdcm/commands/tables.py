"""Models of a table of time series: regression DCM, also of SPM's runs, and whole brains."""

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

    repetition_time = _known(path, repetition_time)
    table = _read("FILE", path)
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

    return BoldData(_read("FILE", path), _known(path, repetition_time))


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


def _read(name: str, path: Path) -> Any:
    kind = "values separated by commas, semicolons or tabs"
    return read_table(name, path, kind, sep=separator(path))


def _all_connected(data: Any, sparse: bool) -> tuple[Any, Any]:
    import numpy as np

    from bayesdcm.models.regression import RegressionDCM

    n, inputs = data.n_regions, len(data.input_names)
    C = np.ones((n, inputs)) if inputs else None
    return RegressionDCM(np.ones((n, n)), C, sparse=sparse), data
