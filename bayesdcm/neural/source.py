"""What neural models of electromagnetic sources share: connections of several kinds, delays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.neural.base import NodeModel, Parameters, Prior, to_vector
from bayesdcm.neural.switches import set_switches

TIMING_VARIANCE = 1 / 16
# Axes and names of parameters of what joins sources with others, or of delays.
JOINING = {"to", "from", "input", "effect", "delay", "intrinsic_delay"}


@dataclass(frozen=True, eq=False)
class SourceModel(NodeModel):
    """A neural model of sources of electromagnetic signals, ``dx/dt = f(x, u)`` per second.

    Subclasses name the populations with the state that holds their voltage (`populations`) and
    the kinds of connections (`kinds`, first axis of ``A``). Delays enter through
    `delay_operator`, which `bayesdcm.integrate.LocalLinear` uses; `flow` has none.

    Parameters
    ----------
    forward, backward, lateral : ndarray
        Switches of the connections between sources, shape (to, from), 0 or 1.
    modulation : ndarray
        Switches of the connections that experimental effects change, shape (effect, to, from).
    inputs : ndarray
        Switches of the driving inputs, shape (to, input).
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    lateral: NDArray[np.float64]
    modulation: NDArray[np.float64]
    inputs: NDArray[np.float64]

    kinds: ClassVar[tuple[str, ...]] = ("forward", "backward", "lateral")
    # Scale of what fluctuates by itself, in SPM's spectral models.
    fluctuation_gain: ClassVar[float]
    # Scale of the input; `gain` names the array of which diag(B) changes the first column.
    input_gain: ClassVar[float]
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "connection_strength": (("condition", "kind", "to", "from"), "relative to the prior mean")
    }
    units: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "input_timing": ("128 ms", "log scaling of the standard deviation")
    }
    titles: ClassVar[Mapping[str, str]] = {
        "A": "Connections A",
        "B": "Condition effects B",
        "C": "Driving inputs C",
        "delay": "Conduction delays",
        "modulatory": "Modulatory connections",
        "modulatory_effect": "Condition effects on modulatory connections",
    }
    label_note: ClassVar[str] = (
        "Labels read A[kind, to, from], B[effect, to, from] and C[to, input]. Neural parameters "
        "are logarithms of factors on the prior mean (0 is a factor of 1, 0.69 of 2); B is added "
        "to A where a condition has the effect, its diagonal to the gain of a source. Onsets are "
        "in 128 ms, positions in mm, dipole moments in arbitrary units. "
    )
    stability: ClassVar[str] = "check strengths and time constants"

    def __post_init__(self) -> None:
        n = len(np.atleast_1d(self.forward))
        expected = dict.fromkeys(("forward", "backward", "lateral"), ((n, n), "to, from"))
        expected["modulation"] = (None, n, n), "effect, to, from"
        expected["inputs"] = (n, None), "to, input"
        set_switches(self, expected)

    @property
    def n_nodes(self) -> int:
        """Number of sources."""
        return len(self.forward)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.inputs.shape[1]

    @property
    def n_effects(self) -> int:
        """Number of effects in which conditions differ."""
        return self.modulation.shape[0]

    @classmethod
    def node(cls) -> SourceNode:
        """One source without connections and inputs, the node of a `bayesdcm.NetworkModel`."""
        off = np.zeros((1, 1))
        return SourceNode(cls(off, off, off, np.zeros((0, 1, 1)), np.zeros((1, 0))))

    def drive(self, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Input to each source, ``gain exp(C) u``, shape (sources,).

        Parameters
        ----------
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            Full arrays by name.
        """
        return self.input_gain * (jnp.exp(parameters["C"]) * u).sum(-1)

    def fluctuation_entry(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Fluctuations enter each source where inputs do, `fluctuation_gain` of them.

        See `NeuralModel.fluctuation_entry`.
        """
        n = self.n_nodes
        # One input a source, and no other.
        one_each = {**parameters, "C": np.where(np.eye(n, dtype=bool), 0.0, -np.inf)}

        def flow(u: jax.Array) -> jax.Array:
            return to_vector(self.flow(x, u, one_each))

        return self.fluctuation_gain / self.input_gain * jax.jacfwd(flow)(jnp.zeros(n))

    def condition(self, parameters: Parameters, effects: jax.Array) -> dict[str, jax.Array]:
        """Parameters of one condition.

        With ``X`` the row of the design: ``X_i B_i`` is added to ``A`` of every kind, its
        diagonal also to the first gain of each source. See `NeuralModel.condition`.
        """
        change = (effects[:, None, None] * parameters["B"]).sum(0)
        gain, self_change = parameters[self.gain[0]], jnp.diagonal(change)
        gain = gain + self_change if gain.ndim == 1 else gain.at[:, 0].add(self_change)
        return {**parameters, "A": parameters["A"] + change, self.gain[0]: gain}

    def derive(self, parameters: Parameters, design: jax.Array | None) -> dict[str, jax.Array]:
        """``connection_strength`` (conditions, kinds, to, from), 0 where there is none.

        Relative to the prior mean; without a design, of the baseline alone.
        """
        free = next(prior for prior in self.priors() if prior.name == "A").free
        rows = jnp.zeros((1, self.n_effects)) if design is None else design

        def strength(effects: jax.Array) -> jax.Array:
            return jnp.where(free, jnp.exp(self.condition(parameters, effects)["A"]), 0.0)

        return {"connection_strength": jax.vmap(strength)(rows)}

    def _connections(self, absent: float, masks: list[NDArray], divisor: float) -> Prior:
        """Prior of ``A``: mean `absent` and no variance where there is no connection."""
        mask = np.stack(masks)
        return scaling("A", ("kind", "to", "from"), mask / divisor, "A", absent * (1 - mask))

    def _effects(
        self, name: str, variance: NDArray, symbol: str, unit: str = "change of log scaling"
    ) -> Prior:
        """Prior of changes of connections."""
        return scaling(name, ("effect", "to", "from"), variance, symbol, unit=unit)

    def _driving(self, absent: float) -> Prior:
        """Prior of ``C``."""
        mean = absent * (1 - self.inputs)
        return scaling("C", ("to", "input"), self.inputs / 32, "C", mean)

    def _timing(self) -> Prior:
        """Prior of onset and dispersion of the inputs."""
        variance = np.full((self.n_inputs, 2), TIMING_VARIANCE)
        unit = "onset: 128 ms; dispersion: log scaling"
        return scaling("input_timing", ("input", "timing"), variance, "R", unit=unit)

    def _union(self) -> NDArray[np.float64]:
        """Which pairs of sources any connection, or effect, joins."""
        total = self.forward + self.backward + self.lateral + self.modulation.sum(0)
        return (total > 0).astype(float)


@dataclass(frozen=True, eq=False)
class SourceNode(NodeModel):
    """A source in every region of a network, joined by the network's connections and delays.

    Made by `SourceModel.node`. What it sends and where connections end are the `signals` and
    `afferents` of the model; connections, inputs and delays of the model itself are left out.
    Strengths of connections are those of the network: the model has 32 for forward, 16 for
    backward connections of ERP and LFP.

    Parameters
    ----------
    model : SourceModel
        One source.

    Examples
    --------
    >>> from bayesdcm.neural import ERP
    >>> [prior.name for prior in ERP.node().priors()]
    ['time_constant', 'synaptic_gain', 'activation', 'intrinsic']
    """

    model: SourceModel

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the states."""
        return self.model.states

    @property
    def signals(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of what a source sends."""
        return self.model.signals

    @property
    def afferents(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of where connections end."""
        return self.model.afferents

    @property
    def output(self) -> int:  # type: ignore[override]
        """The state that channels see."""
        return self.model.output

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        """Names along the axes of parameters."""
        return self.model.axes

    @property
    def title(self) -> str:  # type: ignore[override]
        """Name of the model."""
        return self.model.title

    @property
    def citation(self) -> tuple[str, str] | None:  # type: ignore[override]
        """What to cite for the model."""
        return self.model.citation

    @property
    def state_units(self) -> Mapping[str, str]:
        """Units of voltages."""
        return {name: "mV" for name in self.states if name.endswith("voltage")}

    @property
    def n_nodes(self) -> int:
        """One node."""
        return 1

    def rest(self, parameters: Parameters | None = None) -> ArrayLike:
        """As the model, see `NeuralModel.rest`."""
        return self.model.rest()

    def priors(self) -> tuple[Prior, ...]:
        """Those of a source by itself, without the axis of sources."""
        table = []
        for prior in self.model.priors():
            dims = tuple(dim for dim in prior.dims if dim != "source")
            if not JOINING & {prior.name, *dims}:
                moments = (prior.mean, prior.variance)
                if dims != prior.dims:
                    moments = tuple(each[0] for each in moments)
                table.append(Prior(prior.name, dims, *moments, prior.unit, prior.symbol))
        return tuple(table)

    def constants(self, parameters: Parameters) -> dict[str, jax.Array]:
        """Full arrays of the model, each with an axis of sources where the model has one."""
        values = {}
        for prior in self.model.priors():
            value = jnp.asarray(parameters.get(prior.name, prior.mean))
            lacks_sources = "source" in prior.dims and value.ndim < len(prior.dims)
            values[prior.name] = value[None] if lacks_sources else value
        return values

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """As the model, see `NodeModel.sent`."""
        return self.model.sent(x, parameters)

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """Nothing: a node has no connections of its own."""
        return jnp.zeros((len(self.afferents), sent.shape[1]))

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """As the model, see `NodeModel.local`."""
        return self.model.local(x, received, jnp.zeros(0), parameters)


def scaling(
    name: str,
    dims: tuple[str, ...],
    variance: ArrayLike,
    symbol: str,
    mean: ArrayLike = 0.0,
    unit: str = "log scaling",
) -> Prior:
    """Prior of log scalings, of mean 0 unless given, in the shape of the variance."""
    variance = np.asarray(variance)
    return Prior(name, dims, np.broadcast_to(mean, variance.shape), variance, unit, symbol)
