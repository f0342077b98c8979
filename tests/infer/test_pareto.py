"""The Pareto k-hat of importance weights whose tails are known."""

import numpy as np
import pytest

from bayesdcm.infer.arviz_adapter import pareto_k

N_WEIGHTS = 20_000
SHAPES = (0.2, 0.5, 0.7, 1.0, 1.5)
# Weights beyond the threshold that the estimate is made from, and draws that its prior counts for.
TAIL, PRIOR = int(np.ceil(3 * np.sqrt(N_WEIGHTS))), 10


def expected(shape):
    """What is estimated on average: the prior draws the shape to a half, by its share."""
    return (TAIL * shape + PRIOR * 0.5) / (TAIL + PRIOR)


def standard_error(shape, n=1):
    """That of a mean over n samples: the Cramer-Rao bound of a shape with unknown scale."""
    return (1 + shape) / np.sqrt(TAIL * n)


def pareto(shape, seed, n=N_WEIGHTS):
    """Logs of draws from the generalised Pareto distribution of this shape and scale one."""
    # Beyond any threshold the distribution has the same shape.
    return np.log(np.expm1(shape * np.random.default_rng(seed).exponential(size=n)) / shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_known_tails(shape):
    found = np.array([pareto_k(pareto(shape, seed)) for seed in range(20)])
    # A hundredth for the bias of the estimate, of the order of one in the size of the tail.
    tolerance = 4 * standard_error(shape, 20) + 0.01
    assert found.mean() == pytest.approx(expected(shape), abs=tolerance)
    np.testing.assert_allclose(found, expected(shape), rtol=0, atol=4.5 * standard_error(shape))
    # The error is that of a maximum-likelihood estimate.
    assert 0.6 < found.std(ddof=1) / standard_error(shape) < 1.5


@pytest.mark.parametrize("shape", SHAPES)
def test_exponential_log_weights_have_the_shape_of_their_mean(shape):
    log_weights = shape * np.random.default_rng(1).exponential(size=N_WEIGHTS)
    assert pareto_k(log_weights) == pytest.approx(expected(shape), abs=4 * standard_error(shape))


def test_bounded_weights_have_a_negative_shape():
    # Uniform weights: a tail of shape -1.
    log_weights = np.log(np.random.default_rng(2).uniform(size=N_WEIGHTS))
    assert pareto_k(log_weights) == pytest.approx(expected(-1.0), abs=0.1)


@pytest.mark.parametrize("shape", [0.2, 1.5])
@pytest.mark.parametrize("shift", [-1e4, -3.0, 1e4])
def test_the_scale_of_the_weights_does_not_matter(shape, shift):
    log_weights = pareto(shape, 3)
    # A shift of 1e4 leaves 12 of the 16 digits.
    assert pareto_k(log_weights + shift) == pytest.approx(pareto_k(log_weights), abs=1e-9)


def test_neither_order_nor_weights_of_zero_matter():
    log_weights = pareto(0.7, 4)
    k = pareto_k(log_weights)
    shuffled = np.random.default_rng(5).permutation(log_weights)
    assert pareto_k(shuffled) == pytest.approx(k, abs=1e-12)
    with_zeros = np.r_[np.full(100, -np.inf), log_weights, -np.inf]
    assert pareto_k(with_zeros) == k


def test_the_weights_are_left_alone():
    log_weights = pareto(0.7, 6)
    before = log_weights.copy()
    pareto_k(log_weights)
    np.testing.assert_array_equal(log_weights, before)


@pytest.mark.parametrize("value", [0.0, -1e5, 7.0])
def test_equal_weights_have_no_tail(value):
    # Equal up to rounding: an exact approximation.
    noise = 1e-11 * np.random.default_rng(7).normal(size=500)
    assert pareto_k(np.full(500, value)) == -np.inf
    assert pareto_k(value + noise) == -np.inf
