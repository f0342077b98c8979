"""Observer sites that the other parameters leave normal: integrated out, and drawn afterwards.

Where predictions are linear in some observer parameters g (gains, dipole moments) and their prior
is normal, the posterior of g given all other parameters is normal, and the log joint density is
quadratic in g: its value, gradient and curvature at one point give the density of the others, the
mean of g and its covariance. A sampler that moves in the others only never sees the curved ridge
along which a gain and the amplitude of the states make up for each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout, Outputs, Program, evaluate, log_joint
from bayesdcm.infer.dependence import depends


@dataclass(frozen=True, eq=False)
class Split:
    """A flat vector in two parts: the coordinates of the named sites, and all others."""

    sites: Layout
    names: tuple[str, ...]

    @property
    def collapsed(self) -> NDArray:
        """Places of collapsed coordinates in the flat vector, increasing."""
        return self._places(True)

    @property
    def others(self) -> NDArray:
        """Places of all other coordinates, increasing."""
        return self._places(False)

    def _places(self, chosen: bool) -> NDArray:
        sizes = [site.size for site in self.sites.sites]
        named = [site.name in self.names for site in self.sites.sites]
        return np.flatnonzero(np.repeat(named, sizes) == chosen)

    def join(self, collapsed: jax.Array, others: jax.Array) -> jax.Array:
        """The flat vector of which these are the parts."""
        vector = jnp.zeros(self.sites.size)
        return vector.at[self.others].set(others).at[self.collapsed].set(collapsed)

    def unflatten(self, collapsed: jax.Array, others: jax.Array) -> dict[str, jax.Array]:
        """Arrays by site; unlike those of the joined vector they depend on one part only."""
        values: dict[str, jax.Array] = {}
        for chosen, vector in ((True, collapsed), (False, others)):
            part = tuple(s for s in self.sites.sites if (s.name in self.names) == chosen)
            values |= replace(self.sites, sites=part).unflatten(vector)
        return values


class Marginal(NamedTuple):
    """The density of the other parameters, and what is left of the k collapsed ones."""

    log_density: jax.Array  # Joint density of the others and the data, ().
    mean: jax.Array  # Of the collapsed coordinates given the others, (k,).
    factor: jax.Array  # Lower Cholesky factor of their precision, (k, k).

    def draw(self, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Collapsed coordinates of standard normal noise (k,), and the log joint density there."""
        change = solve_triangular(self.factor, noise, lower=True, trans=1)
        density = jnp.log(jnp.diagonal(self.factor)).sum() - noise @ noise / 2
        return self.mean + change, self.log_density + density - len(noise) / 2 * np.log(2 * np.pi)


def collapsible(program: Program, sites: Layout, point: jax.Array) -> tuple[str, ...]:
    """Find observer sites in which, together, the log joint density is quadratic everywhere.

    It is read off the operations of the program, not its numbers: no derivative may depend on the
    sites; of the flat `point` the shape counts. Of sites that are only so one at a time (a gain,
    and what it multiplies), the first is taken; none where something else than a Gaussian of this
    package is observed.
    """
    names: tuple[str, ...] = ()
    for site in () if sites.foreign else sites.sites:
        likely = site.role == "observer" and site.gaussian
        if likely and _is_quadratic(program, sites, (*names, site.name), point):
            names = (*names, site.name)
    return names


def _is_quadratic(
    program: Program, sites: Layout, names: tuple[str, ...], point: jax.Array
) -> bool:
    parts = Split(sites, names)

    def whole(collapsed: jax.Array, others: jax.Array) -> tuple:
        result = evaluate(program, sites, parts.unflatten(collapsed, others))
        observations = [fn for fn, _ in result.observations.values()]
        noise = [(fn.log_precision, fn.components, fn.confounds) for fn in observations]
        predictions = [fn.columns for fn in observations]
        return predictions, result.log_prior, (noise, result.log_hyperprior)

    arguments = point[parts.collapsed], point[parts.others]
    outputs = Outputs(whole, *arguments)
    prediction, log_prior, rest = map(outputs.select, range(3))
    derivatives = (jax.jacfwd(prediction), jax.jacfwd(jax.grad(log_prior)), rest)
    return not any(depends(function, arguments) for function in derivatives)


def marginal(program: Program, parts: Split, base: jax.Array, others: jax.Array) -> Marginal:
    """Integrate collapsed coordinates out; the log density is -inf where it is not finite.

    `base` (k,) are those to expand about; any serve, those of large density best.
    """

    def joint(collapsed: jax.Array) -> jax.Array:
        return log_joint(program, parts.sites, parts.unflatten(collapsed, others))

    (value, gradient), tangent = jax.linearize(jax.value_and_grad(joint), base)
    curvature = jax.vmap(tangent)(jnp.eye(len(base)))[1]
    factor = jnp.linalg.cholesky(-(curvature + curvature.T) / 2)
    scaled = solve_triangular(factor, gradient, lower=True)
    mean = base + solve_triangular(factor, scaled, lower=True, trans=1)
    log_density = value + scaled @ scaled / 2 - jnp.log(jnp.diagonal(factor)).sum()
    log_density += len(base) / 2 * np.log(2 * np.pi)
    log_density = jnp.where(jnp.isfinite(log_density), log_density, -jnp.inf)
    return Marginal(log_density, mean, factor)
