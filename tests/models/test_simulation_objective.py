"""Objectives of simulations: data by name, derivatives, recovery, what is refused."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesdcm
from bayesdcm import Connectome, NetworkModel, SimulationObjective, WilsonCowan
from bayesdcm.infer.point_estimate import densities, slopes
from bayesdcm.infer.problem import ModelSource, make_problem
from bayesdcm.neural import OrnsteinUhlenbeck
from bayesdcm.observe import StreamedCorrelation, WindowMeans, functional_connectivity
from bayesdcm.observe.loss_likelihood import LossLikelihood

NAMES = ["V1", "V5", "SPC"]
LENGTHS = np.array([[0, 20.0, 40.0], [20.0, 0, 30.0], [40.0, 30.0, 0]])
CONNECTIVITY = {"functional_connectivity": "squared"}
TRUTH = {"strength": 0.3, "speed": -0.2}
DATA = np.array([[1, 0.5, 0.2], [0.5, 1, 0.4], [0.2, 0.4, 1]])


def network(**options):
    connectome = Connectome(LENGTHS / 40, LENGTHS, NAMES)
    noise = OrnsteinUhlenbeck(0.3, 0.02)
    return NetworkModel(WilsonCowan(), connectome, strength=2.0, noise=noise, **options)


def made(objective=None, duration=0.2, model=None, **options):
    return SimulationObjective(model or network(), objective or CONNECTIVITY, duration, **options)


@pytest.fixture(scope="module")
def every_kind():
    """An objective of which a parameter of each kind is free."""
    return made(free=["strength", "speed", "w_EE", "theta_E", "noise_sd"], transient=0.05)


# Derivatives of the whole objective, by coupling, speed, constants of the node and noise


@pytest.mark.exhaustive
def test_derivatives_of_the_objective_are_those_of_differences(every_kind):
    problem = make_problem(every_kind, DATA)
    at, step = np.array([0.1, -0.05, 0.2, -0.2, 0.15]), 1e-4
    shifts = step * np.eye(5)
    points = np.concatenate([at + k * shifts for k in (-2, -1, 1, 2)])
    values = densities(problem.source, problem, points)[1].reshape(4, 5)
    expected = np.array([1, -8, 8, -1]) @ values / (12 * step)
    assert np.abs(expected).min() > 1
    for derivative in ("forward", "reverse"):
        source = ModelSource(every_kind.with_derivative(derivative))
        found = slopes(source, problem, derivative, at[None])[3][0]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_horizon_keeps_the_result_and_forgets_in_derivatives():
    model = network(speed=None)

    def loss(strength, horizon):
        found = model.run(
            {"strength": strength}, 0, 0.1, 1e-3, derivative="forward", horizon=horizon
        )
        return found["E"][-1].sum()

    @jax.jit
    def along(strength):
        horizons = (None, 0.1, 0.004)
        return [jax.jvp(lambda s, h=h: loss(s, h), (strength,), (1.0,)) for h in horizons]

    both = along(0.1)
    values, found = (np.array([float(pair[i]) for pair in both]) for i in (0, 1))
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
    assert found[1] == pytest.approx(found[0], rel=1e-12)
    assert abs(found[2] - found[0]) > 1e-3 * abs(found[0])
    with pytest.raises(ValueError, match="horizon is 0.0001 s; expected a whole number of steps"):
        loss(0.1, 1e-4)


# Fits


@pytest.fixture(scope="module")
def fit():
    objective = made()
    data = objective.simulate(TRUTH, seed=0).functional_connectivity
    starts = np.array([[0.0, 0.0], [0.4, -0.1]])
    return bayesdcm.fit(
        objective, data, "gradient", starts=starts, steps=60, learning_rate=0.3, progress=False
    )


@pytest.mark.slow
def test_parameters_are_recovered_where_noise_is_known(fit):
    # The prior draws them by a little.
    assert float(fit.mean["strength"]) == pytest.approx(TRUTH["strength"], abs=0.02)
    assert float(fit.mean["speed"]) == pytest.approx(TRUTH["speed"], abs=0.05)
    assert fit.status["derivative"] == "forward"
    shown = fit.idata.posterior
    assert shown["strength_value"].item() == pytest.approx(2 * np.exp(fit.mean["strength"]))
    assert shown["speed_value"].item() == pytest.approx(10 * np.exp(fit.mean["speed"]))


def test_what_a_fit_predicts_is_what_is_simulated_there(fit):
    objective = fit.problem.model
    there = objective.simulate(fit.mean, seed=0).functional_connectivity
    predicted = fit.predict()
    np.testing.assert_allclose(predicted, there, rtol=1e-10)
    assert list(predicted["region"].values) == NAMES
    losses = objective.losses(fit.mean, fit.problem.data)
    np.testing.assert_allclose(
        losses["functional_connectivity"],
        ((predicted - fit.problem.data) ** 2).mean() / fit.problem.data.values.var(),
    )
    unit = objective.loss_unit
    assert fit.status["log_likelihood"] == pytest.approx(-losses["functional_connectivity"] / unit)


def test_stuck_starts_and_fits_to_the_noise_are_named(fit):
    said = fit.diagnose()
    # From the prior mean, the search ends on a lower hill of this short and rugged simulation.
    assert [problem.kind for problem in said.problems] == ["starts stuck", "fitted to the noise"]
    assert fit.status["starts_reached"] == 1
    assert len(fit.status["log_likelihood_other_noise"]) == 4
    assert said.facts["worse_with_other_noise"] > 10


def test_equal_objectives_share_compiled_programs(fit):
    one, other = made(), made(seed=7)
    assert one == other
    assert hash(one) == hash(other)
    assert one != made(duration=0.3)
    assert one != made(priors={"speed": (0.0, 0.1)})


# Data


def test_data_are_put_in_place_by_name():
    objective = made()
    expected = objective.prepare(DATA).observed["functional_connectivity"]
    moved = [2, 0, 1]
    table = pd.DataFrame(DATA, NAMES, NAMES).iloc[moved, moved]
    names = [NAMES[i] for i in moved]
    array = xr.DataArray(
        DATA[np.ix_(moved, moved)],
        dims=("region", "other region"),
        coords={"region": names, "other region": names},
    )
    for data in (table, array, {"functional_connectivity": table}):
        with pytest.warns(UserWarning, match="was put in another order, by name"):
            found = objective.prepare(data).observed["functional_connectivity"]
        np.testing.assert_array_equal(found, expected)


def test_measures_are_worked_out_of_recordings():
    signal = np.random.default_rng(0).normal(size=(50, 3))
    bold = bayesdcm.BoldData(signal, 2.0, region_names=NAMES)
    known = Connectome(LENGTHS / 40, LENGTHS, NAMES, bold=bold)
    expected = np.corrcoef(signal.T)
    for data in (bold, known):
        found = made().prepare(data).observed["functional_connectivity"]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_connectivity_by_another_name_leaves_its_diagonal_out():
    values = np.array([[1, 0.1, 0.3], [0.1, 1, 0.2], [0.3, 0.2, 1]])
    streamed = made({"fast": "correlation"}, observers=[StreamedCorrelation(name="fast")])
    plain = made({"functional_connectivity": "correlation"})
    expected = 1 - np.corrcoef(values[np.triu_indices(3, 1)], DATA[np.triu_indices(3, 1)])[0, 1]
    for (term,) in (streamed.terms, plain.terms):
        assert float(term.loss(jnp.asarray(values), DATA)) == pytest.approx(expected)


def test_windows_of_recordings_are_as_long_as_those_of_simulations():
    bold = bayesdcm.BoldData(np.random.default_rng(0).normal(size=(200, 3)), 2.0)
    terms = {"functional_connectivity_dynamics": "wasserstein"}
    for options in ({"observers": [WindowMeans(0.01)]}, {"record": ["E"]}):
        objective = made(terms, **options)
        with pytest.raises(ValueError, match="repetition time of 2 s, the .* is simulated one of"):
            objective.prepare(bold)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (DATA[:2, :2], ValueError, r"have shape \(2, 2\); the simulation gives \(3, 3\)"),
        (np.where(DATA == 0.2, np.nan, DATA), ValueError, "hold NaN or infinity"),
        (pd.DataFrame(DATA, list("abc"), list("abc")), ValueError, "regions of the network"),
        ({"bold": DATA}, ValueError, "expected one for each term of the objective"),
        (Connectome(LENGTHS, LENGTHS, NAMES), ValueError, "without functional connectivity"),
        ("data", TypeError, "must be numbers, got 'data'"),
    ],
)
def test_other_data_are_refused(data, error, text):
    with pytest.raises(error, match=text):
        made().prepare(data)


# Objectives


@pytest.mark.slow
def test_terms_are_weighted_and_measured_on_the_series_of_an_observer():
    means = WindowMeans(0.01, name="rate")
    terms = {"functional_connectivity": ("squared", 2.0), "rate": lambda a, b: ((a - b) ** 2).sum()}
    here = network(speed=None)
    objective = made(terms, model=here, observers=[means], seed=[0, 1])
    run = objective.network.run({}, 0, 0.2, 1e-3, observers=[means])["rate"]
    data = {"functional_connectivity": functional_connectivity(run), "rate": run}
    losses = objective.losses({"strength": TRUTH["strength"]}, data)
    problem = make_problem(objective, data)
    point = np.array([[TRUTH["strength"]]])
    value = densities(problem.source, problem, point)[1][0]
    total = 2 * losses["functional_connectivity"] + losses["rate"]
    assert value == pytest.approx(-total / 1e-3)
    alone = made(terms, model=here, observers=[means])
    assert max(alone.losses({}, data).values()) < 1e-12


def test_an_objective_may_be_any_function_of_all_results():
    def loss(results, data):
        return (results["E"].mean() - data) ** 2

    objective = made(loss, 0.1, network(speed=None), free=["theta_E"], loss_unit=1e-6)
    target = float(objective.simulate({"theta_E": 0.2}).E.mean())
    fit = bayesdcm.fit(
        objective, target, "evolution", starts=1, generations=12, population=5, progress=False
    )
    assert float(fit.mean["theta_E"]) == pytest.approx(0.2, abs=0.02)
    assert objective.losses(fit.mean, target)["objective"] < 1e-6


def test_groups_maps_and_labels_are_free():
    regional = {"w_EE": ["a", "a", "b"], "theta_E": [0.0, 0.5, 1.0], "tau_E": "shrunk"}
    connectome = Connectome(LENGTHS / 40, LENGTHS, NAMES)
    model = NetworkModel(WilsonCowan(), connectome, regional=regional)
    objective = SimulationObjective(model, CONNECTIVITY, 0.1, priors={"w_EE[b]": (0.1, 0.2)})
    table = objective.prior_table()
    assert table.loc["w_EE[b]", ["mean", "variance"]].tolist() == [0.1, 0.2]
    expected = {"w_EE[a]", "theta_E", "theta_E_by_map[map 1]", "strength", "speed"}
    expected |= {"tau_E", "tau_E_spread", *(f"tau_E_by_region[{name}]" for name in NAMES)}
    assert expected <= set(table.index)
    values = model.physical({"w_EE": jnp.array([0.0, 0.1]), "theta_E": jnp.array(0.5)})
    np.testing.assert_allclose(values["w_EE"], 12 * np.exp([0.0, 0.1]))
    assert float(values["theta_E"]) == pytest.approx(2.8 * np.exp(0.5))
    given = model.parameters(theta_E=1.0, strength=3.0)
    assert float(model.physical(given)["strength"]) == pytest.approx(3.0)
    assert float(model.physical(given)["theta_E"]) == pytest.approx(1.0)


@dataclass(frozen=True)
class Nothing:
    """No network."""


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: made({"power": "squared"}), ValueError, "expected a result of the simulation"),
        (lambda: made({"E": "wasserstein"}), ValueError, "'wasserstein' compares functional_con"),
        (lambda: made({"E": "likeness"}), ValueError, "must be one of 'correlation', 'squared'"),
        (lambda: made({"E": ("squared", -1.0)}), ValueError, "expected a positive one"),
        (lambda: made("squared"), TypeError, "objective must be a mapping such as"),
        (lambda: made(free=["G"]), ValueError, "free names 'G'; expected some of"),
        (lambda: made(free=[]), ValueError, "leave no parameter to be fitted"),
        (lambda: made(loss_unit=0.0), ValueError, "loss_unit must be a positive number"),
        (lambda: made(seed=0.5), ValueError, "seed must be an integer, or some"),
        (
            lambda: made({"functional_connectivity_dynamics": "wasserstein"}),
            ValueError,
            "needs one series",
        ),
        (
            lambda: SimulationObjective(Nothing(), CONNECTIVITY, 0.1),
            TypeError,
            "network must be a NetworkModel",
        ),
    ],
)
def test_other_objectives_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_loss_is_a_density():
    judged = LossLikelihood(jnp.array([[0.0, 1.0], [2.0, 3.0]]), lambda a, b: (a - b).sum(), 0.5)
    # Means over simulations: losses of 1 and 5 with data of 0.
    assert float(judged.log_prob(jnp.zeros(2))) == -6.0
    assert judged.sample(jax.random.key(0)).tolist() == [1.0, 2.0]
    assert judged.sample(jax.random.key(0), (3,)).shape == (3, 2)
