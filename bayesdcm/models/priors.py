"""Priors become NumPyro sites: only free entries are sampled, full arrays are deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.named_axes import in_order
from bayesdcm.neural.base import Prior

FREE = "_free"


def sample_prior(
    prior: Prior, role: str | None = None, moments: tuple[ArrayLike, ArrayLike] | None = None
) -> jax.Array:
    """Sample the free entries of a parameter and return the full array.

    An array whose entries are all free is a site of its own name. Otherwise the free entries are a
    vector site ``NAME_free`` (in C order) and the full array, constants included, is the
    deterministic site ``NAME``. `role` marks the site: ``"observer"`` for spatial parameters,
    ``"precision"`` for log-precisions of the noise. `moments` are means and standard deviations of
    the site, in the place of those that a normal prior has.

    Examples
    --------
    >>> import numpy as np, numpyro
    >>> prior = Prior("A", ("to", "from"), np.zeros((2, 2)), np.eye(2), "Hz")
    >>> with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as sites:
    ...     full = sample_prior(prior)
    >>> sites["A_free"]["value"].shape, full.shape
    ((2,), (2, 2))
    """
    free, mean, variance = prior.free, np.asarray(prior.mean), np.asarray(prior.variance)
    infer: dict[str, Any] = {} if role is None else {"role": role}
    chosen = prior.not_normal
    if chosen.any() and not prior.family.centred:
        infer["centred"] = False

    def of(mean: NDArray, variance: NDArray, chosen: NDArray) -> dist.Distribution:
        if chosen.any():
            return prior.family.distribution(prior.name, mean, variance, chosen)
        return dist.Normal(*((mean, np.sqrt(variance)) if moments is None else moments))

    if free.size and free.all():
        distribution = of(mean, variance, chosen)
        return numpyro.sample(prior.name, distribution.to_event(mean.ndim), infer=infer)
    full = jnp.asarray(mean)
    if free.any():
        distribution = of(mean[free], variance[free], chosen[free]).to_event(1)
        entries = numpyro.sample(prior.name + FREE, distribution, infer=infer)
        # Not by a scatter, which XLA makes a loop of.
        place = np.maximum(np.cumsum(free).reshape(free.shape) - 1, 0)
        full = jnp.where(free, entries.at[place].get(mode="promise_in_bounds"), full)
    return numpyro.deterministic(prior.name, full)


def entry_labels(prior: Prior, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Labels of the free entries of a parameter, in C order, by the names along each kind of axis.

    Examples
    --------
    >>> import numpy as np
    >>> prior = Prior("transit", ("region",), np.zeros(2), np.ones(2), "log scaling")
    >>> entry_labels(prior, {"region": ["V1", "V5"]})
    ['transit[V1]', 'transit[V5]']
    """
    free = prior.free
    return [label for label, index in labelled_entries(prior, names) if free[index]]


def site_labels(prior: Prior, names: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Labels of the entries of each site that `sample_prior` samples of a parameter."""
    free, chosen = prior.free, prior.not_normal
    if not free.any():
        return {}
    table: dict[str, Sequence[str]] = {
        prior.name if free.all() else prior.name + FREE: entry_labels(prior, names)
    }
    if chosen.any():
        labels = [label for label, index in labelled_entries(prior, names) if chosen[index]]
        table |= prior.family.own_labels(prior.name, labels)
    return table


def labelled_entries(
    prior: Prior, names: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Label, such as ``A[V5, V1]``, and index of every entry of a parameter, in C order."""
    indices = np.ndindex(np.shape(prior.mean))
    for entry, index in zip(product(*(names[d] for d in prior.dims)), indices, strict=True):
        yield (f"{prior.name}[{', '.join(entry)}]" if entry else prior.name), index


def complete_parameters(
    priors: Sequence[Prior],
    parameters: Mapping[str, ArrayLike],
    names: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, jax.Array]:
    """The parameters that a model takes, full arrays by name; ValueError where one does not fit.

    Those in which nothing is free may be absent, as they are among the means of a fit; other names
    are ignored. Tables and DataArrays with names are put in the order of `names` along each kind of
    axis.
    """
    complete = {}
    for prior in priors:
        if prior.name not in parameters and prior.free.any():
            raise ValueError(
                f"parameters lacks {prior.name!r}; the model needs "
                f"{', '.join(repr(p.name) for p in priors)}"
            )
        given = parameters.get(prior.name, prior.mean)
        value = jnp.asarray(in_place(prior, given, names), float)
        if value.shape != prior.mean.shape:
            raise ValueError(
                f"parameters[{prior.name!r}] must have shape {prior.mean.shape} "
                f"({', '.join(prior.dims) or 'a scalar'}), got {value.shape}"
            )
        complete[prior.name] = value
    return complete


def in_place(
    prior: Prior, value: ArrayLike, names: Mapping[str, Sequence[str]] | None
) -> ArrayLike:
    """A table of a parameter as an array, in the order of `names`; other values as they are.

    ValueError if its names are others.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> prior = Prior("transit", ("region",), np.zeros(2), np.ones(2), "log scaling")
    >>> in_place(prior, pd.Series([0.1, 0.2], ["V1", "V5"]), {"region": ["V1", "V5"]})
    array([0.1, 0.2])
    """
    dims = getattr(value, "dims", None)
    if isinstance(dims, tuple) and set(dims) == set(prior.dims):
        value = value.transpose(*prior.dims)  # type: ignore[union-attr]
    wanted = {
        axis: (f"names in the data ({dim})", (names or {}).get(dim, ()))
        for axis, dim in enumerate(prior.dims)
    }
    return in_order(f"parameters[{prior.name!r}]", value, wanted)
