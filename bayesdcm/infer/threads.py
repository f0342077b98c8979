"""Threads: one for linear algebra of small matrices, as many as there are cores for fits.

JAX's CPU decompositions call SciPy's OpenBLAS, whose threads cost more than they bring for matrices
of tens of rows: up to 15 times the CPU time of a step of variational Laplace, and 60 times that of
a response of five sources, where cores are shared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


def n_cores() -> int:
    """How many fits or chains run at the same time on a CPU.

    Examples
    --------
    >>> n_cores() >= 1
    True
    """
    return os.cpu_count() or 1


@cache
def _controller() -> ThreadpoolController:
    # Finding the loaded libraries takes milliseconds; they do not change once SciPy is in.
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


@contextmanager
def single_threaded_linear_algebra() -> Iterator[None]:
    """Limit BLAS and LAPACK to one thread while the block runs.

    Examples
    --------
    >>> with single_threaded_linear_algebra():
    ...     pass
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield
