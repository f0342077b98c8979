"""The one place that knows the difference between ArviZ 0.23 and 1.x.

ArviZ 0.23 keeps groups in an `InferenceData`, ArviZ 1.x in an `xarray.DataTree`. Statistics are
those of `arviz_stats`, of which ArviZ 1.x is made; without ArviZ 0.23 they are imported in a
seventh of the time. Everything else in the package goes through here.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

DATA_TREE = int(version("arviz").partition(".")[0]) >= 1
# Quantiles of which the tail effective sample size is.
TAILS = (0.05, 0.95)
# Log weights that differ by less are equal, and the shortest tail that has a shape.
EQUAL, SHORTEST_TAIL = 1e-9, 5


def _statistics() -> Any:
    # With parts of SciPy that nothing else needs.
    from arviz_stats.base import array_stats

    return array_stats


def assemble(groups: Mapping[str, xr.Dataset]) -> Any:
    """An InferenceData (ArviZ 0.23) or DataTree (1.x) from data sets by group name."""
    if DATA_TREE:
        return xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    with warnings.catch_warnings():
        # ArviZ 0.23 announces its successor at import; with it comes Matplotlib.
        warnings.simplefilter("ignore", FutureWarning)
        from arviz import InferenceData

    return InferenceData(**groups)


def groups_of(idata: Any) -> dict[str, xr.Dataset]:
    """The groups of an ArviZ object as data sets, in their order."""
    if DATA_TREE:
        return {name: node.to_dataset() for name, node in idata.children.items()}
    return {name: idata[name] for name in idata.groups()}


def dataset(
    values: Mapping[str, NDArray],
    dims: Mapping[str, tuple[str, ...]],
    coords: Mapping[str, NDArray],
    leading: tuple[str, ...] = ("chain", "draw"),
) -> xr.Dataset:
    """A data set of named arrays with named axes and coordinates.

    All arrays have the `leading` axes first; `dims` names their further axes, invented as
    ``NAME_dim_0`` where absent. An axis that is named like one of the arrays is called
    ``NAME_dim``: what is named like its own axis is a coordinate to xarray. `coords` are by axis.
    """
    variables: dict[str, tuple[tuple[str, ...], NDArray]] = {}
    renamed = {name: _free_name(f"{name}_dim", values) for name in values}
    for name, value in values.items():
        array = np.asarray(value)
        extra = array.ndim - len(leading)
        axes = dims.get(name, tuple(f"{name}_dim_{i}" for i in range(extra)))
        variables[name] = ((*leading, *(renamed.get(axis, axis) for axis in axes)), array)
    data = xr.Dataset(variables)
    shown = {renamed.get(axis, axis): values for axis, values in coords.items()}
    known = {axis: shown[axis] for axis in data.dims if axis in shown}
    counted = {axis: np.arange(data.sizes[axis]) for axis in leading if axis in data.dims}
    return data.assign_coords({**counted, **known})


def axis_names(array: xr.DataArray, axis: str) -> list[str]:
    """Names along an axis, numbers where it has none."""
    values = array[axis].values if axis in array.coords else range(array.sizes[axis])
    return [str(value) for value in values]


def _free_name(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_dim"
    return name


def convergence(draws: NDArray) -> dict[str, NDArray]:
    """``ess_bulk``, ``ess_tail`` and ``r_hat``, each (parameters,), of (chains, draws, parameters).

    Vehtari et al. (2021), Bayesian Analysis 16:667, https://doi.org/10.1214/20-BA1221
    """
    array_stats, axes = _statistics(), {"chain_axis": 0, "draw_axis": 1}
    ess_bulk = array_stats.ess(draws, **axes, method="bulk")
    ess_tail = array_stats.ess(draws, **axes, method="tail", prob=TAILS)
    # R-hat needs at least two chains.
    unknown = np.full(draws.shape[2], np.nan)
    r_hat = array_stats.rhat(draws, **axes) if len(draws) > 1 else unknown
    return {"ess_bulk": ess_bulk, "ess_tail": ess_tail, "r_hat": np.asarray(r_hat)}


def pareto_k(log_weights: NDArray) -> float:
    """Shape of the generalised Pareto tail of log importance weights (draws,).

    Draws of weight zero (-inf) are left out. Below 0.7 the weights can be trusted, and with them
    the approximation; Yao, Vehtari, Simpson and Gelman (2018), ICML 80:5581,
    https://proceedings.mlr.press/v80/yao18a.html
    """
    finite = np.asarray(log_weights)[np.isfinite(log_weights)]
    return float(smoothed_weights(finite[None])[1][0])


def effective_sample_size(values: NDArray) -> float:
    """How many independent draws the mean of values (chains, draws) is worth.

    More than there are where they are negatively correlated; Vehtari et al. (2021), Bayesian
    Analysis 16:667, https://doi.org/10.1214/20-BA1221
    """
    return float(_statistics().ess(values, method="mean"))


def tail_length(n_draws: int, effective: float = 1.0) -> int:
    """How many of the largest weights make up the tail; `effective` is effective draws over draws.

    >>> tail_length(1000), tail_length(100)
    (94, 20)
    """
    return min(n_draws // 5, int(3 * np.sqrt(n_draws / effective)))


def smoothed_weights(log_ratios: NDArray, effective: float = 1.0) -> tuple[NDArray, NDArray]:
    """Importance weights whose largest values are smoothed by a generalised Pareto tail.

    Of finite log ratios (points, draws): log weights (points, draws), whose exponentials sum to one
    over draws, and the shapes of the tails (points,); `effective` is effective draws over draws.
    Where there are too few draws for a tail, or it does not fit into floating-point numbers, its
    shape is infinite and weights are as they are; where all are equal, minus infinite.
    Vehtari et al. (2024), J Mach Learn Res 25:72, https://jmlr.org/papers/v25/19-556.html

    >>> weights, _ = smoothed_weights(np.random.default_rng(0).normal(size=(3, 400)))
    >>> np.exp(weights).sum(1).round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    n_draws = log_ratios.shape[1]
    weights = log_ratios - logsumexp(log_ratios, axis=1, keepdims=True)
    shapes = np.where(np.ptp(log_ratios, axis=1) < EQUAL, -np.inf, np.inf)
    n_tail = tail_length(n_draws, effective)
    if n_tail < SHORTEST_TAIL:
        return weights, shapes
    tails = np.sort(log_ratios, axis=1)[:, -n_tail - 1 :]
    lowest = tails[:, 0] - tails[:, -1]
    known = np.flatnonzero((lowest > np.log(np.finfo(float).tiny)) & (lowest < -EQUAL))
    if len(known):
        # So many of them at most as `tail_length` says.
        effective = max(effective, 225 / n_draws)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # It takes log-likelihoods, the negative of the log ratios.
            smoothed, found = _statistics().psislw(-weights[known], r_eff=effective)
        sound = np.isfinite(np.atleast_1d(found)) & np.isfinite(smoothed).all(1)
        weights[known[sound]] = np.asarray(smoothed)[sound]
        shapes[known[sound]] = np.atleast_1d(found)[sound]
    return weights, shapes
