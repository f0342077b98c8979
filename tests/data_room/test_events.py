"""Inputs from tables of events."""

import warnings

import numpy as np
import pandas as pd
import pytest

from bayesdcm.data.bold import BoldData
from bayesdcm.data.events import inputs_from_events


def build(events, **options):
    return inputs_from_events(events, 10, 2.0, **({"input_dt": 0.5} | options))


def test_blocks_fill_the_bins_between_onset_and_end():
    events = pd.DataFrame({"onset": [1.0, 5.2], "duration": [2.0, 1.0], "trial_type": ["a", "b"]})
    inputs, names, dt = build(events)
    assert names == ("a", "b") and dt == 0.5 and inputs.shape == (40, 2)
    np.testing.assert_array_equal(np.flatnonzero(inputs[:, 0]), [2, 3, 4, 5])
    np.testing.assert_array_equal(np.flatnonzero(inputs[:, 1]), [10, 11])
    assert set(inputs.ravel()) == {0.0, 1.0}


def test_default_bin_is_a_sixteenth_of_the_repetition_time():
    inputs, _, dt = build({"onset": [0.0], "duration": [1.0]}, input_dt=None)
    assert dt == 2 / 16 and inputs.shape == (160, 1)


def test_stick_has_area_of_its_modulation():
    events = {"onset": [3.0, 6.0], "duration": [0, 0], "modulation": [1.0, -2.0]}
    inputs, names, dt = build(events)
    assert names == ("event",)
    np.testing.assert_array_equal(inputs[[6, 12], 0], [2.0, -4.0])
    assert inputs.sum() * dt == pytest.approx(-1.0)


def test_short_block_fills_one_bin_at_its_height():
    inputs, _, _ = build({"onset": [3.0], "duration": [0.01], "modulation": [0.7]})
    assert inputs[6, 0] == 0.7 and np.count_nonzero(inputs) == 1


def test_overlapping_events_of_one_type_add_and_leave_no_dust():
    events = {"onset": [1.0, 2.0], "duration": [3.0, 3.0], "modulation": [0.1, 0.2]}
    inputs, _, _ = build(events)
    np.testing.assert_allclose(inputs[2:10, 0], [0.1, 0.1] + [0.3] * 4 + [0.2] * 2)
    assert (inputs[10:] == 0).all()


def test_onset_in_the_last_half_bin_belongs_to_the_last_bin():
    inputs, _, _ = build({"onset": [19.9], "duration": [0.0]})
    np.testing.assert_array_equal(np.flatnonzero(inputs[:, 0]), [39])


def test_input_names_set_the_order():
    events = {"onset": [0.0, 4.0], "duration": [1.0, 1.0], "trial_type": ["a", "b"]}
    inputs, names, _ = build(events, input_names=["b", "a"])
    assert names == ("b", "a") and inputs[0, 1] == 1.0 and inputs[8, 0] == 1.0
    assert build({"onset": [0.0], "duration": [1.0]}, input_names=["face"])[1] == ("face",)


def test_from_events_passes_all_fields_on():
    signal = np.random.default_rng(0).normal(size=(10, 2))
    events = pd.DataFrame({"onset": [2.0], "duration": [4.0], "trial_type": ["face"]})
    data = BoldData.from_events(
        signal, 2.0, events, region_names=["V1", "V5"], slice_delays=[0.0, 2.0]
    )
    assert data.input_names == ("face",) and data.input_dt == 0.125
    assert data.inputs.sum() * data.input_dt == pytest.approx(4.0)
    assert data.region_names == ("V1", "V5") and data.slice_delays[1] == 2.0


@pytest.mark.parametrize("scans", [7, 360])
@pytest.mark.parametrize("dt", [0.3, 0.7, 1.3])
def test_bins_that_do_not_divide_the_run_still_cover_it(scans, dt):
    signal = np.random.default_rng(0).normal(size=(scans, 1))
    run = scans * 1.7
    events = {"onset": [0.0, run - 1.5], "duration": [1.0, 1.5], "trial_type": ["a", "b"]}
    data = BoldData.from_events(signal, 1.7, events, input_dt=dt)
    assert data.inputs[-1, 1] == 1.0


def test_events_of_bids_go_in_as_they_are(tmp_path):
    """An events.tsv with the columns that BIDS defines, n/a in those that do not matter."""
    path = tmp_path / "sub-01_task-faces_events.tsv"
    path.write_text(
        "onset\tduration\ttrial_type\tresponse_time\tstim_file\tvalue\n"
        "1.0\t2.0\tface\t0.7\tface01.png\t5\n"
        "5.0\t2.0\thouse\tn/a\tn/a\t6\n"
    )
    expected = build({"onset": [1.0, 5.0], "duration": [2.0, 2.0], "trial_type": ["face", "house"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs, names, _ = build(pd.read_csv(path, sep="\t"))
    assert names == expected[1]
    np.testing.assert_array_equal(inputs, expected[0])


def test_columns_that_are_not_used_are_named():
    events = GOOD | {"accuracy": [1, 0], "response_time": [0.3, np.nan]}
    with pytest.warns(UserWarning, match=r"column\(s\) \['accuracy'\], which are not used") as said:
        inputs, _, _ = build(events)
    np.testing.assert_array_equal(inputs, build(GOOD)[0])
    assert len(said) == 1
    # Types of event may be in a column of another name.
    with pytest.raises(ValueError, match=r"unknown column\(s\) \['condition'\]"):
        build({"onset": [0.0], "duration": [1.0], "condition": ["a"]})
    with pytest.raises(ValueError, match="read with another separator than it has"):
        build({"onset,duration,trial_type": ["0,1,face"]})
    for column in ("Modulation", "modulations"):
        with pytest.raises(ValueError, match="unknown column"):
            build({**{k: v for k, v in GOOD.items() if k != "modulation"}, column: [1.0, 2.0]})


GOOD = {
    "onset": [0.0, 4.0],
    "duration": [1.0, 2.0],
    "trial_type": ["a", "b"],
    "modulation": [1.0, 2.0],
}


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"onset": [0.0, 20.0]}, ValueError, r"events\['onset'\].*outside the run.*row 1"),
        ({"onset": [-1.0, 2.0]}, ValueError, r"events\['onset'\].*-1 s"),
        ({"onset": [0.0, np.nan]}, ValueError, r"events\['onset'\] has 1 entries that are NaN"),
        ({"onset": ["0", "1"]}, TypeError, r"events\['onset'\] must hold real numbers"),
        ({"duration": [1.0, -2.0]}, ValueError, r"events\['duration'\] is negative in row 1"),
        ({"duration": [1.0, 17.0]}, ValueError, r"events\['duration'\].*end after the run"),
        ({"duration": ["n/a", "n/a"]}, TypeError, r"events\['duration'\].*'n/a' in 2 row"),
        ({"onset": ["0", "n/a"]}, TypeError, r"got 'n/a' in 1 row\(s\), the first in row 1"),
        ({"trial_type": ["a", None]}, ValueError, r"events\['trial_type'\] is missing in row 1"),
        ({"trial_type": ["a", pd.NA]}, ValueError, r"events\['trial_type'\] is missing in row 1"),
        ({"trial_type": ["a", "n/a"]}, ValueError, r"events\['trial_type'\] is missing in row 1"),
        ({"trial_type": ["a", np.nan]}, ValueError, r"events\['trial_type'\] is missing in row 1"),
        ({"onset": [0.0, pd.NA]}, TypeError, r"events\['onset'\] must hold real numbers"),
        ({"trial_type": ["a", 2]}, TypeError, r"events\['trial_type'\] must hold strings.*row 1"),
        ({"trial_type": [1, 2]}, TypeError, r"events\['trial_type'\] must hold strings"),
        ({"modulation": [1.0, np.inf]}, ValueError, r"events\['modulation'\]"),
        ({"modulaton": [1.0, 1.0]}, ValueError, r"unknown column\(s\) \['modulaton'\]"),
    ],
)
@pytest.mark.parametrize("table", [dict, pd.DataFrame])
def test_bad_tables_are_named(changes, error, text, table):
    with pytest.raises(error, match=text):
        build(table(GOOD | changes))


@pytest.mark.parametrize(
    ("onset", "text"),
    [
        ([0.0], "columns of different lengths"),
        ([[0.0], [1.0]], r"events\['onset'\] has shape \(2, 1\)"),
        ([[0.0], [1.0, 2.0]], r"events\['onset'\] cannot be read"),
        (3.0, r"events\['onset'\] has shape \(\)"),
    ],
)
def test_bad_columns_of_a_mapping_are_named(onset, text):
    with pytest.raises(ValueError, match=text):
        build(GOOD | {"onset": onset})


def test_missing_columns_empty_tables_and_other_types():
    with pytest.raises(ValueError, match=r"lacks the column\(s\) \['duration'\]"):
        build({"onset": [1.0]})
    with pytest.raises(ValueError, match="events has no rows"):
        build(pd.DataFrame({"onset": [], "duration": []}))
    with pytest.raises(TypeError, match="events must be a pandas DataFrame or a mapping"):
        build([(0.0, 1.0)])
    twice = pd.DataFrame([[0.0, 0.0, 1.0]], columns=["onset", "onset", "duration"])
    with pytest.raises(ValueError, match=r"events\['onset'\] has shape"):
        build(twice)


def test_names_that_do_not_match_the_table():
    with pytest.raises(ValueError, match=r"input_names.*\['c'\] are not in the table"):
        build(GOOD, input_names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"\['b'\] are not in input_names"):
        build(GOOD, input_names=["a"])
    with pytest.raises(ValueError, match="input_names repeats"):
        build(GOOD, input_names=["a", "a", "b"])
    with pytest.raises(TypeError, match="input_names must be a list"):
        build(GOOD, input_names="a")
    with pytest.raises(ValueError, match="input_names"):
        build({"onset": [0.0], "duration": [1.0]}, input_names=["a", "b"])
