"""The DCM of cross-spectra of EEG, MEG and local field potentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.integrate import LinearResponse, SpmLinearResponse
from bayesdcm.models.dcm import DCM, Parts
from bayesdcm.models.evoked_checks import (
    KINDS,
    NEURAL,
    by_source,
    channel_observer,
    check_position_prior,
    checked_connections,
    checked_source_names,
    checked_spatial,
    whole_number,
)
from bayesdcm.neural import CMM, Prior
from bayesdcm.observe import ChannelObserver, ChannelSpectra

# Rest of CMM depends on the parameters, which the solver of evoked responses does not know; the
# laminar column has no gain at rest, so that nothing linear can be said of it.
SOURCES = {name: NEURAL[name] for name in ("erp", "cmc", "lfp", "nmda")} | {"cmm": CMM}
OPTIONS = {
    "neural": SOURCES,
    "observation": ("lfp", "ecd", "img", "fixed"),
    "likelihood": ("wishart", "spm"),
}


@dataclass(frozen=True, eq=False)
class CrossSpectralDCM(DCM):
    """Dynamic causal model of the cross-spectra of EEG, MEG or local field potentials.

    Populations of neurons in each source obey the equations of a neural mass or microcircuit model
    and fluctuate about rest, driven by noise of their own. Connections between sources, with their
    conduction delays, shape power, coherence and phase of what channels see. Conditions differ in
    the strength of some connections. Data are `SpectralData`, such as
    ``SpectralData.from_epochs(epochs)``. A model holds structure only.

    Parameters
    ----------
    forward, backward, lateral : array_like
        Connections of each kind, shape (to, from), 0 or 1; ``forward=[[0]]`` for a single source.
        None: none.
    modulation : array_like, optional
        Connections that differ between conditions, shape (effect, to, from); the diagonal
        stands for the gain within a source. A matrix serves one effect. None: none.
    neural : {"erp", "cmc", "lfp", "nmda", "cmm"}
        Neural model of every source: `bayesdcm.neural.ERP`, `CMC`, `LFP`, `NMDA`, `CMM`; the last
        with ``"wishart"`` only.
    observation : {"lfp", "ecd", "img", "fixed"}
        How channels see sources: one channel in each source, equivalent current dipoles, patches
        of the cortical surface, or a given lead field with a gain for each source.
    positions : array_like, optional
        Prior positions of the sources, MNI coordinates in mm, shape (source, 3); needed for
        ``"ecd"`` and ``"img"`` unless `lead_field` is given.
    lead_field : array_like, optional
        Lead field to use instead of the data's head model, as for `bayesdcm.EvokedDCM`.
    source_names : sequence of str, optional
        By default "source 1", "source 2", ...
    position_variance : float
        Prior variance of dipole positions, mm^2; 0 fixes them.
    n_modes : int
        Channel modes that are modelled, at least one a source; SPM's default is 8.
    modes : array_like, optional
        Channel modes to use instead, shape (channel, mode).
    likelihood : {"wishart", "spm"}
        ``"wishart"``: estimated cross-spectra have a complex Wishart distribution about those
        predicted, with the data's degrees of freedom; delays are solved as they are, and rest is
        found. ``"spm"``: SPM's Gaussian likelihood, whose precision is made of the data and of one
        log-precision, with SPM's priors, delays to first order, and unstable modes damped.
    one_sided : bool
        Whether Jacobians are SPM's one-sided differences instead of exact; for parity only, with
        ``likelihood="spm"``.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own, as for `bayesdcm.TaskDCM`.

    Raises
    ------
    TypeError, ValueError
        If a structure is not binary, shapes disagree, or an option is not known.

    Notes
    -----
    Parameters are in SPM's parameterisation: those of the neural model and the lead field as in
    `bayesdcm.EvokedDCM`, without inputs; ``fluctuation`` (SPM's a), ``shared_noise`` (b),
    ``channel_noise`` (c), ``fluctuation_shape`` (d) and ``filter`` (f), see
    `bayesdcm.observe.ChannelSpectra`. Spectra are scaled beforehand, so that their largest
    covariance is 8. Priors of a to d are N(0, 1/128) with ``"spm"``; with ``"wishart"`` log
    amplitudes are N(0, 1), log exponents and shapes N(0, 1/16), so that data decide, and moments of
    dipoles, and the first weight of patches, have the mean 1 of gains instead of 0, where power has
    no slope. Variational Laplace does not cross from one sign of a source relative to another, so
    that with ``"wishart"`` it tries others: all of up to four sources, of more each in turn.

    References
    ----------
    .. [1] Moran et al. (2009), NeuroImage 44:796.
           https://doi.org/10.1016/j.neuroimage.2008.09.048
    .. [2] Friston et al. (2012), NeuroImage 59:439.
           https://doi.org/10.1016/j.neuroimage.2011.07.048

    Examples
    --------
    >>> CrossSpectralDCM(forward=[[0, 0], [1, 0]], backward=[[0, 1], [0, 0]], neural="cmc")
    CrossSpectralDCM(2 sources, CMC; connections: 1 forward, 1 backward, 0 lateral; 0 modulated;
    observation='lfp', likelihood='wishart')
    """

    forward: ArrayLike | None = None
    backward: ArrayLike | None = None
    lateral: ArrayLike | None = None
    modulation: ArrayLike | None = None
    neural: str = "cmc"
    observation: str = "lfp"
    positions: ArrayLike | None = field(default=None, kw_only=True)
    lead_field: ArrayLike | None = field(default=None, kw_only=True)
    source_names: Sequence[str] | None = field(default=None, kw_only=True)
    position_variance: float = field(default=0.0, kw_only=True)
    n_modes: int = field(default=8, kw_only=True)
    modes: ArrayLike | None = field(default=None, kw_only=True)
    likelihood: str = field(default="wishart", kw_only=True)
    one_sided: bool = field(default=False, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    # Sources fluctuate by themselves.
    inputs: ClassVar[None] = None

    def __post_init__(self) -> None:
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)
        self._set_priors(self.priors)
        check_position_prior(self)

    def _checked(self) -> dict[str, Any]:
        for name, known in OPTIONS.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}"
                )
        if not isinstance(self.one_sided, bool | np.bool_):
            raise TypeError(f"one_sided must be True or False, got {self.one_sided!r}")
        if self.neural == "cmm" and self.likelihood == "spm":
            raise ValueError(
                "neural='cmm' has no rest that is known beforehand, about which likelihood='spm' "
                "would be linear; use likelihood='wishart', which finds it"
            )
        if self.one_sided and self.likelihood != "spm":
            raise ValueError("one_sided is for parity with SPM, with likelihood='spm'")
        connections = checked_connections(self)
        del connections["inputs"]
        names = checked_source_names(self.source_names, len(connections["forward"]))
        return {
            **connections,
            "source_names": names,
            "n_modes": whole_number("n_modes", self.n_modes, 1),
            "one_sided": bool(self.one_sided),
            **checked_spatial(self, names),
        }

    def __repr__(self) -> str:
        kinds = ", ".join(f"{int(getattr(self, kind).sum())} {kind}" for kind in KINDS)
        given = f"; {self.priors!r}" if self.priors.given else ""
        return (
            f"CrossSpectralDCM({self.n_sources} source{'s' * (self.n_sources != 1)}, "
            f"{self.neural.upper()}; connections: {kinds}; {int(self.modulation.sum())} "
            f"modulated; observation={self.observation!r}, likelihood={self.likelihood!r}{given})"
        )

    @property
    def n_sources(self) -> int:
        """Number of sources."""
        return self.forward.shape[0]

    @property
    def n_effects(self) -> int:
        """Number of condition-specific effects."""
        return self.modulation.shape[0]

    @property
    def spatial_priors(self) -> tuple[Prior, ...]:
        """Priors of the observer's parameters, in SPM's order."""
        return self.observer_priors

    @cached_property
    def parts(self) -> Parts:
        """The neural model, a linear response, and `ChannelSpectra`."""
        as_spm = self.likelihood == "spm"
        switches = self.forward, self.backward, self.lateral, self.modulation
        neural = SOURCES[self.neural](*switches, np.zeros((self.n_sources, 0)))
        solver = SpmLinearResponse(one_sided=self.one_sided) if as_spm else LinearResponse()
        return Parts(neural, solver, ChannelSpectra(as_spm, self._channels()))

    def _channels(self) -> ChannelObserver:
        common = {name: getattr(self, name) for name in ("source_names", "n_modes", "modes")}
        return channel_observer(self, **common)

    @property
    def _wide_noise(self) -> str:
        return "likelihood='wishart'" if self.likelihood == "spm" else ""

    def _in_places(self, name: str, value: Any) -> Any:
        return by_source(name, value, self.source_names)

    def restrict(
        self,
        forward: ArrayLike | None = None,
        backward: ArrayLike | None = None,
        lateral: ArrayLike | None = None,
        modulation: ArrayLike | None = None,
    ) -> CrossSpectralDCM:
        """The same model with connections switched off, see `DCM.restrict`.

        Examples
        --------
        >>> full = CrossSpectralDCM(forward=[[0, 0], [1, 0]], modulation=[[0, 0], [1, 0]])
        >>> int(full.restrict(modulation=0).modulation.sum())
        0
        """
        return super().restrict(
            forward=forward, backward=backward, lateral=lateral, modulation=modulation
        )
