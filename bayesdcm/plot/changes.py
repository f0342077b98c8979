"""Strengths of the connections of a model of evoked responses, and what conditions change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.plot.evoked_series import check_evoked
from bayesdcm.plot.quantities import CONSTANT, axis_names, flat_draws, quantity

# By neural model: the parameter that the diagonal of B changes, and what it is the gain of.
WITHIN = {
    "ERP": ("synaptic_gain", "excitatory synaptic gain"),
    "LFP": ("synaptic_gain", "excitatory synaptic gain"),
    "NMDA": ("intrinsic", "intrinsic excitatory strength"),
    "CMC": ("intrinsic", "self-inhibition of superficial cells"),
}


@dataclass(frozen=True, eq=False)
class Strength:
    """Posterior of one connection, or of the gain within a source.

    Attributes
    ----------
    kind : str
        Kind of connection; for gains, of what.
    to, source : int
        Numbers of the target and of the source where it starts; equal for gains.
    baseline : ndarray
        Strength without condition effects, relative to the prior mean, (draws,).
    change : ndarray
        Factor of each condition, (draws, conditions).
    unit_change : ndarray
        Factor of each condition effect at 1, (draws, effects).
    modulated : bool
        Whether conditions may change it.
    """

    kind: str
    to: int
    source: int
    baseline: NDArray
    change: NDArray
    unit_change: NDArray
    modulated: bool

    @property
    def within(self) -> bool:
        """Whether it is a gain within a source."""
        return self.to == self.source


@dataclass(frozen=True, eq=False)
class Strengths:
    """All connections of a fit.

    Attributes
    ----------
    entries : list of Strength
        Connections by kind, then gains within sources that conditions may change.
    sources, conditions, effects : list of str
        Their names.
    baseline : str
        Name of the condition without effects; empty where there is none.
    """

    entries: list[Strength]
    sources: list[str]
    conditions: list[str]
    effects: list[str]
    baseline: str

    def name(self, entry: Strength) -> str:
        """From where to where an entry leads, the source only for a gain."""
        to = self.sources[entry.to]
        return to if entry.within else f"{self.sources[entry.source]} → {to}"


def strengths(fit: Any) -> Strengths:
    """Posterior of all connections and of what conditions change.

    Parameters
    ----------
    fit : bayesdcm.Fit
        A fit of `EvokedDCM`.

    Returns
    -------
    Strengths
        Read from the posterior alone.

    Raises
    ------
    TypeError, ValueError
        If the fit is not one of evoked responses.
    """
    check_evoked(fit)
    posterior = fit.idata.posterior
    A, B = quantity(fit, "A"), posterior["B"].transpose("chain", "draw", "effect", "to", "from")
    design = fit.idata.constant_data["design"].transpose("condition", "effect")
    log_change = flat_draws(B)
    by_condition = np.einsum("ce,deij->dcij", design.to_numpy(), log_change)
    free = np.ptp(flat_draws(fit.idata.prior["B"]), axis=0) > CONSTANT
    modulated = free.any(0)
    draws = flat_draws(posterior["A"])

    def entry(kind: str, i: int, j: int, baseline: NDArray) -> Strength:
        return Strength(
            kind, i, j, baseline, np.exp(by_condition[:, :, i, j]),
            np.exp(log_change[:, :, i, j]), bool(modulated[i, j]),
        )  # fmt: skip

    kinds = A.names["kind"]
    entries = [
        entry(kinds[k], int(i), int(j), np.exp(draws[:, k, i, j]))
        for k in range(len(kinds))
        for i, j in np.argwhere(A.free[k])
    ]
    name, words = WITHIN[neural_name(fit)]
    gains = flat_draws(posterior[name])
    gains = gains if gains.ndim == 2 else gains[..., 0]
    entries += [
        entry(words, int(i), int(i), np.exp(gains[:, i]))
        for i in np.flatnonzero(np.diagonal(modulated))
    ]
    conditions = axis_names(design, "condition")
    without = np.flatnonzero(~design.to_numpy().any(1))
    baseline = conditions[without[0]] if len(without) else ""
    return Strengths(entries, A.names["to"], conditions, axis_names(design, "effect"), baseline)


def neural_name(fit: Any) -> str:
    """Name of the neural model of a fit of evoked responses, such as ``"ERP"``."""
    found = re.search(r"sources?, (\w+);", fit.description)
    return found[1] if found else "ERP"


def percent_interval(factors: NDArray, interval: float = 0.9) -> tuple[float, float, float]:
    """Median and bounds of factors in percent; draws lie along the first axis.

    Examples
    --------
    >>> percent_interval(np.array([1.0, 1.5, 2.0]), 1.0)
    (150.0, 100.0, 200.0)
    """
    tail = (1 - interval) / 2
    middle, low, high = 100 * np.quantile(factors, [0.5, tail, 1 - tail])
    return float(middle), float(low), float(high)
