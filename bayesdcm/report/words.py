"""What a report says in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.infer.findings import listed
from bayesdcm.models.facts import Citation
from bayesdcm.plot.connections import (
    Connection,
    Connections,
    has_connections,
    percent_interval,
    read_connections,
)
from bayesdcm.plot.quantities import CONSTANT, flat_draws
from bayesdcm.plot.series import data_axes
from bayesdcm.plot.spectra import has_spectra
from bayesdcm.plot.style import NBSP, probability_text, signed

# Sign probability from which a finding is stated, and most findings of a sentence.
CERTAIN, MOST_FINDINGS = 0.95, 24
# More regions than this are counted, and the first ones named.
MOST_NAMED = 20

NUMPYRO: Citation = (
    "Phan D, Pradhan N, Jankowiak M (2019). Composable effects for flexible and accelerated "
    "probabilistic programming in NumPyro. arXiv:1912.11554.",
    "https://arxiv.org/abs/1912.11554",
)


def citations(fits: Mapping[str, Any]) -> list[Citation]:
    """List what to cite for these fits: text and address."""
    cited = [citation for fit in fits.values() for citation in fit.facts.citations]
    for fit in {fit.method: fit for fit in fits.values()}.values():
        cited += fit.posterior.method.citations
    return [*dict.fromkeys(cited), NUMPYRO]


def all_listed(items: Sequence[str]) -> str:
    """Join words as a sentence does, leaving out none."""
    return listed(items, most=len(items))


def what_was_fitted(fits: Mapping[str, Any]) -> str:
    """Say what was fitted to what, and how."""
    fit = next(iter(fits.values()))
    titles = dict.fromkeys(other.posterior.method.title for other in fits.values())
    how = all_listed(list(titles))
    observed = fit.idata.observed_data
    if not has_connections(fit):
        if fit.facts.kind != "program":
            data = f"{fit.facts.kind}, {_data_text(fit)}"
            return f"{_capital(fit.description)}, fitted to the {data}, by {how}."
        sizes = [f"{name} ({' x '.join(map(str, observed[name].shape))})" for name in observed]
        return f"{_capital(fit.description)}, fitted to {all_listed(sizes)} by {how}."
    connections = read_connections(fit)
    rates = connections.site == "effective_connectivity"
    what = "Effective connectivity" if rates else "Connections"
    text = f"{what} among {_counted(connections.nodes, fit.facts.node or 'node')}"
    if is_driven(fit):
        inputs = fit.idata.constant_data["inputs"]
        text += f" under {_counted(axis_names(inputs, 'input'), 'input')}"
    if connections.conditions:
        text += f" that explain {fit.facts.kind} in {_counted(connections.conditions, 'condition')}"
    return f"{text}, fitted to {_data_text(fit)}, by {how}."


def is_driven(fit: Any) -> bool:
    """Tell whether a fit has inputs that are known over time."""
    return "inputs" in getattr(fit.idata, "constant_data", {})


def _data_text(fit: Any) -> str:
    """What the data are: how many channels, and from when to when."""
    signal = next(iter(fit.idata.observed_data.data_vars.values()))
    parts = []
    if "mode" in signal.dims:
        n_modes, n = signal.sizes["mode"], fit.idata.constant_data.sizes.get("channel", 0)
        channels = f"{n} channel{'s' * (n != 1)}"
        parts.append(channels if n == n_modes else f"{n_modes} modes of {channels}")
    running, _ = data_axes(signal)
    if has_spectra(fit):
        n = round(signal.sizes["pair"] ** 0.5)
        parts.append(f"cross-spectra of {n} channel{'s' * (n != 1)} at")
    if running in signal.coords:
        words, unit, factor = fit.facts.axis(running)
        points = signal[running].values
        count = f"{len(points)} {_plural(fit.facts.sample)}"
        numbers = np.issubdtype(points.dtype, np.number)
        points = factor * points if numbers else points
        if not numbers:
            parts.append(count)
        elif words == "time":
            parts.append(f"{count}, one every {points[1] - points[0]:g} {unit}")
        else:
            after = f" {words.removeprefix('time ')}" if running == "time" else ""
            span = f"from {points[0]:.4g} to {points[-1]:.4g} {unit}{after}"
            apart = parts and not has_spectra(fit)
            parts.append(f"{span} ({count})" if apart else f"{count} {span}")
    return " ".join(parts) or " x ".join(map(str, signal.shape))


def _counted(items: list[str], noun: str) -> str:
    names = ", ".join(items) if len(items) <= MOST_NAMED else listed(items, most=3)
    return f"{len(items)} {noun}{'s' * (len(items) != 1)} ({names})"


def _plural(noun: str) -> str:
    return f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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
    if "baseline_correlation" in facts:
        state += (
            f", predictions correlate with data by {facts['data_correlation']:.2f} (a linear "
            f"network of one strength: {facts['baseline_correlation']:.2f})"
        )
    count = len(diagnosis.problems)
    outcome = "no problem found" if not count else f"{count} problem{'s' * (count > 1)} found"
    label = method.title if name in (fit.method, "") else f"{name} ({method.title})"
    return f"{_capital(label)}: {state}; {outcome}."


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


def findings(fit: Any, connections: Connections | None) -> list[str]:
    """State the connections and changes whose direction is probable, strongest first."""
    if connections is None:
        return _drive_findings(fit)
    if connections.relative:
        return _factor_findings(connections)
    between = {_route(connections, e): e.draws for e in connections.entries if not e.within}
    changes = {
        f"{change.name} changes {_route(connections, entry)} by": change.draws
        for entry in sorted(connections.entries, key=lambda e: (e.to, e.source))
        for change in entry.changes
        if not change.gates
    }
    sentences = []
    first = "Without input" if is_driven(fit) else connections.title
    for start, strengths in ((first, between), ("With input", changes)):
        sure = [item for item in strengths.items() if _is_certain(connections, item[1])]
        sure.sort(key=lambda item: -abs(connections.mean(item[1])))
        items = [
            f"{phrase} {signed(connections.mean(draws))} {connections.unit} "
            f"({probability_text(connections.certainty(draws))})".replace("  ", " ")
            for phrase, draws in sure[:MOST_FINDINGS]
        ]
        if len(sure) > MOST_FINDINGS:
            items.append(f"{len(sure) - MOST_FINDINGS} more of {len(strengths)}")
        if items:
            sentences.append(f"{start}: {all_listed(items)}.")
    return sentences


def _drive_findings(fit: Any) -> list[str]:
    """State when each drive comes whose time is free, and how many cells are active."""
    posterior, prior = fit.idata.posterior, fit.idata.prior
    if "drive" not in posterior.dims:
        return []
    sentences = []
    for i, name in enumerate(axis_names(posterior["time"], "drive")):
        draws, before = (flat_draws(group["time"])[:, i] for group in (posterior, prior))
        if np.ptp(draws) > CONSTANT:
            low, high = np.quantile(draws, [0.05, 0.95])
            sentences.append(
                f"Drive {name} comes {draws.mean():.1f} ms after the stimulus "
                f"[{low:.1f}, {high:.1f}]; prior {before.mean():.1f} ± {before.std():.1f} ms."
            )
    cells = flat_draws(posterior["pyramidal_cells"])
    if np.ptp(cells) > CONSTANT:
        low, high = np.quantile(cells, [0.05, 0.95])
        sentences.append(
            f"About {cells.mean():.3g} pyramidal cells [{low:.3g}, {high:.3g}] are active together."
        )
    return sentences


def _is_certain(connections: Connections, draws: NDArray) -> bool:
    return np.ptp(draws) > 0 and connections.certainty(draws) >= CERTAIN


def _route(connections: Connections, entry: Connection) -> str:
    return f"{connections.nodes[entry.source]} to {connections.nodes[entry.to]}"


def _factor_findings(connections: Connections) -> list[str]:
    """State what condition effects change, the largest changes first; a sentence an effect."""
    effects: dict[str, dict[str, float]] = {}
    for entry in connections.entries:
        # An effect is the same for all kinds of connection between two nodes.
        place = connections.name(entry)
        what = f"{entry.kind} in {place}" if entry.within else _route(connections, entry)
        for change in entry.changes:
            if _is_certain(connections, change.draws):
                middle, low, high = percent_interval(change.draws)
                text = f"{what} to {middle:.0f}{NBSP}% [{low:.0f}, {high:.0f}] of the baseline"
                text += f" ({probability_text(connections.certainty(change.draws))})"
                effects.setdefault(change.name, {})[text] = abs(np.log(middle / 100))
    return [
        f"Effect {name} changes {all_listed(sorted(sure, key=lambda text: -sure[text]))}."
        for name, sure in effects.items()
    ]


def findings_note(fit: Any, connections: Connections | None) -> str:
    """Explain the numbers of the findings."""
    if connections is None:
        shown = "90 % intervals in brackets; priors with standard deviations"
        return f"Posterior means by {fit.method}, {shown}."
    numbers, direction = f"Posterior means by {fit.method}", "sign"
    if connections.relative:
        numbers = f"Posterior medians by {fit.method} with 90 % intervals"
        direction = "direction of the change"
    return (
        f"{numbers}; P is the posterior probability of the {direction}. Listed where it is at "
        f"least {CERTAIN:g}."
    )
