"""A posterior of drives checked with a network, for which a column with other constants stands."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

import bayesdcm
from bayesdcm import DipoleData, Drive, LaminarDCM
from bayesdcm.infer.network_check import check_with_network
from bayesdcm.models import HnnResponse
from bayesdcm.neural.laminar_equations import NAMES
from bayesdcm.observe.dipole_correction import fit_correction

TIMES = np.arange(0, 0.13, 0.002)
AMPA = {"L2_basket": 0.0036, "L2_pyramidal": 0.0039, "L5_basket": 0.0019, "L5_pyramidal": 0.002}
NMDA = {"L2_basket": 0.0029, "L2_pyramidal": 0.0005, "L5_basket": 0.003, "L5_pyramidal": 0.0019}
DISTAL = {"L2_basket": 0.0043, "L2_pyramidal": 0.0032, "L5_pyramidal": 0.0009}
DRIVES = (
    Drive("first", "proximal", 22.0, 2.0, AMPA, NMDA),
    Drive("second", "distal", 60.0, 3.0, DISTAL, DISTAL),
)
CONSTANTS = 0.15 * np.random.default_rng(0).normal(size=len(NAMES))
BLANK = DipoleData(9e-12 * np.sin(50 * TIMES), TIMES, noise_sd=1e-13, n_averages=100)


class OtherColumn:
    """Stands for the network: a column with other constants, with events of each trial."""

    duration = 170.0

    def __init__(self):
        fixed = [drive.replace(spread=0.0) for drive in DRIVES]
        model = LaminarDCM(fixed)
        rest = {"column": CONSTANTS, "scale": np.zeros(())}
        self._predict = jax.jit(jax.vmap(lambda t: model.predict(rest | {"time": t}, BLANK)))
        self.sets = 0

    def run_many(self, settings, n_trials, seed):
        rng = np.random.default_rng(seed)
        self.sets += len(settings)
        responses = []
        for drives in settings:
            assert all(drive.event_seed is None for drive in drives)
            events = rng.normal(
                [drive.time for drive in drives],
                [drive.spread for drive in drives],
                (n_trials, len(drives)),
            )
            trials = tuple(
                DipoleData(d, TIMES, layers={"L2": 0.3 * d, "L5": 0.7 * d})
                for d in np.asarray(self._predict(events))
            )
            times = {drive.name: events[:, [i]] for i, drive in enumerate(drives)}
            responses.append(HnnResponse(tuple(drives), trials, {}, times))
        return responses


@pytest.mark.exhaustive
def test_runs_of_the_network_correct_the_posterior(tmp_path):
    truth = LaminarDCM(DRIVES)
    clean = np.asarray(
        truth.predict(
            {"column": CONSTANTS, "scale": np.zeros(()), "time": np.array([22.0, 60.0])}, BLANK
        )
    )
    sd = clean.std() / 8
    noise = np.random.default_rng(1).normal(size=len(TIMES))
    data = BLANK.replace(dipole=clean + sd * noise, noise_sd=sd)
    free = [drive.free(time=6.0) for drive in DRIVES]
    before = bayesdcm.fit(LaminarDCM(free), data, draws=100, progress=False)
    network = OtherColumn()
    check = before.check_with(network, draws=12, n_trials=2, progress=False)
    assert network.sets == 24
    after = check.after
    errors = [np.abs(each.mean["time"] - [22.0, 60.0]).mean() for each in (before, after)]
    assert errors[1] < 0.6 * errors[0]
    assert errors[1] < 1.0
    assert abs(float(after.mean["scale"])) < 0.1
    explained = check.variance_explained
    assert explained["corrected column"] > 0.95 and explained["network"] > 0.9
    assert explained["column"] < explained["corrected column"]
    table = check.summary()
    row = table.loc["time[first]"]
    np.testing.assert_allclose(row["moved"] * row["sd"], row["corrected_mean"] - row["mean"])
    assert check.network.shape == (12, len(TIMES))
    assert "12 sets of drives" in repr(check)
    read = bayesdcm.load_fit(after.save(tmp_path / "after.nc"))
    assert read.problem.model == after.problem.model
    first, second = read.drives()
    np.testing.assert_allclose([first.time, second.time], after.mean["time"])
    assert after.drives(draw=2)[0].time != first.time


def test_a_correction_is_for_its_data():
    runs = np.random.default_rng(0).normal(size=(2, 6, len(TIMES)))
    correction = fit_correction(
        runs[0], runs[1], {"time": np.ones((6, 2))}, np.arange(6), TIMES, BLANK.n_averages
    )
    model, plain = LaminarDCM(DRIVES, correction=correction), LaminarDCM(DRIVES)
    given = {"scale": np.log(2.0)}
    difference = 1e9 * np.asarray(model.predict(given, BLANK) - plain.predict(given, BLANK))
    np.testing.assert_allclose(difference, 2 * (runs[0] - runs[1]).mean(0), rtol=1e-9)
    with pytest.raises(ValueError, match="60 times from 0.01 s, but the correction is for 65"):
        model.predict(given, BLANK.crop(0.01))


def test_what_cannot_be_checked_is_told():
    other = SimpleNamespace(problem=SimpleNamespace(model="a model", data=None))
    with pytest.raises(TypeError, match="fits of LaminarDCM.*got one of str"):
        check_with_network(other, None)
    checked = SimpleNamespace(problem=SimpleNamespace(model=LaminarDCM(DRIVES), data=BLANK))
    with pytest.raises(ValueError, match="simulator.duration is 50 ms.*until 128 ms"):
        check_with_network(checked, SimpleNamespace(duration=50.0))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        check_with_network(checked, None, draws=0)
    with pytest.raises(ValueError, match="inflation must be a finite number"):
        check_with_network(checked, None, inflation=0.0)
