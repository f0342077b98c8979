"""Numbers that figures show, read from the ArviZ object of a fit: one just made or a loaded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import ndtr

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.infer.block_covariance import BlockCovariance
from bayesdcm.infer.divergence import finite_draws

# Share of its spread by which an affine function of parameters may differ from one: rounding.
AFFINE = 1e-7
# Below this the spread of the prior draws of a constant is rounding error.
CONSTANT = 1e-9
# Arrays of connections whose diagonal is of nodes to themselves; kinds of connection have none.
SELF_CONNECTED = ("A", "effective_connectivity", "modulated_connectivity")


@dataclass(frozen=True, eq=False)
class Quantity:
    """Posterior of one array of a model."""

    name: str
    mean: NDArray
    probability: NDArray  # of the sign that an entry has most likely
    free: NDArray  # entries that have a prior distribution; the others are constants
    fixed: NDArray  # constants that act: self-connections; others are connections that are absent
    sign_open: NDArray  # entries to which the prior gives both signs
    dims: tuple[str, ...]
    names: Mapping[str, list[str]]  # along each axis


class Marginals:
    """Means, and probabilities of signs, of what follows from the posterior of a fit.

    Of affine functions of the parameters of a normal posterior they are those of their normal
    distributions, as tables have them; of all else, those of draws.

    >>> import bayesdcm, numpyro, numpyro.distributions as dist
    >>> def program(data):
    ...     mean = numpyro.sample("mean", dist.Normal(0, 1))
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(mean + 0 * data, 0.0), obs=data)
    >>> fit = bayesdcm.fit(program, np.zeros(1), draws=50)
    >>> mean, probability = Marginals(fit).of(1 + 2 * flat_draws(fit.idata.posterior["mean"]))
    >>> round(float(mean), 3), round(float(probability), 3)  # N(1, 2)
    (1.0, 0.76)
    """

    def __init__(self, fit: Any) -> None:
        posterior = fit.posterior
        self._sample = None
        if posterior.gaussian is not None and posterior.draws is None:
            sample, (self._centre, self._covariance) = posterior.flat_sample, posterior.gaussian
            if len(sample) > sample.shape[1] + 1:
                self._sample = np.column_stack([np.ones(len(sample)), sample])
                # Columns of one size, so that small parameters count as large ones.
                self._sizes = np.sqrt((self._sample**2).mean(0))
                self._orthogonal, self._triangle = np.linalg.qr(self._sample / self._sizes)
                if isinstance(self._covariance, BlockCovariance):
                    self._covariance = self._covariance.dense()

    def normal(self, draws: NDArray) -> tuple[NDArray, NDArray]:
        """Means and standard deviations of draws (draws, ...) of what is normal, else NaN."""
        shape = draws.shape[1:]
        mean, sd = np.full(shape, np.nan), np.full(shape, np.nan)
        if self._sample is None or len(draws) != len(self._sample):
            return mean, sd
        flat = draws.reshape(len(draws), -1)
        solved = solve_triangular(self._triangle, self._orthogonal.T @ flat)
        coefficients = solved / self._sizes[:, None]
        away = np.abs(flat - self._sample @ coefficients).max(0, initial=0)
        affine = (away <= AFFINE * flat.std(0)) & (np.ptp(flat, axis=0) > 0)
        weights = coefficients[1:, affine]
        places = affine.reshape(shape)
        mean[places] = coefficients[0, affine] + self._centre @ weights
        sd[places] = np.sqrt((weights * (self._covariance @ weights)).sum(0))
        return mean, sd

    def of(self, draws: NDArray) -> tuple[NDArray, NDArray]:
        """Means and probabilities of the likelier sign, of draws (draws, ...), (...) each."""
        mean, sd = self.normal(draws)
        counted = np.maximum((draws > 0).mean(0), (draws < 0).mean(0))
        with np.errstate(invalid="ignore"):
            probability = np.where(np.isnan(sd), counted, ndtr(np.abs(mean) / sd))
        return np.where(np.isnan(mean), draws.mean(0), mean), probability


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
    mean, probability = Marginals(fit).of(draws)
    free = np.ptp(prior, axis=0) > CONSTANT
    return Quantity(
        name=name,
        mean=mean,
        probability=probability,
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
