"""Figures of groups and of comparisons: they draw what results hold, and show nothing."""

from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import bayesdcm
from bayesdcm import plot
from bayesdcm.compare import Evidence, ReducedSearch, compare
from bayesdcm.group import EffectsComparison, EffectsSearch, EmpiricalBayes, GroupEffects
from bayesdcm.group.first_level import FirstLevel, names_of
from bayesdcm.group.gaussian_effects import ReducedEffects
from bayesdcm.group.group_effects import Settings
from bayesdcm.plot.labels import in_order, parsed, units_text
from bayesdcm.plot.style import share_text
from bayesdcm.plot.subjects import Subject, draw_subjects
from bayesdcm.report.group_page import _table

PARAMETERS = ("A[V1, V1]", "A[V5, V1]", "A[V5, V5]", "B[Motion, V5, V1]")
TASK = SimpleNamespace(facts=bayesdcm.TaskDCM([[1, 1], [1, 1]], C=[[1], [0]]).facts())


def texts(drawn):
    """Everything written in a figure, no-break spaces as spaces."""
    found = [item.get_text().replace("\xa0", " ") for item in drawn.findobj(mpl.text.Text)]
    return [text for text in found if text]


@pytest.fixture(autouse=True)
def _nothing_else_changes(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("a plot was shown"))
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


def made(parameters=PARAMETERS, covariates=("mean", "age"), n_subjects=6, source=TASK, seed=0):
    """Effects as `peb` gives them, made up."""
    rng = np.random.default_rng(seed)
    n, m = len(parameters), len(covariates)
    fields = tuple(label.partition("[")[0] for label in parameters)
    centre = rng.normal(0, 0.3, (n, m))
    spread = 0.01 * np.eye(n * m)
    design = rng.normal(size=(n_subjects, m))
    design -= design.mean(0)
    design[:, 0] = 1.0
    names = [f"sub-{i + 1:02d}" for i in range(n_subjects)]
    design = pd.DataFrame(design, names, list(covariates))
    one = np.ones(n)
    first = tuple(
        FirstLevel(
            name, parameters, names_of(parameters, fields), fields, one,
            centre @ design.loc[name].to_numpy() + 0.2 * rng.normal(size=n), 0.04 * np.eye(n),
            np.zeros(n), np.eye(n), -100.0, lambda i: 0.0, source,
        )
        for name in names
    )  # fmt: skip
    found = EmpiricalBayes(
        centre, spread, 0 * centre, np.eye(n * m), np.zeros(1), np.eye(1), 0.02 * np.eye(n), -600.0,
        4.0, design.to_numpy() @ centre.T, 50 * np.eye(n), 8, True, np.zeros(8),
    )  # fmt: skip
    return GroupEffects(
        tuple(covariates), tuple(parameters), -600.0, centre, spread, 0 * centre, np.eye(n * m),
        fields, one, design, first, found, (np.zeros(n), np.eye(n)), Settings(),
    )  # fmt: skip


def searched(effects, off=(), differing=2):
    """A search of which the last set differs in the first effects; some were dropped before."""
    pairs = [(c, p) for c in effects.covariates for p in effects.parameters]
    names = [f"{c}: {p}" for c, p in pairs[:differing]]
    on = np.array(list(np.ndindex(*[2] * differing)), bool)[::-1]
    models = pd.DataFrame(on, columns=names)
    probability = np.exp(-np.arange(len(on), dtype=float))
    models["change"] = np.log(probability)
    models["probability"] = probability / probability.sum()
    present = effects.mean * 0 + 1.0
    for covariate, parameter in off:
        present.loc[parameter, covariate] = np.nan
    present.iloc[0, 0], present.iloc[1, 0] = 0.97, 0.4
    best = ReducedEffects(
        effects.covariates, effects.parameters, -590.0, effects.centre, effects.spread, 10.0,
        tuple(off),
    )  # fmt: skip
    return EffectsSearch(models, present, 0.9 * effects.mean, effects.sd, best)


@pytest.fixture
def effects():
    return made()


@pytest.fixture
def search(effects):
    return searched(effects, off=[("age", "A[V1, V1]")])


def reduced_search():
    names = ["A[V5, V1]", "A[V1, V5]", "B[Motion, V5, V1]"]
    models = pd.DataFrame([[True, True], [True, False]], columns=names[:2])
    models["change"], models["probability"] = [0.0, -1.0], [0.75, 0.25]
    index = ["A[V1, V1]", *names, "decay"]
    present = pd.Series([0.99, 0.75, np.nan], index=names)
    values = pd.Series(0.1, index=index)
    best = SimpleNamespace(off={names[2]: 0.0}, change=1.0)
    return ReducedSearch(models, present, values, values, best, "TaskDCM(2 regions)")


# Probabilities of models


def test_random_effects_draw_frequencies_and_exceedance():
    evidence = {"forward": [-310.0, -295.5, -300.0], "backward": [-313.5, -301.0, -299.0]}
    table = bayesdcm.select_models(evidence)
    figure = plot.plot_model_probabilities(table)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["forward", "backward"]
    points = next(line for line in left.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), table["frequency"])
    bars = [[bar.get_width() for bar in group] for group in right.containers]
    np.testing.assert_allclose(bars, [table["exceedance"], table["protected"]])
    found = texts(figure)
    assert any(f"= {table.attrs['omnibus_risk']:.2f}" in text for text in found)
    assert {"exceedance", "protected exceedance"} <= set(found)
    # A Dirichlet of 3 subjects is wide: its intervals hold the points.
    (low, high), *_ = [segment[:, 0] for segment in left.collections[0].get_segments()]
    assert low < table["frequency"].iloc[0] < high


def test_families_and_fixed_effects():
    evidence = {"a": [-3.0, -4.0], "b": [-5.0, -4.0], "c": [-9.0, -9.0]}
    families = {"a": "one", "b": "one", "c": "two"}
    figure = plot.plot_model_probabilities(bayesdcm.select_models(evidence, families=families))
    assert "protected exceedance" not in texts(figure)
    figure = plot.plot_model_probabilities(bayesdcm.select_models(evidence, "fixed"))
    assert "\N{MINUS SIGN}2.0" in texts(figure)
    assert any("summed over subjects" in text for text in texts(figure))


def test_comparisons_draw_standard_errors_and_doubts():
    table = compare({"a": Evidence(-10.0, 0.1, "bridge"), "b": Evidence(-8.0, 0.1, "bridge")})
    figure = plot.plot_model_probabilities(table)
    (segment,) = figure.axes[0].collections[0].get_segments()
    np.testing.assert_allclose(segment[:, 0], [-2 - np.hypot(0.1, 0.1), -2 + np.hypot(0.1, 0.1)])
    assert "0.88" in texts(figure) and "doubtful" not in texts(figure)
    table = pd.DataFrame(
        {"elpd": [-9.0, -12.0], "difference": [0.0, -3.0], "dse": [0.0, 1.0],
         "weight": [0.8, 0.2], "warning": [False, True]},
        index=["a", "b"],
    )  # fmt: skip
    found = texts(plot.plot_model_probabilities(table))
    assert "doubtful" in found and "weight of the model" in found


def test_the_best_models_are_drawn():
    evidence = {f"model {i}": [-float(i), -float(i)] for i in range(30)}
    figure = plot.plot_model_probabilities(bayesdcm.select_models(evidence, "fixed"), limit=5)
    assert len(figure.axes[0].get_yticks()) == 5
    assert any("5 of 30 models" in text for text in texts(figure))


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ([1, 2], TypeError, "select_models or bayesdcm.compare returned, got list"),
        (pd.DataFrame({"a": [1]}), ValueError, r"has the columns \['a'\]"),
        (pd.DataFrame(columns=["difference"]), ValueError, "is empty"),
    ],
)
def test_other_tables_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        plot.plot_model_probabilities(table)


# Searches


def test_search_draws_switches_and_probabilities(effects, search):
    figure = plot.plot_model_search(search)
    bars, _, switches, presence = figure.axes
    np.testing.assert_allclose(
        [bar.get_height() for bar in bars.patches], search.models["probability"]
    )
    names = [label.get_text() for label in switches.get_yticklabels()]
    assert names == [f"{c}: {p}" for c in effects.covariates for p in effects.parameters]
    assert len(switches.patches) == 4 * len(names)
    shown = [text.get_text().replace("\xa0", " ") for text in presence.texts]
    assert shown[:2] == ["0.97", "0.40"]
    # Decided before the last set: age does not act on A[V1, V1], all else is there.
    assert shown[2:] == ["> 0.99", "> 0.99", "pruned", "> 0.99", "> 0.99", "> 0.99"]
    assert {"off, pruned before", "on, kept before"} <= set(texts(figure))


def test_search_of_one_fit():
    figure = plot.plot_model_search(reduced_search(), limit=1)
    found = texts(figure)
    assert "A[V1, V5]" in found and any("the best 1 of 2" in text for text in found)
    assert any("probability 0.75" in text for text in found)


def test_long_searches_leave_out_what_models_agree_on():
    many = made(tuple(f"A[V{i}, V{j}]" for i in range(5) for j in range(5)))
    figure = plot.plot_model_search(searched(many, off=[("age", many.parameters[3])]))
    assert len(figure.axes[2].get_yticks()) == 2
    assert any("47 that all these models have, 1 that none has" in text for text in texts(figure))


def test_search_refuses_other_things(search):
    with pytest.raises(TypeError, match="search must be what .* got int"):
        plot.plot_model_search(3)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        plot.plot_model_search(search, limit=0)


# Effects on groups


def test_group_effects_draw_intervals_and_emphasise(effects):
    figure = plot.plot_group_effects(effects)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Group mean", "Effect of age"]
    table = effects.summary().set_index(["covariate", "parameter"])
    for ax, covariate in zip(figure.axes, effects.covariates, strict=True):
        points = [line for line in ax.lines if line.get_marker() == "o"]
        spans = [line.get_xdata() for line in ax.lines if line.get_linewidth() in (1.8, 1.3)]
        rows = table.loc[covariate]
        np.testing.assert_allclose([p.get_xdata()[0] for p in points], rows["mean"])
        np.testing.assert_allclose(spans, rows[["eti_5%", "eti_95%"]])
        sure = np.array([point.get_markersize() == 5.5 for point in points])
        np.testing.assert_array_equal(sure, rows["probability"] >= 0.95)
    found = texts(figure)
    assert "group mean\n(Hz; self-connections: log scaling of 0.5 Hz)" in found
    assert "Effects on the group (6 subjects): posterior mean and 90 % interval" in found
    assert found.count("P(sign)") == 2


def test_group_effects_over_a_search(effects, search):
    figure = plot.plot_group_effects(effects, "mean", overlay=search)
    (ax,) = figure.axes
    diamonds = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(diamonds, search.mean["mean"])
    found = texts(figure)
    assert (
        "0.40" in found and "0.97" in found and "average over models (0: off in the best)" in found
    )
    points = [line for line in ax.lines if line.get_marker() == "o"]
    # The second effect is less probable to be there than the threshold, whatever its sign.
    assert points[1].get_markersize() < 5


def test_group_effects_over_a_hierarchy_and_a_reduced_model(effects, search):
    table = effects.summary().rename(columns={"mean": "peb_mean", "sd": "peb_sd"})
    table["mean"], table["sd"] = table["peb_mean"] + 0.1, 0.2
    figure = plot.plot_group_effects(effects, overlay=table.set_index(["covariate", "parameter"]))
    assert "hierarchy" in texts(figure)
    assert "reduced model" in texts(plot.plot_group_effects(effects, overlay=search.best))
    off = np.array(effects.spread)
    off[0] = off[:, 0] = 0.0
    reduced = ReducedEffects(
        effects.covariates, effects.parameters, -1.0, effects.centre, off, 0.0,
        (("mean", "A[V1, V1]"),),
    )  # fmt: skip
    assert texts(plot.plot_group_effects(reduced)).count("off") == 1


def test_group_effects_of_many_parameters_and_covariates():
    labels = tuple(f"A[left dlPFC {i}, right V{j}]" for i in range(4) for j in range(5))
    figure = plot.plot_group_effects(made(labels, ("mean", "age", "patients"), 20))
    assert len(figure.axes) == 3
    assert len(figure.axes[0].get_yticklabels()) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariate": "sex"}, "must be one of 'mean', 'age', got 'sex'"),
        ({"threshold": 2.0}, "threshold must be a probability"),
        ({"overlay": 3}, "got int"),
        ({"overlay": pd.DataFrame({"mean": [1]})}, "columns of bayesdcm.group.compare_with_peb"),
    ],
)
def test_group_effects_say_what_is_wrong(effects, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot.plot_group_effects(effects, **arguments)
    with pytest.raises(TypeError, match="from bayesdcm.group.peb, got int"):
        plot.plot_group_effects(3)


# Evidence for connections


def cells(ax):
    return [text.get_text().replace("\xa0", " ") for text in ax.texts]


def test_evidence_of_a_group_has_a_panel_for_each_site_and_covariate(search):
    figure = plot.plot_connection_evidence(search)
    panels = figure.axes[:4]
    headings = [ax.get_title(loc="left") for ax in panels]
    assert headings == [
        "Group mean\nA", "Group mean\nB (Motion)", "Effect of age\nA", "Effect of age\nB (Motion)",
    ]  # fmt: skip
    assert cells(panels[0]) == ["0.97", "0.40", "> 0.99"]
    # Age on A[V1, V1] was pruned before the last set, whose models tell nothing about it.
    assert cells(panels[2]) == ["off", "> 0.99", "> 0.99"]
    assert "pruned before the last set" in [t.get_text() for t in figure.legends[0].get_texts()]
    hatched = [patch.get_xy() for patch in panels[0].patches if patch.get_hatch()]
    # V5 to V1 is no parameter: row 0, column 1.
    np.testing.assert_allclose(hatched, [(0.53, -0.47)])
    assert [label.get_text() for label in panels[1].get_xticklabels()] == ["V1", "V5"]
    assert (panels[0].get_xlabel(), panels[0].get_ylabel()) == ("from", "to")


def test_evidence_of_one_fit_tells_what_was_not_searched():
    figure = plot.plot_connection_evidence(reduced_search())
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["A", "B (Motion)"]
    assert cells(figure.axes[0]) == ["0.75", "0.99"]
    assert {"not searched", "Probability that connections are there"} <= set(texts(figure))


def test_evidence_of_effects_is_that_of_their_sign(effects):
    figure = plot.plot_connection_evidence(effects, "age")
    assert len(figure.axes) == 3
    table = effects.summary().set_index(["covariate", "parameter"])["probability"]
    assert cells(figure.axes[0])[1] == share_text(table["age", "A[V5, V1]"]).replace("\xa0", " ")
    assert "posterior probability of the sign" in texts(figure)


def test_evidence_of_compared_models(effects):
    index = pd.Index(effects.parameters, name="parameter")
    common = pd.Series([1.0, 0.7, 1.0, 0.2], index, name="mean")
    other = pd.Series([1.0, 0.1, 1.0, 0.6], index, name="age")
    square = pd.DataFrame(np.full((2, 2), 0.25))
    table = EffectsComparison(square, square, common, other, effects.mean, effects.sd)
    figure = plot.plot_connection_evidence(table)
    assert "0.70" in cells(figure.axes[0]) and "0.60" in cells(figure.axes[3])
    assert any("where all compared models have them" in text for text in texts(figure))
    assert "P(there)" in texts(plot.plot_group_effects(effects, overlay=table))


def test_evidence_of_sources_and_inputs():
    labels = (
        "A[forward, left A1, left STG]", "A[forward, left STG, left A1]",
        "B[deviant, left STG, left A1]", "C[left A1, tone]", "T[left A1]", "decay",
    )  # fmt: skip
    figure = plot.plot_connection_evidence(made(labels, ("mean",)))
    titles = [ax.get_title(loc="left").removeprefix("Group mean\n") for ax in figure.axes[:-1]]
    assert titles == ["A (forward)", "B (deviant)", "C", "T"]
    assert figure.axes[2].get_xlabel() == "input"


@pytest.mark.parametrize("wrong", [3, pd.DataFrame()])
def test_evidence_refuses_other_things(search, wrong):
    with pytest.raises(TypeError, match="or effects on a group, got"):
        plot.plot_connection_evidence(wrong)
    with pytest.raises(ValueError, match="covariate must be one of 'mean', 'age'"):
        plot.plot_connection_evidence(search, "sex")
    with pytest.raises(ValueError, match="no parameters with places"):
        plot.plot_connection_evidence(made(("decay",)))


# Subjects


def test_subject_parameters_move_towards_the_group(effects):
    figure = plot.plot_subject_parameters(effects, "age", ["A[V5, V1]"])
    (ax,) = figure.axes
    own, under = (
        next(line for line in ax.lines if line.get_label().startswith(words))
        for words in ("subject alone", "subject under")
    )
    np.testing.assert_allclose(own.get_xdata(), effects.design["age"])
    np.testing.assert_allclose(own.get_ydata(), [one.mean[1] for one in effects.first])
    predicted = effects.design.to_numpy() @ effects.centre[1]
    before, after = (np.abs(line.get_ydata() - predicted) for line in (own, under))
    assert (after < before).all()
    line = next(line for line in ax.lines if line.get_label() == "group's prediction")
    np.testing.assert_allclose(np.ptp(line.get_ydata()) / np.ptp(line.get_xdata()),
                               abs(effects.centre[1, 1]))  # fmt: skip
    assert "Hz" in texts(figure)


def test_subject_parameters_of_groups_and_of_the_mean_alone(effects):
    mean = plot.plot_subject_parameters(made(covariates=("mean",)), limit=2)
    assert len([ax for ax in mean.axes if ax.get_xlabel().startswith("subject")]) == 2
    assert "sub-01" in texts(mean)
    effects.design["age"] = [-1.0, 1.0] * 3
    figure = plot.plot_subject_parameters(effects, limit=1)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["-1", "1"]


def test_subject_parameters_say_what_is_wrong(effects, search):
    with pytest.raises(TypeError, match="from bayesdcm.group.peb, got EffectsSearch"):
        plot.plot_subject_parameters(search)
    with pytest.raises(ValueError, match="covariate must be one of"):
        plot.plot_subject_parameters(effects, "sex")
    with pytest.raises(ValueError, match="got 'C'"):
        plot.plot_subject_parameters(effects, parameters="C")


def subject(name, explained, conditions=("",)):
    rng = np.random.default_rng(len(name))
    shape = (len(conditions), 30, 2)
    return Subject(
        name, ["V1", "V5"], np.array(explained), list(conditions), np.arange(30.0), "time (s)",
        rng.normal(size=shape), np.zeros(shape),
    )  # fmt: skip


def test_subjects_that_are_explained_least_are_drawn():
    many = [subject(f"sub-{i:02d}", [10.0 * i, 20.0]) for i in range(8)]
    figure = draw_subjects(many, "V5", limit=3)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "sub-00", "sub-01", "sub-02",
    ]  # fmt: skip
    assert any("the 3 of 8 that are explained least" in text for text in texts(figure))
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), many[0].observed[0, :, 1])
    with pytest.raises(ValueError, match="region must be one of 'V1', 'V5', got 'V2'"):
        draw_subjects(many, "V2")


def test_subjects_of_evoked_responses_have_a_column_for_each_condition():
    figure = draw_subjects([subject("ann", [50.0, 60.0], ("standard", "deviant"))])
    assert {"standard", "deviant"} <= set(texts(figure))
    assert len(figure.axes) == 3


def test_subjects_are_drawn_by_the_names_of_regions_and_conditions():
    ann = subject("ann", [50.0, 60.0], ("standard", "deviant"))
    ben = subject("benjamin", [30.0, 40.0], ("standard", "deviant"))
    turned = ben._replace(
        columns=["V5", "V1"], explained=ben.explained[::-1], conditions=["deviant", "standard"],
        observed=ben.observed[::-1, :, ::-1], fitted=ben.fitted[::-1, :, ::-1],
    )  # fmt: skip
    drawn = [draw_subjects([ann, other], "V5") for other in (ben, turned)]
    for one, two in zip(*(figure.axes for figure in drawn), strict=True):
        for line, other in zip(one.lines, two.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())
    with pytest.raises(ValueError, match="'benjamin' has the conditions .'standard', 'novel'."):
        draw_subjects([ann, ben._replace(conditions=["standard", "novel"])])


def test_reports_set_a_search_beside_effects_by_name(effects, search):
    turned = made(PARAMETERS[::-1])
    found = _table(turned, search)["present"]
    expected = _table(effects, search)["present"]
    assert list(found.index) != list(expected.index)
    pd.testing.assert_series_equal(found[expected.index], expected)
    with pytest.raises(ValueError, match="search must be of the same effects"):
        _table(made(PARAMETERS[:3]), search)


def test_subjects_are_read_from_fits(program_fit):
    figure = plot.plot_subjects({"ann": program_fit, "ben": program_fit})
    assert isinstance(figure, Figure)
    (dot, *_) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    share = 100 * program_fit.diagnose().facts["explained_variance"][0]
    assert dot.get_xdata()[0] == pytest.approx(share, abs=2)
    for wrong, message in ((3, "got int"), ({}, "at least one fit")):
        with pytest.raises((TypeError, ValueError), match=message):
            plot.plot_subjects(wrong)


# Labels


def test_labels_are_taken_apart():
    assert parsed("A[V5, V5]").within and not parsed("C[V5, V5]").within
    assert parsed("decay") == ("decay", ())
    assert in_order([["a", "b"], ["b", "a"]]) == ["a", "b"]
    assert units_text(TASK, ["A[V5, V1]", "transit[V1]"]) == "A: Hz; transit: log scaling of 2 s"
    assert units_text(None, ["A[V5, V1]"]) == ""
