"""How far posteriors of the same model lie apart: variational Laplace judged by MCMC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm.compare.comparable import check_named
from bayesdcm.data.validation import some_names, warn_caller
from bayesdcm.infer.method import one_of


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
    check_named(fits, '{"laplace": f1, "nuts": f2}')
    for name, value in fits.items():
        if not hasattr(value, "summary"):
            raise TypeError(f"fits[{name!r}] must be a Fit, got {type(value).__name__}")
        if getattr(value, "posterior", None) is not None:
            value.posterior.require_spread(f"compare_posteriors, fits[{name!r}],")
    if reference is None:
        sampled = [name for name, fit in fits.items() if _is_exact(fit)]
        reference = sampled[0] if sampled else list(fits)[-1]
    one_of(*fits)("reference", reference)
    summaries = {name: fit.summary() for name, fit in fits.items()}
    standard = summaries.pop(reference)
    tables = [_against(name, summary, standard) for name, summary in summaries.items()]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise ValueError("the fits have no parameter in common; compare fits of one model")
    everything = [standard, *summaries.values()]
    labels = list(dict.fromkeys(label for summary in everything for label in summary.index))
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
    judged, reference = (part.loc[common, ["mean", "sd"]] for part in (table, standard))
    result = judged.join(reference.add_prefix("reference_")).reset_index(drop=True)
    result.insert(0, "parameter", common)
    result.insert(1, "fit", name)
    result["shift"] = (result["mean"] - result["reference_mean"]) / result["reference_sd"]
    result["sd_ratio"] = result["sd"] / result["reference_sd"]
    result["distance"] = np.hypot(result["shift"], result["sd_ratio"] - 1)
    return result
