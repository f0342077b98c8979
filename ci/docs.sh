#!/usr/bin/env bash
# Build the documentation into docs/_build/html; warnings are errors. Arguments go to Sphinx.
# Tutorials appear as ci/tutorials.sh left them; it runs first, with all draws, where one was
# written since. BAYESDCM_DOCS_OFFLINE=1 leaves out links into the documentation of other projects.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
for page in tutorials/*.md; do
  if [ ! "docs/tutorials/$(basename "$page" .md).ipynb" -nt "$page" ]; then
    BAYESDCM_TUTORIAL_DRAWS="${BAYESDCM_TUTORIAL_DRAWS:-750}" bash ci/tutorials.sh
    break
  fi
done
unset MPLBACKEND # figures belong into the pages
exec python -m sphinx -W --keep-going -q -j auto -b html docs docs/_build/html "$@"
