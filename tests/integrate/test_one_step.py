import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.integrate.one_step import SCHEMES

ORDERS = {"euler": 1, "exponential_euler": 1, "heun": 2, "rk4": 4}


def pendulum(x):
    position, velocity = x.T
    return jnp.stack([velocity, -jnp.sin(position) - 0.3 * velocity], axis=1)


def swing(scheme, steps):
    x = jnp.array([[1.0, 0.0], [0.2, -0.5]])
    for _ in range(steps):
        x = scheme(pendulum, x, 1.0 / steps)
    return np.asarray(x)


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_have_their_order(name):
    exact = swing(SCHEMES["rk4"], 64)
    coarse, fine = (np.abs(swing(SCHEMES[name], n) - exact).max() for n in (4, 8))
    assert np.log2(coarse / fine) == pytest.approx(ORDERS[name], abs=0.5)


def test_exponential_euler_is_exact_for_decay_and_for_no_decay():
    rates = jnp.array([[-3.0, 0.0]])
    found = SCHEMES["exponential_euler"](lambda x: rates * x + 2.0, jnp.ones((1, 2)), 0.5)
    decayed = np.exp(-1.5) + 2 / 3 * (1 - np.exp(-1.5))
    np.testing.assert_allclose(found, [[decayed, 2.0]], rtol=1e-14)
