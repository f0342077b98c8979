"""Weights of models, or of modes, by how well they predict what was left out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax

from bayesdcm.compare.comparable import check_comparable
from bayesdcm.compare.evidence import log_evidence
from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.method import one_of
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.results import Fit
from bayesdcm.infer.tail_shape import PARETO_LIMIT

# Rounds of the algorithm at most, and the gain of the mean log score at which it stops.
ROUNDS, GAIN = 100_000, 1e-12
# Slightly above 1: modes that predict alike share their weight.
CONCENTRATION = 1.001
WAYS = ("stacking", "evidence")


class Pointwise(NamedTuple):
    """Expected log predictive densities of data points, by a fit.

    Each point (points,) given the others (`elpd`) and with itself among the data, nats; Pareto
    k-hat of leaving it out or, for WAIC, the variance of its log-likelihood (`doubt`); and how many
    draws were left out since the model diverges there (`lost`).
    """

    elpd: NDArray[np.float64]
    log_density: NDArray[np.float64]
    doubt: NDArray[np.float64]
    lost: int


def pointwise_likelihood(fit: Any) -> NDArray[np.float64]:
    """Log-likelihood (chains, draws, points), nats, of the data; observed sites side by side.

    ValueError where the data are a single point, such as one covariance with a Wishart likelihood:
    nothing is left to predict it from.
    """
    group = fit._groups["log_likelihood"]
    values = [group[name].transpose("chain", "draw", ...).to_numpy() for name in group.data_vars]
    points = np.concatenate([v.reshape(*v.shape[:2], -1) for v in values], axis=-1)
    if points.shape[-1] == 1:
        raise ValueError(
            "the likelihood judges the data as a whole, so that no point can be left out and "
            "predicted from others; compare by 'evidence'"
        )
    return points


def pointwise_weights(fit: Any) -> NDArray[np.float64] | None:
    """Log importance weights (chains, draws) of an approximation; None for exact draws."""
    group = fit._groups["sample_stats"]
    if "log_q" not in group:
        return None
    return np.asarray((group["lp"] - group["log_q"]).transpose("chain", "draw"))


def leave_one_out(log_likelihood: ArrayLike, log_weights: ArrayLike | None = None) -> Pointwise:
    """Predictive densities of points left out, by Pareto-smoothed importance sampling.

    From log-likelihoods (chains, draws, points) and, for draws of an approximation, log importance
    weights (chains, draws), as Vehtari, Gelman and Gabry (2017), Stat Comput 27:1413,
    https://doi.org/10.1007/s11222-016-9696-4, and Magnusson et al. (2019), ICML 97:4244,
    https://proceedings.mlr.press/v97/magnusson19a.html.
    """
    likelihood = np.asarray(log_likelihood, float)
    kept, weights, lost = _finite(likelihood, log_weights)
    effective = 1.0
    if len(likelihood) > 1 and log_weights is None and not lost:
        total = likelihood.sum(-1)
        effective = min(arviz_adapter.effective_sample_size(total) / total.size, 1.0)
    ratios = weights - kept.T
    smoothed, shapes = arviz_adapter.smoothed_weights(ratios, effective)
    elpd = logsumexp(smoothed + kept.T, axis=1)
    return Pointwise(elpd, _log_mean(kept, weights), shapes, lost)


def widely_applicable(log_likelihood: ArrayLike, log_weights: ArrayLike | None = None) -> Pointwise:
    """The widely applicable information criterion by data point, as `leave_one_out`.

    As log densities: WAIC itself is minus twice their sum. Watanabe (2010), J Mach Learn Res
    11:3571. https://jmlr.org/papers/v11/watanabe10a.html
    """
    kept, weights, lost = _finite(np.asarray(log_likelihood, float), log_weights)
    share = softmax(weights)
    variance = share @ (kept - share @ kept) ** 2
    density = _log_mean(kept, weights)
    return Pointwise(density - variance, density, variance, lost)


def _log_mean(kept: NDArray, weights: NDArray) -> NDArray:
    return logsumexp(kept + weights[:, None], axis=0) - logsumexp(weights)


def _finite(likelihood: NDArray, log_weights: ArrayLike | None) -> tuple[NDArray, NDArray, int]:
    """Draws with a likelihood, (draws, points), their log weights, and how many have none."""
    flat = likelihood.reshape(-1, likelihood.shape[-1])
    weights = np.zeros(len(flat)) if log_weights is None else np.ravel(log_weights)
    finite = np.isfinite(flat).all(1) & np.isfinite(weights)
    if not finite.any():
        raise ValueError("the model diverges at every draw; see fit.diagnose()")
    weights = weights[finite]
    if log_weights is not None:
        # A few large weights count less than they would.
        weights = arviz_adapter.smoothed_weights(weights[None])[0][0]
    return flat[finite], weights, int((~finite).sum())


def stacking_weights(elpd: ArrayLike, concentration: float = 1.0) -> NDArray[np.float64]:
    """Weights of the mixture of predictive distributions that predicts best.

    Parameters
    ----------
    elpd : array_like
        Log predictive density of each point left out, nats, shape (points, models).
    concentration : float
        Of a Dirichlet prior on the weights; 1 for none, more to make them more equal.

    Returns
    -------
    ndarray
        Shape (models,); sums to 1.

    References
    ----------
    .. [1] Yao et al. (2018), Bayesian Analysis 13:917, equation 6.
           https://doi.org/10.1214/17-BA1091

    Examples
    --------
    >>> stacking_weights([[0.0, -9.0], [0.0, -9.0], [-9.0, 0.0]]).round(2).tolist()
    [0.67, 0.33]
    """
    elpd = np.asarray(elpd, float)
    points, models = elpd.shape
    relative = np.exp(elpd - elpd.max(1, keepdims=True))
    weights, before = np.full(models, 1 / models), -np.inf
    # Each round of expectation-maximisation raises the score, which has a single maximum.
    for _ in range(ROUNDS):
        predicted = relative @ weights
        score = np.log(predicted).mean()
        if score - before < GAIN:
            break
        before = score
        responsible = weights * (relative / predicted[:, None]).sum(0) + concentration - 1
        weights = responsible / responsible.sum()
    return weights


@dataclass(frozen=True, eq=False)
class StackedModes:
    """A mixture of the modes of a posterior.

    Parameters
    ----------
    fit : Fit
        The mixture as one fit, of draws taken anew from the modes; its ``modes`` are theirs.
    table : pandas.DataFrame
        One row a mode: ``weight``, ``log_evidence`` of the mode alone (NaN where not known),
        ``elpd`` (of leaving each data point out; NaN if not asked for), ``draws`` taken from it,
        ``chains`` it was found by, ``converged``, ``warning`` (whether its numbers are doubtful).
    """

    fit: Fit
    table: pd.DataFrame = field(repr=False)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the modes, shape (modes,)."""
        return self.table["weight"].to_numpy()


def stack_modes(fit: Any, by: str = "stacking", *, draws: int | None = None, seed: int = 0
) -> StackedModes:  # fmt: skip
    """Weigh the modes of a posterior, and mix them.

    Variational Laplace describes one mode, and chains of MCMC stay in the mode that they have
    reached, in numbers that say nothing of its mass. Weights are found afterwards: by stacking,
    those with which the modes' predictions together predict data left out best; or by the
    evidence of each, which is its share of the posterior's mass.

    Parameters
    ----------
    fit : Fit or sequence of Fit
        A fit with several ``modes``: by variational Laplace from many starts, or by NUTS. Or fits
        of one model to the same data, one a mode.
    by : {"stacking", "evidence"}
        How to weigh. Modes that predict alike get equal weights from stacking, however different
        their masses.
    draws : int, optional
        Draws of the mixture. None: as many as the first mode has.
    seed : int
        Of the draws, and of bridge sampling.

    Returns
    -------
    StackedModes
        Weights, the mixture as a fit, and a table of modes.

    Raises
    ------
    TypeError
        If `fit` is neither a fit nor a sequence of fits.
    ValueError
        If there is no mode, the way to weigh is unknown, or fits are of several methods, of other
        data (as in `bayesdcm.compare.compare`), or their programs are not at hand.

    References
    ----------
    .. [1] Yao, Vehtari and Gelman (2022), J Mach Learn Res 23:79.
           https://jmlr.org/papers/v23/20-1426.html
    .. [2] Baldy, Woodman, Jirsa and Hashemi (2025), J R Soc Interface 22:20240880.
           https://doi.org/10.1098/rsif.2024.0880

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     x = numpyro.sample("x", dist.Normal(0.5, 1))
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(x**2 + 0 * data, 3.0), obs=data)
    >>> fit = bayesdcm.fit(program, np.ones(3), starts=[[1.0], [-1.0]])
    >>> stack_modes(fit, by="evidence").weights.round(1).tolist()
    [0.7, 0.3]
    """
    one_of(*WAYS)("by", by)
    modes = _modes(fit)
    if not isinstance(fit, Fit):
        check_comparable(dict(enumerate(modes)), by)
    converged = np.array([bool(mode.status.get("converged", True)) for mode in modes])
    elpd, doubts = np.full(len(modes), np.nan), ~converged
    if by == "evidence":
        evidence = np.array([_mode_evidence(mode, seed) for mode in modes])
        weights = softmax(evidence)
    else:
        points = [leave_one_out(pointwise_likelihood(m), pointwise_weights(m)) for m in modes]
        elpd = np.array([part.elpd.sum() for part in points])
        doubts |= [(part.doubt > PARETO_LIMIT).any() for part in points]
        weights = stacking_weights(np.stack([part.elpd for part in points], 1), CONCENTRATION)
        # Where there is none, it is not a number.
        evidence = np.array([mode.log_evidence for mode in modes], float)
    posterior, counts = _mixture(modes, weights, draws, seed)
    table = pd.DataFrame(
        {
            "weight": weights,
            "log_evidence": evidence,
            "elpd": elpd,
            "draws": counts,
            "chains": [mode.posterior.sample.shape[0] for mode in modes],
            "converged": converged,
            "warning": doubts,
        },
        index=pd.RangeIndex(len(modes), name="mode"),
    )
    posterior = replace(
        posterior,
        # Modes that are apart have the evidence of the posterior between them.
        log_evidence=float(logsumexp(evidence)) if np.isfinite(evidence).all() else None,
        status={
            "converged": bool(converged.all()),
            "stacked_by": by,
            "mode_weights": weights.tolist(),
        },
        components=tuple(replace(mode.posterior, status=mode.status) for mode in modes),
    )
    return StackedModes(Fit(modes[0].problem, posterior, {"modes": tuple(modes)}), table)


def _mode_evidence(mode: Fit, seed: int) -> float:
    with warnings.catch_warnings():
        # Said of the mode in the table.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(log_evidence(mode, seed=seed))


def _modes(fit: Any) -> list[Fit]:
    if isinstance(fit, Fit):
        modes = list(fit.modes)
    elif isinstance(fit, Sequence) and not isinstance(fit, str):
        modes = list(fit)
    else:
        raise TypeError(f"fit must be a Fit or a sequence of them, got {type(fit).__name__}")
    if not modes:
        raise ValueError("fit must hold at least one mode, got an empty sequence")
    for i, mode in enumerate(modes):
        if not isinstance(mode, Fit):
            raise TypeError(f"fit[{i}] must be a Fit, got {type(mode).__name__}")
        if mode.method != modes[0].method:
            raise ValueError(
                f"modes must be found by one method, got {modes[0].method!r} and {mode.method!r}"
            )
        if mode.problem.sites != modes[0].problem.sites:
            raise ValueError(f"fit[{i}] must be of the same model as fit[0]; it has other sites")
        # Draws are mixed entry by entry, which names alone tell: inputs may be in another order.
        pairs = zip(mode.problem.flat_labels, modes[0].problem.flat_labels, strict=True)
        other = next((pair for pair in pairs if pair[0] != pair[1]), None)
        if other is not None:
            raise ValueError(
                f"fit[{i}] must have the parameters of fit[0] in the same order; it has "
                f"{other[0]!r} where {other[1]!r} was expected. Fit all to one data set, or put "
                "regions and inputs in one order first (data.reordered)"
            )
    method, gaussian = modes[0].posterior.method, [mode.posterior.gaussian for mode in modes]
    if len(modes) > 1 and not method.exact and any(moments is None for moments in gaussian):
        raise ValueError(
            f"fits by {method.name!r} keep draws of their approximation, not the density elsewhere "
            "that a mixture needs; mix fits by 'laplace' or 'nuts'"
        )
    return modes


def _mixture(
    modes: list[Fit], weights: NDArray, draws: int | None, seed: int
) -> tuple[Posterior, list[int]]:
    """Draws of all modes in proportion to the weights, in random order."""
    random = np.random.default_rng(seed)
    samples = [mode.posterior.sample for mode in modes]
    flat = [sample.reshape(-1, sample.shape[-1]) for sample in samples]
    total = len(flat[0]) if draws is None else int(draws)
    chains = min(sample.shape[0] for sample in samples)
    chains = chains if total % chains == 0 else 1
    # As many of each as its weight says, up to one: less noise than drawing the mode, too.
    steps = np.floor(np.cumsum(np.r_[0, weights]) * total + random.uniform()).astype(int)
    counts = np.diff(steps)
    counts[int(np.argmax(weights))] += total - counts.sum()
    order = random.permutation(total)
    places = []
    for available, count in zip(map(len, flat), counts, strict=True):
        # Without repeating any, as far as there are enough.
        rounds = [random.permutation(available) for _ in range(-(-int(count) // available))]
        places.append(np.concatenate([np.zeros(0, int), *rounds])[:count])

    def mixed(parts: list[NDArray]) -> NDArray:
        taken = [part[place] for part, place in zip(parts, places, strict=True)]
        return np.concatenate(taken)[order].reshape(chains, -1, *parts[0].shape[1:])

    drawn = mixed(flat)
    statistics = [mode.posterior.statistics for mode in modes]
    posterior = Posterior(
        modes[0].posterior.method,
        draws=drawn,
        log_q=_mixed_density(modes, weights, drawn),
        statistics={k: mixed([np.ravel(s[k]) for s in statistics]) for k in statistics[0]},
        seed=seed,
    )
    return posterior, counts.tolist()


def _mixed_density(modes: list[Fit], weights: NDArray, points: NDArray) -> NDArray | None:
    """Log density of a mixture of Gaussians at points (chains, draws, size)."""
    if any(mode.posterior.gaussian is None for mode in modes):
        return None
    densities = [replace(mode.posterior, draws=points).density for mode in modes]
    return logsumexp(densities, axis=0, b=weights[:, None, None])
