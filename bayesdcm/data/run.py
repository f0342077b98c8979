"""What data of one run and the design of one share: inputs, confounds, slice timing, names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold_validation import check_confounds, check_coverage, check_delays
from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.named_axes import columns_and_names, in_order
from bayesdcm.data.validation import check_names, check_order, check_positive, check_real_array

__all__ = ["Run"]


class Run(CheckedFields):
    """Base of frozen dataclasses that describe one run; they hold the fields, this what follows."""

    n_scans: int
    repetition_time: float
    inputs: NDArray[np.float64] | None
    input_dt: float | None
    region_names: tuple[str, ...] | None
    input_names: tuple[str, ...] | None
    confounds: NDArray[np.float64] | None
    slice_delays: NDArray[np.float64] | None

    def _set_timing(self) -> None:
        """Check inputs, confounds and delays and fill their defaults; the others are set."""
        self._set_inputs()
        wanted = {0: ("region_names", self.region_names or ())}
        delays = in_order("slice_delays", self.slice_delays, wanted)
        self._set(
            confounds=check_confounds(self.confounds, self.n_scans),
            slice_delays=check_delays(delays, self.n_regions, self.repetition_time),
        )

    def _set_inputs(self) -> None:
        if self.inputs is None:
            given = [
                name
                for name in ("input_dt", "input_names")
                if (value := getattr(self, name)) is not None and value != ()
            ]
            if given:
                raise ValueError(
                    f"{' and '.join(given)} came without inputs; expected both or neither. Give "
                    f"inputs, shape (microtime bins, inputs), or leave {' and '.join(given)} out."
                )
            self._set(input_names=())
            return
        given, names = columns_and_names("inputs", self.inputs, "input_names", self.input_names)
        inputs = check_real_array("inputs", given, ("microtime bins", "inputs"), allow_bool=True)
        if self.input_dt is None:
            raise ValueError(
                "input_dt is missing, but inputs came; expected the width of a microtime bin in "
                "seconds. Give input_dt, e.g. repetition_time / 16."
            )
        dt = check_positive("input_dt", self.input_dt, "seconds")
        check_coverage(inputs, dt, self.n_scans, self.n_regions, self.repetition_time)
        names = check_names("input_names", names, inputs.shape[1], "input", "inputs")
        self._set(inputs=inputs, input_dt=dt, input_names=names)

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.region_names or ())

    @property
    def n_inputs(self) -> int:
        """Number of experimental inputs; 0 where there are none."""
        return 0 if self.inputs is None else self.inputs.shape[1]

    @property
    def times(self) -> NDArray[np.float64]:
        """Onsets of the scans, in s, shape (scans,)."""
        return np.arange(self.n_scans, dtype=np.float64) * self.repetition_time

    def centred_inputs(self) -> Self:
        """Return the same run with every input centred over microtime (SPM's option "centre").

        Raises
        ------
        ValueError
            If there are no inputs.

        Examples
        --------
        >>> from bayesdcm.data import BoldDesign
        >>> design = BoldDesign(4, 1.0, [[0], [1], [1], [0]], 1.0, ["V1"])
        >>> design.centred_inputs().inputs.ravel()
        array([-0.5,  0.5,  0.5, -0.5])
        """
        if self.inputs is None:
            raise ValueError(
                "inputs is None, so there is nothing to centre; expected data with inputs. "
                f"Construct {type(self).__name__} with inputs and input_dt."
            )
        return self.replace(inputs=self.inputs - self.inputs.mean(axis=0))

    def reordered(
        self,
        region_names: Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
    ) -> Self:
        """Return the same run with its regions, or its inputs, in another order.

        Signals, slice delays and inputs move with their names.

        Parameters
        ----------
        region_names, input_names : sequence of str, optional
            All names in the order that is wanted; None leaves the order as it is.

        Raises
        ------
        ValueError
            If the names are not those of the run.

        Examples
        --------
        >>> from bayesdcm.data import BoldDesign
        >>> design = BoldDesign(2, 1.0, [[0, 1], [2, 3]], 1.0, ["V1"], ["face", "house"])
        >>> design.reordered(input_names=["house", "face"]).inputs.tolist()
        [[1.0, 0.0], [3.0, 2.0]]
        """
        changes: dict[str, Any] = {}
        if region_names is not None:
            order = check_order("region_names", region_names, self.region_names or ())
            changes["region_names"] = [self.region_names[i] for i in order]  # type: ignore[index]
            changes["slice_delays"] = self.slice_delays[order]  # type: ignore[index]
            if hasattr(self, "signal"):
                changes["signal"] = self.signal[:, order]
        if input_names is not None:
            order = check_order("input_names", input_names, self.input_names or ())
            changes["input_names"] = [self.input_names[i] for i in order]  # type: ignore[index]
            if self.inputs is not None:
                changes["inputs"] = self.inputs[:, order]
        return self.replace(**changes)

    def _describe(self) -> dict[str, str]:
        duration = self.n_scans * self.repetition_time
        inputs = "none"
        if self.inputs is not None:
            inputs = f"{', '.join(self.input_names or ())}; bins of {self.input_dt:g} s"
        return {
            "Regions": ", ".join(self.region_names or ()),
            "Scans": f"{self.n_scans}, every {self.repetition_time:g} s ({duration:g} s)",
            "Inputs": inputs,
            "Confounds": str(self.confounds.shape[1]),  # type: ignore[union-attr]
            "Slice delays": ", ".join(f"{d:g}" for d in self.slice_delays) + " s",  # type: ignore[union-attr]
        }

    def __repr__(self) -> str:
        """One line: sizes, names and times."""
        inputs = "no inputs"
        if self.inputs is not None:
            inputs = f"inputs {', '.join(self.input_names or ())} in bins of {self.input_dt:g} s"
        k = self.confounds.shape[1]  # type: ignore[union-attr]
        regions = f"{self.n_regions} region{'s' * (self.n_regions > 1)}"
        return (
            f"{type(self).__name__}({self.n_scans} scans x {regions} "
            f"({', '.join(self.region_names or ())}), repetition time {self.repetition_time:g} s, "
            f"{inputs}, {k} confound{'s' * (k > 1)})"
        )
