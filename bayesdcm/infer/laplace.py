"""Variational Laplace: a Gaussian posterior, log-precisions of the noise, and the free energy.

The scheme is that of SPM (``spm_nlsi_GN``): Gauss-Newton steps on the parameters, regularised by
the matrix exponential of the curvature, Fisher scoring on the log-precisions, acceptance by the
free energy. Confound coefficients are linear parameters of the same step. The whole loop is one
compiled program.

References
----------
.. [1] Friston, Mattout, Trujillo-Barreto, Ashburner and Penny (2007), NeuroImage 34:220.
       https://doi.org/10.1016/j.neuroimage.2006.08.035
.. [2] Zeidman, Friston and Parr (2023), NeuroImage 279:120310.
       https://doi.org/10.1016/j.neuroimage.2023.120310
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.infer.density import Layout, Outputs, Program, evaluate
from bayesdcm.infer.quadratic import (
    Noise,
    component_log_precisions,
    noise_of,
    quadratic_forms,
    without_prediction,
)
from bayesdcm.infer.regularised import (
    half_log_determinant,
    inverse,
    negative_semidefinite,
    one_sided_jacobian,
    regularised_step,
)
from bayesdcm.infer.scoring import LARGEST_STEP, Rules, score_precisions
from bayesdcm.infer.traced_programs import keep_class

INITIAL_STEP = -4.0
RULES = Rules(steps=8, largest=1.0, tolerance=1e-2, limited=True)
TOLERANCE = 0.1
# The same of a whole Newton step, where priors have kinks.
SMOOTHED_TOLERANCE = 1e-3
RECOVERY_ATTEMPTS = 4
HUGE = 1e32
# Of variances that priors with kinks depend on: steps at most, and the last change of logarithms.
CONSISTENCY_STEPS = 64
CONSISTENCY = 1e-5


class LaplaceResult(NamedTuple):
    """Posterior and record of variational Laplace, in unconstrained coordinates.

    Attributes
    ----------
    mean : (parameters,)
        Posterior mean.
    covariance : (parameters, parameters)
        Posterior covariance.
    log_precision : (precisions,)
        Posterior mean of the precision sites.
    log_precision_covariance : (precisions, precisions)
        Their covariance.
    free_energy, accuracy, complexity : ()
        Free energy in nats and its two parts, complexity that of parameters and precisions.
    n_iterations : ()
        Iterations run.
    converged : ()
        Whether four predicted changes in a row were below 0.1 nat.
    failed : ()
        Whether the prediction could not be made finite again.
    recoveries : ()
        Number of times a diverging step was taken back.
    slope : ()
        Gain in nats that a Newton step from there promises, however short the last steps were.
    trace : dict
        Per iteration: ``free_energy`` evaluated, ``accepted``, ``predicted_change``,
        ``log_step``.
    residuals : tuple of (times, columns)
        Of each Gaussian observation, in the program's order, at the mean, with unit precision at
        the start's log-precisions and without confounds. Empty where these take more than a
        product to find, or states were held while the observer took steps; and in fits.
    """

    mean: jax.Array
    covariance: jax.Array
    log_precision: jax.Array
    log_precision_covariance: jax.Array
    free_energy: jax.Array
    accuracy: jax.Array
    complexity: jax.Array
    n_iterations: jax.Array
    converged: jax.Array
    failed: jax.Array
    recoveries: jax.Array
    slope: jax.Array
    trace: dict[str, jax.Array]
    residuals: tuple[jax.Array, ...] = ()


keep_class(LaplaceResult)


class _Point(NamedTuple):
    """Quantities of one point; the stored ones are those of the best free energy."""

    position: jax.Array
    log_precision: jax.Array
    covariance: jax.Array
    log_precision_covariance: jax.Array
    residual: list[jax.Array]
    free_energy: jax.Array
    accuracy: jax.Array
    gradient: jax.Array
    curvature: jax.Array


class _State(NamedTuple):
    iteration: jax.Array
    position: jax.Array
    log_step: jax.Array
    best: _Point
    flags: jax.Array
    done: jax.Array
    failed: jax.Array
    recoveries: jax.Array
    attempts: jax.Array
    trace: dict[str, jax.Array]


class _Problem(NamedTuple):
    """Functions of a program that the iterations call."""

    noise: Noise
    data: Callable
    prior: Callable
    hyperprior: Callable
    kinked: np.ndarray  # Parameters whose priors have kinks, see `expected_prior`.
    log_concave: bool  # Whether the prior is known to be.


def _problem(
    program: Program,
    sites: Layout,
    start: jax.Array,
    derivatives: str,
    normal: tuple[jax.Array, jax.Array] | None,
) -> _Problem:
    n, kinked = sites.n_parameters, sites.kinked

    def whole(parameters: jax.Array, hyper: jax.Array, variance: jax.Array) -> tuple:
        spread = variance if kinked.size else None
        result = evaluate(program, sites, jnp.concatenate([parameters, hyper]), spread)
        gaussians = list(result.observations.values())
        # Together, so that the response is computed once.
        if derivatives == "one_sided" and not all(fn.fixed_precision for fn, _ in gaussians):
            raise ValueError(
                "derivatives='one_sided' is for observations whose precision does not depend on "
                "the prediction, and that of a Wishart likelihood does; use derivatives='exact'"
            )
        linearised = [fn.linearised(value) for fn, value in gaussians]
        columns, residuals, remainders = ([each[k] for each in linearised] for k in range(3))
        fitted = columns, (residuals, sum(remainders, jnp.zeros(())))
        return (
            fitted,
            result.log_prior,
            result.log_hyperprior,
            component_log_precisions([fn for fn, _ in gaussians]),
            [(without_prediction(fn), value) for fn, value in gaussians],
        )

    # The program is traced once; each function below keeps only what its output needs.
    parts = Outputs(whole, start[:n], start[n:], jnp.ones(n))
    unused = jnp.ones(n)

    def data(parameters: jax.Array) -> tuple:
        def predictions(p: jax.Array) -> tuple:
            return parts.select(0)(p, start[n:], unused)

        if derivatives == "one_sided":
            return one_sided_jacobian(predictions, parameters)
        jacobian, others = jax.jacfwd(predictions, has_aux=True)(parameters)
        return [jnp.moveaxis(part, -1, 0) for part in jacobian], others

    def prior(parameters: jax.Array, variance: jax.Array) -> tuple:
        if normal is not None:
            return _normal(parameters, *(part[:n] for part in normal))

        def derive(p: jax.Array) -> tuple:
            value, slope = jax.value_and_grad(parts.select(1))(p, start[n:], variance)
            return slope, (value, slope)

        # In one pass: priors of many sites are a third of all that is traced.
        curvature, (value, slope) = jax.jacfwd(derive, has_aux=True)(parameters)
        return value, slope, curvature

    def hyperprior(parameters: jax.Array, hyper: jax.Array) -> tuple:
        if normal is not None:
            return _normal(hyper, *(part[n:] for part in normal))

        def derive(h: jax.Array) -> tuple:
            value, slope = jax.value_and_grad(parts.select(2), 1)(parameters, h, unused)
            return slope, (value, slope)

        curvature, (value, slope) = jax.jacfwd(derive, has_aux=True)(hyper)
        return value, slope, curvature

    observations = parts.select(4)(start[:n], start[n:], unused)
    noise = noise_of(observations, lambda h: parts.select(3)(start[:n], h, unused), start[n:])
    return _Problem(noise, data, prior, hyperprior, kinked, normal is not None)


def _normal(values: jax.Array, mean: jax.Array, sd: jax.Array) -> tuple:
    """Log-density of independent normal values, its gradient, and its curvature."""
    distance = (values - mean) / sd
    log_density = -(distance**2 / 2 + jnp.log(sd) + np.log(2 * np.pi) / 2).sum()
    return log_density, -distance / sd, jnp.diag(-1 / sd**2)


def _assess(
    problem: _Problem,
    parameters: jax.Array,
    confounds: jax.Array,
    prior: tuple,
    jacobian: list[jax.Array],
    residual: list[jax.Array],
    remainder: jax.Array,
    log_precision: jax.Array,
) -> _Point:
    """Precisions, free energy, gradient and curvature at a point."""
    noise, n_parameters = problem.noise, len(parameters)
    position = jnp.concatenate([parameters, confounds])
    forms = quadratic_forms(noise, jacobian, residual, confounds)
    confound_precision = noise.confound_precision
    of_confounds = jnp.diag(jnp.concatenate([jnp.zeros(n_parameters), confound_precision]))

    def with_confounds(prior_curvature: jax.Array) -> jax.Array:
        return of_confounds + jnp.pad(-prior_curvature, (0, len(confounds)))

    if problem.kinked.size:
        scales, _ = noise.scales(log_precision)
        curvature = jnp.tensordot(scales, forms.curvature, 1)
        variance = consistent_variance(
            lambda v: curvature + with_confounds(problem.prior(parameters, v)[2]), n_parameters
        )
        prior = problem.prior(parameters, variance)
    log_prior, slope, prior_curvature = prior
    if not problem.log_concave:
        prior_curvature = negative_semidefinite(prior_curvature)
    prior_precision = with_confounds(prior_curvature)

    hyper = score_precisions(
        noise,
        forms,
        lambda curvature: inverse(curvature + prior_precision),
        lambda h: problem.hyperprior(parameters, h),
        log_precision,
        RULES,
    )
    scales, _ = noise.scales(hyper.used)
    if problem.kinked.size:
        log_prior = smoothed_log_prior(
            lambda v: problem.prior(parameters, v)[0],
            jnp.diagonal(hyper.covariance)[:n_parameters],
            jnp.diagonal(prior_precision)[:n_parameters],
            problem.kinked,
        )
    accuracy = (
        noise.log_determinant(scales) - scales @ forms.squared - noise.n_data * np.log(2 * np.pi)
    ) / 2 + remainder
    parameter_term = (
        log_prior
        + n_parameters * np.log(2 * np.pi) / 2
        + (jnp.log(confound_precision) - confound_precision * confounds**2).sum() / 2
        + half_log_determinant(hyper.covariance)
    )
    precision_term = (
        hyper.log_hyperprior
        + len(hyper.used) * np.log(2 * np.pi) / 2
        + half_log_determinant(hyper.log_precision_covariance)
    )
    prior_slope = jnp.concatenate([slope, -confound_precision * confounds])
    terms = jnp.stack([accuracy, parameter_term, precision_term])
    return _Point(
        position,
        hyper.log_precision,
        hyper.covariance,
        hyper.log_precision_covariance,
        residual,
        # In a loop: XLA would add them up again for all that depends on whether it is better.
        jax.lax.fori_loop(0, len(terms), lambda k, total: total + terms[k], jnp.zeros(())),
        accuracy,
        scales @ forms.gradient + prior_slope,
        -jnp.tensordot(scales, forms.curvature, 1) - prior_precision,
    )


def smoothed_log_prior(
    log_prior: Callable, variance: jax.Array, precision: jax.Array, kinked: np.ndarray
) -> jax.Array:
    """What stands in the free energy in place of the log prior at the mean.

    `log_prior` is that of a posterior variance, kinked priors in the mean; with half of the prior
    precision times variance that the log-determinant of the covariance takes for granted.
    """
    return log_prior(variance) + (precision * variance)[kinked].sum() / 2


def consistent_variance(precision: Callable, n_parameters: int) -> jax.Array:
    """Posterior variance of the parameters on which their precision depends, (parameters,)."""

    def update(state: tuple) -> tuple:
        k, variance, _ = state
        covariance = inverse(precision(variance))
        # In the mean of logarithms, as a prior that is far from the mean overshoots.
        later = jnp.sqrt(variance * jnp.diagonal(covariance)[:n_parameters])
        return k + 1, later, jnp.abs(jnp.log(later / variance)).max()

    return jax.lax.while_loop(
        lambda state: (state[0] < CONSISTENCY_STEPS) & ~(state[2] < CONSISTENCY),
        update,
        (jnp.zeros((), int), jnp.ones(n_parameters), jnp.asarray(jnp.inf)),
    )[1]


def variational_laplace(
    program: Program,
    sites: Layout,
    start: jax.Array,
    max_iterations: int = 128,
    derivatives: str = "exact",
    normal: tuple[jax.Array, jax.Array] | None = None,
) -> LaplaceResult:
    """Invert a program whose observations are Gaussian; a pure function, to be compiled.

    Parameters
    ----------
    program : callable
        A NumPyro program without arguments.
    sites : Layout
        Its sites.
    start : jax.Array
        Where to start, flat and unconstrained, shape (sites.size,); log-precisions included.
    max_iterations : int
        Iterations at most; 128 as in SPM.
    derivatives : {"exact", "one_sided"}
        Of the prediction: exact, or SPM's one-sided differences with a step of exp(-8).
    normal : tuple of jax.Array, optional
        Means and standard deviations of the prior, each (sites.size,), where it is known to be one
        of independent normal parameters, which takes fewer operations than asking the program.

    Returns
    -------
    LaplaceResult
        Posterior, free energy and record.
    """
    problem = _problem(program, sites, start, derivatives, normal)
    state = jax.lax.while_loop(
        lambda state: ~(state.done | state.failed | (state.iteration >= max_iterations)),
        lambda state: _iterate(problem, sites.n_parameters, state),
        _begin(problem, sites, start, max_iterations),
    )
    return _result(problem.noise, sites, state)


def _begin(problem: _Problem, sites: Layout, start: jax.Array, max_iterations: int) -> _State:
    n = sites.n_parameters
    position = jnp.concatenate([start[:n], problem.noise.initial_confounds()])
    size, n_hyper = len(position), len(start) - n
    empty = _Point(
        position,
        start[n:],
        jnp.zeros((size, size)),
        jnp.zeros((n_hyper, n_hyper)),
        [jnp.zeros(fn.columns.shape) for fn in problem.noise.observations],
        -jnp.inf,
        -jnp.inf,
        jnp.zeros(size),
        -jnp.eye(size),
    )
    record = {
        name: jnp.full(max_iterations, jnp.nan)
        for name in ("free_energy", "predicted_change", "log_step", "accepted")
    }
    zero, no, flags = jnp.zeros((), int), jnp.zeros((), bool), jnp.zeros(4, bool)
    step = jnp.asarray(INITIAL_STEP)
    return _State(zero, position, step, empty, flags, no, no, zero, zero, record)


def _result(noise: Noise, sites: Layout, state: _State) -> LaplaceResult:
    best, n = state.best, sites.n_parameters
    pairs = list(zip(noise.observations, best.residual, strict=True))
    if not all(fn.white for fn, _ in pairs):
        pairs = []
    return LaplaceResult(
        best.position[:n],
        best.covariance[:n, :n],
        best.log_precision,
        best.log_precision_covariance,
        best.free_energy,
        best.accuracy,
        best.accuracy - best.free_energy,
        state.iteration,
        state.done,
        state.failed,
        state.recoveries,
        _newton_gain(best),
        state.trace,
        # Observations of the noise alone predict nothing.
        tuple(fn.whitened_residual(residual.reshape(fn.event_shape)) for fn, residual in pairs),
    )


def _newton_gain(point: _Point) -> jax.Array:
    """What a Newton step from a point promises, nats."""
    return point.gradient @ point.covariance @ point.gradient / 2


def _iterate(problem: _Problem, n_parameters: int, state: _State) -> _State:
    """Assess the new point and step on, or take a shorter step where nothing there is finite."""
    parameters, confounds = state.position[:n_parameters], state.position[n_parameters:]
    jacobian, (residual, remainder) = problem.data(parameters)
    finite = jnp.stack(
        [(jnp.abs(part) < HUGE).all() for part in [*jacobian, *residual, remainder]]
    ).all()
    # Before a first point is stored there is nothing to return to.
    returns = jnp.isfinite(state.best.free_energy) & (state.attempts < RECOVERY_ATTEMPTS)
    again = ~finite & returns
    clean, residual, remainder = jax.tree.map(
        lambda part: jnp.where(finite, part, 0.0), (jacobian, residual, remainder)
    )
    # SPM starts with the confounds of the data. Away from the prior mean, parameters would first
    # of all step to make up for the mean of the prediction.
    prior = problem.prior(parameters, jnp.ones(n_parameters))
    away = (prior[1] != 0).any()
    started = problem.noise.initial_confounds(residual)
    confounds = jnp.where((state.iteration == 0) & away, started, confounds)
    given = clean, residual, remainder, state.best.log_precision
    point = _assess(problem, parameters, confounds, prior, *given)
    comparable = finite & jnp.isfinite(point.free_energy)
    better = (point.free_energy > state.best.free_energy) | (state.iteration < 2)
    accepted = comparable & better
    best = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), point, state.best)
    log_step = jnp.where(
        accepted,
        jnp.minimum(state.log_step + 0.5, LARGEST_STEP),
        jnp.minimum(state.log_step - 2.0, INITIAL_STEP),
    )
    step = regularised_step(best.curvature, best.gradient, log_step)
    change = best.gradient @ step
    small = change < TOLERANCE
    if problem.kinked.size:
        # The first steps are too short to promise much, however far the optimum is.
        small &= (_newton_gain(best) < SMOOTHED_TOLERANCE) | ~accepted
    flags = jnp.concatenate([small[None], state.flags[:-1]])
    k = state.iteration
    entries = {
        "free_energy": jnp.where(comparable, point.free_energy, jnp.nan),
        "predicted_change": change,
        "log_step": log_step,
        "accepted": accepted.astype(float),
    }
    later = _State(
        k + 1,
        best.position + step,
        log_step,
        best,
        flags,
        flags.all(),
        ~finite,
        state.recoveries,
        jnp.zeros_like(state.attempts),
        {name: state.trace[name].at[k].set(entries[name]) for name in state.trace},
    )
    shorter = state._replace(
        position=later.position,
        log_step=log_step,
        recoveries=state.recoveries + 1,
        attempts=state.attempts + 1,
    )
    return jax.tree.map(lambda retried, moved: jnp.where(again, retried, moved), shorter, later)
