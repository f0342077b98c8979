"""Curved ridges of a posterior, made straight by a map that keeps volumes.

A gain g and a log amplitude a that data know as ``a + 2 log g`` only share a posterior along a
curve, on which a sampler needs short steps and many of them. In the coordinates ``a + 2 log g`` and
g it is nearly straight; densities are the same, since what is added depends on others only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout, Program, evaluate
from bayesdcm.observe import Observer

FREE = "_free"


@dataclass(frozen=True, eq=False)
class Straight:
    """The map from the flat vector to coordinates without ridges, and back.

    Parameters
    ----------
    program : callable
        On its data.
    model, space : object
        The model, and what its observer takes of the data.
    sites : Layout
        Of the program.
    """

    program: Program
    model: Any
    space: Any
    sites: Layout

    def added(self, vector: jax.Array) -> jax.Array:
        """What is added to each entry, (size,)."""
        values = evaluate(self.program, self.sites, vector).values
        added = jnp.zeros(self.sites.size)
        priors = {prior.name: prior for prior in self.model.priors}
        for name, ridge in self.model.parts.observer.ridges(values, self.space).items():
            free = np.flatnonzero(priors[name].free)
            site = name if name in self.sites.places else name + FREE
            if len(free):
                added = added.at[self.sites.places[site]].set(jnp.ravel(ridge)[free])
        return added

    def back(self, straight: jax.Array) -> jax.Array:
        """The flat vector."""
        return straight - self.added(straight)

    def gaussian(
        self, centre: NDArray, covariance: NDArray, modes: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Mean and covariance, to first order, and modes (modes, size), in these coordinates."""
        both = jax.jit(lambda x: (x + self.added(x), jax.jacfwd(self.added)(x)))
        moved, slope = map(np.asarray, both(jnp.asarray(centre)))
        turn = np.eye(len(centre)) + slope
        peaks = np.stack([np.asarray(both(jnp.asarray(mode))[0]) for mode in modes])
        return moved, turn @ covariance @ turn.T, peaks


def straight(source: Any, prepared: Any, sites: Layout) -> Straight | None:
    """The map of a program on its data; None where it has no ridges that are known.

    Parameters
    ----------
    source : ModelSource or ProgramSource
        What is inferred.
    prepared : object
        Arrays of its data.
    sites : Layout
        Of the program.
    """
    model = getattr(source, "model", None)
    observer = getattr(getattr(model, "parts", None), "observer", None)
    # What a program is traced for costs seconds, so that nothing is traced for nothing.
    if not isinstance(observer, Observer) or type(observer).ridges is Observer.ridges:
        return None
    return Straight(source.bind(prepared), model, prepared.space, sites)
