"""How far posteriors of the same model lie apart: variational Laplace judged by MCMC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm.data.validation import some_names, warn_caller


def _is_exact(fit: Any) -> bool:
    method = getattr(getattr(fit, "posterior", None), "method", None)
    return getattr(method, "exact", False)


def compare_posteriors(fits: Mapping[str, Any], reference: str | None = None) -> pd.DataFrame:
    """Compare posteriors of the same parameters, worst agreement first.

    Parameters
    ----------
    fits : mapping of str to Fit
        At least two fits of one model to one data set, by name; what `bayesdcm.read_spm_dcm`
        returns stands for SPM's estimates in the file.
    reference : str, optional
        The fit that the others are judged by. None: the first made by NUTS, else the last.

    Returns
    -------
    pandas.DataFrame
        One row for each parameter and fit compared: ``parameter``, ``fit``, ``mean``, ``sd``,
        ``reference_mean``, ``reference_sd``, ``shift`` (difference of means in units of the
        reference's standard deviation), ``sd_ratio`` (standard deviation over the
        reference's) and ``distance``, the 2-Wasserstein distance of Gaussians of these moments
        in units of the reference's standard deviation,
        ``sqrt(shift**2 + (sd_ratio - 1)**2)``.

    Raises
    ------
    TypeError
        If `fits` is not a mapping of fits.
    ValueError
        If there are fewer than two, the reference is unknown, or no parameter is common.

    Warns
    -----
    UserWarning
        If labels of some parameters are not common, and these are left out.

    Examples
    --------
    >>> import pandas as pd
    >>> class Known:
    ...     def __init__(self, mean, sd):
    ...         self.table = pd.DataFrame({"mean": [mean], "sd": [sd]}, index=["decay"])
    ...     def summary(self):
    ...         return self.table
    >>> table = compare_posteriors({"a": Known(0.5, 1.0), "b": Known(0.0, 1.0)})
    >>> float(table["shift"].iloc[0])
    0.5
    """
    if not isinstance(fits, Mapping):
        raise TypeError(
            'fits must be a dict of named fits, such as {"laplace": f1, "nuts": f2}, '
            f"got {type(fits).__name__}"
        )
    if len(fits) < 2:
        raise ValueError(f"fits must name at least two fits, got {len(fits)}")
    for name, value in fits.items():
        if not hasattr(value, "summary"):
            raise TypeError(f"fits[{name!r}] must be a Fit, got {type(value).__name__}")
    if reference is None:
        sampled = [name for name, fit in fits.items() if _is_exact(fit)]
        reference = sampled[0] if sampled else list(fits)[-1]
    if reference not in fits:
        raise ValueError(
            f"reference must be one of {', '.join(map(repr, fits))}, got {reference!r}"
        )
    standard = fits[reference].summary()
    tables = [
        _against(name, fit.summary(), standard) for name, fit in fits.items() if name != reference
    ]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise ValueError("the fits have no parameter in common; compare fits of one model")
    labels = list(standard.index)
    for fit in fits.values():
        labels += [label for label in fit.summary().index if label not in labels]
    kept = set(table["parameter"])
    left = [label for label in labels if label not in kept]
    if left:
        warn_caller(
            f"{len(left)} of {len(labels)} parameters are not in the reference and another fit by "
            f"the same label, and are left out: {some_names(left)}; fits of one model to data "
            "with the same names have the same labels"
        )
    table = table.sort_values("distance", ascending=False, ignore_index=True, kind="stable")
    table.attrs["reference"] = reference
    return table


def _against(name: str, table: pd.DataFrame, standard: pd.DataFrame) -> pd.DataFrame:
    common = [label for label in standard.index if label in table.index]
    judged, reference = table.loc[common], standard.loc[common]
    result = pd.DataFrame(
        {
            "parameter": common,
            "fit": name,
            "mean": judged["mean"].to_numpy(),
            "sd": judged["sd"].to_numpy(),
            "reference_mean": reference["mean"].to_numpy(),
            "reference_sd": reference["sd"].to_numpy(),
        }
    )
    result["shift"] = (result["mean"] - result["reference_mean"]) / result["reference_sd"]
    result["sd_ratio"] = result["sd"] / result["reference_sd"]
    result["distance"] = np.hypot(result["shift"], result["sd_ratio"] - 1)
    return result
