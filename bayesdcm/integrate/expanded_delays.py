"""The solver of evoked responses in which delays act to first order, as in SPM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.by_value import ByValue
from bayesdcm.integrate.evoked_input import StimulusDriven
from bayesdcm.integrate.local_linear import (
    balanced_norm,
    halvings_for,
    local_linear,
    step_operator,
)
from bayesdcm.integrate.step_derivative import Entries, Given, step_by_entries
from bayesdcm.neural.base import NeuralModel, Parameters, Prior, from_vector, to_vector
from bayesdcm.neural.source import SourceModel


@dataclass(frozen=True)
class LocalLinear(StimulusDriven):
    """Local linearisation with a first-order expansion of the delays: SPM's scheme.

    One operator, from the Jacobian at rest and the delays, advances the states over every sample;
    see `bayesdcm.integrate.local_linear`.

    Parameters
    ----------
    onset, duration : float or array_like
        Prior mean of the time at which the input peaks, and of its standard deviation, s.
    one_sided : bool
        Whether Jacobians are SPM's one-sided differences instead of exact; for parity only.

    Examples
    --------
    >>> LocalLinear(onset=0.08).onset
    0.08
    """

    one_sided: bool = False

    def settings(
        self, neural: NeuralModel, dt: float, design: np.ndarray, priors: Mapping[str, Prior]
    ) -> ByValue[tuple]:
        """Halvings that the step operator needs, and entries that depend on parameters.

        Those that depend on any, and those that depend on any that are free.
        """
        in_force = [priors.get(prior.name, prior) for prior in neural.priors()]
        means = {prior.name: prior.mean for prior in in_force}
        entries = of_free = None
        if isinstance(neural, SourceModel) and not self.one_sided:
            entries = dependent_entries(ByValue(neural))
            fixed = {prior.name: np.where(prior.free, np.nan, prior.mean) for prior in in_force}
            of_free = dependent_entries(ByValue(neural), ByValue(fixed))
        halvings = prior_halvings(ByValue((neural, means, self.one_sided, dt, design)))
        return ByValue((halvings, entries, of_free))

    def of_program(self, arrays: dict) -> dict:
        """See `Solver.of_program`."""
        halvings, _, of_free = arrays["settings"].value
        return {**arrays, "settings": ByValue((halvings, of_free, of_free))}

    def trajectory(
        self, neural: NeuralModel, parameters: Parameters, start: jax.Array, arrays: dict
    ) -> jax.Array:
        """See `StimulusDriven.trajectory`."""
        n, dt = neural.n_nodes, arrays["dt"]
        halvings, entries, _ = arrays["settings"].value
        inputs = self.inputs(neural, parameters, arrays["times"] + arrays["start"])
        rest = from_vector(start, n)
        pair = linear_operators(neural, parameters, rest, inputs[0], self.one_sided)
        operator, steps = step_operator(*pair, dt, halvings), None
        if entries:
            jacobian, delay_operator = pair

            def steps(rates: jax.Array) -> jax.Array:
                held = jax.lax.stop_gradient((operator, delay_operator))
                given = Given(rates, dt, *held)
                delays = neural.delays(parameters)
                return step_by_entries(jacobian, delays, given, halvings, entries)

        def flow(x: jax.Array, u: jax.Array) -> jax.Array:
            states = from_vector(x, n)
            rate = to_vector(neural.flow(states, u, parameters))
            if neural.delay_in_flow:
                here = neural.jacobian(states, u, parameters)
                rate = neural.delay_operator(here, parameters) @ rate
            return rate

        return local_linear(flow, start, inputs, operator, steps)


def linear_operators(
    neural: NeuralModel, parameters: Parameters, x: jax.Array, u: jax.Array, one_sided: bool
) -> tuple[jax.Array, jax.Array]:
    """Jacobian and delay operator; where the flow is delayed itself, the delayed Jacobian."""
    how = {"one_sided": True} if one_sided else {}
    jacobian = neural.jacobian(x, u, parameters, **how)
    delay = neural.delay_operator(jacobian, parameters)
    if neural.delay_in_flow:
        return delay @ jacobian, jnp.eye(len(jacobian))
    return jacobian, delay


@lru_cache(maxsize=64)
def prior_halvings(held: ByValue[tuple]) -> int:
    """Halvings that `phi` needs at the prior mean, the worst condition counting.

    Of neural model, prior means by name, whether Jacobians are one-sided differences, time between
    samples (s), and design (conditions, effects).
    """
    neural, means, one_sided, dt, design = held.value
    parameters = {name: jnp.asarray(mean, float) for name, mean in means.items()}

    @jax.jit
    def norm(effects: jax.Array) -> jax.Array:
        changed = neural.condition(parameters, effects)
        start, u = jnp.asarray(neural.rest(changed), float), jnp.zeros(neural.n_inputs)
        jacobian, delay = linear_operators(neural, changed, start, u, one_sided)
        return balanced_norm(dt * delay @ jacobian)

    return halvings_for(max(float(norm(row)) for row in design))


@lru_cache(maxsize=64)
def dependent_entries(
    held: ByValue[SourceModel], fixed: ByValue[dict[str, np.ndarray]] | None = None
) -> Entries | None:
    """Entries of the Jacobian, and of the delays where it is not zero, that depend on parameters.

    Those that are the same function of them, of the Jacobian up to a factor, are in one group.
    Parameters are all, or those that are NaN in the full arrays of `fixed`.

    Rates must be analytic functions of the parameters. None where no entry does, or where the delay
    operator is not a function of these entries alone.
    """
    source, constants = held.value, fixed.value if fixed else {}
    own_operator = type(source).delay_operator is not NeuralModel.delay_operator
    if own_operator or source.delay_in_flow or type(source).delays is NeuralModel.delays:
        return None
    start, random = np.asarray(source.rest()), np.random.default_rng(0)

    @jax.jit
    def at(parameters: dict[str, jax.Array], u: jax.Array, effects: jax.Array) -> jax.Array:
        parameters = source.condition(parameters, effects)
        jacobian = source.jacobian(start, u, parameters)
        return jnp.stack([jacobian, source.delays(parameters)])

    def drawn(prior: Prior) -> np.ndarray:
        value, constant = random.normal(size=prior.mean.shape), constants.get(prior.name, np.nan)
        return np.where(np.isnan(constant), value, constant)

    # Wherever an entry depends on a parameter, it differs between points drawn at random.
    first, second = (
        np.asarray(
            at(
                {prior.name: drawn(prior) for prior in source.priors()},
                random.normal(size=source.n_inputs),
                random.normal(size=source.n_effects),
            )
        )
        for _ in range(2)
    )
    moving = first != second
    moving[1] &= moving[0] | (first[0] != 0)
    if not moving.any():
        return None
    growth = second[0] / np.where(moving[0], first[0], 1.0)
    of_jacobian = _alike(moving[0], growth[..., None])
    factors = tuple(
        tuple(float(first[0].flat[entry] / first[0].flat[group[0]]) for entry in group)
        for group in of_jacobian
    )
    # What delays share is cheap within a column.
    columns = np.broadcast_to(np.arange(first.shape[-1]), first.shape[1:])
    of_delays = _alike(moving[1], np.stack([first[1], second[1], columns], axis=-1))
    return Entries(of_jacobian, factors, of_delays)


def _alike(moving: np.ndarray, values: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Groups of entries, flat, whose `values` (n, n, k) are the same; small groups first."""
    groups: dict[tuple, list[int]] = {}
    for entry in np.flatnonzero(moving).tolist():
        key = tuple(f"{value:.12e}" for value in values.reshape(moving.size, -1)[entry])
        groups.setdefault(key, []).append(entry)
    return tuple(sorted(map(tuple, groups.values()), key=len))
