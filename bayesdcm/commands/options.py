"""Options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Integrator(StrEnum):
    """Integrators of the task-fMRI model."""

    bilinear = "bilinear"
    nonlinear = "nonlinear"


INTEGRATOR_HELP = (
    "bilinear is SPM's, with its scaling of signals and its prior of the noise (the default for "
    "its files), nonlinear solves the equations and lets data decide on the noise."
)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress or messages.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Priors = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="Priors in place of the model's: a table with columns parameter (such as A or "
        '"A[V5, V1]"), mean and variance (0 fixes the value).',
    ),
]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="HTML", help="Write a report to this file.")
]
