"""Head models: shapes that must agree, defaults, coordinates and the selection of channels."""

import numpy as np
import pytest

from bayesdcm.data import GridHead, SphereHead, SurfaceHead

SENSORS = 0.1 * np.eye(3)


def coils(n=3, points=2):
    return {
        "coil_points": np.full((n, points, 3), 0.1),
        "coil_normals": np.full((n, points, 3), 3**-0.5),
        "coil_weights": np.full((n, points), 1 / points),
    }


def test_sphere_defaults():
    head = SphereHead(SENSORS)
    assert head.n_channels == 3 and head.sensor_types == ("eeg",) * 3
    np.testing.assert_allclose(head.radii, 0.09 * np.array([0.9, 0.92, 0.97, 1.0]))
    np.testing.assert_array_equal(head.conductivities, [0.33, 1.0, 0.004, 0.33])
    np.testing.assert_array_equal(head.centre, np.zeros(3))
    np.testing.assert_array_equal(head.mni_to_head, np.diag([1e-3, 1e-3, 1e-3, 1]))
    assert head.average_reference is False and head.projection is None
    assert repr(head) == "SphereHead(3 sensors (eeg), 4 shells, outermost of 90 mm)"
    for array in (head.sensors, head.radii, head.centre):
        assert array.dtype == np.float64 and not array.flags.writeable


def test_picking_keeps_the_reference():
    head = SphereHead(SENSORS, average_reference=True).pick([2, 0])
    np.testing.assert_array_equal(head.projection, [[0, 0, 1], [1, 0, 0]])
    assert head.n_channels == 2 and len(head.sensors) == 3 and head.average_reference
    np.testing.assert_array_equal(head.pick([1]).projection, [[1, 0, 0]])
    gain = np.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(GridHead(SENSORS[:2], gain).pick([1]).gain, gain[1:])
    surface = SurfaceHead(SENSORS, SENSORS, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(surface.pick([1]).gain, [[3, 4, 5]])
    for indices in ([], [2], [-1]):
        with pytest.raises(ValueError, match="channels holds"):
            surface.pick(indices)


def test_positions_go_from_mni_to_head():
    matrix = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    matrix[:3, 3] = [0, 0.01, 0.04]
    head = SphereHead(SENSORS, mni_to_head=matrix)
    np.testing.assert_allclose(head.to_head([[42, -22, 7]]), [[0.042, -0.012, 0.047]])
    with pytest.raises(ValueError, match="positions has shape"):
        head.to_head([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sensors": SENSORS[:, :2]}, r"sensors has shape \(3, 2\); expected \(sensors, 3\)"),
        ({"sensors": SENSORS * np.nan}, "sensors has 9 entries that are NaN"),
        ({"centre": [0, 0]}, r"centre has shape \(2,\)"),
        ({"radii": [0.09]}, "radii came alone"),
        ({"conductivities": [0.3]}, "conductivities came alone"),
        ({"radii": [0.09, 0.08], "conductivities": [1, 1]}, "radii must increase"),
        ({"radii": [0.08, 0.09], "conductivities": [1]}, "conductivities has shape"),
        ({"radii": [0.09], "conductivities": [0]}, "conductivities must lie above 0"),
        ({"sensor_types": ["eeg", "mag", "eeg"]}, "coil_points and .* missing"),
        ({"sensor_types": ["eeg", "eye", "eeg"]}, r"among them \['eye'\]"),
        ({"sensor_types": ["eeg"]}, "sensor_types has 1 entries"),
        ({"sensor_types": "eeg"}, "sensor_types must be a list"),
        ({"coil_points": np.zeros((3, 2, 3))}, "coil_normals and coil_weights missing"),
        (coils() | {"coil_weights": np.ones((3, 1))}, r"coil_weights has shape \(3, 1\)"),
        (coils(2), r"coil_points has shape \(2, 2, 3\)"),
        ({"average_reference": 1}, "average_reference must be True or False"),
        ({"projection": np.eye(2)}, r"projection has shape \(2, 2\); expected \(channels, 3\)"),
        ({"mni_to_head": np.eye(3)}, r"mni_to_head has shape \(3, 3\)"),
        ({"mni_to_head": np.eye(4)}, "mni_to_head .* scales by 1; .*Divide"),
        ({"mni_to_head": np.diag([-1e-3, 1e-3, 1e-3, 1])}, "mni_to_head .* does not mirror"),
    ],
)
def test_faults_of_spheres_are_named(changes, text):
    with pytest.raises((ValueError, TypeError), match=text):
        SphereHead(**({"sensors": SENSORS} | changes))


def test_faults_of_lead_fields_are_named():
    with pytest.raises(ValueError, match=r"gain has shape \(2, 3\)|gain has 2 dimension"):
        GridHead(SENSORS, np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"gain has shape \(2, 4, 3\); expected \(channels, 3, 3"):
        GridHead(SENSORS, np.ones((2, 4, 3)))
    with pytest.raises(ValueError, match=r"normals has shape \(2, 3\)"):
        SurfaceHead(SENSORS, SENSORS[:2], np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"gain has shape \(2, 4\)"):
        SurfaceHead(SENSORS, SENSORS, np.ones((2, 4)))


def test_meg_spheres():
    head = SphereHead(SENSORS, sensor_types=["mag", "grad", "eeg"], **coils())
    assert head.coil_points.shape == (3, 2, 3)
    assert repr(head).startswith("SphereHead(3 sensors (eeg, mag, grad)")
