"""Names that the results of a model of regions carry: labels, axes, coordinates, units."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.bold_validation import LARGEST_RANGE
from bayesdcm.data.validation import warn_caller
from bayesdcm.models.base import Model
from bayesdcm.observe.gaussian import ConfoundBasis, confound_basis


class RegionalModel(Model):
    """What results need of a model of BOLD signals beside its program.

    Subclasses give `own_priors`; the observed site is the signal, (time, region).
    """

    n_regions: int
    n_inputs: int

    @property
    @abstractmethod
    def _as_spm(self) -> bool:
        """Whether scaling, noise prior and confounds are SPM's, as the integrator is."""

    @property
    def searches(self) -> bool:
        """Whether variational Laplace looks further where it finds a poor optimum."""
        return not self._as_spm

    def scale(self, data: BoldData) -> float:
        """Factor from the centred signal of a data set to the one that is modelled.

        Parameters
        ----------
        data : BoldData
            The data set.

        Returns
        -------
        float
            1, or 100 where the signal is in fractions of 1; SPM's with its integrator.
        """
        return data.scale if self._as_spm else data.percent

    def confound_basis(self, data: BoldData) -> ConfoundBasis:
        """Confounds as the likelihood takes them.

        Parameters
        ----------
        data : BoldData
            The data set.

        Returns
        -------
        ConfoundBasis
            Orthonormal columns, and their singular values: those of the confounds with SPM's
            integrator, else the root of the number of scans, so that neither units nor
            correlations of confounds matter.
        """
        if self._as_spm:
            return confound_basis(data.confounds, data.n_scans)
        basis, _ = confound_basis(data.confounds / np.abs(data.confounds).max(0), data.n_scans)
        return ConfoundBasis(basis, np.full(basis.shape[1], np.sqrt(data.n_scans)))

    def modelled_signal(self, data: BoldData) -> NDArray:
        """Signal as it is modelled: centred, times `scale`, shape (scans, regions).

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        scaled = (data.signal - data.signal.mean(axis=0)) * self.scale(data)
        if data.unit == "arbitrary" and np.ptp(scaled) > LARGEST_RANGE:
            warn_caller(
                f"data.signal in unit='arbitrary' varies by more than {LARGEST_RANGE:g}, which no "
                "BOLD response in percent does, and the model predicts percent; convert it by "
                "to_percent()"
            )
        return scaled

    def names(self, data: BoldData | None = None) -> dict[str, list[str]]:
        """Names along each kind of axis: regions, inputs.

        Parameters
        ----------
        data : BoldData, optional
            The data set; None for names such as "region 1".
        """
        if data is None:
            regions = [f"region {i + 1}" for i in range(self.n_regions)]
            inputs = [f"input {i + 1}" for i in range(self.n_inputs)]
        else:
            regions, inputs = list(data.region_names), list(data.input_names)
        along = dict.fromkeys(("region", "to", "from", "gating"), regions)
        return along | {"input": inputs}

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
            "modelled_confounds": ("time", "modelled_confound"),
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
        """Constants of a data set that results hold.

        ``inputs`` and ``confounds`` as given; ``modelled_confounds``, those of the likelihood;
        ``scale``, by what the signal was multiplied for the fit.

        Parameters
        ----------
        data : BoldData
            The data set.
        """
        basis, scale = self.confound_basis(data)
        return {
            "inputs": np.asarray(data.inputs),
            "confounds": np.asarray(data.confounds),
            "modelled_confounds": np.asarray(basis) * np.asarray(scale),
            "scale": np.asarray(self.scale(data)),
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
        return scaled / self.scale(data) + np.asarray(data.signal).mean(axis=0)

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
