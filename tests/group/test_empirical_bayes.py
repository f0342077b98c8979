"""Parametric empirical Bayes on arrays: SPM's numbers, and closed forms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from bayesdcm.group.design import checked_design
from bayesdcm.group.effects import effects_of
from bayesdcm.group.empirical_bayes import empirical_bayes, subject_under_group
from bayesdcm.group.first_level import FirstLevel, names_of
from bayesdcm.group.group_effects import Settings
from bayesdcm.group.leave_one_out import left_out


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_peb.npz") as arrays:
        return dict(arrays)


# Positions among the nine parameters: seven of A, then two of B.
COMPONENTS = {"single": None, "fields": [range(7), [7, 8]], "all": [[i] for i in range(9)]}


def of_group(spm, components=None, design=None, **options):
    index, n = spm["index"], len(spm["subjects/mean"])
    return empirical_bayes(
        spm["subjects/mean"][:, index],
        spm["subjects/covariance"][:, index[:, None], index],
        np.tile(spm["subjects/prior_mean"][index], (n, 1)),
        np.tile(spm["subjects/prior_covariance"][np.ix_(index, index)], (n, 1, 1)),
        spm["subjects/log_evidence"],
        spm["design"] if design is None else design,
        components,
        **options,
    )


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("fields", "all")]


@pytest.fixture(scope="module", params=["single", *OTHERS])
def case(spm, request):
    return request.param, of_group(spm, COMPONENTS[request.param], stop="spm")


# Against SPM


def test_effects_as_spm(spm, case):
    name, found = case
    assert found.converged
    assert abs(found.log_evidence - spm[f"{name}/log_evidence"].item()) < 1e-10
    for part in (
        "mean",
        "covariance",
        "prior_mean",
        "prior_covariance",
        "log_precision",
        "log_precision_covariance",
        "between_covariance",
    ):
        assert_allclose(getattr(found, part), spm[f"{name}/{part}"], 0, 1e-12, err_msg=part)


def test_subjects_under_the_group_as_spm(spm, case):
    name, found = case
    prior = spm["subjects/prior_mean"], spm["subjects/prior_covariance"]
    for i, (mean, covariance, evidence) in enumerate(
        zip(
            spm["subjects/mean"],
            spm["subjects/covariance"],
            spm["subjects/log_evidence"],
            strict=True,
        )
    ):
        expected = found.subject_mean[i]
        reduced, prior_mean, prior_covariance = subject_under_group(
            mean, covariance, *prior, spm["index"], expected, found.subject_precision
        )
        assert_allclose(reduced.mean, spm[f"{name}/subject_mean"][i], 0, 1e-12)
        evidence += reduced.change - found.complexity / 8
        assert abs(evidence - spm[f"{name}/subject_log_evidence"][i]) < 1e-10
        if i == 0:
            assert_allclose(reduced.covariance, spm[f"{name}/subject1_covariance"], 0, 1e-12)
            assert_allclose(prior_mean, spm[f"{name}/subject1_prior_mean"], 0, 1e-12)
            assert_allclose(prior_covariance, spm[f"{name}/subject1_prior_covariance"], 0, 1e-12)


def test_all_iterations_where_they_are_few(spm):
    for stop in ("spm", "optimum"):
        found = of_group(spm, max_iterations=3, stop=stop)
        assert not found.converged and found.n_iterations == 3
        assert np.isfinite(found.trace).all() and found.trace[2] > found.trace[0]


# Results of groups against SPM


@pytest.fixture(scope="module")
def effects(spm):
    labels = tuple(f"A[{i}]" for i in range(7)) + ("B[0]", "B[1]")
    index = spm["index"]
    prior = spm["subjects/prior_mean"][index], spm["subjects/prior_covariance"]
    fields = tuple(label[0] for label in labels)
    first = [
        FirstLevel(
            i,
            labels,
            names_of(labels, fields),
            fields,
            np.ones(9),
            spm["subjects/mean"][i][index],
            spm["subjects/covariance"][i][np.ix_(index, index)],
            prior[0],
            prior[1][np.ix_(index, index)],
            spm["subjects/log_evidence"][i],
            lambda i: 0.0,
            None,
        )
        for i in range(8)
    ]
    design = checked_design(spm["design"], range(8))
    return effects_of(first, design, labels, fields, Settings(stop="spm"))


def test_results_as_spm(spm, effects):
    assert effects.log_evidence == pytest.approx(spm["single/log_evidence"].item(), abs=1e-10)
    assert_allclose(effects.mean, spm["single/mean"], atol=1e-12)
    assert_allclose(effects.covariance, spm["single/covariance"], atol=1e-12)
    assert_allclose(effects.between_covariance, spm["single/between_covariance"], atol=1e-12)


def test_comparison_of_models_as_spm(spm, effects):
    found = effects.compare(spm["comparison/on"])
    # Evidences of reduced models with several parameters off carry SPM's rounding.
    assert_allclose(found.change, spm["comparison/change"], rtol=0, atol=1e-4)
    assert_allclose(found.probability, spm["comparison/probability"], rtol=0, atol=1e-5)
    sometimes_off = ~spm["comparison/on"].astype(bool).all(0)
    for name in ("commonalities", "differences"):
        values = getattr(found, name).to_numpy()[sometimes_off]
        assert_allclose(values, spm[f"comparison/{name}"], rtol=0, atol=1e-5)
    assert_allclose(found.mean, spm["comparison/mean"], rtol=0, atol=1e-5)


@pytest.mark.exhaustive
def test_search_as_spm(effects):
    with np.load(Path(__file__).parents[1] / "data" / "spm_selection.npz") as arrays:
        expected = {k: arrays[f"group/{k}"] for k in ("present", "mean", "variance")}
    found = effects.search()
    assert_allclose(found.present.to_numpy().T.ravel(), expected["present"], rtol=0, atol=1e-8)
    assert_allclose(found.mean.to_numpy().T.ravel(), expected["mean"], rtol=0, atol=2e-5)
    variance = found.sd.to_numpy().T.ravel() ** 2
    assert_allclose(variance, expected["variance"], rtol=0, atol=1e-6)


def test_models_by_name_and_by_table(spm, effects):
    on = pd.DataFrame(spm["comparison/on"], columns=effects.parameters)
    named = {f"model {i}": row.index[row == 0].tolist() for i, row in on.iterrows()}
    by_name = effects.compare(named, covariate="covariate 1")
    assert by_name.probability.index.tolist() == list(named)
    assert_allclose(by_name.probability, spm["comparison/probability"], rtol=0, atol=1e-5)


def test_left_out_covariates_as_spm(spm):
    index, n = spm["index"][:7], 8
    prior = spm["subjects/prior_mean"][index], spm["subjects/prior_covariance"]
    found = left_out(
        spm["subjects/mean"][:, index],
        spm["subjects/covariance"][:, index[:, None], index],
        np.tile(prior[0], (n, 1)),
        np.tile(prior[1][np.ix_(index, index)], (n, 1, 1)),
        spm["subjects/log_evidence"],
        spm["design"],
        stop="spm",
    )
    assert_allclose(found.mean, spm["left_out/mean"], rtol=0, atol=1e-11)
    assert_allclose(found.variance, spm["left_out/variance"], rtol=0, atol=1e-12)
    assert_allclose(found.probability, spm["left_out/probability"], rtol=0, atol=1e-8)


def test_predictions_do_not_depend_on_the_origin_of_the_covariate():
    rng = np.random.default_rng(4)
    n, size, age = 9, 3, np.linspace(-1, 1, 9)
    mean = 0.2 + np.outer(age, [0.3, 0.0, -0.2]) + 0.05 * rng.normal(size=(n, size))
    precise = np.tile(0.01 * np.eye(size), (n, 1, 1))
    prior = np.zeros((n, size)), np.tile(np.eye(size), (n, 1, 1))
    found = [
        left_out(mean, precise, *prior, np.zeros(n), np.stack([np.ones(n), shift + age], axis=1))
        for shift in (0.0, 50.0)
    ]
    assert_allclose(found[1].mean - 50, found[0].mean, rtol=0, atol=1e-6)
    assert_allclose(found[1].variance, found[0].variance, rtol=1e-6)
    assert_allclose(found[1].probability, found[0].probability, rtol=0, atol=1e-6)
    assert 0.7 < np.polyfit(age, found[0].mean, 1)[0] < 1.1


# Against closed forms


def test_a_balanced_group_has_effects_of_least_squares_with_a_prior():
    """All subjects equally precise: effects are a regression on what their data say."""
    rng = np.random.default_rng(2)
    n, size = 8, 9
    design = np.stack([np.ones(n), np.linspace(-1, 1, n)], axis=1)
    mean = design @ (0.3 * rng.normal(size=(2, size))) + 0.2 * rng.normal(size=(n, size))
    precise = np.tile(1e-3 * np.eye(size), (n, 1, 1))
    prior = np.zeros((n, size)), np.tile(np.eye(size), (n, 1, 1))
    found = empirical_bayes(mean, precise, *prior, np.zeros(n), design)
    # SPM sharpens posteriors by a sixteenth of their prior's precision, about the same mean.
    posterior = 1000 + 1 / 16
    observed, variance = mean * posterior / (posterior - 1), 1 / (posterior - 1)
    noise = found.between_covariance + variance * np.eye(size)
    whole, weight = np.kron(design, np.eye(size)), np.linalg.inv(np.kron(np.eye(n), noise))
    precision = whole.T @ weight @ whole + np.linalg.inv(found.prior_covariance)
    expected = np.linalg.solve(precision, whole.T @ weight @ observed.ravel())
    sd = np.sqrt(np.diagonal(found.covariance))
    assert found.converged
    # Within SPM's jitter, 1e-8 beside a variance of 1e-3.
    assert (np.abs(found.mean.T.ravel() - expected) < 1e-4 * sd).all()
    assert_allclose(found.covariance, np.linalg.inv(precision), rtol=1e-4, atol=1e-9)
    # SPM ends when the free energy falls, before effects are where their gradient is zero.
    early = empirical_bayes(mean, precise, *prior, np.zeros(n), design, stop="spm")
    assert 1e-3 < (np.abs(early.mean.T.ravel() - expected) / sd).max() < 0.25


# Units of covariates


def assert_same_in_another_unit(one, other, unit):
    assert one.converged and other.converged
    assert_allclose(other.mean * unit, one.mean, rtol=1e-9)
    whole = np.repeat(unit, len(one.mean))
    assert_allclose(other.covariance * np.outer(whole, whole), one.covariance, 1e-9, 1e-15)
    assert other.log_evidence == pytest.approx(one.log_evidence, abs=1e-9)
    assert_allclose(other.between_covariance, one.between_covariance, rtol=1e-9, atol=1e-15)
    assert_allclose(other.subject_mean, one.subject_mean, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_effects_do_not_depend_on_the_unit_of_a_covariate(spm, factor):
    unit = np.array([1.0, factor])
    one, other = of_group(spm), of_group(spm, design=spm["design"] * unit)
    assert_same_in_another_unit(one, other, unit)
    # Such as SPM's steps end where they are far from it.
    early = of_group(spm, design=spm["design"] * unit, stop="spm")
    assert np.abs(early.log_evidence - one.log_evidence) > 0.2


def test_the_optimum_is_where_the_slope_is_zero():
    """Two groups far from what the prior expects, and a prior mean other than 0."""
    rng = np.random.default_rng(7)
    n = 12
    design = np.stack([np.ones(n), np.repeat([-1.0, 1.0], 6)], axis=1)
    mean = design @ np.array([[3.0, 2.0], [-2.0, 1.5]]) + 0.4 * rng.normal(size=(n, 2))
    one = np.tile(np.eye(2), (n, 1, 1))
    found = empirical_bayes(mean, 1e-3 * one, np.ones((n, 2)), one, np.zeros(n), design)
    assert found.converged
    b, g = found.mean.T.ravel(), found.log_precision[0]
    posterior = 1000 + 1 / 16
    observed = (mean * posterior - 1) / (posterior - 1)

    def log_joint(b, g):
        variance = np.exp(-g) / 16 / (1 + np.exp(-8 - g)) + 1 / (posterior - 1)
        residual = observed - design @ b.reshape(2, 2)
        fitted = -(residual**2 / variance + np.log(variance)).sum() / 2
        return fitted - ((b - [1, 1, 0, 0]) ** 2).sum() / 2 - 8 * g**2

    best = log_joint(b, g)
    for move in np.eye(5) * 1e-3:
        for sign in (-1, 1):
            assert log_joint(b + sign * move[:4], g + sign * move[4]) < best + 1e-9
    # The evidence counts the distance of effects from their prior mean: Laplace's method.
    step, points = 1e-3, np.eye(5) * 1e-3
    at = np.r_[b, g]

    def density(x):
        return log_joint(x[:4], x[4])

    H = np.array(
        [
            [
                density(at + u + v) - density(at + u - v) - density(at - u + v)
                + density(at - u - v)
                for v in points
            ]
            for u in points
        ]
    ) / (4 * step**2)  # fmt: skip
    # What subjects say beside their residuals: the density of each estimate under its own prior.
    own = (posterior * mean**2 - 1 - (posterior * mean - 1) ** 2 / (posterior - 1)) / 2
    own = -own.sum() + n * np.log(posterior / (posterior - 1))
    expected = best + own - np.linalg.slogdet(-H)[1] / 2 + np.log(16) / 2
    assert found.log_evidence == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_components_tell_variable_parameters_from_constant_ones():
    rng = np.random.default_rng(3)
    n = 8
    mean = 0.5 + np.array([0.02, 1.0]) * rng.normal(size=(n, 2))
    covariance, prior = np.tile(1e-3 * np.eye(2), (n, 1, 1)), np.tile(np.eye(2), (n, 1, 1))
    found = empirical_bayes(
        mean, covariance, np.zeros((n, 2)), prior, np.zeros(n), np.ones((n, 1)), [[1], [0]]
    )
    assert found.log_precision[1] > 0 > found.log_precision[0]
    spread = np.sqrt(np.diagonal(found.between_covariance))
    assert spread[0] < 0.25 < 0.4 < spread[1] < 1.2


def test_priors_that_differ_between_subjects_in_rank():
    """A subject without prior variance in a direction is taken to be as the group says."""
    n, size = 8, 9
    design = np.stack([np.ones(n), np.linspace(-1, 1, n)], axis=1)
    mean, prior = np.full((n, size), 0.4), np.tile(np.eye(size), (n, 1, 1))
    covariance = 1e-2 * prior
    mean[0, 1] = prior[0, 1, 1] = covariance[0, 1, 1] = 0.0
    found = empirical_bayes(mean, covariance, np.zeros((n, size)), prior, np.zeros(n), design)
    assert np.isfinite(found.log_evidence)
    assert_allclose(found.mean[:, 0], 0.4, atol=0.05)


def test_wider_priors_of_effects_and_of_subjects(spm):
    base, narrow = of_group(spm), of_group(spm, alpha=100.0)
    assert (np.abs(narrow.mean[:, 1]) < np.abs(base.mean[:, 1])).all()
    assert_allclose(narrow.prior_covariance, base.prior_covariance / 100)
    more = of_group(spm, beta=4.0)
    assert np.trace(more.between_covariance) > np.trace(base.between_covariance)
