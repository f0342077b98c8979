"""From flat points to named quantities: sites, predictions, likelihoods, over many draws."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from bayesdcm._configuration import COMPILED_ONCE
from bayesdcm.infer.density import (
    Evaluation,
    Layout,
    Outputs,
    Program,
    evaluate,
    unconstrained_values,
)
from bayesdcm.infer.problem import Problem, normal_prior
from bayesdcm.infer.threads import map_rows, n_cores, single_threaded_linear_algebra
from bayesdcm.infer.traced_programs import traced_once
from bayesdcm.observe.gaussian import CONFOUND_PRECISION, GaussianObservation
from bayesdcm.observe.wishart import WishartObservation

# Rows of one call: programs have one shape, however many draws there are. A fit evaluates a point
# besides its draws, and all rows of a call take time: those of predictions are few, and fewest on a
# CPU (`PART`).
PART, LARGE_PART, VALUES, PRIOR = 8, 128, 256, 64

# Programs of a source and its sites that run in no time.
compiled_once = traced_once(2, COMPILED_ONCE)


def in_parts(function: Callable, size: int, *rows: Any, run: Callable = map) -> Any:
    """A function of rows, called with `size` of them at a time, the last ones repeated.

    `run` calls a function for each of several values, as `map` does.

    >>> in_parts(lambda x: 2 * x, 2, np.arange(3.0)).tolist()
    [0.0, 2.0, 4.0]
    """
    n, whole = len(rows[0]), None
    places = np.minimum(np.arange(n + -n % size), n - 1).reshape(-1, size)
    parts = run(lambda k: jax.tree.map(np.asarray, function(*(each[k] for each in rows))), places)
    for start, part in zip(range(0, n, size), parts, strict=True):
        if whole is None:
            whole = jax.tree.map(lambda leaf: np.empty((n, *leaf.shape[1:]), leaf.dtype), part)
        # Parts are not kept: together they take as much memory as the result.
        for target, leaf in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
            target[start : start + size] = leaf[: n - start]
    return whole


@compiled_once
def _values(source: Any, sites: Layout, prepared: Any, draws: jax.Array) -> dict[str, jax.Array]:
    """Values of all sites, predictions left out, for draws of shape (draws, size)."""
    program = source.bind(prepared)

    def values(vector: jax.Array) -> tuple:
        return (evaluate(program, sites, vector).values,)

    # Only what the values need is computed: no trajectory.
    return map_rows(Outputs(values, draws[0]).select(0), draws)


@single_threaded_linear_algebra()
def site_values(problem: Problem, draws: jax.Array) -> dict[str, NDArray]:
    """Values (draws, ...) of sampled and deterministic sites at flat draws (draws, size)."""
    values = partial(_values, problem.source, problem.sites, problem.prepared)
    return in_parts(values, VALUES, np.asarray(draws))


@traced_once(2)
def _predictive(
    source: Any, sites: Layout, prepared: Any, draws: jax.Array, keys: jax.Array
) -> dict[str, dict[str, jax.Array]]:
    program = source.bind(prepared)

    def of_draw(row: tuple[jax.Array, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        vector, data = row
        keys = iter(jax.random.wrap_key_data(data, impl=_generator(sites)))
        result = evaluate(program, sites, vector)
        joint = result.log_prior + result.log_hyperprior + result.log_likelihood
        predictive, likelihood, whitened, confounds = {}, {}, {}, {}
        for name, (fn, value) in result.observations.items():
            fitted = fn.fitted(value, next(keys))
            predictive[name] = fitted + fn.sample(next(keys)) - fn.prediction
            predictive[f"{name}_prediction"] = fn.prediction
            predictive[f"{name}_fitted"] = fitted
            likelihood[name] = fn.pointwise(value, fitted)
            whitened[name] = fn.whitened_residual(value)
            confounds[name] = jnp.asarray(fn.confounds.scale.shape[0])
        for name in sites.foreign:
            fn, value = result.foreign[name]
            key = next(keys)
            # A factor (numpyro.factor) has a likelihood, but no data.
            if jnp.size(value):
                predictive[name] = fn.sample(key)
            likelihood[name] = fn.log_prob(value)
        return {
            "stats": {"lp": joint},
            "predictive": predictive,
            "likelihood": likelihood,
            "whitened": whitened,
            "confounds": confounds,
        }

    return map_rows(of_draw, (draws, keys))


# Numbers that make a key.
WORDS = {"rbg": 4, "threefry2x32": 2}


def _generator(sites: Layout) -> str:
    # JAX draws from some distributions (Poisson) with the threefry generator only.
    return "threefry2x32" if sites.foreign else "rbg"


def _keys(seed: int, n: int, columns: int, generator: str = "rbg") -> NDArray:
    """Data of keys (n, columns, words), by default of the generator that compiles fastest.

    JAX would compile programs to split keys. Of other numbers of rows the first ones are the same.
    """
    shape = (n, columns, WORDS[generator])
    return np.random.default_rng([seed, *b"keys"]).integers(2**32, size=shape, dtype=np.uint32)


@single_threaded_linear_algebra()
def predictive(problem: Problem, draws: jax.Array, seed: int) -> dict[str, dict[str, NDArray]]:
    """Replicated data, predictions and likelihoods at flat draws (draws, size).

    ``stats``: log joint density ``lp`` (draws,). ``predictive``: for an observed site NAME,
    replicated data ``NAME`` (confounds and noise drawn, by the seed), the noise-free
    ``NAME_prediction`` and, with confounds, ``NAME_fitted``. ``likelihood``: pointwise
    log-likelihoods.
    """
    names = ("stats", "predictive", "likelihood")
    return _evaluated(problem.source, problem.sites, problem.prepared, draws, seed, names)


@single_threaded_linear_algebra()
def joint_densities(problem: Problem, draws: NDArray) -> NDArray:
    """Log joint densities (draws,), nats, of data and flat draws (draws, size).

    By the program of `predictive`, which a fit needs anyway: another one takes longer to compile.
    """
    parts = (problem.source, problem.sites, problem.prepared)
    return _evaluated(*parts, draws, 0, ("stats",))["stats"]["lp"]


def _evaluated(
    source: Any, sites: Layout, prepared: Any, draws: NDArray, seed: int, names: tuple[str, ...]
) -> dict:
    n = len(draws)
    keys = _keys(seed, n, 2 * len(sites.observed), _generator(sites))
    # The one draw of a method that finds a point may be a long simulation.
    size = PART if jax.default_backend() == "cpu" else LARGE_PART
    size = 1 if n == 1 and sites.foreign else size
    draws, some = np.asarray(draws), np.zeros(size, int)
    # Threads only run it: NumPyro traces in one, and JAX's settings may be those of this one.
    compiled = _predictive.program(source, sites, prepared, draws[some], keys[some])

    def evaluated(*rows: NDArray) -> dict:
        of_draws = compiled(prepared, *rows)
        return {name: of_draws[name] for name in names}

    with ThreadPoolExecutor(n_cores()) as pool:
        return in_parts(evaluated, size, draws, keys, run=pool.map if n > size else map)


@single_threaded_linear_algebra()
def whitened_residuals(
    source: Any, sites: Layout, prepared: Any, draws: NDArray
) -> tuple[list[NDArray], list[int]]:
    """Residuals (draws, times, columns) at flat draws (draws, size), and how many confounds.

    Of each Gaussian observation, in the program's order, with unit precision and without confounds,
    by the program of `predictive`.
    """
    of_draws = _evaluated(source, sites, prepared, draws, 0, ("whitened", "confounds"))
    # Compiled programs put names in alphabetical order.
    names = [name for name in sites.observed if name not in sites.foreign]
    n_confounds = [int(of_draws["confounds"][name][0]) for name in names]
    return [of_draws["whitened"][name] for name in names], n_confounds


def observed_values(problem: Problem) -> dict[str, NDArray]:
    """Observed arrays by site, in modelled units."""

    def observed(result: Evaluation) -> dict[str, jax.Array]:
        sites = (result.observations | result.foreign).items()
        return {name: v for name, (_, v) in sites if name in result.observations or jnp.size(v)}

    return {name: np.asarray(value) for name, value in _fixed(problem, observed).items()}


def modelled_confounds(problem: Problem) -> NDArray:
    """Confounds of all Gaussian sites as the likelihood has them, (times, confounds).

    Blocks one after the other, in units in which the prior precision of coefficients is the usual
    one.
    """

    def confounds(result: Evaluation) -> list[jax.Array]:
        observations = [fn for fn, _ in result.observations.values()]
        return [fn.confounds.basis * fn.confounds.scale * _width(fn) for fn in observations]

    return block_diag(np.zeros((0, 0)), *map(np.asarray, _fixed(problem, confounds)))


def degrees_of_freedom(problem: Problem) -> float | None:
    """Mean degrees of freedom of the data, where the likelihood is Wishart's; None elsewhere."""

    def of_sites(result: Evaluation) -> list[jax.Array]:
        fns = [fn for fn, _ in result.observations.values()]
        return [fn.degrees_of_freedom for fn in fns if isinstance(fn, WishartObservation)]

    known = problem.constants.get("degrees_of_freedom")
    return None if known is None or not _fixed(problem, of_sites) else float(np.mean(known))


def _fixed(problem: Problem, of: Callable[[Evaluation], Any]) -> Any:
    """What of an evaluation depends on no parameter; nothing else is computed."""
    program, sites = problem.source.bind(problem.prepared), problem.sites
    return Outputs(lambda: (of(evaluate(program, sites, jnp.zeros(sites.size))),)).select(0)()


def _width(fn: GaussianObservation) -> float:
    return float(np.sqrt(CONFOUND_PRECISION / fn.confound_precision))


def _prior_draw(program: Program, sites: Layout, keys: jax.Array) -> jax.Array:
    """One flat, unconstrained draw from the prior; one key a site, since splitting compiles."""
    places = count()
    values = unconstrained_values(program, lambda site: site["fn"].sample(keys[next(places)]))
    return jnp.concatenate([jnp.ravel(values[site.name]) for site in sites.sites])


@compiled_once
def _prior(source: Any, sites: Layout, prepared: Any, keys: jax.Array) -> jax.Array:
    program = source.bind(prepared)

    def draw(data: jax.Array) -> tuple[jax.Array]:
        return (_prior_draw(program, sites, jax.random.wrap_key_data(data, impl="rbg")),)

    return map_rows(Outputs(draw, keys[0]).select(0), keys)


def prior_sample(problem: Problem, n_draws: int, seed: int) -> NDArray:
    """Flat, unconstrained draws from the prior, shape (draws, size)."""
    return prior_points(problem.source, problem.sites, problem.prepared, n_draws, seed)


def prior_points(source: Any, sites: Layout, prepared: Any, n_draws: int, seed: int) -> NDArray:
    """`prior_sample` of what a problem holds."""
    normal = normal_prior(source, sites, prepared)
    if normal is not None:
        mean, sd = normal
        # Those of other things that are drawn by the same seed are other numbers.
        random = np.random.default_rng([seed, *b"prior"])
        return mean + sd * random.standard_normal((n_draws, len(mean)))
    keys = _keys(seed, n_draws, len(sites.sites))
    return in_parts(partial(_prior, source, sites, prepared), PRIOR, keys)
