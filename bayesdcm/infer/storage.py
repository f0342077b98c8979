"""Fits on disk: one netCDF file each, written atomically; no pickle, no code.

A file holds the model's structure and its data, the posterior and the record of the method: arrays,
and the rest as JSON (`bayesdcm.infer.plain_objects`). What follows from these is worked out again.
Programs and classes of a user's own cannot be written; of their fits, the file holds results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import h5netcdf
import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.empirical_prior import with_joint_prior
from bayesdcm.infer.modelled_data import modelled_data
from bayesdcm.infer.plain_objects import NotPlain, PlainWriter, from_plain
from bayesdcm.infer.problem import Problem, make_problem
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
WITHOUT_PROGRAM = ("_prior_by_site", "_modelled_data")
# Data come back from the units of a model with its rounding.
RELATIVE, ABSOLUTE = 1e-6, 1e-9


class _Contents(NamedTuple):
    """What a file holds."""

    header: dict[str, Any]
    plain: dict[str, Any]
    arrays: dict[str, NDArray]
    results: dict[str, xr.Dataset]


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
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {str(path.parent)!r} does not exist")
    return write_fit(path, fit, predictions=predictions or None)


def write_fit(
    path: Path,
    fit: Fit,
    attributes: Mapping[str, str | int | float] | None = None,
    predictions: bool | None = None,
) -> Path:
    """Write a fit, whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        Where to write; an existing file is replaced once the new one is complete.
    fit : Fit
        Any fit.
    attributes : mapping, optional
        Plain values that `read_header` gives, such as a fingerprint.
    predictions : bool, optional
        Whether to write the groups of ``idata``; None: where they cannot be worked out again.

    Returns
    -------
    pathlib.Path
        The path.
    """
    writer = PlainWriter()
    program = _plain_program(fit, writer)
    if predictions is None:
        predictions = program is None
    plain = {
        "program": program,
        "posterior": writer.plain(_record(fit), "posterior"),
        "known": writer.plain(_known(fit, program is not None, predictions), ""),
    }
    header = {
        "format": FORMAT,
        "method": fit.method,
        "log_evidence": fit.log_evidence,
        **(attributes or {}),
    }
    # A name of its own, rather than a private temporary file: the mode follows the user's umask.
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        _write(part, header, plain, writer.arrays)
        for name, group in (arviz_adapter.groups_of(fit.idata) if predictions else {}).items():
            _append(part, name, group)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


def _plain_program(fit: Fit, writer: PlainWriter) -> dict[str, Any] | None:
    """Model and data; None where they are of classes that files do not hold."""
    if not fit.is_bound:
        return None
    problem = fit.problem
    data, coordinates = problem.data, None
    if hasattr(problem.model, "essentials"):
        prepared = problem.prepared if problem.prior is None else problem.prepared[0]
        data, coordinates = problem.model.essentials(data, prepared)
    parts = {
        "model": problem.model,
        "data": data,
        "coordinates": coordinates,
        "prior": problem.prior,
    }
    # Arrays of what turns out not to be plain must not stay.
    alone = PlainWriter()
    try:
        for name, part in parts.items():
            alone.plain(part, name)
    except NotPlain:
        return None
    return {name: writer.plain(part, name) for name, part in parts.items()}


def _record(fit: Fit) -> Any:
    """The posterior, with what its fit says of the run."""
    return replace(fit.posterior, log_evidence=fit.log_evidence, trace=fit.trace, status=fit.status)


def _known(fit: Fit, whole: bool, predictions: bool) -> dict[str, Any]:
    """Properties of a fit, by name."""
    names = list(TABLES)
    if not whole:
        names += [name for name in WITHOUT_PROGRAM if predictions or name != "_prior_by_site"]
    if predictions and fit.posterior.density is not None:
        names.append("_tail_shape")
    known = {name: getattr(fit, name) for name in names}
    try:
        known["_prior_moments"] = fit._prior_moments
    except ValueError:
        # Of priors that are not normal there are none.
        pass
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
            axes = [
                f"size_{size}_{array.shape[:i].count(size)}" for i, size in enumerate(array.shape)
            ]
            for axis, size in zip(axes, array.shape, strict=True):
                group.dimensions.setdefault(axis, size)
            group.create_variable(
                name,
                tuple(axes),
                data=np.ascontiguousarray(numbers),
                compression="gzip",
                compression_opts=4,
                shuffle=True,
            )


def _append(path: Path, name: str, data: xr.Dataset) -> None:
    encoding = {
        variable: {"zlib": True, "complevel": 1, "shuffle": True}
        for variable, array in data.data_vars.items()
        if array.dtype.kind in "fiu" and array.size > 1
    }
    data.to_netcdf(path, mode="a", group=name, engine="h5netcdf", encoding=encoding)


def load_fit(path: str | Path, model: Any = None, data: Any = None) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    model, data : optional
        Of a fit of a program, or of a class, of one's own, which the file does not hold: what was
        fitted. Without them, the fit has what was written of its results.

    Returns
    -------
    Fit
        Which does all that the saved one did.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a saved fit, or is one of an earlier version; if only one of model and
        data is given, or they are not those of the fit.

    Examples
    --------
    >>> import bayesdcm
    >>> bayesdcm.load_fit("missing.nc")
    Traceback (most recent call last):
    ...
    FileNotFoundError: path: there is no file 'missing.nc'
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(
            f"path: there is no file {str(path)!r}, but a folder of that name; "
            "bayesdcm.group.load_group reads the folder of a group"
        )
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {str(path)!r}")
    if (model is None) != (data is None):
        raise ValueError("model and data must be given together, or not at all")
    fit = read_fit(path)
    return fit if model is None else bound_again(fit, make_problem(model, data), path)


def read_fit(path: Path, problem: Problem | None = None) -> Fit:
    """Read a fit.

    Parameters
    ----------
    path : pathlib.Path
        A file that `write_fit` wrote.
    problem : Problem, optional
        What was fitted, where it is at hand; it is not checked.

    Returns
    -------
    Fit
        Bound to `problem`, or to what the file holds.

    Raises
    ------
    ValueError
        If the file is not a saved fit of this version.
    """
    contents = _read(path)
    plain, arrays = contents.plain, contents.arrays
    try:
        posterior = from_plain(plain["posterior"], arrays)
        known = from_plain(plain["known"], arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path: {str(path)!r} cannot be read ({error})") from error
    if contents.results:
        known["idata"] = arviz_adapter.assemble(contents.results)
    bound: Any = problem
    if bound is None and plain["program"] is not None:
        bound = partial(_rebuilt, plain["program"], arrays)
    fit = Fit(bound, posterior, known)
    fit.status = dict(posterior.status)
    return fit


def bound_again(fit: Fit, problem: Problem, path: Path) -> Fit:
    """A fit that was read, bound to what was fitted.

    Parameters
    ----------
    fit : Fit
        From `read_fit`.
    problem : Problem
        What was fitted.
    path : pathlib.Path
        The file, for messages.

    Returns
    -------
    Fit
        The same, with the program.

    Raises
    ------
    ValueError
        If parameters or data are others.
    """
    if problem.flat_labels != fit.labels:
        raise ValueError(
            f"model must be that of the fit in {str(path)!r}, whose parameters are "
            f"{', '.join(fit.labels)}; got one with {', '.join(problem.flat_labels)}"
        )
    bound = Fit(problem, fit.posterior, fit._known)
    given = modelled_data(problem).observed
    for name, values in fit._modelled_data.observed.items():
        other = given.get(name, np.zeros(0))
        if np.shape(other) != np.shape(values) or not np.allclose(
            other, values, RELATIVE, ABSOLUTE, equal_nan=True
        ):
            raise ValueError(
                f"data must be those of the fit in {str(path)!r}, but {name} has other values"
            )
    return bound


def read_header(path: Path) -> dict[str, Any]:
    """What is said of a file at its beginning, without reading the rest.

    Parameters
    ----------
    path : pathlib.Path
        A file that `write_fit` wrote.

    Returns
    -------
    dict
        ``format``, ``method``, ``log_evidence`` and the attributes that were given.

    Raises
    ------
    ValueError
        If the file is not a saved fit of this version.
    """
    try:
        with h5py.File(path, "r") as file:
            return _header(path, file)
    except OSError as error:
        raise _not_a_fit(path, error) from error


def _header(path: Path, file: h5py.File) -> dict[str, Any]:
    header = file.attrs.get("bayesdcm")
    if header is None:
        if GROUP in file:
            raise ValueError(
                f"path: {str(path)!r} is of an earlier version, whose files held no model and "
                "which this version does not read; fit again, or read its results by "
                "arviz.from_netcdf"
            )
        raise ValueError(
            f"path: {str(path)!r} holds no fit of bayesdcm; give a file written by Fit.save"
        )
    found = json.loads(header)
    if found["format"] != FORMAT:
        raise ValueError(
            f"path: {str(path)!r} has format {found['format']}, this version reads {FORMAT}"
        )
    return found


def _not_a_fit(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"path: {str(path)!r} is not a netCDF file written by Fit.save, by fit_group, or by "
        f"bayesdcm fit --out ({error}); one of a group is fitted again once it is deleted"
    )


def _read(path: Path) -> _Contents:
    try:
        with h5py.File(path, "r") as file:
            header = _header(path, file)
            group = file[GROUP]
            text = json.loads(group["contents"].asstr()[()])
            arrays = {
                name: item[()]
                for name, item in group.items()
                if name != "contents" and not name.startswith("size_")
            }
            names = [name for name in RESULTS if name in file]
        results = {}
        for name in names:
            with xr.open_dataset(path, group=name, engine="h5netcdf") as data:
                results[name] = data.load()
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise _not_a_fit(path, error) from error
    return _Contents(header, text, arrays, results)


def _rebuilt(plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Problem:
    parts = {name: from_plain(part, arrays) for name, part in plain.items()}
    problem = make_problem(parts["model"], parts["data"], coordinates=parts["coordinates"])
    return problem if parts["prior"] is None else with_joint_prior(problem, parts["prior"])
