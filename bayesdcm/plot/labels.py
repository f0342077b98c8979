"""What labels such as ``A[V5, V1]`` say: site, places, unit, and whether they are of one region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# Sites whose last place is an input; others with two places or more lead from node to node.
INPUTS = ("C",)


class Label(NamedTuple):
    """Site and places of a label: "B" and ("photic", "V5", "V1"); none for a single number."""

    site: str
    places: tuple[str, ...]

    @property
    def within(self) -> bool:
        """Whether it is of a node's connection to itself."""
        driving = self.site.rpartition(": ")[2] in INPUTS
        return not driving and len(self.places) > 1 and self.places[-1] == self.places[-2]


def parsed(label: str) -> Label:
    """Take a label apart."""
    site, bracket, rest = label.partition("[")
    return Label(site, tuple(rest.removesuffix("]").split(", ")) if bracket else ())


def in_order(sequences: Iterable[Sequence[str]]) -> list[str]:
    """Names in an order that agrees with all sequences, as far as there is one.

    Regions are known here only from labels, of which each row of a matrix may lack some.

    Examples
    --------
    >>> in_order([["V1", "SPC"], ["V5", "SPC"], ["V1", "V5"]])
    ['V1', 'V5', 'SPC']
    """
    before: dict[str, set[str]] = {}
    for sequence in sequences:
        names = list(dict.fromkeys(sequence))
        for i, name in enumerate(names):
            before.setdefault(name, set()).update(names[max(i - 1, 0) : i])
    ordered: list[str] = []
    while len(ordered) < len(before):
        left = [name for name in before if name not in ordered]
        free = [name for name in left if before[name] <= set(ordered)]
        ordered.append((free or left)[0])
    return ordered


def chosen(wanted: Any, known: Sequence[str], argument: str) -> list[str]:
    """Names that were asked for, one or several; all that are known where that is None."""
    names = [wanted] if isinstance(wanted, str) else list(known if wanted is None else wanted)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, known))}, got "
            f"{unknown[0] if unknown else 'none'!r}"
        )
    return names


def check_limit(limit: int) -> None:
    """Raise where a figure is to show nothing."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")


def check_effects(effects: Any, *needed: str) -> None:
    """Raise where something lacks the attributes of effects on a group."""
    if not all(hasattr(effects, name) for name in needed):
        raise TypeError(
            "effects must be effects on a group, from bayesdcm.group.peb, got "
            f"{type(effects).__name__}"
        )


def described(effects: Any) -> Any:
    """The fit that effects of a group were found from, None where they do not hold it."""
    while getattr(effects, "first", ()):
        effects = effects.first[0].source
    return effects if hasattr(effects, "facts") else None


def units_text(fit: Any, labels: Iterable[str]) -> str:
    """Name the units of several parameters, such as ``"Hz; self-connections: log scaling"``.

    Empty where they are not known: of users' programs, and where there is no fit.
    """
    if fit is None:
        return ""
    units: dict[str, list[str]] = {}
    for label in labels:
        parts = parsed(label)
        site = parts.site.rpartition(": ")[2]
        kind = "self-connections" if parts.within else site
        unit = fit.facts.unit(site, (0, 0) if parts.within else ())
        if kind not in units.setdefault(unit, []):
            units[unit].append(kind)
    if len(units) == 1:
        return next(iter(units))
    itself = next((unit for unit, kinds in units.items() if kinds == ["self-connections"]), None)
    if len(units) == 2 and itself is not None:
        other = next(unit for unit in units if unit != itself)
        return f"{other}; self-connections: {itself}"
    return "; ".join(f"{', '.join(kinds)}: {unit or 'a.u.'}" for unit, kinds in units.items())
