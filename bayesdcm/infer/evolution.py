"""The best point without derivatives: evolution of a population (CMA-ES)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray

from bayesdcm.infer.method import option, positive_integer, positive_number
from bayesdcm.infer.point_estimate import (
    PointMethod,
    PointOptima,
    Scale,
    densities,
    nothing_finite,
    prior_scale,
    settled,
)
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.variational_laplace import laplace_starts


@dataclass(frozen=True, kw_only=True, eq=False)
class Evolution(PointMethod):
    """Largest posterior density by covariance matrix adaptation (CMA-ES), without derivatives.

    For objectives of simulations (`bayesdcm.SimulationObjective`) that are chaotic or have no
    derivative, and for any other program. It gives a point, without a posterior.

    Parameters
    ----------
    starts : int or array_like
        Number of populations, which start at the prior mean and at draws from the prior; or flat
        points, shape (starts, size).
    generations : int
        Of each population.
    population : int, optional
        Points of a generation; CMA-ES's own number, which grows with the logarithm of the number
        of parameters, when None.
    width : float
        Standard deviation of the first generation, in prior standard deviations.

    References
    ----------
    .. [1] Hansen (2016). https://arxiv.org/abs/1604.00772
    .. [2] Nomura and Shibata (2024). https://arxiv.org/abs/2402.01373

    Examples
    --------
    >>> Evolution(population=16).options()
    {'population': 16}
    """

    name: ClassVar[str] = "evolution"
    title: ClassVar[str] = "evolution (CMA-ES)"
    citations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Hansen N (2016). The CMA evolution strategy: a tutorial. arXiv:1604.00772.",
            "https://arxiv.org/abs/1604.00772",
        ),
        (
            "Nomura M, Shibata M (2024). cmaes: a simple yet practical Python library for CMA-ES. "
            "arXiv:2402.01373.",
            "https://arxiv.org/abs/2402.01373",
        ),
    )

    starts: Any = option(2, words="Populations.", shell=positive_integer)
    generations: int = option(50, positive_integer, words="Generations.", shell=True)
    population: int | None = option(None, positive_integer, words="Points of a generation.")
    width: float = option(
        1.0, positive_number, words="Width of the first generation, in prior standard deviations."
    )

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Let populations evolve, as `Method.run`; interrupted, with the generations so far."""
        scale = prior_scale(problem)
        starts = (laplace_starts(problem, self.starts, seed) - scale.centre) / scale.sd
        populations = [
            _Population(self, start, np.random.SeedSequence([seed, number]))
            for number, start in enumerate(starts)
        ]
        complete = True
        with Progress("evolution", self.generations, "generation", progress) as shown:
            try:
                for generation in range(self.generations):
                    _next_generation(problem, scale, populations)
                    if not generation and not any(np.isfinite(p.value) for p in populations):
                        raise nothing_finite(problem)
                    shown.advance(1)
                    if all(population.stopped for population in populations):
                        break
            except KeyboardInterrupt:
                if not populations[0].history:
                    raise
                complete = False
        points = scale.flat(np.array([population.best for population in populations]))
        values = np.array([population.value for population in populations])
        length = min(len(population.history) for population in populations)
        history = np.array([population.history[:length] for population in populations]).T
        best = int(np.argmax(values))
        optima = PointOptima(points, values, _sensitivity(problem, scale, points[best]), scale.sd)
        stopped = populations[best].stopped
        status = {
            "converged": complete and bool(stopped or settled(history[:, best])),
            "complete": complete,
            "n_generations": length,
            "population": populations[0].size,
        }
        return self.found(problem, seed, optima, {"log_joint": history}, status)

    def not_converged(self, fit: Any) -> str:
        """Raise generations, see `PointMethod.not_converged`."""
        return (
            f"The density was still rising after {fit.status['n_generations']} generations: raise "
            "generations."
        )


class _Population:
    """One population, in prior standard deviations, and the best of it."""

    def __init__(self, method: Evolution, start: NDArray, seed: np.random.SeedSequence) -> None:
        self._free = len(start)
        # CMA-ES needs two dimensions; the second of one parameter does nothing.
        mean = np.append(start, np.zeros(max(2 - len(start), 0)))
        self._cma = CMA(
            mean,
            method.width,
            population_size=method.population and max(method.population, 2),
            seed=int(seed.generate_state(1)[0]),
        )
        self.best, self.value = np.array(start), -np.inf
        self.history: list[float] = []

    @property
    def size(self) -> int:
        """Points of a generation."""
        return self._cma.population_size

    @property
    def stopped(self) -> bool:
        """Whether the population has nothing left to gain."""
        return bool(self._cma.should_stop())

    def ask(self) -> NDArray:
        """The next points, (points, size)."""
        self._asked = np.array([self._cma.ask() for _ in range(self.size)])
        return self._asked[:, : self._free]

    def tell(self, values: NDArray) -> None:
        """Take the log joint density of the points."""
        finite = np.isfinite(values)
        best = int(np.argmax(np.where(finite, values, -np.inf)))
        if finite.any() and values[best] > self.value:
            self.best, self.value = self._asked[best, : self._free], float(values[best])
        self.history.append(float(values[best]) if finite.any() else np.nan)
        # Points where the model diverges are worse than any other.
        worst = values[finite].min() - 1 if finite.any() else 0.0
        costs = -np.where(finite, values, worst)
        self._cma.tell(list(zip(self._asked, costs.tolist(), strict=True)))


def _next_generation(problem: Problem, scale: Scale, populations: list[_Population]) -> None:
    asked = [population.ask() for population in populations]
    prior, likelihood = densities(problem.source, problem, scale.flat(np.concatenate(asked)))
    ends = np.cumsum([len(points) for points in asked])[:-1]
    for population, values in zip(populations, np.split(prior + likelihood, ends), strict=True):
        population.tell(values)


def _sensitivity(problem: Problem, scale: Scale, best: NDArray) -> NDArray:
    """Change of the log-likelihood by a prior standard deviation, nats, (size,)."""
    points = np.concatenate([best[None], best + np.diag(scale.sd)])
    _, likelihood = densities(problem.source, problem, points)
    changes = np.abs(likelihood[1:] - likelihood[0])
    # What makes a model diverge counts.
    return np.nan_to_num(changes, nan=np.inf, posinf=np.inf)
