"""The HTML report."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm import __version__, plot
from bayesdcm.compare.posteriors import compare_posteriors
from bayesdcm.plot.blocks import MANY
from bayesdcm.plot.column import has_drives
from bayesdcm.plot.connections import Connections, has_connections, read_connections
from bayesdcm.plot.data_fit import has_pairs
from bayesdcm.plot.quantities import named_fits
from bayesdcm.plot.spectra import has_spectra
from bayesdcm.report import words
from bayesdcm.report.svg import Figures

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
    "inclusion": "P(there)",
    "explained_variance": "explained variance",
    "pareto_k": "Pareto k-hat",
    "log_evidence": "log evidence (nats)",
    "reference_sd": "reference sd",
    "sd_ratio": "ratio of sds",
}
WHOLE_NUMBERS = ("ess_bulk", "ess_tail")
# Most rows of a table of parameters.
MOST_ROWS = 1000


def write_report(
    fits: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "Report of a dynamic causal model",
    notes: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
    groups: Any = None,
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
    groups : mapping, sequence of str, or int, optional
        The network of each of many regions, as for `bayesdcm.plot.plot_connectivity`.

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
    path = checked_path(path)
    content = _content(named_fits(fits), dict(beside or {}), dict(settings or {}), groups)
    return write_page(path, "template.html", content | {"title": title, "notes": list(notes)})


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The path of a page to come; its folder exists."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder '{path.parent}' does not exist")
    return path


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Write the page that a template makes of its content, whole or not at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bayesdcm.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made = {"version": __version__, "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
    made["versions"] = ", ".join([
        f"bayesdcm {__version__}", *(f"{name} {metadata.version(name)}" for name in PACKAGES),
        f"Python {platform.python_version()}",
    ])  # fmt: skip
    text = environment.get_template(template).render(content, **made)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _content(fits: dict, beside: dict, settings: dict, groups: Any) -> dict[str, Any]:
    """Gather everything the template shows."""
    diagnoses = {name: fit.diagnose() for name, fit in fits.items()}
    compared = fits | beside
    comparison = compare_posteriors(compared) if len(compared) > 1 else None
    exact = [fit for fit in fits.values() if fit.posterior.method.exact]
    best = (exact or list(fits.values()))[0]
    connections = read_connections(best) if has_connections(best) else None
    if connections is not None and not connections.entries:
        # A single source has none that could vary.
        connections = None
    return {
        "subject": words.what_was_fitted(fits),
        "verdicts": [
            (words.verdict(name, fits[name], diagnosis), diagnosis.ok, diagnosis.problems)
            for name, diagnosis in diagnoses.items()
        ],
        "agreement": [] if comparison is None else words.agreement(comparison),
        "findings": words.findings(best, connections),
        "findings_note": words.findings_note(best, connections),
        "figures": _figures(fits, best, connections, comparison, groups),
        "summaries": [(name, *_summary_rows(fit)) for name, fit in fits.items()],
        "label_note": best.facts.label_note,
        "comparison": None if comparison is None else as_rows(comparison.set_index("parameter")),
        "reference": "" if comparison is None else comparison.attrs["reference"],
        "settings": _settings(fits, settings),
        "citations": words.citations(fits),
    }


def _figures(
    fits: dict[str, Any],
    best: Any,
    connections: Connections | None,
    comparison: Any,
    groups: Any,
) -> Figures:
    drawn = Figures()
    if connections is not None:
        _add_connections(best, connections, drawn, groups)
    if has_drives(best):
        _add_drives(best, drawn)
    if has_spectra(best):
        _add_spectra(best, drawn)
    else:
        _add_series(best, drawn)
    text = "The first parameters of the model."
    if len(fits) > 1:
        text = "The parameters that differ most between the fits."
    drawn.add("Posterior densities", text, plot.plot_posterior(fits))
    if comparison is not None:
        text = "Each parameter against the reference."
        drawn.add("Agreement of the fits", text, plot.plot_comparison(comparison))
    text = (
        "Autocorrelation outside the grey band means that noise is not as the model takes it to be."
    )
    # Pairs of regions have no order along which residuals could be correlated.
    if not has_pairs(best):
        drawn.add("Residuals", text, plot.plot_residuals(best))
    for name, fit in fits.items():
        if not fit.posterior.method.exact:
            drawn.add(f"Convergence of {name}", "", plot.plot_free_energy(fit))
    return drawn


def _add_series(best: Any, drawn: Figures) -> None:
    text = "Posterior of the noise-free signal, confounds included."
    if any("mode" in array.dims for array in best.idata.observed_data.data_vars.values()):
        text += " Channel modes are patterns over the channels in which the model predicts signal."
    drawn.add("Data and fit", text, plot.plot_fit(best))


def _add_spectra(best: Any, drawn: Figures) -> None:
    text = (
        "Bands hold the posterior of the spectra that the model predicts; pale ones hold the "
        "estimates that it would give, among which data should lie."
    )
    drawn.add("Cross-spectra", text, plot.plot_fit(best))
    if any(array.sizes["pair"] > 1 for array in best.idata.observed_data.data_vars.values()):
        text = (
            "Phase is above 0 where the first of a pair is before the second. Few samples make "
            "estimates of coherence too large, those of the model as those of data."
        )
        drawn.add("Coherence and phase", text, plot.plot_coherence(best))


def _add_drives(best: Any, drawn: Figures) -> None:
    text = (
        "Mean times of drives, proximal ones upwards and distal ones downwards, with the prior in "
        "grey; the dipole; firing of one cell of the column relative to rest."
    )
    drawn.add("Drives, dipole and firing", text, plot.plot_drives(best))
    text = "In physical units; grey bars are intervals of the prior."
    drawn.add("Numbers of the drives", text, plot.plot_drive_parameters(best))
    text = "They add up to the dipole; positive is current towards the surface of cortex."
    drawn.add("Layers", text, plot.plot_layers(best))
    text = "Where curves of two drives are alike, the data hardly tell the two apart."
    drawn.add("Sensitivity to the drives", text, plot.plot_drive_sensitivity(best))


def _add_connections(
    best: Any, connections: Connections, drawn: Figures, groups: Any = None
) -> None:
    node = best.facts.node or "node"
    inside, many = "", len(connections.nodes) > MANY
    if not (connections.relative or many) and any(entry.within for entry in connections.entries):
        inside = f"; self-connections stand inside the {node}s"
    text = f"Arrows run from the influencing to the influenced {node}{inside}."
    drawn.add("Network", text, plot.plot_network(best, groups=groups))
    if connections.relative:
        text = (
            "On the left in each condition; on the right what conditions change. P is the "
            "posterior probability of the direction of the change."
        )
        drawn.add("Connection strengths", text, plot.plot_connection_strengths(best))
        return
    unit = f"In {connections.unit or 'arbitrary units'}{', without input' * words.is_driven(best)}"
    text = f"{unit}; rows receive, columns send."
    figure = plot.plot_connectivity(best, connections.site, groups=groups)
    drawn.add(connections.title, text, figure)
    if any(not change.gates for entry in connections.entries for change in entry.changes):
        text = "What each input adds while it is on."
        drawn.add("Modulations", text, plot.plot_connectivity(best, "B"))


def as_rows(table: pd.DataFrame, index_name: str = "parameter") -> dict[str, Any]:
    """A table as the templates take it: heads of columns, and texts of rows."""
    columns = [str(column) for column in table.columns]
    return {
        "columns": [index_name, *(COLUMN_WORDS.get(column, column) for column in columns)],
        "rows": [
            [str(label), *(_cell_text(column, row[column]) for column in columns)]
            for label, row in table.iterrows()
        ],
    }


def _summary_rows(fit: Any) -> tuple[dict[str, Any], str]:
    """Every parameter as rows, or of very many some, and which."""
    table = fit.summary()
    if len(table) <= MOST_ROWS or "sd" not in table:
        return as_rows(table), ""
    ratio = (table["mean"] / table["sd"]).abs()
    main = table.index.str.split("[").str[0].isin(fit.facts.headline)
    ratio = ratio[main] if main.any() else ratio
    kept = table.loc[ratio.nlargest(MOST_ROWS).index]
    return as_rows(kept), (
        f"{len(kept)} of {len(table)}, those whose means are largest in standard deviations; "
        "fit.summary() has all."
    )


def _cell_text(column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return "-"
    return f"{value:.0f}" if column in WHOLE_NUMBERS else f"{value:.3f}"


def _settings(fits: dict[str, Any], given: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, str(value)) for key, value in given.items()]
    for name, fit in fits.items():
        sizes = fit.idata.posterior.sizes
        of_fit = {"model": fit.description}
        of_fit["draws"] = f"{sizes['chain']} x {sizes['draw']} (chains x draws)"
        of_fit |= {k.replace("_", " "): v for k, v in fit.status.items()}
        rows += [(f"{name}: {key}", _setting_text(value)) for key, value in of_fit.items()]
    return rows


def _setting_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        known = {key: each for key, each in value.items() if each is not None}
        return ", ".join(f"{key}: {_setting_text(each)}" for key, each in known.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)
