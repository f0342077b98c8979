"""The recurrent form of DCM, against the published recurrence in plain NumPy."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density

from bayesdcm import DCM, BoldData, RecurrentDCM, fit
from bayesdcm.data import BoldDesign
from bayesdcm.infer.search import MANY_MODES
from bayesdcm.integrate import Euler, RungeKutta
from bayesdcm.neural import LaplacePrior, RateBilinear
from bayesdcm.observe import RegionalBalloon
from bayesdcm.observe.gaussian import CONFOUND_PRECISION

A = np.array([[-1.0, 0.0, 0.0], [0.8, -1.0, 0.4], [0.4, 0.8, -1.0]])
B = np.zeros((1, 3, 3))
B[0, 2, 2] = -0.4
MEANS = {"kappa": 0.65, "gamma": 0.41, "tau": 0.98, "E0": 0.34, "alpha": 0.32}
VARIANCES = {"kappa": 0.015, "gamma": 0.002, "tau": 0.0568, "E0": 0.0024, "alpha": 0.0015}
SWITCHES = {"A": np.ones((3, 3)), "B": B != 0, "C": np.ones((3, 1))}


def published(parameters, inputs, step, sent=lambda x: x):
    """The recurrence of Wang, Wang and Lui as it is written: signal at each step, (steps, regions).

    `sent`: what regions send to others.
    """
    A, B, C = (np.asarray(parameters[name]) for name in "ABC")
    kappa, gamma, tau, E0, alpha = (np.asarray(parameters[name]) for name in MEANS)
    x, s, f, v, q = np.zeros((5, len(A))) + np.array([0, 0, 1, 1, 1])[:, None]
    weight, ratio, volume = 4.3 * 40.3 * E0 * 0.03, 0.4 * 25 * E0 * 0.03, 100
    signal = []
    for u in inputs:
        bold = weight * (1 - q) + ratio * (1 - q / v) + 0.6 * (1 - v)
        signal.append(volume * bold)
        held = A + np.tensordot(u, B, 1)
        own = np.diag(held)
        change = own * x + (held - np.diag(own)) @ sent(x) + C @ u
        out = v ** (1 / alpha)
        extracted = f * (1 - (1 - E0) ** (1 / f)) / E0
        x, s, f, v, q = (
            x + step * change,
            s + step * (x - kappa * s - gamma * (f - 1)),
            f + step * s,
            v + step / tau * (f - out),
            q + step / tau * (extracted - out * q / v),
        )
    return np.array(signal)


def blocks(n_steps, step, seed=0):
    """Slots of 6 s, half of which end with 4 s of stimulation; the first four seconds are on."""
    slot, on = round(6 / step), round(4 / step)
    chosen = np.random.default_rng(seed).random(n_steps // slot) < 0.5
    u = np.concatenate([np.r_[np.zeros(slot - on), np.full(on, float(c))] for c in chosen])
    u[:slot] = np.r_[np.ones(on), np.zeros(slot - on)]
    return u[:, None]


@pytest.fixture(scope="module")
def run():
    """A minute of a run at a quarter of a second, at haemodynamics that differ by region."""
    rng = np.random.default_rng(1)
    parameters = {"A": A, "B": B, "C": np.array([[0.8], [0.0], [0.0]])}
    for name, mean in MEANS.items():
        parameters[name] = mean + 0.5 * np.sqrt(VARIANCES[name]) * rng.normal(size=3)
    inputs = blocks(240, 0.25)
    clean = published(parameters, inputs, 0.25)
    signal = clean + rng.normal(size=clean.shape) * clean.std() / 2
    data = BoldData(signal, 0.25, inputs=inputs, input_dt=0.25, unit="percent")
    return SimpleNamespace(parameters=parameters, inputs=inputs, clean=clean, data=data)


@pytest.mark.parametrize("nonlinearity", [None, "sigmoid"])
def test_cell_and_prediction_are_the_published_recurrence(run, nonlinearity):
    model = RecurrentDCM(**SWITCHES, nonlinearity=nonlinearity)
    sent = np.tanh if nonlinearity else lambda x: x
    expected = published(run.parameters, run.inputs, 0.25, sent)
    scale = np.abs(expected).max()
    cell, start = model.cell(run.parameters), model.start(run.parameters)
    _, read = jax.lax.scan(cell, start, jnp.asarray(run.inputs))
    np.testing.assert_allclose(read, expected, rtol=0, atol=1e-13 * scale)
    prediction = model.predict(run.parameters, run.data)
    np.testing.assert_allclose(prediction, expected, rtol=0, atol=1e-13 * scale)


def test_loss_is_the_negative_log_density(run):
    """Squares of errors, absolute values of connections, squares of haemodynamic constants."""
    model = RecurrentDCM(**SWITCHES, sparsity=3.0, haemodynamic_penalty=2.0)
    flat = {k: v.ravel() for k, v in run.parameters.items() if k != "B"} | {"B": np.array([-0.4])}
    # Away from where absolute values have a kink.
    rng = np.random.default_rng(2)
    flat = {name: value + 0.02 * rng.normal(size=len(value)) for name, value in flat.items()}
    precision = np.array([-1.0, -2.0, -3.0])

    @jax.jit
    def loss(parameters):
        sites = {"B_free" if k == "B" else k: jnp.asarray(v) for k, v in parameters.items()}
        sites |= {"A": sites["A"].reshape(3, 3), "C": sites["C"].reshape(3, 1)}
        sites["log_precision"] = jnp.asarray(precision)
        return -log_density(model.program(run.data), (), {}, sites)[0]

    def by_hand(parameters):
        full = parameters | {"A": parameters["A"].reshape(3, 3), "C": parameters["C"][:, None]}
        full["B"] = np.zeros((1, 3, 3))
        full["B"][0, 2, 2] = parameters["B"][0]
        centred = run.data.signal - run.data.signal.mean(0)
        error = centred - published(full, run.inputs, 0.25)
        level = error.mean(0)
        error -= level
        total = (np.exp(precision) * error**2 - precision + np.log(2 * np.pi)).sum() / 2
        # A constant of unknown size is integrated out.
        seen = np.exp(precision) * len(error)
        inflation = 1 + seen / CONFOUND_PRECISION
        total += (np.log(inflation) + seen * level**2 / inflation).sum() / 2
        about = np.r_[(parameters["A"] + np.eye(3).ravel()), parameters["B"], parameters["C"]]
        total += (3 * np.abs(about) - np.log(3 / 2)).sum()
        for name, mean in MEANS.items():
            ratio = (parameters[name] - mean) ** 2 / VARIANCES[name]
            total += (2 * ratio + np.log(2 * np.pi * VARIANCES[name] / 4) / 2).sum()
        return total + (((precision - 2) ** 2 / 16 + np.log(2 * np.pi * 16)) / 2).sum()

    assert float(loss(flat)) == pytest.approx(by_hand(flat), rel=1e-12)
    slopes = jax.grad(loss)(jax.tree.map(jnp.asarray, flat))
    for name, slope in slopes.items():
        for i in range(len(slope)):
            # Four points: the error is of the fourth order in the difference.
            moved = [by_hand(_moved(flat, name, i, d)) for d in (-4e-4, -2e-4, 2e-4, 4e-4)]
            numeric = (moved[0] - 8 * moved[1] + 8 * moved[2] - moved[3]) / 24e-4
            assert float(slope[i]) == pytest.approx(numeric, rel=1e-8, abs=1e-6), (name, i)


def _moved(parameters, name, index, difference):
    changed = parameters[name].copy()
    changed[index] += difference
    return parameters | {name: changed}


def test_scans_may_be_sparser_than_steps_and_inputs_finer(run):
    """Scans of 2 s see every eighth point; inputs in finer bins act by their mean."""
    model = RecurrentDCM(**SWITCHES)
    at = {"repetition_time": 2.0, "slice_delays": np.zeros(3)}
    names = ["V1", "V5", "SPC"]
    fine = np.repeat(run.inputs, 2, axis=0)
    for inputs, width in ((run.inputs, 0.25), (fine, 0.125)):
        design = BoldDesign(30, inputs=inputs, input_dt=width, region_names=names, **at)
        prediction = model.predict(run.parameters, design)
        np.testing.assert_allclose(prediction, run.clean[::8], rtol=0, atol=1e-11)
    # Half of the steps begin a bin.
    twice = published(run.parameters, fine, 0.125)
    halved = RecurrentDCM(**SWITCHES, step=0.125)
    design = BoldDesign(30, inputs=run.inputs, input_dt=0.25, region_names=names, **at)
    prediction = halved.predict(run.parameters, design)
    np.testing.assert_allclose(prediction, twice[::16], rtol=0, atol=1e-11)


def test_short_steps_approach_the_solution_of_the_equations(run):
    """Error of the first order against Runge-Kutta on the same flows, in native states."""
    neural = RateBilinear(np.ones((3, 3)), B != 0, np.ones((3, 1)))
    errors = []
    exact = DCM(neural, RungeKutta(step=1 / 64), RegionalBalloon())
    exact = exact.predict(run.parameters, run.data)
    for step in (1 / 16, 1 / 32):
        model = DCM(neural, Euler(step), RegionalBalloon())
        errors.append(np.abs(model.predict(run.parameters, run.data) - exact).max())
    assert errors[0] / np.abs(exact).max() < 0.08
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_haemodynamics_are_fixed_by_an_infinite_penalty():
    model = RecurrentDCM(**SWITCHES, haemodynamic_penalty=np.inf)
    kappa = next(prior for prior in model.priors if prior.name == "kappa")
    assert kappa.mean.tolist() == [0.65] * 3 and not kappa.free.any()
    assert not any("kappa" in label for labels in model.labels(None).values() for label in labels)
    normal = RecurrentDCM(**SWITCHES, sparsity=None).prior_table()
    assert normal.loc["A[region 1, region 1]", ["mean", "variance"]].tolist() == [-1.0, 1 / 16]
    assert normal.loc["A[region 2, region 1]", ["mean", "variance"]].tolist() == [0.0, 0.25]


def test_names_units_and_structure():
    model = RecurrentDCM(A=[[1, 0], [1, 1]], C=[[1], [0]], nonlinearity="sigmoid")
    assert repr(model) == (
        "RecurrentDCM(2 regions, 1 input; connections: 3 A, 0 B, 1 C; step=0.25, sparsity=3.0, "
        "nonlinearity='sigmoid')"
    )
    facts = model.facts()
    assert (facts.unit("A"), facts.unit("C"), facts.unit("tau")) == ("Hz", "Hz", "s")
    assert "neuroimage.2018.05.042" in facts.citations[0][1]
    smaller = model.restrict(A=[[1, 0], [0, 1]])
    assert smaller.A.tolist() == [[1, 0], [0, 1]] and smaller.nonlinearity == "sigmoid"
    assert {p.name: p.family for p in smaller.priors}["A"] == LaplacePrior(1 / 3)


def test_a_cell_can_be_stacked_behind_a_learned_layer(run):
    """Weights before the cell, and connections within it, have derivatives in one network."""
    model = RecurrentDCM(**SWITCHES)
    stimuli = jnp.asarray(np.random.default_rng(0).normal(size=(240, 5)))

    def network(weights):
        cell = model.cell(run.parameters | {"C": weights["C"]})

        def layer(carry, stimulus):
            return cell(carry, jnp.tanh(weights["in"] @ stimulus))

        return jax.lax.scan(layer, model.start(run.parameters), stimuli)[1]

    weights = {"in": 0.1 * jnp.ones((1, 5)), "C": jnp.asarray(run.parameters["C"])}
    slopes = jax.grad(lambda w: (network(w) ** 2).mean())(weights)
    step = 1e-5
    ahead, behind = (
        float((network(weights | {"in": weights["in"].at[0, 2].add(s)}) ** 2).mean())
        for s in (step, -step)
    )
    assert float(slopes["in"][0, 2]) == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)
    assert np.abs(slopes["C"]).min() > 0


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"step": 0.0}, ValueError, "step must be a positive number of seconds, got 0.0"),
        ({"step": 0.7}, ValueError, "step is 0.7 s, but .* Euler steps diverge from 0.63 s on"),
        ({"sparsity": -1.0}, ValueError, "sparsity must be a positive number, or None for normal"),
        ({"sparsity": "high"}, ValueError, "sparsity must be a positive number, or None"),
        ({"haemodynamic_penalty": 0}, ValueError, "haemodynamic_penalty must be a positive number"),
        ({"nonlinearity": "relu"}, ValueError, "nonlinearity must be None or one of 'sigmoid'"),
        ({"A": np.ones((3, 2))}, ValueError, "A must be square"),
        ({"C": np.ones((2, 1))}, ValueError, "C must have shape"),
        ({"B": A[None]}, ValueError, "B must hold only 0"),
    ],
)
def test_misuse_is_refused(changes, kind, message):
    with pytest.raises(kind, match=message):
        RecurrentDCM(**(SWITCHES | changes))


def test_data_that_do_not_fit_are_refused(run):
    model = RecurrentDCM(**SWITCHES, step=0.25)
    inputs = np.r_[np.ones((50, 1)), np.zeros((50, 1))]
    design = BoldDesign(20, 2.0, inputs, 0.4, ["V1", "V5", "SPC"])
    with pytest.raises(ValueError, match=r"step is 0.25 s, but inputs come in 100 bins of 0.4 s"):
        model.predict(run.parameters, design)
    with pytest.warns(UserWarning, match="venous volume follows flow within 0.31 s"):
        RecurrentDCM(**SWITCHES, step=0.4)
    with pytest.raises(ValueError, match="parameters lacks 'kappa'"):
        model.cell({name: run.parameters[name] for name in "ABC"})
    with pytest.raises(ValueError, match="parameters give a trajectory that diverges"):
        model.simulate(run.parameters | {"A": 3 * np.abs(A)}, run.data, seed=0)


def test_the_prior_is_searched_however_good_the_first_optimum_is(run, capsys):
    # Two regions and half a minute are enough to be searched.
    model = RecurrentDCM(A=np.ones((2, 2)), C=np.ones((2, 1)), haemodynamic_penalty=np.inf)
    known = {"inputs": run.inputs[:120], "input_dt": 0.25, "unit": "percent"}
    data = BoldData(run.data.signal[:120, :2], 0.25, **known)
    searched = fit(model, data).status["search"]
    assert searched["starts"] > 1 and searched["reason"] == MANY_MODES
    assert "variational Laplace" in capsys.readouterr().err
    assert "search" not in fit(model, data, starts=1).status
    assert not capsys.readouterr().err
