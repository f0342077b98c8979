"""Which steps are taken and when regions are read, for any design."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from bayesdcm.integrate import sample_bins, time_grid
from bayesdcm.integrate.grid import (
    INPUT_BLOCK,
    LARGEST_RATE,
    PROPAGATOR_BLOCK,
    STEP_BLOCK,
    TAYLOR_NORM,
    squarings_for,
)


@st.composite
def designs(draw, max_scans=25):
    """Inputs, bin width, number of scans and delays up to and including the repetition time."""
    n_scans = draw(st.integers(1, max_scans))
    n_bins = n_scans * draw(st.integers(1, 20)) + draw(st.integers(0, n_scans - 1))
    dt = draw(st.sampled_from([0.05, 0.1, 0.125, 0.2, 0.3, 1.0, 2.0]))
    values = st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 8.0]), min_size=n_bins, max_size=n_bins)
    inputs = np.array([draw(values) for _ in range(draw(st.integers(1, 3)))]).T
    longest = n_bins / n_scans
    fractions = draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0]), min_size=1, max_size=3))
    # The last scan of a run whose bins do not divide the scans has only so many bins left.
    left = n_bins - math.ceil((n_scans - 1) * longest)
    delays = np.minimum(np.array(fractions) * longest, left) * dt
    return inputs, dt, n_scans, delays


def durations(grid):
    return np.asarray(grid.propagator_bins)[np.asarray(grid.step)] * float(grid.bin_width)


def inputs_of_steps(grid):
    return np.asarray(grid.inputs)[np.asarray(grid.propagator_input)[np.asarray(grid.step)]]


@given(designs())
def test_samples_are_those_of_the_rule_of_spm(design):
    inputs, dt, n_scans, delays = design
    bins = sample_bins(len(inputs), dt, n_scans, delays)
    for k in range(n_scans):
        # Whole-number arithmetic: k * (bins / scans) may round to just above a whole number.
        start = k * len(inputs) // n_scans + (k * len(inputs) % n_scans > 0)
        for region, delay in enumerate(delays):
            offset = max(math.floor(delay / dt + 0.5 + 1e-9), 1)
            assert bins[k, region] == start + offset - 1
    assert 0 <= bins.min() and bins.max() < len(inputs)


@settings(max_examples=200)
@given(designs(), st.sampled_from([None, 0.11, 0.4, 0.85, 5.0]))
def test_steps_cover_the_run_and_hold_its_inputs(design, max_step):
    inputs, dt, n_scans, delays = design
    grid = time_grid(inputs, dt, n_scans, delays, max_step)
    times = np.concatenate([[0.0], np.cumsum(durations(grid))])
    samples = sample_bins(len(inputs), dt, n_scans, delays)
    np.testing.assert_allclose(times[np.asarray(grid.sample)], samples * dt, atol=1e-9)
    assert times[-1] == pytest.approx(samples.max() * dt)
    if max_step is not None:
        assert durations(grid).max(initial=0.0) <= max_step * (1 + 1e-6)
    # Every bin that a step overlaps has the input that the step holds.
    for start, stop, held in zip(times[:-1], times[1:], inputs_of_steps(grid), strict=True):
        if stop > start:
            overlapped = slice(round(start / dt - 0.499), math.ceil(stop / dt - 1e-6))
            np.testing.assert_array_equal(
                inputs[overlapped], np.broadcast_to(held, inputs[overlapped].shape)
            )


@given(designs(), st.sampled_from([None, 0.85]))
def test_padding_has_no_duration_and_fills_blocks(design, max_step):
    grid = time_grid(*design, max_step)
    assert len(grid.step) % STEP_BLOCK == 0
    assert len(grid.propagator_input) == len(grid.propagator_bins)
    assert len(grid.propagator_input) % PROPAGATOR_BLOCK == 0
    assert len(grid.inputs) % INPUT_BLOCK == 0
    lengths = durations(grid)
    last = np.flatnonzero(lengths).max(initial=-1)
    assert np.asarray(grid.sample).max() <= last + 1
    assert (lengths[: last + 1] > 0).all()
    assert len(grid.bins) >= np.asarray(grid.propagator_bins).max()


def test_delays_of_nothing_and_of_the_repetition_time():
    bins = sample_bins(32, 0.1, 2, np.array([0.0, 0.1, 1.6]))
    assert bins.tolist() == [[0, 0, 15], [16, 16, 31]]


def test_halves_are_rounded_away_from_zero_despite_rounding_errors():
    delay = np.array([2.5, 3.5, 4.5]) * 0.1  # 0.35 / 0.1 is just below 3.5
    assert sample_bins(16, 0.1, 1, delay).tolist() == [[2, 3, 4]]


def test_starts_are_exact_where_floating_point_is_not():
    assert np.ceil(7 * (58 / 14)) == 30  # scan 7 starts at bin 29, and would be read a bin late
    assert sample_bins(58, 0.1, 14, np.array([0.1]))[7, 0] == 29


def test_a_region_read_after_the_run_is_an_error():
    with pytest.raises(ValueError, match="slice_delays: the last scan would be read 34 bins"):
        sample_bins(32, 0.1, 2, np.array([1.8]))


def test_one_scan_read_at_once_takes_no_time():
    grid = time_grid(np.ones((4, 1)), 0.5, 1, np.array([0.0]))
    assert durations(grid).sum() == 0 and np.asarray(grid.sample).tolist() == [[0]]


def test_wide_bins_are_divided_but_read_as_before():
    inputs = np.array([[0.0], [1.0], [1.0], [0.0]])
    grid = time_grid(inputs, 2.0, 4, np.array([2.0]), max_step=0.85)
    assert float(grid.bin_width) == pytest.approx(2 / 3)
    times = np.concatenate([[0.0], np.cumsum(durations(grid))])
    np.testing.assert_allclose(times[np.asarray(grid.sample).ravel()], [0, 2, 4, 6])


def test_updates_are_points_of_the_grid():
    grid = time_grid(np.zeros((32, 1)), 0.1, 2, np.array([0.8]), updates=[3, 5, 31])
    times = np.concatenate([[0.0], np.cumsum(durations(grid))])
    points = np.unique(np.round(times / 0.1)).astype(int)
    assert points.tolist() == [0, 3, 5, 7, 23]  # 31 lies after the last scan's reading


def test_runs_of_about_the_same_length_share_their_shape():
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(5):
        u = np.repeat(rng.permutation([0.0, 1.0] * 10), 16)[:, None]
        grid = time_grid(u, 0.125, 20, np.array([1.0]), max_step=0.85)
        shapes.add(tuple(np.shape(field) for field in grid))
    assert len(shapes) == 1


def test_squarings_bring_the_norm_below_the_bound():
    for duration in (1e-3, 0.05, 0.125, 0.4, 3.0):
        n = squarings_for(duration)
        assert LARGEST_RATE * duration / 2**n <= TAYLOR_NORM * (1 + 1e-12)
        assert n == 0 or LARGEST_RATE * duration / 2 ** (n - 1) > TAYLOR_NORM * (1 - 1e-12)
