"""Responses in an SPM file of a DCM for evoked responses, and what SPM did to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.spm_fields import dense, flag, is_empty, n_columns, names_of, nested, optional
from bayesdcm.data.validation import read_only

__all__ = ["read_design", "read_erp_data"]

_CHANNEL_TYPES = {"EEG": "eeg", "MEG": "mag", "MEGMAG": "mag", "MEGPLANAR": "grad", "LFP": "lfp"}
_MILLISECONDS = 1000.0


def read_erp_data(dcm: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Responses of a DCM structure with what SPM did to them, as fields of `SpmErpFile`."""
    xY = dcm["xY"]
    stored = _responses(xY)
    n_conditions, n_times, n_channels = stored.shape
    modes = _fixed(optional("DCM.M.U", nested(dcm, "M", "U"), (n_channels, None)))
    scale = optional("DCM.xY.scale", xY.get("scale"), ())
    design, effects = read_design(dcm.get("xU"), n_conditions)
    data = EvokedData(
        _unscaled(stored, modes, scale),
        _times(xY, n_times),
        channel_names=names_of(xY.get("name")),  # type: ignore[arg-type]
        channel_types=_CHANNEL_TYPES.get(str(xY.get("modality")), "other"),  # type: ignore[arg-type]
        condition_names=names_of(xY.get("code")),  # type: ignore[arg-type]
        design=design,
        effect_names=effects,  # type: ignore[arg-type]
    )
    confounds = _fixed(optional("DCM.xY.X0", xY.get("X0"), (n_times, None)))
    removed = 0 if confounds is None or not confounds.any() else confounds.shape[1]
    return {
        "data": data,
        "modes": modes,
        "n_confounds": int(optional("DCM.options.h", options.get("h"), (), removed)),
        "confounds": confounds,
        "hanning": flag(options, "han"),
        "residual_forming": _fixed(optional("DCM.xY.R", xY.get("R"), (n_times, n_times))),
        "scale": None if scale is None else float(scale),
    }


def _fixed(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    return None if values is None else read_only(values)


def _responses(xY: Mapping[str, Any]) -> NDArray[np.float64]:
    value = xY["y"]
    conditions = value if isinstance(value, list) else [value]
    # One column where a single channel lost its dimension.
    columns = n_columns(conditions[0])
    first = dense("DCM.xY.y{1}", conditions[0], (None, columns))
    return np.stack(
        [dense(f"DCM.xY.y{{{i + 1}}}", entry, first.shape) for i, entry in enumerate(conditions)]
    )


def _times(xY: Mapping[str, Any], n_times: int) -> NDArray[np.float64]:
    """Times in s from the stimulus; SPM holds them in ms."""
    if not is_empty(xY.get("pst")):
        return dense("DCM.xY.pst", xY["pst"], (n_times,)) / _MILLISECONDS
    if is_empty(xY.get("dt")):
        raise ValueError(
            "Its DCM lacks DCM.xY.pst and DCM.xY.dt; expected times of the samples. Specify the "
            "data in SPM first."
        )
    return float(dense("DCM.xY.dt", xY["dt"], ())) * np.arange(n_times)


def read_design(xU: object, n_conditions: int) -> tuple[NDArray[np.float64], list[str] | None]:
    """Design (conditions, effects) and names of effects, from DCM.xU."""
    X = nested(xU, "X")
    if is_empty(X):
        return np.zeros((n_conditions, 0)), None
    n_effects = int(np.prod(np.shape(X), dtype=int)) // n_conditions
    design = dense("DCM.xU.X", X, (n_conditions, max(n_effects, 1)))
    names = names_of(nested(xU, "name"))
    return design, names if names is not None and len(names) == n_effects else None


def _unscaled(
    stored: NDArray[np.float64], modes: NDArray[np.float64] | None, scale: float | None
) -> NDArray[np.float64]:
    """Responses before SPM divided them by their standard deviation in channel modes."""
    if scale is None:
        return stored
    # Versions of SPM differ in whether they keep the divided responses.
    if modes is not None and not np.isclose((stored @ modes).std(ddof=1), 1.0, rtol=1e-6):
        return stored
    return stored * scale
