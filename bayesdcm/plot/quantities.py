"""Numbers that figures show, read from the ArviZ object of a fit: one just made or a loaded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.divergence import finite_draws

# Below this the spread of the prior draws of a constant is rounding error.
CONSTANT = 1e-9

PHYSICAL_UNITS = {
    "effective_connectivity": "Hz",
    "modulated_connectivity": "Hz",
    "input_effect": "Hz",
    "transit_time": "s",
    "decay_rate": "Hz",
}
SCALING_UNITS = {
    "C": "1/16 Hz",
    "transit": "log scaling of 2 s",
    "decay": "log scaling of 0.64 Hz",
    "epsilon": "log scaling",
    "log_precision": "log precision",
}
# Of models of evoked responses; everything else of theirs is a log scaling.
EVOKED_UNITS = {
    "B": "change of log scaling",
    "modulatory": "−32 per unit activity",
    "modulatory_effect": "change, −32 per unit activity",
    "position": "mm",
    "moment": "a.u.",
    "gain": "a.u.",
    "patch_weight": "a.u.",
    "contribution": "relative weight",
    "log_precision": "log precision",
    "connection_strength": "relative to the prior mean",
}


@dataclass(frozen=True, eq=False)
class Quantity:
    """Posterior of one array of a model.

    Attributes
    ----------
    name : str
        The array's name, such as ``"A"``.
    mean : ndarray
        Posterior means.
    probability : ndarray
        Posterior probability that an entry has the sign that most of its draws have.
    free : ndarray of bool
        Entries that have a prior distribution; the others are constants.
    sign_open : ndarray of bool
        Entries to which the prior gives both signs.
    dims : tuple of str
        Names of the axes.
    names : dict of list of str
        Names along each axis.
    """

    name: str
    mean: NDArray
    probability: NDArray
    free: NDArray
    sign_open: NDArray
    dims: tuple[str, ...]
    names: Mapping[str, list[str]]


def sign_probability(draws: NDArray) -> NDArray:
    """Share of draws with the sign that most have; draws lie along the first axis.

    Examples
    --------
    >>> float(sign_probability(np.array([-1.0, 2.0, 3.0, 4.0])))
    0.75
    """
    return np.maximum((draws > 0).mean(0), (draws < 0).mean(0))


def flat_draws(array: Any) -> NDArray:
    """Draws of all chains one after the other, shape (draws, ...)."""
    values = array.transpose("chain", "draw", ...).to_numpy()
    # No -1: an array may be empty, such as effects of a single condition.
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])


def finite(draws: NDArray) -> NDArray:
    """Draws, along the first axis, at which the model does not diverge.

    Examples
    --------
    >>> finite(np.array([[1.0], [np.nan]])).tolist()
    [[1.0]]
    """
    kept = finite_draws(draws)
    if not kept.any():
        raise ValueError("the model diverges at every draw of the posterior; see fit.diagnose()")
    return draws[kept]


def quantity(fit: Any, name: str) -> Quantity:
    """Posterior of the array `name` of a fit.

    Parameters
    ----------
    fit : bayesdcm.Fit
        Any fit.
    name : str
        A variable of ``fit.idata.posterior``.

    Returns
    -------
    Quantity
        Means, probabilities and which entries are free.

    Raises
    ------
    ValueError
        If the fit has no such variable.
    """
    posterior = fit.idata.posterior
    if name not in posterior.data_vars:
        raise ValueError(
            f"parameter must be one of {', '.join(map(repr, posterior.data_vars))}, got {name!r}"
        )
    array, draws = posterior[name], flat_draws(posterior[name])
    prior = flat_draws(fit.idata.prior[name])
    dims = tuple(str(d) for d in array.dims if d not in ("chain", "draw"))
    return Quantity(
        name=name,
        mean=draws.mean(0),
        probability=sign_probability(draws),
        free=np.ptp(prior, axis=0) > CONSTANT,
        sign_open=(prior > 0).any(0) & (prior < 0).any(0),
        dims=dims,
        names={dim: axis_names(array, dim) for dim in dims},
    )


def axis_names(array: Any, dim: str) -> list[str]:
    """Names along an axis, numbers where it has none."""
    values = array[dim].values if dim in array.coords else range(array.sizes[dim])
    return [str(value) for value in values]


def is_evoked(fit: Any) -> bool:
    """Tell whether a fit is one of evoked responses: sources, conditions and channel modes."""
    return fit.description.startswith("EvokedDCM")


def unit_of(fit: Any, name: str, index: tuple[int, ...] = ()) -> str:
    """Name the unit of an entry of a model's array; empty for users' programs.

    Parameters
    ----------
    fit : bayesdcm.Fit
        Any fit.
    name : str
        The array.
    index : tuple of int
        The entry; the empty tuple asks for the unit of entries off the diagonal.

    Returns
    -------
    str
        Such as ``"Hz"``.
    """
    if is_evoked(fit):
        if name == "input_timing":
            return "128 ms" if index[-1:] == (0,) else "log scaling of the standard deviation"
        return EVOKED_UNITS.get(name, "log scaling")
    if not fit.description.startswith("TaskDCM"):
        return ""
    if name in ("A", "B", "D"):
        if "two-state" in fit.description:
            return "log scaling of 1/8 Hz"
        itself = len(index) >= 2 and index[-1] == index[-2]
        return "log scaling of 0.5 Hz" if itself else "Hz"
    if name == "A_backward":
        return "half the log odds"
    return PHYSICAL_UNITS.get(name, SCALING_UNITS.get(name, ""))


def entries(fit: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Variable and index of every entry of the posterior, by label such as ``A[V5, V1]``."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, array in fit.idata.posterior.data_vars.items():
        dims = [d for d in array.dims if d not in ("chain", "draw")]
        names = [axis_names(array, d) for d in dims]
        for index in np.ndindex(*(len(axis) for axis in names)):
            inside = ", ".join(axis[i] for axis, i in zip(names, index, strict=True))
            found[f"{name}[{inside}]" if dims else str(name)] = (str(name), index)
    return found
