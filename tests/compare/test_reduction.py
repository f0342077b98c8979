"""Reduction of models: SPM's numbers, closed forms, and what is refused."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal, norm

import bayesdcm
from bayesdcm.compare import compare_posteriors, reduce, reduce_gaussian
from bayesdcm.infer import SVI, Fit, Laplace, Posterior
from bayesdcm.infer.prior_moments import prior_moments
from bayesdcm.infer.problem import make_problem
from bayesdcm.models.evoked import EvokedDCM
from bayesdcm.observe import gaussian


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_reduction.npz") as arrays:
        return dict(arrays)


def reduced(spm, full, case):
    names = [f"{full}/qE", f"{full}/qC", f"{full}/pE", f"{full}/pC", f"{case}/rE", f"{case}/rC"]
    return reduce_gaussian(*(spm[name] for name in names))


# Against SPM


def test_small_example_as_spm(spm):
    found = reduced(spm, "small", "small")
    # SPM itself is 2.1e-9 from what its steps give in exact arithmetic: the precision of a
    # parameter that is off is 1e8.
    assert abs(float(found.change) - spm["small/F"]) < 3e-9
    np.testing.assert_allclose(found.mean, spm["small/sE"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, spm["small/sC"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", range(1, 6))
def test_subject_of_38_parameters_as_spm(spm, case):
    found = reduced(spm, "subject", f"subject/{case}")
    assert abs(float(found.change) - spm[f"subject/{case}/F"]) < 1e-7
    np.testing.assert_allclose(found.mean, spm[f"subject/{case}/sE"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, spm[f"subject/{case}/sC"], rtol=0, atol=1e-12)


def test_many_models_at_once(spm):
    cases = [f"subject/{i}" for i in range(1, 6)]
    means, covariances = (np.stack([spm[f"{c}/{k}"] for c in cases]) for k in ("rE", "rC"))
    full = [spm[f"subject/{name}"] for name in ("qE", "qC", "pE", "pC")]
    found = jax.jit(jax.vmap(lambda r, C: reduce_gaussian(*full, r, C)))(means, covariances)
    expected = [spm[f"{case}/F"] for case in cases]
    np.testing.assert_allclose(found.change, expected, rtol=0, atol=1e-7)
    assert found.covariance.shape == (5, 38, 38)


def test_directions_of_no_prior_variance_keep_the_reduced_prior_mean():
    # Two entries that always move together, and one that is fixed.
    prior = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    direction = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    posterior = 0.5 * np.outer(direction, direction)
    found = reduce_gaussian(
        0.3 * direction, posterior, np.zeros(3), prior, [0.0, 0.0, 0.7], 0.25 * prior
    )
    one = reduce_gaussian([0.3], [[0.5]], [0.0], [[2.0]], [0.0], [[0.5]])
    assert float(found.change) == pytest.approx(float(one.change), abs=1e-12)
    expected = float(one.mean[0]) * direction + [0, 0, 0.7]
    np.testing.assert_allclose(found.mean, expected, atol=1e-12)
    np.testing.assert_allclose(
        found.covariance, float(one.covariance[0, 0]) * np.outer(direction, direction), atol=1e-12
    )


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"prior_mean must have shape \(1,\), .*got shape \(2,\)"):
        reduce_gaussian([0.0], [[1.0]], [0.0, 0.0], [[1.0]], [0.0], [[1.0]])


# Against fits without the parameter

TIMES = np.linspace(-1, 1, 40)
DESIGN = np.stack([np.ones(40), TIMES, TIMES**2, np.sin(3 * TIMES)], axis=1)
NOISE = 0.0


NAMES = [f"weights[{i}]" for i in range(4)]
VARIANCE = np.full(4, 0.5)


def linear(data):
    weights = numpyro.sample("weights", dist.Normal(0, np.sqrt(VARIANCE)).to_event(1))
    numpyro.sample("y", gaussian(DESIGN @ weights, NOISE), obs=data)


def posterior(data, mean, variance):
    """Evidence, mean and covariance of the linear program; no variance: that entry is fixed."""
    free = variance > 0
    X, noise = DESIGN[:, free], np.exp(-NOISE) * np.eye(len(data))
    found, covariance = mean.copy(), np.zeros((4, 4))
    residual = data - DESIGN @ mean
    within = np.linalg.inv(X.T @ X * np.exp(NOISE) + np.diag(1 / variance[free]))
    found[free] += within @ X.T @ residual * np.exp(NOISE)
    covariance[np.ix_(free, free)] = within
    evidence = multivariate_normal(cov=noise + DESIGN * variance @ DESIGN.T).logpdf(residual)
    return evidence, found, covariance


@pytest.fixture(scope="module")
def data():
    weights = np.array([0.3, -0.5, 0.0, 0.05])
    return DESIGN @ weights + np.random.default_rng(1).normal(size=40)


@pytest.fixture(scope="module")
def full(data):
    """A fit of which the posterior is exact to the last digit."""
    evidence, mean, covariance = posterior(data, np.zeros(4), VARIANCE)
    found = Posterior(Laplace(), gaussian=(mean, covariance), log_evidence=evidence)
    return Fit(make_problem(linear, data), found)


def assert_equal(found, full, expected):
    evidence, mean, covariance = expected
    # A jitter of 1e-8 is added to variances, as in SPM.
    assert found.log_evidence == pytest.approx(evidence, abs=2e-5)
    assert found.change == pytest.approx(evidence - full.log_evidence, abs=2e-5)
    np.testing.assert_allclose(found.mean["weights"], mean, atol=1e-6)
    np.testing.assert_allclose(found.sd["weights"], np.sqrt(np.diagonal(covariance)), atol=1e-6)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-7)


@pytest.mark.parametrize("off", [[2], [1], [0, 3], [1, 2, 3]])
def test_evidence_is_that_of_the_model_without(full, data, off):
    found = reduce(full, off=[NAMES[i] for i in off])
    variance = VARIANCE.copy()
    variance[off] = 0
    assert_equal(found, full, posterior(data, np.zeros(4), variance))
    assert (found.mean["weights"][off] == 0).all() and (found.sd["weights"][off] == 0).all()
    assert found.off == {NAMES[i]: 0.0 for i in off}
    table = found.summary()
    assert list(table.index) == [NAMES[i] for i in range(4) if i not in off]
    z = (table["mean"] / table["sd"]).abs()
    np.testing.assert_allclose(table["probability"], norm.cdf(z))
    np.testing.assert_allclose(table["eti_5%"], norm.ppf(0.05, table["mean"], table["sd"]))


def test_other_priors(full, data):
    mean, variance = np.array([0, -0.4, 0, 0]), np.array([0.5, 0.1, 0.5, 0.5])
    found = reduce(full, priors={"weights[1]": (-0.4, 0.1)})
    assert_equal(found, full, posterior(data, mean, variance))
    assert found.off == {} and len(found.summary()) == 4


def test_fixed_elsewhere(full, data):
    found = reduce(full, off={"weights[1]": -0.5})
    mean, variance = np.array([0, -0.5, 0, 0]), np.array([0.5, 0, 0.5, 0.5])
    assert_equal(found, full, posterior(data, mean, variance))
    assert found.mean["weights"][1] == -0.5 and found.off == {"weights[1]": -0.5}


def test_fits_by_variational_laplace(data):
    fit = bayesdcm.fit(linear, data)
    assert fit.log_evidence == pytest.approx(posterior(data, np.zeros(4), VARIANCE)[0], abs=0.02)
    # Variational Laplace stops where it expects less than 0.1 nat from its next step.
    found = reduce(fit, off=["weights[2]"])
    without = posterior(data, np.zeros(4), np.array([0.5, 0.5, 0, 0.5]))
    assert found.log_evidence == pytest.approx(without[0], abs=0.02)
    np.testing.assert_allclose(found.mean["weights"], without[1], atol=0.01)


def test_nothing_changed(full):
    found = reduce(full)
    assert found.change == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(found.mean["weights"], full.mean["weights"], atol=1e-7)
    np.testing.assert_allclose(found.covariance, full.covariance, atol=1e-7)


def test_sites_by_name(full):
    by_site = reduce(full, off="weights")
    by_label = reduce(full, off=NAMES)
    assert by_site.log_evidence == by_label.log_evidence
    assert set(by_site.off) == set(by_label.off) and by_site.summary().empty
    assert "4 parameters off" in repr(by_site)


@pytest.mark.parametrize("unit", [1e-7, 1e6])
def test_units_do_not_matter(full, data, unit):
    """Parameters in volts or in nanovolts: the jitter is for parameters of order one."""

    def scaled(data):
        free = dist.Normal(np.zeros(4), np.sqrt(VARIANCE) * unit).to_event(1)
        weights = numpyro.sample("weights", free)
        numpyro.sample("y", gaussian(DESIGN @ weights / unit, NOISE), obs=data)

    mean, covariance = full.posterior.gaussian
    moments = (mean * unit, covariance * unit**2)
    other = Posterior(Laplace(), gaussian=moments, log_evidence=0.0)
    found = reduce(Fit(make_problem(scaled, data), other), off=["weights[1]"])
    expected = reduce(full, off=["weights[1]"])
    assert found.change == pytest.approx(expected.change, abs=2e-5)
    np.testing.assert_allclose(found.mean["weights"] / unit, expected.mean["weights"], atol=1e-6)


def test_results_compare_as_fits_do(full):
    table = compare_posteriors({"full": full, "reduced": reduce(full, off=["weights[2]"])})
    assert table.attrs["reference"] == "reduced" and len(table) == 3


def prior_as_posterior(model, data):
    """A fit from which no prior looks better than another."""
    problem = make_problem(model, data)
    return Fit(problem, Posterior(Laplace(), gaussian=prior_moments(problem), log_evidence=0.0))


def test_models_of_the_package():
    example = bayesdcm.load_example("attention")
    fit = prior_as_posterior(example.model, example.data)
    found = reduce(fit, off=["B[Attention, V5, SPC]"])
    assert found.change == pytest.approx(0, abs=1e-5)
    assert found.mean["B"][2, 1, 2] == 0 and found.off == {"B[Attention, V5, SPC]": 0.0}
    assert found.sd["B"][1, 1, 0] > 0
    assert (reduce(fit, off=["B"]).sd["B"] == 0).all()
    label = next(name for name in fit.covariance.index if name.startswith("transit"))
    with pytest.raises(ValueError, match=r"off names 'transit.*logarithm.*off=.'transit"):
        reduce(fit, off=[label])
    assert reduce(fit, off={label: 0.0}).sd["transit"][0] == 0


@pytest.mark.slow
def test_connections_of_evoked_responses_are_absent_where_the_model_has_them():
    signal = np.random.default_rng(0).normal(size=(2, 16, 2))
    data = bayesdcm.data.EvokedData(signal, np.arange(16) / 250)
    model = EvokedDCM(forward=[[0, 0], [1, 0]], modulation=[[0, 0], [1, 0]], observation="lfp")
    fit = prior_as_posterior(model, data)
    label = next(name for name in fit.covariance.index if name.startswith("A["))
    # As `restrict` does: ERP leaves exp(-4) of a connection that is switched off.
    assert reduce(fit, off=[label]).off == {label: -4.0}
    assert reduce(fit, off=[label]).change == pytest.approx(0, abs=1e-5)
    changes = [name for name in fit.covariance.index if name.startswith("B[")]
    assert reduce(fit, off=changes).off == dict.fromkeys(changes, 0.0)


# Priors


def test_prior_moments_however_the_prior_is_written(data):
    covariance = np.array([[1.0, 0.3], [0.3, 0.5]])

    def program(data):
        # Far from zero, too, in standard deviations.
        together = dist.MultivariateNormal(jnp.array([1e6 / 3, -1.0]), covariance)
        pair = numpyro.sample("pair", together)
        centre = numpyro.sample("centre", dist.Normal(2.0, 0.1))
        about = numpyro.sample("about", dist.Normal(centre, 0.2))
        h = numpyro.sample("h", dist.Normal(6.0, 0.1), infer={"role": "precision"})
        numpyro.sample("y", gaussian(pair.sum() + about + 0 * data, h), obs=data)

    mean, found = prior_moments(make_problem(program, data))
    np.testing.assert_allclose(mean, [1e6 / 3, -1, 2, 2, 6], rtol=1e-15, atol=1e-12)
    expected = np.zeros((5, 5))
    expected[:2, :2] = covariance
    expected[2:4, 2:4] = [[0.01, 0.01], [0.01, 0.05]]
    expected[4, 4] = 0.01
    np.testing.assert_allclose(found, expected, atol=1e-12)


def not_normal(data):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    numpyro.sample("y", gaussian(scale + 0 * data, 0.0), obs=data)


def not_together(data):
    log_scale = numpyro.sample("log_scale", dist.Normal(0.0, 1.0))
    value = numpyro.sample("value", dist.Normal(0.0, jnp.exp(log_scale)))
    numpyro.sample("y", gaussian(value + 0 * data, 0.0), obs=data)


@pytest.mark.parametrize(
    ("program", "text"), [(not_normal, "'scale' is not normal"), (not_together, "depends on")]
)
def test_priors_that_are_not_gaussian_are_refused(program, text, data):
    fit = bayesdcm.fit(program, np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=text):
        reduce(fit, off=[fit.covariance.index[-1]])


# What is refused


@pytest.mark.parametrize(
    ("off", "priors", "error", "text"),
    [
        (["weight[1]"], None, ValueError, r"off names 'weight\[1\]'.*'weights\[0\]'"),
        ([3], None, TypeError, "off must hold labels.*got 3"),
        (["weights", "weights[1]"], None, ValueError, r"'weights\[1\]' is named twice"),
        (["weights[1]"], {"weights[1]": (0, 1)}, ValueError, "named twice"),
        ({"weights[1]": np.nan}, None, ValueError, r"off\['weights\[1\]'\].*finite.*nan"),
        ((), {"weights[1]": 3.0}, ValueError, "must be .mean, variance., got 3.0"),
        ((), {"weights[1]": (0, -1.0)}, ValueError, "variance of at least 0, got -1.0"),
        ((), {"nothing": (0, 1.0)}, ValueError, "priors names 'nothing'"),
    ],
)
def test_labels_that_cannot_be(full, off, priors, error, text):
    with pytest.raises(error, match=text):
        reduce(full, off=off, priors=priors)


def test_a_prior_from_which_no_posterior_follows():
    """The posterior is wider than the prior, so that a flat prior leaves nothing proper."""

    def wide(data):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.sample("y", gaussian(a + 0 * data, 0.0), obs=data)

    fit = bayesdcm.fit(wide, np.array([0.0, 0.1]))
    mean, covariance = fit.posterior.gaussian
    object.__setattr__(fit.posterior, "gaussian", (mean, covariance + 4.0))
    with pytest.raises(ValueError, match="so much wider"):
        reduce(fit, priors={"a": (0.0, 100.0)})


def test_fits_that_cannot_be_reduced(full, data):
    with pytest.raises(TypeError, match="fit must be a Fit.*got dict"):
        reduce({}, off=["weights"])
    # As `load_fit` makes them, where the program is not given.
    saved = Fit(
        None, full.posterior, {"labels": full.labels, "_prior_moments": full._prior_moments}
    )
    with pytest.raises(ValueError, match="load_fit\\(path, model=program, data=data\\)"):
        reduce(saved, off=["weights"])
    svi = Fit(make_problem(linear, data), Posterior(SVI(), log_evidence=0.0))
    with pytest.raises(ValueError, match="method='laplace'.*method='svi'"):
        reduce(svi, off=["weights"])
