"""How the dipole of the biophysical network differs from that of the column near some drives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

__all__ = ["DipoleCorrection", "fit_correction"]

# Ridges that are tried, relative to the number of runs; the last leaves the mean alone.
RIDGES = (*np.geomspace(1e-3, 10.0, 9), np.inf)
# Smaller parts of the error are left out.
SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class DipoleCorrection:
    """Difference between network and column, linear in numbers of the drives, and its error.

    Parameters
    ----------
    times : array, shape (samples,)
        Times of the data that it is for, in s.
    mean : array, shape (samples,)
        Difference at the centre, in nAm of one network.
    centre : mapping of str to array
        Full arrays of parameters at the centre, by name.
    slopes : mapping of str to array, shape (..., samples)
        How the difference grows with each entry, by name.
    error : array, shape (samples, rank)
        Factor F of the covariance F F' of what it leaves, in nAm of one network.
    size : float
        Root mean square of the network's dipole at the centre, in nAm.
    """

    times: NDArray[np.float64]
    mean: NDArray[np.float64]
    centre: Mapping[str, NDArray[np.float64]]
    slopes: Mapping[str, NDArray[np.float64]]
    error: NDArray[np.float64]
    size: float

    def at(self, parameters: Mapping[str, Any]) -> jax.Array:
        """Difference at given parameters, nAm of one network, shape (samples,)."""
        difference = jnp.asarray(self.mean)
        for name, slopes in self.slopes.items():
            away = jnp.ravel(jnp.asarray(parameters[name]) - self.centre[name])
            difference += away @ slopes.reshape(len(away), -1)
        return difference


def fit_correction(
    network: NDArray[np.float64],
    column: NDArray[np.float64],
    entries: Mapping[str, NDArray[np.float64]],
    groups: NDArray[np.intp],
    times: NDArray[np.float64],
    n_averages: int,
) -> DipoleCorrection:
    """Correction from runs, by ridge regression; its error from runs that are left out in turn.

    What differs between trials of the same drives averages out over the trials of the data, what
    is common to them does not.

    Parameters
    ----------
    network, column : array, shape (runs, samples)
        Dipoles of both in each single trial, in nAm of one network.
    entries : mapping of str to array, shape (runs, ...)
        Numbers of the drives in each trial.
    groups : array of int, shape (runs,)
        Trials of the same drives have the same number.
    times : array, shape (samples,)
        In s.
    n_averages : int
        Trials that the data average.
    """
    differences, runs = network - column, len(network)
    centre = {name: values.mean(0) for name, values in entries.items()}
    flat = np.concatenate([values.reshape(runs, -1) for values in entries.values()], axis=1)
    away, sd = flat - flat.mean(0), flat.std(0)
    free = sd > 1e-12
    design = away[:, free] / sd[free]
    mean = differences.mean(0)
    weights, left = _ridge(design, differences - mean)
    slopes = np.zeros((flat.shape[1], differences.shape[1]))
    slopes[free] = weights / sd[free, None]
    parts, start = {}, 0
    for name, values in entries.items():
        shape = values.shape[1:]
        count = int(np.prod(shape))
        parts[name] = slopes[start : start + count].reshape(*shape, -1)
        start += count
    error = _factor(_error_of_average(left, groups, n_averages))
    size = float(np.sqrt((network.mean(0) ** 2).mean()))
    return DipoleCorrection(times, mean, centre, parts, error, size)


def _ridge(
    design: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the ridge that predicts runs left out best, and those runs' residuals."""
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    best = None
    for ridge in RIDGES:
        shrunk = singular**2 / (singular**2 + ridge * len(design)) if np.isfinite(ridge) else 0.0
        shrunk = np.broadcast_to(shrunk, singular.shape)
        # The mean is estimated as well.
        leverage = (left**2 * shrunk).sum(1) + 1 / len(design)
        residual = (target - (left * shrunk) @ (left.T @ target)) / (1 - leverage)[:, None]
        loss = (residual**2).sum()
        if best is None or loss < best[0]:
            inverse = np.where(singular > 0, shrunk / np.where(singular > 0, singular, 1), 0)
            best = loss, (right.T * inverse) @ (left.T @ target), residual
    return best[1], best[2]


def _error_of_average(
    residual: NDArray[np.float64], groups: NDArray[np.intp], n_averages: int
) -> NDArray[np.float64]:
    """Covariance of the mean error over trials, from errors of single trials by group."""
    names, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    total = residual.T @ residual / len(residual)
    if counts.max() < 2:
        return total
    means = np.zeros((len(names), residual.shape[1]))
    np.add.at(means, index, residual)
    means /= counts[:, None]
    inside = residual - means[index]
    within = inside.T @ inside / max(len(residual) - len(names), 1)
    between = means.T @ means / len(names) - within * (1 / counts).mean()
    values, vectors = np.linalg.eigh(between)
    between = (vectors * np.maximum(values, 0)) @ vectors.T
    return between + within / n_averages


def _factor(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    kept = values > SMALLEST * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])
