"""EvokedData.from_mne: channels, reference, projections, units, and head models against MNE's."""

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mne.io.constants import FIFF
from scipy.spatial import ConvexHull

from bayesdcm.data import EvokedData, GridHead, SphereHead, SurfaceHead
from bayesdcm.data.mne_template import similarity
from bayesdcm.observe.sphere import eeg_sphere_lead_field, meg_sphere_lead_field

RATE = 200.0
DIPOLES = np.array([[0.04, 0.0, 0.03], [-0.03, 0.02, 0.05], [0.0, -0.04, 0.02]])


def quiet(function, *arguments, **named):
    return function(*arguments, **named, verbose="error")


def eeg_info(montage="GSN-HydroCel-128", n=32):
    montage = mne.channels.make_standard_montage(montage)
    names = [name for name in montage.ch_names if len(name) > 1][
        :: max(len(montage.ch_names) // n, 1)
    ]
    info = mne.create_info(names[:n], RATE, "eeg")
    info.set_montage(montage)
    return info


def meg_info():
    """Six pairs of a magnetometer and a planar gradiometer (Neuromag's) around the head."""
    directions = np.array(
        [[1, 0, 0.2], [-1, 0, 0.2], [0, 1, 0.2], [0, -1, 0.2], [0, 0.1, 1], [1, 1, 1]], float
    )
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    info = mne.create_info([f"M{i}" for i in range(12)], RATE, ["mag", "grad"] * 6)
    for i, channel in enumerate(info["chs"]):
        z = directions[i // 2]
        x = np.cross([0.3, 0.5, -0.8], z)
        x /= np.linalg.norm(x)
        channel["loc"][:] = np.concatenate([0.12 * z, x, np.cross(z, x), z])
        kind = FIFF.FIFFV_COIL_VV_PLANAR_T1 if i % 2 else FIFF.FIFFV_COIL_VV_MAG_T3
        channel["coil_type"] = kind
    trans = mne.transforms.rotation(0.1, 0.05, 0.02)
    trans[:3, 3] = [0.001, 0.002, 0.01]
    with info._unlock():
        info["dev_head_t"] = mne.Transform("meg", "head", trans)
    return info


def responses(info, n_times=61, tmin=-0.1, names=("standard", "deviant"), scale=1e-6, seed=0):
    rng = np.random.default_rng(seed)
    return [
        mne.EvokedArray(
            scale * rng.normal(size=(len(info["ch_names"]), n_times)), info, tmin, comment=name
        )
        for name in names
    ]


def covariance_of(info, scale=1e-6):
    rng = np.random.default_rng(1)
    n = len(info["ch_names"])
    root = scale * rng.normal(size=(n, n))
    return mne.Covariance(root @ root.T, info["ch_names"], [], [], 100)


def sphere(info):
    """MNE's sphere model, slightly off the origin."""
    return quiet(mne.make_sphere_model, (0.0, 0.005, 0.01), 0.095)


def dipole_forward(info, model, positions=DIPOLES):
    """MNE's forward solution for free dipoles."""
    normals = np.tile([0.0, 0.0, 1.0], (len(positions), 1))
    points = {"rr": positions, "nn": normals}
    source = quiet(mne.setup_volume_source_space, pos=points, sphere=sphere(info))
    return quiet(mne.make_forward_solution, info, None, source, model, mindist=0.0)


def test_responses_are_referenced_and_keep_their_units():
    info = eeg_info()
    evokeds = responses(info)
    data = EvokedData.from_mne(evokeds)
    raw = np.stack([evoked.data.T for evoked in evokeds])
    np.testing.assert_allclose(data.signal, raw - raw.mean(axis=2, keepdims=True), atol=1e-20)
    np.testing.assert_array_equal(data.times, evokeds[0].times)
    assert data.condition_names == ("standard", "deviant") and data.effect_names == ("deviant",)
    assert data.channel_names == tuple(info["ch_names"]) and set(data.channel_types) == {"eeg"}
    assert data.sampling_rate == pytest.approx(RATE) and data.head is None
    assert data.info["custom_ref_applied"] == FIFF.FIFFV_MNE_CUSTOM_REF_ON
    # The arguments are left as they were.
    assert evokeds[0].info["custom_ref_applied"] == FIFF.FIFFV_MNE_CUSTOM_REF_OFF
    np.testing.assert_array_equal(evokeds[0].data.T, raw[0])


def test_an_average_reference_projection_is_applied_once():
    evokeds = responses(eeg_info())
    wanted = EvokedData.from_mne(evokeds).signal
    for evoked in evokeds:
        evoked.set_eeg_reference(projection=True, verbose=False)
    np.testing.assert_allclose(EvokedData.from_mne(evokeds).signal, wanted, atol=1e-19)
    for evoked in evokeds:
        evoked.apply_proj(verbose=False)
    np.testing.assert_allclose(EvokedData.from_mne(evokeds).signal, wanted, atol=1e-19)


def test_bad_channels_are_dropped_before_the_reference():
    evokeds = responses(eeg_info())
    evokeds[1].info["bads"] = [evokeds[1].ch_names[3]]
    data = EvokedData.from_mne(evokeds, picks=evokeds[0].ch_names[:2])
    good = np.delete(evokeds[0].data, 3, axis=0)
    np.testing.assert_allclose(data.signal[0], (good[:2] - good.mean(axis=0)).T, atol=1e-20)
    with pytest.raises(ValueError, match=rf"picks has '{evokeds[0].ch_names[3]}'"):
        EvokedData.from_mne(evokeds, picks=[evokeds[0].ch_names[3]])


def test_windows_decimation_names_and_designs():
    info = eeg_info()
    evokeds = responses(info, names=("", ""))
    data = EvokedData.from_mne(
        evokeds, tmin=0.001, tmax=0.2, decimate=2, design=[[-1], [1]], effect_names=["mismatch"]
    )
    np.testing.assert_allclose(data.times, np.arange(0, 0.201, 0.01), atol=1e-12)
    assert data.condition_names == ("condition 1", "condition 2")
    assert data.effect_names == ("mismatch",) and data.info["sfreq"] == RATE / 2
    keyed = EvokedData.from_mne({"a": evokeds[0], "b": evokeds[1]})
    assert keyed.condition_names == ("a", "b")
    assert EvokedData.from_mne(evokeds[0]).n_conditions == 1


def test_pairs_of_types_and_the_noise_covariance():
    info = meg_info()
    evokeds = responses(info, scale=1e-13)
    with pytest.raises(ValueError, match=r"different units, \['grad', 'mag'\].*pick one type"):
        EvokedData.from_mne(evokeds)
    covariance = covariance_of(info)
    data = EvokedData.from_mne(evokeds, noise_cov=covariance)
    np.testing.assert_allclose(data.noise_cov, covariance.data)
    picked = EvokedData.from_mne(evokeds, noise_cov=covariance, picks="mag")
    assert set(picked.channel_types) == {"mag"} and picked.n_channels == 6
    np.testing.assert_allclose(picked.noise_cov, covariance.data[::2, ::2])
    np.testing.assert_array_equal(picked.signal[0], evokeds[0].data[::2].T)
    assert EvokedData.from_mne(evokeds, noise_cov=covariance, picks=["meg"]).n_channels == 12
    diagonal = mne.Covariance(np.ones(12), info["ch_names"], [], [], 100)
    np.testing.assert_array_equal(
        EvokedData.from_mne(evokeds, noise_cov=diagonal).noise_cov, np.eye(12)
    )
    with pytest.raises(ValueError, match=r"noise_cov lacks 6 channel\(s\), \['M1'"):
        EvokedData.from_mne(
            evokeds, noise_cov=covariance.copy().pick_channels(info["ch_names"][::2])
        )


def test_noise_of_electrodes_is_referenced_too():
    info = eeg_info()
    covariance = covariance_of(info)
    data = EvokedData.from_mne(responses(info), noise_cov=covariance, picks=info["ch_names"][:4])
    centring = np.eye(32) - 1 / 32
    wanted = (centring @ covariance.data @ centring)[:4, :4]
    np.testing.assert_allclose(data.noise_cov, wanted, rtol=1e-12)


def put_on_sphere(info, model):
    """MNE's forward solutions leave electrodes where they are, off the sphere."""
    for channel in info["chs"]:
        direction = channel["loc"][:3] - model["r0"]
        channel["loc"][:3] = model["r0"] + 0.095 * direction / np.linalg.norm(direction)


@pytest.mark.parametrize("montage", ["GSN-HydroCel-128", "biosemi128"])
def test_spheres_for_eeg(montage):
    info = eeg_info(montage)
    model = sphere(info)
    put_on_sphere(info, model)
    data = EvokedData.from_mne(responses(info), sphere=model)
    head = data.head
    assert isinstance(head, SphereHead) and head.average_reference and head.n_channels == 32
    places = [channel["loc"][:3] for channel in info["chs"]]
    np.testing.assert_allclose(head.sensors, places, atol=1e-12)
    np.testing.assert_allclose(head.centre, [0, 0.005, 0.01])
    np.testing.assert_allclose(head.radii, 0.095 * np.array([0.9, 0.92, 0.97, 1.0]))
    np.testing.assert_allclose(head.projection, np.eye(32) - 1 / 32, atol=1e-14)
    gain = eeg_sphere_lead_field(
        DIPOLES, head.sensors, head.radii, head.conductivities, head.centre, average_reference=True
    )
    grid = EvokedData.from_mne(responses(info), dipole_forward(info, model)).head
    assert isinstance(grid, GridHead) and grid.average_reference
    np.testing.assert_allclose(grid.positions, DIPOLES, atol=1e-9)
    ours = np.einsum("cs,psa->cpa", head.projection, gain)
    # MNE approximates the series by a few dipoles in a homogeneous sphere.
    error = np.linalg.norm(ours - grid.gain) / np.linalg.norm(grid.gain)
    assert error < 2e-3
    np.testing.assert_allclose(grid.gain.sum(axis=0), 0, atol=1e-9)


def test_spheres_for_meg_agree_with_forward_solutions():
    info = meg_info()
    model = quiet(mne.make_sphere_model, (0.0, 0.005, 0.01), None)
    covariance = covariance_of(info)
    evokeds = responses(info, scale=1e-13)
    with pytest.warns(UserWarning, match="Neither trans nor digitised fiducials"):
        head = EvokedData.from_mne(evokeds, noise_cov=covariance, sphere=model).head
    assert head.sensor_types == ("mag", "grad") * 6 and not head.average_reference
    assert head.projection is None
    gain = meg_sphere_lead_field(
        DIPOLES, head.coil_points, head.coil_normals, head.coil_weights, head.centre
    )
    with pytest.warns(UserWarning, match="Neither trans nor digitised fiducials"):
        grid = EvokedData.from_mne(evokeds, dipole_forward(info, model), covariance).head
    ours = np.moveaxis(np.asarray(gain), 0, 1)
    for kind in (0, 1):
        scale = np.abs(grid.gain[kind::2]).max()
        np.testing.assert_allclose(ours[kind::2], grid.gain[kind::2], rtol=0, atol=1e-6 * scale)


def surface_forward(info, model):
    """A forward solution on a sphere of vertices, as on a cortical surface."""
    i = np.arange(60) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / 60), np.pi * (1 + 5**0.5) * i
    normals = np.column_stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
    )
    space = {
        "type": "surf",
        "id": FIFF.FIFFV_MNE_SURF_LEFT_HEMI,
        "np": 60,
        "ntri": 0,
        "rr": 0.05 * normals + model["r0"],
        "nn": normals,
        "tris": ConvexHull(normals).simplices,
        "inuse": np.ones(60, int),
        "vertno": np.arange(60),
        "nuse": 60,
        "coord_frame": FIFF.FIFFV_COORD_HEAD,
        "use_tris": np.zeros((0, 3), int),
        "nuse_tri": 0,
        "nearest": None,
        "nearest_dist": None,
        "pinfo": None,
        "patch_inds": None,
        "dist": None,
        "dist_limit": None,
        "subject_his_id": None,
    }
    space["ntri"] = len(space["tris"])
    return quiet(mne.make_forward_solution, info, None, mne.SourceSpaces([space]), model)


def test_surfaces():
    info = eeg_info()
    forward = surface_forward(info, sphere(info))
    evokeds = responses(info)
    head = EvokedData.from_mne(evokeds, forward).head
    assert isinstance(head, SurfaceHead) and head.gain.shape == (32, 60)
    np.testing.assert_allclose(np.linalg.norm(head.normals, axis=1), 1, atol=1e-6)
    free = EvokedData.from_mne(evokeds, forward, orientation="free").head
    assert isinstance(free, GridHead) and free.gain.shape == (32, 60, 3)
    upright = np.einsum("cva,va->cv", free.gain, head.normals)
    np.testing.assert_allclose(upright, head.gain, rtol=0, atol=1e-6 * np.abs(head.gain).max())
    # A fixed forward solution that has lost its other orientations cannot be freed.
    fixed = quiet(mne.convert_forward_solution, forward, surf_ori=True, force_fixed=True)
    for key in ("_orig_sol", "_orig_source_ori"):
        fixed.pop(key)
    with pytest.raises(ValueError, match="forward cannot be converted to orientation 'free'"):
        EvokedData.from_mne(evokeds, fixed, orientation="free")


def test_projections_reach_the_lead_field():
    info = eeg_info()
    put_on_sphere(info, sphere(info))
    rng = np.random.default_rng(3)
    vector = rng.normal(size=32)
    vector /= np.linalg.norm(vector)
    content = {
        "nrow": 1,
        "ncol": 32,
        "row_names": None,
        "col_names": info["ch_names"],
        "data": vector[None],
    }
    projection = mne.Projection(active=False, data=content, desc="blink", kind=1)
    evokeds = [evoked.add_proj(projection, verbose=False) for evoked in responses(info)]
    data = EvokedData.from_mne(evokeds, sphere=sphere(info), picks=info["ch_names"][:30])
    # As MNE does it, with the average reference as one more projection.
    referenced = [evoked.copy().set_eeg_reference(projection=True) for evoked in evokeds]
    operator, _, _ = mne.proj.make_projector(referenced[0].info["projs"], info["ch_names"])
    np.testing.assert_allclose(data.head.projection, operator[:30], atol=1e-12)
    wanted = [evoked.apply_proj(verbose=False).data[:30].T for evoked in referenced]
    np.testing.assert_allclose(data.signal, wanted, rtol=0, atol=1e-18)
    # Nothing is left of the reference, whatever it was, and lead fields are the same by both ways.
    other = [evoked.copy() for evoked in evokeds]
    for evoked in other:
        evoked.data -= evoked.data[5].copy()
    again = EvokedData.from_mne(other, dipole_forward(info, sphere(info)))
    whole = EvokedData.from_mne(evokeds, dipole_forward(info, sphere(info)))
    np.testing.assert_allclose(again.signal, whole.signal, rtol=0, atol=1e-18)
    gain = eeg_sphere_lead_field(
        DIPOLES, data.head.sensors, data.head.radii, data.head.conductivities, data.head.centre
    )
    ours = np.einsum("cs,psa->cpa", data.head.projection, gain)
    assert np.linalg.norm(ours - whole.head.gain[:30]) < 2e-3 * np.linalg.norm(ours)


def test_mni_coordinates_by_fiducials_and_transforms():
    info = eeg_info()
    evokeds = responses(info)
    head = EvokedData.from_mne(evokeds, sphere=sphere(info)).head
    # The auditory cortex is left, and above the ears.
    left, right = head.to_head([[-42, -22, 7], [46, -14, 8]])
    assert left[0] < -0.03 and right[0] > 0.03 and 0.03 < left[2] < 0.07
    scale = np.cbrt(np.linalg.det(head.mni_to_head[:3, :3]))
    assert 0.8e-3 < scale < 1.2e-3
    matrix = np.eye(4)
    matrix[:3, 3] = [0.001, 0.02, 0.04]
    for start, end, inverse in (("mri", "head", False), ("head", "mri", True)):
        given = np.linalg.inv(matrix) if inverse else matrix
        head = EvokedData.from_mne(
            evokeds,
            sphere=sphere(info),
            trans=mne.Transform(start, end, given),
            subject="fsaverage",
        ).head
        np.testing.assert_allclose(head.to_head([[10, 20, 30]]), [[0.011, 0.04, 0.07]])
    with pytest.raises(ValueError, match="trans came without subject"):
        EvokedData.from_mne(evokeds, sphere=sphere(info), trans=mne.Transform("mri", "head"))
    with pytest.raises(ValueError, match="trans goes from"):
        EvokedData.from_mne(
            evokeds, sphere=sphere(info), trans=mne.Transform("meg", "head"), subject="fsaverage"
        )
    with pytest.raises(TypeError, match="trans must be"):
        EvokedData.from_mne(evokeds, sphere=sphere(info), trans=3, subject="fsaverage")
    with pytest.raises(ValueError, match="subject is 'nobody', but its registration"):
        EvokedData.from_mne(
            evokeds,
            sphere=sphere(info),
            trans=mne.Transform("mri", "head"),
            subject="nobody",
            subjects_dir="nowhere",
        )


def test_similarity_recovers_rotation_scale_and_shift():
    rng = np.random.default_rng(0)
    rotation = mne.transforms.rotation(0.3, -0.2, 0.5)[:3, :3]
    source = rng.normal(size=(3, 3))
    matrix = similarity(source, 1.2 * source @ rotation.T + [1, 2, 3])
    np.testing.assert_allclose(matrix[:3, :3], 1.2 * rotation, atol=1e-12)
    np.testing.assert_allclose(matrix[:3, 3], [1, 2, 3], atol=1e-12)


def test_auto_spheres_need_digitised_points():
    info = eeg_info()
    head = EvokedData.from_mne(responses(info), sphere="auto").head
    assert 0.08 < head.radii[-1] < 0.11
    bare = mne.create_info(info["ch_names"], RATE, "eeg")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="sphere is 'auto', but no"):
        EvokedData.from_mne(responses(bare), sphere="auto")
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="no position for the electrode"),
    ):
        EvokedData.from_mne(responses(bare), sphere=sphere(bare))


def bipolar(evokeds, **options):
    a, b = evokeds[0].ch_names[:2]
    return [mne.set_bipolar_reference(e, a, b, **options, verbose=False) for e in evokeds]


@pytest.mark.parametrize(
    ("options", "named"), [({"drop_refs": False}, {}), ({}, {}), ({}, {"picks": ["Cz"]})]
)
def test_bipolar_derivations_are_refused(options, named):
    evokeds = bipolar(responses(eeg_info("biosemi32")), **options)
    named = named and {"picks": [evokeds[0].ch_names[3]]}
    with pytest.raises(ValueError, match=r"evokeds has 1 bipolar derivation\(s\), \['Fp1-AF3'\]"):
        EvokedData.from_mne(evokeds, **named)
    kept = [evoked.copy().drop_channels(["Fp1-AF3"]) for evoked in evokeds]
    assert "Fp1-AF3" not in EvokedData.from_mne(kept, **named).channel_names
    for evoked in evokeds:
        evoked.info["bads"] = ["Fp1-AF3"]
    assert "Fp1-AF3" not in EvokedData.from_mne(evokeds, **named).channel_names


def test_bipolar_derivations_are_refused_in_forward_solutions():
    info = eeg_info()
    forward = dipole_forward(info, sphere(info))
    forward["info"]["chs"][2]["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR
    with pytest.raises(ValueError, match=r"forward has 1 bipolar derivation\(s\), \['E9'\]"):
        EvokedData.from_mne(responses(info), forward)
    # Derivations between contacts in the brain are what some sources are recorded by.
    inside = mne.create_info(["A1-A2", "A2-A3"], RATE, "seeg")
    for channel in inside["chs"]:
        channel["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR
    assert EvokedData.from_mne(responses(inside)).channel_types == ("seeg", "seeg")


def test_standard_errors_are_refused():
    info = eeg_info()
    trials = mne.EpochsArray(1e-6 * np.random.default_rng(0).normal(size=(5, 32, 40)), info)
    pair = [trials.average(), trials.standard_error()]
    with pytest.raises(ValueError, match=r"no average at position 1.*kind 'standard_error'"):
        EvokedData.from_mne(pair)
    with pytest.raises(TypeError, match=r"evokeds must be an mne.Evoked.*Average epochs first"):
        EvokedData.from_mne(trials)
    with pytest.raises(TypeError, match="Power has no phase"):
        power = np.ones((32, 2, 40))
        EvokedData.from_mne(
            mne.time_frequency.AverageTFRArray(
                info=info, data=power, times=trials.times, freqs=[8, 9]
            )
        )


def test_current_source_density_is_refused():
    evokeds = responses(eeg_info())
    density = [mne.preprocessing.compute_current_source_density(e) for e in evokeds]
    for named in ({}, {"picks": "eeg"}, {"picks": ["csd"]}):
        with pytest.raises(ValueError, match=r"has 32 channel\(s\) of current source density"):
            EvokedData.from_mne(density, **named)
    with evokeds[1].info._unlock():
        evokeds[1].info["custom_ref_applied"] = FIFF.FIFFV_MNE_CUSTOM_REF_CSD
    with pytest.raises(ValueError, match="reference is marked as current source density"):
        EvokedData.from_mne(evokeds)
    density = quiet(mne.preprocessing.compute_current_source_density, responses(eeg_info())[0])
    density.rename_channels(lambda name: f"{name} csd", verbose=False)
    beside = responses(meg_info())[0].add_channels([density], force_update_info=True)
    assert set(EvokedData.from_mne(beside, picks="mag").channel_types) == {"mag"}


def test_differences_and_names_of_derivations_are_told():
    evokeds = responses(eeg_info(), names=("tone", "oddball"))
    difference = mne.combine_evoked(evokeds, [1, -1])
    with pytest.warns(UserWarning, match=r"\['tone - oddball'\] by their comments: differences"):
        EvokedData.from_mne([evokeds[0], difference])
    mixture = mne.combine_evoked(evokeds, "equal")
    assert EvokedData.from_mne(mixture).condition_names == ("0.500 × tone + 0.500 × oddball",)
    montage = mne.create_info(["EEG Fp1-F7", "EEG F7-T3", "EEG T3-T5"], RATE, "eeg")
    with pytest.warns(UserWarning, match="names of bipolar derivations"):
        EvokedData.from_mne(responses(montage))
    # One reference for all is no derivation.
    EvokedData.from_mne(responses(mne.create_info(["Fp1-A2", "F7-A2"], RATE, "eeg")))


def test_whitened_and_rescaled_responses_are_told():
    info = eeg_info()
    evokeds = responses(info)
    white = [mne.whiten_evoked(e, mne.make_ad_hoc_cov(info, verbose=False)) for e in evokeds]
    with pytest.warns(UserWarning, match=r"signals up to .* V in channels of type 'eeg'"):
        EvokedData.from_mne(white)


def moved(info, metres):
    info = info.copy()
    with info._unlock():
        matrix = np.array(info["dev_head_t"]["trans"])
        matrix[0, 3] += metres
        info["dev_head_t"] = mne.Transform("meg", "head", matrix)
    return info


def test_conditions_have_one_lead_field():
    info = meg_info()
    first, second = responses(info, scale=1e-13)
    other = mne.EvokedArray(second.data, moved(info, 0.012), -0.1, comment="deviant")
    with pytest.raises(ValueError, match=r"position of the head in the MEG .*12.0 mm and 0.0 degr"):
        EvokedData.from_mne([first, other], picks="mag")
    separated = second.copy()
    with separated.info._unlock():
        separated.info["proc_history"] = [{"max_info": {"sss_info": {"in_order": 8}}}]
    with pytest.raises(ValueError, match="differ in signal-space separation at position 1"):
        EvokedData.from_mne([first, separated], picks="mag")
    compensated = second.copy()
    compensated.info["chs"][0]["coil_type"] += 3 << 16
    with pytest.raises(ValueError, match=r"differ in the types of channels .*'M0 \(coil types"):
        EvokedData.from_mne([first, compensated], picks="mag")
    with pytest.raises(ValueError, match=r"gradient compensation, grades \[0, 3\]"):
        EvokedData.from_mne(compensated, picks="mag")
    eeg = responses(eeg_info())
    eeg[1].info["chs"][4]["loc"][0] += 0.02
    with pytest.raises(ValueError, match=r"positions of electrodes at position 1, E17 by 20 mm"):
        EvokedData.from_mne(eeg)
    eeg = responses(eeg_info())
    eeg[1].set_channel_types({eeg[1].ch_names[0]: "ecog"}, verbose="error")
    with pytest.raises(ValueError, match=r"types of channels at position 1: \['E1? .*eeg, ecog"):
        EvokedData.from_mne(eeg)
    eeg = responses(eeg_info())
    with eeg[1].info._unlock():
        eeg[1].info["lowpass"] = 20.0
    with pytest.warns(UserWarning, match=r"filtered differently at position 1: 0 to 20 Hz"):
        EvokedData.from_mne(eeg)


def projection(names, vector, desc):
    content = {"nrow": 1, "ncol": len(names), "row_names": None, "col_names": names,
               "data": vector[None] / np.linalg.norm(vector)}  # fmt: skip
    return mne.Projection(active=False, data=content, desc=desc, kind=1)


def test_projections_of_some_conditions_are_applied_to_all():
    info = eeg_info()
    rng = np.random.default_rng(4)
    one, two = (
        projection(info["ch_names"], rng.normal(size=32), desc) for desc in ("blink", "pulse")
    )
    evokeds = responses(info)
    both = [evoked.copy().add_proj([one, two], verbose=False) for evoked in evokeds]
    wanted = EvokedData.from_mne(both, sphere=sphere(info))
    apart = [
        evoked.copy().add_proj(each, verbose=False).apply_proj(verbose=False)
        for evoked, each in zip(evokeds, (one, two), strict=True)
    ]
    with pytest.warns(UserWarning, match=r"projections: \['blink', 'pulse'\] are of some only"):
        found = EvokedData.from_mne(apart, sphere=sphere(info))
    np.testing.assert_allclose(found.signal, wanted.signal, rtol=0, atol=1e-18)
    np.testing.assert_allclose(found.head.projection, wanted.head.projection, atol=1e-12)
    # A channel that is bad once signals have been projected had a part in them.
    for evoked in both:
        evoked.info["bads"] = [evoked.ch_names[0]]
    late = [evoked.copy().apply_proj(verbose=False) for evoked in apart]
    for evoked in late:
        evoked.info["bads"] = [evoked.ch_names[0]]
    with pytest.warns(UserWarning, match="of some only"):
        late = EvokedData.from_mne(late)
    np.testing.assert_allclose(late.signal, EvokedData.from_mne(both).signal, rtol=0, atol=1e-18)


def test_sensors_of_another_forward_solution():
    info = meg_info()
    model = quiet(mne.make_sphere_model, (0.0, 0.005, 0.01), None)
    evokeds = responses(info, scale=1e-13)
    forward = dipole_forward(moved(info, 0.007), model)
    with pytest.warns(UserWarning, match=r"other positions of the head in the MEG \(7.0 mm and"):
        EvokedData.from_mne(evokeds, forward, picks="mag")
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match=r"has 6 MEG sensor\(s\) inside"),
    ):
        EvokedData.from_mne(
            evokeds, sphere=quiet(mne.make_sphere_model, head_radius=0.2), picks="mag"
        )
    for channel in forward["info"]["chs"]:
        channel["coil_type"] += 1 << 16
    with pytest.raises(ValueError, match="compensation of grade 1, but evokeds of grade 0"):
        EvokedData.from_mne(evokeds, forward, picks="mag")
    bare = mne.create_info(["M0", "M1"], RATE, "mag")
    with bare._unlock():
        bare["dev_head_t"] = mne.Transform("meg", "head", np.eye(4))
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="for the MEG sensor M0"):
        EvokedData.from_mne(responses(bare, scale=1e-13), sphere=model)
    info = eeg_info()
    other = info.copy()
    other["chs"][3]["loc"][2] += 0.01
    with pytest.warns(UserWarning, match=r"other positions of electrodes \(\w+ by 10 mm\)"):
        EvokedData.from_mne(responses(info), dipole_forward(other, sphere(info)))


def test_one_electrode_has_no_reference():
    info = eeg_info()
    one = [evoked.pick(info["ch_names"][:1]) for evoked in responses(info)]
    with pytest.raises(ValueError, match="evokeds has one good electrode only"):
        EvokedData.from_mne(one, sphere=sphere(info))
    assert EvokedData.from_mne(one).n_channels == 1


def test_bad_channels_of_a_noise_covariance():
    info = eeg_info()
    covariance = covariance_of(info)
    covariance["bads"] = [info["ch_names"][2]]
    evokeds = responses(info)
    with pytest.raises(ValueError, match=r"noise_cov has 1 bad channel\(s\) that are good"):
        EvokedData.from_mne(evokeds, noise_cov=covariance)
    evokeds[0].info["bads"] = covariance["bads"]
    assert EvokedData.from_mne(evokeds, noise_cov=covariance).n_channels == 31


def a_bipolar(evokeds, k, c):
    del c
    for evoked in evokeds:
        evoked.info["chs"][k]["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR
    return "bipolar"


def a_bipolar_in_one(evokeds, k, c):
    evokeds[c].info["chs"][k]["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR
    return "types of channels"


def another_kind(evokeds, k, c):
    del k
    evokeds[c].kind = ("standard_error", "alternating_subaverage", "power_density_spectrum")[c]
    return "no average"


def another_type(evokeds, k, c):
    evokeds[c].set_channel_types(
        {evokeds[c].ch_names[k]: ("ecog", "misc", "eog")[c]}, verbose="error"
    )
    return "types of channels"


def another_place(evokeds, k, c):
    evokeds[c].info["chs"][k]["loc"][k % 3] += 0.03
    return "positions of electrodes"


def another_name(evokeds, k, c):
    evokeds[c].rename_channels({evokeds[c].ch_names[k]: "other"}, verbose=False)
    return "differ in their channels"


def another_reference(evokeds, k, c):
    del k
    with evokeds[c].info._unlock():
        evokeds[c].info["custom_ref_applied"] = FIFF.FIFFV_MNE_CUSTOM_REF_CSD
    return "current source density"


def no_number(evokeds, k, c):
    evokeds[c].data[k, c] = np.nan
    return "signal"


INFO = eeg_info(n=8)
FAULTS = [a_bipolar, a_bipolar_in_one, another_kind, another_type, another_place, another_name,
          another_reference, no_number]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FAULTS), st.integers(0, 7), st.integers(0, 2), st.booleans())
def test_no_fault_of_a_response_passes(fault, channel, condition, marked):
    evokeds = responses(INFO, n_times=12, names=("a", "b", "c"))
    text = fault(evokeds, channel, condition)
    with pytest.raises(ValueError, match=text):
        EvokedData.from_mne(evokeds)
    if marked and fault in (a_bipolar, a_bipolar_in_one, another_type, another_place):
        # What is wrong with a bad channel does not matter.
        for evoked in evokeds:
            evoked.info["bads"] = [INFO["ch_names"][channel]]
        assert EvokedData.from_mne(evokeds).n_channels == 7


def faults():
    info = eeg_info()
    evokeds = responses(info)
    model = sphere(info)
    other = mne.EvokedArray(evokeds[0].data[:, :-1], info, -0.1)
    return [
        (([],), {}, "evokeds is empty"),
        (("file-ave.fif",), {}, "evokeds must be an mne.Evoked"),
        (([evokeds[0], 3],), {}, "got int 3 at position 1"),
        (([evokeds[0], other],), {}, "evokeds differ in their times at position 1"),
        (([evokeds[0], evokeds[1].copy().drop_channels(info["ch_names"][:1])],), {}, "channels at"),
        (([evokeds[0], evokeds[0]],), {}, r"condition_names repeats \['standard'\]"),
        ((evokeds,), {"picks": "mag"}, r"picks has 'mag'; expected types among \['eeg'\]"),
        ((evokeds,), {"picks": 3}, "picks must be a type"),
        ((evokeds,), {"picks": []}, "picks is empty"),
        ((evokeds, 3), {}, "forward must be an mne.Forward"),
        ((evokeds,), {"noise_cov": np.eye(3)}, "noise_cov must be an mne.Covariance"),
        ((evokeds,), {"sphere": 3}, "sphere must be 'auto'"),
        ((evokeds,), {"orientation": "free"}, "orientation is 'free', but there is no forward"),
        ((evokeds, 3), {"sphere": model}, "forward and sphere both came"),
        ((evokeds,), {"tmin": 5.0}, "tmin is 5 s"),
        ((evokeds,), {"decimate": 0}, "decimate is 0"),
        (
            (evokeds,),
            {"sphere": quiet(mne.make_sphere_model, head_radius=None)},
            "sphere has no shells",
        ),
    ]


@pytest.mark.parametrize(("arguments", "named", "text"), faults())
def test_faults_are_named(arguments, named, text):
    with pytest.raises((ValueError, TypeError), match=text):
        EvokedData.from_mne(*arguments, **named)


def test_faults_of_forward_solutions_are_named():
    info = eeg_info()
    evokeds = responses(info)
    forward = dipole_forward(info, sphere(info))
    with pytest.raises(ValueError, match="orientation is 'fixed', but forward has a volume"):
        EvokedData.from_mne(evokeds, forward, orientation="fixed")
    with pytest.raises(ValueError, match="orientation is 'loose'; expected"):
        EvokedData.from_mne(evokeds, forward, orientation="loose")
    fewer = forward.copy().pick_channels(info["ch_names"][:8])
    with pytest.raises(ValueError, match=r"forward lacks 24 channel\(s\)"):
        EvokedData.from_mne(evokeds, fewer)
    misc = mne.EvokedArray(np.ones((2, 9)), mne.create_info(2, RATE, "misc"))
    with pytest.raises(ValueError, match="evokeds has no good channels"):
        EvokedData.from_mne(misc)
