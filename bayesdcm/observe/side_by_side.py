"""Balloon responses of many subjects side by side, with their derivatives along many directions.

A core multiplies four or eight numbers with one instruction if they lie side by side in memory. The
matrices of a subject are too small for that, so here the last axis of every array is the subjects.
Steps are taken a few at a time, and all that belongs to them is done before the next ones, so that
it stays in the caches; a step of the derivatives is linear in what they were, with coefficients
that all directions share (`bayesdcm.observe.venous_slopes`).

The numbers are those of `bayesdcm.observe.haemodynamics.balloon_response` up to rounding. Programs
traced within `subjects_side_by_side`, differentiated along all parameters and mapped over subjects
(`jax.vmap` of `jax.jacfwd`) take this path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from bayesdcm.integrate.cascade import Cascade
from bayesdcm.integrate.cascade_side_by_side import apply, pick, pick_many, propagators
from bayesdcm.integrate.grid import TimeGrid
from bayesdcm.neural.base import Parameters
from bayesdcm.observe import balloon
from bayesdcm.observe.haemodynamics import (
    LOWEST_FLOW,
    TAYLOR_ORDER,
    balloon_response,
    flow_filter_of,
    next_flow_derivative,
)
from bayesdcm.observe.venous import volume_series
from bayesdcm.observe.venous_slopes import (
    VenousSlopes,
    deoxyhaemoglobin_propagator,
    venous_step,
)

# Steps taken together; grids have a multiple of it (`bayesdcm.integrate.grid.STEP_BLOCK`).
STEPS = 4

_expected = ContextVar("subjects_side_by_side", default=False)


@contextmanager
def subjects_side_by_side() -> Iterator[None]:
    """Programs traced in this context are mapped over subjects.

    Examples
    --------
    >>> with subjects_side_by_side():
    ...     expects_subjects()
    True
    >>> expects_subjects()
    False
    """
    token = _expected.set(True)
    try:
        yield
    finally:
        _expected.reset(token)


def expects_subjects() -> bool:
    """Whether this is called in the context `subjects_side_by_side`."""
    return _expected.get()


class _Given(NamedTuple):
    """What the response depends on, but for the grid; with subjects on the last axis, or of one.

    Attributes
    ----------
    neuronal : (distinct inputs, m, m)
        Generators of the neuronal states, with a leading constant, 1/s.
    drive : (regions, m)
        Which combination of neuronal states drives each region.
    decay : ()
        Rate of the vasodilatory signal's decay, 1/s.
    tau : (regions,)
        Transit times, s.
    epsilon : ()
        Log ratio of intra- to extravascular signal.
    """

    neuronal: jax.Array
    drive: jax.Array
    decay: jax.Array
    tau: jax.Array
    epsilon: jax.Array


def balloon_response_side_by_side(
    neuronal: jax.Array, drive: jax.Array, parameters: Parameters, grid: TimeGrid
) -> jax.Array:
    """BOLD of the published, nonlinear Balloon model, of one of many subjects.

    Parameters
    ----------
    neuronal, drive, parameters, grid
        As in `bayesdcm.observe.haemodynamics.balloon_response`.

    Returns
    -------
    jax.Array
        Percent signal change, shape (scans, regions).
    """
    given = _Given(
        neuronal,
        drive,
        balloon.decay_rate(parameters["decay"]),
        balloon.transit_time(parameters["transit"]),
        parameters["epsilon"],
    )
    return _response(given, grid)


@jax.custom_jvp
def _response(given: _Given, grid: TimeGrid) -> jax.Array:
    parameters = {
        "decay": jnp.log(given.decay / balloon.SIGNAL_DECAY),
        "transit": jnp.log(given.tau / balloon.TRANSIT_TIME),
        "epsilon": given.epsilon,
    }
    return balloon_response(given.neuronal, given.drive, parameters, grid)


@_response.defjvp
def _response_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return _along_direction(*primals, tangents[0])


@custom_vmap
def _along_direction(given: _Given, grid: TimeGrid, moved: _Given) -> tuple[jax.Array, jax.Array]:
    """Response of a subject, and its derivative along a direction."""
    signal, change = _along_directions(given, grid, jax.tree.map(lambda t: t[None], moved))
    return signal, change[0]


@_along_direction.def_vmap
def _map_directions(
    n: int, mapped: tuple, given: _Given, grid: TimeGrid, moved: _Given
) -> tuple[tuple, tuple]:
    if any(jax.tree.leaves(mapped[:2])):
        raise NotImplementedError("directions are mapped before subjects: jax.vmap of jax.jacfwd")
    moved = jax.tree.map(
        lambda t, along: t if along else jnp.broadcast_to(t, (n, *t.shape)), moved, mapped[2]
    )
    return _along_directions(given, grid, moved), (False, True)


@custom_vmap
def _along_directions(given: _Given, grid: TimeGrid, moved: _Given) -> tuple[jax.Array, jax.Array]:
    """Response of a subject, and its derivatives along directions (directions, ...)."""
    given, grid, moved = jax.tree.map(lambda a: a[..., None], (given, grid, moved))
    signal, change = response_and_slopes(given, grid, moved)
    return signal[..., 0], change[..., 0]


@_along_directions.def_vmap
def _map_subjects(
    n: int, mapped: tuple, given: _Given, grid: TimeGrid, moved: _Given
) -> tuple[tuple, tuple]:
    def last(array: jax.Array, along: bool) -> jax.Array:
        if along:
            return jnp.moveaxis(array, 0, -1)
        return jnp.broadcast_to(array[..., None], (*array.shape, n))

    given, moved = jax.tree.map(last, (given, moved), (mapped[0], mapped[2]))
    if any(jax.tree.leaves(mapped[1])):
        grid = jax.tree.map(last, grid, mapped[1])
    else:  # looked up once for all
        grid = jax.tree.map(lambda array: array[..., None], grid)
    signal, change = response_and_slopes(given, grid, moved)
    return (jnp.moveaxis(signal, -1, 0), jnp.moveaxis(change, -1, 0)), (True, True)


# The response


class _State(NamedTuple):
    """At a point of the grid, subjects last; derivatives with a first axis of directions.

    Attributes
    ----------
    x : (m, subjects)
        Neuronal states with the leading constant.
    h : (regions, 2, subjects)
        Vasodilatory signal, and blood flow less one.
    v, q : (regions, subjects)
        Volume and deoxyhaemoglobin.
    """

    x: jax.Array
    h: jax.Array
    v: jax.Array
    q: jax.Array


class _Sensitivity(NamedTuple):
    """Derivatives of v and q (axis of two) at the end of a step, less those by their start.

    Attributes
    ----------
    by_x : (..., 2, regions, m, subjects)
        By neuronal states.
    by_generator : (..., 2, regions, m - 1, m, subjects)
        By the generator during the step, less its first row, which is zero.
    by_signal, by_flow, by_decay, by_tau : (..., 2, regions, subjects)
        By vasodilatory signal, blood flow, and parameters.
    """

    by_x: jax.Array
    by_generator: jax.Array
    by_signal: jax.Array
    by_flow: jax.Array
    by_decay: jax.Array
    by_tau: jax.Array


def response_and_slopes(
    given: _Given, grid: TimeGrid, moved: _Given
) -> tuple[jax.Array, jax.Array]:
    """Responses of subjects, and their derivatives along directions.

    Parameters
    ----------
    given : _Given
        Each array with a last axis of subjects.
    grid : TimeGrid
        Each array with a last axis of subjects, or of one where all share the grid.
    moved : _Given
        Directions: as `given`, with a first axis of directions; `drive` does not move.

    Returns
    -------
    signal : jax.Array
        Percent signal change, shape (scans, regions, subjects).
    change : jax.Array
        Its derivatives, shape (directions, scans, regions, subjects).
    """

    def propagate(neuronal: jax.Array, decay: jax.Array) -> Cascade:
        return propagators(_generator(neuronal, given.drive, decay), grid)

    def along(neuronal: jax.Array, decay: jax.Array) -> Cascade:
        return jax.jvp(propagate, (given.neuronal, given.decay), (neuronal, decay))[1]

    steps = propagate(given.neuronal, given.decay)
    moved_steps = jax.vmap(along, out_axes=1)(moved.neuronal, moved.decay)

    def advance(state: tuple, step: jax.Array) -> tuple:
        x, h = state
        propagator = pick(steps, step)
        later = apply(propagator.coupling, x) + apply(propagator.filter, h)
        return (apply(propagator.neuronal, x), later), (x, h)

    def fill(v: jax.Array, step: tuple) -> tuple:
        series = volume_series(v, *step)
        return sum(series[0]), series

    def move(state: _State, taken: tuple) -> tuple:
        step, held, x, h, venous, sensitivity, (by_v, by_q) = taken
        propagator, change = pick(steps, step), pick(moved_steps, step)
        generator = pick(moved.neuronal.swapaxes(0, 1), held)
        forced = _forced(sensitivity, state, generator, moved)
        own = apply(propagator.filter, state.h) + apply(change.filter, h)
        received = apply(propagator.coupling, state.x[:, None]) + apply(change.coupling, x)
        later = _State(
            apply(propagator.neuronal, state.x) + apply(change.neuronal, x),
            received + own,
            forced[:, 0] + venous.volume_by_volume * state.v,
            forced[:, 1]
            + venous.deoxyhaemoglobin_by_volume * state.v
            + venous.deoxyhaemoglobin_by_itself * state.q,
        )
        return later, by_v * later.v + by_q * later.q

    def signal_slopes(v: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
        one, zero = jnp.ones_like(v), jnp.zeros_like(v)

        def slope(*moved: jax.Array) -> jax.Array:
            tangents = (*moved, jnp.zeros_like(given.epsilon))
            return jax.jvp(balloon.bold_signal, (v, q, given.epsilon), tangents)[1]

        return slope(one, zero), slope(zero, one)

    def some_steps(state: tuple[_State, _State], taken: tuple) -> tuple:
        at, change = state
        step, held, duration, tau = taken
        (x_end, h_end), (x, h) = jax.lax.scan(advance, (at.x, at.h), step)
        taylor = _taylor(x, h, pick_many(given.neuronal, held), duration, given)
        flow = taylor.flow
        v_end, series = jax.lax.scan(fill, at.v, (flow, tau))
        affine = deoxyhaemoglobin_propagator(*series, flow, tau)
        q_end, q = jax.lax.scan(lambda q, by: (by[0] * q + by[1], q), at.q, affine)
        venous = venous_step(*series, q, flow, tau)
        sensitivity = _sensitivity(venous, taylor, given)
        venous = venous._replace(volume_by_flow=[], deoxyhaemoglobin_by_flow=[])
        v = series[0][0]
        ends = (jnp.concatenate([v[1:], v_end[None]]), jnp.concatenate([q[1:], q_end[None]]))
        taken = (step, held, x, h, venous, sensitivity, signal_slopes(*ends))
        change, signal_change = jax.lax.scan(move, change, taken)
        at = _State(x_end, h_end, v_end, q_end)
        return (at, change), (*ends, signal_change)

    rest = _at_rest(given)
    still = jax.tree.map(lambda a: jnp.zeros((len(moved.decay), *a.shape)), rest)
    held = jnp.take_along_axis(grid.propagator_input, grid.step, axis=0)
    duration = grid.bin_width * jnp.take_along_axis(grid.propagator_bins, grid.step, axis=0)
    duration = duration[:, None]
    blocks = jax.tree.map(
        lambda a: a.reshape(-1, STEPS, *a.shape[1:]),
        (grid.step, held, duration, given.tau / duration),
    )
    _, found = jax.lax.scan(some_steps, (rest, still), blocks)
    v, q, signal_change = (a.reshape(-1, *a.shape[2:]) for a in found)
    at = (_sampled(v, grid.sample, 1.0), _sampled(q, grid.sample, 1.0), given.epsilon)
    tangents = (jnp.zeros_like(at[0]), jnp.zeros_like(at[1]), jnp.ones_like(given.epsilon))
    signal, by_epsilon = jax.jvp(balloon.bold_signal, at, tangents)
    sampled = jnp.moveaxis(_sampled(signal_change, grid.sample, 0.0), 1, 0)
    return signal, sampled + by_epsilon * moved.epsilon[:, None, None]


def _generator(neuronal: jax.Array, drive: jax.Array, decay: jax.Array) -> Cascade:
    """Activity drives the first state of each region's filter, which ends in blood flow."""
    rates = jax.vmap(lambda rate: flow_filter_of(rate, len(drive)), -1, -1)(decay)
    n_regions, m, n_subjects = drive.shape
    coupling = jnp.zeros((n_regions, 2, m, n_subjects)).at[:, 0].set(drive)
    return Cascade(neuronal, coupling, rates)


def _at_rest(given: _Given) -> _State:
    n_regions, m, n_subjects = given.drive.shape
    one = jnp.ones((n_regions, n_subjects))
    x = jnp.zeros((m, n_subjects)).at[0].set(1.0)
    return _State(x, jnp.zeros((n_regions, 2, n_subjects)), one, one)


class _Taylor(NamedTuple):
    """What enters the venous compartment on some steps, as series in time.

    Attributes
    ----------
    generators : (steps, m, m, subjects)
        Of the neuronal states, 1/s.
    neuronal : (orders, steps, m, subjects)
        Time derivatives of the neuronal states, of order 0 and on.
    derivatives : (orders + 1, steps, regions, subjects)
        Those of blood flow, of order 1 and on.
    flow : list of (steps, regions, subjects)
        Taylor coefficients of blood flow in units of the durations, constant below the floor.
    scale : (orders + 2, steps, regions, subjects)
        Coefficients over time derivatives, duration^k / k!; zero below the floor.

    There are ``TAYLOR_ORDER - 2`` orders of activity.
    """

    generators: jax.Array
    neuronal: jax.Array
    derivatives: jax.Array
    flow: list[jax.Array]
    scale: jax.Array


def _taylor(
    x: jax.Array, h: jax.Array, generators: jax.Array, duration: jax.Array, given: _Given
) -> _Taylor:
    """Series of what drives the venous compartment, from the states at the start of steps."""
    low = 1 + h[:, :, 1] < LOWEST_FLOW
    scale = jnp.stack(
        [jnp.where(low, 0.0, duration**k / math.factorial(k)) for k in range(TAYLOR_ORDER)]
    )

    # A loop, as XLA would compute lower orders again for each higher one.
    def rise(state: tuple, scale: jax.Array) -> tuple:
        x, last, before = state
        later = next_flow_derivative(apply(given.drive, x), last, before, given.decay)
        return (apply(generators, x), later, last), (x, later, scale * later)

    signal, flow = h[:, :, 0], h[:, :, 1]
    _, (neuronal, derivatives, higher) = jax.lax.scan(rise, (x, signal, flow), scale[2:])
    constant = jnp.where(low, LOWEST_FLOW, 1 + flow)
    return _Taylor(
        generators,
        neuronal,
        jnp.concatenate([signal[None], derivatives]),
        [constant, scale[1] * signal, *higher],
        scale,
    )


def _sampled(values: jax.Array, sample: jax.Array, before: float) -> jax.Array:
    """Values where each region is read, (scans, ..., regions, subjects).

    From those at the end of steps, (steps, ..., regions, subjects), and the one before the first.
    """
    between = (1,) * (values.ndim - 3)
    index = sample.reshape(len(sample), *between, *sample.shape[1:])
    found = jnp.take_along_axis(values, jnp.maximum(index - 1, 0), axis=0)
    return jnp.where(index > 0, found, before)


def _sensitivity(venous: VenousSlopes, taylor: _Taylor, given: _Given) -> _Sensitivity:
    """Derivatives by what the flow is made of, from those by its Taylor coefficients.

    The adjoint of `_taylor`.
    """
    by_coefficient = zip(venous.volume_by_flow, venous.deoxyhaemoglobin_by_flow, strict=True)
    by_derivative = [
        jnp.stack(pair, axis=1) * scale[:, None]
        for pair, scale in zip(by_coefficient, taylor.scale, strict=True)
    ]

    # Activity k is drive generator^k x. A loop, as XLA would compute sums again for each product.
    def lower(state: tuple, order: tuple) -> tuple:
        by_next, by_next_but_one, by_power, by_decay = state
        by_activity, before = order
        # The recurrence of the derivatives of flow is its own adjoint.
        by_activity = next_flow_derivative(by_activity, by_next, by_next_but_one, given.decay)
        through = sum(
            by_power[:, :, :, j, None] * taylor.generators[:, None, None, j]
            for j in range(by_power.shape[3])
        )
        power = through + by_activity[:, :, :, None] * given.drive
        by_decay = by_decay - by_activity * before[:, None]
        return (by_activity, by_next, power, by_decay), by_power

    zero = jnp.zeros_like(by_derivative[0])
    start = (zero, zero, jnp.zeros((*zero.shape[:-1], *taylor.neuronal.shape[2:])), zero)
    orders = (jnp.stack(by_derivative[:1:-1]), taylor.derivatives[-2::-1])
    (by_second, by_third, by_x, by_decay), by_powers = jax.lax.scan(lower, start, orders)
    by_generator = sum(
        by_power[:, :, :, 1:, None] * x[:, None, None, None]
        for by_power, x in zip(by_powers[1:], taylor.neuronal[-2::-1], strict=True)
    )
    by_signal = next_flow_derivative(by_derivative[1], by_second, by_third, given.decay)
    by_flow = by_derivative[0] - balloon.AUTOREGULATION * by_second
    by_log_tau = [venous.volume_by_log_transit_time, venous.deoxyhaemoglobin_by_log_transit_time]
    by_tau = jnp.stack(by_log_tau, axis=1) / given.tau
    return _Sensitivity(by_x, by_generator, by_signal, by_flow, by_decay, by_tau)


def _forced(by: _Sensitivity, state: _State, generator: jax.Array, moved: _Given) -> jax.Array:
    """Changes of v and q over a step by all but v and q, (directions, 2, regions, subjects)."""
    n_rows, m = by.by_generator.shape[2:4]
    through_x = sum(by.by_x[:, :, k] * state.x[:, None, None, k] for k in range(m))
    through_generator = sum(
        by.by_generator[:, :, j, k] * generator[:, None, None, 1 + j, k]
        for j in range(n_rows)
        for k in range(m)
    )
    s, f = state.h[:, None, :, 0], state.h[:, None, :, 1]
    through_parameters = by.by_decay * moved.decay[:, None, None] + by.by_tau * moved.tau[:, None]
    return through_x + through_generator + by.by_signal * s + by.by_flow * f + through_parameters
