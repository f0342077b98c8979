"""Gaussian posteriors under other priors, many at once, without compiling.

The steps are those of `bayesdcm.compare.reduce_gaussian`, here in NumPy: groups come in many
shapes, and to compile for each would take longer than all of its numbers do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesdcm.compare.reduction import JITTER, TOLERANCE, Reduced


def inverse(matrix: NDArray, jitter: float | None = None) -> NDArray:
    """Symmetric inverse of matrices (..., size, size) with a jitter, by default ``spm_inv``'s."""
    size = matrix.shape[-1]
    if jitter is None:
        norm = np.abs(matrix).sum(-1).max(-1)[..., None, None]
        jitter = np.maximum(size * np.spacing(norm), np.exp(-32))
    inverted = np.linalg.inv(matrix + jitter * np.eye(size))
    return (inverted + inverted.mT) / 2


def prior_basis(covariance: NDArray, tolerance: float = TOLERANCE) -> NDArray:
    """Directions of a covariance that count, (size, rank), as unit vectors where it is diagonal."""
    if (covariance == np.diag(np.diagonal(covariance))).all():
        values, vectors = np.diagonal(covariance), np.eye(len(covariance))
    else:
        values, vectors = np.linalg.eigh(covariance)
    squared = values**2
    number = (covariance != 0).any(0).sum()
    return vectors[:, (squared * number > tolerance * squared.sum()) & (values > 0)]


def under_priors(
    full: tuple[NDArray, NDArray, NDArray, NDArray],
    means: NDArray,
    covariances: NDArray,
    tolerance: float = TOLERANCE,
) -> Reduced:
    """Log-evidence and posterior under other priors, as `bayesdcm.compare.reduce_gaussian`.

    `full` has mean (size,) and covariance (size, size) of posterior and prior; the other priors,
    and results, have leading axes (..., size) and (..., size, size).
    """
    basis = prior_basis(full[3], tolerance)
    q, p, r = full[0] @ basis, full[2] @ basis, means @ basis
    Q, P = inverse(basis.T @ np.stack([full[1], full[3]]) @ basis, JITTER)
    R = inverse(basis.T @ covariances @ basis, JITTER)
    S = inverse(Q + R - P, JITTER)
    Rr = (R @ r[..., None])[..., 0]
    information = Q @ q - P @ p + Rr
    centre = (S @ information[..., None])[..., 0]
    same = np.linalg.slogdet(np.stack([Q, inverse(P, JITTER)]))[1].sum() - q @ Q @ q + p @ P @ p
    change = np.linalg.slogdet(R)[1] + np.linalg.slogdet(S)[1] + same
    change += (information * centre - r * Rr).sum(-1)
    mean = means + (centre - r) @ basis.T
    return Reduced(change / 2, mean, basis @ S @ basis.T)
