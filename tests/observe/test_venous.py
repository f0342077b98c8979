"""Derivatives of the Balloon model's response, beside those that JAX finds through its loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.integrate.grid import common_grids, time_grid
from bayesdcm.observe import haemodynamics
from bayesdcm.observe.balloon import STEPHAN_2007
from bayesdcm.observe.haemodynamics import balloon_response
from bayesdcm.observe.venous import venous_response, volume_series

N_SUBJECTS, N_SIZE = 3, 8


def grid_of(onset):
    """Two bins of input in twelve seconds."""
    inputs = np.zeros((48, 1))
    inputs[onset : onset + 8] = 1
    return time_grid(inputs, 0.25, n_scans=6, delays=np.array([1.0, 0.0]), max_step=0.85)


def response(vector, grid):
    """BOLD of two regions, of which the first is driven."""
    A = vector[:4].reshape(2, 2) + jnp.array([[-0.5, 0.0], [0.3, -0.5]])
    drive = jnp.eye(2, 3, 1)
    constant = vector[4] * grid.inputs[:, :1] * jnp.array([1.0, 0.0])
    square = jnp.broadcast_to(A, (len(grid.inputs), 2, 2))
    rows = jnp.concatenate([constant[:, :, None], square], axis=2)
    neuronal = jnp.concatenate([jnp.zeros_like(rows[:, :1]), rows], axis=1)
    parameters = {"transit": vector[5:7], "decay": vector[7], "epsilon": 0.5 * vector[7]}
    return balloon_response(neuronal, drive, parameters, grid)


@pytest.fixture(scope="module")
def vectors():
    found = 0.1 * np.random.default_rng(0).normal(size=(N_SUBJECTS, N_SIZE))
    # A flow that falls below the floor, too.
    found[:, 4] = [1.5, 0.8, -4.0]
    return found


def test_directions_may_be_taken_together_or_apart(vectors, monkeypatch):
    """Together where regions are few, apart where they are many."""

    def forward():
        return jax.jit(lambda vector: jax.jacfwd(response)(vector, grid_of(4)))(vectors[0])

    together = forward()
    monkeypatch.setattr(haemodynamics, "MOST_STATES", 0)
    monkeypatch.delattr(haemodynamics, "_along_directions")
    apart = forward()
    assert np.abs(together).max() > 0.1
    np.testing.assert_allclose(apart, together, rtol=0, atol=1e-12 * np.abs(together).max())


@pytest.mark.exhaustive
def test_derivatives_are_those_through_the_loops(vectors, monkeypatch):
    grid = grid_of(4)
    weights = np.random.default_rng(2).normal(size=(6, 2))

    @jax.jit
    def both(v):
        value, tangent = jax.linearize(lambda v: response(v, grid), v)
        jacobian = jax.vmap(tangent, out_axes=-1)(np.eye(N_SIZE))
        return value, jacobian, jax.linear_transpose(tangent, v)(weights)[0]

    found = [both(v) for v in vectors]
    with monkeypatch.context() as patch:
        patch.setattr(haemodynamics, "_venous_course", haemodynamics._venous_course.fun)
        plain = jax.jit(lambda v: (response(v, grid), jax.jacfwd(response)(v, grid)))
        expected = [plain(v) for v in vectors]
    for (value, jacobian, gradient), (course, known) in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, course, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(jacobian, known, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(gradient, np.tensordot(weights, known), rtol=1e-9, atol=1e-10)


@pytest.mark.exhaustive
def test_second_derivatives_are_symmetric(vectors):
    total = jax.jit(jax.hessian(lambda v: response(v, grid_of(4)).sum()))
    hessian = total(vectors[0])
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    assert abs(hessian).max() > 0.1


@pytest.mark.slow
def test_subjects_at_once_have_the_derivatives_of_subjects_alone(vectors):
    grids = common_grids([grid_of(onset) for onset in (4, 9, 13)])
    stacked = jax.tree.map(lambda *a: np.stack(a), *grids)
    derivative = jax.jacfwd(response)
    together = jax.jit(jax.vmap(derivative))(vectors, stacked)
    alone = jax.jit(derivative)
    for found, vector, grid in zip(together, vectors, grids, strict=True):
        np.testing.assert_allclose(found, alone(vector, grid), rtol=1e-10, atol=1e-11)


def test_slopes_of_a_step_are_its_derivatives():
    random = np.random.default_rng(1)
    order, duration = 5, 0.6
    flow = 0.1 * random.normal(size=order) / np.arange(1, order + 1) ** 3
    flow[0] = 1.3
    tau = 2.1
    # Two steps: the second begins away from rest.
    lead = 0.05 * random.normal(size=order)
    lead[0] = 1.2
    width = jnp.full((2, 1), duration)

    def solve(flow, tau):
        series = [jnp.stack([lead[k], flow[k]])[:, None] for k in range(order)]
        return venous_response(series, width, jnp.full(1, tau))

    def points(flow, tau):
        v, q, _ = solve(flow, tau)
        return v[:, 0], q[:, 0]

    *_, slopes = jax.jit(solve)(jnp.asarray(flow), tau)
    slopes = jax.tree.map(lambda a: float(a[1, 0]), slopes)
    derivatives = jax.jit(jax.jacfwd(points, argnums=(0, 1)))(jnp.asarray(flow), tau)
    (v_by_flow, v_by_tau), (q_by_flow, q_by_tau) = derivatives
    np.testing.assert_allclose(slopes.volume_by_flow, v_by_flow[2], rtol=1e-12)
    np.testing.assert_allclose(slopes.deoxyhaemoglobin_by_flow, q_by_flow[2], rtol=1e-11)
    # The transit time acts through the first step, too.
    volume = slopes.volume_by_log_transit_time / tau + slopes.volume_by_volume * v_by_tau[1]
    content = (
        slopes.deoxyhaemoglobin_by_log_transit_time / tau
        + slopes.deoxyhaemoglobin_by_volume * v_by_tau[1]
        + slopes.deoxyhaemoglobin_by_itself * q_by_tau[1]
    )
    np.testing.assert_allclose(volume, v_by_tau[2], rtol=1e-11)
    np.testing.assert_allclose(content, q_by_tau[2], rtol=1e-11)


def test_steps_of_no_duration_change_nothing():
    flow, tau = [jnp.full((1, 1), 1.3), *[jnp.zeros((1, 1))] * 3], jnp.full(1, 2.0)
    none = jnp.zeros((1, 1))
    v, q, slopes = jax.jit(venous_response)(flow, none, tau)
    assert v[1] == q[1] == slopes.volume_by_volume == slopes.deoxyhaemoglobin_by_itself == 1
    others = slopes._replace(volume_by_volume=[], deoxyhaemoglobin_by_itself=[])
    assert all(slope == 0 for slope in jax.tree.leaves(others))


def test_volume_leaves_by_its_power():
    v = jnp.linspace(0.2, 3.0, 8)
    np.testing.assert_allclose(
        volume_series(v, [], 2.0)[1][0], v ** (1 / STEPHAN_2007.grubb_exponent), rtol=1e-14
    )
