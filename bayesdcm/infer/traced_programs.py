"""Traced programs of the package's own models, kept on disk beside what they were compiled to.

JAX keeps compiled programs, but looks for one by its code, which tracing a model makes anew in
every process: most of what a second process would wait for. `traced_once` keeps that code, too. It
is found by all that it depends on: the function, the model as files hold it, shapes and types of
the arrays, the package's own code, and versions and settings of JAX and NumPyro. Programs of a
user's own, or with classes of a user's own, depend on code that has no name here, and are traced.

The code is read and written by `jax.export`; it holds no pickled objects. The folder is ``traced``
in the package's part of the user's cache folder, and holds the `MOST_FILES` used last. Where
compiled programs are not kept (see `bayesdcm._compiled_programs`), neither are these.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial, update_wrapper
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import bayesdcm
from bayesdcm._compiled_programs import cache_folder
from bayesdcm.infer.problem import ModelSource

logger = logging.getLogger("bayesdcm")

MOST_FILES = 300
MAPS = Path("/proc/self/maps")
# Of compiling, s; what takes less leaves little memory behind, or takes few maps.
LONG, NOT_SHORT = 2.0, 0.1
# Share of the memory maps that Linux lets a process have. A large program takes hundreds of them,
# and where none is left, compiling ends the process.
MOST_MAPS = 0.5
# Settings of JAX's on which traced code depends.
SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
)
# With these nothing may be skipped.
WATCHES = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs", "jax_check_tracer_leaks")


class TracedOnce:
    """A compiled function whose first arguments are a source and what else is static.

    Parameters
    ----------
    function : callable
        Pure; its last arguments are pytrees of arrays, and it returns a pytree of arrays whose
        classes `jax.export` knows.
    n_static : int
        How many arguments are no arrays; the first is a source, or a tuple that begins with one.
    compiler_options : dict or callable, optional
        As `jax.jit` takes them, or a function of the static arguments that gives them or None.
    """

    def __init__(
        self, function: Callable, n_static: int, compiler_options: dict | Callable | None = None
    ) -> None:
        update_wrapper(self, function)
        self._function, self._n_static = function, n_static
        self._options = compiler_options
        # By options; within other programs there are none.
        self._traced: dict[Any, Any] = {}
        self._programs: dict[Any, Callable | None] = {}
        # NumPyro traces in one thread at a time.
        self._lock = threading.RLock()

    def __call__(self, *arguments: Any) -> Any:
        """Value of the function."""
        with garbage_left():
            compiled, given = self._chosen(arguments)
            before, start = compiled._cache_size(), time.perf_counter()
            value = compiled(*given)
        if compiled._cache_size() > before:
            _clear_up_after(start)
        return value

    def program(self, *arguments: Any) -> Callable:
        """The compiled program for arguments such as these, a function of the arrays alone."""
        with garbage_left():
            compiled, given = self._chosen(arguments)
            start = time.perf_counter()
            program = compiled.lower(*given).compile()
        _clear_up_after(start)
        if given is arguments:
            return program
        return lambda *arrays: program(*jax.tree.leaves(arrays))

    @property
    def n_compiled(self) -> int:
        """How many programs there are in this process."""
        kept = [program for program in self._programs.values() if program is not None]
        return sum(program._cache_size() for program in [*self._traced.values(), *kept])

    def _chosen(self, arguments: tuple) -> tuple[Any, tuple]:
        """The compiled function for arguments such as these, and what it takes of them."""
        static, arrays = arguments[: self._n_static], arguments[self._n_static :]
        leaves, tree = jax.tree.flatten(arrays)
        # The programs of a user's own are JAX's to keep, and to forget.
        ours = isinstance(_parts(static)[0], ModelSource)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._jitted(None), arguments
        options = self._options(*static) if callable(self._options) else self._options
        if not ours:
            return self._jitted(options), arguments
        types = tuple(map(_type_of, leaves))
        key = (static, tree, types)
        with self._lock:
            if key not in self._programs:
                while len(self._programs) >= MOST_FILES:
                    del self._programs[next(iter(self._programs))]
                kept = self._kept(static, tree, types)
                called = None if kept is None else jax.jit(kept.call, compiler_options=options)
                self._programs[key] = called
            program = self._programs[key]
        return (self._jitted(options), arguments) if program is None else (program, tuple(leaves))

    def _jitted(self, options: dict | None) -> Any:
        """The function as JAX compiles it, without what is kept of it."""
        key = None if options is None else tuple(sorted(options.items()))
        if key not in self._traced:
            static = tuple(range(self._n_static))
            self._traced[key] = jax.jit(
                self._function, static_argnums=static, compiler_options=options
            )
        return self._traced[key]

    def _kept(self, static: tuple, tree: Any, types: tuple) -> jax.export.Exported | None:
        """The traced program as it is kept, or will be; None where it is not."""
        folder = _folder()
        if folder is None or any(getattr(jax.config, name) for name in WATCHES):
            return None
        name = _fingerprint(self._function, static, tree, types)
        if name is None:
            return None
        path = folder / name
        try:
            exported = jax.export.deserialize(bytearray(path.read_bytes()))
            os.utime(path)
            _find_linear_algebra()
            return exported
        except FileNotFoundError:
            pass
        except Exception as error:
            logger.debug("A traced program cannot be read and is traced again: %s", error)
        return self._exported(static, tree, types, path)

    def _exported(
        self, static: tuple, tree: Any, types: tuple, path: Path
    ) -> jax.export.Exported | None:
        def flat(*leaves: jax.Array) -> Any:
            return self._function(*static, *jax.tree.unflatten(tree, leaves))

        try:
            exported = jax.export.export(jax.jit(flat))(*types)
            _write(path, bytes(exported.serialize()))
        except Exception as error:
            # What cannot be kept is a reason to trace, not to stop; an error of the model's is
            # raised again there.
            logger.debug("A traced program is not kept: %s", error)
            return None
        return exported


def _type_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and type of an array or number; weak types, which do not survive a file, left out."""
    known = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jax.ShapeDtypeStruct(np.shape(leaf), known)


@contextmanager
def garbage_left() -> Iterator[None]:
    """Leave garbage where it is: tracing makes millions of objects, and next to none.

    Python would look through all that was ever imported again and again, a fifth of tracing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _clear_up_after(start: float) -> None:
    """Where compiling took long: of small programs little is left, and looking takes time, too."""
    took = time.perf_counter() - start
    if took > LONG:
        return_free_memory()
    if took > NOT_SHORT:
        _keep_maps_free()


def return_free_memory() -> None:
    """Give the system what the C library keeps of freed memory; compiling leaves much of it."""
    # Libraries other than glibc have no such function.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep_maps_free() -> None:
    """Forget all compiled programs where there are too many; what is needed again is read or made.

    After a hundred models of other structures, say.
    """
    most = _most_maps()
    if most and _n_maps() > MOST_MAPS * most:
        logger.info("Compiled programs take much of what the system allows, and are forgotten")
        jax.clear_caches()
        gc.collect()


def _n_maps() -> int:
    """Memory maps that this process has; 0 where that may not be read."""
    with suppress(OSError):
        return MAPS.read_bytes().count(b"\n")
    return 0


@cache
def _most_maps() -> int | None:
    """Memory maps that a process may have; None where that is not known."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    return None


def keep_class(kind: type) -> None:
    """Let traced programs that take or return a class of named tuples be kept."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    jax.export.register_namedtuple_serialization(kind, serialized_name=name)


def traced_once(n_static: int, compiler_options: dict | Callable | None = None) -> Callable:
    """`TracedOnce` as a decorator."""
    return partial(TracedOnce, n_static=n_static, compiler_options=compiler_options)


def _folder() -> Path | None:
    folder = cache_folder(os.environ, sys.platform)
    compiled = jax.config.jax_compilation_cache_dir
    kept = compiled and Path(compiled).parent == folder / "compiled"
    return folder / "traced" if kept and jax.config.jax_enable_compilation_cache else None


def _parts(static: tuple) -> tuple:
    """Static arguments, the first of which may be a tuple of several."""
    return (*static[0], *static[1:]) if isinstance(static[0], tuple) else static


def _fingerprint(function: Callable, static: tuple, tree: Any, types: tuple) -> str | None:
    # Files, too, are written and read with these classes, which import this module's users.
    from bayesdcm.infer.plain_objects import NotPlain, PlainWriter

    source, *others = _parts(static)
    writer = PlainWriter()
    try:
        model = writer.plain(source.model)
    except NotPlain:
        return None
    digest = hashlib.sha256(_package().encode())
    for name, array in writer.arrays.items():
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    settings = [str(getattr(jax.config, name)) for name in SETTINGS]
    here = [jax.default_backend(), os.cpu_count(), *settings]
    parts = [function.__module__, function.__qualname__, repr(others), str(tree), str(types), here]
    digest.update(json.dumps([model, parts]).encode())
    return f"{function.__name__.lstrip('_')}-{digest.hexdigest()[:40]}"


@cache
def _package() -> str:
    """All that programs depend on but their arguments: code and versions."""
    digest = hashlib.sha256()
    for name in ("jax", "jaxlib", "numpyro", "numpy"):
        digest.update(f"{name} {version(name)}".encode())
    root = Path(bayesdcm.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _find_linear_algebra() -> None:
    """Let JAX find LAPACK, which it does where a program that needs it is traced, and only then."""
    jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((2, 2), jnp.result_type(float)))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)
    files = sorted(path.parent.iterdir(), key=_last_use)
    for old in files[:-MOST_FILES]:
        with suppress(OSError):
            old.unlink()


def _last_use(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
