"""The option `--method` and the options of all methods, which methods themselves declare."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand

from bayesdcm.commands.declared import choice, declared_options


class MethodCommand(TyperCommand):
    """A command that takes `--method` and the options of every method.

    They are asked for when the command is used, so that other commands need not wait for JAX. The
    command finds the method with its options in ``ctx.obj``, None where neither was given.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Parameters of the command, `--method` and the options of methods."""
        return [*super().get_params(ctx), *_parameters()]

    def invoke(self, ctx: Any) -> Any:
        """Make the method of its options, and run the command."""
        given = {each.name: ctx.params.pop(each.name) for each in _parameters()}
        ctx.obj = _chosen(given.pop("method"), given)
        return super().invoke(ctx)


def _takers() -> dict[str, list[Any]]:
    """Methods that take each option which the shell has."""
    from bayesdcm.infer.fitting import METHODS
    from bayesdcm.infer.method import option_fields

    takers: dict[str, list[Any]] = {}
    for method in METHODS.values():
        for name, field in option_fields(method).items():
            if field.metadata["shell"]:
                takers.setdefault(name, []).append(method)
    return takers


@cache
def _parameters() -> list[Any]:
    """What typer makes of `--method` and of the options."""
    from bayesdcm.infer.fitting import METHODS
    from bayesdcm.infer.method import option_fields

    words = "Method of inference; by default the model's own, mostly laplace."
    taken = {"method": (choice("Method", list(METHODS)), words)}
    for name, methods in _takers().items():
        metadata = option_fields(methods[0])[name].metadata
        names = "" if len(methods) == len(METHODS) else f" ({', '.join(m.name for m in methods)})"
        taken[name] = (_kind(name, metadata["shell"]), f"{metadata['words'].rstrip('.')}{names}.")

    return declared_options(taken)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _kind(name: str, check: Callable[[str, Any], None]) -> type:
    if hasattr(check, "choices"):
        return choice(name, list(check.choices))
    return getattr(check, "kind", float)


def _chosen(name: str | None, given: dict[str, Any]) -> Any:
    from bayesdcm.infer.fitting import DEFAULT, METHODS
    from bayesdcm.infer.method import as_method, option_fields

    options = {
        option: value.value if isinstance(value, StrEnum) else value
        for option, value in given.items()
        if value is not None
    }
    if name is None and not options:
        return None
    method = METHODS[name or DEFAULT]
    takers, taken = _takers(), option_fields(method)
    for option, value in options.items():
        if option not in taken:
            names = " and ".join(each.name for each in takers[option])
            raise typer.BadParameter(
                f"{_flag(option)} is an option of --method {names}, not of {method.name}"
            )
        try:
            taken[option].metadata["shell"](_flag(option), value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return as_method(method.name, options)
