#!/usr/bin/env bash
# The examples in the docstrings.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec pytest --doctest-modules bayesdcm "$@"
