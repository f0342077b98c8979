"""Model, data and estimates from one SPM file of a DCM, for task fMRI or evoked responses."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.spm_erp import SpmErpFile
from bayesdcm.data.spm_erp_estimates import SpmErpEstimates
from bayesdcm.data.spm_estimates import SpmEstimates
from bayesdcm.data.spm_modality import read_spm_model_file
from bayesdcm.models.evoked import EvokedDCM
from bayesdcm.models.task import TaskDCM

__all__ = ["SpmDCM", "SpmErpEstimates", "SpmEstimates", "read_spm_dcm"]


@dataclass(frozen=True, eq=False)
class SpmDCM:
    """What an SPM file of a DCM holds.

    Attributes
    ----------
    model : TaskDCM or EvokedDCM
        The model, integrated as SPM does it (``integrator="bilinear"`` for fMRI; one-sided
        Jacobians for evoked responses).
    data : BoldData or EvokedData
        For fMRI signals, inputs, confounds and slice delays, in s. For evoked responses the
        data as stored, in SPM's units.
    estimates : SpmEstimates, SpmErpEstimates or None
        Posterior means, covariance and free energy as SPM stored them; None where the model was
        not estimated.
    """

    model: TaskDCM | EvokedDCM
    data: BoldData | EvokedData
    estimates: SpmEstimates | SpmErpEstimates | None = None

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """SPM's posterior means as full arrays under the model's names, for `predict`.

        Spatial parameters are left out where the model's observation is not the file's.

        Raises
        ------
        ValueError
            If the file holds no estimates.
        """
        if self.estimates is None:
            raise ValueError("the file holds no estimates: SPM had not inverted the model")
        if isinstance(self.estimates, SpmEstimates):
            return {name: np.asarray(value) for name, value in self.estimates.mean.items()}
        found = {}
        stored = self.estimates.mean | self.estimates.spatial_mean
        for prior in self.model.priors:
            value = np.asarray(stored.get(prior.symbol, np.zeros(0)))
            if prior.symbol in ("L", "Lpos") and value.ndim == 2:
                value = value.T
            if value.size == np.size(prior.mean):
                found[prior.name] = value.reshape(np.shape(prior.mean))
        return found


def read_spm_dcm(path: str | os.PathLike[str], lead_field: ArrayLike | None = None) -> SpmDCM:
    """Return the model, the data and SPM's estimates in a DCM_*.mat file.

    The model is the file's, with SPM's own numerics, so that estimates compare: for task fMRI
    the integrator is ``"bilinear"`` (for the published equations construct `TaskDCM` with the
    same switches and ``integrator="nonlinear"``); for evoked responses Jacobians are one-sided
    differences, and ``bayesdcm.fit(..., derivatives="one_sided")`` takes SPM's steps exactly.

    Parameters
    ----------
    path : str or path-like
        MATLAB file of version 5 (to 7) or 7.3 that SPM wrote for a DCM of task fMRI or of evoked
        responses.
    lead_field : array_like, optional
        For evoked responses; needed where the file's observation is dipoles or patches, since
        SPM keeps lead fields elsewhere. A pattern for each source, shape (channel, source) or,
        in the channel modes of the file, (mode, source): the model then has a free gain for each
        source (``observation="fixed"``). Or the lead field of dipoles along x, y and z, shape
        (source, channel, 3), or of patch modes, shape (source, channel, patch mode): the
        observation is then the file's.

    Returns
    -------
    SpmDCM
        Model, data and estimates.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `path` is not a path.
    ValueError
        If the file is damaged, is not a MATLAB file, does not hold a DCM, or holds one for another
        modality or of a kind that this package does not cover; or a lead field is missing, does
        not fit, or is given for fMRI.

    Warns
    -----
    UserWarning
        If the model is nonlinear (D), since SPM's integrator is not accurate then; if SPM used a
        prior that depends on data (over eight regions) or settings that are not its defaults and
        that this package does not have; or if its estimates are laid out in an unknown way.

    References
    ----------
    .. [1] Friston, K. J., Harrison, L., Penny, W. (2003). Dynamic causal modelling. NeuroImage 19,
       1273-1302. https://doi.org/10.1016/S1053-8119(03)00202-7
    .. [2] David et al. (2006), NeuroImage 30:1255.
       https://doi.org/10.1016/j.neuroimage.2005.10.045

    Examples
    --------
    >>> read_spm_dcm("DCM_absent.mat")
    Traceback (most recent call last):
    FileNotFoundError: path: there is no file 'DCM_absent.mat'. Check the folder and the name.
    """
    file = read_spm_model_file(path)
    if isinstance(file, SpmErpFile):
        model = EvokedDCM(**_evoked_keywords(file, lead_field), one_sided=True)
        return SpmDCM(model=model, data=file.data, estimates=file.estimates)
    if lead_field is not None:
        raise ValueError(
            "lead_field was given, but the file holds a DCM for task fMRI; leave it out"
        )
    model = TaskDCM(file.A, file.B, file.C, file.D, two_state=file.two_state, integrator="bilinear")
    return SpmDCM(model=model, data=file.data, estimates=file.estimates)


def _evoked_keywords(file: SpmErpFile, lead_field: ArrayLike | None) -> dict:
    keywords = file.keywords
    if lead_field is None:
        if file.observation != "lfp":
            raise ValueError(
                f"lead_field is None, but the file's observation is {file.observation!r} and SPM "
                "keeps lead fields elsewhere; give one as a matrix with axes (channel, source), "
                "or (source, channel, 3) for dipoles"
            )
        return keywords
    try:
        lead = np.asarray(lead_field, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"lead_field must be an array of numbers, got {lead_field!r}") from error
    if lead.ndim == 3:
        return keywords | {"lead_field": lead}
    modes = file.modes
    if lead.ndim == 2 and modes is not None and len(lead) == modes.shape[1] != len(modes):
        # The smallest field over channels that the modes see as the given one.
        lead = np.linalg.pinv(modes).T @ lead
    fixed = {"observation": "fixed", "lead_field": lead, "position_variance": 0.0}
    return keywords | fixed
