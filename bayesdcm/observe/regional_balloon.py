"""The Balloon model with haemodynamic constants of each region, in their own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.observe import balloon
from bayesdcm.observe.balloon import Haemodynamics
from bayesdcm.observe.bold import BoldObserver

# At 3 T or thereabouts: an echo time of 30 ms, a frequency offset of 40.3 Hz, a slope of 25 Hz.
OFFSET, ECHO_TIME, SLOPE, RATIO = 40.3, 0.03, 25.0, 0.4
# Mean and variance of each constant that is a parameter, by its usual symbol, with its unit.
CONSTANTS = {
    "kappa": ("signal_decay", 0.65, 0.015, "Hz"),
    "gamma": ("autoregulation", 0.41, 0.002, "Hz"),
    "tau": ("transit_time", 0.98, 0.0568, "s"),
    "E0": ("resting_extraction", 0.34, 0.0024, "1"),
    "alpha": ("grubb_exponent", 0.32, 0.0015, "1"),
}
# Equal to one at rest.
RELATIVE = np.array([0.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class RegionalBalloon(BoldObserver):
    """The Balloon model whose constants are parameters of each region, as recurrent DCM has it.

    Parameters are the decay ``kappa`` (Hz) of the vasodilatory signal, its autoregulation
    ``gamma`` (Hz), the transit time ``tau`` (s), the resting oxygen extraction ``E0`` and Grubb's
    exponent ``alpha``, each (regions,), with the normal priors of [1]_ and [2]_. States are those
    of `bayesdcm.observe.haemodynamic_rates` less their rest, not logarithms.

    Parameters
    ----------
    as_spm : bool
        See `BoldObserver`.

    Notes
    -----
    The signal is ``100 (4.3 x 40.3 E0 T (1 - q) + 0.4 x 25 E0 T (1 - q/v) + 0.6 (1 - v))`` with an
    echo time T of 0.03 s.

    References
    ----------
    .. [1] Friston, Harrison and Penny (2003), NeuroImage 19:1273.
           https://doi.org/10.1016/S1053-8119(03)00202-7
    .. [2] Wang, Wang and Lui (2018), NeuroImage 178:385.
           https://doi.org/10.1016/j.neuroimage.2018.05.042

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> observer = RegionalBalloon()
    >>> rest = jnp.zeros((2, 4))
    >>> means = {name: jnp.full(2, mean) for name, (_, mean, _, _) in CONSTANTS.items()}
    >>> observer.flow(jnp.array([1.0, 0.0]), rest, means).round(9).tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """

    states: ClassVar[tuple[str, ...]] = (
        "vasodilatory signal",
        "flow less one",
        "volume less one",
        "deoxyhaemoglobin less one",
    )
    citations = (
        (
            "Wang Y, Wang Y, Lui YW (2018). Generalized recurrent neural network accommodating "
            "dynamic causal modeling for functional MRI analysis. NeuroImage 178:385-402.",
            "https://doi.org/10.1016/j.neuroimage.2018.05.042",
        ),
    )

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """Normal priors of the five constants, each (region,)."""
        n = neural.n_nodes
        return tuple(
            Prior(name, ("region",), np.full(n, mean), np.full(n, variance), unit)
            for name, (_, mean, variance, unit) in CONSTANTS.items()
        )

    def haemodynamics(self, parameters: Parameters) -> Haemodynamics:
        """Constants of the Balloon model for parameters, arrays (regions,).

        Parameters
        ----------
        parameters : mapping
            ``kappa``, ``gamma``, ``tau``, ``E0``, ``alpha``.
        """
        E0 = parameters["E0"]
        regional = {field: parameters[name] for name, (field, *_) in CONSTANTS.items()}
        return Haemodynamics(
            **regional,
            resting_volume=100.0,
            k1=4.3 * OFFSET * ECHO_TIME * E0,
            k2=RATIO * SLOPE * ECHO_TIME * E0,
            epsilon=RATIO,
            unit="percent",
        )

    def flow(self, activity: jax.Array, h: jax.Array, parameters: Parameters) -> jax.Array:
        """See `bayesdcm.observe.haemodynamic_rates`; flow has a floor of 5 % of rest."""
        constants = self.haemodynamics(parameters)
        return balloon.floored_rates(activity, h + RELATIVE, constants)

    def read(self, h: jax.Array, parameters: Parameters) -> jax.Array:
        """Percent signal change, see `bayesdcm.observe.bold_signal`."""
        v, q = 1 + h[..., 2], 1 + h[..., 3]
        return balloon.bold_signal(v, q, 0.0, self.haemodynamics(parameters))
