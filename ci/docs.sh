#!/usr/bin/env bash
# Build the documentation into docs/_build/html, in an environment of its own; warnings are errors.
# BAYESDCM_DOCS_OFFLINE=1 leaves out the links into the documentation of other projects.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv-docs/bin/python ] || "${PYTHON:-python3}" -m venv .venv-docs
.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
exec .venv-docs/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build/html "$@"
