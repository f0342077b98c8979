"""What a report says in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm.plot.changes import Strengths, neural_name, percent_interval, strengths
from bayesdcm.plot.quantities import flat_draws, is_evoked, quantity, sign_probability
from bayesdcm.plot.style import NBSP, probability_text, signed

# Sign probability from which a finding is stated.
CERTAIN = 0.95

Citation = tuple[str, str]
DCM: Citation = (
    "Friston KJ, Harrison L, Penny W (2003). Dynamic causal modelling. NeuroImage 19:1273-1302.",
    "https://doi.org/10.1016/S1053-8119(03)00202-7",
)
GUIDE: Citation = (
    "Zeidman P et al. (2019). A guide to group effective connectivity analysis, part 1: first "
    "level analysis with DCM for fMRI. NeuroImage 200:174-190.",
    "https://doi.org/10.1016/j.neuroimage.2019.06.031",
)
EVOKED: Citation = (
    "David O, Kiebel SJ, Harrison LM, Mattout J, Kilner JM, Friston KJ (2006). Dynamic causal "
    "modeling of evoked responses in EEG and MEG. NeuroImage 30:1255-1272.",
    "https://doi.org/10.1016/j.neuroimage.2005.10.045",
)
DIPOLES: Citation = (
    "Kiebel SJ, David O, Friston KJ (2006). Dynamic causal modelling of evoked responses in "
    "EEG/MEG with lead field parameterization. NeuroImage 30:1273-1284.",
    "https://doi.org/10.1016/j.neuroimage.2005.12.055",
)
NEURAL_CITATIONS: dict[str, Citation] = {
    "CMC": (
        "Bastos AM, Usrey WM, Adams RA, Mangun GR, Fries P, Friston KJ (2012). Canonical "
        "microcircuits for predictive coding. Neuron 76:695-711.",
        "https://doi.org/10.1016/j.neuron.2012.10.038",
    ),
    "LFP": (
        "Moran RJ, Kiebel SJ, Stephan KE, Reilly RB, Daunizeau J, Friston KJ (2007). A neural "
        "mass model of spectral responses in electrophysiology. NeuroImage 37:706-720.",
        "https://doi.org/10.1016/j.neuroimage.2007.05.032",
    ),
    "NMDA": (
        "Moran RJ, Stephan KE, Dolan RJ, Friston KJ (2011). Consistent spectral predictors for "
        "dynamic causal models of steady-state responses. NeuroImage 55:1694-1708.",
        "https://doi.org/10.1016/j.neuroimage.2010.12.046",
    ),
}
NUMPYRO: Citation = (
    "Phan D, Pradhan N, Jankowiak M (2019). Composable effects for flexible and accelerated "
    "probabilistic programming in NumPyro. arXiv:1912.11554.",
    "https://arxiv.org/abs/1912.11554",
)


def citations(fits: Mapping[str, Any]) -> list[Citation]:
    """List what to cite for these fits: text and address."""
    found: list[Citation] = []
    if any(is_dcm(fit) for fit in fits.values()):
        found += [DCM, GUIDE]
    evoked = [fit for fit in fits.values() if is_evoked(fit)]
    if evoked:
        found.append(EVOKED)
        if any("observation='ecd'" in fit.description for fit in evoked):
            found.append(DIPOLES)
        names = dict.fromkeys(neural_name(fit) for fit in evoked)
        found += [NEURAL_CITATIONS[name] for name in names if name in NEURAL_CITATIONS]
    for fit in {fit.method: fit for fit in fits.values()}.values():
        found += fit.posterior.method.citations
    return [*found, NUMPYRO]


def is_dcm(fit: Any) -> bool:
    """Tell whether a fit has regions with connections between them."""
    return "effective_connectivity" in fit.idata.posterior


def listed(items: list[str]) -> str:
    """Join words as a sentence does.

    Examples
    --------
    >>> listed(["V1", "V5", "SPC"])
    'V1, V5 and SPC'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def subject(fits: Mapping[str, Any]) -> str:
    """Say what was fitted to what, and how."""
    fit = next(iter(fits.values()))
    how = listed(list(dict.fromkeys(each.posterior.method.title for each in fits.values())))
    observed = fit.idata.observed_data
    if is_evoked(fit):
        return f"{_evoked_subject(fit)}, by {how}."
    if not is_dcm(fit):
        sizes = [f"{name} ({' x '.join(map(str, observed[name].shape))})" for name in observed]
        return f"{_capital(fit.description)}, fitted to {listed(sizes)} by {how}."
    signal = next(iter(observed.data_vars.values()))
    regions = [str(name) for name in signal["region"].values]
    times = signal["time"].values
    inputs = [str(name) for name in fit.idata.posterior["C"]["input"].values]
    return (
        f"Effective connectivity among {_counted(regions, 'region')} ({', '.join(regions)}) "
        f"under {_counted(inputs, 'input')} ({', '.join(inputs)}), fitted to {len(times)} scans, "
        f"one every {times[1] - times[0]:g} s, by {how}."
    )


def _evoked_subject(fit: Any) -> str:
    signal, found = fit.idata.observed_data["signal"], strengths(fit)
    times = 1e3 * signal["time"].values
    n_channels = fit.idata.constant_data.sizes["channel"]
    seen = f"{n_channels} channel{'s' * (n_channels != 1)}"
    if signal.sizes["mode"] != n_channels:
        seen = f"{signal.sizes['mode']} modes of {seen}"
    return (
        f"Connections among {_counted(found.sources, 'source')} ({', '.join(found.sources)}) that "
        f"explain evoked responses in {_counted(found.conditions, 'condition')} "
        f"({', '.join(found.conditions)}), fitted to {seen} from {times[0]:.0f} to "
        f"{times[-1]:.0f} ms after the stimulus ({len(times)} samples)"
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _counted(items: list[str], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def verdict(name: str, fit: Any, diagnosis: Any) -> str:
    """Say in one sentence whether a fit converged and how many problems were found."""
    facts, method = diagnosis.facts, fit.posterior.method
    if "r_hat" in facts:
        state = (
            f"R-hat at most {facts['r_hat']:.3f}, effective sample size at least "
            f"{min(facts['ess_bulk'], facts['ess_tail']):.0f}, {facts['divergences']} divergences"
        )
    else:
        state = "converged" if facts.get("converged") else "did not converge"
        if fit.log_evidence is not None:
            state += f", {method.evidence_title} {fit.log_evidence:.1f} nats"
    if facts.get("pareto_k") is not None:
        state += f", Pareto k-hat {facts['pareto_k']:.2f}"
        if facts.get("pareto_k_error"):
            state += f" (standard error {facts['pareto_k_error']:.2f})"
    count = len(diagnosis.problems)
    found = "no problem found" if not count else f"{count} problem{'s' * (count > 1)} found"
    label = method.title if name in (fit.method, "") else f"{name} ({method.title})"
    return f"{_capital(label)}: {state}; {found}."


def agreement(table: pd.DataFrame) -> list[str]:
    """Say how far each fit lies from the reference, one sentence a fit."""
    reference = table.attrs.get("reference", "the reference")
    sentences = []
    for name, rows in table.groupby("fit", sort=False):
        worst = rows.loc[rows["shift"].abs().idxmax()]
        sentences.append(
            f"Against {reference}, {name} has its means at most {abs(worst['shift']):.2f} "
            f"posterior standard deviations off ({worst['parameter']}); its standard deviations "
            f"are {rows['sd_ratio'].min():.2f} to {rows['sd_ratio'].max():.2f} times as large."
        )
    return sentences


def findings(fit: Any) -> list[str]:
    """State the connections and modulations whose sign is probable, strongest first."""
    if is_evoked(fit):
        return _evoked_findings(strengths(fit))
    if not is_dcm(fit):
        return []
    sentences = []
    found = quantity(fit, "effective_connectivity")
    names = found.names["to"]
    sure = found.free & (found.probability >= CERTAIN) & ~np.eye(len(names), dtype=bool)
    order = sorted(np.argwhere(sure), key=lambda at: -abs(found.mean[tuple(at)]))
    words = [
        f"{names[j]} to {names[i]} {signed(found.mean[i, j])} Hz "
        f"({probability_text(found.probability[i, j])})"
        for i, j in order
    ]
    if words:
        sentences.append(f"Without input: {listed(words)}.")
    return sentences + _modulations(fit, names)


def findings_note(fit: Any) -> str:
    """Explain the numbers of the findings."""
    if is_evoked(fit):
        return (
            f"Posterior medians by {fit.method} with 90 % intervals; P is the posterior "
            f"probability of the direction of the change. Listed where it is at least {CERTAIN:g}."
        )
    return (
        f"Posterior means by {fit.method}; P is the posterior probability of the sign. Listed "
        f"where it is at least {CERTAIN:g}."
    )


def label_note(fit: Any) -> str:
    """Explain the labels and units of the parameters of a model."""
    if is_evoked(fit):
        return (
            "Labels read A[kind, to, from], B[effect, to, from] and C[to, input]. Neural "
            "parameters are logarithms of factors on the prior mean (0 is a factor of 1, 0.69 of "
            "2); B is added to A where a condition has the effect, its diagonal to the gain of a "
            "source. Onsets are in 128 ms, positions in mm, dipole moments in arbitrary units. "
        )
    if not fit.description.startswith("TaskDCM"):
        return ""
    rates = "Connections between regions are in Hz, self-connections are log scalings of 0.5 Hz, "
    if "two-state" in fit.description:
        rates = "Connections are log scalings of 1/8 Hz, "
    return (
        "Labels read A[to, from], B[input, to, from] and C[to, input]. "
        f"{rates}driving inputs are in 1/16 Hz, haemodynamic parameters log scalings. "
    )


def _evoked_findings(found: Strengths) -> list[str]:
    """State what condition effects change, the largest changes first; a sentence an effect."""
    sentences = []
    for k, effect in enumerate(found.effects):
        sure = {}
        for entry in found.entries:
            draws = entry.unit_change[:, k]
            probability = float(sign_probability(np.log(draws)))
            if np.ptp(draws) == 0 or probability < CERTAIN:
                continue
            middle, low, high = percent_interval(draws)
            where = found.name(entry).replace("→", "to")
            # An effect is the same for all kinds of connection between two sources.
            what = f"{entry.kind} in {where}" if entry.within else where
            text = f"{what} to {middle:.0f}{NBSP}% [{low:.0f}, {high:.0f}] of the baseline"
            sure[f"{text} ({probability_text(probability)})"] = abs(np.log(middle / 100))
        if sure:
            order = sorted(sure, key=lambda text: -sure[text])
            sentences.append(f"Effect {effect} changes {listed(order)}.")
    return sentences


def _modulations(fit: Any, names: list[str]) -> list[str]:
    posterior = fit.idata.posterior
    if "modulated_connectivity" not in posterior:
        return []
    free, inputs = quantity(fit, "B").free, posterior["modulated_connectivity"]["input"].values
    base = flat_draws(posterior["effective_connectivity"])
    draws = flat_draws(posterior["modulated_connectivity"]) - base[:, None]
    change, probability = draws.mean(0), sign_probability(draws)
    sure = free & (probability >= CERTAIN)
    order = sorted(np.argwhere(sure), key=lambda at: -abs(change[tuple(at)]))
    words = [
        f"{inputs[k]} changes {names[j]} to {names[i]} by {signed(change[k, i, j])} Hz "
        f"({probability_text(probability[k, i, j])})"
        for k, i, j in order
    ]
    return [f"With input: {listed(words)}."] if words else []
