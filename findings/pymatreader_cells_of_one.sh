#!/usr/bin/env bash
# pymatreader 1.3.2 gives the content of a cell array of one, not a list of one: a DCM of one region
# comes back with the name "V1" where a DCM of two has ["V1", "V5"], and a loop over its names goes
# over letters. Structure arrays are alike: of two, a dict of lists by field; of one, a dict of
# values. Empty matrices lose their shape: 0 x 3 (no scans of three regions) becomes (0,).
#
# Output seen:
#   one name  'V1'
#   two names ['V1', 'V5']
#   one input  {'name': 'motion', 'dt': 0.1}
#   two inputs {'name': ['motion', 'photic'], 'dt': [0.1, 0.2]}
#   empty (0,)
#
# Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  pymatreader==1.3.2 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import pymatreader
import scipy.io


def cells(*values):
    array = np.empty((1, len(values)), object)
    array[0] = values
    return array


inputs = np.array([[("motion", 0.1), ("photic", 0.2)]], [("name", object), ("dt", object)])
scipy.io.savemat(
    "dcm.mat",
    {
        "one_name": cells("V1"),
        "two_names": cells("V1", "V5"),
        "one_input": inputs[:, :1],
        "two_inputs": inputs,
        "empty": np.zeros((0, 3)),
    },
)
found = pymatreader.read_mat("dcm.mat")
print("one name ", repr(found["one_name"]))
print("two names", found["two_names"])
print("one input ", found["one_input"])
print("two inputs", found["two_inputs"])
print("empty", found["empty"].shape)
assert found["one_name"] == "V1"
assert found["two_names"] == ["V1", "V5"]
assert found["one_input"] == {"name": "motion", "dt": 0.1}
assert found["two_inputs"] == {"name": ["motion", "photic"], "dt": [0.1, 0.2]}
assert found["empty"].shape == (0,)
PYTHON
