"""Make forward_models.npz from arrays that brainmass 0.1.1 wrote; see README.md.

    python tests/data/convert_forward_models.py FOLDER

FOLDER holds bold_*.npz, hrf_*.npz and lead_*.npz.
"""

import sys
from pathlib import Path

import numpy as np

KERNELS = ("FirstOrderVolterra", "Gamma", "DoubleExponential", "MixtureOfGammas")
STEPS, KEPT = 2000, 20  # of the Balloon model: how many, and every how many


def main(folder):
    table = {}
    for start in ("rest", "default"):
        with np.load(Path(folder) / f"bold_{start}_init.npz") as arrays:
            table |= {f"bold/{start}/{name}": arrays[name][:STEPS] for name in ("state0", "z")}
            for name in ("states", "bold_documented"):
                table[f"bold/{start}/{name}"] = arrays[name][KEPT - 1 : STEPS : KEPT]
    for kernel in KERNELS:
        with np.load(Path(folder) / f"hrf_{kernel}.npz") as arrays:
            for name in ("t", "h", "bold"):
                table[f"hrf/{kernel}/{name}"] = arrays[name]
            # One series for all, of which means over 20 ms are used.
            table["hrf/activity"] = arrays["signal"].reshape(-1, 20, 3).mean(1)
    for name in ("eeg", "meg_base", "aggregate"):
        with np.load(Path(folder) / f"lead_{name}.npz") as arrays:
            table |= {f"lead/{name}/{key}": arrays[key] for key in arrays}
    np.savez_compressed(Path(__file__).parent / "forward_models.npz", **table)


if __name__ == "__main__":
    main(sys.argv[1])
