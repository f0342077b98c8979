"""SVI: traces, seeds, convergence, interruption."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from tqdm.auto import tqdm

import bayesdcm
from bayesdcm.infer import svi
from bayesdcm.observe import gaussian


def approximate(linear, data, **options):
    settings = {"steps": 300, "draws": 4000, "progress": False} | options
    return bayesdcm.fit(linear(), data, "svi", **settings)


@pytest.fixture(scope="module")
def data(linear_data):
    return linear_data()


@pytest.fixture(scope="module")
def fit(linear, data):
    return approximate(linear, data)


def test_the_trace_holds_one_bound_a_step(fit):
    assert set(fit.trace) == {"elbo"}
    assert fit.trace["elbo"].shape == (300,)
    assert np.isfinite(fit.trace["elbo"]).all()
    assert fit.trace["elbo"][-50:].mean() == pytest.approx(fit.log_evidence, abs=0.2)
    assert fit.status["converged"] and fit.status["guide"] == "full_rank"


def test_the_same_seed_gives_the_same_numbers(linear, data, fit):
    same, other = (approximate(linear, data, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(same.trace["elbo"], fit.trace["elbo"])
    np.testing.assert_array_equal(same.idata.posterior["b"], fit.idata.posterior["b"])
    assert same.log_evidence == fit.log_evidence
    assert not np.isclose(other.trace["elbo"], fit.trace["elbo"]).all()


def test_draws_carry_the_density_of_the_guide(fit):
    assert fit.idata.posterior["b"].shape == (1, 4000, 2)
    stats = fit.idata.sample_stats
    gap = np.asarray(stats["lp"] - stats["log_q"])
    # The bound is the mean of what importance weights measure.
    assert gap.mean() == pytest.approx(fit.log_evidence, abs=1e-9)
    assert gap.std() < 0.5


def test_draws_that_diverge_lower_the_bound():
    """A part of the prior is without likelihood: a bound stays one, and says what it leaves out."""

    def program(data):
        x = numpyro.sample("x", dist.Normal(1, 1))
        rate = jnp.where(x > 0, jnp.log(x), jnp.nan)
        numpyro.sample("y", gaussian(rate + 0 * data, 0.0), obs=data)

    data = np.zeros(1)
    x = np.linspace(1e-9, 10, 200_001)
    density = stats.norm(1).pdf(x) * stats.norm(np.log(x)).pdf(0)
    exact = np.log(np.trapezoid(density, x))
    fit = bayesdcm.fit(program, data, "svi", steps=100, surrogate=False, progress=False)
    assert fit.status["diverging_draws"] > 0
    with pytest.warns(RuntimeWarning, match="diverges at .* draws of the approximation"):
        found = bayesdcm.log_evidence(fit)
    assert float(found) < exact and not found.ok


def test_steps_are_rounded_up_to_blocks(linear, data):
    stopped = approximate(linear, data, steps=260)
    assert stopped.trace["elbo"].shape == (300,)


def test_interruption_keeps_the_steps_done(linear, data, fit, monkeypatch, caplog):
    updates, update = [], tqdm.update

    def interrupted(self, n=1):
        updates.append(n)
        if len(updates) == 3:
            raise KeyboardInterrupt
        return update(self, n)

    monkeypatch.setattr(tqdm, "update", interrupted)
    with caplog.at_level("WARNING", "bayesdcm"):
        stopped = approximate(linear, data)
    assert "SVI was stopped after 150 of 300 steps" in caplog.text
    np.testing.assert_array_equal(stopped.trace["elbo"], fit.trace["elbo"][:150])
    assert np.isfinite(stopped.log_evidence)
    assert stopped.idata.posterior["b"].shape == (1, 4000, 2)
    assert not stopped.status["complete"]
    assert "The run was stopped before its end" in str(stopped.diagnose())


def test_convergence_is_told_from_the_last_quarter():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=1000)
    drift = np.linspace(0, 40, 1000)
    assert svi._settled(-100 + noise)
    assert svi._settled(-100 + noise - 500 * np.exp(-np.arange(1000) / 50))
    assert not svi._settled(-100 + noise + drift)
    assert not svi._settled(np.where(np.arange(1000) > 900, np.nan, noise))
