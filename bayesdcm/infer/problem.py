"""What is to be inferred: a program bound to data, with the names that results carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout, Program, layout
from bayesdcm.infer.threads import single_threaded_linear_algebra
from bayesdcm.models.dcm import Prepared
from bayesdcm.models.facts import Facts

FREE = "_free"


@dataclass(frozen=True)
class ModelSource:
    """A hashable model of this package: its program takes prepared data as arrays.

    Equal models are equal sources, so programs compiled for one data set serve all others of the
    same shape. Those of a `DCM` do not know the numbers of its normal priors either, which are
    among the arrays (`DCM.structure`): what needs them takes `Problem.model`.
    """

    model: Any

    def bind(self, prepared: Any) -> Program:
        """The program on prepared data."""
        return partial(self.model.sample, prepared)


@dataclass(frozen=True, eq=False)
class ProgramSource:
    """A user's program, called with `data`, which are constants of the compiled code."""

    program: Callable[[Any], Any]
    data: Any

    def bind(self, prepared: Any) -> Program:
        """The program on its data."""
        del prepared
        return partial(self.program, self.data)


@dataclass(frozen=True)
class SharedSource:
    """A user's program that takes the arrays of its data as prepared data.

    Equal where program, structure (`tree`) and all leaves that are no array (`fixed`, None for
    arrays) are equal, so that programs compiled for one data set serve all others of the same
    shape.
    """

    program: Callable[[Any], Any]
    tree: Any
    fixed: tuple

    def bind(self, prepared: Any) -> Program:
        """The program on data made of these arrays."""
        arrays = iter(prepared)
        leaves = [next(arrays) if leaf is None else leaf for leaf in self.fixed]
        return partial(self.program, jax.tree.unflatten(self.tree, leaves))


@lru_cache(maxsize=256)
def _cached_layout(source: ModelSource, shapes: tuple, tree: Any) -> Layout:
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    return _traced_layout(source, jax.tree.unflatten(tree, arrays))


@dataclass(frozen=True, eq=False)
class Problem:
    """A program bound to data."""

    source: ModelSource | ProgramSource | SharedSource  # A static argument of compiled functions.
    prepared: Any  # Arrays that the program takes.
    sites: Layout
    labels: Mapping[str, Sequence[str]]  # Of the entries of each sampled site.
    dims: Mapping[str, Sequence[str]]  # Names of axes by site.
    coords: Mapping[str, NDArray]
    constants: Mapping[str, NDArray]  # Of the data set, which results hold.
    # From modelled to original units, for the site `restored`; and from modelled to results' axes.
    restore: Callable[[NDArray], NDArray]
    arrange: Callable[[NDArray], NDArray]
    restored: str | None  # The observed site that is rescaled before modelling.
    description: str  # The model in one line.
    facts: Facts = field(default_factory=Facts)  # Of a program, no more than that it is one.
    model: Any = None  # What it was made from, with `data`.
    data: Any = None
    prior: Any = None  # A `JointPrior` that has replaced the program's own.

    @property
    def flat_labels(self) -> list[str]:
        """Labels of all entries of sampled sites, in the order of the flat vector."""
        return [label for site in self.sites.sites for label in self.labels[site.name]]

    @property
    def precision_sites(self) -> list[str]:
        """Names of the sites that are log-precisions of the noise."""
        return [site.name for site in self.sites.sites if site.precision]

    @property
    def uncentred_sites(self) -> list[str]:
        """Names of the sites whose scales are parameters: those of horseshoe priors."""
        return [site.name for site in self.sites.sites if not site.centred]


@single_threaded_linear_algebra()
def make_problem(model: Any, data: Any, shared: bool = False, coordinates: Any = None) -> Problem:
    """Bind a model of this package, or a NumPyro program that is called with `data`, to data.

    `shared`: whether compiled code should serve other data of the same shape also where `model` is
    a program, which then gets traced arrays, if it runs with them. `coordinates`: what a model that
    chooses coordinates of its program by data has chosen before. A TypeError of what is neither.
    """
    if hasattr(model, "program") and hasattr(model, "sample") and not isinstance(model, type):
        named = model.for_data(data) if hasattr(model, "for_data") else model
        return _model_problem(named, data, coordinates)
    if not callable(model) or isinstance(model, type):
        raise TypeError(
            f"model must be a model such as TaskDCM(...) or a NumPyro program called with data, "
            f"got {model!r}"
        )
    source, prepared, sites = _program_source(model, data, shared)
    labels = {site.name: _plain_labels(site.name, site.constrained_shape) for site in sites.sites}
    name = getattr(model, "__name__", type(model).__name__)
    as_given = ({}, {}, {}, _as_is, _as_is, None, f"program {name}")
    return Problem(source, prepared, sites, labels, *as_given, model=model, data=data)


def _program_source(program: Callable, data: Any, shared: bool) -> tuple[Any, Any, Layout]:
    if shared:
        leaves, tree = jax.tree.flatten(data)
        varying = [isinstance(leaf, np.ndarray | jax.Array) and leaf.ndim > 0 for leaf in leaves]
        fixed = tuple(None if v else leaf for v, leaf in zip(varying, leaves, strict=True))
        arrays = [jax.numpy.asarray(leaf) for v, leaf in zip(varying, leaves, strict=True) if v]
        source = SharedSource(program, tree, fixed)
        try:
            hash(source)
            return source, arrays, _traced_layout(source, arrays)
        except Exception:
            # It needs numbers while it is traced, or what is no array cannot be compared. What is
            # wrong with data themselves is said below.
            pass
    source = ProgramSource(program, data)
    return source, None, layout(source.bind(None))


def _traced_layout(source: Any, prepared: Any) -> Layout:
    """The layout of a program on arrays of which shapes count only."""
    layouts = []
    jax.eval_shape(lambda arrays: layouts.append(layout(source.bind(arrays))), prepared)
    return layouts[0]


def normal_prior(
    source: Any, sites: Layout, prepared: Any, numbers: Any = np
) -> tuple[Any, Any] | None:
    """Means and standard deviations, each (size,), of a prior of independent normal parameters.

    Where a model's prepared data have them all; None elsewhere, whatever the prior is. `numbers` is
    NumPy, or JAX's for prepared data that are traced.
    """
    ours = isinstance(source, ModelSource) and isinstance(prepared, Prepared)
    known = prepared.priors if ours else {}
    given = [known.get(site.name.removesuffix(FREE)) for site in sites.sites]
    if any(each is None for each in given) or not all(site.gaussian for site in sites.sites):
        return None
    mean, sd = (numbers.concatenate([numbers.ravel(each[k]) for each in given]) for k in range(2))
    return mean, sd


def _as_is(values: NDArray) -> NDArray:
    return values


def _model_problem(model: Any, data: Any, coordinates: Any) -> Problem:
    source = ModelSource(getattr(model, "structure", model))
    prepared = model.prepare(data) if coordinates is None else model.prepare(data, coordinates)
    leaves, tree = jax.tree.flatten(prepared)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return Problem(
        source,
        prepared,
        _cached_layout(source, shapes, tree),
        model.labels(data),
        model.dims(),
        model.coords(data),
        model.constants(data),
        lambda values: model.restore(values, data),
        lambda values: model.arrange(values, data),
        model.observed_site,
        repr(model),
        model.facts() if hasattr(model, "facts") else Facts(),
        model,
        data,
    )


def _plain_labels(name: str, shape: tuple[int, ...]) -> list[str]:
    if not shape:
        return [name]
    return [f"{name}[{', '.join(map(str, index))}]" for index in np.ndindex(*shape)]
