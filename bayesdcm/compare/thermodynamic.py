"""Thermodynamic integration: the log-evidence along a path of tempered posteriors.

The path leads from a normalised density g to the joint density p of parameters and data: at
inverse temperature b, draws have density proportional to ``g**(1 - b) * p**b``. The log-evidence
is the integral over b of the mean of ``log p - log g``. From the Gaussian approximation of the
posterior, that mean hardly changes along the path, and few temperatures are enough; from the
prior, as it is usually done, it changes by orders of magnitude.

Chains at all temperatures advance in one batch, by Hamiltonian Monte Carlo whose metric is known:
if prior and posterior were normal, so would all densities between them be. From the
approximation, observer sites that are normal given all others are integrated out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesdcm.compare.estimate import (
    FEWEST_DRAWS,
    LARGEST_ERROR,
    Evidence,
    Proposal,
    Target,
    effective_draws,
    large_error,
    log_joints,
    log_priors,
    log_target,
)
from bayesdcm.infer.density import Layout, evaluate
from bayesdcm.infer.evaluation import prior_sample
from bayesdcm.infer.method import one_of
from bayesdcm.infer.prior_moments import moments_of_prior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.threads import single_threaded_linear_algebra

# Temperatures and power of their schedule, by path. From the prior: Friel and Pettitt's power.
PATHS = {"approximation": (8, 2.0), "prior": (24, 5.0)}
# Independent draws of the start of the path.
FIRST_DRAWS = 2000
# Leapfrog steps of a trajectory, and the longest step in units of the metric: together a quarter
# of a turn about a normal density, give or take, which leaves little correlation.
STEPS, LONGEST, SHORTEST = 5, 0.4, 1e-4
TARGET_ACCEPT = 0.85
# Integration and stepping stones may differ by so many standard errors.
DISAGREEMENT = 4.0


class _Ladder(NamedTuple):
    """Densities of all temperatures but 0, (temperatures, ...): normal guesses at them."""

    power: jax.Array
    mean: jax.Array
    factor: jax.Array


class _Noise(NamedTuple):
    """Where chains start, and what moves them, (temperatures, chains, ...).

    Random numbers come from outside: their generator would take seconds to compile.
    """

    z: jax.Array
    momentum: jax.Array
    uniform: jax.Array


class _State(NamedTuple):
    z: jax.Array
    energy: jax.Array
    gradient: jax.Array
    difference: jax.Array
    log_step: jax.Array


def _chain(
    source: Any,
    sites: Layout,
    collapsed: tuple[str, ...],
    lengths: tuple[int, int],
    prepared: Any,
    base: jax.Array,
    reference: tuple[jax.Array, jax.Array] | None,
    ladder: _Ladder,
    noise: _Noise,
) -> tuple[jax.Array, jax.Array]:
    """One chain at one temperature: differences of log densities, and acceptance rates."""
    target = log_target(source, sites, collapsed, prepared, base)

    def densities(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Log densities of the start of the path, and of its end."""
        if reference is None:
            result = evaluate(source.bind(prepared), sites, x)
            prior = result.log_prior + result.log_hyperprior
            return prior, prior + result.log_likelihood
        mean, factor = reference
        white = solve_triangular(factor, x - mean, lower=True)
        log_scale = jnp.log(jnp.diagonal(factor)).sum() + len(mean) / 2 * np.log(2 * np.pi)
        return -0.5 * white @ white - log_scale, target(x)

    def potential(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        start, end = densities(ladder.mean + ladder.factor @ z)
        energy = -((1 - ladder.power) * start + ladder.power * end)
        return jnp.where(jnp.isfinite(energy), energy, jnp.inf), end - start

    slope = jax.value_and_grad(potential, has_aux=True)

    def at(z: jax.Array, log_step: jax.Array) -> _State:
        (energy, difference), gradient = slope(z)
        return _State(z, energy, gradient, difference, log_step)

    def advance(state: _State, given: tuple) -> tuple[_State, tuple]:
        momentum, (shorter, chance), gain = given
        # Lengths of trajectories differ, so that none comes round to where it began.
        step = jnp.exp(state.log_step) * (0.6 + 0.4 * shorter)

        def leap(_: int, moving: tuple[_State, jax.Array]) -> tuple[_State, jax.Array]:
            here, p = moving
            p = p - step / 2 * here.gradient
            there = at(here.z + step * p, here.log_step)
            return there, p - step / 2 * there.gradient

        end, last = jax.lax.fori_loop(0, STEPS, leap, (state, momentum))
        change = state.energy - end.energy + (momentum @ momentum - last @ last) / 2
        accept = jnp.where(jnp.isfinite(change), jnp.exp(jnp.minimum(change, 0.0)), 0.0)
        taken = chance < accept
        chosen = jax.tree.map(lambda new, old: jnp.where(taken, new, old), end, state)
        log_step = state.log_step + gain * (accept - TARGET_ACCEPT)
        log_step = jnp.clip(log_step, np.log(SHORTEST), np.log(LONGEST))
        return chosen._replace(log_step=log_step), (chosen.difference, accept)

    state = at(noise.z, jnp.log(LONGEST / 2))
    warmup, draws = lengths
    # Steps adapt less and less, and stay as they are from the end of the warm-up on.
    gains = jnp.where(jnp.arange(warmup + draws) < warmup, 1.0, 0.0)
    gains = gains / (5.0 + jnp.arange(warmup + draws)) ** 0.6
    given = noise.momentum, noise.uniform, gains
    _, (difference, accept) = jax.lax.scan(advance, state, given)
    return difference[warmup:], accept[warmup:]


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _chains(*given: Any) -> tuple[jax.Array, jax.Array]:
    """`_chain` of all chains of all temperatures: the last two arguments are batched."""
    *shared, ladder, noise = given
    over_chains: Callable = jax.vmap(partial(_chain, *shared), in_axes=(None, 0))
    return jax.vmap(over_chains)(ladder, noise)


def thermodynamic_integration(
    problem: Problem,
    mean: NDArray,
    covariance: NDArray,
    *,
    seed: int = 0,
    path: str = "approximation",
    temperatures: int | None = None,
    power: float | None = None,
    chains: int = 4,
    warmup: int = 150,
    draws: int = 250,
) -> Evidence:
    """Log-evidence of a program by integration over inverse temperatures from 0 to 1.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    mean, covariance : ndarray
        Gaussian approximation of the posterior over the flat vector, (size,), (size, size).
    seed : int
        Of all draws.
    path : {"approximation", "prior"}
        Where the path starts. From the prior, integrands are steep and far more draws are needed;
        it asks nothing of the approximation but a metric.
    temperatures : int, optional
        Inverse temperatures above 0. None: 8, or 24 from the prior.
    power : float, optional
        They are ``(k / temperatures) ** power``. None: 2, or 5 from the prior, as Friel and
        Pettitt suggest.
    chains, warmup, draws : int
        Chains at each temperature, and iterations of each before and after step sizes are fixed.

    Returns
    -------
    Evidence
        By the trapezoidal rule, corrected by the variances at both ends of each interval. Its
        ``details`` have ``stepping_stone``, the estimate of Xie et al. from the same draws, which
        has no error of discretisation; and by inverse temperature: ``temperatures``, ``means``,
        ``variances``, ``effective_draws`` and ``acceptance`` (NaN at 0, where draws are
        independent).

    Raises
    ------
    ValueError
        If an option is out of its range, or the model diverges wherever the path starts.

    References
    ----------
    .. [1] Friel and Pettitt (2008), J R Stat Soc B 70:589.
           https://doi.org/10.1111/j.1467-9868.2007.00650.x
    .. [2] Friel, Hurn and Wyse (2014), Stat Comput 24:709.
           https://doi.org/10.1007/s11222-013-9397-1
    .. [3] Xie et al. (2011), Syst Biol 60:150. https://doi.org/10.1093/sysbio/syq085

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist
    >>> from bayesdcm.infer.problem import make_problem
    >>> def program(data):
    ...     x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("y", dist.Normal(x, 1.0), obs=data)
    >>> evidence = thermodynamic_integration(
    ...     make_problem(program, 0.0), np.zeros(1), np.eye(1) / 2, temperatures=2, draws=20)
    >>> round(float(evidence), 3)  # N(0; 0, 2)
    -1.266
    """
    one_of(*PATHS)("path", path)
    temperatures = PATHS[path][0] if temperatures is None else temperatures
    power = PATHS[path][1] if power is None else power
    whole = {"temperatures": (temperatures, 2), "chains": (chains, 1), "warmup": (warmup, 1)}
    for name, (value, least) in (whole | {"draws": (draws, 10)}).items():
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if not power > 0:
        raise ValueError(f"power must be positive, got {power!r}")
    schedule = (np.arange(temperatures + 1) / temperatures) ** power
    if path == "approximation":
        target = Target(problem, mean)
        base, places = jnp.asarray(target.base), target.places
        mean, covariance = mean[places], covariance[np.ix_(places, places)]
        factor = np.linalg.cholesky(covariance)
        reference = jnp.asarray(mean), jnp.asarray(factor)
        log_density, collapsed = target.log_density, target.collapsed
        approximation = Proposal(target, mean, factor)
        points = approximation.draw(FIRST_DRAWS, np.random.default_rng(seed))
        first, moments = approximation.log_ratio(points), (mean, covariance)
    else:
        reference, base, collapsed = None, jnp.zeros(0), ()
        log_density = partial(log_joints, problem)
        first, moments = _at_prior(problem, seed)
    ladder = _ladder(schedule[1:], *moments, mean, covariance)
    noise = _noise(log_density, ladder, mean, (chains, warmup + draws), seed)
    static = (problem.source, problem.sites, collapsed, (warmup, draws))
    arrays = (problem.prepared, base, reference, ladder, noise)
    with single_threaded_linear_algebra():
        difference, accept = map(np.asarray, _chains(*static, *arrays))
    finite = np.isfinite(first)
    if not finite.any():
        raise ValueError(
            f"the model diverges at all {len(first)} points drawn from the {path}, where the path "
            "starts; check the fit with fit.diagnose()"
        )
    # Where the model diverges there is no posterior at any temperature but 0: the path starts
    # from the part of g where it does not, of which this is the mass.
    inside = float(np.log(finite.mean()))
    series = [first[finite][None], *difference]
    acceptance = np.r_[np.nan, accept.mean((1, 2))]
    return _integral(schedule, series, inside, acceptance, path)


def _at_prior(problem: Problem, seed: int) -> tuple[NDArray, tuple[NDArray, NDArray]]:
    """Log-likelihoods at draws of the prior, and its mean and covariance."""
    points = np.asarray(prior_sample(problem, FIRST_DRAWS, seed))
    try:
        moments = moments_of_prior(problem)
    except ValueError:
        moments = points.mean(0), np.atleast_2d(np.cov(points, rowvar=False))
    return log_joints(problem, points) - log_priors(problem, points), moments


def _ladder(
    power: NDArray,
    start_mean: NDArray,
    start_covariance: NDArray,
    mean: NDArray,
    covariance: NDArray,
) -> _Ladder:
    """Normal densities between two of them: their precisions change linearly."""
    first, last = np.linalg.inv(start_covariance), np.linalg.inv(covariance)
    weight = power[:, None, None]
    between = np.linalg.inv((1 - weight) * first + weight * last)
    pull = (1 - power)[:, None] * (first @ start_mean) + power[:, None] * (last @ mean)
    means = (between @ pull[..., None])[..., 0]
    factors = np.linalg.cholesky((between + np.swapaxes(between, 1, 2)) / 2)
    return _Ladder(*(jnp.asarray(part) for part in (power, means, factors)))


def _noise(
    log_density: Callable, ladder: _Ladder, home: NDArray, shape: tuple[int, int], seed: int
) -> _Noise:
    """Random numbers of all chains, and starts at which the model does not diverge."""
    # Those of the start of the path are of the seed itself.
    random = np.random.default_rng([seed, 1])
    temperatures, size = ladder.mean.shape
    mean, factor = np.asarray(ladder.mean)[:, None], np.asarray(ladder.factor)
    z = random.normal(size=(temperatures, shape[0], size))
    points = mean + z @ np.swapaxes(factor, 1, 2)
    usable = np.isfinite(log_density(points.reshape(-1, size))).reshape(z.shape[:2])
    # Elsewhere the posterior mean.
    to_home = np.linalg.solve(factor, (home - mean).swapaxes(1, 2)).swapaxes(1, 2)
    z = np.where(usable[..., None], z, to_home)
    count = (temperatures, *shape)
    noise = z, random.normal(size=(*count, size)), random.uniform(size=(*count, 2))
    return _Noise(*(jnp.asarray(part) for part in noise))


def _integral(
    schedule: NDArray, series: list[NDArray], inside: float, acceptance: NDArray, path: str
) -> Evidence:
    means = np.array([values.mean() for values in series])
    variances = np.array([values.var(ddof=1) for values in series])
    widths = np.diff(schedule)
    # The variance is the slope of the mean: the trapezoidal rule with its first correction.
    of_mean = (np.r_[widths, 0] + np.r_[0, widths]) / 2
    of_variance = (np.r_[widths, 0] ** 2 - np.r_[0, widths] ** 2) / 12
    integral = inside + of_mean @ means + of_variance @ variances
    squared_error, effective = 0.0, []
    for values, m, a, b in zip(series, means, of_mean, of_variance, strict=True):
        effective.append(effective_draws(values))
        weighed = a * values + b * (values - m) ** 2
        squared_error += weighed.var(ddof=1) / effective_draws(weighed)
    error = float(np.sqrt(squared_error))
    stones = [
        logsumexp(width * values) - np.log(values.size)
        for width, values in zip(widths, series, strict=False)
    ]
    details = {
        "path": path,
        "stepping_stone": float(inside + np.sum(stones)),
        "temperatures": schedule.tolist(),
        "means": means.tolist(),
        "variances": variances.tolist(),
        "effective_draws": effective,
        "acceptance": acceptance.tolist(),
    }
    problems = _problems(float(integral), error, details)
    return Evidence(float(integral), error, "thermodynamic", details, problems)


def _problems(integral: float, error: float, details: dict) -> tuple[str, ...]:
    problems = large_error(error, "Raise draws and temperatures.")
    fewest = int(np.argmin(details["effective_draws"]))
    if details["effective_draws"][fewest] < FEWEST_DRAWS:
        problems.append(
            f"The draws at inverse temperature {details['temperatures'][fewest]:.3g} are worth "
            f"{details['effective_draws'][fewest]:.0f} independent ones (should be at least "
            f"{FEWEST_DRAWS}). Raise draws."
        )
    gap = abs(integral - details["stepping_stone"])
    if gap > DISAGREEMENT * max(error, LARGEST_ERROR / DISAGREEMENT):
        problems.append(
            f"Integration and stepping stones differ by {gap:.2f} nat: the temperatures are too "
            "far apart. Raise temperatures."
        )
    return tuple(problems)
