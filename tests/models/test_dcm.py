"""DCM: a neural model that is not part of the package, with every solver and observer."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayesdcm
from bayesdcm import DCM
from bayesdcm.data import BoldDesign, EvokedData
from bayesdcm.group.fingerprint import fingerprint
from bayesdcm.integrate import (
    BilinearExpansion,
    Delayed,
    Euler,
    ExactCascade,
    LocalLinear,
    RungeKutta,
)
from bayesdcm.neural import ERP, Bilinear, NeuralModel, NodeModel, Prior, RateBilinear
from bayesdcm.neural.delays import delay_matrix
from bayesdcm.observe import (
    Balloon,
    BoldObserver,
    Dipoles,
    Electrodes,
    LeadField,
    Patches,
    RegionalBalloon,
)


@dataclass(frozen=True)
class WilsonCowan(NeuralModel):
    """Excitatory and inhibitory populations; the former send to other nodes."""

    A: np.ndarray
    C: np.ndarray
    rate: float = 1.0
    delay: float = 0.0

    states: ClassVar = ("excitatory", "inhibitory")

    def priors(self):
        n, A, C = len(self.A), np.asarray(self.A, float), np.asarray(self.C, float)
        return (
            Prior("A", ("to", "from"), 0.2 * A, A / 64, "relative weight"),
            Prior("C", ("node", "input"), np.zeros(C.shape), C, "relative weight"),
            Prior("inhibition", ("node",), np.zeros(n), np.full(n, 1 / 16), "log scaling"),
        )

    def flow(self, x, u, parameters):
        excitatory, inhibitory = x.T
        inhibition = jnp.exp(parameters["inhibition"]) * inhibitory
        drive = parameters["A"] @ excitatory + parameters["C"] @ u - inhibition
        rates = [jnp.tanh(drive) - excitatory, (excitatory - inhibitory) / 2]
        return self.rate * jnp.stack(rates, axis=-1)

    def delays(self, parameters):
        n = len(self.A)
        return delay_matrix(self.delay * jnp.ones((n, n)), np.zeros((2, 2))) if self.delay else None


@dataclass(frozen=True)
class Nodes(NeuralModel):
    """Nodes of networks, with connections and inputs that end on their first afferent."""

    node: NodeModel
    A: np.ndarray
    C: np.ndarray

    states = property(lambda self: self.node.states)

    def priors(self):
        A, C = np.asarray(self.A, float), np.asarray(self.C, float)
        return (
            Prior("W", ("to", "from"), 0.2 * A, A / 64, "relative weight"),
            Prior("inputs", ("node", "input"), np.zeros(C.shape), C, "relative weight"),
            *self.node.priors(),
        )

    def rest(self, parameters=None):
        return jnp.broadcast_to(self.node.rest(parameters), (len(self.A), len(self.states)))

    def flow(self, x, u, parameters):
        constants = self.node.constants(parameters)
        arriving = parameters["W"] @ self.node.sent(x, constants)[0] + parameters["inputs"] @ u
        received = jnp.zeros((len(self.node.afferents), len(x))).at[0].set(arriving)
        return self.node.local(x, received, u, constants)


A, C = np.array([[0, 1], [1, 0]]), np.array([[1], [0]])
OFF, FORWARD = np.zeros((2, 2)), np.array([[0, 0], [1, 0]])
SLOW, FAST = WilsonCowan(A, C), WilsonCowan(A, C, rate=50.0, delay=0.01)
ONE_DRIVE = np.array([[1.0], [0.0]])
BILINEAR = Bilinear(A + np.eye(2), np.zeros((1, 2, 2)), ONE_DRIVE)
MASS = ERP(FORWARD, FORWARD.T, OFF, np.zeros((0, 2, 2)), ONE_DRIVE)
POSITIONS = np.array([[-42.0, -22.0, 7.0], [46.0, -14.0, 8.0]])
LEAD = np.random.default_rng(4).normal(size=(3, 2))
GIVEN = {
    "ecd": np.random.default_rng(5).normal(size=(2, 3, 3)),
    "img": np.random.default_rng(6).normal(size=(2, 3, 2)),
}
FITTING = {
    "own, Runge-Kutta, Balloon": (SLOW, RungeKutta(), Balloon()),
    "own, expansion, Balloon": (SLOW, BilinearExpansion(), Balloon(as_spm=True)),
    "bilinear, exact, Balloon": (BILINEAR, ExactCascade(), Balloon()),
    "bilinear, Runge-Kutta, Balloon of Friston": (
        *(BILINEAR, RungeKutta(), Balloon(as_spm=True, haemodynamics="friston2003")),
    ),
    "rates, Euler, regional Balloon": (
        *(RateBilinear(BILINEAR.A, BILINEAR.B, ONE_DRIVE), Euler(0.25), RegionalBalloon()),
    ),
    "own, local linear, lead field": (FAST, LocalLinear(), LeadField(LEAD)),
    "own, delayed, electrodes": (FAST, Delayed(), Electrodes()),
    "own, local linear, dipoles": (FAST, LocalLinear(), Dipoles(lead_field=GIVEN["ecd"])),
    "bilinear, delayed, patches": (BILINEAR, Delayed(), Patches(lead_field=GIVEN["img"])),
    "neural mass, local linear, lead field": (MASS, LocalLinear(), LeadField(LEAD)),
    "Wilson-Cowan node, Runge-Kutta, Balloon": (
        *(Nodes(bayesdcm.WilsonCowan(tau_E=500.0, tau_I=900.0, w_EE=4.0), A, C), RungeKutta()),
        Balloon(),
    ),
}


@pytest.fixture(scope="module")
def design():
    inputs = np.zeros((60, 1))
    inputs[5:20] = inputs[35:50] = 1.0
    return BoldDesign(30, 2.0, inputs, 1.0, ["V1", "V5"], ["motion"])


def make_data(model, design):
    if isinstance(model.observer, BoldObserver):
        return design
    n_channels = 2 if isinstance(model.observer, Electrodes) else 3
    signal = np.random.default_rng(0).normal(size=(1, 25, n_channels))
    return EvokedData(signal, 0.008 * np.arange(25))


def point_and_direction(model):
    rng, point, direction = np.random.default_rng(1), {}, {}
    for prior in model.priors:
        moved = rng.normal(size=np.shape(prior.mean)) * np.sqrt(prior.variance)
        point[prior.name] = jnp.asarray(prior.mean + 0.3 * moved + 0.5 * (prior.name == "C"))
        direction[prior.name] = jnp.asarray(rng.normal(size=np.shape(prior.mean)) * prior.free)
    return point, direction


# What holds for the package's own models with these parts, in tests of their conformance.
OF_NAMED_MODELS = {"bilinear, exact, Balloon", "neural mass, local linear, lead field"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive if name in OF_NAMED_MODELS else ())
        for name in FITTING
    ],
)
def test_parts_that_fit_predict_with_derivatives(name, design):
    """Finite; jit is no jit; a batch is a loop; forward, reverse and differences agree."""
    model = DCM(*FITTING[name])
    data = make_data(model, design)
    point, direction = point_and_direction(model)
    prediction = model.predict(point, data)
    scale = float(np.abs(prediction).max())
    assert np.isfinite(prediction).all() and 1e-9 < scale < 1e6
    weight = jnp.asarray(np.random.default_rng(2).normal(size=prediction.shape)) / scale

    @jax.jit
    def derivatives(points):
        values, tangent = jax.linearize(jax.vmap(lambda p: model.predict(p, data)), points)
        (reverse,) = jax.linear_transpose(tangent, points)(jnp.stack([weight, 0 * weight]))
        return values, tangent(jax.tree.map(lambda d: jnp.stack([d, d]), direction)), reverse

    step = 1e-4
    moved = [jax.tree.map(lambda p, d, s=s: p + s * d, point, direction) for s in (step, -step)]
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), point, moved[0])
    values, forward, reverse = derivatives(both)
    differences = [model.predict(p, data) for p in moved]
    np.testing.assert_allclose(values[0], prediction, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(values[1], differences[0], rtol=0, atol=1e-10 * scale)
    along = sum(float((reverse[k][0] * direction[k]).sum()) for k in point)
    assert float((forward[0] * weight).sum()) == pytest.approx(along, rel=1e-8)
    central = (differences[0] - differences[1]) / (2 * step)
    np.testing.assert_allclose(forward[0], central, rtol=0, atol=1e-5 * np.abs(central).max())


def test_a_solver_gives_what_another_gives(design):
    point, _ = point_and_direction(DCM(BILINEAR, ExactCascade(), Balloon()))
    exact, stepped = (
        DCM(BILINEAR, solver, Balloon()).predict(point, design)
        for solver in (ExactCascade(), RungeKutta(step=0.05))
    )
    np.testing.assert_allclose(exact, stepped, rtol=0, atol=1e-4 * np.abs(exact).max())
    task = bayesdcm.TaskDCM(BILINEAR.A, BILINEAR.B, BILINEAR.C)
    np.testing.assert_array_equal(exact, task.predict(point, design))
    quick = WilsonCowan(A, C, rate=50.0)
    point, _ = point_and_direction(DCM(quick, Delayed(), Electrodes()))
    data = make_data(DCM(quick, Delayed(), Electrodes()), design)
    data = EvokedData(data.signal, 0.001 * np.arange(25))
    near, solved = (
        DCM(quick, solver(onset=0.01), Electrodes()).predict(point, data)
        for solver in (LocalLinear, Delayed)
    )
    # The former holds inputs over every sample.
    np.testing.assert_allclose(near, solved, rtol=0, atol=0.1 * np.abs(solved).max())


def test_a_model_of_ones_own_has_names_units_and_facts(design):
    model = DCM(SLOW, RungeKutta(), Balloon(), priors={"A[V5, V1]": (0.5, 0.01)})
    assert repr(model) == (
        "DCM(WilsonCowan, 2 regions, 1 input; RungeKutta; Balloon; priors given for A[V5, V1])"
    )
    labels = model.labels(design)
    assert labels["A_free"] == ["A[V1, V5]", "A[V5, V1]"]
    assert labels["inhibition"] == ["inhibition[V1]", "inhibition[V5]"]
    assert labels["C_free"] == ["C[V1, motion]"]
    assert model.prior_table(design).loc["A[V5, V1]", "mean"] == 0.5
    facts = model.facts()
    assert (facts.kind, facts.node, facts.neural) == ("task fMRI", "region", "WilsonCowan")
    assert facts.unit("inhibition") == "log scaling" and len(facts.citations) == 2
    assert model.dims()["C"] == ("node", "input") and model.dims()["transit_time"] == ("region",)
    assert model == DCM(SLOW, RungeKutta(), Balloon(), priors={"A[V5, V1]": (0.5, 0.01)})
    before = fingerprint(model)
    model.predict({prior.name: prior.mean for prior in model.for_data(design).priors}, design)
    assert fingerprint(model) == before
    assert hash(model) != hash(DCM(SLOW, RungeKutta(0.1), Balloon()))


def test_restriction_switches_off_what_fields_switch_on():
    model = DCM(SLOW, RungeKutta(), Balloon(), priors={"A": (0.1, 0.25)})
    restricted = model.restrict(A=[[0, 0], [1, 0]])
    A_prior = next(prior for prior in restricted.priors if prior.name == "A")
    assert A_prior.variance.tolist() == [[0.0, 0.0], [0.25, 0.0]]
    assert restricted.neural.A.tolist() == [[0, 0], [1, 0]]
    with pytest.raises(ValueError, match="B is not a field of WilsonCowan with switches"):
        model.restrict(B=0)
    with pytest.raises(ValueError, match="A switches on 1 connection"):
        restricted.restrict(A=[[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        ((A, RungeKutta(), Balloon()), TypeError, "neural must be a bayesdcm.neural.NeuralModel"),
        ((SLOW, "rk4", Balloon()), TypeError, "solver must be a bayesdcm.integrate.Solver, got"),
        ((SLOW, RungeKutta(), None), TypeError, "observer must be a bayesdcm.observe.Observer"),
        ((SLOW, ExactCascade(), Balloon()), ValueError, "affine in its states, got WilsonCowan"),
        ((SLOW, RungeKutta(), Electrodes()), ValueError, "RungeKutta takes inputs as BoldData"),
        ((SLOW, Delayed(), Balloon()), ValueError, "observer Balloon is for BoldData; ExactCasc"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, kind, message):
    with pytest.raises(kind, match=message):
        DCM(*parts)


def test_data_that_do_not_fit_are_refused():
    model = DCM(FAST, LocalLinear(), LeadField(LEAD, source_names=["A1"]))
    data = EvokedData(np.random.default_rng(0).normal(size=(1, 9, 3)), 0.01 * np.arange(9))
    with pytest.raises(ValueError, match="source_names must be 2 names, one a source"):
        model.prepare(data)
    with pytest.raises(ValueError, match=r"matrix must have shape \(channel, 2\)"):
        DCM(FAST, LocalLinear(), LeadField(LEAD[:, :1])).prepare(data)
    with pytest.raises(TypeError, match="data must be EvokedData, got dict"):
        model.prepare({})


@pytest.fixture(scope="module")
def bold(design):
    model = DCM(SLOW, RungeKutta(step=1.0), Balloon())
    truth = {prior.name: np.asarray(prior.mean) for prior in model.priors}
    truth |= {"A": np.array([[0, -0.1], [0.6, 0]]), "C": np.array([[0.8], [0.0]])}
    return model, truth, model.simulate(truth, design, seed=1, snr=4.0)


METHODS = {
    "laplace": {},
    "svi": {"steps": 300},
    "nuts": {"chains": 1, "warmup": 20, "draws": 20},
    "gradient": {"starts": 1},
    "evolution": {"starts": 1, "generations": 150},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore")
def test_a_model_of_ones_own_is_fitted_by_every_method(bold, method):
    model, truth, data = bold
    fit = bayesdcm.fit(model, data, method, progress=False, **METHODS[method])
    summary = fit.summary()
    found = summary["mean" if "mean" in summary else "estimate"]
    assert abs(found["A[V5, V1]"] - truth["A"][1, 0]) < 0.3


@pytest.mark.slow
def test_a_model_of_ones_own_is_reduced_and_grouped(bold, design):
    model, truth, data = bold
    fit = bayesdcm.fit(model, data, progress=False)
    reduced = bayesdcm.reduce(fit, ["A[V1, V5]"])
    again = bayesdcm.fit(model.restrict(A=FORWARD), data, progress=False)
    # Reduction moves the prior to zero, restriction too: A of an absent connection is zero.
    assert reduced.change == pytest.approx(again.log_evidence - fit.log_evidence, abs=1.0)
    others = [model.simulate(truth, design, seed=s, snr=4.0) for s in (2, 3)]
    group = bayesdcm.fit_group(model, [data, *others], progress=False)
    assert len(group.summary()) == 3 * len(fit.summary())


@pytest.mark.slow
def test_channels_of_a_model_of_ones_own_are_fitted():
    model = DCM(FAST, LocalLinear(), LeadField(LEAD))
    base = EvokedData(np.random.default_rng(0).normal(size=(1, 25, 3)), 0.008 * np.arange(25))
    truth, _ = point_and_direction(model)
    fit = bayesdcm.fit(model, model.simulate(truth, base, seed=1, snr=10.0), progress=False)
    assert fit.diagnose().facts["explained_variance"].max() > 0.8
