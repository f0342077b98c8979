"""Recordings that are not in the repository: an SPM file of evoked EEG, and MNE-Python's sample."""

import os
from pathlib import Path

import mne
import numpy as np
import pytest

from bayesdcm.data import EvokedData
from bayesdcm.data.spm_modality import read_spm_model_file


@pytest.fixture
def recordings():
    """The folder that BAYESDCM_REFERENCE names: see tests/data/README.md."""
    folder = os.environ.get("BAYESDCM_REFERENCE", "")
    if not Path(folder, "data").is_dir():
        pytest.skip("BAYESDCM_REFERENCE is not set or has no folder data: see tests/data/README.md")
    return Path(folder, "data")


def test_an_spm_file_equals_its_arrays(recordings):
    file = read_spm_model_file(recordings / "eeg_nmda" / "DCM_full.mat")
    arrays = np.load(recordings / "eeg_nmda" / "real_eeg_nmda_full.npz")
    estimates = file.estimates
    assert (file.neural, file.observation, file.scale) == ("nmda", "img", arrays["xY__scale"])
    pairs = {
        "Lpos": file.positions.T,
        "B1": file.modulation[0],
        "C": file.inputs,
        "M__U": file.modes,
        "xY__R": file.residual_forming,
        "xY__X0": file.confounds,
        "xU__X": file.data.design,
        "Cp": estimates.covariance,
        "Cg": estimates.spatial_covariance,
        "Ce": estimates.noise_covariance,
        "F": estimates.free_energy,
    }
    for i, kind in enumerate(("forward", "backward", "lateral"), start=1):
        pairs[f"A{i}"] = getattr(file, kind)
    for i in range(2):
        pairs |= {
            f"xY__y{i + 1}": file.data.signal[i] / file.scale,
            f"H{i + 1}": estimates.response[i],
            f"R{i + 1}": estimates.residual[i],
            f"x{i + 1}": estimates.states[i],
        }
    structures = {
        "Ep": estimates.mean,
        "Eg": estimates.spatial_mean,
        "M__pE": estimates.prior_mean,
        "M__pC": estimates.prior_variance,
        "M__gE": estimates.spatial_prior_mean,
        "M__gC": estimates.spatial_prior_variance,
    }
    for name, fields in structures.items():
        for symbol, values in fields.items():
            if symbol in ("A", "B"):
                pairs |= {f"{name}__{symbol}{i + 1}": v for i, v in enumerate(values)}
            else:
                pairs[f"{name}__{symbol}"] = values
    for name, values in pairs.items():
        expected = arrays[name]
        np.testing.assert_allclose(
            values, expected.reshape(np.shape(values)), rtol=1e-14, atol=1e-14, err_msg=name
        )
    # What SPM reports: the response and what it leaves of the projected data in channel modes.
    projected = file.residual_forming @ (file.data.signal / file.scale) @ file.modes
    np.testing.assert_allclose(
        projected - estimates.response, estimates.residual, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize(("picks", "n"), [("eeg", 60), ("mag", 102), ("grad", 204), (None, 366)])
def test_auditory_responses_of_the_sample(recordings, picks, n):
    folder = recordings / "mne_sample"
    evokeds = mne.read_evokeds(folder / "test-ave.fif.gz", [0, 1], verbose=False)
    covariance = mne.read_cov(folder / "test-cov.fif", verbose=False)
    data = EvokedData.from_mne(
        evokeds, noise_cov=covariance, tmin=0.0, tmax=0.25, picks=picks, sphere="auto"
    )
    assert data.condition_names == ("Left Auditory", "Right Auditory") and data.n_channels == n
    assert data.noise_cov.shape == (n, n) and data.head.n_channels == n
    # Projected and referenced already: nothing changes but the channels' selection.
    raw = evokeds[1].copy().pick(list(data.channel_names)).crop(data.times[0], data.times[-1])
    for kind in set(data.channel_types):
        rows = np.array(data.channel_types) == kind
        wanted = raw.data.T[:, rows]
        np.testing.assert_allclose(
            data.signal[1][:, rows], wanted, rtol=0, atol=1e-12 * np.abs(wanted).max()
        )
    assert 0.08 < data.head.radii[-1] < 0.1
    left, right = data.head.to_head([[-42, -22, 7], [46, -14, 8]])
    assert left[0] < -0.03 < 0.03 < right[0]
