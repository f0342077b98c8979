"""The posterior over a brain: likelihoods, recovery, names, and what is said of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import bayesdcm
from bayesdcm import (
    BoldData,
    Connectome,
    CovarianceData,
    Linear,
    SpectralData,
    WholeBrainDCM,
    WongWang,
    plot,
)
from bayesdcm.integrate.hermitian import to_columns
from bayesdcm.neural import Kuramoto, OrnsteinUhlenbeck, White
from bayesdcm.observe import linear_functional_connectivity
from bayesdcm.observe.covariance import CorrelationObservation, RegionalCovariance
from bayesdcm.report import write_report

WEIGHTS = np.array([[0, 2.0, 1, 0], [2, 0, 0, 1], [1, 0, 0, 3], [0, 1, 3, 0]])
LENGTHS = 40.0 * (WEIGHTS > 0) + 20 * WEIGHTS
NAMES = ["V1", "V5", "IPS", "FEF"]


def prior_means(model):
    return {prior.name: np.asarray(prior.mean) for prior in model.priors}


def ring(n, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.gamma(1.0, size=(n, n)) * (rng.random((n, n)) < 0.4)
    weights += np.roll(np.eye(n), 1, 0)
    np.fill_diagonal(weights, 0)
    lengths = np.where(weights > 0, rng.uniform(20, 150, (n, n)), 0.0)
    return Connectome(weights, lengths)


def test_functional_connectivity_is_that_of_the_linear_baseline():
    radius = np.abs(np.linalg.eigvals(WEIGHTS)).max()
    model = WholeBrainDCM(WEIGHTS, coupling="additive", strength=0.5 / radius)
    expected = linear_functional_connectivity(WEIGHTS, 0.5)
    np.testing.assert_allclose(model.functional_connectivity({}), expected, rtol=1e-9)


def test_covariance_at_a_lag_is_that_of_the_propagator():
    model = WholeBrainDCM(WEIGHTS)
    total = WEIGHTS / WEIGHTS.sum(1).mean()
    rates = 10 * (total - np.diag(1 + total.sum(1)))
    expected = jax.scipy.linalg.expm(0.03 * rates) @ model.covariance({})
    np.testing.assert_allclose(model.covariance({}, lag=0.03), expected, rtol=1e-9)
    np.testing.assert_allclose(model.covariance({}, lag=-0.03), expected.T, rtol=1e-9)


def test_wishart_density_is_that_of_samples():
    """Of covariances of so many samples, the density is that of the samples up to a constant."""
    model = WholeBrainDCM(WEIGHTS, absolute=True)
    rng, differences = np.random.default_rng(0), []
    samples = rng.normal(size=(50, 4)) @ np.diag([1.0, 2, 1, 0.5])
    data = CovarianceData(samples.T @ samples / 50, 50)
    prepared = model.prepare(data)

    @jax.jit
    def both(strength):
        parameters = prior_means(model) | {"strength": strength}
        solution = model._solution(model._complete(parameters), prepared.steps)
        columns = model.observer.predict(solution, parameters, None)
        fn = model.observer.likelihood(columns, 0.0, prepared.noise)
        return model.predict(parameters, data), fn.log_prob(prepared.signal)

    for strength in (-1.0, 0.0, 1.0):
        predicted, found = map(np.asarray, both(strength))
        precision = np.linalg.inv(predicted)
        of_samples = -(samples @ precision * samples).sum() / 2
        of_samples -= 50 / 2 * np.linalg.slogdet(predicted)[1]
        differences.append(float(found) - of_samples)
    np.testing.assert_allclose(differences, differences[0], rtol=1e-9)


def correlations(r, s, t, freedom, observed):
    """Three regions with these correlations predicted, the others observed."""
    predicted = jnp.array([[1.0, r, s], [r, 1.0, t], [s, t, 1.0]])
    _, count = RegionalCovariance().observed(CovarianceData(observed, freedom), {})
    return CorrelationObservation(to_columns(predicted.astype(complex))[None], *count)


def test_density_of_correlations_is_that_of_a_covariance_with_any_scales():
    """By quadrature over the standard deviations of samples."""
    observed = np.array([[1, 0.5, 0.2], [0.5, 1, 0.6], [0.2, 0.6, 1]])
    columns = to_columns(jnp.asarray(observed, complex))[None]
    log_scales = np.stack(np.meshgrid(*[np.linspace(-1, 1, 51)] * 3), axis=-1).reshape(-1, 3)
    sizes = np.exp(log_scales)
    for freedom, tolerance in ((40, 0.02), (400, 0.002)):
        fn_at = partial(correlations, s=0.1, t=0.5, freedom=freedom, observed=observed)
        log_density = jax.jit(lambda r, fn_at=fn_at: fn_at(r).log_prob(columns))
        found, expected = [], []
        for r in (0.1, 0.4, 0.7):
            found.append(float(log_density(r)))
            predicted = np.array([[1, r, 0.1], [r, 1, 0.5], [0.1, 0.5, 1]])
            wishart = stats.wishart(freedom, predicted / freedom)
            # Of covariances with these scales, the density at scales of 1 and what differs.
            misfit = freedom * np.linalg.inv(predicted) * observed
            density = wishart.logpdf(observed) + (freedom - 4) * log_scales.sum(1)
            density -= (np.einsum("ki,ij,kj->k", sizes, misfit, sizes) - misfit.sum()) / 2
            # Of the change of variables from covariances to correlations and log scales.
            density += 3 * np.log(2) + 4 * log_scales.sum(1)
            expected.append(logsumexp(density) + 3 * np.log(2 / 50))
        np.testing.assert_allclose(found, expected, atol=tolerance)


def test_derivatives_of_the_density_of_correlations():
    observed = np.array([[1, 0.5, 0.2], [0.5, 1, 0.6], [0.2, 0.6, 1]])
    columns = to_columns(jnp.asarray(observed, complex))[None]

    @jax.jit
    def log_density(point):
        return correlations(*point, 60, observed).log_prob(columns)

    @jax.jit
    def linearised(point):
        return correlations(*point, 60, observed).linearised(columns)

    slope = jax.jit(jax.grad(log_density))
    point, steps = jnp.array([0.4, 0.1, 0.5]), 1e-5 * jnp.eye(3)
    gradient = slope(point)
    differences = [(log_density(point + h) - log_density(point - h)) / 2e-5 for h in steps]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6)
    # Second derivatives go through the most likely scales, too.
    gradients = [(slope(point + h) - slope(point - h)) / 2e-5 for h in steps]
    np.testing.assert_allclose(jax.jit(jax.hessian(log_density))(point), gradients, rtol=1e-5)
    # What variational Laplace climbs is the density.
    at, jacobian = linearised(point), jax.jit(jax.jacfwd(lambda p: linearised(p).columns))(point)
    np.testing.assert_allclose(jnp.einsum("rcp,rc->p", jacobian, at.residual), gradient, rtol=1e-9)
    normal = -((at.residual**2).sum() + at.residual.size * np.log(2 * np.pi)) / 2
    assert float(normal + at.remainder) == pytest.approx(float(log_density(point)), abs=1e-9)


@pytest.mark.exhaustive
def test_draws_of_correlations_scatter_as_their_density_says():
    observed = np.array([[1, 0.5, 0.2], [0.5, 1, 0.6], [0.2, 0.6, 1]])
    fn = correlations(0.5, 0.2, 0.6, 200, observed)
    drawn = fn.sample(jax.random.key(0), (4000,))
    point = jnp.array([0.5, 0.2, 0.6])

    @jax.jit
    def score(value):
        return jax.grad(lambda p: correlations(*p, 200, observed).log_prob(value))(point)

    scores = jax.lax.map(score, drawn, batch_size=500)
    jacobian = jax.jacfwd(lambda p: correlations(*p, 200, observed).linearised(drawn[0]).columns)
    information = jnp.einsum("rcp,rcq->pq", *[jacobian(point)] * 2)
    np.testing.assert_allclose(np.diag(np.cov(scores.T)), np.diag(information), rtol=0.15)


@pytest.mark.parametrize("likelihood", ["wishart", "normal"])
def test_laplace_recovers_the_strength(likelihood):
    model = WholeBrainDCM(ring(8), likelihood=likelihood)
    true = prior_means(model) | {"strength": 0.7, "measurement_noise": 0.3}
    data = model.simulate(true, CovarianceData(np.eye(8), 4000), seed=1)
    fit = bayesdcm.fit(model, data, progress=False)
    assert abs(fit.mean["strength"] - 0.7) < 3 * fit.sd["strength"] < 0.4
    diagnosis = fit.diagnose()
    assert diagnosis.facts["baseline_correlation"] > 0.95
    assert abs(diagnosis.facts["data_correlation"] - diagnosis.facts["baseline_correlation"]) < 0.02
    assert diagnosis.facts["flat_directions"] == 0
    by_prediction = partial(bayesdcm.compare, {"one": fit, "other": fit}, by="loo")
    if likelihood == "normal":
        assert fit.idata.log_likelihood["signal"].dims == ("chain", "draw", "pair")
        assert by_prediction()["elpd"].nunique() == 1
    else:
        assert fit.idata.log_likelihood["signal"].dims == ("chain", "draw")
        with pytest.raises(ValueError, match="the likelihood judges the data as a whole"):
            by_prediction()


def test_spectra_with_delays_tell_the_speed():
    model = WholeBrainDCM(ring(6), speed=5.0, noise=White(0.2), likelihood="whittle", absolute=True)
    true = prior_means(model) | {"strength": 0.3, "speed": 0.3, "noise_intensity": -0.2}
    frequencies = np.linspace(1, 40, 16)
    flat = np.tile(np.eye(6), (16, 1, 1))
    design = SpectralData(flat, frequencies, degrees_of_freedom=400)
    fit = bayesdcm.fit(model, model.simulate(true, design, seed=2), progress=False)
    for name in ("strength", "speed", "noise_intensity"):
        assert abs(fit.mean[name] - true[name]) < 3.5 * fit.sd[name] < 0.5


def test_bold_spectra_and_lead_fields():
    model = WholeBrainDCM(WEIGHTS, likelihood="whittle", haemodynamics=True)
    run = BoldData(np.random.default_rng(0).normal(size=(200, 4)), 2.0)
    data = SpectralData.from_bold(run)
    spectra = np.asarray(model.predict(prior_means(model), data))[0]
    power = np.einsum("fii->f", spectra).real
    assert power[0] > 3 * power[-1]
    field = np.random.default_rng(1).normal(size=(6, 4))
    seen = WholeBrainDCM(
        WEIGHTS,
        likelihood="whittle",
        lead_field=field,
        absolute=True,
        priors={"measurement_noise": (-40.0, 0.0)},
    )
    design = SpectralData(np.tile(np.eye(6), (3, 1, 1)), [2.0, 8, 20], degrees_of_freedom=9)
    expected = field @ np.asarray(seen.cross_spectra({}, [2.0, 8, 20])) @ field.T
    found = seen.predict(prior_means(seen), design)[0]
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_regions_of_a_map_groups_and_shrinkage():
    model = WholeBrainDCM(
        WEIGHTS,
        regional={"strength": "shrunk", "noise_intensity": ["a", "a", "b", "b"]},
    )
    table = model.prior_table()
    assert table.loc["strength_by_region[region 1]", "variance"] == 1
    assert "noise_intensity[a]" in table.index
    parameters = prior_means(model) | {"strength_by_region": np.array([4.0, 0, 0, 0])}
    by_region = model.network.network.by_region(parameters)["strength"]
    np.testing.assert_allclose(by_region, [1.0, 0, 0, 0])


def test_names_are_checked():
    connectome = Connectome(WEIGHTS, region_names=NAMES)
    model = WholeBrainDCM(connectome)
    with pytest.raises(ValueError, match="bring both in one order"):
        model.check(CovarianceData(np.eye(4), 10, NAMES[::-1]))
    with pytest.raises(ValueError, match="name regions alike"):
        model.check(CovarianceData(np.eye(4), 10, ["A", "B", "C", "D"]))
    table = pd.DataFrame(np.eye(4), NAMES, NAMES)
    model.check(CovarianceData(table, 10))
    labels = WholeBrainDCM(connectome, regional=["strength"]).labels(CovarianceData(table, 10))
    assert labels["strength"][1] == "strength[V5]"


@pytest.mark.exhaustive
def test_a_network_that_data_do_not_tell():
    model = WholeBrainDCM(
        ring(4), WongWang(), "additive", strength=0.05, noise=OrnsteinUhlenbeck(0.01, 0.05, "I")
    )
    data = CovarianceData(np.eye(4), 60)
    data = model.simulate(prior_means(model), data, seed=3)
    fit = bayesdcm.fit(model, data, draws=50, progress=False)
    diagnosis = fit.diagnose()
    assert diagnosis.facts["flat_directions"] >= 1
    assert "directions of the posterior are no narrower than the prior" in str(diagnosis)
    assert np.isfinite(diagnosis.facts["baseline_correlation"])


@pytest.mark.slow
def test_report_and_figure_of_fitted_correlations(tmp_path):
    connectome = bayesdcm.load_connectome("example")
    data = CovarianceData.from_bold(connectome.bold)
    fit = bayesdcm.fit(WholeBrainDCM(connectome), data, progress=False)
    matrices = plot.plot_fit(fit).axes[:2]
    shown = matrices[1].images[0].get_array()
    np.testing.assert_allclose(shown[0, 1:], data.covariance[0, 1:], rtol=1e-9)
    assert matrices[0].get_title(loc="left") == "Fit"
    page = write_report(fit, tmp_path / "report.html").read_text()
    assert "fitted to the functional connectivity, 28 pairs" in page
    assert "(a linear network of one strength: 0.8" in page


def test_degrees_of_freedom_of_slow_signals():
    rng = np.random.default_rng(0)
    slow = np.zeros((4000, 5))
    for t in range(1, 4000):
        slow[t] = 0.7 * slow[t - 1] + rng.normal(size=5)
    data = CovarianceData.from_bold(BoldData(slow, 1.0))
    expected = 4000 * (1 - 0.49) / (1 + 0.49)
    assert abs(data.degrees_of_freedom / expected - 1) < 0.1
    twice = CovarianceData.from_bold([BoldData(slow, 1.0)] * 2)
    np.testing.assert_allclose(twice.degrees_of_freedom, 2 * data.degrees_of_freedom)


def people(model, shift, seed=3):
    """Covariances of eight people with connectomes of their own, whose strengths differ."""
    strengths = 0.2 + 0.5 * shift + 0.1 * np.random.default_rng(seed).normal(size=len(shift))
    made = {}
    for i, strength in enumerate(strengths):
        design = CovarianceData(np.eye(5), 800, connectome=ring(5, seed=i + 1))
        made[f"p{i}"] = model.simulate(prior_means(model) | {"strength": strength}, design, seed=i)
    return made, strengths


@pytest.mark.slow
def test_a_group_with_connectomes_of_their_own():
    model, shift = WholeBrainDCM(ring(5)), np.repeat([-1.0, 1.0], 4)
    data, strengths = people(model, shift)
    design = {"mean": np.ones(8), "group": shift}
    fits = bayesdcm.fit_group(model, data, progress=False)
    for fit, strength in zip(fits, strengths, strict=True):
        assert abs(fit.mean["strength"] - strength) < 3 * fit.sd["strength"] < 0.7
    # As with a model of that person.
    strength = model.network.network.strength
    one = WholeBrainDCM(data["p3"].connectome, strength=strength)
    alone = bayesdcm.fit(one, data["p3"].replace(connectome=None), progress=False)
    np.testing.assert_allclose(fits["p3"].log_evidence, alone.log_evidence, rtol=1e-9)
    effects = bayesdcm.group.peb(fits, design, ["strength"]).summary()
    assert abs(effects["mean"].iloc[1] - 0.5) < 2 * effects["sd"].iloc[1] < 0.3
    predicted = bayesdcm.group.leave_one_out(fits, design, ["strength"])
    assert predicted.attrs["correlation"] > 0.8


@pytest.mark.exhaustive
def test_a_hierarchy_with_connectomes_of_their_own():
    model, shift = WholeBrainDCM(ring(5)), np.repeat([-1.0, 1.0], 4)
    data, _ = people(model, shift)
    design = {"mean": np.ones(8), "group": shift}
    hierarchy = bayesdcm.group.Hierarchy(model, design, ["strength"])
    fit = bayesdcm.fit(hierarchy, data, "nuts", draws=500, chains=2, progress=False)
    assert fit.diagnose().facts["r_hat"] < 1.03
    effects = bayesdcm.group.peb(
        bayesdcm.fit_group(model, data, progress=False), design, "strength"
    )
    found = fit.summary().loc["group strength"]
    np.testing.assert_allclose(found["mean"], effects.summary()["mean"].iloc[1], atol=0.03)
    np.testing.assert_allclose(found["sd"], effects.summary()["sd"].iloc[1], rtol=0.2)


def test_connectomes_of_data_are_checked():
    model = WholeBrainDCM(Connectome(WEIGHTS, LENGTHS, NAMES), speed=5.0)
    data = CovarianceData(np.eye(4), 10, NAMES)
    for connectome, message in (
        (Connectome(WEIGHTS[:3, :3]), "has 3 regions, but that of the model has 4"),
        (Connectome(WEIGHTS, LENGTHS, NAMES[::-1]), "bring both in one order"),
        (Connectome(WEIGHTS, region_names=NAMES), "has no lengths, but speed is 5 m/s"),
    ):
        with pytest.raises(ValueError, match=message):
            model.check(data.replace(connectome=connectome))
    own = Connectome(WEIGHTS, LENGTHS, NAMES[::-1])
    with pytest.raises(ValueError, match="but data has 'V1', 'V5'.*bring both in one order"):
        WholeBrainDCM(WEIGHTS).check(data.replace(connectome=own))
    with pytest.raises(TypeError, match="connectome must be a Connectome, got"):
        data.replace(connectome=WEIGHTS)
    short = Connectome(WEIGHTS, LENGTHS / 100, NAMES)
    flat = np.tile(np.eye(4), (2, 1, 1))
    design = SpectralData(flat, [5.0, 30.0], NAMES, degrees_of_freedom=9, connectome=short)
    spectral = WholeBrainDCM(model.connectome, speed=5.0, likelihood="whittle")
    near = WholeBrainDCM(short, speed=5.0, likelihood="whittle")
    found = spectral.predict(prior_means(spectral), design)
    np.testing.assert_allclose(found, near.predict(prior_means(near), design), rtol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 0.2], [0.3, 1]], "covariance is not symmetric"),
        ([[1, 2.0], [2.0, 1]], "has a negative eigenvalue"),
        ([[0, 0.5], [0.5, 0]], "expected a variance above 0"),
        ([[1, 0.5]], "expected a square matrix"),
    ],
)
def test_bad_covariances(matrix, message):
    with pytest.raises(ValueError, match=message):
        CovarianceData(matrix, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "gaussian"}, "likelihood must be one of 'wishart'"),
        ({"haemodynamics": True}, "haemodynamics is for spectra"),
        ({"noise": None}, "without noise nothing fluctuates"),
        ({"likelihood": "whittle", "lead_field": np.ones((2, 3))}, "expected .channels, 4."),
        ({"regional": {"strength": "loose"}}, "expected one of free, shrunk"),
    ],
)
def test_bad_models(options, message):
    with pytest.raises(ValueError, match=message):
        WholeBrainDCM(WEIGHTS, **options)


def test_bad_data():
    with pytest.raises(TypeError, match="data must be CovarianceData, got BoldData"):
        WholeBrainDCM(WEIGHTS).check(BoldData(np.random.default_rng(0).normal(size=(9, 4)), 1.0))
    with pytest.raises(ValueError, match="weights cannot be restricted.*without these tracts"):
        WholeBrainDCM(WEIGHTS).restrict(weights=np.zeros((4, 4)))
    with pytest.raises(TypeError, match="node must be a node such as Linear"):
        WholeBrainDCM(WEIGHTS, "wilson_cowan")
    with pytest.raises(TypeError, match="connectome must be a Connectome or a matrix"):
        WholeBrainDCM("weights.csv")
    with pytest.raises(ValueError, match="parameters names 'gain', which the model does not"):
        WholeBrainDCM(WEIGHTS).functional_connectivity({"gain": 1.0})
    with pytest.raises(ValueError, match="frequencies must be above 0 Hz, got 0"):
        WholeBrainDCM(WEIGHTS).cross_spectra({}, [0.0])
    with pytest.raises(ValueError, match="absolute is True"):
        WholeBrainDCM(WEIGHTS, absolute=True).check(CovarianceData(np.eye(4), 10))


@pytest.mark.parametrize("options", [{"node": Kuramoto()}, {"strength": -5.0}])
def test_a_network_without_a_stable_rest_is_told(options):
    data = CovarianceData(np.eye(4), 100)
    with pytest.raises(ValueError, match="no stable rest at the prior means.*a weaker coupling"):
        bayesdcm.fit(WholeBrainDCM(WEIGHTS, **options), data, progress=False)


@pytest.mark.exhaustive
def test_nuts_and_laplace_agree():
    model = WholeBrainDCM(ring(8), regional=["noise_intensity"])
    true = prior_means(model) | {"strength": 0.5}
    data = model.simulate(true, CovarianceData(np.eye(8), 400), seed=1)
    laplace = bayesdcm.fit(model, data, progress=False)
    nuts = bayesdcm.fit(model, data, "nuts", draws=500, progress=False)
    assert nuts.diagnose().facts["r_hat"] < 1.01
    np.testing.assert_allclose(
        nuts.mean["noise_intensity"], laplace.mean["noise_intensity"], atol=0.06
    )


def test_linear_node_takes_part_in_reprs():
    text = repr(WholeBrainDCM(Connectome(WEIGHTS, LENGTHS), Linear(), speed=6.0))
    assert text == "WholeBrainDCM(4 regions, linear, diffusive, 6 m/s; likelihood='wishart')"


def test_covariances_with_delays_within_a_traced_function():
    model = WholeBrainDCM(ring(3), speed=5.0)
    traced = jax.jit(lambda strength: model.covariance({"strength": strength}))
    np.testing.assert_allclose(traced(0.0), model.covariance({}), rtol=1e-9)
