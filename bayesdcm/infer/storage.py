"""Fits on disk: one netCDF file each, written atomically; no pickle, no code.

A file holds the model's structure and its data, the posterior and the record of the method: arrays,
and the rest as JSON (`bayesdcm.infer.plain_objects`). What follows from these is worked out again.
Programs and classes of a user's own cannot be written; of their fits, the file holds results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import h5netcdf
import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesdcm.infer.block_covariance import BlockCovariance
from bayesdcm.infer.plain_objects import NotPlain, PlainWriter

if TYPE_CHECKING:
    from bayesdcm.infer.problem import Problem
    from bayesdcm.infer.results import Fit

FORMAT = 2
GROUP = "bayesdcm_fit"
# Groups of results, in the order in which `Fit.idata` has them.
RESULTS = (
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "prior",
    "observed_data",
    "constant_data",
)
# What is written of every fit, so that tables of it need no compiler, and what of fits whose
# programs files do not hold.
TABLES = ("description", "facts", "labels", "_exact", "_moments", "covariance", "_summary")
WITHOUT_PROGRAM = ("_prior_by_site", "_modelled_data", "_precision_sites", "_uncentred_sites")


def save_fit(fit: Fit, path: str | Path, *, predictions: bool = False) -> Path:
    """Write a fit to one netCDF file, see `Fit.save`.

    Parameters
    ----------
    fit : Fit
        Any fit.
    path : path-like
        Where to write; an existing file is replaced once the new one is complete.
    predictions : bool
        Whether to write the groups of ``idata``, too, where they can be worked out again.

    Returns
    -------
    pathlib.Path
        The path.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    path = Path(path)
    _require_folder(path)
    return write_fit(path, fit, predictions=predictions or None)


def _require_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {str(path.parent)!r} does not exist")


def write_fit(
    path: Path,
    fit: Fit,
    attributes: Mapping[str, str | int | float] | None = None,
    predictions: bool | None = None,
) -> Path:
    """Write a fit, whole or not at all; an existing file is replaced once the new one is complete.

    `attributes` are plain values that `read_header` gives, such as a fingerprint. `predictions`:
    whether to write the groups of ``idata``; None: where they cannot be worked out again.
    """
    writer = PlainWriter()
    program = plain_program(fit.problem, writer) if fit.is_bound else None
    if predictions is None:
        predictions = program is None
    # With what the fit says of the run.
    said = {"log_evidence": fit.log_evidence, "trace": fit.trace, "status": fit.status}
    plain = {
        "program": program,
        "posterior": writer.plain(replace(fit.posterior, **said), "posterior"),
        "known": writer.plain(_known(fit, program is not None, predictions), ""),
    }
    header = {"format": FORMAT, "method": fit.method, "log_evidence": fit.log_evidence}
    header |= attributes or {}
    with _whole(path) as part:
        _write(part, header, plain, writer.arrays)
        for name, group in (fit._groups if predictions else {}).items():
            _append(part, name, group)
    return path


def write_whole(path: Path, method: str, plain: Any, arrays: Mapping[str, NDArray]) -> Path:
    """Write what is no fit, as a `PlainWriter` has made it plain, whole or not at all."""
    _require_folder(path)
    with _whole(path) as part:
        _write(part, {"format": FORMAT, "method": method, "log_evidence": None}, plain, arrays)
    return path


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once that is done."""
    # A name of its own, rather than a private temporary file: the mode follows the user's umask.
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def plain_program(problem: Problem, writer: PlainWriter) -> dict[str, Any] | None:
    """Model and data; None where they are of classes that files do not hold."""
    data, coordinates = problem.data, None
    if hasattr(problem.model, "essentials"):
        prepared = problem.prepared if problem.prior is None else problem.prepared[0]
        data, coordinates = problem.model.essentials(data, prepared)
    parts = {"model": problem.model, "data": data, "coordinates": coordinates}
    parts["prior"] = problem.prior
    try:
        # By another writer: arrays of what turns out not to be plain must not stay.
        PlainWriter().plain(parts)
    except NotPlain:
        return None
    return {name: writer.plain(part, name) for name, part in parts.items()}


def _known(fit: Fit, whole: bool, predictions: bool) -> dict[str, Any]:
    """Properties of a fit, by name."""
    names = list(TABLES)
    blocks = fit.posterior.gaussian is not None and isinstance(
        fit.posterior.gaussian[1], BlockCovariance
    )
    if fit.posterior.point is not None or blocks:
        names.remove("covariance")
    if not whole:
        names += [name for name in WITHOUT_PROGRAM if predictions or name != "_prior_by_site"]
    if predictions and fit.posterior.density is not None:
        names.append("_tail_shape")
    known = {name: getattr(fit, name) for name in names}
    # Of priors that are not normal there are none.
    if blocks:
        # Of many parameters they are worked out again where they are needed.
        return known
    with suppress(ValueError):
        known["_prior_moments"] = fit._prior_moments
    return known


def _write(
    path: Path, header: Mapping[str, Any], plain: Any, arrays: Mapping[str, NDArray]
) -> None:
    with h5netcdf.File(path, "w") as file:
        file.attrs["bayesdcm"] = json.dumps(header)
        group = file.create_group(GROUP)
        text = group.create_variable("contents", (), dtype=h5py.string_dtype())
        text[()] = json.dumps(plain)
        for name, array in arrays.items():
            numbers = array.view(np.uint8) if array.dtype == bool else array
            # A dimension of each length, and more where an array has several axes of it.
            axes = {
                f"size_{size}_{array.shape[:i].count(size)}": size
                for i, size in enumerate(array.shape)
            }
            for axis, size in axes.items():
                group.dimensions.setdefault(axis, size)
            smaller = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
            data = np.ascontiguousarray(numbers)
            group.create_variable(name, tuple(axes), data=data, **smaller)


def _append(path: Path, name: str, data: xr.Dataset) -> None:
    encoding = {
        variable: {"zlib": True, "complevel": 1, "shuffle": True}
        for variable, array in data.data_vars.items()
        if array.dtype.kind in "fiu" and array.size > 1
    }
    data.to_netcdf(path, mode="a", group=name, engine="h5netcdf", encoding=encoding)


def read_header(path: Path) -> dict[str, Any]:
    """What is said of a file at its beginning, without reading the rest.

    ``format``, ``method``, ``log_evidence`` and the attributes that were given; a ValueError if the
    file is not a saved fit of this version.
    """
    try:
        with h5py.File(path, "r") as file:
            return header_of(path, file)
    except OSError as error:
        raise not_a_fit(path, error) from error


def header_of(path: Path, file: h5py.File) -> dict[str, Any]:
    """`read_header` of a file that is open."""
    text = file.attrs.get("bayesdcm")
    if text is None:
        if GROUP in file:
            raise ValueError(
                f"path: {str(path)!r} is of an earlier version, whose files held no model and "
                "which this version does not read; fit again, or read its results by "
                "arviz.from_netcdf"
            )
        raise ValueError(
            f"path: {str(path)!r} holds no fit of bayesdcm; give a file written by Fit.save"
        )
    header = json.loads(text)
    if header["format"] != FORMAT:
        raise ValueError(
            f"path: {str(path)!r} has format {header['format']}, this version reads {FORMAT}"
        )
    return header


def not_a_fit(path: Path, error: Exception) -> ValueError:
    """An error that says so of a file."""
    return ValueError(
        f"path: {str(path)!r} is not a netCDF file written by Fit.save, by fit_group, or by "
        f"bayesdcm fit --out ({error}); one of a group is fitted again once it is deleted"
    )
