"""Synchrony and metastability: how much the phases of regions agree, and how that changes."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.observe.labelled_series import known_interval, read_series

__all__ = ["metastability", "phase_coherence", "synchrony"]


def phase_coherence(
    series: Any,
    *,
    band: tuple[float, float] | None = None,
    sampling_interval: float | None = None,
    phases: bool = False,
) -> Any:
    """Kuramoto's order parameter over time: 1 where all phases agree, near 0 where they spread.

    ``|mean over regions of exp(i phase)|``; phases are those of the analytic signal (Hilbert
    transform) about the mean, which are meaningful in a narrow band.

    Parameters
    ----------
    series : array_like, shape (..., time, regions), xarray.DataArray or BoldData
        Signals in any unit, or phases in rad.
    band : (float, float), optional
        Lowest and highest frequency, in Hz, of a band-pass filter without transition, such as
        (0.01, 0.1) for BOLD; the ends of the series are then less to be trusted.
    sampling_interval : float, optional
        Time from sample to sample, in s; needed with `band` where `series` is an array.
    phases : bool
        Whether `series` holds phases, as those of Kuramoto's model do.

    Returns
    -------
    jax.Array or xarray.DataArray, shape (..., time)
        Between 0 and 1; labelled if `series` was. Pure JAX, differentiable.

    Raises
    ------
    TypeError, ValueError
        If `series` holds no signals of regions over time, or the band is not one.

    Examples
    --------
    >>> time = np.arange(0, 10, 0.01)[:, None]
    >>> waves = np.sin(2 * np.pi * (time + [0.0, 0.25, 0.5, 0.75]))
    >>> float(phase_coherence(waves).max().round(6))
    0.0
    """
    values, labels = read_series(series)
    kept = None
    if band is not None:
        if phases:
            raise ValueError("band filters signals, and phases=True says that there are none")
        interval = known_interval(sampling_interval, labels.sampling_interval)
        kept = _passed(band, values.shape[-2], interval)
    coherence = _phase_coherence(values, kept, phases)
    coords = {}
    if labels.sampling_interval is not None:
        coords["time"] = labels.times(np.arange(values.shape[-2]))
    return labels.attach(coherence, ("time",), **coords)


def _passed(band: tuple[float, float], samples: int, interval: float) -> np.ndarray:
    """Which frequencies of a Fourier transform are in the band, shape (frequencies,)."""
    low, high = band
    frequencies = np.fft.rfftfreq(samples, interval)
    kept = (frequencies >= low) & (frequencies <= high)
    if not 0 <= low < high or not kept.any():
        raise ValueError(
            f"band must be two frequencies in Hz, the lower one first, with something between "
            f"them at a resolution of {frequencies[1]:.3g} Hz and up to {frequencies[-1]:.3g} Hz; "
            f"got {band}"
        )
    return kept


@partial(jax.jit, static_argnums=2)
def _phase_coherence(series: jax.Array, kept: jax.Array | None, phases: bool) -> jax.Array:
    if phases:
        directions = jnp.exp(1j * series)
    else:
        samples = series.shape[-2]
        spectrum = jnp.fft.rfft(series - series.mean(-2, keepdims=True), axis=-2)
        if kept is not None:
            spectrum = spectrum * kept[:, None]
        # Negative frequencies are left out, and the positive ones count twice.
        factor = jnp.full(samples // 2 + 1, 2.0).at[0].set(1.0)
        if samples % 2 == 0:
            factor = factor.at[-1].set(1.0)
        padding = [(0, 0)] * (series.ndim - 2) + [(0, samples - spectrum.shape[-2]), (0, 0)]
        analytic = jnp.fft.ifft(jnp.pad(spectrum * factor[:, None], padding), axis=-2)
        directions = analytic / jnp.abs(analytic)
    return jnp.abs(directions.mean(-1))


def synchrony(
    series: Any,
    *,
    band: tuple[float, float] | None = None,
    sampling_interval: float | None = None,
    phases: bool = False,
) -> jax.Array:
    """Mean over time of the order parameter of the phases of all regions.

    Parameters
    ----------
    series, band, sampling_interval, phases
        As for `phase_coherence`.

    Returns
    -------
    jax.Array, shape (...)
        Between 0 and 1.

    Examples
    --------
    >>> phases = np.array([[0.0, 0.0], [0.0, np.pi]])
    >>> synchrony(phases + [[0.0], [0.1]], phases=True).round(6)
    Array(0.5, dtype=float64)
    """
    options = {"band": band, "sampling_interval": sampling_interval, "phases": phases}
    return jnp.asarray(phase_coherence(series, **options)).mean(-1)


def metastability(
    series: Any,
    *,
    band: tuple[float, float] | None = None,
    sampling_interval: float | None = None,
    phases: bool = False,
) -> jax.Array:
    """Standard deviation over time of the order parameter of the phases of all regions [1]_.

    Parameters
    ----------
    series, band, sampling_interval, phases
        As for `phase_coherence`.

    Returns
    -------
    jax.Array, shape (...)
        Between 0 and 0.5.

    References
    ----------
    .. [1] Shanahan, M. (2010). Metastable chimera states in community-structured oscillator
       networks. Chaos 20, 013108. https://doi.org/10.1063/1.3305451

    Examples
    --------
    >>> phases = np.array([[0.0, 0.0], [0.0, np.pi]])
    >>> metastability(phases + [[0.0], [0.1]], phases=True).round(6)
    Array(0.5, dtype=float64)
    """
    options = {"band": band, "sampling_interval": sampling_interval, "phases": phases}
    return jnp.asarray(phase_coherence(series, **options)).std(-1)
