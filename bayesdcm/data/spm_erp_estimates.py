"""Estimates of a DCM for evoked responses as SPM stored them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.spm_erp_layout import Shapes, entries, read_fields
from bayesdcm.data.spm_estimates import if_of_one_fit
from bayesdcm.data.spm_fields import dense, is_empty, nested
from bayesdcm.data.validation import read_only

__all__ = ["SpmErpEstimates", "read_erp_estimates"]

Index = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class SpmErpEstimates:
    """Posterior of a DCM for evoked responses as SPM's variational Laplace left it.

    Arrays are by SPM's symbol. Cell arrays (``A``, ``B``, ``N``) have their cells along the first
    axis, rows are vectors, and connections are (to, from).

    Attributes
    ----------
    mean : dict of ndarray
        Posterior means of the neural parameters, in SPM's parameterisation: ``A`` (kind, to, from),
        ``B`` (effect, to, from), ``C`` (to, input), ``R`` (input, 2), and the neural model's own.
    covariance : ndarray, shape (parameters, parameters)
        Posterior covariance of all neural parameters, fixed ones included, in SPM's order.
    parameters : tuple of (str, tuple of int)
        Which entry each row of `covariance` belongs to: ``mean[symbol][index]``.
    spatial_mean : dict of ndarray
        Posterior means of the observation: ``Lpos`` (3, sources) in mm, ``L`` (axes or modes,
        sources) or (channels,), ``J`` (states,).
    spatial_covariance : ndarray, shape (spatial parameters, spatial parameters)
        Their posterior covariance.
    spatial_parameters : tuple of (str, tuple of int)
        Which entry each row of `spatial_covariance` belongs to.
    prior_mean, prior_variance, spatial_prior_mean, spatial_prior_variance : dict or None
        Priors, as the means; None where the file has none of this form.
    noise_covariance : ndarray, shape (times, times), or None
        Covariance of the noise over time, in squared units of the scaled data.
    response, residual : ndarray, shape (conditions, times, modes), or None
        Predicted responses in channel modes, and what they leave of the scaled data.
    states : ndarray, shape (conditions, times, states * sources), or None
        Trajectories of the states; sources vary fastest.
    free_energy : float
        Negative variational free energy, SPM's approximation to the log evidence, in nats.
    """

    mean: dict[str, NDArray[np.float64]]
    covariance: NDArray[np.float64]
    parameters: tuple[Index, ...]
    spatial_mean: dict[str, NDArray[np.float64]]
    spatial_covariance: NDArray[np.float64]
    spatial_parameters: tuple[Index, ...]
    prior_mean: dict[str, NDArray[np.float64]] | None
    prior_variance: dict[str, NDArray[np.float64]] | None
    spatial_prior_mean: dict[str, NDArray[np.float64]] | None
    spatial_prior_variance: dict[str, NDArray[np.float64]] | None
    noise_covariance: NDArray[np.float64] | None
    response: NDArray[np.float64] | None
    residual: NDArray[np.float64] | None
    states: NDArray[np.float64] | None
    free_energy: float

    def __repr__(self) -> str:
        """One line: free energy and the number of free parameters."""
        free = np.count_nonzero(np.diag(self.covariance) > 0)
        spatial = np.count_nonzero(np.diag(self.spatial_covariance) > 0)
        return (
            f"SpmErpEstimates(free energy {self.free_energy:.2f} nats, {free} free neural and "
            f"{spatial} spatial parameters)"
        )


def read_erp_estimates(
    dcm: Mapping[str, Any],
    neural_shapes: Shapes,
    spatial_shapes: Shapes,
    data: EvokedData,
    ordered: bool,
) -> SpmErpEstimates | None:
    """The estimates in a DCM structure; None where there are none, as `if_of_one_fit`.

    `ordered` says whether fields of structures are in MATLAB's order.
    """

    def prior(name: str, shapes: Shapes) -> dict[str, NDArray[np.float64]] | None:
        # Priors with covariances are full matrices, which no table of variances can hold.
        value = nested(dcm, "M", name)
        if not isinstance(value, Mapping):
            return None
        return read_fields(f"DCM.M.{name}", value, shapes, ordered=ordered)

    def covariance(name: str, size: int) -> NDArray[np.float64]:
        return read_only(dense(f"DCM.{name}", dcm[name], (size, size)))

    def series(name: str) -> NDArray[np.float64] | None:
        value = dcm.get(name)
        if is_empty(value):
            return None
        conditions = value if isinstance(value, list) else [value]
        if len(conditions) != data.n_conditions:
            raise ValueError(
                f"DCM.{name} has {len(conditions)} cells for {data.n_conditions} condition(s)"
            )
        shape = (data.n_times, None)
        return read_only(np.stack([dense(f"DCM.{name}", entry, shape) for entry in conditions]))

    def convert() -> SpmErpEstimates:
        mean = read_fields("DCM.Ep", dcm["Ep"], neural_shapes, ordered=ordered)
        spatial_mean = read_fields("DCM.Eg", dcm["Eg"], spatial_shapes, ordered=ordered)
        parameters, spatial_parameters = entries(mean), entries(spatial_mean)
        return SpmErpEstimates(
            mean=mean,
            covariance=covariance("Cp", len(parameters)),
            parameters=parameters,
            spatial_mean=spatial_mean,
            spatial_covariance=covariance("Cg", len(spatial_parameters)),
            spatial_parameters=spatial_parameters,
            prior_mean=prior("pE", neural_shapes),
            prior_variance=prior("pC", neural_shapes),
            spatial_prior_mean=prior("gE", spatial_shapes),
            spatial_prior_variance=prior("gC", spatial_shapes),
            noise_covariance=None if is_empty(dcm.get("Ce")) else covariance("Ce", data.n_times),
            response=series("H"),
            residual=series("R"),
            states=series("x"),
            free_energy=float(dense("DCM.F", dcm["F"], ())),
        )

    return if_of_one_fit(dcm, ("Ep", "Cp", "Eg", "Cg", "F"), convert)
