"""Models, data and estimates of many people from one of SPM's group files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from numpy.typing import ArrayLike

from bayesdcm.data.bold import BoldData
from bayesdcm.data.spm_group import GroupCell, read_group_cells
from bayesdcm.data.spm_modality import parse_model
from bayesdcm.data.validation import warn_caller
from bayesdcm.models.spm import SpmDCM, assembled

__all__ = ["read_spm_group"]


def read_spm_group(
    path: str | os.PathLike[str], lead_field: ArrayLike | None = None
) -> dict[str, dict[str, SpmDCM]]:
    """Return the DCMs of a group file (GCM_*.mat), by person and model.

    Parameters
    ----------
    path : str or path-like
        MATLAB file of version 5 (to 7) or 7.3 with a cell array ``GCM``: people in rows, models in
        columns, in each cell a DCM or the name of its file. A file that is not where its name says
        is looked for in the folder of the group file.
    lead_field : array_like, optional
        As for `read_spm_dcm`, the same for all people.

    Returns
    -------
    dict of dict of SpmDCM
        ``group[person][model]``. People are called as the files of their first models or the
        folders of these, whichever tells them apart, else "subject 1", "subject 2", ...; models
        "model 1", "model 2", ...

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `path` is not a path.
    ValueError
        If the file is damaged or of another kind, a DCM's file is not found, or a DCM cannot be
        used; the message says which.

    Warns
    -----
    UserWarning
        As `read_spm_dcm`, once for all people of whom it holds; and if regions or inputs have
        other names, or the same in another order, than those of the first person.

    Examples
    --------
    >>> read_spm_group("GCM_absent.mat")
    Traceback (most recent call last):
    FileNotFoundError: path: there is no file 'GCM_absent.mat'. Check the folder and the name.
    """
    try:
        cells = list(read_group_cells(path))
    except (FileNotFoundError, TypeError):
        raise
    except ValueError as error:
        raise ValueError(f"path: '{Path(path)}' cannot be used. {error}") from error
    names = _subject_names(cells)
    group: dict[str, dict[str, SpmDCM]] = {name: {} for name in names}
    said: dict[str, list[str]] = {}
    for cell in cells:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dcm = _read(cell, lead_field)
        subject, model = names[cell.subject], f"model {cell.model + 1}"
        for warning in caught:
            said.setdefault(str(warning.message), []).append(f"{subject}, {model}")
        group[subject][model] = dcm
    for text, places in said.items():
        warn_caller(f"{text} ({_listed(places)}; {len(places)} of {len(cells)} DCMs)")
    _say_other_names(group)
    return group


def _read(cell: GroupCell, lead_field: ArrayLike | None) -> SpmDCM:
    try:
        structure, ordered = cell.load()
        return assembled(parse_model(structure, ordered=ordered), lead_field)
    except (ValueError, TypeError) as error:
        raise ValueError(f"path: {cell.place} of '{cell.file}' cannot be used. {error}") from error


def _subject_names(cells: Iterable[GroupCell]) -> list[str]:
    first = [cell.content for cell in cells if cell.model == 0]
    if all(isinstance(content, str) for content in first):
        paths = [Path(str(content).strip().replace("\\", "/")) for content in first]
        for candidates in ([p.stem for p in paths], [p.parent.name for p in paths]):
            if all(candidates) and len(set(candidates)) == len(candidates) > 1:
                return candidates
    return [f"subject {i + 1}" for i in range(len(first))]


def _listed(places: list[str], most: int = 3) -> str:
    return "; ".join(places[:most]) + (" ..." if len(places) > most else "")


def _say_other_names(group: dict[str, dict[str, SpmDCM]]) -> None:
    """Warn where regions or inputs are not those of the first person, in this order."""
    people = list(group)
    for kind in ("region_names", "input_names"):
        axis_names = {
            person: getattr(next(iter(models.values())).data, kind)
            for person, models in group.items()
            if isinstance(next(iter(models.values())).data, BoldData)
        }
        expected = axis_names.get(people[0])
        others = [person for person, names in axis_names.items() if names != expected]
        if expected is None or not others:
            continue
        names = axis_names[others[0]]
        same = sorted(names) == sorted(expected)
        noun = kind.partition("_")[0]
        warn_caller(
            f"The {noun}s of {len(others)} of {len(people)} people are not those of {people[0]}, "
            f"{', '.join(expected)}: the first is {others[0]}, with "
            f"{'the same in another order' if same else 'other names'}, {', '.join(names)}. "
            + (
                f"Connections are by position: give such people a model in the order of the "
                f"first, and data.reordered({kind}=...)"
                if same
                else f"Check that they are the same {noun}s before people are compared"
            )
        )
