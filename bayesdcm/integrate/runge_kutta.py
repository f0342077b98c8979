"""Classical Runge-Kutta integration of any flow on a grid of constant input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from bayesdcm.integrate.base import HeldInputs, joint_states
from bayesdcm.integrate.grid import TimeGrid, at_samples
from bayesdcm.neural.base import NeuralModel, Parameters


def runge_kutta(
    flow: Callable[[jax.Array, jax.Array], jax.Array],
    x0: jax.Array,
    grid: TimeGrid,
    substeps: int = 1,
) -> jax.Array:
    """States at every point of a grid by the fourth-order Runge-Kutta method.

    Parameters
    ----------
    flow : callable
        ``flow(x, u)``, the rate of change of states x, 1/s, under inputs u (inputs,).
    x0 : jax.Array
        Initial states, any shape.
    grid : TimeGrid
        Steps of constant input.
    substeps : int
        Equal parts into which each step is divided.

    Returns
    -------
    jax.Array
        States, shape ``(steps + 1, *x0.shape)``.

    Examples
    --------
    >>> import numpy as np
    >>> from bayesdcm.integrate.grid import time_grid
    >>> grid = time_grid(np.zeros((20, 1)), 0.05, 1, np.array([1.0]), max_step=0.05)
    >>> x = runge_kutta(lambda x, u: -x, np.ones(1), grid)
    >>> round(float(x[-1, 0]), 6)
    0.386741
    """

    def advance(x: jax.Array, held: tuple) -> tuple:
        u, width = held

        def substep(_: int, x: jax.Array) -> jax.Array:
            k1 = flow(x, u)
            k2 = flow(x + width / 2 * k1, u)
            k3 = flow(x + width / 2 * k2, u)
            k4 = flow(x + width * k3, u)
            return x + width / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

        # A loop of known length stays differentiable in reverse mode.
        x = substep(0, x) if substeps == 1 else jax.lax.fori_loop(0, substeps, substep, x)
        return x, x

    inputs = grid.inputs[grid.propagator_input[grid.step]]
    widths = grid.bin_width * grid.propagator_bins[grid.step] / substeps
    _, x = jax.lax.scan(advance, x0, (inputs, widths))
    return jnp.concatenate([x0[None], x])


@dataclass(frozen=True)
class RungeKutta(HeldInputs):
    """The classical fourth-order method, for any neural model and observer of `BoldData`.

    Parameters
    ----------
    step : float
        Longest step, s. The default suits neural states that follow inputs within seconds.

    Raises
    ------
    ValueError
        If `step` is not positive.

    Examples
    --------
    >>> RungeKutta(step=0.05)
    RungeKutta(step=0.05)
    """

    step: float = 0.125

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise ValueError(f"step must be a positive number of seconds, got {self.step!r}")

    def grid_options(self, neural: NeuralModel, observer: Any, design: Any) -> dict[str, Any]:
        """Steps of at most `step`."""
        return {"max_step": self.step}

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: TimeGrid
    ) -> jax.Array:
        """What the observer reads at the scans, all states solved at once; see `Solver.solve`."""
        states = joint_states(neural, observer, parameters)
        return states.seen(at_samples(runge_kutta(states.flow, states.rest, arrays), arrays))
