"""Readers of SPM's files of DCMs for cross-spectra: fMRI at rest, EEG, MEG and LFP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.spectral import SpectralData
from bayesdcm.data.spm_erp import (
    NEURAL,
    OBSERVATIONS,
    connection_switches,
    followed_structure,
    known_option,
    source_positions,
)
from bayesdcm.data.spm_erp_data import read_design
from bayesdcm.data.spm_erp_layout import (
    CELLS,
    Shapes,
    entries,
    neural_fields,
    read_fields,
    spatial_fields,
)
from bayesdcm.data.spm_erp_priors import read_prior_fields
from bayesdcm.data.spm_estimates import if_of_one_fit
from bayesdcm.data.spm_fields import dense, flag, is_empty, n_columns, names_of, nested, optional
from bayesdcm.data.spm_priors import Moments, given, read_noise
from bayesdcm.data.validation import check_names, read_only, warn_caller

__all__ = ["SpmSpectralEstimates", "SpmSpectralFile", "parse_channel_spectra", "parse_spectral"]

Index = tuple[str, tuple[int, ...]]
# SPM's order of the autoregressive estimate, and its number of channel modes.
_ORDER, _N_MODES = 8, 8
_KINDS = {"EEG": "eeg", "MEG": "meg", "MEGPLANAR": "meg", "LFP": "lfp"}
# Options that change the model into one that this package does not have.
_UNSUPPORTED = {"two_state": "two states a region", "stochastic": "a stochastic DCM"}


@dataclass(frozen=True, eq=False)
class SpmSpectralEstimates:
    """Posterior of a DCM for cross-spectra as SPM's variational Laplace left it.

    Arrays are by SPM's symbol. Cell arrays have their cells along the first axis, rows are vectors,
    and connections are (to, from).

    Attributes
    ----------
    mean : dict of ndarray
        Posterior means in SPM's parameterisation.
    covariance : ndarray, shape (parameters, parameters)
        Posterior covariance of all parameters, fixed ones included, in SPM's order.
    parameters : tuple of (str, tuple of int)
        Which entry each row of `covariance` belongs to: ``mean[symbol][index]``.
    free_energy : float
        Negative variational free energy, SPM's approximation to the log evidence, in nats.
    """

    mean: dict[str, NDArray[np.float64]]
    covariance: NDArray[np.float64]
    parameters: tuple[Index, ...]
    free_energy: float

    def __repr__(self) -> str:
        """One line: free energy and the number of free parameters."""
        free = np.count_nonzero(np.diag(self.covariance) > 0)
        return (
            f"SpmSpectralEstimates(free energy {self.free_energy:.2f} nats, {free} free parameters)"
        )


@dataclass(frozen=True, eq=False)
class SpmSpectralFile:
    """Content of one SPM file of a DCM for cross-spectra, in this package's layout.

    `keywords` are arguments of the model by name; `data` the cross-spectra as they were fitted;
    `priors` by SPM's symbol, in SPM's shapes, with that of the noise, ``log_precision`` (), where
    the file has some; `estimates` SPM's, None where the model was not estimated. `modes`,
    (channels, modes), are those in which spectra are, None for channels, or regions.
    """

    keywords: dict[str, Any]
    data: SpectralData
    priors: dict[str, Moments]
    estimates: SpmSpectralEstimates | None
    modes: NDArray[np.float64] | None = None


def parse_spectral(dcm: Mapping[str, Any], *, ordered: bool) -> SpmSpectralFile:
    """Content of a DCM for fMRI at rest (DCM.options.induced).

    `ordered` says whether fields of structures are in MATLAB's order. Raises `ValueError` for kinds
    that the model does not cover.
    """
    options = dcm.get("options")
    options = options if isinstance(options, Mapping) else {}
    for name, meaning in _UNSUPPORTED.items():
        if flag(options, name):
            raise ValueError(
                f"It holds a spectral DCM with {meaning} (DCM.options.{name}), which this package "
                "does not have. Specify the model without."
            )
    for name in ("a", "Y"):
        if is_empty(dcm.get(name)):
            raise ValueError(
                f"Its DCM lacks DCM.{name}; expected connections (a) and signals (Y) at rest"
            )
    data = _bold_spectra(dcm, options)
    n = data.n_channels
    A = dense("DCM.a", dcm["a"], (n, n)) != 0
    shapes: dict[str, tuple[int | None, ...]] = {
        "A": (n, n), "B": (n, n, None), "C": (n, None), "D": (n, n, None),
        "transit": (n,), "decay": (), "epsilon": (), "a": (2,), "b": (2,), "c": (n,),
    }  # fmt: skip
    priors, estimates = _posterior(dcm, shapes, ordered, of_cells=())
    spread = priors.get("A", Moments()).variance
    if spread is not None and ((spread > 0) != A).any():
        warn_caller(
            "DCM.a and the file's prior variances (pC) differ; the model follows pC, as SPM does"
        )
        A = spread > 0
    driven = [s for s in ("B", "C", "D") if np.any(priors.get(s, Moments()).variance)]
    if driven:
        warn_caller(
            f"The file's prior lets {', '.join(driven)} vary, inputs at rest, which the model here "
            "does not have; estimates will differ"
        )
    keywords = {"A": A.astype(np.int64)}
    return SpmSpectralFile(keywords, data, priors, estimates)


def _bold_spectra(dcm: Mapping[str, Any], options: Mapping[str, Any]) -> SpectralData:
    """Cross-spectra as the file has them, which are scaled; of its signals where there are none."""
    Y = dcm["Y"] if isinstance(dcm["Y"], Mapping) else {}
    names = names_of(Y.get("name")) or names_of(nested(dcm, "xY", "name"))
    order = int(optional("DCM.options.order", options.get("order"), (), _ORDER))
    spectra, frequencies = Y.get("csd"), Y.get("Hz")
    if not is_empty(spectra) and not is_empty(frequencies):
        each = spectra if isinstance(spectra, list) else [spectra]
        if len(each) != 1:
            raise ValueError(
                f"DCM.Y.csd has {len(each)} recordings; expected one. Fit one file for each, and "
                "compare them by fit_group."
            )
        hz, matrices = _spectra("DCM.Y.csd", each, dense("DCM.Y.Hz", frequencies, (None,)))
        n_scans = len(Y["y"]) if not is_empty(Y.get("y")) else 0
        interval = optional("DCM.Y.dt", Y.get("dt"), ())
        return SpectralData(
            matrices,
            hz,
            names,  # type: ignore[arg-type]
            kind="bold",
            unit="arbitrary",
            estimator="SPM's autoregressive, scaled",
            order=order,
            degrees_of_freedom=n_scans / (2 * order) if n_scans > 2 * order else None,  # type: ignore[arg-type]
            repetition_time=None if interval is None else float(interval),
        )
    for field in ("y", "dt"):
        if is_empty(Y.get(field)):
            raise ValueError(f"Its DCM lacks DCM.Y.{field}; expected signals at rest")
    signal = dense("DCM.Y.y", Y["y"], (None, n_columns(Y["y"])))
    rate = float(dense("DCM.Y.dt", Y["dt"], ()))
    bold = BoldData(signal, rate, region_names=names, unit="arbitrary")  # type: ignore[arg-type]
    wanted = optional("DCM.options.Fdcm", options.get("Fdcm"), (2,))
    limits = {} if wanted is None else {"fmin": float(wanted[0]), "fmax": float(wanted[1])}
    return SpectralData.from_bold(bold, "autoregressive", order=order, **limits)


def parse_channel_spectra(dcm: Mapping[str, Any], *, ordered: bool) -> SpmSpectralFile:
    """Content of a DCM for cross-spectra of EEG, MEG or LFP (DCM.options.analysis, 'CSD').

    `ordered` says whether fields of structures are in MATLAB's order.
    """
    options = dcm.get("options")
    options = options if isinstance(options, Mapping) else {}
    neural = known_option("model", options.get("model"), NEURAL)
    observation = known_option("spatial", options.get("spatial"), OBSERVATIONS)
    xY = dcm.get("xY")
    if not isinstance(xY, Mapping) or is_empty(xY.get("y")) or is_empty(xY.get("Hz")):
        raise ValueError(
            "Its DCM lacks DCM.xY.y or DCM.xY.Hz; expected cross-spectra. Estimate the model in "
            "SPM first, or make SpectralData of the recording."
        )
    each = xY["y"] if isinstance(xY["y"], list) else [xY["y"]]
    hz, spectra = _spectra("DCM.xY.y", each, dense("DCM.xY.Hz", xY["Hz"], (None,)))
    design, effects = read_design(dcm.get("xU"), len(spectra))
    structure = connection_switches({**dcm, "C": _inputs(dcm)}, design.shape[1])
    n, n_seen = len(structure["forward"]), spectra.shape[-1]
    names = check_names("DCM.Sname", names_of(dcm.get("Sname")), n, "source", "DCM.A")
    channels = names_of(xY.get("name"))
    modes = nested(dcm, "M", "U")
    if channels is not None and len(channels) != n_seen:
        channels = None
    # Spectra in channel modes that are not channels have lead fields in modes.
    matrix = None if is_empty(modes) else dense("DCM.M.U", modes, (None, n_seen))
    if matrix is not None and np.array_equal(matrix, np.eye(len(matrix), n_seen)):
        matrix = None
    if channels is None:
        noun = "channel" if matrix is None else "mode"
        channels = [f"{noun} {i + 1}" for i in range(n_seen)]
    data = SpectralData(
        spectra,
        hz,
        channels,  # type: ignore[arg-type]
        names_of(xY.get("code")),  # type: ignore[arg-type]
        kind=_KINDS.get(str(xY.get("modality")).upper(), "lfp"),
        unit="arbitrary",
        estimator="SPM's autoregressive, scaled",
        design=design,
        effect_names=effects,  # type: ignore[arg-type]
    )
    n_inputs = int(np.shape(_inputs(dcm))[1])
    shapes = {
        **neural_fields(neural, n, n_inputs if _holds_inputs(dcm) else 0, data.n_effects),
        **spatial_fields(observation, n),
        "a": (2, n), "b": (2,), "c": (2, None), "d": (4, n), "f": (2,),
    }  # fmt: skip
    priors, estimates = _posterior(dcm, shapes, ordered, of_cells=CELLS)
    followed = followed_structure(structure, neural, {**priors, "C": Moments()}, names)
    del followed["inputs"]
    keywords = followed | {
        "neural": neural,
        "observation": observation,
        "source_names": names,
        "positions": source_positions(dcm.get("Lpos"), n, observation, priors.get("Lpos")),
        "n_modes": int(optional("DCM.options.Nmodes", options.get("Nmodes"), (), _N_MODES)),
    }
    return SpmSpectralFile(keywords, data, priors, estimates, matrix)


def _inputs(dcm: Mapping[str, Any]) -> NDArray[np.float64]:
    """Switches of inputs, which spectral models ignore: one column where there are none."""
    C = dcm.get("C")
    if not is_empty(C):
        return np.atleast_2d(np.asarray(C, float).reshape(-1, n_columns(C)))
    A = dcm["A"]
    first = A[0] if isinstance(A, (list, np.ndarray)) and len(np.shape(A[0])) == 2 else np.eye(1)
    return np.zeros((len(first), 1))


def _holds_inputs(dcm: Mapping[str, Any]) -> bool:
    for place in ("Ep", "M"):
        stored = nested(dcm, place, "C") if place == "Ep" else nested(dcm, "M", "pE", "C")
        if stored is not None:
            return not is_empty(stored)
    return False


def _spectra(
    name: str, conditions: list, frequencies: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Frequencies, and complex arrays (conditions, frequencies, n, n) without lost dimensions."""
    arrays = []
    for i, value in enumerate(conditions):
        raw = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
        # MATLAB's HDF5 files have complex numbers as records.
        if raw.dtype.names and {"real", "imag"} <= set(raw.dtype.names):
            raw = raw["real"] + 1j * raw["imag"]
        n = round((raw.size / len(frequencies)) ** 0.5)
        if raw.dtype.kind not in "iufc" or raw.size != len(frequencies) * n * n:
            raise ValueError(
                f"{name}{{{i + 1}}} has shape {raw.shape}; expected numbers of shape "
                f"({len(frequencies)}, n, n), a matrix for each of DCM's frequencies Hz"
            )
        arrays.append(np.asarray(raw, complex).reshape(len(frequencies), n, n))
    return frequencies, np.stack(arrays)


def _posterior(
    dcm: Mapping[str, Any], shapes: Shapes, ordered: bool, of_cells: tuple[str, ...]
) -> tuple[dict[str, Moments], SpmSpectralEstimates | None]:
    """Priors by symbol, and estimates; fields that the file does not have are left out."""
    for structure in (dcm.get("Ep"), nested(dcm, "M", "pE")):
        if isinstance(structure, Mapping):
            shapes = {symbol: shape for symbol, shape in shapes.items() if symbol in structure}
            break
    priors = {"log_precision": read_noise(dcm, ())}
    priors |= read_prior_fields(dcm, "p", shapes, ordered, of_cells)

    def convert() -> SpmSpectralEstimates:
        mean = read_fields("DCM.Ep", dcm["Ep"], shapes, ordered=ordered, of_cells=of_cells)
        places = entries(mean, of_cells)
        size = len(places)
        return SpmSpectralEstimates(
            mean=mean,
            covariance=read_only(dense("DCM.Cp", dcm["Cp"], (size, size))),
            parameters=places,
            free_energy=float(dense("DCM.F", dcm["F"], ()).real),
        )

    return given(priors), if_of_one_fit(dcm, ("Ep", "Cp", "F"), convert)
