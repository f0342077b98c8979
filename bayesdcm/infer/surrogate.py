"""Predictions as quadratic polynomials of the parameters, from which samplers propose.

Where a posterior is nearly normal, predictions are nearly quadratic over it: a regression on some
hundred of them takes the place of an integrator, at a hundredth of the price of its gradient. The
density that follows is not the posterior, but close. A transition that leaves the former invariant
and is reversible proposes where to go, and is accepted or not by the exact density, evaluated once
and without a gradient, so that draws are those of the posterior [1]_.

Where noise depends on predictions, as that of cross-spectra does, and parameters are few, the log
likelihood itself has a polynomial.

Priors, noise and confounds are not approximated: in directions that data say little of, the two
densities agree wherever one goes.

References
----------
.. [1] Christen and Fox (2005), J Comput Graph Stat 14:795.
       https://doi.org/10.1198/106186005X76983
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations_with_replacement
from math import comb, prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray
from numpyro.infer.hmc import HMCState
from scipy.linalg import solve_triangular

from bayesdcm._configuration import COMPILED_ONCE
from bayesdcm.infer.density import Layout, Outputs, Program, evaluate, log_joint
from bayesdcm.infer.dependence import depends
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.recurrence import about
from bayesdcm.infer.threads import map_rows
from bayesdcm.infer.traced_programs import keep_class, traced_once

# Of polynomials; with more, finding their coefficients takes as long as sampling.
MOST_TERMS = 500
# Parameters up to which a polynomial of the log likelihood itself is near it.
MOST_PARAMETERS = 10
# Of numbers that a model makes for one density: of smaller ones gradients of 4 x 750 draws cost
# less than compiling the surrogate; of a third as many, less than its gradients.
LEAST_OPERATIONS = 100_000
# Predictions that are regressed on, for each coefficient, and at least.
POINTS_PER_TERM, FEWEST_POINTS = 3, 96
TOGETHER = 16
# Of points, those at which the model may diverge.
MOST_LOST = 0.1
# Those along which predictions are curved most have cubic terms.
CUBIC_DIRECTIONS = 5
# By so much more than the usual distance of a standard normal polynomials serve.
REACH = 2.0
TINY = 1e-300


class PoorSurrogate(Exception):
    """A surrogate whose proposals are refused too often; `acceptance` is the rate."""

    def __init__(self, acceptance: float) -> None:
        super().__init__(f"acceptance {acceptance:.2f}")
        self.acceptance = acceptance


class Weights(NamedTuple):
    """Polynomials for predictions.

    Attributes
    ----------
    directions : (parameters, k)
        Orthonormal ones, along which there are cubic terms, too.
    coefficients : tuple of (terms, data) or (terms, 1)
        For each observed site: of predictions, or of the log likelihood.
    """

    directions: jax.Array
    coefficients: tuple[jax.Array, ...]


keep_class(Weights)


def n_terms(size: int) -> int:
    """Number of terms of a quadratic polynomial of so many variables."""
    return (size + 1) * (size + 2) // 2


def polynomial(z: jax.Array, directions: jax.Array) -> jax.Array:
    """Terms of a polynomial of z (n,): quadratic, and cubic along directions (n, k).

    Further out than nearly all draws of a standard normal, they go on straight.

    >>> polynomial(jnp.array([1.0, 2.0]), jnp.array([[1.0], [0.0]])).round(6).tolist()
    [1.0, 1.0, 2.0, 1.0, 2.0, 4.0, 1.0]
    """

    def terms(z: jax.Array) -> jax.Array:
        first, second = np.triu_indices(len(z))
        along = z @ directions
        triples = list(combinations_with_replacement(range(len(along)), 3))
        cubic = along[np.array(triples, int).reshape(-1, 3)].prod(1)
        return jnp.concatenate([jnp.ones(1), z, z[first] * z[second], cubic])

    # Polynomials would be walls where nothing was regressed on, into which trajectories run.
    reach = np.sqrt(len(z)) + REACH
    within = z * reach / jnp.sqrt(jnp.maximum(z @ z, reach**2))
    values, slopes = jax.jvp(terms, (within,), (z - within,))
    return values + slopes


_polynomials = jax.jit(jax.vmap(polynomial, (0, None)), compiler_options=COMPILED_ONCE)


def has_surrogate(program: Program, sites: Layout, point: ArrayLike) -> bool:
    """Whether data are Gaussian about predictions without log-precisions, which take some time.

    Or, where there are few parameters, likelihoods depend on no log-precision.
    """
    n = sites.n_parameters
    if sites.foreign or n_terms(n) > MOST_TERMS or not all(s.centred for s in sites.sites):
        return False

    def predictions(precision: jax.Array, others: jax.Array) -> list:
        # One vector would tie predictions to the noise.
        values = sites.of_roles("parameter", "observer").unflatten(others)
        values |= sites.of_roles("precision").unflatten(precision)
        observations = evaluate(program, sites, values).observations
        fixed.append(all(fn.fixed_precision for fn, _ in observations.values()))
        return _approximated(observations)

    fixed: list[bool] = []
    if depends(predictions, (point[n:], point[:n])) or not (all(fixed) or n <= MOST_PARAMETERS):
        return False
    traced = jax.make_jaxpr(partial(log_joint, program, sites))(point)
    return _n_operations(traced.jaxpr) >= LEAST_OPERATIONS


def _n_operations(jaxpr: Any) -> int:
    """How many numbers a traced function makes; loops without a length count once."""
    total = 0
    for equation in jaxpr.eqns:
        parts = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda node: hasattr(node, "eqns")
        )
        bodies = [getattr(part, "jaxpr", part) for part in parts]
        inner = sum(_n_operations(body) for body in bodies if hasattr(body, "eqns"))
        made = sum(prod(variable.aval.shape) for variable in equation.outvars)
        total += inner * equation.params.get("length", 1) if inner else made
    return total


class Surrogate:
    """Polynomials for the predictions of a problem, regressed on those at chosen points.

    Polynomials are of the first `n_parameters` coordinates in which a Gaussian approximation is a
    standard normal.

    Parameters
    ----------
    source, sites, prepared
        Of a problem that `has_surrogate`.
    centre, factor : ndarray, shapes (size,) and (size, size)
        Of the Gaussian approximation, and a lower factor of its covariance; first points are draws
        from it.
    seed : int
        Of points.

    Attributes
    ----------
    weights : Weights or None
        None where too many predictions are not finite.
    """

    def __init__(
        self,
        source: Any,
        sites: Layout,
        prepared: Any,
        centre: NDArray,
        factor: NDArray,
        seed: int,
    ) -> None:
        self._static, self._given = (source, sites), (prepared, centre, factor)
        self._random = np.random.default_rng(seed)
        self._n = sites.n_parameters
        self._points: list[NDArray] = []
        self._predicted: list[list[NDArray]] = []
        cubic = comb(min(self._n, CUBIC_DIRECTIONS) + 2, 3)
        count = max(FEWEST_POINTS, POINTS_PER_TERM * (n_terms(self._n) + cubic))
        self._count = -(-count // TOGETHER) * TOGETHER
        self.weights: Weights | None = None
        self.learn(centre + self._random.normal(size=(self._count, len(centre))) @ factor.T)

    def learn(self, points: NDArray) -> None:
        """Regress on predictions at some of these flat points, too, (points, size)."""
        _, centre, factor = self._given
        # So many each time: one compiled program.
        points = self._random.choice(points, self._count, replace=len(points) < self._count)
        z = solve_triangular(factor, (points - centre).T, lower=True).T
        predicted = _predictions(self._static, *self._given, z)
        flat = [np.asarray(prediction).reshape(len(z), -1) for prediction in predicted]
        finite = np.all([np.isfinite(prediction).all(1) for prediction in flat], axis=0)
        self.weights = None
        if finite.mean() >= 1 - MOST_LOST:
            if any(prediction.shape[1:] == (1,) for prediction in predicted):
                # A likelihood far out, where polynomials are straight, would outweigh all others.
                finite &= np.linalg.norm(z[:, : self._n], axis=1) < np.sqrt(self._n) + REACH
            self._points.append(z[finite, : self._n])
            self._predicted.append([prediction[finite] for prediction in flat])
            directions = _most_curved(self._regression(np.zeros((self._n, 0))), self._n)
            self.weights = Weights(jnp.asarray(directions), self._regression(directions))

    def _regression(self, directions: NDArray) -> tuple[jax.Array, ...]:
        terms = _polynomials(np.concatenate(self._points), directions)
        basis, triangle = np.linalg.qr(np.asarray(terms))
        predicted = (np.concatenate(each) for each in zip(*self._predicted, strict=True))
        return tuple(jnp.asarray(solve_triangular(triangle, basis.T @ each)) for each in predicted)


def find_surrogate(problem: Problem, centre: NDArray, covariance: NDArray, seed: int) -> Any:
    """A `Surrogate` about a Gaussian approximation, (size,) and (size, size), if there is one.

    The model's own, where it has a method of this name.
    """
    own = getattr(getattr(problem.source, "model", None), "find_surrogate", None)
    if own is not None:
        return own(problem, centre, covariance, seed)
    source, sites, prepared = problem.source, problem.sites, problem.prepared
    if not has_surrogate(source.bind(prepared), sites, centre):
        return None
    factor = np.linalg.cholesky(covariance)
    surrogate = Surrogate(source, sites, prepared, centre, factor, seed)
    return surrogate if surrogate.weights is not None else None


def _most_curved(coefficients: tuple[jax.Array, ...], n: int) -> NDArray:
    """Directions (n, k) along which predictions are curved most."""
    place = np.zeros((n, n), int)
    place[np.triu_indices(n)] = np.arange(n * (n + 1) // 2)
    place = np.maximum(place, place.T)
    curved = np.zeros((n, n))
    for each in map(np.asarray, coefficients):
        slopes, quadratic = each[1 : n + 1], each[n + 1 :]
        for i in range(n):
            rows = quadratic[place[i]] * (1 + (np.arange(n) == i))[:, None]
            curved += rows @ rows.T / max((slopes**2).sum(), TINY)
    return np.linalg.eigh(curved)[1][:, ::-1][:, :CUBIC_DIRECTIONS]


def _approximated(observations: Mapping[str, Any]) -> list[jax.Array]:
    """Of each observed site: predictions, or the log likelihood where noise depends on them."""
    return [
        fn.prediction if fn.fixed_precision else fn.log_prob(value)[None]
        for fn, value in observations.values()
    ]


@traced_once(1)
def _predictions(
    static: tuple, prepared: Any, centre: jax.Array, factor: jax.Array, z: jax.Array
) -> list:
    source, sites = static
    program = source.bind(prepared)

    def at(z: jax.Array) -> list:
        return _approximated(evaluate(program, sites, centre + factor @ z).observations)

    return map_rows(at, z, at_most=TOGETHER)


def surrogate_densities(
    program: Program, sites: Layout, point: jax.Array, weights: Weights
) -> Callable:
    """Log prior and likelihood with polynomials for predictions, of a flat vector and coordinates.

    `point` is any flat vector, `weights` are those of a `Surrogate`.
    """

    # Cut from the program before derivatives are taken: the integrator's would be traced, too.
    def without_predictions(vector: jax.Array) -> tuple:
        result = evaluate(program, sites, vector)
        observed = [
            (about(fn, jnp.zeros(fn.event_shape)), value) if fn.fixed_precision else None
            for fn, value in result.observations.values()
        ]
        return result.log_prior + result.log_hyperprior, observed

    outputs = Outputs(without_predictions, point)
    prior, observed = outputs.select(0), outputs.select(1)

    def approximate(vector: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        likelihood = jnp.zeros(())
        terms = polynomial(z[: sites.n_parameters], weights.directions)
        for one, each in zip(observed(vector), weights.coefficients, strict=True):
            approximation = terms @ each
            if one is None:
                likelihood += approximation[0]
            else:
                fn, value = one
                likelihood += about(fn, approximation.reshape(fn.event_shape)).log_prob(value)
        return prior(vector), likelihood

    return approximate


def surrogate_log_joint(
    source: Any, sites: Layout, prepared: Any, point: jax.Array, weights: Any
) -> Callable:
    """The log joint density with polynomials for predictions, of a flat vector and coordinates.

    `point` is any flat vector, `weights` are those of what `find_surrogate` gave. The model's own,
    where it has a method of this name.
    """
    own = getattr(getattr(source, "model", None), "surrogate_log_joint", None)
    if own is not None:
        return own(sites, prepared, weights)
    densities = surrogate_densities(source.bind(prepared), sites, point, weights)
    return lambda vector, z: sum(densities(vector, z))


def correct(
    before: HMCState, after: HMCState, exact: jax.Array, there: jax.Array, anyway: jax.Array
) -> tuple[HMCState, jax.Array, jax.Array]:
    """Accept or refuse a transition that a surrogate proposes.

    Parameters
    ----------
    before, after : HMCState
        Of a sampler of the surrogate; its transitions must be reversible, which those of NUTS are.
    exact, there : jax.Array, shape ()
        The log density itself at both.
    anyway : jax.Array, shape ()
        Whether to accept all finite densities, as while one looks for where to begin.

    Returns
    -------
    state : HMCState
        Where the chain is; refused, with what the sampler has learnt nonetheless.
    exact : jax.Array, shape ()
        The log density there.
    acceptance : jax.Array, shape ()
        Probability with which the correction accepts.
    """
    ratio = there - exact + after.potential_energy - before.potential_energy
    acceptance = jnp.where(jnp.isfinite(there), jnp.exp(jnp.minimum(ratio, 0.0)), 0.0)
    uniform = jax.random.uniform(jax.random.fold_in(after.rng_key, 2))
    accepted = (uniform < acceptance) | (anyway & jnp.isfinite(there))
    place = {
        name: jnp.where(accepted, getattr(after, name), getattr(before, name))
        for name in ("z", "z_grad", "potential_energy", "energy")
    }
    state = after._replace(**place, diverging=after.diverging | ~jnp.isfinite(there))
    return state, jnp.where(accepted, there, exact), acceptance
