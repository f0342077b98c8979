"""`bayesdcm simulate`: a whole brain, forward, with its measures beside those of a recording."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from bayesdcm.commands.declared import choice, declared_options
from bayesdcm.commands.files import check_writable, read_table
from bayesdcm.commands.messages import as_text, reported, say
from bayesdcm.commands.options import Quiet, Report, Seed

if TYPE_CHECKING:
    from bayesdcm.data import BoldData, Connectome
    from bayesdcm.models.network import NetworkModel

BUNDLED = re.compile(r"example(?::(\d+))?")
BALLOON = "balloon"
# Haemodynamics that start at rest follow the level of activity only after this time, s.
SETTLING = 30.0


class Rows(StrEnum):
    """What the rows of the files of a connectome are."""

    target = "target"
    source = "source"


class SimulateCommand(TyperCommand):
    """A command that takes the nodes, couplings, schemes and haemodynamics that there are.

    The command finds the choices by name in ``ctx.obj``.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Parameters of the command, and those of the choices."""
        return [*super().get_params(ctx), *_parameters()]

    def invoke(self, ctx: Any) -> Any:
        """Put the choices together, and run the command."""
        given = {each.name: ctx.params.pop(each.name) for each in _parameters()}
        ctx.obj = {name: getattr(value, "value", value) for name, value in given.items()}
        return super().invoke(ctx)


def _nodes() -> dict[str, type]:
    """Nodes of the package by the names that the shell has for them."""
    from bayesdcm import neural

    kinds = [getattr(neural, name) for name in sorted(neural.__all__)]
    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower(): kind
        for kind in kinds
        if isinstance(kind, type) and neural.NetworkNode in kind.__mro__[1:]
    }


@cache
def _parameters() -> list[Any]:
    """What typer makes of the choices."""
    from bayesdcm.integrate.one_step import SCHEMES
    from bayesdcm.neural.couplings import COUPLINGS
    from bayesdcm.observe.haemodynamic_kernels import KERNELS

    bold = (*KERNELS, BALLOON)
    return declared_options({
        "node": (choice("Node", _nodes()), "What is in a region (wilson_cowan)."),
        "coupling": (choice("CouplingName", COUPLINGS), "How regions are coupled (diffusive)."),
        "scheme": (choice("Scheme", SCHEMES), "Scheme of a step (heun)."),
        "bold": (choice("Bold", bold), "Simulate BOLD by this response to activity."),
    })  # fmt: skip


def simulate(
    ctx: typer.Context,
    connectome: Annotated[
        str,
        typer.Argument(
            metavar="CONNECTOME",
            help="Weights (.csv), an archive of The Virtual Brain (.zip), or example, example:80 "
            "for the bundled one.",
        ),
    ],
    lengths: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Lengths of the tracts in mm, with weights.")
    ] = None,
    rows: Annotated[
        Rows | None,
        typer.Option(help="What the rows of files are; needed unless they are symmetric."),
    ] = None,
    normalise: Annotated[
        str | None,
        typer.Option(metavar="BY", help="Scale weights: maximum, mean, radius or incoming is 1."),
    ] = None,
    coupled: Annotated[
        str | None,
        typer.Option(
            metavar="SENT:RECEIVED",
            help="The signal that travels and the afferent where it arrives, such as E:I_E.",
        ),
    ] = None,
    strength: Annotated[float, typer.Option(help="Strength of the coupling.")] = 1.0,
    speed: Annotated[float, typer.Option(help="Conduction speed, m/s; inf: no delays.")] = 10.0,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Ornstein-Uhlenbeck noise that is received: its stationary standard deviation."
        ),
    ] = None,
    noise_time: Annotated[float, typer.Option(help="Time constant of that noise, s.")] = 0.01,
    white: Annotated[
        float | None,
        typer.Option(help="White noise in the first state: its intensity, per square root of s."),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A constant of the node: a number, or a file (.csv) with one a region (columns "
            "region and value). May be repeated.",
        ),
    ] = None,
    duration: Annotated[float, typer.Option(help="Duration, s.")] = 4.0,
    step: Annotated[float, typer.Option(help="Step of the solver, s.")] = 1e-4,
    transient: Annotated[float, typer.Option(help="What is left out before, s.")] = 0.3,
    sampling_interval: Annotated[
        float | None,
        typer.Option(help="Keep means of activity over so many s (0.001; with --bold: none)."),
    ] = None,
    repetition_time: Annotated[float, typer.Option(help="Of BOLD, s.")] = 2.0,
    recording: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Recorded BOLD to compare with: scans in rows, regions in columns with their "
            "names in the first line, at --repetition-time.",
        ),
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="NC", help="Save series to this file (netCDF).")
    ] = None,
    report: Report = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a whole brain; print its measures beside those of a recording."""
    given = ctx.obj
    if noise is None and white is None:
        say(quiet, "bayesdcm: without --noise or --white, all that happens is transient")
    with reported(quiet):
        check_writable(out, report)
        from bayesdcm.report.simulation_page import simulation_measures, write_simulation_report

        brain = _connectome(connectome, lengths, rows, normalise)
        brain = brain if recording is None else _with_recording(brain, recording, repetition_time)
        node, maps = _node(given["node"] or "wilson_cowan", constants or [], brain)
        model = _model(node, brain, given, coupled, strength, speed, noise, noise_time, white)
        say(quiet, f"{brain!r}\nSimulating {duration:g} s (compiling first) ...")
        settling = SETTLING if given["bold"] == BALLOON else 0.0
        settling = -(-settling // repetition_time) * repetition_time
        simulated = model.simulate(
            duration + settling, step, seed=seed, transient=transient, progress=not quiet,
            **_kept(model, given["bold"], repetition_time, sampling_interval),
        )  # fmt: skip
        notes = []
        if settling:
            simulated = _settled(simulated, settling)
            notes = [f"Another {settling:g} s before, in which haemodynamics settle, are left out."]
            say(quiet, notes[0])
        typer.echo(as_text(simulation_measures(simulated, brain), na_rep="-"))
        if out is not None:
            simulated.to_netcdf(out, engine="h5netcdf")
            say(quiet, f"Saved to {out}")
        if report is not None:
            settings = {
                "connectome": connectome, "coupling strength": strength, "seed": seed,
                "duration": f"{duration:g} s", "transient": f"{transient:g} s",
                "step": f"{step:g} s", **{f"--set {c}": "" for c in constants or []},
            }  # fmt: skip
            write_simulation_report(
                simulated, brain, report, model=model, maps=maps, notes=notes, settings=settings
            )
            say(quiet, f"Report: {report}")


def _connectome(
    name: str, lengths: Path | None, rows: Rows | None, normalise: str | None
) -> Connectome:
    from bayesdcm.data import Connectome, load_connectome

    bundled, path, direction = BUNDLED.fullmatch(name), Path(name), rows and rows.value
    if bundled:
        brain = load_connectome("example", int(bundled[1] or 8))
    elif not path.is_file():
        raise FileNotFoundError(f"CONNECTOME: there is no file {name!r}, and it is not 'example'")
    elif path.suffix == ".zip":
        brain = Connectome.from_tvb(path, rows=direction)
    else:
        brain = Connectome.from_csv(path, lengths, rows=direction)
    if lengths is not None and (bundled or path.suffix == ".zip"):
        raise ValueError("--lengths is for weights from a .csv file; this connectome has its own")
    return brain if normalise is None else brain.normalise(normalise)


def _with_recording(brain: Connectome, path: Path, repetition_time: float) -> Connectome:
    from bayesdcm.data import BoldData

    table = read_table("--recording", path, "comma-separated values")
    run: BoldData = BoldData(
        table.to_numpy(), repetition_time, region_names=[str(name) for name in table.columns]
    )
    return brain.replace(bold=(run,), functional_connectivity=None)


def _node(name: str, constants: list[str], brain: Connectome) -> tuple[Any, dict[str, Any]]:
    """The node, and those of its constants that differ between regions."""
    kind, values, maps = _nodes()[name], {}, {}
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    known = {field.name: field for field in fields.values() if "unit" in field.metadata}
    for each in constants:
        constant, _, value = each.partition("=")
        if constant not in known:
            raise ValueError(
                f"--set names {constant!r}, which is no constant of {name}; it has "
                f"{', '.join(known)}"
            )
        try:
            values[constant] = float(value)
        except ValueError:
            values[constant] = _by_region(constant, value, brain)
            maps[f"{constant} ({known[constant].metadata['unit']})"] = values[constant]
    return kind(**values), maps


def _by_region(constant: str, file: str, brain: Connectome) -> Any:
    table = read_table(f"--set {constant}", Path(file), "comma-separated values")
    if table.shape[1] != 2:
        raise ValueError(
            f"--set {constant}: {file!r} has {table.shape[1]} columns; expected two, region and "
            "value"
        )
    table = table.set_index(table.columns[0]).iloc[:, 0]
    missing = [name for name in brain.region_names or () if name not in table.index]
    if missing:
        raise ValueError(f"--set {constant}: {file!r} has no value of {', '.join(missing)}")
    return table[list(brain.region_names or ())].to_numpy(float)


def _model(
    node: Any,
    brain: Connectome,
    given: dict[str, Any],
    coupled: str | None,
    strength: float,
    speed: float,
    noise: float | None,
    noise_time: float,
    white: float | None,
) -> NetworkModel:
    import numpy as np

    from bayesdcm.models.network import NetworkModel
    from bayesdcm.neural import OrnsteinUhlenbeck, White

    processes: list[Any] = []
    if noise is not None:
        processes.append(OrnsteinUhlenbeck(noise, noise_time))
    if white is not None:
        processes.append(White(white))
    sent, _, received = (coupled or "").partition(":")
    return NetworkModel(
        node,
        brain,
        coupling=given["coupling"],
        coupled=((sent, received) if received else sent) or None,
        strength=strength,
        speed=speed if np.isfinite(speed) else None,
        noise=processes,
        scheme=given["scheme"] or "heun",
    )


def _settled(simulated: Any, settling: float) -> Any:
    """What comes after some time, which then is time 0."""
    for name in [name for name in simulated.dims if str(name).startswith("time")]:
        simulated = simulated.isel({name: simulated[name].to_numpy() > settling * (1 + 1e-9)})
        shifted = simulated[name] - settling
        simulated = simulated.assign_coords({name: shifted.assign_attrs(simulated[name].attrs)})
    return simulated


def _kept(
    model: NetworkModel, bold: str | None, repetition_time: float, sampling_interval: float | None
) -> dict[str, Any]:
    """What `simulate` keeps: activity, BOLD, or both."""
    from bayesdcm.observe import Balloon, HrfConvolution

    kept: dict[str, Any] = {}
    if bold is not None:
        observer = Balloon(repetition_time=repetition_time)
        kept["observers"] = [observer if bold == BALLOON else HrfConvolution(bold, repetition_time)]
    if bold is None or sampling_interval is not None:
        kept["record"] = [model.network.activity]
        kept["sampling_interval"] = sampling_interval or 1e-3
    return kept
