"""States of the sources of evoked responses, by either integrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.evoked import EvokedData
from bayesdcm.integrate.delayed import delayed
from bayesdcm.integrate.evoked_input import stimulus_input
from bayesdcm.integrate.local_linear import (
    balanced_norm,
    halvings_for,
    local_linear,
    step_operator,
)
from bayesdcm.integrate.step_derivative import change_by_entries
from bayesdcm.models.evoked_observation import ModelledSpace, channel_space
from bayesdcm.neural import SourceModel
from bayesdcm.neural.source import from_vector, to_vector

if TYPE_CHECKING:
    from bayesdcm.models.evoked import EvokedDCM

INTEGRATORS = ("local_linear", "delayed")
# Steps of the delay equations, and how long past states are kept, s.
LONGEST_STEP = 0.0005
LONGEST_DELAY = 0.1


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["times", "start", "dt", "design", "signal", "space"],
    meta_fields=["halvings", "entries", "substeps", "memory"],
)
@dataclass(frozen=True)
class Prepared:
    """What a program needs of a data set: a pytree that compiled code takes.

    Attributes
    ----------
    times : (times,)
        Times from the start of integration, s.
    start : ()
        When integration starts, s from the stimulus.
    dt : ()
        Time between samples, s.
    design : (conditions, effects)
        Condition-specific effects.
    signal : (times, conditions * modes)
        Data in channel modes, prepared as SPM does.
    space : ModelledSpace
        Lead fields, modes, confounds, temporal precision.
    halvings, substeps, memory : int
        Settings of the integrators.
    entries : pair of tuples of int, or None
        Entries of the Jacobian, and of its product with the delays, that may depend on
        parameters; None where the delay operator is not a function of these alone.
    """

    times: jax.Array
    start: jax.Array
    dt: jax.Array
    design: jax.Array
    signal: jax.Array
    space: ModelledSpace
    halvings: int
    entries: tuple[tuple[int, ...], tuple[int, ...]] | None
    substeps: int
    memory: int


# Data are constants, also where a caller's function of parameters is being traced.
@jax.ensure_compile_time_eval()
def prepare_evoked(model: EvokedDCM, data: EvokedData) -> Prepared:
    """Arrays that the program of a model needs of a data set.

    Parameters
    ----------
    model : EvokedDCM
        The model.
    data : EvokedData
        A data set that fits it.

    Returns
    -------
    Prepared
        Times, design, data in modes, lead fields.
    """
    space, dt = channel_space(model, data), 1 / data.sampling_rate
    design = np.asarray(data.design)
    substeps = int(np.ceil(dt / LONGEST_STEP - 1e-9))
    return Prepared(
        # As in SPM, the first sample comes one step after the start of integration, which
        # is thought to be at the time of the first sample.
        times=jnp.arange(1, data.n_times + 1) * dt,
        start=jnp.asarray(data.times[0]),
        dt=jnp.asarray(dt),
        design=jnp.asarray(design),
        signal=jnp.asarray(space.signal),
        space=space.arrays(),
        halvings=prior_halvings(model, dt, design.tobytes(), design.shape),
        entries=dependent_entries(model),
        substeps=substeps,
        memory=int(np.ceil(LONGEST_DELAY / (dt / substeps))),
    )


def evoked_states(
    model: EvokedDCM,
    parameters: Mapping[str, jax.Array],
    prepared: Prepared,
    many_directions: bool = False,
) -> jax.Array:
    """States of all sources relative to rest.

    Parameters
    ----------
    model : EvokedDCM
        The model.
    parameters : mapping
        Full neural parameter arrays by name.
    prepared : Prepared
        Times, design and settings of the integrator.
    many_directions : bool
        Prepare for derivatives along many parameters at once, which costs others time.

    Returns
    -------
    jax.Array
        Shape (conditions, times, sources, states).
    """
    source = model.source_model
    start = to_vector(jnp.asarray(source.rest()))
    solve = _solve_delayed
    if model.integrator == "local_linear":
        solve = partial(_solve_local_linear, many_directions=many_directions)

    def condition(effects: jax.Array) -> jax.Array:
        moved = solve(model, source.condition(parameters, effects), start, prepared)
        return jax.vmap(lambda x: from_vector(x - start, model.n_sources))(moved)

    return jax.vmap(condition)(prepared.design)


@partial(jax.jit, static_argnums=(0, 3, 4))
def compiled_states(
    model: EvokedDCM,
    parameters: Mapping[str, jax.Array],
    prepared: Prepared,
    seen: bool,
    many_directions: bool = False,
) -> jax.Array:
    """`evoked_states`, compiled once for a structure and a shape.

    Parameters
    ----------
    model, parameters, prepared, many_directions
        See `evoked_states`.
    seen : bool
        Only the states that channels see.

    Returns
    -------
    jax.Array
        Shape (conditions, times, sources, states).
    """
    states = evoked_states(model, parameters, prepared, many_directions)
    return states[..., model._seen] if seen else states


def _input(model: EvokedDCM, parameters: Mapping[str, jax.Array], times: jax.Array) -> jax.Array:
    timing = parameters.get("input_timing", jnp.zeros((model.n_inputs, 2)))
    return stimulus_input(times, model.onset, model.duration, timing)


def _linear_operators(
    model: EvokedDCM, parameters: Mapping[str, jax.Array], x: jax.Array, u: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Jacobian and delay operator; where the flow is delayed itself, the delayed Jacobian."""
    source = model.source_model
    jacobian = source.jacobian(x, u, parameters, one_sided=model.one_sided)
    delay = source.delay_operator(jacobian, parameters)
    if source.delay_in_flow:
        return delay @ jacobian, jnp.eye(len(jacobian))
    return jacobian, delay


def _solve_local_linear(
    model: EvokedDCM,
    parameters: Mapping[str, jax.Array],
    start: jax.Array,
    prepared: Prepared,
    many_directions: bool,
) -> jax.Array:
    source, n = model.source_model, model.n_sources
    inputs = _input(model, parameters, prepared.times + prepared.start)
    jacobian, delay = _linear_operators(model, parameters, from_vector(start, n), inputs[0])
    operator = step_operator(jacobian, delay, prepared.dt, prepared.halvings)

    def flow(x: jax.Array, u: jax.Array) -> jax.Array:
        states = from_vector(x, n)
        rate = to_vector(source.flow(states, u, parameters))
        if source.delay_in_flow:
            here = source.jacobian(states, u, parameters)
            rate = source.delay_operator(here, parameters) @ rate
        return rate

    change = None
    if many_directions and prepared.entries:

        def change(rates: jax.Array) -> jax.Array:
            delayed = jacobian * source.delays(parameters)
            return change_by_entries(
                jacobian, delayed, rates, prepared.dt, prepared.halvings, prepared.entries
            )

    return local_linear(flow, start, inputs, operator, change=change)


def _solve_delayed(
    model: EvokedDCM, parameters: Mapping[str, jax.Array], start: jax.Array, prepared: Prepared
) -> jax.Array:
    source, n, substeps = model.source_model, model.n_sources, prepared.substeps
    half_steps = jnp.arange(2 * substeps * len(prepared.times) + 1)
    step = prepared.dt / substeps
    inputs = _input(model, parameters, half_steps * step / 2 + prepared.start)

    def flow(x: jax.Array, u: jax.Array) -> jax.Array:
        return to_vector(source.flow(from_vector(x, n), u, parameters))

    delays = source.delays(parameters)
    return delayed(flow, start, inputs, delays, step, prepared.memory, every=substeps)


@lru_cache(maxsize=64)
def prior_halvings(model: EvokedDCM, dt: float, design: bytes, shape: tuple[int, int]) -> int:
    """Halvings that the step operator needs at the prior mean, the worst condition counting.

    Parameters
    ----------
    model : EvokedDCM
        The model.
    dt : float
        Time between samples, s.
    design, shape : bytes, tuple of int
        The design's numbers, hashable, and its shape (conditions, effects).

    Returns
    -------
    int
        For `bayesdcm.integrate.local_linear.phi`.
    """
    source = model.source_model
    parameters = {prior.name: jnp.asarray(prior.mean) for prior in model.neural_priors}
    start, u = jnp.asarray(source.rest()), jnp.zeros(model.n_inputs)

    @jax.jit
    def norm(effects: jax.Array) -> jax.Array:
        changed = source.condition(parameters, effects)
        jacobian, delay = _linear_operators(model, changed, start, u)
        return balanced_norm(dt * delay @ jacobian)

    rows = np.frombuffer(design).reshape(shape)
    return halvings_for(max(float(norm(row)) for row in rows))


@lru_cache(maxsize=64)
def dependent_entries(model: EvokedDCM) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Entries of the Jacobian, and of its product with the delays, that depend on parameters.

    Parameters
    ----------
    model : EvokedDCM
        The model.

    Returns
    -------
    pair of tuples of int, or None
        Flat indices; None where the delay operator is not a function of these alone.
    """
    source = model.source_model
    if model.integrator != "local_linear" or model.one_sided or not source.first_order_delays:
        return None
    start = jnp.asarray(source.rest())

    @jax.jit
    def at(parameters: dict[str, jax.Array], u: jax.Array) -> list[jax.Array]:
        jacobian = source.jacobian(start, u, parameters)
        return [jacobian, jacobian * source.delays(parameters)]

    # Wherever an entry depends on a parameter, it differs between points drawn at random.
    random = np.random.default_rng(0)
    first, second = (
        at(
            {prior.name: random.normal(size=prior.mean.shape) for prior in source.priors()},
            random.normal(size=model.n_inputs),
        )
        for _ in range(2)
    )
    a, b = (tuple(np.flatnonzero(x != y).tolist()) for x, y in zip(first, second, strict=True))
    return a, b


def connection_strength(
    source: SourceModel, parameters: Mapping[str, jax.Array], design: jax.Array
) -> jax.Array:
    """Strength of every connection in every condition, 0 where there is none.

    Parameters
    ----------
    source : SourceModel
        The neural model.
    parameters : mapping
        Full neural parameter arrays by name.
    design : jax.Array
        Shape (conditions, effects).

    Returns
    -------
    jax.Array
        Shape (conditions, kinds, to, from), relative to the prior mean of the baseline.
    """
    free = next(prior for prior in source.priors() if prior.name == "A").free

    def condition(effects: jax.Array) -> jax.Array:
        return jnp.where(free, jnp.exp(source.condition(parameters, effects)["A"]), 0.0)

    return jax.vmap(condition)(design)
