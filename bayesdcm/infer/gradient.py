"""The best point by gradient: Adam from several starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from bayesdcm.infer.findings import add
from bayesdcm.infer.method import one_of, option, positive_integer, positive_number
from bayesdcm.infer.point_estimate import (
    PointMethod,
    PointOptima,
    Scale,
    nothing_finite,
    prior_scale,
    settled,
    slopes,
)
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import ModelSource, Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.variational_laplace import laplace_starts

# Up to as many parameters are followed forward: each costs about a simulation, all of them
# backward about two and a half.
FEW = 2
# How much longer steps get again after they were halved.
LONGER = 1.2
# Slopes this many times as steep as usual are those of chaos.
STEEP = 1e3


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradient(PointMethod):
    """Largest posterior density by Adam, from several starts: a point, without a posterior.

    For objectives of simulations (`bayesdcm.SimulationObjective`), whose density is that of the
    prior times ``exp(-loss / loss_unit)``, and for any other program.

    Parameters
    ----------
    starts : int or array_like
        Number of starting points, the prior mean and draws from the prior; or flat points, shape
        (starts, size).
    steps : int
        Of each start.
    learning_rate : float
        Longest step in each parameter, in prior standard deviations; it falls by a cosine to 1 %.
    derivative : {"auto", "forward", "reverse"}
        How derivatives are taken; ``"auto"`` is forward for up to 2 parameters.

    References
    ----------
    .. [1] Kingma and Ba (2015), International Conference on Learning Representations.
           https://arxiv.org/abs/1412.6980

    Examples
    --------
    >>> Gradient(starts=8).options()
    {'starts': 8}
    """

    name: ClassVar[str] = "gradient"
    title: ClassVar[str] = "gradient ascent"
    citations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Kingma DP, Ba J (2015). Adam: a method for stochastic optimization. International "
            "Conference on Learning Representations.",
            "https://arxiv.org/abs/1412.6980",
        ),
    )

    starts: Any = option(4, words="Starting points.", shell=positive_integer)
    steps: int = option(100, positive_integer, words="Steps of each start.", shell=True)
    learning_rate: float = option(
        0.1, positive_number, words="Longest step, in prior standard deviations."
    )
    derivative: str = option(
        "auto", one_of("auto", "forward", "reverse"), words="How derivatives are taken."
    )

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Climb from all starts, as `Method.run`; interrupted, with the steps it has done."""
        derivative = self.derivative
        if derivative == "auto":
            derivative = "forward" if problem.sites.size <= FEW else "reverse"
        source, scale = _with_derivative(problem.source, derivative), prior_scale(problem)
        ascent = _Ascent(self, laplace_starts(problem, self.starts, seed), scale)
        complete = True
        with Progress("gradient", self.steps, "step", progress) as shown:
            try:
                for _ in range(self.steps):
                    ascent.step(*slopes(source, problem, derivative, ascent.points))
                    if len(ascent.log_joint) == 1 and not np.isfinite(ascent.best_value).any():
                        raise nothing_finite(problem)
                    shown.advance(1)
            except KeyboardInterrupt:
                if not ascent.log_joint:
                    raise
                complete = False
        log_joint, norms = np.array(ascent.log_joint), np.array(ascent.norms)
        optima = ascent.optima()
        usual = np.nanmedian(norms)
        status = {
            "converged": complete and bool(settled(log_joint[:, optima.best])),
            "complete": complete,
            "n_steps": len(log_joint),
            "derivative": derivative,
            "recoveries": ascent.recoveries,
            "steepest": float(np.nanmax(norms) / usual) if usual > 0 else 0.0,
        }
        trace = {"log_joint": log_joint, "slope": norms}
        return self.found(problem, seed, optima, trace, status)

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """What was found, and whether slopes can be followed, see `Method.check`."""
        super().check(fit, problems, facts)
        facts["steepest"] = fit.status["steepest"]
        if fit.status["steepest"] > STEEP:
            add(
                problems,
                "slopes explode",
                f"The steepest slope was {facts['steepest']:.0f} times the usual one, as in "
                "chaos, where derivatives say little: give the objective a horizon (horizon=1.0), "
                "or use method='evolution'.",
            )

    def not_converged(self, fit: Any) -> str:
        """Raise steps, see `PointMethod.not_converged`."""
        return (
            f"The density was still rising after {fit.status['n_steps']} steps: raise steps or "
            "learning_rate."
        )


class _Ascent:
    """All starts, in prior standard deviations, and what they have seen."""

    def __init__(self, method: Gradient, starts: NDArray, scale: Scale) -> None:
        self._scale = scale
        self._settings = (method.learning_rate, method.steps)
        self._at = (starts - scale.centre) / scale.sd
        self._state = _first_state(*self._settings, jnp.asarray(self._at))
        # Of the steps of each start: halved where they lead over a cliff.
        self._length = np.ones((len(starts), 1))
        self._first = np.full(len(starts), -np.inf)
        self._before = self._at.copy()
        self._best = self._at.copy()
        self.best_value = np.full(len(starts), -np.inf)
        self._sensitivity = np.zeros(starts.shape[1])
        self.log_joint: list[NDArray] = []
        self.norms: list[NDArray] = []
        self.recoveries = 0

    @property
    def points(self) -> NDArray:
        """Flat points that are to be looked at."""
        return self._scale.flat(self._at)

    def step(
        self, prior: NDArray, prior_slope: NDArray, likelihood: NDArray, slope: NDArray
    ) -> None:
        """Take a step from the points."""
        value, slope = prior + likelihood, slope * self._scale.sd
        rise = slope + prior_slope * self._scale.sd
        finite = np.isfinite(value) & np.isfinite(rise).all(1)
        value = np.where(finite, value, np.nan)
        self.log_joint.append(value)
        self.norms.append(np.where(finite, np.linalg.norm(rise, axis=1), np.nan))
        better = finite & ~(value <= self.best_value)
        self.best_value[better], self._best[better] = value[better], self._at[better]
        if finite.any():
            steepest = np.abs(slope[finite]).max(0)
            self._sensitivity = np.maximum(self._sensitivity, steepest)
        rise = np.where(finite[:, None], rise, 0.0)
        self._first = np.where(
            np.isfinite(self._first), self._first, np.where(finite, value, -np.inf)
        )
        # What is worse than where the search began is behind a cliff, such as a bifurcation.
        taken = finite & ~(value < self._first)
        change, state = _change(*self._settings, self._state, jnp.asarray(-rise))
        self._state = jax.tree.map(
            lambda new, old: jnp.where(taken.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            state,
            self._state,
        )
        self.recoveries += int((~finite & np.isfinite(self.best_value)).sum())
        self._length = np.where(
            taken[:, None], np.minimum(LONGER * self._length, 1), self._length / 2
        )
        onward = self._at + self._length * np.asarray(change)
        back = (self._at + self._before) / 2
        self._before = np.where(taken[:, None], self._at, self._before)
        self._at = np.where(taken[:, None], onward, back)

    def optima(self) -> PointOptima:
        """The best of every start."""
        return PointOptima(
            self._scale.flat(self._best), self.best_value, self._sensitivity, self._scale.sd
        )


def _optimiser(learning_rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps, 0.01))


@partial(jax.jit, static_argnums=(0, 1))
def _first_state(learning_rate: float, steps: int, at: jax.Array) -> Any:
    return jax.vmap(_optimiser(learning_rate, steps).init)(at)


@partial(jax.jit, static_argnums=(0, 1))
def _change(learning_rate: float, steps: int, state: Any, slope: jax.Array) -> Any:
    return jax.vmap(_optimiser(learning_rate, steps).update)(slope, state)


def _with_derivative(source: Any, derivative: str) -> Any:
    """A source whose model, if it can, is made for one kind of derivative."""
    model = getattr(source, "model", None)
    if not hasattr(model, "with_derivative"):
        return source
    return ModelSource(model.with_derivative(derivative))
