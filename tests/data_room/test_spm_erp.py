"""SPM's files for evoked responses: both formats, lost dimensions, estimates, faults."""

import warnings

import numpy as np
import pytest
import scipy.sparse

import bayesdcm
from bayesdcm.data.spm import SpmFile
from bayesdcm.data.spm_container import keeps_order
from bayesdcm.data.spm_erp import SpmErpFile
from bayesdcm.data.spm_erp_layout import entries, neural_fields, spatial_fields
from bayesdcm.data.spm_modality import read_spm_model_file
from bayesdcm.neural import nmda

SCALE = 0.75
STATES = {"erp": 9, "cmc": 8, "lfp": 13, "nmda": 12}
CELLS = ("A", "B", "N")


def matlab_fields(rng, shapes):
    """A parameter structure as MATLAB has it: cells, and rows for vectors."""
    fields = {}
    for symbol, shape in shapes.items():
        full = tuple(4 if length is None else length for length in shape)
        values = rng.normal(size=full)
        if symbol in CELLS:
            fields[symbol] = list(values)
        else:
            fields[symbol] = values if len(full) == 2 else np.atleast_2d(values)
    return fields


def vector(fields):
    """SPM's parameter vector: cell by cell, column by column."""
    leaves = []
    for value in fields.values():
        leaves += value if isinstance(value, list) else [value]
    return np.concatenate([np.ravel(leaf, order="F") for leaf in leaves])


def make_erp(
    n=3, n_inputs=1, n_effects=1, n_conditions=2, *, neural="erp", observation="ecd", estimated=True
):
    """A DCM for evoked responses as SPM stores it."""
    rng = np.random.default_rng(0)
    n_times, n_channels = 26, 5
    X0 = np.full((n_times, 1), n_times**-0.5)
    R = np.eye(n_times) - X0 @ X0.T
    modes = rng.normal(size=(n_channels, 3))
    y = np.stack([R @ rng.normal(size=(n_times, n_channels)) for _ in range(n_conditions)])
    if estimated:
        y = y / (y @ modes).std(ddof=1)
    A = [(rng.random((n, n)) < 0.5).astype(float) * (1 - np.eye(n)) for _ in range(3)]
    C = np.zeros((n, n_inputs))
    C[0] = 1
    dcm = {
        "A": A,
        "B": [np.eye(n) for _ in range(n_effects)],
        "C": C,
        "Sname": [f"S{i + 1}" for i in range(n)],
        "Lpos": rng.integers(-60, 60, size=(3, n)).astype(float),
        "xU": {
            "X": rng.normal(size=(n_conditions, n_effects)),
            "name": [f"effect {i + 1}" for i in range(n_effects)],
        },
        "xY": {
            "modality": "EEG",
            "name": [f"E{i + 1}" for i in range(n_channels)],
            "y": list(y),
            "pst": np.arange(n_times)[None] * 10.0,
            "dt": 0.01,
            "X0": X0,
            "R": R,
            "code": [f"c{i + 1}" for i in range(n_conditions)],
        },
        "options": {
            "analysis": "ERP",
            "model": neural.upper(),
            "spatial": observation.upper(),
            "onset": np.full((1, n_inputs), 64.0),
            "dur": 16.0,
            "Nmodes": 3.0,
            "h": 1.0,
            "han": 0.0,
            "location": 1.0,
            "lock": 0.0,
        },
    }
    if estimated:
        add_estimates(dcm, rng, neural, observation, (n, n_inputs, n_effects), modes)
    return dcm


def as_variances(dcm, fields):
    """Squares, and none where the structure has no connection."""
    kinds = [0, 0, 1, 1] if "M" in fields else [0, 1, 2]
    masks = {"A": [dcm["A"][kind] for kind in kinds], "B": dcm["B"], "N": dcm["B"], "C": dcm["C"]}
    masks["M"] = dcm["A"][2]
    for symbol, values in fields.items():
        mask = masks.get(symbol, 1.0)
        if isinstance(values, list):
            fields[symbol] = [m * v**2 for m, v in zip(mask, values, strict=True)]
        else:
            fields[symbol] = mask * values**2
    return fields


def add_estimates(dcm, rng, neural, observation, sizes, modes):
    shapes = neural_fields(neural, sizes[0], sizes[1], sizes[2])
    spatial = spatial_fields(observation, sizes[0])
    dcm["xY"]["scale"] = SCALE
    dcm["M"] = {"U": scipy.sparse.csc_array(modes), "hE": 6.0, "hC": 1 / 128}
    dcm["M"] |= {"dipfit": {"type": "ECD", "Nmax": 8.0}}
    for name, form in (("p", shapes), ("g", spatial)):
        dcm["M"][f"{name}E"] = matlab_fields(rng, form)
        dcm["M"][f"{name}C"] = as_variances(dcm, matlab_fields(rng, form))
        dcm[f"E{name}"] = matlab_fields(rng, form)
        size = vector(dcm[f"E{name}"]).size
        root = rng.normal(size=(size, size)) / size
        dcm[f"C{name}"] = scipy.sparse.csc_array(root @ root.T)
    if observation == "ecd":
        dcm["M"]["gC"]["Lpos"] = np.full((3, sizes[0]), 4.0)
        dcm["M"]["gE"]["Lpos"] = dcm["Lpos"]
    n_times = len(dcm["xY"]["R"])
    conditions = len(dcm["xY"]["y"])
    columns = {"H": 3, "R": 3, "x": STATES[neural] * sizes[0]}
    for name, width in columns.items():
        dcm[name] = [rng.normal(size=(n_times, width)) for _ in range(conditions)]
    dcm["Ce"] = np.eye(n_times)
    dcm["F"] = -321.5


def test_structure_settings_and_data(save_dcm):
    dcm = make_erp()
    file = read_spm_model_file(save_dcm(dcm))
    for name, matrix in zip(("forward", "backward", "lateral"), dcm["A"], strict=True):
        np.testing.assert_array_equal(getattr(file, name), matrix)
    np.testing.assert_array_equal(file.modulation, np.eye(3)[None])
    np.testing.assert_array_equal(file.inputs, dcm["C"])
    np.testing.assert_array_equal(file.positions, dcm["Lpos"].T)
    assert (file.neural, file.observation) == ("erp", "ecd") and file.position_variance == 4.0
    assert file.source_names == ("S1", "S2", "S3")
    np.testing.assert_allclose([*file.onset, *file.duration], [0.064, 0.016])
    assert (file.n_modes, file.n_confounds, file.hanning, file.scale) == (3, 1, False, SCALE)
    np.testing.assert_array_equal(file.modes, dcm["M"]["U"].toarray())
    np.testing.assert_array_equal(file.confounds, dcm["xY"]["X0"])
    np.testing.assert_array_equal(file.residual_forming, dcm["xY"]["R"])
    data = file.data
    np.testing.assert_array_equal(data.signal, SCALE * np.stack(dcm["xY"]["y"]))
    np.testing.assert_allclose(data.times, np.arange(26) / 100)
    np.testing.assert_array_equal(data.design, dcm["xU"]["X"])
    assert data.channel_names == ("E1", "E2", "E3", "E4", "E5")
    assert set(data.channel_types) == {"eeg"} and data.condition_names == ("c1", "c2")
    assert data.effect_names == ("effect 1",)
    keywords = file.keywords
    assert keywords["neural"] == "erp" and keywords["hanning"] is False
    assert keywords["modes"] is file.modes and keywords["position_variance"] == 4.0


@pytest.mark.parametrize("neural", sorted(STATES))
@pytest.mark.parametrize(
    ("n", "n_inputs", "n_effects"), [(1, 1, 1), (1, 2, 2), (3, 1, 2), (2, 2, 1)]
)
def test_estimates_of_every_model(save_dcm, neural, n, n_inputs, n_effects):
    observation = {"erp": "ecd", "cmc": "img"}.get(neural, "lfp")
    dcm = make_erp(n, n_inputs, n_effects, neural=neural, observation=observation)
    file = read_spm_model_file(save_dcm(dcm))
    assert file.forward.shape == (n, n) and file.inputs.shape == (n, n_inputs)
    assert file.modulation.shape == (n_effects, n, n) and file.onset.shape == (n_inputs,)
    estimates = file.estimates
    expected = vector(dcm["Ep"])
    got = [estimates.mean[symbol][index] for symbol, index in estimates.parameters]
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(estimates.covariance, dcm["Cp"].toarray())
    spatial = estimates.spatial_mean
    got = [spatial[symbol][index] for symbol, index in estimates.spatial_parameters]
    np.testing.assert_array_equal(got, vector(dcm["Eg"]))
    assert spatial["Lpos"].shape == (3, n if observation == "ecd" else 0)
    assert estimates.mean["A"].shape == (4 if neural == "cmc" else 3, n, n)
    np.testing.assert_array_equal(estimates.prior_mean["C"], dcm["M"]["pE"]["C"])
    np.testing.assert_array_equal(estimates.prior_variance["B"], np.stack(dcm["M"]["pC"]["B"]))
    np.testing.assert_array_equal(estimates.spatial_prior_mean["J"], dcm["M"]["gE"]["J"][0])
    np.testing.assert_array_equal(estimates.response, np.stack(dcm["H"]))
    assert estimates.states.shape == (2, 26, STATES[neural] * n)
    assert estimates.free_energy == -321.5
    assert repr(estimates).startswith("SpmErpEstimates(free energy -321.50 nats")


def test_fields_in_another_order(save_dcm):
    dcm = make_erp()
    dcm["Ep"] = dict(reversed(dcm["Ep"].items()))
    path = save_dcm(dcm)
    parameters = read_spm_model_file(path).estimates.parameters
    # MATLAB's order where the file keeps it, and SPM's where it cannot.
    first = "T" if path.read_bytes().startswith(b"MATLAB 7.3") else "R"
    assert parameters[0] == (first, (0, 0))


def test_order_of_the_parameter_vector():
    fields = {"A": np.zeros((2, 2, 2)), "C": np.zeros((2, 1))}
    assert entries(fields) == (
        ("A", (0, 0, 0)),
        ("A", (0, 1, 0)),
        ("A", (0, 0, 1)),
        ("A", (0, 1, 1)),
        ("A", (1, 0, 0)),
        ("A", (1, 1, 0)),
        ("A", (1, 0, 1)),
        ("A", (1, 1, 1)),
        ("C", (0, 0)),
        ("C", (1, 0)),
    )


def test_models_that_were_not_estimated(save_dcm):
    dcm = make_erp(n_conditions=1, n_effects=0, estimated=False)
    file = read_spm_model_file(save_dcm(dcm))
    assert file.estimates is None and file.modes is None and file.scale is None
    assert file.data.design.shape == (1, 0) and file.modulation.shape == (0, 3, 3)
    assert file.position_variance == 1.0
    np.testing.assert_array_equal(file.data.signal[0], dcm["xY"]["y"][0])


def test_absent_fields_have_defaults(save_dcm):
    dcm = make_erp(observation="lfp", estimated=False)
    for name in ("Sname", "Lpos"):
        del dcm[name]
    for name in ("onset", "dur", "Nmodes", "h", "han", "location"):
        del dcm["options"][name]
    for name in ("pst", "R", "code"):
        del dcm["xY"][name]
    dcm["xY"]["modality"] = "LFP"
    del dcm["xU"]["name"]
    file = read_spm_model_file(save_dcm(dcm))
    assert file.source_names == ("source 1", "source 2", "source 3") and file.positions is None
    np.testing.assert_allclose([*file.onset, *file.duration], [0.06, 0.032])
    assert (file.n_modes, file.n_confounds, file.position_variance) == (8, 1, 0.0)
    assert file.residual_forming is None and set(file.data.channel_types) == {"lfp"}
    np.testing.assert_allclose(file.data.times, np.arange(26) / 100)
    assert file.data.condition_names[0] == "condition 1"
    assert file.data.effect_names == ("effect 1",)


def test_windowed_data_are_not_windowed_again(save_dcm):
    dcm = make_erp(estimated=False)
    dcm["options"]["han"] = 1.0
    file = read_spm_model_file(save_dcm(dcm))
    assert file.hanning is True and file.keywords["hanning"] is False
    del dcm["xY"]["R"]
    assert read_spm_model_file(save_dcm(dcm)).keywords["hanning"] is True


def test_data_that_were_kept_undivided(save_dcm):
    dcm = make_erp()
    dcm["xY"]["y"] = [2.0 * y for y in dcm["xY"]["y"]]
    np.testing.assert_array_equal(
        read_spm_model_file(save_dcm(dcm)).data.signal, np.stack(dcm["xY"]["y"])
    )


def test_estimates_of_another_layout_are_left_out_with_a_warning(save_dcm):
    for change in ({"Cp": np.eye(4)}, {"Ep": {"A": 1.0}}):
        path = save_dcm(make_erp() | change)
        with pytest.warns(UserWarning, match="not in the layout of SPM12"):
            file = read_spm_model_file(path)
        assert file.estimates is None and file.data.n_channels == 5


def own_priors(save_dcm, neural, n=4):
    """A file with priors of its own, in the form in which SPM has them."""
    dcm = make_erp(n=n, neural=neural, observation="lfp")
    spread = dcm["M"].pop("pC"), dcm["M"].pop("gC")
    dcm["M"]["gE"]["J"] = np.zeros((1, STATES[neural]))
    dcm["M"]["pE"] |= {s: getattr(nmda, s) for s in ("SA", "GE", "GI") if s in dcm["M"]["pE"]}
    own = bayesdcm.read_spm_dcm(save_dcm(dcm)).model.priors
    dcm["M"] |= {"pC": spread[0], "gC": spread[1]}
    for prior in own:
        if "to" in prior.dims:  # nothing varies between sources that are not connected
            old = dcm["M"]["pC"][prior.symbol]
            new = np.where(prior.free, np.reshape(old, prior.mean.shape), 0.0)
            dcm["M"]["pC"][prior.symbol] = list(new) if isinstance(old, list) else new
    rng, M = np.random.default_rng(2), dcm["M"]
    M["gE"]["J"] = rng.normal(size=(1, STATES[neural]))
    M["gC"]["J"] = np.eye(1, STATES[neural])
    for symbol in ("SA", "GE", "GI"):
        if symbol in M["pE"]:
            M["pC"][symbol] = np.zeros((3, 3))
    M |= {"hE": 8.0, "hC": 0.25}
    return dcm


@pytest.mark.parametrize("neural", sorted(STATES))
@pytest.mark.parametrize("form", ["structure", "matrix"])
def test_priors_of_the_file(save_dcm, neural, form):
    """Every entry of pE, pC, gE, gC, hE and hC is the model's."""
    dcm = own_priors(save_dcm, neural)
    M = dcm["M"]
    expected = {"mean": M["pE"] | M["gE"], "variance": M["pC"] | M["gC"]}
    if form == "matrix":
        for name in ("pC", "gC"):
            M[name] = scipy.sparse.csc_array(np.diag(vector(M[name])))
    path = save_dcm(dcm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if form == "matrix" and not keeps_order(path):
            # Fields of HDF5 have no order; SPM's is taken, in which these are.
            assert list(M["pE"]) == list(neural_fields(neural, 1, 1, 1))
        model = bayesdcm.read_spm_dcm(path).model
    for prior in model.priors:
        for which, fields in expected.items():
            stored = np.asarray(fields[prior.symbol])
            np.testing.assert_array_equal(getattr(prior, which), stored.reshape(prior.mean.shape))
    symbols = {prior.symbol for prior in model.priors} | {"SA", "GE", "GI", "Lpos"}
    assert symbols >= set(expected["mean"])
    assert (model.priors.noise.mean, model.priors.noise.variance) == (8.0, 0.25)


def test_priors_that_the_model_cannot_have(save_dcm):
    dcm = own_priors(save_dcm, "nmda")
    dcm["M"]["pE"]["SA"] = np.eye(3)
    with pytest.raises(ValueError, match="prior of SA is not SPM's constant"):
        bayesdcm.read_spm_dcm(save_dcm(dcm))
    dcm = own_priors(save_dcm, "erp")
    off = np.argwhere((dcm["A"][0] + np.eye(4)) == 0)[0]
    dcm["M"]["pC"]["A"][0][tuple(off)] = 0.5
    with pytest.warns(UserWarning, match="let 1 entries of forward vary"):
        model = bayesdcm.read_spm_dcm(save_dcm(dcm)).model
    assert model.forward[tuple(off)] == 1
    dcm = own_priors(save_dcm, "erp")
    dcm["M"]["gE"]["J"] = np.ones((1, 3))
    with pytest.raises(ValueError, match=r"gE\.J and gC\.J have the shapes"):
        bayesdcm.read_spm_dcm(save_dcm(dcm))
    dcm["M"]["gC"]["J"] = np.ones((1, 3))
    with pytest.warns(UserWarning, match="prior of contribution has other entries"):
        bayesdcm.read_spm_dcm(save_dcm(dcm))
    dcm = own_priors(save_dcm, "erp")
    dcm["M"]["pC"] = np.diag(vector(dcm["M"]["pC"]))
    dcm["M"]["pC"][0, 1] = dcm["M"]["pC"][1, 0] = 0.1
    text = r"pC has prior covariances of 1 pair.*T\[0, 0\] and T\[1, 0\]"
    with pytest.warns(UserWarning, match=text):
        bayesdcm.read_spm_dcm(save_dcm(dcm))


def test_estimates_beside_a_fit(save_dcm):
    """SPM's estimates under the labels of fits: means and standard deviations."""
    dcm = own_priors(save_dcm, "erp")
    spm = bayesdcm.read_spm_dcm(save_dcm(dcm))
    table = spm.summary()
    names = [*spm.model.labels(spm.data).values()]
    assert set(table.index) <= {label for labels in names for label in labels}
    sd = np.sqrt(dcm["Cp"].toarray().diagonal())
    T = dcm["Ep"]["T"]  # the first field: [source, synapse], column by column
    for source, synapse, place in ((0, 0, 0), (3, 0, 3), (1, 1, 5)):
        row = table.loc[f"time_constant[S{source + 1}, {('excitatory', 'inhibitory')[synapse]}]"]
        assert row["mean"] == T[source, synapse]
        assert row["sd"] == pytest.approx(sd[place])


def test_settings_that_differ_are_said(save_dcm):
    dcm = make_erp()
    dcm["options"]["lock"] = 1.0
    with pytest.warns(UserWarning, match=r"coupled effects of trials \(DCM\.options\.lock\)"):
        read_spm_model_file(save_dcm(dcm))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (("options", "analysis"), "IND", r"kind 'IND'.*expected a DCM for evoked responses"),
        (("options", "analysis"), "IND", r"kind 'IND'"),
        (("options", "model"), "MFM", r"DCM\.options\.model is 'MFM'; expected one of ERP, CMC"),
        (("options", "model"), {"source": "ERP"}, r"DCM\.options\.model is dict"),
        (("options", "spatial"), "ITR", r"DCM\.options\.spatial is 'ITR'"),
        (("options", "onset"), np.ones((1, 3)), r"DCM\.options\.onset has shape \(3,\)"),
        (("A",), [np.eye(3), np.eye(3)], r"DCM\.A has 2 matrices"),
        (("A",), [np.eye(3), np.eye(3), np.eye(2)], r"DCM\.A\{3\} has shape \(2, 2\)"),
        (("A",), [np.full((3, 3), np.nan)] * 3, r"DCM\.A\{1\} has entries that are not finite"),
        (("A",), np.zeros((0, 0)), r"lacks DCM\.A"),
        (("B",), [np.eye(3)] * 2, r"DCM\.B has 2 matrices, but DCM\.xU\.X has 1 column"),
        (("B",), [np.ones((2, 2))], r"DCM\.B\{1\} has shape \(2, 2\)"),
        (("C",), np.zeros((2, 1)), r"DCM\.C has shape \(2,\)"),
        (("C",), np.zeros((3, 2, 2)), r"DCM\.C has shape \(3, 2, 2\).*multiC"),
        (("Lpos",), np.zeros((3, 2)), r"DCM\.Lpos has shape \(3, 2\); expected 3 x 3"),
        (("Lpos",), np.zeros((0, 0)), r"lacks DCM\.Lpos"),
        (("Sname",), ["a", "b"], r"DCM\.Sname has 2 name"),
        (("xY",), 3.0, r"lacks DCM\.xY\.y"),
        (("xY", "y"), [np.ones((26, 5))] * 2, r"signal is constant"),
        (("xY", "y"), [np.eye(26), np.eye(25)], r"DCM\.xY\.y\{2\} has shape"),
        (("xY", "name"), ["E1"] * 5, r"channel_names repeats"),
        (("xY", "pst"), np.ones((1, 26)), r"times must increase"),
        (("xY", "pst"), np.ones((1, 25)), r"DCM\.xY\.pst has shape \(25,\)"),
        (("xY", "R"), np.eye(3), r"DCM\.xY\.R has shape \(3, 3\)"),
        (("xU", "X"), np.zeros((2, 1)), r"design has 1 columns of rank 0"),
        (("xU", "X"), np.zeros((3, 1)), r"DCM\.xU\.X has shape \(3,\)"),
    ],
)
def test_files_of_another_kind_or_with_faults(save_dcm, field, value, text):
    dcm = make_erp(estimated=False)
    part = dcm
    for name in field[:-1]:
        part = part[name]
    part[field[-1]] = value
    path = save_dcm(dcm)
    with pytest.raises(ValueError, match=rf"path: '.*DCM_test\.mat' cannot be used\. .*{text}"):
        read_spm_model_file(path)


def test_one_reader_takes_both_kinds(dcm_structure, save_dcm):
    assert isinstance(read_spm_model_file(save_dcm(dcm_structure())), SpmFile)
    assert isinstance(read_spm_model_file(save_dcm(make_erp())), SpmErpFile)


def test_damaged_files_and_paths(save_dcm, tmp_path):
    whole = save_dcm(make_erp()).read_bytes()
    damaged = tmp_path / "damaged.mat"
    for length in (0, 100, len(whole) // 2):
        damaged.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"path: .*damaged\.mat' cannot be used"):
            read_spm_model_file(damaged)
    with pytest.raises(FileNotFoundError, match="path: there is no file"):
        read_spm_model_file(tmp_path / "absent.mat")
    with pytest.raises(TypeError, match="path must be a string"):
        read_spm_model_file(3)
