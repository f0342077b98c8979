"""Correlations of regions with each other's past, of series that are read block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.by_value import ByValue
from bayesdcm.observe.streaming import SeriesObserver, steps_of

__all__ = ["LaggedCorrelation"]


class _Sums(NamedTuple):
    offset: jax.Array
    recent: jax.Array
    # Of all samples, and by lag of those that have another one a lag before, and of the products.
    total: jax.Array
    squares: jax.Array
    later: jax.Array
    later_squares: jax.Array
    products: jax.Array
    seen: jax.Array


@dataclass(frozen=True)
class LaggedCorrelation(SeriesObserver):
    """Correlation of each region with each other one, a while ago.

    Means and standard deviations are those of the samples that have a partner. It tells which
    region leads, and by how much, so that delays show in it.

    Parameters
    ----------
    lags : tuple of float
        How long ago, s, whole numbers of steps; 0 for functional connectivity.
    of : str
        The state or signal; empty for the node's activity.
    name : str
        Of the result.

    Raises
    ------
    ValueError
        If a lag is negative or no whole number of steps.

    Examples
    --------
    >>> from bayesdcm.observe.streaming import streamed
    >>> first = np.random.default_rng(0).normal(size=4000)
    >>> series = np.stack([first, np.roll(first, 2)], axis=1)  # The second follows the first.
    >>> found = streamed(LaggedCorrelation((0.0, 0.02)), series, step=0.01, block=300)
    >>> np.abs(np.round(found[:, 1, 0], 1)).tolist()
    [0.0, 1.0]
    """

    lags: tuple[float, ...]
    of: str = ""
    name: str = "lagged_correlation"

    unit: ClassVar[str] = "correlation"
    result_dims: ClassVar[tuple[str, ...]] = ("lag", "region", "other region")

    def start(self, shape: tuple[int, int], step: float) -> Any:
        """Sums of nothing; see `SeriesObserver`."""
        steps = tuple(steps_of("lags", lag, step, least=0) for lag in self.lags)
        if not steps or max(steps) >= shape[0]:
            raise ValueError(
                f"lags is {self.lags}; expected at least one, all shorter than the series, which "
                f"lasts {shape[0] * step:g} s"
            )
        row, rows = jnp.zeros(shape[1]), jnp.zeros((len(steps), shape[1]))
        products = jnp.zeros((len(steps), shape[1], shape[1]))
        past = jnp.zeros((max(steps), shape[1]))
        nothing = jnp.zeros((), jnp.int32)
        return _Sums(row, past, row, row, rows, rows, products, nothing), ByValue(steps)

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Sums with a further block; see `SeriesObserver`."""
        sums, steps = carry
        # About the first sample, so that a constant offset does not cost digits.
        offset = jnp.where(sums.seen == 0, activity[0], sums.offset)
        rows = jnp.concatenate([sums.recent, activity - offset])
        reach, now = len(sums.recent), rows[len(sums.recent) :]
        # What was before the first sample counts as zero, and adds nothing.
        added = [now.T @ rows[reach - lag : len(rows) - lag] for lag in steps.value]
        place = sums.seen + jnp.arange(len(now))
        partnered = 1.0 * (place >= jnp.asarray(steps.value)[:, None])
        updated = _Sums(
            offset,
            rows[len(rows) - reach :],
            sums.total + now.sum(0),
            sums.squares + (now**2).sum(0),
            sums.later + partnered @ now,
            sums.later_squares + partnered @ now**2,
            sums.products + jnp.stack(added),
            sums.seen + len(activity),
        )
        return updated, steps

    def finish(self, carry: Any) -> jax.Array:
        """Correlations, shape (lags, regions, regions a while ago); see `SeriesObserver`."""
        sums, steps = carry
        pairs = (sums.seen - jnp.asarray(steps.value))[:, None]
        last = [sums.recent[len(sums.recent) - lag :] for lag in steps.value]
        earlier = sums.total - jnp.stack([part.sum(0) for part in last])
        earlier_squares = sums.squares - jnp.stack([(part**2).sum(0) for part in last])
        mean, mean_before = sums.later / pairs, earlier / pairs
        sd = jnp.sqrt(sums.later_squares / pairs - mean**2)
        sd_before = jnp.sqrt(earlier_squares / pairs - mean_before**2)
        outer = jax.vmap(jnp.outer)
        covariance = sums.products / pairs[..., None] - outer(mean, mean_before)
        return covariance / outer(sd, sd_before)

    def result_coords(self, shape: tuple[int, int], step: float) -> dict[str, NDArray]:
        """Lags, s; see `SeriesObserver`."""
        return {"lag": np.asarray(self.lags)}
