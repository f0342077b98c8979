"""Inversions of recorded data against SPM's; the recordings are not in the repository."""

from dataclasses import replace

import numpy as np
import pytest

import bayesdcm
from bayesdcm import BoldData, TaskDCM
from bayesdcm.data.spm_container import load_dcm

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
    # The file has the priors of SPM12, in which self-connections have the mean 0.
    fit = bayesdcm.fit(replace(attention.model, priors=None), attention.data)
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


def test_priors_of_the_attention_file(references, attention):
    """In every entry those that SPM12 stored: A, B, C, transit, decay, epsilon, and the noise."""
    M = load_dcm(references / "data" / "attention" / "DCM_backward.mat")["M"]
    priors = {prior.name: prior for prior in attention.model.priors.all}

    def vector(which):
        arrays = [np.asarray(getattr(priors[name], which)) for name in NAMES]
        arrays[1] = np.moveaxis(arrays[1], 0, 2)
        return np.concatenate([array.ravel(order="F") for array in arrays])

    stored = [M["pE"][name] for name in NAMES]
    stored = [x.toarray() if hasattr(x, "toarray") else np.asarray(x) for x in stored]
    mean = np.concatenate([array.ravel(order="F") for array in stored])
    np.testing.assert_array_equal(vector("mean"), mean)
    np.testing.assert_array_equal(vector("variance"), np.diag(M["pC"]))
    np.testing.assert_array_equal(attention.model.priors.noise.mean, M["hE"])
    np.testing.assert_array_equal(np.diag(attention.model.priors.noise.variance), M["hC"].toarray())
    assert [given.name for given in attention.model.priors.given] == ["A"]


def test_priors_of_the_file_of_evoked_responses(references):
    path = references / "data" / "eeg_nmda" / "DCM_full.mat"
    M = load_dcm(path)["M"]
    lead_field = np.random.default_rng(0).normal(size=(6, 64, 6))
    model = bayesdcm.read_spm_dcm(path, lead_field=lead_field).model
    fields = {"mean": M["pE"] | M["gE"], "variance": M["pC"] | M["gC"]}
    for prior in model.priors:
        for which, stored in fields.items():
            value = stored[prior.symbol]
            value = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
            value = value.T if prior.symbol == "L" else value
            np.testing.assert_array_equal(getattr(prior, which), value.reshape(prior.mean.shape))
    constants = {"SA", "GE", "GI", "Lpos"}
    assert {prior.symbol for prior in model.priors} | constants == set(fields["mean"])
    assert (model.priors.noise.mean, model.priors.noise.variance) == (M["hE"], M["hC"])


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
