"""Observers of series that read them block by block, in memory that does not grow with time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.by_value import ByValue


class SeriesObserver(ABC):
    """What `bayesdcm.NetworkModel.simulate` takes as an observer, best a frozen dataclass.

    All is pure JAX with static shapes; blocks are of any length, and what comes out does not
    depend on it.

    Attributes
    ----------
    name : str
        Of the result.
    unit : str
        Of the result.
    of : str
        The state or signal that it sees; empty for the node's ``activity``.
    dims : tuple of str
        Axes of the result; ``"region"`` and ``"other region"`` are the network's.
    """

    name: str
    unit: str
    of: str = ""
    dims: ClassVar[tuple[str, ...]] = ("time", "region")

    @abstractmethod
    def start(self, shape: tuple[int, int], step: float) -> Any:
        """What is carried from block to block, at first.

        Parameters
        ----------
        shape : (int, int)
            Steps and regions of the whole series.
        step : float
            Length of a step, s.

        Returns
        -------
        pytree
            What the first `update` takes.
        """

    @abstractmethod
    def update(self, carry: Any, activity: jax.Array) -> Any:
        """What is carried after the next block.

        Parameters
        ----------
        carry : pytree
            From `start` or the last `update`.
        activity : jax.Array
            The next steps, shape (steps of the block, regions).

        Returns
        -------
        pytree
            What the next `update`, or `finish`, takes.
        """

    @abstractmethod
    def finish(self, carry: Any) -> jax.Array:
        """The result.

        Parameters
        ----------
        carry : pytree
            After the last block.

        Returns
        -------
        jax.Array
            With the axes `dims`.
        """

    def coords(self, shape: tuple[int, int], step: float) -> Mapping[str, ArrayLike]:
        """Coordinates of axes of the result that are not regions, by default none.

        Parameters
        ----------
        shape, step : (int, int), float
            As in `start`.

        Returns
        -------
        mapping of str to array_like
            By name of the axis.
        """
        return {}


def streamed(
    observer: SeriesObserver, series: ArrayLike, step: float, block: int = 1000
) -> jax.Array:
    """What an observer makes of a whole series, block by block.

    Parameters
    ----------
    observer : SeriesObserver
        The observer.
    series : array_like
        Shape (steps, regions).
    step : float
        Length of a step, s.
    block : int
        Steps of a block.

    Returns
    -------
    jax.Array
        What the observer's ``finish`` gives.

    Examples
    --------
    >>> rest = np.zeros((4, 2))
    >>> streamed(WindowMeans(interval=0.2), rest, step=0.1).shape
    (2, 2)
    """
    series = jnp.asarray(series, float)
    whole = len(series) // block * block
    carry = observer.start(series.shape, step)
    if whole:
        blocks = series[:whole].reshape(-1, block, series.shape[1])
        carry, _ = lax.scan(lambda c, rows: (observer.update(c, rows), None), carry, blocks)
    if whole < len(series):
        carry = observer.update(carry, series[whole:])
    return observer.finish(carry)


def steps_of(name: str, seconds: float, step: float, least: int = 1) -> int:
    """A time as a whole number of steps.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    seconds, step : float
        The time, and the length of a step, s.
    least : int
        Smallest number of steps.

    Returns
    -------
    int
        How many steps.

    Raises
    ------
    ValueError
        If it is not a whole number of steps, or too few.

    Examples
    --------
    >>> steps_of("duration", 0.2, 1e-4)
    2000
    """
    steps = round(seconds / step) if np.isfinite(seconds) else -1
    if steps < least or abs(steps * step - seconds) > 1e-6 * step:
        raise ValueError(
            f"{name} is {seconds:g} s; expected a whole number of steps of {step:g} s, at least "
            f"{least}"
        )
    return steps


class _Windows(NamedTuple):
    done: jax.Array
    seen: jax.Array


@dataclass(frozen=True)
class WindowMeans(SeriesObserver):
    """Means of a series over windows that follow each other.

    Parameters
    ----------
    interval : float
        Length of a window, s, a whole number of steps; a last window that is not full is left
        out.
    of : str
        The state or signal; empty for the node's activity.
    name : str
        Of the result.
    unit : str
        Of the series.

    Raises
    ------
    ValueError
        If the interval is not a whole number of steps.

    Examples
    --------
    >>> streamed(WindowMeans(0.2), [[1.0], [2.0], [3.0], [5.0]], step=0.1, block=3).tolist()
    [[1.5], [4.0]]
    """

    interval: float
    of: str = ""
    name: str = "activity"
    unit: str = ""

    def start(self, shape: tuple[int, int], step: float) -> Any:
        """Sums over windows, of nothing; see `SeriesObserver`."""
        size = steps_of("interval", self.interval, step)
        sums = jnp.zeros((-(-shape[0] // size), shape[1]))
        return _Windows(sums, jnp.zeros((), jnp.int32)), ByValue((size, shape[0] // size))

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Sums over windows with a further block; see `SeriesObserver`."""
        (done, seen), static = carry
        size, _ = static.value
        length = len(activity)
        # The block reaches into this many windows at most; sums up to their ends give their parts.
        rows = min(length // size + 2, len(done))
        first = jnp.minimum(seen // size, len(done) - rows)
        ends = jnp.clip((first + jnp.arange(rows + 1)) * size - seen, 0, length)
        upto = jnp.concatenate([jnp.zeros((1, activity.shape[1])), jnp.cumsum(activity, axis=0)])
        parts = jnp.diff(upto[ends], axis=0)
        now = lax.dynamic_slice_in_dim(done, first, rows) + parts
        done = lax.dynamic_update_slice_in_dim(done, now, first, axis=0)
        return _Windows(done, seen + length), static

    def finish(self, carry: Any) -> jax.Array:
        """Means, shape (windows, regions); see `SeriesObserver`."""
        (done, _), static = carry
        size, full = static.value
        return done[:full] / size

    def coords(self, shape: tuple[int, int], step: float) -> dict[str, NDArray]:
        """Ends of windows, s; see `SeriesObserver`."""
        size = steps_of("interval", self.interval, step)
        return {"time": (1 + np.arange(shape[0] // size)) * size * step}


class _Moments(NamedTuple):
    count: jax.Array
    mean: jax.Array
    products: jax.Array


@dataclass(frozen=True)
class StreamedCorrelation(SeriesObserver):
    """Pearson correlation between regions over the whole time (functional connectivity).

    Sums of products about the mean are carried, so that a constant offset does not cost digits.

    Parameters
    ----------
    of : str
        The state or signal; empty for the node's activity.
    name : str
        Of the result.

    References
    ----------
    .. [1] Chan, Golub and LeVeque (1983), The American Statistician 37:242.
           https://doi.org/10.1080/00031305.1983.10483115

    Examples
    --------
    >>> series = np.array([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]])
    >>> np.round(streamed(StreamedCorrelation(), series, step=0.1, block=2), 6).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """

    of: str = ""
    name: str = "functional_connectivity"

    unit: ClassVar[str] = "correlation"
    dims: ClassVar[tuple[str, ...]] = ("region", "other region")

    def start(self, shape: tuple[int, int], step: float) -> Any:
        """Moments of nothing; see `SeriesObserver`."""
        regions = shape[1]
        return _Moments(jnp.zeros(()), jnp.zeros(regions), jnp.zeros((regions, regions)))

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Moments with a further block; see `SeriesObserver`."""
        count, mean, products = carry
        total = count + len(activity)
        here = activity.mean(0)
        centred, shift = activity - here, here - mean
        between = count * len(activity) / total * jnp.outer(shift, shift)
        moved = mean + shift * len(activity) / total
        return _Moments(total, moved, products + centred.T @ centred + between)

    def finish(self, carry: Any) -> jax.Array:
        """Correlations, shape (regions, regions); see `SeriesObserver`."""
        sd = jnp.sqrt(jnp.diagonal(carry.products))
        return carry.products / jnp.outer(sd, sd)
