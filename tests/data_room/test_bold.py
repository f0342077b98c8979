"""BoldData: what it keeps, its defaults, and the text of its errors."""

import dataclasses
import subprocess
import sys
import warnings

import numpy as np
import pytest

from bayesdcm import SpectralData
from bayesdcm.data import CovarianceData
from bayesdcm.data.bold import BoldData


@pytest.fixture
def signal():
    return np.random.default_rng(1).normal(size=(12, 2))


@pytest.fixture
def inputs():
    return (np.arange(48)[:, None] // np.array([4, 8]) % 2).astype(float)


def test_defaults_are_filled(signal):
    data = BoldData(signal, 2)
    assert data.region_names == ("region 1", "region 2")
    assert data.input_names == () and data.inputs is None and data.input_dt is None
    np.testing.assert_array_equal(data.confounds, np.ones((12, 1)))
    np.testing.assert_array_equal(data.slice_delays, [1.0, 1.0])
    assert (data.n_scans, data.n_regions, data.n_inputs) == (12, 2, 0)
    np.testing.assert_array_equal(data.times, 2.0 * np.arange(12))


def test_default_delay_is_at_most_the_repetition_time(signal):
    np.testing.assert_array_equal(BoldData(signal, 0.7).slice_delays, [0.7, 0.7])


def test_arrays_are_read_only_contiguous_copies(signal, inputs):
    source = np.asfortranarray(signal)
    data = BoldData(source, 2.0, inputs=inputs.astype(bool), input_dt=0.5)
    source[0, 0] = 99
    assert data.signal[0, 0] == signal[0, 0] != 99
    for array in (data.signal, data.inputs, data.confounds, data.slice_delays):
        assert array.dtype == np.float64 and array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.repetition_time = 1.0


def test_scale_reduces_the_range_to_four_and_never_enlarges():
    signal = np.array([[0.0, 100.0], [10.0, 102.0], [-10.0, 98.0]])
    data = BoldData(signal, 2.0)
    assert data.scale == pytest.approx(4 / 20)
    np.testing.assert_allclose(data.scaled_signal, [[0, 0], [2, 0.4], [-2, -0.4]], atol=1e-12)
    assert BoldData(signal / 100, 2.0).scale == 1.0


def standardised(signal):
    return (signal - signal.mean(axis=0)) / signal.std(axis=0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda y: 0.01 * y, "little for percent.*unit='fraction'"),
        (lambda y: 100 * y + 900, "more than a BOLD response in percent.*to_percent"),
        (lambda y: y * [100, 1], "times more in 'region 1' than in 'region 2'"),
        (lambda y: y * [1, 0.004], "in different units, whose ratio connections would take up"),
        (standardised, "'region 1', 'region 2', so it seems to be z-scored"),
        (lambda y: np.c_[y[:, 0], standardised(y)[:, 1]], "deviation 1 in 'region 2', so"),
    ],
)
def test_numbers_that_do_not_look_like_percent_raise_a_warning(signal, change, text):
    with pytest.warns(UserWarning, match=text) as found:
        data = BoldData(change(signal), 2.0)
    assert data.unit == "percent" and len(found) == 1
    # The warning points at the caller.
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BoldData(change(signal), 2.0, unit="percent")
        BoldData(signal, 2.0)


def test_z_scored_regions_raise_a_warning(signal):
    with pytest.warns(UserWarning, match="take up the ratio of those"):
        BoldData(standardised(signal), 2.0, unit="z-scored")
    BoldData(standardised(signal)[:, :1], 2.0, unit="z-scored")


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("%", "unit must be one of 'percent', 'fraction', 'arbitrary', 'z-scored', got '%'"),
        (1, "unit must be one of"),
        (["percent", "z-scored"], "expected the same unit in all regions"),
    ],
)
def test_units_that_are_not_known_are_refused(signal, unit, text):
    with pytest.raises(ValueError, match=text):
        BoldData(signal, 2.0, unit=unit)


def test_conversion_to_percent(signal):
    percent = signal - signal.mean(axis=0)
    for unit, numbers, baseline in (
        ("fraction", 0.01 * percent + 1, None),
        ("arbitrary", 800 * (1 + 0.01 * percent), None),
        ("arbitrary", 8 * percent, [800, 800]),
        ("arbitrary", 8 * percent, 800),
        ("z-scored", standardised(signal), 100 / percent.std(axis=0)),
    ):
        # The warning of z-scores is tested above.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = BoldData(numbers, 2.0, unit=unit)
        found = given.to_percent(baseline)
        assert found.unit == "percent"
        np.testing.assert_allclose(found.signal, percent, atol=1e-9)
    # SPM's scaling of fractions is that of percent.
    fractions, in_percent = (
        BoldData(y, 2.0, unit=u)
        for y, u in ((0.1 * percent, "fraction"), (10 * percent, "percent"))
    )
    np.testing.assert_allclose(fractions.scaled_signal, in_percent.scaled_signal, atol=1e-12)


@pytest.mark.parametrize(
    ("unit", "baseline", "error", "text"),
    [
        ("percent", None, ValueError, "already in percent"),
        ("fraction", 2.0, ValueError, "baseline must be None"),
        ("arbitrary", None, ValueError, "baseline is missing.*has been centred"),
        ("arbitrary", [1.0, -1.0], ValueError, "baseline must be positive"),
        ("arbitrary", [1.0, 1.0, 1.0], ValueError, "one for each of the 2 regions"),
        ("arbitrary", "x", TypeError, "baseline"),
    ],
)
def test_conversions_that_cannot_be_right_are_refused(signal, unit, baseline, error, text):
    with pytest.raises(error, match=text):
        BoldData(signal, 2.0, unit=unit).to_percent(baseline)


def test_order_of_regions_and_inputs(signal, inputs):
    data = BoldData(
        signal, 2.0, inputs=inputs, input_dt=0.5, region_names=["V1", "V5"],
        input_names=["face", "house"], slice_delays=[0.5, 1.5],
    )  # fmt: skip
    other = data.reordered(["V5", "V1"], ["house", "face"])
    assert (other.region_names, other.input_names) == (("V5", "V1"), ("house", "face"))
    np.testing.assert_array_equal(other.signal, signal[:, ::-1])
    np.testing.assert_array_equal(other.inputs, inputs[:, ::-1])
    np.testing.assert_array_equal(other.slice_delays, [1.5, 0.5])
    with pytest.raises(
        ValueError, match="region_names must name 'V1', 'V5'.*got \\['V1', 'SPC'\\]"
    ):
        data.reordered(["V1", "SPC"])


def test_inputs_may_differ_from_the_run_by_one_bin(signal, inputs):
    for bins in (47, 48):
        assert BoldData(signal, 2.0, inputs=inputs[:bins], input_dt=0.5).n_inputs == 2
    with pytest.raises(ValueError, match=r"inputs are too short by 1 s: 46 bins"):
        BoldData(signal, 2.0, inputs=inputs[:46], input_dt=0.5)
    with pytest.raises(ValueError, match=r"inputs are too long by 1 s: 50 bins"):
        BoldData(signal, 2.0, inputs=np.vstack([inputs, inputs[:2]]), input_dt=0.5)


def test_transposed_signal_is_hinted_at(signal, inputs):
    with pytest.raises(ValueError, match="transposed"):
        BoldData(signal.T, 2.0, inputs=inputs, input_dt=0.5, unit="percent")


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"signal": np.ones(12)}, ValueError, r"signal has 1 dimension.*signal\[:, np.newaxis\]"),
        ({"signal": np.ones((12, 2))}, ValueError, r"signal is constant in 2 region"),
        ({"signal": np.full((12, 2), 7e8)}, ValueError, r"signal is constant"),
        ({"signal": np.empty((0, 2))}, ValueError, r"signal is empty"),
        ({"signal": [["a", "b"]] * 12}, TypeError, r"signal must hold real numbers"),
        ({"signal": [[1.0], [1.0, 2.0]]}, ValueError, r"signal cannot be read"),
        ({"signal": np.ma.masked_less(np.eye(12), 1)}, ValueError, r"signal is a masked array"),
        ({"repetition_time": 0}, ValueError, r"repetition_time must be .* above 0"),
        ({"repetition_time": 2000}, ValueError, r"repetition_time.*milliseconds"),
        ({"repetition_time": "2"}, TypeError, r"repetition_time must be one number"),
        ({"inputs": None}, ValueError, r"input_dt came without inputs"),
        ({"input_dt": None}, ValueError, r"input_dt is missing, but inputs came"),
        ({"region_names": "V1"}, TypeError, r"region_names must be a list"),
        ({"region_names": ["V1", "V1"]}, ValueError, r"region_names repeats \['V1'\]"),
        ({"region_names": ["V1"]}, ValueError, r"region_names has 1 name.*2 column"),
        ({"input_names": ["a", 3]}, TypeError, r"input_names must hold strings"),
        ({"confounds": np.ones((11, 1))}, ValueError, r"confounds has 11 rows"),
        ({"confounds": np.ones((12, 2))}, ValueError, r"confounds has 2 columns of rank 1"),
        ({"confounds": np.eye(12)}, ValueError, r"confounds has 12 columns"),
        ({"slice_delays": [1.0]}, ValueError, r"slice_delays has 1 entries"),
        ({"slice_delays": [1.0, 2.5]}, ValueError, r"slice_delays must lie between"),
        ({"slice_delays": 1.0}, ValueError, r"slice_delays has 0 dimension"),
    ],
)
def test_bad_arguments_are_named(signal, inputs, changes, error, text):
    arguments = {"signal": signal, "repetition_time": 2.0, "inputs": inputs, "input_dt": 0.5}
    with pytest.raises(error, match=text):
        BoldData(**(arguments | changes))


def test_a_constant_is_added_to_confounds_without_one(signal):
    """Else the baseline, which no model predicts, would be taken for a response."""
    motion, session = np.arange(12.0)[:, None] ** 2, np.repeat(np.eye(2), 6, axis=0)
    added = BoldData(signal, 2.0, confounds=motion).confounds
    np.testing.assert_array_equal(added, np.hstack([motion, np.ones((12, 1))]))
    assert not added.flags.writeable
    for complete in (session, np.hstack([7 + np.zeros((12, 1)), motion])):
        given = BoldData(signal, 2.0, confounds=complete).confounds
        np.testing.assert_array_equal(given, complete)
    with pytest.raises(ValueError, match="12 columns .* the constant counted"):
        BoldData(signal, 2.0, confounds=np.eye(12)[:, :11])


@pytest.mark.parametrize("container", [CovarianceData, SpectralData])
def test_motion_alone_as_confounds_leaves_no_baseline(container):
    rng = np.random.default_rng(0)
    signal, motion = rng.normal(size=(60, 2)), rng.normal(size=(60, 3))
    some = [
        container.from_bold(BoldData(each, 2.0, confounds=motion, unit="percent"))
        for each in (signal, signal + 30)
    ]
    name = "covariance" if container is CovarianceData else "spectra"
    near, far = (np.asarray(getattr(each, name)) for each in some)
    np.testing.assert_allclose(far, near, rtol=1e-9, atol=1e-12)


def test_confounds_of_very_different_units_are_independent(signal):
    confounds = np.column_stack([np.ones(12), 1e-12 * np.arange(12), 1e9 * np.arange(12) ** 2])
    assert BoldData(signal, 2.0, confounds=confounds).confounds.shape == (12, 3)


def test_centred_inputs_and_replace(signal, inputs):
    data = BoldData(signal, 2.0, inputs=inputs, input_dt=0.5, input_names=["a", "b"])
    centred = data.centred_inputs()
    np.testing.assert_allclose(centred.inputs.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_array_equal(centred.signal, data.signal)
    assert centred.input_names == ("a", "b")
    rest = data.replace(inputs=None, input_dt=None, input_names=None)
    assert rest.n_inputs == 0
    with pytest.raises(ValueError, match="inputs is None"):
        rest.centred_inputs()
    with pytest.raises(TypeError, match="unknown field.*tr"):
        data.replace(tr=2.0)
    with pytest.raises(ValueError, match="inputs are too short"):
        data.replace(repetition_time=3.0)


def test_representations(signal, inputs):
    data = BoldData(signal, 2.0, inputs=inputs, input_dt=0.5, region_names=["V1", "<b>"])
    assert repr(data) == (
        "BoldData(12 scans x 2 regions (V1, <b>), repetition time 2 s, "
        "inputs input 1, input 2 in bins of 0.5 s, 1 confound)"
    )
    html = data._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html and "every 2 s (24 s)" in html


def test_the_data_room_does_not_import_jax_or_pandas():
    code = (
        "import sys, importlib.util, types\n"
        "import bayesdcm.data, bayesdcm.data.spm\n"
        "print([name for name in ('jax', 'pandas', 'scipy', 'pymatreader') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
