"""Arrays of data on JAX's device."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def on_device(tree: Any) -> Any:
    """The arrays and numbers of a pytree as JAX arrays.

    ``jax.numpy.asarray`` compiles a program for each shape; this compiles none.

    Examples
    --------
    >>> on_device({"dt": 0.5})["dt"].shape
    ()
    """
    return jax.tree.map(_on_device, tree)


def _on_device(leaf: Any) -> jax.Array:
    return leaf if isinstance(leaf, jax.Array) else jax.device_put(np.asarray(leaf))
