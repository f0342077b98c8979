"""The DCM of evoked responses: EEG, MEG, and source time courses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.evoked import EvokedData
from bayesdcm.integrate.step_derivative import expects_many_directions
from bayesdcm.models.evoked_checks import (
    check_evoked_data,
    check_evoked_model,
    check_position_prior,
)
from bayesdcm.models.evoked_observation import (
    OBSERVATIONS,
    ChannelSpace,
    ModelledSpace,
    channel_space,
    source_field,
    spatial_priors,
)
from bayesdcm.models.evoked_response import (
    INTEGRATORS,
    Prepared,
    compiled_states,
    connection_strength,
    evoked_states,
    prepare_evoked,
)
from bayesdcm.models.facts import Facts
from bayesdcm.models.priors import (
    SPM_NOISE,
    WIDE_NOISE,
    complete_parameters,
    noise_prior,
    sample_prior,
)
from bayesdcm.models.source_names import SourceNames
from bayesdcm.models.structure import check_snr
from bayesdcm.neural import CMC, ERP, LFP, NMDA, Prior, SourceModel
from bayesdcm.observe.gaussian import gaussian

NEURAL = {"erp": ERP, "cmc": CMC, "lfp": LFP, "nmda": NMDA}
# SPM's prior precision of the coefficients of confounds in this scheme.
CONFOUND_PRECISION = float(np.exp(-16))

Parameters = Mapping[str, ArrayLike]

DIPOLES = (
    "Kiebel SJ, David O, Friston KJ (2006). Dynamic causal modelling of evoked responses in "
    "EEG/MEG with lead field parameterization. NeuroImage 30:1273-1284.",
    "https://doi.org/10.1016/j.neuroimage.2005.12.055",
)
# Everything else is a log scaling.
UNITS = {
    "B": "change of log scaling",
    "modulatory": "−32 per unit activity",
    "modulatory_effect": "change, −32 per unit activity",
    "input_timing": ("128 ms", "log scaling of the standard deviation"),
    "position": "mm",
    "moment": "a.u.",
    "gain": "a.u.",
    "patch_weight": "a.u.",
    "contribution": "relative weight",
    "log_precision": "log precision",
    "connection_strength": "relative to the prior mean",
}
TITLES = {
    "A": "Connections A",
    "B": "Condition effects B",
    "C": "Driving inputs C",
    "delay": "Conduction delays",
    "modulatory": "Modulatory connections",
    "modulatory_effect": "Condition effects on modulatory connections",
}
LABEL_NOTE = (
    "Labels read A[kind, to, from], B[effect, to, from] and C[to, input]. Neural parameters are "
    "logarithms of factors on the prior mean (0 is a factor of 1, 0.69 of 2); B is added to A "
    "where a condition has the effect, its diagonal to the gain of a source. Onsets are in "
    "128 ms, positions in mm, dipole moments in arbitrary units. "
)


@dataclass(frozen=True, eq=False)
class EvokedDCM(SourceNames):
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
    neural : {"erp", "cmc", "lfp", "nmda"}
        Neural model of every source: `bayesdcm.neural.ERP`, `CMC`, `LFP`, `NMDA`.
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
        for all inputs or one each. SPM's defaults.
    integrator : {"local_linear", "delayed"}
        ``"local_linear"`` is SPM's scheme, in which delays act to first order, with SPM's prior
        of the noise. ``"delayed"`` solves the delay equations; slower.
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
    integrator: str = field(default="local_linear", kw_only=True)
    position_variance: float = field(default=0.0, kw_only=True)
    n_modes: int = field(default=8, kw_only=True)
    modes: ArrayLike | None = field(default=None, kw_only=True)
    n_confounds: int = field(default=1, kw_only=True)
    hanning: bool = field(default=False, kw_only=True)
    temporal_correlation: bool = field(default=True, kw_only=True)
    one_sided: bool = field(default=False, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, value in check_evoked_model(self, NEURAL, OBSERVATIONS, INTEGRATORS).items():
            object.__setattr__(self, name, value)
        self._set_priors()
        check_position_prior(self)

    def __repr__(self) -> str:
        kinds = ", ".join(
            f"{int(getattr(self, kind).sum())} {kind}"
            for kind in ("forward", "backward", "lateral")
        )
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

    @cached_property
    def _key(self) -> tuple:
        values = (getattr(self, each.name) for each in fields(self))
        return tuple((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvokedDCM) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def n_sources(self) -> int:
        """Number of sources."""
        return self.forward.shape[0]

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.inputs.shape[1]

    @property
    def n_effects(self) -> int:
        """Number of condition-specific effects."""
        return self.modulation.shape[0]

    @cached_property
    def source_model(self) -> SourceModel:
        """The neural model with this model's connections."""
        return NEURAL[self.neural](
            self.forward, self.backward, self.lateral, self.modulation, self.inputs
        )

    def own_priors(self) -> tuple[Prior, ...]:
        """Priors that hold where none are given: neural, spatial, that of the noise last."""
        return (
            *self.source_model.priors(),
            *spatial_priors(self),
            self.source_model.contribution,
            noise_prior(*(SPM_NOISE if self.integrator == "local_linear" else WIDE_NOISE)),
        )

    def facts(self) -> Facts:
        """Kind, units, citations and words that results carry."""
        source = self.source_model
        dipoles = (DIPOLES,) if self.observation == "ecd" else ()
        scalings = {prior.name: "log scaling" for prior in self.priors}
        return Facts(
            kind="evoked responses",
            node="source",
            neural=source.title,
            units=scalings | UNITS,
            titles=TITLES,
            headline=("B", "A"),
            gain=(source.modulated_gain, source.gain_in_words),
            populations=source.populations,
            label_note=LABEL_NOTE,
            citations=tuple(dict.fromkeys([ERP.citation, *dipoles, source.citation])),
            wide_noise="integrator='delayed'" if self.integrator == "local_linear" else "",
        )

    # The program

    def channel_space(self, data: EvokedData) -> ChannelSpace:
        """Channels, modes and the data in them, as the model takes them.

        Parameters
        ----------
        data : EvokedData
            The data set.

        Returns
        -------
        ChannelSpace
            Worked out once for a data set.
        """
        return channel_space(self, data)

    def check(self, data: Any) -> None:
        """Raise an error where a data set does not fit the structure.

        Parameters
        ----------
        data : EvokedData
            What the model is to be used on.

        Raises
        ------
        TypeError
            If it is of another class.
        ValueError
            If the numbers of effects or channels disagree, or a head model is missing.
        """
        check_evoked_data(self, data)

    def prepare(self, data: EvokedData) -> Prepared:
        """Arrays that the program needs of a data set.

        Parameters
        ----------
        data : EvokedData
            The data set.

        Returns
        -------
        Prepared
            Times, design, data in modes, lead fields.
        """
        self.check(data)
        return prepare_evoked(self, data)

    def program(self, data: EvokedData) -> Callable[[], None]:
        """The generative model of a data set as a NumPyro program without arguments.

        Parameters
        ----------
        data : EvokedData
            The data set; in channel modes and scaled, it is the observed site ``signal``.

        Returns
        -------
        callable
            For ``numpyro.infer``, `Predictive` and handlers.

        Raises
        ------
        TypeError, ValueError
            If the data do not fit the model.
        """
        return partial(self.for_data(data).sample, self.prepare(data))

    def sample(self, prepared: Prepared) -> None:
        """The program itself; sites in the order of `priors`.

        Parameters
        ----------
        prepared : Prepared
            From `prepare`; may be traced, so that one compiled program serves many data sets.
        """
        self._require_named()
        neural = {prior.name: sample_prior(prior) for prior in self.neural_priors}
        spatial = {prior.name: sample_prior(prior, "observer") for prior in self.spatial_priors}
        strength = connection_strength(self.source_model, neural, prepared.design)
        numpyro.deterministic("connection_strength", strength)
        log_precision = sample_prior(self.priors.noise, "precision")
        # Compiled apart from the observer, which variational Laplace moves while states stay.
        states = compiled_states(self, neural, prepared, True, expects_many_directions())
        signal = self._observe(states, spatial, prepared.space)
        numpyro.sample(
            self.observed_site,
            gaussian(
                signal,
                log_precision,
                components=prepared.space.noise,
                confound_precision=CONFOUND_PRECISION,
            ),
            obs=prepared.signal,
        )

    def _observe(
        self, states: jax.Array, spatial: Mapping[str, jax.Array], space: ModelledSpace
    ) -> jax.Array:
        """Signal in channel modes, (times, conditions * modes), of the states that are seen."""
        weight = spatial["contribution"][self._seen]
        activity = jnp.einsum("ctns,s->ctn", states, weight)
        modes = activity @ source_field(self.observation, spatial, space).T
        return jnp.moveaxis(modes, 0, 1).reshape(modes.shape[1], -1)

    @cached_property
    def _seen(self) -> NDArray[np.intp]:
        """States that may contribute to the signal."""
        prior = self.spatial_priors[-1]
        return np.flatnonzero((prior.mean != 0) | (prior.variance > 0))

    # Prediction

    def states(self, parameters: Mapping[str, jax.Array], prepared: Prepared) -> jax.Array:
        """States of all sources relative to rest.

        Parameters
        ----------
        parameters : mapping
            Full neural parameter arrays by name.
        prepared : Prepared
            From `prepare`.

        Returns
        -------
        jax.Array
            Shape (conditions, times, sources, states).
        """
        return evoked_states(self, parameters, prepared, expects_many_directions())

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
        prepared, priors = self.prepare(data), self.for_data(data).neural_priors
        complete = complete_parameters(priors, parameters, self.names(data))
        return compiled_states(self, complete, prepared, False)

    def predict(self, parameters: Parameters, data: EvokedData) -> jax.Array:
        """Noise-free prediction at the channels, in the units of the data.

        Parameters
        ----------
        parameters : mapping
            Full arrays under the names that `priors` list, such as ``A`` (kind, to, from),
            ``B`` (effect, to, from), ``C`` (to, input), ``moment`` (source, axis),
            ``contribution`` (state,); other entries are ignored.
        data : EvokedData
            Times, design, channels, head. The signal only gives the scale.

        Returns
        -------
        jax.Array
            Shape (conditions, times, channels). Differentiable, and safe under ``jit`` and
            ``vmap``.

        Raises
        ------
        ValueError
            If a parameter is missing or has the wrong shape.
        """
        if self.priors.pending:
            return self.for_data(data).predict(parameters, data)
        prepared, space = self.prepare(data), self.channel_space(data)
        complete = complete_parameters(self.priors, parameters, self.names(data))
        states = compiled_states(self, complete, prepared, True)
        modes = self._observe(states, complete, prepared.space)
        apart = modes.reshape(modes.shape[0], data.n_conditions, -1)
        return jnp.moveaxis(apart, 0, 1) @ space.modes_to_channels / space.scale

    def simulate(
        self, parameters: Parameters, design: EvokedData, seed: int, snr: float | None = None
    ) -> EvokedData:
        """Evoked responses as a recording would give them.

        Parameters
        ----------
        parameters : mapping
            As in `predict`.
        design : EvokedData
            Times, conditions, channels, head; its signal only gives the scale.
        seed : int
            Seed of the noise.
        snr : float, optional
            Standard deviation of the noise-free signal over that of the noise, over all
            channels. None: noise of ``parameters["log_precision"]``, or none where it is absent.

        Returns
        -------
        EvokedData
            The design with the simulated signal; noise is serially correlated as the model
            assumes and independent between channels (given a noise covariance, correlated so).

        Raises
        ------
        ValueError
            If `snr` is not positive, or the trajectory diverges.
        """
        if snr is not None:
            check_snr(snr)
        clean = np.asarray(self.predict(parameters, design))
        if not np.isfinite(clean).all():
            raise ValueError(
                "parameters give a trajectory that diverges; check strengths and time constants"
            )
        noise = self.channel_space(design).noise(np.random.default_rng(seed), clean.shape)
        sd = 0.0
        if snr is not None:
            sd = clean.std() / snr / noise.std()
        elif "log_precision" in parameters:
            sd = np.exp(-float(np.asarray(parameters["log_precision"])) / 2)
            sd /= self.channel_space(design).scale
        return design.replace(signal=clean + sd * noise)

    def restrict(
        self,
        forward: ArrayLike | None = None,
        backward: ArrayLike | None = None,
        lateral: ArrayLike | None = None,
        modulation: ArrayLike | None = None,
        inputs: ArrayLike | None = None,
    ) -> EvokedDCM:
        """The same model with connections switched off.

        Parameters
        ----------
        forward, backward, lateral, modulation, inputs : array_like, optional
            Switches in the shape of the model's own (or 0 for none at all); a connection stays
            on where both the model and this array have it on. None: as it is.

        Returns
        -------
        EvokedDCM
            The restricted model.

        Raises
        ------
        ValueError
            If a shape disagrees, or a switch is on that the model has off.

        Examples
        --------
        >>> full = EvokedDCM(forward=[[0, 0], [1, 0]], modulation=[[0, 0], [1, 0]],
        ...                  observation="lfp")
        >>> int(full.restrict(modulation=0).modulation.sum())
        0
        """
        return self._restricted(
            forward=forward,
            backward=backward,
            lateral=lateral,
            modulation=modulation,
            inputs=inputs,
        )
