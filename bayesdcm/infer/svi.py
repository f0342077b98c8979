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
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ClassVar, NamedTuple

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

from bayesdcm._configuration import COMPILED_ONCE
from bayesdcm.infer.density import Layout, log_joint
from bayesdcm.infer.evaluation import joint_densities
from bayesdcm.infer.findings import add
from bayesdcm.infer.method import (
    Method,
    one_of,
    option,
    positive_integer,
    positive_number,
    several,
    switch,
)
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.surrogate import (
    Surrogate,
    Weights,
    find_surrogate,
    surrogate_log_joint,
)
from bayesdcm.infer.tail_shape import check_approximation
from bayesdcm.infer.traced_programs import garbage_left
from bayesdcm.infer.variational_laplace import gaussian_start, starts_option

logger = logging.getLogger("bayesdcm")

BLOCK = 50
GUIDES: dict[str, tuple[type[autoguide.AutoGuide], dict[str, Any]]] = {
    "mean_field": (autoguide.AutoNormal, {"init_scale": 1.0}),
    "full_rank": (autoguide.AutoMultivariateNormal, {"init_scale": 1.0}),
    "low_rank": (autoguide.AutoLowRankMultivariateNormal, {"init_scale": 1.0}),
    "laplace": (autoguide.AutoLaplaceApproximation, {}),
    "flow": (autoguide.AutoIAFNormal, {"num_flows": 2, "hidden_dims": [32]}),
}


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
    surrogate : bool
        Whether the guide is fitted to a surrogate of the density (`bayesdcm.infer.surrogate`) where
        there is one. The bound of the fitted guide is that of the density itself all the same;
        where the two differ by half a nat, the guide is fitted again, to the density.

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
    draws: int = option(1000, several, words="Draws of the approximation.", shell=True)
    surrogate: bool = option(
        True, switch, words="Whether guides may be fitted to a surrogate of the density."
    )

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Fit a guide, as `Method.run`; interrupted, with the steps it has done."""
        centre, covariance, _, search = gaussian_start(problem, self.starts, seed, progress)
        surrogate = find_surrogate(problem, centre, covariance, seed) if self.surrogate else None
        factor = _coordinates(covariance, self.guide)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance)) @ factor
        fitted = self._fit(problem, centre, factor, whiten, surrogate, seed, progress)
        if surrogate is not None and not fitted.faithful:
            surrogate = None
            fitted = self._fit(problem, centre, factor, whiten, surrogate, seed, progress)
        elbo, (flat, log_q, joint) = fitted.elbo, fitted.draws
        finite = np.isfinite(joint)
        status = {
            "converged": _settled(elbo),
            "complete": fitted.complete,
            "guide": self.guide,
            "surrogate": {"used": surrogate is not None},
        }
        # Draws at which the model diverges would make the bound -inf: it is that of the guide
        # without them, whose density is larger elsewhere.
        share = finite.mean()
        bound = (joint - log_q)[finite].mean() + np.log(share) if share else np.nan
        if share < 1:
            status["diverging_draws"] = int((~finite).sum())
        return Posterior(
            self,
            draws=flat[None],
            log_q=log_q[None],
            seed=seed,
            log_evidence=float(bound),
            trace={"elbo": elbo},
            status=status | ({"search": search} if search else {}),
        )

    def _fit(
        self,
        problem: Problem,
        centre: NDArray,
        factor: NDArray,
        whiten: NDArray,
        surrogate: Surrogate | None,
        seed: int,
        progress: bool,
    ) -> _Fitted:
        n_blocks = -(-self.steps // BLOCK)
        static = _Static(
            problem.source,
            problem.sites,
            self.guide,
            self.rank,
            self.particles,
            n_blocks * BLOCK,
            self.learning_rate,
            surrogate is not None,
        )
        weights = surrogate.weights if surrogate else None
        arrays = (jnp.asarray(array) for array in (centre, factor, whiten))
        given = _Given(problem.prepared, *arrays, weights)
        key, keys = _keys(seed, self.draws)
        losses = []
        with Progress("SVI", static.steps, "step", progress) as shown:
            state = _start(static, given, key)
            try:
                for _ in range(n_blocks):
                    state, loss = jax.block_until_ready(_block(static, given, key, state))
                    losses.append(np.asarray(loss))
                    shown.advance(BLOCK)
            except KeyboardInterrupt:
                done = len(losses) * BLOCK
                logger.warning("SVI was stopped after %d of %d steps", done, self.steps)
                if not losses:
                    raise
        flat, log_q = map(np.asarray, _draw(static, given, key, state, keys))
        draws = flat, log_q, joint_densities(problem, flat)
        return _Fitted(-np.concatenate(losses), draws, len(losses) == n_blocks)

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


class _Fitted(NamedTuple):
    """A fitted guide: bounds of steps; draws, their density, and the log joint density there."""

    elbo: NDArray
    draws: tuple[NDArray, NDArray, NDArray]
    complete: bool

    @property
    def faithful(self) -> bool:
        """Whether the last bounds are those of the density itself, to half a nat."""
        _, log_q, joint = self.draws
        gap = joint - log_q
        last = self.elbo[-BLOCK:]
        noise = np.hypot(gap.std() / np.sqrt(len(gap)), last.std() / np.sqrt(len(last)))
        return bool(abs(gap.mean() - last.mean()) < 0.5 + 3 * noise)


class _Static(NamedTuple):
    """What compiled code depends on."""

    source: Any
    sites: Layout
    guide: str
    rank: int | None
    particles: int
    steps: int
    learning_rate: float
    surrogate: bool


class _Given(NamedTuple):
    """Data, and the coordinates of the guide: a centre and a lower triangular map.

    `whiten` maps them to those in which the Gaussian approximation is a standard normal.
    """

    prepared: Any
    centre: jax.Array
    factor: jax.Array
    whiten: jax.Array
    surrogate: Weights | None


def _svi(static: _Static, given: _Given) -> infer.SVI:
    size = static.sites.size

    def program() -> None:
        z = numpyro.sample("z", dist.ImproperUniform(constraints.real_vector, (), (size,)))
        flat = given.centre + given.factor @ z
        source, sites, prepared = static.source, static.sites, given.prepared
        if static.surrogate:
            approximate = surrogate_log_joint(
                source, sites, prepared, given.centre, given.surrogate
            )
            value = approximate(flat, given.whiten @ z)
        else:
            value = log_joint(source.bind(prepared), sites, flat)
        volume = jnp.log(jnp.diagonal(given.factor)).sum()
        # A trajectory that diverged has no density; a finite floor keeps the gradient usable.
        numpyro.factor("joint", jnp.maximum(value + volume, -1e10))

    make, options = GUIDES[static.guide]
    if static.guide == "low_rank":
        options = options | {"rank": static.rank}
    guide = make(program, init_loc_fn=init_to_value(values={"z": jnp.zeros(size)}), **options)
    schedule = optax.cosine_decay_schedule(static.learning_rate, static.steps, alpha=0.01)
    loss = Trace_ELBO(num_particles=1 if static.guide == "laplace" else static.particles)
    return infer.SVI(program, guide, optax.adam(schedule), loss)


_tracing = threading.Lock()


def _compiled(function: Callable, options: dict[str, Any] | None = None) -> Callable:
    """A compiled function of `_Static` and arrays."""

    # The guide's constants are sound, and each check of one would be a program; those of the model
    # were checked when it was bound to data.
    @wraps(function)
    def unchecked(*arguments: Any) -> Any:
        # The switch is the process's: two threads that trace would leave it off.
        with _tracing, numpyro.validation_enabled(False):
            return function(*arguments)

    return garbage_left()(jax.jit(unchecked, static_argnums=0, compiler_options=options))


@partial(jax.jit, static_argnums=1, compiler_options=COMPILED_ONCE)
def _keys(seed: int, draws: int) -> tuple[jax.Array, jax.Array]:
    """Keys of the steps, and of each draw."""
    key, sampling = jax.random.split(jax.random.key(seed))
    return key, jax.random.split(sampling, draws)


@partial(_compiled, options=COMPILED_ONCE)
def _start(static: _Static, given: _Given, key: jax.Array) -> Any:
    return _svi(static, given).init(key)


@_compiled
def _block(static: _Static, given: _Given, key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
    svi = _svi(static, given)
    # The guide's prototype is built by init; its result is unused.
    svi.init(key)

    def step(state: Any, _: None) -> tuple:
        return svi.stable_update(state)

    return jax.lax.scan(step, state, length=BLOCK)


@partial(_compiled, options=COMPILED_ONCE)
def _draw(
    static: _Static, given: _Given, key: jax.Array, state: Any, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws of the fitted guide, and their density."""
    svi = _svi(static, given)
    svi.init(key)
    parameters = svi.get_params(state)

    if static.guide == "laplace":
        posterior = svi.guide.get_posterior(parameters)

        def draw(key: jax.Array) -> tuple:
            z = posterior.sample(key)
            return z, posterior.log_prob(z)
    else:

        def draw(key: jax.Array) -> tuple:
            seeded = numpyro.handlers.seed(svi.guide, key)
            substituted = numpyro.handlers.substitute(seeded, data=parameters)
            sites = numpyro.handlers.trace(substituted).get_trace()
            latent = {n: s["value"] for n, s in sites.items() if s["type"] == "sample"}
            log_q, _ = log_density(svi.guide, (), {}, {**parameters, **latent})
            return latent["z"], log_q

    z, log_q = jax.vmap(draw)(keys)
    flat = given.centre + z @ given.factor.T
    return flat, log_q - jnp.log(jnp.diagonal(given.factor)).sum()


def _coordinates(covariance: NDArray, guide: str) -> NDArray:
    """Linear map from the guide's coordinates, lower triangular, (size, size)."""
    if guide in ("mean_field", "low_rank"):
        return np.diag(1 / np.sqrt(np.diagonal(np.linalg.inv(covariance))))
    return np.linalg.cholesky(covariance)


def _settled(elbo: NDArray) -> bool:
    """Whether the two halves of the last quarter differ by less than their noise, or 0.5 nat."""
    last = elbo[-max(len(elbo) // 4, 2) :]
    if not np.isfinite(last).all():
        return False
    first, second = np.array_split(last, 2)
    noise = np.hypot(first.std() / np.sqrt(len(first)), second.std() / np.sqrt(len(second)))
    return bool(abs(second.mean() - first.mean()) < max(3 * noise, 0.5))
