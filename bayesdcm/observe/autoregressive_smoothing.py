"""Spectra as an autoregressive model of low order has them: what SPM compares with data at rest.

SPM passes the cross-spectra that a model predicts through an autoregressive model, as it does with
data. This is no part of the generative model: low orders broaden peaks and lower the spectrum at
the lowest frequencies. `autoregressive_smoothing` is for parity only.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.neural.delays import inverse


class AutoregressiveSmoothing(NamedTuple):
    """What depends on frequencies and order alone.

    Attributes
    ----------
    to_covariance : (order + 1, frequencies)
        Complex weights whose products with cross-spectra have covariances at lags as real parts.
    lags : (frequencies, order)
        Complex exponentials of the lags.
    rate : ()
        Sampling rate that the frequencies imply, Hz.
    """

    to_covariance: jax.Array
    lags: jax.Array
    rate: jax.Array


def autoregressive_smoothing(frequencies: NDArray, order: int) -> AutoregressiveSmoothing:
    """Prepare the smoothing of spectra at evenly spaced frequencies, Hz, at most of an order.

    As ``spm_csd2ccf``, ``spm_ccf2mar`` and ``spm_mar2csd`` do it, one after the other.

    Examples
    --------
    >>> smoothing = autoregressive_smoothing(np.linspace(1 / 128, 1 / 8, 32), 7)
    >>> smoothing.to_covariance.shape
    (8, 32)
    """
    frequencies = np.asarray(frequencies, float)
    step, last = frequencies[1] - frequencies[0], frequencies[-1]
    n = ceil(last / step)
    order = min(order, n - 1)
    relative = frequencies / step
    used = (relative > 0) & (relative < n + 1)
    # Places of the frequencies in a spectrum of length n that begins at `step`, from 1.
    places = np.arange(1, len(frequencies) + 1) + ceil(frequencies[0] / step) - 1
    used &= places <= n
    lag = np.arange(order + 1)[:, None]
    weights = 2 * np.exp(2j * np.pi * lag * places / (2 * n + 1)) * used
    # The entry at frequency zero is that at the first place.
    weights = weights + (used & (places == 1))
    turns = np.exp(-2j * np.pi * frequencies[:, None] * np.arange(1, order + 1) / (2 * last))
    return AutoregressiveSmoothing(
        weights * n * step / (2 * n + 1), turns, np.asarray(2 * last, float)
    )


def smooth(spectra: jax.Array, smoothing: AutoregressiveSmoothing) -> jax.Array:
    """Cross-spectra (frequencies, n, n) of the autoregressive model of these cross-spectra."""
    n = spectra.shape[-1]
    to_covariance, lags, rate = smoothing
    order = lags.shape[1]
    flat = spectra.reshape(len(spectra), -1)
    covariance = to_covariance.real @ flat.real - to_covariance.imag @ flat.imag
    covariance = covariance.reshape(order + 1, n, n)
    # Block (i, j) of the covariance of the past: lag a - b of the pair, or b - a of its reverse.
    difference = np.subtract.outer(np.arange(order), np.arange(order))
    later = covariance[np.abs(difference)]
    past = jnp.where((difference >= 0)[:, :, None, None], later, later.mT)
    past = past.transpose(2, 0, 3, 1).reshape(n * order, n * order)
    # Rows (i, lag) of what is later, columns j.
    present = covariance[1:].transpose(1, 0, 2).reshape(n * order, n)
    weights = inverse(past) @ present
    noise = covariance[0] - present.T @ weights
    by_lag = weights.reshape(n, order, n).transpose(1, 0, 2)
    polynomial = jnp.eye(n) - jnp.tensordot(lags, by_lag.astype(complex), 1)
    response = jax.vmap(inverse)(polynomial)
    return 2 / rate * response @ noise.astype(complex) @ response.conj().mT
