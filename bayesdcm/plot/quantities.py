"""Numbers that figures show, read from the ArviZ object of a fit: one just made or a loaded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.infer.divergence import finite_draws

# Below this the spread of the prior draws of a constant is rounding error.
CONSTANT = 1e-9
# Arrays of connections whose diagonal is of nodes to themselves; kinds of connection have none.
SELF_CONNECTED = ("A", "effective_connectivity", "modulated_connectivity")


@dataclass(frozen=True, eq=False)
class Quantity:
    """Posterior of one array of a model."""

    name: str
    mean: NDArray
    probability: NDArray  # of the sign that most draws of an entry have
    free: NDArray  # entries that have a prior distribution; the others are constants
    fixed: NDArray  # constants that act: self-connections; others are connections that are absent
    sign_open: NDArray  # entries to which the prior gives both signs
    dims: tuple[str, ...]
    names: Mapping[str, list[str]]  # along each axis


def sign_probability(draws: NDArray) -> NDArray:
    """Share of draws with the sign that most have; draws lie along the first axis."""
    return np.maximum((draws > 0).mean(0), (draws < 0).mean(0))


def flat_draws(array: Any) -> NDArray:
    """Draws of all chains one after the other, shape (draws, ...)."""
    values = array.transpose("chain", "draw", ...).to_numpy()
    # No -1: an array may be empty, such as effects of a single condition.
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])


def finite(draws: NDArray) -> NDArray:
    """Draws, along the first axis, at which the model does not diverge."""
    kept = finite_draws(draws)
    if not kept.any():
        raise ValueError("the model diverges at every draw of the posterior; see fit.diagnose()")
    return draws if kept.all() else draws[kept]


def quantity(fit: Any, name: str) -> Quantity:
    """Posterior of the array `name` of a fit; ValueError where it has no such array."""
    posterior = fit.idata.posterior
    if name not in posterior.data_vars:
        raise ValueError(
            f"parameter must be one of {', '.join(map(repr, posterior.data_vars))}, got {name!r}"
        )
    array, draws = posterior[name], flat_draws(posterior[name])
    prior = flat_draws(fit.idata.prior[name])
    dims = tuple(str(d) for d in array.dims if d not in ("chain", "draw"))
    mean, free = draws.mean(0), np.ptp(prior, axis=0) > CONSTANT
    return Quantity(
        name=name,
        mean=mean,
        probability=sign_probability(draws),
        free=free,
        fixed=_self_connections(fit, name, dims, mean) & ~free,
        sign_open=(prior > 0).any(0) & (prior < 0).any(0),
        dims=dims,
        names={dim: axis_names(array, dim) for dim in dims},
    )


def _self_connections(fit: Any, name: str, dims: tuple[str, ...], mean: NDArray) -> NDArray:
    """Where an array holds self-connections that act: 0 does where it is a log scaling."""
    if name not in SELF_CONNECTED or dims[0] == "kind" or dims[-2:] != ("to", "from"):
        return np.zeros(mean.shape, bool)
    scaling = fit.facts.unit(name, (0, 0)).startswith("log scaling")
    return np.eye(mean.shape[-1], dtype=bool) & (scaling | (mean != 0))


def check_fit(fit: Any) -> None:
    """Raise a `TypeError` where something is not a fit."""
    if not hasattr(fit, "idata"):
        raise TypeError(f"fit must be a fit that bayesdcm.fit made, got {type(fit).__name__}")


def named_fits(fits: Any) -> dict[str, Any]:
    """One fit, which gets the name of its method, or several, by name; at least one."""
    named = dict(fits) if isinstance(fits, Mapping) else {getattr(fits, "method", ""): fits}
    if not named:
        raise ValueError("fits must hold at least one fit, got an empty dict")
    for name, fit in named.items():
        if not hasattr(fit, "idata"):
            raise TypeError(
                f"fits must be a Fit or a dict of them by name, got {type(fit).__name__} "
                f"for {name!r}"
            )
    return named


def entries(fit: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Variable and index of every entry of the posterior, by label such as ``A[V5, V1]``."""
    by_label: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, array in fit.idata.posterior.data_vars.items():
        dims = [d for d in array.dims if d not in ("chain", "draw")]
        names = [axis_names(array, d) for d in dims]
        for index, places in zip(np.ndindex(*map(len, names)), product(*names), strict=True):
            label = f"{name}[{', '.join(places)}]" if dims else str(name)
            by_label[label] = (str(name), index)
    return by_label
