"""The one door to inference: `fit`."""

from __future__ import annotations

from typing import Any

import numpy as np

# Methods are known once their modules have been imported.
from bayesdcm.infer import (  # noqa: F401
    amortised,
    evolution,
    gradient,
    nuts,
    svi,
    truncated_backpropagation,
    variational_bayes,
)
from bayesdcm.infer.batches import Task
from bayesdcm.infer.method import METHODS, Method, as_method
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem, make_problem
from bayesdcm.infer.results import Fit
from bayesdcm.infer.threads import single_threaded_linear_algebra
from bayesdcm.infer.variational_laplace import Laplace

# Of models that have none of their own.
DEFAULT = Laplace.name

__all__ = ["DEFAULT", "METHODS", "check_call", "chosen_method", "fit", "fit_of", "fit_problem"]


def fit(
    model: Any,
    data: Any,
    method: str | Method | None = None,
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
    method : str or Method, optional
        ``"laplace"`` (variational Laplace as in SPM), ``"svi"`` (stochastic variational
        inference), ``"nuts"``, ``"gradient"`` and ``"evolution"`` (the best point and no more, for
        a `bayesdcm.SimulationObjective`), ``"tbptt"`` (training of a `bayesdcm.RecurrentDCM`),
        ``"variational_bayes"`` (closed form, for a `bayesdcm.RegressionDCM`), ``"amortised"``
        (trained on simulations, for what has no density), the name of another method, or a method
        with its options, such as ``bayesdcm.NUTS(chains=2)``.
        None: the model's own, variational Laplace where it has none.
    seed : int
        Seed of everything random; the same seed gives the same numbers.
    progress : bool
        Whether to show progress of long work.
    **options
        Of the method: fields of `bayesdcm.infer.Laplace`, `bayesdcm.infer.SVI`,
        `bayesdcm.infer.NUTS`, `bayesdcm.infer.Gradient`, `bayesdcm.infer.Evolution`,
        `bayesdcm.infer.TruncatedBackpropagation`, `bayesdcm.infer.VariationalBayes` and
        `bayesdcm.infer.AmortisedPosterior`.

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
        Gaussian observation of this package although the method needs one.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     mean = numpyro.sample("mean", dist.Normal(0, 10))
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(mean + 0 * data, 0.0), obs=data)
    >>> round(float(bayesdcm.fit(program, np.array([1.0, 3.0])).mean["mean"]), 3)
    1.99
    """
    asked = chosen_method(model, method, options)
    check_call(seed, progress)
    return fit_problem(make_problem(model, data), asked, seed=seed, progress=progress)


@single_threaded_linear_algebra()
def fit_problem(
    problem: Problem,
    method: str | Method = DEFAULT,
    *,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Fit:
    """Infer the parameters of a problem, as `fit` does those of a model with data."""
    asked = as_method(method, options)
    check_call(seed, progress)
    asked.require(problem)
    task = Task(problem, asked, int(seed))
    return fit_of(task, asked.run(problem, task.seed, bool(progress)))


def fit_of(task: Task, posterior: Posterior) -> Fit:
    """The fit that a task has given, with its seed and options in the status."""
    fit = Fit(task.problem, posterior)
    fit.status |= {"seed": task.seed, "options": task.method.options(), **task.notes}
    return fit


def chosen_method(model: Any, method: Any, options: dict[str, Any]) -> Method:
    """A method with its options; that of a model, its attribute ``method``, where none is given."""
    if method is None:
        usual = (known for known in METHODS.values() if known.is_usual_for(model))
        method = getattr(model, "method", None) or next((known.name for known in usual), DEFAULT)
    return as_method(method, options)


def check_call(seed: Any, progress: Any) -> None:
    """Refuse a seed or progress that `fit` does not take, before anything is compiled."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be at least 0 and less than 2**63, got {seed}")
    if not isinstance(progress, bool | np.bool_):
        raise TypeError(f"progress must be True or False, got {progress!r}")
