"""Whether a function needs an argument, read off its operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr


def depends(function: Callable, arguments: tuple, index: int = 0) -> bool:
    """Whether a function's value changes with argument `index`, as long as that is finite.

    Operations count at the example arguments, not numbers: where the answer is no, it is no
    everywhere; a yes may be an argument that cancels. Tests of whether a number is finite, which
    densities make, are taken as passed.

    >>> import jax.numpy as jnp
    >>> depends(jax.grad(lambda x: jnp.where(jnp.isfinite(x), 3 * x, 0)), (1.0,))
    False
    """
    traced = jax.make_jaxpr(function)(*arguments)
    jaxpr = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)[0]
    n_leaves = [len(jax.tree.leaves(argument)) for argument in arguments]
    start = sum(n_leaves[:index])
    tainted = set(jaxpr.invars[start : start + n_leaves[index]])
    for equation in jaxpr.eqns:
        inputs = [v for v in equation.invars if not hasattr(v, "val")]
        if not tainted.isdisjoint(inputs) and not _tests_finiteness(equation):
            tainted.update(equation.outvars)
    return any(not hasattr(v, "val") and v in tainted for v in jaxpr.outvars)


def _tests_finiteness(equation: Any) -> bool:
    name = equation.primitive.name
    if name == "is_finite":
        return True
    if name not in ("eq", "ne"):
        return False
    first, second = equation.invars
    infinite = any(hasattr(v, "val") and np.isinf(v.val).all() for v in (first, second))
    return infinite or first is second
