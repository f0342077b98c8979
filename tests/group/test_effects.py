"""Effects on groups of fits: numbers of arrays and closed forms, subjects, groups of groups."""

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import bayesdcm
from bayesdcm.compare import select_models
from bayesdcm.group.effects import peb
from bayesdcm.group.empirical_bayes import empirical_bayes
from bayesdcm.group.leave_one_out import LeftOut, leave_one_out
from bayesdcm.group.many_fits import fit_group
from bayesdcm.group.reestimation import reestimate

leave_one_out_module = sys.modules["bayesdcm.group.leave_one_out"]
LABELS = ["A[slope]", "A[curve]", "A[wave]"]


@pytest.fixture(scope="module")
def effects(linear_group):
    return peb(linear_group.fits, linear_group.design)


@pytest.fixture(scope="module")
def posteriors(linear_group):
    """Exact posteriors over (level, A), and evidences."""
    X = linear_group.regressors[:, [3, 0, 1, 2]]
    prior = np.diag([4.0, 0.5, 0.5, 0.5])
    covariance = np.linalg.inv(linear_group.precision * X.T @ X + np.linalg.inv(prior))
    mean = linear_group.precision * linear_group.data @ X @ covariance
    return mean, covariance, prior


# Numbers


def test_effects_are_those_of_the_arrays(linear_group, effects, posteriors):
    mean, covariance, prior = posteriors
    n = len(mean)
    found = empirical_bayes(
        mean[:, 1:],
        np.tile(covariance[1:, 1:], (n, 1, 1)),
        np.zeros((n, 3)),
        np.tile(prior[1:, 1:], (n, 1, 1)),
        [fit.log_evidence for fit in linear_group.fits],
        np.c_[np.ones(n), linear_group.age],
    )
    assert effects.covariates == ("mean", "age") and list(effects.parameters) == LABELS
    # Variational Laplace ends this close to the exact means.
    assert_allclose(effects.mean, found.mean, atol=2e-3)
    assert_allclose(effects.covariance, found.covariance, atol=1e-5)
    assert_allclose(effects.between_covariance, found.between_covariance, atol=1e-4)
    assert effects.log_evidence == pytest.approx(found.log_evidence, abs=0.01)
    assert effects.status["converged"] and effects.trace["free_energy"].ndim == 1


def test_tables(effects):
    summary = effects.summary()
    assert summary.columns.tolist() == [
        "covariate",
        "parameter",
        "mean",
        "sd",
        "eti_5%",
        "eti_95%",
        "probability",
    ]
    assert summary["parameter"].tolist() == LABELS * 2
    row = summary.set_index(["covariate", "parameter"]).loc[("age", "A[curve]")]
    assert row["probability"] > 0.99 and 0.15 < row["mean"] < 0.45
    assert row["sd"] == effects.sd.loc["A[curve]", "age"]
    variance = effects.covariance.loc[("age", "A[curve]"), ("age", "A[curve]")]
    assert row["sd"] == pytest.approx(np.sqrt(variance))
    assert row["eti_95%"] - row["mean"] == pytest.approx(1.6449 * row["sd"], rel=1e-4)
    assert "6 subjects, 3 parameters, covariates mean, age" in repr(effects)
    assert effects.log_precision.index.tolist() == ["all parameters"]


def test_far_covariates_and_wide_spreads_are_named(linear_group):
    fits, design = linear_group.fits, {"mean": 1, "age": 70 + linear_group.age}
    text = "covariates far from 0 .*'age' has mean 70 and standard deviation 1.32"
    with pytest.warns(UserWarning, match=text):
        peb(fits, design, "A")
    with pytest.warns(UserWarning, match=text):
        leave_one_out(fits, design, "A[curve]")
    with pytest.warns(UserWarning, match=text):
        bayesdcm.Hierarchy(linear_group.model, design=pd.DataFrame(design, range(6)))
    wide = [bayesdcm.fit(linear_group.model, 4 * y, progress=False) for y in linear_group.data]
    with pytest.warns(UserWarning, match="subjects differ more than beta=16 expects"):
        peb(wide, parameters="A[curve]")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peb(fits, linear_group.design, "A")
        peb(fits, {"mean": 1, "patient": [0, 1, 1, 1, 1, 0]}, "A")


def test_selection_and_components(linear_group):
    of = peb(linear_group.fits, parameters=["A[wave]", "level"], between="fields")
    # Order of the program, not of the call; components by site.
    assert list(of.parameters) == ["level", "A[wave]"]
    assert of.log_precision.index.tolist() == ["level", "A"]
    named = peb(
        dict(zip("abcdef", linear_group.fits, strict=True)),
        parameters={"even": "A[wave]", "odd": ["level"]},
        between="fields",
    )
    assert named.log_precision.index.tolist() == ["odd", "even"]
    assert_allclose(named.mean, of.mean)
    assert list(named.design.index) == list("abcdef")
    each = peb(linear_group.fits, parameters=["A[wave]", "level"], between="all")
    assert each.log_precision.index.tolist() == ["level", "A[wave]"]
    assert_allclose(each.mean, of.mean)


def test_subjects_under_the_group(linear_group, effects, posteriors):
    """The closed form is the posterior of the linear model with the group's prior."""
    _, _, prior = posteriors
    X = linear_group.regressors[:, [3, 0, 1, 2]]
    prior = prior.copy()
    prior[1:, 1:] = effects.between_covariance
    covariance = np.linalg.inv(linear_group.precision * X.T @ X + np.linalg.inv(prior))
    centre = np.zeros(4)
    for i, subject in enumerate(effects.subjects):
        centre[1:] = effects.found.subject_mean[i]
        information = linear_group.precision * X.T @ linear_group.data[i]
        expected = covariance @ (information + np.linalg.solve(prior, centre))
        assert_allclose(subject.centre, expected, atol=2e-3)
        assert_allclose(subject.covariance, covariance, atol=1e-6)
        assert_allclose(subject.mean["A"], expected[1:], atol=2e-3)
        assert subject.method == "empirical Bayes" and subject.off == {}
        own = linear_group.fits[i].log_evidence
        assert subject.log_evidence == pytest.approx(own + subject.change)


# Which effects there are


def closed_form(effects, on):
    """Change of log-evidence and mean where only some effects are on."""
    m = effects.centre.T.ravel()
    P, Pp = np.linalg.inv(effects.spread), np.linalg.inv(effects.prior_spread)
    data, information = P - Pp, P @ m - Pp @ effects.prior_centre.T.ravel()

    def evidence(chosen):
        index, prior = np.ix_(chosen, chosen), effects.prior_centre.T.ravel()[chosen]
        precision = np.linalg.inv(effects.prior_spread[index])
        C = np.linalg.inv(data[index] + precision)
        total = information[chosen] + precision @ prior
        determinants = np.linalg.slogdet(np.stack([C, precision]))[1].sum()
        return (determinants + total @ C @ total - prior @ precision @ prior) / 2, C @ total

    full, (reduced, mean) = evidence(np.ones(len(m), bool))[0], evidence(on)
    return reduced - full, mean


def test_reduced_effects(effects):
    found = effects.reduce({"age": ["A[slope]", "A[wave]"]})
    on = np.array([1, 1, 1, 0, 1, 0], bool)
    change, mean = closed_form(effects, on)
    assert found.change == pytest.approx(change, abs=1e-5)
    assert found.log_evidence == effects.log_evidence + found.change and found.change > 0
    assert_allclose(found.mean.to_numpy().T.ravel()[on], mean, atol=1e-6)
    assert found.off == (("age", "A[slope]"), ("age", "A[wave]"))
    assert found.sd.loc["A[wave]", "age"] == 0
    summary = found.summary()
    assert summary["probability"].isna().sum() == 2
    same = effects.reduce([("age", "A[slope]"), ("age", "A[wave]")])
    assert same.change == found.change
    assert set(effects.reduce("age").off) == {("age", label) for label in LABELS}
    assert len(effects.reduce("A").off) == 6
    assert effects.reduce({"mean": {"A[slope]": 0.6}}).mean.loc["A[slope]", "mean"] == 0.6


def test_search_finds_the_effects_there_are(effects):
    found = effects.search()
    assert found.present.loc["A[curve]", "age"] > 0.95
    assert found.present.loc["A[slope]", "mean"] > 0.95
    assert found.present.loc["A[wave]", "mean"] < 0.5
    assert ("age", "A[slope]") in found.best.off
    assert found.models["change"].is_monotonic_decreasing
    assert found.models["probability"].sum() == pytest.approx(1)
    summary = found.summary().set_index(["covariate", "parameter"])
    assert summary.loc[("age", "A[curve]"), "present"] == found.present.loc["A[curve]", "age"]
    some = effects.search(among={"age": "A"})
    assert some.present["mean"].isna().all() and some.present["age"].notna().all()
    assert "3 effects" in repr(some)


def test_comparison_of_models(effects):
    models = {"all": [], "no slope": "A[slope]", "no curve": "A[curve]", "slope": LABELS[1:]}
    found = effects.compare(models)
    assert found.probability.to_numpy().sum() == pytest.approx(1)
    assert found.probability.index.name == "mean" and found.probability.columns.name == "age"
    # Every combination is that of `reduce`.
    one = effects.reduce({"mean": "A[curve]", "age": "A[slope]"}).change
    assert found.change.loc["no curve", "no slope"] == pytest.approx(one, abs=1e-6)
    row, column = np.unravel_index(found.probability.to_numpy().argmax(), (4, 4))
    assert list(models)[row] != "no slope" and list(models)[column] == "no slope"
    assert found.commonalities["A[slope]"] > 0.9 and found.differences["A[curve]"] > 0.9
    assert found.differences["A[slope]"] < 0.5
    assert "no slope with probability" in repr(found)
    table = pd.DataFrame([[1, 1], [0, 1]], index=["x", "y"], columns=LABELS[:2])
    patterns = effects.compare(table, covariate="age")
    assert patterns.commonalities["A[wave]"] == 1.0
    assert patterns.summary()["present"].max() == 1.0


# Units of covariates


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_models_of_effects_do_not_depend_on_the_unit_of_a_covariate(linear_group, effects, factor):
    other = peb(linear_group.fits, {"mean": 1, "age": linear_group.age * factor})
    unit = np.array([1.0, factor])

    def same(found, expected):
        assert_allclose(found.mean * unit, expected.mean, rtol=1e-6, atol=1e-12)
        assert_allclose(found.sd * unit, expected.sd, rtol=1e-6, atol=1e-12)

    assert other.status["converged"]
    same(other, effects)
    off = {"age": ["A[slope]", "A[wave]"]}
    same(other.reduce(off), effects.reduce(off))
    assert other.reduce(off).change == pytest.approx(effects.reduce(off).change, abs=1e-9)
    found, expected = other.search(), effects.search()
    same(found, expected)
    assert_allclose(found.present, expected.present, rtol=1e-6)
    assert found.best.off == expected.best.off
    models = {"all": [], "no slope": "A[slope]", "no curve": "A[curve]"}
    found, expected = other.compare(models), effects.compare(models)
    same(found, expected)
    assert_allclose(found.change, expected.change, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_groups_of_groups_do_not_depend_on_the_unit_of_a_covariate(linear_group, effects, factor):
    design = {"mean": 1, "age": linear_group.age * factor}
    one, other = (peb([group] * 2) for group in (effects, peb(linear_group.fits, design)))
    unit = np.repeat([1.0, factor], 3)
    assert_allclose(other.mean["mean"] * unit, one.mean["mean"], rtol=1e-6)
    assert_allclose(other.sd["mean"] * unit, one.sd["mean"], rtol=1e-6)
    assert other.log_evidence == pytest.approx(one.log_evidence, abs=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_predictions_of_a_covariate_do_not_depend_on_units(linear_group, factor):
    sex = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    one = leave_one_out(
        linear_group.fits, {"mean": 1, "age": linear_group.age, "sex": sex}, "A[curve]"
    )
    # Of that to predict, and of another one.
    for of_age, of_sex in ((factor, 1.0), (1.0, factor)):
        design = {"mean": 1, "age": linear_group.age * of_age, "sex": sex * of_sex}
        other = leave_one_out(linear_group.fits, design, "A[curve]")
        for name in ("actual", "predicted", "sd", "eti_5%", "eti_95%"):
            assert_allclose(other[name] / of_age, one[name], rtol=1e-6)
        assert_allclose(other.iloc[:, 5:], one.iloc[:, 5:], rtol=1e-6, atol=1e-9)
        assert other.attrs["p_value"] == pytest.approx(one.attrs["p_value"], rel=1e-6)
    assert one.attrs["correlation"] > 0.5


# Groups of groups


@pytest.mark.slow
def test_groups_of_groups(linear_group, effects):
    """Two groups alike in all: their mean is that of each, and they do not differ."""
    other = peb(linear_group.fits[::-1], {"mean": 1, "age": linear_group.age[::-1]})
    assert_allclose(other.mean, effects.mean, atol=1e-10)
    top = peb({"first": effects, "second": other}, {"mean": 1, "group": [-1, 1]})
    assert top.parameters[:2] == ("mean: A[slope]", "mean: A[curve]")
    assert len(top.parameters) == 6
    assert_allclose(top.mean["group"], 0, atol=1e-6)
    # Two groups say more than one; both pull towards the prior of 0.
    shared = top.mean["mean"].to_numpy()
    own = effects.centre.T.ravel()
    assert (np.abs(shared - own) < 0.6 * np.sqrt(np.diagonal(effects.spread))).all()
    assert [type(s).__name__ for s in top.subjects] == ["ReducedEffects"] * 2
    assert top.subjects[0].mean.shape == (3, 2)
    age = peb([effects, other], parameters="age")
    assert all(label.startswith("age: ") for label in age.parameters)
    assert top.reduce("group").change > 0


def test_groups_of_groups_as_the_arrays(effects):
    """The first level of groups is posterior and prior over covariates and parameters."""
    top = peb([effects, effects])
    unit = effects.effect_units
    square = np.outer(unit, unit)
    stacked = [
        np.stack([part, part])
        for part in (
            effects.centre.T.ravel() / unit,
            effects.spread / square,
            effects.prior_centre.T.ravel() / unit,
            effects.prior_spread / square,
            np.array(effects.log_evidence),
        )
    ]
    found = empirical_bayes(*stacked, np.ones((2, 1)))
    assert top.log_evidence == pytest.approx(found.log_evidence, abs=1e-9)
    assert_allclose(top.centre, found.mean * unit[:, None], atol=1e-10)


# Fitting again


def test_linear_subjects_fitted_again_are_the_closed_form(effects):
    again = reestimate(effects, iterations=2, progress=False)
    for fit, subject in zip(again.fits, effects.subjects, strict=True):
        assert_allclose(fit.covariance, subject.covariance, atol=1e-5)
        assert_allclose(fit.mean["A"], subject.mean["A"], atol=2e-3)
        assert_allclose(fit.mean["level"], subject.mean["level"], atol=2e-3)
    # The group learns nothing new from them, its evidence included.
    assert_allclose(again.effects.mean, effects.mean, atol=5e-3)
    assert_allclose(again.effects.covariance, effects.covariance, rtol=0.02, atol=1e-5)
    assert again.effects.log_evidence == pytest.approx(effects.log_evidence, abs=0.1)
    assert again.history["largest_change"].iloc[-1] < 0.1
    assert len(again.history) == 3 and "2 iteration(s)" in repr(again)


# Leaving subjects out


def test_table_of_left_out_subjects(linear_group, monkeypatch):
    given = []

    def left_out(*arguments, **options):
        given.extend(arguments)
        means = linear_group.age + [0.1, -0.1, 0.2, 0.0, -0.2, 0.1]
        return LeftOut(means, np.full(6, 0.25), np.eye(6) * 0.4 + 0.1)

    monkeypatch.setattr(leave_one_out_module, "left_out", left_out)
    design = {"mean": 1, "sex": [0, 1, 1, 0, 1, 0], "age": linear_group.age}
    table = leave_one_out(linear_group.fits, design, ["A[wave]", "A[curve]"], covariate="age")
    assert [np.shape(part) for part in given[:2]] == [(6, 2), (6, 2, 2)]
    assert given[5].shape == (6, 3) and given[6] == 2
    assert table["actual"].tolist() == linear_group.age.tolist()
    assert table.attrs["covariate"] == "age"
    expected = np.corrcoef(table["actual"], table["predicted"])[0, 1]
    assert table.attrs["correlation"] == pytest.approx(expected)
    assert 0 < table.attrs["p_value"] < 1e-3
    assert (table["eti_95%"] - table["predicted"]).round(3).tolist() == [0.822] * 6
    assert list(table.columns)[5:7] == ["probability[-2.0]", "probability[-1.0]"]
    assert table.loc[2, "probability[-0.5]"] == 0.5


@pytest.mark.exhaustive
def test_prediction_of_left_out_subjects(linear_group):
    table = leave_one_out(linear_group.fits, linear_group.design, "A[curve]")
    assert table.attrs["correlation"] > 0.7
    probability = table.filter(like="probability").to_numpy()
    assert_allclose(probability.sum(axis=1), 1)
    distance = np.abs(table["predicted"].to_numpy()[:, None] - linear_group.age)
    assert (distance.argmin(axis=1) == probability.argmax(axis=1)).all()


# Models of signals and of spectra, through all that takes a group

GROUP_AGE = np.array([-1.0, -0.5, 0.5, 1.0])
ONE_WAY = np.array([[0.0, 0.0], [1.0, 0.0]])


def regression():
    """A model, a design, true values other than prior means, the site that ages, and how fast."""
    narrow = {"A": (-0.5 * np.eye(2), np.full((2, 2), 1 / 16))}
    model = bayesdcm.RegressionDCM(np.ones((2, 2)), measurement_noise=0.1, priors=narrow)
    design = bayesdcm.BoldDesign(300, 0.72, None, None, ["V1", "V5"])
    return model, design, {"A": -0.5 * np.eye(2), "log_precision": np.full(2, 2.0)}, "A", 0.3


def spectral():
    design = bayesdcm.BoldDesign(600, 2.0, None, None, ["V1", "V5"])
    noise = {"regional_noise": np.full(2, -3.0), "shared_noise": np.array([-3.0, 0.0])}
    return bayesdcm.SpectralDCM([[1, 0], [1, 1]]), design, noise | {"A": np.zeros((2, 2))}, "A", 0.3


def cross_spectral():
    flat, names = np.tile(np.eye(2), (2, 12, 1, 1)), ["V1", "V5"]
    design = bayesdcm.SpectralData(
        flat, 4.0 * np.arange(1, 13), names, ["rest", "task"], degrees_of_freedom=400
    )
    model = bayesdcm.CrossSpectralDCM(ONE_WAY, modulation=ONE_WAY, neural="erp", source_names=names)
    return model, design, {"gain": np.full(2, 5.0), "B": np.zeros((1, 2, 2))}, "B", 0.8


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(regression, marks=pytest.mark.slow),
        pytest.param(spectral, marks=pytest.mark.exhaustive),
        pytest.param(cross_spectral, marks=pytest.mark.exhaustive),
    ],
)
def test_what_ages_is_found_in_groups_of_models(make):
    model, design, true, name, rate = make()
    data = {}
    for seed, age in enumerate(GROUP_AGE):
        parameters = {prior.name: np.array(prior.mean) for prior in model.priors} | true
        parameters[name] = parameters[name] + rate * (1 + age) * ONE_WAY
        run = model.simulate(parameters, design, seed=seed)
        from_bold = bayesdcm.SpectralData.from_bold
        data[f"person {seed}"] = from_bold(run) if make is spectral else run
    without = model.restrict(**({"A": np.eye(2)} if name == "A" else {"modulation": 0}))
    fits = fit_group({"with": model, "without": without}, data, progress=False, draws=20)
    covariates = {"mean": 1, "age": GROUP_AGE}
    found = peb(fits["with"], covariates, [name])
    label = next(each for each in found.parameters if each.endswith("V5, V1]"))
    effect = found.summary().set_index(["covariate", "parameter"]).loc[("age", label)]
    assert abs(effect["mean"] - rate) < 3 * effect["sd"] < rate
    present = found.search().summary().set_index(["covariate", "parameter"])["present"]
    assert present["age", label] > 0.95
    assert found.reduce(off="age").log_evidence < found.log_evidence - 2
    # Data say again what their posteriors have said.
    again = reestimate(found, progress=False, draws=20)
    for fit, expected in zip(again.fits, found.subjects, strict=True):
        free = fit.sd[name] > 0
        apart = (fit.mean[name] - expected.mean[name])[free] / fit.sd[name][free]
        assert np.abs(apart).max() < 0.1
    table = leave_one_out(fits["with"], covariates, label, covariate="age")
    assert table.attrs["correlation"] > 0.9
    families = {"with": "connected", "without": "apart"}
    assert select_models(fits.evidence(), families=families)["frequency"]["connected"] > 0.5


# What is refused


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fits": None}, TypeError, "fits must be a sequence or a mapping"),
        ({"fits": []}, ValueError, "two subjects or more, got 0"),
        ({"fits": [1, 2], "design": None}, TypeError, "that of subject 0 is int"),
        ({"parameters": "B"}, ValueError, "'B', which is no free parameter"),
        ({"parameters": ["A", "A[wave]"]}, ValueError, "named twice"),
        ({"parameters": []}, ValueError, "got none"),
        ({"parameters": 3}, TypeError, "parameters must hold sites"),
        ({"between": "sites"}, ValueError, "between must be one of 'single'"),
        ({"alpha": 0}, ValueError, "alpha must be a positive number"),
        ({"beta": "16"}, TypeError, "beta must be a number"),
        ({"stop": "SPM"}, ValueError, "stop must be one of 'optimum', 'spm', got 'SPM'"),
        ({"max_iterations": 0}, ValueError, "max_iterations must be at least 1"),
        ({"design": np.ones((5, 1))}, ValueError, "6 in all; got 5"),
    ],
)
def test_refused(linear_group, change, error, message):
    with pytest.raises(error, match=message):
        peb(**({"fits": linear_group.fits, "design": linear_group.design} | change))


def test_refused_fits(linear_group, tmp_path):
    fits = list(linear_group.fits)
    svi = bayesdcm.Fit(fits[0].problem, bayesdcm.infer.Posterior(bayesdcm.SVI(), log_evidence=0.0))
    with pytest.raises(ValueError, match="subject 2: fit must have a Gaussian posterior"):
        peb([*fits[:2], svi])


@pytest.mark.parametrize(
    ("off", "error", "message"),
    [
        ("B", ValueError, "'B', which is neither a covariate nor a parameter"),
        ({"sex": "A"}, ValueError, "names the covariate 'sex'"),
        (["A", "A[wave]"], ValueError, "'mean' on 'A\\[wave\\]' is named twice"),
        (3, TypeError, "off must hold names"),
        ({"age": {"A[wave]": np.nan}}, ValueError, "must be a finite number"),
    ],
)
def test_refused_reductions(effects, off, error, message):
    with pytest.raises(error, match=message):
        effects.reduce(off)


@pytest.mark.parametrize(
    ("models", "covariate", "message"),
    [
        ({"a": []}, None, "two or more that differ"),
        ({"a": [], "b": "B"}, None, "models\\['b'\\] names 'B'"),
        (np.ones((2, 2)), None, "shape \\(models, 3\\)"),
        (np.full((2, 3), 2), None, "must be 1 where parameters are on"),
        (pd.DataFrame({"x": [0, 1]}), None, "column 'x'"),
        ({"a": [], "b": "A"}, "mean", "covariate must be one of 'age'"),
    ],
)
def test_refused_models(effects, models, covariate, message):
    with pytest.raises(ValueError, match=message):
        effects.compare(models, covariate)


def test_refused_elsewhere(linear_group, effects):
    class Several(list):
        models = ("one", "two")

    with pytest.raises(ValueError, match=r"several models, 'one', 'two'; choose one"):
        peb(Several(linear_group.fits))
    with pytest.raises(ValueError, match="covariate to predict besides the group mean"):
        leave_one_out(linear_group.fits, None)
    with pytest.raises(ValueError, match="must be one of 'age', got 'sex'"):
        leave_one_out(linear_group.fits, linear_group.design, covariate="sex")
    with pytest.raises(ValueError, match="stop must be one of 'optimum', 'spm', got 'early'"):
        leave_one_out(linear_group.fits, linear_group.design, "A[curve]", stop="early")
    with pytest.raises(ValueError, match="four subjects or more"):
        leave_one_out(linear_group.fits[:3], {"mean": 1, "age": [0, 1, 2]})
    with pytest.raises(ValueError, match="subject 5 cannot be left out"):
        leave_one_out(linear_group.fits, {"mean": 1, "last": [0, 0, 0, 0, 0, 1]})
    with pytest.raises(TypeError, match="effects must be effects of a group"):
        reestimate(linear_group.fits)
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        reestimate(effects, 0)
    with pytest.raises(ValueError, match="exhaustive must be from 1"):
        effects.search(exhaustive=0)
