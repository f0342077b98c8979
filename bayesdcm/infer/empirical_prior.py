"""A problem with another, joint normal prior: that of a group, or of an earlier session.

The program itself stays as it is. A handler replaces the distribution of each normal site, in the
order in which the program samples them, by that of a joint normal given the sites before it, so
that every method that reads the program reads the new prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpy.typing import ArrayLike, NDArray
from numpyro.distributions import constraints

from bayesdcm.infer.density import Program, traced
from bayesdcm.infer.problem import Problem

# Correlation below which a covariance between sites is rounding.
INDEPENDENT = 1e-9


class JointNormal(dist.Distribution):
    """A multivariate normal over the entries of an array of any shape, which is that of `loc`.

    `scale_tril` is the Cholesky factor of the covariance of its entries in C order, (size, size).
    """

    arg_constraints: dict[str, Any] = {}
    reparametrized_params = ("loc", "scale_tril")
    pytree_data_fields = ("loc", "scale_tril", "_support")

    def __init__(self, loc: jax.Array, scale_tril: jax.Array) -> None:
        self.loc, self.scale_tril = loc, scale_tril
        self._support = constraints.independent(constraints.real, jnp.ndim(loc))
        super().__init__((), jnp.shape(loc), validate_args=False)

    @property
    def support(self) -> Any:
        """All real arrays."""
        return self._support

    @property
    def mean(self) -> jax.Array:
        """The mean, of the shape of the array."""
        return self.loc

    @property
    def variance(self) -> jax.Array:
        """Variances of the entries, of the shape of the array."""
        return (self.scale_tril**2).sum(-1).reshape(self.loc.shape)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws, of shape ``sample_shape`` followed by that of the array."""
        noise = jax.random.normal(key, (*sample_shape, len(self.scale_tril)))
        change = noise @ self.scale_tril.T
        return self.loc + change.reshape(*sample_shape, *self.loc.shape)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density (...) of values (..., *shape of the array)."""
        size = len(self.scale_tril)
        leading = jnp.shape(value)[: jnp.ndim(value) - jnp.ndim(self.loc)]
        white = (value - self.loc).reshape(-1, size).T
        white = solve_triangular(self.scale_tril, white, lower=True)
        squares = (white**2).sum(0).reshape(leading)
        scale = jnp.log(jnp.diagonal(self.scale_tril)).sum()
        return -squares / 2 - scale - size * np.log(2 * np.pi) / 2


class _replaced_priors(numpyro.primitives.Messenger):
    """Handler that gives sites a joint normal prior; `order` in that of the program."""

    def __init__(
        self, program: Program, order: Sequence[tuple[str, int]], mean: jax.Array, factor: jax.Array
    ) -> None:
        self.places: dict[str, slice] = {}
        start = 0
        for name, size in order:
            self.places[name] = slice(start, start + size)
            start += size
        self.mean, self.factor = mean, factor
        self.white: dict[str, jax.Array] = {}
        super().__init__(program)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Replace the distribution of a site."""
        place = self.places.get(msg["name"])
        if msg["type"] != "sample" or place is None:
            return
        earlier = jnp.concatenate([*self.white.values(), jnp.zeros(0)])
        mean = self.mean[place] + self.factor[place, : len(earlier)] @ earlier
        shape = jnp.shape(msg["fn"].mean)
        msg["fn"] = JointNormal(mean.reshape(shape), self.factor[place, place])

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Keep the value of a site, on which later ones are conditional."""
        place = self.places.get(msg["name"])
        if msg["type"] != "sample" or place is None:
            return
        shift = jnp.ravel(msg["value"] - msg["fn"].mean)
        self.white[msg["name"]] = solve_triangular(self.factor[place, place], shift, lower=True)


class JointPrior(NamedTuple):
    """A joint normal prior that replaces a program's own."""

    order: tuple[tuple[str, int], ...]  # Names and sizes of its sites, as the program samples them.
    mean: NDArray  # Of their entries, (size,).
    factor: NDArray  # Cholesky factor of their covariance, (size, size).


@dataclass(frozen=True)
class PriorSource:
    """A source whose sites, named with their sizes, have the joint prior that `prepared` holds."""

    source: Any
    order: tuple[tuple[str, int], ...]

    @property
    def model(self) -> Any:
        """The model, where the source is one and leaves starting points to the methods."""
        model = getattr(self.source, "model", None)
        return None if hasattr(model, "gaussian_start") else model

    def bind(self, prepared: Any) -> Program:
        """The program on what the source takes, mean and Cholesky factor of the prior."""
        inner, mean, factor = prepared
        program = self.source.bind(inner)

        def replaced() -> Any:
            # A handler of its own for each run: it holds what was sampled so far.
            return _replaced_priors(program, self.order, mean, factor)()

        return replaced


def with_prior(
    problem: Problem, mean: ArrayLike, covariance: ArrayLike, sites: Sequence[str] | None = None
) -> Problem:
    """The same problem with a joint normal prior on some of its sites, by default all normal ones.

    Mean and covariance are over the flat vector, (size,) and (size, size); entries of other sites
    are ignored. Where the prior has been replaced before, it is replaced again. Problems that
    differ in data and prior alone share their compiled programs.

    A ValueError if shapes disagree, numbers are not finite, a site is unknown or not normal, the
    covariance is not positive definite, or it couples a site with one that keeps its prior or a
    log-precision of the noise with a parameter.
    """
    if isinstance(problem.source, PriorSource):
        problem = replace(problem, source=problem.source.source, prepared=problem.prepared[0])
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    size = problem.sites.size
    if mean.shape != (size,) or covariance.shape != (size, size):
        raise ValueError(
            f"mean and covariance must have shapes ({size},) and ({size}, {size}), got "
            f"{mean.shape} and {covariance.shape}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("mean and covariance must be finite, got NaN or infinity")
    places = problem.sites.places
    chosen = _chosen(problem, sites)
    _check_coupling(problem, covariance, places, chosen)
    order = [name for name in program_order(problem.source, problem.prepared) if name in chosen]
    index = np.concatenate([places[name] for name in order])
    try:
        factor = np.linalg.cholesky(covariance[np.ix_(index, index)])
    except np.linalg.LinAlgError as error:
        raise ValueError(
            "covariance must be positive definite over the sites that get the prior"
        ) from error
    sizes = tuple((name, len(places[name])) for name in order)
    return with_joint_prior(problem, JointPrior(sizes, mean[index], factor))


def with_joint_prior(problem: Problem, prior: JointPrior) -> Problem:
    """A problem with its own prior, with one that `with_prior` has made in its place."""
    source = PriorSource(problem.source, prior.order)
    prepared = (problem.prepared, prior.mean, prior.factor)
    return replace(problem, source=source, prepared=prepared, prior=prior)


def _chosen(problem: Problem, sites: Sequence[str] | None) -> set[str]:
    known = {site.name: site.gaussian for site in problem.sites.sites}
    if sites is None:
        return {name for name, normal in known.items() if normal}
    if isinstance(sites, str):
        sites = [sites]
    for name in sites:
        if name not in known:
            raise ValueError(
                f"sites names {name!r}, which the program does not sample; expected some of "
                f"{', '.join(map(repr, known))}"
            )
        if not known[name]:
            raise ValueError(f"site {name!r} is not normal, and cannot get a normal prior")
    return set(sites)


def _check_coupling(
    problem: Problem, covariance: NDArray, places: dict[str, NDArray], chosen: set[str]
) -> None:
    deviation = np.sqrt(np.abs(np.diagonal(covariance)))
    coupled = np.abs(covariance) > INDEPENDENT * np.outer(deviation, deviation)
    precise = {site.name for site in problem.sites.sites if site.precision}
    for name in chosen:
        for other, index in places.items():
            if other == name or not coupled[np.ix_(places[name], index)].any():
                continue
            if other not in chosen:
                raise ValueError(
                    f"covariance couples {name!r} with {other!r}, which keeps its own prior; name "
                    "both in sites, or neither"
                )
            if (name in precise) != (other in precise):
                raise ValueError(
                    f"covariance couples {name!r} with {other!r}: log-precisions of the noise "
                    "must be independent of the parameters"
                )


def program_order(source: Any, prepared: Any) -> list[str]:
    """Names of all sites in the order in which a program samples them."""
    return list(traced(source.bind(prepared)))
