"""Reader of SPM's files of dynamic causal models, whatever kind of data they are for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from bayesdcm.data.spm import SpmFile, parse_task
from bayesdcm.data.spm_container import existing_file, keeps_order, load_dcm
from bayesdcm.data.spm_erp import SpmErpFile, parse_erp
from bayesdcm.data.spm_fields import flag, is_empty, nested
from bayesdcm.data.spm_spectral import SpmSpectralFile, parse_channel_spectra, parse_spectral

__all__ = ["AnyFile", "parse_model", "read_spm_model_file"]

AnyFile = SpmFile | SpmErpFile | SpmSpectralFile
"""What a file of any kind holds."""


def read_spm_model_file(path: str | os.PathLike[str]) -> AnyFile:
    """Content of a DCM_*.mat file for task fMRI, evoked responses or cross-spectra.

    MATLAB's version 5 (to 7) or 7.3. Errors and warnings as `bayesdcm.read_spm_dcm`.
    """
    file = existing_file(path)
    try:
        return parse_model(load_dcm(file), ordered=keeps_order(file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"path: '{file}' cannot be used. {error}") from error


def parse_model(dcm: Mapping[str, Any], *, ordered: bool) -> AnyFile:
    """Content of a DCM for task fMRI, evoked responses or cross-spectra.

    `ordered` says whether fields of structures are in MATLAB's order.
    """
    options = dcm.get("options")
    if _is_electrophysiological(dcm):
        analysis = str(nested(dcm, "options", "analysis") or "").strip().upper()
        parse: Callable[..., AnyFile] = parse_channel_spectra if analysis == "CSD" else parse_erp
    else:
        at_rest = isinstance(options, Mapping) and flag(options, "induced")
        parse = parse_spectral if at_rest else parse_task
    return parse(dcm, ordered=ordered)


def _is_electrophysiological(dcm: Mapping[str, Any]) -> bool:
    """Whether a DCM is one for EEG, MEG or local field potentials."""
    analysis = nested(dcm, "options", "analysis")
    if isinstance(analysis, str) and analysis.strip():
        return True
    return isinstance(dcm.get("A"), (list, Mapping)) and is_empty(dcm.get("a"))
