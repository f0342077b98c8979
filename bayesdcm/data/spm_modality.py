"""Reader of SPM's files of dynamic causal models, whatever kind of data they are for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bayesdcm.data.spm import SpmFile, parse_task
from bayesdcm.data.spm_container import existing_file, keeps_order, load_dcm
from bayesdcm.data.spm_erp import SpmErpFile, parse_erp
from bayesdcm.data.spm_fields import is_empty, nested

__all__ = ["parse_model", "read_spm_model_file"]


def read_spm_model_file(path: str | os.PathLike[str]) -> SpmFile | SpmErpFile:
    """Content of a DCM_*.mat file for task fMRI or for evoked responses.

    MATLAB's version 5 (to 7) or 7.3. Errors and warnings as `bayesdcm.read_spm_dcm`.
    """
    file = existing_file(path)
    try:
        return parse_model(load_dcm(file), ordered=keeps_order(file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"path: '{file}' cannot be used. {error}") from error


def parse_model(dcm: Mapping[str, Any], *, ordered: bool) -> SpmFile | SpmErpFile:
    """Content of a DCM for task fMRI or for evoked responses.

    `ordered` says whether fields of structures are in MATLAB's order.
    """
    return (parse_erp if _is_electrophysiological(dcm) else parse_task)(dcm, ordered=ordered)


def _is_electrophysiological(dcm: Mapping[str, Any]) -> bool:
    """Whether a DCM is one for EEG, MEG or local field potentials."""
    analysis = nested(dcm, "options", "analysis")
    if isinstance(analysis, str) and analysis.strip():
        return True
    return isinstance(dcm.get("A"), (list, Mapping)) and is_empty(dcm.get("a"))
