"""TaskDCM's program as NumPyro sees it: sites, labels, densities, Predictive and NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.util import log_density

from bayesdcm.models import TaskDCM
from bayesdcm.models.priors import sample_prior
from bayesdcm.observe import gaussian

A = [[1, 0], [1, 1]]
B = [[[0, 0], [0, 0]], [[0, 0], [1, 0]]]
C = [[1, 0], [0, 0]]
FREE = {"A_free": 3, "B_free": 1, "C_free": 1, "transit": 2, "decay": 1, "epsilon": 1}


@pytest.fixture(scope="module")
def model():
    return TaskDCM(A, B, C, integrator="bilinear")


@pytest.fixture(scope="module")
def truth():
    return {
        "A": np.array([[0.1, 0.0], [0.4, -0.1]]),
        "B": np.array([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.5, 0.0]]]),
        "C": np.array([[3.0, 0.0], [0.0, 0.0]]),
        "transit": np.array([0.05, -0.1]),
        "decay": np.array(0.1),
        "epsilon": np.array(-0.05),
    }


@pytest.fixture(scope="module")
def data(model, truth, make_design):
    inputs = np.zeros((96, 2))
    for start in (4, 40, 70):
        inputs[start : start + 16, 0] = 1.0
    inputs[30:90, 1] = 1.0
    design = make_design(inputs, 24, input_dt=0.5, n_regions=2)
    drift = np.stack([np.ones(24), np.linspace(-1, 1, 24)], axis=1)
    return model.simulate(truth, design.replace(confounds=drift), seed=0, snr=3.0)


@pytest.fixture(scope="module")
def program(model, data):
    return model.program(data)


@pytest.fixture(scope="module")
def values(truth):
    """The truth as values of the sampled sites."""
    return {
        "A_free": jnp.array([0.1, 0.4, -0.1]),
        "B_free": jnp.array([0.5]),
        "C_free": jnp.array([3.0]),
        "transit": jnp.asarray(truth["transit"]),
        "decay": jnp.asarray(truth["decay"]),
        "epsilon": jnp.asarray(truth["epsilon"]),
        "log_precision": jnp.array([4.0, 5.0]),
    }


def compiled_trace(program):
    """The trace of a program, run compiled: one operation at a time takes ten seconds."""
    sites = {}

    @jax.jit
    def run(key):
        sites.update(handlers.trace(handlers.seed(program, key)).get_trace())
        return {name: site["value"] for name, site in sites.items()}

    values = run(jax.random.key(0))
    return {name: site | {"value": values[name]} for name, site in sites.items()}


@pytest.fixture(scope="module")
def trace(program):
    return compiled_trace(program)


def kinds(trace, kind, observed=False):
    return {
        name: site
        for name, site in trace.items()
        if site["type"] == kind and site.get("is_observed", False) == observed
    }


def test_only_free_parameters_are_sampled(trace):
    sampled = {name: site["value"].size for name, site in kinds(trace, "sample").items()}
    assert sampled == FREE | {"log_precision": 2}
    assert list(kinds(trace, "sample", observed=True)) == ["signal"]
    full = TaskDCM(np.ones((2, 2)), np.ones((2, 2, 2)), np.ones((2, 2)))
    with handlers.seed(rng_seed=0), handlers.trace() as sites:
        for prior in full.priors:
            sample_prior(prior)
    assert list(sites) == ["A", "B", "C", "transit", "decay", "epsilon"]


def test_full_arrays_and_physical_units_are_deterministic(trace, model):
    sites = {name: site["value"] for name, site in kinds(trace, "deterministic").items()}
    assert {"A", "B", "C"} < set(sites)
    A_free = trace["A_free"]["value"]
    np.testing.assert_array_equal(sites["A"], [[A_free[0], 0], [A_free[1], A_free[2]]])
    np.testing.assert_array_equal(np.asarray(sites["B"]) != 0, np.array(B) == 1)
    expected = np.array(sites["A"])
    np.fill_diagonal(expected, -0.5 * np.exp(np.diag(expected)))
    np.testing.assert_allclose(sites["effective_connectivity"], expected)
    expected[1, 0] += sites["B"][1, 1, 0]
    np.testing.assert_allclose(sites["modulated_connectivity"][1], expected)
    np.testing.assert_allclose(sites["input_effect"], sites["C"] / 16)
    np.testing.assert_allclose(sites["transit_time"], 2 * np.exp(trace["transit"]["value"]))
    np.testing.assert_allclose(sites["decay_rate"], 0.64 * np.exp(trace["decay"]["value"]))
    assert set(sites) <= set(model.dims())


def test_a_fixed_self_connection_is_minus_half(data):
    fixed = TaskDCM([[0, 0], [1, 0]], C=C, B=B, integrator="bilinear")
    prior = fixed.priors[0]
    assert prior.name == "A" and prior.mean[0, 0] == 0 and not prior.free[0, 0]
    assert fixed.labels(data)["A_free"] == ["A[R2, R1]"]


def test_two_state_connections_in_hertz(data):
    two_state = TaskDCM(A, B, C, two_state=True, integrator="bilinear")
    trace = compiled_trace(two_state.program(data))
    np.testing.assert_allclose(
        trace["effective_connectivity"]["value"], np.exp(trace["A"]["value"]) / 8
    )
    assert trace["A"]["value"][0, 1] == -32  # absent


def test_labels_name_regions_and_inputs(model, data, trace):
    labels = model.labels(data)
    assert labels == {
        "A_free": ["A[R1, R1]", "A[R2, R1]", "A[R2, R2]"],
        "B_free": ["B[input 2, R2, R1]"],
        "C_free": ["C[R1, input 1]"],
        "transit": ["transit[R1]", "transit[R2]"],
        "decay": ["decay"],
        "epsilon": ["epsilon"],
        "log_precision": ["log_precision[R1]", "log_precision[R2]"],
    }
    for name, site in kinds(trace, "sample").items():
        assert len(labels[name]) == site["value"].size
    gated = TaskDCM(A, B, C, np.ones((2, 2, 2)))
    assert gated.labels(data)["D"][1] == "D[R1, R1, R2]"  # gating, to, from
    assert gated.dims()["D"] == ("gating", "to", "from")


def test_precisions_are_marked_for_variational_laplace(trace):
    # The prior itself, N(6, 1/128), is part of the joint density below.
    roles = {name: site["infer"].get("role") for name, site in kinds(trace, "sample").items()}
    assert [name for name, role in roles.items() if role == "precision"] == ["log_precision"]


def test_the_joint_density_is_prior_times_likelihood(model, data, program, values, truth):
    joint = jax.jit(lambda at: log_density(program, (), {}, at)[0])(values)
    prior = 0.0
    for p in model.priors:
        deviation = (truth[p.name] - p.mean)[p.free]
        variance = p.variance[p.free]
        prior -= (deviation**2 / variance + np.log(2 * np.pi * variance)).sum() / 2
    deviation = np.asarray(values["log_precision"]) - 6
    prior -= (deviation**2 * 128 + np.log(2 * np.pi / 128)).sum() / 2
    prediction = model.predict(truth, data)

    @jax.jit
    def likelihood(prediction, log_precision):
        site = gaussian(prediction, log_precision, confounds=data.confounds)
        return site.log_prob(data.scaled_signal)

    expected = prior + float(likelihood(prediction, values["log_precision"]))
    assert float(joint) == pytest.approx(expected, rel=1e-10)


def test_observed_data_are_scaled_and_restored(model, data, trace):
    np.testing.assert_array_equal(trace["signal"]["value"], data.scaled_signal)
    large = data.replace(signal=100 * data.signal + 7)
    assert large.scale < 1
    np.testing.assert_allclose(
        model.restore(large.scaled_signal, large), large.signal, rtol=0, atol=1e-10
    )


def test_diverging_parameters_have_no_density(program, values):
    density = jax.jit(lambda v: log_density(program, (), {}, v)[0])
    assert np.isfinite(density(values))
    for wild in ({"C_free": jnp.array([1e6])}, {"A_free": jnp.array([0.0, 1e5, -800.0])}):
        assert density(values | wild) == -np.inf


def test_diverging_parameters_of_the_nonlinear_integrator(data, values):
    cyclic = TaskDCM([[1, 1], [1, 1]], B, C)
    program = cyclic.program(data)
    at = {name: value for name, value in values.items() if name != "A_free"}
    density = jax.jit(lambda A: log_density(program, (), {}, at | {"A": A})[0])
    assert np.isfinite(density(jnp.zeros((2, 2))))
    assert density(jnp.array([[0.0, 6.0], [6.0, 0.0]])) == -np.inf


def test_conditioning_and_predictive(program, values, data):
    conditioned = handlers.condition(program, {"A_free": values["A_free"]})
    trace = handlers.trace(handlers.seed(conditioned, jax.random.key(1))).get_trace()
    assert trace["A_free"]["is_observed"]
    np.testing.assert_array_equal(trace["A"]["value"][1], [0.4, -0.1])
    prior = Predictive(program, num_samples=3)(jax.random.key(0))
    assert prior["A"].shape == (3, 2, 2) and prior["A_free"].shape == (3, 3)
    np.testing.assert_array_equal(prior["signal"], np.stack([data.scaled_signal] * 3))


def test_predictive_draws_the_signal_where_it_is_not_observed(model, data, values):
    def forget(site):
        return site["name"] == "signal"

    posterior = {name: jnp.stack([value] * 50) for name, value in values.items()}
    generative = handlers.uncondition(model.program(data))
    draws = Predictive(generative, posterior)(jax.random.key(2))["signal"]
    assert draws.shape == (50, 24, 2)
    sd = np.exp(-np.asarray(values["log_precision"]) / 2)
    np.testing.assert_allclose(draws.std(axis=0).mean(axis=0), sd, rtol=0.1)


@pytest.mark.exhaustive
def test_nuts_needs_nothing_but_the_program(program, values):
    init = numpyro.infer.init_to_value(values=values)
    kernel = NUTS(program, init_strategy=init, max_tree_depth=4)
    sampler = MCMC(kernel, num_warmup=10, num_samples=10, progress_bar=False)
    sampler.run(jax.random.key(0))
    draws = sampler.get_samples()
    assert draws["A"].shape == (10, 2, 2) and np.isfinite(draws["A"]).all()
    assert len(np.unique(draws["A_free"][:, 1])) > 1
    assert (draws["A"][:, 0, 1] == 0).all()


@pytest.mark.parametrize("change", ["regions", "inputs", "none"])
def test_data_that_do_not_fit_are_refused(model, data, change):
    if change == "regions":
        wrong = data.replace(
            signal=data.signal[:, :1], region_names=None, slice_delays=data.slice_delays[:1]
        )
    elif change == "inputs":
        wrong = data.replace(inputs=data.inputs[:, :1], input_names=None)
    else:
        wrong = data.replace(inputs=None, input_dt=None, input_names=None)
    message = {"regions": "1 regions", "inputs": "1 inputs", "none": "inputs is None"}[change]
    with pytest.raises(ValueError, match=message):
        model.program(wrong)
