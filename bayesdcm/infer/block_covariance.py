"""Covariances of many parameters that come apart into blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.threads import single_threaded_linear_algebra

# Parameters up to which a matrix of all of them is made.
MOST_DENSE = 8000


@dataclass(frozen=True, eq=False)
class BlockCovariance:
    """A covariance that is 0 between parameters of different blocks.

    Parameters
    ----------
    places : sequence of ndarray of int
        Which parameters each block is of; every one is in one of them.
    blocks : sequence of ndarray
        Covariance of each block.
    sizes : ndarray of int, optional
        As files have it, in which places of all blocks come one after the other, and so do rows of
        their lower triangles: the size of each block.

    Examples
    --------
    >>> matrix = BlockCovariance([np.array([0, 2]), np.array([1])], [np.eye(2), np.full((1, 1), 4.0)])
    >>> matrix.dense().diagonal().tolist()
    [1.0, 4.0, 1.0]
    """  # noqa: E501

    places: Sequence[NDArray]
    blocks: Sequence[NDArray]
    sizes: NDArray | None = None

    def __post_init__(self) -> None:
        if self.sizes is None:
            return
        sizes = np.asarray(self.sizes)
        places = np.split(np.asarray(self.places), np.cumsum(sizes)[:-1])
        triangles = np.split(np.asarray(self.blocks), np.cumsum(sizes * (sizes + 1) // 2)[:-1])
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "blocks", [_square(each) for each in triangles])

    def _asdict(self) -> dict[str, Any]:
        """As files have it."""
        triangles = [block[np.tril_indices(len(block))] for block in self.blocks]
        return {
            "places": np.concatenate(self.places),
            "blocks": np.concatenate(triangles),
            "sizes": np.array([len(places) for places in self.places]),
        }

    @property
    def shape(self) -> tuple[int, int]:
        """That of the whole matrix."""
        size = sum(map(len, self.places))
        return size, size

    def diagonal(self) -> NDArray[np.float64]:
        """Variances of all parameters."""
        return self._gathered([np.diagonal(block) for block in self.blocks])

    @cached_property
    def factors(self) -> list[NDArray]:
        """Cholesky factor of each block."""
        with single_threaded_linear_algebra():
            return [np.linalg.cholesky(block) for block in self.blocks]

    def dense(self) -> NDArray[np.float64]:
        """The whole matrix.

        Raises
        ------
        ValueError
            Of more than 8000 parameters.
        """
        size = self.shape[0]
        if size > MOST_DENSE:
            raise ValueError(
                f"the covariance of all {size} parameters would take "
                f"{8 * size**2 / 1e9:.0f} GB; take that of some of them, "
                "fit.posterior.gaussian[1][np.ix_(places, places)]"
            )
        return self[np.ix_(np.arange(size), np.arange(size))]

    def __getitem__(self, index: Any) -> NDArray[np.float64]:
        """Covariance of some parameters with others, by an index as `numpy.ix_` makes it."""
        rows, columns = (np.ravel(each) for each in index)
        result = np.zeros((len(rows), len(columns)))
        block, place = self._where
        for k in np.unique(block[rows]):
            mine, theirs = block[rows] == k, block[columns] == k
            part = self.blocks[k][np.ix_(place[rows[mine]], place[columns[theirs]])]
            result[np.ix_(np.flatnonzero(mine), np.flatnonzero(theirs))] = part
        return result

    @single_threaded_linear_algebra()
    def correlated(self, noise: NDArray) -> NDArray[np.float64]:
        """White noise (draws, parameters) as noise of this covariance."""
        result = np.empty_like(noise)
        for places, factor in zip(self.places, self.factors, strict=True):
            result[:, places] = noise[:, places] @ factor.T
        return result

    @single_threaded_linear_algebra()
    def white(self, away: NDArray) -> NDArray[np.float64]:
        """The inverse of `correlated`."""
        result = np.empty_like(away)
        for places, factor in zip(self.places, self.factors, strict=True):
            result[:, places] = np.linalg.solve(factor, away[:, places].T).T
        return result

    @property
    def half_log_determinant(self) -> float:
        """Half of the logarithm of the determinant."""
        return float(sum(np.log(np.diagonal(factor)).sum() for factor in self.factors))

    @cached_property
    def _where(self) -> tuple[NDArray, NDArray]:
        """Block of each parameter, and its place there."""
        numbers = [np.full(len(places), k) for k, places in enumerate(self.places)]
        within = [np.arange(len(places)) for places in self.places]
        return self._gathered(numbers).astype(int), self._gathered(within).astype(int)

    def _gathered(self, parts: Sequence[NDArray]) -> NDArray[np.float64]:
        result = np.zeros(self.shape[0])
        for places, part in zip(self.places, parts, strict=True):
            result[places] = part
        return result


def _square(block: NDArray) -> NDArray[np.float64]:
    """A block of its lower triangle."""
    size = int(np.sqrt(2 * len(block)))
    whole = np.zeros((size, size))
    whole[np.tril_indices(size)] = block
    return whole + np.tril(whole, -1).T


def diagonal_covariance(variance: NDArray) -> BlockCovariance:
    """Of parameters that are independent.

    >>> diagonal_covariance(np.array([1.0, 2.0])).dense().tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    return BlockCovariance(np.arange(len(variance))[:, None], np.asarray(variance)[:, None, None])


def variances(covariance: NDArray | BlockCovariance) -> NDArray[np.float64]:
    """The diagonal of a covariance of either kind."""
    if isinstance(covariance, BlockCovariance):
        return covariance.diagonal()
    return np.diagonal(covariance)
