"""What a likelihood is a density of: observed data, their scaling, confounds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.evaluation import modelled_confounds, observed_values
from bayesdcm.infer.problem import Problem


class ModelledData(NamedTuple):
    """What a likelihood is a density of.

    `observed`: arrays by site, in the units that they came in. `constants`: those of the data set
    as results hold them: of regions and channels, the ``scale`` by which data were multiplied to be
    modelled, and confounds or channel modes. `entered`: arrays by site as they enter the
    likelihood, such as rates of change; empty where the program is not at hand.
    """

    observed: Mapping[str, NDArray]
    constants: Mapping[str, NDArray]
    entered: Mapping[str, NDArray] = MappingProxyType({})


def modelled_data(problem: Problem) -> ModelledData:
    """Of a program bound to data."""
    entered = observed_values(problem)
    observed = in_data_units(problem, entered)
    return ModelledData(observed, known_constants(problem), entered)


def data_in_results(groups: Mapping[str, Mapping]) -> ModelledData:
    """Of the groups of `Fit.idata`, empty where they are missing."""
    return ModelledData(
        *(
            {str(name): np.asarray(group[name]) for name in group}
            for group in (groups.get("observed_data", {}), groups.get("constant_data", {}))
        )
    )


def known_constants(problem: Problem) -> dict[str, NDArray]:
    """Constants of the data set; of programs, the confounds that they give to `gaussian`."""
    constants = dict(problem.constants)
    confounds = np.zeros((0, 0)) if constants else modelled_confounds(problem)
    if confounds.size:
        constants = {"scale": np.asarray(1.0), "modelled_confounds": confounds}
    return constants


def in_data_units(problem: Problem, values: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Modelled values by site in the units and axes of the data."""
    return {
        name: problem.restore(value) if is_restored(problem, name) else value
        for name, value in values.items()
    }


def is_restored(problem: Problem, name: str) -> bool:
    """Whether a site, or its prediction, is in other units while it is modelled."""
    site = problem.restored
    return site is not None and name in (site, f"{site}_prediction", f"{site}_fitted")
