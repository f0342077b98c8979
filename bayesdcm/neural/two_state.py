"""The two-state neural model of task-fMRI DCM: excitatory and inhibitory populations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior
from bayesdcm.neural.bilinear import INPUT_SCALE, ModulatedByInputs, coupling

RATE_SCALE = 1 / 8
EXCITATORY_DECAY = 0.5
INHIBITORY_DECAY = 1.0
ENDOGENOUS_PRECISION = 16.0
ABSENT = -32.0


@dataclass(frozen=True, eq=False)
class TwoState(ModulatedByInputs):
    """An excitatory and an inhibitory population per region, with positive rates.

    With ``E = exp(A + sum_j u_j B_j + sum_k x_k D_k) / 8``, ``I_E`` its diagonal and ``E_o`` the
    rest::

        dx/dt = (E_o - 1/2) x - I_E z + (C / 16) u
        dz/dt = x - z

    With `backwards`, a second matrix ``A_backward`` splits each extrinsic connection between
    the two populations of its target, ``p = 1 / (1 + exp(-2 A_backward))`` going to the
    excitatory one.

    Parameters
    ----------
    A, B, C, D : ndarray
        Switches as in `bayesdcm.neural.Bilinear`.
    backwards : bool
        Whether extrinsic connections also reach inhibitory populations.

    References
    ----------
    .. [1] Marreiros, Kiebel and Friston (2008), NeuroImage 39:269.
           https://doi.org/10.1016/j.neuroimage.2007.08.019

    Examples
    --------
    >>> import numpy as np
    >>> TwoState(np.eye(2), np.zeros((1, 2, 2)), np.ones((2, 1))).states
    ('excitatory', 'inhibitory')
    """

    backwards: bool = False

    states: ClassVar[tuple[str, ...]] = ("excitatory", "inhibitory")
    units: ClassVar[Mapping[str, str]] = {"A_backward": "half the log odds"}
    rates_in_words: ClassVar[str] = "Connections are log scalings of 1/8 Hz"
    title: ClassVar[str] = "two-state"
    citation: ClassVar[tuple[str, str]] = (
        "Marreiros AC, Kiebel SJ, Friston KJ (2008). Dynamic causal modelling for fMRI: a "
        "two-state model. NeuroImage 39:269-278.",
        "https://doi.org/10.1016/j.neuroimage.2007.08.019",
    )

    def rates(self, coupling: jax.Array) -> jax.Array:
        """Connectivity in Hz, ``exp(coupling) / 8``."""
        return RATE_SCALE * jnp.exp(coupling)

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of both populations, shape (regions, 2), see `NeuralModel.flow`."""
        excitatory, inhibitory = x.T
        rates = self.rates(coupling(excitatory, u, parameters))
        intrinsic = jnp.diagonal(rates)
        extrinsic = rates * (1 - jnp.eye(len(intrinsic)))
        to_excitatory, to_inhibitory = extrinsic, 0.0
        if self.backwards:
            share = jax.nn.sigmoid(2 * parameters["A_backward"])
            to_excitatory, to_inhibitory = extrinsic * share, extrinsic * (1 - share)
        drive = (parameters["C"] * u).sum(-1) * INPUT_SCALE
        to_excitatory = (to_excitatory * excitatory).sum(-1) - EXCITATORY_DECAY * excitatory
        to_inhibitory = excitatory + (to_inhibitory * excitatory).sum(-1)
        rates = [
            to_excitatory - intrinsic * inhibitory + drive,
            to_inhibitory - INHIBITORY_DECAY * inhibitory,
        ]
        return jnp.stack(rates, axis=-1)

    def priors(self) -> tuple[Prior, ...]:
        """SPM's priors; a connection that is absent has ``A = -32``, a rate of nearly zero."""
        pair, unit = ("to", "from"), "log scaling of 1/8 Hz"
        variance = self.A / ENDOGENOUS_PRECISION
        table = [Prior("A", pair, ABSENT - ABSENT * self.A, variance, unit)]
        if self.backwards:
            table.append(
                Prior("A_backward", pair, np.zeros_like(variance), variance, "log odds / 2")
            )
        return (*table, *self._changes(1 / 4, 4.0, unit))
