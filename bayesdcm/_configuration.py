"""Process-wide settings of JAX, made once, when ``bayesdcm`` is imported.

Four settings, all without importing JAX:

**Double precision.** A free energy is a sum of log-determinants and quadratic forms of several
thousand numbers, of which differences of a tenth matter; single precision does not carry it. The
environment variable ``JAX_ENABLE_X64`` is set, and where JAX is already imported its configuration
is updated too. Arrays that exist by then keep their type.

**Compiled loops on the CPU.** A model is integrated by one compiled loop over thousands of time
steps. XLA compiles small loops on the CPU in a special, fast way, and tells small from large by the
bytes that a loop touches; the reverse-mode derivative of an integrator stores every step and counts
as large. Raising the threshold makes such derivatives up to 30 times faster (20 ms to 0.6 ms for
2,000 Euler steps with 10 parameters) and leaves the values alone (to 1e-12). The threshold is an
undocumented entry of a list among XLA's flags; versions of XLA that do not know the
entry ignore it. XLA reads ``XLA_FLAGS`` when JAX starts its first backend, that is, at
the first computation, so ``bayesdcm`` is best imported before anything is computed.

**Linear algebra on the CPU.** JAX hands the decompositions of many matrices to a pool of threads,
as many as there are cores, and the one that hands them over waits. XLA starts those parts of a
program that do not need each other at the same time, in the same pool: where all of its threads
wait, nobody is left to do the work, and the program never ends (two cores, two parts with matrices
of 60 rows). With the flag that `merge_scheduler` adds, one part follows the other, which also takes
a little less time, for programs of small matrices. That is no promise of XLA's, and does not hold
where arrays are large: `bayesdcm.infer.threads.map_rows` keeps matrices few there. XLA stops the
process at a flag that it does not know, so this one is only set for the versions of jaxlib that
were tried.

**Compiled programs** are kept on disk between processes: `bayesdcm._compiled_programs` says where,
and how to switch it off (``BAYESDCM_KEEP_COMPILED=0``).

Whatever the user has put into ``XLA_FLAGS`` is kept, a threshold of the user's own included, and
``BAYESDCM_KEEP_XLA_FLAGS=1`` leaves the variable untouched.
"""

import importlib.util
import logging
import os
import re
import sys
from collections.abc import MutableMapping
from functools import cache
from pathlib import Path

from bayesdcm._compiled_programs import keep_compiled_programs

logger = logging.getLogger("bayesdcm")

LOOP_THRESHOLD = "xla_cpu_small_while_loop_byte_threshold"
LOOP_THRESHOLD_BYTES = 100_000_000
SCHEDULER = "xla_cpu_enable_concurrency_optimized_scheduler"
# Of jaxlib, from the first to below the second: those with which flags were tried.
SCHEDULER_VERSIONS = ((0, 7), (0, 11))
# Without XLA's newer code generator programs compile in half the time, and most are as fast.
QUICK_COMPILATION = {"xla_cpu_use_fusion_emitters": False}
# A later flag of XLA's with the same purpose: a user who sets it has decided.
_LATER_SCHEDULER = "xla_cpu_scheduler_type"
_EXTRA_OPTIONS = "--xla_backend_extra_options"
# The list may be bare or quoted: --flag=a,b or --flag="a,b".
_EXTRA_OPTIONS_LIST = re.compile(
    rf"""{_EXTRA_OPTIONS}=(?P<quote>["']?)(?P<entries>[^\s"']*)(?P=quote)"""
)


def configure() -> None:
    """Switch JAX to double precision, fast loops, safe linear algebra, and kept programs.

    Called once, by ``import bayesdcm``; a second call changes nothing.
    """
    enable_float64(os.environ)
    if os.environ.get("BAYESDCM_KEEP_XLA_FLAGS", "") in ("", "0"):
        set_xla_flags(os.environ)
    keep_compiled_programs(os.environ)


def quick_compilation(once: bool = False) -> dict[str, bool | int]:
    """``compiler_options`` of `jax.jit` for programs that take longer to compile than they run.

    Parameters
    ----------
    once : bool
        Whether a program runs but a few times and shortly: it is then compiled as it stands, in a
        third of the time, and takes several times as long as it could.

    Examples
    --------
    >>> quick_compilation(once=True)["xla_backend_optimization_level"]
    0
    """
    first, after = SCHEDULER_VERSIONS
    options = dict(QUICK_COMPILATION) if first <= _jaxlib_version() < after else {}
    return options | ({"xla_backend_optimization_level": 0} if once else {})


def enable_float64(environ: MutableMapping[str, str]) -> None:
    """Make JAX compute in double precision, whether or not it is already imported.

    Parameters
    ----------
    environ : mutable mapping of str to str
        The environment, ``os.environ``. ``JAX_ENABLE_X64`` is set, so that worker processes
        inherit the choice.
    """
    if environ.get("JAX_ENABLE_X64", "1").lower() in ("0", "false", "f", "no", "n", "off"):
        logger.warning("JAX_ENABLE_X64=0 is overruled: bayesdcm needs double precision.")
    environ["JAX_ENABLE_X64"] = "1"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", True)


def set_xla_flags(environ: MutableMapping[str, str]) -> None:
    """Add the loop threshold and the order of a program's parts to ``XLA_FLAGS``.

    Parameters
    ----------
    environ : mutable mapping of str to str
        The environment, ``os.environ``.
    """
    given = environ.get("XLA_FLAGS", "")
    merged = merge_scheduler(merge_xla_flags(given), _jaxlib_version())
    if merged == given:
        return
    environ["XLA_FLAGS"] = merged
    if _backend_has_started():
        logger.debug(
            "JAX started its backend before bayesdcm was imported, so %s has no effect in this "
            "process, nor has %s: reverse-mode derivatives on the CPU will be slower, and linear "
            "algebra of many matrices may never end. Import bayesdcm first.",
            LOOP_THRESHOLD,
            SCHEDULER,
        )


def merge_xla_flags(flags: str) -> str:
    """Return XLA's flags with the loop threshold added, and everything else as it was.

    Parameters
    ----------
    flags : str
        The value of ``XLA_FLAGS``, empty if unset.

    Returns
    -------
    str
        The same flags with one more entry in the list ``--xla_backend_extra_options``. `flags`
        itself where it already sets the threshold, or where it names a file of flags instead of
        holding them (XLA takes it as a file name unless it starts with a dash).

    Examples
    --------
    >>> merged = merge_xla_flags("--xla_cpu_enable_fast_math=false")
    >>> merged.startswith("--xla_cpu_enable_fast_math=false --xla_backend_extra_options=")
    True
    """
    if _names_a_file(flags) or LOOP_THRESHOLD in flags:
        return flags
    entry = f"{LOOP_THRESHOLD}={LOOP_THRESHOLD_BYTES}"
    if _EXTRA_OPTIONS_LIST.search(flags):
        return _EXTRA_OPTIONS_LIST.sub(lambda found: _extended(found, entry), flags, count=1)
    return f"{flags.rstrip()} {_EXTRA_OPTIONS}={entry}".lstrip()


def merge_scheduler(flags: str, version: tuple[int, ...]) -> str:
    """Return XLA's flags with the one that keeps linear algebra from waiting for itself.

    Parameters
    ----------
    flags : str
        The value of ``XLA_FLAGS``, empty if unset.
    version : tuple of int
        Of jaxlib.

    Returns
    -------
    str
        `flags` itself where it sets the order already, names a file of flags, or where it is not
        known whether this version has the flag.

    Examples
    --------
    >>> merge_scheduler("--xla_a=1", (0, 10, 2))
    '--xla_a=1 --xla_cpu_enable_concurrency_optimized_scheduler=false'
    >>> merge_scheduler("--xla_a=1", (99, 0))
    '--xla_a=1'
    """
    first, after = SCHEDULER_VERSIONS
    decided = any(name in flags for name in (SCHEDULER, _LATER_SCHEDULER))
    if decided or _names_a_file(flags) or not first <= version < after:
        return flags
    return f"{flags.rstrip()} --{SCHEDULER}=false".lstrip()


@cache
def _jaxlib_version() -> tuple[int, ...]:
    """Version of the installed jaxlib; empty where it cannot be told."""
    # Read from its file: importing it, or importlib.metadata, takes longer than all else here.
    found = importlib.util.find_spec("jaxlib")
    file = Path(found.origin).with_name("version.py") if found and found.origin else None
    if file is None or not file.is_file():
        return ()
    stated = re.search(r"""^_*version_* = ["']([\d.]+)""", file.read_text(), re.MULTILINE)
    return tuple(int(part) for part in stated[1].split(".") if part) if stated else ()


def _names_a_file(flags: str) -> bool:
    return flags.strip() != "" and not flags.lstrip().startswith("-")


def _extended(found: re.Match[str], entry: str) -> str:
    """Return a matched ``--xla_backend_extra_options=...`` with one entry more."""
    quote = found["quote"]
    entries = ",".join(filter(None, (found["entries"], entry)))
    return f"{_EXTRA_OPTIONS}={quote}{entries}{quote}"


def _backend_has_started() -> bool:
    """Tell whether JAX has read ``XLA_FLAGS`` already."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    # JAX offers no public way to ask; where the private one is gone, a debug message is lost.
    started = getattr(bridge, "backends_are_initialized", None)
    return bool(started()) if callable(started) else False
