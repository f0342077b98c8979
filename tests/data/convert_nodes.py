"""Make nodes.npz in this folder from arrays that brainmass wrote; see README.md.

    python tests/data/convert_nodes.py FOLDER

FOLDER holds wc_METHOD.npz and jr_METHOD.npz. Numbers stay as they are, of the first
steps.
"""

import sys
from pathlib import Path

import numpy as np

SCHEMES = {"euler": "euler", "rk2": "heun", "rk4": "rk4", "exp_euler": "exponential_euler"}
STEPS = 300


def main(folder):
    table = {}
    for method, scheme in SCHEMES.items():
        wc = np.load(folder / f"wc_{method}.npz")
        table |= {
            "WilsonCowan/received": np.stack([wc["IE"], wc["II"]], axis=1)[:STEPS],
            f"WilsonCowan/{scheme}/start": np.stack([wc["rE0"], wc["rI0"]], axis=1),
            f"WilsonCowan/{scheme}/states": np.stack([wc["rE"], wc["rI"]], axis=2)[:STEPS],
        }
        if (folder / f"jr_{method}.npz").exists():
            jr = np.load(folder / f"jr_{method}.npz")
            received = [jr[f"{name}_inp"] for name in "MEI"]
            table |= {
                "JansenRit/received": np.stack(received, axis=1)[:STEPS],
                f"JansenRit/{scheme}/start": jr["state0"].T,
                f"JansenRit/{scheme}/states": np.swapaxes(jr["states"], 1, 2)[:STEPS],
            }
    np.savez_compressed(Path(__file__).parent / "nodes.npz", **table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
