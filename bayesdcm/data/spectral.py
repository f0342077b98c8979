"""Cross-spectra of one recording: conditions, frequencies and pairs of channels or regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.connectome import Connectome, check_connectome
from bayesdcm.data.evoked_validation import check_design, check_head
from bayesdcm.data.head import HeadModel
from bayesdcm.data.run import Run
from bayesdcm.data.spectral_estimates import (
    check_frequency_range,
    cosine_drifts,
    dependent_columns,
    spectra_of_segments,
    without_confounds,
)
from bayesdcm.data.spectral_validation import (
    check_conditions,
    check_degrees_of_freedom,
    check_frequencies,
    check_kind,
    check_spectra,
    check_unit,
    complex_spectra,
    factor_to_si,
)
from bayesdcm.data.validation import (
    check_names,
    check_order,
    check_positive,
    check_whole,
    describe,
    some_names,
    warn_caller,
)

if TYPE_CHECKING:
    import mne

__all__ = ["SpectralData"]

# Fluctuations slower than this, s, are drifts, and faster than this, s, no BOLD responses: SPM's.
_SLOWEST, _FASTEST = 128.0, 8.0
# Frequencies of SPM's autoregressive estimate of BOLD signals.
_BOLD_FREQUENCIES = 32
# Hz, SPM's range for EEG, MEG and LFP.
_FMIN, _FMAX = 4.0, 48.0


@dataclass(frozen=True, eq=False, repr=False)
class SpectralData(CheckedFields):
    """Cross-spectra of one or more conditions, checked on construction, in SI units.

    There is one convention: densities are one-sided and per Hz, so that a power integrated over
    frequencies is the variance of its channel; ``S[i, j] = E[X_i conj(X_j)]`` with
    ``X(f) = integral x(t) exp(-2 pi i f t) dt``. So where channel j lags behind channel i by d
    seconds, the phase of ``S[i, j]`` is ``+2 pi f d``. The doors `from_bold`, `from_epochs`,
    `from_raw`, `from_csd` and `from_arrays` convert to it.

    All arrays are copied and made read-only; every field that was left out is filled with its
    default.

    Parameters
    ----------
    spectra : array_like of complex, shape (conditions, frequencies, channels, channels)
        Cross-spectra, Hermitian, in squared units of the series per Hz. The first axis may be left
        out for one condition.
    frequencies : array_like, shape (frequencies,)
        Hz, above 0 and increasing.
    names : sequence of str, optional
        Of the channels; by default "channel 1", ..., or "region 1", ... of BOLD signals.
    conditions : sequence of str, optional
        Names of the conditions; by default "rest", or "condition 1", ... where there are several.
    degrees_of_freedom : float or array_like, shape (conditions,) or (conditions, frequencies)
        Number of independent complex samples behind the estimate at a frequency: tapers times
        epochs or windows. None where it is not known; then there is no Wishart likelihood.
    bandwidth : float, optional
        Distance at which estimates are independent, Hz; by default that of the frequencies.
    kind : {"lfp", "eeg", "meg", "bold"}
        What the series are.
    unit : str, optional
        Unit of the series: "V", "T", "T/m", "A m" or "arbitrary", or of BOLD signals that of
        `BoldData`; by default V, T, or percent.
    estimator : str
        Which estimate it is, in words.
    order : int, optional
        Order of an autoregressive estimate.
    series : BoldData, optional
        Time series that the spectra are of.
    repetition_time, sampling_rate : float, optional
        Time from scan to scan, s, of BOLD signals; samples per second, Hz, of others.
    design : array_like, shape (conditions, effects), optional
        How much of each effect each condition has, as for `EvokedData`; by default one effect for
        each condition after the first.
    effect_names : sequence of str, optional
        By default those of the conditions after the first, or "effect 1", ... for a given design.
    head : SphereHead, GridHead or SurfaceHead, optional
        What predicts the channels' signals from sources in the brain.
    connectome : Connectome, optional
        The person's own, which `bayesdcm.WholeBrainDCM` takes in place of that of the model.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree, values are missing or infinite, matrices are not Hermitian or no
        cross-spectra, a power is zero, frequencies do not increase, or names repeat.

    Examples
    --------
    >>> spectra = np.array([[[2, 0.5j], [-0.5j, 1]]] * 5)
    >>> SpectralData(spectra, np.arange(1, 6), ["V1", "V2"], degrees_of_freedom=20)
    SpectralData(1 condition (rest) x 5 frequencies (1 to 5 Hz) x 2 channels (V1, V2), lfp in V,
    20 degrees of freedom)
    """

    spectra: NDArray[np.complex128]
    frequencies: NDArray[np.float64]
    names: tuple[str, ...] | None = None
    conditions: tuple[str, ...] | None = None
    degrees_of_freedom: NDArray[np.float64] | None = None
    bandwidth: float | None = None
    kind: str = "lfp"
    unit: str | None = None
    estimator: str = "given"
    order: int | None = None
    series: BoldData | None = None
    repetition_time: float | None = None
    sampling_rate: float | None = None
    design: NDArray[np.float64] | None = None
    effect_names: tuple[str, ...] | None = None
    head: HeadModel | None = None
    connectome: Connectome | None = None

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        kind = check_kind(self.kind)
        frequencies = check_frequencies(self.frequencies)
        spectra = check_spectra(self.spectra, frequencies)
        n_conditions, n_frequencies, n_channels, _ = spectra.shape
        noun = "region" if kind == "bold" else "channel"
        names = check_names("names", self.names, n_channels, noun, "spectra's last axis")
        conditions = check_names(
            "conditions",
            check_conditions(self.conditions, n_conditions),
            n_conditions,
            "condition",
            "spectra's first axis",
        )
        design, effects = check_design(self.design, self.effect_names, conditions)
        check_head(self.head, n_channels)
        check_connectome(self.connectome)
        for name, unit in (("repetition_time", "s"), ("sampling_rate", "Hz"), ("bandwidth", "Hz")):
            if getattr(self, name) is not None:
                self._set(**{name: check_positive(name, getattr(self, name), unit)})
        if self.bandwidth is None and n_frequencies > 1:
            self._set(bandwidth=float(np.diff(frequencies).min()))
        if self.order is not None:
            check_whole("order", self.order)
        if self.series is not None:
            _check_series(self.series, names)
        if not isinstance(self.estimator, str):
            raise TypeError(f"estimator must be words, got {describe(self.estimator)}")
        self._set(
            spectra=spectra,
            frequencies=frequencies,
            names=names,
            conditions=conditions,
            degrees_of_freedom=check_degrees_of_freedom(
                self.degrees_of_freedom, n_conditions, n_frequencies
            ),
            kind=kind,
            unit=check_unit(self.unit, kind),
            design=design,
            effect_names=effects,
        )

    # Doors

    @classmethod
    def from_bold(
        cls,
        bold: BoldData,
        method: str = "multitaper",
        *,
        order: int = 8,
        frequencies: ArrayLike | None = None,
        fmin: float | None = None,
        fmax: float | None = None,
        bandwidth: float | None = None,
        high_pass: float | None = None,
    ) -> SpectralData:
        """Cross-spectra of a run without an experiment, or of what fluctuates in any.

        Confounds, and for multitaper drifts, are removed by least squares first. Regions that were
        measured at different times (`BoldData.slice_delays`) are brought to one time by their
        phase.

        Parameters
        ----------
        bold : BoldData
            The run.
        method : {"multitaper", "autoregressive"}
            ``"multitaper"``: mean over Slepian tapers, with known degrees of freedom.
            ``"autoregressive"``: SPM's estimate (its numbers, but for the scaling of the data).
        order : int, default 8
            Order of the autoregressive estimate.
        frequencies : array_like, optional
            Hz. By default for multitaper those between `fmin` and `fmax` that are independent, one
            bandwidth apart; for autoregressive SPM's, 32 from `fmin` to `fmax`.
        fmin, fmax : float, optional
            Hz; by default SPM's range, from one in 128 s (or in the run, if that is shorter) to
            one in 8 s (or two scans).
        bandwidth : float, optional
            Of the tapers, Hz; by default four over the duration, which makes three tapers.
        high_pass : float, optional
            Fluctuations slower than this, Hz, are removed as drifts; by default `fmin` for
            multitaper and 0 for autoregressive.

        Returns
        -------
        SpectralData
            With the run as `series`.

        Raises
        ------
        TypeError
            If `bold` is no `BoldData`.
        ValueError
            If frequencies lie outside what the run can show, an option is not known, the run is
            too short for the order, the bandwidth or two frequencies, or signals are linear
            combinations of each other.

        References
        ----------
        .. [1] Friston, Kahan, Biswal and Razi (2014), NeuroImage 94:396.
               https://doi.org/10.1016/j.neuroimage.2013.12.009

        Examples
        --------
        >>> signal = np.random.default_rng(0).normal(size=(300, 2))
        >>> data = SpectralData.from_bold(BoldData(signal, 2.0, unit="percent"))
        >>> data.n_frequencies, data.degrees_of_freedom.tolist()
        (17, [3.0])
        """
        if not isinstance(bold, BoldData):
            raise TypeError(f"bold must be BoldData, got {describe(bold)}")
        rate, duration = 1 / bold.repetition_time, bold.n_scans * bold.repetition_time
        low = 1 / min(_SLOWEST, duration) if fmin is None else fmin
        high = 1 / max(_FASTEST, 2 * bold.repetition_time) if fmax is None else fmax
        wanted, limits = check_frequency_range(frequencies, low, high, rate)
        if high_pass is None:
            high_pass = min(limits[0], 1 / _SLOWEST) if method == "multitaper" else 0.0
        drifts = cosine_drifts(bold.n_scans, duration, high_pass)
        if drifts.shape[1] + bold.confounds.shape[1] >= bold.n_scans:  # type: ignore[union-attr]
            raise ValueError(
                f"high_pass is {high_pass:g} Hz, which leaves nothing of {bold.n_scans} scans; "
                "expected a frequency, in Hz, well below that of the scans. Use 1/128 Hz or so."
            )
        series = without_confounds(bold.signal, np.hstack([bold.confounds, drifts]))
        if method == "autoregressive":
            _check_independent(series, bold.region_names or ())
        estimate = spectra_of_segments(
            series[np.newaxis], rate, method, wanted, limits, bandwidth, order, _BOLD_FREQUENCIES
        )
        # With fewer degrees of freedom, spectra of any signals are singular.
        if method == "multitaper" and bold.n_regions <= estimate.degrees_of_freedom:
            _check_independent(series, bold.region_names or ())
        if wanted is None and len(estimate.frequencies) < 2:
            raise ValueError(
                f"bold has {bold.n_scans} scans of {bold.repetition_time:g} s, of which tapers of "
                f"bandwidth {estimate.bandwidth:g} Hz leave 1 frequency from {limits[0]:g} to "
                f"{limits[1]:g} Hz; expected at least 2. Give a longer run, a wider range (fmin, "
                "fmax), a smaller bandwidth, or method='autoregressive'."
            )
        # A region that is measured later shows the same fluctuation as if it came earlier.
        turns = np.exp(-2j * np.pi * estimate.frequencies[:, None] * bold.slice_delays)
        spectra = estimate.spectra * turns[:, :, None] * turns[:, None, :].conj()
        return cls(
            spectra[np.newaxis],  # type: ignore[arg-type]
            estimate.frequencies,
            bold.region_names,
            degrees_of_freedom=estimate.degrees_of_freedom,  # type: ignore[arg-type]
            bandwidth=estimate.bandwidth,
            kind="bold",
            unit=bold.unit,
            estimator=method,
            order=order if method == "autoregressive" else None,
            series=bold,
            repetition_time=bold.repetition_time,
        )

    def input_spectra(self) -> NDArray[np.complex128]:
        """Cross-spectra of the inputs of `series`, estimated as those of its signals are.

        Inputs are averaged over each scan; confounds, and for multitaper estimates drifts, are
        removed.

        Returns
        -------
        ndarray
            Shape (frequencies, inputs, inputs), one-sided, per Hz.

        Raises
        ------
        ValueError
            If there is no series with inputs.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> inputs = rng.normal(size=(300, 1))
        >>> bold = BoldData(rng.normal(size=(300, 2)), 2.0, inputs=inputs, input_dt=2.0)
        >>> SpectralData.from_bold(bold).input_spectra().shape
        (17, 1, 1)
        """
        if self.series is None or not self.series.n_inputs:
            raise ValueError(
                "data.series has no inputs; give SpectralData.from_bold a BoldData with inputs"
            )
        bold, taper = self.series, self.estimator == "multitaper"
        low, high = self.frequencies[[0, -1]]
        duration = bold.n_scans * bold.repetition_time
        drifts = cosine_drifts(bold.n_scans, duration, min(low, 1 / _SLOWEST) if taper else 0.0)
        scanned = without_confounds(inputs_by_scan(bold), np.hstack([bold.confounds, drifts]))
        return spectra_of_segments(
            scanned[np.newaxis],
            1 / bold.repetition_time,
            "multitaper" if taper else "autoregressive",
            self.frequencies,
            (low, high),
            self.bandwidth if taper else None,
            self.order or 8,
        ).spectra

    @classmethod
    def from_epochs(
        cls,
        epochs: mne.BaseEpochs | Sequence[mne.BaseEpochs] | Mapping[str, mne.BaseEpochs],
        method: str = "multitaper",
        *,
        picks: str | Sequence[str] | None = None,
        conditions: Sequence[str] | None = None,
        tmin: float | None = None,
        tmax: float | None = None,
        frequencies: ArrayLike | None = None,
        fmin: float = _FMIN,
        fmax: float = _FMAX,
        bandwidth: float | None = None,
        order: int = 8,
        subtract_evoked: bool = False,
        design: ArrayLike | None = None,
        effect_names: Sequence[str] | None = None,
        forward: mne.Forward | None = None,
        sphere: Any = None,
        orientation: str | None = None,
        trans: Any = None,
        subject: str | None = None,
        subjects_dir: Any = None,
    ) -> SpectralData:
        """Cross-spectra of MNE-Python's epochs: the mean over the epochs of each condition.

        Bad channels and bad epochs are dropped, and signal-space projections are applied. A
        straight line is removed from each epoch. Electrodes keep their reference, but with a head
        model all are referenced to their mean, as for `EvokedData.from_mne`.

        Parameters
        ----------
        epochs : mne.Epochs, list of mne.Epochs, or dict of mne.Epochs
            Conditions are the event names of one object, or the keys of a dict.
        method : {"multitaper", "autoregressive"}
            As for `from_bold`; frequencies of the autoregressive estimate are every Hz.
        picks : str or sequence of str, optional
            Types or names of channels of one unit; by default all good EEG, MEG or intracranial
            channels.
        conditions : sequence of str, optional
            Which, and in what order; by default all.
        tmin, tmax : float, optional
            Window within the epochs, s; by default all of it.
        frequencies : array_like, optional
            Hz; by default those between `fmin` and `fmax` that are independent.
        fmin, fmax : float, default 4 and 48
            Range, Hz, SPM's default.
        bandwidth : float, optional
            Of the tapers, Hz; by default four over the length of the window.
        order : int, default 8
            Order of the autoregressive estimate.
        subtract_evoked : bool, default False
            Whether to subtract the mean over epochs of a condition, so that induced activity is
            left; it costs one epoch's degrees of freedom.
        design, effect_names
            As for `SpectralData`.
        forward, sphere, orientation, trans, subject, subjects_dir
            For a head model, as for `EvokedData.from_mne`.

        Returns
        -------
        SpectralData
            With as many degrees of freedom as tapers times epochs.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another class, no channels or epochs are left, channels are of
            different units, or as for `SpectralData` and `EvokedData.from_mne`.

        Examples
        --------
        >>> import mne
        >>> info = mne.create_info(["A1", "STG"], 250.0, "seeg")
        >>> noise = np.random.default_rng(0).normal(scale=1e-6, size=(20, 2, 250))
        >>> data = SpectralData.from_epochs(mne.EpochsArray(noise, info, verbose=False))
        >>> data.n_frequencies, data.degrees_of_freedom.tolist()
        (11, [60.0])
        """
        from bayesdcm.data.mne_spectral import epochs_by_condition, recording_fields

        given = epochs_by_condition(epochs, conditions, tmin, tmax)
        fields, series, rate = recording_fields(
            given,
            picks,
            forward=forward,
            sphere=sphere,
            orientation=orientation,
            trans=trans,
            subject=subject,
            subjects_dir=subjects_dir,
        )
        wanted, limits = check_frequency_range(frequencies, fmin, fmax, rate)
        estimates = []
        for name, segments in series.items():
            lost = int(subtract_evoked)
            if len(segments) <= lost:
                raise ValueError(
                    f"epochs has {len(segments)} good epoch(s) of {name!r}, of which nothing is "
                    "left; expected more. Check their rejection, or keep evoked responses."
                )
            segments = segments - segments.mean(0) if lost else segments
            line = np.vander(np.arange(segments.shape[1]), 2).astype(float)
            flat = segments.transpose(1, 0, 2).reshape(segments.shape[1], -1)
            flat = without_confounds(flat, line).reshape(-1, *segments.shape[::2])
            estimate = spectra_of_segments(
                flat.transpose(1, 0, 2), rate, method, wanted, limits, bandwidth, order
            )
            share = (len(segments) - lost) / len(segments)
            estimates.append(
                estimate._replace(
                    spectra=estimate.spectra / share,
                    degrees_of_freedom=max(1.0, estimate.degrees_of_freedom * share),
                )
            )
        return cls(
            np.stack([estimate.spectra for estimate in estimates]),
            estimates[0].frequencies,
            **fields,
            conditions=tuple(series),
            degrees_of_freedom=[estimate.degrees_of_freedom for estimate in estimates],  # type: ignore[arg-type]
            bandwidth=estimates[0].bandwidth,
            estimator=method,
            order=order if method == "autoregressive" else None,
            sampling_rate=rate,
            design=design,  # type: ignore[arg-type]
            effect_names=effect_names,  # type: ignore[arg-type]
        )

    @classmethod
    def from_raw(
        cls,
        raw: mne.io.BaseRaw | Mapping[str, mne.io.BaseRaw],
        window: float = 2.0,
        method: str = "multitaper",
        **options: Any,
    ) -> SpectralData:
        """Cross-spectra of MNE-Python's continuous recordings: the mean over windows.

        Windows follow one another, and those that overlap with annotations whose names begin with
        "bad" are left out.

        Parameters
        ----------
        raw : mne.io.Raw or dict of mne.io.Raw
            The recording; a dict has one for each condition, by name.
        window : float, default 2
            Length of a window, s.
        method : {"multitaper", "autoregressive"}
            As for `from_bold`.
        **options
            `picks`, `frequencies`, `fmin`, `fmax`, `bandwidth`, `order`, `design` and others, as
            for `from_epochs`.

        Returns
        -------
        SpectralData
            With as many degrees of freedom as tapers times windows.

        Raises
        ------
        TypeError, ValueError
            As for `from_epochs`, and if the recording is shorter than a window.

        Examples
        --------
        >>> import mne
        >>> info = mne.create_info(["A1", "STG"], 250.0, "seeg")
        >>> noise = np.random.default_rng(0).normal(scale=1e-6, size=(2, 25000))
        >>> data = SpectralData.from_raw(mne.io.RawArray(noise, info, verbose=False))
        >>> data.conditions, data.degrees_of_freedom.tolist()
        (('rest',), [150.0])
        """
        from bayesdcm.data.mne_spectral import windows_of

        return cls.from_epochs(windows_of(raw, window), method, **options)

    @classmethod
    def from_csd(
        cls,
        csd: mne.time_frequency.CrossSpectralDensity | Mapping[str, Any],
        degrees_of_freedom: ArrayLike | None = None,
        *,
        bandwidth: float | None = None,
        kind: str = "lfp",
        unit: str | None = None,
        picks: Sequence[str] | None = None,
        **fields: Any,
    ) -> SpectralData:
        """Cross-spectra that MNE-Python estimated.

        Its objects have the convention of `SpectralData` (by any of their three methods), but hold
        no units and do not tell what was averaged.

        Parameters
        ----------
        csd : mne.time_frequency.CrossSpectralDensity or dict of them
            For single frequencies, not their mean or sum; a dict has one for each condition.
        degrees_of_freedom : float or array_like, optional
            Tapers times epochs that were averaged; None: not known.
        bandwidth : float, optional
            Distance at which estimates are independent, Hz: of multitaper ones that argument of
            MNE-Python's, of Fourier ones 1 over the length of an epoch, of wavelets the frequency
            over a third of the cycles. None: the distance of the frequencies, of which a warning
            tells where degrees of freedom are given.
        kind : {"lfp", "eeg", "meg"}
            What the channels are.
        unit : str, optional
            Unit of the channels' signals: V, T or T/m, which MNE-Python's are; by default that of
            `kind`.
        picks : sequence of str, optional
            Names of channels in the order that is wanted; by default all.
        **fields
            Others of `SpectralData`, such as `design`.

        Returns
        -------
        SpectralData
            Of the same frequencies.

        Raises
        ------
        TypeError, ValueError
            If it is of another class, frequencies were averaged, or as for `SpectralData`.

        Examples
        --------
        >>> import mne
        >>> noise = np.random.default_rng(0).normal(size=(20, 2, 250))
        >>> csd = mne.time_frequency.csd_array_fourier(noise, 250.0, fmin=5, fmax=9, verbose=False)
        >>> SpectralData.from_csd(csd, 20, bandwidth=1.0, unit="arbitrary").frequencies.tolist()
        [5.0, 6.0, 7.0, 8.0, 9.0]
        """
        from bayesdcm.data.mne_spectral import csd_fields

        known = csd_fields(csd) | {"degrees_of_freedom": degrees_of_freedom, "bandwidth": bandwidth}
        data = cls(**known, kind=kind, unit=unit, **fields)
        if degrees_of_freedom is not None and bandwidth is None and data.n_frequencies > 1:
            warn_caller(
                f"bandwidth is missing, so that estimates {data.bandwidth:g} Hz apart are taken to "
                "be independent; those by several tapers or wavelets share samples, and would "
                "count several times. Give bandwidth, Hz, also where it is that distance"
            )
        return data if picks is None else data.pick(picks)

    @classmethod
    def from_arrays(
        cls,
        values: ArrayLike,
        frequencies: ArrayLike,
        names: Sequence[str] | None = None,
        *,
        unit: str,
        sided: int,
        conjugate: bool = False,
        kind: str | None = None,
        **fields: Any,
    ) -> SpectralData:
        """Cross-spectra of other software, whose convention is told.

        Parameters
        ----------
        values : array_like of complex, shape (conditions, frequencies, channels, channels)
            Per Hz; the first axis may be left out for one condition.
        frequencies : array_like, shape (frequencies,)
            Hz. A frequency of 0 and negative ones are left out, with their values.
        names : sequence of str, optional
            Of the channels.
        unit : str
            Unit of the series (not squared): "V", "mV", "uV", "T", "fT", "percent", ...
        sided : {1, 2}
            Whether power is of positive frequencies only, or divided among positive and negative
            ones, and so is to be doubled.
        conjugate : bool, default False
            False if ``values[i, j]`` is the mean of ``X_i conj(X_j)``; True if it is that of
            ``conj(X_i) X_j``, as in ``scipy.signal.csd(x_i, x_j)``.
        kind : {"lfp", "eeg", "meg", "bold"}, optional
            What the series are; by default as the unit tells.
        **fields
            Others of `SpectralData`, such as `degrees_of_freedom`, `bandwidth` and `conditions`.

        Returns
        -------
        SpectralData
            In the convention of the package.

        Raises
        ------
        TypeError, ValueError
            If an option is not known, or as for `SpectralData`.

        Examples
        --------
        >>> from scipy.signal import csd
        >>> x = np.random.default_rng(0).normal(size=(2, 4000))
        >>> f, values = csd(x[:, None], x[None], fs=200.0, nperseg=200)
        >>> data = SpectralData.from_arrays(
        ...     np.moveaxis(values, -1, 0), f, unit="uV", sided=1, conjugate=True)
        >>> data.n_frequencies, data.unit
        (100, 'V')
        """
        if sided not in (1, 2) or isinstance(sided, bool):
            raise ValueError(f"sided must be 1 or 2, got {sided!r}")
        if not isinstance(conjugate, bool):
            raise TypeError(f"conjugate must be True or False, got {conjugate!r}")
        factor, si = factor_to_si(unit)
        if kind is None:
            kind = "meg" if si in ("T", "T/m") else "lfp" if si in ("V", "A m") else None
        if kind is None:
            raise ValueError(f"kind is missing, and the unit {unit!r} does not tell it: give kind")
        array = complex_spectra("values", values)
        given = np.asarray(frequencies, dtype=float)
        if given.ndim == 1 and len(given) == array.shape[1]:
            positive = given > 0
            given, array = given[positive], array[:, positive]
        array = (array.conj() if conjugate else array) * (sided * factor**2)
        return cls(array, given, names, kind=kind, unit=si, **fields)  # type: ignore[arg-type]

    # Sizes and selection

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return self.spectra.shape[0]

    @property
    def n_frequencies(self) -> int:
        """Number of frequencies."""
        return self.spectra.shape[1]

    @property
    def n_channels(self) -> int:
        """Number of channels, or regions."""
        return self.spectra.shape[2]

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The `names`, as `EvokedData` calls them."""
        return self.names or ()

    @property
    def n_effects(self) -> int:
        """Number of condition-specific effects; 0 where conditions do not differ."""
        return self.design.shape[1]  # type: ignore[union-attr]

    @property
    def coherence(self) -> NDArray[np.float64]:
        """Squared size of the coherency of all pairs, from 0 to 1, shape of `spectra`."""
        power = np.diagonal(self.spectra, axis1=2, axis2=3).real
        return np.abs(self.spectra) ** 2 / (power[..., :, None] * power[..., None, :])

    @property
    def phase(self) -> NDArray[np.float64]:
        """Phase of all pairs, rad; above 0 where the second lags behind the first."""
        return np.angle(self.spectra)

    @property
    def independent_degrees_of_freedom(self) -> NDArray[np.float64] | None:
        """Degrees of freedom that each frequency adds, shape (conditions, frequencies).

        Less than `degrees_of_freedom` where frequencies lie closer than `bandwidth`, so that they
        share samples. None where degrees of freedom are not known.
        """
        if self.degrees_of_freedom is None:
            return None
        freedom = self.degrees_of_freedom.reshape(self.n_conditions, -1)
        share = np.ones(self.n_frequencies)
        if self.n_frequencies > 1:
            # A wide gap on one side does not make up for a narrow one on the other.
            gaps = np.minimum(np.diff(self.frequencies) / self.bandwidth, 1.0)
            share = (np.append(gaps[:1], gaps) + np.append(gaps, gaps[-1:])) / 2
        return freedom * share

    def pick(self, names: Sequence[str]) -> Self:
        """Return some of the channels or regions, in the order of the names.

        A connectome of regions keeps these; there is none where nothing connects them.

        Parameters
        ----------
        names : sequence of str
            Names of channels.

        Raises
        ------
        ValueError
            If there are no such channels.

        Examples
        --------
        >>> data = SpectralData(np.eye(2)[None], [10.0], ["V1", "V2"])
        >>> data.pick(["V2"]).names
        ('V2',)
        """
        wanted, known = [names] if isinstance(names, str) else list(names), list(self.names or ())
        absent = [name for name in wanted if name not in known]
        if absent or not wanted:
            raise ValueError(
                f"names has {absent[:5]}, which are not among {known[:5]}; expected names of "
                "channels. Check the spelling."
            )
        where = [known.index(name) for name in wanted]
        changes: dict[str, Any] = {
            "spectra": self.spectra[:, :, where][:, :, :, where],
            "names": wanted,
        }
        if self.head is not None:
            changes["head"] = self.head.pick(where)
        # Of sensors, which see regions through a lead field, it stays as it is.
        if self.connectome is not None and set(wanted) <= set(self.connectome.region_names or ()):
            places = [self.connectome.region_names.index(name) for name in wanted]
            connected = self.connectome.weights[np.ix_(places, places)].any()
            changes["connectome"] = self.connectome.subset(wanted) if connected else None
        if self.series is not None:
            delays, signal = self.series.slice_delays, self.series.signal
            changes["series"] = self.series.replace(
                signal=signal[:, where],
                region_names=wanted,
                slice_delays=delays[where],  # type: ignore[index]
            )
        return self.replace(**changes)

    def crop(self, fmin: float | None = None, fmax: float | None = None) -> Self:
        """Return the frequencies within a range.

        Parameters
        ----------
        fmin, fmax : float, optional
            Hz; by default the first and the last there are.

        Raises
        ------
        ValueError
            If there are none.

        Examples
        --------
        >>> data = SpectralData(np.ones((9, 1, 1)), np.arange(1, 10))
        >>> data.crop(3, 5).frequencies.tolist()
        [3.0, 4.0, 5.0]
        """
        low = self.frequencies[0] if fmin is None else fmin
        high = self.frequencies[-1] if fmax is None else fmax
        inside = (self.frequencies >= low - 1e-9) & (self.frequencies <= high + 1e-9)
        if not inside.any():
            raise ValueError(
                f"fmin and fmax, {low:g} and {high:g} Hz, leave none of the frequencies from "
                f"{self.frequencies[0]:g} to {self.frequencies[-1]:g} Hz. Give them in Hz."
            )
        changes: dict[str, Any] = {}
        if self.degrees_of_freedom is not None and self.degrees_of_freedom.ndim == 2:
            changes["degrees_of_freedom"] = self.degrees_of_freedom[:, inside]
        return self.replace(
            spectra=self.spectra[:, inside], frequencies=self.frequencies[inside], **changes
        )

    def reordered(
        self,
        channel_names: Sequence[str] | None = None,
        condition_names: Sequence[str] | None = None,
        effect_names: Sequence[str] | None = None,
    ) -> Self:
        """Return the same data with channels, conditions or effects in another order.

        Parameters
        ----------
        channel_names, condition_names, effect_names : sequence of str, optional
            All names in the order that is wanted; None leaves the order as it is.

        Raises
        ------
        ValueError
            If the names are not those of the data.

        Examples
        --------
        >>> data = SpectralData(np.eye(2)[None], [10.0], ["V1", "V2"])
        >>> data.reordered(["V2", "V1"]).names
        ('V2', 'V1')
        """
        changes: dict[str, Any] = {"design": self.design, "effect_names": self.effect_names}
        if condition_names is not None:
            order = check_order("condition_names", condition_names, self.conditions or ())
            changes["conditions"] = [self.conditions[i] for i in order]  # type: ignore[index]
            changes["spectra"] = self.spectra[order]
            changes["design"] = changes["design"][order]
            if self.degrees_of_freedom is not None:
                changes["degrees_of_freedom"] = self.degrees_of_freedom[order]
        if effect_names is not None:
            order = check_order("effect_names", effect_names, self.effect_names or ())
            changes["effect_names"] = [self.effect_names[i] for i in order]  # type: ignore[index]
            changes["design"] = changes["design"][:, order]
        changed = self.replace(**changes)
        if channel_names is None:
            return changed
        check_order("channel_names", channel_names, self.names or ())
        return changed.pick(list(channel_names))

    def __repr__(self) -> str:
        """One line: sizes, names, frequencies and degrees of freedom."""
        noun = "region" if self.kind == "bold" else "channel"
        n, names = self.n_conditions, self.names or ()
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        return (
            f"SpectralData({n} condition{'s' * (n > 1)} ({', '.join(self.conditions or ())}) x "
            f"{self.n_frequencies} frequencies ({self._span}) x "
            f"{self.n_channels} {noun}{'s' * (self.n_channels > 1)} ({shown}), {self.kind} in "
            f"{self.unit}, {self._freedom})"
        )

    @property
    def _span(self) -> str:
        return f"{self.frequencies[0]:.4g} to {self.frequencies[-1]:.4g} Hz"

    @property
    def _freedom(self) -> str:
        if self.degrees_of_freedom is None:
            return "degrees of freedom not known"
        low, high = self.degrees_of_freedom.min(), self.degrees_of_freedom.max()
        number = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        return f"{number} degrees of freedom"

    def _describe(self) -> dict[str, str]:
        names = self.names or ()
        return {
            "Conditions": ", ".join(self.conditions or ()),
            "Effects": ", ".join(self.effect_names or ()) or "none",
            "Frequencies": f"{self.n_frequencies}, {self._span}",
            "Regions" if self.kind == "bold" else "Channels": (
                f"{self.n_channels}: {', '.join(names[:6])}" + (", ..." if len(names) > 6 else "")
            ),
            "Series": f"{self.kind} in {self.unit}",
            "Estimate": f"{self.estimator}; {self._freedom}",
            "Head": "none" if self.head is None else repr(self.head),
        }


def _check_independent(series: NDArray[np.float64], names: Sequence[str]) -> None:
    dependent = [names[i] for i in dependent_columns(series)]
    if dependent:
        raise ValueError(
            "bold has signals that are linear combinations of each other, of the regions "
            f"{some_names(dependent)}, so that their spectra are singular; expected signals of "
            "which none follows from others. Leave out regions that come twice, or one of those "
            "whose sum was removed."
        )


def _check_series(series: object, names: tuple[str, ...]) -> None:
    if not isinstance(series, BoldData):
        raise TypeError(f"series must be BoldData, got {describe(series)}. Leave it out.")
    if series.region_names != names:
        raise ValueError(
            f"series has the regions {list(series.region_names or ())[:5]}, but names is "
            f"{list(names)[:5]}; expected the same in the same order"
        )


def inputs_by_scan(bold: Run) -> NDArray[np.float64]:
    """Inputs of a run, averaged over each scan, shape (scans, inputs).

    Parameters
    ----------
    bold : BoldData or BoldDesign
        A run with inputs.

    Examples
    --------
    >>> u = np.array([[1.0], [0.0], [0.0], [2.0]])
    >>> run = BoldData([[1.0], [2.0]], 2.0, inputs=u, input_dt=1.0)
    >>> inputs_by_scan(run).tolist()
    [[0.5], [1.0]]
    """
    given = np.asarray(bold.inputs)
    total = np.concatenate([np.zeros((1, given.shape[1])), np.cumsum(given, 0) * bold.input_dt])
    known = np.arange(len(total)) * bold.input_dt
    edges = np.arange(bold.n_scans + 1) * bold.repetition_time
    at_edges = np.stack([np.interp(edges, known, column) for column in total.T], axis=1)
    return np.diff(at_edges, axis=0) / bold.repetition_time
