"""`compare_posteriors` against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from bayesdcm import compare_posteriors
from bayesdcm.infer import Posterior
from bayesdcm.infer.method import METHODS


class Known:
    """A fit of which only the summary is known."""

    def __init__(self, method, **parameters):
        self.posterior = Posterior(METHODS[method]())
        self.table = pd.DataFrame(
            [{"mean": mean, "sd": sd} for mean, sd in parameters.values()],
            index=pd.Index(list(parameters), name="parameter"),
        )

    def summary(self):
        return self.table


@pytest.fixture
def fits():
    return {
        "laplace": Known("laplace", a=(1.0, 0.5), b=(0.0, 1.0), c=(2.0, 2.0)),
        "nuts": Known("nuts", a=(2.0, 0.5), b=(0.0, 2.0), c=(2.0, 1.0)),
        "svi": Known("svi", a=(2.0, 0.4), b=(0.3, 2.0), c=(2.0, 1.0)),
    }


def test_values_by_hand(fits):
    table = compare_posteriors({"laplace": fits["laplace"], "nuts": fits["nuts"]})
    assert table.attrs["reference"] == "nuts"
    rows = table.set_index("parameter")
    assert list(rows.columns) == [
        "fit",
        "mean",
        "sd",
        "reference_mean",
        "reference_sd",
        "shift",
        "sd_ratio",
        "distance",
    ]
    assert (rows["fit"] == "laplace").all()
    assert rows.loc["a", "shift"] == -2.0 and rows.loc["a", "sd_ratio"] == 1.0
    assert rows.loc["b", "shift"] == 0.0 and rows.loc["b", "sd_ratio"] == 0.5
    assert rows.loc["c", "shift"] == 0.0 and rows.loc["c", "sd_ratio"] == 2.0
    assert rows["distance"].to_dict() == {"a": 2.0, "c": 1.0, "b": 0.5}
    assert rows.loc["a", ["mean", "sd", "reference_mean", "reference_sd"]].tolist() == [
        1,
        0.5,
        2,
        0.5,
    ]


def test_the_worst_comes_first(fits):
    table = compare_posteriors(fits)
    assert len(table) == 6
    assert table["distance"].is_monotonic_decreasing
    assert table[["parameter", "fit"]].iloc[0].tolist() == ["a", "laplace"]
    # sqrt(0.15**2 + 0) and |0.8 - 1|.
    np.testing.assert_allclose(table["distance"], [2.0, 1.0, 0.5, 0.2, 0.15, 0.0])
    assert list(table.index) == list(range(6))


def test_the_distance_is_wasserstein_between_normals(fits):
    row = compare_posteriors({"x": Known("svi", a=(1.0, 2.0)), "y": Known("nuts", a=(0.0, 0.5))})
    # Squared 2-Wasserstein distance of normals: difference of means squared plus that of sds.
    assert row["distance"].iloc[0] == pytest.approx(np.sqrt(1.0 + 1.5**2) / 0.5)


def test_nuts_is_the_reference_else_the_last(fits):
    assert compare_posteriors(fits).attrs["reference"] == "nuts"
    others = {"svi": fits["svi"], "laplace": fits["laplace"]}
    assert compare_posteriors(others).attrs["reference"] == "laplace"
    assert compare_posteriors(fits, reference="svi").attrs["reference"] == "svi"
    assert set(compare_posteriors(fits, reference="svi")["fit"]) == {"laplace", "nuts"}


def test_only_common_parameters_are_compared(fits):
    with pytest.warns(UserWarning, match="2 of 3 parameters are not .*: .a., .c."):
        table = compare_posteriors({"nuts": fits["nuts"], "small": Known("laplace", b=(0.0, 1.0))})
    assert table["parameter"].tolist() == ["b"]


@pytest.mark.parametrize(
    ("fits", "reference", "error", "text"),
    [
        ([1, 2], None, TypeError, "fits must be a dict of named fits.*got list"),
        ({}, None, ValueError, "fits must name at least two fits, got 0"),
        ({"one": Known("nuts", a=(0, 1))}, None, ValueError, "at least two fits, got 1"),
        (
            {"one": Known("nuts", a=(0, 1)), "two": 3},
            None,
            TypeError,
            r"fits\['two'\] must be a Fit, got int",
        ),
        (
            {"one": Known("nuts", a=(0, 1)), "two": Known("svi", a=(0, 1))},
            "three",
            ValueError,
            "reference must be one of 'one', 'two', got 'three'",
        ),
        (
            {"one": Known("nuts", a=(0, 1)), "two": Known("svi", b=(0, 1))},
            None,
            ValueError,
            "no parameter in common",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(fits, reference, error, text):
    with pytest.raises(error, match=text):
        compare_posteriors(fits, reference)
