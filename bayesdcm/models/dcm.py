"""The assembly of every model: a neural model, a solver and an observer as one NumPyro program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple, Self

import jax
import numpy as np
import numpyro
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.by_value import structure_key
from bayesdcm.data.device import on_device
from bayesdcm.integrate.base import Solver
from bayesdcm.models.facts import Facts
from bayesdcm.models.given_priors import Priors, parse_priors, prior_table
from bayesdcm.models.priors import complete_parameters, in_place, sample_prior, site_labels
from bayesdcm.models.structure import check_snr, restricted
from bayesdcm.neural import NeuralModel, Prior
from bayesdcm.observe.base import Observer

Parameters = Mapping[str, ArrayLike]
# Axes of parameters that have an entry for each node of the neural model.
NODES = ("node", "region", "source")
# What a model works out of its priors, and keeps.
OF_PRIORS = ("priors", "structure", "_key", "_of_neural", "_of_observer")


class Parts(NamedTuple):
    """What a model is made of."""

    neural: NeuralModel
    solver: Solver
    observer: Observer


class Prepared(NamedTuple):
    """What a program needs of a data set, as arrays: a pytree that compiled code takes.

    What the solver takes, what the observer's forward model takes, data as they are modelled
    (times, columns), what the likelihood takes (confounds, serial correlation), effects in which
    conditions differ (conditions, effects), None where there are no conditions, and means and
    standard deviations of normal priors (`Priors.moments`), which programs take as data: other
    numbers call for no other program.
    """

    steps: Any
    space: Any
    signal: jax.Array
    noise: Any
    design: jax.Array | None
    priors: Mapping[str, tuple[NDArray, NDArray]]


class DCM:
    """Dynamic causal model: a neural model, solved by a solver and seen by an observer.

    A model holds structure only; data go to `program`, `predict`, `simulate` and `bayesdcm.fit`.
    `bayesdcm.TaskDCM` and `bayesdcm.EvokedDCM` choose the parts of common models.

    Parameters
    ----------
    neural : bayesdcm.neural.NeuralModel
        State equation and priors; one of the package's, or your own.
    solver : bayesdcm.integrate.Solver
        ``ExactCascade``, ``RungeKutta`` or ``BilinearExpansion`` for BOLD signals,
        ``LocalLinear`` or ``Delayed`` for evoked responses.
    observer : bayesdcm.observe.Observer
        ``Balloon`` for BOLD signals; ``Dipoles``, ``Patches``, ``Electrodes`` or ``LeadField``
        for evoked responses.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the parts' own, as for `bayesdcm.TaskDCM`.

    Attributes
    ----------
    priors : Priors
        Priors of all parameters but the noise precision; ``priors.noise`` is that of the
        log-precisions of the noise.

    Raises
    ------
    TypeError
        If a part is of another class.
    ValueError
        If the parts do not fit together, or `priors` names what the model does not have.

    Examples
    --------
    >>> import bayesdcm
    >>> from bayesdcm.integrate import RungeKutta
    >>> from bayesdcm.neural import Bilinear
    >>> from bayesdcm.observe import Balloon
    >>> structure = bayesdcm.load_example("attention").model
    >>> neural = Bilinear(structure.A, structure.B, structure.C)
    >>> DCM(neural, RungeKutta(), Balloon())
    DCM(Bilinear, 3 regions, 3 inputs; RungeKutta; Balloon)
    """

    observed_site: ClassVar[str] = "signal"
    priors: Any

    def __init__(
        self, neural: NeuralModel, solver: Solver, observer: Observer, priors: Any = None
    ) -> None:
        for name, value, kind, room in (
            ("neural", neural, NeuralModel, "neural"),
            ("solver", solver, Solver, "integrate"),
            ("observer", observer, Observer, "observe"),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a bayesdcm.{room}.{kind.__name__}, got {value!r}")
        solver.check(neural, observer)
        self.__dict__["parts"] = Parts(neural, solver, observer)
        self._set_priors(priors)

    # Parts

    parts: Parts

    @property
    def neural(self) -> Any:
        """The neural model."""
        return self.parts.neural

    @property
    def solver(self) -> Solver:
        """The solver."""
        return self.parts.solver

    @property
    def observer(self) -> Observer:
        """The observer."""
        return self.parts.observer

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.parts.neural.n_inputs

    @property
    def searches(self) -> bool:
        """Whether variational Laplace looks further where it finds a poor optimum."""
        return self.parts.observer.searches

    @property
    def mirrored(self) -> bool:
        """Whether variational Laplace tries other signs of nodes relative to each other."""
        return self.parts.observer.mirrored

    @property
    def many_modes(self) -> bool:
        """Whether variational Laplace looks further however good the optimum is that it finds."""
        return self.parts.neural.many_modes

    def _asdict(self) -> dict[str, Any]:
        """What the model is constructed from."""
        if is_dataclass(self):
            return {each.name: getattr(self, each.name) for each in fields(self)}
        return {**self.parts._asdict(), "priors": self.priors}

    def _replaced(self, **changes: Any) -> Self:
        """The same model with other arguments of its constructor."""
        return type(self)(**{**self._asdict(), **changes})

    @cached_property
    def _key(self) -> tuple:
        return structure_key(self._asdict() | {"priors": self.priors.key})

    @cached_property
    def structure(self) -> Self:
        """The same model without the numbers of normal priors: what its program depends on.

        Itself where a subclass has a program of its own, which may not take them as data.
        """
        if self._has_own_program:
            return self
        # Not by the constructor, which may compare priors with what else was given.
        other = object.__new__(type(self))
        kept = {name: value for name, value in vars(self).items() if name not in OF_PRIORS}
        other.__dict__.update(kept, priors=self.priors.structure)
        return other

    @property
    def _has_own_program(self) -> bool:
        return type(self).sample is not DCM.sample

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        neural, solver, observer = self.parts
        counts = [
            f"{number} {noun}{'s' * (number != 1)}"
            for number, noun in ((neural.n_nodes, observer.node), (neural.n_inputs, "input"))
        ]
        given = f"; {self.priors!r}" if self.priors.given else ""
        return (
            f"DCM({type(neural).__name__}, {', '.join(counts)}; {type(solver).__name__}; "
            f"{type(observer).__name__}{given})"
        )

    def facts(self) -> Facts:
        """Kind, units, citations and words that results carry."""
        neural, _, observer = self.parts
        derived = {**neural.derived, **observer.derived}
        units = {prior.name: prior.unit for prior in self.priors.all}
        units |= {name: unit for name, (_, unit) in derived.items()}
        neural_citation = (neural.citation,) if neural.citation else ()
        return Facts(
            kind=observer.kind,
            node=observer.node,
            neural=neural.title or type(neural).__name__,
            units=units | dict(neural.units) | dict(observer.units),
            self_units=dict(neural.self_units),
            titles=dict(neural.titles),
            headline=observer.headline,
            axes=observer.axes,
            sample=observer.sample,
            gain=neural.gain,
            populations=dict(neural.populations),
            label_note=neural.label_note,
            flat_directions=neural.flat_directions,
            citations=tuple(dict.fromkeys([*observer.citations, *neural_citation])),
            wide_noise=self._wide_noise,
        )

    @property
    def _wide_noise(self) -> str:
        """The option with which the model's own prior of the noise leaves the decision to data."""
        return ""

    # Priors

    def _set_priors(self, given: Any) -> None:
        """Turn what was given as `priors` into `Priors`."""
        given = given.given if isinstance(given, Priors) else parse_priors(given)
        priors = Priors(self.own_priors(), given)
        if priors.noise.not_normal.any() and not priors.noise.family.of_precisions:
            raise ValueError(
                f"priors[{priors.noise.name!r}] is a {type(priors.noise.family).__name__}, but "
                "log-precisions of the noise have normal priors; give (mean, variance)"
            )
        self.__dict__["priors"] = priors

    def own_priors(self) -> tuple[Prior, ...]:
        """Priors that hold where none are given: neural, of the observer, of the noise."""
        neural, _, observer = self.parts
        return (*neural.priors(), *observer.priors(neural), observer.noise_prior(neural))

    @property
    def neural_priors(self) -> tuple[Prior, ...]:
        """Priors of the neural parameters."""
        return tuple(self.priors)[: len(self.parts.neural.priors())]

    @property
    def observer_priors(self) -> tuple[Prior, ...]:
        """Priors of the observer's parameters."""
        return tuple(self.priors)[len(self.parts.neural.priors()) :]

    @cached_property
    def _of_neural(self) -> dict[str, Prior]:
        return {prior.name: prior for prior in self.neural_priors}

    @cached_property
    def _of_observer(self) -> dict[str, Prior]:
        return {prior.name: prior for prior in self.observer_priors}

    def with_priors(self, priors: Any) -> Self:
        """The same model with other priors.

        Other means and variances of normal priors call for no other compiled program; other fixed
        values and families do.

        Parameters
        ----------
        priors : mapping or pandas.DataFrame
            As the model takes them; what was given before stays where nothing else is given now.

        Raises
        ------
        TypeError, ValueError
            As the model's constructor.

        Examples
        --------
        >>> from bayesdcm import TaskDCM
        >>> model = TaskDCM(A=[[1]], C=[[1]]).with_priors({"C": (0.0, 4.0)})
        >>> model.prior_table().loc["C[region 1, input 1]", "variance"].item()
        4.0
        """
        given = (*self.priors.given, *parse_priors(priors))
        return self._replaced(priors=Priors(self.priors.own, given))

    def for_data(self, data: Any) -> Self:
        """The model with priors of labelled entries in the places that names of data give them.

        Parameters
        ----------
        data : object
            The data set.

        Returns
        -------
        DCM
            Itself where no labelled entries were given.

        Raises
        ------
        ValueError
            If a label is not one of the model's with these names.
        """
        if not self.priors.pending:
            return self
        return self._replaced(priors=self.priors.named(self.names(data)))

    def prior_table(self, data: Any = None) -> pd.DataFrame:
        """Priors of all entries that are estimated or were given, one row each.

        Parameters
        ----------
        data : object, optional
            Data whose names label the entries; None for names such as "region 1".

        Returns
        -------
        pandas.DataFrame
            Index ``parameter``, such as ``A[V5, V1]``; columns ``mean``, ``variance``, ``sd``,
            ``unit`` and ``fixed``, and ``family`` where some are not normal. A table with changed means and variances can be given as
            ``priors=``.

        Raises
        ------
        ValueError
            If priors of labelled entries were given and the labels are not those of the names.

        Examples
        --------
        >>> from bayesdcm import TaskDCM
        >>> TaskDCM(A=[[1]], C=[[1]], priors={"decay": 0.1}).prior_table().loc["decay", "mean"].item()
        0.1
        """  # noqa: E501
        names = self.names(data)
        return prior_table(self.priors.named(names), names, self.facts().unit)

    def restrict(self, **switches: ArrayLike | None) -> Self:
        """The same model with connections switched off.

        Parameters
        ----------
        **switches : array_like
            By name of a field of the neural model that holds switches, such as ``A``; in the
            shape of the model's own (or 0 for none at all). A connection stays on where both the
            model and this array have it on. None: as it is.

        Raises
        ------
        ValueError
            If a name is not known, a shape disagrees, or a switch is on that the model has off.
        """
        known = _switches(self.parts.neural)
        unknown = [name for name in switches if name not in known]
        if unknown:
            raise ValueError(
                f"{unknown[0]} is not a field of {type(self.parts.neural).__name__} with switches "
                f"(0 or 1); expected one of {', '.join(known) or 'none, as there is none'}"
            )
        changes = {
            name: restricted(name, known[name], self._in_places(name, value))
            for name, value in switches.items()
            if value is not None
        }
        other = self._switched(changes)
        defaults = other.priors.own
        return other._replaced(priors=Priors(defaults, self.priors.restricted_to(defaults)))

    def _switched(self, changes: Mapping[str, NDArray]) -> Self:
        """The model with other switches and its own priors."""
        if is_dataclass(self):
            return self._replaced(**changes, priors=None)
        return self._replaced(neural=replace(self.parts.neural, **changes), priors=None)

    def _in_places(self, name: str, value: Any) -> Any:
        """Switches as they came, or in the order of names that the model has."""
        return value

    # The program

    def check(self, data: Any) -> None:
        """Raise an error where a data set (or design) does not fit the structure.

        Parameters
        ----------
        data : BoldData, BoldDesign or EvokedData
            What the model is to be used on.

        Raises
        ------
        TypeError
            If it is of another class.
        ValueError
            If the numbers of regions, inputs, effects or channels disagree, or something that
            the observer needs is missing.
        """
        self.parts.observer.check(data, self.parts.neural)

    def prepare(self, data: Any) -> Prepared:
        """Arrays that the program needs of a data set.

        Parameters
        ----------
        data : BoldData or EvokedData
            The data set.

        Returns
        -------
        Prepared
            Steps of the solver, the signal as it is modelled, and what the observer needs.
        """
        self.check(data)
        signal, noise = self.parts.observer.observed(data, self._of_observer)
        design = getattr(data, "design", None)
        named = self.priors.named(self.names(data))
        return Prepared(
            self._steps(data),
            self.parts.observer.prepare(data, self._of_observer),
            *on_device((signal, noise, design)),
            # NumPyro checks them wherever a program is traced with data at hand: as arrays of
            # JAX's, each check would be compiled.
            {} if self._has_own_program else named.moments,
        )

    def _steps(self, design: Any) -> Any:
        neural, solver, observer = self.parts
        return solver.prepare(neural, observer, design, self._of_neural)

    def program(self, data: Any) -> Callable[[], None]:
        """The generative model of a data set as a NumPyro program without arguments.

        Parameters
        ----------
        data : BoldData or EvokedData
            The data set; as it is modelled (`prepare`), it is the observed site ``signal``.

        Returns
        -------
        callable
            For ``numpyro.infer`` (``NUTS(model.program(data))``), `Predictive` and handlers.

        Raises
        ------
        TypeError, ValueError
            If the data do not fit the model.

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
        if self.priors.pending:
            raise ValueError(
                f"priors names {', '.join(map(repr, self.priors.pending))}, whose places depend "
                "on the names of a data set; use model.for_data(data)"
            )
        neural, solver, observer = self.parts
        role, moments = "observer" if observer.staged else None, prepared.priors.get
        parameters = {n: sample_prior(p, None, moments(n)) for n, p in self._of_neural.items()}
        parameters |= {n: sample_prior(p, role, moments(n)) for n, p in self._of_observer.items()}
        derived = {**neural.derive(parameters, prepared.design), **observer.derive(parameters)}
        for name, value in derived.items():
            numpyro.deterministic(name, value)
        noise = self.priors.noise
        log_precision = sample_prior(noise, "precision", moments(noise.name))
        solution = self._solution(parameters, solver.of_program(prepared.steps))
        prediction = observer.predict(solution, parameters, prepared.space)
        numpyro.sample(
            self.observed_site,
            observer.likelihood(prediction, log_precision, prepared.noise),
            obs=prepared.signal,
        )

    def _solution(
        self, parameters: Mapping[str, jax.Array], steps: Any, seen: bool = True
    ) -> jax.Array:
        """What the solver gives; of neural states, those that are `seen` or all.

        Compiled as one: handlers and samplers also run programs one operation at a time; and
        apart from what the observer makes of it, which variational Laplace moves while states
        stay.
        """
        names = self._of_neural if not self.parts.observer.states else parameters
        needed = {name: parameters[name] for name in names}
        return _compiled_solution(self.structure, needed, steps, seen)

    # Prediction

    def predict(self, parameters: Parameters, data: Any) -> jax.Array:
        """Noise-free prediction on the axes of the data, confounds left out.

        Parameters
        ----------
        parameters : mapping
            Full arrays under the names that `priors` list, such as ``A``, ``B`` and ``C``. Those
            in which nothing is free may be left out; others are ignored. Arrays with names, such
            as those of ``fit.idata``, are joined by name.
        data : BoldData, BoldDesign or EvokedData
            Inputs, times, channels. The signal is not used, but for the scale of evoked
            responses.

        Returns
        -------
        jax.Array
            Percent signal change (scans, regions), or the signal at the channels in the units of
            the data (conditions, times, channels). Differentiable, and safe under ``jit`` and
            ``vmap``.

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
        model, observer = self.for_data(data), self.parts.observer
        complete = complete_parameters(model.priors, parameters, self.names(data))
        solution = model._solution(complete, model._steps(data))
        space = observer.prepare(data, model._of_observer)
        prediction = _compiled_prediction(model.structure, solution, complete, space)
        return observer.at_data(prediction, data, model._of_observer)

    def simulate(
        self, parameters: Parameters, design: Any, seed: int, snr: float | None = None
    ) -> Any:
        """Data as a scanner or a recording would give them.

        Parameters
        ----------
        parameters : mapping
            As in `predict`.
        design : BoldData, BoldDesign or EvokedData
            Inputs, times, names, channels; a signal in it only gives the scale of evoked
            responses.
        seed : int
            Seed of the noise.
        snr : float, optional
            Standard deviation of the noise-free signal over that of the noise, in every region,
            or over all channels. None: noise of ``parameters["log_precision"]``, or none where it
            is absent.

        Returns
        -------
        BoldData or EvokedData
            The design with the simulated signal.

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
                f"parameters give a trajectory that diverges; {self.parts.neural.stability}"
            )
        log_precision = None
        if "log_precision" in parameters:
            value = in_place(self.priors.noise, parameters["log_precision"], self.names(design))
            log_precision = np.asarray(value)
        model, rng = self.for_data(design), np.random.default_rng(seed)
        return self.parts.observer.simulated(
            clean, design, model._of_observer, log_precision, snr, rng
        )

    # What results carry

    def names(self, data: Any = None) -> dict[str, list[str]]:
        """Names along each kind of axis; without data, such as "region 1".

        Parameters
        ----------
        data : BoldData or EvokedData, optional
            The data set.
        """
        neural, _, observer = self.parts
        names = {name: list(values) for name, values in neural.axes.items()}
        names |= observer.names(data, neural)
        for prior in self.priors.own:
            for dim, length in zip(prior.dims, np.shape(prior.mean), strict=True):
                numbers = [str(i + 1) for i in range(length)]
                names.setdefault(dim, names["to"] if dim in NODES else numbers)
        return names

    def labels(self, data: Any) -> dict[str, list[str]]:
        """Labels of the entries of every sampled site, such as ``A[V5, V1]``.

        Parameters
        ----------
        data : BoldData or EvokedData
            The data set.
        """
        names = self.names(data)
        table = {}
        for prior in self.priors.named(names).all:
            table |= site_labels(prior, names)
        return table

    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the axes of every site that results hold."""
        neural, _, observer = self.parts
        derived = {**neural.derived, **observer.derived}
        table = {prior.name: prior.dims for prior in self.priors}
        return table | {name: dims for name, (dims, _) in derived.items()} | observer.dims()

    def coords(self, data: Any) -> dict[str, NDArray]:
        """Coordinates of the axes: names, and times in s.

        Parameters
        ----------
        data : BoldData or EvokedData
            The data set.
        """
        names = {name: np.asarray(values) for name, values in self.names(data).items()}
        return names | self.parts.observer.coords(data, self._of_observer)

    def constants(self, data: Any) -> dict[str, NDArray]:
        """Constants of a data set that results hold, by name.

        Parameters
        ----------
        data : BoldData or EvokedData
            The data set.
        """
        return self.parts.observer.constants(data, self._of_observer)

    def restore(self, scaled: NDArray, data: Any) -> NDArray:
        """From the signal as modelled, (..., times, columns), to units and axes of results.

        Parameters
        ----------
        scaled : ndarray
            As modelled, shape (..., times, columns).
        data : BoldData or EvokedData
            The data set.
        """
        return self.parts.observer.restore(scaled, data, self._of_observer)

    def arrange(self, values: NDArray, data: Any) -> NDArray:
        """From the axes of the signal as modelled to those of results, in the same units.

        Parameters
        ----------
        values : ndarray
            Shape (..., times, columns).
        data : BoldData or EvokedData
            The data set.
        """
        return self.parts.observer.arrange(values, data)


def _switches(neural: NeuralModel) -> dict[str, Any]:
    """Fields of a neural model that hold switches, or None where it has no such connections."""
    if not is_dataclass(neural):
        return {}
    values = {each.name: getattr(neural, each.name) for each in fields(neural)}
    return {
        name: value if value is None else np.asarray(value)
        for name, value in values.items()
        if value is None or (np.ndim(value) > 0 and np.isin(value, (0, 1)).all())
    }


@partial(jax.jit, static_argnums=(0, 3))
def _compiled_solution(
    model: DCM,
    parameters: Mapping[str, jax.Array],
    steps: Any,
    seen: bool,
) -> jax.Array:
    """Solution of a model, compiled once for a structure and shapes."""
    neural, solver, observer = model.parts
    solution = solver.solve(neural, observer, parameters, steps)
    return solution[observer.seen(model._of_observer)] if seen else solution


@partial(jax.jit, static_argnums=0)
def _compiled_prediction(
    model: DCM, solution: jax.Array, parameters: Mapping[str, jax.Array], space: Any
) -> jax.Array:
    """What the observer makes of a solution, compiled once for a structure and shapes."""
    return model.parts.observer.predict(solution, parameters, space)
