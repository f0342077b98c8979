"""Whether chains agree and are long enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from bayesdcm.infer.findings import add, listed

R_HAT_LIMIT = 1.01
ESS_LIMIT = 400
ENERGY_LIMIT = 0.3


def split_r_hat(draws: NDArray) -> NDArray:
    """Rank-normalised split R-hat of each parameter, the larger of bulk and tails, (parameters,).

    Draws have shape (chains, draws, parameters). Halves of a chain count as chains, so one chain is
    enough to see drift; infinite for fewer than four draws. Vehtari et al. (2021), Bayesian
    Analysis 16:667, https://doi.org/10.1214/20-BA1221
    """
    length = draws.shape[1] // 2
    if length < 2:
        return np.full(draws.shape[2], np.inf)
    # The middle one of an odd number of draws belongs to neither half.
    halves = np.concatenate([draws[:, :length], draws[:, -length:]])
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    return np.maximum(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(folded)))


def _normal_scores(draws: NDArray) -> NDArray:
    flat = draws.reshape(-1, draws.shape[2])
    ranks = rankdata(flat, axis=0)
    return ndtri((ranks - 3 / 8) / (len(flat) + 1 / 4)).reshape(draws.shape)


def _r_hat(draws: NDArray) -> NDArray:
    length = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean(axis=0)
    between = draws.mean(axis=1).var(axis=0, ddof=1)
    # Draws that are all equal have no spread to compare.
    safe = np.where(within > 0, within, 1.0)
    ratio = (length - 1) / length + between / safe
    return np.sqrt(np.where(within > 0, ratio, np.inf))


def chain_status(
    draws: NDArray, statistics: Mapping[str, NDArray], complete: bool
) -> dict[str, Any]:
    """What the status of a fit says of chains (chains, draws, parameters)."""
    divergences, r_hat = (
        int(np.sum(statistics.get("diverging", 0))),
        float(split_r_hat(draws).max()),
    )
    return {
        "converged": complete and not divergences and r_hat <= R_HAT_LIMIT,
        "complete": complete,
        "r_hat": r_hat,
        "divergences": divergences,
    }


def check_chains(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    """Whether chains agree, are long enough, and reach the tails, as `Method.check`."""
    table, stats = fit.summary(), fit._groups["sample_stats"]
    if stats.sizes["chain"] == 1:
        add(
            problems,
            "one chain only",
            "There is one chain only, so convergence cannot be checked; use chains=4.",
        )
    elif not np.isfinite(table["r_hat"]).all():
        stuck = listed(list(table.index[~np.isfinite(table["r_hat"])]))
        add(
            problems,
            "chains did not move",
            f"Chains did not move in {stuck}: no draw was accepted, or the density is not finite. "
            "Check the data and the priors, and that the prior mean gives a stable model.",
        )
    else:
        facts["r_hat"] = float(table["r_hat"].max())
        if facts["r_hat"] > R_HAT_LIMIT:
            add(
                problems,
                "chains disagree",
                f"Chains disagree: R-hat is {facts['r_hat']:.3f} for {table['r_hat'].idxmax()} "
                f"(should be at most {R_HAT_LIMIT}). Draw more, or look for several modes by "
                "plotting the chains apart.",
            )
    for name, where in (("ess_bulk", "the centre"), ("ess_tail", "the tails")):
        facts[name] = float(table[name].min())
        if facts[name] < ESS_LIMIT:
            add(
                problems,
                "few effective draws",
                f"The effective sample size for {where} of {table[name].idxmin()} is "
                f"{facts[name]:.0f} (should be at least {ESS_LIMIT}). Raise draws.",
            )
    facts["divergences"] = int(np.asarray(stats["diverging"]).sum())
    if facts["divergences"]:
        add(
            problems,
            "diverging trajectories",
            f"{facts['divergences']} trajectories diverged: part of the posterior may be missed. "
            "Raise target_accept (to 0.95, or 0.99), or use adapt_metric=True with more warmup.",
        )
    energy = np.asarray(stats["energy"])
    change = (np.diff(energy, axis=1) ** 2).mean(1) / energy.var(1)
    facts["energy"] = float(change.min())
    if facts["energy"] < ENERGY_LIMIT:
        add(
            problems,
            "slow mixing of the energy",
            f"The energy mixes slowly (Bayesian fraction of missing information "
            f"{facts['energy']:.2f}, should be above {ENERGY_LIMIT}): the tails are heavy. "
            "Reparameterise, or draw more.",
        )
