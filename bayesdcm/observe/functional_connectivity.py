"""Functional connectivity, and how alike two matrices of connections are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.data import Connectome
from bayesdcm.observe.labelled_series import read_series

__all__ = [
    "functional_connectivity",
    "matrix_correlation",
    "structure_function_coupling",
    "upper_triangle",
]


def functional_connectivity(series: Any, method: str = "pearson") -> Any:
    """Correlations between the signals of regions.

    Parameters
    ----------
    series : array_like, shape (..., time, regions), xarray.DataArray or BoldData
        Signals in any unit. Axes before time count series of their own.
    method : {"pearson", "shrunk", "partial", "shrunk partial"}
        Pearson's r; r shrunk towards 0 as far as Ledoit and Wolf [1]_ find best for signals of
        unit variance, which short recordings of many regions need; the correlation of two regions
        given all others, from the inverse of either. Shrunk values are no longer comparable
        with the r of papers.

    Returns
    -------
    jax.Array or xarray.DataArray, shape (..., regions, regions)
        Symmetric, with a diagonal of 1; labelled if `series` was. Pure JAX: it can be
        differentiated and compiled, and is NaN where a signal is constant.

    Raises
    ------
    TypeError, ValueError
        If `series` holds no signals of regions over time or missing values, `method` is not known,
        or it is "partial" and there are not more samples than regions.

    References
    ----------
    .. [1] Ledoit, O., Wolf, M. (2004). A well-conditioned estimator for large-dimensional
       covariance matrices. Journal of Multivariate Analysis 88, 365-411.
       https://doi.org/10.1016/S0047-259X(03)00096-4

    Examples
    --------
    >>> signals = np.random.default_rng(0).normal(size=(200, 3))
    >>> signals[:, 1] += signals[:, 0]
    >>> functional_connectivity(signals).round(2)[0, 1]
    Array(0.71, dtype=float64)
    """
    if method not in _METHODS:
        known = ", ".join(map(repr, _METHODS))
        raise ValueError(f"method must be one of {known}; got {method!r}")
    values, labels = read_series(series)
    samples, regions = values.shape[-2:]
    if method == "partial" and samples <= regions:
        raise ValueError(
            f"method='partial' needs more samples than regions, got {samples} of {regions}; use "
            "'shrunk partial', or a longer series"
        )
    return labels.attach(_METHODS[method](values), ("region", "other region"))


def standardised(series: jax.Array) -> jax.Array:
    """Signals (..., time, regions) with mean 0 and sum of squares 1 over time."""
    centred = series - series.mean(-2, keepdims=True)
    return centred / jnp.sqrt((centred**2).sum(-2, keepdims=True))


@jax.jit
def _pearson(series: jax.Array) -> jax.Array:
    z = standardised(series)
    return jnp.swapaxes(z, -1, -2) @ z


@jax.jit
def _shrunk(series: jax.Array) -> jax.Array:
    samples, regions = series.shape[-2:]
    z = standardised(series) * jnp.sqrt(samples)
    correlation = _pearson(series)
    identity = jnp.eye(regions)
    size = (correlation**2).sum((-1, -2))
    # Mean squared distance of single samples from their mean, and of that from the target.
    error = ((z**2).sum(-1) ** 2).sum(-1) / samples**2 - size / samples
    distance = ((correlation - identity) ** 2).sum((-1, -2))
    # One region has nothing to shrink.
    share = jnp.where(distance > 0, error / jnp.where(distance > 0, distance, 1.0), 0.0)
    share = jnp.clip(share, 0.0, 1.0)[..., None, None]
    return (1 - share) * correlation + share * identity


def _partial(correlation: jax.Array) -> jax.Array:
    precision = jnp.linalg.inv(correlation)
    scale = jnp.sqrt(jnp.diagonal(precision, axis1=-2, axis2=-1))
    partial = -precision / (scale[..., :, None] * scale[..., None, :])
    identity = jnp.eye(correlation.shape[-1])
    return partial * (1 - identity) + identity


_METHODS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "pearson": _pearson,
    "shrunk": _shrunk,
    "partial": jax.jit(lambda series: _partial(_pearson(series))),
    "shrunk partial": jax.jit(lambda series: _partial(_shrunk(series))),
}


def upper_triangle(matrix: Any) -> jax.Array:
    """Entries above the diagonal, row by row: one for each pair of regions.

    Parameters
    ----------
    matrix : array_like, shape (..., n, n)
        Square matrices.

    Returns
    -------
    jax.Array, shape (..., n (n - 1) / 2)
        Their upper triangles.

    Raises
    ------
    ValueError
        If they are not square.

    Examples
    --------
    >>> upper_triangle([[1.0, 0.2, 0.3], [0.2, 1.0, 0.4], [0.3, 0.4, 1.0]])
    Array([0.2, 0.3, 0.4], dtype=float64)
    """
    matrix = jnp.asarray(getattr(matrix, "data", matrix), dtype=float)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix has shape {matrix.shape}; expected square matrices")
    rows, columns = np.triu_indices(matrix.shape[-1], 1)
    return matrix[..., rows, columns]


def matrix_correlation(first: Any, second: Any) -> jax.Array:
    """Pearson's r between two symmetric matrices, over all pairs of different regions.

    The usual score of a simulated functional connectivity against a recorded one. Correlations are
    compared as they are, not by Fisher's z. As a score it should stand beside that of a linear
    model, which often reaches as much.

    Parameters
    ----------
    first, second : array_like, shape (..., regions, regions)
        Symmetric matrices of the same regions in the same order; labelled ones are compared
        by name.

    Returns
    -------
    jax.Array, shape (...)
        Between -1 and 1.

    Raises
    ------
    ValueError
        If they are not square, not of one size, or name other regions.

    Examples
    --------
    >>> first = [[1.0, 0.2, 0.3], [0.2, 1.0, 0.4], [0.3, 0.4, 1.0]]
    >>> matrix_correlation(first, np.multiply(first, 2)).round(6)
    Array(1., dtype=float64)
    """
    _check_same_regions(first, second)
    return _correlation(upper_triangle(first), upper_triangle(second))


def structure_function_coupling(functional: Any, weights: Any, *, ranks: bool = False) -> jax.Array:
    """Correlation between functional connectivity and the weights of a connectome.

    Over all pairs of different regions, unconnected ones included; the weight of a pair is the
    mean of both directions.

    Parameters
    ----------
    functional : array_like, shape (..., regions, regions)
        Functional connectivity.
    weights : array_like, shape (regions, regions), or Connectome
        Structural connectivity of the same regions in the same order; labelled functional
        connectivity and a `Connectome` are compared by name.
    ranks : bool
        Whether ranks are correlated (Spearman's r), which many weights near 0 and few large ones
        suggest; its derivative is 0.

    Returns
    -------
    jax.Array, shape (...)
        Between -1 and 1.

    Raises
    ------
    ValueError
        As `matrix_correlation`.

    Examples
    --------
    >>> from bayesdcm.data import load_connectome
    >>> example = load_connectome("example")
    >>> coupling = structure_function_coupling(example.functional_connectivity, example)
    >>> 0.5 < float(coupling) < 1
    True
    """
    if isinstance(weights, Connectome):
        weights = weights.to_dataset().weights.rename(target="region", source="other region")
    _check_same_regions(functional, weights)
    weights = jnp.asarray(getattr(weights, "data", weights), dtype=float)
    pairs = upper_triangle(functional), upper_triangle((weights + weights.T) / 2)
    if ranks:
        pairs = tuple(jax.scipy.stats.rankdata(values, axis=-1) for values in pairs)
    return _correlation(*pairs)


@jax.jit
def _correlation(first: jax.Array, second: jax.Array) -> jax.Array:
    return (standardised(first[..., None]) * standardised(second[..., None])).sum((-1, -2))


def _check_same_regions(first: Any, second: Any) -> None:
    sizes = np.shape(first)[-2:], np.shape(second)[-2:]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the matrices are of {sizes[0]} and {sizes[1]} regions; expected the same regions in "
            "the same order"
        )
    names = [_names(matrix) for matrix in (first, second)]
    if None not in names and names[0] != names[1]:
        raise ValueError(
            f"the matrices name other regions, or in another order: {names[0][:5]} and "
            f"{names[1][:5]} come first. Put them in the same order first"
        )


def _names(matrix: ArrayLike) -> list[str] | None:
    coords = getattr(matrix, "coords", None)
    if coords is None or not hasattr(matrix, "dims") or matrix.dims[-1] not in coords:
        return None
    return [str(name) for name in np.asarray(coords[matrix.dims[-1]])]
