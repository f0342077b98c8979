"""Tables of models: by evidence, by what they predict of points left out, and what is refused."""

import warnings
from types import ModuleType

import arviz as az
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy import stats
from scipy.special import softmax

import bayesdcm
from bayesdcm import Fit
from bayesdcm.compare import Evidence, compare, log_evidence, stacking_weights
from bayesdcm.compare.comparison import _pseudo_averages
from bayesdcm.compare.stacking import leave_one_out, widely_applicable
from bayesdcm.infer import Posterior, arviz_adapter
from bayesdcm.infer.method import METHODS
from bayesdcm.observe import gaussian

COLUMNS = ["rank", "difference", "weight", "se", "dse", "warning"]


def one_effect(data):
    effect = numpyro.sample("effect", dist.Normal(0.0, 1.0))
    numpyro.sample("y", gaussian(effect * data["x"], 0.0), obs=data["y"])


def two_effects(data):
    """The same with a trend."""
    effect = numpyro.sample("effect", dist.Normal(0.0, 1.0))
    trend = numpyro.sample("trend", dist.Normal(0.0, 1.0))
    times = jnp.linspace(-1, 1, len(data["y"]))
    numpyro.sample("y", gaussian(effect * data["x"] + trend * times, 0.0), obs=data["y"])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    return {"x": x, "y": 0.8 * x + 0.6 * np.linspace(-1, 1, 40) + rng.normal(size=40)}


@pytest.fixture(scope="module")
def laplace(data):
    return {f.__name__: bayesdcm.fit(f, data) for f in (one_effect, two_effects)}


def exact_evidence(data, trend):
    design = np.stack([data["x"], np.linspace(-1, 1, 40) * trend], axis=1)
    return stats.multivariate_normal(cov=np.eye(40) + design @ design.T).logpdf(data["y"])


def known(log_likelihood, observed=(0.0,), method="nuts"):
    """A fit of which only likelihoods and data are known, as one that was read from disk."""
    fit = Fit(None, Posterior(METHODS[method]()))
    axes = ("chain", "draw", "point")
    fit.__dict__["idata"] = arviz_adapter.assemble(
        {
            "posterior": xr.Dataset({"b": (axes[:2], log_likelihood.sum(-1))}),
            "sample_stats": xr.Dataset({"lp": (axes[:2], log_likelihood.sum(-1))}),
            "log_likelihood": xr.Dataset({"y": (axes, log_likelihood)}),
            "observed_data": xr.Dataset({"y": (("point",), np.asarray(observed, float))}),
        }
    )
    return fit


def likelihoods(seed, shape=(4, 250, 30)):
    """Log-likelihoods of points at draws of a normal mean, whose posterior is known."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=shape[2]) * (1 + seed / 4)
    draws = y.mean() + rng.normal(size=shape[:2]) / np.sqrt(shape[2])
    return stats.norm(draws[..., None]).logpdf(y)


def test_the_room_is_the_function():
    fits = {"a": Evidence(-10.0, 0.3, "bridge"), "b": Evidence(-8.0, 0.4, "bridge")}
    assert isinstance(bayesdcm.compare, ModuleType)
    assert bayesdcm.compare(fits).equals(compare(fits))
    assert bayesdcm.compare.compare is compare and callable(bayesdcm.compare.reduce)
    with pytest.raises(ValueError, match="by must be one of 'evidence', 'loo'.*got 'luck'"):
        bayesdcm.compare(fits, by="luck")


def test_evidences_by_hand():
    fits = {"a": Evidence(-10.0, 0.3, "bridge"), "b": Evidence(-8.0, 0.4, "bridge")}
    table = compare(fits | {"c": Evidence(-9.0, 0.0, "thermodynamic")})
    assert table.index.tolist() == ["b", "c", "a"] and table.index.name == "model"
    assert set(COLUMNS) <= set(table) and table["rank"].tolist() == [0, 1, 2]
    assert table["difference"].tolist() == [0.0, -1.0, -2.0]
    np.testing.assert_allclose(table["probability"], softmax([0, -1, -2]))
    np.testing.assert_allclose(table["dse"], [0.0, 0.4, 0.5])
    assert table["kind"].tolist() == ["bridge", "thermodynamic", "bridge"]
    assert not table["warning"].any()


def test_free_energies_of_programs(data, laplace):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = compare(laplace)
    exact = np.array([exact_evidence(data, trend) for trend in (0, 1)])
    rows = table.loc[list(laplace)]
    np.testing.assert_allclose(rows["log_evidence"], exact, atol=0.02)
    np.testing.assert_allclose(rows["probability"], softmax(exact), atol=0.01)
    assert table["probability"].sum() == pytest.approx(1.0)
    assert (table["kind"] == "free_energy").all()
    # No sampling error, and so none of differences.
    assert table["se"].isna().all() and np.isnan(table["dse"].iloc[1])


@pytest.mark.exhaustive
def test_bridge_sampling_for_chains(data, laplace):
    nuts = {f.__name__: bayesdcm.fit(f, data, "nuts", progress=False, draws=300)
            for f in (one_effect, two_effects)}  # fmt: skip
    table = compare(nuts)
    exact = np.array([exact_evidence(data, trend) for trend in (0, 1)])
    np.testing.assert_allclose(table.loc[list(nuts), "log_evidence"], exact, atol=0.05)
    assert (table["kind"] == "bridge").all() and (table["dse"].iloc[1:] > 0).all()
    mixed = {"laplace": laplace["one_effect"], "nuts": nuts["two_effects"]}
    with pytest.warns(RuntimeWarning, match=r"several kinds \(bridge, free_energy\)"):
        compare(mixed)
    # Predictions left out hardly depend on how the posterior was found.
    for by in ("loo", "stacking"):
        tables = [compare(fits, by=by) for fits in (nuts, laplace)]
        np.testing.assert_allclose(
            tables[0].loc[list(nuts), "elpd"], tables[1].loc[list(nuts), "elpd"], atol=0.1
        )


def test_doubtful_numbers_are_marked():
    fits = {
        "good": Evidence(-10.0, 0.1, "bridge"),
        "bad": Evidence(-9.0, 0.9, "bridge", {}, ("The standard error is large.",)),
    }
    with pytest.warns(RuntimeWarning, match="numbers of bad are doubtful"):
        table = compare(fits)
    assert table["warning"].to_dict() == {"bad": True, "good": False}


# Predictive densities


def arviz_loo(fit):
    found = az.loo(fit.idata, pointwise=True)
    return found.elpd_i if arviz_adapter.DATA_TREE else found.loo_i


def test_leave_one_out_is_that_of_arviz():
    likelihood = likelihoods(0)
    found = leave_one_out(likelihood)
    expected = np.asarray(arviz_loo(known(likelihood)))
    # ArviZ takes the effective draws of parameters where this takes those of the likelihood.
    np.testing.assert_allclose(found.elpd, expected, atol=2e-3)
    assert found.lost == 0 and (found.doubt < 0.7).all()


def test_leave_one_out_in_closed_form():
    rng = np.random.default_rng(3)
    y = rng.normal(size=50)
    draws = y.mean() + rng.normal(size=(4, 5000)) / np.sqrt(50)
    found = leave_one_out(stats.norm(draws[..., None]).logpdf(y))
    # A flat prior, unit noise: the mean of the others, and its own variance.
    others = (y.sum() - y) / 49
    exact = stats.norm(others, np.sqrt(1 + 1 / 49)).logpdf(y)
    np.testing.assert_allclose(found.elpd, exact, atol=0.01)
    waic = widely_applicable(stats.norm(draws[..., None]).logpdf(y))
    np.testing.assert_allclose(waic.elpd.sum(), exact.sum(), atol=0.05)


def test_draws_of_approximations_are_weighed():
    """An approximation off by half a standard deviation, and a third too wide."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=50)
    sd = 1 / np.sqrt(50)
    draws = y.mean() + 0.5 * sd + 1.3 * sd * rng.normal(size=(1, 8000))
    weights = stats.norm(y.mean(), sd).logpdf(draws)
    weights -= stats.norm(y.mean() + 0.5 * sd, 1.3 * sd).logpdf(draws)
    likelihood = stats.norm(draws[..., None]).logpdf(y)
    exact = stats.norm((y.sum() - y) / 49, np.sqrt(1 + 1 / 49)).logpdf(y)
    for assess in (leave_one_out, widely_applicable):
        weighed = assess(likelihood, weights).elpd.sum()
        assert weighed == pytest.approx(exact.sum(), abs=0.06)
        assert abs(assess(likelihood).elpd.sum() - exact.sum()) > 0.5


@pytest.mark.skipif(arviz_adapter.DATA_TREE, reason="gone from ArviZ 1")
def test_waic_is_that_of_arviz():
    likelihood = likelihoods(1)
    expected = az.waic(known(likelihood).idata, pointwise=True)
    found = widely_applicable(likelihood)
    np.testing.assert_allclose(found.elpd, expected.waic_i, rtol=1e-10)
    assert found.doubt.sum() == pytest.approx(float(expected.p_waic))


def test_tables_are_those_of_arviz():
    fits = {str(seed): known(likelihoods(seed)) for seed in range(3)}
    found = compare(fits, by="stacking")
    idatas = {name: fit.idata for name, fit in fits.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # ArviZ 1 rounds what it shows.
        whole = {"round_to": "none"} if arviz_adapter.DATA_TREE else {}
        expected = az.compare(idatas, method="stacking", **whole)
    assert found.index.tolist() == expected.index.tolist()
    elpd = "elpd" if arviz_adapter.DATA_TREE else "elpd_loo"
    np.testing.assert_allclose(found["elpd"], expected[elpd], atol=0.02)
    # ArviZ 1 has the sign that this has, ArviZ 0.23 the other.
    np.testing.assert_allclose(-found["difference"], expected["elpd_diff"].abs(), atol=0.03)
    for name in ("se", "dse"):
        # ArviZ 0.23 divides by the number of points, ArviZ 1 and this by one less.
        np.testing.assert_allclose(found[name], expected[name].astype(float), rtol=0.025)
    np.testing.assert_allclose(found["weight"], expected["weight"].astype(float), atol=0.02)
    assert set(COLUMNS) <= set(found) and "probability" not in found


@pytest.mark.parametrize("by", ["loo", "waic", "stacking"])
def test_comparison_of_equals(by):
    fits = {"one": known(likelihoods(0)), "two": known(likelihoods(0))}
    table = compare(fits, by=by)
    np.testing.assert_allclose(table["weight"], 0.5)
    np.testing.assert_allclose(table[["difference", "dse"]], 0.0, atol=1e-12)


def test_stacking_weights_are_the_best():
    rng = np.random.default_rng(0)
    elpd = rng.normal(size=(200, 3)) + [0.0, 0.2, -3.0]

    def score(weights):
        return np.log(np.exp(elpd) @ weights).mean()

    found = stacking_weights(elpd)
    assert found.sum() == pytest.approx(1.0) and (found >= 0).all()
    for weights in rng.dirichlet(np.ones(3), size=2000):
        assert score(weights) <= score(found) + 1e-9
    # One model for two thirds of the points, another for the rest.
    apart = np.where(np.arange(30)[:, None] % 3 < [[2, 0]], 0.0, -50.0)
    apart[:, 1] = -50.0 - apart[:, 0]
    np.testing.assert_allclose(stacking_weights(apart), [2 / 3, 1 / 3], atol=1e-6)
    np.testing.assert_allclose(stacking_weights(np.zeros((5, 4))), 0.25)


def test_pseudo_averages_are_hedged():
    elpd = np.random.default_rng(0).normal(size=(50, 1)) * [[0.0, 1.0]]
    plain = softmax(elpd.sum(0))
    hedged = _pseudo_averages(elpd, seed=0)
    assert abs(hedged - 0.5).max() < abs(plain - 0.5).max()
    assert hedged.sum() == pytest.approx(1.0)


def test_draws_at_which_a_model_diverges_are_left_out():
    likelihood = likelihoods(0)
    broken = likelihood.copy()
    broken[0, :10] = -np.inf
    fits = {"whole": known(likelihood), "broken": known(broken)}
    with pytest.warns(RuntimeWarning, match="numbers of broken are doubtful"):
        table = compare(fits, by="loo")
    assert table["lost"].to_dict() == {"whole": 0, "broken": 10}
    assert abs(table["difference"]).max() < 0.1
    with pytest.raises(ValueError, match=r"fits\['broken'\]: the model diverges at every draw"):
        compare(fits | {"broken": known(np.full((2, 20, 30), -np.inf))}, by="waic")


# What is refused


def test_different_data_are_refused(data, laplace):
    other = bayesdcm.fit(one_effect, data | {"y": data["y"] + 1.0})
    with pytest.raises(ValueError, match="y has other values in 40 of 40 entries; evidences"):
        compare({"one": laplace["one_effect"], "other": other})
    short = known(likelihoods(0), np.zeros(3))
    with pytest.raises(ValueError, match=r"y has shapes \(3,\) and \(1,\)"):
        compare({"one": known(likelihoods(0)), "two": short}, by="loo")
    fewer = known(likelihoods(0, (4, 250, 20)))
    with pytest.raises(ValueError, match=r"as many modelled data points each, got \{'one': 30"):
        compare({"one": known(likelihoods(0)), "two": fewer}, by="loo")


@pytest.mark.parametrize(
    ("fits", "by", "error", "text"),
    [
        ([1, 2], "evidence", TypeError, "fits must be a dict of named fits.*got list"),
        ({}, "evidence", ValueError, "at least two fits, got 0"),
        ({"a": Evidence(0.0, 0.0, "bridge")}, "evidence", ValueError, "two fits, got 1"),
        ({"a": 3.0, "b": 2.0}, "evidence", TypeError, r"fits\['a'\] must be a Fit, got float"),
        ({"a": [1], "b": [2]}, "evidence", TypeError, "use bayesdcm.select_models"),
        (
            dict.fromkeys("ab", Evidence(0.0, 0.0, "bridge")),
            "loo",
            TypeError,
            "must be a Fit to compare by 'loo', got an Evidence",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(fits, by, error, text):
    with pytest.raises(error, match=text):
        compare(fits, by=by)


def test_chains_have_no_free_energy():
    with pytest.raises(ValueError, match="gives no free energy; use method='bridge'"):
        log_evidence(known(likelihoods(0)), "free_energy")
