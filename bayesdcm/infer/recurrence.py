"""A model that is a recurrence, as methods see it that train it: one cell, and data by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout, Outputs, evaluate
from bayesdcm.infer.problem import ModelSource, Problem
from bayesdcm.infer.quadratic import without_prediction
from bayesdcm.models.priors import complete_parameters
from bayesdcm.observe.bold import BoldObserver
from bayesdcm.observe.gaussian import GaussianObservation

# Inputs under which stability is looked at, unless there are fewer that differ.
MOST_LEVELS = 8
# Squarings of a matrix after which its norm tells its largest eigenvalue to one in a thousand.
SQUARINGS = 12
TINY = 1e-300


def require_recurrence(problem: Problem, method: str) -> None:
    """Raise ValueError where a problem is no recurrence that is read as BOLD signals."""
    wanted = (
        "use RecurrentDCM, or DCM(neural, Euler(step), observer) with an observer of BOLD signals "
        "that has states, such as Balloon or RegionalBalloon"
    )
    if not isinstance(problem.source, ModelSource) or not hasattr(problem.source.model, "parts"):
        raise ValueError(
            f"method {method!r} trains models that are a recurrence, got {problem.description}; "
            + wanted
        )
    _, solver, observer = problem.source.model.parts
    if not (hasattr(solver, "start") and hasattr(solver, "cell")):
        raise ValueError(
            f"method {method!r} trains models that are a recurrence, whose solver has start and "
            f"cell, but {type(solver).__name__} of {problem.description} has none; " + wanted
        )
    if not (isinstance(observer, BoldObserver) and observer.states):
        raise ValueError(
            f"method {method!r} reads the signal after each step, but observer "
            f"{type(observer).__name__} does not; " + wanted
        )
    sample = np.asarray(problem.prepared.steps.sample)
    if not (np.diff(sample, axis=0) > 0).all():
        raise ValueError(
            f"method {method!r} reads at most one scan a step, but steps of "
            f"{float(problem.prepared.steps.step):g} s hold several; take a shorter step"
        )


def input_levels(inputs: NDArray) -> NDArray:
    """Inputs (levels, inputs) under which a model is to be stable, none at all among them.

    All that occur where they are few; otherwise each input alone at its extremes, and all at their
    maxima.

    >>> input_levels(np.array([[0.0], [1.0], [1.0]])).tolist()
    [[0.0], [1.0]]
    """
    nothing = np.zeros((1, inputs.shape[1]))
    occurring = np.unique(np.concatenate([nothing, inputs]), axis=0)
    if len(occurring) <= MOST_LEVELS:
        return occurring
    extremes = [np.diag(inputs.max(0)), np.diag(inputs.min(0)), inputs.max(0)[None]]
    return np.unique(np.concatenate([nothing, *extremes]), axis=0)


def spectral_radius(matrix: jax.Array) -> jax.Array:
    """Largest modulus of the eigenvalues of a matrix (n, n), from its repeated squares.

    In error by about one in a thousand, and rather too large. Unlike a decomposition, it may be
    batched on every device.

    >>> round(float(spectral_radius(jnp.array([[0.5, 3.0], [0.0, 0.9]]))), 2)
    0.9
    """

    def square(k: int, state: tuple) -> tuple:
        power, log_scale = state
        norm = jnp.linalg.norm(power) + TINY
        power = power / norm
        return power @ power, log_scale + jnp.log(norm) / 2.0**k

    power, log_scale = jax.lax.fori_loop(0, SQUARINGS, square, (matrix, jnp.zeros(())))
    return jnp.exp(log_scale + jnp.log(jnp.linalg.norm(power) + TINY) / 2.0**SQUARINGS)


class ByStep(NamedTuple):
    """What is known of each step, padded by steps without data to whole windows.

    Attributes
    ----------
    inputs : (steps, inputs)
        Input during each step.
    measured : (steps, regions)
        The scan that is read before each step, or zero.
    weight : (steps, regions)
        One where a scan is read, else zero.
    """

    inputs: jax.Array
    measured: jax.Array
    weight: jax.Array


class Recurrence:
    """The program of a recurrence in parts, each computed without the others; to be traced.

    Parameters
    ----------
    source, sites, prepared
        Of the problem.
    """

    def __init__(self, source: Any, sites: Layout, prepared: Any) -> None:
        model, program = source.model, source.bind(prepared)
        self.neural, self.solver, self.observer = model.parts
        self.steps = prepared.steps

        def whole(vector: jax.Array) -> tuple:
            result = evaluate(program, sites, vector)
            ((fn, value),) = result.observations.values()
            return (
                complete_parameters(model.priors, result.values),
                result.log_prior,
                (without_prediction(fn), value),
                result.log_hyperprior,
                result.log_priors,
                fn.prediction,
            )

        parts = Outputs(whole, jnp.zeros(sites.size))
        self.parameters, self.log_prior, self.observation = map(parts.select, range(3))
        self.log_hyperprior, self.log_priors, self.prediction = map(parts.select, range(3, 6))

    def cell(self, parameters: Any) -> Any:
        """One step, a function of carry and input."""
        return self.solver.cell(self.neural, self.observer, parameters, self.steps.step)

    def start(self, parameters: Any) -> jax.Array:
        """The carry at rest."""
        return self.solver.start(self.neural, self.observer, parameters)

    def radius(self, parameters: Any, levels: jax.Array) -> jax.Array:
        """Spectral radius of a step of the neural states about rest, the largest of all levels."""
        rest = jnp.asarray(self.neural.rest(parameters), float)

        def of_level(u: jax.Array) -> jax.Array:
            def step(x: jax.Array) -> jax.Array:
                state = x.reshape(rest.shape)
                return (state + self.steps.step * self.neural.flow(state, u, parameters)).ravel()

            return spectral_radius(jax.jacfwd(step)(rest.ravel()))

        return jax.vmap(of_level)(levels).max()

    def time_constant(self, parameters: Any) -> jax.Array:
        """Seconds in which the slowest of all states decays to 1/e, about rest, without input."""
        rest, cell = self.start(parameters), self.cell(parameters)
        nothing = jnp.zeros(self.steps.inputs.shape[1])

        def step(x: jax.Array) -> jax.Array:
            return cell(x.reshape(rest.shape), nothing)[0].ravel()

        return -self.steps.step / jnp.log(spectral_radius(jax.jacfwd(step)(rest.ravel())))

    def by_step(self, value: jax.Array, n_steps: int) -> ByStep:
        """Inputs and data of each of so many steps."""
        inputs = jnp.pad(self.steps.inputs, ((0, n_steps - len(self.steps.inputs)), (0, 0)))
        return ByStep(
            inputs, self.at_steps(value, n_steps), self.at_steps(jnp.ones_like(value), n_steps)
        )

    def at_steps(self, scans: jax.Array, n_steps: int) -> jax.Array:
        """Values of scans (scans, regions) at the steps before which they are read."""
        empty = jnp.zeros((n_steps, scans.shape[1]))
        return empty.at[self.steps.sample, jnp.arange(scans.shape[1])].set(scans)

    def at_scans(self, steps: jax.Array) -> jax.Array:
        """Values at steps (steps, regions), where scans are read."""
        return steps[self.steps.sample, jnp.arange(steps.shape[1])]


def about(fn: GaussianObservation, prediction: jax.Array) -> GaussianObservation:
    """An observation with another prediction."""
    return GaussianObservation(
        prediction, fn.log_precision, fn.components, fn.confounds, fn.confound_precision
    )
