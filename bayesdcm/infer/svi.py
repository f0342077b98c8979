"""Stochastic variational inference with NumPyro's automatic guides.

The guides work on the flat, unconstrained vector in coordinates of a Gaussian approximation.
Guides that can express any linear map of their coordinates (a full-rank normal, Laplace, a flow)
get whitened coordinates; the others (independent, or low rank) have each coordinate scaled by
its conditional standard deviation. Neither changes the family, and one learning rate serves all
parameters.

References
----------
.. [1] Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), J Mach Learn Res 18(14):1.
       https://jmlr.org/papers/v18/16-107.html
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpy.typing import NDArray
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_value
from numpyro.infer.util import log_density
from tqdm.auto import tqdm

from bayesdcm.infer.density import Layout, log_joint
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.threads import map_rows

logger = logging.getLogger("bayesdcm")

BLOCK = 50
GUIDES = ("mean_field", "full_rank", "low_rank", "laplace", "flow")


class Approximation(NamedTuple):
    """A fitted guide.

    Attributes
    ----------
    draws : (draws, size)
        Flat, unconstrained draws of the guide.
    log_q : (draws,)
        Log-density of the guide at the draws.
    elbo : ()
        Evidence lower bound, in nats.
    trace : dict
        ``elbo`` (steps,), one noisy estimate a step.
    converged : bool
        Whether the last quarter of the trace shows no drift.
    complete : bool
        Whether all steps were done.
    """

    draws: NDArray
    log_q: NDArray
    elbo: float
    trace: dict[str, NDArray]
    converged: bool
    complete: bool


def _flat_program(
    source: Any,
    sites: Layout,
    prepared: Any,
    centre: jax.Array,
    factor: jax.Array,
) -> None:
    unit = dist.ImproperUniform(constraints.real_vector, (), (sites.size,))
    z = numpyro.sample("z", unit)
    value = log_joint(source.bind(prepared), sites, centre + factor @ z)
    volume = jnp.log(jnp.diagonal(factor)).sum()
    # A trajectory that diverged has no density; a finite floor keeps the gradient usable.
    numpyro.factor("joint", jnp.maximum(value + volume, -1e10))


def _guide(name: str, program: Any, size: int, rank: int | None) -> autoguide.AutoGuide:
    common = {"init_loc_fn": init_to_value(values={"z": jnp.zeros(size)})}
    if name == "mean_field":
        return autoguide.AutoNormal(program, init_scale=1.0, **common)
    if name == "full_rank":
        return autoguide.AutoMultivariateNormal(program, init_scale=1.0, **common)
    if name == "low_rank":
        return autoguide.AutoLowRankMultivariateNormal(program, init_scale=1.0, rank=rank, **common)
    if name == "laplace":
        return autoguide.AutoLaplaceApproximation(program, **common)
    return autoguide.AutoIAFNormal(program, num_flows=2, hidden_dims=[32], **common)


def _svi(
    source: Any,
    sites: Layout,
    settings: tuple,
    prepared: Any,
    centre: jax.Array,
    factor: jax.Array,
) -> tuple[SVI, autoguide.AutoGuide]:
    name, rank, particles, steps, learning_rate = settings
    program = partial(_flat_program, source, sites, prepared, centre, factor)
    guide = _guide(name, program, sites.size, rank)
    schedule = optax.cosine_decay_schedule(learning_rate, steps, alpha=0.01)
    loss = Trace_ELBO(num_particles=1 if name == "laplace" else particles)
    return SVI(program, guide, optax.adam(schedule), loss), guide


@partial(jax.jit, static_argnums=(0, 1, 2))
def _start(source: Any, sites: Layout, settings: tuple, key: jax.Array, *rest: Any) -> Any:
    svi, _ = _svi(source, sites, settings, *rest)
    return svi.init(key)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _block(
    source: Any, sites: Layout, settings: tuple, key: jax.Array, state: Any, *rest: Any
) -> tuple[Any, jax.Array]:
    svi, _ = _svi(source, sites, settings, *rest)
    # The guide's prototype is built by init; its result is unused.
    svi.init(key)

    def step(state: Any, _: None) -> tuple:
        return svi.stable_update(state)

    return jax.lax.scan(step, state, length=BLOCK)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(
    source: Any,
    sites: Layout,
    settings: tuple,
    key: jax.Array,
    state: Any,
    keys: jax.Array,
    *rest: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws of the fitted guide, their density, and the log joint density there."""
    svi, guide = _svi(source, sites, settings, *rest)
    svi.init(key)
    parameters = svi.get_params(state)
    prepared, centre, factor = rest

    if settings[0] == "laplace":
        posterior = guide.get_posterior(parameters)

        def one(key: jax.Array) -> tuple:
            z = posterior.sample(key)
            return z, posterior.log_prob(z)
    else:

        def one(key: jax.Array) -> tuple:
            seeded = numpyro.handlers.seed(guide, key)
            found = numpyro.handlers.trace(
                numpyro.handlers.substitute(seeded, data=parameters)
            ).get_trace()
            latent = {n: s["value"] for n, s in found.items() if s["type"] == "sample"}
            log_q, _ = log_density(guide, (), {}, {**parameters, **latent})
            return latent["z"], log_q

    z, log_q = jax.vmap(one)(keys)
    flat = centre + z @ factor.T
    program = source.bind(prepared)
    joint = map_rows(lambda v: log_joint(program, sites, v), flat, at_most=32)
    return flat, log_q - jnp.log(jnp.diagonal(factor)).sum(), joint


def approximate(
    problem: Problem,
    centre: NDArray,
    covariance: NDArray,
    *,
    seed: int,
    progress: bool,
    guide: str = "full_rank",
    steps: int = 1000,
    learning_rate: float = 0.02,
    particles: int = 4,
    rank: int | None = None,
    draws: int = 1000,
) -> Approximation:
    """Fit a guide to the posterior of a problem.

    Parameters
    ----------
    problem : Problem
        The program bound to data.
    centre, covariance : ndarray
        Gaussian approximation to start from, (size,) and (size, size).
    seed : int
        Seed of all draws.
    progress : bool
        Whether to show a progress bar.
    guide : {"mean_field", "full_rank", "low_rank", "laplace", "flow"}
        Independent normals, a multivariate normal, one of low rank plus diagonal, the Laplace
        approximation at the optimum, or an inverse autoregressive flow.
    steps : int
        Optimisation steps, rounded up to blocks of 50.
    learning_rate : float
        Initial learning rate of Adam, in standard deviations; it decays by a cosine to 1 %.
    particles : int
        Draws that each step averages.
    rank : int, optional
        Rank of ``"low_rank"``; NumPyro's default (the square root of the size) when None.
    draws : int
        Draws of the fitted guide.

    Returns
    -------
    Approximation
        Draws, bound and trace. A run that is interrupted keeps the steps it has done.

    Raises
    ------
    ValueError
        If `guide` is not known.
    """
    if guide not in GUIDES:
        raise ValueError(f"guide must be one of {', '.join(map(repr, GUIDES))}, got {guide!r}")
    n_blocks = -(-steps // BLOCK)
    settings = (guide, rank, particles, n_blocks * BLOCK, learning_rate)
    static = (problem.source, problem.sites, settings)
    given = (problem.prepared, jnp.asarray(centre), _coordinates(covariance, guide))
    key, sampling = jax.random.split(jax.random.key(seed))
    losses = []
    bar = tqdm(total=n_blocks * BLOCK, desc="SVI", unit="step", disable=not progress, leave=False)
    state = _start(*static, key, *given)
    with bar:
        try:
            for _ in range(n_blocks):
                state, loss = jax.block_until_ready(_block(*static, key, state, *given))
                losses.append(np.asarray(loss))
                bar.update(BLOCK)
        except KeyboardInterrupt:
            logger.warning("SVI was stopped after %d of %d steps", len(losses) * BLOCK, steps)
            if not losses:
                raise
    keys = jax.random.split(sampling, draws)
    flat, log_q, joint = map(np.asarray, _draw(*static, key, state, keys, *given))
    elbo = -np.concatenate(losses)
    finite = np.isfinite(joint)
    bound = float((joint - log_q)[finite].mean()) if finite.any() else float("nan")
    complete = len(losses) == n_blocks
    return Approximation(flat, log_q, bound, {"elbo": elbo}, _settled(elbo), complete)


def _coordinates(covariance: NDArray, guide: str) -> jax.Array:
    """Linear map from the guide's coordinates, lower triangular, (size, size)."""
    if guide in ("mean_field", "low_rank"):
        conditional = 1 / np.sqrt(np.diagonal(np.linalg.inv(covariance)))
        return jnp.diag(jnp.asarray(conditional))
    return jnp.linalg.cholesky(jnp.asarray(covariance))


def _settled(elbo: NDArray) -> bool:
    """Whether the two halves of the last quarter differ by less than their noise, or 0.5 nat."""
    last = elbo[-max(len(elbo) // 4, 2) :]
    if not np.isfinite(last).all():
        return False
    first, second = np.array_split(last, 2)
    noise = np.hypot(first.std() / np.sqrt(len(first)), second.std() / np.sqrt(len(second)))
    return bool(abs(second.mean() - first.mean()) < max(3 * noise, 0.5))
