"""One small study: an SPM file of two regions, fitted by every method once."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

import bayesdcm
from bayesdcm.data import BoldDesign

TRUE = {
    "A": np.array([[0.0, 0.0], [0.4, 0.0]]),
    "B": np.array([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.3, 0.0]]]),
    "C": np.array([[1.0, 0.0], [0.0, 0.0]]),
    "transit": np.zeros(2),
    "decay": np.zeros(()),
    "epsilon": np.zeros(()),
}


def simulate():
    """Two regions, V1 to V5 and not back, 60 scans."""
    model = bayesdcm.TaskDCM(
        [[1, 0], [1, 1]], [[[0, 0], [0, 0]], [[0, 0], [1, 0]]], [[1, 0], [0, 0]],
        integrator="bilinear",
    )  # fmt: skip
    inputs = np.zeros((240, 2))
    for start in range(10, 240, 40):
        inputs[start : start + 20, 0] = 1
        inputs[start + 10 : start + 20, 1] = 1
    design = BoldDesign(60, 2.0, inputs, 0.5, ["V1", "V5"], ["Photic", "Motion"])
    return model, model.simulate(TRUE, design, seed=1, snr=3.0)


def cells(names):
    """A cell array of strings."""
    array = np.empty((1, len(names)), dtype=object)
    array[0, :] = names
    return array


def write_spm(path, model, data, free_energy=None):
    """Write the study as SPM does."""
    dcm = {
        "n": 2.0,
        "v": float(data.n_scans),
        "a": model.A,
        "b": np.moveaxis(model.B, 0, 2),
        "c": model.C,
        "d": np.zeros((2, 2, 0)),
        "delays": np.asarray(data.slice_delays)[:, None],
        "Y": {
            "y": data.signal,
            "dt": data.repetition_time,
            "name": cells(data.region_names),
            "X0": data.confounds,
        },
        "U": {"u": data.inputs, "dt": data.input_dt, "name": cells(data.input_names)},
        "options": {"two_state": 0.0, "centre": 0.0, "nonlinear": 0.0},
    }
    if free_energy is not None:
        size = 4 + 8 + 4 + 4
        estimated = {name: TRUE[name] for name in ("A", "C", "transit", "decay", "epsilon")}
        estimated |= {"B": np.moveaxis(TRUE["B"], 0, 2), "D": np.zeros((2, 2, 0))}
        dcm |= {"Ep": estimated, "Cp": np.eye(size), "F": free_energy}
        dcm["M"] = {"IS": "spm_int"}
    scipy.io.savemat(path, {"DCM": dcm})


def as_svi(fit):
    """A fit that looks like one by SVI: compiling SVI for a DCM takes longer than all these tests.

    `program_svi` is a real one.
    """
    posterior, rng = fit.posterior, np.random.default_rng(0)
    bound = fit.log_evidence - 50 * np.exp(-np.arange(100) / 20) + rng.normal(size=100)
    other = replace(
        posterior,
        method=bayesdcm.SVI(),
        draws=posterior.sample,
        gaussian=None,
        log_q=posterior.density,
        trace={"elbo": bound},
        status={"converged": True, "guide": "full_rank", "options": {}},
    )
    return bayesdcm.Fit(fit.problem, other)


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """The file, its model and data, and a fit by each method."""
    folder = tmp_path_factory.mktemp("study")
    path = folder / "DCM_study.mat"
    write_spm(path, *simulate(), free_energy=-321.5)
    spm = bayesdcm.read_spm_dcm(path)
    short = {"chains": 2, "warmup": 50, "draws": 50, "progress": False}
    fits = {
        "laplace": bayesdcm.fit(spm.model, spm.data, draws=100, progress=False),
        "nuts": bayesdcm.fit(spm.model, spm.data, "nuts", **short),
    }
    fits["svi"] = as_svi(fits["laplace"])
    return SimpleNamespace(path=path, model=spm.model, data=spm.data, true=TRUE, **fits, fits=fits)


@pytest.fixture(scope="session")
def saved(study, tmp_path_factory):
    """Paths of the saved fits."""
    folder = tmp_path_factory.mktemp("saved")
    return {name: fit.save(folder / f"{name}.nc") for name, fit in study.fits.items()}


@pytest.fixture(scope="session")
def loaded(saved):
    """The fits read from their files."""
    return {name: bayesdcm.load_fit(path) for name, path in saved.items()}


def line(data):
    """A program without regions."""
    import numpyro
    import numpyro.distributions as dist

    slope = numpyro.sample("slope", dist.Normal(np.zeros(2), 10.0).to_event(1))
    mean = slope[0] + slope[1] * np.arange(len(data))
    numpyro.sample("y", bayesdcm.observe.gaussian(mean, 0.0), obs=data)


@pytest.fixture(scope="session")
def program_fit():
    """A fit of a program without regions."""
    data = np.random.default_rng(0).normal(size=40)
    return bayesdcm.fit(line, data, progress=False, draws=100)


@pytest.fixture(scope="session")
def program_svi():
    """A fit of it by SVI."""
    data = np.random.default_rng(0).normal(size=40)
    return bayesdcm.fit(line, data, "svi", steps=100, progress=False, draws=100)


@pytest.fixture(scope="session")
def evoked(tmp_path_factory):
    """Two sources seen by an electrode in each, a standard and a deviant, fitted once."""
    model = bayesdcm.models.EvokedDCM(
        [[0, 0], [1, 0]], [[0, 1], [0, 0]], modulation=[[1, 0], [1, 0]], observation="lfp",
        source_names=["A1", "STG"],
    )  # fmt: skip
    flat = np.random.default_rng(0).normal(size=(2, 40, 2))
    design = bayesdcm.data.EvokedData(
        flat, 0.006 * np.arange(40), channel_names=["left", "right"],
        condition_names=["standard", "deviant"],
    )  # fmt: skip
    true = {prior.name: np.array(prior.mean) for prior in model.priors}
    true["B"] = np.array([[[0.3, 0.0], [0.6, 0.0]]])
    data = model.simulate(true, design, seed=1, snr=5.0)
    fit = bayesdcm.fit(model, data, draws=50, progress=False)
    path = fit.save(tmp_path_factory.mktemp("evoked") / "evoked.nc")
    return SimpleNamespace(model=model, data=data, true=true, fit=fit, path=path)


@pytest.fixture
def evoked_fit(evoked):
    """The fit as it is read from its file, a new one for each test."""
    return bayesdcm.load_fit(evoked.path)
