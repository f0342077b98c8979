"""BoldData: what it keeps, its defaults, and the text of its errors."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

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


def test_inputs_may_differ_from_the_run_by_one_bin(signal, inputs):
    for bins in (47, 48):
        assert BoldData(signal, 2.0, inputs=inputs[:bins], input_dt=0.5).n_inputs == 2
    with pytest.raises(ValueError, match=r"inputs are too short by 1 s: 46 bins"):
        BoldData(signal, 2.0, inputs=inputs[:46], input_dt=0.5)
    with pytest.raises(ValueError, match=r"inputs are too long by 1 s: 50 bins"):
        BoldData(signal, 2.0, inputs=np.vstack([inputs, inputs[:2]]), input_dt=0.5)


def test_transposed_signal_is_hinted_at(signal, inputs):
    with pytest.raises(ValueError, match="transposed"):
        BoldData(signal.T, 2.0, inputs=inputs, input_dt=0.5)


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
