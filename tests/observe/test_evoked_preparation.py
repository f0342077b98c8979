"""Preparation of evoked responses against SPM's arrays."""

import numpy as np
import pytest

from bayesdcm.observe.evoked_preparation import (
    dct_basis,
    feature_scale,
    residual_matrix,
    temporal_precision,
    window_samples,
)


def test_basis_and_precision(observer):
    np.testing.assert_allclose(dct_basis(10, 3), observer["numerics/dct"], atol=1e-15)
    assert (temporal_precision(8) == observer["numerics/precision"]).all()
    basis = dct_basis(12, 12)
    np.testing.assert_allclose(basis.T @ basis, np.eye(12), atol=1e-14)
    assert (dct_basis(5, 0) == np.zeros((5, 1))).all()
    assert np.linalg.eigvalsh(temporal_precision(200)).min() > 0.24


@pytest.mark.parametrize("case", ["erp_2src_lfp", "erp_5src_ecd"])
def test_inversions(observer, case):
    spm = {k: observer[f"inversion_{case}/{k}"] for k in ("X0", "R", "raw", "U_modes", "features")}
    n_times = len(spm["R"])
    np.testing.assert_allclose(dct_basis(n_times, 1), spm["X0"], atol=1e-15)
    R = residual_matrix(dct_basis(n_times, 1))
    np.testing.assert_allclose(R, spm["R"], atol=1e-15)
    features = spm["raw"] @ spm["U_modes"]
    scale = feature_scale(features)
    assert scale == pytest.approx(float(observer[f"inversion_{case}/scale"]), rel=1e-14)
    found = R @ features * scale
    np.testing.assert_allclose(found, spm["features"], atol=1e-13 * np.abs(found).max())


def test_taper():
    n = 9
    X = dct_basis(n, 2)
    R, window = np.eye(n) - X @ X.T, np.hanning(n + 2)[1:-1]
    np.testing.assert_allclose(
        residual_matrix(X, hanning=True), R @ np.diag(window) @ R, atol=1e-15
    )
    n = 2048
    X = dct_basis(n, 1)
    expected = np.hanning(n + 2)[1:-1, None] * (np.eye(n) - X @ X.T)
    np.testing.assert_allclose(residual_matrix(X, hanning=True), expected, atol=1e-14)


def test_confounds_need_not_be_orthonormal():
    X = np.random.default_rng(0).normal(size=(20, 3)) * [1.0, 10.0, 0.0]
    R = residual_matrix(X)
    assert np.abs(R @ X).max() < 1e-13
    np.testing.assert_allclose(np.trace(R), 18, rtol=1e-12)
    assert (residual_matrix(np.zeros((4, 1))) == np.eye(4)).all()


def test_window():
    times = np.arange(-100, 401, 4) / 1000
    samples = window_samples(times, 0.0, 0.3)
    assert samples[0] == 25 and len(samples) == 76 and times[samples[-1]] == 0.3
    assert (np.diff(window_samples(times, 0.001, 0.3, decimation=3)) == 3).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: window_samples([0, 0.1, 0.2], 0.0, 0.9), "must lie within the times"),
        (lambda: window_samples([0, 0.1, 0.2], 0.2, 0.1), "start before it stops"),
        (lambda: window_samples([0, 0.2, 0.1], 0.0, 0.1), "increasing"),
        (lambda: window_samples([0, 0.1, 0.2], 0.0, 0.1, 0), "decimation must be"),
        (lambda: window_samples([0, 0.1, 0.2], 0.0, 0.1, 2), "holds 1 sample"),
        (lambda: dct_basis(3, 4), "n_components must be between 0"),
        (lambda: residual_matrix(np.ones(3)), "confounds must be finite"),
        (lambda: feature_scale(np.ones((3, 2))), "features must be finite and vary"),
        (lambda: feature_scale([np.nan, 1.0]), "features must be finite and vary"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
