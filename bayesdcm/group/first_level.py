"""What a group's model is made from: posteriors of subjects, or of groups, by label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.compare.gaussian_fit import gaussian_of
from bayesdcm.compare.reduction import prior_changes
from bayesdcm.data.validation import some_names
from bayesdcm.infer.results import Fit

# Connections and their modulations, as in SPM.
CONNECTIONS = ("A", "B")


@dataclass(frozen=True, eq=False)
class FirstLevel:
    """Gaussian posterior and prior of one subject, or of the effects of one group.

    `names` has positions of entries by label, and by whatever else names some of them, such as a
    site; `fields` the site of each entry. Entries over `unit` (size,) are of order one. Means are
    (size,), covariances (size, size), `log_evidence` in nats. `absent(i)` is the value at which
    entry i is off; it raises where there is none. `source` is the fit, or the effects, that this
    is of.
    """

    name: Any
    labels: tuple[str, ...]
    names: Mapping[str, list[int]]
    fields: tuple[str, ...]
    unit: NDArray
    mean: NDArray
    covariance: NDArray
    prior_mean: NDArray
    prior_covariance: NDArray
    log_evidence: float
    absent: Callable[[int], float]
    source: Any

    def places(self, labels: Iterable[str]) -> NDArray:
        """Positions of labels, which must be there."""
        positions = []
        for label in labels:
            if label not in self.names:
                raise ValueError(
                    f"all fits must have the same parameters; that of subject {self.name!r} lacks "
                    f"{label!r}"
                )
            positions += self.names[label]
        return np.array(positions, int)


def names_of(labels: Sequence[str], fields: Sequence[str]) -> dict[str, list[int]]:
    """Positions of entries by site (or field) and by label."""
    names: dict[str, list[int]] = {}
    for i, field in enumerate(fields):
        names.setdefault(field, []).append(i)
    for i, label in enumerate(labels):
        names[label] = [i]
    return names


def of_fit(name: Any, fit: Any) -> FirstLevel:
    """Posterior of a subject from its fit by variational Laplace."""
    if not isinstance(fit, Fit):
        raise TypeError(
            f"fits must hold fits, as bayesdcm.fit returns them, or effects of groups; that of "
            f"subject {name!r} is {type(fit).__name__}"
        )
    try:
        gaussian = gaussian_of(fit)
    except ValueError as error:
        raise ValueError(f"subject {name!r}: {error}") from error
    labels = tuple(gaussian.labels)
    fields = tuple(map(_site, labels))
    return FirstLevel(
        name,
        labels,
        names_of(labels, fields),
        fields,
        gaussian.unit,
        gaussian.mean,
        gaussian.covariance,
        gaussian.prior_mean,
        gaussian.prior_covariance,
        float(fit.log_evidence),
        partial(_absent, fit, labels),
        fit,
    )


def _absent(fit: Fit, labels: Sequence[str], i: int) -> float:
    return prior_changes(fit.problem, [labels[i]], {})[i][0] if fit.is_bound else 0.0


def named_items(fits: Any) -> tuple[list[Any], list[Any]]:
    """Names of subjects, or numbers from 0 where there are none, and their fits."""
    if isinstance(fits, Mapping):
        names, items = list(fits), list(fits.values())
    elif isinstance(fits, Sequence) and not isinstance(fits, str):
        items = list(fits)
        names = list(getattr(fits, "subjects", range(len(items))))
        models = getattr(fits, "models", [])
        if len(models) > 1:
            raise ValueError(
                f"fits hold several models, {', '.join(map(repr, models))}; choose one, such as "
                f"fits[{models[0]!r}]"
            )
    else:
        raise TypeError(
            f"fits must be a sequence or a mapping of fits, one a subject, got "
            f"{type(fits).__name__}"
        )
    if len(items) < 2:
        raise ValueError(f"fits must hold two subjects or more, got {len(items)}")
    return names, items


def select(first: Sequence[FirstLevel], parameters: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels of the parameters that a group's model is about, and the field of each.

    Selected by sites and labels, which a mapping has by the name of a field; in the order of the
    first subject's flat vector.
    """
    one = first[0]
    if isinstance(parameters, Mapping):
        wanted = [
            (field, name)
            for field, names in parameters.items()
            for name in ([names] if isinstance(names, str) else names)
        ]
    else:
        if isinstance(parameters, str):
            parameters = [parameters]
        if not isinstance(parameters, Iterable):
            raise TypeError(
                f"parameters must hold sites such as 'A' or labels such as 'A[V5, V1]', got "
                f"{parameters!r}"
            )
        wanted = [(None, name) for name in _usual(one, tuple(parameters))]
    chosen: dict[int, str] = {}
    for field, name in wanted:
        if not isinstance(name, str) or name not in one.names:
            raise ValueError(
                f"parameters names {name!r}, which is no free parameter of the fits; expected "
                f"some of {', '.join(map(repr, one.names))}"
            )
        for i in one.names[name]:
            if i in chosen:
                raise ValueError(f"{one.labels[i]!r} is named twice in parameters; name it once")
            chosen[i] = one.fields[i] if field is None else str(field)
    if not chosen:
        raise ValueError("parameters must name one parameter or more, got none")
    order = sorted(chosen)
    labels = tuple(one.labels[i] for i in order)
    groups = not isinstance(one.source, Fit)
    for other in first[1:]:
        other.places(labels)
        _check_meaning(one, other, labels)
        known = {other.labels[i] for _, name in wanted for i in other.names.get(name, ())}
        if groups and parameters == CONNECTIONS:
            known = set(other.labels)
        more = [label for label in other.labels if label in known and label not in labels]
        if more:
            raise ValueError(
                f"all fits must have the same parameters; that of subject {other.name!r} has "
                f"{some_names(more)}, which that of {one.name!r} lacks. Fit one model to all, or "
                "name the labels that all have in parameters"
            )
    return labels, tuple(chosen[i] for i in order)


def _check_meaning(one: FirstLevel, other: FirstLevel, labels: Sequence[str]) -> None:
    """Raise where parameters of the same name are not the same thing."""
    if not (isinstance(one.source, Fit) and isinstance(other.source, Fit)):
        return
    models = [level.source.description.partition("(")[0] for level in (one, other)]
    facts = [level.source.facts for level in (one, other)]
    units = [{name: each.units.get(name) for name in map(_site, labels)} for each in facts]
    own = [{name: each.self_units.get(name) for name in map(_site, labels)} for each in facts]
    if facts[0].kind != facts[1].kind or units[0] != units[1] or own[0] != own[1]:
        raise ValueError(
            f"all fits must be of one model, but that of subject {one.name!r} is of {models[0]} "
            f"and that of {other.name!r} is of {models[1]}, whose parameters have another meaning "
            "or unit"
        )


def _site(label: str) -> str:
    return label.partition("[")[0]


def _usual(one: FirstLevel, parameters: tuple) -> Sequence[str]:
    """What to select where the default is asked for: not all models have modulations."""
    if parameters != CONNECTIONS:
        return parameters
    if not isinstance(one.source, Fit):
        return one.labels
    connections = [name for name in CONNECTIONS if name in one.names]
    if not connections:
        sites = sorted(set(one.fields))
        raise ValueError(
            "parameters must be given: the fits have no sites A or B, but "
            f"{', '.join(map(repr, sites))}"
        )
    return connections
