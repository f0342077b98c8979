"""Smoothing by a normalised Hamming window, as the field smooths simulated dipoles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hamming_weights", "smoothed"]


def hamming_weights(window: float, step: float) -> NDArray[np.float64]:
    """Weights of the samples round one, which add up to 1; (samples,), an odd number of them.

    `window` and `step` in one unit of time. There are ``round(window / step)`` samples as in
    hnn-core where that is odd, and one more where it is even: a window without a middle sample
    would delay the signal by half a sample.
    """
    n = max(int(np.round(window / step)), 1)
    weights = np.hamming(n + 1 - n % 2)
    return weights / weights.sum()


def smoothed(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the samples round each, (times,), by weights that are at most as many.

    At the ends the weights of the samples that exist are divided by their sum, so that a constant
    stays what it is.
    """
    inside = np.convolve(np.ones_like(values), weights, "same")
    return np.convolve(values, weights, "same") / inside
