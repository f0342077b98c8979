"""Lead fields of dipoles and patches in a head model, from positions in MNI coordinates."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from bayesdcm.data.head import GridHead, HeadModel, SphereHead, SurfaceHead
from bayesdcm.observe.channel_modes import with_positive_peak
from bayesdcm.observe.forward_grid import expanded_lead_field, local_expansion
from bayesdcm.observe.sphere import eeg_sphere_lead_field, meg_sphere_lead_field, series_terms

# How far from its prior position a dipole may get before the series in spheres has fewer terms
# than its accuracy needs, m. Prior standard deviations of positions are 1 or 2 mm.
LARGEST_SHIFT = 0.01
PATCH_RADIUS, N_PATCH_MODES = 0.016, 6  # m; both SPM's


def dipole_lead_field(
    head: HeadModel, prior_positions: ArrayLike
) -> Callable[[ArrayLike], jax.Array]:
    """Lead field of dipoles in a head, as a function of their positions.

    What does not depend on positions (weights of series, interpolation in a grid) is worked out
    here, once.

    Parameters
    ----------
    head : SphereHead or GridHead
        Where the lead field comes from: a formula, or interpolation between the grid's points.
    prior_positions : array_like
        Shape (sources, 3), MNI mm. The function holds near them (within some 6 mm).

    Returns
    -------
    callable
        From positions, shape (..., sources, 3), MNI mm, to lead fields, shape
        (..., sources, channels, 3), in the unit of the head (V/(A m) for electrodes; T/(A m) and
        T/m/(A m) for magnetometers and gradiometers), along the axes of head coordinates. Pure
        and differentiable.

    Raises
    ------
    TypeError
        If the head is of another class.
    ValueError
        If a prior position lies outside the head's conductor or grid.

    Examples
    --------
    >>> from bayesdcm.data.head import SphereHead
    >>> head = SphereHead([[0.0, 0.0, 0.09], [0.0, 0.09, 0.0]])
    >>> dipole_lead_field(head, [[0.0, 0.0, 50.0]])([[1.0, 0.0, 50.0]]).shape
    (1, 2, 3)
    """
    if isinstance(head, SurfaceHead):
        raise TypeError(
            "head is a SurfaceHead, whose dipoles stand on the cortex: it has no lead field at "
            "other positions or in other directions. Use patches (observation 'img'), or a sphere "
            "or a volume forward solution for dipoles (observation 'ecd')."
        )
    if not isinstance(head, SphereHead | GridHead):
        raise TypeError(
            f"head must be a SphereHead or a GridHead for dipoles, got {type(head).__name__}"
        )
    transform, priors = np.asarray(head.mni_to_head), head.to_head(prior_positions)
    from_head = (_in_sphere if isinstance(head, SphereHead) else _in_grid)(head, priors)

    def lead_field(positions: ArrayLike) -> jax.Array:
        rotated = jnp.asarray(positions, float) @ transform[:3, :3].T
        return from_head(rotated + jnp.broadcast_to(transform[:3, 3], rotated.shape))

    return lead_field


def patches(
    head: HeadModel,
    prior_positions: ArrayLike,
    radius: float = PATCH_RADIUS,
    n_modes: int = N_PATCH_MODES,
) -> NDArray[np.float64]:
    """Lead field of the leading modes of the cortical patch about each position.

    ``G_i = gain[:, V_i] U_i`` with V_i the vertices within the radius, and U_i the first right
    singular vectors of ``gain[:, V_i]``: the patterns of current over the patch that the sensors
    see best.

    Parameters
    ----------
    head : SurfaceHead
        With the lead field of every vertex.
    prior_positions : array_like
        Shape (sources, 3), MNI mm.
    radius : float
        Of a patch, m; SPM's 16 mm by default, straight through space, in the head and not in the
        template. Where fewer than `n_modes` vertices lie within it, the nearest ones serve.
    n_modes : int
        Modes of each patch; SPM's 6 by default.

    Returns
    -------
    ndarray
        Shape (sources, channels, n_modes), in the unit of the gain. Modes are ordered by strength;
        their sign makes the largest entry of each singular vector positive.

    Raises
    ------
    TypeError
        If the head has no cortical surface.
    ValueError
        If the surface has fewer vertices than modes, or a position is far from it.

    Examples
    --------
    >>> from bayesdcm.data.head import SurfaceHead
    >>> vertices = np.random.default_rng(0).uniform(-0.01, 0.01, (30, 3))
    >>> head = SurfaceHead(vertices, np.ones((30, 3)), vertices.T)
    >>> patches(head, [[0.0, 0.0, 0.0]], n_modes=3).shape
    (1, 3, 3)
    """
    if not isinstance(head, SurfaceHead):
        raise TypeError(
            f"head must be a SurfaceHead for patches, got {type(head).__name__}; give a surface "
            "forward solution with fixed orientation, or use dipoles (observation 'ecd')"
        )
    if not 1 <= n_modes <= len(head.positions):
        raise ValueError(
            f"n_modes must be between 1 and the number of vertices ({len(head.positions)}), got "
            f"{n_modes}"
        )
    modes, gain = [], np.asarray(head.gain)
    for index, centre in enumerate(head.to_head(prior_positions)):
        distance = np.linalg.norm(head.positions - centre, axis=1)
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
        modes.append(patch @ with_positive_peak(right[:n_modes].T))
    return np.stack(modes)


def power_of_ten(lead_fields: ArrayLike) -> float:
    """The power of ten that brings the largest entry of all lead fields near 8.

    ``10 ** -round(log10(max|lead field| / 8))``, halves rounded away from zero.

    Parameters
    ----------
    lead_fields : array_like
        Of all sources together, at their prior positions; any shape and unit.

    Returns
    -------
    float
        To multiply dipole lead fields by, so that moments are of order one.

    Raises
    ------
    ValueError
        If there is no finite entry other than zero.

    Examples
    --------
    >>> power_of_ten([[0.3, -90.0]])
    0.1
    """
    largest = np.abs(np.asarray(lead_fields, float)).max(initial=0.0)
    if not (np.isfinite(largest) and largest > 0):
        raise ValueError(
            f"lead_fields must be finite and not all zero, got a largest entry of {largest}; check "
            "positions and sensors"
        )
    # SPM works this out anew at every position. It is a step function: where positions are fixed
    # nothing changes, and where they are free it stays the same unless the largest entry crosses
    # 8 sqrt(10)^k, where SPM's prediction jumps by ten. One constant for a data set keeps the
    # prediction differentiable and the prior of the moments what it is said to be.
    exponent = np.log10(largest / 8)
    return float(10.0 ** -(np.sign(exponent) * np.floor(np.abs(exponent) + 0.5)))


def _in_grid(head: GridHead, priors: NDArray) -> Callable[[jax.Array], jax.Array]:
    expansion = local_expansion(head.positions, head.gain, priors)
    return lambda positions: expanded_lead_field(expansion, positions)


def _in_sphere(head: SphereHead, priors: NDArray) -> Callable[[jax.Array], jax.Array]:
    radii, centre = np.asarray(head.radii), np.asarray(head.centre)
    distance = np.linalg.norm(priors - centre, axis=1)
    if (distance >= radii[0]).any():
        index = int(distance.argmax())
        raise ValueError(
            f"source {index} lies {1000 * distance[index]:.1f} mm from the centre of the spheres, "
            f"outside the innermost one of {1000 * radii[0]:.1f} mm; move the source, or check "
            "the spheres and the transformation from MNI to head coordinates"
        )
    # Up to the surface of the innermost sphere, if positions may get there.
    reach = min(distance.max() + LARGEST_SHIFT, (radii[0] + distance.max()) / 2)
    n_terms = series_terms(reach / radii[-1])
    types = np.asarray(head.sensor_types)
    electric, magnetic = np.flatnonzero(types == "eeg"), np.flatnonzero(types != "eeg")
    order = np.argsort(np.r_[electric, magnetic])
    projection = None if head.projection is None else jnp.asarray(head.projection)

    def lead_field(positions: jax.Array) -> jax.Array:
        parts, shells = [], (radii, head.conductivities, centre)
        if electric.size:
            electrodes, reference = head.sensors[electric], head.average_reference
            parts.append(eeg_sphere_lead_field(positions, electrodes, *shells, n_terms, reference))
        if magnetic.size:
            coils = (head.coil_points, head.coil_normals, head.coil_weights)
            selected = [np.asarray(array)[magnetic] for array in coils]
            parts.append(meg_sphere_lead_field(positions, *selected, centre))
        sensors = jnp.concatenate(parts, axis=-2)[..., order, :]
        if projection is None:
            return sensors
        return jnp.einsum("ks,...sa->...ka", projection, sensors)

    return lead_field
