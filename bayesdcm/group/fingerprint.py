"""Whether a stored fit is of these data, this model and these options."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from bayesdcm import __version__


def fingerprint(*values: Any) -> str:
    """A text of 32 hexadecimal digits that differs where any array, option or structure differs.

    Of dataclasses, mappings, sequences, arrays, programs, plain values, and the package's version.
    """
    digest = hashlib.sha256(__version__.encode())
    for value in values:
        _update(digest, value)
    return digest.hexdigest()[:32]


def _update(digest: Any, value: Any) -> None:
    digest.update(type(value).__name__.encode())
    if hasattr(value, "_asdict") and not isinstance(value, type):
        _update(digest, value._asdict())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            digest.update(field.name.encode())
            _update(digest, getattr(value, field.name))
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            digest.update(str(name).encode())
            _update(digest, value[name])
    elif isinstance(value, list | tuple | set | frozenset):
        for entry in value:
            _update(digest, entry)
    elif isinstance(value, str | bytes | int | float | complex | bool | type(None)):
        digest.update(repr(value).encode())
    elif isinstance(value, partial):
        _update(digest, (value.func, value.args, value.keywords))
    elif callable(value) and hasattr(value, "__code__"):
        digest.update(_code(value))
        for cell in value.__closure__ or ():
            _update(digest, cell.cell_contents)
    else:
        _update_object(digest, value)


def _code(function: Any) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        return function.__code__.co_code


def _update_object(digest: Any, value: Any) -> None:
    array = np.asarray(value)
    if array.dtype != object:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    elif hasattr(value, "__dict__"):
        _update(digest, vars(value))
    else:
        digest.update(repr(value).encode())
