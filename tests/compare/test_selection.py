"""Selection of models over subjects: SPM's numbers, exact sums, and what is refused."""

from itertools import product
from math import lgamma
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from bayesdcm.compare import exceedance_probability, sample_frequencies, select_models


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_selection.npz") as arrays:
        return dict(arrays)


def log_evidence(subjects, models, seed=0):
    return np.random.default_rng(seed).normal(size=(subjects, models)) * 2


@pytest.mark.parametrize(("case", "sampled"), [("bms2", 1e-12), ("bms4", 1.5e-3)])
def test_random_effects_as_spm(spm, case, sampled):
    table = select_models(spm[f"{case}/evidence"])
    for name, atol in (("dirichlet", 1e-12), ("frequency", 1e-12), ("exceedance", sampled)):
        assert_allclose(table[name], spm[f"{case}/{name}"], rtol=0, atol=atol, err_msg=name)
    assert_allclose(table["protected"], spm[f"{case}/protected"], rtol=0, atol=sampled)
    assert abs(table.attrs["omnibus_risk"] - spm[f"{case}/omnibus_risk"]) < 1e-12


@pytest.mark.parametrize("alpha", [[1, 1], [0.3, 2.0, 5.0], [40, 1, 1, 1], [300.0, 310.0]])
def test_exceedance_as_sampled(alpha):
    draws = np.random.default_rng(0).dirichlet(alpha, size=200_000)
    expected = np.bincount(draws.argmax(1), minlength=len(alpha)) / len(draws)
    assert_allclose(exceedance_probability(alpha), expected, rtol=0, atol=5e-3)


def exact_frequencies(evidence, prior):
    """Expected frequencies from a sum over all assignments of subjects to models."""
    subjects, models = evidence.shape
    total, mean = 0.0, np.zeros(models)
    for assignment in product(range(models), repeat=subjects):
        counts = prior + np.bincount(assignment, minlength=models)
        log_weight = (
            sum(lgamma(c) for c in counts) + evidence[np.arange(subjects), assignment].sum()
        )
        total += np.exp(log_weight)
        mean += np.exp(log_weight) * counts / counts.sum()
    return mean / total


@pytest.mark.parametrize("prior", [[1.0, 1.0, 1.0], [0.5, 0.5, 1.0], [0.05, 0.05, 0.1]])
def test_sampled_frequencies_are_those_of_the_exact_sum(prior):
    evidence = log_evidence(6, 3)
    draws = sample_frequencies(evidence, prior, seed=1)
    assert_allclose(draws.sum(1), 1.0)
    assert_allclose(draws.mean(0), exact_frequencies(evidence, np.array(prior)), rtol=0, atol=0.01)


def test_extreme_evidences_are_sampled():
    evidence = np.array([[0.0, -1e4, -2e4], [-1e4, 0.0, -2e4]])
    draws = sample_frequencies(evidence, [1e-3, 1e-3, 1e-3], seed=0)
    assert np.isfinite(draws).all()
    assert_allclose(draws.mean(0), [0.5, 0.5, 0.0], atol=0.02)


def test_families_weigh_alike_however_many_models_they_have():
    families = dict.fromkeys(range(5), "large") | {5: "small"}
    for effects, column in (("random", "frequency"), ("fixed", "probability")):
        table = select_models(np.zeros((8, 6)), effects, families=families)
        assert list(table.index) == ["large", "small"]
        assert_allclose(table[column], [0.5, 0.5], atol=0.01)


def test_families_of_one_model_each_are_the_models():
    evidence = log_evidence(9, 3)
    families = select_models(evidence, families={0: "a", 1: "b", 2: "c"})
    assert_allclose(families["frequency"], select_models(evidence)["frequency"], atol=0.02)
    fixed = select_models(evidence, "fixed", families={0: "a", 1: "b", 2: "c"})
    assert_allclose(fixed["log_evidence"], evidence.sum(0))


def test_fixed_effects_add_up():
    evidence = pd.DataFrame({"one": [-10.0, -20.0], "two": [-12.0, -21.0]})
    table = select_models(evidence, "fixed")
    assert table["log_evidence"].to_dict() == {"one": -30.0, "two": -33.0}
    assert table["difference"].to_dict() == {"one": 0.0, "two": -3.0}
    assert_allclose(table["probability"], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))])


class Known:
    method = "laplace"

    def __init__(self, value):
        self.log_evidence = value


def test_fits_give_their_evidence():
    evidence = log_evidence(4, 2)
    fits = {name: [Known(v) for v in evidence[:, i]] for i, name in enumerate("ab")}
    pd.testing.assert_frame_equal(
        select_models(fits), select_models(pd.DataFrame(evidence, columns=list("ab")))
    )


def test_same_seed_same_numbers():
    evidence, families = log_evidence(5, 3), {0: "a", 1: "a", 2: "b"}
    first, again, other = (select_models(evidence, families=families, seed=s) for s in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


class Sampled(Known):
    method = "nuts"


@pytest.mark.parametrize(
    ("evidence", "options", "error", "text"),
    [
        ([[1.0], [2.0]], {}, ValueError, "at least two models and one subject, got 1"),
        (np.zeros((0, 2)), {}, ValueError, "0 subjects"),
        ([[1.0, np.nan]], {}, ValueError, "evidence must be finite, got nan for model 1"),
        ([["a", "b"]], {}, TypeError, "evidence must be log-evidences"),
        ({"a": [1.0], "b": [1.0, 2.0]}, {}, ValueError, "as many subjects for every model"),
        ({"a": [1.0], "b": [Sampled(None)]}, {}, TypeError, "a fit by 'nuts', which has no"),
        ({"a": [1.0], "b": [object()]}, {}, TypeError, "must be a fit or a number, got object"),
        ([[1.0, 2.0]], {"effects": "mixed"}, ValueError, "one of 'random', 'fixed', got 'mixed'"),
        ([[1.0, 2.0]], {"families": {0: "x"}}, ValueError, "every model, none has 1"),
        ([[1.0, 2.0]], {"families": {0: "x", 1: "x"}}, ValueError, "at least two, got"),
        ([[1.0, 2.0]], {"families": {0: "x", 1: "y", 2: "z"}}, ValueError, "none of the models"),
        ([[1.0, 2.0]], {"families": ["x", "y"]}, TypeError, "must be a dict from models"),
    ],
)
def test_bad_input_is_refused(evidence, options, error, text):
    with pytest.raises(error, match=text):
        select_models(evidence, **options)
