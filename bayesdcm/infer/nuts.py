"""NUTS, started from and preconditioned by a Gaussian approximation of the posterior.

The sampler is NumPyro's. It runs in coordinates in which the variational-Laplace posterior is a
standard normal, which is the same as a dense metric from its covariance: trajectories then need
few steps. Observer sites that are normal given all others are integrated out, and drawn at each
iteration; curved ridges that a model knows of are made straight (`ridges`). Chains advance in
blocks, so that progress can be shown and a run that is stopped keeps its finished draws; on a CPU
they run on as many threads as there are cores, on a GPU as one batch.

Where data are Gaussian and parameters few, trajectories follow a surrogate of the density that has
polynomials for predictions, or for the likelihood of cross-spectra, and the exact density corrects
where they end: the same posterior for a tenth of the time, or less (`bayesdcm.infer.surrogate`).

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
from bayesdcm.infer.method import (
    Method,
    one_of,
    option,
    positive_integer,
    probability,
    several,
    switch,
)
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.ridges import Straight, straight
from bayesdcm.infer.surrogate import (
    PoorSurrogate,
    Surrogate,
    Weights,
    correct,
    find_surrogate,
    surrogate_log_joint,
)
from bayesdcm.infer.threads import n_cores, on_one_thread
from bayesdcm.infer.traced_programs import keep_class, traced_once
from bayesdcm.infer.variational_laplace import gaussian_start, starts_option

logger = logging.getLogger("bayesdcm")

BLOCK = 25
# Starts are drawn from the Gaussian approximation widened by this factor.
DISPERSION = 1.5
# Nearer where the log density there is lower by so many nats a coordinate (about 1 where it is
# Gaussian): steps that suit such places are too short to leave them.
FAR, HALVINGS = 10.0, 8
# Of what a surrogate proposes, in each of the last blocks of the warm-up of a chain: a place that
# it thinks little of holds a chain for long, also where most of what it proposes is accepted.
LEAST_ACCEPTANCE = 0.5
# To aim at, elsewhere and where sites are not centred.
ACCEPTANCE, IN_FUNNELS = 0.9, 0.98
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
    target_accept : float, optional
        Acceptance rate that the step size aims at. None: 0.9, or 0.98 where sites are not centred
        (`bayesdcm.HorseshoePrior`), whose funnels longer steps miss.
    max_tree_depth : int
        Longest trajectory, ``2**depth - 1`` steps.
    adapt_metric : bool, optional
        Adapt a dense metric on top of the Gaussian approximation. None: where observer sites are
        integrated out, since the approximation was made with them, and where sites are not
        centred (`bayesdcm.HorseshoePrior`), of which it says little.
    surrogate : bool
        Whether trajectories follow a surrogate of the density, corrected by the density itself once
        a draw: where there is one, unless its proposals turn out to be refused, of which
        ``fit.status["surrogate"]`` tells. Statistics of trajectories are those of the surrogate.
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
        (
            "Christen JA, Fox C (2005). Markov chain Monte Carlo using an approximation. Journal "
            "of Computational and Graphical Statistics 14:795-810.",
            "https://doi.org/10.1198/106186005X76983",
        ),
    )
    exact: ClassVar[bool] = True

    starts: Any = starts_option()
    chains: int = option(4, positive_integer, words="Chains.", shell=True)
    warmup: int | None = option(
        None, positive_integer, words="Warm-up iterations of each chain.", shell=True
    )
    draws: int = option(750, several, words="Draws kept of each chain.", shell=True)
    target_accept: float | None = option(
        None, probability, words="Acceptance rate to aim at.", shell=True
    )
    max_tree_depth: int = option(10, positive_integer, words="Longest trajectory, log2 of steps.")
    adapt_metric: bool | None = option(None, switch, words="Whether to adapt a dense metric.")
    surrogate: bool = option(
        True, switch, words="Whether trajectories may follow a surrogate of the density."
    )
    chain_method: str = option(
        "auto", one_of("auto", "parallel", "vectorized"), words="Chains as threads, or as a batch."
    )

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Draw from the posterior of a problem, as `Method.run`."""
        centre, covariance, modes, search = gaussian_start(problem, self.starts, seed, progress)
        collapsed = collapsible(
            problem.source.bind(problem.prepared), problem.sites, jnp.asarray(centre)
        )
        centred = all(site.centred for site in problem.sites.sites)
        adapt_metric = self.adapt_metric
        if adapt_metric is None:
            adapt_metric = bool(collapsed) or not centred
        n_warmup = -(-(self.warmup or (400 if adapt_metric else 200)) // BLOCK)
        n_blocks = -(-self.draws // BLOCK)
        others = Split(problem.sites, collapsed).others
        within = covariance
        along = None
        if not collapsed:
            model = getattr(problem.source, "model", None)
            along = straight(model, problem.sites, centre, covariance)
        if along is not None:
            within, modes = along.gaussian(covariance, modes)
        factor = jnp.linalg.cholesky(jnp.asarray(within[np.ix_(others, others)]))
        scatter, *keys = jax.random.split(jax.random.key(seed), 1 + self.chains)
        scattered = DISPERSION * np.array(jax.random.normal(scatter, (self.chains, len(others))))
        # Chains begin at all good optima in turn, so that they disagree where these are apart.
        shifts = (modes - centre)[np.arange(self.chains) % len(modes)][:, others]
        about = solve_triangular(np.asarray(factor), shifts.T, lower=True).T
        total = self.chains * (n_warmup + n_blocks) * BLOCK

        def sampled(surrogate: Surrogate | None) -> tuple[list[list[tuple]], bool]:
            static = _Static(
                problem.source,
                problem.sites,
                n_warmup * BLOCK,
                self.target_accept or (ACCEPTANCE if centred else IN_FUNNELS),
                self.max_tree_depth,
                adapt_metric,
                collapsed,
                surrogate is not None,
            )
            weights = surrogate.weights if surrogate else None
            given = _Given(problem.prepared, jnp.asarray(centre), factor, weights, along)
            kept: list[list[tuple]] = [[] for _ in range(self.chains)]
            on_gpu = self.chain_method == "auto" and jax.default_backend() != "cpu"
            kind = _Batch if self.chain_method == "vectorized" or on_gpu else _Threads
            with Progress("NUTS", total, "draw", progress) as shown:
                chains = kind(static, given, keys, n_warmup, n_blocks, kept, shown)
                return kept, chains.run(about, scattered, surrogate)

        surrogate = None
        # A Gaussian about one of several optima says little of the others.
        if self.surrogate and along is None and not collapsed and len(modes) == 1:
            surrogate = find_surrogate(problem, centre, covariance, seed)
        record: dict[str, Any] = {"used": surrogate is not None}
        try:
            kept, complete = sampled(surrogate)
        except PoorSurrogate as poor:
            record = {"used": False, "acceptance": poor.acceptance}
            logger.info("NUTS: the surrogate is refused too often; the density itself is followed")
            kept, complete = sampled(None)
        position, statistics = _collect(kept, self.draws, complete)
        status = chain_status(position, statistics, complete)
        if record["used"]:
            record["acceptance"] = float(statistics["exact_acceptance"].mean())
        status["surrogate"] = record
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
    surrogate: bool  # Whether trajectories follow one.

    @property
    def transitions(self) -> int:
        """How many there are for each draw: two of a surrogate, whose price is small.

        Where a posterior is nearly normal, one takes a chain to about the opposite of where it was,
        as far from the centre.
        """
        return 2 if self.surrogate else 1


class _Given(NamedTuple):
    """Data, and the coordinates of the sampler: a centre of all, a map of those it moves in."""

    prepared: Any
    centre: jax.Array
    factor: jax.Array
    surrogate: Weights | None
    along: Straight | None


def _kernel(static: _Static, given: _Given) -> tuple[Callable, Callable, Callable, Callable]:
    """Functions that start a chain, advance it, make a draw of all coordinates; its potential."""
    program = static.source.bind(given.prepared)
    parts = Split(static.sites, static.collapsed)
    base = given.centre[parts.collapsed]

    def placed(z: jax.Array) -> tuple[jax.Array, jax.Array | float]:
        moved = given.centre[parts.others] + given.factor @ z
        return (moved, 0.0) if given.along is None else given.along.back(moved)

    def others(z: jax.Array) -> jax.Array:
        return placed(z)[0]

    def marginal_at(z: jax.Array) -> Marginal:
        return marginal(program, parts, base, others(z))

    if static.surrogate:
        approximate = surrogate_log_joint(
            static.source, static.sites, given.prepared, given.centre, given.surrogate
        )

    def potential(z: jax.Array) -> jax.Array:
        if static.surrogate:
            return -approximate(others(z), z)
        if static.collapsed:
            return -marginal_at(z).log_density
        vector, log_volume = placed(z)
        return -log_joint(program, static.sites, vector) - log_volume

    def draw(state: Any) -> tuple[jax.Array, jax.Array]:
        if not static.collapsed:
            vector, log_volume = placed(state.z)
            return vector, -state.potential_energy - log_volume
        noise = jax.random.normal(jax.random.fold_in(state.rng_key, 1), base.shape)
        collapsed, log_density = marginal_at(state.z).draw(noise)
        return parts.join(collapsed, others(state.z)), log_density

    initialise, advance = hmc(potential, algo="NUTS")
    start = partial(
        initialise,
        num_warmup=static.transitions * static.warmup,
        step_size=1.0,
        adapt_step_size=True,
        adapt_mass_matrix=static.adapt_metric,
        dense_mass=static.adapt_metric,
        target_accept_prob=static.target_accept,
        max_tree_depth=static.max_tree_depth,
        find_heuristic_step_size=False,
    )
    return start, advance, draw, potential


for kind in (HMCState, HMCAdaptState):
    keep_class(kind)


def _begin(static: _Static, given: _Given, z: jax.Array, key: jax.Array) -> Any:
    start, *_ = _kernel(static, given)
    # A single gradient, in the mode that compiles faster.
    state = start(z, forward_mode_differentiation=True, rng_key=key)
    if static.adapt_metric:
        return state
    # NumPyro forgets the step size it has learnt wherever it may learn a new metric.
    last = len(build_adaptation_schedule(static.transitions * static.warmup)) - 1
    one_window = state.adapt_state._replace(window_idx=jnp.array(last))
    return state._replace(adapt_state=one_window)


def _block(static: _Static, given: _Given, state: Any, exact: jax.Array) -> tuple[tuple, tuple]:
    """Chain and draws after a block; `exact` () is the log density itself, under a surrogate."""
    start, advance, draw, potential = _kernel(static, given)
    # NumPyro's kernel learns its settings when a chain is initialised; the result is unused.
    start(state.z, rng_key=state.rng_key)
    program = static.source.bind(given.prepared)
    if static.surrogate:
        # It may have learnt more since.
        value, slope = jax.value_and_grad(potential)(state.z)
        state = state._replace(potential_energy=value, z_grad=slope)

    def transition(state: Any, _: None) -> tuple:
        state = advance(state)
        return state, (state.num_steps, state.accept_prob, state.diverging)

    def step(carry: tuple, _: None) -> tuple:
        state, exact = carry
        before = state
        state, parts = jax.lax.scan(transition, state, length=static.transitions)
        state = state._replace(
            num_steps=parts[0].sum(), accept_prob=parts[1].mean(), diverging=parts[2].any()
        )
        position, log_density = draw(state)
        extra = {}
        if static.surrogate:
            # Far out, where chains begin, a surrogate may be so poor that none would leave.
            anyway = state.i <= static.transitions * static.warmup // 2
            there = log_joint(program, static.sites, position)
            state, exact, extra["exact_acceptance"] = correct(before, state, exact, there, anyway)
            position, log_density = draw(state)[0], exact
        kept = {name: getattr(state, name) for name in STATISTICS} | extra
        kept["step_size"] = state.adapt_state.step_size
        kept["lp"] = log_density
        return (state, exact), (position, kept)

    return jax.lax.scan(step, (state, exact), length=BLOCK)


def _over_chains(function: Callable) -> Callable:
    @wraps(function)
    def over_chains(static: _Static, given: _Given, *states: Any) -> Any:
        return jax.vmap(partial(function, static, given))(*states)

    return over_chains


# A chain begins once. Where each has a thread, no others stand by.
_once = traced_once(1, COMPILED_ONCE)
_begin_one, _begin_all = _once(_begin), _once(_over_chains(_begin))
_block_one = traced_once(1, lambda static: on_one_thread())(_block)
_block_all = traced_once(1)(_over_chains(_block))


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


@dataclass
class _Chains:
    """Chains that advance in blocks; blocks of draws of each chain are appended to `kept`."""

    static: _Static
    given: _Given
    keys: list[jax.Array]
    n_warmup: int
    n_blocks: int
    kept: list[list[tuple]]
    shown: Progress

    def __post_init__(self) -> None:
        # Where chains were while they warmed up.
        self._seen: list[list[NDArray]] = [[] for _ in self.keys]

    def run(self, about: NDArray, scattered: NDArray, surrogate: Surrogate | None) -> bool:
        """Run to the end (True), or until they are stopped.

        Chains begin at `about` (chains, size), but for how they are scattered (chains, size).
        """
        blocks = range(self.n_warmup + self.n_blocks)
        try:
            state = self._begin(about, scattered)
            if surrogate is not None:
                half = self.n_warmup // 2
                state = self._through(state, blocks[:half])
                centre, factor = np.asarray(self.given.centre), np.asarray(self.given.factor)
                begun = centre + (about + scattered) @ factor.T
                surrogate.learn(np.concatenate([begun, *sum(self._seen, [])]))
                if surrogate.weights is None:
                    raise PoorSurrogate(0.0)
                self.given = self.given._replace(surrogate=surrogate.weights)
                blocks = blocks[half:]
            self._through(state, blocks)
        except KeyboardInterrupt:
            return False
        return True

    def _begin(self, about: NDArray, scattered: NDArray) -> Any:
        """The state of all chains before the first block."""
        raise NotImplementedError

    def _through(self, state: Any, blocks: range) -> Any:
        """The state of all chains after some blocks."""
        raise NotImplementedError

    def _keep(self, block: int, chain: int, result: tuple) -> None:
        if block >= self.n_warmup:
            self.kept[chain].append(jax.tree.map(np.asarray, result))
        else:
            self._seen[chain].append(np.asarray(result[0]))

    def _check_surrogate(self, block: int, result: tuple) -> None:
        """Raise `PoorSurrogate` where one of the last blocks of warm-up was refused too often."""
        # The first block after the surrogate has learnt is left out, if there are more.
        first = min(self.n_warmup // 2 + 1, self.n_warmup - 1)
        if self.static.surrogate and first <= block < self.n_warmup:
            acceptance = float(np.asarray(result[1]["exact_acceptance"]).mean(-1).min())
            if acceptance < LEAST_ACCEPTANCE:
                raise PoorSurrogate(acceptance)


class _Threads(_Chains):
    """Each chain on a thread."""

    _program: Callable | None = None

    def _begin(self, about: NDArray, scattered: NDArray) -> list[tuple]:
        static, given, nowhere = self.static, self.given, jnp.array(-jnp.inf)
        return [
            (_near(lambda z, key=key: _begin_one(static, given, z, key), *start), nowhere)
            for key, *start in zip(self.keys, about, scattered, strict=True)
        ]

    def _through(self, states: list[tuple], blocks: range) -> list[tuple]:
        # Tracing is not thread-safe in NumPyro: the first call compiles, the threads only run.
        if self._program is None:
            self._program = _block_one.program(self.static, self.given, *states[0])
        compiled = self._program
        stop = threading.Event()

        def chain(c: int) -> tuple:
            state = states[c]
            try:
                for block in blocks:
                    if stop.is_set():
                        break
                    state, result = jax.block_until_ready(compiled(self.given, *state))
                    self._check_surrogate(block, result)
                    self._keep(block, c, result)
                    self.shown.advance(BLOCK)
            except BaseException:
                # Here, not where the result is asked for: this thread would first begin another
                # chain.
                stop.set()
                raise
            return state

        with ThreadPoolExecutor(min(len(states), n_cores())) as pool:
            futures = [pool.submit(chain, c) for c in range(len(states))]
            try:
                return [future.result() for future in futures]
            except KeyboardInterrupt:
                stop.set()
                raise


class _Batch(_Chains):
    """All chains by one array program."""

    def _begin(self, about: NDArray, scattered: NDArray) -> tuple:
        keys = jnp.stack(self.keys)
        state = _near(lambda z: _begin_all(self.static, self.given, z, keys), about, scattered)
        return state, jnp.full(len(keys), -jnp.inf)

    def _through(self, state: tuple, blocks: range) -> tuple:
        for block in blocks:
            state, result = jax.block_until_ready(_block_all(self.static, self.given, *state))
            self._check_surrogate(block, result)
            host = jax.tree.map(np.asarray, result)
            for c in range(len(self.kept)):
                self._keep(block, c, jax.tree.map(lambda values, c=c: values[c], host))
            self.shown.advance(BLOCK * len(self.kept))
        return state


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
    if "exact_acceptance" in recorded:
        statistics["exact_acceptance"] = recorded["exact_acceptance"]
    return position, statistics
