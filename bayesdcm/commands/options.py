"""Options that several commands take."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Integrator(StrEnum):
    """Integrators of the task-fMRI model."""

    bilinear = "bilinear"
    nonlinear = "nonlinear"


class OtherModel(StrEnum):
    """Models in place of that which SPM's file has."""

    regression = "regression"


class BundledExample(StrEnum):
    """Bundled examples, see `bayesdcm.load_example`."""

    attention = "attention"
    recurrent = "recurrent"


ChosenIntegrator = Annotated[
    Integrator | None,
    typer.Option(
        "--integrator",
        help="bilinear is SPM's, with its scaling of signals and its prior of the noise (the "
        "default for its files), nonlinear solves the equations and lets data decide on the noise.",
    ),
]
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


def with_integrator(model: Any, integrator: Integrator | None) -> Any:
    """The model with the integrator that is asked for."""
    if integrator is None:
        return model
    from bayesdcm.models.task import TaskDCM

    if not isinstance(model, TaskDCM):
        raise ValueError("--integrator is for models of task fMRI; leave it out")
    return dataclasses.replace(model, integrator=integrator.value)
