"""The DCM of cross-spectra of BOLD signals at rest (spectral DCM)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data import BoldData, BoldDesign, SpectralData
from bayesdcm.data.bold import with_signal
from bayesdcm.data.spectral import inputs_by_scan
from bayesdcm.integrate import LinearResponse, SpmLinearResponse
from bayesdcm.models.dcm import DCM, Parameters, Parts
from bayesdcm.models.priors import complete_parameters
from bayesdcm.neural import Endogenous
from bayesdcm.neural.switches import square
from bayesdcm.observe import BoldSpectra
from bayesdcm.observe.bold_spectra import REFERENCE, BoldSpectraSpace
from bayesdcm.observe.stationary_series import stationary_log_density

LIKELIHOODS = ("wishart", "spm")
# A simulated series is cut out of one that is so many times as long, which repeats itself.
PERIOD = 4


@dataclass(frozen=True, eq=False)
class SpectralDCM(DCM):
    """Dynamic causal model of fMRI at rest, by the cross-spectra of its signals.

    Each region's activity fluctuates about rest with a power-law spectrum; connections and
    haemodynamics shape the cross-spectra of the BOLD signals. Data are `SpectralData`, such as
    ``SpectralData.from_bold(bold)``. A model holds structure only.

    Parameters
    ----------
    A : array_like
        Connections, shape (to, from), 0 or 1. A diagonal entry of 0 fixes the self-connection at
        -0.5 Hz.
    likelihood : {"wishart", "spm"}
        ``"wishart"``: estimated cross-spectra have a complex Wishart distribution about those
        predicted, with the data's degrees of freedom, so that intervals and evidence mean what they
        say. ``"spm"``: SPM's Gaussian likelihood of smoothed cross-spectra, whose precision is made
        of the data and of one log-precision, with SPM's priors; for
        ``SpectralData.from_bold(bold, method="autoregressive")``.
    C : array_like, optional
        Which regions experimental inputs drive, shape (to, input), 0 or 1: inputs are slow
        fluctuations whose cross-spectra are known, beside those that regions have by themselves.
        Data are then made from a BoldData with inputs. Power tells the sign of a column of C but
        for that of all its entries together, of which the prior, N(1/2, 1), prefers the positive.
        None: none.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own, as for `bayesdcm.TaskDCM`.

    Raises
    ------
    TypeError, ValueError
        If `A` is not binary or not square, `likelihood` is another, or `priors` names what the
        model does not have.

    Notes
    -----
    Parameters are in SPM's parameterisation: ``A`` as in `bayesdcm.TaskDCM`; ``transit``,
    ``decay`` and ``epsilon`` of the haemodynamics; ``fluctuation`` (SPM's a), ``shared_noise`` (b)
    and ``regional_noise`` (c), see `bayesdcm.observe.BoldSpectra`. Signals are scaled to a standard
    deviation of 1/4 beforehand. With ``"spm"``, the last three are N(0, 1/64). With ``"wishart"``,
    log amplitudes are N(0, 1) and log exponents N(0, 1/16), so that data tell how large
    fluctuations and noise are.

    References
    ----------
    .. [1] Friston, Kahan, Biswal and Razi (2014), NeuroImage 94:396.
           https://doi.org/10.1016/j.neuroimage.2013.12.009

    Examples
    --------
    >>> SpectralDCM([[1, 0], [1, 1]])
    SpectralDCM(2 regions; connections: 3 A; likelihood='wishart')
    """

    A: ArrayLike
    likelihood: str = "wishart"
    C: ArrayLike | None = field(default=None, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "A", square("A", self.A))
        object.__setattr__(self, "C", Endogenous(self.A, self.C).C)
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"likelihood must be one of {', '.join(map(repr, LIKELIHOODS))}, "
                f"got {self.likelihood!r}"
            )
        self._set_priors(self.priors)

    def __repr__(self) -> str:
        n = self.n_regions
        given = f"; {self.priors!r}" if self.priors.given else ""
        driven = f", {int(self.C.sum())} C" if self.C.shape[1] else ""
        return (
            f"SpectralDCM({n} region{'s' * (n != 1)}; connections: {int(self.A.sum())} A{driven}; "
            f"likelihood={self.likelihood!r}{given})"
        )

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return self.A.shape[0]

    @property
    def _wide_noise(self) -> str:
        return "likelihood='wishart'" if self.likelihood == "spm" else ""

    @cached_property
    def parts(self) -> Parts:
        """`Endogenous`, a linear response, and `BoldSpectra`."""
        as_spm = self.likelihood == "spm"
        solver = SpmLinearResponse() if as_spm else LinearResponse()
        return Parts(Endogenous(self.A, self.C), solver, BoldSpectra(as_spm))

    def cross_spectra(
        self,
        parameters: Parameters,
        frequencies: ArrayLike,
        names: list[str] | None = None,
        reference: ArrayLike = REFERENCE,
    ) -> jax.Array:
        """Cross-spectra of the scaled signals at any frequencies, without SPM's smoothing.

        Those of experimental inputs are left out: of what they drive, nothing is random.

        Parameters
        ----------
        parameters : mapping
            As for `predict`.
        frequencies : array_like
            Hz, above 0, shape (frequencies,).
        names : list of str, optional
            Names of the regions, by which arrays with names are joined.
        reference : array_like
            Frequencies, Hz, over which power laws sum to one.

        Returns
        -------
        jax.Array
            Complex, one-sided, per Hz, shape (frequencies, regions, regions); see `SpectralData`.
            Infinite where the model is unstable.

        Examples
        --------
        >>> model = SpectralDCM([[1]])
        >>> P = {p.name: p.mean for p in model.priors}
        >>> model.cross_spectra(P, [0.01, 0.02]).shape
        (2, 1, 1)
        """
        complete = self._complete(parameters, names)
        return _compiled_spectra(self, complete, *self.at_frequencies(frequencies, reference))

    def _complete(self, parameters: Parameters, names: list[str] | None) -> Parameters:
        along = self.names()
        if names is not None:
            along |= dict.fromkeys(("region", "to", "from"), list(names))
        return complete_parameters(self.priors.named(along), parameters, along)

    def at_frequencies(
        self, frequencies: ArrayLike, reference: ArrayLike = REFERENCE
    ) -> tuple[Any, BoldSpectraSpace]:
        """What solver and observer take of frequencies, without SPM's smoothing.

        Parameters
        ----------
        frequencies, reference : array_like
            Hz, see `cross_spectra`.
        """
        neural, solver, observer = self.parts
        at = _Frequencies(np.asarray(frequencies, float))
        steps = solver.prepare(neural, observer, at, self._of_neural)
        return steps, BoldSpectraSpace(jnp.asarray(at.frequencies), jnp.asarray(reference), None)

    def series_log_likelihood(self, parameters: Parameters, bold: BoldData) -> jax.Array:
        """Log-density of the time series themselves, with nothing estimated: a check.

        The scans of all regions together are normal, with the covariances at all lags that the
        cross-spectra amount to; confounds are removed from data and model alike. Each scan is
        predicted from all before it, as by a Kalman filter, though power laws have no finite
        state: time grows with the square of scans, for up to some ten regions.
        Series are taken as they are: scale them to a standard deviation of 1/4, as the model is.

        Parameters
        ----------
        parameters : mapping
            As for `predict`.
        bold : BoldData
            Scaled series; `simulate` with a BoldDesign gives them.

        Returns
        -------
        jax.Array
            Nats, (); -inf where the model is unstable.

        Raises
        ------
        TypeError, ValueError
            If `bold` is of another class or has other regions, or the model has inputs.

        Examples
        --------
        >>> from bayesdcm import BoldDesign
        >>> model = SpectralDCM([[1]])
        >>> P = {p.name: p.mean for p in model.priors}
        >>> run = model.simulate(P, BoldDesign(50, 2.0, None, None, ["V1"]), seed=1)
        >>> model.series_log_likelihood(P, run).shape
        ()
        """
        if self.C.shape[1]:
            raise ValueError("the density of series is not for models with inputs C")
        if not isinstance(bold, BoldData):
            raise TypeError(
                f"bold must be a BoldData, got {type(bold).__name__}; of a SpectralData that was "
                "made from one, give its series"
            )
        if bold.n_regions != self.n_regions:
            raise ValueError(
                f"bold has {bold.n_regions} regions, but the model has {self.n_regions}"
            )
        length = PERIOD * bold.n_scans
        frequencies = np.arange(1, length // 2 + 1) / (length * bold.repetition_time)
        spectra = self.cross_spectra(parameters, frequencies, list(bold.region_names))
        turns = np.exp(2j * np.pi * frequencies[:, None] * np.asarray(bold.slice_delays))
        confounds = np.asarray(bold.confounds)
        left, sizes, _ = np.linalg.svd(confounds / np.abs(confounds).max(0), full_matrices=False)
        left = jnp.asarray(left[:, sizes > 1e-10 * sizes[0]])
        series = jnp.asarray(bold.signal)
        return _series_log_density(spectra, turns, series, left, length, bold.repetition_time)

    def simulate(
        self, parameters: Parameters, design: Any, seed: int, snr: float | None = None
    ) -> Any:
        """A recording at rest: time series, and spectra that are estimated of them.

        Parameters
        ----------
        parameters : mapping
            As for `predict`.
        design : SpectralData, BoldData or BoldDesign
            Scans and names, and how spectra are estimated. Signals are in units of the design,
            such that the model's scaled ones are scaled by it; those of a design without signals
            are the scaled ones, in percent.
        seed : int
            Seed of fluctuations and noise.
        snr : None
            Noise is that of the parameters.

        Returns
        -------
        SpectralData or BoldData
            Of the class of `design`; a SpectralData with the simulated `series`, or, where the
            design has no series, spectra drawn about those predicted.

        Raises
        ------
        ValueError
            If `snr` is given, or the model is unstable.

        Examples
        --------
        >>> from bayesdcm import BoldDesign
        >>> model = SpectralDCM([[1, 0], [1, 1]])
        >>> P = {p.name: p.mean for p in model.priors}
        >>> model.simulate(P, BoldDesign(300, 2.0, None, None, ["V1", "V5"]), seed=1)
        BoldData(300 scans x 2 regions (V1, V5), ...)
        """
        spectral = isinstance(design, SpectralData)
        if snr is not None or (spectral and design.series is None):
            return super().simulate(parameters, design, seed, snr)
        bold, observer = (design.series if spectral else design), self.parts.observer
        if bold.n_regions != self.n_regions:
            raise ValueError(
                f"design has {bold.n_regions} regions, but the model has {self.n_regions}"
            )
        as_spm = spectral and self.likelihood == "spm"
        reference = design.frequencies if as_spm else REFERENCE
        scale = observer.scale(design) if spectral else 1.0
        length = PERIOD * bold.n_scans
        frequencies = np.arange(1, length // 2 + 1) / (length * bold.repetition_time)
        spectra = self.cross_spectra(parameters, frequencies, list(bold.region_names), reference)
        turns = np.exp(2j * np.pi * frequencies[:, None] * np.asarray(bold.slice_delays))
        signal = _series(np.asarray(spectra) / scale, turns, bold, length, seed)
        if self.C.shape[1]:
            if bold.n_inputs != self.n_inputs:
                raise ValueError(f"design has {bold.n_inputs} inputs, but C has {self.n_inputs}")
            complete = self._complete(parameters, list(bold.region_names))
            steps, _ = self.at_frequencies(frequencies, reference)
            transfer = np.asarray(_compiled_transfer(self, complete, steps))[0]
            known = np.fft.rfft(inputs_by_scan(bold), length, axis=0)[1:]
            # A mean over a scan is the value half a scan after its onset.
            known = known * np.exp(-1j * np.pi * frequencies * bold.repetition_time)[:, None]
            seen = np.einsum("fsn,si,fi->fn", transfer, np.asarray(complete["C"]), known)
            seen = np.concatenate([np.zeros((1, self.n_regions)), turns * seen])
            signal = signal + np.fft.irfft(seen, length, axis=0)[: bold.n_scans] / np.sqrt(scale)
        series = with_signal(bold, signal, getattr(bold, "unit", "percent"))
        if not spectral:
            return series
        return SpectralData.from_bold(
            series,
            design.estimator,
            order=design.order or 8,
            frequencies=design.frequencies,
            bandwidth=design.bandwidth if design.estimator == "multitaper" else None,
        )


@partial(jax.jit, static_argnums=0)
def _compiled_spectra(
    model: SpectralDCM, parameters: Parameters, steps: Any, space: BoldSpectraSpace
) -> jax.Array:
    neural, solver, observer = model.parts
    solution = solver.solve(neural, observer, parameters, steps)
    return observer.spectra(solution, parameters, space)[0]


@partial(jax.jit, static_argnums=0)
def _compiled_transfer(model: SpectralDCM, parameters: Parameters, steps: Any) -> jax.Array:
    """Of unit fluctuations, (1, frequencies, sources, regions)."""
    neural, solver, observer = model.parts
    return solver.solve(neural, observer, parameters, steps)


@partial(jax.jit, static_argnums=(4, 5))
def _series_log_density(
    spectra: jax.Array,
    turns: jax.Array,
    series: jax.Array,
    confounds: jax.Array,
    length: int,
    step: float,
) -> jax.Array:
    spectra = spectra * turns[:, :, None] * turns[:, None, :].conj()
    zero = jnp.zeros((1, *spectra.shape[1:]), complex)
    by_lag = jnp.fft.irfft(jnp.concatenate([zero, spectra]) / (2 * step), length, axis=0)
    return stationary_log_density(by_lag[: len(series)], series, confounds)


class _Frequencies:
    """What a solver takes of a design of which there are frequencies only."""

    def __init__(self, frequencies: NDArray) -> None:
        self.frequencies, self.conditions = frequencies, ("rest",)


def _series(
    spectra: NDArray, turns: NDArray, bold: BoldData | BoldDesign, length: int, seed: int
) -> NDArray[np.float64]:
    """Normal series (scans, regions) of cross-spectra at the multiples of the lowest frequency."""
    if not np.isfinite(spectra).all():
        raise ValueError(
            "parameters give a model without stable rest; check that the effective connectivity "
            "has no eigenvalue with positive real part"
        )
    rng = np.random.default_rng(seed)
    shape = spectra.shape[:2]
    z = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)
    samples = turns * np.einsum("fij,fj->fi", np.linalg.cholesky(spectra), z)
    step = 1 / (length * bold.repetition_time)
    samples = np.concatenate([np.zeros((1, shape[1])), np.sqrt(2 * step) * samples])
    series = np.fft.irfft(samples * length / 2, length, axis=0)
    return series[: bold.n_scans]
