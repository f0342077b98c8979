"""Bridge sampling: the log-evidence of a posterior that is known by its draws.

Half of the draws fit a normal proposal. The other half, and draws of that proposal, are each
weighed by the optimal bridge between both densities; the two halves then change roles, and the two
estimates are averaged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_expit, logsumexp

from bayesdcm.compare.estimate import (
    FEWEST_DRAWS,
    Evidence,
    Proposal,
    Target,
    effective_draws,
    large_error,
    relative_variance,
)
from bayesdcm.infer.problem import Problem

# Draws that each half must have for each parameter, so that its covariance says something.
DRAWS_A_PARAMETER = 3
# When an estimate is not to be trusted.
SMALLEST_OVERLAP, DISAGREEMENT = 0.02, 4.0


class Bridge(NamedTuple):
    """The optimal bridge between two sets of draws.

    The log of the ratio of the normalising constants with its squared standard error, the
    effective number of draws of the posterior, and the share of the two densities that they have in
    common (1: equal densities).
    """

    log_ratio: float
    variance: float
    effective: float
    overlap: float


def optimal_bridge(posterior: NDArray, proposal: NDArray) -> Bridge:
    """Log ratio of two normalising constants by the optimal bridge.

    Both arrays hold the log ratio of the densities (posterior's unnormalised over proposal's): at
    chains of draws of the posterior (chains, draws), and at independent draws of the proposal
    (draws,). The bridge is equation 4.1 of Meng and Wong (1996),
    https://www3.stat.sinica.edu.tw/statistica/j6n4/j6n43/j6n43.htm; its variance allows for the
    autocorrelation of chains, Fruehwirth-Schnatter (2004),
    https://doi.org/10.1111/j.1368-423X.2004.00125.x.
    """
    reached = proposal[np.isfinite(proposal)]
    if not len(reached) or not np.isfinite(posterior).all():
        raise ValueError(
            "draws must have a finite density under both distributions, but "
            f"{len(reached)} of {len(proposal)} draws of the proposal and "
            f"{np.isfinite(posterior).sum()} of {posterior.size} draws of the posterior do; draw "
            "more, and check the fit with fit.diagnose()"
        )
    effective = effective_draws(posterior)
    share = effective / (effective + len(proposal))
    odds = np.log(share) - np.log1p(-share)

    # With r the ratio and s the shares: weights r g / (s1 p + s2 r g) and p / (s1 p + s2 r g) at
    # draws of p and g, whose means are equal at the optimum. Their ratio increases with r.
    def difference(log_ratio: float) -> float:
        of_posterior = logsumexp(log_expit(log_ratio - posterior - odds))
        of_proposal = logsumexp(log_expit(proposal - log_ratio + odds))
        counts = np.log(posterior.size * (1 - share)) - np.log(len(proposal) * share)
        return float(of_posterior - of_proposal - counts)

    ratios = np.concatenate([posterior.ravel(), reached])
    low, high = ratios.min() - 50.0, ratios.max() + 50.0
    log_ratio = brentq(difference, low, high, xtol=1e-10)
    of_posterior = expit(log_ratio - posterior - odds) / (1 - share)
    of_proposal = expit(proposal - log_ratio + odds) / share
    variance = relative_variance(of_posterior) + relative_variance(of_proposal[None])
    # Under the optimal bridge, both means are the overlap of the densities.
    overlap = float(min(of_posterior.mean(), 1.0))
    return Bridge(float(log_ratio), variance, effective, overlap)


def shrunk_covariance(draws: NDArray) -> NDArray[np.float64]:
    """Covariance of draws (chains, draws, size), drawn to a multiple of the identity where few.

    Ledoit and Wolf (2004), J Multivar Anal 88:365. https://doi.org/10.1016/S0047-259X(03)00096-4
    """
    size = draws.shape[-1]
    centred = draws - draws.mean((0, 1))
    norm = (centred**2).sum(-1)
    flat = centred.reshape(-1, size)
    sample = flat.T @ flat / len(flat)
    target = np.trace(sample) / size * np.eye(size)
    spread = ((sample - target) ** 2).sum()
    # Mean squared distance of single draws' products from their mean, over the number of draws.
    # That of independent ones: chains are slowest in the squares.
    error = ((norm**2).mean() - (sample**2).sum()) / effective_draws(norm)
    share = error / spread if error < spread else 1.0
    return share * target + (1 - share) * sample


def _proposal(target: Target, draws: NDArray, scale: NDArray, warp: bool) -> Proposal:
    """With the moments of draws (chains, draws, size), in units of the factor `scale`."""
    mean = draws.mean((0, 1))
    white = (draws - mean) @ np.linalg.inv(scale).T
    return Proposal(target, mean, scale @ np.linalg.cholesky(shrunk_covariance(white)), warp)


def bridge_sampling(
    problem: Problem,
    draws: NDArray,
    *,
    scale: NDArray | None = None,
    seed: int = 0,
    proposals: int | None = None,
    warp: bool = False,
) -> Evidence:
    """Log-evidence of a program from draws of its posterior.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    draws : ndarray
        Flat, unconstrained draws of the posterior, shape (chains, draws, size).
    scale : ndarray, optional
        A guess at the posterior's covariance, shape (size, size), up to a factor: where draws
        are few for the number of parameters, proposals are drawn towards it. None: variances.
    seed : int
        Of the draws of the proposal.
    proposals : int, optional
        Draws of each half's proposal. None: as many as half the draws of the posterior, and at
        least 1000.
    warp : bool
        Mirror the posterior about its mean (Warp-III): more in common with a normal proposal
        where it is skewed, for twice the evaluations.

    Returns
    -------
    Evidence
        ``details`` has ``halves`` (the two estimates), ``effective_draws`` (of both), ``overlap``
        (of posterior and proposal, the lesser of both), ``proposals``, ``warp``, and
        ``collapsed``, observer sites that were integrated out in closed form.

    Raises
    ------
    ValueError
        If there are too few draws for a proposal, or proposal and posterior do not overlap.

    References
    ----------
    .. [1] Gronau et al. (2017), J Math Psychol 81:80. https://doi.org/10.1016/j.jmp.2017.09.005
    .. [2] Meng and Schilling (2002), J Comput Graph Stat 11:552.
           https://doi.org/10.1198/106186002457

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist
    >>> from bayesdcm.infer.problem import make_problem
    >>> def program(data):
    ...     x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("y", dist.Normal(x, 1.0), obs=data)
    >>> draws = np.random.default_rng(0).normal(0.0, 0.5**0.5, size=(4, 500, 1))
    >>> round(float(bridge_sampling(make_problem(program, 0.0), draws)), 2)  # N(0; 0, 2)
    -1.27
    """
    target = Target(problem, draws.mean((0, 1)))
    draws = draws[..., target.places]
    chains, length, size = draws.shape
    half = length // 2
    if chains * half < DRAWS_A_PARAMETER * (size + 1):
        raise ValueError(
            f"bridge sampling of {size} parameters needs at least "
            f"{2 * DRAWS_A_PARAMETER * (size + 1)} draws, got {chains * length}; raise draws"
        )
    if proposals is None:
        proposals = max(chains * half, 1000)
    if scale is None:
        scale = np.diag(draws.reshape(-1, size).var(0))
    else:
        scale = scale[np.ix_(target.places, target.places)]
    factor = np.linalg.cholesky(scale)
    random = np.random.default_rng(seed)
    parts = slice(0, half), slice(length - half, length)
    bridges = []
    for fitted, weighed in (parts, parts[::-1]):
        proposal = _proposal(target, draws[:, fitted], factor, warp)
        ratio = proposal.log_ratio(draws[:, weighed].reshape(-1, size))
        of_proposal = proposal.log_ratio(proposal.draw(proposals, random))
        bridges.append(optimal_bridge(ratio.reshape(chains, half), of_proposal))
    halves = np.array([bridge.log_ratio for bridge in bridges])
    # Each draw serves as a sample once, and once to fit a proposal, which does not move the
    # estimate on average: the halves' errors are independent.
    error = float(np.sqrt(sum(bridge.variance for bridge in bridges)) / 2)
    details = {
        "halves": halves.tolist(),
        "effective_draws": [bridge.effective for bridge in bridges],
        "overlap": min(bridge.overlap for bridge in bridges),
        "proposals": proposals,
        "warp": warp,
        "collapsed": list(target.collapsed),
    }
    problems = _problems(halves, error, details)
    return Evidence(float(halves.mean()), error, "bridge", details, problems)


def _problems(halves: NDArray, error: float, details: dict) -> tuple[str, ...]:
    problems = large_error(error, "Raise draws, or give warp=True where the posterior is skewed.")
    if min(details["effective_draws"]) < FEWEST_DRAWS:
        problems.append(
            f"Half of the draws are worth {min(details['effective_draws']):.0f} independent ones "
            f"(should be at least {FEWEST_DRAWS}). Raise draws."
        )
    if details["overlap"] < SMALLEST_OVERLAP:
        problems.append(
            f"Posterior and proposal have {100 * details['overlap']:.1f} % in common (should be "
            f"at least {100 * SMALLEST_OVERLAP:.0f} %). Raise draws, or give warp=True."
        )
    # The difference of two estimates has twice the error of their mean.
    gap = float(np.ptp(halves))
    if gap > DISAGREEMENT * 2 * error:
        problems.append(
            f"The two halves of the draws disagree by {gap:.2f} nat. Chains have not converged: "
            "see fit.diagnose()."
        )
    return tuple(problems)
