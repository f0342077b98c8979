"""Units of lead fields: what sensors measure, by dipole moment or by activity."""

from __future__ import annotations

import re
from typing import NamedTuple

_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
_PREFIX = f"[{''.join(_PREFIXES)}]?"
_MOMENT = re.compile(rf"(?P<prefix>{_PREFIX})A[ ·*.]?m")
_SIGNAL = re.compile(rf"(?P<prefix>{_PREFIX})(?P<base>V|T/cm|T/m|T)")
_BY_MOMENT = re.compile(rf"(?P<signal>.+?) */ *\(?(?P<moment>{_PREFIX}A[ ·*.]?m)\)?")


class SensorUnit(NamedTuple):
    """A unit of a lead field.

    Attributes
    ----------
    signal : str
        What sensors measure, in SI units: V, T or T/m; other units are kept as they are.
    factor : float
        From the lead field's unit to it.
    moment : float or None
        The dipole moment to which the lead field belongs, A m; None: it belongs to activity itself.
    """

    signal: str
    factor: float
    moment: float | None


def sensor_unit(unit: str) -> SensorUnit:
    """Read the unit of a lead field.

    Parameters
    ----------
    unit : str
        Such as ``"V/(A m)"``, ``"fT/(nA m)"``, ``"T/m/(A m)"``; ``"uV"`` of a lead field that
        belongs to a unit of activity; any other word.

    Returns
    -------
    SensorUnit
        What it means.

    Raises
    ------
    ValueError
        If it is by dipole moment, but of no signal that is known.

    Examples
    --------
    >>> sensor_unit("uV/(nA m)")
    SensorUnit(signal='V', factor=1e-06, moment=1e-09)
    """
    by_moment = _BY_MOMENT.fullmatch(unit)
    signal = _SIGNAL.fullmatch(by_moment["signal"] if by_moment else unit)
    if signal is None:
        if by_moment:
            raise ValueError(
                f"unit is {unit!r}; expected V, T or T/m (with a prefix, such as uV) by dipole "
                "moment, such as 'V/(A m)'"
            )
        return SensorUnit(unit, 1.0, None)
    per_cm = signal["base"] == "T/cm"
    return SensorUnit(
        signal="T/m" if per_cm else signal["base"],
        factor=_PREFIXES[signal["prefix"]] * (100.0 if per_cm else 1.0),
        moment=dipole_moment(by_moment["moment"]) if by_moment else None,
    )


def dipole_moment(unit: str) -> float:
    """A unit of dipole moment, in A m.

    Parameters
    ----------
    unit : str
        Such as ``"nA m"``.

    Returns
    -------
    float
        How many A m it is.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> dipole_moment("nA m")
    1e-09
    """
    known = _MOMENT.fullmatch(unit)
    if known is None:
        raise ValueError(f"{unit!r} is no unit of dipole moment; expected such as 'nA m' or 'A m'")
    return _PREFIXES[known["prefix"]]
