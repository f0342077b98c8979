"""Covariates: what is accepted, and what is refused in which words."""

import numpy as np
import pandas as pd
import pytest

from bayesdcm.group.design import checked_design

SUBJECTS = ["s1", "s2", "s3", "s4"]
AGE = [-1.5, -0.5, 0.5, 1.5]


@pytest.mark.parametrize(
    ("design", "names"),
    [
        (None, ["mean"]),
        (np.ones(4), ["mean"]),
        (np.stack([np.ones(4), AGE], axis=1), ["mean", "covariate 1"]),
        ({"group": 1, "age": AGE}, ["group", "age"]),
        (pd.DataFrame({"one": 1, "age": AGE, "patient": [True, False] * 2}), None),
    ],
)
def test_forms(design, names):
    table = checked_design(design, SUBJECTS)
    assert list(table.index) == SUBJECTS and (table.iloc[:, 0] == 1).all()
    assert list(table.columns) == (names or ["one", "age", "patient"])
    if len(table.columns) > 1:
        assert table.iloc[:, 1].tolist() == AGE
    assert set(table.dtypes) == {np.dtype(float)}


def test_rows_with_names_are_put_in_the_order_of_the_subjects():
    design = pd.DataFrame({"mean": 1, "age": AGE}, index=SUBJECTS).iloc[::-1]
    assert checked_design(design, SUBJECTS)["age"].tolist() == AGE


@pytest.mark.parametrize(
    ("design", "error", "message"),
    [
        (np.ones((3, 1)), ValueError, "one row a subject, 4 in all; got 3"),
        (np.ones((4, 1, 1)), ValueError, r"shape \(subjects, covariates\)"),
        ({"mean": 1, "age": [1, 2]}, ValueError, "one number a subject"),
        ({"mean": 1, "age": [1, np.nan, 2, 3]}, ValueError, "'age' of subject 's2' is nan"),
        ({"age": AGE, "mean": 1}, ValueError, "first covariate of design must be 1 for every"),
        ({"mean": 1, "sex": list("mfmf")}, TypeError, "must hold numbers"),
        ({"mean": 1, "a": AGE, "b": np.array(AGE) + 1}, ValueError, "linear combinations"),
        (pd.DataFrame({"mean": 1}, index=["s1", "s2", "s3", "x"]), ValueError, "got 'x' among"),
        (pd.DataFrame([[1, 2]] * 4, columns=["a", "a"]), ValueError, "must differ"),
        (np.ones((4, 0)), ValueError, "no column"),
    ],
)
def test_refused(design, error, message):
    with pytest.raises(error, match=message):
        checked_design(design, SUBJECTS)


@pytest.mark.parametrize("factor", [1e-12, 1e12, 1e20])
def test_units_do_not_make_covariates_dependent(factor):
    design = {"mean": 1, "age": np.array(AGE) * factor}
    assert checked_design(design, SUBJECTS)["age"].tolist() == (np.array(AGE) * factor).tolist()
    with pytest.raises(ValueError, match="linear combinations"):
        checked_design(design | {"twice": np.array(AGE) * 2}, SUBJECTS)
