"""BOLD of a series by convolution with a haemodynamic response function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from bayesdcm.data.by_value import ByValue
from bayesdcm.observe.haemodynamic_kernels import KERNELS, Kernel
from bayesdcm.observe.streaming import SeriesObserver, in_windows, scan_clock

# Longest part of a scan for which the kernel has one value, s.
KERNEL_STEP = 0.01


class _Response(NamedTuple):
    scans: jax.Array  # (scans, regions)
    total: jax.Array  # sum of the activity, (regions,)
    seen: jax.Array  # steps so far


@dataclass(frozen=True)
class HrfConvolution(SeriesObserver):
    r"""BOLD as activity convolved with a haemodynamic response function.

    .. math:: y(t) = \int_0^{T} h(s)\, z(t - s)\, ds

    An integral over time: it does not depend on the step, and is 0 where activity z is.

    Parameters
    ----------
    kernel : str or Kernel
        ``"first_order_volterra"``, ``"gamma"``, ``"double_exponential"``,
        ``"mixture_of_gammas"``, or an object with other constants or of a class of your own.
    repetition_time : float
        Time from scan to scan, s, a whole number of steps; the first scan is after one.
    before : str or float
        Activity before the series: ``"mean"``, that of the whole series, so that steady activity
        has a steady response from the first scan on; or a number, such as 0 for silence.
    of : str
        Of a network: the state or signal; empty for the node's activity.
    name : str
        Of the result.
    unit : str
        Of the result.

    Raises
    ------
    ValueError
        If the kernel is not known, or a series is shorter than a scan.

    Notes
    -----
    Activity is averaged over equal parts of a scan of at most 10 ms, for which the kernel has its
    value in the middle.

    Examples
    --------
    >>> observer = HrfConvolution("gamma", repetition_time=1.0)
    >>> still, active = observer.series([[0.0, 1.0]] * 300, step=0.1)[0].tolist()
    >>> still, round(active, 4)
    (0.0, 0.399)
    """

    kernel: str | Kernel
    repetition_time: float
    before: str | float = "mean"
    of: str = ""
    name: str = "bold"
    unit: str = "a.u."

    def __post_init__(self) -> None:
        """Check the kernel, and what was before."""
        if not isinstance(self.kernel, Kernel) and self.kernel not in KERNELS:
            raise ValueError(
                f"kernel is {self.kernel!r}; expected one of {', '.join(KERNELS)}, or an object of "
                "a class derived from bayesdcm.observe.Kernel"
            )
        if isinstance(self.before, str) and self.before != "mean":
            raise ValueError(f"before is {self.before!r}; expected 'mean' or a number")

    def _response(self, parts: int, duration: float) -> NDArray:
        """Response to unit activity in each part of a scan, at its end and later scans' ends.

        Shape (scans that it reaches, parts).
        """
        kernel = self.kernel if isinstance(self.kernel, Kernel) else KERNELS[self.kernel]()
        scans = int(np.ceil(kernel.duration / (parts * duration) * (1 - 1e-12)))
        lag = (np.arange(scans * parts) + 0.5) * duration
        response = np.where(lag < kernel.duration, kernel(lag), 0.0) * duration
        return response.reshape(scans, parts)[:, ::-1]

    def start(self, shape: tuple[int, int], step: float) -> Any:
        """No response; see `SeriesObserver`."""
        size, parts, scans = scan_clock(self.repetition_time, step, KERNEL_STEP, shape)
        response = _Response(
            jnp.zeros((scans, shape[1])), jnp.zeros(shape[1]), jnp.zeros((), jnp.int32)
        )
        return response, ByValue((size, self._response(parts, size * step)))

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Responses with a further block added; see `SeriesObserver`."""
        (scans, total, seen), static = carry
        size, response = static.value
        reach, parts = response.shape
        placed = in_windows(activity, seen, size * parts)
        means = placed.reshape(len(placed), parts, size, -1).sum(2) / size
        first = seen // (size * parts) + jnp.arange(len(placed))

        def add(scans: jax.Array, later: tuple) -> tuple[jax.Array, None]:
            number, weights = later
            part = jnp.einsum("p,spr->sr", weights, means)
            return scans.at[first + number].add(part, mode="drop"), None

        scans, _ = lax.scan(add, scans, (jnp.arange(reach), jnp.asarray(response)))
        return _Response(scans, total + activity.sum(0), seen + len(activity)), static

    def finish(self, carry: Any) -> jax.Array:
        """Signal at the scans, shape (scans, regions); see `SeriesObserver`."""
        (scans, total, seen), static = carry
        _, response = static.value
        before = total / seen if self.before == "mean" else jnp.full_like(total, self.before)
        # What is left of the kernel when it reaches beyond the first scan, the second, ...
        left = np.zeros(len(scans))
        later = response.sum(1)[::-1].cumsum()[::-1][1 : len(scans) + 1]
        left[: len(later)] = later
        return scans + left[:, None] * before

    def result_coords(self, shape: tuple[int, int], step: float) -> dict[str, NDArray]:
        """Times of the scans, s; see `SeriesObserver`."""
        _, _, scans = scan_clock(self.repetition_time, step, KERNEL_STEP, shape)
        return {"time": (1 + np.arange(scans)) * self.repetition_time}
