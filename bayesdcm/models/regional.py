"""Names that the results of a model of regions carry: labels, axes, coordinates, units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.models.base import Model


class RegionalModel(Model):
    """What results need of a model of BOLD signals beside its program.

    Subclasses give `priors`; the observed site is the signal, (time, region).
    """

    def names(self, data: BoldData) -> dict[str, list[str]]:
        """Names along each kind of axis: regions, inputs.

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        regions = list(data.region_names)
        along = dict.fromkeys(("region", "to", "from", "gating"), regions)
        return along | {"input": list(data.input_names)}

    def precision_labels(self, data: BoldData) -> list[str]:
        """Labels of the log-precisions, one a region.

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        return [f"log_precision[{name}]" for name in data.region_names]

    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the axes of every site that results hold."""
        table = {prior.name: prior.dims for prior in self.priors}
        return table | {
            "log_precision": ("region",),
            "effective_connectivity": ("to", "from"),
            "modulated_connectivity": ("input", "to", "from"),
            "input_effect": ("to", "input"),
            "transit_time": ("region",),
            "decay_rate": (),
            self.observed_site: ("time", "region"),
            "inputs": ("microtime", "input"),
            "confounds": ("time", "confound"),
        }

    def coords(self, data: BoldData) -> dict[str, NDArray]:
        """Coordinates of the axes: names, and scan onsets in s.

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        names = {name: np.asarray(values) for name, values in self.names(data).items()}
        microtime = np.arange(len(data.inputs)) * data.input_dt
        return names | {"time": np.asarray(data.times), "microtime": microtime}

    def constants(self, data: BoldData) -> dict[str, NDArray]:
        """Constants of a data set that results hold: inputs, confounds, scale.

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        return {
            "inputs": np.asarray(data.inputs),
            "confounds": np.asarray(data.confounds),
            "scale": np.asarray(data.scale),
        }

    def restore(self, scaled: NDArray, data: BoldData) -> NDArray:
        """From the scaled, centred signal that is modelled to the units of the data.

        Parameters
        ----------
        scaled : ndarray
            Signal as modelled, shape (..., scans, regions).
        data : BoldData
            The data set.

        Returns
        -------
        ndarray
            In the shape of `scaled`.
        """
        return scaled / data.scale + np.asarray(data.signal).mean(axis=0)

    def arrange(self, values: NDArray, data: BoldData) -> NDArray:
        """From the axes of what is modelled to those of results, which are the same.

        Parameters
        ----------
        values : ndarray
            Shape (..., scans, regions).
        data : BoldData
            The data set; not used.

        Returns
        -------
        ndarray
            `values`.
        """
        del data
        return values
