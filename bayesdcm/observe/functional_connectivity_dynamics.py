"""Functional connectivity dynamics, and distances between the distributions of its values."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import ArrayLike

from bayesdcm.observe.functional_connectivity import standardised, upper_triangle
from bayesdcm.observe.labelled_series import read_series

__all__ = [
    "functional_connectivity_dynamics",
    "functional_connectivity_dynamics_distance",
    "kolmogorov_smirnov",
    "wasserstein",
]


def functional_connectivity_dynamics(series: Any, window: int = 83, stride: int = 1) -> Any:
    """How alike functional connectivity is at different times.

    Entry (i, j) is Pearson's r, over pairs of regions, between the functional connectivity in
    window i and that in window j [1]_. A pair counts once and the diagonal, which is 1 in all
    windows, does not: programs that correlate whole matrices give larger values.

    Parameters
    ----------
    series : array_like, shape (..., time, regions), xarray.DataArray or BoldData
        Signals in any unit, usually BOLD; at least three regions.
    window : int
        Length of a window in samples (volumes). The default, 83, is a minute at the
        repetition time of 0.72 s of the Human Connectome Project.
    stride : int
        Samples from the start of a window to that of the next.

    Returns
    -------
    jax.Array or xarray.DataArray, shape (..., windows, windows)
        Symmetric, with a diagonal of 1; labelled by the times of the windows' middles, in s, if
        `series` was labelled. Pure JAX, differentiable.

    Raises
    ------
    TypeError, ValueError
        If `series` holds no signals of regions over time, or there is no room for two windows.

    References
    ----------
    .. [1] Hansen, E. C. A., et al. (2015). Functional connectivity dynamics: modeling the
       switching behavior of the resting state. NeuroImage 105, 525-535.
       https://doi.org/10.1016/j.neuroimage.2014.11.001

    Examples
    --------
    >>> signals = np.random.default_rng(0).normal(size=(100, 4))
    >>> functional_connectivity_dynamics(signals, window=20, stride=40).shape
    (3, 3)
    """
    values, labels = read_series(series)
    samples, regions = values.shape[-2:]
    for name, number, least in (("window", window, 3), ("stride", stride, 1)):
        if not isinstance(number, int | np.integer) or number < least:
            raise ValueError(
                f"{name} counts samples and must be an integer of at least {least}; got {number!r}"
            )
    if samples < window + stride or regions < 3:
        raise ValueError(
            f"series has {samples} samples of {regions} regions; expected at least three regions, "
            f"and two windows of {window} samples, {stride} apart. Use shorter windows or a "
            "longer series"
        )
    matrix = _dynamics(values, int(window), int(stride))
    coords = {}
    if labels.sampling_interval is not None:
        middles = np.arange(matrix.shape[-1]) * stride + (window - 1) / 2
        coords = dict.fromkeys(("window", "other window"), labels.times(middles))
    return labels.attach(matrix, ("window", "other window"), **coords)


@partial(jax.jit, static_argnums=(1, 2))
@partial(jnp.vectorize, excluded=(1, 2), signature="(t,r)->(w,w)")
def _dynamics(series: jax.Array, window: int, stride: int) -> jax.Array:
    samples, regions = series.shape
    rows, columns = np.triu_indices(regions, 1)

    def connectivity(start: jax.Array) -> jax.Array:
        z = standardised(lax.dynamic_slice_in_dim(series, start, window))
        return (z.T @ z)[rows, columns]

    # One window after the other: all of them at once would hold the series `window` times.
    pairs = lax.map(connectivity, jnp.arange(0, samples - window + 1, stride))
    z = standardised(pairs.T)
    return z.T @ z


def functional_connectivity_dynamics_distance(
    first: Any, second: Any, metric: str = "kolmogorov_smirnov"
) -> jax.Array:
    """Distance between the distributions of the values of two matrices of dynamics.

    All values above the diagonal count, those of windows that overlap included, as in the
    literature. The matrices may be of different sizes: only their distributions are compared.

    Parameters
    ----------
    first, second : array_like, shape (windows, windows)
        From `functional_connectivity_dynamics`, with windows of the same length in s.
    metric : {"kolmogorov_smirnov", "wasserstein"}
        The largest difference of the distribution functions, which the literature reports, but
        whose derivative is 0; or the mean distance by which values move, which has one.

    Returns
    -------
    jax.Array
        0 for the same distributions; Kolmogorov and Smirnov's is at most 1.

    Raises
    ------
    ValueError
        If a matrix is not square, or `metric` is not known.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> first, second = (
    ...     functional_connectivity_dynamics(rng.normal(size=(300, 4))) for _ in range(2)
    ... )
    >>> float(functional_connectivity_dynamics_distance(first, first))
    0.0
    >>> 0 < float(functional_connectivity_dynamics_distance(first, second)) < 1
    True
    """
    if metric not in _METRICS:
        known = ", ".join(map(repr, _METRICS))
        raise ValueError(f"metric must be one of {known}; got {metric!r}")
    return _METRICS[metric](upper_triangle(first), upper_triangle(second))


@jax.jit
def kolmogorov_smirnov(first: ArrayLike, second: ArrayLike) -> jax.Array:
    """Largest difference between the distribution functions of two samples.

    Parameters
    ----------
    first, second : array_like, shape (n,) and (m,)
        The samples.

    Returns
    -------
    jax.Array
        Between 0 and 1. It counts and so has no derivative but 0; `wasserstein` has one.

    Examples
    --------
    >>> kolmogorov_smirnov([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0])
    Array(0.5, dtype=float64)
    """
    values, difference = _distribution_difference(first, second)
    # Where values are equal, the last of them has counted all.
    last = jnp.append(values[1:] > values[:-1], True)
    return jnp.where(last, jnp.abs(difference), 0.0).max()


@jax.jit
def wasserstein(first: ArrayLike, second: ArrayLike) -> jax.Array:
    """Mean distance by which the values of one sample move to become the other.

    Parameters
    ----------
    first, second : array_like, shape (n,) and (m,)
        The samples.

    Returns
    -------
    jax.Array
        The first Wasserstein distance, in the unit of the samples.

    Examples
    --------
    >>> wasserstein([0.0, 1.0], [2.0, 3.0, 2.0, 3.0])
    Array(2., dtype=float64)
    """
    values, difference = _distribution_difference(first, second)
    return (jnp.abs(difference[:-1]) * jnp.diff(values)).sum()


def _distribution_difference(first: ArrayLike, second: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """All values in order, and the difference of the distribution functions at them."""
    first, second = (jnp.ravel(jnp.asarray(values, dtype=float)) for values in (first, second))
    values = jnp.concatenate([first, second])
    steps = jnp.concatenate(
        [jnp.full(first.size, 1 / first.size), jnp.full(second.size, -1 / second.size)]
    )
    order = jnp.argsort(values)
    return values[order], jnp.cumsum(steps[order])


_METRICS = {"kolmogorov_smirnov": kolmogorov_smirnov, "wasserstein": wasserstein}
