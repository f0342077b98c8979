"""Mean log-densities of priors with a kink, which make them smooth.

The log-density of a Laplace prior has a kink at its centre and no curvature elsewhere, so there is
no Laplace approximation of it. Its mean over normal values is smooth and known in closed form, and
it is what the free energy of a Gaussian posterior holds. Of a normal prior it differs from the
log-density at the mean by a half of curvature times variance.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from numpyro.distributions import (
    AsymmetricLaplace,
    Distribution,
    ExpandedDistribution,
    Independent,
    Laplace,
)

from bayesdcm.neural.prior_families import NormalOrLaplace


def kinked(fn: Distribution) -> Laplace | NormalOrLaplace | None:
    """The Laplace distribution, of some entries at least, that a site's distribution is made of."""
    while isinstance(fn, Independent | ExpandedDistribution):
        fn = fn.base_dist
    return fn if isinstance(fn, Laplace | NormalOrLaplace) else None


def has_kink(fn: Distribution) -> bool:
    """Whether the density of a site's distribution has a kink, also where it is transformed."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return isinstance(fn, Laplace | NormalOrLaplace | AsymmetricLaplace)


def mean_log_density(fn: Any, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """Mean log-density of each entry over normal values.

    Parameters
    ----------
    fn : Laplace or NormalOrLaplace
        From `kinked`.
    mean, variance : jax.Array
        Of the values, of one shape.

    Examples
    --------
    >>> values = mean_log_density(Laplace(0.0, 0.25), jnp.array([3.0, 0.0]), jnp.full(2, 1e-12))
    >>> values.round(4).tolist()
    [-11.3069, 0.6931]
    """
    difference = mean - fn.loc
    width = jnp.sqrt(2 * variance)
    ratio = difference / width
    distance = width / np.sqrt(np.pi) * jnp.exp(-(ratio**2)) + difference * erf(ratio)
    laplace = -jnp.log(2 * fn.scale) - distance / fn.scale
    if isinstance(fn, Laplace):
        return laplace
    square = (difference**2 + variance) / fn.scale**2
    normal = -(jnp.log(2 * np.pi) + square) / 2 - jnp.log(fn.scale)
    return jnp.where(fn.is_laplace, laplace, normal)
