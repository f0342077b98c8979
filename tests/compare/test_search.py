"""Search of reduced models: SPM's numbers, all models one by one, and what is refused."""

from itertools import product
from pathlib import Path

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax

import bayesdcm
from bayesdcm.compare import reduce_gaussian, search_gaussian, search_reduced
from bayesdcm.compare.search import SCORE_JITTER
from bayesdcm.infer import Fit, Laplace, Posterior
from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_selection.npz") as arrays:
        return dict(arrays)


# Against SPM


@pytest.mark.parametrize("case", ["subject", "group"])
def test_search_as_spm(spm, case):
    found = search_gaussian(*(spm[f"{case}/{name}"] for name in ("qE", "qC", "pE", "pC")))
    assert found.searched.tolist() == spm[f"{case}/searched"].tolist()
    assert (found.off == spm[f"{case}/off"]).all()
    for name in ("change", "probability", "present"):
        expected = spm[f"{case}/{name}"]
        assert_allclose(getattr(found, name), expected, rtol=0, atol=1e-10, err_msg=name)
    # Evidences of reduced models with several parameters off carry SPM's rounding.
    assert_allclose(found.mean, spm[f"{case}/mean"], rtol=0, atol=2e-5)
    assert_allclose(found.variance, spm[f"{case}/variance"], rtol=0, atol=1e-6)


# Against all models, one by one


def posterior(size, seed, weak=()):
    """A posterior under a standard normal prior; means of `weak` parameters are near zero."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size)) / np.sqrt(size)
    covariance = np.linalg.inv(np.eye(size) + 40 * root @ root.T + 10 * np.eye(size))
    mean = rng.choice([-1, 1], size) * rng.uniform(0.9, 1.5, size)
    mean[list(weak)] = 0.05 * rng.normal(size=len(weak))
    return mean, covariance, np.zeros(size), np.eye(size)


def change(full, off, absent=0.0):
    on = np.ones(len(full[0]), bool)
    on[list(off)] = False
    mean = np.where(on, full[2], absent)
    return float(reduce_gaussian(*full, mean, full[3] * np.outer(on, on)).change)


def test_small_searches_score_every_model():
    full = posterior(5, 0, weak=[1, 3])
    found = search_gaussian(*full)
    patterns = [np.flatnonzero(off) for off in product([True, False], repeat=5)]
    expected = np.array([change(full, off) for off in patterns])
    # Regularisation widens the posterior, which moves the quadratic form of the mean by this much.
    precise = np.linalg.solve(full[1], full[0])
    assert_allclose(found.change, expected, rtol=0, atol=SCORE_JITTER * precise @ precise + 1e-5)
    assert_allclose(found.probability, softmax(expected), atol=1e-4)
    assert np.flatnonzero(~found.kept).tolist() == [1, 3]
    on = np.array([j not in off for off in patterns for j in range(5)]).reshape(-1, 5)
    expected = softmax(expected) @ on
    # SPM's rule weighs by mean probabilities; with as many models on as off it is the same.
    assert_allclose(found.present, expected, atol=1e-4)


@pytest.mark.slow
def test_greedy_search_finds_what_an_exhaustive_one_finds():
    weak = [0, 2, 3, 7, 9, 11]
    full = posterior(12, 1, weak=weak)
    greedy, exhaustive = search_gaussian(*full), search_gaussian(*full, exhaustive=12)
    assert len(exhaustive.change) == 4096
    assert np.flatnonzero(~exhaustive.kept).tolist() == weak
    assert (greedy.kept == exhaustive.kept).all()


def test_what_is_known_of_parameters_decided_before_the_last_set():
    full = posterior(12, 1, weak=[0, 2, 3, 7])
    found = search_gaussian(*full, exhaustive=3)
    decided = np.setdiff1d(np.arange(12), found.searched)
    pruned, kept = decided[~found.kept[decided]], decided[found.kept[decided]]
    assert len(pruned) and len(kept)
    # As in SPM, these are 0 and 1, although no model of the last set tells.
    assert found.present[pruned].tolist() == [0.0] * len(pruned)
    assert found.present[kept].tolist() == [1.0] * len(kept)
    assert np.isnan(found.supported[pruned]).all()
    gone = np.flatnonzero(~found.kept)
    against = [change(full, [*gone, j]) - change(full, gone) for j in kept]
    assert_allclose(found.supported[kept], 1 / (1 + np.exp(against)), atol=1e-6)
    assert found.supported[found.searched].tolist() == found.present[found.searched].tolist()


def test_parameters_that_are_off_take_the_values_given():
    full = posterior(5, 2)
    absent = np.array([full[0][0], 0.0, 0.0, 0.0, 0.0])
    found = search_gaussian(*full, absent=absent)
    assert found.kept.tolist() == [False, True, True, True, True]
    assert found.present[0] < 0.5
    assert found.change.max() == pytest.approx(change(full, [0], absent), abs=1e-4)


def test_only_candidates_are_switched_off():
    full = posterior(5, 3, weak=[0, 1])
    found = search_gaussian(*full, candidates=[1, 2])
    assert found.kept.tolist() == [True, False, True, True, True]
    assert sorted(found.searched) == [1, 2]


def test_candidates_are_searched_however_different_their_priors():
    full = posterior(5, 5, weak=[0])
    scale = np.array([1e-3, 1.0, 30.0, 1.0, 1.0])
    square = np.outer(scale, scale)
    scaled = (full[0] * scale, full[1] * square, full[2], full[3] * square)
    found = search_gaussian(*scaled, candidates=range(5), tolerance=0.0)
    assert sorted(found.searched) == [0, 1, 2, 3, 4]
    assert found.kept.tolist() == [False, True, True, True, True]
    usual = search_gaussian(*scaled, tolerance=0.0)
    assert sorted(usual.searched) == [1, 2, 3, 4]


def test_without_candidates_the_full_model_remains():
    full = posterior(5, 4)
    found = search_gaussian(*full, candidates=[])
    assert found.kept.all()
    assert_allclose(found.mean, full[0], atol=1e-6)
    assert_allclose(found.variance, np.diagonal(full[1]), atol=1e-6)


# Of fits

DESIGN = np.stack([np.ones(40), np.linspace(-1, 1, 40), np.cos(np.arange(40.0))], axis=1)


def program(data):
    A = numpyro.sample("A", dist.Normal(0, np.ones(2)).to_event(1))
    level = numpyro.sample("level", dist.Normal(0, 1))
    numpyro.sample("y", gaussian(DESIGN[:, :2] @ A + level, 2.0), obs=data)


@pytest.fixture(scope="module")
def fit():
    data = DESIGN @ np.array([0.0, 0.8, 0.0]) + 0.3 * np.random.default_rng(0).normal(size=40)
    return bayesdcm.fit(program, data, progress=False)


def test_search_of_a_fit(fit):
    found = search_reduced(fit)
    assert found.present.index.tolist() == ["A[0]", "A[1]"]
    assert found.present["A[1]"] > 0.99 > 0.7 > found.present["A[0]"]
    assert found.best.off == {"A[0]": 0.0}
    assert found.models.columns.tolist() == ["A[0]", "A[1]", "change", "probability"]
    assert found.models.iloc[0].tolist()[:2] == [False, True]
    assert found.models["change"].is_monotonic_decreasing
    assert found.best.change == pytest.approx(found.models["change"].iloc[0], abs=1e-4)
    table = found.summary()
    assert table.index.tolist() == ["A[0]", "A[1]", "level"]
    assert np.isnan(table.loc["level", "present"])
    assert abs(table.loc["A[0]", "mean"]) < abs(fit.summary().loc["A[0]", "mean"])
    assert "1 of them off" in repr(found)


def test_average_is_in_the_units_of_the_parameters():
    """Where a prior is narrow, SPM's regularisation is put in units of it."""
    mean, covariance, prior_mean, prior = posterior(2, 5, weak=[0])
    unit = np.array([1e-4, 1.0])

    def narrow(data):
        A = numpyro.sample("A", dist.Normal(0, unit).to_event(1))
        numpyro.sample("y", gaussian(DESIGN[:, :2] @ A, 0.0), obs=data)

    moments = (mean * unit, covariance * np.outer(unit, unit))
    problem = make_problem(narrow, np.zeros(40))
    scaled = Fit(problem, Posterior(Laplace(), gaussian=moments, log_evidence=0.0))
    found = search_reduced(scaled)
    expected = search_gaussian(mean, covariance, prior_mean, prior, tolerance=0.0)
    assert_allclose(found.mean, expected.mean * unit, rtol=1e-9)
    assert_allclose(found.sd, np.sqrt(expected.variance) * unit, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"among": "absent"}, ValueError, "off names 'absent', which is no free parameter"),
        ({"among": 3}, TypeError, "among must hold labels"),
        ({"exhaustive": 0}, ValueError, "exhaustive must be from 1 to 16, got 0"),
        ({"exhaustive": 40}, ValueError, "exhaustive must be from 1 to 16, got 40"),
        ({"exhaustive": 2.5}, TypeError, "exhaustive must be a whole number, got 2.5"),
    ],
)
def test_bad_options_are_refused(fit, options, error, text):
    with pytest.raises(error, match=text):
        search_reduced(fit, **options)


def test_programs_without_connections_must_say_what_to_search():
    def line(data):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        numpyro.sample("y", gaussian(slope * DESIGN[:, 1], 0.0), obs=data)

    moments = (np.zeros(1), np.eye(1) / 2)
    problem = make_problem(line, np.zeros(40))
    fit = Fit(problem, Posterior(Laplace(), gaussian=moments, log_evidence=0.0))
    with pytest.raises(ValueError, match="no sites A or B, but 'slope'"):
        search_reduced(fit)


def test_only_fits_by_variational_laplace():
    with pytest.raises(TypeError, match="fit must be a Fit"):
        search_reduced({"A": 1.0})
