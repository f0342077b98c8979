"""What evoked responses have in common with every series of conditions, times and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.evoked_selection import (
    html_table,
    info_at_rate,
    nearest_samples,
    one_line,
    selected_channels,
)
from bayesdcm.data.head import HeadModel
from bayesdcm.data.validation import check_order

if TYPE_CHECKING:
    import mne

__all__ = ["Responses"]


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

        Returns
        -------
        same class
            A new object.

        Raises
        ------
        ValueError
            If the window is not within the response, or holds fewer than two samples.

        Examples
        --------
        >>> from bayesdcm.data import EvokedData
        >>> data = EvokedData(np.random.default_rng(0).normal(size=(1, 101, 1)), np.arange(101) / 1e3)
        >>> data.crop(0.01, 0.05).n_times
        41
        """  # noqa: E501
        window = nearest_samples(self.times, tmin, tmax)
        return self.replace(signal=self.signal[:, window], times=self.times[window])

    def decimate(self, step: int) -> Self:
        """Return every so manieth sample, from the first on, without filtering.

        Parameters
        ----------
        step : int
            Every how many samples to keep. Filter before, or fast activity appears as slow.

        Returns
        -------
        same class
            A new object.

        Raises
        ------
        TypeError, ValueError
            If `step` is not a whole number from 1 on that leaves two samples.

        Examples
        --------
        >>> from bayesdcm.data import EvokedData
        >>> data = EvokedData(np.random.default_rng(0).normal(size=(1, 101, 1)), np.arange(101) / 1e3)
        >>> data.decimate(4).sampling_rate
        250.0
        """  # noqa: E501
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
            info=info_at_rate(self.info, self.sampling_rate / step),
        )

    def pick(self, channels: str | Sequence[str]) -> Self:
        """Return some of the channels; the reference of electrodes stays what it is.

        Parameters
        ----------
        channels : str or sequence of str
            A type of channel, or names of channels in the order wanted.

        Returns
        -------
        same class
            A new object.

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
        indices = selected_channels(channels, names, types)
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

        Parameters
        ----------
        condition_names, effect_names, channel_names : sequence of str, optional
            All names in the order that is wanted; None leaves the order as it is.

        Returns
        -------
        same class
            A new object; signal, design, noise covariance and head have moved with the names.

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
        changes: dict[str, Any] = {}
        design = self.design
        if condition_names is not None:
            order = check_order("condition_names", condition_names, self.condition_names or ())
            changes["condition_names"] = [self.condition_names[i] for i in order]  # type: ignore[index]
            changes["signal"] = self.signal[order]
            design = design[order]  # type: ignore[index]
        names = list(self.effect_names or ())
        if effect_names is not None:
            order = check_order("effect_names", effect_names, names)
            names = [names[i] for i in order]
            design = design[:, order]  # type: ignore[index]
        changed = self.replace(**changes, design=design, effect_names=names)
        if channel_names is None:
            return changed
        check_order("channel_names", channel_names, self.channel_names or ())
        return changed.pick(list(channel_names))

    def to_mne(self) -> dict[str, mne.Evoked]:
        """Responses as MNE-Python's, by condition, for its plots.

        Returns
        -------
        dict of mne.Evoked
            One for each condition, of its name.

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
        return one_line(self)

    def _repr_html_(self) -> str:
        """Table for notebooks."""
        return html_table(self)
