"""Evoked responses of one recording: conditions, times and channels, with design and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.evoked_validation import (
    CHANNEL_UNITS,
    check_channel_types,
    check_design,
    check_head,
    check_info,
    check_noise_covariance,
    check_signal,
    check_time_courses,
    check_times,
    check_variation,
    warn_of_magnitudes,
)
from bayesdcm.data.head import HeadModel
from bayesdcm.data.responses import Responses
from bayesdcm.data.validation import check_names, check_order

if TYPE_CHECKING:
    import mne

__all__ = ["EvokedData"]


@dataclass(frozen=True, eq=False, repr=False)
class EvokedData(Responses):
    """Averaged responses to one or more conditions, checked on construction, in SI units.

    All arrays are copied, converted to float64 and made read-only; every field that was left out is
    filled with its default.

    Parameters
    ----------
    signal : array_like, shape (conditions, times, channels)
        Responses in V (electrodes), T (magnetometers), T/m (gradiometers) or A m (sources).
    times : array_like, shape (times,)
        When each sample was taken, in s from the stimulus, equally spaced.
    channel_names : sequence of str, optional
        By default "channel 1", "channel 2", ...
    channel_types : sequence of str or str, optional
        ``"eeg"``, ``"mag"``, ``"grad"``, ``"ecog"``, ``"seeg"``, ``"dbs"``, ``"lfp"``,
        ``"source"`` (the time course of a region) or ``"other"`` (arbitrary units) for each
        channel, or one for all; by default "other", or "eeg" where there is a head model.
    condition_names : sequence of str, optional
        By default "condition 1", "condition 2", ...
    design : array_like, shape (conditions, effects), optional
        How much of each condition-specific effect each condition has (SPM's between-trial
        effects); by default one effect for each condition after the first, which is the baseline.
        Rows of a DataFrame are found by the names of conditions, columns by those of effects.
    effect_names : sequence of str, optional
        By default those of the conditions after the first, or "effect 1", ... for a given design.
    noise_cov : array_like, shape (channels, channels), optional
        Covariance of the noise over channels, in squared units of the signal. Only its form
        matters: the level of the noise is estimated. Needed for channels of different units. A
        DataFrame is joined by the names of channels.
    head : SphereHead, GridHead or SurfaceHead, optional
        What predicts the channels' signals from sources in the brain.
    info : mne.Info, optional
        Measurement info of the same channels, for topographies.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree, values are missing or infinite, a channel or a condition is constant,
        times do not increase in equal steps, names repeat, effects depend on one another, the noise
        covariance is none, or channels of different units come without a noise covariance.

    Examples
    --------
    >>> signal = np.random.default_rng(0).normal(size=(2, 101, 2))
    >>> EvokedData(signal, np.arange(101) / 400, condition_names=["standard", "deviant"])
    EvokedData(2 conditions (standard, deviant) x 101 times (0 to 0.25 s, 400 Hz) x 2 channels
    (other), effect deviant)
    """

    signal: NDArray[np.float64]
    times: NDArray[np.float64]
    channel_names: tuple[str, ...] | None = None
    channel_types: tuple[str, ...] | None = None
    condition_names: tuple[str, ...] | None = None
    design: NDArray[np.float64] | None = None
    effect_names: tuple[str, ...] | None = None
    noise_cov: NDArray[np.float64] | None = None
    head: HeadModel | None = None
    info: mne.Info | None = None

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        signal = check_signal(self.signal)
        n_conditions, n_times, n_channels = signal.shape
        times = check_times(self.times, n_times)
        channels, conditions = (
            check_names(f"{noun}_names", names, count, noun, f"signal's {axis} axis")
            for noun, names, count, axis in (
                ("channel", self.channel_names, n_channels, "last"),
                ("condition", self.condition_names, n_conditions, "first"),
            )
        )
        check_variation(signal, channels, conditions)
        check_head(self.head, n_channels)
        types = check_channel_types(self.channel_types, n_channels, self.head)
        design, effects = check_design(self.design, self.effect_names, conditions)
        noise_cov = check_noise_covariance(self.noise_cov, types, channels)
        if noise_cov is None and len({CHANNEL_UNITS[kind] for kind in types}) > 1:
            raise ValueError(
                f"channel_types has channels of different units, {sorted(set(types))}, and there "
                "is no noise_cov by which to weigh them; expected channels of one unit, or a "
                "noise covariance. Give noise_cov, or pick one type of channel."
            )
        self._set(
            signal=signal,
            times=times,
            channel_names=channels,
            channel_types=types,
            condition_names=conditions,
            design=design,
            effect_names=effects,
            noise_cov=noise_cov,
            info=check_info(self.info, channels),
        )

    @classmethod
    def from_mne(
        cls,
        evokeds: mne.Evoked | Sequence[mne.Evoked] | Mapping[str, mne.Evoked],
        forward: mne.Forward | None = None,
        noise_cov: mne.Covariance | None = None,
        tmin: float | None = None,
        tmax: float | None = None,
        *,
        picks: str | Sequence[str] | None = None,
        decimate: int = 1,
        design: ArrayLike | None = None,
        effect_names: Sequence[str] | None = None,
        sphere: Any = None,
        orientation: str | None = None,
        trans: Any = None,
        subject: str | None = None,
        subjects_dir: Any = None,
    ) -> EvokedData:
        """Responses that MNE-Python averaged, with a head model where one can be had.

        Bad and auxiliary channels are dropped. Signal-space projections are applied, and
        electrodes are referenced to their mean over all good electrodes; lead fields are treated
        likewise. Then channels, times and samples are selected. Filter before decimating: nothing
        is filtered here. The noise covariance of single epochs serves as well as that of the
        average, because the level of the noise is estimated.

        Electrodes may have any reference that is common to all of them, since nothing of it is
        left. What has another lead field than a single sensor is refused, as MNE-Python does for
        its source estimates: bipolar derivations, current source density, standard errors.

        Parameters
        ----------
        evokeds : mne.Evoked, list of mne.Evoked, or dict of mne.Evoked
            One response a condition, of the same channels and times. Conditions are named by the
            keys of a dict, and otherwise by the responses' comments.
        forward : mne.Forward, optional
            Lead field, with all picked channels: of a volume or discrete source space for dipoles
            (`GridHead`), of a cortical surface for patches (`SurfaceHead`).
        noise_cov : mne.Covariance, optional
            Noise covariance with all picked channels; needed for channels of different units.
        tmin, tmax : float, optional
            First and last time, in s; the nearest samples are taken. By default the whole epoch.
        picks : str or sequence of str, optional
            Types or names of channels, as MNE-Python takes them; by default all EEG, MEG and
            intracranial channels.
        decimate : int, default 1
            Every how many samples to keep, from the first on.
        design, effect_names
            As for `EvokedData`.
        sphere : mne.bem.ConductorModel or "auto", optional
            Sphere model for a `SphereHead`, instead of `forward`; "auto" fits one to the digitised
            head shape, with MNE-Python's defaults for its shells. Coils are integrated as
            MNE-Python does it for forward solutions (its accuracy "accurate"); electrodes are taken
            to the outermost sphere along the radius, which MNE-Python does not do.
        orientation : {"free", "fixed"}, optional
            Whether dipoles of `forward` may point anywhere (`GridHead`) or stand upright on the
            surface (`SurfaceHead`); by default "fixed" for surfaces and "free" for others.
        trans : mne.Transform or path-like, optional
            Transform between head and MRI coordinates, which with `subject` gives the way from MNI
            coordinates to the head. By default it is that in `forward`, where the subject's
            registration can be read, and otherwise the rigid transform with one scale that best
            takes the fiducials of the template fsaverage to those that were digitised (within a
            centimetre or so).
        subject : str, optional
            Subject of `trans`; its ``talairach.xfm`` is read unless it is "fsaverage".
        subjects_dir : path-like, optional
            Where the subject's folder is; by default the environment variable SUBJECTS_DIR.

        Raises
        ------
        TypeError
            If an argument is of another class than described.
        ValueError
            If responses are no averages, or differ in channels, their types or positions, times,
            the position of the head in the MEG, gradient compensation or signal-space separation;
            electrodes are bipolar derivations or current source density; channels are missing from
            `forward` or `noise_cov`, bad in the latter, or of other compensation; types of channel
            are mixed without `noise_cov`; positions of sensors are unknown; there is a head model
            for one electrode, or MEG sensors inside it; both `forward` and `sphere` are given; or
            as for `EvokedData`.

        Warns
        -----
        UserWarning
            If there is a head model, but neither a transform nor fiducials tell where MNI
            coordinates lie in it; `forward` was computed for other positions; responses were
            projected or filtered differently, are differences of conditions by their comments,
            are larger than any that brains make, or are of electrodes with names of derivations.

        Examples
        --------
        >>> import mne
        >>> info = mne.create_info(["F3", "F4", "Cz"], 250.0, "eeg")
        >>> noise = np.random.default_rng(0).normal(scale=1e-6, size=(3, 50))
        >>> EvokedData.from_mne(mne.EvokedArray(noise, info, comment="tone"), tmax=0.1).n_times
        26
        """
        from bayesdcm.data.mne_evoked import evoked_fields

        fields = evoked_fields(
            evokeds,
            forward=forward,
            noise_cov=noise_cov,
            picks=picks,
            sphere=sphere,
            orientation=orientation,
            trans=trans,
            subject=subject,
            subjects_dir=subjects_dir,
        )
        whole = cls(**fields, design=design, effect_names=effect_names)  # type: ignore[arg-type]
        return whole.crop(tmin, tmax).decimate(decimate)

    @classmethod
    def from_label_time_courses(
        cls,
        time_courses: ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike],
        times: ArrayLike,
        label_names: Sequence[str] | None = None,
        *,
        condition_names: Sequence[str] | None = None,
        design: ArrayLike | None = None,
        effect_names: Sequence[str] | None = None,
    ) -> EvokedData:
        """Time courses of regions, as a virtual electrode in each (of type "source") records them.

        Parameters
        ----------
        time_courses : array_like, shape (conditions, labels, times), list or dict of array_like
            Signed time courses as ``mne.extract_label_time_course`` gives them with
            ``mode="mean_flip"`` or ``"pca_flip"`` of estimates with ``pick_ori="normal"``, in A m
            or, after noise normalisation, in arbitrary units; a list or dict has one array,
            (labels, times), for each condition. The sign of a label is arbitrary, but must be the
            same in all conditions: extract them in one call.
        times : array_like, shape (times,)
            When each sample was taken, in s from the stimulus.
        label_names : sequence of str, optional
            Names of the regions; by default "channel 1", "channel 2", ...
        condition_names : sequence of str, optional
            Names of the conditions; of a dict, its keys in the order that is wanted.
        design, effect_names
            As for `EvokedData`.

        Raises
        ------
        TypeError, ValueError
            As for `EvokedData`, and if source estimates or labels come instead of time courses.

        Warns
        -----
        UserWarning
            If time courses are never negative: then they are magnitudes.

        Examples
        --------
        >>> noise = np.random.default_rng(0).normal(size=(2, 3, 50))
        >>> EvokedData.from_label_time_courses(noise, np.arange(50) / 250, ["A1", "STG", "IFG"])
        EvokedData(2 conditions (condition 1, condition 2) x 50 times (0 to 0.196 s, 250 Hz) x
        3 channels (source), effect condition 2)
        """
        check_time_courses(time_courses)
        if isinstance(time_courses, Mapping):
            names, courses = [str(name) for name in time_courses], list(time_courses.values())
            wanted = names if condition_names is None else condition_names
            order = check_order("condition_names", wanted, names)
            condition_names = [names[i] for i in order]
            time_courses = [courses[i] for i in order]
        try:
            courses = np.asarray(time_courses)
        except ValueError as error:
            raise ValueError(
                f"time_courses cannot be read as one array ({error}); expected arrays of the same "
                "shape, (labels, times), for all conditions. Cut them to the same times."
            ) from error
        if courses.ndim != 3:
            raise ValueError(
                f"time_courses has {courses.ndim} dimension(s), shape {courses.shape}; expected "
                "(conditions, labels, times). For one condition give time_courses[np.newaxis]."
            )
        warn_of_magnitudes(courses)
        return cls(
            np.swapaxes(courses, 1, 2),
            times,  # type: ignore[arg-type]
            channel_names=label_names,  # type: ignore[arg-type]
            channel_types="source",  # type: ignore[arg-type]
            condition_names=condition_names,  # type: ignore[arg-type]
            design=design,  # type: ignore[arg-type]
            effect_names=effect_names,  # type: ignore[arg-type]
        )
