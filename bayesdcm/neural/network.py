"""A node in every region of a connectome, joined by couplings with delays, driven by noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.by_value import ByValue
from bayesdcm.neural.base import NeuralModel, NodeModel, Parameters, Prior
from bayesdcm.neural.couplings import Coupling
from bayesdcm.neural.noise import Noise, OrnsteinUhlenbeck

MS = 1e-3
NETWORK_VARIANCE = 1 / 16
REGIONAL_SD = 1 / 4


@dataclass(frozen=True, eq=False)
class Groups:
    """A parameter that regions of a group share."""

    names: tuple[str, ...]
    members: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Maps:
    """A parameter that follows maps of the cortex: its value, plus maps times coefficients."""

    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Free:
    """A parameter of which every region has its own."""


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A parameter of which every region has its own, about a value that they share.

    How far regions lie from it is estimated, too: by `REGIONAL_SD` times the exponential of
    ``NAME_spread``, N(0, 1), times ``NAME_by_region``, N(0, 1).
    """


Spread = Free | Groups | Maps | Shrunk


@dataclass(frozen=True, eq=False)
class Network(NeuralModel):
    """A `NodeModel` in every region, with what joins them.

    Its flow has the coupling without delays; `delays` are those of the linearised network, and
    `bayesdcm.NetworkModel` solves it with delays and noise.

    Parameters
    ----------
    node : NodeModel
        What is in a region.
    weights : ndarray
        Strengths of connections, shape (to, from).
    lengths : ndarray or None
        Lengths of connections, mm, shape (to, from); None: no delays.
    coupling : Coupling
        What a region makes of others' signals.
    sent : str
        The signal, or state, that travels.
    afferents : tuple of str
        Where it arrives.
    strength : array_like
        Factor of the coupling, a number or by receiving region.
    speed : float or None
        Conduction speed, m/s.
    noise : tuple of OrnsteinUhlenbeck or White
        What drives the nodes.
    regional : mapping of str to Free, Groups, Maps or Shrunk
        How parameters differ between regions.

    Examples
    --------
    >>> from bayesdcm.neural import Additive, NodeModel
    >>> class Leaky(NodeModel):
    ...     states, signals, afferents = ("x",), ("x",), ("input",)
    ...     def priors(self):
    ...         return (Prior("rate", (), np.zeros(()), np.full((), 1 / 16), "log scaling"),)
    ...     def sent(self, x, parameters):
    ...         return x.T
    ...     def received(self, sent, parameters):
    ...         return jnp.zeros_like(sent)
    ...     def local(self, x, received, u, parameters):
    ...         return -jnp.exp(parameters["rate"]) * x + received.T
    >>> network = Network(Leaky(), np.ones((2, 2)), None, Additive(), "x", ("input",))
    >>> [prior.name for prior in network.priors()]
    ['rate', 'strength']
    """

    node: NodeModel
    weights: NDArray[np.float64]
    lengths: NDArray[np.float64] | None
    coupling: Coupling
    sent: str
    afferents: tuple[str, ...]
    strength: ArrayLike = 1.0
    speed: ArrayLike | None = None
    noise: tuple[Noise, ...] = ()
    regional: Mapping[str, Spread] | None = None

    title: ClassVar[str] = "network"
    flat_directions: ClassVar[bool] = True

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the states of a node."""
        return self.node.states

    @property
    def output(self) -> int:  # type: ignore[override]
        """The state that channels see, an index into `states`."""
        return self.node.output

    @property
    def activity(self) -> str:
        """Name of the state or signal that haemodynamics and sensors see."""
        return getattr(self.node, "activity", "") or self.states[self.output]

    @property
    def citation(self) -> tuple[str, str] | None:  # type: ignore[override]
        """What to cite for the node."""
        return self.node.citation

    @property
    def axes(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        """Names of groups and numbers of maps, and the node's own axes."""
        spread = self.regional or {}
        groups = {_group(n): s.names for n, s in spread.items() if isinstance(s, Groups)}
        maps = {
            _map(n): [f"map {i + 1}" for i in range(len(s.values))]
            for n, s in spread.items()
            if isinstance(s, Maps)
        }
        return {**self.node.axes, **groups, **maps}

    @property
    def n_nodes(self) -> int:
        """Number of regions."""
        return len(self.weights)

    @property
    def n_inputs(self) -> int:
        """No inputs: stimuli are added to afferents."""
        return 0

    @property
    def affine(self) -> bool:
        """Whether nodes and coupling are."""
        return getattr(self.node, "affine", False) and self.coupling.linear

    @property
    def delayed(self) -> bool:
        """Whether connections have delays."""
        return self.lengths is not None and self.speed is not None

    # Parameters

    def common_priors(self) -> tuple[Prior, ...]:
        """Priors before any parameter differs between regions."""
        table = list(self.node.priors())
        table.append(_scaling("strength"))
        if self.delayed:
            table.append(_scaling("speed"))
        for each in self.noise:
            table += [_scaling(f"noise_{name}") for name in _numbers(each)]
        return tuple(table)

    def priors(self) -> tuple[Prior, ...]:
        """The node's, then `strength`, `speed`, and the noise's, with regional ones widened."""
        table = []
        for prior in self.common_priors():
            spread = (self.regional or {}).get(prior.name)
            table.append(prior if spread is None else _widened(prior, spread, self.n_nodes))
            if isinstance(spread, Maps):
                shape = (len(spread.values),)
                variance = np.full(shape, float(prior.variance))
                table.append(
                    Prior(
                        f"{prior.name}_by_map",
                        (_map(prior.name),),
                        np.zeros(shape),
                        variance,
                        prior.unit,
                    )
                )
            elif isinstance(spread, Shrunk):
                table += _shrunk(prior, self.n_nodes)
        return tuple(table)

    def by_region(self, parameters: Parameters) -> dict[str, jax.Array]:
        """Parameters with one value, or one a region, for each name of `common_priors`.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name.
        """
        known = dict(parameters)
        for name, spread in (self.regional or {}).items():
            if isinstance(spread, Groups):
                known[name] = jnp.asarray(known[name])[spread.members]
            elif isinstance(spread, Maps):
                known[name] = known[name] + known.pop(f"{name}_by_map") @ spread.values
            elif isinstance(spread, Shrunk):
                sd = REGIONAL_SD * jnp.exp(known.pop(f"{name}_spread"))
                known[name] = known[name] + sd * known.pop(f"{name}_by_region")
        return known

    def rest(self, parameters: Parameters | None = None) -> jax.Array:
        """The node's rest in every region."""
        own = None if parameters is None else self.by_region(parameters)
        shape = (self.n_nodes, len(self.states))
        return jnp.broadcast_to(jnp.asarray(self.node.rest(own), float), shape)

    def constants(self, parameters: Parameters) -> dict[str, jax.Array]:
        """What the parts of the equations take: `by_region`, with the constants of the node.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name.
        """
        own = self.by_region(parameters)
        return {**own, **self.node.constants(own)}

    # Parts of the equations

    def signal(self, name: str, x: jax.Array, parameters: Parameters) -> jax.Array:
        """A state or a signal of the node by name, shape (nodes,).

        Parameters
        ----------
        name : str
            Of a signal, or of a state; where both have the name, they are the same.
        x : jax.Array
            States, shape (nodes, states).
        parameters : mapping
            From `constants`.
        """
        if name in self.states:
            return x[:, self.states.index(name)]
        return self.node.sent(x, parameters)[self.node.signals.index(name)]

    def send(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """What travels along connections, shape (channels, nodes).

        Parameters
        ----------
        x : jax.Array
            States, shape (nodes, states).
        parameters : mapping
            From `constants`.
        """
        return self.coupling.send(self.signal(self.sent, x, parameters))

    def received(
        self,
        x: jax.Array,
        sums: jax.Array,
        parameters: Parameters,
        totals: jax.Array,
        further: Mapping[str, jax.Array],
    ) -> jax.Array:
        """What nodes receive, shape (afferents, nodes).

        Parameters
        ----------
        x : jax.Array
            States, shape (nodes, states).
        sums : jax.Array
            Weighted sums of what was sent, shape (channels, nodes).
        parameters : mapping
            From `constants`.
        totals : jax.Array
            Sums of weights, shape (nodes,).
        further : mapping of str to jax.Array
            What else is added to afferents, shape (nodes,).
        """
        own = self.signal(self.sent, x, parameters)
        strength = self.strength * jnp.exp(parameters["strength"])
        arriving = self.coupling.receive(sums, own, totals, strength)
        rows = []
        for name in self.node.afferents:
            row = arriving if name in self.afferents else jnp.zeros_like(arriving)
            rows.append(row + further[name] if name in further else row)
        return jnp.stack(rows)

    def noise_values(self, which: int, parameters: Parameters) -> dict[str, jax.Array]:
        """Physical values of one kind of noise by name.

        Parameters
        ----------
        which : int
            Its place in `noise`.
        parameters : mapping
            From `constants`.
        """
        return {
            name: jnp.asarray(value) * jnp.exp(parameters[f"noise_{name}"])
            for name, value in _numbers(self.noise[which]).items()
        }

    def noise_targets(self, which: int) -> tuple[str, ...]:
        """Names of the afferents (Ornstein-Uhlenbeck) or states (white) that noise drives.

        Parameters
        ----------
        which : int
            Its place in `noise`.
        """
        each = self.noise[which]
        first = self.afferents[0] if isinstance(each, OrnsteinUhlenbeck) else self.states[0]
        into = each.into or first
        return (into,) if isinstance(into, str) else tuple(into)

    def travel_time(self, lengths: ArrayLike, parameters: Parameters) -> jax.Array:
        """Delays of connections of given lengths, s.

        Parameters
        ----------
        lengths : array_like
            mm.
        parameters : mapping
            Full arrays by name.
        """
        return MS * jnp.asarray(lengths) / (self.speed * jnp.exp(parameters["speed"]))

    # As any neural model

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the states, without delays and noise; see `NeuralModel.flow`."""
        own = self.constants(parameters)
        weights = jnp.asarray(self.weights)
        sums = self.send(x, own) @ weights.T
        received = self.received(x, sums, own, weights.sum(1), {})
        return self.node.local(x, received, jnp.zeros(0), own)

    def delays(self, parameters: Parameters) -> jax.Array | None:
        """Delays between all pairs of states, s; see `NeuralModel.delays`."""
        if not self.delayed:
            return None
        between = self.travel_time(self.lengths, parameters)
        return jnp.tile(between, (len(self.states), len(self.states)))


# As a pytree, numbers are leaves, and all else is compared by value, so that one compiled program
# serves many values.


def _flat(network: Network) -> tuple[tuple[Any, ...], Any]:
    numbers = (network.weights, network.lengths, network.strength, network.speed)
    noise = tuple(tuple(_numbers(each).values()) for each in network.noise)
    kinds = tuple((type(each), each.into) for each in network.noise)
    names = (network.coupling, network.sent, network.afferents)
    return (numbers, noise), ByValue((network.node, names, kinds, network.regional or {}))


def _whole(rest: Any, leaves: Any) -> Network:
    node, names, kinds, regional = rest.value
    (weights, lengths, *gains), noise = leaves
    made = tuple(kind(*values, into) for (kind, into), values in zip(kinds, noise, strict=True))
    return Network(node, weights, lengths, *names, *gains, made, regional)


jax.tree_util.register_pytree_node(Network, _flat, _whole)


def _scaling(name: str) -> Prior:
    return Prior(name, (), np.zeros(()), np.full((), NETWORK_VARIANCE), "log scaling")


def _numbers(noise: Noise) -> dict[str, ArrayLike]:
    return {f.name: getattr(noise, f.name) for f in fields(noise) if f.name != "into"}


def _group(name: str) -> str:
    return f"group of {name}"


def _map(name: str) -> str:
    return f"map of {name}"


def _shrunk(prior: Prior, nodes: int) -> tuple[Prior, Prior]:
    """Priors of how far regions lie from a common value, and of where each lies."""
    name, one = prior.name, np.ones(())
    spread = Prior(f"{name}_spread", (), np.zeros(()), one, "log scaling")
    zeros = np.zeros(nodes)
    return spread, Prior(f"{name}_by_region", ("node",), zeros, zeros + 1, "regional sd")


def _widened(prior: Prior, spread: Spread, nodes: int) -> Prior:
    """A prior with an entry for every region or group."""
    if isinstance(spread, Maps | Shrunk):
        return prior
    dim, length = ("node", nodes) if isinstance(spread, Free) else (_group(prior.name), None)
    shape = (length if length is not None else len(spread.names),)
    mean, variance = (np.full(shape, float(value)) for value in (prior.mean, prior.variance))
    return Prior(prior.name, (dim,), mean, variance, prior.unit, prior.symbol)
