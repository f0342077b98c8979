"""What a fit of BOLD signals leaves of the data: responses to inputs, and correlation in time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from bayesdcm.infer.divergence import finite_mean
from bayesdcm.infer.findings import add, listed

# Longest lag of the test for white noise, in scans; at most a fifth of the scans.
N_LAGS = 10
# Probabilities of false alarms in all regions and inputs of a fit together.
INPUT_LEVEL, WHITE_LEVEL = 0.005, 0.001
# A region is explained badly while others are not: a share of variance below the first, one above
# the second, and residuals this many times as large as are usual among the latter.
BADLY_EXPLAINED, WELL_EXPLAINED, LARGE_RESIDUAL = 0.1, 0.5, 2.0
# Seconds after which the canonical response is over.
RESPONSE_LENGTH = 32.0


class LeftOver(NamedTuple):
    """What residuals hold, confounds removed."""

    # Share of the variance of residuals that responses to an input explain, (inputs, regions), and
    # the probability of one that large, or larger, of white noise.
    share: NDArray[np.float64]
    input_p: NDArray[np.float64]
    # Autocorrelation at one scan, responses to inputs removed, less that of white noise,
    # (regions,), and the probability of such at all lags, of white noise (an upper bound).
    correlation: NDArray[np.float64]
    white_p: NDArray[np.float64]
    sd: NDArray[np.float64]


def left_over(residual: NDArray, times: NDArray, constants: xr.Dataset) -> LeftOver:
    """Test residuals (scans, regions), data minus the posterior mean, of a fit of BOLD signals.

    `times` of the scans are in s, `constants` the fit's ``constant_data``, with ``inputs`` and
    ``confounds``. A response to an input is the input convolved with the canonical haemodynamic
    response (Friston et al. 1998, NeuroImage 7:30, https://doi.org/10.1006/nimg.1997.0306) and with
    its derivative in time; both are tested by an F test for each input and region, after the
    residual was made white by its autocorrelation at one scan. Autocorrelations at lags of 1 to 10
    scans, whose means and variances under white noise follow from what was projected out, are
    tested by the first of them and by the sum of their squares.
    """
    name = "modelled_confounds" if "modelled_confounds" in constants else "confounds"
    confounds = _basis(np.column_stack([np.ones(len(times)), constants[name].to_numpy()]))
    responses = canonical_responses(
        constants["inputs"].to_numpy(), constants["microtime"].to_numpy(), times
    )
    spanned = _basis(np.column_stack([confounds, *responses]))
    unconfounded = residual - confounds @ (confounds.T @ residual)
    white = residual - spanned @ (spanned.T @ residual)
    correlation, white_p = _autocorrelation(white, spanned)
    share = np.zeros((len(responses), residual.shape[1]))
    input_p = np.ones_like(share)
    for j in range(residual.shape[1]):
        # Noise that is correlated for other reasons must not pass for responses.
        whitened = _whitened(np.column_stack([residual[:, [j]], confounds]), correlation[j])
        data, nuisance = whitened[:, 0], _basis(whitened[:, 1:])
        for i, response in enumerate(responses):
            share[i, j], input_p[i, j] = _share(data, nuisance, _whitened(response, correlation[j]))
    return LeftOver(share, input_p, correlation, white_p, unconfounded.std(0))


def canonical_responses(inputs: NDArray, microtime: NDArray, times: NDArray) -> list[NDArray]:
    """Inputs convolved with the canonical haemodynamic response and its derivative.

    Inputs are (bins, inputs); `microtime`, when bins begin, and `times` of the scans are in s. Each
    input gives (scans, 2).

    >>> impulse = np.r_[1.0, np.zeros(299)][:, None]
    >>> response, = canonical_responses(impulse, np.arange(300) / 10, np.arange(30.0))
    >>> int(response[:, 0].argmax())
    5
    """
    step = microtime[1] - microtime[0]
    lags = np.arange(0, RESPONSE_LENGTH, step)
    kernel = stats.gamma.pdf(lags, 6) - stats.gamma.pdf(lags, 16) / 6
    kernels = (kernel, np.gradient(kernel, step))
    responses = []
    for series in inputs.T:
        fine = [np.convolve(series, k)[: len(series)] * step for k in kernels]
        responses.append(np.column_stack([np.interp(times, microtime, values) for values in fine]))
    return responses


def _basis(columns: NDArray) -> NDArray:
    """Orthonormal basis of the columns that are not zero, whatever their units."""
    size = np.linalg.norm(columns, axis=0)
    columns = columns[:, size > 0] / size[size > 0]
    left, values, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, values > 1e-10 * len(columns)]


def _whitened(columns: NDArray, correlation: float) -> NDArray:
    """Differences that are white where noise has this correlation from scan to scan."""
    return columns[1:] - np.clip(correlation, -0.95, 0.95) * columns[:-1]


def _share(data: NDArray, nuisance: NDArray, columns: NDArray) -> tuple[float, float]:
    """Share of variance that columns explain, beside others, and the p value of the F test."""
    data, columns = (v - nuisance @ (nuisance.T @ v) for v in (data, columns))
    size = np.linalg.norm(columns, axis=0)
    # What confounds span already, or an input that is never on.
    columns = columns[:, size > 1e-8 * max(size.max(), 1e-300)]
    total, free = data @ data, len(data) - nuisance.shape[1] - columns.shape[1]
    if not columns.any() or total <= 0 or free < 1:
        return 0.0, 1.0
    basis = _basis(columns)
    explained = float(((basis.T @ data) ** 2).sum())
    unexplained = max(total - explained, 1e-300)
    ratio = explained / basis.shape[1] / (unexplained / free)
    return explained / total, float(stats.f.sf(ratio, basis.shape[1], free))


def _autocorrelation(residual: NDArray, projected: NDArray) -> tuple[NDArray, NDArray]:
    """Autocorrelation at one scan, and the p value of all lags, against projected white noise.

    Moments are those of a ratio of quadratic forms e'Se / e'e with e = (I - XX')w: its mean and
    variance for white w follow from traces.
    """
    n, q = projected.shape
    free = n - q
    power = (residual**2).sum(0)
    n_lags = min(N_LAGS, n // 5)
    if n_lags < 1 or free < 2:
        return np.zeros(residual.shape[1]), np.ones(residual.shape[1])
    first, total = np.zeros(residual.shape[1]), np.zeros(residual.shape[1])
    for lag in range(1, n_lags + 1):
        shifted = np.zeros_like(projected)
        shifted[lag:] += projected[:-lag] / 2
        shifted[:-lag] += projected[lag:] / 2
        inner = projected.T @ shifted
        trace = -np.trace(inner)
        # The square of the matrix of shifts has 1/4 for each neighbour of each scan.
        square = (n - lag) / 2 - 2 * (shifted**2).sum() + (inner**2).sum()
        mean = trace / free
        variance = 2 * (free * square - trace**2) / (free**2 * (free + 2))
        product = (residual[lag:] * residual[:-lag]).sum(0)
        excess = product / np.where(power > 0, power, 1.0) - mean
        if lag == 1:
            first = excess
            alone = stats.chi2.sf(excess**2 / variance, 1)
        total += excess**2 / variance
    # The first lag alone tells autoregressive noise best, all of them tell slow structure.
    p = np.minimum(2 * np.minimum(alone, stats.chi2.sf(total, n_lags)), 1.0)
    return first, np.where(power > 0, p, 1.0)


# What is said of it


def check_residuals(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    """Say what is left of BOLD signals: responses, correlation, regions that are not explained.

    Fits of other data are left alone; facts hold ``explained_variance``, and get more.
    """
    groups = fit._groups
    signal = groups.get("observed_data", {}).get("signal")
    constants = groups.get("constant_data", {})
    of_regions = signal is not None and signal.dims == ("time", "region")
    if not (of_regions and {"inputs", "confounds"} <= set(constants)):
        return
    prediction = finite_mean(groups["posterior_predictive"]["signal_prediction"])
    residual = signal.to_numpy() - prediction
    regions = [str(name) for name in signal["region"].to_numpy()]
    inputs = [str(name) for name in constants["input"].to_numpy()]
    left = left_over(residual, signal["time"].to_numpy(), constants)
    facts["input_share"], facts["residual_sd"] = left.share, left.sd
    facts["residual_correlation"] = left.correlation
    _check_responses(left, regions, inputs, problems)
    coloured = [j for j in range(len(regions)) if left.white_p[j] < WHITE_LEVEL / len(regions)]
    if coloured:
        names = [f"{regions[j]} ({left.correlation[j]:+.2f} at one scan)" for j in coloured]
        add(
            problems,
            "residuals not white",
            f"What is left of {listed(names)} is correlated in time, not white as the model takes "
            "it to be: intervals are too narrow. Look at bayesdcm.plot.plot_residuals; remove slow "
            "drifts by confounds, and check timing and the structure of the model.",
        )
    _check_regions(left, regions, facts["explained_variance"], problems)


def _check_responses(
    left: LeftOver, regions: list[str], inputs: list[str], problems: list[str]
) -> None:
    level = INPUT_LEVEL / max(left.input_p.size, 1)
    names = []
    for j, region in enumerate(regions):
        if len(inputs) and left.input_p[:, j].min() < level:
            i = int(left.share[:, j].argmax())
            share = 100 * left.share[i, j]
            names.append(f"in {region} {share:.0f} % of its variance follows {inputs[i]}")
    if names:
        add(
            problems,
            "residuals follow inputs",
            f"What is left of the data follows the inputs: {listed(names)}. The search may have "
            "stopped short of the best fit: try several starts (starts=8); or connections are "
            "missing, or the timing of inputs and scans is off.",
        )


def _check_regions(left: LeftOver, regions: list[str], explained: Any, problems: list[str]) -> None:
    well = explained >= WELL_EXPLAINED
    if not well.any():
        return
    large = left.sd > LARGE_RESIDUAL * np.median(left.sd[well])
    bad = (explained < BADLY_EXPLAINED) & large
    if not bad.any():
        return
    best = int(np.argmax(explained))
    names = [f"{regions[j]} ({100 * explained[j]:.0f} %)" for j in np.flatnonzero(bad)]
    add(
        problems,
        "regions explained badly",
        f"Some regions are explained badly while others are explained well: {listed(names)}, but "
        f"{regions[best]} {100 * explained[best]:.0f} % of its variance. Try several starts "
        "(starts=8); check whether inputs and connections reach these regions, and their units.",
    )
