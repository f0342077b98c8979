"""The DCM of task fMRI: bilinear, nonlinear and two-state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpy.typing import ArrayLike

from bayesdcm.data.bold import BoldData
from bayesdcm.integrate.grid import TimeGrid
from bayesdcm.models.bold_response import (
    INTEGRATORS,
    bold_response,
    bold_time_grid,
    physical_quantities,
    time_grid_on_device,
)
from bayesdcm.models.facts import Facts
from bayesdcm.models.priors import (
    SPM_NOISE,
    WIDE_NOISE,
    complete_parameters,
    in_place,
    noise_prior,
    sample_prior,
)
from bayesdcm.models.regional import RegionalModel
from bayesdcm.models.structure import check_snr, square, switches
from bayesdcm.neural import Bilinear, NeuralModel, Prior, TwoState
from bayesdcm.observe import balloon
from bayesdcm.observe.gaussian import ConfoundBasis, gaussian
from bayesdcm.observe.side_by_side import expects_subjects

Parameters = Mapping[str, ArrayLike]

GUIDE = (
    "Zeidman P et al. (2019). A guide to group effective connectivity analysis, part 1: first "
    "level analysis with DCM for fMRI. NeuroImage 200:174-190.",
    "https://doi.org/10.1016/j.neuroimage.2019.06.031",
)
RATE_UNITS = {False: "Hz", True: "log scaling of 1/8 Hz"}
UNITS = {
    "A_backward": "half the log odds",
    "C": "1/16 Hz",
    "transit": "log scaling of 2 s",
    "decay": "log scaling of 0.64 Hz",
    "epsilon": "log scaling",
    "log_precision": "log precision",
    "effective_connectivity": "Hz",
    "modulated_connectivity": "Hz",
    "input_effect": "Hz",
    "transit_time": "s",
    "decay_rate": "Hz",
}
TITLES = {
    "A": "Endogenous connections A",
    "B": "Modulation B",
    "C": "Driving inputs C",
    "D": "Gating D",
    "effective_connectivity": "Effective connectivity without input",
    "modulated_connectivity": "Effective connectivity",
    "input_effect": "Driving inputs",
}
RATES_IN_WORDS = {
    False: "Connections between regions are in Hz, self-connections are log scalings of 0.5 Hz, ",
    True: "Connections are log scalings of 1/8 Hz, ",
}
LABEL_NOTE = (
    "Labels read A[to, from], B[input, to, from] and C[to, input]. {}driving inputs are in "
    "1/16 Hz, haemodynamic parameters log scalings. "
)


class Prepared(NamedTuple):
    """What a program needs of a data set, as arrays: a pytree that compiled code takes.

    Attributes
    ----------
    grid : TimeGrid
        Steps and sample points.
    signal : (scans, regions)
        Data as they are modelled: centred, and with SPM's integrator scaled as SPM does.
    confounds : ConfoundBasis
        Orthonormal confounds.
    """

    grid: TimeGrid
    signal: jax.Array
    confounds: ConfoundBasis


@dataclass(frozen=True, eq=False)
class TaskDCM(RegionalModel):
    """Dynamic causal model of task fMRI.

    Neuronal states obey a bilinear (or, with `D`, quadratic; or two-state) equation, drive the
    Balloon model of each region, and are seen as percent BOLD signal change. A model holds
    structure only; data go to `program`, `predict`, `simulate` and `bayesdcm.fit`.

    Parameters
    ----------
    A : array_like
        Endogenous connections, shape (to, from), 0 or 1. A diagonal entry of 0 fixes the
        self-connection at -0.5 Hz.
    B : array_like, optional
        Modulations, shape (input, to, from). None: none.
    C : array_like, optional
        Driving inputs, shape (to, input). None: none.
    D : array_like, optional
        Nonlinear terms, shape (gating region, to, from). None: a bilinear model.
    two_state : bool
        Excitatory and inhibitory populations instead of one state a region.
    integrator : {"nonlinear", "bilinear"}
        ``"nonlinear"`` solves the published equations (error about 1e-5 of the peak).
        ``"bilinear"`` is SPM's scheme, which expands the whole system to first order about
        rest; the two differ by up to a third of the peak at strong responses. With `D`,
        ``"bilinear"`` reproduces ``spm_int_D``, in which the linear term acts twice. With SPM's
        integrator come SPM's other choices: signals scaled down to a range of 4 (`C` then refers
        to the scaled signal), its prior of the noise, confounds in their own units.
    backwards : bool
        With `two_state`, whether extrinsic connections also reach inhibitory populations
        (SPM's option of that name; parameter ``A_backward``).
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own: from a parameter (``"A"``, ``"transit"``,
        ``"log_precision"``) or a labelled entry (``"A[V5, V1]"``) to ``(mean, variance)``, to
        ``{"mean": ...}`` or ``{"variance": ...}`` alone, or to a fixed value. Numbers are for all
        entries that are on, arrays have the shape of the parameter; labelled entries, found by
        the names of the data, come last. Or a table as `prior_table` gives. The model's attribute
        `priors` is the sequence of all of them.

    Raises
    ------
    TypeError, ValueError
        If a structure is not binary, not square, or its shape disagrees with the others; if
        `priors` names what the model does not have, has another shape, or is not finite.

    Notes
    -----
    Parameters are in SPM's parameterisation: off-diagonal ``A``, ``B`` and ``D`` in Hz (one
    state), their diagonals log scalings of a self-connection of -0.5 Hz, ``C`` in 1/16 Hz,
    ``transit``, ``decay`` and ``epsilon`` log scalings. Priors: `bayesdcm.neural.Bilinear`,
    `bayesdcm.neural.TwoState`, `bayesdcm.observe.haemodynamic_priors`; log-precisions of the
    noise N(2, 16), one a region, so that data decide on it, with ``"bilinear"`` SPM's N(6, 1/128),
    by which the standard deviation of the noise is 0.05 of the scaled signal's unit.

    References
    ----------
    .. [1] Friston, Harrison and Penny (2003), NeuroImage 19:1273.
           https://doi.org/10.1016/S1053-8119(03)00202-7
    .. [2] Zeidman et al. (2019), NeuroImage 200:174.
           https://doi.org/10.1016/j.neuroimage.2019.06.031

    Examples
    --------
    >>> model = TaskDCM(A=[[1, 0], [1, 1]], C=[[1], [0]])
    >>> model
    TaskDCM(2 regions, 1 input; connections: 3 A, 0 B, 1 C; integrator='nonlinear')
    """

    A: ArrayLike
    B: ArrayLike | None = None
    C: ArrayLike | None = None
    D: ArrayLike | None = None
    two_state: bool = False
    integrator: str = "nonlinear"
    backwards: bool = field(default=False, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        A = square("A", self.A)
        n = len(A)
        # Either tells the number of inputs; the other is checked against it, or all off.
        n_inputs = None
        if self.C is not None:
            C = switches("C", self.C, (n, None), "to, input")
            n_inputs = C.shape[1]
        B = np.zeros((n_inputs or 0, n, n)) if self.B is None else self.B
        B = switches("B", B, (n_inputs, n, n), "input, to, from")
        if self.C is None:
            C = switches("C", np.zeros((n, len(B))), (n, len(B)), "to, input")
        D = self.D
        D = D if D is None else switches("D", D, (n, n, n), "gating region, to, from")
        for name, value in (("A", A), ("B", B), ("C", C), ("D", D)):
            object.__setattr__(self, name, value)
        self._check_options()
        self._set_priors()

    def _check_options(self) -> None:
        for name in ("two_state", "backwards"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.integrator not in INTEGRATORS:
            raise ValueError(
                f"integrator must be one of {', '.join(map(repr, INTEGRATORS))}, "
                f"got {self.integrator!r}"
            )
        if self.backwards and not self.two_state:
            raise ValueError("backwards=True needs two_state=True, got two_state=False")
        if self.D is not None and self.integrator == "bilinear":
            warnings.warn(
                "integrator='bilinear' with D reproduces spm_int_D, in which the linear "
                "neuronal term acts twice; integrator='nonlinear' solves the equations",
                stacklevel=4,
            )

    def __repr__(self) -> str:
        counts = [f"{int(getattr(self, k).sum())} {k}" for k in "ABC"]
        if self.D is not None:
            counts.append(f"{int(self.D.sum())} D")
        kind = ", two-state" if self.two_state else ""
        regions = f"{self.n_regions} region{'s' * (self.n_regions != 1)}"
        inputs = f"{self.n_inputs} input{'s' * (self.n_inputs != 1)}"
        given = f"; {self.priors!r}" if self.priors.given else ""
        return (
            f"TaskDCM({regions}, {inputs}{kind}; connections: {', '.join(counts)}; "
            f"integrator={self.integrator!r}{given})"
        )

    def _key(self) -> tuple:
        arrays = (self.A, self.B, self.C, self.D)
        return (
            *(None if a is None else (a.shape, a.tobytes()) for a in arrays),
            bool(self.two_state),
            self.integrator,
            bool(self.backwards),
            self.priors,
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return self.A.shape[0]

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.C.shape[1]

    @cached_property
    def neural(self) -> NeuralModel:
        """The neural model: `Bilinear` or `TwoState`."""
        if self.two_state:
            return TwoState(self.A, self.B, self.C, self.D, bool(self.backwards))
        return Bilinear(self.A, self.B, self.C, self.D)

    def own_priors(self) -> tuple[Prior, ...]:
        """Priors that hold where none are given, in SPM's order, that of the noise last."""
        noise = noise_prior(*(SPM_NOISE if self._as_spm else WIDE_NOISE), self.n_regions)
        return (*self.neural.priors(), *balloon.haemodynamic_priors(self.n_regions), noise)

    @property
    def _as_spm(self) -> bool:
        return self.integrator == "bilinear"

    def facts(self) -> Facts:
        """Kind, units, citations and words that results carry."""
        return Facts(
            kind="task fMRI",
            node="region",
            neural=self.neural.title,
            units=UNITS | dict.fromkeys("ABD", RATE_UNITS[self.two_state]),
            self_units={} if self.two_state else dict.fromkeys("ABD", "log scaling of 0.5 Hz"),
            titles=TITLES,
            label_note=LABEL_NOTE.format(RATES_IN_WORDS[self.two_state]),
            citations=tuple(dict.fromkeys([Bilinear.citation, GUIDE, self.neural.citation])),
            wide_noise="integrator='nonlinear'" if self._as_spm else "",
        )

    # The program

    def prepare(self, data: BoldData) -> Prepared:
        """Arrays that the program needs of a data set.

        Parameters
        ----------
        data : BoldData
            The data set.

        Returns
        -------
        Prepared
            The time grid, scaled signal and confounds.
        """
        self.check(data)
        return Prepared(
            time_grid_on_device(self, data),
            jnp.asarray(self.modelled_signal(data)),
            jax.tree.map(jnp.asarray, self.confound_basis(data)),
        )

    def check(self, design: Any) -> None:
        """Raise an error where a data set (or design) does not fit the structure.

        Parameters
        ----------
        design : BoldData or BoldDesign
            What the model is to be used on.

        Raises
        ------
        TypeError
            If it is neither.
        ValueError
            If the numbers of regions or inputs disagree, or there is no input.
        """
        if not hasattr(design, "repetition_time"):
            raise TypeError(f"data must be BoldData, got {type(design).__name__}")
        if design.n_regions != self.n_regions:
            raise ValueError(
                f"data has {design.n_regions} regions, but the model has {self.n_regions}; "
                "A needs one row and one column for each region of the signal"
            )
        if design.inputs is None:
            raise ValueError(
                "data.inputs is None, but a task DCM is driven by inputs; give inputs and "
                "input_dt, or build the data with BoldData.from_events"
            )
        if design.n_inputs != self.n_inputs:
            raise ValueError(
                f"data has {design.n_inputs} inputs, but the model has {self.n_inputs}; B needs "
                "one slice and C one column for each input"
            )

    def program(self, data: BoldData) -> Callable[[], None]:
        """The generative model of a data set as a NumPyro program without arguments.

        Parameters
        ----------
        data : BoldData
            The data set; `modelled_signal` of it is the observed site ``signal``.

        Returns
        -------
        callable
            For ``numpyro.infer`` (``NUTS(model.program(data))``), `Predictive` and handlers.

        Raises
        ------
        ValueError
            If the numbers of regions or inputs disagree with the model's.

        Examples
        --------
        >>> import bayesdcm, numpyro
        >>> example = bayesdcm.load_example("attention")
        >>> program = example.model.program(example.data)
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
        parameters = {prior.name: sample_prior(prior) for prior in self.priors}
        for name, value in physical_quantities(self.neural, parameters).items():
            numpyro.deterministic(name, value)
        log_precision = sample_prior(self.priors.noise, "precision")
        # Compiled as one: handlers and samplers also run programs one operation at a time.
        prediction = _compiled_response(self, parameters, prepared.grid, expects_subjects())
        numpyro.sample(
            self.observed_site,
            gaussian(prediction, log_precision, confounds=prepared.confounds),
            obs=prepared.signal,
        )

    # Prediction

    def time_grid(self, design: Any) -> TimeGrid:
        """Steps and sample points of the model's integrator.

        Parameters
        ----------
        design : BoldData or BoldDesign
            Inputs and timing.

        Returns
        -------
        TimeGrid
            What depends on data but not on parameters.
        """
        return bold_time_grid(self.neural, self.integrator, design)

    def response(self, parameters: Mapping[str, jax.Array], grid: TimeGrid) -> jax.Array:
        """Percent signal change on a prepared grid.

        Parameters
        ----------
        parameters : mapping
            Full arrays, all of them present.
        grid : TimeGrid
            From `time_grid`.

        Returns
        -------
        jax.Array
            Shape (scans, regions).
        """
        return bold_response(self.neural, self.integrator, parameters, grid)

    def predict(self, parameters: Parameters, data: Any) -> jax.Array:
        """Noise-free prediction, in percent signal change, confounds left out.

        Parameters
        ----------
        parameters : mapping
            Full arrays under the model's names: ``A`` (to, from), ``B`` (input, to, from), ``C``
            (to, input), ``D`` (gating, to, from), ``transit`` (regions,), ``decay`` (), ``epsilon``
            (). ``B`` and ``D`` may be left out where there are none; others are ignored. Arrays
            with names, such as those of ``fit.idata``, are joined by name.
        data : BoldData or BoldDesign
            Inputs and timing; the signal is not used.

        Returns
        -------
        jax.Array
            Shape (scans, regions). Differentiable, and safe under ``jit`` and ``vmap``.

        Raises
        ------
        ValueError
            If a parameter is missing or has the wrong shape.

        Examples
        --------
        >>> import bayesdcm
        >>> example = bayesdcm.load_example("attention")
        >>> example.model.predict(example.parameters, example.data).shape
        (360, 3)
        """
        self.check(data)
        complete = complete_parameters(self.for_data(data).priors, parameters, self.names(data))
        return _compiled_response(self, complete, self.time_grid(data))

    def simulate(
        self, parameters: Parameters, design: Any, seed: int, snr: float | None = None
    ) -> BoldData:
        """Data as a scanner would give them.

        Parameters
        ----------
        parameters : mapping
            As in `predict`.
        design : BoldData or BoldDesign
            Inputs, timing and names; a signal in it is not used.
        seed : int
            Seed of the noise.
        snr : float, optional
            Standard deviation of the noise-free signal over that of the noise, in every region.
            None: noise of ``parameters["log_precision"]`` (regions,), or none where absent.

        Returns
        -------
        BoldData
            The design with the simulated signal, in percent signal change.

        Raises
        ------
        ValueError
            If `snr` is not positive, or the trajectory diverges.

        Examples
        --------
        >>> import bayesdcm
        >>> example = bayesdcm.load_example("attention")
        >>> example.model.simulate(example.parameters, example.data, seed=1, snr=3.0).n_scans
        360
        """
        if snr is not None:
            check_snr(snr)
        clean = np.asarray(self.predict(parameters, design))
        if not np.isfinite(clean).all():
            raise ValueError(
                "parameters give a trajectory that diverges; check that the effective "
                "connectivity has no eigenvalue with positive real part under any input"
            )
        sd = np.zeros(self.n_regions)
        if snr is not None:
            sd = clean.std(axis=0) / snr
        elif "log_precision" in parameters:
            noise = in_place(self.priors.noise, parameters["log_precision"], self.names(design))
            sd = np.exp(-np.asarray(noise) / 2)
        noise = np.random.default_rng(seed).normal(size=clean.shape)
        return BoldData(
            signal=clean + noise * sd,
            repetition_time=design.repetition_time,
            inputs=design.inputs,
            input_dt=design.input_dt,
            region_names=design.region_names,
            input_names=design.input_names,
            confounds=design.confounds,
            slice_delays=design.slice_delays,
            unit="percent",
        )

    def restrict(
        self,
        A: ArrayLike | None = None,
        B: ArrayLike | None = None,
        C: ArrayLike | None = None,
        D: ArrayLike | None = None,
    ) -> TaskDCM:
        """The same model with connections switched off.

        Parameters
        ----------
        A, B, C, D : array_like, optional
            Switches in the shape of the model's own (or 0 for none at all); a connection stays
            on where both the model and this array have it on. None: as it is.

        Returns
        -------
        TaskDCM
            The restricted model.

        Raises
        ------
        ValueError
            If a shape disagrees, or a switch is on that the model has off.

        Examples
        --------
        >>> TaskDCM(A=[[1, 1], [1, 1]], C=[[1], [0]]).restrict(A=[[1, 0], [1, 1]]).A.tolist()
        [[1.0, 0.0], [1.0, 1.0]]
        """
        return self._restricted(A=A, B=B, C=C, D=D)


@partial(jax.jit, static_argnums=(0, 3))
def _compiled_response(
    model: TaskDCM, parameters: Mapping[str, jax.Array], grid: TimeGrid, side_by_side: bool = False
) -> jax.Array:
    """`TaskDCM.response`, compiled once for a structure, a shape of the grid and its context."""
    return model.response(parameters, grid)
