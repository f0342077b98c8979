"""Lead fields of series: units, parcels of forward solutions, objects of MNE-Python."""

from pathlib import Path

import jax
import jax.numpy as jnp
import mne
import numpy as np
import pytest
import xarray as xr
from mne.io.constants import FIFF
from scipy.spatial import ConvexHull

from bayesdcm import Connectome, NetworkModel, WilsonCowan
from bayesdcm.observe import (
    Balloon,
    Electrodes,
    HrfConvolution,
    LeadField,
    parcel_lead_field,
    streamed,
    to_evoked,
    to_raw,
)
from bayesdcm.observe.sensor_units import sensor_unit

MATRIX = np.array([[1.0, 0.5], [0.0, -2.0], [0.3, 0.3]])


@pytest.fixture(scope="module")
def reference():
    """Arrays that brainmass wrote."""
    with np.load(Path(__file__).parents[1] / "data" / "forward_models.npz") as arrays:
        return {name.removeprefix("lead/"): arrays[name] for name in arrays if "lead/" in name}


@pytest.mark.parametrize(("name", "unit"), [("eeg", "V/(nA m)"), ("meg_base", "T/(nA m)")])
def test_lead_fields(reference, name, unit):
    L, s, y = (reference[f"{name}/{key}"] for key in "Lsy")
    observer = LeadField(L.T, unit, amplitude=(1.0, "nA m"))
    np.testing.assert_allclose(observer.series(s, 1e-3), y, rtol=1e-10, atol=1e-14)
    assert observer.result_unit == unit[0]


def test_parcels(reference):
    given = {key: reference[f"aggregate/{key}"] for key in ("normals", "parcel", "area")}
    # Its columns are blocks of x, y and z; MNE-Python's run over x, y and z of each vertex.
    blocks = reference["aggregate/L_vertex"].reshape(6, 3, 20)
    found = parcel_lead_field(
        np.moveaxis(blocks, 1, 2), given["normals"], given["parcel"], given["area"]
    )
    np.testing.assert_allclose(found, reference["aggregate/L_region"], rtol=1e-10)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("V/(A m)", ("V", 1.0, 1.0)),
        ("uV/nA m", ("V", 1e-6, 1e-9)),
        ("fT / (nA·m)", ("T", 1e-15, 1e-9)),
        ("T/m/(A m)", ("T/m", 1.0, 1.0)),
        ("fT/cm/(nA m)", ("T/m", 1e-13, 1e-9)),
        ("mV", ("V", 1e-3, None)),
        ("T/m", ("T/m", 1.0, None)),
        ("a.u.", ("a.u.", 1.0, None)),
    ],
)
def test_units(unit, expected):
    signal, factor, moment = sensor_unit(unit)
    assert (signal, moment) == (expected[0], expected[2])
    assert factor == pytest.approx(expected[1], rel=1e-14)


def test_amplitudes_windows_and_blocks():
    activity = np.random.default_rng(0).normal(size=(23, 2))
    observer = LeadField(MATRIX, "fT/(nA m)", amplitude=([0.1, 2e-9], "A m"), sampling_interval=0.4)
    found = observer.series(activity, 0.1)
    scaled = activity[:20].reshape(5, 4, 2).mean(1) * [0.1e9, 2.0]
    np.testing.assert_allclose(found, 1e-15 * scaled @ MATRIX.T, rtol=1e-12)
    np.testing.assert_allclose(streamed(observer, activity, 0.1, 7), found, rtol=1e-12)
    every = LeadField(MATRIX, "V")
    np.testing.assert_allclose(
        streamed(every, activity, 0.1, 7), activity @ MATRIX.T, rtol=1e-12, atol=1e-15
    )
    gradient = jax.grad(lambda x: every.series(x, 0.1)[3, 1])(jnp.asarray(activity))
    np.testing.assert_array_equal(gradient[3], MATRIX[1])
    assert float(jnp.abs(gradient).sum()) == 2.0


def labelled(observer, t0=0.01, n=40, regions=("a", "b")):
    time = t0 + 0.01 * np.arange(n)
    signal = np.sin(20 * time)[:, None] * np.arange(1, len(regions) + 1)
    x = xr.DataArray(signal, {"time": time, "region": list(regions)}, ("time", "region"))
    return observer.series(x)


def test_recordings_and_responses_of_mne():
    eeg = labelled(LeadField(MATRIX, "uV/(nA m)", amplitude=(2.0, "nA m")))
    mag = labelled(LeadField(MATRIX, "fT", channel_names=["M1", "M2", "M3"]))
    grad = labelled(LeadField(MATRIX[:1], "fT/cm", channel_names=["G1"]))
    assert eeg.dims == ("time", "channel") and eeg.attrs["units"] == "V"
    raw = to_raw([eeg, mag, grad])
    assert isinstance(raw, mne.io.RawArray) and raw.info["sfreq"] == 100.0
    assert raw.ch_names == ["channel 1", "channel 2", "channel 3", "M1", "M2", "M3", "G1"]
    assert raw.get_channel_types() == ["eeg"] * 3 + ["mag"] * 3 + ["grad"]
    units = {channel["ch_name"]: channel["unit"] for channel in raw.info["chs"]}
    assert units["channel 1"] == FIFF.FIFF_UNIT_V and units["M1"] == FIFF.FIFF_UNIT_T
    assert units["G1"] == FIFF.FIFF_UNIT_T_M
    wave = np.sin(20 * (0.01 + 0.01 * np.arange(40)))
    np.testing.assert_allclose(raw.get_data("channel 2")[0], -8e-6 * wave, rtol=1e-12)
    np.testing.assert_allclose(raw.get_data("M2")[0], -4e-15 * wave, rtol=1e-12)
    np.testing.assert_allclose(raw.get_data("G1")[0], 2e-13 * wave, rtol=1e-12)
    assert raw.first_time == pytest.approx(0.01)
    evoked = to_evoked(labelled(LeadField(MATRIX, "V"), t0=-0.1), comment="tone")
    assert evoked.comment == "tone" and evoked.times[0] == pytest.approx(-0.1)
    assert evoked.data.shape == (3, 40)


@pytest.fixture(scope="module")
def forward():
    """MNE's forward solution of two hemispheres of vertices, for six electrodes and two coils."""
    names = ["E11", "E36", "E62", "E75", "E104", "E45"]
    montage = mne.channels.make_standard_montage("GSN-HydroCel-128")
    info = mne.create_info([*names, "C1", "C2"], 200.0, ["eeg"] * 6 + ["mag"] * 2)
    info.set_montage(montage, on_missing="ignore", verbose="error")
    for channel, at in zip(info["chs"][6:], ([0.12, 0, 0.05], [0, 0, 0.15]), strict=True):
        z = np.array(at) / np.linalg.norm(at)
        x = np.cross([0.3, 0.5, -0.8], z)
        x /= np.linalg.norm(x)
        channel["loc"][:] = np.concatenate([at, x, np.cross(z, x), z])
        channel["coil_type"] = FIFF.FIFFV_COIL_VV_MAG_T3
    info["dev_head_t"] = mne.Transform("meg", "head")
    sphere = mne.make_sphere_model((0.0, 0.0, 0.04), 0.095, verbose="error")
    i = np.arange(20) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / 20), np.pi * (1 + 5**0.5) * i
    normals = np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1
    )
    spaces = []
    for side, hemisphere in ((-1, "LEFT"), (1, "RIGHT")):
        tris = ConvexHull(normals).simplices
        spaces.append(
            dict.fromkeys(("nearest", "nearest_dist", "pinfo", "patch_inds", "dist", "dist_limit"))
            | {
                "type": "surf",
                "id": getattr(FIFF, f"FIFFV_MNE_SURF_{hemisphere}_HEMI"),
                "np": 20,
                "rr": 0.02 * normals + sphere["r0"] + np.array([0.03 * side, 0, 0.01]),
                "nn": normals,
                "tris": tris,
                "ntri": len(tris),
                "inuse": np.ones(20, int),
                "vertno": np.arange(20),
                "nuse": 20,
                "coord_frame": FIFF.FIFFV_COORD_HEAD,
                "use_tris": np.zeros((0, 3), int),
                "nuse_tri": 0,
                "subject_his_id": None,
            }
        )
    source = mne.SourceSpaces(spaces)
    return mne.make_forward_solution(info, None, source, sphere, mindist=0.0, verbose="error")


def labels():
    # In no order of hemispheres.
    right = mne.Label([2, 3], hemi="rh", name="occipital-rh")
    return [right, mne.Label([0, 1, 5], hemi="lh", name="frontal-lh")]


def test_parcels_of_forward_solutions(forward):
    areas = np.linspace(1, 2, 40)
    # MNE puts magnetometers first.
    names = forward["sol"]["row_names"]
    free = forward["sol"]["data"][np.argsort(names)].reshape(8, 40, 3)
    names = sorted(names)
    normals = np.concatenate([space["nn"] for space in forward["src"]])
    members = np.zeros((40, 2))
    members[[22, 23], 0] = members[[0, 1, 5], 1] = 1
    members *= areas[:, None] / (members * areas[:, None]).sum(0)
    expected = parcel_lead_field(free, normals, members)
    for channels, unit in (("eeg", "V"), (["C2"], "T")):
        found = LeadField.from_forward(forward, labels(), channels=channels, areas=areas)
        rows = [names.index(name) for name in found.channel_names]
        assert found.unit == f"{unit}/(A m)" and found.source_names == (
            "occipital-rh",
            "frontal-lh",
        )
        scale = np.abs(expected[rows]).max()
        np.testing.assert_allclose(found.matrix, expected[rows], rtol=0, atol=1e-6 * scale)
    assert list(found.channel_names) == ["C2"]
    # Weights instead of labels; the moment is that of all of a parcel.
    weights = LeadField.from_forward(forward, 7 * members, channels="eeg", source_names=["o", "f"])
    rows = [names.index(name) for name in weights.channel_names]
    scale = np.abs(expected[rows]).max()
    np.testing.assert_allclose(weights.matrix, expected[rows], rtol=0, atol=1e-6 * scale)
    assert sorted(weights.channel_names) == names[2:]
    raw = to_raw(labelled(LeadField.from_forward(
        forward, labels(), channels="eeg", amplitude=(10.0, "nA m"))), forward["info"])  # fmt: skip
    known = {channel["ch_name"]: channel["loc"] for channel in forward["info"]["chs"]}
    for channel in raw.info["chs"]:
        np.testing.assert_array_equal(channel["loc"], known[channel["ch_name"]])
    with pytest.raises(ValueError, match="lacks the channel 'channel 1'"):
        to_raw(labelled(LeadField(MATRIX, "V")), forward["info"])
    with pytest.raises(ValueError, match="'E11' is of type 'eeg' in info, but its signal is in T"):
        to_raw(labelled(LeadField(MATRIX[:1], "T", channel_names=["E11"])), forward["info"])


@pytest.mark.parametrize(
    ("parcels", "options", "text"),
    [
        (labels(), {}, r"of the types \['eeg', 'mag'\]"),
        (labels(), {"channels": ["E1"]}, "1 of them absent"),
        (np.eye(40, 2) * [1, 0], {"channels": "eeg"}, "position 1 has no vertex of the forward"),
        (np.ones((39, 2)), {"channels": "eeg"}, r"expected mne.Label .* shape \(40, regions\)"),
        (labels(), {"channels": "eeg", "areas": [1.0]}, r"areas has shape \(1,\); expected pos"),
    ],
)
def test_parcels_that_do_not_fit(forward, parcels, options, text):
    with pytest.raises(ValueError, match=text):
        LeadField.from_forward(forward, parcels, **options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: LeadField(MATRIX, "V/(A m)").series(x, 1.0), "amplitude is missing: matrix is"),
        (lambda x: LeadField(MATRIX, "V", amplitude=(1.0, "nA m")), "but unit is 'V'; expected a"),
        (lambda x: LeadField(MATRIX, "V/(A m)", amplitude=1.0), "expected a number and its unit"),
        (lambda x: LeadField(MATRIX, "V/(A m)", amplitude=(1.0, "nV")), "'nV' is no unit of dip"),
        (lambda x: LeadField(MATRIX, "Hz/(A m)"), "expected V, T or T/m"),
        (lambda x: LeadField(MATRIX, "V", channel_names=["a"]), "channel_names has 1 name"),
        (lambda x: LeadField(MATRIX.T, "V").series(x, 1.0), "3 columns, but the series has 2 reg"),
        (lambda x: labelled(LeadField(MATRIX, source_names=["b", "a"])), "'a' at position 1, but"),
        (lambda x: to_raw(labelled(LeadField(MATRIX, "a.u."))), "in the unit 'a.u.'; expected V"),
        (lambda x: to_raw([labelled(LeadField(MATRIX, "V"))] * 2), "has channel 'channel 1' twice"),
        (lambda x: to_raw(labelled(LeadField(MATRIX, "V"))[0]), r"has the axes \('channel',\)"),
    ],
)
def test_what_cannot_be_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make(np.ones((4, 2)))


def test_networks_are_seen():
    connectome = Connectome([[0, 1.0], [1.0, 0]], [[0, 20.0], [20.0, 0]], region_names=["a", "b"])
    model = NetworkModel(WilsonCowan(), connectome, coupled=("E", "I_E"))
    observers = [
        Balloon(repetition_time=0.5, name="balloon"),
        HrfConvolution("gamma", repetition_time=0.25),
        LeadField(MATRIX, "V/(A m)", amplitude=(5.0, "nA m"), sampling_interval=0.01, name="eeg"),
    ]
    options = {"step": 1e-3, "stimulus": {"I_E": [1.0, 0.5]}}
    result = model.simulate(1.0, observers=observers, record=["E"], **options)
    for observer in observers:
        expected = observer.series(result.E)
        np.testing.assert_allclose(result[observer.name], expected, rtol=1e-9, atol=1e-18)
        assert result[observer.name].attrs["units"] == observer.result_unit
    assert result.eeg.shape == (100, 3)
    raw = to_raw(result.eeg)
    assert raw.get_channel_types() == ["eeg"] * 3
    crossed = LeadField(MATRIX, "V", source_names=["b", "a"])
    with pytest.raises(ValueError, match="in the order of the regions"):
        model.simulate(1.0, observers=[crossed], **options)
    with pytest.raises(TypeError, match="observers holds Electrodes.*; expected a SeriesObserver"):
        model.simulate(1.0, observers=[Electrodes()], **options)
