"""Tables with names are joined to data by these, or refused; a new order is said."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from bayesdcm import BoldData, EvokedData
from bayesdcm.data import BoldDesign
from bayesdcm.data.named_axes import axis_names, check_unnamed, in_order

RNG = np.random.default_rng(0)
SIGNAL = pd.DataFrame(RNG.normal(size=(16, 2)), columns=["V1", "V5"])
INPUTS = pd.DataFrame(RNG.normal(size=(256, 2)), columns=["face", "house"])


@pytest.mark.parametrize(
    ("value", "axis", "names"),
    [
        (pd.DataFrame(np.eye(2), columns=["a", "b"]), 1, ["a", "b"]),
        (pd.DataFrame(np.eye(2), columns=["a", "b"]), 0, None),
        (pd.Series([1, 2], index=["a", "b"]), 0, ["a", "b"]),
        (pd.Series([1, 2], index=[1, 0]), 0, ["1", "0"]),
        (xr.DataArray(np.eye(2), {"to": ["a", "b"]}, ["to", "from"]), 0, ["a", "b"]),
        (xr.DataArray(np.eye(2), {"to": ["a", "b"]}, ["to", "from"]), 1, None),
        (np.eye(2), 0, None),
        ([[1, 2]], 0, None),
        (3.0, 0, None),
        ("auto", 1, None),
    ],
)
def test_names_along_axes(value, axis, names):
    assert axis_names(value, axis) == names


def test_columns_of_a_signal_are_its_regions():
    data = BoldData(SIGNAL, 2.0, INPUTS, 0.125)
    assert data.region_names == ("V1", "V5") and data.input_names == ("face", "house")
    with pytest.warns(
        UserWarning,
        match="signal was put .* columns in that of region_names, 'V5'",
    ):
        turned = BoldData(SIGNAL, 2.0, INPUTS, 0.125, region_names=["V5", "V1"])
    assert turned.region_names == ("V5", "V1")
    assert_array_equal(turned.signal, SIGNAL[["V5", "V1"]])
    with pytest.raises(ValueError, match="columns of signal has 'V1', 'V5'; expected region_names"):
        BoldData(SIGNAL, 2.0, region_names=["V1", "FFA"])
    events = {"onset": [2.0], "duration": [4.0]}
    assert BoldData.from_events(SIGNAL, 2.0, events).region_names == ("V1", "V5")
    with pytest.warns(UserWarning, match="signal was put"):
        found = BoldData.from_events(SIGNAL, 2.0, events, region_names=["V5", "V1"])
    assert_array_equal(found.signal, turned.signal)


def test_columns_of_inputs_and_slice_delays_by_name():
    delays = pd.Series([0.5, 1.5], index=["V5", "V1"])
    arguments = (16, 2.0, INPUTS, 0.125, ["V1", "V5"], ["house", "face"])
    with pytest.warns(UserWarning) as said:
        design = BoldDesign(*arguments, slice_delays=delays)
    assert [str(w.message).split()[0] for w in said] == ["inputs", "slice_delays"]
    assert_array_equal(design.inputs, INPUTS[["house", "face"]])
    assert design.slice_delays.tolist() == [1.5, 0.5]
    with pytest.raises(ValueError, match="columns of inputs has 'face', 'house'"):
        BoldDesign(*arguments[:5], ["face", "place"])


def test_numbered_columns_have_no_names():
    data = BoldData(SIGNAL.to_numpy(), 2.0, region_names=["V5", "V1"])
    plain = pd.DataFrame(SIGNAL.to_numpy())
    assert_array_equal(BoldData(plain, 2.0, region_names=["V5", "V1"]).signal, data.signal)
    assert BoldData(plain, 2.0).region_names == ("region 1", "region 2")


def test_names_of_a_table_that_repeat_are_refused():
    with pytest.raises(ValueError, match="region_names repeats"):
        BoldData(SIGNAL.set_axis(["V1", "V1"], axis=1), 2.0)
    twice = pd.Series([1.0, 2.0], index=["V1", "V1"])
    with pytest.raises(ValueError, match="index of slice_delays has 'V1', 'V1'"):
        in_order("slice_delays", twice, {0: ("region_names", ["V1", "V5"])})


def test_effects_of_a_design_by_name():
    design = pd.DataFrame({"novelty": [0, 0, 1], "change": [0, 1, 1]}, index=["a", "b", "c"])
    signal = RNG.normal(size=(3, 30, 1))
    names = {"condition_names": ["a", "b", "c"], "effect_names": ["change", "novelty"]}
    with pytest.warns(UserWarning, match="design was put .*columns in that of effect_names"):
        data = EvokedData(signal, np.arange(30) / 250, design=design, **names)
    assert data.design.tolist() == [[0, 0], [1, 0], [1, 1]]


def test_tables_are_refused_where_places_count():
    with pytest.raises(ValueError, match="A is a table with the names 'a', 'b', .*; give an array"):
        check_unnamed("A", pd.DataFrame(np.eye(2), ["a", "b"]), "give an array")
    with pytest.raises(ValueError, match="B is a table"):
        check_unnamed("B", [pd.DataFrame(np.eye(2), ["a", "b"])], "give an array")
    check_unnamed("A", pd.DataFrame(np.eye(2)), "")
