"""How variational Laplace behaves: starts, limits, recovery, components, reproducibility."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.infer.laplace import variational_laplace
from bayesdcm.infer.problem import make_problem, normal_prior
from bayesdcm.infer.variational_laplace import laplace_starts
from bayesdcm.observe import gaussian


def square_program(data):
    """Two modes: the prior prefers the positive one."""
    b = numpyro.sample("b", dist.Normal(0.2, 1.0))
    numpyro.sample("y", gaussian(b**2 + 0 * data, 3.0), obs=data)


SQUARES = np.array([0.9, 1.1, 1.2, 0.8])


def cliff_program(data):
    """A prediction that does not exist beyond b = 1."""
    b = numpyro.sample("b", dist.Normal(0.0, 10.0))
    numpyro.sample("y", gaussian(jnp.where(b < 1, b, jnp.nan) + 0 * data, 2.0), obs=data)


def test_several_starts_keep_the_best():
    starts = np.array([[-1.0], [1.0], [-2.0], [0.5]])
    fit = bayesdcm.fit(square_program, SQUARES, starts=starts)
    energies = fit.trace["starts_free_energy"]
    assert energies.shape == (4,)
    np.testing.assert_allclose(energies[[0, 2]], energies[0], atol=0.01)
    np.testing.assert_allclose(energies[[1, 3]], energies[1], atol=0.01)
    # Both modes have the same curvature: the prior tells them apart.
    assert energies[1] - energies[0] == pytest.approx(0.4, abs=0.02)
    assert fit.log_evidence == energies.max()
    assert fit.mean["b"] == pytest.approx(1.0, abs=0.01)


def test_a_number_of_starts_begins_with_the_prior_mean(linear, linear_data):
    data = linear_data()
    one = bayesdcm.fit(linear(), data)
    several = bayesdcm.fit(linear(), data, starts=3, seed=5)
    again = bayesdcm.fit(linear(), data, starts=3, seed=5)
    others = bayesdcm.fit(linear(), data, starts=3, seed=6)
    energies = several.trace["starts_free_energy"]
    assert energies.shape == (3,)
    assert energies[0] == pytest.approx(one.log_evidence, abs=1e-9)
    np.testing.assert_allclose(energies, one.log_evidence, atol=1e-2)
    for fit in (again, others):
        assert np.array_equal(fit.trace["starts_free_energy"], energies) == (fit is again)
    np.testing.assert_array_equal(again.mean["b"], several.mean["b"])
    np.testing.assert_array_equal(again.idata.posterior["b"], several.idata.posterior["b"])
    assert not np.array_equal(others.idata.posterior["b"], several.idata.posterior["b"])


def test_vectorised_starts_equal_single_runs(linear, linear_data):
    data = linear_data()
    starts = np.array([[0.2, 0.0], [3.0, -1.0], [-2.0, 2.0]])
    together = bayesdcm.fit(linear(), data, starts=starts)
    single = [bayesdcm.fit(linear(), data, starts=start[None]) for start in starts]
    energies = together.trace["starts_free_energy"]
    np.testing.assert_allclose(energies, [fit.log_evidence for fit in single], rtol=1e-10)
    best = single[np.argmax(energies)]
    for name in ("n_iterations", "converged", "recoveries"):
        assert together.status[name] == best.status[name]
    for name in ("free_energy", "predicted_change", "log_step", "accepted"):
        np.testing.assert_allclose(
            together.trace[name], best.trace[name], rtol=1e-6, atol=1e-9, err_msg=name
        )
    np.testing.assert_allclose(together.mean["b"], best.mean["b"], rtol=1e-9)
    np.testing.assert_allclose(together.covariance, best.covariance, rtol=1e-9)


def test_the_trace_tells_of_every_iteration(linear, linear_data):
    fit = bayesdcm.fit(linear(), linear_data())
    n = fit.status["n_iterations"]
    assert 4 <= n < 40
    names = {"free_energy", "predicted_change", "log_step", "accepted"}
    assert set(fit.trace) == names | {"starts_free_energy"}
    for name in names:
        assert fit.trace[name].shape == (n,)
        assert np.isfinite(fit.trace[name]).all()
    assert fit.trace["accepted"].all()
    # The step grows from -4 by a half an iteration, and gains are small at the end.
    np.testing.assert_allclose(fit.trace["log_step"], np.minimum(-4 + 0.5 * np.arange(1, n + 1), 4))
    assert (fit.trace["predicted_change"][-4:] < 0.1).all()
    assert fit.trace["predicted_change"][-5] >= 0.1
    assert (np.diff(fit.trace["free_energy"])[2:] > -1e-9).all()
    assert fit.log_evidence == fit.trace["free_energy"][-1]
    assert fit.status["accuracy"] - fit.status["complexity"] == pytest.approx(fit.log_evidence)
    assert fit.status["recoveries"] == 0


def test_the_limit_of_iterations_is_kept_and_told(linear, linear_data):
    fit = bayesdcm.fit(linear(), linear_data(), max_iterations=3)
    assert fit.status["n_iterations"] == 3
    assert not fit.status["converged"]
    assert fit.trace["free_energy"].shape == (3,)
    assert "not converged" in repr(fit)


def test_a_proposal_that_diverges_is_taken_back_and_counted(caplog):
    # The data ask for b = 1.1, beyond the edge: full steps leave the domain.
    data = np.array([1.11, 1.09, 1.12, 1.08])
    with caplog.at_level("WARNING", "bayesdcm"):
        fit = bayesdcm.fit(cliff_program, data)
    recoveries = fit.status["recoveries"]
    assert recoveries > 0
    assert f"the trajectory diverged {recoveries} time(s)" in caplog.text
    assert 0.9 < fit.mean["b"] < 1
    assert np.isfinite(fit.log_evidence)
    # Part of the normal posterior lies where the model does not exist: no NaN, but weight zero.
    lp = np.asarray(fit.idata.sample_stats["lp"])
    beyond = np.asarray(fit.idata.posterior["b"]) >= 1
    assert 0.3 < beyond.mean() < 0.7
    assert (lp[beyond] == -np.inf).all() and np.isfinite(lp[~beyond]).all()
    found = str(fit.diagnose())
    assert f"The trajectory diverged {recoveries} time(s) during optimisation" in found
    assert f"The model diverges at {beyond.sum()} of 1000 draws of the posterior" in found


def test_no_finite_start_is_an_error():
    with pytest.raises(ValueError, match="not finite at any starting point; check the data"):
        bayesdcm.fit(cliff_program, np.zeros(4), starts=np.array([[2.0]]))


@pytest.fixture(scope="module")
def by_components():
    """A function that fits two columns, whose noise is said by precision components or without."""
    rng = np.random.default_rng(2)
    X, scales = rng.normal(size=(12, 2)), np.array([0.3, 1.0])
    y = X @ np.array([[1.0, 0.5], [-0.5, 0.2]]) + rng.normal(size=(12, 2)) * scales
    y = y + np.array([4.0, -2.0])
    diagonal = np.tile(np.eye(2), (1, 12))
    dense = np.stack([np.diag(d) for d in diagonal])

    @cache
    def fit(kind):
        components = {"none": None, "diagonal": diagonal, "dense": dense}[kind]

        def program(data):
            b = numpyro.sample("b", dist.Normal(jnp.zeros((2, 2)), 1.0).to_event(2))
            h = numpyro.sample(
                "h", dist.Normal(jnp.zeros(2), 1.0).to_event(1), infer={"role": "precision"}
            )
            observation = gaussian(X @ b, h, components=components, confounds=np.ones((12, 1)))
            numpyro.sample("y", observation, obs=data)

        return bayesdcm.fit(program, y)

    return fit


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["diagonal", "dense"])
def test_equivalent_components_give_equal_posteriors(by_components, kind):
    plain, other = by_components("none"), by_components(kind)
    assert other.log_evidence == pytest.approx(plain.log_evidence, abs=1e-6)
    np.testing.assert_allclose(other.mean["b"], plain.mean["b"], atol=1e-7)
    np.testing.assert_allclose(other.mean["h"], plain.mean["h"], atol=1e-7)
    np.testing.assert_allclose(other.covariance, plain.covariance, atol=1e-8)
    assert other.status["n_iterations"] == plain.status["n_iterations"]
    # The noisier column has the lower precision.
    assert plain.mean["h"][0] > plain.mean["h"][1] + 1


def test_correlated_noise_agrees_with_generalised_least_squares():
    rng = np.random.default_rng(7)
    n = 20
    X = rng.normal(size=(n, 2))
    correlation = 0.8 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    precision = np.linalg.inv(correlation)
    y = X @ np.array([1.0, -1.0]) + np.linalg.cholesky(correlation) @ rng.normal(size=n) * 0.5

    def program(data):
        b = numpyro.sample("b", dist.Normal(jnp.zeros(2), 2.0).to_event(1))
        observation = gaussian(X @ b, jnp.log(jnp.array([4.0])), components=precision[None])
        numpyro.sample("y", observation, obs=data)

    fit = bayesdcm.fit(program, y)
    covariance = np.linalg.inv(4 * X.T @ precision @ X + np.eye(2) / 4)
    mean = covariance @ (4 * X.T @ precision @ y)
    np.testing.assert_allclose(fit.covariance, covariance, atol=1e-6)
    assert (np.abs(fit.mean["b"] - mean) / np.sqrt(np.diag(covariance))).max() < 2e-3
    marginal = correlation / 4 + 4 * X @ X.T
    evidence = -(y @ np.linalg.solve(marginal, y) + np.linalg.slogdet(2 * np.pi * marginal)[1]) / 2
    assert fit.log_evidence == pytest.approx(evidence, abs=1e-5)


@pytest.mark.slow
def test_a_prior_that_is_known_to_be_normal_changes_no_number():
    """With other means and variances than the usual ones, and off the prior mean."""
    example = bayesdcm.load_example("attention")
    priors = {"A": (0.1, 0.05), "transit": (0.2, 0.01), "log_precision": (1.0, 2.0)}
    problem = make_problem(example.model.with_priors(priors), example.data)
    program, sites = problem.source.bind(problem.prepared), problem.sites
    start = laplace_starts(problem, 1, 0)[0] + 0.01
    normal = normal_prior(problem.source, sites, problem.prepared)
    by_program, known = (
        jax.jit(lambda given=given: variational_laplace(program, sites, start, 6, normal=given))()
        for given in (None, normal)
    )
    assert by_program.free_energy == pytest.approx(float(known.free_energy), abs=1e-9)
    np.testing.assert_allclose(known.mean, by_program.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(known.covariance, by_program.covariance, rtol=1e-8, atol=1e-14)
    assert known.n_iterations == by_program.n_iterations == 6
