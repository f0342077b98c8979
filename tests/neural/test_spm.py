"""Neural state equations and priors against arrays that SPM wrote."""

from pathlib import Path

import jax
import numpy as np
import pytest

from bayesdcm.neural import Bilinear, TwoState
from bayesdcm.observe import haemodynamic_priors

VARIANTS = ("bilinear", "nonlinear", "nob", "twostate", "twostate_backwards")
PARAMETERS = ("A", "A_backward", "B", "C", "D", "transit", "decay", "epsilon")
# Columns of SPM's states that are neuronal: the inhibitory population comes last.
NEURONAL = {"excitatory": 0, "activity": 0, "inhibitory": 5}


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_pointwise.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def switches(spm):
    return {name: spm[f"switches/{name}"] for name in "ABCD"}


def neural_model(variant, switches):
    A, B, C, D = switches.values()
    if variant.startswith("twostate"):
        return TwoState(A, B, C, backwards=variant.endswith("backwards"))
    return Bilinear(A, B, C, D if variant == "nonlinear" else None)


@pytest.fixture(scope="module", params=VARIANTS)
def cases(request, spm, switches):
    """The model of a variant, and five random points as one stack of arrays."""
    names = [n.partition("/")[2] for n in spm if n.startswith(f"{request.param}_1/")]
    stack = {n: np.stack([spm[f"{request.param}_{i}/{n}"] for i in range(1, 6)]) for n in names}
    return neural_model(request.param, switches), stack


def states_and_parameters(model, stack):
    columns = [NEURONAL[state] for state in model.states]
    parameters = {name: stack[name] for name in PARAMETERS if name in stack}
    return columns, (stack["x"][:, :, columns], stack["u"], parameters)


def test_state_equation(cases):
    model, stack = cases
    columns, arguments = states_and_parameters(model, stack)
    f = jax.vmap(model.flow)(*arguments)
    np.testing.assert_allclose(f, stack["f"][:, :, columns], rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_jacobians(cases, mode):
    model, stack = cases
    columns, arguments = states_and_parameters(model, stack)
    by_states, by_inputs = jax.jit(jax.vmap(mode(model.flow, argnums=(0, 1))))(*arguments)
    expected = stack["dfdx"][:, :, columns]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(by_states, expected[..., columns], rtol=0, atol=1e-8 * scale)
    np.testing.assert_allclose(by_inputs, stack["dfdu"][:, :, columns], rtol=0, atol=1e-8 * scale)
    if "dfdx_analytic" in stack:
        exact = stack["dfdx_analytic"][:, :, columns][..., columns]
        np.testing.assert_allclose(by_states, exact, rtol=0, atol=1e-12)
    haemodynamic = [i for i in range(expected.shape[-1]) if i not in columns]
    assert np.abs(expected[..., haemodynamic]).max() == 0


@pytest.mark.parametrize("variant", ["bilinear", "nonlinear", "twostate", "twostate_backwards"])
def test_priors(spm, switches, variant):
    model = neural_model(variant, switches)
    table = {prior.name: prior for prior in (*model.priors(), *haemodynamic_priors(3))}
    expected = {k.partition("/")[2] for k in spm if k.startswith(f"prior_{variant}/")}
    assert {f"{name}_{kind}" for name in table for kind in ("mean", "variance")} == expected
    for name, prior in table.items():
        np.testing.assert_array_equal(prior.mean, spm[f"prior_{variant}/{name}_mean"])
        np.testing.assert_array_equal(prior.variance, spm[f"prior_{variant}/{name}_variance"])
        np.testing.assert_array_equal(prior.free, prior.variance > 0)


def test_order_of_priors_is_that_of_the_literature(switches):
    names = [prior.name for prior in neural_model("nonlinear", switches).priors()]
    assert names == ["A", "B", "C", "D"]


def test_affine_exactly_where_nothing_gates(switches):
    assert neural_model("bilinear", switches).affine
    assert not neural_model("nonlinear", switches).affine
    assert TwoState(*list(switches.values())[:3]).affine
    assert not TwoState(*switches.values()).affine


def test_rest_without_input_is_a_fixed_point(cases):
    model, stack = cases
    _, (x, u, parameters) = states_and_parameters(model, stack)
    flow = jax.vmap(model.flow)(0 * x, 0 * u, parameters)
    np.testing.assert_array_equal(flow, np.zeros_like(x))


def test_models_of_regions_have_jacobian_and_rest(switches):
    """Without input, the Jacobian of the bilinear model is its effective connectivity."""
    model = neural_model("bilinear", switches)
    parameters = {prior.name: np.asarray(prior.mean + 0.1) for prior in model.priors()}
    rest, u = model.rest(parameters), np.zeros(model.n_inputs)
    assert rest.shape == (model.n_nodes, 1) and not rest.any()
    expected = model.derive(parameters, None)["effective_connectivity"]

    @jax.jit
    def both(rest):
        exact = model.jacobian(rest, u, parameters)
        return exact, model.jacobian(rest, u, parameters, one_sided=True)

    exact, nearly = both(rest)
    np.testing.assert_allclose(exact, expected, rtol=1e-12)
    np.testing.assert_allclose(nearly, expected, rtol=0, atol=1e-10)
    assert model.delays(parameters) is None
    two_state = neural_model("twostate", switches)
    parameters = {prior.name: np.asarray(prior.mean) for prior in two_state.priors()}
    jacobian = jax.jit(two_state.jacobian)(two_state.rest(parameters), u, parameters)
    assert (np.linalg.eigvals(jacobian).real < 0).all()


def test_switches_of_regions_are_checked():
    with pytest.raises(ValueError, match=r"B must have shape \(1, 2, 2\)"):
        Bilinear(np.eye(2), np.zeros((2, 2, 2)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="A must hold only 0"):
        TwoState(0.5 * np.eye(2), np.zeros((1, 2, 2)), np.ones((2, 1)))
