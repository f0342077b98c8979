"""Priors that an SPM file of a DCM for evoked responses brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_erp_layout import (
    entries,
    neural_fields,
    read_fields,
    spatial_fields,
)
from bayesdcm.data.spm_priors import (
    Moments,
    checked,
    covariances,
    is_structure,
    read_noise,
    stored,
    variances,
)

__all__ = ["read_erp_priors"]

Fields = dict[str, NDArray[np.float64]]


def read_erp_priors(
    dcm: Mapping[str, Any],
    neural: str,
    observation: str,
    sizes: tuple[int, int, int],
    *,
    ordered: bool = True,
) -> dict[str, Moments]:
    """Priors of the neural model (pE, pC), the observation (gE, gC) and the noise (hE, hC).

    Parameters
    ----------
    dcm : mapping
        The structure, by field.
    neural : {"erp", "cmc", "lfp", "nmda"}
        The neural model.
    observation : {"ecd", "img", "lfp"}
        How channels see sources.
    sizes : tuple of int
        Numbers of sources, inputs and effects.
    ordered : bool, default True
        Whether fields of structures are in MATLAB's order.

    Returns
    -------
    dict of Moments
        By SPM's symbol, in SPM's shapes (cell arrays with their cells along the first axis), and
        ``"log_precision"`` (); only what the file has.

    Raises
    ------
    ValueError
        If DCM.M and DCM.options disagree, or a prior is not one of this model.

    Warns
    -----
    UserWarning
        If there are covariances, or priors that are no structures.

    Examples
    --------
    >>> read_erp_priors({"M": {"hE": 8.0}}, "erp", "lfp", (1, 1, 0))["log_precision"].mean.item()
    8.0
    """
    groups = {
        "p": neural_fields(neural, *sizes),
        "g": spatial_fields(observation, sizes[0]),
    }
    moments = {}
    for letter, shapes in groups.items():
        moments |= _read_group(dcm, letter, shapes, ordered)
    noise = read_noise(dcm, ())
    if noise.mean is not None or noise.variance is not None:
        moments["log_precision"] = noise
    return moments


def _read_group(
    dcm: Mapping[str, Any], letter: str, shapes: Mapping[str, Any], ordered: bool
) -> dict[str, Moments]:
    outdated = False

    def means(name: str, value: Any) -> Fields | None:
        nonlocal outdated
        if not is_structure(name, value):
            outdated = True
            return None
        fields = read_fields(name, value, shapes, ordered=ordered)
        return {symbol: checked(f"{name}.{symbol}", array) for symbol, array in fields.items()}

    mean = stored(dcm, f"{letter}E", means)

    def spread(name: str, value: Any) -> Fields | None:
        if isinstance(value, Mapping):
            fields = read_fields(name, value, shapes, ordered=ordered)
            return {s: checked(f"{name}.{s}", array, 0.0) for s, array in fields.items()}
        if mean is None:
            raise ValueError(
                f"{name} is a vector or a matrix, but the file has no {letter}E that says what its "
                "entries are. Save both."
            )
        places = entries(mean)
        labels = [f"{symbol}{list(index)}" for symbol, index in places]
        vector = variances(name, covariances(name, value, len(places)), labels)
        arrays = {symbol: np.zeros(array.shape) for symbol, array in mean.items()}
        for (symbol, index), number in zip(places, vector, strict=True):
            arrays[symbol][index] = number
        return arrays

    variance = None if outdated else stored(dcm, f"{letter}C", spread)
    if mean is not None and variance is not None:
        other = [s for s in mean if mean[s].shape != variance[s].shape]
        if other:
            raise ValueError(
                f"{letter}E.{other[0]} and {letter}C.{other[0]} have the shapes "
                f"{mean[other[0]].shape} and {variance[other[0]].shape}. Give both alike."
            )
    return {
        symbol: Moments((mean or {}).get(symbol), (variance or {}).get(symbol))
        for symbol in (mean or variance or {})
    }
