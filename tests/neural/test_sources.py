"""Models of sources against arrays that SPM wrote: equations, priors, delays, conditions."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.neural import CMC, ERP, LFP, NMDA
from bayesdcm.neural.base import from_vector, to_vector

MODELS = {"erp": ERP, "cmc": CMC, "lfp": LFP, "nmda": NMDA}
NETWORKS = ("one", "two", "mmn")
DRAWS = ("r0", "r1", "r2")
# SPM adds 1e-14 or so to what it inverts in the delay operator of LFP.
TOLERANCE = {"erp": 1e-13, "cmc": 1e-13, "lfp": 1e-11, "nmda": 1e-13}
# What SPM's one-sided differences leave of double precision, relative to the largest entry.
JACOBIAN_TOLERANCE = {"erp": 1e-11, "cmc": 1e-14, "lfp": 1e-11, "nmda": 1e-12}


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_sources.npz") as arrays:
        return dict(arrays)


def below(spm, prefix):
    """Arrays of a folder of the file, without those of folders inside it."""
    names = [k for k in spm if k.startswith(prefix) and "/" not in k.removeprefix(prefix)]
    return {k.removeprefix(prefix): spm[k] for k in names}


def source_model(spm, model, network):
    return MODELS[model](**below(spm, f"switches/{network}/"))


@pytest.fixture(scope="module", params=[(m, n) for m in MODELS for n in NETWORKS], ids="-".join)
def case(request, spm):
    """Name, network, model, and three draws, stacked: states, inputs, parameters, SPM's arrays."""
    name, network = request.param
    model = source_model(spm, name, network)
    folders = ["mean/", *(f"{draw}/P/" for draw in DRAWS[1:])]
    parameters = [below(spm, f"{name}/{network}/{folder}") for folder in folders]
    reference = [below(spm, f"{name}/{network}/{draw}/") for draw in DRAWS]
    parameters, reference = (
        jax.tree.map(lambda *draws: np.stack(draws), *table) for table in (parameters, reference)
    )
    x = np.stack([from_vector(vector, model.n_nodes) for vector in reference["x"]])
    return name, network, model, (x, reference["u"], parameters), reference


def each_draw(function, *arguments):
    return jax.jit(jax.vmap(function))(*arguments)


def assert_close(got, expected, tolerance):
    """Every draw within a tolerance relative to the largest entry of the draw."""
    for one, reference in zip(np.asarray(got), expected, strict=True):
        scale = np.abs(reference).max()
        np.testing.assert_allclose(one, reference, rtol=0, atol=tolerance * scale)


def test_state_equation(case):
    name, _, model, arguments, reference = case

    def flow(x, u, parameters):
        rate = to_vector(model.flow(x, u, parameters))
        if model.delay_in_flow:
            operator = model.delay_operator(model.jacobian(x, u, parameters), parameters)
            rate = operator @ rate
        return rate

    assert_close(each_draw(flow, *arguments), reference["f"], TOLERANCE[name])


def test_jacobian_by_the_differences_of_spm(case):
    name, _, model, arguments, reference = case

    def jacobian(x, u, parameters):
        matrix = model.jacobian(x, u, parameters, one_sided=True)
        if model.delay_in_flow:
            matrix = model.delay_operator(matrix, parameters) @ matrix
        return matrix

    assert_close(each_draw(jacobian, *arguments), reference["J"], JACOBIAN_TOLERANCE[name])


def test_exact_jacobian(case):
    name, _, model, arguments, reference = case
    x, u, parameters = arguments
    jacobian = each_draw(model.jacobian, *arguments)
    if name == "erp":
        assert_close(jacobian, reference["Jexact"], 1e-13)
    if name == "cmc":
        # It is that at rest, wherever one asks for it.
        at_rest = each_draw(model.jacobian, 0 * x, 0 * u, parameters)
        np.testing.assert_array_equal(jacobian, at_rest)
    # The step of SPM is large: this is what its differences are off by.
    assert_close(jacobian, each_draw(partial(model.jacobian, one_sided=True), *arguments), 1e-4)


def test_delay_operator(case):
    _, _, model, (_, _, parameters), reference = case
    if model.delay_in_flow:
        pytest.skip("SPM returns it inside of flow and Jacobian, which are tested above")
    operator = each_draw(model.delay_operator, reference["J"], parameters)
    # Less the identity, which dwarfs the rest in NMDA.
    identity = np.eye(operator.shape[-1])
    assert_close(operator - identity, reference["D"] - identity, 1e-10)


def test_rest(case, spm):
    name, network, model, _, _ = case
    rest = model.rest()
    assert rest.shape == (model.n_nodes, len(model.states))
    np.testing.assert_array_equal(to_vector(rest), spm[f"{name}/{network}/rest"])


def test_priors(case, spm):
    name, network, model, _, _ = case
    table = {prior.name: prior for prior in model.priors()}
    means = below(spm, f"{name}/{network}/mean/")
    variances = below(spm, f"{name}/{network}/variance/")
    assert set(table) == set(means)
    for parameter, prior in table.items():
        np.testing.assert_array_equal(prior.mean, means[parameter], parameter)
        np.testing.assert_array_equal(prior.variance, variances[parameter], parameter)


@pytest.mark.parametrize(
    ("model", "symbols"),
    [
        ("erp", "T G S A B C H D R"),
        ("cmc", "M A B N C T G D S R"),
        ("lfp", "R T G H A B C D I"),
        ("nmda", "S T G A B C R D U CV"),
    ],
)
def test_order_of_priors_is_that_of_spm(spm, model, symbols):
    priors = source_model(spm, model, "mmn").priors()
    assert [prior.symbol for prior in priors] == symbols.split()


@pytest.mark.parametrize(
    ("model", "fixed", "free", "states"),
    [("erp", 8, [0, 6], 9), ("cmc", 2, [0, 6], 8), ("lfp", 8, [0, 6], 13), ("nmda", 2, [0, 1], 12)],
)
def test_contribution_of_states(spm, model, fixed, free, states):
    prior = source_model(spm, model, "one").contribution
    assert (prior.symbol, prior.dims, prior.mean.shape) == ("J", ("state",), (states,))
    assert np.flatnonzero(prior.mean).tolist() == [fixed]
    assert prior.mean[fixed] == 1
    assert np.flatnonzero(prior.free).tolist() == free
    np.testing.assert_array_equal(prior.variance[prior.free], 1 / 32)


def test_names_fit_the_arrays(case):
    _, _, model, _, _ = case
    assert len(set(model.states)) == len(model.states)
    assert all("voltage" in model.states[i] for i in model.populations.values())
    n, own = model.n_nodes, {"kind": model.kinds, **model.axes}
    lengths = {"to": n, "from": n, "source": n, "effect": 1, "input": 1}
    lengths |= {axis: len(names) for axis, names in own.items()}
    for prior in (*model.priors(), model.contribution):
        assert prior.mean.shape == tuple(lengths[axis] for axis in prior.dims), prior.name


@pytest.mark.parametrize("model", ["erp", "cmc"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("draw", ["r1", "r2"])
def test_parameters_of_a_condition(spm, model, network, draw):
    prefix = f"condition/{model}/{network}/{draw}/"
    before, after = below(spm, f"{prefix}P/"), below(spm, f"{prefix}Q/")
    neural = source_model(spm, model, network)
    changed = neural.condition(jax.tree.map(jnp.asarray, before), jnp.ones(1))
    assert set(changed) == set(before) >= set(after)
    for name, expected in after.items():
        np.testing.assert_allclose(changed[name], expected, rtol=0, atol=1e-15, err_msg=name)
    unchanged = neural.condition(jax.tree.map(jnp.asarray, before), jnp.zeros(1))
    jax.tree.map(np.testing.assert_array_equal, unchanged, before)


@pytest.mark.parametrize("model", MODELS)
def test_effects_change_the_first_gain_of_each_source(spm, model):
    neural = source_model(spm, model, "mmn")
    parameters = {prior.name: jnp.asarray(prior.mean) for prior in neural.priors()}
    n = neural.n_nodes
    parameters["B"] = jnp.stack([jnp.diag(jnp.arange(1.0, n + 1)), jnp.ones((n, n))])
    if model == "cmc":
        parameters["modulatory_effect"] = 2 * parameters["B"]
    changed = neural.condition(parameters, jnp.array([0.5, 2.0]))
    total = 0.5 * np.diag(np.arange(1.0, n + 1)) + 2
    np.testing.assert_allclose(changed["A"] - parameters["A"], [total] * len(neural.kinds))
    gain = np.asarray(changed[neural.gain[0]] - parameters[neural.gain[0]])
    np.testing.assert_allclose(gain.reshape(n, -1)[:, 0], np.diagonal(total))
    assert not gain.reshape(n, -1)[:, 1:].any()
    if model == "cmc":
        np.testing.assert_allclose(changed["modulatory"], 2 * total)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("backward", np.zeros((3, 3)), r"backward must have shape \(2, 2\).*got \(3, 3\)"),
        ("inputs", np.full((2, 1), 0.5), "inputs must hold only 0 .* and 1"),
        ("modulation", np.zeros((2, 2)), r"modulation must have shape \(any, 2, 2\)"),
    ],
)
def test_switches_are_checked(spm, name, value, message):
    switches = below(spm, "switches/two/")
    with pytest.raises(ValueError, match=message):
        ERP(**{**switches, name: value})
