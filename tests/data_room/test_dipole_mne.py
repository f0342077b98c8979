"""DipoleData from MNE-Python: against MNE called by hand, sign, unit, noise, bad input."""

import re
import warnings

import mne
import numpy as np
import pytest
from mne.io.constants import FIFF
from mne.minimum_norm import apply_inverse, make_inverse_operator
from scipy.spatial import ConvexHull

from bayesdcm.data import DipoleData

RATE = 500.0
N_VERTICES = 80
MODES = ["mean", "mean_flip", "pca_flip", "max"]
NOISE = {"eeg": 3e-6, "mag": 2e-13}
N_AVERAGES = 40


def quiet(function, *arguments, **named):
    return function(*arguments, **named, verbose="error")


def on_sphere(n):
    i = np.arange(n) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
    return np.column_stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
    )


def surfaces(normals=None):
    """Two hemispheres, spheres unless their normals are given."""
    places = on_sphere(N_VERTICES)
    spaces = []
    for side, name in ((-1, "LEFT"), (1, "RIGHT")):
        unknown = ("nearest", "nearest_dist", "pinfo", "patch_inds", "dist", "dist_limit")
        spaces.append(
            dict.fromkeys((*unknown, "subject_his_id"))
            | {
                "type": "surf",
                "id": getattr(FIFF, f"FIFFV_MNE_SURF_{name}_HEMI"),
                "np": N_VERTICES,
                "rr": 0.03 * places + np.array([0.035 * side, 0, 0.04]),
                "nn": places if normals is None else normals,
                "tris": ConvexHull(places).simplices,
                "ntri": len(ConvexHull(places).simplices),
                "inuse": np.ones(N_VERTICES, int),
                "vertno": np.arange(N_VERTICES),
                "nuse": N_VERTICES,
                "coord_frame": FIFF.FIFFV_COORD_HEAD,
                "use_tris": np.zeros((0, 3), int),
                "nuse_tri": 0,
            }
        )
    return mne.SourceSpaces(spaces)


@pytest.fixture(scope="module")
def recording():
    """Forward solution, covariance and inverse operators of magnetometers and electrodes."""
    directions = on_sphere(120)[:70]
    names = [f"MEG {i}" for i in range(45)] + [f"EEG {i}" for i in range(25)]
    info = mne.create_info(names, RATE, ["mag"] * 45 + ["eeg"] * 25)
    for i, channel in enumerate(info["chs"]):
        z = directions[(i * 29) % 70]
        if i < 45:
            x = np.cross([0.3, 0.5, -0.8], z)
            x /= np.linalg.norm(x)
            centre = 0.125 * z + [0, 0, 0.04]
            channel["loc"][:] = np.concatenate([centre, x, np.cross(z, x), z])
            channel["coil_type"] = FIFF.FIFFV_COIL_VV_MAG_T3
        else:
            channel["loc"][:3] = 0.1 * z + [0, 0, 0.04]
            channel["loc"][3:6] = 0
    with info._unlock():
        info["dev_head_t"] = mne.Transform("meg", "head", np.eye(4))
    sphere = quiet(mne.make_sphere_model, (0.0, 0.0, 0.04), 0.1, info=None)
    forward = quiet(mne.make_forward_solution, info, None, surfaces(), sphere, mindist=0.0)
    sd = np.array([NOISE[kind] for kind in info.get_channel_types()])
    rng = np.random.default_rng(3)
    mixing = np.eye(70) + 0.1 * rng.normal(size=(70, 70))
    covariance = mne.Covariance(
        (sd[:, None] * mixing) @ (sd[:, None] * mixing).T, names, [], [], 1000
    )
    reference = mne.EvokedArray(np.zeros((70, 2)), info, verbose="error")
    quiet(reference.set_eeg_reference, projection=True)
    info = reference.info
    inverses = {
        name: quiet(make_inverse_operator, info, forward, covariance, **options)
        for name, options in {
            "loose": {"loose": 0.2},
            "fixed": {"loose": 0.0},
            "free": {"loose": 1.0},
        }.items()
    }
    return info, forward, covariance, inverses


def label_round(vertex=5, n=6, hemi="lh"):
    places = on_sphere(N_VERTICES)
    vertices = np.argsort(-(places @ places[vertex]))[:n]
    return mne.Label(np.sort(vertices), hemi=hemi, name="S1-lh")


def wave(n_times=101):
    times = np.arange(n_times) / RATE - 0.05
    return times, 40e-9 * np.exp(-((times - 0.05) ** 2) / 2 / 0.015**2)


def evoked_of(recording, moments, noise=None):
    """What sensors record of moments of vertices along their normals, (vertices, times) in A m."""
    info, forward, covariance, _ = recording
    normal = mne.convert_forward_solution(
        forward, surf_ori=True, force_fixed=True, use_cps=False, verbose="error"
    )
    data = normal["sol"]["data"] @ moments
    if noise is not None:
        root = np.linalg.cholesky(covariance.data)
        data = data + root @ noise.normal(size=data.shape) / np.sqrt(N_AVERAGES)
    evoked = mne.EvokedArray(data, info, tmin=-0.05, nave=N_AVERAGES, comment="left")
    return evoked


def moments_in(label, sign=1):
    moments = np.zeros((2 * N_VERTICES, 101))
    moments[label.vertices] = sign * wave()[1] / len(label.vertices)
    return moments


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", ["loose", "fixed", "free"])
@pytest.mark.filterwarnings("ignore:mode is 'max'")
def test_the_pipeline_is_that_of_mne_called_by_hand(recording, mode, orientation):
    inverse, label = recording[3][orientation], label_round()
    evoked = evoked_of(recording, moments_in(label), np.random.default_rng(0))
    pick_ori = None if orientation == "fixed" else "normal"
    stc = quiet(apply_inverse, evoked, inverse, 1 / 4, "MNE", pick_ori)
    course = quiet(mne.extract_label_time_course, stc, label, inverse["src"], mode)[0]
    one = DipoleData.from_source_estimate(stc, label, inverse["src"], mode)
    two = DipoleData.from_evoked(evoked, inverse, label, lambda2=1 / 4, mode=mode)
    for data in (one, two):
        np.testing.assert_allclose(data.dipole, course, rtol=1e-9, atol=1e-9 * course.max())
        np.testing.assert_allclose(data.times, evoked.times, atol=1e-12)
    assert (one.name, two.name, two.n_averages) == ("S1-lh", "left, S1-lh", N_AVERAGES)
    assert (two.noise_sd is None) == (mode == "max") and one.noise_sd is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("mode", ["mean", "mean_flip", "pca_flip"])
def test_current_out_of_cortex_is_positive_and_in_ampere_metres(recording, mode, sign):
    # As the estimate itself: exact.
    label, src = label_round(), recording[3]["loose"]["src"]
    moments = moments_in(label, sign) * len(label.vertices)
    hemispheres = [np.arange(N_VERTICES)] * 2
    stc = mne.SourceEstimate(moments, hemispheres, tmin=-0.05, tstep=1 / RATE)
    data = DipoleData.from_source_estimate(stc, label, src, mode)
    np.testing.assert_allclose(data.dipole, sign * wave()[1], rtol=1e-9, atol=1e-20)
    # Through sensors: its sign and course, weaker, since estimates spread.
    for name in ("loose", "fixed"):
        data = DipoleData.from_evoked(
            evoked_of(recording, moments), recording[3][name], label, mode=mode
        )
        gain = data.dipole @ wave()[1] / (wave()[1] @ wave()[1])
        assert 0.1 < sign * gain < 1.5
        np.testing.assert_allclose(data.dipole, gain * wave()[1], atol=1e-3 * 40e-9)
        assert "outward normals" in data.orientation


@pytest.mark.parametrize("mode", ["mean", "mean_flip", "pca_flip"])
@pytest.mark.parametrize("orientation", ["loose", "fixed"])
def test_the_noise_is_that_of_repeated_recordings(recording, mode, orientation):
    inverse, label = recording[3][orientation], label_round()
    rng = np.random.default_rng(1)
    repeats = [
        DipoleData.from_evoked(
            evoked_of(recording, moments_in(label), rng), inverse, label, mode=mode
        )
        for _ in range(25)
    ]
    sd = np.sqrt(np.var([data.dipole for data in repeats], axis=0, ddof=1).mean())
    said = np.sqrt(np.mean([data.noise_sd**2 for data in repeats]))
    assert said == pytest.approx(sd, rel=0.06)


@pytest.mark.parametrize(
    ("method", "mode", "n_vertices"),
    # eLORETA is slow to prepare. Of many vertices of a sphere, some are turned round.
    [("eLORETA", "pca_flip", 6), ("MNE", "mean_flip", 60), ("MNE", "pca_flip", 60)],
)
@pytest.mark.filterwarnings("ignore:label", "ignore:the course of label")
def test_the_noise_is_that_of_a_long_recording(recording, method, mode, n_vertices):
    label = label_round(n=n_vertices)
    moments = np.pad(moments_in(label), [(0, 0), (0, 3000)])
    evoked = evoked_of(recording, moments, np.random.default_rng(1))
    data = DipoleData.from_evoked(evoked, recording[3]["fixed"], label, method=method, mode=mode)
    assert data.noise_sd == pytest.approx(data.dipole[101:].std(), rel=0.05)
    assert ("(0 of" in data.orientation) == (n_vertices == 6)


def test_the_covariance_may_be_given(recording):
    _, _, covariance, inverses = recording
    label = label_round()
    evoked = evoked_of(recording, moments_in(label), np.random.default_rng(0))
    first = DipoleData.from_evoked(evoked, inverses["loose"], label, mode="mean")
    given = DipoleData.from_evoked(
        evoked, inverses["loose"], label, mode="mean", noise_cov=covariance
    )
    assert given.noise_sd == pytest.approx(first.noise_sd, rel=1e-6)
    four = mne.Covariance(4 * covariance.data, covariance.ch_names, [], [], 100)
    given = DipoleData.from_evoked(evoked, inverses["loose"], label, mode="mean", noise_cov=four)
    assert given.noise_sd == pytest.approx(2 * first.noise_sd, rel=1e-6)
    diagonal = mne.Covariance(np.diag(covariance.data), covariance.ch_names, [], [], 100)
    full = mne.Covariance(np.diag(np.diag(covariance.data)), covariance.ch_names, [], [], 100)
    one, two = (
        DipoleData.from_evoked(evoked, inverses["loose"], label, mode="mean", noise_cov=each)
        for each in (diagonal, full)
    )
    assert one.noise_sd == pytest.approx(two.noise_sd, rel=1e-9)
    lacking = mne.Covariance(np.eye(3), covariance.ch_names[:3], [], [], 100)
    with pytest.raises(ValueError, match=r"noise_cov lacks 67 channel\(s\) of the inverse"):
        DipoleData.from_evoked(evoked, inverses["loose"], label, noise_cov=lacking)


def estimate(currents, tmin=-0.05):
    stc = np.zeros((2 * N_VERTICES, currents.shape[1]))
    stc[: len(currents)] = currents
    return mne.SourceEstimate(stc, [np.arange(N_VERTICES)] * 2, tmin=tmin, tstep=1 / RATE)


def test_a_named_component_fixes_the_sign(recording):
    label, src = label_round(), recording[3]["loose"]["src"]
    stc = estimate(moments_in(label))
    plain = DipoleData.from_source_estimate(stc, label, src)
    for sign in (1, -1):
        named = DipoleData.from_source_estimate(stc, label, src, positive=(0.05, sign))
        np.testing.assert_array_equal(named.dipole, sign * plain.dipole)
        word = {1: "positive", -1: "negative"}[sign]
        assert named.orientation == f"the component at 0.05 s is {word}, as named by the user"


@pytest.mark.parametrize(
    ("positive", "message"),
    [
        ("outward", "positive is 'outward'; expected 'normals'"),
        (None, "positive is None; expected 'normals'"),
        ((0.05, 2), "has the sign 2 in"),
        ((50, 1), "has the time 50 s, but the response runs from -0.05 to 0.15 s"),
        ((-0.05, 1), "names a component at -0.05 s, but the moment is .* too little"),
    ],
)
def test_components_that_fix_nothing_are_refused(recording, positive, message):
    label, src = label_round(), recording[3]["loose"]["src"]
    with pytest.raises(ValueError, match=message):
        DipoleData.from_source_estimate(estimate(moments_in(label)), label, src, positive=positive)


def walls(n_turned):
    """Source space of a sulcus: some of six vertices on the wall across."""
    normals = on_sphere(N_VERTICES)
    normals[:6] = [1.0, 0.0, 0.1]
    normals[:n_turned] = [-1.0, 0.0, 0.1]
    return surfaces(normals / np.linalg.norm(normals, axis=1)[:, None])


@pytest.mark.parametrize("mode", ["mean_flip", "pca_flip"])
def test_a_sign_that_means_little_is_said_to(mode):
    label = mne.Label(np.arange(6), hemi="lh", name="sulcus-lh")
    strengths = np.array([1, 1, -1, -1, -1, -1.0])
    # Current along one direction in space, strongest on the wall of most vertices.
    currents = np.outer(-strengths, wave()[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = DipoleData.from_source_estimate(estimate(currents), label, walls(2), mode)
    assert data.dipole.max() == pytest.approx(40e-9) and "(2 of 6 vertices" in data.orientation
    # The other wall is active: outward current there makes the course negative.
    currents = np.outer([9, 9, -1, -1, -1, -1.0], wave()[1])
    with pytest.warns(UserWarning, match="carried mostly by vertices at which current along"):
        data = DipoleData.from_source_estimate(estimate(currents), label, walls(2), mode)
    assert data.dipole.min() < -40e-9
    with pytest.warns(UserWarning, match="'sulcus-lh' has normals that point as much one way"):
        DipoleData.from_source_estimate(
            estimate(np.outer(np.ones(6) + strengths / 2, wave()[1])), label, walls(3), mode
        )


def test_magnitudes_have_no_sign(recording):
    label, src = label_round(), recording[3]["loose"]["src"]
    with pytest.warns(UserWarning, match="mode is 'max'.*no sign, is not linear"):
        data = DipoleData.from_source_estimate(estimate(moments_in(label, -1)), label, src, "max")
    assert data.dipole.max() > 0 and data.orientation.startswith("none: the largest magnitude")


def test_other_estimates_are_refused(recording):
    label, src = label_round(), recording[3]["loose"]["src"]
    stc = estimate(moments_in(label))
    hemispheres = [np.arange(N_VERTICES)] * 2
    vector = mne.VectorSourceEstimate(np.ones((160, 3, 5)), hemispheres, 0, 0.1)
    volume = mne.VolSourceEstimate(np.ones((3, 5)), [np.arange(3)], 0, 0.1)
    for other, message in (
        (vector, r"got VectorSourceEstimate\. .*stc\.project\('normal', src\)"),
        (volume, "got VolSourceEstimate. A volume has no normals"),
        ([stc], "one response at a time"),
        (mne.SourceEstimate(1j * stc.data, hemispheres, 0, 0.1), "complex numbers"),
    ):
        with pytest.raises(TypeError, match=message):
            DipoleData.from_source_estimate(other, label, src)
    for changed, message in (
        (abs(stc) + 1e-9, "positive at all vertices and times, so it holds magnitudes"),
        (stc * 1e9, "stc has values up to 6.67 A m .*dSPM and sLORETA are statistics"),
        (stc * np.nan, "stc has 606 entries that are NaN"),
        (stc * 0, "stc is zero in label 'S1-lh'"),
    ):
        with pytest.raises(ValueError, match=message):
            DipoleData.from_source_estimate(changed, label, src)


def test_other_labels_spaces_and_modes_are_refused(recording):
    label, src = label_round(), recording[3]["loose"]["src"]
    stc = estimate(moments_in(label))
    with pytest.raises(ValueError, match="'far-lh' has 2 vertices, none of them among the 160"):
        far = mne.Label([900, 901], hemi="lh", name="far-lh")
        DipoleData.from_source_estimate(stc, far, src)
    with pytest.raises(TypeError, match="label must be one mne.Label, got str 'S1'"):
        DipoleData.from_source_estimate(stc, "S1", src)
    with pytest.raises(TypeError, match="src must be mne.SourceSpaces, got NoneType None"):
        DipoleData.from_source_estimate(stc, label, None)
    with pytest.raises(ValueError, match=r"types \['surf'\]; expected the surfaces of the two"):
        DipoleData.from_source_estimate(stc, label, src[:1])
    with pytest.raises(ValueError, match="mode is None .*a course for each vertex"):
        DipoleData.from_source_estimate(stc, label, src, None)
    with pytest.raises(ValueError, match="mode is 'pca' .it is none"):
        DipoleData.from_source_estimate(stc, label, src, "pca")
    both = label + mne.Label(label.vertices, hemi="rh", name="S1-rh")
    data = DipoleData.from_source_estimate(stc, both, src, "mean", name="both")
    np.testing.assert_allclose(data.dipole, wave()[1] / 12, rtol=1e-9)
    assert data.name == "both"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "dSPM"}, "method is 'dSPM'; expected 'MNE'.*statistic without a unit"),
        ({"method": "sLORETA"}, "method is 'sLORETA'"),
        ({"pick_ori": None}, "pick_ori is None with an inverse operator of free or loose"),
        ({"pick_ori": "vector"}, "pick_ori is 'vector'.*no sign along the normals"),
        ({"lambda2": -1}, "lambda2 must be one number above 0, got -1"),
        ({"lambda2": "auto"}, "lambda2 must be one number above 0, got 'auto'"),
    ],
)
def test_options_without_a_current_are_refused(recording, options, message):
    evoked = evoked_of(recording, moments_in(label_round()))
    with pytest.raises(ValueError, match=message):
        DipoleData.from_evoked(evoked, recording[3]["loose"], label_round(), **options)


def test_other_recordings_are_refused(recording):
    inverse, label = recording[3]["loose"], label_round()
    evoked = evoked_of(recording, moments_in(label))
    with pytest.raises(TypeError, match="evoked must be one mne.Evoked, got list"):
        DipoleData.from_evoked([evoked], inverse, label)
    with pytest.raises(TypeError, match=re.escape("mne.minimum_norm.InverseOperator, got")):
        DipoleData.from_evoked(evoked, recording[1], label)
    with pytest.raises(TypeError, match="noise_cov must be an mne.Covariance"):
        DipoleData.from_evoked(evoked, inverse, label, noise_cov=np.eye(70))
    spectrum = evoked.copy()
    spectrum.kind = "standard_error"
    with pytest.raises(ValueError, match="evoked is of kind 'standard_error'"):
        DipoleData.from_evoked(spectrum, inverse, label)
