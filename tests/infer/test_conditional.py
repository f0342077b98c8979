"""Programs with observer sites: SPM's `spm_nlsi_N`, closed forms, and the ways to write them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.infer.density import layout
from bayesdcm.infer.stages import CONSTANT, OBSERVATION, STATES, Stages
from bayesdcm.observe import gaussian
from tests.infer.conftest import Sharing

# Compiled as users compile: rounding decides whether a step is the last.
pytestmark = pytest.mark.usefixtures("optimized_file")

OBSERVER, PRECISION = {"role": "observer"}, {"role": "precision"}
# The prior of confounds' coefficients in SPM's scheme for evoked responses.
FLAT = np.exp(-16)


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_conditional.npz") as arrays:
        return dict(arrays)


def tridiagonal(n):
    """SPM's precision of evoked responses."""
    return 1.25 * np.eye(n) - 0.5 * np.eye(n, k=1) - 0.5 * np.eye(n, k=-1)


def normal(mean, variance):
    return dist.Normal(jnp.asarray(mean), jnp.sqrt(jnp.asarray(variance))).to_event(1)


def two_states(p, t, u):
    a, k, b = p
    return jnp.stack([jnp.exp(a - jnp.exp(k) * t) * jnp.sin(2 * t), b * jnp.cos(t) + a * b * t * u])


@dataclass(frozen=True)
class Generic(Sharing):
    """SPM's small problem, by the protocol of the package's models: equal ones share code."""

    whole: bool = False
    noise: str = "temporal"

    observed_site = "y"

    def prepare(self, data):
        return {name: jnp.asarray(value) for name, value in data.items() if "/" not in name}

    def predict(self, p, g, data):
        x1, x2 = two_states(p, data["t"], data["u"])
        third = data["observer_mean"][2]
        channels = jnp.stack([x1 * g[0], x2 * g[1], third * (x1 + x2)], axis=1)
        return jnp.tile(channels, (1, 2))

    def sample(self, data):
        # The order of sites is not that of the flat vector.
        h = numpyro.sample("h", dist.Normal(data["hE"], jnp.sqrt(data["hC"])), infer=PRECISION)
        g = normal(data["observer_mean"][:2], data["observer_variance"][:2])
        g = numpyro.sample("g", g, infer=OBSERVER)
        p = normal(data["parameters_mean"], data["parameters_variance"])
        p = numpyro.sample("p", p)
        # A call that jit leaves whole has no states to take out.
        predict = jax.jit(self.predict) if self.whole else self.predict
        y = predict(p, g, data)
        Q = tridiagonal(len(data["t"]))[None]
        if self.noise == "dense":
            Q = np.kron(Q, np.eye(y.shape[1]))
        likelihood = gaussian(y, h, Q, np.asarray(confounds(len(data["t"]))), FLAT)
        numpyro.sample("y", likelihood, obs=data["y"])

    def labels(self, data):
        return {"p": ["a", "k", "b"], "g": ["first", "second"], "h": ["h"]}


def confounds(n):
    """A constant and half a cosine, orthonormal."""
    i = np.arange(n)
    wave = np.sqrt(2 / n) * np.cos(np.pi * (2 * i + 1) / (2 * n))
    return np.stack([np.full(n, n**-0.5), wave], axis=1)


@pytest.fixture(scope="module")
def fits(spm):
    return {d: bayesdcm.fit(Generic(), spm, derivatives=d) for d in ("exact", "one_sided")}


# SPM's derivatives are one-sided differences with a step of exp(-8). With exact ones, F is up to
# 2.5e-4 nats away on the way and 8e-6 at the end, and estimates are 6e-5 away.
@pytest.mark.parametrize(
    ("derivatives", "evidence", "path", "moments"),
    [("exact", 1e-5, 5e-4, 1e-4), ("one_sided", 1e-9, 1e-9, 1e-10)],
)
def test_the_generic_problem_agrees_with_spm(spm, fits, derivatives, evidence, path, moments):
    fit = fits[derivatives]
    np.testing.assert_allclose(confounds(40), spm["confounds"], atol=1e-12)
    assert fit.log_evidence == pytest.approx(spm["F"], abs=evidence)
    assert fit.status["converged"] and fit.status["n_iterations"] == 21
    for name in ("free_energy", "predicted_change"):
        np.testing.assert_allclose(fit.trace[name], spm[f"trace/{name}"], atol=path)
    for name in ("log_step", "accepted", "observer_steps", "precision_steps"):
        np.testing.assert_array_equal(fit.trace[name], spm[f"trace/{name}"])
    np.testing.assert_allclose(fit.mean["p"], spm["parameters_posterior_mean"], atol=moments)
    np.testing.assert_allclose(fit.mean["g"], spm["observer_posterior_mean"][:2], atol=moments)
    covariance = fit.covariance
    assert list(covariance) == ["a", "k", "b", "first", "second", "h"]
    for block, name in ((slice(0, 3), "parameters"), (slice(3, 5), "observer")):
        expected = spm[f"{name}_posterior_covariance"]
        expected = expected[: block.stop - block.start, : block.stop - block.start]
        np.testing.assert_allclose(covariance.iloc[block, block], expected, atol=moments)
    assert np.abs(covariance.iloc[:3, 3:5].to_numpy()).min() > 1e-3
    terms = spm["terms"]
    accuracy = terms[[0, 5, 6]].sum()
    assert fit.status["accuracy"] == pytest.approx(accuracy, abs=1e-9 if path < 1e-8 else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{"whole": True}, {"noise": "dense"}], ids=str)
def test_how_a_program_is_written_does_not_matter(spm, fits, variant):
    other, fit = bayesdcm.fit(Generic(**variant), spm), fits["exact"]
    assert other.log_evidence == pytest.approx(fit.log_evidence, abs=1e-7)
    assert other.status["n_iterations"] == 21
    np.testing.assert_allclose(other.mean["p"], fit.mean["p"], atol=1e-6)
    np.testing.assert_allclose(other.covariance, fit.covariance, atol=1e-6)


@pytest.mark.slow
def test_several_starts_and_data_sets_share_compiled_code(spm, fits):
    from bayesdcm.infer.inversion import run_laplace

    before = run_laplace.n_compiled
    several = bayesdcm.fit(Generic(), spm, starts=3, seed=1)
    if jax.default_backend() == "cpu":
        assert run_laplace.n_compiled == before
    energies = several.trace["starts_free_energy"]
    assert energies.shape == (3,)
    assert energies[0] == pytest.approx(fits["exact"].log_evidence, abs=1e-8)
    assert several.log_evidence == energies.max()
    for name in ("free_energy", "observer_steps"):
        assert len(several.trace[name]) == several.status["n_iterations"]
    before = run_laplace.n_compiled
    other = bayesdcm.fit(Generic(), spm | {"y": 1.1 * spm["y"]})
    assert run_laplace.n_compiled == before
    assert other.log_evidence != fits["exact"].log_evidence


def test_iterations_are_64_unless_told(spm, monkeypatch):
    seen = []
    from bayesdcm.infer import many_inversions

    def record(source, sites, settings, prepared, start):
        seen.append(settings[0])
        raise InterruptedError

    monkeypatch.setattr(many_inversions, "run_laplace", record)
    for options in ({}, {"max_iterations": 5}):
        with pytest.raises(InterruptedError):
            bayesdcm.fit(Generic(), spm, **options)
    assert seen == [64, 5]


# Linear models


@pytest.fixture(scope="module")
def problem():
    """Two columns; a design for parameters, one for the observer, two temporal components."""
    rng = np.random.default_rng(4)
    n = 24
    correlation = 0.7 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    Q = np.stack([tridiagonal(n), np.linalg.inv(correlation)])
    X, Z = rng.normal(size=(n, 2, 3)), rng.normal(size=(n, 2, 2))
    noise = np.linalg.cholesky(np.linalg.inv(2 * Q.sum(0))) @ rng.normal(size=(n, 2))
    y = X @ [0.5, -1.0, 0.3] + Z @ [1.0, 0.4] + noise + [3.0, -1.0]
    return {"X": X, "Z": Z, "y": y, "Q": Q}


def linear_program(problem, count, infer, dense=False):
    """Log-precisions are known."""
    n, Q = len(problem["y"]), problem["Q"][:count]
    Q = np.kron(Q, np.eye(2)) if dense else Q

    def program(y):
        b = numpyro.sample("b", normal(np.zeros(3), np.ones(3)))
        g = numpyro.sample("g", normal(np.full(2, 0.5), np.full(2, 0.25)), infer=infer)
        h = jnp.full(count, np.log(2.0))
        prediction = problem["X"] @ b + problem["Z"] @ g
        numpyro.sample("y", gaussian(prediction, h, Q, np.ones((n, 1)), 1e-4), obs=y)

    return program


def linear_posterior(problem, count):
    """Mean, covariance and evidence in closed form."""
    n = len(problem["y"])
    P = np.kron(2 * problem["Q"][:count].sum(0), np.eye(2))
    B = np.concatenate([problem["X"], problem["Z"]], axis=2).reshape(2 * n, 5)
    B = np.concatenate([B, np.kron(np.ones((n, 1)), np.eye(2))], axis=1)
    mean, prior = np.r_[np.zeros(3), 0.5, 0.5, 0, 0], np.r_[np.ones(3), 4, 4, 1e-4, 1e-4]
    covariance = np.linalg.inv(B.T @ P @ B + np.diag(prior))
    e = problem["y"].ravel() - B @ mean
    marginal = np.linalg.inv(P) + B @ np.diag(1 / prior) @ B.T
    evidence = -(e @ np.linalg.solve(marginal, e) + np.linalg.slogdet(2 * np.pi * marginal)[1]) / 2
    return (mean + covariance @ B.T @ P @ e)[:5], covariance[:5, :5], evidence


@pytest.fixture(scope="module")
def linear_fit(problem):
    """A function that fits a linear program, once."""

    @cache
    def fit(count, observer, dense):
        infer = OBSERVER if observer else {}
        return bayesdcm.fit(linear_program(problem, count, infer, dense), problem["y"])

    return fit


@pytest.mark.parametrize("count", [1, 2])
def test_linear_models_have_the_exact_posterior(problem, linear_fit, count):
    mean, covariance, evidence = linear_posterior(problem, count)
    fit = linear_fit(count, True, False)
    assert fit.status["converged"]
    # SPM's scheme adds exp(-16) to variances.
    np.testing.assert_allclose(fit.covariance, covariance, atol=1e-6)
    found = np.r_[fit.mean["b"], fit.mean["g"]]
    # Steps in parameters and observer neglect each other, and stop at 0.1 nat.
    assert (np.abs(found - mean) / np.sqrt(np.diag(covariance))).max() < 0.1
    assert fit.log_evidence == pytest.approx(evidence, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("observer", [True, False], ids=["observer", "plain"])
def test_several_temporal_components_are_those_of_all_data(linear_fit, observer):
    fits = [linear_fit(2, observer, dense) for dense in (False, True)]
    assert fits[0].log_evidence == pytest.approx(fits[1].log_evidence, abs=1e-8)
    np.testing.assert_allclose(fits[0].covariance, fits[1].covariance, atol=1e-9)
    np.testing.assert_allclose(fits[0].mean["b"], fits[1].mean["b"], atol=1e-8)


def learned_program(problem):
    """One log-precision serves all columns and both observed sites; two have their own share."""

    def program(y):
        b = numpyro.sample("b", normal(np.zeros(3), np.ones(3)))
        g = numpyro.sample("g", normal(np.full(2, 0.5), np.full(2, 0.25)), infer=OBSERVER)
        h = numpyro.sample("h", normal(np.zeros(2), np.ones(2)), infer=PRECISION)
        prediction = problem["X"] @ b + problem["Z"] @ g
        ones = np.ones((len(y), 1))
        for c in range(2):
            fn = gaussian(prediction[:, c], h, problem["Q"], ones, 1e-4)
            numpyro.sample(f"y{c}", fn, obs=y[:, c])

    return program


@pytest.mark.slow
def test_sites_may_share_log_precisions(problem):
    def joint(y):
        b = numpyro.sample("b", normal(np.zeros(3), np.ones(3)))
        g = numpyro.sample("g", normal(np.full(2, 0.5), np.full(2, 0.25)), infer=OBSERVER)
        h = numpyro.sample("h", normal(np.zeros(2), np.ones(2)), infer=PRECISION)
        prediction = problem["X"] @ b + problem["Z"] @ g
        fn = gaussian(prediction, h, problem["Q"], np.ones((len(y), 1)), 1e-4)
        numpyro.sample("y", fn, obs=y)

    apart = bayesdcm.fit(learned_program(problem), problem["y"])
    together = bayesdcm.fit(joint, problem["y"])
    assert apart.log_evidence == pytest.approx(together.log_evidence, abs=1e-8)
    np.testing.assert_allclose(apart.mean["h"], together.mean["h"], atol=1e-8)
    np.testing.assert_allclose(apart.covariance, together.covariance, atol=1e-8)


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["svi", "nuts"])
def test_other_methods_take_observer_sites_as_parameters(problem, method):
    mean, covariance, evidence = linear_posterior(problem, 1)
    program = linear_program(problem, 1, OBSERVER)
    fit = bayesdcm.fit(program, problem["y"], method, progress=False)
    found, sd = np.r_[fit.mean["b"], fit.mean["g"]], np.sqrt(np.diag(covariance))
    assert (np.abs(found - mean) / sd).max() < 0.15
    np.testing.assert_allclose(np.r_[fit.sd["b"], fit.sd["g"]], sd, rtol=0.12)
    if method == "svi":
        assert fit.log_evidence == pytest.approx(evidence, abs=0.2)


def test_an_observer_alone_is_fitted_as_parameters(problem):
    def program(y):
        g = numpyro.sample("g", normal(np.zeros(2), np.ones(2)), infer=OBSERVER)
        numpyro.sample("y", gaussian(problem["Z"] @ g, 0.0), obs=y)

    fit = bayesdcm.fit(program, problem["y"])
    assert "observer_steps" not in fit.trace
    assert fit.status["converged"]


def test_states_that_are_not_finite_are_stepped_back_from(sharing, caplog):
    def cliff(y):
        b = numpyro.sample("b", dist.Normal(0.0, 10.0))
        g = numpyro.sample("g", dist.Normal(1.0, 0.1), infer=OBSERVER)
        state = jnp.where(b < 1, b, jnp.nan)
        numpyro.sample("y", gaussian(g * state + 0 * y, 2.0), obs=y)

    y, model = np.array([1.31, 1.29, 1.32, 1.28]), sharing(cliff)
    with caplog.at_level("WARNING", "bayesdcm"):
        fit = bayesdcm.fit(model, y)
    assert fit.status["recoveries"] > 0
    assert "the trajectory diverged" in caplog.text
    assert 0.8 < fit.mean["b"] < 1 and np.isfinite(fit.log_evidence)
    with pytest.raises(ValueError, match="not finite at any starting point"):
        bayesdcm.fit(model, y, starts=np.array([[2.0, 1.0]]))


def test_sites_are_ordered_by_role(spm):
    model = Generic()
    sites = layout(model.program(spm))
    assert [site.name for site in sites.sites] == ["p", "g", "h"]
    assert (sites.n_parameters, sites.n_observer, sites.size) == (5, 2, 6)
    assert [site.role for site in sites.sites] == ["parameter", "observer", "precision"]


# The cut


def test_stages_evaluate_what_each_needs():
    weights = jnp.arange(3.0)

    def function(p, g, h):
        states = jnp.sin(p) * weights + jnp.exp(h)
        largest = jnp.argmax(p)
        return [states * g[largest] + h, jnp.cos(p), weights * g]

    given = jnp.array([0.1, 0.5, 0.2]), jnp.array([1.0, 2.0, 3.0]), jnp.array(0.3)
    traced = jax.make_jaxpr(function)(*given)
    stages = Stages(traced.jaxpr, traced.consts, (STATES, OBSERVATION, CONSTANT))
    constant = stages.constant(given[2])
    states, discrete = stages.states(constant, given[0])
    assert len(states) == 2 and [d.dtype.kind for d in discrete] == ["i"]
    found = stages.observation(constant, states, discrete, given[1])
    for one, other in zip(found, function(*given), strict=True):
        np.testing.assert_array_equal(one, other)
    rest = jax.make_jaxpr(lambda g: stages.observation(constant, states, discrete, g))(given[1])
    assert "sin" not in str(rest) and "exp" not in str(rest)
