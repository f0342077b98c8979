"""DCMs of many people and models in one of SPM's group files (GCM_*.mat)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayesdcm.data.spm_container import (
    existing_file,
    keeps_order,
    load_dcm,
    load_variables,
    shape_of,
)

__all__ = ["GroupCell", "read_group_cells"]


@dataclass(frozen=True, eq=False)
class GroupCell:
    """One cell of a group file: the structure of a DCM, or the name of the file that holds it.

    Subject and model are row and column, from 0.
    """

    subject: int
    model: int
    content: Mapping[str, Any] | str
    file: Path

    @property
    def place(self) -> str:
        """The cell, for messages."""
        return f"GCM{{{self.subject + 1},{self.model + 1}}}"

    def load(self) -> tuple[Mapping[str, Any], bool]:
        """Structure of the DCM, and whether its fields are in MATLAB's order."""
        if isinstance(self.content, Mapping):
            return self.content, keeps_order(self.file)
        file = self._located()
        return load_dcm(file), keeps_order(file)

    def _located(self) -> Path:
        text = str(self.content).strip()
        # The group may have been put together elsewhere, perhaps under Windows.
        last = text.replace("\\", "/").rpartition("/")[2]
        places = (Path(text), self.file.parent / text, self.file.parent / last)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise ValueError(
                f"{self.place} names the file {text!r}, which is neither there nor in the folder "
                f"of the group file. Put '{last}' beside '{self.file.name}'."
            )
        return file


def read_group_cells(path: str | os.PathLike[str]) -> Iterator[GroupCell]:
    """Cells of a group file with a cell array ``GCM``, person by person.

    People are in rows and models in columns. Errors are those of `load_variables`, and a
    `ValueError` where a cell holds something other than a DCM or the name of its file.
    """
    file = existing_file(path)
    (cells,) = load_variables(file, ("GCM",), "a file that SPM wrote as GCM_*.mat")
    shape = shape_of(file, "GCM")
    if len(shape) != 2:
        raise ValueError(
            f"GCM has {len(shape)} dimensions; expected two, people in rows and models in columns."
        )
    subjects, models = shape
    if (subjects, models) == (1, 1) and not isinstance(cells, list):
        cells = [cells]
    for subject in range(subjects):
        for model in range(models):
            yield GroupCell(subject, model, _cell(cells, subject, model, shape), file)


def _cell(cells: Any, subject: int, model: int, shape: tuple[int, ...]) -> Mapping[str, Any] | str:
    subjects, models = shape
    content = None
    if isinstance(cells, list) and len(cells) == subjects * models:
        # Version 7.3 comes column by column.
        content = cells[subject + model * subjects]
    elif isinstance(cells, list) and len(cells) == subjects and isinstance(cells[subject], list):
        content = cells[subject][model] if len(cells[subject]) == models else None
    if isinstance(content, Mapping) or (isinstance(content, str) and content.strip()):
        return content
    raise ValueError(
        f"GCM{{{subject + 1},{model + 1}}} is {type(content).__name__}; expected a cell array with "
        "the structure or the file name of a DCM in each cell, people in rows and models in "
        "columns."
    )
