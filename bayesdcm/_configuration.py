"""Process-wide settings of JAX, made once, when ``bayesdcm`` is imported.

Two settings, both without importing JAX:

**Double precision.** A free energy is a sum of log-determinants and quadratic forms of several
thousand numbers, of which differences of a tenth matter; single precision does not carry it. The
environment variable ``JAX_ENABLE_X64`` is set, and where JAX is already imported its configuration
is updated too. Arrays that exist by then keep their type.

**Compiled loops on the CPU.** A model is integrated by one compiled loop over thousands of time
steps. XLA compiles small loops on the CPU in a special, fast way, and tells small from large by the
bytes that a loop touches; the reverse-mode derivative of an integrator stores every step and counts
as large. Raising the threshold makes such derivatives up to 30 times faster (20 ms to 0.6 ms for
2,000 Euler steps with 10 parameters) and leaves the values alone (to 1e-12). The threshold is an
undocumented entry of XLA's ``--xla_backend_extra_options``; versions of XLA that do not know the
entry ignore it. XLA reads ``XLA_FLAGS`` when JAX starts its first backend, that is, at
the first computation, so ``bayesdcm`` is best imported before anything is computed.

Whatever the user has put into ``XLA_FLAGS`` is kept, a threshold of the user's own included, and
``BAYESDCM_KEEP_XLA_FLAGS=1`` leaves the variable untouched.
"""

import logging
import os
import re
import sys
from collections.abc import MutableMapping

logger = logging.getLogger("bayesdcm")

LOOP_THRESHOLD = "xla_cpu_small_while_loop_byte_threshold"
LOOP_THRESHOLD_BYTES = 100_000_000
_EXTRA_OPTIONS = "--xla_backend_extra_options"
# The list may be bare or quoted: --flag=a,b or --flag="a,b".
_EXTRA_OPTIONS_LIST = re.compile(
    rf"""{_EXTRA_OPTIONS}=(?P<quote>["']?)(?P<entries>[^\s"']*)(?P=quote)"""
)


def configure() -> None:
    """Switch JAX to double precision and to fast loops on the CPU.

    Called once, by ``import bayesdcm``; a second call changes nothing.
    """
    enable_float64(os.environ)
    if os.environ.get("BAYESDCM_KEEP_XLA_FLAGS", "") in ("", "0"):
        set_xla_flags(os.environ)


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
    """Add the loop threshold to ``XLA_FLAGS``.

    Parameters
    ----------
    environ : mutable mapping of str to str
        The environment, ``os.environ``.
    """
    merged = merge_xla_flags(environ.get("XLA_FLAGS", ""))
    if merged == environ.get("XLA_FLAGS", ""):
        return
    environ["XLA_FLAGS"] = merged
    if _backend_has_started():
        logger.debug(
            "JAX started its backend before bayesdcm was imported, so %s has no effect in this "
            "process: reverse-mode derivatives on the CPU will be slower. Import bayesdcm first.",
            LOOP_THRESHOLD,
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
    names_a_file = flags.strip() != "" and not flags.lstrip().startswith("-")
    if names_a_file or LOOP_THRESHOLD in flags:
        return flags
    entry = f"{LOOP_THRESHOLD}={LOOP_THRESHOLD_BYTES}"
    if _EXTRA_OPTIONS_LIST.search(flags):
        return _EXTRA_OPTIONS_LIST.sub(lambda found: _extended(found, entry), flags, count=1)
    return f"{flags.rstrip()} {_EXTRA_OPTIONS}={entry}".lstrip()


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
