"""Tables and arrays with names, given to models, are joined by name or refused."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import bayesdcm
from bayesdcm import BoldData, EvokedDCM, TaskDCM
from bayesdcm.models.spm import _evoked_keywords

REGIONS, SOURCES = ["V1", "V5"], ["A1", "STG"]
A = pd.DataFrame([[1, 0], [1, 1]], REGIONS, REGIONS)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    blocks = np.stack([np.arange(320) % 80 < 40, np.arange(320) % 64 < 16], 1)
    return BoldData(rng.normal(size=(40, 2)), 2.0, blocks, 0.25, REGIONS, ["face", "house"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"A": A},
        {"A": np.eye(2), "C": pd.DataFrame(np.eye(2), REGIONS, ["face", "house"])},
        {"A": np.eye(2), "B": [A]},
        {"A": np.eye(2), "priors": {"A": (A, 1.0)}},
        {"A": np.eye(2), "priors": {"transit": pd.Series([0.1, 0.2], REGIONS)}},
    ],
)
def test_tables_of_task_models_are_refused(arguments):
    with pytest.raises(ValueError, match="is a table with the names 'V1', 'V5', but counts by"):
        TaskDCM(**arguments)


def test_plain_tables_are_arrays():
    assert TaskDCM(A=pd.DataFrame(A.to_numpy())) == TaskDCM(A=A.to_numpy())
    with pytest.raises(ValueError, match="A is a table"):
        TaskDCM(A=A.to_numpy()).restrict(A=A)


def test_parameters_with_names_are_joined_to_the_data(data):
    model = TaskDCM(A=np.ones((2, 2)), C=np.eye(2), integrator="bilinear")
    values = {prior.name: np.array(prior.mean) for prior in model.priors}
    values |= {"A": np.array([[0.0, 0.1], [0.6, 0.2]]), "C": np.array([[1.0, 0.0], [0.0, 0.3]])}
    expected = model.predict(values, data)
    dims, names = {p.name: p.dims for p in model.priors}, model.names(data)
    named = {
        name: bayesdcm.infer.arviz_adapter.dataset({name: value}, dims, names, ())[name]
        for name, value in values.items()
    }
    assert_array_equal(model.predict(named, data), expected)
    # Axes and entries in another order are the same array.
    turned = named | {"A": named["A"].transpose("from", "to").sel(to=["V5", "V1"])}
    with pytest.warns(UserWarning, match="parameters..A.. was put .*'to' in that of names"):
        assert_array_equal(model.predict(turned, data), expected)
    other = data.reordered(REGIONS[::-1])
    moved = values | {"A": values["A"][::-1, ::-1], "C": values["C"][::-1]}
    with pytest.warns(UserWarning):
        assert_allclose(model.predict(named, other), model.predict(moved, other))
    with pytest.raises(ValueError, match="'to' of parameters..A.. has 'V1', 'V5'; expected names"):
        model.predict(named, data.replace(region_names=["V1", "FFA"]))
    noise = pd.Series([20.0, 2.0], index=["V5", "V1"])
    with pytest.warns(UserWarning, match="log_precision"):
        found = model.simulate(values | {"log_precision": noise}, data, seed=1)
    assert_array_equal((np.asarray(expected) - found.signal).std(0) > 0.01, [True, False])


def test_tables_of_evoked_models_are_joined_by_source_names():
    forward = pd.DataFrame([[0, 1], [0, 0]], SOURCES[::-1], SOURCES[::-1])
    positions = pd.DataFrame({"z": [3.0, 6], "y": [2.0, 5], "x": [1.0, 4]}, index=SOURCES[::-1])
    arguments = {"modulation": [forward], "inputs": pd.Series([0, 1], SOURCES[::-1])}
    with pytest.warns(UserWarning) as said:
        model = EvokedDCM(forward, positions=positions, source_names=SOURCES, **arguments)
    texts = [str(warning.message) for warning in said]
    assert [text.split()[0] for text in texts] == ["forward", "modulation", "inputs", "positions"]
    assert "index in that of source_names, 'A1', 'STG'; columns in that of the axes" in texts[-1]
    assert model.forward.tolist() == [[0, 0], [1, 0]]
    assert model.modulation.tolist() == [[[0, 0], [1, 0]]]
    assert model.inputs.ravel().tolist() == [1, 0]
    assert model.positions.tolist() == [[4, 5, 6], [1, 2, 3]]
    with pytest.warns(UserWarning, match="modulation was put .*source_names"):
        assert model.restrict(modulation=forward) == model
    named = forward.loc[SOURCES, SOURCES]
    assert model.restrict(modulation=named, forward=0).forward.sum() == 0
    with pytest.raises(ValueError, match="index of modulation has 'A1', 'IFG'"):
        model.restrict(modulation=named.rename({"STG": "IFG"}))
    with pytest.raises(ValueError, match="forward is a table with the names 'STG', 'A1'"):
        EvokedDCM(forward, observation="lfp")
    with pytest.raises(ValueError, match="index of forward has 'STG', 'A1'; expected source_names"):
        EvokedDCM(forward, observation="lfp", source_names=["A1", "IFG"])
    field = pd.DataFrame(np.eye(2), ["Fz", "Cz"])
    with pytest.raises(
        ValueError, match="lead_field is a table .* order of source_names and of data.ch"
    ):
        EvokedDCM(forward.to_numpy(), observation="fixed", lead_field=field)


def test_a_lead_field_for_a_file_is_joined_by_channels_and_sources():
    file = SimpleNamespace(
        keywords={},
        observation="ecd",
        position_variance=0.0,
        modes=None,
        source_names=SOURCES,
        data=SimpleNamespace(channel_names=("Fz", "Cz", "Pz")),
    )
    field = pd.DataFrame(np.arange(6).reshape(3, 2), ["Pz", "Fz", "Cz"], SOURCES[::-1])
    with pytest.warns(UserWarning, match="'Fz', 'Cz', 'Pz'; columns in that of the file's"):
        found = _evoked_keywords(file, field)["lead_field"]
    assert found.tolist() == [[3, 2], [5, 4], [1, 0]]
    with pytest.raises(ValueError, match="index of lead_field has 'Pz', 'Fz', 'Oz'; expected the"):
        _evoked_keywords(file, field.rename({"Cz": "Oz"}))
