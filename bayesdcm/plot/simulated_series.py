"""Series of a simulation or a recording: one row a region or a channel."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from bayesdcm.plot.series import power_of_thousand, superscript
from bayesdcm.plot.style import INK, MUTED, colour, name_rows, panel_title, tidy

# More points than this along time are thinned out to the range within each.
MOST_POINTS = 2000
# More rows than this overlap, and are named by every second, third, ... of them.
MOST_NAMES = 30
# Height of the largest curve in rows.
ALONE, OVERLAPPING = 0.9, 3.0


def plot_simulated_series(
    series: Any,
    recorded: Any = None,
    *,
    labels: tuple[str, str] = ("simulated", "recorded"),
    ax: Axes | None = None,
) -> Axes:
    """Draw series in rows of equal scale, each about its mean.

    Where there are more samples than the figure can show, the range within each short stretch is
    drawn, so that no peak is lost.

    Parameters
    ----------
    series : xarray.DataArray
        With the axis ``time`` (s) and one other, of regions or channels, such as a variable of what
        `bayesdcm.NetworkModel.simulate` returns.
    recorded : xarray.DataArray, optional
        A recording, or another simulation, with the same rows, drawn with it; both are then scaled
        to the same standard deviation, because units of simulations are seldom those of recordings.
    labels : (str, str)
        What the two are in the legend.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One row a region or channel, with a bar for the scale where there is no recording.

    Raises
    ------
    TypeError, ValueError
        If a series has no axis ``time`` or not one other axis, or rows differ.
    """
    given = {"simulated": series, "recorded": recorded}
    given = {name: _rows_last(value, name) for name, value in given.items() if value is not None}
    rows = given["simulated"].dims[1]
    names = [str(name) for name in given["simulated"][rows].values]
    if recorded is not None and names != [str(n) for n in given["recorded"][rows].values]:
        raise ValueError(
            "recorded must have the rows of series, in the same order; got "
            f"{given['recorded'].shape[1]} and {len(names)} rows, or other names"
        )
    if ax is None:
        height = 1.2 + min(0.42 * len(names), 9)
        _, ax = plt.subplots(figsize=(9.5, height), layout="constrained")
    curves = {name: each.values - each.values.mean(0) for name, each in given.items()}
    if recorded is not None:
        curves = {name: curve / curve.std() for name, curve in curves.items()}
    unit = given["simulated"].attrs.get("units", "") if recorded is None else "sd"
    height = ALONE if len(names) <= MOST_NAMES else OVERLAPPING
    rows_of_one = height / (max(np.ptp(c, axis=0).max() for c in curves.values()) or 1.0)
    for i, (name, curve) in enumerate(curves.items()):
        time = given[name].time.values
        _draw(ax, time, rows_of_one * curve, colour(i), labels[i] if recorded is not None else None)
    every = -(-len(names) // MOST_NAMES)
    name_rows(ax, [n if i % every == 0 else "" for i, n in enumerate(names)], margin=0.2)
    _scale_bar(ax, rows_of_one, unit)
    times = np.concatenate([each.time.values for each in given.values()])
    ax.set_xlim(times.min(), times.max())
    ax.set_xlabel("time (s)")
    panel_title(ax, str(given["simulated"].name or "Series") if recorded is None else "")
    if recorded is not None:
        ax.legend(frameon=False, fontsize="small", ncols=2, loc="lower right",
                  bbox_to_anchor=(1, 1))  # fmt: skip
    tidy(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def _rows_last(series: Any, name: str) -> Any:
    """The series with time first, after checks."""
    name = "series" if name == "simulated" else name
    dims = getattr(series, "dims", None)
    if dims is None or not hasattr(series, "coords"):
        raise TypeError(
            f"{name} must be an xarray.DataArray with an axis 'time', got {type(series).__name__}; "
            "a variable of what NetworkModel.simulate returns is one"
        )
    clocks = [dim for dim in dims if str(dim).startswith("time")]
    if len(dims) != 2 or len(clocks) != 1:
        raise ValueError(
            f"{name} has the axes {', '.join(map(str, dims))}; expected time and one other. Take "
            "one simulation, .isel(simulation=0)"
        )
    if clocks[0] != "time":
        series = series.rename({clocks[0]: "time"})
    return series.transpose("time", ...)


def _draw(ax: Axes, time: Any, curve: Any, shade: str, label: str | None) -> None:
    """Curves in rows, upwards positive although rows count downwards."""
    count = -(-len(time) // MOST_POINTS)
    whole = len(time) // count * count
    stretches = curve[:whole].reshape(-1, count, curve.shape[1])
    for row in range(curve.shape[1]):
        style = {"color": shade, "linewidth": 0.7, "label": label if row == 0 else None}
        if count == 1:
            ax.plot(time, row - curve[:, row], **style)
            continue
        ends = np.stack([stretches[..., row].min(1), stretches[..., row].max(1)], axis=1)
        points = time[:whole].reshape(-1, count).mean(1)
        ax.plot(np.repeat(points, 2), row - ends.ravel(), **style)


def _scale_bar(ax: Axes, rows_of_one: float, unit: str) -> None:
    """A bar of a round height, of half a row or somewhat less, at the right edge."""
    most = 0.5 / rows_of_one
    power = 10 ** np.floor(np.log10(most))
    size = max(n * power for n in (1, 2, 5) if n * power <= most)
    thousands = power_of_thousand(np.array([size]))
    times = f" \N{MULTIPLICATION SIGN} 10{superscript(thousands)}" if thousands else ""
    text = f"{size / 10.0**thousands:g}{times} {'' if unit == '1' else unit}"
    height, place = rows_of_one * size, ax.get_yaxis_transform()
    ax.plot([1.008, 1.008], [-height / 2, height / 2], color=INK, linewidth=2, transform=place,
            clip_on=False, solid_capstyle="butt")  # fmt: skip
    ax.annotate(text.strip(), (1.015, 0), xycoords=place, va="center", fontsize="small",
                color=MUTED, annotation_clip=False)  # fmt: skip
