#!/usr/bin/env bash
# arviz-stats 0.8.0 calls importance weights trustworthy that are as bad as can be. Where all but the
# largest of the weights in the tail are zero as floating-point numbers (log weights that are normal
# with a standard deviation of 1000, say: one draw has all of the weight), `psislw` gives a Pareto
# k-hat of 0.05, where 0.7 and more means that weights cannot be used, and NaN for all smoothed
# weights; ArviZ 0.23.4 gives a k-hat of 81.
#
# Output seen:
#   standard deviation 1: arviz k 0.38, arviz-stats k 0.37, NaN among its weights: 0
#   standard deviation 1000: arviz k 81.33, arviz-stats k 0.05, NaN among its weights: 1000
#
# Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  arviz==0.23.4 arviz-stats==0.8.0 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import arviz
import numpy as np
from arviz_stats.base import array_stats

normal = np.random.default_rng(0).normal(size=1000)
seen = {}
for sd in (1, 1000):
    known = float(arviz.psislw(sd * normal)[1])
    weights, k = array_stats.psislw(-sd * normal)
    lost = int(np.isnan(weights).sum())
    seen[sd] = known, float(k), lost
    print(
        f"standard deviation {sd}: arviz k {known:.2f}, arviz-stats k {float(k):.2f}, "
        f"NaN among its weights: {lost}"
    )
assert abs(seen[1][0] - seen[1][1]) < 0.05 and seen[1][2] == 0
assert seen[1000][0] > 10 and seen[1000][1] < 0.1 and seen[1000][2] == 1000
PYTHON
