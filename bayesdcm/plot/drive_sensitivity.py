"""How the dipole changes with the time and the weights of each drive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.plot import style
from bayesdcm.plot.column import NANOAMPERE_METRES, column_of
from bayesdcm.plot.data_fit import label_panels, mark_origin, panels
from bayesdcm.plot.quantities import flat_draws
from bayesdcm.plot.series import power_of_thousand, power_text
from bayesdcm.plot.style import Canvas

# By how much a drive is later, ms, and by which factor its weights are larger.
LATER, STRONGER = 1.0, 1.1


def plot_drive_sensitivity(fit: Any, *, figure: Canvas | None = None) -> Canvas:
    r"""Draw how the dipole changes if a drive comes 1 ms later, or is 10 % stronger.

    Where curves of two drives are alike, the data hardly tell the two apart. What is drawn are
    derivatives at the posterior mean.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of a `bayesdcm.LaminarDCM` by any method.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Three panels of one scale in time: the dipole itself in nAm, its change with the time of
        each drive, and with all AMPA and NMDA weights of each drive. Vertical lines are the times
        of drives; those of distal drives, and their curves, are dashed.

    Raises
    ------
    TypeError
        If the fit is of another model.
    ValueError
        If the fit was read from a file without its model.

    Examples
    --------
    >>> from bayesdcm import DipoleData, Drive, LaminarDCM, fit
    >>> drive = Drive("first", "proximal", 25.0, 2.0, {"L5_pyramidal": 0.002, "L2_basket": 0.003})
    >>> model, times = LaminarDCM([drive.free(time=5.0)], model_error=0.0), 0.002 * np.arange(60)
    >>> design = DipoleData(1e-12 * np.sin(40 * times), times, noise_sd=1e-13)
    >>> data = model.simulate({"time": [28.0], "scale": 0.0}, design, seed=1, snr=5.0)
    >>> figure = plot_drive_sensitivity(fit(model, data, draws=50, progress=False))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['dipole', 'change if\n1 ms later', 'change if\n10 % stronger']
    """
    model, data = column_of(fit)
    mean = {p.name: flat_draws(fit.idata.posterior[p.name]).mean(0) for p in model.priors}
    dipole, changes = _dipole_and_changes(model, data, mean)
    rows = ["dipole", f"change if\n{LATER:g} ms later", f"change if\n{100 * STRONGER - 100:.0f} % "
            "stronger"]  # fmt: skip
    words, unit, factor = fit.facts.axis("time")
    points = factor * np.asarray(data.times)
    axes, figure = panels(figure, [1.2, 1.4, 1.4], 1)
    exponent = power_of_thousand(dipole)
    scale = 10.0**-exponent
    axes[0, 0].plot(points, scale * dipole, color=style.INK, linewidth=1.2)
    for ax, change in zip(axes[1:, 0], changes, strict=True):
        for i, (drive, curve) in enumerate(zip(model.drives, change, strict=True)):
            ax.plot(points, scale * curve, label=f"{drive.name} ({drive.location})",
                    **_line(drive, i), linewidth=1.5)  # fmt: skip
    for ax, values in zip(axes[:, 0], (dipole, *changes), strict=True):
        mark_origin(ax, points, values)
        for i, drive in enumerate(model.drives):
            ax.axvline(float(mean["time"][i]), linewidth=0.7, alpha=0.6, **_line(drive, i))
        ax.tick_params(labelsize="small")
        style.tidy(ax)
    label_panels(axes, [""], rows)
    axes[0, 0].set_xlim(points[0], points[-1])
    figure.supxlabel(f"{words} ({unit})", fontsize="medium")
    figure.supylabel(f"{power_text(exponent)}nAm", fontsize="medium")
    style.legend(figure, style.labelled([axes[1, 0]]), loc="outside upper right")
    style.heading(figure, f"Sensitivity of the dipole ({fit.method})\nvertical: times of drives")
    return figure


def _line(drive: Any, i: int) -> dict[str, str]:
    return {
        "color": style.colour(i),
        "linestyle": "-" if drive.location == "proximal" else "--",
    }


def _dipole_and_changes(model: Any, data: Any, mean: dict[str, NDArray]) -> tuple[NDArray, NDArray]:
    """Dipole (times,) and its changes (time or weights, drives, times), nAm."""
    import jax
    import jax.numpy as jnp

    at = {name: jnp.asarray(value) for name, value in mean.items()}

    def later(one: jax.Array) -> dict[str, jax.Array]:
        return {"time": LATER * one}

    def stronger(one: jax.Array) -> dict[str, jax.Array]:
        # Weights are log scalings of those that drives say.
        return {
            name: np.log(STRONGER) * one[:, None] * jnp.ones_like(at[name])
            for name in ("weights_ampa", "weights_nmda")
        }

    def change(tangent: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(lambda values: model.predict(values, data), (at,), (tangent,))

    each = jnp.eye(len(model.drives))
    both = [jax.vmap(later)(each), jax.vmap(stronger)(each)]
    # One drive after the other is compiled once.
    run = jax.jit(lambda moved: jax.lax.map(change, moved))
    complete = [
        {name: found.get(name, jnp.zeros((len(each), *at[name].shape))) for name in at}
        for found in both
    ]
    moved = jax.tree.map(lambda *parts: jnp.concatenate(parts), *complete)
    dipoles, changes = (NANOAMPERE_METRES * np.asarray(values) for values in run(moved))
    return dipoles[0], changes.reshape(2, len(each), -1)
