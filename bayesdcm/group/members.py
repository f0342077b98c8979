"""Names of the subjects and models of a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bayesdcm.data.alignment import aligned, check_rows
from bayesdcm.data.responses import Responses
from bayesdcm.data.run import Run
from bayesdcm.infer.results import Fit

# Of the only model, where it was given no name.
ONLY = "model"


class OfSubjects(tuple):
    """A tuple with one item a subject, and the names of these as ``subjects``.

    `peb`, `select_models` and whatever else joins by name finds them there.
    """

    subjects: list[Any]


def of_subjects(items: Iterable[Any], names: Sequence[Any]) -> tuple[Any, ...]:
    """Items with the names of subjects; a plain tuple where these are only numbered from 0."""
    items, names = tuple(items), list(names)
    if names == list(range(len(items))):
        return items
    sequence = OfSubjects(items)
    sequence.subjects = names
    return sequence


def name_datasets(datasets: Any) -> dict[str, Any]:
    """Data sets by subject: ``"1"``, ``"2"``, ... (with leading zeros) where they have no names."""
    if isinstance(datasets, Mapping):
        by_subject = dict(datasets)
    elif isinstance(datasets, Sequence | np.ndarray) and not isinstance(datasets, str | bytes):
        width = len(str(len(datasets)))
        by_subject = {f"{i + 1:0{width}d}": data for i, data in enumerate(datasets)}
    else:
        raise TypeError(
            "datasets must be a sequence of data sets, or a dict from subjects to data sets, got "
            f"{type(datasets).__name__}"
        )
    _check_names("datasets", by_subject)
    return by_subject


def name_models(models: Any) -> dict[str, Any]:
    """Models by name; the only one is ``"model"``."""
    if isinstance(models, list | tuple):
        raise TypeError(
            f"models must be one model, or a dict from names to models, got a "
            f"{type(models).__name__}; name them, such as {{'full': model, 'reduced': other}}"
        )
    by_name = dict(models) if isinstance(models, Mapping) else {ONLY: models}
    _check_names("models", by_name)
    return by_name


def aligned_datasets(
    models: Iterable[Any], datasets: Mapping[str, Any], *, warn: bool = True
) -> dict[str, Any]:
    """Data sets with everything in the order of the first, by name, as models count places.

    Channels must be the same in all where a model holds modes or a lead field.
    """
    by_channel = any(
        getattr(model, name, None) is not None
        for model in models
        for name in ("modes", "lead_field")
    )
    return aligned(datasets, same_channels=by_channel, warn=warn)


def check_fits(fits: Mapping[Any, Fit]) -> None:
    """Raise where labels of fits agree, but what they stand for is ordered otherwise.

    As for programs, whose parameters have numbers for labels, fitted to data with names in another
    order; and for effects of evoked responses of other conditions.
    """
    problems = {name: fit.problem for name, fit in fits.items() if fit.is_bound}
    given = {}
    for name, problem in problems.items():
        source = problem.source
        for data in (getattr(source, "data", None), *getattr(source, "fixed", ())):
            if isinstance(data, Run | Responses):
                given[name] = data
    for name, data in aligned(given, warn=False).items():
        if data is not given[name]:
            raise ValueError(
                f"the data of {name!r} and {next(iter(given))!r} have names in another order, and "
                "parameters of programs are known by their places; fit all by one call of "
                "fit_group, or put the data in one order before (data.reordered)"
            )
    designs = {
        name: (problem.coords["condition"], problem.coords["effect"], problem.constants["design"])
        for name, problem in reversed(problems.items())
        if "design" in problem.constants and {"condition", "effect"} <= set(problem.coords)
    }
    check_rows(designs)


def _check_names(argument: str, items: dict[str, Any]) -> None:
    if not items:
        raise ValueError(f"{argument} is empty; give at least one")
    for name in items:
        if not isinstance(name, str) or not name:
            raise TypeError(f"{argument} must have names that are text, got {name!r}")
