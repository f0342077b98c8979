"""read_spm_dcm: the file's model, with SPM's integrator, beside its data and estimates."""

import dataclasses

import jax
import numpy as np
import pytest

from bayesdcm.models.spm import read_spm_dcm


def test_model_data_and_estimates(dcm_structure, save_dcm):
    dcm = dcm_structure(n=3, m=2)
    dcm["options"]["two_state"] = 1.0
    result = read_spm_dcm(save_dcm(dcm))
    assert result.model.integrator == "bilinear" and result.model.two_state is True
    np.testing.assert_array_equal(result.model.A, dcm["a"])
    np.testing.assert_array_equal(result.model.B, np.moveaxis(dcm["b"], 2, 0))
    np.testing.assert_array_equal(result.model.C, dcm["c"])
    assert result.data.region_names == ("R1", "R2", "R3")
    assert result.estimates.free_energy == -123.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.model = None


def test_nonlinear_model_that_was_not_estimated(dcm_structure, save_dcm):
    dcm = dcm_structure(n=3, m=1, gates=3, estimated=False)
    path = save_dcm(dcm)
    with pytest.warns(UserWarning, match="spm_int_D"):
        result = read_spm_dcm(path)
    np.testing.assert_array_equal(result.model.D, np.moveaxis(dcm["d"], 2, 0))
    assert result.estimates is None


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2)])
def test_estimates_go_into_predict(dcm_structure, save_dcm, n, m):
    result = read_spm_dcm(save_dcm(dcm_structure(n=n, m=m)))
    # Traced only: compiling takes seconds and would tell nothing more about the reader.
    prediction = jax.eval_shape(
        lambda p: result.model.predict(p, result.data), result.estimates.mean
    )
    assert prediction.shape == (20, n)


def test_errors_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_spm_dcm(tmp_path / "absent.mat")
    (tmp_path / "DCM.mat").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a MATLAB file"):
        read_spm_dcm(tmp_path / "DCM.mat")
