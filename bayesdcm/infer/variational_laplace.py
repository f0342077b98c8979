"""Variational Laplace: the method, its starting points, and the start that it is for others."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.named_axes import axis_names, in_order
from bayesdcm.infer.batches import Batch, Task, attempt, shape_of
from bayesdcm.infer.density import Layout, invalid_distributions, prior_centre, traced
from bayesdcm.infer.evaluation import prior_sample
from bayesdcm.infer.expected_prior import has_kink
from bayesdcm.infer.findings import add
from bayesdcm.infer.inversion import best_optimum, laplace_settings
from bayesdcm.infer.laplace import TOLERANCE, LaplaceResult
from bayesdcm.infer.many_inversions import invert_all, run_starts
from bayesdcm.infer.method import Method, one_of, option, positive_integer, several
from bayesdcm.infer.modes import optima_apart
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem, normal_prior
from bayesdcm.infer.search import search
from bayesdcm.infer.tail_shape import check_approximation
from bayesdcm.infer.traced_programs import traced_once

logger = logging.getLogger("bayesdcm")

# Without a Gaussian observation there is no variational Laplace to start from.
PLAIN_START_DRAWS = 500
# Optima this near to the best, in nats, matter.
NEAR_MODES = 3.0


def starts_option() -> Any:
    """The field of methods that start from variational Laplace, or are it."""
    return option(
        None,
        words="Starting points of variational Laplace: the prior mean and draws from the prior. "
        "By default one, others where a task-fMRI model with integrator nonlinear is left at a "
        "poor optimum, always many of a recurrent model, and other signs of the sources of "
        "cross-spectra.",
        shell=positive_integer,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Laplace(Method):
    """Variational Laplace, as in SPM: a Gaussian posterior and a free energy.

    Parameters
    ----------
    starts : int, array_like, "auto" or None
        Number of starting points, the prior mean and draws from the prior; or flat points, shape
        (starts, size). The best optimum counts; `Fit.modes` has all. ``"auto"`` starts at the
        prior mean and, only where what that finds is poor (it did not converge, stopped while
        steps were short, or residuals follow what the model predicts at other parameters), at
        those draws from the prior that fit best; ``status["search"]`` of the fit says how many
        starts there were, why, what they gained, and what is still wrong. Models whose
        `NeuralModel.many_modes` is set are searched in any case, and of `CrossSpectralDCM` other
        signs of sources relative to each other are tried, but for ``likelihood="spm"``. None is
        ``"auto"`` for it, for `RecurrentDCM` and for `TaskDCM` with ``integrator="nonlinear"``, and
        1 for all else.
    max_iterations : int, optional
        As in SPM when None: 64 for programs with observer sites, 128 for others.
    derivatives : {"exact", "one_sided"}
        Of the prediction; ``"one_sided"`` are SPM's differences.
    draws : int
        Draws from the posterior, for predictions and diagnostics.

    References
    ----------
    .. [1] Friston et al. (2007), NeuroImage 34:220.
           https://doi.org/10.1016/j.neuroimage.2006.08.035

    Examples
    --------
    >>> Laplace(draws=500).options()
    {'draws': 500}
    """

    name: ClassVar[str] = "laplace"
    title: ClassVar[str] = "variational Laplace"
    citations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Friston K, Mattout J, Trujillo-Barreto N, Ashburner J, Penny W (2007). Variational "
            "free energy and the Laplace approximation. NeuroImage 34:220-234.",
            "https://doi.org/10.1016/j.neuroimage.2006.08.035",
        ),
    )
    needs: ClassVar[str] = "gaussian"
    evidence: ClassVar[str | None] = "free_energy"

    starts: Any = starts_option()
    max_iterations: int | None = option(None, positive_integer, words="Iterations at most.")
    derivatives: str = option(
        "exact", one_of("exact", "one_sided"), words="Derivatives of the prediction."
    )
    draws: int = option(1000, several, words="Draws from the posterior.", shell=True)

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Invert a problem, see `Method.run`."""
        given = (self.max_iterations, self.derivatives, progress)
        return self.posterior(find_optimum(problem, self.starts, seed, *given), seed)

    def batch_key(self, problem: Problem) -> Hashable:
        """Source, layout, settings and shape, see `Method.batch_key`."""
        settings = laplace_settings(problem.sites, self.max_iterations, self.derivatives)
        return problem.source, problem.sites, settings, shape_of(problem.prepared)

    def run_many(
        self, batch: Batch, side_by_side: str
    ) -> Iterator[tuple[Hashable, Posterior | Exception]]:
        """Invert problems of one shape at the same time, see `Method.run_many`."""
        tasks = batch.tasks
        static = self.batch_key(tasks[0].problem)[:3]
        prepared = [task.problem.prepared for task in tasks]
        starts = [laplace_starts(task.problem, task.method.starts, task.seed) for task in tasks]
        for place, optima in invert_all(static, prepared, starts, side_by_side):
            yield batch.keys[place], attempt(_posterior, tasks[place], static, optima)

    def posterior(self, optimum: dict[str, Any], seed: int) -> Posterior:
        """The posterior of an optimum.

        Parameters
        ----------
        optimum : dict
            From `find_optimum`.
        seed : int
            Of the draws from the posterior.

        Returns
        -------
        Posterior
            With the record of the run.
        """
        result = optimum["result"]
        n = int(result.n_iterations)
        status = {
            "converged": bool(result.converged) and not bool(result.failed),
            "n_iterations": n,
            "recoveries": int(result.recoveries),
            "accuracy": float(result.accuracy),
            "complexity": float(result.complexity),
        }
        if optimum.get("search"):
            status["search"] = optimum["search"]
        if status["recoveries"]:
            logger.warning(
                "variational Laplace: the trajectory diverged %d time(s) and a shorter step was "
                "taken",
                status["recoveries"],
            )
        trace = {name: values[:n] for name, values in result.trace.items()}
        return Posterior(
            self,
            gaussian=(optimum["mean"], optimum["covariance"]),
            n_draws=self.draws,
            seed=seed,
            log_evidence=float(result.free_energy),
            trace=trace | {"starts_free_energy": optimum["free_energies"]},
            status=status,
            optima=optimum["optima"],
        )

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """Convergence, other optima, and the approximation, see `Method.check`."""
        if not facts["converged"]:
            iterations = fit.status.get("n_iterations")
            add(
                problems,
                "not converged",
                f"Variational Laplace had not converged after {iterations} iterations: the free "
                "energy and the posterior are provisional. Raise max_iterations, or try several "
                "starts (starts=8).",
            )
        elif (left := _left_to_gain(fit.trace)) > TOLERANCE:
            add(
                problems,
                "stopped early",
                f"Variational Laplace stopped after {fit.status.get('n_iterations')} short steps, "
                f"none of which promised {TOLERANCE:g} nats, as SPM's criterion has it, but about "
                f"{left:.1f} nats were left to gain: means are off by up to "
                f"{np.sqrt(2 * left):.1f} posterior standard deviations. Data say little; use "
                "method='nuts'.",
            )
        rough = rough_sites(fit.problem) if fit.is_bound else []
        if rough:
            add(problems, "kinks", kink_text(rough))
        if "search" in facts:
            self._check_optima(fit, problems)
        check_approximation(fit, "Gaussian", "", problems, facts)

    def _check_optima(self, fit: Any, problems: list[str]) -> None:
        near = [
            other for other in fit.modes[1:] if fit.log_evidence - other.log_evidence < NEAR_MODES
        ]
        if near:
            add(
                problems,
                "several optima",
                f"{len(near)} other optim{'um is' if len(near) == 1 else 'a are'} within "
                f"{NEAR_MODES:.0f} nats of the best one: the posterior has several modes, of which "
                "this fit is one. See fit.modes, and compare with method='nuts'.",
            )


def _left_to_gain(trace: Mapping[str, NDArray]) -> float:
    """About how many nats a full step would have gained where no step promised many, else 0."""
    change, log_step = trace.get("predicted_change"), trace.get("log_step")
    if change is None or not len(change) or not (change < TOLERANCE).all():
        return 0.0
    # A step so long goes this share of the way, and promises twice that share of the gain.
    share = -np.expm1(-np.exp(log_step[-1]))
    return float(change[-1] / (2 * share))


def rough_sites(problem: Problem) -> list[str]:
    """Sites whose priors have kinks that variational Laplace does not take in the mean."""
    others = [site.name for site in problem.sites.sites if not site.plain]
    if not others:
        return []
    trace = traced(problem.source.bind(problem.prepared))
    return [name for name in others if has_kink(trace[name]["fn"])]


def kink_text(sites: Sequence[str]) -> str:
    """What there is to say of `rough_sites`."""
    return (
        f"The prior of {', '.join(map(repr, sites))} is a transformed or asymmetric Laplace "
        "distribution: it has a kink, at which variational Laplace sees too little or no "
        "curvature, so that standard deviations and the free energy are wrong. Write it as "
        "numpyro's Laplace with loc and scale, which is taken in the mean, or use method='nuts'."
    )


def _posterior(task: Task, static: tuple, optima: LaplaceResult | Exception) -> Posterior:
    """The posterior of a task of which there are the optima of all starts."""
    if isinstance(optima, Exception):
        raise optima
    best = _searched(task.problem, task.method.starts, task.seed, static, optima)
    return task.method.posterior(best, task.seed)


def _centre(source: Any, sites: Layout, prepared: Any) -> NDArray:
    """The prior mean, flat."""
    normal = normal_prior(source, sites, prepared)
    return np.asarray(_middle(source, sites, prepared)) if normal is None else normal[0]


@traced_once(2)
def _middle(source: Any, sites: Layout, prepared: Any) -> jax.Array:
    return prior_centre(source.bind(prepared), sites)


SEARCH = "auto"


def searches(source: Any, starts: Any) -> bool:
    """Whether the optimum of the first start may call for others.

    Parameters
    ----------
    source : object
        Of a problem.
    starts : object
        As given; None leaves it to the model, whose attribute ``searches`` or ``mirrored`` says so.

    Returns
    -------
    bool
        Never where starting points, or their number, are given.
    """
    if starts is None:
        model = getattr(source, "model", None)
        return any(getattr(model, each, False) for each in ("searches", "mirrored"))
    return isinstance(starts, str) and starts == SEARCH


def laplace_starts(problem: Problem, starts: Any, seed: int) -> NDArray:
    """Starting points, the prior mean first; it alone where others depend on what it finds."""
    centre = _centre(problem.source, problem.sites, problem.prepared)
    if starts is None or (isinstance(starts, str) and starts == SEARCH):
        return centre[None]
    if isinstance(starts, int | np.integer) and not isinstance(starts, bool):
        if starts < 1:
            raise ValueError(f"starts must be at least 1, got {starts}")
        if starts == 1:
            return centre[None]
        others = np.array(prior_sample(problem, int(starts) - 1, seed))
        # Hyperparameters always start at their prior mean: only the parameters have modes.
        n = problem.sites.n_parameters
        others[:, n:] = centre[n:]
        return np.concatenate([centre[None], others])
    if axis_names(starts, 1) is not None:
        starts = in_order("starts", starts, {1: ("the fit's parameters", problem.flat_labels)})
    try:
        points = np.asarray(starts, float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"starts must be a number or an array of numbers, got {starts!r}"
        ) from error
    if points.ndim != 2 or not len(points) or points.shape[1] != problem.sites.size:
        got = f"shape {points.shape}" + ("" if points.ndim else f", {starts!r}")
        raise ValueError(
            f"starts must be a number or an array of shape (starts, {problem.sites.size}), "
            f"got {got}"
        )
    if not np.isfinite(points).all():
        raise ValueError("starts must be finite, got NaN or infinity")
    return points


def find_optimum(
    problem: Problem,
    starts: Any,
    seed: int,
    max_iterations: int | None = None,
    derivatives: str = "exact",
    progress: bool = False,
) -> dict[str, Any]:
    """Run variational Laplace as the option ``starts`` of `fit` says, and keep the best.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    starts, seed
        As in `fit`.
    max_iterations : int, optional
        Iterations at most; as in SPM when None: 64 with observer sites, 128 without.
    derivatives : {"exact", "one_sided"}
        Of the prediction.
    progress : bool
        Whether to show how far a long search has come.

    Returns
    -------
    dict
        As `best_optimum`, and ``search``, the record of a search or None.
    """
    points = laplace_starts(problem, starts, seed)
    static = (
        problem.source,
        problem.sites,
        laplace_settings(problem.sites, max_iterations, derivatives),
    )
    optima = run_starts(*static, problem.prepared, points)
    return _searched(problem, starts, seed, static, optima, progress)


def _searched(
    problem: Problem,
    starts: Any,
    seed: int,
    static: tuple,
    optima: LaplaceResult,
    progress: bool = False,
) -> dict[str, Any]:
    """The best of the optima of all starts, and of others where these are poor."""
    record = None
    if searches(problem.source, starts):
        centre = _centre(problem.source, problem.sites, problem.prepared)
        optima, record = search(static, problem.prepared, optima, centre, seed, progress)
    # Only the search asks for residuals; a fit and its file can do without.
    optima = optima._replace(residuals=())
    try:
        return best_optimum(optima) | {"search": record}
    except ValueError as error:
        # A user's program may have other faults than its prediction.
        faults = invalid_distributions(problem.source.bind(problem.prepared))
        if not faults:
            raise
        raise ValueError("; ".join(faults)) from error


class GaussianStart(NamedTuple):
    """Gaussian approximation to start from.

    Attributes
    ----------
    mean : ndarray
        Over the flat vector, (size,).
    covariance : ndarray
        (size, size).
    modes : ndarray
        The mean, and those of other optima that are nearly as good, (modes, size).
    search : dict or None
        Record of the search for it.
    """

    mean: NDArray
    covariance: NDArray
    modes: NDArray
    search: dict[str, Any] | None


def gaussian_start(
    problem: Problem, starts: Any, seed: int, progress: bool = False
) -> GaussianStart:
    """Gaussian approximation to start from.

    The model's own, where it has a method ``gaussian_start(prepared)`` that gives mean and
    covariance over the flat vector; else variational Laplace, else the prior's moments.
    """
    model_start = getattr(getattr(problem.source, "model", None), "gaussian_start", None)
    if model_start is not None:
        if starts is not None and (np.ndim(starts) or starts != 1):
            raise ValueError(f"starts must be 1 for a model that has its own start, got {starts!r}")
        mean, covariance = model_start(problem.prepared)
        return GaussianStart(mean, covariance, np.asarray(mean)[None], None)
    if not problem.sites.foreign:
        optimum = find_optimum(problem, starts, seed, progress=progress)
        means, _, places = optima_apart(optimum["optima"])
        energy = optimum["optima"].free_energy
        near = [place for place in places if energy[places[0]] - energy[place] < NEAR_MODES]
        modes = np.concatenate([optimum["mean"][None], means[near[1:]]])
        return GaussianStart(optimum["mean"], optimum["covariance"], modes, optimum["search"])
    faults = invalid_distributions(problem.source.bind(problem.prepared))
    if faults:
        raise ValueError("; ".join(faults))
    draws = np.asarray(prior_sample(problem, PLAIN_START_DRAWS, seed))
    return GaussianStart(draws.mean(0), np.diag(draws.var(0)), draws.mean(0)[None], None)
