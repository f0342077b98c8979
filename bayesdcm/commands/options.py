"""Options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Method(StrEnum):
    """Methods of inference."""

    laplace = "laplace"
    svi = "svi"
    nuts = "nuts"


class Integrator(StrEnum):
    """Integrators of the task-fMRI model."""

    bilinear = "bilinear"
    nonlinear = "nonlinear"


INTEGRATOR_HELP = "bilinear is SPM's (the default for its files), nonlinear solves the equations."
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress or messages.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="HTML", help="Write a report to this file.")
]
