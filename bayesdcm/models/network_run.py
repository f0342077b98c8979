"""How a network is run in time: stretches of steps, one compiled program for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesdcm.integrate.delayed_network import (
    Drive,
    Driven,
    Scheme,
    Stepping,
    delayed,
    instantaneous,
)
from bayesdcm.integrate.delayed_sums import Routes, blocks, interpolation, routes
from bayesdcm.neural.base import Parameters
from bayesdcm.neural.network import Network
from bayesdcm.neural.noise import OrnsteinUhlenbeck, coloured, standard_normals

# A rounding error must not make a whole number of steps one too few.
ROUNDED = 1 - 1e-12
# Numbers of one quantity in a stretch: few enough to stay in the cache, enough that the time
# between two stretches does not count, which is longer where derivatives are taken backward.
STRETCH_NUMBERS, REVERSE_NUMBERS = 2**17, 2**19
STRETCH_STEPS = (256, 8192)


class Plan(NamedTuple):
    """What of a run is a constant of the compiled program.

    Parameters
    ----------
    scheme : callable
        Scheme of one step.
    step : float
        Length of a step, s.
    block, inner : int
        Steps whose delayed sums are worked out together, of connections that are as long, and of
        shorter ones.
    reach : int
        Samples of the past that are kept; 0 without delays.
    stretch : int
        Longest stretch, in steps.
    recorded : tuple of str
        States and signals that are given back at every step.
    reverse : bool
        Whether derivatives are taken backward in time.
    """

    scheme: Scheme
    step: float
    block: int
    inner: int
    reach: int
    stretch: int
    recorded: tuple[str, ...]
    reverse: bool


class Carry(NamedTuple):
    """What goes from one stretch to the next.

    Parameters
    ----------
    number : jax.Array
        Of the next step.
    states : jax.Array
        Shape (nodes, states).
    past : jax.Array or None
        What was sent, shape (channels, nodes, reach).
    noise : tuple of jax.Array
        Values of coloured noise, 0 for white, shape (targets, nodes).
    observed : tuple
        Carries of observers.
    """

    number: jax.Array
    states: jax.Array
    past: jax.Array | None
    noise: tuple[jax.Array, ...]
    observed: tuple[Any, ...]


class Wiring(NamedTuple):
    """A network, its connections as the solver takes them, and the key of its noise."""

    network: Network
    parameters: Parameters
    connections: tuple[Routes, ...]
    key: jax.Array


def plan(
    network: Network,
    scheme: Scheme,
    step: float,
    speeds: tuple[float, float] | None,
    recorded: tuple[str, ...],
    reverse: bool,
) -> Plan:
    """Choose block, reach and stretch.

    Parameters
    ----------
    network : Network
        The network.
    scheme : callable
        Scheme of one step.
    step : float
        Length of a step, s.
    speeds : (float, float) or None
        Slowest and fastest conduction, m/s.
    recorded : tuple of str
        States and signals that are given back.
    reverse : bool
        Whether derivatives are taken backward.

    Returns
    -------
    Plan
        Constants of the program.
    """
    block, inner, reach = 1, 1, 0
    if network.delayed and np.any(network.weights):
        slowest, fastest = speeds
        to, of = np.nonzero(network.weights)
        delays = np.asarray(network.lengths)[to, of] * 1e-3 / step
        block, inner = blocks(delays / fastest * ROUNDED, to)
        # A few sizes only, so that programs serve many speeds.
        samples = float(delays.max()) / slowest / ROUNDED + 2
        eighths = 2 ** max(np.ceil(np.log2(samples)) - 3, 5)
        reach = int(np.ceil(samples / eighths) * eighths)
        reach = -(-reach // block) * block
    numbers = (REVERSE_NUMBERS if reverse else STRETCH_NUMBERS) / network.n_nodes
    stretch = int(np.clip(2 ** np.floor(np.log2(numbers)), *STRETCH_STEPS))
    return Plan(scheme, step, block, inner, reach, stretch, recorded, reverse)


def wiring(
    plan: Plan,
    network: Network,
    speeds: tuple[float, float] | None,
    parameters: Parameters,
    key: jax.Array,
) -> Wiring:
    """Lay out the connections of a network.

    Parameters
    ----------
    plan : Plan
        Constants.
    network : Network
        The network.
    speeds : (float, float) or None
        Slowest and fastest conduction, m/s, as in `plan`.
    parameters : mapping
        Full arrays by name.
    key : jax.Array
        Key of the noise.

    Returns
    -------
    Wiring
        What `stretch` takes.
    """
    connections = ()
    if plan.reach:
        weights, lengths = np.asarray(network.weights), np.asarray(network.lengths)
        far = lengths * 1e-3 / plan.step / speeds[1] * ROUNDED >= plan.block - 1
        groups = (far,) if plan.inner == plan.block else (far, ~far)
        connections = tuple(routes(weights * group, lengths) for group in groups)
    return Wiring(network, parameters, connections, key)


def begin(
    plan: Plan,
    observers: Sequence[Any],
    wiring: Wiring,
    start: jax.Array | None,
    history: jax.Array | None,
    steps: int,
) -> Carry:
    """States, past and noise before the first step.

    Parameters
    ----------
    plan : Plan
        Constants.
    observers : sequence of SeriesObserver
        What will see the run.
    wiring : Wiring
        The network.
    start : jax.Array or None
        States, shape (nodes, states); None: rest.
    history : jax.Array or None
        Signal at times up to 0, shape (samples, nodes); None: that of `start`.
    steps : int
        How many steps observers will see.

    Returns
    -------
    Carry
        What the first stretch takes.
    """
    network, parameters, _, key = wiring
    own = network.constants(parameters)
    x = network.rest(parameters) if start is None else start
    past = None
    if plan.reach:
        if history is None:
            history = network.signal(network.sent, x, own)[None]
        sent = jax.vmap(network.coupling.send, out_axes=2)(history[-plan.reach :])
        missing = plan.reach - sent.shape[2]
        past = jnp.pad(sent, ((0, 0), (0, 0), (missing, 0)), mode="edge")
    noise = []
    for which, each in enumerate(network.noise):
        targets = len(network.noise_targets(which))
        first = jnp.zeros((targets, network.n_nodes))
        if isinstance(each, OrnsteinUhlenbeck):
            sd = network.noise_values(which, own)["sd"]
            first = sd * _normals(key, which, targets, 0, 1, network.n_nodes)[:, 0]
        noise.append(first)
    observed = tuple(each.start((steps, network.n_nodes), plan.step) for each in observers)
    return Carry(jnp.zeros((), jnp.int32), x, past, tuple(noise), observed)


def stretch(
    plan: Plan,
    observers: Sequence[Any],
    wiring: Wiring,
    carry: Carry,
    stimulus: Mapping[str, jax.Array],
    steps: int,
) -> tuple[Carry, dict[str, jax.Array]]:
    """Run the next steps.

    Parameters
    ----------
    plan : Plan
        Constants.
    observers : sequence of SeriesObserver
        What sees the steps; none during a transient.
    wiring : Wiring
        The network.
    carry : Carry
        From `begin` or the last stretch.
    stimulus : mapping of str to jax.Array
        What is added to afferents, shape (steps, nodes).
    steps : int
        How many steps.

    Returns
    -------
    Carry
        For the next stretch.
    dict of str to jax.Array
        Series that are recorded, shape (steps, nodes).
    """
    network, parameters, connections, _ = wiring
    own = network.constants(parameters)
    # Steps beyond the last are worked out where they fill a block, and left out.
    solved_steps = -(-steps // plan.block) * plan.block
    drive, noise = _drive(plan, wiring, own, carry, stimulus, steps, solved_steps)
    stepping = Stepping(*(plan.scheme, plan.step, plan.block, plan.inner, plan.reach, solved_steps))
    weights = jnp.asarray(network.weights)
    driven = Driven(network, own, weights.sum(1))
    past = None
    if plan.reach:
        groups = []
        for listed, shortest in zip(connections, (plan.block, plan.inner), strict=False):
            between = network.travel_time(listed.lengths, parameters) / plan.step
            taps = interpolation(listed.weights, between, shortest, plan.reach)
            groups.append((listed, taps))
        solved = delayed(stepping, driven, groups, carry.states, carry.past, drive, plan.reverse)
        states = solved.states[:steps]
        past = lax.slice_in_dim(solved.sent, steps, steps + plan.reach, axis=2)
    else:
        states = instantaneous(stepping, driven, weights, carry.states, drive)
    series = jax.vmap(network.signal, in_axes=(None, 0, None))
    recorded = {name: series(name, states, own) for name in plan.recorded}
    observed = carry.observed
    if observers:
        observed = tuple(
            each.update(seen, series(each.of or network.activity, states, own))
            for each, seen in zip(observers, carry.observed, strict=True)
        )
    return Carry(carry.number + steps, states[-1], past, noise, observed), recorded


def _drive(
    plan: Plan,
    wiring: Wiring,
    own: Parameters,
    carry: Carry,
    stimulus: Mapping[str, jax.Array],
    steps: int,
    solved_steps: int,
) -> tuple[Drive, tuple[jax.Array, ...]]:
    """Stimuli and noise at each step, and the values of the noise after the last."""
    network, nodes = wiring.network, wiring.network.n_nodes
    afferents, states, ends = dict(stimulus), {}, []
    for which, each in enumerate(network.noise):
        targets = network.noise_targets(which)
        normals = _normals(wiring.key, which, len(targets), carry.number + 1, steps, nodes)
        values = network.noise_values(which, own)
        if isinstance(each, OrnsteinUhlenbeck):
            filtered = partial(coloured, **values, step=plan.step)
            series = jax.vmap(filtered)(carry.noise[which], normals)
            ends.append(series[:, -1])
            added = afferents
        else:
            series = values["intensity"] * jnp.sqrt(plan.step) * normals
            ends.append(carry.noise[which])
            added = states
        for target, rows in zip(targets, series, strict=True):
            added[target] = added.get(target, 0) + rows
    further = ((0, solved_steps - steps), (0, 0))
    drive = jax.tree.map(lambda a: jnp.pad(a, further), Drive(afferents, states))
    return drive, tuple(ends)


def _normals(
    key: jax.Array, which: int, targets: int, first: Any, steps: int, nodes: int
) -> jax.Array:
    """Normal numbers of one kind of noise, shape (targets, steps, nodes)."""
    keys = [jax.random.fold_in(jax.random.fold_in(key, which), each) for each in range(targets)]
    return jnp.stack([standard_normals(each, first, steps, nodes) for each in keys])


def whole_run(
    plan: Plan,
    observers: Sequence[Any],
    wiring: Wiring,
    carry: Carry,
    stimulus: Mapping[str, jax.Array],
    steps: int,
    horizon: int | None = None,
) -> tuple[Carry, dict[str, jax.Array]]:
    """All stretches as one pure function, kept in pieces for derivatives backward in time.

    Parameters
    ----------
    plan, observers, wiring, carry, stimulus, steps
        As in `stretch`.
    horizon : int, optional
        Steps after which derivatives forget how states came about.

    Returns
    -------
    Carry
        After the last step.
    dict of str to jax.Array
        Series that are recorded, shape (steps, nodes).
    """
    if horizon is not None:
        plan = plan._replace(stretch=min(plan.stretch, horizon))

    def once(carry: Carry, stimulus: Mapping[str, jax.Array], steps: int) -> Any:
        if horizon is not None:
            # What observers carry keeps its derivatives: they are sums over all stretches.
            kept = (carry.states, carry.past, carry.noise)
            states, past, noise = jax.tree.map(lax.stop_gradient, kept)
            carry = carry._replace(states=states, past=past, noise=noise)
        return stretch(plan, observers, wiring, carry, stimulus, steps)

    length = even_stretch(plan, steps)
    number, rest = divmod(steps, length)
    if number == 1 and not rest:
        return once(carry, stimulus, steps)
    whole = jax.tree.map(
        lambda a: a[: steps - rest].reshape(number, length, *a.shape[1:]), stimulus
    )

    @jax.checkpoint
    def piece(carry: Carry, stimulus: Mapping[str, jax.Array]) -> Any:
        return once(carry, stimulus, length)

    carry, recorded = lax.scan(piece, carry, whole, length=number)
    recorded = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), recorded)
    if rest:
        tail = jax.tree.map(lambda a: a[steps - rest :], stimulus)
        carry, last = once(carry, tail, rest)
        recorded = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), recorded, last)
    return carry, recorded


def even_stretch(plan: Plan, steps: int) -> int:
    """Length of stretches that divide a run without remainder, if there is such a length.

    Parameters
    ----------
    plan : Plan
        Constants.
    steps : int
        Steps of the run.
    """
    least = -(-steps // plan.stretch)
    number = next((n for n in range(least, 2 * least + 1) if steps % n == 0), least)
    return -(-steps // number)
