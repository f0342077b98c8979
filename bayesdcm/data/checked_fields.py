"""Data that are checked when they are made, and so once more when a field is replaced."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import Any, Self

__all__ = ["CheckedFields"]


class CheckedFields:
    """Base of frozen dataclasses of data: a copy with other fields, and a table in notebooks."""

    def replace(self, **changes: Any) -> Self:
        """Return the same data with some fields replaced, checked anew.

        Parameters
        ----------
        **changes
            Fields and their new values; None asks for the default.

        Raises
        ------
        TypeError
            If a field does not exist.
        ValueError
            If the fields no longer agree with one another.

        Examples
        --------
        >>> import numpy as np
        >>> from bayesdcm.data import BoldData
        >>> data = BoldData(np.random.default_rng(0).normal(size=(4, 1)), 1.0)
        >>> data.replace(region_names=["V1"]).region_names
        ('V1',)
        """
        fields = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        unknown = [name for name in changes if name not in fields]
        if unknown:
            raise TypeError(
                f"replace got unknown field(s) {unknown}; {type(self).__name__} has {fields}. "
                "Check the names."
            )
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _describe(self) -> dict[str, str]:
        """Sentences about the data by heading."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Table for notebooks."""
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>"
            for key, value in self._describe().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"
