"""Whether a fit can be trusted, said in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.density import AXES
from bayesdcm.infer.divergence import check_divergence, finite_mean
from bayesdcm.infer.evoked_fit_quality import check_evoked_fit
from bayesdcm.infer.findings import add, listed
from bayesdcm.infer.identification import check_baseline, check_identification
from bayesdcm.infer.problem import FREE
from bayesdcm.infer.residuals import check_residuals

# By how many prior standard deviations the posterior mean moved, in which entry of which site.
Shift = tuple[float, str, tuple[int, ...]]

CONFLICT_LIMIT = 5.0
# SPM's own check of fMRI DCMs warns below this share of explained variance.
EXPLAINED_LIMIT = 0.10


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
        deviations), ``flat_directions`` and ``flattest`` (directions in which the posterior is no
        narrower than the prior); of whole brains ``data_correlation`` and
        ``baseline_correlation``; of BOLD signals also ``input_share`` (inputs x regions; share of
        the residuals' variance that responses to an input explain), ``residual_correlation``
        (by region; autocorrelation at one scan less that of white noise) and ``residual_sd`` (by
        region); of evoked responses ``explained_by_condition``, ``explained_by_channel`` and
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
    of_predictions = (_check_explained, check_divergence, check_evoked_fit, check_residuals)
    if fit.is_bound and set(fit.problem.sites.observed) == set(fit.problem.sites.foreign):
        # Observations that are not the package's have none, and their draws may be simulations.
        of_predictions = ()
    of_all = (_check_run, fit.posterior.method.check, _check_prior)
    for check in (*of_all, *of_predictions, check_identification, check_baseline):
        check(fit, problems, facts)
    return Diagnosis(problems, facts)


def _check_run(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    if not fit.status.get("complete", True):
        add(
            problems,
            "stopped early",
            "The run was stopped before its end; only finished draws were kept.",
        )
    record = fit.status.get("search") or {}
    if record.get("reason"):
        facts["search"] = record
        if record["left"]:
            add(
                problems,
                "doubtful optimum",
                f"The optimum is doubtful: the best of {record['starts']} starts is "
                f"{record['gain']:.1f} nats above the first, but {record['left']}. Try more "
                "(starts=64), or check the inputs and the structure of the model.",
            )
    facts["recoveries"] = int(fit.status.get("recoveries", 0))
    if facts["recoveries"]:
        add(
            problems,
            "diverged on the way",
            f"The trajectory diverged {facts['recoveries']} time(s) during optimisation and a "
            "shorter step was taken. Check that the model is stable at the posterior mean.",
        )


def _check_prior(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    means, sds = fit._prior_by_site
    shifts: list[Shift] = []
    # Scales of a horseshoe prior are heavy-tailed, so that they can go where data want them.
    scales = tuple(f"{site.removesuffix(FREE)}_" for site in fit._uncentred_sites)
    for name, mean in fit.mean.items():
        if name.startswith(scales):
            continue
        sd = np.asarray(sds[name])
        shift = np.asarray(mean) - np.asarray(means[name])
        relative = np.where(sd > 0, shift / np.where(sd > 0, sd, 1.0), 0.0)
        shifts += [(float(relative[at]), name, at) for at in np.ndindex(relative.shape)]
    shifts.sort(key=lambda shift: -abs(shift[0]))
    facts["largest_prior_shift"] = abs(shifts[0][0]) if shifts else 0.0
    far = [shift for shift in shifts if abs(shift[0]) > CONFLICT_LIMIT]
    noise = fit._precision_sites
    usual = [shift for shift in far if shift[1] not in noise]
    if usual:
        moved = listed([f"{_label(fit, shift)} moved by {abs(shift[0]):.1f}" for shift in usual])
        add(
            problems,
            "conflict with the prior",
            f"The posterior is at odds with the prior: {moved} prior standard deviations (more "
            f"than {CONFLICT_LIMIT:.0f} is suspicious). Check units, timing and scaling of the "
            "data, and the structure of the model.",
        )
    held = [shift for shift in far if shift[1] in noise]
    if held:
        add(problems, "noise held by its prior", _noise_in_words(fit, held))


def _label(fit: Any, shift: Shift) -> str:
    _, name, index = shift
    array = fit._groups["posterior"][name]
    dims = [dim for dim in array.dims if dim not in AXES]
    names = [arviz_adapter.axis_names(array, d)[i] for d, i in zip(dims, index, strict=True)]
    return f"{name}[{', '.join(names)}]" if names else name


def _noise_in_words(fit: Any, held: list[Shift]) -> str:
    """Say that the prior of the noise holds the posterior, and what follows from it."""
    moved = listed([f"{_label(fit, shift)} by {abs(shift[0]):.1f}" for shift in held])
    _, name, index = held[0]
    means, sds = fit._prior_by_site
    mean, variance = float(means[name][index]), float(sds[name][index]) ** 2
    prior = f"N({mean:.3g}, {f'1/{1 / variance:.0f}' if variance < 0.1 else f'{variance:.3g}'})"
    if prior == "N(6, 1/128)":
        prior = f"SPM's {prior}"
    fewer = {shift[0] < 0 for shift in held}
    size, width = ("less", "narrow") if fewer == {True} else ("more", "wide")
    if len(fewer) == 2:
        size, width = "less or more", "narrow or too wide"
    advice = "Widen it, so that data decide"
    if fit.facts.kind != "program":
        advice = f"Let data decide by a wide prior, priors={{{name!r}: (2, 16)}}"
    if fit.facts.wide_noise:
        advice += f", or by {fit.facts.wide_noise}, which has it"
    return (
        f"The prior of the noise, {prior} on log-precisions, "
        f"holds it against the data: the posterior moved {moved} prior standard deviations (more "
        f"than {CONFLICT_LIMIT:.0f} is suspicious). The fit takes the noise to be {size} than it "
        f"is, so that intervals are too {width}. {advice}."
    )


def _check_explained(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    group = fit._groups.get("posterior_predictive")
    # Programs whose likelihood is a factor alone observe nothing that could be explained.
    if group is None:
        return
    observed = fit._groups["observed_data"]
    for name in observed.data_vars:
        if f"{name}_prediction" not in group:
            continue
        prediction = finite_mean(group[f"{name}_prediction"])
        fitted = finite_mean(group[f"{name}_fitted"])
        residual = np.asarray(observed[name]) - fitted
        # By column: region or channel mode, over times and conditions.
        axes = tuple(range(max(residual.ndim - 1, 1)))
        signal, noise = prediction.var(axis=axes), residual.var(axis=axes)
        variance = np.atleast_1d(signal + noise)
        if not variance.any():
            # A single data point, or data without variance.
            continue
        facts["explained_variance"] = np.atleast_1d(signal) / np.where(variance > 0, variance, 1.0)
        total = float(signal.sum() / variance.sum())
        if total < EXPLAINED_LIMIT:
            add(
                problems,
                "little explained",
                f"The model explains little of the data: {100 * total:.0f} % of the variance of "
                f"{name} (at least {100 * EXPLAINED_LIMIT:.0f} % is usual). Check that the "
                "inputs match the data in time, and that they reach the regions or sources that "
                "respond.",
            )
