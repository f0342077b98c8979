"""Drive: evoked input to a cortical column, each of its numbers fixed or with a prior."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.validation import check_whole, describe, warn_caller

if TYPE_CHECKING:
    import numpyro.distributions as dist

__all__ = ["CELLS", "Drive", "DrivePrior", "check_drives"]

# Populations of the column, in the order that hnn-core numbers them.
CELLS = ("L2_basket", "L2_pyramidal", "L5_basket", "L5_pyramidal")
TARGETS = {
    "proximal": CELLS,
    # Distal axons end in the superficial layers, where cells of layer 5 have tufts only.
    "distal": tuple(cell for cell in CELLS if cell != "L5_basket"),
}
NUMBERS = ("time", "spread", "weights_ampa", "weights_nmda")
UNITS = {"time": "ms", "spread": "ms", "weights_ampa": "uS", "weights_nmda": "uS"}
FAMILIES = {
    "time": ("Normal", "dist.Normal(mean, sd), both in ms"),
    "spread": ("LogNormal", "dist.LogNormal(np.log(median in ms), sd of the log)"),
    "weights_ampa": ("LogNormal", "dist.LogNormal(np.log(median in uS), sd of the log)"),
    "weights_nmda": ("LogNormal", "dist.LogNormal(np.log(median in uS), sd of the log)"),
}
# Events at times that are not positive do not happen in hnn-core.
# With a mean of fewer spreads some do not, and of less than one spread many.
ENOUGH_SPREADS, FEWEST_SPREADS = 3.0, 1.0
# Below these, numbers in ms are taken for numbers in s.
LEAST = {"time": 1.0, "spread": 0.05, "delays": 0.01}
# Above this, weights are taken for numbers in nS.
MOST_WEIGHT = 10.0


@dataclass(frozen=True)
class DrivePrior:
    """Prior of one number of a drive: normal, or with `log` log-normal.

    Attributes
    ----------
    centre : float
        Mean, or with `log` median, in the unit of the number.
    sd : float
        Standard deviation in the unit of the number, or with `log` that of its logarithm.
    log : bool
        Whether the logarithm is what is normal.
    """

    centre: float
    sd: float
    log: bool = False

    @property
    def distribution(self) -> dist.Distribution:
        """The prior as NumPyro has it."""
        import numpyro.distributions as dist

        if self.log:
            return dist.LogNormal(math.log(self.centre), self.sd)
        return dist.Normal(self.centre, self.sd)

    def __str__(self) -> str:
        return f"{self.centre:g} {'*/' if self.log else '+-'} {self.spread_shown:.2g}"

    @property
    def spread_shown(self) -> float:
        """The standard deviation, or the factor that one of the logarithm stands for."""
        return math.exp(self.sd) if self.log else self.sd


Number = float | DrivePrior


@dataclass(frozen=True, eq=False, repr=False)
class Drive(CheckedFields):
    """Evoked drive of a cortical column, as the Human Neocortical Neurosolver has them.

    A volley of events that reaches cells of the column by one of two ways: from the thalamus to
    the proximal dendrites, or from higher cortex or the non-specific thalamus to the distal ones.
    Each number is fixed (a float) or has a prior (a NumPyro distribution).

    Times are in **ms** and weights in **uS**, as in the files of hnn-core; all other data of this
    package are in SI units.

    Parameters
    ----------
    name : str
        By which its numbers are labelled, such as ``time[evprox1]``.
    location : {"proximal", "distal"}
        Which dendrites it reaches. A distal drive does not reach the cells "L5_basket".
    time : float or numpyro.distributions.Normal
        Mean time of its events after the stimulus, in ms.
    spread : float or numpyro.distributions.LogNormal
        Standard deviation of the times of events, in ms: from trial to trial where events are
        shared by all cells, and from cell to cell where each draws its own (`cell_specific`). At
        most a third of the time, or some events do not happen: those before the stimulus.
    weights_ampa, weights_nmda : mapping of str to float or numpyro.distributions.LogNormal
        Peak conductance, in uS, of the synapses of each kind at each target: "L2_basket",
        "L2_pyramidal", "L5_basket", "L5_pyramidal". Cells that are left out have none.
    delays : float or mapping of str to float, optional
        From an event to each cell, in ms; always fixed. By default, as in hnn-core's parameter
        files, 1 in layer 5 of proximal drives and 0.1 elsewhere.
    n_events : int, default 1
        Events that each of its cells sends (``numspikes`` in hnn-core).
    n_cells : int, default 1
        Artificial cells that send events (``n_drive_cells``); with `cell_specific` there is one for
        each target cell, and this stays 1.
    cell_specific : bool, default False
        Whether each target cell draws the times of its events for itself.
    event_seed : int, optional
        Seed of the times of events in hnn-core. None: one is chosen when the drive is written or
        simulated, another for each drive, because hnn-core gives drives of equal seeds the same
        deviations from their times.

    Raises
    ------
    TypeError
        If a number is none, or a distribution of another kind; tuples are no priors.
    ValueError
        If a location or a cell is not known, a distal drive has a weight for "L5_basket", a number
        is negative or seems to be in another unit, all weights are 0, or the time is less than one
        spread after the stimulus.

    Warns
    -----
    UserWarning
        If the time is less than three spreads after the stimulus, so that some events do not
        happen.

    References
    ----------
    Neymotin SA et al. (2020). Human Neocortical Neurosolver (HNN). eLife 9:e51214.
    https://doi.org/10.7554/eLife.51214

    Examples
    --------
    >>> drive = Drive("first", "proximal", 20.0, 3.0, {"L2_pyramidal": 0.004, "L5_basket": 0.002})
    >>> drive
    Drive(first: proximal, 20 ms, spread 3 ms from trial to trial, AMPA to L2_pyramidal, L5_basket)
    >>> drive.free(time=5.0).variance("time")
    25.0
    """

    name: str
    location: str
    time: Number
    spread: Number
    weights_ampa: Mapping[str, Number] = field(default_factory=dict)
    weights_nmda: Mapping[str, Number] = field(default_factory=dict)
    delays: Mapping[str, float] | float | None = None
    n_events: int = 1
    n_cells: int = 1
    cell_specific: bool = False
    event_seed: int | None = None

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        if not isinstance(self.name, str) or not self.name.strip():
            raise TypeError(
                f"name must be a string that is not empty, got {self.name!r}; name the drive, such "
                "as 'evprox1'"
            )
        if self.location not in TARGETS:
            raise ValueError(
                f"location of drive {self.name!r} must be 'proximal' or 'distal', got "
                f"{self.location!r}"
            )
        for name in ("n_events", "n_cells"):
            check_whole(f"{name} of drive {self.name!r}", getattr(self, name))
        if not isinstance(self.cell_specific, bool | np.bool_):
            raise TypeError(
                f"cell_specific of drive {self.name!r} must be True or False, got "
                f"{self.cell_specific!r}"
            )
        if self.cell_specific and self.n_cells != 1:
            raise ValueError(
                f"n_cells of drive {self.name!r} is {self.n_cells}, but with cell_specific there "
                "is one for each target cell; leave n_cells out"
            )
        seed = self.event_seed
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise TypeError(
                f"event_seed of drive {self.name!r} must be a whole number or None, got {seed!r}"
            )
        time, spread = self._number("time", self.time), self._number("spread", self.spread)
        self._set(time=time, spread=spread)
        ampa, nmda = (self._weights(kind) for kind in ("weights_ampa", "weights_nmda"))
        self._set(weights_ampa=ampa, weights_nmda=nmda)
        if not any(_centre(weight) > 0 for weight in (*ampa.values(), *nmda.values())):
            raise ValueError(
                f"weights of drive {self.name!r} are all 0, so that it does nothing; give "
                "weights_ampa or weights_nmda a value in uS, such as {'L2_pyramidal': 0.004}, or "
                "leave the drive out"
            )
        self._set(delays=self._checked_delays())
        self._check_events_come_after_the_stimulus()

    @property
    def shared(self) -> bool:
        """Whether all target cells receive the same events.

        Then the spread is jitter from trial to trial, and otherwise that among cells in a trial.
        """
        return not self.cell_specific

    @property
    def targets(self) -> tuple[str, ...]:
        """Cells for which it has a weight, be it 0."""
        return tuple(c for c in CELLS if c in self.weights_ampa or c in self.weights_nmda)

    def replace(self, **changes: Any) -> Drive:
        """Return the drive with some fields replaced, checked anew.

        Parameters
        ----------
        **changes
            Fields and their new values. With another location, default delays become those of
            that location.

        Returns
        -------
        Drive
            The changed one.

        Raises
        ------
        TypeError
            If a field does not exist.
        ValueError
            If the fields no longer agree, or delays that were given would belong to another
            location.

        Examples
        --------
        >>> drive = Drive("first", "proximal", 20.0, 3.0, {"L5_pyramidal": 0.002})
        >>> drive.replace(location="distal").delays["L5_pyramidal"]
        0.1
        """
        if changes.get("location", self.location) != self.location and "delays" not in changes:
            if self.delays != _default_delays(self.location):
                raise ValueError(
                    f"location of drive {self.name!r} is replaced, but its delays were given for a "
                    f"{self.location} one; give delays, too, None for the default"
                )
            changes["delays"] = None
        return super().replace(**changes)

    def centre(self, number: str) -> float | NDArray[np.float64]:
        """Values of a number: what is fixed, means of normal and medians of log-normal priors.

        Parameters
        ----------
        number : {"time", "spread", "weights_ampa", "weights_nmda", "delays"}
            Which one.

        Returns
        -------
        float, or array of shape (4,)
            In ms for the time and the spread; in uS for weights and in ms for delays of
            "L2_basket", "L2_pyramidal", "L5_basket" and "L5_pyramidal", 0 where there are none.
        """
        value = self._value(number)
        if isinstance(value, Mapping):
            return np.array([_centre(value.get(cell, 0.0)) for cell in CELLS])
        return _centre(value)

    def variance(self, number: str) -> float | NDArray[np.float64]:
        """Prior variances of a number, 0 where it is fixed.

        Parameters
        ----------
        number : {"time", "spread", "weights_ampa", "weights_nmda", "delays"}
            Which one.

        Returns
        -------
        float, or array of shape (4,)
            In ms^2 for the time; those of the **logarithm** for the spread and the weights; for
            cells as `centre` has them.
        """
        value = self._value(number)
        if isinstance(value, Mapping):
            return np.array([_variance(value.get(cell, 0.0)) for cell in CELLS])
        return _variance(value)

    def free(
        self,
        time: float = 0.0,
        spread: float = 0.0,
        weights_ampa: float | Mapping[str, float] = 0.0,
        weights_nmda: float | Mapping[str, float] = 0.0,
    ) -> Drive:
        """The drive with priors about its numbers; what is not mentioned stays as it is.

        Parameters
        ----------
        time : float, optional
            Prior standard deviation of the time, in ms.
        spread : float, optional
            Prior standard deviation of the logarithm of the spread; 0.3 is about 30 %.
        weights_ampa, weights_nmda : float or mapping of str to float, optional
            Prior standard deviation of the logarithm of weights, one for all cells or by cell.
            Weights of 0 stay 0.

        Returns
        -------
        Drive
            With priors in place of the numbers, centred at them.

        Raises
        ------
        TypeError, ValueError
            If a standard deviation is no number or negative, or for a number that is 0.

        Examples
        --------
        >>> drive = Drive("first", "proximal", 20.0, 3.0, {"L2_pyramidal": 0.004})
        >>> drive.free(time=5.0, weights_ampa=0.5)
        Drive(first: proximal, 20 +- 5 ms, spread 3 ms from trial to trial, AMPA to L2_pyramidal)
        """
        changes: dict[str, Any] = {}
        for name, sd in (("time", time), ("spread", spread)):
            if self._sd(name, sd) > 0:
                centre = self.centre(name)
                if centre <= 0:
                    raise ValueError(
                        f"{name} of drive {self.name!r} is {centre:g} and cannot be freed; give it "
                        f"a value first, such as drive.replace({name}=2.0)"
                    )
                changes[name] = DrivePrior(centre, float(sd), log=name != "time")
        for name, sd in (("weights_ampa", weights_ampa), ("weights_nmda", weights_nmda)):
            weights = dict(getattr(self, name))
            sds = sd if isinstance(sd, Mapping) else dict.fromkeys(weights, sd)
            self._check_cells(name, sds)
            for cell, each in sds.items():
                if self._sd(f"{name}[{cell}]", each) == 0:
                    continue
                if _centre(weights.get(cell, 0.0)) > 0:
                    weights[cell] = DrivePrior(_centre(weights[cell]), float(each), log=True)
                elif isinstance(sd, Mapping):
                    raise ValueError(
                        f"{name}[{cell!r}] of drive {self.name!r} is 0 and cannot be freed, "
                        "because its prior is one of the logarithm; give it a value first"
                    )
            changes[name] = weights
        return self.replace(**changes)

    def at(self, **numbers: Any) -> Drive:
        """The drive with all its numbers fixed: some at given values, the rest at their centres.

        Parameters
        ----------
        **numbers : float, mapping of str to float, or array_like of shape (4,)
            Values of "time", "spread" (ms), "weights_ampa" and "weights_nmda" (uS): weights by
            cell, or as an array as `centre` gives them.

        Returns
        -------
        Drive
            Without priors.

        Raises
        ------
        TypeError
            If a number does not exist.
        ValueError
            If values are not as described, or none that a drive can have.

        Examples
        --------
        >>> drive = Drive("first", "proximal", 20.0, 3.0, {"L2_pyramidal": 0.004}).free(time=5.0)
        >>> drive.at(time=22.5).time
        22.5
        """
        unknown = sorted(set(numbers) - set(NUMBERS))
        if unknown:
            raise TypeError(f"at got unknown number(s) {unknown}; a drive has {list(NUMBERS)}")
        changes: dict[str, Any] = {}
        for name in ("time", "spread"):
            value = numbers.get(name, self.centre(name))
            changes[name] = float(value) if np.ndim(value) == 0 else value
        for name in ("weights_ampa", "weights_nmda"):
            fixed = {cell: _centre(weight) for cell, weight in getattr(self, name).items()}
            changes[name] = fixed | self._by_cell(name, numbers.get(name, {}))
        return self.replace(**changes)

    def _by_cell(self, name: str, values: Any) -> dict[str, float]:
        if isinstance(values, Mapping):
            self._check_cells(name, values)
            return dict(values)
        array = np.asarray(values, float)
        if array.shape != (len(CELLS),):
            raise ValueError(
                f"{name} must be a mapping from cells to uS, or have shape ({len(CELLS)},) for "
                f"{CELLS}, got shape {array.shape}"
            )
        weights = getattr(self, name)
        # Cells that the drive does not reach have no weight, and no key.
        return {
            cell: float(value)
            for cell, value in zip(CELLS, array, strict=True)
            if cell in weights or value != 0
        }

    def _value(self, number: str) -> Any:
        if number not in (*NUMBERS, "delays"):
            raise ValueError(
                f"number must be one of {(*NUMBERS, 'delays')}, got {number!r}; a drive has these"
            )
        return getattr(self, number)

    def _sd(self, name: str, sd: Any) -> float:
        if not isinstance(sd, Real) or isinstance(sd, bool):
            raise TypeError(
                f"{name} must be a prior standard deviation, got {describe(sd)}; give one number"
            )
        if not 0 <= sd < math.inf:
            raise ValueError(f"{name}: a prior standard deviation must be at least 0, got {sd}")
        return float(sd)

    def _number(self, name: str, value: Any, cell: str = "") -> Number:
        """A number, checked; NumPyro's distributions become priors."""
        which = f"{name}{f'[{cell!r}]' if cell else ''} of drive {self.name!r}"
        family, advice = FAMILIES[name]
        log, unit = family == "LogNormal", UNITS[name]
        if isinstance(value, DrivePrior) and value.log == log:
            prior: Number = value
        elif type(value).__module__.startswith("numpyro.") and type(value).__name__ == family:
            prior = _from_numpyro(which, value, log)
        elif isinstance(value, Real) and not isinstance(value, bool | np.bool_):
            prior = float(value)
        else:
            raise TypeError(
                f"{which} must be a number in {unit}, which fixes it, or a NumPyro distribution "
                f"{advice}, got {describe(value)}"
            )
        centre = _centre(prior)
        if not math.isfinite(centre) or centre < 0 or (name == "time" and centre == 0):
            least = "above 0" if name == "time" else "of at least 0"
            raise ValueError(f"{which} must be a finite number of {unit} {least}, got {centre:g}")
        if 0 < centre < LEAST.get(name, 0.0):
            raise ValueError(
                f"{which} is {centre:g} ms, which seems to be in s; times of drives are in ms, as "
                f"in hnn-core. Give {centre * 1e3:g} if it is {centre:g} s"
            )
        if name.startswith("weights") and centre > MOST_WEIGHT:
            raise ValueError(
                f"{which} is {centre:g} uS, which seems to be in nS; weights are in uS, as in "
                f"hnn-core. Give {centre / 1e3:g} if it is {centre:g} nS"
            )
        return prior

    def _weights(self, name: str) -> dict[str, Number]:
        weights = {} if getattr(self, name) is None else getattr(self, name)
        if not isinstance(weights, Mapping):
            raise TypeError(
                f"{name} of drive {self.name!r} must be a mapping from cells to uS, such as "
                f"{{'L2_pyramidal': 0.004}}, got {describe(weights)}"
            )
        self._check_cells(name, weights)
        return {c: self._number(name, weights[c], c) for c in CELLS if c in weights}

    def _check_cells(self, name: str, cells: Iterable[Any]) -> None:
        for cell in cells:
            if cell not in CELLS:
                raise ValueError(
                    f"{name} of drive {self.name!r} names {cell!r}, which is no cell of the "
                    f"column; expected some of {CELLS}"
                )
            if cell not in TARGETS[self.location]:
                raise ValueError(
                    f"{name} of drive {self.name!r} names {cell!r}, which a {self.location} drive "
                    f"does not reach; leave it out: it reaches {TARGETS[self.location]}"
                )

    def _checked_delays(self) -> dict[str, float]:
        given = self.delays
        delays: dict[str, Any] = _default_delays(self.location)
        if isinstance(given, Mapping):
            self._check_cells("delays", given)
            missing = [cell for cell in self.targets if cell not in given]
            if missing:
                raise ValueError(
                    f"delays of drive {self.name!r} have none for {missing}, for which it has "
                    "weights; give one for each, or one number for all"
                )
            delays |= given
        elif given is not None:
            delays = dict.fromkeys(delays, given)
        for cell, delay in delays.items():
            which = f"delays[{cell!r}] of drive {self.name!r}"
            if not isinstance(delay, Real) or isinstance(delay, bool):
                raise TypeError(
                    f"{which} must be a number of ms, got {describe(delay)}; delays are fixed, "
                    "free the time instead"
                )
            if not 0 <= delay < math.inf:
                raise ValueError(f"{which} must be at least 0 ms, got {delay}")
            if 0 < delay < LEAST["delays"]:
                raise ValueError(
                    f"{which} is {delay:g} ms, which seems to be in s; delays are in ms, as in "
                    f"hnn-core. Give {delay * 1e3:g} if it is {delay:g} s"
                )
        return {cell: float(delay) for cell, delay in delays.items()}

    def _check_events_come_after_the_stimulus(self) -> None:
        time, spread = self.centre("time"), self.centre("spread")
        if time >= ENOUGH_SPREADS * spread:
            return
        few = FEWEST_SPREADS if time < FEWEST_SPREADS * spread else ENOUGH_SPREADS
        silent = 0.5 * math.erfc(time / spread / math.sqrt(2))
        text = (
            f"time of drive {self.name!r} is {time:g} ms, below {few:g} times its spread of "
            f"{spread:g} ms: {100 * silent:.2g} % of its events would come before the stimulus, "
            "and do not happen in hnn-core, so that cells stay silent. Give a later time or a "
            "smaller spread"
        )
        if few == FEWEST_SPREADS:
            raise ValueError(text)
        warn_caller(text)

    def _key(self) -> tuple:
        weights = (tuple(kind.items()) for kind in (self.weights_ampa, self.weights_nmda))
        sent = (self.n_events, self.n_cells, self.cell_specific, self.event_seed)
        delays = tuple(self.delays.items())
        return (self.name, self.location, self.time, self.spread, *weights, delays, *sent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Drive) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        kinds = (("AMPA", self.weights_ampa), ("NMDA", self.weights_nmda))
        reached = [
            f"{kind} to {', '.join(c for c, w in weights.items() if _centre(w) > 0)}"
            for kind, weights in kinds
            if any(_centre(weight) > 0 for weight in weights.values())
        ]
        over = "from trial to trial" if self.shared else "among cells"
        numbers = f"{_shown(self.time)} ms, spread {_shown(self.spread)} ms {over}"
        return f"Drive({self.name}: {self.location}, {numbers}, {', '.join(reached)})"

    def _describe(self) -> dict[str, str]:
        table = {
            "Name": self.name,
            "Location": self.location,
            "Time": f"{_shown(self.time)} ms",
            "Spread": f"{_shown(self.spread)} ms, "
            + ("from trial to trial" if self.shared else "among cells"),
        }
        for kind, weights in (("AMPA", self.weights_ampa), ("NMDA", self.weights_nmda)):
            cells = [f"{cell} {_shown(weight)}" for cell, weight in weights.items()]
            table[f"{kind} (uS)"] = ", ".join(cells) or "none"
        table["Delays (ms)"] = ", ".join(f"{cell} {d:g}" for cell, d in self.delays.items())
        return table


def check_drives(drives: Drive | Iterable[Drive]) -> tuple[Drive, ...]:
    """Drives of one column, which must have different names; a single one is one of a list."""
    if isinstance(drives, Drive):
        return (drives,)
    if isinstance(drives, str | bytes | Mapping) or not isinstance(drives, Iterable):
        raise TypeError(f"drives must be a list of Drive, got {describe(drives)}")
    listed = tuple(drives)
    for drive in listed:
        if not isinstance(drive, Drive):
            raise TypeError(
                f"drives must be a list of Drive, got {describe(drive)} among them; make each by "
                "Drive(name, location, time, spread, ...), or read them by read_hnn(path)"
            )
    if not listed:
        raise ValueError("drives is empty; expected at least one Drive")
    names = [drive.name for drive in listed]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"drives have names that repeat, {repeated}; expected different ones, because results "
            "are labelled by them. Rename them by drive.replace(name=...)"
        )
    return listed


def _default_delays(location: str) -> dict[str, float]:
    late = ("L5_basket", "L5_pyramidal") if location == "proximal" else ()
    return {cell: 1.0 if cell in late else 0.1 for cell in TARGETS[location]}


def _centre(value: Number) -> float:
    return value.centre if isinstance(value, DrivePrior) else float(value)


def _variance(value: Number) -> float:
    return value.sd**2 if isinstance(value, DrivePrior) else 0.0


def _shown(value: Number) -> str:
    return str(value) if isinstance(value, DrivePrior) else f"{value:g}"


def _from_numpyro(which: str, value: Any, log: bool) -> DrivePrior:
    if np.shape(value.loc) or np.shape(value.scale):
        raise ValueError(
            f"{which} has a distribution of shape {tuple(value.batch_shape)}; expected that of one "
            "number. Give one for each number"
        )
    centre, sd = float(value.loc), float(value.scale)
    if not math.isfinite(centre) or not 0 < sd < math.inf:
        raise ValueError(f"{which} has a distribution of scale {sd}; expected one above 0")
    # A median of 3 comes as its logarithm, and should be 3 again.
    return DrivePrior(float(f"{math.exp(centre):.14g}") if log else centre, sd, log)
