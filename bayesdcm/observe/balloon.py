"""The Balloon model: from neuronal activity to blood flow, volume, deoxyhaemoglobin and BOLD.

Haemodynamic states of a region are the vasodilatory signal s, blood flow f, venous volume v and
deoxyhaemoglobin content q, all but s relative to rest. SPM carries the logarithms of the last
three.

References
----------
.. [1] Buxton, Wong and Frank (1998), Magn Reson Med 39:855.
       https://doi.org/10.1002/mrm.1910390602
.. [2] Friston, Mechelli, Turner and Price (2000), NeuroImage 12:466.
       https://doi.org/10.1006/nimg.2000.0630
.. [3] Stephan, Weiskopf, Drysdale, Robinson and Friston (2007), NeuroImage 38:387.
       https://doi.org/10.1016/j.neuroimage.2007.07.040
.. [4] Friston, Harrison and Penny (2003), NeuroImage 19:1273.
       https://doi.org/10.1016/S1053-8119(03)00202-7
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from bayesdcm.neural.base import Parameters, Prior

PRIOR_VARIANCE = 1 / 256
# Flow below this fraction of rest is outside the model: its published, logarithmic form is
# singular at zero. Volume and deoxyhaemoglobin then see the floor.
LOWEST_FLOW = 0.05


@dataclass(frozen=True)
class Haemodynamics:
    """Constants of the Balloon model.

    The signal is ``resting_volume (k1 (1 - q) + k2 (1 - q/v) + (1 - epsilon) (1 - v))``.

    Parameters
    ----------
    signal_decay : float
        Rate at which the vasodilatory signal decays, Hz.
    autoregulation : float
        Rate at which blood flow is regulated back, Hz.
    transit_time : float
        Of blood through the venous compartment, s.
    grubb_exponent : float
        Exponent that leads from flow to volume at rest.
    resting_extraction : float
        Fraction of oxygen that is extracted at rest.
    resting_volume : float
        Venous volume at rest, in percent or as a fraction: the signal is so, too.
    k1, k2 : float
        Weights of deoxyhaemoglobin, and of its concentration.
    epsilon : float
        Ratio of the signals from within and from outside vessels.
    unit : str
        Of the signal: ``"percent"``, or ``"1"`` for a fraction of its level at rest.

    Examples
    --------
    >>> FRISTON_2003.transit_time
    0.98
    """

    signal_decay: float
    autoregulation: float
    transit_time: float
    grubb_exponent: float
    resting_extraction: float
    resting_volume: float
    k1: float
    k2: float
    epsilon: float
    unit: str = "1"


# As in SPM: a field of 1.5 T, an echo time of 40 ms, a frequency offset of 40.3 Hz at the surface
# of vessels, and a slope of 25 Hz of the intravascular relaxation rate.
STEPHAN_2007 = Haemodynamics(
    signal_decay=0.64,
    autoregulation=0.32,
    transit_time=2.0,
    grubb_exponent=0.32,
    resting_extraction=0.4,
    resting_volume=4.0,
    k1=4.3 * 40.3 * 0.4 * 0.04,
    k2=25.0 * 0.4 * 0.04,
    epsilon=1.0,
    unit="percent",
)
# k1 = 7 rho, k2 = 2 and k3 = 2 rho - 0.2 with rho = 0.34.
FRISTON_2003 = Haemodynamics(
    signal_decay=0.65,
    autoregulation=0.41,
    transit_time=0.98,
    grubb_exponent=0.32,
    resting_extraction=0.34,
    resting_volume=0.02,
    k1=7 * 0.34,
    k2=2.0,
    epsilon=1.2 - 2 * 0.34,
)
HAEMODYNAMICS = {"stephan2007": STEPHAN_2007, "friston2003": FRISTON_2003}


def decay_rate(decay: jax.Array) -> jax.Array:
    """Rate at which the vasodilatory signal decays, ``0.64 exp(decay)`` Hz.

    Examples
    --------
    >>> float(decay_rate(0.0))
    0.64
    """
    return STEPHAN_2007.signal_decay * jnp.exp(decay)


def transit_time(transit: jax.Array) -> jax.Array:
    """Mean transit time of blood through the venous compartment, ``2 exp(transit)`` s.

    Examples
    --------
    >>> float(transit_time(0.0))
    2.0
    """
    return STEPHAN_2007.transit_time * jnp.exp(transit)


def haemodynamic_rates(
    activity: jax.Array,
    h: jax.Array,
    decay: ArrayLike,
    transit: ArrayLike,
    constants: Haemodynamics,
) -> jax.Array:
    """Rate of change of the haemodynamic states themselves, not of their logarithms.

    Parameters
    ----------
    activity : jax.Array
        Neuronal activity, relative to rest, shape (regions,).
    h : jax.Array
        States s, f, v, q, shape (regions, 4); 0, 1, 1, 1 at rest.
    decay, transit : array_like
        Log scalings of the decay of s and of the transit time, () or (regions,).
    constants : Haemodynamics
        What they scale, and the others.

    Returns
    -------
    jax.Array
        Time derivative per second, shape (regions, 4).

    Examples
    --------
    >>> rest = jnp.array([[0.0, 1.0, 1.0, 1.0]])
    >>> haemodynamic_rates(jnp.ones(1), rest, 0.0, 0.0, STEPHAN_2007).round(9).tolist()
    [[1.0, 0.0, 0.0, 0.0]]
    """
    s, f, v, q = (h[..., i] for i in range(4))
    tau = constants.transit_time * jnp.exp(transit)
    outflow = v ** (1 / constants.grubb_exponent)
    extraction = 1 - (1 - constants.resting_extraction) ** (1 / f)
    decayed = constants.signal_decay * jnp.exp(decay) * s
    return jnp.stack(
        [
            activity - decayed - constants.autoregulation * (f - 1),
            s,
            (f - outflow) / tau,
            (f * extraction / constants.resting_extraction - outflow * q / v) / tau,
        ],
        axis=-1,
    )


def floored_rates(activity: jax.Array, h: jax.Array, constants: Haemodynamics) -> jax.Array:
    """`haemodynamic_rates`, where volume and deoxyhaemoglobin see a floor of blood flow.

    Flow below `LOWEST_FLOW` of rest is outside the model, whose rates are singular at zero.

    Parameters
    ----------
    activity, h, constants
        As in `haemodynamic_rates`.

    Examples
    --------
    >>> stopped = jnp.array([[0.0, -0.1, 1.0, 1.0]])
    >>> floored_rates(jnp.zeros(1), stopped, STEPHAN_2007)[0, 3].item()
    -0.4375...
    """
    low = jnp.minimum(h[..., 1] - LOWEST_FLOW, 0.0)
    # Regulation sees the flow itself.
    regulated = activity - constants.autoregulation * low
    return haemodynamic_rates(regulated, h.at[..., 1].add(-low), 0.0, 0.0, constants)


def haemodynamic_flow(
    activity: jax.Array,
    h: jax.Array,
    parameters: Parameters,
    constants: Haemodynamics = STEPHAN_2007,
) -> jax.Array:
    """Rate of change of the haemodynamic states, in SPM's logarithmic form.

    Parameters
    ----------
    activity : jax.Array
        Neuronal activity, shape (regions,).
    h : jax.Array
        States s, ln f, ln v, ln q, shape (regions, 4).
    parameters : mapping
        ``decay`` () and ``transit`` (regions,), log scalings.
    constants : Haemodynamics
        What they scale, and the others; by default SPM's.

    Returns
    -------
    jax.Array
        Time derivative per second, shape (regions, 4).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> P = {"decay": jnp.zeros(()), "transit": jnp.zeros(1)}
    >>> haemodynamic_flow(jnp.ones(1), jnp.zeros((1, 4)), P)[0].tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    relative = jnp.exp(h[:, 1:])
    states = jnp.concatenate([h[:, :1], relative], axis=1)
    decay, transit = parameters["decay"], parameters["transit"]
    rates = haemodynamic_rates(activity, states, decay, transit, constants)
    return jnp.concatenate([rates[:, :1], rates[:, 1:] / relative], axis=1)


def bold_signal(
    v: jax.Array, q: jax.Array, epsilon: ArrayLike, constants: Haemodynamics = STEPHAN_2007
) -> jax.Array:
    """BOLD signal change, by default in percent.

    Parameters
    ----------
    v, q : jax.Array
        Volume and deoxyhaemoglobin relative to rest, shape (..., regions).
    epsilon : array_like
        Log scaling of the ratio of intra- to extravascular signal, ().
    constants : Haemodynamics
        By default SPM's.

    Returns
    -------
    jax.Array
        Signal change in ``constants.unit``, shape (..., regions).

    Examples
    --------
    >>> float(bold_signal(1.0, 1.0, 0.0))
    0.0
    """
    ratio = jnp.exp(epsilon)
    k2, k3 = ratio * constants.k2, 1 - ratio * constants.epsilon
    return constants.resting_volume * (constants.k1 * (1 - q) + k2 * (1 - q / v) + k3 * (1 - v))


def haemodynamic_priors(n_regions: int) -> tuple[Prior, ...]:
    """SPM's priors of the haemodynamic parameters: N(0, 1/256) on log scalings.

    Parameters
    ----------
    n_regions : int
        Number of regions; transit times are regional, the other two shared.

    Returns
    -------
    tuple of Prior
        ``transit``, ``decay`` and ``epsilon``.

    Examples
    --------
    >>> [prior.name for prior in haemodynamic_priors(2)]
    ['transit', 'decay', 'epsilon']
    """
    return tuple(
        Prior(name, dims, np.zeros(shape), np.full(shape, PRIOR_VARIANCE), "log scaling")
        for name, dims, shape in (
            ("transit", ("region",), (n_regions,)),
            ("decay", (), ()),
            ("epsilon", (), ()),
        )
    )
