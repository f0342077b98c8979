"""What all tests share: settings of JAX, which tests run, memory, and clean figures."""

import gc
import os
import sys
from contextlib import contextmanager

# Compiling takes most of the time of these tests, and a quarter less without LLVM's optimizations.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import bayesdcm  # noqa: F401  (before JAX: it sets double precision and XLA's flags)

os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import psutil
import pytest

# Tracing makes millions of short-lived tuples. Python's own thresholds would look through all that
# was ever imported or compiled again and again: a seventh of the time of the tests.
gc.set_threshold(100_000, 20, 100)
# Above this, programs that were compiled are forgotten between files of tests, which takes seconds,
# and compiling the small ones again takes more. Two workers share the machine.
MOST_MEMORY = max(3_000_000_000, 0.3 * psutil.virtual_memory().total)
# Scripts that made the data; with --doctest-modules pytest would import them.
collect_ignore = ["data"]

# A first example compiles, later ones do not: a deadline would tell of the compiler only.
hypothesis.settings.register_profile("bayesdcm", deadline=None, derandomize=True)
hypothesis.settings.load_profile("bayesdcm")


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--runall", action="store_true", help="run those marked exhaustive as well")
    parser.addoption("--once", action="store_true", help="keep no compiled program for other runs")


def pytest_configure(config):
    # To keep what nobody will look for takes a twentieth of the time. Processes that tests start
    # keep theirs.
    if config.getoption("--once"):
        import jax

        jax.config.update("jax_enable_compilation_cache", False)


def pytest_collection_finish():
    """What was imported by now stays, and need not be looked through for garbage."""
    gc.freeze()


def pytest_collection_modifyitems(config, items):
    chosen = config.getoption("-m") or ""
    everything = config.getoption("--runall")
    slow = everything or config.getoption("--runslow") or "slow" in chosen
    exhaustive = everything or "exhaustive" in chosen
    for item in items:
        if "exhaustive" in item.keywords and not exhaustive:
            item.add_marker(pytest.mark.skip(reason="exhaustive: give --runall"))
        elif "slow" in item.keywords and not slow:
            item.add_marker(pytest.mark.skip(reason="slow: give --runslow"))


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") is None:
        return
    import jax

    if jax.default_backend() != "gpu":
        pytest.skip("needs a GPU")


@contextmanager
def compiling_as_for_users():
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def optimized():
    """Compile as for users: where a test computes longer than it compiles, or rounding counts."""
    with compiling_as_for_users():
        yield


@pytest.fixture(scope="module")
def optimized_file():
    """The same for all that follows in a file, and for its fixtures."""
    with compiling_as_for_users():
        yield


@pytest.fixture
def strict_ranks():
    """Make JAX raise where arrays of different rank are broadcast in silence.

    For tests of this package's own functions. It cannot be set for all tests: NumPyro's autoguides
    broadcast ranks themselves.
    """
    import jax

    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)


@pytest.fixture(autouse=True, scope="module")
def _free_compiled_programs():
    """Files of tests share small programs, and all of them together need gigabytes."""
    yield
    if "jax" in sys.modules and psutil.Process().memory_info().rss > MOST_MEMORY:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
