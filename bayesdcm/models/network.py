"""A whole brain: a node in every region of a connectome, with delays and noise."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesdcm.integrate.one_step import SCHEMES
from bayesdcm.models.network_batch import chunk_size, in_chunks, stimulus_rows
from bayesdcm.models.network_run import Plan, begin, plan, whole_run, wiring
from bayesdcm.neural.base import NodeModel, Parameters, Prior
from bayesdcm.neural.couplings import COUPLINGS, Coupling
from bayesdcm.neural.network import Free, Groups, Maps, Network, Shrunk, Spread
from bayesdcm.neural.noise import Noise, OrnsteinUhlenbeck
from bayesdcm.observe.streaming import SeriesObserver, WindowMeans, steps_of

# A speed that is being estimated may leave that of the constructor by this factor, either way.
SPEED_FACTOR = 2.0
LOG_SCALING = "log scaling"


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """A whole-brain model: regions of a connectome, a node in each, coupled with delays.

    Parameters
    ----------
    node : NodeModel
        What is in a region, such as ``WilsonCowan()``.
    connectome : Connectome or array_like
        Weights (to x from), lengths (mm) and names of regions; or weights alone, for a network
        without delays.
    coupling : str or Coupling, optional
        ``"diffusive"``, ``"additive"``, ``"sigmoidal"``, ``"sigmoidal_jansen_rit"``, ``"tanh"``
        or ``"kuramoto"``, or an object of `bayesdcm.neural` with other constants. None: the usual
        one of the node, ``"kuramoto"`` for phases and ``"diffusive"`` for all else.
    coupled : str or (str, str) or (str, sequence of str), optional
        The signal or state that travels, and the afferent (or afferents) where it arrives. One
        name: that signal, to the node's first afferent. Default: the node's first of each.
    strength : array_like
        Factor of the coupling, a number or by receiving region.
    speed : float or None
        Conduction speed, m/s. None: no delays.
    noise : OrnsteinUhlenbeck, White, sequence of them, or None
        What drives the nodes.
    scheme : str
        Scheme of a step: ``"heun"``, ``"euler"``, ``"exponential_euler"`` or ``"rk4"``. What
        arrives by connections, stimuli and noise are held during a step.
    regional : sequence of str or mapping
        How parameters differ between regions. By name of the parameter: ``"free"`` (all that a
        sequence names); ``"shrunk"``, about a common value (``NAME_by_region``) by an amount that
        is a parameter, too (``NAME_spread``); names or integers, one a region, for groups that
        share a value; numbers, one a region or shape (maps, regions), for maps, whose coefficients
        are the parameter ``NAME_by_map``.

    Raises
    ------
    ValueError, TypeError
        If shapes disagree, a name is not known, or a number is out of range.

    Notes
    -----
    Signals are interpolated linearly between steps, so that the speed of conduction has a
    derivative.

    Examples
    --------
    >>> from bayesdcm.neural import WilsonCowan
    >>> model = NetworkModel(WilsonCowan(), [[0, 0.5], [0.5, 0]], speed=None)
    >>> stronger = model.parameters(strength=2.0)
    >>> result = model.simulate(duration=0.01, parameters=stronger, start=[0.1, 0.0])
    >>> result.E.dims, float(result.time[-1])
    (('time', 'region'), 0.01)
    """

    node: NodeModel
    connectome: Any
    coupling: str | Coupling | None = None
    coupled: str | tuple[str, str | Sequence[str]] | None = None
    strength: ArrayLike = 1.0
    speed: float | None = 10.0
    noise: Noise | Sequence[Noise] | None = None
    scheme: str = "heun"
    regional: Sequence[str] | Mapping[str, Any] = ()

    def __post_init__(self) -> None:
        check_node(self.node)
        _check_choice("scheme", self.scheme, SCHEMES)
        self.network.priors()

    @cached_property
    def network(self) -> Network:
        """The network as a neural model."""
        connectome, node = self.connectome, self.node
        weights = weights_of(connectome)
        if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
            raise ValueError(
                f"connectome has weights of shape {weights.shape}; expected a square matrix, "
                "regions that receive x regions that send"
            )
        lengths = getattr(connectome, "lengths", None)
        if self.speed is not None and lengths is None:
            raise ValueError(
                f"speed is {self.speed} m/s, but connectome has no lengths; give "
                "Connectome(weights, lengths, ...), or speed=None for a network without delays"
            )
        if self.speed is not None and not (np.ndim(self.speed) == 0 and self.speed > 0):
            raise ValueError(f"speed is {self.speed!r}; expected a positive number, m/s, or None")
        regions, sent, afferents = len(weights), *self._ends()
        if node.n_nodes not in (0, 1, regions):
            raise ValueError(
                f"node has constants for {node.n_nodes} regions; expected one value, or one for "
                f"each of the {regions} regions of connectome"
            )
        coupling = node.usual_coupling if self.coupling is None else self.coupling
        if isinstance(coupling, str):
            _check_choice("coupling", coupling, COUPLINGS)
            coupling = COUPLINGS[coupling]()
        fits = self.speed is not None and np.isfinite(self.speed)
        network = Network(
            *(node, weights, np.array(lengths, float) if fits else None, coupling, sent),
            tuple(afferents),
            _by_region("strength", self.strength, regions),
            float(self.speed) if fits else None,
            self._noise(regions),
        )
        return replace(network, regional=_regional(self.regional, network))

    def _ends(self) -> tuple[str, tuple[str, ...]]:
        """What travels, and where it arrives."""
        signals, afferents = self.node.signals or self.node.states, self.node.afferents
        if not afferents:
            raise ValueError(
                f"node {type(self.node).__name__} names no afferents, so nothing can reach it; "
                "use a NodeModel that has them"
            )
        coupled = (signals[0], afferents[0]) if self.coupled is None else self.coupled
        sent, to = (coupled, afferents[0]) if isinstance(coupled, str) else coupled
        to = (to,) if isinstance(to, str) else tuple(to)
        _check_choice("coupled (what travels)", sent, (*signals, *self.node.states))
        for name in to:
            _check_choice("coupled (where it arrives)", name, afferents)
        return sent, to

    def _noise(self, regions: int) -> tuple[Noise, ...]:
        given = self.noise
        processes = () if given is None else given
        if isinstance(given, Noise):
            processes = (given,)
        for each in processes:
            if not isinstance(each, Noise):
                raise TypeError(
                    f"noise must be White(...), OrnsteinUhlenbeck(...) or several of them, got "
                    f"{each!r}"
                )
        kinds = [type(each) for each in processes]
        if len(set(kinds)) < len(kinds):
            raise ValueError(
                "noise has two of one kind; give one, whose `into` may have several names"
            )
        checked = []
        for each in processes:
            if isinstance(each, OrnsteinUhlenbeck):
                names, places = ("sd", "tau"), self.node.afferents
            else:
                names, places = ("intensity",), self.node.states
            for name in (each.into,) if isinstance(each.into, str) else each.into:
                if name:
                    _check_choice("noise (into)", name, places)
            values = {n: _by_region(f"noise {n}", getattr(each, n), regions) for n in names}
            low = [n for n, v in values.items() if np.any(np.asarray(v) < 0)]
            if low or np.any(np.asarray(values.get("tau", 1.0)) <= 0):
                raise ValueError(f"noise has {low[0] if low else 'tau'} below or at 0")
            checked.append(replace(each, **values))
        return tuple(checked)

    @cached_property
    def region_names(self) -> tuple[str, ...]:
        """Names of the regions."""
        names = getattr(self.connectome, "region_names", None)
        count = range(1, self.network.n_nodes + 1)
        return tuple(names) if names is not None else tuple(f"region {i}" for i in count)

    def priors(self) -> tuple[Prior, ...]:
        """Priors of all parameters: the node's, `strength`, `speed`, and those of the noise."""
        return self.network.priors()

    def parameters(self, **physical: ArrayLike) -> dict[str, NDArray]:
        """Parameters as simulations and fits take them, from physical values.

        Parameters
        ----------
        **physical : array_like
            By name of a parameter: of a node's constant in its unit, ``strength``, ``speed`` in
            m/s, ``noise_sd``, ``noise_tau`` in s, ``noise_intensity``. Others keep their value.

        Returns
        -------
        dict of str to ndarray
            Log scalings, and differences where values may be negative.

        Raises
        ------
        ValueError
            If a name is not known, or a log scaling of the value does not exist.

        Examples
        --------
        >>> from bayesdcm.neural import WilsonCowan
        >>> model = NetworkModel(WilsonCowan(), [[0, 0.5], [0.5, 0]], speed=None)
        >>> float(model.parameters(strength=2.0)["strength"].round(4))
        0.6931
        """
        units = {prior.name: prior.unit for prior in self.network.common_priors()}
        table = {}
        for name, value in physical.items():
            _check_choice("parameters", name, units)
            usual = np.asarray(self._usual(name), float)
            if units[name] == LOG_SCALING:
                with np.errstate(all="ignore"):
                    table[name] = np.log(np.asarray(value, float) / usual)
            else:
                table[name] = np.asarray(value, float) - usual
            if not np.isfinite(table[name]).all():
                raise ValueError(
                    f"{name} is {value}; expected the sign of {usual}, of which it is a scaling"
                )
        return table

    def physical(self, parameters: Parameters) -> dict[str, jax.Array]:
        """Physical values of parameters, the inverse of `parameters`.

        Parameters
        ----------
        parameters : mapping
            Log scalings and differences by name; coefficients of maps, and names that are not
            known, are left out.

        Returns
        -------
        dict of str to jax.Array
            By name, in the units of the node's constants, m/s and s.
        """
        units = {prior.name: prior.unit for prior in self.network.common_priors()}
        return {
            name: self._usual_of(name, value) * jnp.exp(value)
            if units[name] == LOG_SCALING
            else self._usual_of(name, value) + value
            for name, value in parameters.items()
            if name in units
        }

    def _usual_of(self, name: str, value: ArrayLike) -> ArrayLike:
        """`_usual`, of groups of regions the mean of each."""
        usual, spread = self._usual(name), (self.network.regional or {}).get(name)
        if np.ndim(usual) and isinstance(spread, Groups):
            return np.bincount(spread.members, usual) / np.bincount(spread.members)
        return usual

    def _usual(self, name: str) -> ArrayLike:
        """The physical value of a parameter where its scaling is 0."""
        if name in ("strength", "speed"):
            return getattr(self.network, name)
        for each in self.network.noise:
            value = getattr(each, name.removeprefix("noise_"), None)
            if name.startswith("noise_") and value is not None:
                return value
        return getattr(self.node, name)

    # Simulation

    def simulate(
        self,
        duration: float,
        step: float = 1e-4,
        *,
        parameters: Parameters | None = None,
        seed: int | Sequence[int] = 0,
        transient: float = 0.0,
        observers: Sequence[SeriesObserver] = (),
        record: Sequence[str] | None = None,
        sampling_interval: float | None = None,
        stimulus: Mapping[str, ArrayLike] | None = None,
        history: ArrayLike | None = None,
        start: ArrayLike | None = None,
        memory: float = 1e9,
        progress: bool = True,
    ) -> xr.Dataset:
        """Simulate one brain, or many.

        Parameters
        ----------
        duration, step : float
            Of what is kept, and of a step of the solver, s.
        parameters : mapping, optional
            Full arrays by name (see `parameters`); others have their prior mean. With a leading
            axis: that many simulations.
        seed : int or sequence of int
            Of the noise; a sequence: that many simulations. With one seed, all of them have the
            same noise.
        transient : float
            Time that is simulated before and left out, s.
        observers : sequence of SeriesObserver
            What is worked out while the simulation runs, such as BOLD or functional
            connectivity; nothing else is kept, unless `record` says so.
        record : sequence of str, optional
            States and signals that are kept; default: all states, or none with observers.
        sampling_interval : float, optional
            Keep means over windows of that length, s; default: each step.
        stimulus : mapping of str to array_like, optional
            What is added to an afferent: a number or shape (regions,), always; or shape (steps of
            the duration, regions), after the transient.
        history : array_like, optional
            Signal that travels, at times up to 0: shape (regions,), or (steps, regions) with the
            last row at 0; the first row holds for all time before. Default: that of `start`.
        start : array_like, optional
            States to begin with, shape (states,) or (regions, states); default: the node's rest.
        memory : float
            Bytes that simulations at work may take; what does not fit runs in turn.
        progress : bool
            Whether to show progress, once it has taken two seconds.

        Returns
        -------
        xarray.Dataset
            Variables by name, dims ``time`` (s, after each step or window) and ``region``, units
            as attributes; observers' results under their names. Many: a leading ``simulation``.

        Raises
        ------
        ValueError
            If times are not whole numbers of steps, names are not known, shapes disagree, the
            result is larger than the memory of the machine, or the trajectory diverges.
        """
        steps = (
            steps_of("transient", transient, step, least=0),
            steps_of("duration", duration, step),
        )
        recorded, observers = self._asked(record, observers, sampling_interval)
        complete, varied, total = self._complete(parameters)
        key, many = _keys(seed, total)
        network = self.network
        speeds = self._speeds(complete)
        copies = 1
        scheme = SCHEMES[self.scheme]
        made = plan(network, scheme, step, speeds, recorded, reverse=False)
        if many:
            copies = chunk_size(len(key), int(memory // _bytes(made, network)))
        wired = wiring(made, network, speeds, complete, key)
        given = self._stimulus(stimulus, steps[1])
        begin_with = (self._start(start), self._history(history))
        series, results, finite = in_chunks(
            *(made, observers, wired, varied if many else None, begin_with, given, steps),
            chunk=copies,
            progress=progress,
        )
        self._check_finite(finite)
        return self._labelled(series, observers, results, steps[1], step, many)

    def run(
        self,
        parameters: Parameters,
        seed: int | jax.Array,
        duration: float,
        step: float = 1e-4,
        *,
        transient: float = 0.0,
        observers: Sequence[SeriesObserver] = (),
        record: Sequence[str] | None = None,
        sampling_interval: float | None = None,
        stimulus: Mapping[str, ArrayLike] | None = None,
        history: ArrayLike | None = None,
        start: ArrayLike | None = None,
        derivative: str = "reverse",
        horizon: float | None = None,
        speed_range: tuple[float, float] | None = None,
    ) -> dict[str, jax.Array]:
        """What `simulate` gives, as a pure function: for `jax.jit`, `jax.grad`, `jax.vmap`.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name; others have their prior mean.
        seed : int or jax.Array
            Seed, or key.
        duration, step, transient, observers, record, sampling_interval, stimulus, history, start
            As in `simulate`.
        derivative : str
            ``"reverse"`` (`jax.grad`, many parameters) or ``"forward"`` (`jax.jacfwd`, few).
        horizon : float, optional
            Time after which derivatives forget how states came about, s: derivatives through
            chaos grow without bound. They are no longer exact, and results do not change.
        speed_range : (float, float), optional
            Slowest and fastest conduction, m/s, where the speed is traced; default: half and
            twice that of the model. Where a delay leaves what the program was made for, all
            results are NaN.

        Returns
        -------
        dict of str to jax.Array
            Recorded series, shape (steps, regions), and results of observers, by name.

        Raises
        ------
        ValueError
            As in `simulate`.
        """
        _check_choice("derivative", derivative, ("reverse", "forward"))
        steps = (
            steps_of("transient", transient, step, least=0),
            steps_of("duration", duration, step),
        )
        forgets = None if horizon is None else steps_of("horizon", horizon, step)
        recorded, observers = self._asked(record, observers, sampling_interval)
        complete, varied, _ = self._complete(parameters)
        if varied:
            raise ValueError(
                f"parameters has a leading axis in {', '.join(sorted(varied))}; use jax.vmap"
            )
        network = self.network
        speeds = self._speeds(complete, speed_range)
        made = plan(network, SCHEMES[self.scheme], step, speeds, recorded, derivative == "reverse")
        key = seed if _is_key(seed) else jax.random.key(seed)
        wired = wiring(made, network, speeds, complete, key)
        given = self._stimulus(stimulus, steps[1])
        carry = begin(
            *(made, observers, wired, self._start(start), self._history(history), steps[1])
        )
        for length, seen in zip(steps, (False, True), strict=True):
            if length:
                parts = (made, observers) if seen else (made._replace(recorded=()), ())
                at = slice(0, length)
                now = {name: stimulus_rows(value, at, seen) for name, value in given.items()}
                carry, series = whole_run(*parts, wired, carry, now, length, forgets)
        results = {
            each.name: each.finish(state)
            for each, state in zip(observers, carry.observed, strict=True)
        }
        return series | results

    def _asked(
        self,
        record: Sequence[str] | None,
        observers: Sequence[SeriesObserver],
        sampling_interval: float | None,
    ) -> tuple[tuple[str, ...], tuple[SeriesObserver, ...]]:
        """Series to keep at every step, and all observers, means over windows among them."""
        known = tuple(dict.fromkeys((*self.node.states, *self.node.signals)))
        usual = () if observers else self.node.states
        names = tuple(usual if record is None else record)
        for name in names:
            _check_choice("record", name, known)
        for each in observers:
            if not isinstance(each, SeriesObserver):
                raise TypeError(
                    f"observers holds {each!r}; expected a SeriesObserver, such as Balloon, "
                    "HrfConvolution, LeadField or StreamedCorrelation of bayesdcm.observe"
                )
            each.check_regions(self.region_names)
            if each.of:
                _check_choice(f"observers ({each.name}, of)", each.of, known)
        if sampling_interval is not None:
            means = (WindowMeans(sampling_interval, n, n, self._unit(n)) for n in names)
            observers, names = (*means, *observers), ()
        titles = [*names, *(each.name for each in observers)]
        twice = [name for name in titles if titles.count(name) > 1]
        if twice:
            raise ValueError(f"two results have the name {twice[0]!r}; rename an observer")
        return names, tuple(observers)

    def _complete(
        self, parameters: Parameters | None
    ) -> tuple[dict[str, jax.Array], frozenset[str], int | None]:
        """All parameters, which have a leading axis, and its length."""
        given = dict(parameters or {})
        table, lengths = {}, {}
        for prior in self.priors():
            value = given.pop(prior.name, prior.mean)
            shape = np.shape(value)
            if shape != np.shape(prior.mean):
                if shape[1:] != np.shape(prior.mean) or not shape:
                    raise ValueError(
                        f"parameters[{prior.name!r}] has shape {shape}; expected "
                        f"{np.shape(prior.mean)}, or one more leading axis for many simulations"
                    )
                lengths[prior.name] = shape[0]
            table[prior.name] = jnp.asarray(value, float)
        if given:
            _check_choice("parameters", next(iter(given)), table)
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"parameters differ in their leading axis: {lengths}; expected one number of "
                "simulations"
            )
        return table, frozenset(lengths), next(iter(lengths.values()), None)

    def _speeds(
        self, parameters: Parameters, limits: tuple[float, float] | None = None
    ) -> tuple[float, float] | None:
        """Slowest and fastest conduction, m/s."""
        if not self.network.delayed:
            return None
        if limits is not None:
            low, high = limits
            if not 0 < low <= high:
                raise ValueError(f"speed_range is {limits}; expected two positive, rising numbers")
            return float(low), float(high)
        usual, scaling = self.network.speed, parameters["speed"]
        if isinstance(scaling, jax.core.Tracer):
            return usual / SPEED_FACTOR, usual * SPEED_FACTOR
        speeds = usual * np.exp(np.asarray(scaling))
        return float(speeds.min()), float(speeds.max())

    def _stimulus(self, stimulus: Mapping[str, ArrayLike] | None, steps: int) -> dict[str, NDArray]:
        regions, table = self.network.n_nodes, {}
        for name, value in (stimulus or {}).items():
            _check_choice("stimulus", name, self.node.afferents)
            value = np.asarray(value, float)
            if value.shape not in ((), (regions,), (steps, regions)):
                raise ValueError(
                    f"stimulus[{name!r}] has shape {value.shape}; expected a number, ({regions},) "
                    f"or ({steps}, {regions}): steps of the duration x regions"
                )
            table[name] = np.broadcast_to(value, (regions,)) if value.ndim < 2 else value
        return table

    def _start(self, start: ArrayLike | None) -> jax.Array | None:
        if start is None:
            return None
        shape = (self.network.n_nodes, len(self.node.states))
        if np.shape(start) not in (shape, shape[1:]):
            raise ValueError(
                f"start has shape {np.shape(start)}; expected {shape[1:]} or {shape}: regions x "
                f"states {', '.join(self.node.states)}"
            )
        return jnp.broadcast_to(jnp.asarray(start, float), shape)

    def _history(self, history: ArrayLike | None) -> jax.Array | None:
        if history is None:
            return None
        regions = self.network.n_nodes
        if np.ndim(history) not in (1, 2) or np.shape(history)[-1] != regions:
            raise ValueError(
                f"history has shape {np.shape(history)}; expected ({regions},) or (steps, "
                f"{regions}) with the last row at time 0"
            )
        return jnp.asarray(history, float).reshape(-1, regions)

    def _unit(self, name: str) -> str:
        return dict(getattr(self.node, "state_units", {})).get(name, "")

    def _check_finite(self, finite: NDArray) -> None:
        if finite.all():
            return
        if len(finite) == 1:
            raise ValueError(
                f"the trajectory diverges; take a shorter step, or {self.network.stability}"
            )
        warnings.warn(
            f"{int((~finite).sum())} of {len(finite)} simulations diverge and are not finite; "
            f"take a shorter step, or {self.network.stability}",
            stacklevel=3,
        )

    def _labelled(
        self,
        series: Mapping[str, NDArray],
        observers: Sequence[SeriesObserver],
        results: Sequence[NDArray],
        steps: int,
        step: float,
        many: bool,
    ) -> xr.Dataset:
        lead = ("simulation",) if many else ()
        names = list(self.region_names)
        variables = {}
        for name, values in series.items():
            time = {"time": step * np.arange(1, steps + 1)}
            variables[name] = (self._unit(name), (*lead, "time", "region"), values, time)
        for each, values in zip(observers, results, strict=True):
            where = dict(each.result_coords((steps, len(names)), step))
            variables[each.name] = (each.result_unit, (*lead, *each.result_dims), values, where)
        arrays = {}
        for name, (unit, dims, values, where) in variables.items():
            where |= {dim: names for dim in ("region", "other region") if dim in dims}
            arrays[name] = xr.DataArray(
                values, dims=dims, coords=where, name=name, attrs={"units": unit}
            )
        clocks = [array.time.values for array in arrays.values() if "time" in array.dims]
        if not all(np.array_equal(clock, clocks[0]) for clock in clocks):
            # Series of other sampling have their own axis of time.
            arrays = {
                name: array.rename({"time": f"time of {name}"})
                if "time" in array.dims and name not in series
                else array
                for name, array in arrays.items()
            }
        dataset = xr.Dataset(arrays)
        for name in dataset.coords:
            if str(name).startswith("time"):
                dataset[name].attrs["units"] = "s"
        return dataset.assign_attrs(step=step, model=self.node.title or type(self.node).__name__)


def check_node(node: object) -> None:
    """Raise TypeError of what is no node, such as the name or the class of one."""
    if not isinstance(node, NodeModel):
        advice = "; call it, for an object" if isinstance(node, type) else ""
        raise TypeError(f"node must be a node such as Linear() or WongWang(), got {node!r}{advice}")


def weights_of(connectome: Any) -> NDArray[np.float64]:
    """Copy of the weights of a connectome, which may be weights alone; TypeError of others."""
    try:
        return np.array(getattr(connectome, "weights", connectome), float)
    except (TypeError, ValueError):
        raise TypeError(
            f"connectome must be a Connectome or a matrix of weights, got {connectome!r}; "
            "Connectome.from_csv reads files"
        ) from None


def _check_choice(argument: str, value: Any, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{argument} names {value!r}; expected one of {', '.join(choices)}")


def _by_region(name: str, value: ArrayLike, regions: int) -> float | NDArray:
    array = np.array(value, float)
    if array.shape not in ((), (regions,)) or not np.isfinite(array).all():
        raise ValueError(
            f"{name} is {value!r}; expected a finite number, or one a region ({regions})"
        )
    return array if array.ndim else float(array)


def _regional(given: Sequence[str] | Mapping[str, Any], network: Network) -> dict[str, Spread]:
    table = dict(given) if isinstance(given, Mapping) else {name: "free" for name in given}
    common = {prior.name: prior for prior in network.common_priors()}
    return {name: _spread(name, value, common, network.n_nodes) for name, value in table.items()}


def _spread(name: str, value: Any, common: Mapping[str, Prior], regions: int) -> Spread:
    """How one parameter differs between regions."""
    _check_choice("regional", name, common)
    if name == "speed" or common[name].dims:
        raise ValueError(f"regional names {name!r}, which cannot differ between regions")
    if isinstance(value, str):
        _check_choice(f"regional[{name!r}]", value, ("free", "shrunk"))
        return Free() if value == "free" else Shrunk()
    array = np.asarray(value)
    if array.ndim not in (1, 2) or array.shape[-1] != regions:
        raise ValueError(
            f"regional[{name!r}] has shape {array.shape}; expected 'free', 'shrunk', labels of "
            f"groups ({regions},), or maps ({regions},) or (maps, {regions})"
        )
    if array.dtype.kind == "f":
        return Maps(array.reshape(-1, regions))
    if array.ndim == 2:
        raise ValueError(
            f"regional[{name!r}] holds labels in two dimensions; expected ({regions},)"
        )
    groups, members = np.unique(array, return_inverse=True)
    return Groups(tuple(map(str, groups)), members)


def _is_key(seed: Any) -> bool:
    return isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)


def _keys(seed: int | Sequence[int], total: int | None) -> tuple[jax.Array, bool]:
    """Key of one simulation, or keys of many."""
    seeds = np.asarray(seed)
    if seeds.dtype.kind not in "iu" or seeds.ndim > 1:
        raise ValueError(f"seed is {seed!r}; expected an integer, or one a simulation")
    if seeds.ndim == 0 and total is None:
        return jax.random.key(int(seeds)), False
    if seeds.ndim == 0:
        seeds = np.full(total, int(seeds))
    if total is not None and len(seeds) != total:
        raise ValueError(f"seed has {len(seeds)} entries, but parameters have {total} simulations")
    return jax.vmap(jax.random.key)(jnp.asarray(seeds)), True


def _bytes(plan: Plan, network: Network) -> int:
    """What one simulation takes while it runs, roughly."""
    arrays = 2 * len(network.states) + 2 * network.coupling.channels + 3 * len(network.noise)
    steps = plan.stretch + plan.reach
    return 8 * steps * network.n_nodes * (arrays + len(plan.recorded) + 2)
