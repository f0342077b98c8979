"""Delay differential equations, solved with a buffer of past states.

Every state sees every other as it was a delay ago. The method of steps with the classical
Runge-Kutta scheme advances the equations; past states between the points of the buffer are
interpolated by cubic polynomials that match states and rates at both ends, so that the whole is
of fourth order. Delays that are not zero must be at least one step.

References
----------
.. [1] Bellen and Zennaro (2003), Numerical Methods for Delay Differential Equations.
       https://doi.org/10.1093/acprof:oso/9780198506546.001.0001
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.by_value import ByValue
from bayesdcm.integrate.evoked_input import StimulusDriven
from bayesdcm.neural.base import NeuralModel, Parameters, Prior, from_vector, to_vector

# Steps of the delay equations, and how long past states are kept, s.
LONGEST_STEP = 0.0005
LONGEST_DELAY = 0.1


class _History(NamedTuple):
    """The last points, latest first: states and rates, each (points, n), and how many are new."""

    states: jax.Array
    rates: jax.Array
    count: jax.Array

    def add(self, x: jax.Array, rate: jax.Array) -> _History:
        return _History(
            jnp.concatenate([x[None], self.states[:-1]]),
            jnp.concatenate([rate[None], self.rates[:-1]]),
            self.count + 1,
        )

    def at(self, steps_ago: jax.Array, step: float) -> jax.Array:
        """State j as it was ``steps_ago[i, j]`` steps before the latest point, (n, n)."""
        newer = jnp.clip(jnp.floor(steps_ago).astype(int), 0, len(self.states) - 2)
        s = 1 - (steps_ago - newer)
        j = jnp.arange(steps_ago.shape[1])
        x0, x1 = self.states[newer + 1, j], self.states[newer, j]
        # Rates may jump at the start, before which nothing changes.
        moving = jnp.where(newer < self.count, step, 0.0)
        r0, r1 = moving * self.rates[newer + 1, j], moving * self.rates[newer, j]
        rise = x1 - x0
        return x0 + s * (r0 + s * ((3 * rise - 2 * r0 - r1) + s * (r0 + r1 - 2 * rise)))


def delayed(
    flow: Callable[[jax.Array, jax.Array], jax.Array],
    x0: jax.Array,
    inputs: jax.Array,
    delays: jax.Array,
    step: float | jax.Array,
    memory: int,
    every: int = 1,
) -> jax.Array:
    """States (steps / every, n) of a system with delays, after each `every` steps.

    `flow(x, u)` is the rate of change, 1/s, of states x (n,) under `inputs`, (2 steps + 1, inputs),
    at times 0, step / 2, step, ...; `x0` (n,) are the states at the start and at all times before.
    State i sees state j with ``delays[i, j]``, s: 0, or from `step` (s) to `memory` steps. Others
    give NaN, which a likelihood takes for -inf. Differentiable in both modes, by delays too.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = delayed(lambda x, u: -x, jnp.ones(1), jnp.zeros((201, 1)),
    ...             jnp.ones((1, 1)), step=0.01, memory=100, every=100)
    >>> round(abs(float(x[0, 0])), 9)
    0.0
    """
    n, points = len(x0), memory + 3
    now, ago = delays == 0, delays / step
    possible = (now | ((ago > 1 - 1e-9) & (ago < memory + 1e-9))).all()
    x0 = jnp.where(possible, x0, jnp.nan)

    def rate(x: jax.Array, history: _History, fraction: float, u: jax.Array) -> jax.Array:
        # Row i holds all states as state i sees them.
        seen = jnp.where(now, x[None], history.at(jnp.where(now, 1.0, ago - fraction), step))
        return jnp.diagonal(jax.vmap(lambda row: flow(row, u))(seen))

    def advance(carry: tuple, held: jax.Array) -> tuple:
        x, history = carry
        k1 = rate(x, history, 0.0, held[0])
        history = history._replace(rates=history.rates.at[0].set(k1))
        k2 = rate(x + step / 2 * k1, history, 0.5, held[1])
        k3 = rate(x + step / 2 * k2, history, 0.5, held[1])
        k4 = rate(x + step * k3, history, 1.0, held[2])
        x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        # The rate at the new point is known once the next step has begun.
        return (x, history.add(x, k4)), x

    past = jnp.broadcast_to(x0, (points, n))
    history = _History(past, jnp.zeros((points, n)), jnp.zeros((), int))
    steps = (len(inputs) - 1) // 2
    held = jnp.stack([inputs[0:-1:2], inputs[1::2], inputs[2::2]], axis=1)
    held = held.reshape(steps // every, every, 3, -1)

    def sample(carry: tuple, block: jax.Array) -> tuple:
        carry, _ = jax.lax.scan(advance, carry, block)
        return carry, carry[0]

    return jax.lax.scan(sample, (x0, history), held)[1]


@dataclass(frozen=True)
class Delayed(StimulusDriven):
    """The method of steps: the delay equations themselves, in steps of half a millisecond.

    Delays must be zero or from 0.5 to 100 ms. Slower than `LocalLinear`, which expands them.

    Parameters
    ----------
    onset, duration : float or array_like
        Prior mean of the time at which the input peaks, and of its standard deviation, s.

    Examples
    --------
    >>> Delayed().duration
    0.016
    """

    def settings(
        self, neural: NeuralModel, dt: float, design: np.ndarray, priors: Mapping[str, Prior]
    ) -> ByValue[tuple]:
        """Steps in a sample, and steps for which past states are kept."""
        substeps = int(np.ceil(dt / LONGEST_STEP - 1e-9))
        return ByValue((substeps, int(np.ceil(LONGEST_DELAY / (dt / substeps)))))

    def trajectory(
        self, neural: NeuralModel, parameters: Parameters, start: jax.Array, arrays: dict
    ) -> jax.Array:
        """See `StimulusDriven.trajectory`."""
        substeps, memory = arrays["settings"].value
        half_steps = jnp.arange(2 * substeps * len(arrays["times"]) + 1)
        step = arrays["dt"] / substeps
        inputs = self.inputs(neural, parameters, half_steps * step / 2 + arrays["start"])

        def flow(x: jax.Array, u: jax.Array) -> jax.Array:
            return to_vector(neural.flow(from_vector(x, neural.n_nodes), u, parameters))

        delays = neural.delays(parameters)
        delays = jnp.zeros((len(start),) * 2) if delays is None else delays
        return delayed(flow, start, inputs, delays, step, memory, every=substeps)
