"""Reader of SPM's files of dynamic causal models, whatever kind of data they are for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bayesdcm.data.spm import SpmFile, parse_task
from bayesdcm.data.spm_container import (
    existing_file,
    is_electrophysiological,
    keeps_order,
    load_dcm,
)
from bayesdcm.data.spm_erp import SpmErpFile, parse_erp

__all__ = ["parse_model", "read_spm_model_file"]


def read_spm_model_file(path: str | os.PathLike[str]) -> SpmFile | SpmErpFile:
    """Content of a DCM_*.mat file for task fMRI or for evoked responses.

    Parameters
    ----------
    path : str or path-like
        MATLAB file of version 5 (to 7) or 7.3.

    Returns
    -------
    SpmFile or SpmErpFile
        For task fMRI, and for evoked responses in EEG, MEG or local field potentials.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `path` is not a path.
    ValueError
        If the file is damaged, is not a MATLAB file, does not hold a DCM, or holds one of another
        kind.

    Warns
    -----
    UserWarning
        As `bayesdcm.read_spm_dcm`.

    Examples
    --------
    >>> read_spm_model_file("DCM_absent.mat")
    Traceback (most recent call last):
    FileNotFoundError: path: there is no file 'DCM_absent.mat'. Check the folder and the name.
    """
    file = existing_file(path)
    try:
        return parse_model(load_dcm(file), ordered=keeps_order(file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"path: '{file}' cannot be used. {error}") from error


def parse_model(dcm: Mapping[str, Any], *, ordered: bool = True) -> SpmFile | SpmErpFile:
    """Content of a DCM for task fMRI or for evoked responses.

    Parameters
    ----------
    dcm : mapping
        The structure, by field.
    ordered : bool, default True
        Whether fields of structures are in MATLAB's order.

    Returns
    -------
    SpmFile or SpmErpFile
        As `read_spm_model_file`.

    Raises
    ------
    ValueError
        If it is of another kind.
    """
    parse = parse_erp if is_electrophysiological(dcm) else parse_task
    return parse(dcm, ordered=ordered)
