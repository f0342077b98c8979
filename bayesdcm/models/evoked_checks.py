"""What `EvokedDCM` and `CrossSpectralDCM` accept: structures and options; what their words mean."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.named_axes import in_order
from bayesdcm.neural import CMC, ERP, LFP, NMDA, LaminarSource
from bayesdcm.neural.switches import square, switches
from bayesdcm.observe import ChannelObserver, Dipoles, Electrodes, LeadField, Patches
from bayesdcm.observe.channels import checked_numbers, checked_positions

if TYPE_CHECKING:
    from bayesdcm.models.cross_spectral import CrossSpectralDCM
    from bayesdcm.models.evoked import EvokedDCM

NEURAL = {"erp": ERP, "cmc": CMC, "lfp": LFP, "nmda": NMDA, "laminar": LaminarSource}
OPTIONS = {
    "neural": NEURAL,
    "observation": ("ecd", "img", "lfp", "fixed"),
    "integrator": ("local_linear", "delayed"),
}
FLAGS = ("hanning", "temporal_correlation", "one_sided")
KINDS = ("forward", "backward", "lateral")


def check_evoked_model(model: EvokedDCM) -> dict[str, Any]:
    """Values of all fields of a model, checked and with defaults filled in."""
    checked = checked_connections(model)
    n, n_inputs = checked["inputs"].shape
    for name, known in OPTIONS.items():
        value = getattr(model, name)
        if name == "integrator" and value is None:
            # The neural model is checked by now.
            value = "delayed" if NEURAL[model.neural].stiff else "local_linear"
            checked["integrator"] = value
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    if model.integrator == "local_linear" and NEURAL[model.neural].stiff:
        raise ValueError(
            f"integrator='local_linear' cannot solve neural={model.neural!r}, which is too stiff "
            "for one operator from the Jacobian at rest; give integrator='delayed' or leave it out"
        )
    for name in FLAGS:
        if not isinstance(getattr(model, name), bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {getattr(model, name)!r}")
        checked[name] = bool(getattr(model, name))
    checked["n_modes"] = whole_number("n_modes", model.n_modes, 1)
    checked["n_confounds"] = whole_number("n_confounds", model.n_confounds, 0)
    checked["onset"] = _times("onset", model.onset, n_inputs, signed=True)
    checked["duration"] = _times("duration", model.duration, n_inputs, signed=False)
    checked["source_names"] = checked_source_names(model.source_names, n)
    return checked | checked_spatial(model, checked["source_names"])


def check_position_prior(model: EvokedDCM) -> None:
    """Raise ValueError where priors move sources, whose lead fields are those at `positions`.

    That is, have another mean of positions, or a variance although `position_variance` is 0.
    """
    for prior in model.spatial_priors:
        if prior.name != "position":
            continue
        if not np.allclose(prior.mean, model.positions, rtol=0, atol=1e-9):
            raise ValueError(
                "priors['position'] has another mean than positions; give the prior positions as "
                "positions=, in mm"
            )
        if prior.free.any() and model.position_variance == 0:
            raise ValueError(
                "priors['position'] has a variance, but position_variance is 0; give the variance "
                "of positions, in mm^2, as position_variance= too"
            )


def checked_connections(model: EvokedDCM | CrossSpectralDCM) -> dict[str, NDArray]:
    """Switches of connections, modulation and inputs of a model, checked and filled in."""
    arrays = {
        name: by_source(name, getattr(model, name), model.source_names)
        for name in (*KINDS, "modulation", "inputs")
    }
    modulation, inputs = arrays.pop("modulation"), arrays.pop("inputs")
    given = {kind: square(kind, value) for kind, value in arrays.items() if value is not None}
    sizes = {kind: len(matrix) for kind, matrix in given.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"forward, backward and lateral must have one shape, got {sizes} sources; give "
            "every matrix one row and one column a source"
        )
    if given:
        n = next(iter(sizes.values()))
    elif inputs is not None:
        n = 1 if _ndim(inputs) == 0 else len(inputs)
    else:
        raise ValueError(
            "forward, backward, lateral and inputs are all None, so the number of sources is "
            "unknown; give at least one, for a single source forward=[[0]]"
        )
    off = switches("connections", np.zeros((n, n)), (n, n), "to, from")
    checked = {kind: given.get(kind, off) for kind in KINDS}
    for kind, matrix in checked.items():
        if np.diagonal(matrix).any():
            raise ValueError(
                f"{kind} has {int(np.diagonal(matrix).sum())} connection(s) of a source "
                "with itself; expected zeros on the diagonal. Connections within sources belong "
                "to the neural model, and modulation may change their gain"
            )
    # A matrix serves one effect, a vector one input; without any, the stimulus reaches the first.
    if modulation is None:
        modulation = np.zeros((0, n, n))
    elif _ndim(modulation) == 2:
        modulation = np.asarray(modulation)[None]
    if inputs is None:
        inputs = np.eye(n)[:, :1]
    elif _ndim(inputs) == 1:
        inputs = np.asarray(inputs)[:, None]
    checked["modulation"] = switches("modulation", modulation, (None, n, n), "effect, to, from")
    checked["inputs"] = switches("inputs", inputs, (n, None), "source, input")
    return checked


def channel_observer(model: EvokedDCM | CrossSpectralDCM, **options: Any) -> ChannelObserver:
    """What the model's `observation` names, with options that all of them have."""
    if model.observation == "lfp":
        return Electrodes(**options)
    if model.observation == "fixed":
        return LeadField(model.lead_field, **options)
    if model.observation == "img":
        return Patches(model.positions, model.lead_field, **options)
    return Dipoles(model.positions, model.lead_field, model.position_variance, **options)


def by_source(name: str, value: Any, source_names: Any) -> Any:
    """Switches of a model, or each table of a list, with sources in the order of `source_names`.

    Names of None leave tables as they are, to be refused, as their names cannot be checked.
    ValueError if names in a table are others.

    Examples
    --------
    >>> import pandas as pd
    >>> by_source("inputs", pd.Series([1, 0], ["A1", "STG"]), ["A1", "STG"])
    array([1, 0])
    """
    if source_names is None or isinstance(source_names, str):
        return value
    axes = (0,) if name == "inputs" else (0, 1)
    wanted = dict.fromkeys(axes, ("source_names", source_names))
    if isinstance(value, list | tuple):
        return [in_order(name, entry, wanted) for entry in value]
    return in_order(name, value, wanted)


def _ndim(value: Any) -> int | None:
    """Number of axes, None for a ragged array, of which `switches` tells."""
    try:
        return np.ndim(value)
    except ValueError:
        return None


def whole_number(name: str, value: Any, least: int) -> int:
    """A whole number of at least so many, checked."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def _times(name: str, value: Any, n_inputs: int, signed: bool) -> NDArray:
    if np.ndim(value) == 0:
        value = np.full(n_inputs, value)
    array = checked_numbers(name, value, (n_inputs,), "input; s")
    if not signed and (array <= 0).any():
        raise ValueError(f"{name} must be above 0 s, got {array.min():g}")
    if (np.abs(array) > 5).any():
        raise ValueError(
            f"{name} is {np.abs(array).max():g} s; expected seconds of peristimulus time. Divide "
            "milliseconds by 1000"
        )
    return array


def checked_source_names(value: Any, n: int) -> tuple[str, ...]:
    """Different names of n sources; by default "source 1", ..."""
    if value is None:
        return tuple(f"source {i + 1}" for i in range(n))
    if isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"source_names must be a list of strings, got {value!r}")
    names = tuple(value)
    if len(names) != n or len(set(names)) != n or "" in names:
        raise ValueError(
            f"source_names must be {n} different names, one a source, got {list(names)}"
        )
    return names


def checked_spatial(model: EvokedDCM | CrossSpectralDCM, names: tuple[str, ...]) -> dict[str, Any]:
    """Lead field, positions and modes of a model, checked."""
    variance = model.position_variance
    if not isinstance(variance, Real) or isinstance(variance, bool) or not variance >= 0:
        raise ValueError(f"position_variance must be a number of at least 0, got {variance!r}")
    kind, n = model.observation, len(names)
    checked: dict[str, Any] = {"lead_field": None, "positions": None, "modes": None}
    shapes = {
        "fixed": ((None, n), "channel, source"),
        "ecd": ((n, None, 3), "source, channel, x y z"),
        "img": ((n, None, None), "source, channel, patch mode"),
    }
    if model.lead_field is not None:
        if kind not in shapes:
            raise ValueError(f"observation={kind!r} takes no lead_field; leave it out")
        checked["lead_field"] = checked_numbers("lead_field", model.lead_field, *shapes[kind])
    elif kind == "fixed":
        raise ValueError(
            f"observation='fixed' needs lead_field, shape (channel, {n}); got None. Use "
            "observation='lfp' for one channel in each source"
        )
    if model.positions is not None:
        wanted = {0: ("source_names", names), 1: ("the axes", ("x", "y", "z"))}
        checked["positions"] = checked_positions(in_order("positions", model.positions, wanted), n)
    elif kind in ("ecd", "img") and model.lead_field is None:
        raise ValueError(
            f"observation={kind!r} needs positions, shape ({n}, 3), MNI coordinates in mm of "
            "each source (or lead_field); got None"
        )
    if model.position_variance > 0 and (kind != "ecd" or model.lead_field is not None):
        raise ValueError(
            "position_variance must be 0 unless dipoles (observation='ecd') lie in a head model, "
            f"got {model.position_variance}"
        )
    if model.modes is not None:
        checked["modes"] = checked_numbers("modes", model.modes, (None, None), "channel, mode")
    return checked | {"position_variance": float(variance)}
