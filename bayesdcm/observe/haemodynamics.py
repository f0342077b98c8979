"""Haemodynamics driven by a linear neuronal system, solved exactly.

With blood flow itself (not its logarithm) as the state, the vasodilatory signal and flow are a
linear filter of neuronal activity; only venous volume is nonlinear, and deoxyhaemoglobin is
linear once volume is known. `balloon_response` uses this: an exact cascade for activity, signal
and flow, then a Taylor expansion of high order for volume, one root a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.integrate.cascade import Cascade, propagators, total, trajectory
from bayesdcm.integrate.directions import along_directions
from bayesdcm.integrate.grid import TimeGrid, at_samples
from bayesdcm.neural.base import Parameters
from bayesdcm.observe import balloon
from bayesdcm.observe.balloon import LOWEST_FLOW, STEPHAN_2007
from bayesdcm.observe.venous import VenousSlopes, venous_course, venous_response

TAYLOR_ORDER = 8
# Longest step of the nonlinear part, s; order and step together keep the error near 1e-5 of the
# peak for responses of 5 % (ci/benchmarks/integrators.py).
LONGEST_STEP = 0.85
# Neuronal states up to which sums of products are written out, and many directions are taken
# together. Derivatives of 16 regions take four fifths of the time; of 31, they would take four
# thirds.
MOST_STATES = 24


def _generator(neuronal: jax.Array, drive: jax.Array, rates: jax.Array) -> Cascade:
    """Assemble a cascade whose filters receive activity in their first state."""
    entry = jnp.zeros(rates.shape[-1]).at[0].set(1.0)
    return Cascade(neuronal, entry[None, :, None] * drive[:, None, :], rates)


def _flow_filter(decay_rate: jax.Array, n_regions: int) -> jax.Array:
    """Rates of the filter from activity to (s, f - 1), shape (regions, 2, 2), 1/s."""
    rates = jnp.array([[0.0, -STEPHAN_2007.autoregulation], [1.0, 0.0]]).at[0, 0].set(-decay_rate)
    return jnp.broadcast_to(rates, (n_regions, 2, 2))


def balloon_response(
    neuronal: jax.Array,
    drive: jax.Array,
    parameters: Parameters,
    grid: TimeGrid,
) -> jax.Array:
    """BOLD of the published, nonlinear Balloon model.

    Parameters
    ----------
    neuronal : jax.Array
        Generator of the neuronal states for each distinct input, with a leading constant,
        shape (distinct inputs, m, m), 1/s.
    drive : jax.Array
        Which combination of neuronal states drives each region, shape (regions, m).
    parameters : mapping
        ``transit`` (regions,), ``decay`` (), ``epsilon`` ().
    grid : TimeGrid
        Steps, none longer than `LONGEST_STEP`, and sample points.

    Returns
    -------
    jax.Array
        Percent signal change, shape (scans, regions).
    """
    decay = balloon.decay_rate(parameters["decay"])
    tau = balloon.transit_time(parameters["transit"])
    v, q = _venous_course(neuronal, drive, decay, tau, grid)
    return balloon.bold_signal(at_samples(v, grid), at_samples(q, grid), parameters["epsilon"])


@jax.custom_jvp
def _venous_course(
    neuronal: jax.Array, drive: jax.Array, decay: jax.Array, tau: jax.Array, grid: TimeGrid
) -> tuple[jax.Array, jax.Array]:
    """Volume and deoxyhaemoglobin at all points of the grid, each (steps + 1, regions)."""
    _, h, activity = _from_rest(*_steps_and_rows(neuronal, drive, decay, grid), grid)
    return venous_course(_flow(activity, h, decay), _durations(grid), tau)


@_venous_course.defjvp
def _venous_course_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    # What a step makes of changes at its start is worked out once for all directions; each of them
    # then costs a few products a step.
    given, (tau, grid) = primals[:3], primals[3:]
    *_, moved_decay, moved_tau, _ = tangents
    (steps, rows), (moved_steps, moved_rows) = jax.jvp(
        lambda *given: _steps_and_rows(*given, grid), given, tangents[:3]
    )
    x, h, activity = _from_rest(steps, rows, grid)
    flow, adjoint = jax.vjp(_flow, activity, h, jnp.broadcast_to(given[2], h[:, 0].shape))
    v, q, slopes = venous_response(flow, _durations(grid), tau)
    effects = _effects(slopes, adjoint, rows[grid.step], tau)
    given = (_from_first(steps), x, h, effects)
    changes = (_from_first(moved_steps), moved_rows.transpose(0, 3, 1, 2), moved_decay, moved_tau)
    still = jnp.zeros_like(tau)[None]
    course = _along_directions if x.shape[1] <= MOST_STATES else _moved_course
    moved = course((given, grid.step), changes)
    return (v, q), tuple(jnp.concatenate([still, part]) for part in moved)


def _moved_course(given: tuple, changes: tuple) -> tuple[jax.Array, jax.Array]:
    """Changes of volume and deoxyhaemoglobin at the end of steps, each (steps, regions)."""
    (steps, x, h, effects), step_of = given
    moved_steps, moved_rows, moved_decay, moved_tau = changes

    def move(state: tuple, taken: tuple) -> tuple:
        moved_x, moved_h, v, q = state
        index, x, h, by = taken
        step, change = jax.tree.map(lambda block: block[index], (steps, moved_steps))
        later = _weighted_sum(moved_x, step[0]) + _weighted_sum(x, change[0])
        later_h = _weighted_sum(moved_h, step[1]) + _weighted_sum(h, change[1])
        moved_activity = _weighted_sum(x, moved_rows[index])
        forced = (
            _weighted_sum(moved_activity, by.activity)
            + _weighted_sum(moved_x, by.x)
            + _weighted_sum(moved_h, by.h)
        )
        forced = forced + by.decay * moved_decay + by.tau * moved_tau + by.v * v
        v, q = forced[0], forced[1] + by.q * q
        later_h = later_h + later[len(x) :].reshape(later_h.shape)
        return (later[: len(x)], later_h, v, q), (v, q)

    still = jnp.zeros_like(moved_tau)
    directions = moved_decay.shape
    start = jnp.zeros((x.shape[1], *directions)), jnp.zeros((*h.shape[1:3], *directions))
    return jax.lax.scan(move, (*start, still, still), (step_of, x, h, effects))[1]


@along_directions
def _along_directions(given: tuple, changes: tuple) -> tuple[jax.Array, jax.Array]:
    """The same, with an axis of directions after all others of changes."""
    same, step_of = given
    return _moved_course((jax.tree.map(lambda part: part[..., None], same), step_of), changes)


class _Effects(NamedTuple):
    """Derivatives of volume and deoxyhaemoglobin at the end of steps by what is at their start.

    Attributes
    ----------
    x : (steps, m, 2, regions)
        By neuronal states.
    activity : (steps, orders, 2, regions)
        By changes of the driving activity's time derivatives that are not those of `x`.
    h : (steps, 2, 2, regions)
        By vasodilatory signal and blood flow.
    decay, tau, v : (steps, 2, regions)
        By parameters, and by volume.
    q : (steps, regions)
        Of deoxyhaemoglobin by itself.
    """

    x: jax.Array
    activity: jax.Array
    h: jax.Array
    decay: jax.Array
    tau: jax.Array
    v: jax.Array
    q: jax.Array


def _effects(slopes: VenousSlopes, adjoint: Callable, rows: jax.Array, tau: jax.Array) -> _Effects:
    pairs = zip(slopes.volume_by_flow, slopes.deoxyhaemoglobin_by_flow, strict=True)
    by_activity, by_h, by_decay = jax.vmap(adjoint, 0, (2, 2, 1))([jnp.stack(p) for p in pairs])
    by_tau = slopes.volume_by_log_transit_time, slopes.deoxyhaemoglobin_by_log_transit_time
    by_v = slopes.volume_by_volume, slopes.deoxyhaemoglobin_by_volume
    return _Effects(
        _weighted_sum(
            by_activity.swapaxes(0, 1)[:, :, None], rows.transpose(1, 0, 3, 2)[:, :, :, None]
        ),
        by_activity,
        by_h,
        by_decay,
        jnp.stack(by_tau, axis=1) / tau,
        jnp.stack(by_v, axis=1),
        slopes.deoxyhaemoglobin_by_itself,
    )


def _weighted_sum(weights: jax.Array, parts: jax.Array) -> jax.Array:
    """Sum over the first axis of products."""
    return total(jax.vmap(jnp.multiply)(weights, parts), 0, MOST_STATES)


def _from_first(steps: Cascade) -> tuple[jax.Array, jax.Array]:
    """Blocks with the axis of what they act on before those of what they lead to.

    Those of neuronal states (propagators, m, m + 2 regions) and of filters (propagators, 2, 2,
    regions).
    """
    n, m = steps.neuronal.shape[:2]
    coupling = steps.coupling.transpose(0, 3, 2, 1).reshape(n, m, -1)
    neuronal = jnp.concatenate([steps.neuronal.swapaxes(1, 2), coupling], axis=2)
    return neuronal, steps.filter.transpose(0, 3, 2, 1)


def _steps_and_rows(
    neuronal: jax.Array, drive: jax.Array, decay: jax.Array, grid: TimeGrid
) -> tuple[Cascade, jax.Array]:
    """Propagators, and rows that read the driving activity's time derivatives off the states."""
    generator = _generator(neuronal, drive, _flow_filter(decay, len(drive)))
    rows = _activity_derivatives(neuronal, drive)[grid.propagator_input]
    return propagators(generator, grid), rows


def _from_rest(steps: Cascade, rows: jax.Array, grid: TimeGrid) -> tuple:
    """States at the start of steps, from rest.

    Neuronal ones (steps, m), signal and flow less one (steps, 2, regions), and time derivatives of
    the driving activity (steps, orders, regions).
    """
    x0 = jnp.zeros(rows.shape[-1]).at[0].set(1.0)
    x, h, activity = trajectory(steps, grid, x0, jnp.zeros((rows.shape[2], 2)), rows)
    return x[:-1], h[:-1].swapaxes(1, 2), activity


def _durations(grid: TimeGrid) -> jax.Array:
    return (grid.bin_width * grid.propagator_bins)[grid.step][:, None]


def _activity_derivatives(neuronal: jax.Array, drive: jax.Array) -> jax.Array:
    """Rows that read the driving activity and its time derivatives off the neuronal states.

    Shape (distinct inputs, TAYLOR_ORDER - 2, regions, m): derivative j is ``drive M^j x``.
    """
    rows = [jnp.broadcast_to(drive, (len(neuronal), *drive.shape))]
    for _ in range(TAYLOR_ORDER - 3):
        rows.append((rows[-1][..., :, None] * neuronal[:, None, :, :]).sum(-2))
    return jnp.stack(rows, axis=1)


def _flow(activity: jax.Array, h: jax.Array, decay: jax.Array) -> list[jax.Array]:
    """Taylor coefficients of blood flow at the start of steps; constant below the floor.

    Its time derivatives follow from ``f'' = activity - decay f' - 0.32 (f - 1)``, differentiated as
    often as needed.
    """
    signal, raised = jnp.unstack(h, axis=1)
    derivatives = [raised, signal]
    for each in jnp.unstack(activity, axis=1):
        later = each - decay * derivatives[-1] - STEPHAN_2007.autoregulation * derivatives[-2]
        derivatives.append(later)
    low = 1 + raised < LOWEST_FLOW
    rising = [
        jnp.where(low, 0.0, derivative / math.factorial(order))
        for order, derivative in enumerate(derivatives[1:], start=1)
    ]
    return [jnp.where(low, LOWEST_FLOW, 1 + raised), *rising]
