"""What a fit holds: moments, summary, ArviZ groups, and the file it is saved in."""

import os
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import ndtr

import bayesdcm

SETTINGS = {
    "laplace": {},
    "svi": {"steps": 300, "draws": 4000, "progress": False},
    "nuts": {"warmup": 100, "draws": 250, "chains": 2, "progress": False},
}
GROUPS = [
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "prior",
    "observed_data",
    "constant_data",
]


@pytest.fixture(scope="module")
def data(linear_data):
    return linear_data()


@pytest.fixture(scope="module", params=list(SETTINGS))
def fit(request, linear, data):
    return bayesdcm.fit(linear(), data, request.param, **SETTINGS[request.param])


@pytest.fixture(scope="module")
def laplace(linear, data):
    return bayesdcm.fit(linear(), data)


def test_moments_agree_with_the_draws(fit):
    draws = np.asarray(fit.idata.posterior["b"]).reshape(-1, 2)
    tolerance = 1e-9 if fit.method != "laplace" else 4 / np.sqrt(len(draws))
    scale = draws.std(0, ddof=1)
    assert (np.abs(fit.mean["b"] - draws.mean(0)) / scale).max() < tolerance
    np.testing.assert_allclose(fit.sd["b"], scale, rtol=tolerance)
    covariance = np.cov(draws, rowvar=False)
    bound = tolerance * np.sqrt(np.outer(*[np.diag(covariance)] * 2))
    assert (np.abs(fit.covariance.to_numpy() - covariance) <= bound).all()
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), fit.sd["b"], rtol=1e-9)
    assert list(fit.covariance.index) == list(fit.covariance.columns) == ["b[one]", "b[two]"]


def test_the_summary_has_a_row_for_every_parameter(fit):
    table = fit.summary()
    assert list(table.index) == ["b[one]", "b[two]"] and table.index.name == "parameter"
    columns = ["mean", "sd", "eti_5%", "eti_95%", "probability"]
    assert list(table.columns[:5]) == columns
    assert list(table.columns[5:]) == (
        ["ess_bulk", "ess_tail", "r_hat"] if fit.method == "nuts" else []
    )
    np.testing.assert_allclose(table["mean"], fit.mean["b"])
    np.testing.assert_allclose(table["sd"], fit.sd["b"])
    # Nearly normal posteriors: 90 % lie within 1.645 standard deviations.
    np.testing.assert_allclose(table["eti_95%"] - table["mean"], 1.645 * table["sd"], rtol=0.15)
    np.testing.assert_allclose(table["mean"] - table["eti_5%"], 1.645 * table["sd"], rtol=0.15)
    draws = np.asarray(fit.idata.posterior["b"]).reshape(-1, 2)
    positive = (draws > 0).mean(0)
    seen = np.maximum(positive, 1 - positive)
    if fit.posterior.gaussian is None:
        np.testing.assert_allclose(table["probability"], seen)
    else:
        exact = ndtr(np.abs(table["mean"]) / table["sd"])
        np.testing.assert_allclose(table["probability"], exact, rtol=1e-12)
        np.testing.assert_allclose(exact, seen, atol=0.05)
    # What the caller does to a table leaves the fit alone.
    table["mean"] = 0
    assert (fit.summary()["mean"] != 0).all()


def test_groups_dims_and_coordinates(fit, data):
    assert list(fit._groups) == GROUPS
    # Of a DataTree, or of an InferenceData.
    assert list(getattr(fit.idata, "children", None) or fit.idata.groups()) == GROUPS
    chains, draws = {"laplace": (1, 1000), "svi": (1, 4000), "nuts": (2, 250)}[fit.method]
    assert dict(fit.idata.posterior.sizes) == {"chain": chains, "draw": draws, "effect": 2}
    assert fit.idata.posterior["effect"].values.tolist() == ["one", "two"]
    assert fit.idata.prior["b"].dims == ("chain", "draw", "effect")
    assert fit.idata.prior["b"].shape == (1, 500, 2)
    predictive = fit.idata.posterior_predictive
    assert set(predictive.data_vars) == {"y", "y_prediction", "y_fitted"}
    for name in predictive.data_vars:
        assert predictive[name].dims == ("chain", "draw", "time")
        assert predictive[name].shape == (chains, draws, 30)
    np.testing.assert_array_equal(fit.idata.observed_data["y"], data["y"])
    np.testing.assert_array_equal(fit.idata.constant_data["design"], data["X"])
    assert fit.idata.log_likelihood["y"].shape == (chains, draws, 30)
    assert {"lp"} <= set(fit.idata.sample_stats.data_vars)
    assert ("log_q" in fit.idata.sample_stats) == (fit.method != "nuts")


def test_predictions_and_likelihoods_of_every_draw(fit, data):
    b = np.asarray(fit.idata.posterior["b"])
    prediction = b @ data["X"].T
    predictive = fit.idata.posterior_predictive
    np.testing.assert_allclose(predictive["y_prediction"], prediction, atol=1e-10)
    np.testing.assert_allclose(predictive["y_fitted"], prediction, atol=1e-10)
    noise = np.asarray(predictive["y"]) - prediction
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert len(np.unique(noise)) == noise.size
    expected = -2 * (data["y"] - prediction) ** 2 + np.log(4 / (2 * np.pi)) / 2
    np.testing.assert_allclose(fit.idata.log_likelihood["y"], expected, atol=1e-9)
    fitted = fit.predict()
    assert fitted.shape == (30,)
    np.testing.assert_allclose(fitted, prediction.mean((0, 1)), atol=1e-10)


def test_prior_draws_are_those_of_the_prior(laplace, data):
    draws = np.asarray(laplace.idata.prior["b"])[0]
    sd = np.exp(data["prior_log_sd"])
    assert (np.abs(draws.mean(0) - data["prior_mean"]) / sd).max() < 4 / np.sqrt(500)
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.15)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.2


def test_arviz_takes_the_result(fit):
    loo = az.loo(fit.idata)
    # About as many effective parameters as there are.
    p = float(loo.p_loo if hasattr(loo, "p_loo") else loo.p)
    assert 0.5 < p < 4
    table = az.summary(fit.idata)
    np.testing.assert_allclose(table["mean"].astype(float), fit.idata.posterior["b"].mean(
        ("chain", "draw")), atol=0.01)  # fmt: skip
    assert list(table.index) == ["b[one]", "b[two]"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plot_forest", "plot_trace", "plot_ess", "plot_autocorr"])
def test_arviz_plots_the_result(fit, name):
    assert getattr(az, name)(fit.idata) is not None


# On disk


def assert_equal_fits(loaded, fit):
    assert loaded.method == fit.method
    assert loaded.log_evidence == fit.log_evidence
    assert loaded.description == fit.description
    assert loaded.status == fit.status
    assert repr(loaded) == repr(fit)
    for kind in ("mean", "sd", "trace"):
        own, other = getattr(fit, kind), getattr(loaded, kind)
        assert list(other) == list(own)
        for name in own:
            np.testing.assert_array_equal(other[name], own[name], err_msg=f"{kind} {name}")
            assert np.asarray(other[name]).dtype == np.asarray(own[name]).dtype
    pd.testing.assert_frame_equal(loaded.covariance, fit.covariance)
    pd.testing.assert_frame_equal(loaded.summary(), fit.summary())
    own, other = fit._groups, loaded._groups
    assert list(other) == list(own)
    for name, group in own.items():
        xr.testing.assert_equal(other[name], group)
    assert str(loaded.diagnose()) == str(fit.diagnose())
    xr.testing.assert_equal(loaded.predict(), fit.predict())


def test_a_saved_fit_is_read_back_whole(fit, tmp_path):
    path = fit.save(tmp_path / "fit.nc")
    assert path == tmp_path / "fit.nc"
    loaded = bayesdcm.load_fit(path)
    assert_equal_fits(loaded, fit)
    # And again, from the loaded one.
    assert_equal_fits(bayesdcm.load_fit(loaded.save(str(tmp_path / "again.nc"))), fit)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.nc", "fit.nc"]


@pytest.mark.parametrize("stage", ["writing", "replacing"])
def test_a_failing_save_leaves_the_old_file(laplace, tmp_path, monkeypatch, stage):
    path = laplace.save(tmp_path / "fit.nc")
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if stage == "writing":
        whole, calls = xr.Dataset.to_netcdf, []

        def fails_late(self, *args, **kwargs):
            calls.append(1)
            return full() if len(calls) == 4 else whole(self, *args, **kwargs)

        monkeypatch.setattr(xr.Dataset, "to_netcdf", fails_late)
    else:
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        laplace.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["fit.nc"]


def test_a_folder_that_is_missing_is_named(laplace, tmp_path):
    with pytest.raises(FileNotFoundError, match="path: the folder .*nowhere.* does not exist"):
        laplace.save(tmp_path / "nowhere" / "fit.nc")


def test_a_saved_file_has_the_usual_permissions(laplace, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    saved = laplace.save(tmp_path / "fit.nc")
    assert oct(saved.stat().st_mode) == oct(plain.stat().st_mode)


def other_netcdf(path, saved):
    xr.Dataset({"x": ("time", np.zeros(3))}).to_netcdf(path, engine="h5netcdf")


def text(path, saved):
    path.write_text("A[V5, V1] 0.3\n")


def truncated(path, saved):
    path.write_bytes(saved[: len(saved) // 2])


def empty(path, saved):
    path.touch()


def folder(path, saved):
    path.mkdir()


@pytest.mark.parametrize("make", [other_netcdf, text, truncated, empty])
def test_files_of_another_kind_are_refused(laplace, tmp_path, make):
    saved = laplace.save(tmp_path / "fit.nc").read_bytes()
    path = tmp_path / "other.nc"
    make(path, saved)
    with pytest.raises(ValueError, match="path: .*other.nc.*Fit.save"):
        bayesdcm.load_fit(path)


def test_what_users_change_in_the_arviz_object_is_kept(laplace, tmp_path):
    path = tmp_path / "fit.nc"
    laplace.save(path)
    fit = bayesdcm.load_fit(path)
    fit.idata.posterior["twice"] = 2 * fit.idata.posterior["b"]
    fit.save(path, predictions=True)
    kept = bayesdcm.load_fit(path).idata.posterior
    np.testing.assert_allclose(kept["twice"], 2 * kept["b"])


def test_draws_by_one_seed_are_not_those_of_another_thing(laplace):
    groups = laplace.idata
    prior, posterior = (np.asarray(g["b"])[0, :500, 0] for g in (groups.prior, groups.posterior))
    assert abs(np.corrcoef(prior, posterior)[0, 1]) < 0.2


def test_arviz_files_are_refused(laplace, tmp_path):
    path = tmp_path / "idata.nc"
    laplace.idata.to_netcdf(str(path), engine="h5netcdf")
    with pytest.raises(ValueError, match="holds no fit of bayesdcm"):
        bayesdcm.load_fit(path)


@pytest.mark.parametrize("make", [None, folder])
def test_missing_files_are_named(tmp_path, make):
    path = tmp_path / "absent.nc"
    if make:
        make(path, b"")
    with pytest.raises(FileNotFoundError, match="path: there is no file .*absent.nc"):
        bayesdcm.load_fit(Path(path))
