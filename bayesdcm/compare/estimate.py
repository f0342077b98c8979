"""What estimates of a log-evidence share: the result, densities of points, sample sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.collapsed import Split, collapsible, marginal
from bayesdcm.infer.density import Layout, Outputs, evaluate, log_joint
from bayesdcm.infer.modelled_data import ModelledData
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.threads import map_rows, single_threaded_linear_algebra

# Points are evaluated in parts of one size, so that any number of them is compiled once.
BATCH, PART = 32, 256
# When an estimate is not to be trusted.
LARGEST_ERROR, FEWEST_DRAWS = 0.2, 100


@dataclass(frozen=True)
class Evidence:
    """A log-evidence with its standard error; serves as a number, too.

    Parameters
    ----------
    log_evidence : float
        Nats.
    standard_error : float
        Monte-Carlo standard error, nats; NaN for bounds, which have an unknown gap instead.
    method : str
        How it was estimated: ``"free_energy"``, ``"elbo"``, ``"bridge"``, ``"importance"`` or
        ``"thermodynamic"``.
    details : mapping
        Numbers behind it, which differ between methods.
    problems : tuple of str
        Why the number is not to be trusted, a sentence each; empty if nothing was found.
    modelled_data : ModelledData, optional
        What it is the evidence of, as `log_evidence` notes for `compare` to check.

    Examples
    --------
    >>> float(Evidence(-3.5, 0.01, "bridge"))
    -3.5
    """

    log_evidence: float
    standard_error: float
    method: str
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = ()
    modelled_data: ModelledData | None = field(default=None, repr=False, compare=False)

    def __float__(self) -> float:
        return float(self.log_evidence)

    @property
    def ok(self) -> bool:
        """Whether nothing was found that speaks against the number."""
        return not self.problems


class Target:
    """The density that is integrated: joint in data and parameters, some of them left out.

    Observer sites that are normal given all others are integrated out in closed form, as NUTS
    does: along the curved ridge on which a gain and the amplitude of responses make up for each
    other, no normal density is near the posterior.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    mean : ndarray
        Flat point of large posterior density, shape (size,).
    """

    def __init__(self, problem: Problem, mean: NDArray) -> None:
        program = problem.source.bind(problem.prepared)
        self.problem = problem
        self.collapsed = collapsible(program, problem.sites, jnp.asarray(mean))
        parts = Split(problem.sites, self.collapsed)
        self.places = parts.others
        self.base = np.asarray(mean, float)[parts.collapsed]

    @property
    def static(self) -> tuple:
        """What compiled code depends on: source, sites, names of what is integrated out."""
        return self.problem.source, self.problem.sites, self.collapsed

    @single_threaded_linear_algebra()
    def log_density(self, points: NDArray) -> NDArray[np.float64]:
        """Log densities at points, nats.

        Parameters
        ----------
        points : ndarray
            Coordinates that are left, shape (points, len(places)).

        Returns
        -------
        ndarray
            Shape (points,); -inf where a density is not a number.
        """
        prepared, base = self.problem.prepared, jnp.asarray(self.base)

        def part(points: jax.Array) -> jax.Array:
            return _log_densities(*self.static, prepared, base, points)

        return _in_parts(part, points)


def log_target(
    source: Any, sites: Layout, collapsed: tuple[str, ...], prepared: Any, base: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """The density of a `Target`, to be traced.

    Parameters
    ----------
    source : ModelSource or ProgramSource
        Of the program.
    sites : Layout
        Its sites.
    collapsed : tuple of str
        Sites that are integrated out.
    prepared : pytree
        Data.
    base : jax.Array
        Collapsed coordinates to expand about.

    Returns
    -------
    callable
        From a point (coordinates that are left) to a log density.
    """
    program = source.bind(prepared)
    if not collapsed:
        return partial(log_joint, program, sites)
    parts = Split(sites, collapsed)
    return lambda point: marginal(program, parts, base, point).log_density


@partial(jax.jit, static_argnums=(0, 1, 2))
def _log_densities(
    source: Any,
    sites: Layout,
    collapsed: tuple[str, ...],
    prepared: Any,
    base: jax.Array,
    points: jax.Array,
) -> jax.Array:
    log_density = log_target(source, sites, collapsed, prepared, base)
    return map_rows(log_density, points, at_most=BATCH)


@partial(jax.jit, static_argnums=(0, 1))
def _log_priors(source: Any, sites: Layout, prepared: Any, points: jax.Array) -> jax.Array:
    program = source.bind(prepared)

    def log_prior(vector: jax.Array) -> tuple[jax.Array]:
        result = evaluate(program, sites, vector)
        return (result.log_prior + result.log_hyperprior,)

    # The likelihood is not computed.
    return map_rows(Outputs(log_prior, points[0]).select(0), points, at_most=BATCH)


def _in_parts(function: Callable, points: NDArray) -> NDArray[np.float64]:
    count = len(points)
    padded = np.concatenate([points, np.repeat(points[-1:], -count % PART, axis=0)])
    parts = [function(jnp.asarray(part)) for part in padded.reshape(-1, PART, points.shape[1])]
    values = np.concatenate([np.asarray(part) for part in parts])[:count]
    return np.where(np.isnan(values), -np.inf, values)


@single_threaded_linear_algebra()
def log_joints(problem: Problem, points: NDArray) -> NDArray[np.float64]:
    """Log joint densities of data and flat points.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    points : ndarray
        Flat, unconstrained, shape (points, size).

    Returns
    -------
    ndarray
        Nats, shape (points,); -inf where a density is not a number.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist
    >>> from bayesdcm.infer.problem import make_problem
    >>> def program(data):
    ...     x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("y", dist.Normal(x, 1.0), obs=data)
    >>> log_joints(make_problem(program, 0.0), np.zeros((1, 1))).round(4).tolist()
    [-1.8379]
    """
    none = jnp.zeros(0)
    return _in_parts(
        lambda part: _log_densities(
            problem.source, problem.sites, (), problem.prepared, none, part
        ),
        points,
    )


@single_threaded_linear_algebra()
def log_priors(problem: Problem, points: NDArray) -> NDArray[np.float64]:
    """Log prior densities of flat points, of unconstrained coordinates.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    points : ndarray
        Flat, unconstrained, shape (points, size).

    Returns
    -------
    ndarray
        Nats, shape (points,).
    """
    return _in_parts(
        lambda part: _log_priors(problem.source, problem.sites, problem.prepared, part), points
    )


def large_error(error: float, remedy: str) -> list[str]:
    """A sentence where a standard error is too large, and what to do about it."""
    if error <= LARGEST_ERROR:
        return []
    return [f"The standard error is {error:.2f} nat (should be at most {LARGEST_ERROR}). {remedy}"]


def effective_draws(values: NDArray) -> float:
    """How many independent draws the mean of a chain's values is worth, at most as many as it has.

    Parameters
    ----------
    values : ndarray
        Shape (chains, draws).

    Returns
    -------
    float
        The effective sample size.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(2, 500))
    >>> effective_draws(noise) > 700 > effective_draws(np.cumsum(noise, axis=1))
    True
    """
    if np.ptp(values) <= 1e-12 * max(np.abs(values).max(), 1e-300):
        return float(values.size)
    return float(min(arviz_adapter.effective_sample_size(values), values.size))


def relative_variance(values: NDArray) -> float:
    """Squared standard error of the mean of positive values of chains, relative to that mean.

    Parameters
    ----------
    values : ndarray
        Shape (chains, draws).

    Returns
    -------
    float
        Variance of the logarithm of the mean, to first order.

    Examples
    --------
    >>> values = np.random.default_rng(0).uniform(size=(4, 1000))
    >>> 0.3 < 4000 * relative_variance(values) < 0.4  # a third for independent draws
    True
    """
    mean = values.mean()
    return float(values.var(ddof=1) / mean**2 / effective_draws(values))
