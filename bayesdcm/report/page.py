"""The HTML report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm import __version__, plot
from bayesdcm.compare.posteriors import compare_posteriors
from bayesdcm.plot.connections import Connections, connections, has_connections
from bayesdcm.plot.quantities import named_fits
from bayesdcm.report import words
from bayesdcm.report.svg import inline_svg

PACKAGES = ("numpyro", "jax", "arviz", "numpy")
COLUMN_WORDS = {
    "eti_5%": "5 %",
    "eti_95%": "95 %",
    "probability": "P(sign)",
    "ess_bulk": "ESS (bulk)",
    "ess_tail": "ESS (tail)",
    "r_hat": "R-hat",
    "reference_mean": "reference mean",
    "present": "P(there)",
    "explained_variance": "explained variance",
    "pareto_k": "Pareto k-hat",
    "log_evidence": "log evidence (nats)",
    "reference_sd": "reference sd",
    "sd_ratio": "ratio of sds",
}
WHOLE_NUMBERS = ("ess_bulk", "ess_tail")


def write_report(
    fits: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "Report of a dynamic causal model",
    notes: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report on one or several fits of a model: one HTML file that needs nothing else.

    Parameters
    ----------
    fits : bayesdcm.Fit or mapping of str to Fit
        One fit, or several by name, which are then compared.
    path : path-like
        Where to write; an existing file is replaced once the new one is complete.
    title : str
        Heading of the page.
    notes : iterable of str
        Sentences to add to the headline, such as where the data come from.
    settings : mapping, optional
        Settings of the run to list beside those that the fits know.
    beside : mapping of str to object, optional
        Posteriors by name to compare the fits with that are no fits themselves, such as SPM's
        estimates in a file, which `bayesdcm.read_spm_dcm` gives.

    Returns
    -------
    pathlib.Path
        The path.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    TypeError, ValueError
        If `fits` holds no fit, or fits of different models.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder '{path.parent}' does not exist")
    named = named_fits(fits)
    write_whole(
        path,
        render(
            "template.html",
            _content(named, dict(beside or {}), title, list(notes), dict(settings or {})),
        ),
    )
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def render(template: str, content: Mapping[str, Any]) -> str:
    """The page that a template makes of its content."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bayesdcm.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


def _content(
    fits: dict[str, Any],
    beside: dict[str, Any],
    title: str,
    notes: list[str],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Gather everything the template shows."""
    diagnoses = {name: fit.diagnose() for name, fit in fits.items()}
    compared = fits | beside
    comparison = compare_posteriors(compared) if len(compared) > 1 else None
    best = next(
        (fit for fit in fits.values() if fit.posterior.method.exact), next(iter(fits.values()))
    )
    return {
        "title": title,
        "subject": words.subject(fits),
        "verdicts": [
            (words.verdict(name, fits[name], found), found.ok, found.problems)
            for name, found in diagnoses.items()
        ],
        "agreement": [] if comparison is None else words.agreement(comparison),
        "findings": words.findings(best),
        "findings_note": words.findings_note(best),
        "notes": notes,
        "figures": _figures(fits, best, comparison),
        "summaries": [(name, as_rows(fit.summary(), "parameter")) for name, fit in fits.items()],
        "label_note": best.facts.label_note,
        "comparison": None if comparison is None else as_rows(comparison.set_index("parameter")),
        "reference": "" if comparison is None else comparison.attrs["reference"],
        "settings": _settings(fits, settings),
        "versions": versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "citations": words.citations(fits),
        "version": __version__,
    }


def _figures(
    fits: dict[str, Any], best: Any, comparison: pd.DataFrame | None
) -> list[tuple[str, str, str]]:
    """Draw all figures: heading, explanation, SVG."""
    drawn: list[tuple[str, str, str]] = []
    patterns = ""
    if any("mode" in array.dims for array in best.idata.observed_data.data_vars.values()):
        patterns = (
            " Channel modes are patterns over the channels in which the model predicts signal."
        )

    def add(heading: str, text: str, draw: Callable[..., Any], *arguments: Any) -> None:
        svg = inline_svg(draw(*arguments), f"figure{len(drawn)}", heading)
        drawn.append((heading, text, svg))

    if has_connections(best):
        _add_connections(best, connections(best), add)
    add("Data and fit", f"Posterior of the noise-free signal, confounds included.{patterns}",
        plot.plot_fit, best)  # fmt: skip
    add(
        "Posterior densities",
        "The parameters that differ most between the fits."
        if len(fits) > 1
        else "The first parameters of the model.",
        plot.plot_posterior,
        fits,
    )
    if comparison is not None:
        add("Agreement of the fits", "Each parameter against the reference.",
            plot.plot_comparison, comparison)  # fmt: skip
    add("Residuals", "Autocorrelation outside the grey band means that noise is not as the model "
        "takes it to be.", plot.plot_residuals, best)  # fmt: skip
    for name, fit in fits.items():
        if not fit.posterior.method.exact:
            add(f"Convergence of {name}", "", plot.plot_free_energy, fit)
    return drawn


def _add_connections(best: Any, found: Connections, add: Callable[..., None]) -> None:
    node = best.facts.node or "node"
    inside = "" if found.relative else f"; self-connections stand inside the {node}s"
    add("Network", f"Arrows run from the influencing to the influenced {node}{inside}.",
        plot.plot_network, best)  # fmt: skip
    if found.relative:
        add("Connection strengths", "On the left in each condition; on the right what conditions "
            "change. P is the posterior probability of the direction of the change.",
            plot.plot_connection_strengths, best)  # fmt: skip
        return
    unit = f"In {found.unit or 'arbitrary units'}{', without input' * words.is_driven(best)}"
    add(found.title, f"{unit}; rows receive, columns send.", plot.plot_connectivity, best,
        found.site)  # fmt: skip
    if any(not change.gates for entry in found.entries for change in entry.changes):
        add("Modulations", "What each input adds while it is on.",
            plot.plot_connectivity, best, "B")  # fmt: skip


def as_rows(table: pd.DataFrame, index_name: str = "parameter") -> dict[str, Any]:
    """A table as the templates take it: heads of columns, and texts of rows."""
    columns = [str(column) for column in table.columns]
    return {
        "columns": [index_name, *(COLUMN_WORDS.get(column, column) for column in columns)],
        "rows": [
            [str(label), *(_cell(column, row[column]) for column in columns)]
            for label, row in table.iterrows()
        ],
    }


def _cell(column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return "-"
    return f"{value:.0f}" if column in WHOLE_NUMBERS else f"{value:.3f}"


def _settings(fits: dict[str, Any], given: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, str(value)) for key, value in given.items()]
    for name, fit in fits.items():
        sizes = fit.idata.posterior.sizes
        rows.append((f"{name}: model", fit.description))
        rows.append((f"{name}: draws", f"{sizes['chain']} x {sizes['draw']} (chains x draws)"))
        rows += [
            (f"{name}: {key.replace('_', ' ')}", _plain(value))
            for key, value in fit.status.items()
            if key != "precision_sites"
        ]
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def versions() -> str:
    """Name the software that made a report."""
    parts = [f"bayesdcm {__version__}"]
    parts += [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return ", ".join([*parts, f"Python {platform.python_version()}"])
