"""Current dipole of a patch of cortex over time, estimated from sensors or simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.dipole_validation import (
    MOMENT_UNITS,
    TIME_UNITS,
    check_count,
    check_dipole,
    check_dipole_times,
    check_layers,
    check_noise_sd,
    check_smoothing,
    check_text,
    factor_of,
)
from bayesdcm.data.hamming import hamming_weights, smoothed
from bayesdcm.data.responses import nearest_samples
from bayesdcm.data.validation import check_whole

if TYPE_CHECKING:
    import mne

__all__ = ["DipoleData"]


@dataclass(frozen=True, eq=False, repr=False)
class DipoleData(CheckedFields):
    """Averaged current dipole of a patch of cortex, checked on construction, in SI units.

    A positive moment is current from deep to superficial, towards the surface of cortex, as in
    hnn-core. All arrays are copied, converted to float64 and made read-only.

    Parameters
    ----------
    dipole : array_like, shape (times,)
        Moment in A m (1 nAm is 1e-9 A m); `from_arrays` takes other units.
    times : array_like, shape (times,)
        When each sample was taken, in s from the stimulus, equally spaced.
    noise_sd : float, optional
        Standard deviation, in A m, of the noise of one sample of this average (not of a single
        trial); None: not known.
    n_averages : int, default 1
        How many trials were averaged.
    smoothing : float, default 0
        Width in s of the Hamming window by which the dipole has been smoothed, 0 for none. A
        model's prediction is smoothed alike.
    layers : mapping of str to array_like, optional
        Moments of the layers ``"L2"`` (2/3) and ``"L5"`` in A m, (times,) each, which add up to
        the dipole: known in simulations.
    name : str, default "dipole"
        Where it is from, for titles.
    orientation : str
        How the sign was fixed, in words.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree, values are missing or infinite, the dipole is constant or not of A m,
        times do not increase in equal steps or are not s, layers do not add up, a window is longer
        than the response, or `noise_sd` or `n_averages` is not positive.

    Warns
    -----
    UserWarning
        If the dipole is weaker than that of a single cell.

    Examples
    --------
    >>> times = np.arange(0, 0.17, 0.001)
    >>> DipoleData(2e-8 * np.sin(30 * times), times, noise_sd=2e-9, n_averages=100)
    DipoleData(170 times (0 to 0.169 s, 1000 Hz), peak ... nAm at ... s, mean of 100, noise sd
    2 nAm)
    """

    dipole: NDArray[np.float64]
    times: NDArray[np.float64]
    noise_sd: float | None = None
    n_averages: int = 1
    smoothing: float = 0.0
    layers: Mapping[str, NDArray[np.float64]] | None = None
    name: str = "dipole"
    orientation: str = "as given: positive is from deep to superficial"

    def __post_init__(self) -> None:
        """Check every argument."""
        dipole = check_dipole(self.dipole)
        times = check_dipole_times(self.times, dipole.size)
        self._set(
            dipole=dipole,
            times=times,
            noise_sd=check_noise_sd(self.noise_sd, dipole),
            n_averages=check_count(self.n_averages),
            smoothing=check_smoothing(self.smoothing, times),
            layers=check_layers(self.layers, dipole),
            name=check_text("name", self.name),
            orientation=check_text("orientation", self.orientation),
        )

    @classmethod
    def from_arrays(
        cls,
        values: ArrayLike,
        times: ArrayLike,
        unit: str,
        time_unit: str,
        *,
        noise_sd: float | None = None,
        n_averages: int = 1,
        smoothing: float = 0.0,
        layers: Mapping[str, ArrayLike] | None = None,
        name: str = "dipole",
        orientation: str = "as given: positive is from deep to superficial",
    ) -> DipoleData:
        """Dipole from arrays in the units that are named.

        Parameters
        ----------
        values : array_like, shape (times,)
            Moment in `unit`, positive from deep to superficial.
        times : array_like, shape (times,)
            Times in `time_unit` from the stimulus.
        unit : {"nAm", "Am"}
            Unit of `values`, `noise_sd` and `layers`.
        time_unit : {"ms", "s"}
            Unit of `times` and `smoothing`.
        noise_sd, n_averages, smoothing, layers, name, orientation
            As for `DipoleData`, in the units named.

        Returns
        -------
        DipoleData
            In A m and s.

        Raises
        ------
        TypeError, ValueError
            If a unit is not known; and as for `DipoleData`.

        Examples
        --------
        >>> times = np.arange(0, 170, 0.5)
        >>> data = DipoleData.from_arrays(20 * np.sin(0.04 * times), times, "nAm", "ms")
        >>> float(data.dipole.max().round(10)), float(data.times[-1])
        (2e-08, 0.1695)
        """
        ampere_metres = factor_of("unit", unit, MOMENT_UNITS)
        seconds = factor_of("time_unit", time_unit, TIME_UNITS)
        if isinstance(layers, Mapping):
            layers = {key: _scaled(value, ampere_metres) for key, value in layers.items()}
        return cls(
            _scaled(values, ampere_metres),
            _scaled(times, seconds),
            noise_sd=_scaled(noise_sd, ampere_metres),
            n_averages=n_averages,
            smoothing=_scaled(smoothing, seconds),
            layers=layers,
            name=name,
            orientation=orientation,
        )

    @classmethod
    def from_source_estimate(
        cls,
        stc: mne.SourceEstimate,
        label: mne.Label,
        src: mne.SourceSpaces,
        mode: str = "pca_flip",
        *,
        positive: str | tuple[float, int] = "normals",
        noise_sd: float | None = None,
        n_averages: int = 1,
        name: str | None = None,
    ) -> DipoleData:
        """Dipole of a label, from a source estimate of MNE-Python.

        The time course is that of ``mne.extract_label_time_course``: the moment of one vertex as a
        mean over the label, not the sum. Minimum-norm estimates spread it over the cortex around,
        so that its size means little; a model of the column estimates a scale.

        Parameters
        ----------
        stc : mne.SourceEstimate
            Signed currents in A m along the normals of cortex: method "MNE", fixed orientation or
            ``pick_ori="normal"``. dSPM and sLORETA are no currents.
        label : mne.Label
            Region, such as the hand area of the postcentral gyrus; small enough to be on one wall
            of its sulcus.
        src : mne.SourceSpaces
            Source space of the estimate (or the forward solution or inverse operator that holds
            it), which has the normals.
        mode : {"pca_flip", "mean_flip", "mean", "max", "auto"}
            How MNE-Python makes one course of the label's; "auto" is "mean_flip". "max" is a
            magnitude, without a sign.
        positive : "normals" or (float, int)
            What fixes the sign. "normals", the default, is MNE-Python's own rule: positive is
            current along the outward normals, that is from deep to superficial; modes that flip
            turn those vertices round whose normals are against the label's main direction. Or a
            component whose polarity is known: its time in s and its sign, such as
            ``(0.020, -1)`` for the N20, which turns the course round where it has another.
        noise_sd : float, optional
            Standard deviation of the noise of one sample, in A m; `from_evoked` works it out.
        n_averages : int, default 1
            How many trials were averaged.
        name : str, optional
            By default the label's.

        Returns
        -------
        DipoleData
            Whose `orientation` says how the sign was fixed.

        Raises
        ------
        TypeError
            If an argument is of another class than described (a volume, a vector estimate).
        ValueError
            If the label has no vertex in the source space, `stc` holds magnitudes of free
            orientation or statistics, the mode is not known, the named component is none; and as
            for `DipoleData`.

        Warns
        -----
        UserWarning
            If the sign means little: normals that point both ways, a course carried by vertices
            that were turned round, or mode "max".

        References
        ----------
        Gramfort, A. et al. (2014). MNE software for processing MEG and EEG data. NeuroImage 86,
        446-460. https://doi.org/10.1016/j.neuroimage.2013.10.027

        Examples
        --------
        >>> import mne
        >>> normals = np.tile([0.0, 0.0, 1.0], (3, 1))
        >>> surface = {"type": "surf", "vertno": np.arange(3), "nn": normals, "coord_frame": 5}
        >>> src = mne.SourceSpaces([surface | {"id": 101}, surface | {"id": 102}])
        >>> currents = np.outer([1, 2, 0, 0, 0, 0], 1e-8 * np.sin(np.arange(100) / 20))
        >>> stc = mne.SourceEstimate(currents, [np.arange(3), np.arange(3)], 0.0, 0.001)
        >>> label = mne.Label([0, 1], hemi="lh", name="S1-lh")
        >>> DipoleData.from_source_estimate(stc, label, src, mode="mean")
        DipoleData(100 times (0 to 0.099 s, 1000 Hz), peak ... nAm at ... s)
        """
        from bayesdcm.data.mne_dipole import source_estimate_fields

        fields = source_estimate_fields(stc, label, src, mode, positive)
        if name is not None:
            fields["name"] = name
        return cls(**fields, noise_sd=noise_sd, n_averages=n_averages)

    @classmethod
    def from_evoked(
        cls,
        evoked: mne.Evoked,
        inverse_operator: mne.minimum_norm.InverseOperator,
        label: mne.Label,
        *,
        lambda2: float = 1 / 9,
        method: str = "MNE",
        pick_ori: str | None = "normal",
        mode: str = "pca_flip",
        noise_cov: mne.Covariance | None = None,
        positive: str | tuple[float, int] = "normals",
        name: str | None = None,
    ) -> DipoleData:
        """Dipole of a label, from averaged sensors and an inverse operator of MNE-Python.

        `from_source_estimate` of ``mne.minimum_norm.apply_inverse``, with the noise worked out:
        the course is a linear map of the channels, through which the covariance of their noise
        goes, divided by the number of averages. (Weights of mode "pca_flip" are those of the
        label's first component in these data.)

        Parameters
        ----------
        evoked : mne.Evoked
            Averaged response; its ``nave`` is the number of averages.
        inverse_operator : mne.minimum_norm.InverseOperator
            Of loose or fixed orientation on the surface of cortex.
        label : mne.Label
            Region, as for `from_source_estimate`.
        lambda2 : float, default 1/9
            Regularisation, 1 / SNR ** 2; MNE-Python's default is for an SNR of 3.
        method : {"MNE", "eLORETA"}
            Whose results are currents.
        pick_ori : "normal"
            Currents along the normals, for operators of any orientation.
        mode : {"pca_flip", "mean_flip", "mean", "max", "auto"}
            As for `from_source_estimate`.
        noise_cov : mne.Covariance, optional
            Covariance of the noise of single trials, filtered as `evoked` is; by default that in
            the inverse operator. Data that were low-pass filtered after it was estimated have less
            noise.
        positive : "normals" or (float, int)
            As for `from_source_estimate`.
        name : str, optional
            By default those of response and label.

        Returns
        -------
        DipoleData
            With `noise_sd` (None for mode "max", which is not linear) and `n_averages`.

        Raises
        ------
        TypeError
            If an argument is of another class than described.
        ValueError
            If the method gives no currents, `pick_ori` asks for magnitudes or vectors, channels
            are missing; and as for `from_source_estimate`.

        Warns
        -----
        UserWarning
            As for `from_source_estimate`.

        References
        ----------
        Hamalainen, M. S. and Ilmoniemi, R. J. (1994). Interpreting magnetic fields of the brain:
        minimum norm estimates. Medical and Biological Engineering and Computing 32, 35-42.
        https://doi.org/10.1007/BF02512476

        Examples
        --------
        With ``inverse_operator = mne.minimum_norm.make_inverse_operator(evoked.info, forward,
        noise_cov)`` and a label of the same subject,
        ``DipoleData.from_evoked(evoked, inverse_operator, label, positive=(0.020, -1))`` is the
        response with a negative N20. Without sensors there is none:

        >>> DipoleData.from_evoked(None, None, None)
        Traceback (most recent call last):
        TypeError: evoked must be one mne.Evoked, got NoneType None. Average epochs first: ...
        """
        from bayesdcm.data.mne_dipole import evoked_fields

        fields = evoked_fields(
            evoked,
            inverse_operator,
            label,
            mode,
            positive,
            lambda2=lambda2,
            method=method,
            pick_ori=pick_ori,
            noise_cov=noise_cov,
        )
        if name is not None:
            fields["name"] = name
        return cls(**fields)

    @property
    def n_times(self) -> int:
        """Number of samples."""
        return self.times.size

    @property
    def sampling_rate(self) -> float:
        """Samples per second, in Hz."""
        return (self.n_times - 1) / float(self.times[-1] - self.times[0])

    @property
    def nanoampere_metres(self) -> NDArray[np.float64]:
        """Moment in nAm, the unit of the field, shape (times,)."""
        return self.dipole * 1e9

    def crop(self, tmin: float | None = None, tmax: float | None = None) -> DipoleData:
        """Return the dipole within a window.

        Parameters
        ----------
        tmin, tmax : float, optional
            First and last time, in s; the nearest samples are taken. By default the first and the
            last there are.

        Returns
        -------
        DipoleData
            With the samples of the window.

        Raises
        ------
        TypeError, ValueError
            If the window is not within the response, or holds fewer than two samples.

        Examples
        --------
        >>> times = np.arange(0, 170, 0.5)
        >>> data = DipoleData.from_arrays(np.sin(0.04 * times), times, "nAm", "ms")
        >>> data.crop(0.01, 0.05).n_times
        81
        """
        return self._sampled(nearest_samples(self.times, tmin, tmax))

    def decimate(self, step: int) -> DipoleData:
        """Return every so manieth sample, from the first on, without filtering.

        Parameters
        ----------
        step : int
            Every how many samples to keep. Smooth or filter before, or fast activity and noise
            appear as slow.

        Returns
        -------
        DipoleData
            With fewer samples.

        Raises
        ------
        TypeError, ValueError
            If `step` is not a whole number from 1 on that leaves two samples.

        Examples
        --------
        >>> times = np.arange(0, 170, 0.5)
        >>> data = DipoleData.from_arrays(np.sin(0.04 * times), times, "nAm", "ms")
        >>> round(data.decimate(2).sampling_rate)
        1000
        """
        check_whole("step", step, self.n_times - 1)
        return self._sampled(slice(None, None, step))

    def smooth(self, window: float) -> DipoleData:
        """Return the dipole smoothed by a Hamming window whose weights add up to 1.

        Equal to hnn-core's smoothing inside, but for windows of an even number of samples, which
        get one more, as they would delay the response by half a sample. At the ends the weights of
        the samples that exist are divided by their sum, so that a constant stays what it is, where
        hnn-core takes zeros for what lies beyond.

        Parameters
        ----------
        window : float
            Width of the window in s (hnn-core's is in ms: 20 ms is 0.02).

        Returns
        -------
        DipoleData
            With `smoothing` set, layers smoothed alike, and the `noise_sd` that white noise has
            after it, times the root of the sum of squared weights; it is larger in the half
            window at each end. Noise of the brain, or of data which have been low-pass filtered,
            is not white and falls less: take its sd from the smoothed baseline,
            ``data.replace(noise_sd=data.crop(None, 0).dipole.std())``.

        Raises
        ------
        TypeError, ValueError
            If the window is not positive, shorter than two samples, or longer than the response,
            or the dipole has been smoothed before: two windows are not one.

        Examples
        --------
        >>> times = np.arange(0, 170, 0.5)
        >>> noise = np.random.default_rng(0).normal(size=times.size)
        >>> data = DipoleData.from_arrays(noise, times, "nAm", "ms", noise_sd=1.0)
        >>> data.smooth(0.02)
        DipoleData(340 times (0 to 0.1695 s, 2000 Hz), peak ..., noise sd 0.184 nAm, smoothed by
        20 ms)
        """
        window = check_smoothing(window, self.times, "window")
        if self.smoothing:
            raise ValueError(
                f"the dipole has been smoothed by {self.smoothing * 1e3:g} ms before, and two "
                "windows are not one; smooth the original by a wider window"
            )
        if window * self.sampling_rate < 1.5:
            raise ValueError(
                f"window is {window:g} s, but samples are {1 / self.sampling_rate:g} s apart; "
                "expected the width of two samples or more, in s"
            )
        weights = hamming_weights(window, 1 / self.sampling_rate)
        noise_sd = self.noise_sd
        if noise_sd is not None:
            noise_sd = noise_sd * float(np.linalg.norm(weights))
        layers = self.layers
        if layers is not None:
            layers = {name: smoothed(values, weights) for name, values in layers.items()}
        return self.replace(
            dipole=smoothed(self.dipole, weights),
            layers=layers,
            noise_sd=noise_sd,
            smoothing=window,
        )

    def _sampled(self, samples: slice) -> DipoleData:
        layers = self.layers
        if layers is not None:
            layers = {name: values[samples] for name, values in layers.items()}
        return self.replace(dipole=self.dipole[samples], times=self.times[samples], layers=layers)

    def __repr__(self) -> str:
        """One line: times, peak, averages, noise, smoothing and layers."""
        peak = int(np.abs(self.dipole).argmax())
        parts = [
            f"{self.n_times} times ({self._span})",
            f"peak {self.nanoampere_metres[peak]:.3g} nAm at {self.times[peak]:.3g} s",
        ]
        if self.n_averages > 1:
            parts.append(f"mean of {self.n_averages}")
        if self.noise_sd is not None:
            parts.append(f"noise sd {self.noise_sd * 1e9:.3g} nAm")
        if self.smoothing:
            parts.append(f"smoothed by {self.smoothing * 1e3:g} ms")
        if self.layers is not None:
            parts.append(f"layers {', '.join(self.layers)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def _span(self) -> str:
        return f"{self.times[0]:g} to {self.times[-1]:g} s, {self.sampling_rate:.6g} Hz"

    def _describe(self) -> dict[str, str]:
        peak = int(np.abs(self.dipole).argmax())
        noise = "not known" if self.noise_sd is None else f"sd {self.noise_sd * 1e9:.3g} nAm"
        return {
            "Name": self.name,
            "Times": f"{self.n_times}, {self._span}",
            "Peak": f"{self.nanoampere_metres[peak]:.3g} nAm at {self.times[peak]:.3g} s",
            "Noise of one sample": noise,
            "Averages": str(self.n_averages),
            "Smoothing": f"{self.smoothing * 1e3:g} ms" if self.smoothing else "none",
            "Layers": "none" if self.layers is None else ", ".join(self.layers),
            "Orientation": self.orientation,
        }


def _scaled(value: Any, factor: float) -> Any:
    """Numbers in another unit; what holds none is left to the checks of the constructor."""
    if value is None or isinstance(value, str | bool | Mapping) or factor == 1:
        return value
    if np.ma.isMaskedArray(value):
        return value * factor
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return value
    if array.dtype.kind not in "iuf":
        return value
    return array * factor if array.ndim else float(value) * factor
