"""Priors become NumPyro sites: only free entries are sampled, full arrays are deterministic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpy.typing import ArrayLike

from bayesdcm.data.named_axes import in_order
from bayesdcm.neural.base import Prior

FREE = "_free"


def sample_prior(prior: Prior, role: str | None = None) -> jax.Array:
    """Sample the free entries of a parameter and return the full array.

    An array whose entries are all free is a site of its own name. Otherwise the free entries
    are a vector site ``NAME_free`` (in C order) and the full array, constants included, is the
    deterministic site ``NAME``.

    Parameters
    ----------
    prior : Prior
        Means and variances of all entries.
    role : str, optional
        Role of the site: ``"observer"`` for spatial parameters, ``"precision"`` for
        log-precisions of the noise.

    Returns
    -------
    jax.Array
        The full array.

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
    infer = {} if role is None else {"role": role}
    if free.size and free.all():
        distribution = dist.Normal(mean, np.sqrt(variance))
        return numpyro.sample(prior.name, distribution.to_event(mean.ndim), infer=infer)
    full = jnp.asarray(mean)
    if free.any():
        distribution = dist.Normal(mean[free], np.sqrt(variance[free])).to_event(1)
        entries = numpyro.sample(prior.name + FREE, distribution, infer=infer)
        full = full.at[np.nonzero(free)].set(entries)
    return numpyro.deterministic(prior.name, full)


def entry_labels(prior: Prior, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Labels of the free entries of a parameter, such as ``A[V5, V1]``, in C order.

    Parameters
    ----------
    prior : Prior
        The parameter.
    names : mapping
        Names along each kind of axis, for instance ``{"to": ["V1", "V5"], ...}``.

    Returns
    -------
    list of str
        One label for each free entry.

    Examples
    --------
    >>> import numpy as np
    >>> prior = Prior("transit", ("region",), np.zeros(2), np.ones(2), "log scaling")
    >>> entry_labels(prior, {"region": ["V1", "V5"]})
    ['transit[V1]', 'transit[V5]']
    """
    if not prior.dims:
        return [prior.name]
    entries = product(*(names[dim] for dim in prior.dims))
    return [
        f"{prior.name}[{', '.join(entry)}]"
        for entry, free in zip(entries, prior.free.ravel(), strict=True)
        if free
    ]


def complete_parameters(
    priors: Sequence[Prior],
    parameters: Mapping[str, ArrayLike],
    names: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, jax.Array]:
    """Check full parameter arrays by name and shape.

    Parameters
    ----------
    priors : sequence of Prior
        What the model takes.
    parameters : mapping
        Full arrays by name. Those in which nothing is free may be absent, as they are among the
        means of a fit; other names are ignored.
    names : mapping, optional
        Names along each kind of axis of the data that parameters are for. Tables and DataArrays
        with names are put in their order.

    Returns
    -------
    dict of jax.Array
        The model's parameters.

    Raises
    ------
    ValueError
        If a parameter is missing, or has the wrong shape or other names.

    Examples
    --------
    >>> import numpy as np
    >>> prior = Prior("decay", (), np.zeros(()), np.ones(()), "log scaling")
    >>> complete_parameters([prior], {"decay": 0.0, "other": 1.0})["decay"].shape
    ()
    """
    complete = {}
    for prior in priors:
        if prior.name not in parameters:
            if not prior.free.any():
                complete[prior.name] = jnp.asarray(prior.mean, float)
                continue
            raise ValueError(
                f"parameters lacks {prior.name!r}; the model needs "
                f"{', '.join(repr(p.name) for p in priors)}"
            )
        value = jnp.asarray(in_place(prior, parameters[prior.name], names), float)
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
    """A table of a parameter as an array, entries where the names of the data put them.

    Parameters
    ----------
    prior : Prior
        The parameter.
    value : array_like
        A table or DataArray with names; other things are handed through.
    names : mapping or None
        Names along each kind of axis.

    Returns
    -------
    array_like
        In the order of the names.

    Raises
    ------
    ValueError
        If its names are others.

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
