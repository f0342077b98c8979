"""Conditional normalising flows, several side by side: a density of parameters given features.

The flows are flowjax's. An ensemble of them, each with its own start and its own held-out
simulations, is trained as one array program; their mixture is less sure of itself than any of them
[1]_.

References
----------
.. [1] Hermans et al. (2022), Transactions on Machine Learning Research.
       https://arxiv.org/abs/2110.06581
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from bayesdcm.infer.progress import Progress

# Share of the simulations that each flow does not see, by which training stops.
HELD_OUT = 0.1
BATCH = 64
# Of AdamW, in steps: with few simulations, less makes flows too sure of themselves; with
# 2,000, more makes them less sure than they could be.
WEIGHT_DECAY = 0.5


class FlowShape(NamedTuple):
    """Sizes of a flow: of parameters and features, layers, and units of a layer's network."""

    parameters: int
    features: int
    layers: int
    width: int


class Training(NamedTuple):
    """How flows are trained: epochs at most, epochs without gain, and the step of Adam."""

    epochs: int
    patience: int
    learning_rate: float


class Trained(NamedTuple):
    """Weights of flows, each with a leading axis of members, and how they came about.

    `weights` and `fixed` are leaves of the flow, which a file holds; `losses` is minus the mean log
    density of seen and held-out simulations, (epochs, 2, members).
    """

    weights: tuple[NDArray, ...]
    fixed: tuple[NDArray, ...]
    losses: NDArray
    settled: bool


def require_flowjax() -> None:
    """Raise an error that says how to install flowjax, where it is missing."""
    try:
        import flowjax  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "amortised posteriors need flowjax, which is not installed: "
            'pip install "bayesdcm[amortised]"'
        ) from error


def _made(shape: FlowShape, seed: int) -> Any:
    """A flow with random weights."""
    from flowjax.distributions import Normal
    from flowjax.flows import masked_autoregressive_flow

    return masked_autoregressive_flow(
        jax.random.key(seed),
        base_dist=Normal(jnp.zeros(shape.parameters)),
        cond_dim=shape.features,
        flow_layers=shape.layers,
        nn_width=shape.width,
        nn_depth=2,
        nn_activation=jax.nn.silu,
    )


def _parts(flow: Any) -> tuple[Any, Any, Any]:
    """What of a flow is trained, arrays that are not, and the rest."""
    import equinox as eqx
    import paramax

    held = lambda leaf: isinstance(leaf, paramax.NonTrainable)  # noqa: E731
    weights, others = eqx.partition(flow, eqx.is_inexact_array, is_leaf=held)
    fixed, rest = eqx.partition(others, eqx.is_array)
    return weights, fixed, rest


@lru_cache(maxsize=16)
def _template(shape: FlowShape) -> tuple[Any, Any, Any]:
    """Structures of weights and of fixed arrays, and the rest of the flow.

    It must be made before it is traced: flowjax checks numbers.
    """
    weights, fixed, rest = _parts(_made(shape, 0))
    return jax.tree.structure(weights), jax.tree.structure(fixed), rest


def _flow(shape: FlowShape, fixed: tuple, weights: tuple) -> Any:
    import equinox as eqx
    import paramax

    weight_tree, fixed_tree, rest = _template(shape)
    parts = jax.tree.unflatten(weight_tree, weights), jax.tree.unflatten(fixed_tree, fixed)
    return paramax.unwrap(eqx.combine(*parts, rest))


def _loss(shape: FlowShape, fixed: Any, weights: Any, x: jax.Array, features: jax.Array) -> Any:
    return -_flow(shape, fixed, weights).log_prob(x, features).mean()


@partial(jax.jit, static_argnums=(0, 1))
def _epoch(
    shape: FlowShape, training: Training, fixed: Any, state: Any, x: Any, features: Any, seen: Any
) -> Any:
    """One pass over what members see, `seen` (members, batches, batch); all side by side."""

    def member(state: Any, batches: jax.Array) -> tuple[Any, jax.Array]:
        def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
            weights, memory = state
            of = partial(_loss, shape, fixed, x=x[batch], features=features[batch])
            loss, slope = jax.value_and_grad(lambda w: of(weights=w))(weights)
            change, memory = _optimiser(training).update(slope, memory, weights)
            return (optax.apply_updates(weights, change), memory), loss

        state, losses = jax.lax.scan(step, state, batches)
        return state, losses.mean()

    return jax.vmap(member)(state, seen)


@partial(jax.jit, static_argnums=0)
def _held_out(
    shape: FlowShape, fixed: Any, weights: Any, x: jax.Array, features: jax.Array, at: jax.Array
) -> jax.Array:
    def member(weights: Any, at: jax.Array) -> jax.Array:
        return _loss(shape, fixed, weights, x[at], features[at])

    return jax.vmap(member)(weights, at)


def _optimiser(training: Training) -> optax.GradientTransformation:
    clipped = optax.clip_by_global_norm(5.0)
    return optax.chain(clipped, optax.adamw(training.learning_rate, weight_decay=WEIGHT_DECAY))


@partial(jax.jit, static_argnums=0)
def _memory(training: Training, weights: Any) -> Any:
    """What the step rule of each member knows before the first step."""
    return jax.vmap(_optimiser(training).init)(weights)


def train(
    shape: FlowShape,
    training: Training,
    members: int,
    x: NDArray,
    features: NDArray,
    seed: int,
    progress: bool,
) -> Trained:
    """Train flows on parameters (simulations, size) and features (simulations, features).

    Each stops to count where its held-out density was largest; Ctrl-C keeps the best so far.
    """
    rng = np.random.default_rng(seed)
    count = len(x)
    out = max(int(HELD_OUT * count), 1)
    batch = min(BATCH, count - out)
    orders = np.stack([rng.permutation(count) for _ in range(members)])
    held, own = orders[:, :out], orders[:, out:]
    _template(shape)
    _, fixed, _ = _parts(_made(shape, 0))
    fixed = tuple(jax.tree.leaves(fixed))
    each = [jax.tree.leaves(_parts(_made(shape, 1 + member))[0]) for member in range(members)]
    weights = tuple(np.stack(leaves) for leaves in zip(*each, strict=True))
    state = weights, _memory(training, weights)
    best, lowest, since = weights, np.full(members, np.inf), np.zeros(members, int)
    losses: list[NDArray] = []
    x, features = jnp.asarray(x), jnp.asarray(features)
    with Progress("training", training.epochs, "epoch", progress) as shown:
        try:
            for _ in range(training.epochs):
                own = rng.permuted(own, axis=1)
                whole = own.shape[1] // batch * batch
                state, seen = _epoch(
                    *(shape, training, fixed, state, x, features),
                    own[:, :whole].reshape(members, -1, batch),
                )
                unseen = np.asarray(_held_out(shape, fixed, state[0], x, features, held))
                losses.append(np.stack([np.asarray(seen), unseen]))
                better = unseen < lowest
                best = _chosen(better, state[0], best)
                lowest, since = np.where(better, unseen, lowest), np.where(better, 0, since + 1)
                shown.advance(1, f"held out {-lowest.mean():.3f} nats")
                if (since >= training.patience).all():
                    break
        except KeyboardInterrupt:
            if not losses:
                raise
    return Trained(
        tuple(np.asarray(leaf) for leaf in best),
        tuple(np.asarray(leaf) for leaf in fixed),
        np.array(losses),
        bool((since >= training.patience).all()),
    )


@jax.jit
def _chosen(better: jax.Array, new: Any, old: Any) -> Any:
    """Weights of each member, the new ones where they are better."""
    return jax.tree.map(lambda one, other: jax.vmap(jnp.where)(better, one, other), new, old)


@partial(jax.jit, static_argnums=(0, 3))
def _drawn(
    shape: FlowShape, fixed: Any, weights: Any, number: int, key: jax.Array, features: jax.Array
) -> tuple[jax.Array, jax.Array]:
    members = len(weights[0])

    def draw(weights: Any, key: jax.Array) -> jax.Array:
        return _flow(shape, fixed, weights).sample(key, (number,), condition=features)

    draws = jax.vmap(draw)(weights, jax.random.split(key, members)).reshape(-1, shape.parameters)

    def density(weights: Any) -> jax.Array:
        return _flow(shape, fixed, weights).log_prob(draws, features)

    log_q = jax.nn.logsumexp(jax.vmap(density)(weights), axis=0) - jnp.log(members)
    return draws, log_q


def draw(
    shape: FlowShape, trained: Trained, features: NDArray, number: int, seed: int
) -> tuple[NDArray, NDArray]:
    """Draws of the mixture of flows, (draws, size), and its log density there, (draws,)."""
    _template(shape)
    members = len(trained.weights[0])
    each = -(-number // members)
    draws, log_q = _drawn(
        *(shape, trained.fixed, trained.weights, each, jax.random.key(seed)), jnp.asarray(features)
    )
    # Of every member about as many.
    places = np.arange(members * each).reshape(members, each).T.ravel()[:number]
    return np.asarray(draws)[places], np.asarray(log_q)[places]
