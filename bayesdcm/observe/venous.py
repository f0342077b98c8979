"""The venous compartment of the Balloon model, driven by a known blood flow.

Volume v and deoxyhaemoglobin q of a region obey::

    tau dv/dt = f - v^(1/alpha)
    tau dq/dt = f E(f) / E0 - v^(1/alpha) q / v,    E(f) = 1 - (1 - E0)^(1/f)

Given the Taylor coefficients of flow on every step, the solution on a step is a power series
too: one root per step is taken, and everything else is arithmetic. Derivatives follow
the variational equations, which are linear, and are found for all steps at once but for one
affine recurrence; differentiating through the loop would cost several times as much.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.integrate import power_series
from bayesdcm.integrate.power_series import Series, product_term, quotient_term
from bayesdcm.observe import balloon

OUTFLOW_EXPONENT = 1 / balloon.GRUBB_EXPONENT


class _Steps(NamedTuple):
    """Series of all quantities on all steps, each coefficient (steps, regions)."""

    volume: Series
    clearance: Series
    delivery: Series
    delivery_slope: Series
    deoxyhaemoglobin: Series


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
    logarithm = jnp.log(1 - balloon.RESTING_EXTRACTION)
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
        delivery.append((flow[k] - lost) / balloon.RESTING_EXTRACTION)
        change = logarithm * ratio[k] - unextracted[k]
        slope.append(((1.0 if k == 0 else 0.0) + change) / balloon.RESTING_EXTRACTION)
    return delivery, slope


def relaxation(rate: Series, source: Series | None, start: jax.Array, tau: jax.Array) -> Series:
    """Series of y in ``tau dy/dt = source - rate y``."""
    result = [start]
    for k in range(len(rate)):
        change = -product_term(rate, result, k)
        if source is not None:
            change = change + source[k]
        result.append(change / (tau * (k + 1)))
    return result


def _affine_recurrence(gain: jax.Array, offset: jax.Array, start: jax.Array) -> jax.Array:
    """``y[k+1] = gain[k] y[k] + offset[k]`` at all points, (steps + 1, regions)."""

    def advance(y: jax.Array, step: tuple) -> tuple:
        y = step[0] * y + step[1]
        return y, y

    _, y = jax.lax.scan(advance, start, (gain, offset))
    return jnp.concatenate([start[None], y])


def _solve(
    flow: jax.Array, duration: jax.Array, tau: jax.Array
) -> tuple[jax.Array, jax.Array, _Steps]:
    def advance(v: jax.Array, step: tuple) -> tuple:
        coefficients, width = step
        v = power_series.evaluate(volume_series(v, list(coefficients), tau)[0], width)
        return v, v

    rest = jnp.ones_like(tau)
    _, later = jax.lax.scan(advance, rest, (flow, duration))
    v = jnp.concatenate([rest[None], later])
    series = list(jnp.moveaxis(flow, 1, 0))
    volume, outflow = volume_series(v[:-1], series, tau)
    clearance = quotient(outflow, volume)
    delivery, slope = delivery_series(series)
    one, zero = jnp.ones_like(v[:-1]), jnp.zeros_like(v[:-1])
    gain = relaxation(clearance, None, one, tau)
    offset = relaxation(clearance, delivery, zero, tau)
    q = _affine_recurrence(
        power_series.evaluate(gain, duration), power_series.evaluate(offset, duration), rest
    )
    content = [g * q[:-1] + o for g, o in zip(gain, offset, strict=True)]
    return v, q, _Steps(volume, clearance, delivery, slope, content)


@jax.custom_jvp
def venous_response(
    flow: jax.Array, duration: jax.Array, tau: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Volume and deoxyhaemoglobin at the points of a grid, from rest.

    Parameters
    ----------
    flow : jax.Array
        Taylor coefficients of blood flow (relative to rest) at the start of every step,
        shape (steps, order, regions).
    duration : jax.Array
        Durations of the steps, s, shape (steps, 1).
    tau : jax.Array
        Transit times, s, shape (regions,).

    Returns
    -------
    v, q : jax.Array
        Relative to rest, each (steps + 1, regions).

    References
    ----------
    .. [1] Buxton, Wong and Frank (1998), Magn Reson Med 39:855.
           https://doi.org/10.1002/mrm.1910390602

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> v, q = venous_response(jnp.ones((3, 1, 1)), jnp.full((3, 1), 0.5), jnp.full(1, 2.0))
    >>> v.ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    v, q, _ = _solve(flow, duration, tau)
    return v, q


@venous_response.defjvp
def _venous_response_jvp(primals: tuple, tangents: tuple) -> tuple:
    flow, duration, tau = primals
    flow_dot, _, tau_dot = tangents
    v, q, steps = _solve(flow, duration, tau)
    f_dot = list(jnp.moveaxis(flow_dot, 1, 0))
    order = len(f_dot)
    one, zero = jnp.ones_like(v[:-1]), jnp.zeros_like(v[:-1])
    # d(v^p) = p v^(p-1) dv, and v^(p-1) is the clearance.
    rate = [OUTFLOW_EXPONENT * c for c in steps.clearance]
    response = relaxation(rate, None, one, tau)
    source = [f_dot[k] - tau_dot * (k + 1) * steps.volume[k + 1] for k in range(order)]
    forced = relaxation(rate, source, zero, tau)
    v_dot = _affine_recurrence(
        power_series.evaluate(response, duration),
        power_series.evaluate(forced, duration),
        jnp.zeros_like(tau_dot),
    )
    v_series = [r * v_dot[:-1] + c for r, c in zip(response, forced, strict=True)]
    # d(v^(p-1)) = (p - 1) v^(p-2) dv.
    bend = [(OUTFLOW_EXPONENT - 1) * c for c in quotient(steps.clearance, steps.volume)]
    source = []
    clearance_dot = [product_term(bend, v_series, k) for k in range(order)]
    for k in range(order):
        source.append(
            product_term(steps.delivery_slope, f_dot, k)
            - product_term(clearance_dot, steps.deoxyhaemoglobin, k)
            - tau_dot * (k + 1) * steps.deoxyhaemoglobin[k + 1]
        )
    decay = relaxation(steps.clearance, None, one, tau)
    forced = relaxation(steps.clearance, source, zero, tau)
    q_dot = _affine_recurrence(
        power_series.evaluate(decay, duration),
        power_series.evaluate(forced, duration),
        jnp.zeros_like(tau_dot),
    )
    return (v, q), (v_dot, q_dot)
