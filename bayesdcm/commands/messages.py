"""What commands write where: results, progress, errors, and what they do when interrupted."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

INTERRUPTED = 130


def say(quiet: bool, text: str) -> None:
    """Write a message to standard error."""
    if not quiet:
        typer.echo(text, err=True)


def as_text(table: Any, **options: Any) -> str:
    """Typeset a table of numbers."""
    return table.to_string(float_format=lambda value: f"{value:.3f}", **options)


@contextmanager
def reported(quiet: bool) -> Iterator[None]:
    """Turn errors of users' files, data and models into one line and an exit code."""
    # Figures go to files, also where there is no display.
    os.environ.setdefault("MPLBACKEND", "Agg")
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR if quiet else logging.WARNING)
    handler.setFormatter(logging.Formatter("bayesdcm: %(message)s"))
    logger = logging.getLogger("bayesdcm")
    logger.addHandler(handler)

    def show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
        # Warnings for programmers, such as deprecations, are not for those who use the command.
        if not quiet and issubclass(category, UserWarning):
            typer.echo(f"bayesdcm: warning: {' '.join(str(message).split())}", err=True)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            yield
    except KeyboardInterrupt:
        typer.echo("bayesdcm: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError) as error:
        logger.debug("traceback of the error", exc_info=True)
        typer.echo(f"bayesdcm: error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from None
    finally:
        logger.removeHandler(handler)


def timed(quiet: bool, model: Any, method: Any, fitted: Callable[[], Any]) -> Any:
    """What a fit gives, with its method said before and its time after."""
    from bayesdcm.infer.fitting import chosen_method

    say(quiet, f"Fitting by {chosen_method(model, method, {}).title} (compiling first) ...")
    start = time.perf_counter()
    result = fitted()
    say(quiet, f"{result!r} in {time.perf_counter() - start:.0f} s")
    return result


@contextmanager
def noticing_interrupts() -> Iterator[list[bool]]:
    """Remember a Ctrl-C, which long work answers by returning what it has."""
    import signal

    noticed: list[bool] = []

    def notice(number: int, frame: Any) -> None:
        noticed.append(True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, notice)
    try:
        yield noticed
    finally:
        signal.signal(signal.SIGINT, before)
