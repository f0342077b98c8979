"""The HTML report on a simulation of a whole brain."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm import observe, plot
from bayesdcm.data import BoldData, Connectome
from bayesdcm.report.page import as_rows, checked_path, write_page
from bayesdcm.report.svg import Figures
from bayesdcm.report.words import NUMPYRO, all_listed

# The literature's windows of FCD, in volumes; a series with fewer than twice as many has none.
WINDOW = 83
# Strengths among which the linear network that fits best is looked for.
SHARES = np.linspace(0.05, 0.95, 19)
MATCH, LINEAR = "correlation with the recorded FC", "that of a linear network, best of 19 strengths"
NOTE = (
    "A correlation with recorded functional connectivity says little about the nodes: a linear "
    "network without delays, whose figure stands beside it, often reaches as much. One simulation "
    "is one draw of the noise; others have other numbers."
)


def simulation_measures(simulated: Any, connectome: Connectome) -> pd.DataFrame:
    """Measures by which simulations of whole brains are judged, beside those of a recording.

    Parameters
    ----------
    simulated : xarray.Dataset
        From `bayesdcm.NetworkModel.simulate`, of one brain: BOLD, or else the first series of
        regions, is what measures are of.
    connectome : Connectome
        Its weights, and what was recorded.

    Returns
    -------
    pandas.DataFrame
        Measures in rows; columns ``simulated`` and, where the connectome has functional
        connectivity, ``recorded``. Missing where a measure does not apply.

    Raises
    ------
    ValueError
        If there is no series of regions.
    """
    series, functional = _judged(simulated), None
    fc = observe.functional_connectivity(series)
    pairs = observe.upper_triangle(fc)
    table = {
        "mean correlation of two regions": [float(pairs.mean())],
        "structure-function coupling": [float(observe.structure_function_coupling(fc, connectome))],
    }
    recorded = connectome.functional_connectivity
    if recorded is not None:
        functional = np.asarray(recorded)
        table["mean correlation of two regions"].append(
            float(observe.upper_triangle(functional).mean())
        )
        table["structure-function coupling"].append(
            float(observe.structure_function_coupling(functional, connectome.weights))
        )
        table[MATCH] = [float(observe.matrix_correlation(np.asarray(fc), functional)), np.nan]
        table[LINEAR] = [_linear_match(connectome), np.nan]
    dynamics = _both_dynamics(series, connectome)
    if len(dynamics) == 2:
        distance = observe.functional_connectivity_dynamics_distance(*dynamics)
        table["distance of FC dynamics (KS)"] = [float(distance), np.nan]
    columns = ["simulated", "recorded"][: 1 + (recorded is not None)]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns)


def write_simulation_report(
    simulated: Any,
    connectome: Connectome,
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    maps: Mapping[str, Any] | None = None,
    title: str = "Report of a whole-brain simulation",
    notes: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report on the simulation of a whole brain: one HTML file that needs nothing else.

    Parameters
    ----------
    simulated : xarray.Dataset
        From `bayesdcm.NetworkModel.simulate`, of one brain.
    connectome : Connectome
        What it was simulated from; its BOLD and functional connectivity are drawn beside.
    path : path-like
        Where to write; an existing file is replaced once the new one is complete.
    model : NetworkModel, optional
        For its description and what to cite.
    maps : mapping of str to array_like, optional
        Parameters that differ between regions: by name and unit, one value a region.
    title : str
        Heading of the page.
    notes : iterable of str
        Sentences to add to the headline, such as where the connectome comes from.
    settings : mapping, optional
        Settings of the run to list.

    Returns
    -------
    pathlib.Path
        The path.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If there is no series of regions.
    """
    path = checked_path(path)
    measures = simulation_measures(simulated, connectome)
    content = {
        "title": title,
        "subject": _subject(simulated, connectome, model),
        "notes": list(notes),
        "verdicts": [],
        "findings": _findings(measures, str(_judged(simulated).name)),
        "findings_note": NOTE,
        "figures": _figures(simulated, connectome, dict(maps or {})),
        "measures": as_rows(measures, "measure"),
        "settings": _settings(model, dict(settings or {})),
        "citations": [*([] if model is None else [model.node.citation]), NUMPYRO],
    }
    return write_page(path, "simulation.html", content)


def _regional_series(simulated: Any) -> list[Any]:
    """Series of regions over time, their axis of time under that name."""
    found = []
    for array in simulated.data_vars.values():
        clocks = [dim for dim in array.dims if str(dim).startswith("time")]
        if clocks and set(array.dims) == {clocks[0], "region"}:
            found.append(array if clocks[0] == "time" else array.rename({clocks[0]: "time"}))
    return found


def _judged(simulated: Any) -> Any:
    """The series that measures are of: BOLD if there is, else the first."""
    series = {str(array.name): array for array in _regional_series(simulated)}
    if not series:
        raise ValueError(
            "simulated has no series with the axes time and region; record a state, or give an "
            "observer of BOLD, to NetworkModel.simulate"
        )
    return series.get("bold", next(iter(series.values())))


def _both_dynamics(series: Any, connectome: Connectome) -> list[Any]:
    """FC dynamics of simulated BOLD and of the first recorded run, where both are long enough."""
    runs = [series, *connectome.bold[:1]] if series.name == "bold" else []
    if len({round(_interval(run), 6) for run in runs}) > 1:
        runs = runs[:1]
    return [
        observe.functional_connectivity_dynamics(run, WINDOW)
        for run in runs
        if _length(run) >= 2 * WINDOW
    ]


def _interval(run: Any) -> float:
    if isinstance(run, BoldData):
        return run.repetition_time
    return float(run.time[1] - run.time[0])


def _length(run: Any) -> int:
    return run.n_scans if isinstance(run, BoldData) else run.sizes["time"]


def _linear_match(connectome: Connectome) -> float:
    """Correlation of a linear network's FC with the recorded one, at the strength that is best."""
    recorded = connectome.functional_connectivity
    return max(
        float(
            observe.matrix_correlation(
                observe.linear_functional_connectivity(connectome, s), recorded
            )
        )
        for s in SHARES
    )


def _subject(simulated: Any, connectome: Connectome, model: Any) -> str:
    node = simulated.attrs.get("model", "neural")
    series = _judged(simulated)
    seconds = float(series.time[-1] - series.time[0]) + _interval(series)
    delays = ""
    if model is not None and model.speed is not None:
        delays = f", signals travelling at {model.speed:g} m/s"
    names = [str(name) for name in simulated.data_vars]
    return (
        f"{seconds:g} s of {connectome.n_regions} regions with {node} nodes{delays}; "
        f"{all_listed(names)} recorded."
    )


def _findings(measures: pd.DataFrame, name: str) -> list[str]:
    values = measures["simulated"]
    sentences = [
        f"Of {name}, functional connectivity correlates "
        f"{values['structure-function coupling']:.2f} with the weights of the connectome."
    ]
    if MATCH in values:
        sentences.append(
            f"It correlates {values[MATCH]:.2f} with the recorded functional connectivity; a "
            f"linear network on the same connectome reaches {values[LINEAR]:.2f}."
        )
    return sentences


def _figures(simulated: Any, connectome: Connectome, maps: dict[str, Any]) -> Figures:
    drawn = Figures()
    text = "Rows receive, columns send."
    drawn.add("Connectome", text, plot.plot_connectome(connectome))
    for label, values in maps.items():
        drawn.add(f"Parameter by region: {label}", "",
                  plot.plot_regional_map(connectome, values, label=label))  # fmt: skip
    judged = _judged(simulated)
    run = connectome.bold[0] if connectome.bold and judged.name == "bold" else None
    for series in _series(simulated):
        text = "Each region about its mean; long series show the range within short stretches."
        drawn.add(f"Series of {series.name}", text, plot.plot_simulated_series(series))
        recorded = None
        if run is not None and series.name == "bold":
            recorded = observe.power_spectrum(run)
        unit = series.attrs.get("units") or "a.u."
        spectrum = observe.power_spectrum(series)
        text = "Welch's method."
        if recorded is not None:
            # Units of simulated BOLD are seldom those of a recording.
            spectrum, recorded = (
                each / each.integrate("frequency") for each in (spectrum, recorded)
            )
            text += " Each divided by its variance: only the shapes are compared."
            unit = "a.u."
        ax = plot.plot_power_spectrum(spectrum, recorded, unit="a.u." if unit == "1" else unit)
        drawn.add(f"Power spectra of {series.name}", text, ax)
    fc = observe.functional_connectivity(judged)
    beside = None if connectome.functional_connectivity is None else connectome
    text = f"Of {judged.name}: Pearson correlations, the diagonal left out."
    drawn.add("Functional connectivity", text, plot.plot_functional_connectivity(fc, beside))
    dynamics = _both_dynamics(judged, connectome)
    if dynamics:
        text = f"Correlation of functional connectivity in windows of {WINDOW} volumes."
        drawn.add("Dynamics of functional connectivity", text,
                  plot.plot_functional_connectivity_dynamics(*dynamics))  # fmt: skip
    return drawn


def _series(simulated: Any) -> list[Any]:
    """All series over time, of regions or channels."""
    regional = _regional_series(simulated)
    sensors = [
        array
        for array in simulated.data_vars.values()
        if "channel" in array.dims and "time" in array.dims
    ]
    return [*regional, *sensors]


def _node_text(node: Any) -> str:
    """A node with its constants; those that differ between regions are named."""
    if not is_dataclass(node):
        return type(node).__name__
    values = {field.name: getattr(node, field.name) for field in fields(node)}
    parts = [f"{name}: {'by region' if np.ndim(v) else v}" for name, v in values.items()]
    return f"{type(node).__name__}, {', '.join(parts)}"


def _settings(model: Any, given: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, str(value)) for key, value in given.items()]
    if model is not None:
        rows += [
            ("node", _node_text(model.node)),
            ("coupling", type(model.network.coupling).__name__),
        ]
        rows += [("noise", repr(each)) for each in model.network.noise]
        rows.append(("scheme", model.scheme))
    return rows
