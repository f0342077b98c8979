"""From source activity to sensors: the field of each source, and predicted signals.

Kinds of observation, by the names that users give:

- ``"lfp"``: every channel is a source of its own, with a gain;
- ``"fixed"``: a given matrix of channels by sources, with a gain for each source;
- ``"img"``: cortical patches, a weight for each of their modes;
- ``"ecd"``: equivalent current dipoles, a moment, and a position that may be free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

KINDS = ("lfp", "fixed", "img", "ecd")
LeadFields = ArrayLike | Callable[[jax.Array], jax.Array]


def power_of_ten(lead_fields: ArrayLike) -> float:
    """The power of ten that brings the largest entry of all lead fields near 8.

    ``10 ** -round(log10(max|lead field| / 8))``, halves rounded away from zero.

    Parameters
    ----------
    lead_fields : array_like
        Of all sources together, at their prior positions; any shape and unit.

    Returns
    -------
    float
        To multiply dipole lead fields by, so that moments are of order one.

    Raises
    ------
    ValueError
        If there is no finite entry other than zero.

    Examples
    --------
    >>> power_of_ten([[0.3, -90.0]])
    0.1
    """
    largest = np.abs(np.asarray(lead_fields, float)).max(initial=0.0)
    if not (np.isfinite(largest) and largest > 0):
        raise ValueError(
            f"lead_fields must be finite and not all zero, got a largest entry of {largest}; check "
            "positions and sensors"
        )
    # SPM works this out anew at every position. It is a step function: where positions are fixed
    # nothing changes, and where they are free it stays the same unless the largest entry crosses
    # 8 sqrt(10)^k, where SPM's prediction jumps by ten. One constant for a data set keeps the
    # prediction differentiable and the prior of the moments what it is said to be.
    exponent = np.log10(largest / 8)
    return float(10.0 ** -(np.sign(exponent) * np.floor(np.abs(exponent) + 0.5)))


def local_field(gain: ArrayLike, n_channels: int | None = None) -> jax.Array:
    """Field of sources that are recorded locally, one channel each.

    Parameters
    ----------
    gain : array_like
        Shape (sources,).
    n_channels : int, optional
        As many as there are sources by default; channels in excess record nothing.

    Returns
    -------
    jax.Array
        Shape (channels, sources).

    Examples
    --------
    >>> local_field([1.0, 2.0]).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    gain = jnp.asarray(gain)
    return jnp.eye(n_channels or len(gain), len(gain)) * gain[None, :]


def fixed_field(matrix: ArrayLike, gain: ArrayLike) -> jax.Array:
    """Field of sources with a given pattern over channels.

    Parameters
    ----------
    matrix : array_like
        Pattern of each source, shape (channels, sources).
    gain : array_like
        Shape (sources,).

    Returns
    -------
    jax.Array
        Shape (channels, sources).

    Examples
    --------
    >>> fixed_field([[1.0, 2.0]], [3.0, 4.0]).tolist()
    [[3.0, 8.0]]
    """
    return jnp.asarray(matrix) * jnp.asarray(gain)[None, :]


def patch_field(patches: ArrayLike, weight: ArrayLike) -> jax.Array:
    """Field of cortical patches.

    Parameters
    ----------
    patches : array_like
        Lead field of each patch's modes, shape (sources, channels, modes).
    weight : array_like
        Weight of each mode, shape (sources, modes).

    Returns
    -------
    jax.Array
        Shape (channels, sources).

    Examples
    --------
    >>> patch_field([[[1.0, 2.0]]], [[3.0, 4.0]]).tolist()
    [[11.0]]
    """
    return jnp.einsum("scm,sm->cs", jnp.asarray(patches), jnp.asarray(weight))


def dipole_field(lead_fields: ArrayLike, moment: ArrayLike, scale: float = 1.0) -> jax.Array:
    """Field of current dipoles.

    Parameters
    ----------
    lead_fields : array_like
        Shape (sources, channels, 3).
    moment : array_like
        Shape (sources, 3), in units of 1/scale A m for a lead field in SI units.
    scale : float
        Constant factor of all lead fields; see `power_of_ten`.

    Returns
    -------
    jax.Array
        Shape (channels, sources).

    Examples
    --------
    >>> dipole_field([[[1.0, 2.0, 3.0]]], [[1.0, 0.0, 1.0]], scale=10.0).tolist()
    [[40.0]]
    """
    return jnp.einsum("sca,sa->cs", scale * jnp.asarray(lead_fields), jnp.asarray(moment))


def source_field(
    kind: str,
    parameters: Mapping[str, ArrayLike],
    *,
    n_channels: int | None = None,
    matrix: ArrayLike | None = None,
    patches: ArrayLike | None = None,
    lead_fields: LeadFields | None = None,
    scale: float = 1.0,
) -> jax.Array:
    """Field of each source over channels, from spatial parameters.

    Parameters
    ----------
    kind : str
        ``"lfp"``, ``"fixed"``, ``"img"`` or ``"ecd"``.
    parameters : mapping
        ``gain`` (sources,) for lfp and fixed; ``patch_weight`` (sources, modes) for img;
        ``moment`` (sources, 3) for ecd, and ``position`` (sources, 3), MNI mm, where the lead
        fields depend on it.
    n_channels : int, optional
        For lfp, where it is not the number of sources.
    matrix : array_like, optional
        For fixed: shape (channels, sources).
    patches : array_like, optional
        For img: shape (sources, channels, modes); see `patch_lead_fields`.
    lead_fields : array_like or callable, optional
        For ecd: shape (sources, channels, 3), or a function of ``position`` that gives it; see
        `dipole_lead_field`.
    scale : float
        For ecd: see `power_of_ten`.

    Returns
    -------
    jax.Array
        Shape (channels, sources).

    Raises
    ------
    ValueError
        If the kind is unknown, or what it needs is missing.

    Examples
    --------
    >>> source_field("lfp", {"gain": [1.0, 2.0]}).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    _check_kind(kind, matrix=matrix, patches=patches, lead_fields=lead_fields)
    if kind == "lfp":
        return local_field(parameters["gain"], n_channels)
    if kind == "fixed":
        return fixed_field(matrix, parameters["gain"])
    if kind == "img":
        return patch_field(patches, parameters["patch_weight"])
    if callable(lead_fields):
        lead_fields = lead_fields(jnp.asarray(parameters["position"]))
    return dipole_field(lead_fields, parameters["moment"], scale)


def field_derivatives(
    kind: str,
    *,
    n_sources: int | None = None,
    n_channels: int | None = None,
    matrix: ArrayLike | None = None,
    patches: ArrayLike | None = None,
    lead_fields: ArrayLike | None = None,
    scale: float = 1.0,
) -> NDArray[np.float64]:
    """All that the sources can show: derivatives of their fields at the prior mean.

    Derivatives with respect to positions are left out: they vanish where the moments' prior mean
    is zero.

    Parameters
    ----------
    kind : str
        As in `source_field`.
    n_sources : int, optional
        For lfp.
    n_channels : int, optional
        For lfp, where it is not the number of sources.
    matrix, patches : array_like, optional
        As in `source_field`.
    lead_fields : array_like, optional
        For ecd: at the prior positions, shape (sources, channels, 3).
    scale : float
        For ecd: see `power_of_ten`.

    Returns
    -------
    ndarray
        Shape (channels, k), for `channel_modes`.

    Raises
    ------
    ValueError
        If the kind is unknown, or what it needs is missing.

    Examples
    --------
    >>> field_derivatives("lfp", n_sources=2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    _check_kind(kind, matrix=matrix, patches=patches, lead_fields=lead_fields)
    if kind == "lfp":
        if n_sources is None:
            raise ValueError("n_sources must be given for observation 'lfp'")
        return np.eye(n_channels or n_sources, n_sources)
    if kind == "fixed":
        return np.asarray(matrix, float)
    stacked = np.asarray(patches, float) if kind == "img" else scale * np.asarray(lead_fields)
    return np.moveaxis(stacked, 0, 1).reshape(stacked.shape[1], -1)


def state_field(contribution: ArrayLike, field: ArrayLike) -> jax.Array:
    """Field of every state of every source, the source index running fastest.

    For looking at; `sensor_prediction` does without it.

    Parameters
    ----------
    contribution : array_like
        How much each state contributes to a source's activity, shape (states,).
    field : array_like
        Shape (channels, sources).

    Returns
    -------
    jax.Array
        Shape (channels, states x sources).

    Examples
    --------
    >>> state_field([1.0, 2.0], [[3.0]]).tolist()
    [[3.0, 6.0]]
    """
    return jnp.kron(jnp.asarray(contribution)[None, :], jnp.asarray(field))


def sensor_prediction(
    states: ArrayLike,
    rest: ArrayLike,
    contribution: ArrayLike,
    field: ArrayLike,
    modes: ArrayLike | None = None,
) -> jax.Array:
    """Predicted signal in channels, or in channel modes.

    ``(states - rest) weighted by contribution``, which is each source's activity, times the
    sources' fields, times the modes.

    Parameters
    ----------
    states : array_like
        Shape (..., sources, states).
    rest : array_like
        Where the states start, at the prior mean; shape (sources, states).
    contribution : array_like
        Weight of each state, shape (states,).
    field : array_like
        Shape (channels, sources).
    modes : array_like, optional
        Shape (channels, modes); None for the signal in channels.

    Returns
    -------
    jax.Array
        Shape (..., channels or modes), in the unit of the field times that of the states.

    References
    ----------
    .. [1] Kiebel, David and Friston (2006), NeuroImage 30:1273.
           https://doi.org/10.1016/j.neuroimage.2005.12.055

    Examples
    --------
    >>> sensor_prediction([[1.0, 5.0]], [[0.0, 1.0]], [0.0, 1.0], [[2.0], [3.0]]).tolist()
    [8.0, 12.0]
    """
    states = jnp.asarray(states)
    activity = (states - jnp.broadcast_to(jnp.asarray(rest), states.shape)) @ jnp.asarray(
        contribution
    )
    field = jnp.asarray(field)
    return activity @ (field if modes is None else jnp.asarray(modes).T @ field).T


def _check_kind(kind: str, **given: object) -> None:
    if kind not in KINDS:
        raise ValueError(f"the observation must be one of {', '.join(KINDS)}, got {kind!r}")
    needed = {"fixed": "matrix", "img": "patches", "ecd": "lead_fields"}.get(kind)
    if needed and given[needed] is None:
        raise ValueError(f"{needed} must be given for observation {kind!r}")
