"""The observer of a column's current dipole: its scale, smoothing, noise and the model's error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import NDArray

from bayesdcm.data.dipole import DipoleData
from bayesdcm.data.hamming import hamming_weights, smoothed
from bayesdcm.data.validation import warn_caller
from bayesdcm.integrate.exponential_euler import step_ends
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.laminar import LaminarColumn
from bayesdcm.neural.laminar_equations import calibration, constants_of, layer_dipoles
from bayesdcm.observe.base import Observer, noise_prior
from bayesdcm.observe.dipole_correction import DipoleCorrection
from bayesdcm.observe.gaussian import GaussianObservation
from bayesdcm.observe.temporal_precision import TemporalPrecision, temporal_precision

# Pyramidal cells of the network that the column stands for.
NETWORK_CELLS = 200
# Prior variance of the log-precision: of noise whose sd is known, and of noise and error together,
# where data that the column happens to fit well must not be taken for a column without error.
NOISE_VARIANCE, ERROR_VARIANCE = 1 / 16, 1 / 400
# Samples before the stimulus that the sd of the noise can be taken from.
FEWEST_BASELINE = 20
# Share of the noise that differs between samples, however smooth it is.
WHITE_SHARE = 1e-3
# Share of the column's error that is taken to differ between samples.
OWN_SHARE = 0.1
# Share that is told to users.
MUCH_WHITE = 0.2


@dataclass(frozen=True)
class ColumnDipole(Observer):
    """The dipole of a column of an unknown number of cells, smoothed as the data were.

    Noise has the standard deviation that the data tell (``noise_sd``, or that of at least 20
    samples before the stimulus), is white, or smooth where the data were smoothed. To its
    covariance that of the error of the column is added: the dipole of the network that the column
    stands for differs from the column's, as the calibration has measured on runs it did not see.

    Parameters
    ----------
    scale : float
        How many networks of 200 pyramidal cells are active, the prior median. hnn-core's users set
        a factor of this meaning by hand.
    scale_variance : float
        Prior variance of the logarithm of that number; 0 fixes it.
    model_error : float
        Factor of the covariance of the column's error; 0 for dipoles of the column itself.
    correction : DipoleCorrection, optional
        Difference between network and column, from runs of the network with drives like those that
        are inferred; its error takes the place of the calibration's.
    """

    scale: float = 1.0
    scale_variance: float = 0.5
    model_error: float = 1.0
    correction: DipoleCorrection | None = None

    data_class = DipoleData
    kind: ClassVar[str] = "evoked dipole"
    node: ClassVar[str] = "column"
    searches: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, tuple[str, str, float]]] = {
        "time": ("time after the stimulus", "ms", 1e3)
    }
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "pyramidal_cells": ((), "cells")
    }
    units: ClassVar[Mapping[str, str]] = {"signal": "A m"}
    headline: ClassVar[tuple[str, ...]] = ("time",)

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("scale", "scale_variance", "model_error"):
            value = getattr(self, name)
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            least = "positive" if name == "scale" else "at least 0"
            if not number or not np.isfinite(value) or value < 0 or (name == "scale" and not value):
                raise ValueError(f"{name} must be a number, {least}, got {value!r}")

    # The forward model

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """Logarithm of the number of networks, relative to `scale`."""
        variance = np.asarray(float(self.scale_variance))
        return (Prior("scale", (), np.zeros(()), variance, "log scaling"),)

    def seen(self, priors: Mapping[str, Prior]) -> tuple[Any, NDArray[np.intp]]:
        """Voltages of the pyramidal cells."""
        return ..., np.arange(4)

    def predict(self, solution: jax.Array, parameters: Parameters, arrays: jax.Array) -> jax.Array:
        """Dipole in nAm, (times, 1)."""
        dipole = self.layers(solution, parameters, arrays).sum(-1, keepdims=True)
        if self.correction is None:
            return dipole
        networks = self.scale * jnp.exp(parameters["scale"])
        return dipole + networks * self.correction.at(parameters)[:, None]

    def layers(self, solution: jax.Array, parameters: Parameters, arrays: jax.Array) -> jax.Array:
        """Dipoles of layers 2/3 and 5 in nAm, (times, 2).

        Parameters
        ----------
        solution : jax.Array, from the solver
        parameters : mapping of full arrays by name
        arrays : jax.Array, from `prepare`
        """
        values = calibration().values * jnp.exp(parameters["column"])
        layers = layer_dipoles(solution[:, 0], constants_of(values))
        return self.scale * jnp.exp(parameters["scale"]) * (arrays @ layers)

    def derive(self, parameters: Parameters) -> dict[str, jax.Array]:
        """Number of pyramidal cells that are active together."""
        return {"pyramidal_cells": NETWORK_CELLS * self.scale * jnp.exp(parameters["scale"])}

    # Data

    def check(self, data: Any, neural: LaminarColumn) -> None:
        """Raise an error where data are no dipole, or drives lie outside of them."""
        if not isinstance(data, DipoleData):
            raise TypeError(
                f"data must be DipoleData, got {type(data).__name__}; see "
                "DipoleData.from_source_estimate and DipoleData.from_arrays"
            )
        made_for = None if self.correction is None else self.correction.times
        if made_for is not None and not np.array_equal(made_for, data.times):
            raise ValueError(
                f"data have {data.n_times} times from {data.times[0]:g} s, but the correction is "
                f"for {len(made_for)} from {made_for[0]:g} s; give correction=None, and check the "
                "fit of these data with the network"
            )
        end = 1e3 * float(data.times[-1])
        late = {
            drive.name: drive.centre("time")
            for drive in neural.drives
            if drive.centre("time") >= end
        }
        if late:
            raise ValueError(
                f"data end at {end:.4g} ms, but drives come at "
                f"{', '.join(f'{time:.4g} ms ({name})' for name, time in late.items())}; give a "
                "longer window (times are s in DipoleData, ms in Drive), or leave the drive out"
            )

    def prepare(self, data: DipoleData, priors: Mapping[str, Prior]) -> jax.Array:
        """Matrix from the ends of steps to the samples, smoothed as the data are."""
        return jnp.asarray(sampling(data, step_ends(data.times)))

    def observed(self, data: DipoleData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """The dipole in nAm, (times, 1), and the precision of noise and error."""
        covariance = 1e18 * self.covariance(data)
        precision = np.linalg.inv(covariance)
        return data.nanoampere_metres[:, None], temporal_precision(
            ((precision + precision.T) / 2)[None]
        )

    def covariance(self, data: DipoleData) -> NDArray[np.float64]:
        """Covariance of what the model leaves open: noise, and error of the column, (A m)^2.

        Parameters
        ----------
        data : DipoleData
            Times, smoothing, and the sd of the noise.

        Returns
        -------
        ndarray
            Shape (times, times).

        Raises
        ------
        ValueError
            If the sd of the noise is not known, nor to be had from samples before the stimulus.
        """
        sd = noise_sd(data)
        noise = sd**2 * noise_correlation(data, sd)
        if not self.model_error:
            return noise
        found: Any = self.correction
        if found is None:
            found = calibration()
            factor = sampling(data, 1e-3 * found.error_times) @ found.error
        else:
            factor = found.error
        size = np.sqrt(max((data.dipole**2).mean() - sd**2, 0.01 * (data.dipole**2).mean()))
        error = factor @ factor.T
        # A few hundred runs tell variances better than covariances.
        error = (1 - OWN_SHARE) * error + OWN_SHARE * np.diag(np.diag(error))
        return noise + self.model_error * (size / found.size) ** 2 * error

    def noise_prior(self, neural: NeuralModel) -> Prior:
        """Logarithm of a factor of the precision, close to 1."""
        return noise_prior(0.0, ERROR_VARIANCE if self.model_error else NOISE_VARIANCE)

    def likelihood(
        self, prediction: jax.Array, log_precision: jax.Array, noise: TemporalPrecision
    ) -> dist.Distribution:
        """Gaussian noise and error of the column, serially correlated."""
        return GaussianObservation(
            prediction, jnp.atleast_1d(log_precision), noise, noise.confounds
        )

    def at_data(
        self, prediction: jax.Array, data: DipoleData, priors: Mapping[str, Prior]
    ) -> jax.Array:
        """In A m, shape (times,)."""
        return 1e-9 * prediction[:, 0]

    def simulated(
        self,
        clean: NDArray,
        design: DipoleData,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> DipoleData:
        """The design with another dipole; noise as smooth as the design says, without error."""
        sd = None
        if snr is not None:
            sd = clean.std() / snr
        elif log_precision is not None:
            sd = noise_sd(design) * float(np.exp(-log_precision / 2))
        noise = np.zeros_like(clean)
        if sd is not None:
            root = np.linalg.cholesky(noise_correlation(design))
            noise = sd * root @ rng.normal(size=len(clean))
        return design.replace(dipole=clean + noise, noise_sd=sd or design.noise_sd, layers=None)

    # Names

    def names(self, data: DipoleData | None, neural: LaminarColumn) -> dict[str, list[str]]:
        """Names of drives and of the column."""
        return {
            "drive": [drive.name for drive in neural.drives],
            "to": ["column" if data is None else data.name],
            "layer": ["L2", "L5"],
        }

    def dims(self) -> dict[str, tuple[str, ...]]:
        """See `Observer.dims`."""
        return {"log_precision": (), "signal": ("time",)}

    def coords(self, data: DipoleData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Times in s."""
        return {"time": np.asarray(data.times)}

    def constants(self, data: DipoleData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """``noise_sd``, A m."""
        return {"noise_sd": np.asarray(noise_sd(data))}

    def restore(self, scaled: NDArray, data: DipoleData, priors: Mapping[str, Prior]) -> NDArray:
        """From nAm (..., times, 1) to A m (..., times)."""
        return 1e-9 * self.arrange(scaled, data)

    def arrange(self, values: NDArray, data: DipoleData) -> NDArray:
        """From (..., times, 1) to (..., times)."""
        return values[..., 0]


def noise_sd(data: DipoleData) -> float:
    """Standard deviation of the noise, A m: as given, or of the samples before the stimulus.

    ValueError where there is neither.
    """
    if data.noise_sd is not None:
        return data.noise_sd
    before = data.dipole[data.times < 0]
    if len(before) < FEWEST_BASELINE:
        raise ValueError(
            f"data.noise_sd is None and {len(before)} samples come before the stimulus, so that "
            "the noise is not known; give noise_sd in A m (DipoleData.from_evoked works it out), "
            f"or at least {FEWEST_BASELINE} samples before the stimulus"
        )
    return float(before.std(ddof=1))


def noise_correlation(data: DipoleData, sd: float | None = None) -> NDArray[np.float64]:
    """Correlation of the noise (times, times): that of white noise after the data's smoothing.

    Given the `sd` of the noise, A m, it is whiter where neighbouring samples of the data differ by
    more than that explains, which a warning tells.
    """
    if not data.smoothing:
        return np.eye(data.n_times)
    step = data.smoothing / 200
    weights = hamming_weights(data.smoothing, step)
    products = np.correlate(weights, weights, "full")[len(weights) - 1 :]
    apart = np.abs(data.times[:, None] - data.times)
    lags = step * np.arange(len(products))
    correlation = np.interp(apart, lags, products / products[0], right=0.0)
    white = WHITE_SHARE
    if sd is not None and data.n_times > 2:
        expected = 6 - 8 * correlation[0, 1] + 2 * correlation[0, 2]
        seen = (np.diff(data.dipole, 2) ** 2).mean() / sd**2
        white = float(np.clip((seen - expected) / (6 - expected), WHITE_SHARE, 1.0))
        if white > MUCH_WHITE:
            warn_caller(
                f"data.smoothing is {1e3 * data.smoothing:g} ms, but neighbouring samples differ "
                f"as if {100 * white:.0f} % of the noise were white, and so it is taken. Where "
                "noise was added after smoothing, this is right; otherwise check noise_sd"
            )
    return (1 - white) * correlation + white * np.eye(data.n_times)


def sampling(data: DipoleData, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix (times, grid) that interpolates values on an even grid, s, and smooths as the data.

    Before the grid a dipole is 0.
    """
    before = np.arange(grid[0], min(data.times[0] - data.smoothing, grid[0]), grid[0] - grid[1])
    padded = np.r_[before[1:][::-1], grid]
    smoother = np.eye(len(padded))
    if data.smoothing:
        weights = hamming_weights(data.smoothing, grid[1] - grid[0])
        smoother = np.stack([smoothed(row, weights) for row in smoother], axis=1)
    smoother = smoother[:, len(padded) - len(grid) :]
    return np.stack([np.interp(data.times, padded, column) for column in smoother.T], axis=1)
