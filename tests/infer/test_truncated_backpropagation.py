"""Training of recurrences: gradients of windows, what training finds, and what it refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bayesdcm
from bayesdcm import DCM, BoldDesign, RecurrentDCM, TaskDCM, TruncatedBackpropagation
from bayesdcm.infer import truncated_backpropagation
from bayesdcm.infer.density import log_joint
from bayesdcm.infer.point_curvature import curvature_about
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.recurrence import ByStep, input_levels, spectral_radius
from bayesdcm.infer.windows import Given, Plan, Training, begin, epoch
from bayesdcm.integrate import Euler
from bayesdcm.neural import Bilinear
from bayesdcm.observe import Balloon

STEP = 0.25
A = np.array([[-1.0, 0.0, 0.0], [0.8, -1.0, 0.4], [0.4, 0.8, -1.0]])
B = np.zeros((1, 3, 3))
B[0, 2, 2] = -0.4
C = np.array([[0.4], [0.0], [0.0]])
MODEL = RecurrentDCM(
    np.ones((3, 3)), B != 0, np.ones((3, 1)), sparsity=1.0, haemodynamic_penalty=np.inf
)
# Where the authors began: a connection too many, one too few.
START_A = [[-0.8, 0.2, 0.0], [0.9, -0.8, 0.5], [0.0, 0.7, -0.8]]
START = np.concatenate([np.ravel(START_A), [-0.55], [0.6, 0.0, 0.0], np.full(3, 2.0)])


def blocks(n_steps):
    """Slots of 6 s, half of which end with 4 s of stimulation; the first four seconds are on."""
    chosen = np.random.default_rng(0).random(n_steps // 24) < 0.5
    u = np.concatenate([np.r_[np.zeros(8), np.full(16, float(c))] for c in chosen])
    u[:24] = np.r_[np.ones(16), np.zeros(8)]
    return u[:, None]


def recording(n_steps, every=1, noise=0.0, delays=None):
    """Scans after every so many steps, simulated with the published truth."""
    inputs = blocks(n_steps)
    names = ["V1", "V5", "SPC"]
    data = BoldDesign(n_steps // every, STEP * every, inputs, STEP, names, slice_delays=delays)
    truth = {prior.name: prior.mean for prior in MODEL.priors} | {"A": A, "B": B, "C": C}
    return MODEL.simulate(truth, data, seed=1, snr=noise or None)


@pytest.fixture(scope="module")
def clean():
    return recording(1440)


@pytest.fixture(scope="module")
def short():
    return recording(240, every=2, noise=2.0)


@pytest.fixture(scope="module")
def trained(short):
    return bayesdcm.fit(
        MODEL, short, "tbptt", starts=START[None], epochs=60, draws=40, progress=False
    )


def training(model, data, window, stride):
    problem = make_problem(model, data)
    plan = Plan(problem.source, problem.sites, window, stride, 0, "adam")
    n, levels = problem.sites.n_parameters, input_levels(np.asarray(data.inputs))
    return problem, plan, Given(problem.prepared, np.zeros(n), np.ones(n), levels)


def test_window_is_that_of_the_published_recurrence(short):
    problem, plan, given = training(MODEL, short, 20, 8)
    carry = np.abs(np.random.default_rng(0).normal(size=(3, 5))) / 10
    data = ByStep(blocks(240)[:20], np.ones((20, 3)), np.eye(20, 3))

    @jax.jit
    def of_window(vector):
        inside = Training(plan, Given(*given)).loss
        return inside(vector, jnp.asarray(carry), jax.tree.map(jnp.asarray, data), 60.0)

    point = START.copy()
    point[13:] = [0.5, 1.0, 1.5]
    loss, (onward, seen) = of_window(point)
    states, expected, weights = carry.copy(), [], np.exp(point[13:])
    B33 = np.zeros((3, 3))
    B33[2, 2] = point[9]
    for k, u in enumerate(data.inputs[:, 0]):
        x, s, f, v, q = states.T + np.array([0, 0, 1, 1, 1])[:, None]
        if k == 8:
            np.testing.assert_allclose(onward, states, rtol=1e-12, atol=1e-14)
        weight, ratio = 4.3 * 40.3 * 0.34 * 0.03, 0.4 * 25 * 0.34 * 0.03
        expected.append(100 * (weight * (1 - q) + ratio * (1 - q / v) + 0.6 * (1 - v)))
        out, extracted = v ** (1 / 0.32), f * (1 - 0.66 ** (1 / f)) / 0.34
        rates = [
            point[:9].reshape(3, 3) @ x + u * B33 @ x + u * point[10:13],
            x - 0.65 * s - 0.41 * (f - 1),
            s,
            (f - out) / 0.98,
            (extracted - out * q / v) / 0.98,
        ]
        states = states + STEP * np.array(rates).T
    np.testing.assert_allclose(seen, expected, rtol=1e-12, atol=1e-12)
    # A window has the share of the prior that it has of the data: 3 of 60 points.
    distance = np.abs(point[:9].reshape(3, 3) + np.eye(3)).sum() + np.abs(point[9:13]).sum()
    likelihood = ((np.eye(20, 3) * (1 - np.array(expected))) ** 2 * weights).sum() / 2
    wanted = likelihood + 3 / 60 * (distance + 13 * np.log(2))
    assert float(loss) == pytest.approx(wanted, rel=1e-12)

    moved = [np.r_[np.zeros(k), 2e-3, np.zeros(15 - k)] for k in (1, 5, 7, 9, 10)]
    # Off the kinks of the prior; differences of fourth order.
    point = point + 0.01
    slope = jax.jit(jax.grad(lambda v: of_window(v)[0]))(point)
    for h in moved:
        near, far = ((of_window(point + k * h)[0] - of_window(point - k * h)[0]) for k in (1, 2))
        assert float(slope @ h) == pytest.approx(float(8 * near - far) / 12, rel=1e-8)


def test_gradient_of_one_window_is_that_of_the_log_joint():
    confounds = np.column_stack([np.ones(60), np.linspace(-1, 1, 60)])
    data = recording(240, 4, 2.0, delays=np.array([0.0, 0.25, 0.5]))
    data = replace(data, confounds=confounds)
    problem, plan, given = training(MODEL, data, 240, 240)
    point = np.concatenate([A.ravel(), [-0.4], C.ravel(), [-1.0, 0.5, 1.0]])
    point[:13] += 0.003

    @jax.jit
    def both(point):
        one = Training(plan, Given(*given))
        net = one.recurrence
        _, seen, _ = one.whole(point[:13], point[13:])
        fn, value = net.observation(point)
        predicted = net.prediction(point)
        residual = (
            value
            - predicted
            - (
                type(fn)(
                    predicted, fn.log_precision, None, fn.confounds, fn.confound_precision
                ).fitted(value)
                - predicted
            )
        )
        rows = net.by_step(value, 240)
        rows = rows._replace(measured=net.at_steps(predicted + residual, 240))
        start = net.start(net.parameters(point))
        window = jax.grad(lambda p: one.loss(p, start, rows, rows.weight.sum())[0])(point)
        program = problem.source.bind(given.prepared)
        whole = jax.grad(lambda p: log_joint(program, problem.sites, p))(point)
        return window[:13], whole[:13], net.at_scans(seen) - predicted

    window, whole, difference = both(point)
    np.testing.assert_allclose(difference, 0, atol=1e-12)
    np.testing.assert_allclose(-window, whole, rtol=1e-10, atol=1e-10 * np.abs(whole).max())


@pytest.mark.usefixtures("optimized")
@pytest.mark.slow
def test_training_finds_the_published_truth(clean):
    fit = bayesdcm.fit(MODEL, clean, "tbptt", starts=START[None], epochs=400, progress=False)
    point = fit.posterior.optima.points[0]
    truths = {"A": (A, point[:9]), "B": (B[0, 2, 2], point[9]), "C": (C, point[10:13])}
    bars = {"A": 0.06, "B": 0.04, "C": 0.06}
    for name, (truth, estimate) in truths.items():
        error = np.linalg.norm(np.ravel(truth) - estimate) / np.linalg.norm(truth)
        assert error < bars[name]
    # The false connection a12 is gone, the missing a31 found.
    assert abs(point[1]) < 0.05
    assert abs(point[6] - 0.4) < 0.1


def test_fit_of_noisy_scans(trained, short, tmp_path):
    status, trace = trained.status, trained.trace
    assert status["effective_depth"] == status["window_steps"] - 4 == 60
    assert trace["log_joint"].shape == (status["n_epochs"], 1)
    assert trace["log_joint"].max() == status["log_joint"]
    parts = sum(trace[name] for name in trace if name.startswith("log_prior_"))
    np.testing.assert_allclose(parts + trace["log_likelihood"], trace["log_joint"], rtol=1e-12)
    summary = trained.summary()
    assert abs(summary.loc["C[V1, input 1]", "mean"] - 0.4) < 0.15
    assert (summary["sd"] > 0).all()
    trained.save(tmp_path / "fit.nc")
    again = bayesdcm.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.summary()["sd"], summary["sd"])
    assert again.posterior.method.options()["epochs"] == 60
    found = trained.diagnose()
    assert found.facts["memory_s"] == pytest.approx(3 * 3.4, abs=0.6)
    assert "still rising after 60 epochs" in str(found)
    assert bayesdcm.plot.plot_free_energy(trained).get_xlabel() == "step"


def test_curvature_is_that_of_variational_laplace(short):
    model = RecurrentDCM(
        np.ones((3, 3)), B != 0, np.ones((3, 1)), sparsity=None, haemodynamic_penalty=np.inf
    )
    laplace = bayesdcm.fit(model, short, "laplace", progress=False)
    mean, covariance = laplace.posterior.gaussian
    about = curvature_about(laplace.problem, mean, np.ones(len(mean)))
    # Integrated confounds of precision 1e-8 are as good as projected.
    scale = np.sqrt(np.diag(covariance)[:13])
    difference = (about.covariance - covariance)[:13, :13] / np.outer(scale, scale)
    np.testing.assert_allclose(difference, 0, atol=5e-3)
    assert about.gain < 0.05
    program = laplace.problem.source.bind(laplace.problem.prepared)
    at_mean = jax.jit(lambda point: log_joint(program, laplace.problem.sites, point))(mean)
    assert float(at_mean) + about.log_volume == pytest.approx(laplace.log_evidence, abs=0.1)


def test_interrupted_training_keeps_its_epochs(short, monkeypatch):
    seen = []

    def interrupted(*arguments):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(1)
        return epoch(*arguments)

    monkeypatch.setattr(truncated_backpropagation, "epoch", interrupted)
    fit = bayesdcm.fit(MODEL, short, "tbptt", starts=START[None], progress=False)
    assert (fit.status["n_epochs"], fit.status["complete"], fit.status["converged"]) == (
        3,
        False,
        False,
    )


def test_steps_stay_where_the_recurrence_is_stable(short):
    # A hundred times the usual rate, and windows that are too short for gradients to be relied on.
    method = TruncatedBackpropagation(optimiser=optax.adam(1.0), window=2.0)
    with pytest.warns(UserWarning, match="8 steps of 0.25 s, of which only 4 see a change"):
        fit = bayesdcm.fit(
            MODEL, short, method, starts=START[None], epochs=4, draws=10, progress=False
        )
    assert "Windows are 2 s (8 steps, 4 of which see a change" in str(fit.diagnose())
    assert fit.status["steps_shortened"] > 0
    assert (fit.trace["radius"] < 1 + 1e-9).all()
    assert fit.status["options"]["optimiser"] == "own"
    with pytest.raises(ValueError, match="optimiser is one that files do not hold"):
        bayesdcm.fit(MODEL, short, "tbptt", optimiser="own")


def test_the_published_rule_changes_little_at_once(short):
    _, plan, given = training(MODEL, short, 64, 32)
    plan = plan._replace(optimiser="paper", burn_in=1)
    course, before = begin(plan, given, START[None, :13], np.zeros((1, 3)))
    later, after = epoch(plan, given, course, np.array([5e-4]))
    change = np.abs(np.asarray(later.at) - START[:13])
    # Seven windows, the first of which changes nothing.
    assert 0 < change.max() <= 6 * 5e-4 + 1e-12
    assert after["log_joint"] > before["log_joint"]


def test_spectral_radius_and_levels():
    matrices = np.random.default_rng(0).normal(size=(5, 6, 6))
    wanted = [np.abs(np.linalg.eigvals(matrix)).max() for matrix in matrices]
    np.testing.assert_allclose(jax.vmap(spectral_radius)(matrices), wanted, rtol=2e-3)
    inputs = np.random.default_rng(0).normal(size=(40, 2))
    levels = input_levels(inputs)
    assert len(levels) == 6
    assert (inputs.max(0) == levels).all(1).any()


def test_what_cannot_be_trained(short):
    design = np.ones((3, 3))
    with pytest.raises(ValueError, match="whose solver has start and cell, but .* has none; use"):
        bayesdcm.fit(TaskDCM(design, C=np.ones((3, 1))), short, "tbptt")
    for options, text in (
        (
            {"window": 1.0},
            "window is 1 s, 4 steps of 0.25 s, but .* no gradient; take at least 4",
        ),
        ({"stride": 17.0}, "stride is 17 s, longer than the window of 16 s"),
        ({"burn_in": 7}, "burn_in is 7, but there are 7 windows"),
        ({"burn_in": -1}, "burn_in must be an integer of at least 0, got -1"),
        ({"optimiser": "newton"}, "optimiser must be one of 'adam', .*, got 'newton'"),
        ({"starts": 3 * abs(START[None])}, r"starts\[0\] is an unstable starting point: .* radius"),
    ):
        with pytest.raises(ValueError, match=text):
            bayesdcm.fit(MODEL, short, "tbptt", progress=False, **options)


def test_a_window_longer_than_the_run_is_the_run(short):
    problem = make_problem(MODEL, short)
    plan = TruncatedBackpropagation(window=500.0)._plan(problem)
    assert (plan.window, plan.stride, plan.count(240)) == (240, 120, 1)


@pytest.mark.exhaustive
def test_other_models_with_euler_steps_are_trained(short):
    A = np.eye(3) + np.eye(3, k=-1)
    A[0, 1] = 1
    neural = Bilinear(A, np.zeros((1, 3, 3)), [[1], [0], [0]])
    # Of draws from such a prior some are unstable, and are moved towards the mean.
    wide = {"A[V5, V1]": (0.0, 9.0), "A[V1, V5]": (0.0, 9.0)}
    model = DCM(neural, Euler(STEP), Balloon(), priors=wide)
    truth = {prior.name: prior.mean for prior in model.priors}
    truth |= {"A": 0.5 * np.eye(3, k=-1), "C": np.array([[1.0], [0.0], [0.0]])}
    data = model.simulate(truth, short, seed=1, snr=4.0)
    fit = bayesdcm.fit(model, data, "tbptt", starts=3, epochs=400, draws=40, progress=False)
    assert fit.status["starts_moved"] >= 1
    assert np.isfinite(fit.posterior.optima.log_joint).all()
    assert fit.status["log_joint"] > fit.trace["log_joint"][0].max()
    summary = fit.summary()
    for label, value in (("C[V1, input 1]", 1.0), ("A[V5, V1]", 0.5), ("A[SPC, V5]", 0.5)):
        assert abs(summary.loc[label, "mean"] - value) < 2 * summary.loc[label, "sd"]
