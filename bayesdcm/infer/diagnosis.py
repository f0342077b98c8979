"""Whether a fit can be trusted, said in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.convergence import R_HAT_LIMIT

ESS_LIMIT = 400
PARETO_LIMIT = 0.7
CONFLICT_LIMIT = 5.0
# SPM's own check of fMRI DCMs warns below this share of explained variance.
EXPLAINED_LIMIT = 0.10
# Predictions this many times larger than is usual among draws are of diverging trajectories.
DIVERGING = 1e3
ENERGY_LIMIT = 0.3


@dataclass(frozen=True)
class Diagnosis:
    """Findings about a fit.

    Parameters
    ----------
    problems : list of str
        What is wrong and what to do about it, one sentence or two each; empty if nothing is.
    facts : mapping
        The numbers behind it: ``converged``, ``explained_variance`` (by region or channel mode),
        ``pareto_k``, ``r_hat``, ``ess_bulk``, ``ess_tail``, ``divergences``, ``energy``,
        ``largest_prior_shift``, as far as they apply.

    Examples
    --------
    >>> print(Diagnosis([], {"converged": True}))
    No problem found.
    """

    problems: list[str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def __str__(self) -> str:
        if self.ok:
            return "No problem found."
        return "\n".join(f"- {problem}" for problem in self.problems)


def diagnose(fit: Any) -> Diagnosis:
    """Check convergence, sampling, approximation, conflict with the prior, and fit to the data.

    Parameters
    ----------
    fit : bayesdcm.Fit
        Any fit.

    Returns
    -------
    Diagnosis
        Problems in words and the numbers behind them.
    """
    problems: list[str] = []
    facts: dict[str, Any] = {"converged": bool(fit.status.get("converged", True))}
    _check_run(fit, problems, facts)
    if fit.method == "nuts":
        _check_chains(fit, problems, facts)
    else:
        _check_approximation(fit, problems, facts)
    _check_prior(fit, problems, facts)
    _check_explained(fit, problems, facts)
    return Diagnosis(problems, facts)


def _check_run(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    if fit.method == "laplace" and not facts["converged"]:
        iterations = fit.status.get("n_iterations")
        problems.append(
            f"Variational Laplace had not converged after {iterations} iterations: the free "
            "energy and the posterior are provisional. Raise max_iterations, or try several "
            "starts (starts=8)."
        )
    if fit.method == "svi" and not facts["converged"]:
        problems.append(
            "The evidence lower bound was still drifting over the last quarter of the steps. "
            "Raise steps, or lower learning_rate."
        )
    if not fit.status.get("complete", True):
        problems.append("The run was stopped before its end; only finished draws were kept.")
    recoveries = int(fit.status.get("recoveries", 0))
    facts["recoveries"] = recoveries
    if recoveries:
        problems.append(
            f"The trajectory diverged {recoveries} time(s) during optimisation and a shorter "
            "step was taken. Check that the model is stable at the posterior mean."
        )


def _check_chains(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    table, stats = fit.summary(), fit.idata.sample_stats
    if "r_hat" in table and np.isfinite(table["r_hat"]).any():
        facts["r_hat"] = float(table["r_hat"].max())
        if facts["r_hat"] > R_HAT_LIMIT:
            problems.append(
                f"Chains disagree: R-hat is {facts['r_hat']:.3f} for {table['r_hat'].idxmax()} "
                f"(should be at most {R_HAT_LIMIT}). Draw more, or look for several modes by "
                "plotting the chains apart."
            )
    else:
        problems.append("There is one chain only, so convergence cannot be checked; use chains=4.")
    for name, what in (("ess_bulk", "the centre"), ("ess_tail", "the tails")):
        facts[name] = float(table[name].min())
        if facts[name] < ESS_LIMIT:
            problems.append(
                f"The effective sample size for {what} of {table[name].idxmin()} is "
                f"{facts[name]:.0f} (should be at least {ESS_LIMIT}). Raise draws."
            )
    facts["divergences"] = int(np.asarray(stats["diverging"]).sum())
    if facts["divergences"]:
        problems.append(
            f"{facts['divergences']} trajectories diverged: part of the posterior may be missed. "
            "Raise target_accept (0.95), or use adapt_metric=True with more warmup."
        )
    energy = np.asarray(stats["energy"])
    change = (np.diff(energy, axis=1) ** 2).mean(1) / energy.var(1)
    facts["energy"] = float(change.min())
    if facts["energy"] < ENERGY_LIMIT:
        problems.append(
            f"The energy mixes slowly (Bayesian fraction of missing information "
            f"{facts['energy']:.2f}, should be above {ENERGY_LIMIT}): the tails are heavy. "
            "Reparameterise, or draw more."
        )


def _check_approximation(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    stats = fit.idata.sample_stats
    log_weights = np.asarray(stats["lp"] - stats["log_q"]).ravel()
    lost = int((~np.isfinite(log_weights)).sum())
    facts["diverging_draws"] = lost
    if lost == len(log_weights):
        problems.append(
            "The model diverges at every draw of the posterior: the result is meaningless."
        )
        return
    if lost:
        problems.append(
            f"The model diverges at {lost} of {len(log_weights)} draws of the posterior: it "
            "covers unstable parameters."
        )
    facts["pareto_k"] = arviz_adapter.pareto_k(log_weights)
    if facts["pareto_k"] > PARETO_LIMIT:
        kind = "Gaussian" if fit.method == "laplace" else "variational"
        problems.append(
            f"The {kind} approximation differs from the true posterior (Pareto k-hat "
            f"{facts['pareto_k']:.2f}, trustworthy below {PARETO_LIMIT}): its standard "
            "deviations may be off. Compare with method='nuts'."
        )


def _check_prior(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    prior, posterior = fit.idata.prior, fit.idata.posterior
    largest, where = 0.0, ""
    for name in fit.mean:
        if name in fit.status.get("precision_sites", ()):
            continue
        draws = np.asarray(prior[name])
        centre, spread = draws.mean((0, 1)), draws.std((0, 1))
        free = spread > 0
        if not np.any(free):
            continue
        shift = np.abs(np.asarray(fit.mean[name]) - centre)
        # A standard error on 500 prior draws is a twentieth of a standard deviation.
        relative = np.where(free, shift / np.where(free, spread, 1.0), 0.0)
        if relative.max() > largest:
            largest = float(relative.max())
            index = np.unravel_index(int(np.argmax(relative)), np.shape(relative))
            where = _entry(posterior[name], name, index)
    facts["largest_prior_shift"] = largest
    if largest > CONFLICT_LIMIT:
        problems.append(
            f"The posterior is at odds with the prior: {where} moved by {largest:.1f} prior "
            f"standard deviations (more than {CONFLICT_LIMIT:.0f} is suspicious). Check units, "
            "timing and scaling of the data, and the structure of the model."
        )


def _entry(array: Any, name: str, index: tuple[int, ...]) -> str:
    dims = [d for d in array.dims if d not in ("chain", "draw")]
    if not dims:
        return name
    names = [
        str(array[d].values[i]) if d in array.coords else str(i)
        for d, i in zip(dims, index, strict=True)
    ]
    return f"{name}[{', '.join(names)}]"


def _finite_mean(array: Any) -> np.ndarray:
    """Posterior mean over the draws at which the model does not diverge."""
    values = array.transpose("chain", "draw", ...).to_numpy()
    values = values.reshape(-1, *values.shape[2:])
    size = np.abs(values.reshape(len(values), -1)).max(1)
    finite = np.isfinite(size)
    if not finite.any():
        return values.mean(0)
    # A trajectory on its way to divergence would be all that is left of a mean.
    kept = finite & (size <= DIVERGING * np.median(size[finite]))
    return values[kept].mean(0)


def _check_explained(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    group = getattr(fit.idata, "posterior_predictive", None)
    # Programs whose likelihood is a factor alone observe nothing that could be explained.
    if group is None:
        return
    observed = fit.idata.observed_data
    for name in observed.data_vars:
        if f"{name}_prediction" not in group:
            continue
        prediction = _finite_mean(group[f"{name}_prediction"])
        fitted = _finite_mean(group[f"{name}_fitted"])
        residual = np.asarray(observed[name]) - fitted
        # By column: region or channel mode, over times and conditions.
        axes = tuple(range(max(residual.ndim - 1, 1)))
        signal, noise = prediction.var(axis=axes), residual.var(axis=axes)
        whole = np.atleast_1d(signal + noise)
        if not whole.any():
            # A single data point, or data without variance.
            continue
        facts["explained_variance"] = np.atleast_1d(signal) / np.where(whole > 0, whole, 1.0)
        total = float(signal.sum() / whole.sum())
        if total < EXPLAINED_LIMIT:
            problems.append(
                f"The model explains little of the data: {100 * total:.0f} % of the variance of "
                f"{name} (at least {100 * EXPLAINED_LIMIT:.0f} % is usual). Check that the "
                "inputs match the data in time, and that they reach the regions or sources that "
                "respond."
            )
