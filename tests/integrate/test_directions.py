"""Directions last: the same numbers as axes that `jax.vmap` places, in all modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesdcm.integrate.directions import along_directions

CALLS = []


def course(given, changes):
    """A loop that is linear in changes, and reads whole numbers, too."""
    (rates, inputs), steps = given
    start, forces = changes
    CALLS.append(start.shape)

    def move(state, index):
        state = jnp.tanh(rates)[:, None] * state + inputs[index] * forces[index]
        return state, state

    last, states = jax.lax.scan(move, start, steps)
    return last, 2 * states[:, :1]


lanes = along_directions(course)


def plain(given, changes):
    changes = jax.tree.map(lambda part: part[..., None], changes)
    return tuple(part[..., 0] for part in course(given, changes))


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    steps = jnp.array([0, 2, 1, 1, 3])
    given = (jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=4))), steps
    return given, (jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=(4, 3))))


def equal(one, other):
    for found, expected in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert found.shape == expected.shape
        assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_one_direction_outside_of_and_within_programs(arrays):
    expected = jax.jit(plain)(*arrays)
    equal(lanes(*arrays), expected)
    equal(jax.jit(lanes)(*arrays), expected)


@pytest.mark.parametrize(
    "axes",
    [
        (None, 0),
        (None, (0, None)),
        (None, (None, 1)),
        (((0, None), None), None),
        # Whole numbers say where to look; they are the same for all.
        (((0, 0), None), 0),
    ],
)
def test_batches_of_changes_and_of_what_is_given(arrays, axes):
    def widened(part, axis):
        return part if axis is None else jnp.stack([part, 2 * part, -part], axis)

    def spread(axis, part):
        if not isinstance(part, tuple):
            return widened(part, axis)
        each = axis if isinstance(axis, tuple) else [axis] * len(part)
        return tuple(map(spread, each, part))

    batch = tuple(map(spread, axes, arrays))
    equal(jax.jit(jax.vmap(lanes, axes))(*batch), jax.jit(jax.vmap(plain, axes))(*batch))


def test_directions_are_taken_together_and_fill_vectors(arrays):
    given, changes = arrays
    several = jax.tree.map(lambda part: jnp.stack([part] * 7), changes)
    CALLS.clear()
    jax.jit(jax.vmap(lanes, (None, 0))).lower(given, several)
    assert set(CALLS) == {(3, 8)}


def of_rates(function):
    """A function of numbers on which both what is given and changes depend."""

    def value(numbers):
        rates, force = numbers[:3], numbers[3:]
        given = (rates, jnp.cos(rates[:1]) * jnp.ones(4)), jnp.array([0, 2, 1, 1, 3])
        last, states = function(given, (rates**2, jnp.outer(jnp.ones(4), force)))
        return jnp.concatenate([last, states.ravel()])

    return value


def forward_twice(function):
    return jax.jacfwd(jax.jacfwd(function))


def forward_over_reverse(function):
    return jax.jacfwd(jax.jacrev(function))


@pytest.mark.parametrize(
    "derivative", [jax.jacfwd, jax.jacrev, forward_twice, forward_over_reverse]
)
def test_derivatives_in_all_modes(derivative):
    at = np.random.default_rng(1).normal(size=6)
    found, expected = map(derivative, map(of_rates, (lanes, plain)))
    equal(jax.jit(found)(at), jax.jit(expected)(at))
    both = np.stack([at, -at])
    equal(jax.jit(jax.vmap(found))(both), jax.jit(jax.vmap(expected))(both))


def test_derivatives_outside_of_programs():
    at = np.random.default_rng(1).normal(size=6)
    equal(jax.jacfwd(of_rates(lanes))(at), jax.jit(jax.jacfwd(of_rates(plain)))(at))


def test_reverse_along_some_changes():
    """Changes that are known beside those that are not."""
    given = (jnp.ones(3), jnp.ones(4)), jnp.array([0, 1])

    def value(function):
        return lambda start: function(given, (start, jnp.ones((4, 3))))[0].sum()

    found, expected = (jax.jit(jax.grad(value(function))) for function in (lanes, plain))
    equal(found(np.ones(3)), expected(np.ones(3)))
