"""Modes of posteriors: found, kept, and weighed by mass or by what they predict."""

from dataclasses import replace

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.special import logsumexp, softmax

import bayesdcm
from bayesdcm import NUTS, Fit, Laplace
from bayesdcm.compare import stack_modes
from bayesdcm.compare.stacking import stacking_weights
from bayesdcm.infer import Posterior
from bayesdcm.infer.modes import chain_groups, distinct_optima
from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian

DATA = np.array([0.9, 1.1, 1.0])
LOG_PRECISION = 3.0
PRIOR = 0.5


def squared(data):
    """The data do not know the sign of x; the prior leans to one."""
    x = numpyro.sample("x", dist.Normal(PRIOR, 1.0))
    numpyro.sample("y", gaussian(x**2 + 0 * data, LOG_PRECISION), obs=data)


@pytest.fixture(scope="module")
def masses():
    """Masses of both modes, the positive one first, and log-evidences of each."""
    found = []
    for sign in (1, -1):
        x = sign * np.linspace(0, 5, 40_001)
        log_joint = stats.norm(PRIOR).logpdf(x)
        log_joint += stats.norm(x[:, None] ** 2, np.exp(-LOG_PRECISION / 2)).logpdf(DATA).sum(1)
        found.append(np.log(np.trapezoid(np.exp(log_joint), dx=x[1] * sign)))
    return softmax(found), np.array(found)


@pytest.fixture(scope="module")
def laplace():
    return bayesdcm.fit(squared, DATA, starts=12)


@pytest.fixture(scope="module")
def chains(laplace):
    """Chains that each stay in one mode: three in the lesser one, one in the other."""
    rng = np.random.default_rng(0)
    draws = np.empty((4, 500, 1))
    grid = np.linspace(0.3, 2.0, 20_001)
    for chain, sign in enumerate([-1, 1, -1, -1]):
        log_joint = stats.norm(PRIOR).logpdf(sign * grid)
        log_joint += stats.norm(grid[:, None] ** 2, np.exp(-1.5)).logpdf(DATA).sum(1)
        share = np.cumsum(np.exp(log_joint - log_joint.max()))
        draws[chain, :, 0] = sign * np.interp(rng.uniform(size=500), share / share[-1], grid)
    statistics = {"diverging": np.zeros((4, 500), bool)}
    status = {"converged": False, "complete": True}
    found = Posterior(NUTS(), draws=draws, statistics=statistics, status=status)
    return Fit(laplace.problem, found)


def test_all_optima_are_kept(laplace, masses):
    assert len(laplace.modes) == 2 and laplace.modes[0] is laplace
    means = [float(mode.mean["x"]) for mode in laplace.modes]
    np.testing.assert_allclose(means, [1.0, -1.0], atol=0.02)
    energies = [mode.log_evidence for mode in laplace.modes]
    np.testing.assert_allclose(energies, masses[1], atol=0.03)
    assert all(mode.status["converged"] for mode in laplace.modes)
    assert laplace.modes[1].modes == (laplace.modes[1],)
    assert len(laplace.trace["starts_free_energy"]) == 12


def test_one_start_has_one_mode():
    fit = bayesdcm.fit(squared, DATA)
    assert fit.modes == (fit,)
    stacked = stack_modes(fit, by="evidence")
    assert stacked.weights.tolist() == [1.0]


def test_masses_of_optima(laplace, masses):
    stacked = stack_modes(laplace, by="evidence", draws=4000)
    np.testing.assert_allclose(stacked.weights, masses[0], atol=0.01)
    assert stacked.fit.log_evidence == pytest.approx(logsumexp(masses[1]), abs=0.02)
    draws = stacked.fit.posterior.sample
    assert draws.shape == (1, 4000, 1)
    assert (draws > 0).mean() == pytest.approx(masses[0][0], abs=0.01)
    # The density of the mixture at its draws, by hand.
    moments = [mode.posterior.gaussian for mode in laplace.modes]
    density = [
        np.log(weight) + stats.norm(mean[0], np.sqrt(covariance[0, 0])).logpdf(draws)
        for weight, (mean, covariance) in zip(stacked.weights, moments, strict=True)
    ]
    np.testing.assert_allclose(stacked.fit.posterior.density, logsumexp(density, 0)[..., 0])
    table = stacked.table
    assert table["draws"].sum() == 4000 and table["converged"].all()
    # It is a fit like any.
    expected = masses[0] @ [1.0, -1.0]
    assert float(stacked.fit.mean["x"]) == pytest.approx(expected, abs=0.03)
    assert stacked.fit.status["mode_weights"] == stacked.weights.tolist()
    assert stacked.fit.modes == laplace.modes


def test_approximations_without_a_density_are_not_mixed():
    fit = bayesdcm.fit(squared, DATA, "svi", steps=50, progress=False)
    assert stack_modes(fit, by="evidence").weights.tolist() == [1.0]
    with pytest.raises(ValueError, match="fits by 'svi' keep draws of their approximation"):
        stack_modes([fit, fit])


def test_masses_of_chains(chains, masses):
    """How many chains found a mode does not count."""
    modes = chains.modes
    assert [mode.status["chains"] for mode in modes] == [[0, 2, 3], [1]]
    assert all(mode.status["converged"] for mode in modes)
    stacked = stack_modes(chains, by="evidence", draws=2000)
    np.testing.assert_allclose(stacked.weights, masses[0][::-1], atol=0.02)
    np.testing.assert_allclose(stacked.table["log_evidence"], masses[1][::-1], atol=0.05)
    assert stacked.table["chains"].tolist() == [3, 1]
    assert stacked.fit.posterior.statistics["diverging"].shape == (1, 2000)
    assert (stacked.fit.posterior.sample > 0).mean() == pytest.approx(masses[0][0], abs=0.02)


def lopsided(data):
    """Two ways to explain data of two kinds; x is the level of the one or of the other."""
    x = numpyro.sample("x", dist.Normal(0.0, 3.0))
    numpyro.sample("y", gaussian(x + 0 * data, 0.0), obs=data)


def test_stacking_is_for_prediction():
    """Chains about two levels, of data of which two thirds are near the one."""
    rng = np.random.default_rng(2)
    data = np.concatenate([rng.normal(2.5, 1, 60), rng.normal(-2.5, 1, 30)])
    levels = np.array([2.5, -2.5])
    draws = levels[:, None, None] + 0.01 * rng.normal(size=(2, 400, 1))
    fit = Fit(make_problem(lopsided, data), Posterior(NUTS(), draws=draws))
    stacked = stack_modes(fit, seed=1)
    # Narrow modes: the likelihood at the level is the predictive density.
    expected = stacking_weights(stats.norm(levels).logpdf(data[:, None]))
    np.testing.assert_allclose(stacked.weights, expected, atol=0.01)
    assert stacked.weights[0] == pytest.approx(2 / 3, abs=0.1)
    assert np.isfinite(stacked.table["elpd"]).all() and not stacked.table["warning"].any()
    mean = float(stacked.fit.mean["x"])
    assert mean == pytest.approx(stacked.weights @ levels, abs=0.02)
    # Fits, one a mode, serve as well.
    apart = stack_modes(list(fit.modes), seed=1)
    np.testing.assert_array_equal(apart.weights, stacked.weights)
    np.testing.assert_array_equal(apart.fit.posterior.sample, stacked.fit.posterior.sample)


def test_optima_are_told_apart():
    identity = np.tile(np.eye(2), (4, 1, 1))
    means = np.array([[0.0, 0.0], [0.5, 0.5], [3.0, 0.0], [9.0, 9.0]])
    energy = np.array([-2.0, -1.0, -5.0, -np.inf])
    assert distinct_optima(means, identity, energy) == [1, 2]
    # In a narrow direction, little is far.
    narrow = np.tile([[1.0, 0.99], [0.99, 1.0]], (2, 1, 1))
    assert distinct_optima(np.array([[0, 0], [0.5, -0.5]]), narrow, np.zeros(2)) == [0, 1]
    assert distinct_optima(np.array([[0, 0], [0.5, 0.5]]), narrow, np.zeros(2)) == [0]


def test_groups_of_chains():
    draws = np.random.default_rng(0).normal(size=(5, 200, 2))
    assert chain_groups(draws) == [[0, 1, 2, 3, 4]]
    draws[[1, 3]] += [0.0, 5.0]
    assert chain_groups(draws) == [[0, 2, 4], [1, 3]]
    # A chain that has been in both places joins what it has seen.
    draws[4, ::2] += [0.0, 5.0]
    assert chain_groups(draws)[0] == [0, 2] or 4 in chain_groups(draws)[0]


def test_what_cannot_be_stacked_is_said(laplace):
    with pytest.raises(ValueError, match="by must be one of 'stacking', 'evidence', got 'vote'"):
        stack_modes(laplace, by="vote")
    with pytest.raises(TypeError, match="fit must be a Fit or a sequence of them, got dict"):
        stack_modes({})
    with pytest.raises(ValueError, match="at least one mode"):
        stack_modes([])
    with pytest.raises(TypeError, match=r"fit\[0\] must be a Fit, got int"):
        stack_modes([1])
    loaded = Fit(None, Posterior(Laplace(), log_evidence=-1.0))
    assert loaded.modes == (loaded,)
    with pytest.raises(ValueError, match="the fit was read from a file, which cannot"):
        stack_modes([laplace, loaded])
    other = Fit(laplace.problem, replace(laplace.posterior, method=NUTS()))
    with pytest.raises(ValueError, match="found by one method, got 'laplace' and 'nuts'"):
        stack_modes([laplace, other])
