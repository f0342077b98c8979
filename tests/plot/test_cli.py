"""The shell command: what it prints where, what it writes, and its exit codes."""

import os
import signal
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import scipy.io
from typer.testing import CliRunner

import bayesdcm
from bayesdcm import AmortisedEstimator, CovarianceData, cli
from bayesdcm.commands.tables import bold_of_table
from bayesdcm.infer.method import as_method


@pytest.fixture
def run():
    """Run the command in this process; gives exit code, stdout and stderr."""

    def call(*arguments):
        return CliRunner().invoke(cli.app, [str(a) for a in arguments])

    return call


@pytest.fixture
def fitted(study, monkeypatch):
    """Answer `fit` with a fit made before, and remember how it was asked."""
    asked = []

    def answer(model, data, method, **options):
        method = as_method(method or "laplace", {})
        asked.append((model, method.name, options | method.options()))
        return study.fits[method.name]

    monkeypatch.setattr("bayesdcm.infer.fitting.fit", answer)
    return asked


def test_help_and_version_in_a_fresh_process():
    code = (
        "import sys; from bayesdcm.cli import app\n"
        "try: app([sys.argv[1]])\n"
        "finally: print(sorted({'jax', 'numpyro', 'arviz', 'matplotlib'} & set(sys.modules)))"
    )
    for flag, expected in (("--help", "demo"), ("--version", f"bayesdcm {bayesdcm.__version__}")):
        done = subprocess.run(
            [sys.executable, "-c", code, flag], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout and done.stdout.strip().endswith("[]")


def test_an_integrator_is_for_task_fmri_only(run, monkeypatch):
    model = bayesdcm.EvokedDCM([[0]], [[0]], [[0]], inputs=[[1]], observation="lfp")
    spm = types.SimpleNamespace(model=model, data=None)
    monkeypatch.setattr("bayesdcm.models.spm.read_spm_dcm", lambda path: spm)
    done = run("fit", "DCM_erp.mat", "--integrator", "nonlinear")
    assert done.exit_code == 1
    assert "--integrator is for models of task fMRI; leave it out" in done.stderr


@pytest.mark.slow
def test_files_of_rest_are_fitted_and_reported(run, tmp_path):
    reference = np.load("tests/data/spm_spectra.npz")
    two = reference["signal_3"][:, :2], reference["spectra_3"][:, :2, :2]
    signals = {"y": two[0], "csd": two[1], "Hz": reference["frequencies_3"], "dt": 2.0}
    signals["name"] = np.array([["V1", "V5"]], dtype=object)
    dcm = {"a": np.ones((2, 2)), "Y": signals, "options": {"induced": 1.0, "order": 8.0}}
    files = [tmp_path / f"DCM_{name}.mat" for name in ("ann", "bob")]
    for file in files:
        scipy.io.savemat(file, {"DCM": dcm})
    few, report = ("--draws", 50), tmp_path / "rest.html"
    done = run("fit", files[0], "--report", report, *few)
    assert done.exit_code == 0, done.stderr
    assert "SpectralDCM(2 regions; connections: 4 A; likelihood='spm'" in done.stdout
    assert "A[V5, V1]" in done.stdout and "regional_noise[V5]" in done.stdout
    assert "cross-spectra of 2 channels at 32 frequencies" in report.read_text(encoding="utf-8")
    done = run("group", *files, "--no-search", *few)
    assert done.exit_code == 0, done.stderr
    assert "Effects on the group, 2 subjects" in done.stdout and "A[V1, V5]" in done.stdout


def table_of_signals(path):
    """Signals of four regions at rest, of which the third drives the fourth."""
    A = -0.5 * np.eye(4)
    A[3, 2] = 0.4
    names = [f"R{k + 1}" for k in range(4)]
    design = bayesdcm.data.BoldDesign(300, 1.0, None, None, names)
    model = bayesdcm.RegressionDCM(np.ones((4, 4)), measurement_noise=0.1)
    data = model.simulate({"A": A, "log_precision": np.full(4, 2.0)}, design, seed=0)
    pd.DataFrame(data.signal, columns=names).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_tables_of_signals_are_fitted_by_regression(run, study, tmp_path):
    file, out, report = (
        table_of_signals(tmp_path / "run.csv"),
        tmp_path / "a.nc",
        tmp_path / "a.html",
    )
    done = run("fit", file, "--repetition-time", 1, "--out", out, "--report", report)
    assert done.exit_code == 0, done.stderr
    assert "method: variational_bayes" in done.stdout and "A[R4, R3]" in done.stdout
    result = bayesdcm.load_fit(out)
    assert result.mean["A"][3, 2] == pytest.approx(0.4, abs=4 * result.sd["A"][3, 2])
    assert "RegressionDCM(4 regions, 0 inputs" in report.read_text(encoding="utf-8")
    events = tmp_path / "events.tsv"
    events.write_text("onset\tduration\ttrial_type\n10\t20\tface\n90\t20\tface\n")
    done = run("fit", file, "--repetition-time", 1, "--events", events, "--sparse")
    assert done.exit_code == 0, done.stderr
    assert "1 input, sparse; connections: 16 A, 0 B, 4 C" in done.stdout
    done = run("fit", study.path, "--model", "regression")
    assert done.exit_code == 0, done.stderr
    assert "RegressionDCM(2 regions" in done.stdout and "SPM" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run.csv",), "--repetition-time is needed with"),
        (("SPM", "--sparse"), "give --model regression, too"),
        (("SPM", "--repetition-time", 2), "are for tables of signals"),
        (("run.csv", "--repetition-time", 1, "--integrator", "bilinear"), "--integrator is for"),
    ],
)
def test_options_of_tables_are_refused_elsewhere(run, study, tmp_path, arguments, message):
    places = {"run.csv": table_of_signals(tmp_path / "run.csv"), "SPM": study.path}
    done = run("fit", *(places.get(each, each) for each in arguments))
    assert done.exit_code == 1 and message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",V1,V2\n0,1.5,2\n1,2,1\n", "the first column of .* has no name: .*index=False"),
        ("V1,V1\n1.5,2\n2,1\n", "2 columns of .* have the name 'V1'; regions must have different"),
        ("0.5,2\n2,1\n", "the first line of .* must hold names of regions, got numbers, 0.5, 2"),
        ("V1;V2\n1,5;2\n2;1\n", "column 'V1' of .* holds text, '1,5' in scan 1; .*decimal points"),
        ("V1,V2\n1,5,2,3\n2,0,1,4\n", "more values in a line than the first line has names, 2"),
        ("", "is not a table of values separated by commas"),
    ],
)
def test_faults_of_tables_of_signals_name_the_column(tmp_path, text, message):
    path = tmp_path / "run.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"FILE: .*{message}"):
        bold_of_table(path, 1.0)


def test_regions_of_tables_may_be_numbered(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("7,12\n1.5,2\n2,1\n1,1\n")
    assert bold_of_table(path, 1.0).region_names == ("7", "12")


@pytest.mark.slow
def test_whole_brain_of_a_table_and_a_connectome(run, tmp_path):
    file, weights = table_of_signals(tmp_path / "run.csv"), tmp_path / "weights.csv"
    names = [f"R{i + 1}" for i in range(4)]
    pd.DataFrame(1.0 - np.eye(4), names, names).to_csv(weights)
    done = run("fit", file, "--repetition-time", 1, "--connectome", weights)
    assert done.exit_code == 0, done.stderr
    assert "WholeBrainDCM(4 regions, linear" in done.stdout and "strength" in done.stdout
    done = run("fit", file, "--repetition-time", 1, "--connectome", weights, "--sparse")
    assert done.exit_code == 1 and "--connectome asks for a whole-brain model" in done.stderr


def signals(path, names, scans):
    """White signals, which have as many degrees of freedom as scans."""
    shared = np.random.default_rng(0).normal(size=(scans, len(names) + 1))
    pd.DataFrame(shared[:, 1:] + shared[:, :1], columns=names).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_estimators_are_saved_and_applied_to_other_people(run, tmp_path):
    names, weights = ["V1", "V5", "SPC"], tmp_path / "weights.csv"
    pd.DataFrame(1.0 - np.eye(3), names, names).to_csv(weights)
    ann, bob, cid = (
        signals(tmp_path / f"{name}.csv", names, scans)
        for name, scans in (("ann", 200), ("bob", 220), ("cid", 60))
    )
    tr, learnt = ("--repetition-time", 1), tmp_path / "estimator.nc"
    few = ("--method", "amortised", "--simulations", 50, "--epochs", 1, "--draws", 60)
    done = run("fit", ann, *tr, "--connectome", weights, *few, "--save-estimator", learnt)
    assert done.exit_code == 0, done.stderr
    assert f"Estimator saved to {learnt}" in done.stderr
    out = tmp_path / "bob.nc"
    done = run("fit", bob, *tr, "--estimator", learnt, "--out", out)
    assert done.exit_code == 0, done.stderr
    again = AmortisedEstimator.load(learnt)
    with pytest.raises(ValueError, match="holds an estimator, and no fit; .*AmortisedEstimator"):
        bayesdcm.load_fit(learnt)
    data = CovarianceData.from_bold(bayesdcm.BoldData(pd.read_csv(bob), 1.0))
    expected, found = again.fit(data).posterior.draws, bayesdcm.load_fit(out).posterior.draws
    assert found.shape == (1, 60, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # Fewer scans than in training: the same posterior would be too sure of itself.
    assert "degrees of freedom" not in done.stdout
    done = run("fit", cid, *tr, "--estimator", learnt, "--connectome", weights)
    assert done.exit_code == 0, done.stderr
    assert "degrees of freedom, the simulations" in done.stdout
    assert "so that intervals are too narrow" in done.stdout
    other, fewer = tmp_path / "other.csv", tmp_path / "fewer.csv"
    pd.DataFrame(2.0 - 2 * np.eye(3), names, names).to_csv(other)
    pd.DataFrame(1.0 - np.eye(2), names[:2], names[:2]).to_csv(fewer)
    two = signals(tmp_path / "two.csv", names[:2], 200)
    moved = signals(tmp_path / "moved.csv", names[::-1], 200)
    apply = (*tr, "--estimator", learnt)
    for arguments, message in (
        ((bob, *tr, "--estimator", out), "holds a fit, and no estimator"),
        ((bob, *tr, "--estimator", weights), "is not a netCDF file"),
        ((bob, *tr, "--estimator", tmp_path / "none.nc"), "there is no file"),
        ((bob, "--estimator", learnt), "--repetition-time is needed with"),
        ((bob, *apply, "--connectome", other), "has other weights than the connectome that"),
        ((bob, *apply, "--connectome", fewer), "has 2 regions, but"),
        ((two, *apply), "data has 2 regions"),
        ((moved, *apply), "bring both in one order"),
        ((bob, *apply, *few), "leave out --method with its options"),
        ((bob, *apply, "--method", "nuts"), "leave out --method with its options"),
        ((bob, *apply, "--sparse"), "leave out --sparse"),
        ((out, *apply), "--estimator is for tables of signals"),
        ((bob, *tr, *few, "--save-estimator", learnt), "give --method amortised and --connectome"),
        (
            (bob, *tr, "--connectome", weights, "--save-estimator", learnt),
            "give --method amortised and --connectome",
        ),
    ):
        done = run("fit", *arguments)
        assert done.exit_code == 1 and message in done.stderr, (arguments, done.output)


def test_fit_prints_saves_and_reports(run, study, tmp_path):
    out, report = tmp_path / "fit.nc", tmp_path / "fit.html"
    done = run("fit", study.path, "--draws", 100, "--out", out, "--report", report)
    assert done.exit_code == 0, done.output
    assert f"free energy: {study.laplace.log_evidence:.2f} nats" in done.stdout
    assert "A[V5, V1]" in done.stdout and "Diagnosis" in done.stdout
    assert "SPM's free energy in the file is -321.50 nats" in done.stdout
    assert "should agree within about 1 nat" in done.stdout
    table = done.stdout.partition("Compared with SPM's estimates in the file")[2]
    mean, sd, theirs, their_sd = table.partition("C[V1, Photic]")[2].split()[:4]
    assert (float(theirs), float(their_sd)) == (study.true["C"][0, 0], 1.0)
    assert float(mean) == pytest.approx(study.laplace.mean["C"][0, 0], abs=1e-3)
    assert float(sd) == pytest.approx(study.laplace.sd["C"][0, 0], abs=1e-3)
    assert "Fitting by variational Laplace" in done.stderr
    assert "Fitting" not in done.stdout
    assert bayesdcm.load_fit(out).log_evidence == pytest.approx(study.laplace.log_evidence)
    page = report.read_text(encoding="utf-8")
    assert "DCM_study.mat" in page
    # A sentence, a figure and a table.
    assert "Against SPM, laplace has its means at most" in page
    assert "<h3>Agreement of the fits</h3>" in page and "<h2>Comparison of the fits</h2>" in page


def test_options_reach_the_method(run, study, fitted):
    done = run(
        "fit", study.path, "--method", "nuts", "--integrator", "nonlinear", "--seed", 3,
        "--chains", 2, "--draws", 50, "--warmup", 25, "--target-accept", 0.85, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (model, method, options), *_ = fitted
    assert (model.integrator, method) == ("nonlinear", "nuts")
    assert options == {
        "seed": 3, "progress": False, "chains": 2, "draws": 50, "warmup": 25, "target_accept": 0.85,
    }  # fmt: skip
    assert done.stderr == ""
    assert "r_hat" in done.stdout
    run("fit", study.path, "--method", "nuts", "--starts", 4)
    assert fitted.pop()[1:] == ("nuts", {"seed": 0, "progress": True, "starts": 4})
    done = run("fit", study.path, "--method", "svi", "--guide", "mean_field", "--steps", 50)
    assert fitted[1][2]["guide"] == "mean_field" and fitted[1][2]["steps"] == 50
    assert "evidence lower bound" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "magic"],
        ["--chains", "2"],
        ["--method", "nuts", "--guide", "flow"],
        ["--method", "nuts", "--draws", "0"],
        ["--no-such-option"],
    ],
)
def test_wrong_usage_is_2(run, study, fitted, arguments):
    assert run("fit", study.path, *arguments).exit_code == 2
    assert fitted == []


def test_no_command_is_wrong_usage_and_shows_help(run):
    done = run()
    assert done.exit_code == 2 and "demo" in done.output


def assert_one_line(done, *parts):
    lines = done.stderr.strip().splitlines()
    assert done.exit_code == 1
    assert lines[-1].startswith("bayesdcm: error: ")
    for part in parts:
        assert part in lines[-1]
    assert "Traceback" not in done.output


def test_errors_of_files_are_one_line_and_1(run, tmp_path):
    assert_one_line(run("fit", tmp_path / "absent.mat"), "there is no file")
    (tmp_path / "DCM.mat").write_bytes(b"nothing")
    assert_one_line(run("fit", tmp_path / "DCM.mat"), "not a MATLAB file")
    assert_one_line(run("show", tmp_path / "absent.nc"), "there is no file")
    assert_one_line(run("show", tmp_path / "DCM.mat"), "Fit.save")


def test_places_that_cannot_be_written_are_found_before_the_work(run, study, fitted, tmp_path):
    for option in ("--out", "--report"):
        done = run("fit", study.path, option, tmp_path / "absent" / "result")
        assert_one_line(done, "absent", "does not exist")
        assert_one_line(run("fit", study.path, option, tmp_path), "is a folder")
    (tmp_path / "file").write_text("")
    assert_one_line(run("demo", "--out", tmp_path / "file"), "cannot be made")
    assert fitted == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission(run, study, fitted, tmp_path):
    tmp_path.chmod(0o500)
    assert_one_line(run("fit", study.path, "--out", tmp_path / "a.nc"), "cannot be written")
    tmp_path.chmod(0o700)


def test_warnings_are_one_line_on_stderr(run, study, fitted, monkeypatch):
    import warnings

    def warn(*_, **__):
        warnings.warn("check\nthe delays", stacklevel=1)
        return study.laplace

    monkeypatch.setattr("bayesdcm.infer.fitting.fit", warn)
    assert "bayesdcm: warning: check the delays\n" in run("fit", study.path).stderr
    assert run("fit", study.path, "--quiet").stderr == ""


def test_interrupted_before_anything_was_drawn(run, study, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("bayesdcm.infer.fitting.fit", interrupt)
    done = run("fit", study.path, "--out", tmp_path / "a.nc")
    assert done.exit_code == 130
    assert "bayesdcm: interrupted" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupted_runs_save_what_is_finished(run, study, monkeypatch, tmp_path):
    def stop_early(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            return study.nuts

    monkeypatch.setattr("bayesdcm.infer.fitting.fit", stop_early)
    out = tmp_path / "a.nc"
    done = run("fit", study.path, "--method", "nuts", "--out", out)
    assert done.exit_code == 130
    assert "A[V5, V1]" in done.stdout
    assert bayesdcm.load_fit(out).method == "nuts"


def test_show_prints_and_compares(run, saved, monkeypatch):
    reports = []
    monkeypatch.setattr(
        "bayesdcm.report.write_report", lambda fits, path, **_: reports.append((fits, path))
    )
    one = run("show", saved["nuts"])
    assert one.exit_code == 0
    assert "r_hat" in one.stdout and "Diagnosis" in one.stdout and "Compared" not in one.stdout
    both = run("show", saved["laplace"], saved["nuts"], "--report", "both.html")
    assert both.exit_code == 0, both.output
    assert "Compared with nuts, the worst agreement first" in both.stdout
    assert "sd_ratio" in both.stdout
    assert both.stderr == "Report: both.html\n"
    ((fits, path),) = reports
    assert (list(fits), path.name) == (["laplace", "nuts"], "both.html")


def test_demo(run, study, fitted, monkeypatch, tmp_path):
    example = types.SimpleNamespace(
        model=study.model, data=study.data, parameters=study.true, name="small",
        description="A small example.",
    )  # fmt: skip
    module = types.ModuleType("bayesdcm.models.examples")
    module.load_example = lambda name: example
    monkeypatch.setitem(sys.modules, "bayesdcm.models.examples", module)
    out = tmp_path / "new" / "folder"
    done = run("demo", "--out", out, "--seed", 5)
    assert done.exit_code == 0, done.output
    assert [(method, options["seed"]) for _, method, options in fitted] == [
        ("laplace", 5), ("nuts", 5),
    ]  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == ["laplace.nc", "nuts.nc", "report.html"]
    assert "Variational Laplace against NUTS" in done.stdout
    assert "true parameters lie in the 90 % interval" in done.stdout
    assert done.stdout.splitlines()[-1] == f"Report: {out / 'report.html'}"
    assert "A small example." in done.stderr
