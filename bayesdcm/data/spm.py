"""Reader of SPM's files of dynamic causal models for task fMRI (DCM_*.mat)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.spm_estimates import SpmEstimates, n_slices, read_estimates
from bayesdcm.data.spm_fields import dense, flag, is_empty, n_columns, names_of, nested, optional
from bayesdcm.data.spm_free_energy import has_own_free_energy
from bayesdcm.data.spm_priors import Moments
from bayesdcm.data.spm_task_priors import read_task_priors
from bayesdcm.data.validation import warn_caller

__all__ = ["SpmFile", "parse_task"]

# Switches that change the generative model into one that the task-fMRI model does not cover.
_UNSUPPORTED = {
    "stochastic": "a stochastic DCM",
    "backwards": "a two-state DCM with separate backward connections",
    "hidden": "a DCM with hidden regions",
    "precision": "a DCM whose prior on connections is not SPM's default",
}
# Above this number of regions SPM projects the prior on A to principal modes of the data, unless
# DCM.options.maxnodes is another.
_MAX_NODES = 8
# From SPM25 on, the diagonal of DCM.a decides which self-connections are estimated.
_DIAGONAL_COUNTS = 25


@dataclass(frozen=True, eq=False)
class SpmFile:
    """Content of one SPM file of a DCM for task fMRI, in this package's layout.

    Switches (0/1) are ``A`` (to, from), ``B`` (input, to, from), ``C`` (to, input) and ``D``
    (gating region, to, from); B and D are None where the file has none. `data` has centred inputs
    where the file asks for it. `priors` are full arrays by parameter, the noise's ``log_precision``
    (regions,) among them, where the file has some. `estimates` are SPM's, None where the model was
    not estimated.
    """

    A: NDArray[np.int64]
    B: NDArray[np.int64] | None
    C: NDArray[np.int64]
    D: NDArray[np.int64] | None
    two_state: bool
    data: BoldData
    priors: dict[str, Moments]
    estimates: SpmEstimates | None


def parse_task(dcm: Mapping[str, Any], *, ordered: bool) -> SpmFile:
    """Content of a DCM for task fMRI, in this package's layout.

    `ordered` says whether fields of structures are in MATLAB's order. Raises `ValueError` for kinds
    that the task-fMRI model does not cover.
    """
    options = dcm.get("options")
    options = options if isinstance(options, Mapping) else {}
    _check_kind(dcm, options)
    data = _read_data(dcm)
    n, regions, inputs = data.n_regions, data.region_names or (), data.input_names or ()
    switches = _structure(dcm, n, len(inputs))
    if not switches["C"].any() or not np.any(data.inputs):
        raise ValueError(
            "Nothing drives the model: DCM.c or DCM.U.u is zero throughout, and SPM would fit it "
            "as a stochastic DCM. Expected a driving input. Specify DCM.c."
        )
    # May be infinite, by which users of SPM keep it from restricting the prior.
    most = float(optional("DCM.options.maxnodes", options.get("maxnodes"), (), _MAX_NODES))
    task_priors = read_task_priors(dcm, regions, inputs, many=n > most, ordered=ordered)
    if n > most and (task_priors.variance is None or task_priors.projected):
        warn_caller(
            f"SPM restricts the prior of DCMs with over {most:g} regions (DCM.options.maxnodes; "
            f"here {n}) to principal modes of the data; this package does not, so estimates will "
            "differ"
        )
    names = {"A": (regions, regions), "B": (inputs, regions, regions), "C": (regions, inputs),
             "D": (regions, regions, regions)}  # fmt: skip
    for name, moments in task_priors.moments.items():
        if name in switches and moments.variance is not None:
            switches[name] = _followed(name, switches[name], moments.variance, names[name])
    if "A" not in task_priors.moments or task_priors.moments["A"].variance is None:
        _switch_on_diagonal(dcm, switches["A"])
    priors = task_priors.moments
    gated = np.any(switches["D"]) or np.any(priors.get("D", Moments()).mean)
    if is_empty(dcm.get("d")) and not gated:
        switches["D"] = None
        priors.pop("D", None)
    if flag(options, "centre"):
        data = data.centred_inputs()
    estimates = read_estimates(dcm, regions, inputs, task_priors.variance, ordered)
    if estimates and not has_own_free_energy(dcm, data.confounds, priors, estimates):
        estimates = None
    two_state = flag(options, "two_state")
    return SpmFile(**switches, two_state=two_state, data=data, priors=priors, estimates=estimates)


def _structure(dcm: Mapping[str, Any], n: int, m: int) -> dict[str, Any]:
    """Switches of DCM.a to DCM.d."""
    if getattr(dcm["a"], "ndim", 0) == 1 and n > 1:
        raise ValueError(
            "DCM.a is a vector, which parameterises connections by eigenvalues; expected a matrix "
            f"of {n} x {n} switches. Specify the model with a matrix DCM.a."
        )
    # SPM takes any entry of a other than 0 for a connection.
    A = dense("DCM.a", dcm["a"], (n, n))
    return {
        "A": _switches("DCM.a", np.where(np.isfinite(A), (A != 0).astype(float), A)),
        "B": _slices("DCM.b", dcm.get("b"), n, m),
        "C": _switches("DCM.c", dense("DCM.c", dcm["c"], (n, m))),
        "D": _gates(dcm.get("d"), n),
    }


def _followed(
    name: str,
    switches: NDArray[np.int64] | None,
    variance: NDArray[np.float64],
    names: Sequence[Sequence[str]],
) -> NDArray[np.int64]:
    """Switches of what the file's prior lets vary, which SPM estimates whatever DCM.a says."""
    free = (variance > 0).astype(np.int64)
    before = np.zeros_like(free) if switches is None else switches
    differ = np.argwhere(free != before)
    # Self-connections are free in SPM12 whether or not they are switched on.
    differ = [index for index in differ if not (name == "A" and index[0] == index[1])]
    if differ:
        first = ", ".join(axis[i] for axis, i in zip(names, differ[0], strict=True))
        warn_caller(
            f"DCM.{name.lower()} and the file's prior variances (pC) differ in {len(differ)} "
            f"connection(s), the first {name}[{first}], which is "
            f"{'free' if free[tuple(differ[0])] else 'fixed'} by pC; the model follows pC, as SPM "
            "does"
        )
    return free


def _switch_on_diagonal(dcm: Mapping[str, Any], A: NDArray[np.int64]) -> None:
    """Give regions self-connections where the file has them off and SPM12 would estimate them."""
    off = int((np.diag(A) == 0).sum())
    if not off or _version(dcm) >= _DIAGONAL_COUNTS:
        return
    np.fill_diagonal(A, 1)
    warn_caller(
        f"DCM.a has no self-connection in {off} region(s), and the file no priors (DCM.M.pC); up "
        "to SPM12 they are estimated all the same, and so they are here. For self-connections "
        "fixed at -0.5 Hz, as later versions have them then, use `model.restrict(A=...)`"
    )


def _version(dcm: Mapping[str, Any]) -> int:
    """Number of the version of SPM that estimated the model, 0 where the file does not say."""
    text = nested(dcm, "version", "SPM", "version")
    match = re.match(r"SPM(\d+)", text.strip()) if isinstance(text, str) else None
    return int(match[1]) if match else 0


def _check_kind(dcm: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for name, kind in _UNSUPPORTED.items():
        if flag(options, name):
            raise ValueError(
                f"It holds {kind} (DCM.options.{name}); expected a deterministic DCM for task "
                f"fMRI. Specify the model without options.{name}."
            )
    if isinstance(dcm.get("a"), list):
        raise ValueError(
            f"DCM.a is a cell array of {len(dcm['a'])} matrices, one for each kind of connection, "
            "as neural mass models have them: it holds a DCM of another kind. Expected one for "
            "task fMRI, with one matrix DCM.a."
        )
    missing = [name for name in ("a", "c", "Y", "U") if is_empty(dcm.get(name))]
    missing += [
        f"{part}.{name}"
        for part in ("Y", "U")
        if part not in missing
        for name in (part.lower(), "dt")
        if not isinstance(dcm[part], Mapping) or is_empty(dcm[part].get(name))
    ]
    if missing:
        raise ValueError(
            f"Its DCM lacks {', '.join('DCM.' + name for name in missing)}; expected a DCM for "
            "task fMRI with connections (a), driving inputs (c), signals (Y) and inputs (U). "
            "Specify the model in SPM first, or use the reader of its kind of data."
        )


def _read_data(dcm: Mapping[str, Any]) -> BoldData:
    Y, U = dcm["Y"], dcm["U"]
    n = n_columns(Y["y"])
    if (regions := float(optional("DCM.n", dcm.get("n"), (), n))) != n:
        raise ValueError(
            f"DCM.n gives {regions:g} regions, but DCM.Y.y has {n} column(s); expected one "
            "signal per region. Specify the model anew with matching regions."
        )
    signal = dense("DCM.Y.y", Y["y"], (None, n))
    inputs = dense("DCM.U.u", U["u"], (None, n_columns(U["u"])))
    confounds = Y.get("X0")
    region_names = names_of(Y.get("name")) or names_of(nested(dcm, "xY", "name"))
    return BoldData(
        signal,
        float(dense("DCM.Y.dt", Y["dt"], ())),
        inputs=inputs,
        input_dt=float(dense("DCM.U.dt", U["dt"], ())),
        region_names=region_names,  # type: ignore[arg-type]
        input_names=names_of(U.get("name")),  # type: ignore[arg-type]
        confounds=optional("DCM.Y.X0", confounds, (None, n_columns(confounds))),
        slice_delays=optional("DCM.delays", dcm.get("delays"), (n,)),
        # SPM scales images, and not to the percent of each region.
        unit="arbitrary",
    )


def _switches(name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"{name} has entries other than 0 and 1, {np.unique(values)[:5].tolist()}, which SPM "
            "takes as prior variances; expected switches. Set each to 0 or 1."
        )
    return np.ascontiguousarray(values).astype(np.int64)


def _slices(name: str, value: object, n: int, count: int) -> NDArray[np.int64] | None:
    """Turn SPM's (to, from, slice) into (slice, to, from)."""
    if is_empty(value):
        return None
    return _switches(name, np.moveaxis(dense(name, value, (n, n, count)), 2, 0))


def _gates(value: object, n: int) -> NDArray[np.int64] | None:
    # SPM lets the first regions gate where there are fewer slices than regions.
    count = n_slices(value)
    given = _slices("DCM.d", value, n, count)
    if count > n:
        raise ValueError(
            f"DCM.d has {count} slices for {n} regions; expected one slice per gating region. "
            "Specify DCM.d with at most as many slices as regions."
        )
    return None if given is None else np.pad(given, ((0, n - count), (0, 0), (0, 0)))
