"""Posteriors learnt from simulations: a closed form, calibration, what lies outside, files."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm import (
    AmortisedEstimator,
    BoldData,
    Connectome,
    Linear,
    NetworkModel,
    SimulationObjective,
    WilsonCowan,
)
from bayesdcm.infer import amortised, train_amortised
from bayesdcm.infer.batches import Batch, Task
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.simulated_features import named_features
from bayesdcm.infer.simulations import simulations
from bayesdcm.integrate.hermitian import to_columns
from bayesdcm.neural import OrnsteinUhlenbeck, White
from bayesdcm.observe import HrfConvolution, LaggedCorrelation, StreamedSpectrum, gaussian, streamed
from bayesdcm.plot import plot_free_energy

DESIGN = np.random.default_rng(0).normal(size=(6, 2))
SMALL = {"simulations": 50, "epochs": 1, "ensemble": 1, "width": 8, "progress": False}


def line(data):
    b = numpyro.sample("b", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    numpyro.sample("y", gaussian(jnp.asarray(DESIGN) @ b, 0.0), obs=data)


@pytest.fixture(scope="module")
def estimator():
    options = {"simulations": 1000, "ensemble": 2, "layers": 2, "width": 24, "patience": 10}
    return train_amortised(line, np.zeros(6), learning_rate=3e-3, seed=0, progress=False, **options)


def data(seed):
    rng = np.random.default_rng(seed)
    return DESIGN @ rng.normal(size=2) + rng.normal(size=6)


def test_posteriors_of_a_linear_model_are_those_in_closed_form(estimator):
    precision = DESIGN.T @ DESIGN + np.eye(2)
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    fits = [estimator.fit(data(seed)) for seed in range(8)]
    means = np.array([np.linalg.solve(precision, DESIGN.T @ data(seed)) for seed in range(8)])
    errors = (np.array([fit.mean["b"] for fit in fits]) - means) / sd
    # Of ten seeds it is 0.24 to 0.38.
    assert np.sqrt((errors**2).mean()) < 0.45
    ratios = np.array([fit.sd["b"] for fit in fits]) / sd
    np.testing.assert_allclose(ratios.mean(0), 1.0, atol=0.1)
    # The density of this program is known, and weights draws.
    assert fits[0].posterior.density.shape == (1, 1000)
    said = fits[0].diagnose()
    assert {problem.kind for problem in said.problems} <= {"approximation undecided"}
    assert said.facts["pareto_k"] < 0.7
    assert said.facts["nearest"] < 0.995
    drawn = plot_free_energy(fits[0])
    assert drawn.get_title(loc="right") == f"converged at {fits[0].status['held_out']:.1f} nats"
    # Of two flows, on simulations that were held out and on those that were seen.
    trace = fits[0].trace
    expected = np.hstack([trace["held_out_log_density"], trace["log_density"]]).T
    np.testing.assert_allclose([line.get_ydata() for line in drawn.lines], expected)


def test_intervals_hold_the_truth_as_often_as_they_say(estimator):
    found = estimator.calibrate(200, progress=False)
    # Three binomial standard errors of 200 simulations, and a little for what is learnt.
    error = 3 * np.sqrt(0.9 * 0.1 / 200) + 0.02
    np.testing.assert_allclose(found.coverage.loc[0.9], 0.9, atol=error)
    np.testing.assert_allclose(found.ranks.mean(), 0.5, atol=0.1)
    assert (found.sd_ratio < 0.8).all()
    assert repr(found).startswith("Calibration on 200 simulations, coverage by level:")


def test_data_unlike_any_simulation_are_named(estimator):
    said = estimator.fit(data(0) + 20).diagnose()
    kinds = [problem.kind for problem in said.problems]
    assert "outside the simulations" in kinds
    assert "Farthest from their mean, in standard deviations: y[" in str(said)


def test_estimators_are_saved_and_read(estimator, tmp_path):
    path = estimator.save(tmp_path / "estimator.nc")
    again = AmortisedEstimator.load(path, line, np.zeros(6))
    assert repr(again) == repr(estimator)
    draws = estimator.fit(data(0)).posterior.draws
    np.testing.assert_allclose(again.fit(data(0)).posterior.draws, draws, rtol=1e-9)
    with pytest.raises(ValueError, match="cannot hold a program of one's own; give it and data"):
        AmortisedEstimator.load(path)
    fit = estimator.fit(data(0)).save(tmp_path / "fit.nc")
    with pytest.raises(ValueError, match=r"holds a fit, and no estimator; read it by bayesdcm\.l"):
        AmortisedEstimator.load(fit)
    with pytest.raises(FileNotFoundError, match="path: there is no file"):
        AmortisedEstimator.load(tmp_path / "missing.nc")


@pytest.mark.slow
def test_recordings_of_other_designs_are_trained_for_by_themselves(monkeypatch):
    """What is not observed, inputs here, differs between recordings; fits must not mix them."""

    def slope(data):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        numpyro.sample("y", gaussian(data["x"] * b, 0.0), obs=data["y"])

    x = np.linspace(-1, 1, 30)
    recordings = [{"x": x, "y": x}, {"x": 5 * x, "y": 5 * x}, {"x": x, "y": -x}]
    made = train_amortised(slope, recordings[0], **SMALL)
    made.fit(recordings[2])
    with pytest.raises(ValueError, match=r"the model predicts other data of this .* \(inputs, tim"):
        made.fit(recordings[1])
    trained, learn = [], amortised.learn
    monkeypatch.setattr(amortised, "learn", lambda *a: trained.append(a[0]) or learn(*a))
    method = made.learnt.method
    tasks = [Task(make_problem(slope, each), method, 0) for each in recordings]
    found = dict(method.run_many(Batch("abc", tasks), "threads"))
    assert [problem.data["x"][-1] for problem in trained] == [1, 5]
    assert all(isinstance(each, Posterior) for each in found.values()) and set(found) == set("abc")


# Networks, which have a simulator of their own


def objective(terms=None, **options):
    lengths = np.array([[0, 20.0, 40.0], [20.0, 0, 30.0], [40.0, 30.0, 0]])
    connectome = Connectome(lengths / 40, lengths, ["V1", "V5", "SPC"])
    network = NetworkModel(WilsonCowan(), connectome, noise=OrnsteinUhlenbeck(0.3, 0.02))
    observers = [StreamedSpectrum(0.02), LaggedCorrelation((0.005,))]
    usual = dict.fromkeys(("power_spectrum", "lagged_correlation"), "squared")
    return SimulationObjective(network, terms or usual, 0.1, observers=observers, **options)


def recording(model, seed):
    found = model.simulate({"strength": 0.1, "speed": 0.0}, seed=seed)
    return {term.name: found[term.name] for term in model.terms}


@pytest.mark.slow
def test_networks_are_simulated_with_noise_of_their_own(tmp_path):
    model = objective()
    made = train_amortised(model, recording(model, 0), out=tmp_path / "simulations", **SMALL)
    assert "power_spectrum[50 Hz, V1]" in made.feature_names
    assert "lagged_correlation[0.005, V5, V1]" in made.feature_names
    flat, values = simulations(made.problem, 50, 0, False)
    own = model.simulate({"strength": flat[7, 0], "speed": flat[7, 1]}, seed=int(
        np.random.SeedSequence([0, 1]).generate_state(50)[7]
    ))  # fmt: skip
    for name, value in values.items():
        np.testing.assert_allclose(value[7], own[name], rtol=1e-6)
    observed = made.learnt.features(make_problem(model, {name: own[name] for name in values}))
    _, expected = named_features(values, model.dims(), made.problem.coords)
    np.testing.assert_allclose(observed, expected[7], rtol=1e-6)
    fit = made.fit(recording(model, 1))
    assert fit.posterior.density is None
    assert set(fit.mean) == {"strength", "speed"}
    # What was simulated is found again; a file holds the network itself.
    kept = list((tmp_path / "simulations").glob("*.npz"))
    before = kept[0].stat().st_mtime_ns
    train_amortised(model, recording(model, 0), out=tmp_path / "simulations", **SMALL)
    assert [path.stat().st_mtime_ns for path in kept] == [before]
    again = AmortisedEstimator.load(made.save(tmp_path / "network.nc"))
    np.testing.assert_allclose(
        again.fit(recording(model, 1)).posterior.draws, fit.posterior.draws, rtol=1e-9
    )
    other = objective(free=["strength"])
    with pytest.raises(ValueError, match="holds simulations of .* settings; give another folder"):
        train_amortised(other, recording(other, 0), out=tmp_path / "simulations", **SMALL)


def test_what_cannot_be_learnt_from_is_refused():
    whole = objective(lambda results, data: 0.0 * data)
    with pytest.raises(ValueError, match="observes nothing that can be simulated; a Simulation"):
        bayesdcm.fit(whole, np.zeros(()), "amortised")
    with pytest.raises(ValueError, match="simulations must be an integer of at least 50, got 10"):
        bayesdcm.fit(line, np.zeros(6), "amortised", simulations=10)

    def confounded(data):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        numpyro.sample("y", gaussian(mean + 0 * data, 0.0, confounds=np.ones((6, 1))), obs=data)

    with pytest.raises(ValueError, match="cannot draw confounds, of which nothing is known"):
        bayesdcm.fit(confounded, np.zeros(6), "amortised")

    def lost(data):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(jnp.log(mean - 9.0), 1.0), obs=data)

    with pytest.raises(ValueError, match="only 0 of 50 simulations are finite, too few to learn"):
        bayesdcm.fit(lost, np.array(0.0), "amortised", **SMALL)


def test_bold_must_have_the_clock_of_the_simulations():
    network = NetworkModel(Linear(), Connectome(1.0 - np.eye(3)), speed=None, noise=White(0.1))
    terms, observers = {"functional_connectivity": "squared"}, [HrfConvolution("gamma", 1.0)]
    model = SimulationObjective(network, terms, 20.0, 0.05, observers=observers)
    scans = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="repetition time of 2 s, the .bold. that is simulated"):
        make_problem(model, BoldData(scans[:10], 2.0))
    with pytest.raises(ValueError, match="data last 30 s, the simulations 20 s, so that their"):
        bayesdcm.fit(model, BoldData(scans, 1.0), "amortised", **SMALL)


def test_dynamics_count_by_their_distribution_and_constants_not_at_all(estimator):
    windows = np.random.default_rng(0).uniform(size=(2, 9, 9))
    names, values = named_features({"fcd": windows}, {"fcd": ("window", "other window")}, {})
    assert names[:3] == ["fcd[mean]", "fcd[sd]", "fcd[5 %]"]
    np.testing.assert_allclose(values[0, 0], windows[0][np.triu_indices(9, 1)].mean())
    with pytest.raises(
        ValueError, match="data have 5 features, the simulations 6, and .* y\\[5\\]; give"
    ):
        short = DESIGN[:5]

        def shorter(data):
            b = numpyro.sample("b", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
            numpyro.sample("y", gaussian(jnp.asarray(short) @ b, 0.0), obs=data)

        estimator.learnt.posterior(make_problem(shorter, np.zeros(5)), 0)


def test_cross_spectra_count_by_their_power_and_coherency():
    matrices = np.array([[[4.0, 1 + 1j], [1 - 1j, 9.0]]] * 3)
    dims = {"signal": ("condition", "frequency", "pair")}
    names, values = named_features({"signal": to_columns(matrices)[None]}, dims, {})
    assert names[:2] == ["signal[0, 0]", "signal[0, 1]"]
    expected = [np.log(4), np.sqrt(2) / 6, -np.sqrt(2) / 6, np.log(9)]
    np.testing.assert_allclose(values.reshape(3, 4), [expected] * 3)
    # Of one channel, power at every frequency; conditions are stacked.
    coords = {"frequency": [4.0, 6.0, 8.0], "pair": ["Cz, Cz"]}
    power = np.exp(np.arange(12.0)).reshape(2, 6, 1)
    names, values = named_features({"signal": power}, dims, coords)
    assert names[-1] == "signal[5, Cz, Cz]"
    np.testing.assert_allclose(values, np.arange(12.0).reshape(2, 6), atol=1e-12)
    _, nothing = named_features({"signal": np.zeros((1, 3, 4))}, dims, {})
    assert np.isfinite(nothing).all()


def test_lags_are_those_of_the_whole_series():
    series = np.random.default_rng(0).normal(size=(57, 3)).cumsum(0) + 1e3
    found = streamed(LaggedCorrelation((0.0, 0.3)), series, 0.1, block=10)
    np.testing.assert_allclose(found[0], np.corrcoef(series.T), rtol=1e-9)
    expected = np.corrcoef(series[3:].T, series[:-3].T)[:3, 3:]
    np.testing.assert_allclose(found[1], expected, rtol=1e-9)
    with pytest.raises(ValueError, match="all shorter than the series, which lasts 5.7 s"):
        streamed(LaggedCorrelation((6.0,)), series, 0.1)
