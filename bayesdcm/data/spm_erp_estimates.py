"""Estimates of a DCM for evoked responses as SPM stored them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_erp_layout import entries, neural_fields, read_fields, spatial_fields
from bayesdcm.data.spm_estimates import if_of_one_fit
from bayesdcm.data.spm_fields import dense, is_empty, n_columns
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
    neural: str,
    observation: str,
    sizes: tuple[int, int, int],
    n_conditions: int,
    n_times: int,
    ordered: bool,
) -> SpmErpEstimates | None:
    """Estimates in a DCM structure, or None where it was not estimated.

    Parameters
    ----------
    dcm : mapping
        The structure, by field.
    neural : {"erp", "cmc", "lfp", "nmda"}
        The neural model.
    observation : {"ecd", "img", "lfp"}
        How channels see sources.
    sizes : tuple of int
        Numbers of sources, inputs and effects.
    n_conditions, n_times : int
        Numbers of conditions and samples.
    ordered : bool
        Whether fields of structures are in MATLAB's order.

    Returns
    -------
    SpmErpEstimates or None
        None where one of the fields Ep, Cp, Eg, Cg and F is absent or empty, and, with a warning,
        where they do not have the layout of SPM12 and later.

    Warns
    -----
    UserWarning
        If estimates are present in an unknown layout.

    Examples
    --------
    >>> read_erp_estimates({"A": 1}, "erp", "lfp", (1, 1, 0), 1, 9, True) is None
    True
    """
    return if_of_one_fit(
        dcm,
        ("Ep", "Cp", "Eg", "Cg", "F"),
        lambda: _convert(dcm, neural, observation, sizes, n_conditions, n_times, ordered),
    )


def _convert(
    dcm: Mapping[str, Any],
    neural: str,
    observation: str,
    sizes: tuple[int, int, int],
    n_conditions: int,
    n_times: int,
    ordered: bool,
) -> SpmErpEstimates:
    n, n_inputs, n_effects = sizes
    shapes = neural_fields(neural, n, n_inputs, n_effects)
    spatial_shapes = spatial_fields(observation, n)
    mean = read_fields("DCM.Ep", dcm["Ep"], shapes, ordered=ordered)
    spatial_mean = read_fields("DCM.Eg", dcm["Eg"], spatial_shapes, ordered=ordered)
    parameters, spatial_parameters = entries(mean), entries(spatial_mean)
    model = dcm.get("M")
    model = model if isinstance(model, Mapping) else {}

    def prior(name: str, form: Mapping[str, Any]) -> dict[str, NDArray[np.float64]] | None:
        # Priors with covariances are full matrices, which no table of variances can hold.
        value = model.get(name)
        if not isinstance(value, Mapping):
            return None
        return read_fields(f"DCM.M.{name}", value, form, ordered=ordered)

    def series(name: str) -> NDArray[np.float64] | None:
        return _series(f"DCM.{name}", dcm.get(name), n_conditions, n_times)

    noise = dcm.get("Ce")
    square = (len(parameters),) * 2
    spatial_square = (len(spatial_parameters),) * 2
    return SpmErpEstimates(
        mean=mean,
        covariance=read_only(dense("DCM.Cp", dcm["Cp"], square)),
        parameters=parameters,
        spatial_mean=spatial_mean,
        spatial_covariance=read_only(dense("DCM.Cg", dcm["Cg"], spatial_square)),
        spatial_parameters=spatial_parameters,
        prior_mean=prior("pE", shapes),
        prior_variance=prior("pC", shapes),
        spatial_prior_mean=prior("gE", spatial_shapes),
        spatial_prior_variance=prior("gC", spatial_shapes),
        noise_covariance=None
        if is_empty(noise)
        else read_only(dense("DCM.Ce", noise, (n_times, n_times))),
        response=series("H"),
        residual=series("R"),
        states=series("x"),
        free_energy=float(dense("DCM.F", dcm["F"], ())),
    )


def _series(name: str, value: Any, n_conditions: int, n_times: int) -> NDArray[np.float64] | None:
    if is_empty(value):
        return None
    conditions = value if isinstance(value, list) else [value]
    if len(conditions) != n_conditions:
        raise ValueError(f"{name} has {len(conditions)} cells for {n_conditions} condition(s)")
    columns = n_columns(conditions[0])
    return read_only(np.stack([dense(name, entry, (n_times, columns)) for entry in conditions]))
