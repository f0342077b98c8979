"""Compiled programs on disk: where they are kept, by whom, and that a second process finds them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayesdcm._compiled_programs import (
    LARGEST_SIZE,
    cache_folder,
    keep_compiled_programs,
    processor,
    remove_unfinished,
)

VARIABLES = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE", "JAX_ENABLE_COMPILATION_CACHE")
FIT = """
import numpy as np, numpyro, numpyro.distributions as dist
import jax, bayesdcm
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
def program(data):
    mean = numpyro.sample("mean", dist.Normal(0, 10))
    numpyro.sample("y", bayesdcm.observe.gaussian(mean + 0 * data, 0.0), obs=data)
print(bayesdcm.fit(program, np.array([1.0, 3.0])).log_evidence)
print(events.count("/jax/compilation_cache/cache_hits"), jax.config.jax_compilation_cache_dir)
"""
KEPT_NOT, NO_FOLDER = {"BAYESDCM_KEEP_COMPILED": "0"}, {"XDG_CACHE_HOME": "/proc/nothing"}


def run_python(code, **environ):
    """Run code without this process's settings; return the lines that it prints."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(VARIABLES)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"JAX_PLATFORMS": "cpu"} | environ,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines(), done.stderr


@pytest.mark.slow
def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    first, _ = run_python(FIT, **environ)
    second, said = run_python(FIT, **environ)
    assert first[0] == second[0]
    hits, folder = second[1].split(maxsplit=1)
    assert int(hits) >= len(list(Path(folder).glob("*run_laplace*-cache"))) == 1
    assert Path(folder) == tmp_path / "bayesdcm" / "compiled" / processor()
    assert said == ""


# Where this package is first, each takes a process of two seconds to do the same.
@pytest.mark.parametrize(
    ("imports", "environ", "folder"),
    [
        ("import jax, bayesdcm", KEPT_NOT, "None"),
        ("import jax, bayesdcm", {"JAX_COMPILATION_CACHE_DIR": "mine"}, "mine"),
        ("import jax, bayesdcm", NO_FOLDER, "None"),
        ("import bayesdcm, jax", {"JAX_COMPILATION_CACHE_DIR": "mine"}, "mine"),
        pytest.param("import bayesdcm, jax", KEPT_NOT, "None", marks=pytest.mark.exhaustive),
        pytest.param("import bayesdcm, jax", NO_FOLDER, "None", marks=pytest.mark.exhaustive),
    ],
)
def test_users_decide_where_programs_are_kept(imports, environ, folder):
    printed, said = run_python(f"{imports}; print(jax.config.jax_compilation_cache_dir)", **environ)
    assert printed == [folder]
    assert said == ""


@pytest.mark.parametrize("imports", ["import bayesdcm, jax", "import jax, bayesdcm"])
def test_size_is_bounded_whichever_is_imported_first(imports, tmp_path):
    code = f"{imports}; print(jax.config.jax_compilation_cache_max_size)"
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path))[0] == [str(LARGEST_SIZE)]


def test_settings_of_the_users_stay(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_MAX_SIZE": "7"}
    keep_compiled_programs_of(environ)
    assert environ["JAX_COMPILATION_CACHE_MAX_SIZE"] == "7"


def test_the_folder_of_another_processor_is_left(tmp_path):
    folder = tmp_path / "bayesdcm" / "compiled"
    environ = {
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "another"),
    }
    keep_compiled_programs_of(environ)
    assert environ["JAX_COMPILATION_CACHE_DIR"] == str(folder / processor())


def keep_compiled_programs_of(environ):
    """What an import would set, without changing this process's JAX."""
    hidden = sys.modules.pop("jax", None)
    try:
        keep_compiled_programs(environ)
    finally:
        if hidden is not None:
            sys.modules["jax"] = hidden


@pytest.mark.parametrize(
    ("system", "environ", "folder"),
    [
        ("linux", {}, "~/.cache/bayesdcm"),
        ("linux", {"XDG_CACHE_HOME": "/scratch"}, "/scratch/bayesdcm"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "~/.cache/bayesdcm"),
        ("darwin", {"XDG_CACHE_HOME": "/scratch"}, "~/Library/Caches/bayesdcm"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/bayesdcm/Cache"),
        ("win32", {}, "~/AppData/Local/bayesdcm/Cache"),
    ],
)
def test_the_folder_is_where_systems_keep_caches(system, environ, folder):
    assert cache_folder(environ, system) == Path(folder).expanduser()


def test_only_what_was_left_unfinished_is_removed(tmp_path):
    names = ("whole-cache", "whole-atime", "killed-cache", "begun-cache", "other")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    long_ago = time.time() - 3600
    for name in names:
        if name != "begun-cache":
            os.utime(tmp_path / name, (long_ago, long_ago))
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(names) - {"killed-cache"})
