#!/usr/bin/env bash
# Execute every tutorial from its first cell to its last, two at a time. The notebooks with their
# outputs stay in docs/tutorials, which git ignores: the documentation shows them.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# Short runs: the text is written for longer ones, 750 draws.
export BAYESDCM_TUTORIAL_DRAWS="${BAYESDCM_TUTORIAL_DRAWS:-50}"
unset MPLBACKEND # figures belong into the notebooks
# Most of what is compiled here runs a few times only.
export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=1"
rm -rf docs/tutorials
mkdir docs/tutorials
# Tutorials run in the folder of the executed copy, and find the data beside them there.
cp tutorials/*.csv docs/tutorials
execute() {
  echo "Executing $1"
  # In short runs even fewer optimizations pay, but for four tutorials that compute for longer.
  case "$BAYESDCM_TUTORIAL_DRAWS $1" in
    *01_* | *09_* | *10_* | *11_*) ;;
    50\ *) export JAX_DISABLE_MOST_OPTIMIZATIONS=1 ;;
  esac
  jupytext --quiet --to ipynb --execute --output "docs/tutorials/$(basename "$1" .md).ipynb" "$1"
}
export -f execute
# The last one takes longest, then the first two.
printf '%s\n' tutorials/1*.md tutorials/0*.md | xargs -P 2 -I{} bash -euo pipefail -c 'execute {}'
