"""Drives out of the files of hnn-core and HNN: hierarchical JSON and flat parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from bayesdcm.data.drive import CELLS, TARGETS, Drive
from bayesdcm.data.validation import warn_caller

__all__ = ["read_hnn"]

# Drives fall off with the distance from the middle of the column: hnn-core's for evoked drives,
# in units of the distance between cells.
SPACE_CONSTANT = 3.0
SHORT_NAMES = {
    "L2_basket": "L2Basket",
    "L2_pyramidal": "L2Pyr",
    "L5_basket": "L5Basket",
    "L5_pyramidal": "L5Pyr",
}
# Cells of the column of flat files, after which those of drives are numbered.
FLAT_CELLS = {"L2_basket": 35, "L2_pyramidal": 100, "L5_basket": 35, "L5_pyramidal": 100}


def read_hnn(path: str | PathLike[str]) -> list[Drive]:
    """Evoked drives from a file of hnn-core or HNN, in hnn-core's order.

    Reads the hierarchical JSON that hnn-core and its GUI write (``"object_type": "Network"``), and
    the older flat parameters (``.json`` or ``.param``, with keys such as ``t_evprox_1``). All
    numbers come fixed; `Drive.free` gives them priors.

    Parameters
    ----------
    path : path
        File to read.

    Returns
    -------
    list of Drive
        Times in ms, weights in uS, with the seed that hnn-core draws the times of events by. Empty
        if there is none.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is none of these files, or a drive is none that `Drive` can be.

    Warns
    -----
    UserWarning
        Of all that acts on the column and is no evoked drive to proximal or distal dendrites
        (rhythmic, Poisson and Gaussian drives, spike trains, tonic currents), of evoked drives
        without weights, and of what evoked drives have beyond a `Drive`.

    References
    ----------
    Jas M et al. (2023). HNN-core: a Python software for cellular and circuit-level interpretation
    of human MEG/EEG. J Open Source Softw 8(92):5848. https://doi.org/10.21105/joss.05848

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "one.json")
    >>> keys = {"t_evprox_1": 20.0, "sigma_t_evprox_1": 3.0, "gbar_evprox_1_L2Pyr_ampa": 0.004}
    >>> _ = file.write_text(json.dumps(keys))
    >>> read_hnn(file)
    [Drive(evprox1: proximal, 20 ms, spread 3 ms from trial to trial, AMPA to L2_pyramidal)]
    """
    content = read_hnn_content(path)
    read = _hierarchical if content.get("object_type") == "Network" else _flat
    drives: list[Drive] = []
    left_out: list[str] = []
    try:
        for name, given in read(content, left_out):
            weights = [*given["weights_ampa"].values(), *given["weights_nmda"].values()]
            if any(weight != 0 for weight in weights):
                drives.append(Drive(name=name, **given))
            else:
                left_out.append(f"{name}: an evoked drive without weights")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{fspath(path)}: {error}") from error
    if left_out:
        warn_caller(
            f"{fspath(path)} holds what is not read: {'; '.join(left_out)}. Models of the drives "
            "that were read leave it out"
        )
    return drives


def read_hnn_content(path: str | PathLike[str]) -> dict[str, Any]:
    """What a file of hnn-core holds, hierarchical or flat, by key."""
    text = Path(path).read_text(encoding="utf-8-sig")
    try:
        content = json.loads(text)
    except ValueError:
        content = _param_file(text)
    kind = content.get("object_type", "Network") if isinstance(content, dict) else "list"
    if kind != "Network":
        raise ValueError(f"{fspath(path)} holds a {kind} of hnn-core, not a Network with drives")
    flat = any(re.match(r"t_ev(prox|dist)_\d+$|tstop$|gbar_", key) for key in content)
    if not flat and "external_drives" not in content:
        raise ValueError(
            f"{fspath(path)} is no file of hnn-core; expected its hierarchical JSON (with "
            "'object_type': 'Network') or flat parameters with keys such as 't_evprox_1'"
        )
    return content


def _param_file(text: str) -> dict[str, Any]:
    """Lines of ``key: value``; numbers where they can be."""
    content: dict[str, Any] = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        try:
            content[key] = float(value)
        except ValueError:
            content[key] = {"True": 1.0, "False": 0.0}.get(value, value)
    return content


Entries = Iterator[tuple[str, dict[str, Any]]]


def _hierarchical(content: Mapping[str, Any], left_out: list[str]) -> Entries:
    """Names and fields of drives in a hierarchical file, in the order of their cells."""
    space = {
        each["src_type"]: each["nc_dict"].get("lamtha", SPACE_CONSTANT)
        for each in content.get("connectivity", [])
    }
    places = content.get("gid_ranges", {})
    drives = content["external_drives"]
    for name in sorted(drives, key=lambda each: places.get(each, {}).get("start", 0)):
        drive = drives[name]
        if drive["type"] != "evoked":
            left_out.append(f"{name}: a {drive['type']} drive")
            continue
        if drive["location"] not in TARGETS:
            left_out.append(f"{name}: an evoked drive to the {drive['location']}")
            continue
        probabilities = drive.get("probability", 1.0)
        values = probabilities.values() if isinstance(probabilities, dict) else [probabilities]
        if any(value != 1 for value in values):
            left_out.append(f"that {name} reaches cells by chance (probability {probabilities})")
        if space.get(name, SPACE_CONSTANT) != SPACE_CONSTANT:
            left_out.append(f"the space constant of {name}, {space[name]}, which is not 3")
        dynamics = drive["dynamics"]
        specific = bool(drive["cell_specific"])
        yield (
            name,
            {
                "location": drive["location"],
                "time": dynamics["mu"],
                "spread": dynamics["sigma"],
                "weights_ampa": drive["weights_ampa"] or {},
                "weights_nmda": drive["weights_nmda"] or {},
                "delays": drive["synaptic_delays"],
                "n_events": int(dynamics["numspikes"]),
                "n_cells": 1 if specific else drive["n_drive_cells"],
                "cell_specific": specific,
                "event_seed": int(drive["event_seed"]),
            },
        )
    left_out += [f"{name}: a tonic current" for name in content.get("external_biases", {})]


def _flat(content: Mapping[str, Any], left_out: list[str]) -> Entries:
    """Names and fields of drives in flat parameters, with what hnn-core takes for missing ones."""
    # Cells of drives are numbered in the order of names, rhythmic ("bursty") ones first; seeds
    # count from the number.
    first = sum(FLAT_CELLS.values()) + _rhythmic_cells(content)
    keys = (re.match(r"t_ev(dist|prox)_(\d+)$", key) for key in content)
    for side, number in sorted(key.groups() for key in keys if key):
        key = f"ev{side}_{number}"
        location = "proximal" if side == "prox" else "distal"
        cells = TARGETS[location]
        specific = not content.get("sync_evinput", 1)
        kinds = {
            kind: {c: _flat_weight(content, f"gbar_{key}_{SHORT_NAMES[c]}", kind) for c in cells}
            for kind in ("ampa", "nmda")
        }
        yield (
            f"ev{side}{number}",
            {
                "location": location,
                "time": content[f"t_{key}"],
                "spread": content.get(f"sigma_t_{key}", 0.0),
                "weights_ampa": kinds["ampa"],
                "weights_nmda": kinds["nmda"],
                "n_events": int(content.get(f"numspikes_{key}", 1)),
                "cell_specific": specific,
                "event_seed": int(content.get(f"prng_seedcore_{key}", 0)) + first,
            },
        )
        first += sum(FLAT_CELLS[cell] for cell in cells) if specific else 1
    left_out += _flat_left_out(content)


def _flat_weight(content: Mapping[str, Any], key: str, kind: str) -> float:
    # The oldest files have one weight for both kinds of synapses.
    return content.get(f"{key}_{kind}", content.get(key, 0.0))


def _rhythmic(content: Mapping[str, Any]) -> Iterator[tuple[str, bool, int]]:
    """Which rhythmic drives there are: their side, whether they have weights, their cells."""
    for side in ("prox", "dist"):
        stop = min(content.get(f"tstop_input_{side}", 250.0), content.get("tstop", 250.0))
        if stop >= content.get(f"t0_input_{side}", 1000.0):
            weights = (v for k, v in content.items() if k.startswith(f"input_{side}_A_weight"))
            yield side, any(weights), int(content.get(f"repeats_{side}", 10))


def _rhythmic_cells(content: Mapping[str, Any]) -> int:
    return sum(cells for _, _, cells in _rhythmic(content))


def _flat_left_out(content: Mapping[str, Any]) -> list[str]:
    """What acts on the column in flat parameters besides evoked drives, in words."""
    left_out = [
        f"a rhythmic {'proximal' if side == 'prox' else 'distal'} drive"
        for side, acts, _ in _rhythmic(content)
        if acts
    ]

    def cells(form: str) -> list[str]:
        return [c for c in CELLS if content.get(form.format(SHORT_NAMES[c]), 0)]

    poisson = {*cells("{}_Pois_A_weight_ampa"), *cells("{}_Pois_A_weight_nmda")}
    if poisson and content.get("T_pois", -1) >= content.get("t0_pois", 0.0):
        left_out.append(f"a Poisson drive to {', '.join(sorted(poisson))}")
    gaussian = cells("{}_Gauss_A_weight")
    if gaussian and content.get("L2Basket_Gauss_mu", 2000.0) <= content.get("tstop", 250.0):
        left_out.append(f"a Gaussian drive to {', '.join(gaussian)}")
    tonic = {*cells("Itonic_A_{}_soma"), *cells("Itonic_A_{}")}
    if tonic:
        left_out.append(f"tonic currents to {', '.join(sorted(tonic))}")
    if content.get("inc_evinput", 0):
        left_out.append(f"that drives come {content['inc_evinput']} ms later each trial")
    return left_out
