"""Power spectra of series that are read block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from bayesdcm.data.by_value import ByValue
from bayesdcm.observe.power_spectrum import hop, periodogram, segment_samples
from bayesdcm.observe.streaming import SeriesObserver, steps_of

__all__ = ["StreamedSpectrum"]


class _Segments(NamedTuple):
    recent: jax.Array
    total: jax.Array
    seen: jax.Array


@dataclass(frozen=True)
class StreamedSpectrum(SeriesObserver):
    """Power spectral density over the whole time, the same as `power_spectrum` gives.

    What is carried are one and a half segments of the series and a sum of spectra, however long
    the simulation is.

    Parameters
    ----------
    segment : float
        Length of a segment, s, a whole number of steps: the inverse of the resolution in Hz.
    of : str
        The state or signal; empty for the node's activity.
    name : str
        Of the result.
    unit : str
        Of the result: squared units of the series per Hz.

    Raises
    ------
    ValueError
        If the segment is not a whole number of steps, has fewer than four, or is longer than the
        series.

    Examples
    --------
    >>> from bayesdcm.observe.streaming import streamed
    >>> wave = np.sin(2 * np.pi * 10 * np.arange(0, 20, 0.01))[:, None]
    >>> density = streamed(StreamedSpectrum(segment=2.0), wave, step=0.01, block=300)
    >>> int(density[:, 0].argmax())  # in units of half a Hz
    20
    """

    segment: float
    of: str = ""
    name: str = "power_spectrum"
    unit: str = "per Hz"

    result_dims: ClassVar[tuple[str, ...]] = ("frequency", "region")

    def start(self, shape: tuple[int, int], step: float) -> Any:
        """Spectra of nothing; see `SeriesObserver`."""
        length = segment_samples(steps_of("segment", self.segment, step), shape[0], step)
        segments = _Segments(
            recent=jnp.zeros((length + hop(length), shape[1])),
            total=jnp.zeros((length // 2 + 1, shape[1])),
            seen=jnp.zeros((), jnp.int32),
        )
        return segments, ByValue((length, step, (shape[0] - length) // hop(length) + 1))

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Spectra with a further block; see `SeriesObserver`."""
        segments, static = carry
        length, step, _ = static.value
        # Not more than one segment ends in a piece of this length.
        piece = hop(length)
        whole = len(activity) // piece * piece

        def add(segments: _Segments, rows: jax.Array) -> tuple[_Segments, None]:
            return _with_piece(segments, rows, length, step), None

        if whole:
            pieces = activity[:whole].reshape(-1, piece, activity.shape[1])
            segments, _ = lax.scan(add, segments, pieces)
        if whole < len(activity):
            segments, _ = add(segments, activity[whole:])
        return segments, static

    def finish(self, carry: Any) -> jax.Array:
        """Density, shape (frequencies, regions); see `SeriesObserver`."""
        segments, static = carry
        return segments.total / static.value[-1]

    def result_coords(self, shape: tuple[int, int], step: float) -> dict[str, NDArray]:
        """Frequencies, Hz; see `SeriesObserver`."""
        length = steps_of("segment", self.segment, step)
        return {"frequency": np.fft.rfftfreq(length, step)}


def _with_piece(segments: _Segments, rows: jax.Array, length: int, step: float) -> _Segments:
    """What is carried after a piece of the series, (steps, regions)."""
    recent, total, seen = segments
    size, now = len(recent), seen + len(rows)
    recent = recent.at[(seen + jnp.arange(len(rows))) % size].set(rows)
    before, after = (jnp.maximum((n - length) // hop(length) + 1, 0) for n in (seen, now))
    first = (after - 1) * hop(length)

    def with_segment(total: jax.Array) -> jax.Array:
        return total + periodogram(recent[(first + jnp.arange(length)) % size], step)

    total = lax.cond(after > before, with_segment, lambda total: total, total)
    return _Segments(recent, total, now)
