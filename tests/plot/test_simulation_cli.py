"""The shell command that simulates whole brains, and its report."""

import re

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import bayesdcm
from bayesdcm import cli
from bayesdcm.commands.simulate import _kept, _nodes
from bayesdcm.observe import HrfConvolution
from bayesdcm.report import simulation_measures, write_simulation_report

NAMES = ["V1", "V5", "SPC"]
# One structure, so that all of them are compiled once.
LINEAR = [
    *("--node", "linear", "--coupling", "additive", "--strength", 0.3, "--white", 1.0),
    *("--step", 0.01, "--transient", 1, "--duration", 20, "--sampling-interval", 0.1, "--quiet"),
]


@pytest.fixture
def files(tmp_path):
    """Weights and lengths of three regions, and a recording of them."""
    recorded = np.random.default_rng(0).normal(size=(40, 3))
    recorded[:, 1] += recorded[:, 0]
    for name, rows in (
        ("weights", [[0, 1, 0], [1, 0, 2], [0, 2, 0]]),
        ("lengths", [[0, 50, 0], [50, 0, 90], [0, 90, 0]]),
        ("recording", recorded),
    ):
        np.savetxt(tmp_path / f"{name}.csv", rows, delimiter=",", header="V1,V5,SPC", comments="")
    (tmp_path / "tau.csv").write_text("region,value\nSPC,70\nV5,90\nV1,110\n")
    return tmp_path


@pytest.fixture
def run(files):
    def call(*arguments):
        start = ["simulate", str(files / "weights.csv"), "--lengths", str(files / "lengths.csv")]
        return CliRunner().invoke(cli.app, [*start, *map(str, arguments)])

    return call


def measure(done, name):
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(name)]
    return re.findall(r"-?\d\.\d{3}|-", line.removeprefix(name))


def test_series_measures_and_report(run, files):
    out, report = files / "brain.nc", files / "brain.html"
    done = run(
        *LINEAR, "--recording", files / "recording.csv", "--set", f"tau={files / 'tau.csv'}",
        "--out", out, "--report", report,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    with xr.open_dataset(out, engine="h5netcdf") as saved:
        brain = saved.load()
    assert brain.x.dims == ("time", "region") and brain.x.shape == (200, 3)
    assert brain.region.values.tolist() == NAMES
    fc = np.corrcoef(brain.x.values.T)
    pairs = fc[np.triu_indices(3, 1)]
    assert float(measure(done, "mean correlation of two regions")[0]) == pytest.approx(
        pairs.mean(), abs=6e-4
    )
    coupling = np.corrcoef(pairs, [0.5, 0.0, 1.0])[0, 1]
    assert float(measure(done, "structure-function coupling")[0]) == pytest.approx(
        coupling, abs=6e-4
    )
    recorded = np.loadtxt(files / "recording.csv", delimiter=",", skiprows=1)
    match = np.corrcoef(pairs, np.corrcoef(recorded.T)[np.triu_indices(3, 1)])[0, 1]
    simulated, beside = measure(done, "correlation with the recorded FC")
    assert float(simulated) == pytest.approx(match, abs=6e-4) and beside == "-"
    page = report.read_text(encoding="utf-8")
    for part in (
        "20 s of 3 regions with linear nodes, signals travelling at 10 m/s; x recorded.",
        "<h3>Connectome</h3>",
        "<h3>Parameter by region: tau (ms)</h3>",
        "<h3>Functional connectivity</h3>",
        "a linear network on the same connectome reaches",
        "Linear, tau: by region",
        "https://doi.org/10.1371/journal.pone.0002148",
    ):
        assert part in page


def test_bold_of_settled_haemodynamics(run, files):
    out = files / "bold.nc"
    done = run(
        *LINEAR[:12], "--duration", 20, "--bold", "balloon", "--repetition-time", 2, "--out", out
    )
    assert done.exit_code == 0, done.output
    assert "Another 30 s before, in which haemodynamics settle, are left out." in done.stderr
    with xr.open_dataset(out, engine="h5netcdf") as saved:
        assert list(saved.data_vars) == ["bold"] and saved.bold.dims == ("time", "region")
        np.testing.assert_allclose(saved.time, np.arange(2, 21, 2))


def test_what_is_kept():
    model = bayesdcm.NetworkModel(bayesdcm.Linear(), [[0, 1], [1, 0]], speed=None)
    assert _kept(model, None, 2.0, None) == {"record": ["x"], "sampling_interval": 1e-3}
    kept = _kept(model, "gamma", 2.0, 0.01)
    assert kept.pop("observers") == [HrfConvolution("gamma", 2.0)]
    assert kept == {"record": ["x"], "sampling_interval": 0.01}


def test_faults_are_one_line(run, files):
    def fault(*arguments):
        done = run(*LINEAR, *arguments)
        assert done.exit_code == 1 and "Traceback" not in done.output
        return done.stderr

    assert "--set names 'beta', which is no constant of linear; it has tau" in fault(
        "--set", "beta=1"
    )
    (files / "tau.csv").write_text("region,value\nSPC,70\n")
    assert "has no value of V1, V5" in fault("--set", f"tau={files / 'tau.csv'}")
    assert "there is no file 'nowhere.csv'" in fault("--set", "tau=nowhere.csv")
    assert "coupled (what travels) names 'E'" in fault("--coupled", "E:I")
    done = CliRunner().invoke(cli.app, ["simulate", "brain.csv"])
    assert "there is no file 'brain.csv', and it is not 'example'" in done.stderr
    lengths = ["--lengths", str(files / "lengths.csv")]
    done = CliRunner().invoke(cli.app, ["simulate", "example", *lengths])
    assert "this connectome has its own" in done.stderr
    assert run("--node", "magic").exit_code == 2


def test_every_node_has_a_name():
    nodes = _nodes()
    assert {"wilson_cowan", "jansen_rit", "wong_wang_ei", "linear"} <= set(nodes)
    assert nodes["montbrio_pazo_roxin"] is bayesdcm.MontbrioPazoRoxin


def test_measures_need_a_series_of_regions(files):
    connectome = bayesdcm.Connectome([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="no series with the axes time and region"):
        simulation_measures(xr.Dataset(), connectome)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_simulation_report(xr.Dataset(), connectome, files / "absent" / "report.html")
