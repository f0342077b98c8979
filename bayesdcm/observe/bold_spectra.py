"""Cross-spectra of BOLD signals at rest: fluctuations, linear haemodynamics, observation noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.device import on_device
from bayesdcm.data.spectral import SpectralData
from bayesdcm.data.validation import warn_caller
from bayesdcm.integrate.linear_response import cross_spectra
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.observe.autoregressive_smoothing import (
    AutoregressiveSmoothing,
    autoregressive_smoothing,
    smooth,
)
from bayesdcm.observe.bold import Balloon
from bayesdcm.observe.spectra import SpectralObserver, power_law

# Of the signals, all regions together, after scaling; SPM's.
STANDARD_DEVIATION = 1 / 4
# SPM's frequencies, Hz, over which spectra of fluctuations and noise have a total of one.
REFERENCE = np.linspace(1 / 128, 1 / 8, 32)
SPM_VARIANCE = 1 / 64
# Prior variances of log amplitudes and of log exponents where the likelihood is proper: the size
# of fluctuations and noise is for data to tell.
AMPLITUDE_VARIANCE, EXPONENT_VARIANCE = 1.0, 1 / 16
SMOOTHING_ORDER = 8


class BoldSpectraSpace(NamedTuple):
    """What predictions need of a data set.

    Attributes
    ----------
    frequencies, reference : (frequencies,)
        Of the data, and those at which power laws sum to one, Hz.
    smoothing : AutoregressiveSmoothing or None
        SPM's.
    inputs : (frequencies, inputs, inputs) or None
        Cross-spectra of the experimental inputs.
    """

    frequencies: jax.Array
    reference: jax.Array
    smoothing: AutoregressiveSmoothing | None
    inputs: jax.Array | None = None


@dataclass(frozen=True)
class BoldSpectra(SpectralObserver):
    """Cross-spectra of BOLD signals of regions whose activity fluctuates about its rest.

    Fluctuations of each region have the spectrum ``exp(amplitude) h(f)``, where ``h`` is
    ``f^-exp(exponent)`` over its sum at 32 frequencies from 1/128 to 1/8 Hz. Inputs with
    cross-spectra U, where the neural model has any, add ``C U C^T``. They pass through the
    neural model and the Balloon model, linear about rest. Observation noise that all regions share
    has ``exp(amplitude) g(f)`` between any two of them, ``g`` of the exponent
    ``exp(exponent) / 2``; and that of each region adds ``exp(regional_noise) g(f)`` to its power.

    Parameters
    ----------
    as_spm : bool
        SPM's likelihood and priors, and spectra as SPM predicts them: smoothed by an autoregressive
        model of order 7, with power laws that sum to one over the frequencies of the data.

    References
    ----------
    .. [1] Friston, Kahan, Biswal and Razi (2014), NeuroImage 94:396.
           https://doi.org/10.1016/j.neuroimage.2013.12.009

    Examples
    --------
    >>> BoldSpectra().node
    'region'
    """

    kind: ClassVar[str] = "resting-state fMRI"
    node: ClassVar[str] = "region"
    states: ClassVar[tuple[str, ...]] = Balloon.states
    citations = (
        (
            "Friston KJ, Kahan J, Biswal B, Razi A (2014). A DCM for resting state fMRI. "
            "NeuroImage 94:396-407.",
            "https://doi.org/10.1016/j.neuroimage.2013.12.009",
        ),
        (
            "Razi A, Kahan J, Rees G, Friston KJ (2015). Construct validation of a DCM for resting "
            "state fMRI. NeuroImage 106:1-14.",
            "https://doi.org/10.1016/j.neuroimage.2014.11.027",
        ),
    )
    derived = Balloon.derived
    headline: ClassVar[tuple[str, ...]] = ("A",)

    @property
    def units(self) -> dict[str, str]:
        """Units of parameters."""
        return Balloon().units

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """Haemodynamics, and log scalings of fluctuations and noise."""
        amplitude, exponent = AMPLITUDE_VARIANCE, EXPONENT_VARIANCE
        if self.as_spm:
            amplitude = exponent = SPM_VARIANCE
        n, both = neural.n_nodes, np.array([amplitude, exponent])
        unit = "log scaling"
        return (
            *Balloon().priors(neural),
            Prior("fluctuation", ("spectrum",), np.zeros(2), both, unit, "a"),
            Prior("shared_noise", ("spectrum",), np.zeros(2), both, unit, "b"),
            Prior("regional_noise", ("region",), np.zeros(n), np.full(n, amplitude), unit, "c"),
        )

    def flow(self, activity: jax.Array, h: jax.Array, parameters: Parameters) -> jax.Array:
        """See `Balloon.flow`."""
        return Balloon().flow(activity, h, parameters)

    def read(self, h: jax.Array, parameters: Parameters) -> jax.Array:
        """See `Balloon.read`."""
        return Balloon().read(h, parameters)

    def derive(self, parameters: Parameters) -> dict[str, jax.Array]:
        """See `Balloon.derive`."""
        return Balloon().derive(parameters)

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where data are of something else, or of another number of regions."""
        super().check(data, neural)
        if data.kind != "bold":
            raise ValueError(
                f"data.kind is {data.kind!r}, but the model is for cross-spectra of BOLD signals, "
                "'bold'; SpectralData.from_bold makes them. CrossSpectralDCM is for others"
            )
        if data.n_channels != neural.n_nodes:
            raise ValueError(
                f"data has {data.n_channels} regions, but the model has {neural.n_nodes}; "
                "A needs one row and one column for each region"
            )
        if neural.n_inputs:
            given = 0 if data.series is None else data.series.n_inputs
            if given != neural.n_inputs:
                raise ValueError(
                    f"data.series has {given} inputs, but C has {neural.n_inputs}; make data by "
                    "SpectralData.from_bold of a BoldData with one input for each column of C"
                )
        if data.n_conditions != 1:
            raise ValueError(
                f"data has {data.n_conditions} conditions, but the model is for one; give one "
                "SpectralData for each recording, and compare them by fit_group"
            )
        if self.as_spm and data.estimator == "multitaper":
            warn_caller(
                "likelihood='spm' is for smooth estimates of autoregressive models, but spectra "
                "are multitaper estimates, whose errors it does not know; give "
                "SpectralData.from_bold(bold, method='autoregressive')"
            )
        if data.n_frequencies < 2:
            raise ValueError(
                "data has 1 frequency, but the model is for spectra of several; give "
                "SpectralData.from_bold of a longer run, or more frequencies"
            )

    def scale(self, data: SpectralData) -> float:
        """Factor that makes the standard deviation of the signals 1/4, as in SPM.

        Of the time series with `as_spm`, where the data have them (spectra without series are taken
        for scaled ones); else from the power at the frequencies of the data.

        Parameters
        ----------
        data : SpectralData
        """
        if not self.as_spm:
            power = np.einsum("cfii->f", np.asarray(data.spectra).real) / data.n_channels
            total = power.mean() * float(np.gradient(data.frequencies).sum())
            return STANDARD_DEVIATION**2 / total
        if data.series is None:
            return 1.0
        signal = np.asarray(data.series.signal)
        return float(STANDARD_DEVIATION**2 / np.var(signal - signal.mean(0), ddof=1))

    def prepare(self, data: SpectralData, priors: Mapping[str, Prior]) -> BoldSpectraSpace:
        """Frequencies, and SPM's smoothing; see `Observer.prepare`."""
        frequencies, smoothing = np.asarray(data.frequencies), None
        if self.as_spm:
            order = data.order or SMOOTHING_ORDER
            smoothing = autoregressive_smoothing(frequencies, order - 1)
        reference = frequencies if self.as_spm else REFERENCE
        driven = data.series is not None and data.series.n_inputs > 0
        inputs = data.input_spectra() if driven else None
        return on_device(BoldSpectraSpace(frequencies, reference, smoothing, inputs))

    def spectra(
        self, solution: jax.Array, parameters: Parameters, arrays: BoldSpectraSpace
    ) -> jax.Array:
        """See `SpectralObserver.spectra`."""
        fluctuation, noise = self.fluctuations_and_noise(parameters, arrays)

        def condition(transfer: jax.Array) -> jax.Array:
            power = jnp.broadcast_to(fluctuation[:, None], transfer.shape[:2])
            if "C" in parameters and arrays.inputs is not None:
                entry = parameters["C"].astype(complex)
                power = power[..., None] * jnp.eye(power.shape[1]) + entry @ arrays.inputs @ entry.T
            predicted = cross_spectra(transfer.mT, power) + noise
            return predicted if arrays.smoothing is None else smooth(predicted, arrays.smoothing)

        return jax.vmap(condition)(solution)

    def fluctuations_and_noise(
        self, parameters: Parameters, arrays: BoldSpectraSpace
    ) -> tuple[jax.Array, jax.Array]:
        """Spectrum of each region's fluctuations, (frequencies,), and of the observation noise.

        Parameters
        ----------
        parameters : mapping of full arrays by name
        arrays : BoldSpectraSpace, from `prepare`

        Returns
        -------
        tuple of jax.Array
            The second of shape (frequencies, regions, regions).
        """
        frequencies, reference = arrays.frequencies, arrays.reference
        amplitude, exponent = parameters["fluctuation"]
        fluctuation = jnp.exp(amplitude) * power_law(frequencies, jnp.exp(exponent), reference)
        amplitude, exponent = parameters["shared_noise"]
        law = power_law(frequencies, jnp.exp(exponent) / 2, reference)
        sizes = jnp.exp(amplitude) + jnp.diag(jnp.exp(parameters["regional_noise"]))
        return fluctuation, law[:, None, None] * sizes

    def node_names(self, data: SpectralData | None, neural: NeuralModel) -> list[str]:
        """Names of the regions."""
        return super().node_names(data, neural) if data is None else list(data.names)

    def names(self, data: SpectralData | None, neural: NeuralModel) -> dict[str, list[str]]:
        """Names of regions, and of what spectra are made of."""
        names = super().names(data, neural) | {"spectrum": ["amplitude", "exponent"]}
        series = None if data is None else data.series
        if neural.n_inputs and series is not None and series.n_inputs == neural.n_inputs:
            names["input"] = list(series.input_names)
        return names
