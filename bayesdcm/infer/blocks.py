"""Transitions of blocks of coordinates that depend on each other through shared ones only.

Given the parameters of a group, those of its members are independent. Each member then has a
trajectory of its own along a surrogate of its density, which its own exact density accepts or not:
errors of many surrogates do not add up, and a member whose surrogate is poor holds nobody else.

References
----------
.. [1] Neal (2011), Handbook of Markov Chain Monte Carlo, chapter 5, section 5.5.
       https://doi.org/10.1201/b10905
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.infer.traced_programs import keep_class

# Steps of a trajectory; together at most a quarter of the period of a standard normal, about which
# their length varies by this share, so that no coordinate returns to where it was.
STEPS = 4
LONGEST = jnp.pi / 2 / STEPS
VARIATION = 0.3
TARGET_ACCEPT = 0.8
# Of how fast steps are learnt, see `learnt`.
DECAY = 0.6
# Errors of the energy from which a trajectory counts as diverging, as in NumPyro.
DIVERGING = 1000.0


class Blocks(NamedTuple):
    """Coordinates (blocks, size), nearly standard normal, and lengths of steps (blocks,)."""

    z: jax.Array
    step: jax.Array


keep_class(Blocks)


def advance_blocks(
    key: jax.Array,
    blocks: Blocks,
    exact: jax.Array,
    approximately: Callable[[jax.Array], jax.Array],
    exactly: Callable[[jax.Array], jax.Array],
    anyway: jax.Array,
) -> tuple[Blocks, jax.Array, jax.Array, jax.Array]:
    """A transition of each block, with all that is shared held.

    A leapfrog of any density keeps volumes and is reversible: with the energy of the exact density
    at both ends, draws are those of it.

    Parameters
    ----------
    key : jax.Array
        A random key.
    blocks : Blocks
        Where they are.
    exact : jax.Array, shape (blocks,)
        The exact log densities there.
    approximately, exactly : callable
        From coordinates (blocks, size) to log densities (blocks,).
    anyway : jax.Array, shape ()
        Whether the surrogate decides wherever the exact density is finite, as while one looks for
        where to begin.

    Returns
    -------
    blocks : Blocks
        Where they are then.
    exact, acceptance : jax.Array, shape (blocks,)
        The exact log densities there, and probabilities with which trajectories are accepted.
    diverging : jax.Array, shape ()
        Whether one diverged.
    """
    of_momentum, of_step, of_choice = jax.random.split(key, 3)
    momentum = jax.random.normal(of_momentum, blocks.z.shape)
    variation = jax.random.uniform(
        of_step, blocks.step.shape, minval=1 - VARIATION, maxval=1 + VARIATION
    )
    step = (variation * blocks.step)[:, None]

    def value_and_slope(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        def total(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            values = approximately(z)
            return values.sum(), values

        slope, values = jax.grad(total, has_aux=True)(z)
        return values, slope

    def leap(carry: tuple, _: None) -> tuple:
        z, momentum, slope, _ = carry
        momentum = momentum + step / 2 * slope
        z = z + step * momentum
        values, slope = value_and_slope(z)
        return (z, momentum + step / 2 * slope, slope, values), None

    begun, slope = value_and_slope(blocks.z)
    start = (blocks.z, momentum, slope, begun)
    (z, last, _, ended), _ = jax.lax.scan(leap, start, length=STEPS)
    there = exactly(z)
    kinetic = ((momentum**2).sum(-1) - (last**2).sum(-1)) / 2
    change = jnp.where(anyway, ended - begun, there - exact) + kinetic
    usable = jnp.isfinite(there) & ~jnp.isnan(change)
    acceptance = jnp.where(usable, jnp.exp(jnp.minimum(change, 0.0)), 0.0)
    accepted = jax.random.uniform(of_choice, acceptance.shape) < acceptance
    diverging = ~(change > -DIVERGING).all()
    moved = jnp.where(accepted[:, None], z, blocks.z)
    return blocks._replace(z=moved), jnp.where(accepted, there, exact), acceptance, diverging


def learnt(blocks: Blocks, acceptance: jax.Array, iteration: jax.Array) -> Blocks:
    """Blocks with other steps, by stochastic approximation, after `iteration` (from 1 on).

    >>> import jax.numpy as jnp
    >>> blocks = Blocks(jnp.zeros((1, 2)), jnp.array([0.1]))
    >>> learnt(blocks, jnp.array([1.0]), jnp.array(1)).step.round(3).tolist()
    [0.122]
    """
    change = (acceptance - TARGET_ACCEPT) * iteration**-DECAY
    return blocks._replace(step=jnp.minimum(blocks.step * jnp.exp(change), LONGEST))
