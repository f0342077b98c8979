"""The biophysical network: trials side by side, kept in a folder; with hnn-core where it is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bayesdcm import Drive, HnnSimulator, write_hnn
from bayesdcm.data.drive import CELLS

# In place of hnn-core, which takes 20 s a trial: cells fire 2 ms after events, and the dipole is
# what is left of events. The seed of a drive is its deviation, in spreads, modulo 10.
FAKE = """
import json, os, types
import numpy as np

class Network:
    def __init__(self, content):
        self.cell_types = content["cell_types"]
        self.external_drives = content["external_drives"]

def read_network_configuration(path):
    with open(path) as file:
        return Network(json.load(file))

def simulate_dipole(net, tstop, dt, n_trials, verbose):
    print("Building the NEURON model")
    with open(os.environ["FAKE_COUNT"], "a") as file:
        file.write("1")
    times = np.arange(int(round(tstop / dt)) + 1) * dt
    layer = np.sin(times)
    fired = []
    for drive in net.external_drives.values():
        at = drive["dynamics"]["mu"] + drive["dynamics"]["sigma"] * (drive["event_seed"] % 10)
        if at == float(os.environ.get("FAKE_FAULT", "nan")):
            raise ArithmeticError("no such cell")
        if at == float(os.environ.get("FAKE_END", "nan")):
            os._exit(3)
        drive["events"] = [[[at]]]
        layer = layer + at * (times > at)
        fired.append(at + 2)
    net.cell_response = types.SimpleNamespace(
        spike_times=[[*fired, 1.0]], spike_types=[["L2_pyramidal"] * len(fired) + ["a drive"]]
    )
    return [types.SimpleNamespace(data={"agg": 3 * layer, "L2": layer, "L5": 2 * layer})]
"""


@pytest.fixture
def column(tmp_path):
    places = {cell: {"start": i, "stop": i + 1} for i, cell in enumerate(CELLS)}
    content = {
        "object_type": "Network",
        "cell_types": dict.fromkeys(CELLS, {}),
        "gid_ranges": places,
        "pos_dict": dict.fromkeys(CELLS, [[0, 0, 0]]) | {"origin": [1, 1, 1]},
        "external_drives": {},
        "connectivity": [],
        "threshold": 0.0,
    }
    path = tmp_path / "column.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install what stands for hnn-core, for this process and those that it starts."""
    packages = tmp_path / "packages"
    (packages / "hnn_core-0.6.1.dist-info").mkdir(parents=True)
    about = "Metadata-Version: 2.1\nName: hnn-core\nVersion: 0.6.1\n"
    (packages / "hnn_core-0.6.1.dist-info" / "METADATA").write_text(about)
    (packages / "hnn_core.py").write_text(FAKE)
    (packages / "neuron.py").write_text("")
    monkeypatch.syspath_prepend(str(packages))
    paths = [str(packages), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))
    return packages


@pytest.fixture
def count(tmp_path):
    """How many trials have been simulated."""
    path = tmp_path / "count"
    return lambda: len(path.read_text()) if path.exists() else 0


def drives(**changes):
    first = Drive("first", "proximal", 20.0, 2.0, {"L2_pyramidal": 0.004}, event_seed=1)
    return [first.replace(**changes), first.replace(name="second", location="distal", time=60.0)]


def test_trials_are_those_of_hnn_core(column, installed, count):
    simulator = HnnSimulator(column, n_trials=3, n_jobs=2, dt=0.5, progress=False)
    response = simulator.run(drives())
    # Four cells of the column and two of drives: seeds are 6 apart from trial to trial.
    deviations = np.array([[1], [7], [3]])
    np.testing.assert_array_equal(response.event_times["first"], 20 + 2 * deviations)
    np.testing.assert_array_equal(response.event_times["second"], 60 + 2 * deviations)
    trial = response.trials[1]
    layer = np.sin(trial.times * 1e3) + 34 * (trial.times > 0.034) + 74 * (trial.times > 0.074)
    np.testing.assert_allclose(trial.nanoampere_metres, 3 * layer, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(trial.layers["L5"], 2e-9 * layer, rtol=1e-12, atol=1e-20)
    np.testing.assert_allclose(trial.times[[0, -1]], [0, 0.17])
    assert (response.dipole.n_averages, response.n_trials) == (3, 3)
    mean = np.mean([each.dipole for each in response.trials], axis=0)
    np.testing.assert_allclose(response.dipole.dipole, mean)
    counts = response.spikes["L2_pyramidal"]
    assert counts.shape == (3, 170)
    assert np.argwhere(counts).tolist() == [[0, 24], [0, 64], [1, 36], [1, 76], [2, 28], [2, 68]]
    assert response.spikes["L5_basket"].sum() == 0
    assert "3 trial(s) of first, second; 341 times; spikes a trial: L2_basket 0" in repr(response)
    assert count() == 3


def test_sets_of_drives_run_side_by_side(column, installed):
    simulator = HnnSimulator(column, dt=0.5, progress=False)
    one, other = simulator.run_many([drives(), drives(time=30.0)], n_trials=1)
    assert one.event_times["first"].tolist() == [[22.0]]
    # Trials are numbered through, so that deviations differ.
    assert other.event_times["first"].tolist() == [[30.0 + 2 * 7]]
    unseeded = drives(event_seed=None)
    assert simulator.run(unseeded, n_trials=1, seed=5).event_times["first"].tolist() == [[38.0]]


def test_times_of_events_can_be_given(column, installed):
    simulator = HnnSimulator(column, dt=0.5, progress=False)
    times = {"first": [[12.5, 30.0], [15.0, np.nan]], "second": [50.0, np.nan]}
    response = simulator.run(drives(n_events=2), times)
    np.testing.assert_array_equal(response.event_times["first"], times["first"])
    np.testing.assert_array_equal(response.event_times["second"], [[50.0], [np.nan]])
    assert response.spikes["L2_pyramidal"].sum(axis=1).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"first": [10.0]}, r"times of each drive, \['first', 'second'\], got \['first'\]"),
        ({"first": [10.0], "second": [20.0, 30.0]}, "are of .* trials; expected the same number"),
        ({"first": [0.0], "second": [20.0]}, "above 0 and up to the duration of 170 ms"),
        ({"first": [10.0], "second": [200.0]}, "up to the duration of 170 ms"),
        ({"first": [0.01], "second": [20.0]}, "seem to be in s"),
        ({"first": np.zeros((1, 1, 1)), "second": [20.0]}, r"got \(1, 1, 1\)"),
    ],
)
def test_times_that_cannot_be_are_told(column, installed, times, message):
    with pytest.raises(ValueError, match=message):
        HnnSimulator(column, progress=False).run(drives(), times)


def test_a_run_that_was_stopped_goes_on(column, installed, count, tmp_path, monkeypatch):
    simulator = HnnSimulator(
        column, n_trials=3, n_jobs=1, dt=0.5, progress=False, cache=tmp_path / "trials"
    )
    monkeypatch.setenv("FAKE_FAULT", "26")
    with pytest.raises(RuntimeError, match=r"(?s)failed to simulate a trial.*no such cell"):
        simulator.run(drives())
    assert count() == 3
    monkeypatch.setenv("FAKE_FAULT", "nan")
    first = simulator.run(drives())
    assert count() == 4
    again = simulator.run(drives())
    assert count() == 4
    np.testing.assert_array_equal(first.dipole.dipole, again.dipole.dipole)
    simulator.run(drives(weights_ampa={"L2_pyramidal": 0.005}), n_trials=1)
    assert count() == 5
    assert len(list((tmp_path / "trials").iterdir())) == 4


def test_a_process_that_ends_is_told(column, installed, monkeypatch):
    monkeypatch.setenv("FAKE_END", "22")
    simulator = HnnSimulator(column, n_trials=2, n_jobs=2, dt=0.5, progress=False)
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 3.*Building the NEURON model"):
        simulator.run(drives())


def test_progress_is_shown(column, installed, capsys):
    HnnSimulator(column, n_trials=1, dt=0.5).run(drives())
    assert "hnn-core" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"duration": 0.17}, ValueError, "seems to be in s.*Give 170"),
        ({"dt": 0.0}, ValueError, "dt must be a finite number of ms above 0"),
        ({"n_trials": 0}, ValueError, "n_trials must be at least 1"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be at least 1"),
        ({"seed": 0.5}, TypeError, "seed must be a whole number"),
        ({"cache": 3}, TypeError, "cache must be a path"),
    ],
)
def test_options_are_checked(column, installed, options, error, message):
    with pytest.raises(error, match=message):
        HnnSimulator(column, **options)


def test_faults_of_drives_are_told(column, installed):
    simulator = HnnSimulator(column, duration=50.0, progress=False)
    with pytest.raises(ValueError, match="'second' comes at 60 ms, after the trial of 50 ms"):
        simulator.run(drives())
    with pytest.raises(ValueError, match="cell_specific: each cell draws its own times"):
        simulator.run(drives(cell_specific=True), {"first": [20.0], "second": [30.0]})
    with pytest.raises(ValueError, match="one mapping for each set"):
        simulator.run_many([drives()], {"first": [20.0]})


def test_what_must_be_installed_is_told(column, installed, monkeypatch):
    about = "Metadata-Version: 2.1\nName: hnn-core\nVersion: 0.7.0\n"
    (installed / "hnn_core-0.6.1.dist-info" / "METADATA").write_text(about)
    with pytest.warns(UserWarning, match=r"hnn-core is 0.7.0.*hnn-core==0.6.1"):
        HnnSimulator(column)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"HnnSimulator needs hnn-core 0.6.1 and NEURON 8.2.7"):
        HnnSimulator(column)


@pytest.mark.slow
def test_the_network_itself_is_simulated(tmp_path):
    hnn_core = pytest.importorskip("hnn_core")
    pair = drives(time=5.0, spread=1.0)
    pair[1] = pair[1].replace(time=9.0)
    response = HnnSimulator(duration=16.0, n_jobs=1, n_trials=2, progress=False).run(pair)
    write_hnn(pair, tmp_path / "column.json")
    network = hnn_core.read_network_configuration(tmp_path / "column.json")
    theirs = hnn_core.simulate_dipole(network, tstop=16.0, n_trials=2, verbose=False)
    assert Path(hnn_core.__file__).exists() and len(theirs) == 2
    for ours, each in zip(response.trials, theirs, strict=True):
        np.testing.assert_allclose(ours.nanoampere_metres, each.data["agg"], rtol=1e-12, atol=0)
        np.testing.assert_allclose(ours.times * 1e3, each.times, atol=1e-6)
    events = [
        [time for cell in trial for time in cell]
        for trial in (network.external_drives["first"]["events"])
    ]
    np.testing.assert_array_equal(response.event_times["first"], events)
