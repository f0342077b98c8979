"""Preparation of evoked responses: window, drift, features, scale, temporal precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Beyond this number of samples SPM tapers once and projects once, not on both sides.
LONG_SERIES = 2048


def window_samples(
    times: ArrayLike, start: float, stop: float, decimation: int = 1
) -> NDArray[np.int64]:
    """Indices of the samples of a time window.

    From the sample nearest to the start to the one nearest to the stop, every so many.

    Parameters
    ----------
    times : array_like
        Of the samples, increasing, shape (times,), s.
    start, stop : float
        Ends of the window, s.
    decimation : int
        Take every such sample. Nothing is filtered: do that before, where it is needed.

    Returns
    -------
    ndarray of int
        Indices into `times`.

    Raises
    ------
    ValueError
        If the window does not lie within the times, or holds fewer than two samples.

    Examples
    --------
    >>> window_samples(np.arange(10) / 10, 0.21, 0.8, decimation=2).tolist()
    [2, 4, 6, 8]
    """
    times = np.asarray(times, float)
    if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) > 0):
        raise ValueError("times must be a vector of at least two increasing numbers, in s")
    if decimation != int(decimation) or decimation < 1:
        raise ValueError(f"decimation must be a whole number of at least 1, got {decimation}")
    step = times[1] - times[0]
    if not times[0] - step / 2 <= start < stop <= times[-1] + step / 2:
        raise ValueError(
            f"the window must lie within the times, {times[0]:g} to {times[-1]:g} s, and start "
            f"before it stops; got {start:g} to {stop:g} s"
        )
    first, last = (int(np.abs(times - end).argmin()) for end in (start, stop))
    samples = np.arange(first, last + 1, int(decimation))
    if len(samples) < 2:
        raise ValueError(
            f"the window from {start:g} to {stop:g} s holds {len(samples)} sample; widen it or "
            "decimate less"
        )
    return samples


def dct_basis(n_times: int, n_components: int) -> NDArray[np.float64]:
    """The slowest cosines, orthonormal columns of the discrete cosine transform.

    Parameters
    ----------
    n_times : int
        Number of times.
    n_components : int
        Number of columns, the first of them constant. 0 gives one column of zeros, as in SPM:
        confounds that do nothing.

    Returns
    -------
    ndarray
        Shape (n_times, max(n_components, 1)).

    Raises
    ------
    ValueError
        If there are more components than times, or fewer than none.

    Examples
    --------
    >>> dct_basis(4, 2).round(3).T.tolist()
    [[0.5, 0.5, 0.5, 0.5], [0.653, 0.271, -0.271, -0.653]]
    """
    if not 0 <= n_components <= n_times or n_times < 1:
        raise ValueError(
            f"n_components must be between 0 and the number of times ({n_times}), got "
            f"{n_components}"
        )
    if n_components == 0:
        return np.zeros((n_times, 1))
    phase = np.pi * (2 * np.arange(n_times)[:, None] + 1) / (2 * n_times)
    basis = np.sqrt(2 / n_times) * np.cos(phase * np.arange(n_components))
    basis[:, 0] = n_times**-0.5
    return basis


def residual_matrix(confounds: ArrayLike, hanning: bool = False) -> NDArray[np.float64]:
    """Matrix that takes confounds out of a series, and tapers it.

    ``R = I - X pinv(X)``; with the taper, ``R H R`` with H the diagonal of a Hanning window
    (``H R`` for 2048 samples or more).

    Parameters
    ----------
    confounds : array_like
        X, shape (times, k).
    hanning : bool
        Whether to taper; in SPM the user's choice.

    Returns
    -------
    ndarray
        Shape (times, times).

    Raises
    ------
    ValueError
        If the confounds are not a finite matrix.

    Examples
    --------
    >>> residual_matrix(np.ones((2, 1))).round(6).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    confounds = np.asarray(confounds, float)
    if confounds.ndim != 2 or not np.isfinite(confounds).all():
        raise ValueError(f"confounds must be finite, of shape (times, k), got {confounds.shape}")
    n_times = len(confounds)
    residual = np.eye(n_times) - confounds @ np.linalg.pinv(confounds)
    if not hanning:
        return residual
    window = (1 - np.cos(2 * np.pi * np.arange(1, n_times + 1) / (n_times + 1))) / 2
    tapered = window[:, None] * residual
    return residual @ tapered if n_times < LONG_SERIES else tapered


def temporal_precision(n_times: int) -> NDArray[np.float64]:
    """Precision of autoregressive noise, up to its scale: tridiagonal, 1.25 and -0.5.

    That of a process whose samples depend on the one before by 1/2, but for the ends, which SPM
    gives the same 1.25.
    """
    beside = np.full(max(n_times - 1, 0), -0.5)
    return np.diag(np.full(n_times, 1.25)) + np.diag(beside, 1) + np.diag(beside, -1)


def feature_scale(features: ArrayLike) -> float:
    """The number to multiply data by, so that their features have unit standard deviation.

    Parameters
    ----------
    features : array_like
        Data of all conditions after projection on channel modes, any shape.

    Returns
    -------
    float
        1 over the standard deviation (N - 1) of all entries together.

    Raises
    ------
    ValueError
        If the features are constant or not finite.

    Examples
    --------
    >>> feature_scale([[1.0, 3.0], [5.0, 3.0]]).__round__(4)
    0.6124
    """
    features = np.asarray(features, float)
    deviation = features.std(ddof=1) if features.size > 1 else 0.0
    if not (np.isfinite(deviation) and deviation > 0):
        raise ValueError(
            "features must be finite and vary, got a standard deviation of "
            f"{deviation}; check channels, modes and the time window"
        )
    return float(1 / deviation)
