"""Every method against posteriors that are known in closed form or by quadrature."""

from functools import partial
from typing import NamedTuple

import arviz as az
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.integrate import trapezoid
from scipy.optimize import minimize
from scipy.special import gammaln

import bayesdcm
from bayesdcm.infer.density import evaluate
from bayesdcm.infer.problem import make_problem
from bayesdcm.models.priors import sample_prior
from bayesdcm.neural import HorseshoePrior, Prior
from bayesdcm.observe import WishartObservation, gaussian

LINEAR = pytest.mark.parametrize("extended", [False, True], ids=["plain", "two sites, confounds"])
SLOW = partial(pytest.param, marks=pytest.mark.slow)


def z_scores(draws, mean):
    """Errors of the means of draws (chains, draws, n) in Monte-Carlo standard errors."""
    flat = draws.reshape(-1, draws.shape[-1])
    ess = [float(az.ess(np.ascontiguousarray(draws[..., i]))) for i in range(draws.shape[-1])]
    return (flat.mean(0) - mean) * np.sqrt(ess) / flat.std(0)


def flat_draws(fit, *names):
    """Draws of sites side by side, (chains, draws, entries)."""
    values = [np.asarray(fit.idata.posterior[name]) for name in names]
    return np.concatenate([v.reshape(*v.shape[:2], -1) for v in values], axis=-1)


def assert_sampled(draws, mean, sd):
    """Draws agree with exact moments within Monte-Carlo error."""
    assert np.abs(z_scores(draws, mean)).max() < 4
    # The square's own Monte-Carlo error is that of a mean.
    assert np.abs(z_scores((draws - mean) ** 2, np.asarray(sd) ** 2)).max() < 4


# A linear model with known noise


# SPM's stopping rule (gains below 0.1 nat predicted, four times) leaves means and, above all, the
# coefficients of confounds short of the optimum by up to a tenth of a standard deviation, and F by
# thousandths of a nat. The covariance of a linear model does not depend on where it is taken.


@pytest.mark.parametrize("seed", range(8))
@LINEAR
def test_laplace_is_exact_for_linear_models(linear, linear_data, exact, extended, seed):
    data = linear_data(seed, extended=extended)
    mean, covariance, evidence = exact(data)
    sd = np.sqrt(np.diag(covariance))
    fit = bayesdcm.fit(linear(), data)
    assert fit.status["converged"]
    np.testing.assert_allclose(fit.covariance, covariance, atol=1e-6)
    np.testing.assert_allclose(fit.sd["b"], sd, atol=1e-6)
    assert (np.abs(fit.mean["b"] - mean) / sd).max() < (0.05 if extended else 2e-3)
    assert evidence - (0.01 if extended else 1e-5) < fit.log_evidence < evidence + 1e-6


def test_laplace_stays_at_the_exact_posterior(linear, linear_data, exact):
    data = linear_data()
    mean, covariance, evidence = exact(data)
    fit = bayesdcm.fit(linear(), data, starts=mean[None])
    np.testing.assert_allclose(fit.mean["b"], mean, atol=1e-6)
    np.testing.assert_allclose(fit.covariance, covariance, atol=1e-6)
    assert fit.log_evidence == pytest.approx(evidence, abs=1e-6)


def assert_approximated(fit, mean, covariance, evidence):
    sd = np.sqrt(np.diag(covariance))
    assert fit.log_evidence == pytest.approx(evidence, abs=0.1)
    assert (np.abs(fit.mean["b"] - mean) / sd).max() < 0.1
    np.testing.assert_allclose(fit.sd["b"], sd, rtol=0.06)
    correlation = np.corrcoef(flat_draws(fit, "b")[0].T)[0, 1]
    assert correlation == pytest.approx(covariance[0, 1] / sd[0] / sd[1], abs=0.06)
    assert fit.status["converged"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "guide",
    [
        "full_rank",
        "laplace",
        *(pytest.param(g, marks=pytest.mark.exhaustive) for g in ("low_rank", "flow")),
    ],
)
def test_guides_that_know_correlations(linear, linear_data, exact, guide):
    data = linear_data()
    # Low rank does not start from the Gaussian approximation's correlations, and has to find them.
    steps = 3000 if guide == "low_rank" else 300
    fit = bayesdcm.fit(linear(), data, "svi", guide=guide, steps=steps, draws=4000, progress=False)
    assert fit.status["guide"] == guide
    assert_approximated(fit, *exact(data))


@pytest.mark.slow
def test_svi_with_two_sites_and_confounds(linear, linear_data, exact):
    data = linear_data(extended=True)
    fit = bayesdcm.fit(linear(), data, "svi", steps=300, draws=4000, progress=False)
    assert_approximated(fit, *exact(data))


@pytest.mark.slow
def test_independent_normals_take_the_diagonal_of_the_precision(linear, linear_data, exact):
    data = linear_data()
    mean, covariance, evidence = exact(data)
    fit = bayesdcm.fit(
        linear(), data, "svi", guide="mean_field", steps=300, draws=4000, progress=False
    )
    precision = np.linalg.inv(covariance)
    sd = 1 / np.sqrt(np.diag(precision))
    assert sd[0] < 0.9 * np.sqrt(covariance[0, 0]), "the example must be correlated"
    assert (np.abs(fit.mean["b"] - mean) / sd).max() < 0.1
    np.testing.assert_allclose(fit.sd["b"], sd, rtol=0.06)
    # The best bound of a factorised normal falls short by half a log-determinant of correlations.
    gap = (np.linalg.slogdet(covariance)[1] + np.log(np.diag(precision)).sum()) / 2
    assert gap > 0.1
    assert fit.log_evidence == pytest.approx(evidence - gap, abs=0.1)


@pytest.mark.parametrize("extended", [False, SLOW(True, id="two sites, confounds")])
def test_nuts_samples_linear_posteriors(linear, linear_data, exact, extended):
    data = linear_data(extended=extended)
    mean, covariance, _ = exact(data)
    fit = bayesdcm.fit(linear(), data, "nuts", progress=False)
    draws = flat_draws(fit, "b")
    assert draws.shape == (4, 750, 2)
    assert_sampled(draws, mean, np.sqrt(np.diag(covariance)))
    products = ((draws - mean)[..., 0] * (draws - mean)[..., 1])[..., None]
    assert np.abs(z_scores(products, covariance[:1, 1])).max() < 4
    assert fit.log_evidence is None
    assert fit.summary()["r_hat"].max() < 1.01


# A linear model with noise to be learned, against quadrature over the log-precision


@pytest.fixture(scope="module")
def learned(linear_data, exact):
    """Data, and the exact evidence and moments of (b, h)."""
    data = linear_data(4)
    h = np.linspace(-4, 6, 4001) + data["log_precision"]
    found = [exact(data, value) for value in h]
    log_joint = np.array([f[2] for f in found]) + stats.norm(data["log_precision"], 1).logpdf(h)
    evidence = np.log(trapezoid(np.exp(log_joint - log_joint.max()), h)) + log_joint.max()
    weight = np.exp(log_joint - evidence)
    means, variances = np.array([f[0] for f in found]), np.array([np.diag(f[1]) for f in found])
    b = trapezoid(weight[:, None] * means, h, axis=0)
    second = trapezoid(weight[:, None] * (variances + means**2), h, axis=0)
    mean_h = trapezoid(weight * h, h)
    sd_h = np.sqrt(trapezoid(weight * (h - mean_h) ** 2, h))
    return data, evidence, np.r_[b, mean_h], np.r_[np.sqrt(second - b**2), sd_h]


def test_laplace_with_learned_noise(linear, learned):
    data, evidence, mean, sd = learned
    fit = bayesdcm.fit(linear(learned=True), data)
    # Variational Laplace factorises parameters and precision: close, not exact.
    assert fit.log_evidence == pytest.approx(evidence, abs=0.1)
    assert (np.abs(fit.mean["b"] - mean[:2]) / sd[:2]).max() < 0.05
    np.testing.assert_allclose(fit.sd["b"], sd[:2], rtol=0.05)
    assert fit.mean["h"] == pytest.approx(mean[2], abs=0.2 * sd[2])
    assert fit.sd["h"] == pytest.approx(sd[2], rel=0.1)
    assert list(fit.covariance) == ["b[one]", "b[two]", "h"]


@pytest.mark.slow
def test_nuts_with_learned_noise(linear, learned):
    data, _, mean, sd = learned
    fit = bayesdcm.fit(linear(learned=True), data, "nuts", progress=False)
    assert_sampled(flat_draws(fit, "b", "h"), mean, sd)


# Priors that are not normal, observations that are not Gaussian


COUNTS = np.array([3, 5, 2, 4, 6, 3, 1, 4])
LENGTHS = np.array([0.3, -0.2, 0.5, 0.1])


def skewed_program(data):
    """A Poisson rate, and a positive location: both posteriors are known."""
    # Sampling from a Gamma prior would take seconds to compile.
    rate = numpyro.sample("rate", dist.Exponential(1.0))
    with numpyro.plate("trial", len(data)):
        numpyro.sample("counts", dist.Poisson(rate), obs=data)
    size = numpyro.sample("size", dist.HalfNormal(1.0))
    numpyro.sample("lengths", gaussian(size + 0 * LENGTHS, 0.0), obs=jnp.asarray(LENGTHS))


def skewed_posterior():
    """Posteriors of rate and size, and the log evidence."""
    total, n = COUNTS.sum(), len(LENGTHS)
    rate = stats.gamma(1 + total, scale=1 / (1 + len(COUNTS)))
    sd = 1 / np.sqrt(1 + n)
    mean = LENGTHS.sum() * sd**2
    size = stats.truncnorm(-mean / sd, np.inf, loc=mean, scale=sd)
    counted = gammaln(1 + total) - (1 + total) * np.log(9) - gammaln(COUNTS + 1).sum()
    joint = stats.multivariate_normal(np.zeros(n), np.eye(n) + 1).logpdf(LENGTHS)
    return rate, size, counted + joint + np.log(2) + stats.norm.logcdf(mean / sd)


@pytest.mark.slow
def test_nuts_with_bounded_parameters_and_counts():
    fit = bayesdcm.fit(skewed_program, COUNTS, "nuts", draws=1500, progress=False)
    rate, size, _ = skewed_posterior()
    assert_sampled(
        flat_draws(fit, "rate", "size"), [rate.mean(), size.mean()], [rate.std(), size.std()]
    )
    assert (flat_draws(fit, "rate", "size") > 0).all()
    assert fit.idata.log_likelihood["counts"].shape == (4, 1500, 8)
    replicated = np.asarray(fit.idata.posterior_predictive["counts"])
    assert replicated.dtype.kind == "i"
    # Mean and variance of the negative binomial predictive distribution.
    assert replicated.mean() == pytest.approx(rate.mean(), rel=0.02)
    assert replicated.var() == pytest.approx(rate.mean() + rate.var(), rel=0.05)


@pytest.mark.slow
def test_svi_with_bounded_parameters_and_counts():
    fit = bayesdcm.fit(skewed_program, COUNTS, "svi", steps=3000, draws=4000, progress=False)
    rate, size, evidence = skewed_posterior()
    # The guide is normal in the logarithms. The best one for a Gamma(a, b) has the exact mean, a/b,
    # and a standard deviation of 1/sqrt(a) in the logarithm.
    assert fit.mean["rate"] == pytest.approx(rate.mean(), rel=0.02)
    logarithm = np.log(flat_draws(fit, "rate"))
    assert logarithm.std() == pytest.approx(1 / np.sqrt(1 + COUNTS.sum()), rel=0.06)
    # For the truncated normal it was found numerically: mean 0.407, sd 0.302.
    assert fit.mean["size"] == pytest.approx(0.407, abs=0.05)
    assert fit.sd["size"] == pytest.approx(0.302, abs=0.05)
    assert evidence - 0.2 < fit.log_evidence < evidence


def test_laplace_names_the_observation_that_is_not_gaussian():
    with pytest.raises(ValueError, match="'laplace' needs Gaussian observations, but 'counts'"):
        bayesdcm.fit(skewed_program, COUNTS)


def test_laplace_works_in_unbounded_coordinates():
    def program(data):
        size = numpyro.sample("size", dist.HalfNormal(1.0))
        numpyro.sample("y", gaussian(size + 0 * data, 2.0), obs=data)

    data = np.array([1.4, 1.9, 1.6, 1.8])
    fit = bayesdcm.fit(program, data)
    precision = 1 + 4 * np.exp(2)
    sd = 1 / np.sqrt(precision)
    # Normal in the logarithm: the moments are those of the draws.
    assert fit.mean["size"] == pytest.approx(data.sum() * np.exp(2) / precision, abs=0.05 * sd)
    assert fit.sd["size"] == pytest.approx(sd, rel=0.06)
    evidence = stats.multivariate_normal(np.zeros(4), np.eye(4) / np.exp(2) + 1).logpdf(
        data
    ) + np.log(2)
    assert fit.log_evidence == pytest.approx(evidence, abs=0.02)


# Laplace priors: the density has a kink, the mean log-density has none


def sparse_line(data):
    x = data["x"]
    w = numpyro.sample("w", dist.Laplace(0.1, 0.3).expand([x.shape[1]]).to_event(1))
    numpyro.sample("y", gaussian((x @ w)[:, None], jnp.zeros(1)), obs=data["y"])


def sparse_sensor(data):
    other = numpyro.sample("other", dist.Normal(0.0, 1.0))
    role = {"role": "observer"}
    w = numpyro.sample("w", dist.Laplace(0.1, 0.3).expand([1]).to_event(1), infer=role)
    both = jnp.concatenate([data["x"] @ w, jnp.sin(jnp.zeros(3)) + other])
    numpyro.sample("y", gaussian(both[:, None], jnp.zeros(1)), obs=data["y"])


def level(y):
    """Data of which the prediction is the parameter."""
    return {"x": np.ones((5, 1)), "y": y}


def posterior_by_quadrature(data):
    """Mean, standard deviation and log evidence of a mean with known noise, Laplace prior."""
    w = np.linspace(-15, 15, 300_001)
    log_joint = stats.laplace(0.1, 0.3).logpdf(w) + stats.norm(w, 1).logpdf(data).sum(0)
    density = np.exp(log_joint - log_joint.max())
    mass = trapezoid(density, w)
    mean = trapezoid(density * w, w) / mass
    sd = np.sqrt(trapezoid(density * (w - mean) ** 2, w) / mass)
    return mean, sd, np.log(mass) + log_joint.max()


def best_gaussian(data):
    """The same of the Gaussian of largest free energy, by search."""
    n, total, squares = len(data), data.sum(), (data**2).sum()

    def energy(point):
        mean, sd = point[0], np.exp(point[1])
        distance = mean - 0.1
        expected = 2 * sd * stats.norm.pdf(distance / sd)
        expected += distance * (2 * stats.norm.cdf(distance / sd) - 1)
        fit = squares - 2 * total * mean + n * (mean**2 + sd**2)
        constants = -n * np.log(2 * np.pi) / 2 - np.log(0.6) + np.log(2 * np.pi * np.e) / 2
        return fit / 2 + expected / 0.3 - constants - point[1]

    found = minimize(energy, [data.mean(), 0.0], tol=1e-14, method="Nelder-Mead")
    return found.x[0], np.exp(found.x[1]), -found.fun


@pytest.mark.parametrize("program", [sparse_line, sparse_sensor])
@pytest.mark.parametrize("centre", [0.1, 0.6, 3.0])
def test_laplace_finds_the_best_gaussian_of_a_laplace_prior(sharing, program, centre):
    data = centre + np.array([[-1.0, 1.0, 0.0, 0.5, -0.4]]).T
    exact_mean, exact_sd, evidence = posterior_by_quadrature(data)
    mean, sd, energy = best_gaussian(data)
    start, constant = [mean], 0.0
    if program is sparse_sensor:
        data = np.concatenate([data, np.zeros((3, 1))])
        start, constant = [0.0, mean], -3 / 2 * np.log(2 * np.pi) - np.log(4) / 2
    fit = bayesdcm.fit(sharing(program), level(data), starts=np.array([start]), progress=False)
    assert np.asarray(fit.covariance)[-1, -1] ** 0.5 == pytest.approx(sd, rel=1e-5)
    assert float(np.ravel(fit.mean["w"])[0]) == pytest.approx(mean, abs=1e-5)
    assert fit.log_evidence - constant == pytest.approx(energy, abs=1e-5)
    assert evidence - 0.05 < fit.log_evidence - constant < evidence + 1e-6
    assert mean == pytest.approx(exact_mean, abs=0.1 * exact_sd)
    assert sd == pytest.approx(exact_sd, rel=0.1)


def test_laplace_reaches_the_best_gaussian_of_a_laplace_prior_from_the_prior_mean(sharing):
    data = 0.4 + np.array([[-1.0, 1.0, 0.0, 0.5, -0.4]]).T
    mean, sd, energy = best_gaussian(data)
    fit = bayesdcm.fit(sharing(sparse_line), level(data), progress=False)
    assert fit.status["converged"]
    assert float(fit.mean["w"][0]) == pytest.approx(mean, abs=0.01 * sd)
    assert float(fit.sd["w"][0]) == pytest.approx(sd, rel=1e-3)
    assert fit.log_evidence == pytest.approx(energy, abs=1e-4)


def test_laplace_with_several_laplace_priors_stays_at_the_best_gaussian():
    x = np.random.default_rng(0).normal(size=(12, 3))
    x[:, 2] += x[:, 1]
    data = x @ [1.0, 0.0, -0.3] + 0.3 * np.cos(7.0 * np.arange(12))
    mean, covariance = np.linalg.solve(x.T @ x, x.T @ data), np.linalg.inv(x.T @ x)
    for _ in range(200):
        distance, sd = mean - 0.1, np.sqrt(np.diag(covariance))
        bend = np.diag(2 * stats.norm.pdf(distance / sd) / sd / 0.3)
        covariance = np.linalg.inv(x.T @ x + bend)
        slope = x.T @ (data - x @ mean) - (2 * stats.norm.cdf(distance / sd) - 1) / 0.3
        mean = mean + covariance @ slope / 2
    assert np.abs(slope).max() < 1e-10
    given = {"x": x, "y": data[:, None]}
    fit = bayesdcm.fit(sparse_line, given, starts=mean[None], progress=False)
    np.testing.assert_allclose(fit.mean["w"], mean, atol=1e-5)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-4, atol=1e-6)


def test_nuts_and_evidence_of_a_laplace_prior_agree_with_quadrature(sharing):
    data = 0.6 + np.array([[-1.0, 1.0, 0.0, 0.5, -0.4]]).T
    mean, sd, evidence = posterior_by_quadrature(data)
    given, options = (sharing(sparse_line), level(data)), {"warmup": 300, "progress": False}
    sampled = bayesdcm.fit(*given, "nuts", chains=2, draws=1000, **options)
    assert_sampled(flat_draws(sampled, "w"), [mean], [sd])
    bridged = bayesdcm.log_evidence(sampled)
    assert float(bridged) == pytest.approx(evidence, abs=4 * bridged.standard_error + 1e-3)
    approximated = bayesdcm.fit(*given, progress=False)
    corrected = bayesdcm.log_evidence(approximated, "importance")
    assert float(corrected) == pytest.approx(evidence, abs=4 * corrected.standard_error + 1e-3)
    path = bayesdcm.log_evidence(approximated, "thermodynamic", path="prior", draws=300)
    assert float(path) == pytest.approx(evidence, abs=4 * path.standard_error + 0.01)


def test_what_needs_normal_priors_refuses_laplace_priors(sharing):
    data = 0.6 + np.array([[-1.0, 1.0, 0.0, 0.5, -0.4]]).T
    fit = bayesdcm.fit(sharing(sparse_line), level(data), progress=False)
    mean, sd = fit._prior_by_site
    assert (mean["w"].item(), sd["w"].item()) == pytest.approx((0.1, 0.3 * np.sqrt(2)), abs=1e-12)
    for refused in (
        lambda: bayesdcm.reduce(fit, off=["w[0]"]),
        lambda: bayesdcm.search_reduced(fit),
        lambda: bayesdcm.peb([fit, fit]),
    ):
        with pytest.raises(ValueError, match="'w' is not normal.* use bayesdcm.compare"):
            refused()


# Surrogates of the density, for NUTS


def saturating(data):
    """A response that no polynomial equals, of two parameters that it does not tell apart well."""
    x = numpyro.sample("x", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    response = jnp.tanh(0.4 * x[0] * jnp.arange(1.0, 5.0) + x[1])
    numpyro.sample("y", gaussian(response, np.log(20.0)), obs=data)


RESPONSE = np.array([0.5, 0.9, 0.6, 1.0])
FREEDOM = 20.0


@pytest.fixture
def surrogate_of_all(monkeypatch):
    """Models that take no time have one, too."""
    monkeypatch.setattr("bayesdcm.infer.surrogate.LEAST_OPERATIONS", 0)


def saturating_power(data):
    x = numpyro.sample("x", dist.Normal(0, 1).expand([2]).to_event(1))
    power = jnp.exp(jnp.tanh(0.4 * x[0] * jnp.arange(1.0, 5.0) + x[1]))[:, None]
    fn = WishartObservation(power, jnp.full(4, FREEDOM), jnp.zeros(4))
    numpyro.sample("y", fn, obs=data[:, None])


def normal_density(response):
    return -10 * (RESPONSE - response) ** 2


def power_density(response):
    return -FREEDOM * (response + RESPONSE * np.exp(-response))


@pytest.mark.usefixtures("surrogate_of_all")
@pytest.mark.parametrize(
    ("program", "density", "least"),
    [(saturating, normal_density, 0.9), (saturating_power, power_density, 0.6)],
    ids=["predictions", "likelihood"],
)
def test_a_surrogate_is_corrected_by_the_density_itself(sharing, program, density, least):
    """Ranks among the posterior on a grid are uniform, of models that are far from quadratic."""
    options = {"starts": 1, "draws": 1500, "progress": False}
    fit = bayesdcm.fit(sharing(program), RESPONSE, "nuts", **options)
    record, acceptance = fit.status["surrogate"], fit.idata.sample_stats["exact_acceptance"]
    assert record["used"] and least < record["acceptance"] < 0.99
    assert acceptance.shape == (4, 1500) and record["acceptance"] == float(acceptance.mean())
    assert fit.status["divergences"] == 0
    axis = np.linspace(-5, 5, 801)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    response = np.tanh(0.4 * x[..., :1] * np.arange(1, 5) + x[..., 1:])
    weight = np.exp(density(response).sum(-1) - (x**2).sum(-1) / 2)
    draws = np.asarray(fit.idata.posterior["x"])
    for i in range(2):
        below = np.cumsum(weight.sum(1 - i)) / weight.sum()
        rank = np.interp(draws[..., i], axis + 5 / 800, below)
        moments = np.stack([rank, rank**2, rank**3], -1)
        assert np.abs(z_scores(moments, [1 / 2, 1 / 3, 1 / 4])).max() < 4


@pytest.mark.usefixtures("surrogate_of_all")
def test_the_density_itself_is_followed_where_a_surrogate_is_poor(sharing, monkeypatch):
    monkeypatch.setattr("bayesdcm.infer.nuts.LEAST_ACCEPTANCE", 1.0)
    options = {"starts": 1, "warmup": 50, "draws": 50, "progress": False}
    fit = bayesdcm.fit(sharing(saturating), RESPONSE, "nuts", **options)
    record = fit.status["surrogate"]
    assert not record["used"] and 0.5 < record["acceptance"] < 1
    assert "exact_acceptance" not in fit.idata.sample_stats
    never = bayesdcm.fit(sharing(saturating), RESPONSE, "nuts", surrogate=False, **options)
    np.testing.assert_array_equal(never.idata.posterior["x"], fit.idata.posterior["x"])
    assert never.status["surrogate"] == {"used": False}


@pytest.mark.usefixtures("surrogate_of_all")
def test_a_guide_is_fitted_to_a_surrogate_with_the_bound_of_the_density(linear, linear_data, exact):
    data = linear_data()
    fit = bayesdcm.fit(linear(), data, "svi", steps=300, draws=4000, progress=False)
    assert fit.status["surrogate"] == {"used": True}
    assert_approximated(fit, *exact(data))


# Horseshoe priors: given their scales, all is normal


class SparseLine(NamedTuple):
    model: object
    data: dict
    mean: np.ndarray
    sd: np.ndarray
    log_evidence: float

    def fit(self, method, **options):
        return bayesdcm.fit(self.model, self.data, method, progress=False, **options)


@pytest.fixture(scope="module")
def horseshoe(sharing):
    """Posterior by importance sampling of the scales from their prior, the rest in closed form."""
    random, n, size, draws = np.random.default_rng(0), 40, 4, 200_000
    x = random.normal(size=(n, size))
    y = x @ [1.0, -0.4, 0.0, 0.0] + random.normal(size=n)
    family = HorseshoePrior(1, slab_scale=1.0, standard_error=n**-0.5)
    shared = family.global_scale(size) * np.abs(random.standard_cauchy((draws, 1)))
    squared = (shared * np.abs(random.standard_cauchy((draws, size)))) ** 2
    slab = 2 / random.gamma(2.0, size=(draws, 1))
    scale = np.sqrt(slab * squared / (slab + squared))
    white = np.eye(size) + scale[:, :, None] * (x.T @ x) * scale[:, None, :]
    covariance = scale[:, :, None] * np.linalg.inv(white) * scale[:, None, :]
    mean = covariance @ (x.T @ y)
    log_weight = (mean @ (x.T @ y) - y @ y - n * np.log(2 * np.pi)) / 2
    log_weight -= np.linalg.slogdet(white)[1] / 2
    weight = np.exp(log_weight - log_weight.max())
    log_evidence = log_weight.max() + np.log(weight.mean())
    weight /= weight.sum()
    centre = weight @ mean
    second = weight @ (np.diagonal(covariance, axis1=1, axis2=2) + mean**2)

    def program(data):
        connections = Prior("b", ("connection",), np.zeros(4), np.ones(4), "Hz")
        b = sample_prior(family.in_place_of(connections))
        numpyro.sample("y", gaussian((data["x"] @ b)[:, None], jnp.zeros(1)), obs=data["y"])

    given = {"x": x, "y": y[:, None]}
    return SparseLine(sharing(program), given, centre, np.sqrt(second - centre**2), log_evidence)


@pytest.mark.exhaustive
def test_nuts_with_a_horseshoe_prior(horseshoe):
    fit = horseshoe.fit("nuts", draws=1000, seed=1)
    assert fit.status["divergences"] <= 5
    assert fit.summary()["r_hat"].max() < 1.01
    assert_sampled(flat_draws(fit, "b"), horseshoe.mean, horseshoe.sd)
    evidence = bayesdcm.log_evidence(fit)
    error = np.hypot(evidence.standard_error, 0.01)
    assert evidence.log_evidence == pytest.approx(horseshoe.log_evidence, abs=4 * error)
    assert fit.problem.uncentred_sites == ["b"]
    assert "at odds with the prior" not in str(fit.diagnose())


def test_a_gaussian_under_a_horseshoe_prior_is_said_to_be_poor(horseshoe, tmp_path):
    fit = horseshoe.fit("laplace")
    # It does not find out that the first connection is there.
    assert horseshoe.mean[0] - fit.mean["b"][0] > horseshoe.sd[0]
    assert "scales of 'b' are parameters themselves" in str(fit.diagnose())
    saved = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc"))
    assert "Use method='nuts'" in str(saved.diagnose())
    with pytest.raises(ValueError, match="'b_global' is not normal; reduction of models"):
        bayesdcm.reduce(fit, {"none": ["b[0]"]})


def test_coordinates_without_location_and_scale():
    def program(data):
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        fn = dist.StudentT(3.0, 2.0, scale).expand([2]).to_event(1)
        x = numpyro.sample("x", fn, infer={"centred": False})
        numpyro.sample("y", gaussian(x[:, None], jnp.zeros(1)), obs=data)

    data = np.zeros((2, 1))
    problem = make_problem(program, data)
    point = jnp.array([np.log(0.5), 1.0, -2.0])
    result = evaluate(partial(program, data), problem.sites, point)
    np.testing.assert_allclose(result.values["x"], [2.5, 1.0], rtol=1e-12)
    expected = stats.halfnorm().logpdf(0.5) + np.log(0.5) + stats.t(3).logpdf([1.0, -2.0]).sum()
    assert float(result.log_prior) == pytest.approx(expected, abs=1e-10)

    def positive(data):
        x = numpyro.sample("x", dist.LogNormal(0.0, 1.0), infer={"centred": False})
        numpyro.sample("y", gaussian(x + 0 * data, 0.0), obs=data)

    with pytest.raises(ValueError, match="site 'x' has infer={'centred': False}, which is for"):
        bayesdcm.fit(positive, np.zeros(3))


@pytest.mark.parametrize(
    "prior",
    [
        dist.AsymmetricLaplace(0.1, 0.3),
        dist.TransformedDistribution(
            dist.Laplace(0.0, 1.0), dist.transforms.AffineTransform(0.1, 0.3)
        ),
    ],
)
def test_kinks_that_are_not_taken_in_the_mean_are_told(prior):
    def program(data):
        w = numpyro.sample("w", prior)
        numpyro.sample("y", gaussian(w * jnp.ones((5, 1)), jnp.zeros(1)), obs=data)

    fit = bayesdcm.fit(program, np.full((5, 1), 0.6), progress=False)
    assert "The prior of 'w' is a transformed or asymmetric Laplace" in str(fit.diagnose())
    with pytest.warns(RuntimeWarning, match="standard deviations and the free energy are wrong"):
        assert not bayesdcm.log_evidence(fit).ok
