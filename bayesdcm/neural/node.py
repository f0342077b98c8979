"""What nodes of networks share: a table of constants, from which priors and values are made."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.neural.base import NodeModel, Parameters, Prior

SCALING_VARIANCE = 1 / 16


def constant(
    default: float,
    unit: str,
    meaning: str,
    *,
    positive: bool = True,
    variance: float = SCALING_VARIANCE,
) -> Any:
    """A field of a `NetworkNode`: a constant of its equations, which is a parameter, too.

    Parameters
    ----------
    default : float
        The published value.
    unit : str
        Its unit, as in the literature; ``"1"`` where it has none.
    meaning : str
        What it is, for the documentation.
    positive : bool
        Whether the parameter is the logarithm of a factor of the constant, as for what can only
        be positive; otherwise it is a difference from the constant, in its unit.
    variance : float
        Prior variance of the parameter, whose prior mean is 0.

    Returns
    -------
    dataclasses.Field
        For the body of the class.

    Examples
    --------
    >>> constant(10.0, "ms", "time constant").default
    10.0
    """
    table = {"unit": unit, "meaning": meaning, "positive": positive, "variance": variance}
    return field(default=default, metadata=table)


def _constants(node: Any) -> dict[str, Field]:
    return {each.name: each for each in fields(node) if "positive" in each.metadata}


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkNode(NodeModel):
    """A neural model of one region, without connections: the node of a `bayesdcm.NetworkModel`.

    A subclass is a frozen dataclass whose fields are `constant`. Each is a number, or an array
    with an entry for every region, in the literature's unit, and a parameter of the same name.
    What is left to write is `local`, the equations, which get the values of the constants by
    name; and `sent`, where what a node sends is not one of its states, and `rest`, where that is
    not zero. The table of constants is added to the docstring as its parameters.

    All of them work on one node or many: states (nodes, states), constants () or (nodes,).

    Attributes
    ----------
    states, signals, afferents : tuple of str
        Names of the states, of what a node sends, and of what it receives.
    activity : str
        The state or signal that haemodynamics and sensors see; empty for ``states[output]``.
    state_units : mapping of str to str
        Units of states and signals.

    Examples
    --------
    >>> @dataclass(frozen=True, eq=False, kw_only=True)
    ... class Leaky(NetworkNode):
    ...     \"\"\"A leaky integrator.\"\"\"
    ...     tau: float = constant(10.0, "ms", "time constant")
    ...     states, signals, afferents = ("x",), ("x",), ("I",)
    ...     def local(self, x, received, u, constants):
    ...         return (received.T - x) / (0.001 * constants["tau"])
    >>> Leaky().flow(jnp.ones((1, 1)), jnp.zeros(0), {"tau": jnp.zeros(())}).tolist()
    [[-100.0]]
    """

    state_units: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        table = {
            name: each.metadata
            for name, each in vars(cls).items()
            if isinstance(each, Field) and "positive" in each.metadata
        }
        if table and cls.__doc__:
            cls.__doc__ = _with_parameters(cls.__doc__, table)

    def __post_init__(self) -> None:
        lengths = {}
        for name, each in _constants(self).items():
            value = np.asarray(getattr(self, name), float)
            positive = "positive " if each.metadata["positive"] else ""
            if value.ndim > 1 or not np.isfinite(value).all() or (positive and (value <= 0).any()):
                raise ValueError(
                    f"{name} of {type(self).__name__} must be a {positive}number, "
                    f"{each.metadata['unit']}, or one for every region, got {value.tolist()!r}"
                )
            if value.ndim:
                lengths[name] = len(value)
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"constants of {type(self).__name__} have values for different numbers of "
                f"regions: {lengths}; give a number, or one for every region"
            )

    @property
    def n_nodes(self) -> int:
        """Number of nodes: as many as constants have values, or 1."""
        return max([1, *(np.size(getattr(self, name)) for name in _constants(self))])

    def priors(self) -> tuple[Prior, ...]:
        """For each constant, a log scaling or a difference that all nodes share."""
        table = {name: each.metadata for name, each in _constants(self).items()}
        return tuple(
            Prior(
                name,
                (),
                np.zeros(()),
                np.full((), entry["variance"]),
                "log scaling" if entry["positive"] else entry["unit"],
            )
            for name, entry in table.items()
        )

    def constants(self, parameters: Parameters | None) -> dict[str, jax.Array]:
        """Values of the constants by name, shape () or (nodes,), in their units.

        Parameters
        ----------
        parameters : mapping, optional
            Arrays by name; by default all are 0.
        """
        values = {}
        for name, each in _constants(self).items():
            value = jnp.asarray(getattr(self, name), float)
            if parameters is not None:
                change = parameters[name]
                positive = each.metadata["positive"]
                value = value * jnp.exp(change) if positive else value + change
            values[name] = value
        return values

    def sent(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """The states that `signals` names, see `NodeModel.sent`."""
        return jnp.stack([x[:, self.states.index(name)] for name in self.signals])

    def received(self, sent: jax.Array, parameters: Parameters) -> jax.Array:
        """Nothing: a node has no connections of its own."""
        return jnp.zeros((len(self.afferents), sent.shape[1]))

    def rest(self, parameters: Parameters | None = None) -> jax.Array | NDArray[np.float64]:
        """States in which nothing changes while nothing is received, shape (nodes, states).

        Parameters
        ----------
        parameters : mapping, optional
            Full arrays by name.
        """
        return np.zeros((self.n_nodes, len(self.states)))


def by_state(*states: ArrayLike) -> jax.Array:
    """States of every node, (nodes, states), from those that nodes share, (), or not, (nodes,).

    Examples
    --------
    >>> by_state(0.0, jnp.array([1.0, 2.0])).tolist()
    [[0.0, 1.0], [0.0, 2.0]]
    """
    return jnp.stack(jnp.broadcast_arrays(*(jnp.atleast_1d(each) for each in states)), axis=1)


def _with_parameters(text: str, table: Mapping[str, Mapping[str, Any]]) -> str:
    """A docstring with the table of constants before its first section."""
    entries = "".join(
        f"{name} : float or ndarray, shape (regions,)\n"
        + textwrap.fill(
            f"{entry['meaning'][0].upper()}{entry['meaning'][1:]}"
            + ("." if entry["unit"] == "1" else f", {entry['unit']}."),
            width=96,
            initial_indent=" " * 4,
            subsequent_indent=" " * 4,
        )
        + "\n"
        for name, entry in table.items()
    )
    section = f"Parameters\n----------\n{entries}\n"
    # Python removes the indentation of docstrings from 3.13 on; here it does not depend on that.
    before, line, after = inspect.cleandoc(text).partition("References\n---")
    return f"{before.rstrip()}\n\n{section}{line}{after}"
