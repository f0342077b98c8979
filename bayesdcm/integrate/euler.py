"""Explicit Euler steps on an even grid: a solver that is a recurrence, one cell a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.by_value import ByValue
from bayesdcm.data.device import on_device
from bayesdcm.integrate.base import Solver, joint_states
from bayesdcm.integrate.grid import at_points, sample_bins
from bayesdcm.integrate.one_step import euler
from bayesdcm.neural.base import NeuralModel, Parameters, Prior

# A carry and an input give the next carry, and what is seen of the first.
Cell = Callable[[Any, jax.Array], tuple[Any, jax.Array]]
# Of the ratio of two times that should be whole.
ROUNDING = 1e-6


class EvenGrid(NamedTuple):
    """Steps of one length, and where the scans are read.

    Attributes
    ----------
    inputs : (steps, inputs)
        Input during each step.
    step : ()
        Length of a step, s.
    sample : (scans, nodes)
        The point, 0 before the first step, at which each node is read.
    """

    inputs: jax.Array
    step: jax.Array
    sample: jax.Array


@dataclass(frozen=True)
class Euler(Solver):
    """Explicit Euler steps of one length, for any neural model and observer of `BoldData`.

    Each state follows from those one step before, so that an input reaches the activity after one
    step and blood flow after three. The scheme is of first order: it is the model, as in the
    recurrent form of DCM [1]_, rather than an accurate solution of the differential equations.

    Parameters
    ----------
    step : float
        Length of a step, s. It divides the bins of the inputs, or is some of them: the input
        during a step is then their mean.

    Raises
    ------
    ValueError
        If `step` is not positive; of data, if it does not fit their bins.

    References
    ----------
    .. [1] Wang, Wang and Lui (2018), NeuroImage 178:385.
           https://doi.org/10.1016/j.neuroimage.2018.05.042

    Examples
    --------
    >>> Euler(step=0.25)
    Euler(step=0.25)
    """

    step: float = 0.25

    data_class: ClassVar[type] = BoldData

    def __post_init__(self) -> None:
        number = isinstance(self.step, int | float | np.number) and not isinstance(self.step, bool)
        if not (number and 0 < self.step < np.inf):
            raise ValueError(f"step must be a positive number of seconds, got {self.step!r}")

    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> EvenGrid:
        """Inputs of each step, and sample points, the same arrays for equal inputs and times."""
        timing = (np.asarray(design.inputs), design.input_dt, design.n_scans)
        return _even_grid(ByValue((*timing, np.asarray(design.slice_delays))), self.step)

    def start(self, neural: NeuralModel, observer: Any, parameters: Parameters) -> jax.Array:
        """States at rest, those of the neural model and of the observer, (nodes, states).

        Parameters
        ----------
        neural, observer : NeuralModel, bayesdcm.observe.Observer
            The neural model and what observes it.
        parameters : mapping
            Full arrays by name.
        """
        return joint_states(neural, observer, parameters).rest

    def cell(self, neural: NeuralModel, observer: Any, parameters: Parameters, step: Any) -> Cell:
        """One step as a function of carry and input, for `jax.lax.scan`.

        Parameters
        ----------
        neural, observer : NeuralModel, bayesdcm.observe.Observer
            The neural model and what observes it.
        parameters : mapping
            Full arrays by name.
        step : float
            Length of the step, s.

        Returns
        -------
        callable
            From states (nodes, states) and inputs (inputs,) to the states one step later, and what
            is seen of those given, (nodes,), or (nodes, states) relative to rest of an observer
            without states.
        """
        states = joint_states(neural, observer, parameters)

        def advance(carry: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
            return euler(lambda x: states.flow(x, u), carry, step), states.seen(carry)

        return advance

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: EvenGrid
    ) -> jax.Array:
        """What the observer reads at the scans; see `Solver.solve`."""
        states = joint_states(neural, observer, parameters)

        def advance(x: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
            return euler(lambda x: states.flow(x, u), x, arrays.step), x

        _, points = jax.lax.scan(advance, states.rest, arrays.inputs)
        return states.seen(at_points(points, arrays.sample))


@lru_cache(maxsize=16)
def _even_grid(timing: ByValue[tuple], step: float) -> EvenGrid:
    inputs, width, n_scans, delays = timing.value
    u = _by_steps(inputs, width, step)
    # What is read when is settled by the bins of the data.
    bins = sample_bins(len(inputs), width, n_scans, delays)
    grid = EvenGrid(u, np.asarray(step), np.floor(bins * len(u) / len(inputs) + 0.5).astype(int))
    # Arrays that are kept must not belong to a program that is being traced.
    with jax.ensure_compile_time_eval():
        return on_device(grid)


def _by_steps(inputs: NDArray, width: float, step: float) -> NDArray:
    """Inputs of bins as those of steps; ValueError where neither is a whole number of the other."""
    bins, parts = step / width, width / step
    if abs(parts - round(parts)) < ROUNDING * parts:
        return np.repeat(inputs, round(parts), axis=0)
    whole = round(bins)
    if abs(bins - whole) < ROUNDING * bins and len(inputs) % whole == 0:
        return inputs.reshape(-1, whole, inputs.shape[1]).mean(axis=1)
    nearest = width * max(whole, 1) if bins > 0.5 else width / round(parts)
    raise ValueError(
        f"step is {step:g} s, but inputs come in {len(inputs)} bins of {width:g} s, and a step "
        f"must be a whole part of a bin, or a whole number of bins that divides the run; take, for "
        f"instance, step={nearest!r}, or give data with other bins (input_dt)"
    )
