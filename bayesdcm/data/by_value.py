"""Equality of what holds arrays, by its values: for keys of caches and of compiled programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

import jax
import numpy as np

Held = TypeVar("Held")


def structure_key(value: Any) -> Any:
    """What makes a value equal to another: its class, fields and numbers, hashable.

    Arrays, dataclasses, mappings and sequences are taken apart; other values stand for themselves.
    """
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return array.shape, array.dtype.str, array.tobytes()
    if is_dataclass(value) and not isinstance(value, type):
        parts = tuple(structure_key(getattr(value, each.name)) for each in fields(value))
        return type(value), parts
    if isinstance(value, Mapping):
        return tuple((name, structure_key(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(structure_key(each) for each in value)
    return value


@jax.tree_util.register_static
class ByValue(Generic[Held]):
    """Holds a value, and is equal to what holds an equal one; a constant of compiled code.

    By default `structure_key` of the value makes it equal.
    """

    def __init__(self, value: Held, key: Any = None) -> None:
        self.value = value
        self._key = structure_key(value) if key is None else key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByValue) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
