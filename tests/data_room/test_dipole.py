"""DipoleData: units, checks that name the fault, selection and smoothing."""

import json
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesdcm.data import DipoleData
from bayesdcm.data.by_value import structure_key
from bayesdcm.data.hamming import hamming_weights, smoothed
from bayesdcm.infer.plain_objects import PlainWriter, from_plain

TIMES = np.arange(0, 170, 0.5)
LAYERS = {"L2": -3 * np.sin(0.05 * TIMES), "L5": 10 * np.cos(0.03 * TIMES)}
VALUES = LAYERS["L2"] + LAYERS["L5"]


def dipole(**changes):
    fields = {"noise_sd": 2.0, "n_averages": 50, "layers": LAYERS, "name": "S1"}
    return DipoleData.from_arrays(VALUES, TIMES, "nAm", "ms", **(fields | changes))


def test_numbers_are_in_si_units_inside():
    data = dipole(smoothing=20.0)
    np.testing.assert_allclose(data.dipole, VALUES * 1e-9, rtol=1e-15)
    np.testing.assert_allclose(data.nanoampere_metres, VALUES, rtol=1e-15)
    np.testing.assert_allclose(data.layers["L5"], LAYERS["L5"] * 1e-9, rtol=1e-15)
    assert (data.noise_sd, data.smoothing, data.times[-1]) == pytest.approx((2e-9, 0.02, 0.1695))
    assert (data.n_times, data.sampling_rate) == (340, pytest.approx(2000))
    same = DipoleData.from_arrays(data.dipole, data.times, "Am", "s")
    np.testing.assert_array_equal(same.dipole, data.dipole)
    with pytest.raises(ValueError, match="read-only"):
        data.layers["L2"][0] = 1


def test_descriptions_say_what_there_is():
    data = dipole()
    assert repr(data) == (
        "DipoleData(340 times (0 to 0.1695 s, 2000 Hz), peak 10 nAm at 0 s, mean of 50, "
        "noise sd 2 nAm, layers L2, L5)"
    )
    table = data.smooth(0.02)._repr_html_()
    assert "<td>20 ms</td>" in table and "from deep to superficial" in table


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dipole": VALUES}, "up to 10 A m .*expected A m of ordinary size.*unit='nAm'"),
        ({"dipole": 3000 * 3000 * 1e-11 * VALUES}, "multiplied by a number of columns"),
        ({"dipole": np.ones(340) * 1e-9}, "constant over time .1e-09 throughout."),
        ({"dipole": np.zeros(340)}, "constant over time"),
        ({"dipole": np.where(TIMES == 3, np.nan, VALUES)}, "dipole has 1 entries that are NaN"),
        ({"dipole": VALUES[None] * 1e-9}, r"dipole has 2 dimension\(s\), shape \(1, 340\)"),
        ({"dipole": VALUES[:-1] * 1e-9, "layers": None}, "340 entries, but dipole has 339"),
        ({"times": TIMES}, "steps of 0.5; expected seconds.*time_unit='ms'"),
        ({"times": TIMES / 20}, "from 0 to 8.475 in steps of 0.025; expected seconds"),
        ({"times": TIMES * 1e-6}, "0.0001.* s in all; .*seconds already"),
        ({"times": (TIMES / 170) ** 2 / 5}, "equally spaced"),
        ({"times": -TIMES / 1000}, "steps of -0.0005|must increase"),
        ({"noise_sd": 0.0}, "noise_sd must be a finite number of A m above 0"),
        ({"noise_sd": 2.0}, "noise_sd is 2 A m, .*multiply it by 1e-9"),
        ({"n_averages": 0}, "n_averages must be a whole number of at least 1, got 0"),
        ({"n_averages": 2.5}, "n_averages must be a whole number of at least 1, got 2.5"),
        ({"smoothing": 20.0}, "smoothing is 20 s, .*ms, divide it by 1000"),
        ({"smoothing": -0.01}, "smoothing is -0.01 s"),
        ({"layers": {"L2": VALUES}}, "layers has the names .'L2'.; expected"),
        ({"layers": {"L2": VALUES * 1e-9, "L5": VALUES * 1e-9}}, "add up to another moment"),
        ({"layers": {"L2": VALUES[1:] * 1e-9, "L5": VALUES * 1e-9}}, "339 entries, but dipole"),
    ],
)
def test_faults_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dipole().replace(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smoothing": "20 ms"}, "smoothing must be one number in s"),
        ({"layers": [VALUES, VALUES]}, "layers must be a mapping"),
        ({"name": ""}, "name must be a text"),
        ({"orientation": None}, "orientation must be a text"),
        ({"dipole": ["a"] * 340}, "dipole"),
    ],
)
def test_values_of_another_kind_are_refused(changes, message):
    with pytest.raises(TypeError, match=message):
        dipole().replace(**changes)


def test_units_must_be_known():
    with pytest.raises(ValueError, match="unit must be one of .*, got str 'fAm'"):
        DipoleData.from_arrays(VALUES, TIMES, "fAm", "ms")
    with pytest.raises(ValueError, match="time_unit must be one of"):
        DipoleData.from_arrays(VALUES, TIMES, "nAm", None)
    with pytest.raises(ValueError, match="times run from 0 to 169.5"):
        DipoleData.from_arrays(VALUES, TIMES, "nAm", "s")
    with pytest.warns(UserWarning, match="less than a single pyramidal cell.*twice"):
        DipoleData.from_arrays(VALUES * 1e-9, TIMES, "nAm", "ms")


def test_windows_and_steps_take_all_fields_along():
    data = dipole().crop(0.0101, 0.05).decimate(4)
    np.testing.assert_allclose(data.times, np.arange(10, 51, 2) / 1000)
    np.testing.assert_allclose(data.nanoampere_metres, VALUES[20:101:4])
    np.testing.assert_allclose(data.layers["L2"] * 1e9, LAYERS["L2"][20:101:4])
    assert data.noise_sd == pytest.approx(2e-9)
    with pytest.raises(ValueError, match="tmax is 50 s, but responses run from 0 to 0.1695 s"):
        dipole().crop(0, 50)
    with pytest.raises(ValueError, match="step must be from 1 to 339, got 400"):
        dipole().decimate(400)


def test_smoothing_leaves_constants_and_does_not_delay():
    for n in (1, 2, 39, 40, 41):
        weights = hamming_weights(n * 0.5, 0.5)
        assert len(weights) == n + 1 - n % 2 and weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(smoothed(np.full(60, 3.0), weights), 3.0, rtol=1e-14)
        # A straight line has no delay inside.
        inside = slice(n, 60 - n) if n < 30 else slice(29, 31)
        line = np.arange(60.0)
        np.testing.assert_allclose(smoothed(line, weights)[inside], line[inside], rtol=1e-12)


def test_smoothing_is_that_of_hnn_core_inside():
    # hnn-core: numpy.hamming of round(window x rate) samples, divided by its sum, mode "same".
    window = np.hamming(41) / np.hamming(41).sum()
    theirs = np.convolve(VALUES, window, "same")
    ours = dipole().smooth(0.0205)
    np.testing.assert_allclose(ours.nanoampere_metres[20:-20], theirs[20:-20], rtol=1e-12)
    np.testing.assert_allclose(sum(ours.layers.values()), ours.dipole, rtol=1e-9)
    assert ours.smoothing == 0.0205
    assert abs(theirs[0]) < 0.6 * abs(ours.nanoampere_metres[0])


def test_noise_sd_after_smoothing_is_that_of_white_noise():
    rng = np.random.default_rng(0)
    noise = DipoleData.from_arrays(rng.normal(size=40000), np.arange(40000) / 2.1, "nAm", "ms")
    after = noise.replace(noise_sd=1e-9).smooth(0.02)
    assert after.noise_sd == pytest.approx(after.dipole.std(), rel=0.05)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (20, "window is 20 s, but the response is 0.1695 s long.*ms, divide it by 1000"),
        (1e-4, "window is 0.0001 s, but samples are 0.0005 s apart"),
        (-0.1, "window is -0.1 s"),
        (np.nan, "window is nan s"),
    ],
)
def test_windows_that_cannot_smooth_are_refused(window, message):
    with pytest.raises(ValueError, match=message):
        dipole().smooth(window)


def test_two_windows_are_not_one():
    with pytest.raises(ValueError, match="smoothed by 20 ms before"):
        dipole().smooth(0.02).smooth(0.01)


def test_files_and_workers_give_it_back():
    data = dipole().smooth(0.02)
    writer = PlainWriter()
    plain = json.loads(json.dumps(writer.plain(data, "data")))
    for read in (from_plain(plain, writer.arrays), deepcopy(data)):
        assert structure_key(read) == structure_key(data)
        assert repr(read) == repr(data)


ARRAYS = ["dipole", "times"]
CORRUPTIONS = {
    "not finite": lambda values, draw: _with(values, draw, draw(st.sampled_from([np.nan, np.inf]))),
    "text": lambda values, draw: values.astype(str),
    "complex": lambda values, draw: values + 0j,
    "missing": lambda values, draw: _with(values.astype(object), draw, None),
    "other axes": lambda values, draw: values[:, None],
    "shorter": lambda values, draw: values[: draw(st.integers(0, values.size - 1))],
    "constant": lambda values, draw: np.full(values.size, draw(st.floats(-1e-6, 1e-6))),
    "nano": lambda values, draw: values * 1e9,
    "masked": lambda values, draw: np.ma.masked_array(values, values == values.max()),
    "no array": lambda values, draw: draw(st.sampled_from([None, {}, object(), "text", 3.0])),
}


def _with(values, draw, entry):
    changed = np.array(values)
    changed[draw(st.integers(0, values.size - 1))] = entry
    return changed


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_malformed_arrays_never_pass(data):
    name = data.draw(st.sampled_from(ARRAYS))
    corrupt = CORRUPTIONS[data.draw(st.sampled_from(sorted(CORRUPTIONS)))]
    fields = {"dipole": VALUES * 1e-9, "times": TIMES / 1000}
    broken = corrupt(fields[name], data.draw)
    with pytest.raises((TypeError, ValueError), match="dipole|times"):
        DipoleData(**(fields | {name: broken}))
