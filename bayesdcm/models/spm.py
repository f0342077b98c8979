"""Model, data and estimates from one SPM file of a DCM for task fMRI."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bayesdcm.data.bold import BoldData
from bayesdcm.data.spm import read_spm_file
from bayesdcm.data.spm_estimates import SpmEstimates
from bayesdcm.models.task import TaskDCM

__all__ = ["SpmDCM", "SpmEstimates", "read_spm_dcm"]


@dataclass(frozen=True, eq=False)
class SpmDCM:
    """What an SPM file of a DCM for task fMRI holds.

    Attributes
    ----------
    model : TaskDCM
        The model, integrated as SPM does it (``integrator="bilinear"``).
    data : BoldData
        Signals, inputs, confounds and slice delays, in s.
    estimates : SpmEstimates or None
        Posterior means, covariance and free energy as SPM stored them; None where the model was
        not estimated.
    """

    model: TaskDCM
    data: BoldData
    estimates: SpmEstimates | None = None


def read_spm_dcm(path: str | os.PathLike[str]) -> SpmDCM:
    """Return the model, the data and SPM's estimates in a DCM_*.mat file.

    The model is the file's: its switches, two-state option, centring of inputs, slice delays and
    confounds. It comes with SPM's own integrator, ``"bilinear"``, so that estimates compare; for
    the published equations construct `TaskDCM` with the same switches and
    ``integrator="nonlinear"``.

    Parameters
    ----------
    path : str or path-like
        MATLAB file of version 5 (to 7) or 7.3 that SPM wrote for a DCM of task fMRI.

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
        modality or of a kind that `TaskDCM` does not cover.

    Warns
    -----
    UserWarning
        If the model is nonlinear (D), since SPM's integrator is not accurate then; if SPM used a
        prior that depends on data (over eight regions) or settings for the noise that are not its
        defaults; or if its estimates are laid out in an unknown way.

    References
    ----------
    .. [1] Friston, K. J., Harrison, L., Penny, W. (2003). Dynamic causal modelling. NeuroImage 19,
       1273-1302. https://doi.org/10.1016/S1053-8119(03)00202-7

    Examples
    --------
    >>> read_spm_dcm("DCM_absent.mat")
    Traceback (most recent call last):
    FileNotFoundError: path: there is no file 'DCM_absent.mat'. Check the folder and the name.
    """
    file = read_spm_file(path)
    model = TaskDCM(file.A, file.B, file.C, file.D, two_state=file.two_state, integrator="bilinear")
    return SpmDCM(model=model, data=file.data, estimates=file.estimates)
