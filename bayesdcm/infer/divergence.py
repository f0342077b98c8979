"""Draws of a posterior at which the model does not diverge, and means over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Predictions that lie this many times as far off the median as they reach are of trajectories that
# diverge: they are no forecast, and would be all that is left of a mean.
FARTHEST = 10.0


def finite_draws(values: NDArray) -> NDArray[np.bool_]:
    """Which draws are of trajectories that neither diverge nor are on their way to it.

    A draw is left out that is not finite, or anywhere lies ten times as far from the median over
    draws as half of the draws do or, where that is more, as the median itself varies.

    Parameters
    ----------
    values : ndarray
        Predictions, shape (draws, ...).

    Returns
    -------
    ndarray of bool
        Shape (draws,); none where all are infinite.

    Examples
    --------
    >>> finite_draws(np.array([[1.0, 2.0], [1.1, 2.2], [0.9, 1.9], [1.0, 900.0], [np.nan, 1.0]]))
    array([ True,  True,  True, False, False])
    """
    flat = np.reshape(values, (len(values), -1))
    kept = np.isfinite(flat).all(axis=1)
    if not kept.any() or not flat.shape[1]:
        return kept
    middle = np.median(flat[kept], axis=0)
    with np.errstate(over="ignore"):
        distance = np.abs(flat[kept] - middle).max(axis=1)
    rounding = 1e-9 * np.abs(middle).max()
    reach = max(np.median(distance), np.ptp(middle), rounding)
    kept[kept] = distance <= FARTHEST * reach
    return kept


def kept_draws(array: Any) -> tuple[NDArray, int]:
    """Draws at which the model does not diverge, and how many are left out.

    Parameters
    ----------
    array : xarray.DataArray
        With axes ``chain`` and ``draw``.

    Returns
    -------
    tuple of ndarray and int
        Shape (draws, ...); all draws where the model diverges at every one.
    """
    values = array.transpose("chain", "draw", ...).to_numpy()
    values = values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])
    kept = finite_draws(values)
    return (values[kept] if kept.any() else values), int((~kept).sum())


def finite_mean(array: Any) -> NDArray:
    """Mean over the draws at which the model does not diverge.

    Parameters
    ----------
    array : xarray.DataArray
        With axes ``chain`` and ``draw``.

    Returns
    -------
    ndarray
        Without these axes; not finite where the model diverges at every draw.
    """
    return kept_draws(array)[0].mean(0)


def left_out_text(left_out: int, total: int) -> str:
    """How many draws are left out, for titles; empty where none is.

    Examples
    --------
    >>> left_out_text(0, 50), left_out_text(2, 50)
    ('', '; without 2 of 50 draws that diverge')
    """
    return f"; without {left_out} of {total} draws that diverge" if left_out else ""
