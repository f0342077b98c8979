"""Rates of change as they follow from what is observed: a solver without a trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.data.bold import BoldData
from bayesdcm.integrate.base import Solver
from bayesdcm.neural.base import NeuralModel, Parameters, Prior


class Regressors(NamedTuple):
    """What rates of change are a linear function of, as the observer sees it.

    Attributes
    ----------
    signal : (rows, regions)
        The signal itself.
    modulated : (inputs, rows, regions)
        The signal times each input; without inputs, (0, rows, regions), where nothing is modulated.
    inputs : (1, rows, inputs) or (regions, rows, inputs)
        Responses of blood flow to the inputs, the same for all regions or one for each.
    """

    signal: jax.Array
    modulated: jax.Array
    inputs: jax.Array


@dataclass(frozen=True)
class RateRegression(Solver):
    """Rates of change of the signal, given the signal: what regression DCM puts for a solution.

    As haemodynamics are linear near rest and alike in all regions, the signal of an activity obeys
    the same linear equation as the activity, with inputs that blood flow has smoothed. So the rate
    of change of the signal is a linear function of parameters, once the signal is known.

    References
    ----------
    .. [1] Fraessle et al. (2017), NeuroImage 155:406.
           https://doi.org/10.1016/j.neuroimage.2017.02.090

    Examples
    --------
    >>> RateRegression()
    RateRegression()
    """

    data_class: ClassVar[type] = BoldData

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise ValueError unless rates are linear in parameters, and the observer has regressors.

        Parameters
        ----------
        neural, observer : NeuralModel, bayesdcm.observe.Observer
            The neural model and what observes it.
        """
        super().check(neural, observer)
        if not (neural.affine and getattr(neural, "nonlinearity", ...) is None):
            raise ValueError(
                f"solver RateRegression needs rates that are linear in parameters, which those of "
                f"{type(neural).__name__} are not; take RegressionBilinear"
            )
        if not hasattr(observer, "regressors"):
            raise ValueError(
                f"solver RateRegression needs an observer of rates of change, such as BoldRates, "
                f"got {type(observer).__name__}"
            )

    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> Regressors:
        """Regressors of a data set, which must have its signal; see `Solver.prepare`."""
        return observer.regressors(design, neural)

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: Regressors
    ) -> jax.Array:
        """Rates of change, shape (rows, regions); see `Solver.solve`."""
        rates = arrays.signal @ parameters["A"].T
        if arrays.modulated.shape[0]:
            rates += jnp.einsum("jrn,jmn->rm", arrays.modulated, parameters["B"])
        C = neural.input_scale * parameters["C"]
        if arrays.inputs.shape[0] == 1:
            return rates + arrays.inputs[0] @ C.T
        return rates + jnp.einsum("mrj,mj->rm", arrays.inputs, C)
