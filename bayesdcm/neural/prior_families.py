"""Priors of connections that are not normal: sparse ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpy.typing import NDArray
from numpyro.distributions import constraints
from scipy import integrate, stats

from bayesdcm.neural.base import Prior


class NormalOrLaplace(dist.Distribution):
    """Independent entries about `loc`: Laplace where `is_laplace`, and normal elsewhere.

    `scale` is that of the Laplace distribution, or a standard deviation.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    pytree_data_fields = ("loc", "scale", "is_laplace")

    def __init__(self, loc: jax.Array, scale: jax.Array, is_laplace: NDArray[np.bool_]) -> None:
        self.loc, self.scale, self.is_laplace = loc, scale, is_laplace
        super().__init__(jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(scale)))

    def _chosen(self, laplace: jax.Array, normal: jax.Array) -> jax.Array:
        return jnp.where(self.is_laplace, laplace, normal)

    @property
    def mean(self) -> jax.Array:
        """Means of the entries."""
        return jnp.broadcast_to(self.loc, self.batch_shape)

    @property
    def variance(self) -> jax.Array:
        """Variances of the entries."""
        return jnp.broadcast_to(self._chosen(2.0, 1.0) * self.scale**2, self.batch_shape)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws, of shape ``sample_shape`` followed by that of the entries."""
        shape = (*sample_shape, *self.batch_shape)
        first, second = jax.random.split(key)
        noise = self._chosen(jax.random.laplace(first, shape), jax.random.normal(second, shape))
        return self.loc + self.scale * noise

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-densities of the entries of a value."""
        parts = (dist.Laplace(self.loc, self.scale), dist.Normal(self.loc, self.scale))
        return self._chosen(*(part.log_prob(value) for part in parts))


class PriorFamily(ABC):
    """Kind of prior that takes the place of normal ones, a frozen dataclass."""

    title: ClassVar[str]
    # Whether samplers see the entries themselves; else what is left of them without their scale.
    centred: ClassVar[bool] = True
    # Whether it is meant for log-precisions of noise, and for nothing else.
    of_precisions: ClassVar[bool] = False
    # Whether it can be that of a single entry.
    single: ClassVar[bool] = True

    mean: float | None
    self_connections: bool

    def __post_init__(self) -> None:
        if self.mean is not None and not np.isfinite(self.mean):
            raise ValueError(f"mean must be a number, or None, got {self.mean!r}")

    def _check_positive(self, name: str) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (number and 0 < value < np.inf):
            raise ValueError(f"{name} must be a positive number, got {value!r}")

    @abstractmethod
    def variance_of(self, entries: int) -> float:
        """Variance of each of so many entries."""

    @abstractmethod
    def distribution(
        self, name: str, mean: NDArray, variance: NDArray, chosen: NDArray[np.bool_]
    ) -> dist.Distribution:
        """Distribution of the entries of a parameter, of the family where `chosen`.

        Within a program: it may sample parameters of its own, named after `name`.
        """

    def own_labels(self, name: str, labels: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Labels of the sites that `distribution` samples, where `labels` are of the family."""
        del name, labels
        return {}

    def connections(self, prior: Prior) -> NDArray[np.bool_]:
        """Entries that the family is meant for, if they are free."""
        chosen = np.ones(np.shape(prior.mean), bool)
        if {"to", "from"} <= set(prior.dims) and not self.self_connections:
            to, source = (prior.dims.index(dim) for dim in ("to", "from"))
            places = np.indices(chosen.shape)
            chosen = places[to] != places[source]
        return chosen

    def in_place_of(self, prior: Prior, entries: NDArray[np.bool_] | None = None) -> Prior:
        """A prior whose free entries are of this family.

        Parameters
        ----------
        prior : Prior
            Of any family.
        entries : ndarray of bool, optional
            Which of the free entries, in the shape of the parameter. None: all.

        Returns
        -------
        Prior
            Of the mean that the family has, or else the prior's own.
        """
        chosen = prior.free if entries is None else prior.free & entries
        if not chosen.any():
            return prior
        mean = prior.mean if self.mean is None else np.where(chosen, self.mean, prior.mean)
        variance = np.where(chosen, self.variance_of(int(chosen.sum())), prior.variance)
        whole = bool((chosen == prior.free).all())
        return replace(
            prior,
            mean=np.asarray(mean, float),
            variance=variance,
            family=self,
            of_family=None if whole else chosen,
        )


@dataclass(frozen=True)
class LaplacePrior(PriorFamily):
    """Laplace (double exponential) priors, whose mode is sparse as that of an L1 penalty.

    To be given as a value of ``priors=`` of a model, for a parameter or a labelled entry.

    Parameters
    ----------
    scale : float
        Mean absolute difference from the mean, in the unit of the parameter; 1 / scale is
        the weight of the absolute value in the negative log-density.
    mean : float, optional
        What entries are drawn to. None: the means that the model's own priors have.
    self_connections : bool
        Of parameters with axes to and from, whether self-connections are of the family, too.
        By default they keep their prior: most models hold log scalings of a decay there, whose
        absence is no sparsity.

    Raises
    ------
    ValueError
        If the scale is not positive, or the mean not finite.

    References
    ----------
    .. [1] Park and Casella (2008), J Am Stat Assoc 103:681.
           https://doi.org/10.1198/016214508000000337

    Examples
    --------
    >>> from bayesdcm import TaskDCM
    >>> model = TaskDCM(A=[[1, 0], [1, 1]], C=[[1], [0]], priors={"A": LaplacePrior(0.2)})
    >>> model.prior_table().loc["A[region 2, region 1]", ["unit", "family"]].tolist()
    ['Hz', 'Laplace']
    """

    scale: float
    mean: float | None = None
    self_connections: bool = False

    title: ClassVar[str] = "Laplace"

    def __post_init__(self) -> None:
        self._check_positive("scale")
        super().__post_init__()

    def variance_of(self, entries: int) -> float:
        """Twice the squared scale, see `PriorFamily.variance_of`."""
        del entries
        return 2 * self.scale**2

    def distribution(
        self, name: str, mean: NDArray, variance: NDArray, chosen: NDArray[np.bool_]
    ) -> dist.Distribution:
        """Of scales that the variances say, see `PriorFamily.distribution`."""
        del name
        if chosen.all():
            return dist.Laplace(mean, np.sqrt(variance / 2))
        return NormalOrLaplace(mean, np.sqrt(np.where(chosen, variance / 2, variance)), chosen)


@dataclass(frozen=True)
class HorseshoePrior(PriorFamily):
    """Regularised horseshoe priors: most connections near zero, some of them as large as may be.

    An entry x is N(mean, (g l)^2 c^2 / (c^2 + (g l)^2)), with g half-Cauchy of scale g0, common to
    all, l half-Cauchy of scale 1, its own, and c^2 inverse gamma, the variance of what is not
    shrunk. With e expected among n connections, g0 = e / (n - e) times `standard_error`. To be
    given as a value of ``priors=`` of a model, for a whole parameter.

    Parameters
    ----------
    expected_connections : float
        How many connections are expected to be there; at least half a connection must be left.
    slab_scale : float
        Standard deviation of those, in the unit of the parameter.
    slab_freedom : float
        Degrees of freedom of their Student-t distribution, more than 2.
    standard_error : float, optional
        How well data like these tell the strength of a single connection, in the unit of the
        parameter: sigma / sqrt(n) of the source. None: a tenth of the slab's scale.
    mean : float, optional
        What entries are drawn to. None: the means that the model's own priors have.
    self_connections : bool
        As in `LaplacePrior`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Of a parameter such as ``A``, models get the sites ``A_global`` (g), ``A_local`` (l) and
    ``A_slab`` (c^2). NUTS samples it in coordinates without these scales. A Gaussian posterior,
    as of variational Laplace, is a poor description.

    References
    ----------
    .. [1] Piironen and Vehtari (2017), Electron J Stat 11:5018.
           https://doi.org/10.1214/17-EJS1337SI

    Examples
    --------
    >>> from bayesdcm import TaskDCM
    >>> prior = HorseshoePrior(expected_connections=1, slab_scale=0.5)
    >>> TaskDCM(A=[[1] * 3] * 3, C=[[1], [0], [0]], priors={"A": prior}).labels(None)["A_global"]
    ['A_global']
    """

    expected_connections: float
    slab_scale: float
    slab_freedom: float = 4.0
    standard_error: float | None = None
    mean: float | None = None
    self_connections: bool = False

    title: ClassVar[str] = "horseshoe"
    centred: ClassVar[bool] = False
    single: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("expected_connections", "slab_scale", "slab_freedom"):
            self._check_positive(name)
        if self.slab_freedom <= 2:
            raise ValueError(f"slab_freedom must be above 2, got {self.slab_freedom!r}")
        if self.standard_error is not None:
            self._check_positive("standard_error")
        super().__post_init__()

    def global_scale(self, entries: int) -> float:
        """Scale of the half-Cauchy prior of the scale that all of so many entries have in common.

        ValueError if more are expected than there are.

        Parameters
        ----------
        entries : int
            How many.
        """
        rest = entries - self.expected_connections
        if rest < 0.5:
            raise ValueError(
                f"expected_connections is {self.expected_connections:g} of {entries} connections; "
                "a horseshoe prior expects that some are not there: give a smaller number, or a "
                "LaplacePrior"
            )
        error = self.standard_error
        return (
            self.expected_connections / rest * (0.1 * self.slab_scale if error is None else error)
        )

    def _slab(self) -> tuple[float, float]:
        """Shape and scale of the inverse gamma distribution of the slab's variance."""
        return self.slab_freedom / 2, self.slab_freedom / 2 * self.slab_scale**2

    def variance_of(self, entries: int) -> float:
        """By quadrature, see `PriorFamily.variance_of`."""
        return _horseshoe_variance(self.global_scale(entries), *self._slab())

    def distribution(
        self, name: str, mean: NDArray, variance: NDArray, chosen: NDArray[np.bool_]
    ) -> dist.Distribution:
        """Normal given scales that it samples, see `PriorFamily.distribution`."""
        count = int(chosen.sum())
        shared = numpyro.sample(f"{name}_global", dist.HalfCauchy(self.global_scale(count)))
        local = numpyro.sample(f"{name}_local", dist.HalfCauchy(np.ones(count)).to_event(1))
        slab = numpyro.sample(f"{name}_slab", dist.InverseGamma(*self._slab()))
        # Without squares of the scales, which are heavy-tailed.
        ratio = shared * local / jnp.sqrt(slab)
        scale = shared * local / jnp.sqrt(1 + ratio**2)
        return dist.Normal(mean, jnp.sqrt(variance).at[np.nonzero(chosen)].set(scale))

    def own_labels(self, name: str, labels: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Of the scales, see `PriorFamily.own_labels`."""
        local = [f"{name}_local{label.removeprefix(name)}" for label in labels]
        table = {f"{name}_{part}": [f"{name}_{part}"] for part in ("global", "slab")}
        return table | {f"{name}_local": local}


@lru_cache(maxsize=256)
def _horseshoe_variance(global_scale: float, shape: float, scale: float) -> float:
    """Mean of (g l)^2 c^2 / (c^2 + (g l)^2), of which that over g and l has a closed form."""
    slab = stats.invgamma(shape, scale=scale)

    def of_slab(probability: float) -> float:
        variance = slab.ppf(probability)
        # Over l it is c^2 g / (c + g).
        r = global_scale / np.sqrt(variance)
        return variance * (r**2 - 2 / np.pi * r * np.log(r)) / (1 + r**2)

    return float(integrate.quad(of_slab, 0, 1, limit=200)[0])
