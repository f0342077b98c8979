"""Linear response: how a system at rest answers small fluctuations, frequency by frequency.

About a stable state of rest, ``dx/dt = sum_j J_ij x_j(t - d_ij) + (B w)_i`` with fluctuations w.
At a frequency f the states are ``x = (2 pi i f - J e^{-2 pi i f d})^-1 B w``. This is solved as it
stands: nothing is decomposed into eigenvectors, which repeated eigenvalues do not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.device import on_device
from bayesdcm.data.spectral import SpectralData
from bayesdcm.integrate.base import Solver
from bayesdcm.integrate.complex_matrices import inverses
from bayesdcm.neural.base import NeuralModel, Parameters, Prior, from_vector, to_vector
from bayesdcm.neural.delays import inverse

ENTRIES = ("nodes", "inputs")
# Newton's method: steps at most, halvings of a step, and the flow that is left, relative to that
# at the start.
NEWTON_STEPS = 64
HALVINGS = 12
REST_TOLERANCE = 1e-12
SMALLEST_SINGULAR_VALUE = 1e-12
# Squarings of the propagator that tell whether it grows, and terms of its series.
SQUARINGS = 30
TERMS = 14
# Steps to units of states in which the norm is small.
BALANCINGS = 10
# Growth, relative to the norm, up to which rounding may be what grows.
STABLE = 1e-6


def least_squares(matrix: jax.Array, value: jax.Array) -> jax.Array:
    """The shortest x of those that bring ``matrix @ x`` nearest to a value, (n,).

    A state of which the flow conserves something has a Jacobian without inverse.
    """
    return jnp.linalg.pinv(matrix, rtol=SMALLEST_SINGULAR_VALUE) @ value


def rest_state(
    flow: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    divide: Callable[[jax.Array, jax.Array], jax.Array] = least_squares,
) -> jax.Array:
    """The state at which a flow vanishes, by Newton's method, with its implicit derivative.

    Parameters
    ----------
    flow : callable
        Rate of change (n,) of a state (n,), 1/s.
    start : jax.Array
        Where to start, shape (n,).
    divide : callable
        Solves linear equations, ``divide(matrix, value)``; ``jnp.linalg.solve`` takes less time
        where nothing is conserved.

    Returns
    -------
    jax.Array
        Shape (n,); not finite where none is found. Differentiable in both modes by what the flow
        depends on.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> round(float(rest_state(lambda x: 2.0 - jnp.exp(x), jnp.zeros(1))[0]), 9)
    0.693147181
    >>> slope = jax.grad(lambda a: rest_state(lambda x: a - jnp.exp(x), jnp.zeros(1))[0])
    >>> float(slope(2.0))
    0.5
    """
    shares = 0.5 ** jnp.arange(HALVINGS + 1)

    def size(x: jax.Array) -> jax.Array:
        value = jnp.abs(flow(x)).max(initial=0.0)
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def solve(flow: Callable, x: jax.Array) -> jax.Array:
        def advance(state: tuple) -> tuple:
            k, x, _, _ = state
            step = -divide(jax.jacfwd(flow)(x), flow(x))
            points = x + shares[:, None] * step
            sizes = jax.vmap(size)(points)
            best = jnp.argmin(sizes)
            return k + 1, points[best], sizes[best], sizes[best] < state[2]

        def unfinished(state: tuple) -> jax.Array:
            k, _, left, smaller = state
            return (k < NEWTON_STEPS) & (left > 0) & smaller

        first = size(x)
        _, found, left, _ = jax.lax.while_loop(
            unfinished, advance, (0, x, first, jnp.asarray(True))
        )
        scale = jnp.abs(jax.jacfwd(flow)(found)).max(initial=0.0) * (1 + jnp.abs(found).max())
        return jnp.where(left <= REST_TOLERANCE * scale, found, jnp.nan)

    def invert(linear: Callable, value: jax.Array) -> jax.Array:
        return divide(jax.jacfwd(linear)(jnp.zeros_like(value)), value)

    return jax.lax.custom_root(flow, start, solve, invert)


class LinearSystem(NamedTuple):
    """A system that is linear about its rest, ``dx/dt = J x + B w``, with delays.

    Attributes
    ----------
    jacobian : (n, n)
        J, 1/s.
    delays : (n, n) or None
        Delays between all pairs of states, (to, from), s; None for none.
    entry : (n, sources)
        B: what a unit of each fluctuation adds to the rate of change, 1/s.
    operator : (n, n)
        J with its delays as an operator on states of the same time, whose eigenvalues tell whether
        the system is stable; J where there are no delays. Without derivatives.
    """

    jacobian: jax.Array
    delays: jax.Array | None
    entry: jax.Array
    operator: jax.Array


def linear_system(
    neural: NeuralModel, parameters: Parameters, enters: str = "nodes"
) -> LinearSystem:
    """A neural model about its rest, found by Newton's method from ``neural.rest``.

    Parameters
    ----------
    neural : NeuralModel
        Any.
    parameters : mapping
        Full arrays by name.
    enters : {"nodes", "inputs"}
        Whether fluctuations are added to the rate of change of each node's output, times
        ``neural.fluctuation_scale``, or are fluctuations of the inputs.

    Returns
    -------
    LinearSystem
        States in the order of `bayesdcm.neural.base.to_vector`.

    Examples
    --------
    >>> import numpy as np
    >>> from bayesdcm.neural import Bilinear
    >>> model = Bilinear(np.eye(1), np.zeros((0, 1, 1)), np.zeros((1, 0)))
    >>> P = {"A": np.zeros((1, 1)), "B": np.zeros((0, 1, 1)), "C": np.zeros((1, 0))}
    >>> system = linear_system(model, P)
    >>> system.jacobian.tolist(), system.entry.tolist()
    ([[-0.5]], [[0.0625]])
    """
    n, u = neural.n_nodes, jnp.zeros(neural.n_inputs)

    def flow(vector: jax.Array, u: jax.Array) -> jax.Array:
        return to_vector(neural.flow(from_vector(vector, n), u, parameters))

    start = to_vector(jnp.asarray(neural.rest(parameters), float))
    # An affine flow has the same Jacobian everywhere.
    rest = start if neural.affine else rest_state(lambda x: flow(x, u), start)
    jacobian = jax.jacfwd(flow)(rest, u)
    if enters == "inputs":
        entry = jax.jacfwd(flow, argnums=1)(rest, u)
    else:
        entry = neural.fluctuation_entry(from_vector(rest, n), parameters)
    delays = neural.delays(parameters)
    operator = jax.lax.stop_gradient(jacobian)
    if delays is not None:
        held, constants = jax.lax.stop_gradient((jacobian, dict(parameters)))
        operator = neural.delay_operator(held, constants) @ held
    return LinearSystem(jacobian, delays, entry, operator)


def growth_rate(matrix: jax.Array) -> jax.Array:
    """Largest real part of the eigenvalues of a real matrix, 1/s, to some 1e-7 of its norm.

    The norm is that in units of the states in which it is about as small as can be.

    From how its propagator grows when it is squared again and again: no decomposition, so that it
    runs on any device and inside any loop.

    Parameters
    ----------
    matrix : jax.Array
        Rates, 1/s, shape (n, n).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(growth_rate(jnp.array([[-1.0, 5.0], [-5.0, -1.0]]))), 4)
    -1.0
    """
    return _growth_rate(_balanced(matrix))


def _growth_rate(matrix: jax.Array) -> jax.Array:
    n = len(matrix)
    norm = jnp.maximum(jnp.abs(matrix).sum(1).max(), 1e-30)
    half = matrix / (2 * norm)
    # The propagator over a time in which no rate does much, by Horner's rule.
    propagator = jnp.eye(n)
    for k in range(TERMS, 0, -1):
        propagator = jnp.eye(n) + half @ propagator / k

    def square(_: int, state: tuple) -> tuple:
        power, logarithm = state
        size = jnp.abs(power).max()
        power = power / size
        return power @ power, 2 * (logarithm + jnp.log(size))

    power, logarithm = jax.lax.fori_loop(0, SQUARINGS, square, (propagator, jnp.zeros(())))
    rate = (logarithm + jnp.log(jnp.abs(power).max())) / 2.0**SQUARINGS
    return 2 * norm * rate


def is_stable(matrix: jax.Array) -> jax.Array:
    """Whether no solution of ``dx/dt = J x`` grows, (); what is conserved counts as stable.

    Parameters
    ----------
    matrix : jax.Array
        Rates, 1/s, shape (n, n).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> [bool(is_stable(jnp.diag(jnp.array([-1.0, rate])))) for rate in (-0.1, 0.0, 0.1)]
    [True, True, False]
    """
    matrix = _balanced(matrix)
    return _growth_rate(matrix) < STABLE * jnp.abs(matrix).sum(1).max()


def _balanced(matrix: jax.Array) -> jax.Array:
    """The same matrix in other units of the states, such that rows and columns are of a size.

    Rates of change of second-order states are much larger than these, and what is little for the
    former is much for the latter.
    """

    def nearer(_: int, matrix: jax.Array) -> jax.Array:
        size = jnp.abs(matrix) * (1 - jnp.eye(len(matrix)))
        rows, columns = size.sum(1), size.sum(0)
        joined = (rows > 0) & (columns > 0)
        unit = jnp.where(joined, columns / jnp.where(joined, rows, 1.0), 1.0) ** 0.25
        return unit[:, None] * matrix / unit

    return jax.lax.fori_loop(0, BALANCINGS, nearer, matrix)


def transfer_functions(system: LinearSystem, frequencies: jax.Array) -> jax.Array:
    """What a unit of each fluctuation makes of each state, (frequencies, states, sources).

    Parameters
    ----------
    system : LinearSystem
        Stable; whether it is, is not looked at.
    frequencies : jax.Array
        Frequencies, Hz, shape (frequencies,).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> J = jnp.full((1, 1), -2.0)
    >>> T = transfer_functions(LinearSystem(J, None, jnp.ones((1, 1)), J), jnp.zeros(1))
    >>> T[0, 0, 0].item()
    (0.5+0j)
    """
    n = len(system.jacobian)
    turns = 2j * jnp.pi * frequencies[:, None, None]
    rates = system.jacobian
    if system.delays is not None:
        rates = rates * delayed(frequencies[:, None, None], system.delays)
    return inverses(turns * jnp.eye(n) - rates) @ system.entry.astype(complex)


@jax.custom_jvp
def delayed(frequencies: jax.Array, delays: jax.Array) -> jax.Array:
    """``exp(-2 pi i f d)``, to some 1e-15, of frequencies, Hz, and delays, s, of any shapes.

    XLA's sine and cosine go number by number on CPUs. Taylor series are worked out many at once.

    Examples
    --------
    >>> bool(jnp.abs(delayed(jnp.array([10.0, 40.0]), 0.02) - jnp.exp(jnp.array([-0.4j, -1.6j]) *
    ...     jnp.pi)).max() < 1e-14)
    True
    """
    turns = frequencies * delays
    return jax.lax.complex(_cosine(turns), _cosine(turns + 0.25))


def _cosine(turns: jax.Array) -> jax.Array:
    # The sine of what is left to a quarter of a turn.
    angle = 2 * jnp.pi * (0.25 - jnp.abs(turns - jnp.round(turns)))
    square, series = angle * angle, jnp.zeros_like(angle)
    for k in range(21, 0, -2):
        series = series * square + (-1) ** (k // 2) / math.factorial(k)
    return angle * series


@delayed.defjvp
def _delayed_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    result = delayed(*primals)
    turns = tangents[0] * primals[1] + primals[0] * tangents[1]
    angle = 2 * jnp.pi * turns
    return result, jax.lax.complex(angle * result.imag, -angle * result.real)


def cross_spectra(transfer: jax.Array, power: jax.Array) -> jax.Array:
    """Cross-spectra of what is seen of fluctuations, ``K G K^H``, (frequencies, seen, seen).

    Parameters
    ----------
    transfer : jax.Array
        Shape (frequencies, seen, sources).
    power : jax.Array
        Spectra of independent fluctuations, shape (frequencies, sources), or their cross-spectra,
        (frequencies, sources, sources).
    """
    if power.ndim == 2:
        return (transfer * power[:, None, :]) @ transfer.conj().mT
    return transfer @ power @ transfer.conj().mT


@dataclass(frozen=True)
class LinearResponse(Solver):
    """Transfer functions of a neural model that fluctuates about its rest.

    Rest is found by Newton's method; the response at each frequency is solved with the delays as
    they are. With an observer that has states (`bayesdcm.observe.Balloon`), those are
    linear about their rest, too. Where the system is unstable or has no rest, the solution is not
    finite, so that its density is zero.

    Parameters
    ----------
    enters : {"nodes", "inputs"}
        Where fluctuations enter: the rate of change of each node's output, or the inputs.

    Raises
    ------
    ValueError
        If `enters` is something else.

    References
    ----------
    .. [1] Friston, Kahan, Biswal and Razi (2014), NeuroImage 94:396.
           https://doi.org/10.1016/j.neuroimage.2013.12.009
    .. [2] Moran et al. (2009), NeuroImage 44:796.
           https://doi.org/10.1016/j.neuroimage.2008.09.048

    Examples
    --------
    >>> LinearResponse().enters
    'nodes'
    """

    enters: str = "nodes"

    data_class = SpectralData

    def __post_init__(self) -> None:
        if self.enters not in ENTRIES:
            raise ValueError(
                f"enters must be one of {', '.join(map(repr, ENTRIES))}, got {self.enters!r}"
            )

    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> dict[str, Any]:
        """Frequencies, and effects of the conditions; see `Solver.prepare`."""
        effects = getattr(design, "design", None)
        conditions = len(design.conditions)
        if effects is None:
            effects = np.zeros((conditions, 0))
        return on_device({"frequencies": np.asarray(design.frequencies), "design": effects})

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: dict
    ) -> jax.Array:
        """Transfer functions, (conditions, frequencies, sources, nodes[, states]).

        Without states of the neural model where the observer has its own. See `Solver.solve`.
        """
        frequencies = arrays["frequencies"]

        def condition(effects: jax.Array) -> jax.Array:
            changed = neural.condition(parameters, effects)
            system = linear_system(neural, changed, self.enters)
            transfer = transfer_functions(system, frequencies)
            transfer = jnp.where(is_stable(system.operator), transfer, jnp.inf)
            transfer = self.by_state(neural, transfer)
            if not observer.states:
                return transfer
            seen = observer_transfer(observer, neural.n_nodes, changed, frequencies)
            return transfer[..., neural.output] * seen[:, None, :]

        return jax.vmap(condition)(arrays["design"])

    def by_state(self, neural: NeuralModel, transfer: jax.Array) -> jax.Array:
        """From (frequencies, nodes * states, sources) to (frequencies, sources, nodes, states).

        Parameters
        ----------
        neural : NeuralModel
            The neural model.
        transfer : jax.Array
            From `transfer_functions`.
        """
        shape = (len(transfer), len(neural.states), neural.n_nodes, -1)
        return transfer.reshape(shape).transpose(0, 3, 2, 1)


def observer_transfer(
    observer: Any, n_nodes: int, parameters: Parameters, frequencies: jax.Array
) -> jax.Array:
    """What an observer with states sees of a unit of activity, about rest, (frequencies, nodes).

    Its states of a node must not act on those of others.

    Parameters
    ----------
    observer : bayesdcm.observe.Observer
        With `states`, at rest at 0.
    n_nodes : int
        Number of nodes.
    parameters : mapping
        Full arrays by name.
    frequencies : jax.Array
        Frequencies, Hz, shape (frequencies,).
    """
    k = len(observer.states)
    still, rest = jnp.zeros(n_nodes), jnp.zeros((n_nodes, k))
    by_h = jax.jacfwd(lambda h: observer.flow(still, h, parameters))(rest)
    rates = jnp.diagonal(by_h, axis1=0, axis2=2).transpose(2, 0, 1)
    # States of a node depend on its own activity only, so that one direction tells all.
    one = jnp.ones(n_nodes)
    entry = jax.jvp(lambda a: observer.flow(a, rest, parameters), (still,), (one,))[1]
    weights = jnp.diagonal(
        jax.jacfwd(lambda h: observer.read(h, parameters))(rest), axis1=0, axis2=1
    )
    turns = 2j * jnp.pi * frequencies[:, None, None, None]
    resolvent = jax.vmap(jax.vmap(inverse))(turns * jnp.eye(k) - rates)
    return jnp.einsum("kn,fnkj,nj->fn", weights.astype(complex), resolvent, entry.astype(complex))
