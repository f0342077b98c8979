"""Curved ridges of a posterior, made straight by what depends on other parameters.

A gain g and a log amplitude a that data know as ``g exp(a / 2)`` only share a posterior along a
curve, on which a sampler needs short steps and many of them. So do a gain and whatever else makes
signals larger. In such products and the other parameters it is nearly straight. Exponents are those
of which a Gaussian approximation says that the gain follows, relative to its size.

A log amplitude a and the logarithm e of the exponent of a power law ``exp(a) f^-exp(e)`` share a
ridge, too, where data know the power about one frequency f: ``a - exp(e) ln f``. Its slope is that
of the Gaussian approximation; the amplitude is counted from the curve instead of from its tangent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout
from bayesdcm.infer.traced_programs import keep_class

FREE = "_free"
# Least size of what is scaled, in standard deviations given all else; below there is no ridge.
LEAST_SIZE = 3.0


class Straight(NamedTuple):
    """The map from the flat vector to coordinates without ridges, and back.

    Attributes
    ----------
    centre : (size,)
        Where nothing is scaled.
    exponents : (size, size)
        Log factor of each entry, for a unit of each other that is not scaled itself.
    slopes : (size, size)
        Of each log amplitude on the log exponent of its power law.
    """

    centre: jax.Array
    exponents: jax.Array
    slopes: jax.Array

    def _curve(self, vector: jax.Array) -> jax.Array:
        """How far amplitudes are above the tangents of their curves, (size,)."""
        away = jnp.where(self.slopes.any(0), vector - self.centre, 0.0)
        return self.slopes @ (jnp.expm1(away) - away)

    def there(self, vector: jax.Array) -> jax.Array:
        """Straight coordinates of a flat vector, (size,)."""
        lower = vector - self._curve(vector)
        return lower * jnp.exp(self.exponents @ (lower - self.centre))

    def back(self, straight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The flat vector, and the log of its volume over that of straight coordinates, ()."""
        logs = self.exponents @ (straight - self.centre)
        return straight * jnp.exp(-logs) + self._curve(straight), -logs.sum()

    def gaussian(self, covariance: NDArray, modes: NDArray) -> tuple[NDArray, NDArray]:
        """Covariance, to first order, and modes (modes, size), in these coordinates."""
        centre, exponents = np.asarray(self.centre), np.asarray(self.exponents)
        slope = np.eye(len(centre)) + centre[:, None] * exponents
        return slope @ covariance @ slope.T, np.stack([self.there(mode) for mode in modes])


keep_class(Straight)


def scaled_by_node(model: Any, sites: Layout) -> list[NDArray]:
    """Places in the flat vector of what multiplies the signals of a node, for each that is seen.

    There are none of a node for which all of it is fixed.

    Parameters
    ----------
    model : object
        Its observer says what is `scaled`, if anything is.
    sites : Layout
        Of the program.
    """
    groups = []
    for prior, table in _places(model, sites, "scaled"):
        mean = np.reshape(prior.mean, (len(table), -1))
        for rows, fixed_at in zip(table.reshape(mean.shape), mean, strict=True):
            if (rows >= 0).any() or fixed_at.any():
                groups.append(rows[rows >= 0])
    return groups


def _places(model: Any, sites: Layout, kind: str) -> list[tuple[Any, NDArray]]:
    """Priors of parameters of which the observer says that they are of a kind, and their places.

    Places are those in the flat vector, in the shape of the parameter, -1 where it is fixed.
    """
    names = getattr(getattr(getattr(model, "parts", None), "observer", None), kind, ())
    tables = []
    for prior in getattr(model, "priors", ()) if names else ():
        if prior.name in names:
            table = np.full(prior.free.shape, -1)
            if prior.free.any():
                site = prior.name if prior.name in sites.places else prior.name + FREE
                table[prior.free] = sites.places[site]
            tables.append((prior, table))
    return tables


def straight(model: Any, sites: Layout, centre: NDArray, covariance: NDArray) -> Straight | None:
    """The map for a Gaussian approximation (size,), (size, size); None where there is no ridge.

    Parameters
    ----------
    model, sites : see `scaled_by_node`
    """
    groups = [group for group in scaled_by_node(model, sites) if group.size]
    laws = [law for _, law in _places(model, sites, "power_laws")]
    if not groups and not laws:
        return None
    exponents, slopes = np.zeros((2, sites.size, sites.size))
    precision = np.linalg.inv(covariance)
    for law in laws:
        amplitude, exponent = law.reshape(2, -1)[:, (law >= 0).all(0).ravel()]
        own = precision[amplitude, amplitude]
        slopes[amplitude, exponent] = -precision[amplitude, exponent] / own
    scaled = np.concatenate([np.zeros(0, int), *groups])
    others = np.setdiff1d(np.arange(sites.size), scaled)
    within = precision[np.ix_(scaled, scaled)]
    follows = -np.linalg.solve(within, precision[np.ix_(scaled, others)])
    for group in groups:
        here = np.isin(scaled, group)
        weighed = centre[group] @ within[np.ix_(here, here)]
        size = weighed @ centre[group]
        if size > LEAST_SIZE**2:
            exponents[np.ix_(group, others)] = -weighed @ follows[here] / size
    if not exponents.any() and not slopes.any():
        return None
    return Straight(*map(jnp.asarray, (centre, exponents, slopes)))
