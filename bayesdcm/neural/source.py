"""What every neural model of electromagnetic sources offers, and the parts that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.neural.base import Parameters, Prior

# The step of every numerical derivative in SPM.
STEP = float(np.exp(-8))
CONTRIBUTION_VARIANCE = 1 / 32
TIMING_VARIANCE = 1 / 16


def to_vector(x: jax.Array) -> jax.Array:
    """States as a vector in SPM's order, the source running fastest.

    Parameters
    ----------
    x : jax.Array
        Shape (sources, states).

    Returns
    -------
    jax.Array
        Shape (sources * states,).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> to_vector(jnp.array([[1, 2], [3, 4]])).tolist()
    [1, 3, 2, 4]
    """
    return x.T.reshape(-1)


def from_vector(vector: jax.Array, sources: int) -> jax.Array:
    """States by source, the inverse of `to_vector`.

    Parameters
    ----------
    vector : jax.Array
        Shape (sources * states,).
    sources : int
        Number of sources.

    Returns
    -------
    jax.Array
        Shape (sources, states).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from_vector(jnp.array([1, 3, 2, 4]), 2).tolist()
    [[1, 2], [3, 4]]
    """
    return vector.reshape(-1, sources).T


def differentiate(
    function: Callable[[jax.Array], jax.Array], at: jax.Array, one_sided: bool = False
) -> jax.Array:
    """Jacobian of a function of a vector, exact or by SPM's one-sided differences.

    Parameters
    ----------
    function : callable
        From shape (n,) to shape (m,).
    at : jax.Array
        Point, shape (n,).
    one_sided : bool
        Differences with the step ``exp(-8)`` of SPM instead of exact derivatives.

    Returns
    -------
    jax.Array
        Shape (m, n).

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


def delay_matrix(between: jax.Array, within: jax.Array | NDArray[np.float64]) -> jax.Array:
    """Delays between all pairs of states, in the order of `to_vector`.

    Parameters
    ----------
    between : jax.Array
        Delays between sources, shape (to, from), s; the diagonal is not used.
    within : jax.Array
        Delays between the states of a source, shape (states, states) or, where sources differ,
        (states, states, sources), s.

    Returns
    -------
    jax.Array
        Shape (sources * states, sources * states), s.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> delay_matrix(jnp.array([[9.0, 1.0], [2.0, 9.0]]), jnp.zeros((1, 1))).tolist()
    [[0.0, 1.0], [2.0, 0.0]]
    """
    n, k = len(between), len(within)
    same = jnp.eye(n)
    within = jnp.broadcast_to(jnp.reshape(jnp.asarray(within), (k, k, -1)), (k, k, n))
    delays = jnp.broadcast_to(between * (1 - same), (k, k, n, n)) + within[..., None] * same
    return delays.transpose(0, 2, 1, 3).reshape(k * n, k * n)


def first_order(jacobian: jax.Array, delays: jax.Array) -> jax.Array:
    """First-order delay operator, ``(1 + delays o jacobian)^-1`` with an elementwise product.

    Parameters
    ----------
    jacobian : jax.Array
        Jacobian without delays, shape (n, n), 1/s.
    delays : jax.Array
        Shape (n, n), s.

    Returns
    -------
    jax.Array
        The operator that multiplies the flow, shape (n, n).

    References
    ----------
    .. [1] David et al. (2006), NeuroImage 30:1255.
           https://doi.org/10.1016/j.neuroimage.2005.10.045

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(first_order(jnp.full((1, 1), -1.0), jnp.full((1, 1), 0.5))[0, 0])
    2.0
    """
    return inverse(jnp.eye(len(jacobian)) + delays * jacobian)


@jax.custom_jvp
def inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of a matrix whose derivative is two products instead of triangular solves.

    Parameters
    ----------
    matrix : jax.Array
        Shape (n, n).

    Returns
    -------
    jax.Array
        Shape (n, n).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> inverse(jnp.full((1, 1), 2.0)).tolist()
    [[0.5]]
    """
    return jnp.linalg.inv(matrix)


@inverse.defjvp
def _inverse_jvp(primals: tuple, tangents: tuple) -> tuple:
    result = inverse(*primals)
    return result, -result @ tangents[0] @ result


def _checked(name: str, value: NDArray[np.float64], shape: tuple[int, ...], axes: str) -> NDArray:
    """Binary array of a shape in which -1 stands for any length, read-only."""
    array = np.array(value, dtype=float)
    fits = array.ndim == len(shape) and all(
        want in (-1, got) for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if want == -1 else str(want) for want in shape)
        raise ValueError(
            f"{name} must have shape ({expected}) with axes ({axes}), got {array.shape}"
        )
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError(f"{name} must hold only 0 (off) and 1 (on), got other numbers")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class SourceModel(ABC):
    """A neural model of sources of electromagnetic signals, ``dx/dt = f(x, u)`` per second.

    Subclasses name the states (`states`), the populations with the state that holds their
    voltage (`populations`), the kinds of connections (`kinds`, first axis of ``A``) and the
    entries of the axes that only they have (`axes`), and give `dynamics`, `rest`, `delays` and
    `priors`. Delays enter through `delay_operator`, which integrators use; `flow` has none.

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

    states: ClassVar[tuple[str, ...]]
    populations: ClassVar[Mapping[str, int]]
    kinds: ClassVar[tuple[str, ...]] = ("forward", "backward", "lateral")
    axes: ClassVar[Mapping[str, tuple[str, ...]]]
    delay_in_flow: ClassVar[bool] = False
    # Scale of the input, and the array of gains whose first column diag(B) changes.
    input_gain: ClassVar[float]
    modulated_gain: ClassVar[str]
    # What the diagonal of B changes in a source, in words.
    gain_in_words: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[tuple[str, str]]
    # States that sensors see: the one of unit weight, and those of unknown weight.
    contributing: ClassVar[tuple[int, tuple[int, ...]]]

    @property
    def first_order_delays(self) -> bool:
        """Whether the flow is multiplied by one operator, which `first_order` gives."""
        own = type(self).delay_operator is not SourceModel.delay_operator
        return not (own or self.delay_in_flow)

    def __post_init__(self) -> None:
        n = len(np.atleast_1d(self.forward))
        shapes = {
            "forward": ((n, n), "to, from"),
            "backward": ((n, n), "to, from"),
            "lateral": ((n, n), "to, from"),
            "modulation": ((-1, n, n), "effect, to, from"),
            "inputs": ((n, -1), "to, input"),
        }
        for name, (shape, axes) in shapes.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), shape, axes))

    @property
    def sources(self) -> int:
        """Number of sources."""
        return len(self.forward)

    @abstractmethod
    def dynamics(self, x: jax.Array, drive: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the states under a given input to each source, without delays.

        Parameters
        ----------
        x : jax.Array
            States, shape (sources, states).
        drive : jax.Array
            Input to each source, shape (sources,).
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array
            Time derivative of `x` per second, shape (sources, states).
        """

    def drive(self, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Input to each source, ``gain exp(C) u``.

        Parameters
        ----------
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            ``C``, shape (to, input).

        Returns
        -------
        jax.Array
            Shape (sources,).
        """
        return self.input_gain * (jnp.exp(parameters["C"]) * u).sum(-1)

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the states, without delays.

        Parameters
        ----------
        x : jax.Array
            States, shape (sources, states).
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array
            Time derivative of `x` per second, shape (sources, states).
        """
        return self.dynamics(x, self.drive(u, parameters), parameters)

    def rest(self) -> NDArray[np.float64]:
        """States before stimulation, where every integration starts, shape (sources, states)."""
        return np.zeros((self.sources, len(self.states)))

    def jacobian(
        self, x: jax.Array, u: jax.Array, parameters: Parameters, one_sided: bool = False
    ) -> jax.Array:
        """Jacobian by the states that SPM's integration and delay operator use.

        Parameters
        ----------
        x : jax.Array
            States, shape (sources, states).
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
            Shape (n, n) with n = sources * states, in the order of `to_vector`, 1/s.
        """
        drive, sources = self.drive(u, parameters), len(x)

        def flow(vector: jax.Array) -> jax.Array:
            return to_vector(self.dynamics(from_vector(vector, sources), drive, parameters))

        return differentiate(flow, to_vector(x), one_sided)

    @abstractmethod
    def delays(self, parameters: Parameters) -> jax.Array:
        """Delays between all pairs of states, in the order of `to_vector`.

        Parameters
        ----------
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array
            Shape (n, n) with n = sources * states, (to, from), s.
        """

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
        return first_order(jacobian, self.delays(parameters))

    def condition(self, parameters: Parameters, effects: jax.Array) -> dict[str, jax.Array]:
        """Parameters of one condition.

        With ``X`` the row of the design: ``X_i B_i`` is added to ``A`` of every kind, its
        diagonal also to the first gain of each source.

        Parameters
        ----------
        parameters : mapping
            Full parameter arrays by name, ``B`` (effect, to, from) among them.
        effects : jax.Array
            Row of the design, shape (effects,).

        Returns
        -------
        dict of str to jax.Array
            The same names; ``A`` and the gains are those of the condition.
        """
        change = (effects[:, None, None] * parameters["B"]).sum(0)
        gain, self_change = parameters[self.modulated_gain], jnp.diagonal(change)
        if gain.ndim == 1:
            gain = gain + self_change
        else:
            gain = gain.at[:, 0].add(self_change)
        changed = {"A": parameters["A"] + change, self.modulated_gain: gain}
        return {**parameters, **changed}

    @abstractmethod
    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors of the neural parameters, in SPM's order."""

    @property
    def contribution(self) -> Prior:
        """Prior of the weights with which states contribute to what sensors see."""
        dominant, free = self.contributing
        mean, variance = np.zeros(len(self.states)), np.zeros(len(self.states))
        mean[dominant] = 1.0
        variance[list(free)] = CONTRIBUTION_VARIANCE
        return Prior("contribution", ("state",), mean, variance, "relative weight", "J")

    def _connections(self, absent: float, masks: list[NDArray], divisor: float) -> list[Prior]:
        """Priors of ``A``: mean `absent` and no variance where there is no connection."""
        mask = np.stack(masks)
        mean = absent * (1 - mask)
        return [Prior("A", ("kind", "to", "from"), mean, mask / divisor, "log scaling", "A")]

    def _driving(self, absent: float) -> Prior:
        """Prior of ``C``."""
        mean, variance = absent * (1 - self.inputs), self.inputs / 32
        return Prior("C", ("to", "input"), mean, variance, "log scaling", "C")

    def _timing(self) -> Prior:
        """Prior of onset and dispersion of the inputs."""
        shape = (self.inputs.shape[1], 2)
        variance = np.full(shape, TIMING_VARIANCE)
        unit = "onset: 128 ms; dispersion: log scaling"
        return Prior("input_timing", ("input", "timing"), np.zeros(shape), variance, unit, "R")

    def _union(self, modulated: bool) -> NDArray[np.float64]:
        """Which pairs of sources any connection joins."""
        total = self.forward + self.backward + self.lateral
        if modulated:
            total = total + self.modulation.sum(0)
        return (total > 0).astype(float)


def scaling(
    name: str, dims: tuple[str, ...], shape: tuple[int, ...], divisor: float, symbol: str
) -> Prior:
    """Prior of log scalings that are all free, mean 0 and variance ``1 / divisor``.

    Parameters
    ----------
    name, dims, symbol : str, tuple of str, str
        As in `Prior`.
    shape : tuple of int
        Shape of the array.
    divisor : float
        Prior precision.

    Returns
    -------
    Prior
        The prior.

    Examples
    --------
    >>> float(scaling("activation", (), (), 16, "S").variance)
    0.0625
    """
    return Prior(name, dims, np.zeros(shape), np.full(shape, 1 / divisor), "log scaling", symbol)
