"""The commands `group` and `compare`: what they read, print and write, and their exit codes."""

import os
import signal
import types
from dataclasses import dataclass, replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.io
from typer.testing import CliRunner

from bayesdcm import cli
from bayesdcm.commands.design_file import read_design, with_mean
from bayesdcm.compare import Evidence
from bayesdcm.group import EffectsSearch, GroupDiagnosis, GroupEffects, GroupFit, fit_group
from bayesdcm.group.gaussian_effects import ReducedEffects
from bayesdcm.observe import gaussian

REGRESSORS = np.stack([np.linspace(-1, 1, 16), np.linspace(-1, 1, 16) ** 2], axis=1)
NAMES = ("sub-01", "sub-02", "sub-03", "sub-04")


@dataclass(frozen=True)
class Line:
    """Two weights, as a site A of labelled connections."""

    scale: float = 1.0
    observed_site = "y"

    def program(self, data):
        return partial(self.sample, self.prepare(data))

    def prepare(self, data):
        return jnp.asarray(data, float)

    def sample(self, y):
        A = numpyro.sample("A", dist.Normal(np.zeros(2), self.scale * np.ones(2)).to_event(1))
        numpyro.sample("y", gaussian(REGRESSORS @ A, 2.0), obs=y)

    def labels(self, data):
        return {"A": ["A[V5, V1]", "A[V1, V5]"]}

    def dims(self):
        return {}

    coords = constants = lambda self, data: {}

    def restore(self, values, data):
        return values

    arrange = restore


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return {
        name: REGRESSORS @ [0.5 + 0.2 * i, 0.0] + 0.3 * rng.normal(size=16)
        for i, name in enumerate(NAMES)
    }


@pytest.fixture
def run():
    """Run the command in this process; gives exit code, stdout and stderr."""

    def call(*arguments):
        return CliRunner().invoke(cli.app, [str(a) for a in arguments])

    return call


@pytest.fixture
def files(tmp_path, data, monkeypatch):
    """Files whose content the reader makes up: SPM's models take long to compile."""

    def read(path):
        if path.stem not in data:
            raise ValueError(f"'{path}' is not a MATLAB file")
        return types.SimpleNamespace(model=Line(), data=data[path.stem], estimates=None)

    monkeypatch.setattr("bayesdcm.models.spm.read_spm_dcm", read)
    return [tmp_path / f"{name}.mat" for name in NAMES]


def test_a_group_file_is_taken_apart(run, data, tmp_path, monkeypatch):
    """People of a GCM by name, and the first of several models, which is said."""
    path = tmp_path / "GCM_study.mat"
    scipy.io.savemat(path, {"GCM": np.array([[1.0]])})

    def read(found):
        assert found == path
        return {
            name: {
                f"model {i + 1}": types.SimpleNamespace(model=Line(scale), data=data[name])
                for i, scale in enumerate((1.0, 0.05))
            }
            for name in NAMES
        }

    monkeypatch.setattr("bayesdcm.models.spm_group.read_spm_group", read)
    done = run("group", path, "--no-search", "--quiet")
    assert done.exit_code == 0, done.output
    assert "has 2 models a person; the first" in done.stdout
    assert all(name in done.stdout for name in NAMES)


@pytest.fixture
def design(tmp_path):
    path = tmp_path / "design.csv"
    rows = [f"{name},{20 + 10 * i},{(-1) ** i},1" for i, name in enumerate(reversed(NAMES))]
    path.write_text("\n".join(["subject,age,patients,constant", *rows]))
    return path


@pytest.fixture
def search(monkeypatch):
    """Answer a search, which takes long to compile, with one made up."""

    def answer(self):
        pairs = [(c, p) for c in self.covariates for p in self.parameters]
        models = pd.DataFrame([[True], [False]], columns=[f"{c}: {p}" for c, p in pairs[:1]])
        models["change"], models["probability"] = [0.0, -2.0], [0.88, 0.12]
        best = ReducedEffects(
            self.covariates, self.parameters, 0.0, self.centre, self.spread, 1.0, ()
        )
        return EffectsSearch(models, self.mean * 0 + 0.875, self.mean, self.sd, best)

    monkeypatch.setattr(GroupEffects, "search", answer)


@pytest.fixture(scope="module")
def folders(data, tmp_path_factory):
    """Groups of two models on disk."""
    root = tmp_path_factory.mktemp("models")
    for name, scale in (("wide", 1.0), ("narrow", 0.05)):
        fit_group(Line(scale), data, out=root / name, progress=False)
    return root / "wide", root / "narrow"


def assert_one_line(done, *parts):
    lines = done.stderr.strip().splitlines()
    assert done.exit_code == 1, done.output
    assert lines[-1].startswith("bayesdcm: error: ")
    for part in parts:
        assert part in lines[-1], lines[-1]
    assert "Traceback" not in done.output


# bayesdcm group


def test_group_prints_subjects_and_effects(run, files, design, search, tmp_path):
    out = tmp_path / "out"
    done = run("group", *files, "--out", out, "--design", design, "--covariates", "age")
    assert done.exit_code == 0, done.output
    assert "fits have no problem" in done.stdout
    assert "Covariate age is centred: its mean, 35, was subtracted." in done.stdout
    assert "patients" not in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("age ")]
    assert [row[1:3] for row in rows] == [["A[V5,", "V1]"], ["A[V1,", "V5]"]]
    # The younger a subject, the larger its weight: files and design are in opposite orders.
    assert float(rows[0][3]) < 0 and rows[0][-1] == "0.875"
    assert "4 subjects, Line(scale=1.0)" in done.stderr
    assert "Line" not in done.stdout
    assert sorted(path.stem for path in out.glob("*.nc")) == list(NAMES)


def test_covariates_are_centred_over_who_was_fitted(run, files, design, data, monkeypatch):
    monkeypatch.setitem(data, "sub-01", np.full(16, np.nan))
    seen = []
    peb = GroupEffects.summary
    monkeypatch.setattr(GroupEffects, "summary", lambda self: seen.append(self) or peb(self))
    done = run("group", *files, "--design", design, "--covariates", "age", "--no-search")
    assert "sub-01" in done.stdout and "3 subjects" in done.stdout, done.output
    assert "Covariate age is centred: its mean, 30, was subtracted." in done.stdout
    assert seen[0].design["age"].tolist() == [10.0, 0.0, -10.0]


def test_group_says_what_the_search_pruned(run, files, search, monkeypatch):
    made_up = GroupEffects.search

    def answer(self):
        found = made_up(self)
        label = self.parameters[1]
        off = replace(found.best, off=((self.covariates[0], label),))
        present = found.present.copy()
        present.loc[label] = np.nan
        return replace(found, best=off, present=present)

    monkeypatch.setattr(GroupEffects, "search", answer)
    done = run("group", *files)
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("mean A")]
    assert [row[-1] for row in rows] == ["0.875", "pruned"]
    assert "pruned: switched off by the greedy search before its last set of models" in done.stdout


@pytest.mark.slow
def test_group_reports(run, files, design, search, tmp_path):
    report = tmp_path / "group.html"
    done = run("group", *files, "--design", design, "--report", report)
    assert done.exit_code == 0, done.output
    page = report.read_text(encoding="utf-8")
    for words in (
        "Effects on the group",
        "Variability between subjects",
        "sub-03",
        "Evidence for connections",
        "Subjects against the group: age",
        "Subjects against the group: patients",
        "Data and fit of the subjects",
        "P(there)",
        "NeuroImage 200:12-25",
        "Explained variance is the least",
        "Covariate age is centred",
    ):
        assert words in page, words
    assert "<script" not in page and "<img" not in page


def test_group_goes_on_where_it_stopped(run, files, folders, monkeypatch):
    def fail(*_):
        raise AssertionError("fitted again")

    def glance(self, progress):
        table = pd.DataFrame({"converged": True, "problems": 0}, index=self.subjects)
        return GroupDiagnosis({}, {}, table)

    monkeypatch.setattr("bayesdcm.infer.many_inversions.run_laplace", fail)
    monkeypatch.setattr(GroupFit, "diagnose", glance)
    done = run("group", *files, "--out", folders[0], "--no-search", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert "present" not in done.stdout and "probability" in done.stdout


def test_a_file_that_is_given_twice(run, files):
    done = run("group", files[0], files[1], files[0])
    assert_one_line(done, "sub-01.mat' is given more than once; name every file once")


def test_group_of_one_has_no_effects(run, files):
    done = run("group", files[0])
    assert done.exit_code == 0, done.output
    assert "No effects on the group: there are fewer than two fits." in done.stdout


def test_group_interrupted(run, files, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("bayesdcm.group.many_fits.fit_group", interrupt)
    done = run("group", *files, "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert "bayesdcm: interrupted" in done.stderr


def test_group_stopped_midway_says_how_to_go_on(run, files, monkeypatch, data, tmp_path):
    some = fit_group(Line(), {name: data[name] for name in NAMES[:2]}, progress=False)

    def stop_early(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            return some

    monkeypatch.setattr("bayesdcm.group.many_fits.fit_group", stop_early)
    done = run("group", *files, "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert "2 of 4 fits are done; the same command goes on from there" in done.stderr


def test_group_errors_come_before_the_work(run, files, design, tmp_path, monkeypatch, data):
    monkeypatch.setattr("bayesdcm.group.many_fits.fit_group", lambda *_, **__: pytest.fail("work"))
    other = tmp_path / "other.mat"
    assert_one_line(run("group", *files[:2], other), "not a MATLAB file")
    assert_one_line(run("group", *files, "--report", tmp_path / "no" / "r.html"), "does not exist")
    done = run("group", *files[:3], "--design", design)
    assert_one_line(done, "must hold the names of the files", "no file of 'sub-04'")
    done = run("group", *files, "--design", design, "--covariates", "age, sex")
    assert_one_line(done, "has no column 'sex'", "'age', 'patients', 'constant'")
    head = design.read_text().splitlines()[0]
    design.write_text("\n".join([head, *(f"{n},{i},{2 * i},1" for i, n in enumerate(NAMES))]))
    assert_one_line(run("group", *files, "--design", design), "linear combinations")
    assert_one_line(run("group", *files, "--integrator", "bilinear"), "for models of task fMRI")


def test_group_has_one_model_for_all(run, files, data, monkeypatch):
    def read(path):
        scale = 1.0 if path.stem != "sub-03" else 2.0
        return types.SimpleNamespace(model=Line(scale), data=data[path.stem])

    monkeypatch.setattr("bayesdcm.models.spm.read_spm_dcm", read)
    assert_one_line(run("group", *files), "sub-03.mat' is not that in", "Line(scale=2.0)")


@pytest.mark.parametrize(
    "arguments",
    [["--method", "magic"], ["--between", "none"], ["--covariates", "age"], ["--no-such"]],
)
def test_group_wrong_usage_is_2(run, files, arguments):
    assert run("group", *files, *arguments).exit_code == 2


# The design


def test_designs_are_put_in_order_and_centred(design):
    table, notes = with_mean(read_design(design, NAMES))
    assert list(table.columns) == ["mean", "age", "patients"]
    assert table.index.tolist() == list(NAMES)
    assert table["age"].tolist() == [15.0, 5.0, -5.0, -15.0]
    assert any("constant is the same for all subjects and left out" in note for note in notes)
    table, notes = with_mean(read_design(design, NAMES, ["age"]), centre=False)
    assert table["age"].tolist() == [50.0, 40.0, 30.0, 20.0] and notes == []


@pytest.mark.parametrize("mark", [",", ";", "\t", ", "])
def test_designs_may_have_other_separators(tmp_path, mark):
    path = tmp_path / "participants.tsv"
    rows = [("participant_id", "age"), ("sub-02", "30.5"), ("sub-01", "20")]
    path.write_text("\n".join(mark.join(row) for row in rows), encoding="utf-8-sig")
    table = read_design(path, NAMES[:2])
    assert table["age"].to_list() == [20.0, 30.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,age\nsub-01,3\nsub-02,old\n", "'age' of subject 'sub-02' .* is 'old'"),
        ("subject,age\nsub-01,3\nsub-02,\n", "leave out subjects whose values are missing"),
        ("subject\tage\nsub-01\t3\nsub-02\tn/a\n", "is 'n/a', which is a missing value"),
        ("subject;age\nsub-01;3\nsub-02;4,5\n", "is '4,5', which is no number; write decimals"),
        ("subject,age\nsub-01,3\nsub-01,4\n", "two rows of subject 'sub-01'"),
        ("subject,mean\nsub-01,3\nsub-02,4\n", "named 'mean', as the group mean is"),
        ("subject,age\nDCM_1,3\n", "no row for 'sub-01', 'sub-02'; there is no file of 'DCM_1'"),
        ("", "not a table of comma-separated values"),
    ],
)
def test_designs_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "design.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        with_mean(read_design(path, NAMES[:2]))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_design(tmp_path / "absent.csv", NAMES)


# bayesdcm compare


def test_compare_models_over_subjects(run, folders, tmp_path):
    figure = tmp_path / "models.svg"
    done = run("compare", *folders, "--figure", figure)
    assert done.exit_code == 0, done.output
    assert "Models over 4 subjects, who may have different models (random effects)" in done.stdout
    assert done.stdout.index("wide") < done.stdout.index("narrow")
    assert "protected" in done.stdout and "omnibus risk" in done.stdout
    assert figure.read_text().lstrip().startswith("<?xml")
    fixed = run("compare", *folders, "--effects", "fixed", "--quiet")
    assert "all have the same model" in fixed.stdout and fixed.stderr == ""


def test_compare_leaves_out_subjects_that_lack_a_model(run, folders, data, tmp_path):
    some = {name: data[name] for name in NAMES[1:]}
    fit_group(Line(), some, out=tmp_path / "medium", progress=False)
    done = run("compare", *folders, tmp_path / "medium")
    assert "Left out: sub-01, who has no fit of model medium" in done.stdout
    assert "Models over 3 subjects" in done.stdout


def test_compare_refuses_models_of_other_data(run, folders, data, tmp_path):
    sets = {name: values * (1 + (name == NAMES[2])) for name, values in data.items()}
    fit_group(Line(), sets, out=tmp_path / "medium", progress=False)
    found = run("compare", *folders, tmp_path / "medium")
    assert_one_line(found, "subject 'sub-03'", "'medium' and 'wide' differ: y has other values")


def test_compare_saved_fits(run, monkeypatch):
    known = {
        "wide": Evidence(-10.0, 0.1, "bridge"),
        "narrow": Evidence(-8.0, 0.1, "bridge", problems=("?",)),
    }
    monkeypatch.setattr("bayesdcm.infer.loading.load_fit", lambda path: known[path.stem])
    done = run("compare", "wide.nc", "narrow.nc")
    assert done.exit_code == 0, done.output
    assert "Models compared by log evidence, nats, the best first" in done.stdout
    assert done.stdout.index("narrow") < done.stdout.index("wide")
    assert "bayesdcm: warning: numbers of narrow are doubtful" in done.stderr
    assert run("compare", "wide.nc", "narrow.nc", "--quiet").stderr == ""


@pytest.mark.slow
def test_compare_saved_fits_by_prediction(run, program_fit, tmp_path):
    paths = [program_fit.save(tmp_path / f"{name}.nc") for name in ("one", "same")]
    done = run("compare", *paths)
    assert done.exit_code == 0, done.output
    assert "Models compared by log evidence" in done.stdout and "free_energy" in done.stdout
    loo = run("compare", *paths, "--by", "loo")
    assert loo.exit_code == 0, loo.output
    assert "elpd" in loo.stdout and "dse" in loo.stdout


@pytest.mark.parametrize(
    "arguments",
    [["one"], ["FOLDER", "file.nc"], ["FOLDER", "FOLDER", "--by", "loo"],
     ["a.nc", "b.nc", "--effects", "fixed"], ["a.nc", "b.nc", "--by", "luck"]],
)  # fmt: skip
def test_compare_wrong_usage_is_2(run, folders, arguments):
    given = [folders[0] if a == "FOLDER" else a for a in arguments]
    assert run("compare", *given).exit_code == 2


def test_compare_errors_are_one_line(run, folders, tmp_path):
    assert_one_line(run("compare", "absent.nc", "other.nc"), "there is no file")
    assert_one_line(run("compare", *folders, "--figure", tmp_path / "a.txt"), "must end in .png")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_line(run("compare", folders[0], empty), "holds no group of fits")
