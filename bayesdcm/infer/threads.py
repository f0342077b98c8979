"""Threads: one for linear algebra of small matrices, as many as there are cores for fits.

JAX's CPU decompositions call SciPy's OpenBLAS, whose threads cost more than they bring for matrices
of tens of rows: up to 15 times the CPU time of a step of variational Laplace, and 60 times that of
a response of five sources, where cores are shared.

Decompositions of many matrices are another matter. JAX hands them to threads of XLA's, as many as
there are cores, and the one that hands them over waits. It may be one of those threads itself,
since each that finishes its part of a large array goes on with what comes next; where all of them
wait, the program never ends. On two cores, values of 3,000 draws of a hierarchy of 16 subjects did
not. A single matrix is never handed over, nor are so few and small ones as `FEW_MULTIPLICATIONS`
allow: `map_rows` computes rows after each other, as many at once as are safe.

XLA also divides the parts of a single small program between its threads, which look for more to do
in a loop before they rest: `on_one_thread` has such a program computed by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any

import jax
from threadpoolctl import ThreadpoolController

from bayesdcm._configuration import TRIED_VERSION, jaxlib_version

# Jaxlib 0.10 hands over what takes about 200,000 multiplications; four chains may be side by side.
FEW_MULTIPLICATIONS = 50_000
# JAX's names of the operations that it hands over.
DECOMPOSITIONS = {
    "cholesky", "eig", "eigh", "geqrf", "householder_product", "lu", "schur", "svd",
    "triangular_solve",
}  # fmt: skip

# One of the two alone leaves threads at work.
ON_ONE_THREAD = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
}


def n_cores() -> int:
    """How many fits or chains run at the same time on a CPU."""
    return os.cpu_count() or 1


@cache
def _controller() -> ThreadpoolController:
    # Finding the loaded libraries takes milliseconds; they do not change once SciPy is in.
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


def on_one_thread() -> dict[str, Any] | None:
    """``compiler_options`` of `jax.jit` that leave a program undivided; None where unknown."""
    known = jaxlib_version()[:2] == TRIED_VERSION
    return ON_ONE_THREAD if known and jax.default_backend() == "cpu" else None


@contextmanager
def single_threaded_linear_algebra() -> Iterator[None]:
    """Limit BLAS and LAPACK to one thread while the block runs."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


def map_rows(function: Callable, rows: Any, at_most: int | None = None) -> Any:
    """`jax.vmap` of a function with linear algebra, on a CPU only so many rows at once as are safe.

    Every leaf of `rows` has a leading axis of rows. At most `at_most` rows (default: all) are
    computed at once, on a CPU no more than keep the largest decomposition below
    `FEW_MULTIPLICATIONS`.

    >>> import jax.numpy as jnp
    >>> map_rows(jnp.linalg.inv, jnp.full((3, 1, 1), 2.0)).ravel().tolist()
    [0.5, 0.5, 0.5]
    """
    n = len(jax.tree.leaves(rows)[0])
    together = min(n, at_most or n)
    if jax.default_backend() == "cpu":
        row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rows)
        largest = _multiplications(jax.make_jaxpr(function)(row).jaxpr)
        together = min(together, max(1, FEW_MULTIPLICATIONS // max(1, largest)))
    if together == n:
        return jax.vmap(function)(rows)
    # Rows that are left over would be compiled once more.
    even = [size for size in range(-(-together // 2), together + 1) if n % size == 0]
    size = even[-1] if even else together
    return jax.lax.map(function, rows, batch_size=size if size > 1 else None)


def _multiplications(jaxpr: Any) -> int:
    """About how many the largest decomposition in a traced function takes, of all its matrices."""
    largest = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in DECOMPOSITIONS:
            shapes = [variable.aval.shape for variable in equation.invars]
            largest = max(largest, *(prod(shape) * max(shape[-2:]) for shape in shapes))
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda node: hasattr(node, "eqns")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                largest = max(largest, _multiplications(inner))
    return largest
