"""Lead field between the points of a gridded forward model, as a smooth function of position.

About each source's prior position, a polynomial is fitted to the nearest points of the grid by
weighted least squares, once, in NumPy. What is left for traced code is one small polynomial, smooth
everywhere and cheap to differentiate, in place of a search among points.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import Delaunay, QhullError, cKDTree

# Third order from three times as many points as coefficients, weights falling as distance^-4.
# Largest error within 6 mm of the prior position, relative to the lead field's largest entry, in
# three concentric spheres of 92 mm (tests/observe/test_forward_grid.py): on a grid of 5 mm below
# 0.02 % at 40 mm from the centre and 0.2 % at 62 mm, on a grid of 10 mm below 0.1 % and 1 %.
# Second order is 2 to 10 times worse; fourth needs more points than there are near a boundary.
DEGREE = 3
# Powers of x, y and z in the terms of the polynomials, (terms, 3), the constant first.
_POWERS = (powers for powers in product(range(DEGREE + 1), repeat=3) if sum(powers) <= DEGREE)
EXPONENTS = np.array(sorted(_POWERS, key=sum))
N_NEAREST = 3 * len(EXPONENTS)
FEWEST_POINTS = int(1.5 * len(EXPONENTS))
# Nearest points closer than this fraction of the spacing are taken to be the position itself.
SAME_POINT = 1e-3


class LocalExpansion(NamedTuple):
    """Polynomials that stand for a gridded lead field about one position for each source."""

    centres: NDArray[np.float64]  # positions that they are about, (sources, 3), m
    spacing: NDArray[np.float64]  # unit of length, the spacing of the grid there, (sources,), m
    coefficients: NDArray[np.float64]  # (sources, terms, channels, 3), in the unit of the gain


def local_expansion(positions: NDArray, gain: NDArray, centres: ArrayLike) -> LocalExpansion:
    """Polynomials about centres, fitted to a gridded lead field.

    Points of the grid (points, 3), m, the gain there (channels, points, 3), and prior positions
    of sources (sources, 3), m. At a point of the grid, the polynomial takes that point's value.
    """
    if len(positions) < FEWEST_POINTS:
        raise ValueError(
            f"the grid has {len(positions)} points; interpolation needs at least {FEWEST_POINTS}. "
            "Give a finer grid."
        )
    tree, centres = cKDTree(positions), np.asarray(centres, float)
    fits = [_fit(tree, gain, centre, index) for index, centre in enumerate(centres)]
    spacing, coefficients = zip(*fits, strict=True)
    return LocalExpansion(centres, np.array(spacing), np.stack(coefficients))


def expanded_lead_field(expansion: LocalExpansion, positions: ArrayLike) -> jax.Array:
    """Lead field of each source near its prior position, (..., sources, channels, 3).

    `positions` are (..., sources, 3), m; the unit is that of the gain.
    """
    positions = jnp.asarray(positions)
    centres, spacing = expansion.centres, expansion.spacing[:, None]
    offset = positions - jnp.broadcast_to(centres, positions.shape)
    offset = offset / jnp.broadcast_to(spacing, offset.shape)
    # Powers by multiplication: derivatives at an offset of 0 are finite, those of 0**0 too.
    powers = [jnp.ones_like(offset)]
    for _ in range(DEGREE):
        powers.append(powers[-1] * offset)
    powers = jnp.stack(powers, axis=-1)
    x, y, z = (powers[..., axis, :][..., EXPONENTS[:, axis]] for axis in range(3))
    return jnp.einsum("...st,stca->...sca", x * y * z, expansion.coefficients)


def _fit(tree: cKDTree, gain: NDArray, centre: NDArray, index: int) -> tuple[float, NDArray]:
    """Spacing of the grid about a centre, and the coefficients of the polynomial there."""
    n_points = min(N_NEAREST, tree.n)
    distance, nearest = tree.query(centre, n_points)
    points = tree.data[nearest]
    spacing = float(np.median(tree.query(points, 2)[0][:, 1]))
    _check_inside(points, distance[0], spacing, centre, index)
    values = np.moveaxis(gain[:, nearest], 1, 0).reshape(n_points, -1)
    offset = (points - centre) / spacing
    design = np.prod(offset[:, None, :] ** EXPONENTS, axis=-1)
    # Square roots of the weights; 1/4 keeps the nearest point from ruling alone.
    weight = 1 / ((distance / spacing) ** 2 + 0.25)[:, None]
    coefficients = np.zeros((len(EXPONENTS), values.shape[1]))
    fixed = int(distance[0] < SAME_POINT * spacing)
    if fixed:  # the constant is known: the value at the point itself
        coefficients[0] = values[0]
    solved, _, rank, _ = np.linalg.lstsq(
        weight * design[:, fixed:], weight * (values - coefficients[0]), rcond=1e-10
    )
    if rank < design[:, fixed:].shape[1]:
        raise ValueError(
            f"the grid does not determine the lead field about source {index} at "
            f"{_millimetres(centre)} mm: its nearest points lie on too few planes. Give a "
            "volume grid."
        )
    coefficients[fixed:] = solved
    return spacing, coefficients.reshape(len(EXPONENTS), len(gain), 3)


def _check_inside(
    points: NDArray, distance: float, spacing: float, centre: NDArray, index: int
) -> None:
    if distance < SAME_POINT * spacing:
        return
    # In a full grid no place is farther from a point than half the diagonal of its cells.
    inside = distance <= 1.01 * np.sqrt(3) / 2 * spacing
    try:
        inside = inside and Delaunay(points).find_simplex(centre, tol=1e-9) >= 0
    except QhullError:  # all on one plane
        inside = False
    if not inside:
        raise ValueError(
            f"source {index} at {_millimetres(centre)} mm in head coordinates lies outside the "
            f"grid, whose nearest point is {1000 * distance:.1f} mm away (spacing "
            f"{1000 * spacing:.1f} mm); move the source, or extend the grid of the forward model"
        )


def _millimetres(position: NDArray) -> str:
    return "(" + ", ".join(f"{1000 * x:.1f}" for x in position) + ")"
