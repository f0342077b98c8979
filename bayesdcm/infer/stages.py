"""A traced function of two vectors, cut into what can be worked out once and what cannot.

Let the function be f(first, second), where `second` enters late: hidden states depend on
parameters, and observer parameters turn states into data. Its operations fall into those without
either argument, those with `first` only (the states), and the rest. Evaluating or differentiating
f for many values of `second` then needs the rest only. Operations are those of the jaxpr's top
level: a call that jit left whole, or a scan, belongs to the rest if any of its inputs does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr

CONSTANT, STATES, OBSERVATION = range(3)


class Stages:
    """The three stages of a function, whose jaxpr has no operation that its outputs do not need.

    `levels` has for each argument `CONSTANT`, `STATES` (first) or `OBSERVATION` (second).

    >>> import jax, jax.numpy as jnp
    >>> traced = jax.make_jaxpr(lambda p, g: jnp.sin(p) * g)(1.0, 2.0)
    >>> stages = Stages(traced.jaxpr, traced.consts, (STATES, OBSERVATION))
    >>> states, _ = stages.states([], 0.5)
    >>> float(stages.observation([], states, [], 2.0)[0]) == 2 * float(jnp.sin(0.5))
    True
    """

    def __init__(self, jaxpr: Any, consts: list, levels: tuple[int, ...]) -> None:
        self._jaxpr, self._consts, self._levels = jaxpr, consts, levels
        level = dict(zip(jaxpr.invars, levels, strict=True))
        level |= dict.fromkeys(jaxpr.constvars, CONSTANT)
        equations: tuple[list, ...] = ([], [], [])
        for equation in jaxpr.eqns:
            of_inputs = [level[v] for v in _variables(equation.invars)]
            latest = max(of_inputs, default=CONSTANT)
            level |= dict.fromkeys(equation.outvars, latest)
            equations[latest].append(equation)
        self._equations = equations
        known = set(jaxpr.constvars)
        late = list(_variables(v for e in equations[OBSERVATION] for v in e.invars))
        late += list(_variables(jaxpr.outvars))
        early = list(_variables(v for e in equations[STATES] for v in e.invars))
        used = dict.fromkeys([*early, *late])
        self._constant = [v for v in used if level[v] == CONSTANT and v not in known]
        boundary = [v for v in dict.fromkeys(late) if level[v] == STATES]
        self._states = [v for v in boundary if jnp.issubdtype(v.aval.dtype, jnp.floating)]
        # Integers and the like have no derivative.
        self._discrete = [v for v in boundary if v not in self._states]

    def _inputs(self, level: int) -> list:
        return [v for v, at in zip(self._jaxpr.invars, self._levels, strict=True) if at == level]

    def _evaluate(self, level: int, inputs: list, outputs: list, values: Iterable) -> list:
        part = self._jaxpr.replace(invars=inputs, outvars=outputs, eqns=self._equations[level])
        return eval_jaxpr(part, self._consts, *values)

    def constant(self, *arguments: jax.Array) -> list[jax.Array]:
        """What the other stages need that depends on neither argument."""
        return self._evaluate(CONSTANT, self._inputs(CONSTANT), self._constant, arguments)

    def states(self, constant: list, *first: jax.Array) -> tuple[list, list]:
        """States that the observation needs: those with a derivative, and discrete ones."""
        inputs = self._constant + self._inputs(STATES)
        values = self._evaluate(STATES, inputs, self._states + self._discrete, [*constant, *first])
        return values[: len(self._states)], values[len(self._states) :]

    def observation(
        self, constant: list, states: list, discrete: list, *second: jax.Array
    ) -> list[jax.Array]:
        """Outputs of the function, flat."""
        inputs = self._constant + self._states + self._discrete + self._inputs(OBSERVATION)
        values = [*constant, *states, *discrete, *second]
        return self._evaluate(OBSERVATION, inputs, list(self._jaxpr.outvars), values)


def _variables(atoms: Iterable) -> Iterable:
    """The variables among operands, literals left out."""
    return (atom for atom in atoms if not hasattr(atom, "val"))
