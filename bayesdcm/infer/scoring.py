"""Fisher scoring on the log-precisions of the noise, the innermost loop of variational Laplace."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.infer.quadratic import Noise, Quadratic
from bayesdcm.infer.regularised import ascent_step, indefinite_inverse

LARGEST_STEP = 4.0


class Rules(NamedTuple):
    """Where the loop stops."""

    steps: int
    largest: float  # Change of a log-precision in one of them.
    tolerance: float  # Predicted gain in nats below which no further update is made.
    limited: bool  # Whether that gain is the one of the limited step.


class Scored(NamedTuple):
    """Log-precisions after the last update, and what belongs to their values before it."""

    log_precision: jax.Array  # After the last update, (precisions,).
    steps: jax.Array  # Number of updates.
    done: jax.Array  # Whether the predicted gain was small.
    covariance: jax.Array  # Of parameters and confounds, before the last update, (n, n).
    log_precision_covariance: jax.Array  # (precisions, precisions)
    log_hyperprior: jax.Array
    used: jax.Array  # Log-precisions before the last update, (precisions,).


def score_precisions(
    noise: Noise,
    forms: Quadratic,
    conditional: Callable,
    hyperprior: Callable,
    start: jax.Array,
    rules: Rules,
) -> Scored:
    """Update the log-precisions; covariances keep the values before the last update.

    `conditional` gives the covariance of parameters and confounds, (n, n), for the curvature of the
    likelihood; `hyperprior` log-density, gradient and curvature of the prior of the log-precisions.
    """

    def covariance_of(scales: jax.Array) -> jax.Array:
        return conditional(jnp.tensordot(scales, forms.curvature, 1))

    zero, count = jnp.zeros(()), jnp.zeros((), int)
    nothing = jnp.zeros((len(start), len(start)))
    if len(start) == 0:
        covariance = covariance_of(noise.scales(start)[0])
        return Scored(start, count, zero == 0, covariance, nothing, zero, start)

    def body(state: Scored) -> Scored:
        h = state.log_precision
        scales, soft = noise.scales(h)
        covariance = covariance_of(scales)
        fit = soft * (forms.squared + (covariance * forms.curvature).sum((1, 2)))
        traces, pairs = noise.traces(scales, soft)
        gradient = (traces - fit) / 2
        curvature = -pairs / 2 + jnp.diag(gradient)
        gradient = noise.design.T @ gradient
        curvature = noise.design.T @ curvature @ noise.design
        log_hyperprior, slope, prior_curvature = hyperprior(h)
        gradient = gradient + slope
        curvature = curvature + prior_curvature
        step = ascent_step(curvature, gradient, jnp.asarray(LARGEST_STEP))
        limited = jnp.clip(step, -rules.largest, rules.largest)
        gain = gradient @ (limited if rules.limited else step)
        return Scored(
            h + limited,
            state.steps + 1,
            gain < rules.tolerance,
            covariance,
            indefinite_inverse(-curvature),
            log_hyperprior,
            h,
        )

    unknown = jnp.zeros(forms.curvature.shape[1:])
    initial = Scored(start, count, jnp.zeros((), bool), unknown, nothing, zero, start)
    return jax.lax.while_loop(lambda s: ~s.done & (s.steps < rules.steps), body, initial)
