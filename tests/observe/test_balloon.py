"""Haemodynamic and BOLD equations against arrays that SPM wrote."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.observe import balloon

HAEMODYNAMIC = slice(1, 5)


@pytest.fixture(scope="module")
def cases():
    """All 25 random points as stacks, with what SPM made of them."""
    with np.load(Path(__file__).parents[1] / "data" / "spm_pointwise.npz") as arrays:
        names = sorted(name.partition("/")[0] for name in arrays if name.endswith("/x"))
        # One-state and two-state cases differ in their last column only.
        wanted = {"f": HAEMODYNAMIC, "x": HAEMODYNAMIC, "g": slice(None)}
        stack = {
            key: np.stack([arrays[f"{name}/{key}"][..., columns] for name in names])
            for key, columns in wanted.items()
        }
        stack["activity"] = np.stack([arrays[f"{name}/x"][:, 0] for name in names])
        # Axes of the Jacobian: regions, states, regions, states.
        jacobians = [arrays[f"{name}/dfdx"][:, HAEMODYNAMIC] for name in names]
        stack["by_states"] = np.stack([J[..., HAEMODYNAMIC] for J in jacobians])
        stack["by_activity"] = np.stack([J[..., 0] for J in jacobians])
        stack["dgdx"] = np.stack([arrays[f"{name}/dgdx"][..., 3:5] for name in names])
        stack["other_dgdx"] = np.stack([arrays[f"{name}/dgdx"][..., :3] for name in names])
        stack["parameters"] = {
            key: np.stack([arrays[f"{name}/{key}"] for name in names])
            for key in ("transit", "decay", "epsilon")
        }
        assert len(names) == 25
        return stack


def test_haemodynamic_equation(cases):
    f = jax.vmap(balloon.haemodynamic_flow)(cases["activity"], cases["x"], cases["parameters"])
    np.testing.assert_allclose(f, cases["f"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_haemodynamic_jacobians(cases, mode):
    jacobian = jax.jit(jax.vmap(mode(balloon.haemodynamic_flow, argnums=(0, 1))))
    by_activity, by_states = jacobian(cases["activity"], cases["x"], cases["parameters"])
    scale = np.abs(cases["by_states"]).max()
    np.testing.assert_allclose(by_states, cases["by_states"], rtol=0, atol=1e-8 * scale)
    np.testing.assert_allclose(by_activity, cases["by_activity"], rtol=0, atol=1e-8 * scale)


def signal(h, epsilon):
    return balloon.bold_signal(jnp.exp(h[..., -2]), jnp.exp(h[..., -1]), epsilon)


def test_bold_equation(cases):
    y = jax.vmap(signal)(cases["x"], cases["parameters"]["epsilon"])
    np.testing.assert_allclose(y, cases["g"], rtol=0, atol=1e-12)


def test_bold_jacobian(cases):
    jacobian = jax.vmap(jax.jacfwd(signal))(cases["x"][..., 2:], cases["parameters"]["epsilon"])
    np.testing.assert_allclose(jacobian, cases["dgdx"], rtol=0, atol=1e-11)
    assert np.abs(cases["other_dgdx"]).max() == 0


def test_jacobian_at_rest_is_the_known_one():
    tau = np.array([1.5, 2.5])
    parameters = {"decay": jnp.asarray(0.1), "transit": jnp.log(tau / 2)}
    rest = jnp.zeros((2, 4))
    J = jax.jacfwd(balloon.haemodynamic_flow, 1)(jnp.zeros(2), rest, parameters)
    alpha, e0 = 0.32, 0.4
    for i, t in enumerate(tau):
        delivery = (1 + (1 - e0) * np.log(1 - e0) - (1 - e0)) / e0 / t
        expected = [
            [-0.64 * np.exp(0.1), -0.32, 0, 0],
            [1, 0, 0, 0],
            [0, 1 / t, -1 / alpha / t, 0],
            [0, delivery, (alpha - 1) / alpha / t, -1 / t],
        ]
        np.testing.assert_allclose(J[i, :, i], expected, rtol=0, atol=1e-14)
    assert np.abs(J[0, :, 1]).max() == 0


def test_physical_units():
    assert float(balloon.decay_rate(np.log(2.0))) == pytest.approx(1.28)
    assert float(balloon.transit_time(np.log(0.5))) == pytest.approx(1.0)
