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
from bayesdcm.neural.switches import set_switches, square

INPUT_SCALE = 1 / 16
SELF_CONNECTION = 0.5
ENDOGENOUS_PRECISION = 64.0
ENDOGENOUS_MEAN = 1 / 128


def coupling(x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
    """Connectivity parameters in force, ``A + sum_j u_j B_j + sum_k x_k D_k``, (to, from).

    Of activity x (regions,) and inputs u (inputs,); without ``B`` (input, to, from) or ``D``
    (gating, to, from) among the parameters, without their terms.
    """
    total = parameters["A"]
    if "B" in parameters:
        total = total + (u[:, None, None] * parameters["B"]).sum(0)
    if "D" in parameters:
        total = total + (x[:, None, None] * parameters["D"]).sum(0)
    return total


def connection_rates(coupling: jax.Array) -> jax.Array:
    """Connections in Hz of parameters (to, from): as they are, ``-exp(W_ii) / 2`` on the diagonal.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> connection_rates(jnp.array([[0.0, 0.2], [0.0, 0.0]])).tolist()
    [[-0.5, 0.2], [0.0, -0.5]]
    """
    diagonal = jnp.eye(len(coupling), dtype=bool)
    own = -SELF_CONNECTION * jnp.exp(jnp.where(diagonal, coupling, 0.0))
    return jnp.where(diagonal, own, coupling)


@dataclass(frozen=True, eq=False)
class ModulatedByInputs(NeuralModel):
    """A model of regions whose connections inputs and activity change, as in task fMRI.

    Fields are the switches that `Bilinear` describes.
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
    input_scale: ClassVar[float] = INPUT_SCALE
    fluctuation_scale: ClassVar[float] = INPUT_SCALE
    input_unit: ClassVar[str] = "1/16 Hz"
    rates_in_words: ClassVar[str]
    stability: ClassVar[str] = (
        "check that the effective connectivity has no eigenvalue with positive real part under "
        "any input"
    )

    def __post_init__(self) -> None:
        n, n_inputs = len(square("A", self.A)), np.shape(self.C)[-1]
        expected = {
            "A": ((n, n), "to, from"),
            "B": ((n_inputs, n, n), "input, to, from"),
            "C": ((n, n_inputs), "to, input"),
        }
        if self.D is not None:
            expected["D"] = ((n, n, n), "gating region, to, from")
        set_switches(self, expected)

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
            f"{self.rates_in_words}, driving inputs are in {self.input_unit}, haemodynamic "
            "parameters log scalings. "
        )

    @abstractmethod
    def rates(self, coupling: jax.Array) -> jax.Array:
        """Connectivity in Hz of parameters in force (see `coupling`), shape (to, from)."""

    def _changes(self, variance: float, variance_of_C: float, unit: str) -> list[Prior]:
        """Priors of ``B``, ``C`` and ``D``: of mean 0, free where switched on."""
        table = [
            ("B", ("input", "to", "from"), variance * self.B, unit),
            ("C", ("to", "input"), variance_of_C * self.C, self.input_unit),
        ]
        if self.D is not None:
            table.append(("D", ("gating", "to", "from"), variance * self.D, unit))
        return [Prior(name, dims, np.zeros_like(v), v, unit) for name, dims, v, unit in table]

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
        return table | {"input_effect": parameters["C"] * self.input_scale}


@dataclass(frozen=True, eq=False)
class Bilinear(ModulatedByInputs):
    """One neuronal state per region, ``dx/dt = G(x, u) x + (C / 16) u``.

    ``G`` is, of ``W = A + sum_j u_j B_j + sum_k x_k D_k``, the off-diagonal part in Hz, and on the
    diagonal ``-exp(W_ii) / 2``: diagonal entries of ``A``, ``B`` and ``D`` scale a self-connection
    of -0.5 Hz logarithmically. Priors are those of SPM.

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
        """Connectivity in Hz: as it is, ``-exp(W_ii) / 2`` on the diagonal."""
        return connection_rates(coupling)

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the activity, shape (regions, 1), see `NeuralModel.flow`."""
        activity = x[:, 0]
        rates = self.rates(coupling(activity, u, parameters))
        drive = (parameters["C"] * u).sum(-1) * self.input_scale
        return ((rates * activity).sum(-1) + drive)[:, None]

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors: A ~ N(1/128, 1/64), B, C, D ~ N(0, 1), where switched on."""
        mean, variance = self.A * ENDOGENOUS_MEAN, self.A / ENDOGENOUS_PRECISION
        return (Prior("A", ("to", "from"), mean, variance, "Hz"), *self._changes(1.0, 1.0, "Hz"))
