#!/usr/bin/env bash
# The examples in the docstrings.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec pytest -n "${BAYESDCM_TEST_WORKERS:-2}" --doctest-modules bayesdcm "$@"
