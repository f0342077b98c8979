"""Lead fields in spheres against SPM's (FieldTrip's series), MNE's, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.observe import sphere
from bayesdcm.observe.sphere import eeg_sphere_lead_field, meg_sphere_lead_field, series_terms

RADII, CONDUCTIVITIES = (0.08, 0.086, 0.092), (0.33, 0.0042, 0.33)
SHELLS = {"radii": RADII, "conductivities": CONDUCTIVITIES}
CENTRE = np.array([0.001, -0.002, 0.04])


@pytest.fixture(scope="module")
def electrodes():
    directions = np.random.default_rng(0).normal(size=(20, 3))
    return 0.1 * directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def coils():
    """Gradiometer-like coils outside the head, of three points, the last of weight 0."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(6, 3, 3))
    points *= 0.12 / np.linalg.norm(points, axis=-1, keepdims=True)
    points[:, 2] = 0.0
    normals = points / 0.12 + rng.normal(size=points.shape) / 4
    weights = np.tile([60.0, -60.0, 0.0], (6, 1))
    return {"points": points, "normals": normals, "weights": weights}


def relative(found, expected):
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


def cases():
    return [f"ecd_n{n}__r{i}" for n in (1, 2, 5) for i in (1, 2)]


@pytest.mark.parametrize("case", cases())
def test_potentials_are_those_of_spm(observer, case):
    positions = observer[f"{case}/position"] @ observer["ecd/mni_to_head"][:3, :3].T
    positions = positions + observer["ecd/mni_to_head"][:3, 3]
    arguments = (observer["ecd/electrodes"], observer["ecd/radii"], observer["ecd/conductivities"])
    expected = observer[f"{case}/lead_field"]
    # FieldTrip's lead fields count lengths in mm, as here when positions do.
    same = eeg_sphere_lead_field(positions, *arguments, n_terms=60)
    assert relative(same, expected) < 2e-14
    # It stops after 60 terms: that is 2e-9 at 0.72 of the outer radius.
    assert relative(eeg_sphere_lead_field(positions, *arguments), expected) < 2e-9
    metres = [arguments[0] / 1000, arguments[1] / 1000, arguments[2]]
    assert relative(eeg_sphere_lead_field(positions / 1000, *metres) / 1e6, expected) < 2e-9


def test_homogeneous_sphere_in_closed_form(electrodes):
    # sum_n (2n + 1)/n S_n = 2/d - 2 - log((1 - e.x + d)/2), d = |e - x|, lengths in radii.
    radius, conductivity, x = 0.1, 0.4, np.array([0.02, -0.05, 0.03])
    e = electrodes / radius

    def surface(y):
        d = jnp.linalg.norm(e - y, axis=1)
        return 2 / d - jnp.log((1 - e @ y + d) / 2)

    expected = jax.jacfwd(surface)(jnp.asarray(x / radius))
    expected = np.asarray(expected) / (4 * np.pi * conductivity * radius**2)
    found = eeg_sphere_lead_field(x, electrodes, [radius], [conductivity], average_reference=False)
    assert relative(found, expected) < 1e-12


@pytest.mark.parametrize("eccentricity", [0.5, 0.8, 0.9])
def test_the_series_has_enough_terms(electrodes, eccentricity):
    x = eccentricity * RADII[-1] * electrodes[0] / 0.1  # below an electrode: the worst place
    exact = eeg_sphere_lead_field(x, electrodes, **SHELLS, n_terms=2000)
    assert relative(eeg_sphere_lead_field(x, electrodes, **SHELLS), exact) < 1e-10
    enough = eeg_sphere_lead_field(x, electrodes, **SHELLS, n_terms=series_terms(eccentricity))
    assert relative(enough, exact) < 1e-10


def test_equal_conductivities_are_one_sphere(electrodes):
    x = jnp.array([0.01, 0.02, 0.05])
    one = eeg_sphere_lead_field(x, electrodes, [0.092], [0.33])
    many = eeg_sphere_lead_field(x, electrodes, RADII, [0.33] * 3)
    np.testing.assert_allclose(many, one, rtol=1e-12)


def test_small_spheres_inside_do_not_overflow(electrodes):
    weights = sphere.shell_weights([1e-3, 0.05, 0.09], [0.3, 1.0, 0.3], 600)
    assert np.isfinite(weights).all() and (weights >= 0).all()


def fields(electrodes, coils):
    return {
        "eeg": lambda x: eeg_sphere_lead_field(x, electrodes, **SHELLS, n_terms=80),
        "meg": lambda x: meg_sphere_lead_field(x, **coils),
    }


@pytest.mark.parametrize("kind", ["eeg", "meg"])
@pytest.mark.parametrize("place", ["centre", "radial", "anywhere"])
def test_derivatives_exist_everywhere(electrodes, coils, kind, place, strict_ranks):
    field = jax.jit(fields(electrodes, coils)[kind])
    radial = electrodes[3] if kind == "eeg" else coils["points"][3, 0]
    x = {"centre": np.zeros(3), "radial": 0.5 * radial, "anywhere": np.array([0.01, 0.03, 0.04])}
    x = jnp.asarray(x[place])
    forward, reverse = jax.jacfwd(field)(x), jax.jacrev(field)(x)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-9 * np.abs(forward).max())
    step = 1e-6
    numeric = [(field(x + step * e) - field(x - step * e)) / (2 * step) for e in np.eye(3)]
    assert relative(forward, np.stack(numeric, -1)) < 1e-6
    assert np.isfinite(jax.jit(jax.jacfwd(jax.jacfwd(field)))(x)).all()


@pytest.mark.parametrize("kind", ["eeg", "meg"])
def test_many_positions_are_one_at_a_time(electrodes, coils, kind, strict_ranks):
    field = jax.jit(fields(electrodes, coils)[kind])
    x = np.random.default_rng(2).uniform(-0.04, 0.04, (2, 3, 3))
    together, mapped = field(x), jax.vmap(jax.vmap(field))(jnp.asarray(x))
    single = np.array([[field(x[i, j]) for j in range(3)] for i in range(2)])
    np.testing.assert_allclose(together, single, rtol=1e-12)
    np.testing.assert_allclose(mapped, single, rtol=1e-10, atol=1e-12 * np.abs(single).max())


def test_the_centre_counts_from_there(electrodes, coils):
    x = np.array([0.01, 0.02, 0.05])
    moved = eeg_sphere_lead_field(x + CENTRE, electrodes + CENTRE, **SHELLS, centre=CENTRE)
    np.testing.assert_allclose(moved, eeg_sphere_lead_field(x, electrodes, **SHELLS), rtol=1e-10)
    shifted = coils | {"points": coils["points"] + CENTRE, "centre": CENTRE}
    expected = np.asarray(meg_sphere_lead_field(x, **coils))
    assert relative(meg_sphere_lead_field(x + CENTRE, **shifted), expected) < 1e-10


def test_radial_dipoles_are_silent_outside(coils):
    x = np.array([0.01, 0.02, 0.05])
    field = meg_sphere_lead_field(x, **coils)
    assert np.abs(field @ x).max() < 1e-13 * np.abs(field).max()


def test_a_radial_coil_measures_biot_and_savart():
    # The radial component is that of the primary current alone.
    x, point = np.array([0.01, 0.02, 0.05]), np.array([0.05, -0.03, 0.1])
    normal = point / np.linalg.norm(point)
    found = meg_sphere_lead_field(x, [[point]], [[normal]], [[1.0]])[0]
    apart = point - x
    expected = 1e-7 * np.cross(apart, normal) / np.linalg.norm(apart) ** 3
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.fixture(scope="module")
def positions():
    return CENTRE + np.array([[0.0, 0.02, 0.05], [-0.04, 0.0, 0.03], [0.03, -0.03, 0.02]])


class TestAgainstMNE:
    """The same head and sensors in MNE-Python's forward solution."""

    @staticmethod
    def forward(info, positions, sensors):
        import mne

        ball = mne.make_sphere_model(
            r0=CENTRE,
            head_radius=RADII[-1],
            relative_radii=np.array(RADII) / RADII[-1],
            sigmas=CONDUCTIVITIES,
            verbose="error",
        )
        normals = np.tile([0.0, 0.0, 1.0], (len(positions), 1))
        places = mne.setup_volume_source_space(
            pos={"rr": positions, "nn": normals}, sphere_units="m", verbose="error"
        )
        solution = mne.make_forward_solution(
            info, mne.Transform("head", "mri"), places, ball, **sensors, verbose="error"
        )
        return solution["sol"]["data"].reshape(-1, len(positions), 3).transpose(1, 0, 2)

    def test_eeg(self, positions, electrodes):
        import mne

        names = [f"EEG{i}" for i in range(len(electrodes))]
        places = CENTRE + electrodes * RADII[-1] / 0.1
        montage = mne.channels.make_dig_montage(
            dict(zip(names, places, strict=True)), coord_frame="head"
        )
        info = mne.create_info(names, 100.0, "eeg").set_montage(montage)
        expected = self.forward(info, positions, {"meg": False, "eeg": True})
        found = eeg_sphere_lead_field(
            positions, places, **SHELLS, centre=CENTRE, average_reference=False
        )
        # MNE puts three dipoles in a homogeneous sphere in place of the shells.
        centred = expected - expected.mean(1, keepdims=True)
        assert relative(found - found.mean(1, keepdims=True), centred) < 1e-2

    @pytest.mark.parametrize("coil_type", [3024, 3012, 6001, 2000])
    def test_meg(self, positions, coil_type):
        import mne
        from mne.forward import _make_forward

        rng = np.random.default_rng(5)
        info = mne.create_info(5, 100.0, "mag")
        with info._unlock():
            for ch in info["chs"]:
                normal = rng.normal(size=3)
                axes = np.linalg.qr(np.column_stack([normal, np.eye(3)[:, :2]]))[0][:, [1, 2, 0]]
                axes[:, 0] *= np.linalg.det(axes)
                place = CENTRE + 0.13 * normal / np.linalg.norm(normal)
                ch["loc"] = np.r_[place, axes.T.ravel()]
                ch["coil_type"] = coil_type
                ch["unit"] = 201 if coil_type == 3012 else 112
            info["dev_head_t"] = mne.Transform("meg", "head")
        expected = self.forward(info, positions, {"meg": True, "eeg": False})
        coils = _make_forward._create_meg_coils(info["chs"], "accurate")
        found = meg_sphere_lead_field(
            positions,
            [coil["rmag"] for coil in coils],
            [coil["cosmag"] for coil in coils],
            [coil["w"] for coil in coils],
            CENTRE,
        )
        assert relative(found, expected) < 1e-9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"radii": [0.09, 0.08, 0.1]}, "radii must be positive and increase"),
        ({"radii": [0.09]}, "one entry a shell"),
        ({"conductivities": [0.3, 0.0, 0.3]}, "conductivities must be positive"),
        ({"electrodes": np.zeros((4, 3))}, "direction from the centre"),
        ({"electrodes": np.zeros(3)}, r"electrodes must have shape \(k, 3\)"),
        ({"electrodes": np.full((4, 3), np.nan)}, "electrodes must be finite"),
        ({"positions": np.zeros(2)}, "positions must have shape"),
        ({"n_terms": 1}, "n_terms must be at least 2"),
    ],
)
def test_wrong_arguments_of_eeg(electrodes, changed, message):
    given = {"positions": np.zeros(3), "electrodes": electrodes, **SHELLS}
    with pytest.raises(ValueError, match=message):
        eeg_sphere_lead_field(**(given | changed))


def test_wrong_arguments_of_meg_and_series(coils):
    with pytest.raises(ValueError, match="normals and weights must have shapes"):
        meg_sphere_lead_field(np.zeros(3), **(coils | {"weights": [1.0]}))
    with pytest.raises(ValueError, match="points must lie outside"):
        meg_sphere_lead_field(np.zeros(3), **(coils | {"points": np.zeros((6, 3, 3))}))
    with pytest.raises(ValueError, match="eccentricity must be at least 0 and below 1"):
        series_terms(1.0)
