"""What the benchmark scripts share: CPU and wall time, tables, a line about the machine.

CPU time is that of all threads of the process. On a shared machine it says more than wall time,
and ratios of two CPU times from one run say more than either.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple


class Cost(NamedTuple):
    """CPU seconds (all threads) and wall seconds."""

    cpu: float
    wall: float


def timed(function: Callable[[], Any]) -> tuple[Any, Cost]:
    """Call a function once; JAX arrays in what it returns are waited for."""
    import jax

    cpu, wall = time.process_time(), time.perf_counter()
    value = jax.block_until_ready(function())
    return value, Cost(time.process_time() - cpu, time.perf_counter() - wall)


def median_cost(function: Callable[[], Any], repeats: int, calls: int = 1) -> Cost:
    """Median over `repeats` of the cost of one call, each repeat averaging over `calls`."""

    def many() -> Any:
        return [function() for _ in range(calls)]

    costs = [timed(many)[1] for _ in range(repeats)]
    return Cost(*(statistics.median(values) / calls for values in zip(*costs, strict=True)))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; the columns are the keys of the first row."""
    columns = list(rows[0])
    cells = [[_text(row[column]) for column in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def machine() -> str:
    """The machine and the versions that the numbers belong to, in one line."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "numpyro"))
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"{versions}"
    )


def in_fresh_process(
    script: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> Any:
    """Run ``script --child arguments`` and read the JSON on the last line that it prints.

    First calls cost what they cost a user only where nothing has been imported or compiled.
    """
    done = subprocess.run(
        [sys.executable, script, "--child", *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
