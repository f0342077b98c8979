"""Haemodynamics driven by a linear neuronal system, solved exactly or linearised about rest.

With blood flow itself (not its logarithm) as the state, the vasodilatory signal and flow are a
linear filter of neuronal activity; only venous volume is nonlinear, and deoxyhaemoglobin is
linear once volume is known. `balloon_response` uses this: an exact cascade for activity, signal
and flow, then a Taylor expansion of high order for volume, one power a step.
`linearised_response` expands all of it to first order about rest, which is what SPM integrates.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bayesdcm.integrate import power_series
from bayesdcm.integrate.cascade import Cascade, propagators, trajectory
from bayesdcm.integrate.grid import TimeGrid
from bayesdcm.neural.base import Parameters
from bayesdcm.observe import balloon

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
    decay = balloon.decay_rate(parameters["decay"])
    rates = jnp.array([[0.0, -balloon.AUTOREGULATION], [1.0, 0.0]]).at[0, 0].set(-decay)
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
    _, h = trajectory(propagators(generator, grid), grid, x0, h0)
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

    Parameters and result as in `linearised_response`; steps of `grid` must not exceed
    `LONGEST_STEP`.
    """
    n_regions = len(drive)
    generator = _generator(neuronal, drive, flow_filter(parameters, n_regions))
    x0 = jnp.zeros(neuronal.shape[-1]).at[0].set(1.0)
    steps = propagators(generator, grid)
    x, h = trajectory(steps, grid, x0, jnp.zeros((n_regions, 2)))
    flow = _flow_series(x[:-1], h[:-1], neuronal, drive, parameters, grid)
    duration = (grid.bin_width * grid.propagator_bins)[grid.step][:, None]
    tau = balloon.transit_time(parameters["transit"])
    v = _volume(flow, duration, tau)
    q = _deoxyhaemoglobin(flow, v, duration, tau)
    return balloon.bold_signal(
        at_samples(v, grid), at_samples(q, grid), parameters["epsilon"]
    )


def _flow_series(
    x: jax.Array,
    h: jax.Array,
    neuronal: jax.Array,
    drive: jax.Array,
    parameters: Parameters,
    grid: TimeGrid,
) -> power_series.Series:
    """Taylor coefficients of blood flow at the start of every step, each (steps, regions).

    f'' = (activity) - (decay) f' - 0.32 (f - 1), and derivatives of the activity follow from
    powers of the neuronal generator.
    """
    decay = balloon.decay_rate(parameters["decay"])
    derivatives = [1 + h[..., 1], h[..., 0]]
    row = jnp.broadcast_to(drive, (len(neuronal), *drive.shape))
    config = grid.propagator_input[grid.step]
    for order in range(TAYLOR_ORDER - 2):
        activity = (row[config] * x[:, None, :]).sum(-1)
        offset = 1.0 if order == 0 else 0.0
        derivatives.append(
            activity
            - decay * derivatives[-1]
            - balloon.AUTOREGULATION * (derivatives[-2] - offset)
        )
        row = (row[..., :, None] * neuronal[:, None, :, :]).sum(-2)
    series, factorial = [], 1.0
    for order, derivative in enumerate(derivatives):
        factorial *= max(order, 1)
        series.append(derivative / factorial)
    low = series[0] < LOWEST_FLOW
    floored = [jnp.where(low, LOWEST_FLOW, series[0])]
    return floored + [jnp.where(low, 0.0, c) for c in series[1:]]


def _volume(flow: power_series.Series, duration: jax.Array, tau: jax.Array) -> jax.Array:
    """Venous volume at every point from ``tau v' = f - v^(1/alpha)``, (steps + 1, regions)."""

    def advance(v: jax.Array, step: tuple) -> tuple:
        *coefficients, width = step
        v = power_series.evaluate(_volume_series(v, coefficients, tau)[0], width)
        return v, v

    start = jnp.ones_like(tau)
    _, v = jax.lax.scan(advance, start, (*flow, duration))
    return jnp.concatenate([start[None], v])


def _volume_series(v: jax.Array, flow: power_series.Series, tau: jax.Array) -> tuple:
    """Taylor coefficients of volume and of the outflow ``v^(1/alpha)``."""
    exponent = 1 / balloon.GRUBB_EXPONENT
    volume, outflow = [v], [v**exponent]
    for k in range(len(flow)):
        if k:
            outflow.append(power_series.power_term(volume, outflow, exponent, k))
        volume.append((flow[k] - outflow[k]) / (tau * (k + 1)))
    return volume, outflow


def _deoxyhaemoglobin(
    flow: power_series.Series, v: jax.Array, duration: jax.Array, tau: jax.Array
) -> jax.Array:
    """Deoxyhaemoglobin at every point, (steps + 1, regions).

    ``tau q' = g - r q`` is linear in q, with delivery ``g = f E(f) / E0`` and clearance
    ``r = v^(1/alpha) / v``: the map over a step is affine, and its two coefficients are found
    for all steps at once.
    """
    volume, outflow = _volume_series(v[:-1], flow, tau)
    clearance: power_series.Series = []
    for k in range(len(flow)):
        clearance.append(power_series.quotient_term(outflow, volume, clearance, k))
    delivery = _delivery(flow)
    gain, offset = [jnp.ones_like(clearance[0])], [jnp.zeros_like(clearance[0])]
    for k in range(len(flow)):
        gain.append(-power_series.product_term(clearance, gain, k) / (tau * (k + 1)))
        lost = power_series.product_term(clearance, offset, k)
        offset.append((delivery[k] - lost) / (tau * (k + 1)))

    def advance(q: jax.Array, step: tuple) -> tuple:
        q = step[0] * q + step[1]
        return q, q

    affine = (power_series.evaluate(gain, duration), power_series.evaluate(offset, duration))
    start = jnp.ones_like(tau)
    _, q = jax.lax.scan(advance, start, affine)
    return jnp.concatenate([start[None], q])


def _delivery(flow: power_series.Series) -> power_series.Series:
    """Series of ``f E(f) / E0`` with the extraction ``E(f) = 1 - (1 - E0)^(1/f)``."""
    logarithm = jnp.log(1 - balloon.RESTING_EXTRACTION)
    unextracted = power_series.exponential([logarithm * c for c in power_series.reciprocal(flow)])
    return [
        (flow[k] - power_series.product_term(flow, unextracted, k)) / balloon.RESTING_EXTRACTION
        for k in range(len(flow))
    ]
