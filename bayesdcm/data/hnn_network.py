"""Networks of hnn-core with given drives, as the hierarchical JSON that it and its GUI open."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from bayesdcm.data.drive import Drive, check_drives
from bayesdcm.data.hnn_parameters import SPACE_CONSTANT, read_hnn_content
from bayesdcm.data.validation import describe

__all__ = ["describe_network", "need_hnn_core", "network_with_drives", "write_hnn"]

HNN_CORE = "0.6.1"
NEURON = "8.2.7"
# Seed of connections, which matters only where they are made by chance; hnn-core's default.
CONNECTION_SEED = 3


def write_hnn(
    drives: Any,
    path: str | PathLike[str],
    network: Any = "N20",
    *,
    draw: int | None = None,
    seed: int = 2,
) -> None:
    """Write drives in a network, as hierarchical JSON that hnn-core and HNN's GUI open.

    ``hnn_core.read_network_configuration(path)`` reads the file, and so does the GUI, under
    "Load external drives" and "Load local network connectivity".

    Parameters
    ----------
    drives : Fit, Drive, or sequence of Drive
        A fit of a model of drives, whose posterior means or one of whose draws are written; or
        drives, of which fixed values, means of normal and medians of log-normal priors are.
    path : path
        File to write; one that exists is replaced.
    network : str, path, or hnn_core.Network, default "N20"
        Column that the drives act on; drives that it has are left out. A name of hnn-core's own
        parameters ("N20", of evoked responses of the median nerve, or "default") or a path to flat
        parameters needs hnn-core (extra ``hnn``). A path to hierarchical JSON, such as the GUI
        saves, or a ``Network`` does not.
    draw : int, optional
        Which draw of a fit's posterior to write. None: the posterior mean.
    seed : int, default 2
        Seed of the times of events, for drives that have none: each gets it plus the number of its
        first cell, as hnn-core numbers them, so that no two drives have the same deviations.

    Raises
    ------
    ImportError
        If hnn-core is needed and not installed.
    TypeError, ValueError
        If drives or the network are not as described.

    References
    ----------
    Jas M et al. (2023). HNN-core: a Python software for cellular and circuit-level interpretation
    of human MEG/EEG. J Open Source Softw 8(92):5848. https://doi.org/10.21105/joss.05848

    Examples
    --------
    >>> drives = [Drive("first", "proximal", 20.0, 3.0, {"L2_pyramidal": 0.004})]
    >>> write_hnn(drives, "column.json")  # doctest: +SKIP
    """
    if callable(getattr(drives, "drives", None)):
        drives = drives.drives(draw=draw)
    elif draw is not None:
        raise ValueError("draw is for fits, which have draws; leave it out where drives are given")
    content = network_with_drives(describe_network(network), check_drives(drives), seed)
    target = Path(path)
    if target.suffix != ".json":
        raise ValueError(
            f"path must end in .json, by which HNN knows its files, got {fspath(path)!r}"
        )
    partial = target.with_suffix(".json.part")
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, target)


def need_hnn_core(purpose: str) -> None:
    """Raise ImportError, which says what to install, where hnn-core or NEURON is missing."""
    missing = [name for name in ("hnn_core", "neuron") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{purpose} needs hnn-core {HNN_CORE} and NEURON {NEURON}, of which "
            f"{' and '.join(missing)} cannot be imported; install them by "
            "pip install 'bayesdcm[hnn]'"
        )


def describe_network(network: Any) -> dict[str, Any]:
    """A column without drives as hnn-core's hierarchical JSON has it; what `write_hnn` takes."""
    if hasattr(network, "to_dict") and hasattr(network, "cell_types"):
        return without_drives(_plain(network.to_dict(write_output=False)))
    if not isinstance(network, str | PathLike):
        raise TypeError(
            "network must be a name of hnn-core's parameters such as 'N20', a path to a file of "
            f"hnn-core, or its Network, got {describe(network)}"
        )
    path = Path(network)
    if not path.suffix and len(path.parts) == 1:
        need_hnn_core(f"network {fspath(network)!r}")
        import hnn_core

        folder = Path(hnn_core.__file__).parent / "param"
        path = folder / f"{network}.json"
        if not path.exists():
            known = sorted(each.stem for each in folder.glob("*.json"))
            raise ValueError(
                f"network {network!r} is not known; hnn-core has {known}; or give a path"
            )
    content = read_hnn_content(path)
    if content.get("object_type") == "Network":
        return without_drives(content)
    need_hnn_core(f"network {path.name}, a file of flat parameters,")
    import hnn_core

    with warnings.catch_warnings():
        # The name is an old one of the same model.
        warnings.simplefilter("ignore", DeprecationWarning)
        built = hnn_core.jones_2009_model(params=hnn_core.read_params(path))
    return without_drives(_plain(built.to_dict(write_output=False)))


def without_drives(content: Mapping[str, Any]) -> dict[str, Any]:
    """A network without its drives; tonic currents, which belong to the column, stay."""
    if content.get("legacy_mode"):
        raise ValueError(
            "network is in hnn-core's legacy mode, in which cells are numbered in another way; "
            "expected one with legacy_mode false. Save it anew from hnn-core 0.4 or later"
        )
    drives = set(content["external_drives"])
    bare = {key: copy.copy(value) for key, value in content.items()}
    for key in ("gid_ranges", "pos_dict"):
        bare[key] = {name: value for name, value in content[key].items() if name not in drives}
    bare["external_drives"] = {}
    bare["connectivity"] = [
        each for each in content["connectivity"] if each["src_type"] not in drives
    ]
    return bare


def network_with_drives(
    network: Mapping[str, Any], drives: Sequence[Drive], seed: int
) -> dict[str, Any]:
    """A network of `describe_network` with drives at their centres, as hnn-core adds them."""
    content = dict(network)
    places = dict(content["gid_ranges"])
    content["gid_ranges"], content["pos_dict"] = places, dict(content["pos_dict"])
    content["external_drives"], connectivity = {}, list(content["connectivity"])
    content["connectivity"] = connectivity
    for drive in drives:
        if drive.name in places:
            raise ValueError(
                f"drive {drive.name!r} has the name of cells of the network; rename it"
            )
        fixed = drive.at()
        targets = [cell for cell in network["cell_types"] if cell in drive.targets]
        missing = sorted(set(drive.targets) - set(targets))
        if missing:
            raise ValueError(
                f"drive {drive.name!r} has weights for {missing}, but the network has cells "
                f"{list(network['cell_types'])} only"
            )
        cells = {cell: _numbers(places[cell]) for cell in targets}
        sent = drive.n_cells if drive.shared else sum(map(len, cells.values()))
        start = max(place["stop"] for place in places.values())
        places[drive.name] = {"start": start, "stop": start + sent}
        content["pos_dict"][drive.name] = [content["pos_dict"]["origin"]] * sent
        content["external_drives"][drive.name] = {
            "type": "evoked",
            "location": drive.location,
            "n_drive_cells": sent,
            "event_seed": seed + start if drive.event_seed is None else int(drive.event_seed),
            "conn_seed": CONNECTION_SEED,
            "dynamics": {"mu": fixed.time, "sigma": fixed.spread, "numspikes": drive.n_events},
            "events": [],
            "weights_ampa": dict(fixed.weights_ampa),
            "weights_nmda": dict(fixed.weights_nmda),
            "synaptic_delays": {cell: drive.delays[cell] for cell in targets},
            "probability": 1.0,
            "name": drive.name,
            "target_types": targets,
            "cell_specific": bool(drive.cell_specific),
        }
        connectivity += _connections(fixed, cells, start, float(network["threshold"]))
    return content


def _connections(
    drive: Drive, cells: Mapping[str, list[int]], start: int, threshold: float
) -> Iterable[dict[str, Any]]:
    """Connections of a drive, whose cells are numbered from `start`, to its targets."""
    for target, numbers in cells.items():
        if drive.shared:
            senders = list(range(start, start + drive.n_cells))
            pairs = {str(sender): numbers for sender in senders}
        else:
            senders = list(range(start, start + len(numbers)))
            pairs = {str(s): [n] for s, n in zip(senders, numbers, strict=True)}
            start += len(numbers)
        for receptor, weights in (("ampa", drive.weights_ampa), ("nmda", drive.weights_nmda)):
            if target in weights:
                yield {
                    "target_type": target,
                    "target_gids": numbers,
                    "num_targets": len(numbers),
                    "src_type": drive.name,
                    "src_gids": senders,
                    "num_srcs": len(senders),
                    "gid_pairs": pairs,
                    "loc": drive.location,
                    "receptor": receptor,
                    "nc_dict": {
                        "A_delay": drive.delays[target],
                        "A_weight": weights[target],
                        "lamtha": SPACE_CONSTANT,
                        "threshold": threshold,
                        "gain": 1.0,
                    },
                    "allow_autapses": 1,
                    "probability": 1.0,
                }


def _numbers(place: Mapping[str, int]) -> list[int]:
    return list(range(place["start"], place["stop"]))


def _plain(value: Any) -> Any:
    """What JSON takes, for what hnn-core has in arrays, tuples, sets and numbers of NumPy."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | range):
        return sorted(value)
    return value.item() if isinstance(value, np.generic) else value
