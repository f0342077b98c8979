"""SPM's files for cross-spectra: both formats, lost dimensions, estimates, priors, faults."""

import numpy as np
import pytest

import bayesdcm
from bayesdcm import CrossSpectralDCM, SpectralDCM

CELLS = ("A", "B", "N")


def structure_of(values, order):
    """A parameter structure as MATLAB has it: cells of A and B."""
    fields = {}
    for symbol in order:
        if symbol[0] == "A" and symbol[1:].isdigit():
            fields.setdefault("A", []).append(np.atleast_2d(values[symbol]))
        else:
            fields[symbol] = np.atleast_2d(values[symbol])
    return fields


def cross_spectral_dcm(name):
    """A DCM of cross-spectra as SPM stores it once it is estimated."""
    reference = np.load("tests/data/spm_cross_spectra.npz")
    head = f"inversion/{name}"
    order = [str(symbol) for symbol in reference[f"{head}/order"]]
    mean = structure_of({s: reference[f"{head}/Ep/{s}"] for s in order}, order)
    # Effects come before inputs in SPM's order.
    mean = {"B": [], **mean}
    layout = ["T", "G", "S", "A", "B", "C", "H", "D", "R", "Lpos", "L", "J", *"abcdf"]
    if name.startswith("cmc"):
        layout = ["M", "A", "B", "N", "C", "T", "G", "D", "S", "R", "Lpos", "L", "J", *"abcdf"]
        mean["N"] = []
    mean = {symbol: mean[symbol] for symbol in layout}
    spectra = reference[f"{head}/csd_scaled"]
    n = len(np.atleast_2d(reference[f"{head}/A1"]))
    return {
        "A": [np.atleast_2d(reference[f"{head}/A{i}"]) * (1 - np.eye(n)) for i in (1, 2, 3)],
        "B": [],
        "C": np.zeros((n, 0)),
        "Sname": [f"S{i + 1}" for i in range(n)],
        "xU": {"X": np.zeros((0, 0))},
        "xY": {
            "modality": "LFP",
            "y": [spectra],
            "Hz": reference[f"{head}/frequencies"][None],
            "name": [f"Ch{i + 1}" for i in range(n)],
        },
        "options": {"analysis": "CSD", "model": name[:3].upper(), "spatial": "LFP", "Nmodes": 8.0},
        "M": {"U": np.eye(n), "hE": 8.0, "hC": 1 / 128},
        "Ep": mean,
        "Cp": np.diag(reference[f"{head}/sd"] ** 2),
        "F": float(reference[f"{head}/F"]),
    }


@pytest.mark.parametrize("name", ["erp_2src", "cmc_1src"])
def test_cross_spectra_of_channels(save_dcm, name):
    dcm = cross_spectral_dcm(name)
    spm = bayesdcm.read_spm_dcm(save_dcm(dcm))
    assert isinstance(spm.model, CrossSpectralDCM) and spm.model.likelihood == "spm"
    assert spm.model.neural == name[:3] and spm.data.kind == "lfp"
    n = len(dcm["Sname"])
    expected = np.asarray(dcm["xY"]["y"][0]).reshape(45, n, n)
    np.testing.assert_allclose(spm.data.spectra[0], expected, rtol=0, atol=1e-12)
    assert spm.model.observer.scale(spm.data) == pytest.approx(1, rel=1e-10)
    assert spm.estimates.free_energy == dcm["F"] and "free parameters" in repr(spm.estimates)
    means = spm.parameters
    np.testing.assert_array_equal(means["fluctuation"], dcm["Ep"]["a"])
    np.testing.assert_array_equal(means["A"][0], dcm["Ep"]["A"][0])
    summary = spm.summary()
    sd = np.sqrt(np.diag(dcm["Cp"]))
    # The last two of SPM's vector.
    np.testing.assert_allclose(summary.loc["filter[level]", "sd"], sd[-2])
    np.testing.assert_allclose(summary.loc["filter[slope]", "mean"], dcm["Ep"]["f"].ravel()[-1])


def spectral_dcm():
    reference = np.load("tests/data/spm_spectra.npz")
    signal = reference["signal_3"]
    rng, n = np.random.default_rng(0), 3
    mean = {
        "A": rng.normal(size=(n, n)), "B": np.zeros((n, n, 0)), "C": np.zeros((n, 1)),
        "D": np.zeros((n, n, 0)), "transit": rng.normal(size=(n, 1)), "decay": 0.1,
        "epsilon": 0.2, "a": rng.normal(size=(2, 1)), "b": rng.normal(size=(2, 1)),
        "c": rng.normal(size=(1, n)),
    }  # fmt: skip
    size = n * n + n + n + 2 + 4 + n
    return {
        "a": np.ones((n, n)),
        "b": np.zeros((n, n, 0)),
        "c": np.zeros((n, 0)),
        "Y": {
            "y": signal,
            "dt": 2.0,
            "name": ["V1", "V5", "SPC"],
            "csd": reference["spectra_3"],
            "Hz": reference["frequencies_3"][None],
        },
        "options": {"induced": 1.0, "order": 8.0},
        "M": {"pE": {**mean, "A": np.full((n, n), 1 / 128)}, "hE": 8.0, "hC": 1 / 128},
        "Ep": mean,
        "Cp": np.diag(np.arange(1.0, size + 1)),
        "F": -12.0,
    }


def test_rest_of_regions(save_dcm):
    dcm = spectral_dcm()
    for symbol in ("transit", "decay", "epsilon", "a", "b", "c"):
        dcm["M"]["pE"][symbol] = np.zeros(np.shape(dcm["M"]["pE"][symbol]))
    spm = bayesdcm.read_spm_dcm(save_dcm(dcm))
    assert isinstance(spm.model, SpectralDCM) and spm.model.likelihood == "spm"
    assert spm.data.names == ("V1", "V5", "SPC") and spm.data.order == 8
    np.testing.assert_allclose(spm.data.spectra[0], dcm["Y"]["csd"], rtol=0, atol=1e-15)
    assert spm.data.degrees_of_freedom.tolist() == [32.0]
    assert spm.model.observer.scale(spm.data) == 1.0
    np.testing.assert_array_equal(spm.parameters["A"], dcm["Ep"]["A"])
    np.testing.assert_array_equal(spm.parameters["regional_noise"], dcm["Ep"]["c"][0])
    summary = spm.summary()
    # Column by column: A[V1, V5] is the fourth entry; a comes after A, C, transit, decay, epsilon.
    assert summary.loc["A[V1, V5]", "sd"] == pytest.approx(2.0)
    assert summary.loc["fluctuation[exponent]", "sd"] == pytest.approx(np.sqrt(19.0))
    # Without cross-spectra, they are made of the signals.
    del dcm["Y"]["csd"]
    again = bayesdcm.read_spm_dcm(save_dcm(dcm)).data
    scale = 1 / (4 * np.std(dcm["Y"]["y"] - dcm["Y"]["y"].mean(0), ddof=1)) ** 2
    np.testing.assert_allclose(again.spectra * scale, spm.data.spectra, rtol=0, atol=1e-11)


def test_priors_of_files_count(save_dcm):
    dcm = cross_spectral_dcm("erp_2src")
    prior = {k: np.zeros(np.shape(v)) for k, v in dcm["Ep"].items() if k not in CELLS}
    dcm["M"]["pC"] = prior | {"A": [np.zeros((2, 2))] * 3, "B": []}
    dcm["M"]["pC"]["T"] = np.full((2, 2), 0.25)
    dcm["M"]["pE"] = dcm["Ep"]
    model = bayesdcm.read_spm_dcm(save_dcm(dcm)).model
    by_name = {each.name: each for each in model.priors}
    assert (by_name["time_constant"].variance == 0.25).all()
    assert not by_name["A"].free.any() and not by_name["fluctuation"].free.any()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda dcm: dcm["options"].update(model="NMM"), r"DCM.options.model is 'NMM'"),
        (lambda dcm: dcm["xY"].pop("Hz"), r"lacks DCM.xY.y or DCM.xY.Hz"),
        (lambda dcm: dcm["xY"].update(Hz=np.arange(1.0, 9.0)), r"DCM.xY.y\{1\} has shape"),
        (lambda dcm: dcm["options"].update(spatial="ECD"), r"Its DCM lacks DCM.Lpos"),
    ],
)
def test_faults_are_named(save_dcm, change, text):
    dcm = cross_spectral_dcm("erp_2src")
    change(dcm)
    with pytest.raises(ValueError, match=text):
        bayesdcm.read_spm_dcm(save_dcm(dcm))
