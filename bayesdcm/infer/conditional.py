"""Variational Laplace for programs with observer sites: steps in the observer within steps.

The scheme is that of SPM for evoked responses (``spm_nlsi_N``). Parameters of hidden states (p)
take one step an iteration. Before it, up to eight steps are taken in the observer parameters (g),
the coefficients of confounds (u) and the log-precisions of the noise (h), for which the states and
their derivatives are known already: a program is cut into the part that observer sites do not
enter, which costs nearly everything and is evaluated once an iteration, and the rest.

The free energy has the covariance of p, g and u together; steps in one neglect the others.

References
----------
.. [1] Kiebel, David and Friston (2006), NeuroImage 30:1273.
       https://doi.org/10.1016/j.neuroimage.2005.12.055
.. [2] David, Kiebel, Harrison, Mattout, Kilner and Friston (2006), NeuroImage 30:1255.
       https://doi.org/10.1016/j.neuroimage.2005.10.045
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.infer.density import Layout, Outputs, Program, evaluate
from bayesdcm.infer.dependence import depends
from bayesdcm.infer.laplace import (
    INITIAL_STEP,
    LARGEST_STEP,
    TOLERANCE,
    LaplaceResult,
    consistent_variance,
    smoothed_log_prior,
)
from bayesdcm.infer.quadratic import Noise, component_log_precisions, noise_of, quadratic_forms
from bayesdcm.infer.regularised import (
    DIFFERENCE,
    ascent_step,
    bordered_inverse,
    diagonal_step,
    half_log_determinant,
    inverse,
    negative_semidefinite,
)
from bayesdcm.infer.scoring import Rules, score_precisions
from bayesdcm.infer.stages import CONSTANT, OBSERVATION, STATES, Stages

MAX_ITERATIONS = 64
OBSERVER_STEPS = 8
# Steps in the observer are short at first: g and p would run after each other.
OBSERVER_LOG_STEPS = (-4.0, 2.0)
SHORT_STEPS_BEFORE = 7
INNER_TOLERANCE = float(np.exp(-2))
RULES = Rules(steps=4, largest=2.0, tolerance=INNER_TOLERANCE, limited=False)
COVARIANCE_FLOOR = float(np.exp(-16))
# The first points are kept whatever their free energy.
KEPT_POINTS = 3


class _Problem(NamedTuple):
    """Functions of a program that the iterations call; `constant` is worked out beforehand."""

    noise: Noise
    stages: Stages
    constant: list
    log_prior: Callable
    prior_precision: Callable
    hyperprior: Callable
    one_sided: bool
    kinked: np.ndarray  # Of p and g, those whose priors have kinks, see `expected_prior`.


class _Known(NamedTuple):
    """States, and all that an iteration knows while the observer changes."""

    parameters: jax.Array
    states: list
    tangents: list
    discrete: list
    variance: jax.Array  # Posterior variance of p and g where the prior precision depends on it.
    prior_precision: jax.Array
    observer_log_step: jax.Array


class _Assessment(NamedTuple):
    """What the free energy and the next step are made of, before the last update of g, u, h."""

    covariance: jax.Array
    log_precision_covariance: jax.Array
    accuracy: jax.Array
    log_priors: jax.Array
    gradient: jax.Array
    curvature: jax.Array


class _Point(NamedTuple):
    parameters: jax.Array
    observer: jax.Array
    confounds: jax.Array
    log_precision: jax.Array


class _Best(NamedTuple):
    point: _Point
    assessment: _Assessment
    free_energy: jax.Array


class _Inner(NamedTuple):
    point: _Point
    assessment: _Assessment
    steps: jax.Array
    hyper_steps: jax.Array
    done: jax.Array


class _State(NamedTuple):
    iteration: jax.Array
    point: _Point
    log_step: jax.Array
    best: _Best
    last: _Assessment
    flags: jax.Array
    failed: jax.Array
    recoveries: jax.Array
    trace: dict[str, jax.Array]


def _problem(program: Program, sites: Layout, start: _Point, one_sided: bool) -> _Problem:
    blocks = [sites.of_roles(role) for role in ("parameter", "observer", "precision")]
    vectors = (start.parameters, start.observer, start.log_precision)
    kinked = sites.kinked

    def whole(*given: jax.Array) -> tuple:
        # One vector would tie the states to the observer.
        values: dict[str, jax.Array] = {}
        for block, vector in zip(blocks, given[:3], strict=True):
            values |= block.unflatten(vector)
        result = evaluate(program, sites, values, given[3] if kinked.size else None)
        observations = [fn for fn, _ in result.observations.values()]
        return (
            [fn.columns for fn in observations],
            result.log_prior,
            result.log_hyperprior,
            component_log_precisions(observations),
        )

    unused = jnp.ones(sites.n_parameters)
    outputs = Outputs(whole, *vectors, unused)
    stages = Stages(*outputs.operations(0), (STATES, OBSERVATION, CONSTANT, CONSTANT))
    n = len(start.parameters)

    def log_prior(z: jax.Array, variance: jax.Array) -> jax.Array:
        return outputs.select(1)(z[:n], z[n:], start.log_precision, variance)

    def hyperprior(point: _Point) -> tuple:
        def value(h: jax.Array) -> jax.Array:
            return outputs.select(2)(point.parameters, point.observer, h, unused)

        slope = jax.grad(value)
        h = point.log_precision
        return value(h), slope(h), jax.jacfwd(slope)(h)

    observations = list(evaluate(program, sites, jnp.concatenate(vectors)).observations.values())
    noise = noise_of(
        observations,
        lambda h: outputs.select(3)(start.parameters, start.observer, h, unused),
        start.log_precision,
    )
    centre = jnp.concatenate(vectors[:2])
    return _Problem(
        noise,
        stages,
        stages.constant(start.log_precision, unused),
        log_prior,
        _prior_precision(log_prior, noise, centre),
        hyperprior,
        one_sided,
        kinked,
    )


def _prior_precision(log_prior: Callable, noise: Noise, centre: jax.Array) -> Callable:
    """Prior precision of p, g and u at a point; of normal priors it is worked out once."""
    curvature = jax.jacfwd(jax.grad(log_prior))

    def precision(z: jax.Array, variance: jax.Array) -> jax.Array:
        confounds = jnp.diag(noise.confound_precision)
        concave = negative_semidefinite(curvature(z, variance))
        return jax.scipy.linalg.block_diag(-concave, confounds)

    unit = jnp.ones_like(centre)
    if depends(curvature, (centre, unit)):
        return precision
    constant = precision(centre, unit)
    return lambda z, variance: constant


def _differentiate(problem: _Problem, parameters: jax.Array) -> tuple[list, list, list]:
    """States, their derivatives along each parameter (first axis), and discrete states."""

    def states(p: jax.Array) -> tuple[list, list]:
        return problem.stages.states(problem.constant, p)

    directions = jnp.eye(len(parameters))
    if problem.one_sided:
        values, tangents = _differences(lambda p: states(p)[0], parameters)
        discrete = states(parameters)[1]
        return values, tangents, discrete

    def along(direction: jax.Array) -> tuple:
        return jax.jvp(states, (parameters,), (direction,), has_aux=True)

    return jax.vmap(along, out_axes=(None, 0, None))(directions)


def _differences(function: Callable, point: jax.Array) -> tuple[list, list]:
    """Values, and one-sided differences along each coordinate (first axis).

    All points are evaluated by the same operations: what a coordinate does not change has a
    difference of exactly zero, on which the length of SPM's steps depends.
    """
    steps = DIFFERENCE * jnp.eye(len(point) + 1, len(point), -1)
    values = jax.vmap(lambda step: function(point + step))(steps)
    return [v[0] for v in values], [(v[1:] - v[0]) / DIFFERENCE for v in values]


def _observe(problem: _Problem, known: _Known, observer: jax.Array) -> tuple[list, list]:
    """Predictions and their derivatives by p and g (first axis), one a site."""

    def predict(states: list, g: jax.Array) -> list:
        return problem.stages.observation(problem.constant, states, known.discrete, g)

    def along(tangents: list) -> tuple:
        return jax.jvp(lambda x: predict(x, observer), (known.states,), (tangents,))

    if known.states:
        predicted, by_parameters = jax.vmap(along, out_axes=(None, 0))(known.tangents)
    else:
        predicted = predict([], observer)
        by_parameters = [jnp.zeros((len(known.parameters), *y.shape)) for y in predicted]
    if problem.one_sided:
        predicted, by_observer = _differences(lambda g: predict(known.states, g), observer)
    else:
        by_observer = jax.jacfwd(lambda g: predict(known.states, g))(observer)
        by_observer = [jnp.moveaxis(part, -1, 0) for part in by_observer]
    both = zip(by_parameters, by_observer, strict=True)
    return predicted, [jnp.concatenate(pair) for pair in both]


def _conditional(problem: _Problem, known: _Known, n: int) -> Callable:
    """Covariance of the `n` parameters of p and g, and of u, for a curvature of the likelihood."""

    def covariance(curvature: jax.Array) -> jax.Array:
        precision = curvature + known.prior_precision
        floor = COVARIANCE_FLOOR * jnp.eye(len(precision))
        if problem.noise.orthogonal_confounds and n < len(precision):
            return bordered_inverse(precision, n) + floor
        return inverse(precision) + floor

    return covariance


def _confound_step(noise: Noise, curvature: jax.Array, gradient: jax.Array) -> jax.Array:
    log_step = jnp.asarray(LARGEST_STEP)
    if len(gradient) == 0:
        return gradient
    if noise.orthogonal_confounds:
        # In SPM's coordinates the curvature is diagonal for a single confound only.
        several = not noise.single_confounds
        return diagonal_step(jnp.diagonal(curvature), gradient, log_step, absolute=several)
    return ascent_step(curvature, gradient, log_step)


def _inner_step(problem: _Problem, known: _Known, inner: _Inner) -> _Inner:
    """One update of log-precisions, confounds and observer; none sees that of the others."""
    noise, point = problem.noise, inner.point
    n, stop = len(known.parameters), len(known.parameters) + len(point.observer)
    predicted, jacobian = _observe(problem, known, point.observer)
    residual = [
        jnp.reshape(value, y.shape) - y for value, y in zip(noise.values, predicted, strict=True)
    ]
    forms = quadratic_forms(noise, jacobian, residual, point.confounds)
    both = jnp.concatenate([point.parameters, point.observer])
    if problem.kinked.size:
        scales, _ = noise.scales(point.log_precision)
        curvature = jnp.tensordot(scales, forms.curvature, 1)
        variance = consistent_variance(
            lambda v: curvature + problem.prior_precision(both, v), len(both)
        )
        known = known._replace(
            variance=variance, prior_precision=problem.prior_precision(both, variance)
        )
    hyper = score_precisions(
        noise,
        forms,
        _conditional(problem, known, stop),
        lambda h: problem.hyperprior(point._replace(log_precision=h)),
        point.log_precision,
        RULES,
    )
    scales, _ = noise.scales(hyper.used)
    gradient = scales @ forms.gradient
    curvature = -jnp.tensordot(scales, forms.curvature, 1) - known.prior_precision
    log_prior, slope = jax.value_and_grad(problem.log_prior)(both, known.variance)
    if problem.kinked.size:
        log_prior = smoothed_log_prior(
            lambda variance: problem.log_prior(both, variance),
            jnp.diagonal(hyper.covariance)[:stop],
            jnp.diagonal(known.prior_precision)[:stop],
            problem.kinked,
        )
    precision = noise.confound_precision
    u_gradient = gradient[stop:] - precision * point.confounds
    u_step = _confound_step(noise, curvature[stop:, stop:], u_gradient)
    g_gradient = gradient[n:stop] + slope[n:]
    g_step = ascent_step(curvature[n:stop, n:stop], g_gradient, known.observer_log_step)
    constants = noise.n_data * np.log(2 * np.pi)
    log_priors = (
        log_prior
        + hyper.log_hyperprior
        + (stop + len(hyper.used)) * np.log(2 * np.pi) / 2
        + (jnp.log(precision) - precision * point.confounds**2).sum() / 2
    )
    assessment = _Assessment(
        hyper.covariance,
        hyper.log_precision_covariance,
        (noise.log_determinant(scales) - scales @ forms.squared - constants) / 2,
        log_priors,
        gradient[:n] + slope[:n],
        curvature[:n, :n],
    )
    moved = _Point(
        point.parameters, point.observer + g_step, point.confounds + u_step, hyper.log_precision
    )
    done = (inner.steps > 0) & (g_gradient @ g_step < INNER_TOLERANCE)
    return _Inner(moved, assessment, inner.steps + 1, hyper.steps, done)


def _free_energy(assessment: _Assessment) -> jax.Array:
    volume = half_log_determinant(assessment.covariance)
    if assessment.log_precision_covariance.size:
        volume += jnp.linalg.slogdet(assessment.log_precision_covariance)[1] / 2
    return assessment.accuracy + assessment.log_priors + volume


def _iterate(problem: _Problem, state: _State) -> _State:
    start = state.point
    states, tangents, discrete = _differentiate(problem, start.parameters)
    parts = [*states, *tangents]
    finite = jnp.array([jnp.isfinite(part).all() for part in parts], bool).all()
    short, long = OBSERVER_LOG_STEPS
    both = jnp.concatenate([start.parameters, start.observer])
    variance = jnp.ones_like(both)
    known = _Known(
        start.parameters,
        states,
        tangents,
        discrete,
        variance,
        problem.prior_precision(both, variance),
        jnp.where(state.iteration < SHORT_STEPS_BEFORE, short, long),
    )
    zero = jnp.zeros((), int)
    # Where states are not finite, there is no inner step, and the last assessment stands.
    inner = jax.lax.while_loop(
        lambda s: ~s.done & (s.steps < OBSERVER_STEPS),
        lambda s: _inner_step(problem, known, s),
        _Inner(start, state.last, zero, zero, ~finite),
    )
    free_energy = _free_energy(inner.assessment)
    comparable = finite & jnp.isfinite(free_energy)
    accepted = comparable & (
        (free_energy > state.best.free_energy) | (state.iteration < KEPT_POINTS)
    )
    candidate = _Best(inner.point, inner.assessment, free_energy)
    best = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), candidate, state.best)
    log_step = jnp.where(
        accepted,
        jnp.minimum(state.log_step + 0.5, LARGEST_STEP),
        jnp.minimum(state.log_step - 2.0, INITIAL_STEP),
    )
    gradient = best.assessment.gradient
    step = ascent_step(best.assessment.curvature, gradient, log_step)
    change = gradient @ step
    k = state.iteration
    entries = {
        "free_energy": jnp.where(comparable, free_energy, jnp.nan),
        "predicted_change": change,
        "log_step": log_step,
        "accepted": accepted.astype(float),
        "observer_steps": inner.steps.astype(float),
        "precision_steps": inner.hyper_steps.astype(float),
    }
    return _State(
        k + 1,
        best.point._replace(parameters=best.point.parameters + step),
        log_step,
        best,
        inner.assessment,
        jnp.concatenate([(change < TOLERANCE)[None], state.flags[:-1]]),
        ~jnp.isfinite(best.free_energy),
        state.recoveries + ~finite,
        {name: state.trace[name].at[k].set(entries[name]) for name in state.trace},
    )


def _initial(problem: _Problem, start: _Point, max_iterations: int) -> _State:
    point = start._replace(confounds=problem.noise.initial_confounds())
    n, n_hyper = len(point.parameters), len(point.log_precision)
    size = n + len(point.observer) + len(point.confounds)
    nothing = _Assessment(
        jnp.eye(size),
        jnp.eye(n_hyper),
        jnp.asarray(-jnp.inf),
        jnp.zeros(()),
        jnp.zeros(n),
        -jnp.eye(n),
    )
    names = ("free_energy", "predicted_change", "log_step", "accepted", "observer_steps",
             "precision_steps")  # fmt: skip
    return _State(
        jnp.zeros((), int),
        point,
        jnp.asarray(INITIAL_STEP),
        _Best(point, nothing, jnp.asarray(-jnp.inf)),
        nothing,
        jnp.zeros(4, bool),
        jnp.zeros((), bool),
        jnp.zeros((), int),
        {name: jnp.full(max_iterations, jnp.nan) for name in names},
    )


def conditional_laplace(
    program: Program,
    sites: Layout,
    start: jax.Array,
    max_iterations: int = MAX_ITERATIONS,
    derivatives: str = "exact",
) -> LaplaceResult:
    """Invert a program with observer sites; a pure function, to be compiled.

    Observations are Gaussian, at least one site is an observer site and one has no role. `start` is
    flat and unconstrained, (sites.size,). `derivatives` of states by parameters and of predictions
    by observer sites: "exact", or "one_sided", SPM's differences with a step of exp(-8). The result
    has the posterior of parameters and observer sites together.
    """
    n, n_parameters = sites.n_parameters - sites.n_observer, sites.n_parameters
    vectors = start[:n], start[n:n_parameters], start[n_parameters:]
    point = _Point(*vectors[:2], jnp.zeros(0), vectors[2])
    problem = _problem(program, sites, point, derivatives == "one_sided")

    def running(state: _State) -> jax.Array:
        return ~state.flags.all() & ~state.failed & (state.iteration < max_iterations)

    state: Any = jax.lax.while_loop(
        running, lambda s: _iterate(problem, s), _initial(problem, point, max_iterations)
    )
    optimum, assessment = state.best.point, state.best.assessment
    # Of the parameters of states; those of the observer have taken steps of their own.
    gradient = assessment.gradient
    slope = gradient @ inverse(-assessment.curvature) @ gradient / 2
    return LaplaceResult(
        jnp.concatenate([optimum.parameters, optimum.observer]),
        assessment.covariance[:n_parameters, :n_parameters],
        optimum.log_precision,
        assessment.log_precision_covariance,
        state.best.free_energy,
        assessment.accuracy,
        assessment.accuracy - state.best.free_energy,
        state.iteration,
        state.flags.all(),
        state.failed,
        state.recoveries,
        slope,
        state.trace,
    )
