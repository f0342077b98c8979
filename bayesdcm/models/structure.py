"""Validation of what models share: restrictions, signal-to-noise ratios."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.named_axes import check_unnamed
from bayesdcm.neural.switches import advice, switches


def check_snr(snr: Any) -> None:
    """Raise an error unless `snr` is a positive number."""
    number = isinstance(snr, Real) and not isinstance(snr, bool | np.bool_)
    if not (number and np.isfinite(snr) and snr > 0):
        raise ValueError(f"snr must be a positive number or None, got {snr!r}")


def restricted(name: str, own: NDArray | None, value: ArrayLike) -> NDArray:
    """Switches, in the shape of the model's `own`, that turn connections off; 0 for none at all.

    ValueError if the shape disagrees, or a switch is on that the model has off.
    """
    if own is None:
        raise ValueError(f"{name} cannot be restricted: the model has none")
    check_unnamed(name, value, advice(name, "as in the model"))
    kept = np.zeros_like(own) if np.ndim(value) == 0 and value == 0 else np.asarray(value)
    # One effect or one input may come without that axis.
    if name in ("modulation", "inputs") and kept.ndim == own.ndim - 1 and kept.size == own.size:
        kept = kept.reshape(own.shape)
    kept = switches(name, kept, own.shape, "as in the model")
    if (kept > own).any():
        raise ValueError(
            f"{name} switches on {int((kept > own).sum())} connection(s) that the model has off; "
            "restrict can only switch off"
        )
    return kept
