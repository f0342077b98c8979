"""How a step of the venous compartment depends on all that enters it.

Over a step, volume v and deoxyhaemoglobin q are smooth functions of their values at its start, of
the Taylor coefficients of blood flow and of the transit time. `venous_step` gives the derivatives
of these functions from the adjoint of the series that `venous` solves: worth it where they serve
many directions, as each then costs a dozen products a step.

Time is in units of a step's duration here, so that the end of every step is at 1: coefficient k of
a series is multiplied by the k-th power of the duration, and the transit time divided by it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.integrate.power_series import Series, product_term
from bayesdcm.observe.venous import (
    OUTFLOW_EXPONENT,
    delivery_series,
    quotient,
    relaxation,
)


class VenousSlopes(NamedTuple):
    """Derivatives of volume and deoxyhaemoglobin at the end of a step, each in the shape of `q`.

    Attributes
    ----------
    volume_by_volume, deoxyhaemoglobin_by_volume, deoxyhaemoglobin_by_itself
        By the values at the start.
    volume_by_flow, deoxyhaemoglobin_by_flow
        Lists, by the Taylor coefficients of blood flow in units of the durations.
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


def _correlation(weights: Series, a: Series) -> Series:
    """Adjoint of the product with a series: weights on a factor from those on the product."""
    n = len(weights)
    return [sum(weights[k] * a[k - i] for k in range(i, n)) for i in range(n)]


def _relaxation_adjoint(rate: Series, weights: Series, tau: jax.Array) -> tuple[jax.Array, Series]:
    """Adjoint of `relaxation`: weights on the start and on the source from those on the result."""
    by_result, by_source = weights[-1], []
    for k in reversed(range(len(rate))):
        by_source.insert(0, by_result / (tau * (k + 1)))
        by_result = weights[k] - sum(r * s for r, s in zip(rate, by_source, strict=False))
    return by_result, by_source


def venous_step(
    volume: Series, outflow: Series, q: jax.Array, flow: Series, tau: jax.Array
) -> VenousSlopes:
    """Derivatives of steps, all of them at once.

    Parameters
    ----------
    volume, outflow : list of jax.Array
        Taylor coefficients from `bayesdcm.observe.venous.volume_series`, each in the shape of `q`.
    q : jax.Array
        Deoxyhaemoglobin relative to rest at the start of the steps, any shape.
    flow : list of jax.Array
        Taylor coefficients of blood flow relative to rest, each in the shape of `q`, in units of
        the durations.
    tau : jax.Array
        Transit times in units of the durations, in the shape of `q`; infinite for steps of no
        duration.

    Returns
    -------
    VenousSlopes
        Derivatives of what `bayesdcm.observe.venous.venous_response` computes.

    References
    ----------
    .. [1] Buxton, Wong and Frank (1998), Magn Reson Med 39:855, the equations.
           https://doi.org/10.1002/mrm.1910390602

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from bayesdcm.observe.venous import volume_series
    >>> one = jnp.ones(1)
    >>> flow, tau = [one, 0 * one], 4 * one
    >>> slopes = venous_step(*volume_series(one, flow, tau), one, flow, tau)
    >>> abs(slopes.volume_by_log_transit_time).tolist()
    [0.0]
    """
    order = len(flow)
    clearance = quotient(outflow, volume)
    delivery, slope = delivery_series(flow)
    content = relaxation(clearance, delivery, q, tau)
    zero, end = jnp.zeros_like(q), _end(q, order)
    # d(v^p) = p v^(p-1) dv, and v^(p-1) is the clearance.
    rate = [OUTFLOW_EXPONENT * c for c in clearance]
    v_by_v, v_by_flow = _relaxation_adjoint(rate, end, tau)
    q_by_q, q_by_source = _relaxation_adjoint(clearance, end, tau)
    # d(v^(p-1) q) = v^(p-1) dq + (p - 1) (v^(p-1) q / v) dv.
    cleared = [product_term(clearance, content, k) for k in range(order)]
    bend = [(OUTFLOW_EXPONENT - 1) * c for c in quotient(cleared, volume)]
    by_volume = _correlation(q_by_source, bend)
    lost_by_v, lost_by_flow = _relaxation_adjoint(rate, [*by_volume, zero], tau)
    gained_by_flow = _correlation(q_by_source, slope)
    # Derivatives in time times the transit time: zero of steps of no duration, without 0/0.
    rising = [f - o for f, o in zip(flow, outflow, strict=True)]
    filling = [d - c for d, c in zip(delivery, cleared, strict=True)]
    return VenousSlopes(
        v_by_v,
        -lost_by_v,
        q_by_q,
        v_by_flow,
        [gained - lost for gained, lost in zip(gained_by_flow, lost_by_flow, strict=True)],
        -_dot(v_by_flow, rising),
        _dot(lost_by_flow, rising) - _dot(q_by_source, filling),
    )


def deoxyhaemoglobin_propagator(
    volume: Series, outflow: Series, flow: Series, tau: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gain and offset of deoxyhaemoglobin over steps, ``q <- gain q + offset``.

    Parameters
    ----------
    volume, outflow, flow, tau
        As in `venous_step`.

    Returns
    -------
    gain, offset : jax.Array
        In the shape of `tau`.
    """
    clearance = quotient(outflow, volume)
    gain, by_source = _relaxation_adjoint(clearance, _end(tau, len(flow)), tau)
    return gain, _dot(by_source, delivery_series(flow)[0])


def _end(like: jax.Array, order: int) -> Series:
    """Weights of the value at the end of a step on its Taylor coefficients."""
    return [jnp.ones_like(like)] * (order + 1)


def _dot(a: Series, b: Series) -> jax.Array:
    return sum(x * y for x, y in zip(a, b, strict=True))
