"""Estimates of cross-spectra from time series: multitaper and multivariate autoregressive.

All are one-sided densities per Hz with ``S[i, j] = E[X_i conj(X_j)]``, where
``X(f) = integral x(t) exp(-2 pi i f t) dt``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.validation import check_positive, check_real_array, check_whole

__all__ = [
    "SpectralEstimate",
    "autoregressive_spectra",
    "check_frequency_range",
    "cosine_drifts",
    "dependent_columns",
    "multitaper_spectra",
    "spectra_of_segments",
    "without_confounds",
]

# Product of length and bandwidth of the tapers where none is given: three tapers, of which the
# worst keeps 96 % of its energy in the band.
_TIME_BANDWIDTH = 4.0
# Priors, iterations and tolerance of SPM's autoregressive estimate (spm_mar).
_GAMMA_SHAPE, _GAMMA_SCALE = 1e-3, 1e3
_PASSES, _TOLERANCE = 32, 1e-4
# Entries of the table of complex exponentials that are held at a time.
_BLOCK = 4_000_000
# Of standardised series: singular values, relative to the largest, that count as zero, and entries
# of their vectors that do not.
_SINGULAR, _INVOLVED = 1e-9, 1e-6


class SpectralEstimate(NamedTuple):
    """Cross-spectra of one condition, and what is known of their precision.

    Attributes
    ----------
    spectra : (frequencies, channels, channels)
        One-sided, squared units of the series per Hz.
    frequencies : (frequencies,)
        Hz.
    degrees_of_freedom : float
        Independent complex samples behind the estimate at a frequency.
    bandwidth : float
        Distance at which frequencies are independent, Hz.
    """

    spectra: NDArray[np.complex128]
    frequencies: NDArray[np.float64]
    degrees_of_freedom: float
    bandwidth: float


def spectra_of_segments(
    segments: NDArray[np.float64],
    rate: float,
    method: str,
    frequencies: NDArray[np.float64] | None,
    limits: tuple[float, float],
    bandwidth: float | None,
    order: int,
    n_frequencies: int | None = None,
) -> SpectralEstimate:
    """Cross-spectra of segments (segments, times, channels) by one of the two methods.

    `frequencies` None: for multitaper, the independent ones within `limits`, Hz; else
    `n_frequencies`, or one each Hz, from the first limit to the last.
    """
    if method == "multitaper":
        return multitaper_spectra(segments, rate, frequencies, limits, bandwidth)
    if method != "autoregressive":
        raise ValueError(f"method must be 'multitaper' or 'autoregressive', got {method!r}")
    if bandwidth is not None:
        raise ValueError(
            "bandwidth is that of tapers, but method is 'autoregressive', whose order sets it. "
            "Leave bandwidth out."
        )
    if frequencies is None:
        low, high = limits
        if n_frequencies is None:
            frequencies = np.arange(np.ceil(low), np.floor(high + 1e-9) + 1)
        else:
            frequencies = np.linspace(low, high, n_frequencies)
    return autoregressive_spectra(segments, rate, frequencies, order)


def multitaper_spectra(
    segments: NDArray[np.float64],
    rate: float,
    frequencies: NDArray[np.float64] | None,
    limits: tuple[float, float],
    bandwidth: float | None = None,
) -> SpectralEstimate:
    """Mean over Slepian tapers and segments (segments, times, channels).

    The tapers are those that keep their energy within `bandwidth`, by default four over the length
    of a segment, Hz. By default frequencies lie one bandwidth apart, so that they are independent.

    References
    ----------
    .. [1] Thomson (1982), Proceedings of the IEEE 70:1055.
           https://doi.org/10.1109/PROC.1982.12433
    """
    from scipy.signal.windows import dpss

    n_segments, n_times, _ = segments.shape
    length = n_times / rate
    width = _TIME_BANDWIDTH / length if bandwidth is None else bandwidth
    if not 2 / length - 1e-12 <= width < rate / 2:
        raise ValueError(
            f"bandwidth is {width:g} Hz, but segments of {length:g} s at {rate:g} Hz have tapers "
            f"for bandwidths from {2 / length:g} to {rate / 2:g} Hz. Choose one between, or longer "
            "segments."
        )
    product = width * length
    tapers = dpss(n_times, product / 2, max(1, int(np.floor(product + 1e-9)) - 1))
    if frequencies is None:
        frequencies = _independent(limits, width, rate)
    # Tapers have unit energy, and negative frequencies count with the positive ones.
    spectra = np.zeros((len(frequencies), *2 * segments.shape[2:]), complex)
    times = np.arange(n_times)
    columns = segments.transpose(1, 0, 2).reshape(n_times, -1)
    block = max(1, _BLOCK // n_times)
    for start in range(0, len(frequencies), block):
        part = slice(start, start + block)
        turns = np.exp(-2j * np.pi * frequencies[part, None] * times / rate)
        for taper in tapers:
            transform = (turns @ (taper[:, None] * columns)).reshape(-1, *segments.shape[::2])
            samples = transform.transpose(0, 2, 1)
            spectra[part] += samples @ samples.conj().transpose(0, 2, 1)
    count = len(tapers) * n_segments
    return SpectralEstimate(spectra * 2 / (rate * count), frequencies, float(count), width)


def _independent(limits: tuple[float, float], width: float, rate: float) -> NDArray[np.float64]:
    """Frequencies a bandwidth apart whose bands lie within limits, zero and the Nyquist limit."""
    low, high = max(limits[0], 0.0), min(limits[1], rate / 2)
    count = int(np.floor((high - low) / width + 1e-9))
    if count < 1:
        raise ValueError(
            f"fmin and fmax, {low:g} and {high:g} Hz, are closer than the bandwidth of the tapers, "
            f"{width:g} Hz; expected a wider range, longer series, or a smaller bandwidth"
        )
    return low + width * (np.arange(count) + 0.5)


def autoregressive_spectra(
    segments: NDArray[np.float64], rate: float, frequencies: NDArray[np.float64], order: int = 8
) -> SpectralEstimate:
    """SPM's multivariate autoregressive estimate, its mean over segments.

    Lag matrices are posterior means under a shrinkage prior, the covariance of the innovations is
    the least-squares one over the number of samples [1]_. The degrees of freedom are those that the
    asymptotic variance of such estimates, two orders over the number of samples, amounts to [2]_.

    References
    ----------
    .. [1] Penny and Roberts (2002), IEE Proceedings Vision, Image and Signal Processing 149:33.
           https://doi.org/10.1049/ip-vis:20020149
    .. [2] Berk (1974), Annals of Statistics 2:489. https://doi.org/10.1214/aos/1176342709
    """
    check_whole("order", order)
    n_segments, n_times, n_channels = segments.shape
    if n_times - order <= order * n_channels:
        raise ValueError(
            f"order is {order}, but segments of {n_times} samples of {n_channels} channels "
            "determine no such model; expected more samples than twice the order times the "
            "channels. Choose a lower order, or longer segments."
        )
    spectra = np.zeros((len(frequencies), n_channels, n_channels), complex)
    lags = np.arange(1, order + 1)
    turns = np.exp(-2j * np.pi * frequencies[:, None] * lags / rate)
    for segment in segments:
        try:
            weights, innovations = _autoregression(segment, order)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"series {dependent_columns(segment)}, numbered from 0, are linear combinations of "
                "each other, so that there is no autoregressive model of them. Leave out one of "
                "them, or use method 'multitaper'."
            ) from None
        by_lag = weights.reshape(order, n_channels, n_channels).transpose(0, 2, 1)
        response = np.linalg.inv(np.eye(n_channels) - np.einsum("fk,kij->fij", turns, by_lag))
        spectra += response @ innovations @ response.conj().transpose(0, 2, 1)
    spectra *= 2 / (rate * n_segments)
    spectra = (spectra + spectra.conj().transpose(0, 2, 1)) / 2
    freedom = max(1.0, n_segments * n_times / (2 * order))
    return SpectralEstimate(spectra, frequencies, freedom, rate / (2 * order))


def _autoregression(
    series: NDArray[np.float64], order: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (order * channels, channels), lag 1 first, and covariance of the innovations."""
    n_times, n = series.shape
    rows = np.concatenate(
        [series[order - lag : n_times - lag] for lag in range(1, order + 1)], axis=1
    )
    target = series[order:]
    q = rows.shape[1]
    # Singular values below this count as zero, as in SPM's pseudo-inverse.
    least_squares = np.linalg.pinv(rows, rcond=np.finfo(float).eps * q) @ target
    moments = rows.T @ rows
    error = target - rows @ least_squares
    innovations = error.T @ error / n_times
    count = q * n
    # Vectors stack the columns of the weights.
    first = least_squares.ravel(order="F")
    weights, covariance = first, np.kron(innovations, np.linalg.inv(moments))
    before = weights
    for k in range(1, _PASSES + 1):
        shrinkage = (count / 2 + _GAMMA_SHAPE) / (
            weights @ weights / 2 + np.trace(covariance) / 2 + 1 / _GAMMA_SCALE
        )
        error = target - rows @ weights.reshape(q, n, order="F")
        blocks = covariance.reshape(n, q, n, q)
        spread = np.einsum("iajb,ba->ij", blocks, moments)
        precision = n_times * np.linalg.inv(
            error.T @ error + np.triu(spread) + np.triu(spread, 1).T
        )
        if k > 2 and np.linalg.norm(weights - before) / count < _TOLERANCE:
            break
        before = weights
        data = np.kron(precision, moments)
        covariance = np.linalg.inv(data + shrinkage * np.eye(count))
        weights = covariance @ (data @ first)
    return weights.reshape(q, n, order="F"), innovations


def dependent_columns(series: NDArray[np.float64]) -> list[int]:
    """Which of the series (times, channels) are linear combinations of others, and these.

    >>> dependent_columns(np.array([[1.0, 0, 2], [0, 1, 0], [0, 0, 0], [3, 5, 6]]))
    [0, 2]
    """
    centred = series - series.mean(0)
    size = np.linalg.norm(centred, axis=0)
    _, values, vectors = np.linalg.svd(centred / np.where(size > 0, size, 1.0), full_matrices=False)
    null = vectors[values <= _SINGULAR * values[0]]
    return np.flatnonzero((np.abs(null) > _INVOLVED).any(0)).tolist()


def cosine_drifts(n_times: int, duration: float, limit: float) -> NDArray[np.float64]:
    """Cosines of less than a frequency, Hz, over a run, shape (times, drifts); no constant."""
    count = int(np.floor(2 * duration * limit))
    phases = np.pi * (np.arange(n_times)[:, None] + 0.5) / n_times
    return np.cos(phases * np.arange(1, count + 1))


def without_confounds(
    series: NDArray[np.float64], confounds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What confounds (times, confounds) leave of series (times, channels), by least squares."""
    largest = np.abs(confounds).max(axis=0)
    basis, values, _ = np.linalg.svd(
        confounds / np.where(largest > 0, largest, 1.0), full_matrices=False
    )
    basis = basis[:, values > len(confounds) * np.finfo(float).eps * values[0]]
    return series - basis @ (basis.T @ series)


def check_frequency_range(
    frequencies: object, fmin: float, fmax: float, rate: float
) -> tuple[NDArray[np.float64] | None, tuple[float, float]]:
    """Frequencies that were asked for, below the Nyquist limit, or None; and limits, Hz."""
    if frequencies is not None:
        wanted = check_real_array("frequencies", frequencies, ("frequencies",))  # type: ignore[arg-type]
        if not (wanted > 0).all() or wanted.max() > rate / 2 * (1 + 1e-9):
            raise ValueError(
                f"frequencies run from {wanted.min():g} to {wanted.max():g} Hz, but series at "
                f"{rate:g} Hz have those above 0, up to {rate / 2:g} Hz. Give them in Hz."
            )
        return wanted, (float(wanted[0]), float(wanted[-1]))
    low = check_positive("fmin", fmin, "Hz")
    high = check_positive("fmax", fmax, "Hz")
    if not low < high <= rate / 2 * (1 + 1e-9):
        raise ValueError(
            f"fmin and fmax are {low:g} and {high:g} Hz, but series at {rate:g} Hz have "
            f"frequencies up to {rate / 2:g} Hz; expected fmin < fmax within. Give them in Hz."
        )
    return None, (low, high)
