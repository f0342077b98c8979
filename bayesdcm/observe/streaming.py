"""Observers of series that read them block by block, in memory that does not grow with time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.by_value import ByValue
from bayesdcm.observe.labelled_series import known_interval, read_series


class SeriesObserver(ABC):
    """What `bayesdcm.NetworkModel.simulate` takes as an observer, best a frozen dataclass.

    All is pure JAX with static shapes; blocks are of any length, and what comes out does not
    depend on it. `series` applies it to a series that is there already.

    Attributes
    ----------
    name : str
        Of the result.
    unit, result_unit : str
        Of the result; the second is by default the first.
    of : str
        The state or signal that it sees; empty for the node's ``activity``.
    result_dims : tuple of str
        Axes of the result; ``"region"`` and ``"other region"`` are the network's.
    """

    name: str
    unit: str
    of: str = ""
    result_dims: ClassVar[tuple[str, ...]] = ("time", "region")

    @property
    def result_unit(self) -> str:
        """Unit of the result."""
        return self.unit

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

    def result_coords(self, shape: tuple[int, int], step: float) -> Mapping[str, ArrayLike]:
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

    def check_regions(self, names: Sequence[str]) -> None:  # noqa: B027
        """Raise ValueError where it is not for regions of these names, by default never.

        Parameters
        ----------
        names : sequence of str
            Of the regions of the series.
        """

    def series(self, series: Any, step: float | None = None) -> Any:
        """What it makes of a whole series, in one go.

        Parameters
        ----------
        series : array_like, xarray.DataArray or BoldData
            Shape (..., time, regions). The first sample is taken to be the state after one step.
        step : float, optional
            Time from sample to sample, s; not needed where labels tell it.

        Returns
        -------
        jax.Array or xarray.DataArray
            As `finish` gives it, after the leading axes; labelled if the series is.

        Raises
        ------
        ValueError
            If values are missing or infinite, or if step is missing or disagrees with the labels.
        """
        values, labels = read_series(series, may_be_constant=True)
        step = known_interval(step, labels.sampling_interval, "step")
        self.check_regions(labels.coords.get(labels.axis, ()))
        lead, shape = values.shape[:-2], values.shape[-2:]
        result = _in_one_go(ByValue(self), values.reshape(-1, *shape), step)
        result = result.reshape(lead + result.shape[1:])
        if not labels.axis:
            return result
        coords = dict(self.result_coords(shape, step))
        if "time" in coords and labels.start is not None:
            coords["time"] = coords["time"] + (labels.start - step)
        labelled = labels.attach(result, self.result_dims, **coords).rename(self.name)
        if "time" in labelled.coords:
            labelled.time.attrs["units"] = "s"
        return labelled.assign_attrs(units=self.result_unit)


@partial(jax.jit, static_argnames=("observer", "step"))
def _in_one_go(observer: ByValue[SeriesObserver], stack: jax.Array, step: float) -> jax.Array:
    def one(series: jax.Array) -> jax.Array:
        carry = observer.value.start(series.shape, step)
        return observer.value.finish(observer.value.update(carry, series))

    return jax.vmap(one)(stack)


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


def scan_clock(
    repetition_time: float | None, step: float, longest: float, shape: tuple[int, int]
) -> tuple[int, int, int]:
    """How scans and equal parts of them divide the steps of a series.

    Parameters
    ----------
    repetition_time : float or None
        Time from scan to scan, s, a whole number of steps; None: a scan after each step.
    step : float
        Length of a step, s.
    longest : float
        Longest part, s, unless a step is longer.
    shape : (int, int)
        Steps and regions of the whole series.

    Returns
    -------
    size, parts, scans : int
        Steps of a part, parts of a scan, and whole scans.

    Raises
    ------
    ValueError
        If the repetition time is not a whole number of steps, or longer than the series.

    Examples
    --------
    >>> scan_clock(0.72, 1e-4, 0.01, shape=(20_000, 2))
    (100, 72, 2)
    """
    steps = 1
    if repetition_time is not None:
        steps = steps_of("repetition_time", repetition_time, step)
    if steps > shape[0]:
        raise ValueError(
            f"repetition_time is {repetition_time:g} s, but the series lasts "
            f"{shape[0] * step:g} s; expected at least one scan. Simulate for longer."
        )
    most = max(int(longest / step * (1 + 1e-9)), 1)
    size = max(n for n in range(1, min(most, steps) + 1) if steps % n == 0)
    return size, steps // size, shape[0] // steps


def in_windows(rows: jax.Array, seen: jax.Array, size: int) -> jax.Array:
    """Rows of a block, put into the windows of equal length where they belong.

    Parameters
    ----------
    rows : jax.Array
        Shape (rows, columns).
    seen : jax.Array
        How many rows came before this block; the first window begins with the first of all.
    size : int
        Rows of a window.

    Returns
    -------
    jax.Array
        Shape (windows, size, columns), with zeros where other blocks have rows; the first is
        window ``seen // size``.

    Examples
    --------
    >>> in_windows(jnp.ones((3, 1)), jnp.asarray(5), 2)[..., 0].tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    windows = (len(rows) + size - 2) // size + 1
    empty = jnp.zeros((windows * size, rows.shape[1]), rows.dtype)
    placed = lax.dynamic_update_slice_in_dim(empty, rows, seen % size, axis=0)
    return placed.reshape(windows, size, -1)


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
        If the interval is not a whole number of steps, or longer than the series.

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
        if size > shape[0]:
            raise ValueError(
                f"interval is {self.interval:g} s, but the series lasts {shape[0] * step:g} s; "
                "expected at least one window. Simulate for longer, or take shorter windows "
                "(sampling_interval)."
            )
        sums = jnp.zeros((shape[0] // size, shape[1]))
        return _Windows(sums, jnp.zeros((), jnp.int32)), ByValue(size)

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Sums over windows with a further block; see `SeriesObserver`."""
        (done, seen), size = carry
        parts = in_windows(activity, seen, size.value).sum(1)
        into = seen // size.value + jnp.arange(len(parts))
        return _Windows(done.at[into].add(parts, mode="drop"), seen + len(activity)), size

    def finish(self, carry: Any) -> jax.Array:
        """Means, shape (windows, regions); see `SeriesObserver`."""
        (done, _), size = carry
        return done / size.value

    def result_coords(self, shape: tuple[int, int], step: float) -> dict[str, NDArray]:
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
    result_dims: ClassVar[tuple[str, ...]] = ("region", "other region")

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
