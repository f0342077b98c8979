"""Data sets, fits and tables of a group are joined by name, or refused; a new order is said."""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import bayesdcm
from bayesdcm import BoldData, EvokedData
from bayesdcm.commands.group import _read, _same_by_name
from bayesdcm.compare import compare, stack_modes
from bayesdcm.data.alignment import aligned
from bayesdcm.group import (
    Hierarchy,
    compare_with_peb,
    fit_group,
    leave_one_out,
    load_group,
    peb,
    reestimate,
)
from bayesdcm.group.first_level import of_fit, select
from bayesdcm.group.hierarchy_inputs import subjects_of
from bayesdcm.observe import gaussian

# As in the fixture `linear_group`.
TIMES = np.linspace(-1, 1, 20)
REGRESSORS = np.stack([TIMES, TIMES**2, np.sin(4 * TIMES)], axis=1)


def run(seed, regions=("V1", "V5"), inputs=("face", "house")):
    """One run; in whatever order, V1 and face are first in the random numbers."""
    rng = np.random.default_rng(seed)
    first = ("V1", "V5"), ("face", "house")
    data = BoldData(
        rng.normal(size=(16, 2)), 2.0, rng.normal(size=(256, 2)), 0.125, first[0], first[1]
    )
    data = data.reordered(
        regions if set(regions) == set(first[0]) else None,
        inputs if set(inputs) == set(first[1]) else None,
    )
    return data.replace(region_names=regions, input_names=inputs)


def weights(data):
    """Straight lines of the first region on the inputs: positions matter."""
    C = numpyro.sample("C", dist.Normal(0, 1).expand([2]).to_event(1))
    inputs = jnp.asarray(data.inputs.reshape(16, 16, 2).mean(1))
    numpyro.sample("y", gaussian(inputs @ C, 0.0), obs=jnp.asarray(data.signal[:, 0]))


def evoked(seed, conditions=("standard", "deviant"), channels=("Fz", "Cz"), **fields):
    rng = np.random.default_rng(seed)
    return EvokedData(
        rng.normal(size=(len(conditions), 30, len(channels))),
        np.arange(30) / 250,
        channel_names=channels,
        condition_names=conditions,
        **fields,
    )


def test_aligned_runs_say_once_who_was_moved():
    data = {f"sub-{i}": run(i) for i in range(9)}
    for i in range(1, 8):
        data[f"sub-{i}"] = run(i, inputs=("house", "face"))
    data["sub-8"] = run(8, regions=("V5", "V1"))
    with pytest.warns(UserWarning) as said:
        found = aligned(data)
    assert len(said) == 1
    text = str(said[0].message)
    assert "another order than 'sub-0': inputs in 7 ('sub-1', 'sub-2'" in text
    assert "and 2 more); regions in 1 ('sub-8')" in text
    for i in range(9):
        assert_array_equal(found[f"sub-{i}"].signal, run(i).signal)
        assert_array_equal(found[f"sub-{i}"].inputs, run(i).inputs)
    assert found["sub-0"] is data["sub-0"]


@pytest.mark.parametrize(
    "other, message",
    [
        (run(1, inputs=("face", "place")), "input_names of 'b' are .*'place'.*expected.*'house'"),
        (run(1, regions=("region 1", "V5")), "region_names of 'b' .*it has no 'V1'"),
    ],
)
def test_other_names_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        aligned({"a": run(0), "b": other})
    with pytest.raises(ValueError, match=message):
        fit_group(weights, {"a": run(0), "b": other}, progress=False)


def test_aligned_evoked_responses():
    first = evoked(0, design=[[0], [1]], effect_names=["change"])
    data = evoked(1, design=[[0], [1]], effect_names=["change"])
    moved = data.reordered(["deviant", "standard"], channel_names=["Cz", "Fz"])
    assert moved.design.tolist() == [[1], [0]]
    with pytest.warns(UserWarning, match="conditions in 1 .*channels in 1"):
        found = aligned({"a": first, "b": moved})["b"]
    assert found.condition_names == data.condition_names
    assert_array_equal(found.signal, data.signal)
    assert_array_equal(found.design, data.design)


def test_another_baseline_is_refused():
    other = evoked(1, ("deviant", "standard"))
    with pytest.raises(ValueError, match="effect_names of 'b'.*first condition is the baseline"):
        aligned({"a": evoked(0), "b": other})


def test_rows_of_a_design_in_the_order_of_another_person_are_refused():
    fields = {"design": [[0], [1]], "effect_names": ["change"]}
    other = evoked(1, ("deviant", "standard"), **fields)
    with pytest.raises(ValueError, match="conditions of 'b' are .*same rows of the design"):
        aligned({"a": evoked(0, **fields), "b": other})


def test_two_effects_move_together():
    first, other = evoked(0, ("a", "b", "c")), evoked(1, ("a", "c", "b"))
    found = aligned({"x": first, "y": other}, warn=False)["y"]
    assert found.effect_names == ("b", "c")
    assert_array_equal(found.design, first.design)
    assert_array_equal(found.signal[1], other.signal[2])


def test_channels_may_differ_where_each_has_a_head_model():
    head = bayesdcm.data.GridHead(np.zeros((1, 3)), np.ones((2, 1, 3)))
    one, other = evoked(0, head=head), evoked(1, channels=("Fz", "Pz"), head=head)
    assert aligned({"a": one, "b": other})["b"] is other
    with pytest.raises(ValueError, match="channel_names of 'b'"):
        aligned({"a": one, "b": other}, same_channels=True)


def test_group_of_runs_in_another_order_has_the_same_fits(tmp_path):
    ordered = {f"s{i}": run(i) for i in range(3)}
    mixed = ordered | {"s1": run(1, ("V5", "V1"), ("house", "face"))}
    expected = fit_group(weights, ordered, progress=False)
    with pytest.warns(UserWarning, match="regions in 1 .*inputs in 1"):
        found = fit_group(weights, mixed, progress=False, out=tmp_path / "fits")
    assert_allclose(found["s1"].mean["C"], expected["s1"].mean["C"], rtol=1e-9)
    backwards = {name: mixed[name] for name in ("s2", "s1", "s0")}
    with pytest.warns(UserWarning, match="inputs in 1"):
        loaded = load_group(tmp_path / "fits", weights, backwards)
    assert_allclose(loaded["s1"].idata.observed_data["y"], ordered["s1"].signal[:, 0])


def test_hierarchy_joins_inputs_by_name():
    model = bayesdcm.TaskDCM(A=np.eye(2), C=[[1, 1], [0, 0]], integrator="bilinear")
    data = {"a": run(0), "b": run(1, ("V5", "V1"), ("house", "face"))}
    with pytest.warns(UserWarning, match="inputs in 1 .'b'."):
        found = subjects_of(model, data)
    expected = subjects_of(model, {"a": run(0), "b": run(1)})
    for own, other in zip(
        *(
            [np.asarray(leaf) for leaf in jax.tree.leaves(part[1].prepared)]
            for part in (found, expected)
        ),
        strict=True,
    ):
        assert_array_equal(own, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subjects_of(model, data, prepare=False)
    other = data | {"b": run(1, inputs=("face", "place"))}
    with pytest.raises(ValueError, match="input_names of 'b'"):
        subjects_of(model, other)


def test_hierarchy_puts_labelled_priors_by_the_names_of_its_first_subject():
    model = bayesdcm.TaskDCM(
        A=np.eye(2), C=[[1, 1], [0, 0]], integrator="bilinear", priors={"C[V1, house]": (0.5, 2.0)}
    )
    named = bayesdcm.Hierarchy(model, parameters="C").for_data([run(0), run(1)])
    table = named.model.prior_table(run(0))
    assert table.loc["C[V1, house]", "mean"] == 0.5
    assert table.loc["C[V1, face]", "mean"] == 0.0
    assert not named.model.priors.pending


def named(fits):
    return {f"s{i}": fit for i, fit in enumerate(fits)}


def test_designs_are_joined_by_the_names_of_subjects(linear_group):
    fits, age = named(linear_group.fits), linear_group.age
    table = pd.DataFrame({"mean": 1.0, "age": age}, index=list(fits))
    expected = peb(fits, linear_group.design, "A").mean
    assert_allclose(peb(fits, table.sort_values("age", ascending=False), "A").mean, expected)
    backwards = dict(reversed(fits.items()))
    assert_allclose(peb(backwards, table, "A").mean, expected, atol=1e-6)
    one = leave_one_out(fits, table, "A")
    other = leave_one_out(fits, table.iloc[::-1], "A")
    assert_allclose(one["predicted"], other["predicted"])
    with pytest.raises(ValueError, match="index of design must hold the names.*got 'x5'"):
        peb(fits, table.rename(index={"s5": "x5"}), "A")
    with pytest.raises(ValueError, match="index of design must hold the names"):
        leave_one_out(fits, table.rename(index={"s5": "x5"}), "A")


@pytest.mark.parametrize("order", [[3, 0, 5, 1, 4, 2], [5, 4, 3, 2, 1, 0]])
def test_rows_that_were_sorted_keep_their_numbers(linear_group, order):
    table = pd.DataFrame({"mean": 1.0, "age": linear_group.age})
    with pytest.warns(UserWarning, match="rows were put in the order of the fits"):
        found = peb(linear_group.fits, table.iloc[order], "A").mean
    assert_allclose(found, peb(linear_group.fits, linear_group.design, "A").mean)
    backwards = table.iloc[::-1]
    assert isinstance(backwards.index, pd.RangeIndex)
    with pytest.raises(ValueError, match="index of design"):
        peb(named(linear_group.fits), backwards, "A")


@dataclass(frozen=True)
class Relabelled:
    """The model of `linear_group` with its parameters in another order."""

    names: tuple = ("curve", "slope", "wave")
    observed_site = "y"

    def program(self, data):
        return partial(self.sample, self.prepare(data))

    def prepare(self, data):
        return jnp.asarray(data, float)

    def dims(self):
        return {}

    coords = constants = lambda self, data: {}

    def restore(self, values, data):
        return values

    arrange = restore

    def sample(self, y):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0))
        A = numpyro.sample("A", dist.Normal(np.zeros(3), np.sqrt(0.5)).to_event(1))
        weights = jnp.stack([A[self.names.index(n)] for n in ("slope", "curve")] + [A[2]])
        numpyro.sample("y", gaussian(REGRESSORS[:, :3] @ weights + level, 2.0), obs=y)

    def labels(self, data):
        return {"level": ["level"], "A": [f"A[{name}]" for name in self.names]}


def test_parameters_of_fits_are_joined_by_label(linear_group):
    other = bayesdcm.fit(Relabelled(), linear_group.data[1], progress=False)
    fits = [linear_group.fits[0], other, *linear_group.fits[2:]]
    found = peb(fits, linear_group.design, "A")
    assert_allclose(found.mean, peb(linear_group.fits, linear_group.design, "A").mean, atol=1e-6)


def test_fits_with_more_parameters_are_refused(linear_group):
    other = bayesdcm.fit(Relabelled(), linear_group.data[1], progress=False)
    fits = named([linear_group.fits[0], other])
    one, two = of_fit("s0", fits["s0"]), of_fit("s1", fits["s1"])
    labels = ("level", "A[slope]", "A[curve]")
    names = {name: place for name, place in one.names.items() if name != "A[wave]"}
    less = replace(one, labels=labels, names=names | {"A": [1, 2]}, fields=one.fields[:3])
    with pytest.raises(ValueError, match="that of subject 's1' has 'A.wave.', which that of 's0'"):
        select([less, two], "A")
    assert select([less, two], ["A[slope]"])[0] == ("A[slope]",)


def test_groups_of_groups_have_the_same_covariates(linear_group):
    whole = peb(linear_group.fits, linear_group.design, "A")
    mean = peb(linear_group.fits, None, "A")
    with pytest.raises(ValueError, match="subject 1 has 'age: A.slope.', .*which that of 0"):
        peb([mean, whole])
    shared = [f"mean: A[{name}]" for name in ("slope", "curve", "wave")]
    assert peb([mean, whole], parameters=shared).parameters == tuple(shared)


def test_select_models_of_failures_in_different_people():
    def short(data):
        if len(data) < 4:
            raise ValueError("too short")
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", gaussian(level * jnp.ones(len(data)), 0.0), obs=data)

    def long(data):
        if len(data) > 5:
            raise ValueError("too long")
        level = numpyro.sample("level", dist.Normal(1, 1))
        numpyro.sample("y", gaussian(level * jnp.ones(len(data)), 0.0), obs=data)

    rng = np.random.default_rng(0)
    data = {f"s{n}": rng.normal(size=n) for n in (3, 4, 5, 6)}
    group = fit_group({"short": short, "long": long}, data, progress=False)
    assert len(group["short"]) == len(group["long"]) == 3
    expected = group.evidence().loc[["s4", "s5"]]
    for effects in ("fixed", "random"):
        whole = bayesdcm.select_models(expected, effects)
        for given in (group, {name: group[name] for name in ("short", "long")}):
            with pytest.warns(UserWarning, match="2 of 4 subjects lack a fit .*'s3'"):
                found = bayesdcm.select_models(given, effects)
            assert_allclose(found, whole)


def test_select_models_joins_by_name():
    first = pd.Series({"ann": 0.0, "ben": 9.0})
    other = {"ben": 1.0, "ann": 2.0}
    table = bayesdcm.select_models({"a": first, "b": other}, "fixed")
    swapped = bayesdcm.select_models([[0.0, 2.0], [9.0, 1.0]], "fixed")
    assert_array_equal(table["log_evidence"], swapped["log_evidence"])
    random = bayesdcm.select_models({"a": first, "b": other})
    assert_allclose(random["frequency"], bayesdcm.select_models([[0, 2], [9, 1]])["frequency"])
    with pytest.raises(ValueError, match="'b'. has no names of subjects and evidence.'a'. has"):
        bayesdcm.select_models({"a": first, "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="no subject has a fit of each"):
        bayesdcm.select_models({"a": first, "b": {"cat": 1.0}})


def test_data_of_two_people_exchanged_are_seen(tmp_path):
    data = [run(0), run(1)]
    fit_group(weights, data, progress=False, out=tmp_path)
    assert len(load_group(tmp_path, weights, data)[1].mean["C"]) == 2
    with pytest.raises(
        ValueError, match=r"data must be those of the fit in .*1\.nc', but y has other"
    ):
        load_group(tmp_path, weights, data[::-1])[0]


def test_tables_of_evoked_responses_are_joined_by_name():
    names = ("standard", "deviant", "novel")
    design = pd.DataFrame(
        {"change": [1.0, 0.0, 1.0], "novelty": [1.0, 0.0, 0.0]},
        index=["novel", "standard", "deviant"],
    )
    with pytest.warns(UserWarning, match="design was put .* index in that of condition_names"):
        data = evoked(0, names, design=design)
    assert data.effect_names == ("change", "novelty")
    assert data.design.tolist() == [[0, 0], [1, 0], [1, 1]]
    with pytest.raises(ValueError, match="index of design has 'a'"):
        evoked(0, names, design=design.rename(index={"novel": "a"}))
    noise = pd.DataFrame([[1.0, 0.0], [0.0, 4.0]], ["Cz", "Fz"], ["Cz", "Fz"])
    with pytest.warns(UserWarning, match="noise_cov"):
        assert evoked(0, noise_cov=noise).noise_cov.tolist() == [[4, 0], [0, 1]]


def test_time_courses_in_a_dict_keep_their_names():
    courses = {name: np.random.default_rng(i).normal(size=(1, 9)) for i, name in enumerate("ab")}
    data = EvokedData.from_label_time_courses(
        courses, np.arange(9) / 250, condition_names=["b", "a"]
    )
    assert_array_equal(data.signal[0, :, 0], courses["b"][0])
    with pytest.raises(ValueError, match="condition_names must name 'a', 'b'"):
        EvokedData.from_label_time_courses(courses, np.arange(9) / 250, condition_names=["b", "c"])


@pytest.mark.parametrize("moved", [True, False])
def test_files_of_a_group_in_another_order(monkeypatch, moved):
    first = bayesdcm.TaskDCM(A=[[1, 0], [1, 1]], C=[[1, 0], [0, 0]], integrator="bilinear")
    turned = bayesdcm.TaskDCM(A=[[1, 1], [0, 1]], C=[[0, 0], [0, 1]], integrator="bilinear")
    data = {"a": run(0), "b": run(1, ("V5", "V1"), ("house", "face"))}
    models = {"a": first, "b": turned if moved else first}
    monkeypatch.setattr(
        "bayesdcm.models.spm.read_spm_dcm",
        lambda path: SimpleNamespace(model=models[path.stem], data=data[path.stem]),
    )
    files = {name: Path(f"{name}.mat") for name in data}
    if not moved:
        with pytest.raises(ValueError, match="the model in 'b.mat' is not that in 'a.mat'"):
            _read(files, None)
        return
    model, found = _read(files, None)
    assert model == first
    with pytest.warns(UserWarning, match="regions in 1 .'b'.*inputs in 1 .'b'."):
        found = aligned(found)
    assert_array_equal(found["b"].signal, run(1).signal)


def test_posteriors_of_other_labels_are_said():
    class Known:
        method = "laplace"

        def __init__(self, *labels):
            self.table = pd.DataFrame({"mean": 0.0, "sd": 1.0}, index=list(labels))

        def summary(self):
            return self.table

    fits = {"a": Known("C[V1, face]", "decay"), "b": Known("C[V1, input 1]", "decay")}
    with pytest.warns(UserWarning, match="2 of 3 parameters are not in the reference"):
        table = bayesdcm.compare_posteriors(fits)
    assert list(table["parameter"]) == ["decay"]


def test_series_of_a_design_are_joined_by_the_names_of_subjects(linear_group):
    fits = named(linear_group.fits)
    age = pd.Series(linear_group.age, index=list(fits))
    expected = peb(fits, linear_group.design, "A").mean
    for design in (
        {"mean": 1, "age": age.iloc[::-1]},
        {"mean": np.ones(6), "age": age.sort_values(ascending=False)},
    ):
        assert_allclose(peb(fits, design, "A").mean, expected, atol=1e-9)
        ages = Hierarchy(linear_group.model, design, parameters="A").design["age"]
        assert_array_equal(ages[list(fits)], linear_group.age)
    with pytest.raises(ValueError, match="'sex'. has no names of subjects and design.'age'. has"):
        peb(fits, {"mean": 1, "age": age, "sex": np.array([0, 1, 0, 1, 0, 1])}, "A")
    with pytest.raises(ValueError, match="'sex'. and design.'age'. must be of the same subjects"):
        peb(fits, {"mean": 1, "age": age, "sex": age.rename({"s5": "x5"})}, "A")
    with pytest.raises(ValueError, match="index of design must hold the names.*got 'x5'"):
        peb(fits, {"mean": 1, "age": age.rename({"s5": "x5"})}, "A")


def test_results_of_subjects_keep_their_names(linear_group):
    fits = named(linear_group.fits)
    table = pd.DataFrame({"mean": 1.0, "age": linear_group.age}, index=list(fits))
    effects = peb(fits, table, "A")
    again = reestimate(effects, progress=False)
    assert again.fits.subjects == effects.subjects.subjects == list(fits)
    turned = table.iloc[::-1]
    expected = peb(again.fits, table, "A").mean
    assert_allclose(peb(again.fits, turned, "A").mean, expected, atol=1e-9)
    other = peb(dict(reversed(fits.items())), turned, "A")
    models = {"one": effects.subjects, "two": other.subjects}
    found = bayesdcm.select_models(models, "random")
    # The same model twice: every subject has it as often as the other.
    assert_allclose(found["frequency"], 0.5, atol=1e-6)
    plain = peb(linear_group.fits, linear_group.design, "A").subjects
    assert not hasattr(plain, "subjects")


def test_modes_of_other_labels_are_not_mixed(linear_group):
    data = linear_group.data[1]
    fits = [
        bayesdcm.fit(model, data, progress=False) for model in (Relabelled(), linear_group.model)
    ]
    with pytest.raises(ValueError, match="has 'A.slope.' where 'A.curve.' was expected"):
        stack_modes(fits)


def two_sites(first, second):
    """Observed sites `a` and `b` in this order; the level is known but for one of them."""

    def program(data):
        level = numpyro.sample("level", dist.Normal(0, 1))
        for name in (first, second):
            numpyro.sample(name, gaussian(level * jnp.ones(5), 0.0), obs=data[name])

    return program


def test_points_of_sites_in_another_order_are_joined_by_name():
    rng = np.random.default_rng(0)
    data = {"a": jnp.asarray(rng.normal(size=5)), "b": jnp.asarray(3 + rng.normal(size=5))}
    orders = {"one": ("a", "b"), "two": ("b", "a")}
    fits = {
        name: bayesdcm.fit(two_sites(*order), data, progress=False)
        for name, order in orders.items()
    }
    table = compare(fits, by="loo")
    # Point by point the models predict alike: the difference has no error.
    assert table["dse"].max() < 0.1 * table["se"].min()


def test_starts_with_labels_are_joined_by_name(linear_group):
    data, model = linear_group.data[1], linear_group.model
    expected = bayesdcm.fit(model, data, progress=False)
    place = pd.DataFrame([expected.summary()["mean"]])
    options = {"progress": False, "max_iterations": 1}
    first = bayesdcm.fit(model, data, starts=place.to_numpy(), **options)
    with pytest.warns(UserWarning, match="starts was put .*columns in that of the fit's"):
        found = bayesdcm.fit(model, data, starts=place[place.columns[::-1]], **options)
    assert_allclose(found.mean["A"], first.mean["A"])
    with pytest.raises(ValueError, match="columns of starts has .*'A.x.'"):
        bayesdcm.fit(model, data, starts=place.rename(columns={"A[wave]": "A[x]"}), **options)


def test_hierarchies_have_one_model_and_different_names(linear_group):
    model, data = linear_group.model, {"a": linear_group.data[0], "b": linear_group.data[1]}
    group = fit_group({"m1": model, "m2": model}, data, progress=False)
    with pytest.raises(ValueError, match="several models, 'm1', 'm2'; choose one"):
        subjects_of(model, group)
    with pytest.raises(ValueError, match="different names of subjects, got .'1', '1'."):
        subjects_of(model, {1: data["a"], "1": data["b"]})


def test_effects_that_a_hierarchy_lacks_are_said():
    own = pd.DataFrame({"mean": [0.2], "sd": [0.1]}, index=["mean A[0]"])
    effects = pd.DataFrame(
        {"covariate": "mean", "parameter": ["A[0]", "A[1]"], "mean": [0.3, 0.1], "sd": 0.2}
    )
    with pytest.warns(UserWarning, match="1 of 2 effects are not in the hierarchy.*'mean A.1.'"):
        assert len(compare_with_peb(SimpleNamespace(summary=lambda: own), effects)) == 1


@pytest.mark.parametrize("moved", [True, False])
def test_evoked_files_of_a_group_with_effects_in_another_order(monkeypatch, moved):
    forward = np.array([[0, 0], [1, 0]])
    first = bayesdcm.EvokedDCM(
        forward, forward.T, modulation=[forward, forward.T], observation="lfp"
    )
    turned = replace(first, modulation=first.modulation[::-1], priors=None)
    one = evoked(0, ("a", "b", "c"))
    data = {"a": one, "b": evoked(1, ("a", "b", "c")).reordered(effect_names=["c", "b"])}
    models = {"a": first, "b": turned if moved else first}
    monkeypatch.setattr(
        "bayesdcm.models.spm.read_spm_dcm",
        lambda path: SimpleNamespace(model=models[path.stem], data=data[path.stem]),
    )
    files = {name: Path(f"{name}.mat") for name in data}
    if not moved:
        with pytest.raises(ValueError, match="the model in 'b.mat' is not that in 'a.mat'"):
            _read(files, None)
        return
    model, found = _read(files, None)
    assert model == first
    with pytest.warns(UserWarning, match="effects in 1 .'b'."):
        assert aligned(found)["b"].effect_names == one.effect_names


def test_fits_of_programs_to_data_in_another_order_are_refused():
    data = {"s0": run(0), "s1": run(1, inputs=("house", "face"))}
    fits = {name: bayesdcm.fit(weights, each, progress=False) for name, each in data.items()}
    with pytest.raises(ValueError, match="data of 's1' and 's0' have names in another order"):
        peb(fits, parameters="C")
    fits["s1"] = bayesdcm.fit(weights, run(1), progress=False)
    assert peb(fits, parameters="C").parameters == ("C[0]", "C[1]")


@pytest.mark.slow
def test_fits_of_evoked_responses_with_other_contrasts_are_refused():
    fields = {"design": [[0], [1]], "effect_names": ["change"]}
    data = {"ann": evoked(0, **fields), "ben": evoked(1, ("deviant", "standard"), **fields)}
    model = bayesdcm.EvokedDCM(
        inputs=[[1], [0]], modulation=[[0, 0], [1, 0]], forward=[[0, 0], [1, 0]], observation="lfp"
    )
    fits = {
        name: bayesdcm.fit(model, each, max_iterations=1, progress=False)
        for name, each in data.items()
    }
    for join in (peb, partial(subjects_of, model)):
        with pytest.raises(ValueError, match="conditions of 'ben' are .*same rows of the design"):
            join(fits)
    turned = data["ben"].replace(design=[[1], [0]])
    fits["ben"] = bayesdcm.fit(model, turned, max_iterations=1, progress=False)
    assert [subject.name for subject in subjects_of(model, fits)] == ["ann", "ben"]


def test_tables_as_data_of_programs_in_a_hierarchy_are_refused():
    table = pd.DataFrame(np.ones((4, 2)), columns=["face", "house"])
    hierarchy = Hierarchy(lambda data: None, parameters="C")
    with pytest.raises(ValueError, match="data of a program is a table with the names 'face'"):
        subjects_of(hierarchy.model, [table, table[["house", "face"]]])


def test_a_column_of_names_is_to_be_the_index(linear_group):
    fits = named(linear_group.fits)
    table = pd.DataFrame({"mean": 1.0, "age": linear_group.age, "participant": list(fits)})
    with pytest.raises(TypeError, match="names of the subjects: give design.set_index..particip"):
        peb(fits, table, "A")


def test_the_same_data_in_another_order_is_what_the_message_says():
    def program(data):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", gaussian(level * jnp.ones((16, 2)), 0.0), obs=jnp.asarray(data.signal))

    data = {"one": run(0), "two": run(0, ("V5", "V1"))}
    fits = {name: bayesdcm.fit(program, each, progress=False) for name, each in data.items()}
    with pytest.raises(ValueError, match="y has the same values in another order; put regions"):
        compare(fits)


def test_evidence_counts_every_subject_and_model_once():
    table = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]}, index=["ann", "ben"])
    with pytest.raises(ValueError, match="every subject once, but names 'ann' more than once"):
        bayesdcm.select_models(pd.concat([table, table]))
    with pytest.raises(ValueError, match="every model once, but names 'a' more than once"):
        bayesdcm.select_models(pd.concat([table, table], axis=1))
    both = pd.concat([table.reset_index(drop=True)] * 2)
    assert bayesdcm.select_models(both, "fixed")["log_evidence"].tolist() == [2.0, 2.0]


def test_a_model_of_another_input_in_somebody_is_refused():
    model = bayesdcm.TaskDCM(A=np.eye(2), C=[[1, 0], [0, 0]], integrator="bilinear")
    data = {"ann": run(0), "ben": run(1, inputs=("house", "face"))}
    fits = {
        name: bayesdcm.fit(model, each, max_iterations=1, progress=False)
        for name, each in data.items()
    }
    models = {"face": fits, "none": dict.fromkeys(fits, 0.0)}
    with pytest.raises(ValueError, match="that of 'ben' has 'C.V1, house.' and that of 'ann' has"):
        bayesdcm.select_models(models)
    ordered = data["ben"].reordered(input_names=["face", "house"])
    fits["ben"] = bayesdcm.fit(model, ordered, max_iterations=1, progress=False)
    assert len(bayesdcm.select_models(models)) == 2


def test_models_that_differ_in_the_family_of_a_prior_are_others():
    signals = np.random.default_rng(0).normal(size=(8, 2))
    blocks = {"inputs": np.eye(8, 1), "input_dt": 2.0}
    data = BoldData(signals, 2.0, region_names=["V1", "V5"], **blocks)
    laplace, normal = (
        bayesdcm.TaskDCM([[1, 0], [1, 1]], C=[[1], [0]], priors={"A[V5, V1]": prior})
        for prior in (bayesdcm.LaplacePrior(0.2), {"variance": 0.08})
    )
    assert _same_by_name(laplace, data, laplace, data)
    assert not _same_by_name(laplace, data, normal, data)
    assert not _same_by_name(normal, data, laplace, data)
