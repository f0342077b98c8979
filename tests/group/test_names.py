"""Data sets, fits and tables of a group are joined by name, or refused; a new order is said."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import bayesdcm
from bayesdcm import BoldData, EvokedData
from bayesdcm.data.alignment import aligned
from bayesdcm.group import fit_group, load_group
from bayesdcm.group.hierarchy_inputs import subjects_of
from bayesdcm.observe import gaussian


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
