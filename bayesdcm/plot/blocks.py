"""Networks, or blocks, of regions: given by name, or clusters of regions with alike connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage

from bayesdcm.infer.findings import listed
from bayesdcm.plot.style import INK

# More regions than this have no room for numbers in cells, and names of all.
MANY = 20


@dataclass(frozen=True, eq=False)
class Blocks:
    """Regions in the order in which they are drawn, block by block."""

    order: NDArray  # of the regions, (regions,)
    names: list[str]  # of the blocks, in the order in which they are drawn
    sizes: list[int]

    @property
    def edges(self) -> NDArray:
        """Where blocks begin, and the last one ends, in the order, (blocks + 1,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @property
    def members(self) -> list[NDArray]:
        """Regions of each block."""
        return np.split(self.order, self.edges[1:-1])

    @property
    def middles(self) -> NDArray:
        """Middle of each block, as images have places, (blocks,)."""
        return (self.edges[:-1] + self.edges[1:] - 1) / 2


def read_blocks(groups: Any, regions: Sequence[str], strengths: NDArray) -> Blocks | None:
    """Blocks that were given by name, in the order of regions, or by their number.

    Strengths (to, from) are what regions are clustered by.
    """
    if groups is None:
        return None
    n = len(regions)
    if isinstance(groups, int | np.integer) and not isinstance(groups, bool):
        if not 2 <= groups <= n:
            raise ValueError(f"groups must be from 2 to {n} clusters of regions, got {groups}")
        return _clusters(int(groups), strengths)
    if isinstance(groups, Mapping):
        missing = [name for name in regions if name not in groups]
        if missing:
            raise ValueError(
                f"groups must have a network for each region; it lacks {listed(missing)}"
            )
        of_region = [str(groups[name]) for name in regions]
    elif isinstance(groups, Sequence | np.ndarray) and not isinstance(groups, str):
        of_region = [str(name) for name in groups]
    else:
        raise TypeError(
            "groups must be a number of clusters, a mapping from regions to networks, or a network "
            f"for each region, got {groups!r}"
        )
    if len(of_region) != n:
        raise ValueError(
            f"groups must have a network for each of {n} regions, got {len(of_region)}"
        )
    names = list(dict.fromkeys(of_region))
    members = [np.flatnonzero(np.array(of_region) == name) for name in names]
    return Blocks(np.concatenate(members), names, [len(each) for each in members])


def _clusters(count: int, strengths: NDArray) -> Blocks:
    """Clusters of regions whose connections, either way, are alike, by Ward's method."""
    sizes = np.abs(strengths) * (1 - np.eye(len(strengths)))
    sizes = (sizes + sizes.T) / max(sizes.max(), np.finfo(float).tiny)
    # Regions of a cluster are joined to one another, too, and to as much of everything.
    np.fill_diagonal(sizes, sizes.max(1))
    profiles = sizes / np.maximum(np.linalg.norm(sizes, axis=1, keepdims=True), 1e-12)
    tree = linkage(profiles, "ward", optimal_ordering=True)
    order, labels = leaves_list(tree), fcluster(tree, count, "maxclust")
    found = list(dict.fromkeys(labels[order].tolist()))
    return Blocks(order, [f"cluster {i + 1}" for i in range(len(found))],
                  [int((labels == label).sum()) for label in found])  # fmt: skip


def mark_blocks(ax: Axes, blocks: Blocks) -> None:
    """Draw lines between blocks of a matrix, and write their names beside it."""
    for edge in blocks.edges[1:-1] - 0.5:
        ax.axhline(edge, color=INK, linewidth=0.6)
        ax.axvline(edge, color=INK, linewidth=0.6)
    ax.set_yticks(blocks.middles, blocks.names, fontsize="small")
    ax.set_xticks(blocks.middles, blocks.names, fontsize="small", rotation=40, ha="right",
                  rotation_mode="anchor")  # fmt: skip
    ax.tick_params(length=0)
