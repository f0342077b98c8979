"""Lead fields in head models: dispatch, coordinates, mixed sensors, patches."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.data.head import GridHead, SphereHead, SurfaceHead
from bayesdcm.observe.lead_field import dipole_lead_field, patches
from bayesdcm.observe.sphere import eeg_sphere_lead_field, meg_sphere_lead_field

RADII, CONDUCTIVITIES = (0.08, 0.086, 0.092), (0.33, 0.0042, 0.33)
CENTRE = np.array([0.0, 0.01, 0.04])
# A rotation by 90 degrees, a scale, and a shift: an axis taken for another would show.
TO_HEAD = np.array(
    [[0, -0.95e-3, 0, 0.001], [0.95e-3, 0, 0, 0.012], [0, 0, 0.95e-3, 0.038], [0, 0, 0, 1]]
)
POSITIONS = np.array([[-42.0, -22.0, 7.0], [20.0, 30.0, 10.0], [-5.0, 12.0, 20.0]])
IN_HEAD = POSITIONS @ TO_HEAD[:3, :3].T + TO_HEAD[:3, 3]

INVERSION = "inversion_erp_5src_ecd"


def unit(points):
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def electrodes():
    return CENTRE + 0.095 * unit(np.random.default_rng(0).normal(size=(12, 3)))


def sphere_head(electrodes, **changed):
    given = {"centre": CENTRE, "radii": RADII, "conductivities": CONDUCTIVITIES}
    return SphereHead(electrodes, **(given | {"mni_to_head": TO_HEAD} | changed))


@pytest.mark.parametrize("average_reference", [True, False])
def test_spheres(electrodes, average_reference, strict_ranks):
    head = sphere_head(electrodes, average_reference=average_reference)
    found = dipole_lead_field(head, POSITIONS)(POSITIONS)
    expected = eeg_sphere_lead_field(
        IN_HEAD, electrodes, RADII, CONDUCTIVITIES, CENTRE, average_reference=average_reference
    )
    assert found.shape == (3, 12, 3)
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()
    picked = dipole_lead_field(head.pick([4, 0]), POSITIONS)(POSITIONS)
    np.testing.assert_allclose(picked, found[:, [4, 0]], rtol=1e-12)


def test_electrodes_and_coils_together(electrodes):
    rng = np.random.default_rng(1)
    points = CENTRE + 0.12 * unit(rng.normal(size=(12, 2, 3)))
    normals, weights = unit(rng.normal(size=points.shape)), rng.normal(size=(12, 2))
    types = ["eeg", "mag", "grad"] * 4
    is_electrode = np.array(types) == "eeg"
    points[is_electrode] = normals[is_electrode] = weights[is_electrode] = 0.0
    weights[1, 1] = points[1, 1, 0] = 0.0
    head = sphere_head(
        electrodes,
        sensor_types=types,
        coil_points=points,
        coil_normals=normals,
        coil_weights=weights,
        average_reference=True,
    )
    found = np.asarray(dipole_lead_field(head, POSITIONS)(POSITIONS))
    eeg = eeg_sphere_lead_field(IN_HEAD, electrodes[is_electrode], RADII, CONDUCTIVITIES, CENTRE)
    np.testing.assert_allclose(found[:, is_electrode], eeg, rtol=1e-7, atol=1e-7)
    coils = [array[~is_electrode] for array in (points, normals, weights)]
    meg = meg_sphere_lead_field(IN_HEAD, *coils, CENTRE)
    np.testing.assert_allclose(found[:, ~is_electrode], meg, rtol=1e-12)


def test_grid_stands_for_the_sphere(electrodes, strict_ranks):
    axis = np.arange(-0.07, 0.071, 0.007)
    points = CENTRE + np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    points = points[np.linalg.norm(points - CENTRE, axis=1) < 0.072]
    sphere = sphere_head(electrodes, average_reference=True)
    gain = eeg_sphere_lead_field(points, electrodes, RADII, CONDUCTIVITIES, CENTRE, 100)
    head = GridHead(points, np.moveaxis(np.asarray(gain), 0, 1), mni_to_head=TO_HEAD)
    moved = POSITIONS + np.random.default_rng(2).uniform(-3, 3, (10, 3, 3))
    found = dipole_lead_field(head, POSITIONS)(moved)
    expected = np.asarray(dipole_lead_field(sphere, POSITIONS)(moved))
    assert found.shape == (10, 3, 12, 3)
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def test_derivatives_count_millimetres(electrodes):
    field = jax.jit(dipole_lead_field(sphere_head(electrodes), POSITIONS))
    forward = jax.jacfwd(field)(jnp.asarray(POSITIONS))
    np.testing.assert_allclose(
        jax.jit(jax.jacrev(field))(jnp.asarray(POSITIONS)), forward, rtol=1e-8, atol=1e-10
    )
    step = np.zeros((3, 3))
    step[1, 0] = 1e-3
    numeric = (field(POSITIONS + step) - field(POSITIONS - step)) / 2e-3
    np.testing.assert_allclose(forward[..., 1, 0], numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("electrodes", "positions", "lead_field"),
    [
        ("ecd/electrodes", "ecd_n5__r1/position", "ecd_n5__r1/lead_field"),
        tuple(f"{INVERSION}/{name}" for name in ("electrodes", "position", "lead_field")),
    ],
)
def test_spm_head(observer, electrodes, positions, lead_field):
    """SPM's spheres, given in metres, give its lead fields in V/(A m): a million times larger."""
    transform = observer["ecd/mni_to_head"].copy()
    transform[:3] /= 1000
    head = SphereHead(
        observer[electrodes] / 1000,
        radii=observer["ecd/radii"] / 1000,
        conductivities=observer["ecd/conductivities"],
        average_reference=True,
        mni_to_head=transform,
    )
    found = dipole_lead_field(head, observer[positions])(observer[positions])
    expected = 1e6 * observer[lead_field]
    assert np.abs(found - expected).max() < 2e-9 * np.abs(expected).max()


def surface(rng):
    vertices = CENTRE + 0.07 * unit(rng.normal(size=(600, 3)))
    return SurfaceHead(
        vertices, unit(vertices - CENTRE), rng.normal(size=(15, 600)), False, TO_HEAD
    )


def mni_of(places):
    inverse = np.linalg.inv(TO_HEAD)
    return places @ inverse[:3, :3].T + inverse[:3, 3]


def test_patches():
    head = surface(np.random.default_rng(3))
    on_surface = head.positions[[5, 80]]
    found = patches(head, mni_of(on_surface))
    assert found.shape == (2, 15, 6)
    for i, centre in enumerate(on_surface):
        inside = np.linalg.norm(head.positions - centre, axis=1) < 0.016
        lead = head.gain[:, inside]
        assert inside.sum() > 6
        # Orthogonal columns, as long as the leading singular values.
        values = np.linalg.svd(lead, compute_uv=False)[:6]
        np.testing.assert_allclose(found[i].T @ found[i], np.diag(values**2), atol=1e-10)
        projector = lead @ lead.T
        np.testing.assert_allclose(projector @ found[i], found[i] * values**2, rtol=1e-9)


def test_small_patches_take_the_nearest_vertices():
    rng = np.random.default_rng(4)
    positions = np.arange(40)[:, None] * np.array([[0.01, 0.0, 0.0]])
    gain = rng.normal(size=(20, 40))
    place = [[196.0, 1.0, 0.0]]
    found = patches(SurfaceHead(positions, np.eye(3)[[2] * 40], gain), place, n_modes=6)[0]
    six = gain[:, 17:23]  # from 26 mm on one side to 24 mm on the other
    np.testing.assert_allclose(found @ found.T, six @ six.T, atol=1e-12)
    few = patches(SurfaceHead(positions, np.eye(3)[[2] * 40], gain[:4]), place, n_modes=6)[0]
    assert few.shape == (4, 6) and np.abs(few[:, 4:]).max() < 1e-12


def test_the_sign_of_a_gain_does_not_flip_modes():
    head = surface(np.random.default_rng(5))
    first = patches(head, mni_of(head.positions[:3]))
    again = patches(replace(head, gain=-head.gain), mni_of(head.positions[:3]))
    np.testing.assert_allclose(again, -first, atol=1e-12)


def test_wrong_heads(electrodes):
    cortex = surface(np.random.default_rng(6))
    with pytest.raises(TypeError, match="head is a SurfaceHead"):
        dipole_lead_field(cortex, POSITIONS)
    with pytest.raises(TypeError, match="must be a SphereHead or a GridHead"):
        dipole_lead_field(np.eye(3), POSITIONS)
    with pytest.raises(TypeError, match="must be a SurfaceHead for patches, got SphereHead"):
        patches(sphere_head(electrodes), POSITIONS)


def test_wrong_places(electrodes):
    with pytest.raises(ValueError, match="source 1 lies .* outside the innermost one of 80.0 mm"):
        dipole_lead_field(sphere_head(electrodes), [[0.0, 0.0, 0.0], [0.0, 0.0, 95.0]])
    head = surface(np.random.default_rng(7))
    with pytest.raises(ValueError, match="source 0 lies .* from the nearest vertex"):
        patches(head, [[0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="n_modes must be between 1"):
        patches(head, mni_of(head.positions[:1]), n_modes=601)
    with pytest.raises(ValueError, match="positions has 1 dimension"):
        patches(head, np.zeros(3))
