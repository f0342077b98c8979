"""A network that is simulated and compared with data: what fitting by simulation fits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data import BoldData, Connectome
from bayesdcm.data.by_value import structure_key
from bayesdcm.data.named_axes import in_order
from bayesdcm.models.facts import Facts
from bayesdcm.models.given_priors import Priors, parse_priors, prior_table
from bayesdcm.models.network import NetworkModel
from bayesdcm.models.objective_terms import CONNECTIVITY, DYNAMICS, MEASURES, Term, parse_terms
from bayesdcm.models.priors import complete_parameters, sample_prior, site_labels
from bayesdcm.neural.base import Parameters, Prior
from bayesdcm.observe.loss_likelihood import LossLikelihood
from bayesdcm.observe.streaming import SeriesObserver, StreamedCorrelation

__all__ = ["SimulationObjective"]

# How far from its prior mean a speed can be estimated, in prior standard deviations.
SPEED_DEVIATIONS = 4.0
# Site of an objective that is one callable.
WHOLE = "objective"
VALUE = "_value"


class PreparedObjective(NamedTuple):
    """What the program takes: data by term, and the keys of the noise, (simulations, ...)."""

    observed: Any
    keys: jax.Array


@dataclass(frozen=True, eq=False)
class SimulationObjective:
    """A network model, how it is simulated, and how simulations are compared with data.

    ``bayesdcm.fit(objective, data, method="gradient")`` or ``"evolution"`` finds parameters at
    which the loss, with the priors as regularisation, is smallest.

    Parameters
    ----------
    network : NetworkModel
        The model; what is not free keeps its value.
    objective : mapping or callable
        What is compared and how: ``{"functional_connectivity": "correlation"}``. Names are those
        of observers or recorded series, or the measures ``"functional_connectivity"`` and
        ``"functional_connectivity_dynamics"``, which are worked out of the one observer that
        gives a series, or else of the nodes' activity. Values are ``"correlation"`` (1 less
        Pearson's r, of connectivity over pairs of regions), ``"squared"`` (mean squared
        difference over the variance of the data), for dynamics ``"wasserstein"`` or
        ``"kolmogorov_smirnov"`` (whose derivative is 0), a callable ``(predicted, observed) ->
        loss``, or a pair of one of these and a weight; losses are summed. Or one callable
        ``(results, data) -> loss`` of all that `NetworkModel.run` gives.
    duration, step, transient : float
        Of the simulation, s.
    free : sequence of str, optional
        Names of the parameters that are fitted; default: ``strength``, ``speed`` where there are
        delays, and those that differ between regions.
    priors : mapping or pandas.DataFrame, optional
        In place of the network's, as for `bayesdcm.TaskDCM`.
    observers, record, sampling_interval, stimulus, history, start
        As in `NetworkModel.simulate`.
    seed : int or sequence of int
        Of the noise, the same for all parameters, so that the loss is a smooth function of them;
        of several, the loss is the mean.
    loss_unit : float
        Loss that counts as much as one nat of the prior: a parameter that is one prior standard
        deviation away from its mean must gain half of it. Tiny: no regularisation.
    horizon : float, optional
        Time after which derivatives forget how states came about, s, for chaotic networks.
    derivative : {"reverse", "forward"}
        What simulations are made for; methods choose it.

    Raises
    ------
    TypeError, ValueError
        If the objective is not known, or a name is not one of the network's.

    Examples
    --------
    >>> import bayesdcm
    >>> network = bayesdcm.NetworkModel(bayesdcm.Linear(), [[0, 1.0], [1.0, 0]], speed=None)
    >>> SimulationObjective(network, {"functional_connectivity": "correlation"}, duration=10.0)
    SimulationObjective(Linear, 2 regions; functional_connectivity by correlation; free: strength)
    """

    network: NetworkModel
    objective: Mapping[str, Any] | Callable[[Mapping[str, jax.Array], Any], jax.Array]
    duration: float
    step: float = 1e-3
    transient: float = 0.0
    free: Sequence[str] | None = None
    priors: Any = None
    observers: Sequence[SeriesObserver] = ()
    record: Sequence[str] | None = None
    sampling_interval: float | None = None
    stimulus: Mapping[str, ArrayLike] | None = None
    history: ArrayLike | None = None
    start: ArrayLike | None = None
    seed: int | Sequence[int] = 0
    loss_unit: float = 1e-3
    horizon: float | None = None
    derivative: str = "reverse"

    observed_site: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if not isinstance(self.network, NetworkModel):
            raise TypeError(f"network must be a NetworkModel, got {self.network!r}")
        if not (np.ndim(self.loss_unit) == 0 and 0 < self.loss_unit < np.inf):
            raise ValueError(f"loss_unit must be a positive number, got {self.loss_unit!r}")
        seeds = np.atleast_1d(self.seed)
        if seeds.dtype.kind not in "iu" or seeds.ndim > 1 or not seeds.size:
            raise ValueError(f"seed must be an integer, or some, got {self.seed!r}")
        if self.terms is not None:
            self._check_terms()
        if not any(prior.free.any() for prior in self.all_priors):
            raise ValueError("free and priors leave no parameter to be fitted")

    def __repr__(self) -> str:
        what = "an objective of its own"
        if self.terms is not None:
            kinds = ((t.name, t.kind if isinstance(t.kind, str) else "a callable")
                     for t in self.terms)  # fmt: skip
            what = ", ".join(f"{name} by {kind}" for name, kind in kinds)
        free = ", ".join(prior.name for prior in self.all_priors if prior.free.any())
        node = type(self.network.node).__name__
        regions = self.network.network.n_nodes
        return f"SimulationObjective({node}, {regions} regions; {what}; free: {free})"

    @cached_property
    def _key(self) -> tuple:
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "seed"}
        return structure_key(parts | {"priors": parse_priors(self.priors)})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    # Priors

    @cached_property
    def all_priors(self) -> tuple[Prior, ...]:
        """Priors of all parameters; those that are not free have no variance."""
        own = self.network.priors()
        names = [prior.name for prior in own]
        free = self._usually_free(names) if self.free is None else tuple(self.free)
        for name in free:
            if name not in names:
                raise ValueError(f"free names {name!r}; expected some of {', '.join(names)}")
        given = parse_priors(self.priors)
        free = {*free, *(entry.name.partition("[")[0] for entry in given)}
        held = tuple(
            prior if prior.name in free else replace(prior, variance=np.zeros_like(prior.variance))
            for prior in own
        )
        return Priors(held, given).named(self.names()).all

    def _usually_free(self, names: Sequence[str]) -> tuple[str, ...]:
        regional = dict.fromkeys(self.network.network.regional or {})
        further = [
            f"{name}_by_{what}" if what else f"{name}_spread"
            for name in regional
            for what in ("map", "region", "")
        ]
        return tuple(name for name in ("strength", "speed", *regional, *further) if name in names)

    def prior_table(self) -> pd.DataFrame:
        """Priors of what is fitted or was given, one row an entry, as `DCM.prior_table`."""
        return prior_table(Priors(self.all_priors), self.names(), self.facts().unit)

    def names(self) -> dict[str, list[str]]:
        """Names along each kind of axis."""
        regions = list(self.network.region_names)
        axes = {name: list(values) for name, values in self.network.network.axes.items()}
        return axes | dict.fromkeys(("node", "region", "other region"), regions)

    # Terms

    @cached_property
    def terms(self) -> tuple[Term, ...] | None:
        """Terms of the objective; None where it is one callable."""
        if callable(self.objective):
            return None
        streamed = (each for each in self.observers if isinstance(each, StreamedCorrelation))
        return parse_terms(self.objective, {CONNECTIVITY, *(each.name for each in streamed)})

    @cached_property
    def _all_observers(self) -> tuple[SeriesObserver, ...]:
        """Observers that were given, and one for connectivity where nothing else gives it."""
        wanted = {term.name for term in self.terms or ()} - {each.name for each in self.observers}
        if CONNECTIVITY in wanted and self._series is None:
            return (*self.observers, StreamedCorrelation())
        return tuple(self.observers)

    @cached_property
    def _series(self) -> str | None:
        """Name of the series that measures are worked out of."""
        given = [each.name for each in self.observers if each.result_dims[0] == "time"]
        given += list(self.record or ())
        return given[0] if len(given) == 1 else None

    def _check_terms(self) -> None:
        given = {each.name for each in self._all_observers}
        given |= set(self.record or (() if self._all_observers else self.network.node.states))
        for term in self.terms:
            if term.name in given:
                continue
            if term.name not in MEASURES:
                raise ValueError(
                    f"objective names {term.name!r}; expected a result of the simulation "
                    f"({', '.join(sorted(given))}) or a measure ({', '.join(MEASURES)}); give an "
                    "observer of that name"
                )
            if self._series is None:
                raise ValueError(
                    f"objective names {term.name!r}, which needs one series; give one observer of "
                    "a series, such as WindowMeans, or record=[...] with one name"
                )

    def _axes(self, name: str) -> tuple[str, ...]:
        """Axes of what a term compares."""
        for each in self._all_observers:
            if each.name == name:
                return each.result_dims
        return MEASURES[name][1] if name in MEASURES else ("time", "region")

    # The program

    def with_derivative(self, derivative: str) -> Self:
        """The same objective, for one kind of derivative.

        Parameters
        ----------
        derivative : {"reverse", "forward"}
            As `NetworkModel.run` takes it.
        """
        return replace(self, derivative=derivative)

    def other_noise(self, prepared: PreparedObjective, seed: int, number: int) -> Any:
        """What `prepare` gives, with noise that was not fitted.

        Parameters
        ----------
        prepared : PreparedObjective
            From `prepare`.
        seed, number : int
            Of the new noise, and how many simulations.
        """
        key = jax.random.fold_in(jax.random.key(seed), 1)
        keys = jax.random.split(key, number * len(prepared.keys))
        data = jax.random.key_data(keys)
        return [prepared._replace(keys=part) for part in jnp.split(data, number)]

    def prepare(self, data: Any) -> PreparedObjective:
        """Data as the program compares them.

        Parameters
        ----------
        data : array_like, xarray.DataArray, BoldData, Connectome or mapping
            What the one term is compared with, or a mapping with an entry for each. Of BoldData,
            measures are worked out; of a Connectome, its functional connectivity is taken. Arrays
            that name regions are put in the order of the network's.

        Returns
        -------
        PreparedObjective
            Arrays.

        Raises
        ------
        TypeError, ValueError
            If a term has no data, or they have another shape, other regions, or missing values.
        """
        keys = jax.vmap(jax.random.key)(jnp.atleast_1d(jnp.asarray(self.seed)))
        if self.terms is None:
            arrays = jax.tree.map(jnp.asarray, data)
            return PreparedObjective(arrays, jax.random.key_data(keys))
        observed = self._by_term(data)
        shapes = self._predicted_shapes()
        arrays = {}
        for term in self.terms:
            array = self._ordered(term, observed[term.name])
            shape = shapes[term.name]
            free = callable(term.kind) or term.compares_distributions
            if array.shape != shape and not (free and array.ndim == len(shape)):
                raise ValueError(
                    f"data for {term.name!r} have shape {array.shape}; the simulation gives "
                    f"{shape} ({', '.join(self._axes(term.name))})"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"data for {term.name!r} hold NaN or infinity; expected numbers")
            arrays[term.name] = jnp.asarray(array)
        return PreparedObjective(arrays, jax.random.key_data(keys))

    def _by_term(self, data: Any) -> dict[str, Any]:
        names = [term.name for term in self.terms]
        if isinstance(data, Mapping) and not isinstance(data, xr.Dataset | pd.DataFrame):
            missing, further = set(names) - set(data), set(data) - set(names)
            if missing or further:
                raise ValueError(
                    f"data has entries {', '.join(map(repr, data))}; expected one for each term "
                    f"of the objective: {', '.join(map(repr, names))}"
                )
            return {name: self._measured(name, data[name]) for name in names}
        if len(names) > 1 and not isinstance(data, BoldData | Connectome):
            raise ValueError(
                f"the objective has {len(names)} terms; data must be a mapping with an entry for "
                f"each of {', '.join(map(repr, names))}"
            )
        return {name: self._measured(name, data) for name in names}

    def _measured(self, name: str, data: Any) -> Any:
        if isinstance(data, Connectome) and name == CONNECTIVITY:
            if data.functional_connectivity is None:
                raise ValueError(
                    "data is a Connectome without functional connectivity; give one that has it, "
                    "or the matrix"
                )
            regions = list(data.region_names)
            return pd.DataFrame(np.asarray(data.functional_connectivity), regions, regions)
        if isinstance(data, Connectome | BoldData) and name not in MEASURES:
            raise TypeError(
                f"data for {name!r} must be an array, got {type(data).__name__}, of which only "
                f"measures ({', '.join(MEASURES)}) are worked out"
            )
        if isinstance(data, Connectome):
            if len(data.bold) != 1:
                raise ValueError(
                    f"data is a Connectome with {len(data.bold)} runs; give one BoldData for {name}"
                )
            data = data.bold[0]
        if not isinstance(data, BoldData):
            return data
        interval = self._interval(any_series=name == DYNAMICS)
        if interval is not None and not np.isclose(interval, data.repetition_time, rtol=1e-3):
            raise ValueError(
                f"data for {name!r} have a repetition time of {data.repetition_time:g} s, the "
                f"{self._series!r} that is simulated one of {interval:g} s; give the observer that "
                "of the data"
            )
        return MEASURES[name][0](data)

    def _interval(self, any_series: bool) -> float | None:
        """Time between samples of the series that is measured, s: of BOLD, or of any."""
        for each in self.observers:
            if each.name == self._series:
                interval = getattr(each, "repetition_time", None)
                return getattr(each, "interval", None) if any_series and not interval else interval
        return (self.sampling_interval or self.step) if any_series and self._series else None

    def _ordered(self, term: Term, value: Any) -> NDArray:
        """Data of a term as an array, regions in the order of the network's."""
        regions = list(self.network.region_names)
        axes = self._axes(term.name)
        wanted = {
            axis: ("regions of the network", regions)
            for axis, name in enumerate(axes)
            if name in ("region", "other region")
        }
        try:
            return np.asarray(in_order(f"data for {term.name!r}", value, wanted), float)
        except (TypeError, ValueError) as error:
            if isinstance(error, ValueError) and "expected" in str(error):
                raise
            raise TypeError(f"data for {term.name!r} must be numbers, got {value!r}") from error

    def _predicted_shapes(self) -> dict[str, tuple[int, ...]]:
        centre = {prior.name: jnp.asarray(prior.mean) for prior in self.all_priors}
        shapes = jax.eval_shape(lambda: self._predictions(centre, jax.random.key(0)))
        return {name: shape.shape for name, shape in shapes.items()}

    def program(self, data: Any) -> Callable[[], None]:
        """The program without arguments: priors, and a loss in place of a likelihood.

        Parameters
        ----------
        data : object
            As `prepare` takes it.
        """
        return partial(self.sample, self.prepare(data))

    def sample(self, prepared: PreparedObjective) -> None:
        """The program itself; physical values are the sites ``NAME_value``.

        Parameters
        ----------
        prepared : PreparedObjective
            From `prepare`; may be traced.
        """
        free = {p.name: sample_prior(p) for p in self.all_priors if p.free.any()}
        parameters = {p.name: free.get(p.name, p.mean) for p in self.all_priors}
        for name, value in self.network.physical(free).items():
            numpyro.deterministic(name + VALUE, value)
        keys = jax.random.wrap_key_data(prepared.keys)
        predicted = jax.vmap(lambda key: self._predictions(parameters, key))(keys)
        if self.terms is None:
            losses = jax.vmap(lambda each: self.objective(each, prepared.observed))(predicted)
            numpyro.factor(WHOLE, -losses.mean() / self.loss_unit)
            return
        for term in self.terms:
            likelihood = LossLikelihood(
                predicted[term.name], term.loss, self.loss_unit / term.weight
            )
            numpyro.sample(term.name, likelihood, obs=prepared.observed[term.name])

    def _predictions(self, parameters: Parameters, key: jax.Array) -> dict[str, jax.Array]:
        """What terms compare, by name; all results where the objective is one callable."""
        results = self.network.run(
            parameters,
            key,
            observers=self._all_observers,
            derivative=self.derivative,
            horizon=self.horizon,
            speed_range=self._speed_range(),
            **self._settings(),
        )
        if self.terms is None:
            return results
        return {
            term.name: results[term.name]
            if term.name in results
            else MEASURES[term.name][0](results[self._series])
            for term in self.terms
        }

    def _settings(self) -> dict[str, Any]:
        names = ("duration", "step", "transient", "record", "sampling_interval", "stimulus",
                 "history", "start")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def _speed_range(self) -> tuple[float, float] | None:
        if not self.network.network.delayed:
            return None
        prior = next(prior for prior in self.all_priors if prior.name == "speed")
        reach = SPEED_DEVIATIONS * float(np.sqrt(prior.variance)) + 1e-9
        usual = self.network.network.speed * np.exp(float(prior.mean))
        return usual * np.exp(-reach), usual * np.exp(reach)

    # Use

    def simulate(self, parameters: Parameters, seed: int = 0, **changes: Any) -> xr.Dataset:
        """Simulate as fits do, with labels; see `NetworkModel.simulate`.

        Parameters
        ----------
        parameters : mapping
            As ``fit.mean``; others have their prior mean.
        seed : int
            Of the noise.
        **changes
            Other arguments of `NetworkModel.simulate`.

        Returns
        -------
        xarray.Dataset
            Results by name.
        """
        settings = {**self._settings(), "observers": self._all_observers, **changes}
        complete = self._complete(parameters)
        return self.network.simulate(parameters=complete, seed=seed, **settings)

    def simulate_terms(
        self, parameters: Parameters, seeds: Sequence[int], progress: bool = True
    ) -> dict[str, NDArray]:
        """What terms compare, of many simulations, each with noise of its own.

        Parameters
        ----------
        parameters : mapping
            As ``fit.mean``, with a leading axis of simulations; others have their prior mean.
        seeds : sequence of int
            Of the noise, one a simulation.
        progress : bool
            As in `NetworkModel.simulate`.

        Returns
        -------
        dict of str to ndarray
            By name of the term, with a leading axis; not finite where a simulation diverges.

        Raises
        ------
        ValueError
            If the objective is one callable, which names no terms.
        """
        if self.terms is None:
            raise ValueError(
                "objective is one callable, which names nothing that is compared; give a mapping, "
                'such as {"functional_connectivity": "correlation"}'
            )
        means = {prior.name: prior.mean for prior in self.all_priors}
        settings = {**self._settings(), "observers": self._all_observers, "progress": progress}
        with warnings.catch_warnings():
            # Those that diverge are for the caller to count.
            warnings.filterwarnings("ignore", message=".*simulations diverge")
            found = self.network.simulate(
                parameters={**means, **parameters}, seed=seeds, **settings
            )
        measured = {}
        for term in self.terms:
            if term.name in found:
                measured[term.name] = found[term.name].values
            else:
                measure, series = MEASURES[term.name][0], found[self._series].values
                measured[term.name] = np.stack([np.asarray(measure(each)) for each in series])
        return measured

    def losses(self, parameters: Parameters, data: Any) -> dict[str, float]:
        """Loss of every term, its weight left out, at some parameters; 0 is the best.

        Parameters
        ----------
        parameters : mapping
            As ``fit.mean``; others have their prior mean.
        data : object
            As `prepare` takes it.

        Returns
        -------
        dict of str to float
            By name of the term, ``"objective"`` where that is one callable.
        """
        complete = self._complete(parameters)
        return {
            name: float(loss) for name, loss in _losses(self, complete, self.prepare(data)).items()
        }

    def _complete(self, parameters: Parameters) -> dict[str, jax.Array]:
        """All parameters; those that are not given have their prior mean."""
        means = {prior.name: prior.mean for prior in self.all_priors}
        for name in parameters:
            if name not in means:
                raise ValueError(f"parameters names {name!r}; expected some of {', '.join(means)}")
        return complete_parameters(self.all_priors, {**means, **parameters}, self.names())

    # What results carry

    def facts(self) -> Facts:
        """Kind, units, citations and words that results carry."""
        node = self.network.node
        units = {prior.name: prior.unit for prior in self.all_priors}
        citation = (node.citation,) if node.citation else ()
        return Facts(
            kind="simulated network",
            node="region",
            neural=node.title or type(node).__name__,
            units=units,
            citations=citation,
            flat_directions=True,
        )

    def labels(self, data: Any) -> dict[str, list[str]]:
        """Labels of the entries of every sampled site.

        Parameters
        ----------
        data : object
            Not used.
        """
        names = self.names()
        table = {}
        for prior in self.all_priors:
            table |= site_labels(prior, names)
        return table

    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the axes of every site that results hold."""
        table = {prior.name: prior.dims for prior in self.all_priors}
        table |= {name + VALUE: dims for name, dims in table.items()}
        return table | {term.name: self._axes(term.name) for term in self.terms or ()}

    def coords(self, data: Any) -> dict[str, NDArray]:
        """Names of regions, and what observers know of their axes.

        Parameters
        ----------
        data : object
            Not used.
        """
        shape = (round(self.duration / self.step), self.network.network.n_nodes)
        terms = {term.name for term in self.terms or ()}
        table = {name: np.asarray(values) for name, values in self.names().items()}
        for each in self._all_observers:
            if each.name in terms:
                table |= {n: np.asarray(v) for n, v in each.result_coords(shape, self.step).items()}
        return table

    def constants(self, data: Any) -> dict[str, NDArray]:
        """No constants.

        Parameters
        ----------
        data : object
            Not used.
        """
        return {}

    def restore(self, scaled: NDArray, data: Any) -> NDArray:
        """Results as they are.

        Parameters
        ----------
        scaled : ndarray
            A result.
        data : object
            Not used.
        """
        return scaled

    def arrange(self, values: NDArray, data: Any) -> NDArray:
        """Results as they are.

        Parameters
        ----------
        values : ndarray
            A result.
        data : object
            Not used.
        """
        return values

    def essentials(self, data: Any, prepared: PreparedObjective) -> tuple[Any, Any]:
        """Data as files hold them, and no coordinates.

        Parameters
        ----------
        data : object
            As `prepare` takes it.
        prepared : PreparedObjective
            From `prepare`.
        """
        if self.terms is None:
            return data, None
        return {name: np.asarray(array) for name, array in prepared.observed.items()}, None


@partial(jax.jit, static_argnums=0)
def _losses(
    model: SimulationObjective, parameters: Parameters, prepared: PreparedObjective
) -> dict[str, jax.Array]:
    keys = jax.random.wrap_key_data(prepared.keys)
    predicted = jax.vmap(lambda key: model._predictions(parameters, key))(keys)
    if model.terms is None:
        return {WHOLE: jax.vmap(lambda p: model.objective(p, prepared.observed))(predicted).mean()}
    return {
        term.name: jax.vmap(lambda p, t=term: t.loss(p, prepared.observed[t.name]))(
            predicted[term.name]
        ).mean()
        for term in model.terms
    }
