"""Algebra of many complex matrices: beside NumPy's and JAX's own, with derivatives of any kind."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.integrate.complex_matrices import (
    FEW,
    inverses,
    positive_inverse,
    product,
    row_by_row,
    spectrum,
    squares,
)

LARGE = FEW + 7


def matrices(n, seed=0, rows=2):
    parts = np.random.default_rng(seed).normal(size=(2, rows, n, n))
    return parts[0] + 1j * parts[1]


def power(x):
    return jnp.abs(x[:, :, 0]) ** 2


def plain_spectra(x):
    inverse = jnp.linalg.inv(x)
    return (inverse * power(x)[:, None]) @ inverse.conj().mT


@pytest.mark.parametrize("n", [3, LARGE])
@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (inverses, jnp.linalg.inv),
        (squares, lambda x: x @ x.conj().mT),
        (lambda x: row_by_row(lambda p, a: spectrum(a, p), power(x), x), plain_spectra),
    ],
    ids=["inverses", "squares", "spectra"],
)
def test_values_and_derivatives_both_ways(function, plain, n):
    x, along, back = (jnp.asarray(matrices(n, seed)) for seed in range(3))

    def everything(function):
        value, tangent = jax.jvp(function, (x,), (along,))
        # Of chains side by side, too.
        (cotangent,) = jax.vjp(jax.vmap(function), x[None])[1](back[None])
        second = jax.jvp(lambda x: jax.vjp(function, x)[1](back)[0], (x,), (along,))[1]
        return value, tangent, cotangent, second

    found, expected = (jax.jit(everything, static_argnums=0)(f) for f in (function, plain))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(other).max())


def test_inverses_where_quarters_have_none():
    # Without exchanging rows nothing would come of it.
    matrix = np.roll(np.eye(LARGE), 5, axis=1) + 1e-3j * np.eye(LARGE)[::-1]
    both = jnp.stack([jnp.asarray(matrix), jnp.asarray(matrices(LARGE)[0])])
    expected = np.linalg.inv(both)
    for found in (jax.jit(inverses)(both), jax.jit(jax.vmap(inverses))(both[:, None])[:, 0]):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert not np.isfinite(inverses(jnp.zeros((1, LARGE, LARGE), complex))).all()


@pytest.mark.parametrize("n", [3, LARGE])
def test_positive_inverses_and_products(n):
    half, inverses_of = jnp.asarray(matrices(n)), partial(row_by_row, positive_inverse)
    positive = squares(half) + 0.1 * jnp.eye(n)
    logarithm, inverse = jax.jit(inverses_of)(positive)
    np.testing.assert_allclose(logarithm, np.linalg.slogdet(positive)[1], rtol=1e-12)
    np.testing.assert_allclose(product(positive, inverse), np.tile(np.eye(n), (2, 1, 1)), atol=1e-9)
    logarithm, inverse = inverses_of(positive.at[1].add(-100 * n * jnp.eye(n)))
    assert np.isfinite(logarithm).tolist() == [True, False]
    assert not np.isfinite(inverse[1]).all()


def test_rows_are_taken_apart_where_they_are_large():
    for n, loops in ((3, False), (LARGE, True)):
        traced = jax.make_jaxpr(lambda x: row_by_row(jnp.trace, x))(jnp.zeros((2, n, n)))
        assert ("scan" in str(traced)) == loops


@pytest.mark.parametrize("held", [0, 1])
def test_derivatives_where_one_of_two_arguments_is_held(held):
    """Of a network whose coupling alone is free, say, the power of the noise does not change."""
    rng = np.random.default_rng(0)
    matrix = jnp.asarray(rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)) + 4 * np.eye(3))
    arguments = [matrix, jnp.arange(1.0, 4.0)]

    def value(t):
        scaled = [a if i == held else a * (1 + t) for i, a in enumerate(arguments)]
        return (spectrum(*scaled).real * jnp.arange(9.0).reshape(3, 3)).sum()

    backward, forward = jax.jit(jax.grad(value))(0.0), jax.jvp(value, (0.0,), (1.0,))[1]
    assert float(backward) == pytest.approx(float(forward), rel=1e-12)
    assert float(forward) == pytest.approx(float(value(0.0)) * (-2 if held else 1), rel=1e-9)
