"""BOLD time series of one run with its experimental inputs, confounds and slice timing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold_validation import (
    check_confounds,
    check_coverage,
    check_delays,
    check_repetition_time,
    check_signal,
    check_variation,
)
from bayesdcm.data.events import inputs_from_events
from bayesdcm.data.validation import check_names, check_positive, check_real_array

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BoldData"]

# SPM scales signals down to this range, in percent, where theirs is larger (spm_dcm_estimate).
_SCALED_RANGE = 4.0


@dataclass(frozen=True, eq=False, repr=False)
class BoldData:
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
        n_scans, n_regions = signal.shape
        names = check_names("region_names", self.region_names, n_regions, "region", "signal")
        check_variation(signal, names)
        self._set("signal", signal)
        self._set("repetition_time", repetition_time)
        self._set("region_names", names)
        self._set_inputs()
        self._set("confounds", check_confounds(self.confounds, n_scans))
        self._set("slice_delays", check_delays(self.slice_delays, n_regions, repetition_time))

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    def _set_inputs(self) -> None:
        if self.inputs is None:
            given = [name for name in ("input_dt", "input_names") if _is_given(self, name)]
            if given:
                raise ValueError(
                    f"{' and '.join(given)} came without inputs; expected both or neither. Give "
                    f"inputs, shape (microtime bins, inputs), or leave {' and '.join(given)} out."
                )
            self._set("input_names", ())
            return
        axes = ("microtime bins", "inputs")
        inputs = check_real_array("inputs", self.inputs, axes, allow_bool=True)
        if self.input_dt is None:
            raise ValueError(
                "input_dt is missing, but inputs came; expected the width of a microtime bin in "
                "seconds. Give input_dt, e.g. repetition_time / 16."
            )
        dt = check_positive("input_dt", self.input_dt, "seconds")
        check_coverage(inputs, dt, self.signal, self.repetition_time)
        names = check_names("input_names", self.input_names, inputs.shape[1], "input", "inputs")
        self._set("inputs", inputs)
        self._set("input_dt", dt)
        self._set("input_names", names)

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
    def n_inputs(self) -> int:
        """Number of experimental inputs; 0 where there are none."""
        return 0 if self.inputs is None else self.inputs.shape[1]

    @property
    def times(self) -> NDArray[np.float64]:
        """Onsets of the scans, in s, shape (scans,)."""
        return np.arange(self.n_scans) * self.repetition_time

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

    def centred_inputs(self) -> BoldData:
        """Return the same data with every input centred over microtime (SPM's option "centre").

        Returns
        -------
        BoldData
            A copy with centred inputs.

        Raises
        ------
        ValueError
            If there are no inputs.

        Examples
        --------
        >>> signal = np.random.default_rng(0).normal(size=(4, 1))
        >>> data = BoldData(signal, 1.0, inputs=[[0], [1], [1], [0]], input_dt=1.0)
        >>> data.centred_inputs().inputs.ravel()
        array([-0.5,  0.5,  0.5, -0.5])
        """
        if self.inputs is None:
            raise ValueError(
                "inputs is None, so there is nothing to centre; expected data with inputs. "
                "Construct BoldData with inputs and input_dt."
            )
        return self.replace(inputs=self.inputs - self.inputs.mean(axis=0))

    def replace(self, **changes: Any) -> BoldData:
        """Return the same data with some fields replaced, checked anew.

        Parameters
        ----------
        **changes
            Fields of `BoldData` and their new values; None asks for the default.

        Returns
        -------
        BoldData
            A new object.

        Raises
        ------
        TypeError
            If a field does not exist.
        ValueError
            If the fields no longer agree with one another.

        Examples
        --------
        >>> data = BoldData(np.random.default_rng(0).normal(size=(4, 1)), 1.0)
        >>> data.replace(region_names=["V1"]).region_names
        ('V1',)
        """
        fields = [field.name for field in dataclasses.fields(self)]
        unknown = [name for name in changes if name not in fields]
        if unknown:
            raise TypeError(
                f"replace got unknown field(s) {unknown}; BoldData has {fields}. Check the names."
            )
        return dataclasses.replace(self, **changes)

    def _describe(self) -> list[tuple[str, str]]:
        duration = self.n_scans * self.repetition_time
        inputs = "none"
        if self.inputs is not None:
            inputs = f"{', '.join(self.input_names or ())}; bins of {self.input_dt:g} s"
        return [
            ("Regions", ", ".join(self.region_names or ())),
            ("Scans", f"{self.n_scans}, every {self.repetition_time:g} s ({duration:g} s)"),
            ("Inputs", inputs),
            ("Confounds", str(self.confounds.shape[1])),  # type: ignore[union-attr]
            ("Slice delays", ", ".join(f"{d:g}" for d in self.slice_delays) + " s"),  # type: ignore[union-attr]
        ]

    def __repr__(self) -> str:
        """One line: sizes, names and times."""
        inputs = "no inputs"
        if self.inputs is not None:
            inputs = f"inputs {', '.join(self.input_names or ())} in bins of {self.input_dt:g} s"
        k = self.confounds.shape[1]  # type: ignore[union-attr]
        regions = f"{self.n_regions} region{'s' * (self.n_regions > 1)}"
        return (
            f"BoldData({self.n_scans} scans x {regions} ({', '.join(self.region_names or ())}), "
            f"repetition time {self.repetition_time:g} s, {inputs}, {k} confound{'s' * (k > 1)})"
        )

    def _repr_html_(self) -> str:
        """Table for notebooks."""
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>"
            for key, value in self._describe()
        )
        return f"<table><caption>BoldData</caption>{rows}</table>"


def _is_given(data: BoldData, name: str) -> bool:
    value = getattr(data, name)
    return value is not None and not (name == "input_names" and value == ())
