"""EvokedDCM: structure, checks of data, restriction, prediction, simulation, integrators."""

import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.data import EvokedData, GridHead, SphereHead, SurfaceHead
from bayesdcm.models.evoked import EvokedDCM
from bayesdcm.models.evoked_checks import NEURAL
from bayesdcm.models.facts import Facts

FORWARD, BACKWARD = [[0, 0], [1, 0]], [[0, 1], [0, 0]]
POSITIONS = [[-42.0, -22.0, 7.0], [46.0, -14.0, 8.0]]


def make_data(n_channels=2, n_conditions=2, n_times=24, **keywords):
    signal = np.random.default_rng(0).normal(size=(n_conditions, n_times, n_channels))
    return EvokedData(signal, 0.01 * np.arange(n_times), **keywords)


def sphere(n=12):
    sensors = np.random.default_rng(1).normal(size=(n, 3))
    sensors[:, 2] = np.abs(sensors[:, 2])
    return SphereHead(0.09 * sensors / np.linalg.norm(sensors, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def data():
    return make_data(condition_names=["standard", "deviant"])


@pytest.fixture(scope="module")
def model():
    return EvokedDCM(FORWARD, BACKWARD, modulation=FORWARD, observation="lfp")


@pytest.fixture(scope="module")
def parameters(model):
    values = {prior.name: np.array(prior.mean) for prior in model.priors}
    values["B"][0, 1, 0] = 0.8
    values["A"][0, 1, 0] = 0.2
    return values


def build(**changes):
    return EvokedDCM(**{"forward": FORWARD, "observation": "lfp"} | changes)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"forward": [[0, 0]]}, ValueError, "forward must be square"),
        ({"forward": [0, 1]}, ValueError, r"forward must have shape.*\(to, from\), got \(2,\)"),
        ({"forward": np.zeros((0, 0))}, ValueError, "forward must not be empty"),
        ({"forward": [[0, 2], [0, 0]]}, ValueError, r"forward must hold only 0 \(off\) and 1"),
        ({"forward": [[0, np.nan], [0, 0]]}, ValueError, "forward must hold only 0"),
        ({"forward": "all"}, TypeError, "forward must be an array of 0 and 1"),
        ({"forward": [[0, 0], [1]]}, TypeError, "forward must be an array of 0 and 1"),
        ({"forward": [[1, 0], [1, 0]]}, ValueError, "forward has 1 connection.*of a source with"),
        ({"lateral": np.eye(2)}, ValueError, "lateral has 2 connection.*zeros on the diagonal"),
        (
            {"backward": np.zeros((3, 3))},
            ValueError,
            "one shape, got .*'forward': 2.*'backward': 3",
        ),
        ({"forward": None}, ValueError, "number of sources is unknown; give at least one"),
        (
            {"modulation": np.zeros((1, 3, 3))},
            ValueError,
            r"modulation must have shape \(any, 2, 2",
        ),
        ({"modulation": [0, 1]}, ValueError, "modulation must have shape"),
        ({"modulation": np.full((2, 2), 0.5)}, ValueError, "modulation must hold only 0"),
        ({"modulation": [[0, 1], [0]]}, TypeError, "modulation must be an array of 0 and 1"),
        ({"inputs": [1, 0, 0]}, ValueError, r"inputs must have shape \(2, any\)"),
        ({"inputs": [1, 3]}, ValueError, "inputs must hold only 0"),
        ({"inputs": 1}, ValueError, "inputs must have shape"),
        ({"inputs": [[1], [0, 1]]}, TypeError, "inputs must be an array of 0 and 1"),
        (
            {"forward": None, "inputs": [[1], [0, 1]]},
            TypeError,
            "inputs must be an array of 0 and 1",
        ),
        (
            {"neural": "jr"},
            ValueError,
            "neural must be one of 'erp', 'cmc', 'lfp', 'nmda', 'laminar', got 'jr'",
        ),
        ({"neural": ["erp"]}, ValueError, "neural must be one of"),
        ({"observation": "eeg"}, ValueError, "observation must be one of 'ecd', 'img', 'lfp'"),
        ({"integrator": "ode"}, ValueError, "integrator must be one of 'local_linear', 'delayed'"),
        (
            {"neural": "laminar", "integrator": "local_linear"},
            ValueError,
            "'local_linear' cannot solve neural='laminar'.*give integrator='delayed'",
        ),
        ({"hanning": 1}, TypeError, "hanning must be True or False, got 1"),
        ({"n_modes": 0}, ValueError, "n_modes must be a whole number of at least 1, got 0"),
        ({"n_modes": 8.0}, ValueError, "n_modes must be a whole number"),
        ({"n_confounds": -1}, ValueError, "n_confounds must be a whole number of at least 0"),
        ({"onset": 60}, ValueError, "onset is 60 s; expected seconds.*milliseconds by 1000"),
        ({"duration": 16.0}, ValueError, "duration is 16 s; expected seconds"),
        ({"duration": 0.0}, ValueError, "duration must be above 0 s, got 0"),
        ({"onset": [0.06, 0.1]}, ValueError, r"onset must have shape \(1\).*got \(2,\)"),
        ({"onset": "60 ms"}, TypeError, "onset must be an array of numbers"),
        ({"onset": np.nan}, ValueError, "onset must be finite"),
        ({"source_names": ["A1"]}, ValueError, "source_names must be 2 different names"),
        ({"source_names": ["A1", "A1"]}, ValueError, "source_names must be 2 different names"),
        ({"source_names": "ab"}, TypeError, "source_names must be a list of strings"),
        ({"source_names": [1, 2]}, TypeError, "source_names must be a list of strings"),
        ({"position_variance": -1}, ValueError, "position_variance must be a number of at least 0"),
        ({"position_variance": 4.0}, ValueError, "position_variance must be 0 unless dipoles"),
        ({"observation": "ecd"}, ValueError, r"'ecd' needs positions, shape \(2, 3\), MNI.*mm"),
        ({"observation": "img"}, ValueError, "'img' needs positions"),
        (
            {"observation": "ecd", "positions": np.array(POSITIONS) / 1000},
            ValueError,
            "positions lie within 0.046 mm of the origin.*Multiply metres by 1000",
        ),
        (
            {"observation": "ecd", "positions": POSITIONS[:1]},
            ValueError,
            r"positions must have shape \(2, 3\).*got \(1, 3\)",
        ),
        ({"observation": "fixed"}, ValueError, r"'fixed' needs lead_field, shape \(channel, 2\)"),
        (
            {"observation": "fixed", "lead_field": np.zeros((2, 5))},
            ValueError,
            r"lead_field must have shape \(any, 2\).*got \(2, 5\)",
        ),
        ({"lead_field": np.eye(2)}, ValueError, "observation='lfp' takes no lead_field"),
        (
            {"observation": "ecd", "lead_field": np.zeros((2, 8))},
            ValueError,
            r"lead_field must have shape \(2, any, 3\)",
        ),
        (
            {"observation": "fixed", "lead_field": np.full((4, 2), np.nan)},
            ValueError,
            "lead_field must be finite",
        ),
        ({"modes": np.zeros(3)}, ValueError, "modes must have shape"),
    ],
)
def test_structures_are_checked(changes, kind, message):
    with pytest.raises(kind, match=message):
        build(**changes)


def surface(n=12):
    rng = np.random.default_rng(2)
    positions = 0.05 * rng.normal(size=(30, 3))
    normals = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    return SurfaceHead(positions, normals, rng.normal(size=(n, 30)))


def grid(n=12):
    axis = np.linspace(-0.06, 0.06, 7)
    positions = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return GridHead(positions, np.random.default_rng(3).normal(size=(n, len(positions), 3)))


@pytest.mark.parametrize(
    ("changes", "keywords", "message"),
    [
        ({}, {"n_conditions": 2}, "1 condition-specific effect.*but the model's modulation has 0"),
        (
            {"modulation": [FORWARD, FORWARD]},
            {},
            "data has 1 condition-specific effect.*modulation has 2",
        ),
        ({"modulation": FORWARD}, {"n_channels": 3}, "3 channels, but the model has 2 sources"),
        (
            {"modulation": FORWARD, "observation": "ecd", "positions": POSITIONS},
            {"n_channels": 12},
            "data.head is None, but observation='ecd' needs a head model",
        ),
        (
            {"modulation": FORWARD, "observation": "ecd", "positions": POSITIONS},
            {"n_channels": 12, "head": surface()},
            "'ecd' needs dipoles of free orientation, but data.head is SurfaceHead",
        ),
        (
            {"modulation": FORWARD, "observation": "img", "positions": POSITIONS},
            {"n_channels": 12, "head": sphere()},
            "'img' needs the lead field of a cortical surface, but data.head is SphereHead",
        ),
        (
            {"modulation": FORWARD, "observation": "fixed", "lead_field": np.ones((4, 2))},
            {"n_channels": 3},
            "lead_field is for 4 channels, but data has 3",
        ),
        (
            {"modulation": FORWARD, "modes": np.eye(3)},
            {},
            "modes is for 3 channels, but data has 2",
        ),
    ],
)
def test_data_are_checked(changes, keywords, message):
    model = build(**changes)
    with pytest.raises(ValueError, match=message):
        model.program(make_data(**keywords))


def test_data_of_another_kind_are_refused(model):
    with pytest.raises(TypeError, match="data must be EvokedData, got ndarray"):
        model.program(np.zeros((2, 3)))


def test_defaults():
    model = EvokedDCM(inputs=[1], observation="lfp")
    assert model.n_sources == 1 and model.n_inputs == 1 and model.n_effects == 0
    assert model.source_names == ("source 1",)
    two = build()
    assert two.inputs.tolist() == [[1], [0]]
    assert not two.backward.any() and not two.lateral.any() and two.modulation.shape == (0, 2, 2)
    assert two.onset.tolist() == [0.06] and two.duration.tolist() == [0.016]
    assert build(inputs=np.eye(2), onset=0.05).onset.tolist() == [0.05, 0.05]


def test_arrays_are_copied_and_read_only():
    forward = np.array(FORWARD)
    model = build(forward=forward)
    forward[0, 1] = 1
    assert model.forward.tolist() == FORWARD
    with pytest.raises(ValueError, match="read-only"):
        model.forward[0, 1] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.forward = forward


def test_equal_models_share_a_hash(model):
    equal = EvokedDCM(
        np.array(FORWARD, float), BACKWARD, modulation=[FORWARD], observation="lfp", onset=[0.06]
    )
    assert model == equal and hash(model) == hash(equal)
    assert pickle.loads(pickle.dumps(model)) == model
    for changes in (
        {"backward": None},
        {"neural": "lfp"},
        {"onset": 0.07},
        {"integrator": "delayed"},
        {"source_names": ["A1", "STG"]},
        {"one_sided": True},
    ):
        assert dataclasses.replace(model, **changes) != model
    assert model != 3


def test_repr(model):
    assert repr(model) == (
        "EvokedDCM(2 sources, ERP; connections: 1 forward, 1 backward, 0 lateral; 1 modulated; "
        "observation='lfp')"
    )
    one = EvokedDCM(inputs=[1], neural="nmda", observation="lfp", integrator="delayed")
    assert repr(one) == (
        "EvokedDCM(1 source, NMDA; connections: 0 forward, 0 backward, 0 lateral; 0 modulated; "
        "observation='lfp', integrator='delayed')"
    )


def test_the_default_integrator_is_that_of_the_neural_model():
    models = {name: EvokedDCM(inputs=[1], neural=name, observation="lfp") for name in NEURAL}
    integrators = {name: model.integrator for name, model in models.items()}
    assert integrators == dict.fromkeys(NEURAL, "local_linear") | {"laminar": "delayed"}


def test_restrict_switches_off(model):
    assert model.restrict() == model
    without = model.restrict(backward=0, modulation=np.zeros((2, 2)))
    assert without == EvokedDCM(FORWARD, modulation=np.zeros((1, 2, 2)), observation="lfp")
    assert model.restrict(forward=FORWARD, inputs=[1, 0]) == model
    assert without.n_effects == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lateral": FORWARD}, "lateral switches on 1 connection.*restrict can only switch off"),
        ({"inputs": [1, 1]}, "inputs switches on 1"),
        ({"forward": np.zeros((3, 3))}, r"forward must have shape \(2, 2\)"),
        ({"forward": [0, 0, 1, 0]}, r"forward must have shape \(2, 2\)"),
        ({"modulation": np.zeros((2, 2, 2))}, r"modulation must have shape \(1, 2, 2\)"),
        ({"forward": np.full((2, 2), 0.5)}, "forward must hold only 0"),
        ({"forward": 1}, "forward must have shape"),
    ],
)
def test_restrict_refuses(model, changes, message):
    with pytest.raises(ValueError, match=message):
        model.restrict(**changes)


def test_names_and_axes(data):
    named = build(modulation=FORWARD, source_names=["A1", "STG"])
    labels = named.labels(data)
    assert labels["A_free"] == ["A[forward, STG, A1]"]
    assert labels["B_free"] == ["B[deviant, STG, A1]"]
    assert labels["C_free"] == ["C[A1, input 1]"]
    assert labels["gain"] == ["gain[A1]", "gain[STG]"]
    assert labels["log_precision"] == ["log_precision"]
    dims, coords = named.dims(), named.coords(data)
    for prior in named.priors:
        assert dims[prior.name] == prior.dims
        assert tuple(len(coords[dim]) for dim in prior.dims) == np.shape(prior.mean), prior.name
    assert coords["condition"].tolist() == ["standard", "deviant"]
    np.testing.assert_array_equal(coords["time"], data.times)
    assert coords["mode"].tolist() == coords["channel"].tolist() == ["channel 1", "channel 2"]


# Prediction


@pytest.mark.slow
def test_conditions_differ_by_the_modulation(model, data, parameters):
    first, second = np.asarray(model.predict(parameters, data))
    assert np.abs(first[:, 1] - second[:, 1]).max() > 0.05 * np.abs(first[:, 1]).max()
    unmodulated = model.predict(parameters | {"B": np.zeros((1, 2, 2))}, data)
    np.testing.assert_allclose(unmodulated[0], first, rtol=0, atol=1e-12)
    np.testing.assert_allclose(unmodulated[1], first, rtol=0, atol=1e-12)


def test_a_gain_scales_one_channel(model, data, parameters):
    once = np.asarray(model.predict(parameters, data))
    twice = np.asarray(model.predict(parameters | {"gain": np.array([1.0, 2.0])}, data))
    np.testing.assert_allclose(twice, once * [1, 2], rtol=0, atol=1e-12 * np.abs(once).max())


def test_the_signal_sets_the_scale_only(model, data, parameters):
    """Predictions are in the units of the data."""
    small = data.replace(signal=1e-6 * data.signal)
    once, scaled = (np.asarray(model.predict(parameters, d)) for d in (data, small))
    np.testing.assert_allclose(scaled, 1e-6 * once, rtol=1e-9)


def test_source_activity(model, data, parameters):
    states = np.asarray(model.source_activity(parameters, data))
    assert states.shape == (2, 24, 2, 9)
    scale = model.channel_space(data).scale
    prediction = np.asarray(model.predict(parameters, data))
    np.testing.assert_allclose(states[..., 8], scale * prediction, rtol=0, atol=1e-10)


def test_parameters_are_checked(model, data, parameters):
    with pytest.raises(ValueError, match="time_constant"):
        model.predict({k: v for k, v in parameters.items() if k != "time_constant"}, data)
    with pytest.raises(ValueError, match="A"):
        model.predict(parameters | {"A": np.zeros((2, 2))}, data)


def test_what_is_fixed_may_be_left_out(model, data, parameters):
    """As the means of a fit do."""
    plain = model.restrict(modulation=0)
    assert not next(prior for prior in plain.priors if prior.name == "B").free.any()
    found = plain.predict({k: v for k, v in parameters.items() if k != "B"}, data)
    expected = plain.predict(parameters | {"B": np.zeros((1, 2, 2))}, data)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_predictions_are_traced_before_they_were_computed():
    """Lead fields and settings of the integrator are constants of a traced function."""
    head_data = make_data(12, head=sphere())
    model = build(modulation=FORWARD, observation="ecd", positions=POSITIONS, position_variance=4.0)
    parameters = {prior.name: jnp.asarray(prior.mean) for prior in model.priors}
    parameters["moment"] = jnp.ones((2, 3))
    traced = jax.jit(lambda p: model.predict(p, head_data))(parameters)
    np.testing.assert_allclose(traced, model.predict(parameters, head_data), rtol=1e-9)


def test_states_start_with_the_data(model, data, parameters):
    """Onsets are peristimulus times: data that start later see the peak sooner."""
    later = EvokedData(data.signal, data.times + 0.03)
    early = np.asarray(model.source_activity(parameters, data))[0, :, 0, 8]
    late = np.asarray(model.source_activity(parameters, later))[0, :, 0, 8]
    assert np.abs(early).argmax() - np.abs(late).argmax() == 3


# Simulation


def test_simulations_without_noise_are_predictions(model, data, parameters):
    made = model.simulate(parameters, data, seed=0)
    np.testing.assert_array_equal(made.signal, model.predict(parameters, data))
    assert made.condition_names == data.condition_names
    np.testing.assert_array_equal(made.times, data.times)


def test_seeds_and_snr(model, data, parameters):
    clean = np.asarray(model.predict(parameters, data))
    made = [model.simulate(parameters, data, seed=s, snr=5.0).signal for s in (1, 1, 2)]
    np.testing.assert_array_equal(made[0], made[1])
    assert np.abs(made[0] - made[2]).max() > 0
    for each in made:
        assert clean.std() / (each - clean).std() == pytest.approx(5.0, rel=1e-9)


@pytest.mark.parametrize("snr", [0, -1.0, np.inf, "high", True])
def test_snr_is_checked(model, data, parameters, snr):
    with pytest.raises(ValueError, match="snr must be a positive number or None"):
        model.simulate(parameters, data, seed=0, snr=snr)


def test_diverging_parameters_are_refused(model, data, parameters):
    with pytest.raises(ValueError, match="trajectory that diverges"):
        model.simulate(parameters | {"C": np.full((2, 1), 800.0)}, data, seed=0)


@pytest.mark.parametrize("correlated", [True, False])
def test_noise_has_the_precision_and_the_correlation_of_the_model(model, data, correlated):
    model = dataclasses.replace(model, temporal_correlation=correlated)
    space = model.channel_space(data)
    rng = np.random.default_rng(0)
    noise = np.stack([space.noise(rng, (2, 24, 2)) for _ in range(4000)])
    series = np.moveaxis(noise @ space.projection, 2, -1).reshape(-1, 24)
    precision = np.eye(24)
    if correlated:
        precision = 1.25 * precision - 0.5 * (np.eye(24, k=1) + np.eye(24, k=-1))
    covariance = series.T @ series / len(series)
    # 16000 series: a standard error of 1 % of the variance.
    np.testing.assert_allclose(covariance, np.linalg.inv(precision), rtol=0, atol=0.06)


def test_log_precision_gives_the_size_of_the_noise_in_modes(model, data, parameters):
    loud = parameters | {"log_precision": 2.0}
    space = model.channel_space(data)
    residual = np.concatenate(
        [model.simulate(loud, data, seed=s).signal - model.predict(loud, data) for s in range(40)]
    )
    scaled = residual @ space.projection * space.scale
    Q = 1.25 * np.eye(24) - 0.5 * (np.eye(24, k=1) + np.eye(24, k=-1))
    expected = np.exp(-2.0) * np.diag(np.linalg.inv(Q)).mean()
    assert (scaled**2).mean() == pytest.approx(expected, rel=0.1)


def test_noise_follows_a_noise_covariance():
    root = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 3.0]])
    noisy = make_data(3, noise_cov=root @ root.T)
    model = build(modulation=FORWARD, observation="fixed", lead_field=np.eye(3)[:, :2])
    space = model.channel_space(noisy)
    noise = space.noise(np.random.default_rng(0), (2, 24, 3 * 2000))[..., :3]
    draws = np.concatenate(
        [space.noise(np.random.default_rng(s), (2, 24, 3)).reshape(-1, 3) for s in range(400)]
    )
    correlation = np.corrcoef(draws.T)
    assert noise.shape == (2, 24, 3)
    np.testing.assert_allclose(correlation[0, 1], 0.8, atol=0.03)
    np.testing.assert_allclose(correlation[2, :2], 0, atol=0.03)
    assert draws[:, 2].std() / draws[:, 0].std() == pytest.approx(3, rel=0.05)


# Integrators


def test_true_delays_differ_from_their_expansion_by_a_few_percent(model, data, parameters):
    exact = dataclasses.replace(model, integrator="delayed")
    linear, delayed = (np.asarray(m.predict(parameters, data)) for m in (model, exact))
    difference = np.abs(linear - delayed).max() / np.abs(delayed).max()
    assert 0.005 < difference < 0.3


def test_delays_below_the_step_of_the_solver_give_nan(model, data, parameters):
    exact = dataclasses.replace(model, integrator="delayed")
    assert np.isfinite(exact.predict(parameters, data)).all()
    tiny = parameters | {"delay": np.array([[0.0, -6.0], [-6.0, 0.0]])}
    assert np.isnan(np.asarray(exact.predict(tiny, data))).any()
    assert np.isfinite(model.predict(tiny, data)).all()


def test_channels_that_are_named_as_other_sources_are_refused():
    model = EvokedDCM(FORWARD, BACKWARD, source_names=["A1", "STG"], observation="lfp")
    noise = np.random.default_rng(0).normal(size=(1, 30, 2))
    data = EvokedData(noise, np.arange(30) / 250, ["STG", "A1"])
    with pytest.raises(ValueError, match="channel 1 would be seen in source 'A1', but is named"):
        model.prepare(data)
    model.check(data.reordered(channel_names=["A1", "STG"]))
    model.check(data.replace(channel_names=["x", "y"]))


@pytest.mark.parametrize("neural", ["erp", "cmc", "lfp", "nmda"])
def test_facts_name_units_and_citations(neural):
    dipoles = EvokedDCM(forward=FORWARD, neural=neural, positions=POSITIONS).facts()
    assert (dipoles.kind, dipoles.node, dipoles.neural) == (
        "evoked responses",
        "source",
        neural.upper(),
    )
    assert Facts(**json.loads(json.dumps(dipoles.as_dict()))) == dipoles
    assert dipoles.unit("input_timing", (0, 0)) == "128 ms"
    assert dipoles.unit("position", (0, 0)) == "mm" and dipoles.unit("A") == "log scaling"
    assert len(dipoles.citations) == 2 + (neural != "erp")
    assert dipoles.gain[0] in {"synaptic_gain", "intrinsic"} and dipoles.populations
    model = EvokedDCM(forward=FORWARD, observation="lfp", integrator="delayed")
    assert len(model.facts().citations) == 1 and model.facts().wide_noise == ""
