"""Draws of a posterior at which the model does not diverge, and means over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.findings import add

# Predictions that lie this many times as far off the median as is usual, or as they reach, are of
# trajectories that diverge: they would be all that is left of a mean. Where distances scatter
# widely, as those of a posterior with heavy tails do, so many median deviations of their logarithm.
FARTHEST = 10.0
DEVIATIONS = 6.0
# Numbers of a block that is looked at at once.
BLOCK = 500_000


def finite_draws(values: NDArray) -> NDArray[np.bool_]:
    """Which draws are of trajectories that neither diverge nor are on their way to it, (draws,).

    A draw is left out that is not finite, or in one of the columns lies farther from the median
    over draws than ten times as far as the median itself varies, and as half of the draws do (or,
    where that is more, than six median deviations of the logarithm of distances allow). Values are
    predictions, (draws, ...); from three axes on, the last one holds columns, each of which is
    judged by its own size.

    >>> finite_draws(np.array([[1.0, 2.0], [1.1, 2.2], [0.9, 1.9], [1.0, 900.0], [np.nan, 1.0]]))
    array([ True,  True,  True, False, False])
    """
    columns = np.shape(values)[-1] if np.ndim(values) > 2 else 1
    if not np.size(values):
        return np.ones(len(values), bool)
    flat = np.reshape(values, (len(values), -1, columns))
    kept = np.isfinite(flat).all(axis=(1, 2))
    if not kept.any():
        return kept
    # Predictions at all draws are large: they are not copied where all draws are sound, and what is
    # worked out of them is so in blocks.
    sound = flat if kept.all() else flat[kept]
    middle, distance = np.empty(flat.shape[1:]), np.zeros((len(sound), columns))
    length = max(1, BLOCK // (len(sound) * columns))
    for start in range(0, len(middle), length):
        block = sound[:, start : start + length]
        middle[start : start + length] = centre = np.median(block, axis=0)
        with np.errstate(over="ignore"):
            np.maximum(distance, abs(block - centre).max(axis=1), out=distance)
    # Draws may be the same but for rounding.
    rounding = 1e-9 * np.abs(middle).max(axis=0) + np.finfo(float).tiny
    logarithm = np.log(np.maximum(distance, rounding))
    usual = np.median(logarithm, axis=0)
    scatter = np.median(np.abs(logarithm - usual), axis=0)
    limit = usual + np.maximum(np.log(FARTHEST), DEVIATIONS * scatter)
    reach = np.log(FARTHEST * np.maximum(np.ptp(middle, axis=0), rounding))
    kept[kept] = (logarithm <= np.maximum(limit, reach)).all(axis=1)
    return kept


def kept_draws(array: Any) -> tuple[NDArray, int]:
    """Draws (draws, ...) at which the model does not diverge, and how many are left out.

    The array has axes ``chain`` and ``draw``; where the model diverges at every draw, all are kept.
    """
    values = array.transpose("chain", "draw", ...).to_numpy()
    values = values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])
    kept = finite_draws(values)
    return (values[kept] if kept.any() and not kept.all() else values), int((~kept).sum())


def finite_mean(array: Any) -> NDArray:
    """Mean over the draws at which the model does not diverge; see `kept_draws`."""
    return kept_draws(array)[0].mean(0)


def left_out_text(left_out: int, total: int) -> str:
    """How many draws are left out, for titles; empty where none is."""
    return f"; without {left_out} of {total} draws that diverge" if left_out else ""


def check_divergence(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    """Say where means of predictions leave out more draws than have no density, as `Method.check`.

    ``left_out_draws`` among the facts is that of the site where they are most.
    """
    group = fit._groups.get("posterior_predictive")
    if group is None:
        return
    counts = {
        name.removesuffix("_fitted"): kept_draws(group[name])[1]
        for name in group.data_vars
        if name.endswith("_fitted")
    }
    if not counts:
        return
    site = max(counts, key=counts.__getitem__)
    facts["left_out_draws"] = counts[site]
    if counts[site] > facts.get("diverging_draws", 0):
        total = group.sizes["chain"] * group.sizes["draw"]
        add(
            problems,
            "predictions diverge at some draws",
            f"Predictions of {site} diverge, or nearly so, at {counts[site]} of {total} draws of "
            "the posterior, which means and figures of predictions leave out: it covers unstable "
            "parameters. Compare with method='nuts'.",
        )
