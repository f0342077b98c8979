"""The DCM of cross-spectra of BOLD signals at rest (spectral DCM)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import ArrayLike

from bayesdcm.integrate import LinearResponse, SpmLinearResponse
from bayesdcm.models.dcm import DCM, Parts
from bayesdcm.neural import Endogenous
from bayesdcm.neural.switches import square
from bayesdcm.observe import BoldSpectra

LIKELIHOODS = ("wishart", "spm")


@dataclass(frozen=True, eq=False)
class SpectralDCM(DCM):
    """Dynamic causal model of fMRI at rest, by the cross-spectra of its signals.

    Each region's activity fluctuates about rest with a power-law spectrum; connections and
    haemodynamics shape the cross-spectra of the BOLD signals. Data are `SpectralData`, such as
    ``SpectralData.from_bold(bold)``. A model holds structure only.

    Parameters
    ----------
    A : array_like
        Connections, shape (to, from), 0 or 1. A diagonal entry of 0 fixes the self-connection at
        -0.5 Hz.
    likelihood : {"wishart", "spm"}
        ``"wishart"``: estimated cross-spectra have a complex Wishart distribution about those
        predicted, with the data's degrees of freedom, so that intervals and evidence mean what they
        say. ``"spm"``: SPM's Gaussian likelihood of smoothed cross-spectra, whose precision is made
        of the data and of one log-precision, with SPM's priors; for
        ``SpectralData.from_bold(bold, method="autoregressive")``.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own, as for `bayesdcm.TaskDCM`.

    Raises
    ------
    TypeError, ValueError
        If `A` is not binary or not square, `likelihood` is another, or `priors` names what the
        model does not have.

    Notes
    -----
    Parameters are in SPM's parameterisation: ``A`` as in `bayesdcm.TaskDCM`; ``transit``,
    ``decay`` and ``epsilon`` of the haemodynamics; ``fluctuation`` (SPM's a), ``shared_noise`` (b)
    and ``regional_noise`` (c), see `bayesdcm.observe.BoldSpectra`. Signals are scaled to a standard
    deviation of 1/4 beforehand. With ``"spm"``, the last three are N(0, 1/64). With ``"wishart"``,
    log amplitudes are N(0, 1) and log exponents N(0, 1/16), so that data tell how large
    fluctuations and noise are.

    References
    ----------
    .. [1] Friston, Kahan, Biswal and Razi (2014), NeuroImage 94:396.
           https://doi.org/10.1016/j.neuroimage.2013.12.009

    Examples
    --------
    >>> SpectralDCM([[1, 0], [1, 1]])
    SpectralDCM(2 regions; connections: 3 A; likelihood='wishart')
    """

    A: ArrayLike
    likelihood: str = "wishart"
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "A", square("A", self.A))
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"likelihood must be one of {', '.join(map(repr, LIKELIHOODS))}, "
                f"got {self.likelihood!r}"
            )
        self._set_priors(self.priors)

    def __repr__(self) -> str:
        n = self.n_regions
        given = f"; {self.priors!r}" if self.priors.given else ""
        return (
            f"SpectralDCM({n} region{'s' * (n != 1)}; connections: {int(self.A.sum())} A; "
            f"likelihood={self.likelihood!r}{given})"
        )

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return self.A.shape[0]

    @cached_property
    def parts(self) -> Parts:
        """`Endogenous`, a linear response, and `BoldSpectra`."""
        as_spm = self.likelihood == "spm"
        solver = SpmLinearResponse() if as_spm else LinearResponse()
        return Parts(Endogenous(self.A), solver, BoldSpectra(as_spm))
