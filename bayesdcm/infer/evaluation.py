"""From flat points to named quantities: sites, predictions, likelihoods, over many draws."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpy.typing import NDArray
from numpyro.distributions import biject_to
from scipy.linalg import block_diag

from bayesdcm.infer.density import Layout, Outputs, Program, evaluate
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.threads import map_rows, single_threaded_linear_algebra
from bayesdcm.observe.gaussian import CONFOUND_PRECISION, GaussianObservation

BATCH = 32
PART = 128


@partial(jax.jit, static_argnums=(0, 1))
def _values(source: Any, sites: Layout, prepared: Any, draws: jax.Array) -> dict[str, jax.Array]:
    """Values of all sites, predictions left out, for draws of shape (draws, size)."""
    program = source.bind(prepared)

    def values(vector: jax.Array) -> tuple:
        return (evaluate(program, sites, vector).values,)

    # Only what the values need is computed: no trajectory.
    return map_rows(Outputs(values, draws[0]).select(0), draws)


@single_threaded_linear_algebra()
def site_values(problem: Problem, draws: jax.Array) -> dict[str, NDArray]:
    """Values of sampled and deterministic sites at flat draws.

    Parameters
    ----------
    problem : Problem
        The program.
    draws : jax.Array
        Flat unconstrained points, shape (draws, size).

    Returns
    -------
    dict of ndarray
        By site, each (draws, ...).
    """
    found = _values(problem.source, problem.sites, problem.prepared, jnp.asarray(draws))
    return {name: np.asarray(value) for name, value in found.items()}


@partial(jax.jit, static_argnums=(0, 1))
def _predictive(
    source: Any, sites: Layout, prepared: Any, draws: jax.Array, keys: jax.Array
) -> dict[str, dict[str, jax.Array]]:
    program = source.bind(prepared)

    def one(arguments: tuple[jax.Array, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        vector, key = arguments
        result = evaluate(program, sites, vector)
        joint = result.log_prior + result.log_hyperprior + result.log_likelihood
        found = {"stats": {"lp": joint}, "predictive": {}, "likelihood": {}}
        for name, (fn, value) in result.observations.items():
            key, first, second = jax.random.split(key, 3)
            fitted = fn.fitted(value, first)
            found["predictive"][name] = fitted + fn.sample(second) - fn.prediction
            found["predictive"][f"{name}_prediction"] = fn.prediction
            found["predictive"][f"{name}_fitted"] = fitted
            found["likelihood"][name] = _pointwise(fn, value, fitted)
        for name in sites.foreign:
            fn, value = result.foreign[name]
            key, first = jax.random.split(key)
            # A factor (numpyro.factor) has a likelihood, but no data.
            if jnp.size(value):
                found["predictive"][name] = fn.sample(first)
            found["likelihood"][name] = fn.log_prob(value)
        return found

    return map_rows(one, (draws, keys), at_most=BATCH)


def _keys(seed: int, n: int, generator: str = "rbg") -> jax.Array:
    """Keys of the generator that compiles fastest; threefry would take seconds a program."""
    return jax.random.split(jax.random.key(seed, impl=generator), n)


def _pointwise(fn: GaussianObservation, value: jax.Array, fitted: jax.Array) -> jax.Array:
    """Log-likelihood of each data point given the drawn confounds.

    Points that dense components correlate have no likelihood of their own: theirs is given
    conditional on all the others.
    """
    residual = (value - fitted).reshape(fn.columns.shape)
    weighed, diagonal = fn.weigh(residual)
    log_density = (jnp.log(diagonal / (2 * jnp.pi)) - weighed**2 / diagonal) / 2
    return log_density.reshape(fn.event_shape)


@single_threaded_linear_algebra()
def predictive(problem: Problem, draws: jax.Array, seed: int) -> dict[str, dict[str, NDArray]]:
    """Replicated data, predictions and likelihoods at flat draws.

    Parameters
    ----------
    problem : Problem
        The program.
    draws : jax.Array
        Flat unconstrained points, shape (draws, size).
    seed : int
        Seed of noise and confound coefficients.

    Returns
    -------
    dict
        ``stats``: log joint density ``lp`` (draws,). ``predictive``: for an observed site NAME,
        replicated data ``NAME`` (confounds and noise drawn), the noise-free ``NAME_prediction``
        and, with confounds, ``NAME_fitted``. ``likelihood``: pointwise log-likelihoods.
    """
    n_draws = len(draws)
    # Parts of one size, the last one padded: compiled once, however many draws there are.
    padded = np.concatenate([draws, np.repeat(draws[-1:], -n_draws % PART, axis=0)])
    # JAX draws from some distributions (Poisson) with the threefry generator only.
    generator = "threefry2x32" if problem.sites.foreign else "rbg"
    keys = _keys(seed, len(padded), generator)
    parts = []
    for start in range(0, len(padded), PART):
        part = slice(start, start + PART)
        found = _predictive(
            problem.source, problem.sites, problem.prepared, padded[part], keys[part]
        )
        parts.append(jax.tree.map(np.asarray, found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n_draws], *parts)


def observed_values(problem: Problem) -> dict[str, NDArray]:
    """Observed arrays by site, in modelled units."""
    program = problem.source.bind(problem.prepared)
    sites = problem.sites

    def observed() -> tuple:
        result = evaluate(program, sites, jnp.zeros(sites.size))
        gaussian = {name: value for name, (_, value) in result.observations.items()}
        foreign = {name: v for name, (_, v) in result.foreign.items() if jnp.size(v)}
        return (gaussian | foreign,)

    small = Outputs(observed).select(0)
    return {name: np.asarray(value) for name, value in small().items()}


def modelled_confounds(problem: Problem) -> NDArray:
    """Confounds of all observed sites, as the likelihood has them.

    Parameters
    ----------
    problem : Problem
        The program.

    Returns
    -------
    ndarray
        Those of all Gaussian sites, blocks one after the other, shape (times, confounds), in
        units in which the prior precision of coefficients is the usual one.
    """
    program, sites = problem.source.bind(problem.prepared), problem.sites

    def confounds() -> tuple:
        found = evaluate(program, sites, jnp.zeros(sites.size)).observations.values()
        return ([fn.confounds.basis * fn.confounds.scale * _width(fn) for fn, _ in found],)

    return block_diag(np.zeros((0, 0)), *map(np.asarray, Outputs(confounds).select(0)()))


def _width(fn: GaussianObservation) -> float:
    return float(np.sqrt(CONFOUND_PRECISION / fn.confound_precision))


def _prior_draw(program: Program, sites: Layout, keys: jax.Array) -> jax.Array:
    """One flat, unconstrained draw from the prior; one key a site, since splitting compiles."""
    flat: dict[str, jax.Array] = {}

    def substitution(site: dict[str, Any]) -> jax.Array | None:
        if site["type"] != "sample" or site["is_observed"]:
            return None
        value = site["fn"].sample(keys[len(flat)])
        flat[site["name"]] = biject_to(site["fn"].support).inv(value)
        return value

    substituted = numpyro.handlers.substitute(program, substitute_fn=substitution)
    with numpyro.handlers.block():
        numpyro.handlers.seed(substituted, jax.random.key(0))()
    return jnp.concatenate([jnp.ravel(flat[site.name]) for site in sites.sites])


@partial(jax.jit, static_argnums=(0, 1))
def _prior(source: Any, sites: Layout, prepared: Any, keys: jax.Array) -> jax.Array:
    program = source.bind(prepared)
    small = Outputs(lambda key: (_prior_draw(program, sites, key),), keys[0]).select(0)
    return map_rows(small, keys)


def prior_sample(problem: Problem, n_draws: int, seed: int) -> jax.Array:
    """Flat, unconstrained draws from the prior, shape (draws, size)."""
    return prior_points(problem.source, problem.sites, problem.prepared, n_draws, seed)


def prior_points(source: Any, sites: Layout, prepared: Any, n_draws: int, seed: int) -> jax.Array:
    """`prior_sample` of what a problem holds."""
    n_sites = len(sites.sites)
    keys = _keys(seed, n_draws * n_sites).reshape(n_draws, n_sites)
    return _prior(source, sites, prepared, keys)
