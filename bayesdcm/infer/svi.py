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
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpy.typing import NDArray
from numpyro import infer
from numpyro.distributions import constraints
from numpyro.infer import Trace_ELBO, autoguide, init_to_value
from numpyro.infer.util import log_density

from bayesdcm.infer.density import Layout, log_joint
from bayesdcm.infer.findings import add
from bayesdcm.infer.method import Method, one_of, option, positive_integer, positive_number
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.tail_shape import check_approximation
from bayesdcm.infer.threads import map_rows
from bayesdcm.infer.variational_laplace import gaussian_start, starts_option

logger = logging.getLogger("bayesdcm")

BLOCK = 50
GUIDES = ("mean_field", "full_rank", "low_rank", "laplace", "flow")


@dataclass(frozen=True, kw_only=True, eq=False)
class SVI(Method):
    """Stochastic variational inference, started from variational Laplace.

    Parameters
    ----------
    starts : int, array_like, "auto" or None
        Of variational Laplace, see `Laplace`.
    guide : {"full_rank", "mean_field", "low_rank", "laplace", "flow"}
        A multivariate normal, independent normals, a normal of low rank plus diagonal, the Laplace
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

    Examples
    --------
    >>> SVI(guide="flow").options()
    {'guide': 'flow'}
    """

    name: ClassVar[str] = "svi"
    title: ClassVar[str] = "stochastic variational inference"
    citations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Hoffman MD, Blei DM, Wang C, Paisley J (2013). Stochastic variational inference. "
            "Journal of Machine Learning Research 14:1303-1347.",
            "https://jmlr.org/papers/v14/hoffman13a.html",
        ),
    )
    evidence: ClassVar[str | None] = "elbo"

    starts: Any = starts_option()
    guide: str = option("full_rank", one_of(*GUIDES), words="Approximating family.", shell=True)
    steps: int = option(1000, positive_integer, words="Optimisation steps.", shell=True)
    learning_rate: float = option(0.02, positive_number, words="Initial learning rate.")
    particles: int = option(4, positive_integer, words="Draws that each step averages.")
    rank: int | None = option(None, positive_integer, words="Rank of the guide low_rank.")
    draws: int = option(1000, positive_integer, words="Draws of the approximation.", shell=True)

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Fit a guide to the posterior of a problem, as `Method.run`."""
        centre, covariance, search = gaussian_start(problem, self.starts, seed)
        posterior = _approximate(self, problem, centre, covariance, seed, progress)
        if search:
            posterior.status["search"] = search
        return posterior

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """Drift of the bound, and the approximation, as `Method.check`."""
        if not facts["converged"]:
            add(
                problems,
                "not converged",
                "The evidence lower bound was still drifting over the last quarter of the steps. "
                "Raise steps, or lower learning_rate.",
            )
        check_approximation(fit, "variational", ", or raise draws", problems, facts)


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
) -> tuple[infer.SVI, autoguide.AutoGuide]:
    name, rank, particles, steps, learning_rate = settings
    program = partial(_flat_program, source, sites, prepared, centre, factor)
    guide = _guide(name, program, sites.size, rank)
    schedule = optax.cosine_decay_schedule(learning_rate, steps, alpha=0.01)
    loss = Trace_ELBO(num_particles=1 if name == "laplace" else particles)
    return infer.SVI(program, guide, optax.adam(schedule), loss), guide


@partial(jax.jit, static_argnums=(0, 1, 2))
def _start(source: Any, sites: Layout, settings: tuple, key: jax.Array, *given: Any) -> Any:
    svi, _ = _svi(source, sites, settings, *given)
    return svi.init(key)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _block(
    source: Any, sites: Layout, settings: tuple, key: jax.Array, state: Any, *given: Any
) -> tuple[Any, jax.Array]:
    svi, _ = _svi(source, sites, settings, *given)
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
    *given: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws of the fitted guide, their density, and the log joint density there."""
    svi, guide = _svi(source, sites, settings, *given)
    svi.init(key)
    parameters = svi.get_params(state)
    prepared, centre, factor = given

    if settings[0] == "laplace":
        posterior = guide.get_posterior(parameters)

        def draw(key: jax.Array) -> tuple:
            z = posterior.sample(key)
            return z, posterior.log_prob(z)
    else:

        def draw(key: jax.Array) -> tuple:
            seeded = numpyro.handlers.seed(guide, key)
            traced = numpyro.handlers.trace(
                numpyro.handlers.substitute(seeded, data=parameters)
            ).get_trace()
            latent = {n: s["value"] for n, s in traced.items() if s["type"] == "sample"}
            log_q, _ = log_density(guide, (), {}, {**parameters, **latent})
            return latent["z"], log_q

    z, log_q = jax.vmap(draw)(keys)
    flat = centre + z @ factor.T
    program = source.bind(prepared)
    joint = map_rows(lambda v: log_joint(program, sites, v), flat, at_most=32)
    return flat, log_q - jnp.log(jnp.diagonal(factor)).sum(), joint


def _approximate(
    method: SVI,
    problem: Problem,
    centre: NDArray,
    covariance: NDArray,
    seed: int,
    progress: bool,
) -> Posterior:
    """The guide, fitted from a Gaussian approximation; interrupted, with the steps it has done."""
    guide, steps = method.guide, method.steps
    n_blocks = -(-steps // BLOCK)
    settings = (guide, method.rank, method.particles, n_blocks * BLOCK, method.learning_rate)
    static = (problem.source, problem.sites, settings)
    given = (problem.prepared, jnp.asarray(centre), _coordinates(covariance, guide))
    key, sampling = jax.random.split(jax.random.key(seed))
    losses = []
    with Progress("SVI", n_blocks * BLOCK, "step", progress) as shown:
        state = _start(*static, key, *given)
        try:
            for _ in range(n_blocks):
                state, loss = jax.block_until_ready(_block(*static, key, state, *given))
                losses.append(np.asarray(loss))
                shown.advance(BLOCK)
        except KeyboardInterrupt:
            logger.warning("SVI was stopped after %d of %d steps", len(losses) * BLOCK, steps)
            if not losses:
                raise
    keys = jax.random.split(sampling, method.draws)
    flat, log_q, joint = map(np.asarray, _draw(*static, key, state, keys, *given))
    elbo = -np.concatenate(losses)
    finite = np.isfinite(joint)
    bound = float((joint - log_q)[finite].mean()) if finite.any() else float("nan")
    return Posterior(
        method,
        draws=flat[None],
        log_q=log_q[None],
        seed=seed,
        log_evidence=bound,
        trace={"elbo": elbo},
        status={
            "converged": _settled(elbo),
            "complete": len(losses) == n_blocks,
            "guide": guide,
        },
    )


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
