"""Covariates of a group: what users give, as a checked table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesdcm.data.validation import some_names, warn_caller

GROUP_MEAN = "mean"
# Standard deviations from 0 of a covariate's mean that go without a word: groups coded 0 and 1 have
# less, unless nearly all subjects are in one.
FAR = 2.0


def checked_design(
    design: pd.DataFrame | Mapping[str, ArrayLike] | ArrayLike | None, subjects: Sequence[Any]
) -> pd.DataFrame:
    """Covariates of subjects (subjects, covariates) as named columns, the group mean first.

    None stands for the group mean alone; a mapping may hold a number in place of a column. Rows
    that have the names of subjects (tables; Series in a mapping) are put in their order; those of
    arrays, and of tables numbered from 0, count by position.
    """
    n = len(subjects)
    table = _table(design, n)
    if len(table) != n:
        raise ValueError(f"design must have one row a subject, {n} in all; got {len(table)} rows")
    table = _in_order(table, list(subjects))
    if not table.columns.is_unique:
        raise ValueError(f"names of covariates must differ, got {list(table.columns)}")
    for name in table.columns:
        kind = table[name].dtype
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)):
            advice = "code groups as numbers, such as -1 and 1"
            if set(map(str, subjects)) <= set(map(str, table[name])):
                advice = f"it has the names of the subjects: give design.set_index({name!r})"
            raise TypeError(f"design[{name!r}] must hold numbers, got {kind}; {advice}")
    values = table.to_numpy(float, na_value=np.nan)
    missing = np.argwhere(~np.isfinite(values))
    if len(missing):
        row, column = missing[0]
        raise ValueError(
            f"design must be finite; {table.columns[column]!r} of subject {subjects[row]!r} is "
            f"{values[row, column]}"
        )
    _check_columns(values, [str(name) for name in table.columns])
    return pd.DataFrame(values, pd.Index(subjects, name="subject"), table.columns.astype(str))


def warn_of_origin(table: pd.DataFrame) -> pd.DataFrame:
    """The same table; a warning where a covariate is far from 0, as age is, for its spread."""
    mean, spread = table.mean().abs(), table.std(ddof=0)
    far = [name for name in table.columns[1:] if mean[name] > FAR * spread[name]]
    if far:
        warn_caller(
            f"design has covariates far from 0 for their spread ({some_names(far)}; {far[0]!r} has "
            f"mean {table[far[0]].mean():.4g} and standard deviation {spread[far[0]]:.3g}): the "
            f"prior shrinks their effects more than those of centred ones, and the effect of "
            f"{table.columns[0]!r} is that where they are 0. Subtract their means"
        )
    return table


def _table(design: Any, n_subjects: int) -> pd.DataFrame:
    if design is None:
        return pd.DataFrame({GROUP_MEAN: np.ones(n_subjects)})
    if isinstance(design, pd.DataFrame):
        return design
    if isinstance(design, Mapping):
        named = named_columns(design)
        if named is not None:
            return named
        columns = {name: np.asarray(values) for name, values in design.items()}
        for name, values in columns.items():
            if values.ndim > 1 or (values.ndim == 1 and len(values) != n_subjects):
                raise ValueError(
                    f"design[{name!r}] must hold one number a subject, {n_subjects} in all; got "
                    f"shape {values.shape}"
                )
        return pd.DataFrame({k: np.broadcast_to(v, n_subjects) for k, v in columns.items()})
    values = np.asarray(design)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"design must have the shape (subjects, covariates), got {values.shape}")
    names = [GROUP_MEAN, *(f"covariate {i}" for i in range(1, values.shape[1]))]
    return pd.DataFrame(values, columns=names[: values.shape[1]])


def named_columns(design: Mapping[Any, Any]) -> pd.DataFrame | None:
    """A mapping of covariates by subject, where Series in it have names of subjects; else None."""
    series = {
        name: values
        for name, values in design.items()
        if isinstance(values, pd.Series) and not isinstance(values.index, pd.RangeIndex)
    }
    if not series:
        return None
    first = next(iter(series))
    index = series[first].index
    columns = {}
    for name, values in design.items():
        if name in series:
            if not values.index.is_unique or set(values.index) != set(index):
                raise ValueError(
                    f"design[{name!r}] and design[{first!r}] must be of the same subjects, each "
                    f"once, got {some_names(list(values.index))} and {some_names(list(index))}"
                )
            columns[name] = values.reindex(index)
            continue
        plain = np.asarray(values)
        # What is the same for everyone has no order.
        if plain.ndim and (plain.shape != (len(index),) or (plain != plain[0]).any()):
            raise ValueError(
                f"design[{name!r}] has no names of subjects and design[{first!r}] has; give all "
                "as Series by subject, or all without names, in the order of the subjects"
            )
        columns[name] = plain[0] if plain.ndim else values
    return pd.DataFrame(columns, index=index)


def _in_order(table: pd.DataFrame, subjects: list[Any]) -> pd.DataFrame:
    """Rows in the order of the subjects, where rows have the names of subjects."""
    index = list(table.index)
    if index == subjects:
        return table
    numbered = subjects == list(range(len(subjects)))
    if numbered and table.index.is_unique and set(index) == set(subjects):
        # Such as rows that were sorted by a covariate: they keep their numbers.
        warn_caller(
            f"the index of design is {some_names(index)}: its rows were put in the order of the "
            "fits by these numbers. Give design.reset_index(drop=True) if they are in it as they "
            "stand"
        )
        return table.loc[subjects]
    plain = isinstance(table.index, pd.RangeIndex) and table.index.step > 0
    if plain or numbered:
        return table
    if not table.index.is_unique or set(table.index) != set(subjects):
        other = [name for name in table.index if name not in subjects] or list(table.index)
        raise ValueError(
            f"the index of design must hold the names of the subjects, {subjects}; got "
            f"{other[0]!r} among others. Give design.reset_index(drop=True) if its rows are in "
            "the order of the fits"
        )
    return table.loc[subjects]


def _check_columns(values: np.ndarray, names: list[str]) -> None:
    if not len(names):
        raise ValueError("design has no column; the first covariate must be a constant 1")
    if not (values[:, 0] == 1).all():
        raise ValueError(
            f"the first covariate of design must be 1 for every subject, the group mean; "
            f"{names[0]!r} is {np.round(values[:, 0], 4).tolist()}. Put a constant first, such as "
            "design={'mean': 1, ...}; code two groups as one covariate besides it"
        )
    if values.shape[1] > len(values) or dependent(values):
        raise ValueError(
            f"covariates {names} of {len(values)} subjects are linear combinations of each other; "
            "leave out those that follow from others, or that are constant besides the first"
        )


def covariate_sizes(values: np.ndarray) -> np.ndarray:
    """Root mean square over subjects of covariates (subjects, covariates), 1 for the group mean."""
    largest = np.abs(values).max(0)
    return largest * np.sqrt(((values / largest) ** 2).mean(0))


def dependent(values: np.ndarray) -> bool:
    """Whether covariates (subjects, covariates) are linear combinations, whatever their units."""
    largest = np.abs(values).max(0)
    scaled = values / np.where(largest > 0, largest, 1.0)
    return bool(np.linalg.matrix_rank(scaled) < values.shape[1])
