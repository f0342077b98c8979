"""Functional connectivity of a linear network, in closed form: a baseline of other models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_continuous_lyapunov

from bayesdcm.data import Connectome

__all__ = ["linear_functional_connectivity"]


def linear_functional_connectivity(weights: Any, share: float = 0.5) -> NDArray[np.float64]:
    """Correlations between the regions of a linear network with noise, without a simulation.

    Of ``x' = -x + g W x + noise`` with independent white noise and no delays: its stationary
    covariance S solves ``J S + S J' + I = 0``, ``J = g W - I`` [1]_. It has one free number and
    often matches a recording as well as networks of neural masses do, so that their figures mean
    little without this one beside them.

    Parameters
    ----------
    weights : array_like, shape (regions, regions), or Connectome
        Weights, targets in rows.
    share : float
        Coupling g as a share of that at which the network becomes unstable, above 0 and below 1.

    Returns
    -------
    ndarray, shape (regions, regions)
        Symmetric, with a diagonal of 1.

    Raises
    ------
    ValueError
        If the weights are not square, or the share is not between 0 and 1.

    References
    ----------
    .. [1] Galan (2008), PLoS ONE 3:e2148. https://doi.org/10.1371/journal.pone.0002148

    Examples
    --------
    >>> linear_functional_connectivity([[0.0, 1.0], [1.0, 0.0]]).round(6).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    if isinstance(weights, Connectome):
        weights = weights.weights
    weights = np.asarray(weights, float)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(f"weights has shape {weights.shape}; expected a square matrix")
    if not 0 < share < 1:
        raise ValueError(f"share is {share!r}; expected a number above 0 and below 1")
    radius = np.abs(np.linalg.eigvals(weights)).max()
    identity = np.eye(len(weights))
    rate = share / (radius or 1.0) * weights - identity
    covariance = solve_continuous_lyapunov(rate, -identity)
    sd = np.sqrt(np.diagonal(covariance))
    return covariance / np.outer(sd, sd)
