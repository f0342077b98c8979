"""The bilinear neural model of task-fMRI DCM, with its nonlinear extension."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.switches import square, switches

INPUT_SCALE = 1 / 16
SELF_CONNECTION = 0.5
ENDOGENOUS_PRECISION = 64.0
ENDOGENOUS_MEAN = 1 / 128


def coupling(x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
    """Connectivity parameters in force: ``A + sum_j u_j B_j + sum_k x_k D_k``.

    Parameters
    ----------
    x : jax.Array
        Activity of the gating population, shape (regions,).
    u : jax.Array
        Inputs, shape (inputs,).
    parameters : mapping
        ``A`` (to, from); optionally ``B`` (input, to, from) and ``D`` (gating, to, from).

    Returns
    -------
    jax.Array
        Shape (to, from), in the parameterisation of ``A``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> A, B = jnp.zeros((1, 1)), jnp.ones((1, 1, 1))
    >>> coupling(jnp.zeros(1), jnp.full(1, 2.0), {"A": A, "B": B}).tolist()
    [[2.0]]
    """
    total = parameters["A"]
    if "B" in parameters:
        total = total + (u[:, None, None] * parameters["B"]).sum(0)
    if "D" in parameters:
        total = total + (x[:, None, None] * parameters["D"]).sum(0)
    return total


def effective_connectivity(coupling: jax.Array) -> jax.Array:
    """Connectivity in Hz: off the diagonal as it is, ``-exp(w_ii) / 2`` on the diagonal.

    Parameters
    ----------
    coupling : jax.Array
        Parameters from `coupling`, shape (to, from).

    Returns
    -------
    jax.Array
        Rates in Hz, shape (to, from).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> effective_connectivity(jnp.array([[0.0, 0.3], [0.0, 0.0]])).tolist()
    [[-0.5, 0.3], [0.0, -0.5]]
    """
    diagonal = jnp.eye(coupling.shape[-1], dtype=bool)
    return jnp.where(
        diagonal, -SELF_CONNECTION * jnp.exp(jnp.where(diagonal, coupling, 0.0)), coupling
    )


@dataclass(frozen=True, eq=False)
class ModulatedByInputs(NeuralModel):
    """A model of regions whose connections inputs and activity change, as in task fMRI.

    Parameters
    ----------
    A : ndarray
        Switches of the endogenous connections, shape (to, from), 0 or 1.
    B : ndarray
        Switches of the modulations, shape (input, to, from).
    C : ndarray
        Switches of the driving inputs, shape (to, input).
    D : ndarray or None
        Switches of the nonlinear (gating) terms, shape (gating region, to, from).
    """

    A: NDArray[np.float64]
    B: NDArray[np.float64]
    C: NDArray[np.float64]
    D: NDArray[np.float64] | None = None

    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "effective_connectivity": (("to", "from"), "Hz"),
        "modulated_connectivity": (("input", "to", "from"), "Hz"),
        "input_effect": (("to", "input"), "Hz"),
    }
    titles: ClassVar[Mapping[str, str]] = {
        "A": "Endogenous connections A",
        "B": "Modulation B",
        "C": "Driving inputs C",
        "D": "Gating D",
        "effective_connectivity": "Effective connectivity without input",
        "modulated_connectivity": "Effective connectivity",
        "input_effect": "Driving inputs",
    }
    rates_in_words: ClassVar[str]
    stability: ClassVar[str] = (
        "check that the effective connectivity has no eigenvalue with positive real part under "
        "any input"
    )

    def __post_init__(self) -> None:
        A = square("A", self.A)
        n, n_inputs = len(A), np.shape(self.C)[-1]
        shapes = {
            "A": ((n, n), "to, from"),
            "B": ((n_inputs, n, n), "input, to, from"),
            "C": ((n, n_inputs), "to, input"),
            "D": ((n, n, n), "gating region, to, from"),
        }
        for name, (shape, axes) in shapes.items():
            if name != "D" or self.D is not None:
                checked = switches(name, getattr(self, name), shape, axes)
                object.__setattr__(self, name, checked)

    @property
    def n_nodes(self) -> int:
        """Number of regions."""
        return self.C.shape[0]

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.C.shape[1]

    @property
    def affine(self) -> bool:
        """Whether the flow is affine in the states while the input is constant."""
        return self.D is None

    @property
    def label_note(self) -> str:
        """How labels are read."""
        return (
            "Labels read A[to, from], B[input, to, from] and C[to, input]. "
            f"{self.rates_in_words}, driving inputs are in 1/16 Hz, haemodynamic parameters log "
            "scalings. "
        )

    @abstractmethod
    def rates(self, coupling: jax.Array) -> jax.Array:
        """Connectivity in Hz of parameters in force (see `coupling`), shape (to, from)."""

    def derive(self, parameters: Parameters, design: jax.Array | None) -> dict[str, jax.Array]:
        """Connectivity in Hz, and what inputs add to the rate of change at 1.

        ``effective_connectivity`` (to, from) without input; ``modulated_connectivity`` (input,
        to, from) with one input at 1, where anything is modulated; ``input_effect`` (to, input).
        """
        rest = jnp.zeros(self.n_nodes)

        def rates(u: jax.Array) -> jax.Array:
            return self.rates(coupling(rest, u, parameters))

        table = {"effective_connectivity": rates(jnp.zeros(self.n_inputs))}
        if self.B.any():
            table["modulated_connectivity"] = jax.vmap(rates)(jnp.eye(self.n_inputs))
        return table | {"input_effect": parameters["C"] * INPUT_SCALE}


@dataclass(frozen=True, eq=False)
class Bilinear(ModulatedByInputs):
    """One neuronal state per region, ``dx/dt = G(x, u) x + (C / 16) u``.

    ``G`` is `effective_connectivity` of ``A + sum_j u_j B_j + sum_k x_k D_k``: diagonal entries
    of ``A``, ``B`` and ``D`` scale a self-connection of -0.5 Hz logarithmically, the others are
    rates in Hz. Priors are those of SPM.

    Parameters
    ----------
    A, B, C, D : ndarray
        Switches, see `ModulatedByInputs`.

    References
    ----------
    .. [1] Friston, Harrison and Penny (2003), NeuroImage 19:1273.
           https://doi.org/10.1016/S1053-8119(03)00202-7
    .. [2] Stephan et al. (2008), NeuroImage 42:649.
           https://doi.org/10.1016/j.neuroimage.2008.04.262

    Examples
    --------
    >>> import numpy as np
    >>> model = Bilinear(np.eye(2), np.zeros((1, 2, 2)), np.ones((2, 1)))
    >>> model.affine
    True
    """

    states: ClassVar[tuple[str, ...]] = ("activity",)
    self_units: ClassVar[Mapping[str, str]] = dict.fromkeys("ABD", "log scaling of 0.5 Hz")
    rates_in_words: ClassVar[str] = (
        "Connections between regions are in Hz, self-connections are log scalings of 0.5 Hz"
    )
    title: ClassVar[str] = "bilinear"
    citation: ClassVar[tuple[str, str]] = (
        "Friston KJ, Harrison L, Penny W (2003). Dynamic causal modelling. NeuroImage "
        "19:1273-1302.",
        "https://doi.org/10.1016/S1053-8119(03)00202-7",
    )

    def rates(self, coupling: jax.Array) -> jax.Array:
        """Connectivity in Hz, see `effective_connectivity`."""
        return effective_connectivity(coupling)

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the activity, shape (regions, 1), see `NeuralModel.flow`."""
        activity = x[:, 0]
        rates = effective_connectivity(coupling(activity, u, parameters))
        drive = (parameters["C"] * u).sum(-1) * INPUT_SCALE
        return ((rates * activity).sum(-1) + drive)[:, None]

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors: A ~ N(1/128, 1/64), B, C, D ~ N(0, 1), where switched on."""
        A = np.asarray(self.A, float)
        table = [
            Prior("A", ("to", "from"), A * ENDOGENOUS_MEAN, A / ENDOGENOUS_PRECISION, "Hz"),
            Prior("B", ("input", "to", "from"), np.zeros_like(self.B), np.asarray(self.B), "Hz"),
            Prior("C", ("to", "input"), np.zeros_like(self.C), np.asarray(self.C), "1/16 Hz"),
        ]
        if self.D is not None:
            D = np.asarray(self.D)
            table.append(Prior("D", ("gating", "to", "from"), np.zeros_like(D), D, "Hz"))
        return tuple(table)
