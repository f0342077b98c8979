"""Options and names that `fit` refuses, before it compiles anything."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesdcm
from bayesdcm.infer.method import METHODS, option, positive_number
from bayesdcm.infer.prior_moments import prior_moments

INTEGERS = {
    "amortised": ["simulations", "components", "ensemble", "epochs", "patience", "draws"],
    "laplace": ["max_iterations", "draws"],
    "svi": ["steps", "particles", "rank", "draws"],
    "nuts": ["chains", "warmup", "draws", "max_tree_depth"],
    "gradient": ["steps"],
    "evolution": ["generations", "population"],
    "tbptt": ["epochs", "patience", "draws"],
    "variational_bayes": ["max_iterations", "starts", "draws"],
}
NUMBERS = {
    "amortised": ["learning_rate"],
    "laplace": [],
    "svi": ["learning_rate"],
    "nuts": ["target_accept"],
    "gradient": ["learning_rate"],
    "evolution": ["width"],
    "tbptt": ["window", "stride", "learning_rate"],
    "variational_bayes": ["tolerance"],
}
CHOICES = {
    "amortised": [],
    "laplace": ["derivatives"],
    "svi": ["guide"],
    "nuts": ["chain_method"],
    "gradient": ["derivative"],
    "evolution": [],
    "tbptt": ["optimiser"],
    "variational_bayes": [],
}
SWITCHES = {name: [] for name in NUMBERS} | {
    "nuts": ["adapt_metric", "surrogate"],
    "svi": ["surrogate"],
}

junk = st.one_of(
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.just(np.zeros(2)),
    st.complex_numbers(),
    st.builds(object),
)
not_positive_integers = st.one_of(
    junk, st.integers(max_value=0), st.floats(), st.booleans(), st.just(np.int64(-1))
)
not_positive_numbers = st.one_of(
    junk,
    st.integers(max_value=0),
    st.floats(max_value=0),
    st.sampled_from([float("nan"), float("inf")]),
    st.booleans(),
)
not_switches = st.one_of(junk, st.integers(), st.floats())


def never_run(data):
    raise AssertionError("the program must not be run")


def refused(**arguments):
    """The text of the error that `fit` raises without touching the program."""
    with pytest.raises((TypeError, ValueError)) as caught:
        bayesdcm.fit(never_run, np.zeros(3), **arguments)
    return str(caught.value)


def malformed(table, values):
    """Method, option and value out of a table of options."""
    pairs = [(method, name) for method, names in table.items() for name in names]
    return st.tuples(st.sampled_from(pairs), values)


@settings(max_examples=300)
@given(
    st.one_of(
        malformed(INTEGERS, not_positive_integers),
        malformed(NUMBERS, not_positive_numbers),
        malformed(CHOICES, st.one_of(junk, st.integers(), st.none())),
        malformed(SWITCHES, not_switches),
    )
)
def test_malformed_options_are_named(case):
    (method, name), value = case
    text = refused(method=method, **{name: value})
    assert text.startswith(f"{name} must be "), text
    assert "got" in text


@settings(max_examples=100)
@given(st.one_of(junk, st.integers(), st.floats()))
def test_unknown_methods_are_named(method):
    text = refused(method=method)
    known = (
        "'amortised', 'laplace', 'evolution', 'gradient', 'nuts', 'svi', 'tbptt', "
        "'variational_bayes'"
    )
    assert text.startswith(f"method must be one of {known}, or a Method, got")


@settings(max_examples=100)
@given(st.sampled_from(tuple(INTEGERS)), st.text(st.characters(categories=["Ll"]), min_size=1))
def test_unknown_options_are_named(method, name):
    known = INTEGERS[method] + NUMBERS[method] + CHOICES[method] + SWITCHES[method]
    name = f"{name}_of_mine"
    text = refused(method=method, **{name: 1})
    assert text.startswith(f"{name!r} is not an option of method {method!r}; it takes ")
    assert all(option in text for option in known)


@settings(max_examples=100)
@given(
    st.sampled_from(tuple(INTEGERS)),
    st.one_of(junk, st.none(), st.booleans(), st.floats(), st.integers(max_value=-1)),
)
def test_malformed_seeds_are_named(method, seed):
    assert refused(method=method, seed=seed).startswith("seed must be ")


def test_seeds_that_jax_cannot_hold_are_named():
    assert refused(seed=2**63) == f"seed must be at least 0 and less than 2**63, got {2**63}"


@pytest.mark.parametrize("value", [1, "yes", None])
def test_progress_is_a_switch(value):
    assert refused(progress=value) == f"progress must be True or False, got {value!r}"


def test_an_acceptance_rate_is_below_one():
    text = "target_accept must be between 0 and 1, got 1.0"
    assert refused(method="nuts", target_accept=1.0) == text


def test_numbers_of_numpy_are_numbers(linear, linear_data):
    fit = bayesdcm.fit(linear(), linear_data(), seed=np.int32(1), draws=np.int64(10))
    assert fit.idata.posterior.sizes["draw"] == 10
    text = refused(method="svi", learning_rate=np.float32(0.1), steps=np.int16(0))
    assert text.startswith("steps must be")


def test_seed_and_options_are_recorded(linear, linear_data):
    starts = np.array([[0.2, 0.0], [1.0, -1.0]])
    fit = bayesdcm.fit(linear(), linear_data(), seed=np.int64(7), starts=starts, draws=np.int32(9))
    assert fit.status["seed"] == 7
    assert fit.status["options"] == {"starts": starts.tolist(), "draws": 9}
    assert json.loads(json.dumps(fit.status)) == fit.status
    assert bayesdcm.fit(linear(), linear_data()).status["options"] == {}


@pytest.mark.parametrize(
    ("starts", "error", "text"),
    [
        (0, ValueError, "starts must be at least 1, got 0"),
        (True, ValueError, r"shape \(starts, 2\), got shape \(\)"),
        (np.zeros(2), ValueError, r"shape \(starts, 2\), got shape \(2,\)"),
        (np.zeros((3, 5)), ValueError, r"shape \(starts, 2\), got shape \(3, 5\)"),
        (np.zeros((0, 2)), ValueError, r"shape \(starts, 2\), got shape \(0, 2\)"),
        ([[0.0, np.nan]], ValueError, "starts must be finite"),
        ("many", TypeError, "starts must be a number or an array of numbers, got 'many'"),
        ([[0.0], [1.0, 2.0]], TypeError, "starts must be a number or an array of numbers"),
    ],
)
def test_malformed_starts_are_named(linear, linear_data, starts, error, text):
    with pytest.raises(error, match=text):
        bayesdcm.fit(linear(), linear_data(), starts=starts)


@pytest.mark.parametrize("model", [3, None, "model", float, [1], np.zeros(2)])
def test_what_is_no_model_is_named(model):
    with pytest.raises(TypeError, match="model must be a model such as TaskDCM"):
        bayesdcm.fit(model, np.zeros(3))


def test_methods_are_objects_whose_fields_are_the_options(linear, linear_data):
    by_name = bayesdcm.fit(linear(), linear_data(), "laplace", draws=20)
    by_object = bayesdcm.fit(linear(), linear_data(), bayesdcm.Laplace(draws=20))
    assert by_object.status["options"] == by_name.status["options"] == {"draws": 20}
    assert by_object.log_evidence == by_name.log_evidence
    assert by_object.posterior.method.draws == 20
    more = bayesdcm.fit(linear(), linear_data(), bayesdcm.Laplace(draws=20), draws=30)
    assert more.idata.posterior.sizes["draw"] == 30
    assert bayesdcm.fit(linear(), linear_data()).method == "laplace"
    with pytest.raises(ValueError, match="chains must be an integer of at least 1, got 0"):
        bayesdcm.NUTS(chains=0)


@pytest.mark.parametrize("name", ["laplace", "svi", "nuts", "tbptt", "amortised"])
def test_one_draw_has_no_spread(name):
    with pytest.raises(ValueError, match="draws must be an integer of at least 2, got 1"):
        METHODS[name](draws=1)
    assert METHODS[name](draws=2).draws == 2


def test_a_method_of_a_user_is_known_by_its_name(linear, linear_data):
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Prior(bayesdcm.infer.Method):
        name = "prior"
        title = "the prior"
        scale: float = option(1.0, positive_number, words="Scale of its standard deviations.")

        def run(self, problem, seed, progress):
            mean, covariance = prior_moments(problem)
            return bayesdcm.infer.Posterior(self, gaussian=(mean, covariance * self.scale**2))

        def check(self, fit, problems, facts):
            facts["prior"] = True

    try:
        fit = bayesdcm.fit(linear(), linear_data(), "prior", scale=2.0)
        assert (fit.method, fit.status["options"]) == ("prior", {"scale": 2.0})
        np.testing.assert_allclose(fit.sd["b"], 2 * fit._prior_by_site[1]["b"])
        assert fit.diagnose().facts["prior"] and fit.log_evidence is None
        with pytest.raises(ValueError, match="name 'nuts' is already that of NUTS"):
            type("Other", (bayesdcm.infer.Method,), {"name": "nuts"})
    finally:
        del METHODS["prior"]


def test_a_rank_is_taken():
    assert bayesdcm.SVI(rank=3).rank == 3
    assert bayesdcm.SVI(rank=None).options() == {}
    with pytest.raises(ValueError, match="rank must be an integer of at least 1, got -1"):
        bayesdcm.SVI(rank=-1)


def test_a_class_in_place_of_a_model():
    with pytest.raises(TypeError, match="model must be a model such as TaskDCM"):
        bayesdcm.fit(bayesdcm.TaskDCM, None)
