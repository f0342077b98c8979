"""The venous compartment of the Balloon model, driven by a known blood flow.

Volume v and deoxyhaemoglobin q of a region obey::

    tau dv/dt = f - v^(1/alpha)
    tau dq/dt = f E(f) / E0 - v^(1/alpha) q / v,    E(f) = 1 - (1 - E0)^(1/f)

Given the Taylor coefficients of flow on every step, the solution on a step is a power series
too: one root per step is taken, and everything else is arithmetic. Over a step, v and q are smooth
functions of their values at its start, of the coefficients of flow and of the transit time;
`venous_response` gives the derivatives of these functions from the adjoint of the series. A
derivative of the whole response is then one affine recurrence, whose coefficients all directions
share.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.integrate import power_series
from bayesdcm.integrate.power_series import Series, product_term, quotient_term
from bayesdcm.observe.balloon import STEPHAN_2007

OUTFLOW_EXPONENT = 1 / STEPHAN_2007.grubb_exponent


def volume_series(v: jax.Array, flow: Series, tau: jax.Array) -> tuple[Series, Series]:
    """Series of volume, and of the outflow ``v^(1/alpha)``, from the volume at the start."""
    # OUTFLOW_EXPONENT is 25/8, and square roots are faster than a power.
    volume, outflow = [v], [v**3 * jnp.sqrt(jnp.sqrt(jnp.sqrt(v)))]
    for k in range(len(flow)):
        if k:
            outflow.append(power_series.power_term(volume, outflow, OUTFLOW_EXPONENT, k))
        volume.append((flow[k] - outflow[k]) / (tau * (k + 1)))
    return volume, outflow


def quotient(a: Series, b: Series) -> Series:
    """Series of ``a / b``."""
    result: Series = []
    for k in range(len(a)):
        result.append(quotient_term(a, b, result, k))
    return result


def delivery_series(flow: Series) -> tuple[Series, Series]:
    """Series of ``f E(f) / E0`` and of its derivative by f."""
    logarithm = jnp.log(1 - STEPHAN_2007.resting_extraction)
    # u = exp(log(1 - E0) / f), for which f u' = -log(1 - E0) f' u / f. Every coefficient ends in a
    # division: XLA computes products again wherever they are used, but not divisions.
    unextracted = [jnp.exp(logarithm / flow[0])]
    ratio = [unextracted[0] / flow[0]]
    for k in range(1, len(flow)):
        change = sum(
            flow[j] * (j * logarithm * ratio[k - j] + (k - j) * unextracted[k - j])
            for j in range(1, k + 1)
        )
        unextracted.append(-change / (k * flow[0]))
        ratio.append(quotient_term(unextracted, flow, ratio, k))
    delivery, slope = [], []
    for k in range(len(flow)):
        lost = product_term(flow, unextracted, k)
        delivery.append((flow[k] - lost) / STEPHAN_2007.resting_extraction)
        change = logarithm * ratio[k] - unextracted[k]
        slope.append(((1.0 if k == 0 else 0.0) + change) / STEPHAN_2007.resting_extraction)
    return delivery, slope


def relaxation(rate: Series, source: Series, start: jax.Array, tau: jax.Array) -> Series:
    """Series of y in ``tau dy/dt = source - rate y``."""
    result = [start]
    for k in range(len(rate)):
        result.append((source[k] - product_term(rate, result, k)) / (tau * (k + 1)))
    return result


def _relaxation_adjoint(rate: Series, weights: Series, tau: jax.Array) -> tuple[jax.Array, Series]:
    """Adjoint of `relaxation`: weights on the start and on the source from those on the result."""
    by_result, by_source = weights[-1], []
    for k in reversed(range(len(rate))):
        by_source.insert(0, by_result / (tau * (k + 1)))
        by_result = weights[k] - sum(r * s for r, s in zip(rate, by_source, strict=False))
    return by_result, by_source


def _correlation(weights: Series, a: Series) -> Series:
    """Adjoint of the product with a series: weights on a factor from those on the product."""
    n = len(weights)
    return [sum(weights[k] * a[k - i] for k in range(i, n)) for i in range(n)]


def _dot(a: Series, b: Series) -> jax.Array:
    return sum(x * y for x, y in zip(a, b, strict=True))


class VenousSlopes(NamedTuple):
    """Derivatives of volume and deoxyhaemoglobin at the end of a step, each (steps, regions).

    Attributes
    ----------
    volume_by_volume, deoxyhaemoglobin_by_volume, deoxyhaemoglobin_by_itself
        By the values at the start.
    volume_by_flow, deoxyhaemoglobin_by_flow
        Lists, by the Taylor coefficients of blood flow.
    volume_by_log_transit_time, deoxyhaemoglobin_by_log_transit_time
        By the logarithm of the transit time.
    """

    volume_by_volume: jax.Array
    deoxyhaemoglobin_by_volume: jax.Array
    deoxyhaemoglobin_by_itself: jax.Array
    volume_by_flow: Series
    deoxyhaemoglobin_by_flow: Series
    volume_by_log_transit_time: jax.Array
    deoxyhaemoglobin_by_log_transit_time: jax.Array


def venous_response(
    flow: Series, duration: jax.Array, tau: jax.Array
) -> tuple[jax.Array, jax.Array, VenousSlopes]:
    """Volume and deoxyhaemoglobin at the points of a grid, from rest, and derivatives of steps.

    Derivatives are worked out step by step, as values are: of all steps at once they take a third
    longer with three regions and twice as long with sixteen, for series do not fit the caches of a
    core.

    Parameters
    ----------
    flow : list of jax.Array
        Taylor coefficients of blood flow (relative to rest) at the start of every step, each
        (steps, regions).
    duration : jax.Array
        Durations of the steps, s, shape (steps, 1).
    tau : jax.Array
        Transit times, s, shape (regions,).

    Returns
    -------
    v, q : jax.Array
        Relative to rest, each (steps + 1, regions).
    slopes : VenousSlopes
        Of the values at the end of each step.

    References
    ----------
    .. [1] Buxton, Wong and Frank (1998), Magn Reson Med 39:855.
           https://doi.org/10.1002/mrm.1910390602

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> flow, duration = [jnp.ones((3, 1))], jnp.full((3, 1), 0.5)
    >>> v, q, slopes = jax.jit(venous_response)(flow, duration, jnp.full(1, 2.0))
    >>> v.ravel().tolist(), slopes.volume_by_flow[0].tolist()
    ([1.0, 1.0, 1.0, 1.0], [[0.25], [0.25], [0.25]])
    """

    def advance(state: tuple, step: tuple) -> tuple:
        *ends, slopes = _step(*state, *step, tau)
        return tuple(ends), (state, slopes)

    rest = jnp.ones_like(tau)
    ends, (starts, slopes) = jax.lax.scan(advance, (rest, rest), (flow, duration))
    v, q = _joined(starts, ends)
    return v, q, slopes


def _joined(starts: tuple, ends: tuple) -> list[jax.Array]:
    return [jnp.concatenate([s, end[None]]) for s, end in zip(starts, ends, strict=True)]


def _step(
    v: jax.Array, q: jax.Array, flow: Series, duration: jax.Array, tau: jax.Array
) -> tuple[jax.Array, jax.Array, VenousSlopes]:
    """Volume and deoxyhaemoglobin at the end of a step, and their derivatives."""
    order, zero = len(flow), jnp.zeros_like(q)
    end = [jnp.broadcast_to(duration**k, q.shape) for k in range(order + 1)]
    volume, outflow = volume_series(v, flow, tau)
    clearance = quotient(outflow, volume)
    delivery, slope = delivery_series(flow)
    q_by_q, q_by_source = _relaxation_adjoint(clearance, end, tau)
    # d(v^p) = p v^(p-1) dv, and v^(p-1) is the clearance.
    rate = [OUTFLOW_EXPONENT * c for c in clearance]
    v_by_v, v_by_flow = _relaxation_adjoint(rate, end, tau)
    # d(v^(p-1) q) = v^(p-1) dq + (p - 1) (v^(p-1) q / v) dv.
    content = relaxation(clearance, delivery, q, tau)
    cleared = [product_term(clearance, content, k) for k in range(order)]
    bend = [(OUTFLOW_EXPONENT - 1) * c for c in quotient(cleared, volume)]
    by_volume = _correlation(q_by_source, bend)
    lost_by_v, lost_by_flow = _relaxation_adjoint(rate, [*by_volume, zero], tau)
    gained_by_flow = _correlation(q_by_source, slope)
    # Derivatives in time times the transit time: zero of steps of no duration, without 0/0.
    rising = [f - o for f, o in zip(flow, outflow, strict=True)]
    filling = [d - c for d, c in zip(delivery, cleared, strict=True)]
    slopes = VenousSlopes(
        v_by_v,
        -lost_by_v,
        q_by_q,
        v_by_flow,
        [gained - lost for gained, lost in zip(gained_by_flow, lost_by_flow, strict=True)],
        -_dot(v_by_flow, rising),
        _dot(lost_by_flow, rising) - _dot(q_by_source, filling),
    )
    # The adjoint has it in fewer dependent operations than the series of the content.
    return power_series.evaluate(volume, duration), q_by_q * q + _dot(q_by_source, delivery), slopes


def venous_course(flow: Series, duration: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Volume and deoxyhaemoglobin of `venous_response`, without derivatives.

    Parameters
    ----------
    flow, duration, tau
        As in `venous_response`.

    Returns
    -------
    v, q : jax.Array
        Relative to rest, each (steps + 1, regions).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> v, q = venous_course([jnp.ones((3, 1))], jnp.full((3, 1), 0.5), jnp.full(1, 2.0))
    >>> q.ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def advance(state: tuple, step: tuple) -> tuple:
        v, q = state
        coefficients, width = step
        volume, outflow = volume_series(v, coefficients, tau)
        delivery, _ = delivery_series(coefficients)
        content = relaxation(quotient(outflow, volume), delivery, q, tau)
        ends = power_series.evaluate(volume, width), power_series.evaluate(content, width)
        return ends, state

    rest = jnp.ones_like(tau)
    ends, starts = jax.lax.scan(advance, (rest, rest), (flow, duration))
    v, q = _joined(starts, ends)
    return v, q
