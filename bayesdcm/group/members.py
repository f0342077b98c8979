"""Names of the subjects and models of a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bayesdcm.data.alignment import aligned

# Of the only model, where it was given no name.
ONLY = "model"


class OfSubjects(tuple):
    """A tuple with one item a subject, and the names of these as ``subjects``.

    `peb`, `select_models` and whatever else joins by name finds them there.
    """

    subjects: list[Any]


def of_subjects(items: Iterable[Any], names: Sequence[Any]) -> tuple[Any, ...]:
    """Items with the names of subjects; a plain tuple where these are only numbered from 0.

    Parameters
    ----------
    items : iterable
        One a subject.
    names : sequence
        Names in the same order.

    Returns
    -------
    tuple
        Of the items.

    Examples
    --------
    >>> of_subjects("ab", ["ann", "ben"]).subjects
    ['ann', 'ben']
    """
    items, names = tuple(items), list(names)
    if names == list(range(len(items))):
        return items
    found = OfSubjects(items)
    found.subjects = names
    return found


def name_datasets(datasets: Any) -> dict[str, Any]:
    """Data sets by subject.

    Parameters
    ----------
    datasets : mapping or sequence
        Data sets, with names of subjects or numbered.

    Returns
    -------
    dict
        Names ``"1"``, ``"2"``, ... (with leading zeros) where none were given.

    Raises
    ------
    TypeError
        If it is neither, or a name is no text.
    ValueError
        If there is no data set.

    Examples
    --------
    >>> list(name_datasets([None] * 10))[:2]
    ['01', '02']
    """
    if isinstance(datasets, Mapping):
        found = dict(datasets)
    elif isinstance(datasets, Sequence | np.ndarray) and not isinstance(datasets, str | bytes):
        width = len(str(len(datasets)))
        found = {f"{i + 1:0{width}d}": data for i, data in enumerate(datasets)}
    else:
        raise TypeError(
            "datasets must be a sequence of data sets, or a dict from subjects to data sets, got "
            f"{type(datasets).__name__}"
        )
    _check_names("datasets", found)
    return found


def name_models(models: Any) -> dict[str, Any]:
    """Models by name.

    Parameters
    ----------
    models : model, program, or mapping
        One model, or several with names.

    Returns
    -------
    dict
        The only model is named ``"model"``.

    Raises
    ------
    TypeError
        If several models come without names, or a name is no text.
    ValueError
        If there is no model.
    """
    if isinstance(models, list | tuple):
        raise TypeError(
            f"models must be one model, or a dict from names to models, got a "
            f"{type(models).__name__}; name them, such as {{'full': model, 'reduced': other}}"
        )
    found = dict(models) if isinstance(models, Mapping) else {ONLY: models}
    _check_names("models", found)
    return found


def aligned_datasets(
    models: Iterable[Any], datasets: Mapping[str, Any], *, warn: bool = True
) -> dict[str, Any]:
    """Data sets with everything in the order of the first, by name, as models count places.

    Parameters
    ----------
    models : iterable of model
        Channels must be the same in all where one of them holds modes or a lead field.
    datasets : mapping
        Data sets by subject.
    warn : bool
        Whether to say so where an order is changed.

    Returns
    -------
    dict
        As `bayesdcm.data.alignment.aligned` gives it, with its errors.
    """
    by_channel = any(
        getattr(model, name, None) is not None
        for model in models
        for name in ("modes", "lead_field")
    )
    return aligned(datasets, same_channels=by_channel, warn=warn)


def _check_names(argument: str, found: dict[str, Any]) -> None:
    if not found:
        raise ValueError(f"{argument} is empty; give at least one")
    for name in found:
        if not isinstance(name, str) or not name:
            raise TypeError(f"{argument} must have names that are text, got {name!r}")
