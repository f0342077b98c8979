"""Programs that cannot be fitted, and a user's own program built from the package's blocks."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm import BoldData, TaskDCM
from bayesdcm.observe import gaussian

METHODS = (
    "laplace",
    "svi",
    "nuts",
    "gradient",
    "evolution",
    "tbptt",
    "variational_bayes",
    "amortised",
)


def discrete(data):
    kind = numpyro.sample("kind", dist.Bernoulli(0.5))
    numpyro.sample("y", gaussian(kind + 0 * data, 0.0), obs=data)


def unobserved(data):
    numpyro.sample("mean", dist.Normal(0, 1))


def unsampled(data):
    numpyro.sample("y", gaussian(0 * data, 0.0), obs=data)


def unknown_role(data):
    mean = numpyro.sample("mean", dist.Normal(0, 1), infer={"role": "noise"})
    numpyro.sample("y", gaussian(mean + 0 * data, 0.0), obs=data)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("program", "error", "text"),
    [
        (discrete, TypeError, r"site 'kind' is discrete \(Bernoulli"),
        (unobserved, ValueError, "the program observes nothing; give obs="),
        (unsampled, ValueError, "the program samples no parameter"),
        (
            unknown_role,
            ValueError,
            "'mean' has infer={'role': 'noise'}; a role is 'observer' .* or",
        ),
    ],
)
def test_programs_that_cannot_be_fitted(program, error, text, method):
    with pytest.raises(error, match=text):
        bayesdcm.fit(program, np.zeros(3), method)


@pytest.fixture(scope="module")
def model():
    return TaskDCM([[1]], C=[[1]], integrator="bilinear")


@pytest.fixture(scope="module")
def data(model):
    inputs = np.zeros((240, 1))
    inputs[20:60], inputs[120:150] = 1.0, 1.0
    design = BoldData(
        np.random.default_rng(0).normal(size=(60, 1)), 2.0, inputs=inputs, input_dt=0.5
    )
    parameters = {
        "A": np.array([[0.3]]),
        "C": np.array([[4.0]]),
        "transit": np.zeros(1),
        "decay": np.array(0.0),
        "epsilon": np.array(0.0),
    }
    return model.simulate(parameters, design, seed=1, snr=4.0)


@pytest.fixture(scope="module")
def own_program(model):
    """Priors of one's own, the package's prediction and observation: twenty lines."""

    def program(data):
        strength = numpyro.sample("strength", dist.LogNormal(1.0, 0.5))
        inhibition = numpyro.sample("inhibition", dist.Normal(0.0, 0.3))
        transit = numpyro.sample("transit", dist.Normal(jnp.zeros(1), 0.1).to_event(1))
        parameters = {
            "A": inhibition.reshape(1, 1),
            "C": strength.reshape(1, 1),
            "transit": transit,
            "decay": jnp.zeros(()),
            "epsilon": jnp.zeros(()),
        }
        noise = numpyro.sample(
            "noise", dist.Normal(jnp.zeros(1), 2.0).to_event(1), infer={"role": "precision"}
        )
        prediction = model.predict(parameters, data)
        observation = gaussian(prediction, noise, confounds=data.confounds)
        numpyro.sample("signal", observation, obs=jnp.asarray(data.signal))

    return program


def assert_recovered(fit):
    assert set(fit.mean) == {"strength", "inhibition", "transit", "noise"}
    assert fit.problem.precision_sites == ["noise"]
    table = fit.summary()
    assert list(table.index) == ["strength", "inhibition", "transit[0]", "noise[0]"]
    truth = {"strength": 4.0, "inhibition": 0.3, "transit[0]": 0.0}
    for name, value in truth.items():
        assert abs(table.loc[name, "mean"] - value) < 3 * table.loc[name, "sd"]
    assert table.loc["strength", "sd"] < 1.0
    assert fit.idata.posterior_predictive["signal"].shape[2:] == (60, 1)


@pytest.mark.slow
def test_a_program_of_ones_own_by_laplace(own_program, data):
    fit = bayesdcm.fit(own_program, data)
    assert fit.status["converged"]
    assert_recovered(fit)
    # Of a log-normal strength k-hat is near its limit, on which side depends on draws.
    kinds = {problem.kind for problem in fit.diagnose().problems}
    assert kinds <= {"approximation undecided"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["svi", "nuts"])
def test_a_program_of_ones_own_by_other_methods(own_program, data, method):
    fit = bayesdcm.fit(own_program, data, method, progress=False)
    assert_recovered(fit)
    laplace = bayesdcm.fit(own_program, data)
    table = bayesdcm.compare_posteriors({"laplace": laplace, method: fit}, reference=method)
    assert table["shift"].abs().max() < 0.3
    assert table["sd_ratio"].between(0.75, 1.3).all()


def fixed(data):
    level = numpyro.sample("level", dist.Normal(0.0, jnp.sqrt(0 * data[0])))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.sample("y", gaussian(level + slope * jnp.arange(3.0), 0.0), obs=data)


def negative(data):
    spread = numpyro.sample("spread", dist.HalfNormal(-2.0))
    numpyro.sample("y", dist.Normal(spread, 1.0), obs=data)


@pytest.mark.parametrize("method", ["laplace", "nuts", "svi"])
def test_a_prior_without_spread_is_named(method):
    text = "site 'level': scale of Normal must be positive, got 0; a parameter that is to be fixed"
    with pytest.raises(ValueError, match=text):
        bayesdcm.fit(fixed, np.ones(3), method, progress=False)
    with pytest.raises(ValueError, match="site 'spread': scale of HalfNormal must be positive"):
        bayesdcm.fit(negative, 1.0, method, progress=False)


def test_data_that_are_not_finite_are_named():
    def program(data):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.sample("y", gaussian(level * jnp.ones(2), 0.0), obs=data)

    with pytest.raises(ValueError, match="the data of site 'y' hold NaN or infinity"):
        bayesdcm.fit(program, np.array([1.0, np.nan]))


def test_predictions_that_are_not_finite_are_blamed_on_the_prediction():
    def program(data):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.sample("y", gaussian(jnp.log(-1 - level**2) * jnp.ones(2), 0.0), obs=data)

    with pytest.raises(ValueError, match="the model's prediction is not finite at any starting"):
        bayesdcm.fit(program, np.ones(2))
