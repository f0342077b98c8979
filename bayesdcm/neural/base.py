"""What every neural model offers: named states, a state equation, a table of priors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.neural.delays import first_order

Parameters = Mapping[str, jax.Array]

# The step of every numerical derivative in SPM.
STEP = float(np.exp(-8))
CONTRIBUTION_VARIANCE = 1 / 32


@dataclass(frozen=True, eq=False)
class Prior:
    """Independent priors of one parameter array, Gaussian unless a family is given.

    Parameters
    ----------
    name : str
        Name of the parameter, the literature's letter where there is one.
    dims : tuple of str
        Names of the array's axes: ``"to"``, ``"from"``, ``"input"``, ``"region"``, ``"gating"``
        ``"node"``, ``"effect"``; `NeuralModel.axes` names the entries of others.
    mean, variance : ndarray
        Prior mean and variance of every entry, in the shape of the array. An entry of zero
        variance is a constant.
    unit : str
        Unit of the entries.
    symbol : str
        SPM's name of the field where it differs from `name`, for reading SPM's files; may be empty.
    family : LaplacePrior or HorseshoePrior, optional
        Of the free entries where they are not normal; mean and variance are its moments.
    of_family : ndarray of bool, optional
        Which free entries are of that family, in the shape of the array. None: all.

    Examples
    --------
    >>> import numpy as np
    >>> prior = Prior("decay", (), np.zeros(()), np.full((), 1 / 256), "log scaling")
    >>> int(prior.free.sum())
    1
    """

    name: str
    dims: tuple[str, ...]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    unit: str
    symbol: str = ""
    family: Any = None
    of_family: NDArray[np.bool_] | None = None

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which entries are estimated."""
        return np.asarray(self.variance) > 0

    @property
    def not_normal(self) -> NDArray[np.bool_]:
        """Which entries are of its family."""
        if self.family is None:
            return np.zeros(np.shape(self.mean), bool)
        return self.free if self.of_family is None else self.free & self.of_family


def to_vector(x: jax.Array) -> jax.Array:
    """States (nodes, states) as a vector in SPM's order, the node running fastest.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> to_vector(jnp.array([[1, 2], [3, 4]])).tolist()
    [1, 3, 2, 4]
    """
    return x.T.reshape(-1)


def from_vector(vector: jax.Array, nodes: int) -> jax.Array:
    """States (nodes, states) of a vector, the inverse of `to_vector`."""
    return vector.reshape(-1, nodes).T


def differentiate(
    function: Callable[[jax.Array], jax.Array], at: jax.Array, one_sided: bool = False
) -> jax.Array:
    """Jacobian (m, n) of a function from (n,) to (m,), exact or by SPM's one-sided differences.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> differentiate(lambda v: v**2, jnp.array([1.0, 3.0])).tolist()
    [[2.0, 0.0], [0.0, 6.0]]
    """
    if not one_sided:
        return jax.jacfwd(function)(at)
    moved = jax.vmap(lambda shift: function(at + shift))(STEP * jnp.eye(len(at)))
    return (moved - function(at)).T / STEP


class NeuralModel(ABC):
    """A state equation of connected nodes (regions, sources), with priors of its parameters.

    A subclass is best a frozen dataclass whose fields are arrays of switches (1: the connection
    exists) and options. It names the `states` of a node and gives `priors` and `flow`; all else
    has a default. It can then be observed as `bayesdcm.DCM(neural, solver, observer)`.

    Attributes
    ----------
    states : tuple of str
        Names of the states of a node.
    output : int
        The state that drives haemodynamics and that channels see, an index into `states`.
    also_seen : tuple of int
        States that channels may see, too, each with a weight that is estimated.
    fluctuation_scale : float
        What a unit of a node's own fluctuations adds to the rate of change of its `output`, 1/s.
    delay_in_flow : bool
        Whether `delay_operator` is to be worked out anew at every state, as SPM does for `LFP`.
    many_modes : bool
        Whether posteriors often have several modes, so that variational Laplace looks for better
        optima however good the first is.
    stiff : bool
        Whether states may relax within less than half a millisecond, so that a solver takes their
        ``relaxation``: see `bayesdcm.neural.LaminarSource` and `bayesdcm.integrate`.
    title : str
        Name of the model, for figures and reports.
    citation : (text, address)
        What to cite for it.
    axes : mapping
        Names along axes of parameters that only this model has.
    derived : mapping
        Names of the axes, and unit, of each array that `derive` gives.
    units, self_units, titles, populations, gain, label_note, flat_directions
        See `bayesdcm.models.facts.Facts`; units that `priors` do not tell.
    stability : str
        What to check where a trajectory diverges.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> class Decay(NeuralModel):
    ...     states = ("activity",)
    ...     def priors(self):
    ...         return (Prior("rate", ("node",), np.zeros(2), np.ones(2), "log scaling"),)
    ...     def flow(self, x, u, parameters):
    ...         return -jnp.exp(parameters["rate"])[:, None] * x
    >>> model, parameters = Decay(), {"rate": jnp.zeros(2)}
    >>> model.n_nodes, model.n_inputs, model.rest(parameters).shape
    (2, 0, (2, 1))
    >>> model.jacobian(jnp.zeros((2, 1)), jnp.zeros(0), parameters).tolist()
    [[-1.0, -0.0], [-0.0, -1.0]]
    """

    states: ClassVar[tuple[str, ...]]
    output: ClassVar[int] = 0
    also_seen: ClassVar[tuple[int, ...]] = ()
    fluctuation_scale: ClassVar[float] = 1.0
    delay_in_flow: ClassVar[bool] = False
    many_modes: ClassVar[bool] = False
    stiff: ClassVar[bool] = False
    title: ClassVar[str] = ""
    citation: ClassVar[tuple[str, str] | None] = None
    axes: ClassVar[Mapping[str, Sequence[str]]] = {}
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {}
    units: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    self_units: ClassVar[Mapping[str, str]] = {}
    titles: ClassVar[Mapping[str, str]] = {}
    populations: ClassVar[Mapping[str, int]] = {}
    gain: ClassVar[tuple[str, ...]] = ()
    label_note: ClassVar[str] = ""
    flat_directions: ClassVar[bool] = False
    stability: ClassVar[str] = "check the strengths of connections and the rates"

    @abstractmethod
    def priors(self) -> tuple[Prior, ...]:
        """Priors of the parameters, in the order of the literature.

        Their `Prior.dims` name the axes: ``"node"`` (or ``"region"``, ``"source"``), ``"to"``,
        ``"from"``, ``"input"``, and ``"effect"`` for what differs between conditions.
        """

    @abstractmethod
    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the states, without delays.

        Parameters
        ----------
        x : jax.Array
            States, shape (nodes, states).
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array
            Time derivative of `x` per second, shape (nodes, states).
        """

    def _length(self, *dims: str) -> int:
        lengths = (
            length
            for prior in self.priors()
            for dim, length in zip(prior.dims, np.shape(prior.mean), strict=True)
            if dim in dims
        )
        return next(lengths, 0)

    @property
    def n_nodes(self) -> int:
        """Number of nodes, by default as `priors` have them."""
        return self._length("node", "region", "source", "to")

    @property
    def n_inputs(self) -> int:
        """Number of inputs, by default as `priors` have them."""
        return self._length("input")

    @property
    def n_effects(self) -> int:
        """Number of effects in which conditions differ, by default as `priors` have them."""
        return self._length("effect")

    @property
    def affine(self) -> bool:
        """Whether the flow is affine in the states while the input is constant."""
        return False

    def rest(self, parameters: Parameters | None = None) -> ArrayLike:
        """States before stimulation, where every solution starts, shape (nodes, states).

        Parameters
        ----------
        parameters : mapping, optional
            Full arrays by name, where rest depends on them.
        """
        return np.zeros((self.n_nodes, len(self.states)))

    def jacobian(
        self, x: jax.Array, u: jax.Array, parameters: Parameters, one_sided: bool = False
    ) -> jax.Array:
        """Jacobian of the flow by the states.

        Parameters
        ----------
        x : jax.Array
            States, shape (nodes, states).
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            Full parameter arrays by name.
        one_sided : bool
            Differentiate as SPM does, by differences with the step ``exp(-8)``; exactly by
            default.

        Returns
        -------
        jax.Array
            Shape (n, n) with n = nodes * states, in the order of `to_vector`, 1/s.
        """

        def flow(vector: jax.Array) -> jax.Array:
            return to_vector(self.flow(from_vector(vector, len(x)), u, parameters))

        return differentiate(flow, to_vector(x), one_sided)

    def fluctuation_entry(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """What a unit of each node's own fluctuations adds to the rates of change.

        Parameters
        ----------
        x : jax.Array
            States, shape (nodes, states).
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array
            Shape (n, nodes) with n = nodes * states, in the order of `to_vector`, 1/s; by default
            `fluctuation_scale` for the node's `output`.
        """
        first = len(x) * self.output
        return self.fluctuation_scale * jnp.eye(x.size)[:, first : first + len(x)]

    def delays(self, parameters: Parameters) -> jax.Array | None:
        """Delays between all pairs of states, in the order of `to_vector`.

        Parameters
        ----------
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array or None
            Shape (n, n) with n = nodes * states, (to, from), s; None without delays.
        """
        return None

    def delay_operator(self, jacobian: jax.Array, parameters: Parameters) -> jax.Array:
        """Operator that multiplies the flow and its Jacobian to account for the delays.

        Parameters
        ----------
        jacobian : jax.Array
            From `jacobian`, shape (n, n), 1/s.
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array
            Shape (n, n).
        """
        delays = self.delays(parameters)
        return jnp.eye(len(jacobian)) if delays is None else first_order(jacobian, delays)

    def condition(self, parameters: Parameters, effects: jax.Array) -> Parameters:
        """Parameters of one condition of an experiment, by default those of all.

        Parameters
        ----------
        parameters : mapping
            Full parameter arrays by name.
        effects : jax.Array
            Row of the design, shape (effects,).

        Returns
        -------
        mapping
            The same names.
        """
        return parameters

    def derive(self, parameters: Parameters, design: jax.Array | None) -> dict[str, jax.Array]:
        """Quantities of interest that follow from the parameters, with `derived` their axes.

        Parameters
        ----------
        parameters : mapping
            Full parameter arrays by name.
        design : jax.Array or None
            Effects of each condition, shape (conditions, effects), where there are conditions.

        Returns
        -------
        dict of str to jax.Array
            By default none.
        """
        return {}

    @property
    def contribution(self) -> Prior:
        """Prior of the weights with which states contribute to what channels see."""
        mean = np.zeros(len(self.states))
        mean[self.output] = 1.0
        variance = np.zeros_like(mean)
        variance[list(self.also_seen)] = CONTRIBUTION_VARIANCE
        return Prior("contribution", ("state",), mean, variance, "relative weight", "J")


class NodeModel(NeuralModel):
    """A neural model that comes apart: what a node does by itself, and what it sends to others.

    Subclasses give `sent`, `received` and `local`; `flow` is made of them. Any of them can be the
    node of a network in which other connections, or delays, join `sent` and `received`. What these
    three need of the parameters, `constants` works out once for all steps of a simulation.

    Attributes
    ----------
    signals, afferents : tuple of str
        Names of the rows of `sent` and `received`; without `afferents`, it is no node of a
        network.
    activity : str
        The state or signal that haemodynamics and sensors see; empty for ``states[output]``.
    usual_coupling : str
        The coupling of a network that is told none, a name of those of `bayesdcm.NetworkModel`.
    """

    signals: ClassVar[tuple[str, ...]] = ()
    afferents: ClassVar[tuple[str, ...]] = ()
    activity: ClassVar[str] = ""
    usual_coupling: ClassVar[str] = "diffusive"

    def constants(self, parameters: Parameters) -> Parameters:
        """What `sent`, `received` and `local` take as their parameters, by default just these.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name.

        Returns
        -------
        mapping
            Arrays by name, such as physical values in place of log scalings.
        """
        return parameters

    @abstractmethod
    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """What each node sends to others, such as firing rates, shape (signals, nodes).

        Parameters
        ----------
        x : jax.Array
            States, shape (nodes, states).
        parameters : mapping
            From `constants`.
        """

    @abstractmethod
    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """What reaches each node by its connections, shape (afferents, nodes).

        Parameters
        ----------
        sent : jax.Array
            From `sent`, shape (signals, nodes).
        parameters : mapping
            From `constants`.
        """

    @abstractmethod
    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states of nodes, given what they receive.

        Parameters
        ----------
        x : jax.Array
            States, shape (nodes, states).
        received : jax.Array
            From `received`, shape (afferents, nodes).
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            From `constants`.

        Returns
        -------
        jax.Array
            Time derivative of `x` per second, shape (nodes, states).
        """

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the states, without delays; see `NeuralModel.flow`."""
        constants = self.constants(parameters)
        received = self.received(self.sent(x, constants), constants)
        return self.local(x, received, u, constants)
