"""Priors that an SPM file of a DCM for evoked responses brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayesdcm.data.spm_erp_layout import CELLS, Shapes, entries, read_fields
from bayesdcm.data.spm_priors import (
    Fields,
    Moments,
    checked,
    covariances,
    given,
    read_means,
    read_noise,
    stored,
    variances,
)

__all__ = ["read_erp_priors", "read_prior_fields"]


def read_erp_priors(
    dcm: Mapping[str, Any], neural_shapes: Shapes, spatial_shapes: Shapes, ordered: bool
) -> dict[str, Moments]:
    """Priors of the neural model (pE, pC), the observation (gE, gC) and the noise (hE, hC).

    By SPM's symbol, in SPM's shapes (cell arrays with their cells along the first axis), and
    ``"log_precision"`` (); only what the file has. Warns of covariances, and priors that are no
    structures.
    """
    moments = {"log_precision": read_noise(dcm, ())}
    for letter, shapes in (("p", neural_shapes), ("g", spatial_shapes)):
        moments |= read_prior_fields(dcm, letter, shapes, ordered)
    return given(moments)


def read_prior_fields(
    dcm: Mapping[str, Any],
    letter: str,
    shapes: Shapes,
    ordered: bool,
    of_cells: tuple[str, ...] = CELLS,
) -> dict[str, Moments]:
    """Priors of the fields of pE and pC, or of gE and gC, by symbol, as `read_erp_priors`."""

    def fields(name: str, value: Any) -> Fields:
        return read_fields(name, value, shapes, ordered=ordered, of_cells=of_cells)

    mean, outdated = read_means(dcm, f"{letter}E", fields)

    def spread(name: str, value: Any) -> Fields:
        if isinstance(value, Mapping):
            return {s: checked(f"{name}.{s}", each, 0.0) for s, each in fields(name, value).items()}
        if mean is None:
            raise ValueError(
                f"{name} is a vector or a matrix, but the file has no {letter}E that says what its "
                "entries are. Save both."
            )
        places = entries(mean, of_cells)
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
        symbol: Moments((mean or {}).get(symbol), (variance or {}).get(symbol)) for symbol in shapes
    }
