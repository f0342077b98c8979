"""What every model of sources owes to integrators and inference: traceable and differentiable."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.neural import CMC, ERP, LFP, NMDA
from bayesdcm.neural.base import to_vector
from bayesdcm.neural.delayed_jacobian import delayed_jacobian
from bayesdcm.neural.nmda import firing_probability

MODELS = (ERP, CMC, LFP, NMDA)
POINTS = 3


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.__name__)
def model(request):
    """Two sources, connected in both directions and laterally, with two inputs and an effect."""
    forward, lateral = np.array([[0.0, 0], [1, 0]]), np.array([[1.0, 1], [0, 0]])
    return request.param(forward, forward.T, lateral, np.ones((1, 2, 2)), np.eye(2))


@pytest.fixture(scope="module")
def points(model):
    """Random states, inputs and parameters, drawn from the priors, stacked."""
    rng = np.random.default_rng(5)

    def draw(prior):
        noise = rng.standard_normal((POINTS, *prior.mean.shape))
        return jnp.asarray(prior.mean + np.sqrt(prior.variance) * noise)

    x = jnp.asarray(model.rest() + rng.standard_normal((POINTS, *model.rest().shape)))
    u = jnp.asarray(rng.random((POINTS, 2)))
    return x, u, {prior.name: draw(prior) for prior in model.priors()}


def delayed_flow(model, x, u, parameters):
    """All that integration needs of a model, in one vector: one condition's delayed flow."""
    parameters = model.condition(parameters, jnp.ones(1))
    jacobian = model.jacobian(x, u, parameters)
    operator = model.delay_operator(jacobian, parameters)
    return jnp.concatenate(
        [
            operator @ to_vector(model.flow(x, u, parameters)),
            (operator @ jacobian).reshape(-1),
        ]
    )


def first(points):
    return jax.tree.map(lambda array: array[0], points)


def same(got, expected, tolerance=1e-11):
    scale = np.abs(expected).max()
    assert np.isfinite(scale)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.slow
def test_mapped_as_one_by_one(model, points):
    function = partial(delayed_flow, model)
    compiled = jax.jit(function)
    each = [compiled(*jax.tree.map(lambda array, i=i: array[i], points)) for i in range(POINTS)]
    same(jax.jit(jax.vmap(function))(*points), np.stack(each))
    assert each[0].dtype == jnp.float64


@pytest.mark.parametrize(
    "model",
    [LFP, *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in (ERP, CMC, NMDA))],
    indirect=True,
    ids=lambda model: model.__name__,
)
def test_flow_compiled_as_not_compiled(model, points):
    arguments = first(points)
    same(model.flow(*arguments), jax.jit(model.flow)(*arguments), 1e-14)


@pytest.mark.exhaustive
def test_delayed_flow_compiled_as_not_compiled(model, points):
    function, arguments = partial(delayed_flow, model), first(points)
    same(function(*arguments), jax.jit(function)(*arguments))


@pytest.mark.exhaustive
def test_derivatives_in_both_modes_agree_with_differences(model, points):
    rng, (x, u, parameters) = np.random.default_rng(6), first(points)
    weights = rng.standard_normal(x.size * (x.size + 1))

    @jax.jit
    def scalar(x, u, parameters):
        return weights @ delayed_flow(model, x, u, parameters)

    forward = jax.jit(jax.jacfwd(scalar, argnums=(0, 1, 2)))(x, u, parameters)
    reverse = jax.jit(jax.jacrev(scalar, argnums=(0, 1, 2)))(x, u, parameters)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(forward))
    assert np.isfinite(scale)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * scale), forward, reverse
    )
    # SPM's stopping rule leaves steps of 1e-6 in the delay operator of CMC.
    step, tolerance = (1e-3, 1e-3) if isinstance(model, CMC) else (1e-5, 1e-7)
    for prior in model.priors():
        direction = np.sqrt(prior.variance) * rng.standard_normal(prior.mean.shape)
        ends = [
            scalar(x, u, {**parameters, prior.name: parameters[prior.name] + sign * direction})
            for sign in (step, -step)
        ]
        derivative = (forward[2][prior.name] * direction).sum()
        np.testing.assert_allclose(
            (ends[0] - ends[1]) / (2 * step), derivative, rtol=0, atol=tolerance * scale
        )
        assert derivative != 0 or prior.name == "input_timing", prior.name


def test_exact_jacobian_is_that_of_the_flow(model, points):
    x, u, parameters = first(points)
    if isinstance(model, CMC):
        x, u = 0 * x, 0 * u
    by_states = jax.jit(jax.jacrev(model.flow))
    full = by_states(x, u, parameters)
    expected = full.transpose(1, 0, 3, 2).reshape(x.size, x.size)
    jacobian = jax.jit(model.jacobian)(x, u, parameters)
    if isinstance(model, NMDA):
        k = 9 * model.n_nodes
        np.testing.assert_array_equal(jacobian[k:], np.eye(12 * model.n_nodes)[k:])
        np.testing.assert_array_equal(jacobian[:, k:], np.eye(12 * model.n_nodes)[:, k:])
        # Without NMDA conductance, the current that it leaves out is zero.
        x = x.at[:, 9:].set(0.0)
        full = by_states(x, u, parameters)
        expected = full.transpose(1, 0, 3, 2).reshape(x.size, x.size)[:k, :k]
        jacobian = jacobian[:k, :k]
    same(jacobian, expected, 1e-13)


def test_delays_are_between_states_that_differ(model, points):
    _, _, parameters = first(points)
    delays = np.asarray(model.delays(parameters))
    assert (delays >= 0).all()
    assert delays.max() < 0.1
    assert not np.diagonal(delays).any()
    source = np.arange(len(delays)) % model.n_nodes
    assert delays[source[:, None] != source].min() > 1e-3


def test_delayed_jacobian_solves_its_equation():
    # One state that damps itself after 1 s: x' = -x(t - 1) / 4 decays at a rate q = -exp(-q) / 4.
    arguments = jnp.full((1, 1), -0.25), jnp.full((1, 1), 1.0)

    def rates(jacobian, delays):
        return delayed_jacobian(jacobian, delays, (0,), (0,), 1e-14)

    q = jax.jit(rates)(*arguments)
    np.testing.assert_allclose(q, -np.exp(-q) / 4, rtol=1e-12)
    # Of q = J exp(-d q): dq = (q dJ / J - q^2 dd) / (1 + d q).
    derivatives = jax.jit(jax.jacrev(rates, argnums=(0, 1)))(*arguments)
    rate = float(q[0, 0])
    expected = [rate / -0.25 / (1 + rate), -(rate**2) / (1 + rate)]
    np.testing.assert_allclose(np.ravel(derivatives), expected, rtol=1e-10)


def test_firing_probability_has_derivatives_at_the_threshold():
    at, nearby = jax.grad(firing_probability)(0.0), jax.grad(firing_probability)(1e-3)
    np.testing.assert_allclose(at, 1 / np.sqrt(2 * np.pi), rtol=1e-12)
    np.testing.assert_allclose(nearby, at, rtol=1e-6)
    z = np.linspace(-4, 4, 9)
    expected = 0.5 + np.sign(z) * np.sqrt(1 - np.exp(-2 * z**2 / np.pi)) / 2
    np.testing.assert_allclose(firing_probability(z), expected, rtol=0, atol=1e-15)


def test_local_dynamics_and_coupling_come_apart(model, points):
    """Given what it receives, a source knows nothing of others; what it sends is its own."""

    @jax.jit
    def everything(x, u, parameters):
        received = model.received(model.sent(x, parameters), parameters)
        return (
            model.local(x, received, u, parameters),
            model.flow(x, u, parameters),
            jax.jacfwd(lambda x: model.local(x, received, u, parameters))(x),
            jax.jacfwd(lambda x: model.sent(x, parameters))(x),
            jax.jacfwd(lambda x: model.received(model.sent(x, parameters), parameters))(x),
        )

    local, flow, alone, sending, reached = everything(*first(points))
    same(local, flow, 1e-14)
    assert np.abs(alone[[0, 1], :, [0, 1]]).max() > 0
    assert np.abs(alone[[0, 1], :, [1, 0]]).max() == 0
    assert np.abs(sending[:, [0, 1], [0, 1]]).max() > 0
    assert np.abs(sending[:, [0, 1], [1, 0]]).max() == 0
    assert np.abs(reached[:, [0, 1], [1, 0]]).max() > 0
