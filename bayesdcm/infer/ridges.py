"""Curved ridges of a posterior, made straight by a scaling that depends on other parameters.

A gain g and a log amplitude a that data know as ``g exp(a / 2)`` only share a posterior along a
curve, on which a sampler needs short steps and many of them. So do a gain and whatever else makes
signals larger. In such products and the other parameters it is nearly straight. Exponents are those
of which a Gaussian approximation says that the gain follows, relative to its size.
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
    """

    centre: jax.Array
    exponents: jax.Array

    def log_factors(self, vector: jax.Array) -> jax.Array:
        """Logs of what entries are multiplied by, (size,); the same of straight coordinates."""
        return self.exponents @ (vector - self.centre)

    def back(self, straight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The flat vector, and the log of its volume over that of straight coordinates, ()."""
        logs = self.log_factors(straight)
        return straight * jnp.exp(-logs), -logs.sum()

    def gaussian(self, covariance: NDArray, modes: NDArray) -> tuple[NDArray, NDArray]:
        """Covariance, to first order, and modes (modes, size), in these coordinates."""
        centre, exponents = map(np.asarray, self)
        slope = np.eye(len(centre)) + centre[:, None] * exponents
        moved = modes * np.exp((modes - centre) @ exponents.T)
        return slope @ covariance @ slope.T, moved


keep_class(Straight)


def scaled_by_node(model: Any, sites: Layout) -> list[NDArray]:
    """Places in the flat vector of what multiplies the signals of a node, for each that has any.

    Parameters
    ----------
    model : object
        Its observer says what is `scaled`, if anything is.
    sites : Layout
        Of the program.
    """
    observer = getattr(getattr(model, "parts", None), "observer", None)
    groups: list[NDArray] = []
    for prior in getattr(model, "priors", ()) if getattr(observer, "scaled", ()) else ():
        if prior.name not in observer.scaled or not prior.free.any():
            continue
        site = prior.name if prior.name in sites.places else prior.name + FREE
        places, source = np.arange(sites.size)[sites.places[site]], np.nonzero(prior.free)[0]
        groups += [places[source == k] for k in np.unique(source)]
    return groups


def straight(model: Any, sites: Layout, centre: NDArray, covariance: NDArray) -> Straight | None:
    """The map for a Gaussian approximation (size,), (size, size); None where there is no ridge.

    Parameters
    ----------
    model, sites : see `scaled_by_node`
    """
    groups = scaled_by_node(model, sites)
    if not groups:
        return None
    scaled = np.concatenate(groups)
    others = np.setdiff1d(np.arange(sites.size), scaled)
    precision = np.linalg.inv(covariance)
    within = precision[np.ix_(scaled, scaled)]
    follows = -np.linalg.solve(within, precision[np.ix_(scaled, others)])
    exponents = np.zeros((sites.size, sites.size))
    for group in groups:
        here = np.isin(scaled, group)
        weighed = centre[group] @ within[np.ix_(here, here)]
        size = weighed @ centre[group]
        if size > LEAST_SIZE**2:
            exponents[np.ix_(group, others)] = -weighed @ follows[here] / size
    return Straight(jnp.asarray(centre), jnp.asarray(exponents)) if exponents.any() else None
