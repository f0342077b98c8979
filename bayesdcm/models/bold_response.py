"""From a neural model to the BOLD signal: the integrators of task fMRI by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.integrate.expansion import (
    affine_generators,
    bilinear_generators,
    expand,
    gated_trajectory,
)
from bayesdcm.integrate.grid import TimeGrid, bins_after_onset, time_grid
from bayesdcm.integrate.runge_kutta import runge_kutta
from bayesdcm.neural import NeuralModel, TwoState
from bayesdcm.neural.bilinear import INPUT_SCALE, coupling, effective_connectivity
from bayesdcm.neural.two_state import RATE_SCALE
from bayesdcm.observe import balloon
from bayesdcm.observe.haemodynamics import (
    LONGEST_STEP,
    balloon_response,
    linearised_filter,
    linearised_response,
    signal_from_logarithms,
)
from bayesdcm.observe.side_by_side import balloon_response_side_by_side, expects_subjects

INTEGRATORS = ("nonlinear", "bilinear")
# Longest step, s, where gating makes the neuronal equation nonlinear and Runge-Kutta is used.
GATED_STEP = 0.125


def bold_time_grid(neural: NeuralModel, integrator: str, design: Any) -> TimeGrid:
    """Steps and sample points of an integrator for a data set or design.

    Parameters
    ----------
    neural : NeuralModel
        The neural model.
    integrator : {"nonlinear", "bilinear"}
        Which scheme.
    design : BoldData or BoldDesign
        Inputs and timing.

    Returns
    -------
    TimeGrid
        For `bold_response`.
    """
    dt, delays = design.input_dt, np.asarray(design.slice_delays)
    make = partial(time_grid, design.inputs, dt, design.n_scans, delays)
    if integrator == "nonlinear":
        return make(max_step=LONGEST_STEP if neural.affine else GATED_STEP)
    if neural.D is None:
        return make()
    # SPM re-expands a nonlinear DCM about once a second, in step with the first region.
    updates = max(int(np.floor(design.repetition_time + 0.5)), 1) * design.n_scans
    bins = -(-np.arange(updates) * len(design.inputs) // updates)
    return make(updates=bins + bins_after_onset(delays[:1], dt)[0] - 1)


class _Timing:
    """A design, equal to others with the same inputs and times."""

    def __init__(self, design: Any) -> None:
        self.design = design
        delays = np.asarray(design.slice_delays)
        self.key = (
            (design.inputs.tobytes(), design.inputs.shape, design.input_dt),
            (design.n_scans, design.repetition_time, delays.tobytes()),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Timing) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=16)
def _time_grid_on_device(model: Any, timing: _Timing) -> TimeGrid:
    # Arrays that are kept must not belong to a program that is being traced.
    with jax.ensure_compile_time_eval():
        return jax.tree.map(jnp.asarray, model.time_grid(timing.design))


def time_grid_on_device(model: Any, design: Any) -> TimeGrid:
    """A model's time grid as JAX arrays, the same ones for data sets of the same design.

    Parameters
    ----------
    model : object
        Hashable, with ``time_grid(design)``.
    design : BoldData or BoldDesign
        Inputs and timing.

    Returns
    -------
    TimeGrid
        The subjects of a study often share it.
    """
    return _time_grid_on_device(model, _Timing(design))


def bold_response(
    neural: NeuralModel, integrator: str, parameters: Mapping[str, jax.Array], grid: TimeGrid
) -> jax.Array:
    """Percent BOLD signal change on a prepared grid.

    Parameters
    ----------
    neural : NeuralModel
        The neural model.
    integrator : {"nonlinear", "bilinear"}
        The published equations, or SPM's expansion about rest.
    parameters : mapping
        Full arrays by name.
    grid : TimeGrid
        From `bold_time_grid` with the same model and integrator.

    Returns
    -------
    jax.Array
        Shape (scans, regions).
    """
    n_regions, n_inputs = neural.C.shape
    n_populations = len(neural.states)
    n_states = n_regions * n_populations

    def flow(x: jax.Array, u: jax.Array) -> jax.Array:
        # Flat states go population by population, as in SPM.
        return neural.flow(x.reshape(n_populations, n_regions).T, u, parameters).T.ravel()

    if integrator == "nonlinear" and not neural.affine:
        return _runge_kutta_response(neural, parameters, grid)
    drive = jnp.eye(n_regions, n_states + 1, 1)
    if integrator == "nonlinear":
        generators = affine_generators(flow, n_states, grid.inputs)
        respond = balloon_response_side_by_side if expects_subjects() else balloon_response
        return respond(generators, drive, parameters, grid)
    expansion = expand(flow, n_states, n_inputs)
    if neural.D is None:
        generators = bilinear_generators(expansion, grid.inputs)
        return linearised_response(generators, drive, parameters, grid)
    h = gated_trajectory(flow, expansion, drive, linearised_filter(parameters), grid)
    return signal_from_logarithms(h, parameters, grid)


def _runge_kutta_response(
    neural: NeuralModel, parameters: Mapping[str, jax.Array], grid: TimeGrid
) -> jax.Array:
    """Response of a model whose neuronal equation is itself nonlinear, all states at once."""
    n_regions, n_populations = neural.C.shape[0], len(neural.states)

    def flow(state: jax.Array, u: jax.Array) -> jax.Array:
        x, h = state[:, :n_populations], state[:, n_populations:]
        neuronal = neural.flow(x, u, parameters)
        haemodynamic = balloon.haemodynamic_flow(x[:, neural.output], h, parameters)
        return jnp.concatenate([neuronal, haemodynamic], axis=1)

    states = runge_kutta(flow, jnp.zeros((n_regions, n_populations + 4)), grid)
    return signal_from_logarithms(states[:, :, n_populations:], parameters, grid)


def physical_quantities(
    neural: NeuralModel, parameters: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Parameters in physical units, by name.

    Parameters
    ----------
    neural : NeuralModel
        The neural model.
    parameters : mapping
        Full arrays by name.

    Returns
    -------
    dict of jax.Array
        ``effective_connectivity`` (to, from) without input and ``modulated_connectivity``
        (input, to, from) with one input at 1 (where anything is modulated), both in Hz;
        ``input_effect`` (to, input), Hz; ``transit_time`` (regions,), s; ``decay_rate`` (), Hz.
    """
    n_regions, n_inputs = neural.C.shape

    def rates(u: jax.Array) -> jax.Array:
        total = coupling(jnp.zeros(n_regions), u, parameters)
        if isinstance(neural, TwoState):
            return RATE_SCALE * jnp.exp(total)
        return effective_connectivity(total)

    found = {"effective_connectivity": rates(jnp.zeros(n_inputs))}
    if neural.B.any():
        found["modulated_connectivity"] = jax.vmap(rates)(jnp.eye(n_inputs))
    return found | {
        "input_effect": parameters["C"] * INPUT_SCALE,
        "transit_time": balloon.transit_time(parameters["transit"]),
        "decay_rate": balloon.decay_rate(parameters["decay"]),
    }
