"""Malformed evoked data never pass, and fail by errors that say what was wrong."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayesdcm.data import EvokedData, GridHead

ARRAYS = ["signal", "times", "design", "noise_cov"]
NAMES = ["channel_names", "condition_names", "effect_names"]


def valid(rng, n_conditions, n_times, n_channels):
    """A complete set of valid arguments."""
    root = rng.normal(size=(n_channels, n_channels))
    return {
        "signal": rng.normal(size=(n_conditions, n_times, n_channels)) * 1e-6,
        "times": (np.arange(n_times) - 5) / 250,
        "channel_names": [f"E{i}" for i in range(n_channels)],
        "channel_types": ["eeg"] * n_channels,
        "condition_names": [f"c{i}" for i in range(n_conditions)],
        "design": rng.normal(size=(n_conditions, n_conditions)),
        "effect_names": [f"e{i}" for i in range(n_conditions)],
        "noise_cov": (root @ root.T + np.eye(n_channels)) * 1e-12,
        "head": GridHead(rng.normal(size=(4, 3)), rng.normal(size=(n_channels, 4, 3))),
    }


def with_entry(array, entry, draw):
    changed = np.array(array, dtype=object if entry is None else None)
    changed[tuple(draw(st.integers(0, length - 1)) for length in changed.shape)] = entry
    return changed


def not_finite(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    return name, with_entry(arguments[name], draw(st.sampled_from([np.nan, np.inf, -np.inf])), draw)


def not_numeric(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    array = arguments[name]
    wrong = [array.astype(str), array + 1j, with_entry(array, None, draw), "text", {}, object()]
    return name, draw(st.sampled_from(wrong))


def other_dimensions(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    array = arguments[name]
    return name, array[..., None] if draw(st.booleans()) else array[0]


def emptied(arguments, draw):
    name = draw(st.sampled_from(["signal", "times", "noise_cov"]))
    return name, arguments[name][:0] if draw(st.booleans()) else arguments[name][..., :0]


def masked(arguments, draw):
    name = draw(st.sampled_from(ARRAYS))
    mask = np.zeros(arguments[name].shape, bool)
    mask.flat[draw(st.integers(0, mask.size - 1))] = True
    return name, np.ma.array(arguments[name], mask=mask)


def constant_channel(arguments, draw):
    signal = arguments["signal"].copy()
    signal[:, :, draw(st.integers(0, signal.shape[2] - 1))] = draw(st.floats(-1e12, 1e12))
    return "signal", signal


def constant_condition(arguments, draw):
    signal = arguments["signal"].copy()
    signal[draw(st.integers(0, len(signal) - 1))] = draw(st.floats(-1e12, 1e12))
    return "signal", signal


def disordered_times(arguments, draw):
    times = arguments["times"].copy()
    i = draw(st.integers(0, times.size - 2))
    kind = draw(st.integers(0, 4))
    if kind == 0:
        times[[i, i + 1]] = times[[i + 1, i]]
    elif kind == 1:
        times[i] = times[i + 1]
    elif kind == 2:
        times[i] += draw(st.floats(0.01, 0.9)) / 250
    elif kind == 3:
        times = times * 1000
    else:
        times = times[:-1]
    return "times", times


def wrong_names(arguments, draw):
    name = draw(st.sampled_from(NAMES))
    names = arguments[name]
    wrong = [[*names, "one more"], names[:-1], [*names[:-1], ""], [*names[:-1], 5], "names", 7]
    if len(names) > 1:
        wrong.append([names[0]] * len(names))
    return name, draw(st.sampled_from(wrong))


def wrong_types(arguments, draw):
    types = arguments["channel_types"]
    wrong = [[*types, "eeg"], types[:-1], [*types[:-1], "eye"], [*types[:-1], 5], "eye", 7, [None]]
    return "channel_types", draw(st.sampled_from(wrong))


def dependent_design(arguments, draw):
    design = arguments["design"].copy()
    kind = draw(st.integers(0, 2))
    if kind == 0:
        design[:, 0] = 0.0
    elif kind == 1:
        design = np.hstack([design, design[:, :1]])
    else:
        design = design[:-1] if len(design) > 1 else np.vstack([design, design])
    return "design", design


def no_covariance(arguments, draw):
    covariance = arguments["noise_cov"].copy()
    i = draw(st.integers(0, len(covariance) - 1))
    kind = draw(st.integers(0, 2))
    if kind == 0:
        covariance[i, i] *= -1
    elif kind == 1 and len(covariance) > 1:
        covariance[i, i - 1] += 1e-12
    else:
        covariance = np.pad(covariance, (0, 1))
    return "noise_cov", covariance


def other_head(arguments, draw):
    head = arguments["head"]
    more = GridHead(head.positions, np.vstack([head.gain, head.gain[:1]]))
    return "head", draw(st.sampled_from([more, "sphere", head.gain, 3]))


CORRUPTIONS = [
    not_finite,
    not_numeric,
    other_dimensions,
    emptied,
    masked,
    constant_channel,
    constant_condition,
    disordered_times,
    wrong_names,
    wrong_types,
    dependent_design,
    no_covariance,
    other_head,
]


@st.composite
def malformed_arguments(draw):
    """Arguments of EvokedData, one of them broken, and the name of the broken one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.integers(1, 3)), draw(st.integers(4, 30)), draw(st.integers(1, 4))
    arguments = valid(rng, *sizes)
    corrupt = draw(st.sampled_from(CORRUPTIONS))
    name, value = corrupt(arguments, draw)
    return arguments | {name: value}, name


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(malformed_arguments())
def test_every_malformed_argument_is_refused_by_name(case):
    arguments, name = case
    try:
        EvokedData(**arguments)
        text = ""
    except (ValueError, TypeError) as error:
        text = str(error)
    assert name in text


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(4, 30), st.integers(1, 4))
def test_the_uncorrupted_arguments_pass(seed, n_conditions, n_times, n_channels):
    data = EvokedData(**valid(np.random.default_rng(seed), n_conditions, n_times, n_channels))
    assert data.signal.shape == (n_conditions, n_times, n_channels)
    assert data.crop(0.0 if n_times > 7 else None).decimate(1).n_channels == n_channels
