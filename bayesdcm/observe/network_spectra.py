"""Cross-spectra of the regions of a network: of activity, BOLD signals, or channels that see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.spectral import SpectralData
from bayesdcm.integrate.hermitian import from_columns, to_columns
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.observe.bold import Balloon
from bayesdcm.observe.covariance import MEASUREMENT_NOISE
from bayesdcm.observe.spectra import SpectralObserver

AMPLITUDE_VARIANCE = 1 / 16


@dataclass(frozen=True, eq=False)
class NetworkSpectra(SpectralObserver):
    """Cross-spectra of the fluctuations of a network, with white noise of measurement.

    The estimates have a complex Wishart distribution about those predicted (Whittle's likelihood),
    with their own degrees of freedom. Noise of measurement is the same in all channels; its power
    at any frequency is a tenth of the mean power times ``exp(measurement_noise)``, N(0, 1).

    Parameters
    ----------
    haemodynamics : bool
        Whether signals are BOLD, by the Balloon model, linear about rest.
    lead_field : array_like, shape (channels, regions), optional
        What channels see of the activity of each region. None: a channel for each region.
    absolute : bool
        Whether signals are in the units of the activity. Otherwise spectra are scaled to a mean
        power of 1, of data and model alike, up to ``exp(amplitude)``, N(0, 1/16).

    Examples
    --------
    >>> len(NetworkSpectra().states), len(NetworkSpectra(haemodynamics=True).states)
    (0, 4)
    """

    # SPM has no networks.
    as_spm: bool = field(default=False, init=False)
    haemodynamics: bool = False
    lead_field: Any = None
    absolute: bool = False

    kind: ClassVar[str] = "whole-brain spectra"
    node: ClassVar[str] = "region"
    headline: ClassVar[tuple[str, ...]] = ("strength",)

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of haemodynamics."""
        return Balloon.states if self.haemodynamics else ()

    @property
    def units(self) -> dict[str, str]:  # type: ignore[override]
        """Units of parameters."""
        return dict(Balloon().units) if self.haemodynamics else {}

    @property
    def derived(self) -> Mapping[str, tuple[tuple[str, ...], str]]:  # type: ignore[override]
        """What `derive` gives."""
        return Balloon.derived if self.haemodynamics else {}

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """Haemodynamics, ``amplitude`` and ``measurement_noise``."""
        zero, unit = np.zeros(()), "log scaling"
        size = 0.0 if self.absolute else AMPLITUDE_VARIANCE
        return (
            *(Balloon().priors(neural) if self.haemodynamics else ()),
            Prior("amplitude", (), zero, np.full((), size), unit),
            Prior("measurement_noise", (), zero, np.ones(()), unit),
        )

    def flow(self, activity: jax.Array, h: jax.Array, parameters: Parameters) -> jax.Array:
        """See `Balloon.flow`."""
        return Balloon().flow(activity, h, parameters)

    def read(self, h: jax.Array, parameters: Parameters) -> jax.Array:
        """See `Balloon.read`."""
        return Balloon().read(h, parameters)

    def derive(self, parameters: Parameters) -> dict[str, jax.Array]:
        """See `Balloon.derive`."""
        return Balloon().derive(parameters) if self.haemodynamics else {}

    def scale(self, data: SpectralData) -> float:
        """Factor to a mean power of 1, or 1; see `SpectralObserver.scale`."""
        if self.absolute:
            return 1.0
        return 1 / float(np.einsum("cfii->cfi", np.asarray(data.spectra).real).mean())

    def spectra(self, solution: jax.Array, parameters: Parameters, arrays: None) -> jax.Array:
        """See `SpectralObserver.spectra`."""
        return from_columns(self.predict(solution, parameters, arrays))[None]

    def predict(self, solution: jax.Array, parameters: Parameters, arrays: None) -> jax.Array:
        """See `SpectralObserver.predict`; all stays in columns unless channels mix regions."""
        columns = solution
        if self.lead_field is not None:
            field = jnp.asarray(self.lead_field, complex)
            columns = to_columns(field @ from_columns(columns) @ field.T)
        identity = jnp.eye(round(columns.shape[-1] ** 0.5)).reshape(-1)
        mean = (columns @ identity).mean() / identity.sum()
        noise = MEASUREMENT_NOISE * jnp.exp(parameters["measurement_noise"]) * mean
        scale = 1.0
        if not self.absolute:
            scale = jnp.exp(parameters["amplitude"]) / (mean + noise)
        return scale * columns + scale * noise * identity

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where data are of something else, or of another number of channels."""
        super().check(data, neural)
        if (data.kind == "bold") != self.haemodynamics:
            given, other = ("False", "True") if data.kind == "bold" else ("True", "False")
            raise ValueError(
                f"data.kind is {data.kind!r}, but haemodynamics is {given}; give "
                f"haemodynamics={other}"
            )
        expected = neural.n_nodes if self.lead_field is None else len(self.lead_field)
        if data.n_channels != expected:
            of = "connectome" if self.lead_field is None else "lead field"
            raise ValueError(
                f"data has {data.n_channels} channels, but the {of} has {expected}; leave the same "
                "ones out of both"
            )
        if data.n_conditions != 1:
            raise ValueError(
                f"data has {data.n_conditions} conditions, but the model is for one; give one "
                "SpectralData for each"
            )
