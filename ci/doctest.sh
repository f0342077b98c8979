#!/usr/bin/env bash
# The examples in the docstrings.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# As tests/conftest.py does: compiling takes most of the time.
export JAX_DISABLE_MOST_OPTIMIZATIONS=1
exec pytest -n "${BAYESDCM_TEST_WORKERS:-2}" --doctest-modules bayesdcm "$@"
