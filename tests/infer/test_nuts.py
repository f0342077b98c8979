"""NUTS: chains in threads or in one batch, seeds, divergences, interruption."""

import os
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from tqdm.auto import tqdm

import bayesdcm
from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.convergence import split_r_hat
from bayesdcm.infer.nuts import _near
from bayesdcm.observe import gaussian

STATISTICS = {
    "lp",
    "energy",
    "n_steps",
    "tree_depth",
    "acceptance_rate",
    "step_size",
    "diverging",
}


def sample(linear, data, **options):
    settings = {"warmup": 100, "draws": 250, "progress": False} | options
    return bayesdcm.fit(linear(), data, "nuts", **settings)


@pytest.fixture(scope="module")
def data(linear_data):
    return linear_data()


@pytest.fixture(scope="module", params=["parallel", "vectorized"])
def fit(request, linear, data):
    return sample(linear, data, chain_method=request.param)


def test_both_ways_to_run_chains_give_the_posterior(fit, exact, data):
    mean, covariance, _ = exact(data)
    table, sd = fit.summary(), np.sqrt(np.diag(covariance))
    error = np.abs(table["mean"] - mean) / sd * np.sqrt(table["ess_bulk"])
    assert error.max() < 4
    np.testing.assert_allclose(table["sd"], sd, rtol=0.15)
    assert table["r_hat"].max() < 1.03
    # Chains start dispersed and are not copies of each other.
    draws = np.asarray(fit.idata.posterior["b"])
    assert len(np.unique(draws[:, 0, 0])) == 4


def test_statistics_of_every_draw(fit):
    stats = fit.idata.sample_stats
    assert STATISTICS <= set(stats.data_vars)
    for name in STATISTICS:
        values = np.asarray(stats[name])
        assert values.shape == (4, 250), name
        assert np.isfinite(values).all(), name
    assert stats["diverging"].dtype == bool
    assert ((stats["acceptance_rate"] >= 0) & (stats["acceptance_rate"] <= 1)).all()
    # The step size is learnt in one window: restarts would leave it too small, the rate too high.
    assert abs(float(stats["acceptance_rate"].mean()) - 0.9) < 0.04
    steps, depth = np.asarray(stats["n_steps"]), np.asarray(stats["tree_depth"])
    assert (steps >= 1).all() and (steps < 2**depth).all() and (steps >= 2 ** (depth - 1)).all()
    # The step size is fixed after warm-up, one a chain.
    assert (np.ptp(np.asarray(stats["step_size"]), axis=1) == 0).all()
    # In whitened coordinates a normal posterior needs a few steps only.
    assert steps.mean() < 8
    assert fit.status["complete"]
    assert set(fit.trace) == {"lp", "n_steps", "diverging"}


def test_convergence_is_told_by_the_draws(fit, linear, data):
    status = fit.status
    assert status["divergences"] == 0
    assert status["r_hat"] == pytest.approx(fit.summary()["r_hat"].max(), abs=1e-9)
    assert status["converged"] == (status["r_hat"] <= 1.01)
    # Five draws a chain are not enough for halves of chains to agree.
    short = sample(linear, data, chain_method="vectorized", draws=5)
    assert short.status["r_hat"] > 1.01
    assert not short.status["converged"] and "not converged" in repr(short)


@pytest.mark.parametrize("draws", [40, 41])
def test_r_hat_is_that_of_arviz(draws):
    values = np.random.default_rng(0).normal(size=(3, draws, 3))
    values[0, :, 0] += 1.0
    values[..., 1] = np.cumsum(values[..., 1], axis=1)
    expected = arviz_adapter.convergence(values)["r_hat"]
    np.testing.assert_allclose(split_r_hat(values), expected, rtol=1e-12)
    assert (split_r_hat(np.zeros((2, 10, 1))) == np.inf).all()
    assert (split_r_hat(values[:, :3]) == np.inf).all()


def test_the_log_density_is_the_joint_one(fit, data, exact):
    h, b = data["log_precision"], np.asarray(fit.idata.posterior["b"])
    residual = data["y"] - b @ data["X"].T
    scaled = (b - data["prior_mean"]) / np.exp(data["prior_log_sd"])
    joint = -(np.exp(h) * (residual**2).sum(-1) + (scaled**2).sum(-1)) / 2
    joint += len(data["y"]) * h / 2 - data["prior_log_sd"].sum()
    joint -= (len(data["y"]) + 2) / 2 * np.log(2 * np.pi)
    lp = np.asarray(fit.idata.sample_stats["lp"])
    # The sampler works in whitened coordinates, which changes the density by a constant only.
    np.testing.assert_allclose(lp, joint, atol=1e-8)


def test_the_same_seed_gives_the_same_numbers(linear, data):
    runs = [sample(linear, data, chain_method="vectorized", seed=s) for s in (3, 3, 4)]
    draws = [np.asarray(run.idata.posterior["b"]) for run in runs]
    np.testing.assert_array_equal(draws[0], draws[1])
    # Single numbers of independent draws may be close; all of them are not.
    assert np.abs(draws[0] - draws[2]).mean() > 0.5 * draws[0].std(axis=(0, 1)).min()
    replicated = [np.asarray(run.idata.posterior_predictive["y"]) for run in runs]
    np.testing.assert_array_equal(replicated[0], replicated[1])


def test_draws_need_not_be_whole_blocks(linear, data):
    fit = sample(linear, data, chain_method="vectorized", draws=60)
    assert fit.idata.posterior["b"].shape == (4, 60, 2)
    assert fit.idata.sample_stats["energy"].shape == (4, 60)


@pytest.mark.slow
def test_adapting_the_metric_gives_the_same_posterior(linear, data, exact):
    fit = sample(linear, data, chain_method="vectorized", adapt_metric=True, warmup=300, draws=500)
    mean, covariance, _ = exact(data)
    table = fit.summary()
    error = np.abs(table["mean"] - mean) / np.sqrt(np.diag(covariance) / table["ess_bulk"])
    assert error.max() < 4
    np.testing.assert_allclose(table["sd"], np.sqrt(np.diag(covariance)), rtol=0.12)


def funnel(data):
    """Scale and values of a hierarchy in the centred form, which makes NUTS diverge."""
    log_scale = numpyro.sample("log_scale", dist.Normal(0.0, 3.0))
    x = numpyro.sample("x", dist.Normal(jnp.zeros(5), jnp.exp(log_scale / 2)).to_event(1))
    numpyro.sample("y", gaussian(x[:1], -4.0), obs=data)


@pytest.mark.slow
def test_divergences_are_counted_and_told(caplog):
    with caplog.at_level("WARNING", "bayesdcm"):
        fit = bayesdcm.fit(
            funnel, np.zeros(1), "nuts", warmup=100, draws=200, chains=2, seed=3, progress=False
        )
    count = int(fit.idata.sample_stats["diverging"].sum())
    assert count > 0
    assert f"{count} trajectories diverged" in caplog.text
    diagnosis = fit.diagnose()
    assert diagnosis.facts["divergences"] == count
    assert f"{count} trajectories diverged: part of the posterior" in str(diagnosis)


# Four blocks of 25 warm up, ten are kept. In one batch an update is a block of all chains; on one
# thread it is a block of one chain, and chains follow each other.
@pytest.mark.parametrize(
    ("chain_method", "stop_at", "chains", "draws"),
    [
        pytest.param("vectorized", 7, 4, 75, id="in one batch"),
        pytest.param("parallel", 3 * 14 + 13, 4, 225, id="in the last chain"),
        pytest.param("parallel", 2 * 14 + 6, 2, 250, id="early in the third chain"),
        pytest.param("parallel", 2 * 14 + 2, 2, 250, id="while the third warms up"),
        pytest.param("parallel", 6, 1, 50, id="in the first chain"),
    ],
)
@pytest.mark.parametrize("fit", ["parallel"], indirect=True)
def test_interruption_keeps_finished_draws(
    linear, data, fit, chain_method, stop_at, chains, draws, monkeypatch, caplog
):
    updates, update = [], tqdm.update

    def interrupted(self, n=1):
        updates.append(n)
        if len(updates) == stop_at:
            raise KeyboardInterrupt
        return update(self, n)

    monkeypatch.setattr(tqdm, "update", interrupted)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with caplog.at_level("WARNING", "bayesdcm"):
        stopped = sample(linear, data, chain_method=chain_method)
    assert not stopped.status["complete"]
    kept = f"{draws} of 250 draws of {chains} of 4 chains are kept"
    assert f"NUTS was stopped: {kept}" in caplog.text
    whole = np.asarray(fit.idata.posterior["b"])[:chains, :draws]
    np.testing.assert_allclose(stopped.idata.posterior["b"], whole, atol=1e-6)
    assert "The run was stopped before its end" in str(stopped.diagnose())


def test_interruption_before_any_draw_is_passed_on(linear, data, monkeypatch):
    def interrupted(self, n=1):
        raise KeyboardInterrupt

    monkeypatch.setattr(tqdm, "update", interrupted)
    with pytest.raises(KeyboardInterrupt, match="before any chain had finished warming up"):
        sample(linear, data, chain_method="vectorized")


def both_signs(data):
    """Either sign of x explains the data as well; a little prior knowledge prefers plus."""
    x = numpyro.sample("x", dist.Normal(0.1, 1.0))
    noise = numpyro.sample("noise", dist.Normal(2.0, 1.0), infer={"role": "precision"})
    numpyro.sample("y", gaussian(jnp.full((40, 1), x**2), noise), obs=data)


def test_chains_begin_at_all_good_optima_in_turn(sharing):
    data = 1 + 0.3 * np.random.default_rng(0).normal(size=(40, 1))
    options = {"chains": 4, "warmup": 50, "draws": 50, "progress": False}
    fit = bayesdcm.fit(sharing(both_signs), data, "nuts", starts=16, **options)
    means = fit.idata.posterior["x"].mean("draw").values
    np.testing.assert_allclose(means, [1, -1, 1, -1], atol=0.2)
    assert fit.status["r_hat"] > 1.5 and "R-hat" in str(fit.diagnose())
    one = bayesdcm.fit(sharing(both_signs), data, "nuts", starts=1, **options)
    assert (one.idata.posterior["x"].values > 0).all()


def test_chains_begin_nearer_where_the_density_is_nil():
    """Beyond 2 there is a cliff, at -3 nothing finite: only those two come nearer, by halves."""

    def begin(z):
        size = np.abs(z).max(-1)
        cliff = np.where(size > 2, 1e4, size**2 / 2)
        return SimpleNamespace(z=z, potential_energy=np.where(z[:, 0] == -3, np.nan, cliff))

    about = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    scattered = np.array([[1.5, -1.0], [-3.0, 0.0], [4.0, 0.5]])
    state = _near(begin, about, scattered)
    np.testing.assert_allclose(state.z, [[1.5, -1.0], [-1.5, 0.0], [2.0, 0.125]])
