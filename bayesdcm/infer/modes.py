"""Distinct modes of a posterior: optima of variational Laplace, groups of chains of NUTS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.convergence import chain_status, split_r_hat
from bayesdcm.infer.laplace import LaplaceResult
from bayesdcm.infer.posterior import Posterior

# Optima are one where the distance between them is less than this many posterior standard
# deviations (Mahalanobis): SPM's rule stops within about half of one of the optimum.
NEAREST = 2.0
# Chains that agree up to this R-hat have been in the same places. Two that stay in modes a
# standard deviation apart have 1.15.
SAME_PLACE = 1.1


def distinct_optima(
    mean: NDArray, covariance: NDArray, free_energy: NDArray, nearest: float = NEAREST
) -> list[int]:
    """Places of optima that are not the same as a better one, the best first.

    Of means (optima, size), covariances (optima, size, size) and free energies (optima,), nats;
    those not finite are left out.
    """
    kept: list[int] = []
    for place in np.argsort(-free_energy, kind="stable"):
        if np.isfinite(free_energy[place]) and all(
            _distance(mean[place] - mean[other], covariance[place], covariance[other]) >= nearest
            for other in kept
        ):
            kept.append(int(place))
    return kept


def _distance(shift: NDArray, covariance: NDArray, other: NDArray) -> float:
    return float(np.sqrt(shift @ np.linalg.solve((covariance + other) / 2, shift)))


def chain_groups(draws: NDArray, same_place: float = SAME_PLACE) -> list[list[int]]:
    """Groups of chains that have been in the same places, the largest first.

    Draws have shape (chains, draws, size). What agrees with one chain of a group belongs to it.
    """
    groups: list[list[int]] = []
    for chain in range(len(draws)):
        near = [g for g in groups if any(_agree(draws, chain, c, same_place) for c in g)]
        merged = sorted(sum(near, [chain]))
        groups = [g for g in groups if g not in near] + [merged]
    return sorted(groups, key=lambda group: (-len(group), group))


def _agree(draws: NDArray, chain: int, other: int, same_place: float) -> bool:
    return bool(split_r_hat(draws[[chain, other]]).max() <= same_place)


def posterior_modes(posterior: Posterior) -> tuple[Posterior, ...]:
    """Posteriors of the distinct modes that a posterior has, each alone.

    Of variational Laplace, the best optimum first, which is `posterior` itself; of NUTS, the group
    of most chains first. `posterior` alone where there is one, or no more is known.
    """
    if posterior.components:
        return tuple(posterior.components)
    if isinstance(posterior.optima, LaplaceResult) and posterior.gaussian is not None:
        return _optima(posterior, posterior.optima)
    if posterior.method.exact and posterior.draws is not None:
        return _groups_of_chains(posterior)
    return (posterior,)


def optima_apart(optima: LaplaceResult) -> tuple[NDArray, NDArray, list[int]]:
    """Distinct optima of variational Laplace from several starts.

    Parameters
    ----------
    optima : LaplaceResult
        With a leading axis of starts.

    Returns
    -------
    mean : ndarray
        Of all starts, (starts, size), precisions included.
    covariance : ndarray
        (starts, size, size).
    places : list of int
        Which of them are distinct, the best first.
    """
    n = optima.mean.shape[1]
    mean = np.concatenate([optima.mean, optima.log_precision], axis=1)
    covariance = np.zeros((*mean.shape, mean.shape[1]))
    covariance[:, :n, :n] = optima.covariance
    covariance[:, n:, n:] = optima.log_precision_covariance
    covariance = (covariance + np.swapaxes(covariance, 1, 2)) / 2
    energy = np.where(optima.failed, -np.inf, optima.free_energy)
    best = int(np.argmax(energy))
    # What has not converged is no optimum; the best one counts nevertheless.
    kept = np.where(optima.converged | (np.arange(len(energy)) == best), energy, -np.inf)
    return mean, covariance, distinct_optima(mean, covariance, kept)


def _optima(posterior: Posterior, optima: LaplaceResult) -> tuple[Posterior, ...]:
    """All distinct optima, of results with a leading axis of starts."""
    mean, covariance, places = optima_apart(optima)
    others = []
    for place in places[1:]:
        mode = replace(
            posterior,
            gaussian=(mean[place], covariance[place]),
            log_evidence=float(optima.free_energy[place]),
            trace={},
            status={
                "converged": True,
                "n_iterations": int(optima.n_iterations[place]),
                "recoveries": int(optima.recoveries[place]),
                "accuracy": float(optima.accuracy[place]),
                "complexity": float(optima.complexity[place]),
            },
            optima=None,
        )
        others.append(mode)
    return (posterior, *others)


def _groups_of_chains(posterior: Posterior) -> tuple[Posterior, ...]:
    groups = chain_groups(posterior.draws)
    if len(groups) == 1:
        return (posterior,)
    modes = []
    for group in groups:
        draws = posterior.draws[group]
        statistics = {name: values[group] for name, values in posterior.statistics.items()}
        trace = {name: values[group] for name, values in posterior.trace.items()}
        complete = posterior.status.get("complete", True)
        status = chain_status(draws, statistics, complete) | {"chains": group}
        modes.append(
            replace(posterior, draws=draws, statistics=statistics, trace=trace, status=status)
        )
    return tuple(modes)
