#!/usr/bin/env bash
# Style, spelling, order of imports between subpackages. Seconds.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ruff check .
ruff format --check .
lint-imports
codespell
