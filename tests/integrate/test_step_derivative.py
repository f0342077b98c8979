"""Derivatives of steps by the entries of the Jacobian, against those that JAX finds."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import bayesdcm
from bayesdcm.data.by_value import ByValue
from bayesdcm.infer.inversion import run_laplace
from bayesdcm.infer.problem import make_problem
from bayesdcm.integrate import expanded_delays
from bayesdcm.integrate.expanded_delays import dependent_entries
from bayesdcm.integrate.local_linear import phi, step_operator
from bayesdcm.integrate.step_derivative import (
    change_by_entries,
    expects_many_directions,
    many_directions,
    phi_derivative,
)


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
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_change_has_the_derivative_of_the_step(halvings, mode):
    J, delays, dJ = matrices(1)
    delays, dt = np.abs(delays) / 10, 0.3
    rates = np.random.default_rng(2).normal(size=(4, 6))
    moving = np.random.default_rng(3).random((6, 6)) < 0.4
    entries = (tuple(np.flatnonzero(moving).tolist()),) * 2

    def plain(scale):
        moved = J + scale * moving * dJ
        D = jnp.linalg.inv(jnp.eye(6) + delays * moved)
        return rates @ step_operator(moved, D, dt, halvings).T

    def by_entries(scale):
        moved = J + scale * moving * dJ
        return change_by_entries(moved, delays * moved, jnp.asarray(rates), dt, halvings, entries)

    derivative = jax.jacfwd if mode == "forward" else jax.jacrev
    assert_allclose(jax.jit(by_entries)(0.0), np.zeros((4, 6)))
    found, expected = (jax.jit(derivative(f))(0.0) for f in (by_entries, plain))
    assert_allclose(found, expected, rtol=0, atol=1e-13)


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
def test_states_have_the_same_derivatives_by_all_parameters(neural, step):
    model, rng = network(neural), np.random.default_rng(0)
    data = bayesdcm.EvokedData(rng.normal(size=(2, 12, 2)), np.arange(12) * step)
    prepared = model.prepare(data)
    assert prepared.steps["settings"].value[1]
    # Also along parameters that the model holds fixed: a user's own program may free them.
    means = {prior.name: prior.mean for prior in model.source_model.priors()}
    point = {name: mean + 0.1 * rng.normal(size=mean.shape) for name, mean in means.items()}

    @partial(jax.jit, static_argnums=0)
    def derivatives(many):
        with many_directions() if many else nullcontext():
            return jax.jacfwd(lambda p: model.states(p, prepared))(point)

    plain, found = derivatives(False), derivatives(True)
    for name in means:
        atol = 1e-9 * np.abs(plain[name]).max()
        assert_allclose(found[name], plain[name], rtol=0, atol=atol, err_msg=name)


def test_entries_are_those_of_currents_only():
    model = network("erp")
    of_jacobian, of_delayed = dependent_entries(ByValue(model.source_model))
    n = 2 * len(model.source_model.states)
    currents = {2 * k + i for k in (3, 4, 5, 7) for i in range(2)}
    assert {entry // n for entry in of_jacobian} == currents
    assert {entry // n for entry in of_delayed} == currents
    assert len(of_jacobian) < n * len(currents) / 3


@pytest.mark.parametrize("neural", ["cmc", "lfp"])
def test_models_with_other_operators_are_differentiated_as_they_are(neural):
    assert dependent_entries(ByValue(network(neural).source_model)) is None


def test_context_ends_with_its_block():
    assert not expects_many_directions()
    with many_directions():
        assert expects_many_directions()
    assert not expects_many_directions()


@pytest.mark.exhaustive
def test_inversion_makes_use_of_it(monkeypatch):
    model = network("erp")
    rng = np.random.default_rng(0)
    data = bayesdcm.EvokedData(rng.normal(size=(2, 12, 2)), np.arange(12) * 0.004)
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return change_by_entries(*arguments)

    monkeypatch.setattr(expanded_delays, "change_by_entries", counted)
    problem = make_problem(model, data)
    start = jnp.zeros(problem.sites.size)
    run_laplace.lower(problem.source, problem.sites, (2, "exact"), problem.prepared, start)
    assert calls
