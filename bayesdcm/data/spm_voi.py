"""Signals of SPM's regions of interest (VOI_*.mat), with the design of its model (SPM.mat)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.data.bold import BoldData
from bayesdcm.data.spm_container import existing_file, load_variables
from bayesdcm.data.spm_fields import dense, is_empty, n_columns, names_of, nested, optional

__all__ = ["read_spm_voi"]

# SPM's inputs begin this many bins before the first scan (spm_get_ons).
_EARLY_BINS = 32


def read_spm_voi(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    design: str | os.PathLike[str] | None = None,
    *,
    repetition_time: float | None = None,
    input_names: Sequence[str] | None = None,
    slice_delays: ArrayLike | None = None,
) -> BoldData:
    """BOLD signals of SPM's regions of interest, with the inputs of an SPM.mat.

    What SPM does when a DCM is specified: the first eigenvariate of every region, the confounds
    of the first region's file (filter, mean and effects of no interest, as SPM saved them), and
    the conditions of the design in microtime.

    Parameters
    ----------
    paths : path-like or sequence of path-like
        VOI_*.mat files of one person and session, one a region, in the order that is wanted.
    design : path-like, optional
        The SPM.mat that the regions come from; its conditions become the inputs. None: no inputs.
    repetition_time : float, optional
        Time from scan to scan, in s; needed without `design`.
    input_names : sequence of str, optional
        Which of the conditions to take, and in which order; by default all.
    slice_delays : array_like, shape (regions,), optional
        As for `BoldData`.

    Returns
    -------
    BoldData
        Regions are named as in their files; ``unit="arbitrary"``, since SPM scales images and not
        regions.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    TypeError
        If an argument is not of the kind described.
    ValueError
        If a file is damaged or of another kind, regions are of other sessions, lengths or
        confounds, names repeat or are unknown, or design and regions have other numbers of scans.

    References
    ----------
    .. [1] Zeidman et al. (2019), NeuroImage 200:174.
           https://doi.org/10.1016/j.neuroimage.2019.06.031

    Examples
    --------
    >>> read_spm_voi(["VOI_absent_1.mat"], "SPM.mat")
    Traceback (most recent call last):
    FileNotFoundError: path: there is no file 'VOI_absent_1.mat'. Check the folder and the name.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise ValueError("paths is empty; expected at least one VOI_*.mat file")
    regions = {str(path): _read_region(path) for path in files}
    first, one = next(iter(regions.items()))
    for path, region in regions.items():
        _check_alike(path, region, first, one)
    inputs: dict[str, Any] = {}
    if design is not None:
        inputs = _read_design(design, one["session"], len(one["signal"]), input_names)
        stated = inputs.pop("repetition_time")
        if repetition_time is not None and not np.isclose(repetition_time, stated):
            raise ValueError(
                f"repetition_time is {repetition_time!r}, but that of the design is {stated:g} s; "
                "leave it out"
            )
        repetition_time = stated
    elif input_names is not None:
        raise ValueError("input_names came without design; give the SPM.mat that has them")
    if repetition_time is None:
        raise ValueError(
            "repetition_time is missing: regions do not say it; give it in s, or give design, the "
            "SPM.mat that the regions come from"
        )
    return BoldData(
        np.column_stack([region["signal"] for region in regions.values()]),
        repetition_time,
        region_names=[region["name"] for region in regions.values()],  # type: ignore[arg-type]
        confounds=one["confounds"],
        slice_delays=slice_delays,  # type: ignore[arg-type]
        unit="arbitrary",
        **inputs,
    )


def _read_region(path: str | os.PathLike[str]) -> dict[str, Any]:
    file = existing_file(path)
    try:
        signal, about = load_variables(file, ("Y", "xY"), "a VOI_*.mat file")
        if not isinstance(about, Mapping):
            raise ValueError("Its variable 'xY' is no structure; expected that of one region.")
        names = names_of(about.get("name")) or [file.stem.removeprefix("VOI_")]
        confounds = about.get("X0")
        return {
            "name": names[0],
            "signal": dense("Y", signal, (None,)),
            "confounds": optional("xY.X0", confounds, (None, n_columns(confounds))),
            "session": int(optional("xY.Sess", about.get("Sess"), (), 1)),
        }
    except (ValueError, TypeError) as error:
        raise ValueError(f"paths: '{file}' cannot be used. {error}") from error


def _check_alike(path: str, region: Mapping, first: str, one: Mapping) -> None:
    """Raise an error where regions are not of one session."""
    sizes = [(each["session"], len(each["signal"])) for each in (region, one)]
    for words, here, there in zip(("session", "number of scans"), *sizes, strict=True):
        if here != there:
            raise ValueError(
                f"paths: the {words} of '{path}' is {here}, that of '{first}' {there}; "
                "give regions of one person and session, one BoldData a session"
            )
    given, expected = region["confounds"], one["confounds"]
    same = (given is None) == (expected is None)
    if same and given is not None:
        same = given.shape == expected.shape and np.allclose(given, expected, atol=1e-8)
    if not same:
        raise ValueError(
            f"paths: the confounds (xY.X0) of '{path}' are not those of '{first}'; give regions "
            "that were extracted from one SPM.mat with the same adjustment"
        )


def _read_design(
    path: str | os.PathLike[str], session: int, n_scans: int, input_names: Sequence[str] | None
) -> dict[str, Any]:
    file = existing_file(path)
    try:
        (spm,) = load_variables(file, ("SPM",), "the SPM.mat of a first-level model")
        return _inputs(spm, session, n_scans, input_names)
    except (ValueError, TypeError) as error:
        raise ValueError(f"design: '{file}' cannot be used. {error}") from error


def _inputs(
    spm: Any, session: int, n_scans: int, input_names: Sequence[str] | None
) -> dict[str, Any]:
    repetition_time = nested(spm, "xY", "RT")
    if is_empty(repetition_time) or is_empty(nested(spm, "Sess")):
        raise ValueError(
            "Its structure SPM lacks xY.RT or Sess; expected the SPM.mat of a first-level fMRI "
            "model. Give the one in the folder of that model."
        )
    sessions = _records(spm["Sess"])
    if not 1 <= session <= len(sessions):
        raise ValueError(
            f"The regions are of session {session}, but it has {len(sessions)} session(s)."
        )
    scans = np.atleast_1d(np.asarray(spm.get("nscan", n_scans))).ravel()
    if len(scans) == len(sessions) and scans[session - 1] != n_scans:
        raise ValueError(
            f"Session {session} has {int(scans[session - 1])} scans, but the regions have "
            f"{n_scans}."
        )
    columns, names, widths = [], [], set()
    for condition in _records(sessions[session - 1].get("U")):
        of_condition = names_of(condition.get("name")) or []
        sampled = dense("SPM.Sess.U.u", condition.get("u"), (None, len(of_condition)))
        columns.append(sampled[_EARLY_BINS:])
        names.extend(of_condition)
        widths.add(float(dense("SPM.Sess.U.dt", condition.get("dt"), ())))
    if not names:
        raise ValueError(f"Session {session} has no conditions (SPM.Sess.U), so there is no input.")
    if len(widths) > 1 or len({len(column) for column in columns}) > 1:
        raise ValueError("Its conditions have other bins (SPM.Sess.U.dt, SPM.Sess.U.u).")
    inputs = np.concatenate(columns, axis=1)
    if input_names is not None:
        chosen = [input_names] if isinstance(input_names, str) else list(input_names)
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise ValueError(
                f"input_names has {unknown[0]!r}; its conditions are {', '.join(map(repr, names))}."
            )
        inputs, names = inputs[:, [names.index(name) for name in chosen]], chosen
    return {
        "repetition_time": float(dense("SPM.xY.RT", repetition_time, ())),
        "inputs": inputs,
        "input_names": names,
        "input_dt": widths.pop(),
    }


def _records(value: Any) -> list[Mapping[str, Any]]:
    """Elements of an array of structures, which MATLAB 7.3 keeps field by field."""
    if is_empty(value):
        return []
    if isinstance(value, Mapping):
        lengths = {len(v) if isinstance(v, list) else 1 for v in value.values()}
        if lengths - {1} and len(lengths) == 1:
            return [
                dict(zip(value, each, strict=True)) for each in zip(*value.values(), strict=True)
            ]
        return [value]
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ValueError("Its conditions or sessions are no structures.")
    return value
