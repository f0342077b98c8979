"""What holds for every neural model of sources with every observation and integrator."""

import itertools

import jax
import numpy as np
import numpyro
import pytest

from bayesdcm.data import EvokedData, GridHead, SphereHead, SurfaceHead
from bayesdcm.models.evoked import EvokedDCM

NEURAL = ("erp", "cmc", "lfp", "nmda", "laminar")
INTEGRATORS = ("local_linear", "delayed")
N_TIMES, N_CHANNELS = 12, 8
STRUCTURE = {
    "forward": [[0, 0], [1, 0]],
    "backward": [[0, 1], [0, 0]],
    "modulation": [[1, 0], [1, 0]],
}
POSITIONS = [[-42.0, -22.0, 7.0], [46.0, -14.0, 8.0]]

# Compiling is what these tests cost; code that runs once need not be fast.
QUICKLY = {"xla_cpu_use_fusion_emitters": False}


def sphere():
    sensors = np.random.default_rng(1).normal(size=(N_CHANNELS, 3))
    sensors[:, 2] = np.abs(sensors[:, 2])
    return SphereHead(0.09 * sensors / np.linalg.norm(sensors, axis=1, keepdims=True))


def grid():
    axis = np.linspace(-0.06, 0.06, 6)
    positions = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.random.default_rng(3).normal(size=(N_CHANNELS, 3, 3))
    gain = np.einsum("cij,kj->cki", weights, positions) + weights[:, None, 0]
    return GridHead(positions, gain)


def surface():
    rng = np.random.default_rng(2)
    positions = 0.05 * rng.normal(size=(60, 3))
    normals = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    return SurfaceHead(positions, normals, rng.normal(size=(N_CHANNELS, 60)))


# Fields of a model, and the head of its data. Dipoles move in a sphere and in a grid.
SPATIAL = {
    "lfp": ({}, None),
    "fixed": ({"lead_field": np.random.default_rng(4).normal(size=(N_CHANNELS, 2))}, None),
    "ecd": ({"positions": POSITIONS, "position_variance": 4.0}, sphere()),
    "ecd in a grid": ({"positions": POSITIONS, "position_variance": 4.0}, grid()),
    "img": ({"positions": POSITIONS}, surface()),
}


def make_case(neural, spatial, integrator):
    """A model, data for it, a point away from the prior mean, and a direction."""
    keywords, head = SPATIAL[spatial]
    observation = spatial.split()[0]
    model = EvokedDCM(
        **STRUCTURE, neural=neural, observation=observation, integrator=integrator, **keywords
    )
    n_channels = 2 if observation == "lfp" else N_CHANNELS
    signal = np.random.default_rng(0).normal(size=(2, N_TIMES, n_channels))
    data = EvokedData(signal, 0.008 * np.arange(N_TIMES), head=head)
    rng, point, direction = np.random.default_rng(5), {}, {}
    for prior in model.priors:
        moved = rng.normal(size=np.shape(prior.mean)) * np.sqrt(prior.variance)
        point[prior.name] = np.asarray(prior.mean + 0.2 * moved)
        direction[prior.name] = np.asarray(rng.normal(size=np.shape(prior.mean)) * prior.free)
    return model, data, point, direction


def jitted(function, *arguments):
    """The result of the compiled function, by the quickest of compilations."""
    lowered = jax.jit(function).lower(*arguments)
    try:
        compiled = lowered.compile(QUICKLY)
    except jax.errors.JaxRuntimeError:
        # A version of XLA that does not know the options.
        compiled = lowered.compile()
    return compiled(*arguments)


# Each neural model, observation and integrator once.
SOME = {
    ("erp", "ecd", "local_linear"),
    ("cmc", "img", "local_linear"),
    ("lfp", "lfp", "local_linear"),
    ("nmda", "fixed", "local_linear"),
    ("laminar", "lfp", "delayed"),
}


def cases(*axes):
    """All combinations, most of them for exhaustive runs."""
    some = {each[: len(axes)] for each in SOME}
    return [
        pytest.param(*case, marks=pytest.mark.slow if case in some else pytest.mark.exhaustive)
        for case in itertools.product(*axes)
        # Delays know nothing of the head: dipoles in one are enough.
        if not {"ecd in a grid", "delayed"} <= set(case)
        # The column is too stiff for local linearisation.
        and not {"laminar", "local_linear"} <= set(case)
    ]


@pytest.mark.parametrize(("neural", "spatial", "integrator"), cases(NEURAL, SPATIAL, INTEGRATORS))
def test_predictions_and_their_derivatives(neural, spatial, integrator):
    """Finite; jit is no jit; vmap is a loop; forward, reverse and differences agree."""
    model, data, point, direction = make_case(neural, spatial, integrator)
    step = 1e-4
    steps = np.array([0.0, step, -step, 2 * step, -2 * step])
    points = [jax.tree.map(lambda p, d, s=s: p + s * d, point, direction) for s in steps]
    loop = np.stack([model.predict(p, data) for p in points])
    prediction, scale = loop[0], float(np.abs(loop[0]).max())
    assert prediction.shape == data.signal.shape and prediction.dtype == np.float64
    assert np.isfinite(loop).all()
    assert 1e-6 < scale < 1e6
    weight = np.random.default_rng(6).normal(size=prediction.shape) / scale

    def derivatives(points, directions, weights):
        predict = jax.vmap(lambda p: model.predict(p, data))
        predictions, tangent = jax.linearize(predict, points)
        (reverse,) = jax.linear_transpose(tangent, points)(weights)
        return predictions, tangent(directions), reverse

    # One program for all: derivatives at the first point and, against the direction, at another.
    stacked = jax.tree.map(lambda *values: np.stack(values), *points[:2])
    directions = jax.tree.map(lambda d: np.stack([d, -2 * d]), direction)
    weights = np.stack([weight, np.zeros_like(weight)])
    together, forward, reverse = jax.device_get(jitted(derivatives, stacked, directions, weights))
    np.testing.assert_allclose(together, loop[:2], rtol=0, atol=1e-10 * scale)
    assert set(reverse) == {prior.name for prior in model.priors}
    # What has no weight has no derivative.
    assert all((value[1] == 0).all() for value in reverse.values())
    along = sum(float((reverse[name][0] * direction[name]).sum()) for name in point)
    assert float((forward[0] * weight).sum()) == pytest.approx(along, rel=1e-8)
    # Fourth-order central differences: error of some step ** 4 and 1e-13 / step.
    central = (8 * (loop[1] - loop[2]) - (loop[3] - loop[4])) / (12 * step)
    largest = float(np.abs(forward[0]).max())
    np.testing.assert_allclose(forward[0], central, rtol=0, atol=1e-6 * largest)
    # That of the other point differs by curvature only.
    np.testing.assert_allclose(forward[1], -2 * forward[0], rtol=0, atol=0.01 * largest)


@pytest.mark.parametrize(("neural", "spatial"), cases(NEURAL, SPATIAL))
def test_programs_have_the_documented_sites(neural, spatial):
    model, data, _, _ = make_case(neural, spatial, None)
    seeded = numpyro.handlers.seed(model.program(data), rng_seed=0)

    def run():
        with numpyro.handlers.trace() as sites:
            seeded()
        return {name: site["value"] for name, site in sites.items() if "value" in site}

    with numpyro.handlers.trace() as sites:
        # Shapes only: nothing is compiled.
        shapes = jax.eval_shape(run)
    labels = model.labels(data)
    order = [n for n, s in sites.items() if s["type"] == "sample" and not s["is_observed"]]
    assert order == list(labels)
    for name, entries in labels.items():
        assert int(np.prod(shapes[name].shape)) == len(entries) == len(set(entries)), name
    roles = {name: sites[name]["infer"].get("role") for name in order}
    spatial_sites = {prior.name for prior in model.spatial_priors}
    for name, role in roles.items():
        expected = "observer" if name.removesuffix("_free") in spatial_sites else None
        assert role == ("precision" if name == "log_precision" else expected), name
    for prior in model.priors:
        assert shapes[prior.name].shape == np.shape(prior.mean), prior.name
    n_modes = model.channel_space(data).signal.shape[1] // 2
    assert shapes["signal"].shape == (N_TIMES, 2 * n_modes)
    assert shapes["connection_strength"].shape == (2, len(model.source_model.kinds), 2, 2)
