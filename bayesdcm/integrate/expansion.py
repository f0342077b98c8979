"""Generators of the neuronal part: exact for a held input, or SPM's expansion about rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.integrate.base import HeldInputs, activity_drive, flat_flow
from bayesdcm.integrate.cascade import Cascade, exponential, propagators, total, trajectory
from bayesdcm.integrate.grid import TimeGrid, at_samples, bins_after_onset
from bayesdcm.neural.base import NeuralModel, Parameters

Flow = Callable[[jax.Array, jax.Array], jax.Array]


def _augmented(jacobian: jax.Array, constant: jax.Array) -> jax.Array:
    """Generators that act on states with a leading constant, shape (..., m, m)."""
    generator = jnp.concatenate([constant[..., :, None], jacobian], axis=-1)
    return jnp.concatenate([jnp.zeros_like(generator[..., :1, :]), generator], axis=-2)


def affine_generators(flow: Flow, n_states: int, inputs: jax.Array) -> jax.Array:
    """Generators of a flow that is affine in the states while the input is held.

    Parameters
    ----------
    flow : callable
        ``flow(x, u)``, rate of change of the states (states,) for inputs (inputs,).
    n_states : int
        Number of states.
    inputs : jax.Array
        Input rows, shape (rows, inputs).

    Returns
    -------
    jax.Array
        Shape (rows, 1 + states, 1 + states), 1/s, with a leading constant state.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> affine_generators(lambda x, u: u * x + 1, 1, jnp.array([[2.0]]))[0].tolist()
    [[0.0, 0.0], [1.0, 2.0]]
    """
    rest = jnp.zeros(n_states)
    return jax.vmap(lambda u: _augmented(jax.jacfwd(flow)(rest, u), flow(rest, u)))(inputs)


class Expansion(NamedTuple):
    """Derivatives of a flow about rest without input.

    Itself (states,), by states (states, states), by inputs (states, inputs), and by both (states,
    states, inputs).
    """

    constant: jax.Array
    jacobian: jax.Array
    drive: jax.Array
    modulation: jax.Array


def expand(flow: Flow, n_states: int, n_inputs: int) -> Expansion:
    """Bilinear expansion of a flow about rest, with exact derivatives.

    Parameters
    ----------
    flow : callable
        ``flow(x, u)``, rate of change of the states (states,) for inputs (inputs,).
    n_states, n_inputs : int
        Numbers of states and of inputs.

    Returns
    -------
    Expansion
        SPM takes the same derivatives as one-sided differences with a step of exp(-8).

    Examples
    --------
    >>> float(expand(lambda x, u: (u - 1) * x, 1, 1).modulation[0, 0, 0])
    1.0
    """
    x, u = jnp.zeros(n_states), jnp.zeros(n_inputs)
    jacobian = jax.jacfwd(flow)
    return Expansion(
        flow(x, u), jacobian(x, u), jax.jacfwd(flow, 1)(x, u), jax.jacfwd(jacobian, 1)(x, u)
    )


def bilinear_generators(expansion: Expansion, inputs: jax.Array) -> jax.Array:
    """Generators of the bilinear expansion for each input row.

    Parameters
    ----------
    expansion : Expansion
        From `expand`.
    inputs : jax.Array
        Input rows, shape (rows, inputs).

    Returns
    -------
    jax.Array
        Shape (rows, 1 + states, 1 + states), 1/s, with a leading constant state.
    """
    jacobian = expansion.jacobian + (expansion.modulation * inputs[:, None, None, :]).sum(-1)
    constant = expansion.constant + (expansion.drive * inputs[:, None, :]).sum(-1)
    return _augmented(jacobian, constant)


def filtered_trajectory(
    generators: jax.Array, drive: jax.Array, filters: jax.Array, grid: TimeGrid
) -> jax.Array:
    """States (steps + 1, regions, k) of linear filters that a piecewise affine system drives.

    Of the generators of the driving states for each distinct input, with a leading constant,
    (distinct inputs, m, m), 1/s; of which combination of them enters each filter's first state,
    (regions, m); and of the rates of the filters, (regions, k, k), 1/s.
    """
    cascade = _driven(generators, drive, filters)
    return trajectory(propagators(cascade, grid), grid, *_start(drive, filters))[1]


def _start(drive: jax.Array, filters: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Driving states, the leading constant 1, and filter states at rest."""
    return jnp.zeros(drive.shape[1]).at[0].set(1.0), jnp.zeros(filters.shape[:2])


def _driven(generators: jax.Array, drive: jax.Array, filters: jax.Array) -> Cascade:
    """Cascade in which a combination of driving states enters each filter's first state."""
    entry = jnp.zeros(filters.shape[-1]).at[0].set(1.0)
    return Cascade(generators, entry[None, :, None] * drive[:, None, :], filters)


def gated_trajectory(
    flow: Flow,
    expansion: Expansion,
    drive: jax.Array,
    filters: jax.Array,
    grid: TimeGrid,
) -> jax.Array:
    """As `filtered_trajectory`, by SPM's scheme for nonlinear DCM, expanding as activity moves.

    At every point of the grid, SPM's points of expansion included, the generator gains ``sum_i x_i
    M_i`` over the first population of each region, frozen until the next point, where ``M_i`` holds
    both the Jacobian's derivative by x_i and, in its constant column, column i of the Jacobian. The
    linear term therefore acts twice; this is how ``spm_int_D`` computes it, and the reason to
    prefer ``"nonlinear"``.
    """
    n_regions, size = drive.shape
    generators = bilinear_generators(expansion, grid.inputs)
    rest, no_input = jnp.zeros(size - 1), jnp.zeros(grid.inputs.shape[1])
    curvature = jax.jacfwd(jax.jacfwd(flow))(rest, no_input)[:, :, :n_regions]
    # Each doubling of a bin on the way to the longest step needs one more.
    squarings = len(grid.halvings) + len(grid.bins).bit_length()

    def advance(state: tuple, step: tuple) -> tuple:
        (x, h), (held, duration) = state, step
        gate = x[1 : 1 + n_regions]
        extra = _augmented(
            (curvature * gate).sum(-1), (expansion.jacobian[:, :n_regions] * gate).sum(-1)
        )
        generator = _driven(generators[held] + extra, drive.at[:, 0].add(gate), filters)
        power = exponential(generator, duration, squarings)
        h = total(power.coupling * x, -1) + total(power.filter * h[:, None, :], -1)
        return (total(power.neuronal * x, -1), h), h

    start = _start(drive, filters)
    durations = grid.bin_width * grid.propagator_bins[grid.step]
    _, h = jax.lax.scan(advance, start, (grid.propagator_input[grid.step], durations))
    return jnp.concatenate([start[1][None], h])


@dataclass(frozen=True)
class BilinearExpansion(HeldInputs):
    """SPM's scheme for task fMRI: the whole system is expanded to first order about rest.

    Fast and, at strong responses, up to a third of the peak away from the equations.

    Parameters
    ----------
    gated : bool
        Expand anew about once a second along the activity of the first population, as
        ``spm_int_D`` does for nonlinear DCM; the linear term then acts twice.

    Examples
    --------
    >>> BilinearExpansion()
    BilinearExpansion(gated=False)
    """

    gated: bool = False

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise ValueError unless the observer has states, which are expanded too."""
        super().check(neural, observer)
        if not observer.states:
            raise ValueError(
                "solver BilinearExpansion expands the observer about rest, but "
                f"{type(observer).__name__} has no states of its own; use RungeKutta"
            )

    def grid_options(self, neural: NeuralModel, observer: Any, design: Any) -> dict[str, Any]:
        """Input changes and scans; with `gated`, SPM's points of expansion too."""
        if not self.gated:
            return {}
        # About once a second, in step with the first region.
        updates = max(int(np.floor(design.repetition_time + 0.5)), 1) * design.n_scans
        bins = -(-np.arange(updates) * len(design.inputs) // updates)
        delays = np.asarray(design.slice_delays)[:1]
        return {"updates": bins + bins_after_onset(delays, design.input_dt)[0] - 1}

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: TimeGrid
    ) -> jax.Array:
        """What the observer reads at the scans, (scans, nodes); see `Solver.solve`."""
        n_states = neural.n_nodes * len(neural.states)
        flow, drive = flat_flow(neural, parameters), activity_drive(neural)
        expansion = expand(flow, n_states, neural.n_inputs)
        filters = linear_filters(observer, neural.n_nodes, parameters)
        if self.gated:
            h = gated_trajectory(flow, expansion, drive, filters, arrays)
        else:
            generators = bilinear_generators(expansion, arrays.inputs)
            h = filtered_trajectory(generators, drive, filters, arrays)
        return observer.read(at_samples(h, arrays), parameters)


def linear_filters(observer: Any, n_nodes: int, parameters: Parameters) -> jax.Array:
    """Rates of an observer's states about rest, shape (nodes, states, states), 1/s."""
    activity = jnp.zeros(n_nodes)
    jacobian = jax.jacfwd(lambda h: observer.flow(activity, h, parameters))(
        jnp.zeros((n_nodes, len(observer.states)))
    )
    return jnp.diagonal(jacobian, axis1=0, axis2=2).transpose(2, 0, 1)
