"""Files of hnn-core: drives read from them and written to them."""

import json
from pathlib import Path

import numpy as np
import pytest

from bayesdcm import Drive, read_hnn, write_hnn
from bayesdcm.data.drive import CELLS
from bayesdcm.data.hnn_network import describe_network, network_with_drives

FLAT = {
    "tstop": 170,
    "t_evprox_1": 20,
    "sigma_t_evprox_1": 3.0,
    "numspikes_evprox_1": 2,
    "prng_seedcore_evprox_1": 4,
    "gbar_evprox_1_L2Pyr_ampa": 0.004,
    "gbar_evprox_1_L5Basket_nmda": 0.001,
    "t_evdist_1": 63.5,
    "sigma_t_evdist_1": 4,
    "gbar_evdist_1_L5Pyr": 0.1,
    "sync_evinput": 1,
}


def column(**changes):
    """A column of one cell of each kind, as hnn-core describes it, with a drive and a current."""
    places = {cell: {"start": i, "stop": i + 1} for i, cell in enumerate(CELLS)}
    local = {"src_type": "L2_pyramidal", "nc_dict": {"lamtha": 3.0}}
    old = {"src_type": "old", "nc_dict": {"lamtha": 3.0}}
    drive = {
        "type": "evoked",
        "location": "distal",
        "n_drive_cells": 1,
        "event_seed": 9,
        "dynamics": {"mu": 60.0, "sigma": 4.0, "numspikes": 1},
        "weights_ampa": {"L2_pyramidal": 0.004},
        "weights_nmda": None,
        "synaptic_delays": 0.1,
        "probability": 1.0,
        "cell_specific": False,
    }
    return {
        "object_type": "Network",
        "legacy_mode": False,
        "cell_types": dict.fromkeys(CELLS, {}),
        "gid_ranges": places | {"old": {"start": 4, "stop": 5}},
        "pos_dict": dict.fromkeys(CELLS, [[0, 0, 0]]) | {"origin": [1, 1, 1], "old": [[1, 1, 1]]},
        "external_drives": {"old": drive | changes},
        "external_biases": {},
        "connectivity": [local, old],
        "threshold": 0.0,
    }


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_flat_parameters_are_read(tmp_path):
    distal, proximal = read_hnn(write(tmp_path / "a.json", FLAT))
    assert (proximal.name, proximal.location, proximal.time, proximal.spread) == (
        "evprox1",
        "proximal",
        20.0,
        3.0,
    )
    np.testing.assert_allclose(proximal.centre("weights_ampa"), [0, 0.004, 0, 0])
    np.testing.assert_allclose(proximal.centre("weights_nmda"), [0, 0, 0.001, 0])
    np.testing.assert_allclose(proximal.centre("delays"), [0.1, 0.1, 1.0, 1.0])
    assert (proximal.n_events, proximal.event_seed, proximal.shared) == (2, 4 + 271, True)
    # One weight for both kinds of synapses, as the oldest files have it.
    for kind in ("weights_ampa", "weights_nmda"):
        np.testing.assert_allclose(distal.centre(kind), [0, 0, 0, 0.1])
    lines = "\n".join(f"{key}: {value}" for key, value in FLAT.items())
    assert read_hnn(write(tmp_path / "a.param", lines)) == [distal, proximal]
    specific = read_hnn(write(tmp_path / "b.json", FLAT | {"sync_evinput": False}))
    assert [drive.event_seed for drive in specific] == [270, 4 + 270 + 235]
    assert not any(drive.shared for drive in specific)


def test_what_is_no_evoked_drive_is_named(tmp_path):
    others = {
        "input_prox_A_weight_L2Pyr_ampa": 0.01,
        "t0_input_prox": 50.0,
        "L5Pyr_Pois_A_weight_ampa": 0.01,
        "T_pois": 170.0,
        "L2Pyr_Gauss_A_weight": 0.01,
        "L2Basket_Gauss_mu": 50.0,
        "Itonic_A_L2Basket": 1.0,
        "inc_evinput": 2.0,
        "t_evprox_2": 100.0,
    }
    file = write(tmp_path / "a.json", FLAT | others)
    with pytest.warns(UserWarning, match="holds what is not read") as said:
        assert len(read_hnn(file)) == 2
    for part in (
        "evprox2: an evoked drive without weights",
        "a rhythmic proximal drive",
        "a Poisson drive to L5_pyramidal",
        "a Gaussian drive to L2_pyramidal",
        "tonic currents to L2_basket",
        "2.0 ms later each trial",
    ):
        assert part in str(said[0].message)
    # Seeds count the cells of rhythmic drives, too.
    with pytest.warns(UserWarning):
        assert read_hnn(file)[0].event_seed == 280


@pytest.mark.parametrize(
    ("changes", "part", "kept"),
    [
        ({"type": "poisson"}, "old: a poisson drive", 0),
        ({"location": "soma"}, "old: an evoked drive to the soma", 0),
        ({"probability": 0.5}, "old reaches cells by chance", 1),
        ({"weights_ampa": {"L2_pyramidal": 0.0}}, "old: an evoked drive without weights", 0),
    ],
)
def test_other_drives_of_hierarchical_files_are_named(tmp_path, changes, part, kept):
    file = write(tmp_path / "a.json", column(**changes) | {"external_biases": {"tonic": {}}})
    with pytest.warns(UserWarning, match=f"{part}.*tonic: a tonic current"):
        assert len(read_hnn(file)) == kept


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"object_type": "Dipole"}, "holds a Dipole of hnn-core"),
        ({"a": 1}, "no file of hnn-core"),
        ("[1]", "holds a list"),
        ("some words", "no file of hnn-core"),
        (FLAT | {"t_evprox_1": 0.02}, "a.json: time of drive 'evprox1' is 0.02 ms.*in s"),
        (FLAT | {"t_evprox_1": "soon"}, "a.json: time of drive 'evprox1' must be a number"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_hnn(write(tmp_path / "a.json", content))


def test_drives_are_written_into_a_network(tmp_path):
    template = write(tmp_path / "column.json", column())
    old = read_hnn(template)
    assert old == [
        Drive("old", "distal", 60.0, 4.0, {"L2_pyramidal": 0.004}, delays=0.1, event_seed=9)
    ]
    drives = [
        Drive("a", "proximal", 20.0, 3.0, {"L2_basket": 0.1}, {"L5_basket": 0.2}, n_cells=2),
        Drive("b", "distal", 50.0, 3.0, dict.fromkeys(CELLS[:2], 0.1), cell_specific=True),
    ]
    write_hnn(drives, tmp_path / "new.json", template)
    content = json.loads((tmp_path / "new.json").read_text())
    assert content["gid_ranges"]["a"] == {"start": 4, "stop": 6}
    assert content["gid_ranges"]["b"] == {"start": 6, "stop": 8}
    assert [each["src_type"] for each in content["connectivity"]] == [
        *("L2_pyramidal", "a", "a", "b", "b")
    ]
    assert content["connectivity"][1]["gid_pairs"] == {"4": [0], "5": [0]}
    assert content["connectivity"][4]["gid_pairs"] == {"7": [1]}
    assert content["pos_dict"]["b"] == [[1, 1, 1]] * 2
    # Seeds differ, else drives would have the same deviations.
    assert read_hnn(tmp_path / "new.json") == [
        drives[0].replace(event_seed=6),
        drives[1].replace(event_seed=8),
    ]
    write_hnn(old, tmp_path / "same.json", template)
    assert read_hnn(tmp_path / "same.json") == old


def test_priors_are_written_as_their_centres_and_fits_as_their_drives(tmp_path):
    template = write(tmp_path / "column.json", column())
    (old,) = read_hnn(template)

    class Fit:
        def drives(self, draw=None):
            return [old.at(time=60.0 if draw is None else 60.0 + draw)]

    write_hnn(old.free(time=5.0, weights_ampa=0.5), tmp_path / "new.json", template)
    assert read_hnn(tmp_path / "new.json") == [old]
    write_hnn(Fit(), tmp_path / "new.json", template, draw=3)
    assert read_hnn(tmp_path / "new.json")[0].time == 63.0
    with pytest.raises(ValueError, match="draw is for fits"):
        write_hnn([old], tmp_path / "new.json", template, draw=3)


def test_networks_that_cannot_be_had_are_told(tmp_path):
    drive = Drive("L2_basket", "proximal", 20.0, 3.0, {"L2_basket": 0.1})
    with pytest.raises(ValueError, match="name of cells"):
        network_with_drives(column(), [drive], 2)
    lacking = column() | {"cell_types": {"L2_pyramidal": {}}}
    with pytest.raises(ValueError, match=r"weights for \['L2_basket'\]"):
        network_with_drives(lacking, [drive.replace(name="a")], 2)
    with pytest.raises(ValueError, match="legacy"):
        describe_network(write(tmp_path / "a.json", column() | {"legacy_mode": True}))
    with pytest.raises(TypeError, match="got int 3"):
        describe_network(3)
    with pytest.raises(ValueError, match=r"must end in .json"):
        write_hnn(drive.replace(name="a"), "a.txt", write(tmp_path / "a.json", column()))


def test_a_missing_hnn_core_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"hnn_core and neuron cannot.*bayesdcm\[hnn\]"):
        describe_network("N20")


def read_back(path):
    """A network with cells in order, and without what hnn-core changes by rounding."""
    content = json.loads(path.read_text(), parse_float=lambda digits: round(float(digits), 9))
    for each in content["connectivity"]:
        for key in ("src_gids", "target_gids"):
            each[key] = sorted(each[key])
    return content


@pytest.mark.filterwarnings("ignore:.*holds what is not read")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["N20", "default", "gamma_L5weak_L2weak", "neymotin2020_base"])
def test_every_file_of_hnn_core_makes_the_round(name, tmp_path):
    hnn_core = pytest.importorskip("hnn_core")
    path = Path(hnn_core.__file__).parent / "param" / f"{name}.json"
    drives = read_hnn(path)
    if name == "neymotin2020_base":
        theirs = hnn_core.read_network_configuration(path)
        bare = hnn_core.read_network_configuration(path, read_drives=False)
    else:
        params = hnn_core.read_params(path)
        theirs = hnn_core.neymotin_2020_model(params, add_drives_from_params=True)
        bare = hnn_core.neymotin_2020_model(params)
    events = {}
    theirs._instantiate_drives(tstop=170.0, n_trials=1)
    for key, each in theirs.external_drives.items():
        if each["type"] == "evoked" and any(
            weight for kind in ("weights_ampa", "weights_nmda") for weight in each[kind].values()
        ):
            events[key] = each["events"]
    assert [drive.name for drive in drives] == list(events)
    if not drives:
        return
    for drive in drives:
        bare.add_evoked_drive(
            drive.name,
            mu=drive.time,
            sigma=drive.spread,
            numspikes=drive.n_events,
            location=drive.location,
            n_drive_cells=drive.n_cells if drive.shared else "n_cells",
            cell_specific=drive.cell_specific,
            weights_ampa=drive.weights_ampa,
            weights_nmda=drive.weights_nmda,
            synaptic_delays={cell: drive.delays[cell] for cell in drive.targets},
            event_seed=drive.event_seed,
        )
    bare.write_configuration(tmp_path / "theirs.json")
    write_hnn(drives, tmp_path / "ours.json", path)
    assert read_back(tmp_path / "ours.json") == read_back(tmp_path / "theirs.json")
    opened = hnn_core.read_network_configuration(tmp_path / "ours.json")
    opened._instantiate_drives(tstop=170.0, n_trials=1)
    assert {key: each["events"] for key, each in opened.external_drives.items()} == events
    assert read_hnn(tmp_path / "ours.json") == drives
