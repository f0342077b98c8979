"""Objects of a fixed list of classes as JSON and named arrays, and back: no code, no pickle."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import MISSING, fields
from hashlib import sha1
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.infer.method import METHODS, Method

# Where the classes that a file may name are defined; those of methods are in `METHODS`.
CLASSES = {
    name: module
    for module, names in {
        "bayesdcm.data.bold": ("BoldData",),
        "bayesdcm.data.design": ("BoldDesign",),
        "bayesdcm.data.dipole": ("DipoleData",),
        "bayesdcm.data.drive": ("Drive", "DrivePrior"),
        "bayesdcm.data.evoked": ("EvokedData",),
        "bayesdcm.data.spectral": ("SpectralData",),
        "bayesdcm.data.covariance": ("CovarianceData",),
        "bayesdcm.data.connectome": ("Connectome",),
        "bayesdcm.data.head": ("SphereHead", "GridHead", "SurfaceHead"),
        "bayesdcm.neural.base": ("Prior",),
        "bayesdcm.neural.bilinear": ("Bilinear",),
        "bayesdcm.neural.endogenous": ("Endogenous",),
        "bayesdcm.neural.prior_families": ("HorseshoePrior", "LaplacePrior"),
        "bayesdcm.neural.gamma_precision": ("GammaPrecision",),
        "bayesdcm.neural.regression_bilinear": ("RegressionBilinear",),
        "bayesdcm.neural.spike_and_slab": ("SpikeAndSlabPrior",),
        "bayesdcm.neural.rate_bilinear": ("RateBilinear",),
        "bayesdcm.neural.two_state": ("TwoState",),
        "bayesdcm.neural.erp": ("ERP",),
        "bayesdcm.neural.cmc": ("CMC",),
        "bayesdcm.neural.cmm": ("CMM",),
        "bayesdcm.neural.lfp": ("LFP",),
        "bayesdcm.neural.nmda": ("NMDA",),
        "bayesdcm.neural.wilson_cowan": ("WilsonCowan",),
        "bayesdcm.neural.jansen_rit": ("JansenRit",),
        "bayesdcm.neural.montbrio_pazo_roxin": ("MontbrioPazoRoxin",),
        "bayesdcm.neural.hopf": ("Hopf",),
        "bayesdcm.neural.kuramoto": ("Kuramoto",),
        "bayesdcm.neural.wong_wang": ("WongWang",),
        "bayesdcm.neural.wong_wang_ei": ("WongWangEI",),
        "bayesdcm.neural.generic_oscillator": ("Generic2dOscillator",),
        "bayesdcm.neural.laminar": ("LaminarColumn",),
        "bayesdcm.neural.laminar_source": ("LaminarSource",),
        "bayesdcm.neural.linear": ("Linear",),
        "bayesdcm.neural.noise": ("OrnsteinUhlenbeck", "White"),
        "bayesdcm.neural.couplings": (
            "Additive",
            "Diffusive",
            "KuramotoCoupling",
            "Sigmoidal",
            "SigmoidalJansenRit",
            "Tanh",
        ),
        "bayesdcm.observe.streaming": ("StreamedCorrelation", "WindowMeans"),
        "bayesdcm.observe.streamed_spectrum": ("StreamedSpectrum",),
        "bayesdcm.observe.lagged_correlation": ("LaggedCorrelation",),
        "bayesdcm.integrate.exact_cascade": ("ExactCascade",),
        "bayesdcm.integrate.euler": ("Euler",),
        "bayesdcm.integrate.rate_regression": ("RateRegression",),
        "bayesdcm.integrate.runge_kutta": ("RungeKutta",),
        "bayesdcm.integrate.expansion": ("BilinearExpansion",),
        "bayesdcm.integrate.expanded_delays": ("LocalLinear",),
        "bayesdcm.integrate.linear_response": ("LinearResponse",),
        "bayesdcm.integrate.spm_linear_response": ("SpmLinearResponse",),
        "bayesdcm.integrate.delayed": ("Delayed",),
        "bayesdcm.integrate.delayed_relaxation": ("DelayedRelaxation",),
        "bayesdcm.integrate.exponential_euler": ("ExponentialEuler",),
        "bayesdcm.observe.column_dipole": ("ColumnDipole",),
        "bayesdcm.observe.balloon": ("Haemodynamics",),
        "bayesdcm.observe.hrf_convolution": ("HrfConvolution",),
        "bayesdcm.observe.haemodynamic_kernels": (
            "DoubleExponential",
            "FirstOrderVolterra",
            "Gamma",
            "MixtureOfGammas",
        ),
        "bayesdcm.observe.bold": ("Balloon",),
        "bayesdcm.observe.bold_spectra": ("BoldSpectra",),
        "bayesdcm.observe.bold_rates": ("BoldRates",),
        "bayesdcm.observe.filtered_spectra": ("FilteredSpectra",),
        "bayesdcm.observe.regional_balloon": ("RegionalBalloon",),
        "bayesdcm.observe.channel_spectra": ("ChannelSpectra",),
        "bayesdcm.observe.channels": ("Dipoles", "Patches", "Electrodes"),
        "bayesdcm.observe.dipole_correction": ("DipoleCorrection",),
        "bayesdcm.observe.given_lead_field": ("LeadField",),
        "bayesdcm.models.dcm": ("DCM",),
        "bayesdcm.models.spectral": ("SpectralDCM",),
        "bayesdcm.models.cross_spectral": ("CrossSpectralDCM",),
        "bayesdcm.models.task": ("TaskDCM",),
        "bayesdcm.models.laminar": ("LaminarDCM",),
        "bayesdcm.models.recurrent": ("RecurrentDCM",),
        "bayesdcm.models.regression": ("RegressionDCM",),
        "bayesdcm.models.evoked": ("EvokedDCM",),
        "bayesdcm.models.network": ("NetworkModel",),
        "bayesdcm.models.whole_brain": ("WholeBrainDCM",),
        "bayesdcm.models.simulation_objective": ("SimulationObjective",),
        "bayesdcm.models.facts": ("Facts",),
        "bayesdcm.models.given_priors": ("Given", "Priors"),
        "bayesdcm.infer.posterior": ("Posterior",),
        "bayesdcm.infer.laplace": ("LaplaceResult",),
        "bayesdcm.infer.block_covariance": ("BlockCovariance",),
        "bayesdcm.infer.variational_bayes": ("RegionalResults",),
        "bayesdcm.infer.point_estimate": ("PointOptima",),
        "bayesdcm.infer.tail_shape": ("TailShape",),
        "bayesdcm.infer.modelled_data": ("ModelledData",),
        "bayesdcm.infer.empirical_prior": ("JointPrior",),
        "bayesdcm.group.hierarchy": ("Hierarchy",),
        "bayesdcm.group.subject_coordinates": ("SubjectGaussian",),
    }.items()
    for name in names
}
# Arrays of at most so many numbers are written among the rest: an array of its own in a file takes
# more room, and a millisecond or two.
SHORT = 512


class NotPlain(TypeError):
    """An object of a class that files do not hold."""


class PlainWriter:
    """Turns objects into what JSON can hold, and collects their arrays by name, equal ones once.

    >>> writer = PlainWriter()
    >>> writer.plain({"x": np.arange(600.0), "same": np.arange(600.0), "n": (1, "a")})
    {'x': {'is': 'array', 'name': 'x', 'dtype': 'float64'}, ...}
    >>> list(writer.arrays)
    ['x']
    """

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray] = {}
        self._names: dict[tuple, str] = {}

    def plain(self, value: Any, name: str = "") -> Any:
        """An object as JSON takes it, for `from_plain` with the arrays, which are called by `name`.

        Plain values, arrays, tables, sequences and mappings of them, and objects of `CLASSES`;
        NotPlain is raised of all else.
        """
        if isinstance(value, np.generic):
            return {"is": "scalar", "value": value.item(), "dtype": str(value.dtype)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray | jax.Array):
            return self._array(np.asarray(value), name)
        if isinstance(value, pd.DataFrame):
            return self._table(value, name)
        # It is a mapping, too, but of objects of MNE's.
        if type(value).__name__ == "Info" and type(value).__module__.startswith("mne."):
            return {"is": "mne.Info", "fif": self._array(_info_as_bytes(value), name)}
        if isinstance(value, Mapping):
            return self._mapping(value, name)
        if type(value) in (list, tuple):
            entries = [self.plain(entry, f"{name}.{i}") for i, entry in enumerate(value)]
            return entries if type(value) is list else {"is": "tuple", "of": entries}
        return self._object(value, name)

    def _array(self, array: NDArray, name: str) -> dict[str, Any]:
        kind = array.dtype.kind
        if kind == "c":
            parts = np.stack([array.real, array.imag], axis=-1)
            return self._array(parts, name) | {"dtype": str(array.dtype)}
        if kind not in "biufU":
            raise NotPlain(f"{name} is an array of {array.dtype}, which files do not hold")
        # Kept as numbers of which JSON loses nothing.
        if array.size <= SHORT or kind == "U":
            return {"is": "array", "values": array.tolist(), "dtype": str(array.dtype)} | (
                {} if array.size else {"shape": array.shape}
            )
        key = (array.shape, array.dtype, sha1(np.ascontiguousarray(array)).digest())
        if key not in self._names:
            stem, n = name.lstrip(".").replace("/", "_") or "array", 1
            while (free := stem if n == 1 else f"{stem}.{n}") in self.arrays:
                n += 1
            self.arrays[free] = array
            self._names[key] = free
        return {"is": "array", "name": self._names[key], "dtype": str(array.dtype)}

    def _table(self, table: pd.DataFrame, name: str) -> dict[str, Any]:
        index = None if isinstance(table.index, pd.RangeIndex) else list(table.index)
        return {
            "is": "table",
            "values": self._array(table.to_numpy(), name),
            "index": self.plain(index),
            "columns": self.plain(list(table.columns)),
            "name": table.index.name,
        }

    def _mapping(self, value: Mapping, name: str) -> dict[str, Any]:
        plain = {key: self.plain(entry, f"{name}.{key}") for key, entry in value.items()}
        if all(type(key) is str for key in plain) and "is" not in plain:
            return plain
        keys = [self.plain(key, name) for key in plain]
        return {"is": "mapping", "keys": keys, "values": list(plain.values())}

    def _object(self, value: Any, name: str) -> dict[str, Any]:
        kind = type(value)
        if isinstance(value, Method) and METHODS.get(kind.name) is kind:
            # Options that are at their defaults are not written.
            return {"is": "method", "name": kind.name, "options": self.plain(value.options(), name)}
        if CLASSES.get(kind.__name__) != kind.__module__:
            raise NotPlain(f"{name} is {kind.__name__}, a class that files do not hold")
        return {
            "is": kind.__name__,
            "with": {
                key: self.plain(entry, f"{name}.{key}")
                for key, entry in _given_fields(value).items()
            },
        }


def _given_fields(value: Any) -> dict[str, Any]:
    """Fields that the constructor takes and that are not at their defaults."""
    if hasattr(value, "_asdict"):
        values, defaults = value._asdict(), getattr(value, "_field_defaults", {})
    else:
        defaults = {field.name: field.default for field in fields(value) if field.init}
        values = {name: getattr(value, name) for name in defaults}
    return {
        name: given for name, given in values.items() if given is not defaults.get(name, MISSING)
    }


def from_plain(plain: Any, arrays: Mapping[str, NDArray]) -> Any:
    """The object that `PlainWriter.plain` was given, checked by its constructor.

    A ValueError if it names a class or a method that is not known.
    """
    if isinstance(plain, list):
        return [from_plain(entry, arrays) for entry in plain]
    if not isinstance(plain, dict):
        return plain
    kind = plain.get("is")
    if kind is None:
        return {name: from_plain(entry, arrays) for name, entry in plain.items()}
    if kind == "tuple":
        return tuple(from_plain(plain["of"], arrays))
    if kind == "mapping":
        parts = (from_plain(plain[name], arrays) for name in ("keys", "values"))
        return dict(zip(*parts, strict=True))
    if kind == "scalar":
        return np.dtype(plain["dtype"]).type(plain["value"])
    if kind == "array":
        return _array(plain, arrays)
    if kind == "table":
        index = None if plain["index"] is None else pd.Index(plain["index"], name=plain["name"])
        values = _array(plain["values"], arrays)
        return pd.DataFrame(values, index, from_plain(plain["columns"], arrays))
    if kind == "mne.Info":
        return _info_from_bytes(_array(plain["fif"], arrays))
    return _object(plain, arrays)


def _array(plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> NDArray:
    if plain["dtype"].startswith("complex"):
        parts = _array(plain | {"dtype": "float64"}, arrays)
        return (parts[..., 0] + 1j * parts[..., 1]).astype(plain["dtype"], copy=False)
    if "name" in plain:
        return np.array(arrays[plain["name"]]).astype(plain["dtype"], copy=False)
    array = np.array(plain["values"], plain["dtype"])
    return array.reshape(plain["shape"]) if "shape" in plain else array


def _object(plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Any:
    kind = plain["is"]
    if kind == "method":
        name = plain["name"]
        if name not in METHODS:
            raise ValueError(
                f"method {name!r} is not known; import the module that defines it first"
            )
        return METHODS[name](**from_plain(plain["options"], arrays))
    if kind not in CLASSES:
        raise ValueError(f"class {kind!r} is none that files hold; a later version wrote it")
    made = getattr(import_module(CLASSES[kind]), kind)
    given = from_plain(plain["with"], arrays)
    with warnings.catch_warnings():
        # Said when the object was first made.
        warnings.simplefilter("ignore")
        return made(**given)


def _info_as_bytes(info: Any) -> NDArray[np.uint8]:
    import mne

    # Before MNE 1.10 it takes no `verbose`.
    with TemporaryDirectory() as folder, mne.use_log_level("error"):
        path = Path(folder) / "measurement-info.fif"
        mne.io.write_info(path, info)
        return np.frombuffer(path.read_bytes(), np.uint8)


def _info_from_bytes(content: NDArray[np.uint8]) -> Any:
    try:
        import mne
    except ImportError:
        # It serves topographies, which MNE draws.
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "measurement-info.fif"
        path.write_bytes(content.tobytes())
        return mne.io.read_info(path, verbose="error")
