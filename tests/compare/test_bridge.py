"""Evidence by bridge and importance sampling against linear models, whose evidence is known."""

import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bayesdcm
from bayesdcm.compare import bridge_sampling, log_evidence
from bayesdcm.compare.bridge import optimal_bridge
from bayesdcm.compare.estimate import effective_draws, log_joints, log_priors, relative_variance
from bayesdcm.compare.evidence import importance_sampling
from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian

CONFOUND_VARIANCE = 1e8


def linear(data):
    """Effects with a standard normal prior, unit noise; a drift of no interest where given."""
    size = data["design"].shape[1]
    effects = numpyro.sample("effects", dist.Normal(jnp.zeros(size), 1.0).to_event(1))
    prediction = jnp.asarray(data["design"]) @ effects
    observation = gaussian(prediction, 0.0, confounds=data.get("drift"))
    numpyro.sample("y", observation, obs=jnp.asarray(data["y"]))


def linear_data(size, seed, drift=False):
    rng = np.random.default_rng(seed)
    times = 2 * size + 20
    design = rng.normal(size=(times, size)) @ (
        np.eye(size) + 0.3 * rng.normal(size=(size, size)) / np.sqrt(size)
    )
    data = {"design": design, "y": design @ rng.normal(size=size) + rng.normal(size=times)}
    if drift:
        data["drift"] = np.stack([np.ones(times), np.linspace(-1, 1, times)], axis=1)
        data["y"] = data["y"] + data["drift"] @ [4.0, -2.0]
    return data


def exact_evidence(data):
    covariance = np.eye(len(data["y"])) + data["design"] @ data["design"].T
    if "drift" in data:
        covariance += CONFOUND_VARIANCE * data["drift"] @ data["drift"].T
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    return -0.5 * (log_determinant + data["y"] @ np.linalg.solve(covariance, data["y"]))


def exact_draws(data, shape, seed=0):
    """Independent draws of the posterior, and its covariance."""
    size = data["design"].shape[1]
    noise = np.eye(len(data["y"]))
    if "drift" in data:
        noise += CONFOUND_VARIANCE * data["drift"] @ data["drift"].T
    weighed = np.linalg.solve(noise, data["design"])
    covariance = np.linalg.inv(np.eye(size) + data["design"].T @ weighed)
    mean = covariance @ weighed.T @ data["y"]
    noise = np.random.default_rng(seed).normal(size=(*shape, size))
    return mean + noise @ np.linalg.cholesky(covariance).T, covariance


# The bar: within 0.05 nat at the defaults of NUTS, for 5, 20 and 60 parameters.


SLOW, EXHAUSTIVE = pytest.mark.slow, pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("size", "drift"),
    [
        pytest.param(5, True, id="5, confounds", marks=SLOW),
        pytest.param(5, False, id="5", marks=EXHAUSTIVE),
        pytest.param(20, False, id="20", marks=EXHAUSTIVE),
        pytest.param(60, False, id="60", marks=EXHAUSTIVE),
        pytest.param(60, True, id="60, confounds", marks=EXHAUSTIVE),
    ],
)
def test_evidence_of_linear_models(size, drift):
    data = linear_data(size, 1, drift)
    exact = exact_evidence(data)
    fit = bayesdcm.fit(linear, data, "nuts", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = log_evidence(fit)
    assert found.method == "bridge" and found.ok
    assert float(found) == pytest.approx(exact, abs=0.05)
    assert abs(found.log_evidence - exact) < 4.5 * found.standard_error + 1e-3
    assert found.standard_error < 0.01
    # The free energy of variational Laplace is the same number, up to where SPM's rule stops.
    laplace = bayesdcm.fit(linear, data)
    assert float(log_evidence(laplace)) == pytest.approx(exact, abs=0.02)
    assert float(log_evidence(laplace, "importance")) == pytest.approx(exact, abs=0.02)


def test_confounds_count_alike_for_all_methods():
    data = linear_data(5, 1, drift=True)
    exact, draws = exact_evidence(data), exact_draws(data, (4, 500))[0]
    assert log_evidence(bayesdcm.fit(linear, data)).log_evidence == pytest.approx(exact, abs=0.02)
    found = bridge_sampling(make_problem(linear, data), draws)
    assert float(found) == pytest.approx(exact, abs=0.02)


def test_standard_errors_are_those_of_repetitions():
    """Independent draws, many times: errors are as large as they are said to be."""
    data = linear_data(8, 3)
    problem, exact = make_problem(linear, data), exact_evidence(data)
    scores, errors = [], []
    for seed in range(60):
        draws, _ = exact_draws(data, (2, 150), seed)
        found = bridge_sampling(problem, draws, seed=1000 + seed, proposals=200)
        scores.append((float(found) - exact) / found.standard_error)
        errors.append(found.standard_error)
    assert np.mean(errors) < 0.05
    # The binomial and chi-squared bands of 60 repetitions at four standard errors, and a tenth
    # for an error that is itself estimated.
    assert abs(np.mean(scores)) < 4 / np.sqrt(60)
    assert 1 - 4 / np.sqrt(120) < np.std(scores) + 0.1
    assert np.std(scores) - 0.1 < 1 + 4 / np.sqrt(120)


def test_a_guess_at_the_covariance_helps_where_draws_are_few():
    data = linear_data(40, 4)
    draws, covariance = exact_draws(data, (4, 100))
    problem, exact = make_problem(linear, data), exact_evidence(data)
    plain = bridge_sampling(problem, draws)
    informed = bridge_sampling(problem, draws, scale=covariance)
    assert informed.details["overlap"] > 0.9 > plain.details["overlap"]
    assert informed.standard_error < plain.standard_error / 3
    assert float(informed) == pytest.approx(exact, abs=5 * informed.standard_error)
    assert float(plain) == pytest.approx(exact, abs=5 * plain.standard_error)


def skewed(data):
    """The logarithm of an exponential variable, whose posterior is a Gamma."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    numpyro.sample("interval", dist.Exponential(rate), obs=data)


@pytest.mark.parametrize("warp", [False, True])
def test_skewed_posteriors(warp):
    interval = 1.5
    # The posterior is Gamma(3, 2.5); in unconstrained coordinates, its logarithm.
    draws = np.log(stats.gamma(3, scale=1 / 2.5).rvs((4, 1000, 1), random_state=1))
    exact = np.log(2) - 3 * np.log(1 + interval)
    found = bridge_sampling(make_problem(skewed, interval), draws, warp=warp)
    assert float(found) == pytest.approx(exact, abs=4 * found.standard_error)
    assert found.standard_error < 0.02 and found.ok
    assert found.details["overlap"] > 0.8


SHAPE = np.exp(-0.5 * np.arange(6.0))
RESPONSE = 2 * SHAPE + 0.1 * np.array([1.0, -1.0, 0.5, 0.0, -0.5, 1.0])


def ridge(data):
    """A gain and an amplitude, of which data know the product only."""
    gain = numpyro.sample("gain", dist.Normal(1.0, 8.0), infer={"role": "observer"})
    amplitude = jnp.exp(numpyro.sample("scale", dist.Normal(0.0, 1.0)))
    numpyro.sample("y", gaussian(gain * amplitude * SHAPE, 3.0), obs=data)


def test_sites_that_are_integrated_out():
    """Along a curved ridge, no normal density is near the posterior of all parameters."""
    scales = np.linspace(-5, 5, 20_001)
    power, noise = np.exp(2 * scales) * (SHAPE @ SHAPE), np.exp(-3.0)
    # The gain's posterior for each scale, in closed form; and the density of the scale with data.
    precision = 1 / 64 + power / noise
    centre = (1 / 64 + np.exp(scales) * (SHAPE @ RESPONSE) / noise) / precision
    joint = stats.norm().logpdf(scales) + 3 * (3.0 - np.log(2 * np.pi)) - np.log(8)
    joint += (centre**2 * precision - 1 / 64 - RESPONSE @ RESPONSE / noise - np.log(precision)) / 2
    exact = np.log(np.trapezoid(np.exp(joint), scales))
    random = np.random.default_rng(0)
    share = np.cumsum(np.exp(joint - joint.max()))
    place = np.searchsorted(share / share[-1], random.uniform(size=(4, 500)))
    gain = centre[place] + random.normal(size=place.shape) / np.sqrt(precision[place])
    problem, draws = make_problem(ridge, RESPONSE), np.stack([scales[place], gain], axis=-1)
    found = bridge_sampling(problem, draws)
    assert found.details["collapsed"] == ["gain"] and found.ok
    assert float(found) == pytest.approx(exact, abs=4 * found.standard_error)
    assert found.standard_error < 0.01
    # So does importance sampling; the approximation itself is off.
    laplace = bayesdcm.fit(ridge, RESPONSE)
    assert float(log_evidence(laplace, "importance", draws=2000)) == pytest.approx(exact, abs=0.1)


def test_what_chains_hide_is_told():
    data = linear_data(5, 1)
    draws, _ = exact_draws(data, (4, 60))
    # Every draw a hundred times: few that are independent.
    sticky = np.repeat(draws[:, :20], 100, axis=1)
    problem = make_problem(linear, data)
    found = bridge_sampling(problem, sticky)
    assert not found.ok and "raise draws" in found.problems[0].lower()
    # Halves in different places.
    moved = exact_draws(data, (4, 500))[0]
    moved[:, 250:] += 1.0
    found = bridge_sampling(problem, moved)
    assert not found.ok
    with pytest.raises(ValueError, match="5 parameters needs at least 36 draws, got 20; raise"):
        bridge_sampling(problem, draws[:, :5])


def test_densities_of_many_points():
    data = linear_data(5, 1)
    problem = make_problem(linear, data)
    points = np.random.default_rng(0).normal(size=(300, 5))
    expected = stats.norm(points @ data["design"].T).logpdf(data["y"]).sum(1)
    prior = stats.norm().logpdf(points).sum(1)
    np.testing.assert_allclose(log_joints(problem, points), expected + prior, atol=1e-8)
    np.testing.assert_allclose(log_priors(problem, points), prior, atol=1e-8)


def test_bridge_by_hand():
    # Constant ratios: no error. Without any overlap, nothing can be said.
    found = optimal_bridge(np.full((2, 40), -3.0), np.full(60, -3.0))
    assert found.log_ratio == pytest.approx(-3.0, abs=1e-8)
    assert found.variance == 0.0 and found.overlap == pytest.approx(1.0)
    with pytest.raises(ValueError, match="0 of 10 draws of the proposal"):
        optimal_bridge(np.zeros((1, 10)), np.full(10, -np.inf))
    # Two normals, half a standard deviation apart, known up to a factor of e.
    random = np.random.default_rng(2)
    one, two = random.normal(0.5, 1, size=(4, 5000)), random.normal(0, 1, size=20_000)
    found = optimal_bridge(*(1 + stats.norm(0.5).logpdf(x) - stats.norm().logpdf(x)
                             for x in (one, two)))  # fmt: skip
    assert found.log_ratio == pytest.approx(1.0, abs=4 * np.sqrt(found.variance))
    grid = np.linspace(-8, 9, 20_001)
    p, g = stats.norm(0.5).pdf(grid), stats.norm().pdf(grid)
    assert found.overlap == pytest.approx(np.trapezoid(2 * p * g / (p + g), grid), abs=0.01)


def test_effective_numbers():
    random = np.random.default_rng(0)
    noise = random.normal(size=(4, 2000))
    walk = np.zeros_like(noise)
    for i in range(1, noise.shape[1]):
        walk[:, i] = 0.8 * walk[:, i - 1] + noise[:, i]
    assert effective_draws(walk) == pytest.approx(8000 / 9, rel=0.3)
    assert effective_draws(noise) <= 8000
    assert effective_draws(np.ones((2, 50))) == 100
    assert relative_variance(np.exp(noise)) == pytest.approx((np.e - 1) / 8000, rel=0.3)


def test_importance_sampling_knows_its_limits():
    random = np.random.default_rng(1)
    light = importance_sampling(random.normal(-0.02, 0.2, size=4000))
    assert light.ok and float(light) == pytest.approx(0.0, abs=4 * light.standard_error)
    assert light.details["bound"] < float(light)
    heavy = importance_sampling(1.5 * random.exponential(size=4000))
    assert not heavy.ok and "heavy tail" in heavy.problems[0]


@pytest.fixture(scope="module")
def laplace():
    return bayesdcm.fit(linear, linear_data(5, 1))


def test_the_evidence_that_a_fit_comes_with(laplace):
    found = log_evidence(laplace)
    assert found.method == "free_energy" and np.isnan(found.standard_error)
    assert float(found) == laplace.log_evidence
    # As `load_fit` makes them, where the program is not given.
    loaded = bayesdcm.Fit(None, laplace.posterior, {"_modelled_data": laplace._modelled_data})
    assert float(log_evidence(loaded)) == float(found)
    with pytest.raises(ValueError, match="cannot hold a program of one's own; give it with its"):
        log_evidence(loaded, "importance")
    laplace.status["converged"] = False
    with pytest.warns(RuntimeWarning, match="by free_energy is not to be trusted: The fit has not"):
        log_evidence(laplace)
    laplace.status["converged"] = True


@pytest.mark.exhaustive
def test_the_bound_of_svi_and_what_importance_makes_of_it():
    data = linear_data(5, 1)
    fit = bayesdcm.fit(linear, data, "svi", steps=100, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound = log_evidence(fit)
    found = log_evidence(fit, "importance")
    assert bound.method == "elbo"
    exact = exact_evidence(data)
    assert float(found) == pytest.approx(exact, abs=4 * found.standard_error + 1e-6)
    assert abs(float(found) - exact) < abs(float(bound) - exact) + 0.01


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("bridge",), ValueError, "needs draws of the posterior, fit is by 'laplace'"),
        (("guess",), ValueError, "method must be one of 'free_energy', 'bridge'.*got 'guess'"),
    ],
)
def test_what_does_not_suit_a_fit_is_said(laplace, arguments, error, text):
    with pytest.raises(error, match=text):
        log_evidence(laplace, *arguments)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="fit must be a Fit, got float"):
        log_evidence(-3.0)
