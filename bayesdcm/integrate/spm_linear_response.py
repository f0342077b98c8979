"""Linear response as SPM works it out: with eigenvalues that are moved, and delays as operators.

SPM keeps systems stable by changing their eigenvalues before it makes transfer functions of them.
That is a numerical device, not the model: `bayesdcm.integrate.LinearResponse` solves the equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.by_value import ByValue
from bayesdcm.integrate.base import joint_states
from bayesdcm.integrate.linear_response import (
    LinearResponse,
    LinearSystem,
    growth_rate,
    observer_transfer,
    transfer_functions,
)
from bayesdcm.neural.base import (
    NeuralModel,
    Parameters,
    Prior,
    differentiate,
    from_vector,
    to_vector,
)

# Largest real part of eigenvalues at slow frequencies, 1/s.
LARGEST_RATE = -1 / 32
# Eigenvalues that are this near, relative to the largest, count as one.
SAME = 1e-10


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def moved_eigenvalues(matrix: jax.Array, fast: bool) -> jax.Array:
    """A real matrix (n, n) with its eigenvalues moved to the left.

    Parameters
    ----------
    matrix : jax.Array
        Shape (n, n), 1/s.
    fast : bool
        Whether there are frequencies above 1 Hz: real parts then fall by their exponential. Else
        they are at most -1/32.

    Examples
    --------
    >>> moved_eigenvalues(jnp.diag(jnp.array([1.0, -1.0])), False).round(5).tolist()
    [[-0.03125, 0.0], [0.0, -1.0]]
    """
    values, vectors = jnp.linalg.eig(matrix)
    return ((vectors * _moved(values, fast)) @ jnp.linalg.inv(vectors)).real


def _moved(values: jax.Array, fast: bool) -> jax.Array:
    if fast:
        return values - jnp.exp(values.real)
    return jnp.minimum(values.real, LARGEST_RATE) + 1j * values.imag


@moved_eigenvalues.defjvp
def _moved_jvp(fast: bool, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    # Divided differences off the diagonal of the eigenvectors' basis; on it, the derivative of
    # what is done to an eigenvalue, which treats real and imaginary parts differently.
    values, vectors = jnp.linalg.eig(primals[0])
    inverse = jnp.linalg.inv(vectors)
    moved = _moved(values, fast)
    change = inverse @ tangents[0].astype(complex) @ vectors
    apart = values[:, None] - values[None, :]
    same = jnp.abs(apart) <= SAME * jnp.abs(values).max()
    slope = 1 - jnp.exp(values.real) if fast else (values.real < LARGEST_RATE).astype(float)
    of_itself = slope[:, None] * change.real + 1j * change.imag
    ratio = (moved[:, None] - moved[None, :]) / jnp.where(same, 1.0, apart)
    inner = jnp.where(same, of_itself, ratio * change)
    return ((vectors * moved) @ inverse).real, (vectors @ inner @ inverse).real


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def moved_resolvent(matrix: jax.Array, frequencies: jax.Array, fast: bool) -> jax.Array:
    """``(2 pi i f - A)^-1`` of a real matrix (n, n) with `moved_eigenvalues`, by its eigenvectors.

    Shape (frequencies, n, n). It holds where an eigenvalue is moved so far that the matrix itself
    has lost all others. Derivatives are those of the inverse: by how much eigenvalues are moved is
    taken for constant, as it is next to nothing for modes that decay.

    Parameters
    ----------
    matrix : jax.Array
        Shape (n, n), 1/s.
    frequencies : jax.Array
        Frequencies, Hz, shape (frequencies,).
    fast : bool
        See `moved_eigenvalues`.

    Examples
    --------
    >>> moved_resolvent(jnp.zeros((1, 1)), jnp.array([0.0, 48.0]), True)[0].tolist()
    [[(1+0j)]]
    """
    values, vectors = jnp.linalg.eig(matrix)
    distance = 2j * jnp.pi * frequencies[:, None] - _moved(values, fast)
    return (vectors / distance[:, None, :]) @ jnp.linalg.pinv(vectors)


@moved_resolvent.defjvp
def _resolvent_jvp(fast: bool, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    result = moved_resolvent(*primals, fast)
    return result, result @ tangents[0].astype(complex) @ result


@dataclass(frozen=True)
class SpmLinearResponse(LinearResponse):
    """Transfer functions as SPM makes them; for parity only.

    Delays act through the neural model's operator, inputs by one-sided differences, about
    ``neural.rest`` as it is. Real parts of eigenvalues are moved: where all frequencies are at most
    1 Hz, to at most -1/32 Hz; else by their exponential.

    Parameters
    ----------
    enters : {"nodes", "inputs"}
        See `LinearResponse`.
    one_sided : bool
        Whether Jacobians are SPM's one-sided differences.

    Examples
    --------
    >>> SpmLinearResponse().one_sided
    False
    """

    one_sided: bool = False

    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> dict[str, Any]:
        """Frequencies, effects of the conditions, and whether any is above 1 Hz."""
        fast = bool(np.max(design.frequencies) > 1)
        arrays = super().prepare(neural, observer, design, priors)
        return arrays | {"settings": ByValue((fast,))}

    def solve(
        self, neural: NeuralModel, observer: Any, parameters: Parameters, arrays: dict
    ) -> jax.Array:
        """See `LinearResponse.solve`."""
        (fast,) = arrays["settings"].value
        frequencies = arrays["frequencies"]

        def condition(effects: jax.Array) -> jax.Array:
            changed = neural.condition(parameters, effects)
            if observer.states:
                return self._of_both(neural, observer, changed, frequencies, fast)
            system = self._system(neural, changed)
            resolvent = moved_resolvent(system.jacobian, frequencies, fast)
            return self.by_state(neural, resolvent @ system.entry.astype(complex))

        return jax.vmap(condition)(arrays["design"])

    def _system(self, neural: NeuralModel, parameters: Parameters) -> LinearSystem:
        """Neural model with its delays as an operator, which is part of Jacobian and entry."""
        u = jnp.zeros(neural.n_inputs)
        rest = jnp.asarray(neural.rest(parameters), float)
        how = {"one_sided": True} if self.one_sided else {}
        jacobian = neural.jacobian(rest, u, parameters, **how)
        delay = neural.delay_operator(jacobian, parameters)
        entry = neural.fluctuation_entry(rest, parameters)
        if self.enters == "inputs":
            flow = lambda u: to_vector(neural.flow(rest, u, parameters))  # noqa: E731
            entry = differentiate(flow, u, one_sided=True)
        operator = delay @ jacobian
        return LinearSystem(operator, None, delay @ entry, operator)

    def _of_both(
        self,
        neural: NeuralModel,
        observer: Any,
        parameters: Parameters,
        frequencies: jax.Array,
        fast: bool,
    ) -> jax.Array:
        """Neural model and the observer's states; eigenvalues are moved where one has to be."""
        n, k = neural.n_nodes, len(neural.states)
        system = self._system(neural, parameters)

        def unmoved() -> jax.Array:
            transfer = self.by_state(neural, transfer_functions(system, frequencies))
            seen = observer_transfer(observer, n, parameters, frequencies)
            return transfer[..., neural.output] * seen[:, None, :]

        def moved() -> jax.Array:
            rest, flow, seen = joint_states(neural, observer, parameters)
            u, vector = jnp.zeros(neural.n_inputs), to_vector(rest)
            jacobian = jax.jacfwd(lambda x: to_vector(flow(from_vector(x, n), u)))(vector)
            jacobian = jacobian.at[: n * k, : n * k].set(system.jacobian)
            entry = jnp.zeros((len(vector), system.entry.shape[1])).at[: n * k].set(system.entry)
            whole = LinearSystem(moved_eigenvalues(jacobian, fast), None, entry, jacobian)
            weights = jax.jacfwd(lambda x: seen(from_vector(x, n)))(vector)
            transfer = transfer_functions(whole, frequencies)
            return (weights.astype(complex) @ transfer).mT

        if fast:
            return moved()
        slow = growth_rate(jax.lax.stop_gradient(system.jacobian)) > LARGEST_RATE
        return jax.lax.cond(slow, moved, unmoved)
