"""BOLD time series of one run with its experimental inputs, confounds and slice timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold_validation import (
    check_repetition_time,
    check_signal,
    check_unit,
    check_variation,
)
from bayesdcm.data.events import inputs_from_events
from bayesdcm.data.named_axes import columns_and_names
from bayesdcm.data.run import Run
from bayesdcm.data.validation import check_names, check_real_array

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BoldData"]

# SPM scales signals down to this range, in percent, where theirs is larger (spm_dcm_estimate).
_SCALED_RANGE = 4.0
# Less than this many ranges of the signal is no baseline of a raw signal, but what centring leaves.
_LEAST_BASELINE = 2.0


@dataclass(frozen=True, eq=False, repr=False)
class BoldData(Run):
    """Signals of one run, checked on construction, in SI units.

    All arrays are copied, converted to float64 and made read-only; every field that was left out is
    filled with its default.

    Parameters
    ----------
    signal : array_like, shape (scans, regions)
        BOLD signal, one column per region, in `unit`. Columns of a DataFrame are the regions, by
        name.
    repetition_time : float
        Time from scan to scan, in s.
    inputs : array_like, shape (microtime bins, inputs), optional
        Experimental inputs over the whole run; None for a run without an experiment. Columns of a
        DataFrame are the inputs, by name.
    input_dt : float, optional
        Width of a microtime bin, in s; needed with `inputs`.
    region_names : sequence of str, optional
        By default the columns of a DataFrame, else "region 1", "region 2", ...
    input_names : sequence of str, optional
        By default the columns of a DataFrame, else "input 1", "input 2", ...; the empty tuple
        where there are no inputs.
    confounds : array_like, shape (scans, confounds), optional
        Regressors of no interest, with a flat prior; by default a column of ones, as in SPM. Where
        none of their combinations is constant (motion alone, say), a column of ones is added last.
    slice_delays : array_like, shape (regions,), optional
        When each region is measured after the onset of a scan, in s, at most the repetition time;
        by default 1 s as in SPM, or the repetition time where that is shorter.
    unit : {"percent", "fraction", "arbitrary", "z-scored"}, optional
        Unit of the signal, the same in all regions: percent of the baseline (the default, in which
        models predict), the same as a fraction of 1, arbitrary units that stand for percent (such
        as SPM's, whose images have a mean of 100), or standard deviations of each region. See
        `to_percent`.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree, values are missing or infinite, a signal is constant, the inputs do not
        cover the run, names repeat, confounds depend on one another, delays exceed the
        repetition time, or the unit is not known or not the same in all regions.

    Warns
    -----
    UserWarning
        If no unit is given and the numbers do not look like percent, or not alike in all regions;
        or if several regions are z-scored, as connections then take up the ratio of their
        standard deviations.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> data = BoldData(rng.normal(size=(100, 2)), 2.0, region_names=["V1", "V5"])
    >>> data
    BoldData(100 scans x 2 regions (V1, V5), repetition time 2 s, no inputs, 1 confound)
    """

    signal: NDArray[np.float64]
    repetition_time: float
    inputs: NDArray[np.float64] | None = None
    input_dt: float | None = None
    region_names: tuple[str, ...] | None = None
    input_names: tuple[str, ...] | None = None
    confounds: NDArray[np.float64] | None = None
    slice_delays: NDArray[np.float64] | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        given, names = columns_and_names("signal", self.signal, "region_names", self.region_names)
        signal = check_signal(given)
        repetition_time = check_repetition_time(self.repetition_time)
        names = check_names("region_names", names, signal.shape[1], "region", "signal")
        check_variation(signal, names)
        unit = check_unit(self.unit, signal, names)
        self._set(signal=signal, repetition_time=repetition_time, region_names=names, unit=unit)
        self._set_timing()

    @classmethod
    def from_events(
        cls,
        signal: ArrayLike,
        repetition_time: float,
        events: pd.DataFrame | Mapping[str, Sequence[Any]],
        *,
        input_names: Sequence[str] | None = None,
        input_dt: float | None = None,
        region_names: Sequence[str] | None = None,
        confounds: ArrayLike | None = None,
        slice_delays: ArrayLike | None = None,
        unit: str | None = None,
    ) -> BoldData:
        """Signals with the inputs that a table of events describes.

        An event fills the microtime bins from its onset to its end, at least one; events of one
        type add where they overlap; an event of duration 0 is a stick of area 1 (height
        ``modulation / input_dt`` in one bin), as in SPM. An ``events.tsv`` of BIDS goes in as it
        is.

        Parameters
        ----------
        signal, repetition_time
            As for `BoldData`.
        events : pandas.DataFrame or mapping of columns
            Columns ``onset`` and ``duration`` (s, from the onset of the first scan), optionally
            ``trial_type`` (str) and ``modulation`` (1 where absent); other columns are not used.
        input_names : sequence of str, optional
            The inputs' order; by default that in which the types of event first appear. Without a
            column ``trial_type`` there is one input, "event" or the one name given here.
        input_dt : float, optional
            Width of a microtime bin, in s; by default ``repetition_time / 16`` as in SPM.
        region_names, confounds, slice_delays, unit
            As for `BoldData`.

        Raises
        ------
        TypeError, ValueError
            As for `BoldData`, and where the table is not as described.

        Examples
        --------
        >>> signal = np.random.default_rng(0).normal(size=(100, 2))
        >>> table = {"onset": [10.0, 60.0], "duration": [20.0, 20.0], "trial_type": ["face", "house"]}
        >>> BoldData.from_events(signal, 2.0, table).input_names
        ('face', 'house')
        """  # noqa: E501
        signal, region_names = columns_and_names("signal", signal, "region_names", region_names)
        checked = check_signal(signal)
        repetition_time = check_repetition_time(repetition_time)
        inputs, names, dt = inputs_from_events(
            events, len(checked), repetition_time, input_names=input_names, input_dt=input_dt
        )
        return cls(
            checked,
            repetition_time,
            inputs=inputs,
            input_dt=dt,
            region_names=region_names,  # type: ignore[arg-type]
            input_names=names,
            confounds=confounds,  # type: ignore[arg-type]
            slice_delays=slice_delays,  # type: ignore[arg-type]
            unit=unit,
        )

    @property
    def n_scans(self) -> int:
        """Number of scans."""
        return self.signal.shape[0]

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return self.signal.shape[1]

    @property
    def percent(self) -> float:
        """Percent in one unit of the signal: 100 for fractions, else 1."""
        return 100.0 if self.unit == "fraction" else 1.0

    @property
    def scale(self) -> float:
        """Factor by which SPM multiplies the centred signal in percent: 4 / max(range, 4).

        The range is the largest minus the smallest value over all regions, each centred.
        Fractions are turned into percent as well.
        """
        centred = (self.signal - self.signal.mean(axis=0)) * self.percent
        return self.percent * _SCALED_RANGE / max(float(np.ptp(centred)), _SCALED_RANGE)

    @property
    def scaled_signal(self) -> NDArray[np.float64]:
        """Column-centred signal times `scale`, as SPM models it, shape (scans, regions)."""
        return (self.signal - self.signal.mean(axis=0)) * self.scale

    def to_percent(self, baseline: ArrayLike | None = None) -> BoldData:
        """Return the same run with its signal in percent of the baseline, centred.

        Parameters
        ----------
        baseline : array_like, shape (regions,) or a number, optional
            What is 100 %, in the unit of the signal: for raw signals their mean over time, which
            is the default; for z-scored signals, mean over standard deviation of the raw ones.
            Not for fractions, whose baseline is 1.

        Returns
        -------
        BoldData
            With `unit` ``"percent"``: ``100 * (signal - mean) / baseline``.

        Raises
        ------
        TypeError
            If `baseline` does not hold numbers.
        ValueError
            If the signal is in percent or `baseline` is given for fractions; if it is missing and
            the signal has no mean that could be one; if it is not positive, or of another shape.

        Examples
        --------
        >>> raw = 900 + 9 * np.sin(np.arange(100))[:, None]
        >>> data = BoldData(raw, 2.0, unit="arbitrary").to_percent()
        >>> data.unit, data.signal.std(axis=0).round(1).tolist()
        ('percent', [0.7])
        """
        if self.unit == "percent" or (self.unit == "fraction" and baseline is not None):
            unit = "already in percent" if self.unit == "percent" else "a fraction of its baseline"
            raise ValueError(
                f"the signal is {unit} (unit={self.unit!r}), so "
                f"{'nothing is to be converted' if baseline is None else 'baseline must be None'}; "
                "if that is not its unit, construct BoldData with the right one"
            )
        mean = self.signal.mean(axis=0)
        level = np.ones(self.n_regions) if self.unit == "fraction" else mean
        if baseline is not None:
            level = check_real_array("baseline", np.atleast_1d(baseline), ("regions",))
        elif self.unit != "fraction":
            centred = mean < _LEAST_BASELINE * np.ptp(self.signal, axis=0)
            if centred.any():
                region = (self.region_names or ())[int(np.flatnonzero(centred)[0])]
                raise ValueError(
                    f"baseline is missing, and the mean of the signal of {region!r}, "
                    f"{mean[centred][0]:.3g}, cannot be it: the signal has been centred. Give "
                    "baseline, what is 100 % in the unit of the signal"
                )
        if level.size not in (1, self.n_regions) or not (level > 0).all():
            raise ValueError(
                f"baseline must be positive, one number or one for each of the {self.n_regions} "
                f"regions, got {level.tolist()}"
            )
        return self.replace(signal=100 * (self.signal - mean) / level, unit="percent")


def with_signal(design: Run, signal: NDArray, unit: str = "percent") -> BoldData:
    """Data of a run as another run, or a design, has it, with this signal (scans, regions)."""
    return BoldData(
        signal=signal,
        repetition_time=design.repetition_time,
        inputs=design.inputs,
        input_dt=design.input_dt,
        region_names=design.region_names,
        input_names=design.input_names,
        confounds=design.confounds,
        slice_delays=design.slice_delays,
        unit=unit,
    )
