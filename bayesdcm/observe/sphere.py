"""Lead field of current dipoles in concentric spheres: potentials by series, fields in closed form.

The potential at the surface is a sum of solid harmonics of the dipole's position x (in units of
the outer radius), ``S_n = |x|^n P_n(cos)``. These are polynomials in x, and so are their gradients
``D_n e - D_(n-1) x`` with ``D_n = |x|^(n-1) P_n'(cos)``, e being the direction of the electrode.
Both follow from three-term recursions without a division by a length or a sine: nothing is
singular at the centre, nor where dipole and electrode lie on one radius, and derivatives of any
order exist.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

# Terms of the series: the error is below 1e-10 of the largest entry for dipoles up to 0.9 of the
# outer radius away from the centre (tests/observe/test_sphere.py measures it).
N_TERMS = 250
MAGNETIC_CONSTANT = 4e-7 * np.pi  # vacuum permeability, T m/A, before 2019's 2e-10 correction


def eeg_sphere_lead_field(
    positions: ArrayLike,
    electrodes: ArrayLike,
    radii: ArrayLike,
    conductivities: ArrayLike,
    centre: ArrayLike = (0.0, 0.0, 0.0),
    n_terms: int = N_TERMS,
    average_reference: bool = True,
) -> jax.Array:
    """Potential that current dipoles in concentric spheres cause at electrodes.

    Parameters
    ----------
    positions : array_like
        Dipoles, shape (..., 3), m. They must lie within the innermost sphere; what comes for
        others is a smooth continuation without meaning.
    electrodes : array_like
        Shape (channels, 3), m; projected on the outer sphere along their radius. A constant: not
        traced.
    radii : array_like
        Of the shells, from the inner to the outer one, shape (shells,), m.
    conductivities : array_like
        Shape (shells,), S/m.
    centre : array_like
        Of the spheres, shape (3,), m.
    n_terms : int
        Terms of the series. The default holds 1e-10 of the largest entry up to 0.9 of the outer
        radius; `series_terms` tells how few do for dipoles nearer to the centre. 60 are
        FieldTrip's, and hence SPM's.
    average_reference : bool
        Subtract the mean over channels.

    Returns
    -------
    jax.Array
        Shape (..., channels, 3), V/(A m).

    Raises
    ------
    ValueError
        If shapes disagree, radii do not increase, or an electrode lies at the centre.

    References
    ----------
    .. [1] de Munck and Peters (1993), IEEE Trans Biomed Eng 40:1166.
           https://doi.org/10.1109/10.245635

    Examples
    --------
    >>> field = eeg_sphere_lead_field([0, 0, 0.05], [[0, 0, 0.1], [0, 0.1, 0]], [0.1], [0.33])
    >>> field.shape
    (2, 3)
    """
    radii, conductivities = _check_shells(radii, conductivities)
    if n_terms < 2:
        raise ValueError(f"n_terms must be at least 2, got {n_terms}")
    centre = _check_points("centre", centre, 1)
    directions = _check_points("electrodes", electrodes, 2) - centre
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    if not np.all(length > 0):
        raise ValueError(
            "electrodes must have a direction from the centre of the spheres, got one that lies "
            "on it; check that electrodes and centre share a coordinate frame"
        )
    weights = shell_weights(radii, conductivities, n_terms)
    scaled = _from_centre(positions, centre) / radii[-1]
    directions, weights = jnp.asarray(directions / length), jnp.asarray(weights)
    field = _series_at_each(scaled, directions, weights)
    return field - field.mean(-2, keepdims=True) if average_reference else field


def shell_weights(radii: ArrayLike, conductivities: ArrayLike, n_terms: int) -> NDArray[np.float64]:
    """Weight of each solid harmonic in the potential at the surface, 1/(S m), (n_terms,).

    The potential is ``sum_n w_n q . grad S_n``, n from 1. Radii, m, and conductivities, S/m, are
    from the inner to the outer shell. Each shell adds one step of a recursion from the surface,
    where no current leaves, to the innermost sphere, where the dipole fixes the scale; powers of
    ratios of radii are kept below 1, so that nothing overflows.

    Examples
    --------
    >>> shell_weights([1.0], [1 / (4 * np.pi)], 3).round(4).tolist()  # (2 n + 1) / n
    [3.0, 2.5, 2.3333]
    """
    n = np.arange(1, n_terms + 1, dtype=float)
    potential, current = np.ones(n_terms), np.zeros(n_terms)
    for shell in range(len(radii) - 1, -1, -1):
        # r^n and r^-(n+1) at the outer boundary of this shell.
        growing = ((n + 1) * potential + current / conductivities[shell]) / (2 * n + 1)
        decaying = (n * potential - current / conductivities[shell]) / (2 * n + 1)
        if shell > 0:
            growing = growing * (radii[shell - 1] / radii[shell]) ** (2 * n + 1)
            potential = growing + decaying
            current = conductivities[shell] * (n * growing - (n + 1) * decaying)
    return 1 / (4 * np.pi * conductivities[0] * radii[-1] ** 2 * decaying)


def series_terms(eccentricity: float, tolerance: float = 1e-10) -> int:
    """How many terms of the series, at least 16, hold a tolerance.

    The eccentricity is the largest distance of a dipole from the centre in units of the outer
    radius, the tolerance an error relative to the largest entry of the lead field.

    Examples
    --------
    >>> series_terms(0.7), series_terms(0.9)
    (74, 250)
    """
    if not 0 <= eccentricity < 1:
        raise ValueError(
            f"eccentricity must be at least 0 and below 1 (a dipole inside the spheres), got "
            f"{eccentricity}"
        )
    # Term n grows as n e^(n-1) and the whole sum as 1/(1-e)^2; the rest after N terms, relative
    # to the sum, is (1 + N (1 - e)) e^N.
    n = np.arange(1, 100_000)
    rest = (1 + n * (1 - eccentricity)) * float(eccentricity) ** n
    return max(16, int(n[rest < tolerance][0]))


def _series(x: jax.Array, directions: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum of w_n grad S_n at position x: ``e sum_n w_n D_n - x sum_n w_(n+1) D_n``."""
    cosine, square = directions @ x, x @ x
    following = jnp.append(weights[1:], 0.0)
    order = jnp.arange(2, len(weights) + 1, dtype=float)

    def add_term(carry: tuple, term: tuple) -> tuple:
        before, last, slope, along, across = carry
        n, weight, next_weight = term
        slope = cosine * slope + n * last
        harmonic = ((2 * n - 1) * cosine * last - (n - 1) * square * before) / n
        along, across = along + weight * slope, across + next_weight * slope
        return (last, harmonic, slope, along, across), None

    one = jnp.ones_like(cosine)
    start = (one, cosine, one, weights[0] * one, following[0] * one)
    terms = (order, weights[1:], following[1:])
    (*_, along, across), _ = jax.lax.scan(add_term, start, terms)
    return along[:, None] * directions - across[:, None] * x[None, :]


@jax.jit
def _series_at_each(positions: jax.Array, directions: jax.Array, weights: jax.Array) -> jax.Array:
    return _at_each(lambda x: _series(x, directions, weights), positions)


def meg_sphere_lead_field(
    positions: ArrayLike,
    points: ArrayLike,
    normals: ArrayLike,
    weights: ArrayLike,
    centre: ArrayLike = (0.0, 0.0, 0.0),
) -> jax.Array:
    """Magnetic field of current dipoles in a sphere, summed over the points of each coil.

    Radii and conductivities do not matter outside a sphere. Radial dipoles are silent.

    Parameters
    ----------
    positions : array_like
        Dipoles, shape (..., 3), m.
    points : array_like
        Integration points of each coil, shape (channels, points, 3), m. A constant: not traced.
    normals : array_like
        Unit vectors along which the field is measured there, shape (channels, points, 3).
    weights : array_like
        Weight of each point, shape (channels, points): of sum 1 for a magnetometer, in 1/m for a
        planar gradiometer. Points of weight 0 do not count, wherever they are.
    centre : array_like
        Of the sphere, shape (3,), m.

    Returns
    -------
    jax.Array
        Shape (..., channels, 3), T/(A m), or T/m/(A m) for gradiometers.

    Raises
    ------
    ValueError
        If shapes disagree, or a point lies at the centre.

    References
    ----------
    .. [1] Sarvas (1987), Phys Med Biol 32:11. https://doi.org/10.1088/0031-9155/32/1/004

    Examples
    --------
    >>> coil = dict(points=[[[0, 0, 0.12]]], normals=[[[1, 0, 0]]], weights=[[1.0]])
    >>> meg_sphere_lead_field([0, 0, 0.07], **coil).shape
    (1, 3)
    """
    centre = _check_points("centre", centre, 1)
    points = _check_points("points", points, 3) - centre
    normals, weights = _check_points("normals", normals, 3), np.asarray(weights, float)
    if normals.shape != points.shape or weights.shape != points.shape[:2]:
        raise ValueError(
            f"normals and weights must have shapes {points.shape} and {points.shape[:2]}, as "
            f"points has, got {normals.shape} and {weights.shape}"
        )
    used = weights != 0
    if not np.all(np.linalg.norm(points[used], axis=-1) > 0):
        raise ValueError(
            "points must lie outside the sphere, got one at its centre; check that points and "
            "centre share a coordinate frame"
        )
    # Only points that count: the rest may lie anywhere, where the formula is singular, too.
    summed = np.zeros((len(points), used.sum()))
    summed[np.nonzero(used)[0], np.arange(used.sum())] = weights[used]
    x = _from_centre(positions, centre)
    used_points, used_normals = jnp.asarray(points[used]), jnp.asarray(normals[used])
    field = _sarvas_at_each(x, used_points, used_normals)
    return MAGNETIC_CONSTANT / (4 * np.pi) * jnp.einsum("cp,...pa->...ca", summed, field)


def _sarvas(x: jax.Array, points: jax.Array, normals: jax.Array) -> jax.Array:
    """Sarvas' field along the normals, 4 pi / mu_0 T/(A m), as a row vector on the moment."""
    radius = jnp.sqrt((points**2).sum(-1))
    apart = points - x[None, :]
    distance = jnp.sqrt((apart**2).sum(-1))
    along = (apart * points).sum(-1)
    F = distance * (radius * distance + along)
    to_point = distance**2 / radius + along / distance + 2 * distance + 2 * radius
    to_dipole = distance + 2 * radius + along / distance
    gradient = to_point[:, None] * points - to_dipole[:, None] * x[None, :]
    # n . (F q x x0 - (q x x0 . r) grad F) / F^2 = q . (x0 x v)
    across = F[:, None] * normals - (gradient * normals).sum(-1)[:, None] * points
    return jnp.cross(jnp.broadcast_to(x[None, :], across.shape), across) / (F**2)[:, None]


@jax.jit
def _sarvas_at_each(positions: jax.Array, points: jax.Array, normals: jax.Array) -> jax.Array:
    return _at_each(lambda x: _sarvas(x, points, normals), positions)


def _from_centre(positions: ArrayLike, centre: NDArray) -> jax.Array:
    positions = jnp.asarray(positions, float)
    if positions.ndim < 1 or positions.shape[-1] != 3:
        raise ValueError(f"positions must have shape (..., 3), got {positions.shape}")
    return positions - jnp.broadcast_to(centre, positions.shape)


def _at_each(field: Callable[[jax.Array], jax.Array], positions: jax.Array) -> jax.Array:
    """Apply a function of one position to all, whatever their leading axes."""
    fields = jax.vmap(field)(positions.reshape(-1, 3))
    return fields.reshape(*positions.shape[:-1], *fields.shape[1:])


def _check_points(name: str, points: ArrayLike, ndim: int) -> NDArray[np.float64]:
    points = np.asarray(points, float)
    if points.ndim != ndim or points.shape[-1] != 3 or points.size == 0:
        expected = {1: "(3,)", 2: "(k, 3)", 3: "(channels, points, 3)"}[ndim]
        raise ValueError(f"{name} must have shape {expected}, got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return points


def _check_shells(radii: ArrayLike, conductivities: ArrayLike) -> tuple[NDArray, NDArray]:
    radii, conductivities = np.asarray(radii, float), np.asarray(conductivities, float)
    if radii.ndim != 1 or radii.shape != conductivities.shape or radii.size == 0:
        raise ValueError(
            f"radii and conductivities must have one entry a shell, got shapes {radii.shape} and "
            f"{conductivities.shape}"
        )
    if not (np.all(radii > 0) and np.all(np.diff(radii) > 0)):
        raise ValueError(
            f"radii must be positive and increase from the inner to the outer shell, got "
            f"{radii.tolist()}"
        )
    if not np.all(conductivities > 0):
        raise ValueError(f"conductivities must be positive, got {conductivities.tolist()}")
    return radii, conductivities
