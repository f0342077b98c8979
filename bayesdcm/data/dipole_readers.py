"""Dipoles in hnn-core's files: text, and HDF5 as h5io writes it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.dipole import DipoleData
from bayesdcm.data.dipole_validation import TIME_UNITS, factor_of
from bayesdcm.data.validation import describe, warn_caller

__all__ = ["read_dipole"]

_HDF5 = (".hdf5", ".h5")
_COLUMNS = ("agg", "L2", "L5")
# Text files keep 4 decimals of the moment in nAm and 3 of the time in ms.
_MOMENT_STEP, _TIME_STEP = 1e-4, 1e-3
# Rounding of more than this share of the peak is worth a word.
_COARSE = 0.01


class _Columns(NamedTuple):
    """What a file of hnn-core holds, in its units."""

    times: NDArray
    moments: dict[str, NDArray]
    n_averages: int
    scale: float


def read_dipole(
    path: str | PathLike[str],
    *,
    unit: str = "nAm",
    time_unit: str = "ms",
    noise_sd: float | None = None,
    n_averages: int | None = None,
    smoothing: float = 0.0,
    scaled: bool | None = None,
    name: str | None = None,
    orientation: str = "as in the file: positive is from deep to superficial",
) -> DipoleData:
    r"""Dipole from a file that hnn-core wrote, or that its users write: text or HDF5.

    Parameters
    ----------
    path : path
        HDF5 (``.hdf5``, ``.h5``) as ``hnn_core.dipole.Dipole.write`` has it, or text with two
        columns (time, moment) or four (time, moment, layer 2/3, layer 5), separated by white space,
        commas or semicolons, with or without a line of headings.
    unit : {"nAm", "Am"}
        Unit of the moments and of `noise_sd`; hnn-core writes nAm.
    time_unit : {"ms", "s"}
        Unit of the times and of `smoothing`; hnn-core writes ms.
    noise_sd : float, optional
        Standard deviation of the noise of one sample, which such files do not hold.
    n_averages : int, optional
        How many trials were averaged; by default what the file says, 1 where it does not.
    smoothing : float, default 0
        Width of the Hamming window by which the dipole was smoothed before it was written, which
        such files do not hold.
    scaled : bool, optional
        Whether to keep the factor by which hnn-core multiplied a simulation (``Dipole.scale``, a
        number of columns) or to divide by it; HDF5 files hold it. By default it is kept, with a
        warning.
    name : str, optional
        By default the file's, without its ending.
    orientation : str
        How the sign was fixed, in words.

    Returns
    -------
    DipoleData
        In A m and s.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        If the file is not as described; and as for `DipoleData.from_arrays`.

    Warns
    -----
    UserWarning
        If a text file's 4 decimals are coarse against the response, or an HDF5 file holds a
        simulation that was scaled and `scaled` is not given.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "S1.txt")
    >>> _ = file.write_text("0.0\t0.5\n1.0\t2.0\n2.0\t-14.0\n")
    >>> read_dipole(file)
    DipoleData(3 times (0 to 0.002 s, 1000 Hz), peak -14 nAm at 0.002 s)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {str(path)!r}")
    columns = (_from_hdf5 if path.suffix.lower() in _HDF5 else _from_text)(path)
    times, moments = columns.times, columns.moments
    if path.suffix.lower() not in _HDF5:
        times = _evenly(times, factor_of("time_unit", time_unit, TIME_UNITS))
        _warn_of_rounding(path, moments["agg"], unit)
    if columns.scale != 1 and scaled is None:
        warn_caller(
            f"path: {str(path)!r} holds a dipole that was multiplied by {columns.scale:g} "
            "(hnn-core's Dipole.scale, a number of columns), and it is read so. Give scaled=True "
            "to keep it without this warning, scaled=False to divide by it."
        )
    if scaled is False:
        moments = {key: values / columns.scale for key, values in moments.items()}
    total = moments.pop("agg")
    return DipoleData.from_arrays(
        total,
        times,
        unit,
        time_unit,
        noise_sd=noise_sd,
        n_averages=columns.n_averages if n_averages is None else n_averages,
        smoothing=smoothing,
        layers=moments or None,
        name=path.stem if name is None else name,
        orientation=orientation,
    )


def _from_text(path: Path) -> _Columns:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"path: {str(path)!r} is no text ({error}); HDF5 files end in {_HDF5}"
        ) from error
    lines = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
    lines = [line for line in lines if line and not line[0].startswith("#")]
    if lines and not _is_number(lines[0][0]):
        lines = lines[1:]
    counts = sorted({len(line) for line in lines})
    if len(counts) != 1 or counts[0] not in (2, 4):
        raise ValueError(
            f"path: {str(path)!r} has lines of {counts} numbers; expected 2 (time, moment) or 4 "
            "(time, moment, layer 2/3, layer 5) in every line"
        )
    try:
        table = np.array(lines, dtype=float)
    except ValueError as error:
        raise ValueError(
            f"path: {str(path)!r} holds what is no number ({error}); expected numbers below one "
            "line of headings"
        ) from error
    moments = dict(zip(_COLUMNS, table.T[1:], strict=False))
    return _Columns(table[:, 0], moments, 1, 1.0)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _evenly(times: NDArray, seconds: float) -> NDArray:
    """Times in equal steps where they differ from these by the rounding of a text file only."""
    if times.size < 2:
        return times
    even = np.linspace(times[0], times[-1], times.size)
    step = _TIME_STEP * 1e-3 / seconds
    return even if np.abs(even - times).max() <= 1.01 * step else times


def _warn_of_rounding(path: Path, moments: NDArray, unit: str) -> None:
    largest = np.abs(moments).max() if moments.size else 0.0
    rounded = np.abs(moments - np.round(moments, 4)).max() < 1e-9 * largest if largest else False
    if unit.startswith("nA") and rounded and _MOMENT_STEP > _COARSE * largest:
        warn_caller(
            f"path: {str(path)!r} keeps 4 decimals, and the largest moment is {largest:.4g} nAm: "
            f"the last decimal is {100 * _MOMENT_STEP / largest:.2g} % of it. Write .hdf5 from "
            "hnn-core, which rounds nothing."
        )


def _from_hdf5(path: Path) -> _Columns:
    # With the writer of fits, the one user of HDF5 here.
    import h5py

    try:
        with h5py.File(path, "r") as file:
            held = _plain(file["h5io"]) if "h5io" in file else {}
    except OSError as error:
        raise ValueError(f"path: {str(path)!r} is no HDF5 file ({error})") from error
    if not isinstance(held, dict) or held.get("object_type") != "Dipole":
        kind = held.get("object_type") if isinstance(held, dict) else None
        raise ValueError(
            f"path: {str(path)!r} holds {describe(kind)} as its object_type; expected 'Dipole', as "
            "hnn-core's Dipole.write has it"
        )
    data = held.get("data")
    if not isinstance(data, dict) or "agg" not in data or "times" not in held:
        raise ValueError(
            f"path: {str(path)!r} lacks times or the moment 'agg'; it has {list(held)}"
        )
    moments = {key: np.asarray(data[key], float) for key in _COLUMNS if key in data}
    scale = float(held.get("scale_applied", 1))
    return _Columns(np.asarray(held["times"], float), moments, int(held.get("nave", 1)), scale)


def _plain(node: Any) -> Any:
    """Mappings, texts, numbers and arrays of an h5io file, whose attribute TITLE says which."""
    kind = node.attrs.get("TITLE", "")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind == "dict":
        return {key.removeprefix("key_"): _plain(child) for key, child in node.items()}
    if kind in ("unicode", "str", "ascii"):
        return bytes(node[()]).decode()
    if kind in ("int", "float"):
        return node[()].ravel()[0].item()
    return node[()] if hasattr(node, "dtype") else None
