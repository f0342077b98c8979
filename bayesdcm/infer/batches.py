"""Problems that are run in batches: those of one shape, so that one compiled program serves all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.infer.method import Method
from bayesdcm.infer.problem import Problem
from bayesdcm.integrate.grid import TimeGrid, common_grids


class Task(NamedTuple):
    """A problem, how it is to be inferred, and what the status of the fit is to say besides."""

    problem: Problem
    method: Method
    seed: int
    notes: Mapping[str, Any] = {}


@dataclass(frozen=True, eq=False)
class Batch:
    """Tasks that a method runs together, with prepared data of one shape, and the key of each."""

    keys: Sequence[Hashable]
    tasks: Sequence[Task]

    def parts(self, number: int) -> Iterator[Batch]:
        """At most so many batches with some of the tasks each."""
        for places in np.array_split(np.arange(len(self.keys)), min(number, len(self.keys))):
            keys, tasks = ([items[i] for i in places] for items in (self.keys, self.tasks))
            yield replace(self, keys=keys, tasks=tasks)


def batches_of(
    tasks: Mapping[Hashable, Task], missing: Collection[Hashable] | None = None
) -> Iterator[Batch]:
    """Tasks arranged in batches, as their methods want it (`Method.batch_key`), in their order.

    All tasks are given, and which of them are still to do (default: all): what one gives must not
    depend on which others are left.
    """
    groups: dict[Hashable, list[Hashable]] = {}
    for key, task in tasks.items():
        common = task.method.batch_key(task.problem)
        place = ("alone", key) if common is None else (type(task.method), common)
        groups.setdefault(place, []).append(key)
    for (kind, _), keys in groups.items():
        chosen = [i for i, key in enumerate(keys) if missing is None or key in missing]
        if not chosen:
            continue
        if kind == "alone":
            yield Batch(keys, [tasks[keys[0]]])
            continue
        prepared = alike([tasks[key].problem.prepared for key in keys])
        yield Batch([keys[i] for i in chosen], [_on(tasks[keys[i]], prepared[i]) for i in chosen])


def _on(task: Task, prepared: Any) -> Task:
    """The same task on other prepared data."""
    return task._replace(problem=replace(task.problem, prepared=prepared))


def attempt(function: Callable, *arguments: Any) -> Any:
    """What a function returns, or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _is_grid(node: Any) -> bool:
    return isinstance(node, TimeGrid)


def shape_of(prepared: Any) -> Hashable:
    """What prepared data of subjects must have in common to be computed together.

    Structure, shapes and types of all arrays but time grids, which `alike` brings to one shape.
    """
    leaves, tree = jax.tree.flatten(prepared, is_leaf=_is_grid)
    kinds = tuple("grid" if _is_grid(leaf) else (leaf.shape, leaf.dtype.str) for leaf in leaves)
    return kinds, tree


def alike(prepared: Sequence[Any]) -> list[Any]:
    """Prepared data of one `shape_of`, with time grids of one shape.

    Subjects whose events differ have grids of different lengths; the shorter ones are padded with
    steps of no duration, which change nothing.
    """
    trees = [jax.tree.flatten(subject, is_leaf=_is_grid) for subject in prepared]
    columns = list(zip(*(leaves for leaves, _ in trees), strict=True))
    columns = [_common(column) if _is_grid(column[0]) else column for column in columns]
    rows = zip(*columns, strict=True) if columns else [()] * len(trees)
    return [jax.tree.unflatten(tree, row) for (_, tree), row in zip(trees, rows, strict=True)]


def _common(grids: Sequence[Any]) -> list[Any]:
    """`common_grids` on the device; subjects of one design have the same object."""
    different = {id(grid): grid for grid in grids}
    padded = jax.tree.map(jnp.asarray, common_grids(list(different.values())))
    padded_of = dict(zip(different, padded, strict=True))
    return [padded_of[id(grid)] for grid in grids]


def stack_prepared(prepared: Sequence[Any]) -> Any:
    """Prepared data of all subjects with a leading axis of subjects, for `jax.vmap`.

    A ValueError where data sets differ in more than the times of their events.
    """
    shapes = [shape_of(subject) for subject in prepared]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"datasets[{i}] does not have the shape of datasets[0]: subjects that are computed "
                "together need as many scans (or samples), regions (or channels), inputs and "
                "confounds"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike(prepared))
