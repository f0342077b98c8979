"""Whether the free energy in an SPM file is that of the estimates beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_estimates import FIELDS, SpmEstimates
from bayesdcm.data.spm_fields import dense, is_empty
from bayesdcm.data.spm_priors import Moments
from bayesdcm.data.validation import warn_caller

__all__ = ["has_own_free_energy"]

# SPM's prior precision of the coefficients of confounds.
_CONFOUND_PRECISION = 1e-8
_NOISE = (6.0, 1 / 128)
# Files that SPM wrote are within 3 nats; those of modified versions were within 2 percent.
_NATS, _SHARE = 10.0, 0.1


def has_own_free_energy(
    dcm: Mapping[str, Any],
    confounds: NDArray[np.float64],
    priors: Mapping[str, Moments],
    estimates: SpmEstimates,
) -> bool:
    """Whether F is that of the posterior, residuals and priors in the file, as far as it has them.

    It is not, of which a warning tells, where the file holds a reduced model, whose F is the
    difference to the full one. Confounds are (scans, confounds).
    """
    n, absent = len(estimates.mean["transit"]), Moments()
    moments = [priors.get(name, absent) for name in FIELDS if name != "D" or name in priors]
    known = all(m.mean is not None and m.variance is not None for m in moments)
    if is_empty(dcm.get("R")) or is_empty(dcm.get("Ce")) or not known:
        return True
    try:
        residual = dense("DCM.R", dcm["R"], (len(confounds), n))
        noise = dense("DCM.Ce", dcm["Ce"], (n,))
    except ValueError:
        return True  # other versions keep them in another form
    expected = _free_energy(residual, noise, confounds, priors, estimates)
    stored = estimates.free_energy
    if not np.isfinite(expected) or abs(stored - expected) <= _NATS + _SHARE * abs(expected):
        return True
    warn_caller(
        f"The free energy in the file, {stored:.2f} nats, is not that of the estimates beside it: "
        f"their residuals and posterior make it about {expected:.0f}. Such files come from a "
        "reduction, whose F is the difference to the full model, or were put together from others. "
        "The estimates are left out; `bayesdcm.fit` estimates the model from the data in the file"
    )
    return False


def _free_energy(
    residual: NDArray[np.float64],
    noise: NDArray[np.float64],
    confounds: NDArray[np.float64],
    priors: Mapping[str, Moments],
    estimates: SpmEstimates,
) -> float:
    """Free energy of a Gaussian posterior, in nats, from what it leaves of the data.

    Accuracy and complexity of the parameters, the confounds and the log-precisions, in closed form
    (Friston et al. 2007, NeuroImage 34:220, https://doi.org/10.1016/j.neuroimage.2006.08.035).
    `residual`, (scans, regions), is scaled data less prediction and confounds; `noise`, (regions,),
    variances; and `priors` are of the parameters and of the noise's ``log_precision``.
    """
    scans, n = residual.shape
    columns = confounds.shape[1]
    with np.errstate(all="ignore"):
        accuracy = -0.5 * (scans * np.log(2 * np.pi * noise).sum() + (residual**2 / noise).sum())
        value = accuracy + 0.5 * np.linalg.slogdet(estimates.covariance.to_numpy())[1]
        for name in [name for name in FIELDS if name in priors]:
            prior = priors[name]
            free = prior.variance > 0  # type: ignore[operator]
            spread = prior.variance[free]  # type: ignore[index]
            moved = (estimates.mean[name] - prior.mean)[free]
            value -= 0.5 * (np.log(spread) + moved**2 / spread).sum()
        for each in noise:
            precision = confounds.T @ confounds / each + _CONFOUND_PRECISION * np.eye(columns)
            value += 0.5 * (columns * np.log(_CONFOUND_PRECISION) - np.linalg.slogdet(precision)[1])
        given = priors.get("log_precision", Moments())
        mean, variance = (
            np.full(n, default) if value is None else value
            for value, default in zip((given.mean, given.variance), _NOISE, strict=True)
        )
        free = variance > 0
        moved = (-np.log(noise) - mean)[free]
        # The curvature of the accuracy by a log-precision is half the number of scans.
        shrunk = np.log1p(variance[free] * scans / 2)
        value -= 0.5 * (shrunk + moved**2 / variance[free]).sum()
    return float(value)
