"""Lead fields of cortical patches: few modes that span what a piece of cortex can show."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

PATCH_RADIUS = 0.016  # m; SPM's
N_PATCH_MODES = 6  # SPM's


def patch_lead_fields(
    positions: ArrayLike,
    gain: ArrayLike,
    centres: ArrayLike,
    radius: float = PATCH_RADIUS,
    n_modes: int = N_PATCH_MODES,
) -> NDArray[np.float64]:
    """Lead field of the leading modes of the cortical patch about each position.

    ``G_i = gain[:, V_i] U_i`` with V_i the vertices within the radius, and U_i the first right
    singular vectors of ``gain[:, V_i]``: the patterns of current over the patch that the sensors
    see best.

    Vertices (vertices, 3), m; the gain of a dipole along the surface normal at each, (channels,
    vertices); sources' positions (sources, 3), m, in the same coordinates; the radius of a patch,
    straight through space, m. Where fewer than `n_modes` vertices lie within it, the nearest ones
    make up the patch. Radius and number of modes are SPM's by default.

    What comes has the shape (sources, channels, n_modes) and the unit of the gain, modes ordered
    by strength; their sign makes the largest entry of each singular vector positive.
    """
    positions, gain = np.asarray(positions, float), np.asarray(gain, float)
    centres = np.asarray(centres, float)
    for name, points in (("positions", positions), ("centres", centres)):
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"{name} must have shape (points, 3), got {points.shape}")
    if gain.ndim != 2 or gain.shape[1] != len(positions):
        raise ValueError(
            f"gain must have shape (channels, {len(positions)}), one column for each position, "
            f"got {gain.shape}"
        )
    if not 1 <= n_modes <= len(positions):
        raise ValueError(
            f"n_modes must be between 1 and the number of vertices ({len(positions)}), got "
            f"{n_modes}"
        )
    patches = []
    for index, centre in enumerate(centres):
        distance = np.linalg.norm(positions - centre, axis=1)
        if distance.min() > 2 * radius:
            raise ValueError(
                f"source {index} lies {1000 * distance.min():.0f} mm from the nearest vertex of "
                f"the surface, more than twice the radius of a patch; check its position and "
                "the transformation from MNI to head coordinates"
            )
        order = np.argsort(distance, kind="stable")
        patch = gain[:, order[: max(n_modes, int((distance < radius).sum()))]]
        # With fewer channels than modes, the rest of the modes are silent.
        _, _, right = np.linalg.svd(patch, full_matrices=len(gain) < n_modes)
        patches.append(patch @ with_positive_peak(right[:n_modes].T))
    return np.stack(patches)


def with_positive_peak(columns: NDArray) -> NDArray:
    """Flip columns so that the entry of largest size is positive: a sign that repeats."""
    peak = np.abs(columns).argmax(axis=0)
    sign = np.sign(columns[peak, np.arange(columns.shape[1])])
    return columns * np.where(sign == 0, 1.0, sign)
