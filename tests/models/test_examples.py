"""The bundled example: what it holds, that it can be made again, and that it can be used."""

import importlib.util
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import bayesdcm
from bayesdcm.models import Example, load_example

SCRIPT = Path(__file__).parents[2] / "ci" / "make_example.py"


@pytest.fixture(scope="module")
def example():
    return load_example("attention")


@pytest.fixture(scope="module")
def prediction(example):
    return np.asarray(example.model.predict(example.parameters, example.data))


def test_content(example):
    assert isinstance(example, Example) and example.name == "attention"
    data, model = example.data, example.model
    assert (data.n_scans, data.repetition_time, data.input_dt) == (360, 3.22, 3.22 / 16)
    assert data.region_names == ("V1", "V5", "SPC")
    assert data.input_names == ("Photic", "Motion", "Attention")
    assert model.integrator == "nonlinear" and (model.n_regions, model.n_inputs) == (3, 3)
    # Attention only where there is motion, motion only where there is something to see.
    photic, motion, attention = data.inputs.T
    assert set(np.unique(data.inputs)) == {0.0, 1.0}
    assert (attention <= motion).all() and (motion <= photic).all()
    assert 0 < attention.sum() < motion.sum() < photic.sum() < len(photic)
    assert len(example.description) > 100


def test_parameters_are_full_arrays_of_what_is_switched_on(example):
    shapes = {prior.name: prior.mean.shape for prior in example.model.priors}
    assert {name: np.shape(value) for name, value in example.parameters.items()} == shapes
    for name in "ABC":
        off = getattr(example.model, name) == 0
        assert (example.parameters[name][off] == 0).all()
    assert example.parameters["B"][1, 1, 0] > 0 and example.parameters["B"][2, 1, 2] > 0


def test_responses_are_of_ordinary_size_and_clear_of_noise(example, prediction):
    peaks = np.abs(prediction).max(axis=0)
    assert (1.0 < peaks).all() and (peaks < 3.0).all() and example.data.scale == 1.0
    basis = np.linalg.qr(example.data.confounds)[0]
    residual = example.data.signal - prediction
    residual -= basis @ (basis.T @ residual)
    ratio = prediction.std(axis=0) / residual.std(axis=0)
    np.testing.assert_allclose(ratio, 2.0, rtol=0.1)


def test_it_can_be_made_again(example):
    specification = importlib.util.spec_from_file_location("make_example", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    made = script.arrays()
    path = files("bayesdcm.data") / "examples" / "attention.npz"
    with path.open("rb") as stream, np.load(stream) as stored:
        assert set(stored) == set(made)
        for name, value in made.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(stored[name], value, rtol=0, atol=1e-10)
            else:
                assert stored[name].tolist() == value.tolist()
    assert len(path.read_bytes()) < 200_000


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="'attention', 'recurrent'; got 'rest'"):
        load_example("rest")
    with pytest.raises(ValueError, match=r"got \["):
        load_example(["attention"])


def test_public_name():
    assert bayesdcm.load_example is load_example


def test_the_recurrent_example_is_the_published_experiment():
    example = load_example("recurrent")
    data, truth = example.data, example.parameters
    assert (data.n_scans, data.n_regions) == (1440, 3)
    assert (data.repetition_time, data.input_dt) == (0.25, 0.25)
    assert truth["A"].tolist() == [[-1, 0, 0], [0.8, -1, 0.4], [0.4, 0.8, -1]]
    assert truth["B"].sum() == truth["B"][0, 2, 2] == -0.4
    assert truth["C"].ravel().tolist() == [0.8, 0, 0]
    assert np.bincount(data.inputs[:16, 0].astype(int)).tolist() == [0, 16]
    clean = np.asarray(example.model.predict(truth, data))
    noise = data.signal - clean
    assert clean.std() / noise.std() == pytest.approx(2, rel=0.05)
