"""The one door to inference: `fit`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.named_axes import axis_names, in_order
from bayesdcm.infer import nuts, svi
from bayesdcm.infer.convergence import R_HAT_LIMIT, split_r_hat
from bayesdcm.infer.density import Layout, invalid_distributions, prior_centre
from bayesdcm.infer.inversion import best_optimum, laplace_settings, run_starts
from bayesdcm.infer.laplace import LaplaceResult
from bayesdcm.infer.posterior import prior_sample
from bayesdcm.infer.problem import Problem, make_problem
from bayesdcm.infer.results import Fit, FlatPosterior
from bayesdcm.infer.search import Found, search
from bayesdcm.infer.threads import single_threaded_linear_algebra

logger = logging.getLogger("bayesdcm")

# Without a Gaussian observation there is no variational Laplace to start from.
PLAIN_START_DRAWS = 500


@single_threaded_linear_algebra()
def fit(
    model: Any,
    data: Any,
    method: str = "laplace",
    *,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Fit:
    """Infer the parameters of a model from data.

    Parameters
    ----------
    model : model or callable
        A model of this package, such as `bayesdcm.TaskDCM`, or a NumPyro program that is called
        as ``model(data)``.
    data : object
        `bayesdcm.BoldData` for the package's models; whatever the program takes otherwise.
    method : {"laplace", "svi", "nuts"}
        Variational Laplace as in SPM, stochastic variational inference, or NUTS.
    seed : int
        Seed of everything random; the same seed gives the same numbers.
    progress : bool
        Whether to show progress of long work.
    **options
        Of the method. All: ``starts`` of variational Laplace (a number, the prior mean and draws
        from the prior; or flat points, shape (starts, size); or ``"auto"``), whose best optimum
        counts (`Fit.modes` has all); SVI and NUTS start from it. ``"auto"`` starts at the prior
        mean and, only where what that finds is poor (it stopped while steps were short, or
        residuals follow what the model predicts at other parameters), at those draws from the prior
        that fit best; ``status["search"]`` of the fit says how many starts there were, why, what
        they gained, and what is still wrong. None, the default, is ``"auto"`` for `TaskDCM` with
        ``integrator="nonlinear"`` and 1 for all else.
        Laplace: ``max_iterations`` (128; 64 for programs with observer sites), ``derivatives``
        ("exact", or "one_sided" for SPM's differences), ``draws`` (1000, for predictions and
        diagnostics).
        SVI: ``guide`` ("full_rank", "mean_field", "low_rank", "laplace", "flow"), ``steps``
        (1000), ``learning_rate`` (0.02), ``particles`` (4), ``rank``, ``draws`` (1000). NUTS:
        ``chains`` (4), ``warmup`` (200; 400 with a metric to adapt), ``draws`` (750),
        ``target_accept`` (0.9), ``max_tree_depth`` (10), ``adapt_metric`` (False; True where
        observer sites can be integrated out), ``chain_method`` ("auto", "parallel",
        "vectorized").

    Returns
    -------
    Fit
        Posterior, evidence, trace, diagnostics.

    Raises
    ------
    TypeError
        If the model is neither a model nor a program, or an option has the wrong type.
    ValueError
        If the method or an option is not known, data and model disagree, or a program has no
        Gaussian observation of this package although Laplace was asked for.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     mean = numpyro.sample("mean", dist.Normal(0, 10))
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(mean + 0 * data, 0.0), obs=data)
    >>> round(float(bayesdcm.fit(program, np.array([1.0, 3.0])).mean["mean"]), 3)
    1.99
    """
    check_call(method, seed, progress, options)
    methods: dict[str, Callable[..., Fit]] = {
        "laplace": _fit_laplace,
        "svi": _fit_svi,
        "nuts": _fit_nuts,
    }
    run = methods[method]
    result = run(make_problem(model, data), seed=int(seed), progress=bool(progress), **options)
    result.status |= {"seed": int(seed), "options": plain_options(options)}
    return result


def check_call(method: Any, seed: Any, progress: Any, options: Mapping[str, Any]) -> None:
    """Refuse arguments of `fit` before anything is compiled.

    Parameters
    ----------
    method, seed, progress, options
        As in `fit`.

    Raises
    ------
    TypeError
        If one has the wrong type.
    ValueError
        If the method or an option is not known, or a value is out of range.
    """
    if not isinstance(method, str) or method not in OPTIONS:
        raise ValueError(f"method must be one of {', '.join(map(repr, OPTIONS))}, got {method!r}")
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be at least 0 and less than 2**63, got {seed}")
    if not isinstance(progress, bool | np.bool_):
        raise TypeError(f"progress must be True or False, got {progress!r}")
    _check_options(method, options)


def plain_options(value: Any) -> Any:
    """Options as JSON has them."""
    if isinstance(value, Mapping):
        return {name: plain_options(entry) for name, entry in value.items()}
    if isinstance(value, np.generic | np.ndarray | jax.Array | list | tuple):
        return np.asarray(value).tolist()
    return value


def _check_options(method: str, options: Mapping[str, Any]) -> None:
    """Refuse options before anything is compiled."""
    allowed = OPTIONS[method]
    for name, value in options.items():
        if name not in allowed:
            raise ValueError(
                f"{name!r} is not an option of method {method!r}; it takes "
                f"{', '.join(sorted(allowed))}"
            )
        _check_option(name, value, allowed[name])


def _check_option(name: str, value: Any, kind: Any) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if kind is int and not (number and isinstance(value, int | np.integer) and value >= 1):
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if kind is float and not (number and np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    if name == "target_accept" and not value < 1:
        raise ValueError(f"target_accept must be between 0 and 1, got {value!r}")
    if kind is bool and not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    if isinstance(kind, tuple) and not (isinstance(value, str) and value in kind):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, kind))}, got {value!r}")
    if name == "rank" and kind is None and value is not None:
        _check_option(name, value, int)


# What each method takes: a type, or the names to choose from; `starts` is checked with the model.
OPTIONS: dict[str, dict[str, Any]] = {
    "laplace": {
        "starts": object,
        "max_iterations": int,
        "derivatives": ("exact", "one_sided"),
        "draws": int,
    },
    "svi": {
        "starts": object,
        "guide": svi.GUIDES,
        "steps": int,
        "learning_rate": float,
        "particles": int,
        "rank": None,
        "draws": int,
    },
    "nuts": {
        "starts": object,
        "chains": int,
        "warmup": int,
        "draws": int,
        "target_accept": float,
        "max_tree_depth": int,
        "adapt_metric": bool,
        "chain_method": ("auto", "parallel", "vectorized"),
    },
}


# Variational Laplace


@partial(jax.jit, static_argnums=(0, 1))
def _centre(source: Any, sites: Layout, prepared: Any) -> jax.Array:
    return prior_centre(source.bind(prepared), sites)


SEARCH = "auto"


def searches(source: Any, starts: Any) -> bool:
    """Whether a poor optimum of the first start calls for others.

    Parameters
    ----------
    source : object
        Of a problem.
    starts : object
        As given; None leaves it to the model, whose attribute ``searches`` says so.

    Returns
    -------
    bool
        Never where starting points, or their number, are given.
    """
    if starts is None:
        return bool(getattr(getattr(source, "model", None), "searches", False))
    return isinstance(starts, str) and starts == SEARCH


def laplace_starts(problem: Problem, starts: Any, seed: int) -> NDArray:
    """Starting points, the prior mean first; it alone where others depend on what it finds."""
    centre = np.asarray(_centre(problem.source, problem.sites, problem.prepared))
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


def require_gaussian(problem: Problem) -> None:
    """Raise an error where variational Laplace cannot be used."""
    if problem.sites.foreign:
        raise ValueError(
            f"method 'laplace' needs Gaussian observations, but {problem.sites.foreign[0]!r} is "
            "observed with another distribution; use bayesdcm.observe.gaussian, or method='nuts'"
        )


def laplace_posterior(
    problem: Problem,
    starts: NDArray,
    max_iterations: int | None = None,
    derivatives: str = "exact",
) -> dict[str, Any]:
    """Run variational Laplace from all starts and keep the best.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    starts : ndarray
        Flat starting points, shape (starts, size).
    max_iterations : int, optional
        Iterations at most; as in SPM when None: 64 with observer sites, 128 without.
    derivatives : {"exact", "one_sided"}
        Of the prediction.

    Returns
    -------
    dict
        ``result`` (LaplaceResult as NumPy arrays), ``mean``, ``covariance`` over the flat
        vector, ``free_energies`` of all starts, and their results as ``optima``.
    """
    settings = laplace_settings(problem.sites, max_iterations, derivatives)
    return _best(
        problem, run_starts(problem.source, problem.sites, settings, problem.prepared, starts)
    )


def _best(problem: Problem, optima: LaplaceResult) -> dict[str, Any]:
    try:
        return best_optimum(optima)
    except ValueError as error:
        # A user's program may have other faults than its prediction.
        faults = invalid_distributions(problem.source.bind(problem.prepared))
        if not faults:
            raise
        raise ValueError("; ".join(faults)) from error


def find_optimum(
    problem: Problem,
    starts: Any,
    seed: int,
    max_iterations: int | None = None,
    derivatives: str = "exact",
) -> dict[str, Any]:
    """Run variational Laplace as the option ``starts`` of `fit` says, and keep the best.

    Parameters
    ----------
    problem, max_iterations, derivatives
        As in `laplace_posterior`.
    starts, seed
        As in `fit`.

    Returns
    -------
    dict
        As `laplace_posterior`, and ``search``, the record of a search or None.
    """
    points = laplace_starts(problem, starts, seed)
    settings = laplace_settings(problem.sites, max_iterations, derivatives)
    static = (problem.source, problem.sites, settings)
    found = Found(run_starts(*static, problem.prepared, points), None)
    if searches(problem.source, starts):
        found = search(static, problem.prepared, found.optima, points[0], seed)
    return _best(problem, found.optima) | {"search": found.record}


def _fit_laplace(
    problem: Problem,
    *,
    seed: int,
    progress: bool,
    starts: Any = None,
    max_iterations: int | None = None,
    derivatives: str = "exact",
    draws: int = 1000,
) -> Fit:
    del progress
    require_gaussian(problem)
    found = find_optimum(problem, starts, seed, max_iterations, derivatives)
    return laplace_fit(problem, found, seed, draws)


def laplace_fit(problem: Problem, found: dict[str, Any], seed: int, draws: int = 1000) -> Fit:
    """The result of variational Laplace.

    Parameters
    ----------
    problem : Problem
        What was inverted.
    found : dict
        From `find_optimum`, `laplace_posterior` or `best_optimum`.
    seed, draws : int
        Of the draws from the posterior.

    Returns
    -------
    Fit
        With its record.
    """
    result = found["result"]
    n = int(result.n_iterations)
    status = {
        "converged": bool(result.converged) and not bool(result.failed),
        "n_iterations": n,
        "recoveries": int(result.recoveries),
        "accuracy": float(result.accuracy),
        "complexity": float(result.complexity),
    }
    if found.get("search"):
        status["search"] = found["search"]
    if status["recoveries"]:
        logger.warning(
            "variational Laplace: the trajectory diverged %d time(s) and a shorter step was taken",
            status["recoveries"],
        )
    trace = {name: values[:n] for name, values in result.trace.items()}
    trace["starts_free_energy"] = found["free_energies"]
    posterior = FlatPosterior(
        gaussian=(found["mean"], found["covariance"]), n_draws=draws, seed=seed
    )
    evidence = float(result.free_energy)
    fit = Fit("laplace", evidence, trace, status, problem, posterior, problem.description)
    fit._optima = found["optima"]
    return fit


# Methods that start from variational Laplace


def _gaussian_start(
    problem: Problem, starts: Any, seed: int
) -> tuple[NDArray, NDArray, dict[str, Any] | None]:
    """Gaussian approximation to start from, and the record of the search for it, if any.

    The model's own, where it has a method ``gaussian_start(prepared)`` that gives mean and
    covariance over the flat vector; else variational Laplace, else the prior's moments.
    """
    own = getattr(getattr(problem.source, "model", None), "gaussian_start", None)
    if own is not None:
        if starts is not None and (np.ndim(starts) or starts != 1):
            raise ValueError(f"starts must be 1 for a model that has its own start, got {starts!r}")
        return *own(problem.prepared), None
    if not problem.sites.foreign:
        found = find_optimum(problem, starts, seed)
        return found["mean"], found["covariance"], found["search"]
    faults = invalid_distributions(problem.source.bind(problem.prepared))
    if faults:
        raise ValueError("; ".join(faults))
    draws = np.asarray(prior_sample(problem, PLAIN_START_DRAWS, seed))
    return draws.mean(0), np.diag(draws.var(0)), None


def _fit_svi(
    problem: Problem, *, seed: int, progress: bool, starts: Any = None, **options: Any
) -> Fit:
    centre, covariance, record = _gaussian_start(problem, starts, seed)
    found = svi.approximate(problem, centre, covariance, seed=seed, progress=progress, **options)
    posterior = FlatPosterior(draws=found.draws[None], log_q=found.log_q[None], seed=seed)
    status = {
        "converged": found.converged,
        "complete": found.complete,
        "guide": options.get("guide", "full_rank"),
    }
    if record:
        status["search"] = record
    return Fit("svi", found.elbo, found.trace, status, problem, posterior, problem.description)


def _fit_nuts(
    problem: Problem, *, seed: int, progress: bool, starts: Any = None, **options: Any
) -> Fit:
    centre, covariance, record = _gaussian_start(problem, starts, seed)
    found = nuts.sample(problem, centre, covariance, seed=seed, progress=progress, **options)
    posterior = FlatPosterior(
        draws=found.position, statistics=found.statistics, seed=seed, metric=covariance
    )
    diverging = int(found.statistics["diverging"].sum())
    r_hat = float(split_r_hat(found.position).max())
    status = {
        "converged": found.complete and not diverging and r_hat <= R_HAT_LIMIT,
        "complete": found.complete,
        "r_hat": r_hat,
        "divergences": diverging,
    }
    if record:
        status["search"] = record
    trace = {name: found.statistics[name] for name in ("lp", "n_steps", "diverging")}
    result = Fit("nuts", None, trace, status, problem, posterior, problem.description)
    if diverging:
        logger.warning("NUTS: %d trajectories diverged; see fit.diagnose()", diverging)
    return result
