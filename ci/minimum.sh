#!/usr/bin/env bash
# The tests with the oldest versions that pyproject.toml allows, in .venv-minimum. Python 3.11.
# Not part of .ci/run: run it when a lower bound changes. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv-minimum/bin/python ] || "${PYTHON:-python3.11}" -m venv .venv-minimum
PATH="$PWD/.venv-minimum/bin:$PATH"
python - > .venv-minimum/oldest.txt <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
for requirement in project["dependencies"]:
    print(requirement.replace(">=", "=="))
PYTHON
python -m pip install --quiet --disable-pip-version-check \
  --constraint .venv-minimum/oldest.txt --editable '.[dev]'
MPLBACKEND=Agg exec pytest -n "${BAYESDCM_TEST_WORKERS:-2}" --dist loadfile "$@"
