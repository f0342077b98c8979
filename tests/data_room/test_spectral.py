"""SpectralData: one convention through every door, degrees of freedom, checks that name faults."""

import mne
import numpy as np
import pytest
from mne.time_frequency import csd_array_fourier, csd_array_morlet, csd_array_multitaper
from scipy.signal import csd as scipy_csd

from bayesdcm.data import BoldData, Connectome, SpectralData
from bayesdcm.data.spectral_estimates import autoregressive_spectra, multitaper_spectra
from bayesdcm.infer.plain_objects import PlainWriter, from_plain

RATE = 200.0
# The second channel lags behind the first by 10 ms, which at 10 Hz is a tenth of a turn.
DELAY, PHASE = 0.010, 2 * np.pi * 10 * 0.010


def delayed_pair(n_epochs=40, n_times=400):
    """White noise of unit variance, (epochs, channels, times), and little noise of its own."""
    rng = np.random.default_rng(3)
    lag = round(DELAY * RATE)
    x = rng.normal(size=(n_epochs, n_times + lag))
    pair = np.stack([x[:, lag:], x[:, :-lag]], axis=1)
    return pair + 0.05 * rng.normal(size=pair.shape)


def epochs_of(pair, kind="seeg", events=None, event_id=None):
    info = mne.create_info(["first", "second"], RATE, kind)
    return mne.EpochsArray(pair, info, events=events, event_id=event_id, verbose=False)


def raw_of(pair, kind="seeg"):
    info = mne.create_info(["first", "second"], RATE, kind)
    return mne.io.RawArray(np.concatenate(list(pair), axis=1), info, verbose=False)


def from_scipy():
    joined = np.concatenate(list(delayed_pair()), axis=1)
    f, values = scipy_csd(joined[:, None], joined[None], fs=RATE, nperseg=400)
    values = np.moveaxis(values, -1, 0)
    options = {"unit": "arbitrary", "kind": "lfp", "degrees_of_freedom": 40}
    return SpectralData.from_arrays(values, f, sided=1, conjugate=True, **options)


def from_two_sided():
    transform = np.fft.fft(delayed_pair(), axis=-1)
    values = np.einsum("eif,ejf->fij", transform, transform.conj()) / (40 * 400 * RATE)
    f = np.fft.fftfreq(400, 1 / RATE)
    return SpectralData.from_arrays(values, f, unit="arbitrary", kind="lfp", sided=2)


def from_mne(estimate, **options):
    csd = estimate(delayed_pair(), RATE, verbose=False, **options)
    with pytest.warns(UserWarning, match="bandwidth is missing, so that estimates .* Hz apart"):
        data = SpectralData.from_csd(csd, 40)
    again = SpectralData.from_csd(csd, 40, bandwidth=2.0)
    assert again.bandwidth == 2.0
    np.testing.assert_array_equal(again.spectra, data.spectra)
    return data


def from_bold(method):
    joined = np.concatenate(list(delayed_pair()), axis=1).T
    bold = BoldData(joined, 1 / RATE, region_names=["first", "second"], unit="arbitrary")
    return SpectralData.from_bold(
        bold, method, frequencies=np.arange(2.0, 95.0), bandwidth=0.2 if method[0] == "m" else None
    )


DOORS = {
    "epochs": lambda: SpectralData.from_epochs(epochs_of(delayed_pair()), fmin=1, fmax=99),
    "epochs of electrodes": lambda: SpectralData.from_epochs(
        epochs_of(1e-6 * delayed_pair(), "eeg"), fmin=1, fmax=99
    ),
    "epochs, autoregressive": lambda: SpectralData.from_epochs(
        epochs_of(delayed_pair()), "autoregressive", fmin=1, fmax=99
    ),
    "raw": lambda: SpectralData.from_raw(raw_of(delayed_pair()), fmin=1, fmax=99),
    "bold, multitaper": lambda: from_bold("multitaper"),
    "bold, autoregressive": lambda: from_bold("autoregressive"),
    "scipy": from_scipy,
    "two-sided": from_two_sided,
    "mne fourier": lambda: from_mne(csd_array_fourier, fmin=2, fmax=95),
    "mne multitaper": lambda: from_mne(csd_array_multitaper, fmin=2, fmax=95, bandwidth=4.0),
    "mne morlet": lambda: from_mne(csd_array_morlet, frequencies=[10.0, 20.0]),
}


@pytest.mark.parametrize("door", DOORS)
def test_delayed_pair_has_one_phase_and_one_scale_through_every_door(door):
    data = DOORS[door]()
    near = int(np.abs(data.frequencies - 10).argmin())
    expected = 2 * np.pi * data.frequencies[near] * DELAY
    assert data.phase[0, near, 0, 1] == pytest.approx(expected, abs=0.03)
    assert data.phase[0, near, 1, 0] == pytest.approx(-expected, abs=0.03)
    # One-sided density of white noise of unit variance, by 1e-6 for electrodes.
    power = data.spectra[0, :, 0, 0].real.mean() * (1e12 if data.kind == "eeg" else 1)
    assert power == pytest.approx(2 / RATE, rel=0.06)
    assert data.coherence[0, near, 0, 1] > 0.98


@pytest.mark.parametrize("method", ["multitaper", "autoregressive"])
def test_powers_integrate_to_the_variance(method):
    rng = np.random.default_rng(0)
    x = np.zeros((1, 4000, 1))
    for t in range(1, 4000):
        x[0, t] = 0.7 * x[0, t - 1] + rng.normal()
    grid = np.linspace(0.05, 50, 1000)
    if method == "multitaper":
        estimate = multitaper_spectra(x, 100.0, grid, (0, 50), 0.5)
        assert estimate.degrees_of_freedom == 19
    else:
        estimate = autoregressive_spectra(x, 100.0, grid, 8)
        assert estimate.degrees_of_freedom == 250 and estimate.bandwidth == 6.25
    assert np.trapezoid(estimate.spectra[:, 0, 0].real, grid) == pytest.approx(x.var(), rel=0.02)


def test_autoregressive_estimate_is_that_of_spm():
    reference = np.load("tests/data/spm_spectra.npz")
    for n in (3, 4):
        signal, hz = reference[f"signal_{n}"], reference[f"frequencies_{n}"]
        bold = BoldData(signal, 2.0, unit="arbitrary")
        data = SpectralData.from_bold(bold, "autoregressive")
        np.testing.assert_allclose(data.frequencies, hz, rtol=1e-12)
        # SPM scales the data beforehand.
        centred = signal - signal.mean(0)
        scale = 1 / (4 * np.std(centred, ddof=1))
        expected = reference[f"spectra_{n}"]
        error = np.abs(data.spectra[0] * scale**2 - expected).max() / np.abs(expected).max()
        assert error < 1e-11
        assert data.order == 8 and data.series is bold


def test_multitaper_varies_as_its_degrees_of_freedom_say():
    x = np.random.default_rng(1).normal(size=(200, 300, 1))
    powers = []
    for run in x:
        estimate = multitaper_spectra(run[None], 0.5, None, (1 / 128, 0.125))
        powers.append(estimate.spectra[:, 0, 0].real)
    powers = np.array(powers)
    assert estimate.degrees_of_freedom == 3
    np.testing.assert_allclose(powers.mean(0).mean() / (2 / 0.5), 1, rtol=0.03)
    relative = powers.var(0) / powers.mean(0) ** 2
    assert relative.mean() == pytest.approx(1 / 3, rel=0.15)
    # Frequencies a bandwidth apart are independent.
    neighbours = [np.corrcoef(powers[:, k], powers[:, k + 1])[0, 1] for k in range(16)]
    assert abs(np.mean(neighbours)) < 0.05


def test_drifts_confounds_and_slice_timing_are_taken_out():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(300, 2)), np.arange(300)[:, None]
    confound = rng.normal(size=(300, 1))
    clean = SpectralData.from_bold(BoldData(x, 2.0, unit="arbitrary"))
    dirty = x + 1e3 + 0.2 * t + 40 * confound + 30 * np.cos(np.pi * (t + 0.5) * 3 / 300)
    confounds = np.hstack([np.ones((300, 1)), t, confound])
    given = BoldData(dirty, 2.0, confounds=confounds, unit="arbitrary")
    cleaned = SpectralData.from_bold(given)
    assert np.abs(cleaned.spectra / clean.spectra - 1).mean() < 0.1
    late = given.replace(slice_delays=[0.0, 1.0])
    turned = SpectralData.from_bold(late).phase - cleaned.phase
    expected = 2 * np.pi * cleaned.frequencies * 1.0
    np.testing.assert_allclose(np.exp(1j * turned[0, :, 0, 1]), np.exp(1j * expected), atol=1e-10)


def test_conditions_windows_and_bad_parts_of_recordings():
    pair = delayed_pair(12)
    events = np.column_stack([np.arange(12), np.zeros(12, int), [1, 2, 2] * 4])
    epochs = epochs_of(pair, events=events, event_id={"rest": 1, "task": 2})
    data = SpectralData.from_epochs(epochs, conditions=["task", "rest"], tmin=0.5)
    assert data.conditions == ("task", "rest") and data.effect_names == ("rest",)
    assert data.degrees_of_freedom.tolist() == [24, 12]
    induced = SpectralData.from_epochs({"task": epochs["task"]}, subtract_evoked=True)
    assert induced.degrees_of_freedom.tolist() == [21]
    raw = raw_of(pair)
    raw.set_annotations(mne.Annotations([3.0], [0.5], ["bad jump"]))
    assert SpectralData.from_raw(raw).degrees_of_freedom.tolist() == [33]
    assert SpectralData.from_raw({"open": raw, "shut": raw}).conditions == ("open", "shut")
    raw.info["bads"] = ["first"]
    assert SpectralData.from_raw(raw).names == ("second",)


def make(**changes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3, 9)) + 1j * rng.normal(size=(2, 5, 3, 9))
    fields = {
        "spectra": np.einsum("cfik,cfjk->cfij", x, x.conj()),
        "frequencies": np.arange(1.0, 6.0),
        "names": ["A1", "STG", "IFG"],
        "conditions": ["rest", "task"],
        "degrees_of_freedom": [9, 9],
    }
    return SpectralData(**(fields | changes))


def test_a_connectome_goes_with_its_regions():
    names = ["V1", "V5", "SPC"]
    weights = np.array([[0, 1.0, 2.0], [3.0, 0, 4.0], [5.0, 6.0, 0]])
    connectome = Connectome(weights, region_names=names)
    data = SpectralData(np.eye(3)[None], [10.0], names, connectome=connectome)
    picked = data.pick(["SPC", "V1"]).connectome
    assert picked.region_names == ("SPC", "V1")
    assert picked.weights.tolist() == [[0.0, 5.0], [2.0, 0.0]]
    assert data.reordered(names[::-1]).connectome.region_names == ("SPC", "V5", "V1")
    assert data.pick("V5").names == ("V5",) and data.pick("V5").connectome is None
    sensors = SpectralData(np.eye(3)[None], [10.0], ["C3", "Cz", "C4"], connectome=connectome)
    assert sensors.pick(["Cz"]).connectome == connectome


def test_fields_are_checked_selected_and_kept_in_files():
    data = make()
    assert data.unit == "V" and data.bandwidth == 1 and data.design.tolist() == [[0], [1]]
    assert not data.spectra.flags.writeable
    np.testing.assert_array_equal(data.independent_degrees_of_freedom, np.full((2, 5), 9.0))
    assert make(bandwidth=2.0).independent_degrees_of_freedom[0, 0] == 4.5
    clusters = make(frequencies=[10.0, 10.5, 20.0, 20.5, 30.0], bandwidth=2.0)
    shares = clusters.independent_degrees_of_freedom[0] / 9
    np.testing.assert_allclose(shares, [0.25, 0.625, 0.625, 0.625, 1.0])
    other = data.reordered(["IFG", "A1", "STG"], ["task", "rest"]).crop(2, 4)
    np.testing.assert_array_equal(other.spectra[0, 0, 0, 1], data.spectra[1, 1, 2, 0])
    assert other.design.tolist() == [[1], [0]] and other.n_frequencies == 3
    assert "9 degrees of freedom" in repr(data) and "A1, STG, IFG" in data._repr_html_()
    writer = PlainWriter()
    again = from_plain(writer.plain(data), writer.arrays)
    np.testing.assert_array_equal(again.spectra, data.spectra)
    assert repr(again) == repr(data)
    bold = BoldData(np.random.default_rng(0).normal(size=(80, 2)), 2.0, unit="percent")
    picked = SpectralData.from_bold(bold).pick(["region 2"])
    assert picked.series.n_regions == 1 and picked.names == ("region 2",)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"frequencies": np.arange(5.0)}, r"frequencies start at 0 Hz; expected .* above 0"),
        ({"frequencies": np.arange(5.0, 0, -1)}, r"frequencies must increase, but 4 comes after 5"),
        ({"frequencies": [1.0, 2.0]}, r"spectra has 5 frequencies, .* but frequencies has 2"),
        ({"spectra": np.ones((5, 3))}, r"spectra has shape \(5, 3\); expected a complex array"),
        ({"spectra": np.full((2, 5, 3, 3), np.nan)}, r"90 entries that are NaN or infinite"),
        ({"spectra": np.full((2, 5, 3, 3), "a")}, r"spectra must hold numbers"),
        (
            {"spectra": np.triu(make().spectra)},
            r"not Hermitian: entry .*Only one half is filled: use SpectralData.from_csd",
        ),
        ({"spectra": make().spectra * -1}, r"has the power -.* in channel 0 at 1 Hz"),
        (
            {"spectra": np.tile(np.ones((3, 3)) * 2 - np.eye(3), (2, 5, 1, 1))},
            r"no cross-spectra at 1 Hz .* has the eigenvalue -1",
        ),
        ({"names": ["A1", "A1", "IFG"]}, r"names repeats \['A1'\]"),
        ({"conditions": ["rest"]}, r"conditions has 1 name\(s\)"),
        ({"degrees_of_freedom": [1, 2, 3]}, r"degrees_of_freedom has shape \(3,\); expected one"),
        ({"degrees_of_freedom": 0.2}, r"degrees_of_freedom is 0.2 at its smallest"),
        ({"kind": "nirs"}, r"kind must be one of 'bold', 'eeg', 'meg', 'lfp', got 'nirs'"),
        ({"unit": "uV"}, r"unit is 'uV'; expected that of the series, for kind 'lfp'"),
        ({"bandwidth": -1.0}, r"bandwidth must be a finite number of Hz above 0"),
        ({"series": 3}, r"series must be BoldData"),
    ],
)
def test_faults_are_named(changes, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make(**changes)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: SpectralData.from_bold(3), r"bold must be BoldData"),
        (
            lambda: SpectralData.from_bold(BoldData(np.eye(40, 2), 2.0, unit="percent"), "welch"),
            r"method must be 'multitaper' or 'autoregressive', got 'welch'",
        ),
        (
            lambda: SpectralData.from_bold(
                BoldData(np.eye(40, 2), 2.0, unit="percent"), "autoregressive", order=20
            ),
            r"order is 20, but segments of 40 samples of 2 channels",
        ),
        (
            lambda: SpectralData.from_bold(
                BoldData(np.eye(40, 2), 2.0, unit="percent"), frequencies=[0.3]
            ),
            r"frequencies run from 0.3 to 0.3 Hz, but series at 0.5 Hz have those above 0, up to",
        ),
        (
            lambda: SpectralData.from_epochs(epochs_of(delayed_pair()), bandwidth=0.5),
            r"bandwidth is 0.5 Hz, but segments of 2 s",
        ),
        (lambda: SpectralData.from_epochs(raw_of(delayed_pair())), r"Use SpectralData.from_raw"),
        (
            lambda: SpectralData.from_raw(raw_of(delayed_pair(1)), 9.0),
            r"window is 9 s, but the recording",
        ),
        (lambda: SpectralData.from_csd(np.eye(2)), r"from_arrays"),
        (
            lambda: SpectralData.from_csd(
                csd_array_fourier(delayed_pair(), RATE, fmin=5, fmax=9, verbose=False).mean()
            ),
            r"means or sums over frequencies",
        ),
        (
            lambda: SpectralData.from_arrays(np.ones((1, 1, 1)), [1.0], unit="uV^2", sided=1),
            r"unit is 'uV\^2'; expected that of the series \(not its square\)",
        ),
        (
            lambda: SpectralData.from_arrays(np.ones((1, 1, 1)), [1.0], unit="uV", sided=0),
            r"sided must be 1 or 2, got 0",
        ),
    ],
)
def test_doors_name_faults(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()


NOISE = np.random.default_rng(0).normal(size=(200, 3))


@pytest.mark.parametrize("method", ["multitaper", "autoregressive"])
@pytest.mark.parametrize("last", [NOISE[:, 0], NOISE[:, 0] - NOISE[:, 1]])
def test_signals_that_follow_from_others_are_named(method, last):
    signal = np.column_stack([NOISE[:, :2], last])
    regions = "'a', 'c'" if last is NOISE[:, 0] else "'c'"
    data = BoldData(signal, 2.0, region_names=["a", "b", "c"], unit="percent")
    with pytest.raises(ValueError, match=f"combinations of each other, .* {regions}, so that"):
        SpectralData.from_bold(data, method)
    assert SpectralData.from_bold(data.replace(signal=NOISE), method).n_channels == 3


def test_channels_without_an_autoregressive_model_are_numbered():
    with pytest.raises(ValueError, match=r"series \[0, 2\], numbered from 0, are linear"):
        autoregressive_spectra(NOISE[None][:, :, [0, 1, 0]], 2.0, np.ones(1))


def test_runs_too_short_for_two_frequencies():
    with pytest.raises(ValueError, match="bold has 20 scans of 2 s, .* leave 1 frequency from"):
        SpectralData.from_bold(BoldData(NOISE[:20], 2.0, unit="percent"))


def test_units_are_converted_at_the_door():
    options = {"unit": "uV", "sided": 2}
    data = SpectralData.from_arrays(np.ones((1, 1, 1)), [1.0], **options)
    assert data.spectra.item() == pytest.approx(2e-12) and (data.kind, data.unit) == ("lfp", "V")
    field = SpectralData.from_arrays(np.ones((1, 1, 1)), [1.0], unit="fT", sided=1)
    assert field.spectra.item() == pytest.approx(1e-30) and field.kind == "meg"
