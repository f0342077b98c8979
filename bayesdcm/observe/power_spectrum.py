"""Power spectra of series by Welch's method."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.observe.labelled_series import known_interval, read_series

__all__ = ["PowerSpectrum", "power_spectrum"]

# Parts of a series, half overlapping, where the length of a segment is not given: 8 of them.
_PARTS = 4.5


class PowerSpectrum(NamedTuple):
    """Power of signals by frequency.

    Attributes
    ----------
    frequencies : ndarray, shape (frequencies,)
        In Hz, from 0 to half the sampling rate.
    density : jax.Array, shape (..., frequencies, regions)
        One-sided, in squared units of the signals per Hz: its integral is the variance.
    """

    frequencies: NDArray[np.float64]
    density: jax.Array


def power_spectrum(
    series: Any, sampling_interval: float | None = None, *, segment: float | None = None
) -> Any:
    """Power spectral density of each region's signal [1]_.

    Means over segments that overlap by half, each with its mean taken off and multiplied by a Hann
    window. One-sided, per Hz: white noise of variance v has 2 v times the sampling interval.

    Parameters
    ----------
    series : array_like, shape (..., time, regions), xarray.DataArray or BoldData
        Signals in any unit.
    sampling_interval : float, optional
        Time from sample to sample, in s; needed where `series` is an array without labels.
    segment : float, optional
        Length of a segment, in s, the inverse of the resolution in Hz; by default so that there are
        eight.

    Returns
    -------
    PowerSpectrum or xarray.DataArray
        Frequencies and density; if `series` was labelled, the density with the axis
        ``"frequency"`` (Hz). Pure JAX, differentiable.

    Raises
    ------
    TypeError, ValueError
        If `series` holds no signals of regions over time, the sampling interval is not known, or a
        segment has fewer than four samples or is longer than the series.

    References
    ----------
    .. [1] Welch, P. D. (1967). The use of fast Fourier transform for the estimation of power
       spectra. IEEE Transactions on Audio and Electroacoustics 15, 70-73.
       https://doi.org/10.1109/TAU.1967.1161901

    Examples
    --------
    >>> time = np.arange(0, 20, 0.01)[:, None]
    >>> spectrum = power_spectrum(np.sin(2 * np.pi * 10 * time), 0.01, segment=2.0)
    >>> float(spectrum.frequencies[spectrum.density[:, 0].argmax()])
    10.0
    """
    values, labels = read_series(series)
    interval = known_interval(sampling_interval, labels.sampling_interval)
    samples = values.shape[-2]
    length = int(samples / _PARTS) if segment is None else round(segment / interval)
    length = segment_samples(length, samples, interval)
    density = _welch(values, length, interval)
    frequencies = np.fft.rfftfreq(length, interval)
    if labels.axis:
        return labels.attach(density, ("frequency", "region"), frequency=frequencies)
    return PowerSpectrum(frequencies, density)


def segment_samples(length: int, samples: int, interval: float) -> int:
    """The number of samples of a segment, checked."""
    if not 4 <= length <= samples:
        raise ValueError(
            f"segment must have at least four samples and be no longer than the series, "
            f"{4 * interval:g} to {samples * interval:g} s; got {length * interval:g} s. "
            "Give segment in s"
        )
    return length


def periodogram(segments: jax.Array, interval: float) -> jax.Array:
    """One-sided density per Hz of segments (..., samples, regions), Hann window, mean taken off."""
    samples = segments.shape[-2]
    window = np.sin(np.pi * np.arange(samples) / samples) ** 2
    centred = segments - segments.mean(-2, keepdims=True)
    transform = jnp.fft.rfft(centred * window[:, None], axis=-2)
    # Positive frequencies stand for the negative ones, too; 0 and Nyquist's have no other.
    sides = np.full(samples // 2 + 1, 2.0)
    sides[0] = 1.0
    if samples % 2 == 0:
        sides[-1] = 1.0
    power = transform.real**2 + transform.imag**2
    return power * (sides * interval / (window**2).sum())[:, None]


@partial(jax.jit, static_argnums=(1, 2))
def _welch(series: jax.Array, length: int, interval: float) -> jax.Array:
    starts = np.arange(0, series.shape[-2] - length + 1, hop(length))
    segments = jnp.stack([series[..., start : start + length, :] for start in starts], axis=-3)
    return periodogram(segments, interval).mean(-3)


def hop(length: int) -> int:
    """Samples from the start of a segment to that of the next: half of one, rounded up."""
    return length - length // 2
