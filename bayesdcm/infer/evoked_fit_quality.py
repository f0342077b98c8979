"""How well a fit of evoked responses describes them: by condition and mode, and over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import chi2

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.infer.divergence import kept_draws
from bayesdcm.infer.findings import add, listed

# Less than half of the variance: what is not described is more than what is.
LITTLE = 0.5
# Lags, in samples, at which residuals are compared with noise.
N_LAGS = 5
# Of the Box-Pierce statistic; there are several modes, and parameters have been fitted.
CHANCE = 1e-4
# Correlations that hardly narrow a posterior are not worth telling.
CORRELATED = 0.3
MOST_NAMED = 5
MOST_DRAWS = 500


def check_evoked_fit(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    """Say where little of evoked responses is explained, and whether residuals are correlated.

    Fits of other data are left alone. Where little is explained and residuals are as the model's
    noise, there is nothing to explain. Facts get ``explained_by_condition`` (condition x mode), the
    share of variance that the fit, confounds included, explains; ``explained_by_channel``
    (condition x channel); and ``residual_correlation`` (mode), the largest autocorrelation of
    residuals beyond the model's noise, at the draw where it is least: the mean of predictions is
    none that the model makes, and its residuals may be correlated where those of no draw are.
    """
    order = ("condition", "time", "mode")
    groups = fit._groups
    # A hierarchy keeps neither.
    group = groups.get("posterior_predictive", {})
    for site, observed in groups.get("observed_data", {}).items():
        fitted = f"{site}_fitted"
        if set(observed.dims) != set(order) or fitted not in group:
            continue
        observed = observed.transpose(*order)
        draws, _ = kept_draws(group[fitted].transpose("chain", "draw", *order))
        mean = draws.mean(0)
        residual = observed - mean
        if not np.isfinite(residual).all():
            # Said elsewhere: the model diverges at every draw.
            continue
        explained = _explained(residual, observed)
        replicated, _ = kept_draws((group[site] - group[fitted]).transpose("chain", "draw", *order))
        largest, probability = _correlation(observed.to_numpy() - evenly(draws), replicated)
        facts["explained_by_condition"] = explained
        by_mode = residual.isel(condition=0, time=0, drop=True)
        facts["residual_correlation"] = by_mode.copy(data=largest)
        _add_channels(groups.get("constant_data", {}), mean, facts)
        suspect = (probability < CHANCE) & (np.abs(largest) > CORRELATED)
        if suspect.any():
            _say(problems, observed, residual, explained.to_numpy(), largest, suspect)


def _say(
    problems: list[str],
    observed: xr.DataArray,
    residual: xr.DataArray,
    explained: NDArray,
    largest: NDArray,
    suspect: NDArray,
) -> None:
    modes = np.asarray(axis_names(observed, "mode"))
    conditions = axis_names(observed, "condition")
    total = 1 - float(residual.var("time").sum() / observed.var("time").sum())
    little = (explained < LITTLE) & suspect
    if little.any():
        order = sorted(zip(*np.nonzero(little), strict=True), key=lambda at: explained[at])
        pairs = [
            f"{modes[m]} in {conditions[c]} ({100 * max(explained[c, m], 0):.0f} %)"
            for c, m in order
        ]
        add(
            problems,
            "some responses are explained little",
            f"Less than half of the response is explained in {len(order)} of {explained.size} "
            f"pairs of mode and condition: {listed(pairs, MOST_NAMED)}; of all data "
            f"{100 * max(total, 0):.0f} % is, but residuals there are more than noise. "
            "Check sources, inputs and the window, and compare models; parameters say little where "
            "data are not described.",
        )
    worst = np.flatnonzero(suspect)[np.argsort(-np.abs(largest[suspect]))]
    suspects = listed([f"{modes[m]} ({largest[m]:.2f})" for m in worst], MOST_NAMED)
    add(
        problems,
        "residuals are correlated in time",
        "Residuals are correlated in time beyond the noise that the model assumes, in "
        f"{suspects} (largest autocorrelation once the model's is taken out, at the "
        "draw where it is least; 0 if noise is as assumed): that alone makes the posterior too "
        "narrow and the evidence too sure. See plot_residuals; describe what is left (more sources "
        "or inputs, a shorter window), or filter and sample data so that noise is as assumed.",
    )


def _explained(residual: xr.DataArray, observed: xr.DataArray) -> xr.DataArray:
    """Share of the variance over time; not a number where nothing varies."""
    variance = observed.var("time")
    return 1 - residual.var("time") / variance.where(variance > 0)


def _add_channels(constants: Mapping[str, Any], mean: NDArray, facts: dict[str, Any]) -> None:
    """Explained variance at the channels, where results hold them."""
    if "channels" in constants and "modes_to_channels" in constants:
        channels = constants["channels"].transpose("condition", "time", "channel")
        back = constants["modes_to_channels"].transpose("mode", "channel").to_numpy()
        facts["explained_by_channel"] = _explained(channels - mean @ back, channels)


def evenly(draws: NDArray) -> NDArray:
    """Draws evenly chosen, as many as are needed to find a good one."""
    return draws[np.linspace(0, len(draws) - 1, min(MOST_DRAWS, len(draws))).astype(int)]


def _correlation(residual: NDArray, noise: NDArray) -> tuple[NDArray, NDArray]:
    """Largest autocorrelation of whitened residuals in each mode, and how probable all are.

    Residuals and noise that the model would generate are (draws, conditions, times, modes). Of the
    draw where correlations are least, (modes,): the autocorrelation, and the probability of a
    Box-Pierce statistic like that of the first lags in white noise; Box and Pierce (1970), J Am
    Stat Assoc 65:1509, https://doi.org/10.2307/2284333
    """
    _, n_conditions, n_times, n_modes = residual.shape
    n_lags = min(N_LAGS, n_times // 4)
    if n_lags < 1:
        return np.zeros(n_modes), np.ones(n_modes)
    correlations = autocorrelations(_whitened(residual, _recursion(noise, n_lags)), n_lags)
    squares, modes = (correlations**2).sum(axis=1), np.arange(n_modes)
    best = squares.argmin(axis=0)
    lag = np.abs(correlations[best, :, modes]).argmax(axis=1)
    n = n_conditions * (n_times - n_lags)
    return correlations[best, lag, modes], chi2.sf(n * squares[best, modes], n_lags)


def _recursion(noise: NDArray, order: int) -> NDArray:
    """Coefficients of the past in noise that is autoregressive, by the Yule-Walker equations."""
    draws = np.moveaxis(noise, -1, 1).reshape(-1, noise.shape[-2])
    # The noise has no mean: without taking one off, short series are not biased.
    n = draws.shape[1]
    covariance = np.array(
        [(draws[:, lag:] * draws[:, : n - lag]).mean() for lag in range(order + 1)]
    )
    toeplitz = covariance[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
    return np.linalg.solve(toeplitz, covariance[1:])


def _whitened(values: NDArray, recursion: NDArray) -> NDArray:
    """What a sample is beyond what its past foretells, without the first; times are axis -2."""
    order, n = len(recursion), values.shape[-2]
    past = sum(c * values[..., order - k : n - k, :] for k, c in enumerate(recursion, start=1))
    return values[..., order:, :] - past


def autocorrelations(values: NDArray, n_lags: int) -> NDArray:
    """Autocorrelation over time at lags 1 to `n_lags`, all conditions together.

    Values are (..., conditions, times, columns), the result (..., lags, columns).

    >>> autocorrelations(np.array([[[1.0], [-1.0], [1.0], [-1.0]]]), 2).tolist()
    [[-0.75], [0.5]]
    """
    centred = values - values.mean(axis=-2, keepdims=True)
    power = (centred**2).sum(axis=(-3, -2))
    n = centred.shape[-2]
    products = [
        (centred[..., lag:, :] * centred[..., : n - lag, :]).sum(axis=(-3, -2))
        for lag in range(1, n_lags + 1)
    ]
    return np.stack(products, axis=-2) / np.where(power > 0, power, 1.0)[..., None, :]
