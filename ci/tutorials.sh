#!/usr/bin/env bash
# Execute every tutorial from its first cell to its last.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# Short runs: the text is written for longer ones, which the documentation shows.
export BAYESDCM_TUTORIAL_DRAWS="${BAYESDCM_TUTORIAL_DRAWS:-100}"
executed=$(mktemp -d)
trap 'rm -rf "$executed"' EXIT
shopt -s nullglob
for tutorial in tutorials/*.md; do
  echo "Executing $tutorial"
  jupytext --quiet --to ipynb --execute \
    --output "$executed/$(basename "$tutorial" .md).ipynb" "$tutorial"
done
