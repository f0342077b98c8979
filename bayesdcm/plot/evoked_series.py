"""Observed and fitted evoked responses: by condition, over time, in channel modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.divergence import left_out_text
from bayesdcm.plot.quantities import axis_names, finite, flat_draws, is_evoked

SITE = "signal"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, eq=False)
class EvokedSeries:
    """Responses in channel modes, and what the posterior makes of them.

    Attributes
    ----------
    time : ndarray
        Shape (times,), ms after the stimulus.
    conditions, modes : list of str
        Names of the conditions and of the channel modes.
    observed : ndarray
        The data that were fitted, shape (conditions, times, modes), in their own units.
    draws : ndarray
        Posterior draws of the fitted responses, confounds included, shape (draws, conditions,
        times, modes).
    method : str
        Method of the fit, and how many draws that diverge are left out.
    """

    time: NDArray
    conditions: list[str]
    modes: list[str]
    observed: NDArray
    draws: NDArray
    method: str

    @property
    def mean(self) -> NDArray:
        """Posterior mean, shape (conditions, times, modes)."""
        return self.draws.mean(0)

    def band(self, interval: float) -> tuple[NDArray, NDArray]:
        """Bounds of the credible band that holds a probability, each like `mean`."""
        tail = (1 - interval) / 2
        low, high = np.quantile(self.draws, [tail, 1 - tail], axis=0)
        return low, high


def evoked_series(fit: Any) -> EvokedSeries:
    """Responses that a fit holds.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of `EvokedDCM`, by any method, just made or read from disk.

    Returns
    -------
    EvokedSeries
        Finite draws only.

    Raises
    ------
    ValueError
        If the fit is of another model.
    """
    check_evoked(fit)
    observed = fit.idata.observed_data[SITE].transpose("condition", "time", "mode")
    fitted = flat_draws(fit.idata.posterior_predictive[f"{SITE}_fitted"])
    draws = finite(fitted)
    return EvokedSeries(
        time=1e3 * np.asarray(observed["time"]),
        conditions=axis_names(observed, "condition"),
        modes=axis_names(observed, "mode"),
        observed=observed.to_numpy(),
        draws=draws,
        method=fit.method + left_out_text(len(fitted) - len(draws), len(fitted)),
    )


def check_evoked(fit: Any) -> None:
    """Raise where a fit is not one of evoked responses.

    Parameters
    ----------
    fit : bayesdcm.Fit
        Any fit.

    Raises
    ------
    TypeError
        If it is not a fit.
    ValueError
        If it is one of another model.
    """
    if not hasattr(fit, "idata"):
        raise TypeError(f"fit must be a fit that bayesdcm.fit made, got {type(fit).__name__}")
    if not is_evoked(fit):
        raise ValueError(
            f"fit must be of a model of evoked responses (EvokedDCM), got {fit.description}"
        )


def power_of_thousand(values: NDArray) -> int:
    """Exponent of ten, a multiple of three, that leaves numbers of one to three digits.

    Examples
    --------
    >>> power_of_thousand(np.array([0.0, 3e-6])), power_of_thousand(np.array([0.2]))
    (-6, 0)
    """
    largest = float(np.abs(values).max())
    if largest == 0 or 0.1 <= largest < 1000:
        return 0
    return int(3 * np.floor(np.log10(largest) / 3))


def power_text(exponent: int) -> str:
    r"""Typeset a power of ten with a product sign, nothing for the zeroth.

    Examples
    --------
    >>> power_text(-6), power_text(0)
    ('10⁻⁶ ×\xa0', '')
    """
    return f"10{str(exponent).translate(SUPERSCRIPTS)} ×\N{NO-BREAK SPACE}" if exponent else ""
