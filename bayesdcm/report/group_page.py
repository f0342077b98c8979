"""The HTML report on a group."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm import plot
from bayesdcm.infer.findings import listed
from bayesdcm.plot.group_effects import covariate_title
from bayesdcm.plot.labels import parsed
from bayesdcm.plot.style import probability_text, signed
from bayesdcm.plot.subjects import Subject, check_group, draw_subjects, read_subject
from bayesdcm.report import words
from bayesdcm.report.page import as_rows, checked_path, write_page
from bayesdcm.report.svg import Figures

# Most effects of a covariate that findings list.
LISTED = 12
DIAGNOSIS_NOTE = (
    "Explained variance is the least of all regions (or channel modes), confounds left out. Pareto "
    "k-hat clearly below 0.7 says that the approximation of the posterior can be trusted. The "
    "table counts the problems of every subject; below it, each kind of problem is said once."
)


def write_group_report(
    group: Any,
    path: str | os.PathLike[str],
    *,
    effects: Any = None,
    search: Any = None,
    diagnosis: Any = None,
    title: str = "Report of a group study",
    notes: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report on the fits of a group, and on effects on it: one HTML file.

    Parameters
    ----------
    group : GroupFit
        Fits of one model with their data, one a subject.
    path : path-like
        Where to write; an existing file is replaced once the new one is complete.
    effects : GroupEffects, optional
        From `bayesdcm.group.peb`; without them, subjects alone are reported.
    search : EffectsSearch, optional
        From ``effects.search()``.
    diagnosis : GroupDiagnosis, optional
        From ``group.diagnose()``, which is called otherwise.
    title : str
        Heading of the page.
    notes : iterable of str
        Sentences to add to the headline, such as where the data come from.
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
    TypeError, ValueError
        If `group` is not the fits of one model.
    """
    path = checked_path(path)
    if not (hasattr(group, "diagnose") and hasattr(group, "subjects")):
        raise TypeError(
            f"group must be the fits of a group, from bayesdcm.fit_group, got "
            f"{type(group).__name__}"
        )
    check_group(group)
    diagnosis = group.diagnose(progress=False) if diagnosis is None else diagnosis
    subjects = _drawn_subjects(group)
    fit = group[0]
    content = {
        "title": title,
        "subject": _subject(group, fit),
        "notes": list(notes),
        "verdicts": _verdicts(group, diagnosis, effects),
        "findings": [] if effects is None else _findings(effects, search),
        "findings_note": _findings_note(search),
        "figures": _figures(subjects, effects, search),
        "label_note": fit.facts.label_note,
        "searched": search is not None,
        "effects": None,
        "between": None,
        "design": None,
        "diagnosis": as_rows(_diagnosis(group, diagnosis), "subject"),
        "diagnosis_note": DIAGNOSIS_NOTE,
        "problems": diagnosis.sentences(),
        "settings": _settings(group, fit, effects, dict(settings or {})),
        "citations": _citations(fit, effects),
    }
    if effects is not None:
        between = {"sd between subjects": np.sqrt(np.diagonal(effects.between_covariance))}
        content["effects"] = as_rows(_table(effects, search), "effect")
        content["between"] = as_rows(pd.DataFrame(between, index=list(effects.parameters)))
        content["design"] = as_rows(effects.design, "subject")
    return write_page(path, "group.html", content)


def _drawn_subjects(group: Any) -> list[Subject]:
    """What is drawn of the subjects; nothing of programs that have no series to draw."""
    subjects = []
    for name, fit in zip(group.subjects, group, strict=True):
        try:
            subjects.append(read_subject(name, fit))
        except ValueError:
            return []
    return subjects


def _subject(group: Any, fit: Any) -> str:
    n = len(group)
    text = words.what_was_fitted({"": fit}).rstrip(".")
    return f"{text}: one model, {n} subject{'s' * (n != 1)} ({listed(group.subjects)})."


def _verdicts(group: Any, diagnosis: Any, effects: Any) -> list[tuple[str, bool, list[str]]]:
    n, doubtful = len(group), len(diagnosis.problems)
    converged = int(np.sum(diagnosis.table["converged"]))
    outcome = f"a problem was found in {doubtful} of {n} (see below)"
    outcome = outcome if doubtful else "no problem was found"
    sentence = f"Subjects: {converged} of {n} fits converged; {outcome}."
    failed = list(diagnosis.failures)
    failures = [f"{listed(failed)} could not be fitted (see below)."] if failed else []
    verdicts = [(sentence, not (doubtful or failures), failures)]
    if effects is not None:
        state = "converged" if effects.status["converged"] else "did not converge"
        sentence = (
            f"Group: parametric empirical Bayes {state}, free energy "
            f"{effects.log_evidence:.1f} nats, {len(effects.parameters)} parameters, "
            f"covariates {words.all_listed(list(effects.covariates))}."
        )
        verdicts.append((sentence, bool(effects.status["converged"]), []))
    return verdicts


def _findings(effects: Any, search: Any) -> list[str]:
    """Effects whose sign is probable and that are there, the strongest first."""
    table = effects.summary()
    sure = table["probability"] >= words.CERTAIN
    if search is not None:
        present = _searched(effects, search)
        # Effects that were not searched are in all models; those pruned are in none of the last.
        present = present["present"].mask(present["search"] == "not searched", 1.0)
        sure &= present.to_numpy() >= words.CERTAIN
    sentences = []
    for covariate in effects.covariates:
        rows = table[sure & (table["covariate"] == covariate)]
        rows = rows.reindex(rows["mean"].abs().sort_values(ascending=False).index)
        items = [
            f"{_in_words(row['parameter'])} {signed(row['mean'])} "
            f"({probability_text(row['probability'])})"
            for row in rows.head(LISTED).to_dict("records")
        ]
        if len(rows) > LISTED:
            items.append(f"{len(rows) - LISTED} more")
        if items:
            sentences.append(f"{covariate_title(covariate, effects.covariates)}: "
                             f"{words.all_listed(items)}.")  # fmt: skip
    return sentences or ["No effect on the group is probable enough to be listed."]


def _in_words(label: str) -> str:
    parts = parsed(label)
    if parts.site not in ("A", "B") or len(parts.places) < 2:
        return label
    *kind, to, source = parts.places
    where = f"self-connection of {to}" if parts.within else f"{source} to {to}"
    if parts.site == "B":
        return f"{where} by {kind[0]}" if kind else f"{where} ({label})"
    return f"{kind[0]} {where}" if kind else where


def _findings_note(search: Any) -> str:
    there = "" if search is None else ", and so is the probability that the effect is there"
    return (
        "Posterior means in the units of the parameters, of a covariate's effects per its unit; P "
        f"is the posterior probability of the sign. Listed where it is at least {words.CERTAIN:g}"
        f"{there}."
    )


def _figures(subjects: list[Subject], effects: Any, search: Any) -> Figures:
    drawn = Figures()
    if effects is not None:
        text = "Each parameter's group mean, and what a unit of each covariate adds to it."
        if search is not None:
            text += (
                " Diamonds: the average over reduced models, in all of which effects are off that "
                "the best of them lacks."
            )
        drawn.add("Effects on the group", text, plot.plot_group_effects(effects, overlay=search))
        if any(parsed(label).places for label in effects.parameters):
            searched = search is not None
            what = "that an effect is there" if searched else "of the sign"
            text = f"The posterior probability {what}; rows receive, columns send."
            figure = plot.plot_connection_evidence(search if searched else effects)
            drawn.add("Evidence for connections", text, figure)
        if search is not None:
            drawn.add("Search among reduced models", "", plot.plot_model_search(search))
        for covariate in effects.covariates[1:] or effects.covariates:
            text = (
                "Parameters with the most probable effects. Estimates that a subject's data leave "
                "uncertain move towards the group's prediction."
            )
            drawn.add(f"Subjects against the group: {covariate}", text,
                      plot.plot_subject_parameters(effects, covariate))  # fmt: skip
    if subjects:
        drawn.add("Data and fit of the subjects", "", draw_subjects(subjects))
    return drawn


def _table(effects: Any, search: Any) -> pd.DataFrame:
    table = effects.summary()
    if search is not None:
        searched = _searched(effects, search)
        pruned = searched["search"] == "pruned"
        table["present"] = searched["present"].astype(object).mask(pruned, "pruned").to_numpy()
    table.index = [f"{c}: {p}" for c, p in zip(table["covariate"], table["parameter"], strict=True)]
    return table.drop(columns=["covariate", "parameter"])


def _searched(effects: Any, search: Any) -> pd.DataFrame:
    """What a search found, in the order of the effects."""
    keys, searched = ["covariate", "parameter"], search.summary()
    wanted, known = (
        pd.MultiIndex.from_frame(table[keys]) for table in (effects.summary(), searched)
    )
    if not wanted.sort_values().equals(known.sort_values()):
        raise ValueError(
            "search must be of the same effects, from effects.search(); it has other covariates "
            "or parameters"
        )
    return searched.set_index(keys).loc[wanted].reset_index()


def _diagnosis(group: Any, diagnosis: Any) -> pd.DataFrame:
    table = diagnosis.table.copy()
    table["converged"] = ["yes" if value else "no" for value in table["converged"]]
    table["problems"] = table["problems"].astype(str)
    evidence = group.evidence().iloc[:, 0]
    if evidence.notna().any():
        table.insert(1, "log_evidence", evidence)
    return table


def _settings(group: Any, fit: Any, effects: Any, given: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, str(value)) for key, value in given.items()]
    rows += [("model", fit.description), ("method", fit.method)]
    if effects is not None:
        used = effects.settings
        rows.append(("variability between subjects", used.between))
        rows.append(("alpha, beta", f"{used.alpha:g}, {used.beta:g}"))
    return rows


def _citations(fit: Any, effects: Any) -> list[tuple[str, str]]:
    citations = words.citations({"": fit})
    return citations if effects is None else [*citations[:-1], *effects.citations, citations[-1]]
