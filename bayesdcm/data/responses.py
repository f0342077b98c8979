"""What evoked responses have in common with every series of conditions, times and channels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.head import HeadModel
from bayesdcm.data.validation import check_order, describe

if TYPE_CHECKING:
    import mne

__all__ = ["Responses", "nearest_samples"]


class Responses(CheckedFields):
    """Base of `EvokedData`, which holds the fields: sizes, selection and description."""

    signal: NDArray[np.float64]
    times: NDArray[np.float64]
    channel_names: tuple[str, ...] | None
    channel_types: tuple[str, ...] | None
    condition_names: tuple[str, ...] | None
    design: NDArray[np.float64] | None
    effect_names: tuple[str, ...] | None
    noise_cov: NDArray[np.float64] | None
    head: HeadModel | None
    info: mne.Info | None

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return self.signal.shape[0]

    @property
    def n_times(self) -> int:
        """Number of samples of each response."""
        return self.signal.shape[1]

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.signal.shape[2]

    @property
    def n_effects(self) -> int:
        """Number of condition-specific effects; 0 where conditions do not differ."""
        return self.design.shape[1]  # type: ignore[union-attr]

    @property
    def sampling_rate(self) -> float:
        """Samples per second, in Hz."""
        return (self.n_times - 1) / float(self.times[-1] - self.times[0])

    def crop(self, tmin: float | None = None, tmax: float | None = None) -> Self:
        """Return the responses within a window.

        Parameters
        ----------
        tmin, tmax : float, optional
            First and last time, in s; the nearest samples are taken, as in SPM. By default the
            first and the last there are.

        Raises
        ------
        ValueError
            If the window is not within the response, or holds fewer than two samples.

        Examples
        --------
        >>> from bayesdcm.data import EvokedData
        >>> noise = np.random.default_rng(0).normal(size=(1, 101, 1))
        >>> EvokedData(noise, np.arange(101) / 1000).crop(0.01, 0.05).n_times
        41
        """
        window = nearest_samples(self.times, tmin, tmax)
        return self.replace(signal=self.signal[:, window], times=self.times[window])

    def decimate(self, step: int) -> Self:
        """Return every so manieth sample, from the first on, without filtering.

        Parameters
        ----------
        step : int
            Every how many samples to keep. Filter before, or fast activity appears as slow.

        Raises
        ------
        TypeError, ValueError
            If `step` is not a whole number from 1 on that leaves two samples.

        Examples
        --------
        >>> from bayesdcm.data import EvokedData
        >>> noise = np.random.default_rng(0).normal(size=(1, 101, 1))
        >>> EvokedData(noise, np.arange(101) / 1000).decimate(4).sampling_rate
        250.0
        """
        if not isinstance(step, (int, np.integer)) or isinstance(step, bool):
            raise TypeError(f"decimate must be a whole number, got {step!r}. Give 1, 2, 3, ...")
        if not 1 <= step < self.n_times:
            raise ValueError(
                f"decimate is {step}; expected a whole number from 1 to {self.n_times - 1}, which "
                "leaves two samples or more. Choose a smaller one."
            )
        if step == 1:
            return self
        return self.replace(
            signal=self.signal[:, ::step],
            times=self.times[::step],
            info=_info_at_rate(self.info, self.sampling_rate / step),
        )

    def pick(self, channels: str | Sequence[str]) -> Self:
        """Return some of the channels; the reference of electrodes stays what it is.

        Parameters
        ----------
        channels : str or sequence of str
            A type of channel, or names of channels in the order wanted.

        Raises
        ------
        ValueError
            If there are no such channels.

        Examples
        --------
        >>> from bayesdcm.data import EvokedData
        >>> signal = np.random.default_rng(0).normal(size=(1, 50, 3))
        >>> data = EvokedData(signal, np.arange(50) / 250, ["Fz", "Cz", "Pz"], "eeg")
        >>> data.pick(["Pz", "Fz"]).channel_names
        ('Pz', 'Fz')
        """
        names, types = self.channel_names or (), self.channel_types or ()
        indices = _selected_channels(channels, names, types)
        info = self.info
        if info is not None:
            import mne

            info = mne.pick_info(info, indices)
        return self.replace(
            signal=self.signal[:, :, indices],
            channel_names=[names[i] for i in indices],
            channel_types=[types[i] for i in indices],
            noise_cov=None if self.noise_cov is None else self.noise_cov[np.ix_(indices, indices)],
            head=None if self.head is None else self.head.pick(indices),
            info=info,
        )

    def reordered(
        self,
        condition_names: Sequence[str] | None = None,
        effect_names: Sequence[str] | None = None,
        channel_names: Sequence[str] | None = None,
    ) -> Self:
        """Return the same data with conditions, effects or channels in another order.

        Signal, design, noise covariance and head move with the names.

        Parameters
        ----------
        condition_names, effect_names, channel_names : sequence of str, optional
            All names in the order that is wanted; None leaves the order as it is.

        Raises
        ------
        ValueError
            If the names are not those of the data.

        Examples
        --------
        >>> from bayesdcm.data import EvokedData
        >>> signal = np.random.default_rng(0).normal(size=(2, 50, 1))
        >>> data = EvokedData(signal, np.arange(50) / 250, condition_names=["tone", "noise"])
        >>> other = data.reordered(condition_names=["noise", "tone"])
        >>> other.condition_names, other.effect_names, other.design.tolist()
        (('noise', 'tone'), ('noise',), [[1.0], [0.0]])
        """
        changes: dict[str, Any] = {"design": self.design, "effect_names": self.effect_names}
        if condition_names is not None:
            order = check_order("condition_names", condition_names, self.condition_names or ())
            changes["condition_names"] = [self.condition_names[i] for i in order]  # type: ignore[index]
            changes["signal"] = self.signal[order]
            changes["design"] = changes["design"][order]
        if effect_names is not None:
            order = check_order("effect_names", effect_names, self.effect_names or ())
            changes["effect_names"] = [self.effect_names[i] for i in order]  # type: ignore[index]
            changes["design"] = changes["design"][:, order]
        changed = self.replace(**changes)
        if channel_names is None:
            return changed
        check_order("channel_names", channel_names, self.channel_names or ())
        return changed.pick(list(channel_names))

    def to_mne(self) -> dict[str, mne.Evoked]:
        """Responses as MNE-Python's, by the name of the condition, for its plots.

        Raises
        ------
        ValueError
            If there is no measurement info.

        Examples
        --------
        >>> import mne
        >>> from bayesdcm.data import EvokedData
        >>> info = mne.create_info(["F3", "F4", "Cz"], 250.0, "eeg")
        >>> noise = np.random.default_rng(0).normal(scale=1e-6, size=(1, 50, 3))
        >>> data = EvokedData(noise, np.arange(50) / 250, info["ch_names"], "eeg", info=info)
        >>> list(data.to_mne())
        ['condition 1']
        """
        if self.info is None:
            raise ValueError(
                "info is None, so there are no positions of sensors to hand on; expected data "
                "with an mne.Info. Use EvokedData.from_mne, or data.replace(info=...)."
            )
        import mne

        return {
            name: mne.EvokedArray(
                signal.T, self.info.copy(), tmin=self.times[0], comment=name, verbose=False
            )
            for name, signal in zip(self.condition_names or (), self.signal, strict=True)
        }

    def __repr__(self) -> str:
        """One line: sizes, names and times."""
        n, kinds = self.n_conditions, ", ".join(dict.fromkeys(self.channel_types or ()))
        parts = [
            f"{n} condition{'s' * (n > 1)} ({', '.join(self.condition_names or ())}) x "
            f"{self.n_times} times ({self._span}) x "
            f"{self.n_channels} channel{'s' * (self.n_channels > 1)} ({kinds})"
        ]
        if self.n_effects:
            plural = "s" * (self.n_effects > 1)
            parts.append(f"effect{plural} {', '.join(self.effect_names or ())}")
        if self.head is not None:
            parts.append(type(self.head).__name__)
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def _span(self) -> str:
        return f"{self.times[0]:g} to {self.times[-1]:g} s, {self.sampling_rate:.6g} Hz"

    def _describe(self) -> dict[str, str]:
        names, kinds = self.channel_names or (), dict.fromkeys(self.channel_types or ())
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        return {
            "Conditions": ", ".join(self.condition_names or ()),
            "Effects": ", ".join(self.effect_names or ()) or "none",
            "Times": f"{self.n_times}, {self._span}",
            "Channels": f"{self.n_channels} ({', '.join(kinds)}): {shown}",
            "Noise covariance": "given" if self.noise_cov is not None else "none",
            "Head": "none" if self.head is None else repr(self.head),
        }


def nearest_samples(times: NDArray[np.float64], tmin: float | None, tmax: float | None) -> slice:
    """From the sample nearest to `tmin` to that nearest to `tmax`, in s."""
    step = (times[-1] - times[0]) / (len(times) - 1)
    ends = []
    for name, value, default in (("tmin", tmin, times[0]), ("tmax", tmax, times[-1])):
        given = default if value is None else value
        if not isinstance(given, Real) or isinstance(given, bool):
            raise TypeError(
                f"{name} must be one number in s, got {describe(given)}. Give a float, e.g. 0.25."
            )
        # Half a sample beyond the ends still has its nearest sample inside.
        if not times[0] - step / 2 <= given <= times[-1] + step / 2:
            raise ValueError(
                f"{name} is {given:g} s, but responses run from {times[0]:g} to {times[-1]:g} s; "
                "expected a time within. If it is in milliseconds, divide it by 1000."
            )
        ends.append(int(np.abs(times - given).argmin()))
    first, last = ends
    if last <= first:
        raise ValueError(
            f"tmin and tmax, {tmin} and {tmax} s, leave {max(last - first + 1, 0)} sample(s) "
            f"of those every {step:g} s; expected two or more. Choose a longer window."
        )
    return slice(first, last + 1)


def _selected_channels(
    channels: str | Sequence[str], names: tuple[str, ...], types: tuple[str, ...]
) -> list[int]:
    """Indices of the channels of a type, or of those named, in the order named."""
    if isinstance(channels, str):
        indices = [i for i, kind in enumerate(types) if kind == channels]
        if not indices and channels not in names:
            raise ValueError(
                f"channels is {channels!r}, but there are the types {sorted(set(types))}; "
                "expected one of these, or a list of names. Check the spelling."
            )
        return indices or [names.index(channels)]
    if not isinstance(channels, Iterable):
        raise TypeError(
            f"channels must be a type of channel or a list of names, got {describe(channels)}. "
            "Give strings."
        )
    wanted = list(channels)
    absent = [name for name in wanted if name not in names]
    if absent or not wanted:
        raise ValueError(
            f"channels holds {len(wanted)} name(s), of which {absent[:5]} are not among the data's "
            f"{list(names[:5])}...; expected names of channels. Check the spelling."
        )
    return [names.index(name) for name in wanted]


def _info_at_rate(info: Any, rate: float) -> Any:
    """Measurement info with another sampling rate, in Hz; None for None."""
    if info is None:
        return None
    import mne

    # Decimation is MNE-Python's public way to a lower rate.
    step = round(info["sfreq"] / rate)
    empty = mne.EvokedArray(np.zeros((len(info["ch_names"]), 2 * step)), info, verbose=False)
    with warnings.catch_warnings():
        # The user has been told to filter first.
        warnings.simplefilter("ignore")
        return empty.decimate(step, verbose=False).info
