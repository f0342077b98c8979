"""The operator of local linearisation against dense exponentials and exact solutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from bayesdcm.integrate.local_linear import (
    SHIFT,
    balanced_norm,
    halvings_for,
    local_linear,
    phi,
    step_operator,
)

N = 5


def reference(Z):
    """phi(Z), the upper right block of the exponential of an augmented matrix."""
    n = len(Z)
    augmented = np.zeros((2 * n, 2 * n))
    augmented[:n, :n], augmented[:n, n:] = Z, np.eye(n)
    return scipy.linalg.expm(augmented)[:n, n:]


def matrix(kind, rng):
    Z = rng.normal(size=(N, N))
    if kind == "singular":
        Z[:, 0] = Z[:, 1] - Z[:, 2]
    elif kind == "nilpotent":
        Z = 3 * np.triu(Z, 1)
    elif kind == "stiff":
        Z = Z - 30 * np.eye(N)
    elif kind == "zero":
        Z = np.zeros((N, N))
    return Z


def halvings(Z):
    return halvings_for(float(balanced_norm(jnp.asarray(Z))))


@pytest.mark.parametrize("kind", ["random", "singular", "nilpotent", "stiff", "zero"])
def test_phi(kind):
    Z = matrix(kind, np.random.default_rng(0))
    expected = reference(Z)
    # Measured: at most 2e-15 for all but the nilpotent matrix, whose norm cannot be balanced.
    got = jax.jit(phi, static_argnums=1)(Z, halvings(Z))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_phi_of_a_badly_scaled_matrix():
    rng = np.random.default_rng(1)
    Z, scale = rng.normal(size=(N, N)), 2.0 ** np.array([0, 15, -12, 20, 3])
    similarity = scale[:, None] / scale
    # Powers of two: the scaled matrix and the scaled result are exact.
    expected = reference(Z) * similarity
    got = np.asarray(phi(jnp.asarray(Z * similarity), halvings(Z)))
    np.testing.assert_allclose(got / similarity, expected / similarity, rtol=0, atol=1e-13)
    norm = float(balanced_norm(jnp.asarray(Z * similarity)))
    assert norm < 2 * np.abs(Z).sum(1).max()
    assert np.abs(Z * similarity).sum(1).max() > 1e6


def test_phi_where_the_argument_is_small():
    Z = 1e-9 * np.random.default_rng(2).normal(size=(N, N))
    np.testing.assert_allclose(phi(jnp.asarray(Z), 1), np.eye(N) + Z / 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["random", "singular", "nilpotent"])
def test_derivatives_of_phi(kind):
    Z = jnp.asarray(matrix(kind, np.random.default_rng(3)))
    n = halvings(Z)
    check_grads(lambda z: phi(z, n), (Z,), order=1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-7)


def test_phi_is_nan_where_its_approximant_is_not_accurate():
    Z = jnp.asarray(np.random.default_rng(4).normal(size=(N, N)))
    # The norm after halving decides, from 16 on.
    Z = Z / balanced_norm(Z) * 16 * 2**2
    assert np.isnan(phi(1.0001 * Z, 2)).all()
    below = 0.9999 * Z
    assert np.isfinite(phi(below, 2)).all()
    assert np.isnan(phi(below, 1)).all()
    expected = reference(np.asarray(below))
    error = np.abs(phi(below, 2) - expected).max() / np.abs(expected).max()
    # Just below it a few digits are gone: the prior mean has twice the room at least.
    assert error < 1e-3
    assert np.abs(phi(below, 4) - expected).max() < 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("norm", [0.0, 1e-9, 0.3, 1.0, 3.0, 17.0])
def test_halvings_leave_room_for_faster_rates(norm):
    n = halvings_for(norm)
    assert n >= 0
    assert norm / 2**n <= 4 * (1 + 1e-12)
    # No more than it takes.
    assert n == 0 or norm / 2 ** (n - 1) > 4 * (1 - 1e-12)


def linear_system(singular=False):
    rng = np.random.default_rng(5)
    A = 20 * rng.normal(size=(4, 4)) - 60 * np.eye(4)
    if singular:
        A[:, 3] = 0
    B, u, x0 = rng.normal(size=(4, 2)), rng.normal(size=(12, 2)), rng.normal(size=4)
    return A, B, u, x0


@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("singular", [False, True])
def test_linear_systems_under_held_inputs_are_solved_exactly(singular, substeps):
    (A, B, u, x0), dt = linear_system(singular), 0.01
    # SPM shifts the Jacobian; shifted back, the scheme is that of A.
    jacobian, step = jnp.asarray(A + SHIFT * np.eye(4)), dt / substeps
    operator = step_operator(jacobian, jnp.eye(4), step, halvings(step * A))
    got = jax.jit(lambda u: local_linear(lambda x, u: A @ x + B @ u, jnp.asarray(x0), u, operator))(
        np.repeat(u, substeps, axis=0)
    )[substeps - 1 :: substeps]

    expected, x = [], x0
    for held in u:
        augmented = np.zeros((5, 5))
        augmented[:4, :4], augmented[:4, 4] = A, B @ held
        x = (scipy.linalg.expm(dt * augmented) @ np.r_[x, 1.0])[:4]
        expected.append(x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_the_operator_multiplies_flow_and_jacobian():
    (A, B, u, x0), dt = linear_system(), 0.01
    D = np.eye(4) + 0.2 * np.random.default_rng(6).normal(size=(4, 4))
    operator = step_operator(jnp.asarray(A), jnp.asarray(D), dt, halvings(dt * D @ A))
    shifted = A - SHIFT * np.eye(4)
    expected = (scipy.linalg.expm(dt * D @ shifted) - np.eye(4)) @ np.linalg.inv(shifted)
    np.testing.assert_allclose(operator, expected, rtol=0, atol=1e-14)
    got = local_linear(lambda x, u: A @ x + B @ u, jnp.asarray(x0), jnp.asarray(u), operator)
    plain = step_operator(jnp.asarray(D @ A), jnp.eye(4), dt, halvings(dt * D @ A))
    delayed = local_linear(lambda x, u: D @ (A @ x + B @ u), jnp.asarray(x0), jnp.asarray(u), plain)
    # The same but for the shift, which D multiplies or not.
    np.testing.assert_allclose(got, delayed, rtol=0, atol=1e-7)


def test_a_nonlinear_flow_is_solved_to_first_order():
    """Against a step a hundred times as short: the operator is that of the start."""

    def flow(x, u):
        return jnp.stack([x[1], -40 * jnp.sin(10 * x[0]) - 5 * x[1] + u[0]])

    @partial(jax.jit, static_argnums=0)
    def solve(n):
        jacobian = jax.jacfwd(flow)(jnp.zeros(2), jnp.zeros(1))
        operator = step_operator(jacobian, jnp.eye(2), 0.2 / n, 4)
        return local_linear(flow, jnp.zeros(2), jnp.ones((n, 1)), operator)[-1]

    exact = solve(12800)
    errors = [float(np.abs(solve(n) - exact).max()) for n in (32, 64, 128)]
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 2, atol=0.15)


def test_derivatives_of_first_and_second_order_are_those_of_the_scheme():
    A, B, u, x0 = linear_system()

    def by(solve):
        def size(theta):
            delay_operator = jnp.eye(4) + theta[1] * A / 1e3
            operator = step_operator(theta[0] * A, delay_operator, 0.01, 1)
            flow = lambda x, u: A @ jnp.tanh(theta[0] * x) + theta[2] * B @ u  # noqa: E731
            return (solve(flow, theta[2] * x0, jnp.asarray(u), operator)[-1] ** 2).sum()

        return size

    def plain(flow, start, u, operator):
        def step(x, u):
            x = x + operator @ flow(x, u)
            return x, x

        return jax.lax.scan(step, start, u)[1]

    theta = jnp.array([0.9, 0.2, 1.1])
    for derivative in (jax.jacfwd, jax.grad, jax.hessian):
        ours, theirs = (jax.jit(derivative(by(f)))(theta) for f in (local_linear, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
