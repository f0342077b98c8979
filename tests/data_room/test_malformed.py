"""Malformed data never pass and never fail in another way than by an error that says what."""

import re

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayesdcm.data.bold import BoldData

TR, DT = 2.0, 0.5


def valid(rng, n_scans, n_regions, n_inputs):
    """A complete set of valid arguments."""
    return {
        "signal": rng.normal(size=(n_scans, n_regions)),
        "repetition_time": TR,
        "inputs": rng.normal(size=(n_scans * 4, n_inputs)),
        "input_dt": DT,
        "region_names": [f"R{i}" for i in range(n_regions)],
        "input_names": [f"U{i}" for i in range(n_inputs)],
        "confounds": rng.normal(size=(n_scans, 2)),
        "slice_delays": rng.uniform(0, TR, size=n_regions),
    }


def valid_events(rng, n_scans, n_inputs):
    """A valid table of events that has each type once."""
    columns = {
        "onset": rng.uniform(0, TR * n_scans / 2, size=n_inputs),
        "duration": rng.uniform(0, TR * n_scans / 2, size=n_inputs),
        "trial_type": [f"U{i}" for i in range(n_inputs)],
        "modulation": rng.normal(size=n_inputs),
    }
    return pd.DataFrame(columns)


ARRAYS = ["signal", "inputs", "confounds", "slice_delays"]
MATRICES = ARRAYS[:3]
NUMBERS = ["repetition_time", "input_dt"]
NAMES = ["region_names", "input_names"]


def with_entry(array, entry, draw):
    changed = np.array(array, dtype=object if entry is None else None)
    where = tuple(draw(st.integers(0, length - 1)) for length in changed.shape)
    changed[where] = entry
    return changed


@st.composite
def malformed_arguments(draw):
    """Arguments of BoldData, one of them broken, and the name of the broken one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_scans, n_regions = draw(st.integers(5, 30)), draw(st.integers(1, 4))
    arguments = valid(rng, n_scans, n_regions, draw(st.integers(1, 3)))
    kind = draw(st.sampled_from(sorted(CORRUPTIONS)))
    name, value = CORRUPTIONS[kind](arguments, draw)
    return arguments | {name: value}, name


def not_finite(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    return name, with_entry(arguments[name], draw(st.sampled_from([np.nan, np.inf, -np.inf])), draw)


def not_numeric(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    array = arguments[name]
    return name, draw(
        st.sampled_from(
            [array.astype(str), array + 1j, with_entry(array, None, draw), "text", {}, object()]
        )
    )


def lost_dimension(arguments, draw):
    name = draw(st.sampled_from(MATRICES))
    return name, arguments[name][:, 0]


def extra_dimension(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    return name, arguments[name][..., None]


def emptied(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    return name, arguments[name][:0] if draw(st.booleans()) else arguments[name][..., :0]


def ragged(arguments, draw):
    name = draw(st.sampled_from(MATRICES))
    rows = arguments[name].tolist()
    rows[draw(st.integers(0, len(rows) - 1))].append(0.0)
    return name, rows


def masked(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    mask = np.zeros(arguments[name].shape, bool)
    mask.flat[draw(st.integers(0, mask.size - 1))] = True
    return name, np.ma.array(arguments[name], mask=mask)


def constant_signal(arguments, draw):
    signal = arguments["signal"].copy()
    level = draw(st.floats(-1e12, 1e12))
    signal[:, draw(st.integers(0, signal.shape[1] - 1))] = level
    return "signal", signal


def truth_values(arguments, draw):
    name = draw(st.sampled_from(["signal", "slice_delays"]))
    return name, arguments[name] > 0


def bad_number(arguments, draw):
    wrong = [np.nan, np.inf, -np.inf, "2", None, True, [2.0], np.array([2.0]), 2j, {}]
    name = draw(st.sampled_from(NUMBERS))
    return name, draw(st.one_of(st.sampled_from(wrong), st.floats(max_value=0.0)))


def milliseconds(arguments, draw):
    name = draw(st.sampled_from(NUMBERS))
    return name, arguments[name] * 1000


def inputs_of_another_length(arguments, draw):
    bins = len(arguments["inputs"])
    length = draw(st.one_of(st.integers(1, bins - 2), st.integers(bins + 2, 3 * bins)))
    return "inputs", np.resize(arguments["inputs"], (length, arguments["inputs"].shape[1]))


def inputs_without_width(arguments, draw):
    return draw(st.sampled_from([("inputs", None), ("input_dt", None)]))


def wrong_number_of_names(arguments, draw):
    name = draw(st.sampled_from(NAMES))
    names = arguments[name]
    return name, draw(st.sampled_from([names[:-1], [*names, "another"], []]))


def repeated_names(arguments, draw):
    name = draw(st.sampled_from(NAMES))
    column_of = "signal" if name == "region_names" else "inputs"
    arguments[column_of] = np.column_stack([arguments[column_of], arguments[column_of][:, :1]])
    if column_of == "signal":
        arguments["slice_delays"] = np.append(arguments["slice_delays"], 0.0)
    return name, [*arguments[name], draw(st.sampled_from(arguments[name]))]


def names_of_another_kind(arguments, draw):
    name = draw(st.sampled_from(NAMES))
    names = list(arguments[name])
    names[-1] = draw(st.sampled_from([None, 1, 2.5, b"V1", ["V1"], "", "  "]))
    return name, draw(st.sampled_from([names, "V", b"V", 3, 1.5]))


def confounds_of_another_length(arguments, draw):
    scans = len(arguments["signal"])
    rows = draw(st.integers(1, 3 * scans).filter(lambda k: k != scans))
    return "confounds", np.resize(arguments["confounds"], (rows, 2))


def dependent_confounds(arguments, draw):
    given_ = arguments["confounds"]
    weights = draw(st.sampled_from([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [-2.0, 0.5]]))
    return "confounds", np.column_stack([given_, given_ @ weights])


def too_many_confounds(arguments, draw):
    scans = len(arguments["signal"])
    return "confounds", np.random.default_rng(0).normal(
        size=(scans, scans + draw(st.integers(0, 3)))
    )


def wrong_delays(arguments, draw):
    delays = arguments["slice_delays"]
    beyond = draw(st.one_of(st.floats(2.001, 1e6), st.floats(-1e6, -1e-3)))
    lengths = [np.append(delays, 0.0), np.append(delays, [0.0, 1.0]), 1.0]
    return "slice_delays", draw(st.sampled_from([*lengths, with_entry(delays, beyond, draw)]))


CORRUPTIONS = {
    function.__name__: function
    for function in (
        not_finite,
        not_numeric,
        lost_dimension,
        extra_dimension,
        emptied,
        ragged,
        masked,
        constant_signal,
        truth_values,
        bad_number,
        milliseconds,
        inputs_of_another_length,
        inputs_without_width,
        wrong_number_of_names,
        repeated_names,
        names_of_another_kind,
        confounds_of_another_length,
        dependent_confounds,
        too_many_confounds,
        wrong_delays,
    )
}


def outcome(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(malformed_arguments())
def test_every_malformed_argument_is_refused_by_name(case):
    arguments, name = case
    assert name in outcome(BoldData, **arguments)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 30), st.integers(1, 4), st.integers(1, 3))
def test_the_uncorrupted_arguments_pass(seed, n_scans, n_regions, n_inputs):
    rng = np.random.default_rng(seed)
    data = BoldData(**valid(rng, n_scans, n_regions, n_inputs))
    assert data.signal.shape == (n_scans, n_regions)
    events = valid_events(rng, n_scans, n_inputs)
    inputs = BoldData.from_events(data.signal, TR, events).inputs
    assert inputs.shape == (16 * n_scans, n_inputs) and np.isfinite(inputs).all()


@st.composite
def malformed_events(draw):
    """A table of events with one fault."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_scans, n_inputs = draw(st.integers(5, 30)), draw(st.integers(1, 3))
    events = valid_events(rng, n_scans, n_inputs)
    row, run = draw(st.integers(0, n_inputs - 1)), n_scans * TR
    column = draw(st.sampled_from(["onset", "duration", "modulation"]))
    kind = draw(st.integers(0, 8))
    if kind == 0:
        events.loc[row, column] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    elif kind == 1:
        events[column] = events[column].astype(str)
    elif kind == 2:
        events.loc[row, "onset"] = draw(st.one_of(st.floats(run, 1e9), st.floats(-1e9, -1e-6)))
    elif kind == 3:
        events.loc[row, "duration"] = draw(
            st.one_of(st.floats(run + 1, 1e9), st.floats(-1e9, -1e-6))
        )
    elif kind == 4:
        events = events.drop(columns=draw(st.sampled_from(["onset", "duration"])))
    elif kind == 5:
        # Not names as BIDS has them, which raise a warning only.
        unlike = st.text(min_size=1).filter(lambda text: not re.fullmatch(r"[A-Za-z]\w{2,}", text))
        events[draw(unlike)] = 1.0
    elif kind == 6:
        events = draw(st.sampled_from([events.iloc[:0], None, "table", [1, 2], 3.0]))
    elif kind == 7:
        events.loc[row, "trial_type"] = None
    else:
        events = events.astype(object)
        events.loc[row, draw(st.sampled_from(list(events)))] = "n/a"
    return events, n_scans


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(malformed_events())
def test_every_malformed_table_is_refused_by_name(case):
    events, n_scans = case
    signal = np.random.default_rng(0).normal(size=(n_scans, 2))
    assert "events" in outcome(BoldData.from_events, signal, TR, events)
