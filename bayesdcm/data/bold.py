"""BOLD time series of one run with its experimental inputs, confounds and slice timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold_validation import check_repetition_time, check_signal, check_variation
from bayesdcm.data.events import inputs_from_events
from bayesdcm.data.run import Run
from bayesdcm.data.validation import check_names

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BoldData"]

# SPM scales signals down to this range, in percent, where theirs is larger (spm_dcm_estimate).
_SCALED_RANGE = 4.0


@dataclass(frozen=True, eq=False, repr=False)
class BoldData(Run):
    """Signals of one run, checked on construction, in SI units.

    All arrays are copied, converted to float64 and made read-only; every field that was left out is
    filled with its default.

    Parameters
    ----------
    signal : array_like, shape (scans, regions)
        BOLD signal in percent or arbitrary units, one column per region.
    repetition_time : float
        Time from scan to scan, in s.
    inputs : array_like, shape (microtime bins, inputs), optional
        Experimental inputs over the whole run; None for a run without an experiment.
    input_dt : float, optional
        Width of a microtime bin, in s; needed with `inputs`.
    region_names : sequence of str, optional
        By default "region 1", "region 2", ...
    input_names : sequence of str, optional
        By default "input 1", "input 2", ...; the empty tuple where there are no inputs.
    confounds : array_like, shape (scans, confounds), optional
        Regressors of no interest, with a flat prior; by default a column of ones, as in SPM.
    slice_delays : array_like, shape (regions,), optional
        When each region is measured after the onset of a scan, in s, at most the repetition time;
        by default 1 s as in SPM, or the repetition time where that is shorter.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree, values are missing or infinite, a signal is constant, the inputs do not
        cover the run, names repeat, confounds depend on one another, or delays exceed the
        repetition time.

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

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        signal = check_signal(self.signal)
        repetition_time = check_repetition_time(self.repetition_time)
        n_regions = signal.shape[1]
        names = check_names("region_names", self.region_names, n_regions, "region", "signal")
        check_variation(signal, names)
        self._set("signal", signal)
        self._set("repetition_time", repetition_time)
        self._set("region_names", names)
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
    ) -> BoldData:
        """Signals with the inputs that a table of events describes.

        An event fills the microtime bins from its onset to its end, at least one; events of one
        type add where they overlap; an event of duration 0 is a stick of area 1 (height
        ``modulation / input_dt`` in one bin), as in SPM. See
        `bayesdcm.data.events.inputs_from_events`.

        Parameters
        ----------
        signal : array_like, shape (scans, regions)
            BOLD signal in percent or arbitrary units.
        repetition_time : float
            Time from scan to scan, in s.
        events : pandas.DataFrame or mapping of columns
            Columns ``onset`` and ``duration`` (s, from the onset of the first scan), optionally
            ``trial_type`` (str) and ``modulation`` (1 where absent), and no others.
        input_names : sequence of str, optional
            The inputs' order; by default that in which the types of event first appear. Without a
            column ``trial_type`` there is one input, "event" or the one name given here.
        input_dt : float, optional
            Width of a microtime bin, in s; by default ``repetition_time / 16`` as in SPM.
        region_names, confounds, slice_delays
            As for `BoldData`.

        Returns
        -------
        BoldData
            The signals with their inputs.

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
        checked = check_signal(signal)
        repetition_time = check_repetition_time(repetition_time)
        inputs, names, dt = inputs_from_events(
            events,
            checked.shape[0],
            repetition_time,
            input_names=input_names,
            input_dt=input_dt,
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
    def scale(self) -> float:
        """Factor by which SPM multiplies the centred signal: 4 / max(range, 4), at most 1.

        The range is the largest minus the smallest value over all regions, each centred.
        """
        centred = self.signal - self.signal.mean(axis=0)
        return _SCALED_RANGE / max(float(np.ptp(centred)), _SCALED_RANGE)

    @property
    def scaled_signal(self) -> NDArray[np.float64]:
        """Column-centred signal times `scale`, as SPM models it, shape (scans, regions)."""
        return (self.signal - self.signal.mean(axis=0)) * self.scale
