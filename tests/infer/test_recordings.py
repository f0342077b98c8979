"""Inversions of recorded data against SPM's; the recordings are not in the repository."""

import numpy as np
import pytest

import bayesdcm
from bayesdcm import BoldData, TaskDCM

# A compilation each, and NUTS.
pytestmark = pytest.mark.slow

NAMES = ("A", "B", "C", "transit", "decay", "epsilon")


def spm_moments(mean, variance, start, shape):
    """Means and standard deviations of one parameter in our axes, from SPM's vectors."""
    sd = np.sqrt(variance[start : start + mean.size].reshape(mean.shape, order="F"))
    if mean.ndim == 3:
        mean, sd = np.moveaxis(mean, 2, 0), np.moveaxis(sd, 2, 0)
    return mean.reshape(shape), sd.reshape(shape)


def disagreement(fit, arrays, prefix=""):
    """Largest shift of a mean in SPM's posterior sds, and largest relative error of an sd."""
    variance, start, shifts, ratios = np.diag(arrays[f"{prefix}Cp"]), 0, [], []
    for name in NAMES:
        stored = arrays[f"{prefix}Ep_{name}"]
        mean, sd = spm_moments(stored, variance, start, fit.mean[name].shape)
        start += stored.size
        free = sd > 0
        shifts.extend(np.abs(fit.mean[name] - mean)[free] / sd[free])
        ratios.extend(np.abs(fit.sd[name][free] / sd[free] - 1))
    assert start == variance.size
    return max(shifts), max(ratios)


def load(references, *path):
    with np.load(references.joinpath(*path)) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def attention(references):
    return bayesdcm.read_spm_dcm(references / "data" / "attention" / "DCM_backward.mat")


def test_attention_to_motion_agrees_with_spm(references, attention):
    spm = load(references, "reference", "spm_fmri", "attention_backward_spm26.npz")
    fit = bayesdcm.fit(attention.model, attention.data)
    assert fit.log_evidence == pytest.approx(spm["F"], abs=1.0)
    shift, ratio = disagreement(fit, spm)
    assert shift < 0.1
    assert ratio < 0.05
    # The prediction of SPM is that of the scaled data, confounds left out.
    prediction = fit.idata.posterior_predictive["signal_prediction"].mean(("chain", "draw"))
    centred = np.asarray(attention.data.signal).mean(axis=0)
    scaled = (np.asarray(prediction) - centred) * attention.data.scale
    error = np.sqrt(((scaled - spm["y_predicted"]) ** 2).mean(axis=0))
    assert (error / spm["y_predicted"].std(axis=0)).max() < 0.05


def test_attention_to_motion_by_nuts(attention):
    fit = bayesdcm.fit(attention.model, attention.data, "nuts", draws=1250, progress=False)
    table = fit.summary()
    assert table["r_hat"].max() < 1.01
    assert table["ess_bulk"].min() >= 1000
    assert not np.asarray(fit.idata.sample_stats["diverging"]).any()


def test_a_subject_agrees_with_spm(references):
    spm = load(references, "reference", "spm_fmri", "g3_estimate_real_sub01.npz")
    data = BoldData(
        spm["dcm_in_y"],
        spm["dcm_in_TR"].item(),
        inputs=spm["dcm_in_u"],
        input_dt=spm["dcm_in_udt"].item(),
        confounds=spm["dcm_in_X0"],
        slice_delays=spm["dcm_in_delays"].ravel(),
    )
    # The option "centre" is on in this file.
    assert spm["dcm_in_centre"].item() == 1
    B = np.moveaxis(spm["dcm_in_b"], 2, 0)
    model = TaskDCM(spm["dcm_in_a"], B, spm["dcm_in_c"], integrator="bilinear")
    fit = bayesdcm.fit(model, data.centred_inputs())
    assert fit.log_evidence == pytest.approx(spm["dcm_F"].item(), abs=0.5)
    shift, ratio = disagreement(fit, spm, "dcm_")
    assert shift < 0.1
    assert ratio < 0.05
    assert fit.status["n_iterations"] == spm["dcm_it_n"].item()
