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

    MATLAB's version 5 (to 7) or 7.3. Errors and warnings as `bayesdcm.read_spm_dcm`.
    """
    file = existing_file(path)
    try:
        return parse_model(load_dcm(file), ordered=keeps_order(file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"path: '{file}' cannot be used. {error}") from error


def parse_model(dcm: Mapping[str, Any], *, ordered: bool = True) -> SpmFile | SpmErpFile:
    """Content of a DCM for task fMRI or for evoked responses."""
    parse = parse_erp if is_electrophysiological(dcm) else parse_task
    return parse(dcm, ordered=ordered)
