"""SpectralDCM: SPM's numbers, recordings that it simulates, and its own likelihood."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.stats import multivariate_normal

import bayesdcm
from bayesdcm import BoldData, BoldDesign, SpectralData, SpectralDCM
from bayesdcm.infer.density import evaluate

SPM = np.load(Path(__file__).parents[1] / "data" / "spm_spectral.npz")
SPECTRA = np.load(Path(__file__).parents[1] / "data" / "spm_spectra.npz")
NAMES = ("A", "transit", "decay", "epsilon", "fluctuation", "shared_noise", "regional_noise")


def spm_data(n):
    bold = BoldData(SPECTRA[f"signal_{n}"], 2.0, unit="percent")
    return SpectralData.from_bold(bold, "autoregressive")


def means(model):
    return {prior.name: np.array(prior.mean) for prior in model.priors}


@cache
def recording():
    model = SpectralDCM(np.ones((2, 2)))
    return model.simulate(means(model), BoldDesign(200, 2.0, None, None, ["R1", "R2"]), seed=1)


@cache
def predictions_as_spm(n):
    """By one program, spectra as SPM smooths them and as they are."""
    model, data = SpectralDCM(np.ones((n, n)), "spm"), spm_data(n)
    scale, frequencies = model.observer.scale(data), data.frequencies

    def both(parameters):
        unsmoothed = model.cross_spectra(parameters, frequencies, reference=frequencies)
        return model.predict(parameters, data)[0] * scale, unsmoothed

    return jax.jit(both)


@pytest.mark.parametrize("case", ["3/fwd1", "3/fwd2", "3/fwd3", "4/fwd1", "4/fwd2"])
def test_predictions_are_those_of_spm(case):
    parameters = {name: SPM[f"{case}/{name}"] for name in NAMES}
    predicted, unsmoothed = predictions_as_spm(int(case[0]))(parameters)
    expected = SPM[f"{case}/spectra"]
    assert np.abs(predicted - expected).max() < 1e-11 * np.abs(expected).max()
    expected = SPM[f"{case}/unsmoothed"]
    assert np.abs(unsmoothed - expected).max() < 1e-11 * np.abs(expected).max()


@pytest.mark.parametrize("n", [3, pytest.param(4, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("derivatives", "nats", "sds"), [("one_sided", 1e-6, 1e-6), ("exact", 1e-3, 3e-3)]
)
def test_inversions_are_those_of_spm(n, derivatives, nats, sds, request):
    if derivatives == "one_sided":
        # Which takes longer to compute than to compile.
        request.getfixturevalue("optimized")
    model = SpectralDCM(SPM[f"{n}/structure"], "spm")
    fit = bayesdcm.fit(model, spm_data(n), derivatives=derivatives, draws=10)
    assert fit.status["n_iterations"] == SPM[f"{n}/iterations"]
    assert fit.log_evidence == pytest.approx(SPM[f"{n}/free_energy"].item(), abs=nats)
    for name in NAMES:
        sd = SPM[f"{n}/sd/{name}"]
        difference = np.abs(fit.mean[name] - SPM[f"{n}/mean/{name}"])
        assert (difference <= sds * sd + 1e-12).all(), name


def test_simulated_series_have_the_spectra_of_the_model():
    model = SpectralDCM(np.ones((2, 2)))
    parameters = means(model) | {"A": np.array([[0.0, 0.0], [0.4, 0.0]])}
    design = BoldDesign(3000, 2.0, None, None, ["R1", "R2"])
    frequencies = np.linspace(0.01, 0.12, 40)
    total = 0.0
    for seed in range(4):
        run = model.simulate(parameters, design, seed=seed)
        data = SpectralData.from_bold(run, frequencies=frequencies, bandwidth=0.005)
        total = total + data.spectra[0] / 4
    expected = np.asarray(model.cross_spectra(parameters, frequencies))
    # 4 runs of 29 tapers each: entries scatter by a tenth about their mean.
    unit = np.sqrt(np.einsum("fii,fjj->fij", expected.real, expected.real))
    difference = (total - expected) / unit
    assert np.abs(difference).std() < 0.12
    assert np.abs(difference.mean(0)).max() < 0.03
    # Region 2 follows region 1.
    assert (expected[:, 0, 1].imag > 0).all()


def test_simulated_spectra_come_in_the_class_of_the_design():
    data = SpectralData.from_bold(recording())
    model = SpectralDCM(np.ones((2, 2)))
    again = model.simulate(means(model), data, seed=3)
    assert isinstance(again, SpectralData) and again.series.n_scans == 200
    np.testing.assert_array_equal(again.frequencies, data.frequencies)
    assert not np.allclose(again.spectra, data.spectra)
    drawn = model.simulate(means(model), data.replace(series=None), seed=3)
    assert drawn.series is None and drawn.spectra.shape == data.spectra.shape
    with pytest.raises(ValueError, match="snr is 3"):
        model.simulate(means(model), data, seed=1, snr=3.0)
    unstable = means(model) | {"A": np.array([[0.0, 0.8], [0.8, 0.0]])}
    with pytest.raises(ValueError, match="without stable rest"):
        model.simulate(unstable, data, seed=1)


def test_slice_delays_do_not_change_the_spectra():
    """Regions that are measured at different times, and brought to one again."""
    model = SpectralDCM(np.ones((2, 2)))
    at_once, apart = (
        SpectralData.from_bold(
            model.simulate(
                means(model),
                BoldDesign(400, 2.0, None, None, ["R1", "R2"], slice_delays=delays),
                seed=1,
            )
        )
        for delays in ([0.0, 0.0], [0.0, 1.0])
    )
    unit = np.sqrt(np.einsum("fii,fjj->fij", at_once.spectra[0], at_once.spectra[0]).real)
    assert np.abs((at_once.spectra[0] - apart.spectra[0]) / unit).max() < 0.1


def test_scale_of_the_signals_does_not_matter():
    run = recording()
    model = SpectralDCM([[1, 0], [1, 1]])
    first, second = (
        bayesdcm.fit(model, SpectralData.from_bold(each), draws=10)
        for each in (run, BoldData(7 * run.signal, 2.0, region_names=run.region_names))
    )
    np.testing.assert_allclose(first.mean["A"], second.mean["A"], rtol=1e-8)


@pytest.mark.slow
def test_labels_units_and_results():
    data = SpectralData.from_bold(recording())
    fit = bayesdcm.fit(SpectralDCM([[1, 0], [1, 1]]), data, draws=20)
    # Entries of one frequency have no likelihood of their own.
    by_frequency = fit.idata.log_likelihood["signal"]
    assert by_frequency.dims == ("chain", "draw", "condition", "frequency")
    program = fit.problem.source.bind(fit.problem.prepared)
    expected = evaluate(program, fit.problem.sites, jnp.asarray(fit.posterior.flat_sample[3]))
    assert float(by_frequency[0, 3].sum()) == pytest.approx(
        float(expected.log_likelihood), abs=1e-8
    )
    assert fit.labels[:3] == ["A[R1, R1]", "A[R2, R1]", "A[R2, R2]"]
    assert "fluctuation[amplitude]" in fit.labels and "shared_noise[exponent]" in fit.labels
    assert "regional_noise[R2]" in fit.labels
    assert not any("precision" in label for label in fit.labels)
    assert fit.facts.kind == "resting-state fMRI"
    shown = fit.predict()
    assert shown.dims[-3:] == ("condition", "frequency", "pair")
    assert list(shown["pair"].values) == ["R1", "real R1, R2", "imaginary R2, R1", "R2"]
    observed = fit.idata.observed_data["signal"].values[0]
    np.testing.assert_allclose(observed[:, 0], data.spectra[0, :, 0, 0].real)
    np.testing.assert_allclose(observed[:, 1], data.spectra[0, :, 0, 1].real)
    np.testing.assert_allclose(observed[:, 2], data.spectra[0, :, 1, 0].imag)
    connectivity = fit.idata.posterior["effective_connectivity"].mean(("chain", "draw"))
    assert float(connectivity[0, 0]) == pytest.approx(-0.5, abs=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degrees_of_freedom": None}, "data.degrees_of_freedom is None"),
        ({"kind": "lfp", "unit": "V", "series": None}, "data.kind is 'lfp'"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    data = SpectralData.from_bold(recording()).replace(**change)
    with pytest.raises(ValueError, match=message):
        SpectralDCM(np.ones((2, 2))).check(data)


def test_spectra_that_the_likelihood_cannot_take_are_refused():
    data, model = SpectralData.from_bold(recording()), SpectralDCM(np.ones((2, 2)))
    twice = data.replace(spectra=data.spectra[:, :, [0, 0]][:, :, :, [0, 0]], series=None)
    with pytest.raises(ValueError, match="linear combinations of each other, of '.*data.pick"):
        model.prepare(twice)
    with pytest.raises(ValueError, match="data has 1 frequency, but the model is for spectra of"):
        model.check(data.crop(fmax=data.frequencies[0]))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="likelihood must be one of 'wishart', 'spm', got 'ar'"):
        SpectralDCM([[1]], "ar")
    with pytest.raises(TypeError, match="data must be SpectralData, got BoldData"):
        SpectralDCM(np.ones((2, 2))).check(recording())
    with pytest.raises(ValueError, match="data has 2 regions, but the model has 3"):
        SpectralDCM(np.ones((3, 3))).check(SpectralData.from_bold(recording()))
    with pytest.raises(ValueError, match="derivatives='one_sided' is for observations"):
        bayesdcm.fit(
            SpectralDCM(np.ones((2, 2))),
            SpectralData.from_bold(recording()),
            derivatives="one_sided",
        )


@pytest.mark.slow
def test_measures_follow_from_one_posterior():
    parameters = means(SpectralDCM(np.ones((2, 2)))) | {"A": np.array([[0.0, 0.0], [0.4, 0.0]])}
    parameters |= {"regional_noise": np.full(2, -3.0), "shared_noise": np.array([-3.0, 0.0])}
    model = SpectralDCM([[1, 0], [1, 1]])
    design = BoldDesign(400, 2.0, None, None, ["R1", "R2"])
    data = SpectralData.from_bold(model.simulate(parameters, design, seed=2))
    fit = bayesdcm.fit(model, data, draws=60)
    found = bayesdcm.spectral_measures(fit, draws=20)
    assert found.sizes == {"draw": 20, "frequency": 32, "to": 2, "from": 2}
    forward, backward = {"to": "R2", "from": "R1"}, {"to": "R1", "from": "R2"}
    influence = found["directed_influence"]
    # There is no connection back; both take the same coherence, and opposite delays.
    assert float(np.abs(influence.sel(backward)).max()) < 1e-12
    assert float(influence.sel(forward).mean()) > 0.1
    delay = found["phase_delay"]
    np.testing.assert_allclose(delay.sel(forward), -delay.sel(backward), atol=1e-12)
    assert 0.2 < float(delay.sel(forward).isel(frequency=4).mean()) < 3.0
    assert float(found["coherence"].sel(forward).max()) < 1
    share = found["functional_connectivity"].sel(forward)
    assert share.dims == ("draw",) and float(np.abs(share - np.corrcoef(
        data.series.signal.T)[0, 1]).mean()) < 0.2  # fmt: skip
    with pytest.raises(ValueError, match="frequencies must be at least two numbers above 0"):
        bayesdcm.spectral_measures(fit, [0.0, 0.1])


def test_the_exact_density_of_series_is_that_of_their_covariance():
    """White signals, of which the density is known; and a run in which one region follows."""
    model = SpectralDCM([[1]])
    silent = means(model) | {
        "fluctuation": np.array([-30.0, 0.0]),
        "shared_noise": np.array([0.0, -40.0]),
        "regional_noise": np.array([-30.0]),
    }
    run = BoldData(np.random.default_rng(0).normal(size=(40, 1)), 2.0)
    # The noise's spectrum is 1/32 per Hz up to the Nyquist frequency of 1/4 Hz.
    variance = 1 / 32 / 4
    centred = run.signal - run.signal.mean()
    expected = -((centred**2).sum() / variance + 39 * np.log(2 * np.pi * variance)) / 2
    # Not at frequency zero, and half at the Nyquist frequency: two in 160 are not there.
    found = model.series_log_likelihood(silent, run)
    assert float(found) == pytest.approx(expected, rel=0.02)

    both = SpectralDCM(np.ones((2, 2)))
    true = means(both) | {"A": np.array([[0.0, 0.0], [0.3, 0.0]])}
    other = true | {"A": np.array([[0.0, 0.3], [0.0, 0.0]])}
    unstable = true | {"A": np.array([[0.0, 0.8], [0.8, 0.0]])}
    design = BoldDesign(150, 2.0, None, None, ["R1", "R2"])
    gains = []
    for seed in range(3):
        run = both.simulate(true, design, seed=seed)
        at_true = both.series_log_likelihood(true, run)
        gains.append(float(at_true - both.series_log_likelihood(other, run)))
    assert np.mean(gains) > 0
    assert both.series_log_likelihood(unstable, run) == -np.inf
    with pytest.raises(TypeError, match="bold must be a BoldData, got BoldDesign"):
        both.series_log_likelihood(true, design)
    with pytest.raises(ValueError, match="bold has 2 regions, but the model has 1"):
        model.series_log_likelihood(means(model), run)


@cache
def about_rest(model):
    """Rates of change by neuronal states and those of regions, and what is read of them."""
    n, (neural, _, observer) = model.n_regions, model.parts
    rest = jnp.zeros(n * (1 + len(observer.states)))

    def flow(states, parameters):
        activity, h = states[:n], states[n:].reshape(n, -1)
        rates = neural.flow(activity[:, None], jnp.zeros(0), parameters)[:, 0]
        return jnp.concatenate([rates, observer.flow(activity, h, parameters).ravel()])

    def read(states, parameters):
        return observer.read(states[n:].reshape(n, -1), parameters)

    return jax.jit(lambda parameters: [jax.jacfwd(f)(rest, parameters) for f in (flow, read)])


def kalman_filter(model, parameters, bold, scans):
    """Log-density of series by states in continuous time, white fluctuations and white noise."""
    rates, reads = map(np.asarray, about_rest(model)(parameters))
    steps = expm(rates * bold.repetition_time)
    # Power laws with the exponent 0 are 1 / 32 per Hz, one-sided.
    sizes = {name: np.exp(parameters[name]) / 64 for name in ("fluctuation", "shared_noise")}
    driven = (
        np.diag(np.arange(len(rates)) < model.n_regions) * model.parts.neural.fluctuation_scale**2
    )
    spread = solve_continuous_lyapunov(rates, -driven * sizes["fluctuation"][0])
    added = spread - steps @ spread @ steps.T
    own = np.diag(np.exp(parameters["regional_noise"]) / 64)
    noise = (sizes["shared_noise"][0] + own) / bold.repetition_time
    mean, total = np.zeros(len(rates)), 0.0
    for sample in bold.signal[:scans]:
        variance, error = reads @ spread @ reads.T + noise, sample - reads @ mean
        total += multivariate_normal(cov=variance).logpdf(error)
        gain = spread @ reads.T @ np.linalg.inv(variance)
        mean = steps @ (mean + gain @ error)
        spread = steps @ (spread - gain @ reads @ spread) @ steps.T + added
    return total


def test_the_exact_density_of_series_is_that_of_a_kalman_filter():
    """But for what of power is above half the sampling rate, and at frequency zero."""
    model = SpectralDCM(np.ones((2, 2)))
    parameters = means(model) | {"A": np.array([[0.0, 0.0], [0.3, 0.0]])}
    white = {"fluctuation": np.array([1.0, -40.0]), "shared_noise": np.array([-2.0, -40.0])}
    parameters |= white
    design = BoldDesign(101, 2.0, None, None, ["R1", "R2"], confounds=np.eye(101)[:, -1:])
    run = model.simulate(parameters, design, seed=1)
    # A confound of one scan takes it out.
    changes = ({}, {"A": parameters["A"].T}, {"transit": np.array([0.3, -0.3])})
    all_of_them = [parameters | change for change in changes]
    expected = [kalman_filter(model, each, run, 100) for each in all_of_them]
    found = [float(model.series_log_likelihood(each, run)) for each in all_of_them]
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.3)
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=0, atol=0.1)
    assert np.abs(np.diff(expected)).min() > 1


@pytest.mark.exhaustive
def test_the_wishart_likelihood_is_that_of_series_but_for_what_tapers_lose():
    """At the truth, scores have the mean zero and the variance that curvatures promise."""
    from bayesdcm.integrate.hermitian import to_columns
    from bayesdcm.observe import WishartObservation

    model = SpectralDCM(np.ones((2, 2)))
    true = means(model) | {"A": np.array([[0.0, 0.0], [0.3, 0.0]])}
    design = BoldDesign(200, 2.0, None, None, ["R1", "R2"])

    def columns(A, frequencies):
        return jnp.asarray(to_columns(model.cross_spectra(true | {"A": A}, frequencies)))

    runs = [model.simulate(true, design, seed=seed) for seed in range(40)]
    spectra = [SpectralData.from_bold(run) for run in runs]
    f = spectra[0].frequencies
    v = jnp.full(len(f), spectra[0].degrees_of_freedom[0])

    def of_series(A, run):
        return model.series_log_likelihood(true | {"A": A}, run)

    def of_spectra(A, observed):
        return WishartObservation(columns(A, f), v, 0 * v).log_prob(observed)

    A = jnp.asarray(true["A"])
    exact = [np.ravel(jax.jacfwd(of_series)(A, run)) for run in runs]
    score = jax.jit(jax.jacfwd(of_spectra))
    wishart = [np.ravel(score(A, jnp.asarray(to_columns(each.spectra[0])))) for each in spectra]

    def white(A):
        fn = WishartObservation(columns(A, f), v, 0 * v)
        return fn.linearised(columns(true["A"], f)).columns

    tangents = np.reshape(jax.jit(jax.jacfwd(white))(A), (-1, 4))
    information = (tangents**2).sum(0)
    for scores in (np.array(exact), np.array(wishart)):
        assert np.abs(scores.mean(0) / scores.std(0) * np.sqrt(40)).max() < 3.5
    ratio = np.var(wishart, axis=0) / information
    assert ((ratio > 0.5) & (ratio < 1.8)).all()
    for k in range(4):
        assert np.corrcoef(np.array(exact)[:, k], np.array(wishart)[:, k])[0, 1] > 0.5


def test_spectra_are_for_their_model():
    data = SpectralData.from_bold(recording())
    with pytest.raises(TypeError, match="data must be BoldData, got SpectralData"):
        bayesdcm.fit(bayesdcm.TaskDCM(np.ones((2, 2)), C=np.ones((2, 1))), data)
    with pytest.raises(TypeError, match="data must be BoldData, got SpectralData"):
        bayesdcm.fit(bayesdcm.RegressionDCM(np.ones((2, 2))), data)
    with pytest.warns(UserWarning, match="give SpectralData.from_bold.*autoregressive"):
        SpectralDCM(np.ones((2, 2)), "spm").check(data)


@pytest.fixture(scope="module")
def driven():
    """A model, its parameters, and a long recording that a slow input dominates."""
    noise = np.random.default_rng(0).normal(size=6000)
    inputs = np.convolve(noise, np.full(4, 0.25), "same")[:, None]
    design = BoldDesign(1500, 2.0, inputs, 0.5, ["R1", "R2"])
    model = SpectralDCM([[1, 0], [1, 1]], C=[[1], [0]])
    parameters = {prior.name: np.array(prior.mean) for prior in model.priors}
    parameters["A"][1, 0], parameters["C"][0, 0] = 0.3, 1.5
    parameters["fluctuation"], parameters["shared_noise"] = [-1.0, 0.0], [-4.0, 0.0]
    parameters["regional_noise"] = np.full(2, -4.0)
    bold = model.simulate(parameters, design, seed=1)
    return model, parameters, SpectralData.from_bold(bold, bandwidth=0.01)


def test_inputs_are_slow_fluctuations_with_known_spectra(driven):
    model, parameters, data = driven
    predicted = np.asarray(model.predict(parameters, data))[0]
    scale = model.parts.observer.scale(data)
    ratio = np.asarray(data.spectra)[0] / (predicted * scale)
    # The input makes nearly all of the power, so that estimates scatter by what is left.
    assert abs(np.log(ratio[:, 0, 0].real).mean()) < 0.05
    assert np.abs(np.angle(ratio[:, 0, 1])).max() < 0.1
    # What is added is of rank one, and in proportion to the spectrum of the input.
    without = np.asarray(model.predict({**parameters, "C": np.zeros((2, 1))}, data))[0]
    added = predicted - without
    assert (without[:, 0, 0].real < 0.05 * predicted[:, 0, 0].real).all()
    determinant = added[:, 0, 0] * added[:, 1, 1] - added[:, 0, 1] * added[:, 1, 0]
    assert np.abs(determinant).max() < 1e-9 * np.abs(added[:, 0, 0] * added[:, 1, 1]).max()
    double = np.asarray(model.predict({**parameters, "C": [[3.0], [0.0]]}, data))[0]
    np.testing.assert_allclose(double - without, 4 * added, rtol=1e-9)


def test_inputs_have_to_be_there(driven):
    model, parameters, data = driven
    two = SpectralDCM([[1, 0], [1, 1]], C=np.ones((2, 2)))
    with pytest.raises(ValueError, match="data.series has 1 inputs, but C has 2"):
        two.prepare(data)
    with pytest.raises(ValueError, match="not for models with inputs C"):
        model.series_log_likelihood(parameters, data.series)
    with pytest.raises(ValueError, match=r"C must have shape \(2, any\)"):
        SpectralDCM([[1, 0], [1, 1]], C=[[1]])
    assert model.labels(data)["C_free"] == ["C[R1, input 1]"]


@pytest.mark.slow
def test_effects_of_inputs_are_recovered(driven):
    model, parameters, data = driven
    fit = bayesdcm.fit(model, data, progress=False)
    true = 1.5 * np.sqrt(model.parts.observer.scale(data))
    summary = fit.summary()
    mean, sd = summary.loc["C[R1, input 1]", ["mean", "sd"]]
    assert abs(abs(mean) - true) < 3 * sd < 0.5 * true
    mean, sd = summary.loc["A[R2, R1]", ["mean", "sd"]]
    assert abs(mean - 0.3) < 3 * sd < 0.1
    without = bayesdcm.fit(model.restrict(C=0), data, progress=False)
    assert fit.log_evidence - without.log_evidence > 100
