"""SPM's files: both formats, every option, lost dimensions, estimates, and files that are not."""

import warnings

import numpy as np
import pytest

from bayesdcm.data.spm_modality import read_spm_model_file


@pytest.mark.parametrize("sparse", [True, False])
def test_structure_and_data(dcm_structure, save_dcm, sparse):
    dcm = dcm_structure(sparse=sparse)
    file = read_spm_model_file(save_dcm(dcm))
    np.testing.assert_array_equal(file.A, np.ones((3, 3)))
    assert file.B.shape == (2, 3, 3) and file.B[1, 2, 0] == 1 and file.B.sum() == 1
    np.testing.assert_array_equal(file.C, dcm["c"])
    assert file.D is None and file.two_state is False
    data = file.data
    np.testing.assert_array_equal(data.signal, dcm["Y"]["y"])
    u = dcm["U"]["u"]
    np.testing.assert_array_equal(data.inputs, u.toarray() if sparse else u)
    np.testing.assert_array_equal(data.confounds, dcm["Y"]["X0"])
    np.testing.assert_array_equal(data.slice_delays, dcm["delays"][:, 0])
    assert (data.repetition_time, data.input_dt) == (2.0, 0.5)
    assert data.region_names == ("R1", "R2", "R3")
    assert data.input_names == ("input1", "input2")
    assert data.unit == "arbitrary"


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (3, 1), (2, 2)])
@pytest.mark.parametrize("gates", [False, True])
def test_lost_dimensions_come_back(dcm_structure, save_dcm, n, m, gates):
    dcm = dcm_structure(n=n, m=m, gates=n if gates else 0)
    file = read_spm_model_file(save_dcm(dcm))
    assert file.A.shape == (n, n) and file.B.shape == (m, n, n) and file.C.shape == (n, m)
    np.testing.assert_array_equal(file.B, np.moveaxis(dcm["b"], 2, 0))
    if gates:
        np.testing.assert_array_equal(file.D, np.moveaxis(dcm["d"], 2, 0))
    assert file.data.signal.shape == (20, n) and file.data.inputs.shape == (80, m)
    mean = file.estimates.mean
    np.testing.assert_array_equal(mean["B"], np.moveaxis(dcm["Ep"]["B"], 2, 0))
    assert mean["D"].shape == (n, n, n) and mean["transit"].shape == (n,)
    assert mean["decay"].shape == () == mean["epsilon"].shape


def test_estimates_are_relabelled(dcm_structure, estimate_dcm, save_dcm):
    dcm = dcm_structure(n=2, m=2, gates=2, estimated=False)
    dcm["a"][0, 1] = 0
    dcm["b"][1, 1, 0] = 1
    estimate_dcm(dcm)
    estimates = read_spm_model_file(save_dcm(dcm)).estimates
    covariance = estimates.covariance
    # a (column-major: [to, from]), then b, c, d, then the haemodynamics.
    assert list(covariance.index) == list(covariance.columns)
    assert list(covariance.index) == [
        "A[R1, R1]",
        "A[R2, R1]",
        "A[R2, R2]",
        "B[input1, R2, R2]",
        "B[input2, R2, R1]",
        "C[R1, input1]",
        "D[R2, R1, R2]",
        "transit[R1]",
        "transit[R2]",
        "decay",
        "epsilon",
    ]
    # SPM's vector: A 4, B 8 (here 4 + column-major position), C 4, D 8, transit 2, decay, epsilon.
    Cp = dcm["Cp"].toarray()
    assert covariance.loc["A[R2, R1]", "A[R2, R2]"] == Cp[1, 3]
    assert covariance.loc["B[input1, R2, R2]", "C[R1, input1]"] == Cp[4 + 3, 12]
    assert covariance.loc["B[input2, R2, R1]", "decay"] == Cp[4 + 4 + 1, 26]
    assert covariance.loc["D[R2, R1, R2]", "transit[R2]"] == Cp[16 + 4 + 2, 25]
    np.testing.assert_array_equal(covariance, covariance.T)
    assert estimates.free_energy == -123.5
    assert estimates.mean["B"][1, 1, 0] == dcm["Ep"]["B"][1, 0, 1]
    assert estimates.mean["D"][1, 0, 1] == dcm["Ep"]["D"][0, 1, 1]
    assert estimates.mean["epsilon"] == -0.02
    assert repr(estimates) == "SpmEstimates(free energy -123.50 nats, 11 free parameters)"


def test_prior_variances_may_be_a_vector_or_absent(dcm_structure, save_dcm):
    dcm = dcm_structure()
    full = read_spm_model_file(save_dcm(dcm)).estimates.covariance
    dcm["M"]["pC"] = np.diag(dcm["M"]["pC"])[:, None]
    vector = read_spm_model_file(save_dcm(dcm)).estimates.covariance
    del dcm["M"]
    path = save_dcm(dcm)
    with pytest.warns(UserWarning, match=r"no DCM\.M"):
        absent = read_spm_model_file(path).estimates.covariance
    assert full.equals(vector) and full.equals(absent)


@pytest.mark.parametrize("absent", ["Ep", "Cp", "F"])
def test_models_that_were_not_estimated(dcm_structure, save_dcm, absent):
    dcm = dcm_structure()
    dcm[absent] = np.zeros((0, 0))
    assert read_spm_model_file(save_dcm(dcm)).estimates is None
    del dcm[absent]
    assert read_spm_model_file(save_dcm(dcm)).estimates is None


def test_estimates_of_another_layout_are_left_out_with_a_warning(dcm_structure, save_dcm):
    dcm = dcm_structure()
    dcm["Cp"] = np.eye(4)
    path = save_dcm(dcm)
    with pytest.warns(UserWarning, match=r"not in the layout.*DCM\.Cp has shape \(4, 4\)"):
        file = read_spm_model_file(path)
    assert file.estimates is None and file.data.n_regions == 3


def test_options(dcm_structure, save_dcm):
    dcm = dcm_structure(gates=2)
    dcm["options"] |= {"two_state": 1.0, "centre": 1.0, "hE": 6.0, "hC": 1 / 128, "hidden": []}
    file = read_spm_model_file(save_dcm(dcm))
    assert file.two_state is True
    u = dcm["U"]["u"].toarray()
    np.testing.assert_allclose(file.data.inputs, u - u.mean(axis=0), atol=1e-15)
    # Two gating slices for three regions: the third gates nothing.
    assert file.D.shape == (3, 3, 3) and file.D[1, 0, 2] == 1 and file.D.sum() == 1


def test_absent_fields_have_defaults(dcm_structure, save_dcm):
    dcm = dcm_structure(estimated=False)
    for name in ("d", "b", "options", "delays", "n", "v"):
        del dcm[name]
    del dcm["Y"]["name"], dcm["Y"]["X0"], dcm["U"]["name"]
    file = read_spm_model_file(save_dcm(dcm))
    assert file.B is None and file.D is None and file.estimates is None
    assert file.data.region_names[0] == "region 1" and file.data.input_names[1] == "input 2"
    np.testing.assert_array_equal(file.data.confounds, np.ones((20, 1)))
    np.testing.assert_array_equal(file.data.slice_delays, np.ones(3))
    dcm["xY"] = {"name": ["V1", "V5 ", "S"]}
    dcm["Y"]["X0"] = np.zeros((0, 0))
    file = read_spm_model_file(save_dcm(dcm))
    assert file.data.region_names == ("V1", "V5", "S") and file.data.confounds.shape == (20, 1)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (("options", "analysis"), "ERP", r"lacks DCM\.A, DCM\.C"),
        (("options", "analysis"), "IND", r"kind 'IND'"),
        (("options", "stochastic"), 1.0, r"a stochastic DCM"),
        (("options", "backwards"), 1.0, r"separate backward connections"),
        (("options", "hidden"), 2.0, r"hidden regions"),
        (("options", "precision"), 3.0, r"prior on connections"),
        (("a",), np.ones((3, 1)), r"DCM\.a is a vector"),
        (("a",), np.ones((3, 2)), r"DCM\.a has shape \(3, 2\); expected 3 x 3"),
        (("a",), np.zeros((0, 0)), r"lacks DCM\.a"),
        (("a",), [np.ones((3, 3))] * 3, r"DCM\.a is a cell array of 3 .* DCM of another kind"),
        (("b",), np.zeros((3, 3, 5)), r"DCM\.b has shape \(3, 3, 5\); expected 3 x 3 x 2"),
        (("b",), np.full((3, 3, 2), 0.5), r"DCM\.b has entries other than 0 and 1"),
        (("c",), np.zeros((3, 2)), r"Nothing drives the model"),
        (("c",), "text", r"DCM\.c must hold real numbers"),
        (("d",), np.zeros((3, 3, 4)), r"DCM\.d has 4 slices for 3 regions"),
        (("delays",), np.ones((2, 1)), r"DCM\.delays has shape \(2,\); expected 3"),
        (("delays",), 5 * np.ones((3, 1)), r"slice_delays must lie between"),
        (("n",), 4.0, r"DCM\.n gives 4 regions, but DCM\.Y\.y has 3 column"),
        (("n",), np.inf, r"DCM\.n gives inf regions"),
        (("a",), np.full((3, 3), np.nan), r"DCM\.a has entries other than 0 and 1"),
        (("c",), [1.0, [2.0]], r"DCM\.c must hold real numbers"),
        (("Y", "name"), 5.0, r"list of names holds"),
        (("Y",), 3.0, r"lacks DCM\.Y\.y, DCM\.Y\.dt"),
        (("Y", "y"), np.ones((20, 3)), r"signal is constant"),
        (("Y", "y"), np.full((20, 3), np.nan), r"signal has 60 entries that are NaN"),
        (("Y", "dt"), -2.0, r"repetition_time must be"),
        (("Y", "name"), ["V1", "V1", "V5"], r"region_names repeats"),
        (("Y", "name"), [1.0, 2.0, 3.0], r"list of names holds"),
        (("U", "u"), np.zeros((80, 2)), r"Nothing drives the model"),
        (("U", "u"), np.ones((70, 2)), r"inputs are too short by 5 s"),
        (("U", "u"), np.zeros((0, 0)), r"lacks DCM\.U\.u"),
        (("U", "dt"), 0.25, r"inputs are too short"),
    ],
)
def test_files_of_another_kind_or_with_faults(dcm_structure, save_dcm, field, value, text):
    dcm = dcm_structure()
    part = dcm
    for name in field[:-1]:
        part = part[name]
    part[field[-1]] = value
    path = save_dcm(dcm)
    with pytest.raises(ValueError, match=rf"path: '.*DCM_test\.mat' cannot be used\. .*{text}"):
        read_spm_model_file(path)


def test_files_without_a_dcm(dcm_structure, save_dcm):
    with pytest.raises(ValueError, match=r"variables \['GCM'\], but no 'DCM'"):
        read_spm_model_file(save_dcm(dcm_structure(), name="GCM"))
    with pytest.raises(ValueError, match="'DCM' is a list; expected one structure"):
        read_spm_model_file(save_dcm([{"a": 1.0}, {"a": 2.0}]))


@pytest.mark.parametrize(
    ("n", "most", "said"), [(9, None, 8), (9, 16.0, None), (3, 2.0, 2), (8, None, None)]
)
def test_regions_above_maxnodes(dcm_structure, save_dcm, n, most, said):
    """SPM projects the prior of connections then, unless the file raises the limit."""
    dcm = dcm_structure(n=n, m=1, estimated=False)
    if most is not None:
        dcm["options"]["maxnodes"] = most
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_spm_model_file(save_dcm(dcm))
    texts = [str(warning.message) for warning in caught]
    if said is None:
        assert texts == []
    else:
        assert len(texts) == 1 and f"over {said} regions" in texts[0] and f"here {n})" in texts[0]


def test_projected_priors_are_said_and_the_rest_is_kept(dcm_structure, save_dcm):
    dcm = dcm_structure(n=3, m=1)
    dcm["options"]["maxnodes"] = 2.0
    dcm["a"][0, 2] = 0
    dcm["M"]["pC"][:9, :9] += 0.01
    dcm["M"]["pC"][-1, -1] = 0.5
    with pytest.warns(UserWarning, match="over 2 regions") as said:
        file = read_spm_model_file(save_dcm(dcm))
    assert len(said) == 1
    np.testing.assert_array_equal(file.A, dcm["a"])
    assert "A" not in file.priors and file.priors["epsilon"].variance == 0.5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"averaged": 1.0},
            r"it is an average \(DCM\.averaged, DCM\.models\), with the data of one",
        ),
        ({"models": ["DCM_1.mat", "DCM_2.mat"]}, r"average of 2 models"),
        (
            {"Pf": 0.5, "files": ["DCM_1.mat"]},
            r"reduced models \(DCM\.Pf, DCM\.files\), whose F is",
        ),
        ({"F": np.nan}, r"its free energy is nan, so that SPM's fit failed"),
        ({"F": -np.inf}, r"its free energy is -inf"),
    ],
)
def test_estimates_that_are_no_fit_of_one_person_are_left_out(
    dcm_structure, save_dcm, change, text
):
    dcm = dcm_structure() | change
    with pytest.warns(UserWarning, match=f"not those of one person's fit: .*{text}"):
        file = read_spm_model_file(save_dcm(dcm))
    assert file.estimates is None and file.data.n_regions == 3


def test_the_free_energy_is_that_of_the_estimates(dcm_structure, save_dcm):
    """R, Ce, Ep, Cp and the priors say what it is, also where it is not over the likelihood."""
    dcm = dcm_structure(n=2, m=1)
    rng = np.random.default_rng(3)
    variance = np.diag(dcm["M"]["pC"])
    dcm["M"]["pE"] = {name: np.zeros_like(value) for name, value in dcm["Ep"].items() if name < "a"}
    dcm["M"]["pE"] |= {"transit": np.zeros((2, 1)), "decay": 0.0, "epsilon": 0.0}
    dcm["Ep"] = {name: np.asarray(value) for name, value in dcm["M"]["pE"].items()}
    dcm["Cp"] = np.diag(variance)
    noise = np.array([0.5, 2.0])
    dcm["Ce"], dcm["R"] = noise[:, None], rng.normal(size=(20, 2)) * noise**0.5
    # The posterior is the prior: what is left is accuracy, confounds and log-precisions.
    X = dcm["Y"]["X0"]
    expected = -0.5 * (20 * np.log(2 * np.pi * noise) + (dcm["R"] ** 2).sum(0) / noise).sum()
    for each in noise:
        cost = np.linalg.slogdet(np.eye(2) + 1e8 * X.T @ X / each)[1]
        moved = -np.log(each) - 6
        expected -= 0.5 * (cost + np.log1p(10 / 128) + 128 * moved**2)
    found = []
    for stored in (expected, 0.99 * expected, 0.05 * expected):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found.append((read_spm_model_file(save_dcm(dcm | {"F": stored})).estimates, said))
    assert found[0][0] is not None and found[1][0] is not None and not found[0][1]
    estimates, said = found[2]
    assert estimates is None
    assert f"make it about {expected:.0f}. Such files come from a reduction" in str(said[0].message)


def test_one_decay_a_region(dcm_structure, save_dcm):
    """As before SPM12: connections and the other haemodynamics are the file's all the same."""
    dcm = dcm_structure(n=2, m=1)
    dcm["Ep"]["decay"] = np.array([[0.1], [0.2]])
    dcm["M"]["pE"] = dcm["Ep"] | {"A": np.full((2, 2), 0.25)}
    variance = np.diag(dcm["M"]["pC"])
    dcm["M"]["pC"] = np.concatenate([variance[:-1], [1 / 256, 1 / 128]])[:, None]
    with pytest.warns(UserWarning) as said:
        file = read_spm_model_file(save_dcm(dcm))
    texts = [str(warning.message) for warning in said]
    assert len(texts) == 2
    assert "prior has one decay a region" in texts[0]
    assert "DCM.Ep.decay has 2 values, one a region, but the model here has one" in texts[1]
    assert file.estimates is None and "decay" not in file.priors
    np.testing.assert_array_equal(file.priors["A"].mean, 0.25)
    assert file.priors["epsilon"].variance == 1 / 128


def test_damaged_files(dcm_structure, save_dcm, tmp_path):
    whole = save_dcm(dcm_structure()).read_bytes()
    damaged = tmp_path / "damaged.mat"
    rng = np.random.default_rng(0)
    for length in [0, 50, 128, 200, len(whole) // 3, len(whole) // 2]:
        damaged.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"path: .*damaged\.mat' cannot be used"):
            read_spm_model_file(damaged)
    damaged.write_bytes(whole[:128] + rng.bytes(4000))
    with pytest.raises(ValueError, match="damaged or cut off|not a MATLAB file|no 'DCM'"):
        read_spm_model_file(damaged)


def test_other_files_and_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="path: there is no file"):
        read_spm_model_file(tmp_path / "absent.mat")
    with pytest.raises(TypeError, match="path must be a string or path-like, got int"):
        read_spm_model_file(3)
    with pytest.raises(ValueError, match="It is a folder"):
        read_spm_model_file(tmp_path)
    other = tmp_path / "DCM_text.mat"
    other.write_text("onset,duration\n1,2\n" * 100)
    with pytest.raises(ValueError, match="It is not a MATLAB file"):
        read_spm_model_file(str(other))


def test_estimates_without_a_model_are_said(dcm_structure, save_dcm):
    dcm = dcm_structure()
    del dcm["M"]
    path = save_dcm(dcm)
    with pytest.warns(UserWarning, match=r"no DCM\.M.*difference to the full model"):
        assert read_spm_model_file(path).estimates.free_energy == -123.5


def test_a_prior_that_is_never_restricted(dcm_structure, save_dcm):
    dcm = dcm_structure(n=9, m=1, estimated=False)
    dcm["options"]["maxnodes"] = np.inf
    path = save_dcm(dcm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_spm_model_file(path).A.shape == (9, 9)
