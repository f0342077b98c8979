"""The DCM of evoked responses: EEG, MEG, and source time courses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
from numpy.typing import ArrayLike

from bayesdcm.data.evoked import EvokedData
from bayesdcm.integrate import Delayed, DelayedRelaxation, LocalLinear
from bayesdcm.models.dcm import DCM, Parameters, Parts, Prepared
from bayesdcm.models.evoked_checks import (
    KINDS,
    NEURAL,
    by_source,
    channel_observer,
    check_evoked_model,
    check_position_prior,
)
from bayesdcm.models.priors import complete_parameters
from bayesdcm.neural import Prior, SourceModel
from bayesdcm.observe import ChannelObserver, ChannelSpace


@dataclass(frozen=True, eq=False)
class EvokedDCM(DCM):
    """Dynamic causal model of evoked responses.

    A stimulus excites some of the sources; populations of neurons in each source obey the
    equations of a neural mass or microcircuit model, drive other sources after a conduction
    delay, and are seen by the channels through a lead field. Conditions differ in the strength
    of some connections. A model holds structure only; data go to `program`, `predict`,
    `simulate` and `bayesdcm.fit`.

    Parameters
    ----------
    forward, backward, lateral : array_like
        Connections of each kind, shape (to, from), 0 or 1. None: none.
    modulation : array_like, optional
        Connections that differ between conditions, shape (effect, to, from); the diagonal
        stands for the gain within a source. A matrix serves one effect. None: none.
    inputs : array_like, optional
        Sources that the stimulus reaches, shape (source,) or (source, input). None: the first.
    neural : {"erp", "cmc", "lfp", "nmda", "laminar"}
        Neural model of every source: `bayesdcm.neural.ERP`, `CMC`, `LFP`, `NMDA`,
        `LaminarSource`.
    observation : {"ecd", "img", "lfp", "fixed"}
        How channels see sources: equivalent current dipoles, patches of the cortical surface,
        one channel in each source, or a given lead field with a gain for each source.
    positions : array_like, optional
        Prior positions of the sources, MNI coordinates in mm, shape (source, 3); needed for
        ``"ecd"`` and ``"img"`` unless `lead_field` is given.
    lead_field : array_like, optional
        Lead field to use instead of the data's head model. For ``"fixed"``: signal of each
        channel for unit activity of each source, shape (channel, source). For ``"ecd"``: that of
        dipoles along x, y and z, (source, channel, 3); for ``"img"``: that of each mode of each
        patch, (source, channel, patch mode).
    source_names : sequence of str, optional
        By default "source 1", "source 2", ...
    onset, duration : float or array_like
        Prior mean of the time at which the input peaks, and of its standard deviation, s; one
        for all inputs or one each. SPM's defaults. As there, a sample is compared with the state
        one step later, so that the peak is earlier than this by the interval of the samples.
    integrator : {"local_linear", "delayed"}, optional
        ``"local_linear"`` is SPM's scheme, in which delays act to first order, with SPM's prior
        of the noise. ``"delayed"`` solves the delay equations; slower. None: ``"delayed"`` for
        ``"laminar"``, whose equations are too stiff for the other, else ``"local_linear"``.
    position_variance : float
        Prior variance of dipole positions, mm^2; 0 fixes them.
    n_modes : int
        Channel modes that are modelled, at least one a source; SPM's default is 8.
    modes : array_like, optional
        Channel modes to use instead, shape (channel, mode).
    n_confounds : int
        Cosines, the constant first, that are removed as drifts; SPM's default is 1.
    hanning : bool
        Whether to multiply the data with a Hanning window, as is SPM's option.
    temporal_correlation : bool
        Whether the noise is serially correlated as SPM assumes.
    one_sided : bool
        Whether Jacobians are SPM's one-sided differences instead of exact; for parity only.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own, as for `TaskDCM`: by parameter (``"A"``, ``"gain"``,
        ``"log_precision"``) or by labelled entry (``"A[forward, STG, A1]"``).

    Raises
    ------
    TypeError, ValueError
        If a structure is not binary, shapes disagree, or an option is not known.

    Notes
    -----
    Parameters are in SPM's parameterisation: log scalings of the strengths, rates and delays
    that the neural model's documentation gives; `prior_table` lists them all. The log-precision
    of the noise, in units of the standard deviation of the data, has SPM's prior N(6, 1/128), by
    which the noise is a twentieth of the data, or with ``"delayed"`` N(2, 16), so that data decide.

    References
    ----------
    .. [1] David et al. (2006), NeuroImage 30:1255.
           https://doi.org/10.1016/j.neuroimage.2005.10.045
    .. [2] Kiebel, David and Friston (2006), NeuroImage 30:1273.
           https://doi.org/10.1016/j.neuroimage.2005.12.055

    Examples
    --------
    >>> EvokedDCM(forward=[[0, 0], [1, 0]], backward=[[0, 1], [0, 0]],
    ...           modulation=[[0, 0], [1, 0]], observation="lfp")
    EvokedDCM(2 sources, ERP; connections: 1 forward, 1 backward, 0 lateral; 1 modulated;
    observation='lfp')
    """

    forward: ArrayLike | None = None
    backward: ArrayLike | None = None
    lateral: ArrayLike | None = None
    modulation: ArrayLike | None = None
    inputs: ArrayLike | None = None
    neural: str = "erp"
    observation: str = "ecd"
    positions: ArrayLike | None = field(default=None, kw_only=True)
    lead_field: ArrayLike | None = field(default=None, kw_only=True)
    source_names: Sequence[str] | None = field(default=None, kw_only=True)
    onset: ArrayLike = field(default=0.060, kw_only=True)
    duration: ArrayLike = field(default=0.016, kw_only=True)
    integrator: str | None = field(default=None, kw_only=True)
    position_variance: float = field(default=0.0, kw_only=True)
    n_modes: int = field(default=8, kw_only=True)
    modes: ArrayLike | None = field(default=None, kw_only=True)
    n_confounds: int = field(default=1, kw_only=True)
    hanning: bool = field(default=False, kw_only=True)
    temporal_correlation: bool = field(default=True, kw_only=True)
    one_sided: bool = field(default=False, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, value in check_evoked_model(self).items():
            object.__setattr__(self, name, value)
        self._set_priors(self.priors)
        check_position_prior(self)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{int(getattr(self, kind).sum())} {kind}" for kind in KINDS)
        details = f"observation={self.observation!r}"
        if self.integrator != "local_linear":
            details += f", integrator={self.integrator!r}"
        if self.priors.given:
            details += f"; {self.priors!r}"
        return (
            f"EvokedDCM({self.n_sources} source{'s' * (self.n_sources != 1)}, "
            f"{self.neural.upper()}; connections: {kinds}; {int(self.modulation.sum())} "
            f"modulated; {details})"
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
    def source_model(self) -> SourceModel:
        """The neural model with this model's connections."""
        return self.parts.neural

    @property
    def spatial_priors(self) -> tuple[Prior, ...]:
        """Priors of the spatial parameters, in SPM's order."""
        return self.observer_priors

    @cached_property
    def parts(self) -> Parts:
        """The neural model, solver and observer of these names."""
        connections = (self.forward, self.backward, self.lateral, self.modulation, self.inputs)
        timing = (self.onset, self.duration)
        local = self.integrator == "local_linear"
        neural = NEURAL[self.neural](*connections)
        if local:
            solver = LocalLinear(*timing, self.one_sided)
        else:
            solver = (DelayedRelaxation if neural.stiff else Delayed)(*timing)
        return Parts(neural, solver, self._observer(local))

    def _observer(self, as_spm: bool) -> ChannelObserver:
        names = "source_names", "n_modes", "modes", "n_confounds", "hanning", "temporal_correlation"
        common = {name: getattr(self, name) for name in names} | {"as_spm": as_spm}
        return channel_observer(self, **common)

    @property
    def _wide_noise(self) -> str:
        return "integrator='delayed'" if self.integrator == "local_linear" else ""

    def _in_places(self, name: str, value: Any) -> Any:
        return by_source(name, value, self.source_names)

    def channel_space(self, data: EvokedData) -> ChannelSpace:
        """Channels, modes and the data in them; worked out once for a data set.

        Parameters
        ----------
        data : EvokedData
            The data set.
        """
        return self.parts.observer.channel_space(data, self._of_observer)

    def states(self, parameters: Mapping[str, jax.Array], prepared: Prepared) -> jax.Array:
        """States of all sources relative to rest, (conditions, times, sources, states).

        Of full neural parameter arrays and what `prepare` gives.

        Parameters
        ----------
        parameters : mapping
            Full neural parameter arrays by name.
        prepared : Prepared
            From `prepare`.
        """
        neural, solver, observer = self.parts
        return solver.solve(neural, observer, parameters, prepared.steps)

    def source_activity(self, parameters: Parameters, data: EvokedData) -> jax.Array:
        """Activity of every population in every source, relative to rest.

        Parameters
        ----------
        parameters : mapping
            Full neural parameter arrays, as for `predict`.
        data : EvokedData
            Times and design; the signal is not used.

        Returns
        -------
        jax.Array
            Shape (conditions, times, sources, states); voltages in mV.

        Raises
        ------
        ValueError
            If a parameter is missing or has the wrong shape.
        """
        self.check(data)
        model = self.for_data(data)
        complete = complete_parameters(model.neural_priors, parameters, self.names(data))
        return model._solution(complete, model._steps(data), seen=False)

    def restrict(
        self,
        forward: ArrayLike | None = None,
        backward: ArrayLike | None = None,
        lateral: ArrayLike | None = None,
        modulation: ArrayLike | None = None,
        inputs: ArrayLike | None = None,
    ) -> EvokedDCM:
        """The same model with connections switched off, see `DCM.restrict`.

        Examples
        --------
        >>> full = EvokedDCM(forward=[[0, 0], [1, 0]], modulation=[[0, 0], [1, 0]],
        ...                  observation="lfp")
        >>> int(full.restrict(modulation=0).modulation.sum())
        0
        """
        return super().restrict(
            forward=forward,
            backward=backward,
            lateral=lateral,
            modulation=modulation,
            inputs=inputs,
        )
