"""Fits from their files: model, data and program are built again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesdcm.infer.empirical_prior import with_joint_prior
from bayesdcm.infer.modelled_data import modelled_data
from bayesdcm.infer.plain_objects import from_plain
from bayesdcm.infer.problem import Problem, make_problem
from bayesdcm.infer.results import Fit
from bayesdcm.infer.storage import GROUP, RESULTS, header_of, not_a_fit

# Data come back from the units of a model with its rounding.
RELATIVE, ABSOLUTE = 1e-6, 1e-9


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
    """Read what `write_fit` wrote, bound to `problem` (not checked), or to what the file holds."""
    plain, arrays, results = read_contents(path)
    if "estimator" in plain:
        raise ValueError(
            f"path: {str(path)!r} holds an estimator, and no fit; read it by "
            "bayesdcm.AmortisedEstimator.load"
        )
    try:
        posterior = from_plain(plain["posterior"], arrays)
        known = from_plain(plain["known"], arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path: {str(path)!r} cannot be read ({error})") from error
    if results:
        known["_data_sets"] = results
    bound: Any = problem
    if bound is None and plain["program"] is not None:
        bound = partial(rebuilt_problem, plain["program"], arrays)
    return Fit(bound, posterior, known)


def bound_again(fit: Fit, problem: Problem, path: Path) -> Fit:
    """A fit that was read from this file, bound to what was fitted; ValueError where it differs."""
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


def read_contents(path: Path) -> tuple[dict[str, Any], dict[str, NDArray], dict[str, xr.Dataset]]:
    """Contents as JSON, arrays, and groups of results, of a file."""
    try:
        with h5py.File(path, "r") as file:
            header_of(path, file)
            group = file[GROUP]
            plain = json.loads(group["contents"].asstr()[()])
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
        raise not_a_fit(path, error) from error
    return plain, arrays, results


def rebuilt_problem(plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Problem:
    """Model and data, bound again, of what `plain_program` has made of them."""
    parts = {name: from_plain(part, arrays) for name, part in plain.items()}
    problem = make_problem(parts["model"], parts["data"], coordinates=parts["coordinates"])
    return problem if parts["prior"] is None else with_joint_prior(problem, parts["prior"])
