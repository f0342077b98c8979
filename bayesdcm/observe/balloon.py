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
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.neural.base import Parameters, Prior

SIGNAL_DECAY = 0.64
AUTOREGULATION = 0.32
TRANSIT_TIME = 2.0
GRUBB_EXPONENT = 0.32
RESTING_EXTRACTION = 0.4

RESTING_VOLUME = 4.0
ECHO_TIME = 0.04
INTRAVASCULAR_RATE = 25.0
FREQUENCY_OFFSET = 40.3
PRIOR_VARIANCE = 1 / 256


def decay_rate(decay: jax.Array) -> jax.Array:
    """Rate at which the vasodilatory signal decays, ``0.64 exp(decay)`` Hz.

    Examples
    --------
    >>> float(decay_rate(0.0))
    0.64
    """
    return SIGNAL_DECAY * jnp.exp(decay)


def transit_time(transit: jax.Array) -> jax.Array:
    """Mean transit time of blood through the venous compartment, ``2 exp(transit)`` s.

    Examples
    --------
    >>> float(transit_time(0.0))
    2.0
    """
    return TRANSIT_TIME * jnp.exp(transit)


def haemodynamic_flow(activity: jax.Array, h: jax.Array, parameters: Parameters) -> jax.Array:
    """Rate of change of the haemodynamic states, in SPM's logarithmic form.

    Parameters
    ----------
    activity : jax.Array
        Neuronal activity, shape (regions,).
    h : jax.Array
        States s, ln f, ln v, ln q, shape (regions, 4).
    parameters : mapping
        ``decay`` () and ``transit`` (regions,), log scalings.

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
    s, f, v, q = h[:, 0], jnp.exp(h[:, 1]), jnp.exp(h[:, 2]), jnp.exp(h[:, 3])
    tau = transit_time(parameters["transit"])
    outflow = v ** (1 / GRUBB_EXPONENT)
    extraction = 1 - (1 - RESTING_EXTRACTION) ** (1 / f)
    return jnp.stack(
        [
            activity - decay_rate(parameters["decay"]) * s - AUTOREGULATION * (f - 1),
            s / f,
            (f - outflow) / (tau * v),
            (f * extraction / RESTING_EXTRACTION - outflow * q / v) / (tau * q),
        ],
        axis=-1,
    )


def bold_signal(v: jax.Array, q: jax.Array, epsilon: jax.Array) -> jax.Array:
    """BOLD signal change in percent.

    Parameters
    ----------
    v, q : jax.Array
        Volume and deoxyhaemoglobin relative to rest, shape (..., regions).
    epsilon : jax.Array
        Log ratio of intra- to extravascular signal, ().

    Returns
    -------
    jax.Array
        Percent signal change, shape (..., regions).

    Examples
    --------
    >>> float(bold_signal(1.0, 1.0, 0.0))
    0.0
    """
    ratio = jnp.exp(epsilon)
    k1 = 4.3 * FREQUENCY_OFFSET * RESTING_EXTRACTION * ECHO_TIME
    k2 = ratio * INTRAVASCULAR_RATE * RESTING_EXTRACTION * ECHO_TIME
    k3 = 1 - ratio
    return RESTING_VOLUME * (k1 * (1 - q) + k2 * (1 - q / v) + k3 * (1 - v))


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
