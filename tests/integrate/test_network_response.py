"""The linear response of networks: against general solvers, closed forms and simulations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov
from scipy.signal import csd

from bayesdcm import (
    Connectome,
    Generic2dOscillator,
    Hopf,
    JansenRit,
    Linear,
    MontbrioPazoRoxin,
    NetworkModel,
    WholeBrainDCM,
    WilsonCowan,
    WongWang,
    WongWangEI,
)
from bayesdcm.integrate import LinearSystem, linear_system, stationary_covariance
from bayesdcm.integrate import transfer_functions as dense_transfer
from bayesdcm.integrate.network_response import (
    NetworkResponse,
    StationaryCovariance,
    check_network,
    network_system,
    network_transfer,
)
from bayesdcm.neural import Bilinear, OrnsteinUhlenbeck, White
from bayesdcm.neural.base import to_vector

WEIGHTS = np.array([[0, 0.4, 0.1], [0.2, 0, 0.6], [0.3, 0.1, 0]])
LENGTHS = np.array([[0, 40.0, 90], [60, 0, 20], [80, 110, 0]])
CONNECTOME = Connectome(WEIGHTS, LENGTHS)
# Nodes, with a strength at which rest is stable, and what couples them.
NODES = {
    "linear": (Linear(), 0.5, "additive"),
    "wong_wang": (WongWang(), 0.3, "additive"),
    "wong_wang_ei": (WongWangEI(), 0.2, "additive"),
    "wilson_cowan": (WilsonCowan(tau_E=10.0, tau_I=10.0), 0.3, "diffusive"),
    "hopf": (Hopf(a=-20.0), 0.5, "diffusive"),
    "jansen_rit": (JansenRit(p=400.0), 5.0, "sigmoidal_jansen_rit"),
    "montbrio_pazo_roxin": (MontbrioPazoRoxin(), 0.3, "additive"),
    "oscillator": (Generic2dOscillator(), 0.3, "diffusive"),
}
FREQUENCIES = jnp.array([0.5, 3.0, 10.0, 40.0])


def network(name, speed=4.0, noise=None):
    node, strength, coupling = NODES[name]
    noise = White(0.1) if noise is None else noise
    return NetworkModel(node, CONNECTOME, coupling, strength=strength, speed=speed, noise=noise)


def at_prior_mean(model):
    return {prior.name: jnp.asarray(prior.mean) for prior in model.priors()}


@pytest.mark.parametrize(
    ("name", "speed"), [("linear", None), ("linear", 4.0), *((n, 4.0) for n in [*NODES][1:])]
)
def test_transfer_is_that_of_all_states_together(name, speed):
    """With delays and, of the same linear systems, without."""
    model = network(name, speed)
    parts = model.network
    n, k = parts.n_nodes, len(parts.states)

    @jax.jit
    def both(parameters):
        system = network_system(parts, parameters)
        dense = linear_system(parts, parameters)
        entry = jnp.einsum("na,nj->anj", system.noise[0], jnp.eye(n)).reshape(n * k, n)
        seen = jax.vmap(to_vector)(jnp.einsum("na,nj->jna", system.seen, jnp.eye(n)))

        def pair(own, delays):
            whole = LinearSystem(dense.jacobian, delays, jnp.sqrt(2.0) * entry, dense.operator)
            return network_transfer(own, FREQUENCIES), seen @ dense_transfer(whole, FREQUENCIES)

        return pair(system, dense.delays), pair(system._replace(delays=None), None)

    for found, expected in both(at_prior_mean(model)):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


def test_two_signals_that_travel():
    """As with one: what is sent twice, of which one does nothing, changes nothing."""
    model = network("linear")

    @jax.jit
    def both(parameters):
        one = network_system(model.network, parameters)
        sent = jnp.concatenate([one.sent, jnp.zeros_like(one.sent)], 1)
        two = one._replace(sent=sent, entry=jnp.concatenate([one.entry] * 2, 2))
        return [network_transfer(system, FREQUENCIES) for system in (one, two)]

    expected, found = both(at_prior_mean(model))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_lyapunov_against_scipy():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(6, 6)) - 4 * np.eye(6)
    root = rng.normal(size=(6, 6))
    expected = solve_continuous_lyapunov(matrix, -root @ root.T)
    solve = jax.jit(stationary_covariance)
    np.testing.assert_allclose(solve(matrix, root @ root.T), expected, rtol=1e-9)
    assert np.isnan(solve(np.eye(6), np.eye(6))).all()


def test_derivatives_of_lyapunov():
    rng = np.random.default_rng(2)
    matrix, direction = rng.normal(size=(2, 4, 4)) - np.array([[[3.0]], [[0.0]]]) * np.eye(4)
    weights = rng.normal(size=(4, 4))

    def value(t):
        return (weights * stationary_covariance(matrix + t * direction, jnp.eye(4))).sum()

    @jax.jit
    def three(t):
        return value(t), jax.grad(value)(t), jax.jvp(value, (t,), (1.0,))[1]

    numeric = (three(1e-5)[0] - three(-1e-5)[0]) / 2e-5
    _, reverse, forward = three(0.0)
    np.testing.assert_allclose([reverse, forward], numeric, rtol=1e-6)


def covariance_and(other, model, parameters, points=256):
    """By one program, the covariance and another function of a network and its parameters."""
    solver = StationaryCovariance(points)
    arrays = solver.prepare(model.network, None, None, {})

    @jax.jit
    def both(parameters):
        found = solver.solve(model.network, None, parameters, arrays)
        return found, other(model.network, parameters)

    return both(parameters)


def covariance(model, parameters, points=256):
    return covariance_and(lambda *_: None, model, parameters, points)[0]


def test_spectra_add_up_to_the_covariance():
    """Noise that decays at once is white: with it, spectra are added up."""
    white = network("linear", None)
    expected = covariance(white, at_prior_mean(white))
    power = 0.1**2 / (2 * 1e-5) / 100
    fast = network("linear", 1e6, OrnsteinUhlenbeck(np.sqrt(power), 1e-5))
    # The noise enters by the afferent, times 1 / tau.
    np.testing.assert_allclose(
        covariance(fast, at_prior_mean(fast), 2048), 1e2 / 1e2 * expected, rtol=2e-2
    )


def test_units_of_states_do_not_matter():
    """Second-order states have rates of change that are much larger than their values."""
    model = network("jansen_rit", None)
    parameters = at_prior_mean(model)
    found, system = covariance_and(network_system, model, parameters)
    n, k, _ = system.entry.shape
    power = np.einsum("na,nb,nm->namb", system.noise[0], system.noise[0], np.eye(n))
    whole = solve_continuous_lyapunov(system.matrix(), -power.reshape(n * k, n * k))
    expected = np.einsum("na,namb,mb->nm", system.seen, whole.reshape(n, k, n, k), system.seen)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # By spectra, as with delays.
    far = network("jansen_rit", 1e6)
    np.testing.assert_allclose(covariance(far, at_prior_mean(far)), expected, rtol=1e-3)


def test_coloured_noise_in_closed_form():
    """One region: the variance of a filtered Ornstein-Uhlenbeck process."""
    sd, tau, own = 0.3, 0.05, 0.1
    model = NetworkModel(
        *(Linear(), [[0.0, 0.0], [1e-300, 0.0]], "additive"),
        speed=None,
        noise=OrnsteinUhlenbeck(sd, tau),
    )
    found = covariance(model, at_prior_mean(model))
    np.testing.assert_allclose(np.diagonal(found), sd**2 * tau / (tau + own), rtol=1e-6)


@pytest.mark.parametrize("speed", [None, 0.01])
def test_narrow_resonances_add_up(speed):
    """Beside the sum of spectra over even frequencies, of which a hundred lie in a resonance."""
    noise = OrnsteinUhlenbeck(0.1, 1.0)
    options = {"node": Hopf(a=-0.02), "noise": noise, "strength": 0.005, "speed": speed}
    model = WholeBrainDCM(CONNECTOME, **options)
    frequencies = np.linspace(0, 2, 40_001)[1:]
    step, spectra = frequencies[0], np.asarray(model.cross_spectra({}, frequencies))
    for lag in (None, 25.0, -25.0):
        turns = np.exp(2j * np.pi * frequencies * (lag or 0))
        expected = (spectra * turns[:, None, None]).real.sum(0) * step
        found = np.asarray(model.covariance({}, lag=lag))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * model.covariance({}).max())


def test_next_to_where_rest_is_unstable_nothing_is_told():
    """Of networks with delays: what decays more slowly than points tell gives no number."""
    pair = NetworkModel(Linear(), 1 - np.eye(2), "additive", strength=1.0, noise=White(0.1),
                        speed=None).network  # fmt: skip
    pair = replace(pair, lengths=1e-6 * (1 - np.eye(2)), speed=4.0)
    solver = StationaryCovariance(128)
    arrays = solver.prepare(pair, None, None, {})
    solve = jax.jit(lambda p: solver.solve(pair, None, p, arrays))
    means = {prior.name: jnp.asarray(prior.mean) for prior in pair.priors()}
    for away in (0.3, 0.05, 0.01, 0.003, 0.001):
        found = float(solve(means | {"strength": jnp.log(1 - away)})[0, 0])
        expected = 0.1**2 * 0.1 / 2 / (1 - (1 - away) ** 2)
        assert np.isnan(found) if away < 0.004 else found == pytest.approx(expected, rel=0.05)


def test_resonances_that_are_too_narrow_are_named():
    model = WholeBrainDCM(
        CONNECTOME, node=Hopf(a=-5e-4), noise=White(0.1), strength=1e-4, speed=0.01
    )
    with pytest.warns(
        UserWarning, match="resonates at 0.05 Hz and is damped by no more than 0.000499"
    ):
        model.covariance({})
    decaying = WholeBrainDCM(CONNECTOME, strength=0.5, speed=4.0)
    with pytest.warns(UserWarning, match="the lag of 1000 s is long"):
        decaying.covariance({}, lag=1000.0)


def test_derivative_by_the_speed():
    model = network("wilson_cowan")
    parameters = at_prior_mean(model)

    def value(speed):
        transfer = network_transfer(
            network_system(model.network, parameters | {"speed": speed}), FREQUENCIES
        )
        return jnp.abs(transfer[:, 0]).sum()

    @jax.jit
    def three(speed):
        found, tangent = jax.linearize(value, speed)
        return found, tangent(1.0), jax.linear_transpose(tangent, speed)(1.0)[0]

    # Of sixth order, which allows steps that rounding does not reach.
    step, weights = 0.02, (0.75, -0.15, 1 / 60)
    differences = [three((i + 1) * step)[0] - three(-(i + 1) * step)[0] for i in range(3)]
    numeric = np.dot(weights, differences) / step
    _, forward, reverse = three(0.0)
    np.testing.assert_allclose(reverse, numeric, rtol=1e-6)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)


def test_unstable_rest_is_not_finite():
    model = NetworkModel(Linear(), WEIGHTS, "additive", strength=10.0, speed=None, noise=White(1.0))
    arrays = {"frequencies": FREQUENCIES, "tracts": {}}

    def response(parts, parameters):
        return NetworkResponse().solve(parts, _NoStates(), parameters, arrays)

    found, transfer = covariance_and(response, model, at_prior_mean(model))
    assert np.isnan(found).all() and not np.isfinite(transfer).any()


class _NoStates:
    states = ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "seconds", "dt"),
    [
        ("linear", 0.1, 400.0, 1e-3),
        ("hopf", 0.1, 100.0, 2e-4),
        # One without and one with a turn are above.
        pytest.param("jansen_rit", 0.003, 100.0, 2e-4, marks=pytest.mark.exhaustive),
        pytest.param("wong_wang", 0.01, 400.0, 1e-3, marks=pytest.mark.exhaustive),
        pytest.param("wilson_cowan", 0.01, 100.0, 2e-4, marks=pytest.mark.exhaustive),
        pytest.param("montbrio_pazo_roxin", 0.003, 100.0, 2e-4, marks=pytest.mark.exhaustive),
        pytest.param("wong_wang_ei", 0.003, 400.0, 5e-4, marks=pytest.mark.exhaustive),
        pytest.param("oscillator", 0.003, 100.0, 2e-4, marks=pytest.mark.exhaustive),
    ],
)
def test_simulations(name, size, seconds, dt):
    model = network(name, noise=White(size))
    observed = model.network.activity
    series = model.simulate(
        seconds,
        dt,
        seed=range(4),
        transient=5.0,
        record=[observed],
        sampling_interval=1e-3,
        progress=False,
    )[observed].to_numpy()
    # Spectra in octaves, by Welch's method with segments of 4 s.
    signals = series.swapaxes(1, 2)
    at, estimated = csd(signals[:, None], signals[:, :, None], fs=1e3, nperseg=4000)
    at, estimated = at[at < 32], estimated[..., at < 32]

    def response(parts, parameters):
        return network_transfer(network_system(parts, parameters), at)

    expected, transfer = jax.tree.map(
        np.asarray, covariance_and(response, model, at_prior_mean(model))
    )
    found = np.array([np.cov(each.T) for each in series])
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    scale = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    # Eight standard errors, of four runs; and what means over 1 ms and steps leave out.
    assert (np.abs(found.mean(0) - expected) < 8 * error + 0.03 * scale).all()
    spectra = transfer @ transfer.conj().mT
    for low in (1, 2, 4, 8, 16):
        band = (at >= low) & (at < 2 * low)
        expected = spectra[band].mean(0)
        power = np.diagonal(expected).real
        error = np.sqrt(np.outer(power, power) / (seconds * band.sum()))
        difference = np.abs(estimated[..., band].mean((0, -1)) - expected)
        assert (difference < 4.5 * error + 0.03 * np.sqrt(np.outer(power, power))).all()


def test_errors():
    with pytest.raises(ValueError, match="noise is None, but without noise nothing fluctuates"):
        check_network(NetworkModel(Linear(), WEIGHTS, speed=None).network)
    with pytest.raises(TypeError, match="neural must be a network, got Bilinear"):
        check_network(Bilinear(np.eye(1), np.zeros((0, 1, 1)), np.zeros((1, 0))))
    with pytest.raises(ValueError, match="points is 2; expected at least 8"):
        StationaryCovariance(2)
