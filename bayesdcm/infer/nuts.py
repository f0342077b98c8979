"""NUTS, started from and preconditioned by a Gaussian approximation of the posterior.

The sampler is NumPyro's. It runs in coordinates in which the variational-Laplace posterior is a
standard normal, which is the same as a dense metric from its covariance: trajectories then need
few steps. Observer sites that are normal given all others are integrated out, and drawn at each
iteration. Chains advance in blocks, so that progress can be shown and a run that is stopped
keeps its finished draws; on a CPU they run on as many threads as there are cores, on a GPU as
one batch.

References
----------
.. [1] Hoffman and Gelman (2014), J Mach Learn Res 15:1593.
       https://jmlr.org/papers/v15/hoffman14a.html
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.infer.hmc import HMCState, hmc
from numpyro.infer.hmc_util import HMCAdaptState, build_adaptation_schedule
from scipy.linalg import solve_triangular

from bayesdcm._configuration import COMPILED_ONCE
from bayesdcm.infer.collapsed import Marginal, Split, collapsible, marginal
from bayesdcm.infer.convergence import chain_status, check_chains
from bayesdcm.infer.density import Layout, log_joint
from bayesdcm.infer.method import Method, one_of, option, positive_integer, probability, switch
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.threads import n_cores
from bayesdcm.infer.traced_programs import keep_class, traced_once
from bayesdcm.infer.variational_laplace import gaussian_start, starts_option

logger = logging.getLogger("bayesdcm")

BLOCK = 25
# Starts are drawn from the Gaussian approximation widened by this factor.
DISPERSION = 1.5
# Nearer where the log density there is lower by so many nats a coordinate (about 1 where it is
# Gaussian): steps that suit such places are too short to leave them.
FAR, HALVINGS = 10.0, 8
STATISTICS = ("energy", "num_steps", "accept_prob", "diverging")


@dataclass(frozen=True, kw_only=True, eq=False)
class NUTS(Method):
    """NUTS, started from and preconditioned by variational Laplace.

    Parameters
    ----------
    starts : int, array_like, "auto" or None
        Of variational Laplace, see `Laplace`.
    chains : int
        Chains.
    warmup : int, optional
        Iterations of each chain before adaptation ends, rounded up to blocks of 25. None: 200, or
        400 where a metric is adapted.
    draws : int
        Kept iterations of each chain.
    target_accept : float
        Acceptance rate that the step size aims at.
    max_tree_depth : int
        Longest trajectory, ``2**depth - 1`` steps.
    adapt_metric : bool, optional
        Adapt a dense metric on top of the Gaussian approximation. None: where observer sites are
        integrated out, since the approximation was made with them, and where sites are not
        centred (`bayesdcm.HorseshoePrior`), of which it says little.
    chain_method : {"auto", "parallel", "vectorized"}
        Threads (one chain each), or one batch. ``"auto"``: threads on a CPU, batch elsewhere.

    Examples
    --------
    >>> NUTS(chains=2, draws=500).options()
    {'chains': 2, 'draws': 500}
    """

    name: ClassVar[str] = "nuts"
    title: ClassVar[str] = "NUTS (Hamiltonian Monte Carlo)"
    citations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Hoffman MD, Gelman A (2014). The No-U-Turn Sampler. Journal of Machine Learning "
            "Research 15:1593-1623.",
            "https://jmlr.org/papers/v15/hoffman14a.html",
        ),
        (
            "Vehtari A, Gelman A, Simpson D, Carpenter B, Bürkner P-C (2021). Rank-normalization, "
            "folding, and localization: an improved R-hat. Bayesian Analysis 16:667-718.",
            "https://doi.org/10.1214/20-BA1221",
        ),
    )
    exact: ClassVar[bool] = True

    starts: Any = starts_option()
    chains: int = option(4, positive_integer, words="Chains.", shell=True)
    warmup: int | None = option(
        None, positive_integer, words="Warm-up iterations of each chain.", shell=True
    )
    draws: int = option(750, positive_integer, words="Draws kept of each chain.", shell=True)
    target_accept: float = option(0.9, probability, words="Acceptance rate to aim at.", shell=True)
    max_tree_depth: int = option(10, positive_integer, words="Longest trajectory, log2 of steps.")
    adapt_metric: bool | None = option(None, switch, words="Whether to adapt a dense metric.")
    chain_method: str = option(
        "auto", one_of("auto", "parallel", "vectorized"), words="Chains as threads, or as a batch."
    )

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Draw from the posterior of a problem, as `Method.run`."""
        centre, covariance, modes, search = gaussian_start(problem, self.starts, seed, progress)
        collapsed = collapsible(
            problem.source.bind(problem.prepared), problem.sites, jnp.asarray(centre)
        )
        adapt_metric = self.adapt_metric
        if adapt_metric is None:
            adapt_metric = bool(collapsed) or not all(s.centred for s in problem.sites.sites)
        n_warmup = -(-(self.warmup or (400 if adapt_metric else 200)) // BLOCK)
        n_blocks = -(-self.draws // BLOCK)
        static = _Static(
            problem.source,
            problem.sites,
            n_warmup * BLOCK,
            self.target_accept,
            self.max_tree_depth,
            adapt_metric,
            collapsed,
        )
        others = Split(problem.sites, collapsed).others
        factor = jnp.linalg.cholesky(jnp.asarray(covariance[np.ix_(others, others)]))
        given = _Given(problem.prepared, jnp.asarray(centre), factor)
        scatter, *keys = jax.random.split(jax.random.key(seed), 1 + self.chains)
        scattered = DISPERSION * np.array(jax.random.normal(scatter, (self.chains, len(others))))
        # Chains begin at all good optima in turn, so that they disagree where these are apart.
        shifts = (modes - centre)[np.arange(self.chains) % len(modes)][:, others]
        about = solve_triangular(np.asarray(factor), shifts.T, lower=True).T
        total = self.chains * (n_warmup + n_blocks) * BLOCK
        with Progress("NUTS", total, "draw", progress) as shown:
            kept: list[list[tuple]] = [[] for _ in range(self.chains)]
            chains = _Chains(static, given, about, scattered, keys, n_warmup, n_blocks, kept, shown)
            on_gpu = self.chain_method == "auto" and jax.default_backend() != "cpu"
            batched = self.chain_method == "vectorized" or on_gpu
            complete = chains.as_batch() if batched else chains.as_threads()
        position, statistics = _collect(kept, self.draws, complete)
        status = chain_status(position, statistics, complete)
        if search:
            status["search"] = search
        if status["divergences"]:
            text = "NUTS: %d trajectories diverged; see fit.diagnose()"
            logger.warning(text, status["divergences"])
        return Posterior(
            self,
            draws=position,
            statistics=statistics,
            seed=seed,
            metric=covariance,
            trace={name: statistics[name] for name in ("lp", "n_steps", "diverging")},
            status=status,
        )

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """Agreement and length of the chains, as `Method.check`."""
        check_chains(fit, problems, facts)


class _Static(NamedTuple):
    """What compiled code depends on."""

    source: Any
    sites: Layout
    warmup: int
    target_accept: float
    max_tree_depth: int
    adapt_metric: bool
    collapsed: tuple[str, ...]  # Sites that are integrated out, and drawn after each iteration.


class _Given(NamedTuple):
    """Data, and the coordinates of the sampler: a centre of all, a map of those it moves in."""

    prepared: Any
    centre: jax.Array
    factor: jax.Array


def _kernel(static: _Static, given: _Given) -> tuple[Callable, Callable, Callable]:
    """Functions that start a chain, advance it, and make a draw of all coordinates."""
    program = static.source.bind(given.prepared)
    parts = Split(static.sites, static.collapsed)
    base = given.centre[parts.collapsed]

    def others(z: jax.Array) -> jax.Array:
        return given.centre[parts.others] + given.factor @ z

    def marginal_at(z: jax.Array) -> Marginal:
        return marginal(program, parts, base, others(z))

    def potential(z: jax.Array) -> jax.Array:
        if static.collapsed:
            return -marginal_at(z).log_density
        return -log_joint(program, static.sites, others(z))

    def draw(state: Any) -> tuple[jax.Array, jax.Array]:
        if not static.collapsed:
            return others(state.z), -state.potential_energy
        noise = jax.random.normal(jax.random.fold_in(state.rng_key, 1), base.shape)
        collapsed, log_density = marginal_at(state.z).draw(noise)
        return parts.join(collapsed, others(state.z)), log_density

    initialise, advance = hmc(potential, algo="NUTS")
    start = partial(
        initialise,
        num_warmup=static.warmup,
        step_size=1.0,
        adapt_step_size=True,
        adapt_mass_matrix=static.adapt_metric,
        dense_mass=static.adapt_metric,
        target_accept_prob=static.target_accept,
        max_tree_depth=static.max_tree_depth,
        find_heuristic_step_size=False,
    )
    return start, advance, draw


for kind in (HMCState, HMCAdaptState):
    keep_class(kind)


def _begin(static: _Static, given: _Given, z: jax.Array, key: jax.Array) -> Any:
    start, _, _ = _kernel(static, given)
    # A single gradient, in the mode that compiles faster.
    state = start(z, forward_mode_differentiation=True, rng_key=key)
    if static.adapt_metric:
        return state
    # NumPyro forgets the step size it has learnt wherever it may learn a new metric.
    last = len(build_adaptation_schedule(static.warmup)) - 1
    one_window = state.adapt_state._replace(window_idx=jnp.array(last))
    return state._replace(adapt_state=one_window)


def _block(static: _Static, given: _Given, state: Any) -> tuple[Any, tuple]:
    start, advance, draw = _kernel(static, given)
    # NumPyro's kernel learns its settings when a chain is initialised; the result is unused.
    start(state.z, rng_key=state.rng_key)

    def step(state: Any, _: None) -> tuple:
        state = advance(state)
        kept = {name: getattr(state, name) for name in STATISTICS}
        kept["step_size"] = state.adapt_state.step_size
        position, kept["lp"] = draw(state)
        return state, (position, kept)

    return jax.lax.scan(step, state, length=BLOCK)


def _over_chains(function: Callable) -> Callable:
    @wraps(function)
    def over_chains(static: _Static, given: _Given, *states: Any) -> Any:
        return jax.vmap(partial(function, static, given))(*states)

    return over_chains


# A chain begins once.
_once, _often = traced_once(1, COMPILED_ONCE), traced_once(1)
_begin_one, _begin_all = _once(_begin), _once(_over_chains(_begin))
_block_one, _block_all = _often(_block), _often(_over_chains(_block))


def _near(begin: Callable, about: NDArray, scattered: NDArray) -> Any:
    """The state in which chains begin; those that would where the density is nil begin nearer."""
    highest = np.asarray(begin(about).potential_energy)
    for _ in range(HALVINGS):
        state = begin(about + scattered)
        far = ~(np.asarray(state.potential_energy) - highest <= FAR * about.shape[-1])
        if not far.any():
            break
        scattered = np.where(far[..., None], scattered / 2, scattered)
    return state


class _Chains(NamedTuple):
    """Chains that advance in blocks; blocks of draws of each chain are appended to `kept`."""

    static: _Static
    given: _Given
    about: NDArray  # Where chains begin, (chains, size), but for how they are scattered.
    scattered: NDArray
    keys: list[jax.Array]
    n_warmup: int
    n_blocks: int
    kept: list[list[tuple]]
    shown: Progress

    def as_threads(self) -> bool:
        """Run to the end (True), or until they are stopped, each chain on a thread."""
        # Tracing is not thread-safe in NumPyro: the first call compiles, the threads only run.
        static, given = self.static, self.given
        states = [
            _near(lambda z, key=key: _begin_one(static, given, z, key), *start)
            for key, *start in zip(self.keys, self.about, self.scattered, strict=True)
        ]
        compiled = _block_one.program(static, given, states[0])
        stop = threading.Event()

        def chain(c: int) -> None:
            state = states[c]
            try:
                for block in range(self.n_warmup + self.n_blocks):
                    if stop.is_set():
                        return
                    state, result = jax.block_until_ready(compiled(given, state))
                    if block >= self.n_warmup:
                        self.kept[c].append(jax.tree.map(np.asarray, result))
                    self.shown.advance(BLOCK)
            except BaseException:
                # Here, not where the result is asked for: this thread would first begin another
                # chain.
                stop.set()
                raise

        with ThreadPoolExecutor(min(len(states), n_cores())) as pool:
            futures = [pool.submit(chain, c) for c in range(len(states))]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                stop.set()
                return False
        return True

    def as_batch(self) -> bool:
        """Run to the end (True), or until they are stopped, all chains by one array program."""
        try:
            keys = jnp.stack(self.keys)
            state = _near(
                lambda z: _begin_all(self.static, self.given, z, keys), self.about, self.scattered
            )
            for block in range(self.n_warmup + self.n_blocks):
                state, result = jax.block_until_ready(_block_all(self.static, self.given, state))
                if block >= self.n_warmup:
                    host = jax.tree.map(np.asarray, result)
                    for c, blocks in enumerate(self.kept):
                        blocks.append(jax.tree.map(lambda values, c=c: values[c], host))
                self.shown.advance(BLOCK * len(self.kept))
        except KeyboardInterrupt:
            return False
        return True


def _collect(
    kept: list[list[tuple]], draws: int, complete: bool
) -> tuple[NDArray, dict[str, NDArray]]:
    """Chains of equal length; of a run that was stopped, those that keep the most draws.

    Flat, unconstrained positions (chains, draws, size), and statistics, each (chains, draws).
    """
    lengths = sorted((len(blocks) for blocks in kept), reverse=True)
    n_chains = 1 + int(np.argmax([(i + 1) * length for i, length in enumerate(lengths)]))
    shortest = lengths[n_chains - 1]
    if shortest == 0:
        raise KeyboardInterrupt("stopped before any chain had finished warming up")
    if not complete:
        logger.warning(
            "NUTS was stopped: %d of %d draws of %d of %d chains are kept",
            min(shortest * BLOCK, draws),
            draws,
            n_chains,
            len(kept),
        )
    chains = [
        jax.tree.map(lambda *parts: np.concatenate(parts)[:draws], *blocks[:shortest])
        for blocks in kept
        if len(blocks) >= shortest
    ]
    position, recorded = jax.tree.map(lambda *parts: np.stack(parts), *chains)
    statistics = {
        "lp": recorded["lp"],
        "energy": recorded["energy"],
        "n_steps": recorded["num_steps"],
        "tree_depth": np.floor(np.log2(recorded["num_steps"])).astype(int) + 1,
        "acceptance_rate": recorded["accept_prob"],
        "step_size": recorded["step_size"],
        "diverging": recorded["diverging"],
    }
    return position, statistics
