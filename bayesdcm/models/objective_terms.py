"""Terms of an objective: what of a simulation is compared with data, and how."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from bayesdcm.observe import (
    functional_connectivity,
    functional_connectivity_dynamics,
    functional_connectivity_dynamics_distance,
    matrix_correlation,
)

Loss = Callable[[jax.Array, jax.Array], jax.Array]

# What is worked out of a series where the simulation does not give it by itself, and its axes.
MEASURES: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "functional_connectivity": (functional_connectivity, ("region", "other region")),
    "functional_connectivity_dynamics": (
        functional_connectivity_dynamics,
        ("window", "other window"),
    ),
}
CONNECTIVITY = "functional_connectivity"
DYNAMICS = "functional_connectivity_dynamics"


def correlation_loss(predicted: jax.Array, observed: jax.Array) -> jax.Array:
    """1 less the correlation of two arrays; of connectivity, over pairs of different regions.

    Parameters
    ----------
    predicted, observed : jax.Array
        In the same shape.

    Examples
    --------
    >>> round(float(correlation_loss(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))), 6)
    0.0
    """
    a, b = (jnp.ravel(each) - jnp.mean(each) for each in (predicted, observed))
    return 1 - (a * b).sum() / jnp.sqrt((a**2).sum() * (b**2).sum())


def _connectivity_loss(predicted: jax.Array, observed: jax.Array) -> jax.Array:
    return 1 - matrix_correlation(predicted, observed)


def squared_loss(predicted: jax.Array, observed: jax.Array) -> jax.Array:
    """Mean squared difference over the variance of the data.

    Parameters
    ----------
    predicted, observed : jax.Array
        In the same shape.

    Examples
    --------
    >>> float(squared_loss(jnp.array([1.0, 4.0]), jnp.array([1.0, 3.0])))
    0.5
    """
    return ((predicted - observed) ** 2).mean() / observed.var()


def _dynamics_loss(metric: str) -> Loss:
    def loss(predicted: jax.Array, observed: jax.Array) -> jax.Array:
        return functional_connectivity_dynamics_distance(predicted, observed, metric)

    return loss


_kolmogorov_smirnov, _wasserstein = (
    _dynamics_loss(metric) for metric in ("kolmogorov_smirnov", "wasserstein")
)


@dataclass(frozen=True)
class Term:
    """One term of an objective.

    Parameters
    ----------
    name : str
        A result of the simulation, or a measure.
    kind : str or callable
        As the user gave it.
    weight : float
        Factor of the loss.
    connectivity : bool
        Whether it is a symmetric matrix of regions, of which pairs are compared.
    """

    name: str
    kind: Any
    weight: float
    connectivity: bool = False

    @property
    def compares_distributions(self) -> bool:
        """Whether data may have another shape than the prediction."""
        return self.kind in ("wasserstein", "kolmogorov_smirnov")

    @property
    def loss(self) -> Loss:
        """The loss of a prediction and data, 0 at best, its weight left out."""
        if callable(self.kind):
            return self.kind
        if self.kind == "correlation":
            return _connectivity_loss if self.connectivity else correlation_loss
        if self.kind == "squared":
            return squared_loss
        return _wasserstein if self.kind == "wasserstein" else _kolmogorov_smirnov


KINDS = ("correlation", "squared", "wasserstein", "kolmogorov_smirnov")


def parse_terms(
    objective: Mapping[str, Any], connectivity: Collection[str] = (CONNECTIVITY,)
) -> tuple[Term, ...]:
    """Check the terms of an objective.

    Parameters
    ----------
    objective : mapping
        From the name of what is compared to a name of `KINDS`, a callable ``(predicted,
        observed) -> loss``, or a pair of one of these and a positive weight.
    connectivity : collection of str
        Names of symmetric matrices of regions.

    Returns
    -------
    tuple of Term
        In the order of the mapping.

    Raises
    ------
    TypeError, ValueError
        If it is no mapping of these, or empty.

    Examples
    --------
    >>> parse_terms({"functional_connectivity": ("correlation", 2.0)})[0].weight
    2.0
    """
    if not isinstance(objective, Mapping) or not objective:
        raise TypeError(
            "objective must be a mapping such as {'functional_connectivity': 'correlation'}, or "
            f"a callable (results, data) -> loss, got {objective!r}"
        )
    terms = []
    for name, given in objective.items():
        kind, weight = given if isinstance(given, tuple) and len(given) == 2 else (given, 1.0)
        known = callable(kind) or (isinstance(kind, str) and kind in KINDS)
        if not known:
            raise ValueError(
                f"objective[{name!r}] must be one of {', '.join(map(repr, KINDS))}, a callable "
                f"(predicted, observed) -> loss, or a pair of one of these and a weight, got "
                f"{given!r}"
            )
        if isinstance(kind, str) and kind in KINDS[2:] and name != DYNAMICS:
            raise ValueError(
                f"objective[{name!r}]: {kind!r} compares {DYNAMICS}; for {name} use "
                "'correlation', 'squared' or a callable"
            )
        if not (isinstance(weight, int | float) and 0 < weight < float("inf")):
            raise ValueError(f"objective[{name!r}] has weight {weight!r}; expected a positive one")
        terms.append(Term(str(name), kind, float(weight), name in connectivity))
    return tuple(terms)
