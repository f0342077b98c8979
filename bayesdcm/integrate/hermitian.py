"""Cross-spectra as real numbers: as many columns as a Hermitian matrix has real entries.

The matrix S becomes M with ``M_ii = S_ii``, above the diagonal ``sqrt(2) Re S_ij``, and below it
``sqrt(2) Im S_ij``, so that ``sum |S_ij|^2 = sum M_ij^2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray


def to_columns(spectra: Any) -> Any:
    """Hermitian matrices (..., n, n) as real columns (..., n n); NumPy for NumPy's arrays.

    Examples
    --------
    >>> to_columns(np.array([[1.0, 3 + 4j], [3 - 4j, 2.0]])).round(3).tolist()
    [1.0, 4.243, -5.657, 2.0]
    """
    n, xp = spectra.shape[-1], jnp if isinstance(spectra, jax.Array) else np
    above = np.triu(np.ones((n, n), bool))
    scale = np.where(np.eye(n, dtype=bool), 1.0, np.sqrt(2))
    matrix = scale * xp.where(above, spectra.real, spectra.imag)
    return matrix.reshape(*spectra.shape[:-2], n * n)


def from_columns(columns: Any) -> Any:
    """Hermitian matrices (..., n, n) of real columns (..., n n), the inverse of `to_columns`.

    Examples
    --------
    >>> from_columns(np.array([1.0, 2.0, 2.0, 3.0])).round(3).tolist()
    [[(1+0j), (1.414-1.414j)], [(1.414+1.414j), (3+0j)]]
    """
    n, xp = round(columns.shape[-1] ** 0.5), jnp if isinstance(columns, jax.Array) else np
    matrix = columns.reshape(*columns.shape[:-1], n, n)
    matrix = matrix * np.where(np.eye(n, dtype=bool), 1.0, np.sqrt(0.5))
    above, below = np.triu(np.ones((n, n))), np.tril(np.ones((n, n)), -1)
    real, imaginary = matrix * above, matrix * below
    real = real + xp.swapaxes(real, -1, -2) * below
    imaginary = imaginary - xp.swapaxes(imaginary, -1, -2)
    return real + 1j * imaginary if xp is np else jax.lax.complex(real, imaginary)


def columns_to_entries(n: int) -> NDArray[np.complex128]:
    """The unitary matrix from columns to the entries of a Hermitian matrix, (n n, n n)."""
    return np.stack([from_columns(row).reshape(-1) for row in np.eye(n * n)], axis=1)


def column_sizes(n: int) -> NDArray[np.float64]:
    """What columns are times the parts of entries, (n n,): 1, or the root of 2 for pairs."""
    return np.where(np.eye(n, dtype=bool), 1.0, np.sqrt(2)).reshape(-1)


def column_labels(names: Sequence[str]) -> list[str]:
    """Names of the columns: of a channel, or of the real or imaginary part of a pair.

    Examples
    --------
    >>> column_labels(["V1", "V5"])
    ['V1', 'real V1, V5', 'imaginary V5, V1', 'V5']
    """
    return [
        first if i == j else f"{'real' if i < j else 'imaginary'} {first}, {second}"
        for i, first in enumerate(names)
        for j, second in enumerate(names)
    ]
