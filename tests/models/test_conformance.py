"""What holds for every neural model with every integrator."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.models import TaskDCM

STRUCTURE = {
    "A": [[1, 1], [1, 1]],
    "B": [[[0, 0], [0, 0]], [[1, 0], [1, 0]]],
    "C": [[1, 0], [0, 1]],
}
GATING = {"D": [[[0, 0], [0, 0]], [[1, 0], [1, 0]]]}
KINDS = {
    "bilinear": {},
    "gated": GATING,
    "two-state": {"two_state": True},
    "two-state gated": {"two_state": True, **GATING},
    "two-state backwards": {"two_state": True, "backwards": True},
}


@pytest.fixture(scope="module")
def design(make_design):
    inputs = np.zeros((48, 2))
    inputs[4:20, 0] = inputs[12:34, 1] = 1.0
    return make_design(inputs, 12, [0.5, 1.3], input_dt=0.5, n_regions=2)


# Compiling is what these tests cost: less optimised programs take half of it.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
# Programs of these differ from those of others by a line or two, and take seconds to compile.
SLOW = {("two-state backwards", "bilinear")}
# Each kind and each integrator is among the others; these put the same parts together again.
EXHAUSTIVE = {
    ("two-state", "nonlinear"),
    ("gated", "nonlinear"),
    ("two-state gated", "bilinear"),
    ("two-state backwards", "nonlinear"),
}


def make_model(kind, integrator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TaskDCM(**STRUCTURE, **KINDS[kind], integrator=integrator)


@pytest.fixture(scope="module", params=["nonlinear", "bilinear"])
def integrator(request):
    return request.param


@pytest.fixture(scope="module", params=KINDS)
def case(request, integrator, design):
    """A model, a point away from the prior mean, a direction, and the prediction there."""
    model = make_model(request.param, integrator)
    rng = np.random.default_rng(4)
    point, direction = {}, {}
    for prior in model.priors:
        moved = rng.normal(size=prior.mean.shape) * np.sqrt(prior.variance)
        point[prior.name] = np.asarray(prior.mean + 0.3 * moved + (prior.name == "C"))
        direction[prior.name] = np.asarray(rng.normal(size=prior.mean.shape) * prior.free)
    return model, point, direction, model.predict(point, design)


def test_predictions_are_finite(case, design):
    model, _, _, prediction = case
    assert prediction.shape == (12, 2) and prediction.dtype == jnp.float64
    assert np.isfinite(prediction).all()
    assert 0.1 < np.abs(prediction).max() < 10


def skip_if_slow(request):
    parameters = request.node.callspec.params
    case, asked = (parameters["case"], parameters["integrator"]), request.config.getoption
    if case in EXHAUSTIVE and not asked("--runall"):
        pytest.skip("exhaustive: give --runall")
    if case in SLOW and not (asked("--runslow") or asked("--runall")):
        pytest.skip("slow: give --runslow")


def test_derivatives_agree(request, case, design):
    """Compiled as not; vmap is a loop; forward, reverse and differences agree."""
    skip_if_slow(request)
    model, point, direction, alone = case
    weight = np.random.default_rng(5).normal(size=(12, 2))
    weights = np.stack([weight, np.zeros_like(weight)])

    @quick_jit
    def derivatives(points):
        predict = jax.vmap(lambda p: model.predict(p, design))
        predictions, tangent = jax.linearize(predict, points)
        (reverse,) = jax.linear_transpose(tangent, points)(weights)
        return predictions, tangent({k: np.stack([d, d]) for k, d in direction.items()}), reverse

    other = {name: value + 0.05 * direction[name] for name, value in point.items()}
    both = {name: np.stack([point[name], other[name]]) for name in point}
    predictions, (forward, elsewhere), reverse = derivatives(both)
    np.testing.assert_allclose(predictions[0], alone, rtol=0, atol=1e-11)
    np.testing.assert_allclose(predictions[1], model.predict(other, design), rtol=0, atol=1e-11)
    assert np.abs(predictions[1] - predictions[0]).max() > 1e-3
    assert np.abs(elsewhere - forward).max() > 1e-6
    # What has no weight has no derivative.
    assert all((value[1] == 0).all() for value in reverse.values())
    along = sum(float((reverse[name][0] * direction[name]).sum()) for name in point)
    assert float((forward * weight).sum()) == pytest.approx(along, rel=1e-9)

    def at(step):
        moved = jax.tree.map(lambda p, d: p + step * d, point, direction)
        return model.predict(moved, design)

    step = 1e-4
    # Fourth-order central differences: error of some step ** 4 and 1e-13 / step.
    central = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
    np.testing.assert_allclose(forward, central, rtol=0, atol=1e-8 * np.abs(forward).max())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "gated" not in kind])
def test_integrators_agree_at_weak_responses(kind, design):
    """Both have the same first order about rest; with D, spm_int_D has another."""
    models = [make_model(kind, integrator) for integrator in ("nonlinear", "bilinear")]
    weak = {prior.name: jnp.asarray(prior.mean) for prior in models[0].priors}
    weak["C"] = jnp.full((2, 2), 1e-3)
    predictions = [model.predict(weak, design) for model in models]
    peak = np.abs(predictions[0]).max()
    assert 0 < peak < 1e-2
    np.testing.assert_allclose(*predictions, rtol=0, atol=1e-3 * peak)
