"""Variational Laplace from one starting point, and the best of several optima."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.infer.conditional import conditional_laplace
from bayesdcm.infer.density import Layout
from bayesdcm.infer.laplace import LaplaceResult, variational_laplace
from bayesdcm.infer.problem import normal_prior
from bayesdcm.infer.threads import on_one_thread
from bayesdcm.infer.traced_programs import traced_once

# Threads bring little to inversions in stages, of evoked responses, of so few: 71 parameters took
# 0.41 s by the clock with two threads instead of 0.43 s, but 0.51 s of their time. Other programs
# have large matrices, whatever the number of their parameters.
FEW_PARAMETERS = 100


def has_stages(sites: Layout) -> bool:
    """Whether there are states to hold while the observer takes steps."""
    return 0 < sites.n_observer < sites.n_parameters


def laplace_settings(
    sites: Layout, max_iterations: int | None, derivatives: str
) -> tuple[int, str]:
    """Iterations at most, and kind of derivatives, as `run_laplace` takes them."""
    if max_iterations is None:
        max_iterations = 64 if has_stages(sites) else 128
    return max_iterations, derivatives


def _options(source: Any, sites: Layout, settings: tuple[int, str]) -> dict | None:
    few = has_stages(sites) and sites.n_parameters <= FEW_PARAMETERS
    return on_one_thread() if few else None


@traced_once(3, _options)
def run_laplace(
    source: Any, sites: Layout, settings: tuple[int, str], prepared: Any, start: jax.Array
) -> LaplaceResult:
    """Variational Laplace from one start, compiled once for a model and a shape.

    Parameters
    ----------
    source, sites, prepared
        As in `Problem`.
    settings : tuple
        From `laplace_settings`.
    start : jax.Array
        Flat starting point, shape (size,).

    Returns
    -------
    LaplaceResult
        The optimum.
    """
    program = source.bind(prepared)
    if has_stages(sites):
        return conditional_laplace(program, sites, start, *settings)
    normal = normal_prior(source, sites, prepared, jnp)
    return variational_laplace(program, sites, start, *settings, normal)


def best_optimum(optima: LaplaceResult) -> dict[str, Any]:
    """The best of several optima.

    Parameters
    ----------
    optima : LaplaceResult
        NumPy arrays, one row a start.

    Returns
    -------
    dict
        ``result`` (LaplaceResult), ``mean`` and ``covariance`` over the flat vector,
        ``free_energies`` of all starts, and their results as ``optima``.

    Raises
    ------
    ValueError
        If none is finite.
    """
    energies = np.where(optima.failed, -np.inf, optima.free_energy)
    if not np.isfinite(energies).any():
        raise ValueError(
            "the model's prediction is not finite at any starting point; check the data, and "
            "that the prior mean gives a stable model"
        )
    best = int(np.argmax(energies))
    result = jax.tree.map(lambda leaf: leaf[best], optima)
    n, n_precision = len(result.mean), len(result.log_precision)
    covariance = np.zeros((n + n_precision,) * 2)
    covariance[:n, :n] = result.covariance
    covariance[n:, n:] = result.log_precision_covariance
    return {
        "result": result,
        "mean": np.concatenate([result.mean, result.log_precision]),
        "covariance": (covariance + covariance.T) / 2,
        "free_energies": energies,
        "optima": optima,
    }
