"""The block-wise exponential and the trajectory against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from bayesdcm.integrate import (
    affine_generators,
    bilinear_generators,
    expand,
    power_series,
    runge_kutta,
    time_grid,
)
from bayesdcm.integrate.cascade import (
    FEW_TERMS,
    Cascade,
    exponential,
    propagators,
    total,
    trajectory,
)
from bayesdcm.integrate.grid import LARGEST_RATE, squarings_for

REGIONS, FILTERS, STATES = 2, 3, 4


def random_cascade(seed=0, stack=(), rate=1.0):
    rng = np.random.default_rng(seed)
    neuronal = rng.normal(size=(*stack, STATES, STATES)) * rate
    neuronal[..., 0, :] = 0.0  # the leading constant stays what it is
    return Cascade(
        jnp.asarray(neuronal),
        jnp.asarray(rng.normal(size=(REGIONS, FILTERS, STATES)) * rate),
        jnp.asarray(rng.normal(size=(REGIONS, FILTERS, FILTERS)) * rate),
    )


def dense(cascade):
    """One matrix over the neuronal states and the filters of all regions."""
    size = STATES + REGIONS * FILTERS
    matrix = np.zeros((size, size))
    matrix[:STATES, :STATES] = cascade.neuronal
    for i in range(REGIONS):
        rows = slice(STATES + i * FILTERS, STATES + (i + 1) * FILTERS)
        matrix[rows, :STATES] = cascade.coupling[i]
        matrix[rows, rows] = cascade.filter[i]
    return matrix


@pytest.mark.parametrize("duration", [0.05, 0.4, 2.0])
def test_exponential(duration):
    cascade = random_cascade()
    assert np.linalg.norm(dense(cascade), 1) < 2 * LARGEST_RATE
    made = exponential(cascade, jnp.asarray(duration), squarings_for(2 * duration))
    expected = scipy.linalg.expm(dense(cascade) * duration)
    np.testing.assert_allclose(dense(made), expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("finer", [1, 5])
def test_trajectory_is_a_product_of_dense_exponentials(finer):
    inputs = np.repeat([0.0, 1.0, 3.0, 1.0], np.multiply([3, 9, 4, 16], finer))[:, None]
    width = 0.1 / finer
    grid = time_grid(inputs, width, 4, np.array([0.5, 0.2]))
    rows = jnp.asarray(grid.inputs)[:, 0]
    base, change = random_cascade(1, rate=0.4), random_cascade(2, rate=0.1)
    neuronal = base.neuronal + rows[:, None, None] * change.neuronal
    x0 = np.array([1.0, 0.2, -0.1, 0.4])
    h0 = np.arange(6.0).reshape(REGIONS, FILTERS) / 10
    steps = jax.jit(propagators)(base._replace(neuronal=neuronal), grid)
    x, h, _ = trajectory(steps, grid, x0, h0)

    state, bin_ = np.concatenate([x0, h0.ravel()]), 0
    index = np.asarray(grid.step)
    for point, bins in enumerate(np.asarray(grid.propagator_bins)[index]):
        generator = base._replace(neuronal=base.neuronal + inputs[bin_, 0] * change.neuronal)
        state = scipy.linalg.expm(dense(generator) * bins * width) @ state
        bin_ += bins
        np.testing.assert_allclose(x[point + 1], state[:STATES], rtol=0, atol=1e-12)
        np.testing.assert_allclose(h[point + 1].ravel(), state[STATES:], rtol=0, atol=1e-12)
    assert bin_ == np.asarray(grid.propagator_bins)[index].sum() > 0


@pytest.mark.parametrize("size", [0, 1, FEW_TERMS, FEW_TERMS + 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_total_is_a_sum(size, axis):
    shape = np.insert([2, 3], axis % 3, size)
    terms = np.random.default_rng(size).normal(size=shape)
    np.testing.assert_allclose(total(jnp.asarray(terms), axis), terms.sum(axis), atol=1e-14)


def test_expansion_of_a_bilinear_flow_is_exact():
    rng = np.random.default_rng(3)
    A, B, C, f0 = (rng.normal(size=s) for s in ((3, 3), (2, 3, 3), (3, 2), 3))

    def flow(x, u):
        return (A + jnp.tensordot(u, B, 1)) @ x + C @ u + f0

    expansion = expand(flow, 3, 2)
    np.testing.assert_allclose(expansion.constant, f0)
    np.testing.assert_allclose(expansion.jacobian, A)
    np.testing.assert_allclose(expansion.drive, C)
    np.testing.assert_allclose(expansion.modulation, np.moveaxis(B, 0, -1))
    inputs = rng.normal(size=(4, 2))
    np.testing.assert_allclose(
        bilinear_generators(expansion, inputs), affine_generators(flow, 3, inputs), atol=1e-14
    )


def test_runge_kutta_has_order_four():
    def flow(x, u):
        return jnp.stack([x[1] * u[0], -jnp.sin(x[0])])

    inputs, x0 = np.repeat([1.0, 2.0], 40)[:, None], jnp.array([1.0, 0.0])
    grid = time_grid(inputs, 0.05, 2, np.array([2.0]), max_step=0.4)
    solve = jax.jit(runge_kutta, static_argnums=(0, 3))
    np.testing.assert_allclose(runge_kutta(flow, x0, grid), solve(flow, x0, grid, 1), atol=1e-14)
    reference = solve(flow, x0, grid, 64)
    errors = [np.abs(solve(flow, x0, grid, n) - reference).max() for n in (1, 2, 4)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 4, atol=0.25)


def test_power_series():
    a, b = [1.5, 0.3, -0.2, 0.1, 0.05], [0.7, -0.4, 0.2, 0.3, -0.1]
    n = len(a)
    product = [power_series.product_term(a, b, k) for k in range(n)]
    np.testing.assert_allclose(product, np.convolve(a, b)[:n])
    quotient = []
    for k in range(n):
        quotient.append(power_series.quotient_term(a, b, quotient, k))
    np.testing.assert_allclose(np.convolve(quotient, b)[:n], a, atol=1e-14)
    power = [a[0] ** 3]
    for k in range(1, n):
        power.append(power_series.power_term(a, power, 3.0, k))
    np.testing.assert_allclose(power, np.convolve(np.convolve(a, a), a)[:n])
    # Halves: (a ** 0.5) ** 2 = a
    root = [a[0] ** 0.5]
    for k in range(1, n):
        root.append(power_series.power_term(a, root, 0.5, k))
    np.testing.assert_allclose(np.convolve(root, root)[:n], a, atol=1e-14)
    assert power_series.evaluate(a, 2.0) == pytest.approx(np.polyval(a[::-1], 2.0))
