"""Exponential Euler steps of conductance-based columns, averaged over trials of jittered drives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bayesdcm.data.dipole import DipoleData
from bayesdcm.integrate.base import Solver
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.laminar import LaminarColumn
from bayesdcm.neural.laminar_equations import Parts, relaxation

# Length of a step, s: that at which the column was calibrated.
STEP = 0.0005


class StepGrid(NamedTuple):
    """Even steps from the stimulus, or the first sample before it, to the last sample.

    Attributes
    ----------
    middles : (steps,)
        When inputs are taken, s.
    deviates : (trials, events)
        How many spreads the events of each trial come late.
    """

    middles: jax.Array
    deviates: jax.Array


def step_ends(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ends of steps (steps,), s, from the stimulus, or the first time before it, to the last time.

    Examples
    --------
    >>> step_ends(np.array([0.001, 0.002])).tolist()
    [0.0005, 0.001, 0.0015, 0.002]
    """
    start = min(float(times[0]), 0.0)
    count = int(np.ceil((times[-1] - start) / STEP - 1e-6))
    return start + STEP * np.arange(1, count + 1)


def jitter(trials: int, jittered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Standard normal deviates of events in a few trials, (trials, events), 0 without jitter.

    Midpoints of equally likely intervals in another order for each event, so that each event has
    mean 0 and variance 1, and no two go together.
    """
    table = np.zeros((trials if jittered.any() else 1, len(jittered)))
    if not jittered.any():
        return table
    points = norm.ppf((np.arange(trials) + 0.5) / trials)
    points /= points.std()
    rng = np.random.default_rng(0)
    columns: list[NDArray] = []
    for _ in range(jittered.sum()):
        orders = [rng.permutation(points) for _ in range(200)]
        together = [sum((order @ other) ** 2 for other in columns) for order in orders]
        columns.append(orders[int(np.argmin(together))])
    table[:, jittered] = np.transpose(columns)
    return table


@dataclass(frozen=True)
class ExponentialEuler(Solver):
    """Exponential Euler steps: each state relaxes exactly while what it relaxes to is held.

    Voltages with conductances that are frozen over a step of 0.5 ms, and linear synapses, are
    solved exactly over it. Events of drives that come at another time in each trial are averaged
    over `trials` of representative deviations.

    Parameters
    ----------
    trials : int
        Number of trials that stand for the jitter of the drives.

    Raises
    ------
    ValueError
        If trials are not a whole number of at least 2.

    Examples
    --------
    >>> ExponentialEuler()
    ExponentialEuler(trials=8)
    """

    trials: int = 8

    data_class: ClassVar[type] = DipoleData

    def __post_init__(self) -> None:
        """Check the options."""
        whole = isinstance(self.trials, int | np.integer) and not isinstance(self.trials, bool)
        if not whole or self.trials < 2:
            raise ValueError(
                f"trials must be a whole number of at least 2, got {self.trials!r}; a drive "
                "without spread needs one trial only, whatever their number"
            )

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise ValueError for other models than a column; see `Solver.check`."""
        super().check(neural, observer)
        if not isinstance(neural, LaminarColumn):
            raise ValueError(
                "ExponentialEuler solves LaminarColumn, whose states relax at known rates, got "
                f"{type(neural).__name__}; see bayesdcm.integrate for the others"
            )

    @jax.ensure_compile_time_eval()
    def prepare(
        self,
        neural: LaminarColumn,
        observer: Any,
        design: DipoleData,
        priors: Mapping[str, Prior],
    ) -> StepGrid:
        """Steps, and deviations of the drives in each trial; see `Solver.prepare`."""
        middles = step_ends(design.times) - STEP / 2
        return StepGrid(jnp.asarray(middles), jnp.asarray(jitter(self.trials, neural.jittered)))

    def solve(
        self, neural: LaminarColumn, observer: Any, parameters: Parameters, arrays: StepGrid
    ) -> jax.Array:
        """Mean states over trials relative to rest at the ends of steps, (steps, 1, states)."""
        constants = neural.constants(parameters)
        start = Parts.of(jnp.asarray(neural.rest()))

        def advance(x: Parts, u: jax.Array) -> tuple[Parts, Parts]:
            rate, target = relaxation(x, u[None], constants)
            x = jax.tree.map(
                lambda at, to, r: to + (at - to) * jnp.exp(-1e3 * STEP * r), x, target, rate
            )
            return x, x

        def trial(deviates: jax.Array) -> Parts:
            inputs = neural.input_series(arrays.middles, parameters, deviates)
            return jax.lax.scan(advance, start, inputs)[1]

        mean = jax.tree.map(lambda x: x.mean(0), jax.vmap(trial)(arrays.deviates))
        return mean.joined() - neural.rest()
