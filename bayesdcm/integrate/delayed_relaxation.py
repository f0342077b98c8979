"""Exponential Euler steps of stiff sources that see what others send after delays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.integrate.delayed import Delayed
from bayesdcm.neural.base import NeuralModel, Parameters, from_vector, to_vector


@dataclass(frozen=True)
class DelayedRelaxation(Delayed):
    """Exponential Euler steps of at most half a millisecond, for `stiff` models with delays.

    Each state relaxes exactly while what it relaxes to is held, of first order in the step. What
    sources send is kept at every step, interpolated linearly, and seen after the delays, from 0.5
    to 100 ms; others give NaN, which a likelihood takes for -inf.

    Parameters
    ----------
    onset, duration : float or array_like
        Prior mean of the time at which the input peaks, and of its standard deviation, s.

    Examples
    --------
    >>> DelayedRelaxation().duration
    0.016
    """

    solves_stiff: ClassVar[bool] = True

    def trajectory(
        self, neural: NeuralModel, parameters: Parameters, start: jax.Array, arrays: dict
    ) -> jax.Array:
        """See `StimulusDriven.trajectory`."""
        substeps, memory = arrays["settings"].value
        n, samples, step = neural.n_nodes, len(arrays["times"]), arrays["dt"] / substeps
        constants = neural.constants(parameters)
        counts = jnp.arange(samples * substeps)
        inputs = self.inputs(neural, parameters, (counts + 0.5) * step + arrays["start"])

        # Delays between two sources are those between any of their states. What is held during a
        # step is what is seen at its middle, so many steps before its start:
        delays = neural.delays(parameters)[:n, :n]
        between = ~np.eye(n, dtype=bool)
        steps_ago = jnp.where(between, delays / step, 1.0) - 0.5
        newer = jnp.clip(jnp.floor(steps_ago).astype(int), 0, memory - 1)
        share = steps_ago - newer
        possible = ((steps_ago > 0.5 - 1e-9) & (steps_ago < memory - 0.5 + 1e-9)).all()
        x = from_vector(jnp.where(possible, start, jnp.nan), n)
        past = jnp.broadcast_to(neural.sent(x, constants), (memory + 1, len(neural.signals), n))

        def received(past: jax.Array, count: jax.Array) -> jax.Array:
            """What reaches each source, (afferents, sources)."""
            at = (count - newer) % (memory + 1), (count - newer - 1) % (memory + 1)
            later, earlier = (past[rows, :, np.arange(n)] for rows in at)
            # (to, from, signals)
            seen = later + share[..., None] * (earlier - later)
            reached = jax.vmap(lambda one: neural.received(one.T, constants))(seen)
            return jnp.diagonal(reached, axis1=0, axis2=2)

        def advance(carry: tuple, held: tuple) -> tuple:
            x, past = carry
            count, u = held
            # A ring: the oldest makes room for what is sent now.
            past = past.at[count % (memory + 1)].set(neural.sent(x, constants))
            rate, target = neural.relaxation(x, received(past, count), u, constants)
            return (target + (x - target) * jnp.exp(-step * rate), past), None

        def sample(carry: tuple, block: tuple) -> tuple:
            carry, _ = jax.lax.scan(advance, carry, block)
            return carry, to_vector(carry[0])

        blocks = counts.reshape(samples, substeps), inputs.reshape(samples, substeps, -1)
        return jax.lax.scan(sample, (x, past), blocks)[1]
