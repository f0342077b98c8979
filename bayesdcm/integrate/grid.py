"""When a trajectory must be evaluated: input changes and scan times, worked out once in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

STEP_BLOCK = 32
PROPAGATOR_BLOCK = 4
INPUT_BLOCK = 2

# The Taylor polynomial of degree 6 of exp is exact to 1e-15 up to this norm.
TAYLOR_NORM = 0.025
# A bound on the rates (1-norm of the generator, 1/s) of any trajectory worth computing.
LARGEST_RATE = 8.0


class TimeGrid(NamedTuple):
    """Steps of constant input between the instants that matter, as arrays of fixed shape.

    The trajectory has ``steps + 1`` points; step k leads from point k to point k + 1. All
    times are whole bins, those of micro-time or equal parts of them. Steps of the same input and
    the same duration share one propagator. The tail is padded with steps of no duration, so that
    runs of about the same length have grids of the same shape and compiled programs are reused.

    Attributes
    ----------
    inputs : (distinct inputs, inputs)
        Distinct rows of the input.
    bin_width : ()
        Width of a bin, s.
    step : (steps,)
        Which propagator each step uses.
    propagator_input : (propagators,)
        Which distinct input a propagator holds.
    propagator_bins : (propagators,)
        Duration of a propagator in bins.
    sample : (scans, regions)
        The point at which each region is read.
    bins : (longest duration in bins,)
        ``0, 1, 2, ...``; its length is known to the compiler.
    halvings : (squarings,)
        ``0, 1, 2, ...``; its length is that of `squarings_for` a bin, known to the compiler.

    Examples
    --------
    >>> import numpy as np
    >>> grid = time_grid(np.zeros((32, 1)), 0.1, n_scans=2, delays=np.array([0.8]))
    >>> (grid.bin_width * grid.propagator_bins[grid.step[: 2]]).tolist()
    [0.7000000000000001, 1.6]
    """

    inputs: jax.Array
    bin_width: jax.Array
    step: jax.Array
    propagator_input: jax.Array
    propagator_bins: jax.Array
    sample: jax.Array
    bins: jax.Array
    halvings: jax.Array


def at_samples(values: jax.Array, grid: TimeGrid) -> jax.Array:
    """Each region's value at its sample points: (points, regions, ...) to (scans, regions, ...)."""
    return at_points(values, grid.sample)


def at_points(values: jax.Array, sample: jax.Array) -> jax.Array:
    """Each region's value at points (scans, regions): (points, regions, ...) to (scans, ...)."""
    regions = np.arange(values.shape[1])
    return values[sample, regions[None, :]]


def squarings_for(duration: float) -> int:
    """Squarings with which a Taylor polynomial of degree 6 gives the exponential over a time in s.

    Examples
    --------
    >>> squarings_for(0.2)
    6
    """
    return max(math.ceil(math.log2(LARGEST_RATE * duration / TAYLOR_NORM)), 0)


def bins_after_onset(delays: NDArray[np.float64], bin_width: float) -> NDArray[np.int64]:
    """Delays (s) in whole bins, at least one, halves rounded away from zero as SPM does.

    Examples
    --------
    >>> import numpy as np
    >>> bins_after_onset(np.array([0.0, 0.25]), 0.1).tolist()
    [1, 3]
    """
    # np.round would go to the even neighbour; and a delay given as a multiple of the bin width
    # may sit a rounding error below the half.
    return np.maximum(np.floor(np.asarray(delays) / bin_width + 0.5 + 1e-9), 1).astype(int)


def sample_bins(
    n_bins: int, bin_width: float, n_scans: int, delays: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Bins elapsed when each region is read at each scan, as SPM's integrator has it.

    Scan k starts at bin ``ceil(k n_bins / n_scans)``; a region is read ``round(delay / width)``
    bins later (at least one), less one bin, because the state is read before the bin's own
    input has acted.

    Parameters
    ----------
    n_bins : int
        Micro-time bins in the run.
    bin_width : float
        Width of a bin, s.
    n_scans : int
        Scans in the run.
    delays : ndarray
        Acquisition time of each region after the onset of a scan, s, shape (regions,).

    Returns
    -------
    ndarray
        Shape (scans, regions).

    Examples
    --------
    >>> import numpy as np
    >>> sample_bins(32, 0.1, 2, np.array([0.8, 0.0])).tolist()
    [[7, 0], [23, 16]]
    """
    # Exact integer ceiling: in floating point k * (n_bins / n_scans) can land just above a bin.
    starts = -(-np.arange(n_scans) * n_bins // n_scans)
    offsets = bins_after_onset(delays, bin_width)
    bins = starts[:, None] + offsets[None, :] - 1
    if bins.max() >= n_bins:
        raise ValueError(
            f"slice_delays: the last scan would be read {bins.max() + 1} bins into the run, but "
            f"inputs has {n_bins} bins; give delays of at most the repetition time"
        )
    return bins


def _split(boundaries: NDArray[np.int64], max_bins: int) -> NDArray[np.int64]:
    """Divide intervals longer than `max_bins` into equal steps, as equal as whole bins allow."""
    lengths = np.diff(boundaries)
    pieces = -(-lengths // max_bins)
    first = np.cumsum(pieces) - pieces
    within = np.arange(pieces.sum()) - np.repeat(first, pieces)
    steps = np.repeat(boundaries[:-1], pieces) + within * np.repeat(lengths / pieces, pieces)
    return np.concatenate([np.round(steps), boundaries[-1:]]).astype(int)


def _padded(values: ArrayLike, multiple: int) -> NDArray:
    """Repeat the last row until the length is a multiple of a number."""
    rows = np.asarray(values)
    return np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % multiple, axis=0)])


def time_grid(
    inputs: ArrayLike,
    bin_width: float,
    n_scans: int,
    delays: ArrayLike,
    max_step: float | None = None,
    updates: ArrayLike | None = None,
) -> TimeGrid:
    """Steps between input changes and scans, none longer than `max_step`.

    Parameters
    ----------
    inputs : array_like
        Inputs, shape (bins, inputs); row i acts from ``i * bin_width`` on.
    bin_width : float
        Width of a bin, s.
    n_scans : int
        Scans in the run, which the bins cover exactly.
    delays : array_like
        Acquisition time of each region after the onset of a scan, s, shape (regions,).
    max_step : float, optional
        Longest step, s; bins that are wider are divided. None: only inputs and scans matter.
    updates : array_like, optional
        Further bins at which a step must begin.

    Returns
    -------
    TimeGrid
        Arrays that do not depend on any parameter.

    Examples
    --------
    >>> import numpy as np
    >>> u = np.repeat([0.0, 1.0, 0.0], 10)[:, None]
    >>> time_grid(u, 0.1, 3, np.array([0.5])).inputs.tolist()
    [[0.0], [1.0]]
    """
    u = np.asarray(inputs, float)
    samples = sample_bins(len(u), bin_width, n_scans, np.asarray(delays, float))
    changes = 1 + np.flatnonzero((u[1:] != u[:-1]).any(axis=1))
    wanted = [[0], changes[changes < samples.max()], samples.ravel()]
    if updates is not None:
        wanted.append(np.asarray(updates)[np.asarray(updates) < samples.max()])
    boundaries = np.unique(np.concatenate(wanted).astype(int))
    parts = 1
    if max_step is not None:
        # From here on, time counts in bins that are no wider than the longest step; what acts
        # and what is read when is settled by the bins of the data.
        parts = max(math.ceil(bin_width / max_step - 1e-9), 1)
        u, bin_width = np.repeat(u, parts, axis=0), bin_width / parts
        boundaries, samples = boundaries * parts, samples * parts
        boundaries = _split(boundaries, max(int(max_step / bin_width + 1e-9), 1))

    # Runs of constant input, not bins: sorting rows is slow.
    starts = np.concatenate([[0], changes * parts])
    rows, config = np.unique(u[starts], axis=0, return_inverse=True)
    run = np.searchsorted(starts, boundaries[:-1], side="right") - 1
    pairs = np.stack([config.ravel()[run], np.diff(boundaries)], axis=1)
    # The propagator that pads the tail comes last, so that padding repeats it.
    pairs = np.concatenate([pairs, [[len(rows), 0]]])
    distinct, step = np.unique(pairs, axis=0, return_inverse=True)
    step = _padded(step.ravel(), STEP_BLOCK)
    distinct = _padded(distinct, PROPAGATOR_BLOCK)
    return TimeGrid(
        inputs=_padded(rows, INPUT_BLOCK),
        bin_width=np.asarray(bin_width, float),
        step=step.astype(np.int32),
        propagator_input=np.minimum(distinct[:, 0], len(rows) - 1).astype(np.int32),
        propagator_bins=distinct[:, 1].astype(np.int32),
        sample=np.searchsorted(boundaries, samples).astype(np.int32),
        bins=np.arange(max(int(distinct[:, 1].max()), 1), dtype=np.int32),
        halvings=np.arange(squarings_for(bin_width), dtype=np.int32),
    )


def common_grids(grids: Sequence[TimeGrid]) -> list[TimeGrid]:
    """The same grids, of as many scans, regions and inputs each, with arrays of one shape.

    Padded with steps of no duration, and with propagators that no step uses.

    Examples
    --------
    >>> import numpy as np
    >>> onsets = [np.eye(32)[:, :1], np.eye(32)[:, 1:2]]
    >>> grids = [time_grid(u, 0.1, n_scans=2, delays=np.array([0.8])) for u in onsets]
    >>> {grid.step.shape for grid in common_grids(grids)}
    {(32,)}
    """

    def longest(*fields: str) -> dict[str, int]:
        return {field: max(len(getattr(grid, field)) for grid in grids) for field in fields}

    # The last step, and the last propagator, have no duration.
    lengths = longest("inputs", "step", "propagator_input", "propagator_bins")
    counts = {k: np.arange(n, dtype=np.int32) for k, n in longest("bins", "halvings").items()}
    return [
        grid._replace(**{k: _padded(getattr(grid, k), n) for k, n in lengths.items()}, **counts)
        for grid in grids
    ]
