"""Fits of a group on disk: one small file each, written atomically, no pickle.

A file holds what cannot be worked out again quickly: the posterior over the flat vector, the
record of the method, and the moments that need no data; and the data as they were modelled, for
evidences not to be compared with those of other data. Draws of predictions and likelihoods
follow from these, the model and the data; `bayesdcm.Fit.save` writes them too, in files a thousand
times larger.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from bayesdcm.infer.method import METHODS
from bayesdcm.infer.modelled_data import ModelledData
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.results import Fit

FORMAT = 1
INDEX = "group.json"
# Constants of data that say whether evidences can be compared.
KEPT = ("scale", "modelled_confounds", "modes_to_channels")


Key = tuple[str, str]


class Memory(dict[Key, Fit]):
    """Fits by model and subject in memory, as `Store` has them on disk."""

    def write(self, key: Key, fit: Fit) -> None:
        """Keep a fit."""
        self[key] = fit

    def write_failure(self, key: Key, reason: str) -> None:
        """Of failures, nothing is kept."""

    def read(self, key: Key, problem: Problem | None = None) -> Fit:
        """A fit."""
        return self[key]

    def opened(self, index: Mapping[str, Any], fingerprints: Mapping[Key, str]) -> Any:
        """There is nothing to prepare."""
        return nullcontext()


class Store:
    """A folder of fits.

    Parameters
    ----------
    folder : path-like
        Made if it does not exist.
    models : sequence of str
        Names of the models; with several, each has a folder of its own.
    """

    def __init__(self, folder: str | Path, models: list[str]) -> None:
        self.folder = Path(folder)
        self.models = models

    def path(self, key: Key) -> Path:
        """File of a fit."""
        model, subject = key
        folder = self.folder / quote(model, safe=" ") if len(self.models) > 1 else self.folder
        name = quote(subject, safe=" ")
        return folder / f"{name}.npz"

    def failure_path(self, key: Key) -> Path:
        """File that says why there is no fit."""
        return self.path(key).with_suffix(".failed.json")

    def __contains__(self, key: Key) -> bool:
        return self.path(key).is_file()

    @contextmanager
    def opened(
        self, index: Mapping[str, Any], fingerprints: Mapping[Key, str] | None = None
    ) -> Iterator[None]:
        """Make the folder, and keep other runs from writing to it; a run that is killed unlocks it.

        Parameters
        ----------
        index : mapping
            Subjects, models, method and options, as JSON has them.
        fingerprints : mapping, optional
            Of the fits that are to be there; those that are must have them.

        Raises
        ------
        OSError
            If the folder cannot be made.
        ValueError
            If another run is writing to it, or a fit that is there is of something else.
        """
        for model in self.models:
            self.path((model, "any")).parent.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(
                    f"out: another run is writing to {str(self.folder)!r}; wait for it, or choose "
                    "another folder"
                ) from None
            for left in self.folder.rglob(".*.part"):
                left.unlink(missing_ok=True)
            for key, expected in (fingerprints or {}).items():
                if key in self and self.read(key).status.get("fingerprint") != expected:
                    raise ValueError(
                        f"out: {str(self.path(key))!r} was made from other data, another model, "
                        "method, option or version; choose another folder, or delete the file to "
                        "have it made again"
                    )
            text = json.dumps({"format": FORMAT, **index}, indent=1)
            _write_atomically(self.folder / INDEX, text.encode())
            yield

    def write(self, key: Key, fit: Fit) -> None:
        """Write a fit, whole or not at all, in place of a failure before.

        Parameters
        ----------
        key : (str, str)
            Its model and subject.
        fit : Fit
            Bound to its data.
        """
        path = self.path(key)
        part = path.with_name(f".{path.name}.part")
        with open(part, "wb") as file:
            np.savez(file, **_arrays(fit))
        os.replace(part, path)
        self.failure_path(key).unlink(missing_ok=True)

    def write_failure(self, key: Key, reason: str) -> None:
        """Write why there is no fit."""
        _write_atomically(self.failure_path(key), json.dumps({"reason": reason}).encode())

    def reason(self, key: Key) -> str | None:
        """Why there is no fit; None where it did not fail."""
        path = self.failure_path(key)
        return json.loads(path.read_text())["reason"] if path.is_file() else None

    def read(self, key: Key, problem: Problem | None = None) -> Fit:
        """Read a fit.

        Parameters
        ----------
        key : (str, str)
            Its model and subject.
        problem : Problem, optional
            What was fitted; without it there are no predictions or draws by site.

        Returns
        -------
        Fit
            The fit.
        """
        with _opened(self.path(key)) as arrays:
            return _fit(dict(arrays), problem)


def read_index(folder: str | Path) -> dict[str, Any]:
    """What a folder written by `fit_group` holds.

    Parameters
    ----------
    folder : path-like
        The folder.

    Returns
    -------
    dict
        ``subjects``, ``models``, ``method``, ...

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or nothing of a group in it.
    ValueError
        If it was written by another version.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise FileNotFoundError(
            f"folder: {str(folder)!r} holds no group of fits (no {INDEX}); give the folder that "
            "was `out` of fit_group"
        )
    index = json.loads(path.read_text())
    if index.get("format") != FORMAT:
        raise ValueError(
            f"folder: {str(folder)!r} has format {index.get('format')}, this version reads {FORMAT}"
        )
    return index


def _write_atomically(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is not a fit that fit_group wrote ({error}); delete it to have it "
            "fitted again"
        ) from error


def _arrays(fit: Fit) -> dict[str, Any]:
    posterior, problem = fit.posterior, fit.problem
    header = {
        "format": FORMAT,
        "method": fit.method,
        "log_evidence": fit.log_evidence,
        "description": fit.description,
        "status": fit.status,
        "labels": problem.flat_labels,
        "n_draws": posterior.n_draws,
        "seed": posterior.seed,
    }
    found: dict[str, Any] = {"header": np.array(json.dumps(header))}
    if posterior.gaussian is not None:
        found["centre"], found["covariance"] = posterior.gaussian
    if posterior.draws is not None:
        found["draws"] = posterior.draws
    if posterior.log_q is not None:
        found["log_q"] = posterior.log_q
    observed, constants = fit._modelled_data or ({}, {})
    for kind, table in (
        ("observed", observed),
        ("constant", {name: constants[name] for name in KEPT if name in constants}),
        ("statistics", posterior.statistics),
        ("trace", fit.trace),
        ("mean", fit.mean),
        ("sd", fit.sd),
    ):
        found |= {f"{kind}:{name}": np.asarray(value) for name, value in table.items()}
    if all(site.gaussian for site in problem.sites.sites):
        try:
            found["prior_mean"], found["prior_covariance"] = fit._prior_moments
        except ValueError:
            # A prior of normals with scales that depend on each other: there are no moments.
            pass
    if not fit._exact:
        found["site_covariance"] = fit.covariance.to_numpy()
        summary = fit.summary()
        found["summary"] = summary.to_numpy()
        found["summary_columns"] = np.array(list(summary.columns))
    return found


def _fit(arrays: dict[str, Any], problem: Problem | None) -> Fit:
    header = json.loads(str(arrays["header"]))

    def table(kind: str) -> dict[str, Any]:
        return {
            name.partition(":")[2]: value
            for name, value in arrays.items()
            if name.startswith(f"{kind}:")
        }

    gaussian = (arrays["centre"], arrays["covariance"]) if "centre" in arrays else None
    posterior = Posterior(
        METHODS[header["method"]](),
        draws=arrays.get("draws"),
        gaussian=gaussian,
        log_q=arrays.get("log_q"),
        statistics=table("statistics"),
        n_draws=header["n_draws"],
        seed=header["seed"],
        log_evidence=header["log_evidence"],
        trace=table("trace"),
        status=header["status"],
    )
    fit = Fit(problem, posterior)
    fit.description = header["description"]
    if "prior_mean" in arrays:
        fit.__dict__["_prior_moments"] = (arrays["prior_mean"], arrays["prior_covariance"])
    # Cached properties find their values in the instance.
    if problem is None and table("observed"):
        fit.__dict__["_modelled_data"] = ModelledData(table("observed"), table("constant"))
    fit.__dict__["_moments"] = (table("mean"), table("sd"))
    labels = header["labels"]
    covariance = arrays["site_covariance"] if "site_covariance" in arrays else gaussian[1]
    fit.__dict__["covariance"] = pd.DataFrame(covariance, index=labels, columns=labels)
    if "summary" in arrays:
        fit.__dict__["_summary"] = pd.DataFrame(
            arrays["summary"],
            index=pd.Index(labels, name="parameter"),
            columns=[str(column) for column in arrays["summary_columns"]],
        )
    elif problem is None:
        fit.__dict__["_summary"] = _gaussian_summary(labels, *gaussian)
    return fit


def _gaussian_summary(labels: list[str], mean: np.ndarray, covariance: np.ndarray) -> pd.DataFrame:
    from scipy.special import ndtr

    sd = np.sqrt(np.diagonal(covariance))
    # Quantiles of the normal distribution at 5 % and 95 %.
    width = 1.6448536269514722 * sd
    return pd.DataFrame(
        {
            "mean": mean,
            "sd": sd,
            "eti_5%": mean - width,
            "eti_95%": mean + width,
            "probability": ndtr(np.abs(mean) / sd),
        },
        index=pd.Index(labels, name="parameter"),
    )
