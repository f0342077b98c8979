"""`bayesdcm group`: one model fitted to many subjects, and effects on the group."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesdcm.commands.design_file import read_design, with_mean
from bayesdcm.commands.files import check_writable, make_folder, named, read_priors
from bayesdcm.commands.messages import as_text, noticing_interrupts, reported, say, timed
from bayesdcm.commands.options import (
    ChosenIntegrator,
    Integrator,
    Priors,
    Quiet,
    Report,
    Seed,
    with_integrator,
)

if TYPE_CHECKING:
    from bayesdcm.group.group_fit import GroupFit


class Between(StrEnum):
    """What has a variability between subjects of its own."""

    single = "single"
    fields = "fields"
    all = "all"


def group(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="DCM_*.mat that SPM saved, one a subject, or one GCM_*.mat."
        ),
    ],
    integrator: ChosenIntegrator = None,
    priors: Priors = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Keep every fit in this folder; the same command goes on where it stopped.",
        ),
    ] = None,
    design: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Covariates in columns; the first column names subjects as the files are named.",
        ),
    ] = None,
    covariates: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Columns of the design to use, with commas between."),
    ] = None,
    centre: Annotated[
        bool,
        typer.Option(
            "--centre/--no-centre",
            help="Subtract the mean of each covariate, so that the first effect is the group mean.",
        ),
    ] = True,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            metavar="NAME",
            help="Site (A) or label (B[Motion, V5, V1]) to look for group effects on; may be "
            "repeated. The default is A and B.",
        ),
    ] = None,
    between: Annotated[
        Between,
        typer.Option(
            help="What has a variability between subjects of its own: all parameters together, "
            "each site, or each parameter."
        ),
    ] = Between.single,
    search: Annotated[
        bool, typer.Option("--search/--no-search", help="Find which effects there are.")
    ] = True,
    seed: Seed = 0,
    report: Report = None,
    quiet: Quiet = False,
) -> None:
    """Fit a DCM to many subjects; print a diagnosis and the effects on the group (PEB).

    A subject is named as its file is, without the ending.
    """
    if covariates and design is None:
        raise typer.BadParameter("--covariates names columns of --design, which is not given")
    with reported(quiet):
        check_writable(report)
        if out is not None:
            make_folder(out)
        subjects = _group_file(files) or named(files)
        names = list(subjects)
        chosen = [part.strip() for text in covariates or () for part in text.split(",")]
        table, notes = None, []
        if design is not None:
            covariates_of_all = read_design(design, names, chosen)
            table, notes = with_mean(covariates_of_all, centre)
            if len(names) > 1:
                # Before long work: effects of these covariates must be told apart.
                from bayesdcm.group.design import checked_design

                checked_design(table, names)
        model, data = _read(subjects, integrator)
        if priors is not None:
            model = model.with_priors(read_priors(priors))
        say(quiet, f"{len(names)} subjects, {model!r}")
        with noticing_interrupts() as noticed:
            from bayesdcm.group.many_fits import fit_group

            options = {"out": out, "seed": seed, "progress": not quiet}
            fits = timed(quiet, model, ctx.obj, lambda: fit_group(model, data, ctx.obj, **options))
        if noticed:
            again = "" if out is None else "; the same command goes on from there"
            say(quiet, f"{len(fits)} of {len(names)} fits are done{again}")
            raise KeyboardInterrupt
        say(quiet, "Checking every fit ...")
        if design is not None and 1 < len(fits) < len(names):
            # Subjects who could not be fitted are said below; the group mean is that of the others.
            table, notes = with_mean(covariates_of_all.loc[fits.subjects], centre)
        diagnosis = fits.diagnose(progress=not quiet)
        _print_subjects(fits, diagnosis)
        for note in notes:
            typer.echo(note)
        effects = effects_search = None
        why_none = _why_none(fits)
        if why_none is None:
            usual = parameters or _connections(fits)
            effects, effects_search = _group_effects(fits, table, usual, between, search, quiet)
        else:
            typer.echo(f"\nNo effects on the group: {why_none}")
        if report is not None:
            from bayesdcm.report import write_group_report

            settings = {"files": ", ".join(file.name for file in files), "seed": seed}
            write_group_report(
                fits, report, effects=effects, search=effects_search, diagnosis=diagnosis,
                notes=notes, settings=settings,
            )  # fmt: skip
            say(quiet, f"Report: {report}")


def _why_none(fits: GroupFit) -> str | None:
    """Why there are no effects on the group; None where there are."""
    if fits[0].posterior.gaussian is None:
        return (
            "parametric empirical Bayes takes Gaussian posteriors, as --method laplace gives, not "
            f"those of {fits[0].method}."
        )
    return "there are fewer than two fits." if len(fits) < 2 else None


def _group_file(files: list[Path]) -> dict[str, Any]:
    """DCMs of the people in a group file by name; none where it is not one."""
    from bayesdcm.data.spm_container import holds

    if len(files) != 1 or not files[0].is_file() or not holds(files[0], "GCM"):
        return {}
    from bayesdcm.models.spm_group import read_spm_group

    people = read_spm_group(files[0])
    most = max(map(len, people.values()))
    if most > 1:
        typer.echo(
            f"{files[0]} has {most} models a person; the first, which is SPM's full model by "
            "convention, is fitted."
        )
    return {name: next(iter(models.values())) for name, models in people.items()}


def _read(files: dict[str, Any], integrator: Integrator | None) -> tuple[Any, dict[str, Any]]:
    """The model that all files have, and the data of all subjects."""
    from bayesdcm.group.fingerprint import fingerprint
    from bayesdcm.models.spm import read_spm_dcm

    model, first, origin, data = None, "", "", {}
    for name, file in files.items():
        spm, where = (read_spm_dcm(file), file) if isinstance(file, Path) else (file, name)
        if model is None:
            model, first, origin = spm.model, name, where
        elif not (
            _same_by_name(spm.model, spm.data, model, data[first])
            if _only_moved(spm.data, data[first])
            else fingerprint(spm.model) == fingerprint(model)
        ):
            raise ValueError(
                f"the model in '{where}' is not that in '{origin}' ({spm.model!r}, not "
                f"{model!r}, or other connections); a group has one model for all"
            )
        data[name] = spm.data
    return with_integrator(model, integrator), data


def _only_moved(data: Any, first: Any) -> bool:
    """Whether regions and inputs, or effects, are those of another data set in another order."""
    axes = ("effect_names",) if hasattr(data, "effect_names") else ("region_names", "input_names")
    pairs = [(getattr(data, axis, ()), getattr(first, axis, ())) for axis in axes]
    return all(sorted(names) == sorted(other) for names, other in pairs) and any(
        names != other for names, other in pairs
    )


def _same_by_name(model: Any, data: Any, first: Any, one: Any) -> bool:
    """Whether a model is another one, switches and priors put in its order by name."""
    import dataclasses

    import numpy as np

    from bayesdcm.data.validation import check_order
    from bayesdcm.group.fingerprint import fingerprint

    if hasattr(data, "effect_names"):
        e = check_order("effect_names", one.effect_names, data.effect_names)
        moved = {"modulation": np.asarray(model.modulation)[e]}
    else:
        r = check_order("region_names", one.region_names, data.region_names)
        u = check_order("input_names", one.input_names, data.input_names)
        axes = {"A": (r, r), "B": (u, r, r), "C": (r, u), "D": (r, r, r)}
        moved = {
            name: np.asarray(value)[np.ix_(*order)]
            for name, order in axes.items()
            if (value := getattr(model, name)) is not None
        }
    changed = dataclasses.replace(model, **moved, priors=None)
    if fingerprint(changed) != fingerprint(dataclasses.replace(first, priors=None)):
        return False
    columns = ["mean", "variance"]
    priors, other = model.prior_table(data), first.prior_table(one)
    if set(priors.index) != set(other.index) or set(priors) != set(other):
        return False
    priors = priors.loc[other.index]
    if "family" in other and not (priors["family"] == other["family"]).all():
        return False
    return bool(np.allclose(priors[columns], other[columns], rtol=1e-9, atol=0))


def _print_subjects(fits: GroupFit, diagnosis: Any) -> None:
    table = diagnosis.table.copy()
    table["converged"] = ["yes" if value else "no" for value in table["converged"]]
    evidence = fits.evidence().iloc[:, 0]
    if evidence.notna().any():
        table.insert(1, "log_evidence", evidence)
    typer.echo(f"Subjects\n{as_text(table)}\n\n{diagnosis}")


def _connections(fits: GroupFit) -> list[str]:
    """Sites of connections and modulations, if the fits have some."""
    sites = {str(label).partition("[")[0] for label in fits[0].summary().index}
    return [name for name in ("A", "B") if name in sites] or ["A", "B"]


def _group_effects(
    fits: GroupFit, table: Any, parameters: list[str], between: Between, search: bool, quiet: bool
) -> tuple[Any, Any]:
    from bayesdcm.group.effects import peb

    say(quiet, "Effects on the group by parametric empirical Bayes ...")
    effects = peb(fits, table, parameters, between=between.value)
    summary, effects_search = effects.summary(), None
    if search:
        say(quiet, "Searching for effects that are not needed ...")
        effects_search = effects.search()
        table = effects_search.summary()
        pruned = table["search"] == "pruned"
        summary["present"] = table["present"].astype(object).mask(pruned, "pruned").to_numpy()
    typer.echo(
        f"\nEffects on the group, {len(fits)} subjects (parametric empirical Bayes), free energy "
        f"{effects.log_evidence:.2f} nats\n{as_text(summary, index=False, na_rep='-')}"
    )
    typer.echo(
        "probability: that the effect has the sign of its mean"
        + ("; present: that it is there at all (search among reduced models)" if search else "")
    )
    if effects_search is not None and pruned.any():
        typer.echo(
            "pruned: switched off by the greedy search before its last set of models, so that no "
            "probability of being there is known"
        )
    return effects, effects_search
