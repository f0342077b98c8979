"""TaskDCM: structure, restriction, prediction's checks, simulation."""

import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest

from bayesdcm.data import BoldData
from bayesdcm.models import TaskDCM
from bayesdcm.models.facts import Facts

A = [[1, 0], [1, 1]]
B = [[[0, 0], [0, 0]], [[0, 0], [1, 0]]]
C = [[1, 0], [0, 0]]


@pytest.fixture(scope="module")
def model():
    return TaskDCM(A, B, C)


@pytest.fixture(scope="module")
def design(make_design):
    inputs = np.zeros((40, 2))
    inputs[4:16, 0] = inputs[10:30, 1] = 1.0
    return make_design(inputs, 10, input_dt=0.5, n_regions=2)


@pytest.fixture(scope="module")
def parameters():
    return {
        "A": np.array([[0.1, 0.0], [0.4, -0.1]]),
        "B": np.array([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.5, 0.0]]]),
        "C": np.array([[3.0, 0.0], [0.0, 0.0]]),
        "transit": np.array([0.05, -0.1]),
        "decay": np.array(0.1),
        "epsilon": np.array(-0.05),
    }


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"A": [[1, 0]]}, ValueError, "A must be square"),
        ({"A": [1, 0]}, ValueError, r"A must have shape \(any, any\).*got \(2,\)"),
        ({"A": np.zeros((0, 0))}, ValueError, "A must not be empty"),
        ({"A": [[1, 2], [0, 1]]}, ValueError, r"A must hold only 0 \(off\) and 1 \(on\), got 2"),
        ({"A": [[1, np.nan], [0, 1]]}, ValueError, "A must hold only 0"),
        ({"A": "full"}, TypeError, "A must be an array of 0 and 1"),
        ({"A": None}, (TypeError, ValueError), "A must"),
        ({"A": [[1, 0], [1]]}, TypeError, "A must be an array of 0 and 1"),
        ({"B": np.zeros((2, 3, 3))}, ValueError, r"B must have shape \(2, 2, 2\)"),
        ({"B": np.full((2, 2, 2), 0.5)}, ValueError, "B must hold only 0"),
        ({"B": 1}, ValueError, r"B must have shape \(2, 2, 2\).*got \(\)"),
        ({"B": 1, "C": None}, ValueError, "B must have shape"),
        ({"B": "all", "C": None}, TypeError, "B must be an array of 0 and 1"),
        ({"C": np.zeros((3, 2))}, ValueError, r"C must have shape \(2, any\)"),
        ({"C": [1, 0]}, ValueError, "C must have shape"),
        ({"C": 1}, ValueError, "C must have shape"),
        ({"C": [[1, 0], [1]]}, TypeError, "C must be an array of 0 and 1"),
        ({"C": [[-1, 0], [0, 0]]}, ValueError, "C must hold only 0"),
        ({"C": np.zeros((2, 0))}, ValueError, r"B must have shape \(0, 2, 2\)"),
        ({"D": np.zeros((2, 2))}, ValueError, r"D must have shape \(2, 2, 2\)"),
        ({"D": np.full((2, 2, 2), 3)}, ValueError, "D must hold only 0"),
        ({"two_state": "yes"}, TypeError, "two_state must be True or False, got 'yes'"),
        ({"two_state": 1}, TypeError, "two_state must be True or False"),
        ({"integrator": "euler"}, ValueError, "integrator must be one of 'nonlinear', 'bilinear'"),
        ({"integrator": None}, ValueError, "integrator must be one of"),
        ({"backwards": True}, ValueError, "backwards=True needs two_state=True"),
        ({"backwards": 0}, TypeError, "backwards must be True or False"),
    ],
)
def test_bad_structures_are_refused(arguments, kind, message):
    arguments = {"A": A, "B": B, "C": C} | arguments
    with pytest.raises(kind, match=message):
        TaskDCM(**arguments)


def test_structure_is_kept_as_read_only_switches(model):
    assert model.A.dtype == float and model.B.shape == (2, 2, 2) and model.D is None
    source = np.array(A)
    made = TaskDCM(source)
    source[0, 1] = 1
    assert made.A[0, 1] == 0 and made.n_inputs == 0 and made.B.shape == (0, 2, 2)
    for array in (model.A, model.B, model.C, made.B, made.C):
        assert not array.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.integrator = "bilinear"
    assert made.restrict(A=0).A.sum() == 0 and TaskDCM(source, made.B, made.C).n_inputs == 0
    only_B, only_C = TaskDCM(A, B=B), TaskDCM(A, C=C)
    assert only_B.C.sum() == 0 and only_C.B.sum() == 0 and only_B.n_inputs == only_C.n_inputs == 2


def test_equality_hash_and_pickling(model):
    same = TaskDCM(np.array(A, bool), np.array(B, float), C)
    assert same == model and hash(same) == hash(model) and len({same, model}) == 1
    others = [
        TaskDCM(A, B),
        TaskDCM([[1, 1], [1, 1]], B, C),
        TaskDCM(A, B, C, np.zeros((2, 2, 2))),
        TaskDCM(A, B, C, two_state=True),
        TaskDCM(A, B, C, integrator="bilinear"),
        TaskDCM(A, B, C, two_state=True, backwards=True),
    ]
    assert len({model, *others}) == 7
    assert model != "TaskDCM"
    assert pickle.loads(pickle.dumps(model)) == model


def test_repr_counts_what_is_on(model):
    assert repr(model) == (
        "TaskDCM(2 regions, 2 inputs; connections: 3 A, 1 B, 1 C; integrator='nonlinear')"
    )
    D = np.zeros((1, 1, 1))
    assert repr(TaskDCM([[1]], C=[[1]], D=D, two_state=True)) == (
        "TaskDCM(1 region, 1 input, two-state; connections: 1 A, 0 B, 1 C, 0 D; "
        "integrator='nonlinear')"
    )


def test_gating_with_spms_integrator_warns():
    with pytest.warns(UserWarning, match="reproduces spm_int_D, in which the linear neuronal"):
        TaskDCM(A, C=C, D=np.zeros((2, 2, 2)), integrator="bilinear")


def test_restrict_switches_off_and_only_off(model):
    smaller = model.restrict(A=[[1, 0], [0, 1]], B=0)
    assert smaller.A.sum() == 2 and smaller.B.sum() == 0 and (smaller.C == model.C).all()
    assert smaller.integrator == model.integrator and model.A.sum() == 3
    assert model.restrict() == model
    two_state = TaskDCM(A, B, C, two_state=True, backwards=True).restrict(C=0)
    assert two_state.two_state and two_state.backwards and two_state.C.sum() == 0
    with pytest.raises(ValueError, match=r"A switches on 1 connection\(s\) that the model has off"):
        model.restrict(A=[[1, 1], [1, 1]])
    with pytest.raises(ValueError, match=r"B must have shape \(2, 2, 2\)"):
        model.restrict(B=[[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="C must hold only 0"):
        model.restrict(C=[[0.5, 0], [0, 0]])
    with pytest.raises(ValueError, match="D cannot be restricted: the model has none"):
        model.restrict(D=0)


def test_a_restriction_predicts_as_if_the_connection_were_zero(design, parameters):
    model = TaskDCM(A, B, C, integrator="bilinear")
    without = parameters | {"B": np.zeros((2, 2, 2))}
    expected = model.predict(without, design)
    np.testing.assert_array_equal(model.restrict(B=0).predict(without, design), expected)
    left_out = {name: value for name, value in without.items() if name != "B"}
    np.testing.assert_allclose(
        model.restrict(B=0).predict(left_out, design), expected, rtol=0, atol=1e-14
    )


def test_predict_names_what_is_wrong(model, design, parameters, make_design):
    for name in ("A", "B", "C", "transit", "decay"):
        lacking = {key: value for key, value in parameters.items() if key != name}
        with pytest.raises(
            ValueError, match=f"parameters lacks '{name}'; the model needs 'A', 'B'"
        ):
            model.predict(lacking, design)
    with pytest.raises(ValueError, match=r"parameters\['C'\] must have shape \(2, 2\) \(to, input"):
        model.predict(parameters | {"C": np.ones((2, 1))}, design)
    with pytest.raises(ValueError, match=r"parameters\['decay'\] must have shape \(\) \(a scalar"):
        model.predict(parameters | {"decay": np.zeros(2)}, design)
    with pytest.raises(ValueError, match="data has 3 regions, but the model has 2"):
        model.predict(parameters, make_design(np.zeros((40, 2)), 10, input_dt=0.5))
    with pytest.raises(ValueError, match="data has 1 inputs, but the model has 2"):
        model.predict(parameters, design.replace(inputs=np.zeros((40, 1)), input_names=["a"]))
    with pytest.raises(ValueError, match="data.inputs is None"):
        model.predict(parameters, design.replace(inputs=None, input_dt=None, input_names=None))
    with pytest.raises(TypeError, match="data must be BoldData, got dict"):
        model.predict(parameters, {})


def test_predict_ignores_other_entries_and_takes_lists(model, design, parameters):
    more = {name: value.tolist() for name, value in parameters.items()} | {"log_precision": 1}
    np.testing.assert_array_equal(model.predict(more, design), model.predict(parameters, design))


def test_predictions_do_not_depend_on_the_signal(model, design, parameters):
    simulated = model.simulate(parameters, design, seed=1, snr=2.0)
    np.testing.assert_array_equal(
        model.predict(parameters, simulated), model.predict(parameters, design)
    )


def test_simulations_are_reproducible_and_keep_the_design(model, design, parameters):
    first = model.simulate(parameters, design, seed=1, snr=2.0)
    assert isinstance(first, BoldData)
    for name in ("inputs", "confounds", "slice_delays"):
        np.testing.assert_array_equal(getattr(first, name), getattr(design, name))
    assert first.region_names == design.region_names and first.input_names == design.input_names
    again = model.simulate(parameters, first, seed=1, snr=2.0)
    np.testing.assert_array_equal(again.signal, first.signal)
    assert np.abs(model.simulate(parameters, design, 2, 2.0).signal - first.signal).max() > 0.01


def test_signal_to_noise_ratio_is_that_of_standard_deviations(model, parameters, make_design):
    inputs = np.tile(np.repeat([1.0, 0.0], 20), 50)[:, None] * [1.0, 0.0]
    long = make_design(inputs, 500, input_dt=0.5, n_regions=2)
    clean = np.asarray(model.predict(parameters, long))
    noisy = model.simulate(parameters, long, seed=3, snr=2.0)
    ratio = clean.std(axis=0) / (noisy.signal - clean).std(axis=0)
    np.testing.assert_allclose(ratio, 2.0, rtol=0.1)  # 500 scans: three standard errors
    silent = model.simulate(parameters, long, seed=3)
    np.testing.assert_array_equal(silent.signal, clean)
    given = parameters | {"log_precision": np.array([2.0, 4.0])}
    noise = model.simulate(given, long, seed=3).signal - clean
    np.testing.assert_allclose(-2 * np.log(noise.std(axis=0)), [2.0, 4.0], atol=0.2)


@pytest.mark.parametrize("snr", [0, -1.0, np.nan, np.inf, "high", [1.0, 2.0], True])
def test_bad_signal_to_noise_ratios(model, design, parameters, snr):
    with pytest.raises(ValueError, match="snr must be a positive number or None"):
        model.simulate(parameters, design, seed=0, snr=snr)


def test_simulating_a_diverging_system_is_an_error(model, make_design, parameters):
    inputs = np.ones((400, 2))
    long = make_design(inputs, 100, input_dt=0.5, n_regions=2)
    wild = parameters | {"A": np.array([[0.0, 5.0], [5.0, 0.0]])}
    with pytest.raises(ValueError, match="parameters give a trajectory that diverges"):
        model.simulate(wild, long, seed=0)


def test_predict_compiles_once_for_a_structure_and_a_shape(model, design, parameters):
    from bayesdcm.models.dcm import _compiled_solution

    model.predict(parameters, design)
    before = _compiled_solution._cache_size()
    moved = jax.tree.map(lambda value: value * 0.9, parameters)
    TaskDCM(A, B, C).predict(moved, design.replace(inputs=design.inputs * 0.5))
    assert _compiled_solution._cache_size() == before


def test_facts_are_plain_values_with_units():
    kinds = {"bilinear": {}, "two-state": {"two_state": True}}
    for neural, options in kinds.items():
        facts = TaskDCM(A=[[1, 1], [1, 1]], C=[[1], [0]], **options).facts()
        assert (facts.kind, facts.node, facts.neural) == ("task fMRI", "region", neural)
        assert Facts(**json.loads(json.dumps(facts.as_dict()))) == facts
        between, itself = facts.unit("A", (0, 1)), facts.unit("A", (1, 1))
        rates = {"bilinear": ("Hz", "log scaling of 0.5 Hz")}
        assert (between, itself) == rates.get(neural, ("log scaling of 1/8 Hz",) * 2)
        assert facts.unit("transit_time") == "s" and facts.unit("unknown") == ""
        assert facts.wide_noise == ""
    spm = TaskDCM(A=[[1]], C=[[1]], integrator="bilinear").facts()
    assert spm.wide_noise == "integrator='nonlinear'"
