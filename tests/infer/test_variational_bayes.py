"""Variational Bayes in closed form, against other methods, and with many regions."""

import numpy as np
import pytest
from scipy import integrate, stats

import bayesdcm
from bayesdcm import BoldData, RegressionDCM
from bayesdcm.data import BoldDesign
from bayesdcm.infer.block_covariance import BlockCovariance, diagonal_covariance
from bayesdcm.observe.linear_regression import (
    GammaNoise,
    NormalNoise,
    Regression,
    rigid_posterior,
    sparse_posterior,
)


def resting(n, n_scans, seed=0):
    rng = np.random.default_rng(seed)
    A = -0.5 * np.eye(n) + 0.3 / np.sqrt(n) * rng.normal(size=(n, n))
    model = RegressionDCM(np.ones((n, n)), measurement_noise=0.1)
    design = BoldDesign(n_scans, 1.0, None, None, [f"R{k + 1}" for k in range(n)])
    return model, model.simulate({"A": A, "log_precision": np.full(n, 2.0)}, design, seed)


@pytest.fixture(scope="module")
def small():
    model, data = resting(3, 200)
    return model, data, bayesdcm.fit(model, data, progress=False)


# One regression


def regression(noise, seed=0, size=3, n_rows=40):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, size))
    y = x @ np.arange(size) + 0.5 * rng.normal(size=n_rows)
    prior = np.zeros(size), np.full(size, 0.25), noise
    return Regression(x.T @ x, x.T @ y, float(y @ y), n_rows, *prior), x, y


@pytest.mark.parametrize("noise", [GammaNoise(2.0, 1.0), NormalNoise(2.0, 16.0)])
def test_the_free_energy_is_just_below_the_evidence(noise):
    given, x, y = regression(noise)
    covariance = x @ x.T * 4

    def density(log_precision):
        matrix = covariance + np.exp(-log_precision) * np.eye(len(y))
        likelihood = stats.multivariate_normal(np.zeros(len(y)), matrix).logpdf(y)
        if isinstance(noise, GammaNoise):
            prior = stats.gamma(2.0).logpdf(np.exp(log_precision)) + log_precision
        else:
            prior = stats.norm(2.0, 4.0).logpdf(log_precision)
        return np.exp(likelihood + prior + 40)

    evidence = np.log(integrate.quad(density, -4, 6)[0]) - 40
    found = rigid_posterior(given)
    assert evidence - 0.1 < found.free_energy[-1] < evidence
    assert (np.diff(found.free_energy) > -1e-9).all()


def test_noise_has_the_moments_of_its_posterior():
    for n_rows, misfit in ((100, 30.0), (3, 1e6), (500, 1e-6)):
        flat = NormalNoise(0.0, 1e8).posterior(n_rows, misfit)
        gamma = GammaNoise(1e-12, 1e-12).posterior(n_rows, misfit)
        np.testing.assert_allclose(flat[:3], gamma[:3], rtol=2e-4)


def test_sparse_regressions_are_rigid_ones_where_all_is_there():
    given, *_ = regression(GammaNoise(2.0, 1.0))
    rigid, sparse = rigid_posterior(given), sparse_posterior(given, np.ones(3))
    np.testing.assert_allclose(sparse.mean, rigid.mean, rtol=1e-9)
    np.testing.assert_allclose(sparse.free_energy, rigid.free_energy, atol=1e-8)


def test_sparse_free_energies_charge_what_is_certain():
    """In the bound, a coefficient that is there for certain costs -log p0."""
    given, *_ = regression(GammaNoise(2.0, 1.0))
    half = sparse_posterior(given, np.array([1.0, 0.5, 0.5]))
    rigid = rigid_posterior(given)
    assert half.inclusion[1:].min() > 0.999
    assert half.free_energy[-1] == pytest.approx(rigid.free_energy[-1] - 2 * np.log(2), abs=0.02)


# Covariances in blocks


def test_blocks_are_the_whole_matrix():
    rng = np.random.default_rng(0)
    places = [np.array([0, 3, 4]), np.array([1, 2])]
    blocks = [np.cov(rng.normal(size=(len(p), 20))) for p in places]
    matrix = BlockCovariance(places, blocks)
    dense = matrix.dense()
    np.testing.assert_array_equal(dense[np.ix_(places[0], places[1])], 0)
    np.testing.assert_array_equal(dense[np.ix_(places[0], places[0])], blocks[0])
    np.testing.assert_array_equal(matrix.diagonal(), np.diagonal(dense))
    np.testing.assert_array_equal(matrix[np.ix_([1, 4], [3])], dense[np.ix_([1, 4], [3])])
    noise = rng.normal(size=(7, 5))
    np.testing.assert_allclose(matrix.white(matrix.correlated(noise)), noise)
    assert matrix.half_log_determinant == pytest.approx(np.linalg.slogdet(dense)[1] / 2)
    with pytest.raises(ValueError, match="all 9000 parameters would take"):
        diagonal_covariance(np.ones(9000)).dense()


# The same program by all methods


def test_other_methods_read_the_same_program(small):
    model, data, found = small
    laplace = bayesdcm.fit(model, data, "laplace", progress=False)
    assert laplace.log_evidence == pytest.approx(found.log_evidence, abs=0.02)
    np.testing.assert_allclose(laplace.mean["A"], found.mean["A"], atol=1e-3)
    nuts = bayesdcm.fit(model, data, "nuts", chains=2, draws=500, progress=False)
    difference = np.abs(nuts.mean["A"] - found.mean["A"]) / found.sd["A"]
    assert difference.max() < 0.15
    np.testing.assert_allclose(nuts.sd["A"], found.sd["A"], rtol=0.15)


@pytest.mark.parametrize("priors", [{"A[V1, V1]": -0.3}, {"A": -0.2}])
def test_constants_enter_the_prediction(priors):
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(120, 2)).cumsum(0)
    data = BoldData(signal - signal.mean(0), 2.0, region_names=["V1", "V5"])
    model = RegressionDCM(np.ones((2, 2)), priors=priors)
    found, other = (
        bayesdcm.fit(model, data, method) for method in ("variational_bayes", "laplace")
    )
    assert found.log_evidence == pytest.approx(other.log_evidence, abs=0.05)
    np.testing.assert_allclose(found.summary()["mean"], other.summary()["mean"], atol=0.02)
    assert "largest_eigenvalue" in found.diagnose().facts


def test_sparse_fits(small):
    _, data, rigid = small
    model = RegressionDCM(np.ones((3, 3)), sparse=True, measurement_noise=0.1)
    found = bayesdcm.fit(model, data, starts=3, progress=False)
    table = found.summary()
    assert list(table.columns[-1:]) == ["inclusion"]
    assert (table.loc[[f"A[R{k}, R{k}]" for k in (1, 2, 3)], "inclusion"] == 1).all()
    np.testing.assert_allclose(found.mean["A"], rigid.mean["A"], atol=4 * rigid.sd["A"].max())
    assert found.diagnose().facts["converged"]
    with pytest.raises(ValueError, match="not normal"):
        bayesdcm.reduce(found, {"A[R1, R2]": 0.0})


def test_a_group_of_regressions():
    model, _ = resting(3, 150)
    data = {f"sub-{k}": resting(3, 150, k)[1] for k in range(4)}
    group = bayesdcm.fit_group(model, data, progress=False)
    effects = bayesdcm.peb(group)
    assert effects.mean.shape == (9, 1)
    one = bayesdcm.fit(model, data["sub-2"], progress=False)
    np.testing.assert_array_equal(group["sub-2"].mean["A"], one.mean["A"])
    reduced = bayesdcm.reduce(one, {"A[R1, R2]": 0.0})
    A = np.ones((3, 3))
    A[0, 1] = 0
    again = bayesdcm.fit(model.restrict(A=A), data["sub-2"], progress=False)
    assert reduced.log_evidence == pytest.approx(again.log_evidence, abs=0.1)


def test_refused(small):
    model, data, _ = small
    task = bayesdcm.load_example("attention")
    with pytest.raises(ValueError, match="needs a RegressionDCM"):
        bayesdcm.fit(task.model, task.data, "variational_bayes")
    laplace = model.with_priors({"A": bayesdcm.LaplacePrior(0.2)})
    with pytest.raises(ValueError, match="is a LaplacePrior; method 'variational_bayes' takes"):
        bayesdcm.fit(laplace, data)
    sparse = bayesdcm.fit(RegressionDCM(np.ones((3, 3)), sparse=True), data, progress=False)
    with pytest.raises(ValueError, match="the prior of 'A' is not normal; reduction of models"):
        bayesdcm.reduce(sparse, off=[sparse.labels[1]])
    with pytest.raises(ValueError, match="subject 0: the prior of 'A' is not normal"):
        bayesdcm.peb([sparse, sparse])


# Many regions


def test_many_regions_have_covariances_in_blocks(tmp_path):
    model, data = resting(50, 120)
    found = bayesdcm.fit(model, data, draws=50, progress=False)
    mean, covariance = found.posterior.gaussian
    assert isinstance(covariance, BlockCovariance) and len(mean) == 2550
    sd = np.sqrt(covariance.diagonal())
    np.testing.assert_allclose(found.sd["A"].ravel(), sd[:2500])
    np.testing.assert_array_equal(found.mean["A"].ravel(), mean[:2500])
    table = found.summary()
    np.testing.assert_allclose(table["sd"], sd)
    prior_mean, prior = found._prior_moments
    np.testing.assert_allclose(prior_mean[:2], [-0.5, 0.0], atol=1e-9)
    np.testing.assert_allclose(prior.diagonal()[:2], [1 / 400, 8 / 50], rtol=1e-6)
    assert found.diagnose().facts["largest_eigenvalue"] < 0
    again = bayesdcm.load_fit(found.save(tmp_path / "fit.nc"))
    np.testing.assert_array_equal(again.sd["A"], found.sd["A"])
    np.testing.assert_array_equal(again.posterior.sample, found.posterior.sample)
    labels = [f"A[R{i}, R{j}]" for i in (1, 2) for j in (1, 2)]
    effects = bayesdcm.peb([found, found], parameters=labels)
    assert effects.mean.shape == (4, 1)


def test_huge_signals_are_refused():
    signal = 1e200 * np.random.default_rng(0).normal(size=(50, 2))
    data = BoldData(signal, 2.0, unit="percent")
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="squares are not finite"):
        bayesdcm.fit(RegressionDCM(np.ones((2, 2)), measurement_noise=0.1), data)
