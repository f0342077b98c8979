"""Responses of subjects side by side, beside those of subjects alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.integrate.grid import common_grids, time_grid
from bayesdcm.observe import balloon
from bayesdcm.observe.haemodynamics import balloon_response
from bayesdcm.observe.side_by_side import (
    balloon_response_side_by_side,
    expects_subjects,
    subjects_side_by_side,
)
from bayesdcm.observe.venous import venous_response, volume_series
from bayesdcm.observe.venous_slopes import venous_step

N_SUBJECTS, N_SIZE = 3, 8


def grid_of(onset):
    """Two bins of input in twelve seconds."""
    inputs = np.zeros((48, 1))
    inputs[onset : onset + 8] = 1
    return time_grid(inputs, 0.25, n_scans=6, delays=np.array([1.0, 0.0]), max_step=0.85)


def response(respond, vector, grid):
    """BOLD of two regions, of which the first is driven."""
    A = vector[:4].reshape(2, 2) + jnp.array([[-0.5, 0.0], [0.3, -0.5]])
    drive = jnp.eye(2, 3, 1)
    constant = vector[4] * grid.inputs[:, :1] * jnp.array([1.0, 0.0])
    square = jnp.broadcast_to(A, (len(grid.inputs), 2, 2))
    rows = jnp.concatenate([constant[:, :, None], square], axis=2)
    neuronal = jnp.concatenate([jnp.zeros_like(rows[:, :1]), rows], axis=1)
    parameters = {"transit": vector[5:7], "decay": vector[7], "epsilon": 0.5 * vector[7]}
    return respond(neuronal, drive, parameters, grid)


@pytest.mark.parametrize(
    "onsets",
    [
        pytest.param((4, 4, 4), id="shared", marks=pytest.mark.exhaustive),
        pytest.param((4, 9, 13), id="own"),
    ],
)
def test_signals_and_derivatives_are_those_of_subjects_alone(onsets):
    grids = common_grids([grid_of(onset) for onset in onsets])
    shared = len(set(onsets)) == 1
    stacked = grids[0] if shared else jax.tree.map(lambda *a: np.stack(a), *grids)
    random = np.random.default_rng(0)
    vectors = 0.1 * random.normal(size=(N_SUBJECTS, N_SIZE))
    # A flow that falls below the floor, too.
    vectors[:, 4] = [1.5, 0.8, -4.0]

    def both(respond, vector, grid):
        def value(v):
            found = response(respond, v, grid)
            return found, found

        return jax.jacfwd(value, has_aux=True)(vector)

    axes = (0, None if shared else 0)
    together = jax.jit(
        jax.vmap(lambda v, g: both(balloon_response_side_by_side, v, g), in_axes=axes)
    )(vectors, stacked)
    alone = jax.jit(lambda v, g: both(balloon_response, v, g))
    for i, (vector, grid) in enumerate(zip(vectors, grids, strict=True)):
        jacobian, signal = alone(vector, grid)
        np.testing.assert_allclose(together[1][i], signal, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(together[0][i], jacobian, rtol=1e-9, atol=1e-9)


def test_the_context_is_left():
    assert not expects_subjects()
    with subjects_side_by_side():
        assert expects_subjects()
    assert not expects_subjects()


def test_slopes_of_a_step_are_its_derivatives():
    random = np.random.default_rng(1)
    order, duration = 5, 0.6
    flow = 0.1 * random.normal(size=order) / np.arange(1, order + 1) ** 3
    flow[0] = 1.3
    tau = 2.1
    # Two steps: the second begins away from rest.
    lead = 0.05 * random.normal(size=order)
    lead[0] = 1.2

    @jax.jit
    def after(flow, tau):
        series = jnp.stack([jnp.asarray(lead), flow])[:, :, None]
        v, q = venous_response(series, jnp.full((2, 1), duration), jnp.full(1, tau))
        return v[2, 0], q[2, 0]

    @jax.jit
    def first_step(tau):
        series = jnp.asarray(lead)[None, :, None]
        return venous_response(series, jnp.full((1, 1), duration), jnp.full(1, tau))

    v, q = (part[1] for part in first_step(tau))
    # In units of the duration.
    scale = duration ** np.arange(order)
    coefficients, unit = [jnp.full(1, c) for c in scale * flow], jnp.full(1, tau / duration)
    series = volume_series(v, coefficients, unit)
    slopes = venous_step(*series, q, coefficients, unit)
    by_flow = [slope / scale for slope in jax.jacfwd(after)(jnp.asarray(flow), tau)]
    np.testing.assert_allclose(np.ravel(slopes.volume_by_flow), by_flow[0], rtol=1e-12)
    np.testing.assert_allclose(np.ravel(slopes.deoxyhaemoglobin_by_flow), by_flow[1], rtol=1e-11)
    # The transit time acts through the first step, too.
    before = jax.jacfwd(lambda tau: tuple(part[1, 0] for part in first_step(tau)))(tau)
    whole = jax.jacfwd(after, argnums=1)(jnp.asarray(flow), tau)
    volume = slopes.volume_by_log_transit_time / tau + slopes.volume_by_volume * before[0]
    content = (
        slopes.deoxyhaemoglobin_by_log_transit_time / tau
        + slopes.deoxyhaemoglobin_by_volume * before[0]
        + slopes.deoxyhaemoglobin_by_itself * before[1]
    )
    np.testing.assert_allclose(volume, whole[0], rtol=1e-11)
    np.testing.assert_allclose(content, whole[1], rtol=1e-11)


def test_steps_of_no_duration_change_nothing():
    v, q, flow = jnp.full(1, 1.1), jnp.full(1, 0.9), [jnp.full(1, 1.3), *[jnp.zeros(1)] * 3]
    series = volume_series(v, flow, jnp.full(1, jnp.inf))
    slopes = venous_step(*series, q, flow, jnp.full(1, jnp.inf))
    assert slopes.volume_by_volume == slopes.deoxyhaemoglobin_by_itself == 1
    others = slopes._replace(volume_by_volume=[], deoxyhaemoglobin_by_itself=[])
    assert all(slope == 0 for slope in jax.tree.leaves(others))


def test_volume_leaves_by_its_power():
    v = jnp.linspace(0.2, 3.0, 8)
    np.testing.assert_allclose(
        volume_series(v, [], 2.0)[1][0], v ** (1 / balloon.GRUBB_EXPONENT), rtol=1e-14
    )
