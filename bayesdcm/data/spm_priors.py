"""Priors that an SPM file brings, which SPM uses in place of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_fields import dense, is_empty, n_columns, nested
from bayesdcm.data.validation import read_only, warn_caller

__all__ = [
    "Fields",
    "Moments",
    "checked",
    "covariances",
    "given",
    "read_means",
    "read_noise",
    "stored",
    "variances",
]

Fields = Mapping[str, NDArray[np.float64]]
"""Arrays by the field of a structure."""

# Where SPM takes priors from: what it used is in DCM.M, what a user asks for in DCM.options, too.
_PLACES = ("M", "options")


@dataclass(frozen=True, eq=False)
class Moments:
    """Prior means and variances of one parameter, None where the file has none."""

    mean: NDArray[np.float64] | None = None
    variance: NDArray[np.float64] | None = None


def stored(dcm: Mapping[str, Any], name: str, read: Callable[[str, Any], Any]) -> Any:
    """What `read`, of a field's full name and value, makes of a name in DCM.M and DCM.options.

    None where both are absent or empty; `ValueError` if they disagree.
    """
    contents = {}
    for place in _PLACES:
        value = nested(dcm, place, name)
        if not is_empty(value):
            content = read(f"DCM.{place}.{name}", value)
            if content is not None:
                contents[place] = content
    if len(contents) == 2 and not _alike(*contents.values()):
        raise ValueError(
            f"DCM.M.{name} and DCM.options.{name} are not the same, so that the file has two "
            "priors. Keep the one that is meant."
        )
    return next(iter(contents.values()), None)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-12, atol=0)


def given(moments: Mapping[str, Moments]) -> dict[str, Moments]:
    """Moments of which the file says something."""
    return {
        name: each
        for name, each in moments.items()
        if each.mean is not None or each.variance is not None
    }


def read_means(
    dcm: Mapping[str, Any], name: str, fields: Callable[[str, Any], Fields]
) -> tuple[Fields | None, bool]:
    """Prior means by field, and whether they are no structure, as before SPM12 (with a warning).

    `fields` takes a structure apart, by its full name and value.
    """
    outdated = False

    def means(full: str, value: Any) -> Fields | None:
        nonlocal outdated
        if isinstance(value, Mapping):
            return {
                key: checked(f"{full}.{key}", each) for key, each in fields(full, value).items()
            }
        outdated = True
        dense(full, value, (None,))
        warn_caller(
            f"{full} is no structure, as in versions before SPM12; the model has SPM's present "
            "priors in its place, so estimates will differ"
        )
        return None

    return stored(dcm, name, means), outdated


def checked(name: str, values: NDArray[np.float64], least: float = -np.inf) -> NDArray[np.float64]:
    """Means, or variances from `least` on, of a prior, finite and read-only."""
    if not np.isfinite(values).all() or (values < least).any():
        expected = "finite numbers" if least < 0 else "variances, finite and at least 0"
        raise ValueError(
            f"{name} has {int((~np.isfinite(values) | (values < least)).sum())} entries that "
            f"cannot be a prior's, expected {expected}. Correct the prior in the file."
        )
    return read_only(values)


def covariances(name: str, value: Any, size: int) -> NDArray[np.float64]:
    """Prior covariance of a vector of parameters, (size, size); its diagonal if that is all."""
    if n_columns(value) == 1:
        return checked(name, dense(name, value, (size,)), 0.0)
    matrix = dense(name, value, (size, size))
    diagonal = checked(name, np.diag(matrix), 0.0)
    if np.array_equal(matrix, np.diag(diagonal)):
        return diagonal
    return checked(name, matrix)


def variances(name: str, covariance: NDArray[np.float64], labels: Sequence[str]) -> NDArray:
    """Diagonal of what `covariances` gives, with a warning that names the covariances lost."""
    if covariance.ndim == 1:
        return covariance
    pairs = np.argwhere(np.triu((covariance != 0) | (covariance.T != 0), 1))
    first = " and ".join(labels[i] for i in pairs[0])
    warn_caller(
        f"{name} has prior covariances of {len(pairs)} pair(s) of parameters, the first of "
        f"{first}; priors are independent here, so the model has their variances only, and "
        "estimates will differ from SPM's"
    )
    return np.diag(covariance)


def read_noise(dcm: Mapping[str, Any], shape: tuple[int, ...]) -> Moments:
    """Prior of the log-precisions of the noise, hE and hC, of shape (regions,) or ()."""
    size = int(np.prod(shape, dtype=int))

    def full(name: str, value: Any) -> Any:
        one = np.prod(getattr(value, "shape", ()), dtype=int) == 1
        return np.full(size, dense(name, value, ())) if one else value

    def mean(name: str, value: Any) -> NDArray[np.float64]:
        return checked(name, dense(name, full(name, value), (size,))).reshape(shape)

    def variance(name: str, value: Any) -> NDArray[np.float64]:
        labels = [f"log-precision {i + 1}" for i in range(size)]
        matrix = covariances(name, full(name, value), size)
        return variances(name, matrix, labels).reshape(shape)

    return Moments(stored(dcm, "hE", mean), stored(dcm, "hC", variance))
