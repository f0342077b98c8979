"""Posterior estimates as SPM stored them, relabelled and in this package's layout."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_fields import dense, is_empty, n_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SpmEstimates", "read_estimates"]


@dataclass(frozen=True, eq=False)
class SpmEstimates:
    """Posterior of a DCM for task fMRI as SPM's variational Laplace left it.

    Attributes
    ----------
    mean : dict of ndarray
        Posterior means in SPM's parameterisation: ``A`` (to, from), ``B`` (input, to, from), ``C``
        (to, input), ``D`` (gating region, to, from), ``transit`` (regions,), ``decay`` () and
        ``epsilon`` (). Entries that are switched off have their prior mean.
    covariance : pandas.DataFrame
        Posterior covariance of the free parameters, in SPM's order, labelled ``A[V5, V1]``
        (to, from), ``B[Motion, V5, V1]`` (input, to, from), ``C[V1, Photic]`` (to, input),
        ``D[V5, V2, V1]`` (gating, to, from), ``transit[V1]``, ``decay`` and ``epsilon``.
    free_energy : float
        Negative variational free energy, SPM's approximation to the log evidence, in nats.
    """

    mean: dict[str, NDArray[np.float64]]
    covariance: pd.DataFrame
    free_energy: float

    def __repr__(self) -> str:
        """One line: free energy and the number of free parameters."""
        return (
            f"SpmEstimates(free energy {self.free_energy:.2f} nats, "
            f"{len(self.covariance)} free parameters)"
        )


def read_estimates(
    dcm: Mapping[str, Any], regions: Sequence[str], inputs: Sequence[str]
) -> SpmEstimates | None:
    """Return the estimates in a DCM structure, or None where it was not estimated.

    Parameters
    ----------
    dcm : mapping
        The structure, by field.
    regions, inputs : sequence of str
        Names of the regions and inputs.

    Returns
    -------
    SpmEstimates or None
        None where one of the fields Ep, Cp and F is absent or empty, and, with a warning, where
        they do not have the layout of SPM12 and later.

    Warns
    -----
    UserWarning
        If estimates are present in an unknown layout.

    Examples
    --------
    >>> read_estimates({"a": 1}, ["V1"], ["Photic"]) is None
    True
    """
    if any(is_empty(dcm.get(name)) for name in ("Ep", "Cp", "F")):
        return None
    try:
        return _convert(dcm, regions, inputs)
    except (ValueError, TypeError, KeyError) as error:
        warnings.warn(
            f"The file has estimates, but not in the layout of SPM12 and later ({error!s:.300}); "
            "they are left out. Estimate the model again in a current SPM to have them.",
            stacklevel=5,
        )
        return None


def _convert(dcm: Mapping[str, Any], regions: Sequence[str], inputs: Sequence[str]) -> SpmEstimates:
    import pandas as pd

    Ep = dcm["Ep"]
    if not isinstance(Ep, Mapping):
        raise ValueError("DCM.Ep is not a structure")
    n, m = len(regions), len(inputs)
    n_modulating = 0 if is_empty(Ep.get("B")) else m
    n_gating = _n_slices(Ep.get("D"))
    B = np.zeros((n, n, m))
    D = np.zeros((n, n, n))
    if n_modulating:
        B = dense("DCM.Ep.B", Ep["B"], (n, n, m))
    if n_gating:
        D[:, :, :n_gating] = dense("DCM.Ep.D", Ep["D"], (n, n, n_gating))
    mean = {
        "A": dense("DCM.Ep.A", Ep["A"], (n, n)),
        "B": np.moveaxis(B, 2, 0),
        "C": dense("DCM.Ep.C", Ep["C"], (n, m)),
        "D": np.moveaxis(D, 2, 0),
        "transit": dense("DCM.Ep.transit", Ep["transit"], (n,)),
        "decay": dense("DCM.Ep.decay", Ep["decay"], ()),
        "epsilon": dense("DCM.Ep.epsilon", Ep["epsilon"], ()),
    }
    labels = _labels(regions, inputs[:n_modulating], inputs, regions[:n_gating])
    covariance = dense("DCM.Cp", dcm["Cp"], (len(labels), len(labels)))
    keep = np.flatnonzero(_prior_variance(dcm, covariance) > 0)
    names = [labels[i] for i in keep]
    return SpmEstimates(
        mean={name: _read_only(values) for name, values in mean.items()},
        covariance=pd.DataFrame(covariance[np.ix_(keep, keep)], index=names, columns=names),
        free_energy=float(dense("DCM.F", dcm["F"], ())),
    )


def _n_slices(value: object) -> int:
    if is_empty(value):
        return 0
    shape = getattr(value, "shape", ())
    return shape[2] if len(shape) == 3 else 1


def _labels(
    regions: Sequence[str], modulating: Sequence[str], driving: Sequence[str], gating: Sequence[str]
) -> list[str]:
    """Labels of all entries in the order of SPM's parameter vector: column-major, target first."""
    return [
        *(f"A[{to}, {source}]" for source, to in product(regions, regions)),
        *(f"B[{u}, {to}, {source}]" for u, source, to in product(modulating, regions, regions)),
        *(f"C[{to}, {u}]" for u, to in product(driving, regions)),
        *(f"D[{gate}, {to}, {source}]" for gate, source, to in product(gating, regions, regions)),
        *(f"transit[{region}]" for region in regions),
        "decay",
        "epsilon",
    ]


def _prior_variance(dcm: Mapping[str, Any], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    M = dcm.get("M")
    prior = M.get("pC") if isinstance(M, Mapping) else None
    size = len(covariance)
    if is_empty(prior) or isinstance(prior, Mapping):
        # Without the prior: what was not free has no posterior variance either.
        return np.diag(covariance)
    if n_columns(prior) == 1:
        return dense("DCM.M.pC", prior, (size,))
    return np.diag(dense("DCM.M.pC", prior, (size, size)))


def _read_only(values: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.ascontiguousarray(values).reshape(values.shape)
    array.setflags(write=False)
    return array
