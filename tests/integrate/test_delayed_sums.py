import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.integrate.delayed_sums import (
    blocks,
    inner_products,
    interpolation,
    longest_block,
    read,
    routes,
)


def network(regions, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(regions, regions)) * (rng.random((regions, regions)) < 0.6)
    return weights, rng.uniform(8.0, 20.0, (regions, regions))


@pytest.mark.parametrize("regions", [3, 14])
def test_routes_hold_each_connection_once_from_either_end(regions):
    weights, lengths = network(regions)
    found = routes(weights, lengths)
    for matrix, listed in ((weights, found.weights), (lengths * (weights != 0), found.lengths)):
        rebuilt = np.zeros((regions, regions))
        np.add.at(rebuilt, (np.arange(regions)[None].repeat(len(listed), 0), found.sources), listed)
        np.testing.assert_array_equal(rebuilt, matrix)
    outgoing = np.append(found.weights.ravel(), 0)[found.positions]
    rebuilt = np.zeros((regions, regions))
    senders = np.arange(regions)[None].repeat(len(outgoing), 0)
    np.add.at(rebuilt, (found.targets, senders), outgoing)
    np.testing.assert_array_equal(rebuilt, weights)


@pytest.mark.parametrize("regions", [3, 14])
def test_reading_and_its_derivative_are_sums_over_connections(regions):
    weights, delays = network(regions)
    listed = routes(weights, delays)
    taps = interpolation(jnp.asarray(listed.weights), jnp.asarray(listed.lengths), 8, 32)
    series = np.random.default_rng(1).normal(size=(regions, 64))
    starts = listed.sources * 64 + 40 - taps.whole - 1
    found = read(jnp.asarray(series), starts, taps.older, taps.newer, 8)
    times = 40 + np.arange(8)
    expected = np.zeros((regions, 8))
    for to, of in zip(*np.nonzero(weights), strict=True):
        past = np.interp(times - delays[to, of], np.arange(64), series[of])
        expected[to] += weights[to, of] * past
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    other = np.random.default_rng(2).normal(size=(1, regions, 8))
    products = inner_products(jnp.asarray(series)[None], starts, jnp.asarray(other))
    slot = np.argmax(listed.weights[:, 1] != 0)
    begin = int(starts[slot, 1])
    assert float(products[slot, 1]) == pytest.approx(
        series.ravel()[begin : begin + 8] @ other[0, 1]
    )


@pytest.mark.parametrize(
    ("delay", "block"), [(0.0, 1), (1.0, 2), (14.9, 12), (15.0, 16), (99.0, 24)]
)
def test_blocks_are_no_longer_than_the_shortest_delay(delay, block):
    assert longest_block(delay) == block
    fits = interpolation(jnp.ones((1, 1)), jnp.full((1, 1), delay), block, 128)
    assert np.isfinite(fits.newer).all()


def test_a_few_short_connections_do_not_hold_up_the_others():
    to, delays = np.repeat(np.arange(20), 19), np.full(380, 40.0)
    assert blocks(delays, to) == (24, 24)
    delays[[3, 100]] = 2.0, 7.5
    assert blocks(delays, to) == (24, 2)
    # Where nearly all are short, there is one group.
    assert blocks(np.where(delays > 39, 1.5, 40.0), to) == (2, 2)


@pytest.mark.parametrize("delay", [6.9, 31.0])
def test_delays_that_do_not_fit_give_no_numbers(delay):
    taps = interpolation(jnp.ones((1, 1)), jnp.full((1, 1), delay), 8, 32)
    assert np.isnan(taps.newer).all()
