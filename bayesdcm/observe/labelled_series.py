"""Series as measures take them: arrays, labelled arrays of simulations, BOLD data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data import BoldData
from bayesdcm.data.validation import describe

__all__ = ["Labels", "known_interval", "read_series"]

# Axes of things that have signals; otherwise it is the last axis that is not time.
_COLUMNS = ("region", "channel", "source")
# Times of a labelled series that differ by more than this share are not equally spaced.
_UNEVEN = 1e-6


@dataclass(frozen=True)
class Labels:
    """What is known of a series beyond its numbers.

    Attributes
    ----------
    axis : str
        What its last axis counts, ``"region"`` or ``"channel"``; empty where nothing is known.
    coords : mapping of str to array_like
        Names along the last and the leading axes.
    leading : tuple of str
        Axes before time.
    sampling_interval, start : float or None
        Time from sample to sample, and time of the first, in s.
    """

    axis: str = ""
    coords: Mapping[str, Any] = field(default_factory=dict)
    leading: tuple[str, ...] = ()
    sampling_interval: float | None = None
    start: float | None = None

    def times(self, samples: np.ndarray) -> np.ndarray:
        """Times of samples by number, s, where the sampling interval is known."""
        return (self.start or 0.0) + self.sampling_interval * samples

    def attach(self, values: jax.Array, axes: Sequence[str], **coords: Any) -> Any:
        """A labelled array, where there are labels; the array itself, where there are none.

        Axes called ``"region"`` get the names of the series' last axis, whatever that counts.
        """
        if not self.axis:
            return values
        import xarray as xr

        axes = [axis.replace("region", self.axis) for axis in axes]
        names = self.coords.get(self.axis)
        if names is not None:
            coords |= {axis: names for axis in axes if axis.endswith(self.axis)}
        coords |= {axis: self.coords[axis] for axis in self.leading if axis in self.coords}
        return xr.DataArray(np.asarray(values), dims=(*self.leading, *axes), coords=coords)


def read_series(series: Any, may_be_constant: bool = False) -> tuple[jax.Array, Labels]:
    """Numbers and labels of a series.

    Parameters
    ----------
    series : array_like, xarray.DataArray or BoldData
        Shape (..., time, regions); a labelled array with the axis ``"time"`` in any order.
    may_be_constant : bool
        Whether signals that do not vary are fine.

    Returns
    -------
    values : jax.Array, shape (..., time, regions)
        Its numbers.
    labels : Labels
        What else is known of it.

    Raises
    ------
    TypeError
        If it does not hold numbers.
    ValueError
        If it has no axis of time, only one sample, or, where that can be known now and it is a
        single series, values that are missing, infinite or constant.

    Examples
    --------
    >>> values, labels = read_series(np.arange(6.0).reshape(3, 2))
    >>> values.shape, labels.axis
    ((3, 2), '')
    """
    labels = Labels()
    if isinstance(series, BoldData):
        labels = Labels("region", {"region": list(series.region_names or ())},
                        sampling_interval=series.repetition_time)  # fmt: skip
        series = series.signal
    elif isinstance(getattr(series, "dims", None), tuple):
        series, labels = _from_xarray(series)
    try:
        values = jnp.asarray(series, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"series must be numbers over (time, regions), got {describe(series)}; of a data set "
            "of a simulation take one variable, such as simulated['bold']"
        ) from error
    if values.ndim < 2 or values.shape[-2] < 2:
        raise ValueError(
            f"series has shape {values.shape}; expected (time, regions) with at least two samples. "
            "Give a single region as series[:, None]"
        )
    if values.ndim == 2 and not isinstance(values, jax.core.Tracer):
        _check_values(np.asarray(values), may_be_constant)
    return values, labels


def known_interval(
    given: float | None, labelled: float | None, name: str = "sampling_interval"
) -> float:
    """The sampling interval, from the argument of that name or the labels; they must agree."""
    if given is None and labelled is None:
        raise ValueError(
            f"{name} is missing: arrays do not tell their times; give the time from "
            "sample to sample in s"
        )
    if given is not None and labelled is not None and not np.isclose(given, labelled):
        raise ValueError(
            f"{name} is {given:g} s, but the series is labelled with steps of "
            f"{labelled:g} s; leave it out"
        )
    interval = float(labelled if given is None else given)
    if not interval > 0:
        raise ValueError(f"{name} must be above 0 s, got {interval:g}")
    return interval


def _check_values(values: np.ndarray, may_be_constant: bool) -> None:
    if not np.isfinite(values).all():
        time, region = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(
            f"series has {int((~np.isfinite(values)).sum())} entries that are NaN or infinite, the "
            f"first at index ({time}, {region}) of (time, region); a simulation that diverges has"
        )
    constant = np.ptp(values, axis=0) == 0
    if constant.any() and not may_be_constant:
        raise ValueError(
            f"series is constant in {int(constant.sum())} column(s), the first in column "
            f"{int(np.flatnonzero(constant)[0])}; expected signals that vary. Leave them out."
        )


def _from_xarray(series: Any) -> tuple[Any, Labels]:
    dims = [str(dim) for dim in series.dims]
    if "time" not in dims or len(dims) < 2:
        raise ValueError(
            f"series has the axes {tuple(dims)}; expected 'time' and one of regions or channels"
        )
    others = [dim for dim in dims if dim != "time"]
    axis = next((dim for dim in others if dim in _COLUMNS), others[-1])
    leading = [dim for dim in others if dim != axis]
    interval = start = None
    if "time" in series.coords:
        times = np.asarray(series["time"], dtype=float)
        steps, start = np.diff(times), float(times[0])
        if len(steps) and np.ptp(steps) > _UNEVEN * abs(steps[0]):
            raise ValueError(
                f"the times of series are not equally spaced: steps from {steps.min():g} to "
                f"{steps.max():g} s. Interpolate it first."
            )
        interval = float(steps.mean()) if len(steps) else None
    coords = {dim: np.asarray(series[dim]) for dim in (*leading, axis) if dim in series.coords}
    values = series.transpose(*leading, "time", axis).data
    return values, Labels(axis, coords, tuple(leading), interval, start)
