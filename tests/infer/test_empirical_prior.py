"""Problems with another prior: the density, the moments and the fits that they have."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

import bayesdcm
from bayesdcm.infer.density import log_joint, prior_centre
from bayesdcm.infer.empirical_prior import JointNormal, with_prior
from bayesdcm.infer.evaluation import prior_sample
from bayesdcm.infer.fitting import fit_problem
from bayesdcm.infer.prior_moments import prior_moments
from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian

TIMES = np.linspace(-1, 1, 12)


def program(data):
    """Six parameters of four shapes; a precision site comes before a parameter."""
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    precision = numpyro.sample("precision", dist.Normal(1.0, 0.2), infer={"role": "precision"})
    slopes = numpyro.sample("slopes", dist.Normal(level * jnp.ones((2, 1)), 0.5).to_event(2))
    with numpyro.plate("orders", 2):
        curves = numpyro.sample("curves", dist.Normal(0.0, 0.7))
    numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    line = level + slopes.sum() * TIMES + curves[0] * TIMES**2 + curves[1] * TIMES**3
    numpyro.sample("y", gaussian(line, precision), obs=data)


NAMES = ["level", "slopes", "curves"]
DATA = np.sin(2 * TIMES)


@pytest.fixture(scope="module")
def problem():
    return make_problem(program, DATA)


def joint(problem, names, seed=0):
    """A prior over the flat vector that couples the entries of some sites."""
    rng = np.random.default_rng(seed)
    size, start = problem.sites.size, 0
    mean, covariance = rng.normal(size=size), np.diag(rng.uniform(0.5, 2, size))
    index = []
    for site in problem.sites.sites:
        index += range(start, start + site.size) if site.name in names else []
        start += site.size
    root = rng.normal(size=(len(index),) * 2)
    covariance[np.ix_(index, index)] = root @ root.T + 0.3 * np.eye(len(index))
    return mean, covariance, index


def test_density_is_that_of_the_joint_normal(problem):
    mean, covariance, index = joint(problem, NAMES)
    moved = with_prior(problem, mean, covariance, NAMES)
    points = np.random.default_rng(1).normal(size=(3, problem.sites.size))
    sites = problem.sites
    before, after = (
        jax.jit(jax.vmap(partial(log_joint, p.source.bind(p.prepared), sites)))(points)
        for p in (problem, moved)
    )
    level, slopes = points[:, 0], points[:, 1:3]
    old = multivariate_normal(cov=1.0).logpdf(level)
    old += multivariate_normal(cov=0.25 * np.eye(2)).logpdf(slopes - level[:, None])
    old += multivariate_normal(cov=0.49 * np.eye(2)).logpdf(points[:, 3:5])
    new = multivariate_normal(mean[index], covariance[np.ix_(index, index)])
    assert_allclose(np.subtract(after, before), new.logpdf(points[:, index]) - old, atol=1e-10)


@pytest.mark.slow
def test_draws_and_centre_are_those_of_the_joint_normal(problem):
    mean, covariance, index = joint(problem, NAMES)
    moved = with_prior(problem, mean, covariance, NAMES)
    draws = np.asarray(prior_sample(moved, 20_000, 3))[:, index]
    sd = np.sqrt(np.diagonal(covariance)[index])
    assert_allclose(draws.mean(0), mean[index], atol=4 * sd.max() / np.sqrt(len(draws)))
    expected = covariance[np.ix_(index, index)]
    assert_allclose(np.cov(draws.T), expected, atol=0.05 * expected.max())
    # Where methods start: later sites at their mean given the earlier ones at theirs.
    centre = prior_centre(moved.source.bind(moved.prepared), moved.sites)
    assert_allclose(np.asarray(centre)[index], mean[index], atol=1e-12)


def linear(data):
    weights = numpyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    numpyro.sample("y", gaussian(level + weights[0] * TIMES + weights[1] * TIMES**2, 1.0), obs=data)


def test_fits_under_the_old_prior_and_a_new_one():
    problem = make_problem(linear, DATA)
    moments = prior_moments(problem)
    plain = bayesdcm.fit(linear, DATA, progress=False)
    same = fit_problem(with_prior(problem, *moments), progress=False)
    assert same.log_evidence == pytest.approx(plain.log_evidence, abs=1e-9)
    assert_allclose(same.covariance, plain.covariance, atol=1e-12)
    assert_allclose(same.mean["weights"], plain.mean["weights"], atol=1e-9)

    mean, covariance, _ = joint(problem, ["weights", "level"], seed=4)
    moved = with_prior(with_prior(problem, *moments), mean, covariance)
    again = prior_moments(moved)
    assert_allclose(again[0], mean, atol=1e-10)
    assert_allclose(again[1], covariance, atol=1e-10)
    fitted = fit_problem(moved, progress=False)
    X = np.stack([TIMES, TIMES**2, np.ones(12)], axis=1)
    marginal = X @ covariance @ X.T + np.exp(-1.0) * np.eye(12)
    expected = multivariate_normal(X @ mean, marginal).logpdf(DATA)
    # SPM's regularised inverses leave this much.
    assert fitted.log_evidence == pytest.approx(expected, abs=1e-6)
    found = np.concatenate([fitted.mean["weights"], fitted.mean["level"][None]])
    gain = covariance @ X.T @ np.linalg.inv(marginal)
    assert_allclose(found, mean + gain @ (DATA - X @ mean), atol=2e-3)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("method", "options"),
    [("nuts", {"chains": 2, "warmup": 100, "draws": 500}), ("svi", {"steps": 600})],
)
def test_other_methods_read_the_new_prior(method, options):
    problem = make_problem(linear, DATA)
    mean, covariance, _ = joint(problem, ["weights", "level"], seed=4)
    fitted = fit_problem(with_prior(problem, mean, covariance), method, progress=False, **options)
    X = np.stack([TIMES, TIMES**2, np.ones(12)], axis=1)
    posterior = np.linalg.inv(np.exp(1.0) * X.T @ X + np.linalg.inv(covariance))
    expected = posterior @ (np.exp(1.0) * X.T @ DATA + np.linalg.solve(covariance, mean))
    found = np.concatenate([fitted.mean["weights"], np.ravel(fitted.mean["level"])])
    sd = np.sqrt(np.diagonal(posterior))
    assert (np.abs(found - expected) < 0.2 * sd).all()
    assert_allclose(np.sqrt(np.diagonal(fitted.covariance)), sd, rtol=0.15)


def test_problems_that_differ_in_their_prior_share_programs():
    problem = make_problem(linear, DATA)
    mean, covariance = prior_moments(problem)
    one, other = with_prior(problem, mean, covariance), with_prior(problem, mean + 1, covariance)
    assert one.source == other.source and hash(one.source) == hash(other.source)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_joint_normal_of_any_shape(shape):
    size = int(np.prod(shape))
    factor = np.linalg.cholesky(np.eye(size) + 0.3)
    loc = np.arange(size, dtype=float).reshape(shape)
    normal = JointNormal(jnp.asarray(loc), jnp.asarray(factor))
    values = np.random.default_rng(0).normal(size=(4, *shape))
    expected = multivariate_normal(loc.ravel(), factor @ factor.T).logpdf(values.reshape(4, -1))
    assert_allclose(normal.log_prob(values), expected)
    assert_allclose(normal.log_prob(values[0]), np.ravel(expected)[0])
    assert_allclose(normal.variance, 1.3 * np.ones(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, C, names: (m[:-1], C, names), "must have shapes"),
        (lambda m, C, names: (m * np.nan, C, names), "must be finite"),
        (lambda m, C, names: (m, C, ["unknown"]), "'unknown', which the program does not sample"),
        (lambda m, C, names: (m, C, ["rate"]), "'rate' is not normal"),
        (lambda m, C, names: (m, -C, names), "positive definite"),
        (lambda m, C, names: (m, C, ["level"]), "couples 'level' with '.*', which keeps its own"),
        (lambda m, C, names: (m, C + 0.01, None), "which keeps its own|must be independent"),
    ],
)
def test_refused(problem, change, message):
    mean, covariance, _ = joint(problem, NAMES)
    with pytest.raises(ValueError, match=message):
        with_prior(problem, *change(mean, covariance, NAMES))


def test_methods_are_checked(problem):
    with pytest.raises(ValueError, match="method must be one of"):
        fit_problem(problem, "exact")
    with pytest.raises(ValueError, match="not an option"):
        fit_problem(problem, steps=3)
