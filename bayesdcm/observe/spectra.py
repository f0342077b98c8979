"""Observers of cross-spectra: the axes, noise and units of `SpectralData`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.spectral import SpectralData
from bayesdcm.data.spectral_validation import check_independent
from bayesdcm.integrate.hermitian import column_labels, column_sizes, from_columns, to_columns
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.observe.base import Observer, noise_prior
from bayesdcm.observe.gaussian import GaussianObservation
from bayesdcm.observe.spectral_precision import SpectralPrecision, spectral_precision
from bayesdcm.observe.wishart import WishartObservation, wishart_constant

# Mean and variance of SPM's log-precision of cross-spectra.
SPM_SPECTRAL_NOISE = (8.0, 1 / 128)


class WishartNoise(NamedTuple):
    """Of the complex Wishart likelihood, one a condition and frequency.

    Attributes
    ----------
    degrees_of_freedom, constant, samples : (rows,)
        See `bayesdcm.observe.WishartObservation`.
    """

    degrees_of_freedom: jax.Array
    constant: jax.Array
    samples: jax.Array


@dataclass(frozen=True)
class SpectralObserver(Observer):
    """An observer of the cross-spectra of channels or regions.

    What is modelled are the real and imaginary parts of a Hermitian matrix for each condition and
    frequency. Subclasses give `priors`, `scale` and the forward model `spectra`.

    Parameters
    ----------
    as_spm : bool
        SPM's likelihood: Gaussian, with a precision made of the data, and one log-precision with
        the prior N(8, 1/128). Otherwise the estimates have a complex Wishart distribution with
        their own degrees of freedom, and there is no parameter of the noise.
    """

    as_spm: bool = False

    data_class = SpectralData
    sample: ClassVar[str] = "frequency"

    @property
    def staged(self) -> bool:
        """Whether its parameters may move while states stay; only of Gaussian likelihoods."""
        return self.as_spm and not self.states

    # The forward model

    @abstractmethod
    def scale(self, data: SpectralData) -> float:
        """Factor from the spectra of a data set to those that are modelled.

        Parameters
        ----------
        data : SpectralData
        """

    def seen_spectra(self, data: SpectralData) -> NDArray[np.complex128]:
        """Spectra of what is modelled, unscaled: of a data set itself, or of its channel modes.

        Parameters
        ----------
        data : SpectralData
        """
        return np.asarray(data.spectra)

    @abstractmethod
    def spectra(self, solution: jax.Array, parameters: Parameters, arrays: Any) -> jax.Array:
        """Cross-spectra, scaled, (conditions, frequencies, channels, channels).

        Parameters
        ----------
        solution : jax.Array, from the solver
        parameters : mapping of full arrays by name
        arrays : pytree, from `prepare`
        """

    def predict(self, solution: jax.Array, parameters: Parameters, arrays: Any) -> jax.Array:
        """Cross-spectra as real columns, (conditions * frequencies, pairs)."""
        columns = to_columns(self.spectra(solution, parameters, arrays))
        return columns.reshape(-1, columns.shape[-1])

    # Data

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where a data set does not fit the neural model or the likelihood."""
        if not isinstance(data, SpectralData):
            raise TypeError(
                f"data must be SpectralData, got {type(data).__name__}; SpectralData.from_bold, "
                "from_epochs, from_raw and from_arrays make it"
            )
        if neural.n_effects != data.n_effects:
            raise ValueError(
                f"data has {data.n_effects} effect(s) in which its conditions differ, but the "
                f"model has {neural.n_effects}"
            )
        if not self.as_spm and data.degrees_of_freedom is None:
            raise ValueError(
                "data.degrees_of_freedom is None, but the Wishart likelihood needs the number of "
                "independent samples behind the spectra; give it (tapers times epochs), or use "
                "likelihood='spm'"
            )

    def observed(self, data: SpectralData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """Spectra as real columns, scaled, and their noise; see `Observer.observed`."""
        spectra = self.seen_spectra(data) * self.scale(data)
        columns = to_columns(spectra)
        rows = columns.reshape(-1, columns.shape[-1])
        if self.as_spm:
            return rows, spectral_precision(spectra.mean(0), len(spectra))
        freedom = data.independent_degrees_of_freedom
        if spectra.shape[-1] == len(data.names):
            check_independent(spectra, freedom, data.names)
        freedom = freedom.reshape(-1)
        samples = np.asarray(data.degrees_of_freedom).reshape(len(spectra), -1)
        samples = np.broadcast_to(samples, spectra.shape[:2]).reshape(-1).astype(float)
        constant = wishart_constant(spectra.reshape(-1, *spectra.shape[2:]), freedom)
        return rows, WishartNoise(freedom, constant, samples)

    def noise_prior(self, neural: NeuralModel) -> Prior:
        """One log-precision, which is fixed for the Wishart likelihood."""
        return noise_prior(*(SPM_SPECTRAL_NOISE if self.as_spm else (0.0, 0.0)))

    def likelihood(
        self,
        prediction: jax.Array,
        log_precision: jax.Array,
        noise: SpectralPrecision | WishartNoise,
    ) -> GaussianObservation:
        """SPM's Gaussian or the complex Wishart distribution."""
        if isinstance(noise, WishartNoise):
            return WishartObservation(prediction, *noise)
        return GaussianObservation(
            prediction, jnp.atleast_1d(log_precision), noise, noise.confounds
        )

    def at_data(
        self, prediction: jax.Array, data: SpectralData, priors: Mapping[str, Prior]
    ) -> jax.Array:
        """Complex, in the units of the data, (conditions, frequencies, channels, channels)."""
        apart = prediction.reshape(data.n_conditions, data.n_frequencies, -1)
        return from_columns(apart) / self.scale(data)

    def simulated(
        self,
        clean: NDArray,
        design: SpectralData,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> SpectralData:
        """Estimates of the predicted spectra, with the design's degrees of freedom."""
        if snr is not None:
            raise ValueError(
                f"snr is {snr!r}, but the noise of spectra is part of their parameters, and that "
                "of estimates follows from degrees of freedom; leave it out"
            )
        freedom = design.degrees_of_freedom
        if freedom is None:
            return design.replace(spectra=clean, series=None)
        shape = clean.shape[:2]
        freedom = np.broadcast_to(freedom.reshape(shape[0], -1), shape)
        freedom = jnp.asarray(freedom.reshape(-1), float)
        columns = jnp.asarray(to_columns(clean).reshape(shape[0] * shape[1], -1))
        fn = WishartObservation(columns, freedom, jnp.zeros(len(columns)))
        drawn = np.asarray(fn.sample(jax.random.key(int(rng.integers(2**31)))))
        spectra = from_columns(drawn).reshape(clean.shape)
        return design.replace(spectra=spectra, series=None)

    # Names

    def names(self, data: SpectralData | None, neural: NeuralModel) -> dict[str, list[str]]:
        """Names of nodes, effects and conditions; see `Observer.names`."""
        conditions, effects = ["rest"], [f"effect {i + 1}" for i in range(neural.n_effects)]
        if data is not None:
            conditions, effects = list(data.conditions), list(data.effect_names)
        nodes = self.node_names(data, neural)
        return dict.fromkeys((self.node, "to", "from"), nodes) | {
            "effect": effects,
            "condition": conditions,
            "input": [f"input {i + 1}" for i in range(neural.n_inputs)],
        }

    def node_names(self, data: SpectralData | None, neural: NeuralModel) -> list[str]:
        """Names of the nodes, by default such as "region 1".

        Parameters
        ----------
        data : SpectralData or None
        neural : NeuralModel
        """
        return [f"{self.node} {i + 1}" for i in range(neural.n_nodes)]

    def dims(self) -> dict[str, tuple[str, ...]]:
        """See `Observer.dims`."""
        return {
            "log_precision": (),
            "signal": ("condition", "frequency", "pair"),
            "degrees_of_freedom": ("condition", "frequency"),
            "scale": (),
        }

    def coords(self, data: SpectralData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Frequencies, Hz, and what columns are: powers, and parts of pairs."""
        return {
            "frequency": np.asarray(data.frequencies),
            "pair": np.asarray(column_labels(data.names)),
        }

    def constants(self, data: SpectralData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """``degrees_of_freedom`` where known; ``scale``, by what spectra were multiplied."""
        table = {"scale": np.asarray(self.scale(data))}
        freedom = data.independent_degrees_of_freedom
        if freedom is not None:
            shape = data.n_conditions, data.n_frequencies
            table["degrees_of_freedom"] = np.broadcast_to(freedom, shape).copy()
        return table

    def restore(self, scaled: NDArray, data: SpectralData, priors: Mapping[str, Prior]) -> NDArray:
        """Powers, and real and imaginary parts, in units of data, on the axes of results."""
        n = round(scaled.shape[-1] ** 0.5)
        return self.arrange(scaled / self.scale(data) / column_sizes(n), data)

    def arrange(self, values: NDArray, data: SpectralData) -> NDArray:
        """From (..., conditions * frequencies, pairs) to (..., conditions, frequencies, pairs)."""
        shape = (*values.shape[:-2], data.n_conditions, data.n_frequencies, values.shape[-1])
        return values.reshape(shape)


def power_law(frequencies: jax.Array, exponent: jax.Array, reference: ArrayLike) -> jax.Array:
    """``f^-exponent`` over its sum at reference frequencies, (frequencies,).

    Parameters
    ----------
    frequencies : jax.Array
        Hz, shape (frequencies,).
    exponent : jax.Array
        Shape ().
    reference : array_like
        Frequencies, Hz, at which the values sum to one.

    Examples
    --------
    >>> f = np.array([1.0, 2.0])
    >>> power_law(jnp.asarray(f), jnp.ones(()), f) * 3
    Array([2., 1.], dtype=float64)
    """
    return frequencies**-exponent / (jnp.asarray(reference) ** -exponent).sum()
