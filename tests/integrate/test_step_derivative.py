"""Derivatives of steps by the entries of the Jacobian, against those that JAX finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import bayesdcm
from bayesdcm.data.by_value import ByValue
from bayesdcm.integrate import LocalLinear, expanded_delays
from bayesdcm.integrate.expanded_delays import dependent_entries
from bayesdcm.integrate.local_linear import phi, step_operator
from bayesdcm.integrate.step_derivative import (
    Entries,
    Given,
    phi_derivative,
    step_by_entries,
)
from bayesdcm.neural import ERP, NeuralModel
from bayesdcm.neural.delays import first_order
from bayesdcm.observe import Electrodes


def matrices(seed, n=6, count=3):
    return np.random.default_rng(seed).normal(size=(count, n, n))


@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
def test_sum_of_products_is_the_derivative_of_phi(halvings):
    Z, dZ, _ = matrices(0)
    # Currents and voltages differ by orders of magnitude; balancing must come out again.
    scale = 10.0 ** np.arange(-3, 3)
    Z, dZ = (m * scale[:, None] / scale for m in (Z, dZ))
    value, tangent = jax.jit(lambda z, d: jax.jvp(lambda m: phi(m, halvings), (z,), (d,)))(Z, dZ)
    found, left, right = jax.jit(phi_derivative, static_argnums=1)(Z, halvings)
    assert len(left) == 14 * 2**halvings - 1
    back = scale[None, :] / scale[:, None]
    assert_allclose(found * back, value * back, rtol=0, atol=1e-13)
    total = jnp.einsum("mij,jk,mkl->il", left, dZ, right)
    assert_allclose(total * back, tangent * back, rtol=0, atol=1e-13)


@pytest.mark.parametrize("halvings", [0, 1])
def test_step_has_the_derivatives_of_its_formula(halvings):
    J, delays, dJ = matrices(1)
    delays, dt, rates = np.abs(delays) / 10, 0.3, matrices(2)[0][:4]
    moving = np.random.default_rng(3).random((6, 6)) < 0.4
    late = np.random.default_rng(4).random((6, 6)) < 0.3
    # Delays that move do so together.
    late[:, 1:] = False
    single = tuple((entry,) for entry in np.flatnonzero(moving).tolist())
    entries = Entries(single, ((1.0,),) * len(single), (tuple(np.flatnonzero(late).tolist()),))

    def at(scale):
        return J + (scale[0] + scale[1] ** 2) * moving * dJ, delays + scale[2] * late

    def operators(scale):
        delay_operator = first_order(*at(scale))
        return step_operator(at(scale)[0], delay_operator, dt, halvings), delay_operator

    def plain(scale):
        return rates @ operators(scale)[0].T

    def by_entries(scale):
        given = jax.lax.stop_gradient(Given(rates, dt, *operators(scale)))
        return step_by_entries(*at(scale), given, halvings, entries)

    point = jnp.array([0.1, 0.2, 0.3])
    assert_allclose(jax.jit(by_entries)(point), jax.jit(plain)(point), rtol=0, atol=1e-15)
    modes = (jax.jacfwd, jax.jacrev) if halvings else (jax.jacfwd, jax.hessian)
    for derivative in modes:
        value, expected = (jax.jit(derivative(f))(point) for f in (by_entries, plain))
        assert_allclose(value, expected, rtol=0, atol=1e-12)


def network(neural, sources=2):
    chain = np.eye(sources, k=-1)
    return bayesdcm.EvokedDCM(
        forward=chain,
        backward=chain.T,
        modulation=chain + np.eye(sources),
        inputs=np.eye(sources)[0],
        neural=neural,
        observation="lfp",
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize(("neural", "step"), [("erp", 0.008), ("nmda", 0.004)])
def test_states_have_the_same_derivatives_by_all_parameters(neural, step, monkeypatch):
    model, rng = network(neural), np.random.default_rng(0)
    data = bayesdcm.EvokedData(rng.normal(size=(2, 12, 2)), np.arange(12) * step)
    prepared = model.prepare(data)
    assert prepared.steps["settings"].value[1]
    # Also along parameters that the model holds fixed: a user's own program may free them.
    means = {prior.name: prior.mean for prior in model.source_model.priors()}
    point = {name: mean + 0.1 * rng.normal(size=mean.shape) for name, mean in means.items()}

    def derivatives():
        return jax.jit(jax.jacfwd(lambda p: model.states(p, prepared)))(point)

    by_entries = derivatives()
    monkeypatch.setattr(expanded_delays, "dependent_entries", lambda *given: None)
    prepared = model.prepare(data)
    assert not prepared.steps["settings"].value[1]
    for name, expected in derivatives().items():
        atol = 1e-9 * np.abs(expected).max()
        assert_allclose(by_entries[name], expected, rtol=0, atol=atol, err_msg=name)


def test_entries_are_those_of_currents_only():
    model = network("erp")
    entries = dependent_entries(ByValue(model.source_model))
    n = 2 * len(model.source_model.states)
    currents = {2 * k + i for k in (3, 4, 5, 7) for i in range(2)}
    jacobian, delays = (
        [entry for group in each for entry in group] for each in (entries.jacobian, entries.delays)
    )
    assert {entry // n for entry in jacobian} == currents
    assert len(jacobian) < n * len(currents) / 2
    # Delays within a source are constants, and one for each way between sources.
    assert set(delays) < set(jacobian)
    assert all(entry // n % 2 != entry % n % 2 for entry in delays)
    assert len(entries.delays) == 2
    # Time constants alone are in three currents' rows, and what drives two of them is the same.
    assert {len(group) for group in entries.jacobian} == {1, 2, 3}


def test_derivatives_go_backwards_where_delays_or_the_jacobian_are_held():
    rates, J = jnp.ones((2, 2)), -jnp.array([[1.0, 0.2], [0.1, 2.0]])
    entries = Entries(((0,), (1,), (2,), (3,)), ((1.0,),) * 4, ((1,), (2,)))
    delays = jnp.array([[0.0, 0.01], [0.01, 0.0]])
    delay_operator = first_order(J, delays)
    given = Given(rates, 0.1, step_operator(J, delay_operator, 0.1, 0), delay_operator)

    def step(J, delays):
        return (step_by_entries(J, delays, given, 0, entries) * jnp.arange(4.0).reshape(2, 2)).sum()

    for which, at in enumerate((J, delays)):
        held = [lambda x: step(x, delays), lambda x: step(J, x)][which]
        direction = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        forward = jax.jit(lambda at, f=held, d=direction: jax.jvp(f, (at,), (d,))[1])(at)
        backward = (jax.jit(jax.grad(held))(at) * direction).sum()
        assert float(backward) == pytest.approx(float(forward))


@pytest.mark.slow
def test_what_programs_hold_fixed_needs_no_entries_of_its_own():
    model, rng = network("erp", 3), np.random.default_rng(0)
    data = bayesdcm.EvokedData(rng.normal(size=(2, 12, 3)), np.arange(12) * 0.008)
    neural, solver, observer = model.parts
    steps = model.prepare(data).steps
    _, every, of_free = steps["settings"].value
    # The first and the last source are not connected: what one receives of the other, in three
    # rows, moves with the synapse alone, like what it receives backward of its neighbour elsewhere.
    assert len(of_free.delays) == 4 and len(every.delays) == 6
    assert sum(map(len, of_free.jacobian)) == sum(map(len, every.jacobian))
    assert len(of_free.jacobian) < len(every.jacobian)
    priors = neural.priors()
    # With other factors than at the means.
    point = {p.name: p.mean + 0.2 * p.free * rng.normal(size=p.mean.shape) for p in priors}
    along = {p.name: p.free * rng.normal(size=p.mean.shape) for p in priors}

    @jax.jit
    def derivative(steps):
        return jax.jvp(lambda p: solver.solve(neural, observer, p, steps), (point,), (along,))[1]

    expected = derivative(steps)
    atol = 1e-11 * np.abs(expected).max()
    assert_allclose(derivative(solver.of_program(steps)), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("neural", ["cmc", "lfp"])
def test_models_with_other_operators_are_differentiated_as_they_are(neural):
    assert dependent_entries(ByValue(network(neural).source_model)) is None


def test_a_source_without_delays_is_solved():
    class Undelayed(ERP):
        delays = NeuralModel.delays

    off, rng = np.zeros((1, 1)), np.random.default_rng(0)
    neural = Undelayed(off, off, off, np.zeros((0, 1, 1)), np.ones((1, 1)))
    model = bayesdcm.DCM(neural, LocalLinear(), Electrodes())
    data = bayesdcm.EvokedData(rng.normal(size=(1, 12, 1)), np.arange(12) * 0.008)
    means = {prior.name: prior.mean for prior in model.priors}
    assert dependent_entries(ByValue(neural)) is None
    # The input peaks at 60 ms, and the response after it.
    assert np.abs(model.predict(means, data)).argmax() > 8
