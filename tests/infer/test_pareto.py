"""The Pareto k-hat of importance weights whose tails are known."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.infer.arviz_adapter import pareto_k, smoothed_weights
from bayesdcm.infer.tail_shape import shape_of
from bayesdcm.observe import gaussian

N_WEIGHTS = 20_000
SHAPES = (0.2, 0.5, 0.7, 1.0, 1.5)
# Weights beyond the threshold that the estimate is made from, and draws that its prior counts for.
TAIL, PRIOR = int(3 * np.sqrt(N_WEIGHTS)), 10


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


RANDOM = np.random.default_rng(4).normal(size=1000)


@pytest.mark.parametrize(
    ("log_weights", "shape"),
    [
        pytest.param(1e3 * RANDOM, np.inf, id="beyond floating-point numbers"),
        pytest.param(RANDOM[:24], np.inf, id="few"),
        pytest.param(RANDOM[:1], -np.inf, id="one"),
        pytest.param(np.minimum(RANDOM, 0.0), np.inf, id="a tail of ties"),
        pytest.param(np.full(1000, 7.0), -np.inf, id="equal"),
        pytest.param(7 + 1e-13 * RANDOM, -np.inf, id="equal but for rounding"),
    ],
)
def test_weights_without_a_tail_are_left_as_they_are(log_weights, shape):
    assert pareto_k(log_weights) == shape
    beside = np.random.default_rng(5).normal(size=log_weights.shape)
    weights, shapes = smoothed_weights(np.stack([log_weights, beside]), 0.1)
    assert shapes[0] == shape and np.isfinite(shapes[1]) == (len(beside) >= 25)
    relative = log_weights - log_weights.max()
    np.testing.assert_allclose(weights[0] - weights[0].max(), relative, atol=1e-9)
    np.testing.assert_allclose(np.exp(weights).sum(1), 1.0)


def test_few_draws_give_no_verdict():
    assert not any(shape_of(RANDOM[:n]).clear for n in (3, 15, 20, 24))


def test_an_approximation_that_misses_the_posterior_by_far_is_doubtful():
    def program(data):
        x = numpyro.sample("x", dist.Normal(jnp.zeros(10), 1.0).to_event(1))
        numpyro.sample("y", gaussian(x**2, np.log(100.0)), obs=data)

    fit = bayesdcm.fit(program, np.ones(10), "laplace", starts=1)
    found = fit.diagnose()
    assert found.facts["pareto_k"] > 1
    assert "approximation doubtful" in {problem.kind for problem in found.problems}
