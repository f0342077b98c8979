"""Variational Laplace from one or several starting points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

from bayesdcm.infer.conditional import conditional_laplace
from bayesdcm.infer.density import Layout
from bayesdcm.infer.laplace import LaplaceResult, variational_laplace
from bayesdcm.infer.threads import n_cores
from bayesdcm.integrate.step_derivative import many_directions


def has_stages(sites: Layout) -> bool:
    """Whether there are states to hold while the observer takes steps."""
    return 0 < sites.n_observer < sites.n_parameters


def laplace_settings(
    sites: Layout, max_iterations: int | None, derivatives: str
) -> tuple[int, str]:
    """Iterations at most, and kind of derivatives, as `laplace_posterior` takes them."""
    if max_iterations is None:
        max_iterations = 64 if has_stages(sites) else 128
    return max_iterations, derivatives


@partial(jax.jit, static_argnums=(0, 1, 2))
def run_laplace(
    source: Any, sites: Layout, settings: tuple[int, str], prepared: Any, starts: jax.Array
) -> LaplaceResult:
    """Variational Laplace from several starts, compiled once for a model and a shape.

    Parameters
    ----------
    source, sites, prepared
        As in `Problem`.
    settings : tuple
        From `laplace_settings`.
    starts : jax.Array
        Flat starting points, shape (starts, size).

    Returns
    -------
    LaplaceResult
        One row a start.
    """
    program = source.bind(prepared)
    invert = conditional_laplace if has_stages(sites) else variational_laplace

    def one(start: jax.Array) -> LaplaceResult:
        with many_directions():
            return invert(program, sites, start, *settings)

    if len(starts) == 1:
        return jax.tree.map(lambda leaf: leaf[None], one(starts[0]))
    return jax.vmap(one)(starts)


def run_starts(
    source: Any,
    sites: Layout,
    settings: tuple[int, str],
    prepared: Any,
    starts: jax.Array,
    workers: int | None = None,
) -> LaplaceResult:
    """`run_laplace` in the way that suits the device.

    On a CPU each start runs for itself, by the program that a single one needs: linear algebra of
    several matrices at once is slower there, and can wait for itself forever
    (`bayesdcm._configuration`).

    Parameters
    ----------
    source, sites, settings, prepared, starts
        As in `run_laplace`.
    workers : int, optional
        Threads on a CPU; as many as there are cores when None.

    Returns
    -------
    LaplaceResult
        NumPy arrays, one row a start.
    """

    def run(some: jax.Array) -> LaplaceResult:
        return jax.tree.map(np.asarray, run_laplace(source, sites, settings, prepared, some))

    if len(starts) == 1 or jax.default_backend() != "cpu":
        return run(starts)
    # The first compiles; the threads then only run.
    found = [run(starts[:1])]
    with ThreadPoolExecutor(workers or n_cores()) as pool:
        found.extend(pool.map(run, [starts[k : k + 1] for k in range(1, len(starts))]))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def best_optimum(found: LaplaceResult) -> dict[str, Any]:
    """The best of several optima; what `laplace_posterior` returns.

    Parameters
    ----------
    found : LaplaceResult
        NumPy arrays, one row a start.

    Returns
    -------
    dict
        See `laplace_posterior`.

    Raises
    ------
    ValueError
        If none is finite.
    """
    energies = np.where(found.failed, -np.inf, found.free_energy)
    if not np.isfinite(energies).any():
        raise ValueError(
            "the model's prediction is not finite at any starting point; check the data, and "
            "that the prior mean gives a stable model"
        )
    best = int(np.argmax(energies))
    result = jax.tree.map(lambda leaf: leaf[best], found)
    n, n_precision = len(result.mean), len(result.log_precision)
    covariance = np.zeros((n + n_precision,) * 2)
    covariance[:n, :n] = result.covariance
    covariance[n:, n:] = result.log_precision_covariance
    return {
        "result": result,
        "mean": np.concatenate([result.mean, result.log_precision]),
        "covariance": (covariance + covariance.T) / 2,
        "free_energies": energies,
        "optima": found,
    }
