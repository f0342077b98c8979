"""How the network differs from the column: regression on runs, and what it leaves."""

import numpy as np
import pytest

from bayesdcm.observe.dipole_correction import fit_correction

TIMES = np.linspace(0, 0.17, 30)
SHAPES = np.stack([np.sin(20 * TIMES), np.cos(30 * TIMES), TIMES / 0.17])


def runs(noise, common=0.0, sets=40, trials=3, related=True, seed=0):
    """Runs of two drives, of which the second has one weight that differs."""
    rng = np.random.default_rng(seed)
    count = sets * trials
    time = rng.normal([20.0, 60.0], [3.0, 5.0], size=(count, 2))
    weights = np.zeros((count, 2, 4))
    weights[:, 1, 3] = rng.normal(size=count)
    inside = np.stack([time[:, 0] - 20, time[:, 1] - 60, weights[:, 1, 3]], axis=1)
    difference = 0.5 + (inside * [0.1, -0.2, 1.0] if related else 0 * inside) @ SHAPES
    groups = np.repeat(np.arange(sets), trials)
    difference += common * rng.normal(size=(sets, 1))[groups] * np.ones(len(TIMES))
    difference += noise * rng.normal(size=(count, 1)) * np.ones(len(TIMES))
    column = rng.normal(size=(count, len(TIMES)))
    return column + difference, column, {"time": time, "weights_ampa": weights}, groups


def test_a_linear_difference_is_found():
    network, column, entries, groups = runs(0.0)
    made = fit_correction(network, column, entries, groups, TIMES, 100)
    np.testing.assert_allclose(made.slopes["time"], [0.1 * SHAPES[0], -0.2 * SHAPES[1]], atol=5e-3)
    np.testing.assert_allclose(made.slopes["weights_ampa"][1, 3], SHAPES[2], atol=5e-3)
    # What did not differ has no slope.
    assert np.count_nonzero(made.slopes["weights_ampa"].any(-1)) == 1
    weights = np.zeros((2, 4))
    weights[1, 3] = 0.5
    at = made.at({"time": np.array([22.0, 55.0]), "weights_ampa": weights, "scale": 3.0})
    np.testing.assert_allclose(at, 0.5 + [0.2, 1.0, 0.5] @ SHAPES, atol=0.02)
    assert np.abs(made.error).max() < 0.02
    np.testing.assert_allclose(made.size, np.sqrt((network.mean(0) ** 2).mean()))


def test_without_relation_the_mean_is_left_and_the_error_is_honest():
    network, column, entries, groups = runs(1.0, related=False, trials=1, sets=200)
    made = fit_correction(network, column, entries, groups, TIMES, 1)
    assert np.abs(made.slopes["time"] * [[3.0], [5.0]]).max() < 0.15
    np.testing.assert_allclose(made.mean, 0.5, atol=0.2)
    np.testing.assert_allclose((made.error @ made.error.T)[0, -1], 1.0, atol=0.25)


@pytest.mark.parametrize(("averages", "expected"), [(1, 0.25 + 1.0), (100, 0.25 + 0.01)])
def test_what_differs_from_trial_to_trial_averages_out(averages, expected):
    network, column, entries, groups = runs(1.0, 0.5, related=False, sets=400)
    made = fit_correction(network, column, entries, groups, TIMES, averages)
    np.testing.assert_allclose((made.error @ made.error.T)[0, 0], expected, atol=0.1)
