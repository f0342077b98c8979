"""read_spm_dcm: the file's model, with SPM's integrator, beside its data and estimates."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

from bayesdcm.models.spm import read_spm_dcm


def test_model_data_and_estimates(dcm_structure, save_dcm):
    dcm = dcm_structure(n=3, m=2)
    dcm["options"]["two_state"] = 1.0
    result = read_spm_dcm(save_dcm(dcm))
    assert result.model.integrator == "bilinear" and result.model.two_state is True
    np.testing.assert_array_equal(result.model.A, dcm["a"])
    np.testing.assert_array_equal(result.model.B, np.moveaxis(dcm["b"], 2, 0))
    np.testing.assert_array_equal(result.model.C, dcm["c"])
    assert result.data.region_names == ("R1", "R2", "R3")
    assert result.estimates.free_energy == -123.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.model = None


def test_nonlinear_model_that_was_not_estimated(dcm_structure, save_dcm):
    dcm = dcm_structure(n=3, m=1, gates=3, estimated=False)
    path = save_dcm(dcm)
    with pytest.warns(UserWarning, match="spm_int_D"):
        result = read_spm_dcm(path)
    np.testing.assert_array_equal(result.model.D, np.moveaxis(dcm["d"], 2, 0))
    assert result.estimates is None


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2)])
def test_estimates_go_into_predict(dcm_structure, save_dcm, n, m):
    result = read_spm_dcm(save_dcm(dcm_structure(n=n, m=m)))
    # Traced only: compiling takes seconds and would tell nothing more about the reader.
    prediction = jax.eval_shape(
        lambda p: result.model.predict(p, result.data), result.estimates.mean
    )
    assert prediction.shape == (20, n)


def test_errors_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_spm_dcm(tmp_path / "absent.mat")
    (tmp_path / "DCM.mat").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a MATLAB file"):
        read_spm_dcm(tmp_path / "DCM.mat")


def own_priors(rng, dcm, m):
    """Priors of a person of their own: means of what is off, fixed values, other variances."""
    n, gates = len(dcm["a"]), dcm["d"].shape[2]
    shapes = {"A": (n, n), "B": (n, n, m), "C": (n, m), "D": (n, n, gates), "transit": (n, 1)}
    shapes |= {"decay": (1, 1), "epsilon": (1, 1)}
    mean = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    variance = {name: rng.random(shape) for name, shape in shapes.items()}
    for name, switches in zip("BCD", ("b", "c", "d"), strict=True):
        variance[name] = variance[name] * dcm[switches]
    variance["transit"][0] = 0.0
    return mean, variance


@pytest.mark.parametrize("place", ["M", "options"])
@pytest.mark.parametrize("form", ["matrix", "vector", "structure", "another order"])
@pytest.mark.parametrize("gates", [0, 2])
def test_priors_of_the_file(dcm_structure, save_dcm, place, form, gates):
    """DCM.M or DCM.options: the model has them in every entry."""
    rng = np.random.default_rng(1)
    dcm = dcm_structure(n=3, m=2, gates=gates, estimated=False)
    mean, variance = own_priors(rng, dcm, 2)
    path = save_dcm(dcm)
    if form == "another order" and b"MATLAB 7.3" not in path.read_bytes()[:10]:
        mean = dict(reversed(mean.items()))
    vector = np.concatenate([variance[name].ravel(order="F") for name in mean])
    given = {"vector": vector[:, None], "structure": variance}.get(form, np.diag(vector))
    dcm[place] = dcm.get(place, {}) | {"pE": mean, "pC": given}
    dcm[place] |= {"hE": 5.0, "hC": np.diag([0.1, 0.2, 0.0])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*spm_int_D")
        model = read_spm_dcm(save_dcm(dcm)).model
    table = {prior.name: prior for prior in model.priors.all}
    for which, fields in (("mean", mean), ("variance", variance)):
        for name, values in fields.items():
            if name in "BD":
                padded = np.zeros((3, 3, 3 if name == "D" else 2))
                padded[:, :, : values.shape[2]] = values
                values = np.moveaxis(padded, 2, 0)
            if name == "D" and not gates:
                assert "D" not in table
                continue
            got = np.asarray(getattr(table[name], which))
            np.testing.assert_array_equal(got, values.reshape(got.shape))
    np.testing.assert_array_equal(model.priors.noise.mean, [5.0, 5.0, 5.0])
    np.testing.assert_array_equal(model.priors.noise.variance, [0.1, 0.2, 0.0])


def test_priors_that_are_the_model_s_own_are_not_given(dcm_structure, save_dcm):
    """Models of such files are equal to those without priors, and share compiled programs."""
    dcm = dcm_structure(n=2, m=1, estimated=False)
    own = read_spm_dcm(save_dcm(dcm)).model
    mean = {"A": np.full((2, 2), 1 / 128), "B": np.zeros((2, 2, 1)), "C": np.zeros((2, 1))}
    mean |= {"D": np.zeros((2, 2, 0)), "transit": np.zeros((2, 1)), "decay": 0.0, "epsilon": 0.0}
    free = [np.full(4, 1 / 64), dcm["b"].ravel(order="F"), dcm["c"].ravel(), np.full(4, 1 / 256)]
    dcm["M"] = {"pE": mean, "pC": np.diag(np.concatenate(free)), "hE": 6.0, "hC": np.eye(2) / 128}
    same = read_spm_dcm(save_dcm(dcm)).model
    assert same == own and not same.priors.given
    dcm["M"]["hE"] = 8.0
    other = read_spm_dcm(save_dcm(dcm)).model
    assert other != own and [given.name for given in other.priors.given] == ["log_precision"]


def test_summary_has_the_labels_of_fits(dcm_structure, save_dcm):
    dcm = dcm_structure(n=2, m=2, gates=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*spm_int_D")
        spm = read_spm_dcm(save_dcm(dcm))
    table = spm.summary()
    assert list(table.index) == list(np.concatenate([*spm.model.labels(spm.data).values()])[:-2])
    covariance = spm.estimates.covariance
    np.testing.assert_allclose(table["sd"] ** 2, np.diag(covariance.loc[table.index, table.index]))
    assert table.loc["B[input2, R2, R1]", "mean"] == dcm["Ep"]["B"][1, 0, 1]
    assert table.loc["D[R2, R1, R2]", "mean"] == dcm["Ep"]["D"][0, 1, 1]
    assert table.loc["epsilon", "mean"] == -0.02
    with pytest.raises(ValueError, match="the file holds no estimates"):
        dataclasses.replace(spm, estimates=None).summary()


def test_structure_follows_the_prior(dcm_structure, save_dcm):
    """SPM12 has self-connections whatever the diagonal of DCM.a; the rest is said."""
    dcm = dcm_structure(n=2, m=1, estimated=False)
    np.fill_diagonal(dcm["a"], 0)
    dcm["M"] = {"pC": np.concatenate([np.full(4, 1 / 64), dcm["b"].ravel(order="F")])}
    dcm["M"]["pC"] = np.concatenate([dcm["M"]["pC"], dcm["c"].ravel(), np.full(4, 1 / 256)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = read_spm_dcm(save_dcm(dcm)).model
    np.testing.assert_array_equal(model.A, np.ones((2, 2)))
    dcm["M"]["pC"][2] = 0
    with pytest.warns(UserWarning, match=r"differ in 1 .*A\[R1, R2\], which is fixed by pC"):
        model = read_spm_dcm(save_dcm(dcm)).model
    np.testing.assert_array_equal(model.A, [[1, 0], [1, 1]])


@pytest.mark.parametrize(("version", "on"), [(None, 1), ("SPM12", 1), ("SPM25", 0), ("SPM8", 1)])
def test_self_connections_that_are_off_in_a_file_without_priors(
    dcm_structure, save_dcm, version, on
):
    dcm = dcm_structure(n=2, m=1, estimated=False)
    dcm["a"][0, 0] = 0
    if version is not None:
        dcm["version"] = {"SPM": {"version": version}}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = read_spm_dcm(save_dcm(dcm)).model
    np.testing.assert_array_equal(model.A, [[on, 1], [1, 1]])
    assert len(said) == on and all("self-connection in 1 region" in str(w.message) for w in said)


def test_priors_of_versions_before_spm12_are_said(dcm_structure, save_dcm):
    dcm = dcm_structure(n=2, m=1, estimated=False)
    own = read_spm_dcm(save_dcm(dcm)).model
    dcm["M"] = {"pE": np.zeros((20, 1)), "pC": np.eye(20)}
    with pytest.warns(UserWarning, match=r"DCM\.M\.pE is no structure, .* before SPM12"):
        assert read_spm_dcm(save_dcm(dcm)).model == own


def test_covariances_are_said_and_variances_kept(dcm_structure, save_dcm):
    dcm = dcm_structure(n=2, m=1)
    variance = np.diag(dcm["M"]["pC"]).copy()
    dcm["M"]["pC"][0, 2] = dcm["M"]["pC"][2, 0] = 0.1
    with pytest.warns(UserWarning, match=r"1 pair\(s\).* first of A\[R1, R1\] and A\[R1, R2\]"):
        model = read_spm_dcm(save_dcm(dcm)).model
    np.testing.assert_array_equal(model.priors[0].variance, variance[:4].reshape(2, 2, order="F"))


@pytest.mark.parametrize(
    ("place", "name", "value", "text"),
    [
        ("M", "pC", np.eye(4), r"DCM\.M\.pC has shape \(4, 4\); expected 14 x 14"),
        ("M", "pC", -np.ones(14), r"DCM\.M\.pC has 14 entries .* at least 0"),
        ("M", "pC", np.full(14, np.nan), r"DCM\.M\.pC has 14 entries"),
        ("M", "hE", np.ones(5), r"DCM\.M\.hE has shape \(5,\); expected 2"),
        ("M", "hE", np.inf, r"DCM\.M\.hE has 2 entries"),
        ("options", "hC", -1.0, r"DCM\.options\.hC has 2 entries"),
        ("options", "hC", "wide", r"DCM\.options\.hC must hold real numbers"),
        ("options", "pE", {"A": np.eye(2)}, r"DCM\.options\.pE\.C, .*\.epsilon is missing"),
        ("options", "pC", 2 * np.ones(14), r"DCM\.M\.pC and DCM\.options\.pC are not the same"),
    ],
)
def test_priors_that_cannot_be(dcm_structure, save_dcm, place, name, value, text):
    dcm = dcm_structure(n=2, m=1)
    dcm[place][name] = value
    with pytest.raises(ValueError, match=f"cannot be used.*{text}"):
        read_spm_dcm(save_dcm(dcm))
