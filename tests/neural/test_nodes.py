"""Nodes of networks: against another program's arrays, and against the published equations."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy import exp, pi

import bayesdcm
from bayesdcm.integrate.one_step import SCHEMES
from bayesdcm.neural import (
    CMC,
    ERP,
    LFP,
    NMDA,
    Generic2dOscillator,
    Hopf,
    JansenRit,
    Kuramoto,
    Linear,
    MontbrioPazoRoxin,
    NetworkNode,
    WilsonCowan,
    WongWang,
    WongWangEI,
    constant,
)
from bayesdcm.neural.roots import lowest_root

ARRAYS = np.load(Path(__file__).parents[1] / "data" / "nodes.npz")
NOTHING = jnp.zeros(0)


def follow(node, scheme, start, received, step=1e-4):
    """States after each step, (steps, nodes, states)."""
    constants = node.constants(None)

    def advance(x, row):
        x = SCHEMES[scheme](lambda x: node.local(x, row, NOTHING, constants), x, step)
        return x, x

    return jax.lax.scan(advance, jnp.asarray(start), jnp.asarray(received))[1]


@pytest.mark.parametrize("case", sorted(n[:-7] for n in ARRAYS if n.endswith("states")))
def test_nodes_and_schemes_give_the_arrays_of_another_program(case):
    name, scheme = case.split("/")
    node = {"WilsonCowan": WilsonCowan(), "JansenRit": JansenRit(p=0.0)}[name]
    states = follow(node, scheme, ARRAYS[f"{case}/start"], ARRAYS[f"{name}/received"])
    np.testing.assert_allclose(states, ARRAYS[f"{case}/states"], rtol=1e-12, atol=1e-10)


def s(v):
    return 1 / (1 + exp(-v))


def wilson_cowan(x, received, p):
    (E, i), (I_E, I_I) = x.T, received

    def F(v, a, theta):
        return s(a * (v - theta)) - s(-a * theta)

    into_E = F(p.w_EE * E - p.w_IE * i + I_E, p.a_E, p.theta_E)
    into_I = F(p.w_EI * E - p.w_II * i + I_I, p.a_I, p.theta_I)
    return [
        1e3 / p.tau_E * (-E + (1 - p.r * E) * into_E),
        1e3 / p.tau_I * (-i + (1 - p.r * i) * into_I),
    ]


def jansen_rit(x, received, p):
    (M, E, i, M_rate, E_rate, I_rate), (u_M, u_E, u_I) = x.T, received

    def S(v):
        return p.s_max / (1 + exp(p.r * (p.v_0 - v)))

    E_drive = p.p + u_E + p.C * p.a_2 * S(p.C * p.a_1 * M)
    I_drive = p.C * p.a_4 * S(p.C * p.a_3 * M + u_I)
    return [
        M_rate,
        E_rate,
        I_rate,
        p.A_e * p.b_e * S(E - i + u_M) - 2 * p.b_e * M_rate - p.b_e**2 * M,
        p.A_e * p.b_e * E_drive - 2 * p.b_e * E_rate - p.b_e**2 * E,
        p.A_i * p.b_i * I_drive - 2 * p.b_i * I_rate - p.b_i**2 * i,
    ]


def montbrio(x, received, p):
    (r, v), (current,) = x.T, received
    return [
        1e3 / p.tau * (p.Delta / pi + 2 * r * v),
        1e3 / p.tau * (v**2 + p.eta + p.J * r + current - pi**2 * r**2),
    ]


def hopf(x, received, p):
    z = x[:, 0] + 1j * x[:, 1]
    rate = (p.a + 2j * pi * p.frequency) * z - np.abs(z) ** 2 * z + received[0] + 1j * received[1]
    return [rate.real, rate.imag]


def H(current, a, b, d):
    return (a * current - b) / (1 - exp(-d * (a * current - b)))


def wong_wang(x, received, p):
    (S,), (S_in, current) = x.T, received
    rate = H(p.w * p.J_N * S + p.J_N * S_in + p.I_0 + current, p.a, p.b, p.d)
    return [-1e3 * S / p.tau_S + (1 - S) * p.gamma * rate]


def wong_wang_ei(x, received, p):
    (S_E, S_I), (S_in, I_E, I_I) = x.T, received
    excitatory = p.W_E * p.I_0 + p.w_p * p.J_NMDA * S_E + p.J_NMDA * S_in - p.J_i * S_I + I_E
    inhibitory = p.W_I * p.I_0 + p.J_NMDA * S_E - S_I + p.lambda_I * p.J_NMDA * S_in + I_I
    rate_E, rate_I = H(excitatory, p.a_E, p.b_E, p.d_E), H(inhibitory, p.a_I, p.b_I, p.d_I)
    return [-1e3 * S_E / p.tau_E + (1 - S_E) * p.gamma * rate_E, -1e3 * S_I / p.tau_I + rate_I]


def generic(x, received, p):
    (V, W), (current,) = x.T, received
    to_V = -p.f * V**3 + p.e * V**2 + p.g * V + p.alpha * W + p.gamma * current
    to_W = p.a + p.b * V + p.c * V**2 - p.beta * W
    return [1e3 * p.d * p.tau * to_V, 1e3 * p.d / p.tau * to_W]


# The equations, states in the middle of where they usually are, and how far from there.
NODES = {
    WilsonCowan: (wilson_cowan, 0.3, 0.2),
    JansenRit: (jansen_rit, 2.0, 4.0),
    MontbrioPazoRoxin: (montbrio, 0.2, 0.5),
    Hopf: (hopf, 0.0, 0.3),
    Kuramoto: (lambda x, received, p: [2 * pi * p.frequency + received[0]], 0.0, 2.0),
    WongWang: (wong_wang, 0.3, 0.1),
    WongWangEI: (wong_wang_ei, 0.3, 0.1),
    Generic2dOscillator: (generic, 0.0, 1.0),
    Linear: (lambda x, received, p: [1e3 / p.tau * (received[0] - x[:, 0])], 0.0, 1.0),
}


class Values:
    """Constants of a node by name, those of each region."""

    def __init__(self, node, parameters):
        for prior in node.priors():
            usual, change = getattr(node, prior.name), parameters[prior.name]
            scaled = usual * exp(change) if prior.unit == "log scaling" else usual + change
            setattr(self, prior.name, scaled)


def drawn(kind, regions=3, seed=0):
    rng = np.random.default_rng(seed)
    node = kind()
    parameters = {
        prior.name: 0.5 * np.sqrt(prior.variance) * rng.normal(size=regions)
        for prior in node.priors()
    }
    _, middle, width = NODES[kind]
    x = middle + width * rng.uniform(-1, 1, size=(regions, len(node.states)))
    received = 0.1 * rng.normal(size=(len(node.afferents), regions))
    return node, parameters, x, received


@pytest.mark.parametrize("kind", NODES, ids=lambda kind: kind.__name__)
def test_nodes_follow_the_published_equations(kind, strict_ranks):
    """Also: a constant of each region is that of the parameter; one node is as one of many."""
    node, parameters, x, received = drawn(kind)

    @partial(jax.jit, static_argnums=0)
    def rate(node, parameters, x, received):
        return node.local(x, received, NOTHING, node.constants(parameters))

    expected = np.stack(NODES[kind][0](x, received, Values(node, parameters)), axis=1)
    close = partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-9)
    close(rate(node, parameters, x, received), expected)
    second = {name: value[1] for name, value in parameters.items()}
    close(rate(node, second, x[1:2], received[:, 1:2])[0], expected[1])
    values = Values(node, parameters)
    regional = kind(**{prior.name: getattr(values, prior.name) for prior in node.priors()})
    assert regional.n_nodes == 3 and jax.eval_shape(regional.rest).shape == x.shape
    zeros = {prior.name: jnp.zeros(()) for prior in node.priors()}
    silent = np.stack(NODES[kind][0](x, 0 * received, values), axis=1)
    close(jax.jit(regional.flow)(x, NOTHING, zeros), silent)


@pytest.mark.parametrize("kind", NODES, ids=lambda kind: kind.__name__)
def test_nodes_have_derivatives_at_rest_and_elsewhere(kind):
    """Forward, reverse and differences agree, also of the state of rest; a batch is a loop."""
    node, parameters, x, received = drawn(kind)
    rng = np.random.default_rng(1)
    direction = {name: rng.normal(size=3) * (value != 0) for name, value in parameters.items()}
    weight = rng.normal(size=(2, *x.shape))

    def both(along):
        """The rate, in ms, and the state of rest, as one moves from the parameters."""
        moved = {name: value + along * direction[name] for name, value in parameters.items()}
        rate = 1e-3 * node.local(x, received, NOTHING, node.constants(moved))
        return jnp.stack([rate, jnp.broadcast_to(node.rest(moved), x.shape)])

    @jax.jit
    def derivatives(along):
        values, tangent = jax.linearize(both, along)
        return values, tangent(jnp.ones(())), jax.linear_transpose(tangent, along)(weight)[0]

    step = 1e-5
    values, forward, reverse = derivatives(jnp.zeros(()))
    batch = jax.jit(jax.vmap(both))(jnp.array([0.0, step, -step]))
    np.testing.assert_allclose(batch[0], values, rtol=1e-12, atol=1e-12)
    assert float((forward * weight).sum()) == pytest.approx(float(reverse), rel=1e-10)
    scale = 1 + np.abs(forward).max()
    np.testing.assert_allclose(forward, (batch[1] - batch[2]) / (2 * step), atol=1e-6 * scale)
    if kind is not Kuramoto:
        still = NODES[kind][0](np.asarray(values[1]), 0 * received, Values(node, parameters))
        np.testing.assert_allclose(np.stack(still), 0, atol=1e-9)


def test_defaults_rest_where_the_literature_has_it():
    both = jax.jit(lambda: (WongWangEI().rest()[0], MontbrioPazoRoxin().rest()[0]))
    (S_E, _), (r, v) = both()
    assert float(S_E) == pytest.approx(0.164757, abs=1e-6)
    # 2 r v = -1 / pi, and the state that fires less of the two that are stable.
    assert float(2 * r * v) * pi == pytest.approx(-1) and float(r) < 0.1


def test_jansen_rit_nodes_have_an_alpha_rhythm():
    """Of which exponential Euler, at the usual step of 0.1 ms, makes a fifth too much."""

    def potential(node, scheme, step):
        steps = round(3 / step)
        states = follow(node, scheme, np.zeros((1, 6)), np.zeros((steps, 3, 1)), step)
        return np.asarray(states[-steps // 3 :, 0, 1] - states[-steps // 3 :, 0, 2])

    v = potential(JansenRit(), "rk4", 1e-3)
    assert np.abs(np.fft.rfft(v - v.mean())).argmax() == 11
    assert v.std() == pytest.approx(1.0482, abs=1e-3)
    first_order = potential(JansenRit(), "exponential_euler", 1e-4)
    assert first_order.std() == pytest.approx(1.257, abs=0.01)
    assert potential(JansenRit(p=0.0), "rk4", 1e-3)[-1] == pytest.approx(-1.904, abs=1e-3)


def test_hopf_nodes_oscillate_with_the_root_of_a():
    x = follow(Hopf(a=1.0, frequency=2.0), "rk4", [[0.1, 0.0]], np.zeros((1000, 2, 1)), step=0.01)
    np.testing.assert_allclose(np.hypot(*x[-1, 0]), 1.0, atol=1e-5)
    # 19 whole cycles after 9.5 s.
    np.testing.assert_allclose(x[949, 0], [1.0, 0.0], atol=3e-4)


def test_feedback_inhibition_gives_all_regions_a_firing_rate():
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=(5, 5)) * (1 - np.eye(5))
    node = WongWangEI(lambda_I=0.3).with_feedback_inhibition(weights, strength=0.7, rate=4.0)
    S_E = 0.641 * 0.4 / (1 + 0.641 * 0.4)
    received = np.zeros((3, 5))
    received[0] = 0.7 * weights.sum(1) * S_E
    zeros = {prior.name: 0.0 for prior in node.priors()}
    constants = node.constants(zeros)
    x = np.full((5, 2), S_E)
    for _ in range(60):  # to the fixed point of inhibition
        inhibitory = 0.7 * 0.382 + 0.15 * S_E - x[:, 1] + 0.3 * 0.15 * received[0]
        x[:, 1] = 0.5 * x[:, 1] + 0.5 * 0.01 * H(inhibitory, 615, 177, 0.087)
    np.testing.assert_allclose(node.local(x, received, NOTHING, constants), 0, atol=1e-9)

    @jax.jit
    @jax.value_and_grad
    def first(strength):
        return WongWangEI().feedback_inhibition(weights, strength)[0]

    difference = (first(0.7001)[0] - first(0.6999)[0]) / 2e-4
    assert float(first(0.7)[1]) == pytest.approx(float(difference), rel=1e-6)
    with pytest.raises(ValueError, match=r"no feedback inhibition makes regions \[0, 1\] fire"):
        WongWangEI().with_feedback_inhibition(np.zeros((2, 2)), 1.0, rate=500.0)


def test_roots_are_the_lowest_and_have_second_derivatives():
    def root(a):
        return lowest_root(lambda z: z**2 - a, jnp.full(2, -9.0), jnp.zeros(2))

    a = np.array([4.0, 9.0])
    np.testing.assert_allclose(jax.jit(root)(a), [-2, -3], atol=1e-12)
    twice = jax.jit(jax.vmap(jax.grad(jax.grad(lambda a: root(a * jnp.ones(2))[0]))))(a)
    np.testing.assert_allclose(twice, a**-1.5 / 4, rtol=1e-9)
    cubic = jax.jit(lambda low: lowest_root(lambda z: (z - 1) * (z - 2) * (z - 3), low, 4.0))
    three = cubic(0.0)
    assert float(three) == pytest.approx(1.0, abs=1e-12)


SOURCES = {
    ERP: ("bottom_up", "top_down"),
    LFP: ("bottom_up", "top_down"),
    CMC: ("to_stellate", "to_superficial", "to_inhibitory", "to_deep", "modulation"),
    NMDA: ("forward", "backward", "lateral"),
}


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
def test_sources_are_nodes(kind):
    """What three of them do is what the model of three sources does, given what they receive."""
    rng, node = np.random.default_rng(0), kind.node()
    assert node.afferents == SOURCES[kind] and node.citation == kind.citation
    off = np.zeros((3, 3))
    three = kind(off, off, off, np.zeros((0, 3, 3)), np.zeros((3, 0)))
    parameters = {
        prior.name: 0.3 * rng.normal(size=np.shape(prior.mean)) for prior in node.priors()
    }
    known = {prior.name: jnp.asarray(prior.mean) for prior in three.priors()}
    known |= {n: jnp.broadcast_to(v, known[n].shape) for n, v in parameters.items()}
    x = node.rest() + rng.normal(size=(3, len(node.states)))
    received = rng.normal(size=(len(node.afferents), 3))
    constants = node.constants(parameters)

    @jax.jit
    def rates_and_signals(x, received):
        rates = (
            node.local(x, received, NOTHING, constants),
            three.local(x, received, NOTHING, known),
        )
        return rates, (node.sent(x, constants), three.sent(x, known))

    rates, signals = rates_and_signals(x, received)
    np.testing.assert_allclose(*rates, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(*signals, rtol=1e-12)
    assert set(node.state_units.values()) == {"mV"}
    assert len(node.signals) == len(signals[0])
    names = {prior.name for prior in node.priors()}
    assert not names & {"A", "B", "C", "delay", "intrinsic_delay", "input_timing", "modulatory"}


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"tau_E": 0.0}, "tau_E of WilsonCowan must be a positive number, ms, or one for every"),
        ({"w_EE": np.ones((2, 2))}, "w_EE of WilsonCowan must be a positive number, 1, or one"),
        ({"w_EE": np.nan}, "got nan"),
        (
            {"w_EE": np.ones(2), "w_II": np.ones(3)},
            r"different numbers of regions: \{'w_EE': 2, 'w_II': 3\}",
        ),
    ],
)
def test_constants_that_cannot_be_are_refused(constants, message):
    with pytest.raises(ValueError, match=message):
        WilsonCowan(**constants)


def test_a_node_of_ones_own_is_its_constants_and_its_equation():
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Adapting(NetworkNode):
        """Activity with an adaptation that follows it."""

        tau: float = constant(20.0, "ms", "time constant of the activity")
        slow: float = constant(500.0, "ms", "time constant of the adaptation")
        bias: float = constant(0.0, "1", "input from elsewhere", positive=False, variance=2.0)

        states, signals, afferents = ("x", "a"), ("x",), ("I",)

        def local(self, x, received, u, c):
            activity, adaptation = x.T
            drive = jnp.tanh(received[0] + c["bias"] - adaptation)
            rates = [(drive - activity) / c["tau"], (activity - adaptation) / c["slow"]]
            return 1e3 * jnp.stack(rates, axis=1)

    node = Adapting()
    assert "bias : float or ndarray, shape (regions,)\n    Input from" in Adapting.__doc__
    priors = {prior.name: (prior.unit, float(prior.variance)) for prior in node.priors()}
    assert priors == {
        "tau": ("log scaling", 1 / 16),
        "slow": ("log scaling", 1 / 16),
        "bias": ("1", 2.0),
    }
    model = bayesdcm.NetworkModel(node, [[0, 1], [1, 0]], coupling="additive", speed=None)
    result = model.simulate(0.05, 1e-3, parameters=model.parameters(tau=10.0, bias=0.2))
    assert result.x[0].values == pytest.approx(0.0195, abs=0.001)
