"""The shell command `bayesdcm`.

Results go to standard output, progress and messages to standard error. Exit codes: 0 success, 1
error in a file, the data or the model, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesdcm import __version__
from bayesdcm.commands.compare import compare
from bayesdcm.commands.estimators import applied, read_estimator, recording_for, trained
from bayesdcm.commands.files import check_writable, make_folder, named, read_priors
from bayesdcm.commands.group import group
from bayesdcm.commands.messages import as_text, noticing_interrupts, reported, say, timed
from bayesdcm.commands.methods import MethodCommand
from bayesdcm.commands.options import (
    BundledExample,
    ChosenIntegrator,
    OtherModel,
    Priors,
    Quiet,
    Report,
    Seed,
    with_integrator,
)
from bayesdcm.commands.simulate import SimulateCommand, simulate
from bayesdcm.commands.tables import (
    TABLES,
    regression_of_spm,
    regression_of_table,
    whole_brain_of_table,
)

if TYPE_CHECKING:
    from bayesdcm.infer.results import Fit

# Everything else is imported by the commands that need it: help must not wait for JAX.

app = typer.Typer(
    help="Dynamic causal modelling as probabilistic programming.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Dynamic causal modelling as probabilistic programming."""
    if version:
        typer.echo(f"bayesdcm {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")
    ] = Path("bayesdcm_demo"),
    example: Annotated[
        BundledExample,
        typer.Option("--example", help="recurrent is the first experiment with DCM-RNN."),
    ] = BundledExample.attention,
    seed: Seed = 1,
    quiet: Quiet = False,
) -> None:
    """Fit a bundled example by variational Laplace and by NUTS, and compare the two.

    The recurrent one is trained by truncated back-propagation, too.
    """
    with reported(quiet):
        make_folder(out)
        from bayesdcm.infer import NUTS, Laplace, TruncatedBackpropagation
        from bayesdcm.models.examples import load_example

        bundled = load_example(example.value)
        say(quiet, bundled.description)
        # R-hat is below 1.01 on this example with the default seed; more draws take longer.
        sampler = NUTS(chains=4, warmup=100, draws=600, target_accept=0.85)
        methods = (Laplace(), sampler)
        if example is BundledExample.recurrent:
            methods = (TruncatedBackpropagation(), *methods)
        fits = {}
        for method in methods:
            fits[method.name] = _timed_fit(quiet, bundled.model, bundled.data, method, seed)
            _forget_programs()
        # Only now: compiling NUTS takes most memory, and libraries for figures take some, too.
        from bayesdcm.compare.posteriors import compare_posteriors
        from bayesdcm.report import write_report

        sampled = fits[sampler.name]
        table = compare_posteriors(fits)
        for name, fit in fits.items():
            _print_diagnosis(fit, name)
        _forget_programs()
        others = " and ".join(method.title for method in methods[:-1])
        typer.echo(f"\n{others[0].upper()}{others[1:]} against NUTS, the worst agreement first")
        if len(fits) == 2:
            table = table.drop(columns="fit")
        typer.echo(as_text(table.set_index("parameter")))
        covered = _coverage(sampled, bundled.parameters)
        typer.echo(f"\n{covered}")
        for name, fit in fits.items():
            fit.save(out / f"{name}.nc")
        say(quiet, "Writing the report ...")
        report = out / "report.html"
        settings = {"example": bundled.name, "seed": seed}
        write_report(
            fits, report, title="Bundled example", notes=[bundled.description, covered],
            settings=settings,
        )  # fmt: skip
        if not sampled.status.get("complete", True):
            raise KeyboardInterrupt
        typer.echo(f"\nReport: {report}")


@app.command(cls=MethodCommand)
def fit(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="DCM_*.mat that SPM saved, or a table of BOLD signals (.csv, .tsv): scans in "
            "rows, regions in columns with their names in the first line.",
        ),
    ],
    integrator: ChosenIntegrator = None,
    model: Annotated[
        OtherModel | None,
        typer.Option(help="regression: regression DCM (that of tables), of SPM's fMRI."),
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Of regression DCM: connections may be absent.")
    ] = False,
    repetition_time: Annotated[float | None, typer.Option(help="Of a table, s.")] = None,
    events: Annotated[
        Path | None,
        typer.Option(metavar="TSV", help="Events of a table, as in BIDS; without them, rest."),
    ] = None,
    connectome: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Weights of connections, targets in rows: a whole-brain model of the functional "
            "connectivity of a table.",
        ),
    ] = None,
    save_estimator: Annotated[
        Path | None,
        typer.Option(
            metavar="NC",
            help="Save what --method amortised has learnt of a whole brain, for more recordings.",
        ),
    ] = None,
    estimator: Annotated[
        Path | None,
        typer.Option(
            metavar="NC",
            help="Apply a saved estimator to a table instead of training; it has its model and "
            "connectome.",
        ),
    ] = None,
    seed: Seed = 0,
    priors: Priors = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="NC", help="Save the fit to this file.")
    ] = None,
    report: Report = None,
    quiet: Quiet = False,
) -> None:
    """Fit a DCM that SPM saved, or regression DCM of a table; print posterior and diagnosis."""
    with reported(quiet):
        check_writable(out, report, save_estimator)
        method, inferred = ctx.obj, None
        if estimator is not None:
            others = {
                "--model": model, "--sparse": sparse, "--events": events, "--priors": priors,
                "--integrator": integrator, "--save-estimator": save_estimator,
            }  # fmt: skip
            learnt = read_estimator(estimator, method, connectome, others)
            data, spm = recording_for(learnt, file, repetition_time), None
            dcm, method, inferred = learnt.problem.model, learnt.learnt.method, applied(learnt)
        else:
            tabled = {"repetition_time": repetition_time, "events": events}
            dcm, data, spm = _model_and_data(file, model, sparse, connectome=connectome, **tabled)
            dcm = with_integrator(dcm, integrator)
            if priors is not None:
                dcm = dcm.with_priors(read_priors(priors))
            if save_estimator is not None:
                inferred = trained(method, save_estimator, connectome)
        say(quiet, f"{file}: {data!r}")
        with noticing_interrupts() as noticed:
            fit = _timed_fit(quiet, dcm, data, method, seed, inferred)
        if save_estimator is not None:
            say(quiet, f"Estimator saved to {save_estimator}")
        if out is not None:
            fit.save(out)
            say(quiet, f"Saved to {out}")
        _print_fit(fit)
        beside = {} if spm is None or spm.estimates is None else {"SPM": spm}
        notes = _spm_notes(fit, spm, priors is not None) if beside else []
        for note in notes:
            typer.echo(note)
        if beside:
            from bayesdcm.compare.posteriors import compare_posteriors

            table = compare_posteriors({fit.method: fit} | beside, reference="SPM")
            typer.echo("\nCompared with SPM's estimates in the file, the worst agreement first")
            typer.echo(as_text(table.drop(columns="fit").set_index("parameter")))
        if noticed or not fit.status.get("complete", True):
            raise KeyboardInterrupt
        if report is not None:
            from bayesdcm.report import write_report

            settings = {"file": file.name, "seed": seed, **fit.status["options"]}
            title = f"Report on {file.name}"
            write_report(
                {fit.method: fit}, report, title=title, notes=notes, settings=settings,
                beside=beside,
            )  # fmt: skip
            say(quiet, f"Report: {report}")


@app.command()
def show(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Fits that bayesdcm saved (.nc).")
    ],
    report: Report = None,
    quiet: Quiet = False,
) -> None:
    """Print the posterior and the diagnosis of saved fits; several are compared, too."""
    with reported(quiet):
        check_writable(report)
        from bayesdcm.compare.posteriors import compare_posteriors
        from bayesdcm.infer.loading import load_fit

        fits = {name: load_fit(path) for name, path in named(files).items()}
        for name, fit in fits.items():
            if len(fits) > 1:
                typer.echo(f"== {name} ==")
            _print_fit(fit)
        if len(fits) > 1:
            table = compare_posteriors(fits)
            typer.echo(f"\nCompared with {table.attrs['reference']}, the worst agreement first")
            typer.echo(as_text(table.set_index("parameter")))
        if report is not None:
            from bayesdcm.report import write_report

            write_report(fits, report, title=f"Report on {', '.join(fits)}")
            say(quiet, f"Report: {report}")


app.command(cls=MethodCommand)(group)
app.command()(compare)
app.command(cls=SimulateCommand)(simulate)


# Fits


def _model_and_data(
    file: Path,
    model: OtherModel | None,
    sparse: bool,
    *,
    repetition_time: float | None,
    events: Path | None,
    connectome: Path | None,
) -> tuple[Any, Any, Any]:
    """The model and data of a file, and SPM's file where its estimates are of that model."""
    if file.suffix.lower() in TABLES:
        if connectome is None:
            return *regression_of_table(file, repetition_time, events, sparse), None
        if sparse or events is not None or model is not None:
            raise ValueError(
                "--connectome asks for a whole-brain model at rest, to which --model, --sparse and "
                "--events do not belong; leave them out"
            )
        return *whole_brain_of_table(file, repetition_time, connectome), None
    if repetition_time is not None or events is not None or connectome is not None:
        raise ValueError(
            "--repetition-time, --events and --connectome are for tables of signals (.csv, .tsv); "
            "SPM's files have their own"
        )
    from bayesdcm.models.spm import read_spm_dcm

    spm = read_spm_dcm(file)
    if model is not None:
        return *regression_of_spm(spm, sparse), None
    if sparse:
        raise ValueError("--sparse is for regression DCM; give --model regression, too")
    return spm.model, spm.data, spm


def _timed_fit(
    quiet: bool,
    model: Any,
    data: Any,
    method: Any,
    seed: int,
    inferred: Callable[..., Fit] | None = None,
) -> Fit:
    """A fit by `bayesdcm.fit`, or by what is called as it is."""
    from bayesdcm.infer.fitting import fit as infer

    options = {"method": method, "seed": seed, "progress": not quiet}
    return timed(quiet, model, method, lambda: (inferred or infer)(model, data, **options))


def _forget_programs() -> None:
    """Free what was compiled: as much memory as all else takes, and hardly used again."""
    import jax

    from bayesdcm.infer.traced_programs import return_free_memory

    jax.clear_caches()
    gc.collect()
    return_free_memory()


def _print_fit(fit: Fit) -> None:
    typer.echo(f"{fit.description}\nmethod: {fit.method}")
    if fit.log_evidence is not None:
        typer.echo(f"{fit.posterior.method.evidence_title}: {fit.log_evidence:.2f} nats")
    typer.echo(f"\n{as_text(fit.summary())}")
    _print_diagnosis(fit, "")


def _print_diagnosis(fit: Fit, name: str) -> None:
    typer.echo(f"\nDiagnosis{f' of {name}' if name else ''}\n{fit.diagnose()}")


def _spm_notes(fit: Fit, spm: Any, other_priors: bool) -> list[str]:
    """Sentences that put SPM's free energy beside that of the fit, and say why they differ."""
    spm_energy = f"SPM's free energy in the file is {spm.estimates.free_energy:.2f} nats"
    if fit.posterior.method.evidence != "free_energy":
        return [f"{spm_energy}."]
    text = f"Free energy {fit.log_evidence:.2f} nats; {spm_energy}."
    reasons = []
    if not fit.facts.wide_noise:
        reasons.append("SPM integrates by its bilinear scheme and has a narrow prior of the noise")
        if spm.data.scale != 1:
            reasons.append(
                f"SPM's data, and C with them, are scaled by {spm.data.scale:.3g}, so that free "
                "energies cannot be compared"
            )
    if other_priors:
        reasons.append("the priors are not the file's (--priors)")
    if reasons:
        return [f"{text} The two are of different models: {'; '.join(reasons)}."]
    return [
        f"{text} Unless a warning says otherwise, data, scaling, integrator and priors are those "
        "of the file, and the two should agree within about 1 nat. Where they do not, SPM's search "
        "stopped elsewhere, the file was changed after it was estimated, or another or a modified "
        "version of SPM estimated it."
    ]


def _coverage(fit: Fit, truth: Mapping[str, Any]) -> str:
    """Say how many true values lie in the posterior interval."""
    import numpy as np

    from bayesdcm.plot.quantities import entries

    table, places = fit.summary(), entries(fit)
    hits = []
    for label, row in table.iterrows():
        name, index = places[str(label)]
        if name in truth:
            value = float(np.asarray(truth[name])[index])
            hits.append(row["eti_5%"] <= value <= row["eti_95%"])
    return (
        f"{sum(hits)} of {len(hits)} true parameters lie in the 90 % interval of their posterior "
        f"by {fit.method}."
    )


if __name__ == "__main__":
    app()
