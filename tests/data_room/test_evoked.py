"""EvokedData: defaults, checks that name the fault, selection of times and channels."""

import dataclasses
import subprocess
import sys

import mne
import numpy as np
import pytest

import bayesdcm
from bayesdcm.data import EvokedData, GridHead, SphereHead

TIMES = np.arange(-20, 101) / 400
NAMES = ["Fz", "Cz", "Pz"]


def make(n_conditions=2, **changes):
    rng = np.random.default_rng(0)
    n = len(changes.get("channel_names", NAMES))
    fields = {
        "signal": rng.normal(size=(n_conditions, TIMES.size, n)),
        "times": TIMES,
        "channel_names": NAMES,
        "channel_types": "eeg",
    }
    return EvokedData(**(fields | changes))


def test_defaults_are_filled_and_arrays_read_only():
    data = EvokedData(np.random.default_rng(0).normal(size=(3, 50, 2)), np.arange(50) / 250)
    assert data.channel_names == ("channel 1", "channel 2")
    assert data.channel_types == ("other", "other")
    assert data.condition_names == ("condition 1", "condition 2", "condition 3")
    assert data.effect_names == ("condition 2", "condition 3")
    np.testing.assert_array_equal(data.design, [[0, 0], [1, 0], [0, 1]])
    assert data.noise_cov is None and data.head is None and data.info is None
    assert (data.n_conditions, data.n_times, data.n_channels, data.n_effects) == (3, 50, 2, 2)
    assert data.sampling_rate == pytest.approx(250)
    for array in (data.signal, data.times, data.design):
        assert array.dtype == np.float64 and not array.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.signal = None


def test_one_condition_and_designs_of_ones_own():
    assert make(1).design.shape == (1, 0) and make(1).effect_names == ()
    data = make(2, design=[[-1, 1], [1, 1]], effect_names=["change", "both"])
    assert data.effect_names == ("change", "both") and data.n_effects == 2
    assert make(2, design=np.zeros((2, 0))).n_effects == 0
    assert make(2, design=[[0], [1]]).effect_names == ("effect 1",)
    assert make(2, effect_names=["deviance"]).effect_names == ("deviance",)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"times": TIMES[:-1]}, r"times has 120 entries, but signal has 121"),
        ({"times": TIMES[::-1]}, r"times must increase, but .* at index 1"),
        ({"times": TIMES**3 + TIMES}, r"times must be equally spaced"),
        ({"times": TIMES * 1000}, r"times lie 2.5 apart; .* divide them by 1000"),
        ({"channel_names": NAMES[:2] + ["Fz"]}, r"channel_names repeats \['Fz'\]"),
        ({"channel_types": ["eeg", "eeg"]}, r"channel_types has 2 entries, but signal has 3"),
        ({"channel_types": "eye"}, r"channel_types must be a list of 3 strings"),
        ({"channel_types": ["eeg", "eye", "eeg"]}, r"channel_types has \['eye'\]"),
        ({"channel_types": ["eeg", "mag", "eeg"]}, r"channel_types has channels of different un"),
        ({"condition_names": ["a"]}, r"condition_names has 1 name"),
        ({"design": [[0, 1]]}, r"design has 1 rows"),
        ({"design": [0, 1]}, r"design has 1 dimension.*design\[:, np.newaxis\]"),
        ({"design": [[0, 0], [1, 1]]}, r"design has 2 columns of rank 1"),
        ({"design": [[0], [0]]}, r"design has 1 columns of rank 0"),
        ({"effect_names": ["a", "b"]}, r"effect_names has 2 name"),
        ({"noise_cov": np.eye(2)}, r"noise_cov has shape \(2, 2\), but signal has 3"),
        ({"noise_cov": np.triu(np.ones((3, 3)))}, r"noise_cov is not symmetric"),
        ({"noise_cov": 1e-12 * (np.eye(3) - 0.9)}, r"noise_cov is not positive semidefinite"),
        ({"noise_cov": np.diag([1, 1, 0])}, r"noise_cov has the variance 0 for channel 2"),
        ({"head": "sphere"}, r"head must be a SphereHead"),
        ({"head": SphereHead(np.eye(3)[:2])}, r"head predicts 2 channels, but signal has 3"),
        ({"info": {}}, r"info must be an mne.Info"),
        ({"info": mne.create_info(2, 400.0, "eeg")}, r"info has the channels \['0', '1'\]"),
        ({"signal": np.ones((2, 121, 3))}, r"signal is constant over time in 3 channel"),
        ({"signal": np.ones((121, 3))}, r"signal has 2 dimension"),
    ],
)
def test_faults_are_named(changes, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make(**changes)


def test_constant_channels_and_conditions():
    signal = make().signal.copy()
    signal[1, :, 2] = 3.0
    assert make(signal=signal).n_channels == 3  # flat in one condition only: it may be silent
    signal[0, :, 2] = 1e-6
    with pytest.raises(ValueError, match=r"constant over time in 1 channel.*index 2 \(Pz\)"):
        make(signal=signal)
    signal = make().signal.copy()
    signal[1] = 0.0
    with pytest.raises(ValueError, match=r"1 condition\(s\), the first at index 1 \(condition 2\)"):
        make(signal=signal)


def test_mixed_units_need_a_noise_covariance():
    types = ["eeg", "mag", "grad"]
    covariance = np.diag([1e-12, 1e-26, 1e-24])
    assert make(channel_types=types, noise_cov=covariance).channel_types == tuple(types)
    assert make(channel_types=["eeg", "lfp", "seeg"]).n_channels == 3  # all in V


def test_crop_takes_nearest_samples():
    data = make()
    cut = data.crop(0.0012, 0.2511)
    assert cut.times[0] == TIMES[20] and cut.times[-1] == pytest.approx(0.25)
    np.testing.assert_array_equal(cut.signal, data.signal[:, 20:])
    assert data.crop().n_times == data.n_times
    for window, text in [
        ((-0.2, None), "tmin is -0.2 s, but responses run from -0.05 to 0.25 s"),
        ((None, 250), "tmax is 250 s.*divide it by 1000"),
        ((0.1, 0.1), "leave 1 sample"),
        ((0.2, 0.1), "leave 0 sample"),
    ]:
        with pytest.raises(ValueError, match=text):
            data.crop(*window)
    with pytest.raises(TypeError, match="tmin must be one number"):
        data.crop("0")


def test_decimate():
    data = make().decimate(4)
    np.testing.assert_array_equal(data.signal, make().signal[:, ::4])
    assert data.sampling_rate == pytest.approx(100)
    for step in (0, 121, -1):
        with pytest.raises(ValueError, match="decimate is"):
            data.decimate(step)
    with pytest.raises(TypeError, match="decimate must be a whole number"):
        data.decimate(2.0)


def test_pick_takes_covariance_head_and_info_along():
    gain = np.arange(3 * 4 * 3.0).reshape(3, 4, 3)
    covariance = np.diag([1.0, 2.0, 3.0])
    data = make(
        head=GridHead(np.zeros((4, 3)), gain),
        noise_cov=covariance,
        info=mne.create_info(NAMES, 400.0, "eeg"),
    )
    picked = data.pick(["Pz", "Fz"])
    assert picked.channel_names == ("Pz", "Fz") == tuple(picked.info["ch_names"])
    np.testing.assert_array_equal(picked.signal, data.signal[:, :, [2, 0]])
    np.testing.assert_array_equal(picked.head.gain, gain[[2, 0]])
    np.testing.assert_array_equal(picked.noise_cov, np.diag([3.0, 1.0]))
    assert data.pick("eeg").channel_names == data.channel_names
    assert data.pick("Cz").channel_names == ("Cz",)
    with pytest.raises(ValueError, match=r"there are the types \['eeg'\]"):
        data.pick("mag")
    with pytest.raises(ValueError, match=r"of which \['Oz'\] are not among"):
        data.pick(["Oz"])


def test_replace():
    assert make().replace(condition_names=["s", "d"]).effect_names == ("condition 2",)
    with pytest.raises(TypeError, match=r"unknown field\(s\) \['sfreq'\]"):
        make().replace(sfreq=2)
    with pytest.raises(ValueError, match="times has 120"):
        make().replace(times=TIMES[1:])


def test_to_mne_and_back():
    data = make(info=mne.create_info(NAMES, 400.0, "eeg"), condition_names=["s", "d"])
    evokeds = data.decimate(2).crop(0).to_mne()
    assert list(evokeds) == ["s", "d"] and evokeds["d"].comment == "d"
    np.testing.assert_allclose(evokeds["s"].times, data.times[20::2], atol=1e-12)
    np.testing.assert_array_equal(evokeds["s"].data.T, data.signal[0, 20::2])
    assert evokeds["s"].info["sfreq"] == 200
    with pytest.raises(ValueError, match="info is None"):
        make().to_mne()


def test_label_time_courses():
    courses = np.random.default_rng(0).normal(size=(2, 3, 50))
    times = np.arange(50) / 250
    data = EvokedData.from_label_time_courses(courses, times, NAMES)
    assert data.channel_types == ("source",) * 3 and data.channel_names == tuple(NAMES)
    np.testing.assert_array_equal(data.signal[1, :, 2], courses[1, 2])
    named = EvokedData.from_label_time_courses({"s": courses[0], "d": courses[1]}, times)
    assert named.condition_names == ("s", "d") and named.effect_names == ("d",)
    with pytest.raises(ValueError, match=r"time_courses has 2 dimension"):
        EvokedData.from_label_time_courses(courses[0], times)
    with pytest.raises(ValueError, match=r"time_courses cannot be read as one array"):
        EvokedData.from_label_time_courses([courses[0], courses[1, :, 1:]], times)


def test_label_time_courses_are_signed_arrays():
    mne = pytest.importorskip("mne")
    courses, times = np.random.default_rng(0).normal(size=(2, 3, 50)), np.arange(50) / 250
    with pytest.warns(UserWarning, match="time_courses are never negative, so they are magnitudes"):
        EvokedData.from_label_time_courses(np.abs(courses), times)
    stc = mne.SourceEstimate(courses[0], [np.arange(2), np.arange(1)], 0, 0.004)
    for given in (stc, [stc, stc], {"tone": stc}):
        with pytest.raises(TypeError, match="time_courses must be arrays, .* got SourceEstimate"):
            EvokedData.from_label_time_courses(given, times)
    with pytest.raises(TypeError, match="from_label_time_courses"):
        EvokedData.from_mne([stc])


def test_descriptions():
    data = make(condition_names=["standard", "deviant"], head=SphereHead(0.09 * np.eye(3)))
    assert repr(data) == (
        "EvokedData(2 conditions (standard, deviant) x 121 times (-0.05 to 0.25 s, 400 Hz) x "
        "3 channels (eeg), effect deviant, SphereHead)"
    )
    html = data.replace(condition_names=["<b>", "d"])._repr_html_()
    assert "&lt;b&gt;" in html and "121, -0.05 to 0.25 s, 400 Hz" in html and "SphereHead(3" in html


def test_mne_is_imported_only_where_needed():
    code = (
        "import sys, numpy as np; from bayesdcm.data import EvokedData;"
        "data = EvokedData(np.random.default_rng(0).normal(size=(2, 9, 2)), np.arange(9) / 100);"
        "data.crop(0).decimate(2).pick('other'); sys.exit('mne' in sys.modules)"
    )
    assert bayesdcm.__version__
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
