"""Posterior estimates as SPM stored them, relabelled and in this package's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_fields import dense, flag, is_empty
from bayesdcm.data.validation import read_only, warn_caller

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FIELDS",
    "SpmEstimates",
    "if_of_one_fit",
    "in_order",
    "in_our_axes",
    "n_slices",
    "parameter_fields",
    "parameter_labels",
    "read_estimates",
]

Estimates = TypeVar("Estimates")

FIELDS = ("A", "B", "C", "D", "transit", "decay", "epsilon")
"""Fields of SPM's parameter structure, in the order of its vector."""

# What searches over reduced models leave in a file beside their result.
_REDUCED = ("Pf", "Pk", "files", "fun", "BMR", "BMC", "BMA")


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
    dcm: Mapping[str, Any],
    regions: Sequence[str],
    inputs: Sequence[str],
    prior_variance: NDArray[np.float64] | None,
    ordered: bool,
) -> SpmEstimates | None:
    """The estimates in a DCM structure; None where there are none, as `if_of_one_fit`.

    Prior variances in the order of SPM's vector say what was estimated; `ordered`, whether fields
    of structures are in MATLAB's order.
    """
    n, m = len(regions), len(inputs)

    def convert() -> SpmEstimates:
        import pandas as pd

        stored = parameter_fields("DCM.Ep", dcm["Ep"], n, m)
        if stored["decay"].ndim:
            raise ValueError(
                f"DCM.Ep.decay has {n} values, one a region, but the model here has one decay for "
                "all"
            )
        labels = parameter_labels(stored, regions, inputs)
        places = in_order(dcm["Ep"], stored, ordered)
        covariance = dense("DCM.Cp", dcm["Cp"], (len(labels), len(labels)))[np.ix_(places, places)]
        # Without the prior: what was not free has no posterior variance either.
        variance = np.diag(covariance) if prior_variance is None else prior_variance
        if len(variance) != len(labels):
            raise ValueError("DCM.Ep and the prior of DCM.M do not have the same entries")
        free = variance > 0
        names = [labels[i] for i in np.flatnonzero(free)]
        return SpmEstimates(
            mean={name: read_only(v) for name, v in in_our_axes(stored, n, m).items()},
            covariance=pd.DataFrame(covariance[np.ix_(free, free)], index=names, columns=names),
            free_energy=float(dense("DCM.F", dcm["F"], ())),
        )

    return if_of_one_fit(dcm, ("Ep", "Cp", "F"), convert)


def if_of_one_fit(
    dcm: Mapping[str, Any], fields: Sequence[str], convert: Callable[[], Estimates]
) -> Estimates | None:
    """What `convert` makes of estimates that are those of one person's fit.

    None where a field is empty, and, with a warning, where `convert` fails, and for averages of
    several people, results of a reduction, whose F is the difference to the full model, and fits
    without a free energy. Warns, too, where DCM.M is absent, as it may be after a reduction.
    """
    if any(is_empty(dcm.get(name)) for name in fields) or not _are_of_one_fit(dcm):
        return None
    try:
        return convert()
    except (ValueError, TypeError, KeyError) as error:
        warn_caller(
            f"The file has estimates, but not in the layout of SPM12 and later ({error!s:.300}); "
            "they are left out. `bayesdcm.fit` estimates the model anew"
        )
        return None


def _are_of_one_fit(dcm: Mapping[str, Any]) -> bool:
    free_energy = dcm["F"]
    reduction = [f"DCM.{name}" for name in _REDUCED if not is_empty(dcm.get(name))]
    if flag(dcm, "averaged") or not is_empty(dcm.get("models")):
        models = dcm.get("models")
        count = f" of {len(models)} models" if isinstance(models, list | np.ndarray) else ""
        reason = f"it is an average{count} (DCM.averaged, DCM.models), with the data of one of them"
    elif reduction:
        reason = (
            f"it comes from a search over reduced models ({', '.join(reduction)}), whose F is the "
            "difference to the full model"
        )
    elif np.size(free_energy) == 1 and not np.isfinite(np.asarray(free_energy, float)).all():
        reason = f"its free energy is {float(np.asarray(free_energy)):g}, so that SPM's fit failed"
    else:
        if not isinstance(dcm.get("M"), Mapping):
            warn_caller(
                "The file has estimates, but no DCM.M, with which SPM estimates a model. If they "
                "come from Bayesian model reduction, their free energy is the difference to the "
                "full model: compare it with no other"
            )
        return True
    warn_caller(
        f"The file's estimates are not those of one person's fit: {reason}. They are left out; "
        "`bayesdcm.fit` estimates the model from the data in the file"
    )
    return False


def parameter_fields(name: str, structure: Any, n: int, m: int) -> dict[str, NDArray[np.float64]]:
    """Fields of SPM's parameter structure for fMRI, in SPM's shapes and order.

    ``A`` (n, n), ``B`` (n, n, m or 0), ``C`` (n, m), ``D`` (n, n, gating regions), ``transit``
    (n,), ``decay`` (), or (n,) as earlier versions had it, and ``epsilon`` ().
    """
    if not isinstance(structure, Mapping):
        raise ValueError(f"{name} is not a structure")
    missing = [f"{name}.{field}" for field in FIELDS if field not in structure]
    missing = [field for field in missing if field[-2:] not in (".B", ".D")]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing")
    modulating = 0 if is_empty(structure.get("B")) else m
    gating = n_slices(structure.get("D"))
    regional = int(np.prod(getattr(structure["decay"], "shape", ()), dtype=int)) == n > 1
    shapes: dict[str, tuple[int, ...]] = {
        "A": (n, n), "B": (n, n, modulating), "C": (n, m), "D": (n, n, gating),
        "transit": (n,), "decay": (n,) if regional else (), "epsilon": (),
    }  # fmt: skip
    return {
        field: np.zeros(shape) if 0 in shape else dense(f"{name}.{field}", structure[field], shape)
        for field, shape in shapes.items()
    }


def in_our_axes(
    fields: Mapping[str, NDArray[np.float64]], n: int, m: int
) -> dict[str, NDArray[np.float64]]:
    """SPM's fields with full ``B`` (input, to, from) and ``D`` (gating region, to, from)."""
    B, D = np.zeros((m, n, n)), np.zeros((n, n, n))
    for full, name in ((B, "B"), (D, "D")):
        slices = np.moveaxis(fields[name], 2, 0)
        full[: len(slices)] = slices
    return {**fields, "B": B, "D": D}


def n_slices(value: object) -> int:
    """Number of matrices in a field, whose third dimension was dropped where it is one."""
    if is_empty(value):
        return 0
    shape = getattr(value, "shape", ())
    return shape[2] if len(shape) == 3 else 1


def parameter_labels(
    fields: Mapping[str, NDArray[np.float64]], regions: Sequence[str], inputs: Sequence[str]
) -> list[str]:
    """Labels such as ``A[V5, V1]`` in the order of SPM's vector: column-major, target first."""
    modulating = inputs[: fields["B"].shape[2]]
    gating = regions[: fields["D"].shape[2]]
    decay = [f"decay[{region}]" for region in regions] if fields["decay"].ndim else ["decay"]
    return [
        *(f"A[{to}, {source}]" for source, to in product(regions, regions)),
        *(f"B[{u}, {to}, {source}]" for u, source, to in product(modulating, regions, regions)),
        *(f"C[{to}, {u}]" for u, to in product(inputs, regions)),
        *(f"D[{gate}, {to}, {source}]" for gate, source, to in product(gating, regions, regions)),
        *(f"transit[{region}]" for region in regions),
        *decay,
        "epsilon",
    ]


def in_order(
    structure: Any, fields: Mapping[str, NDArray[np.float64]], ordered: bool
) -> NDArray[np.intp]:
    """Places of the entries of `fields`, in order, in the vector that SPM makes of a structure.

    SPM stacks fields as they come; where their order is lost, that of `fields` is taken.
    """
    names = list(fields)
    if ordered and isinstance(structure, Mapping):
        names.sort(key=lambda name: list(structure).index(name) if name in structure else -1)
    ends = dict(zip(names, np.cumsum([fields[name].size for name in names]), strict=True))
    return np.concatenate(
        [np.arange(ends[name] - field.size, ends[name]) for name, field in fields.items()]
    ).astype(np.intp)
