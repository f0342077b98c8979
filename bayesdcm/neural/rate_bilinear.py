"""The bilinear neural model with every connection, self-connections included, as a rate in Hz."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior
from bayesdcm.neural.bilinear import Bilinear, coupling

NONLINEARITIES = ("sigmoid",)
SELF_CONNECTION = -1.0
SELF_VARIANCE = 1 / 16
VARIANCE = 1 / 4


@dataclass(frozen=True, eq=False)
class RateBilinear(Bilinear):
    """One neuronal state per region, ``dx/dt = (A + sum_j u_j B_j) x + C u``, all in Hz.

    As in the recurrent form of DCM [1]_, nothing is transformed: a self-connection ``A_ii`` is the
    (negative) rate itself, and regions without input decay only while all eigenvalues of `A` have
    negative real parts.

    Parameters
    ----------
    A, B, C, D : ndarray
        Switches as in `bayesdcm.neural.Bilinear`.
    nonlinearity : {None, "sigmoid"}
        With ``"sigmoid"``, what a region sends to others is ``tanh(x)``, of slope 1 at rest; its
        self-connection acts on x itself.

    Raises
    ------
    ValueError
        If a structure is not binary, its shape disagrees, or the nonlinearity is not known.

    Notes
    -----
    Priors are chosen here: ``A_ii ~ N(-1, 1/16)``, where the authors' training begins, which keeps
    self-connections negative; other entries of `A`, `B` and `D` N(0, 1/4), with which most networks
    of a few regions are stable; `C` N(0, 1).

    References
    ----------
    .. [1] Wang, Wang and Lui (2018), NeuroImage 178:385.
           https://doi.org/10.1016/j.neuroimage.2018.05.042

    Examples
    --------
    >>> model = RateBilinear(np.eye(1), np.zeros((1, 1, 1)), np.ones((1, 1)))
    >>> parameters = {"A": -np.eye(1), "B": np.zeros((1, 1, 1)), "C": np.ones((1, 1))}
    >>> model.flow(jnp.full((1, 1), 0.25), jnp.ones(1), parameters).tolist()
    [[0.75]]
    """

    nonlinearity: str | None = None

    many_modes: ClassVar[bool] = True
    self_units: ClassVar[Mapping[str, str]] = {}
    input_scale: ClassVar[float] = 1.0
    input_unit: ClassVar[str] = "Hz"
    title: ClassVar[str] = "bilinear, in rates"
    label_note: ClassVar[str] = (
        "Labels read A[to, from], B[input, to, from] and C[to, input]. Connections, "
        "self-connections included, and driving inputs are in Hz. "
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nonlinearity is not None and self.nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"nonlinearity must be None or one of {', '.join(map(repr, NONLINEARITIES))}, "
                f"got {self.nonlinearity!r}"
            )

    @property
    def affine(self) -> bool:
        """Whether the flow is affine in the states while the input is constant."""
        return self.D is None and self.nonlinearity is None

    def rates(self, coupling: jax.Array) -> jax.Array:
        """Connectivity in Hz, as it is."""
        return coupling

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the activity, shape (regions, 1), see `NeuralModel.flow`."""
        if self.nonlinearity is None:
            return super().flow(x, u, parameters)
        activity = x[:, 0]
        rates = coupling(activity, u, parameters)
        own = jnp.diagonal(rates)
        received = (rates * jnp.tanh(activity)).sum(-1) - own * jnp.tanh(activity)
        return (own * activity + received + (parameters["C"] * u).sum(-1))[:, None]

    def priors(self) -> tuple[Prior, ...]:
        """A_ii ~ N(-1, 1/16), A_ij, B and D ~ N(0, 1/4), C ~ N(0, 1), where switched on."""
        own = np.eye(self.n_nodes)
        variance = self.A * np.where(own, SELF_VARIANCE, VARIANCE)
        # A self-connection that is off keeps its region from integrating its input for ever.
        A = Prior("A", ("to", "from"), SELF_CONNECTION * own, variance, "Hz")
        return (A, *self._changes(VARIANCE, 1.0, "Hz"))
