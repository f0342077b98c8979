"""Observers of BOLD signals: the axes, noise and units of `BoldData`, and the Balloon model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData, with_signal
from bayesdcm.data.bold_validation import LARGEST_RANGE
from bayesdcm.data.by_value import ByValue
from bayesdcm.data.validation import warn_caller
from bayesdcm.integrate.expansion import filtered_trajectory, linear_filters
from bayesdcm.integrate.grid import TimeGrid, at_samples
from bayesdcm.integrate.one_step import heun
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.bilinear import Bilinear
from bayesdcm.observe import balloon
from bayesdcm.observe.balloon import HAEMODYNAMICS, STEPHAN_2007, Haemodynamics
from bayesdcm.observe.base import SPM_NOISE, WIDE_NOISE, Observer, noise_prior
from bayesdcm.observe.gaussian import (
    ConfoundBasis,
    GaussianObservation,
    confound_basis,
    gaussian,
)
from bayesdcm.observe.haemodynamics import LONGEST_STEP, balloon_response
from bayesdcm.observe.streaming import SeriesObserver, in_windows, scan_clock

# Longest step of haemodynamics that a series drives, s: the error is near 1e-5 of a response.
SERIES_STEP = 0.01
# Bins of inputs, s, up to which reading a bin early changes responses by some percent.
COARSEST = 0.25


@dataclass(frozen=True)
class BoldObserver(Observer):
    """An observer of the BOLD signal of regions, one a node of the neural model.

    Subclasses give `priors` and the forward model, whose prediction is percent signal change,
    shape (scans, regions).

    Parameters
    ----------
    as_spm : bool
        SPM's choices: signals scaled down to a range of 4, its prior of the noise, N(6, 1/128),
        and confounds in their own units. Otherwise signals are in percent, the prior of the
        noise is N(2, 16), so that data decide, and units and correlations of confounds do not
        matter.
    """

    as_spm: bool = False

    data_class = BoldData
    kind: ClassVar[str] = "task fMRI"
    node: ClassVar[str] = "region"
    sample: ClassVar[str] = "scan"

    @property
    def searches(self) -> bool:
        """Whether variational Laplace looks further where it finds a poor optimum."""
        return not self.as_spm

    def predict(self, solution: jax.Array, parameters: Parameters, arrays: Any) -> jax.Array:
        """The solution itself; see `Observer.predict`."""
        return solution

    def scale(self, data: BoldData) -> float:
        """Factor from the centred signal of a data set to the one that is modelled.

        Parameters
        ----------
        data : BoldData
            The data set.

        Returns
        -------
        float
            1, or 100 where the signal is in fractions of 1; SPM's with `as_spm`.
        """
        return data.scale if self.as_spm else data.percent

    def confound_basis(self, data: BoldData) -> ConfoundBasis:
        """Confounds as the likelihood takes them.

        Parameters
        ----------
        data : BoldData
            The data set.

        Returns
        -------
        ConfoundBasis
            Orthonormal columns, and their singular values: those of the confounds with `as_spm`,
            else the root of the number of scans.
        """
        if self.as_spm:
            return confound_basis(data.confounds, data.n_scans)
        basis, _ = confound_basis(data.confounds / np.abs(data.confounds).max(0), data.n_scans)
        return ConfoundBasis(basis, np.full(basis.shape[1], np.sqrt(data.n_scans)))

    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise an error where a data set (or design) does not fit the neural model."""
        if not hasattr(data, "n_scans"):
            raise TypeError(f"data must be BoldData, got {type(data).__name__}")
        if data.n_regions != neural.n_nodes:
            raise ValueError(
                f"data has {data.n_regions} regions, but the model has {neural.n_nodes}; "
                "A needs one row and one column for each region of the signal"
            )
        if data.inputs is None:
            raise ValueError(
                "data.inputs is None, but a task DCM is driven by inputs; give inputs and "
                "input_dt, or build the data with BoldData.from_events"
            )
        if data.n_inputs != neural.n_inputs:
            raise ValueError(
                f"data has {data.n_inputs} inputs, but the model has {neural.n_inputs}; B needs "
                "one slice and C one column for each input"
            )

    def observed(self, data: BoldData, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """Signal, centred and times `scale`, and confounds; see `Observer.observed`."""
        scaled = (data.signal - data.signal.mean(axis=0)) * self.scale(data)
        if data.unit == "arbitrary" and np.ptp(scaled) > LARGEST_RANGE:
            warn_caller(
                f"data.signal in unit='arbitrary' varies by more than {LARGEST_RANGE:g}, which no "
                "BOLD response in percent does, and the model predicts percent; convert it by "
                "to_percent()"
            )
        finest = data.repetition_time / 16
        if not self.as_spm and data.input_dt > max(COARSEST, finest) * (1 + 1e-9):
            times = int(np.ceil(data.input_dt / finest))
            warn_caller(
                f"data.inputs come in bins of {data.input_dt:g} s; as in SPM, slice delays are "
                "rounded to whole bins and scans are read a bin before, so that responses are up "
                f"to {data.input_dt:g} s off. Give finer bins: np.repeat(inputs, {times}, axis=0) "
                f"with input_dt={data.input_dt / times:.6g}"
            )
        return scaled, self.confound_basis(data)

    def noise_prior(self, neural: NeuralModel) -> Prior:
        """Log-precisions of the noise, one a region."""
        return noise_prior(*(SPM_NOISE if self.as_spm else WIDE_NOISE), neural.n_nodes)

    def likelihood(
        self, prediction: jax.Array, log_precision: jax.Array, noise: ConfoundBasis
    ) -> GaussianObservation:
        """White Gaussian noise of each region, and confounds of unknown size."""
        return gaussian(prediction, log_precision, confounds=noise)

    def at_data(self, prediction: jax.Array, data: Any, priors: Mapping[str, Prior]) -> jax.Array:
        """Percent signal change, confounds left out, shape (scans, regions)."""
        return prediction

    def simulated(
        self,
        clean: NDArray,
        design: Any,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> BoldData:
        """The design with a signal in percent; `snr` holds in every region."""
        sd = np.zeros(clean.shape[1])
        if snr is not None:
            sd = clean.std(axis=0) / snr
        elif log_precision is not None:
            sd = np.exp(-log_precision / 2)
        return with_signal(design, clean + rng.normal(size=clean.shape) * sd)

    def names(self, data: BoldData | None, neural: NeuralModel) -> dict[str, list[str]]:
        """Names of regions and inputs; see `Observer.names`."""
        if data is None:
            regions = [f"region {i + 1}" for i in range(neural.n_nodes)]
            inputs = [f"input {i + 1}" for i in range(neural.n_inputs)]
        else:
            regions, inputs = list(data.region_names), list(data.input_names)
        along = dict.fromkeys(("region", "to", "from", "gating"), regions)
        return along | {"input": inputs}

    def dims(self) -> dict[str, tuple[str, ...]]:
        """See `Observer.dims`."""
        return {
            "log_precision": ("region",),
            "signal": ("time", "region"),
            "inputs": ("microtime", "input"),
            "confounds": ("time", "confound"),
            "modelled_confounds": ("time", "modelled_confound"),
        }

    def coords(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Onsets of the scans and times of the inputs, s."""
        microtime = np.arange(len(data.inputs)) * data.input_dt
        return {"time": np.asarray(data.times), "microtime": microtime}

    def constants(self, data: BoldData, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Constants of a data set that results hold.

        ``inputs`` and ``confounds`` as given; ``modelled_confounds``, those of the likelihood;
        ``scale``, by what the signal was multiplied for the fit.
        """
        basis, scale = self.confound_basis(data)
        return {
            "inputs": np.asarray(data.inputs),
            "confounds": np.asarray(data.confounds),
            "modelled_confounds": np.asarray(basis) * np.asarray(scale),
            "scale": np.asarray(self.scale(data)),
        }

    def restore(self, scaled: NDArray, data: BoldData, priors: Mapping[str, Prior]) -> NDArray:
        """From the scaled, centred signal to the units of the data, (..., scans, regions)."""
        restored = scaled / self.scale(data)
        restored += np.asarray(data.signal).mean(axis=0)
        return restored


class _Course(NamedTuple):
    """Where haemodynamics are between two blocks of a series."""

    states: jax.Array  # s, f, v, q at the last whole part of a scan, (regions, 4)
    pending: jax.Array  # sum of the activity since, (regions,)
    seen: jax.Array  # steps so far
    scans: jax.Array  # (scans, regions)


@dataclass(frozen=True)
class Balloon(BoldObserver, SeriesObserver):
    """The Balloon model: activity drives blood flow, volume and deoxyhaemoglobin of each region.

    It is an observer of DCMs, and of series: of simulated networks
    (``simulate(observers=[Balloon(repetition_time=0.72)])``), or of any by `series`. Equations and
    priors are those of `bayesdcm.observe.haemodynamic_flow`, `bold_signal` and
    `haemodynamic_priors`.

    Parameters
    ----------
    as_spm : bool
        SPM's scaling, prior of the noise, and confounds in a DCM; see `BoldObserver`.
    haemodynamics : str or Haemodynamics
        Constants: ``"stephan2007"`` (SPM's, percent signal change) or ``"friston2003"`` (usual
        for whole brains, signal as a fraction of its level at rest).
    repetition_time : float, optional
        Of a series, which a DCM's data tell: time from scan to scan, s, a whole number of steps.
        By default there is a scan after each step.
    gain, baseline : float
        Of a series: ``gain (activity - baseline)`` drives the haemodynamics, per second; their rest
        is where it is 0.
    of : str
        Of a network: the state or signal; empty for the node's activity.
    name : str
        Of the result.

    Raises
    ------
    ValueError
        If the haemodynamics are not known, or a series is shorter than a scan.

    Notes
    -----
    A series begins at rest. Its activity is averaged over parts of a scan of at most 10 ms, in
    which Heun's scheme does a step. Flow below 5 % of rest is outside the model; volume and
    deoxyhaemoglobin then see that floor.

    References
    ----------
    .. [1] Stephan, Weiskopf, Drysdale, Robinson and Friston (2007), NeuroImage 38:387.
           https://doi.org/10.1016/j.neuroimage.2007.07.040
    .. [2] Friston, Harrison and Penny (2003), NeuroImage 19:1273.
           https://doi.org/10.1016/S1053-8119(03)00202-7

    Examples
    --------
    >>> Balloon().states
    ('vasodilatory signal', 'log flow', 'log volume', 'log deoxyhaemoglobin')
    >>> observer = Balloon(haemodynamics="friston2003", repetition_time=2.0)
    >>> bold = observer.series(jnp.ones((400, 1)), step=0.05)
    >>> bold.shape, round(float(bold.max()), 3)
    ((10, 1), 0.048)
    """

    haemodynamics: str | Haemodynamics = field(default="stephan2007", kw_only=True)
    repetition_time: float | None = field(default=None, kw_only=True)
    gain: float = field(default=1.0, kw_only=True)
    baseline: float = field(default=0.0, kw_only=True)
    of: str = field(default="", kw_only=True)
    name: str = field(default="bold", kw_only=True)

    states: ClassVar[tuple[str, ...]] = (
        "vasodilatory signal",
        "log flow",
        "log volume",
        "log deoxyhaemoglobin",
    )
    citations = (
        Bilinear.citation,
        (
            "Zeidman P et al. (2019). A guide to group effective connectivity analysis, part 1: "
            "first level analysis with DCM for fMRI. NeuroImage 200:174-190.",
            "https://doi.org/10.1016/j.neuroimage.2019.06.031",
        ),
    )
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "transit_time": (("region",), "s"),
        "decay_rate": ((), "Hz"),
    }

    def __post_init__(self) -> None:
        """Check the haemodynamics."""
        known = isinstance(self.haemodynamics, Haemodynamics)
        if not known and self.haemodynamics not in HAEMODYNAMICS:
            raise ValueError(
                f"haemodynamics is {self.haemodynamics!r}; expected one of "
                f"{', '.join(HAEMODYNAMICS)}, or Haemodynamics with constants of your own"
            )

    @property
    def _haemodynamics(self) -> Haemodynamics:
        given = self.haemodynamics
        return given if isinstance(given, Haemodynamics) else HAEMODYNAMICS[given]

    # Of DCMs

    @property
    def longest_step(self) -> float | None:
        """Longest step at which `respond` is accurate, s; it has SPM's constants."""
        return LONGEST_STEP if self._haemodynamics == STEPHAN_2007 else None

    @property
    def units(self) -> dict[str, str]:
        """Units of parameters."""
        constants = self._haemodynamics
        return {
            "transit": f"log scaling of {constants.transit_time:g} s",
            "decay": f"log scaling of {constants.signal_decay:g} Hz",
        }

    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """``transit``, ``decay`` and ``epsilon``, see `haemodynamic_priors`."""
        return balloon.haemodynamic_priors(neural.n_nodes)

    def flow(self, activity: jax.Array, h: jax.Array, parameters: Parameters) -> jax.Array:
        """See `bayesdcm.observe.haemodynamic_flow`."""
        return balloon.haemodynamic_flow(activity, h, parameters, self._haemodynamics)

    def read(self, h: jax.Array, parameters: Parameters) -> jax.Array:
        """Percent signal change, see `bayesdcm.observe.bold_signal`."""
        v, q = jnp.exp(h[..., 2]), jnp.exp(h[..., 3])
        signal = balloon.bold_signal(v, q, parameters["epsilon"], self._haemodynamics)
        return signal if self._haemodynamics.unit == "percent" else 100 * signal

    def respond(
        self, generators: jax.Array, drive: jax.Array, parameters: Parameters, grid: TimeGrid
    ) -> jax.Array:
        """Percent signal change, see `Observer.respond`."""
        return balloon_response(generators, drive, parameters, grid)

    def derive(self, parameters: Parameters) -> dict[str, jax.Array]:
        """``transit_time`` (regions,), s, and ``decay_rate`` (), Hz."""
        constants = self._haemodynamics
        return {
            "transit_time": constants.transit_time * jnp.exp(parameters["transit"]),
            "decay_rate": constants.signal_decay * jnp.exp(parameters["decay"]),
        }

    # Of series

    @property
    def result_unit(self) -> str:
        """``"percent"``, or ``"1"`` for a fraction of the level at rest."""
        return self._haemodynamics.unit

    def start(self, shape: tuple[int, int], step: float) -> Any:
        """Rest; see `SeriesObserver`."""
        size, parts, scans = scan_clock(self.repetition_time, step, SERIES_STEP, shape)
        rest = jnp.broadcast_to(jnp.array([0.0, 1.0, 1.0, 1.0]), (shape[1], 4))
        empty = jnp.zeros((scans, shape[1]))
        course = _Course(rest, jnp.zeros(shape[1]), jnp.zeros((), jnp.int32), empty)
        return course, ByValue((size, parts, step))

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Haemodynamics after a further block; see `SeriesObserver`."""
        (states, pending, seen, scans), static = carry
        size, parts, step = static.value
        sums = in_windows(activity, seen, size).sum(1)
        sums = sums.at[0].add(pending)
        first, now = seen // size, seen + len(activity)
        # Of the parts that the block reaches into, these are complete.
        number = first + 1 + jnp.arange(len(sums))
        complete = number * size <= now

        def advance(states: jax.Array, part: tuple) -> tuple[jax.Array, jax.Array]:
            mean, whole = part
            later = self._advance(states, mean, size * step)
            states = jnp.where(whole, later, states)
            return states, states[:, 2:]

        states, seen_states = lax.scan(advance, states, (sums / size, complete))
        signal = balloon.bold_signal(
            seen_states[..., 0], seen_states[..., 1], 0.0, self._haemodynamics
        )
        at_scan = complete & (number % parts == 0)
        scans = scans.at[jnp.where(at_scan, number // parts - 1, len(scans))].set(
            signal, mode="drop"
        )
        begun = jnp.concatenate([sums, jnp.zeros_like(sums[:1])])[now // size - first]
        return _Course(states, begun, now, scans), static

    def _advance(self, states: jax.Array, activity: jax.Array, duration: float) -> jax.Array:
        """States s, f, v, q, shape (regions, 4), after activity that is held for a time."""
        constants = self._haemodynamics
        drive = self.gain * (activity - self.baseline)
        steps = math.ceil(duration / SERIES_STEP * (1 - 1e-9))

        def rate(h: jax.Array) -> jax.Array:
            return balloon.floored_rates(drive, h, constants)

        if steps == 1:
            return heun(rate, states, duration)

        def shorter(states: jax.Array, _: None) -> tuple[jax.Array, None]:
            return heun(rate, states, duration / steps), None

        return lax.scan(shorter, states, length=steps)[0]

    def finish(self, carry: Any) -> jax.Array:
        """Signal at the scans, shape (scans, regions); see `SeriesObserver`."""
        return carry[0].scans

    def result_coords(self, shape: tuple[int, int], step: float) -> dict[str, NDArray]:
        """Times of the scans, s; see `SeriesObserver`."""
        _, _, scans = scan_clock(self.repetition_time, step, SERIES_STEP, shape)
        return {"time": (1 + np.arange(scans)) * (self.repetition_time or step)}


def linearised_response(
    neuronal: jax.Array, drive: jax.Array, parameters: Parameters, grid: TimeGrid
) -> jax.Array:
    """BOLD with haemodynamics linearised about rest; only the observation is nonlinear.

    Parameters
    ----------
    neuronal : jax.Array
        Generator of the neuronal states for each distinct input, with a leading constant,
        shape (distinct inputs, m, m), 1/s.
    drive : jax.Array
        Which combination of neuronal states drives each region, shape (regions, m).
    parameters : mapping
        ``transit`` (regions,), ``decay`` (), ``epsilon`` ().
    grid : TimeGrid
        Steps and sample points.

    Returns
    -------
    jax.Array
        Percent signal change, shape (scans, regions).
    """
    observer = Balloon()
    filters = linear_filters(observer, len(drive), parameters)
    h = filtered_trajectory(neuronal, drive, filters, grid)
    return observer.read(at_samples(h, grid), parameters)
