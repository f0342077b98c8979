"""The experimental input of evoked responses: a volley of afferent activity after the stimulus."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

AMPLITUDE = 32.0
ONSET_SCALE = 0.128


def stimulus_input(
    times: ArrayLike,
    onset: ArrayLike,
    duration: ArrayLike,
    timing: jax.Array,
    sustained: float = 0.0,
) -> jax.Array:
    """Inputs as Gaussian functions of peristimulus time, as SPM's ``spm_erp_u``.

    With ``m = onset + 0.128 timing[0]`` and ``s = duration exp(timing[1])``, the input is
    ``32 exp(-(t - m)^2 / (2 s^2))``; a sustained share of it is replaced by the normalised
    integral of the same function.

    Parameters
    ----------
    times : array_like
        Times, s, shape (times,).
    onset, duration : array_like
        Prior mean of the peak's time and of its standard deviation, s, shape (inputs,) or ().
    timing : jax.Array
        Onset in units of 128 ms, and log scaling of the duration, shape (inputs, 2).
    sustained : float
        Share of the input that persists after the peak, 0 to 1; SPM's default is 0.

    Returns
    -------
    jax.Array
        Shape (times, inputs).

    References
    ----------
    .. [1] David et al. (2006), NeuroImage 30:1255.
           https://doi.org/10.1016/j.neuroimage.2005.10.045

    Examples
    --------
    >>> import numpy as np
    >>> stimulus_input([0.06], 0.06, 0.016, np.zeros((1, 2))).tolist()
    [[32.0]]
    """
    timing = jnp.asarray(timing)
    centre = jnp.asarray(onset) + ONSET_SCALE * timing[:, 0]
    width = jnp.asarray(duration) * jnp.exp(timing[:, 1])
    bump = jnp.exp(-(((jnp.asarray(times)[:, None] - centre) / width) ** 2) / 2)
    if sustained == 0:
        return AMPLITUDE * bump
    risen = jnp.cumsum(bump, axis=0) / bump.sum(axis=0)
    return AMPLITUDE * (sustained * risen + (1 - sustained) * bump)
