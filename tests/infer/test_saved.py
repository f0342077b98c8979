"""Every fit times everything that takes a fit: the same before and after a file."""

import dataclasses
import json
import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import arviz as az
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import bayesdcm
from bayesdcm import (
    BoldData,
    BoldDesign,
    Connectome,
    CovarianceData,
    CrossSpectralDCM,
    NetworkModel,
    SimulationObjective,
    SpectralData,
    SpectralDCM,
    TaskDCM,
    WholeBrainDCM,
    WilsonCowan,
    plot,
)
from bayesdcm.compare import compare_posteriors, log_evidence, reduce, search_reduced, stack_modes
from bayesdcm.data import EvokedData
from bayesdcm.data.head import SphereHead
from bayesdcm.group import Hierarchy, fit_group, load_group, peb, reestimate
from bayesdcm.infer import NUTS, Laplace, Posterior
from bayesdcm.infer.plain_objects import CLASSES, PlainWriter, from_plain
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.residuals import canonical_responses
from bayesdcm.infer.storage import read_header, write_fit
from bayesdcm.integrate import Euler, RungeKutta
from bayesdcm.models import DCM, EvokedDCM, RegressionDCM
from bayesdcm.neural import Bilinear, OrnsteinUhlenbeck
from bayesdcm.observe import Balloon, gaussian
from bayesdcm.report import write_report

DRAWS = 40
SHORT = {"chains": 2, "warmup": 30, "draws": DRAWS, "progress": False}


# Simulating by a model would compile another program of it: data are made by hand, where they can.


def task_model():
    # With an integrator that is not the usual one, and compiles in half the time.
    priors = {"A[V5, V1]": (0.1, 0.03)}
    return TaskDCM([[1, 0], [1, 1]], C=[[1], [0]], integrator="bilinear", priors=priors)


def task_data(seed):
    events = {"onset": [10.0, 50.0, 90.0], "duration": [15.0] * 3}
    design = BoldDesign.from_events(50, 2.5, events, ["V1", "V5"], input_names=["task"])
    microtime = design.input_dt * np.arange(len(design.inputs))
    response = canonical_responses(design.inputs, microtime, 2.5 * np.arange(50))[0][:, 0]
    response = np.outer(response / response.std(), [0.9, 0.6])
    signal = response + 0.3 * np.random.default_rng(seed).normal(size=(50, 2))
    run = {"inputs": design.inputs, "input_dt": design.input_dt, "input_names": ["task"]}
    return BoldData(signal, 2.5, **run, region_names=["V1", "V5"])


def evoked_fit():
    model = EvokedDCM(
        [[0, 0], [1, 0]], modulation=[[0, 0], [1, 0]], observation="lfp", source_names=["A1", "STG"]
    )
    times = 0.008 * np.arange(25)
    peak = np.exp(-(((times[:, None] - [0.09, 0.11]) / 0.03) ** 2))
    signal = np.stack([peak, 1.3 * peak]) + 0.05 * np.random.default_rng(1).normal(size=(2, 25, 2))
    data = EvokedData(signal, times, condition_names=["standard", "deviant"])
    return bayesdcm.fit(model, data, draws=DRAWS, progress=False)


def spectral_fit(likelihood, method):
    noise = np.random.default_rng(1).normal(size=(120, 2))
    for i in range(1, len(noise)):
        noise[i] += noise[i - 1] @ [[0.7, 0.2], [0.0, 0.7]]
    data = SpectralData.from_bold(BoldData(noise, 2.0, region_names=["V1", "V5"]), method)
    model = SpectralDCM([[1, 0], [1, 1]], likelihood)
    return bayesdcm.fit(model, data, draws=DRAWS, progress=False)


def cross_spectral_fit():
    forward = [[0, 0], [1, 0]]
    model = CrossSpectralDCM(forward, modulation=forward, neural="erp", source_names=["A1", "STG"])
    flat = np.tile(np.eye(2), (2, 12, 1, 1))
    design = SpectralData(
        flat, 4.0 * np.arange(1, 13), ["A1", "STG"], ["rest", "task"], degrees_of_freedom=40
    )
    data = model.simulate({prior.name: prior.mean for prior in model.priors}, design, seed=1)
    return bayesdcm.fit(model, data, draws=DRAWS, progress=False)


def whole_brain_fit():
    model = WholeBrainDCM([[0, 2, 1], [2, 0, 0], [1, 0, 0]], regional={"strength": "shrunk"})
    covariance = np.cov(np.random.default_rng(1).normal(size=(3, 20))) + 0.5
    data = CovarianceData(covariance, 200, ["V1", "V5", "SPC"])
    return bayesdcm.fit(model, data, draws=DRAWS, progress=False)


def line(data):
    """A program of one's own, with a Gaussian posterior."""
    slope = numpyro.sample("slope", dist.Normal(np.zeros(2), 2.0).to_event(1))
    mean = slope[0] + slope[1] * np.arange(len(data)) / 10
    numpyro.sample("y", gaussian(mean, 0.0), obs=data)


def assembled_fit(here):
    """A model of parts that have no name together."""
    del here
    neural = Bilinear([[1, 0], [1, 1]], np.zeros((1, 2, 2)), [[1], [0]])
    model = DCM(neural, RungeKutta(), Balloon(), priors={"A[V5, V1]": (0.1, 0.03)})
    return bayesdcm.fit(model, task_data(1), draws=DRAWS)


LINE = np.random.default_rng(0).normal(size=20)


def member_fit(here):
    """Member of a group that was written by `fit_group`."""
    data = {"ann": task_data(1), "ben": task_data(2)}
    fit_group(task_model(), data, out=here.folder, progress=False, draws=DRAWS)
    return load_group(here.folder)["ann"]


def reestimated_fit(here):
    """A fit under the prior that a group gives."""
    del here
    fits = [regression_fit(False, seed) for seed in (1, 2, 3)]
    return reestimate(peb(fits), progress=False, draws=DRAWS).fits[0]


def stacked_fit(here):
    del here
    fit = bayesdcm.fit(task_model(), task_data(1), starts=3, draws=DRAWS)
    return stack_modes([*fit.modes, fit], draws=DRAWS).fit


def hierarchy_fit(here):
    del here
    data = {"ann": LINE, "ben": LINE + 0.1}
    return bayesdcm.fit(Hierarchy(line, parameters=["slope"]), data, "nuts", **SHORT)


def task_hierarchy_fit(here):
    del here
    group = Hierarchy(task_model(), parameters=["A"])
    return bayesdcm.fit(group, [task_data(1), task_data(2)], "nuts", **SHORT)


def recurrent_fit(here):
    """Trained, with a Laplace approximation about the point."""
    del here
    neural = Bilinear([[1, 0], [1, 1]], np.zeros((1, 2, 2)), [[1], [0]])
    model = DCM(neural, Euler(task_data(1).input_dt), Balloon())
    return bayesdcm.fit(
        model, task_data(1), "tbptt", starts=2, epochs=3, draws=DRAWS, progress=False
    )


def regression_fit(sparse, seed=1):
    model = RegressionDCM([[1, 1], [1, 1]], [[1], [0]], sparse, measurement_noise=0.1)
    return bayesdcm.fit(model, task_data(seed), draws=DRAWS, progress=False)


def network_fit(here):
    """The best point of a network that is simulated."""
    del here
    data = 0.5 * np.eye(3) + 0.5
    return bayesdcm.fit(network_objective(), data, "evolution", generations=3, progress=False)


def network_objective():
    lengths = [[0, 20.0, 40.0], [20.0, 0, 30.0], [40.0, 30.0, 0]]
    connectome = Connectome(np.array(lengths) / 40, lengths, ["V1", "V5", "SPC"])
    noise = OrnsteinUhlenbeck(0.3, 0.02)
    network = NetworkModel(WilsonCowan(), connectome, noise=noise, regional={"w_EE": [1.0, 0.5, 0]})
    return SimulationObjective(
        network, {"functional_connectivity": "squared"}, duration=0.1, priors={"speed": (0.0, 0.1)}
    )


FITS = {
    "task by laplace": lambda here: bayesdcm.fit(task_model(), task_data(1), starts=3, draws=DRAWS),
    "line by laplace": lambda here: bayesdcm.fit(line, LINE, draws=DRAWS),
    "linear by svi": lambda here: bayesdcm.fit(
        here.model, here.data, "svi", steps=50, draws=DRAWS, progress=False
    ),
    "linear by nuts": lambda here: bayesdcm.fit(here.model, here.data, "nuts", **SHORT),
    "evoked by laplace": lambda here: evoked_fit(),
    "spectral by laplace": lambda here: spectral_fit("wishart", "multitaper"),
    "cross-spectral by laplace": lambda here: cross_spectral_fit(),
    "spectral as in SPM": lambda here: spectral_fit("spm", "autoregressive"),
    "whole brain by laplace": lambda here: whole_brain_fit(),
    "assembled of parts": assembled_fit,
    "member of a group": member_fit,
    "re-estimated": reestimated_fit,
    "stacked": stacked_fit,
    "network by evolution": network_fit,
    "linear by gradient": lambda here: bayesdcm.fit(
        here.model, here.data, "gradient", starts=2, steps=5, progress=False
    ),
    "linear by amortised": lambda here: bayesdcm.fit(
        *(here.model, here.data, "amortised"),
        simulations=50,
        epochs=1,
        ensemble=1,
        layers=1,
        width=8,
        draws=DRAWS,
        progress=False,
    ),
    "recurrent by tbptt": recurrent_fit,
    "regression by variational_bayes": lambda here: regression_fit(False),
    "sparse regression": lambda here: regression_fit(True),
    "task by svi": lambda here: bayesdcm.fit(
        task_model(), task_data(1), "svi", steps=30, draws=DRAWS, progress=False
    ),
    "task by nuts": lambda here: bayesdcm.fit(task_model(), task_data(1), "nuts", **SHORT),
    "hierarchy of programs": hierarchy_fit,
    "hierarchy": task_hierarchy_fit,
}
# They take longer, and share their paths with others; models of parts with the recurrent one.
LONG = (
    "assembled of parts",
    "cross-spectral by laplace",
    "spectral as in SPM",
    "task by svi",
    "task by nuts",
    "hierarchy of programs",
    "hierarchy",
    "re-estimated",
    "whole brain by laplace",
)
# The longest of the others.
SLOW = (
    "linear by svi",
    "linear by nuts",
    "evoked by laplace",
    "spectral by laplace",
    "network by evolution",
    "linear by amortised",
    "recurrent by tbptt",
)
# Of those that are not LONG, figures and pages show nothing else.
SHOWN = (
    "task by laplace",
    "evoked by laplace",
    "spectral by laplace",
    "linear by nuts",
    "line by laplace",
    "network by evolution",
)
OWN = (
    "line by laplace",
    "linear by svi",
    "linear by nuts",
    "linear by gradient",
    "linear by amortised",
    "hierarchy of programs",
)


def read_again(name, fit, path):
    """The fit from its file, with the program where the file cannot hold it."""
    fit.save(path)
    if name in OWN:
        return bayesdcm.load_fit(path, fit.problem.model, fit.problem.data)
    return bayesdcm.load_fit(path)


# What takes a fit. Each gives something to be compared, or an error, which must be the same.


def idata(fit):
    return fit._groups


def diagnosis(fit):
    found = fit.diagnose()
    return str(found), found.facts


def connection(fit):
    """The label of a connection, where there is one: of others, 0 may be no absence."""
    kinds = ("A[", "B[", "strength_by_region[")
    return next((label for label in fit.labels if label.startswith(kinds)), fit.labels[0])


def reduced(fit):
    found = reduce(fit, off=[connection(fit)], priors={fit.labels[-1]: (0.0, 0.1)})
    return found.log_evidence, found.mean, found.sd, found.summary()


def searched(fit):
    return search_reduced(fit, among=[connection(fit)]).models


def evidence(method, **options):
    def by_method(fit):
        found = log_evidence(fit, method, seed=1, **options)
        return found.log_evidence, found.standard_error, found.details

    return by_method


def compared(by):
    def by_kind(fit):
        return bayesdcm.compare({"one": fit, "other": fit}, by=by)

    return by_kind


def grouped(fit):
    name = fit.labels[0].partition("[")[0]
    found = peb([fit, fit, fit], parameters=[name])
    return found.log_evidence, found.summary()


def drawn(fit):
    """Everything that plots of a fit show, by plot."""
    found = {}
    for name in ("fit", "residuals", "free_energy", "posterior", "connectivity", "network"):
        try:
            shown = getattr(plot, f"plot_{name}")(fit)
        except ValueError as error:
            found[name] = str(error)
            continue
        figure = shown if hasattr(shown, "axes") and isinstance(shown.axes, list) else shown.figure
        found[name] = [
            ([line.get_xydata() for line in ax.lines], [text.get_text() for text in ax.texts])
            for ax in figure.axes
        ]
    return found


def reported(fit):
    path = Path(reported.folder) / "report.html"
    text = write_report(fit, path).read_text()
    return re.sub(r'src="data:[^"]*"|\d{4}-\d\d-\d\d[ T][\d:]*', "", text)


def saved_again(fit):
    path = Path(reported.folder) / "again.nc"
    again = bayesdcm.load_fit(fit.save(path))
    return again.summary(), again.mean, again.log_evidence, again.description, again.status


OPERATIONS = {
    "repr": repr,
    "status": lambda fit: fit.status,
    "trace": lambda fit: fit.trace,
    "facts": lambda fit: fit.facts,
    "mean": lambda fit: fit.mean,
    "sd": lambda fit: fit.sd,
    "covariance": lambda fit: fit.covariance,
    "summary": lambda fit: fit.summary(),
    "idata": idata,
    "predict": lambda fit: fit.predict(),
    "prior_predictive": lambda fit: fit.prior_predictive,
    "diagnose": diagnosis,
    "modes": lambda fit: [(mode.log_evidence, mode.mean, mode.status) for mode in fit.modes],
    "reduce": reduced,
    "search_reduced": searched,
    "free energy": evidence("free_energy"),
    "bridge": evidence("bridge", proposals=1),
    "importance": evidence("importance", draws=200),
    "compare": compared("evidence"),
    "compare by loo": compared("loo"),
    "compare_posteriors": lambda fit: compare_posteriors({"one": fit, "other": fit}),
    "peb": grouped,
    "plots": drawn,
    "write_report": reported,
    "save": saved_again,
}
THERMODYNAMIC = evidence("thermodynamic", temperatures=2, warmup=3, draws=4, chains=2)


def outcome(operation, fit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return operation(fit)
        except (TypeError, ValueError, KeyError) as error:
            return f"{type(error).__name__}: {error}"


def assert_same(one, two, where):
    """Equal, number by number."""
    assert type(one) is type(two), where
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, two, obj=where)
    elif isinstance(one, xr.Dataset | xr.DataArray):
        xr.testing.assert_identical(one, two)
    elif isinstance(one, dict):
        assert list(one) == list(two), where
        for name in one:
            assert_same(one[name], two[name], f"{where}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for i, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where}.{i}")
    elif dataclasses.is_dataclass(one):
        assert_same(dataclasses.asdict(one), dataclasses.asdict(two), where)
    elif isinstance(one, str):
        assert one == two, where
    else:
        np.testing.assert_array_equal(one, two, err_msg=where)


# What needs a Gaussian posterior, the density of an approximation, or chains, says so elsewhere.
NEEDS_GAUSSIAN = {"reduce", "search_reduced", "peb"}
NEEDS_DENSITY = {"free energy", "importance"}
NEEDS_POSTERIOR = {"covariance", "compare", "compare by loo", "compare_posteriors", "write_report"}


def unsuited(fit):
    method = fit.posterior.method
    found = set() if method.exact else {"bridge"}
    if all(array.ndim == 2 for array in idata(fit)["log_likelihood"].values()):
        # Of data that are judged as a whole nothing can be left out.
        found |= {"compare by loo"}
    if "posterior_predictive" not in idata(fit):
        # A hierarchy observes by a factor, and has more parameters than it has draws here.
        found |= {"bridge", "compare"}
        found |= set() if hasattr(fit.problem.model, "member_problems") else {"predict"}
    # Priors of sparse models are not normal.
    normal = fit.posterior.gaussian and "inclusion" not in fit.summary()
    found |= set() if normal else NEEDS_GAUSSIAN
    found |= set() if fit.posterior.point is None else NEEDS_POSTERIOR
    if fit.log_evidence is None and not method.exact:
        found |= {"free energy", "compare"}
    return found | (set() if fit.posterior.density is not None else NEEDS_DENSITY)


def grid(names):
    marks = dict.fromkeys(LONG, [pytest.mark.exhaustive]) | dict.fromkeys(SLOW, [pytest.mark.slow])
    return [pytest.param(name, marks=marks.get(name, [])) for name in names]


@pytest.mark.parametrize("name", grid(FITS))
def test_a_fit_that_was_read_does_all_that_the_saved_one_does(name, tmp_path, linear, linear_data):
    reported.folder = tmp_path
    here = SimpleNamespace(folder=tmp_path / "group", model=linear(), data=linear_data())
    fit = FITS[name](here)
    again = read_again(name, fit, tmp_path / "fit.nc")
    failed = {}
    for operation, run in OPERATIONS.items():
        if operation in ("plots", "write_report") and name not in SHOWN:
            continue
        expected = outcome(run, fit)
        assert_same(expected, outcome(run, again), f"{name}: {operation}")
        if isinstance(expected, str) and "Error" in expected[:12]:
            failed[operation] = expected
    if name == "line by laplace":
        assert_same(outcome(THERMODYNAMIC, fit), outcome(THERMODYNAMIC, again), "thermodynamic")
    assert set(failed) <= unsuited(fit), failed


# In another process

SCRIPT = """
import json, sys, bayesdcm
from bayesdcm.compare import log_evidence, reduce
fit = bayesdcm.load_fit(sys.argv[1])
found = {
    "mean": fit.summary()["mean"].tolist(),
    "predict": fit.predict().values.tolist(),
    "reduced": reduce(fit, off=["C"]).log_evidence,
    "importance": log_evidence(fit, "importance", draws=200, seed=1).log_evidence,
    "problems": str(fit.diagnose()),
}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_another_process_gives_the_same_numbers(tmp_path):
    fit = regression_fit(False)
    path = fit.save(tmp_path / "fit.nc")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    np.testing.assert_array_equal(found["mean"], fit.summary()["mean"])
    np.testing.assert_allclose(found["predict"], fit.predict().values, rtol=0, atol=1e-10)
    assert found["reduced"] == pytest.approx(reduce(fit, off=["C"]).log_evidence, abs=1e-10)
    importance = outcome(evidence("importance", draws=200), fit)[0]
    assert found["importance"] == pytest.approx(importance, abs=1e-10)
    assert found["problems"] == str(fit.diagnose())


# What a file holds


@pytest.fixture(scope="module")
def line_fit():
    return bayesdcm.fit(line, LINE, draws=DRAWS)


def test_a_fit_of_a_program_has_its_results_without_it(line_fit, tmp_path):
    read = bayesdcm.load_fit(line_fit.save(tmp_path / "fit.nc"))
    assert not read.is_bound and read.modes == (read,)
    for operation in ("summary", "idata", "predict", "diagnose", "compare", "peb", "covariance"):
        run = OPERATIONS[operation]
        assert_same(outcome(run, line_fit), outcome(run, read), operation)
    with pytest.raises(ValueError, match=r"load_fit\(path, model=program, data=data\)"):
        read.prior_predictive  # noqa: B018
    again = bayesdcm.load_fit(read.save(tmp_path / "again.nc"))
    assert_same(line_fit.summary(), again.summary(), "again")


def level(data):
    mean = numpyro.sample("level", dist.Normal(0, 1)) + 0 * data
    numpyro.sample("y", gaussian(mean, 0.0), obs=data)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (level, LINE, r"model must be that of the fit.*slope\[0\], slope\[1\]; got one with level"),
        (line, LINE + 1, "data must be those of the fit.*y has other values"),
        (line, LINE[:9], "data must be those of the fit.*y has other values"),
        (line, None, "model and data must be given together"),
    ],
)
def test_another_program_or_other_data_are_refused(line_fit, tmp_path, model, data, message):
    path = line_fit.save(tmp_path / "fit.nc")
    with pytest.raises(ValueError, match=message):
        bayesdcm.load_fit(path, model, data)


def test_files_of_earlier_versions_are_refused(tmp_path):
    path = tmp_path / "fit.nc"
    xr.Dataset(attrs={"format": 1}).to_netcdf(path, group="bayesdcm_fit", engine="h5netcdf")
    with pytest.raises(ValueError, match="is of an earlier version, whose files held no model"):
        bayesdcm.load_fit(path)


def test_classes_that_files_hold_are_where_they_are_said_to_be():
    for name, module in CLASSES.items():
        found = getattr(import_module(module), name)
        assert (found.__name__, found.__module__) == (name, module)


@pytest.mark.parametrize("named", ["Path", "subprocess.Popen", "Evil"])
def test_files_name_no_other_classes(named):
    with pytest.raises(ValueError, match=f"class '{named}' is none that files hold"):
        from_plain({"is": named, "with": {}}, {})


def test_files_are_small_and_say_first_what_they_are(tmp_path):
    example = bayesdcm.load_example("attention")
    data = example.data
    size = len(make_problem(example.model, data).flat_labels)
    random = np.random.default_rng(0)
    gaussian_posterior = Posterior(Laplace(), gaussian=(np.zeros(size), np.eye(size) / 99))
    chains = Posterior(NUTS(), draws=random.normal(size=(4, 750, size)) / 99)
    for posterior, most in ((gaussian_posterior, 2e6), (chains, 10e6)):
        fit = bayesdcm.Fit(make_problem(example.model, data), posterior)
        path = write_fit(tmp_path / "fit.nc", fit, {"fingerprint": "abc"}, predictions=False)
        assert path.stat().st_size < most / 4
        header = read_header(path)
        assert header["fingerprint"] == "abc" and header["method"] == fit.method


def test_predictions_are_written_where_they_are_asked_for(tmp_path):
    fit = bayesdcm.fit(task_model(), task_data(1), draws=DRAWS)
    path = fit.save(tmp_path / "fit.nc", predictions=True)
    read = bayesdcm.load_fit(path)
    assert "_data_sets" in read._known
    assert_same(idata(fit), idata(read), "idata")
    written = az.from_netcdf(str(path))
    np.testing.assert_array_equal(written.posterior["A"], fit.idata.posterior["A"])
    assert fit.save(tmp_path / "small.nc").stat().st_size < path.stat().st_size / 2


def test_heads_and_measurement_info_come_back():
    mne = pytest.importorskip("mne")
    info = mne.create_info(["F3", "F4", "Cz"], 250.0, "eeg")
    for channel, place in zip(info["chs"], np.eye(3), strict=True):
        channel["loc"][:3] = 0.09 * place
    sensors = 0.09 * np.eye(3)
    signal = np.random.default_rng(0).normal(scale=1e-6, size=(2, 600, 3))
    data = EvokedData(
        signal, np.arange(600) / 250, info["ch_names"], head=SphereHead(sensors), info=info
    )
    writer = PlainWriter()
    plain = json.loads(json.dumps(writer.plain({"one": data, "same": data})))
    read = from_plain(plain, writer.arrays)["same"]
    assert repr(read) == repr(data) and list(writer.arrays) == [
        "one.signal",
        "one.times",
        "one.info",
    ]
    np.testing.assert_array_equal(read.signal, data.signal)
    np.testing.assert_array_equal(read.head.sensors, data.head.sensors)
    for one, two in zip(read.info["chs"], info["chs"], strict=True):
        np.testing.assert_allclose(one["loc"], two["loc"], rtol=1e-6)
