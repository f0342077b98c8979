"""Priors of the spatial parameters: positions, moments, gains, weights of patch modes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.neural.base import Prior
from bayesdcm.observe.patches import N_PATCH_MODES
from bayesdcm.observe.source_field import KINDS

STRENGTH_VARIANCE = 64.0  # SPM's, of gains, moments and weights alike


def spatial_priors(
    kind: str,
    n_sources: int,
    positions: ArrayLike | None = None,
    location_variance: float = 0.0,
    n_patch_modes: int = N_PATCH_MODES,
) -> tuple[Prior, ...]:
    """Priors of the spatial parameters, SPM's, in SPM's order.

    Parameters
    ----------
    kind : str
        ``"lfp"``, ``"fixed"``, ``"img"`` or ``"ecd"``.
    n_sources : int
        Number of sources.
    positions : array_like, optional
        For ecd: prior positions, shape (n_sources, 3), MNI mm.
    location_variance : float
        For ecd: prior variance of each coordinate, mm^2. 0, the default here and in SPM's
        tutorials, keeps dipoles where they are; SPM's other settings are 1 and 4.
    n_patch_modes : int
        For img: modes of each patch.

    Returns
    -------
    tuple of Prior
        ecd: ``position`` (source, axis) and ``moment`` (source, axis); img: ``patch_weight``
        (source, patch mode); lfp and fixed: ``gain`` (source,).

    Raises
    ------
    ValueError
        If the kind is unknown, positions do not fit, or the variance is negative.

    Examples
    --------
    >>> [prior.name for prior in spatial_priors("ecd", 1, [[-42.0, -22.0, 7.0]])]
    ['position', 'moment']
    """
    if kind not in KINDS:
        raise ValueError(f"the observation must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "ecd":
        return _dipole_priors(n_sources, positions, location_variance)
    if kind == "img":
        return (_strength("patch_weight", ("source", "patch mode"), (n_sources, n_patch_modes)),)
    return (_strength("gain", ("source",), (n_sources,), mean=1.0),)


def _dipole_priors(
    n_sources: int, positions: ArrayLike | None, location_variance: float
) -> tuple[Prior, ...]:
    shape, dims = (n_sources, 3), ("source", "axis")
    if positions is None:
        raise ValueError("positions must be given for dipoles (observation 'ecd'), in MNI mm")
    mean = np.array(positions, dtype=float)
    if mean.shape != shape or not np.isfinite(mean).all():
        raise ValueError(
            f"positions must be finite and have shape {shape}, one row of x, y, z in MNI mm for "
            f"each source, got shape {mean.shape}"
        )
    if not (np.isfinite(location_variance) and location_variance >= 0):
        raise ValueError(
            f"location_variance must be 0 (positions fixed) or a variance in mm^2, got "
            f"{location_variance}"
        )
    variance = np.full(shape, float(location_variance))
    position = Prior("position", dims, mean, variance, "mm", symbol="Lpos")
    return position, _strength("moment", dims, shape)


def _strength(name: str, dims: tuple[str, ...], shape: tuple[int, ...], mean: float = 0.0) -> Prior:
    return Prior(
        name, dims, np.full(shape, mean), np.full(shape, STRENGTH_VARIANCE), "a.u.", symbol="L"
    )
