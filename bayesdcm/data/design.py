"""The design of one BOLD run to simulate: everything of `BoldData` but the signal."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold_validation import check_repetition_time
from bayesdcm.data.events import inputs_from_events
from bayesdcm.data.run import Run
from bayesdcm.data.validation import check_names, describe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BoldDesign"]


@dataclass(frozen=True, eq=False, repr=False)
class BoldDesign(Run):
    """Inputs, timing and names of a run to simulate, checked on construction, in SI units.

    Models take it in place of `BoldData` where they need no signal: ``model.predict(parameters,
    design)`` and ``model.simulate(parameters, design, seed)``.

    Parameters
    ----------
    n_scans : int
        Number of scans, at least 2.
    repetition_time : float
        Time from scan to scan, in s.
    inputs : array_like, shape (microtime bins, inputs)
        Experimental inputs over the whole run; None for a run without an experiment.
    input_dt : float
        Width of a microtime bin, in s; None where there are no inputs.
    region_names : sequence of str
        Names of the regions, as many as the model has.
    input_names : sequence of str, optional
        By default "input 1", "input 2", ...; the empty tuple where there are no inputs.
    confounds : array_like, shape (scans, confounds), optional
        Regressors of no interest, as in `BoldData`, which adds a column of ones where it is missing.
    slice_delays : array_like, shape (regions,), optional
        When each region is measured after the onset of a scan, in s, as in `BoldData`; by default
        1 s, or the repetition time where that is shorter.

    Raises
    ------
    TypeError, ValueError
        As for `BoldData`, and where `n_scans` is not a whole number above 1.

    See Also
    --------
    BoldData : the same with a signal.

    Examples
    --------
    >>> BoldDesign(4, 2.0, np.ones((8, 1)), 1.0, ["V1", "V5"], ["motion"])
    BoldDesign(4 scans x 2 regions (V1, V5), repetition time 2 s, inputs motion in bins of 1 s, 1 confound)
    """  # noqa: E501

    n_scans: int
    repetition_time: float
    inputs: NDArray[np.float64] | None
    input_dt: float | None
    region_names: tuple[str, ...]
    input_names: tuple[str, ...] | None = None
    confounds: NDArray[np.float64] | None = None
    slice_delays: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        self._set(
            n_scans=_check_n_scans(self.n_scans),
            repetition_time=check_repetition_time(self.repetition_time),
            region_names=_check_region_names(self.region_names),
        )
        self._set_timing()

    @classmethod
    def from_events(
        cls,
        n_scans: int,
        repetition_time: float,
        events: pd.DataFrame | Mapping[str, Sequence[Any]],
        region_names: Sequence[str],
        *,
        input_names: Sequence[str] | None = None,
        input_dt: float | None = None,
        confounds: ArrayLike | None = None,
        slice_delays: ArrayLike | None = None,
    ) -> BoldDesign:
        """Return a design with the inputs that a table of events describes.

        Parameters
        ----------
        n_scans, repetition_time
            As for `BoldDesign`.
        events : pandas.DataFrame or mapping of columns
            As for `BoldData.from_events`.
        region_names : sequence of str
            Names of the regions.
        input_names, input_dt
            As for `BoldData.from_events`.
        confounds, slice_delays
            As for `BoldDesign`.

        Raises
        ------
        TypeError, ValueError
            As for `BoldDesign`, and where the table is not as described.

        Examples
        --------
        >>> table = {"onset": [10.0], "duration": [20.0], "trial_type": ["face"]}
        >>> BoldDesign.from_events(100, 2.0, table, ["FFA"]).inputs.shape
        (1600, 1)
        """
        n_scans = _check_n_scans(n_scans)
        repetition_time = check_repetition_time(repetition_time)
        inputs, names, dt = inputs_from_events(
            events, n_scans, repetition_time, input_names=input_names, input_dt=input_dt
        )
        return cls(
            n_scans,
            repetition_time,
            inputs,
            dt,
            region_names,  # type: ignore[arg-type]
            input_names=names,
            confounds=confounds,  # type: ignore[arg-type]
            slice_delays=slice_delays,  # type: ignore[arg-type]
        )


def _check_n_scans(value: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(
            f"n_scans must be a whole number of scans, got {describe(value)}. Give an int, e.g. "
            "200."
        )
    number = operator.index(value)
    if number < 2:
        raise ValueError(
            f"n_scans must be at least 2, got {number}; expected the scans of a time series."
        )
    return number


def _check_region_names(value: Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(
            f"region_names must be a list of strings, got {describe(value)}. Give one name for "
            "each region of the model."
        )
    names = list(value)
    if not names:
        raise ValueError(
            "region_names is empty; expected one name for each region of the model. Give e.g. "
            "['V1', 'V5']."
        )
    return check_names("region_names", names, len(names), "region", "the design")
