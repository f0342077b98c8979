"""What plots, reports and checks need to know of a model, as plain values that a file can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Citation = tuple[str, str]
# What axes are that data run along: words, unit, and how many of it make one SI unit.
AXES = {"time": ("time", "s", 1.0), "frequency": ("frequency", "Hz", 1.0)}


@dataclass(frozen=True)
class Facts:
    """Facts of a model that its fits carry, in place of its class.

    Parameters
    ----------
    kind : str
        What is modelled: ``"task fMRI"``, ``"evoked responses"``, or ``"program"`` for a NumPyro
        program of which nothing else is known.
    node : str
        What is connected, in the singular: ``"region"``, ``"source"``; empty where nothing is.
    neural : str
        Name of the neural model, such as ``"bilinear"`` or ``"ERP"``.
    units : mapping
        Unit of the entries of a site, by its name; several where they differ along the last axis.
    self_units : mapping
        Unit of the entries of a site that stand for a node itself, where it is another one.
    titles : mapping
        Sites in words, as headings have them.
    headline : sequence of str
        Sites that most people look at first.
    gain : pair of str
        Site that condition effects on a node itself act on, and what it is; empty where there is
        none.
    populations : mapping
        Index of the state that holds the voltage of each population.
    axes : mapping
        Words, unit, and how many of it make one SI unit, of axes that data run along and that are
        not drawn as time in s or frequency in Hz: ``{"time": ("time after onset", "ms", 1e3)}``.
    sample : str
        What one data point in time is, in the singular: ``"scan"``, ``"sample"``.
    label_note : str
        How labels are read, in sentences.
    flat_directions : bool
        Whether it is a problem that data leave directions of the posterior as the prior has them,
        as in networks with many constants.
    citations : sequence of (text, address)
        What to cite for the model.
    wide_noise : str
        The option with which the model's own prior of the noise leaves the decision to data;
        empty where it does already.

    Examples
    --------
    >>> import json
    >>> facts = Facts("task fMRI", "region", units={"transit": "log scaling"})
    >>> facts.unit("transit")
    'log scaling'
    >>> Facts(**json.loads(json.dumps(facts.as_dict()))) == facts
    True
    """

    kind: str = "program"
    node: str = ""
    neural: str = ""
    units: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    self_units: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    headline: Sequence[str] = ()
    gain: Sequence[str] = ()
    populations: Mapping[str, int] = field(default_factory=dict)
    axes: Mapping[str, tuple[str, str, float]] = field(default_factory=dict)
    sample: str = "sample"
    label_note: str = ""
    flat_directions: bool = False
    citations: Sequence[Citation] = ()
    wide_noise: str = ""

    def __post_init__(self) -> None:
        # JSON has lists in the place of tuples.
        values = {
            "units": {k: v if isinstance(v, str) else tuple(v) for k, v in self.units.items()},
            "axes": {k: (str(w), str(u), float(f)) for k, (w, u, f) in self.axes.items()},
            "citations": tuple((str(text), str(address)) for text, address in self.citations),
            "headline": tuple(self.headline),
            "gain": tuple(self.gain),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON takes them; ``Facts(**table)`` is the way back."""
        return asdict(self)

    def unit(self, name: str, index: tuple[int, ...] = ()) -> str:
        """Unit of an entry of a site, such as ``"Hz"``; empty where none is known.

        The empty index asks for entries between two nodes.

        Examples
        --------
        >>> facts = Facts(units={"A": "Hz"}, self_units={"A": "log scaling of 0.5 Hz"})
        >>> facts.unit("A"), facts.unit("A", (1, 1))
        ('Hz', 'log scaling of 0.5 Hz')
        """
        itself = len(index) >= 2 and index[-1] == index[-2]
        if itself and name in self.self_units:
            return self.self_units[name]
        unit = self.units.get(name, "")
        return unit if isinstance(unit, str) else unit[index[-1] if index else 0]

    def relative(self, name: str) -> bool:
        """Whether entries of a site are logarithms of factors on their prior means."""
        return self.unit(name) == "log scaling"

    def axis(self, name: str) -> tuple[str, str, float]:
        """Words, unit (may be empty), and how many of it make one SI unit, of an axis of data.

        Examples
        --------
        >>> Facts().axis("time"), Facts().axis("depth")
        (('time', 's', 1.0), ('depth', '', 1.0))
        """
        return self.axes.get(name) or AXES.get(name) or (name, "", 1.0)
