"""Drives of a cortical column: their numbers and priors, and what they refuse."""

import numpy as np
import numpyro.distributions as dist
import pytest

from bayesdcm import Drive
from bayesdcm.data.drive import CELLS, check_drives
from bayesdcm.infer.plain_objects import PlainWriter, from_plain

WEIGHTS = {"L2_pyramidal": 0.004, "L5_basket": 0.002}


def proximal(**changes):
    return Drive(
        **{
            "name": "first",
            "location": "proximal",
            "time": 20.0,
            "spread": 3.0,
            "weights_ampa": WEIGHTS,
            **changes,
        }
    )


def uncertain(**changes):
    return proximal(
        time=dist.Normal(20.0, 5.0),
        spread=dist.LogNormal(np.log(3.0), 0.3),
        weights_ampa=WEIGHTS | {"L5_basket": dist.LogNormal(np.log(0.002), 0.5)},
        **changes,
    )


def test_numbers_and_priors_are_told_in_the_order_of_cells():
    drive = uncertain(weights_nmda={"L2_basket": 0.001})
    assert (drive.centre("time"), drive.variance("time")) == (20.0, 25.0)
    np.testing.assert_allclose([drive.centre("spread"), drive.variance("spread")], [3.0, 0.09])
    np.testing.assert_allclose(drive.centre("weights_ampa"), [0, 0.004, 0.002, 0])
    np.testing.assert_allclose(drive.variance("weights_ampa"), [0, 0, 0.25, 0])
    np.testing.assert_allclose(drive.centre("weights_nmda"), [0.001, 0, 0, 0])
    np.testing.assert_allclose(drive.centre("delays"), [0.1, 0.1, 1.0, 1.0])
    assert drive.targets == CELLS[:3]
    assert drive.shared and not proximal(cell_specific=True).shared
    spread = drive.spread.distribution
    assert isinstance(spread, dist.LogNormal)
    np.testing.assert_allclose([float(spread.loc), float(spread.scale)], [np.log(3.0), 0.3])


def test_numbers_are_freed_and_fixed():
    free = proximal().free(time=5.0, spread=0.3, weights_ampa={"L5_basket": 0.5})
    assert free == uncertain() and hash(free) == hash(uncertain())
    assert (
        proximal(weights_nmda={"L2_basket": 0.0})
        .free(weights_nmda=0.5)
        .variance("weights_nmda")
        .tolist()
        == [0.0] * 4
    )
    assert free.free(weights_ampa=0.1).variance("time") == 25.0
    fixed = free.at(time=22.0, weights_ampa=np.array([0.0, 0.005, 0.003, 0.001]))
    assert (fixed.time, fixed.spread) == (22.0, 3.0)
    assert fixed.weights_ampa == dict(zip(CELLS[1:], (0.005, 0.003, 0.001), strict=True))
    assert free.at(weights_ampa={"L2_pyramidal": 0.001}).weights_ampa == WEIGHTS | {
        "L2_pyramidal": 0.001
    }
    assert free.at() == proximal()


def test_drives_are_held_by_files():
    writer = PlainWriter()
    plain = writer.plain(uncertain(event_seed=7, delays=2.0))
    assert from_plain(plain, writer.arrays) == uncertain(event_seed=7, delays=2.0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"time": 0.02}, ValueError, "seems to be in s.*Give 20"),
        ({"spread": 0.003}, ValueError, "seems to be in s.*Give 3"),
        ({"delays": 0.0001}, ValueError, "seems to be in s"),
        ({"time": -3.0}, ValueError, "above 0"),
        ({"time": np.nan}, ValueError, "finite number of ms"),
        ({"time": 2.0}, ValueError, "below 1 times its spread of 3 ms: 25 %.*silent"),
        ({"time": (20.0, 5.0)}, TypeError, r"dist.Normal\(mean, sd\).*got tuple"),
        ({"time": dist.LogNormal(3.0, 0.1)}, TypeError, r"dist.Normal\(mean, sd\)"),
        ({"time": dist.Normal(np.zeros(2), 1.0)}, ValueError, r"shape \(2,\)"),
        ({"spread": dist.Normal(3.0, 1.0)}, TypeError, "LogNormal"),
        ({"spread": -1.0}, ValueError, "at least 0"),
        ({"location": "basal"}, ValueError, "'proximal' or 'distal', got 'basal'"),
        ({"location": "distal"}, ValueError, "'L5_basket', which a distal drive does not reach"),
        ({"weights_ampa": {"L4_star": 0.1}}, ValueError, "no cell of the column"),
        ({"weights_ampa": {"L2_basket": -0.1}}, ValueError, "at least 0, got -0.1"),
        ({"weights_ampa": {"L2_basket": 40.0}}, ValueError, "seems to be in nS.*Give 0.04"),
        ({"weights_ampa": {"L2_basket": 0.0}}, ValueError, "all 0"),
        ({"weights_ampa": 0.1}, TypeError, "mapping from cells to uS"),
        ({"delays": {"L2_pyramidal": 0.1}}, ValueError, r"none for \['L5_basket'\]"),
        ({"delays": dist.Normal(1.0, 0.1)}, TypeError, "free the time instead"),
        ({"n_events": 0}, ValueError, "n_events.*at least 1"),
        ({"n_cells": 2, "cell_specific": True}, ValueError, "one for each target cell"),
        ({"event_seed": 1.5}, TypeError, "event_seed"),
        ({"name": ""}, TypeError, "name must be a string"),
    ],
)
def test_faults_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        proximal(**changes)


def test_events_before_the_stimulus_are_told():
    with pytest.warns(UserWarning, match="below 3 times its spread of 3 ms: 0.38 %.*silent"):
        proximal(time=8.0)


def test_faults_of_changes_are_named():
    with pytest.raises(ValueError, match="is 0 and cannot be freed"):
        proximal(spread=0.0).free(spread=0.3)
    with pytest.raises(ValueError, match="is 0 and cannot be freed"):
        proximal().free(weights_nmda={"L2_basket": 0.3})
    with pytest.raises(ValueError, match="at least 0, got -1"):
        proximal().free(time=-1.0)
    with pytest.raises(TypeError, match="unknown number"):
        proximal().at(mu=3.0)
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        proximal().at(weights_ampa=[0.1, 0.2])
    with pytest.raises(ValueError, match="must be one of"):
        proximal().centre("mu")


def test_delays_follow_the_location():
    drive = proximal(weights_ampa={"L5_pyramidal": 0.002})
    distal = drive.replace(location="distal")
    assert distal.delays == {"L2_basket": 0.1, "L2_pyramidal": 0.1, "L5_pyramidal": 0.1}
    assert distal.replace(location="proximal") == drive
    with pytest.raises(ValueError, match="delays were given for a proximal one"):
        drive.replace(delays=2.0).replace(location="distal")


def test_lists_of_drives_are_checked():
    assert check_drives(proximal()) == (proximal(),)
    with pytest.raises(ValueError, match=r"repeat, \['first'\]"):
        check_drives([proximal(), proximal()])
    with pytest.raises(ValueError, match="empty"):
        check_drives([])
    with pytest.raises(TypeError, match="got str 'first' among them"):
        check_drives([proximal(), "first"])
