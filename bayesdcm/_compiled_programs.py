"""Where JAX keeps compiled programs between processes.

Compiling takes most of the time of a first fit. JAX can keep what it has compiled in a folder, but
does so only where it is told to. `keep_compiled_programs` tells it, once, when ``bayesdcm`` is
imported: the folder is ``bayesdcm`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``
on Linux, ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows), holds at most
`LARGEST_SIZE` bytes, the programs used last, and is locked while a process reads or writes it.
JAX itself tells programs, versions and compiler flags apart; it does not tell all processors apart,
so that each kind of processor has a folder of its own, for home folders that machines share.

A folder that the user has given to JAX (``JAX_COMPILATION_CACHE_DIR``) is used as it is, with the
user's own settings. ``BAYESDCM_KEEP_COMPILED=0`` switches all this off, and so does JAX's own
``JAX_ENABLE_COMPILATION_CACHE=false``. Where the folder cannot be written, nothing is kept.
"""

import hashlib
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path

logger = logging.getLogger("bayesdcm")

LARGEST_SIZE = 500_000_000
# Programs that compile faster than this are not worth a file.
SHORTEST_COMPILATION = 0.02
SETTINGS = {
    "jax_compilation_cache_max_size": LARGEST_SIZE,
    "jax_persistent_cache_min_compile_time_secs": SHORTEST_COMPILATION,
}
# What describes a processor in /proc/cpuinfo: its name and what it can do.
_DESCRIPTIONS = ("model name", "flags", "Features", "CPU part")
# A file without its time of use is being written, or was when the process was killed.
_SECONDS_TO_WRITE = 60.0


def keep_compiled_programs(environ: MutableMapping[str, str]) -> None:
    """Make JAX keep compiled programs, unless the user has decided otherwise.

    Parameters
    ----------
    environ : mutable mapping of str to str
        The environment, ``os.environ``. Variables of JAX's are set, so that worker processes
        inherit the choice; those that the user has set stay.
    """
    if environ.get("BAYESDCM_KEEP_COMPILED", "1").lower() in ("0", "false", "no", "off"):
        return
    jax = sys.modules.get("jax")
    given = environ.get("JAX_COMPILATION_CACHE_DIR")
    given = given or (jax and jax.config.jax_compilation_cache_dir)
    all_processors = cache_folder(environ, sys.platform) / "compiled"
    # A parent process on another machine may have chosen the folder for its own processor.
    if given and Path(given).parent != all_processors:
        return
    folder = all_processors / processor()
    if not _is_writable(folder):
        logger.debug("Compiled programs are not kept: %s cannot be written.", folder)
        return
    remove_unfinished(folder)
    environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    settings = {"jax_compilation_cache_dir": str(folder), **SETTINGS}
    for name, value in settings.items():
        if environ.setdefault(name.upper(), str(value)) == str(value) and jax is not None:
            jax.config.update(name, value)


def cache_folder(environ: MutableMapping[str, str], system: str) -> Path:
    """The package's part of the user's cache folder.

    Parameters
    ----------
    environ : mutable mapping of str to str
        The environment.
    system : str
        As ``sys.platform`` says.

    Returns
    -------
    pathlib.Path
        It may not exist yet.

    Examples
    --------
    >>> cache_folder({"XDG_CACHE_HOME": "/cache"}, "linux").as_posix()
    '/cache/bayesdcm'
    """
    if system == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "bayesdcm" / "Cache"
    if system == "darwin":
        return Path.home() / "Library" / "Caches" / "bayesdcm"
    given = environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored, says the standard that defines the variable.
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "bayesdcm"


def processor() -> str:
    """A short name of this kind of processor; code that is compiled for others may not run on it.

    Examples
    --------
    >>> processor() == processor()
    True
    """
    described = {platform.machine(), platform.processor()}
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                # One processor is described like the next.
                if not line.strip():
                    break
                if line.startswith(_DESCRIPTIONS):
                    described.add(line.strip())
    except OSError:
        pass
    return hashlib.sha256("\n".join(sorted(described)).encode()).hexdigest()[:12]


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed had begun to write.

    JAX writes a program, then the time of its use, and stumbles for ever over the one without the
    other.

    Parameters
    ----------
    folder : pathlib.Path
        Of compiled programs.
    """
    try:
        with os.scandir(folder) as entries:
            files = {entry.name: entry for entry in entries}
        for name, entry in files.items():
            partner = name.removesuffix("-cache") + "-atime"
            if partner == name or not name.endswith("-cache") or partner in files:
                continue
            if time.time() - entry.stat().st_mtime > _SECONDS_TO_WRITE:
                os.unlink(entry.path)
    except OSError as error:
        logger.debug("Compiled programs could not be looked through: %s", error)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):
        return False
