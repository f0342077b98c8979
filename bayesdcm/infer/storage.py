"""Fits on disk: one netCDF file each, written atomically, no pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import xarray as xr

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.method import METHODS
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.results import Fit
from bayesdcm.infer.tail_shape import TailShape
from bayesdcm.models.facts import Facts

GROUP = "bayesdcm_fit"
FORMAT = 1


def save_fit(fit: Fit, path: str | Path) -> Path:
    """Write a fit to one netCDF file, whole or not at all.

    Parameters
    ----------
    fit : Fit
        Any fit.
    path : path-like
        Where to write; an existing file is replaced once the new one is complete.

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
    groups = arviz_adapter.groups_of(fit.idata) | {GROUP: _own_group(fit)}
    # A name of its own, rather than a private temporary file: the mode follows the user's umask.
    name = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        for i, (group, data) in enumerate(groups.items()):
            encoding = {
                variable: {"zlib": True, "complevel": 1}
                for variable, array in data.data_vars.items()
                if array.dtype.kind in "fiu" and array.size > 1
            }
            data.to_netcdf(
                name, mode="w" if i == 0 else "a", group=group, engine="h5netcdf",
                encoding=encoding,
            )  # fmt: skip
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    return path


def _own_group(fit: Fit) -> xr.Dataset:
    """What ArviZ has no place for: moments, covariance, trace, status."""
    variables: dict[str, Any] = {}
    prior_mean, prior_sd = fit._prior_by_site
    tables = {
        "mean": fit.mean,
        "sd": fit.sd,
        "prior_mean": prior_mean,
        "prior_sd": prior_sd,
        "trace": fit.trace,
    }
    for kind, table in tables.items():
        for name, value in table.items():
            array = np.asarray(value)
            dims = tuple(f"{kind}_{name}_{i}" for i in range(array.ndim))
            variables[f"{kind}:{name}"] = (dims, array)
    labels = np.asarray(fit.covariance.index, dtype=object)
    variables["covariance"] = (("parameter", "parameter_2"), fit.covariance.to_numpy())
    summary = fit.summary()
    variables["summary"] = (("parameter", "column"), summary.to_numpy())
    attributes = {
        "format": FORMAT,
        "method": fit.method,
        "log_evidence": np.nan if fit.log_evidence is None else fit.log_evidence,
        "description": fit.description,
        "status": json.dumps(fit.status),
        "facts": json.dumps(fit.facts.as_dict()),
    }
    if "log_q" in fit.idata.sample_stats:
        attributes["pareto_k"] = list(fit._tail_shape)
    coords = {"parameter": labels, "column": np.asarray(summary.columns, dtype=object)}
    return xr.Dataset(variables, coords=coords, attrs=attributes)


def load_fit(path: str | Path) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Fit
        With everything the saved one had: posterior, predictions, trace, diagnostics.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a saved fit.

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
    try:
        groups = _read_groups(path)
    except Exception as error:
        raise ValueError(
            f"path: {str(path)!r} is not a netCDF file written by Fit.save, or by bayesdcm fit "
            f"--out ({error})"
        ) from error
    own = groups.pop(GROUP, None)
    if own is None:
        raise ValueError(
            f"path: {str(path)!r} holds no fit of bayesdcm; give a file written by Fit.save"
        )
    if own.attrs["format"] != FORMAT:
        raise ValueError(
            f"path: {str(path)!r} has format {own.attrs['format']}, this version reads {FORMAT}"
        )
    return _restored(own, groups)


def _read_groups(path: Path) -> dict[str, xr.Dataset]:
    import h5py

    with h5py.File(path, "r") as file:
        names = [name for name, item in file.items() if isinstance(item, h5py.Group)]
    found = {}
    for name in names:
        with xr.open_dataset(path, group=name, engine="h5netcdf") as data:
            found[name] = data.load()
    return found


def _restored(own: xr.Dataset, groups: dict[str, xr.Dataset]) -> Fit:
    kinds = ("mean", "sd", "prior_mean", "prior_sd", "trace")
    tables: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for variable in own.data_vars:
        kind, _, name = str(variable).partition(":")
        if name:
            tables[kind][name] = own[variable].to_numpy()
    evidence = float(own.attrs["log_evidence"])
    posterior = Posterior(
        METHODS[own.attrs["method"]](),
        log_evidence=None if np.isnan(evidence) else evidence,
        trace=tables["trace"],
        status=json.loads(own.attrs["status"]),
    )
    fit = Fit(None, posterior)
    fit.description = own.attrs["description"]
    fit.__dict__["facts"] = Facts(**json.loads(own.attrs.get("facts", "{}")))
    labels = [str(label) for label in own["parameter"].to_numpy()]
    # Cached properties find their values in the instance.
    fit.__dict__["_moments"] = (tables["mean"], tables["sd"])
    # Files of earlier versions have neither.
    if tables["prior_mean"]:
        fit.__dict__["_prior_by_site"] = (tables["prior_mean"], tables["prior_sd"])
    if "pareto_k" in own.attrs:
        fit.__dict__["_tail_shape"] = TailShape(*map(float, own.attrs["pareto_k"]))
    fit.__dict__["covariance"] = pd.DataFrame(
        own["covariance"].to_numpy(), index=labels, columns=labels
    )
    fit.__dict__["_summary"] = pd.DataFrame(
        own["summary"].to_numpy(),
        index=pd.Index(labels, name="parameter"),
        columns=[str(column) for column in own["column"].to_numpy()],
    )
    order = [
        "posterior",
        "posterior_predictive",
        "log_likelihood",
        "sample_stats",
        "prior",
        "observed_data",
        "constant_data",
    ]
    ordered = {name: groups[name] for name in order if name in groups}
    fit.__dict__["idata"] = arviz_adapter.assemble(ordered)
    return fit
