from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from bayesdcm import NetworkModel, functional_connectivity, load_connectome, power_spectrum
from bayesdcm.models import network_batch, network_run
from bayesdcm.neural import (
    Diffusive,
    Kuramoto,
    KuramotoCoupling,
    NodeModel,
    OrnsteinUhlenbeck,
    Prior,
    Tanh,
    White,
    WilsonCowan,
)
from bayesdcm.observe import (
    StreamedCorrelation,
    StreamedSpectrum,
    WindowMeans,
    matrix_correlation,
)

REFERENCE = Path(__file__).parents[1] / "data" / "network_delays.npz"
ENDS = ("E", "I_E")


@dataclass(frozen=True)
class Wires:
    weights: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Leaky(NodeModel):
    """dx/dt = input - x / 10 ms: everything about it is known in closed form."""

    states = ("x",)
    signals = ("x",)
    afferents = ("input",)

    def priors(self):
        return (Prior("rate", (), np.zeros(()), np.full((), 1 / 16), "log scaling"),)

    def rest(self, parameters=None):
        return np.zeros((1, 1))

    def sent(self, x, parameters):
        return x.T

    def received(self, sent, parameters):
        return jnp.zeros_like(sent)

    def local(self, x, received, u, parameters):
        return received.T - 100 * jnp.exp(parameters["rate"]) * x


def wires(regions=4, shortest=12.0, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.random((regions, regions)) * (rng.random((regions, regions)) < 0.7)
    np.fill_diagonal(weights, 0)
    return Wires(weights, rng.uniform(shortest, 40.0, (regions, regions)))


@cache
def driven(**options):
    noise = (OrnsteinUhlenbeck(0.3, 5e-3), White(0.2))
    return NetworkModel(WilsonCowan(), wires(), coupled=ENDS, strength=1.5, noise=noise, **options)


@pytest.mark.parametrize("name", ["diffusive", "additive", "fractional"])
def test_delays_are_those_of_the_reference(name):
    with np.load(REFERENCE) as file:
        case = {key.split("/")[1]: file[key] for key in file.files if key.startswith(name)}
    speed = 7.3 if name == "fractional" else 10.0
    whole = np.ceil(case["dist"] / speed / 0.1 - 1e-9) * 0.1 * speed
    coupling = "additive" if name == "additive" else "diffusive"
    model = NetworkModel(
        *(WilsonCowan(), Wires(case["W"], whole), coupling, ENDS),
        **{"strength": 0.8, "speed": speed, "scheme": "exponential_euler"},
    )
    start = np.stack([case["rE0"], case["rI0"]], axis=1)
    result = model.simulate(0.04, start=start, history=np.full(4, 0.05))
    np.testing.assert_allclose(result.E, case["rE"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.I, case["rI"], rtol=0, atol=1e-12)
    assert result.E.dims == ("time", "region")
    assert float(result.time[-1]) == pytest.approx(0.04)
    assert result.time.attrs["units"] == "s"


def by_hand(model, steps, step, start):
    """Heun steps with interpolated delays, one connection at a time."""
    network = model.network
    own = network.constants({p.name: jnp.asarray(p.mean) for p in network.priors()})
    delays = np.asarray(network.lengths) * 1e-3 / network.speed / step
    whole = np.floor(delays).astype(int)
    x, sent, series = jnp.asarray(start), [], []
    for n in range(steps):
        sent.append(np.asarray(network.send(x, own)))
        sums = np.zeros_like(sent[0])
        for to, of in zip(*np.nonzero(network.weights), strict=True):
            part = delays[to, of] - whole[to, of]
            new, old = (sent[max(n - whole[to, of] - k, 0)][:, of] for k in (0, 1))
            sums[:, to] += network.weights[to, of] * ((1 - part) * new + part * old)
        received = network.received(x, sums, own, network.weights.sum(1), {})
        first = network.node.local(x, received, None, own)
        second = network.node.local(x + step * first, received, None, own)
        x = x + step / 2 * (first + second)
        series.append(x)
    return np.stack(series)


@pytest.mark.parametrize(
    ("coupling", "regions", "shortest"),
    [("additive", 12, 0.0), (Tanh(), 4, 2.0), (KuramotoCoupling(), 4, 5.0), ("diffusive", 3, 36.0)],
)
def test_blocks_of_steps_are_the_sum_at_each_step(coupling, regions, shortest):
    # Lengths from 0: blocks of 12, within them of 1 for short ones; the longest: blocks of 24.
    model = NetworkModel(WilsonCowan(), wires(regions, shortest), coupling, ENDS, strength=0.5)
    start = np.random.default_rng(1).uniform(0, 0.5, (regions, 2))
    result = model.simulate(9.7e-3, start=start)
    expected = by_hand(model, 97, 1e-4, start)
    np.testing.assert_allclose(result.E, expected[:, :, 0], rtol=0, atol=1e-13)


def test_phases_are_coupled_by_the_sine_of_their_differences_if_not_told_otherwise():
    weights = wires(4).weights
    assert NetworkModel(Kuramoto(), weights, speed=None).network.coupling == KuramotoCoupling()
    assert NetworkModel(WilsonCowan(), weights, speed=None).network.coupling == Diffusive()
    told = NetworkModel(Kuramoto(), weights, "diffusive", speed=None)
    assert told.network.coupling == Diffusive()


def test_without_delays_a_step_is_along_the_flow():
    weights = wires(5).weights
    model = NetworkModel(WilsonCowan(), weights, coupled=ENDS, speed=None, scheme="euler")
    start = np.random.default_rng(1).uniform(0, 0.5, (5, 2))
    result = model.simulate(1e-4, start=start)
    at = {prior.name: jnp.asarray(prior.mean) for prior in model.priors()}
    expected = start + 1e-4 * model.network.flow(start, jnp.zeros(0), at)
    np.testing.assert_allclose(result.E[0], expected[:, 0], rtol=1e-13)
    assert model.network.delays(at) is None
    delays = driven().network.delays({"speed": jnp.log(2.0)})
    np.testing.assert_allclose(delays[:4, 4:], wires().lengths * 1e-3 / 20, rtol=1e-14)


@pytest.mark.slow
def test_derivatives_through_delays_are_those_of_differences(monkeypatch):
    # Several stretches, a transient, an observer; one parameter differs between regions.
    monkeypatch.setattr(network_run, "STRETCH_STEPS", (64, 64))
    model = driven(regional=("w_EE",))
    names = ("strength", "speed", "w_EE", "tau_E", "noise_sd", "noise_tau", "noise_intensity")
    shapes = {prior.name: np.shape(prior.mean) for prior in model.priors()}
    at = {name: np.zeros(shapes[name]) for name in names}

    def loss(values, derivative="reverse"):
        options = {"transient": 3.3e-3, "derivative": derivative, "record": ("E", "I")}
        result = model.run(values, 3, 0.017, observers=(StreamedCorrelation(),), **options)
        seen = result["functional_connectivity"][0, 1:] @ jnp.array([0.2, 0.3, -0.4])
        return jnp.mean(result["E"] ** 2) + 0.1 * result["I"][-1].sum() + seen

    both = jax.jit(jax.value_and_grad(loss))
    _, reverse = both(at)
    forward = jax.jit(jax.jacfwd(lambda values: loss(values, "forward")))(at)
    for name in names:
        step = np.zeros(shapes[name])
        step[(0,) * step.ndim] = 1e-5
        up, down = (both(at | {name: moved})[0] for moved in (step, -step))
        difference = float(up - down) / 2e-5
        assert float(np.ravel(reverse[name])[0]) == pytest.approx(difference, rel=1e-6, abs=1e-9)
        np.testing.assert_allclose(reverse[name], forward[name], rtol=1e-10, atol=1e-13)


def test_speed_beyond_its_range_gives_no_numbers():
    run = jax.jit(lambda speed: driven().run({"speed": speed}, 0, 2e-3)["E"][-1, 0])
    assert np.isfinite(run(jnp.log(1.9)))
    assert np.isnan(run(jnp.log(9.0)))


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("step", [1e-5, pytest.param(1e-4, marks=pytest.mark.exhaustive), 5e-4])
def test_noise_has_the_same_size_in_any_step(step):
    # Coloured noise into a leaky node, and white noise: the variances are known.
    node, tau, sd, intensity = Leaky(), 5e-3, 30.0, 2.0
    wiring = np.zeros((400, 400))
    noise = (OrnsteinUhlenbeck(sd, tau), White(intensity))
    model = NetworkModel(node, wiring, "additive", speed=None, noise=noise)
    result = model.simulate(0.1, step, transient=0.1, seed=1, sampling_interval=step)
    memory = 1 / 100
    variance = sd**2 * memory**2 * tau / (tau + memory) + intensity**2 * memory / 2
    assert float(result.x.var()) == pytest.approx(variance, rel=0.06)


@pytest.mark.parametrize(
    ("scheme", "ratio"),
    [
        ("heun", 0.9974),
        ("exponential_euler", 0.9992),
        pytest.param("euler", 0.2 / 0.19, marks=pytest.mark.exhaustive),
        pytest.param("rk4", 0.9992, marks=pytest.mark.exhaustive),
    ],
)
def test_white_noise_has_its_size_in_long_steps(scheme, ratio):
    """A tenth of the time constant: noise that is added after each step is a tenth too large."""
    model = NetworkModel(
        Leaky(), np.zeros((400, 400)), "additive", speed=None, noise=White(2.0), scheme=scheme
    )
    result = model.simulate(2.0, 1e-3, transient=0.1, seed=1, sampling_interval=1e-3)
    # Five standard errors of some 80,000 independent values.
    assert float(result.x.var()) == pytest.approx(ratio * 2.0**2 * 0.01 / 2, rel=0.025)


@dataclass(frozen=True)
class Pair(Leaky):
    states = ("x", "y")
    afferents = ("input", "other")

    def rest(self, parameters=None):
        return np.zeros((1, 2))

    def sent(self, x, parameters):
        return x[:, :1].T

    def received(self, sent, parameters):
        return jnp.zeros((2, sent.shape[1]))


def test_noise_into_two_afferents_is_independent():
    noise = OrnsteinUhlenbeck(30.0, 5e-3, into=("input", "other"))
    model = NetworkModel(Pair(), np.zeros((400, 400)), speed=None, noise=noise)
    result = model.simulate(5e-3, 5e-4, transient=0.1)
    assert float(result.x.std() / result.y.std()) == pytest.approx(1, rel=0.15)
    assert abs(np.corrcoef(result.x[-1], result.y[-1])[0, 1]) < 0.15


def test_seeds_parameters_and_batches_share_one_program():
    model = driven()
    both = model.parameters(strength=[1.0, 2.0, 0.5])
    before = network_batch._stretch._cache_size()
    many = model.simulate(0.01, parameters=both, seed=[5, 6, 7], record=("E",))
    again = model.simulate(
        0.01, parameters=model.parameters(strength=[1.0, 1.0, 3.0]), seed=1, record=("E",)
    )
    # Nor does a model of other numbers need another program.
    other = NetworkModel(WilsonCowan(), wires(), coupled=ENDS, strength=0.2, noise=model.noise)
    other.simulate(0.01, seed=2, parameters=both, record=("E",))
    assert network_batch._stretch._cache_size() - before == 1
    assert many.E.dims == ("simulation", "time", "region")
    assert again.E.shape == (3, 100, 4)
    for i, seed in enumerate([5, 6, 7]):
        single = {name: value[i] for name, value in both.items()}
        alone = model.simulate(0.01, parameters=single, seed=seed, record=("E",))
        np.testing.assert_allclose(many.E[i], alone.E, rtol=0, atol=1e-14)


def test_runs_side_by_side_are_those_alone():
    model = driven()
    speeds, keys = jnp.log(jnp.array([0.8, 1.3])), jax.random.split(jax.random.key(0))

    def series(speed, key):
        return model.run({"speed": speed}, key, 5e-3)["E"]

    both = jax.jit(jax.vmap(series))(speeds, keys)
    one = jax.jit(series)
    for which in range(2):
        alone = one(speeds[which], keys[which])
        np.testing.assert_allclose(both[which], alone, rtol=0, atol=1e-14)


def test_chunks_are_as_large_as_the_memory_allows():
    model, observers = driven(), (StreamedCorrelation(),)
    whole = model.simulate(0.01, seed=range(5), observers=observers)
    parts = model.simulate(0.01, seed=range(5), observers=observers, memory=1)
    np.testing.assert_allclose(
        whole.functional_connectivity, parts.functional_connectivity, rtol=0, atol=1e-12
    )
    assert list(whole.data_vars) == ["functional_connectivity"]


def test_streams_are_what_the_series_give(monkeypatch):
    model = driven()
    whole = model.simulate(0.05, transient=0.003, seed=2)
    means = WindowMeans(0.7e-3, of="I", name="slow")
    # The same seed gives the same numbers, however a run is divided.
    monkeypatch.setattr(network_run, "STRETCH_STEPS", (128, 128))
    streams = model.simulate(
        0.05, transient=0.003, seed=2, observers=(StreamedCorrelation(), means)
    )
    np.testing.assert_allclose(
        streams.functional_connectivity, np.corrcoef(whole.E.values.T), rtol=0, atol=1e-12
    )
    expected = whole.I.values[: 71 * 7].reshape(71, 7, 4).mean(1)
    np.testing.assert_allclose(streams.slow, expected, rtol=0, atol=1e-13)
    assert float(streams.time[0]) == pytest.approx(0.7e-3)


def test_measures_of_the_bundled_connectome_are_streamed_and_differentiable():
    connectome = load_connectome("example")
    model = NetworkModel(WilsonCowan(), connectome, noise=OrnsteinUhlenbeck(0.5, 0.01, "I_E"))
    streams = (StreamedCorrelation(of="E"), StreamedSpectrum(0.1, of="E"))
    found = model.simulate(0.5, 1e-3, observers=streams, record=["E"])
    np.testing.assert_allclose(
        found.functional_connectivity, functional_connectivity(found.E), atol=1e-12
    )
    spectrum = power_spectrum(found.E, segment=0.1)
    xr.testing.assert_allclose(
        found.power_spectrum.drop_attrs(), spectrum.transpose(*found.power_spectrum.dims)
    )
    assert found.region.values.tolist() == list(connectome.region_names)

    @jax.jit
    def score(strength):
        series = model.run({"strength": strength}, 0, 0.1, 1e-3, derivative="forward")["E"]
        fc = functional_connectivity(series)
        return matrix_correlation(fc, connectome.functional_connectivity)

    step = 1e-7
    difference = (score(step) - score(-step)) / (2 * step)
    derivative = jax.jvp(score, (0.0,), (1.0,))[1]
    assert float(derivative) == pytest.approx(float(difference), rel=1e-6)


def test_stimuli_and_history_arrive_on_time():
    # One sender, 10 ms away; a pulse into the sender, and what was sent before time 0.
    wiring = Wires(np.array([[0, 0], [1.0, 0]]), np.array([[0, 0], [100.0, 0]]))
    model = NetworkModel(Leaky(), wiring, "additive", scheme="euler", strength=2.0)
    pulse = np.zeros((300, 2))
    pulse[50] = [1.0, 0]
    result = model.simulate(0.03, stimulus={"input": pulse})
    first = np.flatnonzero(result.x.values.T[1])[0]
    assert first == 50 + 1 + 100
    assert float(result.x[first, 1]) == pytest.approx(2.0 * 1e-8)
    before = np.zeros((101, 2))
    before[0, 0] = 3.0
    remembered = model.simulate(1e-3, history=before)
    assert float(remembered.x[0, 1]) == pytest.approx(2.0 * 3.0 * 1e-4)


def test_parameters_differ_by_region_group_and_map():
    labels, gradient = np.array(["a", "b", "a", "b"]), np.array([0.0, 1.0, 2.0, 3.0])
    spread = {"w_EE": labels, "tau_E": gradient, "strength": "free"}
    model = NetworkModel(WilsonCowan(), wires(), coupled=ENDS, regional=spread)
    priors = {prior.name: prior for prior in model.priors()}
    assert priors["w_EE"].dims == ("group of w_EE",)
    assert priors["tau_E_by_map"].dims == ("map of tau_E",)
    assert priors["strength"].mean.shape == (4,)
    values = {"w_EE": jnp.array([0.1, 0.2]), "tau_E": 0.5, "tau_E_by_map": jnp.array([0.1])}
    own = model.network.by_region(values)
    np.testing.assert_allclose(own["w_EE"], [0.1, 0.2, 0.1, 0.2])
    np.testing.assert_allclose(own["tau_E"], [0.5, 0.6, 0.7, 0.8])
    given = {"strength": np.log([1.0, 2.0, 1.0, 1.0]), "w_EE": np.zeros(2)}
    assert np.isfinite(model.simulate(1e-3, parameters=given).E).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coupling": "linear"}, "coupling names 'linear'; expected one of additive, diffusive"),
        ({"coupled": ("E", "P")}, "where it arrives.* names 'P'; expected one of I_E, I_I"),
        ({"speed": -1.0}, "speed is -1.0; expected a positive number"),
        ({"scheme": "rk5"}, "scheme names 'rk5'; expected one of euler, heun"),
        ({"noise": White(0.1, into="I_E")}, "noise .into. names 'I_E'; expected one of E, I"),
        ({"noise": OrnsteinUhlenbeck(-1, 0.1)}, "noise has sd below"),
        ({"regional": ("speed",)}, "'speed', which cannot differ between regions"),
        ({"strength": np.ones(3)}, "strength is array.*expected a finite number, or one a region"),
    ],
)
def test_what_a_model_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        NetworkModel(WilsonCowan(), wires(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 1.05e-4}, "duration is 0.000105 s; expected a whole number of steps"),
        ({"parameters": {"gain": 1.0}}, "parameters names 'gain'; expected one of tau_E"),
        ({"parameters": {"speed": np.ones((2, 2))}}, r"shape \(2, 2\); expected \(\), or one more"),
        ({"record": ("V",)}, "record names 'V'; expected one of E, I"),
        ({"sampling_interval": 1.0}, "interval is 1 s, but the series lasts 0.001 s; expected"),
        ({"start": [0.0]}, r"start has shape \(1,\); expected \(2,\) or \(4, 2\)"),
        ({"history": np.ones(3)}, r"history has shape \(3,\); expected \(4,\)"),
        ({"stimulus": {"I_E": np.ones(3)}}, r"stimulus\['I_E'\] has shape \(3,\)"),
        ({"seed": 1.5}, "seed is 1.5; expected an integer"),
        ({"sampling_interval": 2.5e-4}, "interval is 0.00025 s; expected a whole number"),
    ],
)
def test_what_a_simulation_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        driven().simulate(**({"duration": 1e-3} | options))


def test_a_result_beyond_the_memory_is_refused_before_work(monkeypatch):
    monkeypatch.setattr(network_batch, "physical_memory", lambda: 1000.0)
    with pytest.raises(ValueError, match=r"1000 steps of E, I in 4 regions: .* duration and step"):
        driven().simulate(0.1)
    with pytest.raises(ValueError, match=r"4 regions, of 3 simulations: .* sampling_interval"):
        driven().simulate(0.1, seed=[0, 1, 2])


@pytest.mark.parametrize("node", ["wilson_cowan", WilsonCowan])
def test_a_node_is_an_object(node):
    with pytest.raises(TypeError, match="node must be a node such as Linear.*, got"):
        NetworkModel(node, np.ones((2, 2)), speed=None)


def test_a_connectome_is_no_name_of_a_file():
    with pytest.raises(TypeError, match="connectome must be .*, got 'w.csv'; .*from_csv reads"):
        NetworkModel(WilsonCowan(), "w.csv")


def test_speed_needs_lengths():
    with pytest.raises(ValueError, match="connectome has no lengths.*speed=None"):
        NetworkModel(WilsonCowan(), np.ones((2, 2)))


def test_a_trajectory_that_diverges_is_told():
    model = NetworkModel(Leaky(), np.array([[0, 1.0], [1.0, 0]]), "additive", speed=None)
    with pytest.raises(ValueError, match="the trajectory diverges; take a shorter step"):
        model.simulate(1000.0, 1.0, start=[[1.0], [1.0]])
