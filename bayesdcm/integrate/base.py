"""What every solver offers: from a neural model, and what observes it, to a solution in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.bold import BoldData
from bayesdcm.data.by_value import ByValue
from bayesdcm.data.device import on_device
from bayesdcm.integrate.grid import TimeGrid, time_grid
from bayesdcm.neural.base import NeuralModel, Parameters, Prior, from_vector, to_vector


class Solver(ABC):
    """A numerical scheme for a neural model that is driven by inputs and seen by an observer.

    A subclass is best a frozen dataclass of options. `prepare` runs once for a design, in NumPy;
    `solve` is pure and traced: shapes are static, and it is differentiated forward and backward.

    Attributes
    ----------
    data_class : type
        Class of the data whose inputs the solver understands.

    Notes
    -----
    An observer with states of its own (``observer.states``, such as those of blood flow) is
    solved together with the neural model: ``observer.flow(activity, h, parameters)`` is the rate
    of change of its states h (nodes, states), 0 at rest, under the activity (nodes,) of
    ``neural.output`` relative to rest, and ``observer.read(h, parameters)`` what is seen of them.
    The solution is then what is seen. For any other observer it is the neural states relative to
    rest, of which ``observer.predict`` makes the signal.
    """

    data_class: ClassVar[type]

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise ValueError where the solver cannot solve a neural model, or drive an observer.

        Parameters
        ----------
        neural, observer : NeuralModel, bayesdcm.observe.Observer
            The neural model and what observes it.
        """
        if not issubclass(observer.data_class, self.data_class):
            raise ValueError(
                f"solver {type(self).__name__} takes inputs as {self.data_class.__name__} have "
                f"them, but observer {type(observer).__name__} is for "
                f"{observer.data_class.__name__}; ExactCascade, RungeKutta, BilinearExpansion "
                "and Euler serve BoldData, LocalLinear, Delayed and DelayedRelaxation EvokedData"
            )

    @abstractmethod
    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> Any:
        """Arrays that depend on a design but not on parameters, a pytree that `solve` takes.

        Parameters
        ----------
        neural, observer : NeuralModel, bayesdcm.observe.Observer
            The neural model and what observes it.
        design : BoldData, BoldDesign or EvokedData
            Inputs and times.
        priors : mapping of str to Prior
            Priors in force, at whose means step sizes may be chosen.
        """

    @abstractmethod
    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: Any
    ) -> jax.Array:
        """The solution: what ``observer.read`` gives, (scans, nodes), or (..., nodes, states).

        Parameters
        ----------
        neural, observer : NeuralModel, bayesdcm.observe.Observer
            The neural model and what observes it.
        parameters : mapping
            Full arrays by name, of the neural model and of an observer that has states.
        arrays : pytree
            From `prepare`.
        """

    def of_program(self, arrays: Any) -> Any:
        """What `solve` takes where parameters that the priors fix are constants.

        By default the same as anywhere: what `prepare` gives serves derivatives by all parameters.

        Parameters
        ----------
        arrays : pytree
            From `prepare`.
        """
        return arrays


class HeldInputs(Solver):
    """A solver of models whose inputs are given in bins of micro-time and held within each."""

    data_class = BoldData

    @abstractmethod
    def grid_options(self, neural: NeuralModel, observer: Any, design: Any) -> dict[str, Any]:
        """Options of `bayesdcm.integrate.time_grid`: the longest step, further points.

        Parameters
        ----------
        neural, observer : NeuralModel, bayesdcm.observe.Observer
            The neural model and what observes it.
        design : BoldData, BoldDesign or EvokedData
            Inputs and times.
        """

    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> TimeGrid:
        """Steps and sample points, the same arrays for designs of the same inputs and times."""
        timing = (
            *(np.asarray(design.inputs), design.input_dt, design.n_scans),
            np.asarray(design.slice_delays),
        )
        options = self.grid_options(neural, observer, design)
        return _grid_on_device(ByValue(timing), ByValue(options))


@lru_cache(maxsize=16)
def _grid_on_device(timing: ByValue[tuple], options: ByValue[dict]) -> TimeGrid:
    # Arrays that are kept must not belong to a program that is being traced.
    with jax.ensure_compile_time_eval():
        return on_device(time_grid(*timing.value, **options.value))


def flat_flow(neural: NeuralModel, parameters: Parameters) -> Any:
    """The flow as a function of inputs and the vector (`to_vector`) of states relative to rest."""
    rest = jnp.asarray(neural.rest(parameters))

    def flow(x: jax.Array, u: jax.Array) -> jax.Array:
        return to_vector(neural.flow(rest + from_vector(x, len(rest)), u, parameters))

    return flow


class JointStates(NamedTuple):
    """The states of a neural model, and those of an observer that has some, as one system.

    Attributes
    ----------
    rest : (nodes, states)
        Neural states first.
    flow : callable
        ``flow(x, u)``, their rate of change per second.
    seen : callable
        What is seen of states (..., nodes, states): what the observer reads, (..., nodes), or,
        where it has no states, the neural ones relative to rest.
    """

    rest: jax.Array
    flow: Callable[[jax.Array, jax.Array], jax.Array]
    seen: Callable[[jax.Array], jax.Array]


def joint_states(neural: NeuralModel, observer: Any, parameters: Parameters) -> JointStates:
    """A neural model and its observer as one system; see `Solver`.

    Parameters
    ----------
    neural, observer : NeuralModel, bayesdcm.observe.Observer
        The neural model and what observes it.
    parameters : mapping
        Full arrays by name.
    """
    k, rest = len(neural.states), jnp.asarray(neural.rest(parameters), float)
    if not observer.states:
        return JointStates(rest, partial(neural.flow, parameters=parameters), lambda x: x - rest)

    def flow(state: jax.Array, u: jax.Array) -> jax.Array:
        x, h = state[:, :k], state[:, k:]
        activity = x[:, neural.output] - rest[:, neural.output]
        rates = neural.flow(x, u, parameters), observer.flow(activity, h, parameters)
        return jnp.concatenate(rates, axis=1)

    return JointStates(
        jnp.concatenate([rest, jnp.zeros((len(rest), len(observer.states)))], axis=1),
        flow,
        lambda x: observer.read(x[..., k:], parameters),
    )


def activity_drive(neural: NeuralModel) -> jax.Array:
    """Which of 1 and the states is the activity of each node, (nodes, 1 + nodes * states)."""
    n = neural.n_nodes
    return jnp.eye(n, 1 + n * len(neural.states), 1 + n * neural.output)
