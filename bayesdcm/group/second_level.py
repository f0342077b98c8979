"""The iterations of parametric empirical Bayes: variational Laplace on effects of a group.

Friston et al. (2016), NeuroImage 128:413. https://doi.org/10.1016/j.neuroimage.2015.11.015
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag, solve_triangular

from bayesdcm.compare.reduction import JITTER, Reduced
from bayesdcm.infer.regularised import ascent_step, inverse

# Precision of log-precisions, as in SPM.
HYPERPRECISION = 16.0
# Steps and when to stop, as in SPM.
LOG_STEPS = (-4.0, 2.0)
LONGEST_STEP = 8.0
CHANGE = 1e-4
LEAST_ITERATIONS = 5
# What a Newton step gains at least, nats; where it would gain less, the slope is zero. Densities
# are exact up to so much, relative to their size.
LEAST_GAIN = 1e-12
ROUNDING = 1e-9
# Records are of multiples of so many iterations, for one compiled program to serve most limits.
RECORDED = 64
# Subjects times the cube of the parameters, from which code is worth optimising.
LARGE = 1_000_000


class Subjects(NamedTuple):
    """Likelihoods of subjects, as far as the evidence of their models under other priors needs.

    Directions of each subject's prior, in columns (subjects, parameters, rank), of which those in
    `counts` (subjects, rank) are there and others 0; `precision` (subjects, rank, rank) that data
    add to a prior, and `information` (subjects, rank): precision times mean of the posterior minus
    that of the prior. The log-evidence has a `constant` (subjects,) in common with that under
    other priors, nats. The `design` (subjects, parameters, effects) adds effects up to prior
    means.
    """

    directions: jax.Array
    counts: jax.Array
    precision: jax.Array
    information: jax.Array
    constant: jax.Array
    design: jax.Array


class SecondLevel(NamedTuple):
    """Priors of effects and of the precision between subjects.

    Mean (effects,) and precision (effects, effects) of effects; the `floor` (parameters,
    parameters) of the precision between subjects, and `components` (components, parameters,
    parameters) that log-precisions scale and add. Complexity counts the distance of effects from
    `origin` (effects,): their prior mean; 0 as in SPM.
    """

    mean: jax.Array
    precision: jax.Array
    floor: jax.Array
    components: jax.Array
    origin: jax.Array


class _Derivatives(NamedTuple):
    gradient: jax.Array
    effects: jax.Array
    crossed: jax.Array
    precisions: jax.Array

    @property
    def whole(self) -> jax.Array:
        return jnp.block([[self.effects, self.crossed], [self.crossed.T, self.precisions]])


class _Point(NamedTuple):
    effects: jax.Array
    log_precision: jax.Array


class _Assessment(NamedTuple):
    free_energy: jax.Array
    complexity: jax.Array
    log_joint: jax.Array
    precision: jax.Array
    between: jax.Array
    subject_mean: jax.Array
    curvature: tuple[jax.Array, jax.Array]


class Ascent(NamedTuple):
    """Where the iterations are.

    `point` is where the last update went, `log_step` the regularisation of SPM's steps or the log
    of the share of a Newton step. `best` and `change`: the best free energy or log-density, and
    how much the last better one gained (SPM) or the next step will. `accepted`: the best point
    with its curvatures (SPM) or the step from there. `last`: what was found at the last point
    evaluated (SPM) or the best one. `done`: whether nothing was left to gain. `trace`
    (iterations,): free energies.
    """

    iteration: jax.Array
    point: _Point
    log_step: jax.Array
    best: jax.Array
    change: jax.Array
    accepted: tuple[_Point, jax.Array, jax.Array]
    last: _Assessment
    done: jax.Array
    trace: jax.Array


def _cholesky_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse and log-determinant of a positive definite matrix, or of a stack of them."""
    factor = jnp.linalg.cholesky(matrix)
    one = jnp.broadcast_to(jnp.eye(matrix.shape[-1]), matrix.shape)
    half = solve_triangular(factor, one, lower=True)
    determinant = 2 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    return half.mT @ half, determinant


def _under(subjects: Subjects, mean: jax.Array, covariance: jax.Array) -> Reduced:
    """Evidence and posteriors of all subjects under priors of one covariance."""
    directions, used = subjects.directions, subjects.counts[:, None] * 1.0
    jitter = JITTER * jnp.eye(used.shape[-1])
    within = directions.mT @ covariance @ directions
    others = jnp.eye(used.shape[-1]) * (1 - used)
    r = jnp.einsum("spk,sp->sk", directions, mean)
    R, spread = _cholesky_inverse(within + used * jitter + others)
    S, narrowed = _cholesky_inverse(subjects.precision + R + used * jitter)
    Rr = jnp.einsum("skl,sl->sk", R, r)
    information = subjects.information + Rr
    conditional_mean = jnp.einsum("skl,sl->sk", S, information)
    change = (information * conditional_mean - r * Rr).sum(-1) - spread - narrowed
    centre = mean + jnp.einsum("spk,sk->sp", directions, conditional_mean - r)
    # Directions that a subject lacks have no variance.
    return Reduced(subjects.constant + change / 2, centre, directions @ S @ directions.mT)


def _derivatives(
    model: SecondLevel,
    subjects: Subjects,
    point: _Point,
    precision: jax.Array,
    between: jax.Array,
    posteriors: Reduced,
    expected: jax.Array,
) -> _Derivatives:
    """Gradient and curvature of the free energy in effects and log-precisions."""
    X, C, Q = subjects.design, posteriors.covariance, model.components
    deviation = posteriors.mean - expected
    scales = jnp.exp(point.log_precision)
    shift = point.effects - model.mean
    by_effects = -model.precision @ shift + jnp.einsum("sib,ij,sj->b", X, precision, deviation)
    lost = precision @ C @ precision - precision
    effects = -model.precision + jnp.einsum("sia,sij,sjb->ab", X, lost, X, optimize=True)

    # Components times matrices of subjects, each (subjects, components, parameters, parameters).
    within, across = C[:, None] @ Q, between @ Q
    Qd = jnp.einsum("jab,sb->sja", Q, deviation)
    traces = jnp.einsum("jaa->j", across) - jnp.einsum("sjaa->sj", within)
    squares = jnp.einsum("sja,sa->sj", Qd, deviation)
    slopes = (scales * (traces - squares) / 2).sum(0)
    doubled = len(C) * jnp.einsum("kab,jba->jk", across, across)
    doubled -= jnp.einsum("skab,sjba->jk", within, within)
    doubled = doubled / 2 - jnp.einsum("ska,sab,sjb->jk", Qd, C, Qd, optimize=True)
    precisions = -HYPERPRECISION * jnp.eye(len(Q)) + jnp.diag(slopes)
    precisions -= jnp.outer(scales, scales) * doubled
    seen = X - C @ precision @ X
    crossed = jnp.einsum("sia,sji->aj", seen, Qd) * scales
    by_precisions = slopes - HYPERPRECISION * point.log_precision
    gradient = jnp.concatenate([by_effects, by_precisions])
    return _Derivatives(
        gradient, (effects + effects.T) / 2, crossed, (precisions + precisions.T) / 2
    )


def _assess(
    model: SecondLevel, subjects: Subjects, point: _Point
) -> tuple[_Assessment, _Derivatives]:
    b, g = point
    precision = model.floor + jnp.tensordot(jnp.exp(g), model.components, 1)
    between = inverse(precision)
    expected = subjects.design @ b
    posteriors = _under(subjects, expected, between)
    slope = _derivatives(model, subjects, point, precision, between, posteriors, expected)
    shift, far = b - model.mean, b - model.origin
    spread = HYPERPRECISION * g @ g
    complexity = far @ model.precision @ far + spread
    log_joint = posteriors.change.sum() - (shift @ model.precision @ shift + spread) / 2
    prior = block_diag(model.precision, HYPERPRECISION * jnp.eye(len(g)))
    _, determinants = jnp.linalg.slogdet(jnp.stack([-slope.whole, prior]))
    complexity = (complexity + determinants[0] - determinants[1]) / 2
    energy = posteriors.change.sum() - complexity
    curvature = slope.effects, slope.precisions
    assessment = _Assessment(energy, complexity, log_joint, precision, between, expected, curvature)
    return assessment, slope


def _newton(slope: _Derivatives) -> tuple[jax.Array, jax.Array]:
    """A step to where the slope is zero, uphill whatever the curvature, and what it gains."""
    values, vectors = jnp.linalg.eigh(-slope.whole)
    size = jnp.maximum(jnp.abs(values), jnp.finfo(values.dtype).eps * jnp.abs(values).max())
    along = vectors.T @ slope.gradient
    return vectors @ (along / size), (along**2 / size).sum() / 2


def _approach(assessment: _Assessment, slope: _Derivatives, state: Ascent) -> Ascent:
    """One iteration towards the optimum: Newton steps, halved until the density rises."""
    least = state.best - ROUNDING * jnp.abs(state.best)
    better = (state.iteration == 0) | (assessment.log_joint >= least)
    step, gain = _newton(slope)
    n = len(state.point.effects)
    new = state.point, _Point(step[:n], step[n:]), assessment
    old = *state.accepted, state.last
    accepted, direction, last = jax.tree.map(partial(jnp.where, better), new, old)
    log_step = jnp.where(better, 0.0, state.log_step - jnp.log(2.0))
    return state._replace(
        point=jax.tree.map(lambda at, by: at + jnp.exp(log_step) * by, accepted, direction),
        log_step=log_step,
        best=jnp.where(better, assessment.log_joint, state.best),
        change=jnp.where(better, gain, state.change),
        accepted=(accepted, direction),
        last=last,
        done=better & (gain < LEAST_GAIN),
    )


def _iterate(last: _Assessment, slope: _Derivatives, state: Ascent) -> Ascent:
    """One iteration of SPM's."""
    first = state.iteration == 0
    better = first | (last.free_energy >= state.best)
    change = jnp.where(better & ~first, last.free_energy - state.best, state.change)
    best = jnp.where(better, last.free_energy, state.best)
    shortest, longest = LOG_STEPS
    log_step = jnp.where(
        better,
        jnp.minimum(state.log_step + 0.25, longest),
        jnp.maximum(state.log_step - 1, shortest),
    )
    here = (state.point, slope.effects, slope.precisions)
    accepted = jax.tree.map(partial(jnp.where, better), here, state.accepted)
    point, effects, precisions = accepted
    # After a rejection, too, the step is that of the point just evaluated; as in SPM.
    curvatures = jnp.stack([slope.whole, block_diag(effects, precisions)])
    step, separate = jax.vmap(lambda c: ascent_step(c, slope.gradient, log_step))(curvatures)
    step = jnp.where(jnp.abs(step).sum() < LONGEST_STEP, step, separate)
    n = len(point.effects)
    point = _Point(point.effects + step[:n], point.log_precision + jnp.tanh(step[n:]))
    enough = state.iteration + 1 >= LEAST_ITERATIONS
    done = enough & ((log_step <= shortest) | (change < CHANGE))
    return Ascent(state.iteration, point, log_step, best, change, accepted, last, done, state.trace)


def _ascend(
    model: SecondLevel, subjects: Subjects, max_iterations: jax.Array, length: int, stop: str
) -> Ascent:
    point = _Point(model.mean, jnp.zeros(len(model.components)))
    last, slope = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(lambda: _assess(model, subjects, point)),
    )
    spm = stop == "spm"
    start = Ascent(
        jnp.zeros((), int),
        point,
        jnp.asarray(LOG_STEPS[0] if spm else 0.0),
        jnp.asarray(-jnp.inf),
        jnp.zeros(()),
        (point, slope.effects, slope.precisions) if spm else (point, point),
        last,
        jnp.zeros((), bool),
        jnp.full(length, jnp.nan),
    )

    def advance(state: Ascent) -> Ascent:
        assessment, slope = _assess(model, subjects, state.point)
        after = (_iterate if spm else _approach)(assessment, slope, state)
        trace = state.trace.at[state.iteration].set(assessment.free_energy)
        return after._replace(iteration=state.iteration + 1, trace=trace)

    end = jax.lax.while_loop(lambda s: ~s.done & (s.iteration < max_iterations), advance, start)
    # SPM takes one more step from the last point that it assesses.
    return end if spm else end._replace(point=end.accepted[0])


_static = ("length", "stop")
_ascend_large = jax.jit(_ascend, static_argnames=_static)
# To optimise the code takes seconds, and in small problems brings milliseconds.
_ascend_small = jax.jit(
    _ascend, static_argnames=_static, compiler_options={"xla_backend_optimization_level": 0}
)


def ascend(
    model: SecondLevel, subjects: Subjects, max_iterations: int, stop: str = "optimum"
) -> Ascent:
    """Iterate in one compiled loop; the result has NumPy arrays.

    ``"optimum"``: to the most probable effects and log-precisions, by Newton steps. ``"spm"``: by
    SPM's steps, until the free energy falls or stops to change.
    """
    n_subjects, rank = subjects.information.shape
    compiled = _ascend_large if n_subjects * rank**3 > LARGE else _ascend_small
    length = -(-max_iterations // RECORDED) * RECORDED
    return jax.tree.map(np.asarray, compiled(model, subjects, max_iterations, length, stop))
