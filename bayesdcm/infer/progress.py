"""Progress of long work: a bar on a terminal or in a notebook, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, TextIO

from tqdm import std
from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 10.0
LINE = "{desc}: {percentage:3.0f} % of {total_fmt} {unit}s, {remaining} left{postfix}"


class Progress:
    """Steps that are done and time that is left; a context manager.

    Until the first steps are done, it says that programs are compiled; the time for that does not
    count in the time that is left. `unit` is what a step is, in the singular; `done` counts steps
    that were done before. Messages go to standard error.
    """

    def __init__(self, title: str, total: int, unit: str, shown: bool, done: int = 0) -> None:
        shown = shown and done < total
        desc = f"{title}, compiling"
        common = {"desc": desc, "total": total, "initial": done, "unit": unit, "leave": False}
        self._title = title
        self._begun = False
        self._lock = threading.Lock()
        in_notebook = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
        if in_notebook or sys.stderr.isatty() or not shown:
            self._bar = tqdm(disable=not shown, **common)
        else:
            interval = {"mininterval": SECONDS_BETWEEN_LINES, "miniters": 1, "bar_format": LINE}
            self._bar = std.tqdm(file=_Lines(sys.stderr), **interval, **common)

    def advance(self, steps: int, said: str = "") -> None:
        """Count steps as done, and say how far they came; may be called by several threads."""
        with self._lock:
            if not self._begun:
                self._begun = True
                self._bar.set_description_str(self._title, refresh=False)
                self._bar.initial = self._bar.n + steps
                self._bar.start_t = time.time()
            if said:
                self._bar.set_postfix_str(said, refresh=False)
            self._bar.update(steps)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()


class _Lines:
    """A stream on which what would overwrite the last line becomes the next."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.replace("\r", "").strip()
        if text:
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        self._stream.flush()
