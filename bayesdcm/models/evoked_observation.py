"""From channels to what is modelled: lead fields, channel modes, drifts, scale of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.head import GridHead, HeadModel
from bayesdcm.neural import Prior
from bayesdcm.observe import spatial_priors as priors
from bayesdcm.observe.channel_modes import channel_modes
from bayesdcm.observe.evoked_preparation import (
    dct_basis,
    feature_scale,
    residual_matrix,
)
from bayesdcm.observe.evoked_preparation import temporal_precision as autoregressive
from bayesdcm.observe.forward_grid import (
    DEGREE,
    LocalExpansion,
    expanded_lead_field,
    local_expansion,
    monomials,
)
from bayesdcm.observe.lead_field import dipole_lead_field, patches
from bayesdcm.observe.patches import N_PATCH_MODES
from bayesdcm.observe.source_field import (
    dipole_field,
    field_derivatives,
    fixed_field,
    patch_field,
    power_of_ten,
)
from bayesdcm.observe.temporal_precision import TemporalPrecision, temporal_precision

if TYPE_CHECKING:
    from bayesdcm.models.evoked import EvokedDCM

OBSERVATIONS = ("ecd", "img", "lfp", "fixed")
# Smallest eigenvalue of a noise covariance that counts, relative to the largest.
RANK_TOLERANCE = 1e-10


class HeldHead:
    """A head model as a constant of compiled code; equal where its arrays are.

    Parameters
    ----------
    head : HeadModel
        The head model.
    positions : ndarray
        Prior positions, shape (sources, 3), MNI mm.
    """

    def __init__(self, head: HeadModel, positions: NDArray) -> None:
        self.lead_field: Callable[[jax.Array], jax.Array] = dipole_lead_field(head, positions)
        values = [positions, *vars(head).values()]
        self._key = tuple(
            (v.shape, v.tobytes()) if isinstance(v, np.ndarray) else repr(v) for v in values
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeldHead) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["lead", "to_modes", "transform", "noise"],
    meta_fields=["head"],
)
@dataclass(frozen=True)
class ModelledSpace:
    """What a program needs to know of the channels: a pytree.

    Attributes
    ----------
    lead : jax.Array or tuple of jax.Array
        In channel modes: a field for each source (modes, sources); modes of patches (sources,
        modes, patch modes); dipoles at fixed positions (sources, modes, 3); or centres, spacing
        and coefficients of a `LocalExpansion` about the prior positions.
    to_modes : (modes, channels)
        Scaled projection, for a head that is evaluated at free positions.
    transform : (4, 4)
        From MNI mm to head m.
    noise : TemporalPrecision
        Serial correlation of the noise, and drifts.
    head : HeldHead or None
        A head that is evaluated at free positions.
    """

    lead: Any
    to_modes: jax.Array
    transform: jax.Array
    noise: TemporalPrecision
    head: HeldHead | None


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
        Channel modes, of whitened channels where there is a noise covariance; as `EvokedDCM` takes
        them, for other models to have the same.
    projection : (channels, modes)
        From channels to modes.
    modes_to_channels : (modes, channels)
        Back again.
    mode_names : tuple of str
        Names of channels where a mode is one, else "mode 1", ...
    modelled : ModelledSpace
        For the program.
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
    noise_to_channels: NDArray

    def arrays(self) -> ModelledSpace:
        """What the program takes."""
        return jax.tree.map(jnp.asarray, self.modelled)

    @cached_property
    def _temporal_root(self) -> NDArray:
        return np.linalg.cholesky(self.modelled.noise.components[0])

    def noise(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray:
        """Noise of log-precision 0 at the channels, (conditions, times, channels).

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        shape : tuple of int
            Conditions, times, channels.

        Returns
        -------
        ndarray
            Serially correlated where the model assumes so.
        """
        white = rng.normal(size=(*shape[:2], len(self.noise_to_channels)))
        return np.linalg.solve(self._temporal_root.T, white) @ self.noise_to_channels


_SPACES: WeakKeyDictionary[EvokedData, dict[EvokedDCM, ChannelSpace]] = WeakKeyDictionary()


def channel_space(model: EvokedDCM, data: EvokedData) -> ChannelSpace:
    """Channels, modes and prepared data; worked out once for a model and a data set.

    Parameters
    ----------
    model : EvokedDCM
        The model.
    data : EvokedData
        The data set.

    Returns
    -------
    ChannelSpace
        What the model makes of the channels.
    """
    known = _SPACES.setdefault(data, {})
    # Connections do not matter here, but models are cheap to compare.
    if model not in known:
        known[model] = _channel_space(model, data)
    return known[model]


def _channel_space(model: EvokedDCM, data: EvokedData) -> ChannelSpace:
    confounds = dct_basis(data.n_times, model.n_confounds)
    residual = residual_matrix(confounds, model.hanning)
    filtered = np.einsum("ts,csk->ctk", residual, data.signal)
    whitener = _whitener(data)
    lead = _lead(model, data)
    dipole_scale = _dipole_scale(model, lead)
    lead = dipole_scale * lead
    derivatives = whitener @ field_derivatives(
        "fixed" if lead.ndim == 2 else "img", matrix=lead, patches=lead
    )
    modes = model.modes
    if modes is None:
        modes = channel_modes(derivatives, model.n_sources, model.n_modes)
    projection = whitener.T @ modes
    features = filtered @ projection
    scale = feature_scale(features)
    back = np.linalg.pinv(modes) @ np.linalg.pinv(whitener).T
    modelled = ModelledSpace(
        lead=_projected(model, data, lead, projection, dipole_scale),
        to_modes=projection.T * dipole_scale,
        transform=np.eye(4) if data.head is None else np.asarray(data.head.mni_to_head),
        noise=_noise(model, confounds[:, : model.n_confounds]),
        head=_held(model, data),
    )
    return ChannelSpace(
        filtered=filtered,
        signal=np.moveaxis(features * scale, 0, 1).reshape(data.n_times, -1),
        scale=scale,
        modes=modes,
        projection=projection,
        modes_to_channels=back,
        mode_names=_mode_names(projection, data.channel_names),
        modelled=modelled,
        noise_to_channels=np.linalg.pinv(whitener).T / np.sqrt((modes**2).sum(0).mean()),
    )


def _noise(model: EvokedDCM, confounds: NDArray) -> TemporalPrecision:
    n_times = len(confounds)
    component = autoregressive(n_times) if model.temporal_correlation else np.eye(n_times)
    return temporal_precision(component[None], confounds if confounds.size else None)


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


def _lead(model: EvokedDCM, data: EvokedData) -> NDArray:
    """Fields of all sources at their prior positions, in channels."""
    kind, n = model.observation, model.n_sources
    if kind == "lfp":
        return np.eye(data.n_channels, n)
    if model.lead_field is not None:
        return np.asarray(model.lead_field)
    if kind == "img":
        return patches(data.head, model.positions)
    return np.asarray(dipole_lead_field(data.head, model.positions)(model.positions))


def _dipole_scale(model: EvokedDCM, lead: NDArray) -> float:
    return power_of_ten(lead) if model.observation == "ecd" else 1.0


def _projected(
    model: EvokedDCM, data: EvokedData, lead: NDArray, projection: NDArray, dipole_scale: float
) -> Any:
    if lead.ndim == 2:
        return projection.T @ lead
    if model.moves_sources and isinstance(data.head, GridHead):
        return _expansion(data.head, model.positions, projection * dipole_scale)
    return np.einsum("sca,cm->sma", lead, projection)


def _expansion(head: GridHead, positions: NDArray, scaled: NDArray) -> tuple[NDArray, ...]:
    gain = np.einsum("cpa,cm->mpa", head.gain, scaled)
    expansion = local_expansion(head.positions, gain, head.to_head(positions))
    return expansion.centres, expansion.spacing, expansion.coefficients


def _held(model: EvokedDCM, data: EvokedData) -> HeldHead | None:
    if not model.moves_sources or isinstance(data.head, GridHead):
        return None
    return HeldHead(data.head, model.positions)


def _mode_names(projection: NDArray, channels: tuple[str, ...]) -> tuple[str, ...]:
    single = (projection != 0).sum(0) == 1
    if single.all():
        return tuple(channels[int(row)] for row in np.abs(projection).argmax(0))
    return tuple(f"mode {i + 1}" for i in range(projection.shape[1]))


def spatial_priors(model: EvokedDCM) -> tuple[Prior, ...]:
    """Priors of the spatial parameters but for the contributions of states.

    Parameters
    ----------
    model : EvokedDCM
        The model.

    Returns
    -------
    tuple of Prior
        As `bayesdcm.observe.spatial_priors`.
    """
    found = priors.spatial_priors(
        model.observation,
        model.n_sources,
        np.zeros((model.n_sources, 3)) if model.positions is None else model.positions,
        model.position_variance,
        N_PATCH_MODES if model.lead_field is None else np.shape(model.lead_field)[-1],
    )
    # Dipoles whose lead field is given have no position that matters.
    return tuple(p for p in found if p.name != "position" or model.positions is not None)


def source_field(
    observation: str, parameters: Mapping[str, jax.Array], space: ModelledSpace
) -> jax.Array:
    """Field of each source in channel modes.

    Parameters
    ----------
    observation : str
        Kind of observation.
    parameters : mapping
        Full spatial parameter arrays.
    space : ModelledSpace
        Lead fields in modes.

    Returns
    -------
    jax.Array
        Shape (modes, sources).
    """
    if observation in ("lfp", "fixed"):
        return fixed_field(space.lead, parameters["gain"])
    if observation == "img":
        return patch_field(space.lead, parameters["patch_weight"])
    lead = space.lead
    if space.head is not None:
        channels = space.head.lead_field(parameters["position"])
        lead = jnp.einsum("mc,sca->sma", space.to_modes, channels)
    elif isinstance(lead, tuple):
        centres, spacing, coefficients = lead
        expansion = LocalExpansion(centres, spacing, monomials(DEGREE), coefficients)
        moved = parameters["position"] @ space.transform[:3, :3].T + space.transform[:3, 3]
        lead = expanded_lead_field(expansion, moved)
    return dipole_field(lead, parameters["moment"])
