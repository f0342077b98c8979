"""MATLAB file of an SPM model, and the kind of data it is for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "existing_file",
    "holds",
    "keeps_order",
    "load_dcm",
    "load_variables",
    "shape_of",
]


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Path of a file that exists; `FileNotFoundError` or `TypeError` else."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"path must be a string or path-like, got {type(path).__name__}. "
            "Give the location of a DCM_*.mat file."
        )
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"path: there is no file '{file}'. Check the folder and the name.")
    return file


def keeps_order(file: Path) -> bool:
    """Whether structures of a MATLAB file are read with their fields in MATLAB's order.

    False for version 7.3, whose HDF5 groups have no order.
    """
    with file.open("rb") as stream:
        return not stream.read(10).startswith(b"MATLAB 7.3")


def load_dcm(file: Path) -> Mapping[str, Any]:
    """Structure DCM of a MATLAB file, as `load_variables`."""
    (dcm,) = load_variables(file, ("DCM",), "a file that SPM wrote as DCM_*.mat")
    if not isinstance(dcm, Mapping):
        raise ValueError(
            f"Its variable 'DCM' is a {type(dcm).__name__}; expected one structure. Save one DCM "
            "per file."
        )
    return dcm


# What reads the other files that SPM writes.
_READERS = {
    "DCM": "read_spm_dcm",
    "GCM": "read_spm_group (in the shell, `bayesdcm group`)",
    "xY": "read_spm_voi",
    "SPM": "read_spm_voi (its design)",
}


def load_variables(file: Path, names: tuple[str, ...], expected: str) -> tuple[Any, ...]:
    """Variables of a MATLAB file of version 5 (to 7) or 7.3.

    Structures are mappings, cells lists, and arrays have no dimensions of length one. Raises
    `ValueError` where the file is damaged, is none of MATLAB's, or lacks a variable; `expected`
    says what should have been given.
    """
    _check_header(file, expected)
    # Slow to import, and needed by those only who read SPM's files.
    import pymatreader

    with warnings.catch_warnings():
        # Function handles in DCM.M are of no use here.
        warnings.filterwarnings("ignore", message="Complex objects")
        try:
            variables = pymatreader.read_mat(file, variable_names=list(names))
        except ImportError:
            raise
        except Exception as error:  # damaged files raise errors of a dozen kinds
            raise ValueError(
                f"It is damaged or cut off: {type(error).__name__}: {error}. Expected a complete "
                "MATLAB file. Copy or save it again."
            ) from error
    for name in names:
        if variables.get(name) is None:
            present = [entry[0] for entry in pymatreader.whosmat(file)]
            other = next((_READERS[variable] for variable in present if variable in _READERS), None)
            hint = f"; bayesdcm.{other} reads this one" if other else ""
            raise ValueError(
                f"It holds the variables {present}, but no {name!r}. Give {expected}{hint}."
            )
    return tuple(variables[name] for name in names)


def holds(file: Path, name: str) -> bool:
    """Whether a file is one of MATLAB's and has a variable."""
    import pymatreader

    try:
        _check_header(file)
        return any(entry[0] == name for entry in pymatreader.whosmat(file))
    except Exception:  # damaged files raise errors of a dozen kinds, and who reads them says so
        return False


def shape_of(file: Path, name: str) -> tuple[int, ...]:
    """Shape of a variable as in MATLAB, dimensions of length one included."""
    if keeps_order(file):
        import scipy.io

        return next(shape for variable, shape, _ in scipy.io.whosmat(file) if variable == name)
    import h5py

    with h5py.File(file, "r") as content:
        # HDF5 has the axes in the order of C.
        return tuple(content[name].shape[::-1]) if hasattr(content[name], "shape") else (1, 1)


def _check_header(file: Path, expected: str = "a DCM_*.mat file") -> None:
    if file.is_dir():
        raise ValueError(f"It is a folder; expected a file. Give {expected}.")
    with file.open("rb") as stream:
        header = stream.read(128)
    if not header.startswith(b"MATLAB") or len(header) < 128:
        raise ValueError(
            "It is not a MATLAB file of version 5, 7 or 7.3 (these begin with the word 'MATLAB'). "
            f"Give {expected}, as SPM wrote it."
        )
