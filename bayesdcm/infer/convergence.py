"""Whether chains agree, fast enough to be asked after every run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

R_HAT_LIMIT = 1.01


def split_r_hat(draws: NDArray) -> NDArray:
    """Rank-normalised split R-hat of each parameter, the larger of bulk and tails.

    Halves of a chain count as chains, so one chain is enough to see drift.

    Parameters
    ----------
    draws : ndarray
        Shape (chains, draws, parameters).

    Returns
    -------
    ndarray
        Shape (parameters,); near 1 where chains agree. Infinite for fewer than four draws.

    References
    ----------
    .. [1] Vehtari et al. (2021), Bayesian Analysis 16:667. https://doi.org/10.1214/20-BA1221

    Examples
    --------
    >>> import numpy as np
    >>> draws = np.random.default_rng(0).normal(size=(4, 500, 2))
    >>> bool((split_r_hat(draws) < 1.01).all())
    True
    """
    length = draws.shape[1] // 2
    if length < 2:
        return np.full(draws.shape[2], np.inf)
    # The middle one of an odd number of draws belongs to neither half.
    halves = np.concatenate([draws[:, :length], draws[:, -length:]])
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    return np.maximum(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(folded)))


def _normal_scores(draws: NDArray) -> NDArray:
    flat = draws.reshape(-1, draws.shape[2])
    ranks = rankdata(flat, axis=0)
    return ndtri((ranks - 3 / 8) / (len(flat) + 1 / 4)).reshape(draws.shape)


def _r_hat(draws: NDArray) -> NDArray:
    length = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean(axis=0)
    between = draws.mean(axis=1).var(axis=0, ddof=1)
    # Draws that are all equal have no spread to compare.
    safe = np.where(within > 0, within, 1.0)
    ratio = (length - 1) / length + between / safe
    return np.sqrt(np.where(within > 0, ratio, np.inf))
