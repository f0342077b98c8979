"""Priors that are given to a model: `priors=`, `prior_table`, and what becomes of them."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.infer.util import log_density
from scipy.stats import laplace, norm

import bayesdcm
from bayesdcm import BoldData, EvokedData, EvokedDCM, HorseshoePrior, LaplacePrior, TaskDCM
from bayesdcm.infer.density import log_joint, traced
from bayesdcm.infer.empirical_prior import with_prior
from bayesdcm.infer.evaluation import prior_sample
from bayesdcm.infer.prior_moments import prior_moments
from bayesdcm.infer.problem import make_problem, normal_prior

A, C = [[1, 0], [1, 1]], [[1], [0]]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(40) % 10 < 5, 8)[:, None]
    return BoldData(
        rng.normal(size=(40, 2)),
        2.0,
        inputs=blocks,
        input_dt=0.25,
        region_names=["V1", "V5"],
        input_names=["motion"],
    )


def moments(model, data):
    """Prior mean and variance by label, as inference sees them."""
    problem = make_problem(model, data)
    mean, covariance = prior_moments(problem)
    np.testing.assert_allclose(covariance, np.diag(np.diagonal(covariance)), atol=1e-12)
    values = zip(mean, np.diagonal(covariance), strict=True)
    return dict(zip(problem.flat_labels, values, strict=True))


def test_a_model_without_given_priors_has_its_own(data):
    model = TaskDCM(A, C=C)
    assert not model.priors.given and "priors" not in repr(model)
    assert [prior.name for prior in model.priors] == ["A", "B", "C", "transit", "decay", "epsilon"]
    found = moments(model, data)
    assert found["log_precision[V1]"] == pytest.approx((2, 16))
    spm = moments(TaskDCM(A, C=C, integrator="bilinear"), data)
    assert spm["log_precision[V1]"] == pytest.approx((6, 1 / 128))
    assert spm["A[V5, V1]"] == pytest.approx((1 / 128, 1 / 64))


@pytest.mark.parametrize(
    ("priors", "expected"),
    [
        ({"A[V5, V1]": (0.3, 0.01)}, {"A[V5, V1]": (0.3, 0.01), "A[V1, V1]": (1 / 128, 1 / 64)}),
        ({"A": (0.1, 0.5)}, {"A[V5, V1]": (0.1, 0.5), "A[V1, V1]": (0.1, 0.5)}),
        ({"C": {"variance": 4.0}}, {"C[V1, motion]": (0, 4)}),
        ({"decay": {"mean": 0.2}}, {"decay": (0.2, 1 / 256)}),
        ({"transit": ([0.1, 0.2], 0.5)}, {"transit[V1]": (0.1, 0.5), "transit[V5]": (0.2, 0.5)}),
        ({"log_precision": (1, 9)}, {"log_precision[V1]": (1, 9), "log_precision[V5]": (1, 9)}),
        (
            {"log_precision[V5]": (0, 1)},
            {"log_precision[V1]": (2, 16), "log_precision[V5]": (0, 1)},
        ),
        # An entry counts more than its parameter, in whatever order they come.
        ({"A[V1, V1]": (0, 1), "A": (0.1, 2)}, {"A[V1, V1]": (0, 1), "A[V5, V5]": (0.1, 2)}),
    ],
)
def test_given_priors_are_those_of_the_program(data, priors, expected):
    found = moments(TaskDCM(A, C=C, priors=priors), data)
    for label, value in expected.items():
        assert found[label] == pytest.approx(value), label


def test_other_numbers_need_no_other_program(data):
    model = TaskDCM(A, C=C, priors={"A": LaplacePrior(0.3)})
    problem = make_problem(model, data)
    others = [{"C": (0.5, 4)}, {"transit[V5]": (0.1, 0.5)}, {"log_precision": (1, 9)}]
    point = 0.1 * jnp.arange(problem.sites.size)
    parts = problem.sites.unflatten(point)
    for priors in others:
        other = make_problem(model.with_priors(priors), data)
        assert other.source == problem.source and other.model != problem.model
        # A user's own NumPyro has the numbers, too.
        direct = log_density(model.with_priors(priors).program(data), (), {}, parts)[0]
        joint = log_joint(problem.source.bind(other.prepared), problem.sites, point)
        assert float(joint) == pytest.approx(float(direct), rel=1e-12)
    for priors in ({"decay": 0.1}, {"A": LaplacePrior(0.4)}, {"C": LaplacePrior(0.4)}):
        assert make_problem(model.with_priors(priors), data).source != problem.source


def test_moments_and_draws_without_the_program(data, monkeypatch):
    model = TaskDCM(A, C=C, priors={"C": (0.5, 4), "transit[V5]": (0.1, 0.5), "decay": 0.1})
    problem = make_problem(model, data)
    mean, sd = normal_prior(problem.source, problem.sites, problem.prepared)
    draws = prior_sample(problem, 4000, 0)
    np.testing.assert_array_equal(prior_sample(problem, 10, 0), draws[:10])
    # Not the numbers that a posterior, or noise, takes from the same seed.
    others = np.random.default_rng(0).standard_normal(draws.shape)
    assert abs(np.corrcoef(((draws - mean) / sd).ravel(), others.ravel())[0, 1]) < 0.02
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.1 * sd.max())
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.05)
    # As the slopes of the program's log prior have them.
    monkeypatch.setattr("bayesdcm.infer.prior_moments.normal_prior", lambda *_: None)
    by_program = prior_moments(problem)
    np.testing.assert_allclose(mean, by_program[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.diag(sd**2), by_program[1], rtol=1e-9, atol=1e-12)
    # The program is asked where not all are normal, and where it has another prior.
    others = [
        make_problem(model.with_priors({"C": LaplacePrior(0.4)}), data),
        with_prior(problem, mean + 1, np.diag(sd**2)),
    ]
    for other in others:
        assert normal_prior(other.source, other.sites, other.prepared) is None
    np.testing.assert_allclose(prior_moments(others[1])[0], mean + 1, rtol=1e-6)


def test_programs_of_subclasses_know_their_priors(data):
    class Doubled(bayesdcm.DCM):
        def sample(self, prepared):
            numpyro.sample("C", numpyro.distributions.Normal(self.priors[2].mean[0, 0], 1.0))
            numpyro.sample("signal", numpyro.distributions.Normal(0.0, 1.0), obs=prepared.signal[0])

    parts = TaskDCM(A, C=C).parts
    problem = make_problem(Doubled(*parts, priors={"C": (0.7, 1.0)}), data)
    assert normal_prior(problem.source, problem.sites, problem.prepared) is None
    site = traced(problem.source.bind(problem.prepared))["C"]
    assert float(site["fn"].loc) == 0.7


def test_fixed_values_are_constants(data):
    # Entries, and whole parameters of one number, of one for all or of their own.
    priors = {"A[V5, V1]": 0.4, "transit": 0.25, "decay": 0.1, "log_precision": [1.0, 3.0]}
    model = TaskDCM(A, C=C, integrator="bilinear", priors=priors)
    found = moments(model, data)
    table = model.prior_table(data)
    fixed = table.index[table["fixed"]]
    assert len(fixed) == 6 and not set(fixed) & set(found)
    fit = bayesdcm.fit(model, data, draws=20)
    assert not set(fixed) & set(fit.summary().index)
    for label, constant in table.loc[fixed, "mean"].items():
        values = np.asarray(fit.idata.posterior[label.partition("[")[0]]).reshape(20, -1)
        assert np.isclose(values, constant).all(0).any(), label


def test_a_table_goes_back_into_a_model(data):
    model = TaskDCM(A, C=C, priors={"A[V5, V1]": (0.3, 0.01), "decay": 0.1})
    table = model.prior_table(data)
    assert list(table.columns) == ["mean", "variance", "sd", "unit", "fixed"]
    assert table.loc["decay"].to_list() == [0.1, 0.0, 0.0, "log scaling of 0.64 Hz", True]
    assert table.loc["A[V5, V1]", "sd"] == pytest.approx(0.1)
    units = table.loc[["A[V5, V1]", "A[V1, V1]"], "unit"]
    assert units.to_list() == ["Hz", "log scaling of 0.5 Hz"]
    pd.testing.assert_frame_equal(TaskDCM(A, C=C, priors=table).prior_table(data), table)
    with pytest.raises(ValueError, match="did you mean|it has"):
        model.prior_table()
    assert "A[region 2, region 1]" in TaskDCM(A, C=C).prior_table().index


def test_sparse_priors_are_those_of_the_program(data):
    priors = {"A": LaplacePrior(0.3), "C[V1, motion]": LaplacePrior(2.0, mean=1.0)}
    model = TaskDCM(A, C=C, priors=priors)
    table = model.prior_table(data)
    assert table["family"].eq("Laplace").sum() == 2
    assert table.loc["A[V5, V1]", ["mean", "variance"]].tolist() == [1 / 128, 2 * 0.3**2]
    # Self-connections are log scalings of a decay.
    assert table.loc["A[V1, V1]", "variance"] == 1 / 64
    assert (
        TaskDCM(A, C=C, priors={"A": LaplacePrior(0.3, self_connections=True)})
        .prior_table(data)["family"]
        .eq("Laplace")
        .sum()
        == 3
    )
    pd.testing.assert_frame_equal(TaskDCM(A, C=C, priors=table).prior_table(data), table)
    # A mean and a variance are those of a normal prior.
    normal = model.with_priors({"A[V5, V1]": (0, 1), "C[V1, motion]": (0, 1)}).prior_table(data)
    assert "family" not in normal and normal.loc["A[V5, V1]", "variance"] == 1.0
    wider = model.with_priors({"A": {"mean": 0.0}}).prior_table(data)
    assert wider.loc["A[V5, V1]", ["mean", "family"]].tolist() == [0.0, "Laplace"]
    trace = numpyro.handlers.trace(numpyro.handlers.seed(model.program(data), 0)).get_trace()
    point = trace["A_free"]["value"]
    by_entry = [norm(1 / 128, 1 / 8), laplace(1 / 128, 0.3), norm(1 / 128, 1 / 8)]
    expected = sum(fn.logpdf(x) for fn, x in zip(by_entry, point, strict=True))
    A_fn, C_fn = trace["A_free"]["fn"], trace["C_free"]["fn"]
    of_A, of_C, draws = jax.jit(
        lambda key: (A_fn.log_prob(point), C_fn.log_prob(0.0), A_fn.sample(key, (20000,)))
    )(jax.random.key(0))
    assert float(of_A) == pytest.approx(expected, abs=1e-12)
    assert float(of_C) == pytest.approx(-0.5 - np.log(4), abs=1e-12)
    np.testing.assert_allclose(np.var(draws, axis=0), table["variance"].iloc[:3], rtol=0.05)
    other = TaskDCM(A, C=C, priors=priors | {"A": LaplacePrior(0.2)})
    assert model == TaskDCM(A, C=C, priors=dict(priors)) and model != other
    left = model.restrict(A=[[1, 0], [0, 1]], C=C).prior_table(data)
    assert left["family"].eq("Laplace").sum() == 1


def test_a_horseshoe_has_scales_of_its_own(data):
    full = np.ones((2, 2))
    prior = HorseshoePrior(0.5, slab_scale=0.4, standard_error=0.1)
    model = TaskDCM(full, C=C, priors={"A": prior})
    assert model.labels(data)["A_local"] == ["A_local[V1, V5]", "A_local[V5, V1]"]
    assert prior.global_scale(2) == pytest.approx(0.5 / 1.5 * 0.1)
    problem = make_problem(model, data)
    with pytest.raises(ValueError, match="'A_global' is not normal"):
        prior_moments(problem)
    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
        model.program(data)()
    g, local, slab = (
        np.asarray(trace[f"A_{part}"]["value"]) for part in ("global", "local", "slab")
    )
    squared = (g * local) ** 2
    scale = np.asarray(trace["A"]["fn"].base_dist.scale).ravel()
    np.testing.assert_allclose(scale[1:3] ** 2, slab * squared / (slab + squared), rtol=1e-12)
    np.testing.assert_allclose(scale[[0, 3]], 1 / 8)
    # The table's variance, against draws.
    rng = np.random.default_rng(0)
    g, local = (
        prior.global_scale(2) * np.abs(rng.standard_cauchy(400000)),
        np.abs(rng.standard_cauchy(400000)),
    )
    slab, squared = 2 * 0.4**2 / rng.gamma(2.0, size=400000), (g * local) ** 2
    assert prior.variance_of(2) == pytest.approx(
        (slab * squared / (slab + squared)).mean(), rel=0.03
    )


def test_models_with_other_priors_are_other_models(data):
    plain, wide = TaskDCM(A, C=C), TaskDCM(A, C=C, priors={"A": (0, 1)})
    again = TaskDCM(A, C=C, priors={"A": (0.0, 1.0)})
    assert plain != wide and wide == again and hash(wide) == hash(again)
    assert repr(wide).endswith("priors given for A)")
    changed = dataclasses.replace(wide, integrator="bilinear")
    # What was given stays; what is the model's own follows its integrator.
    assert moments(changed, data)["A[V5, V1]"] == pytest.approx((0, 1))
    assert moments(changed, data)["log_precision[V1]"] == pytest.approx((6, 1 / 128))
    both = wide.with_priors({"A[V1, V1]": (0.5, 0.25)})
    assert moments(both, data)["A[V1, V1]"] == pytest.approx((0.5, 0.25))
    assert moments(both, data)["A[V5, V1]"] == pytest.approx((0, 1))


@pytest.mark.parametrize(
    "priors",
    [
        {"A": (0.1, 0.5), "A[V5, V1]": (0.3, 0.01)},
        {"A": (0.1 * np.ones((2, 2)), 0.5 * np.array(A))},
    ],
)
def test_restriction_keeps_the_priors_of_what_is_left(data, priors):
    model = TaskDCM(A, C=C, priors=priors).restrict(A=[[1, 0], [0, 1]])
    found = moments(model, data)
    assert found["A[V1, V1]"] == pytest.approx((0.1, 0.5))
    assert "A[V5, V1]" not in found
    off = model.for_data(data).priors[0]
    assert (off.mean[1, 0], off.variance[1, 0]) == (0, 0)


@cache
def fitted(data, variance):
    """Under a prior of the input's effect with this variance."""
    model = TaskDCM(A, C=C, integrator="bilinear", priors={"C": (0.0, variance)})
    return bayesdcm.fit(model, data, draws=20)


def test_reduction_and_evidence_refer_to_the_given_prior(data):
    """Savage-Dickey: the evidence for a value is posterior over prior density there."""
    fit = fitted(data, 0.04)
    reduced = bayesdcm.reduce(fit, off="C[V1, motion]")
    row = fit.summary().loc["C[V1, motion]"]
    expected = -0.5 * (row["mean"] / row["sd"]) ** 2 - np.log(row["sd"] / 0.2)
    assert reduced.change == pytest.approx(expected, abs=1e-3)


def test_prior_predictions_follow_the_given_prior(data):
    small, large = (fitted(data, v).prior_predictive["signal_prediction"] for v in (0.01, 0.04))
    assert small.dims == ("chain", "draw", "time", "region") and small.sizes["draw"] == 500
    assert list(small["region"].values) == ["V1", "V5"]
    spread = [float((s - s.mean(("chain", "draw"))).std()) for s in (small, large)]
    assert spread[1] / spread[0] == pytest.approx(2, rel=0.05)


def test_evoked_models_take_priors():
    rng = np.random.default_rng(0)
    data = EvokedData(rng.normal(size=(1, 60, 2)), np.arange(60) / 250)
    structure = {"forward": [[0, 0], [1, 0]], "observation": "lfp"}
    model = EvokedDCM(
        **structure,
        priors={"gain[source 2]": 1.0, "A": {"variance": 0.01}, "log_precision": (1, 4)},
    )
    found = moments(model, data)
    assert found["log_precision"] == pytest.approx((1, 4))
    assert found["A[forward, source 2, source 1]"] == pytest.approx((0, 0.01))
    assert "gain[source 1]" in found and "gain[source 2]" not in found
    assert moments(EvokedDCM(**structure), data)["log_precision"] == pytest.approx((6, 1 / 128))
    delayed = moments(EvokedDCM(**structure, integrator="delayed"), data)
    assert delayed["log_precision"] == pytest.approx((2, 16))


@pytest.mark.parametrize(
    ("priors", "error", "message"),
    [
        ("A", TypeError, "priors must be a mapping"),
        ([("A", 1)], TypeError, "priors must be a mapping"),
        ({1: (0, 1)}, TypeError, "must have names as keys"),
        ({"a": (0, 1)}, ValueError, "names 'a', which the model does not have"),
        ({"transt": (0, 1)}, ValueError, "did you mean 'transit'"),
        ({"A": (0, 1, 2)}, ValueError, "got a tuple of 3"),
        ({"A": {"sd": 1}}, ValueError, "must have 'mean', 'variance' or both"),
        ({"A": (0, -1)}, ValueError, "variance must be at least 0"),
        ({"A": (np.nan, 1)}, ValueError, "mean must be finite"),
        ({"A": (0, np.inf)}, ValueError, "variance must be finite"),
        ({"A": ("x", 1)}, TypeError, "must be a number or an array of numbers"),
        ({"A": (0, np.ones((2, 2)))}, ValueError, "switched off"),
        ({"A": (np.zeros(3), 1)}, ValueError, r"shape \(2, 2\) \(to, from\), got \(3,\)"),
        ({"A[V5, V1]": ([0, 1], 1)}, ValueError, "is one entry and takes numbers"),
        ({"A[V5, V1]": HorseshoePrior(0.2, 1.0)}, ValueError, "HorseshoePrior is for all of a par"),
        ({"A": HorseshoePrior(0.6, 1.0)}, ValueError, "expected_connections is 0.6 of 1"),
        ({"epsilon": 0.1, "B": LaplacePrior(1.0)}, ValueError, "none of the entries"),
        ({"log_precision": LaplacePrior(1.0)}, ValueError, "of the noise have normal priors"),
        (pd.DataFrame({"mean": [0]}, ["A"]), ValueError, "without column"),
        (
            pd.DataFrame({"mean": [0], "variance": 1, "family": "horseshoe"}, ["A"]),
            ValueError,
            "'horseshoe' in column family",
        ),
        (
            pd.DataFrame({"mean": [0, 0], "variance": 1}, ["A", "A"]),
            ValueError,
            "more than one row",
        ),
    ],
)
def test_what_is_no_prior_is_refused_at_once(priors, error, message):
    with pytest.raises(error, match=message):
        TaskDCM(A, C=C, priors=priors)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("A[V5, V2]", "did you mean .*'A\\[V5, V1\\]'"),
        ("A[V1, V5]", "a connection that is switched off"),
        ("C[motion, V1]", "which the model does not have"),
    ],
)
def test_labels_are_checked_with_the_names_of_the_data(data, label, message):
    model = TaskDCM(A, C=C, priors={label: (0.0, 1.0)})
    with pytest.raises(ValueError, match=message):
        bayesdcm.fit(model, data)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(-5, 5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["mean", "variance", "sd"]), inner, max_size=2)
    ),
    max_leaves=4,
)
keys = st.sampled_from(["A", "C", "decay", "transit", "log_precision", "A[V5, V1]", "B[", "D", ""])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys | st.text(max_size=4), values, max_size=3) | values)
def test_malformed_priors_give_a_clear_error_or_a_model(data, priors):
    try:
        table = TaskDCM(A, C=C, priors=priors).prior_table(data)
    except (ValueError, TypeError) as error:
        assert str(error).startswith("priors"), error
    else:
        assert np.isfinite(table[["mean", "variance"]].to_numpy()).all()
        assert (table["variance"] >= 0).all()
