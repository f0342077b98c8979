"""Haemodynamics driven by a linear neuronal system, solved exactly or linearised about rest.

With blood flow itself (not its logarithm) as the state, the vasodilatory signal and flow are a
linear filter of neuronal activity; only venous volume is nonlinear, and deoxyhaemoglobin is
linear once volume is known. `balloon_response` uses this: an exact cascade for activity, signal
and flow, then a Taylor expansion of high order for volume, one root a step.
`linearised_response` expands all of it to first order about rest, which is what SPM integrates.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from bayesdcm.integrate.cascade import Cascade, propagators, trajectory
from bayesdcm.integrate.grid import TimeGrid
from bayesdcm.neural.base import Parameters
from bayesdcm.observe import balloon
from bayesdcm.observe.venous import venous_response

TAYLOR_ORDER = 8
# Longest step of the nonlinear part, s; order and step together keep the error near 1e-5 of the
# peak for responses of 5 % (ci/benchmarks/integrators.py).
LONGEST_STEP = 0.85
# Flow below this fraction of rest is outside the model: its published, logarithmic form is
# singular at zero. Volume and deoxyhaemoglobin then see the floor.
LOWEST_FLOW = 0.05


def _generator(neuronal: jax.Array, drive: jax.Array, rates: jax.Array) -> Cascade:
    """Assemble a cascade whose filters receive activity in their first state."""
    entry = jnp.zeros(rates.shape[-1]).at[0].set(1.0)
    return Cascade(neuronal, entry[None, :, None] * drive[:, None, :], rates)


def flow_filter(parameters: Parameters, n_regions: int) -> jax.Array:
    """Rates of the filter from activity to (s, f - 1), shape (regions, 2, 2), 1/s."""
    return flow_filter_of(balloon.decay_rate(parameters["decay"]), n_regions)


def flow_filter_of(decay_rate: jax.Array, n_regions: int) -> jax.Array:
    """`flow_filter` of a rate, 1/s, at which the vasodilatory signal decays."""
    rates = jnp.array([[0.0, -balloon.AUTOREGULATION], [1.0, 0.0]]).at[0, 0].set(-decay_rate)
    return jnp.broadcast_to(rates, (n_regions, 2, 2))


def linearised_filter(parameters: Parameters) -> jax.Array:
    """Rates of the Balloon model about rest in (s, ln f, ln v, ln q), (regions, 4, 4), 1/s."""
    n_regions = parameters["transit"].shape[0]

    def flow(h: jax.Array) -> jax.Array:
        return balloon.haemodynamic_flow(jnp.zeros(n_regions), h, parameters)

    jacobian = jax.jacfwd(flow)(jnp.zeros((n_regions, 4)))
    return jnp.diagonal(jacobian, axis1=0, axis2=2).transpose(2, 0, 1)


def linearised_response(
    neuronal: jax.Array,
    drive: jax.Array,
    parameters: Parameters,
    grid: TimeGrid,
) -> jax.Array:
    """BOLD with haemodynamics linearised about rest; only the observation is nonlinear.

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
        Steps and sample points.

    Returns
    -------
    jax.Array
        Percent signal change, shape (scans, regions).
    """
    generator = _generator(neuronal, drive, linearised_filter(parameters))
    x0 = jnp.zeros(neuronal.shape[-1]).at[0].set(1.0)
    h0 = jnp.zeros((len(drive), 4))
    _, h, _ = trajectory(propagators(generator, grid), grid, x0, h0)
    return signal_from_logarithms(h, parameters, grid)


def at_samples(values: jax.Array, grid: TimeGrid) -> jax.Array:
    """Pick each region's value at its sample points: (points, regions, ...) to (scans, ...)."""
    regions = jnp.arange(values.shape[1])
    return values[grid.sample, regions[None, :]]


def signal_from_logarithms(h: jax.Array, parameters: Parameters, grid: TimeGrid) -> jax.Array:
    """BOLD at the sample points from states (s, ln f, ln v, ln q).

    Parameters
    ----------
    h : jax.Array
        Haemodynamic states, shape (points, regions, 4).
    parameters : mapping
        ``epsilon`` ().
    grid : TimeGrid
        Sample points.

    Returns
    -------
    jax.Array
        Percent signal change, shape (scans, regions).
    """
    sampled = jnp.exp(at_samples(h[:, :, 2:], grid))
    return balloon.bold_signal(sampled[..., 0], sampled[..., 1], parameters["epsilon"])


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
    n_regions = len(drive)
    generator = _generator(neuronal, drive, flow_filter(parameters, n_regions))
    x0 = jnp.zeros(neuronal.shape[-1]).at[0].set(1.0)
    steps = propagators(generator, grid)
    readout = _activity_derivatives(neuronal, drive)[grid.propagator_input]
    _, h, activity = trajectory(steps, grid, x0, jnp.zeros((n_regions, 2)), readout)
    derivatives = flow_derivatives(
        list(jnp.moveaxis(activity, 1, 0)), h[:-1], balloon.decay_rate(parameters["decay"])
    )
    flow = jnp.stack(flow_series(derivatives), axis=1)
    duration = (grid.bin_width * grid.propagator_bins)[grid.step][:, None]
    tau = balloon.transit_time(parameters["transit"])
    v, q = venous_response(flow, duration, tau)
    return balloon.bold_signal(at_samples(v, grid), at_samples(q, grid), parameters["epsilon"])


def _activity_derivatives(neuronal: jax.Array, drive: jax.Array) -> jax.Array:
    """Rows that read the driving activity and its time derivatives off the neuronal states.

    Shape (distinct inputs, TAYLOR_ORDER - 2, regions, m): derivative j is ``drive M^j x``.
    """
    rows = [jnp.broadcast_to(drive, (len(neuronal), *drive.shape))]
    for _ in range(TAYLOR_ORDER - 3):
        rows.append((rows[-1][..., :, None] * neuronal[:, None, :, :]).sum(-2))
    return jnp.stack(rows, axis=1)


def flow_derivatives(
    activity: list[jax.Array], h: jax.Array, decay_rate: jax.Array
) -> list[jax.Array]:
    """Time derivatives of blood flow at the start of every step, orders 0 to TAYLOR_ORDER - 1.

    From ``f'' = activity - decay f' - 0.32 (f - 1)``, differentiated as often as needed.

    Parameters
    ----------
    activity : list of jax.Array
        Time derivatives of the driving activity, each (steps, regions).
    h : jax.Array
        Vasodilatory signal and flow less one, shape (steps, regions, 2).
    decay_rate : jax.Array
        Of the vasodilatory signal, 1/s.

    Returns
    -------
    list of jax.Array
        Each (steps, regions).
    """
    derivatives = [1 + h[:, :, 1], h[:, :, 0]]
    for order in range(TAYLOR_ORDER - 2):
        before = derivatives[-2] if order else h[:, :, 1]
        derivatives.append(
            next_flow_derivative(activity[order], derivatives[-1], before, decay_rate)
        )
    return derivatives


def next_flow_derivative(
    activity: jax.Array, last: jax.Array, before: jax.Array, decay_rate: jax.Array
) -> jax.Array:
    """The next time derivative of blood flow.

    ``f^(k) = activity^(k - 2) - decay f^(k - 1) - 0.32 f^(k - 2)``, with f - 1 for f itself.
    """
    return activity - decay_rate * last - balloon.AUTOREGULATION * before


def flow_series(derivatives: list[jax.Array]) -> list[jax.Array]:
    """Taylor coefficients of blood flow from its time derivatives; constant below the floor."""
    low = derivatives[0] < LOWEST_FLOW
    floor = [LOWEST_FLOW] + [0.0] * (len(derivatives) - 1)
    return [
        jnp.where(low, lowest, derivative / math.factorial(order))
        for order, (derivative, lowest) in enumerate(zip(derivatives, floor, strict=True))
    ]
