"""Variational Laplace of a task DCM: against SPM, compiled once, and what the result shows."""

import logging

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
