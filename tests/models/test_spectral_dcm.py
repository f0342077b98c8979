"""SpectralDCM: SPM's numbers, recordings that it simulates, and its own likelihood."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import bayesdcm
from bayesdcm import BoldData, BoldDesign, SpectralData, SpectralDCM

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


@pytest.mark.parametrize("case", ["3/fwd1", "3/fwd2", "3/fwd3", "4/fwd1", "4/fwd2"])
def test_predictions_are_those_of_spm(case):
    n = int(case[0])
    model, data = SpectralDCM(np.ones((n, n)), "spm"), spm_data(n)
    parameters = {name: SPM[f"{case}/{name}"] for name in NAMES}
    scale = model.observer.scale(data)
    predicted = np.asarray(model.predict(parameters, data)[0]) * scale
    expected = SPM[f"{case}/spectra"]
    assert np.abs(predicted - expected).max() < 1e-11 * np.abs(expected).max()
    unsmoothed = model.cross_spectra(parameters, data.frequencies, reference=data.frequencies)
    expected = SPM[f"{case}/unsmoothed"]
    assert np.abs(unsmoothed - expected).max() < 1e-11 * np.abs(expected).max()


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("n", [3, pytest.param(4, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("derivatives", "nats", "sds"), [("one_sided", 1e-6, 1e-6), ("exact", 1e-3, 3e-3)]
)
def test_inversions_are_those_of_spm(n, derivatives, nats, sds):
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
    model = SpectralDCM(np.ones((2, 2)))
    first, second = (
        bayesdcm.fit(model, SpectralData.from_bold(each), draws=10)
        for each in (run, BoldData(7 * run.signal, 2.0, region_names=run.region_names))
    )
    np.testing.assert_allclose(first.mean["A"], second.mean["A"], rtol=1e-8)


def test_labels_units_and_results():
    data = SpectralData.from_bold(recording())
    fit = bayesdcm.fit(SpectralDCM([[1, 0], [1, 1]]), data, draws=20)
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
