"""Data sets of several people put in one order, by the names of what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.data.responses import Responses
from bayesdcm.data.run import Run
from bayesdcm.data.validation import some_names, warn_caller

__all__ = ["aligned", "check_rows"]


def aligned(
    datasets: Mapping[str, Any], *, same_channels: bool = False, warn: bool = True
) -> dict[str, Any]:
    """Data sets with regions, inputs, channels, conditions and effects in the order of the first.

    A model's switches and parameters stand for places along these axes, which must be the same
    thing in everybody: other names raise `ValueError`. Data sets that are in order, and what is
    neither a run nor evoked responses, are handed through; others are named in one warning.
    Channels may differ where every data set has a head model, which tells what each of its
    channels sees, unless they must be the same.
    """
    by_name = dict(datasets)
    moved: dict[str, list[str]] = {}
    # The conditions' before the effects': default effects are named by them.
    of_responses = ("condition_names", "effect_names", "channel_names")
    for kind, axes in ((Run, ("region_names", "input_names")), (Responses, of_responses)):
        members = {name: data for name, data in by_name.items() if isinstance(data, kind)}
        first, one = next(iter(members.items()), (None, None))
        # With a head model for each, channels may differ: bad ones are left out.
        free = kind is Responses and all(data.head is not None for data in members.values())
        for name, data in members.items():
            wanted = {axis: getattr(one, axis) for axis in axes}
            orders = {axis: names for axis, names in wanted.items() if names != getattr(data, axis)}
            channels = set(orders.get("channel_names", ()))
            if free and not same_channels and channels != set(data.channel_names):
                orders.pop("channel_names", None)
            for axis, names in orders.items():
                _check_same(axis, name, getattr(data, axis), first, names)
            if not orders:
                continue
            if "condition_names" in orders:
                both = ((name, data), (first, one))
                check_rows({k: (d.condition_names, d.effect_names, d.design) for k, d in both})
            by_name[name] = data.reordered(**orders)
            for axis in orders:
                moved.setdefault(axis, []).append(name)
    if moved and warn:
        parts = [
            f"{axis.removesuffix('_names')}s in {len(names)} ({some_names(names)})"
            for axis, names in moved.items()
        ]
        first = next(name for name, data in by_name.items() if isinstance(data, Run | Responses))
        warn_caller(
            f"of {len(by_name)} data sets, some have names in another order than {first!r}: "
            f"{'; '.join(parts)}. They were put in its order, by name"
        )
    return by_name


def check_rows(designs: Mapping[Any, tuple[Sequence[str], Sequence[str], ArrayLike]]) -> None:
    """Raise where designs agree by the position of conditions and not by their names.

    Effects of one name would be differences of other conditions then. Holds by data set the names
    of conditions and of effects, and the design, (conditions, effects); the last is the reference.
    """
    if not designs:
        return
    *others, first = designs
    conditions, effects, design = (list(part) for part in designs[first])
    for name in others:
        names, effect_names, rows = (list(part) for part in designs[name])
        if names == conditions or sorted(names) != sorted(conditions) or effect_names != effects:
            continue
        moved = [rows[names.index(condition)] for condition in conditions]
        if np.array_equal(rows, design) and not np.array_equal(moved, design):
            raise ValueError(
                f"the conditions of {name!r} are {names} and those of {first!r} {conditions}, but "
                f"both have the same rows of the design: effects {effects} would mean different "
                "things in them. Give the rows of the design in the order of the conditions of "
                "each, or a DataFrame with their names as its index"
            )


def _check_same(axis: str, name: str, names: Any, first: str, wanted: Any) -> None:
    if set(names) == set(wanted) and len(names) == len(wanted):
        return
    advice = ""
    if axis == "effect_names":
        advice = (
            "; by default the first condition is the baseline, and each other one has an effect "
            "of its name: put the same condition first, or give design and effect_names"
        )
    missing = [entry for entry in wanted if entry not in names]
    other = [entry for entry in names if entry not in wanted]
    parts = [f"it has no {some_names(missing)}"] if missing else []
    if other:
        parts.append(f"{some_names(other)} {'is' if len(other) == 1 else 'are'} not there")
    raise ValueError(
        f"{axis} of {name!r} are [{some_names(names)}], expected those of {first!r}, "
        f"[{some_names(wanted)}], in any order ({'; '.join(parts)}): data sets are joined by name. "
        f"Name the same things alike, data.replace({axis}=...), or leave out who lacks one{advice}"
    )
