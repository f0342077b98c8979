"""Priors that a user, or a file, gives a model in place of its own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.data.by_value import structure_key
from bayesdcm.data.named_axes import check_unnamed
from bayesdcm.data.validation import describe
from bayesdcm.models.priors import labelled_entries
from bayesdcm.neural import LaplacePrior, Prior
from bayesdcm.neural.prior_families import PriorFamily

NORMAL = "normal"


@dataclass(frozen=True, eq=False)
class Given:
    """What was given for a parameter, or for one of its entries, such as ``"A[V5, V1]"``.

    Mean and variance are numbers, or arrays in the shape of the parameter; None: as they are. What
    is `optional` may be switched off in the model, and is left out then. Where both are given,
    entries are normal, but those `of_family`; a family alone says all.
    """

    name: str
    mean: NDArray[np.float64] | None = None
    variance: NDArray[np.float64] | None = None
    optional: bool = False
    family: PriorFamily | None = None
    of_family: NDArray[np.bool_] | None = None

    @property
    def labelled(self) -> bool:
        """Whether it is for a single entry, found by the names of a data set."""
        return "[" in self.name


@dataclass(frozen=True, eq=False)
class Priors(Sequence):
    """Priors of the parameters of a model, those that were given in place of its own.

    A sequence of `Prior`, as ``model.priors``. Given to another model, it passes on what was
    `given`, and not what the model had of its `own`, of which the noise's log-precision comes last.
    """

    own: tuple[Prior, ...]
    given: tuple[Given, ...] = ()
    all: tuple[Prior, ...] = field(init=False)

    def __post_init__(self) -> None:
        table = {prior.name: prior for prior in self.own}
        for entry in self.given:
            if not entry.labelled:
                if entry.name not in table:
                    raise ValueError(_unknown(entry.name, list(table)))
                table[entry.name] = _whole(table[entry.name], entry)
        object.__setattr__(self, "all", tuple(table.values()))

    def __len__(self) -> int:
        return len(self.own) - 1

    def __getitem__(self, index: Any) -> Any:
        return self.all[:-1][index]

    def __iter__(self) -> Iterator[Prior]:
        return iter(self.all[:-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Priors) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        names = ", ".join(entry.name for entry in self.given)
        return f"priors given for {names}" if names else "priors of the model"

    @property
    def key(self) -> tuple:
        """What was given, hashable; what a model has of its own follows from its structure."""
        return structure_key(self.given)

    @property
    def structure(self) -> Priors:
        """The same without the numbers that `moments` has: means are 0 and variances 1."""
        changed, given = {entry.name for entry in self.given}, []
        for prior in self.all:
            if prior.family is None:
                free, mean = prior.free, np.where(prior.free, 0.0, prior.mean)
                given.append(Given(prior.name, mean, np.where(free, 1.0, 0.0)))
            elif prior.name in changed:
                given.append(_given(prior))
        return Priors(self.own, tuple(given))

    @property
    def moments(self) -> dict[str, tuple[NDArray, NDArray]]:
        """Means and standard deviations of free entries, of parameters with normal priors only.

        As `sample_prior` takes them, by name.
        """
        table = {}
        for prior in self.all:
            if prior.family is None and prior.free.any():
                at = ... if prior.free.all() else prior.free
                mean, variance = np.asarray(prior.mean, float), np.asarray(prior.variance, float)
                table[prior.name] = (mean[at], np.sqrt(variance[at]))
        return table

    @property
    def noise(self) -> Prior:
        """Prior of the log-precisions of the noise."""
        return self.all[-1]

    @property
    def pending(self) -> tuple[str, ...]:
        """Labelled entries, which need the names of a data set."""
        return tuple(entry.name for entry in self.given if entry.labelled)

    def named(self, names: Mapping[str, Sequence[str]]) -> Priors:
        """The same priors, with labelled entries put where names along each kind of axis have them.

        ValueError if a label is not one of the model's, or its connection is switched off.
        """
        if not self.pending:
            return self
        table = {prior.name: prior for prior in self.all}
        defaults = {prior.name: prior for prior in self.own}
        places = {
            label: (prior.name, index)
            for prior in self.all
            for label, index in labelled_entries(prior, names)
        }
        for entry in self.given:
            if not entry.labelled:
                continue
            if entry.name not in places:
                raise ValueError(_unknown(entry.name, list(places)))
            name, index = places[entry.name]
            table[name] = _single(table[name], defaults[name], index, entry)
        changed = {entry.name.partition("[")[0] for entry in self.given}
        return Priors(self.own, tuple(_given(table[name]) for name in table if name in changed))

    def restricted_to(self, own: tuple[Prior, ...]) -> tuple[Given, ...]:
        """What was given, for a model with some of the connections, of which `own` are the priors.

        Entries that are switched off are as in `own`.
        """
        before, after = ({prior.name: prior for prior in table} for table in (self.own, own))

        def kept(entry: Given) -> Given:
            if entry.labelled:
                return replace(entry, optional=True)
            prior = after[entry.name]
            if entry.mean is None and entry.variance is None:
                return replace(entry, optional=True)
            off = before[entry.name].free & ~prior.free
            parts = [
                value if np.ndim(value) == 0 else np.where(off, own_value, value)
                for value, own_value in ((entry.mean, prior.mean), (entry.variance, prior.variance))
            ]
            return replace(entry, mean=parts[0], variance=parts[1])

        return tuple(kept(entry) for entry in self.given)


def _given(prior: Prior) -> Given:
    """All of a prior, as if it had been given."""
    mean, variance = np.asarray(prior.mean), np.asarray(prior.variance)
    return Given(prior.name, mean, variance, family=prior.family, of_family=prior.not_normal)


def parse_priors(priors: Any) -> tuple[Given, ...]:
    """Check what is given as ``priors=``, as far as it can be without the model; None: nothing.

    From a parameter, or a labelled entry, to ``(mean, variance)``, to a mapping with ``"mean"``,
    ``"variance"`` or both, to a fixed value, or to a family such as `LaplacePrior`. Or a table with
    these as index (or column ``parameter``) and columns ``mean`` and ``variance``, and perhaps
    ``family``. Parameters come before labelled entries, so that these hold where both are given.
    TypeError or ValueError for anything else.

    Examples
    --------
    >>> [(g.name, g.mean.tolist(), g.variance.tolist()) for g in parse_priors({"decay": 0.1})]
    [('decay', 0.1, 0.0)]
    """
    if priors is None:
        return ()
    if isinstance(priors, pd.DataFrame):
        priors = _from_table(priors)
    if not isinstance(priors, Mapping):
        raise TypeError(
            "priors must be a mapping from parameters or labelled entries, such as 'A' or "
            "'A[V5, V1]', to (mean, variance), a fixed value or a LaplacePrior, or a table as "
            f"prior_table() gives, got {describe(priors)}"
        )
    entries = [_parse(name, value) for name, value in priors.items()]
    return tuple(sorted(entries, key=lambda entry: entry.labelled))


def _from_table(table: pd.DataFrame) -> dict[str, Any]:
    if "parameter" in table.columns:
        table = table.set_index("parameter")
    missing = [name for name in ("mean", "variance") if name not in table.columns]
    if missing:
        raise ValueError(
            f"priors is a table without column(s) {', '.join(missing)}; expected columns mean and "
            f"variance and labels such as 'A[V5, V1]' as index, got {list(table.columns)}"
        )
    labels = [str(label) for label in table.index]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ValueError(f"priors has {repeated[0]!r} in more than one row; give each once")
    values: dict[str, Any] = dict(
        zip(labels, zip(table["mean"], table["variance"], strict=True), strict=True)
    )
    for label, title in zip(labels, table.get("family", ()), strict=False):
        if title == LaplacePrior.title and values[label][1] > 0:
            mean, variance = values[label]
            values[label] = LaplacePrior(float(variance / 2) ** 0.5, float(mean))
        elif title not in (NORMAL, LaplacePrior.title):
            raise ValueError(
                f"priors is a table with {title!r} in column family, of {label!r}, where it can "
                f"have {NORMAL!r} or {LaplacePrior.title!r}; give other families by a mapping, "
                "such as {'A': HorseshoePrior(...)}"
            )
    return values


def _parse(name: Any, value: Any) -> Given:
    if not isinstance(name, str):
        raise TypeError(f"priors must have names as keys, got {describe(name)}")
    if isinstance(value, PriorFamily):
        if "[" in name and not value.single:
            raise ValueError(
                f"priors[{name!r}] is one entry, but a {type(value).__name__} is for all of a "
                f"parameter; give it for {name.partition('[')[0]!r}, or a LaplacePrior"
            )
        return Given(name, family=value)
    if isinstance(value, Mapping):
        unknown = sorted(set(map(str, value)) - {"mean", "variance"})
        if unknown or not value:
            raise ValueError(
                f"priors[{name!r}] must have 'mean', 'variance' or both, got {sorted(value)}"
            )
        mean, variance = value.get("mean"), value.get("variance")
    elif isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(
                f"priors[{name!r}] must be (mean, variance), a mapping with these names, or a "
                f"fixed value, got a tuple of {len(value)}"
            )
        mean, variance = value
    else:
        mean, variance = value, 0.0
    mean, variance = _numbers(name, "mean", mean), _numbers(name, "variance", variance)
    if variance is not None and (variance < 0).any():
        raise ValueError(
            f"priors[{name!r}]: variance must be at least 0 (0 fixes the value), got "
            f"{variance.min():g}"
        )
    if "[" in name and (np.ndim(mean) or np.ndim(variance)):
        raise ValueError(f"priors[{name!r}] is one entry and takes numbers, got an array")
    return Given(name, mean, variance)


def _numbers(name: str, what: str, value: Any) -> NDArray | None:
    if value is None:
        return None
    check_unnamed(
        f"priors[{name!r}]: {what}",
        value,
        f"name the entries instead, such as {{'{name}[V5, V1]': (mean, variance)}}, or give an "
        "array in the order of the names in the data",
    )
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"priors[{name!r}]: {what} must be a number or an array of numbers, got "
            f"{describe(value)}"
        ) from error
    if isinstance(value, bool | np.bool_) or not np.isfinite(array).all():
        raise ValueError(f"priors[{name!r}]: {what} must be finite, got {value!r}")
    array.flags.writeable = False
    return array


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 3)
    shown = near or known[:8]
    more = "" if near or len(known) <= 8 else f" and {len(known) - 8} more"
    return (
        f"priors names {name!r}, which the model does not have; "
        f"{'did you mean' if near else 'it has'} {', '.join(map(repr, shown))}{more}"
        f"{'?' if near else ''}"
    )


def _switched_off(prior: Prior) -> NDArray[np.bool_]:
    """Entries that are no connections of the model; other constants may be estimated if wanted."""
    return ~prior.free if "to" in prior.dims else np.zeros(np.shape(prior.mean), bool)


def _whole(prior: Prior, given: Given) -> Prior:
    """A prior with what was given for the parameter: numbers are for the entries that are on."""
    shape = np.shape(prior.mean)
    if given.mean is None and given.variance is None:
        entries = given.family.connections(prior)
        if not (prior.free & entries).any() and not given.optional:
            raise ValueError(
                f"priors[{given.name!r}] is a {type(given.family).__name__}, but none of the "
                "entries that it is for is estimated; switch a connection on, or leave it out"
            )
        return given.family.in_place_of(prior, entries)
    free = prior.free if prior.free.any() else ~_switched_off(prior)
    parts: dict[str, Any] = {}
    for what, value in (("mean", given.mean), ("variance", given.variance)):
        if value is None:
            continue
        if value.ndim == 0:
            parts[what] = np.where(free, value, getattr(prior, what))
        elif value.shape != shape:
            raise ValueError(
                f"priors[{given.name!r}]: {what} must be a number or have shape {shape} "
                f"({', '.join(prior.dims) or 'a scalar'}), got {value.shape}"
            )
        else:
            parts[what] = np.array(value)
    wrong = (parts.get("variance", np.zeros(shape)) > 0) & _switched_off(prior)
    if wrong.any():
        raise ValueError(
            f"priors[{given.name!r}]: {int(wrong.sum())} entries with a variance are switched off "
            f"in the model, the first at {tuple(int(i) for i in np.argwhere(wrong)[0])}; switch "
            "the connection on, or give it no variance"
        )
    if len(parts) == 2:
        parts |= {"family": given.family, "of_family": given.of_family}
    whole = replace(prior, **parts)
    if given.family is not None and not given.family.single:
        # Its variance depends on how many entries there are.
        return given.family.in_place_of(whole, given.of_family)
    return whole


def _single(prior: Prior, own: Prior, index: tuple[int, ...], given: Given) -> Prior:
    off = bool(_switched_off(own)[index])
    if given.optional and off:
        return prior
    if off and (given.family or given.variance is None or given.variance > 0):
        raise ValueError(
            f"priors names {given.name!r}, a connection that is switched off in the model; switch "
            "it on, or give it a fixed value"
        )
    mean, variance, family = given.mean, given.variance, given.family
    if family is not None:
        mean, variance = family.mean, family.variance_of(1)
    parts: dict[str, Any] = {}
    for what, value in (("mean", mean), ("variance", variance)):
        if value is not None:
            parts[what] = np.array(getattr(prior, what), float)
            parts[what][index] = value
    if family is not None or len(parts) == 2:
        chosen = prior.not_normal.copy()
        chosen[index] = family is not None
        kinds = {type(each) for each in (prior.family, family) if each is not None}
        if len(kinds) > 1 and chosen.any():
            raise ValueError(
                f"priors[{given.name!r}] is a {type(family).__name__}, but other entries have a "
                f"{type(prior.family).__name__}; a parameter has one family of priors"
            )
        family = (prior.family or family) if chosen.any() else None
        parts |= {"family": family, "of_family": chosen}
    return replace(prior, **parts)


def prior_table(
    priors: Priors,
    names: Mapping[str, Sequence[str]],
    unit: Callable[[str, tuple[int, ...]], str],
) -> pd.DataFrame:
    """Priors of all entries that are estimated or were given, one row each, see `DCM.prior_table`.

    Of priors without pending entries, the names along each kind of axis, and the `unit` of an entry
    by the name of its array and its place.
    """
    rows, families = [], []
    for default, prior in zip(priors.own, priors.all, strict=True):
        mean, variance = np.asarray(prior.mean, float), np.asarray(prior.variance, float)
        shown = default.free | prior.free | (mean != np.asarray(default.mean))
        for label, index in labelled_entries(prior, names):
            if shown[index]:
                value = float(variance[index])
                of_entry = unit(prior.name, index)
                rows.append(
                    (label, float(mean[index]) + 0.0, value, value**0.5, of_entry, value == 0)
                )
                families.append(prior.family.title if prior.not_normal[index] else NORMAL)
    columns = ["parameter", "mean", "variance", "sd", "unit", "fixed"]
    table = pd.DataFrame(rows, columns=columns).set_index("parameter")
    return table if set(families) <= {NORMAL} else table.assign(family=families)
