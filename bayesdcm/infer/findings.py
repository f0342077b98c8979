"""What is found wrong with a fit: sentences that know their kind."""

from __future__ import annotations

from collections.abc import Sequence

# Names that a sentence lists before it counts the others.
LISTED = 3


class Finding(str):
    """A sentence or two on what is wrong, which knows its kind: so that groups can count them.

    `kind` is the problem in a few words, without names and numbers.
    """

    kind: str

    def __new__(cls, kind: str, text: str) -> Finding:
        """Make a string that has a kind."""
        problem = super().__new__(cls, text)
        problem.kind = kind
        return problem


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Join names as a sentence does, the first few by name and the others as a number.

    Examples
    --------
    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    names = list(names)
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} more"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def add(problems: list[str], kind: str, text: str) -> None:
    """Append a problem of this kind."""
    problems.append(Finding(kind, text))
