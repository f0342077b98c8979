"""Reader of SPM's files of dynamic causal models for evoked responses (DCM_*.mat)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.spm_erp_data import read_erp_data
from bayesdcm.data.spm_erp_estimates import SpmErpEstimates, read_erp_estimates
from bayesdcm.data.spm_erp_layout import cells, neural_fields, spatial_fields
from bayesdcm.data.spm_erp_priors import read_erp_priors
from bayesdcm.data.spm_fields import dense, flag, is_empty, names_of, nested, optional
from bayesdcm.data.spm_priors import Moments
from bayesdcm.data.validation import check_names, read_only, warn_caller

__all__ = ["SpmErpFile", "parse_erp"]

NEURAL = {"ERP": "erp", "CMC": "cmc", "LFP": "lfp", "NMDA": "nmda"}
OBSERVATIONS = {"ECD": "ecd", "IMG": "img", "LFP": "lfp"}
# Settings that change the priors or the input, which this package does not have.
DIFFERENCES = {
    "lock": "coupled effects of trials",
    "symmetry": "symmetric dipoles",
    "symm": "symmetric dipoles",
    "multiC": "inputs that differ between conditions",
    "CVA": "channel modes that separate conditions",
    "sus": "a sustained input",
}
_KINDS = ("forward", "backward", "lateral")
# SPM's defaults: modes, onset and width in ms.
_N_MODES, _ONSET, _DURATION = 8, 60.0, 32.0


@dataclass(frozen=True, eq=False)
class SpmErpFile:
    """Content of one SPM file of a DCM for evoked responses, in this package's layout.

    Switches (0/1) are `forward`, `backward`, `lateral` (for the canonical microcircuit SPM's
    modulatory connections), each (to, from), `modulation` (effect, to, from) and `inputs` (source,
    input). `positions`, (sources, 3), are MNI coordinates in mm, `position_variance` in mm^2 (0:
    fixed); `onset` and `duration`, (inputs,), prior means of when inputs peak and of their standard
    deviation, in s. `modes`, (channels, modes), are those by which SPM reduced the data, None
    where it did not estimate the model; `n_modes`, how many were asked for. `confounds`, (times,
    cosines), are the `n_confounds` drifts that SPM removed, `residual_forming`, (times, times),
    the matrix that did it (and applied a window where `hanning`), and `scale` the number by which
    SPM then divided responses.

    `data` are responses in the units stored (SPM's: mostly microvolts and femtotesla), before
    division by `scale`, and after multiplication by `residual_forming`. `priors` are by SPM's
    symbol, in SPM's shapes, with that of the noise, ``log_precision`` (), where the file has some.
    `estimates` are SPM's, None where the model was not estimated.
    """

    forward: NDArray[np.int64]
    backward: NDArray[np.int64]
    lateral: NDArray[np.int64]
    modulation: NDArray[np.int64]
    inputs: NDArray[np.int64]
    neural: str
    observation: str
    source_names: tuple[str, ...]
    positions: NDArray[np.float64] | None
    position_variance: float
    onset: NDArray[np.float64]
    duration: NDArray[np.float64]
    n_modes: int
    modes: NDArray[np.float64] | None
    n_confounds: int
    confounds: NDArray[np.float64] | None
    hanning: bool
    residual_forming: NDArray[np.float64] | None
    scale: float | None
    data: EvokedData
    priors: dict[str, Moments]
    estimates: SpmErpEstimates | None

    @property
    def keywords(self) -> dict[str, Any]:
        """Arguments of the model of evoked responses that fits `data`, by name.

        ``hanning`` is False where the data in the file have been windowed already.
        """
        others = ("confounds", "residual_forming", "scale", "data", "priors", "estimates")
        keywords = {name: value for name, value in vars(self).items() if name not in others}
        return keywords | {"hanning": self.hanning and self.residual_forming is None}


def parse_erp(dcm: Mapping[str, Any], *, ordered: bool) -> SpmErpFile:
    """Content of a DCM for evoked responses, in this package's layout.

    `ordered` says whether fields of structures are in MATLAB's order. Raises `ValueError` for other
    modalities, and models that this package does not have.
    """
    options = dcm.get("options")
    options = options if isinstance(options, Mapping) else {}
    _check_kind(dcm, options)
    neural = known_option("model", options.get("model"), NEURAL)
    observation = known_option("spatial", options.get("spatial"), OBSERVATIONS)
    for name, meaning in DIFFERENCES.items():
        if flag(options, name):
            warn_caller(
                f"The file asks for {meaning} (DCM.options.{name}), which this package does not "
                "have, so estimates will differ."
            )
    from_data = read_erp_data(dcm, options)
    data = from_data["data"]
    structure = connection_switches(dcm, data.n_effects)
    n, n_inputs = structure["inputs"].shape
    names = check_names("DCM.Sname", names_of(dcm.get("Sname")), n, "source", "DCM.A")
    shapes = neural_fields(neural, n, n_inputs, data.n_effects), spatial_fields(observation, n)
    priors = read_erp_priors(dcm, *shapes, ordered)
    return SpmErpFile(
        **followed_structure(structure, neural, priors, names),
        **_timing(options, n_inputs),
        **from_data,
        neural=neural,
        observation=observation,
        source_names=names,
        positions=source_positions(dcm.get("Lpos"), n, observation, priors.get("Lpos")),
        # Only dipoles move, whatever the option of a file of another kind says.
        position_variance=_position_variance(dcm, options) if observation == "ecd" else 0.0,
        n_modes=int(_number(options, "Nmodes", _N_MODES)),
        priors=priors,
        estimates=read_erp_estimates(dcm, *shapes, data, ordered),
    )


def _check_kind(dcm: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    analysis = options.get("analysis")
    if isinstance(analysis, str) and analysis.strip().upper() not in ("ERP", ""):
        raise ValueError(
            f"It holds a DCM of kind '{analysis}' (DCM.options.analysis); expected a DCM for "
            "evoked responses, 'ERP'. Use the reader of that kind of data."
        )
    missing = [name for name in ("A", "C", "xY") if is_empty(dcm.get(name))]
    if "xY" not in missing and (not isinstance(dcm["xY"], Mapping) or is_empty(dcm["xY"].get("y"))):
        missing.append("xY.y")
    if missing:
        raise ValueError(
            f"Its DCM lacks {', '.join('DCM.' + name for name in missing)}; expected connections "
            "(A), inputs (C) and responses (xY). Specify the model and its data in SPM first."
        )


def known_option(option: str, value: object, known: Mapping[str, str]) -> str:
    """Our name of the value of an option, which must be known."""
    if not isinstance(value, str) or value.strip().upper() not in known:
        shown = f"'{value}'" if isinstance(value, str) else type(value).__name__
        raise ValueError(
            f"DCM.options.{option} is {shown}; expected one of {', '.join(known)}, which this "
            "package has. Specify the model with one of these."
        )
    return known[value.strip().upper()]


def connection_switches(dcm: Mapping[str, Any], n_effects: int) -> dict[str, NDArray[np.int64]]:
    """Switches of connections, modulation and inputs, from DCM.A, DCM.B and DCM.C."""
    A = dcm["A"]
    first = A[0] if isinstance(A, (list, np.ndarray)) and len(np.shape(A[0])) == 2 else None
    n = 1 if first is None else np.shape(first)[0]
    connections = cells("DCM.A", A, (n, n))
    if len(connections) != 3:
        raise ValueError(
            f"DCM.A has {len(connections)} matrices; expected three, of forward, backward and "
            "lateral connections. Specify DCM.A{1} to DCM.A{3}."
        )
    C = dcm["C"]
    if len(getattr(C, "shape", ())) > 2:
        raise ValueError(
            f"DCM.C has shape {C.shape}; expected (sources, inputs). Specify the model without "
            "options.multiC."
        )
    n_inputs = max(int(np.prod(getattr(C, "shape", ()), dtype=int)) // n, 1)
    structure = {
        kind: _switches(f"DCM.A{{{i + 1}}}", connections[i]) for i, kind in enumerate(_KINDS)
    }
    modulation = _switches("DCM.B", cells("DCM.B", dcm.get("B"), (n, n)))
    if len(modulation) != n_effects:
        raise ValueError(
            f"DCM.B has {len(modulation)} matrices, but DCM.xU.X has {n_effects} column(s); "
            "expected one matrix for each effect. Specify both alike."
        )
    inputs = _switches("DCM.C", dense("DCM.C", C, (n, n_inputs)))
    return structure | {"modulation": modulation, "inputs": inputs}


def _switches(name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """SPM takes any entry other than 0 for a connection."""
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} has entries that are not finite; expected switches, 0 or 1. Specify it anew."
        )
    return read_only((values != 0).astype(np.int64))


def _timing(options: Mapping[str, Any], n_inputs: int) -> dict[str, NDArray[np.float64]]:
    timing = {}
    for name, option, default in (("onset", "onset", _ONSET), ("duration", "dur", _DURATION)):
        value = options.get(option)
        value = default if is_empty(value) else value
        if np.size(value) == 1:
            value = np.full(n_inputs, float(np.ravel(value)[0]))
        # SPM holds these in ms.
        timing[name] = read_only(dense(f"DCM.options.{option}", value, (n_inputs,)) / 1000)
    return timing


def followed_structure(
    structure: Mapping[str, NDArray[np.int64]],
    neural: str,
    priors: Mapping[str, Moments],
    names: Sequence[str],
) -> dict[str, NDArray[np.int64]]:
    """Structure with all connections that the file's prior lets vary."""
    A, B, C, M, N = (
        None if symbol not in priors or priors[symbol].variance is None
        else priors[symbol].variance > 0
        for symbol in "ABCMN"
    )  # fmt: skip
    free: dict[str, NDArray[np.bool_]] = {}
    if A is not None and neural == "cmc":
        free |= {"forward": A[0] | A[1], "backward": A[2] | A[3]}
    elif A is not None:
        free |= zip(_KINDS, A, strict=True)
    changes = [each for each in (B, N) if each is not None and each.size]
    free |= {"lateral": M} if M is not None else {}
    free |= {"modulation": np.any(changes, axis=0)} if changes else {}
    free |= {"inputs": C} if C is not None else {}
    followed = dict(structure)
    for name, extra in free.items():
        added = np.argwhere(extra & (structure[name] == 0))
        if len(added):
            to = names[added[0][-2]]
            warn_caller(
                f"The file's prior variances (pC) let {len(added)} entries of {name} vary that its "
                f"structure has off, the first to {to}; the model has them, as SPM does"
            )
            followed[name] = structure[name] | extra
    return followed


def source_positions(
    value: object, n: int, observation: str, prior: Moments | None = None
) -> NDArray[np.float64] | None:
    """Prior positions of sources, (sources, 3), mm; None where they do not matter."""
    if observation == "ecd" and prior is not None and prior.mean is not None:
        value = prior.mean
    if is_empty(value):
        if observation == "lfp":
            return None
        raise ValueError(
            "Its DCM lacks DCM.Lpos, the sources' positions; expected 3 x sources, in mm. Specify "
            "them in SPM first."
        )
    return read_only(dense("DCM.Lpos", value, (3, n)).T)


def _position_variance(dcm: Mapping[str, Any], options: Mapping[str, Any]) -> float:
    stored = nested(dcm, "M", "gC", "Lpos")
    if not is_empty(stored):
        return float(np.max(dense("DCM.M.gC.Lpos", stored, np.shape(stored))))
    return _number(options, "location", 0.0)


def _number(options: Mapping[str, Any], name: str, default: float) -> float:
    return float(optional(f"DCM.options.{name}", options.get(name), (), default))
