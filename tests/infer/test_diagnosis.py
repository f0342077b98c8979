"""Every sentence of a diagnosis, in a situation that calls for it; and a healthy fit."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr

import bayesdcm
from bayesdcm.infer import NUTS, SVI, Fit, Posterior, diagnose
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.residuals import INPUT_LEVEL, WHITE_LEVEL, canonical_responses, left_over
from bayesdcm.infer.tail_shape import TailShape, shape_of
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
        status = {"converged": True}
        posterior = Posterior(NUTS(), draws=positions, statistics=statistics, status=status)
        return Fit(problem, posterior)

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
    fit = Fit(healthy.problem, with_density(healthy, converged=False))
    only(fit, "The evidence lower bound was still drifting")


def with_density(fit, scale=1.0, converged=True):
    """Draws as of a variational posterior, whose density is scaled normal."""
    draws = fit.posterior.sample
    flat = draws.reshape(-1, draws.shape[-1])
    mean, covariance = flat.mean(0), np.cov(flat, rowvar=False) * scale
    white = np.linalg.solve(np.linalg.cholesky(covariance), (flat - mean).T)
    density = -(white**2).sum(0) / 2 - np.linalg.slogdet(2 * np.pi * covariance)[1] / 2
    return Posterior(
        SVI(),
        draws=draws,
        log_q=density.reshape(draws.shape[:2]),
        log_evidence=-1.0,
        status={"converged": converged},
    )


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
    fit = Fit(healthy.problem, posterior)
    only(fit, "The variational approximation differs from the true posterior (Pareto k-hat ")


def test_a_prior_of_the_noise_that_data_overrule(linear, linear_data):
    loud = linear_data(4)
    # The prior of the log-precision, N(10, 1), is wrong by far.
    fit = bayesdcm.fit(linear(learned=True), loud | {"log_precision": np.array(10.0)})
    found = fit.diagnose()
    shift = 10 - float(fit.mean["h"])
    assert shift > 5
    assert found.facts["largest_prior_shift"] == pytest.approx(shift, abs=1e-6)
    (text,) = [p for p in found.problems if p.kind == "noise held by its prior"]
    assert text.startswith("The prior of the noise, N(10, 1) on log-precisions, holds it against")
    assert f"the posterior moved h by {shift:.1f} prior standard deviations" in text
    assert "takes the noise to be less than it is, so that intervals are too narrow" in text
    assert "Widen it" in text
    assert not any("at odds with the prior" in problem for problem in found.problems)


def test_shifts_are_of_the_exact_prior(linear, data, tmp_path):
    fit = bayesdcm.fit(linear(), data)
    shift = np.abs(fit.mean["b"] - data["prior_mean"]) / np.exp(data["prior_log_sd"])
    assert fit.diagnose().facts["largest_prior_shift"] == pytest.approx(shift.max(), rel=1e-9)
    again = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc"))
    assert again.diagnose().facts["largest_prior_shift"] == pytest.approx(shift.max(), rel=1e-9)


def test_many_conflicts_are_counted():
    def program(data):
        x = numpyro.sample("x", dist.Normal(jnp.zeros(6), 0.1).to_event(1))
        numpyro.sample("y", gaussian(x + 0 * data, 9.0), obs=data)

    (text,) = [p for p in bayesdcm.fit(program, np.full(6, 2.0)).diagnose().problems if "odds" in p]
    assert text.startswith("The posterior is at odds with the prior: x[0] moved by ")
    assert "and 3 more prior standard deviations" in text


def test_trajectories_on_their_way_to_divergence_are_left_out():
    import xarray as xr

    from bayesdcm.infer.divergence import finite_draws, finite_mean

    values = np.ones((1, 6, 2))
    values[0, 0], values[0, 1] = np.inf, 1e200
    mean = finite_mean(xr.DataArray(values, dims=("chain", "draw", "time")))
    assert mean.tolist() == [1.0, 1.0]
    wave = np.sin(np.arange(50) / 5)
    draws = 1000 + wave * (1 + 0.1 * np.random.default_rng(0).normal(size=(100, 1)))
    # Growing oscillations are far off the signal, but not off what it lies on.
    draws[7] += np.exp(np.arange(50) / 11) * (-1.0) ** np.arange(50)
    assert np.flatnonzero(~finite_draws(draws)).tolist() == [7]
    # A wide posterior is none that diverges.
    wide = np.exp(np.random.default_rng(1).normal(size=(100, 1)) / 2) * wave
    assert finite_draws(wide).all()
    tails = np.random.default_rng(2).normal(size=(1000, 1)) ** 2 * np.ones(12)
    assert finite_draws(tails).all()
    # Columns are judged by their own size.
    two = np.stack([1000 * wide, draws], axis=-1)
    assert not finite_draws(two)[7] and finite_draws(two[:, :, :1])[7]
    assert not finite_draws(np.full((3, 2), np.nan)).any()


# The error of k-hat


@pytest.mark.parametrize("n_draws", [1000, 4000])
def test_the_error_of_k_hat_is_its_scatter(n_draws):
    rng = np.random.default_rng(0)
    found = [shape_of(0.65 * rng.exponential(size=n_draws)) for _ in range(60)]
    scatter = np.std([one.k for one in found], ddof=1)
    # The standard deviation of 60 values is known to 9 %; the formula is one for many draws.
    assert np.mean([one.error for one in found]) == pytest.approx(scatter, rel=0.3)


@pytest.fixture(scope="module")
def curved(linear):
    """A model whose posterior departs from a normal the more, the larger the width of its data."""

    class Curved(linear):
        def sample(self, data):
            x = numpyro.sample("x", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
            mean = x[0] + data["width"] * x[1] ** 2 + 0 * data["y"]
            numpyro.sample("y", gaussian(mean, 3.0), obs=data["y"])

        def labels(self, data):
            return {"x": ["x[0]", "x[1]"]}

        coords = constants = lambda self, data: {}

    return Curved()


def test_an_end_after_short_steps_is_told():
    """SPM's criterion counts promised gains, which short steps keep small."""

    def program(data):
        mean = numpyro.sample("mean", dist.Normal(0, 1))
        numpyro.sample("y", gaussian(mean + 0 * data, 0.0), obs=data)

    stopped = bayesdcm.fit(program, np.ones(1))
    assert stopped.status["n_iterations"] == 4
    (found,) = [each for each in stopped.diagnose().problems if each.kind == "stopped early"]
    # It is 0.6 posterior standard deviations away from the posterior mean, 0.5.
    assert "about 0.2 nats were left to gain: means are off by up to 0.6" in str(found)
    for data in (np.zeros(1), np.full(1, 3.0)):
        sound = bayesdcm.fit(program, data).diagnose().problems
        assert "stopped early" not in {each.kind for each in sound}


def test_verdicts_do_not_depend_on_the_seed(curved):
    y = 0.3 + 0.2 * np.random.default_rng(0).normal(size=12)
    for width in (0.1, 0.3, 0.6):
        facts, kinds = [], set()
        for seed in range(8):
            found = bayesdcm.fit(curved, {"y": y, "width": width}, seed=seed).diagnose()
            facts.append(found.facts)
            about = {p.kind for p in found.problems if p.kind.startswith("approximation")}
            kinds |= about or {"none"}
        # One verdict, or that none can be given.
        assert len(kinds - {"approximation undecided"}) <= 1, kinds
        k = np.array([one["pareto_k"] for one in facts])
        errors = np.array([one["pareto_k_error"] for one in facts])
        assert np.abs(k - k.mean()).max() < 4 * errors.max()


def test_what_cannot_be_told_is_said(curved):
    fit = bayesdcm.fit(curved, {"y": np.zeros(12), "width": 0.1})
    fit.__dict__["_tail_shape"] = TailShape(0.66, 0.05)
    (text,) = [p for p in fit.diagnose().problems if p.kind == "approximation undecided"]
    assert text.startswith(
        "Whether the Gaussian approximation can be trusted cannot be told: Pareto k-hat 0.66 with "
        "a standard error of 0.05 is within 2 of them of the limit, 0.7."
    )
    for shape, clear in (((0.5, 0.09), True), ((0.5, 0.11), False), ((-np.inf, 0.0), True)):
        assert TailShape(*shape).clear is clear


def test_k_hat_near_the_limit_is_of_more_draws_and_is_kept(curved, tmp_path, monkeypatch):
    y = 0.3 + 0.2 * np.random.default_rng(0).normal(size=12)
    fit = bayesdcm.fit(curved, {"y": y, "width": 0.3})
    stats = fit.idata.sample_stats
    first = np.asarray(stats["lp"] - stats["log_q"]).ravel()
    # Whatever it is, it is taken to be near the limit.
    single = shape_of(first)
    monkeypatch.setattr("bayesdcm.infer.tail_shape.PARETO_LIMIT", single.k)
    found = fit.diagnose().facts
    assert found["pareto_k_error"] < 0.8 * single.error
    assert found["pareto_k"] != single.k
    again = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc")).diagnose().facts
    assert again["pareto_k"] == found["pareto_k"]
    assert again["pareto_k_error"] == found["pareto_k_error"]


def test_few_draws_do_not_decide(curved):
    data = {"y": np.full(12, 0.3), "width": 0.6}
    fit = bayesdcm.fit(curved, data, draws=5)
    enough = bayesdcm.fit(curved, data)
    found, more = fit.diagnose().facts, enough.diagnose().facts
    assert found["pareto_k"] == pytest.approx(more["pareto_k"], abs=0.35)
    assert found["pareto_k_error"] < 0.3
    assert shape_of(np.zeros(10)).error == np.inf


# Residuals of BOLD signals


def bold(rng, noise, response=None, n=120):
    """Residuals of two regions, their times, and the constants of a fit."""
    inputs = np.zeros((n * 8, 2))
    inputs[(np.arange(n * 8) // 80) % 2 == 1, 0] = 1
    inputs[::200, 1] = 1
    microtime, times = 0.25 * np.arange(n * 8), 2.0 * np.arange(n)
    drift = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(4)) / n)
    constants = xr.Dataset(
        {"inputs": (("microtime", "input"), inputs), "confounds": (("time", "confound"), drift)},
        coords={"microtime": microtime, "input": ["photic", "button"]},
    )
    residual = noise(rng, (n, 2)) + drift @ rng.normal(size=(4, 2))
    if response is not None:
        responses = canonical_responses(inputs, microtime, times)
        residual[:, 1] += response * responses[0][:, 0]
    return residual, times, constants


def white(rng, shape):
    return rng.normal(size=shape)


def coloured(rng, shape):
    noise = rng.normal(size=shape)
    for i in range(1, len(noise)):
        noise[i] += 0.5 * noise[i - 1]
    return noise


def test_white_residuals_raise_no_alarm():
    rng = np.random.default_rng(0)
    found = [left_over(*bold(rng, white)) for _ in range(200)]
    inputs = np.array([one.input_p.min() for one in found])
    correlated = np.array([one.white_p.min() for one in found])
    assert (inputs < INPUT_LEVEL / 4).mean() <= 0.015
    assert (correlated < WHITE_LEVEL / 2).mean() <= 0.015
    # p values are uniform: of 400, a tenth below 0.1 within four standard errors.
    every = np.array([one.white_p for one in found]).ravel()
    assert 0.02 < (every < 0.1).mean() < 0.16
    every = np.array([one.input_p for one in found]).ravel()
    assert (every < 0.1).mean() == pytest.approx(0.1, abs=0.06)


def test_responses_that_are_left_are_found_by_region_and_input():
    found = left_over(*bold(np.random.default_rng(1), white, response=1.5))
    assert found.input_p[0, 1] < 1e-6 and found.share[0, 1] > 0.2
    assert found.input_p[:, 0].min() > 0.001
    # What follows the inputs is not counted once more as correlation.
    assert found.white_p.min() > 0.001


def test_correlation_is_found_and_does_not_pass_for_responses():
    rng = np.random.default_rng(2)
    found = [left_over(*bold(rng, coloured)) for _ in range(40)]
    assert np.mean([one.correlation for one in found]) == pytest.approx(0.5, abs=0.06)
    assert np.median([one.white_p for one in found]) < 1e-5
    assert np.max([one.white_p for one in found]) < 0.05
    assert np.mean([one.input_p.min() < INPUT_LEVEL / 4 for one in found]) < 0.1


@pytest.fixture(scope="module")
def driven():
    """A model of two regions, a design, and what it predicts."""
    model = bayesdcm.TaskDCM(
        [[1, 0], [1, 1]],
        C=[[1, 0], [0, 0]],
        integrator="bilinear",
        priors={"log_precision": (2, 16)},
    )
    inputs = np.column_stack([np.arange(1600) // 160, np.arange(1600) // 112]) % 2.0
    rng = np.random.default_rng(3)
    design = bayesdcm.BoldData(
        rng.normal(size=(100, 2)), 2.0, inputs=inputs, input_dt=0.125,
        region_names=["V1", "V5"], input_names=["photic", "sound"],
    )  # fmt: skip
    truth = {"A": [[0, 0], [0.6, 0]], "B": np.zeros((2, 2, 2)), "C": [[1.0, 0], [0, 0]]}
    truth |= {"transit": [0, 0], "decay": 0.0, "epsilon": 0.0}
    prediction = np.asarray(model.predict(truth, design))
    return model, design, prediction, 0.05 * rng.normal(size=prediction.shape)


def test_a_sound_fit_of_bold_signals(driven, tmp_path):
    model, design, prediction, noise = driven
    fit = bayesdcm.fit(model, design.replace(signal=prediction + noise), progress=False)
    found = fit.diagnose()
    assert not [p for p in found.problems if not p.startswith("Whether the Gaussian")], str(found)
    assert found.facts["input_share"].shape == (2, 2)
    np.testing.assert_allclose(found.facts["residual_sd"], 0.05, rtol=0.2)
    assert np.abs(found.facts["residual_correlation"]).max() < 0.4
    again = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc")).diagnose()
    assert str(again) == str(found)


def test_a_response_that_the_model_cannot_make(driven, tmp_path):
    model, design, prediction, noise = driven
    # The second region hears, which the model has no way for.
    microtime = 0.125 * np.arange(len(design.inputs))
    _, sound = canonical_responses(design.inputs, microtime, design.times)
    signal = prediction + noise + 0.3 * np.outer(sound[:, 0], [0, 1])
    fit = bayesdcm.fit(model, design.replace(signal=signal), draws=100, progress=False)
    found = fit.diagnose()
    kinds = {p.kind: p for p in found.problems}
    text = kinds["residuals follow inputs"]
    share = 100 * found.facts["input_share"][1, 1]
    assert f"follows the inputs: in V5 {share:.0f} % of its variance follows sound. The" in text
    assert "try several starts (starts=8); or connections are missing" in text
    again = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc")).diagnose()
    assert str(again) == str(found)


def test_a_region_that_is_left_unexplained(driven):
    model, design, prediction, noise = driven
    rng = np.random.default_rng(5)
    signal = prediction + noise
    signal[:, 1] = rng.normal(size=100)
    fit = bayesdcm.fit(model, design.replace(signal=signal), draws=100, progress=False)
    (text,) = [p for p in fit.diagnose().problems if p.kind == "regions explained badly"]
    share = 100 * fit.diagnose().facts["explained_variance"]
    assert f"others are explained well: V5 ({share[1]:.0f} %), but V1 {share[0]:.0f} %" in text


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_chains_that_do_not_move(sampled):
    fit = sampled()
    fit.posterior.draws[:, :, 0] = fit.posterior.draws[0, 0, 0]
    (text,) = [p for p in fit.diagnose().problems if p.kind == "chains did not move"]
    assert text.startswith("Chains did not move in b[one]: no draw was accepted")


def test_means_of_predictions_leave_diverging_draws_out(linear, data):
    fit = bayesdcm.fit(linear(), data, draws=200)
    expected = fit.predict()
    assert expected.attrs["left_out_draws"] == 0
    assert fit.diagnose().facts["left_out_draws"] == 0
    fitted = fit.idata.posterior_predictive["y_fitted"]
    fitted.values[0, 3] *= 1e4
    fitted.values[0, 9] = np.nan
    with pytest.warns(UserWarning, match=r"at 2 of 200 draws .* mean prediction of y leaves out"):
        found = fit.predict()
    kept = np.delete(fitted.to_numpy()[0], [3, 9], axis=0)
    np.testing.assert_allclose(found, kept.mean(0))
    assert found.attrs["left_out_draws"] == 2 and np.abs(found - expected).max() < 0.1
    found = only(fit, "Predictions of y diverge, or nearly so, at 2 of 200 draws")
    assert found.facts["left_out_draws"] == 2


def test_sites_may_be_named_like_axes(tmp_path):
    def program(data):
        slope = numpyro.sample("y", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        numpyro.deterministic("y_dim_0", 2 * slope)
        numpyro.sample("z", gaussian(data[0] * slope[0] + slope[1], 3.0), obs=data[1])

    data = np.random.default_rng(0).normal(size=(2, 12))
    fit = bayesdcm.fit(program, data, draws=20)
    posterior = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc")).idata.posterior
    assert posterior["y"].dims == ("chain", "draw", "y_dim_0_dim")
    np.testing.assert_allclose(posterior["y_dim_0"], 2 * posterior["y"].to_numpy())
    assert fit.diagnose().facts["largest_prior_shift"] > 0

    def reserved(data):
        draw = numpyro.sample("draw", dist.Normal(0, 1))
        numpyro.sample("z", dist.Normal(draw, 1), obs=data)

    with pytest.raises(ValueError, match="site named 'draw', which is the name of an axis of all"):
        bayesdcm.fit(reserved, data[0])
