"""Covariates of subjects, read from a file of comma-separated values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bayesdcm.commands.files import read_table, separator

MEAN = "mean"


def read_design(path: Path, subjects: Sequence[str], covariates: Sequence[str] = ()) -> Any:
    """Covariates of a group: a table of numbers, subjects in rows in the order of `subjects`.

    The file has names of subjects, exactly these, in the first column, covariates (all, if none
    are chosen) in the others, and names in the first line.
    """
    table = _read(path)
    _check_subjects(path, list(table.index), list(subjects))
    table = table.loc[list(subjects)]
    unknown = [name for name in covariates if name not in table.columns]
    if unknown:
        raise ValueError(
            f"--covariates: {str(path)!r} has no column {unknown[0]!r}; its covariates are "
            f"{', '.join(map(repr, table.columns)) or 'none'}"
        )
    return _numbers(path, table[list(covariates) or list(table.columns)])


def with_mean(table: Any, centre: bool = True) -> tuple[Any, list[str]]:
    """The table with the group mean first, and sentences on what was done to covariates."""
    import pandas as pd

    notes, kept = [], {MEAN: 1.0}
    for name, column in table.items():
        if column.max() == column.min():
            notes.append(
                f"Covariate {name} is the same for all subjects and left out: the group mean is "
                "always there."
            )
            continue
        if name == MEAN:
            raise ValueError(
                f"--design: a covariate is named {MEAN!r}, as the group mean is; name it otherwise"
            )
        kept[name] = column - column.mean() if centre else column
        if centre:
            notes.append(
                f"Covariate {name} is centred: its mean, {column.mean():.4g}, was subtracted."
            )
    return pd.DataFrame(kept, index=table.index), notes


def _read(path: Path) -> Any:
    kind = "comma-separated values, nor of values separated by semicolons or tabs"
    # Values as they stand in the file, so that messages can show them.
    as_written = {"index_col": 0, "dtype": str, "keep_default_na": False}
    table = read_table("--design", path, kind, sep=separator(path), **as_written)
    table.index = table.index.astype(str).str.strip()
    table.columns = table.columns.astype(str).str.strip()
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise ValueError(f"--design: {str(path)!r} has two rows of subject {twice!r}")
    return table


def _check_subjects(path: Path, rows: list[str], subjects: list[str]) -> None:
    others = {
        "it has no row for": [name for name in subjects if name not in rows],
        "there is no file of": [name for name in rows if name not in subjects],
    }
    parts = [f"{words} {', '.join(map(repr, names))}" for words, names in others.items() if names]
    if parts:
        raise ValueError(
            f"--design: the first column of {str(path)!r} must hold the names of the files without "
            f"their ending: {'; '.join(parts)}"
        )


def _numbers(path: Path, table: Any) -> Any:
    import numpy as np
    import pandas as pd

    numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
    for name, column in numbers.items():
        if np.isfinite(column).all():
            continue
        subject = column.index[~np.isfinite(column)][0]
        given = str(table.loc[subject, name])
        missing = given.strip().lower() in ("", "n/a", "na", "nan", "null", "none")
        advice = "code groups as numbers, such as -1 and 1"
        if missing:
            advice = (
                "leave out subjects whose values are missing, or choose other columns by "
                "--covariates"
            )
        elif "," in given:
            advice = "write decimals with a point"
        raise ValueError(
            f"--design: {name!r} of subject {subject!r} in {str(path)!r} is {given!r}, which "
            f"{'is a missing value' if missing else 'is no number'}; {advice}"
        )
    return numbers
