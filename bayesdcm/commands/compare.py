"""`bayesdcm compare`: several models of the same data, or of the same subjects."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bayesdcm.commands.files import check_writable, named
from bayesdcm.commands.messages import as_text, reported, say
from bayesdcm.commands.options import Quiet, Seed


class By(StrEnum):
    """What fits of the same data are compared by."""

    evidence = "evidence"
    loo = "loo"
    waic = "waic"
    stacking = "stacking"


class Effects(StrEnum):
    """Whether subjects may have different models."""

    random = "random"
    fixed = "fixed"


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Saved fits (.nc) of several models of the same data; or folders that `bayesdcm "
            "group --out` wrote, one a model.",
        ),
    ],
    by: Annotated[
        By | None,
        typer.Option(
            help="Of fits: compare evidence (default), leave-one-out prediction, WAIC, or weights "
            "by which the models together predict best."
        ),
    ] = None,
    effects: Annotated[
        Effects | None,
        typer.Option(
            help="Of folders: whether subjects may have different models (random, default) or all "
            "have the same (fixed)."
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure", metavar="FILE", help="Draw the table to this file (.png, .svg, .pdf)."
        ),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compare models of the same data, or models over the subjects of a group."""
    folders = [path.is_dir() for path in paths]
    if len(paths) < 2:
        raise typer.BadParameter("compare takes two models or more: name as many files or folders")
    if any(folders) and not all(folders):
        raise typer.BadParameter("FILE... must be all saved fits, or all folders of groups")
    if all(folders) and by is not None:
        raise typer.BadParameter("--by is for saved fits; folders are compared by evidence")
    if not all(folders) and effects is not None:
        raise typer.BadParameter("--effects is for folders of groups, not for saved fits")
    with reported(quiet):
        check_writable(figure)
        if figure is not None and figure.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise ValueError(f"--figure: '{figure}' must end in .png, .svg or .pdf")
        if all(folders):
            table = _over_subjects(paths, effects or Effects.random, seed, quiet)
        else:
            table = _of_fits(paths, by or By.evidence, seed, quiet)
        if figure is not None:
            from bayesdcm.plot.model_probabilities import plot_model_probabilities

            plot_model_probabilities(table).savefig(figure, dpi=150)
            say(quiet, f"Figure: {figure}")


def _of_fits(paths: list[Path], by: By, seed: int, quiet: bool) -> Any:
    from bayesdcm.compare.comparison import compare as compare_fits
    from bayesdcm.infer.loading import load_fit

    fits = {name: load_fit(path) for name, path in named(paths).items()}
    say(quiet, f"Comparing {len(fits)} fits by {by.value} ...")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        table = compare_fits(fits, by.value, seed=seed)
    for warning in caught:
        # Those of the comparison, which point to its caller, not those of arithmetic.
        if warning.filename == __file__:
            say(quiet, f"bayesdcm: warning: {' '.join(str(warning.message).split())}")
    score = {
        By.evidence: "log evidence",
        By.loo: "expected log predictive density (leave one out)",
        By.waic: "expected log predictive density (WAIC)",
        By.stacking: "expected log predictive density (leave one out), weights by stacking",
    }[by]
    shown = table.copy()
    shown["warning"] = ["yes" if value else "no" for value in shown["warning"]]
    typer.echo(f"Models compared by {score}, nats, the best first\n{as_text(shown)}")
    return table


def _over_subjects(paths: list[Path], effects: Effects, seed: int, quiet: bool) -> Any:
    from bayesdcm.compare.selection import select_models

    evidence = _evidence(paths)
    n = len(evidence)
    say(quiet, f"Comparing {evidence.shape[1]} models over {n} subjects ...")
    table = select_models(evidence, effects.value, seed=seed)
    words = {"random": "may have different models", "fixed": "all have the same model"}
    typer.echo(f"Models over {n} subjects, who {words[effects.value]} ({effects.value} effects)")
    order = "frequency" if effects is Effects.random else "probability"
    shown = table.sort_values(order, ascending=False, kind="stable")
    typer.echo(as_text(shown))
    if "omnibus_risk" in table.attrs:
        typer.echo(
            "probability that all models are equally frequent (Bayesian omnibus risk): "
            f"{table.attrs['omnibus_risk']:.3f}"
        )
    return table


def _evidence(paths: list[Path]) -> Any:
    """Log-evidences, subjects in rows and models in columns, of subjects who have all."""
    import pandas as pd

    from bayesdcm.compare.comparable import check_subject
    from bayesdcm.group.group_fit import load_group

    columns, fits = {}, {}
    for name, path in named(paths).items():
        group = load_group(path)
        table = group.evidence()
        several = table.shape[1] > 1
        for model in table.columns:
            title = f"{name}: {model}" if several else name
            columns[title], fits[title] = table[model], group[model] if several else group
    evidence = pd.DataFrame(columns)
    if evidence.isna().all().any():
        model = evidence.columns[evidence.isna().all()][0]
        raise ValueError(
            f"the fits of model {model!r} have no log-evidence; fit with --method laplace"
        )
    whole = evidence.dropna()
    for subject in evidence.index.difference(whole.index):
        lacking = evidence.columns[evidence.loc[subject].isna()][0]
        typer.echo(f"Left out: {subject}, who has no fit of model {lacking}")
    if whole.empty:
        raise ValueError("no subject has a fit of every model; the folders are of other subjects")
    for subject in whole.index:
        check_subject(subject, {model: group[subject] for model, group in fits.items()})
    return whole
