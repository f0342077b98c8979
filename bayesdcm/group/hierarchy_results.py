"""What to do with the posterior of a hierarchy: set it beside PEB's, undo switches of clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bayesdcm.data.validation import some_names, warn_caller
from bayesdcm.infer.results import Fit

# Passes over all draws in which labels are matched to their own mean.
PASSES = 20


def compare_with_peb(fit: Fit, effects: Any) -> pd.DataFrame:
    """Group effects of a hierarchy beside those of parametric empirical Bayes.

    Parameters
    ----------
    fit : Fit
        Of a `Hierarchy`, by any method.
    effects : GroupEffects or DataFrame
        From `bayesdcm.group.peb` with the same design and parameters, or its ``summary()``.

    Returns
    -------
    pandas.DataFrame
        By ``covariate`` and ``parameter``: ``peb_mean``, ``peb_sd``, ``mean``, ``sd`` (of the
        hierarchy), ``shift`` (difference of the means in standard deviations of PEB) and ``ratio``
        (of the standard deviations, hierarchy over PEB).

    Raises
    ------
    ValueError
        If the two have no effect in common.

    Warns
    -----
    UserWarning
        If effects of PEB are not in the hierarchy, and are left out.

    References
    ----------
    .. [1] Friston et al. (2016), NeuroImage 128:413.
           https://doi.org/10.1016/j.neuroimage.2015.11.015

    Examples
    --------
    >>> import pandas as pd
    >>> from types import SimpleNamespace
    >>> summary = pd.DataFrame({"mean": [0.2], "sd": [0.1]}, index=["mean A[V5, V1]"])
    >>> peb = pd.DataFrame(
    ...     {"covariate": ["mean"], "parameter": ["A[V5, V1]"], "mean": [0.25], "sd": [0.1]})
    >>> float(compare_with_peb(SimpleNamespace(summary=lambda: summary), peb)["shift"].iloc[0])
    -0.4999999999999999
    """
    table = effects if isinstance(effects, pd.DataFrame) else effects.summary()
    if "covariate" not in table:
        table = table.reset_index()
    summary = fit.summary()
    labels = table["covariate"] + " " + table["parameter"]
    common = labels.isin(summary.index)
    left = list(labels[~common])
    if not common.any():
        raise ValueError(
            "fit and effects have no group effect in common; give both the same design (names of "
            "covariates count) and parameters"
        )
    if left:
        warn_caller(
            f"{len(left)} of {len(table)} effects are not in the hierarchy and left out: "
            f"{some_names(left)}"
        )
    both = table[common].set_index(["covariate", "parameter"])[["mean", "sd"]].add_prefix("peb_")
    for column in ("mean", "sd"):
        both[column] = summary.loc[labels[common], column].to_numpy()
    both["shift"] = (both["mean"] - both["peb_mean"]) / both["peb_sd"]
    both["ratio"] = both["sd"] / both["peb_sd"]
    return both


def relabel(fit: Fit) -> xr.Dataset:
    """Posterior of a hierarchy with clusters, in which a cluster's number means one thing only.

    The clusters' numbers are exchangeable: chains may disagree about them, or switch. Each draw is
    renumbered so that its memberships agree best with the average over all draws; the largest
    cluster comes first.

    Parameters
    ----------
    fit : Fit
        Of a `Hierarchy` with ``clusters``.

    Returns
    -------
    xarray.Dataset
        The group ``posterior`` of ``fit.idata``, every array with an axis ``cluster`` renumbered.

    Raises
    ------
    ValueError
        If the fit has no clusters.

    References
    ----------
    .. [1] Stephens (2000), J R Stat Soc B 62:795. https://doi.org/10.1111/1467-9868.00265
    """
    posterior = fit.idata.posterior
    if "membership" not in posterior:
        raise ValueError("fit must be of a Hierarchy with clusters, got one without")
    renumbered = xr.Dataset(dict(posterior.data_vars), posterior.coords)
    membership = posterior["membership"].transpose("chain", "draw", "subject", "cluster").to_numpy()
    order = _numbers(membership.reshape(-1, *membership.shape[2:]))
    order = order.reshape(*membership.shape[:2], -1)
    for name, values in renumbered.data_vars.items():
        if "cluster" not in values.dims:
            continue
        moved = values.transpose("chain", "draw", "cluster", ...)
        index = order.reshape(*order.shape, *(1,) * (moved.ndim - 3))
        taken = np.take_along_axis(moved.to_numpy(), index, axis=2)
        renumbered[name] = moved.copy(data=taken).transpose(*values.dims)
    return renumbered


def _numbers(membership: NDArray) -> NDArray[np.intp]:
    """Which cluster of each draw comes first, second, ..., shape (draws, clusters)."""
    n_draws, _, n_clusters = membership.shape
    order = np.tile(np.arange(n_clusters), (n_draws, 1))
    reference = membership[-1]
    for _ in range(PASSES):
        agreement = np.einsum("sk,dsj->dkj", reference, membership)
        matched = np.array([linear_sum_assignment(a, maximize=True)[1] for a in agreement])
        reference = np.take_along_axis(membership, matched[:, None], axis=2).mean(0)
        if (matched == order).all():
            break
        order = matched
    return order[:, np.argsort(-reference.sum(0), kind="stable")]
