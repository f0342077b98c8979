"""Channel modes: the few patterns over channels that sources at their prior positions can cause."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of s_i^2 relative to the mean square; SPM's.
SMALLEST_MODE = float(np.exp(-8))


def field_derivatives(lead_fields: ArrayLike) -> NDArray[np.float64]:
    """All that the sources can show: derivatives of their fields at the prior mean.

    Derivatives with respect to positions are left out: they vanish where the moments' prior mean
    is zero.

    Parameters
    ----------
    lead_fields : array_like
        One field for each source, shape (channels, sources), or modes of patches or dipoles along
        x, y and z, shape (sources, channels, components); dipoles times `power_of_ten`.

    Returns
    -------
    ndarray
        Shape (channels, k), for `channel_modes`.

    Examples
    --------
    >>> field_derivatives([[[1.0, 2.0]], [[3.0, 4.0]]]).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """
    lead_fields = np.asarray(lead_fields, float)
    if lead_fields.ndim == 2:
        return lead_fields
    return np.moveaxis(lead_fields, 0, 1).reshape(lead_fields.shape[1], -1)


def channel_modes(derivatives: ArrayLike, n_sources: int, n_modes: int = 8) -> NDArray[np.float64]:
    """Patterns over channels that carry most of what the sources can show.

    Eigenvectors of ``Z Z'``, Z being the derivatives of the sources' fields with respect to the
    spatial parameters, divided by the root of the mean of their eigenvalues.

    Parameters
    ----------
    derivatives : array_like
        Z, shape (channels, k); see `field_derivatives`.
    n_sources : int
        At least that many modes are taken.
    n_modes : int
        Modes wanted; SPM's 8 by default. Fewer come where Z has fewer dimensions.

    Returns
    -------
    ndarray
        Shape (channels, modes). Data and predictions in channels are multiplied by it from the
        right. The largest entry of each mode is positive.

    Raises
    ------
    ValueError
        If the derivatives are not a finite matrix, or all zero.

    References
    ----------
    .. [1] Fastenrath, Friston and Kiebel (2009), NeuroImage 44:154.
           https://doi.org/10.1016/j.neuroimage.2008.07.017

    Examples
    --------
    >>> channel_modes(np.diag([3.0, 2.0, 0.0]), n_sources=1).shape
    (3, 2)
    """
    derivatives = np.asarray(derivatives, float)
    if derivatives.ndim != 2 or derivatives.size == 0:
        raise ValueError(f"derivatives must have shape (channels, k), got {derivatives.shape}")
    if not np.isfinite(derivatives).all():
        raise ValueError("derivatives must be finite, got NaN or infinity; check the lead field")
    if n_modes < 1 or n_sources < 1:
        raise ValueError(f"n_modes and n_sources must be at least 1, got {n_modes}, {n_sources}")
    vectors, values, _ = np.linalg.svd(derivatives @ derivatives.T)
    if values[0] == 0:
        raise ValueError(
            "derivatives are all zero: no source reaches any channel. Check the lead field."
        )
    kept = values**2 * len(values) / (values**2).sum() > SMALLEST_MODE
    n_kept = min(int(kept.sum()), max(n_modes, n_sources))
    return with_positive_peak(vectors[:, :n_kept]) / np.sqrt(values[:n_kept].mean())


def average_reference(signal: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Signal relative to its mean over channels.

    Parameters
    ----------
    signal : array_like
        Data or a lead field.
    axis : int
        The axis of the channels.

    Returns
    -------
    ndarray
        Of the same shape and unit.

    Examples
    --------
    >>> average_reference([1.0, 2.0, 6.0]).tolist()
    [-2.0, -1.0, 3.0]
    """
    signal = np.asarray(signal, float)
    return signal - signal.mean(axis, keepdims=True)


def with_positive_peak(columns: NDArray) -> NDArray:
    """Flip columns so that the entry of largest size is positive: a sign that repeats."""
    peak = np.abs(columns).argmax(axis=0)
    sign = np.sign(columns[peak, np.arange(columns.shape[1])])
    return columns * np.where(sign == 0, 1.0, sign)
