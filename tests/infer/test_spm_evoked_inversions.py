"""Inversions of evoked responses against `spm_dcm_erp`: simulated data, and a recording.

The recording is not in the repository: see tests/data/README.md.
"""

from pathlib import Path

import numpy as np
import pytest

import bayesdcm
from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.spm_modality import read_spm_model_file
from bayesdcm.models.evoked import EvokedDCM

# Compiled as users compile: rounding decides whether a step is the last.
pytestmark = pytest.mark.usefixtures("optimized_file")

CASES = ("erp_2src_lfp", "cmc_2src_lfp", "erp_5src_ecd")
# Of iterations, for SPM and for us.
LIMIT = 64
STRUCTURE = ("forward", "backward", "lateral", "modulation", "inputs")


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_evoked.npz") as arrays:
        return {k.removeprefix("inversion/"): v for k, v in arrays.items() if "inversion/" in k}


def invert(spm, name, one_sided):
    """Our inversion of a data set, and SPM's arrays."""
    case = {k.removeprefix(f"{name}/"): v for k, v in spm.items() if k.startswith(f"{name}/")}
    model = EvokedDCM(
        **{key: case[key] for key in STRUCTURE},
        neural=name[:3],
        observation=name[-3:],
        lead_field=case.get("lead_field"),
        onset=float(case["onset"]),
        duration=float(case["duration"]),
        modes=case["modes"],
        n_confounds=int(case["n_confounds"]),
        one_sided=one_sided,
    )
    data = EvokedData(case["signal"], case["times"])
    derivatives = "one_sided" if one_sided else "exact"
    return bayesdcm.fit(model, data, derivatives=derivatives), case


def disagreement(fit, case):
    """Largest shift of a mean in SPM's posterior sds, and largest relative error of an sd."""
    shifts, ratios = [0.0], [0.0]
    for name in (k.removeprefix("sd/") for k in case if k.startswith("sd/")):
        mean, sd = case[f"mean/{name}"], case[f"sd/{name}"]
        free = sd > 0
        if not free.any():
            # No site, since nothing is unknown.
            assert name not in fit.mean
            continue
        assert fit.mean[name].shape == mean.shape, name
        np.testing.assert_allclose(fit.mean[name][~free], mean[~free], atol=1e-12, err_msg=name)
        assert (fit.sd[name][~free] == 0).all(), name
        shifts.append((np.abs(fit.mean[name] - mean)[free] / sd[free]).max(initial=0))
        ratios.append(np.abs(fit.sd[name][free] / sd[free] - 1).max(initial=0))
    return max(shifts), max(ratios)


# A compilation each, of some twenty seconds.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(CASES[0], marks=pytest.mark.exhaustive),
        pytest.param(CASES[1], marks=pytest.mark.exhaustive),
        pytest.param(CASES[2], marks=pytest.mark.slow),
    ],
)
def test_inversions_are_equal_with_derivatives_as_in_spm(spm, name):
    """Found: free energies apart by 1e-7, 2e-8 and 2e-6 nats; shifts below 2e-6 sds."""
    fit, case = invert(spm, name, one_sided=True)
    n = len(case["accepted"])
    assert fit.status["n_iterations"] == n
    assert fit.status["converged"] == (n < LIMIT)
    assert fit.log_evidence == pytest.approx(case["F"], abs=1e-5)
    assert fit.mean["log_precision"] == pytest.approx(case["log_precision"], abs=1e-7)
    shift, ratio = disagreement(fit, case)
    assert shift < 1e-5
    assert ratio < 1e-6
    # Not the end only, but the whole way.
    np.testing.assert_array_equal(fit.trace["accepted"], case["accepted"])
    np.testing.assert_allclose(fit.trace["free_energy"], case["free_energies"], rtol=0, atol=1e-4)


# The five sources are still on their way when both schemes stop at the limit of iterations.
@pytest.mark.parametrize(
    ("name", "evidence", "largest_shift"),
    [
        pytest.param(CASES[0], 0.01, 0.01, marks=pytest.mark.slow),
        pytest.param(CASES[1], 0.01, 0.01, marks=pytest.mark.exhaustive),
        pytest.param(CASES[2], 0.5, 0.25, marks=pytest.mark.exhaustive),
    ],
)
def test_inversions_agree_with_exact_derivatives(spm, name, evidence, largest_shift):
    """Found: free energies higher by 0.005, 0.002 and 0.2 nats."""
    fit, case = invert(spm, name, one_sided=False)
    assert fit.status["n_iterations"] == len(case["accepted"])
    assert fit.log_evidence == pytest.approx(case["F"], abs=evidence)
    shift, ratio = disagreement(fit, case)
    assert shift < largest_shift
    assert ratio < 0.05


@pytest.fixture(scope="module")
def recording(references):
    """SPM's file of evoked EEG, read with the pattern of each source in its channel modes."""
    folder = references / "data" / "eeg_nmda"
    with np.load(folder / "real_eeg_nmda_full.npz") as arrays:
        lead_field = arrays["Leff"]
    found = bayesdcm.read_spm_dcm(folder / "DCM_full.mat", lead_field=lead_field)
    return found, lead_field, read_spm_model_file(folder / "DCM_full.mat").residual_forming


@pytest.mark.slow
def test_states_and_response_of_a_recording_as_spm(recording):
    found, lead_field, forming = recording
    model, estimates = found.model, found.estimates
    parameters = {prior.name: prior.mean for prior in model.priors} | found.parameters
    states = model.source_activity(parameters, found.data)
    # In SPM's order, the source running fastest, and from zero.
    rest = np.asarray(model.source_model.rest()).T.ravel()
    moved = np.moveaxis(states, 3, 2).reshape(*states.shape[:2], -1)
    expected = estimates.states - rest
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    weight = estimates.spatial_mean["J"].ravel()
    response = forming @ (np.einsum("ctns,s->ctn", states, weight) @ lead_field.T)
    expected = estimates.response
    # Rounding in SPM's differences depends on the compiler: states of up to 68 move by up to 5e-8,
    # and a response of up to 4 by 1.4e-8. With exact derivatives they do not move.
    np.testing.assert_allclose(response, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.slow
def test_an_inversion_of_a_recording_explains_no_less_than_spm(recording):
    """Free gains stand for SPM's modes of patches, so that evidences are not comparable."""
    found, _, forming = recording
    fit = bayesdcm.fit(found.model, found.data, derivatives="one_sided")
    assert fit.status["converged"]
    residual = found.estimates.residual
    projected = found.estimates.response + residual
    modes = found.model.channel_space(found.data).projection
    prediction = forming @ (np.asarray(found.model.predict(fit.mean, found.data)) @ modes)
    ours = 1 - ((projected - prediction) ** 2).sum() / (projected**2).sum()
    assert ours > 1 - (residual**2).sum() / (projected**2).sum() > 0.5
