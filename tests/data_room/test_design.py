"""BoldDesign: the same checks and defaults as BoldData, without a signal."""

import dataclasses

import numpy as np
import pytest

from bayesdcm.data import BoldData, BoldDesign

EVENTS = {"onset": [2.0, 10.0], "duration": [4.0, 0.0], "trial_type": ["face", "house"]}


def design(**changes):
    arguments = {
        "n_scans": 12,
        "repetition_time": 2.0,
        "inputs": np.ones((48, 1)),
        "input_dt": 0.5,
        "region_names": ["V1", "V5"],
    }
    return BoldDesign(**(arguments | changes))


def test_defaults_are_those_of_data():
    made = design()
    data = BoldData(np.random.default_rng(0).normal(size=(12, 2)), 2.0, np.ones((48, 1)), 0.5)
    assert made.input_names == data.input_names == ("input 1",)
    assert (made.n_scans, made.n_regions, made.n_inputs) == (12, 2, 1)
    for name in ("inputs", "confounds", "slice_delays", "times"):
        np.testing.assert_array_equal(getattr(made, name), getattr(data, name))
    assert not made.inputs.flags.writeable and not made.slice_delays.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.n_scans = 3


def test_events_give_the_inputs_that_data_have():
    signal = np.random.default_rng(0).normal(size=(12, 2))
    made = BoldDesign.from_events(12, 2.0, EVENTS, ["V1", "V5"], input_dt=0.25)
    data = BoldData.from_events(signal, 2.0, EVENTS, input_dt=0.25)
    np.testing.assert_array_equal(made.inputs, data.inputs)
    assert (made.input_names, made.input_dt) == (data.input_names, data.input_dt)
    default = BoldDesign.from_events(np.int64(12), 2.0, EVENTS, ["V1"])
    assert default.input_dt == 2.0 / 16 and default.n_scans == 12


def test_copies_and_descriptions():
    made = design(input_names=["motion"])
    assert isinstance(made.replace(n_scans=12), BoldDesign)
    np.testing.assert_array_equal(made.centred_inputs().inputs, np.zeros((48, 1)))
    assert repr(made) == (
        "BoldDesign(12 scans x 2 regions (V1, V5), repetition time 2 s, "
        "inputs motion in bins of 0.5 s, 1 confound)"
    )
    assert "<caption>BoldDesign</caption>" in made._repr_html_()
    assert design(inputs=None, input_dt=None).n_inputs == 0


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"n_scans": 12.0}, TypeError, "n_scans must be a whole number of scans, got float 12.0"),
        ({"n_scans": True}, TypeError, "n_scans must be a whole number"),
        ({"n_scans": 1}, ValueError, "n_scans must be at least 2, got 1"),
        ({"n_scans": 20}, ValueError, "inputs are too short by 16 s: 48 bins"),
        ({"repetition_time": 2000.0}, ValueError, "repetition_time is 2000; expected seconds"),
        ({"region_names": "V1"}, TypeError, "region_names must be a list of strings"),
        ({"region_names": None}, TypeError, "region_names must be a list of strings, got None"),
        ({"region_names": []}, ValueError, "region_names is empty"),
        ({"region_names": ["V1", "V1"]}, ValueError, r"region_names repeats \['V1'\]"),
        ({"input_dt": None}, ValueError, "input_dt is missing"),
        ({"inputs": np.full((48, 1), np.nan)}, ValueError, "inputs has 48 entries that are NaN"),
        ({"input_names": ["a", "b"]}, ValueError, "input_names has 2 name"),
        ({"confounds": np.ones((11, 1))}, ValueError, "confounds has 11 rows.* run has 12 scans"),
        ({"slice_delays": [0.0]}, ValueError, "slice_delays has 1 entries, but there are 2"),
        ({"slice_delays": [0.0, 3.0]}, ValueError, "slice_delays must lie between 0 and"),
    ],
)
def test_errors_name_the_argument(changes, kind, message):
    with pytest.raises(kind, match=message):
        design(**changes)


def test_events_outside_the_run_are_refused():
    with pytest.raises(ValueError, match="onset"):
        BoldDesign.from_events(2, 2.0, EVENTS, ["V1"])
    with pytest.raises(TypeError, match="n_scans must be"):
        BoldDesign.from_events(12.5, 2.0, EVENTS, ["V1"])
