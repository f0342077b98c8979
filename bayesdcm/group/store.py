"""The folder of a group: an index, one file a fit, and why others failed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bayesdcm.infer.loading import read_fit
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.results import Fit
from bayesdcm.infer.storage import read_header, write_fit

FORMAT = 2
INDEX = "group.json"


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
    """A folder of fits, made if it does not exist; of several models, each has a folder in it."""

    def __init__(self, folder: str | Path, models: list[str]) -> None:
        self.folder = Path(folder)
        self.models = models

    def path(self, key: Key) -> Path:
        """File of a fit."""
        model, subject = key
        folder = self.folder / quote(model, safe=" ") if len(self.models) > 1 else self.folder
        name = quote(subject, safe=" ")
        return folder / f"{name}.nc"

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

        Writes the index (JSON); fits that are there must have the fingerprints.
        """
        for model in self.models:
            try:
                self.path((model, "any")).parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise ValueError(
                    f"out must be a folder, but {str(self.folder)!r}, or a folder above it or in "
                    "it, is a file; choose another name, or delete that file"
                ) from None
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
                if key in self and read_header(self.path(key)).get("fingerprint") != expected:
                    raise ValueError(
                        f"out: {str(self.path(key))!r} was made from other data, another model, "
                        "method, option or version; choose another folder, or delete the file to "
                        "have it made again"
                    )
            text = json.dumps({"format": FORMAT, **index}, indent=1)
            _write_atomically(self.folder / INDEX, text.encode())
            yield

    def write(self, key: Key, fit: Fit) -> None:
        """Write a fit, whole or not at all, in place of a failure before."""
        attributes = {"fingerprint": fit.status.get("fingerprint", "")}
        write_fit(self.path(key), fit, attributes, predictions=False)
        self.failure_path(key).unlink(missing_ok=True)

    def write_failure(self, key: Key, reason: str) -> None:
        """Write why there is no fit."""
        _write_atomically(self.failure_path(key), json.dumps({"reason": reason}).encode())

    def reason(self, key: Key) -> str | None:
        """Why there is no fit; None where it did not fail."""
        path = self.failure_path(key)
        return json.loads(path.read_text())["reason"] if path.is_file() else None

    def read(self, key: Key, problem: Problem | None = None) -> Fit:
        """Read a fit; the file holds models of this package, other programs are in the problem."""
        return read_fit(self.path(key), problem)


def read_index(folder: str | Path) -> dict[str, Any]:
    """What a folder written by `fit_group` holds: ``subjects``, ``models``, ``method``, ..."""
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
