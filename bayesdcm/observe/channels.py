"""Observers of channels: dipoles, patches of cortex, electrodes.

What channels see is projected on channel modes, drifts are removed, and data are scaled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.by_value import ByValue, structure_key
from bayesdcm.data.device import on_device
from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.head import GridHead, SurfaceHead
from bayesdcm.data.named_axes import check_unnamed
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.erp import ERP
from bayesdcm.observe.base import SPM_NOISE, WIDE_NOISE, Observer, noise_prior
from bayesdcm.observe.channel_modes import channel_modes, field_derivatives
from bayesdcm.observe.evoked_preparation import dct_basis, feature_scale, residual_matrix
from bayesdcm.observe.evoked_preparation import temporal_precision as autoregressive
from bayesdcm.observe.forward_grid import (
    LocalExpansion,
    expanded_lead_field,
    local_expansion,
)
from bayesdcm.observe.gaussian import GaussianObservation, gaussian
from bayesdcm.observe.lead_field import N_PATCH_MODES, dipole_lead_field, patches, power_of_ten
from bayesdcm.observe.temporal_precision import TemporalPrecision, temporal_precision

# Smallest eigenvalue of a noise covariance that counts, relative to the largest.
RANK_TOLERANCE = 1e-10
STRENGTH_VARIANCE = 64.0  # SPM's, of gains, moments and weights alike
# SPM's prior precision of the coefficients of confounds in this scheme.
CONFOUND_PRECISION = float(np.exp(-16))


def checked_numbers(name: str, value: Any, shape: tuple[int | None, ...], axes: str) -> NDArray:
    """Check an array of finite numbers of a shape, None for any length; read-only."""
    check_unnamed(
        name,
        value,
        f"put its axes ({axes}) in the order of source_names and of data.channel_names, and give "
        f"{name}.to_numpy()",
    )
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers ({axes}), got {value!r}") from error
    fits = array.ndim == len(shape) and all(
        want in (None, got) for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(
            f"{name} must have shape ({expected}) with axes ({axes}), got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    array.flags.writeable = False
    return array


def checked_positions(value: Any, n_sources: int | None = None) -> NDArray:
    """Check positions, shape (sources, 3), MNI mm."""
    positions = checked_numbers("positions", value, (n_sources, 3), "source, x y z; mm")
    if 0 < np.abs(positions).max() < 1:
        raise ValueError(
            f"positions lie within {np.abs(positions).max():.3g} mm of the origin; expected "
            "MNI coordinates in mm. Multiply metres by 1000"
        )
    return positions


class ModelledSpace(NamedTuple):
    """What a program needs to know of the channels: a pytree."""

    # In channel modes: a field for each source (modes, sources); modes of patches (sources, modes,
    # patch modes); dipoles at fixed positions (sources, modes, 3), or about them.
    lead: jax.Array | LocalExpansion
    to_modes: jax.Array  # scaled projection (modes, channels), for a head at free positions
    transform: jax.Array  # from MNI mm to head m, (4, 4)
    head: ByValue | None  # lead field as a function of positions, where these are free


@dataclass(frozen=True, eq=False)
class ChannelSpace:
    """Channels, modes and the prepared data of one data set.

    Attributes
    ----------
    filtered : (conditions, times, channels)
        Data at the channels, drifts removed and windowed, in their own units.
    signal : (times, conditions * modes)
        What is modelled: in modes and scaled.
    scale : float
        By what data in modes were multiplied.
    modes : (channels, modes)
        Channel modes, of whitened channels where there is a noise covariance; as observers take
        them, for other models to have the same.
    projection : (channels, modes)
        From channels to modes.
    modes_to_channels : (modes, channels)
        Back again.
    mode_names : tuple of str
        Names of channels where a mode is one, else "mode 1", ...
    modelled : ModelledSpace
        For the program.
    temporal : TemporalPrecision
        Serial correlation of the noise, and drifts.
    noise_to_channels : (components, channels)
        Takes white noise to noise at the channels that has unit variance in the modes.
    """

    filtered: NDArray
    signal: NDArray
    scale: float
    modes: NDArray
    projection: NDArray
    modes_to_channels: NDArray
    mode_names: tuple[str, ...]
    modelled: ModelledSpace
    temporal: TemporalPrecision
    noise_to_channels: NDArray

    def noise(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray:
        """Noise of log-precision 0 at the channels, serially correlated where the model says so.

        Parameters
        ----------
        rng : numpy.random.Generator
        shape : tuple of int
            Conditions, times, channels.
        """
        white = rng.normal(size=(*shape[:2], len(self.noise_to_channels)))
        return np.linalg.solve(self.temporal.root, white) @ self.noise_to_channels


@dataclass(frozen=True)
class ChannelObserver(Observer):
    """An observer of evoked responses at channels that see sources through lead fields.

    Subclasses give the `lead` field at the prior positions and, unless it is a gain of each
    source, `source_field` over channel modes and its `spatial_priors`.

    Parameters
    ----------
    source_names : sequence of str, optional
        By default "source 1", "source 2", ...
    n_modes : int
        Channel modes that are modelled, at least one a source; SPM's default is 8.
    modes : array_like, optional
        Channel modes to use instead, shape (channel, mode).
    n_confounds : int
        Cosines, the constant first, that are removed as drifts; SPM's default is 1.
    hanning : bool
        Whether to multiply the data with a Hanning window, as is SPM's option.
    temporal_correlation : bool
        Whether the noise is serially correlated as SPM assumes.
    as_spm : bool
        SPM's prior of the log-precision of the noise in units of the data's standard deviation,
        N(6, 1/128); otherwise N(2, 16), so that data decide.
    """

    source_names: Sequence[str] | None = field(default=None, kw_only=True)
    n_modes: int = field(default=8, kw_only=True)
    modes: ArrayLike | None = field(default=None, kw_only=True)
    n_confounds: int = field(default=1, kw_only=True)
    hanning: bool = field(default=False, kw_only=True)
    temporal_correlation: bool = field(default=True, kw_only=True)
    as_spm: bool = field(default=False, kw_only=True)

    data_class = EvokedData
    # Shapes, None for any length, and axes of fields that are arrays.
    arrays: ClassVar[Mapping[str, tuple[tuple[int | None, ...], str]]] = {
        "modes": ((None, None), "channel, mode")
    }
    kind: ClassVar[str] = "evoked responses"
    node: ClassVar[str] = "source"
    axes: ClassVar[Mapping[str, tuple[str, str, float]]] = {
        "time": ("time after the stimulus", "ms", 1e3)
    }
    headline: ClassVar[tuple[str, ...]] = ("B", "A")
    citations = (ERP.citation,)

    def __post_init__(self) -> None:
        """Check arrays, which become read-only."""
        for name, (shape, axes) in self.arrays.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked_numbers(name, value, shape, axes))

    # The forward model

    @abstractmethod
    def lead(self, data: EvokedData) -> NDArray:
        """Fields at the prior positions, (channels, sources) or (sources, channels, components).

        Parameters
        ----------
        data : EvokedData
            Channels, and the head where one is needed.
        """

    def source_field(self, parameters: Parameters, space: ModelledSpace) -> jax.Array:
        """Field of each source in channel modes, (modes, sources); here the lead field, a gain.

        Parameters
        ----------
        parameters : mapping of full arrays by name
        space : ModelledSpace
            Lead fields in channel modes.
        """
        return jnp.asarray(space.lead) * jnp.asarray(parameters["gain"])[None, :]

    def spatial_priors(self, n_sources: int) -> tuple[Prior, ...]:
        """Priors of the parameters of the field; here ``gain`` (source,), SPM's.

        Parameters
        ----------
        n_sources : int
        """
        return (_strength("gain", ("source",), (n_sources,), mean=1.0),)

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """Priors of the field, and of the contributions of states to it."""
        return (*self.spatial_priors(neural.n_nodes), neural.contribution)

    def seen(self, priors: Mapping[str, Prior]) -> tuple[Any, NDArray[np.intp]]:
        """States that may contribute to the signal."""
        prior = priors["contribution"]
        return ..., np.flatnonzero((prior.mean != 0) | (prior.variance > 0))

    def predict(
        self,
        solution: jax.Array,
        parameters: Parameters,
        arrays: tuple[ModelledSpace, ByValue[tuple[int, ...]]],
    ) -> jax.Array:
        """Signal in channel modes, (times, conditions * modes), of the states that are seen."""
        space, seen = arrays
        weight = parameters["contribution"][np.array(seen.value)]
        activity = jnp.einsum("ctns,s->ctn", solution, weight)
        modes = activity @ self.source_field(parameters, space).T
        return jnp.moveaxis(modes, 0, 1).reshape(modes.shape[1], -1)

    # Data

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where a data set does not fit the neural model or the observer."""
        if not isinstance(data, EvokedData):
            raise TypeError(f"data must be EvokedData, got {type(data).__name__}")
        if neural.n_effects != data.n_effects:
            raise ValueError(
                f"data has {data.n_effects} condition-specific effect(s) in its design, but the "
                f"model's modulation has {neural.n_effects}; modulation needs one (to, from) "
                "matrix for each effect, and data.design one column for each matrix"
            )
        if self.source_names is not None and len(self.source_names) != neural.n_nodes:
            raise ValueError(
                f"source_names must be {neural.n_nodes} names, one a source, got "
                f"{list(self.source_names)}"
            )
        self.check_channels(data, neural.n_nodes)
        if self.modes is not None:
            self._check_length("modes", self.modes, 0, data)

    def check_channels(self, data: EvokedData, n_sources: int) -> None:
        """Raise an error where the lead field does not fit the channels or the head.

        Parameters
        ----------
        data : EvokedData
        n_sources : int
        """

    @staticmethod
    def _check_length(name: str, value: ArrayLike, axis: int, data: EvokedData) -> None:
        """Raise an error unless an array has an entry for each channel."""
        if np.shape(value)[axis] != data.n_channels:
            raise ValueError(
                f"{name} is for {np.shape(value)[axis]} channels, but data has "
                f"{data.n_channels}; it needs one entry for each channel, in the order of "
                "data.channel_names"
            )

    def channel_space(self, data: EvokedData, priors: Mapping[str, Prior]) -> ChannelSpace:
        """Channels, modes and the data in them; worked out once for a data set.

        Parameters
        ----------
        data : EvokedData
        priors : mapping of str to Prior
            Priors of the observer's parameters; only whether positions are free matters.
        """
        moved = "position" in priors and bool(priors["position"].free.any())
        known = _SPACES.setdefault(data, {})
        key = ByValue((self, moved))
        if key not in known:
            known[key] = _channel_space(self, moved, data)
        return known[key]

    # Data are constants, also where a caller's function of parameters is being traced.
    @jax.ensure_compile_time_eval()
    def prepare(
        self, data: EvokedData, priors: Mapping[str, Prior]
    ) -> tuple[ModelledSpace, ByValue[tuple[int, ...]]]:
        """Lead fields in channel modes, and the states that are seen."""
        space = on_device(self.channel_space(data, priors).modelled)
        return space, ByValue(tuple(self.seen(priors)[1].tolist()))

    def observed(self, data: EvokedData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """Data in channel modes, scaled, and the temporal precision of the noise."""
        space = self.channel_space(data, priors)
        return space.signal, space.temporal

    def noise_prior(self, neural: NeuralModel) -> Prior:
        """One log-precision."""
        return noise_prior(*(SPM_NOISE if self.as_spm else WIDE_NOISE))

    def likelihood(
        self, prediction: jax.Array, log_precision: jax.Array, noise: TemporalPrecision
    ) -> GaussianObservation:
        """Serially correlated Gaussian noise, and drifts of unknown size."""
        return gaussian(
            prediction, log_precision, components=noise, confound_precision=CONFOUND_PRECISION
        )

    def at_data(
        self, prediction: jax.Array, data: EvokedData, priors: Mapping[str, Prior]
    ) -> jax.Array:
        """At the channels in the units of the data, shape (conditions, times, channels)."""
        space = self.channel_space(data, priors)
        apart = prediction.reshape(prediction.shape[0], data.n_conditions, -1)
        return jnp.moveaxis(apart, 0, 1) @ space.modes_to_channels / space.scale

    def simulated(
        self,
        clean: NDArray,
        design: EvokedData,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> EvokedData:
        """The design with another signal; `snr` holds over all channels.

        Noise is serially correlated as the model assumes and independent between channels (given
        a noise covariance, correlated so).
        """
        space, sd = self.channel_space(design, priors), 0.0
        noise = space.noise(rng, clean.shape)
        if snr is not None:
            sd = clean.std() / snr / noise.std()
        elif log_precision is not None:
            sd = np.exp(-float(log_precision) / 2) / space.scale
        return design.replace(signal=clean + sd * noise)

    # Names

    def names(self, data: EvokedData | None, neural: NeuralModel) -> dict[str, list[str]]:
        """Names of sources, effects, conditions, states; see `Observer.names`."""
        effects = [f"effect {i + 1}" for i in range(neural.n_effects)]
        conditions = ["condition 1"]
        if data is not None:
            effects, conditions = list(data.effect_names), list(data.condition_names)
        sources = self.source_names or [f"source {i + 1}" for i in range(neural.n_nodes)]
        along = dict.fromkeys(("source", "to", "from"), list(sources))
        return along | {
            "effect": effects,
            "input": [f"input {i + 1}" for i in range(neural.n_inputs)],
            "timing": ["onset", "duration"],
            "axis": ["x", "y", "z"],
            "state": list(neural.states),
            "condition": conditions,
        }

    def dims(self) -> dict[str, tuple[str, ...]]:
        """See `Observer.dims`."""
        return {
            "log_precision": (),
            "signal": ("condition", "time", "mode"),
            "channels": ("condition", "time", "channel"),
            "design": ("condition", "effect"),
            "modes_to_channels": ("mode", "channel"),
        }

    def coords(self, data: EvokedData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Times in s, names of channels and modes."""
        return {
            "time": np.asarray(data.times),
            "channel": np.asarray(data.channel_names),
            "mode": np.asarray(self.channel_space(data, priors).mode_names),
        }

    def constants(self, data: EvokedData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Constants of a data set that results hold.

        ``channels``: the data as they were fitted, at the channels in their units (drifts
        removed and windowed); ``modes_to_channels``: takes a signal in channel modes to the
        channels; ``scale``: by what the data were multiplied for the fit; ``design``.
        """
        space = self.channel_space(data, priors)
        return {
            "channels": space.filtered,
            "modes_to_channels": space.modes_to_channels,
            "scale": np.asarray(space.scale),
            "design": np.asarray(data.design),
        }

    def restore(self, scaled: NDArray, data: EvokedData, priors: Mapping[str, Prior]) -> NDArray:
        """From (..., times, conditions * modes) to (..., conditions, times, modes), in units."""
        return self.arrange(scaled, data) / self.channel_space(data, priors).scale

    def arrange(self, values: NDArray, data: EvokedData) -> NDArray:
        """From (..., times, conditions * modes) to (..., conditions, times, modes)."""
        apart = values.reshape(*values.shape[:-1], data.n_conditions, -1)
        return np.moveaxis(apart, -2, -3)


@dataclass(frozen=True)
class Electrodes(ChannelObserver):
    """One channel in each source, such as local field potentials, with an unknown gain.

    Parameters
    ----------
    source_names, n_modes, modes, n_confounds, hanning, temporal_correlation, as_spm
        As `ChannelObserver` takes them.

    Examples
    --------
    >>> [prior.name for prior in Electrodes().spatial_priors(2)]
    ['gain']
    """

    def lead(self, data: EvokedData) -> NDArray:
        """The identity."""
        return np.eye(data.n_channels)

    def check_channels(self, data: EvokedData, n_sources: int) -> None:
        """Raise an error unless there is one channel for each source, in their order."""
        if data.n_channels != n_sources:
            raise ValueError(
                f"data has {data.n_channels} channels, but the model has {n_sources} sources, and "
                "observation='lfp' has one channel in each source"
            )
        sources, channels = list(self.source_names or ()), list(data.channel_names or ())
        # Channels count by position; names that both know tell where that is wrong.
        crossed = [n for n in channels if n in sources and sources.index(n) != channels.index(n)]
        if crossed:
            raise ValueError(
                f"data has the channels {channels} and the model the sources {sources}: with "
                f"observation='lfp' channel {channels.index(crossed[0]) + 1} would be seen in "
                f"source {sources[channels.index(crossed[0])]!r}, but is named {crossed[0]!r}. "
                "Put channels in the order of the sources, data.reordered(channel_names=...)"
            )


@dataclass(frozen=True)
class _InHead(ChannelObserver):
    """Sources at positions in the data's head, unless a lead field is given."""

    positions: ArrayLike | None = None
    lead_field: ArrayLike | None = None

    # Name of the observation, whether it takes a surface, what it needs, and how to give it.
    needs: ClassVar[tuple[str, bool, str, str]]

    def check_channels(self, data: EvokedData, n_sources: int) -> None:
        """Raise an error where data have no head that serves, and no lead field is given."""
        name = "positions" if self.lead_field is None else "lead_field"
        given = getattr(self, name)
        if given is None or len(given) != n_sources:
            raise ValueError(
                f"{type(self).__name__} needs {name} with one entry for each of {n_sources} "
                f"sources, got {'None' if given is None else len(given)}"
            )
        observation, surface, needed, how = self.needs
        if self.lead_field is not None:
            self._check_length("lead_field", self.lead_field, 1, data)
        elif data.head is None:
            raise ValueError(
                f"data.head is None, but observation={observation!r} needs a head model; build "
                "the data with EvokedData.from_mne(..., forward=...) or sphere='auto', or give head"
            )
        elif isinstance(data.head, SurfaceHead) != surface:
            raise ValueError(
                f"observation={observation!r} needs {needed}, but data.head is {data.head!r}; "
                f"give {how}"
            )


@dataclass(frozen=True)
class Patches(_InHead):
    """Patches of the cortical surface about each source, with weights of a few modes of each.

    Parameters
    ----------
    positions : array_like, optional
        Prior positions of the sources, MNI mm, shape (source, 3); not needed with `lead_field`.
    lead_field : array_like, optional
        Lead field of each mode of each patch instead of the data's head, shape (source, channel,
        patch mode).
    source_names, n_modes, modes, n_confounds, hanning, temporal_correlation, as_spm
        As `ChannelObserver` takes them.

    Examples
    --------
    >>> [prior.name for prior in Patches([[-42.0, -22.0, 7.0]]).spatial_priors(1)]
    ['patch_weight']
    """

    arrays = ChannelObserver.arrays | {
        "positions": ((None, 3), "source, x y z; mm"),
        "lead_field": ((None, None, None), "source, channel, patch mode"),
    }
    needs = (
        "img",
        True,
        "the lead field of a cortical surface",
        "a surface forward to EvokedData.from_mne, orientation='fixed'",
    )

    def spatial_priors(self, n_sources: int) -> tuple[Prior, ...]:
        """``patch_weight`` (source, patch mode), SPM's."""
        n_modes = N_PATCH_MODES if self.lead_field is None else np.shape(self.lead_field)[-1]
        return (_strength("patch_weight", ("source", "patch mode"), (n_sources, n_modes)),)

    def lead(self, data: EvokedData) -> NDArray:
        """Modes of the patches in the data's head."""
        if self.lead_field is not None:
            return np.asarray(self.lead_field)
        return patches(data.head, self.positions)

    def source_field(self, parameters: Parameters, space: ModelledSpace) -> jax.Array:
        """See `ChannelObserver.source_field`."""
        return jnp.einsum("smc,sc->ms", space.lead, parameters["patch_weight"])


@dataclass(frozen=True)
class Dipoles(_InHead):
    """Equivalent current dipoles, with unknown moments and, if wanted, positions.

    Parameters
    ----------
    positions : array_like, optional
        Prior positions of the sources, MNI mm, shape (source, 3); not needed with `lead_field`.
    lead_field : array_like, optional
        Lead field of dipoles along x, y and z instead of the data's head, shape (source,
        channel, 3).
    position_variance : float
        Prior variance of the positions, mm^2; 0 fixes them.
    source_names, n_modes, modes, n_confounds, hanning, temporal_correlation, as_spm
        As `ChannelObserver` takes them.

    Examples
    --------
    >>> [prior.name for prior in Dipoles([[-42.0, -22.0, 7.0]]).spatial_priors(1)]
    ['position', 'moment']
    """

    position_variance: float = 0.0

    arrays = ChannelObserver.arrays | {
        "positions": ((None, 3), "source, x y z; mm"),
        "lead_field": ((None, None, 3), "source, channel, x y z"),
    }
    needs = (
        "ecd",
        False,
        "dipoles of free orientation",
        "orientation='free' to EvokedData.from_mne, or a sphere",
    )
    citations = (
        *ChannelObserver.citations,
        (
            "Kiebel SJ, David O, Friston KJ (2006). Dynamic causal modelling of evoked responses "
            "in EEG/MEG with lead field parameterization. NeuroImage 30:1273-1284.",
            "https://doi.org/10.1016/j.neuroimage.2005.12.055",
        ),
    )

    def __post_init__(self) -> None:
        """Check arrays and the variance."""
        super().__post_init__()
        if not self.position_variance >= 0:
            raise ValueError(
                "position_variance must be 0 (positions fixed) or a variance in mm^2, got "
                f"{self.position_variance!r}"
            )

    def spatial_priors(self, n_sources: int) -> tuple[Prior, ...]:
        """``position``, where it is given, and ``moment``, both (source, axis), SPM's."""
        dims, shape = ("source", "axis"), (n_sources, 3)
        moment = _strength("moment", dims, shape)
        # Dipoles whose lead field is given have no position that matters.
        if self.positions is None:
            return (moment,)
        mean = np.array(self.positions, dtype=float)
        variance = np.full(shape, float(self.position_variance))
        return Prior("position", dims, mean, variance, "mm", symbol="Lpos"), moment

    def lead(self, data: EvokedData) -> NDArray:
        """Dipoles along x, y and z in the data's head."""
        if self.lead_field is not None:
            return np.asarray(self.lead_field)
        return np.asarray(dipole_lead_field(data.head, self.positions)(self.positions))

    def source_field(self, parameters: Parameters, space: ModelledSpace) -> jax.Array:
        """See `ChannelObserver.source_field`."""
        lead = space.lead
        if space.head is not None:
            channels = space.head.value(parameters["position"])
            lead = jnp.einsum("mc,sca->sma", space.to_modes, channels)
        elif isinstance(lead, LocalExpansion):
            moved = parameters["position"] @ space.transform[:3, :3].T + space.transform[:3, 3]
            lead = expanded_lead_field(lead, moved)
        return jnp.einsum("sma,sa->ms", lead, parameters["moment"])


def _strength(name: str, dims: tuple[str, ...], shape: tuple[int, ...], mean: float = 0.0) -> Prior:
    table = np.full(shape, mean), np.full(shape, STRENGTH_VARIANCE)
    return Prior(name, dims, *table, "a.u.", symbol="L")


class FieldSpace(NamedTuple):
    """Channel modes, and what a program needs to know of lead fields.

    Attributes
    ----------
    modes : (whitened channels, modes)
        Channel modes.
    projection : (channels, modes)
        From channels to modes.
    modelled : ModelledSpace
        For the program.
    """

    modes: NDArray
    projection: NDArray
    modelled: ModelledSpace


_SPACES: WeakKeyDictionary[EvokedData, dict[ByValue, ChannelSpace]] = WeakKeyDictionary()


def _channel_space(observer: ChannelObserver, moved: bool, data: EvokedData) -> ChannelSpace:
    confounds = dct_basis(data.n_times, observer.n_confounds)
    component = (autoregressive if observer.temporal_correlation else np.eye)(data.n_times)
    residual = residual_matrix(confounds, observer.hanning)
    filtered = np.einsum("ts,csk->ctk", residual, data.signal)
    whitener = _whitener(data)
    modes, projection, modelled = field_space(observer, moved, data, whitener)
    features = filtered @ projection
    scale = feature_scale(features)
    return ChannelSpace(
        filtered=filtered,
        signal=np.moveaxis(features * scale, 0, 1).reshape(data.n_times, -1),
        scale=scale,
        modes=modes,
        projection=projection,
        modes_to_channels=np.linalg.pinv(modes) @ np.linalg.pinv(whitener).T,
        mode_names=mode_names(projection, data.channel_names),
        modelled=modelled,
        temporal=temporal_precision(component[None], confounds[:, : observer.n_confounds]),
        noise_to_channels=np.linalg.pinv(whitener).T / np.sqrt((modes**2).sum(0).mean()),
    )


def field_space(observer: ChannelObserver, moved: bool, data: Any, whitener: NDArray) -> FieldSpace:
    """Channel modes of the lead fields, and the lead fields in them.

    Parameters
    ----------
    observer : ChannelObserver
        What sees the sources.
    moved : bool
        Whether positions of dipoles are free.
    data : EvokedData or SpectralData
        Channels, and the head where one is needed.
    whitener : ndarray
        Rows that take the channels' noise to white noise, (whitened channels, channels).
    """
    lead = observer.lead(data)
    dipoles = isinstance(observer, Dipoles)
    dipole_scale = power_of_ten(lead) if dipoles else 1.0
    lead = dipole_scale * lead
    modes = observer.modes
    if modes is None:
        n_sources = lead.shape[1] if lead.ndim == 2 else len(lead)
        modes = channel_modes(whitener @ field_derivatives(lead), n_sources, observer.n_modes)
    projection = whitener.T @ modes
    held, projected = None, projection.T @ lead
    if dipoles and moved and isinstance(data.head, GridHead):
        gain = np.einsum("cpa,cm->mpa", data.head.gain, projection * dipole_scale)
        centres = data.head.to_head(observer.positions)
        projected = local_expansion(data.head.positions, gain, centres)
    elif dipoles and moved:
        head, positions = data.head, np.asarray(observer.positions)
        key = (structure_key(positions), structure_key(vars(head)))
        held = ByValue(dipole_lead_field(head, positions), key)
    modelled = ModelledSpace(
        lead=projected,
        to_modes=projection.T * dipole_scale,
        transform=np.eye(4) if data.head is None else np.asarray(data.head.mni_to_head),
        head=held,
    )
    return FieldSpace(modes, projection, modelled)


def _whitener(data: EvokedData) -> NDArray:
    """Rows that take the channels' noise to white noise; the identity without a covariance."""
    if data.noise_cov is None:
        return np.eye(data.n_channels)
    # Channels of different units: the rank is judged after standardising them.
    deviation = np.sqrt(np.diagonal(data.noise_cov))
    safe = np.where(deviation > 0, deviation, 1.0)
    values, vectors = np.linalg.eigh(data.noise_cov / np.outer(safe, safe))
    kept = values > RANK_TOLERANCE * values[-1]
    return (vectors[:, kept] / np.sqrt(values[kept])).T / safe


def mode_names(projection: NDArray, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Names of channels where a mode is one, else "mode 1", ..."""
    single = (projection != 0).sum(0) == 1
    if single.all():
        return tuple(channels[int(row)] for row in np.abs(projection).argmax(0))
    return tuple(f"mode {i + 1}" for i in range(projection.shape[1]))
