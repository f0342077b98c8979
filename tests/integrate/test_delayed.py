"""Delay equations: closed forms, order, equality with ordinary solvers, derivatives, bounds."""

from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.integrate import solve_ivp

from bayesdcm.integrate import Delayed, DelayedRelaxation
from bayesdcm.integrate.delayed import delayed
from bayesdcm.neural.base import NodeModel
from bayesdcm.observe import Electrodes


def pure_delay(t, delay):
    """Solution of x' = -x(t - delay) from 1, one degree more in every delay."""
    terms = range(int(t.max() / delay) + 2)
    return sum((-1) ** j * np.maximum(t - (j - 1) * delay, 0) ** j / factorial(j) for j in terms)


def test_a_pure_delay_has_piecewise_polynomials():
    steps, step = 350, 0.02
    x = delayed(
        lambda x, u: -x, jnp.ones(1), jnp.zeros((2 * steps + 1, 1)), jnp.ones((1, 1)), step, 50
    )[:, 0]
    t = step * np.arange(1, steps + 1)
    expected = pure_delay(t, 1.0)
    # Simpson's rule and the interpolation are exact for cubic polynomials.
    np.testing.assert_allclose(x[t <= 4], expected[t <= 4], rtol=0, atol=1e-13)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-9)


def test_states_are_seen_with_their_own_delays():
    """A ramp in the first state, which two others integrate 0.3 and 0.7 later."""

    def flow(x, u):
        return jnp.stack([jnp.ones(()), x[0], x[0]])

    delays = np.zeros((3, 3))
    delays[1, 0], delays[2, 0] = 0.3, 0.7
    x = delayed(flow, jnp.zeros(3), jnp.zeros((41, 1)), jnp.asarray(delays), 0.05, 20)
    t = 0.05 * np.arange(1, 21)
    # 0.3 and 0.7 are whole steps: rates jump at points of the grid only.
    np.testing.assert_allclose(x[:, 0], t, atol=1e-13)
    for column, delay in ((1, 0.3), (2, 0.7)):
        expected = np.maximum(t - delay, 0) ** 2 / 2
        np.testing.assert_allclose(x[:, column], expected, atol=1e-13)


# A system with a known solution: z(t) = t^6 exp(-t) (1, -2), zero before 0, and the inputs that
# make it so.
DELAYS = np.array([[0.0, 0.37], [0.613, 0.251]])
WEIGHTS = np.array([1.0, -2.0])


def z(t):
    s = np.maximum(t, 0)
    return s**6 * np.exp(-s)


def dz(t):
    s = np.maximum(t, 0)
    return (6 * s**5 - s**6) * np.exp(-s)


def coupled(x, u):
    return jnp.stack([-x[0] + jnp.sin(x[1]) + u[0], -2 * x[0] ** 2 - x[1] + u[1]])


def seen(t, i, j):
    return WEIGHTS[j] * z(t - DELAYS[i, j])


def driving(t):
    first = WEIGHTS[0] * dz(t) + seen(t, 0, 0) - np.sin(seen(t, 0, 1))
    second = WEIGHTS[1] * dz(t) + 2 * seen(t, 1, 0) ** 2 + seen(t, 1, 1)
    return jnp.asarray(np.stack([first, second], axis=1))


@jax.jit
def _solve(inputs, delays, step):
    return delayed(coupled, jnp.zeros(2), inputs, delays, step, memory=400)


def solve_coupled(n, duration=2.0, delays=DELAYS):
    step = duration / n
    inputs = driving(step / 2 * np.arange(2 * n + 1))
    return _solve(inputs, jnp.asarray(delays), step)


def test_order_four_where_delays_are_no_whole_steps():
    errors = []
    for n in (40, 80, 160):
        t = 2.0 / n * np.arange(1, n + 1)
        errors.append(float(np.abs(solve_coupled(n) - z(t)[:, None] * WEIGHTS).max()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 1e-6
    np.testing.assert_allclose(orders, 4, atol=0.4)


def test_without_delays_it_solves_ordinary_equations():
    def flow(x, u):
        return jnp.stack([x[1], -jnp.sin(x[0]) - 0.1 * x[1] + u[0]])

    steps, step = 400, 0.02
    times = step / 2 * np.arange(2 * steps + 1)
    x = delayed(
        flow,
        jnp.array([1.0, 0.0]),
        jnp.sin(3 * jnp.asarray(times))[:, None],
        jnp.zeros((2, 2)),
        step,
        memory=4,
        every=20,
    )
    exact = solve_ivp(
        lambda t, x: [x[1], -np.sin(x[0]) - 0.1 * x[1] + np.sin(3 * t)],
        (0, 8.0),
        [1.0, 0.0],
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
        t_eval=0.4 * np.arange(1, 21),
    )
    assert x.shape == (20, 2)
    np.testing.assert_allclose(x, exact.y.T, rtol=0, atol=2e-7)


def test_small_delays_act_to_first_order_as_their_expansion():
    """x(t - d) is x - d x' and terms in d^2: the error of the expansion falls fourfold."""
    A = np.array([[-3.0, 2.0], [-4.0, -1.0]])

    def error(delay):
        D = np.linalg.inv(np.eye(2) + delay * A)
        steps = 200
        inputs = np.sin(np.linspace(0, 1, 2 * steps + 1))[:, None] ** 4
        both = [
            delayed(flow, jnp.zeros(2), jnp.asarray(inputs), jnp.asarray(d), 1 / steps, 20)
            for flow, d in (
                (lambda x, u: A @ x + u, np.full((2, 2), delay)),
                (lambda x, u: D @ (A @ x + u), np.zeros((2, 2))),
            )
        ]
        return float(np.abs(both[0] - both[1]).max())

    large, small = error(0.04), error(0.02)
    assert 0 < small < large < 0.05
    assert large / small == pytest.approx(4, abs=0.7)


@pytest.mark.exhaustive
def test_derivatives_by_both_modes():
    rng = np.random.default_rng(0)
    x0 = jnp.asarray(rng.normal(size=2))
    inputs = driving(0.1 * np.arange(21))

    def solve(x0, gain, delays):
        # The delay of state 0 by itself stays 0: there is no way from 0 to a step.
        delays = jnp.asarray(DELAYS) * (1 + delays)
        return delayed(lambda x, u: gain * coupled(x, u), x0, inputs, delays, 0.2, 8)

    # A delay of a whole number of steps would have a derivative from either side only.
    arguments = (x0, jnp.asarray(1.2), jnp.asarray(0.05 * rng.normal(size=(2, 2))))
    check_grads(solve, arguments, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("delay", [0.009, 0.401, -0.1, np.nan, np.inf])
def test_delays_out_of_bounds_give_nan(delay):
    def last(delay):
        delays = jnp.array([[0.0, 0.1], [0.0, 0.0]]).at[1, 0].set(delay)
        return delayed(
            lambda x, u: -x[::-1], jnp.ones(2), jnp.zeros((21, 1)), delays, 0.01, memory=40
        )

    assert np.isnan(last(delay)).all()


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.4])
def test_bounds_themselves_are_allowed(delay):
    x = delayed(
        lambda x, u: -x, jnp.ones(1), jnp.zeros((21, 1)), jnp.full((1, 1), delay), 0.01, memory=40
    )
    assert np.isfinite(x).all()
    expected = np.exp(-0.1) if delay == 0 else pure_delay(np.array(0.1), delay)
    assert float(x[-1, 0]) == pytest.approx(expected, abs=1e-8)


class Relays(NodeModel):
    """Two nodes that follow, within 5 ms, the stimulus, and the other of 8 exp(D) ms ago."""

    states, signals = ("activity",), ("activity",)
    n_nodes, n_inputs, n_effects = 2, 1, 0

    def priors(self):
        return ()

    def sent(self, x, parameters):
        return x.T

    def received(self, sent, parameters):
        return jnp.tanh(sent)[:, ::-1]

    def relaxation(self, x, received, u, parameters):
        reached = 0.1 * u * jnp.array([1.0, 0.0])
        return jnp.full(x.shape, 200.0), (received[0] + reached)[:, None]

    def local(self, x, received, u, parameters):
        rate, target = self.relaxation(x, received, u, parameters)
        return rate * (target - x)

    def delays(self, parameters):
        return 0.008 * jnp.exp(parameters["delay"]) * (1 - jnp.eye(2))


class StiffRelays(Relays):
    stiff = True


@pytest.fixture(scope="module")
def relayed():
    """By kind of model, activity at 40 samples and its derivative by delays."""
    arrays = {
        "times": 0.004 * jnp.arange(1, 41),
        "start": jnp.zeros(()),
        "dt": jnp.asarray(0.004),
        "settings": Delayed().settings(Relays(), 0.004, np.zeros((1, 0)), {}),
    }

    def of(solver, model):
        @jax.jit
        def both(delay):
            def solve(delay):
                return solver.trajectory(model, {"delay": delay}, jnp.zeros(2), arrays)

            x, tangent = jax.linearize(solve, delay)
            (back,) = jax.linear_transpose(tangent, delay)(jnp.ones_like(x))
            return x, tangent(jnp.array([[0.0, 0.0], [1.0, 0.0]])), back

        return both

    pairs = {"exact": (Delayed(), Relays()), "relaxed": (DelayedRelaxation(), StiffRelays())}
    return {name: of(*pair) for name, pair in pairs.items()}


def test_relaxation_solves_the_same_equations(relayed):
    delay = 0.1 * jnp.array([[0.0, -1.0], [1.0, 0.0]])
    exact, relaxed = (relayed[name](delay) for name in ("exact", "relaxed"))
    # Derivatives by delays are slopes of the linear interpolation, of first order in the step.
    for got, expected, tolerance in zip(relaxed[:2], exact[:2], (0.003, 0.03), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    x, forward, back = relaxed
    assert float(np.abs(x[:, 1]).max()) > 0.1
    assert float(back[1, 0]) == pytest.approx(float(forward.sum()), rel=1e-9)
    step = 1e-6 * jnp.array([[0.0, 0.0], [1.0, 0.0]])
    moved = [relayed["relaxed"](delay + sign * step)[0] for sign in (1, -1)]
    np.testing.assert_allclose((moved[0] - moved[1]) / 2e-6, forward, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("delay", "possible"), [(0.5, True), (100, True), (0.4, False), (101, False)]
)
def test_bounds_of_relaxed_delays(relayed, delay, possible):
    logs = jnp.full((2, 2), np.log(delay / 8))
    assert np.isfinite(relayed["relaxed"](logs)[0]).all() == possible


def test_stiff_models_need_their_solver():
    observer = Electrodes(source_names=("first", "second"))
    with pytest.raises(ValueError, match="StiffRelays, which is stiff; use DelayedRelaxation"):
        Delayed().check(StiffRelays(), observer)
    with pytest.raises(ValueError, match="Relays, which is not stiff; use LocalLinear or Delayed"):
        DelayedRelaxation().check(Relays(), observer)
