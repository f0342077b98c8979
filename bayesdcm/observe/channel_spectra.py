"""Cross-spectra of EEG, MEG and LFP: fluctuations of sources, lead fields, noise of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.by_value import ByValue
from bayesdcm.data.device import on_device
from bayesdcm.data.spectral import SpectralData
from bayesdcm.integrate.hermitian import column_labels
from bayesdcm.integrate.linear_response import cross_spectra
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.observe.channels import (
    ChannelObserver,
    Electrodes,
    FieldSpace,
    ModelledSpace,
    field_space,
    mode_names,
)
from bayesdcm.observe.evoked_preparation import dct_basis
from bayesdcm.observe.spectra import SpectralObserver

# Largest covariance, over all lags, channels and conditions, of what is modelled; SPM's.
LARGEST_COVARIANCE = 8.0
# Cosines over the frequencies that shape the spectra of fluctuations, the constant left out.
N_COSINES = 4
# Logarithm of the amplitude of noise at the prior mean; SPM's.
NOISE_AMPLITUDE = -2.0
SPM_VARIANCE, SPM_FILTER_VARIANCE = 1 / 128, 1 / 64
# Where the likelihood is proper, data tell the size of fluctuations and noise.
AMPLITUDE_VARIANCE, EXPONENT_VARIANCE, SHAPE_VARIANCE = 1.0, 1 / 16, 1 / 16
# Prior mean of moments, and of the first weight of patches; that of gains, which is SPM's.
FIELD_MEAN = 1.0
# Share of the mean power that makes predictions in fewer modes than channels samples of a density.
JITTER = 1e-9


class ChannelSpectraSpace(NamedTuple):
    """What predictions need of a data set.

    Attributes
    ----------
    field : ModelledSpace
        Lead fields in channel modes.
    frequencies : (frequencies,)
        Hz.
    cosines : (frequencies, cosines)
        Over the frequencies.
    seen : ByValue of tuple of int
        States that channels may see.
    """

    field: ModelledSpace
    frequencies: jax.Array
    cosines: jax.Array
    seen: ByValue[tuple[int, ...]]


@dataclass(frozen=True)
class ChannelSpectra(SpectralObserver):
    """Cross-spectra of channels that see sources which fluctuate about their rest.

    Fluctuations of each source have the spectrum ``exp(amplitude) f^-exp(exponent)`` times the
    exponential of four cosines over the frequencies. They pass through the neural model and the
    lead field. Noise that all channels share has ``exp(amplitude - 2) f^-exp(exponent)`` between
    any two of them, and that of each channel adds such a power law to its power. All is multiplied
    by the exponential of a line over the frequencies. Spectra are in channel modes, scaled.

    Parameters
    ----------
    as_spm : bool
        SPM's likelihood and priors; and the noise of all channels has the exponent of the first.
    channels : ChannelObserver
        How channels see sources: `Electrodes`, `Dipoles`, `Patches` or `LeadField`. Of its
        options, those of time series are not used.

    References
    ----------
    .. [1] Moran et al. (2009), NeuroImage 44:796.
           https://doi.org/10.1016/j.neuroimage.2008.09.048
    .. [2] Friston et al. (2012), NeuroImage 59:439.
           https://doi.org/10.1016/j.neuroimage.2011.07.048

    Examples
    --------
    >>> ChannelSpectra().node
    'source'
    """

    channels: ChannelObserver = field(default_factory=Electrodes)

    kind: ClassVar[str] = "cross-spectra of electrophysiology"
    node: ClassVar[str] = "source"
    headline: ClassVar[tuple[str, ...]] = ("B", "A")
    # Power is that of sources times the square of what they are seen by.
    scaled: ClassVar[tuple[str, ...]] = ("gain", "moment", "patch_weight")
    power_laws: ClassVar[tuple[str, ...]] = ("fluctuation", "shared_noise", "channel_noise")
    citations = (
        (
            "Moran RJ, Stephan KE, Seidenbecher T, Pape HC, Dolan RJ, Friston KJ (2009). Dynamic "
            "causal models of steady-state responses. NeuroImage 44:796-811.",
            "https://doi.org/10.1016/j.neuroimage.2008.09.048",
        ),
        (
            "Friston KJ, Bastos A, Litvak V, Stephan KE, Fries P, Moran RJ (2012). DCM for complex-"
            "valued data: cross-spectra, coherence and phase-delays. NeuroImage 59:439-455.",
            "https://doi.org/10.1016/j.neuroimage.2011.07.048",
        ),
    )

    def __post_init__(self) -> None:
        """Check the class of `channels`."""
        if not isinstance(self.channels, ChannelObserver):
            raise TypeError(
                "channels must be a bayesdcm.observe.ChannelObserver, such as Electrodes(), got "
                f"{self.channels!r}"
            )

    @property
    def mirrored(self) -> bool:
        """Whether other relative signs of sources are tried: not by SPM."""
        return not self.as_spm

    @property
    def staged(self) -> bool:
        """False: SPM, too, moves all parameters together."""
        return False

    # The forward model

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """Lead fields, contributions of states, and log scalings of fluctuations and noise."""
        n = neural.n_nodes
        # One kind of noise a channel where each is in a source of its own; SPM's.
        n_noises = n if isinstance(self.channels, Electrodes) else 1
        if self.as_spm:
            law, shape, line = (SPM_VARIANCE, SPM_VARIANCE), SPM_VARIANCE, SPM_FILTER_VARIANCE
        else:
            law, shape = (AMPLITUDE_VARIANCE, EXPONENT_VARIANCE), SHAPE_VARIANCE
            line = SPM_FILTER_VARIANCE

        def table(name: str, dims: tuple[str, ...], variance: Any, symbol: str) -> Prior:
            return Prior(name, dims, np.zeros(np.shape(variance)), variance, "log scaling", symbol)

        each = np.array(law)[:, None]
        return (
            *map(self._off_zero, self.channels.priors(neural)),
            table("fluctuation", ("spectrum", "source"), np.tile(each, (1, n)), "a"),
            table("shared_noise", ("spectrum",), np.array(law), "b"),
            table("channel_noise", ("spectrum", "noise"), np.tile(each, (1, n_noises)), "c"),
            table("fluctuation_shape", ("cosine", "source"), np.full((N_COSINES, n), shape), "d"),
            table("filter", ("line",), np.full(2, line), "f"),
        )

    def _off_zero(self, prior: Prior) -> Prior:
        # Power is the same of both signs: where sources are not seen at all, it has no slope.
        if self.as_spm or prior.name not in self.scaled or prior.mean.any():
            return prior
        mean = np.zeros(prior.mean.shape)
        mean[(slice(None), 0) if prior.name == "patch_weight" else ...] = FIELD_MEAN
        return replace(prior, mean=mean)

    def seen(self, priors: Mapping[str, Prior]) -> Any:
        """States that may contribute to the signal."""
        return self.channels.seen(priors)

    def spectra(
        self, solution: jax.Array, parameters: Parameters, arrays: ChannelSpectraSpace
    ) -> jax.Array:
        """See `SpectralObserver.spectra`."""
        space, frequencies, cosines, seen = arrays
        weight = parameters["contribution"][np.array(seen.value)].astype(complex)
        field = self.channels.source_field(parameters, space).astype(complex)
        transfer = jnp.einsum("mn,cfkns,s->cfmk", field, solution, weight)
        amplitude, exponent = parameters["fluctuation"]
        shape = jnp.exp(cosines @ parameters["fluctuation_shape"])
        power = _power_law(frequencies, amplitude, exponent) * shape
        predicted = jax.vmap(lambda each: cross_spectra(each, power))(transfer)
        n_modes = predicted.shape[-1]
        amplitude, exponent = parameters["shared_noise"]
        shared = _power_law(frequencies, amplitude + NOISE_AMPLITUDE, exponent)
        amplitude, exponent = parameters["channel_noise"]
        if self.as_spm:
            exponent = jnp.broadcast_to(exponent[0], exponent.shape)
        own = _power_law(frequencies, amplitude + NOISE_AMPLITUDE, exponent)
        own = jnp.broadcast_to(own, (len(frequencies), n_modes))
        noise = shared[:, None, None] + own[:, :, None] * jnp.eye(n_modes)
        level, slope = parameters["filter"]
        places = jnp.arange(1.0, len(frequencies) + 1) / len(frequencies)
        line = jnp.exp(level + slope * places)
        return (predicted + noise) * line[:, None, None]

    # Data

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where data are of something else, or channels do not fit the sources."""
        super().check(data, neural)
        if data.kind == "bold":
            raise ValueError(
                "data.kind is 'bold', but the model is for cross-spectra of EEG, MEG or LFP; "
                "SpectralDCM is for BOLD signals"
            )
        names = self.channels.source_names
        if names is not None and len(names) != neural.n_nodes:
            raise ValueError(
                f"source_names must be {neural.n_nodes} names, one a source, got {list(names)}"
            )
        self.channels.check_channels(data, neural.n_nodes)

    def field_space(self, data: SpectralData, priors: Mapping[str, Prior]) -> FieldSpace:
        """Channel modes and lead fields in them; worked out once for a data set.

        Parameters
        ----------
        data : SpectralData
        priors : mapping of str to Prior
            Priors of the observer's parameters; only whether positions are free matters.
        """
        moved = "position" in priors and bool(priors["position"].free.any())
        known = _SPACES.setdefault(data, {})
        key = ByValue((self.channels, moved))
        if key not in known:
            known[key] = field_space(self.channels, moved, data, np.eye(data.n_channels))
        return known[key]

    def seen_spectra(self, data: SpectralData) -> NDArray[np.complex128]:
        """Cross-spectra in channel modes; see `SpectralObserver.seen_spectra`."""
        projection = self.field_space(data, {}).projection
        return projection.T @ np.asarray(data.spectra) @ projection

    def scale(self, data: SpectralData) -> float:
        """Factor that makes the largest covariance at any lag 8, as in SPM.

        Parameters
        ----------
        data : SpectralData
        """
        spectra = self.seen_spectra(data)
        return LARGEST_COVARIANCE / largest_covariance(spectra, np.asarray(data.frequencies))

    # Data are constants, also where a caller's function of parameters is being traced.
    @jax.ensure_compile_time_eval()
    def prepare(self, data: SpectralData, priors: Mapping[str, Prior]) -> ChannelSpectraSpace:
        """Lead fields in channel modes, frequencies, and the states that are seen."""
        frequencies = np.asarray(data.frequencies)
        cosines = dct_basis(len(frequencies), N_COSINES + 1)[:, 1:]
        arrays = on_device((self.field_space(data, priors).modelled, frequencies, cosines))
        return ChannelSpectraSpace(*arrays, ByValue(tuple(self.seen(priors)[1].tolist())))

    def at_data(
        self, prediction: jax.Array, data: SpectralData, priors: Mapping[str, Prior]
    ) -> jax.Array:
        """At the channels, complex, in the units of the data, shape of their spectra."""
        back = jnp.asarray(np.linalg.pinv(self.field_space(data, priors).projection), complex)
        return back.T @ super().at_data(prediction, data, priors) @ back

    def simulated(
        self,
        clean: NDArray,
        design: SpectralData,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> SpectralData:
        """See `SpectralObserver.simulated`; next to nothing is seen in no mode."""
        n = clean.shape[-1]
        power = np.trace(clean, axis1=2, axis2=3).real[..., None, None] / n
        filled = clean + JITTER * power * np.eye(n)
        return super().simulated(filled, design, priors, log_precision, snr, rng)

    # Names

    def node_names(self, data: SpectralData | None, neural: NeuralModel) -> list[str]:
        """Names of the sources."""
        return list(self.channels.source_names or super().node_names(data, neural))

    def names(self, data: SpectralData | None, neural: NeuralModel) -> dict[str, list[str]]:
        """Names of sources, states, and of what spectra are made of."""
        names = super().names(data, neural)
        noises = ["all channels"]
        if isinstance(self.channels, Electrodes):
            noises = names["source"] if data is None else list(data.names or ())
        return names | {
            "spectrum": ["amplitude", "exponent"],
            "noise": noises,
            "cosine": [f"cosine {i + 1}" for i in range(N_COSINES)],
            "line": ["level", "slope"],
            "axis": ["x", "y", "z"],
            "timing": ["onset", "duration"],
            "state": list(neural.states),
        }

    def dims(self) -> dict[str, tuple[str, ...]]:
        """See `Observer.dims`."""
        return super().dims() | {
            "design": ("condition", "effect"),
            "modes_to_channels": ("mode", "channel"),
        }

    def coords(self, data: SpectralData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Frequencies, Hz, and names of channels, modes and their pairs."""
        modes = mode_names(self.field_space(data, priors).projection, data.channel_names)
        return super().coords(data, priors) | {
            "pair": np.asarray(column_labels(modes)),
            "channel": np.asarray(data.names),
            "mode": np.asarray(modes),
        }

    def constants(self, data: SpectralData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Also ``modes_to_channels`` and ``design``; see `SpectralObserver.constants`."""
        back = np.linalg.pinv(self.field_space(data, priors).projection)
        design = {"design": np.asarray(data.design)}
        return super().constants(data, priors) | {"modes_to_channels": back} | design


_SPACES: WeakKeyDictionary[SpectralData, dict[ByValue, FieldSpace]] = WeakKeyDictionary()


def _power_law(frequencies: jax.Array, amplitude: jax.Array, exponent: jax.Array) -> jax.Array:
    """``exp(amplitude) f^-exp(exponent)``, the frequency first, then the axes of the parameters."""
    log_frequency = jnp.log(frequencies).reshape(-1, *[1] * jnp.ndim(amplitude))
    return jnp.exp(amplitude - jnp.exp(exponent) * log_frequency)


def largest_covariance(spectra: NDArray, frequencies: NDArray) -> float:
    """Largest cross-covariance at any lag that spectra amount to, as SPM has it (spm_csd2ccf).

    Parameters
    ----------
    spectra : ndarray
        Shape (conditions, frequencies, n, n).
    frequencies : ndarray
        Hz, evenly spaced.

    Returns
    -------
    float
        In squared units of the series.

    Examples
    --------
    >>> round(largest_covariance(np.ones((1, 45, 1, 1)), np.arange(4.0, 49.0)), 6)
    44.536082
    """
    if len(frequencies) < 2:
        return float(np.einsum("cfii->cfi", spectra).real.max())
    step, interval = frequencies[1] - frequencies[0], 1 / (2 * frequencies[-1])
    n = ceil(1 / (2 * interval * step))
    first = ceil(frequencies[0] / step) - 1
    length = max(n, first + len(frequencies))
    filled = np.zeros((len(spectra), length, *spectra.shape[2:]), complex)
    filled[:, first : first + len(frequencies)] = spectra
    # SPM has power at frequency zero where there are several channels.
    zero = filled[:, :1] * (spectra.shape[-1] > 1)
    whole = np.concatenate([zero, filled, filled[:, ::-1].conj()], axis=1)
    covariance = np.fft.ifft(whole, axis=1).real * length * step
    return float(covariance.max())
