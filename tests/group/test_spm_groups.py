"""Comparison of group models and prediction of covariates: SPM's numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from bayesdcm.group.design import checked_design
from bayesdcm.group.effects import effects_of
from bayesdcm.group.first_level import FirstLevel, names_of
from bayesdcm.group.group_effects import Settings
from bayesdcm.group.leave_one_out import left_out


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_peb.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def effects(spm):
    labels = tuple(f"A[{i}]" for i in range(7)) + ("B[0]", "B[1]")
    index = spm["index"]
    prior = spm["subjects/prior_mean"][index], spm["subjects/prior_covariance"]
    fields = tuple(label[0] for label in labels)
    first = [
        FirstLevel(
            i,
            labels,
            names_of(labels, fields),
            fields,
            np.ones(9),
            spm["subjects/mean"][i][index],
            spm["subjects/covariance"][i][np.ix_(index, index)],
            prior[0],
            prior[1][np.ix_(index, index)],
            spm["subjects/log_evidence"][i],
            lambda i: 0.0,
            None,
        )
        for i in range(8)
    ]
    design = checked_design(spm["design"], range(8))
    return effects_of(first, design, labels, fields, Settings())


def test_effects_as_spm(spm, effects):
    assert effects.log_evidence == pytest.approx(spm["single/log_evidence"].item(), abs=1e-10)
    assert_allclose(effects.mean, spm["single/mean"], atol=1e-12)
    assert_allclose(effects.covariance, spm["single/covariance"], atol=1e-12)
    assert_allclose(effects.between_covariance, spm["single/between_covariance"], atol=1e-12)


def test_comparison_of_models_as_spm(spm, effects):
    found = effects.compare(spm["comparison/on"])
    # Evidences of reduced models with several parameters off carry SPM's rounding.
    assert_allclose(found.change, spm["comparison/change"], rtol=0, atol=1e-4)
    assert_allclose(found.probability, spm["comparison/probability"], rtol=0, atol=1e-5)
    sometimes_off = ~spm["comparison/on"].astype(bool).all(0)
    for name in ("commonalities", "differences"):
        values = getattr(found, name).to_numpy()[sometimes_off]
        assert_allclose(values, spm[f"comparison/{name}"], rtol=0, atol=1e-5)
    assert_allclose(found.mean, spm["comparison/mean"], rtol=0, atol=1e-5)


def test_models_by_name_and_by_table(spm, effects):
    on = pd.DataFrame(spm["comparison/on"], columns=effects.parameters)
    named = {f"model {i}": row.index[row == 0].tolist() for i, row in on.iterrows()}
    by_name = effects.compare(named, covariate="covariate 1")
    assert by_name.probability.index.tolist() == list(named)
    assert_allclose(by_name.probability, spm["comparison/probability"], rtol=0, atol=1e-5)


def test_left_out_covariates_as_spm(spm):
    index, n = spm["index"][:7], 8
    prior = spm["subjects/prior_mean"][index], spm["subjects/prior_covariance"]
    found = left_out(
        spm["subjects/mean"][:, index],
        spm["subjects/covariance"][:, index[:, None], index],
        np.tile(prior[0], (n, 1)),
        np.tile(prior[1][np.ix_(index, index)], (n, 1, 1)),
        spm["subjects/log_evidence"],
        spm["design"],
    )
    assert_allclose(found.mean, spm["left_out/mean"], rtol=0, atol=1e-11)
    assert_allclose(found.variance, spm["left_out/variance"], rtol=0, atol=1e-12)
    assert_allclose(found.probability, spm["left_out/probability"], rtol=0, atol=1e-8)
