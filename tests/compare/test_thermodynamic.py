"""Thermodynamic integration: known evidences, both paths, and agreement with bridge sampling."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bayesdcm
from bayesdcm.compare import log_evidence, thermodynamic_integration
from bayesdcm.compare.thermodynamic import _integral, _ladder
from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian

INTERVALS = np.array([1.5, 0.4])


def skewed(data):
    """A rate whose posterior is a Gamma; its logarithm, in which chains move, is skewed."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    with numpyro.plate("interval", len(data)):
        numpyro.sample("y", dist.Exponential(rate), obs=data)


# Gamma(4, 2.9) is the posterior: its evidence, and the moments of its logarithm.
EXACT = np.log(6.0) - 4 * np.log(1 + INTERVALS.sum())
MEAN, VARIANCE = np.array([0.19]), np.array([[0.28]])


@pytest.mark.parametrize(
    "path", ["approximation", pytest.param("prior", marks=pytest.mark.exhaustive)]
)
def test_both_paths_lead_to_the_evidence(path):
    problem = make_problem(skewed, INTERVALS)
    found = thermodynamic_integration(
        problem, MEAN, VARIANCE, path=path, temperatures=6, power=3.0, chains=4, draws=400
    )
    assert found.ok and found.method == "thermodynamic"
    assert found.standard_error < 0.05
    assert float(found) == pytest.approx(EXACT, abs=4 * found.standard_error + 0.01)
    details = found.details
    assert details["stepping_stone"] == pytest.approx(EXACT, abs=4 * found.standard_error + 0.01)
    assert len(details["temperatures"]) == len(details["means"]) == 7
    assert details["temperatures"][-1] == 1.0 and details["temperatures"][3] == 0.5**3
    acceptance = np.array(details["acceptance"])
    assert np.isnan(acceptance[0]) and (acceptance[1:] > 0.8).all()
    # The mean log ratio increases along the path.
    assert np.all(np.diff(details["means"]) > -0.1)


def test_the_rule_is_exact_where_means_are_cubic():
    rng = np.random.default_rng(0)
    schedule = np.linspace(0, 1, 4)
    noise = rng.normal(size=(2, 2000))
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    # Of which the slope is the variance: E = 1 + b + b**2 / 2 + b**3 / 3.
    series = [1 + b + b**2 / 2 + b**3 / 3 + noise * np.sqrt(1 + b + b**2) for b in schedule]
    found = _integral(schedule, series, 0.0, np.ones(4), "approximation")
    assert float(found) == pytest.approx(1 + 1 / 2 + 1 / 6 + 1 / 12, abs=1e-10)
    # Four independent means, the ends with half a weight.
    assert 0.3 / np.sqrt(4000) < found.standard_error < 1.5 / np.sqrt(4000)


def test_the_ladder_of_a_linear_model_is_exact():
    prior, noise = np.diag([1.0, 4.0]), np.array([[3.0, 1.0], [1.0, 2.0]])
    posterior = np.linalg.inv(np.linalg.inv(prior) + noise)
    mean = posterior @ [1.0, 2.0]
    ladder = _ladder(np.array([0.3, 1.0]), np.zeros(2), prior, mean, posterior)
    tempered = np.linalg.inv(np.linalg.inv(prior) + 0.3 * noise)
    np.testing.assert_allclose(ladder.factor[0] @ ladder.factor[0].T, tempered, atol=1e-12)
    np.testing.assert_allclose(ladder.mean[0], tempered @ [0.3, 0.6], atol=1e-12)
    np.testing.assert_allclose(ladder.mean[1], mean, atol=1e-12)


def unstable(data):
    """A model that diverges for half of its prior."""
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    prediction = jnp.where(x > 0, x, jnp.inf)
    numpyro.sample("y", gaussian(prediction + 0 * data, 0.0), obs=data)


def test_where_a_model_diverges_there_is_no_posterior():
    y = np.array([0.8])
    # N(x; 0, 1) N(y; x, 1) over x > 0.
    exact = stats.norm(0, np.sqrt(2)).logpdf(y[0]) + stats.norm.logcdf(0.4 * np.sqrt(2))
    found = thermodynamic_integration(
        make_problem(unstable, y), np.array([0.7]), np.array([[0.3]]), path="prior",
        temperatures=6, power=2.0, draws=400,
    )  # fmt: skip
    assert float(found) == pytest.approx(exact, abs=4 * found.standard_error + 0.05)


def test_too_few_temperatures_are_told():
    schedule = np.array([0.0, 1.0])
    rng = np.random.default_rng(0)
    series = [rng.normal(-400, 300, size=(1, 500)), rng.normal(-5, 1, size=(1, 500))]
    found = _integral(schedule, series, 0.0, np.ones(2), "prior")
    assert any("Raise temperatures" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"path": "up"}, "path must be one of 'approximation', 'prior', got 'up'"),
        ({"temperatures": 1}, "temperatures must be an integer of at least 2, got 1"),
        ({"draws": 2.5}, "draws must be an integer of at least 10, got 2.5"),
        ({"power": 0.0}, "power must be positive, got 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        thermodynamic_integration(None, MEAN, VARIANCE, **options)


@pytest.mark.exhaustive
def test_agreement_with_bridge_sampling_on_a_task_model():
    """Two regions, simulated; both start from fits of their own."""
    design = bayesdcm.BoldDesign(40, 2.0, (np.arange(320) % 96 < 40)[:, None] * 1.0, 0.25,
                                 ("V1", "V5"))  # fmt: skip
    model = bayesdcm.TaskDCM(A=[[1, 0], [1, 1]], C=[[1], [0]], integrator="bilinear")
    parameters = {
        "A": np.array([[0.0, 0.0], [0.5, 0.0]]),
        "B": np.zeros((1, 2, 2)),
        "C": np.array([[8.0], [0.0]]),
        "transit": np.zeros(2),
        "decay": np.zeros(()),
        "epsilon": np.zeros(()),
    }
    data = model.simulate(parameters, design, seed=1, snr=2.0)
    nuts = bayesdcm.fit(model, data, "nuts", progress=False, chains=2, warmup=100, draws=500)
    bridge = log_evidence(nuts)
    laplace = bayesdcm.fit(model, data)
    path = log_evidence(laplace, "thermodynamic", temperatures=4, chains=2, warmup=50, draws=220)
    assert bridge.ok and path.ok
    error = np.hypot(bridge.standard_error, path.standard_error)
    assert error < 0.07
    assert float(path) == pytest.approx(float(bridge), abs=4 * error)
    # The free energy is no bound where the model is not linear, but it is close.
    assert laplace.log_evidence == pytest.approx(float(bridge), abs=0.3)
