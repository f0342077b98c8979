#!/usr/bin/env bash
# The tests, in an environment of their own. Arguments go to pytest:
#   bash ci/test.sh                   everything but the slow tests
#   bash ci/test.sh --runslow         the slow ones too, as continuous integration does
#   bash ci/test.sh --runall          everything, some ten minutes more
#   bash ci/test.sh -k balloon        what matches
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# Two workers: each holds compiled programs, and two fit a small machine. Tests of one file share
# a worker, and with it what that worker has compiled.
exec pytest -n "${BAYESDCM_TEST_WORKERS:-2}" --dist loadfile "$@"
