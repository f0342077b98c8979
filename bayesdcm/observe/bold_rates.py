"""Rates of change of BOLD signals, of which regression DCM has a likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm, solve_continuous_lyapunov, solve_triangular, toeplitz

from bayesdcm.data.bold import BoldData
from bayesdcm.integrate.expansion import linear_filters
from bayesdcm.integrate.rate_regression import Regressors
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.regression_bilinear import SELF_CONNECTION, RegressionBilinear
from bayesdcm.observe.bold import Balloon, BoldObserver
from bayesdcm.observe.gaussian import ConfoundBasis, confound_basis
from bayesdcm.observe.linear_regression import NormalNoise, Regression, rigid_posterior

# Shares of measurement among which the evidence chooses.
SHARES = (0.001, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
# How many regions the choice is made by.
JUDGES = 8
# Confounds at the scans before and after that differ less than this, relative, are the same.
SAME = 1e-6
# Of the variance of the noise, so that its correlation can be decomposed.
JITTER = 1e-8


@dataclass(frozen=True)
class BoldRates(BoldObserver):
    """Changes of the BOLD signal from scan to scan, given the scans before.

    Of a signal ``y`` in percent, what is modelled is ``(y[t + 1] - y[t]) / repetition_time``. Its
    noise has two parts: fluctuations of activity, which blood flow smooths, and errors of
    measurement, white in the signal. Both correlate in time; rates and regressors are made white
    before the regression. Responses to inputs are those of the linearised Balloon model at the
    means of its priors.

    Parameters
    ----------
    as_spm : bool
        Must be False.
    measurement_noise : float, optional
        Share of errors of measurement in the variance of the noise, from 0 to 1. None: that among
        0.001, ..., 0.9 of the largest evidence, over eight of the regions at most.

    Notes
    -----
    Confounds of the data, at the scans before and after, with coefficients of unknown size, are
    those of the rates.

    References
    ----------
    .. [1] Fraessle et al. (2017), NeuroImage 155:406.
           https://doi.org/10.1016/j.neuroimage.2017.02.090

    Examples
    --------
    >>> BoldRates(measurement_noise=0.1).kind
    'BOLD signals'
    """

    measurement_noise: float | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "BOLD signals"
    headline: ClassVar[tuple[str, ...]] = ("A", "B", "C")
    searches: ClassVar[bool] = False
    citations = (
        RegressionBilinear.citation,
        (
            "Fraessle S et al. (2021). Regression dynamic causal modeling for resting-state fMRI. "
            "Human Brain Mapping 42:2159-2180.",
            "https://doi.org/10.1002/hbm.25357",
        ),
    )

    def __post_init__(self) -> None:
        share = self.measurement_noise
        if share is not None and np.asarray(share).dtype.kind not in "iuf":
            raise TypeError(
                f"measurement_noise must be a number, a share from 0 to 1, or None, got {share!r}"
            )
        if share is not None and not (np.ndim(share) == 0 and 0 <= share <= 1):
            raise ValueError(
                "measurement_noise must be a share from 0 to 1, or None for the one of the "
                f"largest evidence, got {share!r}"
            )

    # Data

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where a data set does not fit; without inputs, none are needed."""
        if neural.n_inputs or getattr(data, "inputs", None) is not None:
            super().check(data, neural)
        elif not hasattr(data, "n_scans"):
            raise TypeError(f"data must be BoldData, got {type(data).__name__}")
        elif data.n_regions != neural.n_nodes:
            raise ValueError(
                f"data has {data.n_regions} regions, but the model has {neural.n_nodes}; "
                "A needs one row and one column for each region of the signal"
            )

    def signal(self, data: BoldData) -> NDArray[np.float64]:
        """Signal in percent, centred, shape (scans, regions).

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        signal = np.asarray(data.signal)
        return (signal - signal.mean(axis=0)) * self.scale(data)

    def regressors(self, data: BoldData, neural: NeuralModel) -> Regressors:
        """What rates are a linear function of, made white.

        Parameters
        ----------
        data : BoldData
            The data set, with its signal.
        neural : NeuralModel
            Which connections inputs modulate.
        """
        white = self.whitening(data)
        signal = self.signal(data)[:-1]
        responses, levels = self.responses(data)
        modulated = np.zeros((0, *signal.shape))
        if neural.B.any():
            active = self._from_rest(data, levels)[:-1]
            modulated = np.stack([white(active * level.T) for level in np.moveaxis(levels, -1, 0)])
        inputs = np.stack([white(response) for response in responses])
        return Regressors(white(signal), modulated, inputs)

    def _from_rest(self, data: BoldData, levels: NDArray) -> NDArray:
        """Signal less its level without inputs, as a general linear model has it."""
        signal, mean_levels = self.signal(data), levels.mean(0)
        mean_levels = np.vstack([np.zeros(mean_levels.shape[1]), mean_levels])
        confounds = np.asarray(data.confounds)
        weights, *_ = np.linalg.lstsq(np.column_stack([mean_levels, confounds]), signal, rcond=None)
        return signal - confounds @ weights[mean_levels.shape[1] :]

    def responses(self, data: BoldData) -> tuple[NDArray, NDArray]:
        """What inputs add to rates of change, and what they modulate connections by.

        Parameters
        ----------
        data : BoldData or BoldDesign
            Inputs and timing.

        Returns
        -------
        tuple of ndarray
            As `input_responses` gives them.
        """
        return input_responses(data)

    def observed(self, data: BoldData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """Rates of change made white, and confounds; see `Observer.observed`."""
        rates = np.diff(self.signal(data), axis=0) / data.repetition_time
        return self.whitening(data)(rates), self.rate_confounds(data)

    def rate_confounds(self, data: BoldData) -> ConfoundBasis:
        """Confounds of the rates, made white.

        A confound adds to the rate of change by both scans of which that is the difference, and to
        the signal that predicts it: each is there at the scan before and at the scan after.

        Parameters
        ----------
        data : BoldData
            The data set.

        Raises
        ------
        ValueError
            If these leave nothing of the rates.
        """
        basis, sizes = confound_basis(self.whitening(data)(_at_rates(data)), data.n_scans - 1)
        basis = basis[:, sizes > SAME * sizes[0]]
        if basis.shape[1] >= data.n_scans - 1:
            raise ValueError(
                f"data.confounds are {data.confounds.shape[1]} columns, which at the scans before "
                f"and after fit all {data.n_scans - 1} rates of change; expected fewer. Give the "
                "main components of the confounds."
            )
        return ConfoundBasis(basis, np.full(basis.shape[1], np.sqrt(data.n_scans)))

    def whitening(self, data: BoldData) -> Whitening:
        """The transform that makes the noise of rates white.

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        share = self.measurement_noise
        if share is None:
            share = self._likeliest_share(data)
        return whitening(data.n_scans - 1, float(data.repetition_time), float(share))

    def _likeliest_share(self, data: BoldData) -> float:
        known = data.__dict__.setdefault("_measurement_noise", {})
        if self.as_spm not in known:
            known[self.as_spm] = self._choose(data)
        return known[self.as_spm]

    def _choose(self, data: BoldData) -> float:
        signal, n = self.signal(data), data.n_regions
        rates = np.diff(signal, axis=0) / data.repetition_time
        responses, _ = input_responses(data)
        columns = np.column_stack([signal[:-1], responses.mean(0), _at_rates(data)])
        precision = np.full(columns.shape[1], 1e-6)
        precision[:n] = n / 8
        # Errors of measurement turn successive rates against one another. Regions that lie evenly
        # over this speak for all, in whatever order they come.
        successive = (rates[1:] * rates[:-1]).sum(0) / (rates**2).sum(0)
        places = np.linspace(0, n - 1, min(JUDGES, n)).round().astype(int)
        judges = np.sort(np.argsort(successive, kind="stable")[places])
        evidence = []
        for share in SHARES:
            white = whitening(len(rates), float(data.repetition_time), share)
            x, y = white(columns), white(rates[:, judges])
            gram, cross = x.T @ x, x.T @ y
            total = 0.0
            for k, region in enumerate(judges):
                own, mean = precision.copy(), np.zeros(len(precision))
                own[region], mean[region] = 8 * n, SELF_CONNECTION
                noise = NormalNoise(2.0, 16.0)
                square = float(y[:, k] @ y[:, k])
                given = Regression(gram, cross[:, k], square, len(y), mean, own, noise)
                total += rigid_posterior(given, tolerance=1.0).free_energy[-1]
            evidence.append(total)
        return SHARES[int(np.argmax(evidence))]

    # The forward model

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """None: haemodynamics are fixed."""
        return ()

    def at_data(self, prediction: jax.Array, data: Any, priors: Mapping[str, Prior]) -> jax.Array:
        """See `BoldRates.restore`."""
        return jnp.asarray(self.restore(np.asarray(prediction), data, priors))

    # Names

    def coords(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Onsets of the scans and times of the inputs, s."""
        bins = 0 if data.inputs is None else len(data.inputs)
        microtime = np.arange(bins) * (data.input_dt or 1.0)
        return {"time": np.asarray(data.times), "microtime": microtime}

    def constants(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """As those of `BoldObserver`, and the share ``measurement_noise``; inputs where there are.

        Parameters
        ----------
        data, priors : see `Observer.observed`
        """
        table = {
            "confounds": np.asarray(data.confounds),
            "scale": np.asarray(self.scale(data)),
            "measurement_noise": np.asarray(self.whitening(data).share),
        }
        if data.inputs is not None:
            table["inputs"] = np.asarray(data.inputs)
        return table

    def restore(self, scaled: NDArray, data: BoldData, priors: Mapping[str, Prior]) -> NDArray:
        """From rates made white to signals, each of the one before, (..., scans, regions).

        The first scan, which nothing predicts, is as observed.

        Parameters
        ----------
        scaled : ndarray, shape (..., rates, regions)
        data, priors : see `Observer.observed`
        """
        signal = np.asarray(data.signal)
        change = self.whitening(data).inverse(scaled) * data.repetition_time / self.scale(data)
        first = np.broadcast_to(signal[:1], (*change.shape[:-2], 1, signal.shape[1]))
        return np.concatenate([first, signal[:-1] + change], axis=-2)

    def arrange(self, values: NDArray, data: Any) -> NDArray:
        """Values of rates at the scans that follow; 0 for the first scan.

        Parameters
        ----------
        values : ndarray, shape (..., rates, regions)
        data : see `Observer.observed`
        """
        before = [(0, 0)] * (np.ndim(values) - 2) + [(1, 0), (0, 0)]
        return np.pad(values, before)


def _at_rates(data: BoldData) -> NDArray:
    """Confounds at the scans before and after each rate, (rates, columns), largest value 1."""
    confounds = np.asarray(data.confounds) / np.abs(data.confounds).max(0)
    return np.hstack([confounds[:-1], confounds[1:]])


@dataclass(frozen=True, eq=False)
class Whitening:
    """A causal linear transform after which noise of rates is white; of determinant 1.

    Parameters
    ----------
    root : ndarray, shape (rates, rates)
        Lower triangular: the noise is this times white noise.
    share : float
        Share of errors of measurement.
    """

    root: NDArray
    share: float

    def __call__(self, series: NDArray) -> NDArray:
        """Series (rates, columns) made white."""
        return solve_triangular(self.root, series, lower=True, check_finite=False)

    def inverse(self, white: NDArray) -> NDArray:
        """Series of which these (..., rates, columns) were made."""
        # One product of matrices, also of many draws.
        columns = np.moveaxis(np.asarray(white), -2, 0)
        series = self.root @ columns.reshape(len(columns), -1)
        return np.moveaxis(series.reshape(columns.shape), 0, -2)


@lru_cache(maxsize=16)
def whitening(n_rates: int, repetition_time: float, share: float) -> Whitening:
    """The transform for a run of so many rates.

    Parameters
    ----------
    n_rates : int
        Number of rates.
    repetition_time : float
        From scan to scan, s.
    share : float
        Share of errors of measurement in the variance of the noise.

    Examples
    --------
    >>> white = whitening(3, 2.0, 1.0)
    >>> white.root.round(2).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    haemodynamics = linear_haemodynamics()
    driven = np.outer(haemodynamics.drive, haemodynamics.drive)
    covariance = solve_continuous_lyapunov(haemodynamics.rates, -driven)
    step, state = expm(haemodynamics.rates * repetition_time), covariance @ haemodynamics.read
    smoothed = np.empty(n_rates)
    for lag in range(n_rates):
        smoothed[lag] = haemodynamics.read @ state
        state = step @ state
    # What an error of measurement adds to the rate after it, and to that before.
    after, before = -1 / repetition_time - SELF_CONNECTION, 1 / repetition_time
    measured = np.zeros(n_rates)
    measured[:2] = (after**2 + before**2, after * before)[:n_rates]
    correlation = (1 - share) * smoothed / smoothed[0] + share * measured / measured[0]
    correlation[0] += JITTER
    root = np.linalg.cholesky(toeplitz(correlation))
    root /= np.exp(np.log(np.diagonal(root)).mean())
    return Whitening(root, share)


@dataclass(frozen=True, eq=False)
class LinearHaemodynamics:
    """The Balloon model about rest: ``h' = rates h + drive x``, percent ``read h``.

    Parameters
    ----------
    rates : ndarray, shape (states, states)
        In Hz.
    drive, read : ndarray, shape (states,)
        How activity enters, and what is seen of the states.
    """

    rates: NDArray
    drive: NDArray
    read: NDArray

    @cached_property
    def gain(self) -> float:
        """Percent signal change of an activity that is held at 1."""
        return float(-self.read @ np.linalg.solve(self.rates, self.drive))


@lru_cache(maxsize=1)
def linear_haemodynamics() -> LinearHaemodynamics:
    """The Balloon model about rest, at the means of its priors.

    Examples
    --------
    >>> round(linear_haemodynamics().gain, 2)
    19.3
    """
    observer = Balloon()

    # One program: each operation by itself would be compiled, eighty of them.
    @jax.jit
    def about(rest: jax.Array, parameters: Parameters) -> tuple[jax.Array, ...]:
        rates = linear_filters(observer, 1, parameters)[0]
        drive = observer.flow(jnp.ones(1), rest, parameters)[0]
        read = jax.grad(lambda h: observer.read(h, parameters)[0])(rest)[0]
        return rates, drive, read

    with jax.ensure_compile_time_eval():
        means = {"transit": jnp.zeros(1), "decay": jnp.zeros(()), "epsilon": jnp.zeros(())}
        found = about(jnp.zeros((1, len(observer.states))), means)
        return LinearHaemodynamics(*(np.asarray(each) for each in found))


def input_responses(data: BoldData) -> tuple[NDArray, NDArray]:
    """Mean response of blood flow to each input between scans, and inputs as it smooths them.

    Both (regions, rates, inputs): responses in percent per unit of activity, and the same over what
    they come to. One region stands for all where slices are measured at the same time.

    Parameters
    ----------
    data : BoldData
        Inputs and timing.
    """
    n_rates = data.n_scans - 1
    delays = np.unique(data.slice_delays)
    if data.inputs is None:
        nothing = np.zeros((1, n_rates, 0))
        return nothing, nothing
    if len(delays) > 1:
        delays = np.asarray(data.slice_delays)
    linear, dt = linear_haemodynamics(), data.input_dt
    size = len(linear.drive)
    # States, what has been seen of them so far, and the input that is held.
    system = np.zeros((size + 2, size + 2))
    system[:size, :size], system[:size, -1], system[size, :size] = (
        linear.rates,
        linear.drive,
        linear.read,
    )
    step = expm(system * dt)[: size + 1]
    carry, seen = np.zeros((size + 1, data.n_inputs)), []
    for held in np.vstack([data.inputs, data.inputs[-1:]]):
        seen.append(carry[size])
        carry = step[:, :-1] @ carry + np.outer(step[:, -1], held)
    total = np.array(seen)
    at = data.repetition_time * np.arange(data.n_scans) + delays[:, None]
    edges = dt * np.arange(len(total))
    points = np.stack([np.interp(at, edges, column) for column in total.T], axis=-1)
    responses = np.diff(points, axis=1) / data.repetition_time
    return responses, responses / linear.gain
