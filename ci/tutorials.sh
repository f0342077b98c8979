#!/usr/bin/env bash
# Execute every tutorial from its first cell to its last, two at a time.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# Short runs: the text is written for longer ones, which the documentation shows.
export BAYESDCM_TUTORIAL_DRAWS="${BAYESDCM_TUTORIAL_DRAWS:-50}"
executed=$(mktemp -d)
trap 'rm -rf "$executed"' EXIT
export executed
# Tutorials run in the folder of the executed copy, and find the data beside them there.
cp tutorials/*.csv "$executed"
execute() {
  echo "Executing $1"
  jupytext --quiet --to ipynb --execute \
    --output "$executed/$(basename "$1" .md).ipynb" "$1"
}
export -f execute
# The longest first.
printf '%s\n' tutorials/*.md | sort -r | xargs -P 2 -I{} bash -euo pipefail -c 'execute {}'
