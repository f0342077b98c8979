"""Options that objects of the package declare, made when a command is used.

Other commands then need not wait for JAX.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer


def choice(name: str, choices: Iterable[str]) -> type[StrEnum]:
    """A type whose values are the choices."""
    return StrEnum(name, [(each, each) for each in choices])


def declared_options(kinds: Mapping[str, tuple[type, str]]) -> list[Any]:
    """What typer makes of options, by name their type and their help; each may be left out."""

    def command() -> None:
        pass

    annotated = {
        name: Annotated[kind | None, typer.Option(help=words)]
        for name, (kind, words) in kinds.items()
    }
    command.__annotations__ = annotated
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in annotated.items()
        ]
    )
    declared = typer.Typer(add_completion=False)
    declared.command()(command)
    return typer.main.get_command(declared).params
