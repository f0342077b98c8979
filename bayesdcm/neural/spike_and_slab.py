"""Priors of connections of which many are absent: a spike at zero and a slab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import NDArray
from numpyro.distributions import constraints

from bayesdcm.neural.prior_families import PriorFamily

# Width of the spike over that of the slab, where densities are needed.
SPIKE = 0.01


class SpikeAndSlab(dist.Distribution):
    """Independent entries: of a slab with probability `inclusion`, else of a spike at zero.

    Entries whose inclusion is 1 are normal about `loc` with standard deviation `scale`.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    pytree_data_fields = ("loc", "scale", "inclusion")

    def __init__(self, loc: jax.Array, scale: jax.Array, inclusion: jax.Array) -> None:
        self.loc, self.scale, self.inclusion = loc, scale, inclusion
        super().__init__(jnp.broadcast_shapes(*map(jnp.shape, (loc, scale, inclusion))))

    @property
    def mean(self) -> jax.Array:
        """Means of the entries."""
        return jnp.broadcast_to(self.inclusion * self.loc, self.batch_shape)

    @property
    def variance(self) -> jax.Array:
        """Variances of the entries."""
        p, scale = self.inclusion, self.scale
        second = p * (scale**2 + self.loc**2) + (1 - p) * (SPIKE * scale) ** 2
        return jnp.broadcast_to(second - self.mean**2, self.batch_shape)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws, of shape ``sample_shape`` followed by that of the entries."""
        shape = (*sample_shape, *self.batch_shape)
        first, second = jax.random.split(key)
        there = jax.random.uniform(first, shape) < self.inclusion
        noise = self.scale * jax.random.normal(second, shape)
        return jnp.where(there, self.loc + noise, SPIKE * noise)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-densities of the entries of a value."""
        slab = dist.Normal(self.loc, self.scale).log_prob(value) + jnp.log(self.inclusion)
        spike = dist.Normal(0.0, SPIKE * self.scale).log_prob(value)
        mixed = self.inclusion < 1
        absent = jnp.log1p(-jnp.where(mixed, self.inclusion, 0.5))
        return jnp.where(mixed, jnp.logaddexp(slab, spike + absent), slab)


@dataclass(frozen=True)
class SpikeAndSlabPrior(PriorFamily):
    """Priors under which each connection is there with a probability, and else absent.

    What sparse regression DCM has. `bayesdcm.infer.VariationalBayes` takes absent connections as
    0, and gives the probability that each is there; for methods that need a density, such as NUTS,
    they are normal with a hundredth of the width.

    Parameters
    ----------
    inclusion : float
        Probability that a connection is there.
    slab_scale : float
        Standard deviation of those, in the unit of the parameter.
    mean : float, optional
        Mean of those. None: the means that the model's own priors have.
    self_connections : bool
        Whether self-connections may be absent.

    Raises
    ------
    ValueError
        If the inclusion is not between 0 and 1, or the scale is not positive.

    References
    ----------
    .. [1] Fraessle et al. (2018), NeuroImage 179:505.
           https://doi.org/10.1016/j.neuroimage.2018.05.058

    Examples
    --------
    >>> SpikeAndSlabPrior(0.5, 2.0).variance_of(1)
    2.0002
    """

    inclusion: float
    slab_scale: float
    mean: float | None = None
    self_connections: bool = False

    title: ClassVar[str] = "spike and slab"

    def __post_init__(self) -> None:
        for name in ("inclusion", "slab_scale"):
            self._check_positive(name)
        if self.inclusion >= 1:
            raise ValueError(f"inclusion must be between 0 and 1, got {self.inclusion!r}")
        super().__post_init__()

    def variance_of(self, entries: int) -> float:
        """Variance of an entry of mean 0, see `PriorFamily.variance_of`."""
        del entries
        p = self.inclusion
        return self.slab_scale**2 * (p + (1 - p) * SPIKE**2)

    def distribution(
        self, name: str, mean: NDArray, variance: NDArray, chosen: NDArray[np.bool_]
    ) -> dist.Distribution:
        """See `PriorFamily.distribution`."""
        del name
        scale = np.where(chosen, self.slab_scale, np.sqrt(variance))
        return SpikeAndSlab(mean, scale, np.where(chosen, self.inclusion, 1.0))
