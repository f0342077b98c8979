"""Bayesian model reduction: evidence and posterior of nested models from one fit of the full one.

Models that differ only in their priors have the same likelihood. Where prior and posterior of the
larger one are Gaussian, evidence and posterior of the smaller one follow in closed form, without
the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from bayesdcm.compare.gaussian_fit import gaussian_of
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import FREE, Problem
from bayesdcm.infer.results import Fit

# Added to matrices before they are inverted, and least relative size of a direction of the prior
# that counts; both as in SPM.
JITTER = 1e-8
TOLERANCE = 1e-6
# Of the normal distribution at 95 %.
QUANTILE = 1.6448536269514722


class Reduced(NamedTuple):
    """A Gaussian posterior under another prior.

    Attributes
    ----------
    change : ()
        Log-evidence of the reduced model minus that of the full one, nats.
    mean : (size,)
        Posterior mean.
    covariance : (size, size)
        Posterior covariance.
    """

    change: jax.Array
    mean: jax.Array
    covariance: jax.Array


def reduce_gaussian(
    mean: ArrayLike,
    covariance: ArrayLike,
    prior_mean: ArrayLike,
    prior_covariance: ArrayLike,
    reduced_mean: ArrayLike,
    reduced_covariance: ArrayLike,
    tolerance: float = TOLERANCE,
) -> Reduced:
    """Log-evidence and posterior of a model with another prior, from the full model's.

    The steps are those of SPM (``spm_log_evidence_reduce``). A pure function of arrays of fixed
    shape: `jax.vmap` over the reduced priors scores many models at once.

    Parameters
    ----------
    mean, covariance : array_like
        Posterior of the full model, shapes (size,) and (size, size).
    prior_mean, prior_covariance : array_like
        Its prior, same shapes.
    reduced_mean, reduced_covariance : array_like
        Prior of the reduced model, same shapes. Zero variance switches a parameter off.
    tolerance : float
        Directions of the full prior of which the squared variance is smaller than this, relative
        to the mean square, keep their reduced prior mean; 1e-6 as in SPM.

    Returns
    -------
    Reduced
        Change of log-evidence, mean and covariance.

    Raises
    ------
    ValueError
        If shapes disagree.

    References
    ----------
    .. [1] Friston and Penny (2011), NeuroImage 56:2089.
           https://doi.org/10.1016/j.neuroimage.2011.03.062

    Examples
    --------
    >>> import numpy as np
    >>> one = np.eye(1)
    >>> reduced = reduce_gaussian([0.0], 0.25 * one, [0.0], one, [0.0], 0 * one)
    >>> round(float(reduced.change), 3)  # log 2: what one did not need is gone
    0.693
    """
    size = np.size(mean)
    means = _of_shape((size,), mean=mean, prior_mean=prior_mean, reduced_mean=reduced_mean)
    covariances = _of_shape(
        (size, size),
        covariance=covariance,
        prior_covariance=prior_covariance,
        reduced_covariance=reduced_covariance,
    )
    return _reduced(means, covariances, tolerance)


def _of_shape(shape: tuple[int, ...], **given: ArrayLike) -> list[ArrayLike]:
    """Arrays, all of which must have this shape."""
    arrays = {
        name: value if isinstance(value, jax.Array) else np.asarray(value, float)
        for name, value in given.items()
    }
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(
                f"{name} must have shape {shape}, since mean has {shape[0]} entries, got shape "
                f"{array.shape}"
            )
    return list(arrays.values())


@jax.jit
def _reduced(means: list[jax.Array], covariances: list[jax.Array], tolerance: float) -> Reduced:
    """`reduce_gaussian` of the posterior, the prior and the reduced prior."""
    means, covariances = (jnp.stack(each).astype(float) for each in (means, covariances))
    basis, kept = reduced_directions(covariances[1], tolerance)
    reduced = reduce_within(means @ basis, basis.T @ covariances @ basis, kept, JITTER)
    used = basis * kept
    r = means[2]
    return Reduced(
        reduced.change,
        used @ reduced.mean + r - used @ (used.T @ r),
        used @ reduced.covariance @ used.T,
    )


def reduce_within(
    means: jax.Array, covariances: jax.Array, used: jax.Array, jitter: float
) -> Reduced:
    """`reduce_gaussian` in the directions `used` (size,), the others left alone.

    Means (3, size) and covariances (3, size, size) are of the posterior, the prior and the reduced
    prior; the result has mean 0 and the identity in other directions.
    """

    # Where many models are reduced at once, XLA can hang on several calls of LAPACK side by side;
    # hence they are stacked.
    def inverse(matrices: jax.Array) -> jax.Array:
        within = jnp.where(jnp.outer(used, used), matrices, 0.0) + jnp.diag(~used * 1.0)
        inverted = jnp.linalg.inv(within + jitter * jnp.diag(used * 1.0))
        return (inverted + inverted.mT) / 2

    q, p, r = jnp.where(used, means, 0.0)
    Q, P, R = inverse(covariances)
    S, back = inverse(jnp.stack([Q + R - P, P]))
    information = Q @ q + R @ r - P @ p
    log_determinant = jnp.linalg.slogdet(jnp.stack([Q, R, S, back]))[1].sum()
    quadratic = q @ Q @ q + r @ R @ r - p @ P @ p - information @ S @ information
    return Reduced((log_determinant - quadratic) / 2, S @ information, S)


def reduced_directions(
    covariance: jax.Array, tolerance: float = TOLERANCE
) -> tuple[jax.Array, jax.Array]:
    """Orthonormal directions of a covariance (size, size), in columns, and which of them count."""
    values, vectors = jnp.linalg.eigh(covariance)
    squared = values**2
    number = (covariance != 0).any(0).sum()
    return vectors, (squared * number > tolerance * squared.sum()) & (values > 0)


def with_moments(
    mean: NDArray, covariance: NDArray, moments: Mapping[int, tuple[float, float]]
) -> tuple[NDArray, NDArray]:
    """Copies in which some entries have these means and variances, and no correlation."""
    mean, covariance = np.array(mean), np.array(covariance)
    for i, (centre, variance) in moments.items():
        covariance[i] = covariance[:, i] = 0.0
        mean[i], covariance[i, i] = centre, variance
    return mean, covariance


def with_interval(table: pd.DataFrame) -> pd.DataFrame:
    """A table of normal posteriors with interval, and probability of the sign of the mean."""
    table["eti_5%"] = table["mean"] - QUANTILE * table["sd"]
    table["eti_95%"] = table["mean"] + QUANTILE * table["sd"]
    table["probability"] = ndtr(table["mean"].abs() / table["sd"].where(table["sd"] > 0))
    return table


@dataclass(frozen=True, eq=False)
class ReducedFit:
    """Posterior and evidence of a model nested in a fitted one; made by `reduce`.

    Parameters
    ----------
    log_evidence : float
        Log-evidence, nats; comparable with that of the full fit.
    change : float
        Log-evidence minus that of the full fit.
    off : mapping of str to float
        Parameters that were switched off, with the values at which they are fixed.
    mean, sd : mapping of str to ndarray
        Posterior means and standard deviations by site, as those of `bayesdcm.Fit`.
    covariance : pandas.DataFrame
        Posterior covariance of the full model's free parameters, labelled; zero for those that
        are off.
    centre : pandas.Series
        Posterior means of the same parameters, labelled.
    description : str
        The full model in one line.
    method : str
        How it was made, as `bayesdcm.Fit` says.
    """

    log_evidence: float
    change: float
    off: Mapping[str, float]
    mean: Mapping[str, NDArray]
    sd: Mapping[str, NDArray]
    covariance: pd.DataFrame = field(repr=False)
    centre: pd.Series = field(repr=False)
    description: str
    method: str = "reduction"

    def __repr__(self) -> str:
        return (
            f"ReducedFit({len(self.off)} parameters off, log evidence {self.log_evidence:.2f} "
            f"({self.change:+.2f}); {self.description})"
        )

    def summary(self) -> pd.DataFrame:
        """Posterior of every parameter that is still free, one row each.

        Returns
        -------
        pandas.DataFrame
            Columns ``mean``, ``sd``, ``eti_5%``, ``eti_95%`` (equal-tailed interval) and
            ``probability`` (that the parameter has the sign of its mean).
        """
        sd = np.sqrt(np.diagonal(self.covariance))
        table = pd.DataFrame({"mean": self.centre, "sd": sd})[sd > 0]
        return with_interval(table.rename_axis("parameter"))


def reduce(
    fit: Fit,
    off: str | Iterable[str] | Mapping[str, float] = (),
    *,
    priors: Mapping[str, tuple[float, float]] | None = None,
) -> ReducedFit:
    """Evidence and posterior of a nested model, from the fit of the full one, in milliseconds.

    Parameters
    ----------
    fit : Fit
        Made by ``fit(..., method="laplace")``, with normal priors.
    off : str, sequence of str, or mapping of str to float
        What to switch off: labels as in ``fit.summary()``, such as ``"B[deviant, STG, A1]"``, or
        names of sites, such as ``"B"``, for all of their entries. They are fixed at the values of
        a mapping; otherwise at 0, and connections whose strength is a logarithm at the value that
        the model has for absent ones. Other logarithms need a value: 0 is no absence.
    priors : mapping of str to tuple of float, optional
        Normal priors (mean, variance) that labels or sites have in the reduced model instead.

    Returns
    -------
    ReducedFit
        With ``log_evidence``, ``mean``, ``sd``, ``covariance`` and ``summary()``.

    Raises
    ------
    TypeError
        If `fit` is not a fit, or `off` and `priors` do not hold labels.
    ValueError
        If a label is unknown or named twice, the fit was not made by variational Laplace, its
        priors are not normal, a value is missing or not finite, or the new
        priors are so much wider than the old ones that no posterior follows.

    References
    ----------
    .. [1] Friston et al. (2016), NeuroImage 128:413.
           https://doi.org/10.1016/j.neuroimage.2015.11.015

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     slope = numpyro.sample("slope", dist.Normal(0, 1))
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(slope * np.arange(3.0), 0.0), obs=data)
    >>> full = bayesdcm.fit(program, np.array([0.1, -0.2, 0.1]))
    >>> bool(reduce(full, off=["slope"]).log_evidence > full.log_evidence)
    True
    """
    gaussian = gaussian_of(fit)
    changed = prior_changes(fit.problem, off, priors or {})
    mean, covariance = with_moments(gaussian.prior_mean, gaussian.prior_covariance, changed)
    unit, square = gaussian.unit, np.outer(gaussian.unit, gaussian.unit)
    reduced = reduce_gaussian(*gaussian.scaled, mean / unit, covariance / square, 0.0)
    fixed = {i: changed[i] for i in sorted(changed) if changed[i][1] == 0}
    centre, covariance = with_moments(reduced.mean * unit, reduced.covariance * square, fixed)
    if not np.isfinite(centre).all() or (np.linalg.eigvalsh(covariance)[0] < -JITTER):
        raise ValueError(
            "priors are so much wider than those of the fit that no posterior follows from it; "
            "fit the model with these priors, and reduce that"
        )
    change, labels = float(reduced.change), fit.problem.flat_labels
    moments = Fit(fit.problem, Posterior(fit.posterior.method, gaussian=(centre, covariance)))
    return ReducedFit(
        fit.log_evidence + change,
        change,
        {labels[i]: value for i, (value, _) in fixed.items()},
        moments.mean,
        moments.sd,
        pd.DataFrame(covariance, index=labels, columns=labels),
        pd.Series(centre, index=labels),
        fit.description,
    )


def prior_changes(
    problem: Problem,
    off: str | Iterable[str] | Mapping[str, float],
    priors: Mapping[str, tuple[float, float]],
) -> dict[int, tuple[float, float]]:
    """Mean and variance (0 for what is off) of the new priors by position in the flat vector.

    Arguments as those of `reduce`.
    """
    absent = _absent(problem)
    wanted: list[tuple[str, str, tuple[float, float]]] = []
    for name in [off] if isinstance(off, str) else off:
        if isinstance(off, Mapping):
            value = _number("off", name, off[name])
        else:
            value = absent.get(name.partition("[")[0], 0.0) if isinstance(name, str) else 0.0
        if value is None:
            raise ValueError(
                f"off names {name!r}, the logarithm of a scaling: at 0 it is at its prior mean and "
                f"not absent; to fix it there, or elsewhere, give the value, off={{{name!r}: 0.0}}"
            )
        wanted.append(("off", name, (value, 0.0)))
    for name, moments in priors.items():
        if not isinstance(moments, tuple | list) or len(moments) != 2:
            raise ValueError(f"priors[{name!r}] must be (mean, variance), got {moments!r}")
        mean, variance = (_number("priors", name, value) for value in moments)
        if variance < 0:
            raise ValueError(f"priors[{name!r}] must have a variance of at least 0, got {variance}")
        wanted.append(("priors", name, (mean, variance)))
    positions = _positions(problem)
    changes: dict[int, tuple[float, float]] = {}
    for argument, name, moments in wanted:
        if not isinstance(name, str):
            raise TypeError(f"{argument} must hold labels such as 'B[1, 0]', got {name!r}")
        if name not in positions:
            raise ValueError(
                f"{argument} names {name!r}, which is no free parameter of the fit; expected one "
                f"of {', '.join(map(repr, positions))}"
            )
        for i in positions[name]:
            if i in changes:
                raise ValueError(
                    f"{problem.flat_labels[i]!r} is named twice in off and priors; name it once"
                )
            changes[i] = moments
    return changes


def _number(argument: str, name: str, value: float) -> float:
    if not np.isscalar(value) or not np.isreal(value) or not np.isfinite(value):
        raise ValueError(f"{argument}[{name!r}] must hold finite numbers, got {value!r}")
    return float(value)


def _absent(problem: Problem) -> dict[str, float | None]:
    """By site of a model that holds log scalings, where absent entries are; None if unknown."""
    absent: dict[str, float | None] = {}
    priors = getattr(getattr(problem.source, "model", None), "priors", ())
    # Where connections are absent follows from the structure, not from values that were fixed.
    for prior in getattr(priors, "own", priors):
        if not prior.unit.startswith("log scaling") or not prior.free.any():
            continue
        free, constant = prior.mean[prior.free], prior.mean[~prior.free]
        known = constant.size and constant.min() < free.min()
        for name in (prior.name, prior.name + FREE):
            absent[name] = float(constant.min()) if known else None
    return absent


def _positions(problem: Problem) -> dict[str, list[int]]:
    """Positions in the flat vector by label, and by name of a site."""
    positions: dict[str, list[int]] = {}
    for site, places in problem.sites.places.items():
        positions[site] = positions[site.removesuffix(FREE)] = list(places)
        for i, label in zip(places, problem.labels[site], strict=True):
            positions[label] = [i]
    return positions
