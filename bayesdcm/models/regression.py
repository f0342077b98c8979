"""Regression DCM: the dynamic causal model of many regions as one linear regression a region."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.integrate.rate_regression import RateRegression
from bayesdcm.models.dcm import DCM, Parameters, Parts, Prepared
from bayesdcm.models.priors import complete_parameters, in_place
from bayesdcm.models.structure import check_snr
from bayesdcm.models.task import check_structure
from bayesdcm.neural import Prior
from bayesdcm.neural.regression_bilinear import RegressionBilinear
from bayesdcm.neural.spike_and_slab import SpikeAndSlabPrior
from bayesdcm.observe.bold_rates import BoldRates, whitening
from bayesdcm.observe.filtered_spectra import BASELINE_VARIANCE, FilteredSpectra

CONNECTIONS = ("A", "B", "C")
# Share of measurement in the noise of simulations, where data have not chosen one.
SIMULATED_SHARE = 0.1


@jax.jit
def _signal_course(
    A: jax.Array,
    B: jax.Array,
    drive: tuple[jax.Array, jax.Array],
    responses: jax.Array,
    levels: jax.Array,
    interval: float,
) -> jax.Array:
    """The signal from scan to scan, (scans, regions), driven by inputs and by what is added."""
    C, added = drive
    n = len(C)
    by_region = jnp.broadcast_to(responses, (n, *responses.shape[1:]))
    added += jnp.einsum("mrj,mj->rm", by_region, C)

    def advance(signal: jax.Array, now: tuple) -> tuple[jax.Array, jax.Array]:
        added, level = now
        rates = A + jnp.einsum("nj,jmn->mn", level, B)
        later = signal + interval * (rates @ signal + added)
        return later, later

    by_rate = jnp.broadcast_to(jnp.moveaxis(levels, 0, 1), (len(added), n, len(B)))
    first = jnp.zeros(n)
    _, course = jax.lax.scan(advance, first, (added, by_rate))
    return jnp.concatenate([first[None], course])


@dataclass(frozen=True, eq=False)
class RegressionDCM(DCM):
    """Regression dynamic causal model of BOLD signals, of tasks and at rest, for many regions.

    Haemodynamics are linear, fixed, and alike in all regions, so that signals obey the neuronal
    equation, ``dx/dt = (A + sum_j u_j B_j) x + (C / 16) u``, with inputs that blood flow has
    smoothed. Changes from scan to scan are then linear in the parameters, given the signals before,
    and regions come apart. ``fit`` has a mean-field posterior in closed form, ``method=
    "variational_bayes"``, which is the default; all other methods serve, too.

    Parameters
    ----------
    A : array_like
        Switches of connections, shape (to, from), 0 or 1, self-connections included.
    C : array_like, optional
        Switches of driving inputs, shape (to, input). None: none, as at rest.
    sparse : bool
        Whether connections between regions that are on may yet be absent, as data say, each with
        the prior probability `inclusion` of being there. Reduction and empirical Bayes need what
        data say as a normal density, which a sparse posterior does not give, and refuse it: the
        likelihood is that of ``sparse=False``; fit that for them.
    B : array_like, optional
        Switches of modulations, shape (input, to, from). None: none.
    inclusion : float
        With `sparse`, between 0 and 1.
    measurement_noise : float, optional
        Share of errors of measurement in the noise, see `bayesdcm.observe.BoldRates`. None: as data
        say.
    as_tapas : bool
        The numbers of the TAPAS toolbox: spectra, their selection, impulse response and priors of
        noise and baseline as there, see `bayesdcm.observe.FilteredSpectra`. With `sparse`, the
        evidence leaves out the cost of connections of which the posterior is certain.
    threshold : float
        With `as_tapas`, what there is ``filter_str``.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own, as for `bayesdcm.TaskDCM`.

    Raises
    ------
    TypeError, ValueError
        If a structure is not binary, not square, or its shape disagrees with the others; if an
        option is not as described or of no effect, or `sparse` is to go with `B`.

    Notes
    -----
    `A` and `B` are in Hz, self-connections included, `C` in 1/16 Hz. Priors:
    `bayesdcm.neural.RegressionBilinear`; log-precisions of the noise N(2, 16), in percent per
    second.

    Measured by simulation of the full, nonlinear model, self-connections are biased and intervals
    are too narrow where there is much measurement noise, since the signals that rates are regressed
    on have errors themselves; docs/calibration.md has numbers.

    References
    ----------
    .. [1] Fraessle et al. (2017), NeuroImage 155:406.
           https://doi.org/10.1016/j.neuroimage.2017.02.090
    .. [2] Fraessle et al. (2018), NeuroImage 179:505.
           https://doi.org/10.1016/j.neuroimage.2018.05.058
    .. [3] Fraessle et al. (2021), Human Brain Mapping 42:2159.
           https://doi.org/10.1002/hbm.25357

    Examples
    --------
    >>> RegressionDCM(np.ones((200, 200)))
    RegressionDCM(200 regions, 0 inputs; connections: 40000 A, 0 B, 0 C)
    """

    A: ArrayLike
    C: ArrayLike | None = None
    sparse: bool = False
    B: ArrayLike | None = field(default=None, kw_only=True)
    inclusion: float = field(default=0.5, kw_only=True)
    measurement_noise: float | None = field(default=None, kw_only=True)
    as_tapas: bool = field(default=False, kw_only=True)
    threshold: float = field(default=1.0, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, value in zip(CONNECTIONS, check_structure(self.A, self.B, self.C), strict=True):
            object.__setattr__(self, name, value)
        for name in ("sparse", "as_tapas"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.inclusion, Real) or isinstance(self.inclusion, bool):
            raise TypeError(
                f"inclusion must be a number, a probability between 0 and 1, got {self.inclusion!r}"
            )
        self._check_used()
        if self.sparse and self.B.any():
            raise ValueError(
                "sparse=True is for models without modulation, but B has switches that are on; "
                "leave B out, or give sparse=False"
            )
        self.solver.check(self.neural, self.observer)
        self._set_priors(self.priors)

    def _check_used(self) -> None:
        """Raise ValueError where an option is given that others make void."""
        for name, usual, void, advice in (
            ("inclusion", 0.5, not self.sparse, "is for sparse=True"),
            ("threshold", 1.0, not self.as_tapas, "is for as_tapas=True"),
            ("measurement_noise", None, self.as_tapas, "is for as_tapas=False"),
        ):
            value = getattr(self, name)
            if void and value != usual:
                raise ValueError(f"{name} is {value!r}, but {advice}; give that, or leave it out")

    def __repr__(self) -> str:
        counts = [f"{int(getattr(self, k).sum())} {k}" for k in CONNECTIONS]
        regions = f"{self.n_regions} region{'s' * (self.n_regions != 1)}"
        inputs = f"{self.n_inputs} input{'s' * (self.n_inputs != 1)}"
        options = [f"; inclusion={self.inclusion:g}"] if self.sparse else []
        options += ["; as_tapas=True"] if self.as_tapas else []
        given = f"; {self.priors!r}" if self.priors.given else ""
        kind = ", sparse" if self.sparse else ""
        return (
            f"RegressionDCM({regions}, {inputs}{kind}; connections: {', '.join(counts)}"
            f"{''.join(options)}{given})"
        )

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return self.A.shape[0]

    @cached_property
    def parts(self) -> Parts:
        """`RegressionBilinear`, `RateRegression`, and `BoldRates` or `FilteredSpectra`."""
        if self.as_tapas:
            observer: BoldRates = FilteredSpectra(threshold=self.threshold)
        else:
            observer = BoldRates(measurement_noise=self.measurement_noise)
        return Parts(RegressionBilinear(self.A, self.B, self.C), RateRegression(), observer)

    def own_priors(self) -> tuple[Prior, ...]:
        """Priors that hold where none are given; with `sparse`, connections may be absent."""
        priors = super().own_priors()
        if not self.sparse:
            return priors
        connections = priors[0]
        between = connections.free & ~np.eye(self.n_regions, dtype=bool)
        if between.any():
            scale = float(np.sqrt(connections.variance[between][0]))
            family = SpikeAndSlabPrior(float(self.inclusion), scale)
            connections = family.in_place_of(connections, between)
        rest = list(priors[1:])
        for i, prior in enumerate(rest):
            if prior.name == "baseline":
                variance = np.asarray(prior.variance) / BASELINE_VARIANCE
                rest[i] = Prior(prior.name, prior.dims, prior.mean, variance, prior.unit)
        return (connections, *rest)

    # The regression

    def columns(self, prepared: Prepared) -> tuple[NDArray, dict[str, NDArray]]:
        """Regressors of all regions, and which of them is that of which parameter.

        Parameters
        ----------
        prepared : Prepared
            From `prepare`.

        Returns
        -------
        columns : ndarray, shape (rows, columns)
            Regressors.
        places : dict of ndarray of int
            By name of a parameter, in its shape: the column that it multiplies.
        """
        n, (signal, modulated, inputs) = self.n_regions, map(np.asarray, prepared.steps)
        rows = len(signal)
        parts, places = [signal], {"A": np.broadcast_to(np.arange(n), (n, n))}
        count = n

        def add(columns: NDArray) -> NDArray:
            nonlocal count
            parts.append(columns)
            count += columns.shape[1]
            return np.arange(count - columns.shape[1], count)

        of_B = add(np.moveaxis(modulated, 0, 1).reshape(rows, -1)) if len(modulated) else None
        if of_B is not None:
            of_B = of_B.reshape(-1, 1, n)
            places["B"] = np.broadcast_to(of_B, self.B.shape)
        scaled = self.neural.input_scale * np.moveaxis(inputs, 0, 1).reshape(rows, -1)
        of_C = add(scaled).reshape(len(inputs), self.n_inputs)
        places["C"] = np.broadcast_to(of_C, (n, self.n_inputs))
        for name, given in (prepared.space or {}).items():
            each = add(np.asarray(given).reshape(rows, -1))
            if name == "constant":
                places["baseline"] = np.repeat(each, n)
            else:
                places["constant_modulation"] = np.broadcast_to(each, (n, n))
        return np.concatenate(parts, axis=1), places

    # Prediction

    def predict(self, parameters: Parameters, data: Any) -> jax.Array:
        """Course of the signal that inputs alone bring about, shape (scans, regions), in percent.

        It begins at 0, and goes on from scan to scan as the regression has it. At rest nothing
        happens; ``fit.predict()`` gives what is predicted of each scan by the one before.

        Parameters
        ----------
        parameters : mapping
            Full arrays ``A``, ``B`` and ``C`` by name, see `DCM.predict`.
        data : BoldData or BoldDesign
            Inputs and timing.

        Examples
        --------
        >>> from bayesdcm.data import BoldDesign
        >>> design = BoldDesign(100, 1.0, np.ones((100, 1)), 1.0, ["V1"])
        >>> model = RegressionDCM([[1]], [[1]])
        >>> signal = model.predict({"A": [[-0.5]], "C": [[1.0]]}, design)
        >>> round(float(signal[-1, 0]), 2)
        2.41
        """
        self.check(data)
        complete = complete_parameters(self.for_data(data).priors, parameters, self.names(data))
        return self._course(complete, data, jnp.zeros((data.n_scans - 1, self.n_regions)))

    def _course(self, parameters: Parameters, data: Any, noise: jax.Array) -> jax.Array:
        """The signal under inputs and changes by noise, (rates, regions), in percent per second."""
        responses, levels = self.observer.responses(data)
        drive = self.neural.input_scale * parameters["C"], noise + parameters.get("baseline", 0.0)
        interval = float(data.repetition_time)
        return _signal_course(parameters["A"], parameters["B"], drive, responses, levels, interval)

    def simulate(
        self, parameters: Parameters, design: Any, seed: int, snr: float | None = None
    ) -> BoldData:
        """Simulate a data set as the model has it: with noise that goes on from scan to scan.

        Parameters
        ----------
        parameters : mapping
            As `predict` takes them; with ``log_precision`` (regions,), noise of that log-precision
            enters the rates of change, correlated in time as `measurement_noise` says (0.1 where
            it is None).
        design : BoldData or BoldDesign
            Inputs and timing.
        seed : int
            Seed of the noise.
        snr : float, optional
            In place of ``log_precision``: standard deviation of the signal over that of white noise
            which is added to it.

        Raises
        ------
        ValueError
            If `snr` is not positive, the signal diverges, or there is nothing to drive it.

        Examples
        --------
        >>> from bayesdcm.data import BoldDesign
        >>> rest = BoldDesign(100, 2.0, None, None, ["V1", "V5"])
        >>> parameters = {"A": [[-0.3, 0.0], [0.2, -0.3]], "log_precision": np.full(2, 3.0)}
        >>> RegressionDCM(np.ones((2, 2))).simulate(parameters, rest, seed=0).n_scans
        100
        """
        if snr is not None:
            check_snr(snr)
            return super().simulate(parameters, design, seed, snr)
        self.check(design)
        names = self.names(design)
        if "log_precision" not in parameters:
            if not self.n_inputs:
                raise ValueError(
                    "parameters lacks 'log_precision', and without inputs noise is all that there "
                    "is; give the log-precision of each region"
                )
            return super().simulate(parameters, design, seed)
        complete = complete_parameters(self.for_data(design).priors, parameters, names)
        value = np.asarray(in_place(self.priors.noise, parameters["log_precision"], names))
        share = SIMULATED_SHARE if self.measurement_noise is None else self.measurement_noise
        shape = (design.n_scans - 1, self.n_regions)
        white = np.random.default_rng(seed).normal(size=shape) * np.exp(-value / 2)
        noise = whitening(shape[0], float(design.repetition_time), float(share)).inverse(white)
        signal = np.asarray(self._course(complete, design, jnp.asarray(noise)))
        if not np.isfinite(signal).all():
            raise ValueError(
                f"parameters give a signal that diverges; {self.neural.stability}, and that steps "
                "of the repetition time are short for them"
            )
        observer = self.observer
        return observer.simulated(signal, design, {}, None, None, np.random.default_rng(seed))

    def restrict(
        self,
        A: ArrayLike | None = None,
        B: ArrayLike | None = None,
        C: ArrayLike | None = None,
    ) -> RegressionDCM:
        """The same model with connections switched off, see `DCM.restrict`.

        Parameters
        ----------
        A, B, C : array_like, optional
            Switches in the shapes of the model's own; None: as they are.
        """
        return super().restrict(A=A, B=B, C=C)
