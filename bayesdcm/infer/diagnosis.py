"""Whether a fit can be trusted, said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.convergence import R_HAT_LIMIT
from bayesdcm.infer.divergence import check_divergence, finite_mean
from bayesdcm.infer.evoked_fit_quality import check_evoked_fit
from bayesdcm.infer.residuals import left_over
from bayesdcm.infer.tail_shape import CLEARLY, PARETO_LIMIT

ESS_LIMIT = 400
CONFLICT_LIMIT = 5.0
# SPM's own check of fMRI DCMs warns below this share of explained variance.
EXPLAINED_LIMIT = 0.10
# A region is explained badly while others are not: below the limit above, with one above this
# and residuals this many times as large as are usual among those.
WELL_EXPLAINED, LARGE_RESIDUAL = 0.5, 2.0
# Probabilities of false alarms in all regions and inputs of a fit together.
INPUT_LEVEL, WHITE_LEVEL = 0.005, 0.001
# Names that a sentence lists before it counts the others.
LISTED = 3
ENERGY_LIMIT = 0.3


class Problem(str):
    """A sentence or two on what is wrong, which knows its kind: so that groups can count them.

    Parameters
    ----------
    kind : str
        The problem in a few words, without names and numbers.
    text : str
        What is wrong, by name and number, and what to do about it.

    Examples
    --------
    >>> Problem("one chain only", "There is one chain only.").kind
    'one chain only'
    """

    kind: str

    def __new__(cls, kind: str, text: str) -> Problem:
        """Make a string that has a kind."""
        found = super().__new__(cls, text)
        found.kind = kind
        return found


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Join names as a sentence does, the first few by name and the others as a number.

    Examples
    --------
    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    names = list(names)
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} more"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True)
class Diagnosis:
    """Findings about a fit.

    Parameters
    ----------
    problems : list of str
        What is wrong and what to do about it, one sentence or two each; empty if nothing is.
        Those of `diagnose` have a ``kind``, the problem in a few words.
    facts : mapping
        The numbers behind it, as far as they apply: ``converged``, ``recoveries``,
        ``explained_variance`` (by region or channel mode), ``pareto_k`` with its standard error
        ``pareto_k_error``, ``diverging_draws``, ``r_hat``, ``ess_bulk``, ``ess_tail``,
        ``divergences``, ``energy``, ``left_out_draws``, ``largest_prior_shift`` (in prior standard
        deviations); of BOLD signals also ``input_share`` (inputs x regions; share of the residuals'
        variance that responses to an input explain), ``residual_correlation`` (by region;
        autocorrelation at one scan less that of white noise) and ``residual_sd`` (by region); of
        evoked responses ``explained_by_condition``, ``explained_by_channel`` and
        ``residual_correlation``.

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
    _check_residuals(fit, problems, facts)
    check_divergence(fit, problems, facts)
    check_evoked_fit(fit, problems, facts)
    return Diagnosis(problems, facts)


def _add(problems: list[str], kind: str, text: str) -> None:
    problems.append(Problem(kind, text))


def _check_run(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    if fit.method == "laplace" and not facts["converged"]:
        iterations = fit.status.get("n_iterations")
        _add(
            problems,
            "not converged",
            f"Variational Laplace had not converged after {iterations} iterations: the free "
            "energy and the posterior are provisional. Raise max_iterations, or try several "
            "starts (starts=8).",
        )
    if fit.method == "svi" and not facts["converged"]:
        _add(
            problems,
            "not converged",
            "The evidence lower bound was still drifting over the last quarter of the steps. "
            "Raise steps, or lower learning_rate.",
        )
    if not fit.status.get("complete", True):
        _add(
            problems,
            "stopped early",
            "The run was stopped before its end; only finished draws were kept.",
        )
    recoveries = int(fit.status.get("recoveries", 0))
    facts["recoveries"] = recoveries
    if recoveries:
        _add(
            problems,
            "diverged on the way",
            f"The trajectory diverged {recoveries} time(s) during optimisation and a shorter "
            "step was taken. Check that the model is stable at the posterior mean.",
        )


def _check_chains(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    table, stats = fit.summary(), fit.idata.sample_stats
    if stats.sizes["chain"] == 1:
        _add(
            problems,
            "one chain only",
            "There is one chain only, so convergence cannot be checked; use chains=4.",
        )
    elif not np.isfinite(table["r_hat"]).all():
        stuck = listed(list(table.index[~np.isfinite(table["r_hat"])]))
        _add(
            problems,
            "chains did not move",
            f"Chains did not move in {stuck}: no draw was accepted, or the density is not finite. "
            "Check the data and the priors, and that the prior mean gives a stable model.",
        )
    else:
        facts["r_hat"] = float(table["r_hat"].max())
        if facts["r_hat"] > R_HAT_LIMIT:
            _add(
                problems,
                "chains disagree",
                f"Chains disagree: R-hat is {facts['r_hat']:.3f} for {table['r_hat'].idxmax()} "
                f"(should be at most {R_HAT_LIMIT}). Draw more, or look for several modes by "
                "plotting the chains apart.",
            )
    for name, what in (("ess_bulk", "the centre"), ("ess_tail", "the tails")):
        facts[name] = float(table[name].min())
        if facts[name] < ESS_LIMIT:
            _add(
                problems,
                "few effective draws",
                f"The effective sample size for {what} of {table[name].idxmin()} is "
                f"{facts[name]:.0f} (should be at least {ESS_LIMIT}). Raise draws.",
            )
    facts["divergences"] = int(np.asarray(stats["diverging"]).sum())
    if facts["divergences"]:
        _add(
            problems,
            "diverging trajectories",
            f"{facts['divergences']} trajectories diverged: part of the posterior may be missed. "
            "Raise target_accept (0.95), or use adapt_metric=True with more warmup.",
        )
    energy = np.asarray(stats["energy"])
    change = (np.diff(energy, axis=1) ** 2).mean(1) / energy.var(1)
    facts["energy"] = float(change.min())
    if facts["energy"] < ENERGY_LIMIT:
        _add(
            problems,
            "slow mixing of the energy",
            f"The energy mixes slowly (Bayesian fraction of missing information "
            f"{facts['energy']:.2f}, should be above {ENERGY_LIMIT}): the tails are heavy. "
            "Reparameterise, or draw more.",
        )


def _check_approximation(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    stats = fit.idata.sample_stats
    log_weights = np.asarray(stats["lp"] - stats["log_q"]).ravel()
    lost = int((~np.isfinite(log_weights)).sum())
    facts["diverging_draws"] = lost
    if lost == len(log_weights):
        _add(
            problems,
            "no draw without divergence",
            "The model diverges at every draw of the posterior: the result is meaningless.",
        )
        return
    if lost:
        _add(
            problems,
            "diverging draws",
            f"The model diverges at {lost} of {len(log_weights)} draws of the posterior: it "
            "covers unstable parameters.",
        )
    found = fit._tail_shape
    facts["pareto_k"], facts["pareto_k_error"] = found
    kind = "Gaussian" if fit.method == "laplace" else "variational"
    estimate = f"Pareto k-hat {found.k:.2f} with a standard error of {found.error:.2f}"
    if found.k > PARETO_LIMIT and found.clear:
        _add(
            problems,
            "approximation doubtful",
            f"The {kind} approximation differs from the true posterior ({estimate}, trustworthy "
            f"below {PARETO_LIMIT}): its standard deviations may be off. Compare with "
            "method='nuts'.",
        )
    elif not found.clear:
        _add(
            problems,
            "approximation undecided",
            f"Whether the {kind} approximation can be trusted cannot be told: {estimate} is "
            f"within {CLEARLY:.0f} of them of the limit, {PARETO_LIMIT}. Where standard deviations "
            "matter, compare with method='nuts'"
            + (", or raise draws." if fit.method == "svi" else "."),
        )


def _check_prior(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    means, sds = fit._prior_by_site
    noise = set(fit.status.get("precision_sites", ()))
    shifts: dict[str, tuple[float, str, tuple[int, ...]]] = {}
    for name, mean in fit.mean.items():
        spread = np.asarray(sds[name])
        free = spread > 0
        shift = np.asarray(mean) - np.asarray(means[name])
        relative = np.where(free, shift / np.where(free, spread, 1.0), 0.0)
        for index in np.ndindex(relative.shape):
            label = _entry(fit.idata.posterior[name], name, index)
            shifts[label] = (float(relative[index]), name, index)
    order = sorted(shifts, key=lambda label: -abs(shifts[label][0]))
    facts["largest_prior_shift"] = abs(shifts[order[0]][0]) if order else 0.0
    far = [label for label in order if abs(shifts[label][0]) > CONFLICT_LIMIT]
    usual = [label for label in far if shifts[label][1] not in noise]
    if usual:
        moved = listed([f"{label} moved by {abs(shifts[label][0]):.1f}" for label in usual])
        _add(
            problems,
            "conflict with the prior",
            f"The posterior is at odds with the prior: {moved} prior standard deviations (more "
            f"than {CONFLICT_LIMIT:.0f} is suspicious). Check units, timing and scaling of the "
            "data, and the structure of the model.",
        )
    held = [label for label in far if shifts[label][1] in noise]
    if held:
        _add(problems, "noise held by its prior", _noise_in_words(fit, held, shifts, means, sds))


def _noise_in_words(fit: Any, held: list[str], shifts: Any, means: Any, sds: Any) -> str:
    """Say that the prior of the noise holds the posterior, and what follows from it."""
    moved = listed([f"{label} by {abs(shifts[label][0]):.1f}" for label in held])
    _, name, index = shifts[held[0]]
    mean, variance = float(means[name][index]), float(sds[name][index]) ** 2
    text = f"1/{1 / variance:.0f}" if variance < 0.1 else f"{variance:.3g}"
    prior = f"N({mean:.3g}, {text})"
    if prior == "N(6, 1/128)":
        prior = f"SPM's {prior}"
    down = [shifts[label][0] < 0 for label in held]
    size, width = ("less" if all(down) else "more"), ("narrow" if all(down) else "wide")
    if any(down) and not all(down):
        size, width = "less or more", "narrow or too wide"
    known = fit.description.startswith(("TaskDCM", "EvokedDCM"))
    advice = "Widen it, so that data decide"
    if known:
        advice = f"Let data decide by a wide prior, priors={{{name!r}: (2, 16)}}"
    if "integrator='bilinear'" in fit.description or "'local_linear'" in fit.description:
        advice += ", or by the default integrator, which has it"
    return (
        f"The prior of the noise, {prior} on log-precisions, "
        f"holds it against the data: the posterior moved {moved} prior standard deviations (more "
        f"than {CONFLICT_LIMIT:.0f} is suspicious). The fit takes the noise to be {size} than it "
        f"is, so that intervals are too {width}. {advice}."
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


def _check_explained(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    group = getattr(fit.idata, "posterior_predictive", None)
    # Programs whose likelihood is a factor alone observe nothing that could be explained.
    if group is None:
        return
    observed = fit.idata.observed_data
    for name in observed.data_vars:
        if f"{name}_prediction" not in group:
            continue
        prediction = finite_mean(group[f"{name}_prediction"])
        fitted = finite_mean(group[f"{name}_fitted"])
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
            _add(
                problems,
                "little explained",
                f"The model explains little of the data: {100 * total:.0f} % of the variance of "
                f"{name} (at least {100 * EXPLAINED_LIMIT:.0f} % is usual). Check that the "
                "inputs match the data in time, and that they reach the regions or sources that "
                "respond.",
            )


def _check_residuals(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    """Look for what is left of BOLD signals: responses, correlation, regions left unexplained."""
    groups = arviz_adapter.groups_of(fit.idata)
    constants, signal = groups.get("constant_data"), groups["observed_data"].get("signal")
    if signal is None or constants is None or signal.dims != ("time", "region"):
        return
    if not {"inputs", "confounds"} <= set(constants.data_vars):
        return
    prediction = finite_mean(groups["posterior_predictive"]["signal_prediction"])
    residual = signal.to_numpy() - prediction
    regions = [str(name) for name in signal["region"].to_numpy()]
    inputs = [str(name) for name in constants["input"].to_numpy()]
    found = left_over(residual, signal["time"].to_numpy(), constants)
    facts["input_share"], facts["residual_sd"] = found.share, found.sd
    facts["residual_correlation"] = found.correlation
    _check_responses(found, regions, inputs, problems)
    coloured = [j for j in range(len(regions)) if found.white_p[j] < WHITE_LEVEL / len(regions)]
    if coloured:
        names = [f"{regions[j]} ({found.correlation[j]:+.2f} at one scan)" for j in coloured]
        _add(
            problems,
            "residuals not white",
            f"What is left of {listed(names)} is correlated in time, not white as the model takes "
            "it to be: intervals are too narrow. Look at bayesdcm.plot.plot_residuals; remove slow "
            "drifts by confounds, and check timing and the structure of the model.",
        )
    _check_regions(found, regions, facts["explained_variance"], problems)


def _check_responses(
    found: Any, regions: list[str], inputs: list[str], problems: list[str]
) -> None:
    level = INPUT_LEVEL / max(found.input_p.size, 1)
    names = []
    for j, region in enumerate(regions):
        if len(inputs) and found.input_p[:, j].min() < level:
            i = int(found.share[:, j].argmax())
            share = 100 * found.share[i, j]
            names.append(f"in {region} {share:.0f} % of its variance follows {inputs[i]}")
    if names:
        _add(
            problems,
            "residuals follow inputs",
            f"What is left of the data follows the inputs: {listed(names)}. The search may have "
            "stopped short of the best fit: try several starts (starts=8); or connections are "
            "missing, or the timing of inputs and scans is off.",
        )


def _check_regions(found: Any, regions: list[str], explained: Any, problems: list[str]) -> None:
    well = explained >= WELL_EXPLAINED
    if not well.any():
        return
    large = found.sd > LARGE_RESIDUAL * np.median(found.sd[well])
    bad = (explained < EXPLAINED_LIMIT) & large
    if not bad.any():
        return
    best = int(np.argmax(explained))
    names = [f"{regions[j]} ({100 * explained[j]:.0f} %)" for j in np.flatnonzero(bad)]
    _add(
        problems,
        "regions explained badly",
        f"Some regions are explained badly while others are explained well: {listed(names)}, but "
        f"{regions[best]} {100 * explained[best]:.0f} % of its variance. Try several starts "
        "(starts=8); check whether inputs and connections reach these regions, and their units.",
    )
