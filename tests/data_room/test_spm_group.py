"""Group files of SPM: people by models, structures or names of files, both formats."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bayesdcm


def matrix(*rows):
    cells = np.empty((len(rows), len(rows[0])), dtype=object)
    for index in np.ndindex(cells.shape):
        cells[index] = rows[index[0]][index[1]]
    return cells


@pytest.mark.parametrize(("people", "models"), [(2, 3), (3, 1), (1, 2), (1, 1), (2, 2)])
def test_people_and_models_stay_apart(dcm_structure, save_dcm, people, models):
    rows = [
        [
            dcm_structure(n=2, m=1, seed=10 * i + j) | {"F": -float(10 * i + j)}
            for j in range(models)
        ]
        for i in range(people)
    ]
    group = bayesdcm.read_spm_group(save_dcm(matrix(*rows), name="GCM"))
    assert list(group) == [f"subject {i + 1}" for i in range(people)]
    for i, found in enumerate(group.values()):
        assert list(found) == [f"model {j + 1}" for j in range(models)]
        for j, spm in enumerate(found.values()):
            assert spm.estimates.free_energy == -(10 * i + j)
            np.testing.assert_array_equal(spm.data.signal, rows[i][j]["Y"]["y"])


def test_names_of_files(dcm_structure, save_dcm, tmp_path):
    """Found beside the group file, which was put together elsewhere; people are told by name."""
    for name, free_energy in (("DCM_anna", -1.0), ("DCM_bob", -2.0)):
        save_dcm(dcm_structure(n=2, m=1) | {"F": free_energy}).rename(tmp_path / f"{name}.mat")
    rows = [["C:\\study\\DCM_anna.mat"], [str(tmp_path / "DCM_bob.mat")]]
    group = bayesdcm.read_spm_group(save_dcm(matrix(*rows), name="GCM"))
    found = {name: models["model 1"].estimates.free_energy for name, models in group.items()}
    assert found == {"DCM_anna": -1.0, "DCM_bob": -2.0}
    rows[1] = ["DCM_carl.mat"]
    with pytest.raises(ValueError, match=r"GCM\{2,1\}.* names the file 'DCM_carl.mat'.*Put"):
        bayesdcm.read_spm_group(save_dcm(matrix(*rows), name="GCM"))


def test_faults_and_warnings_say_who(dcm_structure, save_dcm):
    rows = [[dcm_structure(n=2, m=1)] for _ in range(5)]
    for row in rows[1:]:
        row[0]["F"] = np.nan
    with pytest.warns(UserWarning) as said:
        group = bayesdcm.read_spm_group(save_dcm(matrix(*rows), name="GCM"))
    assert len(said) == 1  # four people, one warning
    assert "subject 2, model 1; subject 3, model 1; subject 4, model 1 ...; 4 of 5 DCMs" in str(
        said[0].message
    )
    assert group["subject 1"]["model 1"].estimates is not None
    rows[3][0]["c"] = np.zeros((2, 1))
    with pytest.raises(ValueError, match=r"GCM\{4,1\} of .* cannot be used\. Nothing drives"):
        bayesdcm.read_spm_group(save_dcm(matrix(*rows), name="GCM"))


@pytest.mark.parametrize(
    ("part", "names", "text"),
    [
        ("Y", ["R2", "R1"], "regions of 1 of 3 people .*in another order, R2, R1.*reordered"),
        ("Y", ["R1", "V5"], "regions of 1 of 3 people .*with other names, R1, V5"),
        ("U", ["house", "face"], "inputs of 1 of 3 people .*in another order, house, face"),
    ],
)
def test_other_regions_and_inputs_are_said(dcm_structure, save_dcm, part, names, text):
    rows = [[dcm_structure(n=2, m=2)] for _ in range(3)]
    for row in rows:
        row[0]["U"]["name"] = ["face", "house"]
    rows[1][0][part]["name"] = names
    with pytest.warns(UserWarning, match=text) as said:
        bayesdcm.read_spm_group(save_dcm(matrix(*rows), name="GCM"))
    assert len(said) == 1


def test_other_files(dcm_structure, save_dcm, tmp_path):
    with pytest.raises(ValueError, match=r"no 'GCM'.*read_spm_dcm reads this one"):
        bayesdcm.read_spm_group(save_dcm(dcm_structure(n=1, m=1)))
    with pytest.raises(
        ValueError, match=r"no 'DCM'.*read_spm_group \(in the shell.*reads this one"
    ):
        bayesdcm.read_spm_dcm(save_dcm(matrix([dcm_structure(n=1, m=1)]), name="GCM"))
    with pytest.raises(ValueError, match=r"GCM\{1,2\} is ndarray; expected a cell array"):
        bayesdcm.read_spm_group(save_dcm(matrix(["DCM.mat", np.eye(2)]), name="GCM"))
    with pytest.raises(TypeError, match="path must be a string"):
        bayesdcm.read_spm_group(3)


ODD = st.sampled_from(
    ["", "x", 0.0, -1.0, 3.0, np.nan, np.inf, np.zeros((0, 0)), np.ones((3, 1)), np.ones((14, 1)),
     -np.ones((14, 1)), np.eye(14), np.full((14, 14), np.nan), np.ones((2, 2, 2)), {"A": np.eye(2)},
     {}, ["a", 1.0], [np.eye(2)] * 3, np.full((2, 2), -np.inf)]
)  # fmt: skip
FIELDS = ("pE", "pC", "hE", "hC", "gE", "gC", "A", "B", "C", "D", "transit", "decay", "epsilon")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["M", "options"]),
    st.sampled_from([*FIELDS, "Ep", "F", "maxnodes", "version", "averaged", "models", "a", "GCM"]),
    ODD,
    st.booleans(),
)
def test_malformed_priors_and_cells_give_a_clear_error_or_data(
    dcm_structure, save_dcm, place, field, value, structure
):
    dcm = dcm_structure(n=2, m=1)
    shapes = {"A": (2, 2), "B": (2, 2, 1), "C": (2, 1), "D": (2, 2, 0), "transit": (2, 1)}
    fields = {name: np.zeros(shape) for name, shape in shapes.items()}
    fields |= {"decay": 0.0, "epsilon": 0.0}
    dcm["M"] = {"pE": fields, "pC": {name: np.abs(part) for name, part in fields.items()}}
    if field in fields:
        dcm["M"]["pC" if structure else "pE"][field] = value
    elif field in FIELDS:
        dcm[place][field] = value
    elif field == "maxnodes":
        dcm["options"][field] = value
    else:
        dcm[field] = value
    rows = [[dcm if field != "GCM" else value]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            group = bayesdcm.read_spm_group(save_dcm(matrix(*rows), name="GCM"))
        except (ValueError, TypeError) as error:
            assert len(str(error)) > 30
        else:
            priors = group["subject 1"]["model 1"].model.priors.all
            assert all(np.isfinite(p.mean).all() and (p.variance >= 0).all() for p in priors)
