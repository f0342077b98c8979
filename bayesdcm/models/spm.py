"""Model, data and estimates from one SPM file of a DCM, for task fMRI or evoked responses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.named_axes import in_order
from bayesdcm.data.spectral import SpectralData
from bayesdcm.data.spm_erp import SpmErpFile
from bayesdcm.data.spm_erp_estimates import SpmErpEstimates
from bayesdcm.data.spm_estimates import SpmEstimates
from bayesdcm.data.spm_modality import AnyFile, read_spm_model_file
from bayesdcm.data.spm_priors import Moments
from bayesdcm.data.spm_spectral import SpmSpectralEstimates, SpmSpectralFile
from bayesdcm.data.validation import warn_caller
from bayesdcm.models.cross_spectral import CrossSpectralDCM
from bayesdcm.models.evoked import EvokedDCM
from bayesdcm.models.priors import entry_labels
from bayesdcm.models.spectral import SpectralDCM
from bayesdcm.models.task import TaskDCM
from bayesdcm.neural import Prior, nmda

Model = TypeVar("Model", TaskDCM, EvokedDCM, SpectralDCM, CrossSpectralDCM)

__all__ = [
    "SpmDCM",
    "SpmErpEstimates",
    "SpmEstimates",
    "SpmSpectralEstimates",
    "assembled",
    "read_spm_dcm",
]


@dataclass(frozen=True, eq=False)
class SpmDCM:
    """What an SPM file of a DCM holds.

    Attributes
    ----------
    model : TaskDCM, EvokedDCM, SpectralDCM or CrossSpectralDCM
        The model, integrated as SPM does it (``integrator="bilinear"`` for fMRI; one-sided
        Jacobians for evoked responses; ``likelihood="spm"`` for cross-spectra).
    data : BoldData, EvokedData or SpectralData
        For fMRI signals, inputs, confounds and slice delays, in s. For evoked responses and
        cross-spectra the data as stored, in SPM's units.
    estimates : SpmEstimates, SpmErpEstimates, SpmSpectralEstimates or None
        Posterior means, covariance and free energy as SPM stored them; None where the model was
        not estimated.
    """

    model: TaskDCM | EvokedDCM | SpectralDCM | CrossSpectralDCM
    data: BoldData | EvokedData | SpectralData
    estimates: SpmEstimates | SpmErpEstimates | SpmSpectralEstimates | None = None
    # As fits have it, so that `compare_posteriors` takes the file beside them.
    method: ClassVar[str] = "spm"

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
        stored = {key: value for mean, _, _ in self._groups() for key, value in mean.items()}
        values = {
            prior.name: _in_shape(prior, stored.get(_symbol(prior))) for prior in self.model.priors
        }
        return {name: value for name, value in values.items() if value is not None}

    def summary(self) -> pd.DataFrame:
        """SPM's posterior under the labels of fits, to be compared with one.

        ``compare_posteriors({"laplace": fit, "SPM": read_spm_dcm(path)})`` is the table.

        Returns
        -------
        pandas.DataFrame
            Index: labels such as ``A[V5, V1]``; columns ``mean`` and ``sd``. Entries that SPM did
            not estimate are left out.

        Raises
        ------
        ValueError
            If the file holds no estimates.
        """
        means, names, rows = self.parameters, self.model.names(self.data), {}
        for prior in self.model.priors:
            labels = entry_labels(prior, names)
            sd = self._sd(prior, labels)
            if prior.name in means and sd is not None:
                mean = means[prior.name][prior.free]
                rows |= {each: pair for each, *pair in zip(labels, mean, sd, strict=True)}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "sd"])
        return table[table["sd"] > 0]

    def _groups(self) -> list[tuple[dict, tuple, NDArray[np.float64]]]:
        """Means by symbol, entries and covariance of each group that SPM estimated together."""
        estimates = self.estimates
        groups = [(estimates.mean, estimates.parameters, estimates.covariance)]
        if isinstance(estimates, SpmErpEstimates):
            spatial = estimates.spatial_parameters, estimates.spatial_covariance
            groups.append((estimates.spatial_mean, *spatial))
        return groups

    def _sd(self, prior: Prior, labels: list[str]) -> NDArray[np.float64] | None:
        """Standard deviations of the free entries; None where the file has other entries."""
        estimates = self.estimates
        if isinstance(estimates, SpmEstimates):
            covariance = estimates.covariance
            variance = dict(zip(covariance.index, np.diag(covariance), strict=True))
            return np.sqrt([max(variance.get(label, 0.0), 0.0) for label in labels])
        for mean, entries, covariance in self._groups():
            if _symbol(prior) not in mean:
                continue
            sd = np.zeros(mean[_symbol(prior)].shape)
            for (symbol, index), variance in zip(entries, np.diag(covariance), strict=True):
                if symbol == _symbol(prior):
                    sd[index] = np.sqrt(max(variance, 0.0))
            full = _in_shape(prior, sd)
            return None if full is None else full[prior.free]
        return None


def read_spm_dcm(path: str | os.PathLike[str], lead_field: ArrayLike | None = None) -> SpmDCM:
    """Return the model, the data and SPM's estimates in a DCM_*.mat file.

    The model is the file's, with the priors in it (``DCM.M`` or ``DCM.options``: pE, pC, hE, hC,
    and gE, gC for evoked responses) and SPM's own numerics, so that estimates compare
    (``compare_posteriors({"laplace": fit, "SPM": read_spm_dcm(path)})``): for task fMRI
    the integrator is ``"bilinear"`` (for the published equations construct `TaskDCM` with the
    same switches and ``integrator="nonlinear"``); for evoked responses Jacobians are one-sided
    differences, and ``bayesdcm.fit(..., derivatives="one_sided")`` takes SPM's steps exactly.

    Parameters
    ----------
    path : str or path-like
        MATLAB file of version 5 (to 7) or 7.3 that SPM wrote for a DCM of task fMRI, fMRI at rest
        (``spm_dcm_fmri_csd``), evoked responses, or cross-spectra of EEG, MEG and LFP
        (``spm_dcm_csd``).
    lead_field : array_like, optional
        For evoked responses and cross-spectra; needed where the file's observation is dipoles or
        patches, since SPM keeps lead fields elsewhere. A pattern for each source, shape
        (channel, source) or, in the channel modes of the file, (mode, source): the model then has
        a free gain for each source (``observation="fixed"``); a DataFrame is joined by the names
        of channels and sources, but for cross-spectra. Or the lead field of dipoles along x, y and
        z, shape (source, channel, 3), or of patch modes, shape (source, channel, patch mode): the
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
        prior that depends on data (over eight regions) or has covariances, or settings that this
        package does not have; if the structure follows the file's prior and not DCM.a; if
        self-connections are off in a file that has no priors; or if estimates are not those of one
        person's fit (averages, reductions, F = NaN) or laid out in an unknown way.

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
    return assembled(read_spm_model_file(path), lead_field)


def assembled(file: AnyFile, lead_field: ArrayLike | None = None) -> SpmDCM:
    """Model, data and estimates of what a file holds, see `read_spm_dcm`."""
    if isinstance(file, SpmSpectralFile) and file.data.kind != "bold":
        keywords = _spectral_keywords(file, lead_field)
        channels = CrossSpectralDCM(**keywords, likelihood="spm", one_sided=True)
        channels = _with_priors_of_file(channels, _by_name(channels, file.priors))
        return SpmDCM(model=channels, data=file.data, estimates=file.estimates)
    if isinstance(file, SpmErpFile):
        model = EvokedDCM(**_evoked_keywords(file, lead_field), one_sided=True)
        model = _with_priors_of_file(model, _by_name(model, file.priors))
        return SpmDCM(model=model, data=file.data, estimates=file.estimates)
    if lead_field is not None:
        raise ValueError("lead_field was given, but the file holds a DCM for fMRI; leave it out")
    if isinstance(file, SpmSpectralFile):
        rest = SpectralDCM(**file.keywords, likelihood="spm")
        rest = _with_priors_of_file(rest, _by_name(rest, file.priors))
        return SpmDCM(model=rest, data=file.data, estimates=file.estimates)
    model = TaskDCM(file.A, file.B, file.C, file.D, two_state=file.two_state, integrator="bilinear")
    model = _with_priors_of_file(model, file.priors)
    return SpmDCM(model=model, data=file.data, estimates=file.estimates)


def _with_priors_of_file(model: Model, priors: Mapping[str, Moments]) -> Model:
    """The model with the file's priors; those that are its own anyway are not given to it."""
    given = {}
    for prior in model.priors.own:
        moments = priors.get(prior.name)
        if moments is None:
            continue
        pair = tuple(
            np.asarray(default) if stored is None else stored
            for stored, default in ((moments.mean, prior.mean), (moments.variance, prior.variance))
        )
        if not (np.array_equal(pair[0], prior.mean) and np.array_equal(pair[1], prior.variance)):
            given[prior.name] = pair
    if not given:
        return model
    try:
        return model.with_priors(given)
    except ValueError as error:
        raise ValueError(
            f"path: the file's priors cannot be those of the model: {error}"
        ) from error


def _symbol(prior: Prior) -> str:
    """SPM's name of a parameter."""
    return prior.symbol or prior.name


def _in_shape(prior: Prior, stored: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """What SPM stored of a parameter in this package's axes; None where it has other entries."""
    value = np.zeros(0) if stored is None else np.asarray(stored)
    if prior.symbol in ("L", "Lpos") and value.ndim == 2:
        value = value.T
    if value.size != np.size(prior.mean):
        return None
    return value.reshape(np.shape(prior.mean))


# Parameters that SPM fixes and this package has as constants.
_CONSTANTS = {"SA": nmda.SA, "GE": nmda.GE, "GI": nmda.GI}


def _by_name(
    model: EvokedDCM | SpectralDCM | CrossSpectralDCM, priors: Mapping[str, Moments]
) -> dict[str, Moments]:
    """The file's priors by symbol under the model's names and in its shapes."""
    for symbol, constant in _CONSTANTS.items():
        moments = priors.get(symbol)
        if moments is not None and (
            np.any(moments.variance)
            or (moments.mean is not None and not np.array_equal(moments.mean, constant))
        ):
            raise ValueError(
                f"path: the file's prior of {symbol} is not SPM's constant, {constant.tolist()}, "
                "which this package has for all models. Set DCM.M.pE and pC back."
            )
    moments_by_name, lost = {}, []
    for prior in model.priors.own:
        moments = priors.get(_symbol(prior))
        if moments is None:
            continue
        given = moments.mean, moments.variance
        parts = [None if m is None else _in_shape(prior, m) for m in given]
        if any(p is None and m is not None for p, m in zip(parts, given, strict=True)):
            lost.append(prior.name)
            continue
        moments_by_name[prior.name] = Moments(*parts)
    observation = getattr(model, "observation", "")
    if lost and observation != "fixed":
        warn_caller(
            f"The file's prior of {', '.join(lost)} has other entries than the model here; the "
            "model's own is taken"
        )
    if observation == "ecd" and model.position_variance == 0:
        moments_by_name.pop("position", None)
    if observation == "fixed":
        # Gains of a given lead field are not the file's parameters.
        moments_by_name.pop("gain", None)
    return moments_by_name


def _spectral_keywords(file: SpmSpectralFile, lead_field: ArrayLike | None) -> dict[str, Any]:
    """Arguments of `CrossSpectralDCM`; spectra in channel modes have lead fields in these."""
    keywords = dict(file.keywords)
    if keywords["observation"] == "lfp":
        return keywords
    if lead_field is None:
        raise ValueError(
            f"lead_field is None, but the file's observation is {keywords['observation']!r} and "
            "SPM keeps lead fields elsewhere; give one as a matrix with axes (channel, source) or "
            "(mode, source), or (source, channel, 3) for dipoles"
        )
    try:
        lead = np.asarray(lead_field, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"lead_field must be an array of numbers, got {lead_field!r}") from error
    seen, channel = file.data.n_channels, 1 if lead.ndim == 3 else 0
    if file.modes is not None and lead.shape[channel] == len(file.modes) != seen:
        lead = np.moveaxis(np.tensordot(file.modes.T, lead, (1, channel)), 0, channel)
    keywords |= {"lead_field": lead, "modes": np.eye(seen)}
    if lead.ndim == 2:
        keywords |= {"observation": "fixed", "positions": None}
    return keywords


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
    if getattr(lead_field, "ndim", 0) == 2:
        wanted = {
            0: ("the file's channels", file.data.channel_names or ()),
            1: ("the file's sources", file.source_names),
        }
        lead_field = in_order("lead_field", lead_field, wanted)
    try:
        lead = np.asarray(lead_field, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"lead_field must be an array of numbers, got {lead_field!r}") from error
    if lead.ndim == 3:
        if file.position_variance > 0:
            warn_caller(
                "The file's dipoles may move (DCM.options.location), but lead_field is that of one "
                "place each, so the model has them there, and estimates will differ"
            )
        return keywords | {"lead_field": lead, "position_variance": 0.0}
    modes = file.modes
    if lead.ndim == 2 and modes is not None and len(lead) == modes.shape[1] != len(modes):
        # The smallest field over channels that the modes see as the given one.
        lead = np.linalg.pinv(modes).T @ lead
    fixed = {"observation": "fixed", "lead_field": lead, "position_variance": 0.0}
    return keywords | fixed
