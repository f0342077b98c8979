"""Interpolation of a gridded lead field, measured against the spheres it was made from."""

import jax
import numpy as np
import pytest

from bayesdcm.observe.forward_grid import expanded_lead_field, local_expansion
from bayesdcm.observe.sphere import eeg_sphere_lead_field

SHELLS = {"radii": (0.08, 0.086, 0.092), "conductivities": (0.33, 0.0042, 0.33)}
N_SHIFTS = 40


@pytest.fixture(scope="module")
def electrodes():
    directions = np.random.default_rng(0).normal(size=(32, 3))
    directions[:, 2] = np.abs(directions[:, 2])
    return 0.092 * directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def exact(electrodes):
    @jax.jit
    def field(x):
        return eeg_sphere_lead_field(x, electrodes, **SHELLS, n_terms=150)

    return field


@pytest.fixture(scope="module", params=[0.005, 0.01])
def grid(request, exact):
    """Spacing, points within 75 mm of the centre, and gains there."""
    axis = np.arange(-0.08, 0.081, request.param)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    # The upper half is enough to put sources in.
    inside = (np.linalg.norm(points, axis=1) < 0.075) & (points[:, 2] > -0.011)
    points = points[inside]
    return request.param, points, np.moveaxis(np.asarray(exact(points)), 0, 1)


def shifts(rng):
    """Displacements of up to 6 mm."""
    direction = rng.normal(size=(N_SHIFTS, 1, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return 0.006 * rng.uniform(size=(N_SHIFTS, 1, 1)) ** (1 / 3) * direction


# Largest error over the entry of largest size, by spacing and distance from the centre.
BOUNDS = {
    (0.005, 0.04): 2e-4,
    (0.005, 0.062): 2e-3,
    (0.01, 0.04): 1e-3,
    (0.01, 0.062): 1e-2,
}


@pytest.mark.parametrize("distance", [0.04, 0.062])
def test_error_within_six_millimetres(grid, exact, distance):
    spacing, points, gain = grid
    rng = np.random.default_rng(1)
    centres = np.abs(rng.normal(size=(6, 3)))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    expansion = local_expansion(points, gain, centres)
    positions = centres + shifts(rng)
    expected = np.asarray(exact(positions))
    error = np.abs(expanded_lead_field(expansion, positions) - expected).max((2, 3))
    worst = (error / np.abs(expected).max((2, 3))).max()
    assert worst < BOUNDS[spacing, distance]


def test_a_point_of_the_grid_is_exact(grid):
    _, points, gain = grid
    chosen = [3, len(points) // 2, len(points) - 1]
    expansion = local_expansion(points, gain, points[chosen])
    found = expanded_lead_field(expansion, points[chosen])
    np.testing.assert_array_equal(found, np.moveaxis(gain[:, chosen], 1, 0))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_polynomials_are_reproduced(degree):
    rng = np.random.default_rng(3)
    axis = 0.01 * np.arange(7)
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)

    def polynomial(x):
        lengths = x / 0.03 - 1
        terms = [np.ones(x.shape[:-1]), lengths[..., 0] ** degree]
        terms += [lengths[..., 1] * lengths[..., 2] ** (degree - 1)]
        return np.stack(terms, -1)

    centre = np.array([[0.031, 0.027, 0.033]])
    expansion = local_expansion(points, polynomial(points)[None], centre)
    positions = centre + shifts(rng)
    expected = polynomial(positions)[:, :, None]
    np.testing.assert_allclose(expanded_lead_field(expansion, positions), expected, atol=1e-11)


def test_derivatives(grid, exact, strict_ranks):
    spacing, points, gain = grid
    centre = np.array([[0.02, 0.01, 0.032]])
    expansion = local_expansion(points, gain, centre)

    def field(x):
        return expanded_lead_field(expansion, x)

    @jax.jit
    def derivatives(x):
        twice = jax.jacfwd(jax.jacfwd(field))(x)
        return jax.jacfwd(field)(x), jax.jacrev(field)(x), twice, jax.jacfwd(exact)(x)

    forward, reverse, twice, expected = map(np.asarray, derivatives(centre))
    np.testing.assert_allclose(reverse, forward, rtol=1e-12)
    assert np.isfinite(twice).all()
    assert np.abs(forward - expected).max() < 0.03 * np.abs(expected).max()


def test_each_source_has_its_own(grid):
    _, points, gain = grid
    centres = np.array([[0.02, 0.01, 0.032], [-0.03, 0.012, 0.02]])
    both = expanded_lead_field(local_expansion(points, gain, centres), centres + 1e-3)
    for index, centre in enumerate(centres):
        alone = local_expansion(points, gain, centre[None])
        np.testing.assert_allclose(
            both[index], expanded_lead_field(alone, centre[None] + 1e-3)[0], rtol=1e-12
        )


class TestErrors:
    points = np.stack(np.meshgrid(*[0.01 * np.arange(5)] * 3), -1).reshape(-1, 3)
    gain = np.ones((2, 125, 3))

    def test_outside(self):
        with pytest.raises(ValueError, match=r"source 1 at \(80.0, 20.0, 20.0\) mm .* outside"):
            local_expansion(self.points, self.gain, [[0.02, 0.02, 0.02], [0.08, 0.02, 0.02]])

    def test_just_outside(self):
        with pytest.raises(ValueError, match="nearest point is 3.0 mm away"):
            local_expansion(self.points, self.gain, [[0.043, 0.02, 0.02]])

    def test_in_a_hole(self):
        hole = np.linalg.norm(self.points - 0.02, axis=1) > 0.012
        with pytest.raises(ValueError, match="lies outside the grid"):
            local_expansion(self.points[hole], self.gain[:, hole], [[0.02, 0.02, 0.02]])

    def test_a_plane_is_not_a_volume(self):
        plane = np.stack(np.meshgrid(*[0.01 * np.arange(9)] * 2, [0.0]), -1).reshape(-1, 3)
        with pytest.raises(ValueError, match="lie on too few planes"):
            local_expansion(plane, np.ones((2, 81, 3)), plane[:1])
        with pytest.raises(ValueError, match="outside the grid"):
            local_expansion(plane, np.ones((2, 81, 3)), [[0.035, 0.035, 0.0]])

    def test_few_points(self):
        with pytest.raises(ValueError, match="has 9 points; interpolation needs at least 30"):
            local_expansion(np.zeros((9, 3)), np.ones((2, 9, 3)), [[0.02, 0.02, 0.02]])
