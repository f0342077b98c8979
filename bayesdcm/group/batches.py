"""Data sets of one shape, so that one compiled program serves all subjects."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.integrate.grid import TimeGrid, common_grids


def _is_grid(node: Any) -> bool:
    return isinstance(node, TimeGrid)


def shape_of(prepared: Any) -> Hashable:
    """What prepared data of subjects must have in common to be computed together.

    Parameters
    ----------
    prepared : pytree
        From a model's ``prepare``.

    Returns
    -------
    hashable
        Structure, shapes and types of all arrays but time grids, which `alike` brings to one
        shape.
    """
    leaves, tree = jax.tree.flatten(prepared, is_leaf=_is_grid)
    kinds = tuple("grid" if _is_grid(leaf) else (leaf.shape, leaf.dtype.str) for leaf in leaves)
    return kinds, tree


def alike(prepared: Sequence[Any]) -> list[Any]:
    """The same data with time grids of one shape.

    Subjects whose events differ have grids of different lengths; the shorter ones are padded with
    steps of no duration, which change nothing.

    Parameters
    ----------
    prepared : sequence of pytree
        From a model's ``prepare``, all of one `shape_of`.

    Returns
    -------
    list of pytree
        In the same order.
    """
    trees = [jax.tree.flatten(each, is_leaf=_is_grid) for each in prepared]
    columns = list(zip(*(leaves for leaves, _ in trees), strict=True))
    columns = [_common(column) if _is_grid(column[0]) else column for column in columns]
    rows = zip(*columns, strict=True) if columns else [()] * len(trees)
    return [jax.tree.unflatten(tree, row) for (_, tree), row in zip(trees, rows, strict=True)]


def _common(grids: Sequence[Any]) -> list[Any]:
    """`common_grids` on the device; subjects of one design have the same object."""
    different = {id(grid): grid for grid in grids}
    found = jax.tree.map(jnp.asarray, common_grids(list(different.values())))
    of = dict(zip(different, found, strict=True))
    return [of[id(grid)] for grid in grids]


def own_arrays(prepared: Sequence[Any]) -> tuple[bool, ...]:
    """Of each array of the prepared data, whether subjects have one of their own, or share it.

    Parameters
    ----------
    prepared : sequence of pytree
        From `alike`.

    Returns
    -------
    tuple of bool
        In the order of the leaves. Time grids are shared as a whole or not at all, other arrays
        never.
    """
    trees = [jax.tree.flatten(each, is_leaf=_is_grid)[0] for each in prepared]
    own: list[bool] = []
    for column in zip(*trees, strict=True):
        if not _is_grid(column[0]):
            own.append(True)
            continue
        first = jax.tree.map(np.asarray, column[0])
        same = all(
            np.array_equal(a, b)
            for grid in column[1:]
            if grid is not column[0]
            for a, b in zip(first, grid, strict=True)
        )
        own.extend([not same] * len(first))
    return tuple(own)


def stack_prepared(prepared: Sequence[Any]) -> Any:
    """Prepared data of all subjects with a leading axis of subjects, for `jax.vmap`.

    Parameters
    ----------
    prepared : sequence of pytree
        From a model's ``prepare``.

    Returns
    -------
    pytree
        Each array (subjects, ...).

    Raises
    ------
    ValueError
        If the data sets differ in more than the times of their events.

    Examples
    --------
    >>> import numpy as np
    >>> stack_prepared([{"y": np.zeros(3)}, {"y": np.ones(3)}])["y"].shape
    (2, 3)
    """
    shapes = [shape_of(each) for each in prepared]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"datasets[{i}] does not have the shape of datasets[0]: subjects that are computed "
                "together need as many scans (or samples), regions (or channels), inputs and "
                "confounds"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike(prepared))
