"""Observers of BOLD signals: the axes, noise and units of `BoldData`, and the Balloon model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.bold_validation import LARGEST_RANGE
from bayesdcm.data.validation import warn_caller
from bayesdcm.integrate.expansion import filtered_trajectory, linear_filters
from bayesdcm.integrate.grid import TimeGrid, at_samples
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.bilinear import Bilinear
from bayesdcm.observe import balloon
from bayesdcm.observe.base import SPM_NOISE, WIDE_NOISE, Observer, noise_prior
from bayesdcm.observe.gaussian import (
    ConfoundBasis,
    GaussianObservation,
    confound_basis,
    gaussian,
)
from bayesdcm.observe.haemodynamics import LONGEST_STEP, balloon_response


@dataclass(frozen=True)
class BoldObserver(Observer):
    """An observer of the BOLD signal of regions, one a node of the neural model.

    Subclasses give `priors` and the forward model, whose prediction is percent signal change,
    shape (scans, regions).

    Parameters
    ----------
    as_spm : bool
        SPM's choices: signals scaled down to a range of 4, its prior of the noise, N(6, 1/128),
        and confounds in their own units. Otherwise signals are in percent, the prior of the
        noise is N(2, 16), so that data decide, and units and correlations of confounds do not
        matter.
    """

    as_spm: bool = False

    data_class = BoldData
    kind: ClassVar[str] = "task fMRI"
    node: ClassVar[str] = "region"
    sample: ClassVar[str] = "scan"

    @property
    def searches(self) -> bool:
        """Whether variational Laplace looks further where it finds a poor optimum."""
        return not self.as_spm

    def predict(self, solution: jax.Array, parameters: Parameters, arrays: Any) -> jax.Array:
        """The solution itself; see `Observer.predict`."""
        return solution

    def scale(self, data: BoldData) -> float:
        """Factor from the centred signal of a data set to the one that is modelled.

        Parameters
        ----------
        data : BoldData
            The data set.

        Returns
        -------
        float
            1, or 100 where the signal is in fractions of 1; SPM's with `as_spm`.
        """
        return data.scale if self.as_spm else data.percent

    def confound_basis(self, data: BoldData) -> ConfoundBasis:
        """Confounds as the likelihood takes them.

        Parameters
        ----------
        data : BoldData
            The data set.

        Returns
        -------
        ConfoundBasis
            Orthonormal columns, and their singular values: those of the confounds with `as_spm`,
            else the root of the number of scans.
        """
        if self.as_spm:
            return confound_basis(data.confounds, data.n_scans)
        basis, _ = confound_basis(data.confounds / np.abs(data.confounds).max(0), data.n_scans)
        return ConfoundBasis(basis, np.full(basis.shape[1], np.sqrt(data.n_scans)))

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where a data set (or design) does not fit the neural model."""
        if not hasattr(data, "repetition_time"):
            raise TypeError(f"data must be BoldData, got {type(data).__name__}")
        if data.n_regions != neural.n_nodes:
            raise ValueError(
                f"data has {data.n_regions} regions, but the model has {neural.n_nodes}; "
                "A needs one row and one column for each region of the signal"
            )
        if data.inputs is None:
            raise ValueError(
                "data.inputs is None, but a task DCM is driven by inputs; give inputs and "
                "input_dt, or build the data with BoldData.from_events"
            )
        if data.n_inputs != neural.n_inputs:
            raise ValueError(
                f"data has {data.n_inputs} inputs, but the model has {neural.n_inputs}; B needs "
                "one slice and C one column for each input"
            )

    def observed(self, data: BoldData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """Signal, centred and times `scale`, and confounds; see `Observer.observed`."""
        scaled = (data.signal - data.signal.mean(axis=0)) * self.scale(data)
        if data.unit == "arbitrary" and np.ptp(scaled) > LARGEST_RANGE:
            warn_caller(
                f"data.signal in unit='arbitrary' varies by more than {LARGEST_RANGE:g}, which no "
                "BOLD response in percent does, and the model predicts percent; convert it by "
                "to_percent()"
            )
        return scaled, self.confound_basis(data)

    def noise_prior(self, neural: NeuralModel) -> Prior:
        """Log-precisions of the noise, one a region."""
        return noise_prior(*(SPM_NOISE if self.as_spm else WIDE_NOISE), neural.n_nodes)

    def likelihood(
        self, prediction: jax.Array, log_precision: jax.Array, noise: ConfoundBasis
    ) -> GaussianObservation:
        """White Gaussian noise of each region, and confounds of unknown size."""
        return gaussian(prediction, log_precision, confounds=noise)

    def at_data(self, prediction: jax.Array, data: Any, priors: Mapping[str, Prior]) -> jax.Array:
        """Percent signal change, confounds left out, shape (scans, regions)."""
        return prediction

    def simulated(
        self,
        clean: NDArray,
        design: Any,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> BoldData:
        """The design with a signal in percent; `snr` holds in every region."""
        sd = np.zeros(clean.shape[1])
        if snr is not None:
            sd = clean.std(axis=0) / snr
        elif log_precision is not None:
            sd = np.exp(-log_precision / 2)
        return BoldData(
            signal=clean + rng.normal(size=clean.shape) * sd,
            repetition_time=design.repetition_time,
            inputs=design.inputs,
            input_dt=design.input_dt,
            region_names=design.region_names,
            input_names=design.input_names,
            confounds=design.confounds,
            slice_delays=design.slice_delays,
            unit="percent",
        )

    def names(self, data: BoldData | None, neural: NeuralModel) -> dict[str, list[str]]:
        """Names of regions and inputs; see `Observer.names`."""
        if data is None:
            regions = [f"region {i + 1}" for i in range(neural.n_nodes)]
            inputs = [f"input {i + 1}" for i in range(neural.n_inputs)]
        else:
            regions, inputs = list(data.region_names), list(data.input_names)
        along = dict.fromkeys(("region", "to", "from", "gating"), regions)
        return along | {"input": inputs}

    def dims(self) -> dict[str, tuple[str, ...]]:
        """See `Observer.dims`."""
        return {
            "log_precision": ("region",),
            "signal": ("time", "region"),
            "inputs": ("microtime", "input"),
            "confounds": ("time", "confound"),
            "modelled_confounds": ("time", "modelled_confound"),
        }

    def coords(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Onsets of the scans and times of the inputs, s."""
        microtime = np.arange(len(data.inputs)) * data.input_dt
        return {"time": np.asarray(data.times), "microtime": microtime}

    def constants(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Constants of a data set that results hold.

        ``inputs`` and ``confounds`` as given; ``modelled_confounds``, those of the likelihood;
        ``scale``, by what the signal was multiplied for the fit.
        """
        basis, scale = self.confound_basis(data)
        return {
            "inputs": np.asarray(data.inputs),
            "confounds": np.asarray(data.confounds),
            "modelled_confounds": np.asarray(basis) * np.asarray(scale),
            "scale": np.asarray(self.scale(data)),
        }

    def restore(self, scaled: NDArray, data: BoldData, priors: Mapping[str, Prior]) -> NDArray:
        """From the scaled, centred signal to the units of the data, (..., scans, regions)."""
        return scaled / self.scale(data) + np.asarray(data.signal).mean(axis=0)


@dataclass(frozen=True)
class Balloon(BoldObserver):
    """The Balloon model: activity drives blood flow, volume and deoxyhaemoglobin of each region.

    Equations and priors are those of `bayesdcm.observe.haemodynamic_flow`, `bold_signal` and
    `haemodynamic_priors`.

    Parameters
    ----------
    as_spm : bool
        SPM's scaling, prior of the noise, and confounds; see `BoldObserver`.

    References
    ----------
    .. [1] Stephan, Weiskopf, Drysdale, Robinson and Friston (2007), NeuroImage 38:387.
           https://doi.org/10.1016/j.neuroimage.2007.07.040

    Examples
    --------
    >>> Balloon().states
    ('vasodilatory signal', 'log flow', 'log volume', 'log deoxyhaemoglobin')
    """

    states: ClassVar[tuple[str, ...]] = (
        "vasodilatory signal",
        "log flow",
        "log volume",
        "log deoxyhaemoglobin",
    )
    longest_step: ClassVar[float] = LONGEST_STEP
    citations = (
        Bilinear.citation,
        (
            "Zeidman P et al. (2019). A guide to group effective connectivity analysis, part 1: "
            "first level analysis with DCM for fMRI. NeuroImage 200:174-190.",
            "https://doi.org/10.1016/j.neuroimage.2019.06.031",
        ),
    )
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "transit_time": (("region",), "s"),
        "decay_rate": ((), "Hz"),
    }
    units: ClassVar[Mapping[str, str]] = {
        "transit": "log scaling of 2 s",
        "decay": "log scaling of 0.64 Hz",
    }

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """``transit``, ``decay`` and ``epsilon``, see `haemodynamic_priors`."""
        return balloon.haemodynamic_priors(neural.n_nodes)

    def flow(self, activity: jax.Array, h: jax.Array, parameters: Parameters) -> jax.Array:
        """See `bayesdcm.observe.haemodynamic_flow`."""
        return balloon.haemodynamic_flow(activity, h, parameters)

    def read(self, h: jax.Array, parameters: Parameters) -> jax.Array:
        """Percent signal change, see `bayesdcm.observe.bold_signal`."""
        return balloon.bold_signal(jnp.exp(h[..., 2]), jnp.exp(h[..., 3]), parameters["epsilon"])

    def respond(
        self, generators: jax.Array, drive: jax.Array, parameters: Parameters, grid: TimeGrid
    ) -> jax.Array:
        """Percent signal change, see `Observer.respond`."""
        return balloon_response(generators, drive, parameters, grid)

    def derive(self, parameters: Parameters) -> dict[str, jax.Array]:
        """``transit_time`` (regions,), s, and ``decay_rate`` (), Hz."""
        return {
            "transit_time": balloon.transit_time(parameters["transit"]),
            "decay_rate": balloon.decay_rate(parameters["decay"]),
        }


def linearised_response(
    neuronal: jax.Array, drive: jax.Array, parameters: Parameters, grid: TimeGrid
) -> jax.Array:
    """BOLD with haemodynamics linearised about rest; only the observation is nonlinear.

    Parameters
    ----------
    neuronal : jax.Array
        Generator of the neuronal states for each distinct input, with a leading constant,
        shape (distinct inputs, m, m), 1/s.
    drive : jax.Array
        Which combination of neuronal states drives each region, shape (regions, m).
    parameters : mapping
        ``transit`` (regions,), ``decay`` (), ``epsilon`` ().
    grid : TimeGrid
        Steps and sample points.

    Returns
    -------
    jax.Array
        Percent signal change, shape (scans, regions).
    """
    observer = Balloon()
    filters = linear_filters(observer, len(drive), parameters)
    h = filtered_trajectory(neuronal, drive, filters, grid)
    return observer.read(at_samples(h, grid), parameters)
