"""Spectra of rates of change as the TAPAS toolbox's regression DCM takes and selects them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.integrate.rate_regression import Regressors
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.gamma_precision import GammaPrecision
from bayesdcm.observe.base import noise_prior
from bayesdcm.observe.bold_rates import BoldRates
from bayesdcm.observe.gaussian import GaussianObservation, gaussian

# Micro-time bins of a scan.
BINS = 16
# Responses below this, at a frequency, are no signal.
LEAST = 1e-4
# Of the largest of all spectra, what is rounding error: that of a region without any signal.
ROUNDING = 1e-14
# Rows are kept up to this many of this many of the sampling rate.
LOW_PASS, OF_BINS = 7, 16
BASELINE_VARIANCE = 1e8


class Spectra(NamedTuple):
    """What a run gives, at all frequencies of the discrete Fourier transform.

    Attributes
    ----------
    response : (microtime,)
        Haemodynamic impulse response.
    smoothed : (microtime, inputs)
        Inputs after blood flow.
    signal : (scans, regions)
        Of the signal, 0 where none is kept.
    modulated : (inputs and constant, scans, regions)
        Of the signal times inputs, the constant last.
    inputs : (scans, inputs and constant)
        Of the inputs after blood flow, and of the constant where there are inputs.
    rates : (scans, regions)
        Of the rates of change.
    kept : (scans, regions)
        Which frequencies are in the regression of each region.
    """

    response: NDArray
    smoothed: NDArray
    signal: NDArray
    modulated: NDArray
    inputs: NDArray
    rates: NDArray
    kept: NDArray


class KeptRows(NamedTuple):
    """Rows that the regression of each region has, (rows, regions), and how many there are."""

    kept: jax.Array


@lru_cache(maxsize=8)
def impulse_response(n_bins: int, step: float) -> NDArray[np.float64]:
    """Response of a region of self-connection -1 Hz to an input of height 1 in the first bin.

    Explicit Euler steps of the Balloon model, in logarithms of flow, volume and deoxyhaemoglobin.
    Oxygen extraction is 0.32 in the dynamics and 0.4 in what is seen of them.

    Parameters
    ----------
    n_bins : int
        Number of steps.
    step : float
        Length of one, s.

    Examples
    --------
    >>> response = impulse_response(320, 0.125)
    >>> float(response[0]), int(response.argmax())
    (0.0, 44)
    """
    exponent, extraction, seen_extraction = 0.32, 0.32, 0.4
    x = s = flow = volume = content = 0.0
    response = np.empty(n_bins)
    for t in range(n_bins):
        f, v, q = np.exp(flow), np.exp(volume), np.exp(content)
        deoxygenated = 4.3 * 40.3 * 0.04 * seen_extraction * (1 - q)
        response[t] = 4 * (deoxygenated + 25 * seen_extraction * 0.04 * (1 - q / v))
        outflow = v ** (1 / exponent)
        extracted = (1 - (1 - extraction) ** (1 / f)) / extraction
        x, s, flow, volume, content = (
            x + step * (float(t == 0) - x),
            s + step * (x - 0.64 * s - 0.32 * (f - 1)),
            flow + step * s / f,
            volume + step * (f - outflow) / (2 * v),
            content + step * (f * extracted - outflow * q / v) / (2 * q),
        )
    response.setflags(write=False)
    return response


@dataclass(frozen=True)
class FilteredSpectra(BoldRates):
    """Rates of change in the frequency domain, as TAPAS has them; for comparison with it.

    The impulse response holds the decay of a self-connection of -1 Hz, convolutions are circular,
    signals are used as they are, and of frequencies those count in which the spectrum of a region
    exceeds `threshold` times the standard deviation of its noise.

    Parameters
    ----------
    as_spm : bool
        Must be False.
    measurement_noise : None
        Noise is white in the rates.
    threshold : float
        As TAPAS' ``filter_str``.

    Notes
    -----
    Frequencies k and -k are one row, of real and imaginary part: spectra of real series say the
    same twice, and each counts half in TAPAS' likelihood, too.

    Parameters beside those of the neural model, where there are inputs: ``baseline`` (regions,),
    in Hz, and where the first input modulates anything, ``constant_modulation`` (to, from), which
    TAPAS estimates and does not report.

    References
    ----------
    .. [1] Fraessle et al. (2017), NeuroImage 155:406.
           https://doi.org/10.1016/j.neuroimage.2017.02.090

    Examples
    --------
    >>> FilteredSpectra(threshold=5.0).threshold
    5.0
    """

    threshold: float = field(default=1.0, kw_only=True)

    observed_family: ClassVar[GammaPrecision] = GammaPrecision(2.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        number = isinstance(self.threshold, int | float | np.number)
        if not (number and 0 <= self.threshold < np.inf) or isinstance(self.threshold, bool):
            raise ValueError(f"threshold must be a number of at least 0, got {self.threshold!r}")

    # Data

    def check(self, data: Any, neural: NeuralModel) -> None:
        """See `BoldRates.check`; confounds beside a constant are refused."""
        super().check(data, neural)
        confounds = np.asarray(data.confounds)
        if np.ptp(confounds, axis=0).any():
            raise ValueError(
                f"data.confounds are {confounds.shape[1]} columns, but with as_tapas=True only a "
                "constant is modelled; take as_tapas=False, or the confounds out of the signal "
                "before"
            )

    def spectra(self, data: BoldData) -> Spectra:
        """All steps from a run to its regression.

        Parameters
        ----------
        data : BoldData
            Signal, and inputs in bins of a scan or of a sixteenth of it.

        Returns
        -------
        Spectra

        Raises
        ------
        ValueError
            If inputs come in other bins.
        """
        signal = np.asarray(data.signal) * data.percent
        n_scans, n_regions = signal.shape
        bins, step = BINS * n_scans, data.repetition_time / BINS
        response = impulse_response(bins, step)
        transfer = np.fft.fft(response[::BINS])
        smoothed = np.zeros((bins, 0))
        inputs = np.zeros((n_scans, 0))
        if data.n_inputs:
            raw = np.fft.fft(self._microtime(data), axis=0)
            smoothed = np.fft.ifft(raw * np.fft.fft(response)[:, None], axis=0).real
            inputs = np.column_stack([smoothed[::BINS], np.ones(n_scans)])
        of_inputs = np.fft.fft(inputs, axis=0)
        of_signal = np.fft.fft(signal, axis=0)
        of_signal[np.abs(of_signal) < ROUNDING * np.abs(of_signal).max()] = 0
        kept, extended = self._selection(of_signal, transfer, of_inputs)
        of_signal = np.where(kept, of_signal, 0)
        shift = np.exp(2j * np.pi * np.arange(n_scans) / n_scans) - 1
        rates = shift[:, None] * of_signal / data.repetition_time
        activity = np.fft.ifft(of_signal / transfer[:, None], axis=0)
        modulated = [
            np.fft.fft(activity * level[:, None], axis=0) * transfer[:, None] for level in inputs.T
        ]
        modulated = np.array(modulated).reshape(-1, n_scans, n_regions)
        return Spectra(response, smoothed, of_signal, modulated, of_inputs, rates, extended)

    def _microtime(self, data: BoldData) -> NDArray:
        """Inputs in sixteenths of a scan."""
        wanted = data.repetition_time / BINS
        n_bins = BINS * data.n_scans
        repeats = data.input_dt / wanted
        inputs = np.asarray(data.inputs)
        if np.isclose(repeats, 1) and len(inputs) >= n_bins:
            return inputs[:n_bins]
        if np.isclose(repeats, BINS) and len(inputs) >= data.n_scans:
            return np.repeat(inputs[: data.n_scans], BINS, axis=0)
        raise ValueError(
            f"data.input_dt is {data.input_dt:g} s; the toolbox's spectra take inputs in bins of "
            f"repetition_time / {BINS} = {wanted:g} s, or of whole scans. Give other bins, or take "
            "as_tapas=False"
        )

    def _selection(
        self, signal: NDArray, transfer: NDArray, inputs: NDArray
    ) -> tuple[NDArray, NDArray]:
        """Frequencies at which the signal counts, and those that are rows, (scans, regions)."""
        n_scans, task = len(signal), inputs.shape[1] > 0
        seen = np.abs(transfer) > LEAST
        if task:
            seen &= np.abs(inputs).sum(1) > LEAST
        noise = signal[~seen]
        deviations = np.zeros((2, signal.shape[1]))
        if len(noise) > 1:
            deviations = np.stack([noise.real.std(0, ddof=1), noise.imag.std(0, ddof=1)])
        limits = self.threshold * deviations
        kept = (np.abs(signal.real) > limits[0]) | (np.abs(signal.imag) > limits[1])
        kept &= seen[:, None]
        last = OF_BINS if task else max(OF_BINS + 4 * (self.threshold - 1), OF_BINS)
        last = _rounded(LOW_PASS * n_scans / last)
        kept[last + 1 : n_scans - last] = False
        kept[0] = True
        kept |= kept[-np.arange(n_scans) % n_scans]
        half, extended = _rounded(n_scans / 2), kept.copy()
        for region, rows in enumerate(kept.T):
            lower, upper = np.flatnonzero(rows[: half + 1]), np.flatnonzero(rows[half:])
            extended[: lower[-1] + 1, region] = True
            if len(upper):
                extended[half + upper[0] :, region] = True
        return kept, extended

    def regressors(self, data: BoldData, neural: NeuralModel) -> Regressors:
        """Real and imaginary parts of spectra; see `BoldRates.regressors`."""
        spectra, n = self.spectra(data), neural.n_inputs
        modulated = np.zeros((0, 0, data.n_regions))
        if neural.B.any():
            modulated = np.array([real_rows(each) for each in spectra.modulated[:n]])
        return Regressors(
            real_rows(spectra.signal), modulated, real_rows(spectra.inputs[:, :n])[None]
        )

    def responses(self, data: BoldData) -> tuple[NDArray, NDArray]:
        """Inputs after blood flow at the scans; see `BoldRates.responses`."""
        n_scans = data.n_scans
        if not data.n_inputs:
            nothing = np.zeros((1, n_scans - 1, 0))
            return nothing, nothing
        response = impulse_response(BINS * n_scans, data.repetition_time / BINS)
        raw = np.fft.fft(self._microtime(data), axis=0) * np.fft.fft(response)[:, None]
        smoothed = np.fft.ifft(raw, axis=0).real[None, ::BINS][:, :-1]
        return smoothed, smoothed

    def prepare(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Rows of the constant, and of signals times it, where they are parameters."""
        spectra, table = self.spectra(data), {}
        if "baseline" in priors:
            table["constant"] = real_rows(spectra.inputs[:, -1])
        if "constant_modulation" in priors:
            table["constant_modulated"] = real_rows(spectra.modulated[-1])
        return table

    def observed(self, data: BoldData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """Real and imaginary parts of rates, 0 in rows that are left out, and which are not."""
        spectra = self.spectra(data)
        kept = self._kept_rows(spectra)
        return real_rows(spectra.rates) * kept, KeptRows(kept.astype(float))

    def _kept_rows(self, spectra: Spectra) -> NDArray[np.bool_]:
        weights = real_rows(spectra.kept + 1j * spectra.kept, weighted=False)
        return weights > 0

    # The forward model

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """``baseline`` and ``constant_modulation`` where there are inputs."""
        n = neural.n_nodes
        if not neural.n_inputs:
            return ()
        variance = np.full(n, BASELINE_VARIANCE)
        table = [Prior("baseline", ("region",), np.zeros(n), variance, "Hz")]
        if neural.B.any():
            switched = np.asarray(neural.B[0], float)
            table.append(
                Prior("constant_modulation", ("to", "from"), np.zeros((n, n)), switched, "Hz")
            )
        return tuple(table)

    def noise_prior(self, neural: NeuralModel) -> Prior:
        """Log-precisions of the noise, one a region, gamma of shape 2 and rate 1."""
        family = self.observed_family
        prior = noise_prior(family.mean, family.variance_of(1), neural.n_nodes)
        return family.in_place_of(prior)

    def predict(self, solution: jax.Array, parameters: Parameters, arrays: Any) -> jax.Array:
        """The solution and what the constant adds to it; see `Observer.predict`."""
        if "baseline" in parameters:
            solution = solution + jnp.outer(arrays["constant"], parameters["baseline"])
        if "constant_modulation" in parameters:
            solution = solution + arrays["constant_modulated"] @ parameters["constant_modulation"].T
        return solution

    def likelihood(
        self, prediction: jax.Array, log_precision: jax.Array, noise: KeptRows
    ) -> GaussianObservation:
        """White noise in the rows that are kept; of others, each adds log(2 pi) / 2 nats."""
        kept = noise.kept.reshape(-1)
        regions = jnp.tile(jnp.eye(len(log_precision)), (len(noise.kept), 1)).T
        components = jnp.concatenate([regions * kept, 1 - kept[None]])
        precisions = jnp.concatenate([log_precision, jnp.zeros(1)])
        return gaussian(prediction * noise.kept, precisions, components=components)

    # Names

    def constants(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """As those of `BoldRates`."""
        table = {"confounds": np.asarray(data.confounds), "scale": np.asarray(self.scale(data))}
        if data.inputs is not None:
            table["inputs"] = np.asarray(data.inputs)
        return table

    def restore(self, scaled: NDArray, data: BoldData, priors: Mapping[str, Prior]) -> NDArray:
        """From rows of rates to signals, each of the one before; what no row has is as observed.

        Parameters
        ----------
        scaled : ndarray, shape (..., rows, regions)
        data, priors : see `Observer.observed`
        """
        signal, spectra = np.asarray(data.signal), self.spectra(data)
        kept = self._kept_rows(spectra)
        away = (np.asarray(scaled) - real_rows(spectra.rates)) * kept
        change = series_of_rows(away, data.n_scans) * data.repetition_time / data.percent
        # Rates are those after a scan, the last one that before the first.
        return signal + np.roll(change, 1, axis=-2)

    def arrange(self, values: NDArray, data: Any) -> NDArray:
        """As they are: rows are as many as scans."""
        return values


def _rounded(value: float) -> int:
    return int(np.floor(value + 0.5))


def real_rows(spectrum: NDArray, weighted: bool = True) -> NDArray:
    """Spectrum of a real series, along the first axis, as rows of real numbers of its length.

    Sums of squares over rows are those over frequencies, positive and negative.

    Parameters
    ----------
    spectrum : ndarray of complex, shape (frequencies, ...)
        Of the discrete Fourier transform.
    weighted : bool
        Whether rows stand for negative frequencies, too.

    Examples
    --------
    >>> series = np.array([1.0, 2.0, 4.0])
    >>> spectrum = np.fft.fft(series)
    >>> bool(np.isclose((real_rows(spectrum) ** 2).sum(), (np.abs(spectrum) ** 2).sum()))
    True
    """
    n = len(spectrum)
    pairs = slice(1, (n - 1) // 2 + 1)
    weight = np.sqrt(2) if weighted else 1.0
    middle = [spectrum[n // 2 : n // 2 + 1].real] if n % 2 == 0 else []
    parts = [spectrum[:1].real, weight * spectrum[pairs].real, *middle]
    return np.concatenate([*parts, weight * spectrum[pairs].imag])


def series_of_rows(rows: NDArray, n: int) -> NDArray:
    """The series (..., n, columns) of `real_rows` (..., n, columns) of its spectrum.

    Examples
    --------
    >>> series = np.array([[1.0], [2.0], [4.0], [0.0]])
    >>> series_of_rows(real_rows(np.fft.fft(series, axis=0)), 4).round(9).ravel().tolist()
    [1.0, 2.0, 4.0, 0.0]
    """
    n_pairs, half = (n - 1) // 2, n // 2 + 1
    spectrum = np.zeros((*rows.shape[:-2], half, rows.shape[-1]), complex)
    spectrum[..., :half, :] = rows[..., :half, :]
    spectrum[..., 1 : n_pairs + 1, :] += 1j * rows[..., half:, :]
    spectrum[..., 1 : n_pairs + 1, :] /= np.sqrt(2)
    return np.fft.irfft(spectrum, n, axis=-2)
