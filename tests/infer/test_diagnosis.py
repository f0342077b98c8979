"""Every sentence of a diagnosis, in a situation that calls for it; and a healthy fit."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.infer import Fit, diagnose
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.results import FlatPosterior
from bayesdcm.observe import gaussian


@pytest.fixture(scope="module")
def data(linear_data):
    return linear_data()


@pytest.fixture(scope="module")
def sampled(linear, data, exact):
    """A function that makes a NUTS fit of given draws: what the sampler would have returned."""
    mean, covariance, _ = exact(data)
    problem = make_problem(linear(), data)

    def make(chains=4, draws=1000, shift=0.0, smooth=0.0, divergences=0, slow_energy=False):
        rng = np.random.default_rng(1)
        white = rng.normal(size=(chains, draws, 2))
        for i in range(1, draws):
            white[:, i] = smooth * white[:, i - 1] + np.sqrt(1 - smooth**2) * white[:, i]
        white[0] += shift
        positions = mean + white @ np.linalg.cholesky(covariance).T
        energy = rng.normal(size=(chains, draws))
        diverging = np.zeros((chains, draws), bool)
        diverging.flat[:divergences] = True
        statistics = {
            "lp": np.zeros((chains, draws)),
            "energy": np.cumsum(energy, axis=1) if slow_energy else energy,
            "diverging": diverging,
        }
        posterior = FlatPosterior(draws=positions, statistics=statistics)
        return Fit("nuts", None, {}, {"converged": True}, problem, posterior, "linear")

    return make


def only(fit, *beginnings):
    """The diagnosis, which must name these problems and no others."""
    found = fit.diagnose()
    assert len(found.problems) == len(beginnings), str(found)
    for problem, beginning in zip(found.problems, beginnings, strict=True):
        assert problem.startswith(beginning), problem
    assert found.ok == (not beginnings)
    assert str(found).count("\n- ") == max(len(beginnings) - 1, 0)
    return found


@pytest.fixture(scope="module")
def healthy(linear, data):
    return bayesdcm.fit(linear(), data)


def test_nothing_is_found_in_a_healthy_fit(healthy):
    found = only(healthy)
    assert str(found) == "No problem found."
    assert found.facts["converged"] and found.facts["recoveries"] == 0
    assert found.facts["pareto_k"] < 0.5
    assert found.facts["diverging_draws"] == 0
    assert 0.2 < found.facts["explained_variance"].item() < 1
    assert 0 < found.facts["largest_prior_shift"] < 2
    assert str(diagnose(healthy)) == str(found)


def test_nothing_is_found_in_healthy_chains(sampled):
    found = only(sampled())
    assert found.facts["r_hat"] < 1.01
    assert found.facts["ess_bulk"] > 3000 and found.facts["ess_tail"] > 3000
    assert found.facts["divergences"] == 0
    assert found.facts["energy"] == pytest.approx(2, abs=0.3)


def test_too_few_iterations(linear, data):
    fit = bayesdcm.fit(linear(), data, max_iterations=2)
    text = "Variational Laplace had not converged after 2 iterations"
    assert fit.diagnose().problems[0].startswith(text)
    assert "Raise max_iterations" in str(fit.diagnose())
    assert not fit.diagnose().facts["converged"]


def test_a_drifting_bound(sampled):
    healthy = sampled()
    fit = Fit("svi", -1.0, {}, {"converged": False}, healthy._problem, with_density(healthy), "")
    only(fit, "The evidence lower bound was still drifting")


def with_density(fit, scale=1.0):
    """Draws as of a variational posterior, whose density is scaled normal."""
    draws = fit._posterior.sample
    flat = draws.reshape(-1, draws.shape[-1])
    mean, covariance = flat.mean(0), np.cov(flat, rowvar=False) * scale
    white = np.linalg.solve(np.linalg.cholesky(covariance), (flat - mean).T)
    density = -(white**2).sum(0) / 2 - np.linalg.slogdet(2 * np.pi * covariance)[1] / 2
    return FlatPosterior(draws=draws, log_q=density.reshape(draws.shape[:2]))


def test_a_stopped_run(sampled):
    fit = sampled()
    fit.status["complete"] = False
    only(fit, "The run was stopped before its end; only finished draws were kept.")


def test_chains_that_disagree(sampled):
    found = only(
        sampled(shift=0.5),
        "Chains disagree: R-hat is 1.0",
        "The effective sample size for the centre of b[",
    )
    assert found.facts["r_hat"] > 1.01
    assert "for b[" in str(found)


def test_one_chain(sampled):
    only(sampled(chains=1), "There is one chain only")


def test_few_draws(sampled):
    found = only(
        sampled(draws=60),
        "The effective sample size for the centre of b[",
        "The effective sample size for the tails of b[",
    )
    assert found.facts["ess_bulk"] < 400
    assert f"is {found.facts['ess_bulk']:.0f} (should be at least 400). Raise draws" in str(found)


def test_draws_that_hardly_move(sampled):
    problems = sampled(smooth=0.99).diagnose().problems
    assert [p.split(" ", 1)[0] for p in problems] == ["Chains", "The", "The"]


def test_divergences(sampled):
    only(sampled(divergences=3), "3 trajectories diverged: part of the posterior may be missed.")


def test_energy_that_mixes_slowly(sampled):
    found = only(sampled(slow_energy=True), "The energy mixes slowly (Bayesian fraction")
    assert found.facts["energy"] < 0.3


@pytest.mark.slow
def test_one_chain_of_the_sampler(linear, data):
    settings = {"warmup": 50, "draws": 50, "progress": False, "chain_method": "vectorized"}
    fit = bayesdcm.fit(linear(), data, "nuts", chains=1, **settings)
    text = str(fit.diagnose())
    assert "There is one chain only, so convergence cannot be checked; use chains=4." in text
    assert "Raise draws." in text
    assert fit.summary()["r_hat"].isna().all()


def test_a_prior_at_odds_with_the_data(linear, data):
    far = data | {"y": data["y"] + data["X"] @ np.array([0.0, 6.0])}
    found = only(bayesdcm.fit(linear(), far), "The posterior is at odds with the prior: b[two]")
    shift = found.facts["largest_prior_shift"]
    assert shift > 5
    assert f"moved by {shift:.1f} prior standard deviations" in str(found)


def test_noise_is_not_explained(linear, data):
    noise = data | {"y": np.random.default_rng(8).normal(size=30) / 2, "prior_mean": np.zeros(2)}
    found = only(bayesdcm.fit(linear(), noise), "The model explains little of the data: ")
    assert found.facts["explained_variance"].item() < 0.1
    assert "% of the variance of y" in str(found)


def test_a_posterior_that_is_not_normal():
    def program(data):
        x = numpyro.sample("x", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        # A banana: only the product is known.
        numpyro.sample("y", gaussian(x[0] * jnp.exp(2 * x[1]) + 0 * data, 5.0), obs=data)

    data = 1.0 + 0.1 * np.random.default_rng(0).normal(size=12)
    found = bayesdcm.fit(program, data).diagnose()
    assert found.facts["pareto_k"] > 0.7
    k = found.facts["pareto_k"]
    text = f"The Gaussian approximation differs from the true posterior (Pareto k-hat {k:.2f}"
    assert text in str(found)


def test_an_approximation_that_is_too_narrow(sampled):
    healthy = sampled()
    # The draws are spread two and a half times as wide as the density says.
    posterior = with_density(healthy, scale=0.15)
    fit = Fit("svi", -1.0, {}, {"converged": True}, healthy._problem, posterior, "")
    only(fit, "The variational approximation differs from the true posterior (Pareto k-hat ")


def test_precisions_may_leave_their_prior(linear, linear_data):
    loud = linear_data(4)
    # The prior of the log-precision, N(10, 1), is wrong by far, which is no conflict worth telling.
    fit = bayesdcm.fit(linear(learned=True), loud | {"log_precision": np.array(10.0)})
    found = fit.diagnose()
    assert abs(fit.mean["h"] - 10) > 5
    assert not any("at odds with the prior" in problem for problem in found.problems)


def test_trajectories_on_their_way_to_divergence_are_left_out():
    import xarray as xr

    from bayesdcm.infer.diagnosis import _finite_mean

    values = np.ones((1, 6, 2))
    values[0, 0], values[0, 1] = np.inf, 1e200
    mean = _finite_mean(xr.DataArray(values, dims=("chain", "draw", "time")))
    assert mean.tolist() == [1.0, 1.0]
