"""The neural model of regions at rest: connections, and slow inputs if there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from numpy.typing import NDArray

from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.bilinear import (
    ENDOGENOUS_MEAN,
    ENDOGENOUS_PRECISION,
    INPUT_SCALE,
    Bilinear,
    connection_rates,
)
from bayesdcm.neural.switches import set_switches, square

# Prior mean of the inputs, 1/16 Hz.
INPUT_MEAN = 1 / 2


@dataclass(frozen=True, eq=False)
class Endogenous(NeuralModel):
    """One neuronal state per region, ``dx/dt = G x + (C / 16) u`` and fluctuations.

    ``G`` is ``A`` in Hz, but on the diagonal ``-exp(A_ii) / 2``, as in `Bilinear`.

    Parameters
    ----------
    A : ndarray
        Switches of the connections, shape (to, from), 0 or 1.
    C : ndarray, optional
        Switches of the inputs, shape (to, input), 0 or 1. None: no inputs.

    References
    ----------
    .. [1] Friston, Kahan, Biswal and Razi (2014), NeuroImage 94:396.
           https://doi.org/10.1016/j.neuroimage.2013.12.009

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> model = Endogenous(np.ones((2, 2)))
    >>> model.derive({"A": jnp.zeros((2, 2))}, None)["effective_connectivity"].tolist()
    [[-0.5, 0.0], [0.0, -0.5]]
    """

    A: NDArray[np.float64]
    C: NDArray[np.float64] | None = None

    states: ClassVar[tuple[str, ...]] = ("activity",)
    fluctuation_scale: ClassVar[float] = INPUT_SCALE
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "effective_connectivity": (("to", "from"), "Hz")
    }
    self_units: ClassVar[Mapping[str, str]] = {"A": "log scaling of 0.5 Hz"}
    titles: ClassVar[Mapping[str, str]] = {
        "A": "Endogenous connections A",
        "C": "Driving inputs C",
        "effective_connectivity": "Effective connectivity",
    }
    title: ClassVar[str] = "linear"
    label_note: ClassVar[str] = (
        f"Labels read A[to, from]. {Bilinear.rates_in_words}, haemodynamic parameters and those of "
        "fluctuations and noise log scalings. "
    )
    stability: ClassVar[str] = (
        "check that the effective connectivity has no eigenvalue with positive real part"
    )

    def __post_init__(self) -> None:
        n = len(square("A", self.A))
        if self.C is None:
            object.__setattr__(self, "C", np.zeros((n, 0)))
        set_switches(self, {"A": ((n, n), "to, from"), "C": ((n, None), "to, input")})

    @property
    def affine(self) -> bool:
        """True: the flow is linear."""
        return True

    def priors(self) -> tuple[Prior, ...]:
        """Of A SPM's, N(1/128, 1/64), where switched on; of C N(1/2, 1).

        Spectra do not tell the sign of a column of C, and at 0 nothing tells which way to go.
        """
        mean, variance = self.A * ENDOGENOUS_MEAN, self.A / ENDOGENOUS_PRECISION
        connections = Prior("A", ("to", "from"), mean, variance, "Hz")
        if not self.C.shape[1]:
            return (connections,)
        inputs = self.C * INPUT_MEAN
        return connections, Prior("C", ("to", "input"), inputs, self.C, "1/16 Hz")

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the activity, shape (regions, 1), see `NeuralModel.flow`."""
        rate = (connection_rates(parameters["A"]) * x[:, 0]).sum(-1)
        if self.C.shape[1]:
            rate += INPUT_SCALE * (parameters["C"] * u).sum(-1)
        return rate[:, None]

    def derive(self, parameters: Parameters, design: jax.Array | None) -> dict[str, jax.Array]:
        """``effective_connectivity`` (to, from), Hz."""
        return {"effective_connectivity": connection_rates(parameters["A"])}
