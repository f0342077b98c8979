"""The exact solution of models that are affine in their states while the input is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from bayesdcm.integrate.base import HeldInputs, activity_drive, flat_flow
from bayesdcm.integrate.expansion import affine_generators
from bayesdcm.integrate.grid import TimeGrid
from bayesdcm.neural.base import NeuralModel, Parameters


@dataclass(frozen=True)
class ExactCascade(HeldInputs):
    """Matrix exponentials between changes of the input, for observers that can follow them.

    For neural models whose flow is affine in the states (``neural.affine``); the observer's
    ``respond`` takes the generators, so that neural states and those of blood flow are solved as
    one cascade. `bayesdcm.observe.Balloon` has it, with an error of about 1e-5 of the peak.

    Examples
    --------
    >>> ExactCascade()
    ExactCascade()
    """

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise ValueError unless the model is affine and the observer can follow."""
        super().check(neural, observer)
        if not neural.affine:
            raise ValueError(
                f"solver ExactCascade needs a neural model that is affine in its states, got "
                f"{type(neural).__name__}, whose `affine` is False; use RungeKutta"
            )
        if observer.longest_step is None:
            raise ValueError(
                f"solver ExactCascade needs an observer that has `respond`, got "
                f"{type(observer).__name__}, whose `longest_step` is None; use RungeKutta"
            )

    def grid_options(self, neural: NeuralModel, observer: Any, design: Any) -> dict[str, Any]:
        """Steps as long as the observer allows."""
        return {"max_step": observer.longest_step}

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: TimeGrid
    ) -> jax.Array:
        """The observer's response, (scans, nodes); see `Solver.solve`."""
        n_states = neural.n_nodes * len(neural.states)
        flow = flat_flow(neural, parameters)
        generators = affine_generators(flow, n_states, arrays.inputs)
        return observer.respond(generators, activity_drive(neural), parameters, arrays)
