"""The experimental input of evoked responses: a volley of afferent activity after the stimulus."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_context
from numpy.typing import ArrayLike

from bayesdcm.data.device import on_device
from bayesdcm.data.evoked import EvokedData
from bayesdcm.integrate.base import Solver
from bayesdcm.neural.base import NeuralModel, Parameters, Prior, from_vector, to_vector

AMPLITUDE = 32.0
ONSET_SCALE = 0.128


def stimulus_input(
    times: ArrayLike,
    onset: ArrayLike,
    duration: ArrayLike,
    timing: jax.Array,
    sustained: float = 0.0,
) -> jax.Array:
    """Inputs (times, inputs) as Gaussian functions of peristimulus time, as SPM's ``spm_erp_u``.

    With ``m = onset + 0.128 timing[0]`` and ``s = duration exp(timing[1])``, the input is ``32
    exp(-(t - m)^2 / (2 s^2))``; a sustained share of it (0 to 1; SPM's default is 0) is replaced by
    the normalised integral of the same function. Times (times,), onset and duration ((inputs,) or
    ()) in s; timing (inputs, 2). David et al. (2006),
    https://doi.org/10.1016/j.neuroimage.2005.10.045

    Examples
    --------
    >>> import numpy as np
    >>> stimulus_input([0.06], 0.06, 0.016, np.zeros((1, 2))).tolist()
    [[32.0]]
    """
    timing = jnp.asarray(timing)
    centre = jnp.asarray(onset) + ONSET_SCALE * timing[:, 0]
    width = jnp.asarray(duration) * jnp.exp(timing[:, 1])
    bump = jnp.exp(-(((jnp.asarray(times)[:, None] - centre) / width) ** 2) / 2)
    if sustained == 0:
        return AMPLITUDE * bump
    risen = jnp.cumsum(bump, axis=0) / bump.sum(axis=0)
    return AMPLITUDE * (sustained * risen + (1 - sustained) * bump)


@dataclass(frozen=True)
class StimulusDriven(Solver):
    """A solver of models that a stimulus excites, in every condition of an experiment.

    Parameters
    ----------
    onset, duration : float or array_like
        Prior mean of the time at which the input peaks, and of its standard deviation, s; one
        for all inputs or one each. A parameter ``input_timing`` of the neural model changes them.
    """

    onset: ArrayLike = 0.060
    duration: ArrayLike = 0.016

    data_class = EvokedData
    solves_stiff: ClassVar[bool] = False

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise ValueError where one of solver and model is for stiff equations; see `Solver`."""
        super().check(neural, observer)
        if neural.stiff != self.solves_stiff:
            others = "DelayedRelaxation" if neural.stiff else "LocalLinear or Delayed"
            raise ValueError(
                f"{type(self).__name__} cannot solve {type(neural).__name__}, which "
                f"{'is' if neural.stiff else 'is not'} stiff; use {others}"
            )

    # Data are constants, also where a caller's function of parameters is being traced. Under
    # `jax.ensure_compile_time_eval` operations on constants would be compiled one by one, also
    # within functions that `settings` compiles.
    @eval_context()
    def prepare(
        self,
        neural: NeuralModel,
        observer: Any,
        design: EvokedData,
        priors: Mapping[str, Prior],
    ) -> dict[str, Any]:
        """Times, effects of the conditions, and settings; see `Solver.prepare`."""
        dt = 1 / design.sampling_rate
        return {
            # As in SPM, the first sample comes one step after the start of integration, which
            # is thought to be at the time of the first sample.
            **on_device(
                {
                    "times": np.arange(1, design.n_times + 1) * dt,
                    "start": design.times[0],
                    "dt": dt,
                    "design": design.design,
                }
            ),
            "settings": self.settings(neural, dt, np.asarray(design.design), priors),
        }

    @abstractmethod
    def settings(
        self, neural: NeuralModel, dt: float, design: np.ndarray, priors: Mapping[str, Prior]
    ) -> Any:
        """What the compiler must know, as a pytree without arrays.

        Parameters
        ----------
        neural : NeuralModel
            The neural model.
        dt : float
            Time between samples, s.
        design : ndarray
            Effects of the conditions, shape (conditions, effects).
        priors : mapping of str to Prior
            Priors of the neural parameters in force.
        """

    @abstractmethod
    def trajectory(
        self, neural: NeuralModel, parameters: Parameters, start: jax.Array, arrays: dict
    ) -> jax.Array:
        """Vectors of states at the samples of one condition, shape (times, nodes * states).

        Parameters
        ----------
        neural : NeuralModel
            The neural model.
        parameters : mapping
            Full arrays of one condition by name.
        start : jax.Array
            States at rest, shape (nodes * states,).
        arrays : dict
            From `prepare`.
        """

    def inputs(self, neural: NeuralModel, parameters: Parameters, times: jax.Array) -> jax.Array:
        """Inputs at some times from the stimulus, shape (times, inputs).

        Parameters
        ----------
        neural : NeuralModel
            The neural model.
        parameters : mapping
            Full arrays by name.
        times : jax.Array
            Times from the stimulus, s, shape (times,).
        """
        timing = parameters.get("input_timing", jnp.zeros((neural.n_inputs, 2)))
        return stimulus_input(times, self.onset, self.duration, timing)

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: dict
    ) -> jax.Array:
        """States relative to rest, (conditions, times, nodes, states); see `Solver.solve`."""

        def condition(effects: jax.Array) -> jax.Array:
            changed = neural.condition(parameters, effects)
            start = to_vector(jnp.asarray(neural.rest(changed), float))
            moved = self.trajectory(neural, changed, start, arrays)
            return jax.vmap(lambda x: from_vector(x - start, neural.n_nodes))(moved)

        return jax.vmap(condition)(arrays["design"])
