"""Regions of interest and designs that SPM saved."""

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bayesdcm
from bayesdcm.data.spm_voi import read_spm_voi

N, T, TR = 20, 16, 2.0


def cell(*values):
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


def condition(name, u):
    early = np.zeros((32, u.shape[1]))
    return {
        "name": cell(*name),
        "u": scipy.sparse.csc_matrix(np.vstack([early, u])),
        "dt": TR / T,
        "ons": np.arange(3.0),
    }


def records(*entries):
    return np.array(entries, dtype=object)


@pytest.fixture
def folder(tmp_path):
    """Two regions and a design of two sessions; the second condition has a modulator."""
    rng = np.random.default_rng(0)
    faces = (rng.random((N * T, 1)) > 0.5).astype(float)
    houses = rng.random((N * T, 2)).round(2)
    for i, name in enumerate(("V1", "V5")):
        about = {"name": name, "X0": np.c_[np.ones(N), np.arange(N)], "Sess": 1.0}
        scipy.io.savemat(
            tmp_path / f"VOI_{name}_1.mat", {"Y": rng.normal(size=(N, 1)) + i, "xY": about}
        )
    first = {"U": records(condition(["face"], faces), condition(["house", "housexage"], houses))}
    second = {"U": condition(["face"], faces)}
    spm = {"xY": {"RT": TR}, "nscan": np.array([[N, N]]), "Sess": records(first, second)}
    scipy.io.savemat(tmp_path / "SPM.mat", {"SPM": spm})
    return tmp_path, np.c_[faces, houses]


def test_regions_with_their_design(folder):
    path, inputs = folder
    data = bayesdcm.read_spm_voi([path / "VOI_V5_1.mat", path / "VOI_V1_1.mat"], path / "SPM.mat")
    assert data.region_names == ("V5", "V1") and data.unit == "arbitrary"
    assert data.input_names == ("face", "house", "housexage")
    assert (data.repetition_time, data.input_dt, data.n_scans) == (TR, TR / T, N)
    # SPM's inputs begin 32 bins before the first scan.
    np.testing.assert_array_equal(data.inputs, inputs)
    np.testing.assert_array_equal(data.confounds, np.c_[np.ones(N), np.arange(N)])
    stored = scipy.io.loadmat(path / "VOI_V5_1.mat")["Y"].ravel()
    np.testing.assert_array_equal(data.signal[:, 0], stored)


def test_conditions_are_chosen_by_name(folder):
    path, inputs = folder
    data = read_spm_voi(path / "VOI_V1_1.mat", path / "SPM.mat", input_names=["house", "face"])
    assert data.region_names == ("V1",) and data.input_names == ("house", "face")
    np.testing.assert_array_equal(data.inputs, inputs[:, [1, 0]])
    alone = read_spm_voi(path / "VOI_V1_1.mat", repetition_time=1.5)
    assert alone.inputs is None and alone.repetition_time == 1.5


def test_structures_that_matlab_keeps_field_by_field(folder):
    """As files of version 7.3 come: an array of structures is a structure of cells."""
    from bayesdcm.data.spm_voi import _inputs

    _, inputs = folder
    u = [np.vstack([np.zeros((32, 1)), inputs[:, i : i + 1]]) for i in range(2)]
    conditions = {"name": ["face", "house"], "u": u, "dt": [TR / T, TR / T]}
    found = _inputs({"xY": {"RT": TR}, "nscan": N, "Sess": {"U": conditions}}, 1, N, None)
    assert found["input_names"] == ["face", "house"]
    np.testing.assert_array_equal(found["inputs"], inputs[:, :2])


@pytest.mark.parametrize(
    ("change", "design", "keywords", "error", "message"),
    [
        (None, None, {}, ValueError, "repetition_time is missing"),
        (None, None, {"input_names": ["a"]}, ValueError, "input_names came without design"),
        (None, "SPM.mat", {"input_names": ["a"]}, ValueError, "has 'a'; its conditions are 'face'"),
        (None, "SPM.mat", {"repetition_time": 3.0}, ValueError, "that of the design is 2 s"),
        (
            None,
            "VOI_V1_1.mat",
            {},
            ValueError,
            "no .SPM.. Give the SPM.mat of .*read_spm_voi reads",
        ),
        (None, "absent.mat", {}, FileNotFoundError, "there is no file"),
        ({"Sess": 2.0}, "SPM.mat", {}, ValueError, "the session of .* is 2, that of .* 1"),
        ({"X0": np.ones((N, 1))}, "SPM.mat", {}, ValueError, "the confounds .* are not those of"),
        ({"name": "V1"}, "SPM.mat", {}, ValueError, "region_names repeats"),
    ],
)
def test_files_that_do_not_fit_are_refused(folder, change, design, keywords, error, message):
    path, _ = folder
    files = [path / "VOI_V1_1.mat", path / "VOI_V5_1.mat"]
    if change is not None:
        about = {"name": "V5", "X0": np.c_[np.ones(N), np.arange(N)], "Sess": 1.0} | change
        scipy.io.savemat(files[1], {"Y": np.random.default_rng(1).normal(size=N), "xY": about})
    with pytest.raises(error, match=message):
        read_spm_voi(files, None if design is None else path / design, **keywords)


def test_other_files_are_named(folder):
    path, _ = folder
    with pytest.raises(ValueError, match="no 'Y'. Give a VOI_.* reads this one"):
        read_spm_voi(path / "SPM.mat", path / "SPM.mat")
    with pytest.raises(ValueError, match="but no 'DCM'.*read_spm_voi reads this one"):
        bayesdcm.read_spm_dcm(path / "VOI_V1_1.mat")
    with pytest.raises(ValueError, match="paths is empty"):
        read_spm_voi([])


VALUES = st.sampled_from(
    [None, "", "x", 0.0, -1.0, 3.0, np.nan, np.zeros((0, 0)), np.ones(3), np.ones((N, 2)),
     np.full((N, 1), np.inf), {"a": 1.0}, cell("a", 1.0), cell(), records({"a": 1.0}, {"a": 2.0})]
)  # fmt: skip


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["Y", "name", "X0", "Sess", "xY", "RT", "nscan", "session", "U", "u", "dt"]),
    VALUES,
)
def test_malformed_files_give_a_clear_error_or_data(folder, field, value):
    path, inputs = folder
    value = np.zeros((0, 0)) if value is None else value
    about = {"name": "V1", "X0": np.ones((N, 1)), "Sess": 1.0}
    region = {"Y": np.random.default_rng(1).normal(size=(N, 1)), "xY": about}
    of_condition = condition(["face"], inputs[:, :1])
    session = {"U": of_condition}
    spm = {"xY": {"RT": TR}, "nscan": N, "Sess": session}
    place = {
        "Y": region, "xY": region, "name": about, "X0": about, "Sess": about, "RT": spm["xY"],
        "nscan": spm, "session": spm, "U": session, "u": of_condition, "dt": of_condition,
    }[field]  # fmt: skip
    place["Sess" if field == "session" else field] = value
    scipy.io.savemat(path / "VOI_x.mat", region)
    scipy.io.savemat(path / "SPM_x.mat", {"SPM": spm})
    try:
        data = read_spm_voi(path / "VOI_x.mat", path / "SPM_x.mat")
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 30
    else:
        assert data.n_scans == N
