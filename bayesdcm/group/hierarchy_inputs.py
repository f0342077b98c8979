"""What a hierarchy is given, checked and arranged: subjects, design, selected parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.data.named_axes import check_unnamed
from bayesdcm.group.design import checked_design, named_columns, warn_of_origin
from bayesdcm.group.members import aligned_datasets, check_fits
from bayesdcm.infer.batches import shape_of, stack_prepared
from bayesdcm.infer.density import Layout, Program, layout
from bayesdcm.infer.problem import _plain_labels
from bayesdcm.infer.results import Fit


@dataclass(frozen=True)
class ProgramModel:
    """A user's program as a model: its data are arrays that compiled code takes."""

    program: Callable[[Any], Any]

    observed_site = None

    def __post_init__(self) -> None:
        if not callable(self.program) or isinstance(self.program, type):
            raise TypeError(
                "model must be a model such as TaskDCM(...) or a NumPyro program called with one "
                f"subject's data, got {self.program!r}"
            )

    def __repr__(self) -> str:
        return f"program {getattr(self.program, '__name__', type(self.program).__name__)}"

    def sample(self, prepared: Any) -> Any:
        """Run the program on one subject's prepared data."""
        return self.program(prepared)

    def prepare(self, data: Any) -> Any:
        """The data as JAX arrays."""
        for leaf in jax.tree.leaves(data):
            check_unnamed(
                "data of a program",
                leaf,
                "give arrays, such as table.to_numpy(), with columns in one order for everybody",
            )
        return jax.tree.map(jnp.asarray, data)

    def labels(self, data: Any) -> dict[str, list[str]]:
        """Labels of the entries of every sampled site."""
        prepared = self.prepare(data)
        sites = layout(lambda: self.program(prepared)).sites
        return {site.name: _plain_labels(site.name, site.constrained_shape) for site in sites}

    def dims(self) -> dict[str, tuple[str, ...]]:
        """No names of axes."""
        return {}

    def coords(self, data: Any) -> dict[str, NDArray]:
        """No coordinates."""
        del data
        return {}


class Subject(NamedTuple):
    """One subject of a group: what the program takes, and names that results carry.

    The `posterior` is mean and covariance by variational Laplace, where it has been run.
    """

    name: str
    prepared: Any
    labels: Mapping[str, Sequence[str]]
    coords: Mapping[str, NDArray]
    posterior: tuple[NDArray, NDArray] | None


def subjects_of(model: Any, data: Any, *, prepare: bool = True) -> list[Subject]:
    """The subjects of a group, from data sets or fits, all with names in the order of the first."""
    # Said once, where data are prepared.
    data = aligned_datasets([model], _by_subject(data), warn=prepare)
    subjects = [
        _subject(model, name, item, prepare, named=i == 0 or not isinstance(model, ProgramModel))
        for i, (name, item) in enumerate(data.items())
    ]
    _check_labels(subjects)
    check_fits({name: item for name, item in data.items() if isinstance(item, Fit)})
    return subjects


def data_sets(data: Any) -> dict[str, Any]:
    """Data sets of the subjects by name, those of their fits where these were given."""
    return {
        name: item.problem.data if isinstance(item, Fit) else item
        for name, item in _by_subject(data).items()
    }


def _by_subject(data: Any) -> dict[str, Any]:
    """Data sets or fits by name of the subject."""
    if len(getattr(data, "models", ())) > 1:
        raise ValueError(
            f"data hold fits of several models, {', '.join(map(repr, data.models))}; choose one, "
            f"such as fits[{data.models[0]!r}]"
        )
    if isinstance(data, Mapping):
        names, items = [str(name) for name in data], list(data.values())
        if len(set(names)) < len(names):
            raise ValueError(f"data must have different names of subjects, got {names}")
    elif isinstance(data, Sequence | np.ndarray) and not isinstance(data, str):
        items = list(data)
        names = [str(n) for n in getattr(data, "subjects", range(1, len(items) + 1))]
        if not hasattr(data, "subjects"):
            names = [f"subject {name}" for name in names]
    else:
        raise TypeError(
            "data of a hierarchy must be a sequence (or mapping by name) of the subjects' data "
            f"sets or fits, got {type(data).__name__}"
        )
    if len(items) < 2:
        raise ValueError(f"a hierarchy needs at least two subjects, got {len(items)}")
    return dict(zip(names, items, strict=True))


def _check_labels(subjects: Sequence[Subject]) -> None:
    """Raise where entries of subjects' vectors are not the same parameters."""
    first = subjects[0]
    wanted = [label for entries in first.labels.values() for label in entries]
    for other in subjects[1:]:
        labels = [label for entries in other.labels.values() for label in entries]
        if not labels or labels == wanted:
            continue
        i = next((i for i, pair in enumerate(zip(labels, wanted)) if pair[0] != pair[1]), -1)  # noqa: B905
        raise ValueError(
            f"data: parameters of {other.name!r} are not those of {first.name!r}, or in another "
            f"order: {labels[i]!r} where {wanted[i]!r} was expected. Fit all to data with the same "
            "names in one order (data.reordered), or give the data sets themselves"
        )


def data_model(model: Any, data: Any) -> Any:
    """The model with priors of labelled entries in the places that names of a group give them."""
    items = data.values() if isinstance(data, Mapping) else data
    first = next(iter(items), None) if isinstance(items, Iterable) else None
    if first is None or not hasattr(model, "for_data"):
        return model
    if isinstance(first, Fit):
        coords = first.problem.coords
        axes = ("region", "input", "effect", "condition")
        first = SimpleNamespace(**{f"{axis}_names": list(coords.get(axis, ())) for axis in axes})
    return model.for_data(first)


def _subject(model: Any, name: str, item: Any, prepare: bool, named: bool) -> Subject:
    if not isinstance(item, Fit):
        labels, coords = (model.labels(item), model.coords(item)) if named else ({}, {})
        return Subject(name, model.prepare(item) if prepare else None, labels, coords, None)
    problem = item.problem
    posterior = item.posterior.gaussian
    if posterior is None:
        raise ValueError(
            f"data: the fit of {name} must be made by method='laplace'; give the data set instead"
        )
    prepared, program = problem.prepared, getattr(problem.source, "program", None)
    if isinstance(model, ProgramModel) and program == model.program:
        # Programs are compiled for the arrays among their data, or for all of them.
        prepared = model.prepare(problem.data)
    elif problem.model != model:
        raise ValueError(f"data: the fit of {name} is of another model than the hierarchy's")
    return Subject(name, prepared, problem.labels, problem.coords, posterior)


def in_batches(prepared: Sequence[Any]) -> tuple[list[Any], list[NDArray[np.intp]]]:
    """Stack what has arrays of equal shapes, time grids padded to one; and whom each stack has."""
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(prepared):
        groups.setdefault(shape_of(item), []).append(i)
    batches = [stack_prepared([prepared[i] for i in members]) for members in groups.values()]
    return batches, [np.array(members) for members in groups.values()]


def design_table(design: Any) -> pd.DataFrame | None:
    """A design before subjects are known, checked as far as that goes; tables keep their names."""
    if design is None:
        return None
    if isinstance(design, Mapping):
        named = named_columns(design)
        design = design if named is None else named
    if isinstance(design, pd.DataFrame):
        table = warn_of_origin(checked_design(design, list(design.index)))
        # Rows that were turned round keep their numbers, and then agree with no names.
        if not (isinstance(design.index, pd.RangeIndex) and design.index.step > 0):
            return table
    else:
        values = design.values() if isinstance(design, Mapping) else [design]
        length = max((len(v) for v in map(np.asarray, values) if v.ndim), default=0)
        table = warn_of_origin(checked_design(design, range(length)))
    return table.reset_index(drop=True)


def is_chosen(label: str, parameters: Sequence[str]) -> bool:
    """Whether a label such as ``"A[V5, V1]"`` is selected, by itself or by its name."""
    return label in parameters or label.partition("[")[0] in parameters


def fields_of(labels: Sequence[str]) -> list[str]:
    """Names without indices, each once."""
    return list(dict.fromkeys(label.partition("[")[0] for label in labels))


def components_of(between: str, labels: Sequence[str]) -> NDArray[np.float64]:
    """Which component of the precision between subjects parameters have, (selected, components)."""
    fields = np.array([label.partition("[")[0] for label in labels])
    return {
        "single": np.ones((len(labels), 1)),
        "fields": (fields[:, None] == fields_of(labels)).astype(float),
        "all": np.eye(len(labels)),
    }[between]


def selected_prior(
    model: Any, parameters: Sequence[str], program: Program, sites: Layout, labels: Sequence[str]
) -> tuple[NDArray[np.intp], NDArray, NDArray]:
    """Places (selected,) of the selected parameters in the flat vector, and the model's prior.

    Mean and variance (size,) of the whole flat vector; NaN where the prior is not normal and
    independent. Raises where that is selected, or nothing, or a name is unknown.
    """
    known = {prior.name for prior in getattr(model, "priors", ())} | set(labels)
    known |= {label.partition("[")[0] for label in labels}
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"parameters names {name!r}; the model has {', '.join(fields_of(labels))}"
            )
    chosen = [i for i, label in enumerate(labels) if is_chosen(label, parameters)]
    if not chosen:
        raise ValueError(f"parameters {tuple(parameters)} selects nothing that is free")
    seeded = numpyro.handlers.seed(program, jax.random.key(0))
    with numpyro.handlers.block():
        trace = numpyro.handlers.trace(seeded).get_trace()
    mean, variance = np.full(sites.size, np.nan), np.full(sites.size, np.nan)
    for site in sites.sites:
        prior = base = trace[site.name]["fn"]
        while hasattr(base, "base_dist"):
            base = base.base_dist
        if site.gaussian and isinstance(base, dist.Normal):
            places = sites.places[site.name]
            mean[places] = np.ravel(np.broadcast_to(prior.mean, site.shape))
            variance[places] = np.ravel(np.broadcast_to(prior.variance, site.shape))
    for i in chosen:
        if np.isnan(mean[i]):
            raise ValueError(
                f"the prior of {labels[i]} is not normal and independent, so it cannot vary about "
                "a group mean; leave it out of parameters"
            )
    return np.array(chosen), mean, variance
