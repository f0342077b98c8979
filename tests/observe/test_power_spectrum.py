"""Power spectra and synchrony of series, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import xarray as xr
from jax.test_util import check_grads

import bayesdcm
from bayesdcm.data import BoldData
from bayesdcm.observe import (
    StreamedSpectrum,
    metastability,
    phase_coherence,
    power_spectrum,
    streamed,
    synchrony,
)


@pytest.fixture(scope="module")
def signals():
    return 3 + np.random.default_rng(4).normal(size=(101, 3)).cumsum(0)


@pytest.mark.parametrize("length", [20, 21, 101])
def test_spectrum_is_welchs(signals, length):
    found = power_spectrum(signals, 0.01, segment=length * 0.01)
    expected = scipy.signal.welch(
        signals, 100.0, "hann", nperseg=length, noverlap=length // 2, detrend="constant", axis=0
    )
    np.testing.assert_allclose(found.frequencies, expected[0], rtol=1e-12)
    np.testing.assert_allclose(found.density, expected[1], rtol=1e-9, atol=1e-12)


def test_white_noise_has_its_density():
    noise = np.random.default_rng(0).normal(scale=3.0, size=(20_000, 1))
    spectrum = power_spectrum(noise, 0.005)
    assert float(spectrum.density[1:-1].mean()) == pytest.approx(2 * 9 * 0.005, rel=0.03)
    # Half of eight half-overlapping segments and one more.
    assert spectrum.frequencies[1] == pytest.approx(4.5 / 100.0, rel=1e-3)


def test_labels_and_derivatives(signals):
    data = BoldData(signals, 2.0, region_names=["a", "b", "c"], unit="arbitrary")
    found = power_spectrum(data, segment=40.0)
    assert found.dims == ("frequency", "region") and found.region.values.tolist() == list("abc")
    expected = power_spectrum(signals, 2.0, segment=40.0)
    np.testing.assert_array_equal(found, expected.density)
    np.testing.assert_array_equal(found.frequency, expected.frequencies)
    stack = np.stack([signals, signals[::-1]])
    np.testing.assert_allclose(
        power_spectrum(stack, 2.0, segment=40.0).density[0], expected.density, rtol=1e-12
    )
    check_grads(lambda x: power_spectrum(x, 1.0, segment=6.0).density, (signals[:11],), 1,
                atol=1e-6, rtol=1e-6, eps=1e-5)  # fmt: skip


def test_bad_times_are_refused(signals):
    labelled = xr.DataArray(signals, dims=("time", "region"), coords={"time": 0.1 * np.arange(101)})
    for series, options, text in (
        (signals, {}, "sampling_interval is missing"),
        (signals, {"sampling_interval": -1.0}, "must be above 0 s, got -1"),
        (labelled, {"sampling_interval": 2.0}, "is 2 s, but the series is labelled with .* 0.1 s"),
        (labelled, {"segment": 20.0}, "0.4 to 10.1 s; got 20 s"),
    ):
        with pytest.raises(ValueError, match=text):
            power_spectrum(series, **options)


@pytest.mark.parametrize("length", [10, 11, 101])
@pytest.mark.parametrize("block", [3, 28])
def test_blocks_have_the_same_spectrum(signals, length, block):
    observer = StreamedSpectrum(segment=0.01 * length)
    expected = power_spectrum(signals, 0.01, segment=0.01 * length)
    found = streamed(observer, signals, 0.01, block)
    np.testing.assert_allclose(found, expected.density, rtol=1e-9, atol=1e-12)
    coords = observer.result_coords(signals.shape, 0.01)
    np.testing.assert_allclose(coords["frequency"], expected.frequencies)


def test_blocks_have_the_same_derivative(signals):
    part, observer = signals[:23], StreamedSpectrum(segment=8.0)
    batch = jnp.stack([part, part[::-1]])
    streaming, whole = (
        jax.jit(jax.vmap(jax.value_and_grad(lambda x, f=f: (f(x) ** 2).sum())))(batch)
        for f in (
            lambda x: streamed(observer, x, 1.0, 5),
            lambda x: power_spectrum(x, 1.0, segment=8.0).density,
        )
    )
    np.testing.assert_allclose(streaming[0], whole[0], rtol=1e-12)
    np.testing.assert_allclose(streaming[1], whole[1], rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="no longer than the series, 4 to 23 s; got 30 s"):
        streamed(StreamedSpectrum(segment=30.0), part, 1.0)


@pytest.mark.parametrize("samples", [100, 101])
def test_phases_are_those_of_the_analytic_signal(signals, samples):
    part = signals[:samples]
    analytic = scipy.signal.hilbert(part - part.mean(0), axis=0)
    expected = np.abs(np.exp(1j * np.angle(analytic)).mean(1))
    np.testing.assert_allclose(phase_coherence(part), expected, atol=1e-12)
    assert float(synchrony(part)) == pytest.approx(expected.mean(), abs=1e-12)
    assert float(metastability(part)) == pytest.approx(expected.std(), abs=1e-12)
    check_grads(lambda x: metastability(x), (part[:9] - part[:9].mean(0),), 1, ("rev",), 1e-5,
                1e-5, eps=1e-6)  # fmt: skip


def test_phases_of_one_frequency_are_found_in_a_band():
    time = 0.5 * np.arange(400)[:, None]
    phases = np.array([0.0, 0.5, 2.0])
    slow, fast = (np.sin(2 * np.pi * f * time + phases * s) for f, s in ((0.05, 1), (0.4, 7)))
    expected = np.abs(np.exp(1j * phases).mean())
    options = {"band": (0.01, 0.1), "sampling_interval": 0.5}
    np.testing.assert_allclose(phase_coherence(slow + fast, **options), expected, atol=1e-10)
    assert float(synchrony(slow + fast, **options)) == pytest.approx(expected)
    assert float(metastability(slow + fast, **options)) == pytest.approx(0, abs=1e-10)


def test_phases_that_are_given():
    phases = np.array([[0.0, 0.0], [0.1, 0.1 + np.pi / 2]])
    np.testing.assert_allclose(phase_coherence(phases, phases=True), [1.0, np.sqrt(0.5)])
    labelled = xr.DataArray(
        phases, dims=("time", "region"), coords={"time": [7.0, 9.0], "region": ["a", "b"]}
    )
    found = phase_coherence(labelled, phases=True)
    assert found.dims == ("time",) and found.time.values.tolist() == [7.0, 9.0]
    assert synchrony(jnp.stack([phases] * 2), phases=True).shape == (2,)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"band": (0.1, 0.01), "sampling_interval": 1.0}, "the lower one first"),
        ({"band": (0.001, 0.002), "sampling_interval": 1.0}, "resolution of 0.0099 Hz"),
        ({"band": (0.01, 0.1)}, "sampling_interval is missing"),
        ({"band": (0.01, 0.1), "phases": True}, "phases=True says that there are none"),
    ],
)
def test_bad_bands_are_refused(signals, options, text):
    with pytest.raises(ValueError, match=text):
        phase_coherence(signals, **options)


def test_public_name():
    assert bayesdcm.power_spectrum is power_spectrum
