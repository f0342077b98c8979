"""Variational Laplace of a task DCM: against SPM, compiled once, and what the result shows."""

import logging
import warnings

import jax
import numpy as np
import pytest

import bayesdcm
from bayesdcm import BoldData, TaskDCM

NAMES = ("A", "B", "C", "transit", "decay", "epsilon")
COMPILED = "Finished XLA compilation"


@pytest.fixture(scope="module")
def inversion(spm):
    return {k.removeprefix("dcm/"): v for k, v in spm.items() if k.startswith("dcm/")}


@pytest.fixture(scope="module")
def model(inversion):
    return TaskDCM(*(inversion[name] for name in "ABC"), integrator="bilinear")


@pytest.fixture(scope="module")
def data(inversion):
    return BoldData(
        inversion["signal"],
        float(inversion["TR"]),
        inputs=inversion["inputs"],
        input_dt=float(inversion["input_dt"]),
        region_names=["V1", "V5", "SPC"],
        input_names=["Photic", "Motion"],
        confounds=inversion["confounds"],
        slice_delays=inversion["slice_delays"],
    )


@pytest.fixture(scope="module")
def fit(model, data):
    return bayesdcm.fit(model, data)


class Compilations(logging.Handler):
    """Counts what JAX says it compiles."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.names = []

    def emit(self, record):
        if COMPILED in record.getMessage():
            self.names.append(record.getMessage())


@pytest.fixture
def compilations():
    counter, logger = Compilations(), logging.getLogger("jax")
    before = logger.propagate
    logger.addHandler(counter)
    logger.propagate = False
    with jax.log_compiles():
        yield counter.names
    logger.removeHandler(counter)
    logger.propagate = before


def test_the_inversion_agrees_with_spm(fit, inversion):
    # Measured: F -0.003 nat, means 0.005 sd, sds 0.1 %; the integrator's derivatives are exact.
    assert fit.log_evidence == pytest.approx(inversion["F"], abs=0.05)
    for name in NAMES:
        sd = inversion[f"sd_{name}"]
        free = sd > 0
        shift = (fit.mean[name] - inversion[f"mean_{name}"])[free] / sd[free]
        assert np.abs(shift).max(initial=0) < 0.02, name
        np.testing.assert_allclose(fit.sd[name], sd, rtol=0.005, err_msg=name)
    np.testing.assert_allclose(fit.mean["log_precision"], inversion["log_precision"], atol=2e-3)
    assert fit.status["n_iterations"] == inversion["it_n"]
    assert fit.status["converged"]


def test_another_data_set_of_the_same_shape_compiles_nothing(fit, model, data, compilations):
    jax.jit(lambda x: x + 1.25)(0.5)
    assert len(compilations) == 1, "compilations are not seen"
    compilations.clear()
    noise = np.random.default_rng(3).normal(size=data.signal.shape)
    other = bayesdcm.fit(model, data.replace(signal=0.7 * data.signal + 0.2 * noise))
    equal_model = TaskDCM(model.A, model.B, model.C, integrator="bilinear")
    again = bayesdcm.fit(equal_model, data)
    assert compilations == []
    assert other.log_evidence != fit.log_evidence
    assert again.log_evidence == fit.log_evidence
    for name in NAMES:
        np.testing.assert_array_equal(again.mean[name], fit.mean[name])


# What the result shows. The data are scaled down to a range of 4 to be modelled.


@pytest.mark.slow
def test_sites_carry_the_names_of_regions_and_inputs(fit, data):
    posterior = fit.idata.posterior
    dims = {
        "A": ("to", "from"),
        "B": ("input", "to", "from"),
        "C": ("to", "input"),
        "transit": ("region",),
        "decay": (),
        "epsilon": (),
        "log_precision": ("region",),
        "effective_connectivity": ("to", "from"),
        "modulated_connectivity": ("input", "to", "from"),
        "input_effect": ("to", "input"),
        "transit_time": ("region",),
        "decay_rate": (),
    }
    assert set(posterior.data_vars) == set(dims)
    for name, axes in dims.items():
        assert posterior[name].dims == ("chain", "draw", *axes), name
    regions, inputs = ["V1", "V5", "SPC"], ["Photic", "Motion"]
    for axis, names in dict(to=regions, region=regions, input=inputs).items():
        assert posterior[axis].values.tolist() == names
    assert posterior["from"].values.tolist() == regions
    np.testing.assert_allclose(fit.idata.observed_data["time"], data.times)
    assert dict(posterior.sizes)["draw"] == 1000
    constants = fit.idata.constant_data
    np.testing.assert_array_equal(constants["inputs"], data.inputs)
    assert float(constants["scale"]) == pytest.approx(data.scale)


def test_labels_are_of_free_parameters_only(fit, model):
    table = fit.summary()
    n_free = int(sum(switches.sum() for switches in (model.A, model.B, model.C))) + 3 + 2 + 3
    assert len(table) == n_free == len(fit.covariance)
    off = np.argwhere(model.A == 0)
    names = ["V1", "V5", "SPC"]
    assert len(off)
    for to, source in off:
        assert f"A[{names[to]}, {names[source]}]" not in table.index
    to, source = 1, 0
    row = table.loc["A[V5, V1]"]
    assert row["mean"] == pytest.approx(fit.mean["A"][to, source])
    assert row["sd"] == pytest.approx(fit.sd["A"][to, source])
    assert {"transit[SPC]", "decay", "epsilon", "log_precision[V1]"} <= set(table.index)


@pytest.mark.slow
def test_constants_have_no_spread(fit, model):
    for name in "ABC":
        off = getattr(model, name) == 0
        assert (fit.sd[name][off] == 0).all() and (fit.mean[name][off] == 0).all()
        draws = np.asarray(fit.idata.posterior[name])
        assert (draws[..., off] == 0).all()


def test_physical_units(fit):
    posterior = fit.idata.posterior
    A = np.asarray(posterior["A"])
    hertz = np.where(np.eye(3, dtype=bool), -0.5 * np.exp(A), A)
    np.testing.assert_allclose(posterior["effective_connectivity"], hertz, atol=1e-12)
    np.testing.assert_allclose(posterior["input_effect"], posterior["C"] / 16)
    np.testing.assert_allclose(posterior["transit_time"], 2 * np.exp(posterior["transit"]))
    np.testing.assert_allclose(posterior["decay_rate"], 0.64 * np.exp(posterior["decay"]))


def test_predictions_are_in_the_units_of_the_data(fit, model, data):
    assert np.ptp(data.signal) == pytest.approx(6.13, abs=0.01) and data.scale < 1
    # Baseline and unit of a recording do not matter to the model, and come back in what users see.
    large = bayesdcm.fit(model, data.replace(signal=40 / 6.1327701 * data.signal + 1000))
    observed = np.asarray(large.idata.observed_data["signal"])
    assert np.ptp(observed) == pytest.approx(40, abs=1e-3)
    np.testing.assert_allclose(observed, 40 / 6.1327701 * data.signal + 1000, atol=1e-9)
    np.testing.assert_allclose(large.mean["A"], fit.mean["A"], atol=1e-5)
    predictive = large.idata.posterior_predictive
    for name in ("signal", "signal_prediction", "signal_fitted"):
        assert predictive[name].dims == ("chain", "draw", "time", "region")
        # The confound-free prediction is not centred: its mean is that of the response.
        offset = float(predictive[name].mean()) - observed.mean()
        assert abs(offset) < (10 if name == "signal_prediction" else 0.2), name
    # Baseline, size and shape of the fitted signal are those of the data.
    fitted = np.asarray(large.predict())
    assert 25 < np.ptp(fitted) < 42
    np.testing.assert_allclose(fitted.mean(axis=0), observed.mean(axis=0), atol=0.1)
    correlation = np.corrcoef(fitted.ravel(), observed.ravel())[0, 1]
    assert correlation > 0.9
    # Noise of replicated data is what the log-precisions say, for a range of 4 as for one of 40.
    replicated = np.asarray(predictive["signal"]) - np.asarray(predictive["signal_fitted"])
    noise = 10 * np.exp(-large.mean["log_precision"] / 2)
    np.testing.assert_allclose(replicated[0].std(axis=(0, 1)), noise, rtol=0.02)


def test_the_fit_is_sound_and_survives_a_file(fit, tmp_path):
    found = fit.diagnose()
    # Of SPM's prior of the noise, which the data overrule, it says so; k-hat is near the limit.
    kinds = {problem.kind for problem in found.problems}
    assert "noise held by its prior" in kinds
    assert kinds <= {"noise held by its prior", "approximation undecided"}, str(found)
    assert "SPM's N(6, 1/128) on log-precisions, holds it against the data" in str(found)
    assert "log_precision[SPC] by 2" in str(found)
    assert "priors={'log_precision': (2, 16)}, or by integrator='nonlinear', which has it" in str(
        found
    )
    assert found.facts["explained_variance"].shape == (3,)
    loaded = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc"))
    assert loaded.log_evidence == fit.log_evidence
    for name in (*NAMES, "log_precision"):
        np.testing.assert_array_equal(loaded.mean[name], fit.mean[name])
        np.testing.assert_array_equal(loaded.sd[name], fit.sd[name])
        np.testing.assert_array_equal(loaded.idata.posterior[name], fit.idata.posterior[name])
    assert loaded.summary().equals(fit.summary())
    assert loaded.covariance.equals(fit.covariance)
    assert loaded.status == fit.status
    assert str(loaded.diagnose()) == str(found)
    assert loaded.idata.posterior["to"].values.tolist() == ["V1", "V5", "SPC"]
    # What can be worked out again is not stored.
    assert (tmp_path / "fit.nc").stat().st_size < 1e6


# The default path: signals in their own unit, noise that data decide on


@pytest.fixture(scope="module")
def block():
    """One driven region: the model, and functions that make its signal and data of it.

    Confounds are a constant and movements unless told, so that all fits share a program.
    """
    model = TaskDCM([[1]], C=[[1]])
    events = {"onset": [10.0, 50.0, 90.0, 130.0], "duration": [15.0] * 4}
    design = bayesdcm.BoldDesign.from_events(80, 2.0, events, ["V1"], input_names=["task"])
    truth = {"A": np.zeros((1, 1)), "transit": np.zeros(1), "decay": 0.0, "epsilon": 0.0}

    def signal(strength, sd, seed):
        clean = np.asarray(model.predict(truth | {"C": np.array([[strength]])}, design))
        return clean + sd * np.random.default_rng(seed).normal(size=clean.shape)

    moved = np.c_[np.ones(80), np.random.default_rng(5).normal(size=(80, 3))]

    def bold(signal, confounds=moved, **keywords):
        keywords["confounds"] = confounds
        run = {"inputs": design.inputs, "input_dt": design.input_dt, "input_names": ["task"]}
        return BoldData(signal, 2.0, **run, region_names=["V1"], **keywords)

    return model, signal, bold


@pytest.mark.slow
def test_estimates_refer_to_the_unit_of_the_data_whatever_its_range(block):
    """SPM scales signals down to a range of 4, and C with them; by default nothing is scaled."""
    model, signal, bold = block
    for strength in (0.3, 1.0, 4.0):
        data = bold(signal(strength, 0.1, 3), unit="percent")
        fit = bayesdcm.fit(model, data, draws=20)
        row = fit.summary().loc["C[V1, task]"]
        assert abs(row["mean"] - strength) < 3 * row["sd"], strength
        assert float(fit.idata.constant_data["scale"]) == 1
        # N(6, 1/128) would have it at 0.05.
        assert np.exp(-fit.mean["log_precision"][0] / 2) == pytest.approx(0.1, rel=0.25)
    assert np.ptp(data.signal) > 5 and data.scale < 0.8


def test_fractions_of_one_give_the_estimates_of_percent(block):
    model, signal, bold = block
    percent = signal(1.0, 0.1, 3)
    fits = [
        bayesdcm.fit(model, bold(percent / divisor, unit=unit), draws=20)
        for divisor, unit in ((1, "percent"), (100, "fraction"))
    ]
    np.testing.assert_allclose(fits[1].mean["C"], fits[0].mean["C"], rtol=1e-9)
    assert fits[1].log_evidence == pytest.approx(fits[0].log_evidence, abs=1e-8)
    np.testing.assert_allclose(100 * fits[1].predict(), fits[0].predict(), rtol=1e-6)


def test_raw_signals_raise_a_warning_where_they_are_modelled(block):
    model, signal, bold = block
    raw = bold(900 * (1 + 0.05 * signal(1.0, 0.1, 3)), unit="arbitrary")
    with pytest.warns(UserWarning, match="varies by more than 30.*to_percent"):
        model.prepare(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.prepare(raw.to_percent())
        # SPM scales it.
        TaskDCM([[1]], C=[[1]], integrator="bilinear").prepare(raw)


def test_units_of_confounds_do_not_matter(block):
    model, signal, bold = block
    y = signal(1.0, 0.1, 3)

    def evidence(model, confounds):
        return bayesdcm.fit(model, bold(y, confounds=confounds), draws=20).log_evidence

    millimetres = bold(y).confounds
    metres = millimetres * [1, 1e-3, 1e-3, 1e-3]
    # Nor how they are combined.
    mixed = millimetres @ np.array([[1, 2, 0, 0], [0, 1, 0, 0], [0, 3, 1, 0], [0, 0, 0, 1e4]])
    found = [evidence(model, confounds) for confounds in (millimetres, metres, mixed)]
    np.testing.assert_allclose(found, found[0], atol=1e-6)
    # They do on SPM's path.
    spm = TaskDCM([[1]], C=[[1]], integrator="bilinear")
    assert abs(evidence(spm, metres) - evidence(spm, millimetres)) > 10


@pytest.mark.parametrize("block", [False, True])
def test_noise_alone_is_estimated(block):
    """A model without free parameters is one to compare with."""
    rng = np.random.default_rng(3)
    confounds = np.linspace(-1, 1, 100)[:, None] if block else None
    data = BoldData(rng.normal(size=(100, 2)), 2.0, np.ones((100, 1)), 2.0, confounds=confounds)
    fixed = dict.fromkeys(("A", "C", "transit", "decay", "epsilon"), 0.0)
    fit = bayesdcm.fit(TaskDCM(np.ones((2, 2)), C=[[1], [0]], priors=fixed), data)
    assert [label.partition("[")[0] for label in fit.labels] == ["log_precision"] * 2
    assert fit.status["converged"] and abs(fit.summary()["mean"]).max() < 0.5
