"""Connections of a fit, and what inputs and conditions change of them, read from named axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.arviz_adapter import axis_names
from bayesdcm.plot.quantities import CONSTANT, Marginals, check_fit, flat_draws

# Arrays of connections between nodes, the one to draw first.
SITES = ("effective_connectivity", "A")


class Change(NamedTuple):
    """What an input, a condition effect or a gating node changes of a connection."""

    name: str
    draws: NDArray  # what it adds, or the factor of the strength, at a value of 1; (draws,)
    gates: bool = False  # whether it is the activity of a node


@dataclass(frozen=True, eq=False)
class Connection:
    """Posterior of one connection, or of what acts within a node."""

    kind: str  # empty where there is one; for gains, of what
    to: int
    source: int  # the node where it starts
    draws: NDArray  # strength without changes, in its unit or relative to the prior mean, (draws,)
    changes: tuple[Change, ...] = ()
    by_condition: NDArray | None = None  # factors (draws, conditions), where there are conditions

    @property
    def within(self) -> bool:
        """Whether it acts within a node."""
        return self.to == self.source

    @property
    def family(self) -> str:
        """First word of its kind, such as ``"forward"``."""
        return self.kind.partition(" ")[0]

    @property
    def varies(self) -> bool:
        """Whether conditions have factors of their own."""
        return bool(self.changes) and self.by_condition is not None


@dataclass(frozen=True, eq=False)
class Connections:
    """All connections of a fit."""

    entries: list[Connection]  # those that are free, by kind, then what acts within nodes
    nodes: list[str]
    conditions: list[str]
    baseline: str  # the condition without effects; empty where there is none
    site: str
    title: str
    unit: str
    relative: bool  # whether strengths are relative to their prior means, and changes factors
    marginals: Marginals

    def name(self, entry: Connection) -> str:
        """From where to where an entry leads, the node only within one."""
        to = self.nodes[entry.to]
        return to if entry.within else f"{self.nodes[entry.source]} → {to}"

    def certainty(self, draws: NDArray) -> float:
        """Posterior probability of the sign of an amount, or of the direction of a factor."""
        return float(self.marginals.of(np.log(draws) if self.relative else draws)[1])

    def mean(self, draws: NDArray) -> float:
        """Posterior mean of an amount."""
        return float(self.marginals.of(draws)[0])


class _Changing(NamedTuple):
    """An array that changes connections: what does, draws (draw, ..., to, from), free entries."""

    names: list[str]
    draws: NDArray
    free: NDArray
    gates: bool


def has_connections(fit: Any) -> bool:
    """Whether a fit has an array of connections between nodes."""
    return _site(fit) is not None


def connection_site(fit: Any) -> str:
    """The array of connections to draw first; ValueError where there is none."""
    check_fit(fit)
    site = _site(fit)
    if site is None:
        raise ValueError(
            "the fit has no connections to draw: none of its arrays has the axes 'to' and 'from' "
            f"(such as effective_connectivity or A); they are {', '.join(fit.idata.posterior)}"
        )
    return site


def site_title(fit: Any, site: str) -> str:
    """What an array of connections is, in words."""
    rates = site == "effective_connectivity"
    return "Effective connectivity" if rates else fit.facts.titles.get(site, f"Connections {site}")


def _site(fit: Any) -> str | None:
    arrays = fit.idata.posterior.data_vars
    squares = [str(name) for name, array in arrays.items() if _is_square(array)]
    return next((name for name in (*SITES, *squares) if name in squares), None)


def _is_square(array: Any) -> bool:
    axes = set(array.dims) - {"chain", "draw"}
    return {"to", "from"} <= axes <= {"to", "from", "kind"}


def read_connections(fit: Any) -> Connections:
    """Posterior of all connections, and of what inputs, conditions and nodes change of them.

    Read from the posterior of any fit that has an array over the axes ``to`` and ``from``, and
    perhaps ``kind``; ValueError where there is none.
    """
    site = connection_site(fit)
    array, relative = fit.idata.posterior[site], fit.facts.relative(site)
    draws, kinds = _stacked(array)
    free = np.ptp(_stacked(fit.idata.prior[site])[0], axis=0) > CONSTANT
    changing = _changing(fit, site)
    conditions, design = _design(fit)
    if relative:
        draws = np.exp(draws)

    def entry(kind: str, i: int, j: int, strength: NDArray) -> Connection:
        changes = [
            Change(name, part.draws[:, k, i, j], part.gates)
            for part in changing
            for k, name in enumerate(part.names)
            if part.free[k, i, j]
        ]
        factors = None
        if relative and conditions:
            log_change = changing[0].draws[..., i, j] if changing else np.zeros((1, 0))
            factors = np.exp(log_change @ design.T)
        if relative:
            changes = [change._replace(draws=np.exp(change.draws)) for change in changes]
        return Connection(kind, i, j, strength, tuple(changes), factors)

    # Self-connections that are constants act, too; connections that are absent act nowhere.
    acts = free | (np.eye(free.shape[-1], dtype=bool) & (draws != 0).any(0) & (not relative))
    entries = [entry(kinds[k], i, j, draws[:, k, i, j]) for k, i, j in np.argwhere(acts).tolist()]
    if relative and fit.facts.gain and changing:
        name, words = fit.facts.gain
        gains = flat_draws(fit.idata.posterior[name])
        gains = gains if gains.ndim == 2 else gains[..., 0]
        modulated = np.flatnonzero(np.diagonal(changing[0].free.any(0)))
        entries += [entry(words, i, i, np.exp(gains[:, i])) for i in modulated.tolist()]
    without = [name for name, row in zip(conditions, design, strict=True) if not row.any()]
    return Connections(
        entries, axis_names(array, "to"), conditions, next(iter(without), ""), site,
        site_title(fit, site), fit.facts.unit(site), relative, Marginals(fit),
    )  # fmt: skip


def _stacked(array: Any) -> tuple[NDArray, list[str]]:
    """Draws with the axes kind, to and from, and names of the kinds."""
    if "kind" not in array.dims:
        array = array.expand_dims(kind=[""])
    order = ("chain", "draw", "kind", "to", "from")
    return flat_draws(array.transpose(*order)), axis_names(array, "kind")


def _changing(fit: Any, site: str) -> list[_Changing]:
    """Arrays that change connections: modulations by inputs or effects first, then gating."""
    posterior, prior = fit.idata.posterior, fit.idata.prior
    changing = []
    for name in ("B", "D"):
        if name not in posterior or posterior[name].dims[-2:] != ("to", "from"):
            continue
        draws = flat_draws(posterior[name])
        free = np.ptp(flat_draws(prior[name]), axis=0) > CONSTANT
        if name == "B" and "modulated_connectivity" in posterior:
            base = flat_draws(posterior[site])
            draws = flat_draws(posterior["modulated_connectivity"]) - base[:, None]
        axis = str(posterior[name].dims[-3])
        changing.append(_Changing(axis_names(posterior[name], axis), draws, free, axis == "gating"))
    return changing


def _design(fit: Any) -> tuple[list[str], NDArray]:
    """Names of the conditions, and how much of each effect they have."""
    constants = getattr(fit.idata, "constant_data", {})
    if "design" not in constants or set(constants["design"].dims) != {"condition", "effect"}:
        return [], np.zeros((0, 0))
    design = constants["design"].transpose("condition", "effect")
    return axis_names(design, "condition"), design.to_numpy()


def percent_interval(factors: NDArray, interval: float = 0.9) -> tuple[float, float, float]:
    """Median and bounds of factors in percent; draws lie along the first axis."""
    tail = (1 - interval) / 2
    middle, low, high = 100 * np.quantile(factors, [0.5, tail, 1 - tail])
    return float(middle), float(low), float(high)
