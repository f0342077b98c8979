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
from scipy.special import logsumexp

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.collapsed import Split, collapsible, marginal
from bayesdcm.infer.density import Layout, Outputs, evaluate, log_joint
from bayesdcm.infer.modelled_data import ModelledData
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.threads import map_rows, single_threaded_linear_algebra
from bayesdcm.infer.traced_programs import traced_once

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
    other, no normal density is near the posterior. `mean` (size,) is a flat point of large
    posterior density; coordinates that are left stand at its `places`.
    """

    def __init__(self, problem: Problem, mean: NDArray) -> None:
        program = problem.source.bind(problem.prepared)
        self.problem = problem
        self.collapsed = collapsible(program, problem.sites, jnp.asarray(mean))
        parts = Split(problem.sites, self.collapsed)
        self.places = parts.others
        self.base = np.asarray(mean, float)[parts.collapsed]

    @single_threaded_linear_algebra()
    def log_density(self, points: NDArray) -> NDArray[np.float64]:
        """Log densities (points,), nats, at coordinates that are left, (points, len(places))."""
        return _of_problem(self.problem, points, self.collapsed, self.base)


class Proposal:
    """A normal distribution about `mean` with the covariance of a triangular `factor`.

    With `warp`, the target is mirrored about the mean where they are compared.
    """

    def __init__(self, target: Target, mean: NDArray, factor: NDArray, warp: bool = False) -> None:
        self.target, self.mean, self.factor, self.warp = target, mean, factor, warp

    def draw(self, count: int, random: np.random.Generator) -> NDArray:
        """Draws (count, size)."""
        return self.mean + random.normal(size=(count, len(self.mean))) @ self.factor.T

    def log_density(self, points: NDArray) -> NDArray:
        """Log densities (points,) at points (points, size)."""
        white = np.linalg.solve(self.factor, (points - self.mean).T)
        log_scale = np.log(np.diagonal(self.factor)).sum() + len(self.mean) / 2 * np.log(2 * np.pi)
        return -0.5 * (white**2).sum(0) - log_scale

    def log_ratio(self, points: NDArray) -> NDArray:
        """Target over proposal, in logs, at points (points, size)."""
        density = self.target.log_density(points)
        if self.warp:
            mirrored = self.target.log_density(2 * self.mean - points)
            density = logsumexp([density, mirrored], axis=0) - np.log(2)
        return density - self.log_density(points)


def log_target(
    source: Any, sites: Layout, collapsed: tuple[str, ...], prepared: Any, base: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """The density of a `Target`, to be traced: from coordinates that are left to a log density.

    Collapsed coordinates are expanded about `base`.
    """
    program = source.bind(prepared)
    if not collapsed:
        return partial(log_joint, program, sites)
    parts = Split(sites, collapsed)
    return lambda point: marginal(program, parts, base, point).log_density


@traced_once(3)
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


@traced_once(2)
def _log_priors(source: Any, sites: Layout, prepared: Any, points: jax.Array) -> jax.Array:
    program = source.bind(prepared)

    def log_prior(vector: jax.Array) -> tuple[jax.Array]:
        result = evaluate(program, sites, vector)
        return (result.log_prior + result.log_hyperprior,)

    # The likelihood is not computed.
    return map_rows(Outputs(log_prior, points[0]).select(0), points, at_most=BATCH)


def _of_problem(
    problem: Problem, points: NDArray, collapsed: tuple[str, ...] = (), base: Any = ()
) -> NDArray[np.float64]:
    static = problem.source, problem.sites, collapsed
    return _in_parts(
        partial(_log_densities, *static, problem.prepared, jnp.asarray(base, float)), points
    )


def _in_parts(function: Callable, points: NDArray) -> NDArray[np.float64]:
    count = len(points)
    padded = np.concatenate([points, np.repeat(points[-1:], -count % PART, axis=0)])
    parts = [function(jnp.asarray(part)) for part in padded.reshape(-1, PART, points.shape[1])]
    values = np.concatenate([np.asarray(part) for part in parts])[:count]
    return np.where(np.isnan(values), -np.inf, values)


@single_threaded_linear_algebra()
def log_joints(problem: Problem, points: NDArray) -> NDArray[np.float64]:
    """Log joint densities (points,), nats, of data and flat points (points, size); -inf for NaN."""
    return _of_problem(problem, points)


@single_threaded_linear_algebra()
def log_priors(problem: Problem, points: NDArray) -> NDArray[np.float64]:
    """Log prior densities (points,), nats, of flat points (points, size)."""
    return _in_parts(partial(_log_priors, problem.source, problem.sites, problem.prepared), points)


def large_error(error: float, remedy: str) -> list[str]:
    """A sentence where a standard error is too large, and what to do about it."""
    if error <= LARGEST_ERROR:
        return []
    return [f"The standard error is {error:.2f} nat (should be at most {LARGEST_ERROR}). {remedy}"]


def effective_draws(values: NDArray) -> float:
    """How many independent draws the mean of values (chains, draws) is worth, at most all."""
    if np.ptp(values) <= 1e-12 * max(np.abs(values).max(), 1e-300):
        return float(values.size)
    return float(min(arviz_adapter.effective_sample_size(values), values.size))


def relative_variance(values: NDArray) -> float:
    """Squared standard error of the mean of positive values (chains, draws), relative to that mean.

    To first order, the variance of the logarithm of the mean.
    """
    mean = values.mean()
    return float(values.var(ddof=1) / mean**2 / effective_draws(values))
